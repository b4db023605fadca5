"""EPCIS 2.0 (ISO/IEC 19987:2024): the event model, its JSON-LD and XML forms, and the CBV event hash."""

from medtrail.epcis.documents import read_document, read_json, read_xml
from medtrail.epcis.hash import event_hash, prehash
from medtrail.epcis.json_in import event_from_json
from medtrail.epcis.json_out import event_to_json, event_to_text, write_json, write_json_events
from medtrail.epcis.model import (
    Action,
    BizTransaction,
    DocumentKind,
    EpcisDocument,
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
    Vocabulary,
    VocabularyElement,
)
from medtrail.epcis.reading import Position
from medtrail.epcis.stream import EventStream, open_events
from medtrail.epcis.validation import check_event
from medtrail.epcis.xml_out import write_xml, write_xml_events

__all__ = [
    "Action",
    "BizTransaction",
    "DocumentKind",
    "EpcisDocument",
    "EpcisEvent",
    "ErrorDeclaration",
    "EventStream",
    "EventType",
    "Extension",
    "PersistentDisposition",
    "Place",
    "Position",
    "QuantityElement",
    "SensorElement",
    "SensorMetadata",
    "SensorReport",
    "SourceDest",
    "Vocabulary",
    "VocabularyElement",
    "check_event",
    "event_from_json",
    "event_hash",
    "event_to_json",
    "event_to_text",
    "open_events",
    "prehash",
    "read_document",
    "read_json",
    "read_xml",
    "write_json",
    "write_json_events",
    "write_xml",
    "write_xml_events",
]
