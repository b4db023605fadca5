"""`medtrail` as its entry point runs it, in this process."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import structlog

from medtrail.cli.main import main


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


def run_command(*arguments: str) -> Run:
    """Run `medtrail` as its entry point does, in this process."""
    out, errors = io.StringIO(), io.StringIO()
    logging = structlog.get_config()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
            mock.patch.object(sys, "argv", ["medtrail", *arguments]),
            pytest.raises(SystemExit) as end,
        ):
            main()
    finally:
        structlog.configure(**logging)
        structlog.contextvars.clear_contextvars()
    assert isinstance(end.value.code, int)
    return Run(end.value.code, out.getvalue(), errors.getvalue())
