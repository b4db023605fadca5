"""Follows the log and keeps projection.db up with what is published.

The projection is disposable: it has a cursor of its own, is filled anew when its tables are of another version, and
after ``rebuild``. It never runs ahead of the published checkpoint, so that every answer can be proven.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from ledger.projections import store
from ledger.projections.store import ChainedEvent
from medtrail.runtime.database import Database

BATCH_EVENTS = 1000

ReadEntries = Callable[[int, int], Awaitable[Sequence[ChainedEvent]]]
"""Return the entries [start, stop) of the log, in order."""


class Projector:
    """Takes published entries in, in batches, one transaction each.

    Args:
        database: projection.db.
        read_entries: Reads chained events from ledger.db.
    """

    def __init__(self, database: Database, read_entries: ReadEntries) -> None:
        self._database = database
        self._read_entries = read_entries
        self._published = 0
        self._more = asyncio.Event()
        self._log = structlog.get_logger("ledger.projector")

    def prepare(self) -> None:
        """Make the tables, or empty those of another version. Blocks: for the start of the process."""
        self._database.write_now(store.prepare)

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
            await self.catch_up(self._published)

    async def catch_up(self, tree_size: int) -> int:
        """Take in all entries below a size; return how many were new."""
        start = first = await self._database.read(store.next_index)
        while first < tree_size:
            after = min(first + BATCH_EVENTS, tree_size)
            entries = await self._read_entries(first, after)
            rows = await asyncio.to_thread(store.rows_of, entries)
            await self._database.write(partial(store.add_rows, rows=rows, first=first, after=after))
            first = after
        if first > start:
            self._log.debug("projection caught up", tree_size=first, new_count=first - start)
        return max(first - start, 0)

    async def rebuild(self, tree_size: int) -> int:
        """Forget everything and take in all entries below a size again; return how many."""
        await self._database.write(store.clear)
        return await self.catch_up(tree_size)
