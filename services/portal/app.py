"""The portal as an ASGI application: every part's routes behind one door, and what every answer says."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medtrail.errors import MedtrailError, NotFoundError
from medtrail.runtime.logging import get_logger
from medtrail.runtime.settings import PortalSettings
from services.portal.access import Access, allowed_methods, by_itself, is_guarded
from services.portal.custody_client import TRANSACTION_EVENTS
from services.portal.errors import MethodNotAllowedError, UriTooLongError, on_error, problem_response
from services.portal.headers import EXTENSIONS, CbvFormat, EpcFormat, ErrorBehaviour, version_headers

log = get_logger(__name__)

LONGEST_URI: Final = 8192
TOP_LEVEL: Final = (
    "bizLocations",
    "bizSteps",
    "capture",
    "dispositions",
    "epcs",
    "eventTypes",
    "events",
    "queries",
    "readPoints",
)
_PRIVATE: Final = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}


def vendor_version() -> str:
    """Return what GS1-Vendor-Version says."""
    return f"medtrail/{version('medtrail')}"


def build_app(routes: Sequence[BaseRoute], *, access: Access, settings: PortalSettings, document: bytes) -> ASGIApp:
    """Return the application.

    Args:
        routes: Of all parts.
        access: Who may ask.
        settings: Of the portal.
        document: Its own OpenAPI text, JSON.

    Raises:
        AssertionError: A route that nobody guards: our own mistake, found at the start.
    """
    whole = [*_own_routes(access, document), *routes]
    check_guarded(whole)
    whole += _options(whole, access, settings)
    app = Starlette(
        routes=whole,
        exception_handlers={
            MedtrailError: on_error,
            HTTPException: _Unrouted(whole, access),
            Exception: _broken,
        },
    )
    app.router.redirect_slashes = False
    return _Door(app)


def check_guarded(routes: Iterable[BaseRoute]) -> None:
    """Check that each endpoint decides whom it answers."""
    for route in routes:
        if not isinstance(route, Route | WebSocketRoute) or not is_guarded(route.endpoint):
            raise AssertionError(f"{getattr(route, 'path', route)} is guarded by nobody")


def _own_routes(access: Access, document: bytes) -> list[BaseRoute]:
    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def root(request: Request) -> Response:
        access.caller(request)
        return JSONResponse(list(TOP_LEVEL))

    return [
        Route("/", by_itself(root), methods=["GET"]),
        Route("/health", by_itself(health), methods=["GET"]),
        # It is the same text for everybody, and says nothing of whose portal it is.
        Route("/openapi.json", by_itself(openapi), methods=["GET"]),
    ]


def _options(routes: Sequence[BaseRoute], access: Access, settings: PortalSettings) -> list[BaseRoute]:
    """Return an OPTIONS route for each path that has none."""
    has = {route.path for route in routes if isinstance(route, Route) and "OPTIONS" in (route.methods or ())}
    paths = dict.fromkeys(route.path for route in routes if isinstance(route, Route) and route.path not in has)

    def made(path: str) -> Route:
        methods = {
            method
            for route in routes
            if isinstance(route, Route) and route.path == path
            for method in allowed_methods(route.endpoint, route.methods or ())
        }
        allowed = ", ".join(sorted({*methods, "OPTIONS"}))

        async def answer(request: Request) -> Response:
            access.caller(request)
            headers = {"Allow": allowed}
            if path.startswith("/capture"):
                headers |= capture_headers(request, settings)
            return Response(status_code=204, headers=headers)

        return Route(path, by_itself(answer), methods=["OPTIONS"])

    return [made(path) for path in paths]


def capture_headers(request: Request, settings: PortalSettings) -> dict[str, str]:
    """Return what discovery of the capture interface tells: limits are those of the behaviour that is asked for."""
    proceeds = request.headers.get("GS1-Capture-Error-Behaviour") == ErrorBehaviour.PROCEED
    most = settings.capture_limit if proceeds else min(settings.capture_limit, TRANSACTION_EVENTS)
    return {
        "GS1-EPCIS-Capture-Limit": str(most),
        "GS1-EPCIS-Capture-File-Size-Limit": str(settings.capture_file_size_limit),
        "GS1-Capture-Error-Behaviour": (ErrorBehaviour.PROCEED if proceeds else ErrorBehaviour.ROLLBACK).value,
    }


class _Unrouted:
    """Answers what no route takes."""

    def __init__(self, routes: Sequence[BaseRoute], access: Access) -> None:
        self._routes = routes
        self._access = access

    async def __call__(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        try:
            # Strangers do not learn which paths there are.
            self._access.caller(request)
        except MedtrailError as refusal:
            return problem_response(refusal)
        if status == 405:
            allowed = ", ".join(sorted(self._methods(request)))
            return problem_response(MethodNotAllowedError(f"{request.method[:20]} is not done here", allowed=allowed))
        if status == 404:
            return problem_response(NotFoundError(f"no resource {request.url.path[:200]}", code="PATH_UNKNOWN"))
        return problem_response(MedtrailError(str(error)))

    def _methods(self, request: Request) -> set[str]:
        return {
            method
            for route in self._routes
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }


async def _broken(request: Request, error: Exception) -> Response:
    log.error("request broke", path=request.url.path[:200], method=request.method, kind=type(error).__name__)
    return problem_response(MedtrailError(str(error)))


class _Door:
    """What comes before and after all routes: the longest URI, and the headers of every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = {
            name.lower().encode(): text.encode()
            for name, text in {**version_headers(vendor_version=vendor_version()), **_PRIVATE}.items()
        }
        discovery = {
            "GS1-EPC-Format": EpcFormat.NEVER_TRANSLATES.value,
            "GS1-CBV-XML-Format": CbvFormat.ALWAYS_URN.value,
            "GS1-Extensions": EXTENSIONS,
        }
        self._discovery = {name.lower().encode(): text.encode() for name, text in discovery.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = {**self._headers, **(self._discovery if scope["method"] == "OPTIONS" else {})}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, text) for name, text in added.items() if name not in present),
                ]
            await send(message)

        raw = scope.get("raw_path") or scope["path"].encode()
        if len(raw) + len(scope["query_string"]) > LONGEST_URI:
            error = UriTooLongError(f"expected a URI of at most {LONGEST_URI} bytes; long questions go to /queries")
            await problem_response(error)(scope, receive, answer)
            return
        await self._app(scope, receive, answer)
