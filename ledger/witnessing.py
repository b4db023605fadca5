"""The leader's dealings with the witnesses: each checkpoint is shown to all, and their word is kept.

A witness that is slow, dead or lying holds nothing up for long: all are asked at once, a deadline ends the waiting, and
who failed is asked again in the background, later and later. A witness that shows a larger checkpoint with this log's
own signature, or another root, knows of a history that this database lost or never had: then nothing is signed until
the log has that tree again. A larger size that comes without such a checkpoint is only the witness's fault.

Source: LEDGER, sections 2.4 and 2.5.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from ledger.deriving import derive_tree
from ledger.storage import checkpoint_store, log_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.log_store import MustReach
from ledger.witness.service import AddCheckpoint
from ledger.witness_client import SizeTold, WitnessClient
from medtrail.checkpoint import Checkpoint
from medtrail.errors import ConflictError, MedtrailError, UnavailableError, VerificationError
from medtrail.note import NoteVerifier
from medtrail.policy import KnownWitness, Policy
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

DEADLINE_S = 1.0
REQUEST_TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 1.0
BACKOFF_AT_MOST_S = 60.0
POLL_S = 0.5

ProveConsistency = Callable[[int, StoredCheckpoint], Awaitable[tuple[bytes, ...]]]
"""Returns the proof from a size, 1 or more, to a checkpoint whose tiles stand."""


@dataclass(slots=True)
class WitnessStatus:
    """How it stands with a witness.

    Attributes:
        name: In the policy.
        size: The largest of our checkpoints that it cosigned, as far as we know; 0 at first.
        error: Code of the last failure; empty when the last request went well.
        failures: In a row.
        latency_s: Of the last request that went well.
    """

    name: str
    size: int = 0
    error: str = ""
    failures: int = 0
    latency_s: float = 0.0


@dataclass(slots=True)
class _Asked:
    client: WitnessClient
    status: WitnessStatus
    due_at: float = 0.0
    running: asyncio.Task[None] | None = None


class Witnessing:
    """Shows checkpoints to the witnesses of a policy while its instance leads."""

    def __init__(
        self, database: Database, policy: Policy, *, verifier: NoteVerifier, prove_consistency: ProveConsistency
    ) -> None:
        """Hold the parts; nothing is asked yet.

        Args:
            database: The log's.
            policy: Its witnesses with an address are asked.
            verifier: The log's key.
            prove_consistency: From the published tiles.
        """
        self._database = database
        self._verifier = verifier
        self._prove_consistency = prove_consistency
        self._asked = [_asked(witness) for witness in policy.witnesses if witness.url]
        self._newest: StoredCheckpoint | None = None

    def status(self) -> list[WitnessStatus]:
        """Return how it stands with each witness, in the policy's order."""
        return [asked.status for asked in self._asked]

    async def close(self) -> None:
        """End what is still asked, and the connections."""
        running = [asked.running for asked in self._asked if asked.running is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for asked in self._asked:
            await asked.client.close()

    async def run(self) -> None:
        """Bring witnesses that failed to the newest checkpoint once they answer again, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._newest is not None:
                self._start(self._newest)

    async def cosign(self, stored: StoredCheckpoint) -> None:
        """Show a checkpoint, whose tiles stand, to all witnesses; wait for those that are well, but not for long."""
        self._newest = stored
        tasks = self._start(stored)
        if tasks:
            await asyncio.wait(tasks, timeout=DEADLINE_S)

    def _start(self, stored: StoredCheckpoint) -> list[asyncio.Task[None]]:
        now = asyncio.get_running_loop().time()
        started: list[asyncio.Task[None]] = []
        for asked in self._asked:
            busy = asked.running is not None and not asked.running.done()
            if busy or now < asked.due_at or asked.status.size >= stored.tree.size:
                continue
            asked.running = asyncio.create_task(self._ask(asked, stored), name=f"witness {asked.status.name}")
            started.append(asked.running)
        return started

    async def _ask(self, asked: _Asked, stored: StoredCheckpoint) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._add(asked, stored)
        except MedtrailError as error:
            if error.code == "WITNESS_AHEAD":
                # It is well; this log is not. It is asked again with the next checkpoint.
                asked.status.size, asked.status.error = stored.tree.size, error.code
            else:
                self._failed(asked, error)
            return
        status = asked.status
        if status.failures:
            log.info("witness is back", witness=status.name, tree_size=stored.tree.size)
        status.size, status.error, status.failures = stored.tree.size, "", 0
        status.latency_s = loop.time() - began

    def _failed(self, asked: _Asked, error: MedtrailError) -> None:
        status = asked.status
        status.failures += 1
        pause_s = min(BACKOFF_FIRST_S * 2 ** min(status.failures - 1, 10), BACKOFF_AT_MOST_S)
        asked.due_at = asyncio.get_running_loop().time() + pause_s
        if status.error != error.code:
            log.warning("witness failed", witness=status.name, code=error.code, reason=error.message)
        status.error = error.code

    async def _add(self, asked: _Asked, stored: StoredCheckpoint) -> None:
        checkpoint = Checkpoint(self._verifier.name, stored.tree.size, stored.root_hash)
        old_size = asked.status.size
        for _ in range(2):
            proof = await self._proof(old_size, stored)
            try:
                answer = await asked.client.add_checkpoint(AddCheckpoint(old_size, proof, stored.note), checkpoint)
            except VerificationError as error:
                if error.code == "WITNESS_REFUSED":
                    # It may know of another history that our key signed.
                    await self._check_agrees(asked)
                raise
            if not isinstance(answer, SizeTold):
                await self._keep(stored, asked.client.witness, answer.signature.line, answer.timestamp or 0)
                return
            if answer.size > stored.tree.size or answer.size == old_size:
                # It is ahead of us, or has another root at this very size; else it lies.
                await self._check_agrees(asked)
                break
            old_size = answer.size
        message = f"{asked.status.name} told sizes that do not hold, and shows no checkpoint of ours that has them"
        raise VerificationError(message, code="WITNESS_FAULTY")

    async def _proof(self, old_size: int, stored: StoredCheckpoint) -> tuple[bytes, ...]:
        if old_size in {0, stored.tree.size}:
            return ()
        return await self._prove_consistency(old_size, stored)

    async def _keep(self, stored: StoredCheckpoint, witness: KnownWitness, line: str, time_s: int) -> None:
        put = partial(
            checkpoint_store.put_cosignature,
            tree_size=stored.tree.size,
            witness=witness.verifier.name,
            line=line,
            time_s=time_s,
        )
        await self._database.write(put)

    async def _check_agrees(self, asked: _Asked) -> None:
        if await self.compare(asked.client):
            message = f"{asked.status.name} knows another history that this log signed"
            raise ConflictError(message, code="WITNESS_AHEAD")

    # --- what a witness knows of us ---

    async def check_ahead(self) -> None:
        """Ask every witness what it knows of this log, before anything is signed; pass over who does not answer."""
        await asyncio.gather(*(self._check_one(asked) for asked in self._asked))

    async def _check_one(self, asked: _Asked) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self.compare(asked.client)
        except (MedtrailError, TimeoutError) as error:
            log.warning("witness not asked", witness=asked.status.name, reason=str(error) or type(error).__name__)

    async def compare(self, client: WitnessClient) -> bool:
        """Compare what a witness shows with what the database signed; return whether it is ahead of, or beside, that.

        If so, nothing is signed from then on before the log has that tree.

        Raises:
            MedtrailError: It does not answer, or what it shows is not signed by this log.
        """
        shown = await client.known(self._verifier)
        if shown is None:
            return False
        checkpoint = shown.checkpoint
        root = await self._database.read(partial(_root_at, size=checkpoint.size))
        if root == checkpoint.root_hash:
            return False
        what = "a larger tree" if root is None else "another root"
        reason = f"{client.witness.name} shows {what} with this log's signature: {checkpoint.size} entries"
        reach = MustReach(checkpoint.size, checkpoint.root_hash)
        log.error("a witness knows another history", witness=client.witness.name, tree_size=checkpoint.size)
        await self._database.write(partial(log_store.freeze, reason=reason, must_reach=reach))
        return True


async def shown_by_witnesses(policy: Policy, verifier: NoteVerifier) -> list[bytes]:
    """Return the newest checkpoints of a log that a policy's witnesses show: one of each that answers and knows it.

    Raises:
        UnavailableError: WITNESS_UNREACHABLE: so few answer that others may make a quorum without them.
    """
    notes: list[bytes] = []
    silent: list[KnownWitness] = []
    for witness in policy.witnesses:
        client = WitnessClient(witness, timeout_s=REQUEST_TIMEOUT_S)
        try:
            shown = await client.known(verifier)
            if shown is not None:
                notes.append(shown.note)
        except UnavailableError:
            silent.append(witness)
        finally:
            await client.close()
    if silent and policy.met(witness.verifier for witness in silent):
        names = ", ".join(witness.name for witness in silent)
        message = f"{names} did not answer, and may have seen what the others have not"
        raise UnavailableError(message, code="WITNESS_UNREACHABLE")
    return notes


def _asked(witness: KnownWitness) -> _Asked:
    return _Asked(WitnessClient(witness, timeout_s=REQUEST_TIMEOUT_S), WitnessStatus(witness.name))


def _root_at(connection: Connection, *, size: int) -> bytes | None:
    """Return the root of the first ``size`` entries; None when nothing so large was signed."""
    newest = checkpoint_store.newest_checkpoint(connection)
    if newest is None or newest.tree.size < size:
        return None
    return derive_tree(connection, checkpoint_store.checkpoint_below(connection, size), size).root()
