"""A small network in one process: nats-server, ledger, and services that talk over gRPC with TLS."""

import asyncio
import hashlib
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest

from ledger.bootstrap import Ledger
from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.api.distributor.v1 import distributor_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2, manufacturer_pb2_grpc
from medtrail.api.pharmacy.v1 import pharmacy_pb2_grpc
from medtrail.api.recall.v1 import recall_pb2_grpc
from medtrail.codec import encode_batch, product_to_message
from medtrail.event import Genesis, PackLevel, Product
from medtrail.gs1 import Gtin
from medtrail.note import NoteSigner, format_vkey
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.client import connect
from medtrail.runtime.settings import LedgerSettings, ServiceSettings
from medtrail.subjects import events_subject
from services.custody.bootstrap import Bind, Premises, running
from services.distributor.bootstrap import bindings as distributor_bindings
from services.manufacturer.bootstrap import bindings as maker_bindings
from services.pharmacy.bootstrap import bindings as pharmacy_bindings

if TYPE_CHECKING:
    from tests.conftest import Eventually, NatsServer, Network

PATIENCE_S = 60.0
ORIGIN = "ledger.example/test"
GTIN = "00300010123455"
CASE_GTIN = "10300010123452"
BINDINGS: dict[str, Bind] = {
    "maker": maker_bindings,
    "distributor": distributor_bindings,
    "pharmacy": pharmacy_bindings,
}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def request_id() -> str:
    return str(uuid.uuid4())


class Client:
    """One organisation's own calls to its own process."""

    def __init__(self, channel: grpc.aio.Channel, premises: Premises) -> None:
        self.channel = channel
        self.premises = premises
        self.gln = str(premises.folder.gln)
        self.custody = custody_pb2_grpc.CustodyServiceStub(channel)
        self.manufacturer = manufacturer_pb2_grpc.ManufacturerServiceStub(channel)
        self.distributor = distributor_pb2_grpc.DistributorServiceStub(channel)
        self.pharmacy = pharmacy_pb2_grpc.PharmacyServiceStub(channel)
        self.recall = recall_pb2_grpc.RecallServiceStub(channel)

    async def scan(self, *scans: str) -> list[custody_pb2.ScanIncomingResponse]:
        async def ask() -> AsyncIterator[custody_pb2.ScanIncomingRequest]:
            for number, scan in enumerate(scans):
                yield custody_pb2.ScanIncomingRequest(scan_number=number, scan=scan)

        return [answer async for answer in self.custody.ScanIncoming(ask())]

    async def capture(self, *chunks: custody_pb2.CaptureEventsRequest) -> list[custody_pb2.CaptureEventsResponse]:
        async def ask() -> AsyncIterator[custody_pb2.CaptureEventsRequest]:
            for chunk in chunks:
                yield chunk

        return [answer async for answer in self.custody.CaptureEvents(ask())]

    async def holding(self, epc: str) -> custody_pb2.Holding:
        return (await self.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=epc))).holding

    async def inbound(self, *, received: bool = False) -> list[custody_pb2.InboundShipment]:
        request = custody_pb2.ListInboundRequest(include_received=received)
        return list((await self.custody.ListInbound(request)).shipments)

    async def ship(self, to: "Client", *epcs: str) -> custody_pb2.ShipResponse:
        return await self.custody.Ship(
            custody_pb2.ShipRequest(request_id=request_id(), epcs=epcs, destination_party=to.gln, purchase_order="P1")
        )

    async def receive(self, *epcs: str) -> custody_pb2.ReceiveResponse:
        return await self.custody.Receive(custody_pb2.ReceiveRequest(request_id=request_id(), epcs=epcs))

    async def register(self, gtin: str = GTIN, level: PackLevel = PackLevel.PACK) -> None:
        product = product_to_message(Product(Gtin(gtin), level, "Epcistra"))
        await self.manufacturer.RegisterProduct(
            manufacturer_pb2.RegisterProductRequest(request_id=request_id(), product=product)
        )

    async def commission(self, *serials: str, gtin: str = GTIN) -> manufacturer_pb2.CommissionResponse:
        return await self.manufacturer.Commission(
            manufacturer_pb2.CommissionRequest(
                request_id=request_id(), gtin=gtin, lot="A123", expiry="2028-03-31", serials=serials
            )
        )


class World:
    """What runs, by name; ``start`` and ``stop`` a service or the ledger."""

    def __init__(self, folder: Path, network: "Network", nats_url: str, eventually: "Eventually") -> None:
        self.folder = folder
        self.network = network
        self.nats_url = nats_url
        self.eventually = eventually
        self.ledger_port = free_port()
        self.clients: dict[str, Client] = {}
        self._stacks: dict[str, AsyncExitStack] = {}
        self._ledger_stop = asyncio.Event()
        self._ledger_task: asyncio.Task[None] | None = None
        self.ledger: Ledger | None = None
        self._prepare_ledger()

    def _prepare_ledger(self) -> None:
        self.ledger_folder = self.folder / "ledger"
        shutil.copytree(self.network["ledger"].path, self.ledger_folder / "org")
        authority = self.network.authority
        self.authority_key_id = authority.signing_key().key_id
        genesis = Genesis(ORIGIN, self.authority_key_id, hashlib.sha256(authority.map_salt()).digest())
        (self.ledger_folder / "org" / "genesis.bin").write_bytes(authority.sign(genesis))
        self.vkey = format_vkey(NoteSigner(ORIGIN, self.network["ledger"].log_seed()).verifier)

    async def start_ledger(self) -> None:
        settings = LedgerSettings(
            org_dir=self.ledger_folder / "org",
            data_dir=self.ledger_folder,
            listen=f"127.0.0.1:{self.ledger_port}",
            nats_url=self.nats_url,
            log_origin=ORIGIN,
            log_vkey=self.vkey,
            authority_key_id=self.authority_key_id,
            checkpoint_interval_s=0.05,
            projector_process=False,
        )
        self._ledger_stop = asyncio.Event()
        self.ledger = Ledger(settings)
        self._ledger_task = asyncio.create_task(self.ledger.run(self._ledger_stop.wait()))

    async def stop_ledger(self) -> None:
        if self._ledger_task is not None:
            self._ledger_stop.set()
            await self._ledger_task
            self._ledger_task = None

    async def enrol(self) -> None:
        assert self.ledger is not None
        await self.eventually(self.ledger.operator.ready.is_set)
        authority = self.network.authority
        bus = await connect_bus(
            self.nats_url, seed=authority.nats_seed(), gln=authority.gln, name="authority", timeout_s=60
        )
        try:
            batch = encode_batch([folder.enrolment_bytes() for folder in self.network.organisations.values()])
            await bus.publish(events_subject(authority.gln), batch)
        finally:
            await bus.close()

    async def start(self, name: str, **changes: Any) -> Client:
        folder = self.network[name]
        settings = ServiceSettings(
            **{
                "org_dir": folder.path,
                "data_dir": self.folder / name,
                "nats_url": self.nats_url,
                "ledger_address": f"127.0.0.1:{self.ledger_port}",
                "ledger_gln": str(self.network["ledger"].gln),
                "log_url": "http://127.0.0.1:9",
                "log_vkey": self.vkey,
                "authority_key_id": self.authority_key_id,
                **changes,
            }
        )
        stack = AsyncExitStack()
        premises, server = await stack.enter_async_context(running(settings, BINDINGS[name]))
        channel = connect(server.address, folder=folder, audience=folder.gln, server=name)
        stack.push_async_callback(channel.close)
        self._stacks[name] = stack
        client = Client(channel, premises)
        self.clients[name] = client
        client.address = server.address  # type: ignore[attr-defined]
        await self.eventually(lambda: premises.office.desk.organisation is not None)
        return client

    async def stop(self, name: str) -> None:
        stack = self._stacks.pop(name, None)
        if stack is not None:
            await stack.aclose()

    async def close(self) -> None:
        for name in tuple(self._stacks):
            await self.stop(name)
        await self.stop_ledger()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a neighbour that is there waits for its answer, however busy the machine is."""
    monkeypatch.setattr("services.custody.circuit.BOUND_S", PATIENCE_S)
    # Less than a client's own deadline: a station alone answers without the service.
    monkeypatch.setattr("services.station.servicer.ANSWER_WAIT_S", 5.0)
    for module in ("runner", "capture"):
        monkeypatch.setattr(f"services.portal.{module}.INDEX_PATIENCE_S", PATIENCE_S)


Scenario = Callable[[World], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(tmp_path: Path, network: "Network", nats_server: "NatsServer", eventually: "Eventually") -> Play:
    """Runs a scenario in a network whose ledger and organisations are up."""

    @asynccontextmanager
    async def world() -> AsyncIterator[World]:
        made = World(tmp_path, network, nats_server.url, eventually)
        try:
            await made.start_ledger()
            await made.enrol()
            yield made
        finally:
            await made.close()

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            async with world() as made:
                await scenario(made)

        asyncio.run(main())

    return run
