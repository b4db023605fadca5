"""The truth model answers hand-written days as their author did."""

from datetime import UTC, datetime
from typing import Any

import pytest

from medtrail.simulation.network import members
from medtrail.simulation.run import calendar_of
from medtrail.simulation.truth.ground import Ground
from medtrail.simulation.truth.model import Truth
from tests.unit.simulation.day import PARTIES, Day, entry_words, fact_words, read_days

DAYS = read_days()
CALENDAR = calendar_of(datetime(2026, 6, 15, 15, tzinfo=UTC))


@pytest.fixture
def truth() -> Truth:
    return Truth([member.party for member in members().values()], start=CALENDAR.start, today=CALENDAR.now)


def _tell(truth: Truth, day: Day) -> None:
    for act in (act for hour in day.hours for act in hour):
        assert truth.do(act) == day.given[id(act)], act


def _answer(truth: Truth, ground: Ground, day: Day, *, kind: str, party: str, name: str) -> str:
    unit = day.goods.path(name)
    if kind == "ledger":
        return fact_words(ground.facts.get(unit), day.goods)
    house = truth.houses[PARTIES[party]]
    if kind == "books":
        return entry_words(house.entries.get(unit), day.goods)
    if kind == "exceptions":
        return " ".join(f"{code} {state}" for code, about, state in house.exceptions() if about == unit)
    if kind == "alerts":
        return " ".join(sorted(code for code, about in house.alerts if about == unit))
    (label,) = {(act.lot, act.expiry) for hour in day.hours for act in hour if act.verb == "commission"}
    return truth.verdict(unit, who=house.name, lot=label[0], expiry=label[1], ground=ground)


def test_there_are_days() -> None:
    assert len(DAYS) >= 13


@pytest.mark.parametrize("day", DAYS, ids=lambda day: day.name)
def test_truth_answers_a_day_as_its_author_did(truth: Truth, day: Day) -> None:
    _tell(truth, day)
    ground = truth.ground()
    found: dict[tuple[str, str], Any] = {
        (kind, party): {name: _answer(truth, ground, day, kind=kind, party=party, name=name) for name in answers}
        for (kind, party), answers in day.answers.items()
    }
    assert found == dict(day.answers)
