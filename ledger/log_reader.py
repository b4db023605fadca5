"""Reading the published log: entries with their proofs in the newest checkpoint.

Proofs come from the published tiles, which are checked against the checkpoint's root on the way: a damaged tile makes
an answer fail, never lie.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from ledger.event_index import event_id_hash
from ledger.feed import CheckpointFeed
from ledger.storage import entry_store, erasure_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.entry_store import StoredEntry
from ledger.storage.erasure_store import ErasedEntry, Outcome
from ledger.tile_files import TileFiles
from medtrail.errors import MalformedError, NotFoundError
from medtrail.merkle import consistency_proof, inclusion_proof
from medtrail.runtime.database import Database
from medtrail.tiles import TileHashReader

LARGEST_PAGE_BYTES = 2 * 1024 * 1024
"""Of events in one answer, but for the last of them."""


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry with its inclusion proof in a checkpoint; ``erased`` says by whom and why, if it was."""

    stored: StoredEntry
    proof: tuple[bytes, ...]
    erased: ErasedEntry | None = None

    @property
    def key_list_sha256(self) -> bytes:
        """Second hash of the entry: of list salt and item-map keys."""
        return self.stored.entry[33:]


class LogReader:
    """Read access to the published log."""

    def __init__(self, database: Database, files: TileFiles, feed: CheckpointFeed, *, map_salt: bytes) -> None:
        """Hold the parts.

        Args:
            database: ledger.db.
            files: Published tiles.
            feed: The newest published checkpoint.
            map_salt: The item map's secret, 32 bytes: events are found by keyed hashes of their ids.
        """
        self._database = database
        self._map_salt = map_salt
        self._files = files
        self.feed = feed
        self._lock = Lock()
        self._hashes: tuple[int, TileHashReader] | None = None

    @property
    def checkpoint(self) -> StoredCheckpoint:
        """The newest published checkpoint.

        Raises:
            UnavailableError: None is published yet.
        """
        return self.feed.newest

    async def entries_at(self, indices: Sequence[int]) -> dict[int, StoredEntry]:
        """Return the entries at these indices that stand, by index: the first of them, as many as fill an answer."""
        found = await self._database.read(
            lambda connection: entry_store.entries_at(connection, indices, most_bytes=LARGEST_PAGE_BYTES)
        )
        return {entry.leaf_index: entry for entry in found}

    async def entries_of_types(
        self, payload_types: Sequence[str], *, start: int, end: int, limit: int
    ) -> list[StoredEntry]:
        """Return the first entries in [start, end) of these payload types (empty: all), in log order.

        At most ``limit`` of them, and as many as fill an answer.
        """
        return await self._database.read(
            lambda connection: entry_store.entries_of_types(
                connection, payload_types, start=start, end=end, limit=limit, most_bytes=LARGEST_PAGE_BYTES
            )
        )

    async def index_of(self, *, event_id: str = "", sha256: bytes = b"") -> int:
        """Return the index of the first entry with an event id, or of these signed bytes.

        Raises:
            NotFoundError: EVENT_UNKNOWN.
        """
        if sha256:
            found = await self._database.read(
                lambda connection: entry_store.index_of_signed_event(connection, sha256=sha256)
            )
        else:
            digest = event_id_hash(self._map_salt, event_id)
            found = await self._database.read(
                lambda connection: entry_store.index_of_event(connection, event_id_hash=digest)
            )
        if found is None:
            field = "signed_event_sha256" if sha256 else "event_id"
            raise NotFoundError("the log has no such event", code="EVENT_UNKNOWN", field=field)
        return found

    async def entry(self, leaf_index: int, checkpoint: StoredCheckpoint) -> StoredEntry:
        """Return a published entry.

        Raises:
            NotFoundError: ENTRY_UNKNOWN: no such entry, or none that the checkpoint covers yet.
        """
        if leaf_index >= checkpoint.tree.size:
            message = f"the checkpoint covers {checkpoint.tree.size} entries, asked for {leaf_index}"
            raise NotFoundError(message, code="ENTRY_UNKNOWN", field="leaf_index")
        return await self._database.read(lambda connection: entry_store.entry_at(connection, leaf_index))

    async def prove(self, entries: Sequence[StoredEntry], checkpoint: StoredCheckpoint) -> list[ProvenEntry]:
        """Return entries with their inclusion proofs in a checkpoint.

        Raises:
            VerificationError: The tiles do not lead to the checkpoint's root.
        """
        indices = [entry.leaf_index for entry in entries]
        proofs = await asyncio.to_thread(self._inclusion_proofs, indices, checkpoint)
        gone = [entry.leaf_index for entry in entries if entry.erased]
        erased: dict[int, ErasedEntry] = {}
        if gone:
            erased = await self._database.read(lambda connection: erasure_store.erased_at(connection, gone))
        return [
            ProvenEntry(entry, proof, erased.get(entry.leaf_index))
            for entry, proof in zip(entries, proofs, strict=True)
        ]

    async def erasure_outcomes(self, *, start: int, limit: int) -> list[Outcome]:
        """Return what became of the first orders at or after an index that were decided, in log order."""
        return await self._database.read(
            lambda connection: erasure_store.outcomes(connection, start=start, limit=limit)
        )

    def _inclusion_proofs(self, indices: Sequence[int], checkpoint: StoredCheckpoint) -> list[tuple[bytes, ...]]:
        with self._lock:
            hashes = self._hash_reader(checkpoint)
            size = checkpoint.tree.size
            return [inclusion_proof(hashes, leaf_index=index, tree_size=size) for index in indices]

    def _hash_reader(self, checkpoint: StoredCheckpoint) -> TileHashReader:
        size = checkpoint.tree.size
        if self._hashes is None or self._hashes[0] != size:
            reader = TileHashReader(self._files.read_tile, tree_size=size, root_hash=checkpoint.root_hash)
            self._hashes = (size, reader)
        return self._hashes[1]

    async def prove_consistency(
        self, *, old_size: int, new_size: int, checkpoint: StoredCheckpoint
    ) -> tuple[bytes, ...]:
        """Return the hashes that prove an older tree a prefix of a newer one.

        Args:
            old_size: 1 or more.
            new_size: Not more than the checkpoint's.
            checkpoint: Whose tiles are read.

        Raises:
            MalformedError: A size is out of range.
        """
        if not 1 <= old_size <= new_size <= checkpoint.tree.size:
            message = f"expected 1 <= old_size <= new_size <= {checkpoint.tree.size}, got {old_size} and {new_size}"
            raise MalformedError(message, code="TREE_SIZE_INVALID", field="old_size")

        def prove() -> tuple[bytes, ...]:
            with self._lock:
                return consistency_proof(self._hash_reader(checkpoint), size1=old_size, size2=new_size)

        return await asyncio.to_thread(prove)
