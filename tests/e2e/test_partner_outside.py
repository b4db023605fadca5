"""The GS1 US example leaves the network as the file that it came as, and stands in the report of shipments."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from medtrail.epcis import EpcisDocument, event_hash, read_document
from medtrail.epcis.export import LEGAL_NOTICE
from medtrail.gs1 import parse_epc
from services.custody.parties_file import FILE_NAME
from tests.e2e.conftest import Net

MAKER = "gs1-pharma"
GLNS = ("0300011111116", "0300011111215", "0399999999991", "0399993456780")
ADDRESS = 'street = "1 Main St"\ncity = "Louisville"\nstate = "KY"\npostal_code = "40218"\ncountry = "US"\n'


def attributes(document: EpcisDocument) -> dict[str, set[str]]:
    """Which master data each identifier has."""
    return {
        parse_epc(element.id).path: {name.rpartition("#")[2] for name, _ in element.attributes}
        for vocabulary in document.vocabularies
        for element in vocabulary.elements
    }


@pytest.fixture
def addresses(net: Net) -> Any:
    """The maker's parties.toml."""
    path = net.folder / "orgs" / MAKER / FILE_NAME
    path.write_text("".join(f'[[party]]\ngln = "{gln}"\n{ADDRESS}' for gln in GLNS), encoding="utf-8")
    yield path
    path.unlink()


def test_shipment_with_gaps_is_not_written(net: Net, example: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    run = net.medtrail("export", example["event_ids"][-1], "--file", str(path), "--json", who=MAKER)
    assert run.code == 1
    assert not run.document["written"]
    assert [(gap["code"], gap["subject"]) for gap in run.document["gaps"]] == [
        ("PARTY_ADDRESS_MISSING", gln) for gln in GLNS
    ]
    assert list(tmp_path.iterdir()) == []
    words = net.medtrail("export", example["event_ids"][-1], "--file", str(path), who=MAKER)
    assert words.code == 1
    assert "PARTY_ADDRESS_MISSING" in words.out
    assert "4 gaps: no file was written" in words.out
    allowed = net.medtrail("export", example["event_ids"][-1], "--file", str(path), "--allow-gaps", who=MAKER)
    assert allowed.code == 0
    assert "12 packs in 16 units, 8 events" in allowed.out
    assert [each.name for each in tmp_path.iterdir()] == ["out.xml"]


@pytest.mark.usefixtures("addresses")
def test_example_leaves_as_it_came(net: Net, example: dict[str, Any], example_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    run = net.process(
        "export", example["event_ids"][-1], "--file", str(path), "--profile", "dscsa", "--json", who=MAKER
    )
    assert run.code == 0, run.out
    assert (run.document["packs"], run.document["units"], run.document["gaps"]) == (12, 16, [])
    source = read_document(example_path.read_bytes(), format="xml")
    document = read_document(path.read_bytes(), format="xml")
    # Units, lots, expiries and packings are all of what an event says: its hash tells.
    assert [event_hash(event) for event in document.events] == [event_hash(event) for event in source.events]
    assert [event.event_id for event in document.events] == example["event_ids"]
    assert (document.sender, document.receiver) == (source.sender, source.receiver)
    assert document.header_extensions == source.header_extensions
    assert LEGAL_NOTICE in path.read_text(encoding="utf-8")
    known, came = attributes(document), attributes(source)
    assert set(known) == set(came)
    for identifier, names in came.items():
        assert known[identifier] | {"streetAddressTwo"} == names | {"streetAddressTwo"}
    checked = net.medtrail("epcis", "validate", str(path), "--profile", "dscsa", "--json")
    assert (checked.code, checked.document["errors"]) == (0, 0)


def test_unknown_despatch_and_profile_are_refused(net: Net, example: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    for arguments, code, exit_code in (
        (("urn:uuid:0", "--file", str(path)), "DESPATCH_UNKNOWN", 1),
        ((example["event_ids"][0], "--file", str(path)), "NOT_A_DESPATCH", 1),
        ((example["event_ids"][-1], "--file", str(path), "--profile", "fmd"), "PROFILE_UNKNOWN", 2),
    ):
        run = net.medtrail("export", *arguments, "--json", who=MAKER)
        assert (run.code, run.error["code"]) == (exit_code, code)
    assert list(tmp_path.iterdir()) == []


def test_report_of_shipments_has_a_row_a_run_of_serial_numbers(
    net: Net, example: dict[str, Any], tmp_path: Path
) -> None:
    window = ("--from", "2023-04-01", "--to", "2023-04-02")
    path = tmp_path / "report.csv"
    run = net.medtrail("report", "shipments", *window, "--file", str(path), "--bom", "--json", who=MAKER)
    assert (run.code, run.document["rows"]) == (0, 1)
    assert path.read_bytes().startswith("\ufeffreport_type,".encode())
    (row,) = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
    assert row["report_type"] == "sales_shipment"
    assert row["event_id"] == example["event_ids"][-1]
    assert row["event_time"] == "2023-04-01T02:48:16-05:00"
    assert (row["reporter_gln"], row["partner_gln"]) == ("0300011111116", "0399999999991")
    assert (row["gtin"], row["lot"], row["expiry"]) == ("00300010123455", "A123", "2025-03-27")
    assert (row["serial_from"], row["serial_to"], row["quantity"]) == ("11", "22", "12")
    assert (row["unit_price"], row["supply_class"], row["contract_type"]) == ("", "", "")
    assert row["purchase_order"] == "urn:epcglobal:cbv:bt:0399999999991:XYZPO189"
    assert row["log_index"].isdecimal()
    each = net.medtrail("report", "shipments", *window, "--rows", "serial", who=MAKER)
    rows = list(csv.DictReader(io.StringIO(each.out)))
    assert [row["serial_from"] for row in rows] == [str(serial) for serial in range(11, 23)]
    assert {row["quantity"] for row in rows} == {"1"}
    assert net.medtrail("report", "shipments", *window, "--rows", "serial", who=MAKER).out == each.out


def test_report_refuses_words_that_it_does_not_know(net: Net) -> None:
    for arguments in (("--format", "xlsx"), ("--rows", "lot"), ("--from", "yesterday")):
        run = net.medtrail("report", "shipments", *arguments, "--json", who=MAKER)
        assert run.code == 2
        assert run.error["field"] == arguments[0]
