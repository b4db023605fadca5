"""What a buyer and a seller do about an order: from what is wanted to documents, in one write transaction each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from medtrail.document import Document, DocumentFunction, DocumentKind, DocumentReference
from medtrail.errors import AuthorizationError, ConflictError, DuplicateError, MalformedError, NotFoundError
from medtrail.gs1 import Gln
from medtrail.terms import LineStatus, TermsLine
from services.custody.desk import Accepted, Session
from services.custody.orders import book, documents, links
from services.custody.orders.book import KnownDocument
from services.custody.orders.view import Line, OrderState, OrderView

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
        MalformedError: No lines (FIELD_MISSING), or one without quantity (LINE_QUANTITY).
        AuthorizationError: The place of delivery is not ours (LOCATION_NOT_OWN).
    """
    for number, line in enumerate(lines):
        if line.quantity <= 0 or line.status is not None:
            message = "an order's line has a quantity above 0 and no answer"
            raise MalformedError(message, code="LINE_QUANTITY", field=f"lines[{number}].quantity")
    if ship_to is not None and ship_to not in session.desk.glns:
        message = f"{ship_to} is no location of {session.desk.gln}"
        raise AuthorizationError(message, code="LOCATION_NOT_OWN", field="ship_to")
    document = Document(DocumentKind.ORDER, heading.number, seller, heading.issue_time)
    return documents.issue(session, document, lines, ship_to=ship_to, note=heading.note)


def order_of(session: Session, name: DocumentReference, *, by_buyer: bool) -> OrderView:
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


def standing(session: Session, kind: DocumentKind, number: str) -> KnownDocument | None:
    """Return the document that we issued under a number, or None: what is said again is judged by its content alone."""
    known = book.find_document(session.connection, DocumentReference(kind, number, session.desk.gln))
    return None if known is None or known.refusal else known


def said_before(session: Session, known: KnownDocument, lines: Sequence[TermsLine], *, same: bool) -> Accepted:
    """Return a document that is asked for again, and send its letter again.

    Args:
        session: The write transaction.
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
    return documents.again(session, known)


# --- the seller's answer ---


def confirm(session: Session, heading: Heading, order: DocumentReference, answers: Sequence[TermsLine]) -> Accepted:
    """Answer an order line by line; no answers accept all.

    Raises:
        ConflictError: It is cancelled or closed (ORDER_ENDED).
        MalformedError: An answer is to no line of it (LINE_UNKNOWN) or says too little (ANSWER_INCOMPLETE).
    """
    view = order_of(session, order, by_buyer=False)
    if standing(session, DocumentKind.CONFIRMATION, heading.number) is None:
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
    view = order_of(session, name, by_buyer=True)
    known = book.find_document(session.connection, name, function)
    if known is None or known.refusal:
        _require_open(view)
        if function is DocumentFunction.CANCELLATION and any(line.shipped for line in view.lines):
            message = f"of order {heading.number} something was despatched: close it instead"
            raise ConflictError(message, code="ORDER_SHIPPED", field="number", state=view.state)
    document = Document(DocumentKind.ORDER, heading.number, view.seller, heading.issue_time, function)
    return documents.issue(session, document, (), note=heading.note)


# --- invoice ---


def invoice(session: Session, heading: Heading, order: DocumentReference, lines: Sequence[TermsLine]) -> Accepted:
    """Invoice what was shipped of an order; no lines mean all that was not invoiced yet.

    Raises:
        ConflictError: More than was shipped (INVOICE_TOO_MUCH), or nothing is left to invoice (NOTHING_TO_INVOICE).
        MalformedError: A line is none of the order's (LINE_UNKNOWN).
    """
    view = order_of(session, order, by_buyer=False)
    known = standing(session, DocumentKind.INVOICE, heading.number)
    if known is not None:
        return said_before(session, known, lines, same=order in known.filed.document.references)
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
