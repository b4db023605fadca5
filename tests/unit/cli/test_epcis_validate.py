"""``medtrail epcis validate`` and ``medtrail epcis rules``: what a person and a script get."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.epcis.rules import RULES

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail

EVENT: dict[str, Any] = {
    "type": "ObjectEvent",
    "eventTime": "2026-05-04T10:00:00Z",
    "eventTimeZoneOffset": "+00:00",
    "action": "OBSERVE",
    "epcList": ["urn:x:[1]"],
}


def _file(folder: Path, *events: dict[str, Any]) -> Path:
    path = folder / "events.json"
    document = {
        "@context": "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld",
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-05-05T00:00:00Z",
        "epcisBody": {"eventList": list(events)},
    }
    path.write_text(json.dumps(document))
    return path


def test_refuses_a_file_with_errors_and_shows_each(tmp_path: Path, medtrail: "Medtrail") -> None:
    path = _file(tmp_path, EVENT, {**EVENT, "bizStep": "[bold]x", "disposition": "y"})

    run = medtrail("epcis", "validate", path)
    assert run.code == 1
    assert "BIZ_STEP_UNKNOWN" in run.out
    assert "'[bold]x' is neither a CBV word nor a URI" in run.out
    assert "/epcisBody/eventList/1/disposition" in run.out
    assert "A disposition is a word of the vocabulary" in run.out
    assert "refused  2 errors, 0 warnings" in run.out


def test_accepts_a_sound_file(tmp_path: Path, medtrail: "Medtrail") -> None:
    run = medtrail("epcis", "validate", _file(tmp_path, EVENT))
    assert run.code == 0
    assert run.out.startswith("accepted  0 errors, 0 warnings")


def test_counts_more_findings_than_it_prints(tmp_path: Path, medtrail: "Medtrail") -> None:
    path = _file(tmp_path, *({**EVENT, "bizStep": "x"} for _ in range(5)))

    run = medtrail("epcis", "validate", path, "--limit", 2)
    assert run.code == 1
    assert "3 more findings counted, not printed (--limit)" in run.out
    assert "5 errors" in run.out


def test_answers_machines_with_findings_and_counts(tmp_path: Path, medtrail: "Medtrail") -> None:
    path = _file(tmp_path, {**EVENT, "bizStep": "shipping"})

    run = medtrail("epcis", "validate", path, "--profile", "dscsa", "--json", "--limit", 1)
    assert run.code == 1
    answer = run.document
    assert (answer["valid"], answer["file"]) == (False, str(path))
    assert len(answer["findings"]) == 1
    assert set(answer["findings"][0]) == {"severity", "code", "place", "message", "event_index", "line"}
    assert sum(item["count"] for item in answer["by_code"]) == answer["errors"] + answer["warnings"] > 5
    assert {"code": "DSCSA_STATEMENT_MISSING", "severity": "error", "count": 1} in answer["by_code"]


def test_says_the_line_in_xml(tmp_path: Path, medtrail: "Medtrail") -> None:
    path = tmp_path / "events.xml"
    path.write_text("<ObjectEvent>\n<eventTime>soon</eventTime>\n</ObjectEvent>")

    run = medtrail("epcis", "validate", path)
    assert run.code == 1
    assert "line 2: /ObjectEvent/eventTime" in run.out
    assert "refused  4 errors, 0 warnings" in run.out


@pytest.mark.parametrize("arguments", [("events.txt",), ("events.json", "--profile", "fmd"), ("missing.json",)])
def test_wrong_use_ends_with_2(tmp_path: Path, medtrail: "Medtrail", arguments: tuple[str, ...]) -> None:
    _file(tmp_path, EVENT)
    (tmp_path / "events.txt").touch()

    run = medtrail("epcis", "validate", *arguments)
    assert run.code == 2
    assert run.out == ""


def test_prints_the_rules(medtrail: "Medtrail") -> None:
    run = medtrail("epcis", "rules")
    assert run.code == 0
    assert all(rule.code in run.out for rule in RULES)

    run = medtrail("epcis", "rules", "--json")
    assert run.code == 0
    answer = run.document
    assert answer["rules"][0] == {
        "code": RULES[0].code,
        "severity": RULES[0].severity,
        "profile": RULES[0].profile,
        "text": RULES[0].text,
        "source": RULES[0].source,
    }
