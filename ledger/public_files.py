"""The log's public files over HTTP: any web server could do it; here it is one process less.

Only names that a log has are looked up, so that no path leads out of the folder. Files are read whole before the answer
begins: a checkpoint is replaced and a partial tile removed at any moment, and length and content must be of one file.

Source: C2SP tlog-tiles v0.1; RFC 9110, section 13 (If-None-Match); docs/adr/0010-public-files.md.
"""

import hashlib
import os
from email.utils import formatdate
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ledger.tile_files import CHECKPOINT_NAME
from ledger.web import WebServer
from medtrail.errors import MalformedError
from medtrail.tiles import parse_tile_path

_IMMUTABLE = "public, max-age=31536000, immutable"
_SHORT = "public, max-age=1"
# Pages of any origin may audit: nothing here depends on who asks.
_ALWAYS = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}


def public_app(folder: Path) -> Starlette:
    """Return the application that serves ``checkpoint`` and ``tile/…`` of a folder, and nothing else."""

    async def checkpoint(request: Request) -> Response:
        path = folder / CHECKPOINT_NAME
        return await run_in_threadpool(_file, request, path, "text/plain; charset=utf-8", _SHORT)

    async def tile(request: Request) -> Response:
        try:
            # The path itself: a route's parameter would lose a line feed at its end.
            named = parse_tile_path(request.scope["path"].removeprefix("/"))
        except MalformedError:
            return _missing()
        return await run_in_threadpool(_file, request, folder / named.path, "application/octet-stream", _IMMUTABLE)

    async def nothing(_request: Request, _error: Exception) -> Response:
        return _missing()

    app = Starlette(
        routes=[
            Route(f"/{CHECKPOINT_NAME}", checkpoint, methods=["GET"]),
            Route("/tile/{name:path}", tile, methods=["GET"]),
        ],
        exception_handlers={404: nothing},
    )
    # One file has one name: another spelling is none.
    app.router.redirect_slashes = False
    return app


def _file(request: Request, path: Path, media_type: str, cache: str) -> Response:
    try:
        with path.open("rb") as file:
            content = file.read()
            modified_s = os.fstat(file.fileno()).st_mtime
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return _missing()
    # By content: every instance of the log names the same file the same. If-Modified-Since is left aside, since
    # several checkpoints may bear the same second.
    tag = f'"{hashlib.sha256(content).hexdigest()}"'
    headers = {**_ALWAYS, "Cache-Control": cache, "ETag": tag, "Last-Modified": formatdate(modified_s, usegmt=True)}
    if _names(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _names(wanted: str, tag: str) -> bool:
    """Tell whether an If-None-Match names a tag; the comparison is weak (RFC 9110, section 13.1.2)."""
    return wanted.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in wanted.split(",")}


def _missing() -> Response:
    # Not to be cached: the tile may come with the next checkpoint.
    return PlainTextResponse("not found\n", status_code=404, headers={**_ALWAYS, "Cache-Control": "no-store"})


class PublicServer(WebServer):
    """Serves a folder until it is stopped."""

    def __init__(self, folder: Path, *, listen: str) -> None:
        """Bind host:port; port 0 takes a free one.

        Raises:
            UnavailableError: LISTEN_FAILED.
        """
        super().__init__(public_app(folder), listen=listen)
