"""The way in: messages of partners and of the ledger, each taken once, in one transaction with what it changes.

A durable consumer holds an organisation's messages. They are pulled by our own loop: nats-py's ``fetch`` stalls now and
then (nats.py #986). Order of a message's life: take it in and note its hash in one transaction; acknowledge it to the
exchange; tell its sender. A crash between two of these redelivers it, and the hash makes the second time a no-op.

Source: ARCHITECTURE, section 4; ADR-13 of nats-architecture-and-design (pull requests).
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import nats.errors
from nats.aio.msg import Msg
from sqlalchemy import Connection, delete, insert, select

from medtrail.codec import encode_ack
from medtrail.errors import MedtrailError, UnavailableError
from medtrail.gs1 import Gln
from medtrail.runtime.bus import Bus
from medtrail.runtime.cancelling import cancellable
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.runtime.nats_config import consumer_name
from medtrail.runtime.tables import InboxMessages, InboxPoison, microseconds
from medtrail.runtime.tokens import Clock, utc_now
from medtrail.subjects import INBOX_STREAM, MessageKind, inbox_subject, parse_inbox_subject

log = get_logger(__name__)

AfterCommit = Callable[[], None]

PULL_BATCH = 64
PULL_BYTES = 4 * 1024 * 1024
PULL_EXPIRES_S = 20.0
HEARTBEAT_S = 1.0
RETRY_DELAY_S = 1.0
MOST_DELIVERIES = 5
KEPT_FOR = timedelta(days=60)
"""How long it is remembered what came in: twice as long as the exchange keeps a message."""

PRUNE_EVERY_S = 3600.0
PRUNED_AT_ONCE = 5000
_KEPT_OF_POISON = 64 * 1024
MOST_POISON = 1000
"""Messages that could not be taken in and are kept: whoever sends more of them fills no disk."""

# Kinds that are answers themselves: acknowledging them would never end.
_NOT_ACKED = frozenset({MessageKind.ACK, MessageKind.RECEIPT, MessageKind.REFUSAL})


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """A message to this organisation.

    Attributes:
        subject: As routed.
        sender: Party GLN by the subject, None for the ledger; subjects route, only signatures identify.
        kind: Its kind.
        data: Its bytes.
        sha256: Of data.
    """

    subject: str
    sender: Gln | None
    kind: MessageKind
    data: bytes
    sha256: bytes


Handler = Callable[[Connection, InboxMessage], AfterCommit | None]


@dataclass(frozen=True, slots=True)
class _Taken:
    """What became of one delivery: acknowledge it, tell its sender, run this; or have it delivered again later."""

    delivery: Msg
    message: InboxMessage | None
    later: bool = False
    after_commit: AfterCommit | None = None


class InboxPuller:
    """Takes in one organisation's messages; one a database."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        *,
        gln: Gln,
        handlers: Mapping[MessageKind, Handler],
        retry_delay_s: float = RETRY_DELAY_S,
        most_poison: int = MOST_POISON,
        clock: Clock = utc_now,
    ) -> None:
        """Hold the handlers.

        A handler runs in the transaction that also notes the message, so it is called once for each message; what it
        returns is called on the event loop after the commit. When it raises UnavailableError the message comes again;
        on any other error of ours the message is recorded as poison and done with; an unexpected error is tried five
        times first.

        Args:
            bus: Started; need not be connected.
            database: With the tables of :mod:`medtrail.runtime.tables`.
            gln: The organisation's party GLN.
            handlers: By kind; a message of another kind is poison.
            retry_delay_s: Before a message that could not be taken comes again.
            most_poison: Messages that could not be taken in and are kept, 64 KiB of each; older ones go.
            clock: Aware UTC.
        """
        self._retry_delay_s = retry_delay_s
        self._most_poison = most_poison
        self._bus = bus
        self._database = database
        self._gln = gln
        self._handlers = dict(handlers)
        self._clock = clock

    async def run(self) -> None:
        """Take in messages until cancelled."""
        pruning = asyncio.create_task(self._prune(), name="inbox-prune")
        try:
            await self._take_in()
        finally:
            pruning.cancel()
            await asyncio.gather(pruning, return_exceptions=True)

    async def _prune(self) -> None:
        while True:
            try:
                while await self._database.write(lambda connection: prune(connection, now=self._clock())):
                    pass
            except MedtrailError as error:
                log.warning("inbox not pruned", code=error.code, reason=error.message)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def _take_in(self) -> None:
        while True:
            try:
                await self._bus.ready()
                await self._pull_while_connected()
            except (MedtrailError, nats.errors.Error) as error:
                log.warning("inbox interrupted", reason=str(error))
                await asyncio.sleep(self._retry_delay_s)

    async def _pull_while_connected(self) -> None:
        generation = self._bus.generation
        arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        prefix, subscription = await self._bus.subscribe_inbox(arrived.put)
        try:
            # After a reconnect the server has forgotten our request: the next generation asks at once.
            with self._bus.watching(lambda: arrived.put_nowait(None)):
                for number in itertools.count():
                    if not self._bus.connected or self._bus.generation != generation:
                        return
                    await self._pull_once(arrived, reply=f"{prefix}.{number}")
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await cancellable(subscription.unsubscribe())

    async def _pull_once(self, arrived: asyncio.Queue[Msg | None], *, reply: str) -> None:
        """Make one pull request and take in what comes, until the server ends it or falls silent."""
        request = {
            "batch": PULL_BATCH,
            "max_bytes": PULL_BYTES,
            "expires": int(PULL_EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        consumer = f"{INBOX_STREAM}.{consumer_name(self._gln)}"
        await self._bus.send(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", json.dumps(request).encode(), reply=reply)
        left = PULL_BATCH
        while left > 0:
            try:
                async with asyncio.timeout(3 * HEARTBEAT_S):
                    waiting = [await arrived.get()]
            except TimeoutError:
                return
            while len(waiting) < PULL_BATCH and not arrived.empty():
                waiting.append(arrived.get_nowait())
            messages = [message for message in waiting if message is not None]
            group = [message for message in messages if message.reply]
            if group:
                left -= len(group)
                await self._take(group)
            # What has no reply subject is a status: 100 a heartbeat; 404, 408, 409 end the request that they answer.
            ended = any(_status(each) != "100" for each in messages if not each.reply and each.subject == reply)
            if ended or len(messages) < len(waiting):
                return

    async def _take(self, group: Sequence[Msg]) -> None:
        taken = await self._database.write(lambda connection: [self._take_one(connection, each) for each in group])
        # First, because what follows may fail with the connection, and the transaction stands.
        for each in taken:
            if each.after_commit is not None:
                each.after_commit()
        # Only after the commit: a crash before this line redelivers, and the hash makes it a no-op.
        for each in taken:
            await self._bus.send(each.delivery.reply, self._negative if each.later else b"+ACK")
        await asyncio.gather(*(self._tell_sender(each.message) for each in taken if each.message and not each.later))

    def _take_one(self, connection: Connection, delivery: Msg) -> _Taken:
        try:
            subject = parse_inbox_subject(delivery.subject)
        except MedtrailError as error:
            self._record_poison(connection, delivery, error)
            return _Taken(delivery, None)
        message = InboxMessage(
            subject=delivery.subject,
            sender=subject.sender,
            kind=subject.kind,
            data=delivery.data,
            sha256=hashlib.sha256(delivery.data).digest(),
        )
        if _known(connection, message):
            return _Taken(delivery, message)
        after_commit: AfterCommit | None = None
        try:
            # Each message in a savepoint: a bad one takes nothing of its neighbours back.
            with connection.begin_nested():
                after_commit = self._handler(message)(connection, message)
        except UnavailableError as error:
            log.info("message put off", kind=message.kind, code=error.code, reason=error.message)
            return _Taken(delivery, message, later=True)
        except MedtrailError as error:
            self._record_poison(connection, delivery, error)
        except Exception as error:
            # A mistake of ours, perhaps with a cause that passes; after some tries the rest must go on.
            log.exception("message handler failed", kind=message.kind, subject=message.subject)
            if delivery.metadata.num_delivered < MOST_DELIVERIES:
                return _Taken(delivery, message, later=True)
            self._record_poison(connection, delivery, MedtrailError(type(error).__name__))
        self._note(connection, message)
        return _Taken(delivery, message, after_commit=after_commit)

    @property
    def _negative(self) -> bytes:
        return b'-NAK {"delay": %d}' % int(self._retry_delay_s * 1e9)

    def _handler(self, message: InboxMessage) -> Handler:
        try:
            return self._handlers[message.kind]
        except KeyError:
            text = f"this service takes no {message.kind} messages"
            raise MedtrailError(text, code="KIND_UNHANDLED", field="subject") from None

    def _note(self, connection: Connection, message: InboxMessage) -> None:
        connection.execute(
            insert(InboxMessages).values(
                sha256=message.sha256,
                sender=str(message.sender or ""),
                kind=message.kind.value,
                receive_time_us=microseconds(self._clock()),
            )
        )

    def _record_poison(self, connection: Connection, delivery: Msg, error: MedtrailError) -> None:
        log.warning("message refused", subject=delivery.subject, code=error.code, reason=str(error)[:1000])
        made = connection.execute(
            insert(InboxPoison).values(
                subject=delivery.subject,
                sha256=hashlib.sha256(delivery.data).digest(),
                size=len(delivery.data),
                data=delivery.data[:_KEPT_OF_POISON],
                code=error.code,
                message=str(error)[:1000],
                receive_time_us=microseconds(self._clock()),
            )
        )
        (newest,) = made.inserted_primary_key or (0,)
        connection.execute(delete(InboxPoison).where(InboxPoison.c.id <= newest - self._most_poison))

    async def _tell_sender(self, message: InboxMessage) -> None:
        if message.sender is None or message.kind in _NOT_ACKED:
            return
        subject = inbox_subject(to=message.sender, sender=self._gln, kind=MessageKind.ACK)
        try:
            await self._bus.publish(subject, encode_ack(message.sha256))
        except MedtrailError as error:
            # The sender sends its message again, and is told then.
            log.info("ack not sent", to=str(message.sender), code=error.code)


def prune(connection: Connection, *, now: datetime) -> int:
    """Forget what came in so long ago that it cannot come again, some thousand at once; return how many.

    Poison is kept as long: whoever is to look at it has done so.
    """
    before = microseconds(now - KEPT_FOR)
    old = select(InboxMessages.c.sha256, InboxMessages.c.sender, InboxMessages.c.kind)
    rows = connection.execute(old.where(InboxMessages.c.receive_time_us < before).limit(PRUNED_AT_ONCE)).all()
    for sha256, sender, kind in rows:
        connection.execute(
            delete(InboxMessages).where(
                InboxMessages.c.sha256 == sha256, InboxMessages.c.sender == sender, InboxMessages.c.kind == kind
            )
        )
    connection.execute(delete(InboxPoison).where(InboxPoison.c.receive_time_us < before))
    return len(rows)


def _known(connection: Connection, message: InboxMessage) -> bool:
    found = connection.execute(
        select(InboxMessages.c.sha256).where(
            InboxMessages.c.sha256 == message.sha256,
            InboxMessages.c.sender == str(message.sender or ""),
            InboxMessages.c.kind == message.kind.value,
        )
    ).first()
    return found is not None


def _status(message: Msg) -> str:
    return (message.headers or {}).get("Status", "")
