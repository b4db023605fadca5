"""The newest checkpoint of a log, from where it is served."""

import asyncio

import httpx

from medtrail.errors import UnavailableError

FETCH_TIMEOUT_S = 5.0
MAX_NOTE_BYTES = 64 * 1024


async def fetch_checkpoint(url: str) -> bytes:
    """Return a log's published checkpoint, unchecked.

    Args:
        url: ``https://…``, the prefix under which the log is served; ``/checkpoint`` at its end may stand there.

    Raises:
        UnavailableError: LOG_UNREACHABLE: it does not come within 5 seconds, or is no checkpoint by its size.
    """
    address = f"{url.rstrip('/').removesuffix('/checkpoint')}/checkpoint"
    # Plain bytes: what comes packed may be a thousand times as long when it is unpacked.
    plain = {"Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(FETCH_TIMEOUT_S),
            httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, headers=plain) as client,
            client.stream("GET", address) as answer,
        ):
            answer.raise_for_status()
            content = b""
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > MAX_NOTE_BYTES:
                    message = f"{address} has more than {MAX_NOTE_BYTES} bytes"
                    raise UnavailableError(message, code="LOG_UNREACHABLE")
            return content
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        message = f"{address} does not answer: {str(error) or type(error).__name__}"
        raise UnavailableError(message, code="LOG_UNREACHABLE") from error
