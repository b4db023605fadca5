"""Every rule of the books, refused with its code and the field that broke it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from medtrail.errors import MedtrailError
from medtrail.event import Recall, RecallScope
from medtrail.gs1 import Gln, Gtin, OtherKey, Sgtin
from services.custody import dispensing, rules
from services.custody.holding import Books, Ending, Holding, HoldingState
from services.custody.holds import RETURN_UNVERIFIED, added
from services.custody.origin import Origin
from services.custody.recalls import KnownRecall, RecallIndex
from services.custody.rules import Traits
from services.custody.steps import Step, StepKind, apply_step
from services.custody.units import Named, Unit
from tests.unit.custody.conftest import CASE_GTIN, GTIN, named, packs, sscc

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE = Gln("0300011111116")
PARTNER = Gln("0399999999991")
PACK, OTHER = packs(1, 2)
CASE = Sgtin(CASE_GTIN, "110")
PALLET = sscc(1)
TOTE = OtherKey("8003", "00300010000015TOTE7")
NO_RECALLS = RecallIndex()


def origin(number: int = 1, time: datetime = T0) -> Origin:
    return Origin(f"urn:event:{number}", time, location=PLACE)


def recall(*scopes: RecallScope, number: str = "R1", drill: bool = False, ends: str = "") -> KnownRecall:
    stated = Recall(number, "retail", "why", "", T0, scopes, drill=drill, terminated_recall_id=ends)
    return KnownRecall(f"urn:uuid:{number}", PLACE, stated)


def books(*units: Unit) -> Books:
    made = Books()
    rules.commission(made, named(units), origin(), Traits("A123", date(2028, 3, 31)))
    return made


def state(made: Books, unit: Unit) -> HoldingState:
    holding = made.get(unit)
    assert holding is not None
    return holding.state


def put(made: Books, unit: Unit, **changes: object) -> None:
    holding = made.get(unit)
    assert holding is not None
    made.change(holding, **changes)


def ship(made: Books, *units: Unit, recalls: RecallIndex = NO_RECALLS, as_return: bool = False) -> None:
    rules.ship(made, named(units), origin(2), partner=PARTNER, recalls=recalls, as_return=as_return)


def dispense(made: Books, *units: Unit, recalls: RecallIndex = NO_RECALLS, time: datetime = T0) -> None:
    dispensing.dispense(made, named(units), origin(3, time), recalls=recalls, partial=False)


def refused(code: str, field: str, work: Callable[[], object]) -> None:
    with pytest.raises(MedtrailError) as caught:
        work()
    assert (caught.value.code, caught.value.field) == (code, field)


VERBS: dict[str, Callable[[Books, Unit], object]] = {
    "pack": lambda made, unit: rules.pack(made, Named(PALLET, "parent"), named([unit]), origin(9)),
    "ship": ship,
    "send back": lambda made, unit: ship(made, unit, as_return=True),
    "hold": lambda made, unit: rules.hold(made, named([unit]), origin(9), reason="x"),
    "release": lambda made, unit: rules.release(made, named([unit]), origin(9)),
    "dispense": dispense,
    "end": lambda made, unit: rules.end(made, named([unit]), origin(9), ending=Ending.DESTROYED),
    "consume": lambda made, unit: rules.transform(made, named([unit]), (), origin(9), recalls=NO_RECALLS),
    "observe": lambda made, unit: rules.observe(made, named([unit]), origin(9)),
    "unpack": lambda made, unit: rules.unpack(made, Named(unit, "epcs[0]"), (), origin(9)),
    "void shipping": lambda made, unit: rules.void_shipping(made, named([unit]), origin(9)),
}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_comes_from_nothing(verb: str) -> None:
    refused("UNIT_UNKNOWN", "epcs[0]", lambda: VERBS[verb](Books(), PACK))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("final", [HoldingState.DISPENSED, HoldingState.ENDED, HoldingState.CONSUMED])
def test_a_final_state_is_final(verb: str, final: HoldingState) -> None:
    made = books(PACK)
    put(made, PACK, state=final)
    refused("UNIT_FINAL", "epcs[0]", lambda: VERBS[verb](made, PACK))


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"void shipping"}))
@pytest.mark.parametrize("away", [HoldingState.DESPATCHED, HoldingState.RETURNED, HoldingState.INBOUND])
def test_what_is_not_here_cannot_be_handled(verb: str, away: HoldingState) -> None:
    made = books(PACK)
    put(made, PACK, state=away)
    refused("NOT_ON_HAND", "epcs[0]", lambda: VERBS[verb](made, PACK))


def notices(made: Books) -> list[tuple[str, Unit]]:
    return [(notice.code.value, notice.unit) for notice in made.take_notices()]


@pytest.mark.parametrize("verb", ["pack", "ship", "send back", "dispense", "end", "consume"])
def test_what_is_handled_alone_leaves_its_container(verb: str) -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    assert notices(made) == []
    VERBS[verb](made, PACK)
    assert notices(made) == [("DOUBLE_CONTAINER" if verb == "pack" else "PARENT_NOT_UNPACKED", PACK)]
    holding, case = made.get(PACK), made.get(CASE)
    assert holding is not None
    assert case is not None
    assert holding.parent == (PALLET if verb == "pack" else None)
    assert made.contents(CASE) == ()
    assert (case.state, case.event_id) == (HoldingState.ON_HAND, "urn:event:1")


@pytest.mark.parametrize("verb", ["hold", "release", "observe"])
def test_what_is_only_looked_at_stays_in_its_container(verb: str) -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    if verb == "release":
        rules.hold(made, named([PACK]), origin(3), reason="x")
    VERBS[verb](made, PACK)
    assert (notices(made), [part.unit for part in made.contents(CASE)]) == ([], [PACK])


@pytest.mark.parametrize("verb", ["ship", "send back", "end", "consume", "void shipping", "pack"])
def test_what_is_named_with_its_container_goes_with_it(verb: str) -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    both = named([PACK, CASE])
    if verb == "void shipping":
        ship(made, CASE)
    {
        "ship": lambda: ship(made, PACK, CASE),
        "send back": lambda: ship(made, PACK, CASE, as_return=True),
        "end": lambda: rules.end(made, both, origin(9), ending=Ending.DESTROYED),
        "consume": lambda: rules.transform(made, both, (), origin(9), recalls=NO_RECALLS),
        "void shipping": lambda: rules.void_shipping(made, both, origin(9)),
        "pack": lambda: rules.pack(made, Named(PALLET, "parent"), both, origin(9)),
    }[verb]()
    assert (notices(made), [part.unit for part in made.contents(CASE)]) == ([], [PACK])


def test_a_case_taken_off_a_pallet_keeps_what_is_inside() -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    rules.pack(made, Named(PALLET, "parent"), named([CASE]), origin(3))
    ship(made, CASE)
    assert (notices(made), made.contents(PALLET)) == ([("PARENT_NOT_UNPACKED", CASE)], ())
    assert [part.unit for part in made.contents(CASE)] == [PACK]
    assert (state(made, PACK), state(made, PALLET)) == (HoldingState.DESPATCHED, HoldingState.ON_HAND)


def test_what_is_in_it_already_is_only_said_again() -> None:
    made = books(PACK, CASE)
    for number in (2, 3):
        rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(number))
    assert (notices(made), [part.event_id for part in made.contents(CASE)]) == ([], ["urn:event:2"])


@pytest.mark.parametrize("verb", ["ship", "dispense", "consume"])
@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("UNIT_ON_HOLD", {"hold_reason": "x"}),
        ("UNIT_PROVISIONAL", {"provisional": True}),
        ("UNIT_EXCEPTION", {"state": HoldingState.EXCEPTION, "exception": "UNADVISED"}),
    ],
)
def test_only_saleable_goods_are_sold(verb: str, code: str, changes: dict[str, object]) -> None:
    made = books(PACK)
    put(made, PACK, **changes)
    refused(code, "epcs[0]", lambda: VERBS[verb](made, PACK))


@pytest.mark.parametrize("changes", [{"hold_reason": "x"}, {"provisional": True}])
def test_a_container_is_as_saleable_as_its_contents(changes: dict[str, object]) -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    put(made, PACK, **changes)
    with pytest.raises(MedtrailError):
        ship(made, CASE)
    ship(made, CASE, as_return=True)
    assert state(made, PACK) is HoldingState.RETURNED


@pytest.mark.parametrize("verb", ["pack", "ship", "send back", "consume"])
def test_an_opened_pack_is_not_moved_on(verb: str) -> None:
    made = books(PACK)
    dispensing.dispense(made, named([PACK]), origin(2), recalls=NO_RECALLS, partial=True)
    refused("UNIT_OPENED", "epcs[0]", lambda: VERBS[verb](made, PACK))


def test_refuses_a_second_commissioning() -> None:
    made = books(PACK)
    refused("ALREADY_COMMISSIONED", "epcs[0]", lambda: rules.commission(made, named([PACK]), origin(2)))


def test_refuses_a_container_that_would_hold_itself() -> None:
    made = books(CASE)
    rules.pack(made, Named(PALLET, "parent"), named([CASE]), origin(2))
    refused("CONTAINER_CYCLE", "epcs[0]", lambda: rules.pack(made, Named(CASE, "parent"), named([PALLET]), origin(3)))
    refused("CONTAINER_CYCLE", "epcs[0]", lambda: rules.pack(made, Named(CASE, "parent"), named([CASE]), origin(3)))


def test_refuses_to_pack_into_a_case_that_nobody_commissioned() -> None:
    made = books(PACK)
    refused("UNIT_UNKNOWN", "parent", lambda: rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2)))


def test_refuses_to_take_out_what_is_not_inside() -> None:
    made = books(PACK, OTHER, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    refused("NOT_IN_CONTAINER", "epcs[0]", lambda: rules.unpack(made, Named(CASE, "p"), named([OTHER]), origin(3)))


def test_an_emptied_logistic_unit_is_used_no_more() -> None:
    made = books(PACK, OTHER)
    rules.pack(made, Named(PALLET, "parent"), named([PACK]), origin(2))
    rules.unpack(made, Named(PALLET, "parent"), (), origin(3))
    pallet = made.get(PALLET)
    assert pallet is not None
    assert (pallet.state, pallet.ending) == (HoldingState.ENDED, Ending.EMPTIED)
    assert state(made, PACK) is HoldingState.ON_HAND
    refused("UNIT_FINAL", "parent", lambda: rules.pack(made, Named(PALLET, "parent"), named([OTHER]), origin(4)))


@pytest.mark.parametrize("container", [TOTE, CASE])
def test_a_tote_or_a_case_with_a_number_of_its_own_is_filled_again(container: Unit) -> None:
    made = books(PACK, OTHER, CASE)
    rules.pack(made, Named(container, "parent"), named([PACK]), origin(2))
    rules.unpack(made, Named(container, "parent"), (), origin(3))
    assert (state(made, container), made.contents(container)) == (HoldingState.ON_HAND, ())
    rules.pack(made, Named(container, "parent"), named([OTHER]), origin(4))
    assert [part.unit for part in made.contents(container)] == [OTHER]


def test_a_tote_that_came_back_without_a_word_begins_a_new_filling() -> None:
    made = books(PACK, OTHER)
    rules.pack(made, Named(TOTE, "parent"), named([PACK]), origin(2))
    ship(made, TOTE)
    rules.pack(made, Named(TOTE, "parent"), named([OTHER]), origin(4))
    assert [part.unit for part in made.contents(TOTE)] == [OTHER]
    assert (state(made, TOTE), state(made, PACK), notices(made)) == (HoldingState.ON_HAND, HoldingState.DESPATCHED, [])


def test_a_tote_that_comes_back_unadvised_comes_back_empty() -> None:
    made = books(PACK)
    rules.pack(made, Named(TOTE, "parent"), named([PACK]), origin(2))
    ship(made, TOTE)
    assert rules.receive(made, named([TOTE]), origin(3)).unadvised == (TOTE,)
    assert (state(made, PACK), made.contents(TOTE)) == (HoldingState.DESPATCHED, ())


def test_what_came_in_a_tote_is_not_mixed_with_a_new_filling() -> None:
    made = Books(
        [
            Holding(TOTE, HoldingState.ON_HAND, "e", T0, despatch_id="d"),
            Holding(PACK, HoldingState.ON_HAND, "e", T0, parent=TOTE, despatch_id="d"),
            Holding(OTHER, HoldingState.ON_HAND, "e", T0),
            Holding(CASE, HoldingState.ON_HAND, "e", T0),
        ]
    )
    rules.pack(made, Named(TOTE, "parent"), named([OTHER]), origin(2))
    assert [part.unit for part in made.contents(TOTE)] == [OTHER]
    assert notices(made) == [("PARENT_NOT_UNPACKED", PACK)]
    for number, unit in enumerate([PACK, CASE], 3):
        rules.pack(made, Named(TOTE, "parent"), named([unit]), origin(number))
    assert {part.unit for part in made.contents(TOTE)} == {OTHER, PACK, CASE}
    assert notices(made) == []


def test_an_emptied_case_leaves_its_pallet() -> None:
    made = books(PACK)
    rules.pack(made, Named(sscc(2), "parent"), named([PACK]), origin(2))
    rules.pack(made, Named(PALLET, "parent"), named([sscc(2)]), origin(3))
    rules.unpack(made, Named(sscc(2), "parent"), (), origin(4))
    assert made.contents(PALLET) == ()
    assert notices(made) == [("PARENT_NOT_UNPACKED", sscc(2))]


@pytest.mark.parametrize(
    ("offset_h", "usable"),
    [(0, True), (-5, True), (1, False)],
)
def test_a_pack_is_usable_to_the_end_of_its_day_where_it_is_handed_out(offset_h: int, usable: bool) -> None:
    made = books(PACK)
    last_minute = datetime(2028, 3, 31, 23, 30, tzinfo=UTC)
    when = replace(origin(3, last_minute), utc_offset=timedelta(hours=offset_h))

    def work() -> None:
        dispensing.dispense(made, named([PACK]), when, recalls=NO_RECALLS, partial=False)

    if usable:
        work()
        assert state(made, PACK) is HoldingState.DISPENSED
    else:
        refused("UNIT_EXPIRED", "epcs[0]", work)


def test_refuses_to_dispense_a_container() -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    refused("UNIT_NOT_PACK", "epcs[0]", lambda: dispense(made, CASE))


@pytest.mark.parametrize(
    "scope",
    [
        RecallScope(GTIN),
        RecallScope(GTIN, "A123"),
        RecallScope(GTIN, "A123", ("1",)),
        RecallScope(GTIN, "", ("1",)),
        RecallScope(CASE_GTIN),
    ],
)
def test_a_recall_stops_the_pack_and_what_holds_it(scope: RecallScope) -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    index = RecallIndex([recall(scope)])
    assert index.affecting(made, PACK) == ("urn:uuid:R1",)
    refused("UNIT_RECALLED", "epcs[0]", lambda: ship(made, CASE, recalls=index))
    ship(made, CASE, recalls=index, as_return=True)


def test_a_recall_stops_dispensing() -> None:
    index = RecallIndex([recall(RecallScope(GTIN))])
    refused("UNIT_RECALLED", "epcs[0]", lambda: dispense(books(PACK), PACK, recalls=index))


@pytest.mark.parametrize(
    "stated",
    [
        [recall(RecallScope(GTIN, "B9"))],
        [recall(RecallScope(GTIN, "A123", ("77",)))],
        [recall(RecallScope(Gtin("04012345123456")))],
        [recall(RecallScope(GTIN), drill=True)],
        [recall(RecallScope(GTIN)), recall(RecallScope(GTIN), number="R2", ends="urn:uuid:R1")],
    ],
)
def test_other_recalls_drills_and_ended_ones_stop_nothing(stated: list[KnownRecall]) -> None:
    made = books(PACK)
    dispense(made, PACK, recalls=RecallIndex(stated))
    assert state(made, PACK) is HoldingState.DISPENSED


def test_a_recall_cannot_be_ended_by_somebody_else_but_a_regulator() -> None:
    first = recall(RecallScope(GTIN))
    other = replace(recall(RecallScope(GTIN), number="R2", ends="urn:uuid:R1"), actor=PARTNER)
    assert RecallIndex([first, other]).is_active("urn:uuid:R1")
    assert not RecallIndex([first, replace(other, regulator=True)]).is_active("urn:uuid:R1")


def test_a_recall_ends_when_its_end_begins() -> None:
    first = recall(RecallScope(GTIN))
    end = recall(RecallScope(GTIN), number="R2", ends="urn:uuid:R1")
    assert RecallIndex([first, end], now=T0 - timedelta(seconds=1)).is_active("urn:uuid:R1")
    assert not RecallIndex([first, end], now=T0).is_active("urn:uuid:R1")


def test_holds_end_only_where_they_began() -> None:
    made = books(PACK)
    refused("NOT_ON_HOLD", "epcs[0]", lambda: rules.release(made, named([PACK]), origin(2)))
    rules.hold(made, named([PACK]), origin(2), reason="x")
    refused("ALREADY_ON_HOLD", "epcs[0]", lambda: rules.hold(made, named([PACK]), origin(3), reason="x"))
    rules.release(made, named([PACK]), origin(4))
    ship(made, PACK)


def test_a_void_shipping_takes_the_despatch_back() -> None:
    made = books(PACK)
    refused("NOT_DESPATCHED", "epcs[0]", lambda: rules.void_shipping(made, named([PACK]), origin(2)))
    ship(made, PACK)
    rules.void_shipping(made, named([PACK]), origin(3))
    assert state(made, PACK) is HoldingState.ON_HAND


_COMING_BACK: dict[str, Callable[[Books], object]] = {
    "voided": lambda made: rules.void_shipping(made, named([PACK]), origin(9)),
    "taken back": lambda made: rules.receive(made, named([PACK]), origin(9), returned=True),
    "packed, as a fact": lambda made: rules.pack(
        made, Named(CASE, "parent"), named([PACK]), replace(origin(9), happened=True)
    ),
}


@pytest.mark.parametrize("how", _COMING_BACK)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, HoldingState.ON_HAND),
        ({"hold_reason": "SUSPECT: odd"}, HoldingState.ON_HAND),
        ({"state": HoldingState.EXCEPTION, "exception": "UNADVISED"}, HoldingState.EXCEPTION),
        ({"state": HoldingState.PARTIALLY_DISPENSED, "opened": True}, HoldingState.PARTIALLY_DISPENSED),
    ],
)
def test_what_was_sent_back_comes_back_as_it_went(how: str, before: dict[str, object], after: HoldingState) -> None:
    made = books(PACK, CASE)
    put(made, PACK, **before)
    rules.ship(made, named([PACK]), origin(2), partner=PARTNER, recalls=NO_RECALLS, as_return=True, opened=True)
    assert state(made, PACK) is HoldingState.RETURNED
    _COMING_BACK[how](made)
    found = made.get(PACK)
    assert found is not None
    held = str(before.get("hold_reason", ""))
    expected = added(held, RETURN_UNVERIFIED) if how == "taken back" else held
    assert (found.state, found.hold_reason) == (after, expected)


def test_a_voided_despatch_brings_no_end_back() -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    ship(made, CASE)
    put(made, PACK, state=HoldingState.ENDED, ending=Ending.STOLEN)
    rules.void_shipping(made, named([CASE]), origin(3))
    assert (state(made, CASE), state(made, PACK)) == (HoldingState.ON_HAND, HoldingState.ENDED)


def test_a_transformation_consumes_and_gives_life() -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    rules.transform(made, named([CASE]), named([OTHER]), origin(3), recalls=NO_RECALLS, traits=Traits("N1", None))
    assert state(made, PACK) is HoldingState.CONSUMED
    new = made.get(OTHER)
    assert new is not None
    assert (new.state, new.lot) == (HoldingState.ON_HAND, "N1")


def test_arriving_changes_nothing_before_receiving() -> None:
    made = Books([Holding(PACK, HoldingState.INBOUND, "e", T0)])
    rules.arrive(made, named([PACK]), origin(2))
    assert state(made, PACK) is HoldingState.INBOUND
    refused("UNIT_UNKNOWN", "epcs[0]", lambda: rules.arrive(made, named([OTHER]), origin(2)))


def test_refuses_to_receive_what_ended_or_is_here() -> None:
    made = books(PACK, OTHER)
    refused("ALREADY_RECEIVED", "epcs[0]", lambda: rules.receive(made, named([PACK]), origin(2)))
    put(made, OTHER, state=HoldingState.DISPENSED)
    refused("UNIT_FINAL", "epcs[0]", lambda: rules.receive(made, named([OTHER]), origin(2)))


@pytest.mark.parametrize("said", [True, False])
def test_what_is_received_without_its_container_is_taken_out_of_it(said: bool) -> None:
    made = Books(
        [Holding(CASE, HoldingState.INBOUND, "e", T0), Holding(PACK, HoldingState.INBOUND, "e", T0, parent=CASE)]
    )
    if said:
        rules.unpack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    rules.receive(made, named([PACK]), origin(2))
    assert (state(made, PACK), state(made, CASE)) == (HoldingState.ON_HAND, HoldingState.INBOUND)
    assert (notices(made), made.contents(CASE)) == ([] if said else [("PARENT_NOT_UNPACKED", PACK)], ())


def test_what_came_inside_a_container_is_inferred_until_it_is_seen() -> None:
    made = Books(
        [Holding(CASE, HoldingState.INBOUND, "e", T0), Holding(PACK, HoldingState.INBOUND, "e", T0, parent=CASE)]
    )
    rules.receive(made, named([CASE]), origin(2))
    assert [(part.unit, part.inferred) for part in made] == [(CASE, False), (PACK, True)]
    apply_step(made, Step(StepKind.OBSERVE, named([PACK])), origin(3), recalls=NO_RECALLS)
    assert not any(part.inferred for part in made)


def test_what_was_despatched_and_comes_back_unannounced_is_put_aside() -> None:
    made = books(PACK)
    ship(made, PACK)
    assert rules.receive(made, named([PACK]), origin(3)).unadvised == (PACK,)
    assert state(made, PACK) is HoldingState.EXCEPTION


def test_a_return_out_of_a_despatched_case_is_taken_out_of_it() -> None:
    made = books(PACK, CASE)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    ship(made, CASE)
    rules.receive(made, named([PACK]), origin(4), returned=True)
    back = made.get(PACK)
    assert back is not None
    assert (back.state, back.parent, bool(back.hold_reason)) == (HoldingState.ON_HAND, None, True)
    assert state(made, CASE) is HoldingState.DESPATCHED


def test_a_container_that_moves_takes_its_contents_place_along() -> None:
    made = books(PACK, CASE)
    elsewhere = replace(origin(3), location=PARTNER)
    rules.pack(made, Named(CASE, "parent"), named([PACK]), origin(2))
    rules.observe(made, named([CASE]), elsewhere)
    holding = made.get(PACK)
    assert holding is not None
    assert holding.location == PARTNER


def test_only_packs_are_dispensed() -> None:
    rules.require_pack_unit(Named(PACK, "epcs[0]"))
    refused("UNIT_NOT_PACK", "epcs[0]", lambda: rules.require_pack_unit(Named(PALLET, "epcs[0]")))
