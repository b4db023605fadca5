"""Fixtures for the ledger's integration tests: a new log over a real nats-server.

Fixtures:
    log_home: the ledger's folder for a test, with the exchange's address.
    run_ledger: runs the ledger in this process, with all organisations enrolled.
    events: makes signed events of the network's organisations.
    new_log: makes logs without an exchange, for tests that hand messages over by themselves.
    producer: sends events of the maker, and remembers what the exchange took.
"""

import asyncio
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import Connection, select
from sqlalchemy.engine import make_url

from ledger.bootstrap import Ledger
from ledger.creation import ensure_log
from ledger.feed import CheckpointFeed
from ledger.fsck import check_folder
from ledger.fsck_report import Report
from ledger.intake import StreamMessage, examine_message
from ledger.mirror import Mirror
from ledger.sequencer import integrate
from ledger.signer import Signer
from ledger.storage import log_store, tables
from ledger.storage.checkpoint_store import StoredCheckpoint
from ledger.storage.log_store import State
from ledger.storage.migrate import migrate
from ledger.storage.open import open_storage
from ledger.tile_files import TileFiles
from ledger.trust_state import load_registry
from medtrail.codec import encode_batch, encode_payload, encode_signed_event
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import UnavailableError
from medtrail.event import Capture, Event, Genesis, Header, Statement, new_salt
from medtrail.gs1 import Gln
from medtrail.note import NoteSigner, format_vkey
from medtrail.runtime.bus import Bus, Stored, connect_bus
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.settings import LedgerSettings
from medtrail.subjects import events_subject
from tests.support import log_check

if TYPE_CHECKING:
    from tests.conftest import Eventually, NatsServer, Network

ORIGIN = "ledger.example/test"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The log's database: each test runs on both backends; a module that is about files has its own."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_url")
    return url


@dataclass(frozen=True)
class LogHome:
    """The folder of a log: ``org`` with its keys and genesis, and the databases and public files beside it."""

    root: Path
    folder: OrganisationFolder
    authority_key_id: str
    nats_url: str
    database_url: str = ""

    @property
    def vkey(self) -> str:
        return format_vkey(NoteSigner(ORIGIN, self.folder.log_seed()).verifier)

    def settings(self, **changes: object) -> LedgerSettings:
        values: dict[str, object] = {
            "org_dir": self.folder.path,
            "data_dir": self.root,
            "nats_url": self.nats_url,
            "log_origin": ORIGIN,
            "log_vkey": self.vkey,
            "authority_key_id": self.authority_key_id,
            "database_url": self.database_url,
            "checkpoint_interval_s": 0.05,
            "projector_process": False,
        }
        return LedgerSettings(**(values | changes))  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        settings = self.settings(projector_process=True).model_dump(exclude_none=True)
        return os.environ | {f"MEDTRAIL_{name.upper()}": str(value) for name, value in settings.items()}


def make_home(
    root: Path, network: "Network", *, nats_url: str = "nats://127.0.0.1:1", database_url: str = ""
) -> LogHome:
    shutil.copytree(network["ledger"].path, root / "org")
    authority = network.authority
    key_id = authority.signing_key().key_id
    genesis = Genesis(ORIGIN, key_id, hashlib.sha256(authority.map_salt()).digest())
    (root / "org" / "genesis.bin").write_bytes(authority.sign(genesis))
    # Where check_log finds it.
    (root / log_check.URL_NAME).write_text(database_url)
    return LogHome(root, OrganisationFolder(root / "org"), key_id, nats_url, database_url)


@pytest.fixture
def log_home(tmp_path: Path, network: "Network", nats_server: "NatsServer", database_url: str) -> LogHome:
    return make_home(tmp_path / "ledger", network, nats_url=nats_server.url, database_url=database_url)


NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
"""Before the stream's time: a late event is accepted."""

PATIENCE_S = 180

STREAM_TIME = datetime(2026, 2, 1, tzinfo=UTC)
"""Of messages that a test hands over."""


class Events:
    """Makes signed events, each of its own id unless one is given."""

    def __init__(self, network: "Network") -> None:
        self._network = network
        self._keys = {name: folder.signing_key() for name, folder in network.organisations.items()}
        self._number = 0

    def key(self, name: str) -> SigningKey:
        return self._keys[name]

    def sign(
        self,
        statement: Statement,
        *,
        by: str = "maker",
        actor: Gln | None = None,
        event_id: str | None = None,
        key: SigningKey | None = None,
        capture: Capture = Capture.FIRST_HAND,
    ) -> bytes:
        self._number += 1
        header = Header(
            salt=new_salt(),
            actor=actor or self._network[by].gln,
            source="line-1",
            source_seq=self._number,
            event_id=event_id or f"urn:uuid:00000000-0000-4000-8000-{self._number:012d}",
            capture=capture,
        )
        event = Event(header, statement)
        return encode_signed_event(sign(event.payload_type, encode_payload(event), key or self._keys[by]))

    def commission(self, serial: int, *, count: int = 1, when: datetime = NOW) -> EpcisEvent:
        return EpcisEvent(
            type=EventType.OBJECT,
            event_time=when,
            event_time_zone_offset="+00:00",
            action=Action.ADD,
            epc_list=tuple(f"urn:epc:id:sgtin:030001.0012345.{serial + number}" for number in range(count)),
            biz_step="commissioning",
            disposition="active",
        )

    def observe(self, serial: int, *, when: datetime = NOW) -> EpcisEvent:
        return EpcisEvent(
            type=EventType.OBJECT,
            event_time=when,
            event_time_zone_offset="+00:00",
            action=Action.OBSERVE,
            epc_list=(f"urn:epc:id:sgtin:030001.0012345.{serial}",),
            biz_step="storing",
        )

    def enrolments(self) -> list[bytes]:
        return [folder.enrolment_bytes() for folder in self._network.organisations.values()]


@pytest.fixture
def events(network: "Network") -> Events:
    return Events(network)


class Running:
    """A ledger that runs in this process, with all organisations enrolled, and a connection for each publisher."""

    def __init__(self, ledger: Ledger, network: "Network", url: str, eventually: "Eventually") -> None:
        self.ledger = ledger
        self._network = network
        self._url = url
        self._eventually = eventually
        self._buses: dict[str, Bus] = {}
        self.enrolled_size = 1 + len(network.organisations)

    async def bus(self, name: str) -> Bus:
        if name not in self._buses:
            folder = self._network.authority if name == "authority" else self._network[name]
            self._buses[name] = await connect_bus(
                self._url, seed=folder.nats_seed(), gln=folder.gln, name=name, timeout_s=PATIENCE_S
            )
        return self._buses[name]

    def gln(self, name: str) -> Gln:
        return self._network.authority.gln if name == "authority" else self._network[name].gln

    async def publish(self, name: str, data: bytes) -> Stored:
        return await (await self.bus(name)).publish(events_subject(self.gln(name)), data)

    async def enrol(self, events: Events) -> None:
        await self._eventually(self.ledger.operator.ready.is_set)
        if await self.ledger.database.read(lambda connection: log_store.require_state(connection).tree.size) == 1:
            await self.publish("authority", encode_batch(events.enrolments()))
        await self.checkpoint_of(self.enrolled_size)

    async def checkpoint_of(self, size: int) -> StoredCheckpoint:
        """Wait for a published checkpoint of at least this size."""
        async with asyncio.timeout(PATIENCE_S):
            async for checkpoint in self.ledger.feed.watch():
                if checkpoint.tree.size >= size:
                    return checkpoint
        raise AssertionError

    async def checkpoints(self) -> list[tuple[int, bytes]]:
        """Return sizes and roots of all signed checkpoints."""
        query = select(tables.CHECKPOINT.c.tree_size, tables.CHECKPOINT.c.root_hash)
        return await self.ledger.database.read(
            lambda connection: [(row.tree_size, row.root_hash) for row in connection.execute(query)]
        )

    async def integrated(self, stream_seq: int) -> None:
        """Wait until a message of the stream is integrated."""

        async def done() -> bool:
            state = await self.ledger.database.read(log_store.require_state)
            return state.next_seq > stream_seq

        await self._eventually(done)

    async def close(self) -> None:
        for bus in self._buses.values():
            await bus.close()


RunLedger = Callable[[], AbstractAsyncContextManager[Running]]


@pytest.fixture
def run_ledger(log_home: LogHome, network: "Network", events: Events, eventually: "Eventually") -> RunLedger:
    @asynccontextmanager
    async def run() -> AsyncIterator[Running]:
        stop = asyncio.Event()
        ledger = Ledger(log_home.settings())
        task = asyncio.create_task(ledger.run(stop.wait()))
        running = Running(ledger, network, log_home.nats_url, eventually)
        try:
            await running.enrol(events)
            yield running
        finally:
            await running.close()
            stop.set()
            await task

    return run


class Producer:
    """Sends events of the maker, and remembers what the exchange took."""

    def __init__(self, home: LogHome, network: "Network", events: Events, eventually: "Eventually") -> None:
        self._home, self._network, self._events, self._eventually = home, network, events, eventually
        self.sent: list[bytes] = []

    async def enrol(self) -> None:
        await self._publish("authority", self._events.enrolments())

    async def send(self, count: int) -> None:
        batch = [self._events.sign(self._events.commission(len(self.sent) + number)) for number in range(count)]
        await self._publish("maker", batch)
        self.sent += batch

    async def _publish(self, name: str, batch: list[bytes]) -> None:
        folder = self._network.authority if name == "authority" else self._network[name]
        bus = await connect_bus(
            self._home.nats_url, seed=folder.nats_seed(), gln=folder.gln, name=name, timeout_s=PATIENCE_S
        )

        async def taken() -> bool:
            # The leader makes the stream after the log.
            try:
                await bus.publish(events_subject(folder.gln), encode_batch(batch))
            except UnavailableError as error:
                if error.code == "STREAM_MISSING":
                    return False
                raise
            return True

        try:
            await self._eventually(taken)
        finally:
            await bus.close()

    @property
    def size(self) -> int:
        """Of the tree once all is chained."""
        return 1 + len(self._network.organisations) + len(self.sent)


@pytest.fixture
def producer(log_home: LogHome, network: "Network", events: Events, eventually: "Eventually") -> Producer:
    return Producer(log_home, network, events, eventually)


class OfflineLog:
    """A log whose messages are handed over by the test; several batches, publications and checks at will."""

    def __init__(self, home: LogHome) -> None:
        self.home = home
        self.salt = home.folder.map_salt()
        self.database = open_storage(home.root, home.database_url)
        migrate(self.database, map_salt=self.salt)
        settings = home.settings()
        self.database.write_now(
            partial(
                ensure_log,
                folder=settings.org_dir,
                origin=ORIGIN,
                authority_key_id=home.authority_key_id,
                map_salt=self.salt,
                now=NOW,
            )
        )
        self.fence = self.database.write_now(log_store.take_fence)
        self.files = TileFiles(home.root / "public")
        self.feed = CheckpointFeed()
        self.next_seq = 1

    def message(self, data: bytes, *, sender: str = "0300011111116") -> StreamMessage:
        moment = STREAM_TIME + timedelta(seconds=self.next_seq)
        stored_time = moment.isoformat().replace("+00:00", "Z")
        message = StreamMessage(self.next_seq, f"medtrail.v1.events.{sender}", stored_time, moment, data)
        self.next_seq += 1
        return message

    def integrate(self, *messages: StreamMessage) -> State:
        opened = [examine_message(message, map_salt=self.salt) for message in messages]

        def step(connection: Connection) -> State:
            size = log_store.require_state(connection).tree.size
            registry = load_registry(connection, authority_key_id=self.home.authority_key_id, tree_size=size)
            return integrate(connection, opened=opened, registry=registry, fence=self.fence, created="then")[0]

        return self.database.write_now(step)

    def enrol(self, events: Events) -> None:
        self.integrate(self.message(encode_batch(events.enrolments()), sender="4012345000993"))

    def commission(self, events: Events, serials: Iterable[int] = range(3)) -> None:
        batch = encode_batch([events.sign(events.commission(serial)) for serial in serials])
        self.integrate(self.message(batch))

    def signer(self) -> Signer:
        return Signer(self.database, NoteSigner(ORIGIN, self.home.folder.log_seed()), interval_s=0.05)

    def mirror(self) -> Mirror:
        verifier = NoteSigner(ORIGIN, self.home.folder.log_seed()).verifier
        return Mirror(self.database, self.files, verifier=verifier, feed=self.feed)

    def publish(self) -> None:
        """Start anew, mend, sign and publish: what a restarted process does."""

        async def run() -> None:
            mirror = self.mirror()
            if await mirror.repair():
                await mirror.publish_once()
            await self.signer().sign_once(self.fence)
            if await mirror.repair():
                await mirror.publish_once()

        asyncio.run(run())

    def copy_database(self, to: Path) -> None:
        """Copy the database as it is now; ``to`` names the copy."""
        if self.home.database_url:
            self.database.close()
            self._admin(f'CREATE DATABASE "{to.name}" TEMPLATE "{self._name}"')
            self.database = open_storage(self.home.root, self.home.database_url)
            return
        with closing(sqlite3.connect(self.home.root / "ledger.db")) as connection:
            connection.execute("VACUUM INTO ?", (str(to),))

    def restore_database(self, copy: Path) -> None:
        """Put a copy in the place of the database."""
        self.database.close()
        if self.home.database_url:
            self._admin(f'DROP DATABASE "{self._name}" WITH (FORCE)')
            self._admin(f'ALTER DATABASE "{copy.name}" RENAME TO "{self._name}"')
        else:
            for path in self.home.root.glob("ledger.db*"):
                path.unlink()
            shutil.copy(copy, self.home.root / "ledger.db")
        self.database = open_storage(self.home.root, self.home.database_url)

    @property
    def _name(self) -> str:
        return make_url(self.home.database_url).database or ""

    def _admin(self, statement: str) -> None:
        server = make_url(self.home.database_url).set(database="postgres").render_as_string(hide_password=False)
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(statement)

    def fsck(self) -> Report:
        return check_folder(self.home.root, database_url=self.home.database_url)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.database.read_now(
            lambda connection: [tuple(row) for row in connection.exec_driver_sql(self._spelled(statement)).all()]
        )

    def change(self, statement: str, *values: object) -> None:
        self.database.write_now(lambda connection: connection.exec_driver_sql(self._spelled(statement), values))

    def _spelled(self, statement: str) -> str:
        """Return a statement in the database's own spelling; tests are written in SQLite's."""
        if not self.home.database_url:
            return statement
        statement = re.sub(r"zeroblob\((\d+)\)", r"decode(repeat('00', \1), 'hex')", statement)
        statement = re.sub(r"\bx'([0-9a-f]*)'", r"decode('\1', 'hex')", statement)
        return statement.replace("?", "%s")

    def close(self) -> None:
        self.database.close()


NewLog = Callable[[], OfflineLog]
CheckLog = log_check.CheckLog


@pytest.fixture
def new_log(tmp_path: Path, network: "Network", database_url: str) -> Iterator[NewLog]:
    made: list[OfflineLog] = []

    def make() -> OfflineLog:
        assert not (made and database_url), "one log a database"
        made.append(OfflineLog(make_home(tmp_path / f"log-{len(made)}", network, database_url=database_url)))
        return made[-1]

    yield make
    for log in made:
        log.close()


@pytest.fixture
def log(new_log: NewLog, events: Events) -> OfflineLog:
    """A log with 11 entries, all published."""
    made = new_log()
    made.enrol(events)
    made.commission(events)
    made.publish()
    return made
