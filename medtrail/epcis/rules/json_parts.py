"""The parts of a JSON-LD document: the values of its head, and its events, each cut out by its brackets.

Source: EPCIS 2.0, section 10; RFC 8259.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from medtrail.epcis.rules.finding import Fault, Path
from medtrail.epcis.rules.json_source import MAX_NESTING, JsonSource, Piece

_CONTROLS: Final = re.compile(r"\\u00(?:0[0-8bcefBCEF]|1[0-9a-fA-F])")
_QUERY_RESULTS: Final = frozenset({"queryResults", "resultsBody"})


@dataclass(frozen=True, slots=True)
class Part:
    """A value of the document: where it stands, what it is, and its number if it is an event."""

    path: Path
    piece: Piece
    event: int | None = None


class _Repeating(dict[str, Any]):
    """An object in which names stand twice."""


class Structure:
    """Finds head and events in a document's objects."""

    def __init__(self, source: JsonSource, *, event_limit: int, head_limit: int) -> None:
        self._source = source
        self._event_limit = event_limit
        self._head_limit = head_limit
        self._events = 0
        self.faults: list[Fault] = []
        self.lists = 0
        self.has_body = False

    def parts(self) -> Iterator[Part]:
        """Yield every value of the head and every event, in the order of the text."""
        for name in self._names(()):
            if name == "epcisBody" and self._source.peek() == "{":
                self.has_body = True
                yield from self._body((name,))
            else:
                yield self._head_part((name,))
        self._source.end()

    def _names(self, path: Path) -> Iterator[str]:
        seen: set[str] = set()
        for name in self._source.members():
            if name in seen:
                self.faults.append(Fault("FIELD_TWICE", (*path, name), "stands twice"))
            if len(seen) < MAX_NESTING:
                seen.add(name)
            yield name

    def _body(self, path: Path) -> Iterator[Part]:
        for name in self._names(path):
            here = (*path, name)
            following = self._source.peek()
            if name in _QUERY_RESULTS and following == "{":
                yield from self._body(here)
            elif name == "eventList" and following == "[":
                self.lists += 1
                for number in self._source.items():
                    yield self._event((*here, number))
            elif name == "event":
                self.lists += 1
                yield self._event(here)
            else:
                yield self._head_part(here)

    def _head_part(self, path: Path) -> Part:
        piece = self._source.piece(limit=self._head_limit)
        self._head_limit -= len(piece.text or "")
        return Part(path, piece)

    def _event(self, path: Path) -> Part:
        self._events += 1
        return Part(path, self._source.piece(limit=self._event_limit), self._events - 1)


def parse(part: Part, faults: list[Fault], *, code: str, limit: int) -> object:
    """Return a value, or None where it cannot be read; faults are told at its path."""
    text = part.piece.text
    if text is None:
        faults.append(Fault(code, part.path, f"expected at most {limit} characters"))
        return None
    if part.piece.too_deep:
        faults.append(Fault("NESTING_TOO_DEEP", part.path, f"nested deeper than {MAX_NESTING}"))
        return None
    repeats = False

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeats
        made = dict(found)
        if len(made) == len(found):
            return made
        repeats = True
        return _Repeating(found)

    try:
        value = json.loads(
            text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant, object_pairs_hook=pairs
        )
        if "\\u" in text:
            # Half of a surrogate pair is no text: nothing could encode it afterwards.
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except (ValueError, ArithmeticError) as error:
        faults.append(Fault("JSON_MALFORMED", part.path, f"line {part.piece.line}: not JSON: {str(error)[:100]}"))
        return None
    if _CONTROLS.search(text):
        faults.append(Fault("CHARACTER_FORBIDDEN", part.path, "holds a control character that XML cannot carry"))
    if repeats:
        faults += (
            Fault("FIELD_TWICE", path, "a name stands twice in this object") for path in _repeats(value, part.path)
        )
    return value


def _refuse_constant(text: str) -> None:
    message = f"{text} is no JSON number"
    raise ValueError(message)


def _repeats(value: object, path: Path) -> Iterator[Path]:
    if isinstance(value, _Repeating):
        yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _repeats(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _repeats(item, (*path, number))
