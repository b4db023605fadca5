"""The log as committed, and all that makes it grow: its tree, the stream's cursor, the fence, each batch in one step.

Functions take a connection inside a transaction (:meth:`medtrail.runtime.database.Database.write`, ``read``), so that
whoever calls decides what is one step. Bulk statements are SQLAlchemy Core with lists of rows; nothing here is a row at
a time on the hot path. What stands in the log is read through :mod:`ledger.storage.entry_store`, signed checkpoints
through :mod:`ledger.storage.checkpoint_store`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, text, update

from ledger.intake import to_us
from ledger.judgement import Chained, JudgedMessage, Refused, Resent, outcomes_of, refusal_texts
from ledger.storage.bulk import bulk_insert, bulk_insert_rows
from ledger.storage.tables import DUPLICATE, ENTRY, EPOCH, FOLLOWER, LEASE, MESSAGE, REFUSAL, SIGNED_EVENT, STATE
from medtrail.errors import ConflictError, NotFoundError
from medtrail.merkle import CompactRange


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
    """The log as committed: its tree, and how far the stream is integrated (see ``LogState``)."""

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
