"""What a delivery has not brought is on its way by the receiver's books, and by what the ledger reads in its events."""

import pytest

from ledger.projections.belief import UnitBelief
from ledger.projections.directory import Directory
from ledger.projections.facts import fact_of, refs_of
from ledger.projections.replay import Replay
from ledger.projections.world import Refs, World
from medtrail.epcis.model import EpcisEvent
from medtrail.gs1 import OtherKey
from services.custody.holding import HoldingState
from services.custody.receiving.reconcile import Label
from services.custody.units import Unit
from tests.unit.custody.conftest import EXPIRY, LOT, House, packs, sscc
from tests.unit.receiving.conftest import Bay, case_of, packs_of, said_absent, ship_cases, ship_pallet
from tests.unit.receiving.test_late_data import corrected, deliver_with

TOTE_A, TOTE_B = OtherKey("8004", "952100112345A"), OtherKey("8004", "952100112345B")


def believed(*houses: House) -> dict[str, UnitBelief]:
    """Return what a ledger believes that has heard all that houses said."""
    told = [(event, house.folder.signing_key().key_id) for house in houses for event in house.events()]
    facts = [fact_of(number, event, key_id=key_id) for number, (event, key_id) in enumerate(told)]
    units: dict[str, Refs] = {}
    for number, (event, _) in enumerate(told):
        if isinstance(event.statement, EpcisEvent):
            for ref in refs_of(number, event):
                units[ref.unit] = (*units.get(ref.unit, ()), (number, ref.part))
    replay = Replay(World(dict(enumerate(facts)), units), Directory(houses[0].registry)).run()
    found = {path: replay.belief(path) for path in units}
    return {path: belief for path, belief in found.items() if belief is not None}


def agree(maker: House, pharmacy: House) -> dict[str, str]:
    """Check that books and ledger say the same of all units that the pharmacy knows; return where these are."""
    found = {}
    ledger = believed(maker, pharmacy)
    for path, holding in pharmacy.all_holdings().items():
        belief = ledger[path]
        parent = "" if holding.parent is None else holding.parent.path
        wanted = ("in_transit", str(maker.gln), str(pharmacy.gln))
        if holding.here:
            wanted = ("on_hand", str(pharmacy.gln), "")
        assert (belief.unit_class.value, belief.holder, belief.destination, belief.parent) == (*wanted, parent), path
        assert (belief.hold_reason, belief.alerts) == ("", ()), path
        found[path] = belief.unit_class.value
    return found


def ways(found: dict[str, str], units: tuple[Unit, ...]) -> list[str]:
    return [found[unit.path] for unit in units]


def test_missing_in_a_case_that_was_scanned(maker: House, pharmacy: House) -> None:
    despatch_id, (box,) = ship_cases(maker, pharmacy, cases=1)
    gone, *there = packs_of(box)
    bay = Bay.open(pharmacy, despatch_id, permille=1000)
    bay.scan_all([box, *there])
    bay.close(samples_missing=True)
    assert said_absent(pharmacy) == [(box, gone)]
    assert ways(agree(maker, pharmacy), (box, *packs_of(box))) == ["on_hand", "in_transit", "on_hand", "on_hand"]
    # It turns up after all.
    bay.reopen(gone)
    bay.scan(gone)
    bay.close()
    assert set(agree(maker, pharmacy).values()) == {"on_hand"}


def test_missing_in_a_case_out_of_which_the_others_came(maker: House, pharmacy: House) -> None:
    despatch_id, (box, other) = ship_cases(maker, pharmacy)
    gone, *there = packs_of(box)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all(there)
    bay.close()
    # Nobody has seen the other case, nor said that anything is not in it.
    assert said_absent(pharmacy) == [(box, gone)]
    ledger = believed(maker, pharmacy)
    assert [ledger[unit.path].unit_class.value for unit in (gone, *packs_of(other))] == ["in_transit"] * 4
    assert [ledger[unit.path].unit_class.value for unit in there] == ["on_hand"] * 2


def test_missing_with_its_case_on_a_pallet_that_was_scanned(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_pallet(maker, pharmacy, sscc(1))
    bay = Bay.open(pharmacy, despatch_id, permille=1000)
    bay.scan_all([sscc(1), *packs_of(boxes[0])[1:]])
    bay.close(samples_missing=True)
    gone = packs_of(boxes[0])[0]
    assert sorted(said_absent(pharmacy), key=str) == sorted([(boxes[0], gone), (sscc(1), boxes[1])], key=str)
    found = agree(maker, pharmacy)
    assert ways(found, (sscc(1), boxes[0], *packs_of(boxes[0]))) == ["on_hand"] * 2 + ["in_transit"] + ["on_hand"] * 2
    assert ways(found, (boxes[1], *packs_of(boxes[1]))) == ["in_transit"] * 4


def test_missing_in_a_case_of_which_only_a_pack_with_another_lot_came(maker: House, pharmacy: House) -> None:
    despatch_id, (box,) = ship_cases(maker, pharmacy, cases=1)
    odd, *gone = packs_of(box)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(odd, lot="OTHER")
    bay.close()
    assert said_absent(pharmacy) == [(box, unit) for unit in gone]
    ledger = believed(maker, pharmacy)
    assert {ledger[unit.path].unit_class.value for unit in gone} == {"in_transit"}


def test_a_pack_found_in_another_tote_says_nothing_of_its_own(maker: House, pharmacy: House) -> None:
    first, second = packs(1, 2), packs(3, 4)
    maker.commission((*first, *second))
    maker.pack(TOTE_A, first)
    maker.pack(TOTE_B, second)
    despatch_id = maker.ship([TOTE_A, TOTE_B], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(TOTE_B)
    bay.scan(first[0], taken_from=TOTE_B)
    bay.close()
    assert said_absent(pharmacy) == [(TOTE_A, first[0])]
    found = agree(maker, pharmacy)
    assert ways(found, (TOTE_A, *first, TOTE_B, *second)) == ["in_transit", "on_hand", "in_transit"] + ["on_hand"] * 3


def test_concealed_in_a_case_that_waited_for_data_was_not_in_it_when_it_came(maker: House, pharmacy: House) -> None:
    box = case_of(1)
    gone, *_ = packs_of(box)
    maker.commission(packs_of(box))
    wrong = maker.commission([box], lot="TYPO")[0].event_id
    maker.pack(box, packs_of(box))
    despatch_id = maker.ship([box], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(box, label=Label(box, LOT, EXPIRY))
    bay.close()
    (made,) = [event.statement for event in maker.events() if event.header.event_id == wrong]
    assert isinstance(made, EpcisEvent)
    more = packs("more")
    maker.commission(more)
    extra = maker.ship(more, pharmacy.gln)[0].event_id
    deliver_with(maker, pharmacy, extra, corrected(maker, made, event_id=wrong))
    assert pharmacy.held(gone).state is HoldingState.ON_HAND
    bay.concealed(short=[gone])
    belief = believed(maker, pharmacy)[gone.path]
    assert (belief.unit_class.value, belief.holder, belief.hold_reason) == ("in_transit", str(maker.gln), "")


@pytest.mark.parametrize("on_pallet", [False, True])
def test_concealed_in_a_sealed_case(maker: House, pharmacy: House, on_pallet: bool) -> None:
    box = case_of(1)
    gone, *there = packs_of(box)
    maker.commission(packs_of(box))
    maker.commission([box])
    maker.pack(box, packs_of(box))
    if on_pallet:
        maker.pack(sscc(1), [box])
    outermost = sscc(1) if on_pallet else box
    despatch_id = maker.ship([outermost], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(outermost)
    bay.close()
    bay.concealed(short=[gone])
    assert said_absent(pharmacy) == [(box, gone)]
    assert (
        ways(agree(maker, pharmacy), (outermost, box, gone, *there))
        == ["on_hand", "on_hand", "in_transit"] + ["on_hand"] * 2
    )
    bay.concealed(over=[Label(gone, LOT, EXPIRY)])
    assert set(agree(maker, pharmacy).values()) == {"on_hand"}
