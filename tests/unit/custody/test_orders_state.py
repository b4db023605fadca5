"""What an order's documents and goods say together, by values alone."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from medtrail.document import Document, DocumentKind, DocumentReference
from medtrail.gs1 import Gln, Gtin, Sgtin
from medtrail.terms import LineStatus, Terms, TermsLine
from services.custody.orders.goods import MAX_LOTS, Content, Tally, tally_of
from services.custody.orders.state import view_of
from services.custody.orders.view import Filed, Mismatch, MismatchKind, Movement, OrderState, OrderView
from tests.unit.custody.conftest import sscc

BUYER, SELLER, STRANGER = Gln("4012345000009"), Gln("0300011111116"), Gln("0399999999991")
PACK, CASE, OTHER = Gtin("00300010123455"), Gtin("10300010123452"), Gtin("09521321000018")
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
ORDER_NAME = DocumentReference(DocumentKind.ORDER, "P", BUYER)
DOCS = Path(__file__).parents[3] / "docs" / "orders.md"
D = Decimal


def line(number: int = 1, quantity: int = 10, gtin: Gtin = PACK, **fields: object) -> TermsLine:
    return TermsLine(number, gtin, D(quantity), **fields)  # type: ignore[arg-type]


def filed(kind: DocumentKind, number: str, *lines: TermsLine, minute: int = 0, **fields: object) -> Filed:
    by_buyer = kind in {DocumentKind.ORDER, DocumentKind.RECEIVING_ADVICE}
    issuer, counterparty = (BUYER, SELLER) if by_buyer else (SELLER, BUYER)
    document = Document(kind, number, counterparty, START + timedelta(minutes=minute), **fields)  # type: ignore[arg-type]
    return Filed(issuer, document, Terms(tuple(lines)))


def despatch(event_id: str, *, packs: int = 0, gtin: Gtin = PACK, **fields: object) -> Movement:
    tally = Tally({str(gtin): (packs, packs)})
    return Movement(event_id, event_id, receiving=False, party=SELLER, tally=tally, **fields)  # type: ignore[arg-type]


def view(lines: Sequence[TermsLine], documents: Sequence[Filed] = (), movements: Sequence[Movement] = ()) -> OrderView:
    """Return an order as it stands; in whichever order its documents and movements are told, it is the same."""
    order = filed(DocumentKind.ORDER, "P", *lines)
    found = view_of(order, documents, movements)
    for turned in itertools.islice(itertools.permutations(documents), 6):
        again = view_of(order, turned, tuple(reversed(movements)))
        assert (again.lines, again.state) == (found.lines, found.state)
        assert {*again.mismatches} == {*found.mismatches}
    return found


def kinds(found: OrderView) -> list[MismatchKind]:
    return [item.kind for item in found.mismatches]


# --- mismatches: by trigger, and by near miss ---


def test_line_unknown_where_a_trade_item_is_on_several_lines() -> None:
    answer = line(9, 5, status=LineStatus.CHANGED)
    found = view([line(1), line(2)], [filed(DocumentKind.CONFIRMATION, "C", answer)])
    uri = f"urn:epcglobal:cbv:bt:{SELLER}:C"
    assert found.mismatches == [Mismatch(MismatchKind.LINE_UNKNOWN, 9, PACK, None, D(5), uri)]


def test_no_line_unknown_where_the_trade_item_tells_the_line() -> None:
    answer = line(9, 5, status=LineStatus.CHANGED)
    found = view([line(1), line(2, gtin=OTHER)], [filed(DocumentKind.CONFIRMATION, "C", answer)])
    assert (kinds(found), found.lines[0].agreed) == ([], D(5))


@pytest.mark.parametrize(
    "answer",
    [
        line(quantity=9, status=LineStatus.ACCEPTED),
        line(status=LineStatus.ACCEPTED, price=D(2), currency="EUR"),
        line(status=LineStatus.ACCEPTED, price=D(1), currency="USD"),
    ],
)
def test_confirmation_differs_where_accepted_is_not_as_ordered(answer: TermsLine) -> None:
    found = view([line(price=D(1), currency="EUR")], [filed(DocumentKind.CONFIRMATION, "C", answer)])
    assert (kinds(found), found.lines[0].confirmed) == ([MismatchKind.CONFIRMATION_DIFFERS], D(10))


@pytest.mark.parametrize(
    "answer",
    [
        line(status=LineStatus.ACCEPTED),
        line(status=LineStatus.ACCEPTED, price=D("1.00"), currency="EUR"),
        line(quantity=9, status=LineStatus.CHANGED, price=D(2), currency="USD"),
    ],
)
def test_no_confirmation_differs_where_it_says_so(answer: TermsLine) -> None:
    assert kinds(view([line(price=D(1), currency="EUR")], [filed(DocumentKind.CONFIRMATION, "C", answer)])) == []


def test_not_ordered_where_goods_are_on_no_line() -> None:
    found = view([line()], movements=[despatch("e1", packs=3, gtin=OTHER)])
    assert found.mismatches == [Mismatch(MismatchKind.NOT_ORDERED, 0, OTHER, None, D(3))]
    said = view([line()], [filed(DocumentKind.INVOICE, "I", line(1, 1, OTHER))])
    assert kinds(said) == [MismatchKind.NOT_ORDERED]


def test_no_not_ordered_of_packs_in_a_case_that_is_ordered() -> None:
    tally = Tally({str(CASE): (1, 0), f"{CASE}/{PACK}": (10, 10)})
    movement = Movement("e1", "e1", receiving=False, party=SELLER, tally=tally)
    found = view([line(1, 1, CASE)], movements=[movement])
    assert (kinds(found), found.lines[0].shipped) == ([], D(1))
    assert view([line(1, 10, PACK)], movements=[movement]).lines[0].shipped == 10


def test_over_delivered_where_more_comes_than_agreed() -> None:
    answer = filed(DocumentKind.CONFIRMATION, "C", line(quantity=5, status=LineStatus.CHANGED))
    found = view([line()], [answer], [despatch("e1", packs=6)])
    assert found.mismatches == [Mismatch(MismatchKind.OVER_DELIVERED, 1, PACK, D(5), D(6))]


def test_no_over_delivered_where_back_orders_follow() -> None:
    answer = filed(DocumentKind.CONFIRMATION, "C", line(quantity=5, status=LineStatus.BACK_ORDERED))
    found = view([line()], [answer], [despatch("e1", packs=6), despatch("e2", packs=4)])
    assert (kinds(found), found.state, found.lines[0].back_ordered) == ([], OrderState.SHIPPED, D(0))


def test_advice_differs_and_the_goods_count() -> None:
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=7), event_ids=("e1",))
    found = view([line()], [advice], [despatch("e1", packs=6)])
    uri = f"urn:epcglobal:cbv:bt:{SELLER}:D"
    assert found.mismatches == [Mismatch(MismatchKind.ADVICE_DIFFERS, 1, PACK, D(7), D(6), uri)]
    assert found.lines[0].shipped == 6


def test_no_advice_differs_while_a_despatch_is_not_known() -> None:
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=7), event_ids=("e1", "e2"))
    found = view([line()], [advice], [despatch("e1", packs=6)])
    assert (kinds(found), found.lines[0].shipped) == ([], D(7))


def advised(number: str, quantity: int, *event_ids: str, minute: int = 0) -> Filed:
    return filed(DocumentKind.DESPATCH_ADVICE, number, line(quantity=quantity), minute=minute, event_ids=event_ids)


@pytest.mark.parametrize("known", [True, False])
def test_a_second_advice_of_a_despatch_counts_its_packs_once(*, known: bool) -> None:
    advices = [advised("D1", 10, "e1"), advised("D2", 10, "e1", minute=1)]
    found = view([line()], advices, [despatch("e1", packs=10)] if known else [])
    assert (found.lines[0].shipped, kinds(found), found.state) == (D(10), [], OrderState.SHIPPED)


def test_of_two_advices_of_a_shared_despatch_the_later_counts() -> None:
    advices = [advised("D1", 4, "e1"), advised("D2", 5, "e1", minute=1)]
    assert view([line()], advices, [despatch("e1", packs=9, shared=True)]).lines[0].shipped == 5


def test_no_advice_differs_of_an_advice_that_a_later_one_replaced() -> None:
    wrong, right = advised("D1", 9, "e1"), advised("D2", 10, "e1", minute=1)
    found = view([line()], [wrong, right], [despatch("e1", packs=10)])
    assert (found.lines[0].shipped, kinds(found)) == (D(10), [])
    turned = view([line()], [replace(wrong, document=replace(wrong.document, issue_time=START + timedelta(1))), right])
    assert turned.lines[0].shipped == 9


def test_an_advice_of_more_despatches_replaces_those_of_each() -> None:
    parts = [advised("D1", 7, "e1"), advised("D2", 4, "e2")]
    goods = [despatch("e1", packs=6), despatch("e2", packs=4)]
    found = view([line()], [*parts, advised("D3", 10, "e1", "e2", minute=1)], goods)
    assert (found.lines[0].shipped, kinds(found)) == (D(10), [])
    whole = advised("D0", 11, "e1", "e2", minute=-1)
    found = view([line()], [whole, advised("D1", 6, "e1"), advised("D2", 4, "e2")], goods)
    assert (found.lines[0].shipped, kinds(found)) == (D(10), [])


def test_an_advice_that_a_later_one_replaced_in_part_is_only_compared() -> None:
    goods = [despatch("e1", packs=6), despatch("e2", packs=4)]
    later = advised("D2", 6, "e1", minute=1)
    found = view([line()], [advised("D1", 10, "e1", "e2"), later], goods)
    assert (found.lines[0].shipped, kinds(found)) == (D(10), [])
    found = view([line()], [advised("D1", 9, "e1", "e2"), later], goods)
    assert (found.lines[0].shipped, kinds(found)) == (D(10), [MismatchKind.ADVICE_DIFFERS])
    assert view([line()], [advised("D1", 10, "e1", "e2"), later], goods[:1]).lines[0].shipped == 6


def test_an_advice_of_a_despatch_that_was_taken_back_says_nothing() -> None:
    order = filed(DocumentKind.ORDER, "P", line())
    first, both = advised("D1", 6, "e1"), advised("D2", 10, "e1", "e2", minute=1)
    found = view_of(order, [first, both], [despatch("e1", packs=6), despatch("e3", packs=4)], {"e2"})
    assert (found.lines[0].shipped, kinds(found)) == (D(10), [])
    assert view_of(order, [both], [despatch("e1", packs=6, shared=True)], {"e2"}).lines[0].shipped == 0


def test_advices_that_name_no_despatch_replace_none() -> None:
    assert view([line()], [advised("D1", 4), advised("D2", 6, minute=1)]).lines[0].shipped == 10


def test_received_differs_where_less_or_more_came() -> None:
    for came in (5, 7):
        advice = filed(DocumentKind.RECEIVING_ADVICE, "R", line(quantity=came), event_ids=("e1",))
        found = view([line()], [advice], [despatch("e1", packs=6)])
        assert kinds(found) == [MismatchKind.RECEIVED_DIFFERS]
        assert found.lines[0].received == came


def test_no_received_differs_where_later_advices_make_it_whole_or_the_despatch_is_unknown() -> None:
    first = filed(DocumentKind.RECEIVING_ADVICE, "R1", line(quantity=4), event_ids=("e1",))
    second = filed(DocumentKind.RECEIVING_ADVICE, "R2", line(quantity=2), event_ids=("e1",), minute=1)
    assert kinds(view([line()], [first, second], [despatch("e1", packs=6)])) == []
    assert kinds(view([line()], [first])) == []
    both = filed(DocumentKind.RECEIVING_ADVICE, "R3", line(quantity=1), event_ids=("e1", "e2"), minute=2)
    apart = [despatch("e1", packs=6), despatch("e2", packs=1)]
    assert kinds(view([line()], [first, both], apart)) == []


def test_a_receiving_advice_is_about_the_despatches_of_the_advice_that_it_names() -> None:
    name = DocumentReference(DocumentKind.DESPATCH_ADVICE, "D", SELLER)
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=6), event_ids=("e1",))
    received = filed(DocumentKind.RECEIVING_ADVICE, "R", line(quantity=5), references=(name,))
    assert kinds(view([line()], [advice, received], [despatch("e1", packs=6)])) == [MismatchKind.RECEIVED_DIFFERS]
    assert kinds(view([line()], [received], [despatch("e1", packs=6)])) == []


def test_invoiced_too_much_where_less_was_shipped() -> None:
    invoice = filed(DocumentKind.INVOICE, "I", line(quantity=7), event_ids=("e1",))
    found = view([line()], [invoice], [despatch("e1", packs=6)])
    assert found.mismatches == [Mismatch(MismatchKind.INVOICED_TOO_MUCH, 1, PACK, D(6), D(7))]


def test_invoiced_too_much_where_what_was_invoiced_was_taken_back() -> None:
    invoice = filed(DocumentKind.INVOICE, "I", line(quantity=6), event_ids=("e1", "e2"))
    order = filed(DocumentKind.ORDER, "P", line())
    found = view_of(order, [invoice], [despatch("e1", packs=4)], {"e2"})
    assert found.mismatches == [Mismatch(MismatchKind.INVOICED_TOO_MUCH, 1, PACK, D(4), D(6))]


def test_no_invoiced_too_much_while_what_the_invoice_names_is_not_known() -> None:
    name = DocumentReference(DocumentKind.DESPATCH_ADVICE, "D", SELLER)
    for fields in ({"event_ids": ("e1",)}, {"references": (name,)}):
        invoice = filed(DocumentKind.INVOICE, "I", line(quantity=7), **fields)
        assert kinds(view([line()], [invoice])) == []
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=1), event_ids=("e9",))
    invoice = filed(DocumentKind.INVOICE, "I", line(quantity=7), references=(name,))
    assert kinds(view([line()], [invoice, advice])) == []


@pytest.mark.parametrize(("price", "currency"), [(D(2), "EUR"), (D(1), "USD")])
def test_price_differs_where_an_invoice_has_another(price: Decimal, currency: str) -> None:
    invoice = filed(DocumentKind.INVOICE, "I", line(quantity=6, price=price, currency=currency))
    found = view([line(price=D(1), currency="EUR")], [invoice], [despatch("e1", packs=6)])
    assert [(item.kind, item.wanted, item.found) for item in found.mismatches] == [
        (MismatchKind.PRICE_DIFFERS, D(1), price)
    ]


def test_no_price_differs_where_the_seller_changed_it_or_nothing_was_said() -> None:
    ordered = line(price=D(1), currency="EUR")
    changed = filed(DocumentKind.CONFIRMATION, "C", replace(ordered, status=LineStatus.CHANGED, price=D(2)))
    invoice = filed(DocumentKind.INVOICE, "I", line(quantity=6, price=D(2), currency="EUR"))
    assert kinds(view([ordered], [changed, invoice], [despatch("e1", packs=6)])) == []
    assert kinds(view([line()], [invoice], [despatch("e1", packs=6)])) == []


# --- counting ---


def test_counts_fill_the_lines_of_a_trade_item_in_their_order() -> None:
    found = view([line(1, 4), line(2, 4)], movements=[despatch("e1", packs=9)])
    assert [item.shipped for item in found.lines] == [4, 5]
    assert kinds(found) == [MismatchKind.OVER_DELIVERED]


def test_an_advice_that_agrees_says_which_lines_are_meant() -> None:
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(2, 3), event_ids=("e1",))
    found = view([line(1, 4), line(2, 4)], [advice], [despatch("e1", packs=3)])
    assert [item.shipped for item in found.lines] == [0, 3]


def test_a_despatch_that_names_an_advice_is_told_by_it() -> None:
    uri = f"urn:epcglobal:cbv:bt:{SELLER}:D"
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=3))
    found = view([line()], [advice], [despatch("e1", packs=3, advices=frozenset({uri}))])
    assert (found.lines[0].shipped, kinds(found)) == (D(3), [])


def test_a_despatch_for_several_orders_counts_as_its_advice_says() -> None:
    shared = despatch("e1", packs=9, shared=True)
    assert view([line()], movements=[shared]).lines[0].shipped == 0
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=4), event_ids=("e1",))
    found = view([line()], [advice], [shared])
    assert (found.lines[0].shipped, kinds(found)) == (D(4), [])


def test_lines_by_weight_take_what_advices_say() -> None:
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=10, uom="KGM"), event_ids=("e1",))
    found = view([line(uom="KGM")], [advice], [despatch("e1", packs=1)])
    assert (found.lines[0].shipped, found.state) == (D(10), OrderState.SHIPPED)


def test_what_others_ship_or_say_does_not_count() -> None:
    foreign = replace(
        filed(DocumentKind.CONFIRMATION, "C", line(quantity=0, status=LineStatus.REJECTED)), issuer=STRANGER
    )
    moved = replace(despatch("e1", packs=3), party=STRANGER)
    found = view([line()], [foreign], [moved])
    assert (found.state, found.lines[0].shipped) == (OrderState.PLACED, D(0))
    assert (found.line(1), found.line(2)) == (found.lines[0], None)


def test_tallies_count_through_containers_and_keep_some_lots() -> None:
    pallet, case = sscc(1), Sgtin(CASE, "1")
    packs = [Sgtin(PACK, str(number)) for number in range(MAX_LOTS + 2)]
    contents = [Content(pallet, None, ""), Content(case, pallet, "")]
    contents += [Content(pack, case, f"L{number}") for number, pack in enumerate(packs)]
    tally = tally_of([*contents, Content(Sgtin(OTHER, "1"), pallet, "")])
    assert tally.counts() == {PACK: MAX_LOTS + 2, OTHER: 1}
    assert tally.counts([CASE]) == {CASE: 1, OTHER: 1}
    assert len(tally.lots[str(PACK)]) == MAX_LOTS


def received(number: str, *lines: TermsLine, despatches: tuple[str, ...] = ("e1",)) -> Filed:
    return filed(DocumentKind.RECEIVING_ADVICE, number, *lines, event_ids=despatches)


def test_an_advice_that_counts_by_lot_is_put_on_the_lines_that_were_shipped() -> None:
    advice = filed(DocumentKind.DESPATCH_ADVICE, "D", line(2, 3), event_ids=("e1",))
    lots = received("R", line(1, 1, lots=("A",)), line(2, 2, lots=("B",)), line(3, 0, lots=("C",)))
    found = view([line(1, 4), line(2, 4)], [advice, lots], [despatch("e1", packs=3)])
    assert [item.received for item in found.lines] == [0, 3]
    assert kinds(found) == []


def test_packs_received_of_cases_that_were_ordered_count_as_parts_of_cases() -> None:
    tally = Tally({str(CASE): (2, 0), f"{CASE}/{PACK}": (20, 20)})
    movement = Movement("e1", "e1", receiving=False, party=SELLER, tally=tally)
    found = view([line(1, 2, CASE)], [received("R", line(1, 15))], [movement])
    assert (found.lines[0].received, found.state) == (D("1.5"), OrderState.PARTLY_RECEIVED)
    assert [(item.kind, item.wanted, item.found) for item in found.mismatches] == [
        (MismatchKind.RECEIVED_DIFFERS, D(2), D("1.5"))
    ]
    whole = view([line(1, 2, CASE)], [received("R", line(1, 20))], [movement])
    assert (whole.state, kinds(whole)) == (OrderState.RECEIVED, [])


def cases(*held: int, event_id: str = "e1") -> Movement:
    """Return a despatch of cases that hold some packs each."""
    tally = Tally({str(CASE): (len(held), 0), f"{CASE}/{PACK}": (sum(held), sum(held))})
    return Movement(event_id, event_id, receiving=False, party=SELLER, tally=tally)


def test_packs_of_all_cases_make_all_cases_however_they_are_told() -> None:
    uneven = view([line(1, 3, CASE)], [received("R", line(1, 32))], [cases(11, 11, 10)])
    assert (uneven.lines[0].received, uneven.state, kinds(uneven)) == (D(3), OrderState.RECEIVED, [])
    told = [received("R1", line(1, 1)), received("R2", line(1, 7)), received("R3", line(1, 4))]
    parts = view([line(1, 2, CASE)], told, [cases(6, 6)])
    assert (parts.lines[0].received, parts.state, kinds(parts)) == (D(2), OrderState.RECEIVED, [])
    third = view([line(1, 3, CASE)], [received("R", line(1, 1))], [cases(3, 3, 3)])
    assert str(third.lines[0].received) == "0.333333"


def test_packs_of_several_despatches_are_parts_of_the_cases_of_all_of_them() -> None:
    told = received("R", line(1, 17), despatches=("e1", "e2"))
    found = view([line(1, 3, CASE)], [told], [cases(6, 6), cases(5, event_id="e2")])
    assert (found.lines[0].received, kinds(found)) == (D(3), [])


def test_packs_of_mixed_cases_and_loose_ones_are_told_apart_as_they_were_sent() -> None:
    mixed = {str(CASE): (1, 0), f"{CASE}/{PACK}": (5, 5), f"{CASE}/{OTHER}": (3, 3)}
    movement = Movement("e1", "e1", receiving=False, party=SELLER, tally=Tally(mixed))
    found = view([line(1, 1, CASE)], [received("R", line(1, 5), line(2, 3, OTHER))], [movement])
    assert (found.lines[0].received, kinds(found)) == (D(1), [])
    loose = replace(movement, tally=Tally({str(CASE): (2, 1), f"{CASE}/{PACK}": (5, 5), str(PACK): (3, 3)}))
    found = view([line(1, 2, CASE)], [received("R", line(1, 8), line(2, 1, CASE))], [loose])
    # The loose packs were shipped and received, and were on no line either time.
    assert (found.lines[0].received, set(kinds(found))) == (D(2), {MismatchKind.NOT_ORDERED})


@pytest.mark.parametrize("packs", [7, 2, 5], ids=["all came", "the case did not", "a part of the case"])
def test_each_pack_counts_once_where_an_order_names_it_and_its_case(packs: int) -> None:
    tally = Tally({str(CASE): (1, 0), f"{CASE}/{PACK}": (5, 5), str(PACK): (2, 2)})
    movement = Movement("e1", "e1", receiving=False, party=SELLER, tally=tally)
    ordered = [line(1, 1, CASE), line(2, 2)]
    by_lot = received("R", line(1, packs - 1, lots=("A",)), line(2, 1, lots=("B",)))
    found = view(ordered, [by_lot], [movement])
    assert [item.received for item in found.lines] == [D(packs - 2) / 5, 2]
    assert kinds(found) == ([] if packs == 7 else [MismatchKind.RECEIVED_DIFFERS])
    counted = view(ordered, [received("R", line(1, 1, CASE), line(2, 2))], [movement])
    assert (counted.state, kinds(counted)) == (OrderState.RECEIVED, [])
    alone = view(ordered[:1], [received("R", line(1, 1, CASE), line(2, 2))], [movement])
    assert (alone.lines[0].received, set(kinds(alone))) == (D(1), {MismatchKind.NOT_ORDERED})


# --- a despatch for several orders ---


def test_a_despatch_for_several_orders_is_received_as_far_as_it_was_this_ones() -> None:
    shared = [despatch("e1", packs=9, shared=True)]
    whole = received("R", line(1, 9), line(2, 6, OTHER))
    found = view([line()], [advised("D", 4, "e1"), whole], shared)
    assert (found.lines[0].received, kinds(found)) == (D(4), [])
    parts = [received("R1", line(1, 3)), received("R2", line(1, 6))]
    found = view([line(quantity=4)], [advised("D", 4, "e1"), *parts], shared)
    assert (found.lines[0].received, found.state, kinds(found)) == (D(4), OrderState.RECEIVED, [])
    found = view([line()], [advised("D", 4, "e1"), parts[0]], shared)
    assert found.lines[0].received == 3
    # Nobody has said yet what of it is this order's.
    assert view([line()], [whole], shared).lines[0].received == 0


def test_what_is_this_orders_of_a_despatch_for_several_is_told_apart_from_its_own_despatches() -> None:
    goods = [despatch("e1", packs=9, shared=True), despatch("e2", packs=2)]
    advice = advised("D", 6, "e1", "e2")
    name = DocumentReference(DocumentKind.DESPATCH_ADVICE, "D", SELLER)
    told = filed(DocumentKind.RECEIVING_ADVICE, "R", line(1, 9), event_ids=("e1",), references=(name,))
    found = view([line()], [advice, told], goods)
    assert (found.lines[0].shipped, found.lines[0].received, kinds(found)) == (D(6), D(4), [])
    both = received("R", line(1, 11), line(2, 1, OTHER), despatches=("e1", "e2"))
    assert view([line()], [advice, both], goods).lines[0].received == 6


def test_what_of_a_despatch_for_several_orders_came_by_weight_is_this_ones_as_far_as_it_was_shipped() -> None:
    by_weight = [line(quantity=9, uom="KGM"), line(2, 5, OTHER, uom="KGM")]
    sent = filed(DocumentKind.DESPATCH_ADVICE, "D", line(quantity=4, uom="KGM"), event_ids=("e1",))
    found = view([line(uom="KGM")], [sent, received("R", *by_weight)], [despatch("e1", packs=1, shared=True)])
    assert (found.lines[0].received, kinds(found)) == (D(4), [])


def test_what_was_received_by_weight_is_on_the_line_that_the_advice_names() -> None:
    advice = received("R", line(quantity=7, uom="KGM"), despatches=())
    found = view([line(uom="KGM")], [advice])
    assert (found.lines[0].received, kinds(found)) == (D(7), [])


def test_more_than_was_shipped_goes_on_the_last_line_of_its_trade_item() -> None:
    found = view([line(1, 2), line(2, 2)], [received("R", line(9, 6), despatches=())], [despatch("e1", packs=3)])
    assert [item.received for item in found.lines] == [2, 4]
    other = view([line()], [received("R", line(1, 6, OTHER), line(2, 0, CASE), despatches=())])
    assert kinds(other) == [MismatchKind.NOT_ORDERED]


# --- docs ---


def test_docs_tell_of_every_state_and_mismatch_and_of_no_others() -> None:
    text = DOCS.read_text(encoding="utf-8")
    states, mismatches = text.partition("## Mismatches")[::2]
    rows = [row.split("`")[1] for row in states.partition("## States")[2].splitlines() if row.startswith("| `")]
    assert set(rows[: len(OrderState)]) == {state.value for state in OrderState}
    table = mismatches.partition("## Commands")[0]
    told = [row.split("`")[1] for row in table.splitlines() if row.startswith("| `")]
    assert told == [kind.value for kind in MismatchKind]
