"""EPCIS 2.0 JSON-LD out: one stable form for one document, numbers digit by digit.

What JSON objects cannot say by themselves is said so that our reader and others' agree on it:

- An element's text beside its attributes or children is ``#text``; attributes are keys with ``@``.
- Children of one name that others stand between get a second prefix of their namespace (``ext--2:name``); of children
  without a namespace the order among different names is not kept.

Source: EPCIS 2.0, section 10 (JSON and JSON-LD bindings).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import chain, count
from typing import Any

from medtrail.epcis.build import METADATA_FIELDS, REPORT_FIELDS
from medtrail.epcis.business_header import ROOT_NAME, SBDH
from medtrail.epcis.json_in import KEYWORD_ATTRIBUTES, TEXT
from medtrail.epcis.model import (
    DocumentKind,
    EpcisDocument,
    EpcisEvent,
    Extension,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
    VocabularyElement,
)
from medtrail.epcis.namespaces import AGAIN, BUILT_IN, USUAL
from medtrail.errors import MalformedError

CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"

# Half of a surrogate pair stands in no text that can be encoded, so it marks what json cannot write by itself.
_MARK = "\ud800"
_MARKED = re.compile(f'"{_MARK}([-+.0-9E]+)"')
_KEYWORD_OF = {name: keyword for keyword, name in KEYWORD_ATTRIBUTES.items()}
_KEYWORDS = frozenset({*KEYWORD_ATTRIBUTES, "@context", "@value"})
_EVENTS = '"\udfff"'


def write_json(document: EpcisDocument) -> bytes:
    """Return the document as EPCIS 2.0 JSON-LD, indented, in UTF-8.

    Raises:
        MalformedError: A text is half of a surrogate pair, or a number is none (NOT_IN_JSON).
    """
    names = _Names(document.namespaces)
    events = [_event_object(event, names) for event in document.events]
    if document.kind is DocumentKind.EVENT and len(events) == 1:
        about = {} if document.creation_date is None else {"creationDate": _time(document.creation_date)}
        return _encode(_dumps({"@context": names.context(), **about, **events[0]}, indent=2)) + b"\n"
    frame = _frame(document, names, events)
    return _encode(_dumps({"@context": names.context(), **frame}, indent=2)) + b"\n"


def write_json_events(head: EpcisDocument, events: Iterable[EpcisEvent]) -> Iterator[bytes]:
    """Yield a capture or query document of any number of events, a piece an event, in UTF-8.

    Args:
        head: The document; its own events come first.
        events: What follows. A namespace that the head does not declare is declared in the event.

    Raises:
        MalformedError: As :func:`write_json`.
    """
    kind = head.kind if head.kind is not DocumentKind.EVENT else DocumentKind.CAPTURE
    names = _Names(head.namespaces)
    frame = _frame(replace(head, events=(), kind=kind), names, "\udfff")
    before, _, after = _dumps({"@context": names.context(), **frame}, indent=2).partition(_EVENTS)
    yield _encode(before) + b"["
    separator = b"\n"
    for found in (head.events, events):
        for event in found:
            own = _Names(names.declared())
            item = _event_object(event, own)
            context = own.context()[1 + len(names.declared()) :]
            text = _dumps({"@context": context, **item} if context else item)
            yield separator + _encode(text)
            separator = b",\n"
    yield b"\n]" + _encode(after) + b"\n"


def event_to_json(event: EpcisEvent) -> dict[str, Any]:
    """Return one event as JSON-LD object with its own ``@context``; numbers are int or float.

    A float holds some 17 digits. Where digits matter, :func:`event_to_text` gives the same object with all of them.
    """
    parsed: dict[str, Any] = json.loads(event_to_text(event))
    return parsed


def event_to_text(event: EpcisEvent) -> str:
    """Return one event as the text of a JSON-LD object with its own ``@context``, numbers digit by digit."""
    names = _Names(())
    found = _event_object(event, names)
    return _dumps({"@context": names.context(), **found})


def _dumps(value: object, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=_number)
    return _MARKED.sub(r"\1", text) if _MARK in text else text


def _number(value: Decimal) -> str:
    if not value.is_finite():
        message = f"{value} is no JSON number"
        raise MalformedError(message, code="NOT_IN_JSON")
    return f"{_MARK}{value}"


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        message = "holds half of a surrogate pair, which is no text"
        raise MalformedError(message, code="NOT_IN_JSON") from error


class _Names:
    """Prefixes for the namespaces that a document uses; new ones are made up as they come."""

    def __init__(self, namespaces: Iterable[tuple[str, str]]) -> None:
        self._custom = dict(namespaces)
        self._prefix_of = {uri: prefix for prefix, uri in BUILT_IN.items() if prefix not in self._custom}
        for prefix, uri in self._custom.items():
            self._prefix_of.setdefault(uri, prefix)

    def key(self, namespace: str, name: str) -> str:
        """Return a key for a namespaced name."""
        return f"{self._prefix(namespace)}:{name}" if namespace else name

    def _prefix(self, namespace: str) -> str:
        prefix = self._prefix_of.get(namespace)
        if prefix is None:
            made = (f"ext{number}" for number in count(len(self._custom) + 1))
            usual = (name for name, uri in USUAL.items() if uri == namespace)
            prefix = next(name for name in chain(usual, made) if name not in self._custom)
            self._custom[prefix] = namespace
            self._prefix_of[namespace] = prefix
        return prefix

    def declared(self) -> list[tuple[str, str]]:
        """Return what the context declares beside the standard's own prefixes, in order."""
        return list(self._custom.items())

    def context(self) -> list[Any]:
        """Return the ``@context``."""
        return [CONTEXT, *({prefix: uri} for prefix, uri in self._custom.items())]

    def extensions(self, extensions: Iterable[Extension]) -> dict[str, Any]:
        """Return extensions as members of a JSON object; repeated names become lists."""
        grouped: dict[str, list[Any]] = {}
        runs: dict[tuple[str, str], int] = {}
        last: tuple[str, str] | None = None
        for extension in extensions:
            name = (extension.namespace, extension.name)
            if name != last:
                runs[name] = runs.get(name, 0) + 1
                last = name
            grouped.setdefault(self._key_of_run(extension, runs[name]), []).append(self._value(extension))
        return {key: values[0] if len(values) == 1 else values for key, values in grouped.items()}

    def _key_of_run(self, extension: Extension, run: int) -> str:
        if run > 1 and extension.namespace:
            again = f"{self._prefix(extension.namespace)}{AGAIN}{run}"
            self._custom[again] = extension.namespace
            return f"{again}:{extension.name}"
        if run > 1 and extension.name == TEXT:
            return f"{TEXT}{run}"
        return self.key(extension.namespace, extension.name)

    def _value(self, extension: Extension) -> object:
        value = extension.value
        attributes = {self._attribute(namespace, name): text for namespace, name, text in extension.attributes}
        if isinstance(value, tuple):
            return {**attributes, **self.extensions(value)}
        return {**attributes, TEXT: value} if attributes else value

    def _attribute(self, namespace: str, name: str) -> str:
        keyword = _KEYWORD_OF.get((namespace, name))
        if keyword is not None:
            return keyword
        # Without a namespace, a name may be a keyword of JSON-LD or hold what parts a prefix from a name.
        plain = bool(namespace) or (":" not in name and f"@{name}" not in _KEYWORDS and not name.startswith("xmlns"))
        return f"@{self.key(namespace, name)}" if plain else f"@:{name}"


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _filled(items: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in items.items() if value not in (None, [], {})}


def _frame(document: EpcisDocument, names: _Names, events: object) -> dict[str, Any]:
    """Return a document's members but its context."""
    header = _header_object(document, names)
    body: dict[str, Any] = {"eventList": events}
    if document.kind is DocumentKind.QUERY:
        about = {"queryName": document.query_name, "subscriptionID": document.subscription_id}
        body = {"queryResults": {**_filled(about), "resultsBody": body}}
    about = {
        "type": document.kind.value if document.kind is DocumentKind.QUERY else DocumentKind.CAPTURE.value,
        "schemaVersion": "2.0",
        "creationDate": None if document.creation_date is None else _time(document.creation_date),
        "sender": document.sender,
        "receiver": document.receiver,
        "instanceIdentifier": document.instance_identifier,
    }
    return {
        **{key: value for key, value in about.items() if value is not None},
        **names.extensions(document.extensions),
        **({"epcisHeader": header} if header else {}),
        "epcisBody": body,
    }


def _header_object(document: EpcisDocument, names: _Names) -> dict[str, Any]:
    vocabularies = [
        {
            "type": vocabulary.type,
            "vocabularyElementList": [_element_object(element, names) for element in vocabulary.elements],
        }
        for vocabulary in document.vocabularies
    ]
    header = names.extensions(document.header_extensions)
    if document.business_header:
        header.update(names.extensions((Extension(SBDH, ROOT_NAME, document.business_header),)))
    if vocabularies:
        header["epcisMasterData"] = {"vocabularyList": vocabularies}
    return header


def _element_object(element: VocabularyElement, names: _Names) -> dict[str, Any]:
    attributes: list[dict[str, Any]] = [{"id": name, "attribute": text} for name, text in element.attributes]
    attributes += [{"id": name, "attribute": names.extensions(items)} for name, items in element.structured]
    found = _filled({"id": element.id, "attributes": attributes, "children": list(element.children)})
    return {**found, **names.extensions(element.extensions)}


def _event_object(event: EpcisEvent, names: _Names) -> dict[str, Any]:
    declaration = event.error_declaration
    persistent = event.persistent_disposition
    found: dict[str, Any] = {
        "type": event.type.value,
        "eventID": event.event_id,
        "eventTime": _time(event.event_time),
        "recordTime": None if event.record_time is None else _time(event.record_time),
        "eventTimeZoneOffset": event.event_time_zone_offset,
        "errorDeclaration": declaration
        and {
            **_filled(
                {
                    "declarationTime": _time(declaration.declaration_time),
                    "reason": declaration.reason,
                    "correctiveEventIDs": list(declaration.corrective_event_ids),
                }
            ),
            **names.extensions(declaration.extensions),
        },
        "certificationInfo": list(event.certification_info),
        "epcList": list(event.epc_list),
        "quantityList": _quantities(event.quantity_list),
        "parentID": event.parent_id,
        "childEPCs": list(event.child_epcs),
        "childQuantityList": _quantities(event.child_quantity_list),
        "inputEPCList": list(event.input_epc_list),
        "inputQuantityList": _quantities(event.input_quantity_list),
        "outputEPCList": list(event.output_epc_list),
        "outputQuantityList": _quantities(event.output_quantity_list),
        "action": None if event.action is None else event.action.value,
        "transformationID": event.transformation_id,
        "bizStep": event.biz_step,
        "disposition": event.disposition,
        "readPoint": event.read_point and {"id": event.read_point.id, **names.extensions(event.read_point.extensions)},
        "bizLocation": event.biz_location
        and {"id": event.biz_location.id, **names.extensions(event.biz_location.extensions)},
        "bizTransactionList": [
            _filled({"type": item.type, "bizTransaction": item.id}) for item in event.biz_transaction_list
        ],
        "sourceList": [{"type": item.type, "source": item.id} for item in event.source_list],
        "destinationList": [{"type": item.type, "destination": item.id} for item in event.destination_list],
        "sensorElementList": [_sensor_object(item, names) for item in event.sensor_element_list],
    }
    filled = _filled(found)
    if persistent is not None:
        # An empty object differs from none, so it is written as it is.
        filled["persistentDisposition"] = _filled({"set": list(persistent.set), "unset": list(persistent.unset)})
    if event.ilmd:
        filled["ilmd"] = names.extensions(event.ilmd)
    return {**filled, **names.extensions(event.extensions)}


def _quantities(elements: Iterable[QuantityElement]) -> list[dict[str, Any]]:
    return [_filled({"epcClass": item.epc_class, "quantity": item.quantity, "uom": item.uom}) for item in elements]


def _sensor_object(element: SensorElement, names: _Names) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if element.metadata is not None:
        found["sensorMetadata"] = _sensor_fields(element.metadata, METADATA_FIELDS, names)
    if element.reports:
        found["sensorReport"] = [_sensor_fields(report, REPORT_FIELDS, names) for report in element.reports]
    return {**found, **names.extensions(element.extensions)}


def _sensor_fields(value: SensorMetadata | SensorReport, fields: Mapping[str, str], names: _Names) -> dict[str, Any]:
    found = {name: getattr(value, ours) for name, ours in fields.items()}
    texts = {name: _time(item) if isinstance(item, datetime) else item for name, item in found.items()}
    return {**{name: item for name, item in texts.items() if item is not None}, **names.extensions(value.extensions)}
