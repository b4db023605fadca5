"""Events of EPCIS XML, written element by element.

Source: EPCIS 1.2, section 9; EPCIS 2.0, section 9 (element order of the schemas).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis import cbv
from medtrail.epcis.build import METADATA_FIELDS, REPORT_FIELDS
from medtrail.epcis.json_in import TEXT
from medtrail.epcis.model import (
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Extension,
    Place,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
    SourceDest,
)
from medtrail.epcis.xml_elements import PRESERVE, TYPE_OF, XSI
from medtrail.errors import MalformedError


def check_speakable(event: EpcisEvent, field: str) -> None:
    """Refuse an event that version 1.2 cannot say (NOT_IN_VERSION)."""
    for name, value in (
        ("sensorElementList", event.sensor_element_list),
        ("persistentDisposition", event.persistent_disposition),
        ("certificationInfo", event.certification_info),
        ("type", event.type is EventType.ASSOCIATION),
    ):
        if value:
            message = "cannot be said in EPCIS 1.2: write version 2.0"
            raise MalformedError(message, code="NOT_IN_VERSION", field=f"{field}.{name}")


def time_text(moment: datetime) -> str:
    """Return a moment as xsd:dateTime in UTC."""
    return moment.isoformat().replace("+00:00", "Z")


def add(parent: Element, name: str, text: str | None = None, **attributes: str) -> Element:
    """Add an element and return it."""
    element = etree.SubElement(parent, name, dict(attributes))
    element.text = text
    return element


def add_optional(parent: Element, name: str, text: str | None) -> None:
    """Add an element where there is a text for it."""
    if text is not None:
        add(parent, name, text)


class EventWriter:
    """Writes events of one version; in 1.2, later fields go into an ``extension`` element."""

    def __init__(self, version: str) -> None:
        self._old = version == "1.2"

    def event(self, body: Element, event: EpcisEvent) -> None:
        """Add an event to an EventList."""
        parent = body
        if self._old and event.type is EventType.TRANSFORMATION:
            parent = add(body, "extension")
        element = add(parent, event.type.value)
        add(element, "eventTime", time_text(event.event_time))
        add_optional(element, "recordTime", None if event.record_time is None else time_text(event.record_time))
        add(element, "eventTimeZoneOffset", event.event_time_zone_offset)
        if event.event_id is not None or event.error_declaration is not None:
            base = add(element, "baseExtension") if self._old else element
            add_optional(base, "eventID", event.event_id)
            _declaration(base, event.error_declaration)
        for text in event.certification_info:
            add(element, "certificationInfo", text)
        self._subjects(element, event)
        self._business(element, event)
        for extension in event.extensions:
            add_extension(element, extension)

    def _subjects(self, element: Element, event: EpcisEvent) -> None:
        if event.type is EventType.TRANSACTION:
            _transactions(element, event)
        add_optional(element, "parentID", event.parent_id)
        required = event.type in {EventType.OBJECT, EventType.TRANSACTION}
        _epcs(element, "epcList", event.epc_list, always=required)
        _epcs(element, "childEPCs", event.child_epcs, always=event.type is EventType.AGGREGATION)
        _epcs(element, "inputEPCList", event.input_epc_list)
        _quantities(element, "inputQuantityList", event.input_quantity_list)
        _epcs(element, "outputEPCList", event.output_epc_list)
        _quantities(element, "outputQuantityList", event.output_quantity_list)
        if event.action is not None:
            add(element, "action", event.action.value)
        add_optional(element, "transformationID", event.transformation_id)

    def _business(self, element: Element, event: EpcisEvent) -> None:
        add_optional(element, "bizStep", event.biz_step and cbv.BIZ_STEPS.urn(event.biz_step))
        add_optional(element, "disposition", event.disposition and cbv.DISPOSITIONS.urn(event.disposition))
        _place(element, "readPoint", event.read_point)
        _place(element, "bizLocation", event.biz_location)
        if event.type is not EventType.TRANSACTION:
            _transactions(element, event)
        later = element
        has_later = event.quantity_list or event.child_quantity_list or event.source_list or event.destination_list
        if self._old and event.type is not EventType.TRANSFORMATION and (has_later or event.ilmd):
            later = add(element, "extension")
        _quantities(later, "quantityList", event.quantity_list)
        _quantities(later, "childQuantityList", event.child_quantity_list)
        _source_dests(later, "source", event.source_list)
        _source_dests(later, "destination", event.destination_list)
        if event.sensor_element_list:
            sensors = add(later, "sensorElementList")
            for item in event.sensor_element_list:
                _sensor(sensors, item)
        if event.persistent_disposition is not None:
            persistent = add(later, "persistentDisposition")
            for word in event.persistent_disposition.unset:
                add(persistent, "unset", cbv.DISPOSITIONS.urn(word))
            for word in event.persistent_disposition.set:
                add(persistent, "set", cbv.DISPOSITIONS.urn(word))
        if event.ilmd:
            ilmd = add(later, "ilmd")
            for extension in event.ilmd:
                add_extension(ilmd, extension)


def _declaration(parent: Element, declaration: ErrorDeclaration | None) -> None:
    if declaration is None:
        return
    element = add(parent, "errorDeclaration")
    add(element, "declarationTime", time_text(declaration.declaration_time))
    add_optional(element, "reason", declaration.reason and cbv.ERROR_REASONS.urn(declaration.reason))
    if declaration.corrective_event_ids:
        corrections = add(element, "correctiveEventIDs")
        for text in declaration.corrective_event_ids:
            add(corrections, "correctiveEventID", text)
    for extension in declaration.extensions:
        add_extension(element, extension)


def _transactions(element: Element, event: EpcisEvent) -> None:
    if event.biz_transaction_list:
        transactions = add(element, "bizTransactionList")
        for item in event.biz_transaction_list:
            found = add(transactions, "bizTransaction", item.id)
            if item.type is not None:
                found.set("type", cbv.BIZ_TRANSACTION_TYPES.urn(item.type))


def _epcs(element: Element, name: str, epcs: Iterable[str], *, always: bool = False) -> None:
    found = tuple(epcs)
    if found or always:
        parent = add(element, name)
        for epc in found:
            add(parent, "epc", epc)


def _quantities(element: Element, name: str, elements: tuple[QuantityElement, ...]) -> None:
    if elements:
        parent = add(element, name)
        for item in elements:
            quantity = add(parent, "quantityElement")
            add(quantity, "epcClass", item.epc_class)
            add_optional(quantity, "quantity", None if item.quantity is None else _number(item.quantity))
            add_optional(quantity, "uom", item.uom)


def _place(element: Element, name: str, place: Place | None) -> None:
    if place is not None:
        found = add(element, name)
        add(found, "id", place.id)
        for extension in place.extensions:
            add_extension(found, extension)


def _source_dests(element: Element, name: str, items: tuple[SourceDest, ...]) -> None:
    if items:
        parent = add(element, f"{name}List")
        for item in items:
            add(parent, name, item.id, type=cbv.SOURCE_DEST_TYPES.urn(item.type))


def _sensor(parent: Element, sensor: SensorElement) -> None:
    element = add(parent, "sensorElement")
    if sensor.metadata is not None:
        _sensor_fields(add(element, "sensorMetadata"), sensor.metadata, METADATA_FIELDS)
    for report in sensor.reports:
        _sensor_fields(add(element, "sensorReport"), report, REPORT_FIELDS)
    for extension in sensor.extensions:
        add_extension(element, extension)


_REPORT_WORDS = {"type": cbv.SENSOR_TYPES, "exception": cbv.SENSOR_TYPES, "component": cbv.COMPONENTS}


def _sensor_fields(element: Element, value: SensorMetadata | SensorReport, fields: Mapping[str, str]) -> None:
    for name, ours in fields.items():
        found = getattr(value, ours)
        if found is not None:
            element.set(name, _sensor_text(ours, found))
    for extension in value.extensions:
        if isinstance(extension.value, str) and not extension.attributes and extension.namespace:
            element.set(f"{{{extension.namespace}}}{extension.name}", extension.value)
        else:
            add_extension(element, extension)


def _sensor_text(ours: str, found: object) -> str:
    if isinstance(found, datetime):
        return time_text(found)
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, Decimal):
        return _number(found)
    words = _REPORT_WORDS.get(ours)
    return str(found) if words is None else words.web(str(found))


def add_extension(parent: Element, extension: Extension) -> None:
    """Add an extension with all in it."""
    if extension.name == TEXT and not extension.namespace:
        _append_text(parent, _text_of(extension.value))
        return
    name = f"{{{extension.namespace}}}{extension.name}" if extension.namespace else extension.name
    element = etree.SubElement(parent, name)
    for namespace, key, text in extension.attributes:
        element.set(f"{{{namespace}}}{key}" if namespace else key, text)
    if isinstance(extension.value, tuple):
        for child in extension.value:
            add_extension(element, child)
        return
    text = _text_of(extension.value)
    element.text = text or None
    typed = TYPE_OF.get(type(extension.value))
    if typed is not None:
        element.set(f"{{{XSI}}}{typed[0]}", typed[1])
    if text != text.strip():
        namespace, key, preserve = PRESERVE
        element.set(f"{{{namespace}}}{key}", preserve)


def _append_text(parent: Element, text: str) -> None:
    """Add text after an element's last child, or at its beginning."""
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return _number(value)
    return "" if value is None else str(value)


def _number(value: Decimal) -> str:
    """Return a number as xsd:decimal spells it, digit by digit; it knows no exponents."""
    return format(value, "f")
