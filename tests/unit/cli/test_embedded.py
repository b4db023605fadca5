"""The embedded network before anything runs: its lock, its ports, its programs, and failures at the start."""

import asyncio
import fcntl
import json
import socket
import sys
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from medtrail.cli import embedded
from medtrail.cli.embedded import EmbeddedNetwork
from medtrail.cli.network import read_network, write_network
from medtrail.cli.output import ExitCode
from medtrail.cli.ready import nats_ready
from medtrail.cli.setup import NetworkFolders, ensure_description, ensure_folders
from medtrail.cli.supervisor import Program
from medtrail.errors import ConflictError, MalformedError, UnavailableError

if typing.TYPE_CHECKING:
    from tests.unit.cli.conftest import Medtrail

NAMES = ("gs1-pharma", "elm-street-pharmacy")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "net"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> NetworkFolders:
    """Folders of a small network; do not change them."""
    root = tmp_path_factory.mktemp("net")
    found = ensure_description(root)
    organisations = tuple(found.organisation(name) for name in NAMES)
    return ensure_folders(root, replace(found, organisations=organisations, products=()))


@pytest.fixture
def held(root: Path) -> Iterator[Path]:
    """A folder whose network another process runs."""
    ensure_description(root)
    with (root / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root


def _failing(name: str) -> Program:
    async def ready() -> None:
        raise UnavailableError("it never serves")

    return Program(name, (sys.executable, "-c", "raise SystemExit('no disk')"), {}, ready)


# --- lock ---


def test_second_network_in_a_folder_is_refused_and_harms_nothing(held: Path, folders: NetworkFolders) -> None:
    running = embedded._network(folders, embedded._ports(folders.root / "ports.json", NAMES))
    write_network(held, running)
    second = EmbeddedNetwork(held, report=lambda _text: None)

    async def main() -> None:
        with pytest.raises(ConflictError) as caught:
            await second.start()
        assert caught.value.code == "NETWORK_RUNNING"
        await second.stop()

    asyncio.run(main())
    assert read_network(held) == running
    assert not (held / "authority").exists()


def test_up_is_refused_where_a_network_runs(medtrail: "Medtrail", held: Path, folders: NetworkFolders) -> None:
    write_network(held, embedded._network(folders, embedded._ports(folders.root / "ports.json", NAMES)))
    run = medtrail("up", "--dir", held, "--json")
    assert run.code == ExitCode.REFUSED
    assert json.loads(run.errors.splitlines()[-1])["error"]["code"] == "NETWORK_RUNNING"
    assert run.out == ""
    assert (held / "network.json").exists()


def test_up_names_the_mistake_in_network_toml(medtrail: "Medtrail", root: Path) -> None:
    root.mkdir()
    (root / "network.toml").write_text("surprise = 1\n", encoding="utf-8")
    run = medtrail("up", "--dir", root)
    assert run.code == ExitCode.WRONG_USE
    assert "NETWORK_FILE network.toml: surprise: unknown key" in run.errors


def test_failed_start_gives_the_folder_free(medtrail: "Medtrail", root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_nats_program", lambda *_: _failing("nats"))
    for _ in range(2):
        run = medtrail("up", "--dir", root, "--json")
        assert run.code == ExitCode.NO_ANSWER
        error = json.loads(run.errors.splitlines()[-1])["error"]
        assert error["code"] == "PROCESS_ENDED"
        assert error["message"].endswith("no disk\n")
        assert not (root / "network.json").exists()


def test_folder_is_free_after_a_stop(root: Path) -> None:
    first, second = (EmbeddedNetwork(root, report=lambda _text: None) for _ in range(2))
    ensure_description(root)
    first._take_lock()
    with pytest.raises(ConflictError):
        second._take_lock()
    asyncio.run(first.stop())
    second._take_lock()
    asyncio.run(second.stop())
    assert first.root == second.root == root.resolve()
    assert first.pids() == {}


def test_network_json_follows_the_restarts_while_it_runs(folders: NetworkFolders, root: Path) -> None:
    reports: list[str] = []
    network = EmbeddedNetwork(root, report=reports.append)
    root.mkdir()
    network._restarted("a ended")
    assert not (root / "network.json").exists()

    running = embedded._network(folders, embedded._ports(folders.root / "ports.json", NAMES))
    network._network = replace(running, pids={"a": 1})
    network._restarted("a ended again")
    assert read_network(root) == running
    assert reports == ["a ended", "a ended again"]


def test_network_json_that_cannot_be_written_stops_nobody(folders: NetworkFolders, root: Path) -> None:
    reports: list[str] = []
    network = EmbeddedNetwork(root, report=reports.append)
    (root / "network.json.tmp").mkdir(parents=True)
    network._network = embedded._network(folders, embedded._ports(folders.root / "ports.json", NAMES))
    network._restarted("a ended")
    assert reports == ["a ended", "network.json could not be written: Is a directory"]


# --- ports ---


def test_ports_stay_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = embedded._ports(path, NAMES)
    assert embedded._ports(path, NAMES) == first
    picked = [first.nats, first.ledger, first.http, *first.organisations.values()]
    assert len(set(picked)) == 5
    assert all(0 < port < 2**16 for port in picked)
    assert list(first.organisations) == list(NAMES)


def test_ports_of_new_parties_are_added(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = embedded._ports(path, NAMES[:1])
    later = embedded._ports(path, NAMES)
    assert replace(later, organisations=first.organisations, portals=first.portals) == first
    assert later.organisations[NAMES[0]] == first.organisations[NAMES[0]]
    assert later.organisations[NAMES[1]] not in {first.nats, first.ledger, first.http, *first.organisations.values()}
    # Who is gone keeps its port for when it comes back.
    assert embedded._ports(path, NAMES[:1]) == first
    assert embedded._ports(path, NAMES) == later


@pytest.mark.parametrize("text", ['{"nats": 1', "[]", '{"nats": "4222"}', '{"nats": true}', '{"nats": 70000}'])
def test_refuses_ports_that_are_no_ports_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text, encoding="utf-8")
    with pytest.raises(MalformedError) as caught:
        embedded._ports(tmp_path / "ports.json", NAMES)
    assert caught.value.code == "PORTS_FILE"


# --- programs ---


def test_programs_listen_where_network_json_says(folders: NetworkFolders) -> None:
    ports = embedded._ports(folders.root / "ports.json", NAMES)
    network = embedded._network(folders, ports)
    ledger = embedded._ledger_program(folders, ports)
    assert (ledger.name, ledger.command[1:]) == ("ledger", ("-m", "ledger", "serve"))
    assert ledger.environment["MEDTRAIL_LISTEN"] == network.ledger_address
    assert f"http://{ledger.environment['MEDTRAIL_HTTP_LISTEN']}" == network.log_url
    assert ledger.environment["MEDTRAIL_NATS_URL"] == network.nats_url
    assert (ledger.environment["MEDTRAIL_LOG_VKEY"],) == network.verifier_keys

    for item, role in zip(network.organisations, ("manufacturer", "pharmacy"), strict=True):
        program = embedded._service_program(folders, ports, item.name)
        assert (program.name, program.command[1:]) == (item.name, ("-m", f"services.{role}"))
        assert program.environment["MEDTRAIL_LISTEN"] == item.address
        assert program.environment["MEDTRAIL_ORG_DIR"] == item.folder
        assert program.environment["MEDTRAIL_LEDGER_ADDRESS"] == network.ledger_address
        assert program.environment["MEDTRAIL_LEDGER_GLN"] == network.ledger_gln
        assert program.environment["MEDTRAIL_AUTHORITY_KEY_ID"] == network.authority_key_id
        assert Path(program.environment["MEDTRAIL_DATA_DIR"]).is_dir()


def test_exchange_knows_every_party_and_no_secret(folders: NetworkFolders) -> None:
    ports = embedded._ports(folders.root / "ports.json", NAMES)
    program = embedded._nats_program(folders, ports)
    config = Path(program.command[-1]).read_text(encoding="utf-8")
    assert f"127.0.0.1:{ports.nats}" in config
    for folder in (folders.authority, folders.ledger, *folders.organisations.values()):
        assert folder.nats_user_key() in config
        assert folder.nats_seed().decode() not in config


# --- readiness ---


def test_nothing_that_listens_is_not_ready(folders: NetworkFolders) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        async def main() -> None:
            for waiting in (nats_ready(port), embedded._grpc_ready(folders, port, "ledger")):
                with pytest.raises(UnavailableError) as caught:
                    await waiting
                assert caught.value.code == "PROCESS_NOT_READY"

        asyncio.run(main())


@pytest.mark.parametrize(("greeting", "ready"), [(b"INFO {}\r\n", True), (b"220 mail\r\n", False), (b"", False)])
def test_exchange_is_known_by_its_greeting(greeting: bytes, ready: bool) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            if ready:
                await nats_ready(port)
                return
            with pytest.raises(UnavailableError):
                await nats_ready(port)

    asyncio.run(main())


def test_whoever_says_nothing_is_not_ready_and_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtrail.cli.ready.READY_CALL_S", 0.05)
    left = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async def main() -> None:
        async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
            with pytest.raises(UnavailableError):
                await nats_ready(server.sockets[0].getsockname()[1])
            async with asyncio.timeout(20):
                await left.wait()

    asyncio.run(main())
