"""Packs handed out in parts: counted, never above the rest, and opened for good."""

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError
from medtrail.event import PackLevel, Product
from services.custody import capture, commands, events
from services.custody.dispensing import Portion, parse_quantity
from services.custody.holding import HoldingState
from services.custody.messages import holding_to_message
from services.custody.portions import HandedOut, Wanted, check_uom, hand_out, pack_size_of
from services.custody.steps import portion_of
from services.custody.tables import HoldingRow
from services.custody.upgrade import upgrade
from tests.unit.custody.conftest import GTIN, House, named, packs, sscc

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from services.custody.units import Unit


def stocked(maker: House, pharmacy: House, *units: "Unit", net_content: str = "30 tablets") -> None:
    product = Product(GTIN, PackLevel.PACK, "Epcistra", net_content=net_content)
    pharmacy.desk = replace(pharmacy.desk, products=lambda: {GTIN: product})
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units)


def wanted(quantity: str = "", uom: str = "", size: str = "", *, partial: bool = False, eu: bool = False) -> Wanted:
    return Wanted(
        partial=partial,
        quantity=Decimal(quantity) if quantity else None,
        uom=uom,
        pack_size=Decimal(size) if size else None,
        decommission=eu,
    )


def take(house: House, what: Wanted, *units: "Unit") -> HandedOut:
    occasion = house.occasion()
    return house.write(lambda s: hand_out(s, named(units), occasion, what), units)


def refused(house: House, what: Wanted, unit: "Unit") -> tuple[str, str | None]:
    before = house.holding(unit)
    with pytest.raises(MedtrailError) as caught:
        take(house, what, unit)
    assert house.holding(unit) == before
    return caught.value.code, caught.value.field


def last_event(house: House) -> EpcisEvent:
    statement = house.events()[-1].statement
    assert isinstance(statement, EpcisEvent)
    return statement


def rest(house: House, unit: "Unit") -> tuple[HoldingState, Decimal | None, str]:
    holding = house.held(unit)
    return holding.state, holding.remainder, holding.remainder_uom


def test_a_pack_is_handed_out_in_parts_until_nothing_is_left(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    for quantity, left in (("12", "18"), ("0.5", "17.5")):
        handed = take(pharmacy, wanted(quantity), pack)
        assert rest(pharmacy, pack) == (HoldingState.PARTIALLY_DISPENSED, Decimal(left), "EA")
        ((unit, portion),) = handed.remainders
        assert portion is not None
        assert (unit, portion.remainder, portion.uom) == (pack, Decimal(left), "EA")
        event = last_event(pharmacy)
        assert (event.biz_step, event.disposition) == ("dispensing", "partially_dispensed")
        assert portion_of(event) == Portion(Decimal(quantity), Decimal(left), "EA")
        assert event.persistent_disposition is None
    assert refused(pharmacy, wanted("18"), pack) == ("QUANTITY_ABOVE_REST", "quantity")
    take(pharmacy, wanted("17.5"), pack)
    assert rest(pharmacy, pack) == (HoldingState.DISPENSED, Decimal(0), "EA")
    assert last_event(pharmacy).disposition == "dispensed"
    assert refused(pharmacy, wanted("1"), pack) == ("UNIT_FINAL", "epcs[0]")


def test_the_rest_is_handed_out_without_counting(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    take(pharmacy, wanted("12"), pack)
    take(pharmacy, wanted(), pack)
    assert rest(pharmacy, pack) == (HoldingState.DISPENSED, Decimal(0), "EA")
    assert portion_of(last_event(pharmacy)) == Portion(Decimal(18), Decimal(0), "EA")


def test_all_of_a_pack_at_once_opens_nothing(maker: House, pharmacy: House) -> None:
    whole, counted = packs(1, 2)
    stocked(maker, pharmacy, whole, counted)
    take(pharmacy, wanted(eu=True), whole)
    assert (portion_of(last_event(pharmacy)), pharmacy.held(whole).remainder) == (None, None)
    handed = take(pharmacy, wanted("30", eu=True), counted)
    assert (handed.opened, pharmacy.held(counted).state) == ((), HoldingState.DISPENSED)


def test_packs_of_one_request_that_are_left_with_the_same_share_an_event(maker: House, pharmacy: House) -> None:
    units = packs(1, 2, 3)
    stocked(maker, pharmacy, *units)
    take(pharmacy, wanted("20"), units[0])
    handed = take(pharmacy, wanted("10"), *units)
    assert len(handed.accepted) == 2
    assert [None if left is None else left.remainder for _, left in handed.remainders] == [0, 20, 20]
    assert [pharmacy.held(unit).state for unit in units] == [
        HoldingState.DISPENSED,
        HoldingState.PARTIALLY_DISPENSED,
        HoldingState.PARTIALLY_DISPENSED,
    ]


def test_where_the_product_does_not_say_the_size_is_stated_once(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack, net_content="one blister of fourteen")
    assert refused(pharmacy, wanted("4"), pack) == ("PACK_SIZE_MISSING", "pack_size")
    assert refused(pharmacy, wanted("4", size="14"), pack) == ("UOM_MISSING", "quantity_uom")
    assert refused(pharmacy, wanted("15", "EA", "14"), pack) == ("QUANTITY_ABOVE_REST", "quantity")
    take(pharmacy, wanted("4", "EA", "14"), pack)
    take(pharmacy, wanted("4"), pack)
    assert rest(pharmacy, pack) == (HoldingState.PARTIALLY_DISPENSED, Decimal(6), "EA")


def test_refuses_another_size_or_unit_than_the_product_and_the_rest_are_counted_in(
    maker: House, pharmacy: House
) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    assert refused(pharmacy, wanted("4", size="28"), pack) == ("PACK_SIZE_MISMATCH", "pack_size")
    assert refused(pharmacy, wanted("4", "MLT"), pack) == ("UOM_MISMATCH", "quantity_uom")
    take(pharmacy, wanted("4", "EA", "30"), pack)
    assert refused(pharmacy, wanted("4", "MLT"), pack) == ("UOM_MISMATCH", "quantity_uom")
    assert refused(pharmacy, wanted(partial=True), pack) == ("QUANTITY_MISSING", "quantity")


def test_what_nobody_counted_when_it_was_opened_has_no_rest(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    assert take(pharmacy, wanted(partial=True), pack).remainders == ((pack, None),)
    assert refused(pharmacy, wanted("400"), pack) == ("UOM_MISSING", "quantity_uom")
    take(pharmacy, wanted("400", "EA"), pack)
    assert portion_of(last_event(pharmacy)) == Portion(Decimal(400), None, "EA")
    assert rest(pharmacy, pack) == (HoldingState.PARTIALLY_DISPENSED, None, "EA")
    take(pharmacy, wanted(), pack)
    assert pharmacy.held(pack).state is HoldingState.DISPENSED


@pytest.mark.parametrize("eu", [False, True])
def test_the_first_opening_takes_the_serial_number_out_of_use_in_the_eu(
    maker: House, pharmacy: House, eu: bool
) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    assert take(pharmacy, wanted("10", eu=eu), pack).opened == ((pack,) if eu else ())
    persistent = last_event(pharmacy).persistent_disposition
    assert (persistent is not None and persistent.set == ("inactive",)) is eu
    for quantity in ("10", "10"):
        assert take(pharmacy, wanted(quantity, eu=eu), pack).opened == ()
        assert last_event(pharmacy).persistent_disposition is None
    assert pharmacy.held(pack).state is HoldingState.DISPENSED


def test_an_opened_pack_is_neither_shipped_nor_sent_back_for_resale(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    take(pharmacy, wanted("10"), pack)
    for verb in (pharmacy.ship, pharmacy.send_back):
        with pytest.raises(MedtrailError) as caught:
            verb([pack], maker.gln)
        assert caught.value.code == "UNIT_OPENED"


def test_an_opened_pack_whose_return_is_voided_is_opened_still(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    take(pharmacy, wanted(partial=True), pack)
    occasion, consignee = pharmacy.occasion(), commands.Consignee(maker.gln, maker.gln)
    pharmacy.write(
        lambda s: commands.send_back(s, named([pack]), occasion, consignee, reason="waste", purpose="destruction"),
        (pack,),
    )
    voided = replace(last_event(pharmacy), biz_step="void_shipping", disposition=None, event_time=pharmacy.clock())
    pharmacy.write(lambda s: capture.capture(s, [voided], second_hand=False), (pack,))
    assert rest(pharmacy, pack) == (HoldingState.PARTIALLY_DISPENSED, None, "")
    with pytest.raises(MedtrailError) as caught:
        pharmacy.ship([pack], maker.gln)
    assert caught.value.code == "UNIT_OPENED"


def test_what_earlier_versions_knew_to_be_opened_is(maker: House, pharmacy: House) -> None:
    opened, whole = packs(1, 2)
    stocked(maker, pharmacy, opened, whole)
    take(pharmacy, wanted("10"), opened)

    def forget(connection: "Connection") -> None:
        connection.execute(update(HoldingRow).values(opened=False))
        upgrade(connection)
        connection.execute(update(HoldingRow).values(state=HoldingState.ON_HAND.value))

    pharmacy.database.write_now(forget)
    assert (pharmacy.held(opened).opened, pharmacy.held(whole).opened) == (True, False)


def test_a_pack_in_a_container_is_taken_out_of_it_first(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    pharmacy.pack(sscc(1), [pack])
    assert len(take(pharmacy, wanted("10"), pack).accepted) == 2
    assert pharmacy.held(pack).parent is None


def test_parts_told_by_a_captured_event_count_as_well(maker: House, pharmacy: House) -> None:
    (pack,) = packs(1)
    stocked(maker, pharmacy, pack)
    portion = Portion(Decimal(10), Decimal(20), "EA")
    statement = events.dispensing((pack,), pharmacy.occasion(), partial=True, portion=portion)
    pharmacy.write(lambda s: capture.capture(s, [statement], second_hand=False), (pack,))
    assert rest(pharmacy, pack) == (HoldingState.PARTIALLY_DISPENSED, Decimal(20), "EA")


@pytest.mark.parametrize(
    ("text", "quantity", "uom"),
    [
        ("500 tablets", "500", "EA"),
        ("1 Tablet", "1", "EA"),
        ("2.5 mL", "2.5", "MLT"),
        ("2,5 ml", "2.5", "MLT"),
        ("60 doses", "60", "E27"),
        ("100g", "100", "GRM"),
        ("6 suppositories", "6", "EA"),
        ("5 patches", "5", "EA"),
    ],
)
def test_a_net_content_of_a_number_and_a_word_is_a_pack_size(text: str, quantity: str, uom: str) -> None:
    size = pack_size_of(text)
    assert size is not None
    assert (size.quantity, size.uom) == (Decimal(quantity), uom)


@pytest.mark.parametrize(
    "text", ["", "tablets", "30", "2 x 15 tablets", "30 somethings", "0 tablets", "30 tablets (3 blisters)"]
)
def test_any_other_net_content_is_none(text: str) -> None:
    assert pack_size_of(text) is None


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1.1234567", "1234567890123", "1,5", "NaN", " 1", "1\n"])
def test_refuses_a_quantity_that_is_no_plain_decimal(text: str) -> None:
    with pytest.raises(MedtrailError) as caught:
        parse_quantity(text, field="quantity")
    assert (caught.value.code, caught.value.field) == ("QUANTITY_MALFORMED", "quantity")


def test_refuses_a_unit_that_is_no_code() -> None:
    assert (check_uom(""), check_uom("MLT")) == ("", "MLT")
    with pytest.raises(MedtrailError) as caught:
        check_uom("tablets")
    assert caught.value.code == "UOM_MALFORMED"


def test_where_dispensing_is_not_recorded_nothing_is_said_to_be_on_hand(maker: House, pharmacy: House) -> None:
    kept, held = packs(1, 2)
    stocked(maker, pharmacy, kept, held)

    def state(unit: "Unit", *, recorded: bool) -> int:
        return holding_to_message(pharmacy.held(unit), (), dispensing_recorded=recorded).state

    assert state(kept, recorded=True) != state(kept, recorded=False)
    pharmacy.send_back([held], maker.gln)
    assert state(held, recorded=True) == state(held, recorded=False)
