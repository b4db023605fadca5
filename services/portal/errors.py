"""What a refused request is told: a body by RFC 7807 with the standard's exception, and our stable code.

Source: EPCIS 2.0, section 12.3 and its OpenAPI; RFC 7807.
"""

from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from medtrail.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    DuplicateError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)
from services.portal.query import errors as query_errors

PROBLEM_TYPE = "application/problem+json"
LONGEST_DETAIL = 2000
RETRY_AFTER_S = 5


class NotAcceptableError(MalformedError):
    """No answer can be given in the form that was asked for."""

    default_code = "NOT_ACCEPTABLE"


class UnsupportedMediaTypeError(MalformedError):
    """The body comes in a form that is not read here."""

    default_code = "MEDIA_TYPE_UNSUPPORTED"


class UriTooLongError(TooLargeError):
    """The URI with its query is longer than is read."""

    default_code = "URI_TOO_LONG"


class UploadTooSlowError(MalformedError):
    """A body takes longer to come than is waited for."""

    default_code = "UPLOAD_TOO_SLOW"


class MethodNotAllowedError(MalformedError):
    """The path is there and does not do this.

    Args:
        allowed: The methods that it has.
    """

    default_code = "METHOD_NOT_ALLOWED"

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Answer:
    """How a kind of error is told.

    Attributes:
        status: HTTP status.
        exception: The standard's name, without ``epcisException:``.
    """

    status: int
    exception: str


# By the nearest class.
ANSWERS: dict[type[MedtrailError], Answer] = {
    MedtrailError: Answer(500, "ImplementationException"),
    MalformedError: Answer(400, "ValidationException"),
    TooLargeError: Answer(413, "CaptureLimitExceededException"),
    VerificationError: Answer(400, "ValidationException"),
    AuthenticationError: Answer(401, "SecurityException"),
    AuthorizationError: Answer(403, "SecurityException"),
    ConflictError: Answer(409, "ResourceAlreadyExistsException"),
    DuplicateError: Answer(409, "ResourceAlreadyExistsException"),
    NotFoundError: Answer(404, "NoSuchResourceException"),
    UnavailableError: Answer(503, "ImplementationException"),
    NotAcceptableError: Answer(406, "NotAcceptableException"),
    UnsupportedMediaTypeError: Answer(415, "UnsupportedMediaTypeException"),
    UploadTooSlowError: Answer(408, "ImplementationException"),
    UriTooLongError: Answer(414, "URITooLongException"),
    MethodNotAllowedError: Answer(405, "ImplementationException"),
    query_errors.QueryParameterError: Answer(400, "QueryParameterException"),
    query_errors.QueryTooComplexError: Answer(413, "QueryTooComplexException"),
    query_errors.QueryTooLargeError: Answer(413, "QueryTooLargeException"),
    query_errors.NoSuchNameError: Answer(404, "NoSuchNameException"),
    query_errors.DuplicateNameError: Answer(409, "ResourceAlreadyExistsException"),
    query_errors.NoSuchSubscriptionError: Answer(404, "NoSuchResourceException"),
    query_errors.SubscribeNotPermittedError: Answer(400, "SubscribeNotPermittedException"),
    query_errors.SubscriptionControlsError: Answer(400, "SubscriptionControlsException"),
    query_errors.InvalidUriError: Answer(400, "InvalidURIException"),
}


def answer_of(error: MedtrailError) -> Answer:
    """Return how an error is told, by the nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in ANSWERS:
            return ANSWERS[kind]
    raise AssertionError(type(error))  # MedtrailError is in the table


def problem(error: MedtrailError) -> dict[str, str | int]:
    """Return the body that tells an error; nothing of what went wrong inside on a 500."""
    answer = answer_of(error)
    body: dict[str, str | int] = {
        "type": f"epcisException:{answer.exception}",
        "title": HTTPStatus(answer.status).phrase,
        "status": answer.status,
        "code": error.code,
        "detail": error.message[:LONGEST_DETAIL] if answer.status != 500 else "something went wrong on our side",
    }
    if error.field and answer.status != 500:
        body["field"] = error.field[:LONGEST_DETAIL]
    return body


def problem_response(error: MedtrailError) -> Response:
    """Return the answer that tells an error."""
    answer = answer_of(error)
    headers: dict[str, str] = {}
    if answer.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="medtrail"'
    if answer.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = error.allowed
    return JSONResponse(problem(error), status_code=answer.status, headers=headers, media_type=PROBLEM_TYPE)


async def on_error(_request: Request, error: Exception) -> Response:
    """Return the answer for an error of ours, as Starlette's exception handler."""
    if not isinstance(error, MedtrailError):
        raise error
    return problem_response(error)
