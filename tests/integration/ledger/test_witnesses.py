"""Witnesses: what they sign, what they refuse, and what the log does when they fail, lie, or know more than it does."""

import asyncio
import gzip
import hashlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ledger import witnessing
from ledger.bootstrap import Ledger
from ledger.commands import main
from ledger.web import WebServer
from ledger.witness.app import SIZE_TYPE, witness_app
from ledger.witness.service import CONTRADICTION, MAX_REQUEST_BYTES, AddCheckpoint, Witness
from ledger.witness_client import WitnessClient
from ledger.witnessing import Witnessing
from medtrail.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from medtrail.codec import encode_batch
from medtrail.errors import ConflictError, MedtrailError
from medtrail.merkle import NodeId, consistency_proof, hash_leaf, root_of
from medtrail.note import Cosigner, NoteSigner, format_vkey, sign_note
from medtrail.policy import Policy, parse_policy
from medtrail.runtime.database import Database

if TYPE_CHECKING:
    from ledger.storage.checkpoint_store import StoredCheckpoint
    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import CheckLog, Events, LogHome, NewLog, OfflineLog, Producer

PATIENCE_S = 180.0
ORIGIN = "ledger.example/test"
LOG = NoteSigner("ledger.example/eu1", bytes(range(32)))
COSIGNER = Cosigner("witness.example/w1", b"\x21" * 32)
LEAVES = [hash_leaf(b"entry %d" % number) for number in range(40)]
OTHERS = [hash_leaf(b"other %d" % number) for number in range(40)]


def note_of(leaves: Sequence[bytes], *, signer: NoteSigner = LOG) -> bytes:
    return sign_checkpoint(Checkpoint(signer.name, len(leaves), root_of(leaves)), signer)


def proof_of(leaves: Sequence[bytes], *, old: int) -> tuple[bytes, ...]:
    def read(nodes: Sequence[NodeId]) -> list[bytes]:
        return [root_of(leaves[index << level : (index + 1) << level]) for level, index in nodes]

    return consistency_proof(read, size1=old, size2=len(leaves)) if 0 < old < len(leaves) else ()


def request_of(size: int, *, old: int = 0, leaves: Sequence[bytes] = LEAVES) -> bytes:
    return AddCheckpoint(old, proof_of(leaves[:size], old=old), note_of(leaves[:size])).encode()


@asynccontextmanager
async def served(app: Starlette, *, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    server = WebServer(app, listen=listen)
    task = asyncio.create_task(server.run())
    try:
        yield f"http://{server.address}"
    finally:
        server.stop()
        await task


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def policy() -> Policy:
    return parse_policy(f"log {format_vkey(LOG.verifier)}\nquorum none\n")


Ask = Callable[[Callable[[httpx.AsyncClient], Awaitable[None]]], None]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ask(tmp_path: Path, policy: Policy, clock: Clock) -> Ask:
    """Run a scenario against a real witness over HTTP."""

    def run(scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        database = Database(tmp_path / "witness.db")

        async def whole() -> None:
            app = witness_app(Witness(database, COSIGNER, policy, clock_s=clock))
            async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
                await scenario(client)

        try:
            asyncio.run(whole())
        finally:
            database.close()

    return run


def time_of(answer: httpx.Response, size: int, leaves: Sequence[bytes] = LEAVES) -> int:
    """Return the time of the verified cosignature in an answer."""
    assert answer.status_code == 200, answer.text
    note = note_of(leaves[:size]) + answer.content
    opened = open_checkpoint(note, origin=LOG.name, verifiers=[LOG.verifier, COSIGNER.verifier])
    (cosignature,) = opened.cosignatures
    assert cosignature.timestamp is not None
    return cosignature.timestamp


def test_signs_what_follows_from_what_it_saw_and_shows_it(ask: Ask, clock: Clock) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        first = time_of(await client.post("/add-checkpoint", content=request_of(3)), 3)
        clock.now -= 5000
        again = time_of(await client.post("/add-checkpoint", content=request_of(3, old=3)), 3)
        assert again == first == int(clock.now + 5000)
        clock.now += 6000
        assert time_of(await client.post("/add-checkpoint", content=request_of(17, old=3)), 17) == first + 1000
        shown = await client.get(f"/{hashlib.sha256(LOG.name.encode()).hexdigest()}/checkpoint")
        opened = open_checkpoint(shown.content, origin=LOG.name, verifiers=[LOG.verifier, COSIGNER.verifier])
        assert opened.checkpoint.size == 17
        assert len(opened.cosignatures) == 1
        assert (await client.get(f"/{'0' * 64}/checkpoint")).status_code == 404

    ask(scenario)


STRANGER = NoteSigner("ledger.example/unknown", bytes(32))
IMPOSTOR = NoteSigner(LOG.name, bytes(32))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b""),
        (400, b"old 5\n"),
        (400, b"old 05\n\n" + note_of(LEAVES[:9])),
        (400, b"old -5\n\n" + note_of(LEAVES[:9])),
        (400, b"new 5\n\n" + note_of(LEAVES[:9])),
        (400, b"old 5\n!\n\n" + note_of(LEAVES[:9])),
        (400, b"old 5\nAAAA\n\n" + note_of(LEAVES[:9])),
        (400, b"old 5\n" + b"A" * 43 + b"=\n" * 64 + b"\n" + note_of(LEAVES[:9])),
        (400, b"old \xff\n\n" + note_of(LEAVES[:9])),
        (400, b"old 5\n\n" + sign_note(f"{LOG.name}\n09\n{'A' * 43}=\n", [LOG])),
        (400, request_of(3, old=5)),
        (403, AddCheckpoint(5, (), note_of(LEAVES[:9], signer=IMPOSTOR)).encode()),
        (403, AddCheckpoint(5, (), note_of(LEAVES[:9]).replace(b"\n9\n", b"\n8\n")).encode()),
        (404, AddCheckpoint(5, (), note_of(LEAVES[:9], signer=STRANGER)).encode()),
        (409, request_of(9)),
        (409, request_of(9, old=4)),
        (409, AddCheckpoint(5, (), note_of(OTHERS[:5])).encode()),
        (413, b"old 5\n\n" + b"x" * MAX_REQUEST_BYTES),
        (422, AddCheckpoint(5, (), note_of(LEAVES[:9])).encode()),
        (422, AddCheckpoint(5, proof_of(LEAVES[:9], old=5)[:-1], note_of(LEAVES[:9])).encode()),
        (422, AddCheckpoint(5, proof_of(OTHERS[:9], old=5), note_of(OTHERS[:9])).encode()),
        (422, AddCheckpoint(5, (bytes(32),), note_of(LEAVES[:5])).encode()),
    ],
)
def test_refuses_with_the_status_of_the_specification(ask: Ask, status: int, body: bytes) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        time_of(await client.post("/add-checkpoint", content=request_of(5)), 5)
        answer = await client.post("/add-checkpoint", content=body)
        assert answer.status_code == status, answer.text
        told = answer.headers["content-type"] == SIZE_TYPE
        assert told is (status == 409)
        assert not told or answer.content == b"5\n"
        # What was refused has changed nothing.
        time_of(await client.post("/add-checkpoint", content=request_of(6, old=5)), 6)
        assert (await client.get("/add-checkpoint")).status_code == 405

    ask(scenario)


def test_forged_history_of_the_log_is_kept_as_evidence(ask: Ask, tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        time_of(await client.post("/add-checkpoint", content=request_of(5)), 5)
        for _ in range(2):
            answer = await client.post("/add-checkpoint", content=AddCheckpoint(5, (), note_of(OTHERS[:5])).encode())
            assert answer.status_code == 409

    ask(scenario)
    database = Database(tmp_path / "witness.db")
    kept = database.read_now(lambda connection: [row.note for row in connection.execute(CONTRADICTION.select())])
    database.close()
    assert kept == [note_of(OTHERS[:5])]


def test_of_two_histories_at_once_it_signs_exactly_one(ask: Ask) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        bodies = [request_of(size, leaves=leaves) for size in (7, 8) for leaves in (LEAVES, OTHERS)] * 4
        answers = await asyncio.gather(*(client.post("/add-checkpoint", content=body) for body in bodies))
        signed = {body for body, answer in zip(bodies, answers, strict=True) if answer.status_code == 200}
        assert len(signed) == 1
        assert {answer.status_code for answer in answers} <= {200, 409}

    ask(scenario)


@pytest.fixture
def witness_process(tmp_path: Path) -> "WitnessProcess":
    """A witness's own process; a test may start it several times, one after the other."""
    key, rules = tmp_path / "witness.key", tmp_path / "policy"
    rules.write_text(f"log {format_vkey(LOG.verifier)}\nquorum none\n")
    assert main(["witness-key", "--name", "witness.example/killed", "--to", str(key)]) == 0
    assert main(["witness-key", "--name", "witness.example/killed", "--to", str(key)]) == 2
    assert key.stat().st_mode & 0o077 == 0
    with WebServer(Starlette(), listen="127.0.0.1:0")._socket as probe:
        port = probe.getsockname()[1]
    environment = {
        "MEDTRAIL_WITNESS_NAME": "witness.example/killed",
        "MEDTRAIL_WITNESS_KEY_FILE": str(key),
        "MEDTRAIL_WITNESS_POLICY_FILE": str(rules),
        "MEDTRAIL_WITNESS_DATA_DIR": str(tmp_path / "data"),
        "MEDTRAIL_WITNESS_LISTEN": f"127.0.0.1:{port}",
    }

    @contextmanager
    def run() -> Iterator[tuple[int, int]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger", "witness"], env=os.environ | environment, stderr=subprocess.PIPE
        )
        try:
            yield process.pid, port
        finally:
            process.kill()
            process.communicate()

    return run


def test_killed_witness_has_not_forgotten_what_it_signed(witness_process: "WitnessProcess") -> None:
    known = 0
    for size in (3, 9, 20):
        with witness_process() as (_pid, port):
            url = f"http://127.0.0.1:{port}"
            answer = _post_until_it_serves(url, request_of(size, old=known))
            if answer.status_code == 409:
                # What was under way when it was killed had been stored, or it had not.
                assert answer.content == b"%d\n" % (known + 1)
                answer = _post(url, request_of(size, old=known + 1))
            assert answer.status_code == 200, answer.text
            stale = _post(url, request_of(2))
            assert (stale.status_code, stale.content) == (409, b"%d\n" % size)
            body = request_of(size + 1, old=size)
            with socket.create_connection(("127.0.0.1", port)) as cut:
                # Killed in the middle of this request: nobody waits for the answer.
                cut.sendall(
                    b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )
        known = size


def test_witness_on_a_disk_that_takes_nothing_signs_nothing_and_goes_on_later(
    witness_process: "WitnessProcess",
) -> None:
    with witness_process() as (pid, port):
        url = f"http://127.0.0.1:{port}"
        assert _post_until_it_serves(url, request_of(3)).status_code == 200
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        refused = _post(url, request_of(9, old=3))
        assert refused.status_code == 503
        assert "\N{EM DASH}" not in refused.text
        name = hashlib.sha256(LOG.name.encode()).hexdigest()
        shown = httpx.get(f"{url}/{name}/checkpoint", timeout=PATIENCE_S)
        assert open_checkpoint(shown.content, origin=LOG.name, verifiers=[LOG.verifier]).checkpoint.size == 3
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        assert _post(url, request_of(9, old=3)).status_code == 200


def test_witness_whose_database_is_away_says_so_to_readers_too(tmp_path: Path, policy: Policy) -> None:
    database = Database(tmp_path / "witness.db")
    witness = Witness(database, COSIGNER, policy, clock_s=time.time)
    database.close()
    (tmp_path / "witness.db").write_bytes(b"this is no database, and it is long enough to be looked at" * 100)
    damaged = Database(tmp_path / "witness.db")
    witness._database = damaged

    async def scenario() -> None:
        async with served(witness_app(witness)) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
            known = await client.get(f"/{hashlib.sha256(LOG.name.encode()).hexdigest()}/checkpoint")
            assert known.status_code == 503
            assert (await client.post("/add-checkpoint", content=request_of(3))).status_code == 503

    asyncio.run(scenario())
    damaged.close()


WitnessProcess = Callable[[], AbstractContextManager[tuple[int, int]]]
"""Runs a witness; gives its process id and port."""


def _post(url: str, body: bytes) -> httpx.Response:
    return httpx.post(f"{url}/add-checkpoint", content=body, timeout=PATIENCE_S)


def _post_until_it_serves(url: str, body: bytes) -> httpx.Response:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(httpx.ConnectError):
            return _post(url, body)
        time.sleep(0.02)
    raise AssertionError(url)


def test_witness_says_which_setting_is_wrong(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("no hex")
    key.chmod(0o600)
    names = {"NAME": "w", "KEY_FILE": key, "POLICY_FILE": key, "DATA_DIR": tmp_path}
    for environment, code in (
        ({}, "SETTING_INVALID"),
        ({f"MEDTRAIL_WITNESS_{name}": str(value) for name, value in names.items()}, "KEY_MALFORMED"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "ledger", "witness"], env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        assert code in ended.stderr
        assert "no hex" not in ended.stderr


# --- the log's side ---


def cosigned_policy(home: "LogHome", url: str, *, quorum: str = "w1") -> Policy:
    key = format_vkey(COSIGNER.verifier)
    return parse_policy(f"log {home.vkey}\nwitness w1 {key} {url}\nquorum {quorum}\n")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log waits for its witness however busy the machine is."""
    monkeypatch.setattr(witnessing, "DEADLINE_S", PATIENCE_S)
    monkeypatch.setattr(witnessing, "REQUEST_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def log(new_log: "NewLog", events: "Events") -> "OfflineLog":
    """A log with 8 published entries and 3 that wait."""
    made = new_log()
    made.enrol(events)
    made.publish()
    made.commission(events)
    return made


class Witnessed:
    """An offline log whose mirror asks a witness."""

    def __init__(self, log: "OfflineLog", url: str) -> None:
        self.log = log
        self.policy = cosigned_policy(log.home, url)
        self.witnessing = Witnessing(
            log.database,
            self.policy,
            verifier=NoteSigner(ORIGIN, log.home.folder.log_seed()).verifier,
            prove_consistency=self._prove,
        )

    async def _prove(self, old_size: int, stored: "StoredCheckpoint") -> tuple[bytes, ...]:
        from ledger.log_reader import LogReader

        reader = LogReader(self.log.database, self.log.files, self.log.feed, map_salt=self.log.salt)
        return await reader.prove_consistency(old_size=old_size, new_size=stored.tree.size, checkpoint=stored)

    async def publish(self) -> None:
        mirror = self.log.mirror()
        mirror.cosign = self.witnessing.cosign
        await self.log.signer().sign_once(self.log.fence)
        if await mirror.repair():
            await mirror.publish_once()

    def check_published(self) -> int:
        """Return the published size, its quorum met."""
        note = self.log.files.checkpoint()
        assert note is not None
        signed = open_checkpoint(note, origin=ORIGIN, verifiers=self.policy.verifiers)
        self.policy.check(signed)
        return signed.checkpoint.size


def witness_of(log: "OfflineLog", path: Path) -> tuple[Starlette, Database]:
    database = Database(path)
    policy = parse_policy(f"log {log.home.vkey}\nquorum none\n")
    return witness_app(Witness(database, COSIGNER, policy, clock_s=time.time)), database


@pytest.mark.usefixtures("patient")
def test_published_checkpoint_carries_the_quorum_from_the_first_moment(
    log: "OfflineLog", events: "Events", tmp_path: Path, check_log: "CheckLog"
) -> None:
    app, database = witness_of(log, tmp_path / "w.db")

    async def scenario() -> None:
        async with served(app) as url:
            witnessed = Witnessed(log, url)
            await witnessed.witnessing.check_ahead()
            await witnessed.publish()
            assert witnessed.check_published() == 11
            log.commission(events, [50])
            await witnessed.publish()
            assert witnessed.check_published() == 12
            assert log.feed.newest.note == log.files.checkpoint()
            # A leader that knows nothing of the witness learns its size from it.
            log.commission(events, [51])
            second = Witnessed(log, url)
            await second.publish()
            assert second.check_published() == 13
            for one in (witnessed, second):
                await one.witnessing.close()

    asyncio.run(scenario())
    database.close()
    check_log(log.home.root)


def lying(answer: Callable[[Request], Awaitable[Response]]) -> Starlette:
    async def nothing(_request: Request) -> Response:
        return PlainTextResponse("", status_code=404)

    return Starlette(routes=[Route("/add-checkpoint", answer, methods=["POST"]), Route("/{o}/checkpoint", nothing)])


def line_for(body: bytes, *, cosigner: Cosigner = COSIGNER, ahead_s: int = 0, tamper: bool = False) -> str:
    text = body.partition(b"\n\n")[2].partition(b"\n\n")[0].decode() + "\n"
    signature = cosigner.cosign(f"{text}{'x' if tamper else ''}", timestamp=int(time.time()) + ahead_s)
    return f"{signature.line}\n"


async def _bad_signature(request: Request) -> Response:
    return PlainTextResponse(line_for(await request.body(), tamper=True))


async def _other_key(request: Request) -> Response:
    return PlainTextResponse(line_for(await request.body(), cosigner=Cosigner("witness.example/w2", b"\x22" * 32)))


async def _other_time(request: Request) -> Response:
    return PlainTextResponse(line_for(await request.body(), ahead_s=100_000))


async def _nonsense(_request: Request) -> Response:
    return Response(b"\xff\xfe")


async def _endless(_request: Request) -> Response:
    return Response(b"x" * 200_000)


async def _bare_size(_request: Request) -> Response:
    return Response(b"1000\n", status_code=409, headers={"Content-Type": SIZE_TYPE})


async def _cut_size(_request: Request) -> Response:
    return Response(b"10", status_code=409, headers={"Content-Type": SIZE_TYPE})


async def _small_sizes(request: Request) -> Response:
    size = b"2\n" if b"old 1\n" in await request.body() else b"1\n"
    return Response(size, status_code=409, headers={"Content-Type": SIZE_TYPE})


async def _broken(_request: Request) -> Response:
    return PlainTextResponse("out of order", status_code=500)


PACKED = {"Content-Encoding": "gzip"}


async def _packed(request: Request) -> Response:
    return Response(gzip.compress(line_for(await request.body()).encode()), headers=PACKED)


async def _bomb(_request: Request) -> Response:
    return Response(gzip.compress(bytes(30_000_000)), headers=PACKED)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (_packed, "WITNESS_LIED"),
        (_bomb, "WITNESS_LIED"),
        (_bad_signature, "WITNESS_LIED"),
        (_other_key, "WITNESS_LIED"),
        (_other_time, "WITNESS_LIED"),
        (_nonsense, "WITNESS_LIED"),
        (_endless, "WITNESS_LIED"),
        (_bare_size, "WITNESS_FAULTY"),
        (_cut_size, "WITNESS_LIED"),
        (_small_sizes, "WITNESS_FAULTY"),
        (_broken, "WITNESS_REFUSED"),
    ],
)
def test_lying_witness_is_not_believed_and_holds_nothing_up(
    answer: Callable[[Request], Awaitable[Response]], code: str, log: "OfflineLog", check_log: "CheckLog"
) -> None:
    async def scenario() -> None:
        async with served(lying(answer)) as url:
            witnessed = Witnessed(log, url)
            await witnessed.publish()
            (status,) = witnessed.witnessing.status()
            assert (status.error, status.failures, status.size) == (code, 1, 0)
            # It is in failure now: it is not asked again at once.
            await witnessed.witnessing.cosign(log.feed.newest)
            assert status.failures == 1
            await witnessed.witnessing.close()

    asyncio.run(scenario())
    assert log.feed.newest.tree.size == 11
    assert log.rows("SELECT count(*) FROM cosignature") == [(0,)]
    assert log.rows("SELECT frozen FROM log_state") == [("",)]
    check_log(log.home.root)


def test_witness_that_answers_packed_or_byte_by_byte_ends_no_leader(log: "OfflineLog") -> None:
    async def packed(_request: Request) -> Response:
        return Response(gzip.compress(b"ledger.example/test\n"), headers=PACKED)

    async def dripping(_request: Request) -> Response:
        async def drops() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

        return StreamingResponse(drops())

    async def scenario() -> None:
        app = Starlette(routes=[Route("/packed/{o}/checkpoint", packed), Route("/slow/{o}/checkpoint", dripping)])
        async with served(app) as url:
            for path, code, timeout_s in (
                ("packed", "WITNESS_LIED", PATIENCE_S),
                ("slow", "WITNESS_UNREACHABLE", 0.2),
            ):
                witnessed = Witnessed(log, f"{url}/{path}")
                await witnessed.witnessing.check_ahead()
                await witnessed.witnessing.close()
                client = WitnessClient(witnessed.policy.witnesses[0], timeout_s=timeout_s)
                with pytest.raises(MedtrailError) as caught:
                    await client.known(witnessed.witnessing._verifier)
                assert caught.value.code == code
                await client.close()

    asyncio.run(scenario())


def test_slow_witness_is_not_waited_for_and_its_word_is_added_later(
    log: "OfflineLog", tmp_path: Path, eventually: "Eventually"
) -> None:
    app, database = witness_of(log, tmp_path / "w.db")
    answers = asyncio.Event()

    async def slow(scope: object, receive: object, send: object) -> None:
        await answers.wait()
        await app(scope, receive, send)  # type: ignore[arg-type]

    async def scenario() -> None:
        outer = Starlette()
        outer.mount("/", slow)
        async with served(outer) as url:
            witnessed = Witnessed(log, url)
            await witnessed.publish()
            with pytest.raises(MedtrailError):
                witnessed.check_published()
            answers.set()
            mirror = log.mirror()
            task = asyncio.create_task(mirror.run())
            await eventually(lambda: b"witness.example/w1" in (log.files.checkpoint() or b""))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert witnessed.check_published() == 11
            await witnessed.witnessing.close()

    asyncio.run(scenario())
    database.close()


def test_dead_witness_is_brought_up_to_date_when_it_comes_back(
    log: "OfflineLog", tmp_path: Path, eventually: "Eventually"
) -> None:
    app, database = witness_of(log, tmp_path / "w.db")

    async def scenario() -> None:
        async with served(Starlette()) as url:
            pass
        witnessed = Witnessed(log, url)
        await witnessed.publish()
        (status,) = witnessed.witnessing.status()
        assert status.error == "WITNESS_UNREACHABLE"
        again = asyncio.create_task(witnessed.witnessing.run())
        async with served(app, listen=url.removeprefix("http://")):
            await eventually(lambda: status.size == 11)
            await log.mirror().repair()
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
        await witnessed.witnessing.close()

    asyncio.run(scenario())
    database.close()
    assert log.rows("SELECT tree_size, witness FROM cosignature") == [(11, "witness.example/w1")]


@pytest.mark.usefixtures("patient")
def test_witness_that_shows_a_larger_tree_of_ours_freezes_the_log_until_it_has_it_again(
    log: "OfflineLog", events: "Events", tmp_path: Path, check_log: "CheckLog"
) -> None:
    app, database = witness_of(log, tmp_path / "w.db")
    older = tmp_path / "older.db"
    log.copy_database(older)
    message = log.message(encode_batch([events.sign(events.commission(60))]))

    async def scenario() -> None:
        async with served(app) as url:
            witnessed = Witnessed(log, url)
            log.integrate(message)
            await witnessed.publish()
            assert witnessed.check_published() == 12
            await witnessed.witnessing.close()
            # The database and its public files are those of yesterday; the witness is not.
            log.restore_database(older)
            (log.home.root / "public" / "checkpoint").unlink()
            restored = Witnessed(log, url)
            await restored.witnessing.check_ahead()
            await restored.publish()
            assert log.rows("SELECT max(tree_size) FROM checkpoint") == [(8,)]
            (frozen,) = log.rows("SELECT frozen, must_reach_size FROM log_state")
            assert "w1 shows a larger tree" in frozen[0]
            assert frozen[1] == 12
            log.integrate(message)
            await restored.publish()
            assert restored.check_published() == 12
            assert log.rows("SELECT frozen, must_reach_size FROM log_state") == [("", 0)]
            await restored.witnessing.close()

    asyncio.run(scenario())
    database.close()
    check_log(log.home.root)


@pytest.mark.usefixtures("patient")
def test_log_that_took_another_way_than_the_witness_saw_never_signs_again(
    log: "OfflineLog", events: "Events", tmp_path: Path
) -> None:
    app, database = witness_of(log, tmp_path / "w.db")
    older = tmp_path / "older.db"
    log.copy_database(older)

    async def scenario() -> None:
        async with served(app) as url:
            witnessed = Witnessed(log, url)
            log.commission(events, [60])
            await witnessed.publish()
            await witnessed.witnessing.close()
            log.restore_database(older)
            (log.home.root / "public" / "checkpoint").unlink()
            log.next_seq -= 1
            log.commission(events, [70, 71])
            # Signed while no witness answered; the next that does shows what was signed before.
            await log.signer().sign_once(log.fence)
            late = Witnessed(log, url)
            await late.witnessing.check_ahead()
            with pytest.raises(ConflictError) as caught:
                await log.signer().sign_once(log.fence)
            assert caught.value.code == "LOG_FORKED"
            mirror = log.mirror()
            mirror.cosign = late.witnessing.cosign
            await mirror.repair()
            await mirror.publish_once()
            (status,) = late.witnessing.status()
            assert status.error == "WITNESS_AHEAD"
            await late.witnessing.close()

    asyncio.run(scenario())
    database.close()
    assert "another root" in log.rows("SELECT frozen FROM log_state")[0][0]


@pytest.mark.usefixtures("patient")
def test_running_ledger_publishes_with_its_witness(
    log_home: "LogHome", producer: "Producer", tmp_path: Path, eventually: "Eventually"
) -> None:
    database = Database(tmp_path / "w.db")
    known = parse_policy(f"log {log_home.vkey}\nquorum none\n")
    app = witness_app(Witness(database, COSIGNER, known, clock_s=time.time))

    async def scenario() -> None:
        async with served(app) as url:
            rules = tmp_path / "policy"
            key = format_vkey(COSIGNER.verifier)
            rules.write_text(f"log {log_home.vkey}\nwitness w1 {key} {url}\nquorum w1\n")
            policy = parse_policy(rules.read_text())
            ledger = Ledger(log_home.settings(policy_file=rules))
            stop = asyncio.Event()
            task = asyncio.create_task(ledger.run(stop.wait()))
            await eventually(ledger.operator.ready.is_set)
            await producer.enrol()
            await producer.send(10)
            async for told in ledger.feed.watch():
                opened = open_checkpoint(told.note, origin=ORIGIN, verifiers=policy.verifiers)
                policy.check(opened)
                if opened.checkpoint.size == producer.size:
                    break
            stop.set()
            await task

    asyncio.run(scenario())
    database.close()
