"""EPCIS events as they are, under the same rules as the verbs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from sqlmodel import col

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import ED25519_BATCH, SignedEvent, verify_signatures
from medtrail.epcis import read_document
from medtrail.epcis.model import (
    Action,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Place,
    QuantityElement,
)
from medtrail.gs1 import Sgtin, parse_epc
from medtrail.runtime.tables import SignedEventRow
from services.custody import capture, events
from services.custody.capture import CaptureRefusedError
from services.custody.desk import Accepted
from services.custody.events import Occasion, Route
from services.custody.holding import Ending, HoldingState
from tests.unit.custody.conftest import CASE_GTIN, EXPIRY, LOT, packs, sscc

if TYPE_CHECKING:
    from tests.unit.custody.conftest import House

EXAMPLE = Path(
    "../shared/data/openepcis-test-resources/1.2/EPCIS/XML/Capture/Documents/GS1_US_Pharma_Example_2_2_1_1.xml"
)
CASE = Sgtin(CASE_GTIN, "110")
PALLET = sscc(1)


def take(house: "House", statements: Sequence[EpcisEvent], *, second_hand: bool = False) -> list[Accepted]:
    units = tuple(capture.units_of_chunk(statements))
    return house.write(lambda s: capture.capture(s, statements, second_hand=second_hand), units)


def refused(house: "House", statements: Sequence[EpcisEvent], *, second_hand: bool = False) -> tuple[str, int, str]:
    before = house.all_holdings()
    with pytest.raises(CaptureRefusedError) as caught:
        take(house, statements, second_hand=second_hand)
    assert house.all_holdings() == before, "half of a chunk was taken in"
    return caught.value.code, caught.value.number, caught.value.field or ""


def commissioning(house: "House", occasion: Occasion | None = None) -> EpcisEvent:
    return events.commissioning(packs(1, 2), occasion or house.occasion(), lot=LOT, expiry=EXPIRY)


def story(maker: "House", distributor: "House") -> list[EpcisEvent]:
    """What a maker's file says of a shipment to the distributor."""
    route = Route(maker.gln, maker.gln, distributor.gln, distributor.gln)
    return [
        commissioning(maker),
        events.commissioning([CASE], maker.occasion(), lot=LOT, expiry=EXPIRY),
        events.packing(CASE, packs(1, 2), maker.occasion()),
        events.packing(PALLET, [CASE], maker.occasion()),
        events.shipping([PALLET], maker.occasion(), route),
    ]


def test_takes_in_a_makers_own_story_and_advises_its_partner(maker: "House", distributor: "House") -> None:
    made = take(maker, story(maker, distributor))
    assert len({item.event_id for item in made}) == 5
    assert {held.state for held in maker.all_holdings().values()} == {HoldingState.DESPATCHED}
    maker.send_to(distributor)
    assert distributor.receive([PALLET]).unit_count == 2


def test_a_resent_chunk_adds_nothing(maker: "House", distributor: "House") -> None:
    chunk = story(maker, distributor)
    first = take(maker, chunk)
    again = take(maker, chunk)
    assert [item.event_id for item in again] == [item.event_id for item in first]
    assert all(item.resend for item in again)
    assert maker.pending() == 5


def signed_by(house: "House") -> list[SignedEvent]:
    query = select(col(SignedEventRow.data))
    return [
        decode_signed_event(row) for row in house.read(lambda connection: connection.execute(query).scalars().all())
    ]


def source_seqs(signed: Sequence[SignedEvent]) -> list[int]:
    return sorted(decode_payload(item.payload_type, item.payload).header.source_seq for item in signed)


def life_of(house: "House", first: int, count: int) -> list[EpcisEvent]:
    serials = range(first, first + count)
    return [events.commissioning(packs(one), house.occasion(), lot=LOT, expiry=EXPIRY) for one in serials]


def test_the_events_of_a_chunk_share_signatures_and_verify_each_alone(maker: "House") -> None:
    take(maker, life_of(maker, 1, 66))

    signed = signed_by(maker)

    assert {verify_signatures(item) for item in signed} == {maker.desk.key.key_id}
    assert {item.signatures[0].scheme for item in signed} == {ED25519_BATCH}
    # One signature for 64 of them, one for the two that are left.
    assert len({item.signatures[0].signature[:64] for item in signed}) == 2
    assert source_seqs(signed) == list(range(1, 67))


def test_what_was_said_before_leaves_no_gap_in_the_numbers(maker: "House") -> None:
    known, *new = life_of(maker, 1, 4)
    take(maker, [known])

    made = take(maker, [new[0], known, new[1], new[2], new[1]])

    assert [item.resend for item in made] == [False, True, False, False, True]
    signed = signed_by(maker)
    assert {verify_signatures(item) for item in signed} == {maker.desk.key.key_id}
    assert source_seqs(signed) == [1, 2, 3, 4]


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the GS1 US example is not beside the repository")
def test_carries_the_gs1_us_example_to_the_wholesaler(maker: "House", distributor: "House") -> None:
    document = read_document(EXAMPLE.read_bytes(), format="xml")
    # The maker of these tests has the example's party GLN; its distribution centre has another here.
    moved = [_moved(event) for event in document.events]
    assert len(take(maker, moved)) == 8
    maker.send_to(distributor)
    pack = parse_epc("urn:epc:id:sgtin:030001.0012345.11")
    assert isinstance(pack, Sgtin)
    assert distributor.held(pack).lot == "A123"
    pallet = parse_epc("urn:epc:id:sscc:030001.41234567890")
    assert distributor.receive([pallet]).unit_count == 12  # type: ignore[list-item]
    assert len(distributor.all_holdings()) == 16


def _moved(event: EpcisEvent) -> EpcisEvent:
    text = "urn:epc:id:sgln:030001.111121.0"
    place = Place("urn:epc:id:sgln:030001.111120.0")
    return replace(
        event,
        read_point=place if event.read_point and event.read_point.id == text else event.read_point,
        biz_location=place if event.biz_location and event.biz_location.id == text else event.biz_location,
    )


def test_keeps_a_producers_own_event_id_and_refuses_other_content_under_it(maker: "House") -> None:
    event = replace(commissioning(maker), event_id="urn:uuid:7b2b5b0e-1111-4222-8333-444455556666")
    assert take(maker, [event])[0].event_id == event.event_id
    assert take(maker, [event])[0].resend
    other = replace(event, event_time=event.event_time + timedelta(seconds=5))
    assert refused(maker, [other]) == ("EVENT_ID_CONFLICT", 0, "events[0].eventID")


def test_the_first_event_that_is_wrong_refuses_the_chunk(maker: "House") -> None:
    wrong = events.packing(CASE, packs(1), maker.occasion())
    assert refused(maker, [commissioning(maker), wrong]) == ("UNIT_UNKNOWN", 1, "events[1].parentID")


def test_refuses_an_event_that_is_no_epcis(maker: "House") -> None:
    code, number, field = refused(maker, [commissioning(maker), replace(commissioning(maker), biz_step="comissioning")])
    assert (code, number) == ("BIZ_STEP_UNKNOWN", 1)
    assert field.startswith("events[1]")


def test_refuses_an_event_of_tomorrow(maker: "House") -> None:
    occasion = Occasion(maker.clock() + timedelta(minutes=6), "+00:00", maker.gln)
    assert refused(maker, [commissioning(maker, occasion)]) == ("EVENT_IN_FUTURE", 0, "events[0].event_time")


def test_refuses_an_event_in_anothers_name(maker: "House", distributor: "House") -> None:
    assert refused(distributor, [commissioning(maker)])[0] == "ACTOR_NOT_SIGNER"
    assert refused(maker, [*story(maker, distributor)[:4], _received(distributor)])[:2] == ("ACTOR_NOT_SIGNER", 4)


def _received(distributor: "House") -> EpcisEvent:
    return events.receiving([PALLET], distributor.occasion(), None)


def test_a_witness_gets_the_goods_that_were_despatched_to_it(maker: "House", distributor: "House") -> None:
    made = take(distributor, story(maker, distributor), second_hand=True)
    assert len(made) == 5
    assert {held.state for held in distributor.all_holdings().values()} == {HoldingState.INBOUND}
    for event in distributor.events():
        assert (event.header.actor, event.header.capture.value) == (maker.gln, "second_hand")
    assert distributor.receive([PALLET]).unit_count == 2


def test_a_witness_may_receive_in_the_same_chunk(maker: "House", distributor: "House") -> None:
    route = Route(maker.gln, maker.gln, distributor.gln, distributor.gln)
    chunk = story(maker, distributor)
    take(distributor, [*chunk, events.receiving([PALLET], distributor.occasion(), route)], second_hand=True)
    assert distributor.held(packs(1)[0]).state is HoldingState.ON_HAND


def test_refuses_a_witness_that_is_no_party_to_the_goods(
    maker: "House", distributor: "House", pharmacy: "House"
) -> None:
    assert refused(pharmacy, story(maker, distributor), second_hand=True)[:2] == ("NOT_PARTY", 0)


def test_refuses_to_witness_what_nobody_did(maker: "House") -> None:
    nobody = replace(commissioning(maker), read_point=None, biz_location=None)
    assert refused(maker, [nobody], second_hand=True)[0] == "ACTOR_UNKNOWN"


def test_a_declared_error_is_taken_back(maker: "House") -> None:
    take(maker, [commissioning(maker)])
    held = events.holding(packs(1), maker.occasion(), reason="x")
    take(maker, [held])
    declared = replace(held, error_declaration=ErrorDeclaration(maker.clock(), "did_not_occur"))
    after = events.ending(packs(1), maker.occasion(), Ending.DESTROYED)
    take(maker, [declared, after])
    assert maker.held(packs(1)[0]).state is HoldingState.ENDED
    assert [event.is_declaration for event in maker.events()] == [False, False, True, False]
    assert take(maker, [declared])[0].resend


def test_refuses_to_declare_an_error_that_nobody_made(maker: "House") -> None:
    held = events.holding(packs(1), maker.occasion(), reason="x")
    declared = replace(held, error_declaration=ErrorDeclaration(maker.clock()))
    assert refused(maker, [declared])[0] == "DECLARED_EVENT_UNKNOWN"


def test_a_repackager_consumes_and_commissions(houses: dict[str, "House"], maker: "House") -> None:
    maker.commission(packs(1, 2))
    occasion = maker.occasion()
    new = Sgtin(CASE_GTIN, "900")
    place = Place(events.place_uri(maker.gln))
    event = EpcisEvent(
        type=EventType.TRANSFORMATION,
        event_time=occasion.time,
        event_time_zone_offset="+00:00",
        input_epc_list=tuple(unit.digital_link for unit in packs(1)),
        output_epc_list=(new.digital_link,),
        biz_step="repackaging",
        read_point=place,
        biz_location=place,
        ilmd=events.commissioning([new], occasion, lot="N7", expiry=EXPIRY).ilmd,
    )
    take(maker, [event])
    assert maker.held(packs(1)[0]).state is HoldingState.CONSUMED
    assert (maker.held(new).state, maker.held(new).lot) == (HoldingState.ON_HAND, "N7")


def _observed(house: "House", **fields: object) -> EpcisEvent:
    place = Place(events.place_uri(house.gln))
    event = EpcisEvent(
        type=EventType.OBJECT,
        event_time=house.clock(),
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=tuple(unit.digital_link for unit in packs(1)),
        biz_step="inspecting",
        read_point=place,
        biz_location=place,
    )
    return replace(event, **fields)  # type: ignore[arg-type]


def test_a_neutral_step_needs_the_goods_and_changes_nothing(maker: "House") -> None:
    assert refused(maker, [_observed(maker)])[0] == "UNIT_UNKNOWN"
    maker.commission(packs(1))
    before = maker.held(packs(1)[0])
    take(maker, [_observed(maker)])
    assert replace(maker.held(packs(1)[0]), location=before.location) == before


@pytest.mark.parametrize(
    ("fields", "state", "ending"),
    [
        ({"biz_step": "decommissioning", "action": Action.DELETE}, HoldingState.ENDED, Ending.DECOMMISSIONED),
        ({"biz_step": "destroying", "action": Action.DELETE}, HoldingState.ENDED, Ending.DESTROYED),
        ({"disposition": "stolen"}, HoldingState.ENDED, Ending.STOLEN),
        ({"action": Action.DELETE, "biz_step": None}, HoldingState.ENDED, Ending.DECOMMISSIONED),
        ({"biz_step": "holding"}, HoldingState.ON_HAND, None),
        ({"biz_step": "storing", "disposition": "sellable_accessible"}, HoldingState.ON_HAND, None),
        ({"biz_step": "arriving"}, HoldingState.ON_HAND, None),
        ({"type": EventType.TRANSACTION, "biz_step": "accepting"}, HoldingState.ON_HAND, None),
    ],
)
def test_steps_fall_under_the_same_rules(
    maker: "House", fields: dict[str, object], state: HoldingState, ending: Ending | None
) -> None:
    from medtrail.epcis.model import BizTransaction

    maker.commission(packs(1))
    if fields.get("type") is EventType.TRANSACTION:
        fields = {**fields, "biz_transaction_list": (BizTransaction("urn:epcglobal:cbv:bt:0300011111116:1", "po"),)}
    take(maker, [_observed(maker, **fields)])
    assert (maker.held(packs(1)[0]).state, maker.held(packs(1)[0]).ending) == (state, ending)


def test_quantities_pass_without_touching_the_books(maker: "House") -> None:
    from decimal import Decimal

    element = QuantityElement("urn:epc:class:lgtin:030001.0012345.A123", Decimal(5))
    take(maker, [_observed(maker, epc_list=(), quantity_list=(element,))])
    assert maker.all_holdings() == {}


def test_old_events_are_accepted(maker: "House") -> None:
    occasion = Occasion(datetime(2020, 1, 1, tzinfo=UTC), "+00:00", maker.gln)
    take(maker, [commissioning(maker, occasion)])
    assert maker.held(packs(1)[0]).since_time.year == 2020
