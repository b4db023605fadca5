"""Documents of wrong form, hostile ones among them: a clear error at the field, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.epcis import EpcisDocument, documents, event_from_json, read_json, read_xml, write_json, write_xml
from medtrail.errors import MalformedError, MedtrailError, TooLargeError

CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
EVENT: dict[str, Any] = {
    "type": "ObjectEvent",
    "eventTime": "2026-05-04T10:00:00Z",
    "eventTimeZoneOffset": "+00:00",
    "action": "OBSERVE",
    "epcList": ["urn:x:1"],
}


def document(**changes: object) -> dict[str, Any]:
    event = {key: value for key, value in {**EVENT, **changes}.items() if value != "-"}
    return {
        "@context": [CONTEXT, {"ext": "https://ns.example.com/"}],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-05-04T10:00:00Z",
        "epcisBody": {"eventList": [event]},
    }


def code_and_field(read: Callable[[], object]) -> tuple[str, str | None]:
    with pytest.raises(MalformedError) as caught:
        read()
    return caught.value.code, caught.value.field


AT = "$.epcisBody.eventList[0]"


def _deep(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"ext:x": "end"}
    for _ in range(depth):
        found = {"ext:x": found}
    return found


BAD_EVENTS: list[tuple[dict[str, object], str, str]] = [
    ({"type": "-"}, "FIELD_MISSING", f"{AT}.type"),
    ({"type": "Event"}, "EVENT_TYPE_UNKNOWN", f"{AT}.type"),
    ({"type": 1}, "FIELD_MALFORMED", f"{AT}.type"),
    ({"action": "CREATE"}, "ACTION_UNKNOWN", f"{AT}.action"),
    ({"eventTime": "-"}, "FIELD_MISSING", f"{AT}.eventTime"),
    ({"eventTime": "22-07-2026"}, "TIME_MALFORMED", f"{AT}.eventTime"),
    ({"eventTime": "2026-02-30T00:00:00Z"}, "TIME_MALFORMED", f"{AT}.eventTime"),
    ({"eventTime": "2026-05-04T10:00:00"}, "TIME_MALFORMED", f"{AT}.eventTime"),
    ({"eventTime": "0001-01-01T00:00:00+14:00"}, "TIME_MALFORMED", f"{AT}.eventTime"),
    ({"recordTime": 7}, "TIME_MALFORMED", f"{AT}.recordTime"),
    ({"epcList": [7]}, "FIELD_MALFORMED", f"{AT}.epcList[0]"),
    ({"epcList": [" "]}, "FIELD_MALFORMED", f"{AT}.epcList[0]"),
    ({"quantityList": {}}, "FIELD_MALFORMED", f"{AT}.quantityList"),
    ({"quantityList": [{"quantity": 1}]}, "FIELD_MISSING", f"{AT}.quantityList[0].epcClass"),
    ({"quantityList": [{"epcClass": "urn:x:1", "quantity": "many"}]}, "NUMBER_MALFORMED",
     f"{AT}.quantityList[0].quantity"),
    ({"quantityList": [{"epcClass": "urn:x:1", "quantity": True}]}, "NUMBER_MALFORMED",
     f"{AT}.quantityList[0].quantity"),
    ({"quantityList": [{"epcClass": "urn:x:1", "quantity": "9" * 65}]}, "NUMBER_MALFORMED",
     f"{AT}.quantityList[0].quantity"),
    ({"quantityList": [{"epcClass": "urn:x:1", "weight": 5}]}, "FIELD_UNKNOWN", f"{AT}.quantityList[0].weight"),
    ({"readPoint": "urn:x:1"}, "FIELD_MALFORMED", f"{AT}.readPoint"),
    ({"readPoint": {}}, "FIELD_MISSING", f"{AT}.readPoint.id"),
    ({"sourceList": [{"source": "urn:x:1"}]}, "FIELD_MISSING", f"{AT}.sourceList[0].type"),
    ({"colour": "red"}, "FIELD_UNKNOWN", f"{AT}.colour"),
    ({"ilmd": "lot"}, "FIELD_MALFORMED", f"{AT}.ilmd"),
    ({"ilmd": {"lotNumber": "1"}}, "FIELD_UNKNOWN", f"{AT}.ilmd.lotNumber"),
    ({"ext:list": [["nested"]]}, "FIELD_MALFORMED", f"{AT}.ext:list"),
    ({"ext:text": {"#text": {"a": "b"}}}, "FIELD_MALFORMED", f"{AT}.ext:text"),
    ({"ext:deep": _deep(40)}, "EXTENSION_DEPTH", f"{AT}.ext:deep" + ".ext:x" * 32),
    ({"sensorElementList": [{"sensorReport": [{"booleanValue": "yes"}]}]}, "FIELD_MALFORMED",
     f"{AT}.sensorElementList[0].sensorReport[0].booleanValue"),
    ({"sensorElementList": [{"sensorReport": [{"stringValue": ["a"]}]}]}, "FIELD_MALFORMED",
     f"{AT}.sensorElementList[0].sensorReport[0].stringValue"),
    ({"@context": [7]}, "CONTEXT_MALFORMED", f"{AT}.@context"),
    ({"@context": {"p": 7}}, "CONTEXT_MALFORMED", f"{AT}.@context.p"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code", "field"), BAD_EVENTS, ids=[f"{n}-{case[2][-30:]}" for n, case in enumerate(BAD_EVENTS)]
)
def test_refuses_json_event_of_wrong_form(changes: dict[str, object], code: str, field: str) -> None:
    data = json.dumps(document(**changes)).encode()

    assert code_and_field(lambda: read_json(data)) == (code, field)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"@context": None}, "CONTEXT_MALFORMED", "$.@context"),
        ({"epcisBody": None}, "FIELD_MISSING", "$.epcisBody"),
        ({"epcisBody": {"eventList": {}}}, "FIELD_MISSING", "$.epcisBody.eventList"),
        ({"epcisBody": {"eventList": ["x"]}}, "EVENT_MALFORMED", "$.epcisBody.eventList[0]"),
        ({"creationDate": "today"}, "TIME_MALFORMED", "$.creationDate"),
        ({"sender": ["x"]}, "FIELD_MALFORMED", "$.sender"),
        ({"unknown": 1}, "FIELD_UNKNOWN", "$.unknown"),
        ({"epcisHeader": {"epcisMasterData": {"vocabularyList": 7}}}, "FIELD_MALFORMED",
         "$.epcisHeader.epcisMasterData.vocabularyList"),
        ({"epcisHeader": {"epcisMasterData": {"vocabularyList": [7]}}}, "FIELD_MALFORMED",
         "$.epcisHeader.epcisMasterData.vocabularyList[0]"),
        ({"epcisHeader": {"epcisMasterData": {"vocabularyList": [{"type": "t", "vocabularyElementList": 7}]}}},
         "FIELD_MALFORMED", "$.epcisHeader.epcisMasterData.vocabularyList[0].vocabularyElementList"),
        ({"epcisHeader": {"epcisMasterData": {"vocabularyList": [{"type": "t", "vocabularyElementList": [7]}]}}},
         "FIELD_MALFORMED", "$.epcisHeader.epcisMasterData.vocabularyList[0].vocabularyElementList[0]"),
        ({"epcisHeader": {"epcisMasterData": {"vocabularyList": [
            {"type": "t", "vocabularyElementList": [{"id": "i", "attributes": 7}]}]}}},
         "FIELD_MALFORMED", "$.epcisHeader.epcisMasterData.vocabularyList[0].vocabularyElementList[0].attributes"),
        ({"epcisHeader": {"epcisMasterData": {"vocabularyList": [
            {"type": "t", "vocabularyElementList": [{"id": "i", "attributes": [7]}]}]}}},
         "FIELD_MALFORMED", "$.epcisHeader.epcisMasterData.vocabularyList[0].vocabularyElementList[0].attributes[0]"),
    ],
)  # fmt: skip
def test_refuses_json_document_of_wrong_form(change: dict[str, Any], code: str, field: str) -> None:
    data = json.dumps({**document(), **change}).encode()

    assert code_and_field(lambda: read_json(data)) == (code, field)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "JSON_MALFORMED"),
        (b"\xff", "JSON_MALFORMED"),
        (b"[" * 100_000, "JSON_MALFORMED"),
        (b'{"a": NaN}', "JSON_MALFORMED"),
        (b'{"a": 1, "a": 2}', "JSON_MALFORMED"),
        (b'{"@context": "x", "a": "\\ud800"}', "JSON_MALFORMED"),
        (b"[]", "DOCUMENT_MALFORMED"),
        (b"{}", "CONTEXT_MISSING"),
        (b'{"@context": "x", "type": ["EPCISDocument"]}', "FIELD_MALFORMED"),
    ],
)
def test_refuses_what_is_no_json_document(data: bytes, code: str) -> None:
    assert code_and_field(lambda: read_json(data))[0] == code


def test_refuses_numbers_that_no_memory_holds() -> None:
    data = json.dumps(document(**{"ext:n": 0})).replace('"ext:n": 0', '"ext:n": 1e999999999').encode()

    assert code_and_field(lambda: read_json(data))[0] == "NUMBER_MALFORMED"


def test_takes_pairs_of_surrogates_for_what_they_mean() -> None:
    data = json.dumps(document(**{"ext:text": "\N{PILL}"})).encode()

    assert read_json(data).events[0].extensions[0].value == "\N{PILL}"


def test_reads_what_other_writers_leave_out_or_add() -> None:
    found = document(
        eventTime="2026-05-04T10:00Z",
        isA="ObjectEvent",
        quantityList=[{"epcClass": "urn:x:1", "quantity": ""}],
        sensorElementList=[{"sensorReport": [{"booleanValue": "1", "value": 7, "stringValue": 7}]}],
        **{"https://whole.example/uri": "x", "@id": "y"},
    )
    found["@context"].append({"typed": {"@id": "https://typed.example/"}, "@vocab": "x"})
    event = read_json(json.dumps(found).encode()).events[0]

    assert event.event_time.second == 0
    assert event.quantity_list[0].quantity is None
    assert event.sensor_element_list[0].reports[0].boolean_value is True
    assert [(item.namespace, item.name) for item in event.extensions] == [("https://whole.example/", "uri")]


def test_reads_a_single_event_body_and_a_header_without_master_data() -> None:
    found = document()
    found["epcisBody"] = {"event": found["epcisBody"]["eventList"][0]}
    found["epcisHeader"] = {"ext:statement": "x"}

    assert len(read_json(json.dumps(found).encode()).events) == 1
    assert read_json(json.dumps(found).encode()).header_extensions[0].value == "x"


def test_reads_event_with_namespaces_given_beside_it() -> None:
    event = event_from_json({**EVENT, "ext:a": {"@unit": "KGM", "#text": 7}}, namespaces=[("ext", "urn:e:")])

    assert event.extensions[0].namespace == "urn:e:"
    assert event.extensions[0].attributes == (("", "unit", "KGM"),)


def test_refuses_documents_over_the_limit_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 10)

    for read in (read_json, read_xml):
        with pytest.raises(TooLargeError) as caught:
            read(b"<" * 11)
        assert caught.value.code == "DOCUMENT_TOO_LARGE"


# --- XML ---

BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]><x>&d;</x>"""
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><x>&f;</x>'
REMOTE = b'<?xml version="1.0"?><!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>'


@pytest.mark.parametrize("data", [BOMB, EXTERNAL, REMOTE, b"<!DOCTYPE x><x/>"])
def test_refuses_xml_with_a_document_type(data: bytes) -> None:
    assert code_and_field(lambda: read_xml(data))[0] == "XML_ENTITY_REFUSED"


def xml(body: str, *, header: str = "") -> bytes:
    return (
        '<e:EPCISDocument xmlns:e="urn:epcglobal:epcis:xsd:2" xmlns:ext="https://ns.example.com/" schemaVersion="2.0">'
        f"{header}<EPCISBody><EventList>{body}</EventList></EPCISBody></e:EPCISDocument>"
    ).encode()


BARE = (
    "<eventTime>2026-05-04T10:00:00Z</eventTime><eventTimeZoneOffset>+00:00</eventTimeZoneOffset>"
    "<epcList><epc>urn:x:1</epc></epcList><action>OBSERVE</action>"
)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "XML_MALFORMED"),
        (b"<a>", "XML_MALFORMED"),
        (b"<a>\x00</a>", "XML_MALFORMED"),
        (b"<a/>", "DOCUMENT_MALFORMED"),
        (b'<e:EPCISDocument xmlns:e="urn:epcglobal:epcis:xsd:2"/>', "FIELD_MISSING"),
        (xml("<Event/>"), "EVENT_TYPE_UNKNOWN"),
        (xml("<ext:ObjectEvent/>"), "EVENT_TYPE_UNKNOWN"),
        (xml("<ObjectEvent/>"), "FIELD_MISSING"),
        (xml(f"<ObjectEvent>{BARE}<colour>red</colour></ObjectEvent>"), "FIELD_UNKNOWN"),
        (xml(f"<ObjectEvent>{BARE}<action>ADD</action></ObjectEvent>"), "FIELD_TWICE"),
        (
            xml(
                f"<ObjectEvent>{BARE}<sensorElementList><sensorElement><sensorReport colour='red'/></sensorElement>"
                "</sensorElementList></ObjectEvent>"
            ),
            "FIELD_UNKNOWN",
        ),
        (xml(f"<ObjectEvent>{BARE}{'<ext:x>' * 100}{'</ext:x>' * 100}</ObjectEvent>"), "EXTENSION_DEPTH"),
    ],
    ids=range(12),
)
def test_refuses_xml_of_wrong_form(data: bytes, code: str) -> None:
    assert code_and_field(lambda: read_xml(data))[0] == code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"</EPCISBody>", b"<EventList/></EPCISBody>"),
        (b"</e:EPCISDocument>", b"<EPCISBody><EventList/></EPCISBody></e:EPCISDocument>"),
    ],
)
def test_refuses_a_second_list_of_events_that_nobody_would_read(old: bytes, new: bytes) -> None:
    data = xml(f"<ObjectEvent>{BARE}</ObjectEvent>").replace(old, new)

    assert code_and_field(lambda: read_xml(data)) == ("FIELD_TWICE", "/EPCISBody/EventList")


def test_takes_no_list_inside_an_extension_for_the_events() -> None:
    data = xml("").replace(b"<EventList></EventList>", b"<ext:x><EventList/></ext:x>")

    assert code_and_field(lambda: read_xml(data)) == ("FIELD_MISSING", "/EPCISBody/EventList")


def test_refuses_events_both_in_a_list_and_beside_it() -> None:
    found = document()
    found["epcisBody"]["event"] = found["epcisBody"]["eventList"][0]
    data = json.dumps(found).encode()

    assert code_and_field(lambda: read_json(data)) == ("FIELD_TWICE", "$.epcisBody.eventList")


def test_refuses_a_field_of_the_standard_in_the_guise_of_an_extension() -> None:
    data = json.dumps(document(**{"epcis:bizStep": "receiving"})).encode()

    assert code_and_field(lambda: read_json(data)) == ("NAMESPACE_RESERVED", f"{AT}.epcis:bizStep")


def test_refuses_elements_nested_beyond_the_parsers_limit() -> None:
    assert code_and_field(lambda: read_xml(b"<a>" * 10_000 + b"</a>" * 10_000))[0] == "XML_MALFORMED"


def test_reads_a_bare_xml_event_in_the_standards_namespace() -> None:
    data = f'<e:ObjectEvent xmlns:e="urn:epcglobal:epcis:xsd:2">{BARE}</e:ObjectEvent>'.encode()

    assert read_xml(data).events[0].epc_list == ("urn:x:1",)


def test_reads_typed_and_untyped_transactions_and_a_header_without_parties() -> None:
    transactions = "<bizTransactionList><bizTransaction>urn:x:2</bizTransaction></bizTransactionList>"
    header = "<EPCISHeader><ext:statement>x</ext:statement></EPCISHeader>"
    found = read_xml(xml(f"<ObjectEvent>{BARE}{transactions}</ObjectEvent>", header=header))

    assert found.events[0].biz_transaction_list[0].type is None
    assert found.header_extensions[0].value == "x"
    assert found.sender is None


def test_reads_namespaces_declared_inside_an_extension() -> None:
    found = document(**{"ext:outer": {"@context": {"in": "urn:inner:"}, "in:a": "1"}})
    outer = read_json(json.dumps(found).encode()).events[0].extensions[0]

    assert isinstance(outer.value, tuple)
    assert outer.value[0].namespace == "urn:inner:"


def test_ignored_fields_come_from_the_document(full_document: EpcisDocument) -> None:
    expected = {("https://ns.example.com/a/", "outer")}

    assert full_document.ignored_fields == expected
    assert read_xml(write_xml(full_document)).ignored_fields == expected
    assert EpcisDocument(events=()).ignored_fields == frozenset()


@given(st.binary(max_size=300))
def test_random_bytes_raise_only_our_errors(data: bytes) -> None:
    for read in (read_json, read_xml):
        with pytest.raises(MedtrailError):
            read(data)


def _error_of(read: Callable[[], object]) -> MedtrailError | None:
    try:
        read()
    except MedtrailError as error:
        return error
    return None


@given(st.data())
def test_changed_bytes_give_a_document_or_our_error(data: st.DataObject) -> None:
    from_json = write_json(read_json(json.dumps(document(**{"ext:a": {"ext:b": [1, True, None]}})).encode()))
    for original, read in ((from_json, read_json), (xml(f"<ObjectEvent>{BARE}</ObjectEvent>"), read_xml)):
        changed = bytearray(original)
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        error = _error_of(lambda read=read, changed=changed: read(bytes(changed)))  # type: ignore[misc]  # bound now
        assert error is None or error.code != "INTERNAL"
