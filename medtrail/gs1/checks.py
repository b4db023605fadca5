"""Check digits and character sets of GS1 identifiers.

Source: GS1 General Specifications, sections 7.9 (check digits) and 7.11 (character sets).
"""

import re
from typing import Final

from medtrail.errors import MalformedError

_DIGITS: Final = re.compile(r"[0-9]+")
_X_CLASS: Final = r"!-\"%-?A-Z_a-z"
_CSET_82: Final = re.compile(rf"[{_X_CLASS}]+")

# Check character pairs: weights are primes from the right, the sum modulo 1021 is written in base 32.
_CSUM_ALPHA: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_CSET_82_ORDER: Final = "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_PRIMES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83)
_ALPHA_MODULUS: Final = 1021


def check_digit(payload: str) -> str:
    """Return the check digit that follows a payload of ASCII digits: weights 3, 1, 3, … from the right."""
    odd = sum(map(int, payload[-1::-2]))
    even = sum(map(int, payload[-2::-2]))
    return str(-(3 * odd + even) % 10)


def check_digits_only(text: str, *, length: int, what: str) -> None:
    """Check that a text is exactly so many ASCII digits, the last of them the right check digit.

    Raises:
        MalformedError: It is not (``<WHAT>_MALFORMED``), or the last digit is wrong (CHECK_DIGIT_WRONG).
    """
    if len(text) != length or _DIGITS.fullmatch(text) is None:
        message = f"expected a {what} of {length} digits, got {shown(text)}"
        raise MalformedError(message, code=f"{what}_MALFORMED")
    expected = check_digit(text[:-1])
    if text[-1] != expected:
        message = f"{what} {text} ends in {text[-1]}; its check digit is {expected}"
        raise MalformedError(message, code="CHECK_DIGIT_WRONG", identifier=text, expected=expected)


def check_characters(text: str, *, longest: int, what: str) -> None:
    """Check that a text is 1 to ``longest`` characters of GS1's character set 82.

    Raises:
        MalformedError: It is not (``<WHAT>_MALFORMED``).
    """
    if not 1 <= len(text) <= longest or _CSET_82.fullmatch(text) is None:
        message = f"expected a {what.lower()} of 1 to {longest} characters of GS1's set 82, got {shown(text)}"
        raise MalformedError(message, code=f"{what}_MALFORMED")


def check_pair(payload: str) -> str:
    """Return the two check characters that follow a payload of at most 23 characters of set 82 (AI 8013)."""
    total = sum(
        _CSET_82_ORDER.index(character) * prime for character, prime in zip(reversed(payload), _PRIMES, strict=False)
    )
    high, low = divmod(total % _ALPHA_MODULUS, 32)
    return _CSUM_ALPHA[high] + _CSUM_ALPHA[low]


def shown(text: str) -> str:
    """Return a text as a message may quote it: escaped, and cut after 80 characters."""
    return ascii(text if len(text) <= 80 else f"{text[:80]}…")
