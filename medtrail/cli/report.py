"""``medtrail report shipments``: what an organisation shipped, took back and destroyed, as CSV for an authority.

Rows go out as they come: of one event at a time its packs are in memory.
"""

import contextlib
import csv
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import groupby
from pathlib import Path
from typing import TextIO

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.cli.main import Globals
from medtrail.cli.render import parse_time
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError

COLUMNS = (
    "report_type",
    "event_id",
    "event_time",
    "declaration_time",
    "corrective_event_ids",
    "reporter_gln",
    "partner_gln",
    "gtin",
    "lot",
    "expiry",
    "serial_from",
    "serial_to",
    "quantity",
    "unit_price",
    "supply_class",
    "contract_type",
    "purchase_order",
    "despatch_advice",
    "log_index",
)
FORMATS = ("csv",)
ROWS = ("range", "serial")
PAGE = 500
BOM = "\ufeff"

# What a spreadsheet would take for a formula (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_KIND_PREFIX = "OWN_EVENT_KIND_"
_REPORTED = tuple(
    number
    for name, number in custody_pb2.OwnEventKind.items()
    if number not in {custody_pb2.OWN_EVENT_KIND_UNSPECIFIED, custody_pb2.OWN_EVENT_KIND_OTHER}
)


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What to report, and how.

    Attributes:
        start: First moment, or None.
        end: First moment behind, or None.
        serials: A row a serial number instead of a row a run of them.
        bom: A byte order mark first, by which Excel knows UTF-8.
    """

    start: datetime | None
    end: datetime | None
    serials: bool = False
    bom: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Packs of one product, lot and expiry whose serial numbers follow each other; both ends included."""

    gtin: str
    lot: str
    expiry: str
    first: str
    last: str
    count: int


def run_shipments(
    found: Globals, *, start: str | None, end: str | None, file_format: str, rows: str, bom: bool, path: Path | None
) -> None:
    """Write the report to a file or to standard output.

    Raises:
        MalformedError: A moment, the format or the kind of rows is none.
    """
    _check_word(file_format, FORMATS, "--format")
    _check_word(rows, ROWS, "--rows")
    options = ReportOptions(
        None if start is None else parse_time(start, field="--from"),
        None if end is None else parse_time(end, field="--to"),
        serials=rows == "serial",
        bom=bom,
    )
    with contextlib.ExitStack() as stack:
        out = sys.stdout
        if path is not None:
            out = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        count = run_session(found, lambda session: write_report(session, options, out))
    if path is not None:
        found.output.answer(
            {"file": str(path), "rows": count},
            lambda console: console.print(f"{count} rows: {path}", markup=False, soft_wrap=True),
        )


def _check_word(text: str, known: Sequence[str], field: str) -> None:
    if text not in known:
        message = f"expected {' or '.join(known)}, got {text[:20]!r}"
        raise MalformedError(message, code="OPTION_UNKNOWN", field=field)


async def write_report(session: Session, options: ReportOptions, out: TextIO) -> int:
    """Write header and rows; return the number of rows without the header."""
    if options.bom:
        out.write(BOM)
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    count = 0
    async for event in own_events(session, options):
        packs = await packs_of(session, event)
        for run in runs_of(packs, singly=options.serials):
            writer.writerow([neutral(text) for text in row_of(event, run, reporter=session.organisation.gln)])
            count += 1
    return count


async def own_events(session: Session, options: ReportOptions) -> AsyncIterator[custody_pb2.OwnEvent]:
    """Yield the events to report, in the order in which they were recorded."""
    request = custody_pb2.ListOwnEventsRequest(kinds=_REPORTED, page_size=PAGE)
    if options.start is not None:
        request.start_time.CopyFrom(codec.to_timestamp(options.start))
    if options.end is not None:
        request.end_time.CopyFrom(codec.to_timestamp(options.end))
    while True:
        answer = await session.custody.ListOwnEvents(request)
        for event in answer.events:
            yield event
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


async def packs_of(session: Session, event: custody_pb2.OwnEvent) -> list[custody_pb2.EventPack]:
    """Return the packs that an event concerns, in the service's order."""
    request = custody_pb2.ListEventPacksRequest(event_id=event.event_id, declaration=event.declaration)
    return [pack async for answer in session.custody.ListEventPacks(request) for pack in answer.packs]


def runs_of(packs: Iterable[custody_pb2.EventPack], *, singly: bool) -> Iterator[Run]:
    """Yield runs of serial numbers that follow each other: numbers of as many digits, each one more than the last.

    Args:
        packs: In order of GTIN, lot, expiry, and length and text of the serial number.
        singly: Every serial number by itself.
    """
    for (gtin, lot, expiry), group in groupby(packs, key=lambda pack: (pack.gtin, pack.lot, pack.expiry)):
        first = last = ""
        count = 0
        for pack in group:
            if count and not singly and _follows(last, pack.serial):
                last, count = pack.serial, count + 1
                continue
            if count:
                yield Run(gtin, lot, expiry, first, last, count)
            first, last, count = pack.serial, pack.serial, 1
        yield Run(gtin, lot, expiry, first, last, count)


def _follows(before: str, serial: str) -> bool:
    # Serial numbers are ASCII; isdecimal alone would take other digits, too.
    numbers = before.isascii() and before.isdecimal() and serial.isascii() and serial.isdecimal()
    return numbers and len(before) == len(serial) and int(before) + 1 == int(serial)


def row_of(event: custody_pb2.OwnEvent, run: Run, *, reporter: str) -> tuple[str, ...]:
    """Return the texts of a row, in the order of the columns."""
    offset = event.event_time_zone_offset
    return (
        custody_pb2.OwnEventKind.Name(event.kind).removeprefix(_KIND_PREFIX).lower(),
        event.event_id,
        _local(event, "event_time", offset),
        _local(event, "declaration_time", "+00:00"),
        " ".join(event.corrective_event_ids),
        reporter,
        event.partner,
        run.gtin,
        run.lot,
        run.expiry,
        run.first,
        run.last,
        str(run.count),
        # Events tell no commercial terms: whoever reports fills them in.
        "",
        "",
        "",
        " ".join(event.purchase_orders),
        " ".join(event.despatch_advices),
        str(event.leaf_index) if event.HasField("leaf_index") else "",
    )


def _local(event: custody_pb2.OwnEvent, name: str, offset: str) -> str:
    """Return a moment with the offset that was in force; empty where there is none."""
    stamp = getattr(event, name)
    if not stamp.seconds and not stamp.nanos:
        return ""
    sign = -1 if offset.startswith("-") else 1
    zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6])))
    return codec.from_timestamp(stamp, field=name).astimezone(zone).isoformat()


def neutral(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe goes before what could begin one."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
