"""Carries out orders to erase: a follower of the published log, in log order.

An order is decided at the tree size of its own entry, by stream times and chained statements alone: whoever follows
the same log decides the same. What is erased are bytes; entry, hashes, key list, tiles and proofs stay as they are, and
whoever holds the bytes can prove them as before. The decision, the deletion and the follower's position are one
transaction; a crash after it leaves old copies in the write-ahead log, which the next start removes.

Refused are orders for what is unknown, another's, trust, a recall, a statement about erasure, erased already, younger
than the retention period without the authority's consent, or under a recall. There are no investigations apart from
recalls yet; they belong into :meth:`Eraser._check_recall`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from ledger.feed import CheckpointFeed
from ledger.intake import event_of, from_us
from ledger.projections.erasures import ProjectedErasures
from ledger.queries import Queries
from ledger.storage import erasure_store, log_store
from ledger.storage.erasure_store import FOLLOWER_NAME, ErasedEntry, Statement, Target
from ledger.storage.log_store import FenceLostError
from medtrail.errors import AuthorizationError, ConflictError, MedtrailError, NotFoundError
from medtrail.event import ErasureConsent, ErasureOrder, PayloadType
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

RETRY_S = 1.0
STATEMENTS_A_READ = 100
FORBIDDEN = frozenset({PayloadType.TRUST, PayloadType.ERASURE, PayloadType.RECALL, PayloadType.REFUSAL})
REFUSALS = frozenset(
    {
        "ERASURE_TARGET_UNKNOWN",
        "ERASURE_NOT_OWNER",
        "ERASURE_FORBIDDEN",
        "ERASURE_DONE",
        "RETENTION_NOT_OVER",
        "UNDER_RECALL",
    }
)
TABLES = ("signed_event", "entry", "refusal")


class Eraser:
    """Follows the published log and erases what it is ordered to, until it is cancelled."""

    def __init__(
        self,
        database: Database,
        *,
        feed: CheckpointFeed,
        queries: Queries,
        projected: ProjectedErasures,
        wait_projected: Callable[[int], Awaitable[None]],
        retention: timedelta,
    ) -> None:
        """Hold the parts.

        Args:
            database: The log's.
            feed: Tells each published checkpoint.
            queries: Tell which goods are under recall.
            projected: Takes what is erased out of this instance's projection.
            wait_projected: Returns once the projection has taken in a tree of a size.
            retention: An event that is younger, by stream time, is erased with the authority's consent only.
        """
        self._database = database
        self._feed = feed
        self._queries = queries
        self._projected = projected
        self._wait_projected = wait_projected
        self._retention = retention
        self._consents: dict[bytes, int] = {}
        self._fence = 0
        self._next = 0

    async def run(self, fence: int) -> None:
        """Follow the published checkpoints until cancelled.

        Raises:
            FenceLostError: Another instance leads.
        """
        self._fence = fence
        loaded = False
        async for _checkpoint in self._feed.watch():
            while True:
                try:
                    if not loaded:
                        await self._start()
                        loaded = True
                    await self.catch_up(self._feed.newest.tree.size)
                    break
                except FenceLostError:
                    raise
                except MedtrailError as error:
                    # Also after a commit whose outcome nobody knows: where it stands is read again.
                    loaded = False
                    log.warning("eraser waits", code=error.code, reason=error.message)
                    await asyncio.sleep(RETRY_S)

    async def _start(self) -> None:
        self._consents = {}
        start, self._next = 0, await self._position()
        while found := await self._read(start, self._next):
            self._note_consents(found)
            start = found[-1].leaf_index + 1
        if self._next:
            # A crash may have come between an erasure and this.
            await self._database.scrub(*TABLES)

    async def catch_up(self, tree_size: int) -> int:
        """Decide all orders among the first entries of the log; return how many.

        Raises:
            UnavailableError: A database does not answer; nothing is lost.
        """
        count = 0
        while self._next < tree_size:
            found = await self._read(self._next, tree_size)
            for statement in found:
                count += await self._take(statement)
                self._next = statement.leaf_index + 1
            if len(found) < STATEMENTS_A_READ:
                # Stored with the next decision only: a checkpoint without orders must not cost a write.
                self._next = tree_size
        return count

    async def _position(self) -> int:
        return await self._database.read(lambda connection: log_store.follower_position(connection, FOLLOWER_NAME))

    async def _read(self, start: int, end: int) -> list[Statement]:
        return await self._database.read(
            partial(erasure_store.statements, start=start, end=end, limit=STATEMENTS_A_READ)
        )

    def _note_consents(self, found: list[Statement]) -> None:
        for statement in found:
            said = event_of(statement.signed_event).statement
            if isinstance(said, ErasureConsent):
                self._consents.setdefault(said.signed_event_sha256, statement.leaf_index)

    async def _take(self, statement: Statement) -> bool:
        order = event_of(statement.signed_event).statement
        if not isinstance(order, ErasureOrder):
            self._note_consents([statement])
            return False
        index = statement.leaf_index
        # What earlier orders erased is no evidence for this one, in no instance's projection.
        await self._wait_projected(index + 1)
        await self._projected.catch_up()
        try:
            erased = await self._judge(statement, order)
        except MedtrailError as error:
            if error.code not in REFUSALS:
                raise
            refuse = partial(erasure_store.refuse, order_index=index, code=error.code, message=error.message[:500])
            await self._write(refuse, position=index + 1)
            log.info("erasure refused", order_index=index, code=error.code)
            return True
        await self._write(
            partial(erasure_store.erase, erased=erased, sha256=order.signed_event_sha256), position=index + 1
        )
        log.info("event erased", leaf_index=erased.leaf_index, order_index=index)
        await self._database.scrub(*TABLES)
        await self._projected.catch_up()
        return True

    async def _write(self, function: Callable[[Connection], None], *, position: int) -> None:
        def step(connection: Connection) -> None:
            log_store.require_fence(connection, self._fence)
            function(connection)
            log_store.move_follower(connection, FOLLOWER_NAME, position)

        await self._database.write(step)

    # --- deciding ---

    async def _judge(self, statement: Statement, order: ErasureOrder) -> ErasedEntry:
        """Return what an order erases.

        Raises:
            MedtrailError: It is refused; the code says why.
        """
        target = await self._database.read(
            partial(erasure_store.find_target, sha256=order.signed_event_sha256, before=statement.leaf_index)
        )
        if target is None:
            raise NotFoundError("no entry before the order has these bytes", code="ERASURE_TARGET_UNKNOWN")
        _check_target(statement, target)
        consent = self._check_age(statement, target, order.signed_event_sha256)
        await self._check_recall(statement, target)
        return ErasedEntry(
            leaf_index=target.leaf_index,
            order_index=statement.leaf_index,
            consent_index=consent,
            signer_gln=statement.signer_gln,
            reason=order.reason.replace("\0", "\N{REPLACEMENT CHARACTER}"),
            erase_time_us=statement.stream_time_us,
        )

    def _check_age(self, statement: Statement, target: Target, sha256: bytes) -> int | None:
        age = from_us(statement.stream_time_us) - from_us(target.stream_time_us)
        if age >= self._retention:
            return None
        consent = self._consents.get(sha256)
        if consent is None:
            message = f"entry {target.leaf_index} is {age.days} days old, to be kept for {self._retention.days}"
            raise ConflictError(message, code="RETENTION_NOT_OVER")
        return consent

    async def _check_recall(self, statement: Statement, target: Target) -> None:
        recall_id = await self._queries.recall_over(
            target.leaf_index, tree_size=statement.leaf_index + 1, now=from_us(statement.stream_time_us)
        )
        if recall_id:
            message = f"goods of entry {target.leaf_index} are under the recall {recall_id}"
            raise ConflictError(message, code="UNDER_RECALL")


def _check_target(statement: Statement, target: Target) -> None:
    if target.signer_gln != statement.signer_gln:
        message = f"entry {target.leaf_index} was signed by another organisation than {statement.signer_gln}"
        raise AuthorizationError(message, code="ERASURE_NOT_OWNER")
    if target.payload_type in FORBIDDEN:
        message = f"entry {target.leaf_index} is {target.payload_type}, which stays"
        raise ConflictError(message, code="ERASURE_FORBIDDEN")
    if target.signed_event is None:
        raise ConflictError(f"entry {target.leaf_index} is erased already", code="ERASURE_DONE")
