"""Keys, and their spellings as EPC URN, Digital Link and element text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import (
    EpcKey,
    Gln,
    Gtin,
    Lgtin,
    OtherKey,
    PrefixLengths,
    Sgln,
    Sgtin,
    Sscc,
    format_bracketed,
    format_element_string,
    near_miss,
    parse_epc,
    to_digital_link,
    to_urn,
    to_urn_or_none,
)
from medtrail.gs1.checks import check_digit
from medtrail.gs1.digital_link import link_of, read_link

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "gs1-epc.json").read_text(encoding="utf-8"))

GTIN = Gtin("09521321000018")


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["urn"])
def test_urn_link_and_element_text_are_one_key(vector: dict[str, str | int]) -> None:
    urn, path = str(vector["urn"]), str(vector["path"])
    key = parse_epc(urn)
    assert key.path == path
    assert key.digital_link == f"https://id.gs1.org{path}"
    assert parse_epc(key.digital_link) == key
    assert parse_epc(str(vector["bracketed"])) == key
    assert format_bracketed(key) == vector["bracketed"]
    assert to_digital_link(key) == key.digital_link
    assert to_urn(key, company_prefix_length=int(vector["prefix_length"])) == urn
    lengths = PrefixLengths()
    assert to_urn_or_none(key, lengths) is None
    lengths.learn(urn)
    assert to_urn_or_none(key, lengths) == urn


def code_of(text: str) -> str:
    with pytest.raises(MalformedError) as caught:
        parse_epc(text)
    return caught.value.code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "urn:uuid:7f1b2f6e-9d3c-4a53-a9c0-0a3b2b8a9d11",
        "urn:example:thing:1",
        "http://example.com/x",
        "https://example.com",
        "https://example.com/10/ABC",
        "https://example.com/gtin/09521321000018",
        "ftp://id.gs1.org/01/09521321000018",
        "urn:epc:id:gid:95100000.12345.400",
        "urn:epc:id:usdod:2S194.12345678901",
        "0109521321000018214711",
    ],
)
def test_leaves_what_is_not_gs1_to_the_caller(text: str) -> None:
    assert code_of(text) == "EPC_NOT_GS1"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("urn:epc:id:sgtin:030001.001234.1", "EPC_MALFORMED"),
        ("urn:epc:id:sgtin:030001.0012345", "EPC_MALFORMED"),
        ("urn:epc:id:sgtin:030001.0012345.", "EPC_MALFORMED"),
        ("urn:epc:class:lgtin:4012345.012345.", "EPC_MALFORMED"),
        ("urn:epc:id:grai:0614141.12345.", "EPC_MALFORMED"),
        ("urn:epc:id:sgtin:030001.0012345.a b", "EPC_MALFORMED"),
        ("urn:epc:id:sgtin:030001.0012345.%E4", "SERIAL_MALFORMED"),
        ("urn:epc:id:sgtin:030001.0012345.123456789012345678901", "SERIAL_MALFORMED"),
        ("urn:epc:id:sgtin:0300010012345..1", "EPC_MALFORMED"),
        ("urn:epc:id:sgtin:03x001.0012345.1", "EPC_MALFORMED"),
        ("urn:epc:id:sgtin:030001.00123x5.1", "EPC_MALFORMED"),
        ("urn:epc:id:lgtin:4012345.012345.998877", "EPC_MALFORMED"),
        ("urn:epc:class:sgtin:4012345.012345.998877", "EPC_MALFORMED"),
        ("urn:epc:id:nosuch:1.2.3", "EPC_MALFORMED"),
        ("urn:epc:tag:sgtin-96:3.0614141.812345.6789", "EPC_MALFORMED"),
        ("urn:epc:idpat:sgtin:030001.*.*", "EPC_PATTERN"),
        ("urn:epc:idpat:sgtin:030001.0012345.7", "EPC_PATTERN"),
        ("urn:epc:idpat:sscc:0614141.*", "EPC_PATTERN"),
        ("urn:epc:class:lgtin:4012345.012345.123456789012345678901", "LOT_MALFORMED"),
        ("urn:epc:id:sgln:0614141.12345.123456789012345678901", "EXTENSION_MALFORMED"),
        ("urn:epc:id:giai:0614141.1234567890123456789012345678901", "AI_VALUE_TOO_LONG"),
        ("https://id.gs1.org/01/09521321000019/21/4711", "CHECK_DIGIT_WRONG"),
        ("https://id.gs1.org/01/0952132100001/21/4711", "CHECK_DIGIT_WRONG"),
        ("https://id.gs1.org/01/1/21/4711", "AI_VALUE_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018/21/", "AI_VALUE_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018/21/4711/10/L", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018/17/271231", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018/21/<", "EPC_MALFORMED"),
        ("https://id$/01/09521321000018", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018?21=1", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018?10=L", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018?17=271231&17=271231", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018?17", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018?9=1", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018?99=a+b", "EPC_MALFORMED"),
        ("https://id.gs1.org/01/09521321000018?17=271331", "DATE_WRONG"),
        ("(01)09521321000018(21)", "AI_VALUE_MALFORMED"),
        ("(21)4711", "AI_MISSING"),
        ("(400)ORDER", "KEY_MISSING"),
        ("(01)09521321000018x(", "AI_VALUE_TOO_LONG"),
    ],
)
def test_refuses_gs1_identifiers_that_are_wrong(text: str, code: str) -> None:
    assert code_of(text) == code


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("URN:EPC:id:sgtin:030001.0012345.1", Sgtin(Gtin("00300010123455"), "1")),
        ("https://id.gs1.org/01/09521321000018/10/L1/21/4711?17=271231&linkType=all", Sgtin(GTIN, "4711")),
        ("HTTP://shop.example:8080/a/b/01/9521321000018/10/L%2F1#top", Lgtin(GTIN, "L/1")),
        ("https://[2001:db8::1]/01/09521321000018/22/2A", GTIN),
        ("https://example.com/414/9520123456788/254/a.b", Sgln(Gln("9520123456788"), "a.b")),
        ("https://example.com/00/01/00/106141412345678908?02=09521321000018&37=5", Sscc("106141412345678908")),
        ("https://example.com/8004/9520614141234567?01=09521321000018", OtherKey("8004", "9520614141234567")),
        ("https://a.b/8018/061414112345678902/8019/1", OtherKey("8018", "061414112345678902", (("8019", "1"),))),
        ("https://a.b/8006/040123451234560102/10/L", OtherKey("8006", "040123451234560102", (("10", "L"),))),
        ("https://a.b/8013/1987654Ad4X4bL5ttr2310c2K", OtherKey("8013", "1987654Ad4X4bL5ttr2310c2K")),
        (f"https://example.com/{'x' * 300}/01/09521321000018", GTIN),
        ("(01)09521321000018(10)L\\(1", Lgtin(GTIN, "L(1")),
        ("(00)106141412345678908(02)09521321000018(37)5", Sscc("106141412345678908")),
    ],
)
def test_reads_every_spelling(text: str, key: EpcKey) -> None:
    assert parse_epc(text) == key


@given(
    st.from_regex(r"[0-9]{13}", fullmatch=True), st.booleans(), st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)
)
def test_reads_a_pack_by_the_short_way_as_by_the_long_one(digits: str, right: bool, serial: str) -> None:
    last = check_digit(digits) if right else "0"
    text = f"https://id.gs1.org/01/{digits}{last}/21/{serial}"
    assert outcome(text) == outcome(f"{text}?")


def outcome(text: str) -> object:
    try:
        return parse_epc(text)
    except MalformedError as error:
        return error.code, error.facts


def test_refuses_text_over_eight_kibibytes() -> None:
    with pytest.raises(TooLargeError):
        parse_epc("x" * 8193)


@pytest.mark.parametrize(
    ("make", "arguments", "code"),
    [
        (Gtin, ("9521321000018",), "GTIN_MALFORMED"),
        (Gtin, ("0952132100001٨",), "GTIN_MALFORMED"),
        (Gtin, ("09521321000016",), "CHECK_DIGIT_WRONG"),
        (Gtin.parse, ("095213210000",), "CHECK_DIGIT_WRONG"),
        (Gtin.parse, ("123456789",), "GTIN_MALFORMED"),
        (Gln, ("952012345678",), "GLN_MALFORMED"),
        (Sscc, ("1" * 200,), "SSCC_MALFORMED"),
        (
            Sgtin,
            (
                GTIN,
                "",
            ),
            "SERIAL_MALFORMED",
        ),
        (
            Sgtin,
            (
                GTIN,
                "a b",
            ),
            "SERIAL_MALFORMED",
        ),
        (
            Lgtin,
            (
                GTIN,
                "x" * 21,
            ),
            "LOT_MALFORMED",
        ),
        (
            OtherKey,
            (
                "89",
                "1",
            ),
            "AI_UNKNOWN",
        ),
        (
            OtherKey,
            (
                "8003",
                "106141411234524",
            ),
            "AI_VALUE_MALFORMED",
        ),
    ],
)
def test_refuses_to_make_a_wrong_key(make: Callable[..., object], arguments: tuple[object, ...], code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        make(*arguments)
    assert caught.value.code == code


def test_keys_show_their_digits_and_sort() -> None:
    place = Gln("9520123456788")
    assert [str(GTIN), str(place), str(Sscc("106141412345678908"))] == [
        "09521321000018",
        "9520123456788",
        "106141412345678908",
    ]
    assert Gtin.parse("95050003") == Gtin("00000095050003")
    assert sorted([Sgln(place, "b"), Sgln(place), Sgln(place, "a")]) == [
        Sgln(place),
        Sgln(place, "a"),
        Sgln(place, "b"),
    ]
    assert Sgtin(GTIN, "1") < Sgtin(GTIN, "2")
    with pytest.raises(TypeError):
        assert Sgln(place) < GTIN


@pytest.mark.parametrize(
    ("key", "length"),
    [
        (GTIN, 3),
        (GTIN, 13),
        (OtherKey("8013", "1987654Ad4X4bL5ttr2310c2K"), 7),
        (OtherKey("8004", "0614141"), 7),
        (OtherKey("8010", "06141"), 7),
        (OtherKey("8018", "061414112345678902", (("8019", "1"),)), 7),
        (OtherKey("8006", "040123451234560102", (("10", "L"),)), 7),
        (OtherKey("01", "09521321000018"), 7),
    ],
)
def test_refuses_urns_that_do_not_exist(key: EpcKey, length: int) -> None:
    with pytest.raises(MalformedError) as caught:
        to_urn(key, company_prefix_length=length)
    assert caught.value.code == "URN_IMPOSSIBLE"


def test_writes_an_upui_class_as_the_trade_item() -> None:
    key = parse_epc("urn:epc:idpat:upui:1234567.089456.*")
    assert key == Gtin("01234567894560")


def test_never_guesses_a_prefix_length() -> None:
    lengths = PrefixLengths()
    lengths.learn_prefix("952132")
    assert lengths.length_of(GTIN) == 6
    assert lengths.length_of(Sscc("106141412345678908")) is None
    lengths.learn_prefix("9521321")
    assert lengths.length_of(GTIN) is None
    for wrong in ("952", "95213x"):
        with pytest.raises(MalformedError):
            lengths.learn_prefix(wrong)
    for wrong in ("https://id.gs1.org/01/09521321000018", "urn:epc:id:sgtin:1"):
        with pytest.raises(MalformedError) as caught:
            lengths.learn(wrong)
        assert caught.value.code == "EPC_MALFORMED"


def test_leaves_the_link_where_a_key_of_known_prefix_has_no_urn() -> None:
    lengths = PrefixLengths()
    lengths.learn_prefix("0614141")
    assert to_urn_or_none(OtherKey("8004", "0614141"), lengths) is None


def test_writes_links_with_attributes() -> None:
    elements = (("01", "09521321000018"), ("99", "x y".replace(" ", "/")), ("21", "47"), ("17", "271231"), ("10", "L"))
    assert (
        link_of(elements, stem="https://example.com/p/")
        == "https://example.com/p/01/09521321000018/10/L/21/47?17=271231&99=x%2Fy"
    )
    assert read_link(link_of(elements))[1] == (("17", "271231"), ("99", "x/y"))


@pytest.mark.parametrize(
    ("elements", "stem"),
    [
        ((("99", "x"),), "https://id.gs1.org"),
        ((("01", "09521321000018"), ("8200", "http://a")), "https://id.gs1.org"),
        ((("01", "09521321000018"), ("235", "A"), ("10", "B")), "https://id.gs1.org"),
        ((("01", "09521321000018"),), "id.gs1.org"),
        ((("01", "09521321000018"),), "https://id.gs1.org/a b"),
    ],
)
def test_refuses_links_that_cannot_be(elements: tuple[tuple[str, str], ...], stem: str) -> None:
    with pytest.raises(MalformedError) as caught:
        link_of(elements, stem=stem)
    assert caught.value.code == "LINK_IMPOSSIBLE"


def test_separates_only_values_of_open_length() -> None:
    assert format_element_string(Sgtin(GTIN, "47"), lot="L") == "010952132100001810L\x1d2147"
    assert format_bracketed(Lgtin(GTIN, "L(1")) == "(01)09521321000018(10)L\\(1"


@pytest.mark.parametrize(
    ("a", "b", "sign"),
    [
        ("ABC", "ABC", None),
        ("ABC", "ABD", None),
        ("Abc", "aBc", "case differs"),
        ("0012", "12", "leading zeros differ"),
        ("A0I", "AO1", "O/0 or I/1 confusion"),
        ("XYZ1", "XZY1", "Y and Z are swapped (keyboard layout)"),
        ("00ao", "A0", "case, leading zeros, or O/0 and I/1 differ"),
        ("AZ1", "QW1", "A and Q, Z and W are swapped (keyboard layout)"),
        ("AZ1", "QZ1", None),
    ],
)
def test_tells_in_what_near_misses_differ(a: str, b: str, sign: str | None) -> None:
    assert near_miss(a, b) == sign
