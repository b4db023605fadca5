"""``medtrail export``: one shipment as one EPCIS 1.2 file for a partner outside the network."""

import contextlib
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.table import Table

from medtrail.api.custody.v1 import custody_pb2
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError, UnavailableError

PROFILES = {
    "": custody_pb2.EXPORT_PROFILE_UNSPECIFIED,
    "dscsa": custody_pb2.EXPORT_PROFILE_DSCSA,
}
MAX_DRAWN = 50


@dataclass(slots=True)
class Received:
    """What the service sent: summary, gaps, and how many bytes of the file."""

    summary: custody_pb2.ShipmentSummary = field(default_factory=custody_pb2.ShipmentSummary)
    gaps: list[custody_pb2.ExportGap] = field(default_factory=list)
    size: int = 0


def run_export(found: Globals, event_id: str, *, path: Path, profile: str, allow_gaps: bool) -> None:
    """Write a shipment's file and say what it holds; exit code 1 when gaps kept it from being written.

    Raises:
        MalformedError: An unknown profile.
        UnavailableError: The file did not come whole (EXPORT_INCOMPLETE).
    """
    if profile not in PROFILES:
        message = f"expected dscsa, got {profile[:20]!r}"
        raise MalformedError(message, code="PROFILE_UNKNOWN", field="--profile")
    request = custody_pb2.ExportShipmentRequest(
        despatch_event_id=event_id, profile=PROFILES[profile], gaps_allowed=allow_gaps
    )
    # Beside its place, so that a file stands there whole or not at all.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            received = run_session(found, lambda session: fetch(session, request, out))
        written = _is_written(received, allow_gaps=allow_gaps)
        if written:
            _open_to_others(Path(name))
            Path(name).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
    _tell(found, received, path, written=written)
    if not written:
        sys.exit(ExitCode.REFUSED)


async def fetch(session: Session, request: custody_pb2.ExportShipmentRequest, out: BinaryIO) -> Received:
    """Take in what the service sends; the file goes out as it comes."""
    received = Received()
    async for answer in session.custody.ExportShipment(request):
        if answer.HasField("summary"):
            received.summary = answer.summary
        received.gaps.extend(answer.gaps)
        received.size += out.write(answer.chunk)
    return received


def _is_written(received: Received, *, allow_gaps: bool) -> bool:
    wanted = received.summary.document_size if allow_gaps or not received.summary.gap_count else 0
    if received.size != wanted:
        message = f"expected a file of {wanted} bytes, got {received.size}: ask again"
        raise UnavailableError(message, code="EXPORT_INCOMPLETE")
    return wanted > 0


def _open_to_others(path: Path) -> None:
    """Give a file the mode that any new one gets: a temporary one is its owner's only."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _tell(found: Globals, received: Received, path: Path, *, written: bool) -> None:
    summary = received.summary
    document = {
        "file": str(path),
        "written": written,
        "units": summary.unit_count,
        "packs": summary.pack_count,
        "events": summary.event_count,
        "bytes": received.size,
        "gap_count": summary.gap_count,
        "gaps": [{"code": gap.code, "subject": gap.subject, "message": gap.message} for gap in received.gaps],
    }
    found.output.answer(document, lambda console: _draw(console, received, path, written=written))


def _draw(console: Console, received: Received, path: Path, *, written: bool) -> None:
    summary = received.summary
    if received.gaps:
        table = Table(box=None, pad_edge=False)
        for heading in ("gap", "of", "what"):
            table.add_column(heading, overflow="fold")
        for gap in received.gaps[:MAX_DRAWN]:
            table.add_row(gap.code, gap.subject.replace("[", r"\["), gap.message.replace("[", r"\["))
        console.print(table)
        if summary.gap_count > MAX_DRAWN:
            console.print(f"{summary.gap_count - MAX_DRAWN} more gaps (--json tells them)", style="dim")
        console.print()
    if written:
        console.print(
            f"{summary.pack_count} packs in {summary.unit_count} units, {summary.event_count} events, "
            f"{received.size} bytes, {summary.gap_count} gaps: {path}",
            markup=False,
            soft_wrap=True,
        )
    else:
        console.print(f"{summary.gap_count} gaps: no file was written (--allow-gaps writes it)", markup=False)
