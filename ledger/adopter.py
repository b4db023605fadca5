"""A replica's part in place of the signer: it adopts checkpoints that another signed, if it derives the same roots.

A replica has a database of its own, reads the stream and judges by itself. It never signs: it holds no key of the log.
When what is published is not what it derives, it stops, and says so.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy import Connection

from ledger.deriving import derive_tree
from ledger.storage import checkpoint_store, log_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.log_store import FenceLostError, MustReach
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.errors import MedtrailError, RootMismatchError, UnavailableError
from medtrail.note import NoteVerifier
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

RETRY_S = 1.0


class Adopter:
    """Adopts published checkpoints until one is not what the replica derives."""

    def __init__(
        self,
        database: Database,
        fetch: Callable[[], Awaitable[bytes]],
        *,
        verifier: NoteVerifier,
        interval_s: float,
        on_adopted: Callable[[], None] = lambda: None,
        on_halt: Callable[[MedtrailError], None] = lambda _error: None,
    ) -> None:
        """Hold the parts; nothing runs yet.

        Args:
            database: The replica's own.
            fetch: Returns the newest published checkpoint's note.
            verifier: The log's key.
            interval_s: Pause between questions.
            on_adopted: Is told each adoption.
            on_halt: Is told why no more checkpoints come.
        """
        self._database = database
        self._fetch = fetch
        self._verifier = verifier
        self._interval_s = interval_s
        self._on_adopted = on_adopted
        self._on_halt = on_halt
        self.error: MedtrailError | None = None

    async def run(self, fence: int) -> None:
        """Adopt until cancelled; on a checkpoint that does not add up: log, tell, return.

        Raises:
            FenceLostError: Another process writes this database.
        """
        self.error = None
        try:
            while True:
                try:
                    await self.adopt_once(fence)
                    await asyncio.sleep(self._interval_s)
                except UnavailableError as error:
                    log.warning("replica waits", code=error.code, reason=error.message)
                    await asyncio.sleep(RETRY_S)
        except FenceLostError:
            raise
        except MedtrailError as error:
            self.error = error
            log.error("replica halted", code=error.code, reason=error.message, **error.facts)  # noqa: TRY400 - a decision, not a fault of ours
            self._on_halt(error)

    async def adopt_once(self, fence: int) -> bool:
        """Adopt the published checkpoint if the replica has come so far; return whether it did.

        Raises:
            RootMismatchError: The log published another root than the replica derives, or did before its database was
                rolled back: it forked, or one of them erred.
            VerificationError: The published checkpoint is not signed by the log.
            UnavailableError: It cannot be had now.
        """
        note = await self._fetch()
        state = await self._database.read(log_store.require_state)
        published = open_checkpoint(note, origin=state.origin, verifiers=[self._verifier]).checkpoint
        newest = await self._database.read(checkpoint_store.newest_checkpoint)
        signed = 0 if newest is None else newest.tree.size
        if published.size > state.tree.size:
            return False
        if published.size <= signed:
            await self._check_older(published)
            return False
        tree = await self._database.read(lambda connection: derive_tree(connection, newest, published.size))
        if tree.root() != published.root_hash:
            raise RootMismatchError(expected=published.root_hash, computed=tree.root())
        reached = state.must_reach if state.must_reach is not None and state.must_reach.size <= published.size else None
        if reached is not None:
            await self._check_older(Checkpoint(state.origin, reached.size, reached.root_hash))
        adopted = StoredCheckpoint(tree, published.root_hash, _own_lines(note, published, self._verifier))
        expected = None if newest is None else newest.note
        swap = partial(_swap, expected=expected, adopted=adopted, fence=fence, reached=reached)
        await self._database.write(swap)
        self._on_adopted()
        return True

    async def _check_older(self, published: Checkpoint) -> None:
        # A cache may hand out an older one; it still must be of this history.
        base = await self._database.read(partial(checkpoint_store.checkpoint_below, size=published.size))
        tree = await self._database.read(lambda connection: derive_tree(connection, base, published.size))
        if tree.root() != published.root_hash:
            raise RootMismatchError(expected=published.root_hash, computed=tree.root())


def _swap(
    connection: Connection, *, expected: bytes | None, adopted: StoredCheckpoint, fence: int, reached: MustReach | None
) -> None:
    checkpoint_store.swap_checkpoint(connection, expected=expected, new=adopted, fence=fence)
    if reached is not None and log_store.require_state(connection).must_reach == reached:
        # What this replica had published before its database was rolled back is what it derives again.
        log_store.thaw(connection)


def _own_lines(note: bytes, checkpoint: Checkpoint, verifier: NoteVerifier) -> bytes:
    """Return the note with the log's own signature only: witnesses' lines are kept apart."""
    opened = open_checkpoint(note, origin=checkpoint.origin, verifiers=[verifier])
    lines = "".join(f"{item.signature.line}\n" for item in opened.signatures)
    return f"{checkpoint.text}\n{lines}".encode()
