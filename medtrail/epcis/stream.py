"""Reading EPCIS documents of any size in constant memory: the head first, then one event after the other.

A document is opened on a file that can be sought in: what stands behind the events (a header, a namespace, an
extension) is found before the first event is given out. Each event's place is known, so that reading goes on from any
event without reading those before it.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO

from medtrail.epcis.json_stream import open_json
from medtrail.epcis.model import EpcisEvent
from medtrail.epcis.reading import Position, Reader
from medtrail.epcis.xml_stream import open_xml
from medtrail.errors import MalformedError


class EventStream:
    """A document being read: its head, then its events with their indexes.

    Attributes:
        head: The document without its events.
        size: Of the source, bytes.
    """

    def __init__(self, reader: Reader, *, size: int) -> None:
        self._reader = reader
        self._position = reader.start
        self.head = reader.head
        self.size = size

    @property
    def position(self) -> Position:
        """Where the next event stands; give it to :meth:`resume` of another stream of the same bytes."""
        return self._position

    @property
    def namespaces(self) -> tuple[tuple[str, str], ...]:
        """(prefix, URI) that the head and the events read so far declare."""
        return self._reader.namespaces()

    def resume(self, position: Position) -> None:
        """Go on at a position that a stream of the same bytes gave."""
        self._position = position

    def __iter__(self) -> Iterator[tuple[int, EpcisEvent]]:
        """Yield (index, event) from the present position on.

        Raises:
            MalformedError: The document or an event is malformed; events before it were given out.
            TooLargeError: An event of more than 4 MiB.
        """
        for index, event in self.outcomes():
            if isinstance(event, MalformedError):
                raise event
            yield index, event

    def outcomes(self) -> Iterator[tuple[int, EpcisEvent | MalformedError]]:
        """Yield (index, event or why it is none) from the present position on.

        Raises:
            MalformedError: What follows cannot be told apart into events.
            TooLargeError: An event of more than 4 MiB.
        """
        for found in self._reader.read(self._position):
            self._position = found.after
            yield found.index, found.event


def open_events(source: BinaryIO, *, format: str) -> EventStream:  # noqa: A002  # the word that callers expect
    """Open an EPCIS capture or query document, or a bare event, of any size.

    Args:
        source: Open for reading and seekable; it is read from its beginning, and not closed. UTF-8; other encodings up
            to 16 MiB.
        format: ``json`` or ``xml``; file endings with or without the dot (``.jsonld``) mean their format.

    Raises:
        MalformedError: An unknown format, not an EPCIS document of it, or its head is malformed.
        TooLargeError: More than 16 MiB besides the events.
    """
    ending = format.lower().lstrip(".")
    size = source.seek(0, io.SEEK_END)
    if ending in {"json", "jsonld"}:
        return EventStream(open_json(source, size=size), size=size)
    if ending == "xml":
        return EventStream(open_xml(source, size=size), size=size)
    message = f"expected json, jsonld or xml, got {format[:20]!r}"
    raise MalformedError(message, code="FORMAT_UNKNOWN")
