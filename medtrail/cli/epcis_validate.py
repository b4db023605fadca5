"""``medtrail epcis validate`` and ``medtrail epcis rules``: files held to rules, offline."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medtrail.cli.epcis_files import format_of
from medtrail.cli.output import ExitCode, Output
from medtrail.epcis.rules import RULES, Finding, Profile, Severity, check_document, severity_of
from medtrail.errors import MalformedError

_COLOUR = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}


def run_validate(output: Output, path: Path, *, profiles: list[str], limit: int) -> None:
    """Print findings and their summary, and end with 0 (no errors) or 1 (refused).

    Args:
        output: Where to.
        path: The document, of any size.
        profiles: Names of profiles beside those that always hold.
        limit: Findings that are printed at most; all are counted.

    Raises:
        MalformedError: An unknown ending or profile.
    """
    wanted = [_profile(name) for name in profiles]
    counts: Counter[tuple[Severity, str]] = Counter()
    with path.open("rb") as stream:
        found = check_document(stream, format=format_of(path), now=datetime.now(UTC), profiles=wanted)
        shown = list(islice(_counted(found, counts), limit))
        for _ in _counted(found, counts):
            pass
    errors = sum(count for (severity, _), count in counts.items() if severity is Severity.ERROR)
    document: dict[str, Any] = {
        "file": str(path),
        "valid": errors == 0,
        "errors": errors,
        "warnings": counts.total() - errors,
        "by_code": [
            {"code": code, "severity": severity, "count": count}
            for (severity, code), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
        ],
        "findings": [{"severity": severity_of(finding), **asdict(finding)} for finding in shown],
    }
    output.answer(document, lambda console: _draw(console, document, shown))
    sys.exit(ExitCode.REFUSED if errors else ExitCode.TRUE)


def _profile(name: str) -> Profile:
    if name not in set(Profile):
        message = f"expected one of {', '.join(Profile)}, got {name[:20]!r}"
        raise MalformedError(message, code="PROFILE_UNKNOWN", field="--profile")
    return Profile(name)


def _counted(found: Iterator[Finding], counts: Counter[tuple[Severity, str]]) -> Iterator[Finding]:
    for finding in found:
        counts[severity_of(finding), finding.code] += 1
        yield finding


def _draw(console: Console, document: dict[str, Any], shown: list[Finding]) -> None:
    if shown:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "rule", "event", "place", "what"):
            table.add_column(heading, overflow="fold")
        for finding in shown:
            severity = severity_of(finding)
            event = "" if finding.event_index is None else str(finding.event_index + 1)
            place = finding.place if finding.line is None else f"line {finding.line}: {finding.place}"
            table.add_row(
                f"[{_COLOUR[severity]}]{severity}[/]", finding.code, event, _plain(place), _plain(finding.message)
            )
        console.print(table)
        console.print()
        summary = Table(box=None, pad_edge=False)
        for heading in ("count", "", "rule", "what it says"):
            summary.add_column(heading, overflow="fold", justify="right" if heading == "count" else "left")
        texts = {rule.code: rule.text for rule in RULES}
        for item in document["by_code"]:
            summary.add_row(str(item["count"]), item["severity"], item["code"], texts.get(item["code"], ""))
        console.print(summary)
        console.print()
    total = document["errors"] + document["warnings"]
    if total > len(shown):
        console.print(f"{total - len(shown)} more findings counted, not printed (--limit)", style="dim")
    verdict = "[green]accepted[/]" if document["valid"] else "[bold red]refused[/]"
    console.print(
        f"{verdict}  {_count(document['errors'], 'error')}, {_count(document['warnings'], 'warning')}: ", end=""
    )
    console.print(document["file"], markup=False, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _plain(text: str) -> str:
    # Text of a file is no markup.
    return text.replace("[", r"\[")


def run_rules(output: Output) -> None:
    """Print the rules: code, severity, profile, text and source."""

    def draw(console: Console) -> None:
        table = Table(box=None, pad_edge=False)
        for heading in ("code", "severity", "profile", "rule", "source"):
            table.add_column(heading, overflow="fold")
        for rule in RULES:
            table.add_row(rule.code, rule.severity, rule.profile, _plain(rule.text), _plain(rule.source))
        console.print(table)

    output.answer({"rules": [asdict(rule) for rule in RULES]}, draw)
