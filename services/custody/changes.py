"""What happened to the events kept here, in order, so that others can follow: inserts, places in the log, refusals.

A change is written in the transaction that makes it. Rows are never deleted: SQLite gives each the number after the
greatest, and a transaction that fails gives its number back, so numbers have no gaps. A change names its event by the
SHA-256 of its bytes; what those say is read from where events are kept, and is gone from here when it is erased there.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.errors import ConflictError
from medtrail.runtime.tables import SignedEvents
from services.custody.tables import EventChange, KnownEvent

MAX_CHANGES = 500
MAX_BYTES = 1024 * 1024


class ChangeKind(IntEnum):
    """What happened to an event; numbered as in the protocol."""

    KEPT = 1
    LOGGED = 2
    REFUSED = 3
    GONE = 4


@dataclass(frozen=True, slots=True)
class Change:
    """That something happened to an event, and how it stands now.

    Attributes:
        number: From 1, without gaps.
        sha256: Of the SignedEvent, 32 bytes.
        kind: What happened.
        record_time_us: When it was captured here or came in, microseconds since 1970.
        signed_event: Its bytes where it came in with this change and is still kept; else empty.
        signer: Party GLN of the signing organisation; empty when the event is gone.
        leaf_index: Its place in the log, or None.
        refusal: Code of the ledger's refusal, or empty.
        gone: It is kept no more.
    """

    number: int
    sha256: bytes
    kind: ChangeKind
    record_time_us: int
    signed_event: bytes
    signer: str
    leaf_index: int | None
    refusal: str
    gone: bool


class ChangeBell:
    """Wakes those who wait for changes; for one event loop."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.closed = False
        """Whether nobody should wait any more: the process ends."""

    def close(self) -> None:
        """Wake all for good; called on the event loop."""
        self.closed = True
        self.ring()

    def ring(self) -> None:
        """Say that there may be changes; called on the event loop."""
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    def listen(self) -> asyncio.Event:
        """Return what the next ring sets: listened to before a look, no ring after the look is missed."""
        return self._rung

    async def wait(self, *, timeout_s: float, listening: asyncio.Event | None = None) -> None:
        """Wait for the bell, or so long: not every writer rings.

        Args:
            timeout_s: Longest time.
            listening: From :meth:`listen`, before; None: from now on.
        """
        rung = listening or self._rung
        try:
            async with asyncio.timeout(timeout_s):
                await rung.wait()
        except TimeoutError:
            return


def now_us() -> int:
    """Return the clock's time in microseconds since 1970."""
    return int(datetime.now(UTC).timestamp() * 1_000_000)


_TABLE = EventChange.__table__  # type: ignore[attr-defined]

# Statements of every event are built once: that takes longer than SQLite does to run them.
_INSERT = _TABLE.insert()
_RECORD_TIME = select(func.min(_TABLE.c.record_time_us)).where(_TABLE.c.signed_event_sha256 == bindparam("sha256"))


def note_change(connection: Connection, sha256: bytes, kind: ChangeKind, *, record_time_us: int | None = None) -> None:
    """Write down that something happened to an event, in the transaction that did it.

    Args:
        connection: In a write transaction.
        sha256: Of the SignedEvent.
        kind: What happened.
        record_time_us: When the event was captured; None: as written down before, or now.
    """
    if record_time_us is None:
        record_time_us = record_time_us_of(connection, sha256) or now_us()
    connection.execute(_INSERT, {"signed_event_sha256": sha256, "kind": kind.value, "record_time_us": record_time_us})


def record_time_us_of(connection: Connection, sha256: bytes) -> int | None:
    """Return when an event was captured here or came in, or None where nothing is written down of it."""
    found: int | None = connection.execute(_RECORD_TIME, {"sha256": sha256}).scalar_one()
    return found


def newest_change(connection: Connection) -> int:
    """Return the number of the newest change, 0 when there is none."""
    return connection.execute(select(func.max(col(EventChange.number)))).scalar_one() or 0


def check_cursor(connection: Connection, number: int, sha256: bytes) -> None:
    """Check that a follower's last change is one of ours.

    Raises:
        ConflictError: CHANGE_UNKNOWN: there is none of that number, or it concerns another event: this database is
            not the one that was followed before.
    """
    if number == 0:
        return
    found = connection.execute(
        select(col(EventChange.signed_event_sha256)).where(col(EventChange.number) == number)
    ).scalar_one_or_none()
    if found != sha256:
        message = f"change {number} is another one here, or none: follow anew, with 0"
        raise ConflictError(message, code="CHANGE_UNKNOWN", field="change_number")


def changes_after(connection: Connection, number: int) -> list[Change]:
    """Return the changes after a number, in order: at most 500 and, of more than one, at most 1 MiB of events."""
    event = KnownEvent.__table__  # type: ignore[attr-defined]
    change = EventChange.__table__  # type: ignore[attr-defined]
    rows = connection.execute(
        select(
            change,
            event.c.signer,
            event.c.leaf_index,
            event.c.refusal,
            func.length(event.c.signed_event).label("size"),
        )
        .select_from(change.outerjoin(event, change.c.signed_event_sha256 == event.c.signed_event_sha256))
        .where(change.c.number > number)
        .order_by(change.c.number)
        .limit(MAX_CHANGES)
    ).mappings()
    found: list[Change] = []
    size = 0
    for row in rows:
        # Sizes first, so that no more than one answer's bytes are ever in memory.
        size += (row["size"] or 0) if row["kind"] == ChangeKind.KEPT else 0
        if found and size > MAX_BYTES:
            break
        found.append(_change(connection, row))
    return found


def _change(connection: Connection, row: Any) -> Change:  # noqa: ANN401  # a row of the query above
    signed_event = b""
    gone = row["signer"] is None
    if row["kind"] == ChangeKind.KEPT and not gone:
        signed_event = connection.execute(
            select(col(KnownEvent.signed_event)).where(
                col(KnownEvent.signed_event_sha256) == row["signed_event_sha256"]
            )
        ).scalar_one()
    return Change(
        number=row["number"],
        sha256=row["signed_event_sha256"],
        kind=ChangeKind(row["kind"]),
        record_time_us=row["record_time_us"],
        signed_event=signed_event,
        signer=row["signer"] or "",
        leaf_index=row["leaf_index"],
        refusal=row["refusal"] or "",
        gone=gone,
    )


def note_earlier_events(connection: Connection) -> None:
    """Write down the events that were kept before changes were: in a database of an earlier version, once.

    Their record time is that of signing; of partners' events, of which nothing tells it, that of now.
    """
    if newest_change(connection):
        return
    event = KnownEvent.__table__  # type: ignore[attr-defined]
    own = SignedEvents
    source = (
        select(
            event.c.signed_event_sha256,
            select(ChangeKind.KEPT.value).scalar_subquery(),
            func.coalesce(own.c.sign_time_us, now_us()),
        )
        .select_from(event.outerjoin(own, event.c.signed_event_sha256 == own.c.sha256))
        .order_by(event.c.number)
    )
    connection.execute(insert(EventChange).from_select(["signed_event_sha256", "kind", "record_time_us"], source))
