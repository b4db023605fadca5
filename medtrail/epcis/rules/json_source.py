"""A JSON text read piece by piece: members of objects and items of arrays one at a time, in bounded memory.

What stands between the pieces is checked here; a piece itself is cut out by its brackets and parsed on its own, so
that a fault inside one leaves the others readable.

Source: RFC 8259.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from medtrail.errors import MalformedError

CHUNK: Final = 65_536
MAX_NESTING: Final = 128
MAX_NAME: Final = 1024

_SPACE: Final = re.compile(r"[ \t\r\n]*")
# A whole string, a bracket, or a string that goes on in the next chunk.
_MARK: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]|"', re.DOTALL)
_IN_STRING: Final = re.compile(r'\\.|"', re.DOTALL)
_SCALAR_END: Final = re.compile(r"[ \t\r\n,\]}]")


@dataclass(frozen=True, slots=True)
class Piece:
    """One value of a text.

    Attributes:
        text: As it stands; None where it was too long or not wanted.
        too_deep: Whether it nests deeper than 128.
        line: Line on which it begins, from 1.
    """

    text: str | None
    too_deep: bool
    line: int


class JsonSource:
    """A position in a JSON text.

    Args:
        stream: The bytes.

    Raises:
        MalformedError: By every method: not UTF-8 (ENCODING_WRONG), not JSON (JSON_MALFORMED), or the text ends too
            early (DOCUMENT_TRUNCATED).
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._line = 1
        self._bytes = 0
        self._ended = False
        self._begin()

    def _begin(self) -> None:
        first = self._stream.read(CHUNK)
        encoding = json.detect_encoding(first)
        if not encoding.startswith("utf-8"):
            message = f"expected UTF-8, got {encoding}"
            raise MalformedError(message, code="ENCODING_WRONG")
        self._take(first.removeprefix(codecs.BOM_UTF8) if encoding == "utf-8-sig" else first)

    def _take(self, data: bytes) -> None:
        self._ended = not data
        self._line += self._text.count("\n", 0, self._at)
        try:
            self._text = self._text[self._at :] + self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            message = f"byte {self._bytes + error.start} is not UTF-8"
            raise MalformedError(message, code="ENCODING_WRONG") from error
        self._bytes += len(data)
        self._at = 0

    def _more(self) -> bool:
        if not self._ended:
            self._take(self._stream.read(CHUNK))
        return not self._ended

    def _fail(self, wanted: str) -> MalformedError:
        line = self._line + self._text.count("\n", 0, self._at)
        if self._at >= len(self._text):
            return MalformedError(f"the text ends on line {line}; expected {wanted}", code="DOCUMENT_TRUNCATED")
        came = self._text[self._at : self._at + 20]
        return MalformedError(f"line {line}: expected {wanted}, got {came!r}", code="JSON_MALFORMED")

    def peek(self) -> str:
        """Return the next character that is no white space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        if self.peek() != character:
            raise self._fail(repr(character))
        self._at += 1

    def end(self) -> None:
        """Check that nothing follows."""
        if self.peek():
            raise self._fail("the end of the text")

    def members(self) -> Iterator[str]:
        """Yield the names of an object's members; after each, its value must be taken."""
        self._expect("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self._fail("a name")
            name = self.piece(limit=MAX_NAME).text
            if name is None:
                raise self._fail(f"a name of up to {MAX_NAME} characters")
            self._expect(":")
            yield _string(name)
            if self._closes("}"):
                return

    def items(self) -> Iterator[int]:
        """Yield the numbers of an array's items; after each, it must be taken."""
        self._expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        number = 0
        while True:
            yield number
            if self._closes("]"):
                return
            number += 1

    def _closes(self, bracket: str) -> bool:
        following = self.peek()
        if following not in {",", bracket} or not following:
            raise self._fail(f"',' or {bracket!r}")
        self._at += 1
        return following == bracket

    def piece(self, *, limit: int) -> Piece:
        """Take the next value.

        Args:
            limit: Characters that are kept at most; of a longer value, only the end is found.
        """
        first = self.peek()
        line = self._line + self._text.count("\n", 0, self._at)
        scan = _Scan(limit)
        if not first:
            raise self._fail("a value")
        step = scan.nested if first in '{["' else scan.scalar
        while True:
            self._at = step(self._text, self._at)
            if scan.done:
                return Piece(scan.text(), scan.deepest > MAX_NESTING, line)
            if not self._more():
                raise self._fail("the end of a value")


class _Scan:
    """Finds the end of a value, over as many chunks as it takes."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._depth = 0
        self._in_string = False
        self.parts: list[str] = []
        self.deepest = 0
        self.done = False

    def text(self) -> str | None:
        return "".join(self.parts) if self._room >= 0 else None

    def _keep(self, text: str) -> None:
        self._room -= len(text)
        if self._room >= 0:
            self.parts.append(text)
        else:
            self.parts.clear()

    def scalar(self, text: str, at: int) -> int:
        match = _SCALAR_END.search(text, at)
        end = match.start() if match else len(text)
        self._keep(text[at:end])
        self.done = match is not None
        return end

    def nested(self, text: str, at: int) -> int:
        end = at
        while not self.done and end < len(text):
            end = self._string(text, end) if self._in_string else self._brackets(text, end)
        if not self.done and self._in_string:
            # What is escaped stands in the next chunk; seen together, they are one.
            end -= (len(text) - len(text.rstrip("\\"))) % 2
        self._keep(text[at:end])
        return end

    def _brackets(self, text: str, at: int) -> int:
        for match in _MARK.finditer(text, at):
            mark = match[0]
            if mark in {"{", "["}:
                self._depth += 1
                self.deepest = max(self.deepest, self._depth)
            elif mark in {"}", "]"}:
                self._depth -= 1
            self._in_string = mark == '"'
            self.done = self._depth <= 0 and not self._in_string
            if self.done or self._in_string:
                return match.end()
        return len(text)

    def _string(self, text: str, at: int) -> int:
        for match in _IN_STRING.finditer(text, at):
            if match[0] == '"':
                self._in_string = False
                self.done = self._depth <= 0
                return match.end()
        return len(text)


def _string(text: str) -> str:
    try:
        found: str = json.loads(text)
        found.encode()
    except ValueError as error:
        raise MalformedError(f"not a name: {text[:40]!r}", code="JSON_MALFORMED") from error
    return found
