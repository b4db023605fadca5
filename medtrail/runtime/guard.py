"""What stands before every method: who calls, whether they may, how long it may take, and what errors look like.

One interceptor wraps each of the four kinds of methods. Order: the table has the method; the token is good; the role
may; then the method runs under its deadline. A stream may last for days: before each of its answers the caller's key is
looked at again, and one that has ended meanwhile ends the stream. Errors of ours become rich statuses; of others
nothing leaves but INTERNAL, and the log has the rest.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import grpc
import grpc.aio

from medtrail.errors import AuthenticationError, MedtrailError, UnavailableError
from medtrail.gs1 import Gln
from medtrail.runtime.access import authorise, rule_of
from medtrail.runtime.logging import get_logger
from medtrail.runtime.status import ADMITTED_KEY, DETAILS_KEY, error_to_status, grpc_code
from medtrail.runtime.tokens import Caller

log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
if TYPE_CHECKING:
    # Generic for type checkers only.
    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

LONGEST_UNARY_S = 60.0
_BEARER = "Bearer "

_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("medtrail_caller")


def caller_of(context: Context) -> Caller:  # noqa: ARG001 - names the call for the reader; the call's task tells it
    """Return who makes the call that is being served.

    Raises:
        AuthenticationError: TOKEN_MISSING: outside a call, or in one that needs no token.
    """
    try:
        return _caller.get()
    except LookupError:
        raise AuthenticationError("this call has no authenticated caller", code="TOKEN_MISSING") from None


class Verifier(Protocol):
    """Tells who calls, by the token of the call: of an organisation's key, or of a station for its own machine."""

    def verify(self, token: str) -> Caller:
        """Return who calls.

        Raises:
            AuthenticationError: The token opens nothing; it may be empty.
        """
        ...

    def check_stands(self, caller: Caller) -> None:
        """Check that a caller who was let in would be let in still.

        Raises:
            AuthenticationError: Its key has ended.
        """
        ...


class Guard(grpc.aio.ServerInterceptor):
    """Authenticates, authorises, limits and translates; the same for all services of a process."""

    def __init__(self, verifier: Verifier, *, callee: Gln, longest_unary_s: float = LONGEST_UNARY_S) -> None:
        """Hold what calls are judged by.

        Args:
            verifier: Tells who calls.
            callee: Party GLN of this process's organisation.
            longest_unary_s: Most seconds for a call with a single answer, and the deadline of those without one.
        """
        self._verifier = verifier
        self._callee = callee
        self._longest_unary_s = longest_unary_s

    async def intercept_service(
        self, continuation: "Continuation", handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler":
        """Return the method's handler, guarded; one that only refuses when the table has no such method."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        try:
            rule_of(method)
        except MedtrailError as error:
            return _refusing(error)
        if handler is None:
            return _refusing(UnavailableError(f"{method} is not served here", code="METHOD_UNIMPLEMENTED"))
        return self._guarded(method, handler)

    def _guarded(self, method: str, handler: "Handler") -> "Handler":
        # Whichever of the four it is; the stubs know the synchronous signatures only.
        behavior: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def single(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            try:
                self._admit(method, context)
                # With request streams the caller sets the pace.
                limit = None if handler.request_streaming else self._limit(context)
                async with asyncio.timeout(limit):
                    return await behavior(request, context)
            except Exception as error:  # noqa: BLE001 - the last one who can answer
                await _abort(method, context, error)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            try:
                caller = self._admit(method, context)
                if handler.request_streaming:
                    # Our clients send nothing before they are admitted: see medtrail.runtime.client.
                    await context.send_initial_metadata(((ADMITTED_KEY, "1"),))
                answers = behavior(request, context)
                if hasattr(answers, "__aiter__"):
                    async with aclosing(answers):
                        async for answer in answers:
                            if caller is not None:
                                self._verifier.check_stands(caller)
                            yield answer
                else:
                    # A method that writes to the context by itself.
                    await answers
            except Exception as error:  # noqa: BLE001 - the last one who can answer
                await _abort(method, context, error)

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        return make(
            stream if handler.response_streaming else single,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _admit(self, method: str, context: Context) -> Caller | None:
        if rule_of(method).anonymous:
            return None
        caller = self._verifier.verify(_bearer(context))
        authorise(method, caller=caller, callee=self._callee)
        _caller.set(caller)
        return caller

    def _limit(self, context: Context) -> float:
        # None without a deadline, whatever the stubs say.
        remaining: Any = context.time_remaining()
        # gRPC ends the call at the caller's deadline by itself; ours only caps it.
        return min(self._longest_unary_s if remaining is None else float(remaining), self._longest_unary_s)


def _bearer(context: Context) -> str:
    metadata: Any = context.invocation_metadata()
    values = [value for name, value in metadata or () if name == "authorization"]
    if len(values) > 1:
        raise AuthenticationError("the call carries several tokens", code="TOKEN_MALFORMED", field="authorization")
    text = str(values[0]) if len(values) == 1 else ""
    return text.removeprefix(_BEARER) if text.startswith(_BEARER) else ""


# Cancellation is no Exception: when the caller has gone, the task ends and nobody is answered.
async def _abort(method: str, context: Context, error: Exception) -> NoReturn:
    if isinstance(error, MedtrailError):
        if isinstance(error, UnavailableError):
            log.warning("call failed", method=method, code=error.code, reason=error.message)
        status = error_to_status(error)
        await context.abort(grpc_code(error), status.message, ((DETAILS_KEY, status.SerializeToString()),))
    if isinstance(error, TimeoutError):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the call took longer than its deadline")
    if isinstance(error, grpc.aio.AbortError):
        # A method's own abort has answered already.
        raise error
    log.error("call failed unexpectedly", method=method, exc_info=error)
    hidden = MedtrailError("internal error; the server's log has the details")
    status = error_to_status(hidden)
    await context.abort(grpc.StatusCode.INTERNAL, status.message, ((DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError  # abort raises


def _refusing(error: MedtrailError) -> "Handler":
    async def refuse(_request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        await _abort("", context, error)

    # Streams in and out fit every caller, whatever kind it believes the method to be.
    async def refuse_stream(_requests: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
        await refuse(_requests, context)
        yield b""  # makes this a generator; never reached

    return grpc.stream_stream_rpc_method_handler(refuse_stream)
