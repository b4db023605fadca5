"""A standby's own check of what the leader stores: every root, from the stored bytes."""

from sqlalchemy import Connection

from ledger.deriving import ENTRIES_A_READ, extended
from ledger.storage import checkpoint_store, log_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from medtrail.errors import RootMismatchError, VerificationError
from medtrail.merkle import CompactRange
from medtrail.runtime.database import Database

CHECKPOINTS_A_READ = 64


class StandbyCheck:
    """Derives the root of each checkpoint that is signed from now on anew, from the entries' stored bytes.

    What stood before is fsck's and the auditors' to check: a restart must not take as long as the log is large.
    """

    def __init__(self, database: Database) -> None:
        """Begin at the newest checkpoint."""
        self._database = database
        self._tree: CompactRange | None = None

    async def run_once(self) -> None:
        """Check what was stored since the last time, up to the log's newest entry.

        Raises:
            RootMismatchError: A signed checkpoint, or the log's state, has another root than its entries.
            VerificationError: ENTRY_CORRUPT, ENTRY_MISSING, LOG_ROLLED_BACK: entries that were checked are gone.
        """
        while True:
            self._tree, done = await self._database.read(self._step)
            if done:
                return

    def _step(self, connection: Connection) -> tuple[CompactRange, bool]:
        """Check up to the next checkpoint, or the next few entries; one snapshot a step keeps the leader unhindered."""
        state = log_store.require_state(connection)
        tree = self._tree if self._tree is not None else _first_tree(connection)
        if state.tree.size < tree.size:
            message = f"{tree.size} entries were checked or signed, {state.tree.size} stand"
            raise VerificationError(message, code="LOG_ROLLED_BACK")
        sizes = checkpoint_store.checkpoint_sizes(connection, after=tree.size, limit=1)
        size = min(sizes[0] if sizes else state.tree.size, tree.size + ENTRIES_A_READ)
        tree = extended(connection, tree, size)
        if sizes and size == sizes[0]:
            _check_root(tree, checkpoint_store.checkpoint_of_size(connection, size))
        elif size == state.tree.size and tree != state.tree:
            raise RootMismatchError(expected=state.tree.root(), computed=tree.root())
        return tree, size == state.tree.size


def _first_tree(connection: Connection) -> CompactRange:
    newest = checkpoint_store.newest_checkpoint(connection)
    if newest is None:
        return CompactRange()
    _check_root(newest.tree, newest)
    return newest.tree


def _check_root(tree: CompactRange, signed: StoredCheckpoint | None) -> None:
    if signed is not None and signed.root_hash != tree.root():
        raise RootMismatchError(expected=signed.root_hash, computed=tree.root())
