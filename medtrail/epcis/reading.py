"""What the readers of all formats share: limits, places in a document, and encodings."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from medtrail.epcis.model import EpcisDocument, EpcisEvent
from medtrail.errors import MalformedError, TooLargeError

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Of one event as it is spelled; a signed event holds at most 256 KiB."""
MAX_HEAD_BYTES = 16 * 1024 * 1024
"""Of everything in a document but its events: read as values, it takes some 75 times its bytes at worst."""
CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading goes on.

    Attributes:
        index: Of the next event, from 0; the number of events at the end.
        offset: In the source, bytes.
    """

    index: int
    offset: int


@dataclass(frozen=True, slots=True)
class Found:
    """One event of a document.

    Attributes:
        index: Of the event, from 0.
        event: The event, or why it is none: the document is whole, and the events after it can be read.
        after: Where the next one stands.
    """

    index: int
    event: EpcisEvent | MalformedError
    after: Position


class Reader(Protocol):
    """Reads one format."""

    head: EpcisDocument
    start: Position

    def read(self, position: Position) -> Iterator[Found]:
        """Yield the events from a position on."""

    def namespaces(self) -> tuple[tuple[str, str], ...]:
        """Return (prefix, URI) of the head and of the events read so far."""


class BareReader:
    """Gives out the one event of a document that is nothing else."""

    def __init__(self, head: EpcisDocument, event: EpcisEvent) -> None:
        self.head = head
        self.start = Position(0, 0)
        self._event = event

    def namespaces(self) -> tuple[tuple[str, str], ...]:
        """Return (prefix, URI) of the event."""
        return self.head.namespaces

    def read(self, position: Position) -> Iterator[Found]:
        """Yield the event, or nothing behind it."""
        if position == self.start:
            yield Found(0, self._event, Position(1, 0))


def recoded(source: BinaryIO, encoding: str, *, size: int, code: str) -> BinaryIO:
    """Return the whole source in UTF-8.

    Args:
        source: The source.
        encoding: Its encoding.
        size: Its bytes, at most 16 MiB.
        code: Of the error where the bytes are not of that encoding.

    Raises:
        TooLargeError: More than 16 MiB.
        MalformedError: Not of that encoding.
    """
    if size > MAX_HEAD_BYTES:
        message = f"documents of more than {MAX_HEAD_BYTES} bytes are read in UTF-8 only, got {encoding}"
        raise TooLargeError(message, code="ENCODING_UNSUPPORTED")
    source.seek(0)
    try:
        return io.BytesIO(source.read().decode(encoding).encode())
    except (LookupError, UnicodeError) as error:
        message = f"not {encoding}"
        raise MalformedError(message, code=code) from error


def too_large(what: str, limit: int, field: str) -> TooLargeError:
    """Return the error of a part that is larger than its limit in bytes."""
    return TooLargeError(
        f"{what} is larger than {limit} bytes", code=f"{what.rpartition(' ')[2].upper()}_TOO_LARGE", field=field
    )
