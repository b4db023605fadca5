"""The station's copy of its organisation's books, and how what it signed itself lies upon it.

The copy stands in the same tables as the books, so that the same rules and the same verbs work on it. What the station
does changes it at once, and ``holding_before`` keeps what the service's word on a unit was. While an event is under
way, the service's newer words go there; when the service has taken the event in and told all that follows from it, its
word counts again. So the copy is always the service's newest word, with what waits here upon it.

A crash leaves the copy at the page that was taken in last; the service is asked for what comes after it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field, col

from medtrail.checkpoint import open_checkpoint
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.errors import ConflictError
from medtrail.gs1 import Gln
from medtrail.note import NoteVerifier
from medtrail.runtime.tables import ReplicaCheckpoints, ReplicaEntries
from services.custody import events_store
from services.custody.holdings_store import from_us, to_us
from services.custody.holds_tables import LotHoldRow
from services.custody.station_feed import FeedChange, FeedKind, FeedPage
from services.custody.tables import CustodyTable, HoldingBefore, HoldingRow, Inbound, KnownEvent


class CopyRow(CustodyTable, table=True):
    """How far the copy is; one row.

    Attributes:
        feed_id: Identity of the numbering; empty before the first page.
        number: Up to which it holds all.
        loading: It is being made anew: what has not come again by the end is gone.
        complete_us: The service's clock when the copy was complete last; None: never.
        ledger_us: When the service knew all that the ledger had published; None: never.
        ahead_us: By how much this clock was ahead of the service's.
        ended_key_id: did:key of the station's key that the service said to have ended; empty: none.
        ended_code: How: KEY_RETIRED or KEY_REVOKED.
    """

    __tablename__: ClassVar[str] = "station_copy"

    id: int = Field(primary_key=True)
    feed_id: str
    number: int = Field(sa_type=BigInteger)
    loading: bool
    complete_us: int | None = Field(default=None, sa_type=BigInteger)
    ledger_us: int | None = Field(default=None, sa_type=BigInteger)
    ahead_us: int = Field(default=0, sa_type=BigInteger)
    # Later than the first version; earlier rows have the defaults.
    ended_key_id: str = Field(default="", sa_column_kwargs={"server_default": ""})
    ended_code: str = Field(default="", sa_column_kwargs={"server_default": ""})


class SeenRow(CustodyTable, table=True):
    """What has come again while the copy is made anew."""

    __tablename__: ClassVar[str] = "station_seen"

    kind: str = Field(primary_key=True)
    key: str = Field(primary_key=True)


class ConflictCaseRow(CustodyTable, table=True):
    """A case of what stations did that the books contradict, as the service told of it."""

    __tablename__: ClassVar[str] = "station_case"

    case_id: str = Field(primary_key=True)
    resolved: bool


@dataclass(frozen=True, slots=True)
class CopyState:
    """How far the copy is; as :class:`CopyRow`, times aware UTC."""

    feed_id: str = ""
    number: int = 0
    loading: bool = False
    complete_time: datetime | None = None
    ledger_time: datetime | None = None
    ahead_s: float = 0.0
    ended_key_id: str = ""
    ended_code: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """A page as it came: whose numbering, what it follows on, and when.

    Attributes:
        feed_id: Identity of the numbering.
        previous: Number that the page follows on.
        page: What changed.
        service_time: The service's clock; aware UTC.
        ledger_time: When the service knew all that the ledger had published; None: never.
        here_time: This clock; aware UTC.
    """

    feed_id: str
    previous: int
    page: FeedPage
    service_time: datetime
    ledger_time: datetime | None
    here_time: datetime


_UNITS = HoldingRow.__table__  # type: ignore[attr-defined]
_SHIPMENTS = Inbound.__table__  # type: ignore[attr-defined]
_LOT_HOLDS = LotHoldRow.__table__  # type: ignore[attr-defined]
_BEFORE = HoldingBefore.__table__  # type: ignore[attr-defined]
_COPY = CopyRow.__table__  # type: ignore[attr-defined]
_SEEN = SeenRow.__table__  # type: ignore[attr-defined]
_CASES = ConflictCaseRow.__table__  # type: ignore[attr-defined]


def read_state(connection: Connection) -> CopyState:
    """Return how far the copy is."""
    row = connection.execute(select(_COPY)).mappings().first()
    if row is None:
        return CopyState()
    return CopyState(
        feed_id=row["feed_id"],
        number=row["number"],
        loading=bool(row["loading"]),
        complete_time=None if row["complete_us"] is None else from_us(row["complete_us"]),
        ledger_time=None if row["ledger_us"] is None else from_us(row["ledger_us"]),
        ahead_s=row["ahead_us"] / 1_000_000,
        ended_key_id=row["ended_key_id"],
        ended_code=row["ended_code"],
    )


def take_page(connection: Connection, word: Word, *, gln: Gln, verifier: NoteVerifier) -> bool:
    """Take in what the service told; return whether entries of the log came or went.

    Args:
        connection: In a write transaction.
        word: What came.
        gln: Of the organisation.
        verifier: The log's key: what is no checkpoint of the log is not taken for one.

    Raises:
        ConflictError: The page does not follow on what is here (FEED_GAP).
        VerificationError: The checkpoint is not signed by the log.
    """
    state = read_state(connection)
    loading, number = state.loading, state.number
    if word.feed_id != state.feed_id or (word.previous == 0 and number > 0):
        connection.execute(delete(_SEEN))
        loading, number = True, 0
    if word.previous != number:
        message = f"expected what follows on {number}, got what follows on {word.previous}"
        raise ConflictError(message, code="FEED_GAP", field="previous_number")
    for change in word.page.changes:
        _APPLY[change.kind](connection, change, gln)
        if loading:
            row = {"kind": change.kind.value, "key": change.key}
            connection.execute(insert(_SEEN).values(row).on_conflict_do_nothing())
    complete = word.page.number >= word.page.newest
    if loading and complete:
        _drop_unseen(connection, gln)
        loading = False
    if word.page.checkpoint:
        _keep_checkpoint(connection, word.page, verifier)
    values: dict[str, Any] = {
        "feed_id": word.feed_id,
        "number": word.page.number,
        "loading": loading,
        "ahead_us": to_us(word.here_time) - to_us(word.service_time),
    }
    if complete:
        values["complete_us"] = to_us(word.service_time)
        values["ledger_us"] = None if word.ledger_time is None else to_us(word.ledger_time)
    statement = insert(_COPY).values(id=1, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    return any(change.kind is FeedKind.ENTRY for change in word.page.changes) or bool(word.page.checkpoint)


def _keep_checkpoint(connection: Connection, page: FeedPage, verifier: NoteVerifier) -> None:
    opened = open_checkpoint(page.checkpoint, origin=verifier.name, verifiers=(verifier,))
    connection.execute(delete(ReplicaCheckpoints))
    connection.execute(
        insert(ReplicaCheckpoints).values(
            id=1,
            checkpoint=page.checkpoint,
            tree_size=opened.checkpoint.size,
            root_hash=opened.checkpoint.root_hash,
            trust_next=page.trust_next,
            events_next=page.events_next,
        )
    )


# --- one change ---


def _unit(connection: Connection, change: FeedChange, _gln: Gln) -> None:
    set_word(connection, change.key, change.row)


def set_word(connection: Connection, path: str, row: Any) -> None:  # noqa: ANN401  # columns by name, or None
    """Take in the service's word on a unit: at once, or under what was done here and is under way."""
    first = connection.execute(
        select(func.min(_BEFORE.c.event_number)).where(_BEFORE.c.path == path)
    ).scalar_one_or_none()
    if first is not None:
        text = "" if row is None else json.dumps(dict(row), separators=(",", ":"))
        connection.execute(
            update(_BEFORE).where(_BEFORE.c.event_number == first, _BEFORE.c.path == path).values(before=text)
        )
    else:
        _put_unit(connection, path, row)


def _put_unit(connection: Connection, path: str, row: Any) -> None:  # noqa: ANN401  # as above
    # An earlier version may have written it, without the columns of this one.
    known = None if row is None else {name: value for name, value in dict(row).items() if name in _UNITS.c}
    _put(connection, _UNITS.c.path, path, known)


def _put(connection: Connection, column: Column[str], key: str, row: Any) -> None:  # noqa: ANN401  # as above
    """Let a row stand under its key as it is told; None: let there be none."""
    if row is None:
        connection.execute(delete(column.table).where(column == key))
        return
    values = dict(row)
    statement = insert(column.table).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[column.name], set_=values))


def _keep(column: Column[str], connection: Connection, change: FeedChange, _gln: Gln) -> None:
    _put(connection, column, change.key, change.row)


def _entry(connection: Connection, change: FeedChange, _gln: Gln) -> None:
    index = int(change.key)
    connection.execute(delete(ReplicaEntries).where(ReplicaEntries.c.leaf_index == index))
    if change.row is not None:
        connection.execute(insert(ReplicaEntries).values(dict(change.row)))


def _own_recall(connection: Connection, change: FeedChange, gln: Gln) -> None:
    digest = bytes.fromhex(change.key)
    known = events_store.find_by_hash(connection, digest)
    if change.row is None:
        if known is not None:
            events_store.forget(connection, known.number)
    elif known is None:
        data = change.row["signed_event"]
        signed = decode_signed_event(data)
        event = decode_payload(signed.payload_type, signed.payload)
        # A recall that was refused and signed anew keeps its id.
        before = events_store.find_event(
            connection, signer=gln, event_id=event.header.event_id, declaration=event.is_declaration
        )
        if before is not None:
            events_store.forget(connection, before.number)
        events_store.insert_event(connection, event, signer=gln, own=True, sha256=digest, signed_event=data, units=())


_APPLY: dict[FeedKind, Callable[[Connection, FeedChange, Gln], None]] = {
    FeedKind.UNIT: _unit,
    FeedKind.SHIPMENT: partial(_keep, _SHIPMENTS.c.despatch_id),
    FeedKind.ENTRY: _entry,
    FeedKind.OWN_RECALL: _own_recall,
    FeedKind.LOT_HOLD: partial(_keep, _LOT_HOLDS.c.lot_hold_id),
    FeedKind.CONFLICT_CASE: partial(_keep, _CASES.c.case_id),
}

# What there is of a kind, by key.
_KEYS: dict[FeedKind, Callable[[Connection], Sequence[str]]] = {
    FeedKind.UNIT: lambda c: c.execute(select(_UNITS.c.path)).scalars().all(),
    FeedKind.SHIPMENT: lambda c: c.execute(select(_SHIPMENTS.c.despatch_id)).scalars().all(),
    FeedKind.ENTRY: lambda c: [str(index) for index in c.execute(select(ReplicaEntries.c.leaf_index)).scalars()],
    FeedKind.OWN_RECALL: lambda c: [
        digest.hex()
        for digest in c.execute(
            select(col(KnownEvent.signed_event_sha256)).where(col(KnownEvent.payload_type).like("%recall%"))
        ).scalars()
    ],
    FeedKind.LOT_HOLD: lambda c: c.execute(select(_LOT_HOLDS.c.lot_hold_id)).scalars().all(),
    FeedKind.CONFLICT_CASE: lambda c: c.execute(select(_CASES.c.case_id)).scalars().all(),
}


def _drop_unseen(connection: Connection, gln: Gln) -> None:
    for kind, keys in _KEYS.items():
        seen = set(connection.execute(select(_SEEN.c.key).where(_SEEN.c.kind == kind.value)).scalars())
        for key in keys(connection):
            if key not in seen:
                _APPLY[kind](connection, FeedChange(0, kind, key, None), gln)
    connection.execute(delete(_SEEN))


# --- what was done here ---


def settle(connection: Connection, event_number: int) -> None:
    """Let the service's word count on the units of an event of ours: it has taken the event in and told what follows.

    Args:
        connection: In a write transaction.
        event_number: Of the earliest event of ours that is not settled yet.
    """
    rows = connection.execute(
        select(_BEFORE.c.path, _BEFORE.c.before).where(_BEFORE.c.event_number == event_number)
    ).all()
    connection.execute(delete(_BEFORE).where(_BEFORE.c.event_number == event_number))
    for path, before in rows:
        # To a later event of ours on the same unit it is handed on.
        set_word(connection, path, json.loads(before) if before else None)


def is_touched(connection: Connection, path: str) -> bool:
    """Tell whether something was done here with a unit that the service has not told of yet."""
    return connection.execute(select(_BEFORE.c.path).where(_BEFORE.c.path == path).limit(1)).first() is not None


def note_key_end(connection: Connection, key_id: str, code: str) -> None:
    """Keep that the service said that a key of the station has ended: it holds, however long the station is alone."""
    values = {"ended_key_id": key_id, "ended_code": code}
    statement = insert(_COPY).values(id=1, feed_id="", number=0, loading=False, ahead_us=0, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


def begin_again(connection: Connection) -> None:
    """Have the copy made anew: the service's books are not those that it was made of."""
    connection.execute(update(_COPY).values(feed_id="", number=0, loading=True))
    connection.execute(delete(_SEEN))


def resolved_cases(connection: Connection) -> frozenset[str]:
    """Return the ids of the cases of conflicts that the service has told to be resolved; others may be open."""
    return frozenset(connection.execute(select(_CASES.c.case_id).where(_CASES.c.resolved.is_(True))).scalars())


def count_units(connection: Connection) -> int:
    """Return how many units the copy holds."""
    return connection.execute(select(func.count()).select_from(_UNITS)).scalar_one()
