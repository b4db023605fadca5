"""What a document says comes back from JSON-LD and XML: any header, any extension, any event."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrail.epcis import (
    DocumentKind,
    EpcisDocument,
    EpcisEvent,
    EventType,
    Extension,
    Vocabulary,
    VocabularyElement,
    event_from_json,
    event_hash,
    event_to_text,
    read_document,
    read_json,
    read_xml,
    write_json,
    write_json_events,
    write_xml,
)
from medtrail.epcis.business_header import SBDH
from medtrail.epcis.xml_elements import parse_xml
from medtrail.errors import MalformedError
from tests.unit.epcis.canonical_xml import canonical

NOW = datetime(2026, 5, 4, 10, tzinfo=UTC)
EVENT = EpcisEvent(
    EventType.OBJECT, NOW, "+00:00", epc_list=("urn:x:1",), biz_step="shipping", action=None, disposition="in_transit"
)

# --- any value ---

# What XML 1.0 can carry, without the carriage return that it reads as a line's end in other spellings.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n", exclude_characters="\ufffe\uffff")
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(lambda name: not name.startswith("xmlns"))
NAMESPACES = st.sampled_from(["https://ns.example.com/a/", "urn:b:", "https://ns.example.com/c#"])
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=6).map(
    lambda number: Decimal(format(number, "f"))
)
VALUES = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
ATTRIBUTES = st.dictionaries(
    st.tuples(
        st.one_of(st.just(""), NAMESPACES), st.one_of(NAMES, st.sampled_from(["id", "type", "value", "context"]))
    ),
    TEXTS,
    max_size=3,
).map(lambda found: tuple((namespace, name, text) for (namespace, name), text in found.items()))


def _tree(children: st.SearchStrategy[tuple[Extension, ...]]) -> st.SearchStrategy[Extension]:
    return st.builds(Extension, NAMESPACES, NAMES, st.one_of(VALUES, children), ATTRIBUTES)


EXTENSIONS: st.SearchStrategy[tuple[Extension, ...]] = st.recursive(
    st.lists(_tree(st.just(())).filter(lambda item: item.value != ()), min_size=1, max_size=3).map(tuple),
    lambda inner: st.lists(_tree(inner), min_size=1, max_size=3).map(tuple),
    max_leaves=6,
)
TOP = st.lists(_tree(EXTENSIONS).filter(lambda item: item.value != ()), max_size=4).map(tuple)
DOCUMENTS = st.builds(
    EpcisDocument,
    events=st.builds(replace, st.just(EVENT), extensions=TOP, ilmd=TOP).map(lambda event: (event,)),
    creation_date=st.one_of(st.none(), st.just(NOW)),
    header_extensions=TOP,
    extensions=TOP,
    query_name=st.none(),
)


@settings(max_examples=30)
@given(document=DOCUMENTS)
def test_extensions_of_any_depth_come_back_from_both(document: EpcisDocument) -> None:
    from_json = read_json(write_json(document))
    from_xml = read_xml(write_xml(document))

    for found in (from_json, from_xml, read_json(write_json(from_xml)), read_xml(write_xml(from_json))):
        assert replace(found, namespaces=()) == replace(document, namespaces=())


@settings(max_examples=30)
@given(document=DOCUMENTS)
def test_hash_is_the_same_from_both(document: EpcisDocument) -> None:
    # White space in attributes and texts takes no part; what one form cannot tell from another must not, either.
    hashes = {event_hash(found.events[0]) for found in (read_json(write_json(document)), read_xml(write_xml(document)))}

    assert len(hashes) == 1


@given(number=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40))
def test_numbers_come_back_digit_by_digit(number: Decimal) -> None:
    if len(str(number)) > 60 or abs(number.adjusted()) > 60 or len(format(number, "f")) > 60:
        return
    event = replace(EVENT, extensions=(Extension("urn:b:", "n", number),))
    text = event_to_text(event)

    assert f": {number}}}" in text or f": {number}," in text
    assert event_from_json(json.loads(text, parse_float=Decimal, parse_int=Decimal)) == event
    assert read_xml(write_xml(EpcisDocument((event,)))).events == (event,)


# --- what is said beside elements and texts ---

ROOT = '<e:EPCISDocument xmlns:e="urn:epcglobal:epcis:xsd:2" xmlns:ext="urn:ext:" schemaVersion="2.0">'
BARE = (
    "<eventTime>2026-05-04T10:00:00Z</eventTime><eventTimeZoneOffset>+00:00</eventTimeZoneOffset>"
    "<epcList><epc>urn:x:1</epc></epcList><action>OBSERVE</action>"
)


def xml(event: str, header: str = "", list_name: str = "ObjectEvent") -> bytes:
    body = f"<EPCISBody><EventList><{list_name}>{event}</{list_name}></EventList></EPCISBody>"
    return f"{ROOT}{header}{body}</e:EPCISDocument>".encode()


@pytest.mark.parametrize(
    "inside",
    [
        "<ext:a ext:b='1' c='2'><ext:d/></ext:a>",
        "<ext:a id='1' type='2' value='3' context='4' language='5' xmlnsx='6'>text</ext:a>",
        "<ext:a xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#' r:resource='x' xml:lang='de'>t</ext:a>",
        "<ext:a>one<ext:b/>two<ext:b>x</ext:b>three</ext:a>",
        "<ext:a>one<ext:b/><ext:c/></ext:a>",
        "<ext:a>1</ext:a><ext:b>2</ext:b><ext:a>3</ext:a><ext:b>4</ext:b>",
        "<ext:a><ext:x>1</ext:x><ext:y>2</ext:y><ext:x>3</ext:x></ext:a>",
        "<ext:a><plain>1</plain><other><plain/></other></ext:a>",
        "<ext:a xml:space='preserve'> two  spaces </ext:a>",
        "<ext:a xml:space='preserve'>x</ext:a>",
        "<ext:a>&lt;&amp;&#13;&#9;x</ext:a>",
        "<ext:a xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:type='xsd:int'>007</ext:a>",
        "<ext:a xmlns:ext='urn:other:'><ext:b/></ext:a>",
        "<a xmlns='urn:default:'><b c='1'/></a>",
    ],
    ids=range(14),
)
def test_xml_of_extensions_comes_back_by_way_of_json(inside: str) -> None:
    data = xml(BARE + inside)
    document = read_xml(data)
    through_json = read_json(write_json(document))

    assert replace(through_json, namespaces=document.namespaces) == document
    assert canonical(write_xml(through_json)) == canonical(data)


@pytest.mark.parametrize(
    ("value", "again"),
    [
        ({"@id": "https://x.example/"}, None),
        ({"@type": "xsd:date", "@value": "2026-01-01"}, {"@type": "xsd:date", "#text": "2026-01-01"}),
        ({"@language": "de", "#text": "x"}, None),
        ({"@value": "x"}, "x"),
        ({"@unit": 5, "#text": 1.50}, {"@unit": "5", "#text": 1.5}),
        ({"@on": True, "@off": None, "#text": None}, {"@on": "true", "@off": "", "#text": None}),
        ({"@a": "1", "#text": "x", "ext:b": "y"}, None),
        ({"@context": {"p": "urn:p:"}, "@p:a": "1", "p:b": ["x", "y"]}, {"@ext2:a": "1", "ext2:b": ["x", "y"]}),
        (["x"], "x"),
        ([{"ext:b": 1}, "y", None], None),
    ],
    ids=range(10),
)
def test_json_of_extensions_comes_back(value: object, again: object) -> None:
    found = {
        "@context": [{"ext": "urn:ext:"}],
        "type": "ObjectEvent",
        "eventTime": "2026-05-04T10:00:00Z",
        "eventTimeZoneOffset": "+00:00",
        "ext:a": value,
    }
    written = json.loads(write_json(read_json(json.dumps(found).encode())))

    assert written["ext:a"] == (value if again is None else again)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"@a": ["x"], "#text": "y"}, "FIELD_MALFORMED"),
        ({"#text": ["x", {"a": 1}]}, "FIELD_MALFORMED"),
        ({"ext:b": {"#text": [["x"]], "c": 1}}, "FIELD_MALFORMED"),
    ],
)
def test_what_extensions_cannot_say_is_refused(value: object, code: str) -> None:
    found = {"type": "ObjectEvent", "eventTime": "2026-05-04T10:00:00Z", "eventTimeZoneOffset": "Z", "urn:x:a": value}
    with pytest.raises(MalformedError) as caught:
        event_from_json(found)
    assert caught.value.code == code


def test_attribute_at_the_top_of_an_event_is_refused() -> None:
    found = {"type": "ObjectEvent", "eventTime": "2026-05-04T10:00:00Z", "eventTimeZoneOffset": "Z", "@unit": "x"}
    with pytest.raises(MalformedError) as caught:
        event_from_json(found)
    assert (caught.value.code, caught.value.field) == ("FIELD_UNKNOWN", "$.@unit")


SENSOR = "<sensorElementList><sensorElement>{}</sensorElement></sensorElementList>"


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        ("<readPoint><id>urn:x:p</id><name>x</name></readPoint>", "FIELD_UNKNOWN"),
        ("<readPoint><id>urn:x:p</id><id>urn:x:q</id></readPoint>", "FIELD_TWICE"),
        ("<bizStep lang='x'>shipping</bizStep>", "FIELD_UNKNOWN"),
        ("<bizStep><x/></bizStep>", "FIELD_MALFORMED"),
        ("<bizTransactionList><bizTransaction kind='x'>urn:x:1</bizTransaction></bizTransactionList>", "FIELD_UNKNOWN"),
        ("<bizTransactionList><transaction>urn:x:1</transaction></bizTransactionList>", "FIELD_UNKNOWN"),
        (
            "<extension><quantityList><quantityElement><x/></quantityElement></quantityList></extension>",
            "FIELD_UNKNOWN",
        ),
        (
            "<quantityList><quantityElement><epcClass>a</epcClass><epcClass>b</epcClass></quantityElement></quantityList>",
            "FIELD_TWICE",
        ),
        ("<errorDeclaration><why/></errorDeclaration>", "FIELD_UNKNOWN"),
        (SENSOR.format("<other/>"), "FIELD_UNKNOWN"),
        (SENSOR.format("<sensorMetadata/><sensorMetadata/>"), "FIELD_TWICE"),
        (SENSOR.format("<sensorReport><value>7</value></sensorReport>"), "FIELD_UNKNOWN"),
        ("<persistentDisposition><put>recalled</put></persistentDisposition>", "FIELD_UNKNOWN"),
    ],
    ids=range(13),
)
def test_what_no_field_would_keep_is_refused(inside: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_xml(xml(BARE + inside))
    assert caught.value.code == code


def test_marks_of_schema_instances_on_standard_elements_say_nothing() -> None:
    mark = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="x"'
    transactions = f"<bizTransactionList {mark}><bizTransaction {mark}>urn:x:1</bizTransaction></bizTransactionList>"

    assert read_xml(xml(BARE + transactions)).events[0].biz_transaction_list[0].id == "urn:x:1"


def test_null_in_a_sensor_is_nothing() -> None:
    found = {
        "type": "ObjectEvent",
        "eventTime": "2026-05-04T10:00:00Z",
        "eventTimeZoneOffset": "Z",
        "sensorElementList": [{"sensorMetadata": {"deviceID": None}, "sensorReport": [{"uom": None}]}],
    }

    assert event_from_json(found).sensor_element_list[0].reports[0].uom is None


# --- header ---

PARTY = (
    "<s:Identifier Authority='GS1'>urn:epc:id:sgln:030001.{}.0</s:Identifier>"
    "<s:ContactInformation><s:Contact>Desk {}</s:Contact><s:EmailAddress>desk@example.com</s:EmailAddress>"
    "<s:FaxNumber>1</s:FaxNumber><s:TelephoneNumber>2</s:TelephoneNumber>"
    "<s:ContactTypeIdentifier>Seller</s:ContactTypeIdentifier></s:ContactInformation>"
)
IDENTIFICATION = (
    "<s:DocumentIdentification><s:Standard>EPCglobal</s:Standard><s:TypeVersion>2.0</s:TypeVersion>"
    "<s:InstanceIdentifier>I-1</s:InstanceIdentifier><s:Type>Shipment</s:Type><s:MultipleType>false</s:MultipleType>"
    "<s:CreationDateAndTime>2026-01-02T03:04:05+01:00</s:CreationDateAndTime></s:DocumentIdentification>"
)
SCOPE = (
    "<s:BusinessScope><s:Scope><s:Type>T</s:Type><s:InstanceIdentifier>U</s:InstanceIdentifier></s:Scope>"
    "</s:BusinessScope>"
)
BUSINESS = (
    f"<s:StandardBusinessDocumentHeader xmlns:s='{SBDH}'><s:HeaderVersion>1.2</s:HeaderVersion>"
    + "".join(f"<s:Sender>{PARTY.format(place, place)}</s:Sender>" for place in ("111111", "111112"))
    + "".join(f"<s:Receiver>{PARTY.format(place, place)}</s:Receiver>" for place in ("222221", "222222"))
    + f"{IDENTIFICATION}<s:Manifest><s:NumberOfItems>0</s:NumberOfItems></s:Manifest>{SCOPE}"
    "</s:StandardBusinessDocumentHeader>"
)
MASTER = (
    "<extension><EPCISMasterData><VocabularyList><Vocabulary type='urn:epcglobal:epcis:vtype:Location'>"
    "<VocabularyElementList><VocabularyElement id='urn:epc:id:sgln:030001.111111.0'>"
    "<attribute id='urn:x#name'>Plant</attribute>"
    "<attribute id='urn:x#address'><ext:city code='1'>Bern</ext:city><street>Main</street></attribute>"
    "<children><id>urn:epc:id:sgln:030001.111111.1</id><id>urn:epc:id:sgln:030001.111111.2</id></children>"
    "<ext:more><ext:b/></ext:more></VocabularyElement><VocabularyElement id='urn:x:2'/></VocabularyElementList>"
    "</Vocabulary><Vocabulary type='urn:x:none'/></VocabularyList></EPCISMasterData></extension>"
)
HEADER = f"<EPCISHeader>{BUSINESS}{MASTER}<ext:statement><ext:affirm>true</ext:affirm></ext:statement></EPCISHeader>"


def test_business_header_and_master_data_come_back_whole() -> None:
    data = xml(BARE, HEADER)
    document = read_xml(data)
    through_json = read_json(write_json(document))

    assert document.sender == "urn:epc:id:sgln:030001.111111.0"
    assert document.receiver == "urn:epc:id:sgln:030001.222221.0"
    assert document.instance_identifier == "I-1"
    assert document.vocabularies[0].elements[0].children[1] == "urn:epc:id:sgln:030001.111111.2"
    assert through_json == document
    assert canonical(write_xml(through_json)) == canonical(data)
    streamed = b"".join(write_json_events(replace(document, events=()), document.events))
    assert read_document(streamed, format="json") == document


@pytest.mark.parametrize(
    ("name", "text"), [("sender", "urn:x:s"), ("receiver", "urn:x:r"), ("instance_identifier", "J")]
)
def test_changed_party_or_identifier_comes_out_changed(name: str, text: str) -> None:
    document = read_xml(xml(BARE, HEADER))
    changed = replace(document, **{name: text})  # type: ignore[arg-type]  # one field each
    bare = replace(document, **{name: None})  # type: ignore[arg-type]  # one field each

    assert read_xml(write_xml(changed)) == changed != document
    assert read_json(write_json(changed)) == changed
    assert read_xml(write_xml(bare)) == bare


@pytest.mark.parametrize(
    "children",
    [
        "<s:HeaderVersion>1.0</s:HeaderVersion>",
        "<s:HeaderVersion>1.0</s:HeaderVersion><s:Sender/><s:Receiver/><s:DocumentIdentification/><s:Manifest/>",
        "<s:Manifest/>",
        "<s:DocumentIdentification><s:Type>x</s:Type></s:DocumentIdentification>",
    ],
    ids=range(4),
)
def test_parties_are_put_where_a_header_has_no_place_for_them(children: str) -> None:
    header = f"<s:StandardBusinessDocumentHeader xmlns:s='{SBDH}'>{children}</s:StandardBusinessDocumentHeader>"
    document = read_xml(xml(BARE, f"<EPCISHeader>{header}</EPCISHeader>"))
    assert (document.sender, document.receiver, document.instance_identifier) == (None, None, None)
    changed = replace(document, sender="urn:x:s", receiver="urn:x:r", instance_identifier="I")
    found = read_xml(write_xml(changed))

    assert (found.sender, found.receiver, found.instance_identifier) == ("urn:x:s", "urn:x:r", "I")
    names = [item.name for item in found.business_header]
    assert names.index("Sender") < names.index("Receiver") < names.index("DocumentIdentification")


def test_empty_business_header_says_nothing() -> None:
    header = f"<EPCISHeader><s:StandardBusinessDocumentHeader xmlns:s='{SBDH}'/></EPCISHeader>"

    assert read_xml(xml(BARE, header)).business_header == ()


def test_business_header_of_text_in_json_is_not_taken() -> None:
    document = json.loads(write_json(EpcisDocument((EVENT,))))
    document["@context"].append({"sbdh": SBDH})
    for wrong in ("x", [{"sbdh:a": "x"}, {"sbdh:b": "x"}]):
        document["epcisHeader"] = {"sbdh:StandardBusinessDocumentHeader": wrong}
        with pytest.raises(MalformedError) as caught:
            read_json(json.dumps(document).encode())
        assert caught.value.code == "FIELD_MALFORMED"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("<unknown/>", "FIELD_UNKNOWN"),
        (MASTER.replace("<street>", "<a><b>x</b></a><street>").replace("attribute", "thing"), "FIELD_UNKNOWN"),
        (MASTER.replace("VocabularyElementList", "List"), "FIELD_UNKNOWN"),
        (MASTER.replace("</VocabularyList>", "</VocabularyList><VocabularyList/>"), "FIELD_TWICE"),
        (MASTER.replace("<Vocabulary type='urn:x:none'/>", "<Other/>"), "FIELD_UNKNOWN"),
    ],
    ids=range(5),
)
def test_header_elements_that_nobody_would_keep_are_refused(header: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_xml(xml(BARE, f"<EPCISHeader>{header}</EPCISHeader>"))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("header", "code", "field"),
    [
        ([], "FIELD_MALFORMED", "$.epcisHeader"),
        ({"epcisMasterData": []}, "FIELD_MALFORMED", "$.epcisHeader.epcisMasterData"),
        ({"epcisMasterData": {"other": 1}}, "FIELD_UNKNOWN", "$.epcisHeader.epcisMasterData.other"),
    ],
)
def test_header_members_that_nobody_would_keep_are_refused(header: object, code: str, field: str) -> None:
    document = {**json.loads(write_json(EpcisDocument((EVENT,)))), "epcisHeader": header}
    with pytest.raises(MalformedError) as caught:
        read_json(json.dumps(document).encode())
    assert (caught.value.code, caught.value.field) == (code, field)


def test_master_data_of_numbers_and_truth_values_become_text() -> None:
    document = EpcisDocument((EVENT,), vocabularies=(Vocabulary("t", (VocabularyElement("i"),)),))
    found = json.loads(write_json(document))
    element = found["epcisHeader"]["epcisMasterData"]["vocabularyList"][0]["vocabularyElementList"][0]
    element["attributes"] = [{"id": "a", "attribute": 1.5}, {"id": "b", "attribute": True}, {"id": "c"}]

    attributes = read_json(json.dumps(found).encode()).vocabularies[0].elements[0].attributes
    assert attributes == (("a", "1.5"), ("b", "true"), ("c", ""))


# --- kinds of documents ---


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_kind_of_a_document_comes_back(kind: DocumentKind, event: EpcisEvent) -> None:
    document = EpcisDocument(
        (event,),
        creation_date=NOW,
        kind=kind,
        query_name="q" if kind is DocumentKind.QUERY else None,
        subscription_id="s" if kind is DocumentKind.QUERY else None,
    )

    for found in (read_json(write_json(document)), read_xml(write_xml(document))):
        assert replace(found, namespaces=()) == document


def test_bare_event_of_version_1_2_comes_back(every_type: dict[EventType, EpcisEvent]) -> None:
    for kind in (EventType.OBJECT, EventType.TRANSFORMATION):
        document = EpcisDocument((every_type[kind],), kind=DocumentKind.EVENT)
        assert read_xml(write_xml(document, version="1.2")).events == document.events


def test_every_field_of_an_event_that_is_changed_comes_out_changed(event: EpcisEvent) -> None:
    for item in fields(EpcisEvent):
        value = getattr(event, item.name)
        other: object = None
        if isinstance(value, datetime):
            other = value + timedelta(seconds=1)
        elif isinstance(value, tuple) and value:
            other = value[1:]
        elif type(value) is str and item.name != "event_time_zone_offset":
            other = f"urn:x:{item.name}"
        if other is not None:
            changed = replace(event, **{item.name: other})  # type: ignore[arg-type]  # a value of its kind
            document = EpcisDocument((changed,))
            assert read_json(write_json(document)).events == (changed,) != (event,), item.name
            assert read_xml(write_xml(document)).events == (changed,), item.name


@pytest.mark.parametrize("text", ["\ud800", "\ud8001"])
def test_half_of_a_pair_of_surrogates_is_not_written(text: str) -> None:
    event = replace(EVENT, extensions=(Extension("urn:b:", "a", f"{text}x"),))
    with pytest.raises(MalformedError) as caught:
        write_json(EpcisDocument((event,)))
    assert caught.value.code == "NOT_IN_JSON"


def test_what_is_no_number_is_not_written() -> None:
    event = replace(EVENT, extensions=(Extension("urn:b:", "a", Decimal("NaN")),))
    with pytest.raises(MalformedError) as caught:
        write_json(EpcisDocument((event,)))
    assert caught.value.code == "NOT_IN_JSON"


def test_header_that_xml_cannot_carry_is_not_written() -> None:
    with pytest.raises(MalformedError) as caught:
        write_xml(EpcisDocument((), header_extensions=(Extension("urn:b:", "a", "\x00"),)))
    assert (caught.value.code, caught.value.field) == ("NOT_IN_XML", "header")


def test_document_type_is_refused_by_the_parser_of_pieces_too() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_xml(b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>")
    assert caught.value.code == "XML_ENTITY_REFUSED"
