import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from medtrail.cli.main import main

SHIPPED_EXAMPLE = Path(__file__).parents[3] / "medtrail/cli/data/dscsa_example.xml"


@dataclass(frozen=True)
class Run:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    errors: str

    @property
    def document(self) -> Any:
        """Its answer under --json."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """Its error under --json."""
        return json.loads(self.errors)["error"]


Medtrail = Callable[..., Run]


@pytest.fixture
def medtrail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Medtrail:
    """Runs `medtrail` as its entry point does, in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDTRAIL_DIR", raising=False)
    monkeypatch.delenv("MEDTRAIL_AS", raising=False)

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["medtrail", *map(str, arguments)])
        out, errors = io.StringIO(), io.StringIO()
        logging = structlog.get_config()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as end:
                main()
        finally:
            structlog.configure(**logging)
            structlog.contextvars.clear_contextvars()
        assert isinstance(end.value.code, int)
        return Run(end.value.code, out.getvalue(), errors.getvalue())

    return run


@pytest.fixture(scope="session")
def example() -> Path:
    """The EPCIS document that `medtrail demo` imports."""
    return SHIPPED_EXAMPLE
