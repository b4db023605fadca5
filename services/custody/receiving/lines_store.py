"""The units of deliveries in the database, and their counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from services.custody.holdings_store import CHUNK, chunks
from services.custody.receiving.codes import FOUND, MISSING, Posting, ResultCode
from services.custody.receiving.tables import DeliveryCount, DeliveryLine
from services.custody.units import Unit, unit_of_path

_LINE = DeliveryLine.__table__  # type: ignore[attr-defined]
_COUNT = DeliveryCount.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Line:
    """A unit of a delivery.

    Attributes:
        path: Of the unit.
        parent: Path of its container in the delivery; empty when outermost.
        despatch_id: Of the despatch that tells of it; empty: none does.
        leaf: It holds no others: it is counted.
        expected: A despatch of the delivery tells of it.
        lot: As advised.
        expiry: As advised; empty or an ISO date.
        result: None: expected, and not found yet.
        scan: Number of the scan that decided; 0: none.
        seen_lot: As scanned.
        seen_expiry: As scanned.
        damaged: The person who scanned it said so.
        sample: Path of the sealed container as whose sample it is to be scanned; empty: as none.
        posting: What was done with it in the books.
        case_id: Exception case that is tied to it.
    """

    delivery: int
    path: str
    parent: str = ""
    despatch_id: str = ""
    leaf: bool = True
    expected: bool = False
    lot: str = ""
    expiry: str = ""
    result: ResultCode | None = None
    scan: int = 0
    seen_lot: str = ""
    seen_expiry: str = ""
    damaged: bool = False
    sample: str = ""
    posting: Posting = Posting.NONE
    case_id: str = ""

    @property
    def unit(self) -> Unit:
        """The unit."""
        return unit_of_path(self.path)

    @property
    def expiry_day(self) -> date | None:
        """The expiry as advised."""
        return date.fromisoformat(self.expiry) if self.expiry else None

    @property
    def seen_expiry_day(self) -> date | None:
        """The expiry as scanned."""
        return date.fromisoformat(self.seen_expiry) if self.seen_expiry else None


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a delivery's leaves, by result; None: not found yet."""

    expected: int
    by_result: Mapping[ResultCode | None, int]
    scans: int = 0

    @property
    def found(self) -> int:
        """Expected and there."""
        return sum(count for result, count in self.by_result.items() if result in FOUND)

    @property
    def missing(self) -> int:
        """Expected and not there, or not yet."""
        return sum(count for result, count in self.by_result.items() if result is None or result in MISSING)

    @property
    def excepted(self) -> int:
        """All others."""
        return sum(self.by_result.values()) - self.found - self.missing


def _from_row(row: Any) -> Line:  # noqa: ANN401  # a row of delivery_line
    values = dict(row)
    values["result"] = ResultCode(values["result"]) if values["result"] else None
    values["posting"] = Posting(values["posting"])
    return Line(**values)


def _to_row(line: Line) -> dict[str, Any]:
    row = {name: getattr(line, name) for name in Line.__slots__}
    row["result"] = _word(line.result)
    row["posting"] = line.posting.value
    return row


def _word(result: ResultCode | None) -> str:
    return "" if result is None else result.value


def of_delivery(delivery: int) -> ColumnElement[bool]:
    """Return the condition that a line is of a delivery."""
    return col(DeliveryLine.delivery) == delivery


def with_paths(delivery: int, paths: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a line is of one of some units, at most 500."""
    return and_(of_delivery(delivery), col(DeliveryLine.path).in_(paths))


def inside(delivery: int, container: str) -> ColumnElement[bool]:
    """Return the condition that a line is inside of a container, at any depth."""
    below = select(_LINE.c.path).where(_LINE.c.delivery == delivery, _LINE.c.parent == container).cte(recursive=True)
    child = _LINE.alias()
    below = below.union(select(child.c.path).where(child.c.delivery == delivery, child.c.parent == below.c.path))
    return and_(of_delivery(delivery), col(DeliveryLine.path).in_(select(below.c.path)))


def add(connection: Connection, lines: Iterable[Line]) -> None:
    """Store lines of units that are not in their delivery yet."""
    rows = [_to_row(line) for line in lines]
    for start in range(0, len(rows), CHUNK):
        connection.execute(insert(_LINE), rows[start : start + CHUNK])
    counted: dict[tuple[int, bool, str], int] = {}
    for row in rows:
        if row["leaf"]:
            key = (row["delivery"], row["expected"], row["result"])
            counted[key] = counted.get(key, 0) + 1
    for (delivery, expected, result), units in counted.items():
        _count(connection, delivery, expected=expected, result=result, units=units)


def _count(connection: Connection, delivery: int, *, expected: bool, result: str, units: int) -> None:
    statement = insert(_COUNT).values(delivery=delivery, expected=expected, result=result, units=units)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["delivery", "expected", "result"], set_={"units": _COUNT.c.units + units}
        )
    )


def change(connection: Connection, delivery: int, where: ColumnElement[bool], **values: object) -> None:
    """Set columns of lines of one delivery, and keep its counts."""
    if values.keys() & {"result", "expected", "leaf"}:
        _move(connection, delivery, where, values)
    words = {name: _word_of(value) for name, value in values.items()}
    connection.execute(update(_LINE).where(where).values(**words))


def _word_of(value: object) -> object:
    return "" if value is None else value.value if isinstance(value, ResultCode | Posting) else value


def _move(connection: Connection, delivery: int, where: ColumnElement[bool], values: Mapping[str, object]) -> None:
    before = connection.execute(
        select(_LINE.c.expected, _LINE.c.result, _LINE.c.leaf, func.count())
        .where(where)
        .group_by(_LINE.c.expected, _LINE.c.result, _LINE.c.leaf)
    ).all()
    for expected, result, leaf, units in before:
        if leaf:
            _count(connection, delivery, expected=expected, result=result, units=-units)
        if values.get("leaf", leaf):
            _count(
                connection,
                delivery,
                expected=bool(values.get("expected", expected)),
                result=str(_word_of(values["result"])) if "result" in values else result,
                units=units,
            )


def change_paths(connection: Connection, delivery: int, paths: Sequence[str], **values: object) -> None:
    """Set columns of the lines of some units."""
    for part in chunks(paths):
        change(connection, delivery, with_paths(delivery, part), **values)


def remove(connection: Connection, delivery: int, where: ColumnElement[bool]) -> None:
    """Forget lines."""
    change(connection, delivery, where, leaf=False)
    connection.execute(delete(_LINE).where(where))


def counts(connection: Connection, delivery: int) -> Counts:
    """Return the counts of a delivery, but for its scans."""
    rows = connection.execute(
        select(_COUNT.c.expected, _COUNT.c.result, _COUNT.c.units).where(_COUNT.c.delivery == delivery)
    ).all()
    found: dict[ResultCode | None, int] = {}
    for _, result, units in rows:
        if units:
            code = ResultCode(result) if result else None
            found[code] = found.get(code, 0) + units
    return Counts(sum(units for expected, _, units in rows if expected), found)


def get(connection: Connection, delivery: int, path: str) -> Line | None:
    """Return the line of a unit, or None."""
    row = connection.execute(select(_LINE).where(with_paths(delivery, [path]))).mappings().first()
    return None if row is None else _from_row(row)


def find(connection: Connection, where: ColumnElement[bool], *, limit: int | None = None) -> list[Line]:
    """Return lines in order of their paths."""
    rows = connection.execute(select(_LINE).where(where).order_by(_LINE.c.path).limit(limit)).mappings()
    return [_from_row(row) for row in rows]


def find_paths(connection: Connection, delivery: int, paths: Sequence[str]) -> dict[str, Line]:
    """Return the lines of some units, by path; those without are left out."""
    found: dict[str, Line] = {}
    for part in chunks(paths):
        found.update({line.path: line for line in find(connection, with_paths(delivery, part))})
    return found


def paths(connection: Connection, where: ColumnElement[bool]) -> list[str]:
    """Return the paths of lines, in order."""
    return list(connection.execute(select(_LINE.c.path).where(where).order_by(_LINE.c.path)).scalars())


def of_units(connection: Connection, wanted: Sequence[str]) -> list[Line]:
    """Return the lines of units in all deliveries, those of later deliveries first."""
    found: list[Line] = []
    for part in chunks(wanted):
        rows = connection.execute(
            select(_LINE).where(_LINE.c.path.in_(part)).order_by(_LINE.c.delivery.desc(), _LINE.c.path)
        ).mappings()
        found += [_from_row(row) for row in rows]
    return found


def any_of_case(connection: Connection, case_id: str, postings: Iterable[Posting]) -> bool:
    """Tell whether any line that is tied to a case has one of some postings."""
    words = [posting.value for posting in postings]
    query = select(_LINE.c.path).where(_LINE.c.case_id == case_id, _LINE.c.posting.in_(words)).limit(1)
    return connection.execute(query).first() is not None


def missing_of(connection: Connection, despatch_id: str) -> list[Line]:
    """Return the lines of closed deliveries that are missing of a despatch."""
    of_despatch = (_LINE.c.despatch_id == despatch_id) & (_LINE.c.posting == Posting.MISSING.value)
    return find(connection, of_despatch)


def ancestors(connection: Connection, line: Line) -> list[Line]:
    """Return the lines of the containers that a unit is inside of, innermost first."""
    found: list[Line] = []
    seen = {line.path}
    while line.parent and line.parent not in seen:
        seen.add(line.parent)
        above = get(connection, line.delivery, line.parent)
        if above is None:
            break
        found.append(above)
        line = above
    return found
