"""The demo's goods: real identifiers, full pallets, counts that can be foretold."""

from datetime import date

import pytest

from medtrail.cli import story
from medtrail.gs1 import Gtin, Sgtin, Sscc, parse_epc, parse_scan, require_pack

TODAY = date(2026, 5, 4)
PALLETS = story.make_pallets(2400, today=TODAY)


@pytest.mark.parametrize(
    ("packs", "pallets"), [(1, 1), (199, 1), (200, 1), (201, 2), (2000, 10), (2400, 12), (2401, 13)]
)
def test_pallets_hold_at_least_so_many_packs_and_are_full(packs: int, pallets: int) -> None:
    made = story.make_pallets(packs, today=TODAY)
    assert len(made) == pallets
    assert [pallet.pack_count for pallet in made] == [story.PACKS_PER_PALLET] * pallets
    assert all(len(pallet.cases) == story.CASES_PER_PALLET for pallet in made)
    assert all(len(case.pack_serials) == story.PACKS_PER_CASE for pallet in made for case in pallet.cases)


def test_every_unit_has_an_identifier_of_its_own() -> None:
    cases = [case for pallet in PALLETS for case in pallet.cases]
    links = [pallet.link for pallet in PALLETS]
    links += [case.link for case in cases]
    links += [link for case in cases for link in case.pack_links]
    assert len(links) == len(set(links)) == 12 + 120 + 2400
    for link in links:
        assert parse_epc(link).digital_link == link


def test_identifiers_are_of_the_right_kind() -> None:
    for pallet in PALLETS:
        assert parse_epc(pallet.link) == Sscc(pallet.sscc)
        for case in pallet.cases:
            assert parse_epc(case.link) == Sgtin(story.CASE_GTIN, case.serial)
            assert parse_epc(case.pack_links[0]) == Sgtin(story.PACK_GTIN, case.pack_serials[0])


def test_case_groups_the_packs_trade_item() -> None:
    assert str(story.CASE_GTIN)[1:13] == str(story.PACK_GTIN)[1:13]
    assert Gtin(str(story.CASE_GTIN)) == story.CASE_GTIN


def test_many_pallets_still_have_valid_sscc() -> None:
    assert len({str(Sscc(pallet.sscc)) for pallet in story.make_pallets(200_000, today=TODAY)}) == 1000


def test_scans_are_those_of_packs() -> None:
    for pallet in PALLETS:
        for case in pallet.cases:
            scan = parse_scan(story.pack_scan(case.pack_serials[0], case.lot), today=TODAY)
            assert require_pack(scan) == Sgtin(story.PACK_GTIN, case.pack_serials[0])
            assert scan.lot == case.lot.number == pallet.lot.number
            assert scan.expiry is not None
            assert scan.expiry.day == case.lot.expiry
            assert scan.symbology == "]d2"
            assert scan.warnings == ()


def test_lots_are_good_recalled_and_expired() -> None:
    lots = [pallet.lot for pallet in PALLETS]
    assert [lot.number for lot in lots].count(story.RECALLED_LOT) == 7
    assert [lot.number for lot in lots].count(story.GOOD_LOT) == 4
    assert [lot.number for lot in lots[:4]] == [
        story.GOOD_LOT,
        story.RECALLED_LOT,
        story.RECALLED_LOT,
        story.GOOD_LOT,
    ]
    assert lots[-1].number == story.EXPIRED_LOT
    assert lots[-1].expiry < TODAY
    assert all(lot.expiry > TODAY for lot in lots[:-1])


def test_run_can_be_repeated() -> None:
    assert story.make_pallets(2400, today=TODAY) == PALLETS
    assert story.make_pallets(2400, today=date(2026, 1, 1)) == PALLETS


def test_leap_day_makes_a_story_too() -> None:
    assert story.make_pallets(1, today=date(2028, 2, 29))


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_chunks_keep_order_and_lose_nothing(count: int, sizes: list[int]) -> None:
    items = tuple(map(str, range(count)))
    chunks = list(story.in_chunks(items, 3))
    assert [len(chunk) for chunk in chunks] == sizes
    assert tuple(item for chunk in chunks for item in chunk) == items
