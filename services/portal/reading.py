"""An uploaded document read chunk by chunk, each event checked before anything is asked of the service."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from medtrail.epcis import EventStream, Position, open_events
from medtrail.epcis.model import EpcisDocument, EpcisEvent
from medtrail.epcis.validation import faults
from medtrail.errors import MalformedError, MedtrailError, TooLargeError
from services.portal.custody_client import CHUNK_BYTES, LARGEST_EVENT_BYTES, EventMessage, message_of

MOST_FAULTS_OF_EVENT = 20


@dataclass(frozen=True, slots=True)
class Item:
    """One event of a document.

    Attributes:
        index: In the document, from 0.
        message: To be sent, or None where it is unsound.
        size: Of the message, bytes; 0 without.
        faults: What makes it unsound, at most 20.
    """

    index: int
    message: EventMessage | None
    size: int = 0
    faults: tuple[MedtrailError, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """Events that follow each other.

    Attributes:
        items: In order.
        after: Where the next one stands.
        failure: Why nothing that follows can be read, or None.
        ended: No event follows.
    """

    items: tuple[Item, ...]
    after: Position
    failure: MedtrailError | None = None
    ended: bool = False


class Reading:
    """A document open for reading. Blocks: for threads."""

    def __init__(self, source: BinaryIO, stream: EventStream) -> None:
        """Go on where the stream stands."""
        self._source = source
        self._stream = stream
        self._outcomes = stream.outcomes()
        self._pending: Item | None = None
        self._position = stream.position

    @property
    def head(self) -> EpcisDocument:
        """The document without its events."""
        return self._stream.head

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def take(self, most: int, *, most_bytes: int = CHUNK_BYTES) -> Taken:
        """Return the events that follow: at least one where there is one, then up to two limits.

        Args:
            most: Events, 1 or more.
            most_bytes: Of their messages.
        """
        items: list[Item] = []
        size = 0
        try:
            while len(items) < most:
                found = self._next()
                if found is None:
                    return Taken(tuple(items), self._position, ended=True)
                if items and size + found.size > most_bytes:
                    self._pending = found
                    break
                items.append(found)
                size += found.size
                self._position = self._stream.position
        except MedtrailError as error:
            return Taken(tuple(items), self._position, failure=error)
        return Taken(tuple(items), self._position)

    def _next(self) -> Item | None:
        if self._pending is not None:
            found, self._pending = self._pending, None
            return found
        for index, event in self._outcomes:
            return item_of(index, event)
        return None


def item_of(index: int, event: EpcisEvent | MalformedError) -> Item:
    """Return an event as it is sent, or what makes it unsound."""
    if isinstance(event, MalformedError):
        return Item(index, None, faults=(event,))
    found = tuple(islice(faults(event, field=""), MOST_FAULTS_OF_EVENT))
    if found:
        return Item(index, None, faults=found)
    message = message_of(event)
    size = message.ByteSize()
    if size > LARGEST_EVENT_BYTES:
        text = f"an event of {size} bytes; at most {LARGEST_EVENT_BYTES} can be captured"
        return Item(index, None, faults=(TooLargeError(text, code="EVENT_TOO_LARGE"),))
    return Item(index, message, size)


def open_reading(path: Path, document_format: str, position: Position | None = None) -> Reading:
    """Open a document; close it after use. Blocks.

    Args:
        path: Of the upload.
        document_format: ``json`` or ``xml``.
        position: Where to go on; None for the start.

    Raises:
        MedtrailError: Its head cannot be read.
        FileNotFoundError: It is gone.
    """
    source = path.open("rb")
    try:
        stream = open_events(source, format=document_format)
    except BaseException:
        source.close()
        raise
    if position is not None:
        stream.resume(position)
    return Reading(source, stream)
