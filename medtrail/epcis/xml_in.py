"""EPCIS XML in, versions 1.2 and 2.0.

Version 1.2 hides later fields under ``extension`` and ``baseExtension`` elements without namespace; they are taken for
what they hold. Entities, document types and the network are off: a document that has them is refused, so that nothing
outside the bytes can change what they say.

Source: EPCIS 1.2, section 9; EPCIS 2.0, section 9 (XML bindings).
"""

from collections.abc import Iterator
from typing import Any

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis.build import (
    EXTENSIONS,
    MAX_DOCUMENT_BYTES,
    METADATA_FIELDS,
    REPORT_FIELDS,
    build_event,
    fail,
    parse_time,
)
from medtrail.epcis.model import EpcisDocument, EpcisEvent, EventType, Extension, Vocabulary, VocabularyElement
from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import MalformedError, TooLargeError

MAX_DEPTH = 64

SBDH = "http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader"
XSI = "http://www.w3.org/2001/XMLSchema-instance"

_WRAPPERS = frozenset({"extension", "baseExtension"})
_EVENT_NAMES = frozenset(item.value for item in EventType)
_EPC_LISTS = frozenset({"epcList", "childEPCs", "inputEPCList", "outputEPCList"})
_QUANTITY_LISTS = frozenset({"quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList"})
_TEXTS = frozenset(
    {"eventTime", "recordTime", "eventTimeZoneOffset", "eventID", "action", "bizStep", "disposition", "parentID",
     "transformationID"}
)  # fmt: skip
_EVENT_LISTS = ("EPCISBody/EventList", "EPCISBody/QueryResults/resultsBody/EventList")
_TYPED_LISTS = {"bizTransactionList": "bizTransaction", "sourceList": "source", "destinationList": "destination"}


def read_xml(data: bytes) -> EpcisDocument:
    """Read an EPCISDocument or EPCISQueryDocument, version 1.2 or 2.0.

    Args:
        data: At most 16 MiB.

    Raises:
        TooLargeError: More than 16 MiB.
        MalformedError: Not XML, with a document type or entities, not EPCIS, or a field is missing, unknown or of wrong
            form.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        message = f"expected at most {MAX_DOCUMENT_BYTES} bytes, got {len(data)}"
        raise TooLargeError(message, code="DOCUMENT_TOO_LARGE")
    root = _parse(data)
    name = etree.QName(root).localname
    if name in _EVENT_NAMES:
        return EpcisDocument(events=(_event(root, "/" + name),), namespaces=_namespaces(root))
    if name not in {"EPCISDocument", "EPCISQueryDocument"}:
        fail("DOCUMENT_MALFORMED", f"expected EPCISDocument, got {name[:60]!r}", "/")
    creation_date = root.get("creationDate")
    found = root.find("EPCISHeader")
    header = {} if found is None else _header(found)
    return EpcisDocument(
        events=tuple(_events(root)),
        schema_version=root.get("schemaVersion", "2.0"),
        creation_date=None if creation_date is None else parse_time(creation_date, field="/@creationDate"),
        namespaces=_namespaces(root),
        extensions=tuple(_extension(child) for child in _elements(root) if etree.QName(child).namespace),
        **header,
    )


def _parse(data: bytes) -> Element:
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        message = f"not well-formed XML: {str(error)[:200]}"
        raise MalformedError(message, code="XML_MALFORMED") from error
    if root.getroottree().docinfo.internalDTD is not None:
        message = "document types and entities are refused: write the text out"
        raise MalformedError(message, code="XML_ENTITY_REFUSED", field="/")
    for element in root.iter():
        # Some writers put the standard's own elements into its namespace, which the schemas leave unqualified.
        name = etree.QName(element)
        if name.namespace and name.namespace.startswith("urn:epcglobal:epcis"):
            element.tag = name.localname
    return root


def _namespaces(root: Element) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for element in root.iter():
        for prefix, uri in element.nsmap.items():
            if prefix and not uri.startswith("urn:epcglobal:epcis") and uri not in {XSI, SBDH}:
                found.setdefault(prefix, uri)
    return tuple(sorted(found.items()))


def _elements(parent: Element) -> Iterator[Element]:
    """Yield child elements, looking through the wrappers of version 1.2."""
    for child in parent:
        name = etree.QName(child)
        if not name.namespace and name.localname in _WRAPPERS:
            yield from _elements(child)
        else:
            yield child


def _text(element: Element) -> str:
    return (element.text or "").strip()


def _events(root: Element) -> Iterator[EpcisEvent]:
    # A second list would be passed over; one inside an extension is none.
    lists = [found for path in _EVENT_LISTS for found in root.findall(path)]
    if len(lists) != 1:
        fail("FIELD_TWICE" if lists else "FIELD_MISSING", "expected one list of events", "/EPCISBody/EventList")
    for number, element in enumerate(_elements(lists[0])):
        name = etree.QName(element).localname
        path = f"/EPCISBody/EventList/{name}[{number}]"
        if name not in _EVENT_NAMES or etree.QName(element).namespace:
            fail("EVENT_TYPE_UNKNOWN", f"expected one of the five event types, got {name[:60]!r}", path)
        yield _event(element, path)


def _event(element: Element, path: str) -> EpcisEvent:
    raw: dict[str, Any] = {"type": etree.QName(element).localname}
    extensions: list[Extension] = []
    for child in _elements(element):
        name = etree.QName(child)
        if name.namespace:
            extensions.append(_extension(child))
            continue
        key = name.localname
        if key in raw and key != "certificationInfo":
            fail("FIELD_TWICE", "stands twice", f"{path}/{key}")
        if key == "certificationInfo":
            raw.setdefault(key, []).append(_text(child))
        elif key in _TEXTS:
            raw[key] = _expand(child, _text(child))
        else:
            raw[key] = _field(child, key, f"{path}/{key}")
    raw[EXTENSIONS] = tuple(extensions)
    return build_event(raw, field=path)


def _field(child: Element, key: str, path: str) -> object:
    found: object
    if key in _EPC_LISTS:
        found = [_text(item) for item in child]
    elif key in _QUANTITY_LISTS:
        found = [{etree.QName(part).localname: _text(part) for part in item} for item in child]
    elif key in _TYPED_LISTS:
        found = [_typed(item, _TYPED_LISTS[key]) for item in child]
    elif key in {"readPoint", "bizLocation"}:
        found = {"id": child.findtext("id"), EXTENSIONS: _others(child)}
    elif key == "ilmd":
        found = tuple(_extension(item) for item in _elements(child))
    elif key == "persistentDisposition":
        found = {
            which: [_expand(item, _text(item)) for item in child if item.tag == which] for which in ("set", "unset")
        }
    elif key == "errorDeclaration":
        found = _declaration(child)
    elif key == "sensorElementList":
        found = [_sensor(item) for item in child]
    else:
        fail("FIELD_UNKNOWN", "neither a field of the standard nor under a namespace", path)
    return found


def _typed(item: Element, name: str) -> dict[str, str]:
    found = {name: _text(item)}
    if "type" in item.attrib:
        found["type"] = _expand(item, item.get("type", ""))
    return found


def _texts_of(element: Element) -> list[tuple[str, str]]:
    """Return attributes as text; the stubs allow bytes, which lxml returns for none."""
    return [(str(key), str(text)) for key, text in element.attrib.items()]


def _others(parent: Element) -> tuple[Extension, ...]:
    return tuple(_extension(item) for item in _elements(parent) if etree.QName(item).namespace)


def _declaration(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {EXTENSIONS: _others(element)}
    for child in _elements(element):
        if child.tag == "correctiveEventIDs":
            found["correctiveEventIDs"] = [_text(item) for item in child]
        elif not etree.QName(child).namespace:
            found[etree.QName(child).localname] = _expand(child, _text(child))
    return found


def _sensor(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {EXTENSIONS: _others(element)}
    for child in _elements(element):
        if child.tag == "sensorMetadata":
            found["sensorMetadata"] = _attributes(child, METADATA_FIELDS)
        elif child.tag == "sensorReport":
            found.setdefault("sensorReport", []).append(_attributes(child, REPORT_FIELDS))
    return found


def _attributes(element: Element, known: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    extensions: list[Extension] = []
    for key, text in _texts_of(element):
        name = etree.QName(key)
        if name.namespace:
            extensions.append(Extension(name.namespace, name.localname, text))
        elif key not in known:
            fail("FIELD_UNKNOWN", "no attribute of the standard", f"{element.tag}/@{key}")
        else:
            found[key] = _expand(element, text) if key in {"type", "exception", "component"} else text
    found[EXTENSIONS] = (*extensions, *_others(element))
    return found


def _expand(element: Element, text: str) -> str:
    """Return a CURIE by the namespaces in force at an element as URI; other text as it is."""
    prefixes = Prefixes({prefix: uri for prefix, uri in element.nsmap.items() if prefix and prefix != "gs1"})
    return prefixes.expand_value(text)


def _extension(element: Element, depth: int = 0) -> Extension:
    if depth > MAX_DEPTH:
        fail("EXTENSION_DEPTH", f"nested deeper than {MAX_DEPTH}", str(element.tag))
    name = etree.QName(element)
    attributes = tuple(
        (etree.QName(key).namespace or "", etree.QName(key).localname, text) for key, text in _texts_of(element)
    )
    children = tuple(_extension(child, depth + 1) for child in element)
    return Extension(name.namespace or "", name.localname, children or _text(element), attributes)


# --- header ---


def _header(header: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, tag in (("sender", "Sender"), ("receiver", "Receiver")):
        identifier = header.find(f".//{{{SBDH}}}{tag}/{{{SBDH}}}Identifier")
        if identifier is not None:
            found[key] = _text(identifier) or None
    instance = header.find(f".//{{{SBDH}}}InstanceIdentifier")
    if instance is not None:
        found["instance_identifier"] = _text(instance) or None
    found["vocabularies"] = tuple(_vocabulary(item) for item in header.iter("Vocabulary"))
    found["header_extensions"] = tuple(
        _extension(item) for item in _elements(header) if etree.QName(item).namespace not in {None, SBDH}
    )
    return found


def _vocabulary(element: Element) -> Vocabulary:
    return Vocabulary(
        element.get("type", ""), tuple(_vocabulary_element(item) for item in element.iter("VocabularyElement"))
    )


def _vocabulary_element(element: Element) -> VocabularyElement:
    return VocabularyElement(
        element.get("id", ""),
        tuple((item.get("id", ""), _text(item)) for item in element.iter("attribute")),
        tuple(_text(item) for item in element.findall("children/id")),
    )
