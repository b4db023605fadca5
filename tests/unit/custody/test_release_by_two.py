"""Holds with several reasons, releases by two persons, and lots on hold."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, update

from medtrail.epcis.model import EpcisEvent, ErrorDeclaration, Extension
from medtrail.errors import MedtrailError
from medtrail.event import Refusal
from medtrail.gs1 import Gln, Gtin, Sgtin
from services.custody import (
    capture,
    commands,
    corrections,
    events,
    holdings_store,
    holds,
    inbox,
    lot_holds,
    release_requests,
)
from services.custody.desk import Accepted, Session
from services.custody.hold_policy import HoldPolicy
from services.custody.holding import Books, Ending, HoldingState
from services.custody.holds import HoldCode
from services.custody.holds_tables import ReleaseRequestRow
from services.custody.lot_holds import LotHold
from services.custody.release_requests import ReleaseRequest, RequestState
from services.custody.steps import OUR_NAMESPACE, REASON_NAME
from services.custody.units import Unit
from tests.unit.custody.conftest import CASE_GTIN, GTIN, LOT, House, named, packs, sscc

SUSPECT_NEEDS_TWO = HoldPolicy(four_eyes=frozenset({HoldCode.SUSPECT}))


def refused(code: str, work: Callable[[], object]) -> None:
    with pytest.raises(MedtrailError) as caught:
        work()
    assert caught.value.code == code


def hold(house: House, *units: Unit, code: HoldCode = HoldCode.OTHER, reason: str = "") -> list[Accepted]:
    occasion = house.occasion()
    return house.write(lambda s: commands.hold(s, named(units), occasion, reason=reason, code=code), units)


def release(house: House, *units: Unit, codes: tuple[HoldCode, ...] = ()) -> list[Accepted]:
    occasion = house.occasion()
    return house.write(lambda s: commands.release(s, named(units), occasion, reason="checked", codes=codes), units)


def last(house: House) -> EpcisEvent:
    statement = house.events()[-1].statement
    assert isinstance(statement, EpcisEvent)
    return statement


def reasons(house: House, unit: Unit) -> tuple[str, ...]:
    return holds.lines_of(house.held(unit).hold_reason)


def with_policy(house: House, policy: HoldPolicy) -> House:
    house.desk = replace(house.desk, holds=policy)
    return house


# --- several reasons ---


def test_each_reason_is_released_by_itself(maker: House) -> None:
    maker.commission(packs(1))
    hold(maker, *packs(1), reason="leaking")
    hold(maker, *packs(1), code=HoldCode.QUALITY, reason="under test")
    assert reasons(maker, packs(1)[0]) == ("leaking", "QUALITY: under test")

    release(maker, *packs(1), codes=(HoldCode.QUALITY,))
    said = last(maker)
    assert (said.biz_step, said.disposition) == ("inspecting", "non_sellable_other")
    assert [(item.name, item.value) for item in said.extensions] == [
        ("reason", "checked"),
        ("released", "QUALITY: under test"),
    ]
    assert reasons(maker, packs(1)[0]) == ("leaking",)

    release(maker, *packs(1), codes=(HoldCode.OTHER,))
    assert (last(maker).biz_step, last(maker).disposition) == ("storing", "sellable_accessible")
    assert reasons(maker, packs(1)[0]) == ()


def test_a_container_is_free_only_when_all_in_it_is(maker: House) -> None:
    maker.commission(packs(1, 2))
    maker.pack(sscc(1), packs(1, 2))
    hold(maker, sscc(1), code=HoldCode.DAMAGED)
    hold(maker, *packs(1), code=HoldCode.QUALITY)

    release(maker, sscc(1), codes=(HoldCode.DAMAGED,))
    assert last(maker).disposition == "non_sellable_other"
    assert [reasons(maker, unit) for unit in packs(1, 2)] == [("QUALITY",), ()]
    assert reasons(maker, sscc(1)) == ()


def test_refuses_to_release_what_is_not_on_hold_for_that(maker: House) -> None:
    maker.commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.DAMAGED)

    refused("NOT_ON_HOLD", lambda: release(maker, *packs(1), codes=(HoldCode.QUALITY,)))
    refused("ALREADY_ON_HOLD", lambda: hold(maker, *packs(1), code=HoldCode.DAMAGED))


# --- two persons ---


def ask(house: House, *units: Unit, person: str = "anna", codes: tuple[HoldCode, ...] = ()) -> str:
    return house.write(lambda s: release_requests.ask(s, named(units), codes, reason="cleared", person=person), units)


def approve(house: House, request_id: str, *, person: str = "ben") -> list[Accepted]:
    occasion = house.occasion()
    return house.write(lambda s: release_requests.approve(s, request_id, occasion, person=person, reason="agreed"))


def request_of(house: House, request_id: str) -> ReleaseRequest:
    return house.read(lambda connection: release_requests.get(connection, request_id))


def test_one_person_does_not_release_what_two_must(maker: House) -> None:
    with_policy(maker, SUSPECT_NEEDS_TWO).commission(packs(1, 2))
    hold(maker, *packs(1), code=HoldCode.SUSPECT)
    hold(maker, *packs(2), code=HoldCode.DAMAGED)

    refused("FOUR_EYES_REQUIRED", lambda: release(maker, *packs(1)))
    release(maker, *packs(2))
    assert reasons(maker, packs(1)[0]) == ("SUSPECT",)


def test_the_other_reasons_of_a_unit_need_one_person(maker: House) -> None:
    with_policy(maker, SUSPECT_NEEDS_TWO).commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.SUSPECT)
    hold(maker, *packs(1), code=HoldCode.DAMAGED)

    release(maker, *packs(1), codes=(HoldCode.DAMAGED,))
    assert reasons(maker, packs(1)[0]) == ("SUSPECT",)


def test_no_captured_event_gets_round_two_persons(maker: House) -> None:
    with_policy(maker, SUSPECT_NEEDS_TWO).commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.SUSPECT)
    held = maker.events()[-1]
    freed = replace(last(maker), biz_step="storing", disposition="sellable_accessible", extensions=())

    def record(statement: EpcisEvent) -> None:
        maker.write(lambda s: capture.capture(s, [statement], second_hand=False), packs(1))

    refused("FOUR_EYES_REQUIRED", lambda: record(replace(freed, event_time=maker.clock())))
    declaration = ErrorDeclaration(maker.clock(), "did_not_occur")
    declared = replace(last(maker), event_id=held.header.event_id, error_declaration=declaration)
    refused("FOUR_EYES_REQUIRED", lambda: record(declared))
    assert reasons(maker, packs(1)[0]) == ("SUSPECT",)


def test_no_declaration_with_another_content_gets_round_two_persons(maker: House) -> None:
    with_policy(maker, SUSPECT_NEEDS_TWO).commission(packs(1))
    held = events.holding(packs(1), maker.occasion(), reason="SUSPECT: odd")
    further = Extension(OUR_NAMESPACE, REASON_NAME, "DAMAGED: torn")
    twice = replace(held, extensions=(*held.extensions, further))
    maker.write(lambda s: capture.capture(s, [twice], second_hand=False), packs(1))
    event_id = maker.events()[-1].header.event_id
    declared = replace(twice, event_id=event_id, error_declaration=ErrorDeclaration(maker.clock(), "did_not_occur"))

    def record(statement: EpcisEvent) -> None:
        maker.write(lambda s: capture.capture(s, [statement], second_hand=False), packs(1))

    counted = replace(declared, biz_step="cycle_counting", disposition=None, extensions=())
    refused("DECLARATION_DIFFERS", lambda: record(counted))
    # The same content in another order is the same event, and holds for the same reason.
    refused("FOUR_EYES_REQUIRED", lambda: record(replace(declared, extensions=tuple(reversed(twice.extensions)))))
    assert reasons(maker, packs(1)[0]) == ("SUSPECT: odd",)


def test_no_void_shipping_of_a_return_gets_round_two_persons(maker: House, distributor: House) -> None:
    maker.commission(packs(1))
    maker.ship(packs(1), distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    with_policy(distributor, SUSPECT_NEEDS_TWO).receive(packs(1))
    hold(distributor, *packs(1), code=HoldCode.SUSPECT)
    distributor.send_back(packs(1), maker.gln)
    sent = last(distributor)
    voided = replace(sent, biz_step="void_shipping", disposition=None, event_time=distributor.clock())
    distributor.write(lambda s: capture.capture(s, [voided], second_hand=False), packs(1))

    assert distributor.held(packs(1)[0]).state is HoldingState.ON_HAND
    assert reasons(distributor, packs(1)[0]) == ("SUSPECT",)
    refused("FOUR_EYES_REQUIRED", lambda: release(distributor, *packs(1)))


def test_a_hold_that_one_may_release_may_be_declared_an_error(maker: House) -> None:
    with_policy(maker, SUSPECT_NEEDS_TWO).commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.DAMAGED)
    held = maker.events()[-1]
    declared = replace(
        last(maker),
        event_id=held.header.event_id,
        error_declaration=ErrorDeclaration(maker.clock(), "did_not_occur"),
    )
    maker.write(lambda s: capture.capture(s, [declared], second_hand=False), packs(1))

    assert reasons(maker, packs(1)[0]) == ()


def test_another_person_approves_and_the_release_names_both_by_pseudonym(maker: House) -> None:
    with_policy(maker, SUSPECT_NEEDS_TWO).commission(packs(1, 2))
    hold(maker, *packs(1, 2), code=HoldCode.SUSPECT)
    request_id = ask(maker, *packs(1, 2))
    approve(maker, request_id)

    assert [reasons(maker, unit) for unit in packs(1, 2)] == [(), ()]
    said = {item.name: str(item.value) for item in last(maker).extensions}
    assert said.keys() == {"reason", "requestedBy", "approvedBy"}
    assert said["reason"] == "cleared"
    assert said["requestedBy"] != said["approvedBy"]
    assert not [name for name in ("anna", "ben") if name in str(last(maker))]
    found = request_of(maker, request_id)
    assert (found.state, found.requester, found.decider) == (RequestState.APPROVED, "anna", "ben")
    assert found.decision_reason == "agreed"


def test_a_person_has_one_pseudonym_in_a_house_and_another_in_the_next(maker: House, distributor: House) -> None:
    def spoken(house: House) -> set[str]:
        found = set()
        for number in (1, 2):
            with_policy(house, SUSPECT_NEEDS_TWO)
            hold(house, *packs(number), code=HoldCode.SUSPECT)
            approve(house, ask(house, *packs(number)))
            found.add(next(str(item.value) for item in last(house).extensions if item.name == "approvedBy"))
        return found

    maker.commission(packs(1, 2))
    at_maker = spoken(maker)
    maker.ship(packs(1, 2), distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive(packs(1, 2))
    at_distributor = spoken(distributor)
    assert (len(at_maker), len(at_distributor), len(at_maker | at_distributor)) == (1, 1, 2)


def test_same_person_who_asked_may_not_approve(maker: House) -> None:
    maker.commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.SUSPECT)
    request_id = ask(maker, *packs(1))

    refused("SAME_PERSON", lambda: approve(maker, request_id, person="anna"))
    assert request_of(maker, request_id).state is RequestState.OPEN
    approve(maker, request_id, person="anna2")


def test_a_request_is_decided_once(maker: House) -> None:
    maker.commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.SUSPECT)
    request_id = ask(maker, *packs(1))
    maker.write(lambda s: release_requests.reject(s, request_id, person="anna", reason="withdrawn"))

    assert request_of(maker, request_id).state is RequestState.REJECTED
    refused("RELEASE_REQUEST_DECIDED", lambda: approve(maker, request_id))
    refused("RELEASE_REQUEST_UNKNOWN", lambda: approve(maker, "none"))
    assert reasons(maker, packs(1)[0]) == ("SUSPECT",)


def test_only_what_is_on_hold_can_be_asked_for(maker: House) -> None:
    maker.commission(packs(1))

    refused("NOT_ON_HOLD", lambda: ask(maker, *packs(1)))
    refused("UNIT_UNKNOWN", lambda: ask(maker, *packs(9)))


def test_what_was_released_meanwhile_is_not_released_again(maker: House) -> None:
    maker.commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.DAMAGED)
    request_id = ask(maker, *packs(1))
    release(maker, *packs(1))

    refused("NOT_ON_HOLD", lambda: approve(maker, request_id))
    assert request_of(maker, request_id).state is RequestState.OPEN


def test_a_request_may_name_the_reasons_that_end(maker: House) -> None:
    maker.commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.SUSPECT)
    hold(maker, *packs(1), code=HoldCode.DAMAGED)
    approve(maker, ask(maker, *packs(1), codes=(HoldCode.SUSPECT,)))

    assert reasons(maker, packs(1)[0]) == ("DAMAGED",)


@pytest.mark.parametrize("codes", [(), (HoldCode.SUSPECT,)], ids=["all", "of a code"])
def test_what_came_after_a_request_holds_on_when_it_is_approved(maker: House, codes: tuple[HoldCode, ...]) -> None:
    box, (pack,) = sscc(1), packs(1)
    maker.commission([pack])
    maker.pack(box, [pack])
    hold(maker, box, code=HoldCode.SUSPECT, reason="odd print")
    request_id = ask(maker, box, codes=codes)
    hold(maker, pack, code=HoldCode.SUSPECT, reason="another")
    hold(maker, box, code=HoldCode.QUALITY)
    approve(maker, request_id)
    assert reasons(maker, box) == ("QUALITY",)
    assert reasons(maker, pack) == ("SUSPECT: another", "QUALITY")
    assert request_of(maker, request_id).reasons == {box: ("SUSPECT: odd print",)}
    again = ask(maker, box)
    release(maker, box, codes=(HoldCode.QUALITY,))
    refused("NOT_ON_HOLD", lambda: approve(maker, again))


def test_a_request_of_an_earlier_version_ends_what_stands(maker: House) -> None:
    maker.commission(packs(1))
    hold(maker, *packs(1), code=HoldCode.SUSPECT)
    request_id = ask(maker, *packs(1))
    maker.database.write_now(lambda c: c.execute(update(ReleaseRequestRow).values(reasons="")))
    hold(maker, *packs(1), code=HoldCode.QUALITY)
    approve(maker, request_id)
    assert reasons(maker, packs(1)[0]) == ()


def test_requests_are_listed_newest_first(maker: House) -> None:
    maker.commission(packs(1, 2, 3))
    hold(maker, *packs(1, 2, 3), code=HoldCode.DAMAGED)
    made = [ask(maker, unit) for unit in packs(1, 2, 3)]
    approve(maker, made[1])

    def listed(state: RequestState | None, before: int | None = None) -> list[str]:
        found = maker.read(lambda c: release_requests.list_requests(c, state=state, before=before, limit=2))
        return [item.release_request_id for item in found]

    assert listed(None) == [made[2], made[1]]
    assert listed(None, before=2) == [made[0]]
    assert listed(RequestState.OPEN) == [made[2], made[0]]
    assert listed(RequestState.APPROVED) == [made[1]]


# --- lots ---


def hold_lot(
    house: House, *, gtin: Gtin = GTIN, lot: str = LOT, code: HoldCode = HoldCode.QUALITY, reason: str = "assay"
) -> LotHold:
    occasion = house.occasion()

    def work(session: Session) -> LotHold:
        made = lot_holds.add(session.connection, gtin=gtin, lot=lot, code=code, reason=reason, now=session.now)
        release_requests.hold_lot(session, made, occasion)
        return made

    return house.write(work)


def release_lot(house: House, lot_hold: LotHold, *, moment: datetime | None = None) -> int:
    occasion = house.occasion(moment)

    def work(session: Session) -> int:
        found = lot_holds.require_standing(session.connection, lot_hold.lot_hold_id)
        return release_requests.release_lot(session, found, occasion, reason="passed")[1]

    return house.write(work)


def test_a_lot_on_hold_holds_packs_here_by_a_signed_event(maker: House) -> None:
    maker.commission(packs(1, 2))
    maker.commission(packs(3), lot="B1")
    made = hold_lot(maker)

    assert [reasons(maker, unit) for unit in packs(1, 2, 3)] == [(made.line,), (made.line,), ()]
    said = last(maker)
    assert (said.biz_step, len(said.epc_list)) == ("holding", 2)
    assert holds.code_of(made.line) is HoldCode.QUALITY
    refused("UNIT_ON_HOLD", lambda: maker.ship(packs(1), Gln("0399999999991")))


def test_a_lot_on_hold_holds_packs_to_come(maker: House, distributor: House) -> None:
    at_distributor = hold_lot(distributor)
    maker.commission(packs(1, 2))
    maker.pack(sscc(1), packs(1, 2))
    maker.ship([sscc(1)], distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    assert distributor.held(packs(1)[0]).hold_reason == ""
    distributor.receive([sscc(1)])

    assert [reasons(distributor, unit) for unit in packs(1, 2)] == [(at_distributor.line,)] * 2
    assert last(distributor).biz_step == "holding"
    assert distributor.held(packs(1)[0]).parent == sscc(1)
    refused("UNIT_ON_HOLD", lambda: distributor.ship([sscc(1)], maker.gln))


def test_packs_that_nobody_scanned_stay_so_while_their_lot_is_held_and_released(
    maker: House, distributor: House
) -> None:
    made = hold_lot(distributor)
    maker.commission(packs(1, 2))
    maker.pack(sscc(1), packs(1, 2))
    maker.ship([sscc(1)], distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive([sscc(1)])
    hold(distributor, *packs(2), code=HoldCode.DAMAGED)
    assert [distributor.held(unit).inferred for unit in packs(1, 2)] == [True, False]
    assert release_lot(distributor, made) == 2

    assert [distributor.held(unit).inferred for unit in packs(1, 2)] == [True, False]
    assert distributor.held(packs(1)[0]).hold_reason == ""


def test_a_lot_on_hold_holds_packs_commissioned_later(maker: House) -> None:
    made = hold_lot(maker)
    maker.commission(packs(1))
    maker.commission(packs(2), lot="B1")

    assert [reasons(maker, unit) for unit in packs(1, 2)] == [(made.line,), ()]


def test_releasing_a_lot_ends_what_it_holds_and_nothing_else(maker: House) -> None:
    maker.commission(packs(1, 2))
    made = hold_lot(maker)
    other = hold_lot(maker, code=HoldCode.PARTNER, reason="asked")
    hold(maker, *packs(2), code=HoldCode.QUALITY)
    assert release_lot(maker, made) == 2

    assert reasons(maker, packs(1)[0]) == (other.line,)
    assert reasons(maker, packs(2)[0]) == (other.line, "QUALITY")
    maker.commission(packs(3))
    assert reasons(maker, packs(3)[0]) == (other.line,)
    assert release_lot(maker, other) == 3
    assert [reasons(maker, unit) for unit in packs(1, 2, 3)] == [(), ("QUALITY",), ()]
    refused("NOT_ON_HOLD", lambda: release_lot(maker, made))
    refused("LOT_HOLD_UNKNOWN", lambda: maker.read(lambda c: lot_holds.get(c, "none")))


@pytest.mark.parametrize("how", ["ended", "despatched", "refused"])
def test_what_an_undo_brings_back_is_on_hold_with_its_lot(maker: House, how: str) -> None:
    maker.commission(packs(1, 2))
    maker.pack(sscc(1), packs(1, 2))
    if how == "ended":
        made = maker.write(lambda s: commands.end(s, named([sscc(1)]), maker.occasion(), Ending.SAMPLED), (sscc(1),))
    else:
        made = maker.ship([sscc(1)], Gln("0399999999991"))
    held = hold_lot(maker)
    if how == "refused":
        refusal = Refusal(made[0].signed_event_sha256, made[0].event_id, "SENDER", "", "because", 1, maker.clock())
        maker.database.write_now(lambda c: inbox.take_refusal(c, maker.desk, refusal))
    else:
        maker.write(lambda s: corrections.undo(s, *named([sscc(1)]), reason="a mistake"), (sscc(1),))

    assert [maker.held(unit).state for unit in packs(1, 2)] == [HoldingState.ON_HAND] * 2
    assert [reasons(maker, unit) for unit in packs(1, 2)] == [(held.line,)] * 2
    assert last(maker).biz_step == "holding"


def test_a_lot_is_on_hold_once_for_one_reason(maker: House) -> None:
    hold_lot(maker)

    refused("ALREADY_ON_HOLD", lambda: hold_lot(maker))
    hold_lot(maker, reason="another")


def test_two_persons_release_a_lot(maker: House) -> None:
    with_policy(maker, SUSPECT_NEEDS_TWO).commission(packs(1, 2))
    made = hold_lot(maker, code=HoldCode.SUSPECT)
    refused("FOUR_EYES_REQUIRED", lambda: release_lot(maker, made))
    request_id = maker.write(
        lambda s: release_requests.ask_for_lot(s, made.lot_hold_id, reason="passed", person="anna")
    )
    assert len(approve(maker, request_id)) == 1

    assert [reasons(maker, unit) for unit in packs(1, 2)] == [(), ()]
    assert {item.name for item in last(maker).extensions} == {"reason", "released", "requestedBy", "approvedBy"}
    listed = maker.read(lambda c: lot_holds.list_lot_holds(c, include_released=True, before=None, limit=9))
    assert [item.release_time is None for item in listed] == [False]
    assert maker.read(lambda c: lot_holds.list_lot_holds(c, include_released=False, before=None, limit=9)) == []
    assert maker.read(lambda c: lot_holds.list_lot_holds(c, include_released=True, before=1, limit=9)) == []


@pytest.mark.parametrize("code", [HoldCode.QUALITY, HoldCode.RECALLED, HoldCode.RETURN_UNVERIFIED])
def test_a_return_of_a_lot_on_hold_is_on_hold_for_both(maker: House, distributor: House, code: HoldCode) -> None:
    made = returned_of_lot_on_hold(maker, distributor, code=code)

    assert maker.held(packs(1)[0]).state is HoldingState.ON_HAND
    assert reasons(maker, packs(1)[0]) == (holds.RETURN_UNVERIFIED, made.line)
    release_lot(maker, made)
    assert reasons(maker, packs(1)[0]) == (holds.RETURN_UNVERIFIED,)
    assert last(maker).disposition == "non_sellable_other"
    refused("UNIT_ON_HOLD", lambda: maker.ship(packs(1), distributor.gln))


def test_another_hold_does_not_do_away_with_the_second_person_for_a_return(maker: House, distributor: House) -> None:
    with_policy(maker, HoldPolicy(four_eyes=frozenset({HoldCode.RETURN_UNVERIFIED})))
    returned_of_lot_on_hold(maker, distributor)
    hold(maker, *packs(1), reason="x")

    refused("FOUR_EYES_REQUIRED", lambda: release(maker, *packs(1)))
    release(maker, *packs(1), codes=(HoldCode.OTHER,))
    assert holds.RETURN_UNVERIFIED in reasons(maker, packs(1)[0])


def returned_of_lot_on_hold(maker: House, distributor: House, *, code: HoldCode = HoldCode.QUALITY) -> LotHold:
    """A pack comes back to its maker, which has put its lot on hold meanwhile."""
    maker.commission(packs(1))
    maker.ship(packs(1), distributor.gln)
    made = hold_lot(maker, code=code)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive(packs(1))
    distributor.send_back(packs(1), maker.gln)
    distributor.send_to(maker)
    maker.confirm_all()
    maker.clock.now += timedelta(hours=1)
    maker.receive(packs(1))
    return made


# --- lots of cases ---

CASE = Sgtin(CASE_GTIN, "110")


def case_lot_on_hold(maker: House, code: HoldCode) -> LotHold:
    """A case of a lot on hold; one of the packs inside is on hold for a reason of its own."""
    maker.commission(packs(1, 2))
    maker.commission([CASE])
    maker.pack(CASE, packs(1, 2))
    hold(maker, *packs(1), code=code)
    return hold_lot(maker, gtin=CASE_GTIN)


def test_the_end_of_a_cases_lot_hold_leaves_what_holds_its_packs(maker: House) -> None:
    made = case_lot_on_hold(maker, HoldCode.DAMAGED)
    release_lot(maker, made)

    assert [reasons(maker, unit) for unit in (CASE, *packs(1, 2))] == [(), ("DAMAGED",), ()]
    assert (last(maker).disposition, released(maker)) == ("non_sellable_other", [made.line])


def test_two_persons_release_a_cases_lot_and_no_suspicion_inside(maker: House) -> None:
    made = case_lot_on_hold(with_policy(maker, SUSPECT_NEEDS_TWO), HoldCode.SUSPECT)
    request_id = maker.write(
        lambda s: release_requests.ask_for_lot(s, made.lot_hold_id, reason="passed", person="anna")
    )
    approve(maker, request_id)

    assert reasons(maker, packs(1)[0]) == ("SUSPECT",)
    assert reasons(maker, CASE) == ()


def released(house: House) -> list[str]:
    return [str(item.value) for item in last(house).extensions if item.name == "released"]


def test_a_lot_held_and_released_twice_in_the_same_words_is_free(maker: House) -> None:
    maker.commission(packs(1, 2))
    moment = maker.clock() + timedelta(minutes=1)
    lines = []
    for _ in range(2):
        made = hold_lot(maker)
        assert release_lot(maker, made, moment=moment) == 2
        assert [reasons(maker, unit) for unit in packs(1, 2)] == [(), ()]
        assert (last(maker).disposition, released(maker)) == ("sellable_accessible", [made.line])
        lines.append(made.line)
    assert len(set(lines)) == 2


def test_packs_of_a_lot_are_taken_once_each_whatever_becomes_of_them(maker: House) -> None:
    maker.commission(packs(*range(1, 8)))
    made = hold_lot(maker)

    def taken(*, held: bool) -> list[int]:
        return maker.read(lambda c: [len(units) for units in lot_holds.batches(c, made, held=held, size=3)])

    # Nothing changes them between the groups: whoever asks for the next one still gets other packs.
    assert (taken(held=True), taken(held=False)) == ([3, 3, 1], [])


def test_a_large_lot_is_held_and_released_a_part_at_a_time(maker: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_requests, "LOT_BATCH", 3)
    maker.commission(packs(*range(1, 8)))
    loaded: list[int] = []
    load_books = holdings_store.load_books

    def counted(connection: Connection, units: Iterable[Unit]) -> Books:
        wanted = tuple(units)
        loaded.append(len(wanted))
        return load_books(connection, wanted)

    monkeypatch.setattr(holdings_store, "load_books", counted)
    made = hold_lot(maker)
    assert release_lot(maker, made) == 7
    assert max(loaded) == 3
    assert {reasons(maker, unit) for unit in packs(*range(1, 8))} == {()}
