"""Every code of an alert, an exception or a reconciliation has its tests, by trigger and by near miss, and its line."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from ledger.projections.belief import AlertCode as LedgerAlert
from services.custody.exceptions.codes import ExceptionCode
from services.custody.notices import AlertCode as ServiceAlert
from services.custody.receiving.codes import ResultCode

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Codes:
    """A set of codes, the folders whose tests show them, and the document that explains them."""

    codes: type[StrEnum]
    folders: tuple[str, ...]
    document: str


SETS = (
    Codes(LedgerAlert, ("tests/unit/projections",), "docs/custody-rules.md"),
    Codes(ServiceAlert, ("tests/unit/custody", "tests/integration/services"), "docs/book-alerts.md"),
    Codes(
        ExceptionCode,
        (
            "tests/unit/custody",
            "tests/unit/exceptions",
            "tests/unit/receiving",
            "tests/unit/orders",
            "tests/unit/station",
            "tests/integration",
        ),
        "docs/exceptions.md",
    ),
    Codes(ResultCode, ("tests/unit/custody", "tests/unit/receiving"), "docs/receiving.md"),
)


def names_in(*folders: str) -> set[str]:
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("test_*.py"))]
    return {name for path in files for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("codes", SETS, ids=lambda codes: f"{codes.codes.__module__}.{codes.codes.__name__}")
def test_every_code_has_tests_by_trigger_and_by_near_miss(codes: Codes) -> None:
    names = names_in(*codes.folders)
    untested = [code for code in codes.codes if not _named(names, f"test_{code.name.lower()}")]
    unchecked = [code for code in codes.codes if not _named(names, f"test_no_{code.name.lower()}")]

    assert (untested, unchecked) == ([], [])


def _named(names: set[str], start: str) -> bool:
    return any(name == start or name.startswith(f"{start}_") for name in names)


@pytest.mark.parametrize("codes", SETS, ids=lambda codes: f"{codes.codes.__module__}.{codes.codes.__name__}")
def test_every_code_has_a_line_in_its_document(codes: Codes) -> None:
    rows = [line for line in (ROOT / codes.document).read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    told = {word for row in rows for word in re.findall(r"`([A-Z_]+)`", row.split(" | ")[0])}

    assert [code for code in codes.codes if code.value not in told] == []
