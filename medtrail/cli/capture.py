"""``medtrail import``: EPCIS documents of any size through the services' CaptureEvents, a chunk a transaction."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import epcis_pb2
from medtrail.cli.epcis_files import format_of
from medtrail.cli.import_journal import Answered, ImportName, Journal, sha256_of
from medtrail.cli.main import Globals
from medtrail.cli.network import read_network
from medtrail.cli.output import ExitCode
from medtrail.cli.session import Session, run_session
from medtrail.epcis import EpcisDocument, EpcisEvent, EventStream, Position, open_events
from medtrail.epcis.build import MAX_DOCUMENT_BYTES

CHUNK_EVENTS = 500
CHUNK_BYTES = 1024 * 1024
TRANSACTION_EVENTS = 10_000
TRANSACTION_BYTES = 24 * 1024 * 1024
"""Of events that are passed on together, what is around them not counted."""
SHOWN_IDS = 10_000
"""Event ids in the answer; the journal holds all of them."""


@dataclass(slots=True)
class Imported:
    """What became of a document's events.

    Attributes:
        events: Read and answered, the events of a refused chunk included.
        resumed_from: Index at which an import that was cut short was taken up, or 0.
        event_ids: Of the first 10,000.
    """

    events: int = 0
    accepted: int = 0
    resends: int = 0
    resumed_from: int = 0
    event_ids: list[str] = field(default_factory=list)
    errors: list[dict[str, str | int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events that are captured together, all or none.

    Attributes:
        first: Index of the first.
        events: 1 to 500, at most 1 MiB unless it is one.
        position: Where the event after the last stands.
    """

    first: int
    events: tuple[epcis_pb2.EpcisEvent, ...]
    position: Position

    @property
    def after(self) -> int:
        """Index of the event after the last."""
        return self.first + len(self.events)


def run_import(found: Globals, path: Path, *, second_hand: bool, happened: bool = False) -> None:
    """Send a document and say what became of each event; exit code 1 when any was refused.

    Args:
        found: Where and as whom.
        path: Of the document.
        second_hand: Others' acts are passed on.
        happened: What breaks a rule of the books is recorded with an alert, instead of refused.
    """
    file_format = format_of(path)
    network = read_network(found.folder)
    name = network.organisations[0].name if found.organisation is None else found.organisation
    organisation = network.organisation(name).name
    with path.open("rb") as file:
        identity = ImportName(organisation, sha256_of(file), second_hand)
        stream = open_events(file, format=file_format)
        journal = Journal(identity.journal(found.folder), identity)
        try:
            result = _import(found, stream, journal, second_hand=second_hand, happened=happened)
        finally:
            journal.close()
    body = {
        "events": result.events,
        "accepted": result.accepted,
        "resends": result.resends,
        "resumed_from": result.resumed_from,
        "event_ids": result.event_ids,
        "errors": result.errors,
        "journal": str(journal.path),
    }
    found.output.answer(body, lambda console: draw_import(console, result))
    if result.errors:
        sys.exit(ExitCode.REFUSED)


def _import(found: Globals, stream: EventStream, journal: Journal, *, second_hand: bool, happened: bool) -> Imported:
    result = Imported()
    resumed = journal.resumed
    if resumed is None and stream.size <= MAX_DOCUMENT_BYTES:
        # What is read in no time is read whole first, so that nothing of a malformed document is sent.
        start = stream.position
        for _ in stream:
            pass
        stream.resume(start)
    if resumed is not None:
        result.resumed_from = resumed.after
        stream.resume(resumed.position)
    errors = found.output.errors
    with import_progress(errors, shown=errors.is_terminal and not found.output.as_json) as progress:
        task = progress.add_task("", total=stream.size, completed=stream.position.offset, events=result.resumed_from)

        def note(chunk: Chunk, answer: custody_pb2.CaptureEventsResponse) -> None:
            if not answer.errors:
                ids = [event.event_id for event in answer.events]
                resends = sum(event.resend for event in answer.events)
                signed = [event.signed_event_sha256.hex() for event in answer.events]
                journal.note(Answered(chunk.first, chunk.after, chunk.position, resends, ids, signed))
            progress.update(task, completed=chunk.position.offset, events=chunk.after)

        chunks = in_chunks(stream, position=lambda: stream.position)
        run_session(
            found,
            lambda session: send_chunks(
                session,
                chunks,
                result,
                request_id=journal.request_id,
                second_hand=second_hand,
                happened=happened,
                note=note,
            ),
        )
    if not result.errors:
        journal.finish()
    _add_up(result, journal)
    return result


def _add_up(result: Imported, journal: Journal) -> None:
    """Count what was answered, in this run and before it was cut short."""
    result.accepted = result.resends = 0
    result.event_ids.clear()
    answered = 0
    for chunk in journal.answered():
        count = len(chunk.event_ids)
        answered += count
        result.resends += chunk.resends
        result.accepted += count - chunk.resends
        result.event_ids += islice(chunk.event_ids, SHOWN_IDS - len(result.event_ids))
    result.events = max(result.events, answered)


def import_progress(console: Console, *, shown: bool) -> Progress:
    """Return the bar: part of the file, events, events a second, bytes a second, time left."""
    return Progress(
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[events]} events"),
        _EventSpeedColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not shown,
    )


class _EventSpeedColumn(ProgressColumn):
    """Events a second since the import began."""

    def __init__(self) -> None:
        super().__init__()
        self._first: float | None = None

    def render(self, task: Task) -> Text:
        """Return the column's text."""
        if self._first is None:
            self._first = task.fields["events"]
        speed = (task.fields["events"] - self._first) / task.elapsed if task.elapsed else 0
        return Text(f"{speed:.0f} events/s")


def draw_import(console: Console, result: Imported) -> None:
    """Show what became of a document's events."""
    known = f", {result.resends} known before" if result.resends else ""
    if result.resumed_from:
        console.print(f"taken up at event {result.resumed_from}, where it was cut short")
    console.print(f"{result.events} events: {result.accepted} accepted{known}, {len(result.errors)} refused")
    for error in result.errors:
        console.print(f"  event {error['event']}: {error['code']} {error['field']}: {error['message']}", markup=False)
    if result.errors:
        console.print("nothing of a refused chunk was recorded; mend the document and import it again")


async def import_document(session: Session, document: EpcisDocument, *, second_hand: bool = False) -> Imported:
    """Send a document's events in chunks, one transaction each; stops at the first refused chunk."""
    result = Imported()
    chunks = in_chunks(enumerate(document.events), position=lambda: Position(0, 0))
    await send_chunks(
        session, chunks, result, request_id=lambda _first, _content: str(uuid.uuid4()), second_hand=second_hand
    )
    return result


async def send_chunks(
    session: Session,
    chunks: Iterable[Chunk],
    result: Imported,
    *,
    request_id: Callable[[int, bytes], str],
    second_hand: bool,
    happened: bool = False,
    note: Callable[[Chunk, custody_pb2.CaptureEventsResponse], object] = lambda _chunk, _answer: None,
) -> None:
    """Send chunks one after the other, and count what became of their events; stops at the first refused chunk.

    Args:
        session: Of the organisation that captures.
        chunks: Made while the service works on the one before.
        result: Where answers are counted.
        request_id: Of a chunk by the index of its first event and its content.
        second_hand: Whether others' acts are passed on.
        happened: Whether all has happened already, whether it should have or not.
        note: Called with each answer.
    """
    sent: asyncio.Queue[tuple[Chunk, bool]] = asyncio.Queue()
    turn = asyncio.Semaphore(1)

    async def requests() -> AsyncIterator[custody_pb2.CaptureEventsRequest]:
        begins = 0
        starts = True
        for chunk, ends in in_transactions(chunks, together=second_hand):
            begins = chunk.first if starts else begins
            request = custody_pb2.CaptureEventsRequest(events=chunk.events, second_hand=second_hand, happened=happened)
            # Where its transaction begins is part of a chunk: taken up in the middle, it is another transaction.
            content = request.SerializeToString(deterministic=True) + (b"" if starts else str(begins).encode())
            request.request_id = request_id(chunk.first, content)
            request.continued = not ends
            if starts:
                # The service judges each transaction by itself: one sent behind a refused one would be recorded, and
                # not told.
                await turn.acquire()
                if result.errors:
                    return
            sent.put_nowait((chunk, ends))
            starts = ends
            yield request

    async for answer in session.custody.CaptureEvents(requests()):
        chunk, ends = sent.get_nowait()
        result.events = chunk.after
        result.accepted += sum(not event.resend for event in answer.events)
        result.resends += sum(event.resend for event in answer.events)
        result.event_ids += islice((event.event_id for event in answer.events), SHOWN_IDS - len(result.event_ids))
        result.errors += [_error(chunk, error) for error in answer.errors if error.code != "TRANSACTION_REFUSED"]
        note(chunk, answer)
        if ends:
            turn.release()


def in_transactions(chunks: Iterable[Chunk], *, together: bool) -> Iterator[tuple[Chunk, bool]]:
    """Yield each chunk, and whether its transaction ends with it.

    Args:
        chunks: In order.
        together: As many chunks a transaction as the service takes, because what makes others' goods ours, the despatch
            to us, stands at the end of a file; else each by itself.
    """
    before: Chunk | None = None
    events = size = 0
    for chunk in chunks:
        length = sum(event.ByteSize() for event in chunk.events)
        if before is not None:
            full = events + len(chunk.events) > TRANSACTION_EVENTS or size + length > TRANSACTION_BYTES
            ends = full or not together
            yield before, ends
            if ends:
                events = size = 0
        before, events, size = chunk, events + len(chunk.events), size + length
    if before is not None:
        yield before, True


def _error(chunk: Chunk, error: custody_pb2.CaptureError) -> dict[str, str | int]:
    index = chunk.first + error.event_number
    # The service counts in its chunk, the reader in the document.
    field_name = error.field.replace(f"events[{error.event_number}]", f"events[{index}]", 1)
    return {"event": index, "code": error.code, "field": field_name, "message": error.message}


def in_chunks(events: Iterable[tuple[int, EpcisEvent]], *, position: Callable[[], Position]) -> Iterator[Chunk]:
    """Yield events in chunks that the service takes: the same events make the same chunks.

    Args:
        events: (index, event), in order.
        position: Where the event after the one that was taken last stands.
    """
    chunk: list[epcis_pb2.EpcisEvent] = []
    first, size = 0, 0
    before = position()
    for index, event in events:
        message = codec.epcis_to_message(event)
        length = message.ByteSize()
        if chunk and (len(chunk) == CHUNK_EVENTS or size + length > CHUNK_BYTES):
            yield Chunk(first, tuple(chunk), before)
            chunk, size = [], 0
        if not chunk:
            first = index
        chunk.append(message)
        size += length
        before = position()
    if chunk:
        yield Chunk(first, tuple(chunk), before)
