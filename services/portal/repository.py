"""The portal's own index of events: fed by the follower, asked by queries and subscriptions."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from medtrail.epcis.model import Vocabulary
from medtrail.errors import NotFoundError
from medtrail.gs1 import PrefixLengths
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from services.custody.changes import ChangeBell
from services.portal.facts import Kind, company_prefixes
from services.portal.index_tables import MasterAttribute, MasterChild
from services.portal.indexing import PREFIX, Cursor, EventChange, apply_changes, begin_anew, open_index, read_change
from services.portal.normal import bounded, identifier, microseconds
from services.portal.query import sql
from services.portal.query.sql import EVENT, FACT, Position
from services.portal.query.tree import Query
from services.portal.stored_events import FoundEvent, by_number, found_event

log = get_logger(__name__)

MAX_PAGE_BYTES = 8 * 1024 * 1024
_ATTRIBUTE: Any = MasterAttribute.__table__  # type: ignore[attr-defined]
_CHILD: Any = MasterChild.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Page:
    """Events of an answer in its order, and where to go on; None at the end."""

    events: tuple[FoundEvent, ...]
    following: Position | None


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
        self.cursor = self.database.write_now(open_index)
        self._learn(self.database.read_now(lambda c: set(c.execute(select(PREFIX.c.prefix)).scalars())))

    async def apply(self, changes: Sequence[EventChange]) -> None:
        """Take in changes, in order, in one transaction with the cursor; those taken in before change nothing."""
        fresh = [change for change in changes if change.number > self.cursor.number]
        if not fresh:
            return
        # Reading events takes longer than writing them, and needs no transaction.
        read = await asyncio.to_thread(lambda: [(change, read_change(change)) for change in fresh])
        shown = {prefix for _, found in read if found is not None for prefix in company_prefixes(found.event)}
        new = sorted(shown - self._known_prefixes)
        self.cursor = await self.database.write(
            partial(apply_changes, changes=read, prefixes=new, generation=self.cursor.generation)
        )
        self._learn(new)
        self.bell.ring()

    def _learn(self, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            self._known_prefixes.add(prefix)
            self.prefixes.learn_prefix(prefix)

    async def begin_anew(self) -> None:
        """Forget all events: another database is followed from now on. Master data and what others keep here stay."""
        self.cursor = await self.database.write(partial(begin_anew, generation=self.cursor.generation + 1))
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
            return None if row is None else found_event(row)

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
        events.append(by_number(connection, number))
    if len(events) == len(rows):
        return Page(tuple(events), None)
    left = query.event_count_limit if position is None else position.left
    key, number, _ = rows[len(events) - 1]
    return Page(tuple(events), Position(newest, None if left is None else left - len(events), key, number))
