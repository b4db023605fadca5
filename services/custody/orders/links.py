"""Which events and documents name which: from an order down to all that belongs to it, and from anything up to orders.

Links are kept for every event that is stored here, whoever signed it, so that the order in which documents, despatches
and receivings arrive does not matter.
"""

import re
from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.document import Document, DocumentFunction, DocumentKind, DocumentReference
from medtrail.epcis.model import BizTransaction, EpcisEvent
from medtrail.errors import MalformedError
from medtrail.event import Event
from medtrail.gs1 import Gln
from services.custody.holdings_store import CHUNK, chunks
from services.custody.orders.tables import DocumentRow, EventLink, GoodsRow
from services.custody.tables import KnownEvent

_URI = re.compile(r"urn:epcglobal:cbv:bt:([0-9]{13}):([\x21-\x7e]{1,64})\Z")
_KINDS = {kind.value: kind for kind in DocumentKind}
_EVENT = "event:"


def target_of(name: DocumentReference) -> str:
    """Return the text under which a document is linked to."""
    return f"{name.kind}:{name.issuer}:{name.number}"


def event_target(event_id: str) -> str:
    """Return the text under which an event is linked to."""
    return f"{_EVENT}{event_id}"


def name_of(target: str) -> DocumentReference:
    """Return the name of a document from the text under which it is linked to."""
    kind, issuer, number = target.split(":", 2)
    return DocumentReference(_KINDS[kind], number, Gln(issuer))


def documents_named(transactions: Iterable[BizTransaction]) -> Iterator[DocumentReference]:
    """Yield the documents among what an event names that are named in CBV's form (section 8.5.1).

    Others are not ours to resolve: a partner's text may be anything, a GLN with a wrong check digit for one.
    """
    for item in transactions:
        found = _URI.match(item.id)
        if found is None or item.type not in _KINDS:
            continue
        try:
            yield DocumentReference(_KINDS[item.type], found[2], Gln(found[1]))
        except MalformedError:
            continue


def targets_of(event: Event) -> list[str]:
    """Return what an event links to."""
    statement = event.statement
    if isinstance(statement, EpcisEvent):
        # A declaration repeats what it takes back.
        return (
            []
            if event.is_declaration
            else [target_of(name) for name in documents_named(statement.biz_transaction_list)]
        )
    if not isinstance(statement, Document):
        return []
    found = [target_of(name) for name in statement.references]
    found += [event_target(event_id) for event_id in statement.event_ids]
    if statement.function is not DocumentFunction.ORIGINAL:
        found.append(target_of(statement.named(event.header.actor)))
    return found


def add_links(connection: Connection, event_number: int, targets: Iterable[str]) -> None:
    """Keep what an event links to."""
    rows = [{"event_number": event_number, "target": target} for target in dict.fromkeys(targets)]
    if rows:
        connection.execute(insert(EventLink).on_conflict_do_nothing(), rows)


def forget(connection: Connection, event_number: int) -> None:
    """Forget an event's links and, where it is a document, its terms."""
    for table in (EventLink, DocumentRow):
        connection.execute(delete(table).where(col(table.event_number) == event_number))


# --- down ---


def _naming(connection: Connection, targets: Iterable[str]) -> set[int]:
    found: set[int] = set()
    for part in chunks(sorted(targets)):
        found.update(
            connection.execute(select(col(EventLink.event_number)).where(col(EventLink.target).in_(part))).scalars()
        )
    return found


def _targets(connection: Connection, event_number: int) -> list[str]:
    return targets_of_events(connection, [event_number])[event_number]


def targets_of_events(connection: Connection, event_numbers: Iterable[int]) -> dict[int, list[str]]:
    """Return what each of some events links to."""
    found: dict[int, list[str]] = {number: [] for number in event_numbers}
    for part in _parts(found):
        rows = connection.execute(
            select(col(EventLink.event_number), col(EventLink.target)).where(col(EventLink.event_number).in_(part))
        )
        for number, target in rows:
            found[number].append(target)
    return found


def _parts(event_numbers: Iterable[int]) -> Iterator[list[int]]:
    numbers = sorted(event_numbers)
    for start in range(0, len(numbers), CHUNK):
        yield numbers[start : start + CHUNK]


def _openers(connection: Connection, event_numbers: Iterable[int]) -> dict[int, str]:
    """Return which of some events are despatches or despatch advices, each with the text under which it is linked to.

    What names one of these belongs to the same order.
    """
    found: dict[int, str] = {}
    for part in _parts(event_numbers):
        advices = connection.execute(
            select(col(DocumentRow.event_number), col(DocumentRow.issuer), col(DocumentRow.number)).where(
                col(DocumentRow.event_number).in_(part), col(DocumentRow.kind) == DocumentKind.DESPATCH_ADVICE.value
            )
        )
        found |= {event: f"{DocumentKind.DESPATCH_ADVICE}:{issuer}:{number}" for event, issuer, number in advices}
        despatches = connection.execute(
            select(col(GoodsRow.event_number), col(GoodsRow.despatch_id)).where(
                col(GoodsRow.event_number).in_(part), col(GoodsRow.receiving).is_(False)
            )
        )
        found |= {event: event_target(despatch_id) for event, despatch_id in despatches}
    return found


def members(connection: Connection, order: DocumentReference) -> set[int]:
    """Return the numbers of all events and documents that belong to an order, but for the order itself.

    What names the order belongs to it; so does what names its despatches and despatch advices, and the despatches that
    those advices name, unless it names another order.
    """
    own = target_of(order)
    found: set[int] = set()
    asked: set[str] = set()
    waiting = {own}
    while waiting:
        asked |= waiting
        named = {target for target in waiting if target.startswith(_EVENT)}
        fresh = (_naming(connection, waiting) | _events_of(connection, named)) - found
        waiting = set()
        links, openers = targets_of_events(connection, fresh), _openers(connection, fresh)
        for event_number, targets in links.items():
            orders = {target for target in targets if target.startswith(f"{DocumentKind.ORDER}:")}
            if orders and own not in orders:
                continue
            found.add(event_number)
            opened = openers.get(event_number)
            if opened is not None:
                waiting.add(opened)
                waiting.update(target for target in targets if target.startswith(_EVENT))
        waiting -= asked
    return found


def _events_of(connection: Connection, targets: Iterable[str]) -> set[int]:
    """Return the numbers of the despatches that are linked to."""
    found: set[int] = set()
    for part in chunks(sorted(target.removeprefix(_EVENT) for target in targets)):
        rows = connection.execute(
            select(col(GoodsRow.event_number)).where(
                col(GoodsRow.despatch_id).in_(part), col(GoodsRow.receiving).is_(False)
            )
        )
        found.update(rows.scalars())
    return found


def orders_named(connection: Connection, event_number: int) -> set[str]:
    """Return the orders that an event or a document names itself."""
    return {target for target in _targets(connection, event_number) if target.startswith(f"{DocumentKind.ORDER}:")}


# --- up ---


def orders_of(connection: Connection, event_number: int) -> set[DocumentReference]:
    """Return the orders to which an event or a document may belong."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = {event_number}
    while waiting:
        number = waiting.pop()
        seen.add(number)
        targets = _targets(connection, number)
        orders = {target for target in targets if target.startswith(f"{DocumentKind.ORDER}:")}
        own = _own_order(connection, number)
        found |= orders if own is None else {own}
        if orders or own is not None:
            continue
        waiting |= _above(connection, number, targets) - seen
    return {name_of(target) for target in found}


def _own_order(connection: Connection, event_number: int) -> str | None:
    row = connection.execute(
        select(col(DocumentRow.issuer), col(DocumentRow.number)).where(
            col(DocumentRow.event_number) == event_number, col(DocumentRow.kind) == DocumentKind.ORDER.value
        )
    ).first()
    return None if row is None else f"{DocumentKind.ORDER}:{row[0]}:{row[1]}"


def _above(connection: Connection, event_number: int, targets: Iterable[str]) -> set[int]:
    """Return what may know the order of something that names none: its despatch advice, its despatch."""
    found: set[int] = set()
    events = {target for target in targets if target.startswith(_EVENT)}
    for target in targets:
        if target.startswith(f"{DocumentKind.DESPATCH_ADVICE}:"):
            name = name_of(target)
            found.update(
                connection.execute(
                    select(col(DocumentRow.event_number)).where(
                        col(DocumentRow.kind) == name.kind.value,
                        col(DocumentRow.issuer) == str(name.issuer),
                        col(DocumentRow.number) == name.number,
                    )
                ).scalars()
            )
    own_id: str | None = connection.execute(
        select(col(KnownEvent.event_id)).where(col(KnownEvent.number) == event_number)
    ).scalar_one_or_none()
    if own_id is not None:
        events.add(event_target(own_id))
    found |= _events_of(connection, events)
    advices = _naming(connection, events)
    found |= _openers(connection, advices).keys()
    return found
