"""One pack at a pharmacy's counter, by the commands of the Falsified Medicines Directive, and the record of it all."""

import asyncio
import json
import uuid
from typing import TYPE_CHECKING

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.errors import MedtrailError
from tests.e2e.conftest import believed, until

if TYPE_CHECKING:
    from medtrail.cli.session import Session
    from tests.e2e.conftest import Net
    from tests.support.command import Run

GTIN = "00300010123455"
SERIALS = ("COUNTER1", "COUNTER2", "COUNTER3", "COUNTER4", "COUNTER5")
MAKER, PHARMACY = "gs1-pharma", "hilltop-pharmacy"


def scan(serial: str, lot: str = "C1") -> str:
    return f"]d201{GTIN}21{serial}\\x1d1730123110{lot}"


@pytest.fixture(scope="module")
def stocked(net: "Net") -> None:
    """Packs that a maker made, and a pharmacy has."""

    async def work() -> None:
        epcs = [f"https://id.gs1.org/01/{GTIN}/21/{serial}" for serial in SERIALS]
        async with net.session(MAKER) as maker, net.session(PHARMACY) as pharmacy:
            await maker.manufacturer.Commission(
                manufacturer_pb2.CommissionRequest(
                    request_id=str(uuid.uuid4()), gtin=GTIN, lot="C1", expiry="2030-12-31", serials=SERIALS
                )
            )
            await maker.custody.Ship(
                custody_pb2.ShipRequest(request_id=str(uuid.uuid4()), epcs=epcs, destination_party=net.gln(PHARMACY))
            )
            await until(lambda: is_confirmed(pharmacy, epcs[0]))
            received = await pharmacy.custody.Receive(
                custody_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=epcs)
            )
            await believed(pharmacy, received.events[-1].event_id)

    asyncio.run(work())


async def is_confirmed(session: "Session", epc: str) -> bool:
    try:
        holding = (await session.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=epc))).holding
    except MedtrailError:
        return False
    return not holding.provisional


def short(run: "Run") -> tuple[int, str, str, str | None]:
    document = run.document
    assert document["done"] is (run.code == 0)
    return run.code, document["state"], document["code"], document["alert"]


def wait_for(net: "Net", events: list[str]) -> None:
    async def work() -> None:
        async with net.session(PHARMACY) as session:
            for event_id in events:
                await believed(session, event_id)

    asyncio.run(work())


@pytest.mark.usefixtures("stocked")
def test_pack_is_verified_supplied_undone_and_destroyed(net: "Net") -> None:
    def fmd(*arguments: str) -> "Run":
        return net.medtrail("fmd", *arguments, "--json", who=PHARMACY)

    assert short(fmd("verify", scan("COUNTER1"))) == (0, "active", "NMVS_SUCCESS", None)
    assert short(fmd("verify", scan("COUNTER1", lot="Z"))) == (1, "locked", "NMVS_FE_LOT_03", "A2")
    supplied = fmd("supply", scan("COUNTER1"))
    assert short(supplied) == (0, "supplied", "NMVS_SUCCESS", None)
    wait_for(net, supplied.document["events"])
    assert short(fmd("supply", scan("COUNTER1"))) == (1, "supplied", "NMVS_NC_PCK_19", "A7")
    assert short(fmd("undo", scan("COUNTER1"), "--reason", "not fetched"))[2] == "SUPPLY_NOT_DENIED"
    undone = fmd("undo", scan("COUNTER1"), "--reason", "not fetched", "--not-supplied", "--state", "supplied")
    assert short(undone) == (0, "active", "NMVS_SUCCESS", None)
    assert undone.document["events"] == supplied.document["events"]
    destroyed = fmd("decommission", scan("COUNTER2"), "--state", "destroyed")
    assert short(destroyed) == (0, "destroyed", "NMVS_SUCCESS", None)
    assert short(fmd("undo", scan("COUNTER2"), "--reason", "no")) == (1, "destroyed", "NMVS_NC_PCK_06", "A24")
    unreadable = fmd("verify", "0300010123455")
    assert (unreadable.code, unreadable.document["code"]) == (2, "SCAN_UNREADABLE")
    assert fmd("decommission", scan("COUNTER1"), "--state", "eaten").error["code"] == "STATE_UNKNOWN"


@pytest.mark.usefixtures("stocked")
def test_answers_and_records_are_told_in_words(net: "Net") -> None:
    told = net.medtrail("fmd", "verify", scan("COUNTER9"), who=PHARMACY)
    assert told.code == 1
    assert "NOT DONE  unknown  NMVS_NC_PC_02  alert A3" in told.out
    assert "technical" in told.out
    told = net.medtrail("fmd", "verify", scan("COUNTER3"), who=PHARMACY)
    assert told.out.startswith("DONE  active  NMVS_SUCCESS")
    log = net.medtrail("vrs", "log", who=PHARMACY)
    assert f"{net.gln(PHARMACY)} asked {net.gln(PHARMACY)}: ]d201{GTIN}21COUNTER9<GS>" in log.out
    assert "(verify) → unknown NMVS_NC_PC_02 A3" in log.out
    records = [json.loads(line) for line in net.medtrail("vrs", "log", "--json", who=PHARMACY).out.splitlines()]
    assert [record["number"] for record in records] == list(range(1, len(records) + 1))
    assert {record["kind"] for record in records} == {"fmd"}


@pytest.mark.usefixtures("stocked")
def test_asks_nobody_about_a_product_for_which_nobody_answers(net: "Net") -> None:
    for arguments in (("vrs", "lookup", GTIN), ("vrs", "verify", scan("COUNTER3"))):
        run = net.medtrail(*arguments, "--json", who=PHARMACY)
        assert (run.code, run.error["code"]) == (1, "RESPONDER_UNKNOWN")
    run = net.medtrail("vrs", "verify", "0300010123455", "--json", who=PHARMACY)
    assert (run.code, run.document["verdict"], run.document["response"]) == (2, "unreadable", None)
    run = net.medtrail("vrs", "verify", scan("COUNTER3"), "--context", "a b", "--json", who=PHARMACY)
    assert (run.code, run.error["code"]) == (2, "CONTEXT_MALFORMED")


@pytest.mark.usefixtures("stocked")
def test_pack_is_handed_out_in_parts_and_another_by_mistake(net: "Net") -> None:
    def run(*arguments: str) -> "Run":
        return net.medtrail(*arguments, "--json", who=PHARMACY)

    # Its product says: 500 pills.
    first = run("dispense", scan("COUNTER4"), "--quantity", "12")
    assert (first.code, first.document["remainder"], first.document["remainder_uom"]) == (0, "488", "EA")
    held = run("holding", scan("COUNTER4")).document
    assert (held["state"], held["remainder"]) == ("partially_dispensed", "488")
    assert run("dispense", scan("COUNTER4"), "--quantity", "489").code == 1
    assert run("dispense", scan("COUNTER4")).document["remainder"] == "0"
    assert run("undo", scan("COUNTER4"), "--reason", "oops", "--not-supplied").code == 1
    assert run("dispense", scan("COUNTER5")).code == 0
    undone = run("undo", scan("COUNTER5"), "--reason", "wrong pack", "--not-supplied")
    assert (undone.code, undone.document["undone"]) == (0, True)
    assert run("holding", scan("COUNTER5")).document["state"] == "on_hand"
    alerts = net.medtrail("alerts", "--of", scan("COUNTER5"), "--withdrawn", who=PHARMACY)
    assert (alerts.code, alerts.out) == (0, "")
