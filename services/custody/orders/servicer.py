"""OrderService: from messages to commands and back. Rules stand elsewhere."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from medtrail.api.orders.v1 import orders_pb2, orders_pb2_grpc
from medtrail.codec.document import to_document_kind, to_document_number
from medtrail.document import DocumentKind, DocumentReference
from medtrail.errors import MalformedError, NotFoundError
from medtrail.gs1 import Gln
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from services.custody.desk import Accepted, Session
from services.custody.office import Office, parse_gln
from services.custody.orders import advices, book, commands, links
from services.custody.orders.book import DocumentQuery, OrderQuery
from services.custody.orders.commands import Heading
from services.custody.orders.messages import (
    complete_answers,
    document_to_summary,
    heading_of,
    issue_time_of,
    issued_to_message,
    lines_from_messages,
    order_to_message,
    states_from_messages,
    view_to_message,
)

M = TypeVar("M", bound=Message)
Command = Callable[[Session, Heading], Accepted]


class OrderServicer(orders_pb2_grpc.OrderServiceServicer):
    """Orders and their documents, for one organisation."""

    def __init__(self, office: Office) -> None:
        """Hold the office."""
        self._office = office

    async def _issue(self, request: Message, answer: type[M], kind: DocumentKind, command: Command) -> M:
        """Answer a request that issues a document, once."""
        number, note = getattr(request, "number"), getattr(request, "note")  # noqa: B009  # of several messages
        to_document_number(number, field="number")
        dated = "issue_time" in request.DESCRIPTOR.fields_by_name

        def work(session: Session) -> M:
            issue_time = issue_time_of(request, now=session.now) if dated else None
            accepted = command(session, heading_of(session, number=number, note=note, issue_time=issue_time))
            name = DocumentReference(kind, number, session.desk.gln)
            return answer(document=issued_to_message(accepted, name))

        return await self._office.write(request, answer, work)

    async def PlaceOrder(
        self, request: orders_pb2.PlaceOrderRequest, context: Context
    ) -> orders_pb2.PlaceOrderResponse:
        """Order goods from a seller."""
        seller = parse_gln(request.seller, field="seller")
        ship_to = parse_gln(request.ship_to, field="ship_to") if request.ship_to else None
        lines = lines_from_messages(list(request.lines))

        def command(session: Session, heading: Heading) -> Accepted:
            return commands.place(session, heading, lines, seller=seller, ship_to=ship_to)

        return await self._issue(request, orders_pb2.PlaceOrderResponse, DocumentKind.ORDER, command)

    async def ConfirmOrder(
        self, request: orders_pb2.ConfirmOrderRequest, context: Context
    ) -> orders_pb2.ConfirmOrderResponse:
        """Answer an order line by line."""
        order = _order(request.buyer, request.order_number)

        def command(session: Session, heading: Heading) -> Accepted:
            view = book.view_order(session.connection, order)
            answers = lines_from_messages(complete_answers(list(request.lines), view))
            return commands.confirm(session, heading, order, answers)

        return await self._issue(request, orders_pb2.ConfirmOrderResponse, DocumentKind.CONFIRMATION, command)

    async def CancelOrder(
        self, request: orders_pb2.CancelOrderRequest, context: Context
    ) -> orders_pb2.CancelOrderResponse:
        """Withdraw an order."""
        return await self._issue(request, orders_pb2.CancelOrderResponse, DocumentKind.ORDER, commands.cancel)

    async def CloseOrder(
        self, request: orders_pb2.CloseOrderRequest, context: Context
    ) -> orders_pb2.CloseOrderResponse:
        """End an order."""
        return await self._issue(request, orders_pb2.CloseOrderResponse, DocumentKind.ORDER, commands.close)

    async def IssueDespatchAdvice(
        self, request: orders_pb2.IssueDespatchAdviceRequest, context: Context
    ) -> orders_pb2.IssueDespatchAdviceResponse:
        """Tell what despatches hold."""
        if request.order_number and not request.buyer:
            message = "an order is named by its buyer and its number"
            raise MalformedError(message, code="FIELD_MISSING", field="buyer")
        order = _order(request.buyer, request.order_number) if request.order_number else None
        lines = lines_from_messages(list(request.lines))

        def command(session: Session, heading: Heading) -> Accepted:
            return advices.advise_despatch(session, heading, order, tuple(request.event_ids), lines)

        return await self._issue(request, orders_pb2.IssueDespatchAdviceResponse, DocumentKind.DESPATCH_ADVICE, command)

    async def IssueReceivingAdvice(
        self, request: orders_pb2.IssueReceivingAdviceRequest, context: Context
    ) -> orders_pb2.IssueReceivingAdviceResponse:
        """Tell what came of a despatch."""
        lines = lines_from_messages(list(request.lines)) if request.lines else None

        def command(session: Session, heading: Heading) -> Accepted:
            made = advices.advise_received(session, heading, despatch_id=request.despatch_event_id, lines=lines)
            if made is None:
                message = "the sender of the despatch is not enrolled: it has no inbox"
                raise NotFoundError(message, code="PARTNER_UNKNOWN", field="despatch_event_id")
            return made

        return await self._issue(
            request, orders_pb2.IssueReceivingAdviceResponse, DocumentKind.RECEIVING_ADVICE, command
        )

    async def IssueInvoice(
        self, request: orders_pb2.IssueInvoiceRequest, context: Context
    ) -> orders_pb2.IssueInvoiceResponse:
        """Invoice what was shipped."""
        order = _order(request.buyer, request.order_number)
        lines = lines_from_messages(list(request.lines))

        def command(session: Session, heading: Heading) -> Accepted:
            return commands.invoice(session, heading, order, lines)

        return await self._issue(request, orders_pb2.IssueInvoiceResponse, DocumentKind.INVOICE, command)

    async def GetOrder(self, request: orders_pb2.GetOrderRequest, context: Context) -> orders_pb2.GetOrderResponse:
        """Return an order with all that it comes from."""
        name = _order(request.buyer or str(self._office.desk.gln), request.number)

        def look(connection: Connection) -> orders_pb2.Order:
            view = book.view_order(connection, name)
            if view is None:
                message = f"no order {name.number} of {name.issuer} is known here"
                raise NotFoundError(message, code="ORDER_UNKNOWN", field="number")
            movements = book.movements_of(connection, links.members(connection, name))
            return view_to_message(view, book.documents_of_order(connection, name), movements)

        return orders_pb2.GetOrderResponse(order=await self._office.database.read(look))

    async def ListOrders(
        self, request: orders_pb2.ListOrdersRequest, context: Context
    ) -> orders_pb2.ListOrdersResponse:
        """List orders, newest first."""
        size = page_size(request.page_size, at_most=500)
        before, caller = self._before(request, context, "ListOrders")
        query = OrderQuery(
            states_from_messages(list(request.states)),
            _partner(request.partner),
            request.event_id,
            request.open,
        )
        found = await self._office.database.read(
            lambda connection: book.list_orders(connection, query, before=before, limit=size + 1)
        )
        token = ""
        if len(found) > size:
            token = self._office.tokens.issue(
                (found[size - 1].number,), caller=caller, method="ListOrders", request=request
            )
        return orders_pb2.ListOrdersResponse(
            orders=[order_to_message(item) for item in found[:size]], next_page_token=token
        )

    async def ListDocuments(
        self, request: orders_pb2.ListDocumentsRequest, context: Context
    ) -> orders_pb2.ListDocumentsResponse:
        """List documents, newest first."""
        # With their terms they are large: an answer stays well below what a message may have.
        size = (
            page_size(request.page_size, default=20, at_most=20)
            if request.include_terms
            else page_size(request.page_size, at_most=500)
        )
        before, caller = self._before(request, context, "ListDocuments")
        query = DocumentQuery(
            to_document_kind(request.kind, field="kind") if request.kind else None,
            _partner(request.partner),
            request.number,
            request.event_id,
        )
        found = await self._office.database.read(
            lambda connection: book.list_documents(connection, query, before=before, limit=size + 1)
        )
        token = ""
        if len(found) > size:
            token = self._office.tokens.issue(
                (found[size - 1].event_number,), caller=caller, method="ListDocuments", request=request
            )
        return orders_pb2.ListDocumentsResponse(
            documents=[document_to_summary(item, terms=request.include_terms) for item in found[:size]],
            next_page_token=token,
        )

    def _before(
        self, request: orders_pb2.ListOrdersRequest | orders_pb2.ListDocumentsRequest, context: Context, method: str
    ) -> tuple[int | None, Gln]:
        caller = caller_of(context).organisation.gln
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        return (None if position is None else int(position[0])), caller


def _order(buyer: str, number: str) -> DocumentReference:
    issuer = parse_gln(buyer, field="buyer")
    return book.order_name(issuer, to_document_number(number, field="order_number"))


def _partner(text: str) -> Gln | None:
    return parse_gln(text, field="partner") if text else None


def orders_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.orders.v1.OrderService",
        orders_pb2_grpc.add_OrderServiceServicer_to_server,
        OrderServicer(office),
    )
