"""Why units are on hold: reasons with a code each, several at one time, each released by itself.

``Holding.hold_reason`` has one line a reason: ``CODE: text``, ``CODE``, or a text alone (code OTHER). The event of a
hold says its line as the reason; so the books, the log and every partner read the same.
"""

import re
from collections.abc import Collection
from enum import StrEnum

from medtrail.errors import MalformedError

RETURN_UNVERIFIED = "returned, not verified yet"
"""What a unit that came back is on hold for until it was looked at."""
MAX_TEXT = 500


class HoldCode(StrEnum):
    """Codes of reasons; part of the interface: codes are added, never renamed."""

    OTHER = "OTHER"
    DAMAGED = "DAMAGED"
    TEMPERATURE_EXCURSION = "TEMPERATURE_EXCURSION"
    EXPIRED = "EXPIRED"
    RETURN_UNVERIFIED = "RETURN_UNVERIFIED"
    RETURNED_TO_MAKER = "RETURNED_TO_MAKER"
    SUSPECT = "SUSPECT"
    RECALLED = "RECALLED"
    QUALITY = "QUALITY"
    LABEL = "LABEL"
    DATA = "DATA"
    AUTHORITY = "AUTHORITY"
    PARTNER = "PARTNER"


_CODED = re.compile(rf"({'|'.join(HoldCode)})(?:: (.*))?\Z")


def line(code: HoldCode, text: str = "") -> str:
    """Return the line of a reason.

    Raises:
        MalformedError: OTHER without text, or longer than 500 characters (TEXT_LENGTH).
    """
    plain = " ".join(text.split())
    if len(plain) > MAX_TEXT or (code is HoldCode.OTHER and not plain):
        message = f"expected 1 to {MAX_TEXT} characters, got {len(plain)}"
        raise MalformedError(message, code="TEXT_LENGTH", field="reason")
    if code is HoldCode.OTHER:
        return plain
    return f"{code}: {plain}" if plain else str(code)


def lines_of(hold_reason: str) -> tuple[str, ...]:
    """Return the lines of a holding's reasons."""
    return tuple(hold_reason.splitlines())


def code_of(reason: str) -> HoldCode:
    """Return the code of a line."""
    if reason == RETURN_UNVERIFIED:
        return HoldCode.RETURN_UNVERIFIED
    found = _CODED.match(reason)
    return HoldCode.OTHER if found is None else HoldCode(found[1])


def text_of(reason: str) -> str:
    """Return what a line says beside its code."""
    found = _CODED.match(reason)
    return reason if found is None else found[2] or ""


def codes_of(hold_reason: str) -> frozenset[HoldCode]:
    """Return the codes of a holding's reasons."""
    return frozenset(map(code_of, lines_of(hold_reason)))


def added(hold_reason: str, reason: str) -> str:
    """Return reasons with one more; what else holds a unit, and what a return waits for, stays."""
    lines = [item for item in lines_of(hold_reason) if item != reason]
    return "\n".join([*lines, reason])


def verified(hold_reason: str, reason: str) -> str:
    """Return reasons with what the verification of a return has found, instead of that the return waits for it."""
    return added(without(hold_reason, {RETURN_UNVERIFIED}), reason)


def without(hold_reason: str, reasons: Collection[str]) -> str:
    """Return reasons without some; none named means all."""
    return "\n".join(item for item in lines_of(hold_reason) if item not in reasons) if reasons else ""


def of_codes(hold_reason: str, codes: Collection[HoldCode]) -> tuple[str, ...]:
    """Return the lines with some codes; none named means all lines."""
    return tuple(item for item in lines_of(hold_reason) if not codes or code_of(item) in codes)
