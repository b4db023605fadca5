"""Examining messages in processes of their own, because decoding events takes the interpreter lock.

Signatures alone could be verified by threads; reading and checking what was signed costs as much again, and no thread
does that beside another. So while a backlog is worked off, whole messages go to as many processes as there are cores,
and come back as the small values of :mod:`ledger.intake`. A network in which little happens never starts them.

A process that dies is no loss: nothing was decided yet. The pool is built anew with the next read. The processes end
with their parent, however that ends.
"""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from ledger.intake import OpenMessage, StreamMessage, examine_batch, from_rows, to_rows
from medtrail.errors import UnavailableError
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

BYTES_INLINE = 256 * 1024
"""A read with less data (some 500 events) is examined by a thread: it takes less than starting processes does."""

COLLECT_AFTER = 50_000
"""Objects that are made before the garbage collector looks at the young ones: those of a few thousand events."""


class Examiners:
    """Examines reads of the stream, each in order, on all cores once there is enough to do.

    Memory is bounded by the read: a message goes to one process at a time, and comes back once.
    """

    def __init__(self, *, map_salt: bytes, processes: int | None = None, bytes_inline: int = BYTES_INLINE) -> None:
        """Hold the parts; no process is started yet.

        Args:
            map_salt: The item map's secret, 32 bytes.
            processes: At most so many, 1 or more; by default one for each core.
            bytes_inline: Data of a read below which no process takes part.
        """
        self._examine = partial(_examine, map_salt=map_salt)
        self._processes = processes or os.cpu_count() or 1
        self._bytes_inline = bytes_inline
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="examiner")
        self._pool: ProcessPoolExecutor | None = None

    async def examine(self, messages: Sequence[StreamMessage]) -> list[OpenMessage]:
        """Return the messages examined, in their order.

        Raises:
            UnavailableError: EXAMINER_DIED: a process was killed; asking again starts others.
        """
        pool = self._executor(sum(len(message.data) for message in messages))
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.gather(
                *(loop.run_in_executor(pool, self._examine, message.data) for message in messages)
            )
        except BrokenProcessPool as error:
            self._drop_pool()
            raise UnavailableError("a process that examines events died", code="EXAMINER_DIED") from error
        return [
            OpenMessage(message, message.sha256, from_rows(rows)) for message, rows in zip(messages, found, strict=True)
        ]

    def _executor(self, size: int) -> Executor:
        if size < self._bytes_inline:
            return self._thread
        if self._pool is None:
            # Not by fork: threads of this process hold locks that a copy would never see released.
            self._pool = ProcessPoolExecutor(
                self._processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_examiner,
            )
            log.info("examiners start", processes=self._processes)
        return self._pool

    def _drop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End thread and processes once they have done what they hold. Safe to call twice."""
        self._thread.shutdown()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def spare_collector() -> None:
    """Let the garbage collector of a process that handles many events run rarely, and not over what stays.

    Events are freed by their reference counts; at the collector's default of 700 objects it walks all of a read many
    times over, which costs as much as all else that the parent does for an event.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _examine(data: bytes, *, map_salt: bytes) -> list[tuple[Any, ...]]:
    return to_rows(examine_batch(data, map_salt=map_salt))


def _start_examiner() -> None:  # pragma: no cover - runs in the examiners' own processes
    # Ctrl-C reaches the whole group; when to end is the parent's word.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spare_collector()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True, name="parent").start()


def _end_with(sentinel: int) -> None:  # pragma: no cover - runs in the examiners' own processes
    wait([sentinel])
    # A parent that was killed tells nobody; what was being examined is examined again by whoever reads next.
    os._exit(1)
