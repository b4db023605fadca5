"""The one writer of the log: reads the stream, judges in order, and commits entries with the cursor in one transaction.

A crash before the commit leaves nothing; after it, everything. Reading starts again at the committed cursor, so no
message is integrated twice and none is left out. While one batch is committed, the next ones are read and examined.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import Connection

from ledger.examiners import Examiners
from ledger.intake import Accepted, OpenMessage
from ledger.judgement import Judge, Key, Refused, StandingEvent, refusal_texts
from ledger.storage import entry_store, log_store
from ledger.storage.log_store import FenceLostError, State
from ledger.stream import EventStream, StreamHaltError, position_of
from ledger.trust_state import TrustState, load_registry
from medtrail.errors import MedtrailError, UnavailableError
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.trust import Registry

log = get_logger(__name__)

POLL_S = 0.05
BATCHES_AHEAD = 2
"""Batches that are examined, or were, while one is committed: memory for as many reads more."""
RETRY_S = 0.5


class SequencerStatus(StrEnum):
    """What the sequencer does now."""

    STARTING = "starting"
    RUNNING = "running"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class _Read:
    """A batch of messages that are being examined, and the creation time of the stream that they came from."""

    opened: "asyncio.Task[list[OpenMessage]]"
    created: str


async def _failed(error: Exception) -> list[OpenMessage]:
    raise error


class Sequencer:
    """Integrates the stream into the log until it is cancelled or halts."""

    def __init__(
        self,
        database: Database,
        stream: EventStream,
        *,
        trust: TrustState,
        examiners: Examiners,
        on_status: Callable[[SequencerStatus], None] = lambda _status: None,
        on_commit: Callable[[bool], None] = lambda _trust_changed: None,
    ) -> None:
        """Hold the parts; nothing runs yet.

        Args:
            database: ledger.db, with the log created.
            stream: Whence messages come.
            trust: Gets the registry after each commit that changed it.
            examiners: Say what each event is by itself.
            on_status: Is told each change of status.
            on_commit: Is told each commit, and whether it changed trust.
        """
        self._database = database
        self._stream = stream
        self._trust = trust
        self._examiners = examiners
        self._on_status = on_status
        self._on_commit = on_commit
        self._registry: Registry = trust.current
        self._fence = 0
        self.status = SequencerStatus.STARTING
        self.error: MedtrailError | None = None

    async def run(self, fence: int) -> None:
        """Integrate until cancelled. When the stream or the log is not as expected, halt: log, tell, return.

        Raises:
            FenceLostError: Another instance leads.
        """
        self._fence = fence
        self.error = None
        try:
            while True:
                try:
                    state = await self._reload()
                    self._set_status(SequencerStatus.RUNNING)
                    await self._integrate(state)
                except UnavailableError as error:
                    # Also after a commit whose outcome nobody knows: the database tells, memory does not.
                    log.warning("sequencer waits", code=error.code, reason=error.message)
                    await asyncio.sleep(RETRY_S)
        except FenceLostError:
            raise
        except MedtrailError as error:
            self.error = error
            self._set_status(SequencerStatus.HALTED)
            log.error("sequencer halted", code=error.code, reason=error.message, **error.facts)  # noqa: TRY400 - a decision, not a fault of ours
        finally:
            if self.status is SequencerStatus.RUNNING:
                self._set_status(SequencerStatus.STARTING)

    async def _reload(self) -> State:
        def load(connection: Connection) -> tuple[State, Registry]:
            state = log_store.require_state(connection)
            authority = self._registry.authority_key_id
            return state, load_registry(connection, authority_key_id=authority, tree_size=state.tree.size)

        state, self._registry = await self._database.read(load)
        self._trust.replace(self._registry)
        return state

    async def _integrate(self, state: State) -> None:
        log.info("sequencer reads", **position_of(state))
        # Batches wait here while they are examined and another is committed, so that none waits for the slowest.
        reads: asyncio.Queue[_Read] = asyncio.Queue(BATCHES_AHEAD)
        ahead = asyncio.create_task(self._read_ahead(state, reads))
        try:
            while True:
                read = await reads.get()
                # Of an error the batches before it are committed.
                state = await self._commit(await read.opened, read.created)
        finally:
            ahead.cancel()
            waiting: list[asyncio.Task[Any]] = [ahead]
            while not reads.empty():
                waiting.append(reads.get_nowait().opened)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _read_ahead(self, state: State, reads: "asyncio.Queue[_Read]") -> None:
        """Read from a state on, until cancelled or until that fails: then the last read's examination says why."""
        created, last_sha256 = state.stream_created, state.last_message_sha256
        next_seq = 0
        while True:
            try:
                if not next_seq:
                    next_seq = await self._stream.first_seq() if begins_anew(state) else state.next_seq
                messages = await self._stream.read(next_seq=next_seq, last_sha256=last_sha256, created=created)
            except Exception as error:  # noqa: BLE001 - whoever commits raises it
                await reads.put(_Read(asyncio.create_task(_failed(error)), created))
                return
            if not messages:
                await asyncio.sleep(POLL_S)
                continue
            created = created or self._stream.created
            next_seq, last_sha256 = messages[-1].stream_seq + 1, messages[-1].sha256
            read = _Read(asyncio.create_task(self._examiners.examine(messages)), created)
            try:
                await reads.put(read)
            except asyncio.CancelledError:
                read.opened.cancel()
                raise

    async def _commit(self, opened: Sequence[OpenMessage], created: str) -> State:
        state, trust_changed = await self._database.write(
            partial(integrate, opened=opened, registry=self._registry, fence=self._fence, created=created)
        )
        if trust_changed:
            self._trust.replace(self._registry)
        self._on_commit(trust_changed)
        return state

    def _set_status(self, status: SequencerStatus) -> None:
        if status is not self.status:
            self.status = status
            self._on_status(status)


def begins_anew(state: State) -> bool:
    """Tell whether nothing was read in this epoch yet, and it is not the first.

    The first must see all messages; a later one is the operator's word that what the stream holds now is to be read.
    """
    return state.epoch > 1 and not state.last_message_sha256


def integrate(
    connection: Connection, *, opened: Sequence[OpenMessage], registry: Registry, fence: int, created: str
) -> tuple[State, bool]:
    """Judge a batch of messages and store what becomes of them; return the state after it and whether trust changed.

    On any error the transaction is rolled back, and the registry must be loaded anew: it may be ahead of the log.

    Raises:
        FenceLostError: Another sequencer took the log.
        StreamHaltError: The batch does not follow the committed cursor.
    """
    state = log_store.require_fence(connection, fence)
    first = opened[0].message.stream_seq
    if first != state.next_seq and not begins_anew(state):
        message = f"expected message {state.next_seq} next, got {first}"
        raise StreamHaltError(message, code="CURSOR_MISMATCH")
    judge = Judge(registry, standing=_standing(connection, opened), tree_size=state.tree.size)
    judged = judge.judge(opened)
    for item in judged:
        for outcome in item.outcomes:
            if isinstance(outcome, Refused):
                log.info(
                    "event refused",
                    code=outcome.error.code,
                    field=refusal_texts(outcome.error)[1],
                    stream_seq=item.opened.message.stream_seq,
                    signed_event_sha256=outcome.candidate.sha256,
                )
    return log_store.append(connection, state, judged, created=created), judge.trust_changed


def _standing(connection: Connection, opened: Sequence[OpenMessage]) -> Callable[[Key], StandingEvent | None]:
    hashes = (
        candidate.event_id_hash
        for message in opened
        for candidate in message.candidates
        if isinstance(candidate, Accepted)
    )
    known = entry_store.standing_keys(connection, hashes)

    def standing(key: Key) -> StandingEvent | None:
        leaf_index = known.get(key)
        if leaf_index is None:
            return None
        entry = entry_store.entry_at(connection, leaf_index)
        signed_event = None if entry.erased else entry.require_event()
        return StandingEvent(leaf_index, entry.entry[1:33], signed_event)

    return standing
