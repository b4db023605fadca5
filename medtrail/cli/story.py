"""The demo's goods: packs in cases on pallets, and which way each pallet goes.

Everything follows from the number of packs, so that a run can be repeated and its counts foretold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from medtrail.gs1 import Gtin

PACK_GTIN = Gtin("00300010543215")
CASE_GTIN = Gtin("10300010543212")
PACKS_PER_CASE = 20
CASES_PER_PALLET = 10
PACKS_PER_PALLET = PACKS_PER_CASE * CASES_PER_PALLET
GROUP_SEPARATOR = "\x1d"

# Lots by pallet: every third is good, the others are recalled later; the last carries a lot that has expired.
RECALLED_LOT = "MT2401"
GOOD_LOT = "MT2402"
EXPIRED_LOT = "MT2301"


@dataclass(frozen=True, slots=True)
class Lot:
    """A lot and its expiry."""

    number: str
    expiry: date


@dataclass(frozen=True, slots=True)
class Case:
    """A case: its own serial and those of the packs inside."""

    serial: str
    lot: Lot
    pack_serials: tuple[str, ...]

    @property
    def link(self) -> str:
        """The case as Digital Link."""
        return f"https://id.gs1.org/01/{CASE_GTIN}/21/{self.serial}"

    @property
    def pack_links(self) -> tuple[str, ...]:
        """Its packs as Digital Links."""
        return tuple(pack_link(serial) for serial in self.pack_serials)


@dataclass(frozen=True, slots=True)
class Pallet:
    """A pallet: its SSCC and its cases, all of one lot."""

    sscc: str
    lot: Lot
    cases: tuple[Case, ...]

    @property
    def link(self) -> str:
        """The pallet as Digital Link."""
        return f"https://id.gs1.org/00/{self.sscc}"

    @property
    def pack_count(self) -> int:
        """Packs on the pallet."""
        return sum(len(case.pack_serials) for case in self.cases)


def pack_link(serial: str) -> str:
    """Return a pack of the story as Digital Link."""
    return f"https://id.gs1.org/01/{PACK_GTIN}/21/{serial}"


def pack_scan(serial: str, lot: Lot) -> str:
    """Return what a scanner sends for a pack: symbology identifier of GS1 DataMatrix, then the element string."""
    return f"]d201{PACK_GTIN}21{serial}{GROUP_SEPARATOR}17{lot.expiry:%y%m%d}10{lot.number}"


def make_pallets(packs: int, *, today: date) -> tuple[Pallet, ...]:
    """Return the pallets that hold at least so many packs; every pallet is full."""
    count = -(-packs // PACKS_PER_PALLET)
    recalled = Lot(RECALLED_LOT, date(today.year + 2, 6, 30))
    good = Lot(GOOD_LOT, date(today.year + 2, 9, 30))
    expired = Lot(EXPIRED_LOT, date(today.year - 1, 3, 31))
    lots = [good if number % 3 == 0 else recalled for number in range(count - 1)] + [expired]
    return tuple(_pallet(number, lot) for number, lot in enumerate(lots))


def _pallet(number: int, lot: Lot) -> Pallet:
    cases = tuple(_case(number * CASES_PER_PALLET + offset, lot) for offset in range(CASES_PER_PALLET))
    return Pallet(_sscc(number), lot, cases)


def _case(number: int, lot: Lot) -> Case:
    first = number * PACKS_PER_CASE
    serials = tuple(f"S{first + offset:07d}" for offset in range(PACKS_PER_CASE))
    return Case(f"C{number:05d}", lot, serials)


def _sscc(number: int) -> str:
    # Extension digit 0, company prefix 030001, ten digits of serial reference (GS1 General Specifications, 3.2.1).
    body = f"0030001{number + 1:010d}"
    weighted = sum(int(digit) * (3 if position % 2 == 0 else 1) for position, digit in enumerate(body))
    return body + str(-weighted % 10)


def in_chunks(items: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    """Yield the items in chunks of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
