"""What sensors say of how goods were kept, judged against the limits that a product's maker signed.

An event carries sensor elements, each with reports: a value at a moment, or the lowest, highest and mean value of a
period. Reports of temperature and humidity become readings in one unit each; readings outside the limits become
excursions. The rules, for people: docs/cold-chain.md.

Source: EPCIS 2.0, section 7.3.7 (sensor elements); CBV 2.0, sections 7.7 and 7.8 (types and exceptions of sensor
reports); UN/ECE Recommendation 20 (codes of units).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from medtrail.epcis.model import EpcisEvent, SensorElement, SensorMetadata, SensorReport
from medtrail.event import Allowance, StorageLimits, StorageRange

ALARM_CONDITION = "ALARM_CONDITION"
ERROR_CONDITION = "ERROR_CONDITION"
_MOST_EXPONENT = 64
_ABSOLUTE_ZERO = Fraction("-273.15")
_ROUNDING = Context(prec=12)
_NO_METADATA = SensorMetadata()


class Quantity(StrEnum):
    """What is measured, spelled as the GS1 web vocabulary's type of a sensor report."""

    TEMPERATURE = "Temperature"
    RELATIVE_HUMIDITY = "RelativeHumidity"
    ABSOLUTE_HUMIDITY = "AbsoluteHumidity"


class Side(StrEnum):
    """On which side a limit was passed; or that the sensor itself said so, without a value."""

    BELOW = "below"
    ABOVE = "above"
    ALARM = "alarm"


# (factor, offset): value in our unit = value * factor + offset.
_UNITS: dict[Quantity, dict[str, tuple[Fraction, Fraction]]] = {
    Quantity.TEMPERATURE: {
        "CEL": (Fraction(1), Fraction(0)),
        "KEL": (Fraction(1), _ABSOLUTE_ZERO),
        "FAH": (Fraction(5, 9), Fraction(-160, 9)),
        "A48": (Fraction(5, 9), _ABSOLUTE_ZERO),
    },
    Quantity.RELATIVE_HUMIDITY: {"P1": (Fraction(1), Fraction(0)), "C62": (Fraction(100), Fraction(0))},
    Quantity.ABSOLUTE_HUMIDITY: {
        "A93": (Fraction(1), Fraction(0)),
        "KMQ": (Fraction(1000), Fraction(0)),
        "GP": (Fraction(1, 1000), Fraction(0)),
        "GQ": (Fraction(1, 1_000_000), Fraction(0)),
    },
}
_SHOWN_UNITS = {
    Quantity.TEMPERATURE: " °C",
    Quantity.RELATIVE_HUMIDITY: " % relative humidity",
    Quantity.ABSOLUTE_HUMIDITY: " g/m³ of water",
}
_LEAST = {Quantity.TEMPERATURE: _ABSOLUTE_ZERO}


@dataclass(frozen=True, slots=True)
class Excursion:
    """That goods were kept outside the limits.

    Attributes:
        quantity: What was measured; None for an alarm that does not say.
        side: On which side, or an alarm.
        value: The furthest value, rounded to 12 digits, in °C, % or g/m³; None for an alarm.
        limit: The limit that it passed, in the same unit; None for an alarm.
        duration: How long the limit was passed, as far as the reports say; None where they do not.
        start_time: First moment outside, aware UTC.
        end_time: Last moment outside that is known; the same for a single reading.
        device_id: The sensor as the event names it; may be empty.
        field: Of the first report that says so, such as ``sensor_element_list[0].reports[1]``.
    """

    quantity: Quantity | None
    side: Side
    value: Decimal | None
    limit: Decimal | None
    duration: timedelta | None
    start_time: datetime
    end_time: datetime
    device_id: str
    field: str

    def describe(self) -> str:
        """Return one line for a person, such as ``26.2 °C for 0:50:00, above 8 °C``."""
        if self.value is None or self.limit is None or self.quantity is None:
            return "the sensor gave an alarm" + (f" for {self.quantity}" if self.quantity else "")
        unit = _SHOWN_UNITS[self.quantity]
        long = "" if self.duration is None else f" for {self.duration}"
        return f"{self.value:f}{unit}{long}, {self.side} {self.limit:f}{unit}"


@dataclass(frozen=True, slots=True)
class _Reading:
    """One report in our units: the range of its values, and when.

    ``sampled`` tells a value at a moment, one of a series, from what sums up a period. ``end`` is None where a moment's
    value is not said to stand for longer.
    """

    quantity: Quantity
    device_id: str
    lowest: Fraction
    highest: Fraction
    start: datetime
    end: datetime | None
    sampled: bool
    field: str


@dataclass(frozen=True, slots=True)
class _Alarm:
    quantity: Quantity | None
    device_id: str
    time: datetime
    field: str


def excursions(event: EpcisEvent, limits: StorageLimits) -> tuple[Excursion, ...]:
    """Return how an event's sensors say that limits were passed, in the order of its reports.

    A value at a moment stands until the next one of the same sensor and type, the last one until the end that its
    element states, else as long as the one before it. What sums up a period (lowest, highest, mean, percentile) counts
    for the whole period. An allowance needs a duration: where nothing says how long, it does not help. An alarm without
    a value that can be judged is an excursion by itself; reports of a sensor in error are not judged.

    Args:
        event: Any event.
        limits: Of a product that it concerns.
    """
    readings, alarms = _readings(event)
    found: list[Excursion] = []
    for group in _groups(readings):
        limit = _range_of(limits, group[0].quantity)
        if limit is not None:
            found += _judge(group, limit)
    for alarm in alarms:
        if alarm.quantity is None or _range_of(limits, alarm.quantity) is not None:
            found.append(
                Excursion(
                    alarm.quantity,
                    Side.ALARM,
                    None,
                    None,
                    None,
                    alarm.time,
                    alarm.time,
                    alarm.device_id,
                    alarm.field,
                )
            )
    return tuple(sorted(found, key=lambda item: _place(item.field)))


def unjudged(event: EpcisEvent) -> tuple[str, ...]:
    """Return the fields of reports of temperature or humidity of which nothing can be said.

    Their unit is unknown, their value is none or impossible, or the sensor says that it is in error.
    """
    return tuple(
        field
        for field, _element, report in _reports(event)
        if _quantity(report) is not None
        and report.exception != ALARM_CONDITION
        and (report.exception == ERROR_CONDITION or not _values(report))
    )


def devices(event: EpcisEvent) -> tuple[str, ...]:
    """Return the sensors that an event's reports name, as it spells them, each once."""
    found: dict[str, None] = {}
    for element in event.sensor_element_list:
        for report in (*element.reports, None):
            found[_device(element, report)] = None
    found.pop("", None)
    return tuple(found)


def _reports(event: EpcisEvent) -> Iterator[tuple[str, SensorElement, SensorReport]]:
    for number, element in enumerate(event.sensor_element_list):
        for place, report in enumerate(element.reports):
            yield f"sensor_element_list[{number}].reports[{place}]", element, report


def _place(field: str) -> tuple[int, ...]:
    return tuple(int(part.split("]")[0]) for part in field.split("[")[1:])


def _device(element: SensorElement, report: SensorReport | None) -> str:
    own = None if report is None else report.device_id
    return own or (element.metadata or _NO_METADATA).device_id or ""


def _quantity(report: SensorReport) -> Quantity | None:
    try:
        return Quantity(report.type or "")
    except ValueError:
        return None


def _values(report: SensorReport) -> tuple[Fraction, ...]:
    """Return a report's values in our unit; none where one of them, or the unit, says nothing."""
    quantity = _quantity(report)
    unit = None if quantity is None else _UNITS[quantity].get(report.uom or "")
    if quantity is None or unit is None:
        return ()
    given = (report.value, report.min_value, report.max_value, report.mean_value, report.perc_value)
    found = []
    for value in given:
        if value is None:
            continue
        # A short text can name a number that no memory holds.
        if not value.is_finite() or abs(value.adjusted()) > _MOST_EXPONENT:
            return ()
        found.append(Fraction(value) * unit[0] + unit[1])
    least = _LEAST.get(quantity, Fraction(0))
    return () if any(value < least for value in found) else tuple(found)


def _readings(event: EpcisEvent) -> tuple[list[_Reading], list[_Alarm]]:
    readings: list[_Reading] = []
    alarms: list[_Alarm] = []
    for field, element, report in _reports(event):
        if report.exception == ERROR_CONDITION:
            continue
        quantity, values = _quantity(report), _values(report)
        start, end, sampled = _times(event, element.metadata or _NO_METADATA, report)
        device_id = _device(element, report)
        if quantity is not None and values:
            readings.append(_Reading(quantity, device_id, min(values), max(values), start, end, sampled, field))
        elif report.exception == ALARM_CONDITION and (quantity is not None or not report.type):
            alarms.append(_Alarm(quantity, device_id, start, field))
    return readings, alarms


def _times(event: EpcisEvent, metadata: SensorMetadata, report: SensorReport) -> tuple[datetime, datetime | None, bool]:
    """Return when a report is of: its begin, its end where it is known, and whether it is one value of a series."""
    summed = any(
        value is not None for value in (report.min_value, report.max_value, report.mean_value, report.perc_value)
    )
    moment = report.time or metadata.time
    start, end = metadata.start_time, metadata.end_time
    if (summed or moment is None) and start is not None and end is not None and start < end:
        return start, end, False
    at = moment or end or start or event.event_time
    return at, end if end is not None and end > at else None, not summed


def _groups(readings: list[_Reading]) -> Iterator[list[_Reading]]:
    """Yield what is judged together: the series of each sensor and type, and each sum by itself."""
    series: dict[tuple[Quantity, str], list[_Reading]] = {}
    for reading in readings:
        if reading.sampled:
            series.setdefault((reading.quantity, reading.device_id), []).append(reading)
        else:
            yield [reading]
    for found in series.values():
        yield sorted(found, key=lambda item: item.start)


def _range_of(limits: StorageLimits, quantity: Quantity) -> StorageRange | None:
    if quantity is Quantity.TEMPERATURE:
        return limits.temperature
    if quantity is Quantity.RELATIVE_HUMIDITY:
        return limits.relative_humidity
    return limits.absolute_humidity


def _judge(group: list[_Reading], limit: StorageRange) -> Iterator[Excursion]:
    ends = _ends(group)
    if limit.lowest is not None:
        bound = Fraction(limit.lowest)
        outside = [(reading, end) for reading, end in zip(group, ends, strict=True) if reading.lowest < bound]
        yield from _excursion(outside, Side.BELOW, limit.lowest, limit.below)
    if limit.highest is not None:
        bound = Fraction(limit.highest)
        outside = [(reading, end) for reading, end in zip(group, ends, strict=True) if reading.highest > bound]
        yield from _excursion(outside, Side.ABOVE, limit.highest, limit.above)


def _ends(group: list[_Reading]) -> list[datetime | None]:
    """Return until when each reading of a group, in order of time, stands; None where nothing says."""
    if not group[0].sampled:
        return [group[0].end]
    starts = sorted({reading.start for reading in group})
    until: dict[datetime, datetime | None] = dict(pairwise(starts))
    stated = max((reading.end for reading in group if reading.end is not None), default=None)
    if stated is not None and stated > starts[-1]:
        until[starts[-1]] = stated
    else:
        until[starts[-1]] = starts[-1] + (starts[-1] - starts[-2]) if len(starts) > 1 else None
    return [until[reading.start] for reading in group]


def _excursion(
    outside: list[tuple[_Reading, datetime | None]], side: Side, limit: Decimal, allowance: Allowance | None
) -> Iterator[Excursion]:
    if not outside:
        return
    first = outside[0][0]
    below = side is Side.BELOW
    furthest = min(item.lowest for item, _ in outside) if below else max(item.highest for item, _ in outside)
    # Two reports of one moment count once.
    spans = {item.start: end for item, end in outside}
    ends = [end for end in spans.values() if end is not None]
    duration = None
    if len(ends) == len(spans):
        duration = sum((end - start for start, end in spans.items() if end is not None), timedelta())
    if allowance is not None and duration is not None and duration <= allowance.duration:
        far = Fraction(allowance.limit)
        if furthest >= far if below else furthest <= far:
            return
    value = _ROUNDING.divide(Decimal(furthest.numerator), Decimal(furthest.denominator))
    end_time = max((*ends, *spans))
    yield Excursion(first.quantity, side, value, limit, duration, first.start, end_time, first.device_id, first.field)
