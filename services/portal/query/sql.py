"""A question as SQL over the index.

Each condition is a set of event numbers in ``fact``. A small set (a pack, an order) leads: the database goes through
its members. A large one (an event type) is only asked whether it holds an event at hand.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, exc, exists, func, literal, or_, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from services.portal.facts import Kind
from services.portal.index_tables import FactRow, IndexedEvent, MasterAttribute, MasterChild
from services.portal.query.errors import QueryTooComplexError, QueryTooLargeError
from services.portal.query.tree import (
    AttributeEquals,
    Clock,
    Compare,
    Condition,
    Exists,
    HasAttribute,
    Match,
    Moment,
    Op,
    Pattern,
    Query,
    Within,
)

SMALL = 1000
"""Sets up to this size lead."""

MAX_RANGES = 250
"""Ranges of identifiers in one condition: SQLite takes expressions up to a depth of 1,000."""

MAX_PLACES = 5000

LONGEST_S: Final = 30.0
_STEPS: Final = 100_000
"""Steps of the database's machine between two looks at the clock; some milliseconds."""

_LAST: Final = "\U0010ffff"

EVENT: Any = IndexedEvent.__table__  # type: ignore[attr-defined]
FACT: Any = FactRow.__table__  # type: ignore[attr-defined]
_ATTRIBUTE: Any = MasterAttribute.__table__  # type: ignore[attr-defined]
_CHILD: Any = MasterChild.__table__  # type: ignore[attr-defined]
_Where = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next page of an answer begins: after the event with this key and number.

    Attributes:
        newest: Only events recorded up to here: what has come in since the first page is not in later ones.
        left: How many events are still to come by eventCountLimit; None without such a limit.
        key: What the last event was ordered by.
        number: Of the last event.
    """

    newest: int
    left: int | None
    key: int | str
    number: int


def _compare(column: Any, op: Op, value: object) -> _Where:  # noqa: ANN401  # a column
    found: _Where
    match op:
        case Op.EQ:
            found = column == value
        case Op.GT:
            found = column > value
        case Op.GE:
            found = column >= value
        case Op.LT:
            found = column < value
        case _:
            found = column <= value
    return found


def _facts_of(condition: Condition) -> _Where:
    """Return which rows of ``fact`` make a condition hold."""
    match condition:
        case Compare():
            return _compared(condition)
        case Exists(fields):
            return _in_fields(fields)
        case Match(fields, patterns):
            return and_(_in_fields(fields), FACT.c.kind == Kind.TEXT.value, _fits(patterns))
        case Within():
            return _within(condition)
        case HasAttribute(fields, names):
            return and_(_in_fields(fields), _named(_ATTRIBUTE.c.name.in_(names)))
        case AttributeEquals(fields, name, values):
            return and_(_in_fields(fields), _named(and_(_ATTRIBUTE.c.name == name, _ATTRIBUTE.c.value.in_(values))))
        case _:  # pragma: no cover
            message = f"no facts make {condition} hold"
            raise AssertionError(message)


def _in_fields(fields: Iterable[str]) -> _Where:
    names = tuple(fields)
    found: _Where = FACT.c.field == names[0] if len(names) == 1 else FACT.c.field.in_(names)
    return found


def _compared(condition: Compare) -> _Where:
    by_kind: dict[Kind, list[str]] = {}
    for operand in condition.operands:
        by_kind.setdefault(operand.kind, []).append(operand.value)
    ways: list[_Where] = []
    for kind, values in by_kind.items():
        if condition.op is Op.EQ:
            ways.append(and_(FACT.c.kind == kind.value, FACT.c.value.in_(values)))
        else:
            ways += [and_(FACT.c.kind == kind.value, _compare(FACT.c.value, condition.op, value)) for value in values]
    return and_(_in_fields(condition.fields), or_(*ways))


def _fits(patterns: Iterable[Pattern]) -> _Where:
    exact = [pattern.starts[0] for pattern in patterns if not pattern.glob]
    ways: list[_Where] = [FACT.c.value.in_(exact)] if exact else []
    for pattern in patterns:
        ways += [_looks(start, pattern.glob) for start in pattern.starts if pattern.glob]
    return _any_of(ways)


def _any_of(ways: Sequence[_Where]) -> _Where:
    if len(ways) > MAX_RANGES:
        message = f"expected patterns of at most {MAX_RANGES} ranges of identifiers, got {len(ways)}"
        raise QueryTooComplexError(message)
    return or_(*ways)


def _begins(start: str) -> _Where:
    found: _Where = and_(FACT.c.value >= start, FACT.c.value < start + _LAST)
    return found


def _looks(start: str, glob: str) -> _Where:
    # The range lets the database use its index; it could not do so with the glob alone.
    return and_(_begins(start), FACT.c.value.op("GLOB")(glob))


def _within(condition: Within) -> _Where:
    ways: list[_Where] = [FACT.c.value.in_(condition.places)]
    whole = (place for place in condition.places if place.startswith("/414/") and "/254/" not in place)
    ways += [_begins(f"{place}/254/") for place in whole]
    return and_(FACT.c.field == condition.field, FACT.c.kind == Kind.TEXT.value, _any_of(ways))


def _with_descendants(connection: Connection, condition: Within) -> Within:
    """Return a condition that names, too, all places that by master data lie within those that it names."""
    known = set(condition.places)
    fresh = sorted(known)
    while fresh:
        found: set[str] = set()
        for start in range(0, len(fresh), 500):
            part = fresh[start : start + 500]
            found.update(connection.execute(select(_CHILD.c.child).where(_CHILD.c.parent.in_(part))).scalars())
        fresh = sorted(found - known)
        known |= found
        if len(known) > MAX_PLACES:
            message = f"more than {MAX_PLACES} places lie within those named"
            raise QueryTooComplexError(message, field=f"WD_{condition.field}")
    return Within(condition.field, tuple(sorted(known)))


def _named(where: _Where) -> _Where:
    found: _Where = and_(FACT.c.kind == Kind.TEXT.value, FACT.c.value.in_(select(_ATTRIBUTE.c.key).where(where)))
    return found


def _holds(connection: Connection, condition: Condition) -> _Where:
    if isinstance(condition, Moment):
        column = EVENT.c.event_us if condition.clock is Clock.EVENT_TIME else EVENT.c.record_us
        return _compare(column, condition.op, condition.us)
    if isinstance(condition, Within):
        condition = _with_descendants(connection, condition)
    where = _facts_of(condition)
    some = select(FACT.c.event_number).where(where).limit(SMALL + 1).subquery()
    if connection.execute(select(func.count()).select_from(some)).scalar_one() <= SMALL:
        members = select(FACT.c.event_number).where(where)
        found: _Where = EVENT.c.number.in_(members)
        return found
    return exists(select(1).where(and_(FACT.c.event_number == EVENT.c.number, where)))


def _key(query: Query) -> Any:  # noqa: ANN401  # a column or a scalar query
    """Return what events are ordered by."""
    match query.order_by:
        case Clock.EVENT_TIME:
            return EVENT.c.event_us
        case Clock.RECORD_TIME:
            return EVENT.c.record_us
        case None:
            return EVENT.c.number
        case str() as field:
            # Numbers before times before texts before events without the field; of several values the least.
            ways = [
                select(literal(f"{rank}") + func.min(FACT.c.value))
                .where(FACT.c.event_number == EVENT.c.number, FACT.c.field == field, FACT.c.kind == kind.value)
                .scalar_subquery()
                for rank, kind in enumerate((Kind.NUMBER, Kind.TIME, Kind.TEXT), 1)
            ]
            return func.coalesce(*ways, "9")


def answer(
    connection: Connection, query: Query, *, position: Position | None, newest: int, limit: int
) -> list[tuple[int | str, int, int]]:
    """Return the next events of an answer, in its order: (what it is ordered by, number, bytes).

    Args:
        connection: In a read transaction.
        query: The question.
        position: Where to go on; None at the start.
        newest: Only events recorded up to this one; the position's is taken where there is one.
        limit: At most so many, and at most as many as the question's limit allows.

    Raises:
        QueryTooLargeError: More events answer than maxEventCount allows.
    """
    where = [EVENT.c.shown.is_(True), EVENT.c.number <= (newest if position is None else position.newest)]
    where += [_holds(connection, condition) for condition in query.conditions]
    if position is None and query.max_event_count is not None:
        _check_count(connection, where, query.max_event_count)
    key = _key(query)
    if position is not None:
        last = tuple_(literal(position.key), literal(position.number))
        here = tuple_(key, EVENT.c.number)
        where.append(here < last if query.descending else here > last)
    statement: Select[Any] = select(key, EVENT.c.number, func.length(EVENT.c.signed_event)).where(and_(*where))
    columns = (key, EVENT.c.number)
    order = [column.desc() for column in columns] if query.descending else [column.asc() for column in columns]
    left = query.event_count_limit if position is None else position.left
    most = limit if left is None else min(limit, left)
    rows = connection.execute(statement.order_by(*order).limit(most))
    return [(row[0], row[1], row[2]) for row in rows]


@contextmanager
def limited(connection: Connection, *, longest_s: float = LONGEST_S) -> Iterator[None]:
    """Let the statements within take so long together, and no longer.

    Raises:
        QueryTooComplexError: They took longer.
    """
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + longest_s
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    except exc.OperationalError as error:
        if time.monotonic() > deadline:
            message = f"the answer takes longer than {longest_s:g} s to find: ask for less"
            raise QueryTooComplexError(message) from error
        raise
    finally:
        driver.set_progress_handler(None, 0)


def _check_count(connection: Connection, where: Iterable[_Where], most: int) -> None:
    some = select(EVENT.c.number).where(and_(*where)).limit(most + 1).subquery()
    if connection.execute(select(func.count()).select_from(some)).scalar_one() > most:
        message = f"more than {most} events answer"
        raise QueryTooLargeError(message, field="maxEventCount")
