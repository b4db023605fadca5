"""Jobs against a service that fails in every way that a real one may."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from medtrail.api.custody.v1 import custody_pb2
from medtrail.errors import NotFoundError, UnavailableError
from medtrail.runtime.database import Database
from services.portal import jobs, reading, runner
from services.portal.custody_client import Chunk, capture_one
from services.portal.headers import ErrorBehaviour
from services.portal.jobs import Job
from services.portal.reading import open_reading
from services.portal.repository import EventRepository
from services.portal.runner import JobRunner
from services.portal.uploads import Uploads

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
Requests = AsyncIterator[custody_pb2.CaptureEventsRequest]


def _document(count: int, **fields: Any) -> bytes:
    events = [
        {
            "type": "ObjectEvent",
            "eventTime": "2026-03-01T12:00:00Z",
            "eventTimeZoneOffset": "+00:00",
            "action": "OBSERVE",
            "epcList": [f"urn:epc:id:sgtin:030001.0012345.{serial}"],
            **fields,
        }
        for serial in range(count)
    ]
    body = {
        "@context": [CONTEXT],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-03-01T12:00:00Z",
    }
    return json.dumps({**body, "epcisBody": {"eventList": events}}).encode()


class FakeCustody:
    """Answers as the service does; refuses events by their identifier; fails as often as it is told.

    Attributes:
        refused: Identifiers of events that it refuses.
        failures: Raised one after the other before it answers.
        requests: What came.
    """

    def __init__(self, *refused: str, failures: tuple[Exception, ...] = ()) -> None:
        self.refused = {f"urn:epc:id:sgtin:030001.0012345.{serial}" for serial in refused}
        self.failures = list(failures)
        self.requests: list[custody_pb2.CaptureEventsRequest] = []
        self.silent = False

    async def CaptureEvents(self, requests: Requests) -> AsyncIterator[custody_pb2.CaptureEventsResponse]:  # noqa: N802
        parts = [request async for request in requests]
        self.requests += parts
        if self.failures:
            raise self.failures.pop(0)
        if self.silent:
            self.silent = False
            return
        found = [self._errors(part) for part in parts]
        for part, errors in zip(parts, found, strict=True):
            if any(found):
                refused = errors or [custody_pb2.CaptureError(code="TRANSACTION_REFUSED")]
                yield custody_pb2.CaptureEventsResponse(request_id=part.request_id, errors=refused)
                continue
            events = [custody_pb2.AcceptedEvent(event_id=event.epcs[0]) for event in part.events]
            yield custody_pb2.CaptureEventsResponse(request_id=part.request_id, events=events)

    def _errors(self, part: custody_pb2.CaptureEventsRequest) -> list[custody_pb2.CaptureError]:
        return [
            custody_pb2.CaptureError(event_number=number, code="NOT_HELD", field=f"events[{number}].epcList[0]")
            for number, event in enumerate(part.events)
            if event.epcs[0] in self.refused
        ][:1]


class Desk:
    """A runner over real files and a real database."""

    def __init__(self, folder: Path, custody: FakeCustody, *, limit: int = 100_000) -> None:
        self.custody = custody
        self.now = NOW
        self.database = Database(folder / "portal.db")
        self.database.create_tables(jobs.JOB_METADATA)
        self.repository = EventRepository(self.database)
        self.repository.prepare()
        self.uploads = Uploads(folder / "uploads", largest=10**9, timeout_s=60)
        self.runner = JobRunner(
            self.database,
            custody,  # type: ignore[arg-type]
            self.repository,
            self.uploads,
            clock=lambda: self.now,
            capture_limit=limit,
            keep=timedelta(days=1),
        )

    def put(self, capture_id: str, body: bytes, behaviour: ErrorBehaviour) -> None:
        self.uploads.path(capture_id).write_bytes(body)
        self.database.write_now(
            lambda connection: jobs.insert_job(
                connection,
                capture_id,
                caller="erp",
                created=self.now,
                behaviour=behaviour,
                document_format="json",
                second_hand=False,
            )
        )
        self.runner.wake()

    def job(self, capture_id: str) -> tuple[Job, list[dict[str, Any]]]:
        def look(connection: Connection) -> tuple[Job, list[dict[str, Any]]]:
            found = jobs.find_job(connection, capture_id)
            return found, jobs.errors_of(connection, found)

        return self.database.read_now(look)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def run_until_done(self, *capture_ids: str) -> None:
        async def story() -> None:
            async with self.running(), asyncio.timeout(30):
                while True:
                    if not any(self.job(name)[0].running or self.uploads.path(name).exists() for name in capture_ids):
                        return
                    await asyncio.sleep(0.005)

        asyncio.run(story())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    monkeypatch.setattr(runner, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(runner, "LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(runner, "INDEX_PATIENCE_S", 0.001)
    monkeypatch.setattr(runner, "CHUNK_EVENTS", 5)
    return lambda custody, **settings: Desk(tmp_path, custody, **settings)


@pytest.mark.parametrize("behaviour", list(ErrorBehaviour))
def test_what_was_sent_before_a_failure_is_sent_again_under_the_same_id(
    desk: Callable[..., Desk], behaviour: ErrorBehaviour
) -> None:
    custody = FakeCustody(failures=(UnavailableError("away"), UnavailableError("away")))
    custody.silent = True
    made = desk(custody)
    made.put("a", _document(12), behaviour)
    made.run_until_done("a")
    job, errors = made.job("a")
    assert (job.success, job.captured, errors) == (True, 12, [])
    per_try = 3 if behaviour is ErrorBehaviour.ROLLBACK else 1
    tries = [
        [request.request_id for request in custody.requests[n : n + per_try]] for n in range(0, 3 * per_try, per_try)
    ]
    assert tries[0] == tries[1] == tries[2]
    assert [request.continued for request in custody.requests[-3:]] == (
        [True, True, False] if per_try == 3 else [False] * 3
    )


def test_a_service_that_does_not_answer_is_away() -> None:
    class Hanging(FakeCustody):
        async def CaptureEvents(self, requests: Requests) -> AsyncIterator[custody_pb2.CaptureEventsResponse]:  # noqa: N802
            await asyncio.Event().wait()
            async for response in super().CaptureEvents(requests):
                yield response

    with pytest.raises(UnavailableError) as caught:
        asyncio.run(capture_one(Hanging(), Chunk("id", []), timeout_s=0.01))  # type: ignore[arg-type]
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_refused_transaction_names_the_event_in_the_document(desk: Callable[..., Desk]) -> None:
    made = desk(FakeCustody("8"))
    made.put("a", _document(12), ErrorBehaviour.ROLLBACK)
    made.run_until_done("a")
    job, [error] = made.job("a")
    assert (job.success, job.captured) == (False, 0)
    assert (error["event"], error["code"], error["field"]) == (8, "NOT_HELD", "eventList[8].epcList[0]")


def test_a_refused_chunk_is_cut_until_each_refused_event_stands_alone(desk: Callable[..., Desk]) -> None:
    refused = ["0", "3", "4", "11"]
    custody = FakeCustody(*refused)
    made = desk(custody)
    made.put("a", _document(12), ErrorBehaviour.PROCEED)
    made.run_until_done("a")
    job, errors = made.job("a")
    assert (job.success, job.captured, job.errors) == (False, 8, 4)
    assert [str(error["event"]) for error in errors] == refused


def test_a_job_that_breaks_does_not_stand_in_the_way(desk: Callable[..., Desk]) -> None:
    made = desk(FakeCustody(failures=(RuntimeError("secret"),)))
    made.put("broken", _document(1), ErrorBehaviour.PROCEED)
    made.put("gone", _document(1), ErrorBehaviour.ROLLBACK)
    made.uploads.remove("gone")
    made.put("unreadable", b"[]", ErrorBehaviour.ROLLBACK)
    made.put("good", _document(1), ErrorBehaviour.ROLLBACK)
    made.run_until_done("broken", "gone", "unreadable", "good")
    [broken] = made.job("broken")[1]
    assert (broken["status"], broken["code"]) == (500, "INTERNAL")
    assert "secret" not in str(broken)
    assert made.job("gone")[1][0]["code"] == "UPLOAD_GONE"
    assert not made.job("unreadable")[0].success
    assert made.job("good")[0].success
    assert list(made.uploads.path("x").parent.iterdir()) == []


def test_finished_jobs_are_forgotten_after_their_time(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_FORGET_EVERY_S", 0.005)
    made = desk(FakeCustody("0"))
    made.put("old", _document(1), ErrorBehaviour.PROCEED)
    made.run_until_done("old")
    made.now += timedelta(days=2)
    made.put("new", _document(1), ErrorBehaviour.PROCEED)
    made.run_until_done("new")

    async def story() -> None:
        async with made.running(), asyncio.timeout(30):
            while True:
                try:
                    made.job("old")
                except NotFoundError:
                    return
                await asyncio.sleep(0.005)

    asyncio.run(story())
    assert not made.job("new")[0].success


def test_only_the_first_errors_are_kept_and_all_are_counted(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_ERRORS", 3)
    made = desk(FakeCustody())
    made.put("a", _document(7, bizStep="shopping"), ErrorBehaviour.PROCEED)
    made.run_until_done("a")
    job, errors = made.job("a")
    assert (job.errors, len(errors)) == (7, 3)


def test_one_capture_has_a_limit(desk: Callable[..., Desk]) -> None:
    made = desk(FakeCustody(), limit=6)
    made.put("p", _document(12), ErrorBehaviour.PROCEED)
    made.put("r", _document(12), ErrorBehaviour.ROLLBACK)
    made.run_until_done("p", "r")
    assert [error["code"] for error in made.job("p")[1]] == ["CAPTURE_LIMIT"]
    assert made.job("p")[0].captured == 5
    assert [error["status"] for error in made.job("r")[1]] == [413]
    assert made.job("r")[0].captured == 0


# --- reading ---


def test_chunks_end_at_either_limit_and_hold_at_least_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(_document(5))
    document = open_reading(path, "json")
    try:
        sizes = [len(document.take(2, most_bytes=10**6).items), len(document.take(10, most_bytes=1).items)]
        assert sizes == [2, 1]
        rest = document.take(10, most_bytes=10**6)
        assert ([item.index for item in rest.items], rest.ended, rest.after.index) == ([3, 4], True, 5)
        assert document.take(1).ended
    finally:
        document.close()
    again = open_reading(path, "json", rest.after)
    assert again.take(1).items == ()
    again.close()


def test_what_follows_a_document_that_breaks_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(_document(3))
    document = open_reading(path, "json")
    # Cut while it is read: whatever a disk may do, it is told and nothing is made up.
    with path.open("r+b") as file:
        file.truncate(400)
    taken = document.take(10)
    document.close()
    assert taken.failure is not None or not taken.ended


def test_an_event_that_cannot_be_sent_is_unsound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST_EVENT_BYTES", 10)
    path = tmp_path / "a"
    path.write_bytes(_document(1))
    document = open_reading(path, "json")
    [item] = document.take(1).items
    document.close()
    assert [fault.code for fault in item.faults] == ["EVENT_TOO_LARGE"]
