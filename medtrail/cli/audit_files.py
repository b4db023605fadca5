"""What `medtrail audit` reads and writes: a log's files over HTTP, and the state that it keeps beside its evidence."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from medtrail.errors import NotFoundError, TooLargeError, UnavailableError
from medtrail.monitor import AuditState, LogContradictionError
from medtrail.note import NoteVerifier, format_vkey
from medtrail.runtime.files import read_file, write_file
from medtrail.tiles import MAX_ENTRY_BYTES, TILE_WIDTH

PARALLEL_FETCHES = 8
TRIES = 5
FIRST_PAUSE_S = 0.2
TIMEOUT_S = 15.0
MAX_FILE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
"""Of the largest entry bundle; no other file of a log is larger."""

_ABSENT = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})
_TRY_LATER = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT})


class HttpLog:
    """A log's public files below a prefix, fetched a few at a time and again where the network fails."""

    def __init__(self, url: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Connect to nothing yet.

        Args:
            url: The log's prefix.
            pause: Waits so many seconds between tries.
        """
        self._url = url.rstrip("/")
        self._pause = pause
        limits = httpx.Limits(max_connections=PARALLEL_FETCHES, max_keepalive_connections=PARALLEL_FETCHES)
        headers = {"Accept-Encoding": "gzip, identity", "User-Agent": "medtrail-audit"}
        self._client = httpx.Client(timeout=TIMEOUT_S, limits=limits, headers=headers)
        self._threads = ThreadPoolExecutor(PARALLEL_FETCHES, thread_name_prefix="fetch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def fetch(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the files at paths, in order; None for one that the log says it does not have.

        Raises:
            UnavailableError: LOG_UNREACHABLE, after several tries.
        """
        if len(paths) == 1:
            return [self._fetch(paths[0])]
        return list(self._threads.map(self._fetch, paths))

    def _fetch(self, path: str) -> bytes | None:
        for attempt in range(TRIES):
            if attempt:
                self._pause(FIRST_PAUSE_S * 2**attempt)
            try:
                with self._client.stream("GET", f"{self._url}/{path}") as answer:
                    if answer.status_code == httpx.codes.OK:
                        return _body(answer, path)
                    if answer.status_code in _ABSENT:
                        return None
                    reason = f"answered {answer.status_code}"
                    if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR and answer.status_code not in _TRY_LATER:
                        break
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = str(error) or type(error).__name__
        raise UnavailableError(f"{self._url}: {reason}", code="LOG_UNREACHABLE", field=path)


def _body(answer: httpx.Response, path: str) -> bytes:
    parts: list[bytes] = []
    left = MAX_FILE_BYTES
    for part in answer.iter_bytes():
        left -= len(part)
        if left < 0:
            raise UnavailableError(f"the file has more than {MAX_FILE_BYTES} bytes", code="LOG_UNREACHABLE", field=path)
        parts.append(part)
    return b"".join(parts)


def default_state_path(verifier: NoteVerifier) -> Path:
    """Return where the state of a log's audit lies: a name by origin and key, in the user's folder for state."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", verifier.name)[:80]
    tag = hashlib.sha256(format_vkey(verifier).encode()).hexdigest()[:8]
    return Path(base) / "medtrail" / "audit" / f"{readable}-{tag}.json"


class StateFile:
    """The state of one log's audit, whole or absent, and evidence against the log beside it."""

    def __init__(self, path: Path, verifier: NoteVerifier) -> None:
        """Name the file; nothing is read."""
        self.path = path
        self._verifier = verifier

    def load(self) -> AuditState | None:
        """Return the state; None before the first round.

        Raises:
            MalformedError: It is no state of this log.
        """
        try:
            return AuditState.decode(read_file(self.path), self._verifier)
        except NotFoundError:
            return None

    def save(self, state: AuditState) -> None:
        """Put a state in place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self.path, state.encode(self._verifier))

    def write_evidence(self, found: LogContradictionError) -> list[Path]:
        """Write the two signed notes, and the proof where there is one; return the files, named by their content."""
        tag = hashlib.sha256(found.older + found.newer).hexdigest()[:12]
        parts = {"older.note": found.older, "newer.note": found.newer, "proof.json": found.proof_document()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        for name, content in parts.items():
            if content is not None:
                path = self.path.with_name(f"{self.path.stem}.evidence-{tag}-{name}")
                write_file(path, content)
                written.append(path)
        return written


def read_limited(path: Path, limit: int) -> bytes:
    """Return a file of limited size.

    Raises:
        TooLargeError: It has more bytes.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLargeError(f"expected at most {limit} bytes", field=str(path))
    return data
