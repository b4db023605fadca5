"""The test vectors of GS1's Syntax Engine and Syntax Dictionary, where they are at hand.

They stand beside the repository (Apache-2.0, GS1 AISBL; not copied into it). Every vector runs, or is left out for a
reason that stands here.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from medtrail.errors import MalformedError
from medtrail.gs1 import parse_scan
from medtrail.gs1.ai_table import AIS, DIGITAL_LINK_KEYS, Component
from medtrail.gs1.content import check_charset, check_content
from medtrail.gs1.digital_link import link_of, read_link
from medtrail.gs1.elements import Element, check_associations, read_bracketed, read_element_string
from medtrail.gs1.keys import RESOLVER
from medtrail.gs1.scan import GS1_SYMBOLOGIES

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
TODAY = date(2026, 6, 1)

Row = dict[str, Any]
# What the row wants and what came, or the reason why it is left out.
Outcome = tuple[object, object] | str


def _carets(elements: Sequence[Element]) -> str:
    """Return elements as the vectors write them: a caret for FNC1, at the start and after values that need it."""
    text = "^"
    for number, (ai, value) in enumerate(elements, 1):
        text += ai + value + ("" if AIS[ai].predefined or number == len(elements) else "^")
    return text


def _code(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except MalformedError as error:
        return error.code
    return ""


def _text(attempt: Callable[[], str]) -> str:
    try:
        return attempt()
    except MalformedError:
        return ""


def _bracketed(row: Row) -> Outcome:
    return row["expected_unbracketed_ai"], _text(lambda: _carets(read_bracketed(row["bracketed_ai"])))


def _unbracketed(row: Row) -> Outcome:
    text = row["unbracketed_ai"]
    if not text.startswith("^"):
        return row["should_succeed"], False
    return row["should_succeed"], not _code(lambda: read_element_string(text[1:], separator="^"))


_ASSOCIATION_CODES = {
    "validateAIrepeats": "AI_REPEATED",
    "validateAImutex": "AI_EXCLUDED",
    "validateAIrequisites": "AI_MISSING",
    "validateDigSigRequiresSerialisedKey": "AI_MISSING",
}


def _association(row: Row) -> Outcome:
    if _code(lambda: read_bracketed(row["bracketed_ai"])) == "AI_UNKNOWN":
        return "an AI that is not assigned, which the engine reads only if told to"
    elements = read_bracketed(row["bracketed_ai"])
    wrong = _ASSOCIATION_CODES[row["function"]]
    return row["should_succeed"], _code(lambda: check_associations(elements)) != wrong


def _link_parse(row: Row) -> Outcome:
    uri = row["dl_uri"]
    if not row["should_succeed"] and ("/01/416000336108" in uri or "?01=02345673" in uri or "/01/02345673" in uri):
        return "GTINs of 8 and 12 digits with the engine's option for them off; we pad them"
    expected = row["expected_unbracketed_ai"] if row["should_succeed"] else ""

    def attempt() -> str:
        named, attributes = read_link(uri)
        return _carets((*named, *attributes))

    return expected, _text(attempt)


def _link_generate(row: Row) -> Outcome:
    stem = row["stem"] or RESOLVER
    return row["expected_dl_uri"], _text(lambda: link_of(read_bracketed(row["bracketed_ai"]), stem=stem))


def _linter(row: Row) -> Outcome:
    left_out = {
        "couponcode": "North American coupons are not on medicines; AIs 8110 and 8112 are read as text",
        "couponposoffer": "North American coupons are not on medicines; AIs 8110 and 8112 are read as text",
        "gcppos1": "needs GS1's table of company prefixes",
        "gcppos2": "needs GS1's table of company prefixes",
        "packagetype": "a code list that changes; only the form of AI 7041 is checked",
    }
    name, text = row["linter"], row["value"]
    if name in left_out:
        return left_out[name]
    charset = {"csetnumeric": "N", "cset39": "Y", "cset64": "Z", "cset82": "X"}.get(name)
    if charset is not None:
        return row["valid"], not _code(lambda: check_charset(charset, text))
    return row["valid"], not _code(lambda: check_content(name, text))


def _scan_process(row: Row) -> Outcome:
    text, expected = row["scan_data"], row["expected_data"]
    if row["should_succeed"] and text[:3] not in GS1_SYMBOLOGIES and "://" not in expected:
        return "a symbol without GS1 element strings (plain or retail), which the engine passes on and we refuse"
    if not row["should_succeed"]:
        return True, bool(_code(lambda: parse_scan(text, today=TODAY)))
    found = parse_scan(text, today=TODAY).ais
    return (expected, _carets(found)) if expected.startswith("^") else (read_link(expected), (found[:1], found[1:]))


def _scan_generate(row: Row) -> Outcome:
    text, expected = row["data"], row["expected_scan_data"]
    if expected is None or expected.startswith(("]Q1", "]Q2", "]d1", "]C0", "]J0", "]L")):
        return "a symbol without GS1 element strings, or one that the engine cannot draw"
    if expected.startswith("]E"):
        return "SCAN_LINEAR_ONLY", _code(lambda: parse_scan(expected, today=TODAY))
    # We do not draw symbols: what a scanner sends of one must be read as what was drawn, composite part and all.
    drawn = text.replace("|^", "^")
    drawn = drawn.removeprefix("^") if drawn.startswith("^") else f"01{drawn}"
    return read_element_string(drawn, separator="^"), parse_scan(expected, today=TODAY).ais


@pytest.mark.parametrize(
    ("name", "judge", "fewest"),
    [
        ("ai-bracketed-parse", _bracketed, 12),
        ("ai-unbracketed-process", _unbracketed, 32),
        ("ai-association-validate", _association, 28),
        ("dl-uri-parse", _link_parse, 46),
        ("dl-uri-generate", _link_generate, 10),
        ("linters", _linter, 1903),
        ("scan-data-process", _scan_process, 16),
        ("scan-data-generate", _scan_generate, 12),
    ],
)
def test_agrees_with_published_vectors(name: str, judge: Callable[[Row], Outcome], fewest: int) -> None:
    path = SHARED / "gs1-syntax-vectors" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the repository")
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    left_out: Counter[str] = Counter()
    wrong = []
    for row in rows:
        outcome = judge(row)
        if isinstance(outcome, str):
            left_out[outcome] += 1
        elif outcome[0] != outcome[1]:
            wrong.append((row, outcome))
    assert wrong == []
    assert len(rows) - left_out.total() >= fewest, left_out


def _published_entries(path: Path) -> dict[str, tuple[str, bool, bool, str, str | None]]:
    """Return the entries of GS1's Syntax Dictionary: components, predefined, attribute, needs, key qualifiers."""
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line[:1].isdigit():
            continue
        names, *tokens = line.split("#")[0].split()
        flags = tokens.pop(0) if not re.match(r"[NXYZ\[]", tokens[0]) else ""
        parts = [token for token in tokens if "=" not in token and token != "dlpkey"]
        facts = dict(token.partition("=")[::2] for token in tokens if token not in parts)
        first, _, last = names.partition("-")
        for number in range(int(first), int(last or first) + 1):
            entries[str(number).zfill(len(first))] = (
                " ".join(re.sub(r",(gcppos|coupon)\w+", "", part) for part in parts),
                "*" in flags,
                "?" in flags,
                facts.get("req", ""),
                facts.get("dlpkey"),
            )
    return entries


def test_table_of_application_identifiers_agrees_with_the_published_dictionary() -> None:
    path = SHARED / "gs1-syntax-dictionary" / "gs1-syntax-dictionary.txt"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the repository")

    def form(component: Component) -> str:
        length = f"{component.longest}" if component.shortest == component.longest else f"..{component.longest}"
        kind = component.charset + length
        return ",".join([f"[{kind}]" if component.optional else kind, *component.rules])

    keys = {ai: "|".join(map(",".join, sequences)) for ai, sequences in DIGITAL_LINK_KEYS.items()}
    ours = {
        ai: (
            " ".join(map(form, entry.components)),
            entry.predefined,
            entry.attribute,
            ",".join("+".join(alternative) for alternative in entry.needs),
            keys.get(ai),
        )
        for ai, entry in AIS.items()
    }
    assert ours == _published_entries(path)
