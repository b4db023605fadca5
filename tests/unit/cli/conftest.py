from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import Run, run_command

SHIPPED_EXAMPLE = Path(__file__).parents[3] / "medtrail/cli/data/dscsa_example.xml"


Medtrail = Callable[..., Run]


@pytest.fixture
def medtrail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Medtrail:
    """Runs `medtrail` as its entry point does, in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDTRAIL_DIR", raising=False)
    monkeypatch.delenv("MEDTRAIL_AS", raising=False)

    def run(*arguments: object) -> Run:
        return run_command(*map(str, arguments))

    return run


@pytest.fixture(scope="session")
def example() -> Path:
    """The EPCIS document that `medtrail demo` imports."""
    return SHIPPED_EXAMPLE
