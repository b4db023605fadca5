"""Two instances on one database: one leads, the other stands by, recomputes every root, and takes over."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.bootstrap import Ledger
from ledger.leadership import InstanceRole, Leadership, Times, is_dead
from ledger.standby import StandbyCheck
from medtrail.checkpoint import open_checkpoint
from medtrail.errors import MedtrailError
from medtrail.note import parse_vkey

if TYPE_CHECKING:
    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import Events, LogHome, NewLog, Producer

WAIT_S = 60


class Instances:
    """Instances of one ledger on one database, in this process or as processes of their own."""

    def __init__(self, home: "LogHome", database_url: str) -> None:
        self.home = home
        self.url = database_url
        self._processes: list[subprocess.Popen[bytes]] = []

    def settings(self, name: str) -> dict[str, object]:
        return {"data_dir": self.home.root / name, "database_url": self.url, "instance": name}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        log = (self.home.root / f"{name}.log").open("ab")
        environment = self.home.environment() | {
            f"MEDTRAIL_{key.upper()}": str(value) for key, value in self.settings(name).items()
        }
        with log:
            process = subprocess.Popen([sys.executable, "-m", "ledger", "serve"], env=environment, stderr=log)
        self._processes.append(process)
        return process

    @asynccontextmanager
    async def running(self, name: str, **changes: object) -> AsyncIterator[Ledger]:
        ledger = Ledger(self.home.settings(**(self.settings(name) | changes)))
        stop = asyncio.Event()
        task = asyncio.create_task(ledger.run(stop.wait()))
        try:
            yield ledger
        finally:
            stop.set()
            await task

    def published(self, name: str) -> int:
        path = self.home.root / name / "public" / "checkpoint"
        if not path.is_file():
            return 0
        verifier = parse_vkey(self.home.vkey)
        return open_checkpoint(path.read_bytes(), origin=verifier.name, verifiers=[verifier]).checkpoint.size

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def instances(log_home: "LogHome") -> Iterator[Instances]:
    made = Instances(log_home, log_home.database_url or f"sqlite:////{log_home.root.relative_to('/')}/shared.db")
    yield made
    made.close()


def test_standby_publishes_what_the_leader_signs_and_takes_over_at_its_end(
    instances: Instances, producer: "Producer", eventually: "Eventually", monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may keep a leader from its beat for longer than a standby waits.
    monkeypatch.setattr("ledger.leadership.Times", partial(Times, patience=float(WAIT_S)))

    async def scenario() -> None:
        async with AsyncExitStack() as second:
            async with instances.running("one") as one:
                await eventually(one.operator.ready.is_set)
                await producer.enrol()
                two = await second.enter_async_context(instances.running("two"))
                await producer.send(20)
                await eventually(lambda: instances.published("two") == producer.size)
                assert (one.leadership.role, two.leadership.role) == (InstanceRole.LEADER, InstanceRole.STANDBY)
                await eventually(lambda: two.trust.current.next_index == one.trust.current.next_index)
            await eventually(lambda: two.leadership.role is InstanceRole.LEADER)
            await producer.send(20)
            await eventually(lambda: instances.published("two") == producer.size)

    asyncio.run(scenario())


def test_killed_leader_is_replaced_and_nothing_is_lost(
    instances: Instances, producer: "Producer", eventually: "Eventually"
) -> None:
    async def scenario() -> None:
        first = instances.start("one")
        await eventually(lambda: instances.published("one") > 0)
        await producer.enrol()
        await producer.send(50)
        async with instances.running("two") as two:
            await eventually(lambda: instances.published("two") >= 1)
            await producer.send(50)
            first.kill()
            first.wait()
            await eventually(lambda: two.leadership.role is InstanceRole.LEADER)
            await producer.send(50)
            await eventually(lambda: instances.published("two") == producer.size)

    asyncio.run(scenario())


def test_paused_leader_that_comes_back_signs_nothing_and_stands_by(
    instances: Instances, producer: "Producer", eventually: "Eventually"
) -> None:
    async def scenario() -> None:
        first = instances.start("one")
        await eventually(lambda: instances.published("one") > 0)
        await producer.enrol()
        async with instances.running("two") as two:
            await eventually(lambda: instances.published("two") == producer.size)
            first.send_signal(signal.SIGSTOP)
            await eventually(lambda: two.leadership.role is InstanceRole.LEADER)
            await producer.send(30)
            await eventually(lambda: instances.published("two") == producer.size)
            first.send_signal(signal.SIGCONT)
            await producer.send(30)
            # The old leader's own files follow the new one's history.
            await eventually(lambda: instances.published("one") == producer.size)
            # Its files may know of the new leader before it does itself.
            await eventually(lambda: "instance leads no more" in (instances.home.root / "one.log").read_text())
            assert two.leadership.role is InstanceRole.LEADER

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("UPDATE signed_event SET data = zeroblob(9) WHERE leaf_index = 9", "ENTRY_CORRUPT"),
        ("DELETE FROM entry WHERE leaf_index = 10", "ENTRY_MISSING"),
        ("UPDATE checkpoint SET root_hash = zeroblob(32) WHERE tree_size = 11", "ROOT_MISMATCH"),
        ("UPDATE log_state SET tree_size = 7, tree_range = (SELECT tree_range FROM kept)", "LOG_ROLLED_BACK"),
        ("UPDATE log_state SET tree_range = (SELECT tree_range FROM kept)", "LOG_ROLLED_BACK"),
    ],
)
def test_log_that_does_not_add_up_is_not_taken_over(
    damage: str, code: str, new_log: "NewLog", events: "Events"
) -> None:
    log = new_log()
    log.change("CREATE TABLE kept AS SELECT tree_range FROM log_state")
    log.enrol(events)
    log.publish()
    check = StandbyCheck(log.database)
    asyncio.run(check.run_once())
    log.commission(events)
    log.publish()
    log.change(damage)

    async def lead(_fence: int) -> None:
        raise AssertionError

    leadership = Leadership(log.database, name="two", lead=lead, check=check.run_once)
    with pytest.raises(MedtrailError) as caught:
        asyncio.run(leadership.run())
    assert caught.value.code == code
    assert leadership.role is InstanceRole.UNFIT
    assert log.rows("SELECT fence FROM log_state") == [(log.fence,)]


def test_holder_is_dead_only_when_its_process_is_gone_from_this_machine(tmp_path: Path) -> None:
    from ledger.leadership import _machine, _process

    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = f"one {_process(process.pid)}"
    assert not is_dead(holder)
    process.kill()
    process.communicate()
    assert is_dead(holder)
    # The same number, given to another process, is not the holder.
    assert is_dead(f"one {_machine()}:1:0")
    assert not is_dead("one other-machine:1:0")
    assert not is_dead("somebody")
