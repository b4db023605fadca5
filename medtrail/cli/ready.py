"""Whether the processes of an embedded network serve."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # ships no types

from medtrail.errors import UnavailableError
from medtrail.runtime.ca import server_name

READY_CALL_S = 2.0
HOST = "127.0.0.1"


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect, and hang up in the end, whatever came of it."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def nats_ready(port: int) -> None:
    """Check that an exchange greets.

    Raises:
        UnavailableError: It does not (PROCESS_NOT_READY).
    """
    try:
        async with asyncio.timeout(READY_CALL_S), connected(port) as (reader, _):
            greeting = await reader.readline()
    except (OSError, TimeoutError) as error:
        raise UnavailableError(f"nothing answers on {HOST}:{port}", code="PROCESS_NOT_READY") from error
    if not greeting.startswith(b"INFO "):
        raise UnavailableError(f"{HOST}:{port} is no nats-server", code="PROCESS_NOT_READY")


async def port_open(port: int) -> None:
    """Check that something listens.

    Raises:
        UnavailableError: Nothing does (PROCESS_NOT_READY).
    """
    try:
        async with asyncio.timeout(READY_CALL_S), connected(port):
            pass
    except (OSError, TimeoutError) as error:
        raise UnavailableError(f"nothing answers on {HOST}:{port}", code="PROCESS_NOT_READY") from error


async def grpc_ready(ca_certificate: bytes, address: str, name: str) -> None:
    """Check that a process serves.

    Raises:
        UnavailableError: It does not (PROCESS_NOT_READY).
    """
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_certificate)
    options = [("grpc.ssl_target_name_override", server_name(name))]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=READY_CALL_S
            )
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(f"{name}: {error.code().name}", code="PROCESS_NOT_READY") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(f"{name} is not serving yet", code="PROCESS_NOT_READY")
