"""How a walk over a document goes on after each fault of its form, and where it says that the fault is."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from medtrail.epcis.rules import Finding, Profile, check_document
from medtrail.errors import MalformedError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "type": "ObjectEvent",
    "eventTime": "2026-05-04T10:00:00Z",
    "eventTimeZoneOffset": "+02:00",
    "action": "OBSERVE",
    "epcList": ["urn:x:1"],
}
DOCUMENT: dict[str, Any] = {
    "@context": [{"ext": "https://ns.example.com/"}],
    "type": "EPCISDocument",
    "schemaVersion": "2.0",
    "creationDate": "2026-05-05T10:00:00Z",
    "epcisBody": {"eventList": [EVENT]},
}
AT = "/epcisBody/eventList/0"
XML_AT = "/EPCISDocument/EPCISBody/EventList/*[1]"
TIMES = "<eventTime>2026-05-04T10:00:00Z</eventTime><eventTimeZoneOffset>+02:00</eventTimeZoneOffset>"
SUBJECT = "<epcList><epc>urn:x:1</epc></epcList><action>OBSERVE</action>"


def findings(data: bytes, ending: str) -> list[Finding]:
    return list(check_document(io.BytesIO(data), format=ending, now=NOW))


def told(data: bytes, ending: str) -> list[tuple[str, str]]:
    return [(finding.code, finding.place) for finding in findings(data, ending)]


def of_event(**changes: object) -> list[tuple[str, str]]:
    event = {name: value for name, value in {**EVENT, **changes}.items() if value != "-"}
    return told(json.dumps({**DOCUMENT, "epcisBody": {"eventList": [event]}}).encode(), "json")


def of_head(**changes: object) -> list[tuple[str, str]]:
    document = {name: value for name, value in {**DOCUMENT, **changes}.items() if value != "-"}
    return told(json.dumps(document).encode(), "json")


def xml(inside: str, *, root: str = "EPCISDocument", attributes: str = "", before: str = "", after: str = "") -> bytes:
    return (
        f"<e:{root} xmlns:e='urn:epcglobal:epcis:xsd:2' xmlns:ext='https://ns.example.com/' schemaVersion='2.0' "
        f"creationDate='2026-05-05T10:00:00Z'{attributes}>{before}<EPCISBody><EventList>{inside}</EventList></EPCISBody>"
        f"{after}</e:{root}>"
    ).encode()


def of_xml(inside: str, attributes: str = "") -> list[tuple[str, str]]:
    return told(xml(f"<ObjectEvent{attributes}>{TIMES}{SUBJECT}{inside}</ObjectEvent>"), "xml")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"type": "-"}, [("FIELD_MISSING", f"{AT}/type")]),
        ({"type": "Invoice"}, [("EVENT_TYPE_UNKNOWN", f"{AT}/type")]),
        (
            {"action": "SHIPPED", "parentID": "x"},
            [
                ("ACTION_UNKNOWN", f"{AT}/action"),
                ("FIELD_FORBIDDEN", f"{AT}/parentID"),
                ("URI_MALFORMED", f"{AT}/parentID"),
            ],
        ),
        ({"epcList": 7}, [("FIELD_MALFORMED", f"{AT}/epcList")]),
        (
            {"epcList": ["urn:x:1", 7, " "]},
            [("FIELD_MALFORMED", f"{AT}/epcList/1"), ("FIELD_MALFORMED", f"{AT}/epcList/2")],
        ),
        ({"epcList": "urn:x:1"}, []),
        ({"epcList": []}, [("FIELD_MISSING", f"{AT}/epcList")]),
        ({"eventID": ""}, []),
        ({"readPoint": {}}, [("FIELD_MISSING", f"{AT}/readPoint/id")]),
        ({"readPoint": {"id": "urn:x:1", "colour": 1, "ext:a": 2}}, [("FIELD_UNKNOWN", f"{AT}/readPoint/colour")]),
        ({"quantityList": {}}, [("FIELD_MALFORMED", f"{AT}/quantityList")]),
        ({"quantityList": [7, {"epcClass": "urn:x:1", "quantity": ""}]}, [("FIELD_MALFORMED", f"{AT}/quantityList/0")]),
        ({"quantityList": [{"epcClass": "urn:x:1", "ext:a": 1}]}, [("FIELD_UNKNOWN", f"{AT}/quantityList/0")]),
        ({"quantityList": [{"epcClass": "urn:x:1", "@id": 1}]}, [("FIELD_UNKNOWN", f"{AT}/quantityList/0/@id")]),
        (
            {"sourceList": [{"source": "urn:x:1"}, {"type": "location"}]},
            [
                ("FIELD_MISSING", f"{AT}/sourceList/0/type"),
                ("FIELD_MISSING", f"{AT}/sourceList/1/source"),
            ],
        ),
        (
            {"persistentDisposition": {"set": ["cbv:Disp-recalled", 7], "unset": "lost"}},
            [
                ("FIELD_MALFORMED", f"{AT}/persistentDisposition/set/1"),
                ("DISPOSITION_UNKNOWN", f"{AT}/persistentDisposition/unset/0"),
            ],
        ),
        (
            {
                "sensorElementList": [
                    {
                        "type": "epcis:SensorElement",
                        "sensorReport": [
                            {"type": "Count", "booleanValue": "yes", "stringValue": [1], "value": "much", "time": 1}
                        ],
                    }
                ]
            },
            [
                ("TIME_MALFORMED", f"{AT}/sensorElementList/0/sensorReport/0/time"),
                ("NUMBER_MALFORMED", f"{AT}/sensorElementList/0/sensorReport/0/value"),
                ("FIELD_MALFORMED", f"{AT}/sensorElementList/0/sensorReport/0/stringValue"),
                ("FIELD_MALFORMED", f"{AT}/sensorElementList/0/sensorReport/0/booleanValue"),
            ],
        ),
        (
            {
                "sensorElementList": [
                    {
                        "sensorMetadata": {"deviceID": "urn:epc:id:giai:4000001.1"},
                        "sensorReport": [
                            {
                                "type": "Count",
                                "booleanValue": True,
                                "deviceID": "https://id.gs1.org/8003/00000000000018",
                            }
                        ],
                    }
                ]
            },
            [
                ("KEY_DOUBTFUL", f"{AT}/sensorElementList/0/sensorReport/0/deviceID"),
            ],
        ),
        ({"errorDeclaration": {"declarationTime": 7}}, [("TIME_MALFORMED", f"{AT}/errorDeclaration/declarationTime")]),
        ({"ilmd": "lot"}, [("FIELD_MALFORMED", f"{AT}/ilmd")]),
        ({"@context": 7, "isA": "ObjectEvent", "@id": "x"}, [("CONTEXT_MALFORMED", f"{AT}/@context")]),
        ({"@graph": []}, [("FIELD_UNKNOWN", f"{AT}/@graph")]),
        (
            {"ext:a": [["x"]], "https://ns.example.com/b~c": {"ext:d": {"a": [[1]]}}},
            [
                ("FIELD_MALFORMED", f"{AT}/ext:a"),
                ("FIELD_MALFORMED", f"{AT}/https:~1~1ns.example.com~1b~0c"),
            ],
        ),
        (
            {"parentID": "urn:epc:id:sgtin:030001.12345.1"},
            [
                ("FIELD_FORBIDDEN", f"{AT}/parentID"),
                ("EPC_MALFORMED", f"{AT}/parentID"),
            ],
        ),
    ],
)
def test_faults_of_an_event_in_json_stand_where_they_are(
    changes: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    assert of_event(**changes) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"creationDate": "today", "sender": [1]},
            [("FIELD_MALFORMED", "/sender"), ("TIME_MALFORMED", "/creationDate")],
        ),
        ({"creationDate": "-"}, [("FIELD_MISSING", "/creationDate")]),
        ({"creationDate": "-", "createdAt": "2026-05-05T10:00:00Z"}, []),
        ({"creationDate": "-", "type": "EPCISQueryDocument"}, []),
        ({"schemaVersion": "-"}, [("FIELD_MISSING", "/schemaVersion")]),
        ({"colour": "red", "ext:colour": "red"}, [("FIELD_UNKNOWN", "/colour")]),
        ({"epcisBody": 7}, [("FIELD_MISSING", "/epcisBody/eventList")]),
        ({"epcisBody": "-"}, [("FIELD_MISSING", "/epcisBody"), ("FIELD_MISSING", "/epcisBody/eventList")]),
        ({"epcisBody": {}}, [("FIELD_MISSING", "/epcisBody/eventList")]),
        ({"epcisBody": {"event": EVENT}}, []),
        ({"epcisBody": {"queryResults": {"queryName": "q", "resultsBody": {"eventList": []}}}}, []),
        ({"epcisBody": {"eventList": [], "colour": "red"}}, [("FIELD_UNKNOWN", "/epcisBody/colour")]),
        ({"epcisHeader": 7}, [("FIELD_MALFORMED", "/epcisHeader")]),
        (
            {"epcisHeader": {"colour": "red", "epcisMasterData": {"vocabularyList": 7}}},
            [
                ("FIELD_MALFORMED", "/epcisHeader/epcisMasterData/vocabularyList"),
                ("FIELD_UNKNOWN", "/epcisHeader/colour"),
            ],
        ),
        (
            {"epcisHeader": {"epcisMasterData": {"vocabularyList": [7, {"type": "t", "vocabularyElementList": [7]}]}}},
            [
                ("FIELD_MALFORMED", "/epcisHeader/epcisMasterData/vocabularyList/0"),
                ("FIELD_MALFORMED", "/epcisHeader/epcisMasterData/vocabularyList/1/vocabularyElementList/0"),
            ],
        ),
    ],
)
def test_faults_of_a_head_in_json_stand_where_they_are(
    changes: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    assert of_head(**changes) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"{}",
            [
                ("CONTEXT_MISSING", "/@context"),
                ("FIELD_MISSING", "/type"),
                ("FIELD_MISSING", "/eventTime"),
                ("FIELD_MISSING", "/eventTimeZoneOffset"),
            ],
        ),
        (b'{"@context":"x"', [("DOCUMENT_TRUNCATED", "")]),
        (b'{"@context":"x",7:1}', [("JSON_MALFORMED", "")]),
        (b'{"@context":"x"]', [("JSON_MALFORMED", "")]),
        (b'{"@context" "x"}', [("JSON_MALFORMED", "")]),
        (b'{"@context":"x","type":"EPCISDocument","schemaVersion":2.0', [("DOCUMENT_TRUNCATED", "")]),
        (b'{"@context":"x","type":"EPCISDocument","schemaVersion":2', [("DOCUMENT_TRUNCATED", "")]),
    ],
)
def test_json_that_is_no_document_is_told_apart(data: bytes, expected: list[tuple[str, str]]) -> None:
    assert told(data, "json") == expected


QUERIES: list[tuple[str, object, list[str]]] = [
    ("eventType", ["ObjectEvent", "https://example.com/Event"], []),
    ("eventType", ["Invoice"], ["EVENT_TYPE_UNKNOWN"]),
    ("EQ_action", "https://example.com/", ["ACTION_UNKNOWN"]),
    ("EQ_bizStep", ["shipping", "urn:epcglobal:cbv:bizstep:packing", "shiping", 7], ["BIZ_STEP_UNKNOWN"] * 2),
    ("EQ_persistentDisposition_set", ["recalled", "lost"], ["DISPOSITION_UNKNOWN"]),
    ("GE_eventTime", "2026-05-04T10:00:00Z", []),
    ("LT_recordTime", "2026-05-04", ["TIME_MALFORMED"]),
    ("GT_quantity", 5, []),
    ("LE_value_CEL", "warm", ["NUMBER_MALFORMED"]),
    ("eventCountLimit", 100, []),
    ("maxEventCount", 0, ["QUERY_VALUE_WRONG"]),
    ("maxEventCount", True, ["QUERY_VALUE_WRONG"]),
    ("orderDirection", "SIDEWAYS", ["QUERY_VALUE_WRONG"]),
    ("orderBy", "eventTime", []),
    ("MATCH_epc", ["urn:epc:idpat:sgtin:*.*.*"], []),
    ("MATCH_epc", [None], ["QUERY_VALUE_WRONG"]),
    ("MATCH_all", ["urn:x:1"], ["QUERY_PARAMETER_UNKNOWN"]),
    ("EXISTS_errorDeclaration", None, []),
    ("EQ_ILMD_https://ns.example.com/grade", "A", []),
    ("perPage", 30, []),
]


@pytest.mark.parametrize(("name", "value", "codes"), QUERIES, ids=[f"{n}-{case[0]}" for n, case in enumerate(QUERIES)])
def test_a_query_is_judged_by_its_parameters(name: str, value: object, codes: list[str]) -> None:
    in_json = told(json.dumps({"@context": "x", "GE_eventTime": "2026-05-04T10:00:00Z", name: value}).encode(), "json")

    assert in_json == [("DOCUMENT_IS_QUERY", ""), *((code, f"/{name}".replace("//", "/")) for code in codes)]


def test_no_profile_is_held_against_a_query() -> None:
    data = io.BytesIO(b'{"@context":"x","EQ_action":["ADD"]}')
    found = check_document(data, format="json", now=NOW, profiles=[Profile.DSCSA])

    assert [finding.code for finding in found] == ["DOCUMENT_IS_QUERY"]


def test_a_query_in_xml_is_judged_by_its_parameters() -> None:
    poll = (
        "<q:Poll xmlns:q='urn:epcglobal:epcis-query:xsd:2'><queryName>SimpleEventQuery</queryName><params>"
        "<param><name>eventType</name><value><string>ObjectEvent</string><string>Invoice</string></value></param>"
        "<param><name>EQ_colour</name><value>red</value></param><param><name>EQ_action</name><value/></param>"
        "</params></q:Poll>"
    )
    at = "/EPCISQueryDocument/EPCISBody/Poll"
    data = xml("", root="EPCISQueryDocument").replace(b"<EventList></EventList>", poll.encode())

    assert told(data, "xml") == [
        ("DOCUMENT_IS_QUERY", at),
        ("EVENT_TYPE_UNKNOWN", f"{at}/params/param[1]"),
        ("QUERY_PARAMETER_UNKNOWN", f"{at}/params/param[2]"),
        ("FIELD_MISSING", f"{at}/params/param[3]"),
    ]
    assert told(data.replace(b"SimpleEventQuery", b""), "xml")[1] == ("FIELD_MISSING", at)


def test_a_bare_event_in_json_is_judged_like_one_in_a_document() -> None:
    bare = {**EVENT, "@context": "x", "schemaVersion": "2.0", "creationDate": "soon", "bizStep": "x"}

    assert told(json.dumps(bare).encode(), "json") == [
        ("TIME_MALFORMED", "/creationDate"),
        ("BIZ_STEP_UNKNOWN", "/bizStep"),
    ]


def test_a_head_may_have_many_extensions() -> None:
    assert of_head(**{f"ext:a{number}": number for number in range(200)}) == []


def test_a_name_has_a_bounded_length() -> None:
    assert of_head(**{"ext:" + "a" * 1100: 1}) == [("JSON_MALFORMED", "")]


def test_a_name_twice_in_the_head_is_told_beside_the_events() -> None:
    data = json.dumps(DOCUMENT).replace(
        '"type": "EPCISDocument"', '"type": "EPCISDocument", "sender": "a", "sender": "b"'
    )

    assert told(data.encode(), "json") == [("FIELD_TWICE", "/sender")]


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<colour/>", [("FIELD_UNKNOWN", f"{XML_AT}/colour")]),
        ("<ext:colour/>", []),
        ("<action>ADD</action>", [("FIELD_TWICE", f"{XML_AT}/action[1]")]),
        ("<bizStep><a/></bizStep>", [("FIELD_MALFORMED", f"{XML_AT}/bizStep")]),
        ("<bizStep colour='red'>urn:x:1</bizStep>", [("FIELD_UNKNOWN", f"{XML_AT}/bizStep/@colour")]),
        (
            "<certificationInfo>urn:x:1</certificationInfo><certificationInfo>urn:x:2</certificationInfo>",
            [("FIELD_ORDER", f"{XML_AT}/certificationInfo[1]")],
        ),
        (
            "<readPoint><id>urn:x:1</id><id>urn:x:2</id><colour/><ext:a/></readPoint>",
            [
                ("FIELD_TWICE", f"{XML_AT}/readPoint/id[1]"),
                ("FIELD_UNKNOWN", f"{XML_AT}/readPoint/colour"),
            ],
        ),
        (
            (
                "<bizTransactionList><bizTransaction type='po' colour='red'>urn:x:1</bizTransaction><a>urn:x:2</a>"
                "</bizTransactionList>"
            ),
            [
                ("FIELD_UNKNOWN", f"{XML_AT}/bizTransactionList/bizTransaction/@colour"),
                ("FIELD_UNKNOWN", f"{XML_AT}/bizTransactionList/a"),
            ],
        ),
        (
            (
                "<quantityList><quantityElement><epcClass>urn:x:1</epcClass><epcClass>urn:x:1</epcClass><uom>KGM</uom>"
                "<quantity>5</quantity><weight/></quantityElement></quantityList>"
            ),
            [
                ("FIELD_TWICE", f"{XML_AT}/quantityList/quantityElement/epcClass[1]"),
                ("FIELD_ORDER", f"{XML_AT}/quantityList/quantityElement/quantity"),
                ("FIELD_UNKNOWN", f"{XML_AT}/quantityList/quantityElement/weight"),
            ],
        ),
        (
            "<quantityList><quantityElement><epcClass/></quantityElement></quantityList>",
            [("FIELD_MISSING", f"{XML_AT}/quantityList/quantityElement/epcClass")],
        ),
        (
            (
                "<sensorElementList><sensorElement><sensorMetadata/><sensorMetadata/><sensorReport "
                "type='Count' colour='red' ext:a='b'><ext:c/><d/></sensorReport><sensorReport type='Heat'/><ext:e/>"
                "</sensorElement></sensorElementList>"
            ),
            [
                ("FIELD_TWICE", f"{XML_AT}/sensorElementList/sensorElement/sensorMetadata[1]"),
                ("FIELD_UNKNOWN", f"{XML_AT}/sensorElementList/sensorElement/sensorReport[1]/d"),
                ("FIELD_UNKNOWN", f"{XML_AT}/sensorElementList/sensorElement/sensorReport[1]/@colour"),
                ("SENSOR_TYPE_UNKNOWN", f"{XML_AT}/sensorElementList/sensorElement/sensorReport[2]/@type"),
            ],
        ),
        (
            "<persistentDisposition><set>lost</set><set>found</set><put/></persistentDisposition>",
            [
                ("FIELD_UNKNOWN", f"{XML_AT}/persistentDisposition/put"),
                ("DISPOSITION_UNKNOWN", f"{XML_AT}/persistentDisposition/set[1]"),
                ("DISPOSITION_UNKNOWN", f"{XML_AT}/persistentDisposition/set[2]"),
            ],
        ),
        ("<ilmd><lotNumber/></ilmd>", [("NAMESPACE_MISSING", f"{XML_AT}/ilmd/lotNumber")]),
        ("<ext:a>" + "<ext:b>" * 70 + "</ext:b>" * 70 + "</ext:a>", [("EXTENSION_DEPTH", f"{XML_AT}/a")]),
        ("<extension><bizLocation><id>urn:x:1</id></bizLocation></extension>", []),
        ("<recordTime/>", [("FIELD_ORDER", f"{XML_AT}/recordTime"), ("TIME_MALFORMED", f"{XML_AT}/recordTime")]),
    ],
)
def test_faults_of_an_event_in_xml_stand_where_they_are(inside: str, expected: list[tuple[str, str]]) -> None:
    assert of_xml(inside) == expected


def test_corrective_events_have_their_own_element() -> None:
    declaration = (
        "<errorDeclaration><declarationTime>2026-05-05T00:00:00Z</declarationTime><correctiveEventIDs>"
        "<correctiveEventID>urn:x:1</correctiveEventID><eventID>urn:x:2</eventID></correctiveEventIDs></errorDeclaration>"
    )

    assert told(xml(f"<ObjectEvent>{TIMES}{declaration}{SUBJECT}</ObjectEvent>"), "xml") == [
        ("FIELD_UNKNOWN", f"{XML_AT}/errorDeclaration/correctiveEventIDs/eventID")
    ]


def test_what_only_the_readers_refuse_is_refused_too() -> None:
    wrapped = SUBJECT.replace("<epc>", "<extension><epc>").replace("</epc>", "</epc></extension>")

    assert told(xml(f"<ObjectEvent>{TIMES}{wrapped}</ObjectEvent>"), "xml") == [("FIELD_UNKNOWN", XML_AT)]


def test_lines_are_those_of_the_file() -> None:
    event = f"<ObjectEvent>\n{TIMES}\n{SUBJECT}\n<bizStep>x</bizStep></ObjectEvent>\n"

    assert [finding.line for finding in findings(xml(event * 17_000), "xml")][-2:] == [67_996, 68_000]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (xml("", before="<colour/><EPCISHeader/>"), [("FIELD_UNKNOWN", "/EPCISDocument/colour")]),
        (xml("", after="<ext:colour/><extension><ext:a/></extension>"), []),
        (
            xml("", after="<ext:a>" + "<ext:b>" * 70 + "</ext:b>" * 70 + "</ext:a>"),
            [("EXTENSION_DEPTH", "/EPCISDocument/a")],
        ),
        (xml("", before="<EPCISHeader><colour/></EPCISHeader>"), [("FIELD_UNKNOWN", "/EPCISDocument/EPCISHeader")]),
        (
            xml("</EventList><colour><a/></colour><EventList>"),
            [
                ("FIELD_UNKNOWN", "/EPCISDocument/EPCISBody/colour"),
                ("FIELD_TWICE", "/EPCISDocument/EPCISBody/EventList"),
            ],
        ),
        (
            xml("").replace(b"EventList", b"Events"),
            [
                ("FIELD_UNKNOWN", "/EPCISDocument/EPCISBody/Events"),
                ("FIELD_MISSING", "/EPCISDocument/EPCISBody/EventList"),
            ],
        ),
        (xml("<Invoice/>"), [("FIELD_MISSING", XML_AT), ("FIELD_MISSING", XML_AT), ("EVENT_TYPE_UNKNOWN", XML_AT)]),
        (
            xml("").replace(b"creationDate='2026-05-05T10:00:00Z'", b""),
            [("FIELD_MISSING", "/EPCISDocument/@creationDate")],
        ),
        (xml("").replace(b"2026-05-05T10:00:00Z", b"now"), [("TIME_MALFORMED", "/EPCISDocument/@creationDate")]),
        (xml("").replace(b"creationDate", b"createdAt"), []),
        (xml("").replace(b"schemaVersion='2.0'", b""), [("FIELD_MISSING", "/EPCISDocument/@schemaVersion")]),
        (
            xml("").replace(b"schemaVersion='2.0'", b"schemaVersion='9'"),
            [("SCHEMA_VERSION_UNKNOWN", "/EPCISDocument/schemaVersion")],
        ),
    ],
)
def test_faults_of_a_document_in_xml_stand_where_they_are(data: bytes, expected: list[tuple[str, str]]) -> None:
    assert told(data, "xml") == expected


def test_a_bare_event_in_xml_is_judged_like_one_in_a_document() -> None:
    event = f"<ObjectEvent creationDate='2026-05-05T10:00:00Z' colour='red'>{TIMES}{SUBJECT}</ObjectEvent>"

    assert told(event.encode(), "xml") == [("FIELD_UNKNOWN", "/ObjectEvent/@colour")]


def test_elements_of_the_standard_may_be_in_its_namespace() -> None:
    data = xml(f"<ObjectEvent>{TIMES}{SUBJECT}<bizStep>x</bizStep></ObjectEvent>").replace(
        b"<e:EPCISDocument", b"<e:EPCISDocument xmlns='urn:epcglobal:epcis:xsd:2'"
    )

    assert told(data, "xml") == [("BIZ_STEP_UNKNOWN", f"{XML_AT}/bizStep")]


def test_an_event_that_does_not_end_is_not_waited_for() -> None:
    data = xml(f"<ObjectEvent>{TIMES}{SUBJECT}" + "<ext:a>x</ext:a>" * 40_000 + "</ObjectEvent>")
    found = list(check_document(io.BytesIO(data), format="xml", now=NOW, max_event=1000))

    assert [(finding.code, finding.event_index) for finding in found] == [("EVENT_TOO_LARGE", None)]


def test_a_document_has_a_bounded_number_of_extensions() -> None:
    assert told(xml("", after="<ext:a/>" * 10_001), "xml") == []


def test_other_extensions_of_a_shipment_are_no_matter_of_the_profile() -> None:
    event = {**EVENT, "bizStep": "shipping", "ext:dropShipment": "maybe"}
    data = json.dumps({**DOCUMENT, "epcisBody": {"eventList": [event]}}).encode()
    found = check_document(io.BytesIO(data), format="json", now=NOW, profiles=[Profile.DSCSA])

    assert "DSCSA_DROP_SHIPMENT_MALFORMED" not in {finding.code for finding in found}


def test_other_formats_are_refused_at_once() -> None:
    with pytest.raises(MalformedError, match="expected json, jsonld or xml") as caught:
        next(check_document(io.BytesIO(), format=".csv", now=NOW))
    assert caught.value.code == "FORMAT_UNKNOWN"
