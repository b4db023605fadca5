"""Holds, releases by two persons, lots, expiry and returns, by the commands that people type."""

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.codec import to_timestamp
from medtrail.errors import MedtrailError
from services.custody.desk import now_utc
from tests.e2e.conftest import believed, until

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from medtrail.cli.session import Session
    from tests.e2e.conftest import Net

GTIN = "00300010123455"
LOT = "HOLD1"
SERIALS = ("HELD1", "HELD2", "HELD3", "HELD4")
MAKER, PHARMACY = "gs1-pharma", "elm-street-pharmacy"


def epc(serial: str) -> str:
    return f"https://id.gs1.org/01/{GTIN}/21/{serial}"


def scan(serial: str) -> str:
    return f"]d201{GTIN}21{serial}\\x1d1730123110{LOT}"


@pytest.fixture(scope="module")
def stocked(net: "Net") -> None:
    """Packs of a lot that a maker has, and one of them at a pharmacy."""

    async def work() -> None:
        async with net.session(MAKER) as maker, net.session(PHARMACY) as pharmacy:
            await maker.manufacturer.Commission(
                manufacturer_pb2.CommissionRequest(
                    request_id=str(uuid.uuid4()), gtin=GTIN, lot=LOT, expiry="2030-12-31", serials=SERIALS
                )
            )
            await maker.custody.Ship(
                custody_pb2.ShipRequest(
                    request_id=str(uuid.uuid4()), epcs=[epc("HELD4")], destination_party=net.gln(PHARMACY)
                )
            )
            await until(lambda: has(pharmacy, custody_pb2.HOLDING_STATE_INBOUND))
            received = await pharmacy.custody.Receive(
                custody_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=[epc("HELD4")])
            )
            await believed(pharmacy, received.events[-1].event_id)

    asyncio.run(work())


async def has(session: "Session", state: "custody_pb2.HoldingState.ValueType") -> bool:
    try:
        holding = (await session.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=epc("HELD4")))).holding
    except MedtrailError:
        return False
    return holding.state == state and not holding.provisional


def answered(net: "Net", *arguments: str, who: str = MAKER, code: int = 0) -> "Any":
    run = net.medtrail("--json", *arguments, who=who)
    assert run.code == code, (run.out, run.errors)
    return run.document


def mine(units: "list[dict[str, Any]]") -> list[str]:
    return [item["epc"].rpartition("/")[2] for item in units if item["lot"] == LOT]


@pytest.mark.usefixtures("stocked")
def test_a_hold_is_released_by_another_person_than_who_asked(net: "Net") -> None:
    assert len(answered(net, "hold", scan("HELD1"), "--code", "damaged", "--reason", "torn")["events"]) == 1
    answered(net, "hold", scan("HELD1"), "--reason", "leaking")
    listed = answered(net, "holds", "list", "--code", "DAMAGED")["units"]
    assert mine(listed) == ["HELD1"]
    words = net.medtrail("holds", "list", who=MAKER)
    assert "DAMAGED  torn" in words.out
    answered(net, "release", scan("HELD1"), "--code", "OTHER", "--reason", "dry again")
    asked = answered(net, "release", scan("HELD1"), "--reason", "only the box", "--request", "--by", "anna")
    assert (asked["state"], asked["requester"]) == ("open", "anna")
    name = asked["release_request_id"]
    assert "anna" in net.medtrail("release-requests", "list", who=MAKER).out
    same = net.medtrail("--json", "release-requests", "approve", name[:8], "--by", "anna", who=MAKER)
    assert (same.code, "SAME_PERSON" in same.errors) == (1, True)
    approved = answered(net, "release-requests", "approve", name[:8], "--by", "ben", "--reason", "agreed")
    assert (approved["state"], approved["decider"], len(approved["events"])) == ("approved", "ben", 1)
    listed = answered(net, "release-requests", "list", "--state", "approved")["release_requests"]
    assert name in [item["release_request_id"] for item in listed]
    unknown = net.medtrail(
        "--json", "release-requests", "reject", "ffffffff-", "--reason", "x", "--by", "ben", who=MAKER
    )
    assert (unknown.code, "NAME_UNKNOWN" in unknown.errors) == (1, True)


@pytest.mark.usefixtures("stocked")
def test_a_lot_is_put_on_hold_and_released(net: "Net") -> None:
    held = answered(net, "holds", "lot", GTIN, LOT, "--code", "quality", "--reason", "assay")
    assert held["unit_count"] == 3
    assert "assay" in net.medtrail("holds", "lots", who=MAKER).out
    asked = answered(net, "holds", "release-lot", held["lot_hold_id"][:8], "--reason", "x", "--request", "--by", "anna")
    words = net.medtrail(
        "release-requests", "reject", asked["release_request_id"], "--reason", "no", "--by", "ben", who=MAKER
    )
    assert "REJECTED" in words.out
    freed = answered(net, "holds", "release-lot", held["lot_hold_id"], "--reason", "passed")
    assert freed["unit_count"] == 3
    found = answered(net, "holds", "lots", "--all")["lot_holds"]
    assert [item["release_time"] is not None for item in found if item["lot"] == LOT] == [True]


@pytest.mark.usefixtures("stocked")
def test_what_expires_first_is_listed_first(net: "Net") -> None:
    units = answered(net, "expiring", "--days", "36500", "--gtin", GTIN)["units"]
    assert mine(units) == ["HELD1", "HELD2", "HELD3"]
    assert [item["expiry"] for item in units] == sorted(item["expiry"] for item in units)
    words = net.medtrail("expiring", "--days", "36500", "--free", who=MAKER).out
    assert "2030-12-31" in words
    assert answered(net, "holds", "excursions", scan("HELD1")) == {"excursions": []}
    assert "none" in net.medtrail("holds", "excursions", who=MAKER).out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["hold", epc("HELD1"), "--code", "nonsense"], "HOLD_CODE_UNKNOWN"),
        (["release-requests", "list", "--state", "nonsense"], "STATE_UNKNOWN"),
        (["returns", "send", epc("HELD1"), "--to", "1", "--reason", "x", "--purpose", "nonsense"], "PURPOSE_UNKNOWN"),
        (["release", epc("HELD1"), "--reason", "x", "--request", "--by", "two words"], "PERSON_MALFORMED"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(net: "Net", arguments: list[str], code: str) -> None:
    run = net.medtrail("--json", *arguments, who=MAKER)

    assert (run.code, code in run.errors) == (2, True)


@pytest.mark.usefixtures("stocked")
def test_a_pack_goes_back_to_its_maker(net: "Net", tmp_path: "Path") -> None:
    given = answered(net, "returns", "authorise", net.gln(PHARMACY), epc("HELD4"), "--reason", "unsold")
    assert given["number"] in net.medtrail("returns", "authorisations", who=MAKER).out
    answered(
        net, "returns", "send", scan("HELD4"), "--to", net.gln(MAKER), "--reason", "unsold", "--rma", given["number"],
        who=PHARMACY,
    )  # fmt: skip

    async def back() -> None:
        async with net.session(MAKER) as maker:
            await until(lambda: has(maker, custody_pb2.HOLDING_STATE_INBOUND))

    asyncio.run(back())
    file = tmp_path / "scans.txt"
    file.write_text(scan("HELD4") + "\nno barcode\n")
    run = net.medtrail("returns", "accept", "--file", str(file), who=MAKER)
    assert run.code == 1
    assert "RETURNED_TO_MAKER" in run.out
    assert "0 restocked, 2 not" in run.out
    listed = answered(net, "returns", "list", "--held")["returns"]
    assert [item["return_authorisation"] for item in listed if item["epc"] == epc("HELD4")] == [given["number"]]
    assert "RETURNED_TO_MAKER" in net.medtrail("returns", "list", who=MAKER).out
    again = answered(net, "returns", "authorisations")["authorisations"]
    assert [item["returned_count"] for item in again if item["number"] == given["number"]] == [1]


@pytest.mark.usefixtures("stocked")
def test_a_recall_is_counted_and_what_is_held_is_sent_on(net: "Net") -> None:
    async def recall() -> str:
        async with net.session(MAKER) as maker:
            found = payload_pb2.Recall(
                number="HOLD-R1",
                depth="retail",
                reason="assay failed",
                start_time=to_timestamp(now_utc()),
                scopes=[payload_pb2.RecallScope(gtin=GTIN, lot=LOT, serials=["HELD2", "HELD3"])],
            )
            request = recall_pb2.IssueRecallRequest(request_id=str(uuid.uuid4()), recall=found)
            return (await maker.recall.IssueRecall(request)).event.event_id

    recall_id = asyncio.run(recall())
    assert answered(net, "returns", "count", recall_id)["held"] == 2
    own = net.medtrail("--json", "returns", "recalled", recall_id, who=MAKER)
    assert (own.code, "FIELD_MISSING" in own.errors) == (2, True)
    sent = answered(net, "returns", "recalled", recall_id, "--to", net.gln("gs1-drug-distributor"))
    assert sent["unit_count"] == 2
    assert "sent back" in net.medtrail("returns", "count", recall_id, who=MAKER).out
