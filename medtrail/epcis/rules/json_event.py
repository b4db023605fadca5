"""One event's JSON object taken apart, faults and all.

Source: EPCIS 2.0, section 10.2.
"""

from collections.abc import Mapping
from typing import Any, Final

from medtrail.epcis.build import EXTENSIONS
from medtrail.epcis.json_in import MAX_DEPTH, read_context, read_extensions
from medtrail.epcis.model import Extension
from medtrail.epcis.namespaces import Prefixes
from medtrail.epcis.rules.finding import Faults, Path
from medtrail.epcis.rules.shape import EVENT, Field, Kind
from medtrail.errors import MalformedError

_WORDS: Final = frozenset({"bizStep", "disposition"})
_NESTED_WORDS: Final = frozenset({"type", "exception", "component", "reason"})


class JsonEvent:
    """Takes one event apart."""

    def __init__(self, prefixes: Prefixes, faults: Faults) -> None:
        self._prefixes = prefixes
        self._faults = faults

    def read(self, item: Mapping[str, Any]) -> tuple[dict[str, Any], Faults]:
        """Return an event's fields, and what was wrong with its names and extensions."""
        if "@context" in item:
            try:
                self._prefixes = read_context(item["@context"], self._prefixes, "$.@context")
            except MalformedError as error:
                self._faults.add(error.code, ("@context",), error.message)
        known = {name: value for name, value in item.items() if name not in {"@context", "isA", "ilmd"}}
        raw = self._object(known, EVENT, (), extensible=True, words=_WORDS)
        if "ilmd" in item:
            raw["ilmd"] = self._ilmd(item["ilmd"])
        return raw, self._faults

    def _ilmd(self, value: object) -> tuple[Extension, ...]:
        if not isinstance(value, Mapping):
            self._faults.add("FIELD_MALFORMED", ("ilmd",), "expected an object")
            return ()
        return self._extensions(value, ("ilmd",), unnamed="NAMESPACE_MISSING")

    def _object(
        self,
        item: Mapping[str, Any],
        fields: Mapping[str, Field],
        path: Path,
        *,
        extensible: bool,
        words: frozenset[str] = _NESTED_WORDS,
    ) -> dict[str, Any]:
        raw: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in item.items():
            if name in fields:
                raw[name] = self._value(fields[name], value, (*path, name), word=name in words)
            elif (name.startswith("@") and extensible) or self._prefixes.split(name)[0]:
                others[name] = value
            else:
                raw[name] = value
        raw[EXTENSIONS] = self._extensions(others, path)
        return raw

    def _extensions(
        self, items: Mapping[str, Any], path: Path, *, unnamed: str = "FIELD_UNKNOWN"
    ) -> tuple[Extension, ...]:
        found: list[Extension] = []
        for name, value in items.items():
            try:
                found += read_extensions({name: value}, self._prefixes, "$", MAX_DEPTH)
            except MalformedError as error:
                code = unnamed if error.code == "FIELD_UNKNOWN" else error.code
                self._faults.add(code, (*path, name), error.message)
        return tuple(found)

    def _value(self, known: Field, value: object, path: Path, *, word: bool) -> object:
        if word and isinstance(value, str):
            return self._prefixes.expand_value(value)
        if known.kind is Kind.TEXTS and path[0] == "persistentDisposition" and isinstance(value, list):
            return [self._prefixes.expand_value(item) if isinstance(item, str) else item for item in value]
        if known.kind is Kind.OBJECT and isinstance(value, Mapping):
            return self._object(value, known.fields, path, extensible=known.extensible)
        if known.kind is Kind.OBJECTS and isinstance(value, list):
            return [
                self._object(part, known.fields, (*path, number), extensible=known.extensible)
                if isinstance(part, Mapping)
                else part
                for number, part in enumerate(value)
            ]
        return value
