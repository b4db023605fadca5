"""Deliveries of what was ordered: what closing says of each order, as its buyer and its seller read it."""

from decimal import Decimal

import pytest

from medtrail.gs1 import Sgtin
from medtrail.terms import TermsLine
from services.custody.orders.view import OrderState
from services.custody.units import Unit
from tests.unit.custody.conftest import CASE_GTIN, GTIN, House, packs, sscc
from tests.unit.custody.test_orders_flow import place, post, same_on_both, ship
from tests.unit.receiving.conftest import Bay, case_of

D = Decimal
INSIDE, LOOSE = packs(*range(5)), packs(5, 6)


def close_all(house: House, despatch_id: str, *scanned: Unit) -> None:
    bay = Bay.open(house, despatch_id)
    bay.scan_all(scanned)
    bay.close()


# --- a case and packs ---


@pytest.mark.parametrize("beside", [(), INSIDE[:2]], ids=["case", "case and packs inside of it"])
@pytest.mark.parametrize("box", [case_of("A"), sscc(5)], ids=["sgtin", "sscc"])
def test_each_unit_counts_once_where_a_case_and_packs_are_named(
    maker: House, pharmacy: House, box: Unit, beside: tuple[Sgtin, ...]
) -> None:
    by_case = isinstance(box, Sgtin)
    ordered = [TermsLine(1, CASE_GTIN, D(1)), TermsLine(2, GTIN, D(2))] if by_case else [TermsLine(2, GTIN, D(7))]
    quantities = [line.quantity for line in ordered]
    place(pharmacy, maker, lines=ordered)
    post(pharmacy, maker)
    maker.commission((*INSIDE, *LOOSE, *([box] if by_case else [])))
    maker.pack(box, INSIDE)
    despatch_id = ship(maker, pharmacy, [*beside, box, *LOOSE])
    post(maker, pharmacy)
    assert {pharmacy.held(pack).parent for pack in INSIDE} == {box}
    found = same_on_both(pharmacy, maker)
    assert ([line.shipped for line in found.lines], found.mismatches) == (quantities, [])
    close_all(pharmacy, despatch_id, box, *INSIDE[:2], *LOOSE)
    post(pharmacy, maker)
    found = same_on_both(pharmacy, maker)
    assert ([line.received for line in found.lines], found.mismatches) == (quantities, [])
    assert found.state is OrderState.RECEIVED
