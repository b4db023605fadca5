"""Signed events, answered requests and numbers in the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import DuplicateError
from medtrail.event import Event, PayloadType
from medtrail.gs1 import Gln
from services.custody.changes import ChangeKind, note_change, record_time_us_of
from services.custody.holdings_store import chunks, to_us
from services.custody.orders import goods, links
from services.custody.tables import Counter, EventUnit, HoldingBefore, KnownEvent, RefusedEvent, RequestRow
from services.custody.units import Unit


@dataclass(frozen=True, slots=True)
class Stored:
    """A signed event as stored: its number here, its bytes, and what they say."""

    number: int
    signer: Gln
    own: bool
    sha256: bytes
    signed_event: bytes
    event: Event
    leaf_index: int | None = None
    refusal: str = ""


def _stored(row: Any) -> Stored:  # noqa: ANN401  # a row of known_event
    signed = decode_signed_event(row["signed_event"])
    return Stored(
        number=row["number"],
        signer=Gln(row["signer"]),
        own=bool(row["own"]),
        sha256=row["signed_event_sha256"],
        signed_event=row["signed_event"],
        event=decode_payload(signed.payload_type, signed.payload),
        leaf_index=row["leaf_index"],
        refusal=row["refusal"],
    )


_TABLE = KnownEvent.__table__  # type: ignore[attr-defined]
_UNITS = EventUnit.__table__  # type: ignore[attr-defined]
_COUNTER = Counter.__table__  # type: ignore[attr-defined]

# Statements of every event are built once: that takes longer than SQLite does to run them.
_FIND_EVENT = select(_TABLE).where(
    _TABLE.c.signer == bindparam("signer"),
    _TABLE.c.event_id == bindparam("event_id"),
    _TABLE.c.declaration == bindparam("declaration"),
)
_INSERT_EVENT = _TABLE.insert()
_INSERT_UNITS = _UNITS.insert()
_COUNT_ON = (
    insert(_COUNTER)
    .values(name=bindparam("name"), value=1)
    .on_conflict_do_update(index_elements=["name"], set_={"value": _COUNTER.c.value + 1})
    .returning(_COUNTER.c.value)
)


def find_event(connection: Connection, *, signer: Gln, event_id: str, declaration: bool) -> Stored | None:
    """Return the event under a duplicate key, or None."""
    row = (
        connection.execute(_FIND_EVENT, {"signer": str(signer), "event_id": event_id, "declaration": declaration})
        .mappings()
        .first()
    )
    return None if row is None else _stored(row)


def find_by_hash(connection: Connection, sha256: bytes) -> Stored | None:
    """Return the event whose SignedEvent has a hash, or None."""
    row = connection.execute(select(_TABLE).where(col(KnownEvent.signed_event_sha256) == sha256)).mappings().first()
    return None if row is None else _stored(row)


def find_copies(connection: Connection, sha256: bytes, *, leaf_index: int | None) -> list[Stored]:
    """Return the event of a hash, and what was signed anew with the same content: all that stand at one index."""
    same = col(KnownEvent.signed_event_sha256) == sha256
    if leaf_index is not None:
        same |= col(KnownEvent.leaf_index) == leaf_index
    return [_stored(row) for row in connection.execute(select(_TABLE).where(same)).mappings()]


def find_by_id(connection: Connection, event_id: str) -> list[Stored]:
    """Return all events that go by an id, by whomever."""
    rows = connection.execute(select(_TABLE).where(col(KnownEvent.event_id) == event_id)).mappings()
    return [_stored(row) for row in rows]


def own_of_type(connection: Connection, payload_type: PayloadType) -> list[Stored]:
    """Return what this organisation said of a payload type and the ledger did not refuse, in order."""
    rows = connection.execute(
        select(_TABLE)
        .where(
            col(KnownEvent.payload_type) == payload_type.value,
            col(KnownEvent.own).is_(True),
            col(KnownEvent.refusal) == "",
        )
        .order_by(col(KnownEvent.number))
    ).mappings()
    return [_stored(row) for row in rows]


def events_naming(connection: Connection, paths: Iterable[str]) -> list[Stored]:
    """Return the events that name any of some units, in order of arrival, without those that the ledger refused."""
    numbers: set[int] = set()
    for part in chunks(sorted(set(paths))):
        numbers.update(
            connection.execute(select(col(EventUnit.event_number)).where(col(EventUnit.path).in_(part))).scalars()
        )
    return events_of(connection, sorted(numbers))


def named_since(connection: Connection, paths: Iterable[str], number: int) -> set[str]:
    """Return the paths of those of some units that an event of ours names that came after another, and is not refused.

    Declarations do not count: they say nothing of units themselves.
    """
    found: set[str] = set()
    for part in chunks(sorted(set(paths))):
        query = (
            select(col(EventUnit.path))
            .join(KnownEvent, col(KnownEvent.number) == col(EventUnit.event_number))
            .where(col(EventUnit.path).in_(part), col(EventUnit.event_number) > number)
            .where(col(KnownEvent.own).is_(True), col(KnownEvent.declaration).is_(False))
            .where(col(KnownEvent.refusal) == "")
        )
        found.update(connection.execute(query).scalars())
    return found


def events_of(connection: Connection, numbers: Sequence[int]) -> list[Stored]:
    """Return the events of some numbers, in order of arrival, without those that the ledger refused."""
    found: list[Stored] = []
    for start in range(0, len(numbers), 500):
        rows = connection.execute(
            select(_TABLE)
            .where(col(KnownEvent.number).in_(numbers[start : start + 500]), col(KnownEvent.refusal) == "")
            .order_by(col(KnownEvent.number))
        ).mappings()
        found += [_stored(row) for row in rows]
    return found


def own_unlogged_naming(connection: Connection, path: str) -> list[Stored]:
    """Return what this organisation said of a unit by name and the log does not have yet, in order."""
    rows = connection.execute(
        select(_TABLE)
        .join(EventUnit, col(EventUnit.event_number) == col(KnownEvent.number))
        .where(
            col(EventUnit.path) == path,
            col(KnownEvent.own).is_(True),
            col(KnownEvent.leaf_index).is_(None),
            col(KnownEvent.refusal) == "",
        )
        .order_by(col(KnownEvent.number))
    ).mappings()
    return [_stored(row) for row in rows]


def insert_event(
    connection: Connection,
    event: Event,
    *,
    signer: Gln,
    own: bool,
    sha256: bytes,
    signed_event: bytes,
    units: Iterable[Unit],
) -> int:
    """Store a signed event and which units it names; return its number."""
    statement = event.statement
    moment = to_us(statement.event_time) if isinstance(statement, EpcisEvent) else 0
    result = connection.execute(
        _INSERT_EVENT,
        {
            "signer": str(signer),
            "event_id": event.header.event_id,
            "declaration": event.is_declaration,
            "own": own,
            "payload_type": event.payload_type.value,
            "event_time_us": moment,
            "source_seq": event.header.source_seq,
            "signed_event_sha256": sha256,
            "signed_event": signed_event,
            "refusal": "",
        },
    )
    number = int(result.inserted_primary_key[0])  # type: ignore[index]
    note_change(connection, sha256, ChangeKind.KEPT)
    links.add_links(connection, number, links.targets_of(event))
    rows = [{"path": path, "event_number": number} for path in {unit.path for unit in units}]
    if rows:
        connection.execute(_INSERT_UNITS, rows)
    return number


def _hash_of(connection: Connection, number: int) -> bytes:
    found: bytes = connection.execute(
        select(col(KnownEvent.signed_event_sha256)).where(col(KnownEvent.number) == number)
    ).scalar_one()
    return found


def forget(connection: Connection, number: int) -> None:
    """Forget an event: one that was refused, so that its content can be said anew, or one that was erased."""
    note_change(connection, _hash_of(connection, number), ChangeKind.GONE)
    links.forget(connection, number)
    goods.forget(connection, number)
    connection.execute(delete(EventUnit).where(col(EventUnit.event_number) == number))
    connection.execute(delete(HoldingBefore).where(col(HoldingBefore.event_number) == number))
    connection.execute(delete(KnownEvent).where(col(KnownEvent.number) == number))


def replace_signed(connection: Connection, number: int, *, sha256: bytes, signed_event: bytes) -> None:
    """Put newly signed bytes in the place of refused ones; the event was captured when those were."""
    before = _hash_of(connection, number)
    note_change(connection, before, ChangeKind.GONE)
    note_change(connection, sha256, ChangeKind.KEPT, record_time_us=record_time_us_of(connection, before))
    connection.execute(
        update(KnownEvent)
        .where(col(KnownEvent.number) == number)
        .values(signed_event_sha256=sha256, signed_event=signed_event, refusal="")
    )


def set_leaf_index(connection: Connection, number: int, leaf_index: int) -> None:
    """Note where in the log an event is; the same place again changes nothing."""
    row = connection.execute(
        select(col(KnownEvent.signed_event_sha256), col(KnownEvent.leaf_index)).where(col(KnownEvent.number) == number)
    ).first()
    if row is None or row[1] == leaf_index:
        return
    note_change(connection, row[0], ChangeKind.LOGGED)
    connection.execute(update(KnownEvent).where(col(KnownEvent.number) == number).values(leaf_index=leaf_index))


def set_refusal(connection: Connection, number: int, code: str) -> None:
    """Note that the ledger refused an event."""
    note_change(connection, _hash_of(connection, number), ChangeKind.REFUSED)
    connection.execute(update(KnownEvent).where(col(KnownEvent.number) == number).values(refusal=code))


def remember_refused(connection: Connection, sha256: bytes, code: str) -> None:
    """Note that the ledger refused an event that may not have come here yet."""
    connection.execute(insert(RefusedEvent).values(signed_event_sha256=sha256, code=code).on_conflict_do_nothing())


def refused_code(connection: Connection, sha256: bytes) -> str:
    """Return the code of the refusal of a partner's event; empty when none is known."""
    return (
        connection.execute(
            select(col(RefusedEvent.code)).where(col(RefusedEvent.signed_event_sha256) == sha256)
        ).scalar_one_or_none()
        or ""
    )


def next_number(connection: Connection, name: str) -> int:
    """Return the next number of a counter, from 1. Gapless: a transaction that fails gives its number back."""
    return int(connection.execute(_COUNT_ON, {"name": name}).scalar_one())


def peek_number(connection: Connection, name: str) -> int:
    """Return the number that :func:`next_number` will give next."""
    value = connection.execute(select(col(Counter.value)).where(col(Counter.name) == name)).scalar_one_or_none()
    return (value or 0) + 1


def answered(connection: Connection, request_id: str, *, method: str, request_sha256: bytes) -> bytes | None:
    """Return the answer given before to a request, or None for a new one.

    Raises:
        DuplicateError: The id was used for another request (REQUEST_ID_REUSED).
    """
    row = connection.execute(
        select(col(RequestRow.method), col(RequestRow.request_sha256), col(RequestRow.answer)).where(
            col(RequestRow.request_id) == request_id
        )
    ).first()
    if row is None:
        return None
    if (row[0], row[1]) != (method, request_sha256):
        message = f"request id {request_id} was used for another request, of {row[0]}"
        raise DuplicateError(message, code="REQUEST_ID_REUSED", field="request_id")
    return bytes(row[2])


def keep_answer(connection: Connection, request_id: str, *, method: str, request_sha256: bytes, answer: bytes) -> None:
    """Keep the answer to a request."""
    connection.execute(
        insert(RequestRow).values(request_id=request_id, method=method, request_sha256=request_sha256, answer=answer)
    )
