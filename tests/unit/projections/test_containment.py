"""What is in what over time, and when a unit that is told of alone leaves its container (docs/custody-rules.md)."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from ledger.projections.quantities import LotReplay
from ledger.projections.replay import Replay
from medtrail.epcis.model import Action, EventType
from tests.unit.projections.story import (
    CASE,
    CASE_GTIN,
    CASE_UNIT,
    LGTIN,
    MAKER,
    OTHER,
    PALLET,
    PHARMACY,
    START,
    TOTE,
    WHOLESALER,
    Story,
    pack,
    path,
    quantity,
)

ONE, TWO = pack("1"), pack("2")
ALONE = {"PARENT_NOT_UNPACKED"}


@pytest.fixture
def packed(story: Story) -> Story:
    """Two packs in a case on a pallet at the maker; minute 4."""
    story.commission(ONE, TWO)
    story.put(CASE, ONE, TWO)
    story.put(PALLET, CASE)
    story.tell(MAKER, epc_list=(PALLET,), biz_step="storing")
    return story


# --- aggregations ---


def test_observed_together_is_not_packed(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE, action=Action.OBSERVE, biz_step="inspecting")
    assert (story.belief(ONE).parent, story.codes(ONE)) == ("", set())


def test_partial_view_of_a_case_takes_nothing_out_and_a_wrong_one_moves_nothing(packed: Story) -> None:
    packed.put(CASE, ONE, action=Action.OBSERVE, biz_step="inspecting")
    packed.put(PALLET, TWO, action=Action.OBSERVE, biz_step="inspecting")
    assert (packed.belief(ONE).parent, packed.belief(TWO).parent) == (path(CASE), path(CASE))
    assert packed.codes(ONE) | packed.codes(TWO) == set()


def test_unpacking_from_the_pallet_takes_a_pack_out_of_its_case_too(packed: Story) -> None:
    packed.take_out(PALLET, ONE, actor=MAKER)
    assert (packed.belief(ONE).containers, packed.codes(ONE)) == ((), ALONE)
    assert packed.belief(TWO).parent == path(CASE)


def test_unpacking_all_takes_cases_out_with_what_they_hold(packed: Story) -> None:
    packed.take_out(PALLET, actor=MAKER)
    assert packed.belief(CASE).parent == ""
    assert [container.path for container in packed.belief(ONE).containers] == [path(CASE)]


# --- missing ---


def test_pack_missing_in_a_case_that_came_stays_on_its_way(packed: Story) -> None:
    packed.ship(PALLET, at=10)
    packed.miss(CASE, ONE, actor=WHOLESALER, at=20)
    packed.receive(PALLET, at=20)
    before = packed.belief(ONE, true_time=START + timedelta(minutes=15))
    assert packed.belief(ONE) == replace(before, containers=())
    assert (before.unit_class, before.holder, before.destination) == ("in_transit", MAKER, WHOLESALER)
    assert [step.fact.disposition for step in packed.replay(traced=path(ONE)).steps(path(ONE))][-1] == "unknown"
    assert (packed.belief(TWO).holder, packed.belief(TWO).parent, packed.belief(CASE).parent) == (
        WHOLESALER,
        path(CASE),
        path(PALLET),
    )
    assert packed.codes(ONE) | packed.codes(TWO) | packed.codes(CASE) == set()


def test_missing_case_is_on_its_way_with_what_is_in_it_until_it_comes(packed: Story) -> None:
    packed.ship(PALLET)
    packed.miss(PALLET, CASE, actor=WHOLESALER)
    packed.receive(PALLET)
    assert (packed.belief(CASE).unit_class, packed.belief(ONE).unit_class) == ("in_transit", "in_transit")
    assert packed.belief(ONE).parent == path(CASE)
    packed.receive(CASE)
    assert (packed.belief(CASE).holder, packed.belief(ONE).holder) == (WHOLESALER, WHOLESALER)
    assert packed.codes(CASE) | packed.codes(ONE) == set()


def test_pack_missing_where_it_is_held_is_held_there_still(packed: Story) -> None:
    before = packed.belief(ONE)
    packed.miss(CASE, ONE, actor=MAKER)
    assert packed.belief(ONE) == replace(before, containers=())


def test_who_misses_a_pack_has_not_used_it(packed: Story) -> None:
    packed.miss(CASE, pack("nobody's"), actor=WHOLESALER)
    assert packed.replay().belief(path(pack("nobody's"))) is None
    packed.dispense(ONE, actor=MAKER)
    packed.miss(CASE, ONE, actor=WHOLESALER)
    assert packed.belief(ONE).ending == "dispensed"
    assert "USED_AFTER_END" not in packed.codes(ONE)


@pytest.mark.parametrize(
    "words",
    [
        {"disposition": "in_progress"},
        {"disposition": None},
        {"action": Action.OBSERVE, "biz_step": "inspecting", "disposition": "unknown"},
    ],
)
def test_not_missing_by_other_words(packed: Story, words: dict[str, Any]) -> None:
    packed.ship(CASE)
    packed.put(CASE, ONE, actor=WHOLESALER, **{"action": Action.DELETE, "biz_step": "unpacking", **words})
    assert (packed.belief(ONE).unit_class, packed.belief(ONE).holder) == ("on_hand", WHOLESALER)


def test_emptying_a_case_misses_nothing(packed: Story) -> None:
    packed.ship(CASE)
    packed.miss(CASE, actor=WHOLESALER)
    assert {packed.belief(unit).holder for unit in (CASE, ONE, TWO)} == {WHOLESALER}


# --- alone ---


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ({"biz_step": "dispensing", "disposition": "dispensed"}, True),
        ({"biz_step": "dispensing", "disposition": "partially_dispensed"}, True),
        ({"biz_step": "destroying", "disposition": "destroyed"}, True),
        ({"biz_step": "shipping"}, True),
        ({"biz_step": "void_shipping"}, False),
        ({"biz_step": "inspecting"}, False),
        ({"biz_step": "holding", "disposition": "non_sellable_other"}, False),
        ({"biz_step": "receiving"}, False),
        ({"biz_step": "arriving"}, False),
        ({"biz_step": "sensor_reporting"}, False),
        ({"biz_step": "transporting"}, False),
    ],
)
def test_event_by_the_holder_takes_out_only_what_cannot_be_inside(
    packed: Story, words: dict[str, Any], out: bool
) -> None:
    packed.tell(MAKER, epc_list=(ONE,), **words)
    assert packed.codes(ONE) == (ALONE if out else set())
    assert (packed.belief(ONE).parent == "") is out
    assert packed.belief(TWO).parent == path(CASE)


def test_what_is_taken_out_takes_its_contents_along(packed: Story) -> None:
    packed.ship(CASE)
    assert (packed.codes(CASE), packed.codes(ONE)) == (ALONE, set())
    assert packed.belief(ONE).unit_class == "in_transit"
    assert [container.path for container in packed.belief(ONE).containers] == [path(CASE)]
    assert (packed.belief(PALLET).unit_class, packed.belief(PALLET).holder) == ("on_hand", MAKER)


@pytest.mark.parametrize("beside", [CASE, PALLET])
def test_event_that_names_a_container_at_any_depth_is_not_of_the_pack_alone(packed: Story, beside: str) -> None:
    packed.ship(ONE, beside)
    assert packed.belief(ONE).parent == path(CASE)
    assert "PARENT_NOT_UNPACKED" not in packed.codes(ONE)


@pytest.mark.parametrize("first", [ONE, PALLET])
def test_one_doing_told_in_two_events_is_one(packed: Story, first: str) -> None:
    second = PALLET if first == ONE else ONE
    packed.ship(first, at=10)
    packed.ship(second, at=10)
    assert (packed.codes(ONE), packed.belief(ONE).parent) == (set(), path(CASE))


def test_end_of_case_and_contents_told_at_once_is_one_end(packed: Story) -> None:
    packed.end(ONE, actor=MAKER, at=10)
    packed.end(PALLET, actor=MAKER, at=10)
    assert (packed.codes(ONE), packed.belief(ONE).ending) == (set(), "decommissioned")
    assert packed.codes(TWO) == set()


def test_contents_received_with_or_after_their_pallet_were_seen_inside(packed: Story) -> None:
    packed.ship(PALLET)
    packed.receive(PALLET, ONE)
    packed.receive(TWO)
    assert packed.codes(ONE) | packed.codes(TWO) == set()
    assert (packed.belief(TWO).parent, packed.belief(TWO).evidence) == (path(CASE), "scanned")


def test_pack_received_while_its_pallet_is_on_its_way_came_without_it(packed: Story) -> None:
    packed.ship(PALLET)
    packed.receive(ONE)
    assert (packed.codes(ONE), packed.belief(ONE).parent, packed.belief(ONE).holder) == (ALONE, "", WHOLESALER)
    packed.receive(PALLET)
    assert packed.belief(TWO).containers != ()


@pytest.mark.parametrize(("actor", "out"), [(WHOLESALER, False), (PHARMACY, True)])
def test_pack_at_the_door_is_in_its_pallet_where_that_is_sent(packed: Story, actor: str, out: bool) -> None:
    packed.ship(PALLET)
    packed.tell(actor, epc_list=(ONE,), biz_step="arriving")
    assert packed.codes(ONE) == (ALONE if out else set())


def test_void_of_one_pack_leaves_the_pallet_on_its_way(packed: Story) -> None:
    packed.ship(PALLET)
    packed.tell(MAKER, epc_list=(ONE,), biz_step="void_shipping")
    assert (packed.codes(ONE), packed.belief(ONE).unit_class) == (ALONE, "at_maker")
    assert packed.belief(TWO).unit_class == "in_transit"


def test_unpacking_a_case_of_a_pallet_on_its_way_takes_the_case_off_the_pallet(packed: Story) -> None:
    packed.ship(PALLET)
    packed.take_out(CASE, ONE, actor=WHOLESALER)
    assert (packed.codes(CASE), packed.codes(ONE), packed.codes(TWO)) == (ALONE, set(), set())
    assert (packed.belief(ONE).parent, packed.belief(TWO).holder) == ("", WHOLESALER)


def test_senders_word_that_one_pack_was_received_takes_nothing_out(packed: Story) -> None:
    packed.ship(PALLET)
    packed.receive(ONE, signer=MAKER)
    assert (packed.codes(ONE), packed.belief(ONE).parent) == (set(), path(CASE))


def test_declared_event_took_nothing_out(packed: Story) -> None:
    shipped = packed.ship(ONE)
    packed.declare(shipped)
    assert (packed.codes(ONE), packed.belief(ONE).parent) == (set(), path(CASE))


def test_commissioning_recorded_after_packing_takes_nothing_out(story: Story) -> None:
    story.put(CASE, ONE)
    story.commission(ONE)
    assert (story.codes(ONE), story.belief(ONE).parent) == (set(), path(CASE))


def test_association_takes_nothing_out(packed: Story) -> None:
    packed.tell(OTHER, type=EventType.ASSOCIATION, action=Action.ADD, parent_id=TOTE, child_epcs=(ONE,))
    assert packed.belief(ONE).parent == path(CASE)


def test_case_received_a_little_before_its_pallets_despatch_is_answered_with_its_contents(packed: Story) -> None:
    packed.receive(CASE, at=9)
    packed.ship(PALLET, at=10)
    assert packed.codes(CASE) == ALONE
    assert (packed.belief(ONE).holder, packed.codes(ONE)) == (WHOLESALER, set())
    assert packed.belief(PALLET).unit_class == "in_transit"


# --- totes ---


def test_fillings_of_a_tote_never_mix_and_the_past_shows_the_right_one(story: Story) -> None:
    story.commission(ONE, TWO, at=1)
    story.put(TOTE, ONE, at=2)
    story.ship(TOTE, at=3)
    story.receive(TOTE, at=4)
    story.take_out(TOTE, actor=WHOLESALER, at=5)
    story.ship(TOTE, actor=WHOLESALER, to=MAKER, at=6)
    story.receive(TOTE, actor=MAKER, at=7)
    story.put(TOTE, TWO, at=8)
    story.ship(TOTE, at=9)
    assert (story.belief(ONE).holder, story.belief(ONE).parent) == (WHOLESALER, "")
    assert (story.belief(TWO).unit_class, story.belief(TWO).parent) == ("in_transit", path(TOTE))
    then = START + timedelta(minutes=4)
    assert story.belief(ONE, true_time=then).parent == path(TOTE)
    assert [item.path for item in story.replay(true_time=then).contents(path(TOTE))] == [path(ONE)]
    assert [item.path for item in story.replay().contents(path(TOTE))] == [path(TWO)]
    assert story.codes(ONE) | story.codes(TWO) | story.codes(TOTE) == set()


def test_tote_that_nobody_unpacked_is_empty_when_it_is_filled_after_it_changed_hands(story: Story) -> None:
    story.commission(ONE, TWO)
    story.put(TOTE, ONE)
    story.ship(TOTE)
    story.receive(TOTE)
    story.put(TOTE, TWO, actor=WHOLESALER)
    story.ship(TOTE, actor=WHOLESALER, to=PHARMACY)
    assert (story.belief(ONE).holder, story.belief(ONE).unit_class, story.codes(ONE)) == (WHOLESALER, "on_hand", ALONE)


def test_tote_filled_in_several_goes_by_one_holder_is_one_filling(story: Story) -> None:
    story.commission(ONE, TWO)
    story.put(TOTE, ONE)
    story.put(TOTE, TWO)
    story.ship(TOTE)
    assert (story.belief(ONE).unit_class, story.codes(ONE)) == ("in_transit", set())


def test_tote_whose_despatch_was_void_goes_on_being_filled(story: Story) -> None:
    story.commission(ONE, TWO)
    story.put(TOTE, ONE)
    story.ship(TOTE)
    story.tell(MAKER, epc_list=(TOTE,), biz_step="void_shipping")
    story.put(TOTE, TWO)
    assert (story.belief(ONE).parent, story.belief(TWO).parent) == (path(TOTE), path(TOTE))


def test_quantity_left_in_a_tote_stays_where_the_tote_was_filled_anew(story: Story) -> None:
    story.tell(MAKER, action=Action.ADD, biz_step="commissioning", quantity_list=(quantity("30"),))
    story.put(TOTE, child_quantity_list=(quantity("30"),))
    story.ship(TOTE)
    story.receive(TOTE)
    story.commission(TWO)
    story.put(TOTE, TWO, actor=WHOLESALER)
    story.ship(TOTE, actor=WHOLESALER, to=PHARMACY)
    world, directory = story.world(), story.directory()
    lot = LotReplay(path(LGTIN), world, directory)
    Replay(world, directory).run(lot)
    (belief,) = lot.beliefs()
    assert (belief.unit_class, belief.holder, belief.quantity) == ("on_hand", WHOLESALER, Decimal(30))


# --- cases ---


def test_homogeneous_case_is_a_trade_item_with_gtin_lot_and_expiry_of_its_own(story: Story) -> None:
    story.commission(ONE, TWO)
    story.commission(CASE_UNIT, lot="C7")
    story.put(CASE_UNIT, ONE, TWO)
    story.ship(CASE_UNIT)
    belief = story.belief(CASE_UNIT)
    assert (belief.lot, belief.unit_class, story.codes(CASE_UNIT)) == ("C7", "in_transit", set())
    assert (story.belief(ONE).lot, story.belief(ONE).containers[0].lot) == ("A123", "C7")
    assert CASE_GTIN in belief.unit


def test_mixed_case_is_a_logistic_unit_that_nobody_commissions(story: Story) -> None:
    story.commission(ONE)
    story.commission(TWO, lot="B7")
    story.put(CASE, ONE, TWO)
    story.ship(CASE)
    assert (story.belief(CASE).lot, story.belief(CASE).has_origin, story.codes(CASE)) == ("", True, set())
