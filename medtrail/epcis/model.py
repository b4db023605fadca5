"""The EPCIS 2.0 event model as frozen values.

One class carries all five event types, because what distinguishes them is which lists are filled, and because every
reader of events (hash, codec, custody, projection) walks the same fields. Which field may be filled in which type is
checked once, in :mod:`medtrail.epcis.validation`.

Identifiers stay as the producer spelled them (EPC URN or GS1 Digital Link); :func:`medtrail.gs1.parse_epc` gives the
key that compares. CBV words are bare (``shipping``, ``in_transit``); words of other vocabularies stay URIs.

Source: EPCIS 2.0, section 7 (data definition layer and core event types); CBV 2.0, sections 7 and 8.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class EventType(StrEnum):
    """The five EPCIS event types, spelled as in JSON-LD ``type``."""

    OBJECT = "ObjectEvent"
    AGGREGATION = "AggregationEvent"
    TRANSACTION = "TransactionEvent"
    TRANSFORMATION = "TransformationEvent"
    ASSOCIATION = "AssociationEvent"


class Action(StrEnum):
    """What an event says of the life of what it names (EPCIS 2.0, section 7.3.2)."""

    ADD = "ADD"
    OBSERVE = "OBSERVE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Extension:
    """One user extension or ILMD element: a node of an ordered tree.

    Attributes:
        namespace: Namespace URI; empty for a nested key without one.
        name: Local name.
        value: Text, number (exact decimal), boolean, None, or child elements. Repeated names stand for JSON arrays.
            Text between child elements is a child named ``#text`` without namespace.
        attributes: XML attributes as (namespace, name, text), in document order.
    """

    namespace: str
    name: str
    value: "str | Decimal | bool | tuple[Extension, ...] | None"
    attributes: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class QuantityElement:
    """A class of objects with its count or measure (section 7.3.3.3).

    Attributes:
        epc_class: EPC class URN or class-level Digital Link.
        quantity: A positive decimal; None means an unspecified quantity.
        uom: UN/ECE Rec 20 unit code; None means a count of instances.
    """

    epc_class: str
    quantity: Decimal | None = None
    uom: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A read point or business location: its identifier and extensions."""

    id: str
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class BizTransaction:
    """A business transaction: its identifier and its CBV type (``po``, ``desadv``), which may be None."""

    id: str
    type: str | None = None


@dataclass(frozen=True, slots=True)
class SourceDest:
    """A source or destination: its CBV type (``owning_party``, ``possessing_party``, ``location``) and identifier."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class PersistentDisposition:
    """Dispositions set and unset by an event (section 7.3.5.6)."""

    set: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorDeclaration:
    """The declaration that an earlier event was in error (section 7.4.1.2)."""

    declaration_time: datetime
    reason: str | None = None
    corrective_event_ids: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorMetadata:
    """What holds for all reports of one sensor element (section 7.3.7.3); times aware UTC."""

    time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    device_id: str | None = None
    device_metadata: str | None = None
    raw_data: str | None = None
    data_processing_method: str | None = None
    biz_rules: str | None = None
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorReport:
    """One observation (section 7.3.7.4). Numbers are exact decimals; times aware UTC."""

    type: str | None = None
    exception: str | None = None
    device_id: str | None = None
    device_metadata: str | None = None
    raw_data: str | None = None
    data_processing_method: str | None = None
    biz_rules: str | None = None
    time: datetime | None = None
    microorganism: str | None = None
    chemical_substance: str | None = None
    value: Decimal | None = None
    component: str | None = None
    string_value: str | None = None
    boolean_value: bool | None = None
    hex_binary_value: str | None = None
    uri_value: str | None = None
    min_value: Decimal | None = None
    max_value: Decimal | None = None
    mean_value: Decimal | None = None
    s_dev: Decimal | None = None
    perc_rank: Decimal | None = None
    perc_value: Decimal | None = None
    uom: str | None = None
    coordinate_reference_system: str | None = None
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class SensorElement:
    """Sensor metadata and its reports (section 7.3.7.2)."""

    metadata: SensorMetadata | None = None
    reports: tuple[SensorReport, ...] = ()
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class EpcisEvent:
    """One EPCIS event with every field of the standard, user extensions included.

    Attributes:
        type: Which of the five event types.
        event_time: When it happened; aware UTC, microseconds.
        event_time_zone_offset: Offset in force where it happened, ``+hh:mm`` or ``-hh:mm``.
        record_time: When a repository recorded it; not part of what is hashed.
        event_id: URI; the CBV event hash (``ni:///sha-256;…?ver=CBV2.0``) unless the producer set one.
        certification_info: URIs of certificates.
        ilmd: Instance or lot master data, on commissioning and transformation only.
        extensions: User extensions at the event's top level.
    """

    type: EventType
    event_time: datetime
    event_time_zone_offset: str
    record_time: datetime | None = None
    event_id: str | None = None
    error_declaration: ErrorDeclaration | None = None
    certification_info: tuple[str, ...] = ()
    action: Action | None = None
    epc_list: tuple[str, ...] = ()
    quantity_list: tuple[QuantityElement, ...] = ()
    parent_id: str | None = None
    child_epcs: tuple[str, ...] = ()
    child_quantity_list: tuple[QuantityElement, ...] = ()
    input_epc_list: tuple[str, ...] = ()
    input_quantity_list: tuple[QuantityElement, ...] = ()
    output_epc_list: tuple[str, ...] = ()
    output_quantity_list: tuple[QuantityElement, ...] = ()
    transformation_id: str | None = None
    biz_step: str | None = None
    disposition: str | None = None
    persistent_disposition: PersistentDisposition | None = None
    read_point: Place | None = None
    biz_location: Place | None = None
    biz_transaction_list: tuple[BizTransaction, ...] = ()
    source_list: tuple[SourceDest, ...] = ()
    destination_list: tuple[SourceDest, ...] = ()
    sensor_element_list: tuple[SensorElement, ...] = ()
    ilmd: tuple[Extension, ...] = ()
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class VocabularyElement:
    """One master data element.

    Attributes:
        id: What is described.
        attributes: (name, text), in document order.
        children: Identifiers of its children.
        structured: Attributes that hold elements instead of text: (name, elements).
        extensions: Elements of other namespaces.
    """

    id: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple[str, ...] = ()
    structured: tuple[tuple[str, tuple[Extension, ...]], ...] = ()
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Master data of one vocabulary type (``urn:epcglobal:epcis:vtype:EPCClass``)."""

    type: str
    elements: tuple[VocabularyElement, ...] = ()


class DocumentKind(StrEnum):
    """What a document is, spelled as its root element."""

    CAPTURE = "EPCISDocument"
    QUERY = "EPCISQueryDocument"
    EVENT = "Event"
    """One event without a document around it."""


@dataclass(frozen=True, slots=True)
class EpcisDocument:
    """A capture document or query result: header facts and events in document order.

    Attributes:
        schema_version: ``1.2`` or ``2.0``.
        creation_date: Aware UTC, or None where a query document has none.
        namespaces: (prefix, URI) of user extensions, kept so that a document reads as it came.
        sender: Party identifier of the standard business document header, or None.
        receiver: Likewise.
        instance_identifier: Of the header, or None.
        vocabularies: Master data in the header.
        header_extensions: Header elements of other namespaces (DSCSA transaction statement).
        extensions: Document-level user extensions.
        business_header: Elements of the standard business document header, in document order. The first sender's and
            receiver's identifiers and the instance identifier are empty there: the three fields above say them. Empty
            where the header says no more than those fields.
        kind: Capture document, query document or bare event.
        query_name: Of a query document, or None.
        subscription_id: Of a query document that a subscription sent, or None.
    """

    events: tuple[EpcisEvent, ...]
    schema_version: str = "2.0"
    creation_date: datetime | None = None
    namespaces: tuple[tuple[str, str], ...] = ()
    sender: str | None = None
    receiver: str | None = None
    instance_identifier: str | None = None
    vocabularies: tuple[Vocabulary, ...] = ()
    header_extensions: tuple[Extension, ...] = ()
    extensions: tuple[Extension, ...] = ()
    business_header: tuple[Extension, ...] = ()
    kind: DocumentKind = DocumentKind.CAPTURE
    query_name: str | None = None
    subscription_id: str | None = None

    @property
    def ignored_fields(self) -> frozenset[tuple[str, str]]:
        """(namespace, name) of extensions that a repository declares as its own additions (``ignoreFields``)."""
        lists = [item.value for item in self.extensions if item.name == "ignoreFields"]
        return frozenset(
            (child.namespace, child.name) for found in lists if isinstance(found, tuple) for child in found
        )
