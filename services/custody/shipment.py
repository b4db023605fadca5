"""What is inside a shipment, down to every pack, and which events say so; in memory that grows with its units only.

Containers are opened level by level. Of each level the events that name its units are read one by one, so that never
more than a few are in memory, whatever a container held in the years before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Connection, select
from sqlmodel import col

from medtrail.epcis.cbv import expiry_of, lot_of
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.event import Capture, PayloadType
from services.custody import absences, events_store
from services.custody.dossier import units_of
from services.custody.events_store import Stored
from services.custody.holdings_store import CHUNK, chunks, to_us
from services.custody.steps import is_receiving, takes_out
from services.custody.tables import EventUnit, KnownEvent
from services.custody.units import Unit

READ_EVENTS = 50
"""Events read at one time, each of at most 256 KiB."""


@dataclass(slots=True)
class Content:
    """A unit of a shipment, by its path.

    Attributes:
        parent: Path of its container in the shipment; empty when outermost.
        packed_by: Number of the event that put it there; 0 when outermost.
        made_by: Number of the event that gave it life; 0 when none is known.
        lot: Empty when unknown.
        expiry: None when unknown.
        holds: Whether anything is inside of it.
        received: When (microseconds since 1970) and by whom it was received; with an empty name, when it went again.
    """

    parent: str = ""
    packed_by: int = 0
    made_by: int = 0
    lot: str = ""
    expiry: date | None = None
    holds: bool = False
    received: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """All units of a shipment by path, containers before their contents, and the time of each event that tells."""

    units: dict[str, Content]
    times_us: dict[int, int]

    def numbers(self) -> list[int]:
        """Return the numbers of the events that gave life or put into containers, by event time."""
        found = {unit.made_by for unit in self.units.values()} | {unit.packed_by for unit in self.units.values()}
        return sorted(found - {0}, key=lambda number: (self.times_us[number], number))


@dataclass(slots=True)
class _Level:
    """One level of containers, while its events are replayed."""

    units: dict[str, Content]
    above: Mapping[str, Content]
    inside: dict[str, dict[str, int]] = field(default_factory=dict)
    last_parent: dict[str, str] = field(default_factory=dict)
    first_hand: set[str] = field(default_factory=set)

    def take_in(self, item: Stored, event: EpcisEvent) -> None:
        if event.type is EventType.AGGREGATION:
            self._aggregation(item.number, event)
        elif event.type is EventType.OBJECT and event.action is Action.ADD:
            self._life(item, event, event.epc_list)
        elif event.type is EventType.TRANSFORMATION:
            self._life(item, event, event.output_epc_list)
        if takes_out(event):
            self._moved(event, by="")
        elif is_receiving(event):
            self._moved(event, by=str(item.event.header.actor))

    def _moved(self, event: EpcisEvent, *, by: str) -> None:
        """Take what moves without its container out of it; what came in one that was received is only seen."""
        moment = to_us(event.event_time)
        named = {unit.path for unit in units_of((*event.epc_list, *event.input_epc_list))}
        for path in named & self.units.keys():
            containers = self._containers(path)
            came_inside = any(_received(self.above[container], moment) == by for container in containers if by)
            if named.isdisjoint(containers) and not came_inside:
                self.last_parent.pop(path, None)
            unit = self.units[path]
            unit.received = (*unit.received, (moment, by))

    def _containers(self, path: str) -> list[str]:
        found = []
        parent = self.units[path].parent
        while parent:
            found.append(parent)
            parent = self.above[parent].parent
        return found

    def _aggregation(self, number: int, event: EpcisEvent) -> None:
        parents = units_of(() if event.parent_id is None else (event.parent_id,))
        if not parents or event.action is Action.OBSERVE:
            return
        parent = parents[0].path
        children = [unit.path for unit in units_of(event.child_epcs)]
        if parent in self.units:
            inside = self.inside.setdefault(parent, {})
            if event.action is Action.ADD:
                inside.update(dict.fromkeys(children, number))
            else:
                for child in children or tuple(inside):
                    inside.pop(child, None)
        for child in children:
            if child not in self.units:
                continue
            if event.action is Action.ADD:
                self.last_parent[child] = parent
            elif self.last_parent.get(child) == parent:
                del self.last_parent[child]

    def _life(self, item: Stored, event: EpcisEvent, epcs: Sequence[str]) -> None:
        first_hand = item.event.header.capture is Capture.FIRST_HAND
        lot, expiry = lot_of(event) or "", expiry_of(event)
        for unit in units_of(epcs):
            content = self.units.get(unit.path)
            # What the maker says itself goes before what others repeat of it.
            if content is None or (content.made_by and (not first_hand or unit.path in self.first_hand)):
                continue
            content.made_by, content.lot, content.expiry = item.number, lot, expiry
            if first_hand:
                self.first_hand.add(unit.path)

    def drop_those_moved(self, absent: Mapping[str, int], times: Mapping[int, int]) -> None:
        """Leave out what was put into another container since, went alone, or is known to have been absent."""
        moved = [
            path
            for path, unit in self.units.items()
            if unit.parent
            and (self.last_parent.get(path) != unit.parent or absent.get(path, -1) >= times[unit.packed_by])
        ]
        for path in moved:
            del self.units[path]
            self.inside.pop(path, None)


def _received(unit: Content, moment: int) -> str:
    """Return who had received a unit at a moment; empty where nobody had, or it had gone again."""
    by = ""
    for time, who in unit.received:
        if time <= moment:
            by = who
    return by


def contents_of(
    connection: Connection,
    event: EpcisEvent,
    outermost: Iterable[Unit],
    *,
    look: Callable[[EpcisEvent], None] = lambda _event: None,
) -> Contents:
    """Return what was inside some units when an event happened, from all events known of them and not declared wrong.

    Args:
        connection: In a transaction.
        event: Says up to when events count.
        outermost: Its units. One that is inside of another of them is found there.
        look: Is shown every event that counts.
    """
    chosen = [unit.path for unit in outermost]
    found, inside = _contents_of(connection, event, chosen, look)
    if inside:
        found, _ = _contents_of(connection, event, [path for path in chosen if path not in inside], look)
        # What was in a container once may have gone by itself.
        there = inside & found.units.keys()
        if there != inside:
            found, _ = _contents_of(connection, event, [path for path in chosen if path not in there], look)
    return found


def _contents_of(
    connection: Connection, event: EpcisEvent, outermost: Iterable[str], look: Callable[[EpcisEvent], None]
) -> tuple[Contents, set[str]]:
    """Return what was inside units, and which of these were put into others, and may be there still."""
    until_us = to_us(event.event_time)
    found: dict[str, Content] = {}
    times: dict[int, int] = {}
    inside: set[str] = set()
    waiting = {path: Content() for path in outermost}
    chosen = set(waiting)
    while waiting:
        level = _Level(waiting, found)
        numbers = _numbers_naming(connection, waiting, until_us=until_us)
        times.update(numbers)
        for item in read_events(connection, sorted(numbers, key=lambda number: (numbers[number], number))):
            statement = item.event.statement
            if isinstance(statement, EpcisEvent):
                look(statement)
                level.take_in(item, statement)
        level.drop_those_moved(absences.latest(connection, list(waiting), until_us=until_us), times)
        found.update(level.units)
        inside.update(child for children in level.inside.values() for child in children if child in chosen)
        waiting = _opened(level, found, times)
    for unit in found.values():
        if unit.parent:
            found[unit.parent].holds = True
    kept = {number for unit in found.values() for number in (unit.made_by, unit.packed_by)}
    return Contents(found, {number: moment for number, moment in times.items() if number in kept}), inside


def _opened(level: _Level, found: dict[str, Content], times: dict[int, int]) -> dict[str, Content]:
    """Return the units inside a level's containers that were not found before.

    A unit that was put into another container without being taken out of the first seems to be in both: the later
    event counts.
    """
    opened: dict[str, Content] = {}
    for parent, children in level.inside.items():
        for child, number in children.items():
            other = opened.get(child)
            if child in found or (other and (times[other.packed_by], other.packed_by) > (times[number], number)):
                continue
            opened[child] = Content(parent, number)
    return opened


def _numbers_naming(connection: Connection, paths: Iterable[str], *, until_us: int) -> dict[int, int]:
    """Return number and time of the EPCIS events that name any of some units, neither refused nor declared wrong."""
    # Numbers first: of an event that names a thousand units its row is read once.
    named: set[int] = set()
    for part in chunks(sorted(paths)):
        named.update(
            connection.execute(select(col(EventUnit.event_number)).where(col(EventUnit.path).in_(part))).scalars()
        )
    known = KnownEvent
    times: dict[int, int] = {}
    keys: dict[int, tuple[str, str]] = {}
    declared: set[tuple[str, str]] = set()
    numbers = sorted(named)
    for first in range(0, len(numbers), CHUNK):
        rows = connection.execute(
            select(
                col(known.number),
                col(known.event_time_us),
                col(known.declaration),
                col(known.signer),
                col(known.event_id),
            ).where(
                col(known.number).in_(numbers[first : first + CHUNK]),
                col(known.refusal) == "",
                col(known.payload_type) == PayloadType.EPCIS.value,
            )
        )
        for number, moment, declaration, signer, event_id in rows:
            if declaration:
                declared.add((signer, event_id))
            elif number is not None and moment <= until_us:
                times[number] = moment
                keys[number] = (signer, event_id)
    return {number: moment for number, moment in times.items() if keys[number] not in declared}


def read_events(connection: Connection, numbers: Sequence[int]) -> Iterator[Stored]:
    """Yield events in the order of their numbers as given, a few at a time."""
    for start in range(0, len(numbers), READ_EVENTS):
        part = numbers[start : start + READ_EVENTS]
        found = {item.number: item for item in events_store.events_of(connection, part)}
        # What was erased meanwhile is not there: a read transaction sees none of that.
        yield from (found[number] for number in part)
