"""The capture interface: documents as jobs (``/capture``), single events at once (``POST /events``).

Source: EPCIS 2.0, section 12.6 and its OpenAPI.
"""

import asyncio
import io
import uuid
from collections.abc import AsyncIterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from medtrail.epcis import open_events
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MalformedError, TooLargeError, UnavailableError
from services.portal import jobs
from services.portal.access import Scope, guard
from services.portal.custody_client import Chunk, capture_one, refusal_error
from services.portal.errors import UploadTooSlowError
from services.portal.headers import (
    MediaType,
    check_versions,
    content_type,
    error_behaviour,
    flag,
    wanted,
)
from services.portal.jobs import Job, Problem
from services.portal.parts import PortalParts
from services.portal.query.documents import event_document
from services.portal.query.paging import NextPage, PageTokens, page_size
from services.portal.reading import Item, item_of, open_reading
from services.portal.resources import link_next, url_parameters
from services.portal.runner import JobRunner
from services.portal.uploads import Uploads

SECOND_HAND: Final = "Medtrail-Second-Hand"
HAPPENED: Final = "Medtrail-Happened"
LARGEST_EVENT_BODY: Final = 4 * 1024 * 1024
LARGEST_AT_ONCE: Final = 4 * 1024 * 1024
"""Of documents whose head is looked at before the answer; the heads of larger ones are looked at by their job."""
INDEX_PATIENCE_S: Final = 5.0
SERVICE_PATIENCE_S: Final = 60.0
MOST_LISTED: Final = 20
"""Errors of one job in the list of all."""


@dataclass(frozen=True, slots=True)
class CaptureDesk:
    """What the capture interface works with.

    Attributes:
        parts: Of the portal.
        uploads: Where documents go.
        runner: Who captures them.
        tokens: Of next pages.
    """

    parts: PortalParts
    uploads: Uploads
    runner: JobRunner
    tokens: PageTokens


def capture_routes(desk: CaptureDesk) -> list[BaseRoute]:
    """Return the routes of the capture interface."""
    access = desk.parts.access

    def route(path: str, endpoint: Any, *methods: str) -> Route:  # noqa: ANN401 - an endpoint
        return Route(path, guard(access, Scope.CAPTURE, endpoint), methods=list(methods))

    return [
        route("/capture", partial(_receive, desk), "POST"),
        route("/capture", partial(_list, desk), "GET"),
        route("/capture/{capture_id}", partial(_show, desk), "GET"),
        route("/events", partial(_event, desk), "POST"),
    ]


async def _receive(desk: CaptureDesk, request: Request) -> Response:
    check_versions(request.headers)
    media_type = content_type(request)
    behaviour = error_behaviour(request)
    second_hand, happened = flag(request, SECOND_HAND), flag(request, HAPPENED)
    settings = desk.parts.settings
    if await desk.parts.database.read(jobs.count_running) >= settings.most_jobs:
        message = f"{settings.most_jobs} captures wait already; come back later"
        raise UnavailableError(message, code="TOO_MANY_CAPTURES")
    capture_id = jobs.new_capture_id()
    document_format = "xml" if media_type.is_xml else "json"
    size = await desk.uploads.receive(capture_id, request.stream(), announced=request.headers.get("content-length"))
    try:
        if size <= LARGEST_AT_ONCE:
            await asyncio.to_thread(_check_head, desk, capture_id, document_format)
        await desk.parts.database.write(
            partial(
                jobs.insert_job,
                capture_id=capture_id,
                caller=request.state.caller.name,
                created=datetime.now(UTC),
                behaviour=behaviour,
                document_format=document_format,
                second_hand=second_hand,
                happened=happened,
            )
        )
    except BaseException:
        desk.uploads.remove(capture_id)
        raise
    desk.runner.wake()
    headers = {
        "Location": f"{base_url(request, desk.parts)}/capture/{capture_id}",
        "GS1-Capture-Error-Behaviour": behaviour.value,
    }
    return Response(status_code=202, headers=headers)


def _check_head(desk: CaptureDesk, capture_id: str, document_format: str) -> None:
    open_reading(desk.uploads.path(capture_id), document_format).close()


async def _list(desk: CaptureDesk, request: Request) -> Response:
    asked = wanted(request, media_types=(MediaType.JSON, MediaType.JSON_LD))
    paging = url_parameters(request).paging
    size = page_size(paging.get("perPage"))
    caller, path = request.state.caller.name, request.scope["path"]
    before = None
    if "nextPageToken" in paging:
        before = int((await desk.tokens.open(paging["nextPageToken"], caller=caller, path=path)).position)
    found = await desk.parts.database.read(partial(_with_errors, before=before, limit=size + 1))
    headers: dict[str, str] = {}
    if len(found) > size:
        last = found[size - 1][0].number
        issued = await desk.tokens.issue(NextPage(None, last), caller=caller, path=path)
        headers = link_next(request, issued, public_url=desk.parts.settings.public_url, size=size)
    bodies = [job_body(job, errors) for job, errors in found[:size]]
    return JSONResponse(bodies, headers=headers, media_type=asked.media_type.value)


def _with_errors(connection: Connection, *, before: int | None, limit: int) -> list[tuple[Job, list[Problem]]]:
    return [
        (job, jobs.errors_of(connection, job, limit=MOST_LISTED))
        for job in jobs.list_jobs(connection, before=before, limit=limit)
    ]


async def _show(desk: CaptureDesk, request: Request) -> Response:
    asked = wanted(request, media_types=(MediaType.JSON, MediaType.JSON_LD))
    capture_id: str = request.path_params["capture_id"]

    def look(connection: Connection) -> tuple[Job, list[Problem]]:
        job = jobs.find_job(connection, capture_id)
        return job, jobs.errors_of(connection, job)

    job, errors = await desk.parts.database.read(look)
    headers = {"GS1-Capture-Error-Behaviour": job.behaviour.value}
    return JSONResponse(job_body(job, errors), headers=headers, media_type=asked.media_type.value)


def job_body(job: Job, errors: list[Problem]) -> dict[str, Any]:
    """Return what is told of a job."""
    body: dict[str, Any] = {
        "captureID": job.capture_id,
        "createdAt": _time(job.created),
        "running": job.running,
        "success": job.success,
        "captureErrorBehaviour": job.behaviour.value,
        "errors": errors,
        "medtrail:capturedCount": job.captured,
        "medtrail:resendCount": job.resends,
        "medtrail:errorCount": job.errors,
    }
    if job.finished is not None:
        body["finishedAt"] = _time(job.finished)
    return body


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _event(desk: CaptureDesk, request: Request) -> Response:
    media_type = content_type(request)
    asked = wanted(request)
    second_hand, happened = flag(request, SECOND_HAND), flag(request, HAPPENED)
    body = await read_body(request, most=LARGEST_EVENT_BODY, timeout_s=desk.parts.settings.upload_timeout_s)
    event, item = await asyncio.to_thread(_only_event, body, "xml" if media_type.is_xml else "json")
    if item.message is None:
        raise item.faults[0]
    chunk = Chunk(str(uuid.uuid4()), [item.message], second_hand=second_hand, happened=happened)
    answer = await capture_one(desk.parts.custody, chunk, timeout_s=SERVICE_PATIENCE_S)
    if answer.refusal is not None:
        raise refusal_error(answer.refusal)
    # Who is told where the event is may go there at once.
    await desk.parts.repository.wait_for(answer.change_number, timeout_s=INDEX_PATIENCE_S)
    event_id = answer.events[0].event_id
    return Response(
        event_document(replace(event, event_id=event_id), asked, prefixes=desk.parts.repository.prefixes),
        status_code=201,
        media_type=asked.media_type.value,
        headers={"Location": f"{base_url(request, desk.parts)}/events/{quote(event_id, safe=':;')}"},
    )


def _only_event(body: bytes, document_format: str) -> tuple[EpcisEvent, Item]:
    found = list(_first_two(body, document_format))
    if len(found) != 1:
        message = "expected one event; documents with more go to /capture"
        raise MalformedError(message, code="ONE_EVENT")
    [(index, event)] = found
    if isinstance(event, MalformedError):
        raise event
    return event, item_of(index, event)


def _first_two(body: bytes, document_format: str) -> Any:  # noqa: ANN401 - pairs of index and event
    stream = open_events(io.BytesIO(body), format=document_format)
    for number, found in enumerate(stream.outcomes(), 1):
        yield found
        if number == 2:
            return


async def read_body(request: Request, *, most: int, timeout_s: float) -> bytes:
    """Return a body that is small enough for memory.

    Raises:
        TooLargeError: BODY_TOO_LARGE.
        UploadTooSlowError: It takes too long to come.
        MalformedError: It is empty (BODY_EMPTY).
    """
    try:
        async with asyncio.timeout(timeout_s):
            body = await _gathered(request.stream(), most)
    except TimeoutError as error:
        message = f"the body did not come within {timeout_s:g} s"
        raise UploadTooSlowError(message) from error
    if not body:
        raise MalformedError("expected a body", code="BODY_EMPTY")
    return body


async def _gathered(pieces: AsyncIterable[bytes], most: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        if len(body) + len(piece) > most:
            message = f"expected at most {most} bytes"
            raise TooLargeError(message, code="BODY_TOO_LARGE", limit=most)
        body += piece
    return bytes(body)


def base_url(request: Request, parts: PortalParts) -> str:
    """Return where callers reach the portal, without a slash at the end."""
    return parts.settings.public_url or str(request.base_url).rstrip("/")
