"""projection.db: takes in entries, and finds the part of the log that bears on some units.

Functions take a connection inside a transaction, so that one answer is read from one snapshot.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from ledger.projections.circumstances import trade_item_of
from ledger.projections.facts import EventFact, Kind, Part, UnitRef, fact_from_json, fact_of, fact_to_json, refs_of
from ledger.projections.recalls import RecallEntry
from ledger.projections.tables import (
    PROJECTION_METADATA,
    SCHEMA_VERSION,
    DeclarationRow,
    ErasedKeyRow,
    EventRow,
    LotUnitRow,
    PayloadRow,
    ProjectionState,
    UnitRow,
)
from ledger.projections.world import Refs, World
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.event import Event, PayloadType, Product, Recall, StorageLimits
from medtrail.gs1 import Gtin

_STATE = PROJECTION_METADATA.tables[ProjectionState.__tablename__]
_EVENT = PROJECTION_METADATA.tables[EventRow.__tablename__]
_UNIT = PROJECTION_METADATA.tables[UnitRow.__tablename__]
_LOT = PROJECTION_METADATA.tables[LotUnitRow.__tablename__]
_DECLARATION = PROJECTION_METADATA.tables[DeclarationRow.__tablename__]
_ERASED_KEY = PROJECTION_METADATA.tables[ErasedKeyRow.__tablename__]
_PAYLOAD = PROJECTION_METADATA.tables[PayloadRow.__tablename__]

_TRADE_ITEM = "/01/"
_NO_QUANTITY = "-"
"""In the place of a unit of measure, where a unit is named without a quantity: it may be named with one as well."""
_READ_AS_A_WHOLE = frozenset({PayloadType.TRUST, PayloadType.PRODUCT, PayloadType.RECALL})
# SQLite binds at most 32,766 variables a statement.
_CHUNK = 10_000
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """An entry as the projection takes it in.

    Attributes:
        signed_event: The bytes; empty when they were erased.
        map_keys: Of an erased one: its item-map keys, 32 bytes each, joined.
    """

    leaf_index: int
    signed_event: bytes
    map_keys: bytes = b""


@dataclass(slots=True)
class _Rows:
    events: list[dict[str, Any]] = field(default_factory=list)
    units: list[dict[str, Any]] = field(default_factory=list)
    lots: list[dict[str, Any]] = field(default_factory=list)
    declarations: list[dict[str, Any]] = field(default_factory=list)
    payloads: list[dict[str, Any]] = field(default_factory=list)
    erased_keys: list[dict[str, Any]] = field(default_factory=list)


# --- taking in ---


def prepare(connection: Connection) -> None:
    """Make the tables; those of another version are emptied, to be filled anew."""
    PROJECTION_METADATA.create_all(connection)
    version = connection.execute(select(_STATE.c.schema_version)).scalar_one_or_none()
    if version == SCHEMA_VERSION:
        return
    PROJECTION_METADATA.drop_all(connection)
    PROJECTION_METADATA.create_all(connection)
    connection.execute(insert(_STATE).values(number=1, schema_version=SCHEMA_VERSION, next_index=0, next_order=0))


def clear(connection: Connection) -> None:
    """Forget everything, to be filled anew from entry 0."""
    for table in PROJECTION_METADATA.sorted_tables:
        if table is not _STATE:
            connection.execute(delete(table))
    connection.execute(update(_STATE).values(next_index=0, next_order=0))


def next_index(connection: Connection) -> int:
    """Return the size of the tree that has been taken in."""
    return int(connection.execute(select(_STATE.c.next_index)).scalar_one())


def rows_of(entries: Iterable[ChainedEvent]) -> _Rows:
    """Return what entries add to the tables. Decodes; does no I/O.

    Raises:
        MalformedError: An entry holds what ingest would have refused: the stored bytes are damaged.
    """
    rows = _Rows()
    for entry in entries:
        if not entry.signed_event:
            rows.erased_keys += _erased_rows(entry.leaf_index, entry.map_keys)
            continue
        signed = decode_signed_event(entry.signed_event)
        event = decode_payload(signed.payload_type, signed.payload)
        fact = fact_of(entry.leaf_index, event, key_id=signed.signatures[0].key_id)
        _add_event(rows, event, fact)
        if event.payload_type in _READ_AS_A_WHOLE:
            rows.payloads.append(
                {
                    "leaf_index": entry.leaf_index,
                    "payload_type": signed.payload_type,
                    "key_id": fact.key_id,
                    "payload": signed.payload,
                }
            )
    return rows


def _add_event(rows: _Rows, event: Event, fact: EventFact) -> None:
    leaf = fact.leaf_index
    rows.events.append(
        {
            "leaf_index": leaf,
            "payload_type": event.payload_type.value,
            "actor": fact.actor,
            "biz_step": fact.biz_step,
            "fact": fact_to_json(fact),
        }
    )
    for ref in refs_of(leaf, event):
        uom = _NO_QUANTITY if ref.quantity is None else ref.uom
        rows.units.append(
            {"unit": ref.unit, "leaf_index": leaf, "part": ref.part, "uom": uom, "quantity": ref.quantity}
        )
        if _commissions_lot(fact, ref):
            gtin = ref.unit.split("/")[2]
            rows.lots.append({"gtin": gtin, "lot": fact.lot, "unit": ref.unit, "leaf_index": leaf})
    if fact.declaration:
        names = {fact.event_id, fact.content_hash} - {""}
        rows.declarations += [{"name": name, "leaf_index": leaf} for name in names]


def _commissions_lot(fact: EventFact, ref: UnitRef) -> bool:
    if not fact.lot or fact.declaration or ref.quantity is not None or not ref.unit.startswith(_TRADE_ITEM):
        return False
    return ref.part is Part.OUTPUT or (ref.part is Part.OBJECT and fact.kind is Kind.OBJECT and fact.action == "ADD")


def add_rows(connection: Connection, rows: _Rows, *, first: int, after: int) -> bool:
    """Write rows of the entries [first, after); tell whether they were the next.

    In one transaction with the cursor: a crash leaves either all of a batch or nothing, and a second follower that had
    the same idea changes nothing.
    """
    moved = connection.execute(update(_STATE).where(_STATE.c.next_index == first).values(next_index=after))
    if moved.rowcount != 1:
        return False
    for table, values in (
        (_EVENT, rows.events),
        (_UNIT, rows.units),
        (_LOT, rows.lots),
        (_DECLARATION, rows.declarations),
        (_PAYLOAD, rows.payloads),
        (_ERASED_KEY, rows.erased_keys),
    ):
        if values:
            connection.execute(insert(table), values)
    return True


# --- erasing ---


def next_order(connection: Connection) -> int:
    """Return the index from which on orders to erase have not been looked at."""
    return int(connection.execute(select(_STATE.c.next_order)).scalar_one())


def erase(connection: Connection, erased: Iterable[tuple[int, bytes]], *, next_order: int) -> None:
    """Forget what entries state; keep only under which keys they were. Doing it again changes nothing.

    Args:
        connection: In a write transaction.
        erased: Index and item-map keys of each.
        next_order: The orders below are done then.
    """
    connection.execute(update(_STATE).values(next_order=next_order))
    for leaf, map_keys in erased:
        for table in (_EVENT, _UNIT, _LOT, _DECLARATION, _PAYLOAD, _ERASED_KEY):
            connection.execute(delete(table).where(table.c.leaf_index == leaf))
        rows = _erased_rows(leaf, map_keys)
        if rows:
            connection.execute(insert(_ERASED_KEY), rows)


def _erased_rows(leaf: int, map_keys: bytes) -> list[dict[str, Any]]:
    keys = (map_keys[start : start + _KEY_BYTES] for start in range(0, len(map_keys), _KEY_BYTES))
    return [{"map_key": key, "leaf_index": leaf} for key in keys]


def erased_leaves(connection: Connection, map_keys: Collection[bytes], *, size: int) -> list[int]:
    """Return the entries below a size whose erased events named what has one of these keys, in log order."""
    leaves: set[int] = set()
    for chunk in _chunks(map_keys):
        found = select(_ERASED_KEY.c.leaf_index).where(
            _ERASED_KEY.c.map_key.in_(chunk), _ERASED_KEY.c.leaf_index < size
        )
        leaves.update(connection.execute(found).scalars())
    return sorted(leaves)


# --- finding ---


def _chunks(values: Collection[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def load_facts(connection: Connection, leaves: Collection[int]) -> dict[int, EventFact]:
    """Return what entries state, by index."""
    facts: dict[int, EventFact] = {}
    for chunk in _chunks(leaves):
        rows = connection.execute(select(_EVENT.c.leaf_index, _EVENT.c.fact).where(_EVENT.c.leaf_index.in_(chunk)))
        facts.update((leaf, fact_from_json(text)) for leaf, text in rows)
    return facts


def named_units(connection: Connection, leaf_index: int) -> list[str]:
    """Return the paths that an entry names, in any part, sorted."""
    query = select(_UNIT.c.unit).where(_UNIT.c.leaf_index == leaf_index).distinct().order_by(_UNIT.c.unit)
    return list(connection.execute(query).scalars())


def _read_refs(connection: Connection, statement: Select[Any]) -> dict[str, Refs]:
    found: dict[str, list[tuple[int, Part]]] = {}
    parts = tuple(Part)
    for unit, leaf, part in connection.execute(statement):
        found.setdefault(unit, []).append((leaf, parts[part]))
    return {unit: tuple(refs) for unit, refs in found.items()}


def _refs_where(size: int) -> Select[Any]:
    return (
        select(_UNIT.c.unit, _UNIT.c.leaf_index, _UNIT.c.part)
        .where(_UNIT.c.quantity.is_(None), _UNIT.c.leaf_index < size, _UNIT.c.part != Part.SUBJECT)
        .order_by(_UNIT.c.unit, _UNIT.c.leaf_index, _UNIT.c.part)
    )


def load_world(connection: Connection, units: Collection[str], *, size: int) -> World:
    """Return the events below a size that name units, or what ever held them, at any depth."""
    refs: dict[str, Refs] = {}
    for chunk in _chunks(units):
        refs.update(_read_refs(connection, _refs_where(size).where(_UNIT.c.unit.in_(chunk))))
    return _close(connection, refs, {}, size=size)


def load_lot(connection: Connection, gtin: str, lot: str, *, size: int) -> World:
    """Return the events below a size that name units of a lot, what ever held them, or the lot by quantity."""
    members = select(_LOT.c.unit).where(_LOT.c.gtin == gtin, _LOT.c.lot == lot, _LOT.c.leaf_index < size)
    refs = _read_refs(connection, _refs_where(size).where(_UNIT.c.unit.in_(members)))
    by_quantity = f"/01/{gtin}/10/{quote(lot, safe='')}"
    rows = connection.execute(
        select(_UNIT.c.leaf_index, _UNIT.c.part, _UNIT.c.quantity, _UNIT.c.uom)
        .where(_UNIT.c.unit == by_quantity, _UNIT.c.leaf_index < size, _UNIT.c.quantity.is_not(None))
        .order_by(_UNIT.c.leaf_index, _UNIT.c.part, _UNIT.c.uom)
    )
    named = tuple(UnitRef(by_quantity, leaf, Part(part), quantity, uom) for leaf, part, quantity, uom in rows)
    return _close(connection, refs, {by_quantity: named} if named else {}, size=size)


def lot_members(connection: Connection, gtin: str, lot: str, *, size: int) -> list[str]:
    """Return the units that events below a size commission in a lot, sorted."""
    rows = connection.execute(
        select(_LOT.c.unit)
        .where(_LOT.c.gtin == gtin, _LOT.c.lot == lot, _LOT.c.leaf_index < size)
        .distinct()
        .order_by(_LOT.c.unit)
    )
    return list(rows.scalars())


def lots_of(connection: Connection, gtin: str, *, size: int, limit: int = 1000) -> list[str]:
    """Return lots of a trade item that events below a size commission, sorted; the first ``limit`` of them."""
    rows = connection.execute(
        select(_LOT.c.lot)
        .where(_LOT.c.gtin == gtin, _LOT.c.leaf_index < size)
        .distinct()
        .order_by(_LOT.c.lot)
        .limit(limit)
    )
    return list(rows.scalars())


def _close(connection: Connection, refs: dict[str, Refs], lots: dict[str, tuple[UnitRef, ...]], *, size: int) -> World:
    """Follow units to their containers, level by level, until nothing new is named."""
    facts: dict[int, EventFact] = {}
    units = dict(refs)
    fresh: dict[str, Refs] = refs
    leaves = {ref.leaf_index for named in lots.values() for ref in named}
    while fresh or leaves:
        # Many units share their references: a case of packs has the same.
        leaves |= {leaf for shared in set(fresh.values()) for leaf, _ in shared}
        read = load_facts(connection, leaves - facts.keys())
        facts |= read
        above = {fact.parent for fact in read.values() if fact.parent} - units.keys()
        fresh = {}
        for chunk in _chunks(above):
            fresh |= _read_refs(connection, _refs_where(size).where(_UNIT.c.unit.in_(chunk)))
        units |= fresh
        leaves = set()
    declarations = _load_declarations(connection, facts.values(), size=size)
    limits = _load_limits(connection, units, size=size) if any(fact.sensing for fact in facts.values()) else {}
    return World(facts, units, lots, declarations, limits)


def _load_limits(connection: Connection, units: Iterable[str], *, size: int) -> dict[str, StorageLimits]:
    """Return how the products of units are to be kept, by trade item's path, where their makers say."""
    found: dict[str, StorageLimits] = {}
    for item in {trade_item_of(unit) for unit in units} - {""}:
        product = load_product(connection, Gtin(item.removeprefix(_TRADE_ITEM)), size=size)
        if product is not None and product.storage is not None:
            found[item] = product.storage
    return found


def _load_declarations(connection: Connection, facts: Iterable[EventFact], *, size: int) -> tuple[EventFact, ...]:
    if connection.execute(select(_DECLARATION.c.leaf_index).limit(1)).first() is None:
        return ()
    names = {name for fact in facts for name in (fact.event_id, fact.content_hash)} - {""}
    leaves: set[int] = set()
    for chunk in _chunks(names):
        statement = select(_DECLARATION.c.leaf_index).where(
            _DECLARATION.c.name.in_(chunk), _DECLARATION.c.leaf_index < size
        )
        leaves.update(connection.execute(statement).scalars())
    return tuple(load_facts(connection, leaves).values())


def load_contents(connection: Connection, unit: str, *, size: int) -> list[str]:
    """Return all units that events below a size ever put into a unit, or into those, at any depth."""
    parent, child = _UNIT.alias("parent"), _UNIT.alias("child")
    found: dict[str, None] = {}
    waiting = [unit]
    while waiting:
        inside: dict[str, None] = {}
        for chunk in _chunks(waiting):
            rows = connection.execute(
                select(child.c.unit)
                .join(parent, parent.c.leaf_index == child.c.leaf_index)
                .where(parent.c.unit.in_(chunk), parent.c.part == Part.PARENT, child.c.part == Part.CHILD)
                .where(child.c.leaf_index < size)
                .distinct()
            )
            inside |= dict.fromkeys(rows.scalars())
        waiting = [path for path in inside if path not in found and path != unit]
        found |= dict.fromkeys(waiting)
    return sorted(found)


def load_payloads(
    connection: Connection, payload_type: PayloadType, *, start: int, size: int
) -> list[tuple[int, str, Event]]:
    """Return entries [start, size) of a type that is read as a whole: index, signing key, event."""
    rows = connection.execute(
        select(_PAYLOAD.c.leaf_index, _PAYLOAD.c.key_id, _PAYLOAD.c.payload)
        .where(_PAYLOAD.c.payload_type == payload_type.value)
        .where(_PAYLOAD.c.leaf_index >= start, _PAYLOAD.c.leaf_index < size)
        .order_by(_PAYLOAD.c.leaf_index)
    )
    return [(leaf, key_id, decode_payload(payload_type.value, payload)) for leaf, key_id, payload in rows]


def load_recalls(connection: Connection, *, start: int, size: int) -> list[RecallEntry]:
    """Return the recalls, and ends of recalls, of the entries [start, size)."""
    return [
        RecallEntry(fact_of(leaf, event, key_id=key_id), event.statement)
        for leaf, key_id, event in load_payloads(connection, PayloadType.RECALL, start=start, size=size)
        if isinstance(event.statement, Recall)
    ]


def load_product(connection: Connection, gtin: Gtin, *, size: int) -> Product | None:
    """Return the newest master data of a trade item below a size, or None."""
    row = connection.execute(
        select(_PAYLOAD.c.payload)
        .join(_UNIT, _UNIT.c.leaf_index == _PAYLOAD.c.leaf_index)
        .where(_UNIT.c.unit == gtin.path, _UNIT.c.leaf_index < size)
        .where(_PAYLOAD.c.payload_type == PayloadType.PRODUCT.value)
        .order_by(_UNIT.c.leaf_index.desc())
        .limit(1)
    ).scalar_one_or_none()
    if row is None:
        return None
    statement = decode_payload(PayloadType.PRODUCT.value, row).statement
    return statement if isinstance(statement, Product) else None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; what is empty does not narrow."""

    payload_types: tuple[str, ...] = ()
    unit: str = ""
    actor: str = ""
    biz_step: str = ""


def list_leaves(connection: Connection, wanted: EventFilter, *, start: int, size: int, limit: int) -> list[int]:
    """Return the indices in [start, size) of events that pass a filter, in log order, at most ``limit``."""
    statement = select(_EVENT.c.leaf_index).where(_EVENT.c.leaf_index >= start, _EVENT.c.leaf_index < size)
    if wanted.payload_types:
        statement = statement.where(_EVENT.c.payload_type.in_(wanted.payload_types))
    if wanted.unit:
        naming = select(_UNIT.c.leaf_index).where(_UNIT.c.unit == wanted.unit, _UNIT.c.leaf_index >= start)
        statement = statement.where(_EVENT.c.leaf_index.in_(naming))
    if wanted.actor:
        statement = statement.where(_EVENT.c.actor == wanted.actor)
    if wanted.biz_step:
        statement = statement.where(_EVENT.c.biz_step == wanted.biz_step)
    return list(connection.execute(statement.order_by(_EVENT.c.leaf_index).limit(limit)).scalars())


def count_events(connection: Connection) -> int:
    """Return how many events are kept; with those erased, equal to :func:`next_index`."""
    return int(connection.execute(select(func.count()).select_from(_EVENT)).scalar_one())
