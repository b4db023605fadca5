"""Content of AI values: character sets, check digits, dates, codes.

Source: GS1 General Specifications, section 3, per AI; GS1 Barcode Syntax Dictionary for the names of the rules.
"""

import calendar
import re
from collections.abc import Callable
from typing import Final

from medtrail.errors import MalformedError
from medtrail.gs1.ai_table import AIS, Component
from medtrail.gs1.checks import check_digit, check_pair, shown
from medtrail.gs1.codes import COUNTRIES, COUNTRIES_ALPHA_2, CURRENCIES
from medtrail.gs1.coupons import is_coupon, is_offer
from medtrail.gs1.packages import PACKAGE_TYPES

_CHARSETS: Final = {
    "N": re.compile(r"[0-9]*"),
    "X": re.compile(r"[!-\"%-?A-Z_a-z]*"),
    "Y": re.compile(r"[#\-/0-9A-Z]*"),
    "Z": re.compile(r"[A-Za-z0-9_\-]*={0,2}"),
}


def check_charset(charset: str, text: str) -> None:
    """Check that all characters are in a set: N digits, X set 82, Y set 39, Z base64url padded to a multiple of three.

    Raises:
        MalformedError: One is not (AI_VALUE_MALFORMED).
    """
    padded = charset == "Z" and text.endswith("=") and len(text) % 3 != 0
    if padded or _CHARSETS[charset].fullmatch(text) is None:
        message = f"{shown(text)} has a character outside set {charset}"
        raise MalformedError(message, code="AI_VALUE_MALFORMED")


def _date(text: str, *, digits: int, zero_day: bool) -> bool:
    if len(text) != digits or _CHARSETS["N"].fullmatch(text) is None:
        return False
    # All two-digit years of the window that are divisible by four are leap years: 2000 is one, 1900 is out of reach.
    year = int(text[:-4]) + (2000 if digits == 6 else 0)
    month, day = int(text[-4:-2]), int(text[-2:])
    if not 1 <= month <= 12:
        return False
    return (0 if zero_day else 1) <= day <= calendar.monthrange(year, month)[1]


def _within(text: str, *, digits: int, largest: int) -> bool:
    return len(text) == digits and _CHARSETS["N"].fullmatch(text) is not None and int(text) <= largest


def _check_digit(text: str) -> bool:
    return re.fullmatch(r"[0-9]{2,}", text) is not None and check_digit(text[:-1]) == text[-1]


def _check_pair(text: str) -> bool:
    form = 3 <= len(text) <= 25 and _CHARSETS["X"].fullmatch(text) is not None
    return form and check_pair(text[:-2]) == text[-2:]


def _piece_of_total(text: str) -> bool:
    if not text or len(text) % 2 or _CHARSETS["N"].fullmatch(text) is None:
        return False
    half = len(text) // 2
    return 0 < int(text[:half]) <= int(text[half:])


def _position_in_sequence(text: str) -> bool:
    found = re.fullmatch(r"([1-9][0-9]{0,9})/([1-9][0-9]{0,9})", text)
    return found is not None and int(found[1]) <= int(found[2])


def _iban(text: str) -> bool:
    # ISO 13616: two letters of the country, two check digits; country and check digits moved to the end give 1 mod 97.
    if re.fullmatch(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{1,30}", text) is None or text[:2] not in COUNTRIES_ALPHA_2:
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def _form(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


_RULES: Final[dict[str, Callable[[str], bool]]] = {
    "couponcode": lambda text: is_coupon(text, is_date=lambda day: _date(day, digits=6, zero_day=False)),
    "couponposoffer": is_offer,
    "csum": _check_digit,
    "csumalpha": _check_pair,
    # The shortest company prefix has four digits; which ones are given out stands in no table that we could keep.
    "gcppos1": _form(r"(?s:[0-9]{4}.*)"),
    "gcppos2": _form(r"(?s:.[0-9]{4}.*)"),
    "hasnondigit": _form(r"(?s:.*[^0-9].*)"),
    "hh": _form(r"(?:[01][0-9]|2[0-3])"),
    "hhmi": _form(r"(?:[01][0-9]|2[0-3])[0-5][0-9]"),
    "hyphen": _form(r"-+"),
    "iban": _iban,
    "importeridx": _form(r"[0-9A-Za-z_\-]"),
    "iso3166": COUNTRIES.__contains__,
    "iso3166999": (COUNTRIES | {"999"}).__contains__,
    "iso3166alpha2": COUNTRIES_ALPHA_2.__contains__,
    "iso4217": CURRENCIES.__contains__,
    "iso5218": _form(r"[0129]"),
    "latitude": lambda text: _within(text, digits=10, largest=1_800_000_000),
    "longitude": lambda text: _within(text, digits=10, largest=3_600_000_000),
    "mediatype": _form(r"0[1-9]|10|[89][0-9]"),
    "mi": _form(r"[0-5][0-9]"),
    "nonzero": _form(r"[0-9]*[1-9][0-9]*"),
    "nozeroprefix": _form(r"(?:[1-9][0-9]*)?"),
    "packagetype": PACKAGE_TYPES.__contains__,
    "pcenc": _form(r"(?s:(?:[^%]|%[0-9A-Fa-f]{2})*)"),
    "pieceoftotal": _piece_of_total,
    "posinseqslash": _position_in_sequence,
    "ss": _form(r"[0-5][0-9]"),
    "winding": _form(r"[019]"),
    "yesno": _form(r"[01]"),
    "yymmd0": lambda text: _date(text, digits=6, zero_day=True),
    "yymmdd": lambda text: _date(text, digits=6, zero_day=False),
    "yyyymmd0": lambda text: _date(text, digits=8, zero_day=True),
    "yyyymmdd": lambda text: _date(text, digits=8, zero_day=False),
    "zero": _form(r"0+"),
}

_CODE_OF_RULE: Final = {
    "csum": "CHECK_DIGIT_WRONG",
    "csumalpha": "CHECK_DIGIT_WRONG",
    "yymmd0": "DATE_WRONG",
    "yymmdd": "DATE_WRONG",
    "yyyymmdd": "DATE_WRONG",
}


def check_content(rule: str, text: str) -> None:
    """Check one component's text against one content rule.

    Raises:
        MalformedError: It breaks the rule (CHECK_DIGIT_WRONG, DATE_WRONG, else AI_VALUE_MALFORMED).
    """
    if not _RULES[rule](text):
        message = f"{shown(text)} breaks the rule {rule}"
        raise MalformedError(message, code=_CODE_OF_RULE.get(rule, "AI_VALUE_MALFORMED"), rule=rule)


def check_value(ai: str, value: str) -> None:
    """Check an AI's value: length, character set, and content of each component.

    Raises:
        MalformedError: The AI does not exist (AI_UNKNOWN), or the value is not what it holds (AI_VALUE_MALFORMED,
            AI_VALUE_TOO_LONG, CHECK_DIGIT_WRONG, DATE_WRONG); the fact ``ai`` names it.
    """
    entry = AIS.get(ai)
    if entry is None:
        message = f"expected a GS1 application identifier, got {shown(ai)}"
        raise MalformedError(message, code="AI_UNKNOWN", ai=ai)
    rest = value
    try:
        for component in entry.components:
            rest = _check_component(component, rest)
    except MalformedError as error:
        raise MalformedError(f"AI ({ai}): {error.message}", code=error.code, ai=ai, **error.facts) from error
    if rest:
        message = f"AI ({ai}) holds at most {entry.longest} characters, got {len(value)}: {shown(value)}"
        raise MalformedError(message, code="AI_VALUE_TOO_LONG", ai=ai)


def _check_component(component: Component, rest: str) -> str:
    """Check the component that a text begins with; return what follows it."""
    text = rest[: component.longest]
    if not text and component.optional:
        return ""
    if len(text) < component.shortest:
        message = f"expected at least {component.shortest} characters, got {shown(text)}"
        raise MalformedError(message, code="AI_VALUE_MALFORMED")
    check_charset(component.charset, text)
    for rule in component.rules:
        check_content(rule, text)
    return rest[component.longest :]
