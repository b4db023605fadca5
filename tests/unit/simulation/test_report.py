"""What a simulation tells: shares, differences with their stories, and whether all is well."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from medtrail.cli.simulate import drawn_bars
from medtrail.simulation.comparison import Comparison
from medtrail.simulation.network import members
from medtrail.simulation.report import SHOWN, Report
from medtrail.simulation.run import calendar_of
from medtrail.simulation.world import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(600, seed=1, members=members(), calendar=calendar_of(datetime(2026, 6, 15, 15, tzinfo=UTC)))


def _drawn(report: Report) -> str:
    text = io.StringIO()
    report.draw(Console(file=text, width=200))
    return text.getvalue()


def test_all_is_well_when_nothing_differs(world: World) -> None:
    comparison = Comparison()
    comparison.note("holdings", "books of a", "/01/1/21/2", so="x", answered="x")
    report = Report(world, comparison, 1, 400, {"make": 2.0}, kills={"ledger": 2})
    assert (report.ok, report.document()["ok"], report.document()["compared"]) == (True, True, {"holdings": 1})
    text = _drawn(report)
    assert "no difference" in text
    assert "killed: ledger 2 times" in text


def test_difference_is_told_with_the_whole_story_of_its_pack(world: World) -> None:
    script = next(script for script in world.scripts if script.trouble == "overage")
    pack = script.goods.packs[0]
    comparison = Comparison()
    comparison.note_all(
        "holdings", "books of b", so={pack: {"state": "a", "in": "b"}}, answered={pack: {"state": "c", "in": "b"}}
    )
    report = Report(world, comparison, 1, 400, {})
    assert not report.ok
    (told,) = report.document()["differences"]
    assert (told["trouble"], told["so"], told["answered"]) == ("overage", "state a", "state c")
    story = "\n".join(told["story"])
    # Also what was done to the case and the pallet while it was inside.
    assert [word in story for word in ("commission", "pack", "ship", "unpack", "scan delivery")] == [True] * 5
    assert pack in _drawn(report)


def test_unit_that_one_side_does_not_know_differs(world: World) -> None:
    comparison = Comparison()
    comparison.note_all("holdings", "books of b", so={"/x": {"state": "a"}}, answered={})
    (found,) = comparison.differences
    assert (found.so, found.answered) == ("state a", "nothing")


def test_first_fifty_differences_are_told(world: World) -> None:
    comparison = Comparison()
    for number in range(SHOWN + 7):
        comparison.note("holdings", "books of b", f"/x/{number}", so="a", answered="b")
    document = Report(world, comparison, 1, 400, {}).document()
    assert (document["difference_count"], len(document["differences"])) == (SHOWN + 7, SHOWN)


def test_rare_trouble_is_a_failure_of_the_run(world: World) -> None:
    plain = tuple(script for script in world.scripts if script.trouble == "plain")
    rare = next(script for script in world.scripts if script.trouble == "shortage")
    report = Report(World((), plain * 8 + (rare,), ()), Comparison(), 1, 0, {})
    assert (report.rare, report.ok) == (("shortage",), False)
    assert "too rare" in _drawn(report)


def test_progress_is_one_line_a_phase_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    with drawn_bars(Console(file=text)) as tell:
        for done in (1, 2, 3):
            tell("make", done, 3)
    assert text.getvalue() == "make: 3\n"


def test_progress_is_a_bar_with_speed_on_a_terminal() -> None:
    text = io.StringIO()
    with drawn_bars(Console(file=text, force_terminal=True, width=120)) as tell:
        tell("make", 1, 3)
        tell("make", 3, 3)
    assert "3/3" in text.getvalue()
