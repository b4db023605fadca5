"""A pharmacy and the maker talk about a damaged pack and about illegitimate product, by commands, over NATS."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.errors import MedtrailError
from medtrail.pdg_reader import decode_message
from tests.e2e.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from medtrail.cli.session import Session
    from tests.e2e.conftest import Net
    from tests.support.command import Run

GTIN = "00300010123455"
SERIALS = ("CASE1", "CASE2", "CASE3", "CASE4")
EPCS = tuple(f"https://id.gs1.org/01/{GTIN}/21/{serial}" for serial in SERIALS)
MAKER, PHARMACY = "gs1-pharma", "hilltop-pharmacy"
EMAIL = ("--email", "bay@house.example")


@pytest.fixture(scope="module")
def stocked(net: "Net") -> None:
    """Packs that a maker made, and a pharmacy has."""

    async def work() -> None:
        async with net.session(MAKER) as maker, net.session(PHARMACY) as pharmacy:
            await maker.manufacturer.Commission(
                manufacturer_pb2.CommissionRequest(
                    request_id=str(uuid.uuid4()), gtin=GTIN, lot="X1", expiry="2030-12-31", serials=SERIALS
                )
            )
            await maker.custody.Ship(
                custody_pb2.ShipRequest(
                    request_id=str(uuid.uuid4()), epcs=EPCS, destination_party=net.gln(PHARMACY), purchase_order="PO-7"
                )
            )
            await until(lambda: is_confirmed(pharmacy))
            await pharmacy.custody.Receive(custody_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=EPCS))

    asyncio.run(work())


async def is_confirmed(session: "Session") -> bool:
    try:
        holding = (await session.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=EPCS[0]))).holding
    except MedtrailError:
        return False
    return not holding.provisional


def case_of(run: "Run") -> dict[str, Any]:
    assert run.code == 0, run.errors
    found: dict[str, Any] = run.document["case"]
    return found


class Bench:
    """The commands of one organisation."""

    def __init__(self, net: "Net", who: str) -> None:
        self.net, self.who = net, who

    def run(self, *arguments: str) -> "Run":
        return self.net.medtrail("exceptions", *arguments, "--json", who=self.who)

    def case(self, *arguments: str) -> dict[str, Any]:
        return case_of(self.run(*arguments))

    def wait(self, case_id: str, condition: "Callable[[dict[str, Any]], bool]") -> dict[str, Any]:
        """Return a case once it is as awaited: letters take their time."""
        found: dict[str, Any] = {}

        async def look() -> bool:
            run = await asyncio.to_thread(self.run, "show", case_id)
            found.update(run.document["case"] if run.code == 0 else {})
            return run.code == 0 and condition(found)

        asyncio.run(until(look))
        return found


@pytest.fixture
def pharmacy(net: "Net", stocked: None) -> Bench:
    return Bench(net, PHARMACY)


@pytest.fixture
def maker(net: "Net", stocked: None) -> Bench:
    return Bench(net, MAKER)


def test_damaged_pack_is_reported_answered_and_resolved_on_both_sides(
    pharmacy: Bench, maker: Bench, tmp_path: Path
) -> None:
    opened = pharmacy.case("open", "damaged", EPCS[0], "--detail", "box is wet", "--owner", "Kim")
    case_id, short = opened["case_id"], opened["case_id"][:8]
    assert (opened["partner"], opened["purchase_order"]) == (maker.net.gln(MAKER), "PO-7")
    assert pharmacy.case("assign", short, "Lee")["owner"] == "Lee"
    assert pharmacy.case("due", short, "2031-01-01")["due_time"] == "2031-01-01T00:00:00Z"
    pharmacy.case("message", short, "looks like rain", "--internal")
    proposed = pharmacy.case("propose", short, "--request", "credit-account", *EMAIL, "--by", "Kim")
    assert proposed["status"] == "proposed"
    there = maker.wait(case_id, lambda case: case["status"] == "proposed")
    assert (there["partner_reported"], there["units"][0]["epc"]) == (True, EPCS[0])
    assert not any(message["kind"] == "internal" for message in there["messages"])
    maker.case("message", short, "please send a photograph", "--by", "Ada")
    answer = maker.case("respond", short, "--reject", "--alternative", "return-product", *EMAIL)
    assert answer["status"] == "disputed"
    seen = pharmacy.wait(case_id, lambda case: case["status"] == "disputed" and len(case["messages"]) >= 4)
    (item,) = seen["items"]
    assert (item["accepted"], item["alternative"]) == (False, "return_product")
    files = pharmacy.run("export", short, "--out", str(tmp_path)).document["messages"]
    assert [file["kind"] for file in files] == ["report", "response"]
    assert decode_message(Path(files[0]["file"]).read_bytes()).case_id == case_id
    resolved = pharmacy.case("resolve", short, "returned", "--reason", "agreed by phone")
    assert (resolved["status"], resolved["units"][0]["return_pending"]) == ("resolved", True)
    maker.wait(case_id, lambda case: case["resolution"] == "by_partner")
    listed = pharmacy.run("list", "--all", "--unit", EPCS[0]).document["cases"]
    assert [case["case_id"] for case in listed] == [case_id]
    text = pharmacy.net.medtrail("exceptions", "show", short, who=PHARMACY).out
    assert "DAMAGED" in text
    assert "offered instead: return_product" in text
    assert pharmacy.net.medtrail("exceptions", "list", "--all", who=PHARMACY).out.count(short) == 1


def test_illegitimate_product_reaches_its_maker_and_the_form_is_filled(
    pharmacy: Bench, maker: Bench, tmp_path: Path
) -> None:
    case = pharmacy.case("suspect", EPCS[1], EPCS[2], "--reason", "print is blurred", "--by", "Kim")
    assert case["investigation"]["verify_count"] == 2
    short = case["case_id"][:8]
    noted = pharmacy.case("clear", short, "--verified", EPCS[1], "--partial", "--by", "Kim")
    assert noted["investigation"]["verified_count"] == 1
    refused = pharmacy.run("clear", short, "--reason", "fine", "--by", "Kim")
    assert (refused.code, refused.error["code"]) == (1, "SUSPECT_NOT_VERIFIED")
    declared = pharmacy.case("illegitimate", short, "--reason", "its maker does not know it", "--by", "Lee")
    assert declared["investigation"]["notified_partners"] == [maker.net.gln(MAKER)]
    there = maker.wait(case["case_id"], lambda found: found["status"] == "illegitimate")
    assert there["messages"][0]["text"] == "its maker does not know it"
    pdf, out, details = tmp_path / "form.pdf", tmp_path / "form.json", tmp_path / "details.json"
    incomplete = pharmacy.run("form3911", short, "--pdf", str(pdf))
    assert incomplete.code == 1
    assert "contact_email" in incomplete.document["missing_fields"]
    missing = dict.fromkeys(incomplete.document["missing_fields"], "x")
    details.write_text(json.dumps({**missing, "classification": "counterfeit"}), encoding="utf-8")
    full = pharmacy.run("form3911", short, "--details", str(details), "--pdf", str(pdf), "--out", str(out))
    assert (full.code, full.document["missing_fields"]) == (0, [])
    form = json.loads(out.read_bytes())
    assert (form["serials"], form["lots"], form["company_category"]) == (["CASE2", "CASE3"], ["X1"], "dispenser")
    assert pdf.read_bytes().startswith(b"%PDF-")
    done = pharmacy.case("form3911", short, "--submitted", "--incident", "I-17")
    assert done["investigation"]["incident_number"] == "I-17"
    text = pharmacy.net.medtrail("exceptions", "show", short, who=PHARMACY).out
    assert "illegitimate since" in text
    assert (
        "complete"
        in pharmacy.net.medtrail("exceptions", "form3911", short, "--details", str(details), who=PHARMACY).out
    )


def test_file_of_a_partner_opens_a_case_and_the_same_file_changes_nothing(pharmacy: Bench, tmp_path: Path) -> None:
    report = {
        "message_uuid": str(uuid.uuid4()),
        "exception_case_uuid": str(uuid.uuid4()),
        "timestamp": 1712368200,
        "po_number": "ABD1234",
        "sender_information": {"gln": "1234567890123", "email": "contact@wholesaler.example"},
        "exceptions": {
            "overages": [
                {
                    "exception_item_uuid": str(uuid.uuid4()),
                    "gtin": "23456789012345",
                    "quantity_ordered": 100,
                    "quantity_received": 110,
                    "resolution_request": "Debit account",
                }
            ]
        },
        "case_resolved": False,
    }
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report), encoding="utf-8")
    refused = pharmacy.run("import", str(file))
    assert (refused.code, refused.error["field"]) == (2, "partner")
    taken = pharmacy.run("import", str(file), "--partner", pharmacy.net.gln(MAKER))
    case = case_of(taken)
    assert (case["code"], case["partner_reported"], len(taken.document["remarks"])) == ("OVERAGE", True, 2)
    again = case_of(pharmacy.run("import", str(file), "--partner", pharmacy.net.gln(MAKER)))
    assert [message["message_id"] for message in again["messages"]] == [report["message_uuid"]]
    exported = pharmacy.run("export", case["case_id"], "--out", str(tmp_path / "out")).document["messages"]
    assert Path(exported[0]["file"]).read_bytes() == file.read_bytes()
    text = pharmacy.net.medtrail(
        "exceptions", "import", str(file), "--partner", pharmacy.net.gln(MAKER), who=PHARMACY
    ).out
    assert "odd:" in text


def test_wrong_words_are_refused_before_anything_is_asked(pharmacy: Bench) -> None:
    run = pharmacy.run("open", "sunshine", EPCS[3], "--detail", "nice weather")
    assert (run.code, run.error["code"]) == (2, "VALUE_UNKNOWN")
    run = pharmacy.run("show", "ffffffff")
    assert (run.code, run.error["code"]) == (2, "CASE_AMBIGUOUS")
