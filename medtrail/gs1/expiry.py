"""Expiry dates as packs carry them: six digits, a sliding century, and on older stock no day.

Source: GS1 General Specifications, sections 3.4.7 (AI 17) and 7.12 (century).
"""

import calendar
import re
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from medtrail.errors import MalformedError
from medtrail.gs1.checks import shown

_YYMMDD: Final = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True, order=True)
class Expiry:
    """The last day on which a pack may be used.

    Attributes:
        day: That day; the month's last one where none was given.
        day_given: Whether the pack names the day. Day 00 is not allowed on regulated healthcare items since 2025.
    """

    day: date
    day_given: bool = True

    @classmethod
    def parse(cls, text: str, *, today: date) -> Self:
        """Return the expiry that YYMMDD spells.

        Args:
            text: Six digits; day 00 is the month's last.
            today: Decides the century: a year at most 49 back or 50 ahead.

        Raises:
            MalformedError: Not six digits, or no such day (DATE_WRONG).
        """
        if _YYMMDD.fullmatch(text) is None:
            message = f"expected a date as YYMMDD, got {shown(text)}"
            raise MalformedError(message, code="DATE_WRONG")
        year, month, day = _year_of(int(text[:2]), today.year), int(text[2:4]), int(text[4:])
        try:
            if day:
                return cls(date(year, month, day))
            return cls(date(year, month, calendar.monthrange(year, month)[1]), day_given=False)
        except ValueError as error:
            message = f"there is no day {text} (YYMMDD)"
            raise MalformedError(message, code="DATE_WRONG") from error

    @property
    def usable_until(self) -> date:
        """Last day of use, to its end by the pharmacy's clock."""
        return self.day

    def yymmdd(self) -> str:
        """Return the six digits for a new element string or link.

        Raises:
            MalformedError: The day was not given (EXPIRY_DAY_MISSING): a new code must name it.
        """
        if not self.day_given:
            message = f"the expiry {self.day:%Y-%m} names no day; a new code must"
            raise MalformedError(message, code="EXPIRY_DAY_MISSING")
        return f"{self.day:%y%m%d}"

    def __str__(self) -> str:
        return self.day.isoformat()


def _year_of(two_digits: int, this_year: int) -> int:
    difference = two_digits - this_year % 100
    century = this_year - this_year % 100
    if difference >= 51:
        return century - 100 + two_digits
    if difference <= -50:
        return century + 100 + two_digits
    return century + two_digits
