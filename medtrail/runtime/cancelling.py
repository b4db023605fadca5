"""Cancelling tasks that wait for what others wrote.

Until Python 3.12, ``asyncio.wait_for`` swallows a cancellation that comes in the same moment as its result, and nats-py
is built on it; its own ``close`` and ``publish`` swallow one outright, and its ``connect`` closes and goes on for ever.
A task that goes on in a loop then lives for ever, and whoever waits for its end waits as long. The other way round, it
cancels futures of its own on which we wait: to the one who waits that reads as if somebody wanted him to end.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

ASK_AGAIN_S = 0.1


async def cancellable(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns; a cancellation ends the caller whatever the coroutine does with its own.

    The coroutine is cancelled until it ends, every 0.1 s: what it does on its way out has to be done by then.

    Raises:
        CancelledError: The caller was cancelled; the coroutine has ended by then.
        ConnectionAbortedError: What the coroutine waited for was cancelled, the caller was not.
        Exception: What the coroutine raised.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=ASK_AGAIN_S)
        _look_at(task)
        raise
    return outcome(task)


def outcome(task: asyncio.Future[T]) -> T:
    """Return the result of a task that is done and that its owner did not cancel.

    Raises:
        ConnectionAbortedError: It was cancelled by others.
        Exception: What it raised.
    """
    if task.cancelled():
        message = "what was waited for was given up"
        raise ConnectionAbortedError(message)
    return task.result()


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task, which has to obey, and return when it has ended, however it ended.

    Raises:
        CancelledError: The caller was cancelled meanwhile.
    """
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    _look_at(task)


def disregard(task: asyncio.Future[Any]) -> None:
    """Cancel a task, whose end nobody waits for; an error of it is nobody's concern."""
    task.cancel()
    task.add_done_callback(_look_at)


def _look_at(task: asyncio.Future[Any]) -> None:
    # So that nobody complains of an error that nobody saw.
    if not task.cancelled():
        task.exception()
