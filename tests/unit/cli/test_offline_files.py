"""`medtrail epcis` and `medtrail gs1`: files and identifiers, without a network."""

import json
import typing
from pathlib import Path

import pytest

from medtrail.cli.output import ExitCode
from medtrail.epcis import event_hash, read_document

if typing.TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail


def test_hashes_every_event_in_document_order(medtrail: "Medtrail", example: Path) -> None:
    events = read_document(example.read_bytes(), format="xml").events
    wanted = [event_hash(event) for event in events]
    assert len(wanted) > 1

    run = medtrail("epcis", "hash", example)
    assert (run.code, run.out.splitlines()) == (0, wanted)
    assert medtrail("epcis", "hash", example, "--json").document == {"event_hashes": wanted}


@pytest.mark.parametrize("ending", ["json", "jsonld", "JSON", "xml"])
def test_converted_document_holds_the_same_events(
    medtrail: "Medtrail", example: Path, tmp_path: Path, ending: str
) -> None:
    target = tmp_path / f"out.{ending}"
    run = medtrail("epcis", "convert", example, target, "--json")
    count = len(read_document(example.read_bytes(), format="xml").events)
    assert run.document == {"events": count, "bytes": target.stat().st_size, "file": str(target)}

    back = medtrail("epcis", "convert", target, "back.xml")
    assert (back.code, back.out) == (0, f"{count} events, {(tmp_path / 'back.xml').stat().st_size} bytes: back.xml\n")
    hashes = [medtrail("epcis", "hash", path).out for path in (example, target, "back.xml")]
    assert hashes[0]
    assert len(set(hashes)) == 1


def test_converts_between_the_versions_of_xml(medtrail: "Medtrail", example: Path, tmp_path: Path) -> None:
    for version in ("1.2", "2.0"):
        assert medtrail("epcis", "convert", example, f"v{version}.xml", "--xml-version", version).code == 0
        document = read_document((tmp_path / f"v{version}.xml").read_bytes(), format="xml")
        assert document.schema_version == version


@pytest.mark.parametrize(
    "arguments",
    [
        ("hash", "note.txt"),
        ("hash", "empty.xml"),
        ("hash", "broken.json"),
        ("convert", "broken.json", "out.xml"),
        ("convert", "EXAMPLE", "out.csv"),
        ("convert", "EXAMPLE", "out.xml", "--xml-version", "3.0"),
        ("convert", "EXAMPLE", "missing-folder/out.xml"),
    ],
    ids=" ".join,
)
def test_files_of_wrong_form_are_wrong_use_and_leave_nothing(
    medtrail: "Medtrail", example: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    inputs = {"note.txt": b"", "empty.xml": b"", "broken.json": b"{"}
    for name, content in inputs.items():
        (tmp_path / name).write_bytes(content)
    run = medtrail("epcis", *(str(example) if item == "EXAMPLE" else item for item in arguments), "--json")
    assert run.code == ExitCode.WRONG_USE
    assert run.error["code"]
    assert {path.name for path in tmp_path.iterdir()} == set(inputs)


def test_ending_decides_the_format(tmp_path: Path, medtrail: "Medtrail") -> None:
    (tmp_path / "note.txt").write_bytes(b"")
    run = medtrail("epcis", "hash", "note.txt", "--json")
    assert run.error["code"] == "FORMAT_UNKNOWN"
    assert "'note.txt'" in run.error["message"]


@pytest.mark.parametrize("ending", ["json", "xml"])
def test_documents_of_any_size_are_converted_event_by_event(
    medtrail: "Medtrail", example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("medtrail.cli.epcis_files.MAX_DOCUMENT_BYTES", 100)
    assert medtrail("epcis", "convert", example, f"out.{ending}").code == 0
    assert medtrail("epcis", "convert", f"out.{ending}", "back.xml", "--xml-version", "1.2").code == 0

    hashes = {medtrail("epcis", "hash", path).out for path in (example, f"out.{ending}", "back.xml")}

    assert len(hashes) == 1
    assert {path.name for path in tmp_path.iterdir()} >= {f"out.{ending}", "back.xml"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


PACK = {"gtin": "00300010123455", "serial": "S1"}


@pytest.mark.parametrize(
    "text",
    [
        "(01)00300010123455(21)S1",
        "]d2010030001012345521S1",
        "https://id.gs1.org/01/00300010123455/21/S1",
        "urn:epc:id:sgtin:030001.0012345.S1",
    ],
)
def test_takes_every_spelling_of_a_pack_apart(medtrail: "Medtrail", text: str) -> None:
    run = medtrail("gs1", "parse", text, "--json")
    assert run.code == 0
    assert run.document.items() >= PACK.items()
    people = medtrail("gs1", "parse", text).out
    for name, value in PACK.items():
        assert any(line.split() == [name, value] for line in people.splitlines())


def test_group_separator_may_be_typed_as_an_escape(medtrail: "Medtrail") -> None:
    typed = medtrail("gs1", "parse", r"]d2010030001012345521S1\x1d1728063010LOT1", "--json")
    sent = medtrail("gs1", "parse", "]d2010030001012345521S1\x1d1728063010LOT1", "--json")
    assert typed.code == 0
    assert typed.document == sent.document
    assert typed.document["lot"] == "LOT1"


def test_urn_tells_the_length_of_its_company_prefix(medtrail: "Medtrail") -> None:
    text = "urn:epc:id:sgtin:030001.0012345.S1"
    assert text in medtrail("gs1", "parse", text, "--json").document.values()


def test_what_is_odd_in_a_scan_is_told(medtrail: "Medtrail") -> None:
    plain = medtrail("gs1", "parse", "(01)00300010123455(17)281231(21)S1", "--json").document
    odd = medtrail("gs1", "parse", "(01)00300010123455(17)281200(21)S1", "--json").document
    assert "warnings" not in plain
    assert "names no day" in odd["warnings"]


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "SCAN_EMPTY"), ("(01)00300010123456(21)S1", "CHECK_DIGIT_WRONG"), ("urn:nothing", "EPC_NOT_GS1")],
)
def test_what_is_no_identifier_is_wrong_use(medtrail: "Medtrail", text: str, code: str) -> None:
    run = medtrail("gs1", "parse", text, "--json")
    assert (run.code, json.loads(run.errors)["error"]["code"]) == (ExitCode.WRONG_USE, code)
