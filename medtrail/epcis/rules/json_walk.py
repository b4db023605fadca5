"""A walk over a JSON-LD document that goes on after a fault.

The file is read twice: first for its head, because JSON has no order and events are read by the head's namespaces,
then for its events, each on its own.

Source: EPCIS 2.0, section 10 (JSON and JSON-LD bindings).
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, BinaryIO, Final

from medtrail.epcis.build import parse_time
from medtrail.epcis.json_in import (
    DOCUMENT_FIELDS,
    MAX_DEPTH,
    event_of,
    head_of,
    is_document,
    read_context,
    read_extensions,
    read_vocabulary,
)
from medtrail.epcis.model import EpcisDocument, Extension, Vocabulary
from medtrail.epcis.namespaces import Prefixes
from medtrail.epcis.reading import MAX_EVENT_BYTES, MAX_HEAD_BYTES
from medtrail.epcis.rules.finding import Fault, Faults, Finding, Path, fault_of, pointer_of
from medtrail.epcis.rules.json_event import JsonEvent
from medtrail.epcis.rules.json_parts import Part, Structure, parse
from medtrail.epcis.rules.json_source import JsonSource
from medtrail.epcis.rules.loose import LooseEvent
from medtrail.epcis.rules.query import is_query, parameter_faults
from medtrail.errors import MalformedError

# A query document may do without its date.
_REQUIRED: Final = ("schemaVersion", "epcisBody", "creationDate")
_TEXTS: Final = ("sender", "receiver", "instanceIdentifier", "schemaVersion")


class JsonWalk:
    """Walks over one document.

    Args:
        stream: The file, seekable, from its beginning.
        max_event: Bytes of an event that is still read.
        max_head: Bytes of all but the events that are still read.
    """

    def __init__(self, stream: BinaryIO, *, max_event: int = MAX_EVENT_BYTES, max_head: int = MAX_HEAD_BYTES) -> None:
        self._stream = stream
        self._max_event = max_event
        self._max_head = max_head
        self._prefixes = Prefixes()
        self._body: dict[str, Any] = {}

    def __iter__(self) -> Iterator[EpcisDocument | LooseEvent | Finding]:
        """Yield the head (a document without events), findings outside events, and every event."""
        try:
            self._stream.seek(0)
            source = JsonSource(self._stream)
            first = source.peek()
        except MalformedError as error:
            yield _finding(fault_of(error))
            return
        if first not in {"{", ""}:
            yield Finding("DOCUMENT_MALFORMED", "", f"expected an object, got {first!r}")
            return
        yield from self._document(source)

    def _document(self, source: JsonSource) -> Iterator[EpcisDocument | LooseEvent | Finding]:
        head, faults, complete = self._head(source)
        yield from map(_finding, faults)
        if complete and not is_document(head):
            yield from self._bare(head)
            return
        if faults or not complete:
            document, faults = self._read_head(head, complete=complete)
        else:
            document, faults = self._strictly(head)
        yield from map(_finding, faults)
        yield document
        self._stream.seek(0)
        yield from self._events(JsonSource(self._stream), complete=complete)

    def _head(self, source: JsonSource) -> tuple[dict[str, Any], list[Fault], bool]:
        head: dict[str, Any] = {}
        faults: list[Fault] = []
        structure = Structure(source, event_limit=0, head_limit=self._max_head)
        try:
            for part in structure.parts():
                if part.event is None:
                    members = head if len(part.path) == 1 else self._body
                    members[str(part.path[-1])] = parse(part, faults, code="HEADER_TOO_LARGE", limit=self._max_head)
        except MalformedError:
            # Told when the events before it have been told.
            return head, faults, False
        if structure.has_body:
            head["epcisBody"] = {}
        return head, faults, True

    def _bare(self, head: dict[str, Any]) -> Iterator[LooseEvent | Finding]:
        yield from map(_finding, self._context(head))
        if "query-schema" in str(head.get("@context"))[:1000] or ("type" not in head and any(map(is_query, head))):
            yield Finding("DOCUMENT_IS_QUERY", "", "a query asks for events; it holds none")
            for name, value in head.items():
                yield from map(_finding, parameter_faults(name, value, (name,)))
            return
        # What a bare event says of a document is none of its fields.
        head.pop("schemaVersion", None)
        yield from map(_finding, _time_faults(head.pop("creationDate", None)))
        raw, found = JsonEvent(self._prefixes, Faults()).read(head)
        prefixes = self._prefixes
        yield LooseEvent(
            0, raw, found, lambda path: (pointer_of(path), None), lambda: event_of(head, prefixes, "event")
        )

    def _context(self, head: Mapping[str, Any]) -> list[Fault]:
        if "@context" not in head:
            return [Fault("CONTEXT_MISSING", ("@context",), "JSON-LD needs an @context")]
        try:
            self._prefixes = read_context(head["@context"], self._prefixes, "$.@context")
        except MalformedError as error:
            return [fault_of(error)]
        return []

    def _read_head(self, head: dict[str, Any], *, complete: bool) -> tuple[EpcisDocument, list[Fault]]:
        faults = self._context(head) if complete or "@context" in head else []
        if complete:
            faults += _required(head)
        texts = _texts(head, faults)
        faults += _time_faults(head.get("creationDate", head.get("createdAt")))
        unknown = {name: value for name, value in head.items() if name not in DOCUMENT_FIELDS}
        header = head.get("epcisHeader")
        rest = dict(header) if isinstance(header, Mapping) else {}
        vocabularies = _vocabularies(rest.pop("epcisMasterData", None), faults)
        return EpcisDocument(
            events=(),
            schema_version=texts["schemaVersion"] or "",
            namespaces=self._prefixes.custom(),
            sender=texts["sender"],
            receiver=texts["receiver"],
            instance_identifier=texts["instanceIdentifier"],
            vocabularies=vocabularies,
            header_extensions=_extensions(rest, self._prefixes, ("epcisHeader",), faults),
            extensions=_extensions(unknown, self._prefixes, (), faults),
        ), faults

    def _strictly(self, head: dict[str, Any]) -> tuple[EpcisDocument, list[Fault]]:
        """Return a head as the readers read it; what they refuse is refused here, too."""
        document, faults = self._read_head(head, complete=True)
        if not faults:
            # A large head should not be held twice.
            del document
            try:
                return head_of(head, self._prefixes, self._body), []
            except MalformedError as error:
                faults = [fault_of(error)]
            document, _ = self._read_head(head, complete=True)
        return document, faults

    def _events(self, source: JsonSource, *, complete: bool) -> Iterator[LooseEvent | Finding]:
        structure = Structure(source, event_limit=self._max_event, head_limit=0)
        try:
            for part in structure.parts():
                if part.event is not None:
                    yield self._event(part)
        except MalformedError as error:
            yield _finding(fault_of(error))
        yield from map(_finding, structure.faults)
        if complete and structure.lists != 1:
            code = "FIELD_TWICE" if structure.lists else "FIELD_MISSING"
            yield Finding(code, "/epcisBody/eventList", "expected one list of events")

    def _event(self, part: Part) -> LooseEvent:
        outside: list[Fault] = []
        item = parse(part, outside, code="EVENT_TOO_LARGE", limit=self._max_event)
        faults = Faults()
        for fault in outside:
            faults.add(fault.code, fault.path[len(part.path) :], fault.message)
        raw: dict[str, Any] | None = None
        if isinstance(item, Mapping):
            raw, faults = JsonEvent(self._prefixes, faults).read(item)
        elif not outside:
            faults.add("EVENT_MALFORMED", (), "expected an object")
        return LooseEvent(
            part.event or 0,
            raw,
            faults,
            lambda path: (pointer_of(part.path, path), None),
            lambda: event_of(item, self._prefixes, "event"),
        )


def _finding(fault: Fault) -> Finding:
    return Finding(fault.code, pointer_of(fault.path), fault.message)


def _required(head: Mapping[str, Any]) -> Iterator[Fault]:
    names = _REQUIRED if head["type"] == "EPCISDocument" else _REQUIRED[:2]
    for name in names:
        if head.get(name) is None and not (name == "creationDate" and "createdAt" in head):
            yield Fault("FIELD_MISSING", (name,), f"{name} is required")


def _texts(head: Mapping[str, Any], faults: list[Fault]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _TEXTS:
        value = head.get(name)
        if value is not None and not isinstance(value, str | Decimal):
            faults.append(Fault("FIELD_MALFORMED", (name,), "expected a text"))
            value = None
        found[name] = None if value is None else str(value)
    return found


def _time_faults(value: object) -> Iterator[Fault]:
    try:
        if value is not None:
            parse_time(value, field="$.creationDate")
    except MalformedError as error:
        yield fault_of(error)


def _vocabularies(master: object, faults: list[Fault]) -> tuple[Vocabulary, ...]:
    lists = master.get("vocabularyList", []) if isinstance(master, Mapping) else []
    path = "$.epcisHeader.epcisMasterData.vocabularyList"
    found: list[Vocabulary] = []
    if not isinstance(lists, list):
        faults.append(Fault("FIELD_MALFORMED", ("epcisHeader", "epcisMasterData", "vocabularyList"), "expected a list"))
        lists = []
    for number, item in enumerate(lists):
        try:
            found.append(read_vocabulary(item, f"{path}[{number}]"))
        except MalformedError as error:
            faults.append(fault_of(error))
    return tuple(found)


def _extensions(items: Mapping[str, Any], prefixes: Prefixes, path: Path, faults: list[Fault]) -> tuple[Extension, ...]:
    found: list[Extension] = []
    for name, value in items.items():
        try:
            found += read_extensions({name: value}, prefixes, "$", MAX_DEPTH)
        except MalformedError as error:
            faults.append(Fault(error.code, (*path, name), error.message))
    return tuple(found)
