"""What the REST interface answers about events, by path, page, form and spelling."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from lxml import etree

from medtrail.epcis import read_json, read_xml
from medtrail.epcis.model import BizTransaction, EpcisEvent, EventType, Extension, Place, QuantityElement, SourceDest
from services.portal.query.paging import LIFETIME
from tests.unit.portal_query.conftest import EXT, START, object_event

if TYPE_CHECKING:
    from tests.unit.portal_query.conftest import HandClock, Rest

PACK = "urn:epc:id:sgtin:0300010.012345.1"
LINK = "https://id.gs1.org/01/00300010123455/21/1"
ID = "ni:///sha-256;8fe1a8b1d1c7f8e0a2c3f4b5a697887766554433221100ffeeddccbbaa998877?ver=CBV2.0"


def at(second: int, **fields: Any) -> EpcisEvent:
    return object_event(event_time=START + timedelta(seconds=second), **fields)


def told(*seconds: int) -> list[str]:
    return [(START + timedelta(seconds=second)).isoformat().replace("+00:00", "Z") for second in seconds]


@pytest.fixture
def full(rest: "Rest") -> "Rest":
    rest.shelf.add(
        at(
            1,
            event_id=ID,
            epc_list=(PACK,),
            biz_step="shipping",
            disposition="in_transit",
            read_point=Place("urn:epc:id:sgln:0300010.00000.0"),
            biz_transaction_list=(BizTransaction("urn:x:1", "po"),),
            source_list=(SourceDest("owning_party", "urn:epc:id:pgln:0300010.00000"),),
            quantity_list=(QuantityElement("https://id.gs1.org/01/00300010999999"),),
            extensions=(Extension(EXT, "note", "hello"),),
        ),
        at(2, epc_list=(LINK, "https://id.gs1.org/00/003000100000000015"), biz_step="packing"),
        at(3, type=EventType.ASSOCIATION, parent_id="urn:x:asset", biz_location=Place("urn:x:place")),
    )
    return rest


def test_events_are_asked_by_url(full: "Rest") -> None:
    assert full.events("/events") == told(1, 2, 3)
    assert full.events(f"/events?MATCH_epc={quote(PACK)}") == told(1, 2)
    assert full.events("/events?EQ_bizStep=shipping,packing") == told(1, 2)
    assert full.events("/events?EQ_bizStep=shipping&EQ_bizStep=packing") == told(1, 2)
    assert full.events("/events?GE_eventTime=2026-03-01T08:00:02Z&orderBy=eventTime") == told(3, 2)
    assert full.events("/events?GE_eventTime=2026-03-01T10:00:02%2B02:00") == told(2, 3)
    assert full.events("/events?GE_eventTime=2026-03-01T10:00:02+02:00") == told(2, 3)
    assert full.events("/events?EQ_ext:note=hello", headers={"GS1-Extensions": f"ext={EXT}"}) == told(1)
    assert full.events(f"/events?EQ_{quote(EXT)}%23note=hello") == told(1)
    assert full.events("/events", headers={"GS1-Query-Min-Record-Time": "2026-03-01T08:00:02Z"}) == told(2, 3)


@pytest.mark.parametrize(
    ("path", "headers", "wanted"),
    [
        ("/events?EQ_bizStp=x", {}, (400, "QueryParameterException", "EQ_bizStp")),
        ("/events?perPage=0", {}, (400, "QueryParameterException", "perPage")),
        ("/events?perPage=1&perPage=2", {}, (400, "QueryParameterException", "perPage")),
        ("/events?nextPageToken=x", {}, (400, "QueryParameterException", "nextPageToken")),
        ("/events?maxEventCount=2", {}, (413, "QueryTooLargeException", "maxEventCount")),
        ("/events?" + "&a=b" * 201, {}, (413, "QueryTooComplexException", None)),
        ("/events?EQ_ext:note=x", {}, (400, "QueryParameterException", "EQ_ext:note")),
        ("/events", {"GS1-Extensions": "ext"}, (400, "ValidationException", "GS1-Extensions")),
        ("/events", {"GS1-Query-Min-Record-Time": "x"}, (400, "QueryParameterException", "GS1-Query-Min-Record-Time")),
        ("/events", {"Accept": "text/html"}, (406, "NotAcceptableException", "Accept")),
        ("/events", {"Authorization": ""}, (401, "SecurityException", "Authorization")),
        ("/events/urn:x:none", {}, (404, "NoSuchResourceException", "eventID")),
        ("/eventTypes/QuantityEvent", {}, (404, "NoSuchResourceException", "eventType")),
        ("/eventTypes/QuantityEvent/events", {}, (404, "NoSuchResourceException", "eventType")),
        ("/eventTypes/ObjectEvent/events?eventType=ObjectEvent", {}, (400, "QueryParameterException", "eventType")),
        ("/bizSteps/shiping/events", {}, (404, "NoSuchResourceException", "bizSteps")),
        ("/bizSteps/receiving", {}, (404, "NoSuchResourceException", "bizSteps")),
        ("/epcs/urn:x:none", {}, (404, "NoSuchResourceException", "epcs")),
    ],
)
def test_wrong_questions_get_the_standards_exceptions(
    full: "Rest", path: str, headers: dict[str, str], wanted: tuple[int, str, str | None]
) -> None:
    answer = full.get(path, headers=headers)
    body = answer.json()
    told_by = (answer.status_code, body["type"].removeprefix("epcisException:"), body.get("field"))
    assert told_by == wanted
    assert body["code"]


def test_a_token_for_something_else_opens_nothing(full: "Rest") -> None:
    assert full.get("/events", caller="line").status_code == 403


def test_pages_are_linked_and_stay_as_they_were(full: "Rest") -> None:
    answer = full.get("/events?perPage=2&orderBy=eventTime&orderDirection=ASC")
    assert answer.links["next"]["url"].startswith("http://portal.example/events?perPage=2&nextPageToken=")
    assert answer.headers["GS1-Next-Page-Token-Expires"].endswith("Z")
    full.shelf.add(at(0))
    following = answer.links["next"]["url"]
    assert full.events(following) == told(3)
    assert "link" not in full.get(following).headers
    # Repeating what was asked is no other question.
    assert full.events(following + "&orderBy=eventTime&orderDirection=ASC") == told(3)
    assert full.get(following + "&orderBy=recordTime").json()["code"] == "PAGE_TOKEN_INVALID"


def test_a_page_token_is_its_callers_for_one_resource_and_a_while(full: "Rest", clock: "HandClock") -> None:
    following = full.get("/events?perPage=1").links["next"]["url"]
    token = following.rpartition("=")[2]
    assert full.get(following, caller="other").json()["code"] == "PAGE_TOKEN_INVALID"
    assert full.get(f"/eventTypes/ObjectEvent/events?nextPageToken={token}").json()["code"] == "PAGE_TOKEN_INVALID"
    assert full.ask("DELETE", f"/nextPageToken/{token}", caller="other").status_code == 404
    clock.now += LIFETIME + timedelta(seconds=1)
    assert full.get(following).json()["code"] == "PAGE_TOKEN_INVALID"
    assert full.ask("DELETE", f"/nextPageToken/{token}").status_code == 404


def test_a_page_token_is_withdrawn(full: "Rest") -> None:
    following = full.get("/events?perPage=1").links["next"]["url"]
    token = following.rpartition("=")[2]
    assert full.ask("DELETE", f"/nextPageToken/{token}").status_code == 204
    assert full.get(following).status_code == 400
    assert full.ask("DELETE", f"/nextPageToken/{token}").status_code == 404


def test_a_page_token_of_an_index_that_was_made_anew_is_refused(full: "Rest") -> None:
    following = full.get("/events?perPage=1").links["next"]["url"]
    asyncio.run(full.shelf.repository.begin_anew())
    assert full.get(following).json()["code"] == "PAGE_TOKEN_INVALID"


def test_page_tokens_are_bounded_in_number(full: "Rest", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.portal.query.paging.MOST_TOKENS", 2)
    links = [full.get("/events?perPage=1").links["next"]["url"] for _ in range(3)]
    assert [full.get(link).status_code for link in links].count(200) == 2


def test_one_event_is_told_by_its_id_in_both_forms(full: "Rest") -> None:
    path = f"/events/{quote(ID, safe='')}"
    (event,) = read_json(full.get(path).content).events
    assert (event.event_id, event.epc_list, event.record_time) == (ID, (PACK,), START + timedelta(seconds=1))
    assert full.get(f"/events/{ID}").json()["eventID"] == ID
    (other,) = read_xml(full.get(path, headers={"Accept": "application/xml"}).content).events
    assert other == event


def test_answers_are_query_documents_in_both_forms(full: "Rest") -> None:
    plain = full.get("/events?EQ_bizStep=shipping,packing")
    assert plain.headers["content-type"] == "application/ld+json"
    body = plain.json()
    assert (body["type"], body["schemaVersion"]) == ("EPCISQueryDocument", "2.0")
    assert body["epcisBody"]["queryResults"]["queryName"] == "SimpleEventQuery"
    xml = full.get("/events?EQ_bizStep=shipping,packing", headers={"Accept": "application/xml"})
    root = etree.fromstring(xml.content)
    assert root.tag == "{urn:epcglobal:epcis-query:xsd:2}EPCISQueryDocument"
    assert read_xml(xml.content).events == read_json(plain.content).events


def test_identifiers_and_words_come_in_the_spelling_asked_for(full: "Rest") -> None:
    def first(**headers: str) -> EpcisEvent:
        path = f"/events?EQ_eventID={quote(ID, safe='')}"
        answer = full.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        read = read_xml if "xml" in answer.headers["content-type"] else read_json
        return read(answer.content).events[0]

    assert first().epc_list == (PACK,)
    link = first(GS1_EPC_Format="Always_GS1_Digital_Link")
    assert link.epc_list == (LINK,)
    assert link.read_point == Place("https://id.gs1.org/414/0300010000008")
    assert link.source_list[0].id == "https://id.gs1.org/417/0300010000008"
    assert link.biz_transaction_list[0].id == "urn:x:1"
    urn = first(GS1_EPC_Format="Always_EPC_URN")
    assert urn.quantity_list[0].epc_class == "urn:epc:idpat:sgtin:0300010.099999.*"
    assert (urn.epc_list, urn.source_list[0].id) == ((PACK,), "urn:epc:id:pgln:0300010.00000")
    answer = full.get(
        "/events?EQ_bizStep=shipping",
        headers={"Accept": "application/xml", "GS1-CBV-XML-Format": "Always_Web_URI"},
    )
    assert "https://ref.gs1.org/cbv/BizStep-shipping" in answer.text
    assert "https://ref.gs1.org/cbv/BTT-po" in answer.text
    assert first(Accept="application/xml", GS1_CBV_XML_Format="Always_Web_URI").biz_step == "shipping"
    assert "urn:epcglobal:cbv:bizstep:shipping" in full.get("/events", headers={"Accept": "text/xml, */*;q=0"}).text


def test_a_link_whose_company_prefix_nobody_has_shown_stays_a_link(rest: "Rest") -> None:
    other = "https://id.gs1.org/01/09521141012345/21/2017"
    rest.shelf.add(at(1, epc_list=(other, "urn:x:thing")))
    answer = rest.get("/events", headers={"GS1-EPC-Format": "Always_EPC_URN"})
    assert read_json(answer.content).events[0].epc_list == (other, "urn:x:thing")
    assert answer.headers["GS1-EPC-Format"] == "Always_EPC_URN"
    rest.shelf.add(at(2, epc_list=("urn:epc:id:sgtin:9521141.001234.1",)))
    rest.shelf.close()
    rest.shelf.open()
    assert rest.shelf.repository.prefixes.length_of is not None


def test_events_are_browsed_by_what_they_say(full: "Rest") -> None:
    def members(path: str, **options: Any) -> list[str]:
        found: list[str] = full.get(path, **options).json()["member"]
        return found

    assert members("/eventTypes")[0] == "AggregationEvent"
    assert members("/eventTypes/ObjectEvent") == ["events"]
    assert full.events("/eventTypes/AssociationEvent/events") == told(3)
    assert members("/bizSteps") == ["packing", "shipping"]
    assert full.events("/bizSteps/packing/events") == told(2)
    assert full.events(f"/bizSteps/{quote('https://ref.gs1.org/cbv/BizStep-packing', safe='')}/events") == told(2)
    assert members("/dispositions") == ["in_transit"]
    assert full.events("/dispositions/in_transit/events?EQ_action=OBSERVE") == told(1)
    assert members("/readPoints") == ["https://id.gs1.org/414/0300010000008"]
    assert members("/bizLocations") == ["urn:x:place"]
    assert full.events("/bizLocations/urn:x:place/events") == told(3)
    assert full.events(f"/readPoints/{quote('https://id.gs1.org/414/0300010000008', safe='')}/events") == told(1)
    assert members("/epcs") == ["https://id.gs1.org/00/003000100000000015", LINK, "urn:x:asset"]
    assert members("/epcs", headers={"GS1-EPC-Format": "Always_EPC_URN"})[1] == PACK
    assert members(f"/epcs/{PACK}") == ["events"]
    assert full.events(f"/epcs/{PACK}/events") == told(1, 2)
    assert full.events(f"/epcs/{quote(LINK, safe='')}/events") == told(1, 2)
    assert full.events(f"/epcs/{LINK}/events") == told(1, 2)


def test_values_come_by_page(full: "Rest") -> None:
    for path, count in (("/epcs", 3), ("/eventTypes", 5)):
        whole = full.get(path).json()["member"]
        assert len(whole) == count
        found: list[str] = []
        following: str | None = f"{path}?perPage=2"
        while following is not None:
            answer = full.get(following)
            found += answer.json()["member"]
            following = answer.links.get("next", {}).get("url")
        assert found == whole


def test_a_resource_with_its_own_question_pages_as_well(full: "Rest") -> None:
    path = f"/epcs/{quote(LINK, safe='')}/events"
    answer = full.get(path + "?perPage=1")
    following = answer.links["next"]["url"]
    assert path in following
    assert full.events(following) == told(2)


def test_options_tell_the_methods(full: "Rest") -> None:
    answer = full.ask("OPTIONS", "/queries/x/subscriptions")
    assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")
