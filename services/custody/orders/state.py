"""What an order's documents and the goods say together: quantities of each line, its state, and where they differ.

A pure function of the set of documents and despatches that are known: in whichever order they come, and however often,
both parties reach the same answer once they know the same. docs/orders.md has the table of states.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from medtrail.document import DocumentFunction, DocumentKind
from medtrail.gs1 import Gtin
from medtrail.terms import LineStatus, TermsLine
from services.custody.orders import parts
from services.custody.orders.goods import Tally
from services.custody.orders.parts import in_ordered_items, rounded
from services.custody.orders.view import (
    PIECES,
    ZERO,
    Filed,
    Line,
    Mismatch,
    MismatchKind,
    Movement,
    OrderState,
    OrderView,
)


def view_of(
    order: Filed, documents: Iterable[Filed], movements: Iterable[Movement], withdrawn: Collection[str] = frozenset()
) -> OrderView:
    """Return an order as its documents and the goods tell it.

    Args:
        order: The order's own document, as placed.
        documents: All others that belong to it, in any order; those between other parties do not count.
        movements: Despatches and receivings that belong to it; those of other parties do not count.
        withdrawn: Event ids of despatches that are known and do not count: refused, or declared an error.
    """
    lines = tuple(Line(line) for line in sorted(order.terms.lines, key=lambda item: item.line_number))
    view = OrderView(order, lines)
    between = sorted((item for item in documents if _between(order, item)), key=lambda item: item.order)
    kinds = {kind: [item for item in between if item.document.kind is kind] for kind in DocumentKind}
    goods = [item for item in movements if item.party == (order.issuer if item.receiving else view.seller)]
    _answer(view, kinds[DocumentKind.CONFIRMATION])
    despatches = [item for item in goods if not item.receiving]
    shipments = _ship(view, kinds[DocumentKind.DESPATCH_ADVICE], despatches, frozenset(withdrawn))
    _receive(view, kinds[DocumentKind.RECEIVING_ADVICE], shipments)
    _invoice(view, kinds[DocumentKind.INVOICE], shipments)
    functions = {item.document.function for item in kinds[DocumentKind.ORDER]}
    _end(view, functions, answered=bool(kinds[DocumentKind.CONFIRMATION]))
    return view


def _between(order: Filed, item: Filed) -> bool:
    buyer, seller = order.issuer, order.document.counterparty
    by_buyer = item.document.kind in {DocumentKind.ORDER, DocumentKind.RECEIVING_ADVICE}
    wanted = (buyer, seller) if by_buyer else (seller, buyer)
    return (item.issuer, item.document.counterparty) == wanted


# --- answers ---


def _answer(view: OrderView, confirmations: Sequence[Filed]) -> None:
    for item in confirmations:
        for said in item.terms.lines:
            about = _line_of(view, said, item)
            if about is not None:
                about.answer = said
    for line in view.lines:
        answer = line.answer
        if answer is None or answer.status is not LineStatus.ACCEPTED:
            continue
        prices = (answer.price, answer.currency) != (line.ordered.price, line.ordered.currency)
        if answer.quantity != line.ordered.quantity or (prices and answer.price is not None):
            view.mismatches.append(
                Mismatch(
                    MismatchKind.CONFIRMATION_DIFFERS,
                    line.ordered.line_number,
                    line.ordered.gtin,
                    line.ordered.quantity,
                    answer.quantity,
                )
            )


def _line_of(view: OrderView, said: TermsLine, item: Filed) -> Line | None:
    """Return the line of the order that a document's line is about; note where there is none."""
    line = _meant(view, said)
    if line is not None:
        return line
    kind = MismatchKind.LINE_UNKNOWN if said.gtin in view.gtins else MismatchKind.NOT_ORDERED
    view.mismatches.append(Mismatch(kind, said.line_number, said.gtin, None, said.quantity, item.name.uri))
    return None


def _meant(view: OrderView, said: TermsLine) -> Line | None:
    line = view.line(said.line_number)
    if line is not None and line.ordered.gtin == said.gtin:
        return line
    same = [other for other in view.lines if other.ordered.gtin == said.gtin]
    return same[0] if len(same) == 1 else None


# --- shipping ---


@dataclass(frozen=True, slots=True)
class _Shipments:
    """What is known of an order's despatches.

    Attributes:
        by_id: Those that count, by event_id.
        covered: By the name of each despatch advice those of which it tells.
        waiting: Despatch advices that name one of which nothing is known.
        withdrawn: Those that do not count any more.
        shares: What of some despatches is this order's, in pieces.
    """

    by_id: Mapping[str, Movement]
    covered: Mapping[str, frozenset[str]]
    waiting: frozenset[str]
    withdrawn: frozenset[str]
    shares: Sequence[tuple[frozenset[str], Mapping[Gtin, Decimal]]]

    def knows(self, item: Filed) -> bool:
        """Tell whether all despatches and advices that a document names are known."""
        advices = {name.uri for name in item.document.references if name.kind is DocumentKind.DESPATCH_ADVICE}
        known = advices <= self.covered.keys() and not advices & self.waiting
        return known and self.by_id.keys() | self.withdrawn >= set(item.document.event_ids)


def _ship(
    view: OrderView, advices: Sequence[Filed], despatches: Sequence[Movement], withdrawn: frozenset[str]
) -> _Shipments:
    by_id = {item.event_id: item for item in despatches}
    covered = {item.name.uri: _covered(item, by_id) for item in advices}
    unshared = frozenset(key for key, item in by_id.items() if not item.shared)
    shares = [(frozenset({key}), _sum([by_id[key].tally.counts(view.gtins)])) for key in sorted(unshared)]
    counted = set(unshared)
    # What an advice says of a despatch that does not count any more went otherwise: another one may tell how.
    valid = [item for item in advices if not withdrawn & set(item.document.event_ids)]
    for advice, sole in _standing(valid, covered):
        about = covered[advice.name.uri]
        countable = about <= unshared and by_id.keys() >= set(advice.document.event_ids)
        # What the advice says stands: on its lines, which counting alone could not tell apart.
        if (countable and _differs(view, advice, [by_id[key].tally for key in about])) or not sole:
            continue
        counted -= about
        if about - unshared:
            shares.append((about - unshared, _share(view, advice, [by_id[key].tally for key in about & unshared])))
        for said in advice.terms.lines:
            line = _line_of(view, said, advice)
            if line is not None:
                line.shipped += said.quantity
    _fill(view, _sum(by_id[key].tally.counts(view.gtins) for key in counted))
    for line in view.lines:
        if line.shipped > line.agreed:
            view.mismatches.append(
                Mismatch(
                    MismatchKind.OVER_DELIVERED, line.ordered.line_number, line.ordered.gtin, line.agreed, line.shipped
                )
            )
    heard_of = by_id.keys() | withdrawn
    waiting = {item.name.uri for item in advices if not heard_of >= set(item.document.event_ids)}
    return _Shipments(by_id, covered, frozenset(waiting), withdrawn, shares)


def _share(view: OrderView, advice: Filed, whole: Iterable[Tally]) -> dict[Gtin, Decimal]:
    """Return what an advice says is the order's, in pieces, less what it tells of despatches that are so as a whole."""
    lines = [item for item in advice.terms.lines if item.uom in PIECES and _meant(view, item) is not None]
    own = _sum(tally.counts(view.gtins) for tally in whole)
    said = _sum({item.gtin: item.quantity} for item in lines)
    return {gtin: max(ZERO, count - own.get(gtin, ZERO)) for gtin, count in said.items()}


def _covered(advice: Filed, despatches: Mapping[str, Movement]) -> frozenset[str]:
    """Return the known despatches that an advice names, or that name it."""
    naming = {key for key, item in despatches.items() if advice.name.uri in item.advices}
    return frozenset(despatches.keys() & set(advice.document.event_ids) | naming)


def _standing(advices: Sequence[Filed], covered: Mapping[str, frozenset[str]]) -> list[tuple[Filed, bool]]:
    """Return the advices that later ones have not replaced, and whether each alone tells of its despatches.

    Of a despatch the latest advice that names it tells. One of whose despatches all are told of by later ones is
    replaced; one of whose despatches some are says nothing that could be told apart from what those say.

    Args:
        advices: From the earliest to the latest.
        covered: The known despatches of each.
    """
    told: set[str] = set()
    found: list[tuple[Filed, bool]] = []
    for advice in reversed(advices):
        about = covered[advice.name.uri].union(advice.document.event_ids)
        if not about or not about <= told:
            found.append((advice, not about & told))
        told |= about
    return found[::-1]


def _differs(view: OrderView, advice: Filed, tallies: Sequence[Tally]) -> bool:
    """Tell whether an advice that counts in pieces says other than its despatches hold, and note where it does."""
    if not tallies or not all(item.uom in PIECES for item in advice.terms.lines):
        return False
    counts = _sum(tally.counts(view.gtins) for tally in tallies)
    said = _sum({item.gtin: item.quantity} for item in advice.terms.lines)
    return _compare(view, said, counts, MismatchKind.ADVICE_DIFFERS, advice.name.uri)


def _fill(view: OrderView, counts: Mapping[Gtin, Decimal]) -> None:
    """Put what was counted on the lines of its trade item, as far as it is agreed; what is too much on the last."""
    for line, part in _portions(view, counts, lambda line: line.agreed - line.shipped):
        line.shipped += part


def _portions(
    view: OrderView, counts: Mapping[Gtin, Decimal], *rooms: Callable[[Line], Decimal]
) -> Iterator[tuple[Line, Decimal]]:
    """Yield how much of what was counted goes on which line; note what is on none.

    Each room is filled on all lines, in their order, before the next; what is left goes on the last.
    """
    for gtin in sorted(counts):
        left = counts[gtin]
        lines = [line for line in view.lines if line.ordered.gtin == gtin and line.counted]
        if not lines:
            if left:
                view.mismatches.append(Mismatch(MismatchKind.NOT_ORDERED, 0, gtin, None, left))
            continue
        for room in rooms:
            for line in lines:
                part = min(left, max(ZERO, room(line)))
                left -= part
                yield line, part
        yield lines[-1], left


def _sum(parts: Iterable[Mapping[Gtin, Decimal | int]]) -> dict[Gtin, Decimal]:
    total: dict[Gtin, Decimal] = {}
    for part in parts:
        _add(total, part)
    return total


def _add(total: dict[Gtin, Decimal], part: Mapping[Gtin, Decimal | int]) -> None:
    for gtin, number in part.items():
        total[gtin] = total.get(gtin, ZERO) + number


def _compare(
    view: OrderView, wanted: Mapping[Gtin, Decimal], found: Mapping[Gtin, Decimal], kind: MismatchKind, origin: str
) -> bool:
    """Note where two counts differ; return whether they do anywhere."""
    differing = [
        gtin for gtin in sorted(wanted.keys() | found.keys()) if wanted.get(gtin, ZERO) != found.get(gtin, ZERO)
    ]
    for gtin in differing:
        line = next((line.ordered.line_number for line in view.lines if line.ordered.gtin == gtin), 0)
        view.mismatches.append(Mismatch(kind, line, gtin, wanted.get(gtin, ZERO), found.get(gtin, ZERO), origin))
    return bool(differing)


# --- receiving and invoicing ---


def _receive(view: OrderView, advices: Sequence[Filed], shipments: _Shipments) -> None:
    groups: dict[frozenset[str], list[Filed]] = {}
    for advice in advices:
        groups.setdefault(frozenset(_despatches_of(advice, shipments)), []).append(advice)
    shares = [(about, {gtin: Fraction(count) for gtin, count in share.items()}) for about, share in shipments.shares]
    pieces: dict[Gtin, Fraction] = {}
    for despatches, said in groups.items():
        sent = [shipments.by_id[key] for key in despatches]
        lines = [line for advice in said for line in advice.terms.lines]
        came = in_ordered_items(view.gtins, lines, [item.tally for item in sent])
        shared = any(item.shared for item in sent)
        if shared:
            came = _taken(came, [share for about, share in shares if about & despatches])
        parts.add(pieces, came)
        _measure(view, said, shared=shared)
        alone = all(despatches == other or not despatches & other for other in groups)
        if sent and alone and not shared:
            counted = _sum(item.tally.counts(view.gtins) for item in sent)
            _compare(view, counted, rounded(came), MismatchKind.RECEIVED_DIFFERS, said[-1].name.uri)
    # An advice counts packs by lot; on which line of their trade item they were is told by what was shipped.
    for line, part in _portions(
        view, rounded(pieces), lambda line: line.shipped - line.received, lambda line: line.agreed - line.received
    ):
        line.received += part


def _taken(came: Mapping[Gtin, Fraction], shares: Sequence[dict[Gtin, Fraction]]) -> dict[Gtin, Fraction]:
    """Take what came off an order's shares of what was shipped; return what they had. The rest is other orders'."""
    found: dict[Gtin, Fraction] = {}
    for share in shares:
        for gtin in came.keys() & share.keys():
            part = min(came[gtin] - found.get(gtin, 0), share[gtin])
            share[gtin] -= part
            parts.add(found, {gtin: part})
    return found


def _measure(view: OrderView, advices: Sequence[Filed], *, shared: bool) -> None:
    """Put what was received in other units than pieces on the lines that the advices name."""
    for advice in advices:
        for said in advice.terms.lines:
            if said.uom in PIECES:
                continue
            line = _meant(view, said) if shared else _line_of(view, said, advice)
            if line is not None:
                line.received += (
                    min(said.quantity, max(ZERO, line.shipped - line.received)) if shared else said.quantity
                )


def _despatches_of(advice: Filed, shipments: _Shipments) -> Iterator[str]:
    """Yield the known despatches that an advice is about: those that it names, else those of the advices it names."""
    named = [event_id for event_id in advice.document.event_ids if event_id in shipments.by_id]
    yield from named
    for name in () if named else advice.document.references:
        if name.kind is DocumentKind.DESPATCH_ADVICE:
            yield from shipments.covered.get(name.uri, ())


def _invoice(view: OrderView, invoices: Sequence[Filed], shipments: _Shipments) -> None:
    for invoice in invoices:
        for said in invoice.terms.lines:
            line = _line_of(view, said, invoice)
            if line is None:
                continue
            line.invoiced += said.quantity
            price, currency = line.price
            if said.price is not None and price is not None and (said.price, said.currency) != (price, currency):
                view.mismatches.append(
                    Mismatch(
                        MismatchKind.PRICE_DIFFERS,
                        line.ordered.line_number,
                        line.ordered.gtin,
                        price,
                        said.price,
                        invoice.name.uri,
                    )
                )
    if not all(shipments.knows(invoice) for invoice in invoices):
        # What is on its way here may show that all is well.
        return
    for line in view.lines:
        if line.invoiced > line.shipped:
            view.mismatches.append(
                Mismatch(
                    MismatchKind.INVOICED_TOO_MUCH,
                    line.ordered.line_number,
                    line.ordered.gtin,
                    line.shipped,
                    line.invoiced,
                )
            )


# --- state ---


def _end(view: OrderView, functions: set[DocumentFunction], *, answered: bool) -> None:
    cancelled = DocumentFunction.CANCELLATION in functions
    closed = DocumentFunction.CLOSURE in functions
    shipped = any(line.shipped for line in view.lines)
    if cancelled and shipped:
        view.mismatches.append(Mismatch(MismatchKind.SHIPPED_AFTER_CANCELLATION))
    for line in view.lines:
        line.dropped = cancelled or closed
    rejected = not any(line.agreed for line in view.lines)
    if closed:
        view.state = OrderState.CLOSED
    elif (cancelled or rejected) and not shipped:
        view.state = OrderState.CANCELLED
    else:
        view.state = _progress(view.lines, answered=answered)


def _progress(lines: Sequence[Line], *, answered: bool) -> OrderState:
    if any(line.received for line in lines):
        if not all(line.received >= line.due for line in lines):
            return OrderState.PARTLY_RECEIVED
        invoiced = all(line.invoiced >= min(line.received, line.due) for line in lines)
        return OrderState.INVOICED if invoiced else OrderState.RECEIVED
    if any(line.shipped for line in lines):
        return OrderState.PARTLY_SHIPPED if any(line.open for line in lines) else OrderState.SHIPPED
    return OrderState.CONFIRMED if answered else OrderState.PLACED
