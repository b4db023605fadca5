"""Codes of North American coupons, the values of AIs 8110 and 8112: chains of fields that tell their own length.

Source: GS1 US, North American Coupon Application Guideline Using GS1 DataBar Expanded Symbols; GS1 General
Specifications, sections 3.9.13 (AI 8110) and 3.9.15 (AI 8112).
"""

import re
from collections.abc import Callable
from typing import Final


def _counted(first: int, last: int, *, more: int = 0) -> str:
    """Return the pattern of digits led by their count: the leading digit is their number less ``more``."""
    return "(?:" + "|".join(f"{digit}[0-9]{{{digit + more}}}" for digit in range(first, last + 1)) + ")"


_COMPANY: Final = _counted(0, 6, more=6)
_AMOUNT: Final = _counted(1, 5)
_SERIAL: Final = _counted(0, 9, more=6)
# Number to buy, what the number counts, and the family of products.
_PURCHASE: Final = f"{_AMOUNT}[0-49][0-9]{{3}}"
_OTHER_COMPANY: Final = f"(?:{_COMPANY}|9)"

_COUPON: Final = re.compile(
    f"{_COMPANY}[0-9]{{6}}{_AMOUNT}{_PURCHASE}"
    f"(?:1[0-3]{_PURCHASE}{_OTHER_COMPANY})?"
    f"(?:2{_PURCHASE}{_OTHER_COMPANY})?"
    r"(?:3(?P<expires>[0-9]{6}))?"
    r"(?:4(?P<starts>[0-9]{6}))?"
    f"(?:5{_SERIAL})?"
    f"(?:6{_counted(1, 7, more=6)})?"
    r"(?:9[01256][0-2][0-9][01])?"
)
_OFFER: Final = re.compile(f"[01]{_COMPANY}[0-9]{{6}}{_SERIAL}")


def is_coupon(text: str, *, is_date: Callable[[str], bool]) -> bool:
    """Return whether a text is a coupon code (AI 8110).

    Args:
        text: Of any length.
        is_date: Tells whether six digits are a day, YYMMDD.
    """
    found = _COUPON.fullmatch(text)
    if found is None:
        return False
    starts, expires = found["starts"], found["expires"]
    if not all(is_date(day) for day in (starts, expires) if day is not None):
        return False
    return starts is None or expires is None or not _before(expires, starts)


def _before(day: str, other: str) -> bool:
    # Coupons live for years, not decades: of two years of the window the nearer reading counts.
    years = (int(day[:2]) - int(other[:2])) % 100
    return years >= 50 or (years == 0 and day[2:] < other[2:])


def is_offer(text: str) -> bool:
    """Return whether a text is the positive offer file coupon code (AI 8112)."""
    return _OFFER.fullmatch(text) is not None
