"""Every parameter of SimpleEventQuery finds what it should and nothing else; wrong ones are refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.epcis.model import (
    Action,
    BizTransaction,
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
from medtrail.epcis.namespaces import Prefixes
from services.portal.query.errors import QueryParameterError, QueryTooComplexError, QueryTooLargeError
from services.portal.query.parameters import read_query
from tests.unit.portal_query.conftest import EXT, START, object_event

if TYPE_CHECKING:
    from tests.unit.portal_query.conftest import Shelf

PACK = "urn:epc:id:sgtin:0300010.012345.1"
PACK_LINK = "https://id.gs1.org/01/00300010123455/21/1"
CASE = "urn:epc:id:sscc:0300010.0000000001"
MOMENT = "2026-03-01T08:00:00Z"


def _ext(name: str, value: Any, namespace: str = EXT) -> Extension:
    return Extension(namespace, name, value)


EVERYTHING = object_event(
    event_id="urn:uuid:11111111-1111-4111-8111-111111111111",
    event_time=START,
    biz_step="shipping",
    disposition="in_transit",
    persistent_disposition=PersistentDisposition(set=("completeness_verified",), unset=("completeness_inferred",)),
    epc_list=(PACK,),
    quantity_list=(
        QuantityElement("urn:epc:class:lgtin:0300010.012345.L1", Decimal("12.5"), "KGM"),
        QuantityElement("urn:epc:idpat:sgtin:0300010.099999.*", Decimal(3)),
    ),
    read_point=Place("https://id.gs1.org/414/0300010000008", (_ext("gate", "7"),)),
    biz_location=Place("https://id.gs1.org/414/0300010000008/254/A1", (_ext("zone", (_ext("row", Decimal(4)),)),)),
    biz_transaction_list=(BizTransaction("urn:epcglobal:cbv:bt:0300010000008:P1", "po"), BizTransaction("urn:x:y")),
    source_list=(SourceDest("owning_party", "urn:epc:id:sgln:0300010.00000.0"),),
    destination_list=(SourceDest("location", "https://id.gs1.org/414/0300010000008"),),
    error_declaration=ErrorDeclaration(
        START + timedelta(hours=1),
        "incorrect_data",
        ("urn:uuid:22222222-2222-4222-8222-222222222222",),
        (_ext("by", "qa"), _ext("more", (_ext("level", "2"),))),
    ),
    sensor_element_list=(
        SensorElement(
            SensorMetadata(
                time=START,
                start_time=START,
                end_time=START + timedelta(minutes=5),
                device_id="urn:epc:id:giai:0300010.D1",
                device_metadata="https://x.example/meta",
                raw_data="https://x.example/raw",
                data_processing_method="https://x.example/method",
                biz_rules="https://x.example/rules",
                extensions=(_ext("firmware", "1.2"),),
            ),
            (
                SensorReport(
                    type="Temperature",
                    value=Decimal("26.0"),
                    min_value=Decimal(20),
                    max_value=Decimal(30),
                    mean_value=Decimal(25),
                    s_dev=Decimal("0.1"),
                    perc_rank=Decimal(50),
                    perc_value=Decimal("24.5"),
                    uom="CEL",
                    time=START,
                    device_id="urn:epc:id:giai:0300010.D2",
                    component="x",
                    string_value="high",
                    boolean_value=True,
                    hex_binary_value="f0f0",
                    uri_value="https://id.gs1.org/8004/0300010U1",
                    microorganism="https://x.example/salmonella",
                    chemical_substance="https://x.example/water",
                    exception="ALARM_CONDITION",
                    coordinate_reference_system="https://x.example/crs",
                    extensions=(_ext("unit", (_ext("part", "p"),)),),
                ),
            ),
            extensions=(_ext("box", "b"),),
        ),
    ),
    ilmd=(_ext("lotNumber", "L1", "urn:epcglobal:cbv:mda"), _ext("recipe", (_ext("step", Decimal(3)),))),
    extensions=(
        _ext("temperature", "-5.5"),
        _ext("since", "2026-02-01T00:00:00Z"),
        _ext("note", "hello"),
        _ext("flag", True),  # a value
        _ext("nothing", None),
        _ext("deep", (_ext("deeper", (_ext("deepest", "7"),)), Extension("", "bare", "x"))),
    ),
)
PACKING = object_event(
    type=EventType.AGGREGATION,
    event_time=START - timedelta(days=1),
    action=Action.ADD,
    parent_id=CASE,
    child_epcs=(PACK_LINK,),
    child_quantity_list=(QuantityElement("https://id.gs1.org/01/00300010123455/10/L2", Decimal(7)),),
    biz_step="packing",
)
MAKING = object_event(
    type=EventType.TRANSFORMATION,
    event_time=START + timedelta(days=1),
    action=None,
    input_epc_list=("urn:epc:id:sgtin:0300010.077777.1",),
    output_epc_list=("urn:epc:id:sgtin:0300010.088888.1",),
    input_quantity_list=(QuantityElement("urn:epc:class:lgtin:0300010.055555.IN"),),
    output_quantity_list=(QuantityElement("urn:epc:class:lgtin:0300010.055556.OUT"),),
    transformation_id="urn:epc:id:gdti:0300010.12345.T1",
)

FINDS: list[tuple[str, Any, set[int]]] = [
    ("eventType", ["ObjectEvent"], {1}),
    ("eventType", ["AggregationEvent", "TransformationEvent"], {2, 3}),
    ("eventType", ["urn:x:newEvent"], set()),
    ("GE_eventTime", MOMENT, {1, 3}),
    ("GE_eventTime", "2026-03-01T09:00:00+01:00", {1, 3}),
    ("LT_eventTime", MOMENT, {2}),
    ("GE_recordTime", "2026-03-01T08:00:02Z", {2, 3}),
    ("LT_recordTime", ["2026-03-01T08:00:02Z"], {1}),
    ("EQ_action", ["OBSERVE"], {1}),
    ("EQ_action", "ADD", {2}),
    ("EQ_bizStep", ["shipping"], {1}),
    ("EQ_bizStep", ["urn:epcglobal:cbv:bizstep:packing", "https://ref.gs1.org/cbv/BizStep-shipping"], {1, 2}),
    ("EQ_bizStep", ["cbv:BizStep-shipping"], {1}),
    ("EQ_bizStep", ["https://x.example/own"], set()),
    ("EQ_disposition", ["in_transit"], {1}),
    ("EQ_persistentDisposition_set", ["completeness_verified"], {1}),
    ("EQ_persistentDisposition_set", ["completeness_inferred"], set()),
    ("EQ_persistentDisposition_unset", ["completeness_inferred"], {1}),
    ("EQ_readPoint", ["urn:epc:id:sgln:0300010.00000.0"], {1}),
    ("EQ_readPoint", ["https://elsewhere.example/x/414/0300010000008"], {1}),
    ("EQ_bizLocation", ["urn:epc:id:sgln:0300010.00000.A1"], {1}),
    ("EQ_bizLocation", ["https://id.gs1.org/414/0300010000008"], set()),
    ("WD_bizLocation", ["https://id.gs1.org/414/0300010000008"], {1}),
    ("WD_readPoint", ["https://id.gs1.org/414/0300010000008"], {1}),
    ("WD_readPoint", ["urn:x:site", "urn:x:other"], {1}),
    ("EQ_transformationID", ["https://id.gs1.org/253/0300010123455T1"], {3}),
    ("EQ_bizTransaction_po", ["urn:epcglobal:cbv:bt:0300010000008:P1"], {1}),
    ("EQ_bizTransaction_urn:epcglobal:cbv:btt:po", ["urn:epcglobal:cbv:bt:0300010000008:P1"], {1}),
    ("EQ_bizTransaction_", ["urn:x:y"], {1}),
    ("EQ_bizTransaction_inv", ["urn:x:y"], set()),
    ("EQ_source_owning_party", ["urn:epc:id:pgln:0300010.00000"], {1}),
    ("EQ_source_owning_party", ["https://id.gs1.org/417/0300010000008"], {1}),
    ("EQ_source_location", ["https://id.gs1.org/417/0300010000008"], set()),
    ("EQ_destination_location", ["urn:epc:id:sgln:0300010.00000.0"], {1}),
    ("MATCH_epc", [PACK], {1, 2}),
    ("MATCH_epc", [PACK_LINK], {1, 2}),
    ("MATCH_epc", ["urn:epc:idpat:sgtin:0300010.012345.*"], {1, 2}),
    ("MATCH_epc", ["https://id.gs1.org/01/00300010123455"], {1, 2}),
    ("MATCH_epc", ["urn:epc:idpat:sgtin:0300010.*.*"], {1, 2}),
    ("MATCH_epc", ["urn:epc:idpat:sgtin:*.*.*"], {1, 2}),
    ("MATCH_epc", ["urn:epc:idpat:sgtin:0300011.*.*", CASE], set()),
    ("MATCH_parentID", ["urn:epc:idpat:sscc:0300010.*"], {2}),
    ("MATCH_parentID", ["(00)003000100000000015"], {2}),
    ("MATCH_inputEPC", ["urn:epc:id:sgtin:0300010.077777.1"], {3}),
    ("MATCH_outputEPC", ["urn:epc:id:sgtin:0300010.077777.1"], set()),
    ("MATCH_outputEPC", ["urn:epc:idpat:sgtin:0300010.088888.*"], {3}),
    ("MATCH_anyEPC", [CASE, "urn:epc:id:sgtin:0300010.088888.1"], {2, 3}),
    ("MATCH_anyEPC", ["urn:epc:idpat:sgtin:0300010.*.*"], {1, 2, 3}),
    ("MATCH_epcClass", ["urn:epc:class:lgtin:0300010.012345.L1"], {1}),
    ("MATCH_epcClass", ["urn:epc:class:lgtin:0300010.012345.*"], {1, 2}),
    ("MATCH_epcClass", ["urn:epc:idpat:lgtin:0300010.*.*"], {1, 2}),
    ("MATCH_epcClass", ["https://id.gs1.org/01/00300010999999"], {1}),
    ("MATCH_epcClass", ["urn:epc:idpat:sgtin:0300010.099999.*"], {1}),
    ("MATCH_epcClass", ["urn:epc:idpat:sgtin:0300010.*.*"], {1}),
    ("MATCH_inputEPCClass", ["urn:epc:class:lgtin:0300010.055555.IN"], {3}),
    ("MATCH_outputEPCClass", ["urn:epc:class:lgtin:0300010.055555.IN"], set()),
    ("MATCH_anyEPCClass", ["urn:epc:idpat:lgtin:*.*.*"], {1, 2, 3}),
    ("EQ_quantity", [3, 7], {1, 2}),
    ("EQ_quantity", "7.0", {2}),
    ("GT_quantity", 7, {1}),
    ("GE_quantity", Decimal(7), {1, 2}),
    ("LT_quantity", 7, {1}),
    ("LE_quantity", 7, {1, 2}),
    ("GE_quantity_KGM", 12, {1}),
    ("GE_quantity_KGM", "12.51", set()),
    ("EQ_eventID", ["urn:uuid:11111111-1111-4111-8111-111111111111"], {1}),
    ("EXISTS_errorDeclaration", None, {1}),
    ("GE_errorDeclaration_Time", "2026-03-01T09:00:00Z", {1}),
    ("LT_errorDeclaration_Time", "2026-03-01T09:00:00Z", set()),
    ("EQ_errorReason", ["urn:epcglobal:cbv:er:incorrect_data"], {1}),
    ("EQ_correctiveEventID", ["urn:uuid:22222222-2222-4222-8222-222222222222"], {1}),
    ("EXISTS_sensorElementList", None, {1}),
    ("EXISTS_bizStep", None, {1, 2}),
    ("EXISTS_parentID", None, {2}),
    ("GE_time", MOMENT, {1}),
    ("LT_time", MOMENT, set()),
    ("GE_startTime", MOMENT, {1}),
    ("LT_endTime", "2026-03-01T08:06:00Z", {1}),
    ("GE_SENSORREPORT_time", MOMENT, {1}),
    ("GE_SENSORMETADATA_startTime", MOMENT, {1}),
    ("EQ_type", ["gs1:Temperature"], {1}),
    ("EQ_type", ["https://gs1.org/voc/Temperature"], {1}),
    ("EQ_type", ["Speed"], set()),
    ("EQ_exception", ["ALARM_CONDITION"], {1}),
    ("EQ_deviceID", ["https://id.gs1.org/8004/0300010D1"], {1}),
    ("EQ_SENSORREPORT_deviceID", ["https://id.gs1.org/8004/0300010D1"], set()),
    ("EQ_SENSORMETADATA_deviceMetadata", ["https://x.example/meta"], {1}),
    ("EQ_rawData", ["https://x.example/raw"], {1}),
    ("EQ_dataProcessingMethod", ["https://x.example/method"], {1}),
    ("EQ_bizRules", ["https://x.example/rules"], {1}),
    ("EQ_microorganism", ["https://x.example/salmonella"], {1}),
    ("EQ_chemicalSubstance", ["https://x.example/water"], {1}),
    ("EQ_component", ["cbv:Comp-x"], {1}),
    ("EQ_coordinateReferenceSystem", ["https://x.example/crs"], {1}),
    ("EQ_stringValue", ["high"], {1}),
    ("EQ_booleanValue", True, {1}),
    ("EQ_booleanValue", ["false"], set()),
    ("EQ_hexBinaryValue", ["F0F0"], {1}),
    ("EQ_uriValue", ["urn:epc:id:giai:0300010.U1"], {1}),
    ("EQ_value_CEL", [26], {1}),
    ("EQ_value_CEL", [Decimal("26.00"), 3], {1}),
    ("GT_value_CEL", 26, set()),
    ("EQ_value_KEL", ["299.15"], {1}),
    ("EQ_value_FAH", ["78.8"], {1}),
    ("GT_value_FAH", "78.8", set()),
    ("GE_value_FAH", 0, {1}),
    ("GE_value_LUX", 0, set()),
    ("EQ_sDev_FAH", ["0.18"], {1}),
    ("EQ_quantity_GRM", [12500], {1}),
    ("EQ_quantity_LTR", ["12.5"], set()),
    ("EXISTS_sensorElement", None, {1}),
    ("LE_minValue_CEL", 20, {1}),
    ("GE_maxValue_CEL", 30, {1}),
    ("LT_meanValue_CEL", "25.000001", {1}),
    ("EQ_sDev_CEL", ["0.10"], {1}),
    ("GE_percRank", 50, {1}),
    ("EQ_percValue_CEL", ["24.5"], {1}),
    ("EQ_ext:temperature", ["-5.50"], {1}),
    ("GT_ext:temperature", "-6", {1}),
    ("GT_ext:temperature", "-5.5", set()),
    ("LE_https://ns.example.com/epcis#temperature", Decimal("-5.5"), {1}),
    ("LT_ext:since", "2026-02-01T00:00:01Z", {1}),
    ("GE_ext:since", "2026-02-01T00:00:01Z", set()),
    ("EQ_ext:since", "2026-02-01T01:00:00+01:00", {1}),
    ("EQ_ext:note", ["hello", "bye"], {1}),
    ("EQ_ext:flag", True, {1}),
    ("EXISTS_ext:nothing", None, {1}),
    ("EXISTS_ext:deeper", None, set()),
    ("EXISTS_INNER_ext:deeper", None, {1}),
    ("EQ_INNER_ext:deepest", [7], {1}),
    ("EQ_INNER_bare", ["x"], {1}),
    ("EQ_INNER_ext:note", ["hello"], set()),
    ("EQ_ILMD_cbvmda:lotNumber", ["L1"], {1}),
    ("EXISTS_ILMD_ext:recipe", None, {1}),
    ("GE_INNER_ILMD_ext:step", 3, {1}),
    ("EQ_ERROR_DECLARATION_ext:by", ["qa"], {1}),
    ("LE_INNER_ERROR_DECLARATION_ext:level", 2, {1}),
    ("EQ_readPoint_ext:gate", [7], {1}),
    ("EQ_INNER_bizLocation_ext:row", [4], {1}),
    ("EQ_SENSORELEMENT_ext:box", ["b"], {1}),
    ("GE_SENSORMETADATA_ext:firmware", Decimal("1.19"), {1}),
    ("EXISTS_SENSORREPORT_ext:unit", None, {1}),
    ("EQ_INNER_SENSORREPORT_ext:part", ["p"], {1}),
    ("HASATTR_readPoint", ["urn:x:name"], {1}),
    ("HASATTR_readPoint", ["urn:x:colour"], set()),
    ("HASATTR_bizLocation", ["urn:x:name"], set()),
    ("EQATTR_readPoint_urn:x:name", ["Gate"], {1}),
    ("EQATTR_readPoint_urn:x:name", ["Door"], set()),
    ("EQATTR_epcClass_descriptionShort", ["pills"], {1}),
    ("HASATTR_ext:note", ["x"], set()),
    ("EQATTR_ext:note_x", ["x"], set()),
]


@pytest.fixture
def full(shelf: "Shelf") -> "Shelf":
    import asyncio

    shelf.add(EVERYTHING, PACKING, MAKING)
    site = VocabularyElement("urn:x:site", children=("urn:epc:id:sgln:0300010.00000.0",))
    gate = VocabularyElement("https://id.gs1.org/414/0300010000008", (("urn:x:name", "Gate"),))
    goods = VocabularyElement("urn:epc:class:lgtin:0300010.012345.L1", (("descriptionShort", "pills"),))
    for _ in range(2):
        asyncio.run(shelf.repository.put_master_data([Vocabulary("urn:x", (site, gate, goods))]))
    return shelf


def test_every_parameter_finds_what_it_should(full: "Shelf") -> None:
    for name, value, wanted in FINDS:
        assert (name, value, set(full.numbers(**{name: value}))) == (name, value, wanted)


def test_large_sets_of_events_are_found_in_the_same_way(full: "Shelf", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.portal.query.sql.SMALL", 0)
    for name, value, wanted in FINDS:
        assert (name, value, set(full.numbers(**{name: value}))) == (name, value, wanted)


def test_all_conditions_must_hold(full: "Shelf") -> None:
    assert full.numbers(MATCH_epc=[PACK], EQ_bizStep=["packing"], GE_quantity=1) == [2]
    assert full.numbers(MATCH_epc=[PACK], EQ_bizStep=["packing"], GE_quantity=8) == []


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({}, [1, 2, 3]),
        ({"orderBy": "eventTime"}, [3, 1, 2]),
        ({"orderBy": "eventTime", "orderDirection": "ASC"}, [2, 1, 3]),
        ({"orderBy": "recordTime", "orderDirection": "DESC"}, [3, 2, 1]),
        ({"orderBy": "ext:temperature", "orderDirection": "ASC"}, [1, 2, 3]),
        ({"orderBy": "eventTime", "eventCountLimit": 2}, [3, 1]),
        ({"eventCountLimit": "2"}, [1, 2]),
        ({"maxEventCount": ["3"]}, [1, 2, 3]),
        ({"perPage": 1, "nextPageToken": "x", "@context": {}}, [1, 2, 3]),
    ],
)
def test_answers_come_in_the_order_asked_for(full: "Shelf", parameters: dict[str, Any], wanted: list[int]) -> None:
    assert full.numbers(**parameters) == wanted


def test_extensions_order_numbers_before_times_before_texts_before_nothing(shelf: "Shelf") -> None:
    values: list[Any] = ["b", None, "2026-02-01T00:00:00Z", Decimal(10), "9", "-1", "a"]
    shelf.add(
        *(
            object_event(
                event_time=START + timedelta(seconds=number),
                extensions=() if value is None else (_ext("rank", value),),
            )
            for number, value in enumerate(values)
        )
    )
    assert shelf.numbers(orderBy="ext:rank", orderDirection="ASC") == [6, 5, 4, 3, 7, 1, 2]
    assert shelf.numbers(orderBy="ext:rank") == [2, 1, 7, 3, 4, 5, 6]


def test_more_events_than_allowed_are_an_error(full: "Shelf") -> None:
    with pytest.raises(QueryTooLargeError, match="more than 2"):
        full.numbers(maxEventCount=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GE_eventDate", MOMENT),
        ("GE_eventTime", "not-a-date"),
        ("GE_eventTime", "2026-03-01T08:00:00"),
        ("GE_eventTime", [MOMENT, MOMENT]),
        ("GT_eventTime", MOMENT),
        ("EQ_action", ["SHIPPED"]),
        ("EQ_bizStep", ["shiping"]),
        ("EQ_bizStep", []),
        ("EQ_bizStep", None),
        ("EQ_bizStep", [""]),
        ("EQ_bizStep", ["x" * 3000]),
        ("EQ_bizStep", [{}]),
        ("eventType", ["QuantityEvent"]),
        ("orderDirection", "SIDEWAYS"),
        ("orderBy", "eventSize"),
        ("eventCountLimit", 0),
        ("eventCountLimit", True),
        ("maxEventCount", "many"),
        ("EQ_quantity", ["many"]),
        ("EQ_quantity", []),
        ("GT_quantity", [1, 2]),
        ("EQ_booleanValue", "maybe"),
        ("EQ_booleanValue", 1),
        ("MATCH_epc", ["urn:epc:idpat:sgtin:*.012345.*"]),
        ("MATCH_epc", ["urn:epc:idpat:nothing:*"]),
        ("MATCH_epc", ["urn:epc:idpat:sgtin:0300010.*"]),
        ("MATCH_epc", ["urn:epc:idpat:sgtin:12.*.*"]),
        ("MATCH_epc", ["urn:epc:idpat:sgtin:0300010.0123.*"]),
        ("MATCH_epc", ["urn:epc:idpat:sgtin:0300010.1*.*"]),
        ("EQ_note", ["x"]),
        ("EQ_undeclared:note", ["x"]),
        ("EQ_ext:", ["x"]),
        ("GT_ext:note", "hello"),
        ("GT_ext:note", ["1", "2"]),
        ("EQATTR_readPoint", ["x"]),
        ("EQATTR_x", ["x"]),
        ("HASATTR_note", ["x"]),
        ("", "x"),
        ("EQ_", "x"),
    ],
    ids=str,
)
def test_refuses_wrong_parameters_and_names_them(name: str, value: Any) -> None:
    with pytest.raises(QueryParameterError) as caught:
        read_query({name: value}, Prefixes({"ext": EXT}))
    assert name in {caught.value.field or "", "orderBy"}


def test_refuses_contradicting_limits() -> None:
    with pytest.raises(QueryParameterError, match="exclude each other"):
        read_query({"eventCountLimit": 1, "maxEventCount": 1}, Prefixes())


def test_refuses_what_would_cost_too_much() -> None:
    with pytest.raises(QueryTooComplexError, match="at most 100"):
        read_query({f"EXISTS_ext:a{number}": None for number in range(101)}, Prefixes({"ext": EXT}))
    with pytest.raises(QueryTooComplexError, match="at most 5000"):
        read_query({"MATCH_epc": ["urn:x:1"] * 3000, "MATCH_anyEPC": ["urn:x:1"] * 2001}, Prefixes())


def test_refuses_more_patterns_than_the_database_takes(full: "Shelf") -> None:
    with pytest.raises(QueryTooComplexError, match="at most 250"):
        full.numbers(MATCH_epc=["urn:epc:idpat:sgtin:0300010.*.*"] * 26)
    assert full.numbers(MATCH_epc=["urn:epc:idpat:sgtin:0300010.*.*"] * 25) == [1, 2]
    assert full.numbers(MATCH_epc=[*(f"urn:x:{number}" for number in range(4999)), PACK]) == [1, 2]


def test_numbers_compare_exactly_whatever_their_size(shelf: "Shelf") -> None:
    values = ["-1E20", "-10", "-9.99", "-1", "-0.5", "0", "0.1", "0.10000000000000000001", "1", "9", "10", "1E30"]
    shelf.add(
        *(
            object_event(event_time=START + timedelta(seconds=number), extensions=(_ext("n", Decimal(text)),))
            for number, text in enumerate(values)
        )
    )
    for number, text in enumerate(values, 1):
        assert shelf.numbers(**{"EQ_ext:n": text}) == [number]
        assert shelf.numbers(**{"LE_ext:n": text}) == list(range(1, number + 1))
        assert shelf.numbers(**{"GT_ext:n": text}) == list(range(number + 1, len(values) + 1))


@pytest.mark.parametrize(
    ("pattern", "found", "missed"),
    [
        (
            "urn:epc:idpat:sgtin:0300010.012345.*",
            "urn:epc:id:sgtin:0300010.012345.7",
            "urn:epc:id:sgtin:0300010.112345.7",
        ),
        ("urn:epc:idpat:sgtin:0300010.*.*", "urn:epc:id:sgtin:0300010.912345.7", "urn:epc:id:sgtin:0300011.012345.7"),
        ("urn:epc:idpat:sscc:0300010.*", CASE, "urn:epc:id:sscc:0300011.0000000001"),
        ("urn:epc:idpat:sscc:*.*", CASE, PACK),
        ("urn:epc:idpat:grai:0300010.12345.*", "urn:epc:id:grai:0300010.12345.7", "urn:epc:id:grai:0300010.12346.7"),
        ("urn:epc:idpat:grai:0300010.*.*", "urn:epc:id:grai:0300010.12345.7", "urn:epc:id:grai:0300011.12345.7"),
        ("https://id.gs1.org/8003/00300010123455", "urn:epc:id:grai:0300010.12345.7", PACK),
        ("urn:epc:idpat:gdti:0300010.12345.*", "urn:epc:id:gdti:0300010.12345.7", "urn:epc:id:gdti:0300010.12346.7"),
        ("urn:epc:idpat:giai:0300010.*", "urn:epc:id:giai:0300010.A1", "urn:epc:id:giai:0300011.A1"),
        ("urn:epc:idpat:cpi:0300010.5PQ7.*", "urn:epc:id:cpi:0300010.5PQ7.12", "urn:epc:id:cpi:0300010.5PQ8.12"),
        ("https://id.gs1.org/8010/03000105PQ7", "urn:epc:id:cpi:0300010.5PQ7.12", PACK),
        ("urn:epc:idpat:sgln:0300010.00000.*", "urn:epc:id:sgln:0300010.00000.A", "urn:epc:id:sgln:0300010.00001.A"),
        ("urn:epc:idpat:sgln:0300010.*.*", "urn:epc:id:sgln:0300010.00001.A", "urn:epc:id:sgln:0300011.00001.A"),
        ("urn:epc:idpat:itip:0300010.012345.01.02.*", "urn:epc:id:itip:0300010.012345.01.02.7", PACK),
        ("urn:epc:idpat:gsrn:0300010.*", "urn:epc:id:gsrn:0300010.0000000001", PACK),
        ("urn:x:thing", "urn:x:thing", "urn:x:thin"),
    ],
)
def test_patterns_fit_their_identifiers(shelf: "Shelf", pattern: str, found: str, missed: str) -> None:
    shelf.add(object_event(epc_list=(found,)), object_event(epc_list=(missed,)))
    assert shelf.numbers(MATCH_epc=[pattern]) == [1]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("urn:epc:idpat:grai:0300010.12345.*", "https://id.gs1.org/8003/00300010123455"),
        ("urn:epc:idpat:grai:0300010.*.*", "https://id.gs1.org/8003/00300010123455"),
        ("urn:epc:idpat:sgtin:*.*.*", "https://id.gs1.org/01/00300010123455"),
        ("urn:epc:class:lgtin:0300010.*.*", "https://id.gs1.org/01/00300010123455/10/L"),
        ("urn:epc:idpat:gdti:0300010.12345.*", "https://id.gs1.org/253/0300010123455"),
    ],
)
def test_patterns_fit_their_classes(shelf: "Shelf", pattern: str, found: str) -> None:
    other = QuantityElement("urn:x:other")
    shelf.add(object_event(quantity_list=(QuantityElement(found),)), object_event(quantity_list=(other,)))
    assert shelf.numbers(MATCH_epcClass=[pattern]) == [1]


def test_measurements_compare_in_every_unit_of_their_quantity(shelf: "Shelf") -> None:
    readings = [("0", "CEL"), ("33", "FAH"), ("274", "KEL"), ("5", "A93"), ("36", "KMH"), ("10.5", "MTS")]
    shelf.add(
        *(
            object_event(
                event_time=START + timedelta(seconds=number),
                sensor_element_list=(SensorElement(reports=(SensorReport(value=Decimal(value), uom=uom),)),),
            )
            for number, (value, uom) in enumerate(readings)
        )
    )
    assert shelf.numbers(GE_value_FAH="32") == [1, 2, 3]
    assert shelf.numbers(GT_value_KEL="273.15") == [2, 3]
    assert shelf.numbers(LE_value_A93=5) == [4]
    assert shelf.numbers(EQ_value_MTS=[10]) == [5]
    assert shelf.numbers(GT_value_KMH=36) == [6]


def test_times_before_our_era_of_computers_compare_too(shelf: "Shelf") -> None:
    old = datetime(1, 1, 1, tzinfo=UTC)
    shelf.add(replace(EVERYTHING, event_time=old))
    assert shelf.numbers(LT_eventTime="0001-01-01T00:00:00.000001Z") == [1]


def test_long_texts_compare_whole(shelf: "Shelf") -> None:
    text = "x" * 1000
    shelf.add(object_event(extensions=(_ext("long", text),)))
    assert shelf.numbers(**{"EQ_ext:long": [text]}) == [1]
    assert shelf.numbers(**{"EQ_ext:long": [text + "y"]}) == []
