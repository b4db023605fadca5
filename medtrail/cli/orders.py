"""``medtrail orders``: documents issued and listed, orders shown with the quantities of every line."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table

from medtrail import codec
from medtrail.api.event.v1 import document_pb2
from medtrail.api.orders.v1 import orders_pb2
from medtrail.cli.main import Globals
from medtrail.cli.orders_files import read_lines
from medtrail.cli.render import format_time
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError

MAX_LISTED = 1000
"""Rows that a list shows at most."""

Issued = Callable[[Session], Awaitable[Any]]


def run_place(found: Globals, number: str, *, seller: str, lines: Path, ship_to: str, note: str) -> None:
    """Order goods."""
    request = orders_pb2.PlaceOrderRequest(
        request_id=_new_id(), number=number, seller=seller, lines=read_lines(lines), ship_to=ship_to, note=note
    )
    _issue(found, lambda session: session.orders.PlaceOrder(request))


def run_confirm(found: Globals, number: str, *, buyer: str, order: str, lines: Path | None, note: str) -> None:
    """Answer an order."""
    request = orders_pb2.ConfirmOrderRequest(
        request_id=_new_id(), number=number, buyer=buyer, order_number=order, lines=read_lines(lines), note=note
    )
    _issue(found, lambda session: session.orders.ConfirmOrder(request))


def run_cancel(found: Globals, number: str, *, note: str) -> None:
    """Withdraw an order."""
    request = orders_pb2.CancelOrderRequest(request_id=_new_id(), number=number, note=note)
    _issue(found, lambda session: session.orders.CancelOrder(request))


def run_close(found: Globals, number: str, *, note: str) -> None:
    """End an order."""
    request = orders_pb2.CloseOrderRequest(request_id=_new_id(), number=number, note=note)
    _issue(found, lambda session: session.orders.CloseOrder(request))


def run_despatch_advice(
    found: Globals, number: str, *, events: Sequence[str], buyer: str, order: str, lines: Path | None, note: str
) -> None:
    """Tell what despatches hold."""
    request = orders_pb2.IssueDespatchAdviceRequest(
        request_id=_new_id(),
        number=number,
        buyer=buyer,
        order_number=order,
        event_ids=events,
        lines=read_lines(lines),
        note=note,
    )
    _issue(found, lambda session: session.orders.IssueDespatchAdvice(request))


def run_receiving_advice(found: Globals, number: str, *, event: str, lines: Path | None, note: str) -> None:
    """Tell what came of a despatch."""
    request = orders_pb2.IssueReceivingAdviceRequest(
        request_id=_new_id(), number=number, despatch_event_id=event, lines=read_lines(lines), note=note
    )
    _issue(found, lambda session: session.orders.IssueReceivingAdvice(request))


def run_invoice(found: Globals, number: str, *, buyer: str, order: str, lines: Path | None, note: str) -> None:
    """Invoice what was shipped."""
    request = orders_pb2.IssueInvoiceRequest(
        request_id=_new_id(), number=number, buyer=buyer, order_number=order, lines=read_lines(lines), note=note
    )
    _issue(found, lambda session: session.orders.IssueInvoice(request))


def _new_id() -> str:
    return str(uuid.uuid4())


def _issue(found: Globals, call: Issued) -> None:
    async def work(session: Session) -> orders_pb2.IssuedDocument:
        issued: orders_pb2.IssuedDocument = (await call(session)).document
        return issued

    issued = run_session(found, work)
    document = {
        "kind": issued.name.kind,
        "number": issued.name.number,
        "issuer": issued.name.issuer,
        "event_id": issued.event_id,
        "signed_event_sha256": issued.signed_event_sha256.hex(),
        "resend": issued.resend,
    }

    def draw(console: Console) -> None:
        again = ", as before" if issued.resend else ""
        console.print(f"{issued.name.kind} {issued.name.number} is issued{again}.", markup=False)
        console.print(f"event {issued.event_id}", markup=False, soft_wrap=True)

    found.output.answer(document, draw)


# --- lists ---


def run_list(found: Globals, *, states: Sequence[str], partner: str, event: str, only_open: bool) -> None:
    """List orders."""
    wanted = [state_of(state) for state in states]

    async def work(session: Session) -> tuple[list[orders_pb2.Order], bool]:
        listed: list[orders_pb2.Order] = []
        token = ""
        while True:
            answer = await session.orders.ListOrders(
                orders_pb2.ListOrdersRequest(
                    page_token=token, states=wanted, partner=partner, event_id=event, open=only_open
                )
            )
            listed += answer.orders
            token = answer.next_page_token
            if not token or len(listed) >= MAX_LISTED:
                return listed[:MAX_LISTED], bool(token)

    orders, more = run_session(found, work)
    document = {"orders": [order_document(order) for order in orders], "more": more}

    def draw(console: Console) -> None:
        table = Table("Order", "Buyer", "Seller", "State", "Placed", "Mismatches")
        for order in orders:
            table.add_row(
                order.number,
                order.buyer,
                order.seller,
                state_name(order),
                _time(order),
                str(order.mismatch_count or ""),
            )
        console.print(table)
        if more:
            console.print(f"There are more than {MAX_LISTED}; narrow the list.", markup=False)

    found.output.answer(document, draw)


def run_documents(found: Globals, *, kind: str, partner: str, number: str, event: str, terms: bool) -> None:
    """List documents."""

    async def work(session: Session) -> tuple[list[orders_pb2.DocumentSummary], bool]:
        listed: list[orders_pb2.DocumentSummary] = []
        token = ""
        while True:
            answer = await session.orders.ListDocuments(
                orders_pb2.ListDocumentsRequest(
                    page_token=token, kind=kind, partner=partner, number=number, event_id=event, include_terms=terms
                )
            )
            listed += answer.documents
            token = answer.next_page_token
            if not token or len(listed) >= MAX_LISTED:
                return listed[:MAX_LISTED], bool(token)

    documents, more = run_session(found, work)
    found.output.answer(
        {"documents": [document_document(item) for item in documents], "more": more},
        lambda console: _draw_documents(console, documents),
    )


def _draw_documents(console: Console, documents: Sequence[orders_pb2.DocumentSummary]) -> None:
    table = Table("Kind", "Number", "Issuer", "To", "Refers to", "Refused")
    for item in documents:
        document = item.document
        function = document_pb2.DocumentFunction.Name(document.function).removeprefix("DOCUMENT_FUNCTION_").lower()
        kind = document.kind if not document.function else f"{document.kind}, {function}"
        references = ", ".join(f"{name.kind} {name.number}" for name in document.references)
        table.add_row(kind, document.number, item.issuer, document.counterparty, references, item.refusal_code)
    console.print(table)
    for item in documents:
        if item.HasField("terms"):
            console.print(f"{item.document.kind} {item.document.number}", markup=False)
            console.print(_terms_table(item.terms))


def _terms_table(terms: document_pb2.DocumentTerms) -> Table:
    table = Table("Line", "GTIN", "Quantity", "Price", "Dates", "Lots", "Answer")
    for line in terms.lines:
        status = document_pb2.LineStatus.Name(line.status).removeprefix("LINE_STATUS_").lower() if line.status else ""
        table.add_row(
            str(line.line_number),
            line.gtin,
            f"{line.quantity} {line.uom}".strip(),
            f"{line.price} {line.currency}".strip(),
            ", ".join(day for day in (line.requested_date, line.confirmed_date) if day),
            ", ".join(line.lots),
            status,
        )
    return table


# --- one order ---


def run_show(found: Globals, number: str, *, buyer: str) -> None:
    """Show an order."""

    async def work(session: Session) -> orders_pb2.Order:
        return (await session.orders.GetOrder(orders_pb2.GetOrderRequest(buyer=buyer, number=number))).order

    order = run_session(found, work)
    found.output.answer(order_document(order), lambda console: draw_order(console, order))


def draw_order(console: Console, order: orders_pb2.Order) -> None:
    """Draw an order for a person."""
    console.print(f"Order {order.number} of {order.buyer} to {order.seller}: {state_name(order)}", markup=False)
    table = Table(
        "Line", "GTIN", "Ordered", "Confirmed", "By", "Shipped", "Received", "Invoiced", "Open", "Back-ordered"
    )
    for line in order.lines:
        table.add_row(
            str(line.ordered.line_number),
            line.ordered.gtin,
            f"{line.ordered.quantity} {line.ordered.uom}".strip(),
            line.confirmed_quantity,
            line.confirmed_date or line.ordered.requested_date,
            line.shipped_quantity,
            line.received_quantity,
            line.invoiced_quantity,
            line.open_quantity,
            line.back_ordered_quantity,
        )
    console.print(table)
    for item in order.documents:
        console.print(f"{item.document.kind} {item.document.number} by {item.issuer}", markup=False)
    for movement in order.movements:
        what = "received" if movement.receiving else "shipped"
        counts = ", ".join(f"{count.count} x {count.gtin}" for count in movement.counts)
        console.print(f"{what} {counts}: {movement.event_id}", markup=False, soft_wrap=True)
    for mismatch in order.mismatches:
        facts = [mismatch.kind, f"line {mismatch.line_number}" if mismatch.line_number else "", mismatch.gtin]
        facts += [
            f"wanted {mismatch.wanted}" if mismatch.wanted else "",
            f"found {mismatch.found}" if mismatch.found else "",
        ]
        console.print(", ".join(fact for fact in facts if fact), style="bold red", markup=False)


def order_document(order: orders_pb2.Order) -> dict[str, Any]:
    """Return an order for a machine."""
    document = _plain(order)
    document["state"] = state_name(order)
    document["issue_time"] = _time(order)
    return document


def document_document(item: orders_pb2.DocumentSummary) -> dict[str, Any]:
    """Return a document for a machine."""
    document = _plain(item)
    document["signed_event_sha256"] = item.signed_event_sha256.hex()
    return document


def _plain(message: orders_pb2.Order | orders_pb2.DocumentSummary) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def _time(order: orders_pb2.Order) -> str:
    return format_time(codec.from_timestamp(order.issue_time, field="issue_time"))


def state_name(order: orders_pb2.Order) -> str:
    """Return the word of an order's state."""
    return orders_pb2.OrderState.Name(order.state).removeprefix("ORDER_STATE_").lower()


def state_of(text: str) -> orders_pb2.OrderState.ValueType:
    """Return a state by its word.

    Raises:
        MalformedError: There is none (STATE_UNKNOWN).
    """
    try:
        return orders_pb2.OrderState.Value(f"ORDER_STATE_{text.upper().replace('-', '_')}")
    except ValueError:
        known = ", ".join(name.removeprefix("ORDER_STATE_").lower() for name in orders_pb2.OrderState.keys()[1:])
        message = f"expected one of {known}; got {text[:40]!r}"
        raise MalformedError(message, code="STATE_UNKNOWN", field="--state") from None
