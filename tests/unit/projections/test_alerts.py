"""Every alert by what triggers it, and by what nearly does. Named after the codes; docs/custody-rules.md lists them."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.projections.belief import GRAVE_ALERTS, PROVISIONAL_ALERTS, SILENT_ALERTS, AlertCode
from ledger.projections.judging import Scan, judge
from medtrail.epcis.model import Action, EpcisEvent, EventType, Extension, Place
from medtrail.event import RecallScope
from medtrail.gs1 import Gtin
from tests.unit.projections.story import (
    CASE,
    CASE_UNIT,
    GTIN,
    MAKER,
    OTHER,
    OURS,
    PALLET,
    PHARMACY,
    START,
    TOTE,
    WHOLESALER,
    Story,
    pack,
    path,
    place,
)

ONE, TWO = pack("1"), pack("2")
DAY = 24 * 60.0
DOCS = Path(__file__).parents[3] / "docs" / "custody-rules.md"


@pytest.fixture
def stocked(story: Story) -> Story:
    """Two packs, at the pharmacy since minute 40 by way of the wholesaler."""
    story.commission(ONE, TWO, at=1)
    story.ship(ONE, TWO, at=10)
    story.receive(ONE, TWO, at=20)
    story.ship(ONE, TWO, actor=WHOLESALER, to=PHARMACY, at=30)
    story.receive(ONE, TWO, actor=PHARMACY, at=40)
    return story


def _verdict(story: Story, epc: str = ONE) -> str:
    return judge(Scan(path(epc), story.clock, caller=PHARMACY), story.belief(epc)).code.value


# --- the set ---


@pytest.mark.parametrize("code", AlertCode)
def test_each_code_is_tested_by_trigger_and_by_near_miss_and_documented(code: AlertCode) -> None:
    names = [name for name in globals() if name.startswith("test_")]
    assert any(name.startswith(f"test_{code.lower()}") for name in names)
    assert any(name.startswith(f"test_no_{code.lower()}") for name in names)
    assert f"\n| `{code}` |" in DOCS.read_text("utf-8")


def test_docs_name_no_alert_that_does_not_exist() -> None:
    table = DOCS.read_text("utf-8").partition("## Alerts of the ledger")[2].partition("\n## ")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert rows == [code.value for code in AlertCode]
    for line in table.splitlines():
        if line.startswith("| `"):
            code = AlertCode(line.split("`")[1])
            weight = line.split("|")[3].strip()
            expected = "provisional" if code in PROVISIONAL_ALERTS else "grave" if code in GRAVE_ALERTS else "certain"
            assert weight == expected, code
            assert ("told only" in line) == (code in SILENT_ALERTS), code


def test_no_alert_is_both_provisional_and_grave() -> None:
    assert not PROVISIONAL_ALERTS & GRAVE_ALERTS
    assert not GRAVE_ALERTS & SILENT_ALERTS


# --- commissioning ---


def test_second_commissioning(story: Story) -> None:
    story.commission(ONE)
    story.commission(ONE)
    assert story.codes(ONE) == {"SECOND_COMMISSIONING"}
    assert _verdict(story) == "suspect"


def test_no_second_commissioning_by_the_same_content_twice(story: Story) -> None:
    event = story.commission(ONE)
    story.sign(MAKER, event.statement, event_id="urn:uuid:00000000-0000-4000-8000-000000000001")
    assert story.codes(ONE) == set()


def test_commission_missing(story: Story) -> None:
    story.ship(ONE)
    assert story.codes(ONE) == {"COMMISSION_MISSING"}


@pytest.mark.parametrize("container", [CASE, TOTE])
def test_no_commission_missing_for_logistic_units_and_totes(story: Story, container: str) -> None:
    story.commission(ONE)
    story.put(container, ONE)
    story.ship(container)
    story.receive(container)
    assert story.codes(container) == set()


def test_commission_missing_for_a_case_that_is_a_trade_item(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE_UNIT, ONE)
    assert story.codes(CASE_UNIT) == {"COMMISSION_MISSING"}


def test_used_before_commissioning(story: Story) -> None:
    story.put(CASE, ONE, at=0)
    story.commission(ONE, at=DAY + 1)
    assert story.codes(ONE) == {"USED_BEFORE_COMMISSIONING"}


def test_no_used_before_commissioning_within_a_day(story: Story) -> None:
    story.put(CASE, ONE, at=0)
    story.commission(ONE, at=DAY)
    assert story.codes(ONE) == set()


def test_lot_conflict(story: Story) -> None:
    story.commission(ONE)
    story.commission(ONE, signer=WHOLESALER, lot="B7")
    story.ship(ONE)
    assert story.codes(ONE) == {"LOT_CONFLICT"}


def test_no_lot_conflict_with_a_copy_that_says_no_lot(story: Story) -> None:
    story.commission(ONE)
    story.commission(ONE, signer=WHOLESALER, lot="")
    story.ship(ONE)
    assert story.codes(ONE) == set()


def test_expiry_conflict(story: Story) -> None:
    story.commission(ONE)
    story.commission(ONE, signer=WHOLESALER, expiry=date(2030, 1, 1))
    story.ship(ONE)
    assert story.codes(ONE) == {"EXPIRY_CONFLICT"}


def test_no_expiry_conflict_between_copies_that_agree(story: Story) -> None:
    story.commission(ONE)
    story.commission(ONE, signer=WHOLESALER)
    story.ship(ONE)
    assert story.codes(ONE) == set()


def test_maker_conflict(story: Story) -> None:
    story.commission(ONE, signer=WHOLESALER)
    story.commission(ONE, actor=OTHER, signer=WHOLESALER)
    story.ship(ONE, signer=WHOLESALER)
    assert "MAKER_CONFLICT" in story.codes(ONE)


def test_no_maker_conflict_with_another_place_of_the_maker(story: Story) -> None:
    story.commission(ONE, signer=WHOLESALER)
    story.commission(ONE, actor="0300011111215", signer=WHOLESALER)
    story.ship(ONE, signer=WHOLESALER)
    assert story.codes(ONE) == set()


# --- who has it ---


def test_shipped_not_held(stocked: Story) -> None:
    stocked.ship(ONE, actor=OTHER, to=PHARMACY, at=50)
    assert "SHIPPED_NOT_HELD" in stocked.codes(ONE)


def test_no_shipped_not_held_by_the_consignee_that_did_not_record_its_receiving(story: Story) -> None:
    story.commission(ONE)
    story.ship(ONE)
    story.ship(ONE, actor=WHOLESALER, to=PHARMACY)
    assert story.codes(ONE) == set()


def test_received_not_shipped(story: Story) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, at=30)
    assert story.codes(ONE) == {"RECEIVED_NOT_SHIPPED"}


def test_no_received_not_shipped_once_the_late_despatch_is_there(story: Story) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, at=30)
    story.ship(ONE, at=10)
    assert story.codes(ONE) == set()


def test_ended_not_held(stocked: Story) -> None:
    stocked.dispense(ONE, actor=OTHER, at=50)
    assert stocked.codes(ONE) == {"ENDED_NOT_HELD"}


def test_no_ended_not_held_by_who_has_it(stocked: Story) -> None:
    stocked.dispense(ONE)
    assert stocked.codes(ONE) == set()


def test_duplicate_serial(story: Story) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, at=DAY)
    story.tell(MAKER, epc_list=(ONE,), biz_step="inspecting", at=3 * DAY)
    assert story.codes(ONE) == {"RECEIVED_NOT_SHIPPED", "DUPLICATE_SERIAL"}
    assert _verdict(story) == "suspect"


@pytest.mark.parametrize(("sender", "to", "at"), [(MAKER, WHOLESALER, 0.5), (WHOLESALER, MAKER, 2)])
def test_no_duplicate_serial_when_one_way_was_despatched(story: Story, sender: str, to: str, at: float) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, at=DAY)
    story.tell(MAKER, epc_list=(ONE,), biz_step="inspecting", at=3 * DAY)
    story.ship(ONE, actor=sender, to=to, at=at * DAY)
    assert "DUPLICATE_SERIAL" not in story.codes(ONE)


def test_no_duplicate_serial_by_a_container_of_which_one_does_not_see_inside(story: Story) -> None:
    story.commission(ONE, at=1)
    story.put(CASE, ONE, at=2)
    story.receive(CASE, at=DAY)
    story.tell(MAKER, epc_list=(CASE,), biz_step="inspecting", at=3 * DAY)
    assert "DUPLICATE_SERIAL" not in story.codes(ONE)


def test_impossible_movement(story: Story) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, at=5.9)
    assert story.codes(ONE) == {"RECEIVED_NOT_SHIPPED", "IMPOSSIBLE_MOVEMENT"}


def test_no_impossible_movement_after_five_minutes(story: Story) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, at=6)
    assert story.codes(ONE) == {"RECEIVED_NOT_SHIPPED"}


def test_no_impossible_movement_of_what_was_despatched_however_soon(story: Story) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, at=1.2)
    story.ship(ONE, at=1.3)
    assert story.codes(ONE) == set()


# --- containers ---


def test_double_container(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    story.put(PALLET, ONE)
    assert (story.codes(ONE), story.belief(ONE).parent) == ({"DOUBLE_CONTAINER"}, path(PALLET))


def test_no_double_container_after_unpacking_or_by_the_same_again(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    story.put(CASE, ONE, disposition="container_closed")
    story.take_out(CASE, ONE, actor=MAKER)
    story.put(PALLET, ONE)
    assert story.codes(ONE) == set()


def test_container_cycle(story: Story) -> None:
    story.put(PALLET, CASE)
    story.put(CASE, PALLET)
    assert story.codes(PALLET) == {"CONTAINER_CYCLE"}


def test_no_container_cycle_when_it_was_taken_out_before(story: Story) -> None:
    story.put(PALLET, CASE)
    story.take_out(PALLET, CASE, actor=MAKER)
    story.put(CASE, PALLET)
    assert (story.codes(PALLET), story.belief(PALLET).parent) == (set(), path(CASE))


def test_parent_not_unpacked(stocked: Story) -> None:
    stocked.put(CASE, ONE, TWO, actor=PHARMACY)
    stocked.dispense(ONE)
    assert stocked.codes(ONE) == {"PARENT_NOT_UNPACKED"}
    assert (stocked.belief(ONE).parent, stocked.belief(TWO).parent) == ("", path(CASE))


def test_parent_not_unpacked_blocks_no_sale(stocked: Story) -> None:
    stocked.put(CASE, ONE, actor=WHOLESALER, at=25)
    assert stocked.codes(ONE) == {"PARENT_NOT_UNPACKED"}
    assert _verdict(stocked) == "genuine"


def test_no_parent_not_unpacked_once_the_late_unpacking_is_there(stocked: Story) -> None:
    stocked.put(CASE, ONE, TWO, actor=PHARMACY)
    stocked.dispense(ONE, at=50)
    stocked.take_out(CASE, ONE, actor=PHARMACY, at=45)
    assert stocked.codes(ONE) == set()


# --- the end ---


def test_used_after_end(stocked: Story) -> None:
    stocked.end(ONE, actor=PHARMACY)
    stocked.ship(ONE, actor=PHARMACY, to=OTHER)
    assert stocked.codes(ONE) == {"USED_AFTER_END"}
    assert stocked.belief(ONE).ending == "decommissioned"


def test_no_used_after_end_by_destroying_what_was_taken_out_of_use(stocked: Story) -> None:
    stocked.end(ONE, actor=PHARMACY)
    stocked.end(ONE, actor=PHARMACY, step="destroying", word="destroyed")
    assert (stocked.codes(ONE), stocked.belief(ONE).ending) == (set(), "destroyed")


def test_dispensed_twice(stocked: Story) -> None:
    stocked.dispense(ONE)
    stocked.dispense(ONE, actor=OTHER)
    assert stocked.codes(ONE) == {"DISPENSED_TWICE"}


def test_no_dispensed_twice_after_a_part(stocked: Story) -> None:
    stocked.open(ONE)
    stocked.dispense(ONE)
    assert stocked.codes(ONE) == set()


def test_dispensed_too_much(stocked: Story) -> None:
    stocked.open(ONE, taken="20", left="10")
    stocked.open(ONE, taken="10.5")
    assert stocked.codes(ONE) == {"DISPENSED_TOO_MUCH"}
    assert _verdict(stocked) == "suspect"


def test_dispensed_too_much_by_two_who_each_count_from_the_full_pack(stocked: Story) -> None:
    stocked.open(ONE, taken="20", left="10")
    stocked.open(ONE, taken="20", left="10")
    assert stocked.codes(ONE) == {"DISPENSED_TOO_MUCH"}


def test_no_dispensed_too_much_by_taking_all_that_is_left(stocked: Story) -> None:
    stocked.open(ONE, taken="20", left="10")
    belief = stocked.belief(ONE)
    assert (str(belief.remainder), belief.opened, belief.unit_class) == ("10", True, "opened")
    stocked.open(ONE, taken="10", left="0", disposition="dispensed")
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == (set(), "dispensed")


def test_used_after_expiry(stocked: Story) -> None:
    stocked.commission(pack("3"), expiry=date(2026, 1, 5), at=2, actor=MAKER)
    stocked.ship(pack("3"), to=PHARMACY, at=3)
    stocked.receive(pack("3"), actor=PHARMACY, at=4)
    stocked.dispense(pack("3"), at=16 * 60)
    assert stocked.codes(pack("3")) == {"USED_AFTER_EXPIRY"}


def test_no_used_after_expiry_on_the_last_day_where_it_is_used(stocked: Story) -> None:
    stocked.commission(pack("3"), expiry=date(2026, 1, 5), at=2)
    stocked.ship(pack("3"), to=PHARMACY, at=3)
    stocked.receive(pack("3"), actor=PHARMACY, at=4)
    # 16 h after 8:00 is the next day in UTC, and still the last one in New York.
    event = stocked.dispense(pack("3"), at=16 * 60 + 1)
    assert stocked.codes(pack("3")) == {"USED_AFTER_EXPIRY"}
    stocked.told.pop()
    assert isinstance(event.statement, EpcisEvent)
    stocked.sign(PHARMACY, replace(event.statement, event_time_zone_offset="-05:00"))
    assert stocked.codes(pack("3")) == set()


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"to": OTHER}, {"USED_AFTER_EXPIRY"}),
        ({"to": OTHER, "disposition": "returned"}, set()),
        ({"to": WHOLESALER}, set()),
        ({"to": OTHER, "disposition": "expired"}, set()),
    ],
)
def test_used_after_expiry_by_selling_it_on_and_not_by_sending_it_back(
    stocked: Story, fields: dict[str, str], codes: set[str]
) -> None:
    stocked.ship(ONE, actor=PHARMACY, at=500 * DAY, **fields)
    assert stocked.codes(ONE) == codes


# --- what is held back ---


def test_sold_under_hold(stocked: Story) -> None:
    stocked.hold(ONE, reason="DAMAGED: wet")
    belief = stocked.belief(ONE)
    assert (belief.hold_reason, belief.hold_index, _verdict(stocked)) == ("DAMAGED: wet", 5, "held")
    stocked.ship(ONE, actor=PHARMACY, to=OTHER)
    assert stocked.codes(ONE) == {"SOLD_UNDER_HOLD"}
    stocked.receive(ONE, actor=OTHER)
    assert stocked.belief(ONE).hold_reason == "DAMAGED: wet"


@pytest.mark.parametrize("word", ["no_pedigree_match", "mismatch_instance", "non_sellable_other"])
def test_no_sold_under_hold_of_what_was_put_aside_at_the_door_and_received_later(story: Story, word: str) -> None:
    story.commission(ONE, at=1)
    story.receive(ONE, actor=PHARMACY, biz_step="arriving", disposition=word, at=20)
    story.ship(ONE, to=PHARMACY, at=10)
    assert _verdict(story) == "held"
    story.receive(ONE, actor=PHARMACY, at=30)
    assert (story.belief(ONE).hold_reason, _verdict(story)) == ("", "genuine")


def test_receiving_ends_no_hold_that_a_person_stated(stocked: Story) -> None:
    stocked.hold(ONE)
    stocked.receive(ONE, actor=PHARMACY)
    assert stocked.belief(ONE).hold_reason == "non_sellable_other"


def test_no_sold_under_hold_once_the_late_release_is_there(stocked: Story) -> None:
    stocked.hold(ONE, at=50)
    stocked.dispense(ONE, at=60)
    assert stocked.codes(ONE) == {"SOLD_UNDER_HOLD"}
    stocked.release(ONE, at=55)
    assert stocked.codes(ONE) == set()


@pytest.mark.parametrize("fields", [{"disposition": "returned", "to": OTHER}, {"to": WHOLESALER}])
def test_no_sold_under_hold_by_sending_it_back(stocked: Story, fields: dict[str, str]) -> None:
    stocked.hold(ONE)
    stocked.ship(ONE, actor=PHARMACY, **fields)
    assert stocked.codes(ONE) == set()


def test_no_sold_under_hold_of_what_is_reserved(stocked: Story) -> None:
    stocked.tell(PHARMACY, epc_list=(ONE,), biz_step="storing", disposition="reserved")
    assert _verdict(stocked) == "held"
    stocked.dispense(ONE)
    assert stocked.codes(ONE) == set()


def test_sold_under_recall(stocked: Story) -> None:
    stocked.recall(at=45)
    stocked.dispense(ONE, at=50)
    assert stocked.codes(ONE) == {"SOLD_UNDER_RECALL"}


@pytest.mark.parametrize(
    "fields", [{"at": 55}, {"at": 45, "drill": True}, {"at": 45, "scopes": (RecallScope(Gtin(GTIN), "B7"),)}]
)
def test_no_sold_under_recall_before_it_in_a_drill_or_of_another_lot(stocked: Story, fields: dict[str, Any]) -> None:
    stocked.recall(**fields)
    stocked.dispense(ONE, at=50)
    assert stocked.codes(ONE) == set()


def test_no_sold_under_recall_of_another_serial(stocked: Story) -> None:
    stocked.recall(at=45, scopes=(RecallScope(Gtin(GTIN), "", ("2",)),))
    stocked.dispense(ONE, TWO, at=50)
    assert (stocked.codes(ONE), stocked.codes(TWO)) == (set(), {"SOLD_UNDER_RECALL"})


def test_no_sold_under_recall_after_its_end(stocked: Story) -> None:
    recall = stocked.recall(at=45)
    stocked.recall(at=48, ends=recall)
    stocked.dispense(ONE, at=50)
    assert stocked.codes(ONE) == set()


def test_sold_under_recall_stays_when_the_recall_ends(stocked: Story) -> None:
    recall = stocked.recall(at=45)
    stocked.dispense(ONE, at=50)
    stocked.recall(at=55, ends=recall)
    assert stocked.codes(ONE) == {"SOLD_UNDER_RECALL"}


def test_sold_under_recall_of_the_case_that_it_is_in(stocked: Story) -> None:
    stocked.commission(CASE_UNIT, at=2)
    stocked.ship(CASE_UNIT, to=PHARMACY, at=3)
    stocked.receive(CASE_UNIT, actor=PHARMACY, at=4)
    stocked.put(CASE_UNIT, ONE, actor=PHARMACY, at=45)
    stocked.recall(at=46, scopes=(RecallScope(Gtin("10300010123452")),))
    stocked.ship(CASE_UNIT, actor=PHARMACY, to=OTHER, at=50)
    assert stocked.codes(ONE) == {"SOLD_UNDER_RECALL"}


def test_temperature_excursion(stocked: Story) -> None:
    stocked.limit("8")
    stocked.put(CASE, ONE, actor=PHARMACY)
    stocked.sense(CASE, actor=PHARMACY, degrees="12.5")
    belief = stocked.belief(ONE)
    assert stocked.codes(ONE) == {"TEMPERATURE_EXCURSION"}
    assert belief.hold_reason == "TEMPERATURE_EXCURSION"
    assert "12.5 °C" in belief.alerts[0].message
    assert _verdict(stocked) == "held"
    stocked.release(ONE)
    assert (stocked.codes(ONE), _verdict(stocked)) == ({"TEMPERATURE_EXCURSION"}, "genuine")


def test_temperature_excursion_on_the_way_holds_back_at_the_receiver(story: Story) -> None:
    story.commission(ONE)
    story.ship(ONE, to=PHARMACY)
    story.sense(ONE, degrees="30")
    story.receive(ONE, actor=PHARMACY)
    story.limit("8")
    assert (story.codes(ONE), _verdict(story)) == ({"TEMPERATURE_EXCURSION"}, "held")


def test_no_temperature_excursion_at_the_limit_or_without_one(stocked: Story) -> None:
    stocked.sense(ONE, actor=PHARMACY, degrees="30")
    assert stocked.codes(ONE) == set()
    stocked.told.pop()
    stocked.limit("8")
    stocked.sense(ONE, actor=PHARMACY, degrees="8")
    assert (stocked.codes(ONE), stocked.belief(ONE).hold_reason) == (set(), "")


# --- undoing ---


def test_undo_forbidden_after_ten_days(stocked: Story) -> None:
    done = stocked.dispense(ONE)
    stocked.declare(done, after=timedelta(days=10, seconds=1))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == ({"UNDO_FORBIDDEN"}, "dispensed")


def test_no_undo_forbidden_on_the_tenth_day(stocked: Story) -> None:
    done = stocked.dispense(ONE)
    stocked.declare(done, after=timedelta(days=10))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == (set(), "on_hand")


def test_undo_forbidden_from_other_premises(stocked: Story) -> None:
    done = stocked.dispense(ONE)
    stocked.declare(done, read_point=Place(place(OTHER)))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == ({"UNDO_FORBIDDEN"}, "dispensed")


@pytest.mark.parametrize(
    ("step", "word"), [("destroying", "destroyed"), ("decommissioning", "stolen"), ("decommissioning", "unknown")]
)
def test_undo_forbidden_of_what_is_destroyed_stolen_or_lost(stocked: Story, step: str, word: str) -> None:
    stocked.declare(stocked.end(ONE, actor=PHARMACY, step=step, word=word))
    assert stocked.codes(ONE) == {"UNDO_FORBIDDEN"}


def test_no_undo_forbidden_of_a_sample(stocked: Story) -> None:
    stocked.declare(stocked.end(ONE, actor=PHARMACY, step="sampling"))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == (set(), "on_hand")


def test_undo_forbidden_once_expired(stocked: Story) -> None:
    done = stocked.dispense(ONE, at=446 * DAY)
    assert stocked.codes(ONE) == set()
    stocked.declare(done, after=timedelta(days=3))
    assert stocked.codes(ONE) == {"UNDO_FORBIDDEN"}


def test_undo_forbidden_under_a_recall(stocked: Story) -> None:
    done = stocked.dispense(ONE, at=50)
    stocked.recall(at=55)
    stocked.declare(done, after=timedelta(minutes=10))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == ({"UNDO_FORBIDDEN"}, "dispensed")


def test_no_undo_forbidden_before_the_recall(stocked: Story) -> None:
    done = stocked.dispense(ONE, at=50)
    stocked.recall(at=70)
    stocked.declare(done, after=timedelta(minutes=10))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == (set(), "on_hand")


def test_undo_forbidden_after_a_part_was_handed_out(stocked: Story) -> None:
    stocked.open(ONE)
    stocked.declare(stocked.dispense(ONE))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == ({"UNDO_FORBIDDEN"}, "dispensed")


def test_no_undo_forbidden_where_a_corrective_event_ends_it_anew(stocked: Story) -> None:
    wrong = stocked.dispense(ONE, TWO, at=50)
    right = stocked.dispense(ONE, at=51)
    stocked.declare(wrong, after=timedelta(days=1), corrects=(right.header.event_id,))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == (set(), "dispensed")
    assert (stocked.codes(TWO), stocked.belief(TWO).unit_class) == (set(), "on_hand")


def test_undo_forbidden_where_a_declaration_names_its_own_event_as_the_corrective_one(stocked: Story) -> None:
    done = stocked.end(ONE, actor=PHARMACY, step="destroying", word="destroyed")
    stocked.declare(done, after=timedelta(days=365), corrects=(done.header.event_id,))
    assert (stocked.codes(ONE), stocked.belief(ONE).ending) == ({"UNDO_FORBIDDEN"}, "destroyed")


def test_undo_forbidden_where_the_corrective_event_is_anothers(stocked: Story) -> None:
    done = stocked.end(ONE, actor=PHARMACY, step="destroying", word="destroyed")
    others = stocked.end(ONE, actor=WHOLESALER, step="destroying", word="destroyed")
    stocked.declare(done, corrects=(others.header.event_id,))
    assert "UNDO_FORBIDDEN" in stocked.codes(ONE)
    assert stocked.belief(ONE).ending == "destroyed"


def test_undo_forbidden_where_the_corrective_event_is_undone(stocked: Story) -> None:
    done = stocked.dispense(ONE, at=50)
    again = stocked.end(ONE, actor=PHARMACY, at=50 + 30 * DAY)
    stocked.declare(done, after=timedelta(days=30), corrects=(again.header.event_id,))
    stocked.declare(again, after=timedelta(minutes=1))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == ({"UNDO_FORBIDDEN"}, "dispensed")


def test_no_undo_forbidden_where_the_corrective_event_is_corrected_again(stocked: Story) -> None:
    first = stocked.dispense(ONE, at=50)
    second = stocked.dispense(ONE, at=51)
    third = stocked.dispense(ONE, at=52)
    stocked.declare(first, after=timedelta(days=30), corrects=(second.header.event_id,))
    stocked.declare(second, after=timedelta(days=30), corrects=(third.header.event_id,))
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == (set(), "dispensed")


def test_undo_forbidden_leaves_the_other_packs_of_the_event_free(stocked: Story) -> None:
    stocked.recall(at=45, scopes=(RecallScope(Gtin(GTIN), "", ("2",)),))
    done = stocked.end(ONE, TWO, actor=PHARMACY, at=50)
    stocked.declare(done)
    assert (stocked.codes(ONE), stocked.belief(ONE).unit_class) == (set(), "on_hand")
    assert (stocked.codes(TWO), stocked.belief(TWO).ending) == ({"UNDO_FORBIDDEN"}, "decommissioned")


def test_no_undo_forbidden_by_correcting_a_repackaging(story: Story) -> None:
    story.commission(ONE)
    used = story.tell(MAKER, type=EventType.TRANSFORMATION, action=None, input_epc_list=(ONE,), output_epc_list=(TWO,))
    story.declare(used, after=timedelta(days=99))
    assert (story.codes(ONE), story.belief(ONE).unit_class) == (set(), "unaccounted")


# --- evidence in doubt ---


def test_event_id_hash_mismatch(story: Story) -> None:
    event = story.commission(ONE)
    story.told.clear()
    story.sign(MAKER, event.statement, event_id=f"ni:///sha-256;{'0' * 64}?ver=CBV2.0")
    assert story.codes(ONE) == {"EVENT_ID_HASH_MISMATCH"}


def test_no_event_id_hash_mismatch_of_an_id_that_claims_no_hash(story: Story) -> None:
    event = story.commission(ONE)
    story.told.clear()
    story.sign(MAKER, event.statement, event_id="urn:uuid:00000000-0000-4000-8000-000000000003")
    assert story.codes(ONE) == set()


def test_relied_on_declared_error(story: Story) -> None:
    story.commission(ONE, at=1)
    shipped = story.ship(ONE, at=2)
    story.receive(ONE, at=3)
    story.declare(shipped)
    assert story.codes(ONE) == {"RELIED_ON_DECLARED_ERROR"}


def test_no_relied_on_declared_error_when_it_was_said_anew(story: Story) -> None:
    story.commission(ONE, at=1)
    shipped = story.ship(ONE, at=2)
    story.receive(ONE, at=30)
    story.declare(shipped)
    story.ship(ONE, at=2.5)
    assert story.codes(ONE) == set()


def test_key_suspect(story: Story) -> None:
    story.commission(ONE, at=31)
    story.revoke(MAKER, since=START + timedelta(minutes=30))
    assert story.codes(ONE) == {"KEY_SUSPECT"}


def test_no_key_suspect_before_the_doubt(story: Story) -> None:
    story.commission(ONE, at=29)
    story.revoke(MAKER, since=START + timedelta(minutes=30))
    assert story.codes(ONE) == set()


# --- one more ---


def test_marked_suspect_is_suspect_until_it_is_released(stocked: Story) -> None:
    stocked.hold(ONE, reason="SUSPECT: case 7")
    assert (stocked.belief(ONE).suspect, _verdict(stocked)) == (True, "suspect")
    stocked.release(ONE)
    assert (stocked.belief(ONE).suspect, _verdict(stocked)) == (False, "genuine")


def test_hold_of_two_reasons_is_released_one_by_one(stocked: Story) -> None:
    stocked.hold(ONE, reason="SUSPECT: case 7")
    stocked.hold(ONE, reason="DAMAGED")
    assert stocked.belief(ONE).hold_reason == "SUSPECT: case 7\nDAMAGED"
    stocked.tell(
        PHARMACY,
        epc_list=(ONE,),
        action=Action.OBSERVE,
        biz_step="inspecting",
        disposition="non_sellable_other",
        extensions=(Extension(OURS, "released", "SUSPECT: case 7"),),
    )
    assert (stocked.belief(ONE).hold_reason, _verdict(stocked)) == ("DAMAGED", "held")


def test_a_release_of_one_reason_ends_no_other_even_where_it_says_saleable(stocked: Story) -> None:
    stocked.hold(ONE, reason="QUALITY: lot A on hold")
    stocked.hold(ONE, reason="DAMAGED")
    stocked.tell(
        PHARMACY,
        epc_list=(ONE,),
        action=Action.OBSERVE,
        biz_step="storing",
        disposition="sellable_accessible",
        extensions=(Extension(OURS, "released", "QUALITY: lot A on hold"),),
    )
    assert (stocked.belief(ONE).hold_reason, _verdict(stocked)) == ("DAMAGED", "held")
    stocked.release(ONE)
    assert (stocked.belief(ONE).hold_reason, _verdict(stocked)) == ("", "genuine")


def test_put_aside_at_the_door_is_free_once_it_is_received_and_other_holds_last(story: Story) -> None:
    story.commission(ONE, TWO)
    story.ship(ONE, TWO, to=PHARMACY)
    story.hold(TWO, actor=MAKER, reason="DAMAGED")
    story.tell(PHARMACY, epc_list=(ONE, TWO), biz_step="arriving", disposition="no_pedigree_match")
    assert (_verdict(story), story.belief(ONE).hold_reason) == ("held", "no_pedigree_match")
    story.receive(ONE, TWO, actor=PHARMACY)
    assert (_verdict(story), story.belief(ONE).hold_reason) == ("genuine", "")
    assert story.belief(TWO).hold_reason == "DAMAGED"


def test_hold_outlasts_what_says_nothing_of_it_and_the_custody(stocked: Story) -> None:
    stocked.hold(ONE)
    stocked.tell(PHARMACY, epc_list=(ONE,), biz_step="cycle_counting", disposition="in_progress")
    assert _verdict(stocked) == "held"
    stocked.ship(ONE, actor=PHARMACY, to=WHOLESALER, disposition="returned")
    stocked.receive(ONE)
    assert (stocked.belief(ONE).hold_reason, stocked.codes(ONE)) == ("non_sellable_other", set())
    stocked.release(ONE, actor=WHOLESALER)
    assert (stocked.belief(ONE).hold_reason, stocked.belief(ONE).unit_class) == ("", "on_hand")
