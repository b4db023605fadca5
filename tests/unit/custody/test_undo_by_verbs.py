"""Undoing a decommissioning or dispensing by the verb, and by declaring its event an error."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from medtrail.epcis.model import EpcisEvent, ErrorDeclaration
from medtrail.errors import MedtrailError
from medtrail.event import Recall, RecallScope
from medtrail.gs1 import Gln
from services.custody import alerts, capture, commands, events, undoing
from services.custody.holding import Ending, HoldingState
from services.custody.recalls import KnownRecall
from services.custody.undoing import Request
from services.custody.units import Named
from tests.unit.custody.conftest import EXPIRY, GTIN, Clock, House, named, packs, sscc

if TYPE_CHECKING:
    from services.custody.alerts import Alert
    from services.custody.desk import Accepted
    from services.custody.units import Unit

UNDOABLE = [how for how in Ending if how not in {Ending.EMPTIED, Ending.DESTROYED, Ending.STOLEN, Ending.LOST}]
FINAL = [Ending.DESTROYED, Ending.STOLEN, Ending.LOST]


def ended(house: House, unit: "Unit", how: Ending) -> None:
    house.commission([unit])
    house.write(lambda s: commands.end(s, named([unit]), house.occasion(), how), (unit,))


def stocked(maker: House, pharmacy: House, *units: "Unit") -> None:
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units)


def dispensed(maker: House, house: House, unit: "Unit", *, opened: bool = False) -> None:
    stocked(maker, house, unit)
    if opened:
        house.dispense([unit], partial=True)
    house.dispense([unit])


def undo(house: House, unit: "Unit", *, not_supplied: bool = False, elsewhere: bool = False) -> "list[Accepted]":
    premises = house.desk.default_location
    if elsewhere:
        premises = next(gln for gln in house.desk.glns if gln != premises)
    request = Request(premises, "+00:00", "a mistake", not_supplied=not_supplied)
    return house.write(lambda s: undoing.undo_deed(s, Named(unit, "epc"), request), (unit,))


def refused(house: House, unit: "Unit", *, not_supplied: bool = True, elsewhere: bool = False) -> str:
    before = house.holding(unit)
    with pytest.raises(MedtrailError) as caught:
        undo(house, unit, not_supplied=not_supplied, elsewhere=elsewhere)
    assert house.holding(unit) == before
    return caught.value.code


def recall_all(house: House) -> None:
    stated = Recall("R1", "retail", "why", "", house.clock(), (RecallScope(GTIN),))
    house.recalls = (KnownRecall("urn:uuid:R1", house.gln, stated),)


@pytest.mark.parametrize("how", UNDOABLE)
def test_a_decommissioning_is_undone(maker: House, how: Ending) -> None:
    (pack,) = packs(1)
    ended(maker, pack, how)
    undo(maker, pack)
    assert maker.held(pack).state is HoldingState.ON_HAND


def test_a_dispensing_is_undone_by_whom_states_that_it_was_none(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    dispensed(maker, pharmacy, pack)
    assert refused(pharmacy, pack, not_supplied=False) == "SUPPLY_NOT_DENIED"
    undo(pharmacy, pack, not_supplied=True)
    assert pharmacy.held(pack).state is HoldingState.ON_HAND


@pytest.mark.parametrize("how", FINAL)
def test_what_is_destroyed_stolen_or_lost_stays_so(maker: House, how: Ending) -> None:
    (pack,) = packs(1)
    ended(maker, pack, how)
    assert refused(maker, pack) == "UNDO_FINAL"


def test_what_was_handed_out_in_part_is_never_undone(maker: House, pharmacy: House) -> None:
    opened, rest = packs(1, 2)
    stocked(maker, pharmacy, opened)
    pharmacy.dispense([opened], partial=True)
    assert refused(pharmacy, opened) == "UNDO_SUPPLIED"
    dispensed(maker, pharmacy, rest, opened=True)
    assert refused(pharmacy, rest) == "UNDO_SUPPLIED"


def test_ten_days_later_it_is_final(maker: House, clock: Clock) -> None:
    early, late = packs(1, 2)
    ended(maker, early, Ending.SAMPLED)
    clock.now += timedelta(days=9, hours=23)
    undo(maker, early)
    ended(maker, late, Ending.SAMPLED)
    clock.now += timedelta(days=10)
    assert refused(maker, late) == "UNDO_LATE"


def test_only_at_the_premises_where_it_was_done(maker: House) -> None:
    (pack,) = packs(1)
    ended(maker, pack, Ending.SAMPLED)
    assert refused(maker, pack, elsewhere=True) == "UNDO_ELSEWHERE"


def test_what_expired_or_was_recalled_meanwhile_is_final(maker: House, clock: Clock) -> None:
    recalled, expired = packs(1, 2)
    ended(maker, recalled, Ending.SAMPLED)
    recall_all(maker)
    assert refused(maker, recalled) == "UNIT_RECALLED"
    maker.recalls = ()
    clock.now = clock.now.replace(year=EXPIRY.year, month=EXPIRY.month, day=EXPIRY.day)
    ended(maker, expired, Ending.SAMPLED)
    clock.now += timedelta(days=1)
    assert refused(maker, expired) == "UNIT_EXPIRED"


def test_what_did_not_end_has_verbs_of_its_own(maker: House) -> None:
    (pack,) = packs(1)
    assert refused(maker, pack) == "NOTHING_TO_UNDO"
    maker.commission([pack])
    maker.hold([pack])
    assert refused(maker, pack) == "NOTHING_TO_UNDO"


def declaration(house: House) -> EpcisEvent:
    """Declare the newest event of a house an error."""
    event = house.events()[-1]
    assert isinstance(event.statement, EpcisEvent)
    declared = ErrorDeclaration(house.clock(), "did_not_occur", (), ())
    return replace(event.statement, event_id=event.header.event_id, error_declaration=declared)


def declare(house: House, *units: "Unit", happened: bool) -> None:
    statement = declaration(house)
    house.write(
        lambda s: capture.capture(s, [statement], second_hand=False, happened=happened),
        units,
    )


def standing_alerts(house: House, *, withdrawn: bool = False) -> "list[Alert]":
    query = alerts.AlertQuery(include_withdrawn=withdrawn)
    return house.read(lambda c: alerts.list_alerts(c, query, before=None, limit=100))


@pytest.mark.parametrize("how", FINAL)
def test_undo_forbidden_of_what_is_final_and_the_end_stands(maker: House, how: Ending) -> None:
    (pack,) = packs(1)
    ended(maker, pack, how)
    with pytest.raises(MedtrailError) as caught:
        declare(maker, pack, happened=False)
    assert getattr(caught.value, "code", "") == "UNDO_FINAL"
    declare(maker, pack, happened=True)
    assert maker.held(pack).state is HoldingState.ENDED
    assert [(alert.code, alert.unit) for alert in standing_alerts(maker)] == [("UNDO_FORBIDDEN", pack)]


def test_undo_forbidden_after_ten_days(maker: House, pharmacy: House, clock: Clock) -> None:
    (pack,) = packs(1)
    dispensed(maker, pharmacy, pack)
    clock.now += timedelta(days=10)
    declare(pharmacy, pack, happened=True)
    assert pharmacy.held(pack).state is HoldingState.DISPENSED
    assert [alert.code for alert in standing_alerts(pharmacy)] == ["UNDO_FORBIDDEN"]


@pytest.mark.parametrize("happened", [False, True])
def test_no_undo_forbidden_within_ten_days(maker: House, pharmacy: House, clock: Clock, happened: bool) -> None:
    (pack,) = packs(1)
    dispensed(maker, pharmacy, pack)
    clock.now += timedelta(days=9)
    declare(pharmacy, pack, happened=happened)
    assert (pharmacy.held(pack).state, standing_alerts(pharmacy)) == (HoldingState.ON_HAND, [])


def test_no_undo_forbidden_where_nothing_ended_by_it(maker: House, clock: Clock) -> None:
    (pack,) = packs(1)
    maker.commission([pack])
    maker.hold([pack])
    clock.now += timedelta(days=30)
    declare(maker, pack, happened=False)
    assert maker.held(pack).hold_reason == ""


def declaration_refused(house: House, statement: EpcisEvent, *units: "Unit", happened: bool = False) -> str:
    before = house.all_holdings()
    with pytest.raises(MedtrailError) as caught:
        house.write(lambda s: capture.capture(s, [statement], second_hand=False, happened=happened), units)
    assert house.all_holdings() == before
    return caught.value.code


@pytest.mark.parametrize("happened", [False, True])
def test_refuses_a_declaration_that_says_something_else_than_the_event(maker: House, happened: bool) -> None:
    gone, other = packs(1, 2)
    maker.commission([gone, other])
    maker.write(lambda s: commands.end(s, named([gone]), maker.occasion(), Ending.DESTROYED), (gone,))
    same = declaration(maker)
    for changed in (
        replace(same, epc_list=(other.digital_link,)),
        replace(same, epc_list=(gone.digital_link, other.digital_link)),
        replace(same, biz_step="cycle_counting", disposition=None),
        replace(same, event_time=maker.clock()),
        replace(same, extensions=()) if same.extensions else replace(same, disposition="damaged"),
    ):
        assert declaration_refused(maker, changed, gone, other, happened=happened) == "DECLARATION_DIFFERS"
    assert declaration_refused(maker, same, gone) == "UNDO_FINAL"


def test_a_declaration_may_be_spelled_another_way_and_is_signed_as_the_event_was(maker: House) -> None:
    one, two = packs(1, 2)
    maker.commission([one, two])
    maker.hold([one, two])
    event = maker.events()[-1].statement
    assert isinstance(event, EpcisEvent)
    other = replace(declaration(maker), epc_list=tuple(reversed(event.epc_list)), record_time=maker.clock())
    for again in (False, True):
        (made,) = maker.write(lambda s: capture.capture(s, [other], second_hand=False), (one, two))
        assert made.resend is again
    said = maker.events()[-1].statement
    assert isinstance(said, EpcisEvent)
    assert replace(said, error_declaration=None) == event
    assert (maker.held(one).hold_reason, maker.held(two).hold_reason) == ("", "")


def test_what_was_handed_out_in_part_is_not_declared_an_error(maker: House, pharmacy: House) -> None:
    opened, emptied = packs(1, 2)
    stocked(maker, pharmacy, opened, emptied)
    pharmacy.dispense([opened, emptied], partial=True)
    part = declaration(pharmacy)
    assert declaration_refused(pharmacy, part, opened, emptied) == "UNDO_SUPPLIED"
    pharmacy.hold([opened])
    pharmacy.dispense([emptied])
    assert declaration_refused(pharmacy, part, opened, emptied) == "UNDO_SUPPLIED"
    before = (pharmacy.held(opened), pharmacy.held(emptied))
    pharmacy.write(lambda s: capture.capture(s, [part], second_hand=False, happened=True), (opened, emptied))
    assert (pharmacy.held(opened), pharmacy.held(emptied)) == before
    assert {(alert.code, alert.unit) for alert in standing_alerts(pharmacy)} == {
        ("UNDO_FORBIDDEN", opened),
        ("UNDO_FORBIDDEN", emptied),
    }


def test_a_hold_of_an_opened_pack_may_be_declared_an_error(maker: House, pharmacy: House) -> None:
    (opened,) = packs(1)
    stocked(maker, pharmacy, opened)
    pharmacy.dispense([opened], partial=True)
    before = pharmacy.held(opened)
    pharmacy.hold([opened])
    declare(pharmacy, opened, happened=False)
    assert pharmacy.held(opened) == before


def test_an_alert_is_raised_once_withdrawn_and_raised_anew(maker: House) -> None:
    first, second = packs(1, 2)

    def raise_one(unit: "Unit", message: str = "x") -> None:
        maker.database.write_now(
            lambda c: alerts.raise_alert(
                c, alerts.AlertCode.NOT_HELD, unit, event_id="urn:x:1", message=message, now=maker.clock()
            )
        )

    for unit in (first, second, first):
        raise_one(unit)
    assert [alert.unit for alert in standing_alerts(maker)] == [second, first]
    maker.database.write_now(
        lambda c: alerts.withdraw(c, alerts.AlertCode.NOT_HELD, first, event_id="urn:x:1", now=maker.clock())
    )
    assert [alert.unit for alert in standing_alerts(maker)] == [second]
    raise_one(first, "again")
    assert [alert.message for alert in standing_alerts(maker)] == ["x", "again"]

    def page(query: alerts.AlertQuery, before: int | None = None) -> list[int]:
        found = maker.read(lambda c: alerts.list_alerts(c, query, before=before, limit=1))
        return [alert.number for alert in found]

    newest = standing_alerts(maker)[0].number
    assert page(alerts.AlertQuery()) == [newest]
    assert page(alerts.AlertQuery(), newest) == [standing_alerts(maker)[1].number]
    assert page(alerts.AlertQuery(unit=first)) == [standing_alerts(maker)[1].number]
    assert page(alerts.AlertQuery(code="USED_AFTER_END")) == []


def test_an_alert_stands_until_its_event_is_taken_back(maker: House) -> None:
    inside, other = packs(1, 2)
    maker.commission([inside, other])
    maker.pack(sscc(1), [inside, other])
    maker.ship([inside], Gln("0399999999991"))
    (raised,) = standing_alerts(maker)
    assert (raised.code, raised.unit, raised.event_id) == (
        "PARENT_NOT_UNPACKED",
        inside,
        maker.events()[-1].header.event_id,
    )
    assert maker.held(inside).parent is None
    declare(maker, inside, happened=False)
    assert maker.held(inside).parent == sscc(1)
    assert standing_alerts(maker) == []
    (gone,) = standing_alerts(maker, withdrawn=True)
    assert gone.withdraw_time is not None


def test_alerts_of_others_stand_on_when_one_of_them_is_undone(maker: House, distributor: House) -> None:
    units = packs(1, 2)
    stocked(maker, distributor, *units)
    distributor.pack(sscc(1), units)
    event = events.ending(units, distributor.occasion(), Ending.SAMPLED)
    distributor.write(lambda s: capture.capture(s, [event], second_hand=False), units)
    assert [alert.unit for alert in standing_alerts(distributor)] == list(reversed(units))
    undo(distributor, units[0])
    (left,) = standing_alerts(distributor)
    assert (left.unit, left.event_id) == (units[1], distributor.held(units[1]).event_id)
    assert distributor.held(units[0]).parent == sscc(1)
