"""What the log's database is asked and told: the whole contract between the ledger and its storage.

Functions take a connection inside a transaction (:meth:`medtrail.runtime.database.Database.write`, ``read``), so that
whoever calls decides what is one step. Bulk statements are SQLAlchemy Core with lists of rows; nothing here is a row at
a time on the hot path.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, bindparam, func, insert, select, text, update
from sqlalchemy import Row as SqlRow

from ledger.intake import to_us
from ledger.judgement import Chained, JudgedMessage, Key, Refused, Resent, outcomes_of, refusal_texts
from ledger.storage.bulk import bulk_insert, bulk_insert_rows
from ledger.storage.tables import (
    OTHER_THAN_EPCIS,
    CheckpointRow,
    Cosignature,
    Duplicate,
    Entry,
    Epoch,
    Erasure,
    Follower,
    Lease,
    LedgerTable,
    LogState,
    Message,
    RefusalRow,
    SignedEventRow,
)
from medtrail.errors import ConflictError, NotFoundError, VerificationError
from medtrail.event import PayloadType
from medtrail.merkle import CompactRange

IDS_A_QUERY = 10_000
"""Most values in one IN list; SQLite takes 32,766."""
ROWS_A_FETCH = 64
"""Entries in memory at once where they are read one by one: an event has at most 256 KiB."""


def table_of(kind: type[LedgerTable]) -> Table:
    """Return the Core table of a table class."""
    table: Table = kind.__table__  # type: ignore[attr-defined]  # SQLModel adds it to table classes
    return table


STATE = table_of(LogState)
LEASE = table_of(Lease)
EPOCH = table_of(Epoch)
ENTRY = table_of(Entry)
SIGNED_EVENT = table_of(SignedEventRow)
MESSAGE = table_of(Message)
DUPLICATE = table_of(Duplicate)
REFUSAL = table_of(RefusalRow)
CHECKPOINT = table_of(CheckpointRow)
COSIGNATURE = table_of(Cosignature)
ERASURE = table_of(Erasure)
FOLLOWER = table_of(Follower)


class FenceLostError(ConflictError):
    """Another instance took the log."""

    default_code = "FENCE_LOST"


@dataclass(frozen=True, slots=True)
class MustReach:
    """A tree that this log's key signed once: until the log has it again, nothing is signed."""

    size: int
    root_hash: bytes


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
    frozen: str = ""
    must_reach: MustReach | None = None


@dataclass(frozen=True, slots=True)
class LeaseState:
    """Who leads under which fence, and its last beat."""

    fence: int
    holder: str
    beat: int


class StoredEntry(NamedTuple):
    """An entry with all that its leaf is derived from.

    Attributes:
        signed_event: The bytes; None when they were erased, or are lost.
        erased: Whether they were erased.
    """

    leaf_index: int
    entry: bytes
    signed_event: bytes | None
    list_salt: bytes
    map_keys: bytes
    stream_time_us: int
    payload_type: str
    erased: bool

    def require_event(self) -> bytes:
        """Return the SignedEvent.

        Raises:
            NotFoundError: EVENT_ERASED.
            VerificationError: EVENT_MISSING: it is gone, and nobody ordered that.
        """
        if self.signed_event is not None:
            return self.signed_event
        if self.erased:
            message = f"the event of entry {self.leaf_index} was erased"
            raise NotFoundError(message, code="EVENT_ERASED", field="leaf_index")
        message = f"the event of entry {self.leaf_index} is missing"
        raise VerificationError(message, code="EVENT_MISSING", leaf_index=self.leaf_index)


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint and the tree that it names; the note may hold cosignatures as well."""

    tree: CompactRange
    root_hash: bytes
    note: bytes


# --- the log's state ---


def read_state(connection: Connection, *, lock: bool = False) -> State | None:
    """Return the log's state, or None before its creation; locked against other writers, if asked for."""
    query = select(STATE)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
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
        frozen=row.frozen,
        must_reach=MustReach(row.must_reach_size, row.must_reach_root) if row.must_reach_size else None,
    )


def require_state(connection: Connection, *, lock: bool = False) -> State:
    """Return the log's state.

    Raises:
        NotFoundError: LOG_MISSING: no log was created here.
    """
    state = read_state(connection, lock=lock)
    if state is None:
        raise NotFoundError("no log was created in this database", code="LOG_MISSING")
    return state


def require_fence(connection: Connection, fence: int) -> State:
    """Return the log's state, locked, if a fence number still is the log's.

    Raises:
        FenceLostError: Another instance took the log.
    """
    state = require_state(connection, lock=True)
    if state.fence != fence:
        message = f"expected fence {fence}, the log has {state.fence}: another instance took it"
        raise FenceLostError(message)
    return state


def create_log(connection: Connection, genesis: Chained, *, origin: str, now_us: int) -> None:
    """Begin a log with its genesis as entry 0."""
    tree = CompactRange().append(genesis.candidate.leaf_hash)
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
            frozen="",
            must_reach_size=0,
            must_reach_root=b"",
        )
    )
    connection.execute(insert(EPOCH).values(epoch=1, tree_size=tree.size, reason="the log begins", time_us=now_us))
    connection.execute(insert(LEASE).values(number=1, fence=0, holder="", beat=0))
    rows = _Rows()
    rows.add_entry(genesis, epoch=0, stream_seq=0, position=0, stream_time_us=now_us)
    rows.write(connection)


def take_fence(connection: Connection, *, holder: str = "") -> int:
    """Take the log and return the new fence number: who has an older one stops at its next write."""
    fence = require_state(connection, lock=True).fence + 1
    connection.execute(update(STATE).values(fence=fence))
    connection.execute(update(LEASE).values(fence=fence, holder=holder, beat=LEASE.c.beat + 1))
    return fence


def beat(connection: Connection, fence: int) -> None:
    """Tell that the holder of a fence still leads.

    Raises:
        FenceLostError: It does not.
    """
    # The log's own number as well: an operator who begins an epoch wants whoever leads to take the log anew.
    still = select(STATE.c.fence).scalar_subquery()
    moved = connection.execute(
        update(LEASE).where(LEASE.c.fence == fence, still == fence).values(beat=LEASE.c.beat + 1)
    )
    if moved.rowcount == 0:
        raise FenceLostError(f"fence {fence} is the log's no more: another instance took it, or an epoch began")


def give_up_lease(connection: Connection, fence: int) -> None:
    """Say that the holder of a fence ends in good order: whoever stands by need not wait."""
    connection.execute(update(LEASE).where(LEASE.c.fence == fence).values(holder="", beat=LEASE.c.beat + 1))


def read_lease(connection: Connection) -> LeaseState:
    """Return who leads."""
    row = connection.execute(select(LEASE)).one()
    return LeaseState(row.fence, row.holder, row.beat)


def begin_epoch(connection: Connection, *, reason: str, now_us: int) -> int:
    """Begin to read the stream from its first message again, and return the new epoch.

    What is chained stands: it comes again as duplicates. Whoever leads now must take the log anew.
    """
    state = require_state(connection, lock=True)
    epoch = state.epoch + 1
    connection.execute(
        update(STATE).values(epoch=epoch, next_seq=1, last_message_sha256=b"", stream_created="", fence=state.fence + 1)
    )
    connection.execute(insert(EPOCH).values(epoch=epoch, tree_size=state.tree.size, reason=reason, time_us=now_us))
    return epoch


def freeze(connection: Connection, *, reason: str, must_reach: MustReach | None = None) -> None:
    """Sign nothing from now on: until a tree is reached, or, if none is named, until an operator decides.

    A tree as large or larger that must be reached already stays, with its reason.
    """
    state = require_state(connection, lock=True)
    values: dict[str, Any] = {"frozen": reason}
    if must_reach is not None:
        if state.must_reach is not None and state.must_reach.size >= must_reach.size:
            return
        values |= {"must_reach_size": must_reach.size, "must_reach_root": must_reach.root_hash}
    connection.execute(update(STATE).values(**values))


def thaw(connection: Connection) -> None:
    """Let the log be signed again: the tree that it had to reach is reached."""
    connection.execute(update(STATE).values(frozen="", must_reach_size=0, must_reach_root=b""))


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
        self._rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in (MESSAGE, DUPLICATE, REFUSAL)}
        # Entries are many: their values stand alone, in the order of their tables' columns.
        self._entries: list[tuple[Any, ...]] = []
        self._events: list[tuple[int, bytes]] = []
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
        candidate, leaf_index = chained.candidate, chained.leaf_index
        event_id_hash, signer_gln, declaration = chained.key
        self.leaf_hashes.append(candidate.leaf_hash)
        self._entries.append(
            (
                leaf_index,
                candidate.entry,
                candidate.sha256,
                candidate.list_salt,
                candidate.map_keys,
                candidate.event_id,
                event_id_hash,
                signer_gln,
                declaration,
                epoch,
                stream_seq,
                position,
                stream_time_us,
                candidate.payload_type,
            )
        )
        self._events.append((leaf_index, candidate.signed_event))

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
                bulk_insert(connection, table, rows)
        for table, values in ((ENTRY, self._entries), (SIGNED_EVENT, self._events)):
            bulk_insert_rows(connection, table, table.columns.keys(), values)


# --- what stands in the log ---


def standing_keys(connection: Connection, hashes: Iterable[bytes]) -> dict[Key, int]:
    """Return the index under each duplicate key with one of these hashes of event ids."""
    wanted = sorted(set(hashes))
    found: dict[Key, int] = {}
    columns = (ENTRY.c.event_id_hash, ENTRY.c.signer_gln, ENTRY.c.declaration, ENTRY.c.leaf_index)
    query = select(*columns).where(ENTRY.c.event_id_hash.in_(bindparam("hashes", expanding=True)))
    for start in range(0, len(wanted), IDS_A_QUERY):
        for digest, signer_gln, declaration, leaf_index in connection.execute(
            query, {"hashes": wanted[start : start + IDS_A_QUERY]}
        ):
            found[digest, signer_gln, declaration] = leaf_index
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
        ENTRY.c.list_salt,
        ENTRY.c.map_keys,
        ENTRY.c.stream_time_us,
        ENTRY.c.payload_type,
        ERASURE.c.leaf_index.is_not(None),
    )
    .join(SIGNED_EVENT, SIGNED_EVENT.c.leaf_index == ENTRY.c.leaf_index, isouter=True)
    .join(ERASURE, ERASURE.c.leaf_index == ENTRY.c.leaf_index, isouter=True)
    .order_by(ENTRY.c.leaf_index)
)


def entries(connection: Connection, *, start: int, end: int) -> list[StoredEntry]:
    """Return the entries [start, end) that stand, in order: for few, since all are in memory at once."""
    return list(each_entry(connection, start=start, end=end))


def each_entry(connection: Connection, *, start: int, end: int) -> Iterator[StoredEntry]:
    """Yield the entries [start, end) that stand, in order; some of them are in memory at once."""
    query = _ENTRIES.where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end)
    with connection.execute(query, execution_options={"yield_per": ROWS_A_FETCH}) as rows:
        for row in rows:
            yield StoredEntry._make(row)


def entries_of_types(
    connection: Connection,
    payload_types: Sequence[str],
    *,
    start: int,
    end: int,
    limit: int,
    most_bytes: int | None = None,
) -> list[StoredEntry]:
    """Return the first entries in [start, end) of these payload types (empty: all), in order.

    Args:
        connection: In a transaction.
        payload_types: Those wanted.
        start: First index.
        end: Index behind the last.
        limit: Most entries.
        most_bytes: No more entries come after those that fill so many bytes; None: however large they are.
    """

    def of_types(query: Select[Any]) -> Select[Any]:
        query = query.where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end)
        if payload_types:
            query = query.where(ENTRY.c.payload_type.in_(payload_types))
            if PayloadType.EPCIS not in payload_types:
                query = query.where(text(OTHER_THAN_EPCIS))
        return query.limit(limit)

    if most_bytes is not None:
        sizes = connection.execute(of_types(_SIZES).order_by(ENTRY.c.leaf_index))
        return entries_at(connection, _filling(sizes, most_bytes))
    return [StoredEntry._make(row) for row in connection.execute(of_types(_ENTRIES))]


def entries_at(connection: Connection, indices: Sequence[int], *, most_bytes: int | None = None) -> list[StoredEntry]:
    """Return the entries at these indices that stand, in log order.

    Args:
        connection: In a transaction.
        indices: Of which entries, in the order in which they are wanted.
        most_bytes: None is returned of those that come after such as fill so many bytes; None: of all.
    """
    if most_bytes is not None:
        found = connection.execute(_SIZES.where(ENTRY.c.leaf_index.in_(indices)))
        sizes: dict[int, int] = {row[0]: row[1] for row in found}
        indices = _filling([(index, sizes.get(index, 0)) for index in indices], most_bytes)
    return [StoredEntry._make(row) for row in connection.execute(_ENTRIES.where(ENTRY.c.leaf_index.in_(indices)))]


# Sizes first, so that no more than one answer's bytes are ever in memory.
_SIZES = select(ENTRY.c.leaf_index, func.coalesce(func.length(SIGNED_EVENT.c.data), 0)).join(
    SIGNED_EVENT, SIGNED_EVENT.c.leaf_index == ENTRY.c.leaf_index, isouter=True
)


def _filling(sizes: Iterable[Any], most_bytes: int) -> list[int]:
    """Return the first indices up to the one, inclusive, with which their events have more than so many bytes."""
    found: list[int] = []
    filled = 0
    for index, size in sizes:
        found.append(index)
        filled += size
        if filled > most_bytes:
            break
    return found


def index_of_event(connection: Connection, *, event_id_hash: bytes) -> int | None:
    """Return the index of the first entry with an event id, given by its keyed hash, or None."""
    query = select(func.min(ENTRY.c.leaf_index)).where(ENTRY.c.event_id_hash == event_id_hash)
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


def checkpoint_below(connection: Connection, size: int) -> StoredCheckpoint | None:
    """Return the largest signed checkpoint of at most a size, or None."""
    query = select(CHECKPOINT).where(CHECKPOINT.c.tree_size <= size).order_by(CHECKPOINT.c.tree_size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _stored_checkpoint(row)


def _stored_checkpoint(row: SqlRow[Any]) -> StoredCheckpoint:
    return StoredCheckpoint(CompactRange.from_bytes(row.tree_range), row.root_hash, row.note)


def swap_checkpoint(
    connection: Connection, *, expected: bytes | None, new: StoredCheckpoint, fence: int | None = None
) -> None:
    """Put a new signed checkpoint in the place of the newest, if that is still the expected note (None: none yet).

    Args:
        connection: In a write transaction.
        expected: Note of the newest as it was read.
        new: What was signed.
        fence: The signer's.

    Raises:
        FenceLostError: Another instance took the log.
        ConflictError: CHECKPOINT_MOVED: somebody else signed; LOG_ROLLED_BACK: the new tree is not larger.
    """
    state = require_state(connection, lock=True)
    if fence is not None and state.fence != fence:
        raise FenceLostError(f"expected fence {fence}, the log has {state.fence}: another instance took it")
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


def checkpoint_sizes(connection: Connection, *, after: int, limit: int) -> list[int]:
    """Return the sizes of the first signed checkpoints that are larger than a size, ascending."""
    query = select(CHECKPOINT.c.tree_size).where(CHECKPOINT.c.tree_size > after).order_by(CHECKPOINT.c.tree_size)
    return list(connection.execute(query.limit(limit)).scalars())


def put_cosignature(connection: Connection, *, tree_size: int, witness: str, line: str, time_s: int) -> None:
    """Keep a witness's signature line of a checkpoint; a newer one of the same takes the place of the older."""
    same = (COSIGNATURE.c.tree_size == tree_size, COSIGNATURE.c.witness == witness)
    changed = connection.execute(update(COSIGNATURE).where(*same).values(line=line, time_s=time_s))
    if changed.rowcount == 0:
        connection.execute(insert(COSIGNATURE).values(tree_size=tree_size, witness=witness, line=line, time_s=time_s))


def cosignatures(connection: Connection, *, tree_size: int) -> list[str]:
    """Return the signature lines of witnesses under a checkpoint, by the witnesses' names."""
    query = select(COSIGNATURE.c.line).where(COSIGNATURE.c.tree_size == tree_size).order_by(COSIGNATURE.c.witness)
    return list(connection.execute(query).scalars())


# --- followers ---


def follower_position(connection: Connection, name: str) -> int:
    """Return how far a follower has come; 0 for a new one."""
    position: int | None = connection.execute(
        select(FOLLOWER.c.position).where(FOLLOWER.c.name == name)
    ).scalar_one_or_none()
    return position or 0


# In one statement: of two instances both may be the first to say where a follower is.
_MOVE_FOLLOWER = text(
    "INSERT INTO follower (name, position) VALUES (:name, :position)"
    " ON CONFLICT (name) DO UPDATE SET position = excluded.position"
)


def move_follower(connection: Connection, name: str, position: int) -> None:
    """Note how far a follower has come."""
    connection.execute(_MOVE_FOLLOWER, {"name": name, "position": position})
