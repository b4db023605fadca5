"""What sensors reported, in the books: which units it concerns, and those that were kept outside of their limits.

Readings come with our own events, with those that partners advise, and by themselves from a sensor that travels in a
container: an AssociationEvent says from when on, and its readings are of what was inside at their time. Events come in
any order; a binding that comes after the readings has them judged anew. What is noted of a unit stays, wherever the
unit goes, until a person releases it.

What a partner says of sensors is heard of the goods that its despatch has brought, and of no others: not of what it
names beside them, nor of what else was in a container or with a sensor of that number. What we pass on of others is
heard of the goods that a despatch in the same transaction brought, of those that its actor has sent us, and of those
that we have sent to it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from medtrail import cold_chain as kernel
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import MalformedError
from medtrail.event import Capture, Event, PayloadType, Product, StorageLimits
from medtrail.gs1 import Gln, Gtin, OtherKey, Sgtin, parse_epc
from services.custody import alerts, events_store, excursions, holdings_store, inbound_store
from services.custody.dossier import contents_during, units_of
from services.custody.events_store import Stored
from services.custody.excursions import NotedExcursion
from services.custody.holding import AWAY_STATES
from services.custody.notices import AlertCode
from services.custody.shipment import contents_of
from services.custody.units import Unit, unit_of_path

if TYPE_CHECKING:
    from services.custody.desk import Session

SENSOR_REPORTING = "sensor_reporting"
MAX_DESCRIPTION = 400
_GIAI = "8004"


@dataclass(frozen=True, slots=True)
class _Place:
    """What readings are of: units named outright, or what a sensor travelled with for a time.

    Attributes:
        despatch_id: Of the partner's despatch of whose goods alone it is so; empty: of all.
    """

    unit: Unit
    start_time: datetime | None = None
    end_time: datetime | None = None
    despatch_id: str = ""


@dataclass(slots=True)
class Brought:
    """The goods that partners' despatches have brought, each despatch read once."""

    connection: Connection
    gln: Gln
    known: dict[str, frozenset[Unit]] = field(default_factory=dict)

    def by(self, despatch_id: str) -> frozenset[Unit]:
        """Return the units of a despatch that became ours by it, or left; none of what the books had elsewhere."""
        if despatch_id not in self.known:
            self.known[despatch_id] = frozenset(_brought_by(self.connection, self.gln, despatch_id))
        return self.known[despatch_id]


def _brought_by(connection: Connection, gln: Gln, despatch_id: str) -> Iterator[Unit]:
    shipment = inbound_store.find(connection, despatch_id)
    signer = gln if shipment is None else shipment.signer
    despatch = events_store.find_event(connection, signer=signer, event_id=despatch_id, declaration=False)
    if despatch is None or not isinstance(despatch.event.statement, EpcisEvent):
        return
    changed = holdings_store.changed_by(connection, despatch.number)
    if shipment is not None:
        changed &= contents_of(connection, despatch.event.statement, shipment.units).units.keys()
    yield from map(unit_of_path, changed)


def concerns(statement: EpcisEvent) -> bool:
    """Tell whether an event has anything to do with sensors."""
    return bool(statement.sensor_element_list) or statement.type is EventType.ASSOCIATION


def named_units(statement: EpcisEvent) -> set[Unit]:
    """Return the units that an event about sensors names, so that it is found by them."""
    if not concerns(statement):
        return set()
    parents = () if statement.parent_id is None else (statement.parent_id,)
    return set(
        units_of(
            (
                *parents,
                *statement.epc_list,
                *statement.child_epcs,
                *statement.input_epc_list,
                *statement.output_epc_list,
            )
        )
    )


def device_name(text: str) -> str:
    """Return a sensor's identifier as it compares: the path of a GS1 key, else the text."""
    try:
        return parse_epc(text).path
    except MalformedError:
        return text


def despatches_with(session: "Session", stored: Stored) -> set[str]:
    """Return the despatches between us and the actor of an event about sensors that moved what the event is of."""
    statement, actor = stored.event.statement, stored.event.header.actor
    if not isinstance(statement, EpcisEvent):
        return set()
    concerned = {place.unit for place in _places(session.connection, statement)}
    for event in _history(session.connection, concerned):
        concerned |= set(_children(event))
    found = set()
    for holding in holdings_store.load_books(session.connection, concerned):
        shipment = inbound_store.find(session.connection, holding.despatch_id) if holding.despatch_id else None
        if shipment is not None and shipment.sender == actor:
            found.add(shipment.despatch_id)
        if holding.state in AWAY_STATES and holding.partner == actor:
            found.add(holding.event_id)
    return found


def take_in(session: "Session", stored: Stored, *, despatch_ids: Collection[str] = ()) -> list[NotedExcursion]:
    """Take in an event about sensors; return what is new of units that were kept outside of their limits.

    Args:
        session: Of the transaction.
        stored: The event.
        despatch_ids: Despatches of whose goods alone it is heard, where it tells what others did.
    """
    statement = stored.event.statement
    if not isinstance(statement, EpcisEvent) or statement.error_declaration is not None:
        return []
    for despatch_id in despatch_ids:
        excursions.note_advised(session.connection, stored.number, despatch_id)
    if statement.type is EventType.ASSOCIATION:
        scopes = ("",) if _our_word(stored) else despatch_ids
        devices = {name for scope in scopes for name in _associate(session.connection, statement, scope)}
        numbers = excursions.events_of_devices(session.connection, devices)
        found: list[NotedExcursion] = []
        for other in events_store.events_of(session.connection, numbers):
            found += _judge(session, other)
        return found + (_judge(session, stored) if statement.sensor_element_list else [])
    excursions.carries(session.connection, _devices(statement), event_number=stored.number)
    _tell_unjudged(session, stored, statement)
    return _judge(session, stored)


def _devices(statement: EpcisEvent) -> tuple[str, ...]:
    named = (unit.path for unit in named_units(statement) if _is_sensor(unit))
    return tuple(dict.fromkeys((*map(device_name, kernel.devices(statement)), *named)))


def _is_sensor(unit: Unit) -> bool:
    return isinstance(unit, OtherKey) and unit.ai == _GIAI


def _associate(connection: Connection, statement: EpcisEvent, despatch_id: str) -> tuple[str, ...]:
    """Note which sensors travel with a container from now on, or no more; return them."""
    parents = () if statement.parent_id is None else units_of((statement.parent_id,))
    devices = tuple(map(device_name, statement.child_epcs))
    if not parents or statement.action is Action.OBSERVE:
        return ()
    added = statement.action is Action.ADD
    if devices or not added:
        excursions.note_moves(
            connection,
            devices,
            parents[0],
            added=added,
            move_time=statement.event_time,
            despatch_id=despatch_id,
        )
    return devices if added else ()


def _tell_unjudged(session: "Session", stored: Stored, statement: EpcisEvent) -> None:
    fields = kernel.unjudged(statement)
    if not fields:
        return
    message = f"nothing can be said of {len(fields)} readings, the first is {fields[0]}: unit, value or sensor is wrong"
    event_id = stored.event.header.event_id
    told = _heard_of(session, stored, named_units(statement))
    # One alert tells it; of hundreds of packs in the event it would be the same.
    for unit in sorted(told, key=lambda item: item.path)[:1]:
        alerts.raise_alert(
            session.connection,
            AlertCode.SENSOR_UNREADABLE,
            unit,
            event_id=event_id,
            message=message,
            now=session.now,
        )


def limits_known(session: "Session") -> Mapping[Gtin, StorageLimits]:
    """Return the storage limits of products, as stated in the log, and by us just now."""
    found = {gtin: product.storage for gtin, product in session.desk.products().items() if product.storage is not None}
    for stored in events_store.own_of_type(session.connection, PayloadType.PRODUCT):
        product = stored.event.statement
        if isinstance(product, Product) and product.storage is not None:
            found.setdefault(product.gtin, product.storage)
    return found


def _judge(session: "Session", stored: Stored) -> list[NotedExcursion]:
    statement = stored.event.statement
    limits = limits_known(session)
    if not isinstance(statement, EpcisEvent) or not limits:
        return []
    # Limits of which the readings keep every one concern nobody: mostly nothing is left to do then.
    broken = {each: kernel.excursions(statement, each) for each in set(limits.values())}
    if not any(broken.values()):
        return []
    places = tuple(_places(session.connection, statement))
    history = _history(session.connection, {place.unit for place in places})
    found: dict[Unit, list[kernel.Excursion]] = {}
    for each in dict.fromkeys(limits.values()):
        for excursion in broken[each]:
            for unit in _units_at(session, places, history, excursion):
                if isinstance(unit, Sgtin) and limits.get(unit.gtin) == each:
                    found.setdefault(unit, []).append(excursion)
    heard = _heard_of(session, stored, set(found))
    _tell_unheard(session, stored, found.keys() - heard)
    event_id = stored.event.header.event_id
    return excursions.note(session.connection, (_noted(unit, event_id, found[unit]) for unit in found if unit in heard))


def _tell_unheard(session: "Session", stored: Stored, units: AbstractSet[Unit]) -> None:
    """Alert on what we pass on of goods here with which its actor had nothing to do."""
    known = [holding.unit for holding in holdings_store.load_books(session.connection, units)]
    if stored.own and known:
        unit = min(known, key=lambda item: item.path)
        message = f"{stored.event.header.actor} has neither sent nor got {len(known)} packs of which it tells readings"
        event_id = stored.event.header.event_id
        alerts.raise_alert(
            session.connection, AlertCode.SENSOR_NOT_PARTY, unit, event_id=event_id, message=message, now=session.now
        )


def _our_word(stored: Stored) -> bool:
    return stored.own and stored.event.header.capture is Capture.FIRST_HAND


def _heard_of(session: "Session", stored: Stored, units: set[Unit]) -> set[Unit]:
    """Return those of some units of which an event is heard: of what others did, the goods of its despatches."""
    if _our_word(stored):
        return units
    despatches = excursions.despatches_of_event(session.connection, stored.number)
    return {unit for despatch_id in despatches for unit in session.brought.by(despatch_id) & units}


def _noted(unit: Unit, event_id: str, found: Sequence[kernel.Excursion]) -> NotedExcursion:
    text = "; ".join(dict.fromkeys(item.describe() for item in found))
    return NotedExcursion(
        unit=unit,
        event_id=event_id,
        description=text[:MAX_DESCRIPTION],
        start_time=min(item.start_time for item in found),
        end_time=max(item.end_time for item in found),
        device_id=next((item.device_id for item in found if item.device_id), "")[:200],
    )


def _places(connection: Connection, statement: EpcisEvent) -> Iterator[_Place]:
    for unit in named_units(statement):
        if not _is_sensor(unit):
            yield _Place(unit)
    for binding in excursions.bindings_of(connection, _devices(statement)):
        yield _Place(binding.container, binding.start_time, binding.end_time, binding.despatch_id)


def _units_at(
    session: "Session", places: Sequence[_Place], history: Sequence[Event], excursion: kernel.Excursion
) -> set[Unit]:
    times: dict[tuple[datetime, datetime, str], list[Unit]] = {}
    for place in places:
        start, end = excursion.start_time, excursion.end_time
        if place.start_time is not None:
            start = max(start, place.start_time)
            end = end if place.end_time is None else min(end, place.end_time)
        if start <= end:
            times.setdefault((start, end, place.despatch_id), []).append(place.unit)
    found: set[Unit] = set()
    for (start, end, despatch_id), units in times.items():
        inside = contents_during(units, history, start_time=start, end_time=end)
        found |= inside & session.brought.by(despatch_id) if despatch_id else inside
    return found


def _history(connection: Connection, units: Iterable[Unit]) -> list[Event]:
    """Return the events that name units or anything that was ever put into them."""
    known: dict[int, Stored] = {}
    asked: set[Unit] = set()
    waiting = set(units)
    while waiting:
        asked |= waiting
        fresh = events_store.events_naming(connection, (unit.path for unit in waiting))
        known.update({item.number: item for item in fresh})
        waiting = {child for item in fresh for child in _children(item.event)} - asked
    return [known[number].event for number in sorted(known)]


def _children(event: Event) -> tuple[Unit, ...]:
    statement = event.statement
    if isinstance(statement, EpcisEvent) and statement.type is EventType.AGGREGATION:
        return units_of(statement.child_epcs)
    return ()


def units_here(connection: Connection, found: Iterable[NotedExcursion]) -> dict[str, list[Unit]]:
    """Return the units among what was noted that are in the house, by description."""
    noted = {item.unit: item.description for item in found}
    books = holdings_store.load_books(connection, noted)
    groups: dict[str, list[Unit]] = {}
    for unit, description in noted.items():
        holding = books.get(unit)
        if holding is not None and holding.here:
            groups.setdefault(description, []).append(unit)
    return groups
