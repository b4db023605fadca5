"""Deliveries of what was ordered: what closing says of each order, as its buyer and its seller read it."""

from decimal import Decimal

import pytest

from medtrail.document import DocumentKind
from medtrail.gs1 import Sgtin
from medtrail.terms import TermsLine
from services.custody.events import document
from services.custody.orders import advices, book
from services.custody.orders.book import DocumentQuery
from services.custody.orders.view import OrderState
from services.custody.units import Unit
from tests.unit.custody.conftest import CASE_GTIN, GTIN, House, packs, sscc
from tests.unit.custody.test_orders_flow import heading, place, post, same_on_both, ship
from tests.unit.receiving.conftest import Bay, case_of

D = Decimal
NOT_SAID = "missing 2 (no despatch advice tells of which order)"
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


# --- a despatch for several orders ---


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ([TermsLine(4, CASE_GTIN, D(1))], ("missing 1 of order P2 line 4", "missing 2 of order P1 line 1")),
        ([TermsLine(4, CASE_GTIN, D(1)), TermsLine(5, GTIN, D(1))], ("missing 1 of order P2 line 4", NOT_SAID)),
        ([], (NOT_SAID.replace("2", "1"), NOT_SAID)),
    ],
    ids=["each of one order", "of both orders", "one order without advice"],
)
def test_what_is_missing_is_told_by_the_order_that_lacks_it(
    maker: House, pharmacy: House, second: list[TermsLine], told: tuple[str, str]
) -> None:
    place(pharmacy, maker, "P1", [TermsLine(1, GTIN, D(3))])
    place(pharmacy, maker, "P2", [TermsLine(4, CASE_GTIN, D(1)), TermsLine(5, GTIN, D(1))])
    post(pharmacy, maker)
    units = (*packs(1, 2, 3), case_of("A"))
    maker.commission(units)
    orders = [document("po", number, issuer=pharmacy.gln) for number in ("P1", "P2")]
    (despatch,) = maker.ship(units, pharmacy.gln, orders)
    for number, lines in (("P1", [TermsLine(1, GTIN, D(3))]), ("P2", second)):
        name = book.order_name(pharmacy.gln, number)
        if lines:
            maker.write(
                lambda s, name=name, lines=lines: advices.advise_despatch(  # type: ignore[misc]
                    s, heading(maker, f"D-{name.number}"), name, [despatch.event_id], lines
                )
            )
    post(maker, pharmacy)
    close_all(pharmacy, despatch.event_id, units[0])
    query = DocumentQuery(DocumentKind.RECEIVING_ADVICE)
    (known,) = pharmacy.read(lambda c: book.list_documents(c, query, before=None, limit=9))
    found = {line.gtin: (line.quantity, line.note) for line in known.filed.terms.lines}
    assert found == {CASE_GTIN: (D(0), told[0]), GTIN: (D(1), told[1])}
