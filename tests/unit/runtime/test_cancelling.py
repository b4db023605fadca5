"""A cancellation ends the caller, whatever the library below makes of it."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from medtrail.runtime.cancelling import cancellable, end


def test_returns_and_raises_what_the_work_does() -> None:
    async def fail() -> None:
        raise KeyError("no")

    async def scenario() -> None:
        assert await cancellable(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(KeyError):
            await cancellable(fail())

    asyncio.run(scenario())


@pytest.mark.parametrize("outcome", ["result", "error"])
def test_cancellation_in_the_moment_of_the_answer_is_not_lost(outcome: str) -> None:
    async def scenario() -> None:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(cancellable(asyncio.wait_for(answer, 60)))
        for _ in range(5):
            # Until wait_for waits for it.
            await asyncio.sleep(0)
        if outcome == "result":
            answer.set_result("too late")
        else:
            answer.set_exception(KeyError("too late"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


async def cancel_under_way(work: Coroutine[Any, Any, None]) -> None:
    """Cancel who waits for some work that has begun: the cancellation goes on to whoever cancelled."""
    task = asyncio.create_task(cancellable(work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_work_has_ended_when_the_cancellation_goes_on() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def scenario() -> None:
        await cancel_under_way(work())
        assert ended == [True]

    asyncio.run(scenario())


def test_what_others_cancel_does_not_read_as_our_own_end() -> None:
    async def scenario() -> None:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def work() -> str:
            return await answer

        asyncio.get_running_loop().call_soon(answer.cancel)
        with pytest.raises(ConnectionAbortedError):
            await cancellable(work())

    asyncio.run(scenario())


def test_work_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = []

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed.append(True)
                if len(swallowed) == 3:
                    raise

    async def scenario() -> None:
        await cancel_under_way(work())
        assert len(swallowed) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("outcome", ["cancelled", "result", "error", "done before"])
def test_an_ended_task_troubles_nobody(outcome: str) -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(0 if outcome == "done before" else 60)
        except asyncio.CancelledError:
            if outcome == "cancelled":
                raise
        if outcome == "error":
            raise KeyError("late")
        return "late"

    async def scenario() -> list[object]:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await end(task)
        assert task.done()
        assert task.cancelled() == (outcome == "cancelled")
        del task
        gc.collect()
        return complaints

    assert asyncio.run(scenario()) == []
