"""What an import has done so far, kept beside the network's state, so that one cut short goes on where it was.

The journal is no evidence and nothing depends on it but time: each chunk's request id follows from the file's bytes, so
the service answers a repeated chunk with its first answer, and a journal that is lost or behind costs only the
repetition. It holds one JSON object a line: what is imported, then each answered chunk with its receipts (the last
line may be torn by a crash, and is not believed then), then the mark that all is done.
"""

import fcntl
import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from medtrail.epcis import Position
from medtrail.errors import ConflictError

FORMAT = 1
FOLDER_NAME = "imports"
_REQUESTS = uuid.UUID("0d1f4c52-6a7c-5b0e-9d0b-2f6c2a3b7e11")
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImportName:
    """What tells one import from another.

    Attributes:
        organisation: Short name of who imports.
        sha256: Of the file, hexadecimal.
        second_hand: Whether others' acts are passed on.
    """

    organisation: str
    sha256: str
    second_hand: bool

    def journal(self, folder: Path) -> Path:
        """Return the journal's path in a network's folder."""
        ending = "-second-hand" if self.second_hand else ""
        return folder / FOLDER_NAME / f"{self.organisation}-{self.sha256}{ending}.jsonl"


@dataclass(frozen=True, slots=True)
class Answered:
    """A chunk that the service has answered.

    Attributes:
        first: Index of its first event.
        after: Index of the event after its last.
        position: Where that event stands.
        resends: How many of its events were known before.
        event_ids: Of its events, in order.
        signed: SHA-256 of each signed event, hexadecimal.
    """

    first: int
    after: int
    position: Position
    resends: int
    event_ids: Sequence[str]
    signed: Sequence[str]

    def line(self) -> dict[str, Any]:
        """Return what the journal holds."""
        return {
            "first": self.first,
            "after": self.after,
            "position": [self.position.index, self.position.offset],
            "resends": self.resends,
            "event_ids": list(self.event_ids),
            "signed_event_sha256s": list(self.signed),
        }

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> "Answered":
        """Return what a line of the journal says."""
        position = Position(*line["position"])
        signed = line["signed_event_sha256s"]
        return cls(line["first"], line["after"], position, line["resends"], line["event_ids"], signed)


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of a file from its beginning, hexadecimal."""
    file.seek(0)
    digest = hashlib.sha256()
    while data := file.read(_READ_BYTES):
        digest.update(data)
    return digest.hexdigest()


class Journal:
    """The journal of one import; only one process at a time may hold it.

    Args:
        path: Where; the folder is made.
        name: What is imported.

    Raises:
        ConflictError: Another process imports this file for the same organisation now (IMPORT_RUNNING).

    Attributes:
        resumed: The last answered chunk of a run that was cut short, or None.
    """

    def __init__(self, path: Path, name: ImportName) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            message = f"another process imports this file for {name.organisation} now"
            raise ConflictError(message, code="IMPORT_RUNNING") from error
        self.resumed: Answered | None = None
        self._name = name
        self._run = self._take_up()

    def _take_up(self) -> int:
        """Return the number of this run, after the runs that were done before."""
        run, last, done, whole = 0, None, False, 0
        self._file.seek(0)
        for number, (line, length) in enumerate(self._lines()):
            whole += length
            if number == 0:
                run = int(line["run"])
            elif "done" in line:
                done = True
            else:
                last = Answered.of_line(line)
        if last is not None and not done:
            # What follows the last whole line was torn.
            self._file.truncate(whole)
            self.resumed = last
            return run
        self._file.truncate(0)
        run += int(done)
        self._write({"format": FORMAT, "run": run, "sha256": self._name.sha256})
        return run

    def _lines(self) -> Iterator[tuple[dict[str, Any], int]]:
        for data in self._file:
            if not data.endswith(b"\n"):
                return
            yield json.loads(data), len(data)

    def request_id(self, first: int, content: bytes) -> str:
        """Return the request id of a chunk: the same for the same chunk of the same run, whoever repeats it.

        Args:
            first: Index of its first event.
            content: Its events as they are sent.
        """
        digest = hashlib.sha256(content).hexdigest()
        return str(uuid.uuid5(_REQUESTS, f"{self._name.sha256} {self._name.second_hand} {self._run} {first} {digest}"))

    def note(self, answered: Answered) -> None:
        """Note an answered chunk."""
        self._write(answered.line())

    def finish(self) -> None:
        """Note that all chunks are answered: the next import of the file is one of its own."""
        self._write({"done": True})

    def answered(self) -> Iterator[Answered]:
        """Yield the answered chunks of this run and of those that it takes up."""
        self._file.seek(0)
        for number, (line, _) in enumerate(self._lines()):
            if number and "done" not in line:
                yield Answered.of_line(line)

    def close(self) -> None:
        """Let others import."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        # In one write, so that a crash tears the last line at most.
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
