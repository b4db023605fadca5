"""Signed checkpoints, of which the newest is the lock against a second history, and their witnesses' cosignatures.

Functions take a connection inside a transaction, as in :mod:`ledger.storage.log_store`.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from ledger.storage.log_store import FenceLostError, require_state
from ledger.storage.tables import CHECKPOINT, COSIGNATURE
from medtrail.errors import ConflictError
from medtrail.merkle import CompactRange


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint and the tree that it names; the note may hold cosignatures as well."""

    tree: CompactRange
    root_hash: bytes
    note: bytes


def newest_checkpoint(connection: Connection) -> StoredCheckpoint | None:
    """Return the newest signed checkpoint: the lock."""
    row = connection.execute(select(CHECKPOINT).order_by(CHECKPOINT.c.tree_size.desc()).limit(1)).one_or_none()
    return None if row is None else _stored_checkpoint(row)


def checkpoint_of_size(connection: Connection, size: int) -> StoredCheckpoint | None:
    """Return the signed checkpoint of a size, or None."""
    row = connection.execute(select(CHECKPOINT).where(CHECKPOINT.c.tree_size == size)).one_or_none()
    return None if row is None else _stored_checkpoint(row)


def checkpoint_below(connection: Connection, size: int) -> StoredCheckpoint | None:
    """Return the largest signed checkpoint of at most a size, or None."""
    query = select(CHECKPOINT).where(CHECKPOINT.c.tree_size <= size).order_by(CHECKPOINT.c.tree_size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _stored_checkpoint(row)


def _stored_checkpoint(row: Row[Any]) -> StoredCheckpoint:
    return StoredCheckpoint(CompactRange.from_bytes(row.tree_range), row.root_hash, row.note)


def swap_checkpoint(
    connection: Connection, *, expected: bytes | None, new: StoredCheckpoint, fence: int | None = None
) -> None:
    """Put a new signed checkpoint in the place of the newest, if that is still the expected note (None: none yet).

    Args:
        connection: In a write transaction.
        expected: Note of the newest as it was read.
        new: What was signed.
        fence: The signer's.

    Raises:
        FenceLostError: Another instance took the log.
        ConflictError: CHECKPOINT_MOVED: somebody else signed; LOG_ROLLED_BACK: the new tree is not larger.
    """
    state = require_state(connection, lock=True)
    if fence is not None and state.fence != fence:
        raise FenceLostError(f"expected fence {fence}, the log has {state.fence}: another instance took it")
    newest = newest_checkpoint(connection)
    if (None if newest is None else newest.note) != expected:
        raise ConflictError("another publisher signed a checkpoint", code="CHECKPOINT_MOVED")
    if newest is not None and new.tree.size <= newest.tree.size:
        message = f"expected more than {newest.tree.size} leaves, got {new.tree.size}"
        raise ConflictError(message, code="LOG_ROLLED_BACK")
    connection.execute(
        insert(CHECKPOINT).values(
            tree_size=new.tree.size, root_hash=new.root_hash, tree_range=new.tree.to_bytes(), note=new.note
        )
    )


def checkpoint_sizes(connection: Connection, *, after: int, limit: int) -> list[int]:
    """Return the sizes of the first signed checkpoints that are larger than a size, ascending."""
    query = select(CHECKPOINT.c.tree_size).where(CHECKPOINT.c.tree_size > after).order_by(CHECKPOINT.c.tree_size)
    return list(connection.execute(query.limit(limit)).scalars())


def put_cosignature(connection: Connection, *, tree_size: int, witness: str, line: str, time_s: int) -> None:
    """Keep a witness's signature line of a checkpoint; a newer one of the same takes the place of the older."""
    same = (COSIGNATURE.c.tree_size == tree_size, COSIGNATURE.c.witness == witness)
    changed = connection.execute(update(COSIGNATURE).where(*same).values(line=line, time_s=time_s))
    if changed.rowcount == 0:
        connection.execute(insert(COSIGNATURE).values(tree_size=tree_size, witness=witness, line=line, time_s=time_s))


def cosignatures(connection: Connection, *, tree_size: int) -> list[str]:
    """Return the signature lines of witnesses under a checkpoint, by the witnesses' names."""
    query = select(COSIGNATURE.c.line).where(COSIGNATURE.c.tree_size == tree_size).order_by(COSIGNATURE.c.witness)
    return list(connection.execute(query).scalars())
