"""The capture interface of a running portal: over HTTP, with the organisation's service behind it."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from medtrail.runtime.portal_tokens import Scope, add_token
from medtrail.runtime.settings import PortalSettings
from services.portal.bootstrap import DATABASE_NAME, running

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World

JSON = {"Content-Type": "application/ld+json"}
CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
PROCEED = {"GS1-Capture-Error-Behaviour": "proceed"}


@asynccontextmanager
async def portal(world: "World", maker: "Client", **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A running portal of the maker, and a client whose token may capture and query."""
    folder = world.folder / "portal"
    folder.mkdir(exist_ok=True)
    tokens = folder / "tokens"
    known = tokens.exists()
    name = f"erp{tokens.stat().st_size if known else ''}"
    token = add_token(tokens, name, frozenset({Scope.CAPTURE, Scope.QUERY}), created=datetime.now(UTC))
    settings = PortalSettings(
        **{
            "org_dir": world.network["maker"].path,
            "data_dir": folder / "data",
            "service_address": maker.address,  # type: ignore[attr-defined]
            "token_file": tokens,
            **changes,
        }
    )
    async with (
        running(settings) as (_portal, url),
        httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client,
    ):
        yield client


def pack(serial: int) -> str:
    return f"urn:epc:id:sgtin:030001.0012345.{serial}"


def commissioning(serial: int, **fields: Any) -> dict[str, Any]:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=serial)
    place = {"id": "urn:epc:id:sgln:030001.111111.0"}
    event = {
        "type": "ObjectEvent",
        "eventTime": moment.isoformat(timespec="milliseconds"),
        "eventTimeZoneOffset": "-05:00",
        "action": "ADD",
        "epcList": [pack(serial)],
        "bizStep": "commissioning",
        "disposition": "active",
        "readPoint": place,
        "bizLocation": place,
    }
    return event | fields


def document(events: Sequence[Any]) -> bytes:
    return json.dumps(
        {
            "@context": [CONTEXT],
            "type": "EPCISDocument",
            "schemaVersion": "2.0",
            "creationDate": "2026-03-01T12:00:00Z",
            "epcisBody": {"eventList": list(events)},
        }
    ).encode()


def single(event: dict[str, Any]) -> bytes:
    return json.dumps({"@context": [CONTEXT], **event}).encode()


async def finished(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    async with asyncio.timeout(90):
        while True:
            answer = await client.get(location)
            assert answer.status_code == 200, answer.text
            job: dict[str, Any] = answer.json()
            if not job["running"]:
                return job
            await asyncio.sleep(0.02)


async def captured(client: httpx.AsyncClient, body: bytes, **headers: str) -> dict[str, Any]:
    answer = await client.post("/capture", content=body, headers={**JSON, **headers})
    assert answer.status_code == 202, answer.text
    return await finished(client, answer.headers["Location"])


def test_a_document_is_captured_and_found(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker) as client:
            answer = await client.post("/capture", content=document([commissioning(n) for n in range(3)]), headers=JSON)
            assert (answer.status_code, answer.content) == (202, b"")
            assert answer.headers["GS1-Capture-Error-Behaviour"] == "rollback"
            job = await finished(client, answer.headers["Location"])
            assert job["captureID"] == answer.headers["Location"].rpartition("/")[2]
            assert (job["success"], job["errors"], job["medtrail:capturedCount"]) == (True, [], 3)
            assert job["createdAt"] <= job["finishedAt"]
            found = (await client.get("/events")).json()["epcisBody"]["queryResults"]["resultsBody"]["eventList"]
            assert sorted(event["epcList"][0] for event in found) == [pack(0), pack(1), pack(2)]
            again = await captured(client, document([commissioning(n) for n in range(3)]))
            assert (again["success"], again["medtrail:resendCount"]) == (True, 3)
        assert (await maker.holding(pack(1))).epc

    play(story)


def test_all_or_nothing_leaves_nothing_when_one_event_is_refused(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker) as client:
            # What is unsound is told of every event, before the service is asked.
            unsound = [commissioning(0), commissioning(1, bizStep="shopping"), commissioning(2, action="ERASE")]
            job = await captured(client, document(unsound))
            assert (job["success"], job["medtrail:capturedCount"]) == (False, 0)
            assert [(error["event"], error["code"]) for error in job["errors"]] == [
                (1, "BIZ_STEP_UNKNOWN"),
                (2, "ACTION_UNKNOWN"),
            ]
            assert job["errors"][0]["type"] == "epcisException:ValidationException"
            # What the books forbid is told by the service, in the second of two chunks.
            events = [commissioning(n) for n in range(505)]
            events[502] = commissioning(7, eventTime="2026-03-02T12:00:00Z")
            job = await captured(client, document(events))
            assert (job["success"], job["medtrail:capturedCount"]) == (False, 0)
            [error] = job["errors"]
            assert (error["event"], error["code"]) == (502, "ALREADY_COMMISSIONED")
            assert error["field"] == "eventList[502].epcList[0]"
            found = (await client.get("/events")).json()["epcisBody"]["queryResults"]["resultsBody"]["eventList"]
            assert found == []

    play(story)


def test_proceeding_captures_all_good_events_and_names_the_others(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker) as client:
            events: list[Any] = [commissioning(n) for n in range(30)]
            events[4] = commissioning(4, bizStep="shopping")
            for bad in (10, 11, 29):
                events[bad] = commissioning(0, eventTime=f"2026-03-02T12:00:{bad}Z")
            events[20] = 7
            job = await captured(client, document(events), **PROCEED)
            assert (job["success"], job["captureErrorBehaviour"]) == (False, "proceed")
            assert sorted(error["event"] for error in job["errors"]) == [4, 10, 11, 20, 29]
            assert (job["medtrail:capturedCount"], job["medtrail:errorCount"]) == (25, 5)
            found = (await client.get("/events?perPage=100")).json()["epcisBody"]["queryResults"]["resultsBody"]
            assert len(found["eventList"]) == 25
            # A document that breaks off is refused before anything of it is captured.
            broken = document([commissioning(n) for n in range(40, 43)])[:-60]
            answer = await client.post("/capture", content=broken, headers={**JSON, **PROCEED})
            assert (answer.status_code, answer.json()["code"]) == (400, "JSON_MALFORMED")

    play(story)


def test_one_event_is_captured_at_once_and_a_resend_gets_its_first_receipt(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker) as client:
            first = await client.post("/events", content=single(commissioning(1)), headers=JSON)
            assert first.status_code == 201, first.text
            event_id = first.json()["eventID"]
            assert event_id.startswith("ni:///sha-256;")
            assert (await client.get(first.headers["Location"])).json()["epcList"] == [pack(1)]
            again = await client.post("/events", content=document([commissioning(1)]), headers=JSON)
            assert (again.status_code, again.headers["Location"]) == (201, first.headers["Location"])
            assert again.json()["eventID"] == event_id
            other = single(commissioning(2, eventID=event_id))
            answer = await client.post("/events", content=other, headers=JSON)
            assert (answer.status_code, answer.json()["type"]) == (409, "epcisException:ResourceAlreadyExistsException")
            assert answer.json()["code"] == "EVENT_ID_CONFLICT"
            for body, code in (
                (document([]), "ONE_EVENT"),
                (document([commissioning(3), commissioning(4)]), "ONE_EVENT"),
                (single(commissioning(3, bizStep="shopping")), "BIZ_STEP_UNKNOWN"),
                (single(commissioning(1, eventTime="2026-03-02T12:00:00Z")), "ALREADY_COMMISSIONED"),
                (b"", "BODY_EMPTY"),
            ):
                answer = await client.post("/events", content=body, headers=JSON)
                assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
            large = await client.post("/events", content=b" " * (4 * 1024 * 1024 + 1), headers=JSON)
            assert (large.status_code, large.json()["code"]) == (413, "BODY_TOO_LARGE")

    play(story)


def test_xml_goes_in_and_comes_out(play: "Play") -> None:
    async def story(world: "World") -> None:
        from medtrail.epcis import EpcisDocument, event_from_json, read_xml, write_xml

        maker = await world.start("maker")
        event = event_from_json(commissioning(1))
        for version in ("1.2", "2.0"):
            body = write_xml(EpcisDocument((event,), creation_date=event.event_time), version=version)
            async with portal(world, maker) as client:
                job = await captured(client, body, **{"Content-Type": "application/xml"})
                assert job["success"], job
                asked = {"Content-Type": "text/xml", "Accept": "application/xml", "GS1-EPC-Format": "Always_EPC_URN"}
                answer = await client.post("/events", content=body, headers=asked)
                assert (answer.status_code, answer.headers["Content-Type"]) == (201, "application/xml")
                [told] = read_xml(answer.content).events
                assert told.epc_list == (pack(1),)
                links = {"Accept": "application/xml", "GS1-EPC-Format": "Always_GS1_Digital_Link"}
                answer = await client.get(answer.headers["Location"], headers=links)
                [told] = read_xml(answer.content).events
                assert told.epc_list == ("https://id.gs1.org/01/00300010123455/21/1",)

    play(story)


def test_what_has_happened_already_is_captured_with_an_alert(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker) as client:
            assert (await captured(client, document([commissioning(n) for n in range(2)])))["success"]
        # A portal of before this header has kept its jobs in a table without it.
        with closing(sqlite3.connect(world.folder / "portal" / "data" / DATABASE_NAME)) as database:
            database.execute("ALTER TABLE capture_job DROP COLUMN happened")
        later, happened = {"eventTime": "2026-03-02T12:00:00.000Z"}, {"Medtrail-Happened": "true"}
        async with portal(world, maker) as client:
            again = document([commissioning(0, **later)])
            refused = await captured(client, again)
            assert [error["code"] for error in refused["errors"]] == ["ALREADY_COMMISSIONED"]
            job = await captured(client, again, **happened)
            assert (job["success"], job["medtrail:capturedCount"]) == (True, 1)
            one = single(commissioning(1, **later))
            assert (await client.post("/events", content=one, headers=JSON)).json()["code"] == "ALREADY_COMMISSIONED"
            answer = await client.post("/events", content=one, headers=JSON | happened)
            assert answer.status_code == 201, answer.text

    play(story)


def test_jobs_are_listed_by_page_and_forgotten_ones_unknown(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker) as client:
            ids = [(await captured(client, document([])))["captureID"] for _ in range(3)]
            first = await client.get("/capture?perPage=2")
            assert [job["captureID"] for job in first.json()] == [ids[2], ids[1]]
            assert first.headers["GS1-Next-Page-Token-Expires"].endswith("Z")
            rest = await client.get(first.links["next"]["url"])
            assert [job["captureID"] for job in rest.json()] == [ids[0]]
            assert "Link" not in rest.headers
            answer = await client.get("/capture/unknown")
            assert (answer.status_code, answer.json()["code"]) == (404, "CAPTURE_UNKNOWN")
            assert answer.json()["type"] == "epcisException:NoSuchResourceException"

    play(story)


def test_every_limit_and_every_odd_request_is_told_by_the_standards_names(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker, capture_limit=2, capture_file_size_limit=2048) as client:
            body = document([])
            for method, path, headers, status, kind in (
                ("POST", "/capture", {"Content-Type": "text/csv"}, 415, "UnsupportedMediaTypeException"),
                ("POST", "/capture", {**JSON, "Content-Encoding": "gzip"}, 415, "UnsupportedMediaTypeException"),
                ("POST", "/capture", {**JSON, "GS1-EPCIS-Version": "3.0"}, 406, "NotAcceptableException"),
                ("POST", "/capture", {**JSON, "GS1-EPCIS-Version": "x"}, 400, "ValidationException"),
                ("POST", "/capture", {**JSON, "GS1-Capture-Error-Behaviour": "maybe"}, 400, "ValidationException"),
                ("POST", "/capture", {**JSON, "Medtrail-Second-Hand": "maybe"}, 400, "ValidationException"),
                ("GET", "/capture", {"Accept": "text/html"}, 406, "NotAcceptableException"),
                ("GET", "/capture?perPage=x", {}, 400, "QueryParameterException"),
                ("GET", "/capture?nextPageToken=x", {}, 400, "QueryParameterException"),
                ("GET", "/" + "x" * 9000, {}, 414, "URITooLongException"),
                ("GET", "/nothing", {}, 404, "NoSuchResourceException"),
                ("DELETE", "/capture", {}, 405, "ImplementationException"),
                ("GET", "/capture", {"Authorization": "Bearer mtp_x"}, 401, "SecurityException"),
                ("GET", "/nothing", {"Authorization": "Basic eDp4"}, 401, "SecurityException"),
            ):
                answer = await client.request(method, path, headers=headers, content=body if method == "POST" else None)
                assert (answer.status_code, answer.json()["type"]) == (status, f"epcisException:{kind}"), answer.text
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert answer.headers["GS1-EPCIS-Version"] == "2.0.0"
            assert (await client.delete("/capture")).headers["Allow"] == "GET, HEAD, OPTIONS, POST"
            assert (await client.post("/capture", content=b"{", headers=JSON)).status_code == 400
            large = await client.post("/capture", content=b" " * 2049, headers=JSON)
            assert (large.status_code, large.json()["type"]) == (413, "epcisException:CaptureLimitExceededException")

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield b" " * 1000

            unannounced = await client.post("/capture", content=pieces(), headers=JSON)
            assert unannounced.status_code == 413
            assert list((world.folder / "portal" / "data" / "uploads").iterdir()) == []
            for headers in ({}, PROCEED):
                job = await captured(client, document([commissioning(n) for n in range(3)]), **headers)
                assert [error["code"] for error in job["errors"]] == ["CAPTURE_LIMIT"]
            told = await client.options("/capture")
            assert (told.status_code, told.headers["GS1-EPCIS-Capture-Limit"]) == (204, "2")
            assert told.headers["GS1-EPCIS-Capture-File-Size-Limit"] == "2048"
            assert told.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
            head = await client.head("/capture")
            assert (head.status_code, head.content) == (200, b"")
            assert "capture" in (await client.get("/")).json()

    play(story)


def test_a_capture_waits_for_a_service_that_is_away(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        port = maker.address.rpartition(":")[2]  # type: ignore[attr-defined]
        async with portal(world, maker) as client:
            await world.stop("maker")
            answer = await client.post("/capture", content=document([commissioning(1)]), headers=JSON)
            assert answer.status_code == 202
            one = await client.post("/events", content=single(commissioning(2)), headers=JSON)
            assert (one.status_code, one.headers["Retry-After"]) == (503, "5")
            assert (await client.get(answer.headers["Location"])).json()["running"]
            await world.start("maker", listen=f"127.0.0.1:{port}")
            assert (await finished(client, answer.headers["Location"]))["success"]

    play(story)


def test_too_many_captures_are_asked_to_come_back(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        async with portal(world, maker, most_jobs=1) as client:
            await world.stop("maker")
            assert (
                await client.post("/capture", content=document([commissioning(1)]), headers=JSON)
            ).status_code == 202
            answer = await client.post("/capture", content=document([commissioning(2)]), headers=JSON)
            assert (answer.status_code, answer.json()["code"]) == (503, "TOO_MANY_CAPTURES")

    play(story)
