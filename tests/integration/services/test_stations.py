"""Stations of an organisation: on the copy of its books, with the service there, away, and back."""

import asyncio
import shutil
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.api.event.v1 import payload_pb2, verdict_pb2
from medtrail.api.holds.v1 import holds_pb2, holds_pb2_grpc
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.cli.main import app
from medtrail.cli.network import OrganisationAddress, RunningNetwork, write_network
from medtrail.cli.render import format_time
from medtrail.codec import encode_batch, from_timestamp, to_timestamp
from medtrail.envelope import SigningKey
from medtrail.errors import ConflictError, MalformedError, MedtrailError
from medtrail.event import KeyAddition, KeyRevocation
from medtrail.gs1 import parse_epc
from medtrail.runtime import outbox
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.client import connect, connect_desk
from medtrail.runtime.folder import StationFolder, create_station
from medtrail.runtime.settings import StationSettings
from medtrail.subjects import events_subject
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.store import cases_of_unit
from services.custody.units import as_unit
from services.station.bootstrap import Station, running

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from services.custody.exceptions.case import Case
    from tests.integration.services.conftest import Client, Play, World

GTIN = "00300010123455"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def pack(serial: object) -> str:
    return f"https://id.gs1.org/01/{GTIN}/21/{serial}"


def scan_of(serial: object, *, lot: str = "A123") -> str:
    return f"]d201{GTIN}21{serial}\x1d1728033110{lot}"


class Till:
    """A running station, and calls to it as the machine beside it makes them."""

    def __init__(self, station: Station, address: str, desk: "station_pb2_grpc.StationDeskServiceAsyncStub") -> None:
        self.station = station
        self.address = address
        self.desk = desk

    async def scan(self, text: str) -> station_pb2.ScanResponse:
        async def ask() -> AsyncIterator[station_pb2.ScanRequest]:
            yield station_pb2.ScanRequest(scan_number=7, scan=text)

        async for answer in self.desk.Scan(ask()):
            return answer
        raise AssertionError

    async def receive(self, *epcs: str) -> station_pb2.ReceiveResponse:
        return await self.desk.Receive(station_pb2.ReceiveRequest(request_id=str(uuid.uuid4()), epcs=epcs))

    async def dispense(self, *epcs: str, partial: bool = False) -> station_pb2.DispenseResponse:
        request = station_pb2.DispenseRequest(request_id=str(uuid.uuid4()), epcs=epcs, partial=partial)
        return await self.desk.Dispense(request)

    async def hold(self, *epcs: str) -> station_pb2.HoldResponse:
        return await self.desk.Hold(station_pb2.HoldRequest(request_id=str(uuid.uuid4()), epcs=epcs, reason="leaking"))

    async def observe(self, *epcs: str) -> station_pb2.ObserveResponse:
        return await self.desk.Observe(station_pb2.ObserveRequest(request_id=str(uuid.uuid4()), epcs=epcs))

    async def status(self) -> station_pb2.GetStatusResponse:
        return await self.desk.GetStatus(station_pb2.GetStatusRequest())

    async def sync(self) -> station_pb2.SyncResponse:
        return await self.desk.Sync(station_pb2.SyncRequest(timeout_seconds=30))


async def add_station(world: "World", owner: str, name: str) -> StationFolder:
    """Make a station's folder and have its key enrolled."""
    authority = world.network.authority
    folder = create_station(
        world.folder / "stations" / f"{owner}-{name}",
        name,
        organisation=world.network[owner],
        authority=authority,
    )
    await publish(world, folder.key_addition_bytes())
    return folder


async def publish(world: "World", statement: bytes) -> None:
    """Say something in the authority's name."""
    authority = world.network.authority
    bus = await connect_bus(
        world.nats_url, seed=authority.nats_seed(), gln=authority.gln, name="authority", timeout_s=60
    )
    try:
        await bus.publish(events_subject(authority.gln), encode_batch([statement]))
    finally:
        await bus.close()


@asynccontextmanager
async def till(world: "World", folder: StationFolder, address: str) -> AsyncIterator[Till]:
    settings = StationSettings(
        dir=folder.path,
        data_dir=Path(world.folder / "data" / folder.path.name),
        service_address=address,
        log_vkey=world.vkey,
        authority_key_id=world.authority_key_id,
    )
    async with running(settings) as (station, server):
        channel = connect_desk(server.address, folder=folder)
        async with channel:
            yield Till(station, server.address, station_pb2_grpc.StationDeskServiceStub(channel))


def address_of(client: "Client") -> str:
    address: str = client.address  # type: ignore[attr-defined]
    return address


async def stocked(world: "World", *serials: str) -> "Client":
    """A pharmacy to which a maker has shipped packs that are in the log."""
    maker, pharmacy = [await world.start(name) for name in ("maker", "pharmacy")]
    await maker.register()
    await maker.commission(*serials)
    await maker.ship(pharmacy, *(pack(serial) for serial in serials))

    async def confirmed() -> bool:
        found = await pharmacy.inbound()
        return bool(found) and not found[0].provisional

    await world.eventually(confirmed)
    return pharmacy


async def ready(world: "World", station: Till, *, units: int) -> None:
    async def follows() -> bool:
        status = await station.status()
        return status.knowledge.online and status.enrolled and status.unit_count >= units

    await world.eventually(follows)
    assert (await station.sync()).complete


def test_works_at_the_counter_while_the_service_is_there(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await stocked(world, "1", "2", "3")
        folder = await add_station(world, "pharmacy", "till-1")
        async with till(world, folder, address_of(pharmacy)) as station:
            await ready(world, station, units=3)
            received = await station.receive(pack(1), pack(2))
            assert [event.outcome for event in received.events] == [station_pb2.EVENT_OUTCOME_APPLIED]
            assert (received.unit_count, list(received.missing_epcs)) == (2, [pack(3)])
            answer = await station.scan(scan_of(1))
            assert (answer.scan_number, answer.knowledge.online, answer.product_name) == (7, True, "Epcistra")
            dispensed = await station.dispense(pack(1))
            assert [event.source_seq for event in dispensed.events] == [2]
            assert (await pharmacy.holding(pack(1))).event_id == dispensed.events[0].event_id
            answer = await station.scan(scan_of(1))
            assert answer.verdict.code == verdict_pb2.VERDICT_CODE_ALREADY_DISPENSED
            assert (await station.sync()).complete

    play(story)


def test_goes_on_alone_and_hands_in_what_it_signed(play: "Play") -> None:
    async def story(world: "World") -> None:
        port = free_port()
        pharmacy = await stocked(world, "1", "2", "3", "4")
        await world.stop("pharmacy")
        pharmacy = await world.start("pharmacy", listen=f"127.0.0.1:{port}")
        folder = await add_station(world, "pharmacy", "till-1")
        async with till(world, folder, f"127.0.0.1:{port}") as station:
            await ready(world, station, units=4)
            await world.stop("pharmacy")
            await judges_alone(world, station)
            await works_alone(station)
            await signs_nothing_by_a_clock_that_is_wrong(station)
        async with till(world, folder, f"127.0.0.1:{port}") as station:
            await knows_what_it_knew(station)
            pharmacy = await world.start("pharmacy", listen=f"127.0.0.1:{port}")
            await hands_in_all(station, pharmacy)

    play(story)


async def judges_alone(world: "World", station: Till) -> None:
    async def alone() -> bool:
        return not (await station.status()).knowledge.online

    await world.eventually(alone)
    answer = await station.scan(scan_of(1))
    verdict = answer.verdict
    assert (verdict.code, verdict.reason, verdict.provisional, verdict.action) == (
        verdict_pb2.VERDICT_CODE_UNCONFIRMED,
        "SERVICE_UNREACHABLE",
        True,
        verdict_pb2.VERDICT_ACTION_HOLD,
    )
    assert not answer.knowledge.online
    assert answer.knowledge.HasField("stale_since")
    assert answer.product_name == "Epcistra"


async def works_alone(station: Till) -> None:
    received = await station.receive(pack(1), pack(2), pack(3))
    assert [event.outcome for event in received.events] == [station_pb2.EVENT_OUTCOME_QUEUED]
    await station.dispense(pack(1))
    await station.hold(pack(2))
    await station.observe(pack(3))
    answer = await station.scan(scan_of(1))
    assert answer.verdict.code == verdict_pb2.VERDICT_CODE_ALREADY_DISPENSED
    assert (await station.status()).queued.count == 4


async def signs_nothing_by_a_clock_that_is_wrong(station: Till) -> None:
    # As if the service's clock had been six minutes behind this one when it was heard last.
    state = station.station.sync.state
    assert state.complete_time is not None
    heard = state.complete_time - timedelta(minutes=6)
    station.station.sync.state = replace(state, complete_time=heard, ahead_s=360.0)
    with pytest.raises(ConflictError) as caught:
        await station.observe(pack(3))
    status = await station.status()
    assert (caught.value.code, status.error_code, status.queued.count) == ("CLOCK_WRONG", "CLOCK_WRONG", 4)
    # It still judges, for what the service's clock says by now.
    judged = (await station.scan(scan_of(3))).verdict
    judge_time = from_timestamp(judged.judge_time, field="judge_time")
    assert heard <= judge_time < datetime.now(UTC) - timedelta(minutes=5)


async def knows_what_it_knew(station: Till) -> None:
    """Killed and started again, a station has what it signed, and what it was told."""
    assert (await station.status()).queued.count == 4
    with pytest.raises(ConflictError) as caught:
        await station.dispense(pack(1))
    assert caught.value.code == "UNIT_FINAL"


async def hands_in_all(station: Till, pharmacy: "Client") -> None:
    assert (await station.sync()).complete
    states = [(await pharmacy.holding(pack(number))).state for number in (1, 2, 3, 4)]
    assert states == [
        custody_pb2.HOLDING_STATE_DISPENSED,
        custody_pb2.HOLDING_STATE_ON_HAND,
        custody_pb2.HOLDING_STATE_ON_HAND,
        custody_pb2.HOLDING_STATE_INBOUND,
    ]
    assert (await pharmacy.holding(pack(2))).hold_reason == "leaking"
    status = await station.status()
    assert (status.queued.count, status.next_source_seq, list(status.conflicts)) == (0, 5, [])


def test_two_tills_that_handed_out_one_pack_alone_are_told(play: "Play") -> None:
    async def story(world: "World") -> None:
        port = free_port()
        pharmacy = await stocked(world, "1", "2")
        await pharmacy.receive(pack(1), pack(2))
        await world.stop("pharmacy")
        pharmacy = await world.start("pharmacy", listen=f"127.0.0.1:{port}")
        folders = [await add_station(world, "pharmacy", f"till-{number}") for number in (1, 2)]
        async with (
            till(world, folders[0], f"127.0.0.1:{port}") as first,
            till(world, folders[1], f"127.0.0.1:{port}") as second,
        ):
            for station in (first, second):
                await ready(world, station, units=2)
            await world.stop("pharmacy")
            for station in (first, second):
                await station.dispense(pack(1))
            await second.dispense(pack(2))
            pharmacy = await world.start("pharmacy", listen=f"127.0.0.1:{port}")
            for station in (first, second):
                assert (await station.sync()).complete
            found = [conflict for station in (first, second) for conflict in (await station.status()).conflicts]
            assert [[(unit.epc, unit.code) for unit in event.conflicts] for event in found] == [
                [(pack(1), "UNIT_FINAL")]
            ]
            cases = await pharmacy.premises.office.database.read(lambda c: exception_cases(c, pack(1)))
            assert [(case.code, case.case_id) for case in cases] == [
                (ExceptionCode.OFFLINE_CONFLICT, found[0].conflicts[0].case_id)
            ]
            for number in (1, 2):
                assert (await pharmacy.holding(pack(number))).state == custody_pb2.HOLDING_STATE_DISPENSED
            await world.eventually(lambda: all_logged(pharmacy))

    play(story)


async def all_logged(client: "Client") -> bool:
    return await client.premises.office.database.read(outbox.pending_count) == 0


def exception_cases(connection: "Connection", epc: str) -> "list[Case]":
    return cases_of_unit(connection, as_unit(parse_epc(epc), field="epc"))


def code_of(caught: "pytest.ExceptionInfo[MedtrailError]") -> tuple[str, str | None]:
    return caught.value.code, caught.value.field


def test_the_door_of_a_station(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await stocked(world, "1", "2", "3")
        folder = await add_station(world, "pharmacy", "till-1")
        async with till(world, folder, address_of(pharmacy)) as station:
            await ready(world, station, units=3)
            assert (await station.scan("rubbish")).verdict.code == verdict_pb2.VERDICT_CODE_UNREADABLE
            await station.receive(pack(1), pack(2))
            request = station_pb2.DispenseRequest(
                request_id=str(uuid.uuid4()), epcs=[pack(1)], quantity="2", quantity_uom="EA", pack_size="10"
            )
            for _ in range(2):
                # Asked again, as after a crash: one event, and the same answer.
                (event,) = (await station.desk.Dispense(request)).events
                assert event.source_seq == 2
            assert (await pharmacy.holding(pack(1))).state == custody_pb2.HOLDING_STATE_PARTIALLY_DISPENSED
            with pytest.raises(MedtrailError) as caught:
                await station.desk.Sync(station_pb2.SyncRequest(timeout_seconds=99))
            assert code_of(caught) == ("TIMEOUT_RANGE", "timeout_seconds")
            with pytest.raises(MedtrailError) as caught:
                await station.desk.GetStatus(station_pb2.GetStatusRequest(conflict_count=-1))
            assert code_of(caught) == ("COUNT_RANGE", "conflict_count")
            other = replaced(folder, world.folder / "other", desk_token="not the token")
            async with connect_desk(station.address, folder=other) as channel:
                stranger = station_pb2_grpc.StationDeskServiceStub(channel)
                with pytest.raises(MedtrailError) as caught:
                    await stranger.GetStatus(station_pb2.GetStatusRequest())
                assert caught.value.code == "TOKEN_WRONG"

    play(story)


def replaced(folder: StationFolder, path: Path, *, desk_token: str) -> StationFolder:
    """A copy of a station's folder with another token."""
    shutil.copytree(folder.path, path)
    (path / "desk.token").write_text(desk_token, encoding="ascii")
    return StationFolder(path)


UNREADABLE: list[tuple[dict[str, str], str | None, str]] = [
    ({"epc": "https://id.gs1.org/00/003000100000000015"}, "UNIT_NOT_PACK", "epc"),
    ({"epc": "nonsense"}, None, "epc"),
    ({"lot": ""}, "TEXT_LENGTH", "lot"),
    ({"expiry": "soon"}, "DATE_WRONG", "expiry"),
]


def test_what_a_station_asks_must_be_readable(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await world.start("pharmacy")
        service = station_pb2_grpc.StationServiceStub(pharmacy.channel)
        for given, code, field in UNREADABLE:
            fields: dict[str, Any] = {"epc": pack(1), "lot": "A123", "expiry": "2028-03-31", **given}
            with pytest.raises(MalformedError) as caught:
                await service.VerifyPack(station_pb2.VerifyPackRequest(**fields))
            assert caught.value.field == field
            assert code in {None, caught.value.code}

    play(story)


async def command(station: Till, folder: StationFolder, *arguments: str, typed: str = "") -> tuple[int, str]:
    """Run ``medtrail station`` beside a station; return its exit code and what it wrote."""
    door = ("--folder", str(folder.path), "--address", station.address)
    run = partial(CliRunner().invoke, app, ["station", *arguments, *door], input=typed)
    # The command has an event loop of its own.
    result = await asyncio.to_thread(run)
    return result.exit_code, result.output


def test_commands_beside_a_station(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await stocked(world, "1", "2", "3")
        folder = await add_station(world, "pharmacy", "till-1")
        async with till(world, folder, address_of(pharmacy)) as station:
            await ready(world, station, units=3)
            code, said = await command(station, folder, "receive", pack(1), pack(2))
            assert (code, "event 1 applied" in said) == (0, True)
            code, said = await command(station, folder, "scan", typed=f"{scan_of(1)}\r\n{scan_of(9)}\r\n")
            assert (code, "Epcistra" in said, said.count("[online]")) == (1, True, 2)
            # One line that the books forbid does not keep the next one from being recorded.
            code, said = await command(station, folder, "dispense", typed=f"{pack(9)}\n{pack(1)}\n")
            assert (code, "REFUSED UNIT_UNKNOWN" in said, "event 2 applied" in said) == (1, True, True)
            code, said = await command(station, folder, "hold", "--reason", "leaking", pack(2))
            assert (code, "event 3 applied" in said) == (0, True)
            code, said = await command(station, folder, "observe", pack(2))
            assert (code, "event 4 applied" in said) == (0, True)
            code, said = await command(station, folder, "sync", "--timeout", "30")
            assert (code, "all is handed in" in said) == (0, True)
            code, said = await command(station, folder, "status")
            assert (code, "3 units in the copy; 0 events wait" in said, "clock as the service's" in said) == (
                0,
                True,
                True,
            )
            await world.stop("pharmacy")
            # What the copy forbids is refused alone, too; what it allows waits.
            code, said = await command(station, folder, "dispense", pack(2))
            assert code != 0
            code, said = await command(station, folder, "dispense", "--partial", typed=f"{pack(1)}\n")
            assert (code, "REFUSED UNIT_FINAL" in said) == (1, True)
            code, said = await command(station, folder, "observe", pack(2))
            assert (code, "event 5 queued" in said) == (0, True)
            code, said = await command(station, folder, "sync", "--timeout", "0.1")
            assert (code, "events wait" in said) == (3, True)

    play(story)


def test_key_of_a_station_opens_nothing_but_its_own_service(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await stocked(world, "1")
        await pharmacy.receive(pack(1))
        folder = await add_station(world, "pharmacy", "till-1")
        async with till(world, folder, address_of(pharmacy)) as station:
            await ready(world, station, units=1)
        service = world.network["pharmacy"]
        thief = connect(address_of(pharmacy), folder=folder, audience=service.gln, server="pharmacy", person="anna")
        ask: dict[str, Any] = {"request_id": str(uuid.uuid4()), "epcs": [pack(1)]}
        async with thief:
            custody, holds = custody_pb2_grpc.CustodyServiceStub(thief), holds_pb2_grpc.HoldServiceStub(thief)
            stations = station_pb2_grpc.StationServiceStub(thief)
            for call in (
                custody.Decommission(custody_pb2.DecommissionRequest(**ask)),
                custody.Release(custody_pb2.ReleaseRequest(**ask)),
                custody.ListHoldings(custody_pb2.ListHoldingsRequest()),
                holds.RequestRelease(holds_pb2.RequestReleaseRequest(**ask)),
            ):
                assert await code_from(call) == "STATION_FORBIDS"
            others = stations.FollowBooks(station_pb2.FollowBooksRequest(station="till-2"))
            assert await code_from(anext(aiter(others))) == "STATION_KEY"
            request = station_pb2.VerifyPackRequest(epc=pack(1), lot="A123", expiry="2028-03-31")
            assert await code_from(stations.VerifyPack(request)) == ""
        assert (await pharmacy.holding(pack(1))).state == custody_pb2.HOLDING_STATE_ON_HAND

    play(story)


async def code_from(call: Awaitable[object]) -> str:
    """The code with which a call is refused; empty when it is not."""
    try:
        await call
    except MedtrailError as error:
        return error.code
    return ""


def test_revoked_station_reads_the_books_no_more(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await stocked(world, "1", "2")
        await pharmacy.receive(pack(1), pack(2))
        folder = await add_station(world, "pharmacy", "till-1")
        async with till(world, folder, address_of(pharmacy)) as station:
            await ready(world, station, units=2)
            end = KeyRevocation(folder.signing_key().key_id, datetime.now(UTC))
            await publish(world, world.network.authority.sign(end))

            async def stopped() -> bool:
                status = await station.status()
                return not status.knowledge.online and status.error_code == "KEY_REVOKED"

            await world.eventually(stopped)
            # What the books learn from here on is not for whoever has the till.
            await pharmacy.pharmacy.Dispense(pharmacy_pb2.DispenseRequest(request_id=str(uuid.uuid4()), epcs=[pack(1)]))
            answer = await station.scan(scan_of(1))
            assert answer.verdict.code != verdict_pb2.VERDICT_CODE_ALREADY_DISPENSED
            assert await code_from(station.dispense(pack(2))) == "KEY_REVOKED"
            assert (await station.status()).queued.count == 0
            assert await code_from(station.desk.Sync(station_pb2.SyncRequest(timeout_seconds=1))) == "KEY_REVOKED"
            assert (await pharmacy.holding(pack(2))).state == custody_pb2.HOLDING_STATE_ON_HAND
        await world.stop("pharmacy")
        async with till(world, folder, address_of(pharmacy)) as station:
            # Nor does it when it is started again where it hears of nobody.
            assert await code_from(station.dispense(pack(2))) == "KEY_REVOKED"
            assert (await station.status()).error_code == "KEY_REVOKED"

    play(story)


def running_network(world: "World", pharmacy: "Client") -> Path:
    """The folder of a running network as the command line knows one."""
    root = world.folder / "cli"
    root.mkdir()
    (root / "authority").symlink_to(world.network.authority.path)
    owner = world.network["pharmacy"]
    address = OrganisationAddress(
        "pharmacy", "Pharmacy", "pharmacy", str(owner.gln), address_of(pharmacy), str(owner.path)
    )
    network = RunningNetwork(
        origin="log.example/test",
        ledger_address=f"127.0.0.1:{world.ledger_port}",
        ledger_gln=str(world.network["ledger"].gln),
        nats_url=world.nats_url,
        log_url="http://127.0.0.1:9",
        verifier_keys=(world.vkey,),
        policy="",
        authority_key_id=world.authority_key_id,
        ca_certificate="",
        organisations=(address,),
        pids={},
    )
    write_network(root, network)
    return root


async def as_authority(root: Path, *arguments: str) -> tuple[int, str]:
    """Run ``medtrail station`` where the authority's keys are; return its exit code and what it wrote."""
    result = await asyncio.to_thread(
        partial(CliRunner().invoke, app, ["--dir", str(root), "--as", "pharmacy", "station", *arguments])
    )
    return result.exit_code, result.output if result.exception is None else str(result.exception)


def test_commands_that_end_a_stations_key(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await stocked(world, "1")
        root = running_network(world, pharmacy)
        folders = [await add_station(world, "pharmacy", name) for name in ("bay", "till-1")]
        keys = [folder.signing_key().key_id for folder in folders]

        def ends() -> list[tuple[bool, str | None]]:
            records = [pharmacy.premises.office.desk.registry().key(key) for key in keys]
            return [
                (item.end_index is not None, None if item.suspect_time is None else format_time(item.suspect_time))
                for item in records
                if item is not None
            ]

        await world.eventually(lambda: ends() == [(False, None), (False, None)])
        code, said = await as_authority(root, "retire", "bay")
        assert (code, f"bay: {keys[0]} is retired by entry" in said) == (0, True)
        await world.eventually(lambda: ends() == [(True, None), (False, None)])
        assert (await as_authority(root, "retire", "bay"))[0] != 0
        code, said = await as_authority(root, "revoke", "till-1", "--since", "2026-03-01T08:00Z")
        assert (code, "is revoked by entry" in said, "in doubt from 2026-03-01T08:00:00Z" in said) == (0, True, True)
        # Doubt may come after the end, once.
        assert (await as_authority(root, "revoke", "bay", "--since", "2026-03-02"))[0] == 0
        await world.eventually(lambda: ends() == [(True, "2026-03-02T00:00:00Z"), (True, "2026-03-01T08:00:00Z")])
        for name in ("bay", "till-2"):
            code, said = await as_authority(root, "revoke", name, "--since", "2026-03-02")
            assert (code != 0, "could be ended" in said) == (True, True)

    play(story)


def test_key_that_names_no_station_is_found_and_ended_by_its_id(play: "Play") -> None:
    async def story(world: "World") -> None:
        pharmacy = await stocked(world, "1")
        root = running_network(world, pharmacy)
        folder = await add_station(world, "pharmacy", "bay")
        bay, own = folder.signing_key().key_id, world.network["pharmacy"].signing_key().key_id
        # As versions did that did not name stations in additions.
        key = SigningKey.generate().key_id
        await publish(world, world.network.authority.sign(KeyAddition(folder.gln, key)))
        registry = pharmacy.premises.office.desk.registry

        async def warns() -> bool:
            status = partial(CliRunner().invoke, app, ["--dir", str(root), "--as", "pharmacy", "status"])
            said = (await asyncio.to_thread(status)).output
            assert "log verified here" in said
            assert said.count("KEY_WITHOUT_STATION") == said.count(f"KEY_WITHOUT_STATION  {key}") <= 1
            return "KEY_WITHOUT_STATION" in said

        await world.eventually(lambda: registry().key(key) is not None)
        assert await warns()
        code, said = await as_authority(root, "keys")
        assert (code, f"bay                  {bay}  speaks" in said) == (0, True)
        assert f"names no station     {key}  speaks" in said
        assert own not in said
        # The organisation's own key is no station's to be ended here.
        assert "could be ended" in (await as_authority(root, "retire", own))[1]
        code, said = await as_authority(root, "revoke", key, "--since", "2026-03-01T08:00Z")
        assert (code, f"{key} is revoked by entry" in said) == (0, True)
        await world.eventually(lambda: (ended := registry().key(key)) is not None and ended.end_index is not None)
        assert not await warns()
        assert f"names no station     {key}  revoked" in (await as_authority(root, "keys"))[1]

    play(story)


def test_recall_of_the_own_organisation_reaches_its_stations_before_the_log_has_it(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1", "2")
        folder = await add_station(world, "maker", "bay")
        async with till(world, folder, address_of(maker)) as station:
            await ready(world, station, units=2)
            await world.stop_ledger()
            recall = payload_pb2.Recall(
                number="R1",
                recall_class="II",
                depth="wholesale",
                reason="found broken",
                start_time=to_timestamp(maker.premises.office.desk.clock()),
                scopes=[payload_pb2.RecallScope(gtin=GTIN, lot="A123")],
            )
            await maker.recall.IssueRecall(recall_pb2.IssueRecallRequest(request_id=str(uuid.uuid4()), recall=recall))
            assert (await station.sync()).complete
            await world.stop("maker")

            async def alone_and_warned() -> bool:
                answer = await station.scan(scan_of(1))
                return not answer.knowledge.online and answer.verdict.code == verdict_pb2.VERDICT_CODE_RECALLED

            await world.eventually(alone_and_warned)

    play(story)
