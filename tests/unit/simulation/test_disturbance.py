"""Disturbing hits processes that follow from the seed, and leaves none stopped."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator

import pytest

from medtrail.simulation import disturbance
from medtrail.simulation.disturbance import Disturber


@contextlib.asynccontextmanager
async def _children() -> AsyncIterator[dict[str, Process]]:
    program = (sys.executable, "-c", "import sys; sys.stdin.read()")
    pipe = asyncio.subprocess.PIPE
    found = {name: await asyncio.create_subprocess_exec(*program, stdin=pipe) for name in ("ledger", "witness")}
    try:
        yield found
    finally:
        for process in found.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_S", "LEAST_S", "MOST_S", "STILL_S"):
        monkeypatch.setattr(disturbance, name, 0.0)


def test_kills_every_process_the_witness_too(soon: None) -> None:
    async def run() -> list[int]:
        async with _children() as children:
            alive = {name: process.pid for name, process in children.items()}
            disturber = Disturber(lambda: alive, seed=1, kill=True, still=False)
            task = asyncio.create_task(disturber.run())
            ended = [await process.wait() for process in children.values()]
            task.cancel()
            assert disturber.kills.keys() == children.keys()
            return ended

    assert asyncio.run(run()) == [-9, -9]


def test_lets_a_process_stand_still_and_go_on(soon: None) -> None:
    async def run() -> int | None:
        async with _children() as children:
            asked = asyncio.Event()

            def pids() -> dict[str, int]:
                if disturber.stops:
                    asked.set()
                return {"ledger": children["ledger"].pid}

            disturber = Disturber(pids, seed=1, kill=False, still=True)
            task = asyncio.create_task(disturber.run())
            await asked.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            # It still reads to the end of its input and ends by itself: it was let go on.
            await children["ledger"].communicate(b"")
            return children["ledger"].returncode

    assert asyncio.run(run()) == 0


def test_without_a_way_to_disturb_nothing_happens(soon: None) -> None:
    disturber = Disturber(lambda: {"ledger": 1}, seed=1, kill=False, still=False)
    asyncio.run(disturber.run())
    assert not disturber.kills
    assert not disturber.stops
