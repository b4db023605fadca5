"""EPCIS XML in, versions 1.2 and 2.0: from elements to the model.

Version 1.2 hides later fields under ``extension`` and ``baseExtension`` elements without namespace; they are taken for
what they hold. Entities, document types and the network are off: a document that has them is refused, so that nothing
outside the bytes can change what they say. What the standard does not know and no namespace claims is refused, since
passing over it would lose it.

The schemas fix the order of an event's elements; documents of many writers do not keep it, and it says nothing. So
any order is read, and the schemas' order is written.

Source: EPCIS 1.2, section 9; EPCIS 2.0, section 9 (XML bindings).
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Any

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis.build import EXTENSIONS, METADATA_FIELDS, REPORT_FIELDS, build_event, decimal_of, fail, parse_time
from medtrail.epcis.business_header import ROOT_NAME, SBDH, take_apart
from medtrail.epcis.json_in import TEXT
from medtrail.epcis.model import (
    DocumentKind,
    EpcisDocument,
    EpcisEvent,
    EventType,
    Extension,
    Vocabulary,
    VocabularyElement,
)
from medtrail.epcis.namespaces import Prefixes, goes_without_saying
from medtrail.errors import MalformedError

MAX_DEPTH = 64

XSI = "http://www.w3.org/2001/XMLSchema-instance"
PRESERVE = ("http://www.w3.org/XML/1998/namespace", "space", "preserve")
"""The attribute by which white space around a text counts."""
TYPE_OF: dict[type, tuple[str, str]] = {
    Decimal: ("type", "xsd:decimal"),
    bool: ("type", "xsd:boolean"),
    NoneType: ("nil", "true"),
}
"""Attributes of XML Schema instances that tell a number, a truth value or nothing from a text, as JSON does."""

WRAPPERS = frozenset({"extension", "baseExtension"})
EVENT_NAMES = frozenset(item.value for item in EventType)
DOCUMENT_NAMES = frozenset({DocumentKind.CAPTURE.value, DocumentKind.QUERY.value})
_EPC_LISTS = frozenset({"epcList", "childEPCs", "inputEPCList", "outputEPCList"})
_QUANTITY_LISTS = frozenset({"quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList"})
_QUANTITY_FIELDS = frozenset({"epcClass", "quantity", "uom"})
_TEXTS = frozenset(
    {"eventTime", "recordTime", "eventTimeZoneOffset", "eventID", "action", "bizStep", "disposition", "parentID",
     "transformationID"}
)  # fmt: skip
_EVENT_LISTS = ("EPCISBody/EventList", "EPCISBody/QueryResults/resultsBody/EventList")
_TYPED_LISTS = {"bizTransactionList": "bizTransaction", "sourceList": "source", "destinationList": "destination"}


def parse_xml(data: bytes, *, qualified: bool = True) -> Element:
    """Return the root element of XML without document type, standard elements without their namespace.

    Args:
        data: The XML.
        qualified: Whether elements may be in a namespace of the standard.

    Raises:
        MalformedError: Not well-formed, or with a document type or entities.
    """
    try:
        root = etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        message = f"not well-formed XML: {str(error)[:200]}"
        raise MalformedError(message, code="XML_MALFORMED") from error
    if root.getroottree().docinfo.internalDTD is not None:
        message = "document types and entities are refused: write the text out"
        raise MalformedError(message, code="XML_ENTITY_REFUSED", field="/")
    for element in root.iter() if qualified else ():
        # Some writers put the standard's own elements into its namespace, which the schemas leave unqualified.
        tag = str(element.tag)
        if tag.startswith("{urn:epcglobal:epcis"):
            element.tag = tag[tag.index("}") + 1 :]
    return root


_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    dtd_validation=False,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
)


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
    for child in _elements(root):
        if child.tag == "EPCISHeader":
            header = _header(child, creation_date)
        elif _is_foreign(child):
            extensions.append(_extension(child))
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
        for child in _elements(ancestor):
            if child.tag in {"queryName", "subscriptionID"}:
                found[str(child.tag)] = _text(child) or None
            elif child is not events and child not in ancestors:
                fail("FIELD_UNKNOWN", "no field of a body", f"/EPCISBody/{child.tag!s}")
    return found


def declared_namespaces(root: Element) -> tuple[tuple[str, str], ...]:
    """Return (prefix, URI) of the namespaces that an element or one inside it declares, in order of prefixes.

    Those of the standard, and its own prefixes, go without saying.
    """
    found: dict[str, str] = {}
    for element in root.iter():
        for prefix, uri in element.nsmap.items():
            standard = uri.startswith("urn:epcglobal:epcis") or uri in {XSI, SBDH}
            if prefix and not standard and not goes_without_saying(prefix, uri):
                found.setdefault(prefix, uri)
    return tuple(sorted(found.items()))


def _is_foreign(element: Element) -> bool:
    return str(element.tag)[0] == "{"


def _elements(parent: Element) -> Iterator[Element]:
    """Yield child elements, looking through the wrappers of version 1.2."""
    for child in parent:
        if child.tag in WRAPPERS:
            yield from _elements(child)
        else:
            yield child


def _text(element: Element) -> str:
    if len(element):
        fail("FIELD_MALFORMED", "expected a text", str(element.tag))
    return (element.text or "").strip()


def _split(tag: str) -> tuple[str, str]:
    """Return (namespace, local name) of lxml's spelling of a name."""
    if tag[0] != "{":
        return "", tag
    namespace, _, name = tag[1:].partition("}")
    return namespace, name


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
    for child in _elements(element):
        key = str(child.tag)
        if key[0] == "{":
            extensions.append(_extension(child))
            continue
        if key in raw and key != "certificationInfo":
            fail("FIELD_TWICE", "stands twice", f"{path}/{key}")
        if key == "certificationInfo":
            raw.setdefault(key, []).append(_text(child))
        elif key in _TEXTS:
            raw[key] = _expand(child, _text(child))
        else:
            raw[key] = _field(child, key, f"{path}/{key}")
        _check_plain(child, path)
    raw[EXTENSIONS] = tuple(extensions)
    return build_event(raw, field=path)


def _check_plain(element: Element, path: str) -> None:
    """Refuse attributes where the standard has none; those of XML Schema instances say nothing of the content."""
    for key in element.attrib or ():
        if _split(str(key))[0] != XSI:
            fail("FIELD_UNKNOWN", "no attribute of the standard", f"{path}/{element.tag!s}/@{key!s}")


def _field(child: Element, key: str, path: str) -> object:
    found: object
    if key in _EPC_LISTS:
        found = [_text(item) for item in _items(child, frozenset({"epc"}), path)]
    elif key in _QUANTITY_LISTS:
        found = [_quantity(item, path) for item in _items(child, frozenset({"quantityElement"}), path)]
    elif key in _TYPED_LISTS:
        name = _TYPED_LISTS[key]
        found = [_typed(item, name, path) for item in _items(child, frozenset({name}), path)]
    elif key in {"readPoint", "bizLocation"}:
        found = _place(child, path)
    elif key == "ilmd":
        found = tuple(_extension(item) for item in _elements(child))
    elif key == "persistentDisposition":
        words: dict[str, list[str]] = {"set": [], "unset": []}
        for item in _items(child, frozenset(words), path):
            words[str(item.tag)].append(_expand(item, _text(item)))
        found = words
    elif key == "errorDeclaration":
        found = _declaration(child, path)
    elif key == "sensorElementList":
        found = [_sensor(item, path) for item in _items(child, frozenset({"sensorElement"}), path)]
    else:
        fail("FIELD_UNKNOWN", "neither a field of the standard nor under a namespace", path)
    return found


def _items(parent: Element, names: frozenset[str], path: str) -> Element:
    """Return an element whose children all have names that belong there."""
    for child in parent:
        if child.tag not in names:
            fail("FIELD_UNKNOWN", f"the standard knows {', '.join(sorted(names))} here", f"{path}/{child.tag}")
    return parent


def _quantity(element: Element, path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in _items(element, _QUANTITY_FIELDS, path):
        if part.tag in found:
            fail("FIELD_TWICE", "stands twice", f"{path}/{part.tag}")
        found[str(part.tag)] = _text(part)
    return found


def _typed(item: Element, name: str, path: str) -> dict[str, str]:
    found = {name: _text(item)}
    for key, text in item.items():
        if key == "type":
            found["type"] = _expand(item, str(text))
        elif _split(str(key))[0] != XSI:
            fail("FIELD_UNKNOWN", "no attribute of the standard", f"{path}/{name}/@{key!s}")
    return found


def _place(element: Element, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"id": None, EXTENSIONS: _others(element, frozenset({"id"}), path)}
    for child in _elements(element):
        if child.tag == "id":
            if found["id"] is not None:
                fail("FIELD_TWICE", "stands twice", f"{path}/id")
            found["id"] = _text(child)
    return found


def _texts_of(element: Element) -> list[tuple[str, str]]:
    """Return attributes as text; the stubs allow bytes, which lxml returns for none."""
    return [(str(key), str(text)) for key, text in element.items()]


def _others(parent: Element, known: frozenset[str], path: str) -> tuple[Extension, ...]:
    """Return children of other namespaces; one without a namespace that is not known is refused."""
    found: list[Extension] = []
    for item in _elements(parent):
        if _is_foreign(item):
            found.append(_extension(item))
        elif item.tag not in known:
            fail("FIELD_UNKNOWN", "neither a field of the standard nor under a namespace", f"{path}/{item.tag}")
    return tuple(found)


def _declaration(element: Element, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {EXTENSIONS: _others(element, _DECLARATION_FIELDS, path)}
    for child in _elements(element):
        if child.tag == "correctiveEventIDs":
            found["correctiveEventIDs"] = [_text(item) for item in _items(child, _CORRECTIVE, path)]
        elif not _is_foreign(child):
            found[str(child.tag)] = _expand(child, _text(child))
    return found


_DECLARATION_FIELDS = frozenset({"declarationTime", "reason", "correctiveEventIDs"})
_CORRECTIVE = frozenset({"correctiveEventID"})
_SENSOR_FIELDS = frozenset({"sensorMetadata", "sensorReport"})


def _sensor(element: Element, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {EXTENSIONS: _others(element, _SENSOR_FIELDS, path)}
    for child in _elements(element):
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
    for key, text in _texts_of(element):
        namespace, name = _split(key)
        if namespace:
            extensions.append(Extension(namespace, name, text))
        elif key not in known:
            fail("FIELD_UNKNOWN", "no attribute of the standard", f"{element.tag}/@{key}")
        else:
            found[key] = _expand(element, text) if key in {"type", "exception", "component"} else text
    found[EXTENSIONS] = (*extensions, *_others(element, frozenset(), path))
    return found


def _expand(element: Element, text: str) -> str:
    """Return a CURIE by the namespaces in force at an element as URI; other text as it is."""
    if ":" not in text or text.startswith(("urn:", "http")):
        return text
    prefixes = Prefixes({prefix: uri for prefix, uri in element.nsmap.items() if prefix and prefix != "gs1"})
    return prefixes.expand_value(text)


def _extension(element: Element, depth: int = 0) -> Extension:
    """Return an element and all in it as extension; white space around its text counts where xml:space says so."""
    if depth > MAX_DEPTH:
        fail("EXTENSION_DEPTH", f"nested deeper than {MAX_DEPTH}", str(element.tag))
    namespace, name = _split(str(element.tag))
    attributes = tuple((*_split(key), text) for key, text in _texts_of(element)) if element.attrib else ()
    text = element.text or ""
    if not len(element):
        bare = text.strip()
        for kind, (key, word) in TYPE_OF.items():
            # As the writer marks them; with other attributes, or spelled otherwise, it stays text and marks.
            if attributes[-1:] == ((XSI, key, word),) and (value := _typed_value(kind, bare)) is not _UNTYPED:
                return Extension(namespace, name, value, attributes[:-1])
        if bare != text and PRESERVE in attributes:
            return Extension(namespace, name, text, tuple(item for item in attributes if item != PRESERVE))
        return Extension(namespace, name, bare, attributes)
    children: list[Extension] = []
    if text.strip():
        children.append(Extension("", TEXT, text))
    for child in element:
        children.append(_extension(child, depth + 1))
        if child.tail is not None and child.tail.strip():
            children.append(Extension("", TEXT, child.tail))
    return Extension(namespace, name, tuple(children), attributes)


def _typed_value(kind: type, text: str) -> Decimal | bool | str | None:
    """Return a text as number, truth value or nothing, or a mark where it is not spelled as the writer spells it."""
    if kind is bool and text in {"true", "false"}:
        return text == "true"
    if kind is Decimal:
        number = decimal_of(text)
        return _UNTYPED if number is None or format(number, "f") != text else number
    return None if kind is NoneType and not text else _UNTYPED


_UNTYPED = "\ud800"

# --- header ---


def _header(header: Element, creation_date: datetime | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"vocabularies": (), "header_extensions": ()}
    extensions: list[Extension] = []
    for child in _elements(header):
        if child.tag == f"{{{SBDH}}}{ROOT_NAME}":
            tree = _extension(child).value
            business = take_apart(tree if isinstance(tree, tuple) else (), creation_date=creation_date)
            found.update({name: getattr(business, name) for name in _BUSINESS_FIELDS})
        elif child.tag == "EPCISMasterData":
            found["vocabularies"] = tuple(_vocabularies(child))
        elif _is_foreign(child):
            extensions.append(_extension(child))
        else:
            fail("FIELD_UNKNOWN", "no field of a header", f"/EPCISHeader/{child.tag}")
    found["header_extensions"] = tuple(extensions)
    return found


_BUSINESS_FIELDS = ("sender", "receiver", "instance_identifier", "business_header")


def _vocabularies(master: Element) -> Iterator[Vocabulary]:
    for found in _elements(_items_of(master, "VocabularyList")):
        _check_tag(found, "Vocabulary")
        elements: list[VocabularyElement] = []
        for item in _elements(_items_of(found, "VocabularyElementList")):
            _check_tag(item, "VocabularyElement")
            elements.append(_vocabulary_element(item))
        yield Vocabulary(found.get("type", ""), tuple(elements))


def _items_of(parent: Element, name: str) -> Element:
    """Return the one child of an element, or an empty one where it has none."""
    children = list(_elements(parent))
    for child in children:
        _check_tag(child, name)
    if len(children) > 1:
        fail("FIELD_TWICE", "stands twice", f"/EPCISHeader/EPCISMasterData/{name}")
    return children[0] if children else etree.Element(name)


def _check_tag(element: Element, name: str) -> None:
    if element.tag != name:
        fail("FIELD_UNKNOWN", f"the standard knows {name} here", f"/EPCISHeader/EPCISMasterData/{element.tag}")


def _vocabulary_element(element: Element) -> VocabularyElement:
    attributes: list[tuple[str, str]] = []
    structured: list[tuple[str, tuple[Extension, ...]]] = []
    children: list[str] = []
    extensions: list[Extension] = []
    for item in _elements(element):
        if item.tag == "attribute":
            value = _extension(item).value
            if isinstance(value, tuple):
                structured.append((item.get("id", ""), value))
            else:
                attributes.append((item.get("id", ""), str(value)))
        elif item.tag == "children":
            children += [_text(child) for child in _items(item, frozenset({"id"}), "/EPCISHeader/EPCISMasterData")]
        elif _is_foreign(item):
            extensions.append(_extension(item))
        else:
            _check_tag(item, "attribute")
    return VocabularyElement(
        element.get("id", ""), tuple(attributes), tuple(children), tuple(structured), tuple(extensions)
    )
