from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.cold_chain import Excursion, Quantity, Side, devices, excursions, unjudged
from medtrail.epcis.model import Action, EpcisEvent, EventType, SensorElement, SensorMetadata, SensorReport
from medtrail.event import Allowance, StorageLimits, StorageRange

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FRIDGE = StorageLimits(temperature=StorageRange(Decimal(2), Decimal(8)))
GIAI = "https://id.gs1.org/8004/4000001111"


def allowing(
    *, above: tuple[str, timedelta] | None = None, below: tuple[str, timedelta] | None = None
) -> StorageLimits:
    def make(given: tuple[str, timedelta] | None) -> Allowance | None:
        return None if given is None else Allowance(Decimal(given[0]), given[1])

    return StorageLimits(temperature=StorageRange(Decimal(2), Decimal(8), make(below), make(above)))


def event(*elements: SensorElement) -> EpcisEvent:
    return EpcisEvent(
        EventType.OBJECT,
        NOON,
        "+00:00",
        action=Action.OBSERVE,
        epc_list=("https://id.gs1.org/01/00300010123455/21/1",),
        biz_step="sensor_reporting",
        sensor_element_list=elements,
    )


def celsius(value: str, *, at: datetime | None = None) -> SensorReport:
    return SensorReport(type="Temperature", value=Decimal(value), uom="CEL", time=at)


def element(*reports: SensorReport, **metadata: object) -> SensorElement:
    return SensorElement(SensorMetadata(**metadata) if metadata else None, reports)  # type: ignore[arg-type]


def series(*values: str, step: timedelta = HOUR, end: datetime | None = None) -> EpcisEvent:
    reports = [celsius(value, at=NOON + number * step) for number, value in enumerate(values)]
    return event(element(*reports, device_id=GIAI, end_time=end))


def the(found: tuple[Excursion, ...]) -> Excursion:
    (one,) = found
    return one


def test_a_reading_at_a_limit_is_no_excursion() -> None:
    assert excursions(event(element(celsius("2"), celsius("8"))), FRIDGE) == ()


def test_a_reading_above_the_highest_is_an_excursion() -> None:
    found = the(excursions(event(element(celsius("8.1"))), FRIDGE))

    assert found == Excursion(
        Quantity.TEMPERATURE,
        Side.ABOVE,
        Decimal("8.1"),
        Decimal(8),
        None,
        NOON,
        NOON,
        "",
        "sensor_element_list[0].reports[0]",
    )
    assert found.describe() == "8.1 °C, above 8 °C"


def test_a_reading_below_the_lowest_is_an_excursion() -> None:
    found = the(excursions(event(element(celsius("-0.5"))), FRIDGE))

    assert (found.side, found.value, found.limit) == (Side.BELOW, Decimal("-0.5"), Decimal(2))


@pytest.mark.parametrize(
    ("inside", "outside", "uom"),
    [("8", "8.01", "CEL"), ("46.4", "46.5", "FAH"), ("281.15", "281.16", "KEL"), ("506.07", "506.08", "A48")],
)
def test_temperatures_are_judged_in_their_unit_without_rounding(inside: str, outside: str, uom: str) -> None:
    def report(value: str) -> EpcisEvent:
        return event(element(SensorReport(type="Temperature", value=Decimal(value), uom=uom)))

    assert excursions(report(inside), FRIDGE) == ()
    assert the(excursions(report(outside), FRIDGE)).side is Side.ABOVE


@pytest.mark.parametrize(
    ("kind", "value", "uom", "limits"),
    [
        ("RelativeHumidity", "61", "P1", StorageLimits(relative_humidity=StorageRange(highest=Decimal(60)))),
        ("RelativeHumidity", "0.61", "C62", StorageLimits(relative_humidity=StorageRange(highest=Decimal(60)))),
        ("AbsoluteHumidity", "12.1", "A93", StorageLimits(absolute_humidity=StorageRange(highest=Decimal(12)))),
        ("AbsoluteHumidity", "0.0121", "KMQ", StorageLimits(absolute_humidity=StorageRange(highest=Decimal(12)))),
        ("AbsoluteHumidity", "12100", "GP", StorageLimits(absolute_humidity=StorageRange(highest=Decimal(12)))),
        ("AbsoluteHumidity", "12100000", "GQ", StorageLimits(absolute_humidity=StorageRange(highest=Decimal(12)))),
    ],
)
def test_humidity_is_judged_against_its_own_limit(kind: str, value: str, uom: str, limits: StorageLimits) -> None:
    found = event(element(SensorReport(type=kind, value=Decimal(value), uom=uom)))

    assert the(excursions(found, limits)).quantity == kind
    assert excursions(found, FRIDGE) == ()
    low = StorageLimits(
        relative_humidity=StorageRange(lowest=Decimal(1)), absolute_humidity=StorageRange(lowest=Decimal(1))
    )
    assert excursions(found, low) == ()


@pytest.mark.parametrize(
    "report",
    [
        SensorReport(type="Temperature", min_value=Decimal(5), max_value=Decimal(9), uom="CEL"),
        SensorReport(type="Temperature", mean_value=Decimal(9), uom="CEL"),
        SensorReport(type="Temperature", perc_rank=Decimal(95), perc_value=Decimal(9), uom="CEL"),
    ],
)
def test_a_sum_of_a_period_counts_for_the_whole_period(report: SensorReport) -> None:
    found = the(excursions(event(element(report, start_time=NOON - 2 * HOUR, end_time=NOON)), FRIDGE))

    assert (found.duration, found.start_time, found.end_time) == (2 * HOUR, NOON - 2 * HOUR, NOON)
    assert found.value == 9
    assert found.describe() == "9 °C for 2:00:00, above 8 °C"


def test_one_report_may_leave_both_limits() -> None:
    report = SensorReport(type="Temperature", min_value=Decimal(-1), max_value=Decimal(9), uom="CEL")

    assert [item.side for item in excursions(event(element(report)), FRIDGE)] == [Side.BELOW, Side.ABOVE]


def test_a_reading_stands_until_the_next_one_of_its_sensor() -> None:
    found = the(excursions(series("5", "9", "10", "6", "9", "5"), FRIDGE))

    assert found.duration == 3 * HOUR
    assert (found.start_time, found.end_time) == (NOON + HOUR, NOON + 5 * HOUR)
    assert found.value == 10


def test_the_last_reading_stands_as_long_as_the_one_before_it() -> None:
    assert the(excursions(series("5", "5", "9", step=2 * HOUR), FRIDGE)).duration == 2 * HOUR


def test_the_last_reading_stands_until_the_stated_end() -> None:
    assert the(excursions(series("5", "9", end=NOON + 5 * HOUR), FRIDGE)).duration == 4 * HOUR
    assert the(excursions(series("9", end=NOON + 3 * HOUR), FRIDGE)).duration == 3 * HOUR


def test_a_series_may_be_spread_over_elements_and_out_of_order() -> None:
    elements = [
        element(celsius(value), device_id=GIAI, time=NOON + hours * HOUR)
        for value, hours in (("5", 3), ("9", 1), ("5", 0))
    ]

    assert the(excursions(event(*elements), FRIDGE)).duration == 2 * HOUR


def test_series_of_two_sensors_are_judged_each_by_itself() -> None:
    one = element(celsius("9"), celsius("9", at=NOON + HOUR), device_id=GIAI, time=NOON)
    two = SensorElement(None, (SensorReport(type="Temperature", device_id="urn:x:2", value=Decimal(10), uom="CEL"),))

    found = excursions(event(one, two), FRIDGE)

    assert [(item.device_id, item.duration) for item in found] == [(GIAI, 2 * HOUR), ("urn:x:2", None)]


def test_two_readings_of_one_moment_say_nothing_of_a_duration() -> None:
    assert the(excursions(series("9", "10", step=timedelta()), FRIDGE)).duration is None


def test_an_allowance_covers_an_excursion_that_is_short_and_not_far() -> None:
    limits = allowing(above=("25", 2 * HOUR), below=("0", HOUR))

    assert excursions(series("5", "25", "25", "5"), limits) == ()
    assert excursions(series("5", "0", "5"), limits) == ()


@pytest.mark.parametrize(
    ("values", "side"),
    [
        (("5", "9", "9", "9", "5"), Side.ABOVE),
        (("5", "25.1", "5"), Side.ABOVE),
        (("5", "1", "1", "5"), Side.BELOW),
        (("5", "-0.1", "5"), Side.BELOW),
    ],
)
def test_an_allowance_ends_at_its_limit_and_its_duration(values: tuple[str, ...], side: Side) -> None:
    limits = allowing(above=("25", 2 * HOUR), below=("0", HOUR))

    assert the(excursions(series(*values), limits)).side is side


def test_an_allowance_does_not_help_where_nothing_says_how_long() -> None:
    assert the(excursions(event(element(celsius("9"))), allowing(above=("25", HOUR)))).duration is None


def test_an_alarm_without_value_is_an_excursion() -> None:
    bare = event(element(SensorReport(exception="ALARM_CONDITION"), time=NOON - HOUR))
    typed = event(element(SensorReport(type="Temperature", exception="ALARM_CONDITION", boolean_value=True)))

    assert the(excursions(bare, FRIDGE)).describe() == "the sensor gave an alarm"
    assert the(excursions(bare, FRIDGE)).start_time == NOON - HOUR
    assert the(excursions(typed, FRIDGE)).describe() == "the sensor gave an alarm for Temperature"
    assert (unjudged(bare), unjudged(typed)) == ((), ())


def test_an_alarm_of_something_else_is_none() -> None:
    for kind in ("Speed", "RelativeHumidity"):
        assert excursions(event(element(SensorReport(type=kind, exception="ALARM_CONDITION"))), FRIDGE) == ()


def test_the_value_of_an_alarm_decides() -> None:
    report = SensorReport(type="Temperature", exception="ALARM_CONDITION", value=Decimal(5), uom="CEL")

    assert excursions(event(element(report)), FRIDGE) == ()


@pytest.mark.parametrize(
    "report",
    [
        SensorReport(type="Temperature", exception="ERROR_CONDITION", value=Decimal(99), uom="CEL"),
        SensorReport(type="Temperature", value=Decimal(99), uom="XYZ"),
        SensorReport(type="Temperature", value=Decimal(99)),
        SensorReport(type="Temperature", value=Decimal(-300), uom="CEL"),
        SensorReport(type="RelativeHumidity", value=Decimal(-1), uom="P1"),
        SensorReport(type="Temperature", value=Decimal("1e999999"), uom="CEL"),
        SensorReport(type="Temperature", value=Decimal("NaN"), uom="CEL"),
        SensorReport(type="Temperature", string_value="warm", uom="CEL"),
    ],
)
def test_what_cannot_be_judged_is_named_and_is_no_excursion(report: SensorReport) -> None:
    found = event(element(celsius("5"), report))

    assert unjudged(found) == ("sensor_element_list[0].reports[1]",)
    assert excursions(found, FRIDGE) == ()


def test_other_measurements_are_none_of_its_business() -> None:
    found = event(element(SensorReport(type="Illuminance", value=Decimal(800), uom="LUX"), SensorReport()))

    assert (excursions(found, FRIDGE), unjudged(found), excursions(event(), FRIDGE)) == ((), (), ())


def test_a_period_that_ends_before_it_starts_is_a_moment() -> None:
    found = event(element(celsius("9"), start_time=NOON, end_time=NOON - HOUR))

    assert the(excursions(found, FRIDGE)).duration is None


def test_a_value_without_moment_is_of_its_elements_period() -> None:
    found = event(element(celsius("9"), start_time=NOON - HOUR, end_time=NOON))

    assert the(excursions(found, FRIDGE)).duration == HOUR


def test_devices_are_named_each_once() -> None:
    found = event(
        element(SensorReport(device_id="urn:x:2"), SensorReport(), device_id=GIAI), element(SensorReport()), element()
    )

    assert devices(found) == ("urn:x:2", GIAI)


TEMPERATURES = st.decimals(min_value=-100, max_value=100, places=3, allow_nan=False, allow_infinity=False)


@given(TEMPERATURES)
def test_every_unit_of_temperature_gives_one_verdict(value: Decimal) -> None:
    exact = Fraction(value)
    spelled = {"CEL": value, "KEL": value + Decimal("273.15"), "FAH": value * Decimal("1.8") + 32}
    found = {
        uom: excursions(event(element(SensorReport(type="Temperature", value=number, uom=uom))), FRIDGE)
        for uom, number in spelled.items()
    }

    for outcome in found.values():
        assert bool(outcome) == (not 2 <= exact <= 8)
        assert [item.value for item in outcome] == ([value] if outcome else [])


@given(st.lists(st.tuples(st.integers(1, 600), TEMPERATURES), min_size=2, max_size=30), st.randoms())
def test_a_series_lasts_as_long_as_a_count_by_hand_says(steps: list[tuple[int, Decimal]], random: object) -> None:
    moment, reports = NOON, []
    for minutes, value in steps:
        reports.append(celsius(str(value), at=moment))
        moment += timedelta(minutes=minutes)
    # The last one stands as long as the one before it did.
    lengths = [minutes for minutes, _ in steps[:-1]] + [steps[-2][0]]
    above = sum(length for length, (_, value) in zip(lengths, steps, strict=True) if value > 8)
    random.shuffle(reports)  # type: ignore[attr-defined]

    found = [item for item in excursions(event(element(*reports)), FRIDGE) if item.side is Side.ABOVE]

    assert [item.duration for item in found] == ([timedelta(minutes=above)] if above else [])
    allowed = excursions(event(element(*reports)), allowing(above=("100", timedelta(minutes=max(above, 1)))))
    assert not [item for item in allowed if item.side is Side.ABOVE]
