"""What an organisation has signed and what it still owes others: the steps that change it.

All functions here run inside a transaction of the service's own database, beside the holdings that they belong to, on
the tables of :mod:`medtrail.runtime.tables`.

Source: ARCHITECTURE, section 4.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, or_, select, update

from medtrail.errors import DuplicateError, NotFoundError, TooLargeError
from medtrail.event import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_SIGNED_EVENT_BYTES
from medtrail.exchange import ReceiptItem
from medtrail.gs1 import Gln
from medtrail.runtime.tables import EventState, OpenReceipts, Outbox, Outgoing, RelayState, SignedEvents, microseconds
from medtrail.runtime.tokens import utc_now
from medtrail.subjects import MessageKind

MAX_MESSAGE_BYTES = 768 * 1024
# Keys, lengths and the message's own framing; well under this for 500 events.
_FRAME_BYTES = 8


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """An event on its way: its place in the order of signing, its hash, its bytes."""

    seq: int
    sha256: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class OutgoingItem:
    """A message on its way; ``attempts`` counts those that the exchange has stored."""

    id: int
    to: Gln
    kind: MessageKind
    data: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class OwnEvent:
    """A signed event of our own and its fate."""

    sha256: bytes
    event_id: str
    declaration: bool
    data: bytes
    state: EventState
    leaf_index: int | None
    refusal_code: str | None


@dataclass(frozen=True, slots=True)
class Receipted:
    """What a receipt changed.

    Attributes:
        logged: SHA-256 of our events that are in the log by this receipt and were not known to be; such as was refused
            first among them.
        overtaken: Whether an earlier event than one of these has no answer yet: it may be lost.
        new_epoch: Whether the ledger has begun a new epoch: all without a receipt is to be sent again.
    """

    logged: tuple[bytes, ...]
    overtaken: bool
    new_epoch: bool


# --- our own events ---

# Statements of every event are built once: that takes longer than SQLite does to run them.
_INSERT_EVENT = SignedEvents.insert()
_INSERT_OUTBOX = Outbox.insert()
_FIND_EVENT = select(SignedEvents).where(
    SignedEvents.c.event_id == bindparam("event_id"),
    SignedEvents.c.declaration == bindparam("declaration"),
    SignedEvents.c.state != EventState.REFUSED.value,
)


def enqueue_event(
    connection: Connection, signed_event: bytes, *, event_id: str, declaration: bool = False, now: datetime
) -> bytes:
    """Keep a SignedEvent and put it on its way to the ledger; return its SHA-256.

    Args:
        connection: In the transaction that also changes the holdings.
        signed_event: Exactly as signed, at most 256 KiB.
        event_id: As in its header.
        declaration: Whether it is an error declaration: such may repeat an event_id.
        now: Time of signing; aware UTC.

    Raises:
        TooLargeError: More than 256 KiB.
        DuplicateError: EVENT_ID_TAKEN: an event with this key stands already and was not refused.
    """
    if len(signed_event) > MAX_SIGNED_EVENT_BYTES:
        message = f"a signed event has at most {MAX_SIGNED_EVENT_BYTES} bytes, got {len(signed_event)}"
        raise TooLargeError(message, field="signed_event")
    existing = find_event(connection, event_id, declaration=declaration)
    if existing is not None:
        raise DuplicateError(
            f"an event {event_id} is signed already", code="EVENT_ID_TAKEN", field="event_id", event_id=event_id
        )
    sha256 = hashlib.sha256(signed_event).digest()
    connection.execute(
        _INSERT_EVENT,
        {
            "sha256": sha256,
            "event_id": event_id,
            "declaration": declaration,
            "data": signed_event,
            "sign_time_us": microseconds(now),
            "state": EventState.PENDING.value,
        },
    )
    connection.execute(_INSERT_OUTBOX, {"sha256": sha256})
    return sha256


def find_event(connection: Connection, event_id: str, *, declaration: bool = False) -> OwnEvent | None:
    """Return our standing event with this key, or None; refused ones do not stand."""
    row = connection.execute(_FIND_EVENT, {"event_id": event_id, "declaration": declaration}).first()
    return None if row is None else _own_event(row)


def get_event(connection: Connection, sha256: bytes) -> OwnEvent:
    """Return our event with this SHA-256.

    Raises:
        NotFoundError: EVENT_UNKNOWN.
    """
    row = connection.execute(select(SignedEvents).where(SignedEvents.c.sha256 == sha256)).first()
    if row is None:
        raise NotFoundError(f"no event with SHA-256 {sha256.hex()} was signed here", code="EVENT_UNKNOWN")
    return _own_event(row)


def _own_event(row: Row[Any]) -> OwnEvent:
    fields = row._mapping  # noqa: SLF001 - a public name of SQLAlchemy's
    return OwnEvent(
        sha256=fields["sha256"],
        event_id=fields["event_id"],
        declaration=fields["declaration"],
        data=fields["data"],
        state=EventState(fields["state"]),
        leaf_index=fields["leaf_index"],
        refusal_code=fields["refusal_code"],
    )


def next_batch(connection: Connection, *, after: int) -> tuple[OutboxItem, ...]:
    """Return the next events for one message, in order of signing: at most 500, at most 512 KiB encoded.

    Args:
        connection: Any transaction.
        after: Only events whose seq is greater.
    """
    columns = (Outbox.c.seq, Outbox.c.sha256, func.length(SignedEvents.c.data))
    joined = Outbox.join(SignedEvents, Outbox.c.sha256 == SignedEvents.c.sha256)
    # Sizes first, so that no more than one batch of bytes is ever in memory.
    rows = connection.execute(
        select(*columns).select_from(joined).where(Outbox.c.seq > after).order_by(Outbox.c.seq).limit(MAX_BATCH_EVENTS)
    ).all()
    chosen: list[int] = []
    size = 0
    for seq, _, length in rows:
        size += length + _FRAME_BYTES
        if chosen and size > MAX_BATCH_BYTES:
            break
        chosen.append(seq)
    if not chosen:
        return ()
    data = connection.execute(
        select(Outbox.c.seq, Outbox.c.sha256, SignedEvents.c.data)
        .select_from(joined)
        .where(Outbox.c.seq > after, Outbox.c.seq <= chosen[-1])
        .order_by(Outbox.c.seq)
    )
    return tuple(OutboxItem(seq, sha256, content) for seq, sha256, content in data)


def pending_count(connection: Connection) -> int:
    """Return how many events wait for the ledger's answer."""
    return connection.execute(select(func.count()).select_from(Outbox)).scalar_one()


def last_seq_among(connection: Connection, hashes: Iterable[bytes]) -> int:
    """Return the greatest outbox seq of these events, 0 when none of them waits any more."""
    found = connection.execute(select(func.max(Outbox.c.seq)).where(Outbox.c.sha256.in_(tuple(hashes)))).scalar_one()
    return found or 0


def mark_receipted(connection: Connection, items: Iterable[ReceiptItem], *, epoch: int) -> Receipted:
    """Note what the ledger says is in the log; what is not ours, or known already, changes nothing.

    Args:
        connection: In a write transaction.
        items: From a receipt whose checkpoint was verified.
        epoch: The receipt's.
    """
    logged: list[bytes] = []
    highest = 0
    for item in items:
        sha256 = item.signed_event_sha256
        seq = connection.execute(select(Outbox.c.seq).where(Outbox.c.sha256 == sha256)).scalar_one_or_none()
        if _log(connection, sha256, item.leaf_index):
            logged.append(sha256)
        if seq is not None:
            highest = max(highest, seq)
            connection.execute(delete(Outbox).where(Outbox.c.seq == seq))
    earliest = connection.execute(select(func.min(Outbox.c.seq))).scalar_one()
    return Receipted(tuple(logged), earliest is not None and earliest < highest, _note_epoch(connection, epoch))


def _log(connection: Connection, sha256: bytes, leaf_index: int) -> bool:
    """Note that an event is in the log; return whether that is news.

    A refused event may get there all the same, by a second sending that was judged after its key was enrolled. It
    stands again then, unless the same content was signed anew meanwhile and has its key.
    """
    row = connection.execute(select(SignedEvents).where(SignedEvents.c.sha256 == sha256)).first()
    if row is None or row.state == EventState.LOGGED:
        return False
    refused = row.state == EventState.REFUSED
    if refused and find_event(connection, row.event_id, declaration=row.declaration) is not None:
        return False
    connection.execute(
        update(SignedEvents)
        .where(SignedEvents.c.sha256 == sha256)
        .values(state=EventState.LOGGED.value, leaf_index=leaf_index, refusal_code=None)
    )
    return True


def _note_epoch(connection: Connection, epoch: int) -> bool:
    known = connection.execute(select(RelayState.c.epoch).where(RelayState.c.id == 1)).scalar_one_or_none()
    if known is None:
        connection.execute(insert(RelayState).values(id=1, epoch=epoch))
        return False
    if epoch <= known:
        return False
    connection.execute(update(RelayState).where(RelayState.c.id == 1).values(epoch=epoch))
    return True


def send_again(connection: Connection, sha256: bytes) -> None:
    """Put an event on its way anew that was thought to be in the log."""
    connection.execute(
        update(SignedEvents)
        .where(SignedEvents.c.sha256 == sha256, SignedEvents.c.state == EventState.LOGGED.value)
        .values(state=EventState.PENDING.value, leaf_index=None)
    )
    if connection.execute(select(Outbox.c.seq).where(Outbox.c.sha256 == sha256)).first() is None:
        connection.execute(insert(Outbox).values(sha256=sha256))


def mark_refused(connection: Connection, sha256: bytes, *, code: str) -> bool:
    """Note that the ledger refused an event; return whether it was one of ours that waited.

    The event keeps its bytes and gives its key free: mended, it may be signed anew.
    """
    changed = connection.execute(
        update(SignedEvents)
        .where(SignedEvents.c.sha256 == sha256, SignedEvents.c.state == EventState.PENDING.value)
        .values(state=EventState.REFUSED.value, refusal_code=code)
    ).rowcount
    connection.execute(delete(Outbox).where(Outbox.c.sha256 == sha256))
    return bool(changed)


def forget_event(connection: Connection, sha256: bytes, *, leaf_index: int | None) -> None:
    """Erase an event of ours, and what was signed anew with the same content: all that stands at one index."""
    same = SignedEvents.c.sha256 == sha256
    if leaf_index is not None:
        same |= SignedEvents.c.leaf_index == leaf_index
    hashes = connection.execute(select(SignedEvents.c.sha256).where(same)).scalars().all()
    for table in (Outbox, OpenReceipts, SignedEvents):
        connection.execute(delete(table).where(table.c.sha256.in_(hashes)))


# --- messages to partners ---


def enqueue_outgoing(
    connection: Connection, *, to: Gln, kind: MessageKind, data: bytes, now: datetime | None = None
) -> bytes:
    """Put a message to a partner on its way; return its SHA-256. The same message again is sent once.

    Args:
        connection: In a write transaction.
        to: The partner's party GLN.
        kind: What it is.
        data: Its bytes.
        now: Aware UTC, from when its age counts; the clock's when None.

    Raises:
        TooLargeError: More than 768 KiB.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        message = f"a message has at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}"
        raise TooLargeError(message, field="data")
    sha256 = hashlib.sha256(data).digest()
    same = (Outgoing.c.to_gln == str(to), Outgoing.c.sha256 == sha256, Outgoing.c.kind == kind.value)
    if connection.execute(select(Outgoing.c.id).where(*same)).first() is None:
        connection.execute(
            insert(Outgoing).values(
                to_gln=str(to),
                kind=kind.value,
                sha256=sha256,
                data=data,
                attempts=0,
                due_s=0.0,
                enqueue_time_us=microseconds(now or utc_now()),
            )
        )
    return sha256


def change_advices(connection: Connection, change: Callable[[bytes], bytes | None]) -> None:
    """Put what a function returns, if anything, in the place of each advice on its way; it is sent anew."""
    waiting = select(Outgoing.c.id).where(Outgoing.c.kind == MessageKind.ADVICE.value)
    # One after the other: all that waits for a partner that is away need not fit into memory.
    for ident in connection.execute(waiting).scalars().all():
        data = connection.execute(select(Outgoing.c.data).where(Outgoing.c.id == ident)).scalar_one()
        changed = change(data)
        if changed is not None:
            digest = hashlib.sha256(changed).digest()
            connection.execute(
                update(Outgoing).where(Outgoing.c.id == ident).values(data=changed, sha256=digest, due_s=0.0)
            )


def drop_outgoing(connection: Connection, *, kind: MessageKind, holds: Callable[[bytes], bool]) -> None:
    """Drop the messages of a kind on their way that hold what must not go out any more."""
    waiting = select(Outgoing.c.id).where(Outgoing.c.kind == kind.value)
    # One after the other: all that waits for a partner that is away need not fit into memory.
    for ident in connection.execute(waiting).scalars().all():
        data = connection.execute(select(Outgoing.c.data).where(Outgoing.c.id == ident)).scalar_one()
        if holds(data):
            connection.execute(delete(Outgoing).where(Outgoing.c.id == ident))


def due_outgoing(connection: Connection, *, now_s: float, longest_s: float, limit: int) -> tuple[OutgoingItem, ...]:
    """Return messages that are due, oldest first, at most ``limit``.

    What is put off for longer than ``longest_s`` was so by a clock that ran ahead and was set back: it is due.
    """
    rows = connection.execute(
        select(Outgoing.c.id, Outgoing.c.to_gln, Outgoing.c.kind, Outgoing.c.data, Outgoing.c.attempts)
        .where(or_(Outgoing.c.due_s <= now_s, Outgoing.c.due_s > now_s + longest_s))
        .order_by(Outgoing.c.id)
        .limit(limit)
    )
    return tuple(OutgoingItem(row[0], Gln(row[1]), MessageKind(row[2]), row[3], row[4]) for row in rows)


def next_due_s(connection: Connection) -> float | None:
    """Return when the next message is due, seconds since 1970, or None when nothing waits."""
    due_s: float | None = connection.execute(select(func.min(Outgoing.c.due_s))).scalar_one()
    return due_s


def note_outgoing(connection: Connection, item_id: int, *, attempts: int, due_s: float) -> None:
    """Note how often a message was sent, and when it is due again; nothing when it was acknowledged meanwhile."""
    connection.execute(update(Outgoing).where(Outgoing.c.id == item_id).values(attempts=attempts, due_s=due_s))


def defer_partner(connection: Connection, to: Gln, *, due_s: float) -> None:
    """Put off all that waits for a partner whose inbox is full."""
    connection.execute(
        update(Outgoing).where(Outgoing.c.to_gln == str(to), Outgoing.c.due_s < due_s).values(due_s=due_s)
    )


def mark_acknowledged(connection: Connection, *, sender: Gln, message_sha256: bytes) -> bool:
    """Note that a partner has stored a message of ours; return whether one waited for it."""
    return bool(
        connection.execute(
            delete(Outgoing).where(Outgoing.c.to_gln == str(sender), Outgoing.c.sha256 == message_sha256)
        ).rowcount
    )
