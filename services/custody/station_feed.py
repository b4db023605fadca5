"""The books as a numbered feed, for copies of them: each thing stands once, under the number of its latest change.

What changed after a number is then all that a copy lacks, and what changed after 0 is all there is. Triggers of the
database write the numbers, so that whoever changes the books, and however, no change is missed. They are made when the
first follower comes: who has no station pays nothing.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import Connection, UniqueConstraint, func, insert, select
from sqlmodel import Field, col

from medtrail.event import PayloadType
from medtrail.runtime.tables import ReplicaCheckpoints, ReplicaEntries
from services.custody.exceptions.case import CaseStatus
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.tables import CaseRow
from services.custody.holdings_store import CHUNK
from services.custody.holds_tables import LotHoldRow
from services.custody.tables import CustodyTable, HoldingRow, Inbound, KnownEvent

MAX_CHANGES = 500
MAX_BYTES = 1024 * 1024


class FeedKind(StrEnum):
    """What a change concerns."""

    UNIT = "unit"
    SHIPMENT = "shipment"
    ENTRY = "entry"
    OWN_RECALL = "own_recall"
    LOT_HOLD = "lot_hold"
    CONFLICT_CASE = "conflict_case"


class BookChangeRow(CustodyTable, table=True):
    """The latest change of one thing.

    Attributes:
        number: Grows with each change; never given twice.
        kind: :class:`FeedKind`.
        key: Path of a unit, event_id of a despatch, index of an entry, SHA-256 of a recall in hex, a lot_hold_id
            or a case_id.
    """

    __tablename__: ClassVar[str] = "book_change"
    __table_args__ = (UniqueConstraint("kind", "key"), {"sqlite_autoincrement": True})

    number: int | None = Field(default=None, primary_key=True)
    kind: str
    key: str


class BookFeedRow(CustodyTable, table=True):
    """Identity of the numbering; one row, once somebody has followed."""

    __tablename__: ClassVar[str] = "book_feed"

    id: int = Field(primary_key=True)
    feed_id: str


@dataclass(frozen=True, slots=True)
class FeedChange:
    """What there is now of one thing that changed.

    Attributes:
        number: Of the change.
        kind: What it concerns.
        key: As in :class:`BookChangeRow`.
        row: Its columns by name; None when it is there no more.
    """

    number: int
    kind: FeedKind
    key: str
    row: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FeedHead:
    """Where the feed ends, and how far the log is known here; as in :class:`FeedPage`."""

    newest: int
    checkpoint: bytes
    trust_next: int
    events_next: int

    def empty_page(self, number: int) -> "FeedPage":
        """Return that nothing changed after a number."""
        return FeedPage((), number, self.newest, self.checkpoint, self.trust_next, self.events_next)


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What changed after a number, and how far the log is known here.

    Attributes:
        changes: In order; at most 500, and of more than one at most 1 MiB of events.
        number: Of the last of them, or where they were asked for.
        newest: Of the newest change there is.
        checkpoint: The newest known, signed note; may be empty.
        trust_next: Index below which trust entries are known.
        events_next: Index below which products and recalls are known.
    """

    changes: tuple[FeedChange, ...]
    number: int
    newest: int
    checkpoint: bytes
    trust_next: int
    events_next: int


# Table, what names a row of it, and which of its rows count.
_SOURCES: dict[FeedKind, tuple[str, str, str]] = {
    FeedKind.UNIT: ("holding", "{row}path", "1"),
    FeedKind.SHIPMENT: ("inbound", "{row}despatch_id", "1"),
    FeedKind.ENTRY: ("replica_entry", "CAST({row}leaf_index AS TEXT)", "1"),
    FeedKind.OWN_RECALL: (
        "known_event",
        "lower(hex({row}signed_event_sha256))",
        f"{{row}}own AND {{row}}payload_type = '{PayloadType.RECALL.value}'",
    ),
    FeedKind.LOT_HOLD: ("lot_hold", "{row}lot_hold_id", "1"),
    FeedKind.CONFLICT_CASE: (
        "exception_case",
        "{row}case_id",
        f"{{row}}code = '{ExceptionCode.OFFLINE_CONFLICT.value}'",
    ),
}

# Made of the constants above alone.
_TRIGGER = """\
CREATE TRIGGER IF NOT EXISTS {name} AFTER {verb} ON {table} WHEN {where} BEGIN
    DELETE FROM book_change WHERE kind = '{kind}' AND key = {key};
    INSERT INTO book_change (kind, key) VALUES ('{kind}', {key});
END"""
_SEED = "INSERT INTO book_change (kind, key) SELECT '{kind}', {key} FROM {table} WHERE {where} ORDER BY rowid"


def feed_id(connection: Connection) -> str:
    """Return the identity of the numbering; empty while nobody has followed."""
    return connection.execute(select(col(BookFeedRow.feed_id))).scalar_one_or_none() or ""


def begin_feed(connection: Connection) -> str:
    """Number all that there is and each change from now on, if that is not done yet; return the identity.

    What an earlier version has begun goes on, with the kinds that it did not number.
    """
    known = feed_id(connection)
    triggers = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars())
    for kind in _SOURCES:
        if _trigger_name(kind, "INSERT") not in triggers:
            _number(connection, kind)
    if known:
        return known
    made = uuid.uuid4().hex
    connection.execute(insert(BookFeedRow).values(id=1, feed_id=made))
    return made


def _trigger_name(kind: FeedKind, verb: str) -> str:
    return f"book_change_{kind}_{verb}"


def _number(connection: Connection, kind: FeedKind) -> None:
    table, key, where = _SOURCES[kind]
    for verb, row in (("INSERT", "NEW."), ("UPDATE", "NEW."), ("DELETE", "OLD.")):
        # Not INSERT OR REPLACE: the conflict clause of the statement that fires a trigger would take its place.
        facts = {"name": _trigger_name(kind, verb), "kind": kind, "verb": verb, "table": table}
        connection.exec_driver_sql(_TRIGGER.format(**facts, key=key.format(row=row), where=where.format(row=row)))
    connection.exec_driver_sql(_SEED.format(kind=kind, table=table, key=key.format(row=""), where=where.format(row="")))


def newest_number(connection: Connection) -> int:
    """Return the number of the newest change, 0 when there is none."""
    return connection.execute(select(func.max(col(BookChangeRow.number)))).scalar_one() or 0


def read_head(connection: Connection) -> FeedHead:
    """Return where the feed ends."""
    head = connection.execute(select(ReplicaCheckpoints)).first()
    newest = newest_number(connection)
    if head is None:
        return FeedHead(newest, b"", 0, 0)
    return FeedHead(newest, head.checkpoint, head.trust_next, head.events_next)


def page_after(connection: Connection, number: int) -> FeedPage:
    """Return what changed after a number."""
    table = BookChangeRow.__table__  # type: ignore[attr-defined]
    found = connection.execute(
        select(table).where(table.c.number > number).order_by(table.c.number).limit(MAX_CHANGES)
    ).all()
    keys: dict[FeedKind, list[str]] = {}
    for row in found:
        keys.setdefault(FeedKind(row.kind), []).append(row.key)
    rows = {kind: _READERS[kind](connection, wanted) for kind, wanted in keys.items()}
    changes: list[FeedChange] = []
    size = 0
    for row in found:
        kind = FeedKind(row.kind)
        content = rows[kind].get(row.key)
        size += 0 if content is None else len(content.get("signed_event", b""))
        if changes and size > MAX_BYTES:
            break
        changes.append(FeedChange(row.number, kind, row.key, content))
    page = read_head(connection).empty_page(number)
    return replace(page, changes=tuple(changes), number=changes[-1].number) if changes else page


Rows = dict[str, Mapping[str, Any]]


def _read(connection: Connection, table: Any, column: str, values: Sequence[Any]) -> Iterable[Mapping[str, Any]]:  # noqa: ANN401  # any table
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        yield from map(dict, connection.execute(select(table).where(table.c[column].in_(part))).mappings())


def _units(connection: Connection, paths: Sequence[str]) -> Rows:
    table = HoldingRow.__table__  # type: ignore[attr-defined]
    return {row["path"]: row for row in _read(connection, table, "path", paths)}


def _shipments(connection: Connection, ids: Sequence[str]) -> Rows:
    table = Inbound.__table__  # type: ignore[attr-defined]
    return {row["despatch_id"]: row for row in _read(connection, table, "despatch_id", ids)}


def _entries(connection: Connection, indices: Sequence[str]) -> Rows:
    wanted = [int(index) for index in indices]
    return {str(row["leaf_index"]): row for row in _read(connection, ReplicaEntries, "leaf_index", wanted)}


def _own_recalls(connection: Connection, hashes: Sequence[str]) -> Rows:
    table = KnownEvent.__table__  # type: ignore[attr-defined]
    wanted = [bytes.fromhex(digest) for digest in hashes]
    rows = _read(connection, table, "signed_event_sha256", wanted)
    return {row["signed_event_sha256"].hex(): row for row in rows if not row["refusal"]}


def _lot_holds(connection: Connection, ids: Sequence[str]) -> Rows:
    table = LotHoldRow.__table__  # type: ignore[attr-defined]
    return {
        row["lot_hold_id"]: row for row in _read(connection, table, "lot_hold_id", ids) if row["release_us"] is None
    }


def _conflict_cases(connection: Connection, ids: Sequence[str]) -> Rows:
    table = CaseRow.__table__  # type: ignore[attr-defined]
    return {
        row["case_id"]: {"case_id": row["case_id"], "resolved": row["status"] == CaseStatus.RESOLVED.value}
        for row in _read(connection, table, "case_id", ids)
    }


_READERS = {
    FeedKind.UNIT: _units,
    FeedKind.SHIPMENT: _shipments,
    FeedKind.ENTRY: _entries,
    FeedKind.OWN_RECALL: _own_recalls,
    FeedKind.LOT_HOLD: _lot_holds,
    FeedKind.CONFLICT_CASE: _conflict_cases,
}
