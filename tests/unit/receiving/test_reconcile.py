"""Reconciliation: every code by trigger and by near miss, and exhaustively against its table."""

import itertools
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln, Gtin, OtherKey, Sgtin, Sscc
from services.custody.receiving.codes import CASE_OF_RESULT, DECIDING, FOUND, MESSAGES, MISSING, ResultCode
from services.custody.receiving.labels import read_label
from services.custody.receiving.reconcile import Expected, Facts, Label, reconcile
from services.custody.receiving.sampling import choose, permille_of, sample_size

PACK = Sgtin(Gtin("00300010123455"), "1")
OTHER = Sgtin(Gtin("00300010123455"), "2")
TOTE_A = OtherKey("8003", "09521141123454A")
TOTE_B = OtherKey("8003", "09521141123454B")
DAY = date(2028, 3, 31)
US, THEM = Gln("9521321000018"), Gln("9521002000016")
LABEL = Label(PACK, "A123", DAY)
ADVISED = Expected("A123", DAY, (TOTE_A,))
FACTS = Facts(ours=frozenset({US}), expected=ADVISED)
UNADVISED = replace(FACTS, expected=None)
TODAY = date(2026, 3, 1)
M = ResultCode


def first(label: Label | None, facts: Facts) -> ResultCode:
    return reconcile(label, facts)[0]


def test_match_as_advised() -> None:
    assert reconcile(LABEL, FACTS) == (M.MATCH,)


@pytest.mark.parametrize(
    "label", [Label(PACK), Label(PACK, "A123"), Label(PACK, "", DAY)], ids=["number", "lot", "expiry"]
)
def test_match_where_the_label_says_less(label: Label) -> None:
    assert reconcile(label, FACTS) == (M.MATCH,)
    assert reconcile(LABEL, replace(FACTS, expected=Expected(label.lot, label.expiry))) == (M.MATCH,)


def test_no_match_of_what_nobody_advised() -> None:
    assert reconcile(LABEL, UNADVISED) == (M.OVER,)


def test_over_product_without_data() -> None:
    assert reconcile(LABEL, replace(UNADVISED, commissioned=True)) == (M.OVER,)


def test_no_over_when_advised_even_if_the_ledger_knows_nothing_of_it() -> None:
    assert reconcile(LABEL, replace(FACTS, commissioned=False)) == (M.MATCH,)


def test_wrong_lot_on_the_label() -> None:
    assert reconcile(replace(LABEL, lot="A124"), FACTS) == (M.WRONG_LOT,)


def test_no_wrong_lot_of_what_is_not_advised() -> None:
    assert reconcile(replace(LABEL, lot="A124"), UNADVISED) == (M.OVER,)


def test_wrong_expiry_on_the_label() -> None:
    assert reconcile(replace(LABEL, expiry=date(2028, 3, 30)), FACTS) == (M.WRONG_EXPIRY,)


def test_no_wrong_expiry_first_where_the_lot_differs_too() -> None:
    both = replace(LABEL, lot="A124", expiry=date(2029, 1, 31))
    assert reconcile(both, FACTS) == (M.WRONG_LOT, M.WRONG_EXPIRY)


def test_unknown_serial_by_the_ledgers_word() -> None:
    assert reconcile(LABEL, replace(UNADVISED, commissioned=False)) == (M.UNKNOWN_SERIAL,)


def test_no_unknown_serial_while_the_ledger_was_not_asked() -> None:
    assert reconcile(LABEL, replace(UNADVISED, commissioned=None)) == (M.OVER,)


def test_not_for_us_by_its_label() -> None:
    assert first(replace(LABEL, ship_to=THEM), FACTS) is M.NOT_FOR_US
    assert first(replace(LABEL, ship_to=THEM), UNADVISED) is M.NOT_FOR_US


def test_not_for_us_by_the_ledgers_word() -> None:
    assert reconcile(LABEL, replace(UNADVISED, sent_elsewhere=True)) == (M.NOT_FOR_US,)


def test_no_not_for_us_when_the_label_names_us_or_we_were_advised() -> None:
    assert reconcile(replace(LABEL, ship_to=US), FACTS) == (M.MATCH,)
    assert reconcile(LABEL, replace(FACTS, sent_elsewhere=True)) == (M.MATCH,)


def test_already_received_by_another_delivery() -> None:
    assert first(LABEL, replace(FACTS, received=True)) is M.ALREADY_RECEIVED
    assert first(LABEL, replace(UNADVISED, received=True)) is M.ALREADY_RECEIVED


def test_no_already_received_of_what_is_on_its_way() -> None:
    assert first(LABEL, replace(FACTS, received=False)) is M.MATCH


def test_already_scanned_in_this_delivery() -> None:
    assert reconcile(LABEL, replace(FACTS, before=LABEL)) == (M.ALREADY_SCANNED,)
    assert reconcile(LABEL, replace(FACTS, before=Label(PACK))) == (M.ALREADY_SCANNED,)


def test_no_already_scanned_when_a_second_pack_bears_the_serial_with_another_lot() -> None:
    assert reconcile(replace(LABEL, lot="B"), replace(FACTS, before=LABEL)) == (M.WRONG_LOT,)
    assert reconcile(LABEL, replace(FACTS, before=Label(OTHER))) == (M.MATCH,)


def test_other_container_than_the_advised_one() -> None:
    assert reconcile(LABEL, replace(FACTS, taken_from=TOTE_B)) == (M.OTHER_CONTAINER,)


@pytest.mark.parametrize("taken_from", [None, TOTE_A])
def test_no_other_container_from_its_own_or_when_nobody_says_which(taken_from: OtherKey | None) -> None:
    assert reconcile(LABEL, replace(FACTS, taken_from=taken_from)) == (M.MATCH,)


def test_no_other_container_of_what_is_not_advised() -> None:
    assert reconcile(LABEL, replace(UNADVISED, taken_from=TOTE_B)) == (M.OVER,)


def test_unreadable_when_nothing_was_read() -> None:
    assert reconcile(None, FACTS) == (M.UNREADABLE,)


def test_no_unreadable_of_a_number_alone() -> None:
    assert first(Label(PACK), UNADVISED) is M.OVER


def test_match_inferred_and_under_are_no_outcome_of_a_scan() -> None:
    assert not {M.MATCH_INFERRED, M.UNDER} & DECIDING


def test_every_combination_goes_by_the_table() -> None:
    flags = (False, True)
    for lot, expiry, advised, before, received, container, elsewhere, ship_to in itertools.product(
        ("A123", "B", ""),
        (DAY, date(2029, 1, 1), None),
        flags,
        flags,
        flags,
        (None, TOTE_A, TOTE_B),
        flags,
        (None, US, THEM),
    ):
        for commissioned in (None, False, True):
            label = Label(PACK, lot, expiry, ship_to)
            facts = Facts(
                ours=frozenset({US}),
                expected=ADVISED if advised else None,
                before=LABEL if before else None,
                received=received,
                taken_from=container,
                sent_elsewhere=elsewhere,
                commissioned=commissioned,
            )
            same = lot in {"", "A123"} and expiry in {None, DAY}
            wanted = (
                M.ALREADY_SCANNED
                if before and same
                else M.NOT_FOR_US
                if ship_to == THEM
                else M.ALREADY_RECEIVED
                if received
                else M.WRONG_LOT
                if advised and lot == "B"
                else M.WRONG_EXPIRY
                if advised and expiry not in {None, DAY}
                else M.OTHER_CONTAINER
                if advised and container == TOTE_B
                else M.MATCH
                if advised
                else M.NOT_FOR_US
                if elsewhere
                else M.UNKNOWN_SERIAL
                if commissioned is False
                else M.OVER
            )
            assert first(label, facts) is wanted


def test_every_code_has_a_message_its_tests_and_a_line_in_the_docs() -> None:
    root = Path(__file__).parents[3]
    docs = (root / "docs" / "receiving.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", docs, flags=re.MULTILINE))
    assert {code.value for code in ResultCode} <= rows
    names = " ".join(
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    for code in ResultCode:
        assert code in MESSAGES
        assert f"test_{code.value.lower()}_" in names, code
        assert f"test_no_{code.value.lower()}_" in names, code
    assert not set(CASE_OF_RESULT) & FOUND
    assert set(CASE_OF_RESULT) >= MISSING


# --- labels ---


def test_reads_a_pack_with_its_lot_and_expiry() -> None:
    scan = "]d2010030001012345521" + "1\x1d17280331" + "10A123"
    assert read_label(scan, today=TODAY) == LABEL


def test_reads_a_logistic_label_with_its_consignee() -> None:
    found = read_label("]C100" + "003000100000000015" + "410" + "9521002000016", today=TODAY)
    assert (found.unit, found.ship_to) == (Sscc("003000100000000015"), THEM)


@pytest.mark.parametrize(
    "text",
    ["urn:epc:id:sgtin:0300010.012345.1", "https://id.gs1.org/01/00300010123455/21/1"],
)
def test_reads_a_link_or_a_urn_without_lot(text: str) -> None:
    assert read_label(text, today=TODAY) == Label(PACK)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "SCAN_EMPTY"),
        ("01003000101234552112345", "SCANNER_NOT_CONFIGURED"),
        ("https://id.gs1.org/01/00300010123455", "UNIT_NOT_SERIALISED"),
        ("urn:epc:id:sgln:0300010.00000.0", "UNIT_NOT_SERIALISED"),
    ],
)
def test_refuses_what_names_no_single_thing(text: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_label(text, today=TODAY)
    assert caught.value.code == code


# --- samples ---


@pytest.mark.parametrize(("share", "permille"), [(0, 0), (0.1, 100), (0.0001, 1), (1, 1000), (0.333, 333)])
def test_a_share_above_nothing_is_never_nothing(share: float, permille: int) -> None:
    assert permille_of(share) == permille
    assert sample_size(1, permille=permille) == (1 if permille else 0)


def test_a_sample_is_the_share_rounded_up() -> None:
    assert [sample_size(packs, permille=100) for packs in (0, 1, 10, 11, 100)] == [0, 1, 1, 2, 10]


def test_a_sample_is_repeatable_and_other_for_another_secret_or_container() -> None:
    paths = [f"/01/00300010123455/21/{number}" for number in range(200)]
    secret = bytes(32)
    chosen = choose(paths, secret=secret, container="/00/1", permille=100)
    assert len(chosen) == 20
    assert chosen == choose(reversed(paths), secret=secret, container="/00/1", permille=100)
    assert chosen != choose(paths, secret=bytes([1]) * 32, container="/00/1", permille=100)
    assert chosen != choose(paths, secret=secret, container="/00/2", permille=100)


def test_every_pack_may_be_in_a_sample() -> None:
    paths = [f"/01/00300010123455/21/{number}" for number in range(20)]
    seen = {
        path
        for number in range(200)
        for path in choose(paths, secret=number.to_bytes(32, "big"), container="/00/1", permille=50)
    }
    assert seen == set(paths)
