"""Rows of the report of shipments, and files that do not come whole."""

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from medtrail.api.custody.v1 import custody_pb2
from medtrail.cli import export, report
from medtrail.cli.main import Globals
from medtrail.cli.output import Output
from medtrail.cli.report import COLUMNS, Run, neutral, row_of, runs_of
from medtrail.codec import to_timestamp
from medtrail.errors import MalformedError, UnavailableError

GTIN = "00300010123455"


def packs(*serials: str, lot: str = "A1", expiry: str = "2028-03-31") -> list[custody_pb2.EventPack]:
    return [custody_pb2.EventPack(gtin=GTIN, serial=serial, lot=lot, expiry=expiry) for serial in serials]


def ends(runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    return [(run.first, run.last, run.count) for run in runs]


# --- rows ---


@pytest.mark.parametrize(
    ("serials", "expected"),
    [
        (("1", "2", "3"), [("1", "3", 3)]),
        (("1", "3"), [("1", "1", 1), ("3", "3", 1)]),
        (("9", "10"), [("9", "9", 1), ("10", "10", 1)]),
        (("08", "09", "10"), [("08", "10", 3)]),
        (("A1", "A2"), [("A1", "A1", 1), ("A2", "A2", 1)]),
        ((), []),
    ],
    ids=["run", "hole", "other-length", "leading-zero", "letters", "none"],
)
def test_run_is_of_numbers_that_follow_each_other(
    serials: tuple[str, ...], expected: list[tuple[str, str, int]]
) -> None:
    assert ends(list(runs_of(packs(*serials), singly=False))) == expected


def test_run_ends_with_its_lot_and_its_expiry() -> None:
    found = runs_of([*packs("1"), *packs("2", lot="A2"), *packs("3", lot="A2", expiry="")], singly=False)
    assert [(run.lot, run.expiry, run.first) for run in found] == [
        ("A1", "2028-03-31", "1"),
        ("A2", "2028-03-31", "2"),
        ("A2", "", "3"),
    ]


def test_every_serial_number_by_itself() -> None:
    assert ends(list(runs_of(packs("1", "2"), singly=True))) == [("1", "1", 1), ("2", "2", 1)]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_begins_a_formula(text: str) -> None:
    assert neutral(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "1", "A-1", "ni:///sha-256;0"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert neutral(text) == text


def test_row_of_a_correction_says_when_it_was_declared_and_what_corrects_it() -> None:
    event = custody_pb2.OwnEvent(
        event_id="urn:x:1",
        declaration=True,
        kind=custody_pb2.OWN_EVENT_KIND_CORRECTION,
        event_time=to_timestamp(datetime(2026, 5, 4, 10, tzinfo=UTC)),
        event_time_zone_offset="-05:30",
        declaration_time=to_timestamp(datetime(2026, 5, 5, 10, tzinfo=UTC)),
        corrective_event_ids=["urn:x:2", "urn:x:3"],
        partner="0399999999991",
    )
    row = dict(zip(COLUMNS, row_of(event, Run(GTIN, "A1", "", "1", "3", 3), reporter="0300011111116"), strict=True))
    assert row["report_type"] == "correction"
    assert row["event_time"] == "2026-05-04T04:30:00-05:30"
    assert row["declaration_time"] == "2026-05-05T10:00:00+00:00"
    assert row["corrective_event_ids"] == "urn:x:2 urn:x:3"
    assert row["log_index"] == ""


class Service:
    """Answers that a service would give, without one."""

    def __init__(self, *answers: custody_pb2.ExportShipmentResponse) -> None:
        self.answers = answers

    async def ExportShipment(self, _request: object) -> AsyncIterator[custody_pb2.ExportShipmentResponse]:  # noqa: N802  # the contract's name
        for answer in self.answers:
            yield answer


@pytest.fixture
def found(tmp_path: Path) -> Globals:
    out = Console(file=io.StringIO(), width=180)
    return Globals(tmp_path, None, Output(False, out, out))  # as_json


def answered(monkeypatch: pytest.MonkeyPatch, *answers: custody_pb2.ExportShipmentResponse) -> None:
    session = SimpleNamespace(custody=Service(*answers))

    def run(_found: Globals, work: Any) -> Any:
        return asyncio.run(work(session))

    monkeypatch.setattr(export, "run_session", run)


def exported(found: Globals, path: Path) -> None:
    export.run_export(found, "urn:x:1", path=path, profile="", allow_gaps=False)


def test_file_that_did_not_come_whole_is_not_left(
    found: Globals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = custody_pb2.ShipmentSummary(document_size=7)
    answered(
        monkeypatch,
        custody_pb2.ExportShipmentResponse(summary=summary),
        custody_pb2.ExportShipmentResponse(chunk=b"<epcis"),
    )
    path = tmp_path / "out.xml"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(UnavailableError) as caught:
        exported(found, path)
    assert caught.value.code == "EXPORT_INCOMPLETE"
    assert [(each.name, each.read_text(encoding="utf-8")) for each in tmp_path.iterdir()] == [("out.xml", "before")]


def test_file_replaces_the_one_before_and_may_be_read_by_others(
    found: Globals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = custody_pb2.ShipmentSummary(document_size=6)
    answered(
        monkeypatch,
        custody_pb2.ExportShipmentResponse(summary=summary),
        custody_pb2.ExportShipmentResponse(chunk=b"<ep"),
        custody_pb2.ExportShipmentResponse(chunk=b"cis"),
    )
    path, other = tmp_path / "out.xml", tmp_path / "other"
    exported(found, path)
    other.touch()
    assert path.read_bytes() == b"<epcis"
    assert path.stat().st_mode == other.stat().st_mode


def test_many_gaps_are_cut_off_for_people(found: Globals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = [custody_pb2.ExportGap(code="LOT_MISSING", subject=f"[{number}]", message="x") for number in range(60)]
    answered(
        monkeypatch,
        custody_pb2.ExportShipmentResponse(summary=custody_pb2.ShipmentSummary(document_size=6, gap_count=99)),
        custody_pb2.ExportShipmentResponse(gaps=gaps),
    )
    with pytest.raises(SystemExit) as end:
        exported(found, tmp_path / "out.xml")
    assert end.value.code == 1
    words = found.output.console.file.getvalue()  # type: ignore[attr-defined]
    assert words.count("LOT_MISSING") == export.MAX_DRAWN
    assert "[49]" in words
    assert "49 more gaps" in words
    assert list(tmp_path.iterdir()) == []


# --- pages ---


class Ledgerless:
    """Own events in two pages, and the packs of each."""

    def __init__(self) -> None:
        self.requests: list[custody_pb2.ListOwnEventsRequest] = []

    async def ListOwnEvents(  # noqa: N802  # the contract's name
        self, request: custody_pb2.ListOwnEventsRequest
    ) -> custody_pb2.ListOwnEventsResponse:
        kept = custody_pb2.ListOwnEventsRequest()
        kept.CopyFrom(request)
        self.requests.append(kept)
        event = custody_pb2.OwnEvent(
            event_id=f"urn:x:{len(self.requests)}",
            kind=custody_pb2.OWN_EVENT_KIND_DESTRUCTION,
            event_time=to_timestamp(datetime(2026, 5, 4, 10, tzinfo=UTC)),
            event_time_zone_offset="+00:00",
        )
        token = "more" if len(self.requests) == 1 else ""
        return custody_pb2.ListOwnEventsResponse(events=[event], next_page_token=token)

    async def ListEventPacks(self, _request: object) -> AsyncIterator[custody_pb2.ListEventPacksResponse]:  # noqa: N802  # the contract's name
        yield custody_pb2.ListEventPacksResponse(packs=packs("=1"))


def test_report_goes_on_to_the_last_page() -> None:
    custody = Ledgerless()
    session: Any = SimpleNamespace(custody=custody, organisation=SimpleNamespace(gln="0300011111116"))
    options = report.ReportOptions(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC), bom=True)
    out = io.StringIO()
    assert asyncio.run(report.write_report(session, options, out)) == 2
    lines = out.getvalue().split("\r\n")
    assert lines[0].startswith(report.BOM + "report_type,")
    assert [line.split(",")[1] for line in lines[1:3]] == ["urn:x:1", "urn:x:2"]
    assert ",'=1,'=1,1," in lines[1]
    assert [request.page_token for request in custody.requests] == ["", "more"]
    assert custody.requests[0].end_time.ToDatetime(UTC) == options.end


def test_refuses_an_unknown_profile(found: Globals, tmp_path: Path) -> None:
    with pytest.raises(MalformedError) as caught:
        export.run_export(found, "urn:x:1", path=tmp_path / "out.xml", profile="fmd", allow_gaps=False)
    assert caught.value.field == "--profile"
