"""Receipts and refusals: what the ledger tells about each event, once a checkpoint covers it.

A follower of the integrated messages with its own cursor: it sends first and moves after, so that a crash sends again
and never leaves out. A full inbox is passed over: the sender, who still waits, sends its events again and gets its
receipts as duplicates then.
"""

import asyncio
import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from ledger.feed import CheckpointFeed
from ledger.intake import from_us
from ledger.projections.facts import party_of_uri
from ledger.storage import log_store
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.tables import DUPLICATE, ENTRY, MESSAGE, REFUSAL
from ledger.trust_state import TrustState
from medtrail.codec import decode_payload, decode_signed_event, encode_payload, encode_receipt, encode_signed_event
from medtrail.document import Document
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError, UnavailableError
from medtrail.event import Event, Header, Refusal, new_salt
from medtrail.exchange import Receipt, ReceiptItem
from medtrail.gs1 import Gln
from medtrail.runtime.bus import Bus
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.subjects import CHECKPOINTS_SUBJECT, MessageKind, inbox_subject, parse_events_subject

log = get_logger(__name__)

FOLLOWER_NAME = "notifier"
MESSAGES_A_ROUND = 200
ITEMS_A_RECEIPT = 2000
ITEM_BYTES_A_RECEIPT = 400 * 1024
RETRY_S = 1.0
_ITEM_BYTES = 64
MOST_OF_FIELD = 200
"""Characters of a refusal's field that are told: its names are the producer's, and may fill an event by themselves."""
_REFUSALS = uuid.UUID("6a0a3c1e-6a0b-5b1c-9f0e-5d2f6f6e1a11")
"""Name space of the event ids of refusals: the same refusal has the same id however often it is sent."""


@dataclass(frozen=True, slots=True)
class _StoredRefusal:
    signed_event: bytes
    refusal: Refusal
    position: int
    signer_gln: str


@dataclass(slots=True)
class _Round:
    """What a round tells: by producer's GLN the items, and the refusals."""

    last_number: int = 0
    epoch: int = 0
    items: dict[str, list[ReceiptItem]] = field(default_factory=lambda: defaultdict(list))
    refusals: list[tuple[str, _StoredRefusal]] = field(default_factory=list)


class Notifier:
    """Sends receipts and refusals for what published checkpoints cover, until it is cancelled."""

    def __init__(
        self, database: Database, bus: Bus, *, feed: CheckpointFeed, trust: TrustState, key: SigningKey, gln: Gln
    ) -> None:
        """Hold the parts.

        Args:
            database: ledger.db.
            bus: Of the ledger's user.
            feed: Tells each published checkpoint.
            trust: Who is enrolled.
            key: Of the ledger's organisation: signs refusals.
            gln: The ledger's party GLN.
        """
        self._database = database
        self._bus = bus
        self._feed = feed
        self._trust = trust
        self._key = key
        self._gln = gln
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look again: something was committed, or a checkpoint published.

        Both count: what became a duplicate or a refusal is covered by the checkpoint that stands already.
        """
        self._woken.set()

    async def run(self) -> None:
        """Follow the published checkpoints until cancelled."""
        told_size = 0
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                checkpoint = self._feed.newest
                if checkpoint.tree.size > told_size:
                    await self._tell_checkpoint(checkpoint)
                    told_size = checkpoint.tree.size
                await self.catch_up(checkpoint)
            except UnavailableError as error:
                log.warning("notifier waits", code=error.code, reason=error.message)
                self.wake()
                await asyncio.sleep(RETRY_S)

    async def _tell_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        try:
            await self._bus.send(CHECKPOINTS_SUBJECT, checkpoint.note)
        except UnavailableError:
            # Whoever follows asks the ledger as well; this is only sooner.
            log.debug("checkpoint not announced", tree_size=checkpoint.tree.size)

    async def catch_up(self, checkpoint: StoredCheckpoint) -> int:
        """Send all that is due for a checkpoint; return how many messages of the stream were answered.

        Raises:
            UnavailableError: The exchange does not take it now; nothing is lost.
        """
        answered = 0
        while True:
            due = await self._database.read(lambda connection: _read_round(connection, checkpoint.tree.size))
            if due is None:
                return answered
            first = await self._database.read(lambda connection: log_store.follower_position(connection, FOLLOWER_NAME))
            await self._send_round(due, checkpoint)
            last = due.last_number
            await self._database.write(
                lambda connection, last=last: log_store.move_follower(connection, FOLLOWER_NAME, last)  # type: ignore[misc]
            )
            answered += last - first

    async def _send_round(self, due: _Round, checkpoint: StoredCheckpoint) -> None:
        for producer, items in due.items.items():
            for part in _parts(items):
                data = encode_receipt(Receipt(checkpoint.note, due.epoch, tuple(part)))
                await self._send(Gln(producer), MessageKind.RECEIPT, data, message_id=hashlib.sha256(data).hexdigest())
        for producer, stored in due.refusals:
            await self._send_refusal(producer, stored, epoch=due.epoch)

    async def _send_refusal(self, producer: str, stored: _StoredRefusal, *, epoch: int) -> None:
        name = f"{epoch}/{stored.refusal.stream_seq}/{stored.position}"
        header = Header(
            salt=new_salt(),
            actor=self._gln,
            source="refusals",
            source_seq=stored.refusal.stream_seq,
            event_id=f"urn:uuid:{uuid.uuid5(_REFUSALS, f'{self._gln}/{name}')}",
        )
        event = Event(header, stored.refusal)
        data = encode_signed_event(sign(event.payload_type, encode_payload(event), self._key))
        for gln in self._concerned(producer, stored):
            await self._send(gln, MessageKind.REFUSAL, data, message_id=f"refusal/{name}/{gln}")

    def _concerned(self, producer: str, stored: _StoredRefusal) -> list[Gln]:
        registry = self._trust.current
        concerned = {Gln(producer)}
        for text in (stored.signer_gln, *named_parties(stored.signed_event)):
            organisation = registry.organisation_of_gln(Gln(text)) if text else None
            if organisation is not None:
                concerned.add(organisation.gln)
        return sorted(concerned)

    async def _send(self, to: Gln, kind: MessageKind, data: bytes, *, message_id: str) -> None:
        subject = inbox_subject(to=to, sender=None, kind=kind)
        try:
            await self._bus.publish(subject, data, message_id=message_id)
        except UnavailableError as error:
            if error.code != "SUBJECT_FULL":
                raise
            log.warning("inbox is full", to=to, kind=kind)


def named_parties(signed_event: bytes) -> tuple[str, ...]:
    """Return the GLNs of sources and destinations that an event names, as far as it can be read; sorted.

    A refused event may name anything there: what is no GLN is nobody's to be told.
    """
    try:
        signed = decode_signed_event(signed_event)
        statement = decode_payload(signed.payload_type, signed.payload).statement
    except MedtrailError:
        return ()
    if isinstance(statement, Document):
        return (str(statement.counterparty),)
    if not isinstance(statement, EpcisEvent):
        return ()
    named = (*statement.source_list, *statement.destination_list)
    return tuple(sorted({str(gln) for item in named if (gln := _gln_or_none(party_of_uri(item.id))) is not None}))


def _gln_or_none(text: str) -> Gln | None:
    try:
        return Gln(text)
    except MedtrailError:
        return None


def _producer(subject: str) -> str:
    """Return the GLN on whose subject a message came; empty where the subject is nobody's."""
    try:
        return str(parse_events_subject(subject))
    except MedtrailError:
        return ""


def _parts(items: Sequence[ReceiptItem]) -> Iterator[list[ReceiptItem]]:
    part: list[ReceiptItem] = []
    size = 0
    for item in items:
        item_bytes = len(item.event_id.encode()) + _ITEM_BYTES
        if part and (len(part) == ITEMS_A_RECEIPT or size + item_bytes > ITEM_BYTES_A_RECEIPT):
            yield part
            part, size = [], 0
        part.append(item)
        size += item_bytes
    yield part


def _read_round(connection: Connection, tree_size: int) -> _Round | None:
    """Return the next messages that a tree of this size covers, with what became of their events, or None."""
    position = log_store.follower_position(connection, FOLLOWER_NAME)
    query = select(MESSAGE).where(MESSAGE.c.number > position, MESSAGE.c.tree_size <= tree_size)
    messages = connection.execute(query.order_by(MESSAGE.c.number).limit(MESSAGES_A_ROUND)).all()
    if not messages:
        return None
    # A round is of one epoch: its receipts name it.
    epoch = messages[0].epoch
    messages = [message for message in messages if message.epoch == epoch]
    due = _Round(last_number=messages[-1].number, epoch=epoch)
    producers = {message.stream_seq: _producer(message.subject) for message in messages}
    times = {message.stream_seq: from_us(message.stream_time_us) for message in messages}
    first, last = messages[0].stream_seq, messages[-1].stream_seq
    before = connection.execute(
        select(MESSAGE.c.tree_size).where(MESSAGE.c.number == messages[0].number - 1)
    ).scalar_one_or_none()
    chained = (
        select(ENTRY.c.stream_seq, ENTRY.c.signed_event_sha256, ENTRY.c.leaf_index, ENTRY.c.event_id)
        .where(ENTRY.c.leaf_index >= (before or 1), ENTRY.c.leaf_index < messages[-1].tree_size)
        .order_by(ENTRY.c.leaf_index)
    )
    resent = (
        select(DUPLICATE.c.stream_seq, DUPLICATE.c.signed_event_sha256, DUPLICATE.c.leaf_index, ENTRY.c.event_id)
        .join(ENTRY, ENTRY.c.leaf_index == DUPLICATE.c.leaf_index)
        .where(DUPLICATE.c.epoch == epoch, DUPLICATE.c.stream_seq.between(first, last))
        .order_by(DUPLICATE.c.stream_seq, DUPLICATE.c.position)
    )
    for query, resend in ((chained, False), (resent, True)):
        for stream_seq, sha256, leaf_index, event_id in connection.execute(query):
            producer = producers[stream_seq]
            if producer:
                due.items[producer].append(ReceiptItem(event_id, sha256, leaf_index, resend))
    refused = connection.execute(
        select(REFUSAL)
        .where(REFUSAL.c.epoch == epoch, REFUSAL.c.stream_seq.between(first, last))
        .order_by(REFUSAL.c.stream_seq, REFUSAL.c.position)
    )
    for row in refused:
        refusal = Refusal(
            signed_event_sha256=row.signed_event_sha256,
            event_id=row.event_id,
            code=row.code,
            field=row.field[:MOST_OF_FIELD],
            message=row.message,
            stream_seq=row.stream_seq,
            stream_time=times[row.stream_seq],
        )
        stored = _StoredRefusal(row.signed_event, refusal, row.position, row.signer_gln)
        if producers[row.stream_seq]:
            due.refusals.append((producers[row.stream_seq], stored))
    return due
