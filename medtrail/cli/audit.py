"""``medtrail audit``: follow a log from outside, with nothing but its public files.

Exit codes: 0 all is consistent (with --once, or until it was interrupted); 1 evidence against the log; 2 the work
could not be done: wrong use, an unreadable state, or no answer.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn

from medtrail.cli.audit_files import HttpLog, StateFile, default_state_path, read_limited
from medtrail.cli.output import ExitCode, Output
from medtrail.cli.verify import MAX_KEY_BYTES
from medtrail.errors import MalformedError, MedtrailError, UnavailableError, VerificationError
from medtrail.monitor import Audited, AuditState, LogContradictionError, Monitor, trusted
from medtrail.note import NoteVerifier, parse_vkey
from medtrail.note_format import MAX_NOTE_BYTES
from medtrail.policy import MAX_POLICY_BYTES, Policy, parse_policy

QUORUM_TRIES = 5
"""How often a checkpoint is asked for again while cosignatures may still be on their way."""

QUORUM_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the command line asked for; paths are None where they were not given."""

    url: str
    key: str
    policy: Path | None = None
    state: Path | None = None
    from_checkpoint: Path | None = None
    once: bool = False
    interval_s: float = 10.0


class Audit:
    """Rounds over one log, until there is evidence, or somebody interrupts."""

    def __init__(self, output: Output, options: AuditOptions, stop: threading.Event) -> None:
        """Read key, policy and state; nothing is fetched.

        Raises:
            MedtrailError: One of them cannot be read.
        """
        self._output = output
        self._options = options
        self._stop = stop
        self._verifier = _verifier(options.key)
        self._policy = _policy(options.policy)
        self._file = StateFile(options.state or default_state_path(self._verifier), self._verifier)
        self._state = self._file.load()
        if self._state is None and options.from_checkpoint is not None:
            note = read_limited(options.from_checkpoint, MAX_NOTE_BYTES)
            self._state = trusted(note, self._verifier, now_s=_now_s())

    def run(self) -> None:
        """Do the rounds.

        Raises:
            MedtrailError: What ended them.
        """
        with HttpLog(self._options.url, pause=self._pause) as log:
            while not self._stop.is_set():
                try:
                    self._round(log)
                except UnavailableError as error:
                    if self._options.once or self._stop.is_set():
                        raise
                    # A log that cannot be reached now is not yet one that hides something: said, and asked again.
                    document = {"consistent": None, "code": error.code, "message": str(error)}
                    self._output.line(document, f"no answer: {error}")
                if self._options.once:
                    return
                self._stop.wait(self._options.interval_s)

    def _round(self, log: HttpLog) -> None:
        for attempt in range(1, QUORUM_TRIES + 1):
            try:
                self._audit(log)
                return
            except VerificationError as error:
                if error.code != "QUORUM_NOT_MET" or attempt == QUORUM_TRIES:
                    raise
            self._pause(QUORUM_PAUSE_S)

    def _audit(self, log: HttpLog) -> None:
        started = time.monotonic()
        with _progress() as tell:
            monitor = Monitor(log.fetch, verifier=self._verifier, policy=self._policy, keep=self._keep, tell=tell)
            audited = monitor.audit(self._state, now_s=_now_s())
        self._state = audited.state
        self._tell(audited, time.monotonic() - started)

    def _keep(self, state: AuditState) -> None:
        self._file.save(state)
        self._state = state
        # Reading a large log takes long; what was read so far is kept.
        self._pause(0)

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise UnavailableError("interrupted", code="INTERRUPTED")

    def _tell(self, audited: Audited, seconds: float) -> None:
        checkpoint = audited.signed.checkpoint
        seen = [one.verifier.name for one in audited.signed.cosignatures]
        speed = round(audited.entries_read / seconds) if seconds > 0 else 0
        document = {
            "consistent": True,
            "origin": checkpoint.origin,
            "tree_size": checkpoint.size,
            "root_hash": checkpoint.root_hash.hex(),
            "entries_read": audited.entries_read,
            "entries_per_s": speed,
            "witnesses": seen,
            "age_s": audited.age_s,
        }
        text = f"consistent {checkpoint.origin}: {checkpoint.size} entries, {audited.entries_read} read now"
        if audited.entries_read:
            text += f" ({speed} a second)"
        if audited.age_s:
            text += f"; unchanged for {audited.age_s} s"
        if self._policy is not None:
            text += f"; seen by {', '.join(seen) or 'no witness'}"
        self._output.line(document, text)

    def write_evidence(self, found: LogContradictionError) -> None:
        """Write what anyone can check, and say where."""
        for path in self._file.write_evidence(found):
            found.facts[path.name.rsplit("-", 1)[1].replace(".", "_")] = str(path)
            if not self._output.as_json:
                self._output.errors.print(f"evidence: {path}", markup=False, soft_wrap=True)


def run_audit(output: Output, options: AuditOptions) -> None:
    """Audit a log, and end the process with the exit code that this module states."""
    stop = threading.Event()
    try:
        audit = Audit(output, options, stop)
        with _until_interrupted(stop):
            try:
                audit.run()
            except LogContradictionError as error:
                audit.write_evidence(error)
                raise
    except VerificationError as error:
        output.fail(error, code=ExitCode.REFUSED)
    except UnavailableError as error:
        # Following ends so; a single round was not done.
        if options.once or error.code != "INTERRUPTED":
            output.fail(error, code=ExitCode.WRONG_USE)
    except MedtrailError as error:
        output.fail(error, code=ExitCode.WRONG_USE)


@contextlib.contextmanager
def _until_interrupted(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the rounds after the step under way: an interrupt is no finding."""

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, interrupted) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> str:
        """Return entries a second."""
        return f"{round(task.speed or 0)}/s"


class _Tell:
    """Passes a round's progress to a bar."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("reading entries", total=None, visible=False)

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total, visible=True)


@contextlib.contextmanager
def _progress() -> Iterator["_Tell"]:
    """Show a bar with its speed on standard error while a round runs, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Tell(bar)


def _verifier(key: str) -> NoteVerifier:
    path = Path(key)
    if not path.is_file():
        return parse_vkey(key)
    try:
        return parse_vkey(read_limited(path, MAX_KEY_BYTES).decode().strip())
    except UnicodeDecodeError as error:
        raise MalformedError("expected a verifier key as text", code="VKEY_MALFORMED", field=key) from error


def _policy(path: Path | None) -> Policy | None:
    return None if path is None else parse_policy(read_limited(path, MAX_POLICY_BYTES).decode("utf-8", "replace"))


def _now_s() -> int:
    return int(time.time())
