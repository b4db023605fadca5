"""The world follows from its seed, and every trouble is common in it."""

from datetime import UTC, datetime

import pytest

from medtrail.simulation.acts import Verb
from medtrail.simulation.network import Member, members, network_toml
from medtrail.simulation.run import calendar_of, scanned_of, start_of, zone_hours
from medtrail.simulation.script import LENGTH_DAYS
from medtrail.simulation.troubles import PLAIN, TROUBLES
from medtrail.simulation.truth.model import Truth
from medtrail.simulation.world import LEAST_SHARE, World, make_world

CALENDAR = calendar_of(datetime(2026, 6, 15, 15, tzinfo=UTC))
MEMBERS: dict[str, Member] = members()


def _world(packs: int, seed: int = 1, *, late: bool = False) -> World:
    return make_world(packs, seed=seed, members=MEMBERS, calendar=CALENDAR, late=late)


def test_same_seed_makes_the_same_world() -> None:
    assert _world(600).waves == _world(600).waves
    assert _world(600, 2).waves != _world(600).waves


@pytest.mark.parametrize("packs", [240, 600, 5000])
def test_every_trouble_is_common_in_worlds_of_every_size(packs: int) -> None:
    world = _world(packs)
    assert world.packs >= packs
    shares = world.shares
    assert shares.keys() == {PLAIN, *TROUBLES}
    assert min(shares[kind] for kind in TROUBLES) >= LEAST_SHARE * len(world.scripts)


def test_many_packs_go_in_full_cases() -> None:
    world = _world(5000)
    assert {len(script.goods.packs) for script in world.scripts} == {48}


@pytest.mark.parametrize("late", [False, True])
def test_truth_takes_in_every_act_of_a_world(late: bool) -> None:
    world = _world(600, late=late)
    truth = Truth([member.party for member in MEMBERS.values()], start=CALENDAR.start, today=CALENDAR.now)
    answers = [truth.do(act) for wave in world.waves for chain in wave for act in chain]
    assert {"", "UNIT_ON_HOLD", "UNIT_FINAL", "UNDO_LATE", "UNDO_FINAL", "UNIT_RECALLED", "UNIT_OPENED"} <= {*answers}
    ground = truth.ground()
    packs = {unit for script in world.scripts for unit in script.goods.packs}
    assert packs <= ground.facts.keys()
    # Whoever holds a pack has it in the house, and no other house has it on its shelf.
    shelves = [
        unit for house in truth.houses.values() for unit, item in house.entries.items() if item.state == "on_hand"
    ]
    twice = {unit for unit in shelves if shelves.count(unit) > 1} & packs
    assert not twice


def test_late_data_come_after_the_goods_of_some_plain_deliveries() -> None:
    kinds = [script.acts[0][1].verb for script in _world(600, late=True).scripts if script.trouble == PLAIN]
    assert {*kinds} > {Verb.SHIP}


def test_no_act_is_dated_ahead() -> None:
    acts = [act for wave in _world(600).waves for chain in wave for act in chain]
    assert max(act.at for act in acts) <= CALENDAR.now + 60


def test_scans_are_of_every_trouble_and_of_some_plain_deliveries() -> None:
    world = _world(12000)
    scanned = {goods.number for _, part in scanned_of(world) for goods in part}
    troubles = {script.goods.number for script in world.scripts if script.trouble != PLAIN}
    assert troubles < scanned
    assert len(scanned - troubles) == 50


@pytest.mark.parametrize("hour", range(24))
def test_last_day_is_over_in_the_east_and_not_in_the_west(hour: int) -> None:
    now = datetime(2026, 6, 15, hour, 30, tzinfo=UTC)
    calendar = calendar_of(now)
    west = zone_hours(now)
    truth = Truth([], start=calendar.start, today=calendar.now)
    last = calendar.last_day.isoformat()
    assert truth.day(calendar.now - west * 3600) == last
    assert truth.day(calendar.now + 14 * 3600) > last
    # At least half an hour is left before the west begins another day.
    assert truth.day(calendar.now - west * 3600 + 1800) == last


def test_simulation_ends_by_now() -> None:
    now = datetime(2026, 6, 15, 15, tzinfo=UTC)
    assert (now - start_of(now)).days == LENGTH_DAYS


def test_network_has_makers_distributors_and_pharmacies() -> None:
    text = network_toml()
    assert [text.count(f'role = "{role}"') for role in ("manufacturer", "distributor", "pharmacy")] == [2, 2, 4]
