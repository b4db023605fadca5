"""Exchange, ledger and service are cut for long, stations are killed at any moment, and everything comes back."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ledger.fsck import check_folder
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.cli import embedded
from medtrail.cli.enrolling import enrol
from medtrail.cli.network import RunningNetwork, StationAddress
from medtrail.cli.session import Session, open_session
from medtrail.cli.setup import NetworkFolders, ensure_description, ensure_folders
from medtrail.cli.stations import port_names, station_program, with_stations
from medtrail.cli.supervisor import Program
from medtrail.cli.trace import trace_whole_lot
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.errors import UnavailableError
from medtrail.runtime.client import connect_desk
from medtrail.runtime.folder import StationFolder

T = TypeVar("T")

MAKER, PHARMACY = "maker", "pharmacy"
GTIN = "00300010123455"
LOT, EXPIRY = "ALONE", "2035-06-30"
CASE = "https://id.gs1.org/00/003000100000000015"
REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 180.0
KILLS_A_STATION = 3
NETWORK = """\
[network]
origin = "log.medtrail.example/alone"

[authority]
gln = "9521000000018"

[ledger]
gln = "9521000000025"

[[organisation]]
name = "maker"
role = "manufacturer"
gln = "0300011111116"
company_prefixes = ["030001"]

[[organisation]]
name = "pharmacy"
role = "pharmacy"
gln = "9521002000016"
stations = ["bay", "till"]

[[product]]
owner = "maker"
gtin = "00300010123455"
level = "pack"
name = "Alonomycin"
"""

# What the story below leaves in the pharmacy's books, by serial: written by hand.
TRUTH = {
    1: ("DISPENSED", ""),  # at the till, alone
    2: ("DISPENSED", ""),  # at the till, and at the bay: a conflict
    3: ("ON_HAND", "leaking"),  # received before; put aside at the bay, alone
    4: ("ON_HAND", ""),  # received before, seen at the bay, alone
    5: ("ON_HAND", ""),  # received at the bay, alone
    6: ("DISPENSED", ""),  # received and dispensed at the till, alone
    7: ("EXCEPTION", "OFFLINE_CONFLICT"),  # received at both, alone: a conflict
    8: ("INBOUND", ""),  # nobody has seen it
    9: ("DISPENSED", ""),  # came in the case, which the bay received; dispensed there
    10: ("ON_HAND", ""),  # came in the case
    11: ("DISPENSED", ""),  # the same, dispensed at the bay
}
CONFLICTS = {2: "till or bay", 7: "till or bay"}


def pack(serial: int) -> str:
    return f"https://id.gs1.org/01/{GTIN}/21/{serial}"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


@dataclass
class Machines:
    """Every process of a network, started and killed by name."""

    folder: Path
    programs: dict[str, Program]
    running: dict[str, "subprocess.Popen[bytes]"]

    def start(self, name: str) -> None:
        program = self.programs[name]
        environment = {key: value for key, value in os.environ.items() if key != "COVERAGE_PROCESS_CONFIG"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                program.command, cwd=REPOSITORY, env={**environment, **program.environment}, stdout=log, stderr=log
            )

    async def ready(self, name: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert self.running[name].poll() is None, (self.folder / f"{name}.log").read_text(encoding="utf-8")
                with contextlib.suppress(UnavailableError):
                    await self.programs[name].ready()
                    return
                await asyncio.sleep(0.02)

    async def up(self, *names: str) -> None:
        for name in names:
            self.start(name)
        for name in names:
            await self.ready(name)

    def kill(self, *names: str) -> None:
        for name in names:
            self.running[name].send_signal(signal.SIGKILL)
        for name in names:
            self.running.pop(name).wait()

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()


@dataclass
class Outside:
    """What the story works with."""

    machines: Machines
    network: RunningNetwork

    def session(self, name: str) -> contextlib.AbstractAsyncContextManager[Session]:
        return open_session(self.network, self.network.organisation(name))


class Desk:
    """One station as the person beside it knows it: who asks again until it answers."""

    def __init__(self, outside: Outside, item: StationAddress) -> None:
        self._machines = outside.machines
        self._address = item.address
        self._folder = StationFolder(Path(item.folder))
        self.name = f"{PHARMACY}-{item.name}-station"
        self.events: list[station_pb2.StationEvent] = []
        self.answered = asyncio.Event()

    def kill(self) -> None:
        self._machines.running[self.name].kill()

    async def ask(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Call the station; one that was killed is started again, and asked the same."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with connect_desk(self._address, folder=self._folder) as channel:
                        answer = await call(station_pb2_grpc.StationDeskServiceStub(channel))
                    self.answered.set()
                    return answer
                except UnavailableError:
                    if self._machines.running[self.name].poll() is not None:
                        self._machines.start(self.name)
                    await asyncio.sleep(0.02)

    async def receive(self, *epcs: str) -> None:
        request = station_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=epcs)
        self.events += (await self.ask(lambda desk: desk.Receive(request))).events

    async def dispense(self, *epcs: str) -> None:
        request = station_pb2.DispenseRequest(request_id=str(uuid.uuid4()), epcs=epcs)
        self.events += (await self.ask(lambda desk: desk.Dispense(request))).events

    async def hold(self, *epcs: str) -> None:
        request = station_pb2.HoldRequest(request_id=str(uuid.uuid4()), epcs=epcs, reason="leaking")
        self.events += (await self.ask(lambda desk: desk.Hold(request))).events

    async def observe(self, *epcs: str) -> None:
        request = station_pb2.ObserveRequest(request_id=str(uuid.uuid4()), epcs=epcs)
        self.events += (await self.ask(lambda desk: desk.Observe(request))).events

    async def status(self) -> station_pb2.GetStatusResponse:
        return await self.ask(lambda desk: desk.GetStatus(station_pb2.GetStatusRequest()))

    async def knows(self, units: int) -> bool:
        status = await self.status()
        # Units alone tell nothing of what was done with them: the copy must be whole.
        return status.enrolled and status.unit_count >= units and await self.is_complete()

    async def is_complete(self) -> bool:
        answer = await self.ask(lambda desk: desk.Sync(station_pb2.SyncRequest(timeout_seconds=5)))
        return bool(answer.complete)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machines, NetworkFolders, RunningNetwork]]:
    (tmp_path / "network.toml").write_text(NETWORK, encoding="utf-8")
    folders = ensure_folders(tmp_path, ensure_description(tmp_path))
    ports = embedded._ports(tmp_path / "ports.json", tuple(folders.organisations), port_names(folders))
    network = with_stations(embedded._network(folders, ports), folders, ports.stations)
    embedded._write_policy(folders, ports)
    programs = [
        embedded._nats_program(folders, ports),
        embedded._witness_program(folders, ports),
        embedded._ledger_program(folders, ports),
        *(embedded._service_program(folders, ports, name) for name in (MAKER, PHARMACY)),
        *(station_program(item, network, tmp_path) for item in network.stations),
    ]
    made = Machines(tmp_path, {program.name: program for program in programs}, {})
    yield made, folders, network
    made.end()


async def prepare(outside: Outside) -> None:
    """Eleven packs are shipped, three of them in a case, and all of it is in the log; four are received."""
    async with outside.session(MAKER) as maker, outside.session(PHARMACY) as pharmacy:
        serials = [str(serial) for serial in TRUTH]
        await maker.manufacturer.Commission(
            manufacturer_pb2.CommissionRequest(
                request_id=str(uuid.uuid4()), gtin=GTIN, lot=LOT, expiry=EXPIRY, serials=serials
            )
        )
        await maker.custody.Pack(
            custody_pb2.PackRequest(
                request_id=str(uuid.uuid4()), parent=CASE, children=[pack(serial) for serial in (9, 10, 11)]
            )
        )
        await maker.custody.Ship(
            custody_pb2.ShipRequest(
                request_id=str(uuid.uuid4()),
                epcs=[*(pack(serial) for serial in range(1, 9)), CASE],
                destination_party=pharmacy.organisation.gln,
            )
        )

        async def confirmed() -> bool:
            found = (await pharmacy.custody.ListInbound(custody_pb2.ListInboundRequest())).shipments
            return bool(found) and not found[0].provisional

        await until(confirmed)
        await pharmacy.custody.Receive(
            custody_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=[pack(serial) for serial in (1, 2, 3, 4)])
        )


async def work_alone(bay: Desk, till: Desk) -> None:
    """What is done at the two stations, each in its own order, both at one time."""

    async def at_the_bay() -> None:
        await bay.receive(pack(5))
        await bay.hold(pack(3))
        await bay.receive(CASE)
        await bay.observe(pack(4))
        await bay.dispense(pack(2))
        await bay.dispense(pack(9))
        await bay.receive(pack(7))
        await bay.dispense(pack(11))

    async def at_the_till() -> None:
        await till.dispense(pack(1))
        await till.receive(pack(6), pack(7))
        await till.dispense(pack(2))
        await till.dispense(pack(6))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(at_the_bay())
        tasks.create_task(at_the_till())


@contextlib.asynccontextmanager
async def killer(desks: Sequence[Desk], seed: int) -> AsyncIterator[list[str]]:
    """Kill stations with SIGKILL at random moments after each has answered again; whoever needs one starts it."""
    chance = random.Random(seed)
    killed: list[str] = []

    async def kill(desk: Desk) -> None:
        for _ in range(KILLS_A_STATION):
            desk.answered.clear()
            await desk.answered.wait()
            await asyncio.sleep(chance.uniform(0, 0.15))
            desk.kill()
            killed.append(desk.name)

    tasks = [asyncio.create_task(kill(desk)) for desk in desks]
    try:
        yield killed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def holdings(outside: Outside) -> dict[str, tuple[str, str]]:
    async with outside.session(PHARMACY) as pharmacy:
        answer = await pharmacy.custody.ListHoldings(custody_pb2.ListHoldingsRequest(gtin=GTIN, page_size=100))
    return {
        item.epc: (custody_pb2.HoldingState.Name(item.state).removeprefix("HOLDING_STATE_"), item.hold_reason)
        for item in answer.holdings
    }


def cases(folder: Path) -> list[tuple[str, str]]:
    """The open cases and their units, as the service's database has them."""
    with contextlib.closing(sqlite3.connect(folder / "services" / PHARMACY / "service.db")) as books:
        return sorted(
            books.execute(
                "SELECT c.code, u.path FROM exception_case c JOIN exception_unit u USING (case_id) "
                "WHERE c.status <> 'resolved'"
            )
        )


async def log_of_stations(outside: Outside) -> dict[str, list[int]]:
    """The numbers under which each station's events stand in the log, in its order."""
    found: dict[str, list[int]] = {"bay": [], "till": []}
    async with outside.session(PHARMACY) as pharmacy:
        note = (await pharmacy.ledger.GetCheckpoint(ledger_pb2.GetCheckpointRequest())).checkpoint
        for index in range(pharmacy.open_checkpoint(note).checkpoint.size):
            request = ledger_pb2.GetInclusionProofRequest(leaf_index=index)
            signed = decode_signed_event((await pharmacy.ledger.GetInclusionProof(request)).signed_event)
            header = decode_payload(signed.payload_type, signed.payload).header
            if header.source in found:
                found[header.source].append(header.source_seq)
    return found


async def check_log_holds_all(outside: Outside, bay: Desk, till: Desk) -> None:
    """Wait for the stations' events: in the log once each, in each station's order."""
    count = len(bay.events) + len(till.events)

    async def all_logged() -> bool:
        return sum(map(len, (await log_of_stations(outside)).values())) >= count

    await until(all_logged)
    logged = await log_of_stations(outside)
    assert logged == {
        "bay": [event.source_seq for event in bay.events],
        "till": [event.source_seq for event in till.events],
    }
    assert [logged["bay"], logged["till"]] == [list(range(1, len(desk.events) + 1)) for desk in (bay, till)]


async def check_conflicts_are_told(folder: Path, bay: Desk, till: Desk) -> None:
    """Look for what was done twice: among the service's cases, and told to the stations that did it."""
    assert cases(folder) == [("OFFLINE_CONFLICT", f"/01/{GTIN}/21/{serial}") for serial in CONFLICTS]
    told = [unit.epc for desk in (bay, till) for event in (await desk.status()).conflicts for unit in event.conflicts]
    assert sorted(told) == [pack(serial) for serial in CONFLICTS]


async def is_believed(outside: Outside) -> bool:
    """Tell whether the ledger believes what was dispensed to be gone; it never believes more than that."""
    dispensed = {pack(serial) for serial, (state, _) in TRUTH.items() if state == "DISPENSED"}
    async with outside.session(PHARMACY) as pharmacy:
        trace = await trace_whole_lot(pharmacy, GTIN, LOT, units=True)
    assert len(trace.units) == len(TRUTH)
    gone = {item.epc for item in trace.units if item.unit_class == ledger_pb2.UNIT_CLASS_DISPENSED}
    assert gone <= dispensed
    return gone == dispensed


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_when_all_is_cut_and_stations_die(
    machines: tuple[Machines, NetworkFolders, RunningNetwork], seed: int
) -> None:
    processes, folders, network = machines

    async def story() -> None:
        outside = Outside(processes, network)
        await processes.up("nats", "witness", "ledger")
        await enrol(folders, network, lambda _: None)
        await processes.up(MAKER, PHARMACY)
        await embedded._register_products(folders, network)
        bay, till = [Desk(outside, item) for item in network.stations]
        await processes.up(bay.name, till.name)
        await prepare(outside)
        for desk in (bay, till):
            # Eleven packs and the case.
            await until(partial(desk.knows, 12))
        processes.kill("nats", "ledger", PHARMACY)
        async with killer((bay, till), seed) as killed:
            await work_alone(bay, till)
            # The service comes back before the exchange and the ledger, and the stations die on.
            await processes.up(PHARMACY)
            for desk in (bay, till):
                await until(desk.is_complete)
        assert killed, "nobody was killed: the story was too short"
        await processes.up("nats", "ledger")
        await check_log_holds_all(outside, bay, till)
        assert await holdings(outside) == {pack(serial): state for serial, state in TRUTH.items()}
        await check_conflicts_are_told(processes.folder, bay, till)
        # The projection follows the log.
        await until(partial(is_believed, outside))

    asyncio.run(story())
    processes.end()
    assert check_folder(processes.folder / "ledger").findings == []
