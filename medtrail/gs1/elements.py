"""Element strings: the sequences of AI and value that barcodes carry, and how they are printed.

In data, FNC1 (seen as GS, 0x1D) ends a value whose length the AI does not fix. In print, AIs stand in brackets, which
are not data. biip recognises AIs; lengths, contents and associations are checked here, because it lets wrong check
digits, contradicting repetitions and missing companions pass.

Source: GS1 General Specifications, sections 4.13 (associations), 4.14 (print) and 7.8 (element strings).
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from biip import ParseError
from biip.gs1_application_identifiers import GS1ApplicationIdentifier

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1.ai_table import AIS, Ai, matches
from medtrail.gs1.checks import shown
from medtrail.gs1.content import check_value
from medtrail.gs1.keys import EpcKey, Gln, Gtin, Lgtin, OtherKey, Sgln, Sgtin, Sscc

Element = tuple[str, str]

GS: Final = "\x1d"
MAX_TEXT: Final = 8192
_MOST_KEPT: Final = 12

_BRACKETED: Final = re.compile(r"\(([0-9]{2,4})\)((?:[^(\\]|\\.)*)", re.DOTALL)

# Keys in the order in which they name what carries them: a logistic unit that is a trade item too goes by its SSCC.
_OTHER_KEYS: Final = (
    ("8006", ("21", "10")),
    ("253", ()),
    ("255", ()),
    ("8003", ()),
    ("8004", ()),
    ("8010", ("8011",)),
    ("8017", ("8019",)),
    ("8018", ("8019",)),
    ("415", ("8020",)),
    ("417", ()),
    ("402", ()),
    ("401", ()),
    ("8013", ()),
)


def check_size(text: str) -> None:
    """Refuse a text of more than 8,192 characters.

    Raises:
        TooLargeError: It is longer.
    """
    if len(text) > MAX_TEXT:
        message = f"expected at most {MAX_TEXT} characters, got {len(text)}"
        raise TooLargeError(message)


def read_element_string(text: str, *, separator: str = GS) -> tuple[Element, ...]:
    """Return the elements of an element string without its leading FNC1, each checked on its own.

    Args:
        text: As in the symbol, 1 to 8,192 characters.
        separator: The character that stands for FNC1.

    Raises:
        MalformedError: An AI is unknown (AI_UNKNOWN), a value is not what its AI holds, or there is no element
            (ELEMENTS_MALFORMED).
        TooLargeError: Over 8,192 characters.
    """
    check_size(text)
    found: list[Element] = []
    rest = text
    while rest:
        entry = _leading_ai(rest)
        rest = rest[len(entry.ai) :]
        end = entry.longest if entry.predefined else len(rest)
        value = rest[:end].partition(separator)[0]
        check_value(entry.ai, value)
        found.append((entry.ai, value))
        rest = rest[len(value) :].removeprefix(separator)
    return _some(found, text)


def read_bracketed(text: str) -> tuple[Element, ...]:
    r"""Return the elements of a text as printed, ``(01)…(21)…``, each checked; a bracket in a value is written ``\(``.

    Raises:
        MalformedError: As :func:`read_element_string`, or text stands outside elements (ELEMENTS_MALFORMED).
        TooLargeError: Over 8,192 characters.
    """
    check_size(text)
    found: list[Element] = []
    at = 0
    while at < len(text):
        match = _BRACKETED.match(text, at)
        if match is None:
            message = f"expected an application identifier in brackets, got {shown(text[at:])}"
            raise MalformedError(message, code="ELEMENTS_MALFORMED")
        ai, value = match[1], match[2].replace("\\(", "(")
        check_value(ai, value)
        found.append((ai, value))
        at = match.end()
    return _some(found, text)


def bracketed(elements: Iterable[Element]) -> str:
    r"""Return elements as printed, ``(01)…(21)…``; a bracket in a value is written ``\(``."""
    return "".join("(" + ai + ")" + value.replace("(", r"\(") for ai, value in elements)


def _some(found: Sequence[Element], text: str) -> tuple[Element, ...]:
    if not found:
        message = f"expected element strings, got {shown(text)}"
        raise MalformedError(message, code="ELEMENTS_MALFORMED")
    return tuple(found)


def _leading_ai(text: str) -> Ai:
    try:
        return _ai_at(text[:4])
    except ParseError as error:
        message = f"expected a GS1 application identifier, got {shown(text)}"
        raise MalformedError(message, code="AI_UNKNOWN") from error


@lru_cache(maxsize=16_384)
def _ai_at(four: str) -> Ai:
    return AIS[GS1ApplicationIdentifier.extract(four).ai]


def check_associations(elements: Sequence[Element]) -> None:
    """Check that elements may stand together: no contradicting repetition, no excluded AI, no companion missing.

    Raises:
        MalformedError: AI_REPEATED, AI_EXCLUDED, AI_MISSING or AI_UNKNOWN; the fact ``ai`` names the element.
    """
    values: dict[str, str] = {}
    for ai, value in elements:
        if values.setdefault(ai, value) != value:
            message = f"AI ({ai}) stands twice, as {shown(values[ai])} and as {shown(value)}"
            raise MalformedError(message, code="AI_REPEATED", ai=ai)
    names = tuple(values)
    # Most codes have the same few elements; what strangers send in longer rows is not kept.
    (_check_companions if len(names) > _MOST_KEPT else _check_few_companions)(names)
    _check_signed_key(values)


def _check_companions(names: tuple[str, ...]) -> None:
    unknown = next((ai for ai in names if ai not in AIS), None)
    if unknown is not None:
        message = f"expected a GS1 application identifier, got {shown(unknown)}"
        raise MalformedError(message, code="AI_UNKNOWN", ai=unknown)
    for ai in names:
        _check_excluded(AIS[ai], names)
        _check_needed(AIS[ai], names)


_check_few_companions = lru_cache(maxsize=1_024)(_check_companions)


def _check_excluded(entry: Ai, present: Iterable[str]) -> None:
    for other in present:
        if other != entry.ai and any(matches(other, pattern) for pattern in entry.excludes):
            message = f"AI ({entry.ai}) and AI ({other}) may not stand together"
            raise MalformedError(message, code="AI_EXCLUDED", ai=entry.ai)


def _check_needed(entry: Ai, present: Iterable[str]) -> None:
    def held(pattern: str) -> bool:
        return any(matches(other, pattern) for other in present)

    if entry.needs and not any(all(map(held, alternative)) for alternative in entry.needs):
        wanted = " or ".join("+".join(alternative) for alternative in entry.needs)
        message = f"AI ({entry.ai}) needs {wanted} beside it"
        raise MalformedError(message, code="AI_MISSING", ai=entry.ai)


def _check_signed_key(values: dict[str, str]) -> None:
    # A digital signature speaks of one thing: the serial component of these keys is then not optional.
    for ai, without_serial in (("253", 13), ("255", 13), ("8003", 14)):
        if "8030" in values and len(values.get(ai, "")) == without_serial:
            message = f"AI (8030) needs AI ({ai}) with its serial component"
            raise MalformedError(message, code="AI_MISSING", ai="8030")


def key_of(elements: Iterable[Element]) -> EpcKey:
    """Return the key that elements carry; what only describes it (lot of a pack, expiry, count) is left aside.

    Raises:
        MalformedError: They carry none (KEY_MISSING), or a key is wrong.
    """
    values = dict(elements)
    if "00" in values:
        return Sscc(values["00"])
    if "01" in values:
        return _trade_item(Gtin(values["01"]), values)
    if "414" in values:
        return Sgln(Gln(values["414"]), values.get("254"))
    for ai, qualifiers in _OTHER_KEYS:
        if ai in values:
            narrowing = next(((name, values[name]) for name in qualifiers if name in values), None)
            return OtherKey(ai, values[ai], () if narrowing is None else (narrowing,))
    message = f"expected a GS1 key, got only {', '.join(f'({ai})' for ai in values)}"
    raise MalformedError(message, code="KEY_MISSING")


def _trade_item(gtin: Gtin, values: dict[str, str]) -> EpcKey:
    if "21" in values:
        return Sgtin(gtin, values["21"])
    if "235" in values:
        return OtherKey("01", gtin.digits, (("235", values["235"]),))
    if "10" in values:
        return Lgtin(gtin, values["10"])
    return gtin
