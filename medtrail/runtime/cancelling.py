"""Cancelling tasks that wait for what others wrote.

Until Python 3.12, ``asyncio.wait_for`` swallows a cancellation that comes in the same moment as its result. A task that
goes on in a loop then lives for ever, and whoever waits for its end waits as long. nats-py is built on it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def cancellable(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns; a cancellation ends the caller whatever the coroutine does with its own.

    Raises:
        CancelledError: The caller was cancelled; the coroutine has ended by then.
        Exception: What the coroutine raised.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, so that nobody complains of it: the caller ends in any case.
            task.exception()
        raise
    return task.result()
