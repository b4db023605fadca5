"""The verbs against real books: what they sign, what they change, what they refuse."""

from typing import TYPE_CHECKING

import pytest

from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import AuthorizationError, ConflictError, MedtrailError
from medtrail.gs1 import Sgtin
from services.custody import commands
from services.custody.holding import Ending, HoldingState
from tests.unit.custody.conftest import CASE_GTIN, EXPIRY, LOT, named, packs, sscc

if TYPE_CHECKING:
    from tests.unit.custody.conftest import House

CASE = Sgtin(CASE_GTIN, "110")
PALLET = sscc(1)


def statements(house: "House") -> list[EpcisEvent]:
    return [event.statement for event in house.events() if isinstance(event.statement, EpcisEvent)]


def make_pallet(maker: "House") -> None:
    maker.commission(packs(1, 2, 3, 4))
    maker.commission([CASE])
    maker.pack(CASE, packs(1, 2, 3, 4))
    maker.pack(PALLET, [CASE])


def test_signs_gapless_numbers_under_content_hashes(maker: "House") -> None:
    make_pallet(maker)
    events = maker.events()
    assert [event.header.source_seq for event in events] == [1, 2, 3, 4]
    for event in events:
        assert isinstance(event.statement, EpcisEvent)
        assert event.header.event_id == event_hash(event.statement)
        assert event.header.actor == maker.gln
    assert maker.pending() == 4


def test_a_refused_command_gives_its_number_back(maker: "House") -> None:
    maker.commission(packs(1))
    with pytest.raises(ConflictError):
        maker.commission(packs(2, 1))
    maker.commission(packs(3))
    assert [event.header.source_seq for event in maker.events()] == [1, 2]
    assert maker.holding(packs(2)[0]) is None


def test_verbs_speak_the_business_vocabulary(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.hold(packs(1))
    maker.release(packs(1))
    maker.ship([PALLET], distributor.gln)
    words = [(item.type, item.action, item.biz_step, item.disposition) for item in statements(maker)]
    assert words[0] == (EventType.OBJECT, Action.ADD, "commissioning", "active")
    assert words[2] == (EventType.AGGREGATION, Action.ADD, "packing", "in_progress")
    assert words[4:] == [
        (EventType.OBJECT, Action.OBSERVE, "holding", "non_sellable_other"),
        (EventType.OBJECT, Action.OBSERVE, "storing", "sellable_accessible"),
        (EventType.OBJECT, Action.OBSERVE, "shipping", "in_transit"),
    ]
    shipping = statements(maker)[-1]
    assert [item.type for item in shipping.source_list] == ["owning_party", "location"]
    assert shipping.destination_list[0].id == "https://id.gs1.org/417/0399999999991"
    assert shipping.biz_location is None


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.EMPTIED])
def test_every_ending_reads_back_as_itself(maker: "House", ending: Ending) -> None:
    from services.custody.steps import step_of

    maker.commission(packs(1))
    occasion = maker.occasion()
    maker.write(lambda s: commands.end(s, named(packs(1)), occasion, ending), packs(1))
    held = maker.held(packs(1)[0])
    assert (held.state, held.ending) == (HoldingState.ENDED, ending)
    assert step_of(statements(maker)[-1], field="event").ending is ending


def test_contents_follow_their_container(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.ship([PALLET], distributor.gln)
    assert {held.state for held in maker.all_holdings().values()} == {HoldingState.DESPATCHED}
    assert {held.partner for held in maker.all_holdings().values()} == {distributor.gln}


def test_receives_a_pallet_with_all_that_is_inside(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.ship([PALLET], distributor.gln)
    assert maker.send_to(distributor) == 1
    inbound = distributor.held(packs(3)[0])
    assert (inbound.state, inbound.lot, inbound.expiry, inbound.parent) == (HoldingState.INBOUND, LOT, EXPIRY, CASE)
    delivery = distributor.receive([PALLET])
    assert (delivery.unit_count, delivery.unadvised, delivery.missing) == (4, (), ())
    assert {held.state for held in distributor.all_holdings().values()} == {HoldingState.ON_HAND}
    assert all(held.provisional for held in distributor.all_holdings().values())


def test_takes_a_case_scanned_alone_out_of_its_pallet(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.commission(packs(9))
    maker.pack(PALLET, packs(9))
    maker.ship([PALLET], distributor.gln)
    maker.send_to(distributor)
    delivery = distributor.receive([CASE])
    assert delivery.unit_count == 4
    assert delivery.missing == (PALLET,)
    assert [item.biz_step for item in statements(distributor)] == ["unpacking", "receiving"]
    assert distributor.held(CASE).parent is None
    rest = distributor.receive([PALLET])
    assert (rest.unit_count, rest.missing) == (1, ())


def test_a_pallet_whose_contents_came_one_by_one_is_not_missing(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.ship([PALLET], distributor.gln)
    maker.send_to(distributor)
    delivery = distributor.receive([*packs(1, 2, 3, 4)])
    assert (delivery.unit_count, delivery.missing) == (4, ())


def test_scanning_what_came_inside_a_container_confirms_it(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.ship([PALLET], distributor.gln)
    maker.send_to(distributor)
    assert distributor.receive([CASE, PALLET, *packs(2)]).unit_count == 4
    assert distributor.held(packs(2)[0]).parent == CASE
    assert [item.biz_step for item in statements(distributor)] == ["receiving"]
    distributor.receive([*packs(3)])
    with pytest.raises(ConflictError) as caught:
        distributor.receive([PALLET])
    assert (caught.value.code, caught.value.field) == ("ALREADY_RECEIVED", "epcs[0]")


def test_puts_aside_what_nobody_advised(distributor: "House") -> None:
    delivery = distributor.receive([*packs(1)])
    assert delivery.unadvised == packs(1)
    assert distributor.held(packs(1)[0]).state is HoldingState.EXCEPTION
    assert statements(distributor)[-1].disposition == "no_pedigree_match"
    with pytest.raises(ConflictError) as caught:
        distributor.ship(packs(1), distributor.folder.gln.__class__("4012345000009"))
    assert caught.value.code == "UNIT_EXCEPTION"


def test_goods_that_arrived_before_their_data_are_on_hand_once_they_match(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.ship([PALLET], distributor.gln)
    distributor.receive([PALLET])
    assert distributor.held(PALLET).state is HoldingState.EXCEPTION
    maker.send_to(distributor)
    assert {held.state for held in distributor.all_holdings().values()} == {HoldingState.ON_HAND}
    assert distributor.held(packs(1)[0]).parent == CASE
    assert len(distributor.all_holdings()) == 6


def test_dispenses_out_of_a_case_by_taking_the_pack_out(
    maker: "House", distributor: "House", pharmacy: "House"
) -> None:
    make_pallet(maker)
    maker.ship([PALLET], pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.receive([PALLET])
    with pytest.raises(ConflictError) as caught:
        pharmacy.dispense(packs(1))
    assert caught.value.code == "UNIT_PROVISIONAL"
    pharmacy.confirm_all()
    pharmacy.dispense(packs(1))
    pharmacy.dispense(packs(2), partial=True)
    pharmacy.dispense(packs(2))
    assert [item.biz_step for item in statements(pharmacy)] == [
        "receiving",
        "unpacking",
        "dispensing",
        "unpacking",
        "dispensing",
        "dispensing",
    ]
    with pytest.raises(ConflictError) as final:
        pharmacy.dispense(packs(1))
    assert (final.value.code, final.value.facts["state"]) == ("UNIT_FINAL", "dispensed")


def test_only_a_pharmacy_dispenses(maker: "House") -> None:
    maker.commission(packs(1))
    with pytest.raises(AuthorizationError) as caught:
        maker.dispense(packs(1))
    assert caught.value.code == "ROLE_FORBIDS"


def test_refuses_to_commission_under_a_foreign_prefix(maker: "House", distributor: "House") -> None:
    from medtrail.gs1 import Gtin

    with pytest.raises(AuthorizationError) as caught:
        maker.commission([Sgtin(Gtin("04012345123456"), "1")])
    assert caught.value.code == "PREFIX_NOT_OWNED"
    with pytest.raises(AuthorizationError) as other:
        distributor.commission(packs(1))
    assert other.value.code == "ROLE_FORBIDS"


def test_goods_for_a_stranger_leave_the_network_without_advice(maker: "House") -> None:
    from medtrail.gs1 import Gln

    maker.commission(packs(1))
    maker.ship(packs(1), Gln("9521005000013"))
    assert maker.messages() == []
    assert maker.held(packs(1)[0]).partner == Gln("9521005000013")


def test_refuses_to_ship_to_itself(maker: "House") -> None:
    maker.commission(packs(1))
    with pytest.raises(MedtrailError) as caught:
        maker.ship(packs(1), maker.gln)
    assert (caught.value.code, caught.value.field) == ("DESTINATION_OWN", "destination_party")


def test_splits_many_units_into_events_of_a_thousand(maker: "House", distributor: "House") -> None:
    units = packs(*range(2001))
    assert len(maker.commission(units)) == 3
    assert len(maker.ship(units, distributor.gln)) == 3
    maker.send_to(distributor)
    assert distributor.receive(units).unit_count == 2001


def test_the_same_content_again_is_a_resend(maker: "House") -> None:
    maker.commission(packs(1))
    occasion = maker.occasion()
    first = maker.write(lambda s: commands.hold(s, named(packs(1)), occasion, reason="x"), packs(1))
    again = maker.write(lambda s: commands.hold(s, named(packs(1)), occasion, reason="x"), packs(1))
    assert (first[0].resend, again[0].resend) == (False, True)
    assert first[0].signed_event_sha256 == again[0].signed_event_sha256
    assert maker.pending() == 2


def test_a_return_goes_back_on_hold_until_it_is_released(maker: "House", distributor: "House") -> None:
    make_pallet(maker)
    maker.ship([PALLET], distributor.gln)
    maker.send_to(distributor)
    distributor.receive([PALLET])
    distributor.unpack(PALLET)
    distributor.send_back([CASE], maker.gln)
    assert distributor.held(packs(1)[0]).state is HoldingState.RETURNED
    assert maker.held(packs(1)[0]).state is HoldingState.DESPATCHED
    distributor.send_to(maker)
    assert maker.held(packs(1)[0]).state is HoldingState.INBOUND
    assert maker.receive([CASE]).unit_count == 4
    assert maker.held(packs(1)[0]).hold_reason
    maker.release([CASE])
    assert maker.held(packs(1)[0]).hold_reason == ""
    assert statements(maker)[-2].disposition == "returned"
