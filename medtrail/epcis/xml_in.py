"""EPCIS XML in, versions 1.2 and 2.0: documents and events from their elements.

Version 1.2 hides later fields under ``extension`` and ``baseExtension`` elements without namespace; they are taken for
what they hold. What the standard does not know and no namespace claims is refused, since passing over it would lose it.

The schemas fix the order of an event's elements; documents of many writers do not keep it, and it says nothing. So
any order is read, and the schemas' order is written.

Source: EPCIS 1.2, section 9; EPCIS 2.0, section 9 (XML bindings).
"""

from datetime import datetime
from typing import Any

from lxml.etree import _Element as Element

from medtrail.epcis.build import EXTENSIONS, METADATA_FIELDS, REPORT_FIELDS, build_event, fail, parse_time
from medtrail.epcis.model import DocumentKind, EpcisDocument, EpcisEvent, EventType, Extension
from medtrail.epcis.xml_elements import (
    XSI,
    attributes_of,
    declared_namespaces,
    elements_of,
    expand,
    extension_of,
    is_foreign,
    items_of,
    split_name,
    text_of,
)
from medtrail.epcis.xml_header import header_of

EVENT_NAMES = frozenset(item.value for item in EventType)
DOCUMENT_NAMES = frozenset({DocumentKind.CAPTURE.value, DocumentKind.QUERY.value})
_EPC_LISTS = frozenset({"epcList", "childEPCs", "inputEPCList", "outputEPCList"})
_QUANTITY_LISTS = frozenset({"quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList"})
_QUANTITY_FIELDS = frozenset({"epcClass", "quantity", "uom"})
_TEXTS = frozenset(
    {"eventTime", "recordTime", "eventTimeZoneOffset", "eventID", "action", "bizStep", "disposition", "parentID",
     "transformationID"}
)  # fmt: skip
_WORDS = frozenset({"bizStep", "disposition"})
_EVENT_LISTS = ("EPCISBody/EventList", "EPCISBody/QueryResults/resultsBody/EventList")
_TYPED_LISTS = {"bizTransactionList": "bizTransaction", "sourceList": "source", "destinationList": "destination"}


def head_of(root: Element) -> EpcisDocument:
    """Return a document without its events.

    Args:
        root: Of the document; its list of events is there and empty.

    Raises:
        MalformedError: There is no one list of events, or a field is unknown or of wrong form.
    """
    events = list_of(root)
    creation_date = _creation_date(root)
    query = _query(root, events)
    extensions: list[Extension] = []
    header: dict[str, Any] = {}
    for child in elements_of(root):
        if child.tag == "EPCISHeader":
            header = header_of(child, creation_date)
        elif is_foreign(child):
            extensions.append(extension_of(child))
        elif child.tag != "EPCISBody":
            fail("FIELD_UNKNOWN", "neither a field of the standard nor under a namespace", f"/{child.tag}")
    return EpcisDocument(
        events=(),
        schema_version=root.get("schemaVersion", "2.0"),
        creation_date=creation_date,
        namespaces=declared_namespaces(root),
        extensions=tuple(extensions),
        kind=DocumentKind(str(root.tag)),
        query_name=query.get("queryName"),
        subscription_id=query.get("subscriptionID"),
        **header,
    )


def list_of(root: Element) -> Element:
    """Return a document's list of events.

    Raises:
        MalformedError: It is no document, or has no one list of events.
    """
    name = str(root.tag)
    if name not in DOCUMENT_NAMES:
        fail("DOCUMENT_MALFORMED", f"expected EPCISDocument, got {name[:60]!r}", "/")
    # A second list would be passed over; one inside an extension is none.
    lists = [found for path in _EVENT_LISTS for found in root.findall(path)]
    if len(lists) != 1:
        fail("FIELD_TWICE" if lists else "FIELD_MISSING", "expected one list of events", "/EPCISBody/EventList")
    return lists[0]


def bare_head_of(root: Element) -> EpcisDocument:
    """Return the document around an event that stands by itself; what the event says of one is taken off it."""
    head = EpcisDocument(
        events=(),
        schema_version=root.get("schemaVersion", "2.0"),
        creation_date=_creation_date(root),
        namespaces=declared_namespaces(root),
        kind=DocumentKind.EVENT,
    )
    for name in ("schemaVersion", "creationDate", "createdAt"):
        if name in root.attrib:
            del root.attrib[name]
    return head


def _creation_date(root: Element) -> datetime | None:
    # Some writers name it as a repository does.
    text = root.get("creationDate", root.get("createdAt"))
    return None if text is None else parse_time(text, field="/@creationDate")


def _query(root: Element, events: Element) -> dict[str, str | None]:
    """Return what a query document says beside its events, by name; anything else in a body is refused."""
    found: dict[str, str | None] = {}
    ancestors = set(events.iterancestors())
    for ancestor in ancestors - {root}:
        for child in elements_of(ancestor):
            if child.tag in {"queryName", "subscriptionID"}:
                found[str(child.tag)] = text_of(child) or None
            elif child is not events and child not in ancestors:
                fail("FIELD_UNKNOWN", "no field of a body", f"/EPCISBody/{child.tag!s}")
    return found


def event_of(element: Element, path: str) -> EpcisEvent:
    """Return the event of its element.

    Args:
        element: As :func:`parse_xml` returns it.
        path: Of the element in its document, for errors.

    Raises:
        MalformedError: A field is missing, unknown or of wrong form.
    """
    raw: dict[str, Any] = {"type": str(element.tag)}
    extensions: list[Extension] = []
    _check_plain(element, path)
    for child in elements_of(element):
        key = str(child.tag)
        if key[0] == "{":
            extensions.append(extension_of(child))
            continue
        if key in raw and key != "certificationInfo":
            fail("FIELD_TWICE", "stands twice", f"{path}/{key}")
        if key == "certificationInfo":
            raw.setdefault(key, []).append(text_of(child))
        elif key in _TEXTS:
            raw[key] = expand(child, text_of(child)) if key in _WORDS else text_of(child)
        else:
            raw[key] = _field(child, key, f"{path}/{key}")
        _check_plain(child, path)
    raw[EXTENSIONS] = tuple(extensions)
    return build_event(raw, field=path)


def _check_plain(element: Element, path: str) -> None:
    """Refuse attributes where the standard has none; those of XML Schema instances say nothing of the content."""
    for key in element.attrib or ():
        if split_name(str(key))[0] != XSI:
            fail("FIELD_UNKNOWN", "no attribute of the standard", f"{path}/{element.tag!s}/@{key!s}")


def _field(child: Element, key: str, path: str) -> object:
    found: object
    if key in _EPC_LISTS:
        found = [text_of(item) for item in items_of(child, frozenset({"epc"}), path)]
    elif key in _QUANTITY_LISTS:
        found = [_quantity(item, path) for item in items_of(child, frozenset({"quantityElement"}), path)]
    elif key in _TYPED_LISTS:
        name = _TYPED_LISTS[key]
        found = [_typed(item, name, path) for item in items_of(child, frozenset({name}), path)]
    elif key in {"readPoint", "bizLocation"}:
        found = _place(child, path)
    elif key == "ilmd":
        found = tuple(extension_of(item) for item in elements_of(child))
    elif key == "persistentDisposition":
        words: dict[str, list[str]] = {"set": [], "unset": []}
        for item in items_of(child, frozenset(words), path):
            words[str(item.tag)].append(expand(item, text_of(item)))
        found = words
    elif key == "errorDeclaration":
        found = _declaration(child, path)
    elif key == "sensorElementList":
        found = [_sensor(item, path) for item in items_of(child, frozenset({"sensorElement"}), path)]
    else:
        fail("FIELD_UNKNOWN", "neither a field of the standard nor under a namespace", path)
    return found


def _quantity(element: Element, path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in items_of(element, _QUANTITY_FIELDS, path):
        if part.tag in found:
            fail("FIELD_TWICE", "stands twice", f"{path}/{part.tag}")
        found[str(part.tag)] = text_of(part)
    return found


def _typed(item: Element, name: str, path: str) -> dict[str, str]:
    found = {name: text_of(item)}
    for key, text in item.items():
        if key == "type":
            found["type"] = expand(item, str(text))
        elif split_name(str(key))[0] != XSI:
            fail("FIELD_UNKNOWN", "no attribute of the standard", f"{path}/{name}/@{key!s}")
    return found


def _place(element: Element, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"id": None, EXTENSIONS: _others(element, frozenset({"id"}), path)}
    for child in elements_of(element):
        if child.tag == "id":
            if found["id"] is not None:
                fail("FIELD_TWICE", "stands twice", f"{path}/id")
            found["id"] = text_of(child)
    return found


def _others(parent: Element, known: frozenset[str], path: str) -> tuple[Extension, ...]:
    """Return children of other namespaces; one without a namespace that is not known is refused."""
    found: list[Extension] = []
    for item in elements_of(parent):
        if is_foreign(item):
            found.append(extension_of(item))
        elif item.tag not in known:
            fail("FIELD_UNKNOWN", "neither a field of the standard nor under a namespace", f"{path}/{item.tag}")
    return tuple(found)


def _declaration(element: Element, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {EXTENSIONS: _others(element, _DECLARATION_FIELDS, path)}
    for child in elements_of(element):
        if child.tag == "correctiveEventIDs":
            found["correctiveEventIDs"] = [text_of(item) for item in items_of(child, _CORRECTIVE, path)]
        elif not is_foreign(child):
            found[str(child.tag)] = expand(child, text_of(child))
    return found


_DECLARATION_FIELDS = frozenset({"declarationTime", "reason", "correctiveEventIDs"})
_CORRECTIVE = frozenset({"correctiveEventID"})
_SENSOR_FIELDS = frozenset({"sensorMetadata", "sensorReport"})


def _sensor(element: Element, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {EXTENSIONS: _others(element, _SENSOR_FIELDS, path)}
    for child in elements_of(element):
        if child.tag == "sensorMetadata":
            if "sensorMetadata" in found:
                fail("FIELD_TWICE", "stands twice", f"{path}/sensorMetadata")
            found["sensorMetadata"] = _attributes(child, METADATA_FIELDS, path)
        elif child.tag == "sensorReport":
            found.setdefault("sensorReport", []).append(_attributes(child, REPORT_FIELDS, path))
    return found


def _attributes(element: Element, known: dict[str, str], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    extensions: list[Extension] = []
    for key, text in attributes_of(element):
        namespace, name = split_name(key)
        if namespace:
            extensions.append(Extension(namespace, name, text))
        elif key not in known:
            fail("FIELD_UNKNOWN", "no attribute of the standard", f"{element.tag}/@{key}")
        else:
            found[key] = expand(element, text) if key in {"type", "exception", "component"} else text
    found[EXTENSIONS] = (*extensions, *_others(element, frozenset(), path))
    return found
