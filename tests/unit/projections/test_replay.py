from datetime import date, timedelta
from typing import Any

import pytest

from medtrail.epcis.model import Action, EventType, Extension, PersistentDisposition, SourceDest
from tests.unit.projections.story import (
    CASE,
    EXPIRY,
    MAKER,
    OTHER,
    OUTSIDE,
    PALLET,
    PHARMACY,
    START,
    WHOLESALER,
    Story,
    pack,
    path,
    place,
)

ONE, TWO = pack("1"), pack("2")


def test_commissioned_and_nothing_after_is_unaccounted(story: Story) -> None:
    story.commission(ONE)
    belief = story.belief(ONE)
    assert (belief.unit_class, belief.holder, belief.lot, belief.expiry) == ("unaccounted", MAKER, "A123", EXPIRY)
    assert belief.first_hand
    assert belief.evidence == "scanned"


def test_packed_at_the_maker_is_placed_there(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    belief = story.belief(ONE)
    assert (belief.unit_class, belief.since, belief.parent) == ("at_maker", START + timedelta(minutes=2), path(CASE))


def test_contents_are_in_transit_with_their_pallet(shipped: Story) -> None:
    belief = shipped.belief(ONE)
    assert (belief.unit_class, belief.holder, belief.destination) == ("in_transit", MAKER, WHOLESALER)
    assert (belief.evidence, belief.evidence_index, belief.alerts) == ("inferred", 4, ())
    assert [container.path for container in belief.containers] == [path(CASE), path(PALLET)]


def test_receiving_the_pallet_makes_the_receiver_holder_of_all(shipped: Story) -> None:
    shipped.receive(PALLET)
    belief = shipped.belief(TWO)
    assert (belief.unit_class, belief.holder, belief.evidence, belief.alerts) == ("on_hand", WHOLESALER, "inferred", ())


def test_scan_after_inference_is_better_evidence_of_the_same_state(shipped: Story) -> None:
    shipped.receive(PALLET)
    inferred = shipped.belief(ONE)
    shipped.tell(WHOLESALER, epc_list=(ONE,), biz_step="inspecting")
    belief = shipped.belief(ONE)
    assert (belief.evidence, belief.evidence_index, belief.since) == ("scanned", 6, inferred.since)


def test_unpacking_without_children_takes_out_all(shipped: Story) -> None:
    shipped.receive(PALLET)
    shipped.take_out(PALLET, actor=WHOLESALER)
    shipped.take_out(CASE, actor=WHOLESALER)
    shipped.ship(CASE, actor=WHOLESALER, to=PHARMACY)
    assert shipped.belief(ONE).unit_class == "on_hand"
    assert shipped.belief(ONE).containers == ()
    assert shipped.belief(CASE).unit_class == "in_transit"
    assert shipped.codes(ONE) == set()


def test_unpacking_some_leaves_the_rest_inside(shipped: Story) -> None:
    shipped.receive(PALLET)
    shipped.take_out(CASE, ONE, actor=WHOLESALER)
    shipped.ship(ONE, actor=WHOLESALER, to=PHARMACY)
    assert shipped.belief(ONE).unit_class == "in_transit"
    assert shipped.codes(ONE) == set()
    assert (shipped.belief(TWO).unit_class, shipped.belief(TWO).parent) == ("on_hand", path(CASE))


def test_dispensed_twice_alerts_and_first_end_stands(shipped: Story) -> None:
    shipped.receive(PALLET)
    shipped.take_out(CASE, ONE, actor=WHOLESALER)
    shipped.ship(ONE, actor=WHOLESALER, to=PHARMACY)
    shipped.receive(ONE, actor=PHARMACY)
    shipped.dispense(ONE)
    assert shipped.belief(ONE).unit_class == "dispensed"
    assert shipped.codes(ONE) == set()
    shipped.dispense(ONE, actor=OTHER)
    assert shipped.belief(ONE).holder == PHARMACY
    assert shipped.codes(ONE) == {"DISPENSED_TWICE"}


def test_pack_dispensed_inside_its_case_leaves_the_case(shipped: Story) -> None:
    shipped.receive(PALLET)
    shipped.dispense(ONE, actor=WHOLESALER)
    shipped.ship(PALLET, actor=WHOLESALER, to=PHARMACY)
    assert (shipped.belief(ONE).unit_class, shipped.codes(ONE)) == ("dispensed", {"PARENT_NOT_UNPACKED"})


def test_use_after_end_alerts_and_undoes_nothing(shipped: Story) -> None:
    shipped.receive(PALLET)
    shipped.tell(WHOLESALER, action=Action.DELETE, epc_list=(ONE,), biz_step="destroying", disposition="destroyed")
    shipped.ship(ONE, actor=WHOLESALER, to=PHARMACY)
    assert shipped.belief(ONE).unit_class == "destroyed_or_decommissioned"
    assert shipped.codes(ONE) == {"PARENT_NOT_UNPACKED", "USED_AFTER_END"}


def test_taken_out_of_use_then_destroyed_by_the_same_party_is_one_end(story: Story) -> None:
    story.commission(ONE)
    story.tell(MAKER, action=Action.DELETE, epc_list=(ONE,), biz_step="decommissioning", disposition="inactive")
    story.tell(MAKER, action=Action.DELETE, epc_list=(ONE,), biz_step="destroying", disposition="destroyed")
    assert story.codes(ONE) == set()


def test_end_of_a_container_ends_its_contents(shipped: Story) -> None:
    shipped.tell(MAKER, action=Action.DELETE, epc_list=(CASE,), biz_step="destroying", disposition="destroyed", at=4)
    assert (shipped.belief(ONE).unit_class, shipped.belief(ONE).evidence) == ("destroyed_or_decommissioned", "inferred")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"biz_step": "inspecting", "disposition": "stolen"}, "lost_or_stolen"),
        (
            {"biz_step": "decommissioning", "disposition": "unknown", "action": Action.DELETE},
            "lost_or_stolen",
        ),
        ({"biz_step": "retail_selling", "disposition": "retail_sold"}, "dispensed"),
        ({"biz_step": "dispensing", "disposition": "partially_dispensed"}, "opened"),
        ({"biz_step": "storing"}, "at_maker"),
        ({"biz_step": "loading"}, "at_maker"),
        ({"biz_step": "arriving"}, "at_maker"),
    ],
)
def test_words_of_cbv_decide_the_class(story: Story, words: dict[str, Any], expected: str) -> None:
    story.commission(ONE)
    story.tell(MAKER, epc_list=(ONE,), **words)
    assert story.belief(ONE).unit_class == expected


def test_despatched_to_nobody_enrolled_left_the_network(story: Story) -> None:
    story.commission(ONE)
    story.ship(ONE, to=OUTSIDE)
    assert (story.belief(ONE).unit_class, story.belief(ONE).destination) == ("left_network", OUTSIDE)


@pytest.mark.parametrize("biz_step", ["arriving", "unloading"])
def test_arrived_without_acceptance_is_unconfirmed(shipped: Story, biz_step: str) -> None:
    shipped.tell(WHOLESALER, epc_list=(PALLET,), biz_step=biz_step)
    assert shipped.belief(ONE).unit_class == "delivered_unconfirmed"
    shipped.receive(PALLET)
    assert (shipped.belief(ONE).unit_class, shipped.codes(ONE)) == ("on_hand", set())


def test_senders_word_that_it_was_received_is_unconfirmed(shipped: Story) -> None:
    shipped.receive(PALLET, signer=MAKER)
    belief = shipped.belief(ONE)
    assert (belief.unit_class, belief.evidence) == ("delivered_unconfirmed", "second_hand")


def test_void_shipping_ends_transit(shipped: Story) -> None:
    shipped.tell(MAKER, epc_list=(PALLET,), biz_step="void_shipping")
    assert (shipped.belief(ONE).unit_class, shipped.belief(ONE).destination) == ("at_maker", "")


def test_void_shipping_after_receipt_changes_nothing(shipped: Story) -> None:
    shipped.receive(PALLET)
    shipped.tell(MAKER, epc_list=(PALLET,), biz_step="void_shipping")
    assert shipped.belief(ONE).unit_class == "on_hand"


def test_sent_back_and_taken_back_is_returned_until_released(shipped: Story) -> None:
    shipped.receive(PALLET)
    shipped.ship(PALLET, actor=WHOLESALER, to=MAKER, disposition="returned")
    assert shipped.belief(ONE).unit_class == "in_transit"
    shipped.receive(PALLET, actor=MAKER)
    assert (shipped.belief(ONE).unit_class, shipped.belief(ONE).holder) == ("returned", MAKER)
    shipped.tell(MAKER, epc_list=(PALLET,), biz_step="storing", disposition="sellable_accessible")
    assert shipped.belief(ONE).unit_class == "at_maker"


@pytest.mark.parametrize(
    ("released", "unit_class"),
    [
        ("returned, not verified yet", "at_maker"),
        ("RETURN_UNVERIFIED: return not verified: HELD", "at_maker"),
        ("RETURNED_TO_MAKER", "at_maker"),
        ("QUALITY: lot A on hold", "returned"),
    ],
)
def test_a_return_is_over_when_its_own_reason_is_and_others_hold_it_still(
    shipped: Story, released: str, unit_class: str
) -> None:
    shipped.receive(PALLET)
    shipped.ship(PALLET, actor=WHOLESALER, to=MAKER, disposition="returned")
    shipped.receive(PALLET, actor=MAKER)
    shipped.hold(PALLET, actor=MAKER, reason="DAMAGED")
    shipped.tell(
        MAKER,
        epc_list=(PALLET,),
        biz_step="inspecting",
        disposition="non_sellable_other",
        extensions=(Extension("urn:medtrail:epcis", "released", released),),
    )
    assert (shipped.belief(ONE).unit_class, shipped.belief(ONE).hold_reason) == (unit_class, "DAMAGED")


def test_refused_delivery_is_with_its_sender_again(shipped: Story) -> None:
    shipped.receive(PALLET, actor=MAKER)
    assert (shipped.belief(ONE).unit_class, shipped.codes(ONE)) == ("at_maker", set())


def test_owner_is_kept_where_the_holder_is_another(story: Story) -> None:
    story.commission(ONE)
    story.ship(
        ONE,
        destination_list=(
            SourceDest("owning_party", place(PHARMACY)),
            SourceDest("possessing_party", place(WHOLESALER)),
        ),
    )
    story.receive(ONE)
    assert (story.belief(ONE).holder, story.belief(ONE).owner) == (WHOLESALER, PHARMACY)


def test_missing_despatch_is_provisional_and_explained_when_it_comes(story: Story) -> None:
    story.commission(ONE)
    story.receive(ONE, at=30)
    assert story.belief(ONE).holder == WHOLESALER
    (alert,) = story.belief(ONE).alerts
    assert (alert.code, alert.provisional) == ("RECEIVED_NOT_SHIPPED", True)
    story.ship(ONE, at=10)
    assert story.codes(ONE) == set()


def test_missing_receiving_by_another_is_provisional(shipped: Story) -> None:
    shipped.ship(PALLET, actor=PHARMACY, to=OTHER)
    (alert,) = shipped.belief(ONE).alerts
    assert (alert.code, alert.provisional) == ("SHIPPED_NOT_HELD", True)


def test_onward_despatch_by_the_consignee_implies_receipt(shipped: Story) -> None:
    shipped.ship(PALLET, actor=WHOLESALER, to=PHARMACY)
    assert (shipped.belief(ONE).destination, shipped.codes(ONE)) == (PHARMACY, set())


def test_receiving_never_precedes_the_despatch_that_it_answers(shipped: Story) -> None:
    shipped.receive(PALLET, at=4)
    replay = shipped.replay(traced=path(ONE))
    belief = replay.belief(path(ONE))
    assert belief is not None
    assert (belief.unit_class, belief.holder, belief.alerts) == ("on_hand", WHOLESALER, ())
    assert belief.since == START + timedelta(minutes=5)
    assert [step.fact.biz_step for step in replay.steps(path(ONE))][-2:] == ["shipping", "receiving"]


def test_pack_received_by_scan_before_its_pallets_despatch_is_answered_too(shipped: Story) -> None:
    shipped.receive(ONE, at=4.5)
    assert (shipped.belief(ONE).unit_class, shipped.codes(ONE)) == ("on_hand", {"PARENT_NOT_UNPACKED"})
    steps = shipped.replay(traced=path(ONE)).steps(path(ONE))
    assert [step.fact.biz_step for step in steps][-2:] == ["shipping", "receiving"]
    assert steps[-1].time_us == steps[-2].time_us
    assert shipped.belief(TWO).unit_class == "in_transit"


def test_despatch_after_goods_came_back_is_a_new_one(story: Story) -> None:
    story.commission(ONE)
    story.receive(ONE)
    story.ship(ONE, actor=WHOLESALER, to=MAKER)
    story.receive(ONE, actor=MAKER)
    story.ship(ONE)
    assert story.belief(ONE).unit_class == "in_transit"


def test_commissioning_that_comes_late_withdraws_its_alert(story: Story) -> None:
    story.ship(ONE, at=20)
    assert story.codes(ONE) == {"COMMISSION_MISSING"}
    assert not story.belief(ONE).commissioned
    story.commission(ONE, at=10)
    assert story.codes(ONE) == set()


def test_logistic_unit_needs_no_commissioning(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    assert story.codes(CASE) == set()


def test_second_commissioning_is_a_contradiction(story: Story) -> None:
    story.commission(ONE)
    story.commission(ONE, lot="B7", expiry=date(2030, 1, 1))
    assert story.codes(ONE) == {"SECOND_COMMISSIONING", "LOT_CONFLICT", "EXPIRY_CONFLICT"}
    assert story.belief(ONE).lot == "A123"


def test_same_content_under_another_id_is_the_same_event(story: Story) -> None:
    event = story.commission(ONE)
    story.sign(MAKER, event.statement, event_id="urn:uuid:00000000-0000-4000-8000-000000000001")
    assert story.codes(ONE) == set()


def test_event_id_that_is_not_the_hash_it_claims_alerts(story: Story) -> None:
    event = story.commission(ONE)
    story.told.clear()
    story.sign(MAKER, event.statement, event_id=f"ni:///sha-256;{'0' * 64}?ver=CBV2.0")
    assert story.codes(ONE) == {"EVENT_ID_HASH_MISMATCH"}


def test_packed_into_a_second_container_alerts_and_moves(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    story.put(PALLET, ONE)
    assert story.codes(ONE) == {"DOUBLE_CONTAINER"}
    assert story.belief(ONE).parent == path(PALLET)
    story.take_out(CASE, ONE, actor=MAKER, at=2)
    assert story.codes(ONE) == set()


def test_shipped_apart_from_its_container_leaves_it(story: Story) -> None:
    story.commission(ONE, TWO)
    story.put(CASE, ONE, TWO)
    story.ship(ONE)
    assert story.codes(ONE) == {"PARENT_NOT_UNPACKED"}
    assert (story.belief(ONE).parent, story.belief(TWO).unit_class) == ("", "at_maker")


def test_despatch_that_names_pallet_and_contents_separates_nothing(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    story.ship(CASE, ONE)
    story.ship(ONE)
    assert story.codes(ONE) == set()
    assert (story.belief(ONE).parent, story.belief(ONE).evidence) == (path(CASE), "scanned")


def test_containers_inside_each_other_are_refused_belief(story: Story) -> None:
    story.put(PALLET, CASE)
    story.put(CASE, PALLET)
    assert story.codes(PALLET) == {"CONTAINER_CYCLE"}
    assert story.belief(CASE).parent == path(PALLET)
    story.ship(PALLET)
    assert story.belief(CASE).unit_class == "in_transit"


def test_tote_used_again_keeps_no_memory_of_earlier_contents(story: Story) -> None:
    story.commission(ONE, TWO)
    story.put(CASE, ONE)
    story.take_out(CASE, ONE, actor=MAKER)
    story.put(CASE, TWO)
    story.ship(CASE)
    assert story.belief(ONE).unit_class == "at_maker"
    assert story.belief(TWO).unit_class == "in_transit"


def test_transformation_consumes_inputs_and_commissions_outputs(story: Story) -> None:
    story.commission(ONE)
    story.commission(TWO, lot="")
    story.put(CASE, ONE)
    out = pack("9")
    story.tell(
        MAKER,
        type=EventType.TRANSFORMATION,
        action=None,
        biz_step="repackaging",
        input_epc_list=(CASE,),
        output_epc_list=(out,),
        ilmd=story.told[0][0].statement.ilmd,  # type: ignore[union-attr]
    )
    assert (story.belief(ONE).unit_class, story.belief(ONE).evidence) == ("consumed", "inferred")
    assert (story.belief(out).unit_class, story.belief(out).lot) == ("unaccounted", "A123")
    assert story.codes(out) == set()


def test_key_in_doubt_flags_what_it_signed_from_then_on(story: Story) -> None:
    story.commission(ONE)
    story.commission(TWO, at=60)
    story.revoke(MAKER, since=START + timedelta(minutes=30))
    assert story.codes(ONE) == set()
    assert story.codes(TWO) == {"KEY_SUSPECT"}


def test_what_was_true_then_leaves_out_later_events(shipped: Story) -> None:
    shipped.receive(PALLET)
    assert shipped.belief(ONE, true_time=START + timedelta(minutes=5)).unit_class == "in_transit"
    assert shipped.belief(ONE, true_time=START + timedelta(minutes=1)).unit_class == "unaccounted"
    assert shipped.replay(true_time=START).belief(path(ONE)) is None


def test_what_was_known_then_leaves_out_later_entries(story: Story) -> None:
    story.commission(ONE)
    story.receive(ONE, at=30)
    story.ship(ONE, at=10)
    assert story.codes(ONE, size=2) == {"RECEIVED_NOT_SHIPPED"}
    assert story.codes(ONE, size=3) == set()


# --- corrections ---


def test_declared_event_leaves_belief_and_stays_in_history(shipped: Story) -> None:
    shipped.declare(shipped.told[4][0])
    assert shipped.belief(ONE).unit_class == "at_maker"
    steps = shipped.replay(traced=path(ONE)).steps(path(ONE))
    assert [(step.fact.biz_step, step.standing.disbelieved) for step in steps] == [
        ("commissioning", False),
        ("packing", False),
        ("packing", False),
        ("shipping", True),
        ("shipping", False),
    ]


def test_declared_observation_leaves_a_unit_as_it_was(shipped: Story) -> None:
    shipped.receive(PALLET)
    before = shipped.belief(ONE)
    shipped.tell(WHOLESALER, epc_list=(ONE,), biz_step="inspecting")
    shipped.declare(shipped.told[-1][0])
    assert shipped.belief(ONE) == before
    assert shipped.codes(ONE) == set()


def test_declaration_by_another_than_the_signer_is_without_effect(shipped: Story) -> None:
    shipped.declare(shipped.told[4][0], signer=PHARMACY)
    assert shipped.belief(ONE).unit_class == "in_transit"


def test_declaration_that_arrives_first_counts(shipped: Story) -> None:
    shipped.declare(shipped.told[4][0])
    assert shipped.belief(ONE, order=[5, 4, 3, 2, 1, 0]).unit_class == "at_maker"


def test_declaration_matches_by_content_under_another_id(shipped: Story) -> None:
    event = shipped.told[4][0]
    shipped.sign(MAKER, event.statement, event_id="urn:uuid:00000000-0000-4000-8000-000000000002")
    shipped.declare(event)
    assert shipped.belief(ONE).unit_class == "at_maker"


def test_event_that_relied_on_a_declared_one_alerts(shipped: Story) -> None:
    shipped.receive(PALLET)
    assert shipped.codes(ONE) == set()
    shipped.declare(shipped.told[4][0])
    assert shipped.codes(ONE) == {"RELIED_ON_DECLARED_ERROR"}
    assert shipped.belief(ONE).holder == WHOLESALER


def test_declared_commissioning_leaves_a_unit_that_nobody_commissioned(shipped: Story) -> None:
    shipped.declare(shipped.told[0][0])
    assert not shipped.belief(ONE).commissioned
    assert shipped.codes(ONE) == {"RELIED_ON_DECLARED_ERROR"}


def test_correction_replaces_a_second_commissioning(story: Story) -> None:
    wrong = story.commission(ONE, lot="WRONG")
    story.commission(ONE)
    story.declare(wrong)
    assert (story.codes(ONE), story.belief(ONE).lot) == (set(), "A123")


# --- second-hand ---


def _imported(story: Story, **fields: Any) -> None:
    story.commission(ONE, signer=WHOLESALER, **fields)
    story.ship(ONE, signer=WHOLESALER)
    story.receive(ONE)


def test_partners_word_is_believed_as_second_hand(story: Story) -> None:
    _imported(story)
    belief = story.belief(ONE)
    assert (belief.maker, belief.first_hand, belief.holder, belief.alerts) == (MAKER, False, WHOLESALER, ())


def test_second_hand_yields_when_the_actors_own_arrives(story: Story) -> None:
    _imported(story)
    story.commission(ONE, TWO, at=0)
    assert story.belief(ONE).first_hand
    assert story.codes(ONE) == set()
    steps = story.replay(traced=path(ONE)).steps(path(ONE))
    assert [step.standing.value for step in steps if step.fact.second_hand] == ["superseded", "counts"]


@pytest.mark.parametrize(
    ("fields", "code"), [({"lot": "B7"}, "LOT_CONFLICT"), ({"expiry": date(2030, 1, 1)}, "EXPIRY_CONFLICT")]
)
def test_copy_that_differs_is_a_conflict(story: Story, fields: dict[str, Any], code: str) -> None:
    story.commission(ONE)
    _imported(story, **fields)
    assert story.codes(ONE) == {code}
    assert (story.belief(ONE).lot, story.belief(ONE).expiry) == ("A123", EXPIRY)


def test_copies_of_two_partners_that_agree_count_once(story: Story) -> None:
    _imported(story)
    story.ship(ONE, actor=WHOLESALER, to=PHARMACY)
    story.receive(ONE, actor=PHARMACY)
    story.commission(ONE, signer=PHARMACY)
    assert story.codes(ONE) == set()


def test_copies_that_name_different_makers_conflict(story: Story) -> None:
    _imported(story)
    story.commission(ONE, actor=OTHER, signer=WHOLESALER)
    assert story.codes(ONE) == {"MAKER_CONFLICT"}


def test_second_hand_word_of_a_stranger_does_not_count(shipped: Story) -> None:
    shipped.dispense(ONE, actor=WHOLESALER, signer=OTHER)
    assert shipped.belief(ONE).unit_class == "in_transit"
    steps = shipped.replay(traced=path(ONE)).steps(path(ONE))
    assert steps[-1].standing == "not_party"


def test_stranger_alone_makes_nothing_believed(story: Story) -> None:
    story.commission(ONE, signer=OTHER)
    assert story.replay().belief(path(ONE)) is None


def test_party_to_the_pallet_is_party_to_the_pack(story: Story) -> None:
    story.commission(ONE, signer=WHOLESALER)
    story.put(CASE, ONE, signer=WHOLESALER)
    story.ship(CASE, signer=WHOLESALER)
    assert story.belief(ONE).unit_class == "in_transit"


# --- further words and corners ---


def test_associated_sensor_moves_no_custody_but_is_seen(story: Story) -> None:
    story.commission(ONE)
    story.tell(MAKER, type=EventType.ASSOCIATION, action=Action.ADD, parent_id=CASE, child_epcs=(ONE,))
    assert (story.belief(ONE).unit_class, story.belief(ONE).parent) == ("at_maker", "")


def test_persistent_dispositions_are_set_and_unset(story: Story) -> None:
    story.commission(ONE)
    story.tell(MAKER, epc_list=(ONE,), persistent_disposition=PersistentDisposition(set=("damaged", "recalled")))
    story.tell(MAKER, epc_list=(ONE,), persistent_disposition=PersistentDisposition(unset=("damaged",)))
    assert story.belief(ONE).persistent_dispositions == ("recalled",)


def test_loading_after_despatch_and_arriving_twice_change_nothing(shipped: Story) -> None:
    shipped.tell(MAKER, epc_list=(PALLET,), biz_step="departing")
    shipped.tell(WHOLESALER, epc_list=(PALLET,), biz_step="arriving")
    shipped.tell(WHOLESALER, epc_list=(PALLET,), biz_step="unloading")
    shipped.receive(PALLET, signer=MAKER)
    belief = shipped.belief(ONE)
    assert (belief.unit_class, belief.since) == ("delivered_unconfirmed", START + timedelta(minutes=7))


def test_opened_pack_stays_opened_until_it_is_dispensed(story: Story) -> None:
    story.commission(ONE)
    story.ship(ONE, to=PHARMACY)
    story.receive(ONE, actor=PHARMACY)
    story.dispense(ONE, disposition="partially_dispensed", action=Action.OBSERVE)
    story.dispense(ONE, disposition="partially_dispensed", action=Action.OBSERVE)
    assert (story.belief(ONE).unit_class, story.belief(ONE).since) == ("opened", START + timedelta(minutes=4))
    story.dispense(ONE)
    assert (story.belief(ONE).unit_class, story.codes(ONE)) == ("dispensed", set())


def test_dispensed_by_a_party_that_never_had_it_is_provisional(shipped: Story) -> None:
    shipped.dispense(ONE)
    assert shipped.codes(ONE) == {"ENDED_NOT_HELD", "PARENT_NOT_UNPACKED"}
    shipped.tell(MAKER, epc_list=(ONE,), biz_step="loading")
    assert shipped.codes(ONE) == {"ENDED_NOT_HELD", "PARENT_NOT_UNPACKED", "USED_AFTER_END"}


def test_dispensed_before_the_despatch_by_clocks_that_differ_is_no_contradiction(story: Story) -> None:
    story.commission(ONE)
    story.receive(ONE, actor=PHARMACY, at=10)
    story.dispense(ONE, at=12)
    story.ship(ONE, to=PHARMACY, at=15)
    assert (story.belief(ONE).unit_class, story.codes(ONE)) == ("dispensed", set())


def test_shipped_on_before_the_despatch_by_clocks_that_differ_is_no_contradiction(story: Story) -> None:
    story.commission(ONE)
    story.receive(ONE, at=10)
    story.ship(ONE, actor=WHOLESALER, to=PHARMACY, at=12)
    story.ship(ONE, at=15)
    assert (story.belief(ONE).destination, story.codes(ONE)) == (PHARMACY, set())


def test_despatch_a_week_after_a_receiving_is_not_its_cause(story: Story) -> None:
    story.commission(ONE)
    story.receive(ONE, at=10)
    story.ship(ONE, at=7 * 24 * 60)
    assert story.belief(ONE).unit_class == "in_transit"


def test_unpacking_from_a_container_that_it_is_not_in_changes_no_containment(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    story.take_out(PALLET, ONE, actor=MAKER)
    assert story.belief(ONE).parent == path(CASE)


def test_packing_what_has_ended_alerts_and_packs_nothing(story: Story) -> None:
    story.commission(ONE)
    story.dispense(ONE, actor=MAKER)
    story.put(CASE, ONE)
    assert (story.belief(ONE).parent, story.codes(ONE)) == ("", {"USED_AFTER_END"})


def test_despatch_that_names_no_destination_is_in_transit_to_nobody(story: Story) -> None:
    story.commission(ONE)
    story.ship(ONE, destination_list=())
    assert (story.belief(ONE).unit_class, story.belief(ONE).destination) == ("in_transit", "")


def test_identifiers_that_are_no_gs1_keys_have_a_history_too(story: Story) -> None:
    story.commission("urn:example:box:1", lot="")
    story.ship("urn:example:box:1", destination_list=(SourceDest("possessing_party", "urn:example:party:1"),))
    belief = story.belief("urn:example:box:1")
    assert (belief.unit_class, belief.destination) == ("left_network", "urn:example:party:1")


def test_container_commissioned_around_its_contents_does_not_commission_them(story: Story) -> None:
    story.commission(ONE)
    story.put(CASE, ONE)
    story.commission(CASE, lot="")
    assert (story.belief(ONE).unit_class, story.codes(ONE)) == ("at_maker", set())


def test_unit_that_is_used_up_and_produced_by_one_event_shows_it_once(story: Story) -> None:
    story.commission(ONE)
    story.tell(MAKER, type=EventType.TRANSFORMATION, action=None, input_epc_list=(ONE,), output_epc_list=(ONE,))
    assert len(story.replay(traced=path(ONE)).steps(path(ONE))) == 2
    assert story.codes(ONE) == {"SECOND_COMMISSIONING"}


# --- what a later word does not lift ---


def test_commissioning_dated_after_a_hold_lifts_nothing(story: Story) -> None:
    story.put(CASE, pack("1"), at=0)
    story.hold(CASE, actor=MAKER, reason="QUALITY: dented", at=5)
    story.commission(pack("1"), at=10)
    belief = story.belief(pack("1"))
    assert "QUALITY" in belief.hold_reason
    assert (belief.lot, belief.disposition) == ("A123", "non_sellable_other")


def test_voided_despatch_frees_no_return(story: Story) -> None:
    story.commission(pack("1"))
    story.ship(pack("1"))
    story.receive(pack("1"))
    story.ship(pack("1"), actor=WHOLESALER, to=PHARMACY)
    story.receive(pack("1"), actor=PHARMACY)
    story.ship(pack("1"), actor=PHARMACY, to=WHOLESALER, disposition="returned")
    story.receive(pack("1"), disposition="returned")
    story.ship(pack("1"), actor=WHOLESALER, to=MAKER, disposition="returned")
    story.tell(WHOLESALER, epc_list=(pack("1"),), biz_step="void_shipping")
    assert story.belief(pack("1")).unit_class == "returned"
    story.ship(pack("1"), actor=WHOLESALER, to=PHARMACY)
    assert story.codes(pack("1")) == {"SOLD_UNDER_HOLD"}
