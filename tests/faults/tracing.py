"""Faults at single system calls, put there by strace; a process that strace may trace, and what came of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 180.0
ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"^\d+ +(\w+)\(")


@dataclass(frozen=True)
class Ended:
    """How a child ended: by which signal or with which code, how far it came, its error, and the calls that it made."""

    signal: int
    code: int
    progress: int
    error: str
    calls: Counter[str]
    injected: int


def why_not() -> str:
    """Return why nothing can be traced here; empty: it can."""
    if shutil.which("strace") is None:
        return "strace is not there"
    # A process of one's own child's making, as the tests trace it.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        tracer = _Tracer(process.pid, ["-e", "trace=read"], Path(os.devnull))
        attached = tracer.attached()
        tracer.end()
        process.kill()
    return "" if attached else "ptrace is not allowed here"


class _Tracer:
    def __init__(self, pid: int, arguments: list[str], output: Path) -> None:
        command = ["strace", "-f", "-o", str(output), *arguments, "-p", str(pid)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def attached(self) -> bool:
        assert self._process.stderr is not None
        return "attached" in self._process.stderr.readline()

    def wait(self) -> None:
        self._process.communicate()

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()


class ForkServer:
    """A process that forks a child a case (tests/faults/fork_server.py)."""

    def __init__(self, folder: Path) -> None:
        """Start it; ``folder`` gets the traces."""
        self._folder = folder
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.fork_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pid = 0

    def run(self, case: dict[str, Any], *, arguments: list[str] | None = None) -> Ended:
        """Run a case to its end, traced with strace's arguments if they are given."""
        self.begin(case, arguments=arguments)
        return self.ended()

    def begin(self, case: dict[str, Any], *, arguments: list[str] | None = None) -> int:
        """Start a case and return the child's pid."""
        self._write(case)
        self._pid = self._read()
        self._trace: Path | None = None
        self._tracer: _Tracer | None = None
        if arguments is not None:
            self._number += 1
            self._trace = self._folder / f"trace-{self._number}"
            self._tracer = _Tracer(self._pid, arguments, self._trace)
            assert self._tracer.attached()
        os.kill(self._pid, signal.SIGUSR1)
        return self._pid

    def stopped(self) -> bool:
        """Wait until the child is stopped by a signal, or has ended; return whether it is stopped."""
        assert self._trace is not None
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            text = self._trace.read_text(errors="replace")
            if "--- stopped by SIGSTOP ---" in text:
                return True
            if "+++" in text:
                return False
            time.sleep(0.002)
        raise AssertionError(text)

    def resume(self) -> None:
        """Let the stopped child go on."""
        os.kill(self._pid, signal.SIGCONT)

    def ended(self) -> Ended:
        """Wait for the child's end."""
        told = self._read()
        if self._tracer is not None:
            self._tracer.wait()
        lines = [] if self._trace is None else self._trace.read_text(errors="replace").splitlines()
        calls = Counter(match[1] for line in lines if (match := _LINE.match(line)))
        return Ended(
            signal=told["status"] & 0x7F,
            code=told["status"] >> 8,
            progress=told["progress"],
            error=told["error"],
            calls=calls,
            injected=sum("(INJECTED)" in line or "+++ killed by" in line for line in lines),
        )

    def close(self) -> None:
        """End it, and the child that may stand still."""
        if self._process.poll() is None and self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._process.communicate()

    def _write(self, document: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(document)}\n")
        self._process.stdin.flush()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())
