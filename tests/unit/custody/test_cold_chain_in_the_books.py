"""What sensors report, from the event to the packs: held here, marked on their way, remembered when they are gone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest

from medtrail.epcis.model import Action, EpcisEvent, EventType, Place, SensorElement, SensorMetadata, SensorReport
from medtrail.event import PackLevel, Product, StorageLimits, StorageRange
from medtrail.gs1 import Gln, OtherKey
from services.custody import alerts, capture, commands, corrections, events, excursions, holds
from services.custody.alerts import AlertQuery
from services.custody.events import Route, place_uri
from services.custody.exceptions import store as cases
from services.custody.exceptions.codes import ExceptionCode
from services.custody.holding import Ending, HoldingState
from services.custody.holds import HoldCode
from services.custody.notices import AlertCode
from services.custody.units import Unit, as_unit
from tests.unit.custody.conftest import GTIN, START, House, named, packs, sscc

FRIDGE = Product(GTIN, PackLevel.PACK, "Insulin", storage=StorageLimits(StorageRange(Decimal(2), Decimal(8))))
TOTE = OtherKey("8003", "00300010000015TOTE7")
DEVICE = OtherKey("8004", "0300011SENSOR1")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def cold(houses: dict[str, House]) -> dict[str, House]:
    """Houses that know that the product is kept cold; their clock is well past what they tell of."""
    for house in houses.values():
        house.desk = replace(house.desk, products=lambda: {GTIN: FRIDGE})
    return houses


def warm(*values: str, at: datetime, device: str | None = None, step: timedelta = HOUR) -> SensorElement:
    reports = tuple(
        SensorReport(type="Temperature", value=Decimal(value), uom="CEL", time=at + number * step)
        for number, value in enumerate(values)
    )
    return SensorElement(SensorMetadata(device_id=device), reports)


def reading(units: Sequence[Unit], *elements: SensorElement, at: datetime) -> EpcisEvent:
    return EpcisEvent(
        type=EventType.OBJECT,
        event_time=at,
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=tuple(unit.digital_link for unit in units),
        biz_step="sensor_reporting",
        sensor_element_list=elements,
    )


def association(
    action: Action, at: datetime, *, container: Unit = TOTE, devices: Sequence[Unit] = (DEVICE,)
) -> EpcisEvent:
    return EpcisEvent(
        type=EventType.ASSOCIATION,
        event_time=at,
        event_time_zone_offset="+00:00",
        action=action,
        parent_id=container.digital_link,
        child_epcs=tuple(unit.digital_link for unit in devices),
        biz_step="assembling",
    )


def record(house: House, *statements: EpcisEvent) -> None:
    units = capture.units_of_chunk(statements)
    house.clock.now = max(house.clock.now, *(statement.event_time for statement in statements))
    house.write(lambda s: [s.record(statement) for statement in statements], tuple(units))


def held_for(house: House, unit: Unit) -> set[HoldCode]:
    return set(holds.codes_of(house.held(unit).hold_reason))


COLD = {HoldCode.TEMPERATURE_EXCURSION}


def commission_at(house: House, units: Sequence[Unit], moment: datetime) -> None:
    house.clock.now = moment
    house.commission(units)


def case_codes(house: House, unit: Unit) -> list[ExceptionCode]:
    return [case.code for case in house.read(lambda c: cases.cases_of_unit(c, unit))]


# --- packs and containers ---


def test_temperature_excursion_puts_packs_on_hold_by_a_signed_event(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1, 2), START)
    maker.clock.now = NOON
    record(maker, reading(packs(1), warm("9.5", at=NOON), at=NOON))

    assert [held_for(maker, unit) for unit in packs(1, 2)] == [COLD, set()]
    said = maker.events()[-1].statement
    assert isinstance(said, EpcisEvent)
    assert (said.biz_step, said.disposition) == ("holding", "non_sellable_other")
    assert [str(item.value) for item in said.extensions] == ["TEMPERATURE_EXCURSION: 9.5 °C, above 8 °C"]
    assert case_codes(maker, packs(1)[0]) == [ExceptionCode.TEMPERATURE_EXCURSION]


def test_no_temperature_excursion_within_the_limits_or_without_any(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1), START)
    record(maker, reading(packs(1), warm("8", "2", at=NOON), at=NOON))
    assert held_for(maker, packs(1)[0]) == set()

    maker.desk = replace(maker.desk, products=dict)
    record(maker, reading(packs(1), warm("50", at=NOON), at=NOON + HOUR))
    assert held_for(maker, packs(1)[0]) == set()
    assert case_codes(maker, packs(1)[0]) == []


def test_limits_stated_just_now_count_before_the_log_has_them(maker: House) -> None:
    commission_at(maker, packs(1), START)
    maker.write(lambda s: s.state(FRIDGE))
    record(maker, reading(packs(1), warm("1", at=NOON), at=NOON))

    assert held_for(maker, packs(1)[0]) == COLD


def test_readings_of_a_container_are_of_what_was_inside_at_their_time(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1, 2, 3), START)
    maker.clock.now = NOON
    maker.pack(sscc(1), packs(1, 2))
    maker.clock.now = NOON + 2 * HOUR
    maker.unpack(sscc(1), packs(1))
    maker.clock.now = NOON + 4 * HOUR
    maker.pack(sscc(1), packs(3))
    maker.clock.now = NOON + 9 * HOUR

    record(maker, reading([sscc(1)], warm("5", "9", "5", at=NOON + 2 * HOUR), at=NOON + 8 * HOUR))
    assert [held_for(maker, unit) for unit in packs(1, 2, 3)] == [set(), COLD, set()]
    record(maker, reading([sscc(1)], warm("9", at=NOON + HOUR), at=NOON + 8 * HOUR))
    assert [held_for(maker, unit) for unit in packs(1, 2, 3)] == [COLD, COLD, set()]


def test_any_event_may_carry_readings(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1), START)
    seen = replace(reading(packs(1), warm("12", at=NOON), at=NOON), biz_step="inspecting", disposition="in_progress")
    record(maker, seen)

    assert held_for(maker, packs(1)[0]) == COLD


def test_the_same_readings_again_change_nothing(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1), START)
    record(maker, reading(packs(1), warm("12", at=NOON), at=NOON))
    count = len(maker.events())
    record(maker, reading(packs(1), warm("12", at=NOON), at=NOON))

    assert len(maker.events()) == count


# --- sensors that travel ---


def travelling(maker: House) -> list[EpcisEvent]:
    """A sensor is in a tote from noon to three; its logger, read at five, was warm from one to two and at four."""
    return [
        association(Action.ADD, NOON),
        association(Action.DELETE, NOON + 3 * HOUR),
        reading([DEVICE], warm("5", "9", "5", "5", "12", at=NOON), at=NOON + 5 * HOUR),
    ]


def filled(maker: House) -> None:
    commission_at(maker, packs(1, 2, 3), START)
    maker.clock.now = NOON - HOUR
    maker.pack(TOTE, packs(1))
    maker.clock.now = NOON + 3 * HOUR + timedelta(minutes=30)
    maker.unpack(TOTE, packs(1))
    maker.pack(TOTE, packs(2))
    maker.clock.now = NOON + 9 * HOUR


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_readings_of_a_sensor_reach_what_it_travelled_with_in_any_order(
    order: tuple[int, ...], cold: dict[str, House]
) -> None:
    maker = cold["maker"]
    filled(maker)
    told = travelling(maker)
    for number in order:
        record(maker, told[number])

    expected: list[set[HoldCode]] = [COLD, set(), set()]
    if order.index(1) == 2:
        # That it had left at three was not known when the readings came: what was noted stands until it is released.
        expected[1] = COLD
    assert [held_for(maker, unit) for unit in packs(1, 2, 3)] == expected


def test_a_sensor_may_be_named_by_its_readings_alone(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    filled(maker)
    record(maker, association(Action.ADD, NOON))
    by_id = reading([sscc(9)], warm("9", at=NOON + HOUR, device=DEVICE.digital_link), at=NOON + 5 * HOUR)
    record(maker, by_id)

    assert [held_for(maker, unit) for unit in packs(1, 2, 3)] == [COLD, set(), set()]


def test_a_sensor_that_moves_to_another_container_has_left_the_first(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1, 2), START)
    maker.clock.now = NOON - HOUR
    maker.pack(sscc(1), packs(1))
    maker.pack(sscc(2), packs(2))
    maker.clock.now = NOON + 9 * HOUR
    record(maker, association(Action.ADD, NOON + 2 * HOUR, container=sscc(2)))
    record(maker, association(Action.ADD, NOON, container=sscc(1)))
    record(maker, association(Action.OBSERVE, NOON, container=sscc(2)))
    record(maker, reading([DEVICE], warm("9", at=NOON + 3 * HOUR), at=NOON + 5 * HOUR))

    assert [held_for(maker, unit) for unit in packs(1, 2)] == [set(), COLD]


def test_taking_all_sensors_out_ends_every_stay(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    filled(maker)
    record(maker, association(Action.ADD, NOON), association(Action.DELETE, NOON + HOUR, devices=()))
    record(maker, reading([DEVICE], warm("9", at=NOON + 2 * HOUR), at=NOON + 5 * HOUR))

    assert [held_for(maker, unit) for unit in packs(1, 2, 3)] == [set(), set(), set()]


def test_a_sensor_needs_no_place_in_the_books(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    record(maker, reading([DEVICE], warm("9", at=NOON), at=NOON))

    assert maker.holding(DEVICE) is None
    assert as_unit(DEVICE, field="epc") == DEVICE


# --- partners ---


def test_advised_packs_that_were_warm_are_marked_and_held_when_they_arrive(cold: dict[str, House]) -> None:
    maker, distributor = cold["maker"], cold["distributor"]
    commission_at(maker, packs(1, 2), START)
    maker.desk = replace(maker.desk, products=dict)
    record(maker, reading(packs(1), warm("9", at=maker.clock.now), at=maker.clock.now))
    maker.ship(packs(1, 2), distributor.gln)
    maker.send_to(distributor)
    assert distributor.held(packs(1)[0]).state is HoldingState.INBOUND
    assert [held_for(distributor, unit) for unit in packs(1, 2)] == [COLD, set()]
    assert case_codes(distributor, packs(1)[0]) == [ExceptionCode.TEMPERATURE_EXCURSION]
    assert distributor.events() == []

    distributor.confirm_all()
    distributor.receive(packs(1, 2))
    assert [held_for(distributor, unit) for unit in packs(1, 2)] == [COLD, set()]
    said = distributor.events()[-1].statement
    assert isinstance(said, EpcisEvent)
    assert (said.biz_step, said.epc_list) == ("holding", (packs(1)[0].digital_link,))


@pytest.fixture
def partner(cold: dict[str, House]) -> House:
    """A pharmacy that has pack 2; the distributor has bought pack 1 from its maker."""
    maker, distributor, pharmacy = (cold[name] for name in ("maker", "distributor", "pharmacy"))
    commission_at(maker, packs(1, 2), START)
    pharmacy.desk = replace(pharmacy.desk, products=dict)
    for house, unit in ((distributor, packs(1)[0]), (pharmacy, packs(2)[0])):
        maker.ship([unit], house.gln)
        maker.send_to(house)
        house.confirm_all()
        house.receive([unit])
    return pharmacy


def test_a_partners_readings_are_heard_of_its_own_goods_alone(cold: dict[str, House], partner: House) -> None:
    distributor = cold["distributor"]
    record(partner, reading((*packs(1, 2), DEVICE), warm("60", at=NOON), at=NOON))
    partner.ship(packs(2), distributor.gln)
    signed = len(distributor.events())
    partner.send_to(distributor)

    assert [held_for(distributor, unit) for unit in packs(1, 2)] == [set(), COLD]
    assert case_codes(distributor, packs(1)[0]) == []
    assert len(distributor.events()) == signed
    # Nor are they later on, when we say ourselves where that sensor is.
    record(distributor, association(Action.ADD, NOON, container=sscc(1)))
    assert held_for(distributor, packs(1)[0]) == set()


def test_a_partners_despatch_of_what_is_here_makes_its_readings_heard_of_nothing(
    cold: dict[str, House], partner: House
) -> None:
    distributor = cold["distributor"]
    record(partner, reading(packs(1, 2), warm("60", at=NOON), at=NOON))
    route = Route(partner.gln, partner.gln, distributor.gln, distributor.gln)
    claimed = events.shipping(packs(1, 2), partner.occasion(), route)
    partner.write(lambda s: capture.capture(s, [claimed], second_hand=False, happened=True), packs(1, 2))
    partner.send_to(distributor)

    assert distributor.held(packs(1)[0]).state is HoldingState.ON_HAND
    assert [held_for(distributor, unit) for unit in packs(1, 2)] == [set(), COLD]


def test_a_partner_says_of_no_sensor_that_it_was_with_our_goods(cold: dict[str, House], partner: House) -> None:
    distributor = cold["distributor"]
    distributor.pack(sscc(1), packs(1))
    # It names its own pack beside the sensor, so that the word goes with it.
    record(partner, association(Action.ADD, START, container=sscc(1), devices=(DEVICE, *packs(2))))
    partner.ship(packs(2), distributor.gln)
    partner.send_to(distributor)
    record(distributor, reading([DEVICE], warm("60", at=NOON), at=NOON))

    assert held_for(distributor, packs(1)[0]) == set()


def test_a_partner_says_of_no_sensor_that_it_left_our_goods(cold: dict[str, House], partner: House) -> None:
    distributor = cold["distributor"]
    distributor.pack(sscc(1), packs(1))
    record(distributor, association(Action.ADD, NOON, container=sscc(1)))
    partner.clock.now = NOON + HOUR
    partner.pack(sscc(2), packs(2))
    record(partner, association(Action.ADD, NOON + HOUR, container=sscc(2)))
    partner.ship([sscc(2)], distributor.gln)
    partner.send_to(distributor)
    record(distributor, reading([DEVICE], warm("60", at=NOON + 2 * HOUR), at=NOON + 2 * HOUR))

    assert held_for(distributor, packs(1)[0]) == COLD


def test_a_partners_sensor_tells_of_the_goods_that_came_with_it(cold: dict[str, House], partner: House) -> None:
    distributor = cold["distributor"]
    partner.clock.now = NOON
    partner.pack(sscc(2), packs(2))
    record(partner, association(Action.ADD, NOON + HOUR, container=sscc(2)))
    partner.ship([sscc(2)], distributor.gln)
    partner.send_to(distributor)
    # Its logger is read out where it arrives.
    record(distributor, reading([DEVICE], warm("60", at=NOON + 2 * HOUR), at=NOON + 2 * HOUR))

    assert [held_for(distributor, unit) for unit in packs(1, 2)] == [set(), COLD]


def test_no_sensor_unreadable_alert_of_what_a_partner_did_not_bring(cold: dict[str, House], partner: House) -> None:
    distributor = cold["distributor"]
    broken = SensorElement(SensorMetadata(), (SensorReport(type="Temperature", value=Decimal(1), uom="XX", time=NOON),))
    record(partner, reading(packs(1, 2), broken, at=NOON))
    partner.ship(packs(2), distributor.gln)
    partner.send_to(distributor)

    found = distributor.read(lambda c: alerts.list_alerts(c, AlertQuery(), before=None, limit=9))
    assert [(item.code, item.unit) for item in found] == [(AlertCode.SENSOR_UNREADABLE, packs(2)[0])]


# --- passed on second-hand ---


def pass_on(house: House, actor: House, *statements: EpcisEvent) -> None:
    """Capture what another house says happened at its place."""
    said = [replace(statement, read_point=Place(place_uri(actor.gln))) for statement in statements]
    house.clock.now = max(house.clock.now, *(statement.event_time for statement in said))
    units = capture.units_of_chunk(said)
    house.write(lambda s: capture.capture(s, said, second_hand=True), tuple(units))


def test_sensor_not_party_of_goods_that_the_one_it_comes_from_did_not_send(
    cold: dict[str, House], partner: House
) -> None:
    distributor = cold["distributor"]
    partner.ship(packs(2), distributor.gln)
    partner.send_to(distributor)
    distributor.confirm_all()
    distributor.receive(packs(2))
    pass_on(distributor, partner, reading((*packs(1, 2), DEVICE), warm("60", at=NOON), at=NOON))

    assert [held_for(distributor, unit) for unit in packs(1, 2)] == [set(), COLD]
    assert case_codes(distributor, packs(1)[0]) == []
    assert codes_raised(distributor) == ["SENSOR_NOT_PARTY"]
    # Nor are they later on, when we say ourselves where that sensor is.
    record(distributor, association(Action.ADD, NOON, container=sscc(1)))
    assert held_for(distributor, packs(1)[0]) == set()


def test_a_file_is_heard_of_the_goods_that_it_brings_wherever_their_despatch_stands(
    cold: dict[str, House], partner: House
) -> None:
    distributor = cold["distributor"]
    route = Route(partner.gln, partner.gln, distributor.gln, distributor.gln)
    read = reading(packs(1, 2), warm("60", at=NOON), at=NOON)
    pass_on(distributor, partner, read, events.shipping(packs(2), partner.occasion(), route))

    assert [held_for(distributor, unit) for unit in packs(1, 2)] == [set(), COLD]
    assert codes_raised(distributor) == ["SENSOR_NOT_PARTY"]


def test_no_sensor_not_party_of_goods_that_were_sent_to_the_one_it_comes_from(
    cold: dict[str, House], partner: House
) -> None:
    distributor = cold["distributor"]
    distributor.ship(packs(1), partner.gln)
    pass_on(distributor, partner, reading(packs(1), warm("60", at=NOON), at=NOON))

    assert open_excursions(distributor, packs(1)[0]) == 1
    assert codes_raised(distributor) == []


@pytest.mark.parametrize("action", [Action.ADD, Action.DELETE])
def test_a_partner_says_of_no_sensor_second_hand_where_it_was_with_our_goods(
    cold: dict[str, House], partner: House, action: Action
) -> None:
    distributor = cold["distributor"]
    distributor.pack(sscc(1), packs(1))
    if action is Action.DELETE:
        record(distributor, association(Action.ADD, NOON - HOUR, container=sscc(1)))
    pass_on(distributor, partner, association(action, NOON, container=sscc(1), devices=(DEVICE, *packs(1))))
    record(distributor, reading([DEVICE], warm("60", at=NOON + HOUR), at=NOON + HOUR))

    assert held_for(distributor, packs(1)[0]) == (COLD if action is Action.DELETE else set())


def test_what_happened_to_a_pack_is_known_when_it_comes_back(cold: dict[str, House]) -> None:
    maker, distributor = cold["maker"], cold["distributor"]
    commission_at(maker, packs(1), START)
    maker.ship(packs(1), distributor.gln)
    record(maker, reading(packs(1), warm("9", at=maker.clock.now), at=maker.clock.now))
    assert maker.held(packs(1)[0]).hold_reason == ""
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive(packs(1))
    distributor.send_back(packs(1), maker.gln)
    distributor.send_to(maker)
    maker.confirm_all()
    maker.receive(packs(1))

    assert HoldCode.TEMPERATURE_EXCURSION in held_for(maker, packs(1)[0])


def test_a_release_settles_what_was_noted(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1), START)
    record(maker, reading(packs(1), warm("9", at=NOON), at=NOON))

    def noted() -> list[bool]:
        found = maker.read(lambda c: excursions.list_excursions(c, unit=packs(1)[0], before=None, limit=9))
        return [item.release_time is not None for item in found]

    assert noted() == [False]
    maker.clock.now = NOON + HOUR
    occasion = maker.occasion()
    maker.write(
        lambda s: commands.release(
            s, named(packs(1)), occasion, reason="stable", codes=(HoldCode.TEMPERATURE_EXCURSION,)
        ),
        packs(1),
    )
    assert (noted(), maker.held(packs(1)[0]).hold_reason) == ([True], "")
    assert maker.read(lambda c: excursions.list_excursions(c, unit=None, before=1, limit=9)) == []


def freed(units: Sequence[Unit], at: datetime, place: Gln) -> EpcisEvent:
    return EpcisEvent(
        type=EventType.OBJECT,
        event_time=at,
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=tuple(unit.digital_link for unit in units),
        biz_step="storing",
        disposition="sellable_accessible",
        read_point=Place(place_uri(place)),
        biz_location=Place(place_uri(place)),
    )


def open_excursions(house: House, unit: Unit) -> int:
    return len(house.read(lambda c: excursions.open_of(c, [unit.path])).get(unit.path, ()))


@pytest.mark.parametrize("second_hand", [True, False])
def test_only_a_release_of_goods_here_by_ourselves_settles_what_was_noted(
    cold: dict[str, House], second_hand: bool
) -> None:
    maker, distributor = cold["maker"], cold["distributor"]
    commission_at(maker, packs(1), START)
    maker.ship(packs(1), distributor.gln)
    record(maker, reading(packs(1), warm("9", at=maker.clock.now), at=maker.clock.now))
    assert open_excursions(maker, packs(1)[0]) == 1

    place = distributor.gln if second_hand else maker.desk.default_location
    said = freed(packs(1), maker.clock(), place)
    maker.write(lambda s: capture.capture(s, [said], second_hand=second_hand, happened=True), packs(1))
    assert open_excursions(maker, packs(1)[0]) == 1


def test_what_an_undo_brings_back_is_held_for_what_sensors_said_meanwhile(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1), START)
    maker.write(lambda s: commands.end(s, named(packs(1)), maker.occasion(), Ending.SAMPLED), packs(1))
    record(maker, reading(packs(1), warm("9", at=maker.clock.now), at=maker.clock.now))
    assert (maker.held(packs(1)[0]).hold_reason, open_excursions(maker, packs(1)[0])) == ("", 1)
    maker.write(lambda s: corrections.undo(s, *named(packs(1)), reason="a mistake"), packs(1))

    assert maker.held(packs(1)[0]).state is HoldingState.ON_HAND
    assert held_for(maker, packs(1)[0]) == COLD


# --- what cannot be judged ---


def codes_raised(house: House) -> list[str]:
    query = AlertQuery()
    return [alert.code for alert in house.read(lambda c: alerts.list_alerts(c, query, before=None, limit=9))]


def test_sensor_unreadable_is_told_and_holds_nothing(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1, 2), START)
    odd = SensorElement(None, (SensorReport(type="Temperature", value=Decimal(99), uom="XXX"),))
    record(maker, reading(packs(1, 2), odd, at=NOON))

    assert codes_raised(maker) == ["SENSOR_UNREADABLE"]
    assert held_for(maker, packs(1)[0]) == set()


def test_no_sensor_unreadable_for_other_measurements(cold: dict[str, House]) -> None:
    maker = cold["maker"]
    commission_at(maker, packs(1), START)
    light = SensorElement(None, (SensorReport(type="Illuminance", value=Decimal(99), uom="LUX"),))
    record(maker, reading(packs(1), light, at=NOON))

    assert codes_raised(maker) == []
