"""A whole network for the tests of this folder: started by `medtrail up`, used as its users use it, ended by Ctrl-C."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.cli.network import RunningNetwork, read_network
from medtrail.cli.session import Session, open_session
from medtrail.errors import NotFoundError
from tests.support.command import Run, run_command

PATIENCE_S = 180.0
POLL_S = 0.02
REPOSITORY = Path(__file__).parents[2]
REFERENCE_EXAMPLE = REPOSITORY.parent.joinpath(
    "shared/data/openepcis-test-resources/1.2/EPCIS/XML/Capture/Documents/GS1_US_Pharma_Example_2_2_1_1.xml"
)
SHIPPED_EXAMPLE = REPOSITORY / "medtrail/cli/data/dscsa_example.xml"


def unmeasured() -> dict[str, str]:
    """Return the environment for processes whose coverage others measure: nine starts take twice as long with it."""
    return {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}


def run_process(*arguments: str) -> Run:
    """Run `medtrail` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "medtrail.cli", *arguments],
        cwd=REPOSITORY,
        env=unmeasured(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr)


class Net:
    """A running network, and ways to use it."""

    def __init__(self, folder: Path, running: RunningNetwork) -> None:
        self.folder = folder
        self.running = running

    def medtrail(self, *arguments: str, who: str | None = None) -> Run:
        """Run a command against the network, in this process."""
        return run_command("--dir", str(self.folder), *(("--as", who) if who else ()), *arguments)

    def process(self, *arguments: str, who: str | None = None) -> Run:
        """Run a command against the network, as a process of its own."""
        return run_process("--dir", str(self.folder), *(("--as", who) if who else ()), *arguments)

    def pids(self) -> dict[str, int]:
        """Process ids by name, as network.json has them now."""
        return read_network(self.folder).pids

    def gln(self, name: str) -> str:
        return self.running.organisation(name).gln

    def session(self, name: str) -> contextlib.AbstractAsyncContextManager[Session]:
        return open_session(self.running, self.running.organisation(name))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds; fails after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(POLL_S)


async def believed(session: Session, event_id: str) -> None:
    """Wait until the log has an event and the ledger answers from it."""

    async def condition() -> bool:
        try:
            found = await session.ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(event_id=event_id))
        except NotFoundError:
            return False
        status = await session.ledger.GetStatus(ledger_pb2.GetStatusRequest())
        return any(each.name == "projector" and each.position > found.leaf_index for each in status.followers)

    await until(condition)


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """One network for all tests; ends with Ctrl-C, upon which it must end cleanly and leave no process behind."""
    folder = tmp_path_factory.mktemp("net")
    output = folder / "up.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "medtrail.cli", "--dir", str(folder), "up", "--no-portals"],
            cwd=REPOSITORY,
            env=unmeasured(),
            stdout=file,
            stderr=file,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "network.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the network did not start: {output.read_text(encoding='utf-8')}")
            time.sleep(POLL_S)
        found = Net(folder, read_network(folder))
        yield found
        pids = found.pids()
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    words = output.read_text(encoding="utf-8")
    assert code == 0, words
    assert "running; Ctrl-C stops it" in words
    assert "stopping" in words
    assert "starting it again" not in words, "no process may have died meanwhile"
    assert len(pids) == 10
    assert [name for name, pid in pids.items() if _lives(pid)] == []
    assert not (folder / "network.json").exists()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="session")
def example_path() -> Path:
    """The GS1 US example: the published document where it is at hand, else the one that ships."""
    return REFERENCE_EXAMPLE if REFERENCE_EXAMPLE.exists() else SHIPPED_EXAMPLE


@pytest.fixture(scope="session")
def example(net: Net, example_path: Path) -> dict[str, Any]:
    """The answer to the example's import, once the ledger believes all of it."""
    run = net.process("import", str(example_path), "--json", who="gs1-pharma")
    assert run.code == 0, run.errors

    async def wait() -> None:
        async with net.session("gs1-pharma") as session:
            for event_id in run.document["event_ids"]:
                await believed(session, event_id)

    asyncio.run(wait())
    answer: dict[str, Any] = run.document
    return answer
