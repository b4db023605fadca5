"""`medtrail audit` against the real public server: what it says, remembers and leaves as evidence."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ledger.public_files import PublicServer
from ledger.tile_files import TileFiles
from ledger.web import WebServer
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.cli import audit_files
from medtrail.cli.audit_files import HttpLog
from medtrail.errors import UnavailableError
from medtrail.monitor import AuditState
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.note_format import add_signatures
from medtrail.tiles import TileEdge
from tests.support.command import Run, run_command

LOG = NoteSigner("ledger.example/eu1", bytes(range(32)))
WITNESS = Cosigner("witness.example/w1", bytes(range(32, 64)))
VKEY = format_vkey(LOG.verifier)


@pytest.fixture
def database_url() -> str:
    """The public files alone are under test: no backend takes part."""
    return ""


class Published:
    """A log's public folder, which grows."""

    def __init__(self, folder: Path, *sizes: int, name: str = "entry") -> None:
        self.files = TileFiles(folder)
        self.edge = TileEdge()
        self.name = name
        for size in sizes:
            self.grow(size)

    def grow(self, size: int, *, witnessed: bool = True) -> bytes:
        entries = [f"{self.name} {number}".encode() for number in range(self.edge.size, size)]
        self.edge = self.files.grow(self.edge, [entries], new_size=size)
        checkpoint = Checkpoint(LOG.name, size, self.edge.compact_range().root())
        note = sign_checkpoint(checkpoint, LOG)
        if witnessed:
            note = add_signatures(note, [WITNESS.cosign(checkpoint.text, timestamp=1_800_000_000)])
        self.files.write_checkpoint(note)
        return note


@contextmanager
def served(server: WebServer) -> Iterator[str]:
    """Serve from a thread, since the command blocks this one."""
    thread = threading.Thread(target=lambda: asyncio.run(server.run()))
    thread.start()
    try:
        yield f"http://{server.address}"
    finally:
        server.stop()
        thread.join()


@contextmanager
def published(folder: Path) -> Iterator[str]:
    with served(PublicServer(folder, listen="127.0.0.1:0")) as url:
        yield url


class AuditRun(Run):
    """An audit's run: an answer a look, and what it tells people before an error."""

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        return json.loads(self.errors.splitlines()[-1])["error"]


def audit(url: str, *arguments: object, key: object = VKEY) -> AuditRun:
    run = run_command("audit", url, "--key", str(key), *map(str, arguments))
    return AuditRun(run.code, run.out, run.errors)


@pytest.fixture
def log(tmp_path: Path) -> Published:
    return Published(tmp_path / "public", 3, 300)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "state.json"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("medtrail.cli.audit.QUORUM_PAUSE_S", 0.0)


def test_says_what_it_read_and_goes_on_from_there(log: Published, state: Path) -> None:
    with published(log.files.folder) as url:
        first = audit(url, "--once", "--json", "--state", state)
        log.grow(700)
        second = audit(url + "/", "--once", "--json", "--state", state)
        third = audit(url, "--once", "--json", "--state", state)
    assert [run.code for run in (first, second, third)] == [0, 0, 0]
    (line,) = first.lines
    assert line["consistent"] is True
    assert (line["origin"], line["tree_size"], line["entries_read"], line["witnesses"]) == (LOG.name, 300, 300, [])
    assert [run.lines[0]["entries_read"] for run in (second, third)] == [400, 0]
    assert second.lines[0]["root_hash"] == log.edge.compact_range().root().hex()


def test_state_has_a_place_of_its_own_by_origin_and_key(
    log: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    (tmp_path / "key").write_text(f"{VKEY}\n")
    with published(log.files.folder) as url:
        run = audit(url, "--once", key=tmp_path / "key")
    assert run.code == 0
    assert run.out.startswith(f"consistent {LOG.name}: 300 entries, 300 read now")
    (found,) = (tmp_path / "states" / "medtrail" / "audit").iterdir()
    assert found.name.startswith("ledger.example_eu1-")


def test_two_signed_histories_become_evidence_files(log: Published, state: Path, tmp_path: Path) -> None:
    other = Published(tmp_path / "other", 400, name="other")
    with published(log.files.folder) as url:
        assert audit(url, "--once", "--state", state).code == 0
    older, kept = log.files.checkpoint(), state.read_bytes()
    with published(other.files.folder) as url:
        run = audit(url, "--once", "--json", "--state", state)
        told = audit(url, "--once", "--state", state)
    assert (run.code, run.error["code"], run.out) == (1, "LOG_FORKED", "")
    facts = run.error["facts"]
    assert Path(facts["older_note"]).read_bytes() == older
    assert Path(facts["newer_note"]).read_bytes() == other.files.checkpoint()
    assert set(json.loads(Path(facts["proof_json"]).read_bytes())) == {"older_root", "proof"}
    assert told.code == 1
    assert told.errors.count("evidence: ") == 3
    # The log stays bound by what it showed first.
    assert state.read_bytes() == kept


def test_shrunk_log_and_bad_files_are_findings(log: Published, state: Path, tmp_path: Path) -> None:
    small = Published(tmp_path / "small", 3)
    with published(log.files.folder) as url:
        bundle = log.files.folder / "tile/entries/001.p/44"
        honest = bundle.read_bytes()
        bundle.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
        bad = audit(url, "--once", "--json", "--state", state)
        bundle.unlink()
        missing = audit(url, "--once", "--json", "--state", state)
        bundle.write_bytes(honest)
        assert audit(url, "--once", "--state", state).code == 0
    with published(small.files.folder) as url:
        shrunk = audit(url, "--once", "--json", "--state", state)
    assert (bad.code, bad.error["code"], bad.error["field"]) == (1, "BAD_BUNDLE", "tile/entries/001.p/44")
    assert (missing.code, missing.error["code"]) == (1, "TILE_MISSING")
    assert (shrunk.code, shrunk.error["code"]) == (1, "LOG_SHRANK")


def test_policy_demands_its_quorum(log: Published, state: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(f"witness w1 {format_vkey(WITNESS.verifier)}\nquorum w1\n")
    with published(log.files.folder) as url:
        seen = audit(url, "--once", "--json", "--state", state, "--policy", policy)
        shown = audit(url, "--once", "--state", state, "--policy", policy)
        log.grow(301, witnessed=False)
        alone = audit(url, "--once", "--json", "--state", state, "--policy", policy)
    assert (seen.code, seen.lines[0]["witnesses"]) == (0, [WITNESS.name])
    assert shown.out.endswith(f"seen by {WITNESS.name}\n")
    assert (alone.code, alone.error["code"]) == (1, "QUORUM_NOT_MET")


def test_may_begin_at_a_trusted_checkpoint(log: Published, state: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_bytes(log.grow(400))
    log.grow(700)
    with published(log.files.folder) as url:
        run = audit(url, "--once", "--json", "--state", state, "--from-checkpoint", note)
    assert run.lines[0]["entries_read"] == 300


def test_what_cannot_be_done_is_no_finding(log: Published, state: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(bytes(5000))
    with published(tmp_path / "empty") as url:
        nothing = audit(url, "--once", "--json", "--state", state)
        odd = audit("gopher://127.0.0.1", "--once", "--json", "--state", state)
        no_key = audit(url, "--once", "--json", key="nonsense")
        binary = audit(url, "--once", "--json", key=tmp_path / "binary")
        large = audit(url, "--once", "--json", key=tmp_path / "large")
        state.parent.mkdir(exist_ok=True)
        state.write_text("{}")
        damaged = audit(url, "--once", "--json", "--state", state)
    gone = audit(url, "--once", "--json", "--state", tmp_path / "another")
    found = [(run.code, run.error["code"]) for run in (nothing, odd, no_key, binary, large, damaged, gone)]
    assert found == [
        (2, "CHECKPOINT_MISSING"),
        (2, "LOG_UNREACHABLE"),
        (2, "VKEY_MALFORMED"),
        (2, "VKEY_MALFORMED"),
        (2, "TOO_LARGE"),
        (2, "AUDIT_STATE_MALFORMED"),
        (2, "LOG_UNREACHABLE"),
    ]


def test_follows_until_it_is_interrupted(log: Published, state: Path) -> None:
    """Ctrl-C while a server answers first with errors, then with a log that grows: exit 0, a line a round."""
    answers = iter([503] * audit_files.TRIES + [200, 200, 200])
    asked = 0

    async def serve(request: Request) -> Response:
        nonlocal asked
        name = request.url.path.lstrip("/")
        if name != "checkpoint":
            return Response((log.files.folder / name).read_bytes())
        asked += 1
        code = next(answers, 200)
        if code == 200 and log.edge.size == 300 and asked > audit_files.TRIES + 1:
            log.grow(301)
        if asked == audit_files.TRIES + 4:
            os.kill(os.getpid(), signal.SIGINT)
        return Response((log.files.folder / name).read_bytes()) if code == 200 else PlainTextResponse("", code)

    app = Starlette(routes=[Route("/{name:path}", serve)])
    with served(WebServer(app, listen="127.0.0.1:0")) as url:
        run = audit(url, "--json", "--state", state, "--interval", 0.1)
    assert run.code == 0
    assert [line["consistent"] for line in run.lines[:3]] == [None, True, True]
    assert run.lines[0]["code"] == "LOG_UNREACHABLE"
    assert [line["tree_size"] for line in run.lines[1:3]] == [300, 301]


def test_interrupt_ends_the_tries_at_once(state: Path) -> None:
    async def refuse(_request: Request) -> Response:
        os.kill(os.getpid(), signal.SIGTERM)
        return PlainTextResponse("", 500)

    app = Starlette(routes=[Route("/{name:path}", refuse)])
    with served(WebServer(app, listen="127.0.0.1:0")) as url:
        once = audit(url, "--json", "--state", state, "--once")
        following = audit(url, "--json", "--state", state)
    assert (once.code, once.out, once.error["code"]) == (2, "", "INTERRUPTED")
    assert (following.code, following.out, following.errors) == (0, "", "")


def test_interrupt_ends_a_long_read_and_keeps_what_was_read(log: Published, state: Path) -> None:
    log.grow(10_000)

    async def serve(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "tile/entries/020":
            os.kill(os.getpid(), signal.SIGINT)
        return Response((log.files.folder / name).read_bytes())

    app = Starlette(routes=[Route("/{name:path}", serve)])
    with served(WebServer(app, listen="127.0.0.1:0")) as url:
        run = audit(url, "--json", "--state", state)
    assert (run.code, run.out) == (0, "")
    kept = AuditState.decode(state.read_bytes(), LOG.verifier)
    assert kept.read is not None
    assert kept.read.size == 8192


def test_server_that_misbehaves_is_told_from_a_log_that_lacks_a_file() -> None:
    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "large":
            return Response(bytes(audit_files.MAX_FILE_BYTES + 1))
        return PlainTextResponse("", int(name), headers={"Location": "/404"})

    app = Starlette(routes=[Route("/{name:path}", answer)])
    pauses: list[float] = []
    with served(WebServer(app, listen="127.0.0.1:0")) as url, HttpLog(url, pause=pauses.append) as files:
        assert files.fetch(["404", "410"]) == [None, None]
        for name, tries in (("503", 5), ("429", 5), ("302", 1), ("403", 1), ("large", 1)):
            pauses.clear()
            with pytest.raises(UnavailableError) as caught:
                files.fetch([name])
            assert caught.value.code == "LOG_UNREACHABLE"
            assert len(pauses) == tries - 1


def test_bar_shows_the_speed_on_a_terminal(
    log: Published, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with published(log.files.folder) as url:
        run = audit(url, "--once", "--state", state)
    assert run.code == 0
    assert "reading entries" in run.errors
    assert "/s" in run.errors
    assert capsys.readouterr().err == ""


def test_goes_on_after_kill_9_where_it_was(log: Published, state: Path) -> None:
    log.grow(10_000)
    children: list[subprocess.Popen[bytes]] = []

    async def serve(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "tile/entries/020":
            children[0].kill()
        return Response((log.files.folder / name).read_bytes())

    app = Starlette(routes=[Route("/{name:path}", serve)])
    with served(WebServer(app, listen="127.0.0.1:0")) as url:
        arguments = [sys.executable, "-m", "medtrail.cli", "audit", url, "--key", VKEY, "--state", str(state), "--once"]
        children.append(subprocess.Popen(arguments, cwd=Path(__file__).parents[3]))
        assert children[0].wait() == -signal.SIGKILL
    with published(log.files.folder) as url:
        run = audit(url, "--once", "--json", "--state", state)
    assert (run.code, run.lines[0]["tree_size"], run.lines[0]["entries_read"]) == (0, 10_000, 10_000 - 4096)
