"""What more than one look at, in the truth and in the world: lots on hold, two persons, talk about a case, samples."""

import tomllib
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from medtrail.simulation.network import FOUR_EYES, PERSONS, WITH_FOUR_EYES, holds_toml, members
from medtrail.simulation.run import calendar_of
from medtrail.simulation.truth.house import RefusedError
from medtrail.simulation.truth.samples import Sample, Samples
from medtrail.simulation.truth.talks import REPORT, RESPONSE, Talk
from medtrail.simulation.world import World, make_world

PACKS = frozenset({"a", "b", "c"})


@pytest.fixture(scope="module")
def world() -> World:
    calendar = calendar_of(datetime(2026, 6, 15, 15, tzinfo=UTC))
    return make_world(12_000, seed=1, members=members(), calendar=calendar)


# --- the world ---


def test_lot_that_is_held_is_of_one_delivery_alone(world: World) -> None:
    lots = Counter(script.goods.lot for script in world.scripts)
    held = [script.goods.lot for script in world.scripts if script.trouble == "lot_held"]
    assert held
    assert {lots[lot] for lot in held} == {1}


def test_two_persons_release_where_the_house_wants_two(world: World) -> None:
    where = {script.goods.pharmacy for script in world.scripts if script.trouble == "released_by_two"}
    assert where == {WITH_FOUR_EYES}


def test_one_house_alone_has_rules_of_its_own() -> None:
    rules = {name: holds_toml(member.party) for name, member in members().items()}
    assert [name for name, text in rules.items() if text] == [WITH_FOUR_EYES]
    assert tomllib.loads(rules[WITH_FOUR_EYES]) == {"four_eyes": [*FOUR_EYES], "persons": dict.fromkeys(PERSONS, "")}


# --- samples ---


@pytest.mark.parametrize(("share", "size"), [("0", 0), ("0.001", 1), ("0.25", 1), ("0.34", 2), ("0.5", 2), ("1", 3)])
def test_sample_is_the_share_rounded_up(share: str, size: int) -> None:
    assert Sample.draw(PACKS, Decimal(share)).size == size


def test_delivery_is_not_closed_before_its_samples_are_scanned() -> None:
    samples = Samples(Decimal("0.5"))
    samples.seal("case", PACKS)
    with pytest.raises(RefusedError, match="SAMPLE_INCOMPLETE"):
        samples.finish({"case"}, missing=False)
    assert samples.take({"case"}) == 2
    assert samples.finish({"case"}, missing=False) == frozenset()


def test_container_stands_for_nothing_when_a_sample_is_missing() -> None:
    samples = Samples(Decimal(1))
    samples.seal("case", PACKS)
    assert samples.finish({"case", "a", "b"}, missing=True) == PACKS


def test_container_stands_for_nothing_when_something_in_it_is_wrong() -> None:
    samples = Samples(Decimal("0.5"))
    samples.seal("case", PACKS)
    samples.seal("other", frozenset({"d"}))
    samples.fail({"case"})
    assert samples.take(set()) == 1
    assert samples.finish(set(), missing=False) == PACKS


# --- talk about a case ---


def test_answer_stands_until_something_else_is_asked_for() -> None:
    talk = Talk("pharmacy", "wholesaler", "SHORTAGE", ("a", "b"))
    talk.report("SEND_PRODUCT")
    talk.answer, talk.offered = False, "CREDIT_ACCOUNT"
    talk.say(RESPONSE)
    talk.report("SEND_PRODUCT")
    assert talk.words("pharmacy", resolved=False)["items"] == ", ".join(["SEND_PRODUCT no CREDIT_ACCOUNT"] * 2)
    talk.report("CREDIT_ACCOUNT")
    words = talk.words("wholesaler", resolved=False)
    assert (words["state"], words["items"], words[REPORT]) == ("proposed", "CREDIT_ACCOUNT, CREDIT_ACCOUNT", "3")


@pytest.mark.parametrize(("reported", "state"), [(True, "resolved"), (False, "open")])
def test_partner_hears_of_the_end_of_what_was_reported_to_it(reported: bool, state: str) -> None:
    talk = Talk("pharmacy", "wholesaler", "SHORTAGE", ("a",))
    if reported:
        talk.report("SEND_PRODUCT")
    assert talk.words("pharmacy", resolved=True)["state"] == "resolved"
    assert talk.words("wholesaler", resolved=True)["state"] == state
