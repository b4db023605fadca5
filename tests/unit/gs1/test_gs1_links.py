"""GS1 Digital Links in and out: keys, qualifiers, aliases, canonical form, compressed links, limits."""

import string
from datetime import date
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import format_element_string, parse_scan
from medtrail.gs1.ai_table import AIS, DIGITAL_LINK_KEYS, Component
from medtrail.gs1.checks import check_digit, check_pair
from medtrail.gs1.content import check_content, check_value
from medtrail.gs1.digital_link import canonical_link, link_of, read_link
from medtrail.gs1.elements import Element, check_associations

TODAY = date(2026, 6, 1)
_X = "!\"%&'()*+,-./:;<=>?_" + string.ascii_letters + string.digits
_ALPHABETS = {"N": string.digits, "X": _X, "Y": "#-/" + string.digits + string.ascii_uppercase, "Z": "AZaz09_-"}


def _values(ai: str) -> st.SearchStrategy[str]:
    """Return values that an AI holds: text of its form, mended where a rule wants a check digit or a prefix."""
    return st.tuples(*map(_component, AIS[ai].components)).map("".join).filter(lambda value: _holds(ai, value))


def _holds(ai: str, value: str) -> bool:
    try:
        check_value(ai, value)
    except MalformedError:
        return False
    return True


def _component(component: Component) -> st.SearchStrategy[str]:
    fixed = {
        "csumalpha": st.integers(1000, 99_999).map(lambda number: f"{number}{check_pair(str(number))}"),
        "csum": st.text(string.digits, min_size=component.longest - 1, max_size=component.longest - 1).map(
            lambda digits: digits + check_digit(digits)
        ),
        "pieceoftotal": st.just("0102"),
        "gcppos1": st.text(string.digits, min_size=4, max_size=component.longest),
        "nozeroprefix": st.integers(1, 10**11).map(str),
        "importeridx": st.just("a"),
        "zero": st.just("0"),
        "yymmd0": st.just("271231"),
    }
    for rule in component.rules:
        if rule in fixed:
            return fixed[rule]
    return st.text(_ALPHABETS[component.charset], min_size=component.shortest, max_size=component.longest)


@st.composite
def _linked(draw: st.DrawFn) -> tuple[Element, ...]:
    """Draw a key, some of its qualifiers in order, and attributes that may stand beside them."""
    key = draw(st.sampled_from(sorted(DIGITAL_LINK_KEYS)))
    sequence = draw(st.sampled_from(DIGITAL_LINK_KEYS[key]))
    names = [key, *(ai for ai in sequence if draw(st.booleans()))]
    # Two keys name nothing without their qualifier.
    names += [ai for ai in sequence if key == "415" and ai not in names]
    # The dictionary lets AI 22 follow AI 8006 in a link, and wants AI 01 beside it.
    elements = [(ai, draw(_values(ai))) for ai in names if (key, ai) != ("8006", "22")]
    for ai in draw(st.lists(st.sampled_from(["17", "11", "99", "98"]), unique=True, max_size=3)):
        candidate = (*elements, (ai, draw(_values(ai))))
        if _may_stand(candidate):
            elements = [*candidate]
    return tuple(elements)


def _may_stand(elements: tuple[Element, ...]) -> bool:
    try:
        check_associations(elements)
    except MalformedError:
        return False
    return True


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(_linked(), st.sampled_from(["https://id.gs1.org", "http://a.example:8080/some/path/", "HTTPS://EXAMPLE.COM"]))
def test_what_is_written_as_link_or_element_string_is_read_back(elements: tuple[Element, ...], stem: str) -> None:
    check_associations(elements)
    link = link_of(elements, stem=stem)
    named, attributes = read_link(link)
    assert dict((*named, *attributes)) == dict(elements)
    scanned = parse_scan("]d2" + format_element_string(elements), today=TODAY)
    assert dict(scanned.ais) == dict(elements)
    assert canonical_link(link) == canonical_link(link_of(scanned.ais, stem="https://elsewhere.example"))
    assert canonical_link(canonical_link(link)) == canonical_link(link)


@pytest.mark.parametrize("key", sorted(DIGITAL_LINK_KEYS))
def test_reads_every_key_with_all_its_qualifiers(key: str) -> None:
    examples: dict[str, str] = {
        "00": "106141412345678908",
        "01": "09521321000018",
        "10": "L/1",
        "21": "4%711",
        "22": "V",
        "235": "T",
        "254": "X",
        "401": "9521321AB",
        "7040": "1ABC",
        "8004": "9521321AB",
        "8006": "095213210000180102",
        "8010": "9521321AB#",
        "8011": "12",
        "8013": "1987654Ad4X4bL5ttr2310c2K",
        "8019": "1",
        "8020": "REF",
    }
    for ai, digits in (("402", 17), ("8017", 18), ("8018", 18), ("255", 13), ("414", 13), ("415", 13), ("417", 13)):
        payload = "9521321".ljust(digits - 1, "0")
        examples[ai] = payload + check_digit(payload)
    examples["253"], examples["8003"] = f"{examples['255']}A", f"0{examples['255']}Z"
    for sequence in DIGITAL_LINK_KEYS[key]:
        elements = tuple((ai, examples[ai]) for ai in (key, *sequence))
        path = "".join(f"/{ai}/{quote(value, safe='')}" for ai, value in elements)
        assert read_link(f"https://example.com/a/b{path}") == (elements, ())


def test_writes_a_link_in_canonical_form() -> None:
    link = "http://Example.com/x/gtin/9521321000018/ser/4%37?unknown=1&99=b&17=271231&linkType=pip#part"
    assert canonical_link(link) == "https://id.gs1.org/01/09521321000018/21/47?17=271231&99=b"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/gtin/09521321000018/cpv/V/lot/L/ser/S", "/01/09521321000018/22/V/10/L/21/S"),
        ("/sscc/106141412345678908", "/00/106141412345678908"),
        ("/gln/9520123456788/glnx/X", "/414/9520123456788/254/X"),
        ("/payTo/9520123456788/refno/R", "/415/9520123456788/8020/R"),
        ("/party/9520123456788", "/417/9520123456788"),
        ("/giai/9521321AB", "/8004/9521321AB"),
        ("/cpid/9521321AB/cpsn/12", "/8010/9521321AB/8011/12"),
        ("/01/09521321000018/ser/S", "/01/09521321000018/21/S"),
    ],
)
def test_reads_names_of_the_first_edition_only_where_asked_for(old: str, new: str) -> None:
    assert canonical_link(f"https://example.com{old}") == f"https://id.gs1.org{new}"
    with pytest.raises(MalformedError) as caught:
        read_link(f"https://example.com{old}")
    assert caught.value.code == "EPC_NOT_GS1"


@pytest.mark.parametrize(
    "path",
    [
        # GS1 Digital Link Standard: Compression; the examples that its implementations share.
        "AN2yxDhfaiaw",
        "AQnYUc1gmg",
        "AQnYUc1gmiCNV4JG",
        "AQnYUc1gmiCNV4JGQhcNT6K6c",
        "QVSaVjC_dA",
        "DAnYUc1gmiCNV4JG",
    ],
)
def test_refuses_a_compressed_link_by_name(path: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_link(f"https://id.gs1.org/{path}")
    assert caught.value.code == "LINK_COMPRESSED"


@pytest.mark.parametrize(
    "path", ["products", "AQnYUc1hmg", "about-this-site", "AQnYUc1g", "gAAAAAAAAAAAAAAAAA", "AN2yxDhfai"]
)
def test_takes_no_other_link_for_a_compressed_one(path: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_link(f"https://id.gs1.org/{path}")
    assert caught.value.code == "EPC_NOT_GS1"


@pytest.mark.parametrize("stem", ["https://a$b", "https://exa mple.com", "ftp://example.com", "https://a:b"])
def test_refuses_to_write_a_link_under_a_bad_stem(stem: str) -> None:
    with pytest.raises(MalformedError) as caught:
        link_of((("01", "09521321000018"),), stem=stem)
    assert caught.value.code == "LINK_IMPOSSIBLE"


@pytest.mark.parametrize("scheme", ["HtTps", "Http", "hTTPS"])
def test_takes_a_scheme_of_mixed_case_for_no_link(scheme: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_link(f"{scheme}://id.gs1.org/01/09521321000018")
    assert caught.value.code == "EPC_NOT_GS1"


def test_refuses_links_over_eight_kibibytes_in_and_out() -> None:
    stem = "https://example.com/" + "a" * 8_165
    with pytest.raises(TooLargeError):
        link_of((("01", "09521321000018"),), stem=stem)
    with pytest.raises(TooLargeError):
        link_of((("01", "09521321000018"),), stem=f"{stem}{stem}")
    with pytest.raises(TooLargeError):
        canonical_link(f"{stem}/01/09521321000018")


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (
            "couponcode",
            "012345612345611110123" + "3101231" + "4101230",
            "012345612345611110123" + "3101231" + "4110101",
        ),
        (
            "couponcode",
            "012345612345611110123" + "3010101" + "4991231",
            "012345612345611110123" + "3101230" + "4101231",
        ),
        ("couponcode", "012345612345611110123", "012345612345611110123" + "3101331"),
        ("couponcode", "012345612345611110123", "0123"),
        ("couponposoffer", "0012345612345611234567", "001234561234561123456"),
        ("gcppos1", "9521A", "952A"),
        ("gcppos2", "19521A", "1952"),
        ("packagetype", "BME", "pe"),
    ],
)
def test_rules_of_coupons_prefixes_and_packages_tell_right_from_wrong(rule: str, right: str, wrong: str) -> None:
    check_content(rule, right)
    with pytest.raises(MalformedError) as caught:
        check_content(rule, wrong)
    assert caught.value.facts["rule"] == rule
