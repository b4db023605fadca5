"""A service's own copy of what it must believe of others: who is enrolled, which products and recalls there are.

It follows the ledger and believes none of its answers: every checkpoint must be signed and extend the newest one known,
every entry must be proven in one, every trust entry must be the authority's. What was taken in lies in the service's
database, so that it starts while the ledger is down, and judges as of what it knew last.

That the ledger withheld nothing is not proven here: that takes the item map (LEDGER, section 3).
"""

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

import grpc.aio
from sqlalchemy import Connection, delete, insert, select

from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.checkpoint import SignedCheckpoint, open_checkpoint
from medtrail.errors import MedtrailError, VerificationError
from medtrail.event import PayloadType
from medtrail.gs1 import Gtin
from medtrail.merkle import verify_consistency
from medtrail.note import NoteVerifier
from medtrail.policy import Policy
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.runtime.replica_entries import (
    EVENT_TYPES,
    LogEntry,
    ProductEntry,
    RecallEntry,
    apply_event,
    apply_trust,
    next_index,
    proven,
)
from medtrail.runtime.tables import ReplicaCheckpoints, ReplicaEntries, ReplicaWitnessed
from medtrail.runtime.tokens import utc_now
from medtrail.trust import Registry

__all__ = ["ProductEntry", "RecallEntry", "RegistryReplica"]

log = get_logger(__name__)

PAGE_SIZE = 200
RETRY_FIRST_S = 0.2
RETRY_AT_MOST_S = 10.0


@dataclass(frozen=True, slots=True)
class _State:
    """All that the replica knows; replaced as a whole, so that readers in other threads see one moment."""

    registry: Registry
    products: Mapping[Gtin, ProductEntry]
    recalls: Mapping[str, RecallEntry]
    head: SignedCheckpoint | None = None
    trust_next: int = 0
    events_next: int = 0
    witnessed_size: int = 0


class RegistryReplica:
    """Follows one log; one a database."""

    def __init__(
        self,
        database: Database,
        channel: grpc.aio.Channel,
        *,
        verifier: NoteVerifier,
        authority_key_id: str,
        policy: Policy | None = None,
    ) -> None:
        """Hold where it reads from and what it trusts.

        Args:
            database: With the tables of :mod:`medtrail.runtime.tables`.
            channel: To the ledger, of :func:`medtrail.runtime.client.connect`.
            verifier: The log's key; its name is the log's origin.
            authority_key_id: The pinned authority key, did:key.
            policy: Whose quorum of witnesses makes a checkpoint witnessed; None: none is asked for.
        """
        self._policy = policy
        self._database = database
        self._trust = trust_pb2_grpc.TrustServiceStub(channel)
        self._ledger = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._verifier = verifier
        self._authority_key_id = authority_key_id
        self._state = self._blank()
        self._changed = asyncio.Condition()
        self._watching = False
        self._heard_time: datetime | None = None
        self.fault: MedtrailError | None = None

    # --- what it knows ---

    @property
    def registry(self) -> Registry:
        """Who may say what. Not to be changed; a later one is another object."""
        return self._state.registry

    @property
    def products(self) -> Mapping[Gtin, ProductEntry]:
        """Products by GTIN."""
        return self._state.products

    @property
    def all_recalls(self) -> tuple[RecallEntry, ...]:
        """Every recall statement in log order, those that end others included."""
        return tuple(self._state.recalls.values())

    @property
    def checkpoint(self) -> SignedCheckpoint | None:
        """The newest verified checkpoint, or None."""
        return self._state.head

    @property
    def witnessed_size(self) -> int:
        """Size of the largest checkpoint of this history that has the policy's quorum; without one, the newest's."""
        head = self._state.head
        if self._policy is None:
            return 0 if head is None else head.checkpoint.size
        return self._state.witnessed_size

    @property
    def ready(self) -> bool:
        """Whether it knows the genesis, and with it anything at all."""
        return self._state.registry.genesis is not None

    @property
    def known_time(self) -> datetime | None:
        """When all was known here that the ledger had published, aware UTC: now while it is followed; None: never."""
        return utc_now() if self._watching else self._heard_time

    async def wait_ready(self) -> None:
        """Return when :attr:`ready`."""
        await self.wait_until(lambda: self.ready)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when a condition on this replica holds; looked at after each change."""
        async with self._changed:
            await self._changed.wait_for(condition)

    # --- following ---

    async def load(self) -> None:
        """Take in what the database holds; it was verified when it was stored."""
        self._state = await self._database.read(self._read)
        await self._tell()

    async def forget(self, leaf_index: int) -> None:
        """Forget an entry of which the event was erased: it states nothing any more."""
        gone = delete(ReplicaEntries).where(ReplicaEntries.c.leaf_index == leaf_index)
        if await self._database.write(lambda connection: connection.execute(gone).rowcount):
            await self.load()

    async def run(self) -> None:
        """Follow the ledger until cancelled."""
        await self.load()
        failures = 0
        while True:
            try:
                # Once by asking, should watching not work; then with each checkpoint that is published.
                await self.catch_up()
                failures = 0
                async for answer in self._ledger.WatchCheckpoints(ledger_pb2.WatchCheckpointsRequest()):
                    if self._is_news(answer.checkpoint):
                        await self.catch_up()
                    self._watching = True
            except VerificationError as error:
                await self._note_fault(error)
            except MedtrailError as error:
                log.info("ledger not followed", code=error.code, reason=error.message)
            if self._watching:
                self._watching, self._heard_time = False, utc_now()
            failures += 1
            await asyncio.sleep(min(RETRY_FIRST_S * 2 ** min(failures - 1, 16), RETRY_AT_MOST_S))

    async def catch_up(self) -> None:
        """Take in all that the ledger has published.

        Raises:
            VerificationError: The ledger's answers do not hold; nothing of the offending one was taken in.
            UnavailableError: It cannot be reached.
        """
        asked = utc_now()
        covered = await self._catch_up_trust()
        await self._catch_up_events(covered)
        self._heard_time = asked
        self.fault = None

    def _is_news(self, note: bytes) -> bool:
        opened = self._open(note)
        state = self._state
        # Not the head tells what was taken in: it may be of an answer that was newer than the trust entries beside it.
        taken_in = min(state.trust_next, state.events_next) >= opened.checkpoint.size
        known = state.head is not None and state.head.checkpoint == opened.checkpoint
        return not (taken_in and known) or self._witnessed(opened) > self.witnessed_size

    async def _note_fault(self, error: VerificationError) -> None:
        # An authentication failure is our own trouble (not yet enrolled); all else is evidence against the ledger.
        log.error("ledger's answer refused", code=error.code, reason=error.message)
        self.fault = error
        await self._tell()

    async def _catch_up_trust(self) -> int:
        token = ""
        start = self._state.trust_next
        while True:
            answer = await self._trust.ListTrustEntries(
                trust_pb2.ListTrustEntriesRequest(start_index=start, page_size=PAGE_SIZE, page_token=token)
            )
            opened = await self._linked(answer.checkpoint)
            found = (proven(entry.leaf_index, PayloadType.TRUST, entry, opened.checkpoint) for entry in answer.entries)
            entries = [entry for entry in found if entry is not None]
            token = answer.next_page_token
            size = opened.checkpoint.size
            await self._take_trust(entries, opened, trust_next=next_index(entries, start) if token else size)
            if not token:
                return size

    async def _take_trust(self, entries: Sequence[LogEntry], opened: SignedCheckpoint, *, trust_next: int) -> None:
        state = self._state
        # A copy, so that a page is taken in whole or not at all, and so that readers never see half of it.
        registry = copy.deepcopy(state.registry) if entries else state.registry
        for entry in entries:
            apply_trust(registry, entry)
        await self._store(
            _State(
                registry,
                state.products,
                state.recalls,
                self._newer(opened),
                trust_next,
                min(state.events_next, trust_next),
                max(state.witnessed_size, self._witnessed(opened)),
            ),
            entries,
        )

    async def _catch_up_events(self, covered: int) -> None:
        """Take in products and recalls below index ``covered``, up to which the trust entries are known."""
        token = ""
        start = self._state.events_next
        while True:
            answer = await self._ledger.ListEvents(
                ledger_pb2.ListEventsRequest(
                    start_index=start, payload_types=EVENT_TYPES, page_size=PAGE_SIZE, page_token=token
                )
            )
            opened = await self._linked(answer.checkpoint)
            # Later ones may be of organisations that are not known here yet: next time.
            covering = [event for event in answer.events if event.leaf_index < covered]
            found = (proven(event.leaf_index, None, event, opened.checkpoint) for event in covering)
            entries = [entry for entry in found if entry is not None]
            token = answer.next_page_token if len(covering) == len(answer.events) else ""
            done = min(covered, opened.checkpoint.size)
            await self._take_events(entries, opened, events_next=next_index(entries, start) if token else done)
            if not token:
                return

    async def _take_events(self, entries: Sequence[LogEntry], opened: SignedCheckpoint, *, events_next: int) -> None:
        state = self._state
        products, recalls = dict(state.products), dict(state.recalls)
        for entry in entries:
            apply_event(state.registry, products, recalls, entry)
        await self._store(
            _State(
                state.registry,
                MappingProxyType(products),
                MappingProxyType(recalls),
                self._newer(opened),
                state.trust_next,
                events_next,
                max(state.witnessed_size, self._witnessed(opened)),
            ),
            entries,
        )

    # --- checkpoints ---

    def _open(self, note: bytes) -> SignedCheckpoint:
        witnesses = () if self._policy is None else (known.verifier for known in self._policy.witnesses)
        return open_checkpoint(note, origin=self._verifier.name, verifiers=(self._verifier, *witnesses))

    def _witnessed(self, opened: SignedCheckpoint) -> int:
        """Return the size of a checkpoint if it has the quorum, else 0."""
        if self._policy is None or not self._policy.met(one.verifier for one in opened.cosignatures):
            return 0
        return opened.checkpoint.size

    def _newer(self, opened: SignedCheckpoint) -> SignedCheckpoint:
        head = self._state.head
        if head is None or opened.checkpoint.size > head.checkpoint.size:
            return opened
        # The same tree with more witnesses under it is the better word for it.
        same = opened.checkpoint == head.checkpoint and len(opened.signatures) > len(head.signatures)
        return opened if same else head

    async def _linked(self, note: bytes) -> SignedCheckpoint:
        """Return a checkpoint after checking that it and the newest one known belong to one history.

        Raises:
            VerificationError: CHECKPOINT_SHRANK, CHECKPOINT_FORKED, or the consistency proof does not hold.
        """
        opened = self._open(note)
        head = self._state.head
        if head is None or head.checkpoint.size == 0:
            return opened
        old, new = head.checkpoint, opened.checkpoint
        if new.size < old.size:
            message = f"the ledger answers with {new.size} entries after it signed {old.size}"
            raise VerificationError(message, code="CHECKPOINT_SHRANK", old_size=old.size, new_size=new.size)
        if new.size == old.size:
            if new.root_hash != old.root_hash:
                message = f"the ledger signed two roots for {old.size} entries"
                raise VerificationError(message, code="CHECKPOINT_FORKED", tree_size=old.size)
            return opened
        answer = await self._ledger.GetConsistencyProof(
            ledger_pb2.GetConsistencyProofRequest(old_size=old.size, new_size=new.size)
        )
        verify_consistency(
            answer.consistency_proof, size1=old.size, size2=new.size, root1=old.root_hash, root2=new.root_hash
        )
        return opened

    # --- storing ---

    async def _store(self, state: _State, entries: Sequence[LogEntry]) -> None:
        if state == self._state and not entries:
            return

        def write(connection: Connection) -> None:
            if entries:
                connection.execute(
                    insert(ReplicaEntries),
                    [
                        {
                            "leaf_index": entry.leaf_index,
                            "payload_type": entry.payload_type,
                            "signed_event": entry.signed_event,
                            "key_list_sha256": entry.key_list_sha256,
                        }
                        for entry in entries
                    ],
                )
            connection.execute(delete(ReplicaWitnessed))
            connection.execute(insert(ReplicaWitnessed).values(id=1, tree_size=state.witnessed_size))
            connection.execute(delete(ReplicaCheckpoints))
            if state.head is not None:
                connection.execute(
                    insert(ReplicaCheckpoints).values(
                        id=1,
                        checkpoint=state.head.note,
                        tree_size=state.head.checkpoint.size,
                        root_hash=state.head.checkpoint.root_hash,
                        trust_next=state.trust_next,
                        events_next=state.events_next,
                    )
                )

        await self._database.write(write)
        # After the commit: what this process believes, it believes after a restart too.
        self._state = state
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _blank(self) -> _State:
        registry = Registry(authority_key_id=self._authority_key_id)
        return _State(registry, MappingProxyType({}), MappingProxyType({}))

    def _read(self, connection: Connection) -> _State:
        state = self._blank()
        products: dict[Gtin, ProductEntry] = {}
        recalls: dict[str, RecallEntry] = {}
        rows = connection.execute(select(ReplicaEntries).order_by(ReplicaEntries.c.leaf_index))
        entries = [LogEntry(row.leaf_index, row.payload_type, row.signed_event, row.key_list_sha256) for row in rows]
        # Trust first: events are judged by the keys' lives in log indices, whatever came later.
        for entry in entries:
            if entry.payload_type == PayloadType.TRUST:
                apply_trust(state.registry, entry)
        for entry in entries:
            if entry.payload_type != PayloadType.TRUST:
                apply_event(state.registry, products, recalls, entry)
        kept = connection.execute(select(ReplicaCheckpoints)).first()
        if kept is None:
            return state
        witnessed = connection.execute(select(ReplicaWitnessed.c.tree_size)).scalar_one_or_none() or 0
        return _State(
            state.registry,
            MappingProxyType(products),
            MappingProxyType(recalls),
            self._open(kept.checkpoint),
            kept.trust_next,
            kept.events_next,
            witnessed,
        )
