"""Builds and runs the portal of one organisation: the only place that reads its settings and starts its tasks."""

import asyncio
import contextlib
import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from medtrail.api.custody.v1 import custody_pb2_grpc
from medtrail.errors import MalformedError, MedtrailError, UnavailableError
from medtrail.runtime.client import connect
from medtrail.runtime.database import Database
from medtrail.runtime.files import read_secret
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.logging import configure_logging, get_logger
from medtrail.runtime.server import wait_for_signal
from medtrail.runtime.settings import PortalSettings, load_settings
from services.portal import verification
from services.portal.access import Access
from services.portal.app import build_app
from services.portal.capturing import Capturing
from services.portal.openapi import openapi_document
from services.portal.parts import PortalParts
from services.portal.repository import EventRepository
from services.portal.standing import StandingQueries
from services.portal.verification_client import VerificationClient

log = get_logger(__name__)

DATABASE_NAME = "portal.db"
GRACE_S = 5
MOST_CONNECTIONS = 500
LARGEST_HEAD_BYTES = 64 * 1024
SERVICE_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Portal:
    """All parts of a portal, not yet served."""

    parts: PortalParts
    capturing: Capturing
    standing: StandingQueries
    app: ASGIApp


@contextlib.asynccontextmanager
async def open_portal(settings: PortalSettings) -> AsyncIterator[Portal]:
    """Open the database, name the service, and close all at the end; nothing needs to be reachable yet.

    Raises:
        MalformedError: A setting is wrong.
        UnavailableError: The database cannot be opened.
    """
    check_transport(settings)
    folder = OrganisationFolder(settings.org_dir)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.data_dir / DATABASE_NAME)
    channel = connect(
        settings.service_address,
        folder=folder,
        audience=folder.gln,
        server=folder.profile.name,
        deadline_s=SERVICE_DEADLINE_S,
    )
    try:
        repository = EventRepository(database)
        repository.prepare()
        access = Access(settings.token_file)
        custody = custody_pb2_grpc.CustodyServiceStub(channel)
        verifier = VerificationClient(channel)
        parts = PortalParts(folder.gln, settings, database, custody, repository, access, verifier)
        standing = StandingQueries(parts)
        capturing = Capturing(parts)
        routes = [*capturing.routes(), *standing.routes(), *verification.routes(parts)]
        document = openapi_document(settings)
        yield Portal(parts, capturing, standing, build_app(routes, access=access, settings=settings, document=document))
    finally:
        await channel.close()
        database.close()


def check_transport(settings: PortalSettings) -> None:
    """Check that tokens do not travel in the clear.

    Raises:
        MalformedError: PLAIN_HTTP: neither TLS nor loopback, and not told that something before it does TLS; or
            SETTING_INVALID: one of certificate and key only.
    """
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        message = "a certificate needs its key, and a key its certificate"
        raise MalformedError(message, code="SETTING_INVALID", field="MEDTRAIL_PORTAL_TLS_KEY")
    if settings.tls_certificate is not None or settings.allow_plain_http or _is_loopback(_split(settings.listen)[0]):
        return
    message = (
        f"{settings.listen} is no loopback address, and there is no certificate: tokens would travel in the clear."
        " Set MEDTRAIL_PORTAL_TLS_CERTIFICATE and _TLS_KEY, or _ALLOW_PLAIN_HTTP where a proxy does TLS"
    )
    raise MalformedError(message, code="PLAIN_HTTP", field="MEDTRAIL_PORTAL_LISTEN")


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us and says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.serving.set()


@contextlib.asynccontextmanager
async def running(settings: PortalSettings) -> AsyncIterator[tuple[Portal, str]]:
    """Run a portal and give its URL. A task that fails ends the whole, for the supervisor to restart.

    Raises:
        UnavailableError: LISTEN_FAILED.
    """
    async with open_portal(settings) as portal:
        config = _config(settings, portal.app)
        listener = _listener(settings)
        scheme = "http" if settings.tls_certificate is None else "https"
        host, port = listener.getsockname()[:2]
        server = _Server(config)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve(sockets=[listener]), name="http")
            tasks = [
                group.create_task(portal.standing.run(), name="standing"),
                group.create_task(portal.capturing.run(), name="capturing"),
            ]
            try:
                await server.serving.wait()
                url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
                log.info("ready", url=url, gln=str(portal.parts.gln))
                yield portal, url
            finally:
                # Calls first: what they have been told was accepted is on the disk before anything is closed.
                server.should_exit = True
                await serving
                for task in tasks:
                    task.cancel()


def _listener(settings: PortalSettings) -> socket.socket:
    host, port = _split(settings.listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UnavailableError(f"cannot listen on {settings.listen}", code="LISTEN_FAILED", field="listen") from error


def _config(settings: PortalSettings, app: ASGIApp) -> uvicorn.Config:
    if settings.tls_key is not None:
        # Refuses a key that others may read.
        read_secret(settings.tls_key)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=LARGEST_HEAD_BYTES,
        loop="asyncio",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )


async def _serve_until_signal(settings: PortalSettings) -> None:
    # Before the start: a signal that comes meanwhile, or right after it said that it serves, ends it as any other.
    signalled = asyncio.create_task(wait_for_signal())
    try:
        async with running(settings):
            log.info("stopping", signal=await signalled)
    finally:
        signalled.cancel()


def main() -> None:
    """Run with settings from the environment until SIGTERM or SIGINT.

    Raises:
        SystemExit: 2: a setting or a key is wrong, or the database or the address cannot be had.
    """
    try:
        settings = load_settings(PortalSettings)
        configure_logging(process=f"portal/{settings.org_dir.name}", level=settings.log_level)
        asyncio.run(_serve_until_signal(settings))
    except MedtrailError as error:
        configure_logging(process="portal")
        log.error("portal cannot start", code=error.code, field=error.field, reason=error.message)  # noqa: TRY400  # its own message tells all
        sys.exit(2)
