"""Between generated messages of OrderService and the values of orders."""

from datetime import datetime

from google.protobuf.message import Message

from medtrail.api.event.v1 import document_pb2
from medtrail.api.orders.v1 import orders_pb2
from medtrail.claims import MAX_AHEAD
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.codec.document import (
    MAX_NOTE_LENGTH,
    document_to_message,
    reference_to_message,
    terms_line_from_message,
    terms_line_to_message,
    terms_to_message,
    to_document_number,
)
from medtrail.codec.scalars import from_decimal, required_text
from medtrail.document import DocumentReference
from medtrail.errors import MalformedError, TooLargeError, VerificationError
from medtrail.terms import MAX_LINES, LineStatus, TermsLine
from services.custody.desk import Accepted, Session
from services.custody.holdings_store import from_us
from services.custody.orders.book import KnownDocument, KnownOrder
from services.custody.orders.commands import Heading
from services.custody.orders.view import Line, Mismatch, Movement, OrderState, OrderView

_STATE_TO_MESSAGE = {state: orders_pb2.OrderState.Value(f"ORDER_STATE_{state.name}") for state in OrderState}
_STATE_FROM_MESSAGE = {number: state for state, number in _STATE_TO_MESSAGE.items()}
_STATUS_TO_MESSAGE = {status: document_pb2.LineStatus.Value(f"LINE_STATUS_{status.name}") for status in LineStatus}


def lines_from_messages(messages: list[document_pb2.TermsLine]) -> list[TermsLine]:
    """Return the lines of a request; those without number get the next one, those without quantity 0.

    Raises:
        TooLargeError: More than 1,000 lines.
        MalformedError: A field is of wrong form, or two lines have one number (LINE_TWICE).
    """
    if len(messages) > MAX_LINES:
        text = f"expected at most {MAX_LINES} lines, got {len(messages)}"
        raise TooLargeError(text, code="TOO_MANY", field="lines")
    made: dict[int, TermsLine] = {}
    for place, message in enumerate(messages):
        whole = document_pb2.TermsLine()
        whole.CopyFrom(message)
        whole.line_number = message.line_number or max(made, default=0) + 1
        if whole.status == document_pb2.LINE_STATUS_REJECTED and not whole.quantity:
            whole.quantity = "0"
        line = terms_line_from_message(whole, field=f"lines[{place}]")
        if line.line_number in made:
            text = f"line {line.line_number} stands there twice"
            raise MalformedError(text, code="LINE_TWICE", field=f"lines[{place}].line_number")
        made[line.line_number] = line
    return list(made.values())


def complete_answers(messages: list[document_pb2.TermsLine], view: OrderView | None) -> list[document_pb2.TermsLine]:
    """Return answers to an order with what they leave out taken from it: trade item, unit, accepted quantity, price."""
    made = []
    for message in messages:
        whole = document_pb2.TermsLine()
        whole.CopyFrom(message)
        line = None if view is None else view.line(message.line_number)
        if line is not None:
            ordered = terms_line_to_message(line.ordered)
            whole.gtin = message.gtin or ordered.gtin
            whole.uom = message.uom or ordered.uom
            if not message.price:
                whole.price, whole.currency = ordered.price, ordered.currency
            if message.status == document_pb2.LINE_STATUS_ACCEPTED:
                whole.quantity = message.quantity or ordered.quantity
                whole.confirmed_date = message.confirmed_date or ordered.requested_date
        made.append(whole)
    return made


def issue_time_of(request: Message, *, now: datetime) -> datetime:
    """Return when a document is issued: as its request says, else now.

    Raises:
        MalformedError: It is no moment.
        VerificationError: More than 5 minutes ahead (EVENT_IN_FUTURE).
    """
    if not request.HasField("issue_time"):
        return now
    moment = from_timestamp(getattr(request, "issue_time"), field="issue_time")  # noqa: B009  # of several messages
    if moment > now + MAX_AHEAD:
        message = f"dated {moment.isoformat()}, more than 5 minutes ahead of {now.isoformat()}"
        raise VerificationError(message, code="EVENT_IN_FUTURE", field="issue_time")
    return moment


def heading_of(session: Session, *, number: str, note: str, issue_time: datetime | None = None) -> Heading:
    """Return what a document starts with.

    Raises:
        MalformedError: A text is of wrong form.
    """
    return Heading(
        to_document_number(number, field="number"),
        session.now if issue_time is None else issue_time,
        required_text(note, field="note", least=0, most=MAX_NOTE_LENGTH),
    )


def issued_to_message(accepted: Accepted, name: DocumentReference) -> orders_pb2.IssuedDocument:
    """Return the message of a document that was issued."""
    return orders_pb2.IssuedDocument(
        event_id=accepted.event_id,
        signed_event_sha256=accepted.signed_event_sha256,
        resend=accepted.resend,
        name=reference_to_message(name),
    )


def document_to_summary(known: KnownDocument, *, terms: bool) -> orders_pb2.DocumentSummary:
    """Return the message of a document as kept here, with its terms where wanted."""
    return orders_pb2.DocumentSummary(
        issuer=str(known.filed.issuer),
        document=document_to_message(known.filed.document),
        event_id=known.event_id,
        signed_event_sha256=known.sha256,
        terms=terms_to_message(known.filed.terms) if terms else None,
        refusal_code=known.refusal,
    )


def order_to_message(known: KnownOrder) -> orders_pb2.Order:
    """Return the message of an order as listed."""
    return orders_pb2.Order(
        buyer=str(known.name.issuer),
        number=known.name.number,
        seller=str(known.seller),
        state=_STATE_TO_MESSAGE[known.state],
        issue_time=to_timestamp(from_us(known.issue_us)),
        mismatch_count=known.mismatch_count,
    )


def view_to_message(view: OrderView, documents: list[KnownDocument], movements: list[Movement]) -> orders_pb2.Order:
    """Return the message of an order with all that it comes from."""
    order = view.order
    return orders_pb2.Order(
        buyer=str(order.issuer),
        number=order.document.number,
        seller=str(view.seller),
        state=_STATE_TO_MESSAGE[view.state],
        issue_time=to_timestamp(order.document.issue_time),
        ship_to="" if order.terms.ship_to is None else str(order.terms.ship_to),
        note=order.terms.note,
        lines=[_line_to_message(line) for line in view.lines],
        documents=[document_to_summary(item, terms=False) for item in documents],
        movements=[_movement_to_message(item, view) for item in movements],
        mismatches=[_mismatch_to_message(item) for item in view.mismatches],
        mismatch_count=len(view.mismatches),
    )


def _line_to_message(line: Line) -> orders_pb2.OrderLine:
    status = None if line.answer is None else line.answer.status
    return orders_pb2.OrderLine(
        ordered=terms_line_to_message(line.ordered),
        status=document_pb2.LINE_STATUS_UNSPECIFIED if status is None else _STATUS_TO_MESSAGE[status],
        confirmed_quantity=from_decimal(line.confirmed),
        back_ordered_quantity=from_decimal(line.back_ordered),
        confirmed_date="" if line.confirmed_date is None else line.confirmed_date.isoformat(),
        shipped_quantity=from_decimal(line.shipped),
        received_quantity=from_decimal(line.received),
        invoiced_quantity=from_decimal(line.invoiced),
        open_quantity=from_decimal(line.open),
    )


def _movement_to_message(movement: Movement, view: OrderView) -> orders_pb2.GoodsMovement:
    counts = sorted(movement.tally.counts(view.gtins).items())
    return orders_pb2.GoodsMovement(
        event_id=movement.event_id,
        receiving=movement.receiving,
        counts=[orders_pb2.GoodsCount(gtin=str(gtin), count=count) for gtin, count in counts],
    )


def _mismatch_to_message(item: Mismatch) -> orders_pb2.Mismatch:
    return orders_pb2.Mismatch(
        kind=item.kind.value,
        line_number=item.line_number,
        gtin="" if item.gtin is None else str(item.gtin),
        wanted=from_decimal(item.wanted),
        found=from_decimal(item.found),
        origin=item.origin,
    )


def states_from_messages(numbers: list[orders_pb2.OrderState.ValueType]) -> frozenset[OrderState]:
    """Return the states of a request.

    Raises:
        MalformedError: One is unknown (STATE_UNKNOWN).
    """
    for number in numbers:
        if number not in _STATE_FROM_MESSAGE:
            message = f"unknown state {number}"
            raise MalformedError(message, code="STATE_UNKNOWN", field="states")
    return frozenset(_STATE_FROM_MESSAGE[number] for number in numbers)
