"""Advice: what the receiver of a shipment must know of it, made and taken in.

An advice holds the despatch and all signed events that tell what is inside, down to every pack: the events of the
units themselves, and of the containers that they were in before, while they were in them. It goes in parts of up to
512 KiB, which may arrive in any order and more than once.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection

from medtrail.codec import encode_advice
from medtrail.epcis.model import EpcisEvent, EventType
from medtrail.event import MAX_BATCH_BYTES
from medtrail.exchange import Advice
from medtrail.gs1 import Gln
from medtrail.runtime import outbox
from medtrail.subjects import MessageKind
from services.custody import events_store, holdings_store, inbound_store
from services.custody.dossier import Advised, contents_at, former_containers, units_of
from services.custody.events_store import Stored
from services.custody.holding import Books, Holding, HoldingState
from services.custody.orders import goods
from services.custody.rules import UNADVISED
from services.custody.units import Unit

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
    return split_advice(despatch.event.header.event_id, [item.signed_event for item in ordered])


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


def split_advice(despatch_event_id: str, signed_events: Sequence[bytes]) -> tuple[Advice, ...]:
    """Return signed events as advice parts of at most 512 KiB each, in order."""
    groups: list[list[bytes]] = [[]]
    room = _ROOM_BYTES
    for signed_event in signed_events:
        size = len(signed_event) + _EVENT_OVERHEAD_BYTES
        if groups[-1] and size > room:
            groups.append([])
            room = _ROOM_BYTES
        groups[-1].append(signed_event)
        room -= size
    return tuple(Advice(despatch_event_id, part, len(groups), tuple(group)) for part, group in enumerate(groups))


def enqueue(connection: Connection, part: Advice, *, to: Gln) -> None:
    """Put a part on its way to a partner; it stays until the partner's acknowledgement."""
    outbox.enqueue_outgoing(connection, to=to, kind=MessageKind.ADVICE, data=encode_advice(part))


# --- taking in ---


def take_in_despatch(connection: Connection, despatch: Stored, *, sender: Gln) -> set[Unit]:
    """Make the goods of a despatch to us inbound, from all events known of them.

    Whoever takes the same despatch in twice changes nothing. Goods that arrived before their data and match are on
    hand from here on. Units that the books place elsewhere (on hand, ended) stay as they are: the ledger, which knows
    more, raises the alert.

    Args:
        connection: In a transaction that has stored the despatch and what came with it.
        despatch: The shipping event.
        sender: Party GLN of whose goods they are.

    Returns:
        All units of the despatch.
    """
    statement = despatch.event.statement
    despatch_id = despatch.event.header.event_id
    if not isinstance(statement, EpcisEvent):
        return set()
    known = _known_of(connection, units_of(statement.epc_list))
    advised = contents_at(statement, (item.event for item in known))
    units = {item.unit for item in advised}
    if inbound_store.find(connection, despatch_id) is not None:
        return units
    books = holdings_store.load_books(connection, units)
    provisional = despatch.leaf_index is None
    arrived: set[Unit] = set()
    for item in advised:
        if _take_in_unit(
            books,
            item,
            arrived,
            statement=statement,
            despatch_id=despatch_id,
            sender=sender,
            provisional=provisional,
        ):
            arrived.add(item.unit)
    holdings_store.save_changes(connection, books, event_number=despatch.number)
    tally = goods.tally_of(goods.Content(item.unit, item.parent, item.traits.lot) for item in advised)
    goods.note_despatch(connection, despatch.number, despatch_id, sender, tally)
    inbound_store.add(
        connection,
        despatch=despatch,
        statement=statement,
        sender=sender,
        unit_count=sum(item.smallest for item in advised),
        received_count=sum(item.smallest and item.unit in arrived for item in advised),
        provisional=provisional,
    )
    return units


def _known_of(connection: Connection, units: Iterable[Unit]) -> list[Stored]:
    """Return the events that name units or anything that was ever put into them."""
    known: dict[int, Stored] = {}
    asked: set[Unit] = set()
    waiting = set(units)
    while waiting:
        asked |= waiting
        fresh = [
            item
            for item in events_store.events_naming(connection, (unit.path for unit in waiting))
            if item.number not in known
        ]
        known.update({item.number: item for item in fresh})
        waiting = {child for item in fresh for child in _children(item)} - asked
    return [known[number] for number in sorted(known)]


def _children(item: Stored) -> tuple[Unit, ...]:
    statement = item.event.statement
    if isinstance(statement, EpcisEvent) and statement.type is EventType.AGGREGATION:
        return units_of(statement.child_epcs)
    return ()


def _take_in_unit(
    books: Books,
    item: Advised,
    arrived: set[Unit],
    *,
    statement: EpcisEvent,
    despatch_id: str,
    sender: Gln,
    provisional: bool,
) -> bool:
    """Put an advised unit into the books; return whether it has arrived already."""
    before = books.get(item.unit)
    here = before is not None and before.state is HoldingState.EXCEPTION and before.exception == UNADVISED
    came_inside = item.parent in arrived and before is None
    if before is not None and not here and (before.final or before.here):
        return False
    has_arrived = here or came_inside
    parent = item.parent if (item.parent in arrived) == has_arrived else None
    books.put(
        Holding(
            unit=item.unit,
            state=HoldingState.ON_HAND if has_arrived else HoldingState.INBOUND,
            event_id=despatch_id,
            since_time=statement.event_time,
            parent=parent,
            lot=item.traits.lot,
            expiry=item.traits.expiry,
            location=None if before is None or not here else before.location,
            partner=sender,
            provisional=provisional,
            despatch_id=despatch_id,
            smallest=item.smallest,
        )
    )
    return has_arrived
