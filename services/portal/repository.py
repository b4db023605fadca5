"""The portal's own index of events: fed by the follower, asked by queries and subscriptions."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.epcis.model import EpcisEvent, Vocabulary
from medtrail.errors import MedtrailError, NotFoundError
from medtrail.event import Capture
from medtrail.gs1 import PrefixLengths
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from services.custody.changes import ChangeBell
from services.portal.facts import Kind, company_prefixes, facts_of
from services.portal.index_tables import INDEX_METADATA, CompanyPrefix, IndexState, MasterAttribute, MasterChild
from services.portal.normal import START, bounded, identifier, microseconds
from services.portal.query import sql
from services.portal.query.sql import EVENT, FACT, Position
from services.portal.query.tree import Query

log = get_logger(__name__)

MAX_PAGE_BYTES = 8 * 1024 * 1024
_STATE: Any = IndexState.__table__  # type: ignore[attr-defined]
_ATTRIBUTE: Any = MasterAttribute.__table__  # type: ignore[attr-defined]
_PREFIX: Any = CompanyPrefix.__table__  # type: ignore[attr-defined]
_CHILD: Any = MasterChild.__table__  # type: ignore[attr-defined]


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
class FoundEvent:
    """An event of an answer.

    Attributes:
        number: In the order in which events were recorded.
        event: With its event id and record time.
        sha256: Of the SignedEvent; 32 bytes.
        signer: Party GLN of the organisation that signed it.
        second_hand: Its signer passed on what another did.
        leaf_index: Its place in the log, or None while unknown.
    """

    number: int
    event: EpcisEvent
    sha256: bytes
    signer: str
    second_hand: bool
    leaf_index: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Events of an answer in its order, and where to go on; None at the end."""

    events: tuple[FoundEvent, ...]
    following: Position | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to which change events were taken in: its number, the hash of its event, and the index's generation."""

    number: int
    sha256: bytes
    generation: int


class EventRepository:
    """Events of one organisation and its partners, by what they say; one a database."""

    def __init__(self, database: Database) -> None:
        """Name the database; its tables are made by :meth:`prepare`."""
        self.database = database
        self.bell = ChangeBell()
        self.cursor = Cursor(0, b"", 0)
        self.prefixes = PrefixLengths()
        """Company prefixes that the events' URNs have shown; used on the event loop."""
        self._known_prefixes: set[str] = set()

    def prepare(self) -> None:
        """Make the tables and read where the index stands. Blocks: for the start of a process.

        Raises:
            UnavailableError: The database cannot be opened.
        """
        self.database.create_tables(INDEX_METADATA)
        self.cursor = self.database.write_now(_read_cursor)
        self._learn(self.database.read_now(lambda c: set(c.execute(select(_PREFIX.c.prefix)).scalars())))

    async def apply(self, changes: Sequence[EventChange]) -> None:
        """Take in changes, in order, in one transaction with the cursor; those taken in before change nothing."""
        fresh = [change for change in changes if change.number > self.cursor.number]
        if not fresh:
            return
        # Reading events takes longer than writing them, and needs no transaction.
        read = await asyncio.to_thread(lambda: [(change, _read(change)) for change in fresh])
        shown = {prefix for _, found in read if found is not None for prefix in company_prefixes(found[0])}
        new = sorted(shown - self._known_prefixes)
        self.cursor = await self.database.write(
            partial(_apply, changes=read, prefixes=new, generation=self.cursor.generation)
        )
        self._learn(new)
        self.bell.ring()

    def _learn(self, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            self._known_prefixes.add(prefix)
            self.prefixes.learn_prefix(prefix)

    async def begin_anew(self) -> None:
        """Forget all events: another database is followed from now on. Master data and what others keep here stay."""
        self.cursor = await self.database.write(_begin_anew)
        self.bell.ring()

    async def wait_for(self, change_number: int, *, timeout_s: float) -> bool:
        """Wait until a change is taken in; return whether it is: what was captured before is then in answers."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.cursor.number < change_number:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await self.bell.wait(timeout_s=left)
        return True

    async def page(self, query: Query, *, size: int, position: Position | None = None) -> Page:
        """Return the next events of an answer: at most so many, and of more than one at most 8 MiB.

        Raises:
            QueryTooLargeError: More events answer than the question's maxEventCount allows.
        """
        return await self.database.read(partial(_page, query=query, size=size, position=position))

    async def after(self, query: Query, number: int, *, newest: int, size: int) -> Page:
        """Return the next events of an answer in the order in which they were recorded, after one and up to one."""
        position = Position(newest, None, number, number)
        in_order = Query(query.conditions)
        return await self.database.read(partial(_page, query=in_order, size=size, position=position))

    async def newest(self) -> int:
        """Return the number of the newest event, shown or not; 0 for none."""
        return await self.database.read(_newest)

    async def first_since(self, moment: datetime) -> int:
        """Return the number before that of the first event recorded at a moment or later."""
        us = microseconds(moment)

        def look(connection: Connection) -> int:
            first = select(func.min(EVENT.c.number)).where(EVENT.c.record_us >= us)
            found = connection.execute(first).scalar_one()
            return _newest(connection) if found is None else int(found) - 1

        return await self.database.read(look)

    async def get(self, event_id: str) -> FoundEvent:
        """Return an event by its id; the declaration where it was declared in error, else first-hand word.

        Raises:
            NotFoundError: None that is shown has this id (EVENT_UNKNOWN).
        """

        def look(connection: Connection) -> FoundEvent | None:
            row = (
                connection.execute(
                    select(EVENT)
                    .join(FACT, FACT.c.event_number == EVENT.c.number)
                    .where(
                        FACT.c.field == "eventID",
                        FACT.c.kind == Kind.TEXT.value,
                        FACT.c.value == bounded(event_id),
                        EVENT.c.shown.is_(True),
                    )
                    .order_by(EVENT.c.declaration.desc(), EVENT.c.second_hand, EVENT.c.number)
                )
                .mappings()
                .first()
            )
            return None if row is None else _found(row)

        found = await self.database.read(look)
        if found is None:
            message = f"no event {event_id[:200]} is known here"
            raise NotFoundError(message, code="EVENT_UNKNOWN", field="eventID")
        return found

    async def values(self, fields: Sequence[str], *, after: str, limit: int) -> list[str]:
        """Return the distinct texts of some fields of shown events, sorted, those after one."""

        def look(connection: Connection) -> list[str]:
            # One step of the index a value: distinct over all rows would read them all.
            found: list[str] = []
            last = after
            while len(found) < limit:
                least = [
                    connection.execute(
                        select(func.min(FACT.c.value)).where(
                            FACT.c.field == field, FACT.c.kind == Kind.TEXT.value, FACT.c.value > last
                        )
                    ).scalar_one()
                    for field in fields
                ]
                following = min((value for value in least if value is not None), default=None)
                if following is None:
                    break
                found.append(following)
                last = following
            return found

        return await self.database.read(look)

    async def put_master_data(self, vocabularies: Iterable[Vocabulary]) -> None:
        """Keep master data for parameters that ask for it (HASATTR, EQATTR, WD); new values replace old ones."""
        elements = [element for vocabulary in vocabularies for element in vocabulary.elements]

        def write(connection: Connection) -> None:
            for element in elements:
                key = identifier(element.id)
                names = {name for name, _ in element.attributes}
                connection.execute(delete(_ATTRIBUTE).where(_ATTRIBUTE.c.key == key, _ATTRIBUTE.c.name.in_(names)))
                rows = [{"key": key, "name": name, "value": bounded(text)} for name, text in set(element.attributes)]
                if rows:
                    connection.execute(upsert(_ATTRIBUTE).on_conflict_do_nothing(), rows)
                children = [{"parent": key, "child": identifier(child)} for child in set(element.children)]
                if children:
                    connection.execute(upsert(_CHILD).on_conflict_do_nothing(), children)

        await self.database.write(write)


_Read = tuple[EpcisEvent, bool] | None


def _read(change: EventChange) -> _Read:
    """Return the EPCIS event of a change and whether it is second-hand; None for what is no EPCIS event."""
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
    return statement, event.header.capture is not Capture.FIRST_HAND


def _apply(
    connection: Connection,
    *,
    changes: Sequence[tuple[EventChange, _Read]],
    prefixes: Sequence[str],
    generation: int,
) -> Cursor:
    if prefixes:
        rows = [{"prefix": prefix} for prefix in prefixes]
        connection.execute(upsert(_PREFIX).on_conflict_do_nothing(), rows)
    for change, read in changes:
        if read is not None:
            _insert(connection, change, *read)
        else:
            _update(connection, change)
    last = changes[-1][0]
    cursor = Cursor(last.number, last.sha256, generation)
    _save_cursor(connection, cursor)
    return cursor


def _is_shown(change: EventChange) -> bool:
    # Refused, and in the log all the same: a second sending was judged after its key was enrolled.
    return not change.refusal or change.leaf_index is not None


def _insert(connection: Connection, change: EventChange, event: EpcisEvent, second_hand: bool) -> None:  # noqa: FBT001  # as read
    shown = _is_shown(change)
    connection.execute(
        insert(EVENT).values(
            number=change.number,
            sha256=change.sha256,
            signer=change.signer,
            event_id=event.event_id,
            declaration=event.error_declaration is not None,
            second_hand=second_hand,
            event_us=microseconds(event.event_time),
            record_us=microseconds(change.record_time),
            leaf_index=change.leaf_index,
            refusal=change.refusal,
            shown=shown,
            signed_event=change.signed_event,
        )
    )
    if shown:
        _insert_facts(connection, change.number, event)


def _insert_facts(connection: Connection, number: int, event: EpcisEvent) -> None:
    rows = [
        {"field": fact.field, "kind": fact.kind.value, "value": fact.value, "event_number": number}
        for fact in facts_of(event)
    ]
    connection.execute(insert(FACT), rows)


def _update(connection: Connection, change: EventChange) -> None:
    row = connection.execute(select(EVENT).where(EVENT.c.sha256 == change.sha256)).mappings().first()
    if row is None:
        return
    number = row["number"]
    if change.gone:
        connection.execute(delete(FACT).where(FACT.c.event_number == number))
        connection.execute(delete(EVENT).where(EVENT.c.number == number))
        return
    shown = _is_shown(change)
    connection.execute(
        update(EVENT)
        .where(EVENT.c.number == number)
        .values(leaf_index=change.leaf_index, refusal=change.refusal, shown=shown)
    )
    if row["shown"] and not shown:
        connection.execute(delete(FACT).where(FACT.c.event_number == number))
    elif shown and not row["shown"]:
        _insert_facts(connection, number, _found(row).event)


def _read_cursor(connection: Connection) -> Cursor:
    row = connection.execute(select(_STATE)).mappings().first()
    if row is None:
        connection.execute(insert(_STATE).values(id=1, change_number=0, sha256=b"", generation=0))
        return Cursor(0, b"", 0)
    return Cursor(row["change_number"], row["sha256"], row["generation"])


def _save_cursor(connection: Connection, cursor: Cursor) -> None:
    connection.execute(
        update(_STATE).values(change_number=cursor.number, sha256=cursor.sha256, generation=cursor.generation)
    )


def _begin_anew(connection: Connection) -> Cursor:
    for table in (FACT, EVENT):
        connection.execute(delete(table))
    cursor = Cursor(0, b"", _read_cursor(connection).generation + 1)
    _save_cursor(connection, cursor)
    return cursor


def _newest(connection: Connection) -> int:
    return connection.execute(select(func.max(EVENT.c.number))).scalar_one() or 0


def _page(connection: Connection, *, query: Query, size: int, position: Position | None) -> Page:
    newest = _newest(connection) if position is None else position.newest
    with sql.limited(connection):
        # One more than asked tells whether there are more.
        rows = sql.answer(connection, query, position=position, newest=newest, limit=size + 1)
    events: list[FoundEvent] = []
    held = 0
    for _, number, length in rows[:size]:
        held += length
        if events and held > MAX_PAGE_BYTES:
            break
        events.append(_by_number(connection, number))
    if len(events) == len(rows):
        return Page(tuple(events), None)
    left = query.event_count_limit if position is None else position.left
    key, number, _ = rows[len(events) - 1]
    return Page(tuple(events), Position(newest, None if left is None else left - len(events), key, number))


def _by_number(connection: Connection, number: int) -> FoundEvent:
    return _found(connection.execute(select(EVENT).where(EVENT.c.number == number)).mappings().one())


def _found(row: Any) -> FoundEvent:  # noqa: ANN401  # a row of indexed_event
    signed = decode_signed_event(row["signed_event"])
    event = decode_payload(signed.payload_type, signed.payload)
    assert isinstance(event.statement, EpcisEvent)  # noqa: S101  # nothing else is indexed
    record_time = START + timedelta(microseconds=row["record_us"])
    return FoundEvent(
        number=row["number"],
        event=replace(event.statement, event_id=event.header.event_id, record_time=record_time),
        sha256=row["sha256"],
        signer=row["signer"],
        second_hand=bool(row["second_hand"]),
        leaf_index=row["leaf_index"],
    )
