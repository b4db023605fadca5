"""The entry point: options in any place, exit codes, errors for people and machines."""

import errno
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from medtrail.cli.main import hoist
from medtrail.cli.output import ExitCode, Output, exit_code_of
from medtrail.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    DuplicateError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    RootMismatchError,
    SignatureError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)

if typing.TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], []),
        (["scan", "X"], ["scan", "X"]),
        (["--json", "scan", "X"], ["--json", "scan", "X"]),
        (["scan", "X", "--json"], ["--json", "scan", "X"]),
        (["trace", "pack", "X", "--dir", "net", "--at", "now"], ["--dir", "net", "trace", "pack", "X", "--at", "now"]),
        (["scan", "--as=maker", "X", "--dir=net"], ["--as=maker", "--dir=net", "scan", "X"]),
        (["scan", "--as", "maker", "--json", "X"], ["--as", "maker", "--json", "scan", "X"]),
        (["scan", "--", "--json", "--dir", "x"], ["scan", "--", "--json", "--dir", "x"]),
        (["--json", "scan", "--", "--as"], ["--json", "scan", "--", "--as"]),
        (["scan", "--dir"], ["--dir", "scan"]),
        (["scan", "--at=1", "--jsonx", "a=b"], ["scan", "--at=1", "--jsonx", "a=b"]),
    ],
)
def test_options_of_every_command_may_stand_anywhere(given: list[str], wanted: list[str]) -> None:
    assert hoist(given) == wanted


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MalformedError("x"), ExitCode.WRONG_USE),
        (TooLargeError("x"), ExitCode.WRONG_USE),
        (VerificationError("x"), ExitCode.REFUSED),
        (RootMismatchError(expected=bytes(32), computed=bytes(32)), ExitCode.REFUSED),
        (SignatureError("x"), ExitCode.REFUSED),
        (AuthenticationError("x"), ExitCode.REFUSED),
        (AuthorizationError("x"), ExitCode.REFUSED),
        (ConflictError("x"), ExitCode.REFUSED),
        (DuplicateError("x"), ExitCode.REFUSED),
        (NotFoundError("x"), ExitCode.REFUSED),
        (UnavailableError("x"), ExitCode.NO_ANSWER),
        (MedtrailError("x"), ExitCode.REFUSED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MedtrailError) else value.name,
)
def test_kind_of_an_error_decides_the_exit_code(error: MedtrailError, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_exit_codes_are_those_that_scripts_know() -> None:
    assert [(code.name, int(code)) for code in ExitCode] == [
        ("TRUE", 0),
        ("REFUSED", 1),
        ("WRONG_USE", 2),
        ("NO_ANSWER", 3),
    ]


def test_error_for_people_is_one_line_with_code_field_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        Output.create(as_json=False).fail(NotFoundError("no such [red]pack[/]", field="epc"))
    assert end.value.code == ExitCode.REFUSED
    assert capsys.readouterr() == ("", "NOT_FOUND epc: no such [red]pack[/]\n")


def test_error_for_machines_is_one_document(medtrail: "Medtrail", capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        Output.create(as_json=True).fail(ConflictError("späť", code="X", field="f", size=3), code=ExitCode.NO_ANSWER)
    assert end.value.code == ExitCode.NO_ANSWER
    written = capsys.readouterr()
    assert written == ("", '{"error": {"code": "X", "message": "späť", "field": "f", "facts": {"size": "3"}}}\n')


def test_answer_is_one_document_or_what_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    Output.create(as_json=True).answer({"a": "ü", "path": Path("x")}, lambda console: console.print("drawn"))
    assert capsys.readouterr().out == '{\n  "a": "ü",\n  "path": "x"\n}\n'
    Output.create(as_json=False).answer({"a": 1}, lambda console: console.print("did:key: is no picture :key:"))
    assert capsys.readouterr().out == "did:key: is no picture :key:\n"


@pytest.mark.parametrize("arguments", [(), ("trace",), ("epcis",), ("gs1",)])
def test_command_without_arguments_shows_its_help_and_is_wrong_use(
    medtrail: "Medtrail", arguments: tuple[str, ...]
) -> None:
    run = medtrail(*arguments)
    assert run.code == ExitCode.WRONG_USE
    assert "Usage: medtrail" in run.out + run.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("scan",),
        ("scan", "X", "--nothing"),
        ("import", "missing.xml"),
        ("trace", "pack", "X", "--known", "-1"),
        ("demo", "--packs", "10"),
        ("scan", "--dir"),
    ],
)
def test_wrong_use_ends_with_2(medtrail: "Medtrail", arguments: tuple[str, ...]) -> None:
    run = medtrail(*arguments)
    assert run.code == ExitCode.WRONG_USE
    assert "Usage: medtrail" in run.errors


def test_help_is_no_failure(medtrail: "Medtrail") -> None:
    run = medtrail("--help")
    assert run.code == 0
    for command in ("up", "demo", "keygen", "import", "scan", "trace", "verify", "epcis", "gs1"):
        assert command in run.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", "(01)00300010123455(21)1"),
        ("trace", "pack", "urn:epc:id:sgtin:030001.0012345.1"),
        ("trace", "lot", "00300010123455", "A"),
    ],
)
def test_command_without_a_network_has_no_answer(medtrail: "Medtrail", arguments: tuple[str, ...]) -> None:
    run = medtrail(*arguments, "--json", "--dir", "nowhere")
    assert run.code == ExitCode.NO_ANSWER
    assert run.error["code"] == "NETWORK_DOWN"
    assert "nowhere" in run.error["message"]


@pytest.mark.parametrize("arguments", [("scan", "X"), ("trace", "pack", "X"), ("trace", "lot", "X", "Y")])
def test_moment_that_cannot_be_read_is_wrong_use(medtrail: "Medtrail", arguments: tuple[str, ...]) -> None:
    run = medtrail(*arguments, "--at", "noon", "--json")
    assert run.code == ExitCode.WRONG_USE
    assert (run.error["code"], run.error["field"]) == ("TIME_MALFORMED", "--at")


def test_file_that_cannot_be_opened_is_named(medtrail: "Medtrail", tmp_path: Path) -> None:
    run = medtrail("epcis", "hash", "missing.xml", "--json")
    assert (run.code, run.error["code"]) == (ExitCode.WRONG_USE, "FILE")
    assert run.error["message"] == "missing.xml: No such file or directory"


def test_failure_of_the_system_without_a_file_is_told_all_the_same(
    medtrail: "Medtrail", monkeypatch: pytest.MonkeyPatch, example: Path
) -> None:
    def fail(_file: typing.BinaryIO, *, format: str) -> None:  # noqa: A002  # the name that is called
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("medtrail.cli.epcis_files.open_events", fail)
    run = medtrail("epcis", "hash", example, "--json")
    assert (run.code, run.error["message"]) == (ExitCode.WRONG_USE, "No space left on device")


@pytest.mark.parametrize("option", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("found", [True, False], ids=["true", "wrong use"])
def test_reader_that_went_away_changes_no_exit_code(example: Path, option: tuple[str, ...], found: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    arguments = ["epcis", "hash", str(example) if found else "missing.xml", *option]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "medtrail.cli", *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write if not found else subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(write)
    assert done.returncode == (ExitCode.TRUE if found else ExitCode.WRONG_USE)
    assert not done.stderr
