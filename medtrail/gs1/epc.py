"""EPC identifiers: pure-identity URNs, class and pattern URNs, Digital Links and bracketed text, read into one key.

Source: GS1 EPC Tag Data Standard 2.1, sections 6 (URNs) and 7 (their GS1 keys); EPCIS 2.0, section 6.4 (classes).
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from medtrail.errors import MalformedError
from medtrail.gs1.checks import check_digit, shown
from medtrail.gs1.digital_link import is_link, read_link_key
from medtrail.gs1.elements import check_associations, check_size, key_of, read_bracketed
from medtrail.gs1.keys import RESOLVER, EpcKey, Gln, Gtin, Lgtin, OtherKey, Sgln, Sgtin, Sscc

# Longer texts are not kept: their number times their length is what a stranger could make this process hold.
_CACHED: Final = 65_536
_CACHED_LENGTH: Final = 200

# A pack in the spelling that medtrail itself writes: most identifiers of most events.
_PACK: Final = re.compile(rf"{re.escape(RESOLVER)}/01/([0-9]{{14}})/21/([A-Za-z0-9._-]{{1,20}})")
_URN: Final = re.compile(r"(?i:urn:epc:)(id|class|idpat):([a-z]+):(.*)", re.DOTALL)
_TAG: Final = re.compile(r"(?i:urn:epc:(?:tag|raw|pat):)")
_PREFIX: Final = re.compile(r"[0-9]{4,12}")
_DIGITS: Final = re.compile(r"[0-9]*")
_COMPONENT: Final = re.compile(r"(?:[A-Za-z0-9!'()*+,\-.:;=_]|%[0-9A-Fa-f]{2})+")

# EPC schemes that have no GS1 key, and so no Digital Link.
_FOREIGN: Final = frozenset({"adi", "bic", "gid", "imovn", "usdod"})


def parse_epc(text: str) -> EpcKey:
    """Return the key that an EPC URN, a GS1 Digital Link URI or bracketed element text spells.

    Args:
        text: ``urn:epc:id:…``, ``urn:epc:class:lgtin:…``, ``urn:epc:idpat:…`` with ``*`` for the serial only,
            ``https://any.host/…/01/…``, or ``(01)…(21)…``; at most 8,192 characters.

    Raises:
        MalformedError: It is no GS1 identifier at all (EPC_NOT_GS1: keep it as it stands), a pattern wider than one
            class (EPC_PATTERN), or a GS1 identifier that is wrong (EPC_MALFORMED, CHECK_DIGIT_WRONG,
            SERIAL_MALFORMED, …).
        TooLargeError: Over 8,192 characters.
    """
    check_size(text)
    return _parse_cached(text) if len(text) <= _CACHED_LENGTH else _parse(text)


def _parse(text: str) -> EpcKey:
    pack = _PACK.fullmatch(text)
    if pack is not None:
        try:
            return Sgtin(_gtin_of(pack[1]), pack[2])
        except MalformedError:
            # The long way says what is wrong.
            pass
    match = _URN.fullmatch(text)
    if match is not None:
        return _of_urn(match[1], match[2], match[3], text)
    if is_link(text):
        return read_link_key(text)
    if text.startswith("("):
        elements = read_bracketed(text)
        check_associations(elements)
        return key_of(elements)
    if _TAG.match(text):
        raise _malformed(text, "a tag URI is no identifier; give the pure identity, urn:epc:id:…")
    message = f"{shown(text)} is neither an EPC URN nor a GS1 Digital Link"
    raise MalformedError(message, code="EPC_NOT_GS1")


# One event names an identifier several times, and its partners' events name it again.
_parse_cached = lru_cache(maxsize=_CACHED)(_parse)
_gtin_of = lru_cache(maxsize=4096)(Gtin)


def _malformed(text: str, why: str) -> MalformedError:
    return MalformedError(f"{shown(text)}: {why}", code="EPC_MALFORMED")


def _of_urn(kind: str, scheme: str, body: str, text: str) -> EpcKey:
    if scheme in _FOREIGN:
        message = f"{shown(text)} has no GS1 key"
        raise MalformedError(message, code="EPC_NOT_GS1")
    reader = _READERS.get(scheme)
    if reader is None or (kind == "class") != (scheme == "lgtin"):
        raise _malformed(text, f"urn:epc:{kind} has no scheme {scheme}")
    dots, read = reader
    fields = body.split(".", dots)
    if len(fields) != dots + 1:
        raise _malformed(text, f"expected {dots + 1} components, got {len(fields)}")
    if kind == "idpat":
        if scheme not in _CLASSES or fields[-1] != "*" or "*" in fields[:-1]:
            message = f"{shown(text)} is a pattern wider than one class"
            raise MalformedError(message, code="EPC_PATTERN")
        fields[-1] = ""
    elif _COMPONENT.fullmatch(body) is None:
        raise _malformed(text, "characters outside those of EPC URNs")
    elif not fields[-1] and scheme != "pgln":
        # Only a party's reference may be empty, after a company prefix of twelve digits.
        raise _malformed(text, "the last component is empty")
    if _PREFIX.fullmatch(fields[0]) is None:
        raise _malformed(text, f"expected a company prefix of 4 to 12 digits, got {shown(fields[0])}")
    return read([unquote(field, encoding="latin-1") for field in fields], text)


def _number(prefix: str, reference: str, *, length: int, text: str, leading: bool) -> str:
    """Return a key's digits, check digit included, from company prefix and reference.

    Args:
        prefix: GS1 company prefix.
        reference: The rest of the digits; with ``leading`` its first one (indicator, extension) goes to the front.
        length: Digits of both together.
        text: For the message.
        leading: Whether the reference begins with the digit that the key begins with.
    """
    if len(prefix) + len(reference) != length or _DIGITS.fullmatch(reference) is None or (leading and not reference):
        raise _malformed(text, f"company prefix and reference have {length} digits together")
    digits = f"{reference[0]}{prefix}{reference[1:]}" if leading else prefix + reference
    return digits + check_digit(digits)


def _gtin(fields: list[str], text: str) -> Gtin:
    return Gtin(_number(fields[0], fields[1], length=13, text=text, leading=True))


def _sgtin(fields: list[str], text: str) -> EpcKey:
    gtin = _gtin(fields, text)
    return Sgtin(gtin, fields[2]) if fields[2] else gtin


def _upui(fields: list[str], text: str) -> EpcKey:
    gtin = _gtin(fields, text)
    return OtherKey("01", gtin.digits, (("235", fields[2]),)) if fields[2] else gtin


def _itip(fields: list[str], text: str) -> EpcKey:
    value = f"{_gtin(fields, text)}{fields[2]}{fields[3]}"
    return OtherKey("8006", value, (("21", fields[4]),) if fields[4] else ())


def _sscc(fields: list[str], text: str) -> EpcKey:
    return Sscc(_number(fields[0], fields[1], length=17, text=text, leading=True))


def _sgln(fields: list[str], text: str) -> EpcKey:
    gln = Gln(_number(fields[0], fields[1], length=12, text=text, leading=False))
    return Sgln(gln, None if fields[2] == "0" else fields[2])


def _cpi(fields: list[str], _text: str) -> EpcKey:
    return OtherKey("8010", fields[0] + fields[1], (("8011", fields[2]),) if fields[2] else ())


def _numbered(ai: str, *, length: int, before: str = "") -> "_Reader":
    """Return a reader of keys that are a number with check digit and, where there is a third component, a serial."""

    def read(fields: list[str], text: str) -> EpcKey:
        number = _number(fields[0], fields[1], length=length, text=text, leading=False)
        return OtherKey(ai, before + number + "".join(fields[2:]))

    return read


def _plain(ai: str) -> "_Reader":
    return lambda fields, _text: OtherKey(ai, fields[0] + fields[1])


_Reader = Callable[[list[str], str], EpcKey]

# Scheme: dots between its components (the last may have dots of its own), and its reader.
_READERS: Final[dict[str, tuple[int, _Reader]]] = {
    "cpi": (2, _cpi),
    "gdti": (2, _numbered("253", length=12)),
    "giai": (1, _plain("8004")),
    "ginc": (1, _plain("401")),
    "grai": (2, _numbered("8003", length=12, before="0")),
    "gsin": (1, _numbered("402", length=16)),
    "gsrn": (1, _numbered("8018", length=17)),
    "gsrnp": (1, _numbered("8017", length=17)),
    "itip": (4, _itip),
    "lgtin": (2, lambda fields, text: Lgtin(_gtin(fields, text), fields[2])),
    "pgln": (1, _numbered("417", length=12)),
    "sgcn": (2, _numbered("255", length=12)),
    "sgln": (2, _sgln),
    "sgtin": (2, _sgtin),
    "sscc": (1, _sscc),
    "upui": (2, _upui),
}

# Schemes whose pattern with a star for the serial names a class.
_CLASSES: Final = frozenset({"cpi", "gdti", "grai", "itip", "sgcn", "sgtin", "upui"})
