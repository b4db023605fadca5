"""The way out: events to the ledger, messages to partners.

Events go in the order of signing, one batch in flight, each with the sequence that the subject must have reached, so
that a later event never overtakes an earlier one. The stream's acknowledgement is not the end: a row goes when the
ledger's receipt or refusal is in hand. What has no receipt is sent again: at once on a new epoch or when a later event
was receipted, else after 30 seconds, doubling to one hour.

Source: ARCHITECTURE, section 4; LEDGER, section 2.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from medtrail.checkpoint import open_checkpoint
from medtrail.codec import (
    decode_ack,
    decode_batch,
    decode_payload,
    decode_receipt,
    decode_signed_event,
    encode_batch,
)
from medtrail.envelope import verify_signatures
from medtrail.errors import AuthorizationError, ConflictError, MalformedError, MedtrailError, UnavailableError
from medtrail.event import Refusal, Role
from medtrail.gs1 import Gln
from medtrail.note import NoteVerifier
from medtrail.policy import Policy
from medtrail.runtime import outbox, receipts
from medtrail.runtime.bus import Bus
from medtrail.runtime.database import Database
from medtrail.runtime.inbox import AfterCommit, Handler, InboxMessage
from medtrail.runtime.logging import get_logger
from medtrail.runtime.outbox import OutboxItem, OutgoingItem, Receipted
from medtrail.runtime.tokens import Clock, utc_now
from medtrail.subjects import EVENTS_STREAM, events_subject, inbox_subject
from medtrail.trust import Registry

log = get_logger(__name__)

RESEND_FIRST_S = 30.0
RESEND_AT_MOST_S = 3600.0
RETRY_FIRST_S = 0.2
RETRY_AT_MOST_S = 10.0
OUTGOING_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class RelayTimes:
    """How long the relay waits, in seconds.

    Attributes:
        resend_first: Without an answer of the ledger or a partner, before the first resend.
        resend_at_most: It doubles up to this.
        publish_timeout: For the stream's acknowledgement.
        retry_first: After the exchange failed.
        retry_at_most: It doubles up to this.
    """

    resend_first: float = RESEND_FIRST_S
    resend_at_most: float = RESEND_AT_MOST_S
    publish_timeout: float = 5.0
    retry_first: float = RETRY_FIRST_S
    retry_at_most: float = RETRY_AT_MOST_S


class Relay:
    """Carries one organisation's outbox; one a database."""

    def __init__(
        self, bus: Bus, database: Database, *, gln: Gln, times: RelayTimes | None = None, clock: Clock = utc_now
    ) -> None:
        """Hold what it carries from and to.

        Args:
            bus: Started; need not be connected.
            database: With the tables of :mod:`medtrail.runtime.tables`.
            gln: The organisation's party GLN.
            times: Waiting times.
            clock: Aware UTC.
        """
        self._bus = bus
        self._database = database
        self._gln = gln
        self._times = times or RelayTimes()
        self._clock = clock
        self._subject = events_subject(gln)
        self._events_wake = asyncio.Event()
        self._outgoing_wake = asyncio.Event()
        self._again = False
        # Outbox seq up to which this pass has published; None until the stream was asked.
        self._position: int | None = None
        self._last_stream_seq = 0
        self._resend_after_s = self._times.resend_first

    async def run(self) -> None:
        """Carry until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_events(), name="relay-events")
            group.create_task(self._run_outgoing(), name="relay-outgoing")

    def wake(self) -> None:
        """Say that something was enqueued; call it after the commit, on the event loop."""
        self._events_wake.set()
        self._outgoing_wake.set()

    def resend(self) -> None:
        """Send all that has no receipt again, in order."""
        self._again = True
        self._events_wake.set()

    # --- events ---

    async def _run_events(self) -> None:
        failures = 0
        while True:
            try:
                await self._bus.ready()
                # Cleared before looking: what is enqueued from here on wakes us.
                self._events_wake.clear()
                sent = await self._step()
                failures = 0
                if not sent:
                    await self._wait_for_work()
            except MedtrailError as error:
                failures += 1
                log.warning("events not sent", code=error.code, reason=error.message)
                await self._pause(failures)

    async def _step(self) -> bool:
        """Send the next batch; return whether there was one."""
        if self._position is None:
            await self._find_position()
        if self._again:
            self._again = False
            self._position = 0
        after = self._position or 0
        batch = await self._database.read(lambda connection: outbox.next_batch(connection, after=after))
        if not batch:
            return False
        await self._publish(batch)
        return True

    async def _publish(self, batch: tuple[OutboxItem, ...]) -> None:
        data = encode_batch([item.data for item in batch])
        message_id = hashlib.sha256(data).hexdigest()
        try:
            stored = await self._bus.publish(
                self._subject,
                data,
                message_id=message_id,
                expected_last=self._last_stream_seq,
                timeout_s=self._times.publish_timeout,
            )
        except ConflictError:
            # Error 10071: an acknowledgement was lost, or the stream has lost or outlived what we sent (then the
            # subject's last message is an older one, or none). The stream itself tells which.
            last = await self._bus.last_message(EVENTS_STREAM, self._subject)
            self._last_stream_seq = 0 if last is None else last.seq
            if last is not None and last.message_id == message_id:
                self._position = batch[-1].seq
                return
            log.warning(
                "stream does not end with our last batch: sending all without receipt", seq=self._last_stream_seq
            )
            self._position = 0
            return
        # A duplicate is answered with the first one's sequence, which may lie before the subject's last.
        self._last_stream_seq = max(self._last_stream_seq, stored.seq)
        self._position = batch[-1].seq
        log.debug("events sent", count=len(batch), stream_seq=stored.seq, duplicate=stored.duplicate)

    async def _find_position(self) -> None:
        """Learn from the stream what was sent before this process started; the rows do not tell."""
        last = await self._bus.last_message(EVENTS_STREAM, self._subject)
        if last is None:
            self._last_stream_seq, self._position = 0, 0
            return
        try:
            hashes = [hashlib.sha256(signed_event).digest() for signed_event in decode_batch(last.data)]
        except MalformedError:
            # Somebody with our key published what is no batch: then nothing is known of what went before.
            hashes = []
        self._last_stream_seq = last.seq
        self._position = await self._database.read(lambda connection: outbox.last_seq_among(connection, hashes))

    async def _wait_for_work(self) -> None:
        waiting = await self._database.read(outbox.pending_count)
        timeout_s = self._resend_after_s if waiting else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._events_wake.wait()
        except TimeoutError:
            self._resend_after_s = min(self._resend_after_s * 2, self._times.resend_at_most)
            log.info("no receipt in time: sending again", events=waiting)
            self._again = True

    async def _pause(self, failures: int) -> None:
        delay_s = min(self._times.retry_first * 2 ** min(failures - 1, 16), self._times.retry_at_most)
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    # --- messages to partners ---

    async def _run_outgoing(self) -> None:
        failures = 0
        while True:
            try:
                await self._bus.ready()
                self._outgoing_wake.clear()
                sent = await self._send_due()
                failures = 0
                if not sent:
                    await self._wait_for_due()
            except MedtrailError as error:
                failures += 1
                log.warning("messages not sent", code=error.code, reason=error.message)
                await self._pause(failures)

    async def _send_due(self) -> bool:
        now_s = self._clock().timestamp()
        items = await self._database.read(
            lambda connection: outbox.due_outgoing(
                connection, now_s=now_s, longest_s=2 * self._times.resend_at_most, limit=OUTGOING_AT_ONCE
            )
        )
        full: set[Gln] = set()
        for item in items:
            if item.to not in full and not await self._send(item):
                full.add(item.to)
        return bool(items)

    async def _send(self, item: OutgoingItem) -> bool:
        """Send one message; return False when its partner's inbox is full."""
        subject = inbox_subject(to=item.to, sender=self._gln, kind=item.kind)
        message_id = hashlib.sha256(subject.encode() + b"\n" + item.data).hexdigest()
        wait_s = min(self._times.resend_first * 2 ** min(item.attempts, 16), self._times.resend_at_most)
        due_s = self._clock().timestamp() + wait_s
        try:
            await self._bus.publish(subject, item.data, message_id=message_id, timeout_s=self._times.publish_timeout)
        except UnavailableError as error:
            if error.code != "SUBJECT_FULL":
                raise
            # A dead partner blocks nobody: the others' messages go on.
            log.warning("a partner's inbox is full", to=str(item.to), kind=item.kind)
            await self._database.write(lambda connection: outbox.defer_partner(connection, item.to, due_s=due_s))
            return False
        await self._database.write(
            lambda connection: outbox.note_outgoing(connection, item.id, attempts=item.attempts + 1, due_s=due_s)
        )
        return True

    async def _wait_for_due(self) -> None:
        due_s = await self._database.read(outbox.next_due_s)
        timeout_s = None
        if due_s is not None:
            # Bounded, because the clock may be set back meanwhile.
            timeout_s = min(max(0.0, due_s - self._clock().timestamp()), self._times.resend_at_most)
        try:
            async with asyncio.timeout(timeout_s):
                await self._outgoing_wake.wait()
        except TimeoutError:
            return

    # --- answers ---

    def receipts(
        self,
        verifier: NoteVerifier,
        on_logged: Callable[[Connection, Receipted], None] | None = None,
        *,
        policy: Policy | None = None,
    ) -> Handler:
        """Return the inbox handler of receipts: it verifies the checkpoint, then frees the rows that it covers.

        The list of items is not signed one by one: each is proven afterwards (:mod:`medtrail.runtime.receipt_proofs`),
        and its event sent again if it is not true. Whether the witnesses' quorum is met is not asked of the ledger but
        counted here, by our own policy; without the quorum the event's way ends all the same, and it waits for a later
        checkpoint to be witnessed.

        Args:
            verifier: The log's key.
            on_logged: Called in the same transaction with what is now in the log.
            policy: Whose quorum makes a checkpoint witnessed; None: witnesses do not matter.
        """
        verifiers = (verifier, *(() if policy is None else (known.verifier for known in policy.witnesses)))

        def handle(connection: Connection, message: InboxMessage) -> AfterCommit | None:
            _only_from_ledger(message)
            receipt = decode_receipt(message.data)
            opened = open_checkpoint(receipt.checkpoint, origin=verifier.name, verifiers=verifiers)
            tree_size = opened.checkpoint.size
            for item in receipt.items:
                if item.leaf_index >= tree_size:
                    text = f"index {item.leaf_index} lies outside a tree of {tree_size}"
                    raise MalformedError(text, code="RECEIPT_MALFORMED", field="items")
            receipted = outbox.mark_receipted(connection, receipt.items, epoch=receipt.epoch)
            witnessed = policy is None or policy.met(one.verifier for one in opened.cosignatures)
            receipts.open_receipts(
                connection, receipted.logged, tree_size=tree_size, witnessed=witnessed, now=self._clock()
            )
            if on_logged is not None:
                on_logged(connection, receipted)
            return lambda: self._after_receipt(receipted)

        return handle

    def _after_receipt(self, receipted: Receipted) -> None:
        if receipted.logged:
            self._resend_after_s = self._times.resend_first
        if receipted.new_epoch or receipted.overtaken:
            log.info("sending again", new_epoch=receipted.new_epoch, overtaken=receipted.overtaken)
            self.resend()

    def refusals(
        self, registry: Callable[[], Registry], on_refused: Callable[[Connection, Refusal, bool], None]
    ) -> Handler:
        """Return the inbox handler of refusals: it verifies the ledger's signature, then ends the event's way.

        Args:
            registry: Gives the trust registry as of now.
            on_refused: Called in the same transaction with the refusal, and whether the event is our own.
        """

        def handle(connection: Connection, message: InboxMessage) -> AfterCommit | None:
            _only_from_ledger(message)
            signed = decode_signed_event(message.data)
            key_id = verify_signatures(signed)
            refusal = decode_payload(signed.payload_type, signed.payload).statement
            if not isinstance(refusal, Refusal):
                raise MalformedError("not a refusal", code="REFUSAL_MALFORMED", field="payload_type")
            if Role.LEDGER not in registry().signer(key_id).roles:
                raise AuthorizationError("a refusal is signed by the ledger", code="ROLE_FORBIDS")
            own = outbox.mark_refused(connection, refusal.signed_event_sha256, code=refusal.code)
            on_refused(connection, refusal, own)
            return None

        return handle

    def acks(self) -> Handler:
        """Return the inbox handler of partners' acks: the message that it names need not be sent again."""

        def handle(connection: Connection, message: InboxMessage) -> AfterCommit | None:
            if message.sender is not None:
                outbox.mark_acknowledged(connection, sender=message.sender, message_sha256=decode_ack(message.data))
            return None

        return handle


def _only_from_ledger(message: InboxMessage) -> None:
    if message.sender is not None:
        text = f"{message.kind} messages come from the ledger, this one from {message.sender}"
        raise AuthorizationError(text, code="SENDER_FORBIDDEN", field="subject")
