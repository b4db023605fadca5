"""The supervisor, with real processes: none is lost, none is left."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from medtrail.cli.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, Program, Supervisor, next_pause_s
from medtrail.errors import UnavailableError
from tests.support.processes import runs

if typing.TYPE_CHECKING:
    from tests.conftest import Eventually

REPOSITORY = Path(__file__).parents[3]

# Tells of its start, then waits for SIGTERM and tells of its end. SIGTERM is blocked before anything is told.
OBEDIENT = """
import os, pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
def tell(what):
    with open(sys.argv[2], "a") as file:
        file.write(f"{sys.argv[1]} {what} {os.getpid()}\\n")
tell("starts")
signal.sigwait([signal.SIGTERM])
tell("ends")
"""
STUBBORN = OBEDIENT + "while True: signal.sigwait([signal.SIGTERM])\n"


class Floor:
    """A supervisor, what it reported, and what its programs told."""

    def __init__(self, folder: Path, *, stop_grace_s: float = 10.0) -> None:
        self.folder = folder
        self.reports: list[str] = []
        self.told_path = folder / "told"
        self.logs = folder / "logs"
        self.supervisor = Supervisor(self.logs, report=self.reports.append, stop_grace_s=stop_grace_s)

    def told(self, what: str) -> list[str]:
        """Names of those who told it, in order."""
        if not self.told_path.exists():
            return []
        lines = [line.split() for line in self.told_path.read_text(encoding="utf-8").splitlines()]
        return [name for name, found, _ in lines if found == what]

    def program(
        self,
        name: str,
        text: str = OBEDIENT,
        *,
        ready: Callable[[], Awaitable[None]] | None = None,
        ready_timeout_s: float = 60.0,
    ) -> Program:
        async def started() -> None:
            if name not in self.told("starts"):
                raise UnavailableError("it told nothing yet")

        command = (sys.executable, "-c", text, name, str(self.told_path))
        return Program(name, command, {"TOLD_BY": name}, ready or started, ready_timeout_s)

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text(encoding="utf-8")


@contextlib.asynccontextmanager
async def running(floor: Floor, *programs: Program) -> AsyncIterator[Supervisor]:
    try:
        await floor.supervisor.start(programs)
        yield floor.supervisor
    finally:
        await floor.supervisor.stop()


async def at_once() -> None:
    """Ready without being asked anything."""


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path)


def test_start_returns_when_all_serve(floor: Floor) -> None:
    async def main() -> None:
        async with running(floor, floor.program("a"), floor.program("b")) as supervisor:
            assert sorted(floor.told("starts")) == ["a", "b"]
            pids = supervisor.pids()
            assert sorted(pids) == ["a", "b"]
            assert all(runs(pid) for pid in pids.values())
        assert supervisor.pids() == {}
        assert not any(runs(pid) for pid in pids.values())
        assert sorted(floor.told("ends")) == ["a", "b"]
        assert floor.reports == []

    asyncio.run(main())


def test_program_gets_its_environment_and_its_log(floor: Floor) -> None:
    text = "import os; print('told by', os.environ['TOLD_BY'], 'in', os.environ['PATH'] != '', flush=True)\n" + OBEDIENT

    async def main() -> None:
        for _ in range(2):
            async with running(floor, floor.program("a", text)):
                pass

    asyncio.run(main())
    # The log is appended to. The second start is ready by what the first one told, and may end before it prints.
    assert set(floor.log("a").splitlines()) == {"told by a in True"}


def test_dead_process_is_started_again(floor: Floor, eventually: "Eventually") -> None:
    async def main() -> None:
        async with running(floor, floor.program("a"), floor.program("b")) as supervisor:
            before = supervisor.pids()
            os.kill(before["a"], signal.SIGKILL)
            await eventually(lambda: supervisor.pids().get("a", before["a"]) != before["a"])
            await eventually(lambda: floor.told("starts").count("a") == 2)
            await eventually(lambda: len(floor.reports) == 2)
            after = supervisor.pids()
            assert after["b"] == before["b"]
            assert floor.reports == [
                "a ended with code -9; starting it again",
                f"a is started again as process {after['a']}",
            ]

    asyncio.run(main())


def test_process_that_dies_again_and_again_is_started_again_and_again(floor: Floor, eventually: "Eventually") -> None:
    text = OBEDIENT.replace("signal.sigwait([signal.SIGTERM])", "sys.exit(3)")

    async def main() -> None:
        async with running(floor, floor.program("a", text, ready=at_once)):
            await eventually(lambda: len(floor.told("starts")) >= 3)

    asyncio.run(main())
    assert "a ended with code 3; starting it again" in floor.reports


def test_process_that_cannot_be_started_again_is_tried_until_it_can(floor: Floor, eventually: "Eventually") -> None:
    log = floor.logs / "a.log"

    async def main() -> None:
        async with running(floor, floor.program("a")) as supervisor:
            log.unlink()
            log.mkdir()
            os.kill(supervisor.pids()["a"], signal.SIGKILL)
            await eventually(lambda: floor.reports.count("a could not be started: Is a directory") == 2)
            assert supervisor.pids() == {}
            log.rmdir()
            await eventually(lambda: floor.told("starts").count("a") == 2)
            await eventually(lambda: "a" in supervisor.pids())

    asyncio.run(main())


def test_supervisor_that_stopped_can_start_and_guard_again(floor: Floor, eventually: "Eventually") -> None:
    async def main() -> None:
        async with running(floor, floor.program("a")):
            pass
        async with running(floor, floor.program("b")) as supervisor:
            os.kill(supervisor.pids()["b"], signal.SIGKILL)
            await eventually(lambda: floor.told("starts").count("b") == 2)

    asyncio.run(main())


def test_pause_doubles_up_to_a_limit_and_falls_back_after_a_steady_life() -> None:
    pauses: list[float] = []
    pause_s: float | None = None
    for _ in range(8):
        pause_s = next_pause_s(pause_s, lived_s=0.0)
        pauses.append(pause_s)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert next_pause_s(LONGEST_PAUSE_S, lived_s=STEADY_S) == LONGEST_PAUSE_S
    assert next_pause_s(LONGEST_PAUSE_S, lived_s=STEADY_S + 1) == FIRST_PAUSE_S


def test_failed_start_tells_the_end_of_the_log(floor: Floor) -> None:
    text = "import sys; print('x' * 5000, flush=True); sys.exit('no such disk')"

    async def main() -> None:
        with pytest.raises(UnavailableError) as caught:
            async with running(floor, floor.program("a", text), floor.program("b")):
                pytest.fail("it started")
        assert caught.value.code == "PROCESS_ENDED"
        assert caught.value.message.startswith("a ended with code 1:\nxxx")
        assert caught.value.message.endswith("no such disk\n")
        assert len(caught.value.message) < 2100
        assert floor.supervisor.pids() == {}

    asyncio.run(main())


def test_program_that_is_not_there_is_told(floor: Floor) -> None:
    async def never() -> None:
        raise UnavailableError("not yet")

    async def main() -> None:
        with pytest.raises(UnavailableError, match="FileNotFoundError"):
            async with running(floor, Program("a", ("/nowhere/program",), {}, never)):
                pytest.fail("it started")

    asyncio.run(main())


def test_process_that_does_not_serve_in_time_is_told_and_stopped(floor: Floor) -> None:
    async def never() -> None:
        raise UnavailableError("it is thinking")

    async def main() -> None:
        with pytest.raises(UnavailableError) as caught:
            async with running(floor, floor.program("a", ready=never, ready_timeout_s=0.0)):
                pytest.fail("it started")
        assert caught.value.code == "PROCESS_NOT_READY"
        assert caught.value.message.startswith("a did not serve within 0 s: it is thinking\n")
        assert floor.supervisor.pids() == {}

    asyncio.run(main())


def test_stop_ends_services_then_ledger_then_exchange(floor: Floor) -> None:
    async def main() -> None:
        async with running(floor, floor.program("nats")) as supervisor:
            await supervisor.start([floor.program("ledger")])
            await supervisor.start([floor.program("a"), floor.program("b")])

    asyncio.run(main())
    ends = floor.told("ends")
    assert sorted(ends[:2]) == ["a", "b"]
    assert ends[2:] == ["ledger", "nats"]


def test_stubborn_process_is_killed_after_the_grace(tmp_path: Path) -> None:
    floor = Floor(tmp_path, stop_grace_s=0.3)

    async def main() -> None:
        async with running(floor, floor.program("a", STUBBORN), floor.program("b")) as supervisor:
            pids = supervisor.pids()
        assert not any(runs(pid) for pid in pids.values())

    asyncio.run(main())
    assert "a did not stop within 0.3 s; killing it" in floor.reports


def test_stop_ends_the_others_when_a_guard_failed(tmp_path: Path, eventually: "Eventually") -> None:
    asked = asyncio.Event()

    def report(text: str) -> None:
        asked.set()
        raise OSError(text)

    floor = Floor(tmp_path)
    floor.supervisor = Supervisor(floor.logs, report=report)

    async def main() -> None:
        async with running(floor, floor.program("a"), floor.program("b")) as supervisor:
            pids = supervisor.pids()
            os.kill(pids["a"], signal.SIGKILL)
            await eventually(asked.is_set)
        assert not any(runs(pid) for pid in pids.values())

    asyncio.run(main())


def test_stop_without_a_start_does_nothing(floor: Floor) -> None:
    asyncio.run(floor.supervisor.stop())
    assert floor.reports == []


def test_children_die_with_a_supervisor_that_is_killed(floor: Floor, eventually: "Eventually") -> None:
    script = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from medtrail.cli.supervisor import Program, Supervisor

        async def ready():
            pass

        async def main():
            supervisor = Supervisor(Path(sys.argv[1]), report=print)
            command = (sys.executable, "-c", sys.argv[3])
            await supervisor.start([Program(n, (*command, n, sys.argv[2]), {}, ready) for n in ("a", "b")])
            print(*supervisor.pids().values(), flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """)
    arguments = [str(floor.logs), str(floor.told_path), OBEDIENT]
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 2
        asyncio.run(_until(eventually, lambda: len(floor.told("starts")) == 2))
        assert all(runs(pid) for pid in pids)
        supervisor.kill()
    asyncio.run(_until(eventually, lambda: not any(runs(pid) for pid in pids)))
    # They were asked to stop, not cut off.
    assert sorted(floor.told("ends")) == ["a", "b"]


async def _until(eventually: "Eventually", condition: Callable[[], bool]) -> None:
    await eventually(condition)


def test_child_whose_supervisor_died_before_it_began_does_not_begin(tmp_path: Path) -> None:
    marker = tmp_path / "began"
    command = [sys.executable, "-c", f"open({str(marker)!r}, 'w')"]
    for parent, code in ((os.getpid(), 0), (0, 1)):
        marker.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "medtrail.cli.launch", str(parent), *command], cwd=REPOSITORY, check=False
        )
        assert (done.returncode, marker.exists()) == (code, code == 0)
