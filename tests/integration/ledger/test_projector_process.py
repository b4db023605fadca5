"""The projector in a process of its own: it takes in what is published, comes back when it dies, never outlives us."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.bootstrap import Ledger
from ledger.projections import store
from ledger.projections.projector import PROJECTION_NAME, open_projection
from ledger.projector_process import NICENESS, ProjectorProcess
from tests.support.processes import runs

if TYPE_CHECKING:
    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import Events, LogHome, NewLog, OfflineLog


@pytest.fixture
def log(new_log: "NewLog", events: "Events") -> "OfflineLog":
    made = new_log()
    made.enrol(events)
    made.commission(events, range(40))
    made.publish()
    return made


def _projector(log: "OfflineLog") -> ProjectorProcess:
    open_projection(log.home.root / PROJECTION_NAME).close()
    return ProjectorProcess(log.home.root, database_url=log.home.database_url)


def _taken_in(root: Path) -> int:
    projection = open_projection(root / PROJECTION_NAME)
    try:
        return projection.read_now(store.next_index)
    finally:
        projection.close()


def test_child_takes_in_what_is_published_and_gives_way_to_the_chain(log: "OfflineLog") -> None:
    async def scenario() -> None:
        projector = _projector(log)
        running = asyncio.create_task(projector.run())
        projector.published(10)
        await projector.wait_for(10)
        assert projector.taken_in == 10
        assert os.getpriority(os.PRIO_PROCESS, projector.pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)
        # Ctrl-C goes to all of a terminal's processes; only the parent ends this one.
        os.kill(projector.pid, signal.SIGINT)
        os.kill(projector.pid, signal.SIGTERM)
        projector.published(48)
        await projector.wait_for(48)
        assert projector.restarts == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        with pytest.raises(ProcessLookupError):
            os.kill(projector.pid, 0)

    asyncio.run(scenario())
    assert _taken_in(log.home.root) == 48


def test_killed_child_is_replaced_and_goes_on(log: "OfflineLog") -> None:
    async def scenario() -> None:
        projector = _projector(log)
        running = asyncio.create_task(projector.run())
        projector.published(20)
        await projector.wait_for(20)
        os.kill(projector.pid, signal.SIGKILL)
        projector.published(48)
        await projector.wait_for(48)
        assert projector.restarts == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    assert _taken_in(log.home.root) == 48


PARENT = """\
import asyncio, sys
from pathlib import Path
from ledger.projector_process import ProjectorProcess

async def main():
    projector = ProjectorProcess(Path(sys.argv[1]), database_url=sys.argv[2])
    running = asyncio.create_task(projector.run())
    projector.published(48)
    await projector.wait_for(48)
    print(projector.pid, flush=True)
    await running

asyncio.run(main())
"""


def test_child_ends_when_its_parent_is_killed(log: "OfflineLog", eventually: "Eventually") -> None:
    open_projection(log.home.root / PROJECTION_NAME).close()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(log.home.root), log.home.database_url], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()

    async def ended() -> None:
        await eventually(lambda: not runs(child))

    asyncio.run(ended())


@pytest.mark.parametrize("words", [b"ten\n", b"", b"99\n"])
def test_child_ends_on_what_it_cannot_follow(log: "OfflineLog", words: bytes) -> None:
    open_projection(log.home.root / PROJECTION_NAME).close()
    environment = log.home.environment()
    ended = subprocess.run(
        [sys.executable, "-m", "ledger", "project"], input=words, env=environment, capture_output=True, check=False
    )
    # The end of its input is the end of its parent: that is no failure.
    assert (ended.returncode, b"SIZE_MALFORMED" in ended.stderr) == ((2, True) if words == b"ten\n" else (0, False))


def test_served_ledger_projects_beside_the_chain(log_home: "LogHome", events: "Events") -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        ledger = Ledger(log_home.settings(projector_process=True))
        task = asyncio.create_task(ledger.run(stop.wait()))
        await ledger.projector.wait_for(1)
        assert await ledger.projected()
        stop.set()
        await task

    asyncio.run(scenario())
