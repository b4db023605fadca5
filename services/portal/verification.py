"""Verification requests (GS1 Lightweight Messaging) and the verbs of the Falsified Medicines Directive, over HTTP.

The portal decides who is let in and how often; the organisation's service judges, answers and keeps the records. Of a
verification request only a 200 has a body, whoever refuses it.

Source: GS1 Lightweight Messaging Standard for Verification of Product Identifiers; DSCSA guideline, release 1.3.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from math import ceil
from typing import Any, Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from medtrail.errors import (
    AuthenticationError,
    AuthorizationError,
    MalformedError,
    MedtrailError,
    TooLargeError,
    UnavailableError,
)
from medtrail.fmd import FmdCode, FmdState
from medtrail.runtime.logging import get_logger
from medtrail.runtime.portal_tokens import Scope
from medtrail.vrs import SpelledRequest
from services.portal.access import by_itself, guard
from services.portal.errors import UnsupportedMediaTypeError
from services.portal.parts import PortalParts
from services.portal.rates import RateLimiter
from services.portal.verification_client import Change, Reply, VerificationClient

log = get_logger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024
MAX_TARGET_BYTES: Final = 4096
_UNCACHED: Final = {"Cache-Control": "private, no-cache"}
# Others than GET are answered here too: without a body.
_ALL_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_PATH: Final = ("verify", "gtin", "lot", "ser")


def routes(parts: PortalParts) -> list[BaseRoute]:
    """Return the routes; none where the portal was started without a service to ask."""
    if parts.verification is None:
        return []
    limiter = RateLimiter(parts.settings.verifications_per_s)
    vrs = _VrsEndpoints(parts, parts.verification, limiter)
    fmd = _FmdEndpoints(parts.verification, limiter)
    access = parts.access

    async def verify(request: Request) -> Response:
        return await vrs.verify(request)

    async def check_connectivity(request: Request) -> Response:
        return await vrs.check_connectivity(request)

    return [
        # The path is read undecoded: a lot or a serial may hold a slash.
        Route("/verify/{rest:path}", by_itself(verify, allowed=("GET",)), methods=_ALL_METHODS),
        Route("/checkConnectivity", by_itself(check_connectivity, allowed=("GET",)), methods=_ALL_METHODS),
        Route("/fmd/verify", guard(access, Scope.VERIFY, fmd.verify), methods=["POST"]),
        Route("/fmd/supply", guard(access, Scope.CAPTURE, fmd.supply), methods=["POST"]),
        Route("/fmd/decommission", guard(access, Scope.CAPTURE, fmd.decommission), methods=["POST"]),
        Route("/fmd/undo", guard(access, Scope.CAPTURE, fmd.undo), methods=["POST"]),
    ]


# --- verification requests ---


class _VrsEndpoints:
    def __init__(self, parts: PortalParts, client: VerificationClient, limiter: RateLimiter) -> None:
        self._parts = parts
        self._client = client
        self._limiter = limiter

    async def verify(self, request: Request) -> Response:
        async def ask(caller: str) -> Reply:
            return await self._client.answer(_spelled(request), caller=caller)

        return await self._answered(request, ask)

    async def check_connectivity(self, request: Request) -> Response:
        async def ask(caller: str) -> Reply:
            query = _query(request)
            return await self._client.connectivity(
                gtin=query.get("gtin", ""),
                req_gln=query.get("reqGLN", ""),
                context=query.get("context", ""),
                caller=caller,
            )

        return await self._answered(request, ask)

    async def _answered(self, request: Request, ask: Callable[[str], Awaitable[Reply]]) -> Response:
        try:
            caller = self._parts.access.check(request, Scope.VERIFY)
            if request.method != "GET":
                return _bare(405, {"Allow": "GET"})
            wait_s = self._limiter.wait_s(caller.name)
            if wait_s:
                return _bare(429, {"Retry-After": str(ceil(wait_s))})
            reply = await ask(caller.name)
        except MedtrailError as error:
            return _refused(error)
        if reply.status != 200:
            return _bare(reply.status)
        return Response(reply.body, media_type="application/json", headers=_UNCACHED)


def _refused(error: MedtrailError) -> Response:
    log.info("verification request refused", code=error.code)
    if isinstance(error, AuthenticationError):
        # Without a token nobody is known; one that is wrong is a bad credential.
        known = error.code != "TOKEN_MISSING"
        return _bare(403) if known else _bare(401, {"WWW-Authenticate": 'Bearer realm="medtrail"'})
    if isinstance(error, AuthorizationError):
        return _bare(403)
    if isinstance(error, MalformedError):
        return _bare(400)
    if isinstance(error, UnavailableError):
        return _bare(504 if error.code == "DEADLINE_EXCEEDED" else 503)
    return _bare(500)


def _bare(status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status_code=status, headers={**_UNCACHED, **(headers or {})})


def _spelled(request: Request) -> SpelledRequest:
    """Return the parts of a request, percent-decoded.

    Raises:
        MalformedError: The path is not ``/verify/gtin/…/lot/…/ser/…`` (PATH_MALFORMED).
    """
    raw = request.scope.get("raw_path") or request.url.path.encode()
    path = raw.partition(b"?")[0].decode("ascii", "replace").removeprefix(request.scope.get("root_path", ""))
    parts = path.split("/")
    if len(path) > MAX_TARGET_BYTES or len(parts) != 8 or (parts[1], parts[2], parts[4], parts[6]) != _PATH:
        message = "expected /verify/gtin/{gtin}/lot/{lot}/ser/{serial}"
        raise MalformedError(message, code="PATH_MALFORMED", field="path")
    gtin, lot, serial = parts[3], parts[5], parts[7]
    query = _query(request)
    return SpelledRequest(
        gtin=_decoded(gtin),
        lot=_decoded(lot),
        serial=_decoded(serial),
        exp=query.get("exp", ""),
        link_type=query.get("linkType", ""),
        context=query.get("context", ""),
        req_gln=query.get("reqGLN", ""),
        corr_uuid=query.get("corrUUID", ""),
    )


def _decoded(text: str) -> str:
    return unquote(text, errors="replace")


def _query(request: Request) -> dict[str, str]:
    """Return the query's parameters.

    Raises:
        MalformedError: One stands twice (PARAMETER_TWICE).
    """
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            message = f"{name[:40]} stands twice"
            raise MalformedError(message, code="PARAMETER_TWICE", field=name[:40])
        found[name] = value
    return found


# --- FMD ---


class _FmdEndpoints:
    def __init__(self, client: VerificationClient, limiter: RateLimiter) -> None:
        self._client = client
        self._limiter = limiter

    async def verify(self, request: Request) -> Response:
        body = await self._body(request, {"scan"})
        return _told(await self._client.verify(body.text("scan")))

    async def supply(self, request: Request) -> Response:
        body = await self._body(request, _CHANGE)
        return _told(await self._client.supply(body.change()))

    async def decommission(self, request: Request) -> Response:
        body = await self._body(request, {*_CHANGE, "state"})
        state = body.state()
        if state is None:
            message = "say which state the pack is put into"
            raise MalformedError(message, code="FIELD_MISSING", field="state")
        return _told(await self._client.decommission(body.change(), state))

    async def undo(self, request: Request) -> Response:
        body = await self._body(request, {*_CHANGE, "state", "notSupplied", "reason"})
        return _told(
            await self._client.undo(
                body.change(), state=body.state(), not_supplied=body.flag("notSupplied"), reason=body.text("reason")
            )
        )

    async def _body(self, request: Request, known: set[str]) -> "_Body":
        wait_s = self._limiter.wait_s(request.state.caller.name)
        if wait_s:
            message = f"too many requests: ask again in {ceil(wait_s)} seconds"
            raise UnavailableError(message, code="RATE_EXCEEDED")
        return _Body(await _read_json(request), known)


_CHANGE: Final = {"requestID", "scan", "eventTime", "eventTimeZoneOffset", "location"}


def _told(document: Mapping[str, Any]) -> Response:
    done = document["code"] == FmdCode.SUCCESS.value
    return JSONResponse({"done": done, **document}, headers=_UNCACHED)


class _Body:
    """A JSON object of named texts."""

    def __init__(self, document: Mapping[str, Any], known: set[str]) -> None:
        for name in document:
            if name not in known:
                message = f"unknown field; known are: {', '.join(sorted(known))}"
                raise MalformedError(message, code="FIELD_UNKNOWN", field=name[:40])
        self._document = document

    def text(self, name: str, *, default: str | None = None) -> str:
        value = self._document.get(name, default)
        if not isinstance(value, str):
            message = "expected a text"
            raise MalformedError(message, code="FIELD_MISSING" if value is None else "FIELD_MALFORMED", field=name)
        return value

    def flag(self, name: str) -> bool:
        value = self._document.get(name, False)
        if not isinstance(value, bool):
            message = "expected true or false"
            raise MalformedError(message, code="FIELD_MALFORMED", field=name)
        return value

    def state(self) -> FmdState | None:
        text = self.text("state", default="")
        if not text:
            return None
        try:
            return FmdState(text)
        except ValueError:
            message = f"expected one of {', '.join(FmdState)}; got {text[:40]!r}"
            raise MalformedError(message, code="STATE_UNKNOWN", field="state") from None

    def change(self) -> Change:
        return Change(
            request_id=self.text("requestID"),
            scan=self.text("scan"),
            event_time=self._moment("eventTime"),
            offset=self.text("eventTimeZoneOffset", default=""),
            location=self.text("location", default=""),
        )

    def _moment(self, name: str) -> datetime | None:
        text = self.text(name, default="")
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            message = f"expected a moment with its offset, such as 2026-06-01T12:00:00Z; got {text[:40]!r}"
            raise MalformedError(message, code="FIELD_MALFORMED", field=name)
        return moment


async def _read_json(request: Request) -> Mapping[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = f"expected application/json, got {kind[:60]!r}"
        raise UnsupportedMediaTypeError(message, field="Content-Type")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            message = f"expected at most {MAX_BODY_BYTES} bytes"
            raise TooLargeError(message, code="BODY_TOO_LARGE")
    try:
        document = json.loads(bytes(data), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        message = "expected one JSON object in UTF-8, no key twice"
        raise MalformedError(message, code="JSON_MALFORMED") from error
    if not isinstance(document, dict):
        message = "expected a JSON object"
        raise MalformedError(message, code="JSON_MALFORMED")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key stands twice"
        raise ValueError(message)
    return found
