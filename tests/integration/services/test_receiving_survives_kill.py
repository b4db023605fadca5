"""The service killed with SIGKILL between scans: what was answered is there, and what is sent anew counts once."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.receiving.v1 import receiving_pb2 as pb
from medtrail.api.receiving.v1 import receiving_pb2_grpc
from medtrail.errors import MedtrailError
from medtrail.runtime.client import connect
from tests.integration.services.conftest import free_port, request_id
from tests.integration.services.test_receiving import commissioned, pack

if TYPE_CHECKING:
    from tests.integration.services.conftest import Play, World

CASES, EACH, KILLS = 2, 40, 2
UNDER_WAY = 5
STATIONS = ("left", "right")


class Service:
    """The pharmacy's process, and starts of it."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.folder = world.network["pharmacy"]
        self.address = f"127.0.0.1:{free_port()}"
        settings = {
            "ORG_DIR": self.folder.path,
            "DATA_DIR": world.folder / "pharmacy",
            "LISTEN": self.address,
            "NATS_URL": world.nats_url,
            "LEDGER_ADDRESS": f"127.0.0.1:{world.ledger_port}",
            "LEDGER_GLN": world.network["ledger"].gln,
            "LOG_URL": "http://127.0.0.1:9",
            "LOG_VKEY": world.vkey,
            "AUTHORITY_KEY_ID": world.authority_key_id,
            "LOG_LEVEL": "error",
        }
        self.environment = {
            # The killed write no figures of coverage.
            **{name: text for name, text in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"},
            **{f"MEDTRAIL_{name}": str(value) for name, value in settings.items()},
        }
        self.channel = connect(self.address, folder=self.folder, audience=self.folder.gln, server="pharmacy")
        self.stub = receiving_pb2_grpc.ReceivingServiceStub(self.channel)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.pharmacy", env=self.environment, cwd=Path(__file__).parents[3]
        )
        await self.world.eventually(self.answers)

    async def answers(self) -> bool:
        try:
            await self.stub.ListDeliveries(pb.ListDeliveriesRequest())
        except MedtrailError:
            return False
        return True

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)

    async def restart(self) -> None:
        assert self.process is not None
        await self.process.wait()
        await self.start()

    async def close(self) -> None:
        await self.channel.close()
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


class Scanner:
    """A station that keeps what it has scanned until it has the answer."""

    def __init__(self, service: Service, delivery_id: str, name: str, scans: list[str]) -> None:
        self.service = service
        self.requests = [
            pb.ScanDeliveryRequest(delivery_id=delivery_id, station=name, scan_number=number, scan=scan)
            for number, scan in enumerate(scans, 1)
        ]
        self.answers: dict[int, pb.ScanDeliveryResponse] = {}

    async def go_on(self, *, up_to: int = EACH, kill_at: int = 0) -> None:
        """Send what has no answer, in all so many scans, until the service is gone; kill it at so many answers."""

        async def ask() -> AsyncIterator[pb.ScanDeliveryRequest]:
            for request in self.requests[:up_to]:
                if request.scan_number not in self.answers:
                    yield request

        try:
            async for answer in self.service.stub.ScanDelivery(ask()):
                self.answers[answer.scan_number] = answer
                if len(self.answers) == kill_at:
                    self.service.kill()
        except MedtrailError:
            return


def test_a_service_killed_between_scans_loses_none_and_counts_none_twice(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        chooser = random.Random(20261121)
        maker = await world.start("maker")
        service = Service(world)
        try:
            await service.start()
            boxes = await commissioned(maker, CASES, each=EACH)
            pharmacy = str(service.folder.gln)
            await maker.custody.Ship(_ship(boxes, pharmacy))
            packs = [pack(f"{number}-{item}") for number in range(1, CASES + 1) for item in range(EACH)]
            opened = await service.stub.OpenDelivery(pb.OpenDeliveryRequest(request_id=request_id()))
            delivery_id = opened.delivery.delivery_id
            scanners = [
                Scanner(service, delivery_id, name, packs[number :: len(STATIONS)])
                for number, name in enumerate(STATIONS)
            ]
            for number in range(KILLS):
                # The kill falls somewhere among the scans of both stations, each time later.
                kill_at = (number + 1) * EACH // (KILLS + 2) + chooser.randint(0, 2)
                first, second = scanners if number % 2 else reversed(scanners)
                # However fast the service is, both have scans left for the next round.
                up_to = kill_at + UNDER_WAY
                await asyncio.gather(first.go_on(up_to=up_to, kill_at=kill_at), second.go_on(up_to=up_to))
                assert kill_at <= len(first.answers) < EACH
                await service.restart()
            await asyncio.gather(*(scanner.go_on() for scanner in scanners))
            await check(service, delivery_id, scanners)
        finally:
            await service.close()

    play(scenario)


def _ship(boxes: list[str], to: str) -> custody_pb2.ShipRequest:
    return custody_pb2.ShipRequest(request_id=request_id(), epcs=boxes, destination_party=to)


async def check(service: Service, delivery_id: str, scanners: list[Scanner]) -> None:
    scans = (
        await service.stub.ListDeliveryScans(pb.ListDeliveryScansRequest(delivery_id=delivery_id, page_size=1000))
    ).scans
    recorded = {(scan.station, scan.scan_number): scan for scan in scans}
    assert len(recorded) == len(scans) == CASES * EACH
    for scanner, name in zip(scanners, STATIONS, strict=True):
        assert len(scanner.answers) == EACH
        for number, answer in scanner.answers.items():
            assert recorded[name, number].delivery_scan_number == answer.delivery_scan_number
    delivery = (await service.stub.GetDelivery(pb.GetDeliveryRequest(delivery_id=delivery_id))).delivery
    counts = delivery.counts
    assert counts.scans == CASES * EACH
    # Advised in time or not: each pack counts once.
    assert counts.found + counts.excepted == CASES * EACH
    closed = await service.stub.CloseDelivery(pb.CloseDeliveryRequest(request_id=request_id(), delivery_id=delivery_id))
    assert closed.delivery.state == pb.DELIVERY_STATE_CLOSED
