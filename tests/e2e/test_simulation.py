"""A world and hand-written days, played on one real network: it answers as the truth, and as their authors."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from medtrail.simulation.comparison import Comparer, Comparison
from medtrail.simulation.network import members
from medtrail.simulation.report import Report
from medtrail.simulation.run import Player, calendar_of, scanned_of
from medtrail.simulation.script import Goods, Wave
from medtrail.simulation.staging import network
from medtrail.simulation.troubles import TROUBLES
from medtrail.simulation.world import World, make_world
from tests.support.command import Run, run_command
from tests.unit.simulation.day import PARTIES, Day, book_words, ledger_words, read_days

PACKS, SEED = 600, 5


@dataclass(frozen=True)
class Played:
    """What was played, how it compares, and what the network answers to each day."""

    report: Report
    days: list[Day]
    answers: dict[str, dict[tuple[str, str], dict[str, str]]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("simulation")
    return asyncio.run(_play(folder))


@asynccontextmanager
async def _player(folder: Path) -> AsyncIterator[tuple[Player, World]]:
    now = datetime.now(UTC)
    calendar = calendar_of(now)
    world = make_world(PACKS, seed=SEED, members=members(), calendar=calendar)
    async with network(folder, seed=SEED, now=now) as (_, driver):
        yield Player(driver, calendar=calendar, progress=lambda _phase, _done, _total: None), world


async def _play(folder: Path) -> Played:
    days = read_days()
    hours = list(zip_longest(*(day.hours for day in days), fillvalue=()))
    async with _player(folder) as (player, world):
        for number, (wave, chains) in enumerate(zip(Wave, world.waves, strict=True)):
            # The days' hours are played beside the first waves: their goods meet nowhere.
            hour = hours[number] if number < len(hours) else ()
            await player.play_wave(wave, (*chains, *(chain for chain in hour if chain)), calm=asyncio.Lock())
        lots = sorted({*world.lots, *(lot for day in days for lot in day.lots)})
        await player.compare(lots, scanned_of(world))
        comparer = Comparer(player.driver, player.truth, Comparison())
        answers = {day.name: await _answers(player, comparer, day) for day in days}
        return Played(Report(world, player.comparison, SEED, player.acts, {}), days, answers)


async def _answers(player: Player, comparer: Comparer, day: Day) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for (kind, party), wanted in day.answers.items():
        who = PARTIES[party] if party else PARTIES["maker"]
        paths = {day.goods.path(name): name for name in wanted}
        found[kind, party] = await _asked(comparer, day, kind, who, paths)
    return found


async def _asked(comparer: Comparer, day: Day, kind: str, who: str, paths: Mapping[str, str]) -> dict[str, str]:
    if kind == "books":
        known = await comparer.held(who)
        return {name: book_words(known.get(path), day.goods) for path, name in paths.items()}
    if kind == "ledger":
        return {name: ledger_words(await comparer.believed(path, who=who), day.goods) for path, name in paths.items()}
    if kind == "scans":
        (label,) = {(act.lot, act.expiry) for hour in day.hours for act in hour if act.verb == "commission"}
        codes = await comparer.scanned(who, dict.fromkeys(paths, label))
        return {name: codes[path] for path, name in paths.items()}
    pairs = await (comparer.cases_of(who) if kind == "exceptions" else comparer.alerts_of(who))
    return {name: " ".join(sorted(code for code, unit in pairs if unit == path)) for path, name in paths.items()}


@pytest.mark.timeout(900)
def test_network_answers_as_the_truth_for_every_pack(played: Played) -> None:
    assert played.report.document()["differences"] == []


def test_every_kind_of_trouble_happens_to_one_delivery_in_a_hundred(played: Played) -> None:
    assert played.report.rare == ()
    assert played.report.shares.keys() >= TROUBLES.keys()


def test_network_answers_days_as_their_author_did(played: Played) -> None:
    wanted: dict[str, Any] = {day.name: dict(day.answers) for day in played.days}
    assert played.answers == wanted


def test_everything_is_compared(played: Played) -> None:
    compared = played.report.comparison.compared
    assert compared["acts"] == played.report.acts > 400
    assert compared["holdings"] > 3 * PACKS
    assert compared["units believed in lots"] > PACKS
    assert compared.keys() >= {"alerts of services", "exceptions", "verdicts", "units believed alone"}


def test_simulation_leaves_a_folder_alone_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    run: Run = run_command("--dir", str(tmp_path), "simulate")
    assert (run.code, "FOLDER_TAKEN" in run.errors) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_goods_of_two_deliveries_never_meet() -> None:
    world = make_world(PACKS, seed=SEED, members=members(), calendar=calendar_of(datetime(2026, 6, 1, tzinfo=UTC)))

    def own(goods: Goods) -> set[str]:
        return {*goods.packs, goods.case, goods.tote, goods.sscc}

    units = [unit for script in world.scripts for unit in own(script.goods)]
    assert len(units) == len(set(units))
