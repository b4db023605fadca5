"""Cutting a list of events in XML into its events, without reading more of it than one event at a time.

An event ends at its end tag's first occurrence, unless what that cuts out is not well-formed: the end tag's text may
stand in a comment, or an extension may hold an element of that name. Then a parser of its own finds the true end.

Source: XML 1.0; EPCIS 1.2, section 9.5 (wrapper elements).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from lxml.etree import _Element as Element

from medtrail.epcis.build import fail
from medtrail.epcis.reading import CHUNK_BYTES, MAX_EVENT_BYTES, too_large
from medtrail.epcis.xml_elements import WRAPPERS, parse_xml
from medtrail.errors import MalformedError

LIST = "EventList"
LIST_PATH = "/EPCISBody/EventList"
TAG = re.compile(rb"""<(/?)([^\s/>"'=<]+)((?:[^>"'<]++|"[^"]*+"|'[^']*+')*+)>""")
"""A tag: whether it is an end tag, its name, and the rest."""
_BETWEEN = re.compile(rb"(?:\s++|<!--.*?-->|<\?.*?\?>)*+", re.DOTALL)
_STANDARD = "urn:epcglobal:epcis"
MAX_OPEN = 256
"""Elements open at a time, as many as lxml takes."""
_LONGEST_END = 1024
"""Of an end tag, bytes."""


class FoundError(Exception):
    """A parser has come to what it was to find."""


def malformed(reason: str, offset: int, path: str | None = None) -> NoReturn:
    """Raise that a source is no XML at an offset."""
    message = f"not well-formed XML: {reason} (after byte {offset})"
    raise MalformedError(message, code="XML_MALFORMED", field=path)


def path_of(index: int, name: str = "*") -> str:
    """Return the path of an event, for errors."""
    return f"{LIST_PATH}/{name}[{index}]"


@dataclass(frozen=True, slots=True)
class Scope:
    """What stands around a piece so that it can be parsed by itself."""

    before: bytes
    after: bytes
    """End of the element around the piece."""
    marks: tuple[bytes, ...]
    """What stands in a piece that has elements in a namespace of the standard."""

    @classmethod
    def of(cls, element: Element, encoding: str) -> "Scope":
        """Return the scope of an element's children."""
        declared = "".join(
            f" xmlns{':' + prefix if prefix else ''}={quoteattr(uri)}" for prefix, uri in element.nsmap.items()
        )
        text = f'<?xml version="1.0" encoding="{encoding}"?><{LIST}{declared}>'
        prefixes = [prefix for prefix, uri in element.nsmap.items() if uri.startswith(_STANDARD)]
        marks = [f"<{prefix}:" if prefix else "<" for prefix in prefixes]
        return cls(
            text.encode(encoding, "xmlcharrefreplace"),
            f"</{LIST}>".encode(),
            tuple(mark.encode(encoding) for mark in (*marks, _STANDARD)),
        )

    def parse(self, piece: bytes, wrappers: list[bytes]) -> Element:
        """Return the element that a piece inside wrapper elements is.

        Raises:
            etree.XMLSyntaxError: It is not well-formed.
        """
        closing = b"".join(b"</" + _name_of(tag) + b">" for tag in reversed(wrappers))
        qualified = any(mark in piece for mark in self.marks)
        root = parse_xml(b"".join((self.before, *wrappers, piece, closing, self.after)), qualified=qualified)
        for _ in range(len(wrappers) + 1):
            root = root[0]
        return root


def _name_of(tag: bytes) -> bytes:
    match = TAG.match(tag)
    return match[2] if match else b""


@lru_cache(maxsize=64)
def _end_tag(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"</" + re.escape(name) + rb"\s*>")


@dataclass(frozen=True, slots=True)
class Piece:
    """One event's element.

    Attributes:
        declares: Whether it may declare namespaces.
        after: Offset behind it.
    """

    element: Element
    declares: bool
    after: int


class Pieces:
    """Cuts a list of events into its events.

    Args:
        source: Seekable.
        scope: What stands around the list's children.
        offset: Where to begin.
        resumed: Whether that may be inside a wrapper element: its end tag is passed over then.
    """

    def __init__(self, source: BinaryIO, scope: Scope, offset: int, *, resumed: bool) -> None:
        self._source = source
        self._scope = scope
        self._data = b""
        self._place = 0
        self._base = offset
        self._resumed = resumed
        self._wrappers: list[bytes] = []

    @property
    def _offset(self) -> int:
        return self._base + self._place

    def read(self, end: int, index: int) -> Iterator[Piece]:
        """Yield the events that stand before an offset, the list's end."""
        while self._enter(end, index):
            element, declares = self._element(index)
            self._leave(index)
            yield Piece(element, declares, self._offset)
            index += 1

    def _enter(self, end: int, index: int) -> bool:
        """Go to the next event's start tag, into wrappers around it; False at the list's end."""
        while True:
            self._leave(index)
            if self._offset >= end:
                if self._offset > end:
                    malformed("the list of events ends inside an element", self._offset, path_of(index))
                return False
            tag = self._tag(index)
            name = tag[2].rpartition(b":")[2].decode("ascii", "replace")
            wraps = name in WRAPPERS
            if tag[1] and name != LIST and not (wraps and self._resumed):
                malformed("an end tag that ends nothing", self._offset, path_of(index))
            if tag[1] and not wraps:
                # The list ends before the last end tag of its name: there is another one.
                fail("FIELD_TWICE", "expected one list of events", LIST_PATH)
            if not wraps:
                return True
            if not tag[1] and not tag[0].endswith(b"/>"):
                self._wrappers.append(tag[0])
            self._place = tag.end()

    def _leave(self, index: int) -> None:
        """Pass over what stands between events, and the end tags of wrappers."""
        while True:
            self._pass_between(index)
            if not self._wrappers or not self._data.startswith(b"</", self._place):
                return
            tag = self._tag(index)
            if tag[2] != _name_of(self._wrappers[-1]):
                malformed("an element's end has another name", self._offset, path_of(index))
            self._wrappers.pop()
            self._place = tag.end()

    def _pass_between(self, index: int) -> None:
        while True:
            match = _BETWEEN.match(self._data, self._place)
            self._place = match.end() if match else self._place
            follows = self._data[self._place : self._place + 4]
            if (len(follows) == 4 and not follows.startswith((b"<!--", b"<?"))) or not self._fill(index):
                return

    def _tag(self, index: int) -> re.Match[bytes]:
        if not self._data.startswith(b"<", self._place):
            malformed("text between events", self._offset, path_of(index))
        while (match := TAG.match(self._data, self._place)) is None:
            if not self._fill(index):
                malformed("expected a tag", self._offset, path_of(index))
        return match

    def _element(self, index: int) -> tuple[Element, bool]:
        """Return the element that begins here, and whether it may declare namespaces."""
        tag = self._tag(index)
        length = len(tag[0]) if tag[0].endswith(b"/>") else self._likely_length(_end_tag(tag[2]), len(tag[0]), index)
        piece = self._data[self._place : self._place + length]
        try:
            element = self._scope.parse(piece, self._wrappers)
        except MalformedError:
            # Its end tag's text may stand in a comment or deeper inside: a parser of its own finds the true one.
            length = self._true_length(index)
            piece = self._data[self._place : self._place + length]
            element = self._parse(piece, index)
        if len(piece) > MAX_EVENT_BYTES:
            raise too_large("an event", MAX_EVENT_BYTES, path_of(index))
        self._place += len(piece)
        return element, b"xmlns" in piece

    def _parse(self, piece: bytes, index: int) -> Element:
        try:
            return self._scope.parse(piece, self._wrappers)
        except MalformedError as error:
            raise MalformedError(error.message, code=error.code, field=path_of(index)) from error

    def _likely_length(self, end_tag: re.Pattern[bytes], after: int, index: int) -> int:
        while (match := end_tag.search(self._data, self._place + after)) is None:
            # The end tag may have begun already.
            after = max(after, len(self._data) - self._place - _LONGEST_END)
            if not self._fill(index):
                return len(self._data) - self._place
        return match.end() - self._place

    def _true_length(self, index: int) -> int:
        before = self._scope.before + b"".join(self._wrappers)
        outside = 1 + len(self._wrappers)
        depth = 0
        found = 0
        parser = expat.ParserCreate()

        def start(_name: str, _attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth > MAX_OPEN:
                malformed(f"elements nested deeper than {MAX_OPEN}", self._offset, path_of(index))

        def end(_name: str) -> None:
            nonlocal depth, found
            depth -= 1
            if depth == outside:
                found = parser.CurrentByteIndex
                raise FoundError

        parser.StartElementHandler, parser.EndElementHandler = start, end
        fed = 0
        try:
            parser.Parse(before)
            while True:
                piece = self._data[self._place + fed :]
                fed += len(piece)
                parser.Parse(piece)
                if not self._fill(index):
                    malformed("an event does not end", self._offset, path_of(index))
        except FoundError:
            begin = self._place + found - len(before)
            match = TAG.match(self._data, begin)
            return (match.end() if match else len(self._data)) - self._place
        except expat.ExpatError as error:
            malformed(str(error), self._offset, path_of(index))

    def _fill(self, index: int) -> bool:
        """Read on; False at the end.

        Raises:
            TooLargeError: One event has more than 4 MiB.
        """
        rest = self._data[self._place :]
        if len(rest) > MAX_EVENT_BYTES:
            raise too_large("an event", MAX_EVENT_BYTES, path_of(index))
        self._base += self._place
        self._place = 0
        self._source.seek(self._base + len(rest))
        data = self._source.read(max(CHUNK_BYTES, len(rest)))
        self._data = rest + data
        return bool(data)
