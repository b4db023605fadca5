"""JSON bodies of questions: small, without repeated keys, numbers exact."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request

from medtrail.epcis.build import decimal_of
from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import MalformedError, TooLargeError
from services.portal.headers import content_type
from services.portal.query.documents import JSON_ONLY
from services.portal.query.errors import QueryParameterError

MAX_BODY_BYTES: Final = 1024 * 1024


async def json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that is a request's body; numbers are Decimal.

    Raises:
        UnsupportedMediaTypeError: The body is said to be something else.
        TooLargeError: More than 1 MiB.
        MalformedError: JSON_MALFORMED: it is none.
    """
    content_type(request, media_types=JSON_ONLY)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            message = f"expected at most {MAX_BODY_BYTES} bytes"
            raise TooLargeError(message, field="body")
    return parse_object(bytes(data))


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that bytes are.

    Raises:
        MalformedError: JSON_MALFORMED: they are none, or a key stands twice.
    """
    try:
        found = json.loads(
            data, parse_float=_number, parse_int=_number, parse_constant=_refuse, object_pairs_hook=_pairs
        )
        # Half of a surrogate pair is no text: no database would take it.
        json.dumps(found, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError) as error:
        message = f"not JSON: {str(error)[:100]}"
        raise MalformedError(message, code="JSON_MALFORMED", field="body") from error
    if not isinstance(found, dict):
        message = "expected a JSON object"
        raise MalformedError(message, code="JSON_MALFORMED", field="body")
    return found


def _number(text: str) -> Decimal:
    number = decimal_of(text)
    if number is None:
        message = f"a number of more than 64 digits: {text[:40]}"
        raise ValueError(message)
    return number


def _refuse(text: str) -> None:
    message = f"{text} is no JSON number"
    raise ValueError(message)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key stands twice in one object"
        raise ValueError(message)
    return found


def context_prefixes(query: Mapping[str, Any], prefixes: Prefixes) -> Prefixes:
    """Return some prefixes and those that the ``@context`` of a question declares.

    Raises:
        QueryParameterError: It is no context.
    """
    context = query.get("@context", [])
    for item in context if isinstance(context, list) else [context]:
        if isinstance(item, dict):
            for prefix, uri in item.items():
                if not isinstance(uri, str) or ":" not in uri:
                    message = f"expected a namespace URI for {prefix[:50]!r}"
                    raise QueryParameterError(message, field="@context")
                prefixes = prefixes.with_prefix(prefix, uri)
        elif not isinstance(item, str):
            message = "expected URIs and objects of prefixes"
            raise QueryParameterError(message, field="@context")
    return prefixes
