"""Runs the processes of an embedded network: starts them in order, restarts the dead, stops them all.

A process that dies is started again after a pause that doubles from 0.2 s to 10 s and falls back once it has lived for
a minute. Stopping goes in reverse order: SIGTERM, then SIGKILL after the grace period.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medtrail.errors import UnavailableError

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
STEADY_S = 60.0
STOP_GRACE_S = 10.0
POLL_S = 0.05
LOG_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep alive.

    Attributes:
        name: Also that of its log file.
        command: Program and arguments.
        environment: Added to the supervisor's own.
        ready: Raises UnavailableError while the process does not serve.
        ready_timeout_s: How long its first start may take.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: Callable[[], Awaitable[None]]
    ready_timeout_s: float = 180.0


@dataclass(slots=True)
class _Child:
    program: Program
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    guard: asyncio.Task[None] | None = field(default=None)


def next_pause_s(pause_s: float | None, *, lived_s: float) -> float:
    """Return how long to wait before a dead process is started again, in seconds.

    Args:
        pause_s: The pause before its last start; None at its first death.
        lived_s: How long it lived since.
    """
    if pause_s is None or lived_s > STEADY_S:
        return FIRST_PAUSE_S
    return min(pause_s * 2, LONGEST_PAUSE_S)


class Supervisor:
    """Keeps programs alive until :meth:`stop`.

    Args:
        log_folder: Receives ``<name>.log``, appended to.
        report: Told in words when a process dies, and when it is started again; :meth:`pids` is as told then.
        stop_grace_s: How long a process may take to stop before it is killed.
    """

    def __init__(self, log_folder: Path, *, report: Callable[[str], None], stop_grace_s: float = STOP_GRACE_S) -> None:
        self._log_folder = log_folder
        self._report = report
        self._children: dict[str, _Child] = {}
        self._stop_grace_s = stop_grace_s

    def pids(self) -> dict[str, int]:
        """Return the process id of every running program by name."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.returncode is None
        }

    async def start(self, programs: Sequence[Program]) -> None:
        """Start programs side by side, wait until all of them serve, then guard them.

        Raises:
            UnavailableError: One died or did not serve in time; its log's end is in the message.
        """
        self._log_folder.mkdir(parents=True, exist_ok=True)
        children = [_Child(program) for program in programs]
        for child in children:
            self._children[child.program.name] = child
            child.process = await self._spawn(child.program)
        await asyncio.gather(*(self._wait_ready(child) for child in children))
        for child in children:
            child.guard = asyncio.create_task(self._guard(child), name=f"guard {child.program.name}")

    async def stop(self) -> None:
        """Stop every program, the last started first; returns when all are gone."""
        guards = [child.guard for child in self._children.values() if child.guard is not None]
        for guard in guards:
            guard.cancel()
        # A guard may have failed before; its process has ended then, and the others still have to be.
        await asyncio.gather(*guards, return_exceptions=True)
        services = [child for name, child in reversed(self._children.items()) if name not in {"nats", "ledger"}]
        # Services first and together, then the ledger, which takes in what they sent last, then the exchange.
        await asyncio.gather(*(self._end(child) for child in services))
        for name in ("ledger", "nats"):
            if name in self._children:
                await self._end(self._children[name])
        self._children.clear()

    async def _spawn(self, program: Program) -> asyncio.subprocess.Process:
        path = self._log_folder / f"{program.name}.log"
        with path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "medtrail.cli.launch",
                str(os.getpid()),
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **program.environment},
                # Ctrl-C goes to the supervisor alone, which then stops its children in order.
                start_new_session=True,
            )

    async def _wait_ready(self, child: _Child) -> None:
        program = child.program
        deadline = time.monotonic() + program.ready_timeout_s
        while True:
            if child.process is not None and child.process.returncode is not None:
                message = f"{program.name} ended with code {child.process.returncode}:\n{self._log_end(program.name)}"
                raise UnavailableError(message, code="PROCESS_ENDED")
            try:
                await program.ready()
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    message = f"{program.name} did not serve within {program.ready_timeout_s:g} s: {error.message}\n"
                    raise UnavailableError(message + self._log_end(program.name), code="PROCESS_NOT_READY") from error
                await asyncio.sleep(POLL_S)
            else:
                return

    def _log_end(self, name: str) -> str:
        with (self._log_folder / f"{name}.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    async def _guard(self, child: _Child) -> None:
        pause_s: float | None = None
        while child.process is not None:
            started = time.monotonic()
            code = await child.process.wait()
            pause_s = next_pause_s(pause_s, lived_s=time.monotonic() - started)
            child.restarts += 1
            self._report(f"{child.program.name} ended with code {code}; starting it again")
            await asyncio.sleep(pause_s)
            try:
                child.process = await self._spawn(child.program)
            except OSError as error:
                # A full disk or process table passes: the dead process ends at once again here, and its pause grows.
                self._report(f"{child.program.name} could not be started: {error.strerror}")
            else:
                self._report(f"{child.program.name} is started again as process {child.process.pid}")

    async def _end(self, child: _Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_grace_s):
                await process.wait()
        except TimeoutError:
            self._report(f"{child.program.name} did not stop within {self._stop_grace_s:g} s; killing it")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
