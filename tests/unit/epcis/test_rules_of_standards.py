"""Every rule of the standards: what breaks it, and what comes near without breaking it."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from medtrail.epcis import event_from_json, event_hash
from medtrail.epcis.rules import RULES, Finding, Profile, check_document
from medtrail.gs1.checks import check_digit

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTEXT = ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld", {"ext": "https://ns.example.com/"}]
PACK = "https://id.gs1.org/01/09521321000018/21/1"
QUERY = "https://ref.gs1.org/standards/epcis/2.0.0/query-schema.json"
ASKED = {"@context": QUERY, **dict.fromkeys(("type", "schemaVersion", "creationDate", "epcisBody"), "-")}
SSCC = f"https://id.gs1.org/00/09521321000000001{check_digit('09521321000000001')}"
LOT = "https://id.gs1.org/01/09521321000018/10/A"
EVENT: dict[str, Any] = {
    "type": "ObjectEvent",
    "eventTime": "2026-05-04T10:00:00Z",
    "eventTimeZoneOffset": "+02:00",
    "action": "ADD",
    "epcList": [PACK],
}
PLAIN: dict[str, Any] = {**EVENT, "action": "OBSERVE"}
AGGREGATION: dict[str, Any] = {
    **{name: value for name, value in EVENT.items() if name != "epcList"},
    "type": "AggregationEvent",
    "parentID": SSCC,
    "childEPCs": [PACK],
}


def document(event: dict[str, Any], **head: object) -> dict[str, Any]:
    found = {
        "@context": CONTEXT,
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-05-05T10:00:00Z",
        "epcisBody": {"eventList": [event]},
        **head,
    }
    return {name: value for name, value in found.items() if value != "-"}


def findings(data: bytes, *, ending: str = "json", limit: int = 1 << 24) -> list[Finding]:
    return list(check_document(io.BytesIO(data), format=ending, now=NOW, max_event=limit, max_head=limit))


def of_event(changes: dict[str, Any]) -> list[Finding]:
    event = {name: value for name, value in {**EVENT, **changes}.items() if value != "-"}
    return findings(json.dumps(document(event)).encode())


def of_head(changes: dict[str, Any]) -> list[Finding]:
    return findings(json.dumps(document(EVENT, **changes)).encode())


def xml(event: str, *, root: str = "EPCISDocument", prolog: str = "", body: str = "<EventList>%s</EventList>") -> bytes:
    return (
        f"{prolog}<epcis:{root} xmlns:epcis='urn:epcglobal:epcis:xsd:2' xmlns:ext='https://ns.example.com/' "
        f"schemaVersion='2.0' creationDate='2026-05-05T10:00:00Z'><EPCISBody>{body % event}</EPCISBody></epcis:{root}>"
    ).encode()


XML_EVENT = (
    "<ObjectEvent><eventTime>2026-05-04T10:00:00Z</eventTime><eventTimeZoneOffset>+02:00</eventTimeZoneOffset>"
    "<epcList><epc>urn:x:1</epc></epcList><action>ADD</action>%s</ObjectEvent>"
)
UTF_8 = "<?xml version='1.0' encoding='utf-8'?>"
JSON = json.dumps(document(EVENT)).encode()


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"ext:x": "end"}
    for _ in range(depth):
        found = {"ext:x": found}
    return found


def report(**fields: object) -> dict[str, Any]:
    found = {"type": "Temperature", "value": 4, "uom": "CEL", **fields}
    return {"sensorElementList": [{"sensorReport": [{name: item for name, item in found.items() if item != "-"}]}]}


def one_quantity(**fields: object) -> dict[str, Any]:
    return {"quantityList": [{"epcClass": LOT, "quantity": 5, **fields}]}


def declared(time: str) -> dict[str, Any]:
    return {"errorDeclaration": {"declarationTime": time, "reason": "did_not_occur"}}


HASHED = event_hash(event_from_json(EVENT))

# Code, changes of the event that break the rule, and changes that come near.
EVENT_CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("FIELD_MISSING", {"eventTimeZoneOffset": "-"}, {"bizStep": "-"}),
    ("FIELD_UNKNOWN", {"colour": "red"}, {"ext:colour": "red"}),
    ("FIELD_FORBIDDEN", {"parentID": "urn:x:1"}, {"bizLocation": {"id": "urn:x:1"}}),
    ("FIELD_MALFORMED", {"readPoint": "urn:x:1"}, {"readPoint": {"id": "urn:x:1"}}),
    ("LIST_EMPTY", {"bizTransactionList": []}, {"bizTransactionList": [{"bizTransaction": "urn:x:1"}]}),
    ("EVENT_TYPE_UNKNOWN", {"type": "ObjectEvents"}, {"type": "ObjectEvent"}),
    ("ACTION_UNKNOWN", {"action": "OBSERV"}, {"action": "OBSERVE"}),
    ("TIME_MALFORMED", {"eventTime": "2026-05-04T10:00:00"}, {"eventTime": "2026-05-04T10:00:00-14:00"}),
    ("OFFSET_MALFORMED", {"eventTimeZoneOffset": "+14:30"}, {"eventTimeZoneOffset": "+14:00"}),
    ("NUMBER_MALFORMED", one_quantity(quantity="9" * 65), one_quantity(quantity="9" * 64)),
    ("URI_MALFORMED", {"epcList": ["x"]}, {"epcList": ["urn:x"]}),
    ("EXTENSION_DEPTH", {"ext:deep": nested(31)}, {"ext:deep": nested(30)}),
    ("NAMESPACE_MISSING", {"ilmd": {"lotNumber": "A"}}, {"ilmd": {"cbvmda:lotNumber": "A"}}),
    ("NAMESPACE_RESERVED", {"epcis:bizStep": "x"}, {"gs1:bizStep": "x"}),
    ("CHARACTER_FORBIDDEN", {"ext:a": "\u0001"}, {"ext:a": "\t"}),
    ("NESTING_TOO_DEEP", {"ext:a": nested(130)}, {"ext:a": nested(100)}),
    ("ILMD_FORBIDDEN", {"action": "OBSERVE", "ilmd": {"ext:a": "b"}}, {"action": "ADD", "ilmd": {"ext:a": "b"}}),
    ("EVENT_TIME_FUTURE", {"eventTime": "2026-06-01T00:05:01Z"}, {"eventTime": "2026-06-01T00:05:00Z"}),
    ("EVENT_AFTER_RECORD", {"recordTime": "2026-05-04T09:54:59Z"}, {"recordTime": "2026-05-04T09:55:00Z"}),
    ("DECLARATION_BEFORE_EVENT", declared("2026-05-04T09:59:59Z"), declared("2026-05-04T10:00:00Z")),
    ("EVENT_HASH_WRONG", {"eventID": HASHED.replace(HASHED[20], "0" if HASHED[20] != "0" else "1")},
     {"eventID": HASHED}),
    ("EPC_TWICE", {"epcList": [PACK, "urn:epc:id:sgtin:9521321.000001.1"]}, {"epcList": [PACK, PACK + "0"]}),
    ("EPC_IS_CLASS", {"epcList": [LOT]}, {"epcList": ["urn:example:thing"]}),
    ("CLASS_IS_INSTANCE", one_quantity(epcClass=PACK), one_quantity(epcClass="urn:epc:idpat:sgtin:9521321.000001.*")),
    ("QUANTITY_NOT_POSITIVE", one_quantity(quantity=0), one_quantity(quantity="0.1", uom="KGM")),
    ("QUANTITY_NOT_WHOLE", one_quantity(quantity="1.5"), one_quantity(quantity="1.0")),
    ("UOM_MALFORMED", one_quantity(uom="kg"), one_quantity(uom="KGM")),
    ("BIZ_STEP_UNKNOWN", {"bizStep": "transforming"}, {"bizStep": "https://example.com/transforming"}),
    ("DISPOSITION_UNKNOWN", {"disposition": "in_transport"}, {"disposition": "cbv:Disp-in_transit"}),
    (
        "BIZ_TRANSACTION_TYPE_UNKNOWN",
        {"bizTransactionList": [{"type": "order", "bizTransaction": "urn:x:1"}]},
        {"bizTransactionList": [{"type": "po", "bizTransaction": "urn:x:1"}]},
    ),
    (
        "SOURCE_DEST_TYPE_UNKNOWN",
        {"sourceList": [{"type": "place", "source": "urn:x:1"}]},
        {"sourceList": [{"type": "location", "source": "urn:x:1"}]},
    ),
    (
        "ERROR_REASON_UNKNOWN",
        {"errorDeclaration": {"declarationTime": "2026-05-05T00:00:00Z", "reason": "changed_my_mind"}},
        declared("2026-05-05T00:00:00Z"),
    ),
    (
        "DISPOSITION_UNUSUAL",
        {"bizStep": "receiving", "disposition": "in_transit"},
        {"bizStep": "departing", "disposition": "in_transit"},
    ),
    (
        "DISPOSITION_SET_AND_UNSET",
        {"persistentDisposition": {"set": ["recalled"], "unset": ["cbv:Disp-recalled"]}},
        {"persistentDisposition": {"set": ["recalled"], "unset": ["completeness_verified"]}},
    ),
    ("SENSOR_TYPE_MISSING", report(type="-"), report(exception="ALARM_CONDITION")),
    ("SENSOR_TYPE_UNKNOWN", report(type="Warmth"), report(type="gs1:Temperature")),
    ("SENSOR_EXCEPTION_UNKNOWN", report(exception="ALARM"), report(exception="https://example.com/alarm")),
    ("SENSOR_COMPONENT_UNKNOWN", report(component="w"), report(component="x")),
    ("SENSOR_UOM_MALFORMED", report(uom="Celsius"), report(uom="CEL")),
    ("SENSOR_UOM_MISSING", report(uom="-"), report(type="Count", uom="-")),
    ("SENSOR_RANGE_WRONG", report(minValue=5, maxValue=4), report(minValue=4, maxValue=4)),
    ("CHECK_DIGIT_WRONG", {"epcList": [SSCC[:-1] + "0"]},
     {"epcList": [SSCC]}),
    ("EPC_MALFORMED", {"epcList": ["urn:epc:id:sgtin:9521321.00001.1"]},
     {"epcList": ["urn:epc:id:sgtin:9521321.000001.1"]}),
    ("EPC_PATTERN", one_quantity(epcClass="urn:epc:idpat:sgtin:9521321.*.*"),
     one_quantity(epcClass="urn:epc:idpat:sgtin:9521321.000001.*")),
    ("SERIAL_MALFORMED", {"epcList": ["urn:epc:id:sgtin:9521321.000001." + "1" * 21]},
     {"epcList": ["urn:epc:id:sgtin:9521321.000001." + "1" * 20]}),
    ("LOT_MALFORMED", one_quantity(epcClass="urn:epc:class:lgtin:9521321.000001." + "1" * 21),
     one_quantity(epcClass="urn:epc:class:lgtin:9521321.000001." + "1" * 20)),
    ("EXTENSION_MALFORMED", {"readPoint": {"id": "urn:epc:id:sgln:9521321.00000." + "1" * 21}},
     {"readPoint": {"id": "urn:epc:id:sgln:9521321.00000." + "1" * 20}}),
    ("AI_VALUE_MALFORMED", {"epcList": ["https://id.gs1.org/00/09521321000000001"]},
     {"epcList": [SSCC]}),
    ("EPC_NOT_GS1", {"epcList": ["https://example.com/01/about/us"]}, {"epcList": ["https://example.com/about/01/us"]}),
    ("AI_VALUE_TOO_LONG", {"epcList": ["https://id.gs1.org/01/09521321000018/21/" + "1" * 21]},
     {"epcList": ["https://id.gs1.org/01/09521321000018/21/" + "1" * 20]}),
    ("DATE_WRONG", {"epcList": [PACK + "?17=260231"]}, {"epcList": [PACK + "?17=260228"]}),
    ("KEY_DOUBTFUL", {"bizTransactionList": [{"bizTransaction": "urn:epcglobal:cbv:bt:0399999999990:XYZPO189"}]},
     {"bizTransactionList": [{"bizTransaction": "urn:epcglobal:cbv:bt:0399999999991:XYZPO189"}]}),
    ("TOO_LARGE", {"epcList": ["urn:epc:id:sgtin:9521321.000001." + "1" * 8193]}, {"epcList": ["urn:x:" + "1" * 8186]}),
]  # fmt: skip
# Code, changes of the document's head that break the rule, and changes that come near.
HEAD_CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("CONTEXT_MISSING", {"@context": "-"}, {"@context": "https://example.com"}),
    ("CONTEXT_MALFORMED", {"@context": [7]}, {"@context": [{"ext": {"@id": "https://example.com/"}}]}),
    ("SCHEMA_VERSION_UNKNOWN", {"schemaVersion": "3.0"}, {"schemaVersion": "1.2"}),
    ("EVENT_MALFORMED", {"epcisBody": {"eventList": ["x"]}}, {"epcisBody": {"eventList": []}}),
    ("PARENT_AMONG_CHILDREN", {"epcisBody": {"eventList": [{**AGGREGATION, "parentID": PACK}]}},
     {"epcisBody": {"eventList": [AGGREGATION]}}),
    ("QUERY_PARAMETER_UNKNOWN", {**ASKED, "EQ_colour": ["red"]},
     {**ASKED, "EQ_ext:colour": ["red"]}),
    ("QUERY_VALUE_WRONG", {**ASKED, "orderDirection": "UP"},
     {**ASKED, "orderDirection": "ASC"}),
    ("DOCUMENT_IS_QUERY", {**ASKED}, {}),
]  # fmt: skip
# Code, bytes and ending that break the rule, and bytes of the same ending that come near.
BYTE_CASES: list[tuple[str, str, bytes, bytes]] = [
    ("DOCUMENT_MALFORMED", "xml", b"<Invoice/>", xml("")),
    ("DOCUMENT_TRUNCATED", "json", JSON[:-1], JSON + b"\n"),
    ("XML_MALFORMED", "xml", xml("<a></b>"), xml(XML_EVENT % "")),
    ("XML_ENTITY_REFUSED", "xml", xml("", prolog="<!DOCTYPE a>"), xml("", prolog="<!-- DOCTYPE -->")),
    ("JSON_MALFORMED", "json", JSON.replace(b'"ADD"', b"ADD"), JSON),
    ("ENCODING_WRONG", "xml", xml("\N{PILL}", prolog=UTF_8).replace(b"\x8a", b"\xff"), xml("\N{PILL}", prolog=UTF_8)),
    ("FIELD_TWICE", "json", JSON.replace(b'"action"', b'"action": "ADD", "action"'), JSON),
    ("FIELD_ORDER", "xml", xml((XML_EVENT % "").replace("<action>ADD</action>", "").replace(
        "<epcList>", "<action>ADD</action><epcList>")), xml(XML_EVENT % "<bizStep>urn:x:1</bizStep>")),
]  # fmt: skip


@pytest.mark.parametrize(("code", "broken", "near"), EVENT_CASES, ids=[case[0] for case in EVENT_CASES])
def test_rule_of_events_is_broken_and_nearly_so(code: str, broken: dict[str, Any], near: dict[str, Any]) -> None:
    found = [finding for finding in of_event(broken) if finding.code == code]

    assert found
    assert {finding.event_index for finding in found} == {0}
    assert all(finding.place.startswith("/epcisBody/eventList/0") for finding in found)
    assert code not in {finding.code for finding in of_event(near)}


@pytest.mark.parametrize(("code", "broken", "near"), HEAD_CASES, ids=[case[0] for case in HEAD_CASES])
def test_rule_of_documents_is_broken_and_nearly_so(code: str, broken: dict[str, Any], near: dict[str, Any]) -> None:
    assert code in {finding.code for finding in of_head(broken)}
    assert code not in {finding.code for finding in of_head(near)}


@pytest.mark.parametrize(("code", "ending", "broken", "near"), BYTE_CASES, ids=[case[0] for case in BYTE_CASES])
def test_rule_of_files_is_broken_and_nearly_so(code: str, ending: str, broken: bytes, near: bytes) -> None:
    assert code in {finding.code for finding in findings(broken, ending=ending)}
    assert code not in {finding.code for finding in findings(near, ending=ending)}


@pytest.mark.parametrize("ending", ["json", "xml"])
def test_too_large_an_event_is_told_and_the_next_is_read(ending: str) -> None:
    large, wrong = "urn:x:" + "1" * 200_000, "BIZ_STEP_UNKNOWN"
    if ending == "json":
        events = [{**EVENT, "epcList": [large]}, {**EVENT, "bizStep": "x"}]
        data = json.dumps(document(EVENT, epcisBody={"eventList": events})).encode()
    else:
        one = (XML_EVENT % "").replace("urn:x:1", large)
        data = xml(one + XML_EVENT % "<bizStep>x</bizStep>")

    found = findings(data, ending=ending, limit=100_000)

    assert [(finding.code, finding.event_index) for finding in found] == [("EVENT_TOO_LARGE", 0), (wrong, 1)]
    assert [finding.code for finding in findings(data, ending=ending)] == [wrong]


@pytest.mark.parametrize("ending", ["json", "xml"])
def test_too_large_a_header_is_told_and_events_are_read(ending: str) -> None:
    if ending == "json":
        header = {"ext:a": "1" * 200_000}
        data = json.dumps(document({**EVENT, "bizStep": "x"}, epcisHeader=header)).encode()
    else:
        header_xml = f"<EPCISHeader><ext:a>{'1' * 200_000}</ext:a></EPCISHeader><EPCISBody>"
        data = xml(XML_EVENT % "<bizStep>x</bizStep>").replace(b"<EPCISBody>", header_xml.encode())

    codes = [finding.code for finding in findings(data, ending=ending, limit=100_000)]

    assert codes == ["HEADER_TOO_LARGE", "BIZ_STEP_UNKNOWN"]
    assert [finding.code for finding in findings(data, ending=ending)] == ["BIZ_STEP_UNKNOWN"]


@pytest.mark.parametrize(("count", "counted"), [(10_000, []), (10_002, ["2 more faults of this event's syntax"])])
def test_so_many_faults_of_one_event_are_told_and_the_rest_counted(count: int, counted: list[str]) -> None:
    found = of_event({"epcList": [7] * count})

    assert len(found) == min(count, 10_000) + len(counted)
    assert [finding.message for finding in found if finding.code == "FAULTS_COUNTED"] == counted


def test_every_rule_of_the_standards_has_its_case() -> None:
    tried = {case[0] for case in (*EVENT_CASES, *HEAD_CASES, *BYTE_CASES)} | {
        "EVENT_TOO_LARGE",
        "FAULTS_COUNTED",
        "HEADER_TOO_LARGE",
    }

    assert tried == {rule.code for rule in RULES if rule.profile is not Profile.DSCSA}


def test_sound_documents_have_no_findings() -> None:
    assert of_event({}) == []
    assert of_head({"epcisBody": {"eventList": [AGGREGATION, PLAIN]}}) == []
    assert findings(xml(XML_EVENT % ""), ending="xml") == []
