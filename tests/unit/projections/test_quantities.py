from datetime import timedelta
from decimal import Decimal
from typing import Any

from ledger.projections.quantities import LotReplay
from ledger.projections.replay import Replay
from medtrail.epcis.model import Action, EventType, QuantityElement
from tests.unit.projections.story import (
    CASE,
    LGTIN,
    MAKER,
    OUTSIDE,
    PALLET,
    PHARMACY,
    START,
    WHOLESALER,
    Story,
    path,
    quantity,
)


def _where(story: Story, **how: Any) -> set[tuple[str, str, str, str | None]]:
    world, directory = story.world(), story.directory()
    lot = LotReplay(path(LGTIN), world, directory)
    Replay(world, directory, **how).run(lot)
    return {
        (item.unit_class.value, item.holder, item.destination, None if item.quantity is None else str(item.quantity))
        for item in lot.beliefs()
    }


def _made(story: Story, amount: str = "100") -> None:
    story.tell(MAKER, action=Action.ADD, biz_step="commissioning", quantity_list=(quantity(amount),))


def test_commissioned_quantity_is_never_zero(story: Story) -> None:
    _made(story)
    assert _where(story) == {("unaccounted", MAKER, "", "100")}


def test_shipped_received_and_dispensed_quantities_are_told_apart(story: Story) -> None:
    _made(story)
    story.ship(quantity_list=(quantity("60"),))
    assert _where(story) == {("unaccounted", MAKER, "", "40"), ("in_transit", MAKER, WHOLESALER, "60")}
    story.receive(quantity_list=(quantity("50"),))
    story.dispense(actor=WHOLESALER, quantity_list=(quantity("20.5"),))
    assert _where(story) == {
        ("unaccounted", MAKER, "", "40"),
        ("in_transit", MAKER, WHOLESALER, "10"),
        ("on_hand", WHOLESALER, "", "29.5"),
        ("dispensed", WHOLESALER, "", "20.5"),
    }


def test_quantity_missing_in_a_case_stays_on_its_way(story: Story) -> None:
    _made(story)
    story.put(CASE, child_quantity_list=(quantity("60"),))
    story.ship(CASE)
    story.miss(CASE, actor=WHOLESALER, child_quantity_list=(quantity("10"),))
    story.receive(CASE)
    wanted = {
        ("unaccounted", MAKER, "", "40"),
        ("in_transit", MAKER, WHOLESALER, "10"),
        ("on_hand", WHOLESALER, "", "50"),
    }
    assert _where(story) == wanted
    # What was never inside is missing nowhere, and no more is than was inside.
    story.miss(PALLET, actor=WHOLESALER, child_quantity_list=(quantity("10"),))
    story.miss(CASE, actor=WHOLESALER, child_quantity_list=(quantity("70"),))
    assert _where(story) == wanted


def test_quantity_seen_where_nothing_was_sent_is_counted_there(story: Story) -> None:
    story.receive(quantity_list=(quantity("7"),))
    assert _where(story) == {("on_hand", WHOLESALER, "", "7")}


def test_quantity_left_unsaid_is_answered_as_unsaid(story: Story) -> None:
    story.receive(quantity_list=(QuantityElement(LGTIN),))
    assert _where(story) == {("on_hand", WHOLESALER, "", None)}
    story.ship(actor=WHOLESALER, to=OUTSIDE, quantity_list=(QuantityElement(LGTIN),))
    assert _where(story) == {("left_network", WHOLESALER, OUTSIDE, None)}


def test_quantity_in_a_case_goes_with_the_pallet(story: Story) -> None:
    _made(story)
    story.put(CASE, child_quantity_list=(quantity("30"),))
    story.put(PALLET, CASE)
    story.ship(PALLET)
    assert _where(story) == {("unaccounted", MAKER, "", "70"), ("in_transit", MAKER, WHOLESALER, "30")}
    story.receive(PALLET)
    story.take_out(CASE, actor=WHOLESALER, child_quantity_list=(quantity("10"),))
    story.ship(CASE, actor=WHOLESALER, to=PHARMACY)
    assert _where(story) == {
        ("unaccounted", MAKER, "", "70"),
        ("on_hand", WHOLESALER, "", "10"),
        ("in_transit", WHOLESALER, PHARMACY, "20"),
    }


def test_emptied_container_leaves_its_quantity_loose(story: Story) -> None:
    _made(story)
    story.put(CASE, child_quantity_list=(quantity("30"),))
    story.ship(CASE)
    story.receive(CASE)
    story.take_out(CASE, actor=WHOLESALER)
    story.ship(CASE, actor=WHOLESALER, to=PHARMACY)
    assert ("on_hand", WHOLESALER, "", "30") in _where(story)


def test_filled_again_container_counts_what_is_in_it_now(story: Story) -> None:
    _made(story)
    story.put(CASE, child_quantity_list=(quantity("30"),))
    story.take_out(CASE, actor=MAKER)
    story.put(CASE, child_quantity_list=(quantity("5"),))
    story.put(CASE, action=Action.OBSERVE, child_quantity_list=(quantity("5"),))
    story.ship(CASE)
    assert _where(story) == {
        ("unaccounted", MAKER, "", "70"),
        ("at_maker", MAKER, "", "25"),
        ("in_transit", MAKER, WHOLESALER, "5"),
    }


def test_arrived_voided_and_returned_quantities(story: Story) -> None:
    _made(story)
    story.ship(quantity_list=(quantity("60"),))
    story.tell(MAKER, biz_step="void_shipping", quantity_list=(quantity("10"),))
    story.tell(WHOLESALER, biz_step="arriving", quantity_list=(quantity("20"),))
    story.tell(WHOLESALER, biz_step="loading", quantity_list=(quantity("20"),))
    assert _where(story) == {
        ("unaccounted", MAKER, "", "40"),
        ("at_maker", MAKER, "", "10"),
        ("in_transit", MAKER, WHOLESALER, "30"),
        ("delivered_unconfirmed", MAKER, WHOLESALER, "20"),
    }
    story.receive(actor=MAKER, disposition="returned", quantity_list=(quantity("50"),))
    assert ("returned", MAKER, "", "50") in _where(story)


def test_declared_and_later_quantities_do_not_count(story: Story) -> None:
    _made(story)
    story.ship(quantity_list=(quantity("60"),))
    story.receive(quantity_list=(quantity("60"),))
    assert _where(story, true_time=START + timedelta(minutes=1)) == {("unaccounted", MAKER, "", "100")}
    story.declare(story.told[2][0])
    assert ("in_transit", MAKER, WHOLESALER, "60") in _where(story)


def test_units_of_measure_are_not_added_up(story: Story) -> None:
    kilograms = QuantityElement(LGTIN, Decimal("2.50"), "KGM")
    story.receive(quantity_list=(quantity("7"), quantity("3"), kilograms))
    assert _where(story) == {("on_hand", WHOLESALER, "", "10"), ("on_hand", WHOLESALER, "", "2.50")}


def test_more_ways_of_a_quantity(story: Story) -> None:
    _made(story)
    story.put(CASE, child_quantity_list=(quantity("30"),))
    story.put(CASE, child_quantity_list=(QuantityElement(LGTIN),))
    story.take_out(PALLET, actor=MAKER, child_quantity_list=(quantity("1"),))
    story.ship(quantity_list=(quantity("500"),))
    assert _where(story) == {("at_maker", MAKER, "", None), ("in_transit", MAKER, WHOLESALER, "500")}


def test_quantity_of_an_unsaid_amount_unpacked_leaves_none_inside(story: Story) -> None:
    story.put(CASE, child_quantity_list=(quantity("30"),), actor=WHOLESALER)
    story.take_out(CASE, actor=WHOLESALER, child_quantity_list=(QuantityElement(LGTIN),))
    assert _where(story) == {("on_hand", WHOLESALER, "", None)}


def test_consumed_quantity_and_its_product(story: Story) -> None:
    _made(story)
    story.tell(
        MAKER,
        type=EventType.TRANSFORMATION,
        action=None,
        biz_step="repackaging",
        input_quantity_list=(quantity("40"),),
    )
    assert _where(story) == {("unaccounted", MAKER, "", "60"), ("consumed", MAKER, "", "40")}
