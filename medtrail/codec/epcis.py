"""EPCIS events between message and value."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from medtrail.api.event.v1 import epcis_pb2
from medtrail.codec.scalars import from_decimal, from_timestamp, optional_time, required_time, to_decimal, to_timestamp
from medtrail.epcis.model import (
    Action,
    BizTransaction,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Extension,
    PersistentDisposition,
    Place,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
    SourceDest,
)
from medtrail.errors import MalformedError

MAX_EXTENSION_DEPTH = 16

_TYPE_TO_MESSAGE = {
    EventType.OBJECT: epcis_pb2.EVENT_TYPE_OBJECT,
    EventType.AGGREGATION: epcis_pb2.EVENT_TYPE_AGGREGATION,
    EventType.TRANSACTION: epcis_pb2.EVENT_TYPE_TRANSACTION,
    EventType.TRANSFORMATION: epcis_pb2.EVENT_TYPE_TRANSFORMATION,
    EventType.ASSOCIATION: epcis_pb2.EVENT_TYPE_ASSOCIATION,
}
_TYPE_FROM_MESSAGE = {number: value for value, number in _TYPE_TO_MESSAGE.items()}
_ACTION_TO_MESSAGE = {
    None: epcis_pb2.ACTION_UNSPECIFIED,
    Action.ADD: epcis_pb2.ACTION_ADD,
    Action.OBSERVE: epcis_pb2.ACTION_OBSERVE,
    Action.DELETE: epcis_pb2.ACTION_DELETE,
}
_ACTION_FROM_MESSAGE = {number: value for value, number in _ACTION_TO_MESSAGE.items()}

# Fields that are plain text in the value and in the message, absent standing for empty.
_EVENT_TEXTS = ("event_id", "parent_id", "transformation_id", "biz_step", "disposition")
_METADATA_TEXTS = ("device_id", "device_metadata", "raw_data", "data_processing_method", "biz_rules")
_REPORT_TEXTS = (
    "biz_rules",
    "type", "exception", "device_id", "device_metadata", "raw_data", "data_processing_method", "microorganism",
    "chemical_substance", "component", "uom", "coordinate_reference_system",
)  # fmt: skip
_REPORT_NUMBERS = ("value", "min_value", "max_value", "mean_value", "s_dev", "perc_rank", "perc_value")
_REPORT_OPTIONALS = ("string_value", "boolean_value", "hex_binary_value", "uri_value")
# (field of the value, field of the message): lists of URIs, and lists of quantities.
_EVENT_LISTS = (
    ("certification_info", "certification_infos"),
    ("epc_list", "epcs"),
    ("child_epcs", "child_epcs"),
    ("input_epc_list", "input_epcs"),
    ("output_epc_list", "output_epcs"),
)
_EVENT_QUANTITIES = (
    ("quantity_list", "quantities"),
    ("child_quantity_list", "child_quantities"),
    ("input_quantity_list", "input_quantities"),
    ("output_quantity_list", "output_quantities"),
)


def epcis_to_message(event: EpcisEvent) -> epcis_pb2.EpcisEvent:
    """Return the message of an EPCIS event."""
    message = epcis_pb2.EpcisEvent(
        type=_TYPE_TO_MESSAGE[event.type],
        event_time=to_timestamp(event.event_time),
        event_time_zone_offset=event.event_time_zone_offset,
        action=_ACTION_TO_MESSAGE[event.action],
        biz_transactions=[
            epcis_pb2.BizTransaction(id=item.id, type=item.type or "") for item in event.biz_transaction_list
        ],
        sources=[epcis_pb2.SourceDest(type=item.type, id=item.id) for item in event.source_list],
        destinations=[epcis_pb2.SourceDest(type=item.type, id=item.id) for item in event.destination_list],
        sensor_elements=[_sensor_to_message(item) for item in event.sensor_element_list],
        ilmd=_extensions_to_message(event.ilmd),
        extensions=_extensions_to_message(event.extensions),
    )
    _copy_texts(event, message, _EVENT_TEXTS)
    for ours, theirs in _EVENT_LISTS:
        getattr(message, theirs).extend(getattr(event, ours))
    for ours, theirs in _EVENT_QUANTITIES:
        getattr(message, theirs).extend(_quantity_to_message(item) for item in getattr(event, ours))
    if event.record_time is not None:
        message.record_time.CopyFrom(to_timestamp(event.record_time))
    if event.error_declaration is not None:
        message.error_declaration.CopyFrom(_declaration_to_message(event.error_declaration))
    if event.persistent_disposition is not None:
        message.persistent_disposition.CopyFrom(
            epcis_pb2.PersistentDisposition(
                set=event.persistent_disposition.set, unset=event.persistent_disposition.unset
            )
        )
    if event.read_point is not None:
        message.read_point.CopyFrom(_place_to_message(event.read_point))
    if event.biz_location is not None:
        message.biz_location.CopyFrom(_place_to_message(event.biz_location))
    return message


def epcis_from_message(message: epcis_pb2.EpcisEvent, *, field: str = "event") -> EpcisEvent:
    """Return the EPCIS event of a message.

    Form only: :func:`medtrail.epcis.validation.check_event` says whether it is a sound event.

    Args:
        message: The message.
        field: Path of the message, for errors.

    Raises:
        MalformedError: A type, action, time or number cannot be read, or extensions are nested deeper than 16.
    """
    kind = _TYPE_FROM_MESSAGE.get(message.type)
    if kind is None or message.action not in _ACTION_FROM_MESSAGE:
        text = f"unknown event type {message.type} or action {message.action}"
        raise MalformedError(text, code="EVENT_TYPE_UNKNOWN", field=f"{field}.type")
    values: dict[str, Any] = {"action": None, "event_time_zone_offset": ""}
    # An event fills a third of the fields, and only those are read. The stubs cannot tell their types.
    for descriptor, value in message.ListFields():
        plain = _PLAIN.get(descriptor)
        if plain is not None:
            values[plain[0]] = plain[1](value)
        else:
            ours, name, read = _NESTED[descriptor]
            values[ours] = read(value, f"{field}.{name}")
    if "event_time" not in values:
        raise MalformedError("is required", code="FIELD_MISSING", field=f"{field}.event_time")
    return EpcisEvent(**values)


def _copy_texts(value: object, message: object, names: Iterable[str]) -> None:
    for name in names:
        text = getattr(value, name)
        if text is not None:
            setattr(message, name, text)


def _quantity_to_message(element: QuantityElement) -> epcis_pb2.QuantityElement:
    return epcis_pb2.QuantityElement(
        epc_class=element.epc_class, quantity=from_decimal(element.quantity), uom=element.uom or ""
    )


def _quantities_from_message(messages: Iterable[epcis_pb2.QuantityElement], field: str) -> tuple[QuantityElement, ...]:
    return tuple(
        QuantityElement(
            item.epc_class, to_decimal(item.quantity, field=f"{field}[{number}].quantity"), item.uom or None
        )
        for number, item in enumerate(messages)
    )


def _place_to_message(place: Place) -> epcis_pb2.Place:
    return epcis_pb2.Place(id=place.id, extensions=_extensions_to_message(place.extensions))


def _place_from_message(place: epcis_pb2.Place, field: str) -> Place:
    extensions = place.extensions
    return Place(place.id, _extensions_from_message(extensions, f"{field}.extensions") if extensions else ())


def _declaration_to_message(declaration: ErrorDeclaration) -> epcis_pb2.ErrorDeclaration:
    return epcis_pb2.ErrorDeclaration(
        declaration_time=to_timestamp(declaration.declaration_time),
        reason=declaration.reason or "",
        corrective_event_ids=declaration.corrective_event_ids,
        extensions=_extensions_to_message(declaration.extensions),
    )


def _declaration_from_message(message: epcis_pb2.ErrorDeclaration, field: str) -> ErrorDeclaration:
    return ErrorDeclaration(
        declaration_time=required_time(message, "declaration_time", field=f"{field}.declaration_time"),
        reason=message.reason or None,
        corrective_event_ids=tuple(message.corrective_event_ids),
        extensions=_extensions_from_message(message.extensions, f"{field}.extensions"),
    )


def _sensor_to_message(element: SensorElement) -> epcis_pb2.SensorElement:
    message = epcis_pb2.SensorElement(
        reports=[_report_to_message(report) for report in element.reports],
        extensions=_extensions_to_message(element.extensions),
    )
    if element.metadata is not None:
        found = element.metadata
        message.metadata.extensions.extend(_extensions_to_message(found.extensions))
        message.metadata.SetInParent()
        _copy_texts(found, message.metadata, _METADATA_TEXTS)
        for name in ("time", "start_time", "end_time"):
            moment = getattr(found, name)
            if moment is not None:
                getattr(message.metadata, name).CopyFrom(to_timestamp(moment))
    return message


def _sensor_from_message(message: epcis_pb2.SensorElement, field: str) -> SensorElement:
    metadata = None
    if message.HasField("metadata"):
        found = message.metadata
        metadata = SensorMetadata(
            time=optional_time(found, "time", field=f"{field}.metadata.time"),
            start_time=optional_time(found, "start_time", field=f"{field}.metadata.start_time"),
            end_time=optional_time(found, "end_time", field=f"{field}.metadata.end_time"),
            extensions=_extensions_from_message(found.extensions, f"{field}.metadata.extensions"),
            **{name: getattr(found, name) or None for name in _METADATA_TEXTS},
        )
    reports = tuple(
        _report_from_message(item, f"{field}.reports[{number}]") for number, item in enumerate(message.reports)
    )
    return SensorElement(metadata, reports, _extensions_from_message(message.extensions, f"{field}.extensions"))


def _report_to_message(report: SensorReport) -> epcis_pb2.SensorReport:
    message = epcis_pb2.SensorReport(extensions=_extensions_to_message(report.extensions))
    _copy_texts(report, message, (*_REPORT_TEXTS, *_REPORT_OPTIONALS))
    for name in _REPORT_NUMBERS:
        setattr(message, name, from_decimal(getattr(report, name)))
    if report.time is not None:
        message.time.CopyFrom(to_timestamp(report.time))
    return message


def _report_from_message(message: epcis_pb2.SensorReport, field: str) -> SensorReport:
    texts: dict[str, Any] = {name: getattr(message, name) or None for name in _REPORT_TEXTS}
    texts |= {name: to_decimal(getattr(message, name), field=f"{field}.{name}") for name in _REPORT_NUMBERS}
    present = {descriptor.name for descriptor, _ in message.ListFields()}
    texts |= {name: getattr(message, name) for name in _REPORT_OPTIONALS if name in present}
    return SensorReport(
        time=optional_time(message, "time", field=f"{field}.time"),
        extensions=_extensions_from_message(message.extensions, f"{field}.extensions"),
        **texts,
    )


def _extensions_to_message(extensions: Iterable[Extension]) -> list[epcis_pb2.Extension]:
    return [_extension_to_message(item) for item in extensions]


def _extension_to_message(extension: Extension) -> epcis_pb2.Extension:
    message = epcis_pb2.Extension(
        namespace=extension.namespace,
        name=extension.name,
        attributes=[
            epcis_pb2.ExtensionAttribute(namespace=namespace, name=name, text=text)
            for namespace, name, text in extension.attributes
        ],
    )
    value = extension.value
    if isinstance(value, str):
        message.text = value
    elif isinstance(value, bool):
        message.boolean = value
    elif isinstance(value, Decimal):
        message.number = str(value)
    elif isinstance(value, tuple):
        message.children.SetInParent()
        message.children.elements.extend(_extensions_to_message(value))
    return message


def _extensions_from_message(
    messages: Sequence[epcis_pb2.Extension], field: str, depth: int = 1
) -> tuple[Extension, ...]:
    if depth > MAX_EXTENSION_DEPTH:
        text = f"extensions are nested deeper than {MAX_EXTENSION_DEPTH}"
        raise MalformedError(text, code="EXTENSION_DEPTH", field=field)
    if not messages:
        return ()
    return tuple(_extension_from_message(item, f"{field}[{number}]", depth) for number, item in enumerate(messages))


def _extension_from_message(message: epcis_pb2.Extension, field: str, depth: int) -> Extension:
    kind = message.WhichOneof("value")
    value: str | Decimal | bool | tuple[Extension, ...] | None = None
    if kind == "text":
        value = message.text
    elif kind == "boolean":
        value = message.boolean
    elif kind == "number":
        value = to_decimal(message.number or "x", field=f"{field}.number")
    elif kind is not None:
        value = _extensions_from_message(message.children.elements, field, depth + 1)
    attributes = tuple((item.namespace, item.name, item.text) for item in message.attributes)
    return Extension(message.namespace, message.name, value, attributes)


def _dispositions_from_message(message: epcis_pb2.PersistentDisposition, _field: str) -> PersistentDisposition:
    return PersistentDisposition(tuple(message.set), tuple(message.unset))


def _transactions_from_message(messages: Iterable[epcis_pb2.BizTransaction], _field: str) -> tuple[BizTransaction, ...]:
    return tuple(BizTransaction(item.id, item.type or None) for item in messages)


def _parties_from_message(messages: Iterable[epcis_pb2.SourceDest], _field: str) -> tuple[SourceDest, ...]:
    return tuple(SourceDest(item.type, item.id) for item in messages)


def _sensors_from_message(messages: Iterable[epcis_pb2.SensorElement], field: str) -> tuple[SensorElement, ...]:
    return tuple(_sensor_from_message(item, f"{field}[{number}]") for number, item in enumerate(messages))


def _time_from_message(stamp: Timestamp, field: str) -> datetime:
    return from_timestamp(stamp, field=field)


_FIELDS = epcis_pb2.EpcisEvent.DESCRIPTOR.fields_by_name

# By field of the message: field of the value, and what makes the one from the other. Only fields that are there come
# here, so that a text is never empty.
_PLAIN: dict[FieldDescriptor, tuple[str, Callable[[Any], object]]] = {
    _FIELDS["type"]: ("type", _TYPE_FROM_MESSAGE.__getitem__),
    _FIELDS["action"]: ("action", _ACTION_FROM_MESSAGE.__getitem__),
    **{_FIELDS[name]: (name, str) for name in ("event_time_zone_offset", *_EVENT_TEXTS)},
    **{_FIELDS[theirs]: (ours, tuple) for ours, theirs in _EVENT_LISTS},
}
_NESTED_READERS: tuple[tuple[str, str, Callable[[Any, str], object]], ...] = (
    ("event_time", "event_time", _time_from_message),
    ("record_time", "record_time", _time_from_message),
    ("error_declaration", "error_declaration", _declaration_from_message),
    ("persistent_disposition", "persistent_disposition", _dispositions_from_message),
    ("read_point", "read_point", _place_from_message),
    ("biz_location", "biz_location", _place_from_message),
    ("biz_transaction_list", "biz_transactions", _transactions_from_message),
    ("source_list", "sources", _parties_from_message),
    ("destination_list", "destinations", _parties_from_message),
    ("sensor_element_list", "sensor_elements", _sensors_from_message),
    ("ilmd", "ilmd", _extensions_from_message),
    ("extensions", "extensions", _extensions_from_message),
    *((ours, theirs, _quantities_from_message) for ours, theirs in _EVENT_QUANTITIES),
)
_NESTED = {_FIELDS[theirs]: (ours, theirs, read) for ours, theirs, read in _NESTED_READERS}
