"""The rule set itself: codes, texts, sources, and the page that lists them."""

import re
from pathlib import Path

from medtrail.epcis.rules import RULE_OF, RULES, Finding, Severity, severity_of

PAGE = Path(__file__).parents[3] / "docs" / "validation.md"


def test_every_rule_has_one_code_a_text_and_a_source() -> None:
    assert len(RULE_OF) == len(RULES) > 100
    for rule in RULES:
        assert re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)+", rule.code)
        assert rule.text.endswith("."), rule.code
        assert rule.source, rule.code


def test_the_page_lists_every_rule_as_it_is_and_no_other() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]

    assert sorted(rows) == sorted(
        f"| `{rule.code}` | {rule.severity} | {rule.text} | {rule.source} |" for rule in RULES
    )


def test_codes_of_the_profile_say_so() -> None:
    assert {rule.code for rule in RULES if rule.code.startswith("DSCSA_")} == {
        rule.code for rule in RULES if rule.profile == "dscsa"
    }


def test_a_code_without_rule_is_an_error() -> None:
    assert severity_of(Finding("NEVER_HEARD_OF", "", "")) is Severity.ERROR
    assert severity_of(Finding("EVENT_HASH_WRONG", "", "")) is Severity.WARNING
