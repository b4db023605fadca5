"""What the log's database is asked and told: the whole contract between the ledger and its storage.

Functions take a connection inside a transaction (:meth:`medtrail.runtime.database.Database.write`, ``read``), so that
whoever calls decides what is one step. Bulk statements are SQLAlchemy Core with lists of rows; nothing here is a row at
a time on the hot path.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update
from sqlalchemy import Row as SqlRow

from ledger.intake import to_us
from ledger.judgement import Chained, JudgedMessage, Key, Refused, Resent, outcomes_of, refusal_texts
from ledger.storage.tables import (
    CheckpointRow,
    Duplicate,
    DuplicateKey,
    Entry,
    Follower,
    KeyList,
    LedgerTable,
    LogState,
    Message,
    RefusalRow,
    SignedEventRow,
)
from medtrail.errors import ConflictError, NotFoundError
from medtrail.merkle import CompactRange

IDS_A_QUERY = 10_000
"""Most values in one IN list; SQLite takes 32,766."""


def table_of(kind: type[LedgerTable]) -> Table:
    """Return the Core table of a table class."""
    table: Table = kind.__table__  # type: ignore[attr-defined]  # SQLModel adds it to table classes
    return table


STATE = table_of(LogState)
ENTRY = table_of(Entry)
SIGNED_EVENT = table_of(SignedEventRow)
KEY_LIST = table_of(KeyList)
DUPLICATE_KEY = table_of(DuplicateKey)
MESSAGE = table_of(Message)
DUPLICATE = table_of(Duplicate)
REFUSAL = table_of(RefusalRow)
CHECKPOINT = table_of(CheckpointRow)
FOLLOWER = table_of(Follower)


@dataclass(frozen=True, slots=True)
class State:
    """The log as committed: its tree, and how far the stream is integrated (see :class:`LogState`)."""

    origin: str
    tree: CompactRange
    epoch: int
    next_seq: int
    last_message_sha256: bytes
    stream_created: str
    fence: int


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with all that its leaf is derived from."""

    leaf_index: int
    entry: bytes
    signed_event: bytes
    list_salt: bytes
    map_keys: bytes
    stream_time_us: int
    payload_type: str


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint and the tree that it names."""

    tree: CompactRange
    root_hash: bytes
    note: bytes


# --- the log's state ---


def read_state(connection: Connection) -> State | None:
    """Return the log's state, or None before its creation."""
    row = connection.execute(select(STATE)).one_or_none()
    if row is None:
        return None
    return State(
        origin=row.origin,
        tree=CompactRange.from_bytes(row.tree_range),
        epoch=row.epoch,
        next_seq=row.next_seq,
        last_message_sha256=row.last_message_sha256,
        stream_created=row.stream_created,
        fence=row.fence,
    )


def require_state(connection: Connection) -> State:
    """Return the log's state.

    Raises:
        NotFoundError: LOG_MISSING: no log was created here.
    """
    state = read_state(connection)
    if state is None:
        raise NotFoundError("no log was created in this database", code="LOG_MISSING")
    return state


def create_log(connection: Connection, genesis: Chained, *, origin: str, now_us: int) -> None:
    """Begin a log with its genesis as entry 0."""
    tree = CompactRange().append(genesis.accepted.leaf_hash)
    connection.execute(
        insert(STATE).values(
            number=1,
            origin=origin,
            tree_size=tree.size,
            tree_range=tree.to_bytes(),
            epoch=1,
            next_seq=1,
            last_message_sha256=b"",
            stream_created="",
            fence=0,
        )
    )
    rows = _Rows()
    rows.add_entry(genesis, epoch=0, stream_seq=0, position=0, stream_time_us=now_us)
    rows.write(connection)


def take_fence(connection: Connection) -> int:
    """Return a new fence number: every sequencer with an older one stops at its next write."""
    fence = require_state(connection).fence + 1
    connection.execute(update(STATE).values(fence=fence))
    return fence


def append(connection: Connection, before: State, judged: Sequence[JudgedMessage], *, created: str) -> State:
    """Store a batch of judged messages and return the state after it.

    Args:
        connection: In a write transaction.
        before: As read in the same transaction.
        judged: In stream order, from ``before.next_seq``, without gaps.
        created: The stream's creation time.
    """
    rows = _Rows()
    number = connection.execute(select(func.coalesce(func.max(MESSAGE.c.number), 0))).scalar_one()
    for number_after, item in enumerate(judged, number + 1):
        rows.add_message(item, number=number_after, epoch=before.epoch)
    rows.write(connection)
    last = judged[-1].opened
    after = replace(
        before,
        tree=before.tree.extend(rows.leaf_hashes),
        next_seq=last.message.stream_seq + 1,
        last_message_sha256=last.sha256,
        stream_created=created,
    )
    connection.execute(
        update(STATE).values(
            tree_size=after.tree.size,
            tree_range=after.tree.to_bytes(),
            next_seq=after.next_seq,
            last_message_sha256=after.last_message_sha256,
            stream_created=after.stream_created,
        )
    )
    return after


class _Rows:
    """Rows of one transaction, gathered by table, so that each table takes one statement."""

    def __init__(self) -> None:
        self._rows: dict[Table, list[dict[str, Any]]] = {
            table: [] for table in (MESSAGE, ENTRY, SIGNED_EVENT, KEY_LIST, DUPLICATE_KEY, DUPLICATE, REFUSAL)
        }
        self.leaf_hashes: list[bytes] = []

    def add_message(self, judged: JudgedMessage, *, number: int, epoch: int) -> None:
        message = judged.opened.message
        seq, time_us = message.stream_seq, to_us(message.stream_time)
        self._rows[MESSAGE].append(
            {
                "number": number,
                "epoch": epoch,
                "stream_seq": seq,
                "stream_time_us": time_us,
                "subject": message.subject,
                "message_sha256": judged.opened.sha256,
                "event_count": len(judged.outcomes),
                "tree_size": judged.tree_size,
                "outcomes_sha256": outcomes_of(judged, epoch=epoch),
            }
        )
        for position, outcome in enumerate(judged.outcomes):
            if isinstance(outcome, Chained):
                self.add_entry(outcome, epoch=epoch, stream_seq=seq, position=position, stream_time_us=time_us)
                continue
            place = {"epoch": epoch, "stream_seq": seq, "position": position}
            if isinstance(outcome, Resent):
                self._rows[DUPLICATE].append(
                    place | {"signed_event_sha256": outcome.candidate.sha256, "leaf_index": outcome.leaf_index}
                )
            else:
                self._add_refusal(outcome, place)

    def add_entry(self, chained: Chained, *, epoch: int, stream_seq: int, position: int, stream_time_us: int) -> None:
        accepted, leaf_index = chained.accepted, chained.leaf_index
        event_id, signer_gln, declaration = chained.key
        self.leaf_hashes.append(accepted.leaf_hash)
        self._rows[ENTRY].append(
            {
                "leaf_index": leaf_index,
                "entry": accepted.entry,
                "signed_event_sha256": chained.candidate.sha256,
                "epoch": epoch,
                "stream_seq": stream_seq,
                "position": position,
                "stream_time_us": stream_time_us,
                "payload_type": str(accepted.event.payload_type),
            }
        )
        self._rows[SIGNED_EVENT].append({"leaf_index": leaf_index, "data": chained.candidate.signed_event})
        self._rows[KEY_LIST].append(
            {"leaf_index": leaf_index, "list_salt": accepted.list_salt, "map_keys": accepted.map_keys}
        )
        self._rows[DUPLICATE_KEY].append(
            {"leaf_index": leaf_index, "event_id": event_id, "signer_gln": signer_gln, "declaration": declaration}
        )

    def _add_refusal(self, refused: Refused, place: dict[str, int]) -> None:
        code, field, message = refusal_texts(refused.error)
        self._rows[REFUSAL].append(
            place
            | {
                "signed_event_sha256": refused.candidate.sha256,
                "signed_event": refused.candidate.signed_event,
                "event_id": refused.candidate.event_id,
                "code": code,
                "field": field,
                "message": message,
                "signer_gln": refused.signer_gln,
            }
        )

    def write(self, connection: Connection) -> None:
        for table, rows in self._rows.items():
            if rows:
                connection.execute(insert(table), rows)


# --- what stands in the log ---


def standing_keys(connection: Connection, event_ids: Iterable[str]) -> dict[Key, int]:
    """Return the index under each duplicate key with one of these event ids."""
    wanted = sorted(set(event_ids))
    found: dict[Key, int] = {}
    query = select(DUPLICATE_KEY).where(DUPLICATE_KEY.c.event_id.in_(bindparam("ids", expanding=True)))
    for start in range(0, len(wanted), IDS_A_QUERY):
        for row in connection.execute(query, {"ids": wanted[start : start + IDS_A_QUERY]}):
            found[row.event_id, row.signer_gln, row.declaration] = row.leaf_index
    return found


def entry_at(connection: Connection, leaf_index: int) -> StoredEntry:
    """Return an entry.

    Raises:
        NotFoundError: ENTRY_UNKNOWN.
    """
    found = entries(connection, start=leaf_index, end=leaf_index + 1)
    if not found:
        raise NotFoundError(f"the log has no entry {leaf_index}", code="ENTRY_UNKNOWN", field="leaf_index")
    return found[0]


_ENTRIES = (
    select(
        ENTRY.c.leaf_index,
        ENTRY.c.entry,
        SIGNED_EVENT.c.data,
        KEY_LIST.c.list_salt,
        KEY_LIST.c.map_keys,
        ENTRY.c.stream_time_us,
        ENTRY.c.payload_type,
    )
    .join(SIGNED_EVENT, SIGNED_EVENT.c.leaf_index == ENTRY.c.leaf_index)
    .join(KEY_LIST, KEY_LIST.c.leaf_index == ENTRY.c.leaf_index)
    .order_by(ENTRY.c.leaf_index)
)


def entries(connection: Connection, *, start: int, end: int) -> list[StoredEntry]:
    """Return the entries [start, end) that stand, in order."""
    rows = connection.execute(_ENTRIES.where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end))
    return [StoredEntry(*row) for row in rows]


def entries_of_types(
    connection: Connection, payload_types: Sequence[str], *, start: int, end: int, limit: int
) -> list[StoredEntry]:
    """Return the first entries in [start, end) of these payload types (empty: all), in order."""
    query = _ENTRIES.where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end)
    if payload_types:
        query = query.where(ENTRY.c.payload_type.in_(payload_types))
    return [StoredEntry(*row) for row in connection.execute(query.limit(limit))]


def entries_at(connection: Connection, indices: Sequence[int]) -> list[StoredEntry]:
    """Return the entries at these indices that stand, in log order."""
    return [StoredEntry(*row) for row in connection.execute(_ENTRIES.where(ENTRY.c.leaf_index.in_(indices)))]


def index_of_event(connection: Connection, *, event_id: str) -> int | None:
    """Return the index of the first entry with an event id, or None."""
    query = select(func.min(DUPLICATE_KEY.c.leaf_index)).where(DUPLICATE_KEY.c.event_id == event_id)
    found: int | None = connection.execute(query).scalar_one()
    return found


def index_of_signed_event(connection: Connection, *, sha256: bytes) -> int | None:
    """Return the index of the entry of these signed bytes, or None."""
    query = select(func.min(ENTRY.c.leaf_index)).where(ENTRY.c.signed_event_sha256 == sha256)
    found: int | None = connection.execute(query).scalar_one()
    return found


# --- checkpoints ---


def newest_checkpoint(connection: Connection) -> StoredCheckpoint | None:
    """Return the newest signed checkpoint: the lock."""
    row = connection.execute(select(CHECKPOINT).order_by(CHECKPOINT.c.tree_size.desc()).limit(1)).one_or_none()
    return None if row is None else _stored_checkpoint(row)


def checkpoint_of_size(connection: Connection, size: int) -> StoredCheckpoint | None:
    """Return the signed checkpoint of a size, or None."""
    row = connection.execute(select(CHECKPOINT).where(CHECKPOINT.c.tree_size == size)).one_or_none()
    return None if row is None else _stored_checkpoint(row)


def _stored_checkpoint(row: SqlRow[Any]) -> StoredCheckpoint:
    return StoredCheckpoint(CompactRange.from_bytes(row.tree_range), row.root_hash, row.note)


def swap_checkpoint(connection: Connection, *, expected: bytes | None, new: StoredCheckpoint) -> None:
    """Put a new signed checkpoint in the place of the newest, if that is still the expected note (None: none yet).

    Raises:
        ConflictError: CHECKPOINT_MOVED: somebody else signed; LOG_ROLLED_BACK: the new tree is not larger.
    """
    newest = newest_checkpoint(connection)
    if (None if newest is None else newest.note) != expected:
        raise ConflictError("another publisher signed a checkpoint", code="CHECKPOINT_MOVED")
    if newest is not None and new.tree.size <= newest.tree.size:
        message = f"expected more than {newest.tree.size} leaves, got {new.tree.size}"
        raise ConflictError(message, code="LOG_ROLLED_BACK")
    connection.execute(
        insert(CHECKPOINT).values(
            tree_size=new.tree.size, root_hash=new.root_hash, tree_range=new.tree.to_bytes(), note=new.note
        )
    )


# --- followers ---


def follower_position(connection: Connection, name: str) -> int:
    """Return how far a follower has come; 0 for a new one."""
    position: int | None = connection.execute(
        select(FOLLOWER.c.position).where(FOLLOWER.c.name == name)
    ).scalar_one_or_none()
    return position or 0


def move_follower(connection: Connection, name: str, position: int) -> None:
    """Note how far a follower has come."""
    moved = connection.execute(update(FOLLOWER).where(FOLLOWER.c.name == name).values(position=position))
    if moved.rowcount == 0:
        connection.execute(insert(FOLLOWER).values(name=name, position=position))
