"""Answers from the projection: what is believed of a pack or a lot, its history, and which events match.

Each answer is read from one snapshot and holds for one tree size: the projection's, or an earlier one that was asked
for ("what we knew then"); with a true time, events dated later are left out ("what was true then"). Proofs are added by
the servicer, from the log.
"""

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from operator import itemgetter
from threading import Lock
from typing import TypeVar

from sqlalchemy import Connection

from ledger.projections import store
from ledger.projections.archive import Archive
from ledger.projections.belief import Container, EvidenceKind, Step, UnitBelief, UnitClass
from ledger.projections.judging import Scan, judge
from ledger.projections.quantities import LotReplay, QuantityBelief
from ledger.projections.recalls import RecallEntry, covers, in_force
from ledger.projections.replay import Alike, Replay
from ledger.projections.states import CustodyState, states_of
from ledger.projections.store import EventFilter
from medtrail.errors import NotFoundError
from medtrail.event import PackLevel
from medtrail.gs1 import Gtin, Lgtin, near_miss
from medtrail.item_map import map_key
from medtrail.runtime.database import Database
from medtrail.runtime.tokens import Clock, utc_now
from medtrail.verdict import Verdict

T = TypeVar("T")

_KEPT_LOTS = 4
# GTIN, lot, true time, tree size, order of the newest change, ids of the recalls in force.
_LotKey = tuple[str, str, datetime | None, int, int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class PackAnswer:
    """What a scan means, and what is believed; ``belief`` is None when nobody commissioned the pack."""

    tree_size: int
    verdict: Verdict
    belief: UnitBelief | None
    level: PackLevel


@dataclass(frozen=True, slots=True)
class UnitTrace:
    """A unit's complete history in order of effective time, and what is believed after it.

    ``belief`` is None when no event that counts tells of the unit. ``erased`` are the entries, in log order, whose
    events named the unit or a container of its history, and were erased: what they said is not known any more.
    """

    tree_size: int
    belief: UnitBelief | None
    level: PackLevel
    steps: tuple[Step, ...]
    erased: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LotGroup:
    """Units of a lot in the same situation: class, holder, destination and kind of evidence.

    Attributes:
        states: How many of them are in each custody state, in the order of the states; a unit may be in several.
    """

    unit_class: UnitClass
    holder: str
    destination: str
    evidence: EvidenceKind
    oldest: datetime
    newest: datetime
    unit_count: int
    states: tuple[tuple[CustodyState, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LotTrace:
    """Where all of a lot is. The groups' counts sum to ``commissioned_count``.

    Attributes:
        recall_ids: Recalls in force that cover the lot or some of it, in log order.
    """

    tree_size: int
    commissioned_count: int
    level: PackLevel
    groups: tuple[LotGroup, ...]
    quantities: tuple[QuantityBelief, ...]
    recall_ids: tuple[str, ...]
    _alike: tuple[Alike, ...]
    _units: tuple[tuple[str, int], ...]

    def units(self, *, after: str = "", limit: int) -> tuple[UnitBelief, ...]:
        """Return a page of the units in order of their paths.

        Args:
            after: Path of the last unit of the page before; empty at first.
            limit: At most so many.
        """
        start = bisect_right(self._units, after, key=itemgetter(0)) if after else 0
        return tuple(
            replace(self._alike[number].belief, unit=unit) for unit, number in self._units[start : start + limit]
        )


class Queries:
    """Answers questions from projection.db.

    Args:
        database: projection.db, kept up by the projector.
        map_salt: The item map's secret: by it, units of erased events are found.
        clock: Aware UTC: until then ends of recalls count when nobody asks for another time.
    """

    def __init__(self, database: Database, *, map_salt: bytes = b"", clock: Clock = utc_now) -> None:
        self._database = database
        self._map_salt = map_salt
        self._clock = clock
        self._archive = Archive()
        self._lock = Lock()
        self._lots: OrderedDict[_LotKey, LotTrace] = OrderedDict()

    async def size(self) -> int:
        """Return the tree size up to which answers are complete now."""
        return await self._database.read(store.next_index)

    async def verify_pack(self, scan: Scan, *, true_time: datetime | None = None, tree_size: int = 0) -> PackAnswer:
        """Judge one scanned unit against the whole log.

        Args:
            scan: What was read, by whom, and the moment for which to judge.
            true_time: Leave events out that are dated later; None considers all.
            tree_size: What was known at this size; 0 means the newest.

        Raises:
            NotFoundError: TREE_SIZE_UNKNOWN.
        """
        return await self._read(tree_size, lambda connection, size: self._verify(connection, scan, true_time, size))

    async def trace_unit(self, unit: str, *, true_time: datetime | None = None, tree_size: int = 0) -> UnitTrace:
        """Return the history of a unit: its own events, and those of each container while it was inside.

        Args:
            unit: Canonical path.
            true_time: What was true at this moment; None means now.
            tree_size: What was known at this size; 0 means the newest.

        Raises:
            NotFoundError: UNIT_UNKNOWN: no event names it; TREE_SIZE_UNKNOWN.
        """
        return await self._read(tree_size, lambda connection, size: self._trace(connection, unit, true_time, size))

    async def trace_lot(self, lot: Lgtin, *, true_time: datetime | None = None, tree_size: int = 0) -> LotTrace:
        """Return where all of a lot is.

        Args:
            lot: GTIN and lot, both exact.
            true_time: What was true at this moment; None means now.
            tree_size: What was known at this size; 0 means the newest.

        Raises:
            NotFoundError: LOT_UNKNOWN: a mistyped lot must not read as one with nothing left. TREE_SIZE_UNKNOWN.
        """
        return await self._read(tree_size, lambda connection, size: self._lot(connection, lot, true_time, size))

    async def list_events(
        self, wanted: EventFilter, *, start: int = 0, limit: int, tree_size: int = 0
    ) -> tuple[int, Sequence[int]]:
        """Return the tree size answered for, and the indices of matching events from ``start`` on, in log order.

        Raises:
            NotFoundError: TREE_SIZE_UNKNOWN.
        """

        def find(connection: Connection, size: int) -> tuple[int, Sequence[int]]:
            return size, store.list_leaves(connection, wanted, start=start, size=size, limit=limit)

        return await self._read(tree_size, find)

    async def recall_over(self, leaf_index: int, *, tree_size: int, now: datetime) -> str:
        """Return the id of a recall in force over goods of an entry, as known at a size; empty when there is none.

        Its goods are all that it names, all that these ever held or were held in, and what was in there with them.
        Drills do not count; a recall counts from its entry on, whenever it starts; an end dated after ``now`` does not.

        Raises:
            NotFoundError: TREE_SIZE_UNKNOWN.
        """
        return await self._read(tree_size, partial(self._recall_over, leaf_index=leaf_index, now=now))

    # --- in one snapshot ---

    async def _read(self, tree_size: int, answer: Callable[[Connection, int], T]) -> T:
        def read(connection: Connection) -> T:
            known = store.next_index(connection)
            if not 0 <= tree_size <= known:
                message = f"asked for what was known at size {tree_size}; complete up to {known}"
                raise NotFoundError(message, code="TREE_SIZE_UNKNOWN", field="known_tree_size")
            return answer(connection, tree_size or known)

        return await self._database.read(read)

    def _recalls(
        self, connection: Connection, *, true_time: datetime | None, size: int, now: datetime | None = None
    ) -> tuple[RecallEntry, ...]:
        known, directory = self._archive.recalls(connection, size=size), self._archive.directory(connection, size=size)
        return in_force(known, directory, now=now or self._clock(), true_time=true_time)

    def _verify(self, connection: Connection, scan: Scan, true_time: datetime | None, size: int) -> PackAnswer:
        directory = self._archive.directory(connection, size=size)
        inside = store.load_contents(connection, scan.unit, size=size)
        world = store.load_world(connection, [scan.unit, *inside], size=size)
        known = self._archive.recalls(connection, size=size)
        replay = Replay(world, directory, recalls=known, true_time=true_time).run()
        belief = replay.belief(scan.unit)
        concerned = [Container(scan.unit, scan.lot), *replay.contents(scan.unit)]
        if belief is not None:
            concerned += [Container(scan.unit, belief.lot), *belief.containers]
        standing = self._recalls(connection, true_time=scan.judge_time, size=size)
        recalls = [entry for entry in standing if covers(entry.recall, concerned)]
        if belief is not None:
            belief = replace(belief, recall_ids=_ids(recalls))
        verdict = judge(scan, belief, recalls=recalls, tree_size=size)
        believed = belief if belief is not None and belief.has_origin else None
        return PackAnswer(size, verdict, believed, _level(connection, scan.unit, size))

    def _trace(self, connection: Connection, unit: str, true_time: datetime | None, size: int) -> UnitTrace:
        world = store.load_world(connection, [unit], size=size)
        keys = [map_key(self._map_salt, path) for path in {unit, *world.units}]
        erased = tuple(store.erased_leaves(connection, keys, size=size))
        if unit not in world.units:
            if erased:
                return UnitTrace(size, None, _level(connection, unit, size), (), erased)
            message = f"no event names {unit}"
            raise NotFoundError(message, code="UNIT_UNKNOWN", field="epc")
        directory = self._archive.directory(connection, size=size)
        known = self._archive.recalls(connection, size=size)
        replay = Replay(world, directory, recalls=known, true_time=true_time, traced=unit).run()
        belief = replay.belief(unit)
        if belief is not None:
            belief = self._with_recalls(connection, belief, true_time=true_time, size=size)
        return UnitTrace(size, belief, _level(connection, unit, size), replay.steps(unit), erased)

    def _with_recalls(
        self, connection: Connection, belief: UnitBelief, *, true_time: datetime | None, size: int
    ) -> UnitBelief:
        """Return a belief with the recalls in force that cover the unit, what it holds, or what holds it."""
        standing = self._recalls(connection, true_time=true_time, size=size)
        if all(entry.recall.drill for entry in standing):
            return belief
        concerned = [Container(belief.unit, belief.lot), *belief.containers]
        inside = store.load_contents(connection, belief.unit, size=size)
        if inside:
            world = store.load_world(connection, [belief.unit, *inside], size=size)
            directory = self._archive.directory(connection, size=size)
            concerned += Replay(world, directory, true_time=true_time).run().contents(belief.unit)
        return replace(belief, recall_ids=_ids(entry for entry in standing if covers(entry.recall, concerned)))

    def _recall_over(self, connection: Connection, size: int, *, leaf_index: int, now: datetime) -> str:
        directory = self._archive.directory(connection, size=size)
        standing = self._recalls(connection, true_time=None, size=size, now=now)
        recalls = [entry for entry in standing if not entry.recall.drill]
        named = store.named_units(connection, leaf_index)
        if not recalls or not named:
            return ""
        held_in = store.load_world(connection, named, size=size).units
        units = set(named) | set(held_in)
        for unit in tuple(units):
            units.update(store.load_contents(connection, unit, size=size))
        world = store.load_world(connection, units, size=size)
        replay = Replay(world, directory, true_time=None).run()
        lot = next((fact.lot for fact in store.load_facts(connection, [leaf_index]).values()), "")
        concerned = [Container(unit, lot) for unit in named]
        for unit in units:
            belief = replay.belief(unit) if unit in world.units else None
            concerned.append(Container(unit, "" if belief is None else belief.lot))
        items = {f"/01/{scope.gtin}": entry for entry in recalls for scope in entry.recall.scopes}
        found = [entry for entry in recalls if covers(entry.recall, concerned)]
        # Master data name a trade item as such, which no scope matches by itself.
        found += [items[unit] for unit in named if unit in items]
        return found[0].recall_id if found else ""

    def _lot(self, connection: Connection, lot: Lgtin, true_time: datetime | None, size: int) -> LotTrace:
        recalls = self._recalls(connection, true_time=true_time, size=size)
        standing = tuple(entry.recall_id for entry in recalls)
        key = (lot.gtin.digits, lot.lot, true_time, size, store.next_order(connection), standing)
        with self._lock:
            kept = self._lots.get(key)
        if kept is None:
            kept = self._trace_lot(connection, lot, recalls, true_time=true_time, size=size)
            with self._lock:
                # A caller pages through one answer: each page of a large lot would cost as much as the first.
                self._lots[key] = kept
                while len(self._lots) > _KEPT_LOTS:
                    self._lots.popitem(last=False)
        return kept

    def _trace_lot(
        self,
        connection: Connection,
        lot: Lgtin,
        recalls: Sequence[RecallEntry],
        *,
        true_time: datetime | None,
        size: int,
    ) -> LotTrace:
        gtin = lot.gtin.digits
        directory = self._archive.directory(connection, size=size)
        world = store.load_lot(connection, gtin, lot.lot, size=size)
        quantities = LotReplay(lot.path, world, directory)
        known = self._archive.recalls(connection, size=size)
        replay = Replay(world, directory, recalls=known, true_time=true_time).run(quantities)
        members = store.lot_members(connection, gtin, lot.lot, size=size)
        if not members and not world.lots:
            raise _lot_unknown(lot, store.lots_of(connection, gtin, size=size))
        # A unit whose believed commissioning names another lot, or does not count, is not of this lot.
        alike = tuple(group for group in replay.groups(members) if group.belief.lot == lot.lot)
        units = sorted((unit, number) for number, group in enumerate(alike) for unit in group.units)
        if recalls:
            # What a recall names by serial is not alike with the rest: of units that are, one answers for all.
            alike = tuple(replace(group, belief=_recalled(group.belief, recalls)) for group in alike)
        concerned = [Container(lot.path, lot.lot), *_containers(alike)]
        concerned += [Container(unit, lot.lot) for unit, _ in units]
        return LotTrace(
            tree_size=size,
            commissioned_count=len(units),
            level=_product_level(connection, lot.gtin, size),
            groups=_grouped(alike),
            quantities=quantities.beliefs(),
            recall_ids=tuple(entry.recall_id for entry in recalls if covers(entry.recall, concerned)),
            _alike=alike,
            _units=tuple(units),
        )


def _ids(recalls: Iterable[RecallEntry]) -> tuple[str, ...]:
    """Return the event ids of recalls, drills left out."""
    return tuple(entry.recall_id for entry in recalls if not entry.recall.drill)


def _recalled(belief: UnitBelief, recalls: Iterable[RecallEntry]) -> UnitBelief:
    concerned = [Container(belief.unit, belief.lot), *belief.containers]
    return replace(belief, recall_ids=_ids(entry for entry in recalls if covers(entry.recall, concerned)))


def _containers(alike: Iterable[Alike]) -> Iterable[Container]:
    return dict.fromkeys(container for group in alike for container in group.belief.containers)


def _grouped(alike: Iterable[Alike]) -> tuple[LotGroup, ...]:
    groups: dict[tuple[UnitClass, str, str, EvidenceKind], LotGroup] = {}
    states: dict[tuple[UnitClass, str, str, EvidenceKind], Counter[CustodyState]] = {}
    for same in alike:
        belief = same.belief
        key = (belief.unit_class, belief.holder, belief.destination, belief.evidence)
        group = groups.get(key, LotGroup(*key, belief.since, belief.since, 0))
        groups[key] = replace(
            group,
            oldest=min(group.oldest, belief.since),
            newest=max(group.newest, belief.since),
            unit_count=group.unit_count + len(same.units),
        )
        counted = states.setdefault(key, Counter())
        for state in states_of(belief):
            counted[state] += len(same.units)
    return tuple(
        replace(groups[key], states=tuple((state, states[key][state]) for state in CustodyState if states[key][state]))
        for key in sorted(groups)
    )


def _level(connection: Connection, unit: str, size: int) -> PackLevel:
    """Return the packaging level of a unit: from master data, never from the indicator digit."""
    parts = unit.split("/")
    return _product_level(connection, Gtin(parts[2]), size) if unit.startswith("/01/") else PackLevel.UNKNOWN


def _product_level(connection: Connection, gtin: Gtin, size: int) -> PackLevel:
    product = store.load_product(connection, gtin, size=size)
    return PackLevel.UNKNOWN if product is None else product.level


__all__ = [
    "EventFilter",
    "LotGroup",
    "LotTrace",
    "PackAnswer",
    "Queries",
    "Scan",
    "UnitTrace",
]


def _lot_unknown(lot: Lgtin, known: Iterable[str]) -> NotFoundError:
    near = [f"{other} ({why})" for other in known if (why := near_miss(lot.lot, other)) is not None]
    hint = f"; known and alike: {', '.join(near)}" if near else ""
    return NotFoundError(f"no event names lot {lot.lot!r} of GTIN {lot.gtin}{hint}", code="LOT_UNKNOWN", field="lot")
