from ledger.projections.facts import Part, fact_from_json, fact_to_json, party_of_uri, path_of, refs_of
from medtrail.event import PackLevel, Product
from medtrail.gs1 import Gtin
from tests.unit.projections.story import MAKER, PALLET, Story, pack, path, place


def test_fact_survives_its_storage(story: Story) -> None:
    story.commission(pack("1"))
    story.put(PALLET, pack("1"))
    story.ship(PALLET)
    story.declare(story.told[0][0])
    story.sign(MAKER, Product(Gtin("00300010123455"), PackLevel.PACK, "Epcistra"))
    for fact, _ in story.entries():
        assert fact_from_json(fact_to_json(fact)) == fact


def test_unit_named_twice_in_one_part_is_named_once(story: Story) -> None:
    event = story.commission(pack("1"), path(pack("1")).replace("/01/", "https://example.org/01/"))
    assert [(ref.unit, ref.part) for ref in refs_of(0, event)] == [(path(pack("1")), Part.OBJECT)]


def test_parties_are_read_in_every_spelling() -> None:
    assert party_of_uri("urn:epc:id:sgln:030001.111111.0") == MAKER
    assert party_of_uri(place(MAKER)) == MAKER
    assert party_of_uri(f"https://id.gs1.org/417/{MAKER}") == MAKER
    assert party_of_uri(pack("1")) == pack("1")
    assert party_of_uri("urn:example:party") == "urn:example:party"


def test_what_is_no_gs1_identifier_stands_for_itself() -> None:
    assert path_of("urn:example:box") == "urn:example:box"
