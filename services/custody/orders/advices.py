"""What a seller says of its despatches, and a buyer of what came of them, in one write transaction each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from medtrail.codec.document import MAX_LOT_LENGTH, MAX_REFERENCES
from medtrail.document import Document, DocumentKind, DocumentReference
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import ConflictError, MalformedError, NotFoundError
from medtrail.gs1 import Gln, Gtin
from medtrail.terms import TermsLine
from services.custody import events_store, inbound_store
from services.custody.desk import Accepted, Session
from services.custody.events_store import Stored
from services.custody.orders import book, documents, goods, links
from services.custody.orders.commands import MAX_EVENTS, Heading, order_of, said_before, standing
from services.custody.orders.goods import Tally
from services.custody.orders.parts import in_ordered_items, rounded
from services.custody.orders.view import ZERO, Line, OrderView
from services.custody.parties import organisation_gln, party_of
from services.custody.steps import is_despatch

# --- despatch advice ---


def advise_despatch(
    session: Session,
    heading: Heading,
    order: DocumentReference | None,
    event_ids: Sequence[str],
    lines: Sequence[TermsLine],
) -> Accepted:
    """Tell the buyer what despatches of ours hold.

    Args:
        session: The write transaction.
        heading: Number, time and note.
        order: The order; None where the despatches name it, or there is none.
        event_ids: Our despatches, to one partner.
        lines: What they hold; none: as counted, on the lines of the order.

    Raises:
        NotFoundError: No such despatch of ours (DESPATCH_UNKNOWN).
        ConflictError: They go to several partners, or name several orders (DESPATCHES_DIFFER).
    """
    if not 1 <= len(event_ids) <= MAX_EVENTS:
        message = f"expected 1 to {MAX_EVENTS} despatches, got {len(event_ids)}"
        raise MalformedError(message, code="FIELD_MISSING", field="event_ids")
    despatches = [_own_despatch(session, event_id) for event_id in dict.fromkeys(event_ids)]
    partners = {_consignee(session, item) for item in despatches}
    named = {target for item in despatches for target in links.orders_named(session.connection, item.number)}
    names = {links.name_of(target) for target in named} if order is None else {order}
    if len(partners) != 1 or len(names) > 1:
        message = "an advice tells one partner of one order; issue several"
        raise ConflictError(message, code="DESPATCHES_DIFFER", field="event_ids")
    partner = partners.pop()
    if partner is None:
        message = "the despatches name nobody to whom they go"
        raise ConflictError(message, code="DESPATCHES_DIFFER", field="event_ids")
    view = order_of(session, names.pop(), by_buyer=False) if names else None
    if view is not None and view.order.issuer != partner:
        message = f"order {view.order.document.number} is of {view.order.issuer}, the despatch goes to {partner}"
        raise ConflictError(message, code="DESPATCHES_DIFFER", field="event_ids")
    references = () if view is None else (view.order.name,)
    document = Document(
        DocumentKind.DESPATCH_ADVICE,
        heading.number,
        partner,
        heading.issue_time,
        references=references,
        event_ids=tuple(dict.fromkeys(event_ids)),
    )
    if not lines:
        lines = _lines_for(view, _count(view, _tallies(session, despatches)))
    return documents.issue(session, document, lines, note=heading.note)


def _own_despatch(session: Session, event_id: str) -> Stored:
    found = events_store.find_event(session.connection, signer=session.desk.gln, event_id=event_id, declaration=False)
    statement = None if found is None else found.event.statement
    if found is None or found.refusal or not isinstance(statement, EpcisEvent) or not is_despatch(statement):
        message = f"{event_id} is no despatch of ours"
        raise NotFoundError(message, code="DESPATCH_UNKNOWN", field="event_ids")
    return found


def _consignee(session: Session, despatch: Stored) -> Gln | None:
    statement = despatch.event.statement
    gln = party_of(statement.destination_list) if isinstance(statement, EpcisEvent) else None
    return None if gln is None else organisation_gln(gln, session.desk.registry())


def _tallies(session: Session, despatches: Iterable[Stored]) -> list[Tally]:
    return [item.tally for item in book.movements_of(session.connection, [item.number for item in despatches])]


@dataclass(frozen=True, slots=True)
class _Counted:
    """How many of which trade items, in those of the order as far as they are on it, and of which lots."""

    counts: Mapping[Gtin, Decimal]
    lots: Mapping[Gtin, tuple[str, ...]]


def _count(view: OrderView | None, tallies: Iterable[Tally]) -> _Counted:
    counts: dict[Gtin, Decimal] = {}
    lots: dict[Gtin, dict[str, None]] = {}
    for tally in tallies:
        for gtin, count in tally.counts(() if view is None else view.gtins).items():
            counts[gtin] = counts.get(gtin, ZERO) + count
            told = (lot for lot in tally.lots.get(str(gtin), ()) if len(lot) <= MAX_LOT_LENGTH)
            lots.setdefault(gtin, {}).update(dict.fromkeys(told))
    return _Counted(counts, {gtin: tuple(known)[: goods.MAX_LOTS] for gtin, known in lots.items()})


def _lines_for(view: OrderView | None, counted: _Counted) -> list[TermsLine]:
    """Return what was counted as lines: on those of the order as far as its trade items are on it, else numbered on."""
    made: list[TermsLine] = []
    last = 0 if view is None else max((line.ordered.line_number for line in view.lines), default=0)
    for gtin in sorted(counted.counts):
        on_order = [] if view is None else [line for line in view.lines if line.ordered.gtin == gtin and line.counted]
        for number, part in _spread(on_order, counted.counts[gtin]):
            last += not number
            made.append(TermsLine(number or last, gtin, part, lots=counted.lots.get(gtin, ())))
    return made


def _spread(lines: Sequence[Line], count: Decimal) -> list[tuple[int, Decimal]]:
    """Return how much of a count goes on which line: as much as was ordered, the rest on the last; 0: on no line."""
    if not lines:
        return [(0, count)]
    parts: list[tuple[int, Decimal]] = []
    for line in lines:
        part = count if line is lines[-1] else min(count, line.ordered.quantity)
        if part:
            parts.append((line.ordered.line_number, part))
        count -= part
    return parts or [(lines[0].ordered.line_number, ZERO)]


# --- receiving advice ---


def advise_received(
    session: Session, heading: Heading, *, despatch_id: str, lines: Sequence[TermsLine] | None = None
) -> Accepted | None:
    """Tell the sender of a despatch what came of it.

    Args:
        session: The write transaction, after the receiving events.
        heading: Number, time and note.
        despatch_id: event_id of the partner's despatch.
        lines: What came; None: as counted in our receivings of it, less what was advised before. Of what did not come
            it says 0, the first time.

    Returns:
        The document; None where the sender is not enrolled: it has no inbox, and no key for the terms.

    Raises:
        NotFoundError: No partner has advised it (DESPATCH_UNKNOWN).
        ConflictError: Nothing came since the last advice (NOTHING_RECEIVED).
    """
    connection, desk = session.connection, session.desk
    known = standing(session, DocumentKind.RECEIVING_ADVICE, heading.number)
    if known is not None:
        return said_before(session, known, lines or (), same=despatch_id in known.filed.document.event_ids)
    shipment = inbound_store.find(connection, despatch_id)
    if shipment is None:
        message = f"no partner has advised a despatch {despatch_id}"
        raise NotFoundError(message, code="DESPATCH_UNKNOWN", field="despatch_event_id")
    sender = organisation_gln(shipment.sender, desk.registry())
    if desk.registry().organisation_of_gln(sender) is None:
        return None
    numbers = [item.number for item in events_store.find_by_id(connection, despatch_id)]
    names = {name for number in numbers for name in links.orders_of(connection, number)}
    mine = sorted((name for name in names if name.issuer == desk.gln), key=lambda name: name.number)
    view = book.view_order(connection, mine[0]) if len(mine) == 1 else None
    received = goods.received_of(connection, despatch_id)
    receivings = book.movements_of(connection, [number for number, _ in received])
    if lines is None:
        sent = [item.tally for item in book.movements_of(connection, numbers) if not item.receiving]
        came = _count(view, [item.tally for item in receivings if item.despatch_id == despatch_id])
        before = _advised(session, despatch_id, view, sent)
        lines = _lines_for(view, _news(came, _count(view, sent), before))
    advices = [name for number in numbers for name in _advices_of(session, number, despatch_id, sender)]
    document = Document(
        DocumentKind.RECEIVING_ADVICE,
        heading.number,
        sender,
        heading.issue_time,
        references=tuple(dict.fromkeys((*(mine if len(mine) == 1 else ()), *advices)))[:MAX_REFERENCES],
        event_ids=(despatch_id, *dict.fromkeys(item.event_id for item in receivings))[:MAX_EVENTS],
    )
    return documents.issue(session, document, lines, note=heading.note)


def _advised(
    session: Session, despatch_id: str, view: OrderView | None, sent: Sequence[Tally]
) -> dict[Gtin, Decimal] | None:
    """Return what our advices of a despatch said so far, by trade item; None where there are none."""
    query = book.DocumentQuery(kind=DocumentKind.RECEIVING_ADVICE, event_id=despatch_id)
    known = [item for item in book.list_documents(session.connection, query, before=None, limit=1000) if item.own]
    lines = [line for item in known if not item.refusal for line in item.filed.terms.lines]
    return rounded(in_ordered_items(frozenset() if view is None else view.gtins, lines, sent)) if known else None


def _news(came: _Counted, sent: _Counted, before: Mapping[Gtin, Decimal] | None) -> _Counted:
    """Return what was not advised yet; at the first time also that nothing came of the rest."""
    if before is None:
        return _Counted({**dict.fromkeys(sent.counts, ZERO), **came.counts}, came.lots)
    news = {gtin: count - before.get(gtin, ZERO) for gtin, count in came.counts.items()}
    news = {gtin: count for gtin, count in news.items() if count > 0}
    if not news:
        message = "nothing came since the last receiving advice of this despatch"
        raise ConflictError(message, code="NOTHING_RECEIVED", field="despatch_event_id")
    return _Counted(news, came.lots)


def _advices_of(session: Session, event_number: int, despatch_id: str, sender: Gln) -> Iterable[DocumentReference]:
    """Yield the despatch advices that name a despatch, or that it names."""
    query = book.DocumentQuery(kind=DocumentKind.DESPATCH_ADVICE, partner=sender, event_id=despatch_id)
    for item in book.list_documents(session.connection, query, before=None, limit=MAX_EVENTS // 2):
        yield item.filed.name
    for found in events_store.events_of(session.connection, [event_number]):
        if isinstance(found.event.statement, EpcisEvent):
            for name in links.documents_named(found.event.statement.biz_transaction_list):
                if name.kind is DocumentKind.DESPATCH_ADVICE and name.issuer == sender:
                    yield name
