"""Excursions, the sensors that travel with containers, and the events that carry their readings, in the database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from services.custody.holdings_store import chunks, from_us, to_us
from services.custody.holds_tables import ExcursionRow, SensorAdvice, SensorEvent, SensorMove
from services.custody.units import Unit, unit_of_path

_TABLE = ExcursionRow.__table__  # type: ignore[attr-defined]
_MOVE = SensorMove.__table__  # type: ignore[attr-defined]
_NOTE = insert(ExcursionRow).on_conflict_do_nothing(index_elements=["path", "event_id"])
_CARRIES = insert(SensorEvent).on_conflict_do_nothing()
_ADVISED = insert(SensorAdvice).on_conflict_do_nothing()


@dataclass(frozen=True, slots=True)
class NotedExcursion:
    """That a unit was kept outside of its limits, as one event says.

    Attributes:
        number: In order of noting.
        release_time: When a person released the unit; None before.
    """

    unit: Unit
    event_id: str
    description: str
    start_time: datetime
    end_time: datetime
    device_id: str
    number: int = 0
    release_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A sensor in a container, for a time; end None: until now.

    Attributes:
        despatch_id: Of the partner's despatch with which the word of it came; empty: we say so.
    """

    device: str
    container: Unit
    start_time: datetime
    end_time: datetime | None
    despatch_id: str = ""


def note(connection: Connection, found: Iterable[NotedExcursion]) -> list[NotedExcursion]:
    """Keep what was found; return what is new."""
    fresh = []
    for item in found:
        row = {
            "path": item.unit.path,
            "event_id": item.event_id,
            "description": item.description,
            "start_us": to_us(item.start_time),
            "end_us": to_us(item.end_time),
            "device_id": item.device_id,
        }
        if connection.execute(_NOTE, row).rowcount:
            fresh.append(item)
    return fresh


def open_of(connection: Connection, paths: Iterable[str]) -> Mapping[str, tuple[NotedExcursion, ...]]:
    """Return what was noted of units and not released, by path."""
    found: dict[str, tuple[NotedExcursion, ...]] = {}
    if connection.execute(select(_TABLE.c.number).where(_TABLE.c.release_us.is_(None)).limit(1)).first() is None:
        return found
    for part in chunks(list(paths)):
        query = select(_TABLE).where(_TABLE.c.path.in_(part), _TABLE.c.release_us.is_(None)).order_by(_TABLE.c.number)
        for row in connection.execute(query).mappings():
            found[row["path"]] = (*found.get(row["path"], ()), _from_row(row))
    return found


def note_released(connection: Connection, paths: Sequence[str], *, now: datetime) -> None:
    """Note that a person released units in spite of what was noted of them."""
    for part in chunks(paths):
        connection.execute(
            update(ExcursionRow)
            .where(col(ExcursionRow.path).in_(part), col(ExcursionRow.release_us).is_(None))
            .values(release_us=to_us(now))
        )


def list_excursions(
    connection: Connection, *, unit: Unit | None, before: int | None, limit: int
) -> list[NotedExcursion]:
    """Return what was noted, newest first, what is before a number."""
    query = select(_TABLE).order_by(_TABLE.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(_TABLE.c.number < before)
    if unit is not None:
        query = query.where(_TABLE.c.path == unit.path)
    return [_from_row(row) for row in connection.execute(query).mappings()]


def _from_row(row: Any) -> NotedExcursion:  # noqa: ANN401  # a row of excursion
    return NotedExcursion(
        unit=unit_of_path(row["path"]),
        event_id=row["event_id"],
        description=row["description"],
        start_time=from_us(row["start_us"]),
        end_time=from_us(row["end_us"]),
        device_id=row["device_id"],
        number=row["number"],
        release_time=None if row["release_us"] is None else from_us(row["release_us"]),
    )


# --- sensors ---


def carries(connection: Connection, devices: Iterable[str], *, event_number: int) -> None:
    """Note that an event carries readings of sensors."""
    rows = [{"device": device, "event_number": event_number} for device in devices]
    if rows:
        connection.execute(_CARRIES, rows)


def events_of_devices(connection: Connection, devices: Iterable[str]) -> list[int]:
    """Return the numbers of the events that carry readings of sensors."""
    found: set[int] = set()
    for part in chunks(sorted(devices)):
        query = select(col(SensorEvent.event_number)).where(col(SensorEvent.device).in_(part))
        found.update(connection.execute(query).scalars())
    return sorted(found)


def note_advised(connection: Connection, event_number: int, despatch_id: str) -> None:
    """Note that a partner's event about sensors came with a despatch."""
    connection.execute(_ADVISED, {"event_number": event_number, "despatch_id": despatch_id})


def despatches_of_event(connection: Connection, event_number: int) -> list[str]:
    """Return the despatches with which a partner's event about sensors came."""
    query = select(col(SensorAdvice.despatch_id)).where(col(SensorAdvice.event_number) == event_number)
    return sorted(connection.execute(query).scalars())


def note_moves(
    connection: Connection,
    devices: Sequence[str],
    container: Unit,
    *,
    added: bool,
    move_time: datetime,
    despatch_id: str = "",
) -> None:
    """Note that sensors were put into a container, or taken out of it; none named means that all were taken out."""
    row = {"path": container.path, "added": added, "move_us": to_us(move_time), "despatch_id": despatch_id}
    rows = [{"device": device, **row} for device in devices or ("",)]
    connection.execute(insert(SensorMove), rows)


def bindings_of(connection: Connection, devices: Iterable[str]) -> list[Binding]:
    """Return where sensors have been. A sensor that is put into another container has left the one before.

    Where we say that a sensor is, no partner's word ends it; where a partner says so, ours does.
    """
    found: list[Binding] = []
    for device in sorted(set(devices)):
        own = connection.execute(select(_MOVE).where(_MOVE.c.device == device)).mappings().all()
        paths = sorted({row["path"] for row in own})
        emptied = select(_MOVE).where(_MOVE.c.device == "", _MOVE.c.path.in_(paths))
        moves = sorted((*own, *connection.execute(emptied).mappings()), key=lambda row: (row["move_us"], row["number"]))
        for despatch_id in dict.fromkeys(row["despatch_id"] for row in moves):
            heard = [row for row in moves if row["despatch_id"] in {"", despatch_id}]
            found += [stay for stay in _stays(device, heard) if stay.despatch_id == despatch_id]
    return found


def _stays(device: str, moves: Iterable[Any]) -> Iterator[Binding]:
    at: Any = None
    for row in moves:
        if at is not None and (row["added"] or row["path"] == at["path"]):
            yield _stay(device, at, from_us(row["move_us"]))
            at = None
        if row["added"]:
            at = row
    if at is not None:
        yield _stay(device, at, None)


def _stay(device: str, row: Any, end_time: datetime | None) -> Binding:  # noqa: ANN401  # a row of sensor_move
    return Binding(device, unit_of_path(row["path"]), from_us(row["move_us"]), end_time, row["despatch_id"])
