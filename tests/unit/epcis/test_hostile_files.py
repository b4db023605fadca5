"""Hostile and broken files: readers and validation refuse each with a code, in bounded memory, and never fall over."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.epcis import open_events
from medtrail.epcis.rules import RULE_OF, Finding, Severity, check_document, severity_of
from medtrail.errors import MalformedError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEAD = (
    '{"@context":["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld",{"ext":"https://ns.example.com/"}],'
    '"type":"EPCISDocument","schemaVersion":"2.0","creationDate":"2026-05-05T10:00:00Z","epcisBody":{"eventList":['
)
EVENT = (
    '{"type":"ObjectEvent","eventTime":"2026-05-04T10:00:00Z","eventTimeZoneOffset":"+02:00","action":"OBSERVE",'
    '"epcList":["urn:x:1"]%s}'
)
TAIL = "]}}"
XML_HEAD = (
    "<epcis:EPCISDocument xmlns:epcis='urn:epcglobal:epcis:xsd:2' xmlns:ext='https://ns.example.com/' "
    "schemaVersion='2.0' creationDate='2026-05-05T10:00:00Z'><EPCISBody><EventList>"
)
XML_EVENT = (
    "<ObjectEvent><eventTime>2026-05-04T10:00:00Z</eventTime><eventTimeZoneOffset>+02:00</eventTimeZoneOffset>"
    "<epcList><epc>urn:x:1</epc></epcList><action>OBSERVE</action>%s</ObjectEvent>"
)
XML_TAIL = "</EventList></EPCISBody></epcis:EPCISDocument>"
JSON = HEAD + EVENT % "" + TAIL
XML = XML_HEAD + XML_EVENT % "" + XML_TAIL
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
DECLARED = "<?xml version='1.0' encoding='UTF-8'?>"


def _json(extra: str) -> bytes:
    return (HEAD + EVENT % f",{extra}" + TAIL).encode()


def _xml(extra: str, prolog: str = "") -> bytes:
    return (prolog + XML_HEAD + XML_EVENT % extra + XML_TAIL).encode()


# Name, ending, bytes, and the code that validation gives.
HOSTILE: list[tuple[str, str, bytes, str]] = [
    (
        "entities that grow",
        "xml",
        _xml("<ext:a>&l9;</ext:a>", f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]>'),
        "XML_ENTITY_REFUSED",
    ),
    (
        "entities that grow in an attribute",
        "xml",
        _xml("<ext:a b='&l9;'/>", f'<!DOCTYPE a [<!ENTITY l0 "x">{LAUGHS}]>'),
        "XML_ENTITY_REFUSED",
    ),
    (
        "entities that grow in the root's attribute",
        "xml",
        (f'<!DOCTYPE a [<!ENTITY l0 "x">{LAUGHS}]>' + XML.replace("schemaVersion", "a='&l9;' schemaVersion")).encode(),
        "XML_ENTITY_REFUSED",
    ),
    (
        "one long entity many times",
        "xml",
        _xml("<ext:a>" + "&a;" * 10_000 + "</ext:a>", f'<!DOCTYPE a [<!ENTITY a "{"x" * 100_000}">]>'),
        "XML_ENTITY_REFUSED",
    ),
    (
        "an external entity",
        "xml",
        _xml("<ext:a>&a;</ext:a>", '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'),
        "XML_ENTITY_REFUSED",
    ),
    (
        "an external document type",
        "xml",
        _xml("", '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">'),
        "XML_ENTITY_REFUSED",
    ),
    (
        "a parameter entity",
        "xml",
        _xml("", '<!DOCTYPE a [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>'),
        "XML_ENTITY_REFUSED",
    ),
    ("an entity that is not declared", "xml", _xml("<ext:a>&a;</ext:a>"), "XML_MALFORMED"),
    ("a prefix that is not declared", "xml", _xml("<a:b/>"), "XML_MALFORMED"),
    ("deep nesting in XML", "xml", _xml("<ext:a>" * 10_000 + "</ext:a>" * 10_000), "NESTING_TOO_DEEP"),
    ("a million open tags", "xml", b"<a>" * 1_000_000, "DOCUMENT_MALFORMED"),
    ("deep nesting in JSON", "json", _json('"ext:a":' + "[" * 100_000 + "]" * 100_000), "NESTING_TOO_DEEP"),
    (
        "deep objects in JSON",
        "json",
        _json('"ext:a":' + '{"ext:a":' * 100_000 + "1" + "}" * 100_000),
        "NESTING_TOO_DEEP",
    ),
    ("a million open brackets", "json", b"[" * 1_000_000, "DOCUMENT_MALFORMED"),
    ("a number that no memory holds", "json", _json('"ext:a":1e999999999'), "NUMBER_MALFORMED"),
    ("a number of a million digits", "json", _json('"ext:a":' + "9" * 1_000_000), "NUMBER_MALFORMED"),
    ("a number beyond numbers", "json", _json('"ext:a":Infinity'), "JSON_MALFORMED"),
    ("a name twice", "json", _json('"ext:a":1,"ext:a":2'), "FIELD_TWICE"),
    ("a name twice deep inside", "json", _json('"ext:a":{"ext:b":[{"ext:c":1,"ext:c":2}]}'), "FIELD_TWICE"),
    ("a field twice", "json", _json('"action":"ADD"'), "FIELD_TWICE"),
    ("the events twice", "json", (JSON[:-2] + ',"eventList":[]}}').encode(), "FIELD_TWICE"),
    ("half of a surrogate pair", "json", _json('"ext:a":"\\ud800"'), "JSON_MALFORMED"),
    (
        "half of a surrogate pair as name",
        "json",
        JSON.replace('"schemaVersion"', '"\\ud800"').encode(),
        "JSON_MALFORMED",
    ),
    ("a NUL in JSON", "json", _json('"ext:a":"\0"'), "JSON_MALFORMED"),
    ("a NUL between values", "json", JSON.replace(",", ",\0", 3).encode(), "JSON_MALFORMED"),
    ("an escaped NUL", "json", _json('"ext:a":"\\u0000"'), "CHARACTER_FORBIDDEN"),
    ("a NUL in XML", "xml", _xml("<ext:a>\0</ext:a>"), "XML_MALFORMED"),
    ("UTF-16 without mark in JSON", "json", JSON.encode("utf-16-le"), "ENCODING_WRONG"),
    ("UTF-16 with mark in JSON", "json", JSON.encode("utf-16"), "ENCODING_WRONG"),
    ("UTF-32 in JSON", "json", JSON.encode("utf-32"), "ENCODING_WRONG"),
    ("UTF-16 without mark in XML", "xml", XML.encode("utf-16-be"), "XML_MALFORMED"),
    ("latin-1 in JSON", "json", JSON.replace("urn:x:1", "urn:x:\xe9").encode("latin-1"), "ENCODING_WRONG"),
    (
        "latin-1 declared as UTF-8",
        "xml",
        (DECLARED + XML).replace("urn:x:1", "urn:x:\xe9").encode("latin-1"),
        "ENCODING_WRONG",
    ),
    (
        "an unknown encoding",
        "xml",
        XML.join(["<?xml version='1.0' encoding='klingon'?>", ""]).encode(),
        "ENCODING_WRONG",
    ),
    ("nothing, as JSON", "json", b"", "DOCUMENT_TRUNCATED"),
    ("nothing, as XML", "xml", b"", "DOCUMENT_TRUNCATED"),
    ("JSON in XML's place", "xml", JSON.encode(), "XML_MALFORMED"),
    ("XML in JSON's place", "json", XML.encode(), "DOCUMENT_MALFORMED"),
    ("text after the document", "json", (JSON + "x").encode(), "JSON_MALFORMED"),
    ("a second root", "xml", (XML + "<a/>").encode(), "XML_MALFORMED"),
]
# Read by readers, who take what the standard leaves open.
BORNE = {
    "an escaped NUL",
    "UTF-16 without mark in JSON",
    "UTF-16 with mark in JSON",
    "UTF-32 in JSON",
    "UTF-16 without mark in XML",
}


def findings(data: bytes, ending: str) -> list[Finding]:
    found = list(check_document(io.BytesIO(data), format=ending, now=NOW))
    assert {finding.code for finding in found} <= set(RULE_OF)
    return found


@pytest.mark.parametrize(("name", "ending", "data", "code"), HOSTILE, ids=[case[0] for case in HOSTILE])
def test_validation_and_readers_refuse_what_is_hostile(name: str, ending: str, data: bytes, code: str) -> None:
    found = findings(data, ending)

    assert code in {finding.code for finding in found}
    assert all(len(finding.message) < 1000 for finding in found)
    if name in BORNE:
        return
    with pytest.raises(MalformedError):
        list(open_events(io.BytesIO(data), format=ending))


@pytest.mark.parametrize(("ending", "text"), [("json", JSON), ("xml", XML)])
def test_a_mark_of_utf_8_is_no_fault(ending: str, text: str) -> None:
    assert findings(b"\xef\xbb\xbf" + text.encode(), ending) == []


@pytest.mark.parametrize(("ending", "text"), [("json", JSON), ("xml", XML)])
def test_every_truncated_file_is_refused_as_such(ending: str, text: str) -> None:
    data = text.encode()
    for length in range(1, len(data)):
        assert "DOCUMENT_TRUNCATED" in {finding.code for finding in findings(data[:length], ending)}, length


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_chunks_of_any_size_say_the_same(chunk: int) -> None:
    class Slow(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return super().read(chunk)

    for data, ending in (
        (_json('"ext:a":"\\\\\\"\N{PILL}[{","ext:b":{"ext:c":[-1.5e3,true,null]},"bizStep":"x"'), "json"),
        (_xml("<bizStep>x</bizStep><ext:a>\N{PILL}</ext:a>"), "xml"),
    ):
        found = list(check_document(Slow(data), format=ending, now=NOW))

        assert found == findings(data, ending)
        assert [finding.code for finding in found] == ["BIZ_STEP_UNKNOWN"]


def test_events_before_a_fault_of_syntax_are_told() -> None:
    wrong = EVENT % ',"bizStep":"x"'
    in_json = findings((HEAD + wrong + "," + wrong.replace(":", "", 1) + "," + wrong + TAIL).encode(), "json")
    in_xml = findings((XML_HEAD + XML_EVENT % "<bizStep>x</bizStep>" + "<a></b>").encode(), "xml")

    assert [(finding.code, finding.event_index) for finding in in_json] == [
        ("BIZ_STEP_UNKNOWN", 0),
        ("JSON_MALFORMED", 1),
        ("BIZ_STEP_UNKNOWN", 2),
    ]
    assert [(finding.code, finding.event_index) for finding in in_xml] == [
        ("BIZ_STEP_UNKNOWN", 0),
        ("XML_MALFORMED", None),
    ]


RICH_JSON = _json('"ilmd":{"ext:a":[{"@b":1,"#text":"\\u00e9"}]},"sensorElementList":[{"sensorReport":[{"value":1}]}]')
RICH_XML = _xml("<readPoint><id>urn:x:1</id></readPoint><extension><ilmd><ext:a ext:b='c'>d</ext:a></ilmd></extension>")


@given(data=st.data())
def test_changed_bytes_give_findings_and_no_other_end(data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from(["json", "xml"]))
    changed = bytearray(RICH_JSON if ending == "json" else RICH_XML)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        end = data.draw(st.integers(at, min(at + 20, len(changed))))
        changed[at:end] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"{", b"]", b'"', b"<", b">", b"/", b"\\"])
        )

    findings(bytes(changed), ending)


@given(st.binary(max_size=64), st.sampled_from(["json", "xml"]))
def test_random_bytes_give_findings_and_no_other_end(data: bytes, ending: str) -> None:
    assert findings(data, ending)


MEASURED = """
import json, resource, sys
from datetime import UTC, datetime
from medtrail.epcis import open_events
from medtrail.epcis.rules import check_document
from medtrail.errors import MalformedError
limit = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
codes = {}
def told(code):
    codes[code] = codes.get(code, 0) + 1
with open(sys.argv[1], "rb") as stream:
    if sys.argv[2] == "check":
        for finding in check_document(stream, format=sys.argv[1][-4:], now=datetime.now(UTC)):
            told(finding.code)
    else:
        try:
            for _index, _event in open_events(stream, format=sys.argv[1][-4:]):
                pass
        except MalformedError as error:
            told(error.code)
# The most since this program began: getrusage also counts what the process was before.
status = open("/proc/self/status", encoding="utf-8").read()
used = int(status.partition("VmHWM:")[2].split()[0])
print(json.dumps({"codes": codes, "mib": used // 1024}))
"""


def _measure(path: Path, *, verb: str = "check") -> tuple[dict[str, int], int]:
    """Return findings (``check``) or a reader's error (``read``) by code, and the most memory that it took, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path), verb], capture_output=True, text=True, check=True, timeout=100
    )
    answer = json.loads(done.stdout)
    return answer["codes"], answer["mib"]


MB = 1_000_000
# Name, ending, what stands before, what is repeated, how often, what stands behind, and the findings.
LARGE: list[tuple[str, str, str, str, int, str, dict[str, int]]] = [
    ("one text", "json", HEAD + EVENT.replace("%s}", ',"ext:a":"'), "x", 100 * MB, '"}' + TAIL, {"EVENT_TOO_LARGE": 1}),
    (
        "one list",
        "json",
        HEAD + EVENT.replace("%s}", ',"ext:a":['),
        "1,",
        20 * MB,
        "1]}" + TAIL,
        {"EVENT_TOO_LARGE": 1},
    ),
    ("one name", "json", '{"', "x", 50 * MB, '":1}', {"JSON_MALFORMED": 1}),
    (
        "one text",
        "xml",
        XML_HEAD + XML_EVENT.replace("%s</ObjectEvent>", "<ext:a>"),
        "x",
        100 * MB,
        "</ext:a></ObjectEvent>" + XML_TAIL,
        {"EVENT_TOO_LARGE": 1},
    ),
    (
        "one attribute",
        "xml",
        XML_HEAD + XML_EVENT.replace("%s</ObjectEvent>", "<ext:a ext:b='"),
        "x",
        100 * MB,
        "'/></ObjectEvent>" + XML_TAIL,
        {"EVENT_TOO_LARGE": 1},
    ),
    (
        "one list",
        "xml",
        XML_HEAD + XML_EVENT.replace("%s</ObjectEvent>", ""),
        "<ext:a>" + "x" * 993 + "</ext:a>",
        99_900,
        "</ObjectEvent>" + XML_TAIL,
        {"EVENT_TOO_LARGE": 1},
    ),
    (
        "the head",
        "json",
        HEAD.replace('"epcisBody"', '"ext:a":"x', 1)[: HEAD.index('"epcisBody"') + 10],
        "x",
        50 * MB,
        '","epcisBody":{"eventList":[' + TAIL,
        {"HEADER_TOO_LARGE": 1},
    ),
]


@pytest.mark.parametrize(
    ("name", "ending", "before", "unit", "count", "behind", "codes"),
    LARGE,
    ids=[f"{case[1]}-{case[0]}" for case in LARGE],
)
def test_an_event_of_100_mb_is_refused_in_bounded_memory(
    tmp_path: Path, name: str, ending: str, *, before: str, unit: str, count: int, behind: str, codes: dict[str, int]
) -> None:
    path = tmp_path / ("large.json" if ending == "json" else "large..xml")
    with path.open("w") as file:
        file.write(before)
        for _ in range(100):
            file.write(unit * (count // 100))
        file.write(behind)

    found, mib = _measure(path)
    refused, mib_of_reader = _measure(path, verb="read")

    assert found == codes
    assert len(refused) == 1
    assert mib < 256
    # Four MiB of short numbers take some 75 times as much while they are values.
    assert mib_of_reader < 512


@pytest.mark.parametrize("ending", ["json", ".xml"])
def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path, ending: str) -> None:
    used = []
    for count in (100, 8_000):
        path = tmp_path / f"{count}.{ending}"
        with path.open("w") as file:
            if ending == "json":
                wrong = EVENT % ',"bizStep":"x"'
                file.write(HEAD + ",".join([wrong] * count) + TAIL)
            else:
                file.write(XML_HEAD + (XML_EVENT % "<bizStep>x</bizStep>") * count + XML_TAIL)
        codes, mib = _measure(path)
        assert codes == {"BIZ_STEP_UNKNOWN": count}
        used.append(mib)

    assert used[1] - used[0] < 16


def test_what_is_refused_is_an_error() -> None:
    assert {severity_of(finding) for finding in findings(b"<a/>", "xml")} == {Severity.ERROR}
