"""``medtrail station``: lines of scanners, words for people, stations that do not exist."""

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.api.event.v1 import verdict_pb2
from medtrail.api.station.v1 import station_pb2
from medtrail.cli.network import RunningNetwork, StationAddress
from medtrail.cli.network_file import read_network_file
from medtrail.cli.output import ExitCode
from medtrail.cli.setup import NetworkFolders, ensure_description, ensure_folders
from medtrail.cli.station import (
    clock_text,
    exit_code,
    knowledge_text,
    lines,
    scan_document,
    scan_text,
    verb_document,
    verb_text,
)
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.errors import MalformedError
from medtrail.event import KeyAddition
from medtrail.runtime.folder import StationFolder

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail

NETWORK = """\
[network]
origin = "log.example/test"

[authority]
gln = "9521000000018"

[ledger]
gln = "9521000000025"

[[organisation]]
name = "pharmacy"
role = "pharmacy"
gln = "9521002000016"
stations = {stations}
"""


def network_file(folder: Path, stations: str) -> Path:
    path = folder / "network.toml"
    path.write_text(NETWORK.format(stations=stations), encoding="utf-8")
    return path


@pytest.fixture
def folders(tmp_path: Path) -> NetworkFolders:
    network_file(tmp_path, '["till-1", "bay"]')
    return ensure_folders(tmp_path, ensure_description(tmp_path))


def test_stations_of_the_network_file_get_keys_that_the_authority_vouches_for(folders: NetworkFolders) -> None:
    assert [(item.profile.name, item.station) for item in folders.stations] == [
        ("pharmacy", "bay"),
        ("pharmacy", "till-1"),
    ]
    for station in folders.stations:
        signed = decode_signed_event(station.key_addition_bytes())
        said = decode_payload(signed.payload_type, signed.payload).statement
        assert said == KeyAddition(station.gln, station.signing_key().key_id, station.station)
        assert station.signing_key().key_id != folders.organisations["pharmacy"].signing_key().key_id
    again = ensure_folders(folders.root, ensure_description(folders.root))
    assert [item.signing_key().key_id for item in again.stations] == [
        item.signing_key().key_id for item in folders.stations
    ]


@pytest.mark.parametrize(
    "stations",
    ['["main"]', '["Till"]', '["a", "a"]', '["till_1"]', '"till"', "[1]", '["-x"]', '["x-"]', f'["{"a" * 21}"]'],
)
def test_refuses_names_that_are_no_stations(tmp_path: Path, stations: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_network_file(network_file(tmp_path, stations))
    assert caught.value.code == "NETWORK_FILE"


def test_adds_a_station_that_the_next_start_finds(medtrail: "Medtrail", folders: NetworkFolders) -> None:
    run = medtrail("--dir", str(folders.root), "--as", "pharmacy", "--json", "station", "add", "till-2")
    assert run.code == ExitCode.TRUE
    document = json.loads(run.out)
    assert StationFolder(Path(document["folder"])).signing_key().key_id == document["signing_key"]
    again = ensure_folders(folders.root, ensure_description(folders.root))
    assert [item.station for item in again.stations] == ["bay", "till-1", "till-2"]
    run = medtrail("--dir", str(folders.root), "--as", "pharmacy", "station", "add", "till-2")
    assert (run.code, "FOLDER_EXISTS" in run.errors) == (ExitCode.REFUSED, True)
    assert medtrail("--dir", str(folders.root), "--as", "pharmacy", "station", "add", "main").code == ExitCode.WRONG_USE
    assert medtrail("--dir", str(folders.root), "station", "add", "till-3").code == ExitCode.WRONG_USE
    assert medtrail("--dir", str(folders.root), "--as", "nobody", "station", "add", "x").code == ExitCode.REFUSED
    assert "till-2" in medtrail("--dir", str(folders.root), "--as", "pharmacy", "station", "add", "till-2").errors


def test_ends_no_key_without_saying_whose_and_from_when(medtrail: "Medtrail", folders: NetworkFolders) -> None:
    root = str(folders.root)
    run = medtrail("--dir", root, "station", "retire", "bay")
    assert (run.code, "ORGANISATION_MISSING" in run.errors) == (ExitCode.WRONG_USE, True)
    run = medtrail("--dir", root, "--as", "pharmacy", "station", "revoke", "bay", "--since", "lately")
    assert (run.code, "TIME_MALFORMED" in run.errors) == (ExitCode.WRONG_USE, True)
    assert medtrail("--dir", root, "--as", "pharmacy", "station", "revoke", "bay").code == ExitCode.WRONG_USE
    assert medtrail("--dir", root, "--as", "pharmacy", "station", "retire", "main").code == ExitCode.WRONG_USE
    run = medtrail("--dir", f"{root}/orgs", "--as", "pharmacy", "station", "retire", "bay")
    assert (run.code, "AUTHORITY_MISSING" in run.errors) == (ExitCode.REFUSED, True)
    # Nobody is asked where nothing runs.
    run = medtrail("--dir", root, "--as", "pharmacy", "station", "retire", "bay")
    assert (run.code, "NETWORK_DOWN" in run.errors) == (ExitCode.NO_ANSWER, True)


def test_a_station_is_found_by_name_or_is_the_first() -> None:
    stations = (
        StationAddress("bay", "pharmacy", "127.0.0.1:1", "/bay"),
        StationAddress("till", "pharmacy", "127.0.0.1:2", "/till"),
    )
    network = RunningNetwork("o", "l", "g", "n", "u", ("k",), "p", "a", "c", (), {}, stations)
    assert network.station("pharmacy", None).name == "bay"
    assert network.station("pharmacy", "till").address == "127.0.0.1:2"
    for organisation, name in (("pharmacy", "x"), ("other", None)):
        with pytest.raises(MalformedError) as caught:
            network.station(organisation, name)
        assert caught.value.code == "STATION_UNKNOWN"


def test_reads_what_a_wedge_scanner_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("]d201X\x1d10A\r\n\r\n]d202Y\n"))
    assert list(lines(None)) == ["]d201X\x1d10A", "]d202Y"]
    assert list(lines(["]d201X\\x1d10A"])) == ["]d201X\x1d10A"]


def test_folder_and_address_go_together(medtrail: "Medtrail", folders: NetworkFolders) -> None:
    folder = str(folders.stations[0].path)
    run = medtrail("station", "status", "--folder", folder)
    assert (run.code, "DOOR_INCOMPLETE" in run.errors) == (ExitCode.WRONG_USE, True)
    run = medtrail("station", "status", "--folder", folder, "--address", "127.0.0.1:9")
    assert run.code == ExitCode.NO_ANSWER


def test_words_say_how_old_the_knowledge_is() -> None:
    online = station_pb2.Knowledge(online=True)
    alone = station_pb2.Knowledge(age_seconds=3 * 3600 + 61)
    assert knowledge_text(online) == "online"
    assert knowledge_text(alone) == "offline; nothing was ever heard"
    alone.stale_since.FromSeconds(1)
    assert knowledge_text(alone) == "offline; known 3:01:01 ago"
    verdict = verdict_pb2.Verdict(
        code=verdict_pb2.VERDICT_CODE_RECALLED, action=verdict_pb2.VERDICT_ACTION_REJECT, message="Under recall."
    )
    answer = station_pb2.ScanResponse(verdict=verdict, knowledge=alone, product_name="Epcistra")
    assert scan_text(answer) == "REJECT  recalled  Epcistra: Under recall. [offline; known 3:01:01 ago]"
    document = scan_document(answer)
    assert (document["verdict"], document["product"]) == ("recalled", "Epcistra")
    assert document["knowledge"]["age_seconds"] == 10861


def test_words_say_what_became_of_events() -> None:
    conflict = station_pb2.UnitConflict(epc="https://id.gs1.org/01/1", code="UNIT_FINAL", message="gone", case_id="c1")
    events = [
        station_pb2.StationEvent(source_seq=4, outcome=station_pb2.EVENT_OUTCOME_APPLIED),
        station_pb2.StationEvent(source_seq=5, outcome=station_pb2.EVENT_OUTCOME_CONFLICT, conflicts=[conflict]),
    ]
    answer = station_pb2.ReceiveResponse(events=events, unadvised_epcs=["https://id.gs1.org/01/2"], unit_count=1)
    assert verb_text("receive", answer) == (
        "receive: event 4 applied, 5 conflict; put aside, nobody advised it: https://id.gs1.org/01/2 "
        "[offline; nothing was ever heard]\n  CONFLICT https://id.gs1.org/01/1: gone (case c1)"
    )
    document = verb_document(answer)
    assert [event["outcome"] for event in document["events"]] == ["applied", "conflict"]
    assert (document["unadvised"], document["missing"], document["unit_count"]) == (["https://id.gs1.org/01/2"], [], 1)


def test_words_say_how_the_clock_stands() -> None:
    assert [clock_text(ahead_s) for ahead_s in (0.4, 400.0, -3600.2)] == [
        "clock as the service's",
        "clock 0:06:40 ahead of the service's",
        "clock 1:00:00 behind the service's",
    ]


def test_status_ends_with_1_when_something_should_be_looked_at() -> None:
    conflict, settled = (
        station_pb2.StationEvent(
            source_seq=5,
            outcome=station_pb2.EVENT_OUTCOME_CONFLICT,
            conflicts=[station_pb2.UnitConflict(case_id="c1", resolved=resolved)],
        )
        for resolved in (False, True)
    )
    assert exit_code(station_pb2.GetStatusResponse(enrolled=True)) == ExitCode.TRUE
    assert exit_code(station_pb2.GetStatusResponse(enrolled=True, conflicts=[settled])) == ExitCode.TRUE
    for status in (
        station_pb2.GetStatusResponse(),
        station_pb2.GetStatusResponse(enrolled=True, error_code="CLOCK_WRONG"),
        station_pb2.GetStatusResponse(enrolled=True, conflicts=[conflict]),
        station_pb2.GetStatusResponse(enrolled=True, conflicts=[conflict, settled]),
    ):
        assert exit_code(status) == ExitCode.REFUSED
