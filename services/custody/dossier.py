"""What a set of events says of goods on their way: what is inside, of which lot, from whom."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from medtrail.epcis.cbv import expiry_of, lot_of
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import MalformedError
from medtrail.event import Capture, Event
from medtrail.gs1 import Gln, Sgtin, parse_epc
from services.custody.rules import NO_TRAITS, Traits
from services.custody.steps import is_receiving, takes_out
from services.custody.units import Unit, as_unit


@dataclass(frozen=True, slots=True)
class Advised:
    """A unit of a shipment: its container in it, its lot and expiry, and whether it is one of the smallest units."""

    unit: Unit
    parent: Unit | None
    traits: Traits
    smallest: bool


@dataclass(slots=True)
class _Replay:
    """Containment and traits after the events replayed so far."""

    parent_of: dict[Unit, Unit] = field(default_factory=dict)
    contents: dict[Unit, dict[Unit, None]] = field(default_factory=dict)
    traits: dict[Unit, Traits] = field(default_factory=dict)
    first_hand: set[Unit] = field(default_factory=set)
    received_by: dict[Unit, Gln] = field(default_factory=dict)

    def take_in(self, event: Event, statement: EpcisEvent) -> None:
        if takes_out(statement):
            self._going(units_of((*statement.epc_list, *statement.input_epc_list)))
        elif is_receiving(statement):
            self._receiving(units_of(statement.epc_list), event.header.actor)
        if statement.type is EventType.AGGREGATION and statement.parent_id is not None:
            self._aggregation(statement, statement.parent_id)
        elif statement.type is EventType.OBJECT and statement.action is Action.ADD:
            self._life(event, statement, statement.epc_list)
        elif statement.type is EventType.TRANSFORMATION:
            self._life(event, statement, statement.output_epc_list)

    def _aggregation(self, statement: EpcisEvent, parent_id: str) -> None:
        parents = units_of((parent_id,))
        if not parents or statement.action is Action.OBSERVE:
            return
        parent = parents[0]
        inside = self.contents.setdefault(parent, {})
        children = units_of(statement.child_epcs)
        if statement.action is Action.DELETE:
            for child in children or tuple(inside):
                if inside.pop(child, 0) is None:
                    del self.parent_of[child]
            return
        for child in children:
            before = self.parent_of.get(child)
            if before is not None:
                self.contents[before].pop(child, None)
            self.parent_of[child] = parent
            inside[child] = None

    def _going(self, units: Sequence[Unit]) -> None:
        """Take what goes without its container out of it, as the books do."""
        named = set(units)
        for unit in units:
            self.received_by.pop(unit, None)
            if named.isdisjoint(self._containers(unit)):
                self._take_out(unit)

    def _receiving(self, units: Sequence[Unit], actor: Gln) -> None:
        """Take what is received without its container out of it; what came in one that was received is only seen."""
        named = set(units)
        for unit in units:
            containers = tuple(self._containers(unit))
            if not any(container in named or self.received_by.get(container) == actor for container in containers):
                self._take_out(unit)
        self.received_by.update(dict.fromkeys(units, actor))

    def _containers(self, unit: Unit) -> Iterator[Unit]:
        seen = {unit}
        container = self.parent_of.get(unit)
        while container is not None and container not in seen:
            yield container
            seen.add(container)
            container = self.parent_of.get(container)

    def _take_out(self, unit: Unit) -> None:
        parent = self.parent_of.pop(unit, None)
        if parent is not None:
            self.contents[parent].pop(unit, None)

    def _life(self, event: Event, statement: EpcisEvent, epcs: Sequence[str]) -> None:
        traits = Traits(lot_of(statement) or "", expiry_of(statement))
        first_hand = event.header.capture is Capture.FIRST_HAND
        for unit in units_of(epcs):
            # What the maker says itself goes before what others repeat of it.
            if unit not in self.traits or (first_hand and unit not in self.first_hand):
                self.traits[unit] = traits
            if first_hand:
                self.first_hand.add(unit)


def units_of(epcs: Iterable[str]) -> tuple[Unit, ...]:
    """Return the units among identifiers; classes, places and foreign identifiers are left out."""
    found: list[Unit] = []
    for epc in epcs:
        try:
            found.append(as_unit(parse_epc(epc), field="epc"))
        except MalformedError:
            continue
    return tuple(found)


def in_order(events: Iterable[Event]) -> list[tuple[Event, EpcisEvent]]:
    """Return the EPCIS events that nobody declared an error, by event time; the given order decides between equals."""
    given = tuple(events)
    # Only who said it may say that it was an error.
    declared = {(event.header.event_id, event.header.actor) for event in given if event.is_declaration}
    found = [
        (event, event.statement)
        for event in given
        if isinstance(event.statement, EpcisEvent) and (event.header.event_id, event.header.actor) not in declared
    ]
    return sorted(found, key=lambda pair: pair[1].event_time)


def contents_at(despatch: EpcisEvent, events: Iterable[Event]) -> tuple[Advised, ...]:
    """Return all units of a shipment, containers before their contents.

    Args:
        despatch: The shipping event; it names the outermost units.
        events: What is known of the units; those dated after the despatch do not count.
    """
    replay = _Replay()
    for event, statement in in_order(events):
        if statement.event_time <= despatch.event_time:
            replay.take_in(event, statement)
    found: dict[Unit, Advised] = {}
    waiting: list[tuple[Unit, Unit | None]] = [(unit, None) for unit in reversed(units_of(despatch.epc_list))]
    while waiting:
        unit, parent = waiting.pop()
        if unit in found:
            continue
        inside = tuple(replay.contents.get(unit, ()))
        smallest = isinstance(unit, Sgtin) and not inside
        found[unit] = Advised(unit, parent, replay.traits.get(unit, NO_TRAITS), smallest)
        waiting.extend((child, unit) for child in reversed(inside))
    return tuple(found.values())


def former_containers(units: Iterable[Unit], events: Iterable[Event]) -> tuple[tuple[Unit, EpcisEvent], ...]:
    """Return the containers that units were in and left, each with the event that ended the stay."""
    inside: dict[Unit, Unit] = {}
    wanted = set(units)
    left: dict[Unit, EpcisEvent] = {}
    for _, statement in in_order(events):
        if statement.type is not EventType.AGGREGATION or statement.parent_id is None:
            continue
        parents = units_of((statement.parent_id,))
        if not parents:
            continue
        children = units_of(statement.child_epcs)
        if statement.action is Action.ADD:
            inside.update({child: parents[0] for child in children if child in wanted})
        elif statement.action is Action.DELETE:
            for child in children or tuple(unit for unit, parent in inside.items() if parent == parents[0]):
                if inside.get(child) == parents[0]:
                    del inside[child]
                    left[parents[0]] = statement
    return tuple(left.items())


def contents_during(
    units: Iterable[Unit], events: Iterable[Event], *, start_time: datetime, end_time: datetime
) -> set[Unit]:
    """Return units and all that was inside of them at any moment of a time, both ends included."""
    outermost = tuple(units)
    replay = _Replay()
    found: set[Unit] = set()
    began = False
    for event, statement in in_order(events):
        if statement.event_time > end_time:
            break
        if statement.event_time > start_time and not began:
            began = True
            found |= _closure(replay, outermost)
        replay.take_in(event, statement)
        if began:
            found |= _closure(replay, outermost)
    return found | _closure(replay, outermost)


def _closure(replay: _Replay, units: Iterable[Unit]) -> set[Unit]:
    found: set[Unit] = set()
    waiting = list(units)
    while waiting:
        unit = waiting.pop()
        if unit not in found:
            found.add(unit)
            waiting.extend(replay.contents.get(unit, ()))
    return found
