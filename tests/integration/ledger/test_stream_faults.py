import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.commands import main
from ledger.sequencer import SequencerStatus
from ledger.stream import EventStream, StreamHaltError
from medtrail.codec import encode_batch
from medtrail.errors import UnavailableError
from medtrail.runtime.bus import Bus, connect_bus
from medtrail.runtime.nats_config import NatsUser

if TYPE_CHECKING:
    from tests.conftest import Eventually, NatsServer, Network
    from tests.integration.ledger.conftest import CheckLog, Events, LogHome, RunLedger

SUBJECT = "medtrail.v1.events.0300011111116"


@pytest.fixture
def open_server(tmp_path: Path, network: "Network", nats_server: "NatsServer") -> Iterator["NatsServer"]:
    """A server whose ledger user may do anything, so that a test can damage the stream as a failing server does."""
    folder = tmp_path / "open"
    folder.mkdir()
    anything = NatsUser("ledger", network["ledger"].nats_user_key(), publish=(">",), subscribe=(">",))
    server = type(nats_server)(folder, [anything])
    server.start()
    yield server
    server.kill()


def with_stream(
    open_server: "NatsServer", network: "Network", scenario: Callable[[Bus, EventStream], Awaitable[None]]
) -> None:
    async def run() -> None:
        bus = await connect_bus(
            open_server.url, seed=network["ledger"].nats_seed(), gln=network["ledger"].gln, name="t", timeout_s=60
        )
        try:
            await create(bus)
            await scenario(bus, EventStream(bus, messages_a_read=32))
        finally:
            await bus.close()

    asyncio.run(run())


async def api(bus: Bus, verb: str, body: dict[str, object]) -> None:
    reply = await bus.request(f"$JS.API.STREAM.{verb}.EVENTS", json.dumps(body).encode())
    assert "error" not in json.loads(reply.data)


async def create(bus: Bus) -> None:
    await api(
        bus,
        "CREATE",
        {"name": "EVENTS", "subjects": ["medtrail.v1.events.*"], "allow_direct": True, "storage": "file"},
    )


async def read(stream: EventStream, *, next_seq: int, sha256: bytes = b"", created: str = "") -> list[int]:
    messages = await stream.read(next_seq=next_seq, last_sha256=sha256, created=created)
    return [message.stream_seq for message in messages]


def test_reads_in_order_and_nothing_when_there_is_nothing(open_server: "NatsServer", network: "Network") -> None:
    async def scenario(bus: Bus, stream: EventStream) -> None:
        assert await read(stream, next_seq=1) == []
        for number in range(40):
            await bus.publish(SUBJECT, b"%d" % number)
        first = await stream.read(next_seq=1, last_sha256=b"", created=stream.created)
        assert [message.data for message in first] == [b"%d" % number for number in range(32)]
        assert await read(stream, next_seq=33, sha256=first[-1].sha256, created=stream.created) == list(range(33, 41))
        assert await read(stream, next_seq=41) == []

    with_stream(open_server, network, scenario)


def test_hole_in_the_stream_halts(open_server: "NatsServer", network: "Network") -> None:
    async def scenario(bus: Bus, stream: EventStream) -> None:
        for number in range(4):
            await bus.publish(SUBJECT, b"%d" % number)
        await api(bus, "MSG.DELETE", {"seq": 3})
        # What comes before the hole is read; at the hole it ends.
        assert await read(stream, next_seq=1) == [1, 2]
        with pytest.raises(StreamHaltError) as caught:
            await read(stream, next_seq=3)
        assert caught.value.code == "STREAM_GAP"
        await api(bus, "PURGE", {"seq": 5})
        with pytest.raises(StreamHaltError) as caught:
            await read(EventStream(bus), next_seq=2)
        assert caught.value.code == "STREAM_GAP"

    with_stream(open_server, network, scenario)


def test_stream_that_ends_before_the_cursor_halts(open_server: "NatsServer", network: "Network") -> None:
    async def scenario(bus: Bus, stream: EventStream) -> None:
        await bus.publish(SUBJECT, b"1")
        with pytest.raises(StreamHaltError) as caught:
            await read(stream, next_seq=3)
        assert caught.value.code == "STREAM_SHRANK"

    with_stream(open_server, network, scenario)


def test_stream_made_anew_halts(open_server: "NatsServer", network: "Network") -> None:
    async def scenario(bus: Bus, stream: EventStream) -> None:
        await read(stream, next_seq=1)
        created = stream.created
        await api(bus, "DELETE", {})
        with pytest.raises(UnavailableError) as missing:
            await read(EventStream(bus), next_seq=1, created=created)
        assert missing.value.code == "STREAM_MISSING"
        await create(bus)
        with pytest.raises(StreamHaltError) as caught:
            await read(EventStream(bus), next_seq=1, created=created)
        assert caught.value.code == "STREAM_RECREATED"

    with_stream(open_server, network, scenario)


def test_number_reused_for_other_bytes_halts(open_server: "NatsServer", network: "Network") -> None:
    async def scenario(bus: Bus, stream: EventStream) -> None:
        for data in (b"1", b"2", b"3"):
            await bus.publish(SUBJECT, data)
        (first, _, _) = await stream.read(next_seq=1, last_sha256=b"", created="")
        assert await read(stream, next_seq=2, sha256=first.sha256) == [2, 3]
        with pytest.raises(StreamHaltError) as caught:
            await read(stream, next_seq=3, sha256=first.sha256)
        assert caught.value.code == "STREAM_REWRITTEN"
        # When the message before has aged out, its hash has done its work.
        await api(bus, "PURGE", {"seq": 3})
        assert await read(stream, next_seq=3, sha256=first.sha256) == [3]

    with_stream(open_server, network, scenario)


def test_lost_stream_halts_the_sequencer_and_reads_go_on(  # noqa: PLR0917 - fixtures
    run_ledger: "RunLedger",
    log_home: "LogHome",
    events: "Events",
    nats_server: "NatsServer",
    eventually: "Eventually",
    check_log: "CheckLog",
) -> None:
    chained = [events.sign(events.commission(serial)) for serial in range(5)]

    async def scenario() -> None:
        async with run_ledger() as running:
            await running.publish("maker", encode_batch(chained))
            await running.checkpoint_of(running.enrolled_size + 5)
            nats_server.kill()
            shutil.rmtree(nats_server.store)
            nats_server.start()
        async with run_ledger() as running:
            # The operator makes the stream anew; what was read of the old one cannot be told from it.
            await eventually(lambda: running.ledger.sequencer.status is SequencerStatus.HALTED)
            assert running.ledger.sequencer.error is not None
            assert running.ledger.sequencer.error.code == "STREAM_RECREATED"
            entry = await running.ledger.reader.entry(running.enrolled_size, running.ledger.feed.newest)
            assert entry.signed_event == chained[0]
            # The operator decides; the running instance takes the log anew, and producers send again.
            command = ["new-epoch", "--dir", str(log_home.root), "--reason", "the exchange's disk was lost"]
            command += ["--database", log_home.database_url]
            assert await asyncio.to_thread(main, command) == 0
            new = events.sign(events.commission(50))
            await running.publish("maker", encode_batch([*chained, new]))
            await running.checkpoint_of(running.enrolled_size + 6)
            chained.append(new)

    asyncio.run(scenario())
    report = check_log(log_home.root, acknowledged=chained)
    assert report.duplicate_count == 5
    assert main(["new-epoch", "--dir", str(log_home.root), "--reason", ""]) == 2
    assert main(["new-epoch", "--dir", str(log_home.root / "nowhere"), "--reason", "none"]) == 2


def test_exchange_away_for_a_while_is_waited_for(  # noqa: PLR0917 - fixtures
    run_ledger: "RunLedger",
    log_home: "LogHome",
    events: "Events",
    nats_server: "NatsServer",
    eventually: "Eventually",
    check_log: "CheckLog",
) -> None:
    one, two = events.sign(events.commission(1)), events.sign(events.commission(2))

    async def scenario() -> None:
        async with run_ledger() as running:
            await running.publish("maker", encode_batch([one]))
            await running.checkpoint_of(running.enrolled_size + 1)
            nats_server.restart()

            async def published() -> bool:
                try:
                    await running.publish("maker", encode_batch([two]))
                except UnavailableError:
                    return False
                return True

            await eventually(published)
            await running.checkpoint_of(running.enrolled_size + 2)

    asyncio.run(scenario())
    check_log(log_home.root, acknowledged=[one, two])
