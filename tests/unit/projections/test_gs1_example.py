"""The GS1 US pharma example: 12 packs in 3 cases on 1 pallet, commissioned, packed and shipped."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from medtrail.epcis.documents import read_document
from tests.unit.projections.story import MAKER, WHOLESALER, Story

_DATA = Path(__file__).parents[4] / "shared" / "data" / "openepcis-test-resources"
_FILE = _DATA / "1.2/EPCIS/XML/Capture/Documents/GS1_US_Pharma_Example_2_2_1_1.xml"
PACK_GTIN, CASE_GTIN = "00300010123455", "10300010123452"
SHIPPED = datetime(2023, 4, 1, 7, 48, 16, tzinfo=UTC)


@pytest.fixture
def example(story: Story) -> Story:
    if not _FILE.exists():
        pytest.skip("the GS1 US example is not in ../shared/data")
    for event in read_document(_FILE.read_bytes(), format="xml").events:
        story.sign(MAKER, event)
    return story


def test_pack_shows_commissioning_both_packings_and_shipping(example: Story) -> None:
    pack = f"/01/{PACK_GTIN}/21/11"
    steps = example.replay(traced=pack).steps(pack)
    assert [(step.fact.biz_step, step.via) for step in steps] == [
        ("commissioning", pack),
        ("packing", pack),
        ("packing", f"/01/{CASE_GTIN}/21/110"),
        ("shipping", "/00/403000112345678901"),
    ]


@pytest.mark.parametrize(("gtin", "count"), [(PACK_GTIN, 12), (CASE_GTIN, 3)])
def test_all_of_the_lot_is_in_transit_since_the_shipping(example: Story, gtin: str, count: int) -> None:
    replay = example.replay()
    units = [unit for unit in example.world().units if unit.startswith(f"/01/{gtin}/21/")]
    assert len(units) == count
    for unit in units:
        belief = replay.belief(unit)
        assert belief is not None
        assert (belief.unit_class, belief.holder, belief.destination) == ("in_transit", MAKER, WHOLESALER)
        assert (belief.since, belief.lot, belief.alerts, belief.first_hand) == (SHIPPED, "A123", (), True)


def test_as_passed_on_by_the_buyer_it_is_second_hand_and_without_alerts(example: Story) -> None:
    told = [event for event, _ in example.told]
    example.told.clear()
    for event in told:
        example.sign(MAKER, event.statement, signer=WHOLESALER)
    belief = example.replay().belief(f"/01/{PACK_GTIN}/21/11")
    assert belief is not None
    assert (belief.unit_class, belief.destination, belief.evidence) == ("in_transit", WHOLESALER, "second_hand")
    assert (belief.alerts, belief.first_hand, belief.lot) == ((), False, "A123")
