"""Changes to events taken into the index, in order, each batch in one transaction with the cursor."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, inspect, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError
from medtrail.event import Capture
from medtrail.runtime.logging import get_logger
from services.portal.facts import Fact, content_of, facts_of
from services.portal.index_tables import INDEX_FORMAT, INDEX_METADATA, CompanyPrefix, IndexState
from services.portal.normal import microseconds
from services.portal.query.sql import EVENT, FACT
from services.portal.stored_events import by_number

log = get_logger(__name__)

_STATE: Any = IndexState.__table__  # type: ignore[attr-defined]
PREFIX: Any = CompanyPrefix.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class EventChange:
    """What became of an event, as the organisation's service tells.

    Attributes:
        number: From 1, without gaps.
        sha256: Of the SignedEvent; 32 bytes.
        record_time: When it was captured or came in; aware UTC.
        signed_event: Its bytes where it came in with this change; else empty.
        signer: Party GLN; empty when it is gone.
        leaf_index: Its place in the log, or None.
        refusal: Code of the ledger's refusal, or empty.
        gone: It is kept no more.
    """

    number: int
    sha256: bytes
    record_time: datetime
    signed_event: bytes
    signer: str
    leaf_index: int | None
    refusal: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to which change events were taken in: its number, the hash of its event, and the index's generation."""

    number: int
    sha256: bytes
    generation: int


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """An EPCIS event as read from a change: what it says, its facts, and the hash of all of it."""

    event: EpcisEvent
    second_hand: bool
    facts: frozenset[Fact]
    content: bytes


def read_change(change: EventChange) -> ReadEvent | None:
    """Return the event of a change; None for what is no EPCIS event."""
    if not change.signed_event or change.gone:
        return None
    try:
        signed = decode_signed_event(change.signed_event)
        event = decode_payload(signed.payload_type, signed.payload)
    except MedtrailError as error:
        # A later version of the service may keep what this one cannot read.
        log.warning("event not indexed", sha256=change.sha256.hex(), code=error.code)
        return None
    if not isinstance(event.statement, EpcisEvent):
        return None
    statement = replace(event.statement, event_id=event.header.event_id, record_time=change.record_time)
    second_hand = event.header.capture is not Capture.FIRST_HAND
    return ReadEvent(statement, second_hand, facts_of(statement), content_of(statement))


def apply_changes(
    connection: Connection,
    *,
    changes: Sequence[tuple[EventChange, ReadEvent | None]],
    prefixes: Sequence[str],
    generation: int,
) -> Cursor:
    """Take in changes and return where the index stands then.

    Args:
        connection: In a write transaction.
        changes: At least one, in order, each with its event as :func:`read_change` returned it.
        prefixes: Company prefixes that are not known yet.
        generation: Of the index.
    """
    if prefixes:
        rows = [{"prefix": prefix} for prefix in prefixes]
        connection.execute(upsert(PREFIX).on_conflict_do_nothing(), rows)
    fresh: list[tuple[EventChange, ReadEvent]] = []
    for change, read in changes:
        if read is not None:
            fresh.append((change, read))
        else:
            # What came in before may be what changes now.
            _insert(connection, fresh)
            fresh = []
            _update(connection, change)
    _insert(connection, fresh)
    last = changes[-1][0]
    cursor = Cursor(last.number, last.sha256, generation)
    _save_cursor(connection, cursor)
    return cursor


def _insert(connection: Connection, events: Sequence[tuple[EventChange, ReadEvent]]) -> None:
    """Store events; those that nobody has said before, which is nearly all of them, together."""
    said = Counter(read.content for _, read in events)
    for part in _chunks(list(said)):
        found = connection.execute(select(EVENT.c.content).where(EVENT.c.content.in_(part))).scalars()
        said.update(found)
    rows = [_row(change, read, shown=said[read.content] == 1 and _stands(change)) for change, read in events]
    if rows:
        connection.execute(insert(EVENT), rows)
    facts = [
        row
        for (change, read), stored in zip(events, rows, strict=True)
        if stored["shown"]
        for row in _fact_rows(change.number, read.facts)
    ]
    if facts:
        connection.execute(insert(FACT), facts)
    for content, count in said.items():
        if count > 1:
            _settle(connection, content)


def _row(change: EventChange, read: ReadEvent, *, shown: bool) -> dict[str, Any]:
    event = read.event
    return {
        "number": change.number,
        "sha256": change.sha256,
        "signer": change.signer,
        "event_id": event.event_id,
        "declaration": event.error_declaration is not None,
        "second_hand": read.second_hand,
        "content": read.content,
        "event_us": microseconds(event.event_time),
        "record_us": microseconds(change.record_time),
        "leaf_index": change.leaf_index,
        "refusal": change.refusal,
        "shown": shown,
        "signed_event": change.signed_event,
    }


def _fact_rows(number: int, facts: Iterable[Fact]) -> list[dict[str, Any]]:
    return [
        {"field": fact.field, "kind": fact.kind.value, "value": fact.value, "event_number": number} for fact in facts
    ]


def _stands(change: EventChange) -> bool:
    # Refused, and in the log all the same: a second sending was judged after its key was enrolled.
    return not change.refusal or change.leaf_index is not None


def _chunks(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(items), 500):
        yield items[start : start + 500]


def _update(connection: Connection, change: EventChange) -> None:
    row = connection.execute(select(EVENT.c.number, EVENT.c.content).where(EVENT.c.sha256 == change.sha256)).first()
    if row is None:
        return
    if change.gone:
        connection.execute(delete(FACT).where(FACT.c.event_number == row.number))
        connection.execute(delete(EVENT).where(EVENT.c.number == row.number))
    else:
        connection.execute(
            update(EVENT)
            .where(EVENT.c.number == row.number)
            .values(leaf_index=change.leaf_index, refusal=change.refusal)
        )
    _settle(connection, row.content)


def _settle(connection: Connection, content: bytes) -> None:
    """Show one of the events that say the same: none that was refused, and first-hand word before second-hand."""
    rows = connection.execute(
        select(EVENT.c.number, EVENT.c.shown, EVENT.c.refusal, EVENT.c.leaf_index)
        .where(EVENT.c.content == content)
        .order_by(EVENT.c.second_hand, EVENT.c.number)
    ).all()
    standing = [row.number for row in rows if not row.refusal or row.leaf_index is not None]
    for row in rows:
        show = row.number in standing[:1]
        if show == row.shown:
            continue
        connection.execute(update(EVENT).where(EVENT.c.number == row.number).values(shown=show))
        if show:
            facts = facts_of(by_number(connection, row.number).event)
            connection.execute(insert(FACT), _fact_rows(row.number, facts))
        else:
            connection.execute(delete(FACT).where(FACT.c.event_number == row.number))


def open_index(connection: Connection) -> Cursor:
    """Make the tables that are absent, anew those of another format, and return where the index stands.

    Args:
        connection: In a write transaction.
    """
    generation = 0
    inspector = inspect(connection)
    if inspector.has_table(_STATE.name):
        has_format = any(column["name"] == _STATE.c.format.name for column in inspector.get_columns(_STATE.name))
        row = connection.execute(text("SELECT * FROM index_state")).mappings().one()
        if has_format and row["format"] == INDEX_FORMAT:
            return Cursor(row["change_number"], row["sha256"], row["generation"])
        log.info("index of another format made anew")
        generation = row["generation"] + 1
        INDEX_METADATA.drop_all(connection, tables=[FACT, EVENT, _STATE])
    INDEX_METADATA.create_all(connection)
    connection.execute(
        insert(_STATE).values(id=1, change_number=0, sha256=b"", generation=generation, format=INDEX_FORMAT)
    )
    return Cursor(0, b"", generation)


def _save_cursor(connection: Connection, cursor: Cursor) -> None:
    connection.execute(
        update(_STATE).values(change_number=cursor.number, sha256=cursor.sha256, generation=cursor.generation)
    )


def begin_anew(connection: Connection, *, generation: int) -> Cursor:
    """Forget all events, in a write transaction, and return where the index stands: at the start of a generation."""
    for table in (FACT, EVENT):
        connection.execute(delete(table))
    cursor = Cursor(0, b"", generation)
    _save_cursor(connection, cursor)
    return cursor
