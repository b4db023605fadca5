"""Follows the log and keeps projection.db up with what is published.

The projection is disposable: it has a cursor of its own, is filled anew when its tables are of another version, and
after ``rebuild``. It never runs ahead of the published checkpoint, so that every answer can be proven.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import structlog

from ledger.projections import store
from ledger.projections.store import ChainedEvent
from medtrail.errors import UnavailableError
from medtrail.runtime.database import Database

# A batch is read at once and written in transactions of bounded size: an event may name 5,000 units.
PROJECTION_NAME = "projection.db"
BATCH_EVENTS = 1000
BATCH_BYTES = 2 * 1024 * 1024
RETRY_S = 1.0

ReadEntries = Callable[[int, int], Awaitable[Sequence[ChainedEvent]]]
"""Return the first entries of [start, stop) of the log, in order: one or more of them."""


def open_projection(path: Path) -> Database:
    """Open projection.db and make its tables; what cannot be read, or is of another version, starts empty. Blocks.

    Raises:
        UnavailableError: The file cannot be opened or written.
    """
    try:
        return _prepared(path)
    except UnavailableError as error:
        if error.code != "STORAGE_CORRUPT":
            raise
    structlog.get_logger("ledger.projector").warning("projection damaged, starting anew", path=str(path))
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    return _prepared(path)


def _prepared(path: Path) -> Database:
    with ExitStack() as opened:
        database = Database(path)
        opened.callback(database.close)
        database.write_now(store.prepare)
        opened.pop_all()
    return database


class Projector:
    """Takes published entries in, in batches, one transaction each.

    Args:
        database: projection.db, as :func:`open_projection` opened it.
        read_entries: Reads chained events from ledger.db.
        on_taken_in: Told the size of the tree that is taken in, after each batch.
    """

    def __init__(
        self, database: Database, read_entries: ReadEntries, *, on_taken_in: Callable[[int], None] = lambda _size: None
    ) -> None:
        self._database = database
        self._read_entries = read_entries
        self._on_taken_in = on_taken_in
        self._published = 0
        self._more = asyncio.Event()
        self._taken_in = 0
        self._advanced = asyncio.Condition()
        self._log = structlog.get_logger("ledger.projector")

    @property
    def taken_in(self) -> int:
        """Size of the tree that is known to be taken in."""
        return self._taken_in

    def published(self, tree_size: int) -> None:
        """Tell that the log is published up to a size."""
        if tree_size > self._published:
            self._published = tree_size
            self._more.set()

    async def run(self) -> None:
        """Follow until cancelled. A crash anywhere loses at most a batch that was not committed, which comes again."""
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                await self.catch_up(self._published)
            except UnavailableError as error:
                # A database that is away: what asks and what chains goes on without us.
                self._log.warning("projector waits", code=error.code, reason=error.message)
                self._more.set()
                await asyncio.sleep(RETRY_S)

    async def catch_up(self, tree_size: int) -> int:
        """Take in all entries below a size; return how many were new.

        Raises:
            UnavailableError: LOG_INCOMPLETE: the log holds fewer entries than it has published.
        """
        start = first = await self._database.read(store.next_index)
        await self._advance(first)
        while first < tree_size:
            after = min(first + BATCH_EVENTS, tree_size)
            entries = await self._read_entries(first, after)
            wanted = range(first, first + len(entries))
            if not entries or any(entry.leaf_index != index for entry, index in zip(entries, wanted, strict=True)):
                message = f"the log gave {len(entries)} entries of [{first}, {after}), or not the first of them"
                raise UnavailableError(message, code="LOG_INCOMPLETE")
            for part in _parts(entries):
                rows = await asyncio.to_thread(store.rows_of, part)
                await self._database.write(partial(store.add_rows, rows=rows, first=first, after=first + len(part)))
                first += len(part)
                await self._advance(first)
        if first > start:
            self._log.debug("projection caught up", tree_size=first, new_count=first - start)
        return max(first - start, 0)

    async def _advance(self, tree_size: int) -> None:
        async with self._advanced:
            self._taken_in = tree_size
            self._advanced.notify_all()
        self._on_taken_in(tree_size)

    async def wait_for(self, tree_size: int) -> None:
        """Wait until all entries below a size are taken in."""
        async with self._advanced:
            await self._advanced.wait_for(lambda: self._taken_in >= tree_size)

    async def rebuild(self, tree_size: int) -> int:
        """Forget everything and take in all entries below a size again; return how many."""
        await self._database.write(store.clear)
        return await self.catch_up(tree_size)


def _parts(entries: Sequence[ChainedEvent]) -> Iterator[list[ChainedEvent]]:
    """Yield entries in parts of at most ``BATCH_BYTES``, or of one entry."""
    part: list[ChainedEvent] = []
    size = 0
    for entry in entries:
        if part and size + len(entry.signed_event) > BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append(entry)
        size += len(entry.signed_event)
    if part:
        yield part
