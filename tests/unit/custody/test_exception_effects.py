"""What the resolution of a case does to goods, suspect product, and alarms: with real books, clocks set by hand."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from medtrail.epcis.model import EpcisEvent, ErrorDeclaration
from medtrail.errors import ConflictError, MalformedError
from medtrail.event import Role
from medtrail.pdg import ContactInformation
from medtrail.subjects import MessageKind as InboxKind
from services.custody import commands as verbs
from services.custody import corrections, events_store, holdings_store, inbound_store, letters
from services.custody.exceptions import alarms, commands, conversation, exchange, store, suspect
from services.custody.exceptions.case import Case, CaseResolution, CaseScan, CaseStatus, MessageKind, NewCase
from services.custody.exceptions.codes import RULES, Category, ExceptionCode
from services.custody.exceptions.commands import Speaker
from services.custody.exceptions.suspect import count_to_verify
from services.custody.hold_policy import HoldPolicy
from services.custody.holding import Ending, HoldingState
from services.custody.holds import HoldCode
from tests.unit.custody.conftest import House, named, packs, sscc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.custody.desk import Accepted, Session
    from services.custody.units import Unit

SPEAKER = Speaker(ContactInformation("bay@house.example"), "Kim")


def stock(maker: House, pharmacy: House, *serials: int) -> "tuple[Unit, ...]":
    units = packs(*serials)
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units)
    return units


def open_case(house: House, code: ExceptionCode, units: "Sequence[Unit]", **more: object) -> Case:
    new = NewCase(code, "not as it should be", units, **more)  # type: ignore[arg-type]
    return house.write(lambda s: commands.open_case(s, new), units)


def resolve(house: House, case: Case, how: CaseResolution) -> "tuple[Case, list[Accepted]]":
    occasion = house.occasion()
    return house.write(lambda s: commands.resolve(s, case.case_id, how, occasion, reason="as agreed"))


def hold(house: House, units: "Sequence[Unit]", code: HoldCode) -> None:
    occasion = house.occasion()
    house.write(lambda s: verbs.hold(s, named(units), occasion, reason="wet", code=code), units)


def mark(house: House, units: "Sequence[Unit]", reason: str = "blurred print") -> Case:
    occasion = house.occasion()
    return house.write(
        lambda s: suspect.mark(s, named(units), occasion, reason=reason, person="Kim", scan=CaseScan("x")), units
    )[0]


def clear(house: House, case: Case, verified: "Sequence[Unit]") -> Case:
    occasion = house.occasion()
    return house.write(
        lambda s: suspect.clear(s, case.case_id, named(verified), occasion, reason="genuine", person="Lee")
    )[0]


def declare(house: House, case: Case) -> Case:
    return house.write(lambda s: suspect.declare_illegitimate(s, case.case_id, reason="no such serial", person="Lee"))


def deliver(house: House, other: House) -> int:
    found = [data for to, kind, data in house.messages() if to == other.gln and kind is InboxKind.NOTICE]
    for data in found:
        take = partial(letters.take_letter, desk=other.desk, data=data, sender=house.gln)
        other.database.write_now(take)
    return len(found)


def refused(code: str, kind: type[Exception] = ConflictError) -> "pytest.RaisesExc[Exception]":
    return pytest.RaisesExc(kind, check=lambda error: getattr(error, "code", "") == code)


# --- opening ---


def test_same_trouble_with_a_unit_has_one_open_case(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1, 2)
    first = open_case(pharmacy, ExceptionCode.DAMAGED, units[:1])
    again = open_case(pharmacy, ExceptionCode.DAMAGED, units)
    assert (again.case_id, again.unit_count) == (first.case_id, 2)
    other = open_case(pharmacy, ExceptionCode.LABEL_UNREADABLE, units[:1])
    assert other.case_id != first.case_id
    resolve(pharmacy, first, CaseResolution.WITHDRAWN)
    assert open_case(pharmacy, ExceptionCode.DAMAGED, units[:1]).case_id != first.case_id


def test_case_takes_partner_and_despatch_from_the_books_and_is_due_by_its_code(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    case = open_case(pharmacy, ExceptionCode.DAMAGED, units)
    assert case.partner == maker.gln
    assert case.despatch_id == pharmacy.held(units[0]).despatch_id
    assert case.due_time - case.open_time == RULES[ExceptionCode.DAMAGED].due


def test_cases_are_listed_by_what_they_are_about(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1, 2)
    damaged = open_case(pharmacy, ExceptionCode.DAMAGED, units[:1], owner="Kim")
    late = open_case(pharmacy, ExceptionCode.SHORTAGE, units[1:], delivery_id="D1")
    closed = open_case(pharmacy, ExceptionCode.EXPIRED, units[1:])
    resolve(pharmacy, closed, CaseResolution.WITHDRAWN)
    soon = pharmacy.clock.now + timedelta(days=4)

    def ids(query: store.CaseQuery) -> list[str]:
        return [case.case_id for case in pharmacy.read(lambda c: store.list_cases(c, query, limit=10))[0]]

    assert ids(store.CaseQuery()) == [late.case_id, damaged.case_id]
    assert len(ids(store.CaseQuery(include_resolved=True))) == 3
    assert ids(store.CaseQuery(status=CaseStatus.RESOLVED)) == [closed.case_id]
    assert ids(store.CaseQuery(owner="Kim")) == [damaged.case_id]
    assert ids(store.CaseQuery(category=Category.DATA_NO_PRODUCT)) == [late.case_id]
    assert ids(store.CaseQuery(code=ExceptionCode.DAMAGED)) == [damaged.case_id]
    assert ids(store.CaseQuery(unit=units[1])) == [late.case_id]
    assert ids(store.CaseQuery(delivery_id="D1", partner=maker.gln)) == [late.case_id]
    assert ids(store.CaseQuery(overdue_at=soon)) == [late.case_id]
    assert ids(store.CaseQuery(despatch_id="elsewhere")) == []
    page, total = pharmacy.read(lambda c: store.list_cases(c, store.CaseQuery(), before=late.number, limit=1))
    assert ([case.case_id for case in page], total) == ([damaged.case_id], 2)


# --- resolutions ---


def test_accepting_ends_the_hold_of_the_case_and_no_other(maker: House, pharmacy: House) -> None:
    (unit,) = units = stock(maker, pharmacy, 1)
    hold(pharmacy, units, HoldCode.DAMAGED)
    hold(pharmacy, units, HoldCode.QUALITY)
    case = open_case(pharmacy, ExceptionCode.DAMAGED, units)
    done, made = resolve(pharmacy, case, CaseResolution.ACCEPTED)
    assert (done.status, done.resolution, len(made)) == (CaseStatus.RESOLVED, CaseResolution.ACCEPTED, 1)
    assert pharmacy.held(unit).hold_reason == "QUALITY: wet"


def test_goods_without_data_are_not_accepted_and_data_settle_them(maker: House, pharmacy: House) -> None:
    (unit,) = units = packs(1)
    maker.commission(units)
    pharmacy.receive(units)
    assert pharmacy.held(unit).state is HoldingState.EXCEPTION
    case = open_case(pharmacy, ExceptionCode.OVERAGE, units, partner=maker.gln)
    for how, code in (
        (CaseResolution.ACCEPTED, "CASE_NEEDS_DATA"),
        (CaseResolution.WITHDRAWN, "CASE_NEEDS_DATA"),
        (CaseResolution.CORRECTED_DATA, "CASE_DATA_MISSING"),
    ):
        with refused(code):
            resolve(pharmacy, case, how)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    assert pharmacy.held(unit).state is HoldingState.ON_HAND
    done, made = resolve(pharmacy, case, CaseResolution.CORRECTED_DATA)
    assert (done.resolution, made) == (CaseResolution.CORRECTED_DATA, [])


def test_accepted_goods_with_data_are_received_by_an_event(maker: House, pharmacy: House) -> None:
    (unit,) = units = packs(1)
    maker.commission(units)
    (despatch,) = maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    aside = {"state": HoldingState.EXCEPTION.value, "exception": "LOT_MISMATCH"}
    pharmacy.database.write_now(lambda c: holdings_store.mark(c, [unit.path], **aside))
    case = open_case(pharmacy, ExceptionCode.LOT_MISMATCH, units)
    _, made = resolve(pharmacy, case, CaseResolution.ACCEPTED)
    held = pharmacy.held(unit)
    assert (held.state, held.exception, held.event_id) == (HoldingState.ON_HAND, "", made[0].event_id)
    shipment = pharmacy.read(lambda c: inbound_store.find(c, despatch.event_id))
    assert shipment is not None
    assert (shipment.received_count, shipment.state.value) == (1, "received")
    assert pharmacy.dispense(units)


def test_returned_goods_are_kept_from_sale_and_marked_for_their_partner(maker: House, pharmacy: House) -> None:
    (unit,) = units = stock(maker, pharmacy, 1)
    case = open_case(pharmacy, ExceptionCode.LABEL_UNREADABLE, units)
    resolve(pharmacy, case, CaseResolution.RETURNED)
    assert case.case_id in pharmacy.held(unit).hold_reason
    assert pharmacy.read(lambda c: store.returns_pending(c, maker.gln)) == [(case.case_id, unit)]
    assert pharmacy.read(lambda c: store.units_of_case(c, case.case_id))[0].return_pending
    pharmacy.send_back(units, maker.gln)
    assert pharmacy.read(store.returns_pending) == []
    assert not pharmacy.read(lambda c: store.units_of_case(c, case.case_id))[0].return_pending


def test_destroyed_goods_end_by_an_event(maker: House, pharmacy: House) -> None:
    (unit,) = units = stock(maker, pharmacy, 1)
    case = open_case(pharmacy, ExceptionCode.DAMAGED, units)
    resolve(pharmacy, case, CaseResolution.DESTROYED)
    assert pharmacy.held(unit).ending is Ending.DESTROYED


def test_partners_case_does_nothing_to_goods_that_are_elsewhere(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    case = open_case(maker, ExceptionCode.SHORTAGE, units, partner=pharmacy.gln)
    _, made = resolve(maker, case, CaseResolution.ACCEPTED)
    assert made == []


def test_partner_hears_of_a_shared_case_that_is_closed_by_data(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    case = open_case(pharmacy, ExceptionCode.SHORTAGE, units)
    pharmacy.write(lambda s: commands.propose(s, case.case_id, None, SPEAKER))
    closed = pharmacy.write(
        lambda s: exchange.close_and_tell(s, case.case_id, CaseResolution.CORRECTED_DATA, note="data came")
    )
    again = pharmacy.write(
        lambda s: exchange.close_and_tell(s, case.case_id, CaseResolution.CORRECTED_DATA, note="data came")
    )
    assert (closed, again) == (True, False)
    assert deliver(pharmacy, maker) == 2
    assert maker.read(lambda c: store.get_case(c, case.case_id)).resolution is CaseResolution.BY_PARTNER


def test_a_container_that_is_accepted_counts_with_all_that_is_inside(maker: House, pharmacy: House) -> None:
    units, box = packs(1, 2, 3), sscc(1)
    maker.commission(units)
    maker.pack(box, units)
    (despatch,) = maker.ship([box], pharmacy.gln)
    maker.send_to(pharmacy)
    aside = {"state": HoldingState.EXCEPTION.value, "exception": "LOT_MISMATCH"}
    pharmacy.database.write_now(lambda c: holdings_store.mark(c, [box.path, *(u.path for u in units)], **aside))
    case = open_case(pharmacy, ExceptionCode.LOT_MISMATCH, [box])
    resolve(pharmacy, case, CaseResolution.ACCEPTED)
    shipment = pharmacy.read(lambda c: inbound_store.find(c, despatch.event_id))
    assert shipment is not None
    assert (shipment.received_count, shipment.state.value) == (3, "received")


def test_goods_that_this_house_made_are_accepted_without_a_despatch(maker: House) -> None:
    units = packs(1, 2)
    made = maker.commission(units)
    aside = {"state": HoldingState.EXCEPTION.value, "exception": "OFFLINE_CONFLICT"}
    maker.database.write_now(lambda c: holdings_store.mark(c, [unit.path for unit in units], **aside))
    resolve(maker, open_case(maker, ExceptionCode.OFFLINE_CONFLICT, units[:1]), CaseResolution.ACCEPTED)
    assert maker.held(units[0]).state is HoldingState.ON_HAND
    # What made them was declared an error: nothing tells of them any more.
    (event,) = [item for item in maker.events() if item.header.event_id == made[0].event_id]
    assert isinstance(event.statement, EpcisEvent)
    again = replace(event.statement, event_id=made[0].event_id, error_declaration=ErrorDeclaration(maker.clock()))
    hold(maker, units[1:], HoldCode.QUALITY)
    maker.write(lambda s: s.record(again), units)
    with refused("CASE_NEEDS_DATA"):
        resolve(maker, open_case(maker, ExceptionCode.OFFLINE_CONFLICT, units[1:]), CaseResolution.ACCEPTED)


def test_goods_to_be_returned_are_held_for_that_whatever_else_holds_them(maker: House, pharmacy: House) -> None:
    (unit,) = units = stock(maker, pharmacy, 1)
    hold(pharmacy, units, HoldCode.QUALITY)
    case = open_case(pharmacy, ExceptionCode.LABEL_UNREADABLE, units)
    resolve(pharmacy, case, CaseResolution.RETURNED)
    occasion = pharmacy.occasion()
    pharmacy.write(lambda s: verbs.release(s, named(units), occasion, reason="ok", codes={HoldCode.QUALITY}), units)
    assert case.case_id in pharmacy.held(unit).hold_reason


# --- more than a case holds ---


def test_units_beyond_what_a_case_holds_get_further_cases(pharmacy: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_UNITS", 3)
    units = packs(*range(1, 9))

    def raised(*chosen: int) -> list[int]:
        some = [units[number - 1] for number in chosen]
        found = pharmacy.write(
            lambda s: store.open_cases(
                s.connection, s.desk.gln, NewCase(ExceptionCode.SHORTAGE, "x", some, despatch_id="D"), now=s.now
            )
        )
        return [len(inside) for inside in found.values()]

    def counts() -> list[int]:
        found, _ = pharmacy.read(lambda c: store.list_cases(c, store.CaseQuery(), limit=10))
        return sorted(case.unit_count for case in found)

    assert raised(1, 2, 3, 4) == [3, 1]
    # The first is full, the second takes what it holds, and a third the rest.
    assert raised(1, 4, 5, 6, 7) == [1, 3, 1]
    assert counts() == [1, 3, 3]
    # What stands in a case of its own stays there.
    assert raised(1, 4, 7) == [1, 1, 1]
    assert counts() == [1, 3, 3]


def test_suspect_product_of_more_packs_than_a_case_holds_is_cleared(
    maker: House, distributor: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_UNITS", 3)
    monkeypatch.setattr("services.custody.events.MAX_UNITS_PER_EVENT", 2)
    units, pallet = packs(*range(1, 7)), sscc(1)
    maker.commission(units)
    maker.pack(pallet, units)
    maker.ship((pallet,), distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive((pallet,))
    case = mark(distributor, (pallet,))
    assert clear(distributor, case, units).resolution is CaseResolution.CLEARED
    assert {(distributor.held(unit).hold_reason, distributor.held(unit).suspect) for unit in units} == {("", "")}


def test_more_partners_than_one_may_say_messages_are_notified_of_every_unit(
    maker: House, distributor: House, pharmacy: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "MAX_MESSAGES", 2)
    monkeypatch.setattr(exchange, "MAX_EPCS", 2)
    units = stock(maker, distributor, 1, 2, 3, 4, 5, 6)
    distributor.ship(units[:1], pharmacy.gln)
    case = declare(distributor, mark(distributor, units[1:]))
    assert set(distributor.read(lambda c: conversation.notified_partners(c, case.case_id))) == {maker.gln, pharmacy.gln}
    monkeypatch.setattr(conversation, "MAX_MESSAGES", 1000)
    for other in (maker, pharmacy):
        deliver(distributor, other)
        there = other.read(lambda c: store.units_of_case(c, case.case_id))
        assert {item.unit for item in there} == set(units[1:])
    # Of the three letters that each of them got one copy each is kept.
    said = distributor.read(lambda c: conversation.messages_of_case(c, case.case_id))
    assert len([item for item in said if item.kind is MessageKind.ILLEGITIMATE and item.signed_event]) == 3
    clear(distributor, case, units[1:])
    deliver(distributor, pharmacy)
    assert pharmacy.read(lambda c: store.get_case(c, case.case_id)).resolution is CaseResolution.BY_PARTNER


def test_opened_pack_put_aside_by_a_declared_error_comes_to_rest_as_opened(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    pharmacy.dispense(units, partial=True)
    receiving = pharmacy.read(lambda c: events_store.events_naming(c, [units[0].path]))[-2]
    pharmacy.database.write_now(
        lambda c: corrections.take_back(c, receiving, code="DECLARED_ERROR", now=pharmacy.clock())
    )
    held = pharmacy.held(units[0])
    assert (held.state, held.exception) == (HoldingState.EXCEPTION, "DECLARED_ERROR")
    resolve(pharmacy, open_case(pharmacy, ExceptionCode.DAMAGED, units), CaseResolution.ACCEPTED)
    assert pharmacy.held(units[0]).state is HoldingState.PARTIALLY_DISPENSED
    with refused("UNIT_OPENED"):
        pharmacy.ship(units, maker.gln)


# --- suspect product ---


@pytest.mark.parametrize(
    ("pack_count", "pharmacy", "others"),
    [(0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3), (29, 3, 29), (30, 3, 30), (31, 4, 31), (100, 10, 100), (101, 11, 101)],
)
def test_dispenser_verifies_three_packs_or_a_tenth_and_others_every_one(
    pack_count: int, pharmacy: int, others: int
) -> None:
    assert count_to_verify(pack_count, frozenset({Role.PHARMACY})) == pharmacy
    assert count_to_verify(pack_count, frozenset({Role.DISTRIBUTOR})) == others
    # Whoever is both has the stricter duty.
    assert count_to_verify(pack_count, frozenset({Role.PHARMACY, Role.DISTRIBUTOR})) == others


def test_suspect_is_a_persons_word_that_quarantines(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1, 2)
    with refused("CASE_CODE_SUSPECT", MalformedError):
        open_case(pharmacy, ExceptionCode.SUSPECT, units)
    case = mark(pharmacy, units)
    held = pharmacy.held(units[0])
    assert (held.hold_reason, held.suspect) == ("SUSPECT: blurred print", case.case_id)
    assert (case.partner, case.scan) == (maker.gln, CaseScan("x"))
    with refused("UNIT_ON_HOLD"):
        pharmacy.dispense(units[:1])


def test_no_release_ends_the_quarantine_of_suspect_product(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1, 2, 3)
    case = mark(pharmacy, units)
    pharmacy.release(units)
    with refused("UNIT_ON_HOLD"):
        pharmacy.dispense(units[:1])
    with refused("UNIT_ON_HOLD"):
        pharmacy.ship(units[:1], maker.gln)
    clear(pharmacy, case, units)
    assert pharmacy.dispense(units)


def test_suspicion_neither_ends_nor_comes_back_with_an_event_that_is_undone(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    case = mark(pharmacy, units)
    pharmacy.write(lambda s: corrections.undo(s, named(units)[0], reason="wrong pack"), units)
    assert (pharmacy.held(units[0]).hold_reason, pharmacy.held(units[0]).suspect) == ("", case.case_id)
    hold(pharmacy, units, HoldCode.QUALITY)
    clear(pharmacy, case, units)
    pharmacy.write(lambda s: corrections.undo(s, named(units)[0], reason="not wet"), units)
    assert (pharmacy.held(units[0]).hold_reason, pharmacy.held(units[0]).suspect) == ("", "")


def test_no_suspect_by_a_data_mismatch_alone(maker: House, pharmacy: House) -> None:
    (unit,) = units = stock(maker, pharmacy, 1)
    open_case(pharmacy, ExceptionCode.LOT_MISMATCH, units)
    held = pharmacy.held(unit)
    assert (held.suspect, held.hold_reason) == ("", "")


def test_marking_again_adds_to_the_open_case_and_holds_what_is_new(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1, 2)
    case = mark(pharmacy, units[:1])
    again = mark(pharmacy, units, "the other one, too")
    assert (again.case_id, again.unit_count) == (case.case_id, 2)
    assert pharmacy.held(units[0]).hold_reason == "SUSPECT: blurred print"
    assert pharmacy.held(units[1]).hold_reason == "SUSPECT: the other one, too"


def test_clearing_needs_the_packs_that_the_law_names_and_ends_the_quarantine(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1, 2, 3, 4)
    case = mark(pharmacy, units)
    with refused("CASE_SUSPECT"):
        resolve(pharmacy, case, CaseResolution.ACCEPTED)
    with refused("SUSPECT_NOT_VERIFIED"):
        clear(pharmacy, case, units[:2])
    pharmacy.write(lambda s: suspect.note_some(s, case.case_id, named(units[:2]), person="Kim"))
    with refused("UNIT_NOT_OF_CASE", MalformedError):
        clear(pharmacy, case, packs(99))
    done = clear(pharmacy, case, units[2:3])
    assert (done.status, done.resolution) == (CaseStatus.RESOLVED, CaseResolution.CLEARED)
    held = pharmacy.held(units[3])
    assert (held.hold_reason, held.suspect) == ("", "")
    assert pharmacy.dispense(units)


def test_packs_in_a_suspect_container_are_counted_and_cleared_with_it(maker: House, distributor: House) -> None:
    units, case_unit = packs(1, 2, 3), sscc(1)
    maker.commission(units)
    maker.pack(case_unit, units)
    maker.ship((case_unit,), distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive((case_unit,))
    case = mark(distributor, (case_unit,))
    assert distributor.held(units[0]).suspect == case.case_id
    with refused("SUSPECT_NOT_VERIFIED"):
        clear(distributor, case, units[:2])
    clear(distributor, case, units)
    assert (distributor.held(units[0]).suspect, distributor.held(units[0]).hold_reason) == ("", "")


def test_illegitimate_product_is_told_to_whom_it_came_from_and_went_to(
    maker: House, distributor: House, pharmacy: House
) -> None:
    units = stock(maker, distributor, 1, 2)
    distributor.ship(units[:1], pharmacy.gln)
    case = mark(distributor, units[1:])
    with refused("CASE_NOT_ILLEGITIMATE"):
        distributor.write(lambda s: suspect.record_form(s, case.case_id, submit_time=s.now, incident_number=""))
    declared = declare(distributor, case)
    assert declared.status is CaseStatus.ILLEGITIMATE
    assert declared.determine_time is not None
    assert declared.due_time == declared.determine_time + timedelta(hours=24)
    notified = distributor.read(lambda c: conversation.notified_partners(c, case.case_id))
    assert set(notified) == {maker.gln, pharmacy.gln}
    for other in (maker, pharmacy):
        assert deliver(distributor, other) == 1
        there = other.read(lambda c: store.get_case(c, case.case_id))
        assert (there.code, there.status) == (ExceptionCode.SUSPECT, CaseStatus.ILLEGITIMATE)
        assert there.partner_reported
        # It is for a person there to say what is suspect.
        assert other.read(lambda c: conversation.messages_of_case(c, case.case_id))[0].kind is MessageKind.ILLEGITIMATE
    with refused("CASE_ILLEGITIMATE"):
        declare(distributor, case)
    clear(distributor, case, units[1:])
    deliver(distributor, pharmacy)
    assert pharmacy.read(lambda c: store.get_case(c, case.case_id)).resolution is CaseResolution.BY_PARTNER


def test_notified_partner_may_speak_about_the_case(maker: House, distributor: House, pharmacy: House) -> None:
    units = stock(maker, distributor, 1, 2)
    distributor.ship(units[:1], pharmacy.gln)
    case = declare(distributor, mark(distributor, units[1:]))
    deliver(distributor, pharmacy)
    pharmacy.write(lambda s: commands.add_message(s, case.case_id, text="one pack found", person="Ada", internal=False))
    deliver(pharmacy, distributor)
    said = distributor.read(lambda c: conversation.messages_of_case(c, case.case_id))
    assert [(message.sender, message.text) for message in said if message.kind is MessageKind.NOTE] == [
        (pharmacy.gln, "one pack found")
    ]


def test_only_suspect_product_is_cleared_or_declared(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    case = open_case(pharmacy, ExceptionCode.DAMAGED, units)
    with refused("CASE_NOT_SUSPECT"):
        clear(pharmacy, case, units)
    with refused("CASE_NOT_SUSPECT"):
        declare(pharmacy, case)


# --- alarms ---


def alarms_at(house: House, after: timedelta) -> dict[str, int]:
    moment = house.clock.now + after
    return {alarm.code: alarm.count for alarm in house.read(lambda c: alarms.case_alarms(c, lambda: moment))}


def test_exception_overdue_is_an_alarm_until_the_case_is_resolved(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    case = open_case(pharmacy, ExceptionCode.DAMAGED, units)
    assert alarms_at(pharmacy, timedelta(days=4)) == {}
    assert alarms_at(pharmacy, timedelta(days=6)) == {"EXCEPTION_OVERDUE": 1}
    later = pharmacy.clock.now + timedelta(days=30)
    pharmacy.write(lambda s: commands.set_due_time(s, case.case_id, later))
    assert alarms_at(pharmacy, timedelta(days=6)) == {}
    resolve(pharmacy, case, CaseResolution.WITHDRAWN)
    assert alarms_at(pharmacy, timedelta(days=60)) == {}


def test_notification_overdue_is_an_alarm_until_the_form_was_submitted(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    case = declare(pharmacy, mark(pharmacy, units))
    assert alarms_at(pharmacy, timedelta(hours=23)) == {}
    assert alarms_at(pharmacy, timedelta(hours=25)) == {"EXCEPTION_OVERDUE": 1, "NOTIFICATION_OVERDUE": 1}
    resolve(pharmacy, case, CaseResolution.DESTROYED)
    assert alarms_at(pharmacy, timedelta(hours=25)) == {"NOTIFICATION_OVERDUE": 1}
    pharmacy.write(lambda s: suspect.record_form(s, case.case_id, submit_time=s.now, incident_number="I-1"))
    assert alarms_at(pharmacy, timedelta(hours=25)) == {}


def test_clearing_waits_for_the_second_person_where_the_house_wants_two(maker: House, pharmacy: House) -> None:
    units = stock(maker, pharmacy, 1)
    pharmacy.desk = replace(pharmacy.desk, holds=HoldPolicy(four_eyes=frozenset({HoldCode.SUSPECT})))
    case = mark(pharmacy, units)
    with refused("FOUR_EYES_REQUIRED"):
        clear(pharmacy, case, units)
    occasion = pharmacy.occasion()

    def approve(session: "Session") -> None:
        session.approved = True
        verbs.release(session, named(units), occasion, reason="looked at by two")

    pharmacy.write(approve, units)
    assert clear(pharmacy, case, units).resolution is CaseResolution.CLEARED
