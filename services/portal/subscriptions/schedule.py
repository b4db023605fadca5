"""When a scheduled subscription is due: by second, minute, hour, day of month, month and day of week, in UTC.

Each field is empty or ``*`` (any), a number, a range ``[9-17]`` or ``9-17``, or steps as cron has them: ``0/30``,
``*/15``, ``8-18/2``; or a list of these, ``1,15``. Days of the week are 1 for Monday to 7 for Sunday; where days of
month and of week are both given, both must fit.

Source: EPCIS 2.0, section 8.2.5.3 (QuerySchedule).
"""

import asyncio
import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from medtrail.runtime.tokens import Clock
from services.portal.query.errors import SubscriptionControlsError

# Field: least and greatest value.
FIELDS: Final[dict[str, tuple[int, int]]] = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "dayOfMonth": (1, 31),
    "month": (1, 12),
    "dayOfWeek": (1, 7),
}
_ITEM: Final = re.compile(r"(?:(\*)|([0-9]{1,2})(?:-([0-9]{1,2}))?|\[([0-9]{1,2})-([0-9]{1,2})\])(?:/([0-9]{1,2}))?")
_LONGEST_FIELD: Final = 300
# The 29th of February on a given day of the week comes at least every 40 years.
_FARTHEST_YEARS: Final = 41
_STEP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Values that fit, by field, sorted."""

    second: tuple[int, ...]
    minute: tuple[int, ...]
    hour: tuple[int, ...]
    day_of_month: tuple[int, ...]
    month: tuple[int, ...]
    day_of_week: tuple[int, ...]

    def after(self, moment: datetime) -> datetime:
        """Return the first moment after another that fits; aware UTC, whole seconds."""
        moment = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day = moment.replace(hour=0, minute=0, second=0)
        farthest = day + timedelta(days=366 * _FARTHEST_YEARS)
        while day <= farthest:
            if day.month not in self.month:
                # Months are passed over whole.
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
                continue
            found = self._within(max(day, moment)) if self._fits(day) else None
            if found is not None:
                return found
            day += timedelta(days=1)
        raise AssertionError(self)  # a schedule that was read has days

    def _fits(self, day: datetime) -> bool:
        return day.day in self.day_of_month and day.isoweekday() in self.day_of_week

    def _within(self, moment: datetime) -> datetime | None:
        """Return the first moment of a day from one on, or None."""
        for hour in self.hour:
            if hour < moment.hour:
                continue
            least = moment if hour == moment.hour else moment.replace(hour=hour, minute=0, second=0)
            for minute in self.minute:
                if minute < least.minute:
                    continue
                second = 0 if minute > least.minute else least.second
                found = next((item for item in self.second if item >= second), None)
                if found is not None:
                    return least.replace(minute=minute, second=found)
        return None


def read_schedule(values: Mapping[str, object]) -> Schedule:
    """Return the schedule that fields say.

    Raises:
        SubscriptionControlsError: No field, one that is unknown or of the wrong form, or days that never come.
    """
    unknown = sorted(set(values) - set(FIELDS))
    if unknown or not values:
        message = f"a schedule has some of {', '.join(FIELDS)}"
        raise SubscriptionControlsError(message, field=f"schedule.{unknown[0][:50]}" if unknown else "schedule")
    second, minute, hour, day, month, week = (_field(name, values.get(name)) for name in FIELDS)
    # What is finer than the finest field given happens once: at 7 means at 7:00:00, not every second of that hour.
    if values.get("second") is None:
        second = (0,)
        if values.get("minute") is None:
            minute = (0,)
            if values.get("hour") is None:
                hour = (0,)
    schedule = Schedule(second, minute, hour, day, month, week)
    if not any(least <= calendar.monthrange(2024, found)[1] for found in month for least in day[:1]):
        message = "no month that is named has such a day"
        raise SubscriptionControlsError(message, field="schedule.dayOfMonth")
    return schedule


def _field(name: str, value: object) -> tuple[int, ...]:
    least, most = FIELDS[name]
    if value is None or value == "":
        return tuple(range(least, most + 1))
    text = str(value)
    found: set[int] = set()
    for item in text.split(",") if len(text) <= _LONGEST_FIELD else [""]:
        values = _values(item.strip(), least, most)
        if not values or values.start < least or values.stop - 1 > most:
            message = f"expected numbers, ranges or steps of {least} to {most}, got {text[:50]!r}"
            raise SubscriptionControlsError(message, field=f"schedule.{name}")
        found.update(values)
    return tuple(sorted(found))


def _values(item: str, least: int, most: int) -> range:
    """Return the values of one item of a list; none for what is no item."""
    match = _ITEM.fullmatch(item)
    if match is None:
        return range(0)
    anything, first, last, low, high, step = match.groups()
    start = least if anything else int(first or low)
    # A step without a range goes on to the end.
    end = most if anything or (step and not last and not high) else int(last or high or start)
    width = int(step or 1)
    return range(start, end + 1, width) if width else range(0)


async def sleep_until(moment: datetime | None, *, clock: Clock) -> None:
    """Sleep until a moment by a clock; not at all for None."""
    left_s = 0.0 if moment is None else (moment - clock()).total_seconds()
    while left_s > 0 and moment is not None:
        # In steps, so that a clock that is set meanwhile is followed.
        await asyncio.sleep(min(left_s, _STEP_S))
        left_s = (moment - clock()).total_seconds()
