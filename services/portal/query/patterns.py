"""Identifiers and patterns that a question names.

A pattern is an EPC pattern URN (``urn:epc:idpat:sgtin:0614141.*.*``), its components after the first star all stars.
What names a class (a trade item as link, ``/01/<gtin>``) stands, where instances are asked for, for its instances.

Source: EPCIS 2.0, section 8.2.7.1.1 (processing of MATCH parameters); EPC Tag Data Standard 2.1, section 8 (patterns).
"""

import re
from dataclasses import dataclass
from typing import Final

from medtrail.errors import MalformedError
from medtrail.gs1 import Gtin, OtherKey, parse_epc
from services.portal.normal import identifier
from services.portal.query.errors import QueryParameterError
from services.portal.query.tree import Pattern

_PATTERN: Final = re.compile(r"(?i:urn:epc:)(?:idpat|class):([a-z]+):(.*)", re.DOTALL)
_PREFIX: Final = re.compile(r"[0-9]{4,12}")


@dataclass(frozen=True, slots=True)
class _Scheme:
    """How an EPC scheme stands as path.

    Attributes:
        parts: Components of its URN.
        ai: AI of the key.
        digits: Length of the key's number; 0 where it varies.
        lead: What stands before the company prefix: any digit, a fixed one, or nothing.
        serial: What stands before the serial in the path; None where the number goes on with it.
    """

    parts: int
    ai: str
    digits: int
    lead: str = ""
    serial: str | None = ""


_DIGIT: Final = "?"
_SCHEMES: Final = {
    "sgtin": _Scheme(3, "01", 14, _DIGIT, "/21/"),
    "lgtin": _Scheme(3, "01", 14, _DIGIT, "/10/"),
    "upui": _Scheme(3, "01", 14, _DIGIT, "/235/"),
    "itip": _Scheme(5, "8006", 18, _DIGIT, "/21/"),
    "sscc": _Scheme(2, "00", 18, _DIGIT),
    "sgln": _Scheme(3, "414", 13, "", "/254/"),
    "grai": _Scheme(3, "8003", 14, "0", None),
    "gdti": _Scheme(3, "253", 13, "", None),
    "sgcn": _Scheme(3, "255", 13, "", None),
    "cpi": _Scheme(3, "8010", 0, "", "/8011/"),
    "giai": _Scheme(2, "8004", 0),
    "ginc": _Scheme(2, "401", 0),
    "gsin": _Scheme(2, "402", 17),
    "gsrn": _Scheme(2, "8018", 18),
    "gsrnp": _Scheme(2, "8017", 18),
    "pgln": _Scheme(2, "417", 13),
}
_CLASS_DIGITS: Final = {"8003": 14, "253": 13, "255": 13}
_SERIAL_OF: Final = {"8006": "/21/", "8010": "/8011/"}


def epc_pattern(text: str) -> Pattern:
    """Return the pattern of instances that a text names.

    Raises:
        QueryParameterError: A pattern that is none.
    """
    found = _starred(text, classes=False)
    if found is not None:
        return found
    path = identifier(text)
    serial = _serial_of_class(text)
    return Pattern((path,)) if serial is None else Pattern((path + serial,), f"{path}{serial}?*")


def class_pattern(text: str) -> Pattern:
    """Return the pattern of classes that a text names.

    Raises:
        QueryParameterError: A pattern that is none.
    """
    return _starred(text, classes=True) or Pattern((identifier(text),))


def _serial_of_class(text: str) -> str | None:
    """Return what stands between a class and its instances' serials; None for what is no class."""
    try:
        key = parse_epc(text)
    except MalformedError:
        return None
    if isinstance(key, Gtin):
        return "/21/"
    if isinstance(key, OtherKey) and not key.qualifiers:
        if len(key.value) == _CLASS_DIGITS.get(key.ai):
            return ""
        return _SERIAL_OF.get(key.ai)
    return None


def _starred(text: str, *, classes: bool) -> Pattern | None:
    """Return the pattern of an EPC pattern URN with a star, or None for other texts."""
    match = _PATTERN.fullmatch(text)
    if match is None or not match[2].endswith("*"):
        return None
    scheme = _SCHEMES.get(match[1])
    parts = match[2].split(".") if scheme is not None else []
    fixed = [part for part in parts if part != "*"]
    if (
        scheme is None
        or len(parts) != scheme.parts
        or any("*" in part for part in fixed)
        or parts[: len(fixed)] != fixed
    ):
        raise _unreadable(text)
    if len(fixed) == scheme.parts - 1 and scheme.serial != "" and match[1] != "lgtin":
        return _of_class(text, match[1], scheme, classes=classes)
    if match[1] == "lgtin" and len(fixed) == scheme.parts - 1:
        path = identifier(f"urn:epc:idpat:sgtin:{fixed[0]}.{fixed[1]}.*")
        return Pattern((f"{path}/10/",), f"{path}/10/?*")
    return _of_prefix(text, fixed, scheme, classes=classes and match[1] != "lgtin")


def _of_class(text: str, name: str, scheme: _Scheme, *, classes: bool) -> Pattern:
    """Return the pattern of ``prefix.reference.*``: one class, or its instances."""
    if name == "sgln":
        path = _checked(text, re.sub(r"(?i)idpat", "id", text[:-1] + "0", count=1))
        return Pattern((path,), f"{path}*")
    path = _checked(text, text)
    if classes:
        return Pattern((path,))
    serial = scheme.serial or ""
    return Pattern((path + serial,), f"{path}{serial}?*")


def _of_prefix(text: str, fixed: list[str], scheme: _Scheme, *, classes: bool) -> Pattern:
    """Return the pattern of ``prefix.*.*``, or of all of a scheme."""
    number = "?" * scheme.digits or "*"
    tail = "" if classes or scheme.serial is None or scheme.serial == "" else f"{scheme.serial}?*"
    if scheme.ai == "414":
        tail = "*"
    elif scheme.serial is None and not classes:
        tail = "?*"
    glob = f"/{scheme.ai}/{number}{tail}"
    if not fixed:
        return Pattern((f"/{scheme.ai}/",), glob)
    if len(fixed) > 1 or _PREFIX.fullmatch(fixed[0]) is None:
        raise _unreadable(text)
    leads = "0123456789" if scheme.lead == _DIGIT else (scheme.lead,)
    return Pattern(tuple(f"/{scheme.ai}/{lead}{fixed[0]}" for lead in leads), glob)


def _checked(text: str, urn: str) -> str:
    try:
        return parse_epc(urn).path
    except MalformedError as error:
        raise _unreadable(text) from error


def _unreadable(text: str) -> QueryParameterError:
    message = f"{text[:100]!r} is no pattern: expected an EPC pattern URN whose last components are stars"
    return QueryParameterError(message)
