"""One barcode as a scanner delivers it.

A wedge scanner types what it reads: a symbology identifier (``]d2``: GS1 DataMatrix) if it is set up to, element
strings with GS (0x1D) between them, and an end of line. When it drops the GS, a short serial swallows what follows and
the result may still parse; so a pack must show all four elements that the law puts on it before anything is said about
the pack itself (:func:`require_pack`). What cannot be read is examined by :mod:`medtrail.gs1.scanner`.

Source: GS1 General Specifications, sections 5.10 (symbology identifiers) and 7.8; ISO/IEC 15424.
"""

import re
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Final

from medtrail.errors import MalformedError
from medtrail.gs1.checks import shown
from medtrail.gs1.digital_link import is_link, read_link
from medtrail.gs1.elements import (
    GS,
    Element,
    check_associations,
    check_size,
    key_of,
    read_bracketed,
    read_element_string,
)
from medtrail.gs1.expiry import Expiry
from medtrail.gs1.keys import EpcKey, Gln, Gtin, Sgtin, Sscc
from medtrail.gs1.scanner import (
    ADVICE,
    GS1_SYMBOLOGIES,
    Fault,
    diagnose,
    diagnose_incomplete,
    has_separator_in_words,
    is_shouted_link,
    swallowed,
    symbol_advice,
)

_ONE_DIMENSIONAL: Final = frozenset({"]C1", "]e0"})
_EAN_UPC: Final = re.compile(r"\]E[0-4]")
_LINEAR_LENGTHS: Final = frozenset({8, 12, 13, 14})
_SYMBOLOGY: Final = re.compile(r"\][A-Za-z][0-9A-Za-z]")
_OUTSIDE_DATA: Final = re.compile(r"[^!\"%&'()*+,\-./0-9:;<=>?A-Z_a-z]")

# Line ends and white space that scanners are set to add, and the frame of serial lines (STX, ETX, EOT).
_AROUND: Final = " \t\r\n\0\x02\x03\x04\ufeff"


class Spelling(StrEnum):
    """How a scan was spelled."""

    ELEMENT_STRING = "element string"
    BRACKETED = "bracketed text"
    LINK = "GS1 Digital Link"


@dataclass(frozen=True, slots=True)
class Scan:
    """What one barcode says.

    Attributes:
        spelling: How it was spelled.
        ais: All elements, in order: application identifier and value.
        identifying: The elements that may make the key: all, or those of a link's path.
        gtin: AI 01.
        serial: AI 21.
        lot: AI 10.
        expiry: AI 17.
        sscc: AI 00.
        gln: AI 414 (place), else 417 (party).
        symbology: Symbology identifier, ``]d2``, if the scanner sent one.
        warnings: What was odd, for a person.
    """

    spelling: Spelling
    ais: tuple[Element, ...]
    identifying: tuple[Element, ...]
    gtin: Gtin | None
    serial: str | None
    lot: str | None
    expiry: Expiry | None
    sscc: Sscc | None
    gln: Gln | None
    symbology: str | None
    warnings: tuple[str, ...]

    @property
    def key(self) -> EpcKey:
        """The key that the barcode carries.

        Raises:
            MalformedError: It carries none (KEY_MISSING).
        """
        return key_of(self.identifying)

    @property
    def sgtin(self) -> Sgtin | None:
        """The pack, if the barcode names one."""
        return None if self.gtin is None or self.serial is None else Sgtin(self.gtin, self.serial)


def parse_scan(text: str, *, today: date, separator: str = GS) -> Scan:
    """Return what a barcode says, as a scanner or camera delivered it, or as it is printed or linked.

    Args:
        text: At most 8,192 characters; white space, line ends and the frame of serial lines around it are dropped.
        today: Decides the century of the expiry.
        separator: What the scanner is set to send for FNC1, at least one character of it outside GS1's set 82.

    Raises:
        MalformedError: A retail barcode (SCAN_LINEAR_ONLY), no GS1 barcode (SCAN_NOT_GS1), nothing (SCAN_EMPTY), a
            scanner that garbles (SCANNER_NOT_CONFIGURED: the fact ``fault`` says how), a separator that may stand in
            data (SEPARATOR_AMBIGUOUS), or data that are wrong (AI_UNKNOWN, AI_VALUE_MALFORMED, CHECK_DIGIT_WRONG,
            DATE_WRONG, AI_REPEATED, AI_EXCLUDED, AI_MISSING, …).
        TooLargeError: Over 8,192 characters.
    """
    check_size(text)
    body = text.strip(_AROUND)
    if separator != GS:
        if _OUTSIDE_DATA.search(separator) is None:
            message = f"{shown(separator)} may stand in data; a separator needs a character outside GS1's set 82"
            raise MalformedError(message, code="SEPARATOR_AMBIGUOUS")
        body = body.replace(separator, GS)
    if not body:
        message = "the scan is empty"
        raise MalformedError(message, code="SCAN_EMPTY")
    try:
        return _parse(body, today)
    except MalformedError as error:
        found = diagnose(body, error)
        if found is None:
            raise
        raise found.error() from error


def _parse(body: str, today: date) -> Scan:
    symbology = body[:3] if _SYMBOLOGY.match(body) else None
    body = body[3:] if symbology else body
    _check_symbology(symbology, body)
    if is_link(body):
        return _of_link(body, symbology, today)
    if symbology is not None and symbology not in GS1_SYMBOLOGIES:
        message = f"{symbology} marks {symbol_advice(symbology)}"
        raise MalformedError(message, code="SCAN_NOT_GS1", symbology=symbology)
    if symbology is None and body.startswith("("):
        elements = read_bracketed(body)
        return _scan(Spelling.BRACKETED, elements, identifying=elements, symbology=symbology, today=today)
    if has_separator_in_words(body):
        message = f"{shown(body)} has the name of a separator in it"
        raise MalformedError(message, code="ELEMENTS_MALFORMED")
    elements = read_element_string(body.removeprefix(GS))
    scan = _scan(Spelling.ELEMENT_STRING, elements, identifying=elements, symbology=symbology, today=today)
    if GS not in body and scan.gtin is not None and _missing(scan) and swallowed(body):
        name, advice = ADVICE[Fault.SEPARATOR_MISSING]
        return replace(scan, warnings=(*scan.warnings, f"scanner not configured, it seems: {name}. {advice}"))
    return scan


def _of_link(uri: str, symbology: str | None, today: date) -> Scan:
    if is_shouted_link(uri):
        message = f"{shown(uri)} was typed with its letters inverted"
        raise MalformedError(message, code="EPC_MALFORMED")
    warnings: tuple[str, ...] = ()
    try:
        named, attributes = read_link(uri)
    except MalformedError as error:
        if error.code != "EPC_NOT_GS1":
            raise
        named, attributes = read_link(uri, aliases=True)
        warnings = ("the link is spelled with names that GS1 Digital Link no longer has; numbers stand for them now",)
    elements = (*named, *attributes)
    scan = _scan(Spelling.LINK, elements, identifying=named, symbology=symbology, today=today)
    return replace(scan, warnings=(*scan.warnings, *warnings)) if warnings else scan


def _check_symbology(symbology: str | None, body: str) -> None:
    if not body:
        message = "the scan is empty"
        raise MalformedError(message, code="SCAN_EMPTY")
    retail = len(body) in _LINEAR_LENGTHS and body.isascii() and body.isdigit()
    if (symbology is not None and _EAN_UPC.match(symbology)) or (symbology is None and retail):
        message = f"{shown(body)} is a retail barcode without serial number; scan the square code"
        raise MalformedError(message, code="SCAN_LINEAR_ONLY")


def _missing(scan: Scan) -> list[str]:
    present = {ai for ai, _ in scan.ais}
    return [ai for ai in ("01", "21", "17", "10") if ai not in present]


def _scan(
    spelling: Spelling,
    elements: tuple[Element, ...],
    *,
    identifying: tuple[Element, ...],
    symbology: str | None,
    today: date,
) -> Scan:
    check_associations(elements)
    values = dict(elements)
    gln = values.get("414", values.get("417"))
    expiry = Expiry.parse(values["17"], today=today) if "17" in values else None
    warnings = []
    if expiry is not None and not expiry.day_given:
        warnings.append(f"the expiry date names no day; {expiry.day} is taken, the last of its month")
    return Scan(
        spelling=spelling,
        ais=elements,
        identifying=identifying,
        gtin=Gtin(values["01"]) if "01" in values else None,
        serial=values.get("21"),
        lot=values.get("10"),
        expiry=expiry,
        sscc=Sscc(values["00"]) if "00" in values else None,
        gln=None if gln is None else Gln(gln),
        symbology=symbology,
        warnings=tuple(warnings),
    )


def require_pack(scan: Scan) -> Sgtin:
    """Return the pack, if the scan shows all that a pack must: GTIN, serial, expiry and lot (AIs 01, 21, 17, 10).

    Raises:
        MalformedError: Something else was scanned (SCAN_NOT_PACK, SCAN_LINEAR_ONLY), a link or typed text lacks a part
            (PACK_INCOMPLETE), or a scanned symbol does (SCANNER_NOT_CONFIGURED: it says nothing about the pack).
    """
    sgtin = scan.sgtin
    missing = _missing(scan)
    if "01" in missing:
        message = "expected the code of a pack, with GTIN (01); got " + ", ".join(f"({ai})" for ai, _ in scan.ais)
        raise MalformedError(message, code="SCAN_NOT_PACK")
    if "21" in missing and scan.symbology in _ONE_DIMENSIONAL:
        message = "this bar code holds no serial number (21); scan the square code"
        raise MalformedError(message, code="SCAN_LINEAR_ONLY")
    if sgtin is None or missing:
        if scan.spelling is Spelling.ELEMENT_STRING:
            raise diagnose_incomplete(scan.ais).error()
        names = ", ".join(f"({ai})" for ai in missing)
        message = f"a pack is named by (01), (21), (17) and (10); the {scan.spelling} lacks {names}"
        raise MalformedError(message, code="PACK_INCOMPLETE")
    return sgtin
