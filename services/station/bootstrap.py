"""Builds and runs the process of one station: the only place that reads its settings."""

import asyncio
import contextlib
import hmac
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from medtrail.errors import AuthenticationError, MalformedError, MedtrailError
from medtrail.gs1 import Gln
from medtrail.note import parse_vkey
from medtrail.runtime.client import connect
from medtrail.runtime.database import Database
from medtrail.runtime.folder import StationFolder
from medtrail.runtime.logging import configure_logging, get_logger
from medtrail.runtime.overdue import OverdueWatch
from medtrail.runtime.paging import PageTokens
from medtrail.runtime.replica import RegistryReplica
from medtrail.runtime.server import Caller, Server, serve, wait_for_signal
from medtrail.runtime.settings import StationSettings, load_settings
from medtrail.runtime.tables import prepare
from medtrail.trust import Organisation
from services.custody.bootstrap import make_desk
from services.custody.desk import Desk, now_utc
from services.custody.office import DispensingPolicy, Office
from services.custody.upgrade import upgrade
from services.station.link import ServiceLink
from services.station.scanner import StationScanner
from services.station.servicer import station_desk_binding
from services.station.sync import Sync

log = get_logger(__name__)

DATABASE_NAME = "station.db"
OVERDUE_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Station:
    """All parts of one station's process."""

    folder: StationFolder
    office: Office
    scanner: StationScanner
    sync: Sync
    link: ServiceLink


class DeskTokens:
    """Lets callers in that hold the station's token: they act for the station."""

    def __init__(self, folder: StationFolder) -> None:
        """Hold the token, and whom it stands for."""
        self._token = folder.desk_token().encode()
        profile = folder.profile
        key_id = folder.signing_key().key_id
        organisation = Organisation(
            name=profile.name,
            display_name=profile.display_name,
            gln=profile.gln,
            locations=profile.locations,
            company_prefixes=profile.company_prefixes,
            roles=profile.roles,
            sealing_key=b"",
            nats_user_key="",
            licences=(),
            key_ids=(key_id,),
        )
        self._caller = Caller(organisation, key_id, station=folder.station)

    def verify(self, token: str) -> Caller:
        """Return who calls.

        Raises:
            AuthenticationError: TOKEN_MISSING, or another token (TOKEN_WRONG).
        """
        if not token:
            raise AuthenticationError("the call carries no token", code="TOKEN_MISSING", field="authorization")
        if not hmac.compare_digest(token.encode(), self._token):
            message = "this is not the station's token"
            raise AuthenticationError(message, code="TOKEN_WRONG", field="authorization")
        return self._caller

    def check_stands(self, caller: Caller) -> None:
        """Do nothing: the token is good as long as the process."""


class StationClock:
    """A clock of which no two readings are alike, so that no two events of the station are."""

    def __init__(self) -> None:
        self._last: datetime | None = None

    def __call__(self) -> datetime:
        """Return the time, aware UTC, to the millisecond."""
        now = now_utc()
        if self._last is not None and now <= self._last < now + timedelta(seconds=1):
            now = self._last + timedelta(milliseconds=1)
        self._last = now
        return now


@contextlib.asynccontextmanager
async def open_station(settings: StationSettings) -> AsyncIterator[Station]:
    """Open the copy and name the service; nothing needs to be reachable.

    Raises:
        MalformedError: A setting is wrong.
        UnavailableError: The database cannot be opened.
    """
    folder = StationFolder(settings.dir)
    verifier = parse_vkey(settings.log_vkey)
    zone = _zone(settings.time_zone)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.data_dir / DATABASE_NAME)
    channel = connect(
        settings.service_address, folder=folder, audience=folder.gln, server=folder.profile.name, attempts=1
    )
    link = ServiceLink(channel, station=folder.station)
    try:
        database.write_now(prepare)
        database.write_now(upgrade)
        # Fed by the service: a till is no load on the ledger.
        replica = RegistryReplica(database, channel, verifier=verifier, authority_key_id=settings.authority_key_id)
        sync = Sync(
            database,
            link,
            replica,
            station=folder.station,
            key_id=folder.signing_key().key_id,
            gln=folder.gln,
            verifier=verifier,
            keep=timedelta(days=settings.keep_days),
        )
        await sync.load()
        desk = _desk(folder, replica, settings)
        scanner = StationScanner(database, desk, link, sync, zone)
        office = Office(
            desk=desk,
            database=database,
            tokens=PageTokens(folder.signing_key().seed),
            scanner=scanner,
            after_write=sync.wake,
            replica=replica,
            watch=OverdueWatch(database, overdue_after=OVERDUE_AFTER),
            dispensing=DispensingPolicy(decommission_at_opening=settings.decommission_at_opening),
        )
        yield Station(folder, office, scanner, sync, link)
    finally:
        await link.end()
        await channel.close()
        database.close()


def _desk(folder: StationFolder, replica: RegistryReplica, settings: StationSettings) -> Desk:
    desk = make_desk(folder, replica)
    locations = desk.locations
    if settings.location:
        location = Gln(settings.location)
        if location not in {folder.gln, *locations}:
            message = f"{location} is no location of {folder.gln}"
            raise MalformedError(message, code="SETTING_INVALID", field="MEDTRAIL_STATION_LOCATION")
        locations = (location, *(other for other in locations if other != location))
    return replace(desk, locations=locations, clock=StationClock(), source=folder.station)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        message = f"no time zone {name[:50]!r}"
        raise MalformedError(message, code="SETTING_INVALID", field="MEDTRAIL_STATION_TIME_ZONE") from error


@contextlib.asynccontextmanager
async def running(settings: StationSettings) -> AsyncIterator[tuple[Station, Server]]:
    """Run a station. A task that fails ends the whole, for the supervisor to restart.

    Raises:
        UnavailableError: LISTEN_FAILED.
    """
    async with open_station(settings) as station:
        binding = station_desk_binding(station.office, station.scanner, station.sync, station=station.folder.station)
        server = await serve(
            [binding],
            folder=station.folder,
            registry=lambda: station.office.replica.registry,
            listen=settings.listen,
            verifier=DeskTokens(station.folder),
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(station.sync.run(), name="sync")
            try:
                yield station, server
            finally:
                await server.stop()
                task.cancel()


async def _serve_until_signal(settings: StationSettings) -> None:
    async with running(settings):
        name = await wait_for_signal()
        log.info("stopping", signal=name)


def main() -> None:
    """Run with settings from the environment, until SIGTERM or SIGINT.

    Raises:
        SystemExit: 2: a setting or a key is wrong, or the database or the address cannot be had.
    """
    try:
        settings = load_settings(StationSettings)
        configure_logging(process=f"station/{settings.dir.name}", level=settings.log_level)
        asyncio.run(_serve_until_signal(settings))
    except MedtrailError as error:
        configure_logging(process="station")
        log.error("station cannot start", code=error.code, field=error.field, reason=error.message)  # noqa: TRY400  # its own message tells all
        sys.exit(2)
