"""GS1 identification keys as values: packs, lots, trade items, logistic units, places, and the rest generically.

Every key has one spelling that stands for it in databases, in the item map and in event hashes: ``path``, the path of
its GS1 Digital Link in key form. Constructors check; a key that exists is well formed.

Source: GS1 General Specifications, sections 2 and 3; GS1 Digital Link Standard: URI Syntax, section 4.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote

from medtrail.errors import MalformedError
from medtrail.gs1.checks import check_characters, check_digits_only, shown
from medtrail.gs1.content import check_value

RESOLVER: Final = "https://id.gs1.org"

_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._-]*")
_GTIN_LENGTHS: Final = (8, 12, 13, 14)


def percent_encoded(text: str) -> str:
    """Return a text with all but letters, digits, ``-``, ``.`` and ``_`` percent-encoded, in upper-case hex."""
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="")


class _Key(ABC):
    """What all keys share: the Digital Link made from the path."""

    __slots__ = ()

    @property
    @abstractmethod
    def path(self) -> str:
        """Canonical identifier: the Digital Link path in key form, percent-encoded."""

    @property
    def digital_link(self) -> str:
        """Canonical GS1 Digital Link URI, at GS1's own resolver."""
        return RESOLVER + self.path


@dataclass(frozen=True, slots=True, order=True)
class Gtin(_Key):
    """A trade item at one packaging level (AI 01): 14 digits, the check digit last.

    Raises:
        MalformedError: Not 14 digits (GTIN_MALFORMED), or a wrong check digit (CHECK_DIGIT_WRONG).
    """

    digits: str

    def __post_init__(self) -> None:
        check_digits_only(self.digits, length=14, what="GTIN")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the GTIN that 8, 12, 13 or 14 digits spell; shorter ones are padded with zeros on the left."""
        if len(text) not in _GTIN_LENGTHS:
            message = f"expected a GTIN of 8, 12, 13 or 14 digits, got {shown(text)}"
            raise MalformedError(message, code="GTIN_MALFORMED")
        return cls(text.zfill(14))

    @property
    def path(self) -> str:
        """Digital Link path: ``/01/<14 digits>``."""
        return f"/01/{self.digits}"

    def __str__(self) -> str:
        return self.digits


@dataclass(frozen=True, slots=True, order=True)
class Gln:
    """A party or a place (AIs 410 to 417): 13 digits, the check digit last. As a key of its own it is an ``Sgln``.

    Raises:
        MalformedError: Not 13 digits (GLN_MALFORMED), or a wrong check digit (CHECK_DIGIT_WRONG).
    """

    digits: str

    def __post_init__(self) -> None:
        check_digits_only(self.digits, length=13, what="GLN")

    def __str__(self) -> str:
        return self.digits


@dataclass(frozen=True, slots=True, order=True)
class Sscc(_Key):
    """One logistic unit, a case or a pallet (AI 00): 18 digits, the check digit last.

    Raises:
        MalformedError: Not 18 digits (SSCC_MALFORMED), or a wrong check digit (CHECK_DIGIT_WRONG).
    """

    digits: str

    def __post_init__(self) -> None:
        check_digits_only(self.digits, length=18, what="SSCC")

    @property
    def path(self) -> str:
        """Digital Link path: ``/00/<18 digits>``."""
        return f"/00/{self.digits}"

    def __str__(self) -> str:
        return self.digits


@dataclass(frozen=True, slots=True, order=True)
class Sgtin(_Key):
    """One pack: a trade item and its serial number (AIs 01 and 21), 1 to 20 characters of set 82, case-sensitive.

    Raises:
        MalformedError: The serial is not that (SERIAL_MALFORMED).
    """

    gtin: Gtin
    serial: str

    def __post_init__(self) -> None:
        check_characters(self.serial, longest=20, what="SERIAL")

    @property
    def path(self) -> str:
        """Digital Link path: ``/01/<gtin>/21/<serial>``."""
        return f"/01/{self.gtin.digits}/21/{percent_encoded(self.serial)}"


@dataclass(frozen=True, slots=True, order=True)
class Lgtin(_Key):
    """One lot of a trade item (AIs 01 and 10), 1 to 20 characters of set 82, case-sensitive.

    Raises:
        MalformedError: The lot is not that (LOT_MALFORMED).
    """

    gtin: Gtin
    lot: str

    def __post_init__(self) -> None:
        check_characters(self.lot, longest=20, what="LOT")

    @property
    def path(self) -> str:
        """Digital Link path: ``/01/<gtin>/10/<lot>``."""
        return f"/01/{self.gtin.digits}/10/{percent_encoded(self.lot)}"


@dataclass(frozen=True, slots=True)
class Sgln(_Key):
    """A place (AI 414), or a place within it (AI 254: 1 to 20 characters of set 82); None means the place itself.

    Raises:
        MalformedError: The extension is not that (EXTENSION_MALFORMED).
    """

    gln: Gln
    extension: str | None = None

    def __post_init__(self) -> None:
        if self.extension is not None:
            check_characters(self.extension, longest=20, what="EXTENSION")

    @property
    def path(self) -> str:
        """Digital Link path: ``/414/<gln>`` or ``/414/<gln>/254/<extension>``."""
        within = "" if self.extension is None else f"/254/{percent_encoded(self.extension)}"
        return f"/414/{self.gln.digits}{within}"

    def __lt__(self, other: object) -> bool:
        """Order by GLN, the place itself before what is within it."""
        if not isinstance(other, Sgln):
            return NotImplemented
        return (self.gln, self.extension or "") < (other.gln, other.extension or "")


@dataclass(frozen=True, slots=True, order=True)
class OtherKey(_Key):
    """Any other GS1 key: an asset, a document, a service relation, a party as PGLN.

    Attributes:
        ai: Application identifier of the key: ``8003``, ``8004``, ``253``, ``417``, …
        value: Its value as an element string has it, check digit and serial component included.
        qualifiers: AI and value of what narrows the key, in Digital Link order: ``(("8011", "12"),)`` of a CPI.

    Raises:
        MalformedError: An AI does not exist (AI_UNKNOWN), or a value is not what its AI holds.
    """

    ai: str
    value: str
    qualifiers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for ai, value in ((self.ai, self.value), *self.qualifiers):
            check_value(ai, value)

    @property
    def path(self) -> str:
        """Digital Link path: ``/<ai>/<value>`` and, of each qualifier, ``/<ai>/<value>``."""
        parts = ((self.ai, self.value), *self.qualifiers)
        return "".join(f"/{ai}/{percent_encoded(value)}" for ai, value in parts)


EpcKey = Sgtin | Lgtin | Sscc | Sgln | Gtin | OtherKey
