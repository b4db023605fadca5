"""The CBV 2.0 event hash: one name for one event, whatever its spelling.

The pre-hash string lists the fields of an event in a fixed order as ``name=value`` without separators. Values are made
canonical first: times in UTC with milliseconds, CBV words as web vocabulary URIs, GS1 identifiers as constrained
canonical Digital Links, numbers without redundant digits. Lists are sorted. recordTime, eventID and errorDeclaration
take no part, so that a declaration has the hash of the event that it declares.

Source: CBV 2.0, section 8.9.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from medtrail.epcis import cbv
from medtrail.epcis.build import decimal_of
from medtrail.epcis.model import (
    BizTransaction,
    EpcisEvent,
    Extension,
    Place,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
    SourceDest,
)
from medtrail.errors import MalformedError
from medtrail.gs1 import parse_epc

_COMMENT_NAMESPACES = frozenset({"http://www.w3.org/2000/01/rdf-schema#"})
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


Name = tuple[str, str]


def event_hash(event: EpcisEvent, *, ignored: frozenset[Name] = frozenset()) -> str:
    """Return an event's hash as URI: ``ni:///sha-256;<64 hexadecimal digits>?ver=CBV2.0``.

    Args:
        event: The event.
        ignored: (namespace, name) of top-level extensions that take no part, as a document's ``ignoreFields`` lists
            them: what a repository added is not what the producer said.
    """
    if ignored:
        event = replace(
            event, extensions=tuple(item for item in event.extensions if (item.namespace, item.name) not in ignored)
        )
    digest = hashlib.sha256(prehash(event).encode()).hexdigest()
    return f"ni:///sha-256;{digest}?ver=CBV2.0"


def prehash(event: EpcisEvent) -> str:
    """Return the string that is hashed."""
    parts = [
        f"eventType={event.type}eventTime={format_time(event.event_time)}",
        f"eventTimeZoneOffset={event.event_time_zone_offset}",
        *sorted(f"certificationInfo={_identifier(text)}" for text in event.certification_info),
        _value("parentID", event.parent_id, _identifier),
        _epcs("epcList", event.epc_list),
        _epcs("inputEPCList", event.input_epc_list),
        _epcs("childEPCs", event.child_epcs),
        _quantities("quantityList", event.quantity_list),
        _quantities("childQuantityList", event.child_quantity_list),
        _quantities("inputQuantityList", event.input_quantity_list),
        _epcs("outputEPCList", event.output_epc_list),
        _quantities("outputQuantityList", event.output_quantity_list),
        _value("action", event.action, str),
        _value("transformationID", event.transformation_id, _identifier),
        _value("bizStep", event.biz_step, cbv.BIZ_STEPS.web),
        _value("disposition", event.disposition, cbv.DISPOSITIONS.web),
        _persistent_disposition(event),
        _place("readPoint", event.read_point),
        _place("bizLocation", event.biz_location),
        _transactions(event.biz_transaction_list),
        _source_dests("destination", event.destination_list),
        _source_dests("source", event.source_list),
        _sensors(event.sensor_element_list),
        _extensions_of("ilmd", event.ilmd),
        _extensions(event.extensions),
    ]
    return "".join(parts)


def format_time(moment: datetime) -> str:
    """Return a moment in UTC with milliseconds, rounded half to even: ``2020-03-04T10:00:30.000Z``."""
    try:
        rest = round(moment.microsecond, -3) - moment.microsecond
        rounded = moment + timedelta(microseconds=rest) if rest else moment
    except OverflowError:
        # The last half millisecond of the year 9999 has nowhere to go.
        rounded = moment
    return rounded.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _identifier(text: str) -> str:
    # Packs of one product differ in their serials alone: what comes before is worked out once.
    match = _PACK.fullmatch(text)
    if match is not None and (start := _start_of_pack(match[1] or match[2], urn=match[1] is not None)):
        return start + match[3]
    return _identifier_cached(text) if len(text) <= _CACHED_LENGTH else _identifier_of(text)


_PACK = re.compile(r"(?:urn:epc:id:sgtin:(\d+\.\d+)\.|https?://[^/?#\s]+/01/(\d{14})/21/)([A-Za-z0-9]{1,20})", re.ASCII)
_CACHED_LENGTH = 200


@lru_cache(maxsize=4096)
def _start_of_pack(product: str, *, urn: bool) -> str:
    """Return the Digital Link of a product's packs up to the serial, or "" where it is no product."""
    try:
        key = parse_epc(f"urn:epc:id:sgtin:{product}.1" if urn else f"https://id.gs1.org/01/{product}/21/1")
    except MalformedError:
        return ""
    return key.digital_link[:-1]


def _identifier_of(text: str) -> str:
    try:
        return parse_epc(text).digital_link
    except MalformedError:
        # No GS1 identifier, or one that validation refuses elsewhere: it stands for itself.
        return text


_identifier_cached = lru_cache(maxsize=16_384)(_identifier_of)


def _number(number: Decimal) -> str:
    if number == number.to_integral_value():
        return str(int(number))
    return format(number.normalize(), "f")


def _text(text: str) -> str:
    """Return free text in canonical form: it may hold a number, a CBV URN, or an identifier."""
    text = text.strip()
    for words in (cbv.BIZ_STEPS, cbv.DISPOSITIONS, cbv.BIZ_TRANSACTION_TYPES, cbv.SOURCE_DEST_TYPES):
        if text.startswith(words.urn_prefix):
            return words.web_prefix + text[len(words.urn_prefix) :]
    number = decimal_of(text)
    if number is not None:
        return _number(number)
    return _identifier(text) if ":" in text else text


def _value(name: str, value: str | None, canonical: Callable[[str], str]) -> str:
    return "" if value is None else f"{name}={canonical(value)}"


def _epcs(name: str, epcs: tuple[str, ...]) -> str:
    return name + "".join(sorted(f"epc={_identifier(epc)}" for epc in epcs)) if epcs else ""


def _quantities(name: str, elements: tuple[QuantityElement, ...]) -> str:
    if not elements:
        return ""
    return name + "".join(
        sorted(
            f"quantityElementepcClass={_identifier(element.epc_class)}"
            + ("" if element.quantity is None else f"quantity={_number(element.quantity)}")
            + _value("uom", element.uom, str)
            for element in elements
        )
    )


def _persistent_disposition(event: EpcisEvent) -> str:
    found = event.persistent_disposition
    if found is None:
        return ""
    return (
        "persistentDisposition"
        + "".join(sorted(f"set={cbv.DISPOSITIONS.web(word)}" for word in found.set))
        + "".join(sorted(f"unset={cbv.DISPOSITIONS.web(word)}" for word in found.unset))
    )


def _place(name: str, place: Place | None) -> str:
    return "" if place is None else f"{name}id={_identifier(place.id)}{_extensions(place.extensions)}"


def _transactions(transactions: tuple[BizTransaction, ...]) -> str:
    if not transactions:
        return ""
    return "bizTransactionList" + "".join(
        sorted(
            _value("type", item.type, cbv.BIZ_TRANSACTION_TYPES.web) + f"bizTransaction={_identifier(item.id)}"
            for item in transactions
        )
    )


def _source_dests(name: str, items: tuple[SourceDest, ...]) -> str:
    if not items:
        return ""
    return f"{name}List" + "".join(
        sorted(f"type={cbv.SOURCE_DEST_TYPES.web(item.type)}{name}={_identifier(item.id)}" for item in items)
    )


def _sensors(elements: tuple[SensorElement, ...]) -> str:
    return "sensorElementList" + "".join(sorted(map(_sensor, elements))) if elements else ""


def _sensor(element: SensorElement) -> str:
    metadata = "" if element.metadata is None else _metadata(element.metadata)
    return "sensorElement" + metadata + "".join(sorted(map(_report, element.reports))) + _extensions(element.extensions)


def _metadata(metadata: SensorMetadata) -> str:
    return "sensorMetadata" + "".join(
        (
            _moment("time", metadata.time),
            _moment("startTime", metadata.start_time),
            _moment("endTime", metadata.end_time),
            _value("deviceID", metadata.device_id, _identifier),
            _value("deviceMetadata", metadata.device_metadata, _identifier),
            _value("rawData", metadata.raw_data, _identifier),
            _value("dataProcessingMethod", metadata.data_processing_method, _identifier),
            _value("bizRules", metadata.biz_rules, _identifier),
            _extensions(metadata.extensions),
        )
    )


def _report(report: SensorReport) -> str:
    boolean = report.boolean_value
    return "sensorReport" + "".join(
        (
            _value("type", report.type, cbv.SENSOR_TYPES.web),
            _value("exception", report.exception, cbv.SENSOR_TYPES.web),
            _value("deviceID", report.device_id, _identifier),
            _value("deviceMetadata", report.device_metadata, _identifier),
            _value("rawData", report.raw_data, _identifier),
            _value("dataProcessingMethod", report.data_processing_method, _identifier),
            _value("bizRules", report.biz_rules, _identifier),
            _moment("time", report.time),
            _value("microorganism", report.microorganism, _identifier),
            _value("chemicalSubstance", report.chemical_substance, _identifier),
            _measure("value", report.value),
            _value("component", report.component, cbv.COMPONENTS.web),
            _value("stringValue", report.string_value, _text),
            "" if boolean is None else f"booleanValue={str(boolean).lower()}",
            _value("hexBinaryValue", report.hex_binary_value, str),
            _value("uriValue", report.uri_value, _identifier),
            _measure("minValue", report.min_value),
            _measure("maxValue", report.max_value),
            _measure("meanValue", report.mean_value),
            _measure("sDev", report.s_dev),
            _measure("percRank", report.perc_rank),
            _measure("percValue", report.perc_value),
            _value("uom", report.uom, str),
            _value("coordinateReferenceSystem", report.coordinate_reference_system, _identifier),
            _extensions(report.extensions),
        )
    )


def _moment(name: str, moment: datetime | None) -> str:
    return "" if moment is None else f"{name}={format_time(moment)}"


def _measure(name: str, number: Decimal | None) -> str:
    return "" if number is None else f"{name}={_number(number)}"


def _extensions_of(name: str, extensions: tuple[Extension, ...]) -> str:
    text = _extensions(extensions)
    return name + text if text else ""


def _extensions(extensions: Iterable[Extension]) -> str:
    return "".join(sorted(_extension(item) for item in extensions if item.namespace not in _COMMENT_NAMESPACES))


def _extension(extension: Extension) -> str:
    name = f"{{{extension.namespace}}}{extension.name}" if extension.namespace else extension.name
    attributes = [
        f"{{{namespace}}}{name}={_text(text)}" if namespace else f"{name}={_text(text)}"
        for namespace, name, text in extension.attributes
        if namespace != _XSI
    ]
    value = extension.value
    if isinstance(value, tuple):
        children = [_extension(item) for item in value if item.namespace not in _COMMENT_NAMESPACES]
        return name + "".join(sorted(attributes + children))
    if value is None or value == "":
        text = ""
    elif isinstance(value, bool):
        text = "=" + str(value).lower()
    elif isinstance(value, Decimal):
        text = "=" + _number(value)
    else:
        text = "=" + _text(value)
    return name + text + "".join(sorted(attributes))
