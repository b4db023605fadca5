"""Measures how long a scan's verdict takes at stations, with so many of them scanning, online and offline.

Each station is whole: its own key, copy and gRPC door; all run in one process, and each scans once a second, as a
person does. Online, a verdict is the station's question to the service and the service's to the ledger. Offline, the
same stations are opened again with a service that is not there.
"""

import asyncio
import random
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import verdict_pb2
from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.cli.enrolling import publish_trust
from medtrail.cli.network import RunningNetwork
from medtrail.cli.session import Session
from medtrail.errors import VerificationError
from medtrail.gs1 import Gtin
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.client import connect_desk
from medtrail.runtime.folder import AuthorityFolder, OrganisationFolder, StationFolder, create_station
from medtrail.runtime.settings import StationSettings
from services.station.bootstrap import Station, running

NOBODY = "127.0.0.1:9"
WAIT_S = 120.0
POLL_S = 0.05

Tell = Callable[[str, float, str], None]


def counts(stations: int) -> tuple[int, int, int]:
    """Return how many stations scan at one time: 1, a tenth, and all."""
    return 1, max(2, stations // 10), stations


# The packs are advised, and confirmed by the log: genuine, where that was asked in time.
_VERDICTS = {verdict_pb2.VERDICT_CODE_GENUINE, verdict_pb2.VERDICT_CODE_UNCONFIRMED}


class _Desk:
    """One station and the scanner beside it."""

    def __init__(self, station: Station, stub: "station_pb2_grpc.StationDeskServiceAsyncStub") -> None:
        self.station = station
        self._stub = stub

    async def scan(self, scans: Sequence[str], *, pace_s: float) -> list[tuple[float, bool]]:
        """Scan at a pace; return the milliseconds that each verdict took, and whether the log was asked in time.

        Raises:
            VerificationError: A verdict is not what it must be.
        """
        answered = asyncio.Event()
        began = 0.0

        async def ask() -> AsyncIterator[station_pb2.ScanRequest]:
            nonlocal began
            # People do not scan in step.
            await asyncio.sleep(random.uniform(0, pace_s))
            for number, scan in enumerate(scans):
                began = time.perf_counter()
                yield station_pb2.ScanRequest(scan_number=number, scan=scan)
                await answered.wait()
                answered.clear()
                await asyncio.sleep(max(0.0, pace_s - (time.perf_counter() - began)))

        took = []
        async for answer in self._stub.Scan(ask()):
            genuine = answer.verdict.code == verdict_pb2.VERDICT_CODE_GENUINE
            took.append(((time.perf_counter() - began) * 1000, genuine))
            answered.set()
            if answer.verdict.code not in _VERDICTS or (genuine and not answer.knowledge.online):
                raise VerificationError(answer.verdict.message, code="BENCH_FAILED")
        return took


class _Bench:
    def __init__(self, network: RunningNetwork, owner: Session, folder: Path) -> None:
        self._network = network
        self._owner = owner
        self._folder = folder

    async def make(self, number: int) -> list[StationFolder]:
        """Make stations and publish their keys."""
        root = Path(self._owner.organisation.folder).parent.parent
        authority = AuthorityFolder(root / "authority")
        organisation = OrganisationFolder(Path(self._owner.organisation.folder))
        made = [
            create_station(
                self._folder / "keys" / f"till-{index}", f"till-{index}", organisation=organisation, authority=authority
            )
            for index in range(number)
        ]
        bus = await connect_bus(
            self._network.nats_url, seed=authority.nats_seed(), gln=authority.gln, name="authority", timeout_s=WAIT_S
        )
        try:
            await publish_trust(bus, authority.gln, [station.key_addition_bytes() for station in made])
        finally:
            await bus.close()
        return made

    async def open(self, stack: AsyncExitStack, folder: StationFolder, *, online: bool) -> _Desk:
        settings = StationSettings(
            dir=folder.path,
            data_dir=self._folder / "data" / folder.station,
            service_address=self._owner.organisation.address if online else NOBODY,
            log_vkey=self._network.verifier_keys[0],
            authority_key_id=self._network.authority_key_id,
        )
        station, server = await stack.enter_async_context(running(settings))
        channel = await stack.enter_async_context(connect_desk(server.address, folder=folder))
        return _Desk(station, station_pb2_grpc.StationDeskServiceStub(channel))

    async def stock(self, maker: Session, epcs: Sequence[str]) -> None:
        """Ship packs to the stations' owner, and wait until its books have them, confirmed."""
        await maker.custody.Ship(
            custody_pb2.ShipRequest(
                request_id=str(uuid.uuid4()), epcs=epcs, destination_party=self._owner.organisation.gln
            )
        )
        async with asyncio.timeout(WAIT_S):
            while True:
                found = (await self._owner.custody.ListInbound(custody_pb2.ListInboundRequest())).shipments
                if found and not found[0].provisional:
                    return
                await asyncio.sleep(POLL_S)


async def _until_online(desks: Sequence[_Desk]) -> None:
    async with asyncio.timeout(WAIT_S):
        for desk in desks:
            while True:
                if desk.station.sync.online:
                    break
                await asyncio.sleep(POLL_S)


async def measure_stations(
    maker: Session,
    owner: Session,
    folder: Path,
    serials: Sequence[str],
    *,
    gtin: Gtin,
    label: str,
    stations: int,
    scans: int,
    pace_s: float,
    tell: Tell,
) -> None:
    """Measure p50 and p99 of verdicts with 1, a tenth, and all of some stations scanning, online and offline.

    Args:
        maker: Holds the packs, and ships them.
        owner: Whose stations they are.
        folder: For their files; absent.
        serials: Of packs that the log has.
        gtin: Of the packs.
        label: What stands behind the serial on each, from its group separator on.
        stations: How many.
        scans: That each makes.
        pace_s: Seconds between two scans of one station.
        tell: Takes a name, a value, and its unit: ms or %.
    """
    bench = _Bench(maker.network, owner, folder)
    await bench.stock(maker, [f"https://id.gs1.org/01/{gtin}/21/{serial}" for serial in serials])
    folders = await bench.make(stations)
    texts = [f"]d201{gtin}21{serial}{label}" for serial in serials]
    for online in (True, False):
        async with AsyncExitStack() as stack:
            first = await bench.open(stack, folders[0], online=online)
            if online:
                await _until_online([first])
            desks = [first, *[await bench.open(stack, station, online=online) for station in folders[1:]]]
            if online:
                await _until_online(desks)
            for number in counts(stations):
                groups = [[texts[(index * scans + at) % len(texts)] for at in range(scans)] for index in range(number)]
                found = await asyncio.gather(
                    *(desk.scan(group, pace_s=pace_s) for desk, group in zip(desks[:number], groups, strict=True))
                )
                took = sorted(milliseconds for each in found for milliseconds, _ in each)
                name = f"scan at a station, {'online' if online else 'offline'}, {number} scanning"
                tell(f"{name}: p50", took[len(took) // 2], "ms")
                tell(f"{name}: p99", took[int(len(took) * 0.99)], "ms")
                if online:
                    asked = sum(genuine for each in found for _, genuine in each)
                    tell(f"{name}: service and ledger answered in time", 100 * asked / len(took), "%")
    shutil.rmtree(folder)
