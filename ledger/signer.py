"""Signing checkpoints, apart from the sequencer.

Before it signs, the signer derives every leaf since the last checkpoint anew from the stored bytes, and the root from
those: a flipped bit in the database stops it here, not in an auditor's hands. Then it signs, and puts the note in the
place of the newest row if that still is the one that was read and the fence is still its own. What is signed is
published by :mod:`ledger.mirror`.

Source: LEDGER, sections 2.4 and 2.5.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from ledger.deriving import derive_tree
from ledger.storage import checkpoint_store, log_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.log_store import FenceLostError, MustReach, State
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.errors import ConflictError, MedtrailError, RootMismatchError, UnavailableError
from medtrail.note import NoteSigner
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Due:
    """What is to be signed: the log's state and the newest signed checkpoint, of one moment."""

    state: State
    newest: StoredCheckpoint | None


class Signer:
    """Signs checkpoints while its instance leads, until it finds something that it must not sign."""

    def __init__(
        self,
        database: Database,
        signer: NoteSigner,
        *,
        interval_s: float,
        on_signed: Callable[[], None] = lambda: None,
        on_halt: Callable[[MedtrailError], None] = lambda _error: None,
    ) -> None:
        """Hold the parts; nothing runs yet.

        Args:
            database: The log's.
            signer: The log's key, named like its origin.
            interval_s: Pause between checkpoints.
            on_signed: Is told each signature.
            on_halt: Is told why no more checkpoints come.
        """
        self._database = database
        self._signer = signer
        self._interval_s = interval_s
        self._on_signed = on_signed
        self._on_halt = on_halt
        self._told_waiting = 0
        self.error: MedtrailError | None = None

    async def run(self, fence: int) -> None:
        """Sign at every interval; on what must not be signed: log, tell, return.

        Raises:
            FenceLostError: Another instance leads.
        """
        self.error = None
        try:
            while True:
                try:
                    await self.sign_once(fence)
                    await asyncio.sleep(self._interval_s)
                except UnavailableError as error:
                    log.warning("signer waits", code=error.code, reason=error.message)
                    await asyncio.sleep(RETRY_S)
        except FenceLostError:
            raise
        except MedtrailError as error:
            self.error = error
            log.error("signer halted", code=error.code, reason=error.message, **error.facts)  # noqa: TRY400 - a decision, not a fault of ours
            self._on_halt(error)

    async def sign_once(self, fence: int) -> bool:
        """Sign what was committed since the last checkpoint; return whether a new one stands.

        Raises:
            FenceLostError: Another instance leads.
            VerificationError: ENTRY_CORRUPT: a stored entry does not follow from its stored bytes; ROOT_MISMATCH.
            ConflictError: LOG_ROLLED_BACK, CHECKPOINT_MOVED, LOG_FROZEN, LOG_FORKED.
        """
        due = await self._database.read(_read_due)
        _check_not_shrunk(due)
        size = self._size_to_sign(due)
        if size is None:
            return False
        tree = await self._database.read(lambda connection: derive_tree(connection, due.newest, size))
        reached = due.state.must_reach
        if reached is None and tree != due.state.tree:
            raise RootMismatchError(expected=due.state.tree.root(), computed=tree.root())
        if reached is not None and tree.root() != reached.root_hash:
            await self._forked(reached)
        checkpoint = Checkpoint(due.state.origin, tree.size, tree.root())
        signed = StoredCheckpoint(tree, checkpoint.root_hash, sign_checkpoint(checkpoint, self._signer))
        expected = None if due.newest is None else due.newest.note
        if not await self._database.write(partial(_swap, due=due, expected=expected, signed=signed, fence=fence)):
            return False
        log.debug("checkpoint signed", tree_size=tree.size, root_hash=checkpoint.root_hash)
        self._on_signed()
        return True

    def _size_to_sign(self, due: _Due) -> int | None:
        """Return the size of the tree to sign; None when there is none yet."""
        state, reach = due.state, due.state.must_reach
        signed = 0 if due.newest is None else due.newest.tree.size
        if reach is None:
            if state.frozen:
                raise ConflictError(f"nothing may be signed: {state.frozen}", code="LOG_FROZEN")
            return None if signed == state.tree.size else state.tree.size
        if reach.size <= signed:
            message = f"this log's key has signed another tree of {reach.size} entries: {state.frozen}"
            raise ConflictError(message, code="LOG_FORKED", tree_size=reach.size)
        if state.tree.size < reach.size:
            if self._told_waiting != reach.size:
                self._told_waiting = reach.size
                log.warning(
                    "nothing is signed before the log is what it was",
                    reason=state.frozen,
                    tree_size=state.tree.size,
                    must_reach_size=reach.size,
                )
            return None
        # This size first, by itself: the same tree gets the same signature again.
        return reach.size

    async def _forked(self, reach: MustReach) -> None:
        message = f"the log has another root at {reach.size} entries than its key has signed: begin a successor log"
        reason = f"{message} (docs/operations.md, restore)"
        await self._database.write(partial(log_store.freeze, reason=reason))
        raise ConflictError(message, code="LOG_FORKED", tree_size=reach.size)


def _swap(connection: Connection, *, due: _Due, expected: bytes | None, signed: StoredCheckpoint, fence: int) -> bool:
    """Put a signed checkpoint in its place; return False where that may not be any more: it is forgotten then.

    A witness, or published files, may have shown meanwhile what this key signed once: the database is asked again, in
    the transaction that makes the signature count.
    """
    state = log_store.require_fence(connection, fence)
    if (state.frozen, state.must_reach) != (due.state.frozen, due.state.must_reach):
        return False
    checkpoint_store.swap_checkpoint(connection, expected=expected, new=signed, fence=fence)
    if state.must_reach is not None:
        log_store.thaw(connection)
    return True


def _read_due(connection: Connection) -> _Due:
    return _Due(log_store.require_state(connection), checkpoint_store.newest_checkpoint(connection))


def _check_not_shrunk(due: _Due) -> None:
    newest = due.newest
    if newest is None:
        return
    if newest.tree.size > due.state.tree.size:
        message = f"the log has {due.state.tree.size} leaves, the last signed checkpoint {newest.tree.size}"
        raise ConflictError(message, code="LOG_ROLLED_BACK", signed=newest.tree.size)
    if newest.tree.size == due.state.tree.size and newest.root_hash != due.state.tree.root():
        raise RootMismatchError(expected=newest.root_hash, computed=due.state.tree.root())
