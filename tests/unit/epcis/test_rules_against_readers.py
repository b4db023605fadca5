"""What the rules let pass can be read, and what readers or the check at capture refuse has a finding."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtrail.epcis import EpcisDocument, check_event, read_document, read_json, write_json, write_xml
from medtrail.epcis.rules import RULE_OF, Finding, Profile, Severity, check_document, severity_of
from medtrail.errors import MalformedError

NOW = datetime(2027, 1, 1, tzinfo=UTC)
DATA = Path(__file__).parents[4] / "shared" / "data"
DOCUMENTS = DATA / "openepcis-test-resources"
HASHES = DATA / "epcis-event-hash"
with_data = pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="the documents of others are not beside the project")

# Among the valid documents of others, and still refused: for what, and why.
REFUSED = {
    # Their elements are shuffled on purpose, to try readers that take any order; the schemas have one.
    "1.2/EPCIS/XML/Capture/Documents/Jumbled_attributes_order.xml": {"FIELD_ORDER"},
    "2.0/EPCIS/XML/Capture/Documents/JumbledFieldsOrder.xml": {"FIELD_ORDER"},
    "2.0/EPCIS/XML/Query/JumbledFieldsOrder.xml": {"FIELD_ORDER"},
    "expected_equal/differentRepresentationsOfAggregationEvent.xml": {"FIELD_ORDER"},
    # Says everything at once: master data on an observation, which EPCIS 2.0, section 7.4.2, forbids.
    "1.2/EPCIS/XML/Capture/Documents/ObjectEvent_all_possible_fields.xml": {"ILMD_FORBIDDEN"},
}
# The invalid documents of others, with every error that each has.
INVALID = {
    "Combination_of_events_with_missing_mandatory_fields.json": ["FIELD_MISSING"] * 3,
    "Combination_of_multiple_invalid_fields.json": [
        "BIZ_STEP_UNKNOWN", "DISPOSITION_UNKNOWN", "SOURCE_DEST_TYPE_UNKNOWN", "NAMESPACE_MISSING", "TIME_MALFORMED",
        "ACTION_UNKNOWN",
    ],
    "EPCISDocument_without_context.json": ["CONTEXT_MISSING"],
    "ObjectEvent_with_ilmd_field_without_namespace.json": ["NAMESPACE_MISSING"],
    "ObjectEvent_with_invalid_certificationInfo.json": ["FIELD_MALFORMED"] * 2,
    "ObjectEvent_with_invalid_eventTime_format.json": ["TIME_MALFORMED"],
    "ObjectEvent_with_non_standard_bizStep_in_second_event.json": ["BIZ_STEP_UNKNOWN"],
    "ObjectEvent_with_non_standard_disposition.json": ["DISPOSITION_UNKNOWN"],
    "ObjectEvent_with_unknown_field_in_quantityList.json": ["FIELD_UNKNOWN"],
    "ObjectEvent_without_action_and_eventTime.json": ["FIELD_MISSING"] * 3,
    "QueryDocument_with_invalid_action.json": ["ACTION_UNKNOWN"],
    "QueryDocument_with_invalid_eventType.json": ["EVENT_TYPE_UNKNOWN"],
    "Query_with_invalid_values.json": ["TIME_MALFORMED", "ACTION_UNKNOWN", "QUERY_VALUE_WRONG"],
    "Query_with_unknown_parameter.json": ["QUERY_PARAMETER_UNKNOWN"],
    "ObjectEvent_bare_event_without_action.xml": ["FIELD_MISSING"],
    "ObjectEvent_with_invalid_eventTime_format.xml": ["TIME_MALFORMED"],
    "ObjectEvent_with_near_miss_action.xml": ["ACTION_UNKNOWN"],
    "ObjectEvent_with_wrong_element_order.xml": ["FIELD_ORDER"],
    "ObjectEvent_without_eventTime.xml": ["FIELD_MISSING"],
    "QueryDocument_with_invalid_action.xml": ["ACTION_UNKNOWN"],
    "QueryDocument_with_invalid_eventType.xml": ["EVENT_TYPE_UNKNOWN"],
    "QueryDocument_with_missing_value.xml": ["FIELD_MISSING"],
    "Query_without_queryName.xml": ["FIELD_MISSING"],
}  # fmt: skip


def findings(data: bytes, ending: str) -> list[Finding]:
    return list(check_document(io.BytesIO(data), format=ending, now=NOW))


def errors(data: bytes, ending: str) -> list[Finding]:
    found = findings(data, ending)
    assert {finding.code for finding in found} <= set(RULE_OF)
    return [finding for finding in found if severity_of(finding) is Severity.ERROR]


def refusal(data: bytes, ending: str) -> MalformedError | None:
    """Return what a reader or the check at capture refuses a document for, or None."""
    try:
        for event in read_document(data, format=ending).events:
            check_event(event)
    except MalformedError as error:
        return error
    return None


def _files() -> Iterator[tuple[str, Path]]:
    for root in (DOCUMENTS, HASHES):
        for path in sorted(chain(root.rglob("*.xml"), root.rglob("*.json"), root.rglob("*.jsonld"))):
            yield path.relative_to(root).as_posix(), path


@with_data
def test_valid_documents_of_others_pass() -> None:
    refused = {
        name: {finding.code for finding in errors(path.read_bytes(), path.suffix)}
        for name, path in _files()
        if "Invalid" not in path.parts
    }

    assert {name: codes for name, codes in refused.items() if codes} == REFUSED
    assert len(refused) >= 100


@with_data
def test_invalid_documents_of_others_are_refused_with_all_their_findings() -> None:
    found = {
        path.name: [finding.code for finding in errors(path.read_bytes(), path.suffix)]
        for _, path in _files()
        if "Invalid" in path.parts
    }

    assert found == INVALID


@with_data
def test_findings_say_where_they_are() -> None:
    folder = DOCUMENTS / "2.0" / "EPCIS"
    json_file = folder / "JSON/Capture/Invalid/ObjectEvent_with_unknown_field_in_quantityList.json"
    xml_file = folder / "XML/Capture/Invalid/ObjectEvent_with_near_miss_action.xml"

    [in_json] = findings(json_file.read_bytes(), "json")
    [in_xml] = findings(xml_file.read_bytes(), "xml")

    assert (in_json.place, in_json.event_index, in_json.line) == (
        "/epcisBody/eventList/0/quantityList/0/weight",
        0,
        None,
    )
    assert (in_xml.place, in_xml.event_index) == ("/EPCISDocument/EPCISBody/EventList/*[1]/action", 0)
    assert in_xml.line == 1 + xml_file.read_text().splitlines().index("                <action>OBSERV</action>")


@with_data
def test_the_gs1_us_example_keeps_the_dscsa_profile() -> None:
    path = DOCUMENTS / "1.2/EPCIS/XML/Capture/Documents/GS1_US_Pharma_Example_2_2_1_1.xml"
    with path.open("rb") as stream:
        assert list(check_document(stream, format="xml", now=NOW, profiles=[Profile.DSCSA])) == []


def test_documents_of_every_form_pass_and_are_read(full_document: EpcisDocument) -> None:
    for data, ending in (
        (write_json(full_document), "json"),
        (write_xml(full_document), "xml"),
    ):
        # One sensor element is empty, which readers bear and the schemas do not.
        assert [finding.code for finding in findings(data, ending)] == ["FIELD_MISSING"]
        assert refusal(data, ending) is None


def test_documents_of_version_1_2_pass_and_are_read(document: EpcisDocument) -> None:
    data = write_xml(document, version="1.2")

    assert findings(data, "xml") == []
    assert refusal(data, "xml") is None


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(["", " ", "x", "urn:x:1", "ADD", "shipping", "2026-05-04T10:00:00Z", "+01:00", "1e9999", "\x00"]),
    st.sampled_from(["urn:epc:id:sgtin:030001.0012345.11", "urn:epc:id:sgtin:030001.12345.11", "ObjectEvent"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["id", "type", "ext:a", "b", "value", "epcClass"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        yield from _paths(item, (*path, step))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture is a constant
@given(data=st.data())
def test_what_is_refused_in_json_has_a_finding(full_document: EpcisDocument, data: st.DataObject) -> None:
    document: Any = json.loads(write_json(full_document))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(_paths(document), key=str)))
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        change = data.draw(st.sampled_from(["put", "drop", "add"]))
        if change == "put":
            parent[path[-1]] = data.draw(VALUES)
        elif change == "drop":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[data.draw(st.sampled_from(["ext:a", "b", "parentID", "eventID", "@id", "isA"]))] = data.draw(VALUES)
    text = json.dumps(document).encode()

    refused = refusal(text, "json")

    assert refused is None or errors(text, "json"), refused


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture is a constant
@given(data=st.data())
def test_what_is_refused_in_xml_has_a_finding(full_document: EpcisDocument, data: st.DataObject) -> None:
    from lxml import etree

    root = etree.fromstring(write_xml(full_document))
    for _ in range(data.draw(st.integers(1, 3))):
        elements = list(root.iter())
        element = elements[data.draw(st.integers(1, len(elements) - 1))] if len(elements) > 1 else root
        change = data.draw(st.sampled_from(["text", "drop", "double", "rename", "attribute", "child"]))
        parent = element.getparent()
        if change == "text":
            element.text = data.draw(st.sampled_from(["", "x", "urn:x:1", "DELETE", "2026-02-30T00:00:00Z", "-0:00"]))
        elif change == "drop" and parent is not None:
            parent.remove(element)
        elif change == "double" and parent is not None:
            parent.append(etree.fromstring(etree.tostring(element)))
        elif change == "rename" and parent is not None:
            element.tag = data.draw(st.sampled_from(["extension", "colour", "{urn:x}colour", "epcList", "ilmd"]))
        elif change == "attribute":
            element.set(data.draw(st.sampled_from(["type", "colour", "value", "time"])), "x")
        elif change == "child":
            etree.SubElement(element, data.draw(st.sampled_from(["epc", "{urn:x}a", "id", "extension", "set"])))
    text = etree.tostring(root)

    refused = refusal(text, "xml")

    assert refused is None or errors(text, "xml"), refused


def test_readers_and_rules_know_the_same_codes(full_document: EpcisDocument) -> None:
    assert read_json(write_json(full_document)).events == full_document.events
    folder = Path(__file__).parents[3] / "medtrail" / "epcis"
    raised = {
        word
        for path in (folder / "build.py", folder / "json_in.py", folder / "xml_in.py", folder / "validation.py")
        for word in path.read_text().split('"')
        if word.isupper() and "_" in word and word.isidentifier()
    }

    # Larger documents are read as streams.
    assert raised - set(RULE_OF) <= {"DOCUMENT_TOO_LARGE"}
    assert "FIELD_MISSING" in raised
