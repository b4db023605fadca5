"""EPCIS 2.0 JSON-LD in.

Namespaces come from ``@context`` of the document and of its events. A key with a known prefix, or a whole URI, is a
user extension; a key without namespace that the standard does not know is refused, save inside extensions.

Source: EPCIS 2.0, section 10 (JSON and JSON-LD bindings).
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from medtrail.epcis.build import (
    EVENT_FIELDS,
    EXTENSIONS,
    METADATA_FIELDS,
    REPORT_FIELDS,
    Raw,
    build_event,
    fail,
    parse_number,
    parse_time,
)
from medtrail.epcis.business_header import ROOT_NAME, SBDH
from medtrail.epcis.model import (
    DocumentKind,
    EpcisDocument,
    EpcisEvent,
    Extension,
    Vocabulary,
    VocabularyElement,
)
from medtrail.epcis.namespaces import Prefixes, is_reserved

MAX_DEPTH = 32

_QUANTITY_FIELDS = frozenset({"epcClass", "quantity", "uom"})
# Kinds of objects inside an event, with the fields that the standard gives them.
_OBJECT_FIELDS: dict[str, frozenset[str]] = {
    "quantityList": _QUANTITY_FIELDS,
    "childQuantityList": _QUANTITY_FIELDS,
    "inputQuantityList": _QUANTITY_FIELDS,
    "outputQuantityList": _QUANTITY_FIELDS,
    "readPoint": frozenset({"id"}),
    "bizLocation": frozenset({"id"}),
    "bizTransactionList": frozenset({"type", "bizTransaction"}),
    "sourceList": frozenset({"type", "source"}),
    "destinationList": frozenset({"type", "destination"}),
    "persistentDisposition": frozenset({"set", "unset"}),
    "errorDeclaration": frozenset({"declarationTime", "reason", "correctiveEventIDs"}),
    "sensorElementList": frozenset({"type", "sensorMetadata", "sensorReport"}),
    "sensorMetadata": frozenset(METADATA_FIELDS),
    "sensorReport": frozenset(REPORT_FIELDS),
}
_EXTENSIBLE = frozenset(
    {"readPoint", "bizLocation", "errorDeclaration", "sensorElementList", "sensorMetadata", "sensorReport"}
)
_DOCUMENT_TYPES = frozenset({"EPCISDocument", "EPCISQueryDocument"})
DOCUMENT_FIELDS = frozenset(
    {"@context", "id", "type", "schemaVersion", "creationDate", "createdAt", "sender", "receiver",
     "instanceIdentifier", "epcisHeader", "epcisBody"}
)  # fmt: skip
_DOCUMENT_TEXTS = ("sender", "receiver", "instanceIdentifier", "schemaVersion")
_BODY_FIELDS = frozenset(
    {"type", "isA", "id", "queryResults", "resultsBody", "eventList", "event", "queryName", "subscriptionID"}
)
# Keys of JSON-LD that say nothing of an event or document.
_KEYWORDS = frozenset({"@context", "@id", "@type", "@vocab"})
# JSON-LD keywords inside an extension, and the attributes that say the same in XML.
KEYWORD_ATTRIBUTES: dict[str, tuple[str, str]] = {
    "@id": ("http://www.w3.org/1999/02/22-rdf-syntax-ns#", "resource"),
    "@language": ("http://www.w3.org/XML/1998/namespace", "lang"),
    "@type": ("http://www.w3.org/2001/XMLSchema-instance", "type"),
}
TEXT = "#text"
_TEXTS = re.compile(r"#text\d*\Z|@value\Z", re.ASCII)


def refuse_constant(text: str) -> None:
    """Refuse NaN and the infinities, which Python's reader would take."""
    raise RefusedError(f"{text} is no JSON number")


def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's members; a key that stands twice is refused, since readers differ in which they believe."""
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key stands twice in one object"
        raise RefusedError(message)
    return found


class RefusedError(ValueError):
    """JSON that no further bytes would mend."""


def is_document(members: Raw) -> bool:
    """Return whether a root object claims to be a document, and no bare event."""
    kind = members.get("type")
    return isinstance(kind, str) and kind in _DOCUMENT_TYPES


def root_prefixes(members: Raw) -> Prefixes:
    """Return the prefixes that a root object declares.

    Raises:
        MalformedError: It has no ``@context``, or one of wrong form.
    """
    if "@context" not in members:
        fail("CONTEXT_MISSING", "JSON-LD needs an @context", "$.@context")
    return read_context(members["@context"], Prefixes(), "$.@context")


def bare_head_of(document: dict[str, Any], prefixes: Prefixes) -> EpcisDocument:
    """Return the document around an event that stands by itself; what it says of one is taken off it."""
    document.pop("schemaVersion", None)
    creation_date = document.pop("creationDate", None)
    return EpcisDocument(
        events=(),
        creation_date=None if creation_date is None else parse_time(creation_date, field="$.creationDate"),
        namespaces=prefixes.custom(),
        kind=DocumentKind.EVENT,
    )


def head_of(document: Raw, prefixes: Prefixes, body: Raw) -> EpcisDocument:
    """Return a document without its events.

    Args:
        document: Members of the root object.
        prefixes: As the document declares them.
        body: Members of the object that holds the events, and of those around it up to ``epcisBody``.

    Raises:
        MalformedError: A field is unknown or of wrong form.
    """
    for key in body:
        if key not in _BODY_FIELDS:
            fail("FIELD_UNKNOWN", "no field of a body", f"$.epcisBody.{key}")
    creation_date = document.get("creationDate", document.get("createdAt"))
    extensions = read_extensions(
        {key: value for key, value in document.items() if key not in DOCUMENT_FIELDS}, prefixes, "$", MAX_DEPTH
    )
    vocabularies, header_extensions = _header(document.get("epcisHeader"), prefixes)
    texts = {name: _optional_text(document, name, "$") for name in _DOCUMENT_TEXTS}
    found = EpcisDocument(
        events=(),
        schema_version=texts["schemaVersion"] or "2.0",
        creation_date=None if creation_date is None else parse_time(creation_date, field="$.creationDate"),
        namespaces=prefixes.custom(),
        sender=texts["sender"],
        receiver=texts["receiver"],
        instance_identifier=texts["instanceIdentifier"],
        vocabularies=vocabularies,
        header_extensions=tuple(item for item in header_extensions if not _is_business(item)),
        extensions=extensions,
        kind=DocumentKind(document["type"]),
        query_name=_optional_text(body, "queryName", "$.epcisBody"),
        subscription_id=_optional_text(body, "subscriptionID", "$.epcisBody"),
    )
    for business in filter(_is_business, header_extensions):
        if found.business_header or not isinstance(business.value, tuple):
            fail("FIELD_MALFORMED", "expected one object", f"$.epcisHeader.{ROOT_NAME}")
        found = replace(found, business_header=business.value)
    return found


def _is_business(item: Extension) -> bool:
    return (item.namespace, item.name) == (SBDH, ROOT_NAME)


def _optional_text(members: Raw, name: str, field: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str | Decimal):
        fail("FIELD_MALFORMED", "expected a text", f"{field}.{name}")
    return None if value is None else str(value)


def read_context(context: object, prefixes: Prefixes, field: str) -> Prefixes:
    """Return prefixes and those that an ``@context`` adds; other members of it say nothing of names."""
    for item in context if isinstance(context, list) else [context]:
        if isinstance(item, dict):
            for prefix, uri in item.items():
                target = uri.get("@id") if isinstance(uri, dict) else uri
                if not isinstance(target, str):
                    fail("CONTEXT_MALFORMED", "expected a namespace URI", f"{field}.{prefix}")
                if not prefix.startswith("@"):
                    prefixes = prefixes.with_prefix(prefix, target)
        elif not isinstance(item, str):
            fail("CONTEXT_MALFORMED", "expected URIs and prefix maps", field)
    return prefixes


def _header(header: object, prefixes: Prefixes) -> tuple[tuple[Vocabulary, ...], tuple[Extension, ...]]:
    if header is None:
        return (), ()
    if not isinstance(header, dict):
        fail("FIELD_MALFORMED", "expected an object", "$.epcisHeader")
    master = header.get("epcisMasterData", {})
    path = "$.epcisHeader.epcisMasterData"
    _check_members(master, frozenset({"vocabularyList"}), path)
    lists = _list(master, "vocabularyList", path)
    vocabularies = tuple(
        read_vocabulary(item, f"{path}.vocabularyList[{number}]", prefixes) for number, item in enumerate(lists)
    )
    rest = {key: value for key, value in header.items() if key != "epcisMasterData"}
    return vocabularies, read_extensions(rest, prefixes, "$.epcisHeader", MAX_DEPTH)


def _check_members(item: object, known: frozenset[str], field: str) -> None:
    if not isinstance(item, dict):
        fail("FIELD_MALFORMED", "expected an object", field)
    for key in item:
        if key not in known:
            fail("FIELD_UNKNOWN", f"the standard knows {', '.join(sorted(known))} here", f"{field}.{key}")


def _list(item: Raw, name: str, field: str) -> list[Any]:
    found = item.get(name, [])
    if not isinstance(found, list):
        fail("FIELD_MALFORMED", "expected a list", f"{field}.{name}")
    return found


def read_vocabulary(item: object, field: str, prefixes: Prefixes = Prefixes()) -> Vocabulary:  # noqa: B008 - frozen
    """Return one vocabulary of a header's master data."""
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        fail("FIELD_MALFORMED", "expected an object with a type", field)
    _check_members(item, _VOCABULARY_FIELDS, field)
    elements = _list(item, "vocabularyElementList", field)
    return Vocabulary(
        item["type"],
        tuple(
            _vocabulary_element(found, f"{field}.vocabularyElementList[{number}]", prefixes)
            for number, found in enumerate(elements)
        ),
    )


def _vocabulary_element(item: object, field: str, prefixes: Prefixes) -> VocabularyElement:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        fail("FIELD_MALFORMED", "expected an object with an id", field)
    attributes: list[tuple[str, str]] = []
    structured: list[tuple[str, tuple[Extension, ...]]] = []
    for number, attribute in enumerate(_list(item, "attributes", field)):
        at = f"{field}.attributes[{number}]"
        if not isinstance(attribute, dict) or not isinstance(attribute.get("id"), str):
            fail("FIELD_MALFORMED", "expected an object with an id", at)
        _check_members(attribute, _ATTRIBUTE_FIELDS, at)
        value = attribute.get("attribute", "")
        if isinstance(value, dict):
            structured.append((attribute["id"], read_extensions(value, prefixes, f"{at}.attribute", MAX_DEPTH - 1)))
        else:
            attributes.append((attribute["id"], _attribute_text(value, f"{at}.attribute")))
    children = tuple(
        _attribute_text(child, f"{field}.children[{number}]")
        for number, child in enumerate(_list(item, "children", field))
    )
    rest = {key: value for key, value in item.items() if key not in _ELEMENT_FIELDS}
    extensions = read_extensions(rest, prefixes, field, MAX_DEPTH)
    return VocabularyElement(item["id"], tuple(attributes), children, tuple(structured), extensions)


_VOCABULARY_FIELDS = frozenset({"isA", "type", "vocabularyElementList"})
_ELEMENT_FIELDS = frozenset({"isA", "id", "attributes", "children"})
_ATTRIBUTE_FIELDS = frozenset({"isA", "id", "attribute"})


def _attribute_text(value: object, field: str) -> str:
    """Return what XML can say in an attribute: numbers and truth values become text."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is not None and not isinstance(value, str | Decimal | int | float):
        fail("FIELD_MALFORMED", "expected a text", field)
    return "" if value is None else str(value)


def event_from_json(item: object, *, namespaces: Iterable[tuple[str, str]] = (), field: str = "$") -> EpcisEvent:
    """Return the event of a parsed JSON object.

    Args:
        item: As :func:`json.loads` returns it, numbers as Decimal or int.
        namespaces: (prefix, URI) in force beside those of the standard and of the event's own ``@context``.
        field: Path of the object, for errors.

    Raises:
        MalformedError: A field is missing, unknown or of wrong form.
    """
    prefixes = Prefixes()
    for prefix, uri in namespaces:
        prefixes = prefixes.with_prefix(prefix, uri)
    return event_of(item, prefixes, field)


def event_of(item: object, prefixes: Prefixes, field: str) -> EpcisEvent:
    """Return the event of a parsed JSON object, under the prefixes in force around it."""
    if not isinstance(item, dict):
        fail("EVENT_MALFORMED", "expected an object", field)
    if "@context" in item:
        prefixes = read_context(item["@context"], prefixes, f"{field}.@context")
    raw: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in item.items():
        if key in {"@context", "isA"}:
            continue
        if key == "ilmd":
            raw[key] = _ilmd(value, prefixes, field)
        elif key in _OBJECT_FIELDS:
            raw[key] = _object(key, value, prefixes, f"{field}.{key}")
        elif key in {"bizStep", "disposition"} and isinstance(value, str):
            raw[key] = prefixes.expand_value(value)
        elif key in EVENT_FIELDS:
            raw[key] = value
        else:
            others[key] = value
    raw[EXTENSIONS] = read_extensions(others, prefixes, field, MAX_DEPTH)
    return build_event(raw, field=field)


def _ilmd(value: object, prefixes: Prefixes, field: str) -> tuple[Extension, ...]:
    if not isinstance(value, dict):
        fail("FIELD_MALFORMED", "expected an object", f"{field}.ilmd")
    return read_extensions(value, prefixes, f"{field}.ilmd", MAX_DEPTH)


def _object(kind: str, value: object, prefixes: Prefixes, field: str) -> object:
    if isinstance(value, list):
        return [_object(kind, item, prefixes, f"{field}[{number}]") for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    known = _OBJECT_FIELDS[kind]
    raw: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, found in value.items():
        if key not in known:
            others[key] = found
        elif key in _OBJECT_FIELDS:
            raw[key] = _object(key, found, prefixes, f"{field}.{key}")
        elif isinstance(found, str) and key in {"type", "exception", "component", "reason"}:
            raw[key] = prefixes.expand_value(found)
        elif kind == "persistentDisposition" and isinstance(found, list):
            raw[key] = [prefixes.expand_value(word) if isinstance(word, str) else word for word in found]
        else:
            raw[key] = found
    if others and kind not in _EXTENSIBLE:
        fail("FIELD_UNKNOWN", f"the standard knows {', '.join(sorted(known))} here", f"{field}.{next(iter(others))}")
    raw[EXTENSIONS] = read_extensions(others, prefixes, field, MAX_DEPTH)
    return raw


def read_extensions(items: Raw, prefixes: Prefixes, field: str, depth: int) -> tuple[Extension, ...]:
    """Return members of other namespaces as extensions, and refuse those without one at the top."""
    found: list[Extension] = []
    for key, value in items.items():
        path = f"{field}.{key}"
        values = value if isinstance(value, list) else [value]
        if depth != MAX_DEPTH and _TEXTS.match(key):
            found += [Extension("", TEXT, _scalar(item, path)) for item in values]
            continue
        if key.startswith("@"):
            if key not in _KEYWORDS:
                fail("FIELD_UNKNOWN", "no keyword of JSON-LD that may stand here", path)
            continue
        namespace, name = prefixes.split(key)
        if not namespace and depth == MAX_DEPTH:
            # At the top, a key without namespace is a misspelled field of the standard, not an extension.
            fail("FIELD_UNKNOWN", "neither a field of the standard nor under a declared namespace", path)
        if is_reserved(namespace):
            fail("NAMESPACE_RESERVED", f"{namespace} holds fields of the standard, not extensions", path)
        found += [_extension(namespace, name, item, prefixes=prefixes, field=path, depth=depth) for item in values]
    return tuple(found)


def _extension(namespace: str, name: str, value: object, *, prefixes: Prefixes, field: str, depth: int) -> Extension:
    if depth == 0:
        fail("EXTENSION_DEPTH", f"nested deeper than {MAX_DEPTH}", field)
    if isinstance(value, list):
        fail("FIELD_MALFORMED", "a list in a list has no EPCIS form", field)
    if not isinstance(value, dict):
        return Extension(namespace, name, _scalar(value, field))
    if "@context" in value:
        prefixes = read_context(value["@context"], prefixes, f"{field}.@context")
    attributes: list[tuple[str, str, str]] = []
    rest: dict[str, Any] = {}
    for key, item in value.items():
        if not key.startswith("@") or key == "@value":
            rest[key] = item
        elif key != "@context" and not key.startswith("@xmlns"):
            attributes.append((*_attribute_name(key, prefixes), _attribute_text(item, f"{field}.{key}")))
    if len(rest) == 1 and _TEXTS.match(next(iter(rest))):
        (text,) = rest.values()
        return Extension(namespace, name, _scalar(text, field), tuple(attributes))
    return Extension(namespace, name, read_extensions(rest, prefixes, field, depth - 1), tuple(attributes))


def _attribute_name(key: str, prefixes: Prefixes) -> tuple[str, str]:
    """Return (namespace, name) of an attribute's key; ``@:id`` is an attribute named like a keyword."""
    if key.startswith("@:"):
        return "", key[2:]
    return KEYWORD_ATTRIBUTES.get(key) or prefixes.split(key[1:])


def _scalar(value: object, field: str) -> str | Decimal | bool | None:
    if isinstance(value, Decimal | int | float) and not isinstance(value, bool):
        return parse_number(value, field=field)
    if value is not None and not isinstance(value, str | bool):
        fail("FIELD_MALFORMED", "expected a text, a number or a truth value", field)
    return value
