"""Values in the one form in which they are compared: identifiers as keys, numbers and times as texts that sort.

Numbers and times become texts whose order, character by character, is theirs: the database compares them exactly,
whatever their size, and one column holds all kinds.
"""

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from medtrail.epcis import cbv
from medtrail.epcis.build import decimal_of, parse_time
from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import MalformedError
from medtrail.gs1 import OtherKey, Sgln, parse_epc

MAX_TEXT = 512
"""Longer texts are compared by their hash, so that no row of the index is large."""

START: Final = datetime(1, 1, 1, tzinfo=UTC)
_BIAS: Final = 5000
_NINES: Final = str.maketrans("0123456789", "9876543210")
_PREFIXES: Final = Prefixes()


def identifier(text: str) -> str:
    """Return what stands for an identifier in every spelling: its GS1 key as path, or the text itself."""
    try:
        return parse_epc(text).path
    except MalformedError:
        return bounded(text)


def party(text: str) -> str:
    """Return what stands for a party: a place without extension and a party with one GLN are the same."""
    try:
        key = parse_epc(text)
    except MalformedError:
        return bounded(text)
    if isinstance(key, Sgln) and key.extension is None:
        return OtherKey("417", key.gln.digits).path
    return key.path


def word(words: cbv.WordList, text: str) -> str:
    """Return a word of a CBV vocabulary bare, whether it comes bare, as URN, as web URI or as CURIE."""
    return bounded(words.bare(_PREFIXES.expand_value(text)))


def bounded(text: str) -> str:
    """Return a text, or the hash of a long one."""
    return text if len(text) <= MAX_TEXT else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def free_text(text: str) -> str:
    """Return the text of a user extension, an identifier in it as its key."""
    return identifier(text) if ":" in text else bounded(text)


def number_key(number: Decimal) -> str:
    """Return a text that sorts as a number does, of at most 64 digits and powers of ten.

    A sign (4 for negative, 5 for zero, 6 for positive), the power of ten plus 5000, the digits; for negative numbers
    all of these as their complement to nine, and a ``~`` at the end, since the shorter is then the greater.
    """
    sign, digits, _ = number.as_tuple()
    text = "".join(map(str, digits)).lstrip("0").rstrip("0")
    if not text:
        return "5"
    body = f"{number.adjusted() + _BIAS:05d}{text}"
    return f"6{body}" if not sign else f"4{body.translate(_NINES)}~"


def time_key(moment: datetime) -> str:
    """Return a text that sorts as a moment does: microseconds since the year 1, 18 digits."""
    return f"{microseconds(moment):018d}"


def microseconds(moment: datetime) -> int:
    """Return an aware moment as microseconds since the year 1, so that none is negative."""
    elapsed = moment - START
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def number_of(text: str) -> str | None:
    """Return the sorting text of the number that a text is, or None."""
    number = decimal_of(text.strip())
    return None if number is None else number_key(number)


def time_of(text: str) -> str | None:
    """Return the sorting text of the moment that a text is, or None."""
    try:
        return time_key(parse_time(text.strip(), field="value"))
    except MalformedError:
        return None
