"""The log's public files over HTTP: any web server could do it; here it is one process less.

Only names that a log has are looked up, so that no path leads out of the folder.

Source: C2SP tlog-tiles v0.1 (content types and caching).
"""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from ledger.tile_files import CHECKPOINT_NAME
from ledger.web import WebServer
from medtrail.errors import MalformedError
from medtrail.tiles import parse_tile_path

_IMMUTABLE = "public, max-age=31536000, immutable"
_SHORT = "public, max-age=1"


def public_app(folder: Path) -> Starlette:
    """Return the application that serves ``checkpoint`` and ``tile/…`` of a folder, and nothing else."""

    async def checkpoint(_request: Request) -> Response:
        return _file(folder / CHECKPOINT_NAME, media_type="text/plain; charset=utf-8", cache=_SHORT)

    async def tile(request: Request) -> Response:
        try:
            named = parse_tile_path(f"tile/{request.path_params['name']}")
        except MalformedError:
            return _missing()
        return _file(folder / named.path, media_type="application/octet-stream", cache=_IMMUTABLE)

    return Starlette(
        routes=[
            Route(f"/{CHECKPOINT_NAME}", checkpoint, methods=["GET"]),
            Route("/tile/{name:path}", tile, methods=["GET"]),
        ]
    )


def _file(path: Path, *, media_type: str, cache: str) -> Response:
    if not path.is_file():
        return _missing()
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": cache})


def _missing() -> Response:
    # Not to be cached: the tile may come with the next checkpoint.
    return PlainTextResponse("not found\n", status_code=404, headers={"Cache-Control": "no-store"})


class PublicServer(WebServer):
    """Serves a folder until it is stopped."""

    def __init__(self, folder: Path, *, listen: str) -> None:
        """Bind host:port; port 0 takes a free one.

        Raises:
            UnavailableError: LISTEN_FAILED.
        """
        super().__init__(public_app(folder), listen=listen)
