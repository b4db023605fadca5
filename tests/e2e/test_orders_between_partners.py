"""An order from placing to invoice, by the commands of a buyer and a seller on a running network."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.orders.v1 import orders_pb2, orders_pb2_grpc
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.errors import AuthorizationError, MalformedError, NotFoundError
from medtrail.event import PayloadType
from medtrail.gs1 import Gln
from medtrail.runtime.client import connect
from medtrail.runtime.folder import OrganisationFolder
from tests.e2e.conftest import believed, until

if TYPE_CHECKING:
    from medtrail.cli.session import Session
    from tests.e2e.conftest import Net

GTIN = "00300010123455"
SERIALS = tuple(f"ORDERED{number}" for number in range(5))
EPCS = tuple(f"https://id.gs1.org/01/{GTIN}/21/{serial}" for serial in SERIALS)
MAKER, PHARMACY, STRANGER = "gs1-pharma", "hilltop-pharmacy", "harbour-pharmacy"


async def find(session: "Session", buyer: str, number: str) -> orders_pb2.Order | None:
    try:
        request = orders_pb2.GetOrderRequest(buyer=buyer, number=number)
        return (await session.orders.GetOrder(request)).order
    except NotFoundError:
        return None


async def reached(session: "Session", buyer: str, number: str, state: str) -> None:
    """Wait until an order is in a state, as one side sees it."""

    async def condition() -> bool:
        order = await find(session, buyer, number)
        return order is not None and orders_pb2.OrderState.Name(order.state) == f"ORDER_STATE_{state}"

    await until(condition)


def on_both_sides(net: "Net", number: str, state: str) -> None:
    async def work() -> None:
        buyer = net.gln(PHARMACY)
        async with net.session(MAKER) as maker, net.session(PHARMACY) as pharmacy:
            await reached(maker, buyer, number, state)
            await reached(pharmacy, buyer, number, state)

    asyncio.run(work())


def issued(net: "Net", who: str, *arguments: str) -> Any:
    run = net.medtrail("orders", *arguments, "--json", who=who)
    assert run.code == 0, run.errors
    return run.document


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.csv"
    path.write_text(f"gtin,quantity,price,currency,requested_date\n{GTIN},5,12.34,EUR,2026-12-01\n")
    return path


def test_an_order_runs_its_course_by_commands_and_both_sides_and_the_log_have_it(net: "Net", lines: Path) -> None:
    maker, pharmacy = net.gln(MAKER), net.gln(PHARMACY)
    placed = issued(net, PHARMACY, "place", "P-100", "--seller", maker, "--lines", str(lines), "--note", "urgent")
    assert (placed["kind"], placed["number"], placed["resend"]) == ("po", "P-100", False)
    on_both_sides(net, "P-100", "PLACED")
    again = issued(net, PHARMACY, "place", "P-100", "--seller", maker, "--lines", str(lines), "--note", "urgent")
    assert again == {**placed, "resend": True}
    other = net.medtrail("orders", "place", "P-100", "--seller", maker, "--lines", str(lines), "--json", who=PHARMACY)
    assert (other.code, other.error["code"]) == (1, "DOCUMENT_CONFLICT")

    issued(net, MAKER, "confirm", "C-100", "--buyer", pharmacy, "--order", "P-100")
    on_both_sides(net, "P-100", "CONFIRMED")
    despatch = asyncio.run(ship(net, "P-100"))
    issued(net, MAKER, "despatch-advice", "D-100", despatch)
    on_both_sides(net, "P-100", "SHIPPED")
    asyncio.run(receive(net))
    issued(net, PHARMACY, "receiving-advice", "R-100", despatch)
    on_both_sides(net, "P-100", "RECEIVED")
    issued(net, MAKER, "invoice", "I-100", "--buyer", pharmacy, "--order", "P-100")
    on_both_sides(net, "P-100", "INVOICED")

    shown = net.medtrail("orders", "show", "P-100", "--json", who=PHARMACY).document
    (line,) = shown["lines"]
    assert (line["shipped_quantity"], line["received_quantity"], line["invoiced_quantity"]) == ("5", "5", "5")
    assert shown.get("mismatches", []) == []
    text = net.medtrail("orders", "show", "P-100", "--buyer", pharmacy, who=MAKER)
    assert text.code == 0
    assert "Order P-100" in text.out
    assert "invoiced" in text.out
    listed = net.medtrail("orders", "list", "--event", despatch, "--json", who=MAKER).document
    assert [order["number"] for order in listed["orders"]] == ["P-100"]
    assert "P-100" in net.medtrail("orders", "list", "--state", "invoiced", who=MAKER).out
    asyncio.run(in_the_log(net, placed["event_id"], placed["issuer"]))


async def ship(net: "Net", order: str) -> str:
    async with net.session(MAKER) as maker, net.session(PHARMACY) as pharmacy:
        await maker.manufacturer.Commission(
            manufacturer_pb2.CommissionRequest(
                request_id=str(uuid.uuid4()), gtin=GTIN, lot="O1", expiry="2030-12-31", serials=SERIALS
            )
        )
        shipped = await maker.custody.Ship(
            custody_pb2.ShipRequest(
                request_id=str(uuid.uuid4()),
                epcs=EPCS,
                destination_party=net.gln(PHARMACY),
                purchase_order=order,
            )
        )
        event_id = shipped.events[-1].event_id
        await believed(maker, event_id)
        await reached(pharmacy, net.gln(PHARMACY), order, "SHIPPED")
        return event_id


async def receive(net: "Net") -> None:
    async with net.session(PHARMACY) as pharmacy:
        await pharmacy.custody.Receive(custody_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=EPCS))


async def in_the_log(net: "Net", event_id: str, issuer: str) -> None:
    """The order is chained, and found by what it is and by its name; its terms are not there."""
    async with net.session(MAKER) as maker:
        await believed(maker, event_id)
        for request in (
            ledger_pb2.ListEventsRequest(payload_types=[PayloadType.DOCUMENT.value], actor=issuer),
            ledger_pb2.ListEventsRequest(epc=f"urn:epcglobal:cbv:bt:{issuer}:P-100"),
        ):
            answer = await maker.ledger.ListEvents(request)
            signed = [decode_signed_event(event.signed_event) for event in answer.events]
            found = [decode_payload(item.payload_type, item.payload) for item in signed]
            assert event_id in [event.header.event_id for event in found]
            assert all(b"12.34" not in event.signed_event for event in answer.events)


def test_documents_are_listed_with_their_terms_to_their_parties_only(net: "Net", lines: Path) -> None:
    maker = net.gln(MAKER)
    issued(net, PHARMACY, "place", "P-200", "--seller", maker, "--lines", str(lines))
    on_both_sides(net, "P-200", "PLACED")
    found = net.medtrail("orders", "documents", "--number", "P-200", "--terms", "--json", who=MAKER).document
    (document,) = found["documents"]
    (line,) = document["terms"]["lines"]
    assert (line["gtin"], line["price"], line["currency"]) == (GTIN, "12.34", "EUR")
    assert "12.34 EUR" in net.medtrail("orders", "documents", "--number", "P-200", "--terms", who=PHARMACY).out
    assert net.medtrail("orders", "documents", "--kind", "po", "--json", who=STRANGER).document["documents"] == []
    missing = net.medtrail("orders", "show", "P-200", "--buyer", net.gln(PHARMACY), "--json", who=STRANGER)
    assert (missing.code, missing.error["code"]) == (1, "ORDER_UNKNOWN")


def test_an_order_is_changed_in_part_and_cancelled(net: "Net", lines: Path, tmp_path: Path) -> None:
    maker, pharmacy = net.gln(MAKER), net.gln(PHARMACY)
    issued(net, PHARMACY, "place", "P-300", "--seller", maker, "--lines", str(lines))
    on_both_sides(net, "P-300", "PLACED")
    answers = tmp_path / "answers.json"
    answers.write_text(
        json.dumps(
            [
                {
                    "line_number": 1,
                    "status": "back-ordered",
                    "quantity": "2",
                    "confirmed_date": "2026-12-24",
                    "lots": ["X"],
                }
            ]
        )
    )
    issued(net, MAKER, "confirm", "C-300", "--buyer", pharmacy, "--order", "P-300", "--lines", str(answers))
    on_both_sides(net, "P-300", "CONFIRMED")
    (line,) = net.medtrail("orders", "show", "P-300", "--json", who=PHARMACY).document["lines"]
    assert (line["confirmed_quantity"], line["back_ordered_quantity"], line["confirmed_date"]) == (
        "2",
        "3",
        "2026-12-24",
    )
    issued(net, PHARMACY, "cancel", "P-300", "--note", "not needed")
    on_both_sides(net, "P-300", "CANCELLED")
    ended = net.medtrail("orders", "close", "P-300", "--json", who=PHARMACY)
    assert (ended.code, ended.error["code"]) == (1, "ORDER_ENDED")
    assert "P-300" not in net.medtrail("orders", "list", "--open", who=PHARMACY).out


def test_only_the_organisation_itself_uses_its_orders(net: "Net") -> None:
    async def work() -> None:
        async with net.session(STRANGER) as stranger:
            foreign = net.running.organisation(MAKER)
            request = orders_pb2.ListOrdersRequest(page_token="x")
            with pytest.raises(MalformedError):
                await stranger.orders.ListOrders(request)
            folder = OrganisationFolder(Path(net.running.organisation(STRANGER).folder))
            channel = connect(foreign.address, folder=folder, audience=Gln(foreign.gln), server=foreign.name)
            async with channel:
                with pytest.raises(AuthorizationError) as caught:
                    await orders_pb2_grpc.OrderServiceStub(channel).ListOrders(orders_pb2.ListOrdersRequest())
            assert caught.value.code == "CALLER_NOT_OWN"

    asyncio.run(work())
