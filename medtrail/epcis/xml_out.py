"""EPCIS XML out, versions 2.0 and 1.2.

Version 1.2 knows no sensor data, persistent dispositions, association events or certification; an event that holds any
of these is refused in that version, since leaving them out would change what was said. CBV words are written as URNs,
which both versions take.

Source: EPCIS 1.2, section 9; EPCIS 2.0, section 9 (XML bindings, element order of the schemas).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import chain, islice

from lxml import etree
from lxml.etree import _Element as Element

from medtrail.epcis import cbv
from medtrail.epcis.build import METADATA_FIELDS, REPORT_FIELDS
from medtrail.epcis.business_header import ROOT_NAME, SBDH, put_together
from medtrail.epcis.json_in import TEXT
from medtrail.epcis.model import (
    DocumentKind,
    EpcisDocument,
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
    VocabularyElement,
)
from medtrail.epcis.namespaces import BUILT_IN, USUAL
from medtrail.epcis.xml_in import PRESERVE, TYPE_OF, XSI
from medtrail.errors import MalformedError

_DOCUMENT_NAMESPACE = {"1.2": "urn:epcglobal:epcis:xsd:1", "2.0": "urn:epcglobal:epcis:xsd:2"}
_QUERY_NAMESPACE = {"1.2": "urn:epcglobal:epcis-query:xsd:1", "2.0": "urn:epcglobal:epcis-query:xsd:2"}


def write_xml(document: EpcisDocument, *, version: str = "2.0") -> bytes:
    """Return the document as EPCIS XML, indented, in UTF-8.

    Args:
        document: The document.
        version: ``2.0`` or ``1.2``.

    Raises:
        MalformedError: An unknown version, or an event that the version cannot say.
    """
    if document.kind is DocumentKind.EVENT and len(document.events) == 1:
        namespace = _namespace_of(document, version)
        body = etree.Element("EventList", nsmap=_nsmap(document, namespace))
        _add_event(body, document.events[0], version=version, number=0)
        element = next(body.iter(document.events[0].type.value))
        _about(element, document, version)
        return _serialised(element)
    return b"".join(write_xml_events(document, (), version=version))


def write_xml_events(head: EpcisDocument, events: Iterable[EpcisEvent], *, version: str = "2.0") -> Iterator[bytes]:
    """Yield a capture or query document of any number of events, in pieces of a hundred events, in UTF-8.

    Args:
        head: The document; its own events come first.
        events: What follows. A namespace that the head does not declare is declared in the event.
        version: ``2.0`` or ``1.2``.

    Raises:
        MalformedError: As :func:`write_xml`.
    """
    namespace = _namespace_of(head, version)
    nsmap = _nsmap(head, namespace)
    root, body = _frame(head, namespace, nsmap, version)
    etree.indent(root)
    depth = sum(1 for _ in body.iterancestors())
    indent = "\n" + "  " * depth
    body.text = f"{indent}  {_HERE}{indent}"
    frame = _serialised(root)
    before, _, after = frame.partition(f"{indent}  {_HERE}{indent}".encode())
    yield before
    count = 0
    everything = chain(head.events, events)
    while batch := list(islice(everything, _BATCH)):
        yield _batch(batch, nsmap=nsmap, depth=depth, version=version, first=count)
        count += len(batch)
    yield (indent.encode() if count else b"") + after


_HERE = "EVENTS"
_BATCH = 100


def _namespace_of(document: EpcisDocument, version: str) -> str:
    known = _QUERY_NAMESPACE if document.kind is DocumentKind.QUERY else _DOCUMENT_NAMESPACE
    namespace = known.get(version)
    if namespace is None:
        message = f"expected version 2.0 or 1.2, got {version[:20]!r}"
        raise MalformedError(message, code="VERSION_UNKNOWN")
    return namespace


def _nsmap(document: EpcisDocument, namespace: str) -> dict[str, str]:
    # Prefixes of the standard's own context mean the same namespace in XML, so that CURIEs and names agree.
    declared = {
        prefix: uri
        for prefix, uri in document.namespaces
        if ":" in uri and prefix.isidentifier() and uri != USUAL["xml"]
    }
    return {"cbvmda": BUILT_IN["cbvmda"], **declared, "epcis": namespace, "xsd": BUILT_IN["xsd"], "xsi": XSI}


def _frame(document: EpcisDocument, namespace: str, nsmap: dict[str, str], version: str) -> tuple[Element, Element]:
    """Return a document without its events, and its list of them."""
    kind = DocumentKind.QUERY if document.kind is DocumentKind.QUERY else DocumentKind.CAPTURE
    root = etree.Element(f"{{{namespace}}}{kind.value}", nsmap=nsmap)
    _about(root, document, version)
    try:
        _header(root, document)
        for extension in document.extensions:
            _extension(root, extension)
    except ValueError as error:
        message = "holds a character that XML cannot carry"
        raise MalformedError(message, code="NOT_IN_XML", field="header") from error
    parent = etree.SubElement(root, "EPCISBody")
    if kind is DocumentKind.QUERY:
        parent = etree.SubElement(parent, f"{{{namespace}}}QueryResults")
        _optional(parent, "queryName", document.query_name)
        _optional(parent, "subscriptionID", document.subscription_id)
        parent = etree.SubElement(parent, "resultsBody")
    return root, etree.SubElement(parent, "EventList")


def _about(root: Element, document: EpcisDocument, version: str) -> None:
    root.set("schemaVersion", version)
    if document.creation_date is not None:
        root.set("creationDate", _time(document.creation_date))


def _batch(events: Sequence[EpcisEvent], *, nsmap: dict[str, str], depth: int, version: str, first: int) -> bytes:
    """Return events as they stand in a document that declares the namespaces, indented."""
    body = etree.Element("EventList", nsmap=nsmap)
    for number, event in enumerate(events, start=first):
        _add_event(body, event, version=version, number=number)
    etree.indent(body, level=depth)
    data: bytes = etree.tostring(body, encoding="UTF-8", xml_declaration=False)
    # What stands between the list's own tags, without the white space before its end.
    return data[data.index(b">") + 1 : data.rindex(b"<")].rstrip()


def _add_event(body: Element, event: EpcisEvent, *, version: str, number: int) -> None:
    if version == "1.2":
        _check_speakable(event, f"events[{number}]")
    try:
        _Writer(version).event(body, event)
    except ValueError as error:
        message = "holds a character that XML cannot carry"
        raise MalformedError(message, code="NOT_IN_XML", field=f"events[{number}]") from error


def _serialised(root: Element) -> bytes:
    etree.indent(root)
    data: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return data + b"\n"


def _check_speakable(event: EpcisEvent, field: str) -> None:
    for name, value in (
        ("sensorElementList", event.sensor_element_list),
        ("persistentDisposition", event.persistent_disposition),
        ("certificationInfo", event.certification_info),
        ("type", event.type is EventType.ASSOCIATION),
    ):
        if value:
            message = "cannot be said in EPCIS 1.2: write version 2.0"
            raise MalformedError(message, code="NOT_IN_VERSION", field=f"{field}.{name}")


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _add(parent: Element, name: str, text: str | None = None, **attributes: str) -> Element:
    element = etree.SubElement(parent, name, dict(attributes))
    element.text = text
    return element


def _optional(parent: Element, name: str, text: str | None) -> None:
    if text is not None:
        _add(parent, name, text)


def _header(root: Element, document: EpcisDocument) -> None:
    business = put_together(document)
    if not business and not document.vocabularies and not document.header_extensions:
        return
    header = _add(root, "EPCISHeader")
    if business:
        element = etree.SubElement(header, f"{{{SBDH}}}{ROOT_NAME}", nsmap={"sbdh": SBDH})
        for item in business:
            _extension(element, item)
    if document.vocabularies:
        lists = _add(_add(_add(header, "extension"), "EPCISMasterData"), "VocabularyList")
        for vocabulary in document.vocabularies:
            elements = _add(_add(lists, "Vocabulary", type=vocabulary.type), "VocabularyElementList")
            for described in vocabulary.elements:
                _vocabulary_element(elements, described)
    for extension in document.header_extensions:
        _extension(header, extension)


def _vocabulary_element(parent: Element, item: VocabularyElement) -> None:
    element = _add(parent, "VocabularyElement", id=item.id)
    for name, text in item.attributes:
        _extension(element, Extension("", "attribute", text, (("", "id", name),)))
    for name, structure in item.structured:
        _extension(element, Extension("", "attribute", structure, (("", "id", name),)))
    if item.children:
        children = _add(element, "children")
        for child in item.children:
            _add(children, "id", child)
    for extension in item.extensions:
        _extension(element, extension)


class _Writer:
    """Writes events of one version; in 1.2, later fields go into an ``extension`` element."""

    def __init__(self, version: str) -> None:
        self._old = version == "1.2"

    def event(self, body: Element, event: EpcisEvent) -> None:
        """Add an event to an EventList."""
        parent = body
        if self._old and event.type is EventType.TRANSFORMATION:
            parent = _add(body, "extension")
        element = _add(parent, event.type.value)
        _add(element, "eventTime", _time(event.event_time))
        _optional(element, "recordTime", None if event.record_time is None else _time(event.record_time))
        _add(element, "eventTimeZoneOffset", event.event_time_zone_offset)
        if event.event_id is not None or event.error_declaration is not None:
            base = _add(element, "baseExtension") if self._old else element
            _optional(base, "eventID", event.event_id)
            _declaration(base, event.error_declaration)
        for text in event.certification_info:
            _add(element, "certificationInfo", text)
        self._subjects(element, event)
        self._business(element, event)
        for extension in event.extensions:
            _extension(element, extension)

    def _subjects(self, element: Element, event: EpcisEvent) -> None:
        if event.type is EventType.TRANSACTION:
            _transactions(element, event)
        _optional(element, "parentID", event.parent_id)
        required = event.type in {EventType.OBJECT, EventType.TRANSACTION}
        _epcs(element, "epcList", event.epc_list, always=required)
        _epcs(element, "childEPCs", event.child_epcs, always=event.type is EventType.AGGREGATION)
        _epcs(element, "inputEPCList", event.input_epc_list)
        _quantities(element, "inputQuantityList", event.input_quantity_list)
        _epcs(element, "outputEPCList", event.output_epc_list)
        _quantities(element, "outputQuantityList", event.output_quantity_list)
        if event.action is not None:
            _add(element, "action", event.action.value)
        _optional(element, "transformationID", event.transformation_id)

    def _business(self, element: Element, event: EpcisEvent) -> None:
        _optional(element, "bizStep", event.biz_step and cbv.BIZ_STEPS.urn(event.biz_step))
        _optional(element, "disposition", event.disposition and cbv.DISPOSITIONS.urn(event.disposition))
        _place(element, "readPoint", event.read_point)
        _place(element, "bizLocation", event.biz_location)
        if event.type is not EventType.TRANSACTION:
            _transactions(element, event)
        later = element
        has_later = event.quantity_list or event.child_quantity_list or event.source_list or event.destination_list
        if self._old and event.type is not EventType.TRANSFORMATION and (has_later or event.ilmd):
            later = _add(element, "extension")
        _quantities(later, "quantityList", event.quantity_list)
        _quantities(later, "childQuantityList", event.child_quantity_list)
        _source_dests(later, "source", event.source_list)
        _source_dests(later, "destination", event.destination_list)
        if event.sensor_element_list:
            sensors = _add(later, "sensorElementList")
            for item in event.sensor_element_list:
                _sensor(sensors, item)
        if event.persistent_disposition is not None:
            persistent = _add(later, "persistentDisposition")
            for word in event.persistent_disposition.unset:
                _add(persistent, "unset", cbv.DISPOSITIONS.urn(word))
            for word in event.persistent_disposition.set:
                _add(persistent, "set", cbv.DISPOSITIONS.urn(word))
        if event.ilmd:
            ilmd = _add(later, "ilmd")
            for extension in event.ilmd:
                _extension(ilmd, extension)


def _declaration(parent: Element, declaration: ErrorDeclaration | None) -> None:
    if declaration is None:
        return
    element = _add(parent, "errorDeclaration")
    _add(element, "declarationTime", _time(declaration.declaration_time))
    _optional(element, "reason", declaration.reason and cbv.ERROR_REASONS.urn(declaration.reason))
    if declaration.corrective_event_ids:
        corrections = _add(element, "correctiveEventIDs")
        for text in declaration.corrective_event_ids:
            _add(corrections, "correctiveEventID", text)
    for extension in declaration.extensions:
        _extension(element, extension)


def _transactions(element: Element, event: EpcisEvent) -> None:
    if event.biz_transaction_list:
        transactions = _add(element, "bizTransactionList")
        for item in event.biz_transaction_list:
            found = _add(transactions, "bizTransaction", item.id)
            if item.type is not None:
                found.set("type", cbv.BIZ_TRANSACTION_TYPES.urn(item.type))


def _epcs(element: Element, name: str, epcs: Iterable[str], *, always: bool = False) -> None:
    found = tuple(epcs)
    if found or always:
        parent = _add(element, name)
        for epc in found:
            _add(parent, "epc", epc)


def _quantities(element: Element, name: str, elements: tuple[QuantityElement, ...]) -> None:
    if elements:
        parent = _add(element, name)
        for item in elements:
            quantity = _add(parent, "quantityElement")
            _add(quantity, "epcClass", item.epc_class)
            _optional(quantity, "quantity", None if item.quantity is None else _number(item.quantity))
            _optional(quantity, "uom", item.uom)


def _place(element: Element, name: str, place: Place | None) -> None:
    if place is not None:
        found = _add(element, name)
        _add(found, "id", place.id)
        for extension in place.extensions:
            _extension(found, extension)


def _source_dests(element: Element, name: str, items: tuple[SourceDest, ...]) -> None:
    if items:
        parent = _add(element, f"{name}List")
        for item in items:
            _add(parent, name, item.id, type=cbv.SOURCE_DEST_TYPES.urn(item.type))


def _sensor(parent: Element, sensor: SensorElement) -> None:
    element = _add(parent, "sensorElement")
    if sensor.metadata is not None:
        _sensor_fields(_add(element, "sensorMetadata"), sensor.metadata, METADATA_FIELDS)
    for report in sensor.reports:
        _sensor_fields(_add(element, "sensorReport"), report, REPORT_FIELDS)
    for extension in sensor.extensions:
        _extension(element, extension)


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
            _extension(element, extension)


def _sensor_text(ours: str, found: object) -> str:
    if isinstance(found, datetime):
        return _time(found)
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, Decimal):
        return _number(found)
    words = _REPORT_WORDS.get(ours)
    return str(found) if words is None else words.web(str(found))


def _extension(parent: Element, extension: Extension) -> None:
    if extension.name == TEXT and not extension.namespace:
        _append_text(parent, _text_of(extension.value))
        return
    name = f"{{{extension.namespace}}}{extension.name}" if extension.namespace else extension.name
    element = etree.SubElement(parent, name)
    for namespace, key, text in extension.attributes:
        element.set(f"{{{namespace}}}{key}" if namespace else key, text)
    if isinstance(extension.value, tuple):
        for child in extension.value:
            _extension(element, child)
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
