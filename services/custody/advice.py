"""Advice: what the receiver of a shipment must know of it, made and taken in.

An advice holds the despatch and all signed events that tell what is inside, down to every pack: the events of the
units themselves, and of the containers that they were in before, while they were in them. It goes in parts of up to
512 KiB, which may arrive in any order and more than once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from medtrail.codec import encode_advice
from medtrail.epcis.model import EpcisEvent, EventType
from medtrail.event import MAX_BATCH_BYTES
from medtrail.exchange import Advice
from medtrail.gs1 import Gln, Sgtin
from medtrail.runtime import outbox
from medtrail.subjects import MessageKind
from services.custody import absences, events_store, holdings_store, inbound_store
from services.custody.dossier import contents_at, former_containers, units_of
from services.custody.events_store import Stored
from services.custody.holding import AWAY_STATES, Books, Holding, HoldingState
from services.custody.holds import RETURN_UNVERIFIED, added
from services.custody.orders import goods
from services.custody.receiving import arrivals_store
from services.custody.rules import UNADVISED
from services.custody.shipment import Content, contents_of
from services.custody.units import Unit, unit_of_path

# Beside its events a part holds the despatch's id and a few numbers.
_ROOM_BYTES = MAX_BATCH_BYTES - 4096
_EVENT_OVERHEAD_BYTES = 8


def parts_of(connection: Connection, despatch: Stored, units: Iterable[Unit], books: Books) -> tuple[Advice, ...]:
    """Return the parts of the advice of a despatch.

    Args:
        connection: In a transaction that has stored the despatch.
        despatch: The despatch.
        units: Its outermost units.
        books: Hold them and all that is inside.
    """
    inside = {unit for outermost in units for unit in _closure(books, outermost)}
    known = {item.number: item for item in events_store.events_naming(connection, (unit.path for unit in inside))}
    known[despatch.number] = despatch
    for item in _histories_of_containers(connection, inside, tuple(known.values())):
        known.setdefault(item.number, item)
    ordered = sorted(known.values(), key=lambda item: (_time(item), item.number))
    absent = _absent(despatch, ordered, inside)
    return split_advice(despatch.event.header.event_id, [item.signed_event for item in ordered], absent)


def _absent(despatch: Stored, told: Iterable[Stored], inside: set[Unit]) -> list[str]:
    """Return what the events alone would have a reader believe to be inside and is not.

    What was sold out of a case, and to whom, is other people's business: only that it is not there is told.
    """
    statement = despatch.event.statement
    if not isinstance(statement, EpcisEvent):
        return []
    believed = contents_at(statement, (item.event for item in told))
    return sorted(item.unit.digital_link for item in believed if item.unit not in inside)


def _closure(books: Books, unit: Unit) -> Iterator[Unit]:
    yield unit
    yield from (holding.unit for holding in books.inside(unit))


def _time(item: Stored) -> datetime:
    statement = item.event.statement
    assert isinstance(statement, EpcisEvent)  # noqa: S101  # only EPCIS events name units
    return statement.event_time


def _histories_of_containers(connection: Connection, inside: set[Unit], known: Sequence[Stored]) -> Iterator[Stored]:
    """Yield the events of containers that the goods were in and left, up to when they left them, upwards."""
    seen = set(inside)
    goods = set(inside)
    while True:
        left = [
            (container, last)
            for container, last in former_containers(goods, (item.event for item in known))
            if container not in seen
        ]
        if not left:
            return
        fresh: list[Stored] = []
        for container, last in left:
            seen.add(container)
            fresh += [
                item
                for item in events_store.events_naming(connection, [container.path])
                if _time(item) <= last.event_time and not _packs_others(item, container, goods)
            ]
        yield from fresh
        goods = {container for container, _ in left}
        known = fresh


def _packs_others(item: Stored, container: Unit, goods: set[Unit]) -> bool:
    # What else went into the container is other people's business.
    statement = item.event.statement
    return (
        isinstance(statement, EpcisEvent)
        and statement.type is EventType.AGGREGATION
        and statement.parent_id is not None
        and container in units_of((statement.parent_id,))
        and not goods.intersection(units_of(statement.child_epcs))
    )


def split_advice(
    despatch_event_id: str, signed_events: Sequence[bytes], absent: Sequence[str] = ()
) -> tuple[Advice, ...]:
    """Return signed events as advice parts of at most 512 KiB each, in order, and after them what is absent."""
    groups: list[list[bytes]] = [[]]
    room = _ROOM_BYTES
    for signed_event in signed_events:
        size = len(signed_event) + _EVENT_OVERHEAD_BYTES
        if groups[-1] and size > room:
            groups.append([])
            room = _ROOM_BYTES
        groups[-1].append(signed_event)
        room -= size
    lists: list[list[str]] = [[] for _ in groups]
    for epc in absent:
        size = len(epc) + _EVENT_OVERHEAD_BYTES
        if size > room:
            groups.append([])
            lists.append([])
            room = _ROOM_BYTES
        lists[-1].append(epc)
        room -= size
    return tuple(
        Advice(despatch_event_id, part, len(groups), tuple(group), tuple(missing))
        for part, (group, missing) in enumerate(zip(groups, lists, strict=True))
    )


def enqueue(connection: Connection, part: Advice, *, to: Gln) -> None:
    """Put a part on its way to a partner; it stays until the partner's acknowledgement."""
    outbox.enqueue_outgoing(connection, to=to, kind=MessageKind.ADVICE, data=encode_advice(part))


# --- taking in ---


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What came of a despatch that was taken in.

    Attributes:
        units: All that are in it.
        here: Of those, the ones that had arrived before it, by an event that an ERP captured; on hand with it.
    """

    units: frozenset[Unit] = frozenset()
    here: frozenset[Unit] = frozenset()


def take_in_despatch(connection: Connection, despatch: Stored, *, sender: Gln, absent: Iterable[str] = ()) -> TakenIn:
    """Make the goods of a despatch to us inbound, from all events known of them, read a few at a time.

    Whoever takes the same despatch in twice changes nothing. Goods that arrived before their data get them; receiving
    them is for the caller (:mod:`services.custody.receiving.follow`), and so is to hold what is here and must not move
    (:func:`services.custody.standing.hold_here`). Units that the books place elsewhere (on hand,
    ended) stay as they are: the ledger, which knows more, raises the alert.

    Args:
        connection: In a transaction that has stored the despatch and what came with it.
        despatch: The shipping event.
        sender: Party GLN of whose goods they are.
        absent: Units, as the sender names them, that are not inside, whatever the events say.
    """
    statement = despatch.event.statement
    despatch_id = despatch.event.header.event_id
    if not isinstance(statement, EpcisEvent):
        return TakenIn()
    contents = contents_of(connection, statement, units_of(statement.epc_list)).units
    gone = [unit.path for unit in units_of(absent) if unit.path in contents and contents[unit.path].parent]
    if gone:
        absences.note(connection, gone, time=statement.event_time)
        contents = contents_of(connection, statement, units_of(statement.epc_list)).units
    units = {path: unit_of_path(path) for path in contents}
    if inbound_store.find(connection, despatch_id) is not None:
        return TakenIn(frozenset(units.values()))
    books = holdings_store.load_books(connection, units.values())
    waiting = arrivals_store.of_paths(connection, list(units))
    arriving = _Arriving(
        despatch_id,
        statement.event_time,
        sender,
        provisional=despatch.leaf_index is None,
        returned=statement.disposition == "returned",
        waiting=set(waiting),
    )
    for path, content in contents.items():
        arriving.take_in(books, units[path], content, parent=units.get(content.parent))
    _end_earlier_fillings(books, contents, units)
    holdings_store.save_changes(connection, books, event_number=despatch.number)
    tally = goods.tally_of(
        goods.Content(units[path], units.get(content.parent), content.lot) for path, content in contents.items()
    )
    goods.note_despatch(connection, despatch.number, despatch_id, sender, tally)
    inbound_store.add(
        connection,
        despatch=despatch,
        statement=statement,
        sender=sender,
        unit_count=sum(_is_smallest(units[path], content) for path, content in contents.items()),
        received_count=arriving.received,
        provisional=arriving.provisional,
    )
    return TakenIn(frozenset(units.values()), frozenset(arriving.here))


def _end_earlier_fillings(books: Books, contents: Mapping[str, Content], units: Mapping[str, Unit]) -> None:
    """Take what went away in a container that comes back out of it: it came back without."""
    for path, unit in units.items():
        for child in books.contents(unit):
            content = contents.get(child.unit.path)
            if child.state in AWAY_STATES and (content is None or content.parent != path):
                books.change(child, parent=None)


def _is_smallest(unit: Unit, content: Content) -> bool:
    return isinstance(unit, Sgtin) and not content.holds


@dataclass(slots=True)
class _Arriving:
    """A despatch whose units become inbound.

    Attributes:
        returned: Its goods come back: what is here of them waits to be verified.
        waiting: Paths of units that are here and wait for data: they are received by an event of their own.
        here: Units that were received before their data, by an event that an ERP captured: they are on hand with them.
        received: Smallest units among those.
    """

    despatch_id: str
    time: datetime
    sender: Gln
    provisional: bool
    returned: bool
    waiting: set[str]
    here: set[Unit] = field(default_factory=set)
    received: int = 0

    def take_in(self, books: Books, unit: Unit, content: Content, *, parent: Unit | None) -> None:
        before = books.get(unit)
        smallest = _is_smallest(unit, content)
        if before is not None and before.state is HoldingState.EXCEPTION and unit.path in self.waiting:
            books.change(
                before,
                parent=parent,
                lot=content.lot,
                expiry=content.expiry,
                partner=self.sender,
                provisional=self.provisional,
                despatch_id=self.despatch_id,
                smallest=smallest,
            )
            return
        unadvised = before is not None and before.state is HoldingState.EXCEPTION and before.exception == UNADVISED
        if before is not None and not unadvised and (before.final or before.here):
            return
        here = unadvised or (before is None and parent in self.here)
        if here:
            self.here.add(unit)
            self.received += smallest
        books.put(
            Holding(
                unit=unit,
                state=HoldingState.ON_HAND if here else HoldingState.INBOUND,
                event_id=self.despatch_id,
                since_time=self.time,
                parent=parent if (parent in self.here) == here else None,
                lot=content.lot,
                expiry=content.expiry,
                location=None if before is None or not here else before.location,
                partner=self.sender,
                provisional=self.provisional,
                despatch_id=self.despatch_id,
                smallest=smallest,
                sold_to=None if before is None else before.sold_to,
                hold_reason=self._hold_reason(before, here=here),
                remainder=before.remainder if before is not None and here else None,
                remainder_uom=before.remainder_uom if before is not None and here else "",
                suspect="" if before is None else before.suspect,
            )
        )

    def _hold_reason(self, before: Holding | None, *, here: bool) -> str:
        """Return why a unit is on hold: what holds goods that are here, or marks those on their way, stays."""
        known = "" if before is None or not (here or before.state is HoldingState.INBOUND) else before.hold_reason
        return added(known, RETURN_UNVERIFIED) if here and self.returned else known
