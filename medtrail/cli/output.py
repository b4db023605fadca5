"""How commands speak: tables and colours for people, one JSON document for machines, exit codes for scripts.

Exit codes: 0 the answer is true or the work is done; 1 the evidence or the request was refused; 2 wrong use or input
that cannot be read; 3 no answer could be had (network down).
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import IO, Any, NoReturn

from rich.console import Console

from medtrail.errors import MalformedError, MedtrailError, UnavailableError

PIPE_WIDTH = 180


class ExitCode(IntEnum):
    """What a command's end tells a script."""

    TRUE = 0
    REFUSED = 1
    WRONG_USE = 2
    NO_ANSWER = 3


@dataclass(frozen=True, slots=True)
class Output:
    """Where and how a command answers.

    Attributes:
        as_json: One JSON document on standard output instead of text.
        console: Standard output, for people.
        errors: Standard error.
    """

    as_json: bool
    console: Console
    errors: Console

    @classmethod
    def create(cls, *, as_json: bool) -> "Output":
        """Return the output of this process."""
        return cls(as_json, _console(), _console(stderr=True))

    def answer(self, document: Mapping[str, Any], draw: Callable[[Console], None]) -> None:
        """Write the answer: the document for a machine, or what ``draw`` draws for a person."""
        if self.as_json:
            _write(sys.stdout, json.dumps(document, indent=2, ensure_ascii=False, default=str))
        else:
            draw(self.console)

    def line(self, document: Mapping[str, Any], text: str) -> None:
        """Write one of many answers on a line of its own: the document for a machine, or a text for a person."""
        if self.as_json:
            _write(sys.stdout, json.dumps(document, ensure_ascii=False, default=str))
        else:
            self.console.print(text, markup=False, soft_wrap=True)

    def fail(self, error: MedtrailError, *, code: ExitCode | None = None) -> NoReturn:
        """Write an error and end the process with its exit code."""
        if self.as_json:
            body = {"code": error.code, "message": error.message, "field": error.field, "facts": error.facts}
            _write(sys.stderr, json.dumps({"error": body}, ensure_ascii=False))
        else:
            where = f"{error.field}: " if error.field else ""
            self.errors.print(f"[bold red]{error.code}[/] ", end="")
            self.errors.print(f"{where}{error.message}", markup=False, soft_wrap=True)
        sys.exit(exit_code_of(error) if code is None else code)


class _PatientConsole(Console):
    def on_broken_pipe(self) -> None:
        """Go on without a reader: the answer's exit code is still owed."""
        _drop(self.file)


def _write(stream: IO[str], line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        _drop(stream)


def _drop(stream: IO[str]) -> None:
    # The reader went away (`medtrail … | head`). What is written from now on, and what waits in the buffer, is dropped.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _console(*, stderr: bool = False) -> Console:
    # No emoji: did:key would become a picture. A file or a pipe has no width, so that lines need no breaks there.
    console = _PatientConsole(stderr=stderr, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def exit_code_of(error: MedtrailError) -> ExitCode:
    """Return the exit code of an error by its kind."""
    if isinstance(error, MalformedError):
        return ExitCode.WRONG_USE
    if isinstance(error, UnavailableError):
        return ExitCode.NO_ANSWER
    return ExitCode.REFUSED
