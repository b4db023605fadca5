"""Goods that left their container without a word: what the next receiver is told, and what it believes."""

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from medtrail.codec import decode_advice, encode_advice
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.gs1 import Gln, Sgtin
from medtrail.subjects import MessageKind
from services.custody import advice, capture, events, events_store
from services.custody.dossier import contents_at, units_of
from services.custody.events import Route
from services.custody.holding import HoldingState
from services.custody.shipment import contents_of
from tests.unit.custody.conftest import CASE_GTIN, House, packs, sscc
from tests.unit.custody.test_shipment_contents import aggregation, came, despatch_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.custody.units import Unit

OUTSIDE = Gln("9521002000016")


def test_a_pack_sold_out_of_a_case_is_not_advised_to_the_cases_receiver(
    maker: House, distributor: House, pharmacy: House
) -> None:
    sold, left = packs(1, 2)
    maker.commission([sold, left])
    maker.pack(sscc(1), [sold, left])
    to_pharmacy = maker.ship([sold], pharmacy.gln)
    maker.ship([sscc(1)], distributor.gln)
    maker.send_to(distributor)
    assert distributor.holding(sold) is None
    assert [part.unit for part in distributor.all_holdings().values() if part.smallest] == [left]
    # Nor is it told to whom it went.
    told = [data for to, kind, data in maker.messages() if to == distributor.gln and kind is MessageKind.ADVICE]
    assert [decode_advice(data).absent_epcs for data in told] == [(sold.digital_link,)]
    assert not any(to_pharmacy[0].event_id.encode() in data for data in told)
    distributor.confirm_all()
    assert distributor.receive([sscc(1)]).missing == ()


def test_what_is_absent_stays_absent_when_the_case_goes_on(maker: House, distributor: House, pharmacy: House) -> None:
    sold, left = packs(1, 2)
    maker.commission([sold, left])
    maker.pack(sscc(1), [sold, left])
    maker.ship([sold], OUTSIDE)
    maker.ship([sscc(1)], distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive([sscc(1)])
    (sent,) = distributor.ship([sscc(1)], pharmacy.gln)
    statement = statement_of(distributor, sent.event_id)
    found = distributor.read(lambda c: contents_of(c, statement, (sscc(1),)))
    assert sold.path not in found.units
    distributor.send_to(pharmacy)
    assert pharmacy.holding(sold) is None
    assert pharmacy.held(left).parent == sscc(1)


def statement_of(house: House, event_id: str) -> EpcisEvent:
    (found,) = [item.statement for item in house.events() if item.header.event_id == event_id]
    assert isinstance(found, EpcisEvent)
    return found


def test_a_sender_cannot_say_that_what_is_not_in_its_shipment_is_absent(maker: House, distributor: House) -> None:
    inside, other = packs(1, 2)
    maker.commission([inside, other])
    maker.pack(sscc(1), [inside])
    maker.pack(sscc(2), [other])
    for number in (1, 2):
        maker.ship([sscc(number)], distributor.gln)
    first, second = (decode_advice(data) for _, kind, data in maker.messages() if kind is MessageKind.ADVICE)
    forged = replace(first, absent_epcs=(other.digital_link, sscc(1).digital_link, "urn:x", "https://id.gs1.org/414/1"))
    for message in (forged, second):
        distributor.hear(encode_advice(message), sender=maker.gln)
    assert distributor.held(other).parent == sscc(2)
    assert distributor.held(inside).parent == sscc(1)


def test_what_is_absent_goes_in_parts_as_well() -> None:
    absent = [f"https://id.gs1.org/01/00300010123455/21/{number:020d}" for number in range(15_000)]
    parts = advice.split_advice("urn:x:1", [b"x" * 200_000, b"y" * 200_000], absent)
    assert len(parts) == 3
    assert [epc for part in parts for epc in part.absent_epcs] == absent
    assert all(len(encode_advice(part)) <= 512 * 1024 for part in parts)
    assert {part.part_count for part in parts} == {3}


def test_packs_seen_inside_a_received_case_are_in_it_for_the_next_receiver(
    maker: House, distributor: House, pharmacy: House
) -> None:
    units = packs(1, 2)
    maker.commission(units)
    maker.pack(sscc(1), units)
    maker.ship([sscc(1)], distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive([sscc(1)])
    distributor.receive(units[:1])
    distributor.ship([sscc(1)], pharmacy.gln)
    distributor.send_to(pharmacy)
    assert [pharmacy.held(unit).parent for unit in units] == [sscc(1), sscc(1)]


def test_a_captured_dispensing_of_a_pack_in_a_case_leaves_the_others_in_it(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    maker.commission(units)
    maker.pack(sscc(1), units)
    maker.ship([sscc(1)], pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive([sscc(1)])
    statement = events.dispensing(units[:1], pharmacy.occasion(), partial=False)
    pharmacy.write(lambda s: capture.capture(s, [statement], second_hand=False), units[:1])
    assert (pharmacy.held(units[0]).state, pharmacy.held(units[0]).parent) == (HoldingState.DISPENSED, None)
    assert pharmacy.held(units[1]).parent == sscc(1)
    pharmacy.send_back([sscc(1)], maker.gln)
    pharmacy.send_to(maker)
    assert maker.held(units[0]).state is HoldingState.DESPATCHED
    assert maker.held(units[1]).state is HoldingState.INBOUND


@pytest.mark.parametrize("seed", range(6))
def test_both_replays_take_out_what_goes_alone(maker: House, seed: int) -> None:
    moves = random.Random(seed)  # moves of a test, not a secret
    units = packs(*range(1, 9))
    cases = tuple(Sgtin(CASE_GTIN, str(number)) for number in (1, 2, 3))
    pallets = (sscc(1), sscc(2))
    maker.commission(units)
    route = Route(OUTSIDE, OUTSIDE, maker.gln, maker.gln)
    for number in range(40):
        going: Sequence[Unit] = moves.sample([*units, *cases, *pallets], k=moves.randint(1, 2))
        occasion = maker.occasion()
        kinds: list[tuple[Sequence[Unit], Sequence[Unit]]] = [(cases, units), (pallets, cases)]
        parents, children = moves.choice(kinds)
        statement = moves.choice(
            [
                aggregation(maker, moves.choice(parents), moves.sample(children, k=2), Action.ADD),
                aggregation(maker, moves.choice(parents), moves.sample(children, k=2), Action.ADD),
                events.shipping(going, occasion, route),
                events.dispensing(going, occasion, partial=False),
                events.holding(going, occasion, reason="x"),
                EpcisEvent(
                    EventType.TRANSFORMATION,
                    occasion.time,
                    "+00:00",
                    input_epc_list=(going[0].digital_link,),
                    output_epc_list=(sscc(9).digital_link,),
                ),
            ]
        )
        came(maker, statement, number)
    event = despatch_of(maker, pallets)
    paths = [unit.path for unit in (*units, *cases, *pallets)]
    known = maker.read(lambda c: events_store.events_naming(c, paths))
    expected = contents_at(event, [item.event for item in known])
    found = maker.read(lambda c: contents_of(c, event, units_of(event.epc_list))).units
    assert {path: unit.parent for path, unit in found.items()} == {
        item.unit.path: "" if item.parent is None else item.parent.path for item in expected
    }
