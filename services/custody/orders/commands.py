"""What a buyer and a seller do about an order: from what is wanted to documents, in one write transaction each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from medtrail.document import Document, DocumentFunction, DocumentKind, DocumentReference
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import AuthorizationError, ConflictError, DuplicateError, MalformedError, NotFoundError
from medtrail.gs1 import Gln, Gtin
from medtrail.terms import LineStatus, TermsLine
from services.custody import events_store, inbound_store
from services.custody.desk import Accepted, Session
from services.custody.events_store import Stored
from services.custody.orders import book, documents, goods, links
from services.custody.orders.book import KnownDocument
from services.custody.orders.goods import Tally
from services.custody.orders.state import ZERO, Line, OrderState, OrderView
from services.custody.parties import organisation_gln, party_of
from services.custody.steps import is_despatch

MAX_EVENTS = 100
ENDED = frozenset({OrderState.CANCELLED, OrderState.CLOSED})


@dataclass(frozen=True, slots=True)
class Heading:
    """What every document has: its number, when it was issued (aware UTC), a note for a person."""

    number: str
    issue_time: datetime
    note: str = ""


def place(
    session: Session, heading: Heading, lines: Sequence[TermsLine], *, seller: Gln, ship_to: Gln | None = None
) -> Accepted:
    """Order goods from a seller.

    Raises:
        MalformedError: No lines, or one without quantity (LINE_QUANTITY).
        AuthorizationError: The place of delivery is not ours (LOCATION_NOT_OWN).
    """
    if not lines:
        raise MalformedError("an order has lines", code="FIELD_MISSING", field="lines")
    for number, line in enumerate(lines):
        if line.quantity <= 0 or line.status is not None:
            message = "an order's line has a quantity above 0 and no answer"
            raise MalformedError(message, code="LINE_QUANTITY", field=f"lines[{number}].quantity")
    if ship_to is not None and ship_to not in session.desk.glns:
        message = f"{ship_to} is no location of {session.desk.gln}"
        raise AuthorizationError(message, code="LOCATION_NOT_OWN", field="ship_to")
    document = Document(DocumentKind.ORDER, heading.number, seller, heading.issue_time)
    return documents.issue(session, document, lines, ship_to=ship_to, note=heading.note)


def _order(session: Session, name: DocumentReference, *, by_buyer: bool) -> OrderView:
    """Return an order in which we are the buyer, or the seller.

    Raises:
        NotFoundError: It is not known here (ORDER_UNKNOWN).
        AuthorizationError: It is the other party's to say (ORDER_NOT_PARTY).
    """
    view = book.view_order(session.connection, name)
    if view is None:
        message = f"no order {name.number} of {name.issuer} is known here"
        raise NotFoundError(message, code="ORDER_UNKNOWN", field="order_number")
    if session.desk.gln != (name.issuer if by_buyer else view.seller):
        message = f"this is for the {'buyer' if by_buyer else 'seller'} of order {name.number} to say"
        raise AuthorizationError(message, code="ORDER_NOT_PARTY", field="order_number")
    return view


def _require_open(view: OrderView) -> None:
    if view.state in ENDED:
        message = f"order {view.order.document.number} is {view.state}"
        raise ConflictError(message, code="ORDER_ENDED", field="order_number", state=view.state)


def _document(heading: Heading, kind: DocumentKind, view: OrderView) -> Document:
    return Document(
        kind,
        heading.number,
        view.order.issuer,
        heading.issue_time,
        references=(view.order.document.named(view.order.issuer),),
    )


def _standing(session: Session, kind: DocumentKind, number: str) -> KnownDocument | None:
    """Return the document that we issued under a number, or None: what is said again is judged by its content alone."""
    known = book.find_document(session.connection, DocumentReference(kind, number, session.desk.gln))
    return None if known is None or known.refusal else known


def _said_before(known: KnownDocument, lines: Sequence[TermsLine], *, same: bool) -> Accepted:
    """Return a document that is asked for again.

    Args:
        known: What stands under the number.
        lines: As asked for; none where they are to be counted.
        same: Whether it is about the same order or despatch.

    Raises:
        DuplicateError: It says something else (DOCUMENT_CONFLICT).
    """
    if not same or (lines and tuple(lines) != known.filed.terms.lines):
        document = known.filed.document
        message = f"{document.kind} {document.number} of {known.filed.issuer} says something else"
        raise DuplicateError(message, code="DOCUMENT_CONFLICT", field="number")
    return Accepted(known.event_id, known.sha256, known.source_seq, resend=True)


# --- the seller's answer ---


def confirm(session: Session, heading: Heading, order: DocumentReference, answers: Sequence[TermsLine]) -> Accepted:
    """Answer an order line by line; no answers accept all.

    Raises:
        ConflictError: It is cancelled or closed (ORDER_ENDED).
        MalformedError: An answer is to no line of it (LINE_UNKNOWN) or says too little (ANSWER_INCOMPLETE).
    """
    view = _order(session, order, by_buyer=False)
    if _standing(session, DocumentKind.CONFIRMATION, heading.number) is None:
        _require_open(view)
    if answers:
        lines = [_answer(view, answer, f"lines[{number}]") for number, answer in enumerate(answers)]
    else:
        lines = [_accept(line) for line in view.lines]
    return documents.issue(session, _document(heading, DocumentKind.CONFIRMATION, view), lines, note=heading.note)


def _accept(line: Line) -> TermsLine:
    day = line.ordered.requested_date
    return replace(line.ordered, status=LineStatus.ACCEPTED, confirmed_date=day, requested_date=None, note="")


def _answer(view: OrderView, answer: TermsLine, field: str) -> TermsLine:
    line = view.line(answer.line_number)
    if line is None or line.ordered.gtin != answer.gtin:
        message = f"order {view.order.document.number} has no line {answer.line_number} of GTIN {answer.gtin}"
        raise MalformedError(message, code="LINE_UNKNOWN", field=f"{field}.line_number")
    wanted = line.ordered.quantity
    problems = {
        None: "say accepted, changed, rejected or back-ordered",
        LineStatus.ACCEPTED: "" if answer.quantity == wanted else f"accepted means {wanted}; say changed",
        LineStatus.REJECTED: "" if answer.quantity == 0 else "of what is rejected comes nothing: quantity 0",
        LineStatus.BACK_ORDERED: ""
        if answer.quantity < wanted and answer.confirmed_date is not None
        else f"say what comes now, less than {wanted}, and by which day the rest",
    }
    if problems.get(answer.status):
        raise MalformedError(problems[answer.status], code="ANSWER_INCOMPLETE", field=field)
    return answer


# --- the buyer's end ---


def cancel(session: Session, heading: Heading) -> Accepted:
    """Withdraw an order of ours.

    Raises:
        ConflictError: Something was despatched (ORDER_SHIPPED), or it is closed (ORDER_ENDED).
    """
    return _end(session, heading, DocumentFunction.CANCELLATION)


def close(session: Session, heading: Heading) -> Accepted:
    """End an order of ours: nothing more is expected.

    Raises:
        ConflictError: It is cancelled (ORDER_ENDED).
    """
    return _end(session, heading, DocumentFunction.CLOSURE)


def _end(session: Session, heading: Heading, function: DocumentFunction) -> Accepted:
    name = book.order_name(session.desk.gln, heading.number)
    view = _order(session, name, by_buyer=True)
    known = book.find_document(session.connection, name, function)
    if known is None or known.refusal:
        _require_open(view)
        if function is DocumentFunction.CANCELLATION and any(line.shipped for line in view.lines):
            message = f"of order {heading.number} something was despatched: close it instead"
            raise ConflictError(message, code="ORDER_SHIPPED", field="number", state=view.state)
    document = Document(DocumentKind.ORDER, heading.number, view.seller, heading.issue_time, function)
    return documents.issue(session, document, (), note=heading.note)


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
    view = _order(session, names.pop(), by_buyer=False) if names else None
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
        lines = _lines_for(view, _tallies(session, despatches))
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


def _lines_for(view: OrderView | None, tallies: Iterable[Tally]) -> list[TermsLine]:
    """Return what was counted as lines: on those of the order as far as its trade items are on it, else numbered on."""
    gtins = frozenset[Gtin]() if view is None else view.gtins
    counts: dict[Gtin, int] = {}
    lots: dict[Gtin, dict[str, None]] = {}
    for tally in tallies:
        for gtin, count in tally.counts(gtins).items():
            counts[gtin] = counts.get(gtin, 0) + count
            lots.setdefault(gtin, {}).update(dict.fromkeys(tally.lots.get(str(gtin), ())))
    made: list[TermsLine] = []
    last = 0 if view is None else max(line.ordered.line_number for line in view.lines)
    for gtin in sorted(counts):
        known = tuple(lots[gtin])[: goods.MAX_LOTS]
        on_order = [] if view is None else [line for line in view.lines if line.ordered.gtin == gtin and line.counted]
        for number, part in _spread(on_order, Decimal(counts[gtin])):
            last += not number
            made.append(TermsLine(number or last, gtin, part, lots=known))
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
    return parts


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
    known = _standing(session, DocumentKind.RECEIVING_ADVICE, heading.number)
    if known is not None:
        return _said_before(known, lines or (), same=despatch_id in known.filed.document.event_ids)
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
    standing = book.movements_of(connection, [number for number, _ in received])
    if lines is None:
        sent = [item.tally for item in book.movements_of(connection, numbers) if not item.receiving]
        before = _advised(session, despatch_id)
        came = [item.tally for item in standing if item.despatch_id == despatch_id]
        lines = _came(_lines_for(view, came), _lines_for(view, sent), before)
    advices = [name for number in numbers for name in _advices_of(session, number, despatch_id, sender)]
    document = Document(
        DocumentKind.RECEIVING_ADVICE,
        heading.number,
        sender,
        heading.issue_time,
        references=(*mine[:1], *dict.fromkeys(advices)) if len(mine) == 1 else tuple(dict.fromkeys(advices)),
        event_ids=(despatch_id, *dict.fromkeys(item.event_id for item in standing))[:MAX_EVENTS],
    )
    return documents.issue(session, document, lines, note=heading.note)


def _advised(session: Session, despatch_id: str) -> dict[tuple[int, Gtin], Decimal] | None:
    """Return what our advices of a despatch said so far, by line and trade item; None where there are none."""
    query = book.DocumentQuery(kind=DocumentKind.RECEIVING_ADVICE, event_id=despatch_id)
    known = [item for item in book.list_documents(session.connection, query, before=None, limit=1000) if item.own]
    said: dict[tuple[int, Gtin], Decimal] = {}
    for item in known:
        for line in item.filed.terms.lines if not item.refusal else ():
            key = (line.line_number, line.gtin)
            said[key] = said.get(key, ZERO) + line.quantity
    return said if known else None


def _came(
    came: Sequence[TermsLine], sent: Sequence[TermsLine], before: Mapping[tuple[int, Gtin], Decimal] | None
) -> list[TermsLine]:
    found = {(line.line_number, line.gtin): line for line in came}
    if before is None:
        missing = [replace(line, quantity=ZERO) for line in sent if (line.line_number, line.gtin) not in found]
        return [*came, *missing]
    news = [replace(line, quantity=line.quantity - before.get(key, ZERO)) for key, line in found.items()]
    news = [line for line in news if line.quantity > 0]
    if not news:
        message = "nothing came since the last receiving advice of this despatch"
        raise ConflictError(message, code="NOTHING_RECEIVED", field="despatch_event_id")
    return news


def _advices_of(session: Session, event_number: int, despatch_id: str, sender: Gln) -> Iterable[DocumentReference]:
    """Yield the despatch advices that name a despatch, or that it names."""
    query = book.DocumentQuery(kind=DocumentKind.DESPATCH_ADVICE, partner=sender, event_id=despatch_id)
    for item in book.list_documents(session.connection, query, before=None, limit=MAX_EVENTS // 2):
        yield item.filed.name
    for found in events_store.events_of(session.connection, [event_number]):
        if isinstance(found.event.statement, EpcisEvent):
            for name in links.documents_named(found.event.statement):
                if name.kind is DocumentKind.DESPATCH_ADVICE and name.issuer == sender:
                    yield name


# --- invoice ---


def invoice(session: Session, heading: Heading, order: DocumentReference, lines: Sequence[TermsLine]) -> Accepted:
    """Invoice what was shipped of an order; no lines mean all that was not invoiced yet.

    Raises:
        ConflictError: More than was shipped (INVOICE_TOO_MUCH), or nothing is left to invoice (NOTHING_TO_INVOICE).
        MalformedError: A line is none of the order's (LINE_UNKNOWN).
    """
    view = _order(session, order, by_buyer=False)
    known = _standing(session, DocumentKind.INVOICE, heading.number)
    if known is not None:
        return _said_before(known, lines, same=order in known.filed.document.references)
    if lines:
        _check_charges(view, lines)
    else:
        lines = [_charge(line) for line in view.lines if line.shipped > line.invoiced]
    if not lines:
        message = f"all that was shipped of order {order.number} is invoiced"
        raise ConflictError(message, code="NOTHING_TO_INVOICE", field="lines")
    members = links.members(session.connection, view.order.name)
    despatches = [item.event_id for item in book.movements_of(session.connection, members) if not item.receiving]
    document = _document(heading, DocumentKind.INVOICE, view)
    document = replace(document, event_ids=tuple(sorted(despatches)[:MAX_EVENTS]))
    return documents.issue(session, document, lines, note=heading.note)


def _charge(line: Line) -> TermsLine:
    price, currency = line.price
    ordered = line.ordered
    return TermsLine(
        ordered.line_number, ordered.gtin, line.shipped - line.invoiced, ordered.uom, price=price, currency=currency
    )


def _check_charges(view: OrderView, lines: Sequence[TermsLine]) -> None:
    for number, charge in enumerate(lines):
        line = view.line(charge.line_number)
        if line is None or line.ordered.gtin != charge.gtin:
            message = f"order {view.order.document.number} has no line {charge.line_number} of GTIN {charge.gtin}"
            raise MalformedError(message, code="LINE_UNKNOWN", field=f"lines[{number}].line_number")
        if line.invoiced + charge.quantity > line.shipped:
            message = f"shipped {line.shipped}, invoiced {line.invoiced} before"
            raise ConflictError(message, code="INVOICE_TOO_MUCH", field=f"lines[{number}].quantity")
