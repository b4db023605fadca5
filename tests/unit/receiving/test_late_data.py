"""Data that come late, in whatever order: goods before their advice, corrections, refusals, the maker's data."""

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtrail.codec import decode_advice, encode_advice, encode_payload, encode_signed_event
from medtrail.document import Document
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.cbv import ilmd_lot_expiry
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import BizTransaction, EpcisEvent, ErrorDeclaration
from medtrail.event import Event, Header, Refusal, new_salt
from medtrail.exchange import Advice
from services.custody import capture, events, events_store, inbox
from services.custody.events import Route
from services.custody.exceptions.case import CaseResolution
from services.custody.holding import HoldingState
from services.custody.inbound_store import InboundState
from services.custody.receiving import settle
from services.custody.receiving.codes import Posting, ResultCode
from services.custody.rules import UNADVISED
from tests.unit.custody.conftest import EXPIRY, LOT, START, Clock, House, packs
from tests.unit.receiving.conftest import (
    Bay,
    biz_steps,
    case_codes,
    case_of,
    case_units,
    cases,
    inbound,
    packs_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from medtrail.gs1 import Sgtin
    from medtrail.trust import Registry
    from services.custody.units import Unit
    from tests.conftest import Network

M = ResultCode


def make_cases(maker: House, count: int, *, each: int = 2) -> "list[Sgtin]":
    boxes = [case_of(number) for number in range(1, count + 1)]
    for box in boxes:
        maker.commission(packs_of(box, each=each))
        maker.commission([box])
        maker.pack(box, packs_of(box, each=each))
    return boxes


def declare(house: House, event_id: str) -> None:
    """Say that an event of one's own was an error."""
    (found,) = [event for event in house.events() if event.header.event_id == event_id and not event.is_declaration]
    statement = found.statement
    assert isinstance(statement, EpcisEvent)
    declared = replace(statement, event_id=event_id, error_declaration=ErrorDeclaration(house.clock()))
    units = tuple(capture.units_of_chunk([declared]))
    house.write(lambda s: capture.capture(s, [declared], second_hand=False), units)


def refuse(house: House, despatch_id: str, code: str = "KEY_REVOKED") -> None:
    (stored,) = house.read(lambda c: events_store.find_by_id(c, despatch_id))
    refusal = Refusal(stored.sha256, despatch_id, code, "", "because", 1, START)
    house.database.write_now(lambda c: inbox.take_refusal(c, house.desk, refusal))


# --- the classic ---


def test_sixteen_cases_arrive_with_data_for_fifteen(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 16)
    despatch_id = maker.ship(boxes[:15], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    codes = bay.scan_all(boxes)
    assert codes == [M.MATCH] * 15 + [M.OVER]
    bay.close()
    good = [unit for box in boxes[:15] for unit in packs_of(box, each=2)]
    assert {pharmacy.held(unit).state for unit in good} == {HoldingState.ON_HAND}
    assert pharmacy.held(boxes[15]).exception == UNADVISED
    pharmacy.confirm_all()
    pharmacy.ship([boxes[0]], maker.gln)
    assert case_units(pharmacy, "OVERAGE") == {boxes[15].path}
    # The sender finds what it forgot to say, and says it: nobody scans again.
    later = maker.ship([boxes[15]], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    assert cases(pharmacy) == []
    (case,) = cases(pharmacy, resolved=True)
    assert case.resolution is not None
    assert case.resolution.value == "corrected_data"
    assert {pharmacy.held(unit).state for unit in (boxes[15], *packs_of(boxes[15], each=2))} == {HoldingState.ON_HAND}
    assert pharmacy.held(packs_of(boxes[15], each=2)[0]).inferred
    assert bay.line(boxes[15]).posting is Posting.RECEIVED_LATER
    assert inbound(pharmacy, later).state is InboundState.RECEIVED
    assert biz_steps(pharmacy)[-1] == ("receiving", 1)


def test_a_declared_despatch_and_its_correction_settle_what_was_over(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 3)
    wrong = maker.ship(boxes[:2], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, wrong)
    bay.scan_all(boxes)
    bay.close()
    assert case_codes(pharmacy) == ["OVERAGE"]
    declare(maker, wrong)
    right = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    assert inbound(pharmacy, wrong).state is InboundState.WITHDRAWN
    assert inbound(pharmacy, right).state is InboundState.RECEIVED
    assert {pharmacy.held(box).despatch_id for box in boxes} == {right}
    assert {pharmacy.held(box).state for box in boxes} == {HoldingState.ON_HAND}
    assert cases(pharmacy) == []


def test_a_declared_despatch_without_correction_is_awaited_no_more(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 2)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    declare(maker, wrong)
    maker.send_to(pharmacy)
    assert inbound(pharmacy, wrong).state is InboundState.WITHDRAWN
    assert {pharmacy.holding(unit) for box in boxes for unit in (box, *packs_of(box, each=2))} == {None}
    assert cases(pharmacy) == []
    # The same told again, in any order, changes nothing.
    waiting = maker.messages()
    for _, _, data in reversed(waiting):
        pharmacy.hear(data, sender=maker.gln)
    assert inbound(pharmacy, wrong).state is InboundState.WITHDRAWN
    assert pharmacy.holding(boxes[0]) is None


def test_a_despatch_that_is_known_to_be_an_error_is_not_awaited_when_its_advice_comes(
    maker: House, pharmacy: House
) -> None:
    boxes = make_cases(maker, 1)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    declare(maker, wrong)
    first, *_, last = [data for _, _, data in maker.messages()]
    for data in (last, first):
        pharmacy.hear(data, sender=maker.gln)
    assert pharmacy.holding(boxes[0]) is None


def test_what_was_received_of_a_declared_despatch_is_put_aside(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 1)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    bay = Bay.open(pharmacy, wrong)
    bay.scan_all(boxes)
    bay.close()
    declare(maker, wrong)
    maker.send_to(pharmacy)
    assert pharmacy.held(boxes[0]).state is HoldingState.EXCEPTION
    assert case_codes(pharmacy) == ["DESPATCH_REFUSED"]


def test_what_an_undo_brings_back_of_a_refused_despatch_is_put_aside_and_waits(maker: House, pharmacy: House) -> None:
    held, gone, away, came = units = packs(1, 2, 3, 4)
    maker.commission(units)
    wrong = maker.ship(units, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units[:3])
    pharmacy.receive([came])
    pharmacy.hold([held])
    pharmacy.dispense([gone])
    pharmacy.ship([away], maker.gln)
    refuse(pharmacy, wrong)
    for unit in units:
        declare(pharmacy, pharmacy.held(unit).event_id)
    assert {(pharmacy.held(unit).state, pharmacy.held(unit).exception) for unit in units[:3]} == {
        (HoldingState.EXCEPTION, "KEY_REVOKED")
    }
    assert pharmacy.holding(came) is None
    assert case_units(pharmacy, "DESPATCH_REFUSED") >= {gone.path, away.path}
    declare(maker, wrong)
    right = maker.ship(units, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    assert {(pharmacy.held(unit).state, pharmacy.held(unit).despatch_id) for unit in units[:3]} == {
        (HoldingState.ON_HAND, right)
    }
    assert pharmacy.held(came).state is HoldingState.INBOUND


def test_what_an_undo_brings_back_of_a_withdrawn_despatch_is_put_aside(maker: House, pharmacy: House) -> None:
    known, held, gone, away = units = packs(1, 2, 3, 4)
    maker.commission(units)
    wrong = maker.ship(units, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units)
    pharmacy.hold([held])
    pharmacy.dispense([gone])
    pharmacy.ship([away], maker.gln)
    sent = pharmacy.events()[-1].statement
    declare(maker, wrong)
    maker.ship([known], pharmacy.gln)
    maker.send_to(pharmacy)
    assert pharmacy.held(held).exception == "DECLARED_ERROR"
    assert isinstance(sent, EpcisEvent)
    voided = replace(sent, biz_step="void_shipping", event_time=pharmacy.clock())
    pharmacy.write(lambda s: capture.capture(s, [voided], second_hand=False), [away])
    assert (pharmacy.held(away).state, pharmacy.held(away).exception) == (HoldingState.EXCEPTION, "DECLARED_ERROR")
    for unit in (held, gone):
        declare(pharmacy, pharmacy.held(unit).event_id)
        assert (pharmacy.held(unit).state, pharmacy.held(unit).exception) == (
            HoldingState.EXCEPTION,
            "DECLARED_ERROR",
        )
    pharmacy.database.write_now(lambda c: settle.settle_all(c, pharmacy.desk))
    assert pharmacy.held(held).state is HoldingState.EXCEPTION
    assert pharmacy.held(known).state is HoldingState.ON_HAND


def test_data_that_came_meanwhile_stay_when_an_event_is_taken_back(maker: House, pharmacy: House) -> None:
    units = packs(1)
    maker.commission(units)
    despatch_id = maker.ship(units, pharmacy.gln)[0].event_id
    bay = Bay.open(pharmacy)
    bay.scan(units[0], lot="OTHER")
    bay.close()
    pharmacy.hold(units)
    maker.send_to(pharmacy)
    declare(pharmacy, pharmacy.held(units[0]).event_id)
    found = pharmacy.held(units[0])
    assert (found.exception, found.despatch_id, found.lot, found.hold_reason) == ("LOT_MISMATCH", despatch_id, LOT, "")


def test_a_correction_that_leaves_out_what_was_missing_ends_its_case(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 3)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, wrong)
    bay.scan_all(boxes[:2])
    bay.close()
    assert case_codes(pharmacy) == ["SHORTAGE"]
    declare(maker, wrong)
    maker.ship(boxes[:2], pharmacy.gln)
    maker.send_to(pharmacy)
    assert cases(pharmacy) == []
    assert pharmacy.holding(boxes[2]) is None
    assert bay.line(packs_of(boxes[2], each=2)[0]).posting is Posting.WITHDRAWN
    assert bay.counts().missing == 0


def test_a_correction_while_the_delivery_is_open_is_scanned_against(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 3)
    wrong = maker.ship(boxes[:2], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, wrong)
    bay.scan_all([boxes[0], boxes[2]])
    declare(maker, wrong)
    right = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    assert bay.despatches() == [right]
    counts = bay.counts()
    assert (counts.expected, counts.found, counts.excepted) == (6, 4, 0)
    bay.scan(boxes[1])
    assert bay.close().case_ids == []


# --- goods before data ---


def test_a_blind_delivery_that_is_open_when_the_advice_comes_matches(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 2)
    despatch_id = maker.ship(boxes, pharmacy.gln)[0].event_id
    bay = Bay.open(pharmacy)
    loose = packs_of(boxes[1], each=2)
    assert bay.scan_all([boxes[0], *loose]) == [M.OVER] * 3
    maker.send_to(pharmacy)
    assert bay.despatches() == [despatch_id]
    assert (bay.counts().found, bay.counts().excepted) == (4, 0)
    assert bay.close().case_ids == []
    assert biz_steps(pharmacy) == [("unpacking", 2), ("receiving", 3)]


def test_goods_that_arrived_before_their_advice_are_received_when_it_comes(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 2)
    despatch_id = maker.ship(boxes, pharmacy.gln)[0].event_id
    bay = Bay.open(pharmacy)
    bay.scan_all(boxes)
    bay.close()
    assert biz_steps(pharmacy) == [("arriving", 2)]
    assert case_codes(pharmacy) == ["OVERAGE"]
    maker.send_to(pharmacy)
    assert biz_steps(pharmacy) == [("arriving", 2), ("receiving", 2)]
    assert inbound(pharmacy, despatch_id).state is InboundState.RECEIVED
    assert cases(pharmacy) == []
    # Not saleable before the ledger's word on the despatch either.
    assert pharmacy.held(boxes[0]).provisional
    assert len([event for event in pharmacy.events() if getattr(event.statement, "kind", None) == "recadv"]) == 1


def test_goods_before_their_advice_are_received_whatever_documents_it_names(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 1)
    wrong = BizTransaction("urn:epcglobal:cbv:bt:4012345000000:PO1", "po")
    many = [events.document("po", f"P{number}", issuer=pharmacy.gln) for number in range(101)]
    despatch_id = maker.ship(boxes, pharmacy.gln, [wrong, *many])[0].event_id
    pharmacy.receive(boxes)
    maker.send_to(pharmacy)
    assert inbound(pharmacy, despatch_id).state is InboundState.RECEIVED
    (said,) = [event.statement for event in pharmacy.events() if isinstance(event.statement, Document)]
    assert len(said.references) == 100


def test_the_simple_verb_is_settled_by_the_advice_too(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 1)
    maker.ship(boxes, pharmacy.gln)
    pharmacy.receive(boxes)
    maker.send_to(pharmacy)
    assert biz_steps(pharmacy) == [("arriving", 1), ("receiving", 1)]
    assert pharmacy.held(packs_of(boxes[0], each=2)[0]).state is HoldingState.ON_HAND


def test_a_pack_that_came_alone_is_taken_out_of_its_case_when_its_data_come(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 1)
    maker.ship(boxes, pharmacy.gln)
    pack = packs_of(boxes[0], each=2)[0]
    pharmacy.receive([pack])
    maker.send_to(pharmacy)
    assert biz_steps(pharmacy) == [("arriving", 1), ("unpacking", 1), ("receiving", 1)]
    assert (pharmacy.held(pack).state, pharmacy.held(pack).parent) == (HoldingState.ON_HAND, None)
    assert pharmacy.held(boxes[0]).state is HoldingState.INBOUND


def test_data_that_do_not_fit_the_label_keep_the_pack_aside_under_another_case(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    bay = Bay.open(pharmacy)
    bay.scan(units[0], lot="OTHER")
    bay.scan(units[1])
    bay.close()
    assert case_codes(pharmacy) == ["OVERAGE"]
    maker.send_to(pharmacy)
    assert pharmacy.held(units[0]).exception == "LOT_MISMATCH"
    assert pharmacy.held(units[1]).state is HoldingState.ON_HAND
    assert case_units(pharmacy, "LOT_MISMATCH") == {units[0].path}
    assert case_codes(pharmacy) == ["LOT_MISMATCH"]
    # Once is enough: nothing more happens while nothing more is known.
    before = len(pharmacy.events())
    pharmacy.database.write_now(lambda c: settle.settle_all(c, pharmacy.desk))
    assert len(pharmacy.events()) == before


def test_data_that_fit_none_of_many_labels_make_one_case_of_them(maker: House, pharmacy: House) -> None:
    units = packs(*range(1, 9))
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    bay = Bay.open(pharmacy)
    for unit in units[:6]:
        bay.scan(unit, lot="OTHER")
    bay.scan_all(units[6:])
    bay.close()
    maker.send_to(pharmacy)
    (case,) = cases(pharmacy)
    assert (case.code, case.unit_count) == ("LOT_MISMATCH", 6)
    assert {bay.line(unit).case_id for unit in units[:6]} == {case.case_id}
    assert {item.code.value for item in cases(pharmacy, resolved=True)} == {"LOT_MISMATCH", "OVERAGE"}


def test_what_was_sent_back_meanwhile_waits_no_more(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 1)
    maker.ship(boxes, pharmacy.gln)
    pharmacy.receive(boxes)
    pharmacy.send_back(boxes, maker.gln)
    maker.send_to(pharmacy)
    assert [step for step, _ in biz_steps(pharmacy)].count("receiving") == 0


def test_data_that_come_in_a_file_settle_what_is_here(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 1)
    maker.ship(boxes, pharmacy.gln)
    pharmacy.receive(boxes)
    said = [event.statement for event in maker.events() if isinstance(event.statement, EpcisEvent)]
    units = tuple(capture.units_of_chunk(said))
    pharmacy.write(lambda s: capture.capture(s, said, second_hand=True), units)
    assert {pharmacy.held(unit).state for unit in (boxes[0], *packs_of(boxes[0], each=2))} == {HoldingState.ON_HAND}
    assert biz_steps(pharmacy)[-1] == ("receiving", 1)


def test_a_corrected_commissioning_in_a_file_settles_a_mismatch(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    wrong = maker.commission(units, lot="TYPO")[0].event_id
    maker.ship(units, pharmacy.gln)
    said = [event.statement for event in maker.events() if isinstance(event.statement, EpcisEvent)]
    named = tuple(capture.units_of_chunk(said))
    pharmacy.write(lambda s: capture.capture(s, said, second_hand=True), named)
    bay = Bay.open(pharmacy)
    assert bay.scan_all(units) == [M.WRONG_LOT] * 2
    bay.close()
    right = replace(said[0], ilmd=ilmd_lot_expiry(LOT, EXPIRY))
    declared = replace(said[0], event_id=wrong, error_declaration=ErrorDeclaration(maker.clock()))
    pharmacy.write(lambda s: capture.capture(s, [declared, right], second_hand=True), units)
    assert {pharmacy.held(unit).state for unit in units} == {HoldingState.ON_HAND}
    assert cases(pharmacy) == []


# --- the maker's data ---


def test_the_makers_corrected_lot_lets_the_pack_be_received(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    wrong = maker.commission(units, lot="TYPO")[0].event_id
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy)
    assert bay.scan_all(units) == [M.WRONG_LOT] * 2
    bay.close()
    assert case_codes(pharmacy) == ["LOT_MISMATCH"]
    # What the maker says anew reaches us with its next despatch.
    (first,) = [event for event in maker.events() if event.header.event_id == wrong]
    statement = first.statement
    assert isinstance(statement, EpcisEvent)
    more = packs("more")
    maker.commission(more)
    extra = maker.ship(more, pharmacy.gln)[0].event_id
    right = corrected(maker, statement, event_id=wrong)
    deliver_with(maker, pharmacy, extra, right)
    assert {pharmacy.held(unit).state for unit in units} == {HoldingState.ON_HAND}
    assert {pharmacy.held(unit).lot for unit in units} == {LOT}
    assert cases(pharmacy) == []


def corrected(house: House, statement: EpcisEvent, *, event_id: str) -> list[bytes]:
    """Sign that a commissioning was in error, and what is right: as the maker's log has it, outside of its books."""
    right = replace(statement, ilmd=ilmd_lot_expiry(LOT, EXPIRY))
    wrong = replace(statement, error_declaration=ErrorDeclaration(house.clock()))
    signed = []
    for number, (said, ident) in enumerate(((wrong, event_id), (right, event_hash(right))), 900):
        header = Header(salt=new_salt(), actor=house.gln, source="main", source_seq=number, event_id=ident)
        payload = encode_payload(Event(header, said))
        event = Event(header, said)
        signed.append(encode_signed_event(sign(event.payload_type, payload, house.desk.key)))
    return signed


def deliver_with(maker: House, pharmacy: House, despatch_id: str, more: list[bytes]) -> None:
    """Deliver a despatch's advice with further events in it."""
    found = [decode_advice(data) for to, kind, data in maker.messages() if to == pharmacy.gln and kind == "advice"]
    (message,) = [item for item in found if item.despatch_event_id == despatch_id]
    pharmacy.hear(encode_advice(Advice(despatch_id, 0, 1, (*more, *message.signed_events))), sender=maker.gln)


# --- the ledger's word ---


def test_a_despatch_refused_after_closing_puts_its_goods_aside_until_another_comes(
    maker: House, pharmacy: House
) -> None:
    boxes = make_cases(maker, 2)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, wrong)
    bay.scan(boxes[0])
    bay.close()
    refuse(pharmacy, wrong)
    assert inbound(pharmacy, wrong).state is InboundState.REFUSED
    assert pharmacy.held(boxes[0]).exception == "KEY_REVOKED"
    # What had not arrived is on its way no more, as far as anybody may believe.
    assert pharmacy.holding(boxes[1]) is None
    assert case_codes(pharmacy) == ["DESPATCH_REFUSED"]
    assert case_units(pharmacy, "DESPATCH_REFUSED") == {unit.path for unit in packs_of(boxes[0], each=2)}
    declare(maker, wrong)
    maker.ship(boxes, pharmacy.gln)
    maker.send_to(pharmacy)
    assert {pharmacy.held(unit).state for unit in (boxes[0], *packs_of(boxes[0], each=2))} == {HoldingState.ON_HAND}
    assert pharmacy.held(boxes[1]).state is HoldingState.INBOUND
    assert cases(pharmacy) == []


def test_goods_received_without_a_delivery_close_their_case_when_the_last_of_them_has_data(
    maker: House, pharmacy: House
) -> None:
    boxes = make_cases(maker, 2)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    pharmacy.receive(boxes)
    refuse(pharmacy, wrong)
    assert case_codes(pharmacy) == ["DESPATCH_REFUSED"]
    declare(maker, wrong)
    maker.ship(boxes[:1], pharmacy.gln)
    maker.send_to(pharmacy)
    assert pharmacy.held(boxes[0]).state is HoldingState.ON_HAND
    assert case_codes(pharmacy) == ["DESPATCH_REFUSED"]
    maker.ship(boxes[1:], pharmacy.gln)
    maker.send_to(pharmacy)
    assert pharmacy.held(boxes[1]).state is HoldingState.ON_HAND
    assert cases(pharmacy) == []
    (case,) = cases(pharmacy, resolved=True)
    assert (case.resolution, case.despatch_id) == (CaseResolution.CORRECTED_DATA, wrong)


def test_an_opened_pack_stays_opened_when_its_despatch_is_sent_anew(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    maker.commission(units)
    wrong = maker.ship(units, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units)
    pharmacy.dispense(units[:1], partial=True)
    refuse(pharmacy, wrong)
    assert {pharmacy.held(unit).state for unit in units} == {HoldingState.EXCEPTION}
    declare(maker, wrong)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    opened, whole = map(pharmacy.held, units)
    assert (opened.state, whole.state) == (HoldingState.PARTIALLY_DISPENSED, HoldingState.ON_HAND)


def test_a_despatch_refused_while_it_is_scanned_leaves_its_goods_without_data(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 2)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, wrong)
    bay.scan(boxes[0])
    refuse(pharmacy, wrong)
    assert bay.counts().by_result == {M.OVER: 1}
    bay.close()
    assert case_units(pharmacy, "OVERAGE") == {boxes[0].path}


def test_no_despatch_that_its_sender_has_taken_back_is_taken_in(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 2)
    wrong = maker.ship(boxes, pharmacy.gln)[0].event_id
    early = [data for to, kind, data in maker.messages() if to == pharmacy.gln and kind == "advice"]
    declare(maker, wrong)
    right = maker.ship(boxes[:1], pharmacy.gln)[0].event_id
    late = [data for to, kind, data in maker.messages() if to == pharmacy.gln and kind == "advice"]
    for data in reversed(late):
        pharmacy.hear(data, sender=maker.gln)
    assert early[0] in late
    assert pharmacy.held(boxes[0]).despatch_id == right
    assert pharmacy.holding(boxes[1]) is None


def test_an_advice_whose_registry_comes_later_is_settled_then(
    maker: House, pharmacy: House, registry: "Registry"
) -> None:
    from medtrail.trust import Registry

    boxes = make_cases(maker, 1)
    maker.ship(boxes, pharmacy.gln)
    pharmacy.receive(boxes)
    pharmacy.registry = Registry(authority_key_id=registry.authority_key_id)
    assert pharmacy.database.write_now(lambda c: settle.settle_all(c, pharmacy.desk)) == []
    maker.send_to(pharmacy)
    assert pharmacy.held(boxes[0]).state is HoldingState.EXCEPTION
    pharmacy.registry = registry
    maker.send_to(pharmacy)
    assert pharmacy.held(boxes[0]).state is HoldingState.ON_HAND


def test_an_advice_is_kept_where_its_goods_cannot_be_received_yet(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 1)
    despatch_id = maker.ship(boxes, pharmacy.gln)[0].event_id
    pharmacy.receive(boxes)
    desk = pharmacy.desk
    # With a key that nobody has enrolled nothing can be signed.
    pharmacy.desk = replace(desk, key=SigningKey.generate())
    maker.send_to(pharmacy)
    assert inbound(pharmacy, despatch_id).received_count == 0
    assert pharmacy.held(boxes[0]).state is HoldingState.EXCEPTION
    pharmacy.desk = desk
    assert len(pharmacy.database.write_now(lambda c: settle.settle_all(c, desk))) == 1
    assert pharmacy.held(boxes[0]).state is HoldingState.ON_HAND
    assert inbound(pharmacy, despatch_id).received_count == 2


# --- what a despatch names and never brought ---


def sign_for(house: House, *statements: EpcisEvent) -> list[bytes]:
    """Sign events as a house that says more than its books allow."""
    signed = []
    for number, said in enumerate(statements, 800):
        ident = said.event_id or event_hash(said)
        header = Header(salt=new_salt(), actor=house.gln, source="other", source_seq=number, event_id=ident)
        event = Event(header, replace(said, event_id=None))
        signed.append(encode_signed_event(sign(event.payload_type, encode_payload(event), house.desk.key)))
    return signed


def despatch_naming(maker: House, pharmacy: House, units: "Sequence[Unit]") -> EpcisEvent:
    return events.shipping(units, maker.occasion(), Route(maker.gln, maker.gln, pharmacy.gln, pharmacy.gln))


def advise(maker: House, pharmacy: House, despatch: EpcisEvent, *more: EpcisEvent) -> str:
    despatch_id = event_hash(despatch)
    pharmacy.hear(encode_advice(Advice(despatch_id, 0, 1, tuple(sign_for(maker, *more, despatch)))), sender=maker.gln)
    return despatch_id


def goods_of_the_distributor(maker: House, distributor: House, pharmacy: House, units: "Sequence[Unit]") -> str:
    maker.commission(units)
    maker.ship(units, distributor.gln)
    maker.send_to(distributor)
    distributor.receive(units)
    distributor.confirm_all()
    despatch_id = distributor.ship(units, pharmacy.gln)[0].event_id
    distributor.send_to(pharmacy)
    pharmacy.receive(units)
    pharmacy.confirm_all()
    return despatch_id


@pytest.mark.parametrize("by", ["refusal", "declaration"])
def test_a_despatch_that_does_not_hold_leaves_what_another_brought(
    by: str, maker: House, distributor: House, pharmacy: House
) -> None:
    ours, other = packs("ours", "other")
    brought_by = goods_of_the_distributor(maker, distributor, pharmacy, [ours])
    maker.commission([other])
    despatch = despatch_naming(maker, pharmacy, [other, ours])
    wrong = advise(maker, pharmacy, despatch)
    pharmacy.receive([other])
    if by == "refusal":
        refuse(pharmacy, wrong)
    else:
        error = replace(despatch, event_id=wrong, error_declaration=ErrorDeclaration(maker.clock()))
        advise(maker, pharmacy, despatch_naming(maker, pharmacy, packs("later")), error)
    assert pharmacy.held(other).state is HoldingState.EXCEPTION
    assert case_units(pharmacy, "DESPATCH_REFUSED") == {other.path}
    held = pharmacy.held(ours)
    assert (held.state, held.exception, held.despatch_id) == (HoldingState.ON_HAND, "", brought_by)
    pharmacy.dispense([ours])


def test_a_refused_event_of_anothers_id_takes_back_nothing(maker: House, distributor: House, pharmacy: House) -> None:
    (ours,) = packs("ours")
    despatch_id = goods_of_the_distributor(maker, distributor, pharmacy, [ours])
    (despatch,) = pharmacy.read(lambda c: events_store.find_by_id(c, despatch_id))
    assert isinstance(despatch.event.statement, EpcisEvent)
    copy = replace(despatch.event.statement, event_id=despatch_id)
    advise(maker, pharmacy, despatch_naming(maker, pharmacy, packs("later")), copy)
    (forged,) = [
        item for item in pharmacy.read(lambda c: events_store.find_by_id(c, despatch_id)) if item.signer == maker.gln
    ]
    refusal = Refusal(forged.sha256, despatch_id, "EVENT_ID_CONFLICT", "", "because", 1, START)
    pharmacy.database.write_now(lambda c: inbox.take_refusal(c, pharmacy.desk, refusal))
    assert inbound(pharmacy, despatch_id).state is InboundState.RECEIVED
    assert pharmacy.held(ours).state is HoldingState.ON_HAND


def test_a_refused_packing_puts_aside_what_came_by_its_word_alone(maker: House, pharmacy: House) -> None:
    boxes = make_cases(maker, 2)
    despatch_id = maker.ship(boxes, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    Bay.open(pharmacy, despatch_id).scan(boxes[0])
    pharmacy.receive([boxes[0]])
    for box in boxes:
        (packing,) = [
            item
            for item in pharmacy.read(lambda c: events_store.events_naming(c, [packs_of(box, each=2)[0].path]))  # noqa: B023
            if isinstance(item.event.statement, EpcisEvent) and item.event.statement.parent_id
        ]
        refusal = Refusal(packing.sha256, "", "KEY_REVOKED", "", "because", 1, START)
        pharmacy.database.write_now(lambda c: inbox.take_refusal(c, pharmacy.desk, refusal))  # noqa: B023
    inside = packs_of(boxes[0], each=2)
    assert {pharmacy.held(unit).exception for unit in inside} == {"KEY_REVOKED"}
    assert case_units(pharmacy, "DESPATCH_REFUSED") == {unit.path for unit in inside}
    assert pharmacy.held(boxes[0]).state is HoldingState.ON_HAND
    # What is not here yet comes without data.
    assert [pharmacy.holding(unit) for unit in packs_of(boxes[1], each=2)] == [None, None]
    pharmacy.database.write_now(lambda c: settle.settle_all(c, pharmacy.desk))
    assert {pharmacy.held(unit).state for unit in inside} == {HoldingState.EXCEPTION}
    # Another despatch tells of them: they are received by it, and nobody scans again.
    advise(maker, pharmacy, despatch_naming(maker, pharmacy, inside))
    assert {pharmacy.held(unit).state for unit in inside} == {HoldingState.ON_HAND}


# --- any order ---


def story(folder: "Path", network: "Network", registry: "Registry", order: list[int], seed: int) -> dict[str, object]:
    """Goods, advice, the ledger's word and a correction, in an order; return how the pharmacy's books end up."""
    clock = Clock()
    maker = House("maker", network, registry, folder, clock)
    pharmacy = House("pharmacy", network, registry, folder, clock)
    try:
        boxes = make_cases(maker, 3)
        despatch_id = maker.ship(boxes, pharmacy.gln)[0].event_id
        chooser = random.Random(seed)
        bay = Bay.open(pharmacy)
        scans = [boxes[0], *packs_of(boxes[1], each=2), packs("stray")[0]]
        chooser.shuffle(scans)
        deeds: list[Callable[[], object]] = [
            lambda: maker.send_to(pharmacy),
            lambda: bay.scan_all(scans[:2]),
            lambda: bay.scan_all(scans[2:]),
            lambda: pharmacy.database.write_now(lambda c: inbox.confirm_despatch(c, despatch_id)),
            lambda: maker.send_to(pharmacy),
        ]
        for number in order:
            deeds[number]()
        bay.close()
        maker.send_to(pharmacy)
        pharmacy.database.write_now(lambda c: inbox.confirm_despatch(c, despatch_id))
        bay.counts()
        return {
            "held": {
                path: (item.state.value, item.exception, item.provisional, item.lot)
                for path, item in pharmacy.all_holdings().items()
            },
            "cases": sorted((case.code.value, case.unit_count) for case in cases(pharmacy) if case.code != "OVERAGE"),
            "aside": sorted(case_units(pharmacy, "OVERAGE")),
            "received": inbound(pharmacy, despatch_id).received_count,
        }
    finally:
        maker.close()
        pharmacy.close()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), seed=st.integers(0, 100))
def test_whatever_the_order_the_books_end_up_the_same(
    order: list[int], seed: int, network: "Network", registry: "Registry", tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = story(tmp_path_factory.mktemp("one"), network, registry, order, seed)
    held = one["held"]
    assert isinstance(held, dict)
    here = {unit.path for unit in (*packs_of(case_of(1), each=2), *packs_of(case_of(2), each=2))}
    assert {held[path][:2] for path in here} == {("on_hand", "")}
    assert {held[path][2] for path in here} == {False}
    assert held[packs("stray")[0].path][:2] == ("exception", UNADVISED)
    assert {held[unit.path][0] for unit in packs_of(case_of(3), each=2)} == {"inbound"}
    assert one["aside"] == [packs("stray")[0].path]
    assert one["received"] == 4
