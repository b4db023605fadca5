"""The world: who makes what, which delivery goes where, and what goes wrong with it. All follows from the seed."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from medtrail.simulation import troubles_oversight, troubles_trade  # noqa: F401 - they enter their kinds of trouble
from medtrail.simulation.acts import DAY, Act, Verb, gtin_of
from medtrail.simulation.network import (
    DISTRIBUTORS,
    MANUFACTURERS,
    PHARMACIES,
    WITH_FOUR_EYES,
    WITH_STATIONS,
    Member,
)
from medtrail.simulation.script import DAY_OF, OPENING_S, Goods, Script, Wave
from medtrail.simulation.troubles import PLAIN, TROUBLES, arrival_before_data, plain

PACKS_A_CASE = 48
FEWEST_DELIVERIES = 60
CASES_A_PALLET = 10
CASES_A_LOT = 100
SERIALS_A_CALL = 1000
EXPIRY_DAYS = 700
SHARE = 0.01
LEAST_SHARE = 0.01
LATE_SHARE = 0.25
AT = {"offline_conflict": WITH_STATIONS, "released_by_two": WITH_FOUR_EYES}
"""Kinds of trouble that happen at one pharmacy."""
Chain = tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class World:
    """A plan.

    Attributes:
        waves: Chains of acts: those of a chain one after the other, chains of a wave in any order.
        scripts: One a delivery.
        lots: (GTIN, lot) of all that is made.
    """

    waves: tuple[tuple[Chain, ...], ...]
    scripts: tuple[Script, ...]
    lots: tuple[tuple[str, str], ...]

    @property
    def packs(self) -> int:
        """Packs of all deliveries."""
        return sum(len(script.goods.packs) for script in self.scripts)

    @property
    def shares(self) -> Counter[str]:
        """Deliveries by kind."""
        return Counter(script.trouble for script in self.scripts)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days of a simulation.

    Attributes:
        start: Day of second 0, UTC.
        now: The present, seconds since the start.
        last_day: A day that is over for whoever lives far in the east, and not for who lives far in the west.
    """

    start: date
    now: int
    last_day: date


def make_world(packs: int, *, seed: int, members: dict[str, Member], calendar: Calendar, late: bool = False) -> World:
    """Return the plan for so many packs or a few more.

    Args:
        packs: At least so many.
        seed: The same seed and size make the same plan.
        members: Numbers of the parties.
        calendar: Expiries follow from it.
        late: Of every fourth plain delivery the data come after the goods, and acts come in any order.
    """
    chance = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
    size = min(PACKS_A_CASE, max(6, packs // FEWEST_DELIVERIES))
    count = max(-(-packs // size), FEWEST_DELIVERIES)
    kinds = _kinds(count, chance)
    scripts = []
    for number, kind in enumerate(kinds):
        goods = replace(_goods(number, size, chance, members), now=calendar.now)
        wanted = AT.get(kind, goods.pharmacy)
        if goods.pharmacy != wanted:
            goods = replace(goods, pharmacy=wanted, neighbour=goods.pharmacy)
        # What expires is of lots of its own, and each lot that is held is one delivery's. So is each that is imported:
        # its maker's words come with no other goods.
        old = kind == "expired"
        expiry = calendar.last_day if old else calendar.start + timedelta(days=EXPIRY_DAYS)
        own = {"expired": f"E{goods.lot}", "lot_held": f"H{number:06d}", "second_hand_import": f"S{number:06d}"}
        lot = own.get(kind, goods.lot)
        goods = replace(goods, expiry=expiry.isoformat(), lot=lot)
        comes_late = late and kind == PLAIN and chance.random() < LATE_SHARE
        scripts.append(_script(goods, kind, comes_late=comes_late))
    waves = [list(_making(scripts, wave, members)) for wave in Wave]
    for script in scripts:
        for wave in Wave:
            chain = tuple(act for when, act in script.acts if when is wave)
            if chain:
                waves[wave].append(chain)
    if late:
        for chains in waves:
            chance.shuffle(chains)
    lots = {(gtin, script.goods.lot) for script in scripts for gtin in _gtins(script.goods, members)}
    lots |= {(goods.pack_gtin, goods.lot) for script in scripts for goods in script.made}
    return World(tuple(map(tuple, waves)), tuple(scripts), tuple(sorted(lots)))


def _kinds(count: int, chance: random.Random) -> list[str]:
    """Return the kind of each delivery: every trouble one in a hundred or a little more, at least once."""
    each = max(1, -(-int(count * SHARE * 1000) // 1000))
    kinds = [name for name in TROUBLES for _ in range(each)]
    kinds = kinds[:count] + [PLAIN] * (count - len(kinds))
    chance.shuffle(kinds)
    return kinds


def _gtins(goods: Goods, members: dict[str, Member]) -> tuple[str, str]:
    return members[goods.maker].pack_gtin, members[goods.maker].case_gtin


def _goods(number: int, size: int, chance: random.Random, members: dict[str, Member]) -> Goods:
    maker, distributor = chance.choice(MANUFACTURERS), chance.choice(DISTRIBUTORS)
    pharmacy, neighbour = chance.sample(PHARMACIES, 2)
    member = members[maker]
    return Goods(
        number=number,
        maker=maker,
        pack_gtin=member.pack_gtin,
        distributor=distributor,
        pharmacy=pharmacy,
        neighbour=neighbour,
        lot=f"L{number // CASES_A_LOT:04d}",
        expiry="",
        case=f"/01/{member.case_gtin}/21/C{number:07d}",
        packs=tuple(f"/01/{member.pack_gtin}/21/P{number:07d}{offset:02d}" for offset in range(size)),
        tote=members[distributor].tote(number),
        sscc=members[distributor].sscc(number),
        now=0,
    )


def _script(goods: Goods, kind: str, *, comes_late: bool) -> Script:
    script = Script(goods, kind)
    if comes_late:
        arrival_before_data(script)
    else:
        (plain if kind == PLAIN else TROUBLES[kind])(script)
    return script


# --- what makers and distributors do with many deliveries at once ---


def _moment(wave: Wave, number: int) -> int:
    return DAY_OF[wave] * DAY + OPENING_S + number


def _pallets(scripts: Sequence[Script]) -> Iterator[tuple[int, list[Goods]]]:
    """Yield pallets: cases of one maker for one distributor."""
    found: dict[tuple[str, str], list[Goods]] = {}
    number = 0
    for script in scripts:
        way = (script.goods.maker, script.goods.distributor)
        found.setdefault(way, []).append(script.goods)
        if len(found[way]) == CASES_A_PALLET:
            yield number, found.pop(way)
            number += 1
    for goods in found.values():
        yield number, goods
        number += 1


def _making(scripts: Sequence[Script], wave: Wave, members: dict[str, Member]) -> Iterator[Chain]:
    if wave is Wave.MAKE:
        yield from _commissioning(scripts)
    elif wave is Wave.PACK_CASES:
        for script in scripts:
            goods = script.goods
            yield (Act(Verb.PACK, goods.maker, _moment(wave, goods.number), goods.packs, goods.case),)
    elif wave in {Wave.PACK_PALLETS, Wave.SHIP_PALLETS, Wave.RECEIVE_PALLETS}:
        for number, load in _pallets(scripts):
            yield _of_pallet(wave, number, load, members)


def _commissioning(scripts: Sequence[Script]) -> Iterator[Chain]:
    units: dict[tuple[str, str, str, str], list[str]] = {}
    for script in scripts:
        goods = script.goods
        for made in (goods.packs, (goods.case,)):
            key = (goods.maker, gtin_of(made[0]), goods.lot, goods.expiry)
            units.setdefault(key, []).extend(made)
    number = 0
    for (maker, _, lot, expiry), named in units.items():
        for first in range(0, len(named), SERIALS_A_CALL):
            chosen = tuple(named[first : first + SERIALS_A_CALL])
            yield (Act(Verb.COMMISSION, maker, _moment(Wave.MAKE, number), chosen, lot=lot, expiry=expiry),)
            number += 1


def _of_pallet(wave: Wave, number: int, load: list[Goods], members: dict[str, Member]) -> Chain:
    maker, distributor = load[0].maker, load[0].distributor
    pallet, at = members[maker].sscc(number), _moment(wave, number)
    if wave is Wave.PACK_PALLETS:
        return (Act(Verb.PACK, maker, at, tuple(goods.case for goods in load), pallet),)
    if wave is Wave.SHIP_PALLETS:
        return (Act(Verb.SHIP, maker, at, (pallet,), to=distributor, name=f"pallet {number}"),)
    return (
        Act(Verb.RECEIVE, distributor, at, (pallet,)),
        Act(Verb.UNPACK, distributor, at + DAY, (), pallet),
    )
