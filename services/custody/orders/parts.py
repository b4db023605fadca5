"""Packs as parts of what was ordered: how many cases it makes that packs of them came one by one.

Numbers are fractions until all of them are added up: a third of a case three times over is a case.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
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

    Args:
        gtins: Trade items as ordered.
        lines: Of receiving advices about the same despatches.
        despatches: What those hold.
    """
    worth = _worth({str(gtin) for gtin in gtins}, despatches)
    found: dict[Gtin, Fraction] = {}
    for said in lines:
        if said.uom not in PIECES:
            continue
        one = {said.gtin: Fraction(1)} if said.gtin in gtins else worth.get(said.gtin, {said.gtin: Fraction(1)})
        add(found, {gtin: Fraction(said.quantity) * part for gtin, part in one.items()})
    return found


def _worth(wanted: Collection[str], despatches: Iterable[Tally]) -> dict[Gtin, dict[Gtin, Fraction]]:
    """Return of which wanted trade items one smallest trade item is which part, on average over all of them.

    What is in none of the wanted ones is whole.
    """
    items: Counter[str] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    for tally in despatches:
        for chain, (count, empties) in tally.chains.items():
            *above, gtin = chain.split("/")
            outer = next((item for item in above if item in wanted), None)
            if outer is None:
                items[gtin] += count - empties if gtin in wanted else empties
            if empties and (outer is not None or gtin not in wanted):
                held[outer or gtin, gtin] += empties
    inside: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for (outer, gtin), count in held.items():
        inside[outer] += count
        among[gtin] += count
    found: dict[Gtin, dict[Gtin, Fraction]] = {}
    for (outer, gtin), count in held.items():
        part = Fraction(count, among[gtin]) * Fraction(items[outer], inside[outer])
        found.setdefault(Gtin(gtin), {})[Gtin(outer)] = part
    return found


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
