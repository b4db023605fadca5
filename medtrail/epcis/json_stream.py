"""EPCIS JSON-LD of any size: what stands around the events, then the events one by one.

The list of events is found by reading the members before it, and passed over by its brackets alone; so what stands
behind it (``epcisHeader`` after ``epcisBody`` is as good as before) is known before the first event is built.

Source: RFC 8259; EPCIS 2.0, section 10.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, BinaryIO, NoReturn

from medtrail.epcis.build import fail
from medtrail.epcis.json_in import (
    RefusedError,
    bare_head_of,
    event_of,
    head_of,
    is_document,
    refuse_constant,
    refuse_repeats,
    root_prefixes,
)
from medtrail.epcis.model import EpcisDocument, EpcisEvent
from medtrail.epcis.namespaces import Prefixes
from medtrail.epcis.reading import (
    CHUNK_BYTES,
    MAX_EVENT_BYTES,
    MAX_HEAD_BYTES,
    BareReader,
    Found,
    Position,
    recoded,
    too_large,
)
from medtrail.errors import MalformedError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(
    parse_float=Decimal, parse_int=Decimal, parse_constant=refuse_constant, object_pairs_hook=refuse_repeats
)
# Members of each object on the way from the root to the events that are objects on that way, too.
_WAYS = {"$": ("epcisBody",), "epcisBody": ("queryResults", "resultsBody"), "queryResults": ("resultsBody",)}
_BEHIND_NUMBERS = frozenset(",]} \t\r\n")
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_TOKENS = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_PASSES = 64
"""Nesting that is taken apart pair by pair; deeper nesting is counted bracket by bracket."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where events stand: from the byte after ``[`` to that of ``]``, or one event's bytes."""

    start: int
    end: int
    path: str


def open_json(source: BinaryIO, *, size: int) -> "BareReader | JsonReader":
    """Read everything of a document but its events.

    Args:
        source: Seekable.
        size: Its bytes.

    Raises:
        MalformedError: Not JSON, not EPCIS, or a field of the head is missing, unknown or of wrong form.
        TooLargeError: More than 16 MiB besides the events.
    """
    source.seek(0)
    beginning = source.read(4)
    encoding = json.detect_encoding(beginning) if beginning else "utf-8"
    if not encoding.startswith("utf-8"):
        source = recoded(source, encoding, size=size, code="JSON_MALFORMED")
    cursor = _Cursor(source, 3 if encoding == "utf-8-sig" else 0)
    if cursor.peek() != "{":
        cursor.value(MAX_HEAD_BYTES)
        fail("DOCUMENT_MALFORMED", "expected an object", "$")
    members = _Members(source, cursor)
    root = members.read("$")
    if cursor.peek():
        cursor.fail("expected nothing after the document")
    prefixes = root_prefixes(root)
    if not is_document(root):
        head = bare_head_of(root, prefixes)
        return BareReader(head, event_of(root, prefixes, "$"))
    span = members.spans(root)
    head = head_of(root, prefixes, members.body)
    return JsonReader(head, prefixes, source, span)


class JsonReader:
    """Reads the events of a document."""

    def __init__(self, head: EpcisDocument, prefixes: Prefixes, source: BinaryIO, span: Span) -> None:
        self.head = head
        self.start = Position(0, span.start)
        self._prefixes = prefixes
        self._source = source
        self._span = span

    def namespaces(self) -> tuple[tuple[str, str], ...]:
        """Return (prefix, URI) of the document; those of an event hold in it alone."""
        return self.head.namespaces

    def read(self, position: Position) -> Iterator[Found]:
        """Yield the events from a position on."""
        span = self._span
        cursor = _Cursor(self._source, position.offset)
        index = position.index
        while cursor.place() < span.end:
            path = span.path if span.path.endswith(".event") else f"{span.path}[{index}]"
            event = self._build(cursor.value(MAX_EVENT_BYTES, field=path), path)
            cursor.peek()
            if cursor.offset() < span.end:
                cursor.expect(",")
                if cursor.place() >= span.end:
                    cursor.fail("expected an event after the comma")
            yield Found(index, event, Position(index + 1, cursor.offset()))
            index += 1

    def _build(self, item: object, path: str) -> EpcisEvent | MalformedError:
        try:
            return event_of(item, self._prefixes, path)
        except MalformedError as error:
            return error


class _Members:
    """Reads the members of the objects on the way to the events, and notes where the events stand."""

    def __init__(self, source: BinaryIO, cursor: "_Cursor") -> None:
        self._source = source
        self._cursor = cursor
        self._passed = 0
        self.body: dict[str, Any] = {}

    def read(self, name: str) -> dict[str, Any]:
        """Return an object's members; lists of events as :class:`Span`."""
        cursor = self._cursor
        found: dict[str, Any] = {}
        cursor.expect("{")
        if cursor.peek() == "}":
            cursor.expect("}")
            return found
        while True:
            key = cursor.value(MAX_HEAD_BYTES)
            if not isinstance(key, str):
                cursor.fail("expected a key")
            if key in found:
                cursor.fail("a key stands twice in one object")
            cursor.expect(":")
            found[key] = self._member(name, key)
            if cursor.offset() - self._passed > MAX_HEAD_BYTES:
                raise too_large("the head", MAX_HEAD_BYTES, "$")
            if cursor.peek() != ",":
                cursor.expect("}")
                return found
            cursor.expect(",")

    def _member(self, name: str, key: str) -> object:
        cursor = self._cursor
        first = cursor.peek()
        if first == "{" and key in _WAYS.get(name, ()):
            return self.read(key)
        if first == "[" and key == "eventList" and name != "$":
            start = cursor.offset()
            end = _end_of_list(self._source, start)
            if end is None:
                cursor.expect("[")
                self._find_fault(cursor.offset())
            self._passed += end - start
            cursor.jump(end + 1)
            return Span(start + 1, end, "")
        if first == "{" and key == "event" and name != "$":
            start = cursor.offset()
            cursor.value(MAX_EVENT_BYTES)
            return Span(start, cursor.offset(), "")
        return cursor.value(MAX_HEAD_BYTES)

    def _find_fault(self, start: int) -> NoReturn:
        """Raise what is wrong with a list that does not end."""
        cursor = _Cursor(self._source, start)
        while True:
            cursor.value(MAX_EVENT_BYTES)
            cursor.expect(",")

    def spans(self, root: dict[str, Any]) -> Span:
        """Return where the events stand, and keep the members of the body."""
        body = root.get("epcisBody")
        if not isinstance(body, dict):
            fail("FIELD_MISSING", "is required", "$.epcisBody")
        path = "$.epcisBody"
        self.body = dict(body)
        for step in ("queryResults", "resultsBody"):
            if isinstance(body.get(step), dict):
                body, path = body[step], f"{path}.{step}"
                self.body |= body
        if "event" in body:
            if "eventList" in body:
                fail("FIELD_TWICE", "events stand in event and in eventList", f"{path}.eventList")
            path, found = f"{path}.event", body["event"]
        else:
            path, found = f"{path}.eventList", body.get("eventList")
        if not isinstance(found, Span):
            fail("FIELD_MISSING", "expected a list of events", path)
        return Span(found.start, found.end, path)


class _Cursor:
    """The text of a UTF-8 source from an offset on, read as it is needed."""

    def __init__(self, source: BinaryIO, offset: int) -> None:
        self._source = source
        self.jump(offset)

    def jump(self, offset: int) -> None:
        """Go on at an offset."""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0
        self._next = offset
        # The offset of a place in the text that is not behind the present one.
        self._known = (0, offset)
        self._at_end = False

    def offset(self) -> int:
        """Return the present offset in the source, bytes."""
        place, offset = self._known
        passed = self._place - place
        if not self._text.isascii():
            passed = len(self._text[place : self._place].encode())
        self._known = (self._place, offset + passed)
        return offset + passed

    def peek(self) -> str:
        """Return the next character that is no white space, "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._place)
            self._place = match.end() if match else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._fill():
                return ""

    def place(self) -> int:
        """Return the offset of the next character that is no white space."""
        self.peek()
        return self.offset()

    def expect(self, character: str) -> None:
        """Pass over one character.

        Raises:
            MalformedError: Another one stands there.
        """
        found = self.peek()
        if found != character:
            self.fail(f"expected {character!r}, got {found!r}" if found else f"expected {character!r}, got the end")
        self._place += 1

    def value(self, limit: int, *, field: str | None = None) -> object:
        """Return the next value.

        Args:
            limit: The most bytes that it may have.
            field: Of the value, for errors.

        Raises:
            MalformedError: Not JSON.
            TooLargeError: It has more bytes.
        """
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._place)
            except (RefusedError, RecursionError, ArithmeticError) as error:
                self.fail(str(error)[:100], field=field)
            except ValueError as error:
                self._more(limit, str(error), field)
                continue
            if isinstance(found, Decimal) and self._text[end : end + 1] not in _BEHIND_NUMBERS and self._fill():
                # The rest of the number may come yet.
                continue
            if end - self._place > limit:
                raise too_large("an event" if field else "a part of the head", limit, field or "$")
            self._check_surrogates(found, end, field)
            self._place = end
            return found

    def _more(self, limit: int, reason: str, field: str | None) -> None:
        if len(self._text) - self._place > limit:
            raise too_large("an event" if field else "a part of the head", limit, field or "$")
        if not self._fill(limit):
            self.fail(reason[:100], field=field)

    def _check_surrogates(self, found: object, end: int, field: str | None) -> None:
        # Half of a surrogate pair is no text: nothing could encode it afterwards.
        if self._text.find("\\u", self._place, end) >= 0:
            try:
                json.dumps(found, ensure_ascii=False, default=str).encode()
            except UnicodeEncodeError:
                self.fail("half of a surrogate pair", field=field)

    def _fill(self, limit: int = CHUNK_BYTES) -> bool:
        """Read on, not far beyond a value's limit in bytes; False at the end."""
        if self._at_end:
            return False
        offset = self.offset()
        rest = self._text[self._place :]
        self._source.seek(self._next)
        # Twice as much each time that one value is not whole, so that all its readings together stay in proportion.
        data = self._source.read(max(CHUNK_BYTES, min(len(rest), limit - len(rest))))
        self._next += len(data)
        self._at_end = not data
        try:
            self._text = rest + self._decoder.decode(data, self._at_end)
        except UnicodeDecodeError:
            self.fail("not UTF-8")
        self._place = 0
        self._known = (0, offset)
        return bool(data)

    def fail(self, reason: str, *, field: str | None = None) -> NoReturn:
        """Raise that the source is no JSON here."""
        message = f"not JSON: {reason} (after byte {self.offset()})"
        raise MalformedError(message, code="JSON_MALFORMED", field=field)


def _end_of_list(source: BinaryIO, start: int) -> int | None:
    """Return the offset of the ``]`` that ends the list whose ``[`` stands at an offset, or None where none does.

    Strings are cut out at their quotes and pairs of brackets taken away, so that the work is done by the megabyte and
    not by the token.
    """
    offset, depth, inside, escape = start + 1, 1, False, b""
    source.seek(offset)
    while data := source.read(4 * CHUNK_BYTES):
        data = escape + data
        # A backslash at the end belongs to what comes next.
        escape = data[len(data.rstrip(b"\\")) :]
        data = data[: len(data) - len(escape)]
        parts = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        brackets = b"".join(parts[int(inside) :: 2]).translate(None, _NO_BRACKETS)
        if _closing(brackets) >= depth and (end := _closes_at(data, depth, inside=inside)) is not None:
            return offset + end
        depth += 2 * (brackets.count(b"[") + brackets.count(b"{")) - len(brackets)
        inside ^= len(parts) % 2 == 0
        offset += len(data)
        if len(escape) > MAX_EVENT_BYTES:
            raise too_large("a text of an event", MAX_EVENT_BYTES, "$.epcisBody")
    return None


def _closing(brackets: bytes) -> int:
    """Return how many brackets close what was opened before them; at most so many, where they nest very deep."""
    for _ in range(_PASSES):
        fewer = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if fewer == brackets:
            break
        brackets = fewer
    return brackets.count(b"]") + brackets.count(b"}")


def _closes_at(data: bytes, depth: int, *, inside: bool) -> int | None:
    """Return where the outermost of so many open brackets closes, or None where it stays open.

    Args:
        data: The bytes.
        depth: Of open brackets before them.
        inside: Whether they begin inside a string.
    """
    string = _REST_OF_STRING.match(data) if inside else None
    for token in _TOKENS.finditer(data, string.end() if string else 0):
        mark = data[token.start()]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            if depth == 0:
                return token.start()
    return None
