"""The gRPC server of a process: TLS only, guarded methods, health, reflection, bounded, and stopped gracefully."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_health.v1.health import aio as health_aio  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from medtrail.errors import UnavailableError
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.guard import LONGEST_UNARY_S, Guard, Verifier, caller_of
from medtrail.runtime.logging import get_logger
from medtrail.runtime.tokens import Caller, Clock, TokenVerifier, utc_now
from medtrail.trust import Registry

__all__ = ["Binding", "Caller", "Server", "caller_of", "serve", "wait_for_signal"]

log = get_logger(__name__)

LARGEST_MESSAGE_BYTES = 4 * 1024 * 1024
MOST_CONCURRENT_CALLS = 200
GRACE_S = 5.0
HEALTH_SERVICE = "grpc.health.v1.Health"


@dataclass(frozen=True, slots=True)
class Binding:
    """A service and who serves it.

    Attributes:
        service: Full name, ``medtrail.api.ledger.v1.LedgerService``.
        add: The generated ``add_…Servicer_to_server``.
        servicer: The object with the methods; async functions, or async generators for streamed answers.
    """

    service: str
    add: Callable[[Any, Any], None]
    servicer: object


class Server:
    """A running server."""

    def __init__(self, server: grpc.aio.Server, health: health_aio.HealthServicer, *, host: str, port: int) -> None:
        self._server = server
        self._health = health
        self.host = host
        self.port = port

    @property
    def address(self) -> str:
        """host:port where it listens; the port that was taken when 0 was asked for."""
        return f"{self.host}:{self.port}"

    async def set_serving(self, service: str, *, serving: bool) -> None:
        """Set a service's health; the empty name stands for the process."""
        state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(service, state)

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Say NOT_SERVING, take no new calls, give the running ones ``grace_s`` seconds, then cancel them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()


async def serve(  # noqa: PLR0913  # what most callers leave as it is
    bindings: Sequence[Binding],
    *,
    folder: OrganisationFolder,
    registry: Callable[[], Registry],
    listen: str,
    clock: Clock = utc_now,
    longest_unary_s: float = LONGEST_UNARY_S,
    most_concurrent: int = MOST_CONCURRENT_CALLS,
    serving: bool = True,
    verifier: Verifier | None = None,
) -> Server:
    """Start a server for an organisation and return it.

    Args:
        bindings: What it serves besides health and reflection.
        folder: Whose process it is: TLS certificate, and the GLN that tokens must name.
        registry: Gives the trust registry as of now.
        listen: host:port; port 0 takes a free one.
        clock: Aware UTC, for tokens.
        longest_unary_s: Cap of the deadlines of calls with a single answer.
        most_concurrent: More calls at one time are refused with RESOURCE_EXHAUSTED.
        serving: Whether health says SERVING from the start; else :meth:`Server.set_serving` later.
        verifier: Tells who calls; None: tokens of enrolled keys do.

    Raises:
        UnavailableError: LISTEN_FAILED: the address is taken or not ours.
    """
    judge = verifier or TokenVerifier(registry, audience=folder.gln, clock=clock)
    server = grpc.aio.server(
        interceptors=[Guard(judge, callee=folder.gln, longest_unary_s=longest_unary_s)],
        options=[
            # A second server would bind the same port in silence otherwise, and take half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", LARGEST_MESSAGE_BYTES),
        ],
        maximum_concurrent_rpcs=most_concurrent,
    )
    for binding in bindings:
        binding.add(binding.servicer, server)
    services = [binding.service for binding in bindings]
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((*services, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
    port = _bind(server, folder, listen)
    await server.start()
    running = Server(server, health, host=listen.rpartition(":")[0], port=port)
    for service in ("", *services):
        await running.set_serving(service, serving=serving)
    log.info("serving", address=running.address, services=services)
    return running


def _bind(server: grpc.aio.Server, folder: OrganisationFolder, listen: str) -> int:
    tls = folder.tls()
    credentials = grpc.ssl_server_credentials([(tls.private_key, tls.certificate)])
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise UnavailableError(f"cannot listen on {listen}", code="LISTEN_FAILED", field="listen") from error
    if port == 0:
        raise UnavailableError(f"cannot listen on {listen}", code="LISTEN_FAILED", field="listen")
    return port


async def wait_for_signal() -> str:
    """Return the name of the first SIGTERM or SIGINT that comes; both are taken over from here on."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[str] = loop.create_future()

    def note(name: str) -> None:
        if not came.done():
            came.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note, number.name)
    return await came
