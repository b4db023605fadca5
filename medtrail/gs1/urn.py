"""EPC URNs of keys, which need the length of the GS1 company prefix; it is known or it is not, and never guessed.

Source: GS1 EPC Tag Data Standard 2.1, sections 6 and 7.
"""

import re
from typing import Final
from urllib.parse import quote

from medtrail.errors import MalformedError
from medtrail.gs1.checks import shown
from medtrail.gs1.epc import parse_epc
from medtrail.gs1.keys import EpcKey, Gtin, Lgtin, OtherKey, Sgln, Sgtin, Sscc

SHORTEST_PREFIX: Final = 4
LONGEST_PREFIX: Final = 12

_PREFIX: Final = re.compile(r"[0-9]{4,12}")
_PREFIX_OF_URN: Final = re.compile(r"(?i:urn:epc:)(?:id|class|idpat):[a-z]+:([0-9]{4,12})\.")

# AIs whose number begins with a digit that is not the company prefix's.
_LEADING_DIGIT: Final = frozenset({"01", "8003", "8006"})

# Scheme and length of the number with its check digit; what follows that is the serial component.
_NUMBERED: Final = {
    "253": ("gdti", 13),
    "255": ("sgcn", 13),
    "402": ("gsin", 17),
    "417": ("pgln", 13),
    "8003": ("grai", 13),
    "8017": ("gsrnp", 18),
    "8018": ("gsrn", 18),
}
_WITH_SERIAL: Final = frozenset({"253", "255", "8003"})
_PLAIN: Final = {"401": "ginc", "8004": "giai"}


def to_urn(key: EpcKey, *, company_prefix_length: int) -> str:
    """Return the EPC URN of a key: pure identity, class (lots), or pattern (a class of serialised things).

    Args:
        key: Any but a GMN, a payment slip, a GSRN with SRIN, and an ITIP with lot, which have none.
        company_prefix_length: Digits of the GS1 company prefix, 4 to 12.

    Raises:
        MalformedError: The key has no URN, or not with such a prefix (URN_IMPOSSIBLE).
    """
    length = company_prefix_length
    if not SHORTEST_PREFIX <= length <= LONGEST_PREFIX:
        message = f"a GS1 company prefix has 4 to 12 digits, not {length}"
        raise MalformedError(message, code="URN_IMPOSSIBLE")
    match key:
        case Gtin():
            return f"urn:epc:idpat:sgtin:{_led(key.digits, length)}.*"
        case Sgtin():
            return f"urn:epc:id:sgtin:{_led(key.gtin.digits, length)}.{_escaped(key.serial)}"
        case Lgtin():
            return f"urn:epc:class:lgtin:{_led(key.gtin.digits, length)}.{_escaped(key.lot)}"
        case Sscc():
            return f"urn:epc:id:sscc:{_led(key.digits, length)}"
        case Sgln():
            extension = "0" if key.extension is None else _escaped(key.extension)
            return f"urn:epc:id:sgln:{_split(key.gln.digits, length)}.{extension}"
        case _:
            return _other(key, length)


def _escaped(text: str) -> str:
    return quote(text, safe="!'()*+,-.:;=_")


def _led(digits: str, length: int) -> str:
    """Return prefix and reference of a number whose first digit goes before the reference."""
    return f"{digits[1 : 1 + length]}.{digits[0]}{digits[1 + length : -1]}"


def _split(digits: str, length: int) -> str:
    return f"{digits[:length]}.{digits[length:-1]}"


def _other(key: OtherKey, length: int) -> str:
    value = key.value
    qualifiers = dict(key.qualifiers)
    if key.ai in _NUMBERED and not qualifiers:
        scheme, digits = _NUMBERED[key.ai]
        value = value[1:] if key.ai == "8003" else value
        number = _split(value[:digits], length)
        return (
            _serialised(scheme, number, value[digits:]) if key.ai in _WITH_SERIAL else f"urn:epc:id:{scheme}:{number}"
        )
    if key.ai in _PLAIN and value[length:] and _PREFIX.fullmatch(value[:length]):
        return f"urn:epc:id:{_PLAIN[key.ai]}:{value[:length]}.{_escaped(value[length:])}"
    if key.ai == "8010" and value[length:] and _PREFIX.fullmatch(value[:length]):
        return _serialised("cpi", f"{value[:length]}.{_escaped(value[length:])}", qualifiers.get("8011", ""))
    if key.ai == "8006" and "10" not in qualifiers:
        number = f"{_led(value[:14], length)}.{value[14:16]}.{value[16:]}"
        return _serialised("itip", number, qualifiers.get("21", ""))
    if key.ai == "01" and "235" in qualifiers:
        return _serialised("upui", _led(value, length), qualifiers["235"])
    message = f"{key.path} has no EPC URN with a company prefix of {length} digits"
    raise MalformedError(message, code="URN_IMPOSSIBLE")


def _serialised(scheme: str, number: str, serial: str) -> str:
    return f"urn:epc:id:{scheme}:{number}.{_escaped(serial)}" if serial else f"urn:epc:idpat:{scheme}:{number}.*"


class PrefixLengths:
    """GS1 company prefixes that URNs or master data have shown, and so the prefix lengths of the keys that begin so."""

    def __init__(self) -> None:
        self._prefixes: set[str] = set()

    def learn(self, urn: str) -> None:
        """Keep the company prefix that an EPC URN shows.

        Raises:
            MalformedError: It is no well-formed EPC URN.
        """
        parse_epc(urn)
        match = _PREFIX_OF_URN.match(urn)
        if match is None:
            message = f"expected an EPC URN, got {shown(urn)}"
            raise MalformedError(message, code="EPC_MALFORMED")
        self._prefixes.add(match[1])

    def learn_prefix(self, prefix: str) -> None:
        """Keep a company prefix from master data.

        Raises:
            MalformedError: Not 4 to 12 digits (PREFIX_MALFORMED).
        """
        if _PREFIX.fullmatch(prefix) is None:
            message = f"expected a GS1 company prefix of 4 to 12 digits, got {shown(prefix)}"
            raise MalformedError(message, code="PREFIX_MALFORMED")
        self._prefixes.add(prefix)

    def length_of(self, key: EpcKey) -> int | None:
        """Return the length of a key's company prefix; None if none is known, or known ones contradict each other."""
        number = _number_of(key)
        longest = min(LONGEST_PREFIX, len(number))
        lengths = [length for length in range(SHORTEST_PREFIX, longest + 1) if number[:length] in self._prefixes]
        return lengths[0] if len(lengths) == 1 else None


def _number_of(key: EpcKey) -> str:
    match key:
        case Gtin() | Sscc():
            return key.digits[1:]
        case Sgtin() | Lgtin():
            return key.gtin.digits[1:]
        case Sgln():
            return key.gln.digits
        case _:
            return key.value[1:] if key.ai in _LEADING_DIGIT else key.value


def to_urn_or_none(key: EpcKey, prefix_lengths: PrefixLengths) -> str | None:
    """Return the EPC URN of a key if its company prefix is known and it has one, else None: leave the link."""
    length = prefix_lengths.length_of(key)
    if length is None:
        return None
    try:
        return to_urn(key, company_prefix_length=length)
    except MalformedError:
        return None
