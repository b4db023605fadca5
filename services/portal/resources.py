"""What the resources of the REST interface share: their guard, and how URLs and headers are read."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_plus

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import MalformedError
from medtrail.runtime.portal_tokens import Scope
from services.portal.access import Access, guard
from services.portal.query.errors import QueryParameterError, QueryTooComplexError
from services.portal.query.paging import IssuedToken

Endpoint = Callable[[Request], Awaitable[Response]]

MAX_URL_PARAMETERS: Final = 200
PAGING: Final = frozenset({"perPage", "nextPageToken"})


def resource(access: Access, path: str, methods: Mapping[str, Endpoint]) -> list[BaseRoute]:
    """Return the routes of a path, one a method, for callers with the scope ``query``."""
    return [Route(path, guard(access, Scope.QUERY, endpoint), methods=[name]) for name, endpoint in methods.items()]


@dataclass(frozen=True, slots=True)
class UrlParameters:
    """What a URL's query says.

    Attributes:
        values: Of each name, the texts, in order: repeated names and commas both make lists; ``%2C`` is a comma.
        paging: The parameters of paging.
    """

    values: dict[str, list[str]]
    paging: dict[str, str]


def url_parameters(connection: HTTPConnection) -> UrlParameters:
    """Return what a URL's query says.

    Raises:
        QueryParameterError: A parameter of paging stands twice.
        QueryTooComplexError: More than 200 parameters.
    """
    text = connection.scope.get("query_string", b"").decode("latin-1")
    parts = [part for part in text.split("&") if part]
    if len(parts) > MAX_URL_PARAMETERS:
        message = f"expected at most {MAX_URL_PARAMETERS} parameters, got {len(parts)}"
        raise QueryTooComplexError(message)
    values: dict[str, list[str]] = {}
    paging: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        name = unquote_plus(name)
        if name in PAGING:
            if name in paging:
                message = "stands twice"
                raise QueryParameterError(message, field=name)
            paging[name] = unquote_plus(value)
        else:
            values.setdefault(name, []).extend(unquote_plus(item) for item in value.split(",") if item)
    return UrlParameters(values, paging)


def declared_prefixes(connection: HTTPConnection) -> Prefixes:
    """Return the namespaces that a caller declares by ``GS1-Extensions: ext=https://…, other=…``.

    Raises:
        MalformedError: HEADER_INVALID.
    """
    prefixes = Prefixes()
    for item in connection.headers.get("GS1-Extensions", "").split(","):
        prefix, equals, uri = item.strip().partition("=")
        if not item.strip():
            continue
        if not equals or not prefix.isidentifier() or ":" not in uri:
            message = f"expected prefix=namespace URI, got {item.strip()[:80]!r}"
            raise MalformedError(message, code="HEADER_INVALID", field="GS1-Extensions")
        prefixes = prefixes.with_prefix(prefix, uri)
    return prefixes


def link_next(request: Request, issued: IssuedToken, *, public_url: str, size: int) -> dict[str, str]:
    """Return the headers that tell where the next page is and until when."""
    base = public_url or f"{request.url.scheme}://{request.url.netloc}"
    path = quote(request.scope["path"])
    raw: bytes | None = request.scope.get("raw_path")
    if raw is not None:
        # As the caller wrote it: a slash of an identifier stays encoded.
        path = raw.decode("latin-1").partition("?")[0]
    url = f"{base}{path}?perPage={size}&nextPageToken={quote(issued.token)}"
    expires = issued.expire_time.isoformat().replace("+00:00", "Z")
    return {"Link": f'<{url}>; rel="next"', "GS1-Next-Page-Token-Expires": expires}
