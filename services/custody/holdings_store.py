"""Holdings in the database: loading what a decision can touch, saving what it changed, listing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.orm import Mapped
from sqlmodel import col

from medtrail.gs1 import Gln, Gtin, OtherKey, Sscc
from services.custody.holding import HERE_STATES, Books, Ending, Holding, HoldingState
from services.custody.holds import HoldCode, codes_of
from services.custody.tables import EventUnit, HoldingBefore, HoldingRow
from services.custody.units import Unit, unit_of_path

# SQLite takes 32,766 parameters a statement; fewer keep statements readable in logs.
CHUNK = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970-01-01T00:00:00Z of an aware moment."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """Return the moment, aware UTC, of microseconds since 1970-01-01T00:00:00Z."""
    return _EPOCH + timedelta(microseconds=microseconds)


def chunks(values: Sequence[str]) -> Iterable[Sequence[str]]:
    """Yield values in groups that fit into one statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def to_row(holding: Holding) -> dict[str, Any]:
    """Return a holding as the columns of its row."""
    unit = holding.unit
    return {
        "path": unit.path,
        "gtin": "" if isinstance(unit, Sscc | OtherKey) else str(unit.gtin),
        "lot": holding.lot,
        "expiry": "" if holding.expiry is None else holding.expiry.isoformat(),
        "state": holding.state.value,
        "event_id": holding.event_id,
        "since_us": to_us(holding.since_time),
        "parent": "" if holding.parent is None else holding.parent.path,
        "location": "" if holding.location is None else str(holding.location),
        "partner": "" if holding.partner is None else str(holding.partner),
        "hold_reason": holding.hold_reason,
        "provisional": holding.provisional,
        "ending": "" if holding.ending is None else holding.ending.value,
        "exception": holding.exception,
        "despatch_id": holding.despatch_id,
        "smallest": holding.smallest,
        "inferred": holding.inferred,
        "remainder": "" if holding.remainder is None else format(holding.remainder, "f"),
        "remainder_uom": holding.remainder_uom,
        "sold_to": "" if holding.sold_to is None else str(holding.sold_to),
        "suspect": holding.suspect,
        "opened": holding.opened,
    }


def from_row(row: Any) -> Holding:  # noqa: ANN401  # a row of holding, or the JSON of one
    """Return the holding of a row's columns.

    What was known before an event may have been written by an earlier version, without the columns of this one.
    """
    remainder, sold_to = row.get("remainder", ""), row.get("sold_to", "")
    return Holding(
        unit=unit_of_path(row["path"]),
        state=HoldingState(row["state"]),
        event_id=row["event_id"],
        since_time=from_us(row["since_us"]),
        parent=unit_of_path(row["parent"]) if row["parent"] else None,
        lot=row["lot"],
        expiry=date.fromisoformat(row["expiry"]) if row["expiry"] else None,
        location=Gln(row["location"]) if row["location"] else None,
        partner=Gln(row["partner"]) if row["partner"] else None,
        hold_reason=row["hold_reason"],
        provisional=bool(row["provisional"]),
        ending=Ending(row["ending"]) if row["ending"] else None,
        exception=row["exception"],
        despatch_id=row["despatch_id"],
        smallest=bool(row["smallest"]),
        inferred=bool(row.get("inferred", False)),
        remainder=Decimal(remainder) if remainder else None,
        remainder_uom=row.get("remainder_uom", ""),
        sold_to=Gln(sold_to) if sold_to else None,
        suspect=row.get("suspect", ""),
        opened=bool(row.get("opened", False)) or row["state"] == HoldingState.PARTIALLY_DISPENSED.value,
    )


def _select(connection: Connection, column: Mapped[str], values: Sequence[str]) -> list[Holding]:
    found = []
    for part in chunks(values):
        rows = connection.execute(select(HoldingRow.__table__).where(column.in_(part))).mappings()  # type: ignore[attr-defined]
        found += [from_row(row) for row in rows]
    return found


def load_books(connection: Connection, units: Iterable[Unit]) -> Books:
    """Return the books that a decision on units can touch: those units, what is inside, what they are inside of."""
    found: dict[str, Holding] = {}
    wanted = list(dict.fromkeys(unit.path for unit in units))
    for holding in _select(connection, col(HoldingRow.path), wanted):
        found[holding.unit.path] = holding
    level = list(found)
    while level:
        inside = [item for item in _select(connection, col(HoldingRow.parent), level) if item.unit.path not in found]
        found.update({item.unit.path: item for item in inside})
        level = [item.unit.path for item in inside]
    missing = _missing_parents(found)
    while missing:
        found.update({item.unit.path: item for item in _select(connection, col(HoldingRow.path), missing)})
        # A parent without a row of its own would be asked for again and again.
        asked = set(missing)
        missing = [path for path in _missing_parents(found) if path not in asked]
    return Books(found.values())


def _missing_parents(found: Mapping[str, Holding]) -> list[str]:
    parents = {item.parent.path for item in found.values() if item.parent is not None}
    return sorted(parents - found.keys())


# Built once: building a statement takes longer than running it.
_BEFORE = insert(HoldingBefore).on_conflict_do_nothing()


@cache
def _upsert(names: tuple[str, ...]) -> Insert:
    statement = insert(HoldingRow)
    return statement.on_conflict_do_update(
        index_elements=["path"], set_={name: statement.excluded[name] for name in names if name != "path"}
    )


def save_changes(connection: Connection, books: Books, *, event_number: int) -> None:
    """Write what changed in the books, with what was known before, as the work of one event."""
    changes = books.take_changes()
    rows = [to_row(holding) for holding in map(books.get, changes) if holding is not None]
    if not rows:
        return
    connection.execute(_upsert(tuple(rows[0])), rows)
    before = [
        {
            "event_number": event_number,
            "path": unit.path,
            "before": "" if holding is None else json.dumps(to_row(holding), separators=(",", ":")),
        }
        for unit, holding in changes.items()
    ]
    # An event that is taken in by parts changes a unit twice; what was known first counts.
    connection.execute(_BEFORE, before)


def befores(connection: Connection, event_number: int) -> dict[str, Holding | None]:
    """Return what was known before an event of each unit that it changed, by path."""
    rows = connection.execute(
        select(col(HoldingBefore.path), col(HoldingBefore.before)).where(
            col(HoldingBefore.event_number) == event_number
        )
    )
    return {path: from_row(json.loads(before)) if before else None for path, before in rows}


def changed_by(connection: Connection, event_number: int) -> set[str]:
    """Return the paths of the units that an event has changed."""
    query = select(col(HoldingBefore.path)).where(col(HoldingBefore.event_number) == event_number)
    return set(connection.execute(query).scalars())


def inherit_befores(connection: Connection, *, event_number: int, earlier: int, paths: Iterable[str]) -> None:
    """Let an event that says anew what an earlier one said of units stand for it: what was known before is the same."""
    for path, before in befores(connection, earlier).items():
        if path in paths:
            text = "" if before is None else json.dumps(to_row(before), separators=(",", ":"))
            connection.execute(
                update(HoldingBefore)
                .where(col(HoldingBefore.event_number) == event_number, col(HoldingBefore.path) == path)
                .values(before=text)
            )


def restore(connection: Connection, path: str, before: Holding | None) -> None:
    """Set a unit back to what was known before, or forget it."""
    connection.execute(delete(HoldingRow).where(col(HoldingRow.path) == path))
    if before is not None:
        connection.execute(insert(HoldingRow), to_row(before))


def has_contents(connection: Connection, path: str) -> bool:
    """Tell whether anything is inside a unit."""
    return connection.execute(select(col(HoldingRow.path)).where(col(HoldingRow.parent) == path)).first() is not None


def mark(connection: Connection, paths: Sequence[str], **columns: object) -> None:
    """Set columns of units."""
    for part in chunks(paths):
        connection.execute(update(HoldingRow).where(col(HoldingRow.path).in_(part)).values(**columns))


def get_path(connection: Connection, path: str) -> Holding | None:
    """Return what is known of the unit of a path, or None."""
    found = _select(connection, col(HoldingRow.path), [path])
    return found[0] if found else None


def of_event_units(connection: Connection, event_number: int) -> list[Holding]:
    """Return the holdings of the units that an event names."""
    paths = connection.execute(select(col(EventUnit.path)).where(col(EventUnit.event_number) == event_number))
    return _select(connection, col(HoldingRow.path), list(paths.scalars()))


@dataclass(frozen=True, slots=True)
class HoldingQuery:
    """Which holdings are wanted; None or empty means all."""

    gtin: Gtin | None = None
    lot: str = ""
    state: HoldingState | None = None


def list_holdings(connection: Connection, query: HoldingQuery, *, after: str, limit: int) -> tuple[list[Holding], int]:
    """Return holdings in order of their paths, those after a path, and how many match in all."""
    conditions = []
    if query.gtin is not None:
        conditions.append(col(HoldingRow.gtin) == str(query.gtin))
    if query.lot:
        conditions.append(col(HoldingRow.lot) == query.lot)
    if query.state is not None:
        conditions.append(col(HoldingRow.state) == query.state.value)
    total = connection.execute(select(func.count()).select_from(HoldingRow).where(*conditions)).scalar_one()
    table = HoldingRow.__table__  # type: ignore[attr-defined]
    rows = connection.execute(
        select(table).where(*conditions, col(HoldingRow.path) > after).order_by(col(HoldingRow.path)).limit(limit)
    ).mappings()
    return [from_row(row) for row in rows], total


def list_held(connection: Connection, code: HoldCode | None, *, after: str, limit: int) -> list[Holding]:
    """Return units on hold in the house, in order of their paths, those after a path; ``code`` None: for any reason."""
    table = HoldingRow.__table__  # type: ignore[attr-defined]
    held = table.c.hold_reason != ""
    if code not in {None, HoldCode.OTHER, HoldCode.RETURN_UNVERIFIED}:
        # At the begin of any line; what a text alone says is sorted out below.
        held &= ("\n" + table.c.hold_reason).contains(f"\n{code}", autoescape=True)
    here = table.c.state.in_([state.value for state in HERE_STATES])
    found: list[Holding] = []
    while len(found) < limit:
        rows = connection.execute(
            select(table).where(here, held, table.c.path > after).order_by(table.c.path).limit(CHUNK)
        ).mappings()
        page = [from_row(row) for row in rows]
        found += [item for item in page if code is None or code in codes_of(item.hold_reason)]
        if len(page) < CHUNK:
            break
        after = page[-1].unit.path
    return found[:limit]


def knows_lot(connection: Connection, gtin: Gtin, lot: str) -> bool:
    """Tell whether any unit of a trade item and lot is known here."""
    query = select(col(HoldingRow.path)).where(col(HoldingRow.gtin) == str(gtin), col(HoldingRow.lot) == lot)
    return connection.execute(query.limit(1)).first() is not None


def of_despatch(connection: Connection, despatch_id: str) -> list[Holding]:
    """Return the holdings that a despatch brings or brought."""
    return _select(connection, col(HoldingRow.despatch_id), [despatch_id])
