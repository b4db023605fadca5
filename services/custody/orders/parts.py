"""Packs as parts of what was ordered: how many cases it makes that packs of them came one by one.

Numbers are fractions until all of them are added up: a third of a case three times over is a case.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from medtrail.gs1 import Gtin
from medtrail.terms import TermsLine
from services.custody.orders.goods import Tally
from services.custody.orders.view import PIECES

PLACES = 6
"""Decimal places of a number of parts."""


def in_ordered_items(
    gtins: Collection[Gtin], lines: Iterable[TermsLine], despatches: Iterable[Tally]
) -> dict[Gtin, Fraction]:
    """Return what lines count in pieces; packs of what was ordered by the case as parts of cases.

    Lines do not tell which packs are meant: they count as those that were sent by themselves, as far as there are such,
    then as parts of cases. So each counts once, also where an order names the packs beside their cases.

    Args:
        gtins: Trade items as ordered.
        lines: Of receiving advices about the same despatches.
        despatches: What those hold.
    """
    said: dict[Gtin, Fraction] = {}
    for line in lines:
        if line.uom in PIECES:
            add(said, {line.gtin: Fraction(line.quantity)})
    sent = list(despatches)
    alone = Counter[Gtin]()
    for tally in sent:
        alone.update(tally.counts(gtins))
    inside = _inside({str(gtin) for gtin in gtins}, sent)
    found: dict[Gtin, Fraction] = {}
    for gtin, number in said.items():
        known = inside.get(gtin, _NOWHERE)
        packed = min(max(Fraction(0), number - alone[gtin]), Fraction(known.units))
        add(found, {gtin: number - packed} if number > packed or not known.units else {})
        add(found, {outer: packed * part for outer, part in known.parts.items()})
    return found


@dataclass(frozen=True, slots=True)
class _Inside:
    """How many of a smallest trade item were sent inside of ordered ones, and which part of which one of them is."""

    units: int
    parts: Mapping[Gtin, Fraction]


_NOWHERE = _Inside(0, {})


def _inside(wanted: Collection[str], despatches: Iterable[Tally]) -> dict[Gtin, _Inside]:
    """Return of which wanted trade items the smallest ones are which part, on average over all that are inside."""
    items: Counter[str] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    for tally in despatches:
        for chain, (count, empties) in tally.chains.items():
            *above, gtin = chain.split("/")
            outer = next((item for item in above if item in wanted), None)
            if outer is None:
                items[gtin] += count - empties
            else:
                held[outer, gtin] += empties
    filled: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for (outer, gtin), count in held.items():
        filled[outer] += count
        among[gtin] += count
    parts: dict[str, dict[Gtin, Fraction]] = {}
    for (outer, gtin), count in held.items():
        if count:
            part = Fraction(count, among[gtin]) * Fraction(items[outer], filled[outer])
            parts.setdefault(gtin, {})[Gtin(outer)] = part
    return {Gtin(gtin): _Inside(among[gtin], part) for gtin, part in parts.items()}


def add(total: dict[Gtin, Fraction], part: Mapping[Gtin, Fraction]) -> None:
    """Add numbers of trade items to others."""
    for gtin, number in part.items():
        total[gtin] = total.get(gtin, Fraction(0)) + number


def rounded(numbers: Mapping[Gtin, Fraction]) -> dict[Gtin, Decimal]:
    """Return numbers of 0 or more with at most 6 decimal places."""
    return {gtin: _decimal(number) for gtin, number in numbers.items()}


def _decimal(number: Fraction) -> Decimal:
    whole, rest = divmod(round(number * 10**PLACES), 10**PLACES)
    return Decimal(f"{whole}.{rest:0{PLACES}}".rstrip("0").rstrip("."))
