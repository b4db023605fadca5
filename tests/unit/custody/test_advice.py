"""What partners and the ledger send: in any order, more than once, and forged."""

import hashlib
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from medtrail.codec import (
    decode_advice,
    decode_payload,
    decode_signed_event,
    encode_advice,
    encode_payload,
    encode_signed_event,
)
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import ConflictError, TooLargeError
from medtrail.event import Refusal
from medtrail.exchange import Advice, ReceiptItem
from medtrail.gs1 import Gln, Sgtin
from medtrail.runtime import outbox
from medtrail.trust import Registry
from services.custody import advice, capture, events, events_store, holdings_store, inbound_store, inbox, lot_holds
from services.custody.holding import HoldingState
from services.custody.holds import RETURN_UNVERIFIED, HoldCode
from services.custody.inbound_store import InboundState
from services.custody.units import Unit
from tests.unit.custody.conftest import CASE_GTIN, GTIN, LOT, START, packs, sscc

if TYPE_CHECKING:
    from tests.unit.custody.conftest import House

CASE = Sgtin(CASE_GTIN, "110")
PALLET = sscc(1)


def shipped(maker: "House", to: "House") -> str:
    maker.commission(packs(1, 2))
    maker.commission([CASE])
    maker.pack(CASE, packs(1, 2))
    maker.pack(PALLET, [CASE])
    return maker.ship([PALLET], to.gln)[0].event_id


def whole(maker: "House") -> Advice:
    (data,) = [data for _, _, data in maker.messages()]
    return decode_advice(data)


def in_parts(message: Advice) -> list[bytes]:
    """The same advice with one event a part."""
    count = len(message.signed_events)
    return [
        encode_advice(Advice(message.despatch_event_id, number, count, (event,)))
        for number, event in enumerate(message.signed_events)
    ]


def inbound(house: "House", despatch_id: str) -> inbound_store.InboundShipment:
    found = house.read(lambda c: inbound_store.find(c, despatch_id))
    assert found is not None
    return found


def test_parts_come_in_any_order_and_more_than_once(maker: "House", distributor: "House") -> None:
    despatch_id = shipped(maker, distributor)
    parts = in_parts(whole(maker))
    assert len(parts) == 5
    for data in (*reversed(parts[1:]), parts[3]):
        distributor.hear(data, sender=maker.gln)
        assert distributor.all_holdings() == {}
        assert distributor.read(inbound_store.list_incomplete) == [(maker.gln, despatch_id)]
    distributor.hear(parts[0], sender=maker.gln)
    before = distributor.all_holdings()
    assert {held.state for held in before.values()} == {HoldingState.INBOUND}
    for data in parts:
        distributor.hear(data, sender=maker.gln)
    assert distributor.all_holdings() == before
    assert distributor.read(inbound_store.list_incomplete) == []
    assert (inbound(distributor, despatch_id).unit_count, inbound(distributor, despatch_id).provisional) == (2, True)


def forged(message: Advice, spoil: str) -> bytes:
    """The advice with its despatch spoiled."""
    events = list(message.signed_events)
    signed = decode_signed_event(events[-1])
    if spoil == "payload":
        signed = replace(signed, payload=signed.payload[:-1] + bytes([signed.payload[-1] ^ 1]))
    elif spoil == "signature":
        flipped = bytes([signed.signatures[0].signature[0] ^ 1]) + signed.signatures[0].signature[1:]
        signed = replace(signed, signatures=(replace(signed.signatures[0], signature=flipped),))
    events[-1] = encode_signed_event(signed)
    return encode_advice(replace(message, signed_events=tuple(events)))


@pytest.mark.parametrize("spoil", ["payload", "signature"])
def test_refuses_a_forged_despatch(maker: "House", distributor: "House", spoil: str) -> None:
    shipped(maker, distributor)
    distributor.hear(forged(whole(maker), spoil), sender=maker.gln)
    assert distributor.all_holdings() == {}
    assert distributor.read(inbound_store.list_incomplete) == []


def test_refuses_a_despatch_by_another_than_the_sender_of_the_goods(
    maker: "House", distributor: "House", pharmacy: "House"
) -> None:
    # The distributor signs the maker's despatch as its own.
    shipped(maker, pharmacy)
    message = whole(maker)
    payload = decode_signed_event(message.signed_events[-1])
    stolen = encode_signed_event(sign(payload.payload_type, payload.payload, distributor.desk.key))
    pharmacy.hear(
        encode_advice(replace(message, signed_events=(*message.signed_events[:-1], stolen))), sender=distributor.gln
    )
    assert pharmacy.all_holdings() == {}


def test_refuses_a_despatch_to_somebody_else(maker: "House", distributor: "House", pharmacy: "House") -> None:
    shipped(maker, distributor)
    pharmacy.hear(encode_advice(whole(maker)), sender=maker.gln)
    assert pharmacy.all_holdings() == {}


def test_a_commissioning_by_another_than_the_owner_tells_nothing(
    maker: "House", distributor: "House", pharmacy: "House"
) -> None:
    shipped(maker, pharmacy)
    message = whole(maker)
    first = decode_signed_event(message.signed_events[0])
    other = encode_signed_event(sign(first.payload_type, first.payload, distributor.desk.key))
    pharmacy.hear(encode_advice(replace(message, signed_events=(other, *message.signed_events[1:]))), sender=maker.gln)
    assert pharmacy.held(packs(1)[0]).lot == ""


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
def test_an_event_with_a_number_that_no_book_holds_tells_nothing(
    maker: "House", distributor: "House", number: int
) -> None:
    shipped(maker, distributor)
    message = whole(maker)
    first = decode_signed_event(message.signed_events[0])
    event = decode_payload(first.payload_type, first.payload)
    large = replace(event, header=replace(event.header, source_seq=number))
    other = encode_signed_event(sign(first.payload_type, encode_payload(large), maker.desk.key))
    distributor.hear(
        encode_advice(replace(message, signed_events=(other, *message.signed_events[1:]))), sender=maker.gln
    )
    assert len(distributor.all_holdings()) == 4
    assert distributor.held(packs(1)[0]).lot == ""


def test_an_advice_waits_for_its_signers_enrolment(maker: "House", distributor: "House", registry: Registry) -> None:
    despatch_id = shipped(maker, distributor)
    distributor.registry = Registry(authority_key_id=registry.authority_key_id)
    distributor.hear(encode_advice(whole(maker)), sender=maker.gln)
    assert distributor.all_holdings() == {}
    distributor.registry = registry

    def complete() -> bool:
        return distributor.database.write_now(
            lambda c: inbox.complete_advice(c, distributor.desk, sender=maker.gln, despatch_id=despatch_id)
        )

    assert complete()
    assert not complete()
    assert len(distributor.all_holdings()) == 4


def receive_by_file(house: "House", unit: Unit) -> None:
    """An ERP's file says that a unit was received, of which nobody has told yet."""
    statement = events.receiving([unit], house.occasion(), None)
    house.write(lambda s: capture.capture(s, [statement], second_hand=False), (unit,))


def lot_on_hold(house: "House") -> str:
    made = house.write(
        lambda s: lot_holds.add(s.connection, gtin=GTIN, lot=LOT, code=HoldCode.QUALITY, reason="assay", now=s.now)
    )
    return made.line


def test_goods_that_came_before_their_data_keep_what_holds_them(maker: "House", distributor: "House") -> None:
    (pack,) = packs(1)
    maker.commission([pack])
    maker.ship([pack], distributor.gln)
    line = lot_on_hold(distributor)
    receive_by_file(distributor, pack)
    distributor.hold([pack])
    distributor.write(
        lambda s: holdings_store.mark(s.connection, [pack.path], suspect="case-7", remainder="3", remainder_uom="EA")
    )
    # Nobody knows its lot yet.
    assert (distributor.held(pack).exception, distributor.held(pack).hold_reason) == ("UNADVISED", "leaking")
    maker.send_to(distributor)

    held = distributor.held(pack)
    assert (held.state, held.suspect) == (HoldingState.ON_HAND, "case-7")
    assert (held.remainder, held.remainder_uom) == (Decimal(3), "EA")
    assert held.hold_reason.splitlines() == ["leaking", line]
    said = distributor.events()[-1].statement
    assert isinstance(said, EpcisEvent)
    assert (said.biz_step, said.epc_list) == ("holding", (pack.digital_link,))


def test_goods_that_came_before_their_data_are_held_whoever_passes_the_data_on(
    maker: "House", distributor: "House"
) -> None:
    (pack,) = packs(1)
    maker.commission([pack])
    maker.ship([pack], distributor.gln)
    line = lot_on_hold(distributor)
    receive_by_file(distributor, pack)
    told = [event.statement for event in maker.events() if isinstance(event.statement, EpcisEvent)]
    distributor.write(lambda s: capture.capture(s, told, second_hand=True), (pack,))

    assert (distributor.held(pack).state, distributor.held(pack).hold_reason) == (HoldingState.ON_HAND, line)


def test_a_return_that_came_before_its_data_waits_to_be_verified(
    maker: "House", distributor: "House", pharmacy: "House"
) -> None:
    (pack,) = packs(1)
    maker.commission([pack])
    for sender, receiver in ((maker, distributor), (distributor, pharmacy)):
        sender.ship([pack], receiver.gln)
        sender.send_to(receiver)
        receiver.confirm_all()
        receiver.receive([pack])
    pharmacy.send_back([pack], distributor.gln)
    receive_by_file(distributor, pack)
    pharmacy.send_to(distributor)

    held = distributor.held(pack)
    assert (held.state, held.hold_reason) == (HoldingState.ON_HAND, RETURN_UNVERIFIED)


def test_suspect_product_on_its_way_back_is_suspect_still(maker: "House", distributor: "House") -> None:
    (pack,) = packs(1)
    maker.commission([pack])
    maker.ship([pack], distributor.gln)
    maker.write(lambda s: holdings_store.mark(s.connection, [pack.path], suspect="case-7"))
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive([pack])
    distributor.send_back([pack], maker.gln)
    distributor.send_to(maker)

    assert (maker.held(pack).state, maker.held(pack).suspect) == (HoldingState.INBOUND, "case-7")


def test_refuses_an_advice_of_too_many_parts(maker: "House", distributor: "House") -> None:
    with pytest.raises(TooLargeError) as caught:
        distributor.hear(encode_advice(Advice("urn:x:1", 0, inbox.MAX_PARTS_PER_ADVICE + 1, ())), sender=maker.gln)
    assert caught.value.code == "ADVICE_TOO_LARGE"


def test_parts_stay_within_half_a_mebibyte() -> None:
    events = [bytes([number]) * 200_000 for number in range(7)]
    parts = advice.split_advice("urn:x:1", events)
    assert [event for part in parts for event in part.signed_events] == events
    assert [(part.part, part.part_count) for part in parts] == [(number, 4) for number in range(4)]
    assert all(len(encode_advice(part)) <= 512 * 1024 for part in parts)


def test_goods_travel_with_their_whole_history(maker: "House", distributor: "House", pharmacy: "House") -> None:
    maker.commission(packs(1, 2, 3))
    maker.pack(PALLET, packs(1, 2))
    maker.ship([PALLET], distributor.gln)
    maker.send_to(distributor)
    distributor.receive([PALLET])
    distributor.confirm_all()
    distributor.unpack(PALLET, packs(1))
    tote = sscc(2)
    distributor.pack(tote, packs(1))
    distributor.ship([PALLET], maker.gln)
    distributor.ship([tote], pharmacy.gln)
    (data,) = [data for to, _, data in distributor.messages() if to == pharmacy.gln]
    told = [decode_signed_event(event) for event in decode_advice(data).signed_events]
    # Commissioning, packing, shipping and receiving of the pallet while the pack was inside, unpacking, packing,
    # despatch: but not where the pallet went without it.
    assert len(told) == 7
    pharmacy.hear(data, sender=distributor.gln)
    assert pharmacy.held(packs(1)[0]).lot == "A123"
    assert pharmacy.held(packs(1)[0]).parent == tote
    assert pharmacy.holding(packs(2)[0]) is None


def test_a_receipt_alone_confirms_no_partners_despatch(maker: "House", distributor: "House") -> None:
    despatch_id = shipped(maker, distributor)
    maker.send_to(distributor)
    distributor.receive([PALLET])
    sha256 = hashlib.sha256(whole(maker).signed_events[-1]).digest()
    # Its list is not signed, and of a partner's event nobody here proves it afterwards.
    distributor.database.write_now(lambda c: inbox.note_logged(c, [ReceiptItem(despatch_id, sha256, 7)]))
    assert distributor.read(inbound_store.provisional_despatches) == [despatch_id]
    assert all(held.provisional for held in distributor.all_holdings().values())


def test_a_confirmed_despatch_is_provisional_no_more(maker: "House", distributor: "House") -> None:
    despatch_id = shipped(maker, distributor)
    maker.send_to(distributor)
    distributor.receive([PALLET])
    for _ in range(2):
        distributor.database.write_now(lambda c: inbox.confirm_despatch(c, despatch_id))
    assert not any(held.provisional for held in distributor.all_holdings().values())
    shipment = inbound(distributor, despatch_id)
    assert (shipment.provisional, shipment.state) == (False, InboundState.RECEIVED)
    assert distributor.read(inbound_store.provisional_despatches) == []


def refusal(sha256: bytes, code: str = "ROLE_FORBIDS") -> Refusal:
    return Refusal(sha256, "urn:x:1", code, "", "because", 1, START)


def refuse(house: "House", stated: Refusal) -> None:
    def take(connection: object) -> None:
        outbox.mark_refused(connection, stated.signed_event_sha256, code=stated.code)  # type: ignore[arg-type]
        inbox.take_refusal(connection, house.desk, stated)  # type: ignore[arg-type]

    house.database.write_now(take)


def test_a_refused_event_of_ours_is_taken_back(maker: "House") -> None:
    maker.commission(packs(1, 2))
    made = maker.hold(packs(1))
    refuse(maker, refusal(made[0].signed_event_sha256))
    assert maker.held(packs(1)[0]).hold_reason == ""
    assert maker.pending() == 1
    # Refused again it stays as it is, and the same thing can be said anew.
    refuse(maker, refusal(made[0].signed_event_sha256))
    maker.hold(packs(1))
    assert maker.held(packs(1)[0]).hold_reason == "leaking"


def test_goods_that_moved_on_since_a_refused_event_are_put_aside(maker: "House") -> None:
    made = maker.commission(packs(1, 2))
    maker.hold(packs(1))
    refuse(maker, refusal(made[0].signed_event_sha256, "EVENT_ID_CONFLICT"))
    held = maker.held(packs(1)[0])
    assert (held.state, held.exception) == (HoldingState.EXCEPTION, "EVENT_ID_CONFLICT")
    assert maker.holding(packs(2)[0]) is None


def test_the_same_content_can_be_said_anew_after_a_refusal(maker: "House") -> None:
    from services.custody import commands
    from tests.unit.custody.conftest import named

    maker.commission(packs(1))
    occasion = maker.occasion()

    def say() -> bytes:
        made = maker.write(lambda s: commands.hold(s, named(packs(1)), occasion, reason="x"), packs(1))
        assert not made[0].resend
        return made[0].signed_event_sha256

    first = say()
    refuse(maker, refusal(first))
    assert say() != first
    assert maker.pending() == 2


def test_a_refused_despatch_puts_the_receivers_goods_aside(maker: "House", distributor: "House") -> None:
    despatch_id = shipped(maker, distributor)
    maker.send_to(distributor)
    distributor.receive([PALLET])
    stored = distributor.read(lambda c: events_store.find_by_id(c, despatch_id))[0]
    refuse(distributor, refusal(stored.sha256, "KEY_REVOKED"))
    assert {held.state for held in distributor.all_holdings().values()} == {HoldingState.EXCEPTION}
    assert inbound(distributor, despatch_id).state is InboundState.REFUSED
    with pytest.raises(ConflictError):
        distributor.ship([PALLET], maker.gln)


def test_a_refusal_may_come_before_the_advice(maker: "House", distributor: "House") -> None:
    shipped(maker, distributor)
    refuse(distributor, refusal(hashlib.sha256(whole(maker).signed_events[-1]).digest()))
    maker.send_to(distributor)
    assert distributor.all_holdings() == {}


def test_an_event_refused_for_its_key_is_signed_anew(maker: "House") -> None:
    made = maker.commission(packs(1))
    new_key = SigningKey.generate()
    maker.desk = replace(maker.desk, key=new_key)
    refuse(maker, refusal(made[0].signed_event_sha256, "KEY_RETIRED"))
    assert maker.held(packs(1)[0]).state is HoldingState.ON_HAND
    (item,) = maker.read(lambda c: outbox.next_batch(c, after=0))
    assert decode_signed_event(item.data).signatures[0].key_id == new_key.key_id
    # With no other key there is nothing to sign with: the books go back.
    refuse(maker, refusal(item.sha256, "KEY_RETIRED"))
    assert maker.holding(packs(1)[0]) is None


def test_a_receipt_of_what_is_not_known_here_changes_nothing(maker: "House") -> None:
    maker.database.write_now(lambda c: inbox.note_logged(c, [ReceiptItem("urn:x:1", bytes(32), 1)]))
    assert Gln(str(maker.gln)) == maker.gln


def test_refuses_a_despatch_that_goes_by_anothers_hash(maker: "House", distributor: "House") -> None:
    from medtrail.codec import decode_payload, encode_payload
    from medtrail.epcis.model import EpcisEvent

    shipped(maker, distributor)
    message = whole(maker)
    signed = decode_signed_event(message.signed_events[-1])
    event = decode_payload(signed.payload_type, signed.payload)
    assert isinstance(event.statement, EpcisEvent)
    other = replace(event, statement=replace(event.statement, event_time=START))
    forged_bytes = encode_signed_event(sign(signed.payload_type, encode_payload(other), maker.desk.key))
    distributor.hear(
        encode_advice(replace(message, signed_events=(*message.signed_events[:-1], forged_bytes))), sender=maker.gln
    )
    assert distributor.all_holdings() == {}


def test_a_packing_declared_an_error_does_not_count(maker: "House", distributor: "House") -> None:
    from medtrail.epcis.model import EpcisEvent, ErrorDeclaration
    from services.custody import capture

    maker.commission(packs(1, 2))
    maker.pack(PALLET, packs(1))
    made = maker.pack(PALLET, packs(2))
    wrong = maker.events()[-1].statement
    assert isinstance(wrong, EpcisEvent)
    declared = replace(wrong, event_id=made[0].event_id, error_declaration=ErrorDeclaration(maker.clock()))
    units = tuple(capture.units_of_chunk([declared]))
    maker.write(lambda s: capture.capture(s, [declared], second_hand=False), units)
    assert maker.held(packs(2)[0]).parent is None
    maker.ship([PALLET], distributor.gln)
    maker.send_to(distributor)
    assert distributor.holding(packs(2)[0]) is None
    assert distributor.held(packs(1)[0]).state is HoldingState.INBOUND


def test_a_container_outlives_the_error_that_made_it_while_it_holds_goods(maker: "House") -> None:
    maker.commission(packs(1, 2))
    made = maker.pack(PALLET, packs(1))
    maker.pack(PALLET, packs(2))
    refuse(maker, refusal(made[0].signed_event_sha256))
    assert maker.held(packs(1)[0]).parent is None
    assert maker.held(packs(2)[0]).parent == PALLET
    maker.unpack(PALLET)
    assert maker.held(packs(2)[0]).parent is None
