"""Our errors as gRPC statuses and back: one table.

An error travels as google.rpc.Status in the trailers: ErrorInfo with ``reason`` = code, ``domain`` = medtrail and the
facts as metadata (with the class under ``error_kind``), and BadRequest with the offending field. The client gets back
an error of the same class, code, field and facts.

Source: AIP-193; gRPC "richer error model".
"""

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

from medtrail.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    DuplicateError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    RootMismatchError,
    SignatureError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)

DOMAIN = "medtrail"
DETAILS_KEY = "grpc-status-details-bin"
# Initial metadata of a stream whose caller was let in.
ADMITTED_KEY = "medtrail-admitted"
_KIND = "error_kind"

# Trailers share 8 KiB with everything else: what would exceed it would lose the whole status.
_LONGEST_MESSAGE = 1000
_LONGEST_FACT = 200
_MOST_FACTS = 12

CODE_OF: dict[type[MedtrailError], grpc.StatusCode] = {
    MalformedError: grpc.StatusCode.INVALID_ARGUMENT,
    TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    VerificationError: grpc.StatusCode.FAILED_PRECONDITION,
    RootMismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    SignatureError: grpc.StatusCode.FAILED_PRECONDITION,
    AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
    AuthorizationError: grpc.StatusCode.PERMISSION_DENIED,
    ConflictError: grpc.StatusCode.FAILED_PRECONDITION,
    DuplicateError: grpc.StatusCode.ALREADY_EXISTS,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    MedtrailError: grpc.StatusCode.INTERNAL,
}
_CLASS_OF_NAME = {kind.__name__: kind for kind in CODE_OF}

# For statuses without details: from gRPC itself, or from servers that are not ours.
_CLASS_OF_CODE: dict[grpc.StatusCode, tuple[type[MedtrailError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (MalformedError, "MALFORMED"),
    grpc.StatusCode.OUT_OF_RANGE: (MalformedError, "MALFORMED"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (TooLargeError, "RESOURCE_EXHAUSTED"),
    grpc.StatusCode.FAILED_PRECONDITION: (ConflictError, "CONFLICT"),
    grpc.StatusCode.ABORTED: (ConflictError, "CONFLICT"),
    grpc.StatusCode.ALREADY_EXISTS: (DuplicateError, "DUPLICATE"),
    grpc.StatusCode.NOT_FOUND: (NotFoundError, "NOT_FOUND"),
    grpc.StatusCode.UNAUTHENTICATED: (AuthenticationError, "UNAUTHENTICATED"),
    grpc.StatusCode.PERMISSION_DENIED: (AuthorizationError, "PERMISSION_DENIED"),
    grpc.StatusCode.UNIMPLEMENTED: (NotFoundError, "METHOD_UNIMPLEMENTED"),
    grpc.StatusCode.UNAVAILABLE: (UnavailableError, "UNAVAILABLE"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (UnavailableError, "DEADLINE_EXCEEDED"),
    grpc.StatusCode.CANCELLED: (UnavailableError, "CANCELLED"),
}


def grpc_code(error: MedtrailError) -> grpc.StatusCode:
    """Return the status code of an error, by the nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in CODE_OF:
            return CODE_OF[kind]
    raise AssertionError(type(error))  # MedtrailError is in the table


def error_to_status(error: MedtrailError) -> status_pb2.Status:
    """Return an error as google.rpc.Status; long texts are cut."""
    facts = dict(list(error.facts.items())[:_MOST_FACTS])
    info = error_details_pb2.ErrorInfo(
        reason=error.code,
        domain=DOMAIN,
        metadata={**{name: text[:_LONGEST_FACT] for name, text in facts.items()}, _KIND: _kind_name(error)},
    )
    details = [_packed(info)]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field[:_LONGEST_FACT], description=error.message[:_LONGEST_FACT]
        )
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    number, _ = grpc_code(error).value
    return status_pb2.Status(code=number, message=error.message[:_LONGEST_MESSAGE], details=details)


def status_to_error(status: status_pb2.Status) -> MedtrailError:
    """Return the error that a status carries: of its class where it is one of ours, else by its code."""
    info, field = error_details_pb2.ErrorInfo(), None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest()
            detail.Unpack(request)
            field = request.field_violations[0].field if request.field_violations else None
    facts = {name: text for name, text in info.metadata.items() if name != _KIND}
    kind = _CLASS_OF_NAME.get(info.metadata.get(_KIND, "")) if info.domain == DOMAIN else None
    if kind is None:
        kind, code = _by_code(status.code)
        return kind(status.message, code=code, field=field)
    return _restored(kind, status.message, info.reason, field, facts)


def rpc_error_to_error(error: grpc.aio.AioRpcError) -> MedtrailError:
    """Return the error that a failed call stands for."""
    for name, value in error.trailing_metadata() or ():
        if name == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_to_error(status_pb2.Status.FromString(value))
            except ValueError:
                break
    number, _ = error.code().value
    kind, code = _by_code(number)
    return kind(error.details() or error.code().name, code=code)


def _kind_name(error: MedtrailError) -> str:
    return next(kind.__name__ for kind in type(error).__mro__ if kind in CODE_OF)


def _by_code(number: int) -> tuple[type[MedtrailError], str]:
    for code, found in _CLASS_OF_CODE.items():
        if code.value[0] == number:
            return found
    name = code_pb2.Code.Name(number) if number in code_pb2.Code.values() else "UNKNOWN"
    return MedtrailError, "INTERNAL" if name == "INTERNAL" else f"STATUS_{name}"


def _restored(
    kind: type[MedtrailError], message: str, code: str, field: str | None, facts: dict[str, str]
) -> MedtrailError:
    # Not by the constructor: those of some classes take other arguments.
    error = kind.__new__(kind)
    MedtrailError.__init__(error, message, code=code, field=field)
    error.facts = facts
    return error


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
