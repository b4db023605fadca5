"""EPCIS 2.0 JSON-LD out: one stable form for one document.

Source: EPCIS 2.0, section 10 (JSON and JSON-LD bindings).
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from medtrail.epcis.build import METADATA_FIELDS, REPORT_FIELDS
from medtrail.epcis.model import (
    EpcisDocument,
    EpcisEvent,
    Extension,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
)
from medtrail.epcis.namespaces import BUILT_IN

CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"


def write_json(document: EpcisDocument) -> bytes:
    """Return the document as EPCIS 2.0 JSON-LD, indented, in UTF-8."""
    names = _Names(document.namespaces)
    events = [_event_object(event, names) for event in document.events]
    header = _header_object(document, names)
    body = {
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": None if document.creation_date is None else _time(document.creation_date),
        "sender": document.sender,
        "receiver": document.receiver,
        "instanceIdentifier": document.instance_identifier,
        **names.extensions(document.extensions),
        "epcisHeader": header or None,
        "epcisBody": {"eventList": events},
    }
    found = {"@context": names.context(), **{key: value for key, value in body.items() if value is not None}}
    return json.dumps(found, indent=2, ensure_ascii=False, default=_number).encode() + b"\n"


def event_to_json(event: EpcisEvent) -> dict[str, Any]:
    """Return one event as JSON-LD object with its own ``@context``; numbers are int or float."""
    names = _Names(())
    found = _event_object(event, names)
    text = json.dumps({"@context": names.context(), **found}, default=_number)
    parsed: dict[str, Any] = json.loads(text)
    return parsed


class _Names:
    """Prefixes for the namespaces that a document uses; new ones are made up as they come."""

    def __init__(self, namespaces: Iterable[tuple[str, str]]) -> None:
        self._prefix_of = {uri: prefix for prefix, uri in BUILT_IN.items()}
        self._custom: dict[str, str] = {}
        for prefix, uri in namespaces:
            self._custom[prefix] = uri
            self._prefix_of.setdefault(uri, prefix)

    def key(self, namespace: str, name: str) -> str:
        """Return a key for a namespaced name."""
        if not namespace:
            return name
        prefix = self._prefix_of.get(namespace)
        if prefix is None:
            number = len(self._custom) + 1
            while f"ext{number}" in self._custom:
                number += 1
            prefix = f"ext{number}"
            self._custom[prefix] = namespace
            self._prefix_of[namespace] = prefix
        return f"{prefix}:{name}"

    def context(self) -> list[Any]:
        """Return the ``@context``."""
        return [CONTEXT, *({prefix: uri} for prefix, uri in self._custom.items())]

    def extensions(self, extensions: Iterable[Extension]) -> dict[str, Any]:
        """Return extensions as members of a JSON object; repeated names become lists."""
        grouped: dict[str, list[Any]] = {}
        for extension in extensions:
            grouped.setdefault(self.key(extension.namespace, extension.name), []).append(self._value(extension))
        return {key: values[0] if len(values) == 1 else values for key, values in grouped.items()}

    def _value(self, extension: Extension) -> object:
        value = extension.value
        attributes = {f"@{self.key(namespace, name)}": text for namespace, name, text in extension.attributes}
        if isinstance(value, tuple):
            return {**attributes, **self.extensions(value)}
        return {**attributes, "#text": value} if attributes else value


def _number(value: Decimal) -> int | float:
    """Return a decimal as JSON number; the only values that json does not know by itself."""
    return int(value) if value == value.to_integral_value() and "E" not in str(value) else float(value)


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _filled(items: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in items.items() if value not in (None, [], {})}


def _header_object(document: EpcisDocument, names: _Names) -> dict[str, Any]:
    vocabularies = [
        {
            "type": vocabulary.type,
            "vocabularyElementList": [
                _filled(
                    {
                        "id": element.id,
                        "attributes": [{"id": name, "attribute": text} for name, text in element.attributes],
                        "children": list(element.children),
                    }
                )
                for element in vocabulary.elements
            ],
        }
        for vocabulary in document.vocabularies
    ]
    header = names.extensions(document.header_extensions)
    if vocabularies:
        header["epcisMasterData"] = {"vocabularyList": vocabularies}
    return header


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
