"""The projector as a process of its own: deciding what entries state must not take the chain's interpreter lock.

Parent and child speak in lines, one tree size each: on the child's standard input what is published, on its standard
output what is taken in. The end of its input ends the child, so it never outlives its parent, however that ends.
"""

import asyncio
import contextlib
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from ledger.projections.projector import BATCH_BYTES, PROJECTION_NAME, Projector
from ledger.projections.store import ChainedEvent
from ledger.storage import entry_store
from ledger.storage.open import open_storage
from medtrail.errors import MalformedError, MedtrailError
from medtrail.runtime.database import Database
from medtrail.runtime.logging import configure_logging, get_logger
from medtrail.runtime.settings import ProjectorSettings, load_settings

log = get_logger(__name__)

NICENESS = 10
"""The chain comes first: the projection may lag, its answers tell of which size they are. It may not stand still: at 10
it has about a tenth of a core that is wanted whole by others, at 19 a seventieth."""

RESTART_FIRST_S = 0.2
RESTART_AT_MOST_S = 10.0
STOP_GRACE_S = 5.0


class Follower(Protocol):
    """Takes published entries into the projection: in this process or in one of its own."""

    @property
    def taken_in(self) -> int:
        """Size of the tree that is known to be taken in."""

    def published(self, tree_size: int) -> None:
        """Tell that the log is published up to a size."""

    async def wait_for(self, tree_size: int) -> None:
        """Wait until all entries below a size are taken in."""

    async def run(self) -> None:
        """Follow until cancelled."""


class ProjectorProcess:
    """The parent's side: starts the child, starts it again when it dies, and ends it."""

    def __init__(self, data_dir: Path, *, database_url: str = "", log_level: str = "info") -> None:
        """Hold what the child is told; nothing is started yet.

        Args:
            data_dir: Of this instance: holds projection.db, prepared, and ledger.db unless a URL is given.
            database_url: The log's database; empty: SQLite in the data folder.
            log_level: Of the child.
        """
        self._environment = {
            "MEDTRAIL_DATA_DIR": str(data_dir),
            # Not among the arguments: those are for all on the machine to see, and a URL may hold a password.
            "MEDTRAIL_DATABASE_URL": database_url,
            "MEDTRAIL_LOG_LEVEL": log_level,
        }
        self._published = 0
        self._more = asyncio.Event()
        self._taken_in = 0
        self._advanced = asyncio.Condition()
        self.pid = 0
        self.restarts = 0

    @property
    def taken_in(self) -> int:
        """Size of the tree that is known to be taken in."""
        return self._taken_in

    def published(self, tree_size: int) -> None:
        """Tell that the log is published up to a size."""
        if tree_size > self._published:
            self._published = tree_size
            self._more.set()

    async def wait_for(self, tree_size: int) -> None:
        """Wait until all entries below a size are taken in."""
        async with self._advanced:
            await self._advanced.wait_for(lambda: self._taken_in >= tree_size)

    async def run(self) -> None:
        """Keep a child alive until cancelled; the pause before the next doubles while none gets on."""
        pause_s = RESTART_FIRST_S
        while True:
            before = self._taken_in
            code = await self._live()
            pause_s = RESTART_FIRST_S if self._taken_in > before else min(pause_s * 2, RESTART_AT_MOST_S)
            log.warning("projector died", exit_code=code, restart_s=pause_s)
            await asyncio.sleep(pause_s)
            self.restarts += 1

    async def _live(self) -> int:
        """Start a child and speak with it until it ends; return its exit code."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ledger",
            "project",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | self._environment,
        )
        self.pid = child.pid
        telling = asyncio.create_task(self._tell(child), name="projector-tell")
        try:
            await self._hear(child)
            return await child.wait()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await _end(child)

    async def _tell(self, child: asyncio.subprocess.Process) -> None:
        if child.stdin is None:  # pragma: no cover - it was asked for
            return
        told = 0
        while True:
            self._more.clear()
            if self._published > told:
                told = self._published
                child.stdin.write(f"{told}\n".encode())
                # A child that died is noticed by the end of its output.
                with contextlib.suppress(ConnectionError):
                    await child.stdin.drain()
            await self._more.wait()

    async def _hear(self, child: asyncio.subprocess.Process) -> None:
        if child.stdout is None:  # pragma: no cover - it was asked for
            return
        async for line in child.stdout:
            async with self._advanced:
                self._taken_in = max(self._taken_in, int(line))
                self._advanced.notify_all()


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    if child.stdin is not None:
        child.stdin.close()
    try:
        async with asyncio.timeout(STOP_GRACE_S):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


# --- the child's side ---


def project_from_environment() -> int:
    """Take entries in as the parent tells, until it ends; return the exit code."""
    try:
        settings = load_settings(ProjectorSettings)
        configure_logging(process="ledger/projector", level=settings.log_level)
        os.nice(NICENESS)
        # Ctrl-C and a service manager's stop reach the whole group: the parent ends this process, in its own order.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        asyncio.run(_project(settings))
    except MedtrailError as error:
        configure_logging(process="ledger/projector")
        log.error("projector cannot go on", code=error.code, reason=error.message)  # noqa: TRY400 - its own message tells all
        return 2
    return 0


async def _project(settings: ProjectorSettings) -> None:
    database = open_storage(settings.data_dir, settings.database_url)
    # Its parent has prepared it, and reads it: this one must not put another file in its place.
    projection = Database(settings.data_dir / PROJECTION_NAME)
    projector = Projector(projection, partial(read_chained, database), on_taken_in=_report)
    following = asyncio.create_task(projector.run(), name="projector")
    parent = asyncio.create_task(_listen(projector), name="parent")
    try:
        await asyncio.wait({following, parent}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        else:
            parent.result()
    finally:
        for task in (following, parent):
            task.cancel()
        await asyncio.gather(following, parent, return_exceptions=True)
        projection.close()
        database.close()


async def read_chained(database: Database, start: int, stop: int) -> list[ChainedEvent]:
    """Return the first SignedEvents of [start, stop) of the log, up to some MiB; those that were erased are empty.

    Raises:
        VerificationError: EVENT_MISSING: one is gone, and nobody ordered that.
    """
    return await database.read(partial(_chained, start=start, stop=stop))


def _chained(connection: Connection, *, start: int, stop: int) -> list[ChainedEvent]:
    found: list[ChainedEvent] = []
    size = 0
    for each in entry_store.each_entry(connection, start=start, end=stop):
        found.append(
            ChainedEvent(each.leaf_index, b"", each.map_keys)
            if each.erased
            else ChainedEvent(each.leaf_index, each.require_event())
        )
        size += len(found[-1].signed_event)
        if size > BATCH_BYTES:
            break
    return found


async def _listen(projector: Projector) -> None:
    """Tell the projector what the parent says is published; return when the parent is gone."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        async for line in reader:
            if not line.strip().isdigit():
                raise MalformedError("expected a tree size", code="SIZE_MALFORMED", field="stdin")
            projector.published(int(line))
    finally:
        transport.close()


def _report(tree_size: int) -> None:
    # A parent that is gone is noticed by the end of our input.
    with contextlib.suppress(BrokenPipeError):
        print(tree_size, flush=True)  # noqa: T201 - the line is the message
