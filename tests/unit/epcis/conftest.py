"""Events of every type with every field, and documents that hold them."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from medtrail.epcis import (
    Action,
    BizTransaction,
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

NOW = datetime(2026, 5, 4, 10, 0, 0, 123000, tzinfo=UTC)
EXT = "https://ns.example.com/a/"
PACK = "urn:epc:id:sgtin:030001.0012345.11"
CASE = "urn:epc:id:sgtin:030001.1012345.110"
LOT = "urn:epc:class:lgtin:030001.0012345.A123"
PLACE = "urn:epc:id:sgln:030001.111111.0"
TEXTS = (
    Extension(EXT, "outer", (Extension(EXT, "inner", "1"), Extension(EXT, "inner", "2"))),
    Extension("https://ns.example.com/b#", "marked", "text", ((EXT, "unit", "KGM"), ("", "plain", "x"))),
)
MASTER = (Extension("urn:epcglobal:cbv:mda", "lotNumber", "A123"), *TEXTS)
QUANTITIES = (QuantityElement(LOT, Decimal("2.5"), "KGM"), QuantityElement(LOT, Decimal(10)), QuantityElement(LOT))

OBJECT = EpcisEvent(
    type=EventType.OBJECT,
    event_time=NOW,
    event_time_zone_offset="-05:00",
    record_time=NOW,
    event_id="urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8",
    error_declaration=ErrorDeclaration(NOW, "incorrect_data", ("urn:uuid:1",), TEXTS),
    action=Action.ADD,
    epc_list=(PACK,),
    quantity_list=QUANTITIES,
    biz_step="commissioning",
    disposition="active",
    read_point=Place(PLACE, TEXTS),
    biz_location=Place(PLACE),
    biz_transaction_list=(
        BizTransaction("urn:epcglobal:cbv:bt:0399999999991:XYZPO189", "po"),
        BizTransaction("urn:x:untyped"),
    ),
    source_list=(SourceDest("owning_party", PLACE),),
    destination_list=(SourceDest("location", PLACE),),
    ilmd=MASTER,
    extensions=TEXTS,
)
AGGREGATION = EpcisEvent(
    type=EventType.AGGREGATION,
    event_time=NOW,
    event_time_zone_offset="+00:00",
    action=Action.ADD,
    parent_id=CASE,
    child_epcs=(PACK,),
    child_quantity_list=QUANTITIES,
    biz_step="packing",
)
TRANSACTION = EpcisEvent(
    type=EventType.TRANSACTION,
    event_time=NOW,
    event_time_zone_offset="+00:00",
    action=Action.OBSERVE,
    parent_id=CASE,
    epc_list=(PACK,),
    quantity_list=QUANTITIES,
    biz_transaction_list=(BizTransaction("urn:x:po:1", "po"),),
    biz_step="shipping",
)
TRANSFORMATION = EpcisEvent(
    type=EventType.TRANSFORMATION,
    event_time=NOW,
    event_time_zone_offset="+00:00",
    input_epc_list=(PACK,),
    input_quantity_list=QUANTITIES,
    output_epc_list=(CASE,),
    output_quantity_list=QUANTITIES,
    transformation_id="urn:x:t:1",
    biz_step="repackaging",
    source_list=(SourceDest("owning_party", PLACE),),
    ilmd=MASTER,
)
REPORT = SensorReport(
    type="Temperature",
    exception="ALARM_CONDITION",
    device_id="urn:epc:id:giai:4000001.111",
    biz_rules="https://example.com/r",
    time=NOW,
    value=Decimal("26.5"),
    component="x",
    string_value="text",
    boolean_value=True,
    hex_binary_value="f0f0",
    uri_value="https://example.com/u",
    s_dev=Decimal("0.1"),
    uom="CEL",
    extensions=(Extension(EXT, "note", "text"),),
)
ASSOCIATION = EpcisEvent(
    type=EventType.ASSOCIATION,
    event_time=NOW,
    event_time_zone_offset="+00:00",
    certification_info=("https://accreditation.example.org/c/1",),
    action=Action.ADD,
    parent_id="urn:epc:id:grai:4012345.55555.987",
    child_epcs=("urn:epc:id:giai:4000001.12345",),
    persistent_disposition=PersistentDisposition(("completeness_verified",), ("completeness_inferred",)),
    sensor_element_list=(
        SensorElement(
            SensorMetadata(time=NOW, device_id="urn:epc:id:giai:4000001.111", extensions=(Extension(EXT, "m", "x"),)),
            (REPORT, SensorReport(type="Speed", boolean_value=False)),
            TEXTS,
        ),
        SensorElement(),
    ),
)
DOCUMENT = EpcisDocument(
    events=(OBJECT, AGGREGATION, TRANSACTION, TRANSFORMATION),
    schema_version="2.0",
    creation_date=NOW,
    namespaces=(("a", EXT), ("b", "https://ns.example.com/b#")),
    sender="urn:epc:id:sgln:030001.111111.0",
    receiver="urn:epc:id:sgln:039999.999999.0",
    instance_identifier="100",
    vocabularies=(
        Vocabulary(
            "urn:epcglobal:epcis:vtype:EPCClass",
            (
                VocabularyElement("urn:epc:idpat:sgtin:030001.0012345.*", (("urn:x#name", "Epcistra"),), ("urn:x:c",)),
                VocabularyElement("urn:epc:idpat:sgtin:030001.1012345.*"),
            ),
        ),
    ),
    header_extensions=(Extension(EXT, "guideline", "R1.3"),),
    extensions=(Extension(EXT, "ignoreFields", (Extension(EXT, "outer", ""),)),),
)


@pytest.fixture
def document() -> EpcisDocument:
    """Return a document with a header and four event types, as both XML versions can say it."""
    return DOCUMENT


@pytest.fixture
def full_document() -> EpcisDocument:
    """Return the document with what only version 2.0 can say, too."""
    return replace(DOCUMENT, events=(*DOCUMENT.events, ASSOCIATION))


@pytest.fixture(params=[OBJECT, AGGREGATION, TRANSACTION, TRANSFORMATION, ASSOCIATION], ids=lambda event: event.type)
def event(request: pytest.FixtureRequest) -> EpcisEvent:
    """Return an event of each type, with every field that its type allows."""
    found: EpcisEvent = request.param
    return found


@pytest.fixture
def every_type() -> dict[EventType, EpcisEvent]:
    """Return an event of each type, by type."""
    return {found.type: found for found in (OBJECT, AGGREGATION, TRANSACTION, TRANSFORMATION, ASSOCIATION)}
