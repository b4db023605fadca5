"""Damage that scanners do: named by a stable code, never blamed on the pack, mended only as a suggestion."""

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.errors import MalformedError
from medtrail.gs1 import Scan, Sgtin, parse_scan, require_pack
from medtrail.gs1.keyboards import REPAIRS
from medtrail.gs1.scanner import ADVICE, SYMBOLS, Fault, diagnose, swallowed, symbol_advice

TODAY = date(2026, 6, 1)
GS = "\x1d"
PACK = f"01095213210000181727123110L1{GS}21AB4711"
PRINTED = "(01)09521321000018(17)271231(10)L1(21)AB4711"
LINK = "https://id.gs1.org/01/09521321000018/10/L1/21/AB4711?17=271231"
KERNEL = Path(__file__).resolve().parents[3] / "medtrail"
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "scanning.md"


def typed(text: str, *, scanner: str, computer: str) -> str:
    """Return what a computer shows of what a scanner types for another layout."""
    repair = next(back for sent, came, back in REPAIRS if (sent, came) == (scanner, computer))
    return text.translate({sent: came for came, sent in repair.items()})


def fault_of(text: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        require_pack(parse_scan(text, today=TODAY))
    assert caught.value.code == "SCANNER_NOT_CONFIGURED"
    assert "your scanner, not about the pack" in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (f"]d2{PACK}".replace(GS, ""), "SEPARATOR_MISSING"),
        (PACK.replace(GS, "|"), "SEPARATOR_REPLACED"),
        (PACK.replace(GS, "\x1e"), "SEPARATOR_REPLACED"),
        (PACK.replace(GS, " "), "SEPARATOR_REPLACED"),
        (PACK.replace(GS, "<GS>"), "SEPARATOR_REPLACED"),
        (PACK.replace(GS, "\\x1d"), "SEPARATOR_REPLACED"),
        (f"]C1{PACK}".replace(GS, "]C1"), "SEPARATOR_REPLACED"),
        (f"è{PACK}".replace(GS, "è"), "SEPARATOR_REPLACED"),
        (f"]d2{PACK}".swapcase(), "CASE_INVERTED"),
        (f"]e0{PACK}".swapcase(), "CASE_INVERTED"),
        (f"]d2{PACK}".replace(GS, "").swapcase(), "CASE_INVERTED,SEPARATOR_MISSING"),
        (LINK.swapcase(), "CASE_INVERTED"),
        (typed(f"]d2{PACK}", scanner="US", computer="German"), "KEYBOARD_LAYOUT"),
        (typed(f"]d2{PACK}", scanner="US", computer="French"), "KEYBOARD_LAYOUT"),
        (typed(PACK, scanner="US", computer="French"), "KEYBOARD_LAYOUT"),
        (typed(PACK, scanner="French", computer="US"), "KEYBOARD_LAYOUT"),
        (typed(f"]d2{PACK}", scanner="US", computer="Belgian").swapcase(), "KEYBOARD_LAYOUT,CASE_INVERTED"),
        (typed(f"]d2{PACK}".replace(GS, ""), scanner="US", computer="French"), "KEYBOARD_LAYOUT,SEPARATOR_MISSING"),
        (typed(f"]d2{PACK}".replace(GS, "|"), scanner="US", computer="French"), "KEYBOARD_LAYOUT,SEPARATOR_REPLACED"),
        (typed(LINK, scanner="US", computer="German"), "KEYBOARD_LAYOUT"),
        (typed(LINK, scanner="US", computer="French"), "KEYBOARD_LAYOUT"),
    ],
)
def test_names_the_fault_and_suggests_what_the_code_says(text: str, faults: str) -> None:
    error = fault_of(text)
    assert error.facts["fault"] == faults
    mended = parse_scan(error.facts["suggestion"], today=TODAY)
    assert dict(mended.ais) == dict(parse_scan(PRINTED, today=TODAY).ais)
    for fault in faults.split(","):
        assert ADVICE[Fault(fault)][1] in error.message


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        # German, Spanish and Italian computers show the same mark; they differ in what Y and Z become.
        (typed(f"]d2{PACK}Z", scanner="US", computer="German"), "KEYBOARD_LAYOUT"),
        (f"]c1{PACK}".lower(), "SHIFT_LOST"),
        # Two dates in a serial: the expiry may be either.
        ("]d20109521321000018" + "10L1" + "21" + "17271231" + "17281231", "SEPARATOR_MISSING"),
        # A percent sign may end the lot or stand for the separator.
        (PACK.replace(GS, "%"), "SEPARATOR_MISSING"),
        ("+d2010952132100001921", "PREFIX_GARBLED"),
        ("]D20109521321000019214711", "CASE_INVERTED"),
        ("httpsÖ--id.gs1.org-01-09521321000019", "KEYBOARD_LAYOUT"),
        (f"010952132100001821{'1' * 21}", "SEPARATOR_MISSING"),
        ("0109521321000019211^17271231", "SEPARATOR_REPLACED"),
        ("]d20109521321000018214711", "ELEMENTS_MISSING"),
        # Three ways to spell the lot make no pack of it.
        ("]d20109521321000018214/7-1_1", "ELEMENTS_MISSING"),
    ],
)
def test_names_the_fault_and_suggests_nothing_where_nothing_is_sure(text: str, faults: str) -> None:
    error = fault_of(text)
    assert error.facts == {"fault": faults}


def test_suggests_a_replaced_separator_if_nothing_else_reads_as_a_pack() -> None:
    error = fault_of("]d2010952132100001817271231" + "10L1234567890123456789%21A")
    assert error.facts["fault"] == "SEPARATOR_REPLACED"
    assert error.facts["suggestion"] == "(01)09521321000018(17)271231(10)L1234567890123456789(21)A"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # Wrong data from a scanner that works: whose fault it is, is not guessed.
        ("]d20109521321000019214711", "CHECK_DIGIT_WRONG"),
        (f"ä{PACK}", "AI_UNKNOWN"),
        (f"]d2{PACK}Ω", "AI_VALUE_MALFORMED"),
        ("(01)09521321000018(21)A|B", "AI_VALUE_MALFORMED"),
        ("]E09521321000018", "SCAN_LINEAR_ONLY"),
        ("]d189|X", "SCAN_NOT_GS1"),
        ("https://id.gs1.org/AQnYUc1gmiCNV4JG", "LINK_COMPRESSED"),
        ("]d20109521321000019" + "91" + "X" * 600, "CHECK_DIGIT_WRONG"),
    ],
)
def test_does_not_blame_the_scanner_for_data_that_are_wrong(text: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_scan(text, today=TODAY)
    assert caught.value.code == code


def test_warns_of_a_serial_that_may_have_swallowed_what_follows() -> None:
    scan = parse_scan("]d2010952132100001821471110L117271231", today=TODAY)
    assert scan.serial == "471110L117271231"
    assert "group separator missing" in scan.warnings[0]
    assert parse_scan("]d20109521321000018214711", today=TODAY).warnings == ()


def test_reads_a_link_with_names_of_the_first_edition_and_warns() -> None:
    scan = parse_scan("https://example.com/gtin/09521321000018/lot/L1/ser/4711?17=271231", today=TODAY)
    assert require_pack(scan).path == "/01/09521321000018/21/4711"
    assert "no longer" in scan.warnings[0]


def test_reads_a_link_spelled_in_capitals_as_a_qr_code_may() -> None:
    scan = parse_scan(LINK.upper(), today=TODAY)
    assert scan.serial == "AB4711"


@pytest.mark.parametrize("separator", ["|", "{GS}", "\x1e", "<GS>|"])
def test_takes_the_separator_that_a_scanner_is_set_to_send(separator: str) -> None:
    found: Scan = parse_scan(f"]d2{PACK}".replace(GS, separator), today=TODAY, separator=separator)
    assert require_pack(found).serial == "AB4711"


@pytest.mark.parametrize("separator", ["", "%", "<GS>"])
def test_refuses_a_separator_that_may_stand_in_data(separator: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_scan(PACK, today=TODAY, separator=separator)
    assert caught.value.code == "SEPARATOR_AMBIGUOUS"


@pytest.mark.parametrize("around", [("\x02", "\x03"), ("\0", "\x04"), ("\ufeff\t", "\r\n"), ("", "\r")])
def test_drops_what_serial_lines_and_wedges_put_around_a_scan(around: tuple[str, str]) -> None:
    found = parse_scan(f"{around[0]}]d2{PACK}{around[1]}", today=TODAY)
    assert require_pack(found).serial == "AB4711"


@pytest.mark.parametrize("symbology", ["]d1", "]d4", "]Q1", "]C0", "]J0", "]I1", "]A0", "]L2", "]X0", "]z9"])
def test_says_what_to_scan_instead_of_other_symbols(symbology: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_scan(symbology + PACK, today=TODAY)
    assert caught.value.code == "SCAN_NOT_GS1"
    assert symbol_advice(symbology) in caught.value.message


def test_finds_lost_separators_in_bounded_steps() -> None:
    assert swallowed("0109521321000018" + "1010101010" * 20) == ()
    assert swallowed("1" * 600) == ()
    assert diagnose("10" * 300, MalformedError("", code="AI_UNKNOWN")) is None


_LETTERS = st.text("ABCDEFGHIJKLMNOPQRSTUVWX0123456789", min_size=1, max_size=12)


@given(_LETTERS, _LETTERS, st.sampled_from(sorted({name for _, name, _ in REPAIRS} - {"US", "British"})))
def test_never_suggests_another_pack_than_was_scanned(serial: str, lot: str, computer: str) -> None:
    came = typed(f"]d201095213210000181727123110{lot}{GS}21{serial}", scanner="US", computer=computer)
    error = fault_of(came)
    if "suggestion" in error.facts:
        mended = require_pack(parse_scan(error.facts["suggestion"], today=TODAY))
        assert mended == Sgtin(mended.gtin, serial)


def test_the_guide_explains_every_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    sources = [KERNEL / "gs1" / f"{name}.py" for name in ("scan", "scanner", "elements", "content", "digital_link")]
    sources += [KERNEL / "gs1" / "expiry.py", KERNEL / "labels.py", KERNEL / "cli" / "labels.py"]
    found = {code for path in sources for code in re.findall(r'code="([A-Z_0-9]+)"', path.read_text(encoding="utf-8"))}
    codes = {*Fault, "TOO_LARGE", "GTIN_MALFORMED"} | found
    assert len(found) > 20
    assert sorted(code for code in codes if f"`{code}`" not in text) == []
    assert sorted(mark for mark in SYMBOLS if f"`{mark}" not in text) == []
