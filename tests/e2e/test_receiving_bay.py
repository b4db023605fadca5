"""A receiving bay worked by commands: what a wedge scanner types, line by line, until the delivery is closed."""

import asyncio
import io
import json
import sys
import uuid
from typing import TYPE_CHECKING, Any
from unittest import mock

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.errors import NotFoundError
from tests.e2e.conftest import believed, until

if TYPE_CHECKING:
    from tests.e2e.conftest import Net
    from tests.support.command import Run

GTIN = "00300010123455"
MAKER, PHARMACY = "gs1-pharma", "hilltop-pharmacy"
SERIALS = tuple(f"BAY{number}" for number in range(6))
SSCC = "https://id.gs1.org/00/003000190000000016"


def epc(serial: str) -> str:
    return f"https://id.gs1.org/01/{GTIN}/21/{serial}"


def typed(serial: str, *, lot: str = "B1") -> str:
    """What a scanner that is set up right types."""
    return f"]d201{GTIN}21{serial}\x1d17301231" + f"10{lot}"


async def shipped(net: "Net") -> str:
    """Four packs in a case go to the pharmacy; two more go along without data."""
    async with net.session(MAKER) as maker, net.session(PHARMACY) as pharmacy:
        commissioned = await maker.manufacturer.Commission(
            manufacturer_pb2.CommissionRequest(
                request_id=str(uuid.uuid4()), gtin=GTIN, lot="B1", expiry="2030-12-31", serials=SERIALS
            )
        )
        await maker.custody.Pack(
            custody_pb2.PackRequest(
                request_id=str(uuid.uuid4()), parent=SSCC, children=[epc(serial) for serial in SERIALS[:4]]
            )
        )
        despatch = await ship(net, SSCC)

        async def advised() -> bool:
            found = (await pharmacy.custody.ListInbound(custody_pb2.ListInboundRequest())).shipments
            return any(item.despatch_event_id == despatch for item in found)

        await until(advised)
        # Of what no advice names, the ledger alone can tell that there is such a pack.
        await believed(pharmacy, commissioned.events[-1].event_id)
        return despatch


async def ship(net: "Net", *epcs: str) -> str:
    async with net.session(MAKER) as maker:
        request = custody_pb2.ShipRequest(
            request_id=str(uuid.uuid4()), epcs=epcs, destination_party=net.gln(PHARMACY), purchase_order="BAY-1"
        )
        return (await maker.custody.Ship(request)).events[0].event_id


async def held(net: "Net", serial: str) -> None:
    async with net.session(PHARMACY) as pharmacy:

        async def here() -> bool:
            try:
                found = await pharmacy.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=epc(serial)))
            except NotFoundError:
                return False
            return not found.holding.exception_code and bool(found.holding.location)

        await until(here)


def receive(net: "Net", *arguments: str, keys: str = "") -> "Run":
    with mock.patch.object(sys, "stdin", io.StringIO(keys)):
        return net.medtrail("receive", *arguments, who=PHARMACY)


def answers(run: "Run") -> list[Any]:
    return [json.loads(line) for line in run.out.splitlines()]


def test_a_delivery_is_scanned_by_keyboard_closed_and_settled(net: "Net") -> None:
    despatch = asyncio.run(shipped(net))
    opened = receive(net, "open", "--despatch", despatch, "--sample", "0", "--json")
    assert opened.code == 0, opened.errors
    delivery = opened.document["delivery_id"]
    assert opened.document["counts"]["expected"] == 4

    keys = [SSCC, typed("BAY0"), ":damaged", typed("BAY1"), typed("BAY4"), ":undo", typed("BAY4"), "", ":nonsense"]
    first = receive(net, "scan", delivery, "--station", "left", "--json", keys="\n".join([*keys, "oops", ""]))
    assert first.code == 1
    codes = [answer.get("code") for answer in answers(first)]
    assert codes.count("MATCH") == 3
    assert codes.count("OVER") == 2
    assert sum("undone" in answer for answer in answers(first)) == 1
    assert "COMMAND_UNKNOWN" in first.out
    assert codes[-1] == "UNREADABLE"
    # Started anew the station goes on behind its last number.
    second = receive(
        net, "scan", "last", "--station", "left", keys=typed("BAY0") + "\n:from " + SSCC + "\n" + typed("BAY2")
    )
    assert second.code == 0, second.out + second.errors
    assert "ALREADY_SCANNED" in second.out
    assert "found 4 of 4" in second.out

    shown = receive(net, "show", delivery, "--only", "excepted", "--json").document
    assert [unit["epc"] for unit in shown["units"]] == [epc("BAY4")]
    assert "OVER" in receive(net, "show", delivery, "--only", "all").out
    odd = receive(net, "show", delivery, "--only", "odd", "--json")
    assert (odd.code, odd.error["code"]) == (2, "ONLY_UNKNOWN")

    closed = receive(net, "close", delivery, "--json")
    assert closed.code == 0, closed.errors
    assert (closed.document["state"], len(closed.document["case_ids"])) == ("closed", 2)
    late = receive(net, "scan", delivery, "--json", keys=typed("BAY5") + "\n")
    assert (late.code, late.error["code"]) == (1, "DELIVERY_CLOSED")
    # The sender says what it forgot: the pack is received, and nobody scans again.
    asyncio.run(ship(net, epc("BAY4")))
    asyncio.run(held(net, "BAY4"))
    units = receive(net, "show", delivery, "--only", "all", "--json").document["units"]
    assert {unit["epc"]: unit["posting"] for unit in units}[epc("BAY4")] == "received_later"

    wrong = receive(net, "reopen", delivery, epc("BAY0"), "--json")
    assert (wrong.code, wrong.error["code"]) == (1, "UNIT_NOT_MISSING")
    told = receive(net, "concealed", delivery, "--short", epc("BAY3"), "--over", typed("BAY5"), "--json")
    assert told.code == 0, told.errors
    assert told.document["counts"]["missing"] == 1
    again = receive(net, "reopen", delivery, epc("BAY3"))
    assert (again.code, "reopened" in again.out) == (0, True)
    assert receive(net, "scan", delivery, keys=typed("BAY3") + "\n").code == 0
    assert "closed" in receive(net, "close", delivery).out
    listed = receive(net, "list", "--json").document["deliveries"]
    assert [item["delivery_id"] for item in listed] == [delivery]
    assert delivery in receive(net, "list").out
