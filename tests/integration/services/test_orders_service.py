"""Orders over gRPC between two organisations: every call, its answer, and what it refuses."""

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import document_pb2
from medtrail.api.orders.v1 import orders_pb2, orders_pb2_grpc
from medtrail.errors import (
    ConflictError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    TooLargeError,
    VerificationError,
)
from tests.integration.services.conftest import GTIN, Client, Play, World, request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable

LINE = document_pb2.TermsLine(gtin=GTIN, quantity="4", price="9.50", currency="EUR", requested_date="2026-12-01")
ANSWER = document_pb2.TermsLine(line_number=1, status=document_pb2.LINE_STATUS_ACCEPTED)
SERIALS = ("O1", "O2", "O3", "O4")
EPCS = tuple(f"https://id.gs1.org/01/{GTIN}/21/{serial}" for serial in SERIALS)


def stub(client: Client) -> Any:
    return orders_pb2_grpc.OrderServiceStub(client.channel)


async def order_of(client: Client, buyer: Client, number: str = "P1") -> orders_pb2.Order:
    answer = await stub(client).GetOrder(orders_pb2.GetOrderRequest(buyer=buyer.gln, number=number))
    order: orders_pb2.Order = answer.order
    return order


async def code_of(call: "Awaitable[object]", kind: type[MedtrailError]) -> tuple[str, str | None]:
    with pytest.raises(kind) as caught:
        await call
    return caught.value.code, caught.value.field


def place(seller: Client, number: str = "P1", *lines: document_pb2.TermsLine, **fields: Any) -> Any:
    return orders_pb2.PlaceOrderRequest(
        request_id=request_id(), number=number, seller=seller.gln, lines=lines or [LINE], **fields
    )


async def in_state(world: World, buyer: Client, seller: Client, state: str, number: str = "P1") -> None:
    """Wait until both sides see an order in a state."""

    async def seen(client: Client) -> bool:
        try:
            order = await order_of(client, buyer, number)
        except NotFoundError:
            return False
        return orders_pb2.OrderState.Name(order.state) == f"ORDER_STATE_{state}"

    for client in (buyer, seller):
        await world.eventually(lambda client=client: seen(client))  # type: ignore[misc]


def test_an_order_runs_its_course_over_grpc(play: Play) -> None:
    async def scenario(world: World) -> None:
        maker, pharmacy = await world.start("maker"), await world.start("pharmacy")
        buying, selling = stub(pharmacy), stub(maker)
        request = place(maker, ship_to=pharmacy.gln, note="urgent")
        placed = (await buying.PlaceOrder(request)).document
        assert (placed.name.kind, placed.name.number, placed.name.issuer) == ("po", "P1", pharmacy.gln)
        # Asked again it is the same answer; asked anew it is a resend.
        assert (await buying.PlaceOrder(request)).document == placed
        request.request_id = request_id()
        assert (await buying.PlaceOrder(request)).document.resend
        await in_state(world, pharmacy, maker, "PLACED")
        order = await order_of(maker, pharmacy)
        assert (order.seller, order.ship_to, order.note) == (maker.gln, pharmacy.gln, "urgent")
        assert order.lines[0].ordered.price == "9.50"

        await selling.ConfirmOrder(
            orders_pb2.ConfirmOrderRequest(
                request_id=request_id(), number="C1", buyer=pharmacy.gln, order_number="P1", lines=[ANSWER]
            )
        )
        await in_state(world, pharmacy, maker, "CONFIRMED")
        (line,) = (await order_of(pharmacy, pharmacy)).lines
        assert (line.status, line.confirmed_quantity, line.confirmed_date) == (
            document_pb2.LINE_STATUS_ACCEPTED,
            "4",
            "2026-12-01",
        )

        await maker.register()
        await maker.commission(*SERIALS)
        despatch = (await maker.ship(pharmacy, *EPCS)).events[0].event_id
        await selling.IssueDespatchAdvice(
            orders_pb2.IssueDespatchAdviceRequest(request_id=request_id(), number="D1", event_ids=[despatch])
        )
        await in_state(world, pharmacy, maker, "SHIPPED")
        await pharmacy.receive(*EPCS)
        await buying.IssueReceivingAdvice(
            orders_pb2.IssueReceivingAdviceRequest(request_id=request_id(), number="R1", despatch_event_id=despatch)
        )
        await in_state(world, pharmacy, maker, "RECEIVED")
        await selling.IssueInvoice(
            orders_pb2.IssueInvoiceRequest(request_id=request_id(), number="I1", buyer=pharmacy.gln, order_number="P1")
        )
        await in_state(world, pharmacy, maker, "INVOICED")
        order = await order_of(pharmacy, pharmacy)
        assert [item.document.kind for item in order.documents] == ["po", "poc", "desadv", "recadv", "inv"]
        assert [(item.receiving, item.counts[0].count) for item in order.movements] == [(False, 4), (True, 4)]
        assert not order.mismatches
        await _lists(maker, pharmacy, despatch)

    play(scenario)


async def _lists(maker: Client, pharmacy: Client, despatch: str) -> None:
    found = (
        await stub(maker).ListDocuments(orders_pb2.ListDocumentsRequest(page_size=2, include_terms=True))
    ).documents
    assert [item.document.kind for item in found] == ["inv", "recadv"]
    assert found[0].terms.lines[0].price == "9.50"
    request = orders_pb2.ListDocumentsRequest(kind="desadv", partner=pharmacy.gln, number="D1", event_id=despatch)
    (advice,) = (await stub(maker).ListDocuments(request)).documents
    assert (advice.issuer, advice.HasField("terms"), advice.refusal_code) == (maker.gln, False, "")
    for number in ("P2", "P3"):
        await stub(pharmacy).PlaceOrder(place(maker, number))
    seen: list[str] = []
    token = ""
    while True:
        answer = await stub(pharmacy).ListOrders(orders_pb2.ListOrdersRequest(page_size=1, page_token=token))
        seen += [order.number for order in answer.orders]
        token = answer.next_page_token
        if not token:
            break
    assert seen == ["P3", "P2", "P1"]
    documents = await stub(pharmacy).ListDocuments(orders_pb2.ListDocumentsRequest(page_size=1))
    assert documents.next_page_token
    for wanted, numbers in (
        (orders_pb2.ListOrdersRequest(event_id=despatch), ["P1"]),
        (orders_pb2.ListOrdersRequest(open=True), ["P3", "P2"]),
        (orders_pb2.ListOrdersRequest(states=[orders_pb2.ORDER_STATE_INVOICED], partner=maker.gln), ["P1"]),
    ):
        answer = await stub(pharmacy).ListOrders(wanted)
        assert [order.number for order in answer.orders] == numbers


def test_orders_end_and_what_cannot_be_is_refused(play: Play) -> None:
    async def scenario(world: World) -> None:
        maker, pharmacy = await world.start("maker"), await world.start("pharmacy")
        buying, selling = stub(pharmacy), stub(maker)
        for number in ("P1", "P2"):
            await buying.PlaceOrder(place(maker, number))
        end = {"request_id": request_id(), "note": "changed our mind"}
        await buying.CancelOrder(orders_pb2.CancelOrderRequest(number="P1", **end))
        end["request_id"] = request_id()
        await buying.CloseOrder(orders_pb2.CloseOrderRequest(number="P2", **end))
        await in_state(world, pharmacy, maker, "CANCELLED")
        await in_state(world, pharmacy, maker, "CLOSED", "P2")

        ahead = Timestamp(seconds=4_000_000_000)
        many = [LINE] * 1001
        twice = [document_pb2.TermsLine(line_number=1, gtin=GTIN, quantity="1")] * 2
        for request, kind, found in (
            (place(maker, "P 3"), MalformedError, ("DOCUMENT_NUMBER_MALFORMED", "number")),
            (place(maker, "P3", note="x" * 501), MalformedError, ("TEXT_LENGTH", "note")),
            (place(maker, "P3", issue_time=ahead), VerificationError, ("EVENT_IN_FUTURE", "issue_time")),
            (place(maker, "P3", *many), TooLargeError, ("TOO_MANY", "lines")),
            (place(maker, "P3", *twice), MalformedError, ("LINE_TWICE", "lines[1].line_number")),
            (place(maker, "P1", LINE, LINE), ConflictError, ("DOCUMENT_CONFLICT", "number")),
        ):
            assert await code_of(buying.PlaceOrder(request), kind) == found
        unknown = orders_pb2.IssueReceivingAdviceRequest(request_id=request_id(), number="R", despatch_event_id="x:y")
        assert (await code_of(buying.IssueReceivingAdvice(unknown), NotFoundError))[0] == "DESPATCH_UNKNOWN"
        nobody = orders_pb2.IssueDespatchAdviceRequest(
            request_id=request_id(), number="D", order_number="P2", event_ids=["x:y"]
        )
        assert await code_of(selling.IssueDespatchAdvice(nobody), MalformedError) == ("FIELD_MISSING", "buyer")
        odd = orders_pb2.ListOrdersRequest.FromString(b"\x1a\x01\x63")
        assert await code_of(buying.ListOrders(odd), MalformedError) == ("STATE_UNKNOWN", "states")
        for request in (orders_pb2.ListDocumentsRequest(kind="bol"), orders_pb2.ListDocumentsRequest(partner="1")):
            with pytest.raises(MalformedError):
                await buying.ListDocuments(request)
        missing = buying.GetOrder(orders_pb2.GetOrderRequest(number="P9"))
        assert await code_of(missing, NotFoundError) == ("ORDER_UNKNOWN", "number")
        # Dated before it was sent, which a caller may.
        past = Timestamp(seconds=1_772_352_000)
        await buying.PlaceOrder(place(maker, "P4", issue_time=past))
        assert (await order_of(pharmacy, pharmacy, "P4")).issue_time == past
        rejected = document_pb2.TermsLine(line_number=1, status=document_pb2.LINE_STATUS_REJECTED)
        confirming = orders_pb2.ConfirmOrderRequest(
            request_id=request_id(), number="C4", buyer=pharmacy.gln, order_number="P4", lines=[rejected]
        )
        await in_state(world, pharmacy, maker, "PLACED", "P4")
        await selling.ConfirmOrder(confirming)
        await in_state(world, pharmacy, maker, "CANCELLED", "P4")

    play(scenario)


def test_letters_wait_for_a_partner_that_is_away(play: Play) -> None:
    async def scenario(world: World) -> None:
        pharmacy, maker = await world.start("pharmacy"), await world.start("maker")
        await world.stop("maker")
        await stub(pharmacy).PlaceOrder(place(maker))
        await stub(pharmacy).CancelOrder(orders_pb2.CancelOrderRequest(request_id=request_id(), number="P1"))
        maker = await world.start("maker")
        await in_state(world, pharmacy, maker, "CANCELLED")

        async def nothing_waits() -> bool:
            status = await pharmacy.custody.GetStatus(custody_pb2.GetStatusRequest())
            return status.events.count == status.messages.count == 0

        await world.eventually(nothing_waits)

    play(scenario)
