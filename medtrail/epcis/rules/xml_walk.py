"""A walk over an XML document, version 1.2 or 2.0, that goes on after a fault.

Entities, document types and the network are off. What is not well-formed ends the walk: where a tag is wrong, what
follows has no sure meaning.

Source: EPCIS 1.2, section 9; EPCIS 2.0, section 9 (XML bindings).
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final, cast

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis.build import parse_time
from medtrail.epcis.business_header import SBDH
from medtrail.epcis.model import EpcisDocument, Extension
from medtrail.epcis.reading import MAX_EVENT_BYTES, MAX_HEAD_BYTES
from medtrail.epcis.rules.finding import Faults, Finding, Path
from medtrail.epcis.rules.loose import LooseEvent
from medtrail.epcis.rules.query import parameter_faults
from medtrail.epcis.rules.xml_event import XmlEvent, line_of, locate, name_of, unqualified
from medtrail.epcis.xml_elements import WRAPPERS, XSI, extension_of, split_name
from medtrail.epcis.xml_header import header_of
from medtrail.epcis.xml_in import DOCUMENT_NAMES, EVENT_NAMES, event_of
from medtrail.errors import MalformedError

CHUNK: Final = 65_536
_PATIENCE: Final = 4
"""Times its limit that a part may have before its end is no longer waited for."""
MAX_EXTENSIONS: Final = 10_000
"""Of a document as a whole."""

_LISTS: Final = (("EPCISBody", "EventList"), ("EPCISBody", "QueryResults", "resultsBody", "EventList"))
# What stands around the events; and what a query document says beside them.
_AROUND: Final = frozenset({path[:length] for path in _LISTS for length in range(1, len(path) + 1)})
_BESIDE: Final = frozenset({"queryName", "subscriptionID"})
_QUERIES: Final = frozenset({("EPCISBody", "Poll"), ("EPCISBody", "Subscribe")})

_ENCODING_ERRORS: Final = frozenset(
    {
        etree.ErrorTypes.ERR_INVALID_ENCODING,
        etree.ErrorTypes.ERR_UNSUPPORTED_ENCODING,
        etree.ErrorTypes.ERR_UNKNOWN_ENCODING,
    }
)
# What is wrong when the input ends though it did not end too early; anything else is a document that was cut off.
_COMPLETE: Final = frozenset(
    {
        etree.ErrorTypes.ERR_DOCUMENT_END,
        etree.ErrorTypes.ERR_INTERNAL_ERROR,
        etree.ErrorTypes.ERR_TAG_NAME_MISMATCH,
        etree.ErrorTypes.NS_ERR_UNDEFINED_NAMESPACE,
    }
)


class XmlWalk:
    """Walks over one document.

    Args:
        stream: The file, from its beginning.
        max_event: Bytes of an event that is still read, give or take 64 KiB.
        max_head: Bytes of a header that is still read, likewise.
    """

    def __init__(self, stream: BinaryIO, *, max_event: int = MAX_EVENT_BYTES, max_head: int = MAX_HEAD_BYTES) -> None:
        self._stream = stream
        self._limits = {"event": max_event, "header": max_head, "extension": max_head, "query": max_head}
        self._path: list[str] = []
        self._begun = False
        self._read = 0
        self._part: Element | None = None
        self._kind = ""
        self._part_from = 0
        self._oversize = False
        self._events = 0
        self._children = 0
        self._lists = 0
        self._root: dict[str, Any] = {}
        self._version = 2
        self._head: dict[str, Any] = {}
        self._extensions: list[Extension] = []

    def __iter__(self) -> Iterator[EpcisDocument | LooseEvent | Finding]:
        """Yield the head (a document without events) whenever more of it is known, findings, and every event."""
        try:
            for action, element in self._elements():
                yield from self._start(element) if action == "start" else self._end(element)
        except MalformedError as error:
            line = error.facts.get("line")
            yield Finding(error.code, "", error.message, line=int(line) if line else None)
            return
        if self._root and self._lists != 1:
            code = "FIELD_TWICE" if self._lists else "FIELD_MISSING"
            yield Finding(code, f"/{self._root['name']}/EPCISBody/EventList", "expected one list of events")
        yield self._document()

    # --- parsing ---

    def _elements(self) -> Iterator[tuple[str, Element]]:
        parser = etree.XMLPullParser(
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        ended = False
        while not ended:
            data = self._stream.read(CHUNK)
            ended = not data
            self._read += len(data)
            failure: etree.XMLSyntaxError | None = None
            try:
                if ended:
                    parser.close()
                else:
                    parser.feed(data)
            except etree.XMLSyntaxError as error:
                failure = error
            events = list(cast("Iterator[tuple[str, Element]]", parser.read_events()))
            # The start of a root that was cut off in its first tag says nothing of it.
            if failure is None or self._begun or len(events) > 1:
                yield from events
            if failure is not None:
                raise self._malformed(failure, ended=ended) from failure

    def _malformed(self, error: etree.XMLSyntaxError, *, ended: bool) -> MalformedError:
        message = str(error).strip()[:200]
        if "amplification" in message:
            return _refused_entities()
        kind, code = getattr(error, "code", 0), "XML_MALFORMED"
        if kind == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
            code = "NESTING_TOO_DEEP" if "depth" in message else "EVENT_TOO_LARGE"
        elif kind in _ENCODING_ERRORS:
            code = "ENCODING_WRONG"
        elif ended and (kind not in _COMPLETE or not self._begun):
            code = "DOCUMENT_TRUNCATED"
        return MalformedError(f"not well-formed XML: {message}", code=code, line=error.lineno or "")

    # --- elements ---

    def _start(self, element: Element) -> Iterator[Finding]:
        namespace, name = name_of(element)
        self._path.append(name)
        if len(self._path) == 1:
            yield from self._start_root(element, name)
        elif self._part is None:
            below = tuple(self._path[1:])
            if below in _LISTS:
                self._lists += 1
                self._children = 0
            elif below in _QUERIES:
                self._lists = 1
                yield Finding("DOCUMENT_IS_QUERY", self._place(), "a query asks for events; it holds none")
            elif below[:-1] in _LISTS:
                self._children += 1
            kind = self._kind_of(below, namespace)
            self._begin(element, kind)
            if not kind and not self._has_place(below, namespace):
                message = "neither a field of the standard nor under a namespace"
                yield Finding("FIELD_UNKNOWN", self._place(), message, line=line_of(element))
        else:
            self._weigh()

    def _weigh(self) -> None:
        size, limit = self._read - self._part_from, self._limits[self._kind]
        self._oversize = self._oversize or size > limit
        if size > _PATIENCE * limit:
            kind = "EVENT" if self._kind == "event" else "HEADER"
            message = f"{self._place()} goes on after {size} bytes; what follows was not read"
            raise MalformedError(message, code=f"{kind}_TOO_LARGE")

    def _start_root(self, element: Element, name: str) -> Iterator[Finding]:
        self._begun = True
        if element.getroottree().docinfo.internalDTD is not None:
            raise _refused_entities()
        if name in EVENT_NAMES:
            self._begin(element, "event")
            return
        self._version = 1 if split_name(str(element.tag))[0].endswith(":xsd:1") else 2
        if name not in DOCUMENT_NAMES:
            raise MalformedError(f"expected EPCISDocument, got {name[:60]!r}", code="DOCUMENT_MALFORMED", line=1)
        self._root = {"name": name, "namespaces": _namespaces(element), **_attributes(element)}
        # A query document may do without its date.
        for attribute in ("schemaVersion", "creationDate")[: 2 if name == "EPCISDocument" else 1]:
            if element.get(attribute) is None and not (attribute == "creationDate" and element.get("createdAt")):
                message = f"{attribute} is required"
                yield Finding("FIELD_MISSING", f"/{name}/@{attribute}", message, line=line_of(element))
        try:
            created = element.get("creationDate", element.get("createdAt"))
            self._root["created"] = None if created is None else parse_time(created, field="")
        except MalformedError as error:
            yield Finding(error.code, f"/{name}/@creationDate", error.message, line=line_of(element))

    def _kind_of(self, below: tuple[str, ...], namespace: str) -> str:
        """Return what part of a document an element begins, or nothing."""
        for path in _LISTS:
            wrappers = below[len(path) : -1]
            if below[: len(path)] == path and len(below) > len(path) and WRAPPERS.issuperset(wrappers):
                return "" if below[-1] in WRAPPERS else "event"
        if below in _QUERIES:
            return "query"
        if below == ("EPCISHeader",):
            return "header"
        if namespace and WRAPPERS.issuperset(below[:-1]) and len(self._extensions) < MAX_EXTENSIONS:
            return "extension"
        return ""

    def _has_place(self, below: tuple[str, ...], namespace: str) -> bool:
        if (namespace and len(below) == 1) or below in _AROUND or below in _QUERIES or below[-1] in WRAPPERS:
            return True
        parent = below[:-1]
        # What is in an unknown element, or in a query, was told with it.
        return (parent in _AROUND and below[-1] in _BESIDE) or (bool(parent) and parent not in _AROUND)

    def _begin(self, element: Element, kind: str) -> None:
        if kind:
            self._part, self._kind, self._part_from, self._oversize = element, kind, self._read, False

    def _end(self, element: Element) -> Iterator[EpcisDocument | LooseEvent | Finding]:
        if element is self._part:
            self._weigh()
            yield from self._finished(element)
            self._part = None
        if self._part is None or self._oversize:
            _drop(element)
        self._path.pop()

    def _finished(self, element: Element) -> Iterator[EpcisDocument | LooseEvent | Finding]:
        if self._kind == "event":
            yield self._event(element)
            self._events += 1
        elif self._oversize:
            message = f"expected at most {self._limits[self._kind]} bytes"
            yield Finding("HEADER_TOO_LARGE", self._place(), message, line=line_of(element))
        elif self._kind == "query":
            yield from self._query(element)
        else:
            yield from self._head_part(element)

    def _query(self, element: Element) -> Iterator[Finding]:
        unqualified(element)
        if not (element.findtext("queryName") or "").strip():
            yield Finding("FIELD_MISSING", self._place(), "queryName is required", line=line_of(element))
        for number, parameter in enumerate(element.iterfind("params/param"), start=1):
            place, line = f"{self._place()}/params/param[{number}]", line_of(parameter)
            value = parameter.find("value")
            if value is None or (not len(value) and not (value.text or "").strip()):
                yield Finding("FIELD_MISSING", place, "value is required", line=line)
                continue
            texts: object = [(item.text or "").strip() for item in value] if len(value) else (value.text or "").strip()
            for fault in parameter_faults((parameter.findtext("name") or "").strip(), texts, ()):
                yield Finding(fault.code, place, fault.message, line=line)

    def _head_part(self, element: Element) -> Iterator[EpcisDocument | Finding]:
        unqualified(element)
        try:
            if self._kind == "header":
                self._head = header_of(element, self._root.get("created"))
                yield self._document()
            else:
                self._extensions.append(extension_of(element))
        except MalformedError as error:
            yield Finding(error.code, self._place(), error.message, line=line_of(element))

    def _event(self, element: Element) -> LooseEvent:
        base = self._place()

        def place(path: Path) -> tuple[str, int | None]:
            return locate(element, base, path)

        raw: dict[str, Any] | None = None
        faults = Faults()
        if self._oversize:
            faults.add("EVENT_TOO_LARGE", (), f"expected at most {self._limits['event']} bytes")
        else:
            unqualified(element)
            if len(self._path) == 1:
                # What a bare event says of a document is none of its fields.
                for name in ("schemaVersion", "creationDate", "createdAt"):
                    element.attrib.pop(name, "")
            raw, faults = XmlEvent(element, version=self._version).read()
        return LooseEvent(self._events, raw, faults, place, lambda: event_of(element, "event"))

    def _place(self) -> str:
        steps = list(self._path)
        for path in _LISTS:
            at = len(path) + 1
            if tuple(steps[1:at]) == path and len(steps) > at:
                # Its number among the list's children; names alone would not tell events apart.
                steps[at] = f"*[{self._children}]"
        return "/" + "/".join(steps)

    def _document(self) -> EpcisDocument:
        return EpcisDocument(
            events=(),
            schema_version=self._root.get("schemaVersion", ""),
            creation_date=self._root.get("created"),
            namespaces=self._root.get("namespaces", ()),
            extensions=tuple(self._extensions),
            **self._head,
        )


def _refused_entities() -> MalformedError:
    message = "document types and entities are refused: write the text out"
    return MalformedError(message, code="XML_ENTITY_REFUSED", line=1)


def _namespaces(root: Element) -> tuple[tuple[str, str], ...]:
    found = {prefix: uri for prefix, uri in root.nsmap.items() if prefix and uri not in {XSI, SBDH}}
    return tuple(sorted((prefix, uri) for prefix, uri in found.items() if not uri.startswith("urn:epcglobal:epcis")))


def _attributes(root: Element) -> dict[str, str]:
    version = root.get("schemaVersion")
    return {} if version is None else {"schemaVersion": version}


def _drop(element: Element) -> None:
    """Free an element and those before it; the parser still needs its parents."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]
