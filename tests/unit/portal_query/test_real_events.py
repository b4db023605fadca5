"""Events of real documents, whatever fields they have, are found by what they say and told as they were."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.epcis import check_event, event_hash, read_document, read_json, read_xml
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError
from medtrail.gs1 import PrefixLengths
from services.portal.headers import EpcFormat, MediaType, Wanted
from services.portal.query.documents import query_document
from tests.unit.portal_query.conftest import query

if TYPE_CHECKING:
    from tests.unit.portal_query.conftest import Shelf

DATA = Path(__file__).parents[4] / "shared" / "data" / "openepcis-test-resources" / "2.0" / "EPCIS"


def real_events() -> Iterator[EpcisEvent]:
    """Yield the sound events of all documents, each content once, under an id."""
    seen: set[str] = set()
    for path in sorted(DATA.rglob("*")):
        if path.suffix not in {".json", ".xml"} or "Invalid" in path.parts:
            continue
        try:
            events = read_document(path.read_bytes(), format=path.suffix).events
        except MedtrailError:
            continue
        for event in events:
            ident = event_hash(event)
            try:
                check_event(event)
            except MedtrailError:
                continue
            if ident not in seen:
                seen.add(ident)
                yield replace(event, event_id=ident, record_time=None)


def identifiers(event: EpcisEvent) -> list[str]:
    parent = [] if event.parent_id is None else [event.parent_id]
    return [*parent, *event.epc_list, *event.child_epcs, *event.input_epc_list, *event.output_epc_list]


@pytest.mark.skipif(not DATA.exists(), reason="the documents of OpenEPCIS are not beside the repository")
def test_real_events_are_found_and_told_as_they_were(shelf: "Shelf") -> None:
    events = list(real_events())
    assert len(events) > 50
    shelf.add(*events)
    number_of = {event.event_id: number for number, event in enumerate(events, 1)}
    assert set(shelf.numbers()) == set(number_of.values())
    for event in events:
        number = number_of[event.event_id]
        for epc in identifiers(event)[:2]:
            assert number in shelf.numbers(MATCH_anyEPC=[epc]), epc
        if event.read_point is not None:
            assert number in shelf.numbers(EQ_readPoint=[event.read_point.id])
        if event.biz_step is not None:
            assert number in shelf.numbers(EQ_bizStep=[event.biz_step], EQ_eventID=[event.event_id])
    found = asyncio.run(shelf.repository.page(query(), size=1000))
    assert found.following is None
    told = [item.event for item in found.events]
    assert [replace(event, record_time=None) for event in told] == events
    prefixes = PrefixLengths()
    json = query_document(told, Wanted(MediaType.JSON_LD), prefixes=prefixes)
    assert read_json(json).events == tuple(told)
    xml = query_document(told, Wanted(MediaType.XML), prefixes=prefixes)
    assert [event_hash(event) for event in read_xml(xml).events] == [event.event_id for event in events]
    linked = query_document(told, Wanted(MediaType.JSON, EpcFormat.ALWAYS_DIGITAL_LINK), prefixes=prefixes)
    # Another spelling of the same content.
    assert [event_hash(event) for event in read_json(linked).events] == [event.event_id for event in events]
