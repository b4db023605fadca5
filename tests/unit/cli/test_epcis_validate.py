"""``medtrail epcis validate`` and ``medtrail epcis rules``: what a person and a script get."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from medtrail.cli.main import main
from medtrail.epcis.rules import RULES

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


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["medtrail", "epcis", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_refuses_a_file_with_errors_and_shows_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, EVENT, {**EVENT, "bizStep": "[bold]x", "disposition": "y"})

    assert _run(monkeypatch, "validate", path) == 1
    shown = capsys.readouterr().out
    assert "BIZ_STEP_UNKNOWN" in shown
    assert "'[bold]x' is neither a CBV word nor a URI" in shown
    assert "/epcisBody/eventList/1/disposition" in shown
    assert "A disposition is a word of the vocabulary" in shown
    assert "refused  2 errors, 0 warnings" in shown


def test_accepts_a_sound_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "validate", _file(tmp_path, EVENT)) == 0
    assert capsys.readouterr().out.startswith("accepted  0 errors, 0 warnings")


def test_counts_more_findings_than_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, *({**EVENT, "bizStep": "x"} for _ in range(5)))

    assert _run(monkeypatch, "validate", path, "--limit", 2) == 1
    shown = capsys.readouterr().out
    assert "3 more findings counted, not printed (--limit)" in shown
    assert "5 errors" in shown


def test_answers_machines_with_findings_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, {**EVENT, "bizStep": "shipping"})

    assert _run(monkeypatch, "validate", path, "--profile", "dscsa", "--json", "--limit", 1) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["valid"], answer["file"]) == (False, str(path))
    assert len(answer["findings"]) == 1
    assert set(answer["findings"][0]) == {"severity", "code", "place", "message", "event_index", "line"}
    assert sum(item["count"] for item in answer["by_code"]) == answer["errors"] + answer["warnings"] > 5
    assert {"code": "DSCSA_STATEMENT_MISSING", "severity": "error", "count": 1} in answer["by_code"]


def test_says_the_line_in_xml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.xml"
    path.write_text("<ObjectEvent>\n<eventTime>soon</eventTime>\n</ObjectEvent>")

    assert _run(monkeypatch, "validate", path) == 1
    shown = capsys.readouterr().out
    assert "line 2: /ObjectEvent/eventTime" in shown
    assert "refused  4 errors, 0 warnings" in shown


@pytest.mark.parametrize("arguments", [("events.txt",), ("events.json", "--profile", "fmd"), ("missing.json",)])
def test_wrong_use_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    _file(tmp_path, EVENT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.txt").touch()

    assert _run(monkeypatch, "validate", *arguments) == 2
    assert capsys.readouterr().out == ""


def test_prints_the_rules(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "rules") == 0
    shown = capsys.readouterr().out
    assert all(rule.code in shown for rule in RULES)

    assert _run(monkeypatch, "rules", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rules"][0] == {
        "code": RULES[0].code,
        "severity": RULES[0].severity,
        "profile": RULES[0].profile,
        "text": RULES[0].text,
        "source": RULES[0].source,
    }
