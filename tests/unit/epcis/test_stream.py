"""Documents read as streams: the head first wherever it stands, from any event on, in bounded memory."""

import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import BinaryIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medtrail.epcis import (
    EpcisDocument,
    EpcisEvent,
    Extension,
    Position,
    open_events,
    read_document,
    reading,
    write_json,
    write_json_events,
    write_xml,
    write_xml_events,
)
from medtrail.epcis import json_stream as json_module
from medtrail.epcis import xml_pieces as pieces_module
from medtrail.epcis import xml_stream as xml_module
from medtrail.errors import MalformedError, TooLargeError

CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
EVENT = (
    '{"type":"ObjectEvent","eventTime":"2026-05-04T10:00:00Z","eventTimeZoneOffset":"+00:00","action":"OBSERVE",'
    '"epcList":["urn:x:1"]}'
)
BARE = (
    "<eventTime>2026-05-04T10:00:00Z</eventTime><eventTimeZoneOffset>+00:00</eventTimeZoneOffset>"
    "<epcList><epc>urn:x:1</epc></epcList><action>OBSERVE</action>"
)
ROOT = '<e:EPCISDocument xmlns:e="urn:epcglobal:epcis:xsd:2" xmlns:ext="https://ns.example.com/" schemaVersion="2.0">'


def xml(events: str, *, before: str = "", behind: str = "", root: str = ROOT) -> bytes:
    return (f"{root}{before}<EPCISBody><EventList>{events}</EventList></EPCISBody>{behind}</e:EPCISDocument>").encode()


def in_json(events: str, *, behind: str = "") -> bytes:
    context = f'"@context":["{CONTEXT}",{{"ext":"https://ns.example.com/"}}]'
    return f'{{{context},"type":"EPCISDocument","epcisBody":{{"eventList":[{events}]}}{behind}}}'.encode()


def written(document: EpcisDocument, form: str) -> bytes:
    return write_json(document) if form == "json" else write_xml(document)


def many(event: EpcisEvent, count: int) -> Iterator[EpcisEvent]:
    for number in range(count):
        yield replace(event, event_time=event.event_time + timedelta(seconds=number))


def code_of(data: bytes, form: str) -> str:
    with pytest.raises(MalformedError) as caught:
        read_document(data, format=form)
    return caught.value.code


@pytest.fixture(params=["json", "xml"])
def form(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources come in pieces of a few bytes, so that every boundary falls somewhere."""
    for module in (json_module, xml_module, pieces_module):
        monkeypatch.setattr(module, "CHUNK_BYTES", 61)


# --- reading on ---


def test_stream_gives_what_reading_whole_gives(full_document: EpcisDocument, form: str) -> None:
    data = written(full_document, form)
    whole = read_document(data, format=form)
    stream = open_events(io.BytesIO(data), format=form)

    assert stream.head == replace(whole, events=())
    assert stream.size == len(data)
    assert list(stream) == list(enumerate(whole.events))
    assert stream.namespaces == whole.namespaces


def test_reading_goes_on_from_any_event(full_document: EpcisDocument, form: str) -> None:
    data = written(full_document, form)
    stream = open_events(io.BytesIO(data), format=form)
    positions = [stream.position]
    events = []
    for _, event in stream:
        positions.append(stream.position)
        events.append(event)

    assert [position.index for position in positions] == list(range(len(events) + 1))
    for position in positions:
        again = open_events(io.BytesIO(data), format=form)
        again.resume(position)
        assert list(again) == list(enumerate(events))[position.index :]


@pytest.mark.parametrize(
    "bare", [EVENT.replace("{", f'{{"@context":"{CONTEXT}",', 1), f"<ObjectEvent>{BARE}</ObjectEvent>"], ids=["j", "x"]
)
def test_bare_event_is_a_stream_of_one(bare: str) -> None:
    source = io.BytesIO(bare.encode())
    stream = open_events(source, format="json" if bare.startswith("{") else "xml")

    assert [index for index, _ in stream] == [0]
    assert stream.position.index == 1
    assert list(stream) == []


def test_event_that_is_none_is_told_and_the_rest_is_read() -> None:
    for data, form, path in (
        (in_json(f'{EVENT},{EVENT.replace("OBSERVE", "LOOK")},"x",{EVENT}'), "json", "$.epcisBody.eventList[1].action"),
        (
            xml(f"<ObjectEvent>{BARE}</ObjectEvent><ObjectEvent>{BARE.replace('OBSERVE', 'LOOK')}</ObjectEvent><X/>"),
            "xml",
            "/EPCISBody/EventList/ObjectEvent[1].action",
        ),
    ):
        found = list(open_events(io.BytesIO(data), format=form).outcomes())
        errors = [event for _, event in found if isinstance(event, MalformedError)]
        assert [index for index, _ in found] == list(range(len(found)))
        assert errors[0].field == path
        assert len(errors) == 2


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_stands_behind_the_events_is_known_before_them(count: int) -> None:
    behind = ',"sender":"urn:x:s","epcisHeader":{"ext:statement":"x [}\\\\\\" ]"},"ext:last":{"a":[1,2]}'
    stream = open_events(io.BytesIO(in_json(",".join([EVENT] * count), behind=behind)), format="json")

    assert stream.head.sender == "urn:x:s"
    assert stream.head.header_extensions[0].value == 'x [}\\" ]'
    assert stream.head.extensions[0].name == "last"
    assert len(list(stream)) == count


@pytest.mark.parametrize("events", ["", f"<ObjectEvent>{BARE}</ObjectEvent>" * 2])
def test_extensions_behind_the_body_are_known_before_the_events(events: str) -> None:
    stream = open_events(io.BytesIO(xml(events, behind="<ext:last>x</ext:last>")), format="xml")

    assert stream.head.extensions == (Extension("https://ns.example.com/", "last", "x"),)
    assert len(list(stream)) == events.count("</ObjectEvent>")


def test_empty_list_of_events_may_be_one_tag() -> None:
    data = xml("").replace(b"<EventList></EventList>", b"<EventList/>")

    assert list(open_events(io.BytesIO(data), format="xml")) == []


def test_events_of_a_query_and_their_name_are_found() -> None:
    body = f'{{"queryResults":{{"queryName":"q","subscriptionID":"s","resultsBody":{{"eventList":[{EVENT}]}}}}}}'
    context = f'"@context":"{CONTEXT}"'
    document = read_document(f'{{{context},"type":"EPCISQueryDocument","epcisBody":{body}}}'.encode(), format="json")

    assert (document.query_name, document.subscription_id, len(document.events)) == ("q", "s", 1)
    assert read_document(write_xml(document), format="xml").query_name == "q"
    assert read_document(write_json(document), format="json") == document


# --- XML that is harder to cut ---


@pytest.mark.parametrize(
    ("inside", "count"),
    [
        ("<!-- </ObjectEvent> -->", 1),
        ("<ext:a><![CDATA[</ObjectEvent>]]></ext:a>", 1),
        ("<ext:a><ObjectEvent><b/></ObjectEvent></ext:a>", 1),
        ("<ext:a b='&lt;' c=\"&gt;'\">x</ext:a>", 1),
        ("<?pi </ObjectEvent> ?>", 1),
    ],
)
def test_end_of_an_event_is_where_its_element_ends(inside: str, count: int) -> None:
    event = f"<ObjectEvent>{BARE}{inside}</ObjectEvent >"
    stream = open_events(io.BytesIO(xml(f" <!-- one --> {event}<?pi?>\n{event}")), format="xml")

    assert [len(found.extensions) for _, found in stream] == [int("ext" in inside)] * 2 * count


def test_events_in_wrappers_are_read_and_taken_up_inside_them() -> None:
    one = f"<TransformationEvent>{BARE.split('<epcList', maxsplit=1)[0]}</TransformationEvent>"
    wrapped = f"<extension>{one}{one}</extension><extension/><extension><extension>{one}{one}</extension></extension>"
    data = xml(f"<ObjectEvent>{BARE}</ObjectEvent>{wrapped}")
    stream = open_events(io.BytesIO(data), format="xml")
    positions = [stream.position for _ in stream]

    assert [position.index for position in positions] == [1, 2, 3, 4, 5]
    for position in positions:
        again = open_events(io.BytesIO(data), format="xml")
        again.resume(position)
        assert [number for number, _ in again] == list(range(position.index, 5))


def test_namespaces_of_the_list_and_of_wrappers_hold_for_events() -> None:
    event = f"<ObjectEvent>{BARE}<a:x>1</a:x><b:y xmlns:c='urn:c:'><c:z/></b:y></ObjectEvent>"
    data = xml(f"<extension xmlns:b='urn:b:'>{event}</extension>").replace(
        b"<EventList>", b"<EventList xmlns:a='urn:a:'>"
    )
    document = read_document(data, format="xml")

    assert [item.namespace for item in document.events[0].extensions] == ["urn:a:", "urn:b:"]
    assert {uri for _, uri in document.namespaces} == {"https://ns.example.com/", "urn:a:", "urn:b:", "urn:c:"}


def test_default_namespace_of_the_standard_is_taken_off() -> None:
    data = xml(f"<ObjectEvent>{BARE}</ObjectEvent>").replace(
        b"<EPCISBody>", b'<EPCISBody xmlns="urn:epcglobal:epcis:xsd:2">'
    )

    assert len(read_document(data, format="xml").events) == 1


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "utf-16", "utf-16-le", "utf-16-be", "shift_jis"])
def test_other_encodings_are_read(encoding: str) -> None:
    text = "prix" if encoding == "shift_jis" else "prix: 5 \N{POUND SIGN}"
    body = xml(f"<ObjectEvent>{BARE}<ext:a>{text}</ext:a></ObjectEvent>").decode()
    data = f'<?xml version="1.0" encoding="{encoding}"?>{body}'.encode(encoding)

    assert read_document(data, format="xml").events[0].extensions[0].value == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
def test_json_of_other_encodings_is_read(encoding: str) -> None:
    data = in_json(EVENT[:-1] + ',"ext:a":"5 \N{POUND SIGN}"}').decode().encode(encoding)

    assert read_document(data, format="json").events[0].extensions[0].value == "5 \N{POUND SIGN}"


def test_byte_order_mark_is_no_part_of_xml() -> None:
    assert len(read_document(b"\xef\xbb\xbf" + xml(f"<ObjectEvent>{BARE}</ObjectEvent>"), format="xml").events) == 1


# --- bad input ---

ONE = f"<ObjectEvent>{BARE}</ObjectEvent>"


@pytest.mark.parametrize(
    ("data", "form", "code"),
    [
        (xml(ONE)[:-90], "xml", "XML_MALFORMED"),
        (xml(ONE)[:-60], "xml", "XML_MALFORMED"),
        (xml(ONE)[:150], "xml", "XML_MALFORMED"),
        (xml("")[: xml("").index(b"<EventList>") + 5], "xml", "XML_MALFORMED"),
        (xml(f"text{ONE}"), "xml", "XML_MALFORMED"),
        (xml(f"{ONE}<!-- "), "xml", "XML_MALFORMED"),
        (xml(f"{ONE}<"), "xml", "XML_MALFORMED"),
        (xml(f"<extension>{ONE}"), "xml", "XML_MALFORMED"),
        (xml(f"{ONE}</extension>"), "xml", "XML_MALFORMED"),
        (xml(f"<extension>{ONE}</other>"), "xml", "XML_MALFORMED"),
        (xml(f"<ObjectEvent>{BARE}<ext:a></ObjectEvent>{ONE}"), "xml", "XML_MALFORMED"),
        (xml(f"<ObjectEvent>{BARE}"), "xml", "XML_MALFORMED"),
        (xml(f"<ObjectEvent>{BARE}<ext:a>&bomb;</ext:a></ObjectEvent>"), "xml", "XML_MALFORMED"),
        (xml(f"<ObjectEvent>{BARE}<un:a/></ObjectEvent>"), "xml", "XML_MALFORMED"),
        (xml(f"{ONE}</EventList><EventList>{ONE}"), "xml", "FIELD_TWICE"),
        (xml(f"{ONE}<!-- ", behind="<ext:a>--></ext:a>"), "xml", "XML_MALFORMED"),
        (xml(f"<ObjectEvent>{BARE}<!-- </ObjectEvent>"), "xml", "XML_MALFORMED"),
        (xml(f"<ObjectEvent>{BARE}{'<ext:x>' * 300}<!-- </ObjectEvent> -->"), "xml", "XML_MALFORMED"),
        (xml(ONE, behind="<unknown/>"), "xml", "FIELD_UNKNOWN"),
        (xml(ONE).replace(b"<EPCISBody>", b"<EPCISBody><x/>"), "xml", "FIELD_UNKNOWN"),
        (b'<?xml version="1.0" encoding="x-none"?>' + xml(ONE), "xml", "XML_MALFORMED"),
        (in_json(EVENT)[:-20], "json", "JSON_MALFORMED"),
        (in_json(EVENT)[:-2], "json", "JSON_MALFORMED"),
        (in_json(f"{EVENT} {EVENT}"), "json", "JSON_MALFORMED"),
        (in_json(f"{EVENT},"), "json", "JSON_MALFORMED"),
        (in_json(f'{EVENT},{{"a":'), "json", "JSON_MALFORMED"),
        (in_json(EVENT[:-1] + ',"action":"ADD"}'), "json", "JSON_MALFORMED"),
        (in_json(EVENT[:-1] + ',"ext:a":"\\ud800"}'), "json", "JSON_MALFORMED"),
        (in_json(EVENT) + b"x", "json", "JSON_MALFORMED"),
        (in_json(EVENT, behind=',"type":"EPCISDocument"'), "json", "JSON_MALFORMED"),
        (in_json(EVENT, behind=",7:8"), "json", "JSON_MALFORMED"),
        (in_json(EVENT, behind=',"sender":tru'), "json", "JSON_MALFORMED"),
        (in_json(EVENT).replace(b"urn:x:1", b"\xff"), "json", "JSON_MALFORMED"),
        (in_json(EVENT).replace(b"eventList", b"events"), "json", "FIELD_MISSING"),
        (in_json(EVENT).replace(b'"eventList"', b'"more":1,"eventList"'), "json", "FIELD_UNKNOWN"),
        (b"7", "json", "DOCUMENT_MALFORMED"),
        (b"\xff\xfe\x00", "json", "JSON_MALFORMED"),
    ],
    ids=range(37),
)
def test_refuses_what_is_cut_short_or_torn(data: bytes, form: str, code: str) -> None:
    assert code_of(data, form) == code


def test_every_truncation_is_refused(full_document: EpcisDocument, form: str) -> None:
    data = written(replace(full_document, events=full_document.events[:2]), form).rstrip()
    for length in range(0, len(data), 17):
        assert code_of(data[:length], form) in {"JSON_MALFORMED", "XML_MALFORMED"}, length


@pytest.mark.parametrize("chunk", [61, 100_000])
@pytest.mark.parametrize("limit", ["MAX_EVENT_BYTES", "MAX_HEAD_BYTES"])
def test_refuses_parts_over_their_limits(monkeypatch: pytest.MonkeyPatch, limit: str, chunk: int) -> None:
    for module in (json_module, xml_module, pieces_module):
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    for module in (json_module, xml_module, pieces_module, reading):
        if hasattr(module, limit):
            monkeypatch.setattr(module, limit, 2000)
    long, escapes = "x" * 5000, "\\" * 5001
    header = f"<EPCISHeader><ext:a>{long}</ext:a></EPCISHeader>"
    texts = ",".join(f'"ext:{number}":"{"x" * 500}"' for number in range(9))
    large: dict[str, list[tuple[bytes, str]]] = {
        "MAX_EVENT_BYTES": [
            (in_json(f'{EVENT},{EVENT[:-1]},"ext:a":"{long}"}}'), "json"),
            (in_json(f'{EVENT},{EVENT[:-1]},"ext:a":"{long}'), "json"),
            (in_json(f'{EVENT},{EVENT[:-1]},"ext:a":"{escapes}'), "json"),
            (xml(f"{ONE}<ObjectEvent>{BARE}<ext:a>{long}</ext:a></ObjectEvent>"), "xml"),
            (xml(f"{ONE}<!-- {long} -->{ONE}"), "xml"),
            (xml(f"<ObjectEvent>{BARE}<!-- </ObjectEvent> {long} --></ObjectEvent>"), "xml"),
        ],
        "MAX_HEAD_BYTES": [
            (in_json(EVENT, behind=f',"ext:a":"{long}"'), "json"),
            (in_json(EVENT, behind=f",{texts}"), "json"),
            (xml(ONE, before=header), "xml"),
            (xml(ONE, behind=f"<ext:a>{long}</ext:a>"), "xml"),
            (xml("", behind=f"<ext:a>{long}</ext:a>").replace(b"<EventList></EventList>", b"<EventList/>"), "xml"),
            (f'<?xml version="1.0"?>{xml(ONE, behind=f"<ext:a>{long}</ext:a>").decode()}'.encode("utf-16"), "xml"),
        ],
    }
    whole = {"MAX_EVENT_BYTES": (0, 3), "MAX_HEAD_BYTES": range(6)}[limit]
    # What is in one piece takes no more memory for being long; only whole events and heads are told then.
    for data, form in large[limit] if chunk == 61 else [large[limit][number] for number in whole]:
        with pytest.raises(TooLargeError):
            read_document(data, format=form)


def test_deep_brackets_are_counted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_module, "CHUNK_BYTES", 500)
    deep = "[" * 300 + "]" * 300
    behind = ',"sender":"urn:x:s"'
    data = in_json(",".join([f'{EVENT[:-1]},"ext:a":{deep}}}', *[EVENT] * 20]), behind=behind)

    with pytest.raises(MalformedError, match="a list in a list"):
        read_document(data, format="json")


TEXTS = st.text(st.sampled_from('"\\[]{},: a\N{PILL}'), max_size=12)


@pytest.mark.parametrize("chunk", [1, 2, 600])
def test_numbers_in_the_head_are_whole_wherever_pieces_end(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_module, "CHUNK_BYTES", chunk)
    data = b'{"schemaVersion":2.0123456789,' + in_json(EVENT)[1:]

    assert read_document(data, format="json").schema_version == "2.0123456789"


@given(texts=st.lists(TEXTS, max_size=6), last=TEXTS, chunk=st.integers(1, 40))
@example(texts=["\\"], last='"', chunk=1)
def test_end_of_the_list_is_found_whatever_texts_hold(texts: list[str], last: str, chunk: int) -> None:
    events = ",".join(f'{EVENT[:-1]},"ext:a":{json.dumps(text, ensure_ascii=False)}}}' for text in texts)
    data = in_json(events, behind=f',"ext:b":{json.dumps(last)}')
    patch = pytest.MonkeyPatch()
    patch.setattr(json_module, "CHUNK_BYTES", chunk)
    try:
        document = read_document(data, format="json")
    finally:
        patch.undo()

    assert [event.extensions[0].value for event in document.events] == texts
    assert document.extensions[0].value == last


# --- any size ---


class Endless(io.RawIOBase):
    """A document of many equal events, made as it is read."""

    def __init__(self, before: bytes, piece: bytes, behind: bytes, count: int) -> None:
        self._before, self._piece, self._behind, self._count = before, piece, behind, count
        self._size = len(before) + len(piece) * count + len(behind)
        self._place = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + (self._size if whence == io.SEEK_END else 0)
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        end = self._size if size < 0 else min(self._place + size, self._size)
        data = self._between(self._place, end)
        self._place = end
        return data

    def _between(self, start: int, end: int) -> bytes:
        events = len(self._piece) * self._count
        begin = len(self._before)
        first = max(start - begin, 0) // len(self._piece)
        last = min(max(end - begin, 0), events) // len(self._piece) + 1
        found = self._before[start:end] if start < begin else b""
        if first < self._count and end > begin:
            pieces = self._piece * (min(last, self._count) - first)
            offset = begin + first * len(self._piece)
            found += pieces[max(start - offset, 0) : max(min(end, begin + events) - offset, 0)]
        return found + self._behind[max(start - begin - events, 0) : max(end - begin - events, 0)]


def endless(form: str, count: int) -> BinaryIO:
    if form == "xml":
        before, behind = xml("|").split(b"|")
        return Endless(before, ONE.encode(), behind, count)  # type: ignore[return-value]  # read and sought in only
    before, behind = in_json("|", behind=',"sender":"urn:x:s"').split(b"|")
    return Endless(before, EVENT.encode() + b",", EVENT.encode() + behind, count)  # type: ignore[return-value]  # as above


def test_memory_does_not_grow_with_the_document(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (json_module, xml_module, pieces_module):
        monkeypatch.setattr(module, "CHUNK_BYTES", 2048)
    peaks = []
    for count in (300, 3000):
        tracemalloc.start()
        for _ in open_events(endless(form, count), format=form):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.5 * peaks[0]


def test_reading_goes_on_far_behind_at_once(form: str) -> None:
    stream = open_events(endless(form, 40), format=form)
    for index, _ in stream:
        if index == 30:
            break
    again = open_events(endless(form, 40), format=form)
    again.resume(stream.position)

    assert next(iter(again))[0] == 31
    assert again.position == Position(32, stream.position.offset + len(ONE if form == "xml" else EVENT + ","))


# --- writing ---


def test_events_are_written_as_they_come_and_read_back(full_document: EpcisDocument, form: str) -> None:
    head = replace(full_document, events=full_document.events[:2])
    more = [*full_document.events[2:], *many(full_document.events[0], 150)]
    write = write_json_events if form == "json" else write_xml_events
    data = b"".join(write(head, iter(more)))
    document = read_document(data, format=form)

    assert document.events == (*head.events, *more)
    assert document.vocabularies == full_document.vocabularies
    assert b"".join(write(head, iter(()))) != data


def test_namespaces_that_the_head_does_not_know_are_declared_in_the_event(
    full_document: EpcisDocument, form: str
) -> None:
    event = replace(full_document.events[1], extensions=(Extension("urn:new:", "a", "1"),))
    write = write_json_events if form == "json" else write_xml_events
    data = b"".join(write(EpcisDocument(()), [event, full_document.events[1]]))

    assert read_document(data, format=form).events == (event, full_document.events[1])


def test_documents_without_events_are_written(form: str) -> None:
    write = write_json_events if form == "json" else write_xml_events

    assert read_document(b"".join(write(EpcisDocument(()), ())), format=form).events == ()
