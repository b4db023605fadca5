"""What goes in comes out: JSON-LD and both XML versions."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from medtrail.epcis import (
    EpcisDocument,
    EpcisEvent,
    EventType,
    Extension,
    Place,
    event_from_json,
    event_hash,
    event_to_json,
    read_document,
    read_json,
    read_xml,
    write_json,
    write_xml,
)
from medtrail.errors import MalformedError


def test_json_document_comes_back(full_document: EpcisDocument) -> None:
    assert read_json(write_json(full_document)) == full_document


def test_xml_document_comes_back(full_document: EpcisDocument) -> None:
    found = read_xml(write_xml(full_document))

    assert found.events == full_document.events
    assert found.vocabularies == full_document.vocabularies
    assert (found.sender, found.receiver, found.instance_identifier) == (
        full_document.sender,
        full_document.receiver,
        full_document.instance_identifier,
    )
    assert found.header_extensions == full_document.header_extensions
    assert found.extensions == full_document.extensions
    assert found.creation_date == full_document.creation_date


def test_xml_1_2_document_comes_back(document: EpcisDocument) -> None:
    found = read_xml(write_xml(document, version="1.2"))

    assert found.schema_version == "1.2"
    assert found.events == document.events
    assert found.vocabularies == document.vocabularies


def test_bare_document_comes_back_in_every_form(event: EpcisEvent) -> None:
    document = EpcisDocument(events=(event,))

    assert read_json(write_json(document)).events == (event,)
    assert read_xml(write_xml(document)).events == (event,)


def test_event_comes_back_alone_and_keeps_its_hash(event: EpcisEvent) -> None:
    assert event_from_json(event_to_json(event)) == event
    assert read_json(json.dumps(event_to_json(event)).encode()).events == (event,)
    assert event_hash(read_xml(write_xml(EpcisDocument(events=(event,)))).events[0]) == event_hash(event)


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": None, "creation_date": None},
        {"receiver": None, "instance_identifier": None},
        {"sender": None, "receiver": None, "instance_identifier": None},
        {"sender": None, "receiver": None, "instance_identifier": None, "vocabularies": ()},
        {"sender": None, "receiver": None, "instance_identifier": None, "vocabularies": (), "header_extensions": ()},
    ],
    ids=range(5),
)
def test_headers_come_back_whatever_they_lack(document: EpcisDocument, changes: dict[str, object]) -> None:
    found = replace(document, **changes)  # type: ignore[arg-type]  # one field each

    assert read_json(write_json(found)) == found
    again = read_xml(write_xml(found))
    assert (again.sender, again.receiver, again.instance_identifier) == (
        found.sender,
        found.receiver,
        found.instance_identifier,
    )
    assert (again.vocabularies, again.header_extensions) == (found.vocabularies, found.header_extensions)


def test_numbers_and_truth_values_come_back_from_json(event: EpcisEvent) -> None:
    values = (
        Extension("urn:x:", "number", Decimal("2.25")),
        Extension("urn:x:", "whole", Decimal(7)),
        Extension("urn:x:", "flag", value=True),
        Extension("urn:x:", "none", None),
        Extension("urn:x:", "nested", (Extension("", "bare", "text"),)),
    )
    found = replace(event, extensions=values)

    assert read_json(write_json(EpcisDocument(events=(found,)))).events == (found,)


def test_numbers_and_truth_values_come_back_from_xml(event: EpcisEvent) -> None:
    marked = (("urn:x:", "unit", "KGM"),)
    values = (
        Extension("urn:x:", "number", Decimal("2.250"), marked),
        Extension("urn:x:", "flag", value=True),
        Extension("urn:x:", "none", None),
    )
    found = replace(event, extensions=values)

    assert read_xml(write_xml(EpcisDocument(events=(found,)))).events == (found,)


@pytest.mark.parametrize(
    ("key", "word", "text"),
    [("type", "xsd:decimal", "1e3"), ("type", "xsd:boolean", "yes"), ("nil", "true", "x"), ("type", "xsd:int", "7")],
)
def test_marked_text_of_other_writers_stays_as_it_is(event: EpcisEvent, key: str, word: str, text: str) -> None:
    value = Extension("urn:x:", "a", text, (("http://www.w3.org/2001/XMLSchema-instance", key, word),))
    found = replace(event, extensions=(value,))

    assert read_xml(write_xml(EpcisDocument(events=(found,)))).events == (found,)


def test_new_prefixes_avoid_declared_ones(event: EpcisEvent) -> None:
    found = replace(event, extensions=(Extension("https://one.example/", "x", "1"),), read_point=Place("urn:x:p"))
    document = EpcisDocument(events=(found,), namespaces=(("ext2", "https://two.example/"),))

    context = json.loads(write_json(document))["@context"]

    assert {"ext2": "https://two.example/"} in context
    prefixes = [next(iter(item)) for item in context[1:]]
    assert len(prefixes) == len(set(prefixes))
    assert any("https://one.example/" in item.values() for item in context[1:])


def test_sensor_extension_with_structure_stays_an_element(full_document: EpcisDocument) -> None:
    association = full_document.events[-1]
    element = association.sensor_element_list[0]
    report = replace(element.reports[0], extensions=(Extension("urn:x:", "deep", (Extension("urn:x:", "a", "b"),)),))
    found = replace(association, sensor_element_list=(replace(element, reports=(report,)),))

    assert read_xml(write_xml(EpcisDocument(events=(found,)))).events == (found,)


@pytest.mark.parametrize("ending", ["json", ".jsonld", "JSON"])
def test_reads_json_by_its_ending(document: EpcisDocument, ending: str) -> None:
    assert read_document(write_json(document), format=ending) == document


def test_reads_xml_by_its_ending_and_refuses_others(document: EpcisDocument) -> None:
    assert read_document(write_xml(document), format=".xml").events == document.events
    with pytest.raises(MalformedError) as caught:
        read_document(b"", format="csv")
    assert caught.value.code == "FORMAT_UNKNOWN"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("sensor_element_list", "sensorElementList"),
        ("persistent_disposition", "persistentDisposition"),
        ("certification_info", "certificationInfo"),
    ],
)
def test_refuses_to_leave_out_what_version_1_2_cannot_say(full_document: EpcisDocument, name: str, field: str) -> None:
    association = full_document.events[-1]
    plain = replace(
        association,
        type=EventType.AGGREGATION,
        sensor_element_list=(),
        persistent_disposition=None,
        certification_info=(),
    )
    event = replace(plain, **{name: getattr(association, name)})

    with pytest.raises(MalformedError) as caught:
        write_xml(EpcisDocument(events=(event,)), version="1.2")
    assert (caught.value.code, caught.value.field) == ("NOT_IN_VERSION", f"events[0].{field}")


def test_refuses_association_events_in_version_1_2_and_unknown_versions(full_document: EpcisDocument) -> None:
    event = replace(
        full_document.events[-1], sensor_element_list=(), persistent_disposition=None, certification_info=()
    )
    for version, code in (("1.2", "NOT_IN_VERSION"), ("3.0", "VERSION_UNKNOWN")):
        with pytest.raises(MalformedError) as caught:
            write_xml(EpcisDocument(events=(event,)), version=version)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "extension", [Extension("urn:x:", "not a name", "x"), Extension("urn:x:", "x", "nul \x00"), Extension("", "", "x")]
)
def test_refuses_what_is_no_xml(event: EpcisEvent, extension: Extension) -> None:
    with pytest.raises(MalformedError) as caught:
        write_xml(EpcisDocument(events=(replace(event, extensions=(extension,)),)))
    assert caught.value.code == "NOT_IN_XML"


def test_refuses_control_characters_in_fields_of_the_standard(event: EpcisEvent) -> None:
    with pytest.raises(MalformedError) as caught:
        write_xml(EpcisDocument(events=(replace(event, biz_step="ship\x01ping"),)))
    assert caught.value.code == "NOT_IN_XML"
