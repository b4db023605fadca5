"""Channels to other processes: TLS, a fresh token on every attempt, default deadlines, our errors.

Deadlines are set here and not by a service config, whose timeouts fire early (grpc #34547, #40633). Reads that found
the callee unavailable are tried again, each time with a new token; writes are not: their callers know their request
ids.
"""

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from medtrail.gs1 import Gln
from medtrail.runtime.ca import server_name
from medtrail.runtime.folder import OrganisationFolder, StationFolder
from medtrail.runtime.server import LARGEST_MESSAGE_BYTES
from medtrail.runtime.status import ADMITTED_KEY, rpc_error_to_error
from medtrail.runtime.tokens import Clock, TokenMinter, utc_now

DEFAULT_DEADLINE_S = 10.0
READ_ATTEMPTS = 4
FIRST_BACKOFF_S = 0.1

# Methods whose names start so change nothing (AIP-131, AIP-132) and may be repeated.
_READS = ("Get", "List", "Trace", "Verify", "Check")

Details = grpc.aio.ClientCallDetails


def connect(
    address: str,
    *,
    folder: OrganisationFolder,
    audience: Gln,
    server: str,
    deadline_s: float = DEFAULT_DEADLINE_S,
    attempts: int = READ_ATTEMPTS,
    clock: Clock = utc_now,
    person: str = "",
) -> grpc.aio.Channel:
    """Return a channel to another organisation's process; it connects when first used. Close it after use.

    Calls raise :class:`~medtrail.errors.MedtrailError` as the server raised it: UnavailableError when it cannot be
    reached (UNAVAILABLE) or does not answer in time (DEADLINE_EXCEEDED).

    Args:
        address: host:port.
        folder: Who calls.
        audience: Party GLN of the callee.
        server: Short name of the callee's organisation: its certificate must be for ``<server>.medtrail.internal``.
        deadline_s: Of calls with a single request and answer that set none; streams have none, since watches never end.
        attempts: Of reads, 1 or more.
        clock: Aware UTC, for tokens.
        person: Who of the caller's people acts; empty: nobody is named.
    """
    minter = TokenMinter(folder.signing_key(), issuer=folder.gln, audience=audience, clock=clock, person=person)
    return _channel(
        address, folder.ca_certificate(), server, minter.mint, interceptors=_interceptors(deadline_s, attempts)
    )


def connect_desk(address: str, *, folder: StationFolder, deadline_s: float = DEFAULT_DEADLINE_S) -> grpc.aio.Channel:
    """Return a channel to a station from its own machine; calls raise as those of :func:`connect`.

    Args:
        address: host:port.
        folder: Of the station: its token opens it.
        deadline_s: As for :func:`connect`.
    """
    token = folder.desk_token()
    return _channel(
        address, folder.ca_certificate(), folder.server, lambda: token, interceptors=_interceptors(deadline_s, 1)
    )


def _interceptors(deadline_s: float, attempts: int) -> list[grpc.aio.ClientInterceptor]:
    return [_UnaryUnary(deadline_s, attempts), _UnaryStream(), _StreamUnary(), _StreamStream()]


def _channel(
    address: str,
    ca_certificate: bytes,
    server: str,
    mint: Callable[[], str],
    *,
    interceptors: list[grpc.aio.ClientInterceptor],
) -> grpc.aio.Channel:
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(root_certificates=ca_certificate),
        grpc.metadata_call_credentials(_TokenPlugin(mint), name="medtrail"),
    )
    return grpc.aio.secure_channel(
        address,
        credentials,
        options=[
            ("grpc.ssl_target_name_override", server_name(server)),
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
            # Retries of gRPC would send the same token again, which the callee refuses as a replay.
            ("grpc.enable_retries", 0),
            # A restarted neighbour is found again within a second.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
        interceptors=interceptors,
    )


class _TokenPlugin(grpc.AuthMetadataPlugin):
    def __init__(self, mint: Callable[[], str]) -> None:
        self._mint = mint

    def __call__(self, _context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback((("authorization", f"Bearer {self._mint()}"),), None)


def is_read(method: str | bytes) -> bool:
    """Tell whether a method only reads, by its name."""
    text = method.decode() if isinstance(method, bytes) else method
    return text.rpartition("/")[2].startswith(_READS)


def _with_deadline(details: Details, deadline_s: float) -> Details:
    if details.timeout is not None:
        return details
    return Details(details.method, deadline_s, details.metadata, details.credentials, details.wait_for_ready)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, deadline_s: float, attempts: int) -> None:
        self._deadline_s = deadline_s
        self._attempts = attempts

    async def intercept_unary_unary(
        self,
        continuation: Callable[[Details, Any], Awaitable[grpc.aio.UnaryUnaryCall[Any, Any]]],
        client_call_details: Details,
        request: Any,  # noqa: ANN401 - any message
    ) -> Any:  # noqa: ANN401 - any message
        details = _with_deadline(client_call_details, self._deadline_s)
        left = self._attempts if is_read(details.method) else 1
        backoff_s = FIRST_BACKOFF_S
        while True:
            left -= 1
            try:
                # Looking at the code ends the call without raising it; awaiting the call raises what failed.
                return await (await continuation(details, request))
            except grpc.aio.AioRpcError as error:
                if left <= 0 or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise rpc_error_to_error(error) from error
            # Spread, so that many callers do not come back at once.
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            backoff_s *= 2


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self,
        continuation: Callable[[Details, Any], Awaitable[Any]],
        client_call_details: Details,
        request: Any,  # noqa: ANN401 - any message
    ) -> AsyncIterator[Any]:
        return _translated(await continuation(client_call_details, request))


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self,
        continuation: Callable[[Details, Any], Awaitable[Any]],
        client_call_details: Details,
        request_iterator: Any,  # noqa: ANN401 - any messages
    ) -> Any:  # noqa: ANN401 - any message
        try:
            return await (await continuation(client_call_details, request_iterator))
        except grpc.aio.AioRpcError as error:
            raise rpc_error_to_error(error) from error


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self,
        continuation: Callable[[Details, Any], Awaitable[Any]],
        client_call_details: Details,
        request_iterator: Any,  # noqa: ANN401 - any messages
    ) -> AsyncIterator[Any]:
        admission: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        call = await continuation(client_call_details, _once_admitted(admission, request_iterator))
        # At once and beside the answers: a caller may write a while before it reads the first of them.
        noting = asyncio.create_task(_note_admission(admission, call))
        return _translated(_with(noting, call))


async def _once_admitted(
    admission: asyncio.Future[bool], requests: AsyncIterable[Any] | Iterable[Any]
) -> AsyncIterator[Any]:
    """Yield requests once the server has let the call in.

    A message that meets a refusal on its way would end the call as an internal error and hide the refusal.
    """
    if not await admission:
        return
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


async def _note_admission(admission: asyncio.Future[bool], call: Any) -> None:  # noqa: ANN401 - any call
    try:
        # The server says so when it has let the call in; a refusal comes without.
        metadata = await call.initial_metadata()
        admission.set_result(ADMITTED_KEY in (metadata or ()))
    finally:
        if not admission.done():
            admission.set_result(False)


async def _with(task: asyncio.Task[None], answers: AsyncIterable[Any]) -> AsyncIterator[Any]:
    try:
        async for answer in answers:
            yield answer
    finally:
        # Done by now, unless the caller ended the call before the server answered.
        task.cancel()


async def _translated(answers: AsyncIterable[Any]) -> AsyncIterator[Any]:
    try:
        async for answer in answers:
            yield answer
    except grpc.aio.AioRpcError as error:
        raise rpc_error_to_error(error) from error
