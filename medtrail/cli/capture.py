"""``medtrail import``: EPCIS documents through the services' CaptureEvents."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import epcis_pb2
from medtrail.cli.epcis_files import read_file
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.session import Session, run_session
from medtrail.epcis import EpcisDocument

CHUNK_EVENTS = 500
CHUNK_BYTES = 1024 * 1024


@dataclass(slots=True)
class Imported:
    """What became of a document's events."""

    accepted: int = 0
    resends: int = 0
    event_ids: list[str] = field(default_factory=list)
    errors: list[dict[str, str | int]] = field(default_factory=list)


def run_import(found: Globals, path: Path, *, second_hand: bool) -> None:
    """Send a document and say what became of each event; exit code 1 when any was refused."""
    document = read_file(path)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=found.output.errors,
        transient=True,
        disable=found.output.as_json or not found.output.errors.is_terminal,
    )
    with progress:
        task = progress.add_task("events", total=len(document.events))
        result = run_session(
            found,
            lambda session: import_document(
                session, document, second_hand=second_hand, advance=lambda count: progress.advance(task, count)
            ),
        )
    body = {
        "events": len(document.events),
        "accepted": result.accepted,
        "resends": result.resends,
        "event_ids": result.event_ids,
        "errors": result.errors,
    }
    found.output.answer(body, lambda console: draw_import(console, len(document.events), result))
    if result.errors:
        sys.exit(ExitCode.REFUSED)


def draw_import(console: Console, total: int, result: Imported) -> None:
    """Show what became of a document's events."""
    known = f", {result.resends} known before" if result.resends else ""
    console.print(f"{total} events: {result.accepted} accepted{known}, {len(result.errors)} refused")
    for error in result.errors:
        console.print(f"  event {error['event']}: {error['code']} {error['field']}: {error['message']}", markup=False)
    if result.errors:
        console.print("nothing of a refused chunk was recorded; mend the document and import it again")


async def import_document(
    session: Session,
    document: EpcisDocument,
    *,
    second_hand: bool = False,
    advance: Callable[[int], object] = lambda _count: None,
) -> Imported:
    """Send a document's events in chunks, one transaction each; stops at the first refused chunk."""
    chunks = list(_chunks(document))
    result = Imported()
    turn = asyncio.Semaphore(1)

    async def requests() -> AsyncIterator[custody_pb2.CaptureEventsRequest]:
        for chunk in chunks:
            # The service judges each chunk by itself: one sent behind a refused chunk would be recorded, and not told.
            await turn.acquire()
            if result.errors:
                return
            yield custody_pb2.CaptureEventsRequest(request_id=str(uuid.uuid4()), events=chunk, second_hand=second_hand)

    first = 0
    answered = 0
    async for answer in session.custody.CaptureEvents(requests()):
        result.accepted += sum(not event.resend for event in answer.events)
        result.resends += sum(event.resend for event in answer.events)
        result.event_ids += [event.event_id for event in answer.events]
        result.errors += [
            {
                "event": first + error.event_number,
                "code": error.code,
                "field": error.field,
                "message": error.message,
            }
            for error in answer.errors
        ]
        size = len(chunks[answered])
        first += size
        answered += 1
        advance(size)
        turn.release()
    return result


def _chunks(document: EpcisDocument) -> Iterator[list[epcis_pb2.EpcisEvent]]:
    chunk: list[epcis_pb2.EpcisEvent] = []
    size = 0
    for event in document.events:
        message = codec.epcis_to_message(event)
        length = message.ByteSize()
        if chunk and (len(chunk) == CHUNK_EVENTS or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += length
    if chunk:
        yield chunk
