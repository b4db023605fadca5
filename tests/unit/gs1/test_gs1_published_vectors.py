"""The test vectors of GS1's Syntax Engine and Syntax Dictionary, where they are at hand.

They stand beside the repository (Apache-2.0, GS1 AISBL; not copied into it). Every vector is met but those of
``EXCEPTIONS``, named one by one with the reason. Where the engine passes on, or draws, what is not of GS1, we promise
a refusal instead, and that is checked.
"""

import json
import re
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
from medtrail.gs1.keys import RESOLVER, Gtin

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
TODAY = date(2026, 6, 1)

Row = dict[str, Any]
# What the row wants, and what came.
Outcome = tuple[object, object]


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
    # The engine can be told to let AIs pass that are not assigned; here they are no reason to skip a row.
    elements = re.findall(r"\(([0-9]+)\)([^(]*)", row["bracketed_ai"])
    found = _code(lambda: check_associations(elements))
    if row["should_succeed"]:
        return "", found if found == _ASSOCIATION_CODES[row["function"]] else ""
    return True, found in {_ASSOCIATION_CODES[row["function"]], "AI_UNKNOWN"}


def _link_parse(row: Row) -> Outcome:
    expected = row["expected_unbracketed_ai"] if row["should_succeed"] else ""

    def attempt() -> str:
        named, attributes = read_link(row["dl_uri"])
        return _carets((*named, *attributes))

    return expected, _text(attempt)


def _link_generate(row: Row) -> Outcome:
    stem = row["stem"] or RESOLVER
    return row["expected_dl_uri"], _text(lambda: link_of(read_bracketed(row["bracketed_ai"]), stem=stem))


def _linter(row: Row) -> Outcome:
    name, text = row["linter"], row["value"]
    charset = {"csetnumeric": "N", "cset39": "Y", "cset64": "Z", "cset82": "X"}.get(name)
    if charset is not None:
        return row["valid"], not _code(lambda: check_charset(charset, text))
    return row["valid"], not _code(lambda: check_content(name, text))


# What we say of symbols without GS1 element strings, which the engine passes on.
_REFUSED = {
    "]Q1": "SCAN_EMPTY",
    "]d1": "SCAN_EMPTY",
    "]d1TESTING": "SCAN_NOT_GS1",
    "]J0\\^TESTING": "SCAN_NOT_GS1",
    "]E402345673": "SCAN_LINEAR_ONLY",
    "]E402345673|]e099COMPOSITE\x1d98XYZ": "SCAN_LINEAR_ONLY",
    "]Q1TESTING|^99XYZ": "SCAN_NOT_GS1",
}


def _scan_process(row: Row) -> Outcome:
    text, expected = row["scan_data"], row["expected_data"]
    if row["should_succeed"] and text in _REFUSED:
        return _REFUSED[text], _code(lambda: parse_scan(text, today=TODAY))
    if not row["should_succeed"]:
        return True, bool(_code(lambda: parse_scan(text, today=TODAY)))
    found = parse_scan(text, today=TODAY).ais
    return (expected, _carets(found)) if expected.startswith("^") else (read_link(expected), (found[:1], found[1:]))


def _scan_generate(row: Row) -> Outcome:
    text, expected = row["data"], row["expected_scan_data"]
    if expected is None:
        read: Callable[[], object] = lambda: read_element_string(text)  # noqa: E731
        if row["symbology"] == "EAN13":
            read = lambda: Gtin.parse(text)  # noqa: E731
        return True, bool(_code(read))
    if expected in _REFUSED:
        return _REFUSED[expected], _code(lambda: parse_scan(expected, today=TODAY))
    if expected.startswith("]E"):
        return "SCAN_LINEAR_ONLY", _code(lambda: parse_scan(expected, today=TODAY))
    # What a scanner sends of a symbol must be read as what was drawn, composite part and all.
    drawn = text.replace("|^", "^")
    drawn = drawn.removeprefix("^") if drawn.startswith("^") else f"01{drawn}"
    return read_element_string(drawn, separator="^"), parse_scan(expected, today=TODAY).ais


_NO_PREFIX_TABLE = "needs GS1's table of company prefixes, which is not public"
_PADDED = "the engine's option for GTINs of 8 and 12 digits is off in this row and on in others; we pad them"

# One line a vector: what names it, and why it is not met.
EXCEPTIONS = {
    ("dl-uri-parse", "https://a/01/416000336108", "None"): _PADDED,
    ("dl-uri-parse", "https://a/8004/9520614141234567?01=02345673", "None"): _PADDED,
    ("linters", "1234567", "INVALID_GCP_PREFIX"): _NO_PREFIX_TABLE,
    ("linters", "012345612345611110123", "GCP_DATASOURCE_OFFLINE"): _NO_PREFIX_TABLE,
    ("linters", "012345612345611110123101101230123456", "INVALID_GCP_PREFIX"): _NO_PREFIX_TABLE,
    ("linters", "012345612345611110123611234567", "INVALID_GCP_PREFIX"): _NO_PREFIX_TABLE,
    ("linters", "012345612345611110123611234567", "GCP_DATASOURCE_OFFLINE"): _NO_PREFIX_TABLE,
}


def _name(file: str, row: Row) -> tuple[str, str, str]:
    return file, str(row.get("dl_uri", row.get("value", ""))), str(row.get("error"))


@pytest.mark.parametrize(
    ("name", "judge"),
    [
        ("ai-bracketed-parse", _bracketed),
        ("ai-unbracketed-process", _unbracketed),
        ("ai-association-validate", _association),
        ("dl-uri-parse", _link_parse),
        ("dl-uri-generate", _link_generate),
        ("linters", _linter),
        ("scan-data-process", _scan_process),
        ("scan-data-generate", _scan_generate),
    ],
)
def test_agrees_with_published_vectors(name: str, judge: Callable[[Row], Outcome]) -> None:
    path = SHARED / "gs1-syntax-vectors" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the repository")
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    outcomes = [(row, judge(row)) for row in rows]
    wrong = [(row, outcome) for row, outcome in outcomes if outcome[0] != outcome[1]]
    assert [found for found in wrong if not _is_exception(name, found[0])] == []
    assert {_name(name, row) for row, _ in wrong} == {item for item in EXCEPTIONS if item[0] == name}


def _is_exception(name: str, row: Row) -> bool:
    return not row.get("should_succeed", row.get("valid")) and _name(name, row) in EXCEPTIONS


def _published_entries(path: Path) -> dict[str, tuple[str, bool, bool, str, str, str | None]]:
    """Return the entries of GS1's Syntax Dictionary: components, flags, needs, excludes, key qualifiers."""
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
                " ".join(parts),
                "*" in flags,
                "?" in flags,
                facts.get("req", ""),
                ",".join(sorted(filter(None, facts.get("ex", "").split(",")))),
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
            ",".join(sorted(entry.excludes)),
            keys.get(ai),
        )
        for ai, entry in AIS.items()
    }
    assert ours == _published_entries(path)
