"""EPCIS 2.0 JSON-LD in.

Namespaces come from ``@context`` of the document and of its events. A key with a known prefix, or a whole URI, is a
user extension; a key without namespace that the standard does not know is refused, save inside extensions.

Source: EPCIS 2.0, section 10 (JSON and JSON-LD bindings).
"""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from medtrail.epcis.build import (
    EVENT_FIELDS,
    EXTENSIONS,
    MAX_DOCUMENT_BYTES,
    METADATA_FIELDS,
    REPORT_FIELDS,
    Raw,
    build_event,
    fail,
    parse_number,
    parse_time,
)
from medtrail.epcis.model import (
    EpcisDocument,
    EpcisEvent,
    Extension,
    Vocabulary,
    VocabularyElement,
)
from medtrail.epcis.namespaces import Prefixes, is_reserved
from medtrail.errors import MalformedError, TooLargeError

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
_DOCUMENT_FIELDS = frozenset(
    {"@context", "id", "type", "schemaVersion", "creationDate", "sender", "receiver", "instanceIdentifier",
     "epcisHeader", "epcisBody"}
)  # fmt: skip


def read_json(data: bytes) -> EpcisDocument:
    """Read an EPCISDocument, an EPCISQueryDocument, or one bare event.

    Args:
        data: UTF-8, at most 16 MiB.

    Raises:
        TooLargeError: More than 16 MiB.
        MalformedError: Not JSON, not EPCIS, or a field is missing, unknown or of wrong form.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        message = f"expected at most {MAX_DOCUMENT_BYTES} bytes, got {len(data)}"
        raise TooLargeError(message, code="DOCUMENT_TOO_LARGE")
    try:
        document = json.loads(
            data,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_repeats,
        )
        if b"\\u" in data:
            # Half of a surrogate pair is no text: nothing could encode it afterwards.
            json.dumps(document, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError, ArithmeticError) as error:
        message = f"not JSON: {str(error)[:100]}"
        raise MalformedError(message, code="JSON_MALFORMED") from error
    if not isinstance(document, dict):
        fail("DOCUMENT_MALFORMED", "expected an object", "$")
    if "@context" not in document:
        fail("CONTEXT_MISSING", "JSON-LD needs an @context", "$.@context")
    prefixes = _read_context(document["@context"], Prefixes(), "$.@context")
    kind = document.get("type")
    if not isinstance(kind, str) or kind not in _DOCUMENT_TYPES:
        return EpcisDocument(events=(_event(document, prefixes, "$"),), namespaces=prefixes.custom())
    return _document(document, prefixes)


def _refuse_constant(text: str) -> None:
    message = f"{text} is no JSON number"
    raise ValueError(message)


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key stands twice in one object"
        raise ValueError(message)
    return found


def _document(document: dict[str, Any], prefixes: Prefixes) -> EpcisDocument:
    body = document.get("epcisBody")
    if not isinstance(body, dict):
        fail("FIELD_MISSING", "is required", "$.epcisBody")
    path, events = _event_list(body)
    creation_date = document.get("creationDate")
    extensions = _extensions(
        {key: value for key, value in document.items() if key not in _DOCUMENT_FIELDS}, prefixes, "$", MAX_DEPTH
    )
    vocabularies, header_extensions = _header(document.get("epcisHeader"), prefixes)
    texts: dict[str, str | None] = {}
    for name in ("sender", "receiver", "instanceIdentifier", "schemaVersion"):
        value = document.get(name)
        if value is not None and not isinstance(value, str | Decimal):
            fail("FIELD_MALFORMED", "expected a text", f"$.{name}")
        texts[name] = None if value is None else str(value)
    return EpcisDocument(
        events=tuple(_event(item, prefixes, f"{path}[{number}]") for number, item in enumerate(events)),
        schema_version=texts["schemaVersion"] or "2.0",
        creation_date=None if creation_date is None else parse_time(creation_date, field="$.creationDate"),
        namespaces=prefixes.custom(),
        sender=texts["sender"],
        receiver=texts["receiver"],
        instance_identifier=texts["instanceIdentifier"],
        vocabularies=vocabularies,
        header_extensions=header_extensions,
        extensions=extensions,
    )


def _event_list(body: dict[str, Any]) -> tuple[str, list[Any]]:
    path = "$.epcisBody"
    for step in ("queryResults", "resultsBody"):
        if isinstance(body.get(step), dict):
            body, path = body[step], f"{path}.{step}"
    if "event" in body:
        if "eventList" in body:
            fail("FIELD_TWICE", "events stand in event and in eventList", f"{path}.eventList")
        return f"{path}.event", [body["event"]]
    events = body.get("eventList")
    if not isinstance(events, list):
        fail("FIELD_MISSING", "expected a list of events", f"{path}.eventList")
    return f"{path}.eventList", events


def _read_context(context: object, prefixes: Prefixes, field: str) -> Prefixes:
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
    if not isinstance(header, dict):
        return (), ()
    master = header.get("epcisMasterData")
    lists = master.get("vocabularyList", []) if isinstance(master, dict) else []
    path = "$.epcisHeader.epcisMasterData.vocabularyList"
    if not isinstance(lists, list):
        fail("FIELD_MALFORMED", "expected a list", path)
    vocabularies = tuple(_vocabulary(item, f"{path}[{number}]") for number, item in enumerate(lists))
    rest = {key: value for key, value in header.items() if key != "epcisMasterData"}
    return vocabularies, _extensions(rest, prefixes, "$.epcisHeader", MAX_DEPTH)


def _vocabulary(item: object, field: str) -> Vocabulary:
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        fail("FIELD_MALFORMED", "expected an object with a type", field)
    elements = item.get("vocabularyElementList", [])
    if not isinstance(elements, list):
        fail("FIELD_MALFORMED", "expected a list", f"{field}.vocabularyElementList")
    return Vocabulary(
        item["type"],
        tuple(
            _vocabulary_element(found, f"{field}.vocabularyElementList[{number}]")
            for number, found in enumerate(elements)
        ),
    )


def _vocabulary_element(item: object, field: str) -> VocabularyElement:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        fail("FIELD_MALFORMED", "expected an object with an id", field)
    attributes = item.get("attributes", [])
    children = item.get("children", [])
    if not isinstance(attributes, list) or not isinstance(children, list):
        fail("FIELD_MALFORMED", "expected lists", field)
    pairs = []
    for number, attribute in enumerate(attributes):
        if not isinstance(attribute, dict) or not isinstance(attribute.get("id"), str):
            fail("FIELD_MALFORMED", "expected an object with an id", f"{field}.attributes[{number}]")
        pairs.append((attribute["id"], str(attribute.get("attribute", ""))))
    return VocabularyElement(item["id"], tuple(pairs), tuple(str(child) for child in children))


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
    return _event(item, prefixes, field)


def _event(item: object, prefixes: Prefixes, field: str) -> EpcisEvent:
    if not isinstance(item, dict):
        fail("EVENT_MALFORMED", "expected an object", field)
    if "@context" in item:
        prefixes = _read_context(item["@context"], prefixes, f"{field}.@context")
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
    raw[EXTENSIONS] = _extensions(others, prefixes, field, MAX_DEPTH)
    return build_event(raw, field=field)


def _ilmd(value: object, prefixes: Prefixes, field: str) -> tuple[Extension, ...]:
    if not isinstance(value, dict):
        fail("FIELD_MALFORMED", "expected an object", f"{field}.ilmd")
    return _extensions(value, prefixes, f"{field}.ilmd", MAX_DEPTH)


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
    raw[EXTENSIONS] = _extensions(others, prefixes, field, MAX_DEPTH)
    return raw


def _extensions(items: Raw, prefixes: Prefixes, field: str, depth: int) -> tuple[Extension, ...]:
    found: list[Extension] = []
    for key, value in items.items():
        path = f"{field}.{key}"
        if key.startswith("@"):
            continue
        namespace, name = prefixes.split(key)
        if not namespace and depth == MAX_DEPTH:
            # At the top, a key without namespace is a misspelled field of the standard, not an extension.
            fail("FIELD_UNKNOWN", "neither a field of the standard nor under a declared namespace", path)
        if is_reserved(namespace):
            fail("NAMESPACE_RESERVED", f"{namespace} holds fields of the standard, not extensions", path)
        found += [
            _extension(namespace, name, item, prefixes=prefixes, field=path, depth=depth)
            for item in (value if isinstance(value, list) else [value])
        ]
    return tuple(found)


def _extension(namespace: str, name: str, value: object, *, prefixes: Prefixes, field: str, depth: int) -> Extension:
    if depth == 0:
        fail("EXTENSION_DEPTH", f"nested deeper than {MAX_DEPTH}", field)
    if isinstance(value, dict):
        attributes = tuple(
            (*prefixes.split(key[1:]), str(text))
            for key, text in value.items()
            if key.startswith("@")
            and key not in {"@context", "@type", "@id", "@value"}
            and not key.startswith("@xmlns")
        )
        if "@context" in value:
            prefixes = _read_context(value["@context"], prefixes, f"{field}.@context")
        if "#text" in value:
            return Extension(namespace, name, _scalar(value["#text"], field), attributes)
        rest = {key: item for key, item in value.items() if not key.startswith("@")}
        return Extension(namespace, name, _extensions(rest, prefixes, field, depth - 1), attributes)
    if isinstance(value, list):
        fail("FIELD_MALFORMED", "a list in a list has no EPCIS form", field)
    return Extension(namespace, name, _scalar(value, field))


def _scalar(value: object, field: str) -> str | Decimal | bool | None:
    if isinstance(value, Decimal | int | float) and not isinstance(value, bool):
        return parse_number(value, field=field)
    if value is not None and not isinstance(value, str | bool):
        fail("FIELD_MALFORMED", "expected a text, a number or a truth value", field)
    return value
