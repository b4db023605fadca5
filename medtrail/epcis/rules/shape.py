"""The shape of an event: which fields there are, of which kind, and which are required.

An event is read by this table field by field, so that one wrong field hides no other: what is wrong is reported and
replaced by something harmless, and the rest goes on to the rules about its meaning. The names come from the tables by
which the readers build events.

Source: EPCIS 2.0, sections 7.3 and 7.4 (fields) and 9, 10 (their XML and JSON forms).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum, auto
from typing import Any, Final

from medtrail.epcis.build import (
    EXTENSIONS,
    METADATA_FIELDS,
    NUMBER_FIELDS,
    REPORT_FIELDS,
    TIME_FIELDS,
    parse_number,
    parse_time,
)
from medtrail.epcis.model import Action, EventType
from medtrail.epcis.rules.finding import Faults, Path
from medtrail.errors import MalformedError

HARMLESS_TIME: Final = "2000-01-01T00:00:00Z"
HARMLESS_URI: Final = "urn:medtrail:replaced"


class Kind(Enum):
    """What a field holds."""

    TEXT = auto()
    TIME = auto()
    NUMBER = auto()
    TRUTH = auto()
    LOOSE = auto()
    """A text, of which some writers leave the quotes off."""
    TEXTS = auto()
    OBJECT = auto()
    OBJECTS = auto()


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        kind: What it holds.
        required: Whether its object must have it.
        harmless: What stands for it in further checks when it is missing or wrong; None leaves it out.
        fields: Those of the object, or of each object in the list.
        extensible: Whether the object may hold fields of other namespaces.
        filled: Whether the list, if it is there, holds something.
    """

    kind: Kind
    required: bool = False
    harmless: str | None = None
    fields: "Mapping[str, Field]" = field(default_factory=dict)
    extensible: bool = False
    filled: bool = False


def _texts(*names: str) -> dict[str, Field]:
    return {name: Field(Kind.TEXT) for name in names}


def _sensor(names: Mapping[str, str]) -> dict[str, Field]:
    kinds = dict.fromkeys(TIME_FIELDS, Kind.TIME) | dict.fromkeys(NUMBER_FIELDS, Kind.NUMBER)
    kinds["boolean_value"] = Kind.TRUTH
    return {name: Field(kinds.get(ours, Kind.LOOSE)) for name, ours in names.items()}


_REQUIRED_URI: Final = Field(Kind.TEXT, required=True, harmless=HARMLESS_URI)
_REQUIRED_TIME: Final = Field(Kind.TIME, required=True, harmless=HARMLESS_TIME)
_QUANTITY: Final = {"epcClass": _REQUIRED_URI, "quantity": Field(Kind.NUMBER), **_texts("uom")}
_TYPE: Final = Field(Kind.TEXT, required=True, harmless="location")
_SENSOR: Final = {
    "sensorMetadata": Field(Kind.OBJECT, fields=_sensor(METADATA_FIELDS), extensible=True),
    "sensorReport": Field(Kind.OBJECTS, required=True, fields=_sensor(REPORT_FIELDS), extensible=True, filled=True),
}
_DECLARATION: Final = {
    "declarationTime": _REQUIRED_TIME,
    "reason": Field(Kind.TEXT),
    "correctiveEventIDs": Field(Kind.TEXTS),
}
_PLACE: Final = Field(Kind.OBJECT, fields={"id": _REQUIRED_URI}, extensible=True)

EVENT: Final[Mapping[str, Field]] = {
    "type": Field(Kind.TEXT, required=True),
    "eventTime": _REQUIRED_TIME,
    "recordTime": Field(Kind.TIME),
    "eventTimeZoneOffset": Field(Kind.TEXT, required=True, harmless="+00:00"),
    **_texts("eventID", "action", "parentID", "transformationID", "bizStep", "disposition"),
    **dict.fromkeys(("epcList", "childEPCs", "inputEPCList", "outputEPCList", "certificationInfo"), Field(Kind.TEXTS)),
    **dict.fromkeys(
        ("quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList"),
        Field(Kind.OBJECTS, fields=_QUANTITY),
    ),
    "readPoint": _PLACE,
    "bizLocation": _PLACE,
    "bizTransactionList": Field(Kind.OBJECTS, fields={"bizTransaction": _REQUIRED_URI, **_texts("type")}, filled=True),
    "sourceList": Field(Kind.OBJECTS, fields={"type": _TYPE, "source": _REQUIRED_URI}, filled=True),
    "destinationList": Field(Kind.OBJECTS, fields={"type": _TYPE, "destination": _REQUIRED_URI}, filled=True),
    "persistentDisposition": Field(Kind.OBJECT, fields={"set": Field(Kind.TEXTS), "unset": Field(Kind.TEXTS)}),
    "errorDeclaration": Field(Kind.OBJECT, fields=_DECLARATION, extensible=True),
    "sensorElementList": Field(Kind.OBJECTS, fields=_SENSOR, extensible=True, filled=True),
}
"""Fields of an event save ``ilmd``, which holds extensions only."""

_KEPT: Final = frozenset({EXTENSIONS, "ilmd"})
_IGNORED: Final = {"sensorElementList": frozenset({"type"})}


class Shaper:
    """Reads the fields of one event."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.replaced: set[Path] = set()

    def event(self, raw: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return an event's fields with what is wrong replaced; None where not even its type can be guessed."""
        clean = self._object(raw, EVENT, (), extensible=True, ignored=frozenset())
        clean["type"] = self._one_of("type", clean.get("type"), EventType, "EVENT_TYPE_UNKNOWN")
        if clean.get("action") is not None:
            clean["action"] = self._one_of("action", clean["action"], Action, "ACTION_UNKNOWN")
        return clean if clean["type"] is not None else None

    def _one_of(self, name: str, text: str | None, words: type[EventType | Action], code: str) -> str | None:
        if text is None or text in {word.value for word in words}:
            return text
        self._report(code, (name,), f"expected one of {', '.join(words)}, got {text[:60]!r}")
        return next(iter(get_close_matches(text, list(words), n=1)), None)

    def _report(self, code: str, path: Path, message: str) -> None:
        self.faults.add(code, path, message)
        if not self.faults.untold:
            self.replaced.add(path)

    def _object(
        self,
        raw: Mapping[str, Any],
        fields: Mapping[str, Field],
        path: Path,
        *,
        extensible: bool,
        ignored: frozenset[str],
    ) -> dict[str, Any]:
        clean: dict[str, Any] = {name: raw[name] for name in _KEPT if name in raw}
        for name in raw:
            if name not in fields and name not in _KEPT and name not in ignored:
                self._report("FIELD_UNKNOWN", (*path, name), f"the standard knows {', '.join(fields)} here")
        if clean.get(EXTENSIONS) and not extensible:
            first = clean.pop(EXTENSIONS)[0]
            self._report("FIELD_UNKNOWN", path, f"{first.name[:60]!r}: no extensions here")
        for name, known in fields.items():
            value = self._field(raw.get(name), known, (*path, name))
            if value is None and known.required:
                if (*path, name) not in self.replaced:
                    self._report("FIELD_MISSING", (*path, name), f"{name} is required")
                value = known.harmless
            if value is not None:
                clean[name] = value
        return clean

    def _field(self, value: object, known: Field, path: Path) -> object:
        return None if value is None else _READERS[known.kind](self, value, known, path)

    def _text(self, value: object, _known: Field, path: Path) -> str | None:
        if not isinstance(value, str):
            self._report("FIELD_MALFORMED", path, "expected a text")
            return None
        return value.strip() or None

    def _time(self, value: object, _known: Field, path: Path) -> object:
        return value if self._reads(parse_time, value, path) else None

    def _number(self, value: object, _known: Field, path: Path) -> object:
        if value == "":
            return None
        return value if self._reads(parse_number, value, path) else None

    def _reads(self, parse: Callable[..., object], value: object, path: Path) -> bool:
        try:
            parse(value, field="")
        except MalformedError as error:
            self._report(error.code, path, error.message)
            return False
        return True

    def _truth(self, value: object, _known: Field, path: Path) -> object:
        if isinstance(value, bool) or (isinstance(value, str) and value in {"true", "false", "1", "0"}):
            return value
        self._report("FIELD_MALFORMED", path, "expected true or false")
        return None

    def _loose(self, value: object, _known: Field, path: Path) -> object:
        if isinstance(value, str | Decimal):
            return value
        self._report("FIELD_MALFORMED", path, "expected a text")
        return None

    def _text_list(self, value: object, _known: Field, path: Path) -> list[str]:
        if not isinstance(value, list):
            text = self._text(value, _known, path)
            return [] if text is None else [text]
        return [self._item(item, (*path, number)) for number, item in enumerate(value)]

    def _item(self, item: object, path: Path) -> str:
        if isinstance(item, str) and item.strip():
            return item
        self._report("FIELD_MALFORMED", path, "expected a text")
        return f"{HARMLESS_URI}:{path[-1]}"

    def _nested(self, value: object, known: Field, path: Path) -> dict[str, Any] | None:
        if not isinstance(value, Mapping):
            self._report("FIELD_MALFORMED", path, "expected an object")
            return None
        ignored = _IGNORED.get(str(path[0]), frozenset()) if len(path) == 2 else frozenset[str]()
        return self._object(value, known.fields, path, extensible=known.extensible, ignored=ignored)

    def _nested_list(self, value: object, known: Field, path: Path) -> list[dict[str, Any]] | None:
        if not isinstance(value, list):
            self._report("FIELD_MALFORMED", path, "expected a list of objects")
            return None
        if known.filled and not value:
            self.faults.add("LIST_EMPTY", path, f"{path[-1]} is there and empty")
        found = [self._nested(item, known, (*path, number)) for number, item in enumerate(value)]
        return [_harmless(known) if item is None else item for item in found]


def _harmless(known: Field) -> dict[str, Any]:
    return {name: item.harmless for name, item in known.fields.items() if item.harmless is not None}


_READERS: Final[dict[Kind, Callable[[Shaper, object, Field, Path], object]]] = {
    Kind.TEXT: Shaper._text,  # noqa: SLF001  # a table of this module's own methods
    Kind.TIME: Shaper._time,  # noqa: SLF001
    Kind.NUMBER: Shaper._number,  # noqa: SLF001
    Kind.TRUTH: Shaper._truth,  # noqa: SLF001
    Kind.LOOSE: Shaper._loose,  # noqa: SLF001
    Kind.TEXTS: Shaper._text_list,  # noqa: SLF001
    Kind.OBJECT: Shaper._nested,  # noqa: SLF001
    Kind.OBJECTS: Shaper._nested_list,  # noqa: SLF001
}
