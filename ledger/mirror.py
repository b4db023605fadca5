"""Publishing: what is signed becomes the instance's own public files, then what its readers are told.

In this order: tiles, the witnesses' cosignatures as far as they come in time, ``checkpoint`` with them, the readers.
The witnesses are asked before the checkpoint is served, so that whoever audits it does not meet one whose cosignatures
are still on their way. Each instance has files of its own, written from the committed checkpoint rows and from nothing
else, so that they only ever grow, whoever leads. A crash leaves tiles that no checkpoint names yet, or a row that is
ahead of the files; the start mends both.

Source: LEDGER, section 2.4; C2SP tlog-tiles v0.1; docs/adr/0007-publishing.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import takewhile

from sqlalchemy import Connection, select

from ledger.feed import CheckpointFeed
from ledger.storage import checkpoint_store, log_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.log_store import MustReach
from ledger.storage.tables import ENTRY
from ledger.tile_files import TileFiles, edge_or_none
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.errors import ConflictError, MedtrailError, RootMismatchError, UnavailableError, VerificationError
from medtrail.note import NoteVerifier
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.tiles import TILE_WIDTH, TileEdge

log = get_logger(__name__)

ENTRIES_A_READ = 2048
SIZES_A_READ = 256
TILE_BITS = TILE_WIDTH.bit_length() - 1
POLL_S = 0.25
RETRY_S = 1.0

Cosign = Callable[[StoredCheckpoint], Awaitable[None]]
"""Asks the witnesses, and returns when their cosignatures are stored, as far as they came in time."""


class Mirror:
    """Keeps the public folder at what is signed, until it is cancelled or finds what cannot be the log's."""

    def __init__(
        self,
        database: Database,
        files: TileFiles,
        *,
        verifier: NoteVerifier,
        feed: CheckpointFeed,
        on_halt: Callable[[MedtrailError], None] = lambda _error: None,
    ) -> None:
        """Hold the parts; nothing runs yet.

        Args:
            database: The log's.
            files: This instance's public folder.
            verifier: The log's key.
            feed: Gets each checkpoint once its files stand and the witnesses were asked.
            on_halt: Is told why no more checkpoints come.
        """
        self._database = database
        self._files = files
        self._verifier = verifier
        self._feed = feed
        self._on_halt = on_halt
        self._edge: TileEdge | None = None
        self._tiled = CheckpointFeed()
        self._published_size = 0
        self._woken = asyncio.Event()
        self.cosign: Cosign | None = None
        self.checked = asyncio.Event()
        """Set once it is known, and stored, what the public files say was signed: nothing is signed before."""
        self.error: MedtrailError | None = None

    def wake(self) -> None:
        """Say that something was signed."""
        self._woken.set()

    async def run(self) -> None:
        """Repair, then follow what is signed; on what cannot be the log's: log, tell, return."""
        teller = asyncio.create_task(self._tell(), name="teller")
        try:
            while True:
                try:
                    self._woken.clear()
                    if teller.done():
                        # It ends by an error only.
                        teller.result()
                    if (self._edge is not None or await self.repair()) and not await self._grow():
                        await self._add_lines()
                    await self._pause()
                except (UnavailableError, OSError) as error:
                    # A full or failing disk: nothing was half-published, and the files are checked again.
                    self._edge = None
                    log.warning("mirror waits", reason=str(error))
                    await asyncio.sleep(RETRY_S)
        except MedtrailError as error:
            self.error = error
            log.error("mirror halted", code=error.code, reason=error.message, **error.facts)  # noqa: TRY400 - a decision, not a fault of ours
            self._on_halt(error)
        finally:
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        except TimeoutError:
            return

    async def repair(self) -> bool:
        """Find the tree whose tiles stand; return False while the published checkpoint is ahead of what is signed.

        Then the database was rolled back: nothing is signed before it has that tree again, and the files stay.

        Raises:
            VerificationError: The published checkpoint is not the log's.
            ConflictError: LOG_FORKED: it is, and of another tree than the database signed; nothing is signed any more.
        """
        state = await self._database.read(log_store.require_state)
        published = await asyncio.to_thread(self._opened, state.origin)
        if published is None:
            self._edge = TileEdge()
            self.checked.set()
            return True
        newest, same = await self._database.read(partial(_newest_and_of_size, size=published.size))
        if newest is None or newest.tree.size < published.size:
            if state.must_reach is None or state.must_reach.size < published.size:
                reason = f"a checkpoint of {published.size} entries is published, the database signed none so large"
                await self._freeze(published, reason)
            self.checked.set()
            return False
        if same is None or same.root_hash != published.root_hash:
            message = f"the published checkpoint of size {published.size} is not one that this database signed"
            await self._freeze(published, message)
            self.checked.set()
            raise ConflictError(message, code="LOG_FORKED", published=published.size)
        self.checked.set()
        edge = await asyncio.to_thread(
            edge_or_none, self._files, tree_size=published.size, root_hash=published.root_hash
        )
        if edge is None:
            log.warning("tiles are written anew", tree_size=published.size)
        self._edge = edge or TileEdge()
        self._published_size = 0 if edge is None else edge.size
        return True

    async def _freeze(self, published: Checkpoint, reason: str) -> None:
        reach = MustReach(published.size, published.root_hash)
        log.error("the published checkpoint is not of this database", published=published.size, reason=reason)
        await self._database.write(partial(log_store.freeze, reason=reason, must_reach=reach))

    def _opened(self, origin: str) -> Checkpoint | None:
        note = self._files.checkpoint()
        if note is None:
            return None
        return open_checkpoint(note, origin=origin, verifiers=[self._verifier]).checkpoint

    async def publish_once(self) -> bool:
        """Publish the newest signed checkpoint; return whether it was not published yet.

        Raises:
            VerificationError: ENTRY_MISSING, ROOT_MISMATCH: the entries are not those that were signed.
            OSError: The disk does not take it.
        """
        grown = await self._grow()
        if grown:
            await self._publish(self._tiled.newest)
        return grown

    async def _grow(self) -> bool:
        """Write the tiles of the newest signed checkpoint; return whether some were missing."""
        newest = await self._database.read(checkpoint_store.newest_checkpoint)
        edge = self._edge
        if newest is None or edge is None:
            return False
        if newest.tree.size == edge.size and self._tiled_size() == edge.size:
            return False
        # Until all stand, nothing is known of them: an error on the way lets them be checked again.
        self._edge = None
        self._edge = await self._write_all_tiles(edge, newest)
        self._tiled.put(newest)
        return True

    def _tiled_size(self) -> int:
        try:
            return self._tiled.newest.tree.size
        except UnavailableError:
            return 0

    async def _publish(self, stored: StoredCheckpoint) -> None:
        """Ask the witnesses, write ``checkpoint`` with what they sign, and tell the readers."""
        if self.cosign is not None:
            await self.cosign(stored)
        await self._write_checkpoint(stored)
        old_size, self._published_size = self._published_size, stored.tree.size
        log.debug("checkpoint published", tree_size=stored.tree.size, root_hash=stored.root_hash)
        await asyncio.to_thread(self._files.drop_partials, old_size=old_size, new_size=stored.tree.size)

    async def _write_checkpoint(self, stored: StoredCheckpoint) -> None:
        lines = await self._database.read(partial(checkpoint_store.cosignatures, tree_size=stored.tree.size))
        told = with_lines(stored, lines)
        if await asyncio.to_thread(self._files.checkpoint) != told.note:
            await asyncio.to_thread(self._files.write_checkpoint, told.note)
        self._feed.put(told)

    async def _add_lines(self) -> None:
        """Add cosignatures that came late, or by way of another instance, to what is published."""
        newest = await self._database.read(checkpoint_store.newest_checkpoint)
        if newest is not None and newest.tree.size == self._published_size:
            await self._write_checkpoint(newest)

    async def _write_all_tiles(self, edge: TileEdge, newest: StoredCheckpoint) -> TileEdge:
        # Every size that was signed gets its partial tiles, unless full ones come: a reader may hold any of them.
        seen = edge.size
        while seen < newest.tree.size:
            sizes = await self._database.read(
                partial(checkpoint_store.checkpoint_sizes, after=seen, limit=SIZES_A_READ)
            )
            for size in takewhile(lambda one: one <= newest.tree.size, sizes):
                if size == newest.tree.size or _has_lasting_partials(size, before=seen, newest=newest.tree.size):
                    edge = await self._write_tiles(edge, size)
                seen = size
        if edge.compact_range().root() != newest.root_hash:
            raise RootMismatchError(expected=newest.root_hash, computed=edge.compact_range().root())
        return edge

    async def _write_tiles(self, edge: TileEdge, new_size: int) -> TileEdge:
        # The files are written from within the read, a chunk at a time: memory stays bounded whatever the backlog.
        def write(connection: Connection) -> TileEdge:
            return self._files.grow(edge, _entry_chunks(connection, start=edge.size, end=new_size), new_size=new_size)

        return await self._database.read(write)

    async def _tell(self) -> None:
        """Publish each checkpoint whose tiles stand, as fast as the witnesses answer; the newest is what counts."""
        async for stored in self._tiled.watch():
            while True:
                try:
                    await self._publish(stored)
                    break
                except (UnavailableError, OSError) as error:
                    log.warning("mirror waits", reason=str(error))
                    await asyncio.sleep(RETRY_S)


def with_lines(stored: StoredCheckpoint, lines: list[str]) -> StoredCheckpoint:
    """Return a checkpoint with further signature lines under its note."""
    note = stored.note + "".join(f"{line}\n" for line in lines).encode()
    return StoredCheckpoint(stored.tree, stored.root_hash, note)


def _has_lasting_partials(size: int, *, before: int, newest: int) -> bool:
    """Tell whether a tree has a partial tile that the one before it had not, and that the newest does not complete.

    A log that is published anew has had many checkpoints; most of their partial tiles would go as soon as they came.
    """
    level = 0
    while size >> (TILE_BITS * level):
        hashes = size >> (TILE_BITS * level)
        completed = hashes >> TILE_BITS != newest >> (TILE_BITS * (level + 1))
        if hashes % TILE_WIDTH and not completed and hashes != before >> (TILE_BITS * level):
            return True
        level += 1
    return False


def _newest_and_of_size(
    connection: Connection, *, size: int
) -> tuple[StoredCheckpoint | None, StoredCheckpoint | None]:
    return checkpoint_store.newest_checkpoint(connection), checkpoint_store.checkpoint_of_size(connection, size)


def _entry_chunks(connection: Connection, *, start: int, end: int) -> Iterator[list[bytes]]:
    while start < end:
        query = select(ENTRY.c.entry).where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end)
        chunk = list(connection.execute(query.order_by(ENTRY.c.leaf_index).limit(ENTRIES_A_READ)).scalars())
        if not chunk:
            raise VerificationError(f"entry {start} is missing", code="ENTRY_MISSING", leaf_index=start)
        yield chunk
        start += len(chunk)
