"""A witness over HTTP.

``POST /add-checkpoint``, and ``GET /<hex SHA-256 of the origin>/checkpoint`` for monitors: the newest checkpoint that
was cosigned, with the log's signature, so that a log which was rolled back can be shown what it once signed.

Source: C2SP tlog-witness v1.0.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ledger.witness.service import MAX_REQUEST_BYTES, Witness, WitnessRefusedError
from medtrail.errors import UnavailableError
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

SIZE_TYPE = "text/x.tlog.size"


def witness_app(witness: Witness) -> Starlette:
    """Return the application of a witness."""

    async def add_checkpoint(request: Request) -> Response:
        body = await _bounded_body(request)
        if body is None:
            return _answer(413, f"expected at most {MAX_REQUEST_BYTES} bytes\n")
        try:
            line = await witness.add_checkpoint(body)
        except WitnessRefusedError as error:
            log.info("checkpoint refused", status=error.status, code=error.code, reason=error.message)
            if error.known_size is not None:
                return Response(f"{error.known_size}\n".encode(), status_code=409, headers={"Content-Type": SIZE_TYPE})
            return _answer(error.status, f"{error.code}: {error.message}\n")
        except UnavailableError as error:
            return _unavailable(error)
        return Response(line, media_type="text/plain; charset=utf-8")

    async def checkpoint(request: Request) -> Response:
        try:
            note = await witness.known_note(request.path_params["origin"])
        except UnavailableError as error:
            return _unavailable(error)
        if note is None:
            return _answer(404, "not found\n")
        return Response(note, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin:str}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


async def _bounded_body(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REQUEST_BYTES:
            return None
    return body


def _unavailable(error: UnavailableError) -> Response:
    log.warning("witness waits", code=error.code, reason=error.message)
    return _answer(503, "nothing can be stored or read now\n")


def _answer(status: int, text: str) -> Response:
    return PlainTextResponse(text, status_code=status, headers={"Cache-Control": "no-store"})
