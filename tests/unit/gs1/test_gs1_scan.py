"""Scans of packs, cases and pallets; scanners that are set up wrongly; what is written back."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import (
    Expiry,
    Gln,
    Gtin,
    PrefixLengths,
    Scan,
    Sgtin,
    Spelling,
    Sscc,
    describe,
    elements_of,
    format_bracketed,
    format_element_string,
    gtins_of_ndc,
    ndc10_of,
    ndc10s_of,
    ndc11_of,
    parse_epc,
    parse_scan,
    require_pack,
    to_digital_link,
)
from medtrail.gs1.content import check_charset, check_content, check_value
from medtrail.gs1.elements import check_associations, key_of, read_bracketed, read_element_string

TODAY = date(2026, 6, 1)
GTIN = Gtin("09521321000018")
PACK = "010952132100001817271231" + "10L1\x1d214711"


def scan(text: str) -> Scan:
    return parse_scan(text, today=TODAY)


def refused(text: str) -> str:
    with pytest.raises(MalformedError) as caught:
        scan(text)
    return caught.value.code


@pytest.mark.parametrize("before", ["]d2", "]Q3", "]C1", "]J1", "", "\x1d", " "])
@pytest.mark.parametrize("after", ["", "\r\n", "\x1d\t"])
def test_reads_a_pack_as_any_scanner_sends_it(before: str, after: str) -> None:
    found = scan(before + PACK + after)
    assert found.key == found.sgtin == require_pack(found) == Sgtin(GTIN, "4711")
    assert (found.lot, found.expiry, found.warnings) == ("L1", Expiry(date(2027, 12, 31)), ())
    assert found.symbology == (before if before.startswith("]") else None)


@pytest.mark.parametrize(
    ("text", "spelling", "symbology"),
    [
        ("(01)09521321000018(17)271231(10)L1(21)4711", Spelling.BRACKETED, None),
        ("https://id.gs1.org/01/09521321000018/10/L1/21/4711?17=271231", Spelling.LINK, None),
        ("]Q1https://id.gs1.org/01/09521321000018/10/L1/21/4711?17=271231", Spelling.LINK, "]Q1"),
        ("]d1https://id.gs1.org/01/09521321000018/10/L1/21/4711?17=271231", Spelling.LINK, "]d1"),
    ],
)
def test_reads_print_and_links(text: str, spelling: Spelling, symbology: str | None) -> None:
    found = scan(text)
    assert (found.spelling, found.symbology) == (spelling, symbology)
    assert require_pack(found) == Sgtin(GTIN, "4711")
    assert to_digital_link(found) == "https://id.gs1.org/01/09521321000018/10/L1/21/4711?17=271231"


def test_reads_a_pallet_and_a_place() -> None:
    pallet = scan("]C100106141412345678908" + "0209521321000018" + "3712")
    assert pallet.key == pallet.sscc == Sscc("106141412345678908")
    assert pallet.sgtin is None
    assert scan("4149520123456788").gln == Gln("9520123456788")
    assert scan("4179520123456788").gln == Gln("9520123456788")


def test_takes_the_key_of_a_link_from_its_path() -> None:
    found = scan("https://a.b/8004/9520614141234567?01=09521321000018")
    assert found.key.path == "/8004/9520614141234567"
    assert found.gtin == GTIN


def test_reads_day_zero_as_the_last_of_the_month_and_warns_and_refuses_to_write_it() -> None:
    found = scan("]d20109521321000018172802001" + "0L1\x1d214711")
    assert found.expiry == Expiry(date(2028, 2, 29), day_given=False)
    assert "2028-02-29" in found.warnings[0]
    assert "2028-02-29" in describe(found)["warnings"]
    with pytest.raises(MalformedError) as caught:
        elements_of(Sgtin(GTIN, "1"), expiry=found.expiry)
    assert caught.value.code == "EXPIRY_DAY_MISSING"


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("760601", date(2076, 6, 1)),
        ("770601", date(1977, 6, 1)),
        ("260601", date(2026, 6, 1)),
        ("000229", date(2000, 2, 29)),
    ],
)
def test_slides_the_century(text: str, day: date) -> None:
    expiry = Expiry.parse(text, today=TODAY)
    assert expiry.usable_until == day
    assert expiry.yymmdd() == text
    assert str(expiry) == day.isoformat()


def test_slides_the_century_forward_near_its_end() -> None:
    assert Expiry.parse("310101", today=date(2095, 1, 1)).day == date(2131, 1, 1)


@pytest.mark.parametrize("text", ["", "27123", "2712311", "271331", "270230", "270000", "27123x", "27123٣"])
def test_refuses_days_that_do_not_exist(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Expiry.parse(text, today=TODAY)
    assert caught.value.code == "DATE_WRONG"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "SCAN_EMPTY"),
        ("]d2", "SCAN_EMPTY"),
        ("]d2\x1d", "ELEMENTS_MALFORMED"),
        ("9521321000018", "SCAN_LINEAR_ONLY"),
        ("95050003", "SCAN_LINEAR_ONLY"),
        ("952132100001", "SCAN_LINEAR_ONLY"),
        ("]E09521321000018", "SCAN_LINEAR_ONLY"),
        ("]E495050003", "SCAN_LINEAR_ONLY"),
        (f"]d1{PACK}", "SCAN_NOT_GS1"),
        ("]d1(01)09521321000018", "SCAN_NOT_GS1"),
        ("]Q1hello", "SCAN_NOT_GS1"),
        (f"]D2{PACK}", "SCANNER_NOT_CONFIGURED"),
        (f"]c1{PACK}", "SCANNER_NOT_CONFIGURED"),
        (f"+d2{PACK}", "SCANNER_NOT_CONFIGURED"),
        (f"ä{PACK}", "AI_UNKNOWN"),
        ("httpsÖ--id.gs1.org-01-09521321000018", "SCANNER_NOT_CONFIGURED"),
        (PACK.replace("\x1d", "<GS>"), "SCANNER_NOT_CONFIGURED"),
        (PACK.replace("\x1d", "^"), "SCANNER_NOT_CONFIGURED"),
        (PACK.replace("\x1d", "\u241d"), "SCANNER_NOT_CONFIGURED"),
        ("]d2" + "0109521321000018" + "211234567890ABC" + "17271231" + "10LOT", "SCANNER_NOT_CONFIGURED"),
        ("]d2" + "0109521321000018" + "211234567890ABC1234567890\x1d17271231", "AI_VALUE_TOO_LONG"),
        ("]d20109521321000019214711", "CHECK_DIGIT_WRONG"),
        ("]d20109521321000018172713312147", "DATE_WRONG"),
        ("]d2214711", "AI_MISSING"),
        ("]d20209521321000018", "AI_MISSING"),
        ("]d20109521321000018214711\x1d214712", "AI_REPEATED"),
        ("]d201095213210000180209521321000018375", "AI_EXCLUDED"),
        ("]d2010952132100001821\x1d10L", "AI_VALUE_MALFORMED"),
        ("]d20109521321000018214 711", "AI_VALUE_MALFORMED"),
        ("]d289X", "AI_UNKNOWN"),
        ("]d2(01)09521321000018", "AI_UNKNOWN"),
        ("(01)09521321000018[21]4711", "AI_VALUE_TOO_LONG"),
        ("(x)1", "ELEMENTS_MALFORMED"),
        ("https://example.com/x", "EPC_NOT_GS1"),
    ],
)
def test_refuses_with_a_code_that_says_whose_fault_it_is(text: str, code: str) -> None:
    assert refused(text) == code


def test_says_what_to_do_about_the_scanner_and_does_not_accuse_the_pack() -> None:
    with pytest.raises(MalformedError) as caught:
        scan(f"]D2{PACK}")
    assert "not about the pack" in caught.value.message
    assert "caps lock" in caught.value.message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("]d20109521321000018214711", "SCANNER_NOT_CONFIGURED"),
        # The serial swallowed lot and expiry, and what is left still parses.
        ("]d2010952132100001821471110L117271231", "SCANNER_NOT_CONFIGURED"),
        # The lot swallowed the serial.
        ("]d201095213210000181727123110L1214711", "SCANNER_NOT_CONFIGURED"),
        ("]e00109521321000018", "SCAN_LINEAR_ONLY"),
        ("]d200106141412345678908", "SCAN_NOT_PACK"),
        ("(01)09521321000018(21)4711", "PACK_INCOMPLETE"),
        ("https://id.gs1.org/01/09521321000018/21/4711", "PACK_INCOMPLETE"),
        ("https://id.gs1.org/01/09521321000018", "PACK_INCOMPLETE"),
    ],
)
def test_refuses_a_pack_that_does_not_show_all_four(text: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        require_pack(scan(text))
    assert caught.value.code == code


def test_refuses_a_scan_over_eight_kibibytes() -> None:
    with pytest.raises(TooLargeError):
        scan("]d2" + "1" * 8190)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                ["]d2", "]C1", "]e0", "\x1d", "(01)", "(21)", "01", "09521321000018", "21", "10", "17", "00", "8010"]
            )
            | st.sampled_from(
                ["271231", "AB-1", "https://a.b/", "/", "?", "&17=", "%2F", "%", "8006", "é", "^", "\\(", "255", "٣"]
            ),
            max_size=8,
        ).map("".join),
    )
)
def test_lets_nothing_but_malformed_errors_out(text: str) -> None:
    for read in (scan, parse_epc):
        try:
            found = read(text)
        except MalformedError:
            continue
        if isinstance(found, Scan):
            written = parse_scan("]d2" + format_element_string(found), today=TODAY)
            assert dict(written.ais) == dict(found.ais)
        else:
            assert parse_epc(found.digital_link) == found


_SERIALS = st.text("!\"%&'()*+,-./09:;<=>?AZ_az", min_size=1, max_size=20)


@given(_SERIALS, _SERIALS)
def test_reads_back_what_it_writes(serial: str, lot: str) -> None:
    expiry = Expiry(date(2030, 1, 31))
    key = Sgtin(GTIN, serial)
    for text in (
        "]d2" + format_element_string(key, lot=lot, expiry=expiry).replace("<GS>", "<gs>"),
        format_bracketed(key, lot=lot, expiry=expiry),
        to_digital_link(key, lot=lot, expiry=expiry),
    ):
        assert require_pack(scan(text)) == key
    assert parse_epc(key.digital_link) == key


def test_describes_an_identifier_in_its_spellings() -> None:
    lengths = PrefixLengths()
    lengths.learn_prefix("952132")
    assert describe(scan(f"]d2{PACK}"), prefix_lengths=lengths) == {
        "kind": "pack (SGTIN)",
        "key": "/01/09521321000018/21/4711",
        "gtin": "09521321000018",
        "serial": "4711",
        "lot": "L1",
        "expiry": "2027-12-31",
        "symbology": "]d2",
        "element_string": "(01)09521321000018(17)271231(10)L1(21)4711",
        "urn": "urn:epc:id:sgtin:952132.0100001.4711",
        "digital_link": "https://id.gs1.org/01/09521321000018/21/4711",
    }
    assert describe(Sscc("106141412345678908")) == {
        "kind": "logistic unit (SSCC)",
        "key": "/00/106141412345678908",
        "sscc": "106141412345678908",
        "element_string": "(00)106141412345678908",
        "digital_link": "https://id.gs1.org/00/106141412345678908",
    }
    assert describe(scan("4149520123456788"))["kind"] == "place (SGLN)"
    assert describe(parse_epc("(8004)9520614141234567"))["kind"] == "other GS1 key"


def test_finds_ndcs_in_gtins_and_gtins_of_ndcs() -> None:
    gtin = Gtin("00300021433802")
    assert ndc10_of(gtin) == "0002143380"
    assert ndc10_of(GTIN) is None
    assert ndc11_of(GTIN) == ()
    assert "00002143380" in ndc11_of(gtin)
    for written in ("0002-1433-80", "0002143380", "00002143380", "00002-1433-80"):
        assert gtin in gtins_of_ndc(written)
    assert gtins_of_ndc("50242-040-62") == (Gtin("00350242040624"),)
    assert ndc10s_of("50242-0040-62") == ("5024204062",)
    assert str(gtins_of_ndc("0002143380", indicator=5)[0]).startswith("503")


@pytest.mark.parametrize("text", ["", "0002-14338-0", "12345678", "11111111111", "0002-1433-8x", "0002-143380"])
def test_refuses_what_is_no_ndc(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        ndc10s_of(text)
    assert caught.value.code == "NDC_MALFORMED"


def test_refuses_an_indicator_of_variable_measure() -> None:
    with pytest.raises(MalformedError):
        gtins_of_ndc("0002143380", indicator=9)


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        ("csum", "1234567890128", "1234567890129"),
        ("csum", "12345678901231", "1"),
        ("csumalpha", "1987654Ad4X4bL5ttr2310c2K", "1987654Ad4X4bL5ttr2310c2J"),
        ("csumalpha", "00000!HV", "2K"),
        ("hasnondigit", "1A1", "111"),
        ("hh", "23", "24"),
        ("hhmi", "2359", "2360"),
        ("hyphen", "-", "x"),
        ("iban", "GB98MIDL07009312345678", "GB97MIDL07009312345678"),
        ("iban", "CH5604835012345678009", "XX361234567890"),
        ("importeridx", "-", "!"),
        ("iso3166", "276", "999"),
        ("iso3166999", "999", "000"),
        ("iso3166alpha2", "DE", "XX"),
        ("iso4217", "978", "000"),
        ("iso5218", "9", "3"),
        ("latitude", "1800000000", "1800000001"),
        ("longitude", "3600000000", "360000000"),
        ("mediatype", "80", "11"),
        ("mi", "59", "60"),
        ("nonzero", "010", "000"),
        ("nozeroprefix", "10", "01"),
        ("packagetype", "PE", "p"),
        ("pcenc", "a%20b", "a%2"),
        ("pieceoftotal", "0103", "0301"),
        ("pieceoftotal", "001001", "111"),
        ("posinseqslash", "1/2", "2/1"),
        ("posinseqslash", "9/9", "0/1"),
        ("ss", "00", "6"),
        ("winding", "9", "2"),
        ("yesno", "0", "2"),
        ("yymmd0", "240200", "240230"),
        ("yymmdd", "240229", "240200"),
        ("yymmdd", "991231", "24022"),
        ("yyyymmd0", "20240200", "20241301"),
        ("yyyymmdd", "20240229", "21000229"),
        ("zero", "0", "1"),
    ],
)
def test_content_rules_tell_right_from_wrong(rule: str, right: str, wrong: str) -> None:
    check_content(rule, right)
    with pytest.raises(MalformedError) as caught:
        check_content(rule, wrong)
    assert caught.value.facts["rule"] == rule


@pytest.mark.parametrize(
    ("charset", "right", "wrong"),
    [("N", "12", "1x"), ("X", "a/_", "a^"), ("Y", "A#-/", "a"), ("Z", "AB_-", "AB+"), ("Z", "12=", "12==")],
)
def test_character_sets_tell_right_from_wrong(charset: str, right: str, wrong: str) -> None:
    check_charset(charset, right)
    with pytest.raises(MalformedError):
        check_charset(charset, wrong)


@pytest.mark.parametrize(
    ("ai", "right", "wrong"),
    [
        ("423", "276040", "27604"),
        ("253", "1231231231232", "1231231231232123456789012345678"),
        ("8008", "27123123", "271231235960"),
        ("8003", "00614141123452", "10614141123452"),
    ],
)
def test_values_of_several_components_are_checked_one_by_one(ai: str, right: str, wrong: str) -> None:
    check_value(ai, right)
    with pytest.raises(MalformedError) as caught:
        check_value(ai, wrong)
    assert caught.value.facts["ai"] == ai


def test_a_signature_needs_the_serial_component_of_its_key() -> None:
    check_associations(read_bracketed("(253)1234567890128X(8030)ABC123"))
    with pytest.raises(MalformedError) as caught:
        check_associations(read_bracketed("(8003)01234567890128(8030)ABC123"))
    assert caught.value.code == "AI_MISSING"


def test_refuses_an_empty_element_string() -> None:
    for read in (read_element_string, read_bracketed):
        with pytest.raises(MalformedError) as caught:
            read("")
        assert caught.value.code == "ELEMENTS_MALFORMED"


def test_names_a_logistic_unit_that_is_a_trade_item_by_its_sscc() -> None:
    assert key_of((("01", GTIN.digits), ("21", "1"), ("00", "106141412345678908"))) == Sscc("106141412345678908")
