"""What is wrong with a scanner when it is the scanner: damage that scanners do, told from the text alone.

A pack whose scan cannot be read is not suspect: most such scans come from a scanner that is not set up for GS1 codes.
The text is undone for every kind of damage, the simplest first; what then reads whole, check digits and all, shows what
happened. Where there is one such reading it is a suggestion for a person, and never used in the scan's stead.

Source: GS1 General Specifications, sections 5.10 (symbology identifiers) and 7.8 (element strings); ISO/IEC 15424. How
scanners are set up: docs/scanning.md.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from medtrail.errors import MalformedError
from medtrail.gs1.ai_table import AIS
from medtrail.gs1.checks import shown
from medtrail.gs1.content import check_value
from medtrail.gs1.digital_link import is_link, read_link
from medtrail.gs1.elements import GS, Element, bracketed, check_associations, read_element_string
from medtrail.gs1.keyboards import REPAIRS

# GS1-128, DataBar and composites, DataMatrix, QR, DotCode: symbols whose first FNC1 says that element strings follow.
GS1_SYMBOLOGIES: Final = frozenset({"]C1", "]e0", "]d2", "]Q3", "]J1"})

# The code of a pack has under 200 characters; longer texts are not examined, so that none costs much.
LONGEST_EXAMINED: Final = 256

_PACK: Final = ("01", "21", "17", "10")
# What packs of medicines carry: four elements by law, others by custom, and the national number.
_ON_PACKS: Final = (*_PACK, "11", "240", "710", "711", "712", "713", "714", "715", "716", "717")
_MOST_STEPS: Final = 500

_CHECKED: Final = frozenset(ai for ai, entry in AIS.items() if "csum" in entry.components[0].rules)
# What scanners and terminals put for FNC1 in words, or as signs that look like it.
_IN_WORDS: Final = r"<GS>|<FNC1>|\{GS\}|\{FNC1\}|\[GS\]|\[FNC1\]|\\x1[dD]|\\u001[dD]|\\035|\\F|&#29;"
_TOKEN: Final = re.compile(rf"{_IN_WORDS}|\][A-Za-z][0-9]|[^!\"%&'()*+,\-./0-9:;<=>?A-Z_a-z]")
_KNOWN_MARK: Final = re.compile(rf"{_IN_WORDS}|[\u241d\xe8^~|\u2194]")
_OTHER_MARKS: Final = re.compile(r"[!\"%&'()*+,\-./:;<=>?_]")
_PREFIX_MISTYPED: Final = re.compile(r"[^0-9A-Za-z(\]^](?:C1|c1|e0|d2|D2|Q3|q3|J1|j1)[0-9]")
# ]E0 is the mark of retail barcodes.
_INVERTED_MARKS: Final = frozenset({"]c1", "]D2", "]q3", "]j1"})
_NOT_ELEMENTS: Final = frozenset({"SCAN_NOT_GS1", "SCAN_LINEAR_ONLY", "EPC_NOT_GS1", "EPC_MALFORMED"})
_SHIFTLESS: Final = re.compile(r"\][cqj][0-9]")
_SHOUTED_HOST: Final = re.compile(r"HTTPS?://[^a-z/]*[A-Z][^a-z/]*/[^A-Z]*[a-z][^A-Z]*")


class Fault(StrEnum):
    """What a scanner does wrong; the codes are stable."""

    SEPARATOR_MISSING = "SEPARATOR_MISSING"
    SEPARATOR_REPLACED = "SEPARATOR_REPLACED"
    KEYBOARD_LAYOUT = "KEYBOARD_LAYOUT"
    CASE_INVERTED = "CASE_INVERTED"
    SHIFT_LOST = "SHIFT_LOST"
    PREFIX_GARBLED = "PREFIX_GARBLED"
    ELEMENTS_MISSING = "ELEMENTS_MISSING"


# Of each fault: its name for a person, and what to do next.
ADVICE: Final[dict[Fault, tuple[str, str]]] = {
    Fault.SEPARATOR_MISSING: (
        "group separator missing",
        "Set your scanner to transmit the group separator (FNC1 as GS, ASCII 29)",
    ),
    Fault.SEPARATOR_REPLACED: (
        "group separator replaced",
        "Set your scanner to transmit FNC1 as the group separator (GS, ASCII 29) and as nothing else",
    ),
    Fault.KEYBOARD_LAYOUT: (
        "keyboard layouts differ",
        "Set the keyboard layout of your scanner to that of this computer",
    ),
    Fault.CASE_INVERTED: (
        "letter case inverted",
        "Switch caps lock off, or set your scanner to override it",
    ),
    Fault.SHIFT_LOST: (
        "shift missing",
        "Set your scanner to send capital letters with the shift key, and check its cable or radio link",
    ),
    Fault.PREFIX_GARBLED: (
        "symbology identifier garbled",
        "Set your scanner's keyboard layout to that of this computer, and have it transmit the symbology identifier",
    ),
    Fault.ELEMENTS_MISSING: (
        "elements missing",
        "Set your scanner to transmit the whole symbol, with the group separator (GS, ASCII 29) and without cutting",
    ),
}

# Symbols that are not GS1 element strings, by the beginning of their symbology identifier, and what to do.
SYMBOLS: Final[dict[str, str]] = {
    "]d1": "a Data Matrix without FNC1 at its start, so not a GS1 DataMatrix; if it is the pack's only square code, "
    "its printer omitted FNC1: tell the supplier",
    "]d": "a Data Matrix of a kind that GS1 does not use; scan the GS1 DataMatrix (]d2)",
    "]Q": "a QR code without FNC1 at its start; scan the GS1 DataMatrix (]d2)",
    "]C": "a Code 128 that is not GS1-128; scan the GS1 DataMatrix (]d2)",
    "]J": "a DotCode without FNC1 at its start; scan the GS1 DataMatrix (]d2)",
    "]I": "an ITF bar code, as on outer cases; scan the GS1 DataMatrix (]d2) or the GS1-128 (]C1)",
    "]A": "a Code 39, as of national numbers; scan the GS1 DataMatrix (]d2)",
    "]L": "a PDF417; scan the GS1 DataMatrix (]d2)",
    "]": "not the mark of a GS1 barcode; scan the GS1 DataMatrix (]d2)",
}


def symbol_advice(symbology: str) -> str:
    """Return what a symbol is that carries no GS1 element strings, and what to do.

    Args:
        symbology: Its symbology identifier, three characters from ``]`` on.
    """
    return SYMBOLS[next(mark for mark in (symbology, symbology[:2], "]") if mark in SYMBOLS)]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a scanner did to a scan.

    Attributes:
        faults: All that it took to undo, the one to mend first in front.
        sign: What shows it, for a person.
        suggestion: What the scan most likely says, as elements; None where there is no or more than one such reading.
    """

    faults: tuple[Fault, ...]
    sign: str
    suggestion: tuple[Element, ...] | None = None

    def error(self) -> MalformedError:
        """Return the refusal of such a scan: SCANNER_NOT_CONFIGURED, with the facts ``fault`` and ``suggestion``."""
        name, advice = ADVICE[self.faults[0]]
        message = f"scanner not configured: {name}: {self.sign}. This is about your scanner, not about the pack. "
        message += ". ".join((advice, *(ADVICE[fault][1] for fault in self.faults[1:]))) + ". Then scan again."
        facts = {"fault": ",".join(self.faults)}
        if self.suggestion is not None:
            facts["suggestion"] = bracketed(self.suggestion)
            message += f" The code seems to say {facts['suggestion']}: compare it with the print on the pack."
        return MalformedError(message, code="SCANNER_NOT_CONFIGURED", **facts)


@dataclass(frozen=True, slots=True)
class _Undone:
    """A text with damage undone, the damage, and whether only the code of a pack would show that it was that."""

    faults: tuple[Fault, ...]
    sign: str
    text: str
    only_pack: bool = False


def diagnose(text: str, error: MalformedError) -> Diagnosis | None:
    """Return what a scanner did to a text that cannot be read as it came; None if it does not look like its fault.

    Args:
        text: Without white space around it; over 256 characters little is found.
        error: Why it cannot be read.
    """
    found = _explained(_undone(text)) if len(text) <= LONGEST_EXAMINED else None
    return found or _by_signs(text, error)


def diagnose_incomplete(elements: Sequence[Element]) -> Diagnosis:
    """Return what a scanner did to the code of a pack that reads, yet does not show all four elements of a pack."""
    text = "".join(ai + value + ("" if AIS[ai].predefined else GS) for ai, value in elements).removesuffix(GS)
    found = _explained(iter((_Undone((), "", text), *_with_mark_undone(text))))
    missing = " ".join(f"({ai})" for ai in _PACK if ai not in dict(elements))
    return found or Diagnosis((Fault.ELEMENTS_MISSING,), f"the scan shows no {missing}, which every pack carries")


def _explained(undone: Iterator["_Undone"]) -> Diagnosis | None:
    """Return what the simplest readings of undone texts show; with a suggestion if they all agree."""
    readings = [reading for text in undone for reading in _readings(text)]
    if not readings:
        return None
    least = min(len(reading.faults) for reading in readings)
    simplest = [reading for reading in readings if len(reading.faults) == least]
    faults = simplest[0].faults
    sign = " or ".join(dict.fromkeys(reading.sign for reading in simplest if reading.faults == faults))
    agreed = len({reading.suggestion for reading in simplest}) == 1
    return Diagnosis(faults, sign, simplest[0].suggestion if agreed else None)


def swallowed(text: str) -> tuple[tuple[Element, ...], ...]:
    """Return the ways to read an element string as a whole pack if separators were lost: none, one, or two of more.

    Args:
        text: Without symbology identifier; separators that did come are kept to.
    """
    found: list[tuple[Element, ...]] = []
    steps = 0

    def walk(at: int, taken: tuple[Element, ...]) -> None:
        nonlocal steps
        steps += 1
        if len(found) == 2 or steps > _MOST_STEPS:
            return
        if at == len(text):
            if _is_pack(taken):
                found.append(taken)
            return
        for ai in _ON_PACKS:
            if text.startswith(ai, at) and ai not in dict(taken):
                for end in _ends(text, ai, at + len(ai)):
                    after = end + text.startswith(GS, end)
                    walk(after, (*taken, (ai, text[at + len(ai) : end])))

    if len(text) <= LONGEST_EXAMINED:
        walk(0, ())
    return tuple(found) if steps <= _MOST_STEPS else ()


def _ends(text: str, ai: str, start: int) -> Iterator[int]:
    """Yield where the value of an AI may end."""
    entry = AIS[ai]
    first = start + (entry.longest if entry.predefined else 1)
    for end in range(first, min(start + entry.longest, len(text)) + 1):
        try:
            check_value(ai, text[start:end])
        except MalformedError:
            return
        yield end


def _is_pack(elements: Sequence[Element] | None) -> bool:
    return elements is not None and {ai for ai, _ in elements}.issuperset(_PACK)


def _undone(text: str) -> Iterator[_Undone]:
    """Yield a text as it is and with each kind of damage undone, the simplest first."""
    as_it_came = _Undone((), "", text)
    for base in (as_it_came, *_with_case_undone(as_it_came), *_with_layout_undone(as_it_came)):
        yield base
        yield from _with_separator_undone(base)
    yield from _with_mark_undone(text)
    # Caps lock works on the letters of this computer's layout, so it is undone before the layout.
    for base in _with_case_undone(as_it_came):
        for both in _with_layout_undone(base):
            yield both
            yield from _with_separator_undone(both)


def _with_case_undone(base: _Undone) -> Iterator[_Undone]:
    undone = base.text.swapcase()
    if undone == base.text:
        return
    sign = f"{shown(base.text[:3])} came where {undone[:3]} is meant"
    shiftless = _SHIFTLESS.match(base.text) is not None and not any(map(str.isupper, base.text))
    fault = Fault.SHIFT_LOST if shiftless else Fault.CASE_INVERTED
    yield _Undone((*base.faults, fault), base.sign or sign, undone)


def _with_layout_undone(base: _Undone) -> Iterator[_Undone]:
    for scanner, computer, repair in REPAIRS:
        undone = base.text.translate(repair)
        if undone != base.text:
            sign = f"keys typed for {scanner} and shown as {computer}"
            yield _Undone((Fault.KEYBOARD_LAYOUT, *base.faults), sign, undone)


def _with_separator_undone(base: _Undone) -> Iterator[_Undone]:
    front = 3 if base.text.startswith("]") else 0
    marks = set(_TOKEN.findall(base.text, front))
    if GS not in base.text and len(marks) == 1:
        mark = marks.pop()
        sign = base.sign or f"{shown(mark)} came where a group separator is meant"
        text = base.text[:front] + base.text[front:].replace(mark, GS)
        yield _Undone((*base.faults, Fault.SEPARATOR_REPLACED), sign, text)


def _with_mark_undone(text: str) -> Iterator[_Undone]:
    """Yield a text with each mark that may stand in data taken for the separator: believed only if it makes a pack."""
    if GS in text or has_separator_in_words(text):
        return
    for mark in sorted(set(_OTHER_MARKS.findall(text))):
        sign = f"{mark} came where a group separator is meant"
        yield _Undone((Fault.SEPARATOR_REPLACED,), sign, text.replace(mark, GS), only_pack=True)


def _readings(undone: _Undone) -> Iterator[Diagnosis]:
    """Yield what an undone text reads as: one way, or if separators are missing besides, up to two."""
    text = undone.text
    if is_link(text):
        elements = _read_link(text)
        if elements is not None and undone.faults:
            yield Diagnosis(undone.faults, undone.sign, elements)
        return
    front = text[:3] if text.startswith("]") else ""
    if (front and front not in GS1_SYMBOLOGIES) or has_separator_in_words(text):
        return
    body = text[len(front) :].removeprefix(GS)
    elements = _read(body)
    if undone.only_pack:
        if _is_pack(elements):
            yield Diagnosis(undone.faults, undone.sign, elements)
        return
    splits = () if _is_pack(elements) else swallowed(body)
    for split in splits:
        sign = undone.sign or "a serial or lot runs on into what follows it"
        yield Diagnosis((*undone.faults, Fault.SEPARATOR_MISSING), sign, split)
    if not splits and elements is not None and undone.faults:
        # Lower case throughout may have been typed so, or have lost its capitals: then there is no one reading.
        unsure = Fault.SHIFT_LOST in undone.faults and any(map(str.isalpha, body))
        yield Diagnosis(undone.faults, undone.sign, None if unsure else elements)


def _read(text: str) -> tuple[Element, ...] | None:
    """Return the elements of an element string that reads whole and has a check digit that holds, else None."""
    try:
        elements = read_element_string(text)
        check_associations(elements)
    except MalformedError:
        return None
    return elements if any(ai in _CHECKED for ai, _ in elements) else None


def _read_link(uri: str) -> tuple[Element, ...] | None:
    try:
        named, attributes = read_link(uri)
        check_associations((*named, *attributes))
    except MalformedError:
        return None
    return (*named, *attributes)


def _by_signs(text: str, error: MalformedError) -> Diagnosis | None:
    """Return what a text that cannot be mended shows: its beginning, or a serial or lot that never ends."""
    if error.code == "AI_VALUE_TOO_LONG" and error.facts["ai"] in {"10", "21"} and GS not in text:
        return Diagnosis((Fault.SEPARATOR_MISSING,), f"({error.facts['ai']}) runs on, and no group separator came")
    if _PREFIX_MISTYPED.match(text):
        return Diagnosis((Fault.PREFIX_GARBLED,), f"{shown(text[:3])} came where a symbology identifier is meant")
    if text[:3] in _INVERTED_MARKS:
        return Diagnosis((Fault.CASE_INVERTED,), f"{text[:3]} came where {text[:3].swapcase()} is meant")
    mark = _KNOWN_MARK.search(text)
    if mark is not None and error.code not in _NOT_ELEMENTS and not text.startswith("("):
        return Diagnosis((Fault.SEPARATOR_REPLACED,), f"{shown(mark[0])} came where a group separator is meant")
    if text[:4].lower() == "http" and not is_link(text):
        return Diagnosis((Fault.KEYBOARD_LAYOUT,), f"{shown(text[:12])} came where a link is meant")
    return None


def has_separator_in_words(text: str) -> bool:
    """Return whether a text has ``<GS>`` in it: data by its characters, and never meant as such."""
    return "<GS>" in text or "<FNC1>" in text


def is_shouted_link(text: str) -> bool:
    """Return whether a link was typed with caps lock on: its host in capitals, the rest in small letters only.

    A QR code may spell a link in capitals, but then all of it.
    """
    return _SHOUTED_HOST.fullmatch(text) is not None
