"""EPCIS XML of any size: what stands around the events, then the events one by one.

The list of events is cut out of the document: what stands before and behind it is read as a document without events.
Each event is then cut out by its own tags and parsed by itself, under the namespaces in force around it. A piece is
taken for an event only if it is well-formed as a whole, and the list only if its end is where it was taken to be.

Source: XML 1.0; EPCIS 1.2, section 9.5; EPCIS 2.0, section 9.5.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO
from xml.parsers import expat

from lxml.etree import _Element as Element

from medtrail.epcis.build import fail
from medtrail.epcis.model import EpcisDocument, EpcisEvent
from medtrail.epcis.reading import (
    CHUNK_BYTES,
    MAX_HEAD_BYTES,
    BareReader,
    Found,
    Position,
    recoded,
    too_large,
)
from medtrail.epcis.xml_elements import declared_namespaces, parse_xml
from medtrail.epcis.xml_in import EVENT_NAMES, bare_head_of, event_of, head_of, list_of
from medtrail.epcis.xml_pieces import LIST, LIST_PATH, MAX_OPEN, TAG, FoundError, Pieces, Scope, malformed, path_of
from medtrail.errors import MalformedError

_WAYS = (("EPCISBody", LIST), ("EPCISBody", "QueryResults", "resultsBody", LIST))
# Single-byte encodings in which tags are spelled as in ASCII; in others, a byte of a character may look like one.
_ENCODINGS = re.compile(r"utf-?8|(us-)?ascii|iso-8859-\d+|latin-?1|windows-125\d", re.IGNORECASE)
_WIDE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\x00": "utf-16-le", b"\x00<": "utf-16-be"}
_DECLARATION = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")
_END_OF_LIST = re.compile(rb"</(?:[^\s/>:]+:)?EventList\s*>")


def open_xml(source: BinaryIO, *, size: int) -> "BareReader | XmlReader":
    """Read everything of a document but its events.

    Args:
        source: Seekable.
        size: Its bytes.

    Raises:
        MalformedError: Not XML, with a document type, not EPCIS, or a field of the head is missing, unknown or of wrong
            form.
        TooLargeError: More than 16 MiB besides the events.
    """
    source, size, encoding = _in_known_encoding(source, size)
    found = _Beginning(source, encoding)
    found.read()
    if found.list_tag is None:
        return _read_bare(parse_xml(found.data))
    before, tag = found.data[: found.list_start], found.list_tag
    start = found.list_start + len(tag)
    if tag.endswith(b"/>"):
        end, behind = start, _read_behind(source, start, size)
        root = parse_xml(before + tag + behind)
    else:
        end, behind = _find_end(source, start, size)
        root = parse_xml(before + tag + behind)
    if len(before) + len(behind) > MAX_HEAD_BYTES:
        raise too_large("the head", MAX_HEAD_BYTES, "/")
    head = head_of(root)
    scope = Scope.of(next(root.iter(LIST)), encoding)
    return XmlReader(head, source, scope, start=start, end=end)


def _read_bare(root: Element) -> BareReader:
    if root.tag not in EVENT_NAMES:
        # It has no list of events; whatever it is, this says so.
        list_of(root)
    head = bare_head_of(root)
    return BareReader(head, event_of(root, f"/{root.tag!s}"))


def _in_known_encoding(source: BinaryIO, size: int) -> tuple[BinaryIO, int, str]:
    source.seek(0)
    beginning = source.read(256)
    wide = _WIDE.get(beginning[:2])
    declared = _DECLARATION.match(beginning.removeprefix(b"\xef\xbb\xbf"))
    encoding = wide or (declared[1].decode() if declared else "utf-8")
    if wide is None and _ENCODINGS.fullmatch(encoding):
        return source, size, encoding
    found = recoded(source, encoding, size=size, code="XML_MALFORMED")
    text = found.read().removeprefix(b"\xef\xbb\xbf")
    # The declaration names the encoding that it was.
    text = re.sub(rb"\A<\?xml.*?\?>", b"", text, count=1, flags=re.DOTALL)
    found.seek(0)
    found.truncate()
    found.write(text)
    return found, len(text), "utf-8"


class _Beginning:
    """Reads a document up to the start tag of its list of events, or wholly where it has none."""

    def __init__(self, source: BinaryIO, encoding: str) -> None:
        self._source = source
        self._way: list[str] = []
        self._parser = expat.ParserCreate(encoding)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._refuse
        self.data = b""
        self.list_start = 0
        self.list_tag: bytes | None = None

    def read(self) -> None:
        """Read on until the list begins or the document ends."""
        self._source.seek(0)
        pieces: list[bytes] = []
        length = 0
        try:
            while piece := self._source.read(CHUNK_BYTES):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_HEAD_BYTES + CHUNK_BYTES:
                    raise too_large("the head", MAX_HEAD_BYTES, "/EPCISHeader")
                self._parser.Parse(piece)
            self._parser.Parse(b"", True)  # noqa: FBT003 - takes it by place only
        except FoundError:
            self._take_tag(b"".join(pieces))
        except expat.ExpatError as error:
            message = f"not well-formed XML: {error}"
            raise MalformedError(message, code="XML_MALFORMED") from error
        else:
            self.data = b"".join(pieces)

    def _take_tag(self, data: bytes) -> None:
        # The parser has read the whole tag.
        match = TAG.match(data, self.list_start)
        self.data, self.list_tag = data, match[0] if match else b""

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        self._way.append(local)
        if len(self._way) > MAX_OPEN:
            malformed(f"elements nested deeper than {MAX_OPEN}", self._parser.CurrentByteIndex)
        if local == LIST and tuple(self._way[1:]) in _WAYS:
            self.list_start = self._parser.CurrentByteIndex
            raise FoundError

    def _end(self, _name: str) -> None:
        self._way.pop()

    def _refuse(self, *_declaration: object) -> None:
        message = "document types and entities are refused: write the text out"
        raise MalformedError(message, code="XML_ENTITY_REFUSED", field="/")


def _read_behind(source: BinaryIO, start: int, size: int) -> bytes:
    if size - start > MAX_HEAD_BYTES:
        raise too_large("the head", MAX_HEAD_BYTES, "/")
    source.seek(start)
    return source.read()


def _find_end(source: BinaryIO, start: int, size: int) -> tuple[int, bytes]:
    """Return the offset of the last end tag of a list of events, and all bytes from it on."""
    window = CHUNK_BYTES
    while True:
        begin = max(start, size - window)
        source.seek(begin)
        data = source.read()
        matches = list(_END_OF_LIST.finditer(data))
        if matches:
            end = matches[-1].start()
            return begin + end, data[end:]
        if begin == start:
            malformed("the list of events does not end", size, LIST_PATH)
        if window > MAX_HEAD_BYTES:
            raise too_large("the head", MAX_HEAD_BYTES, "/")
        window *= 4


class XmlReader:
    """Reads the events of a document."""

    def __init__(self, head: EpcisDocument, source: BinaryIO, scope: Scope, *, start: int, end: int) -> None:
        self.head = head
        self.start = Position(0, start)
        self._source = source
        self._scope = scope
        self._end = end
        self._namespaces = dict(head.namespaces)

    def namespaces(self) -> tuple[tuple[str, str], ...]:
        """Return (prefix, URI) of the head and of the events read so far, in order of prefixes."""
        return tuple(sorted(self._namespaces.items()))

    def read(self, position: Position) -> Iterator[Found]:
        """Yield the events from a position on."""
        index = position.index
        pieces = Pieces(self._source, self._scope, position.offset, resumed=position != self.start)
        for piece in pieces.read(self._end, index):
            name = str(piece.element.tag)
            path = path_of(index, name)
            if piece.declares:
                for prefix, uri in declared_namespaces(piece.element):
                    self._namespaces.setdefault(prefix, uri)
            yield Found(index, _build(piece.element, name, path), Position(index + 1, piece.after))
            index += 1


def _build(element: Element, name: str, path: str) -> EpcisEvent | MalformedError:
    try:
        if name not in EVENT_NAMES:
            fail("EVENT_TYPE_UNKNOWN", f"expected one of the five event types, got {name[:60]!r}", path)
        return event_of(element, path)
    except MalformedError as error:
        return error
