"""Signing and publishing checkpoints, apart from the sequencer.

Before it signs, the publisher derives every leaf since the last checkpoint anew from the stored bytes, and the root
from those: a flipped bit in the database stops it here, not in an auditor's hands. Then, in this order: sign; put the
note in the place of the newest row, if that still is the one that was read (the lock); write tiles; replace
``checkpoint``. A crash after the swap leaves a signed checkpoint without files; the start writes them.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from ledger.storage import log_store
from ledger.storage.log_store import CHECKPOINT, ENTRY, State, StoredCheckpoint, StoredEntry
from ledger.tile_files import TileFiles, edge_or_none
from medtrail.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from medtrail.errors import ConflictError, MedtrailError, RootMismatchError, UnavailableError, VerificationError
from medtrail.item_map import log_entry
from medtrail.merkle import CompactRange, hash_leaf
from medtrail.note import NoteSigner
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.tiles import TileEdge

log = get_logger(__name__)

ENTRIES_A_READ = 2048
RETRY_S = 1.0


class CheckpointFeed:
    """The newest published checkpoint, and a way to wait for the next."""

    def __init__(self) -> None:
        """Start with none published."""
        self._newest: StoredCheckpoint | None = None
        self._changed = asyncio.Event()

    @property
    def newest(self) -> StoredCheckpoint:
        """The newest published checkpoint.

        Raises:
            UnavailableError: CHECKPOINT_MISSING: none is published yet.
        """
        if self._newest is None:
            raise UnavailableError("no checkpoint is published yet", code="CHECKPOINT_MISSING")
        return self._newest

    def put(self, checkpoint: StoredCheckpoint) -> None:
        """Tell all who wait of a newer one."""
        self._newest = checkpoint
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self) -> AsyncIterator[StoredCheckpoint]:
        """Yield the newest, then each newer one; who is slow misses those in between."""
        sent = 0
        while True:
            changed = self._changed
            if self._newest is not None and self._newest.tree.size > sent:
                sent = self._newest.tree.size
                yield self._newest
            else:
                await changed.wait()


@dataclass(frozen=True, slots=True)
class _Due:
    """What is to be signed: the log's state and the newest signed checkpoint, of one moment."""

    state: State
    newest: StoredCheckpoint | None


class Publisher:
    """Publishes checkpoints until it is cancelled or finds something that it must not sign."""

    def __init__(
        self,
        database: Database,
        files: TileFiles,
        signer: NoteSigner,
        *,
        feed: CheckpointFeed,
        interval_s: float,
        on_halt: Callable[[MedtrailError], None] = lambda _error: None,
    ) -> None:
        """Hold the parts; nothing runs yet.

        Args:
            database: ledger.db.
            files: The public folder.
            signer: The log's key, named like its origin.
            feed: Gets each checkpoint once its files stand.
            interval_s: Pause between checkpoints.
            on_halt: Is told why no more checkpoints come.
        """
        self._database = database
        self._files = files
        self._signer = signer
        self._feed = feed
        self._interval_s = interval_s
        self._on_halt = on_halt
        self._edge: TileEdge | None = None
        self.error: MedtrailError | None = None

    async def run(self) -> None:
        """Repair, then publish at every interval; on what must not be signed: log, tell, return."""
        try:
            while True:
                try:
                    if self._edge is None:
                        await self.repair()
                    await self.publish_once()
                    await asyncio.sleep(self._interval_s)
                except (UnavailableError, OSError) as error:
                    # A full or failing disk: nothing was half-published, and the files are checked again.
                    self._edge = None
                    log.warning("publisher waits", reason=str(error))
                    await asyncio.sleep(RETRY_S)
        except MedtrailError as error:
            self.error = error
            log.error("publisher halted", code=error.code, reason=error.message, **error.facts)  # noqa: TRY400 - a decision, not a fault of ours
            self._on_halt(error)

    async def repair(self) -> None:
        """Make the files those of the newest signed checkpoint, and hand it out.

        Raises:
            ConflictError: LOG_ROLLED_BACK: the published checkpoint, or the newest signed, is ahead of the database.
            VerificationError: The published checkpoint is not the log's, or of another tree.
        """
        due = await self._database.read(_read_due)
        published = await asyncio.to_thread(self._published, due.state.origin)
        newest = due.newest
        self._check_not_rolled_back(due, published)
        if newest is None:
            self._edge = TileEdge()
            return
        kept = None
        if published is not None:
            row = await self._database.read(lambda connection: log_store.checkpoint_of_size(connection, published.size))
            if row is None or row.root_hash != published.root_hash:
                message = f"the published checkpoint of size {published.size} is not one that this database signed"
                raise ConflictError(message, code="LOG_ROLLED_BACK", published=published.size)
            kept = await asyncio.to_thread(
                edge_or_none, self._files, tree_size=published.size, root_hash=published.root_hash
            )
        if kept is None:
            log.warning("tiles are written anew", tree_size=newest.tree.size)
            kept = TileEdge()
        self._edge = await self._write_checkpoints(kept, newest)

    @staticmethod
    def _check_not_rolled_back(due: _Due, published: Checkpoint | None) -> None:
        signed_size = 0 if due.newest is None else due.newest.tree.size
        if published is not None and published.size > signed_size:
            message = f"the published checkpoint has {published.size} leaves, the database signed {signed_size}"
            raise ConflictError(message, code="LOG_ROLLED_BACK", published=published.size, signed=signed_size)
        _check_not_shrunk(due)

    def _published(self, origin: str) -> Checkpoint | None:
        note = self._files.checkpoint()
        if note is None:
            return None
        return open_checkpoint(note, origin=origin, verifiers=[self._signer.verifier]).checkpoint

    async def _write_checkpoints(self, edge: TileEdge, newest: StoredCheckpoint) -> TileEdge:
        # Every size that was signed gets its partial tiles: a reader may hold any of them.
        def sizes_after(connection: Connection) -> list[int]:
            query = select(CHECKPOINT.c.tree_size).where(CHECKPOINT.c.tree_size > edge.size).order_by("tree_size")
            return list(connection.execute(query).scalars())

        for size in await self._database.read(sizes_after):
            edge = await self._write_tiles(edge, size)
        if edge.compact_range().root() != newest.root_hash:
            raise RootMismatchError(expected=newest.root_hash, computed=edge.compact_range().root())
        if await asyncio.to_thread(self._files.checkpoint) != newest.note:
            await asyncio.to_thread(self._files.write_checkpoint, newest.note)
        self._feed.put(newest)
        return edge

    async def _write_tiles(self, edge: TileEdge, new_size: int) -> TileEdge:
        # The files are written from within the read, a chunk at a time: memory stays bounded whatever the backlog.
        def write(connection: Connection) -> TileEdge:
            return self._files.grow(edge, _entry_chunks(connection, start=edge.size, end=new_size), new_size=new_size)

        return await self._database.read(write)

    async def publish_once(self) -> bool:
        """Publish what was committed since the last checkpoint; return whether there was something.

        Raises:
            VerificationError: ENTRY_CORRUPT: a stored entry does not follow from its stored bytes; ROOT_MISMATCH.
            ConflictError: LOG_ROLLED_BACK, CHECKPOINT_MOVED.
        """
        due = await self._database.read(_read_due)
        _check_not_shrunk(due)
        newest = due.newest
        if newest is not None and newest.tree.size == due.state.tree.size:
            return False
        edge = self._edge
        if edge is None or edge.size != (0 if newest is None else newest.tree.size):
            raise ConflictError("another publisher signed a checkpoint", code="CHECKPOINT_MOVED")
        tree = due.state.tree
        await self._database.read(lambda connection: derive_tree(connection, due.newest, tree))
        checkpoint = Checkpoint(due.state.origin, tree.size, tree.root())
        signed = StoredCheckpoint(tree, checkpoint.root_hash, sign_checkpoint(checkpoint, self._signer))
        expected = None if newest is None else newest.note
        await self._database.write(
            lambda connection: log_store.swap_checkpoint(connection, expected=expected, new=signed)
        )
        # From here on the row is ahead of the files, until the checkpoint stands; a crash is mended by the start.
        self._edge = None
        grown = await self._write_tiles(edge, tree.size)
        if grown.compact_range() != tree:
            raise RootMismatchError(expected=tree.root(), computed=grown.compact_range().root())
        await asyncio.to_thread(self._files.write_checkpoint, signed.note)
        self._edge = grown
        self._feed.put(signed)
        await asyncio.to_thread(self._files.drop_partials, old_size=edge.size, new_size=tree.size)
        log.debug("checkpoint published", tree_size=tree.size, root_hash=checkpoint.root_hash)
        return True


def _read_due(connection: Connection) -> _Due:
    return _Due(log_store.require_state(connection), log_store.newest_checkpoint(connection))


def _check_not_shrunk(due: _Due) -> None:
    newest = due.newest
    if newest is None:
        return
    if newest.tree.size > due.state.tree.size:
        message = f"the log has {due.state.tree.size} leaves, the last signed checkpoint {newest.tree.size}"
        raise ConflictError(message, code="LOG_ROLLED_BACK", signed=newest.tree.size)
    if newest.tree.size == due.state.tree.size and newest.root_hash != due.state.tree.root():
        raise RootMismatchError(expected=newest.root_hash, computed=due.state.tree.root())


def derive_tree(connection: Connection, newest: StoredCheckpoint | None, tree: CompactRange) -> None:
    """Derive the tree from the stored bytes since the newest checkpoint, and compare it with the log's.

    Raises:
        VerificationError: ENTRY_CORRUPT or ENTRY_MISSING, with the index.
        RootMismatchError: The entries lead to another root than the log's.
    """
    derived = CompactRange() if newest is None else newest.tree
    if newest is not None and derived.root() != newest.root_hash:
        raise RootMismatchError(expected=newest.root_hash, computed=derived.root())
    while derived.size < tree.size:
        end = min(derived.size + ENTRIES_A_READ, tree.size)
        stored = log_store.entries(connection, start=derived.size, end=end)
        derived = derived.extend([derive_leaf(entry, index) for index, entry in enumerate(stored, derived.size)])
        if derived.size != end:
            raise VerificationError(f"entry {derived.size} is missing", code="ENTRY_MISSING", leaf_index=derived.size)
    if derived != tree:
        raise RootMismatchError(expected=tree.root(), computed=derived.root())


def derive_leaf(stored: StoredEntry, leaf_index: int) -> bytes:
    """Return the leaf hash of an entry, derived from its SignedEvent and key list.

    Raises:
        VerificationError: ENTRY_CORRUPT: the stored entry is another.
    """
    keys = hashlib.sha256(stored.list_salt + stored.map_keys).digest()
    # Of an erased event its hash is left, in the entry itself.
    digest = stored.entry[1:33] if stored.erased else hashlib.sha256(stored.signed_event or b"").digest()
    entry = log_entry(digest, keys)
    if entry != stored.entry or stored.leaf_index != leaf_index:
        message = f"entry {leaf_index} does not follow from its stored event and key list"
        raise VerificationError(message, code="ENTRY_CORRUPT", leaf_index=leaf_index)
    return hash_leaf(entry)


def _entry_chunks(connection: Connection, *, start: int, end: int) -> Iterator[list[bytes]]:
    while start < end:
        query = select(ENTRY.c.entry).where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end)
        chunk = list(connection.execute(query.order_by(ENTRY.c.leaf_index).limit(ENTRIES_A_READ)).scalars())
        if not chunk:
            raise VerificationError(f"entry {start} is missing", code="ENTRY_MISSING", leaf_index=start)
        yield chunk
        start += len(chunk)
