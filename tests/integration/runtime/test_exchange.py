import asyncio
import contextlib
import gc
import hashlib
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from nats.aio.msg import Msg
from sqlalchemy import Connection, func, select

from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.codec import (
    decode_ack,
    decode_batch,
    encode_batch,
    encode_payload,
    encode_receipt,
    encode_signed_event,
)
from medtrail.envelope import SigningKey, sign
from medtrail.errors import AuthorizationError, ConflictError, MalformedError, UnavailableError, VerificationError
from medtrail.event import Event, Header, Refusal, new_event_id, new_salt
from medtrail.exchange import Receipt, ReceiptItem
from medtrail.gs1 import Gln
from medtrail.note import NoteSigner
from medtrail.runtime import outbox
from medtrail.runtime.bus import Bus, StoredMessage, connect_bus, stored_message
from medtrail.runtime.database import Database
from medtrail.runtime.inbox import Handler, InboxMessage, InboxPuller
from medtrail.runtime.relay import Relay, RelayTimes
from medtrail.runtime.streams import declare_inboxes, declare_streams
from medtrail.runtime.tables import RUNTIME_METADATA, InboxMessages, InboxPoison, Outbox, Outgoing
from medtrail.subjects import EVENTS_STREAM, INBOX_STREAM, MessageKind, events_subject, inbox_subject
from medtrail.trust import Registry

if TYPE_CHECKING:
    from tests.conftest import Eventually, NatsServer, Network

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUICK = RelayTimes(resend_first=3600, resend_at_most=3600, publish_timeout=2, retry_first=0.02, retry_at_most=0.1)
LOG = NoteSigner("log.example", bytes(range(32)))


T = TypeVar("T")


class Exchange:
    """The exchange with its streams, the ledger's connection, and one for each organisation that is asked for."""

    def __init__(self, server: "NatsServer", network: "Network") -> None:
        self.server = server
        self.network = network
        self._open: dict[str, Bus] = {}

    async def bus(self, name: str) -> Bus:
        if name not in self._open:
            folder = self.network.authority if name == "authority" else self.network[name]
            self._open[name] = await connect_bus(
                self.server.url, seed=folder.nats_seed(), gln=folder.gln, name=name, timeout_s=60
            )
        return self._open[name]

    async def declare(self, **options: int) -> None:
        ledger = await self.bus("ledger")
        await declare_streams(ledger.jetstream, **options)
        await declare_inboxes(ledger.jetstream, [folder.gln for folder in self.network.organisations.values()])

    async def events(self, name: str = "maker") -> list[StoredMessage]:
        """Return what the stream holds of one organisation, in order."""
        ledger = await self.bus("ledger")
        state = await ledger.stream_state(EVENTS_STREAM)
        found = []
        for seq in range(max(state.first_seq, 1), state.last_seq + 1):
            reply = await ledger.request(f"$JS.API.DIRECT.GET.{EVENTS_STREAM}", b'{"seq":%d}' % seq)
            found.append(stored_message(reply))
        return [message for message in found if message.subject == events_subject(self.network[name].gln)]

    async def sent(self, name: str = "maker") -> list[bytes]:
        """Return the signed events that the stream holds of one organisation, in order."""
        return [event for message in await self.events(name) for event in decode_batch(message.data)]

    async def close(self) -> None:
        for bus in self._open.values():
            await bus.close()


def run(server: "NatsServer", network: "Network", story: Callable[[Exchange], Awaitable[None]]) -> None:
    async def main() -> None:
        exchange = Exchange(server, network)
        try:
            await exchange.declare()
            await story(exchange)
        finally:
            await exchange.close()

    asyncio.run(main())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "service.db")
    database.create_tables(RUNTIME_METADATA)
    yield database
    database.close()


def enqueue(database: Database, *events: bytes) -> None:
    def write(connection: Connection) -> None:
        for event in events:
            outbox.enqueue_event(connection, event, event_id=f"urn:test:{event.hex()[:40]}", now=NOW)

    database.write_now(write)


def numbered(count: int, *, start: int = 0) -> list[bytes]:
    return [b"event %05d" % number for number in range(start, start + count)]


def receipt_of(events: Sequence[bytes], *, epoch: int = 1, size: int = 100_000) -> bytes:
    note = sign_checkpoint(Checkpoint("log.example", size, bytes(32)), LOG)
    items = tuple(
        ReceiptItem("urn:test:x", hashlib.sha256(event).digest(), index) for index, event in enumerate(events)
    )
    return encode_receipt(Receipt(note, epoch, items))


def message_of(kind: MessageKind, data: bytes, sender: Gln | None = None) -> InboxMessage:
    return InboxMessage("subject", sender, kind, data, hashlib.sha256(data).digest())


@contextlib.asynccontextmanager
async def running(*parts: Relay | InboxPuller) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def handle(database: Database, handler: Handler, message: InboxMessage) -> None:
    after = await database.write(lambda connection: handler(connection, message))
    if after is not None:
        after()


async def count(database: Database, table: Any) -> int:
    return await database.read(
        lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()
    )


# --- who may do what on the exchange ---


def test_organisation_publishes_under_its_own_name_only(nats_server: "NatsServer", network: "Network") -> None:
    maker, pharmacy = network["maker"].gln, network["pharmacy"].gln

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        assert (await bus.publish(events_subject(maker), b"x")).seq == 1
        await bus.publish(inbox_subject(to=pharmacy, sender=maker, kind=MessageKind.ADVICE), b"x")
        for subject in (
            events_subject(pharmacy),
            inbox_subject(to=maker, sender=pharmacy, kind=MessageKind.ADVICE),
            inbox_subject(to=maker, sender=None, kind=MessageKind.RECEIPT),
            "medtrail.v1.checkpoints",
            f"$JS.API.STREAM.DELETE.{EVENTS_STREAM}",
            f"$JS.API.STREAM.PURGE.{EVENTS_STREAM}",
            f"$JS.API.STREAM.INFO.{EVENTS_STREAM}",
            f"$JS.API.STREAM.MSG.GET.{INBOX_STREAM}",
            f"$JS.API.CONSUMER.MSG.NEXT.{INBOX_STREAM}.{pharmacy}",
            f"$JS.API.CONSUMER.CREATE.{INBOX_STREAM}.spy",
            f"$JS.API.DIRECT.GET.{EVENTS_STREAM}",
            f"$JS.API.DIRECT.GET.{EVENTS_STREAM}.{events_subject(pharmacy)}",
            f"$JS.ACK.{INBOX_STREAM}.{pharmacy}.1.1.1.1.1",
        ):
            with pytest.raises(AuthorizationError) as caught:
                await bus.request(subject, b"x")
            assert caught.value.code == "SUBJECT_FORBIDDEN"
        assert [message.data for message in await exchange.events("pharmacy")] == []

    run(nats_server, network, story)


def test_ledger_deletes_and_purges_nothing(nats_server: "NatsServer", network: "Network") -> None:
    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("ledger")
        for verb in ("STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE"):
            with pytest.raises(AuthorizationError):
                await bus.request(f"$JS.API.{verb}.{EVENTS_STREAM}", b"")
        with pytest.raises(AuthorizationError):
            await bus.publish(events_subject(network["maker"].gln), b"in another's name")

    run(nats_server, network, story)


def test_authority_publishes_its_own_events(nats_server: "NatsServer", network: "Network") -> None:
    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("authority")
        assert (await bus.publish(events_subject(network.authority.gln), b"x")).seq == 1

    run(nats_server, network, story)


def test_stranger_is_not_let_in_and_learns_it_as_unavailable(nats_server: "NatsServer", network: "Network") -> None:
    from medtrail.runtime.folder import new_nats_seed

    async def main() -> None:
        with pytest.raises(UnavailableError) as caught:
            await connect_bus(
                nats_server.url, seed=new_nats_seed(), gln=network["maker"].gln, name="stranger", timeout_s=0.5
            )
        assert caught.value.code == "EXCHANGE_UNREACHABLE"

    asyncio.run(main())


@contextlib.asynccontextmanager
async def other_server(
    greeting: bytes, *, hangs_up: bool = True
) -> AsyncIterator[tuple[str, list["asyncio.Task[Any] | None"]]]:
    """Serve as what is no exchange: greet whoever comes, and hang up, or else wait until the caller does.

    Give the address, and a task for each call. Nothing that it opened is open behind it, once its callers have gone.
    """
    asked: list[asyncio.Task[Any] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(asyncio.current_task())
        with contextlib.suppress(OSError):
            writer.write(greeting)
            await writer.drain()
            while not hangs_up and await reader.read(1000):
                pass
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    await asyncio.gather(*(task for task in asked if task is not None))


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO []\r\n", b"INFO {}\r\n", b'INFO {"nonce": 5}\r\n', b"x" * 200_000],
    ids=["another server", "a list", "nothing", "a number", "no line"],
)
def test_what_is_no_exchange_is_asked_again_until_one_is_there(
    network: "Network", eventually: "Eventually", greeting: bytes
) -> None:
    maker = network["maker"]

    async def main() -> None:
        async with other_server(greeting) as (url, asked):
            bus = Bus(url, seed=maker.nats_seed(), gln=maker.gln, name="maker")
            bus.start()
            await eventually(lambda: len(asked) >= 2)
            assert not bus.connected
            await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("greeting", [b"INFO {}\r\n", b"INFO []\r\n"], ids=["nothing", "a list"])
def test_a_bus_ends_at_whatever_moment_of_a_refused_connection_and_leaves_none_open(
    network: "Network", eventually: "Eventually", greeting: bytes, steps: int
) -> None:
    # nats-py swallows a cancellation for two or three turns of the loop after such a greeting, and goes on; one that
    # meets its close leaves the connection open.
    maker = network["maker"]

    async def main() -> None:
        async with other_server(greeting, hangs_up=False) as (url, asked):
            bus = Bus(url, seed=maker.nats_seed(), gln=maker.gln, name="maker")
            bus.start()
            while not asked:  # noqa: ASYNC110 - one turn of the loop at a time
                await asyncio.sleep(0)
            for _ in range(steps):
                await asyncio.sleep(0)
            closing = asyncio.create_task(bus.close())
            await eventually(closing.done)
            assert not bus.connected
            await eventually(lambda: all(task is not None and task.done() for task in asked))

    asyncio.run(main())


def test_a_bus_ends_while_the_exchange_stands_still(
    nats_server: "NatsServer", network: "Network", eventually: "Eventually"
) -> None:
    # What is still to be sent fills all buffers, and nats-py's close would wait until it is taken.
    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        sent = 0

        async def send_on() -> None:
            nonlocal sent
            with contextlib.suppress(UnavailableError):
                while True:
                    await bus.send(f"_INBOX_{network['maker'].gln}.nobody", bytes(1_000_000))
                    sent += 1

        async def no_more_fits() -> bool:
            before = sent
            await asyncio.sleep(0.5)
            return sent == before > 0

        nats_server.signal(signal.SIGSTOP)
        try:
            sending = asyncio.create_task(send_on())
            await eventually(no_more_fits)
            closing = asyncio.create_task(bus.close())
            await eventually(closing.done)
            await eventually(sending.done)
        finally:
            nats_server.signal(signal.SIGCONT)

    run(nats_server, network, story)


@pytest.mark.parametrize("steps", range(7, 27))
def test_a_connection_reset_with_data_still_to_be_sent_is_made_anew(
    network: "Network", eventually: "Eventually", caplog: pytest.LogCaptureFixture, steps: int
) -> None:
    # nats-py's close fails then, at some of these moments, before it tells anybody; asyncio tells of it, when it finds
    # a task whose error nobody asked for.
    maker = network["maker"]
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with contextlib.suppress(OSError):
            writer.write(b'INFO {"nonce": "abc", "max_payload": 1048576, "headers": true}\r\n')
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
            writer.close()

    async def unheard(_message: Msg) -> None:
        pass

    async def send_on(bus: Bus) -> None:
        with contextlib.suppress(UnavailableError):
            while True:
                await bus.send("anything", b"x" * 200)
                for _ in range(steps % 3):
                    await asyncio.sleep(0)

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        bus = Bus(f"nats://127.0.0.1:{port}", seed=maker.nats_seed(), gln=maker.gln, name="maker")
        bus.start()
        await bus.ready(60)
        await bus.listen("anything", unheard)
        lingering: socket.socket = connections[0].get_extra_info("socket")
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        senders = [asyncio.create_task(send_on(bus)) for _ in range(3)]
        for _ in range(steps):
            await asyncio.sleep(0)
        connections[0].transport.abort()
        await eventually(lambda: bus.generation == 2 and bus.connected, within_s=30)
        await asyncio.gather(*senders)
        await bus.close()
        server.close()
        await server.wait_closed()
        # Of both clients; what serves them ends with them.
        await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(main())
    gc.collect()
    assert not caplog.records


def test_nobody_hears_anothers_replies(nats_server: "NatsServer", network: "Network", eventually: "Eventually") -> None:
    heard: list[bytes] = []

    async def story(exchange: Exchange) -> None:
        spy = await exchange.bus("pharmacy")

        async def note(message: Any) -> None:
            heard.append(message.data)

        await spy.listen(f"_INBOX_{network['maker'].gln}.>", note)
        await spy.listen("medtrail.v1.events.*", note)
        await spy.listen("medtrail.v1.checkpoints", note)
        maker = await exchange.bus("maker")
        await maker.publish(events_subject(network["maker"].gln), b"secret")
        ledger = await exchange.bus("ledger")
        await ledger.send("medtrail.v1.checkpoints", b"checkpoint")
        await eventually(lambda: bool(heard))
        assert heard == [b"checkpoint"]

    run(nats_server, network, story)


def test_declaring_streams_again_changes_nothing(nats_server: "NatsServer", network: "Network") -> None:
    async def story(exchange: Exchange) -> None:
        ledger = await exchange.bus("ledger")
        before = await ledger.stream_state(EVENTS_STREAM)
        await exchange.declare()
        assert await ledger.stream_state(EVENTS_STREAM) == before
        config = (await ledger.jetstream.stream_info(EVENTS_STREAM)).config
        assert (config.deny_delete, config.deny_purge, config.allow_direct) == (True, True, True)

    run(nats_server, network, story)


def test_publish_states_what_went_wrong(nats_server: "NatsServer", network: "Network") -> None:
    maker = network["maker"].gln
    subject = events_subject(maker)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        assert await bus.last_message(EVENTS_STREAM, subject) is None
        first = await bus.publish(subject, b"one", message_id="m1", expected_last=0)
        again = await bus.publish(subject, b"one", message_id="m1", expected_last=first.seq)
        assert (first.duplicate, again.duplicate, again.seq) == (False, True, first.seq)
        with pytest.raises(ConflictError) as caught:
            # The sequence is looked at first, so a repeat after a lost acknowledgement is refused as well.
            await bus.publish(subject, b"one", message_id="m1", expected_last=0)
        assert caught.value.code == "SEQUENCE_MISMATCH"
        last = await bus.last_message(EVENTS_STREAM, subject)
        assert last is not None
        assert (last.seq, last.data, last.message_id, last.subject) == (first.seq, b"one", "m1", subject)
        assert datetime.now(UTC) - last.time < timedelta(minutes=1)
        with pytest.raises(MalformedError) as large:
            await bus.publish(subject, bytes(2 * 1024 * 1024))
        assert large.value.code == "TOO_LARGE"
        assert "SU" not in repr(bus)

    run(nats_server, network, story)


def test_full_inbox_refuses_its_own_senders_only(nats_server: "NatsServer", network: "Network") -> None:
    maker, pharmacy, distributor = (network[name].gln for name in ("maker", "pharmacy", "distributor"))

    async def story(exchange: Exchange) -> None:
        await exchange.declare(inbox_most_per_subject=2)
        bus = await exchange.bus("maker")
        to_pharmacy = inbox_subject(to=pharmacy, sender=maker, kind=MessageKind.ADVICE)
        for number in range(2):
            await bus.publish(to_pharmacy, b"%d" % number)
        with pytest.raises(UnavailableError) as caught:
            await bus.publish(to_pharmacy, b"2")
        assert caught.value.code == "SUBJECT_FULL"
        await bus.publish(inbox_subject(to=distributor, sender=maker, kind=MessageKind.ADVICE), b"0")

    run(nats_server, network, story)


def test_connection_comes_back_after_a_restart_of_the_server(
    nats_server: "NatsServer", network: "Network", eventually: "Eventually"
) -> None:
    subject = events_subject(network["maker"].gln)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        generation = bus.generation
        await bus.publish(subject, b"one")
        nats_server.kill()
        await eventually(lambda: not bus.connected)
        with pytest.raises(UnavailableError):
            await bus.publish(subject, b"lost")
        nats_server.start()
        await eventually(lambda: bus.generation > generation)
        assert (await bus.publish(subject, b"two")).seq == 2

    run(nats_server, network, story)


# --- events ---


def test_events_go_in_order_in_batches_and_live_until_the_receipt(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    events = numbered(1203)

    async def story(exchange: Exchange) -> None:
        relay = Relay(await exchange.bus("maker"), database, gln=network["maker"].gln, times=QUICK)
        async with running(relay):
            enqueue(database, *events[:1000])
            relay.wake()

            async def arrived() -> bool:
                return len(await exchange.sent()) >= 1000

            await eventually(arrived)
            enqueue(database, *events[1000:])
            relay.wake()
            await eventually(lambda: _has(exchange, len(events)))
        assert await exchange.sent() == events
        assert len(await exchange.events()) == 3
        assert await count(database, Outbox) == len(events)
        receipts = relay.receipts(LOG.verifier)
        await handle(database, receipts, message_of(MessageKind.RECEIPT, receipt_of(events[:700])))
        assert await count(database, Outbox) == len(events) - 700
        first = await database.read(lambda connection: outbox.get_event(connection, hashlib.sha256(events[0]).digest()))
        assert (first.state, first.leaf_index, first.data) == ("logged", 0, events[0])

    run(nats_server, network, story)


async def _has(exchange: Exchange, number: int) -> bool:
    return len(await exchange.sent()) >= number


def test_restarted_relay_learns_from_the_stream_what_was_sent(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    events = numbered(10)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        for part in (events[:5], events[5:]):
            enqueue(database, *part)
            relay = Relay(bus, database, gln=network["maker"].gln, times=QUICK)
            async with running(relay):
                await eventually(lambda: _has(exchange, 5 if part[0] == events[0] else 10))  # noqa: B023
        assert await exchange.sent() == events

    run(nats_server, network, story)


def test_relay_starts_behind_a_message_that_is_no_batch(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        await bus.publish(events_subject(network["maker"].gln), b"no batch")
        enqueue(database, b"one")
        async with running(Relay(bus, database, gln=network["maker"].gln, times=QUICK)):

            async def arrived() -> bool:
                return len(await exchange.events()) == 2

            await eventually(arrived)
        assert decode_batch((await exchange.events())[1].data) == (b"one",)

    run(nats_server, network, story)


def test_lost_acknowledgement_doubles_nothing(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    """Another process of ours published the batch, and died before it noted anything."""
    events = numbered(5)
    data = encode_batch(events)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        relay = Relay(bus, database, gln=network["maker"].gln, times=QUICK)
        relay._position, relay._last_stream_seq = 0, 0
        # Stored, but without a message id that the server would recognise within its window: so 10071 decides.
        await bus.publish(events_subject(network["maker"].gln), encode_batch([b"x"]), message_id="older")
        await bus.publish(events_subject(network["maker"].gln), data, message_id=hashlib.sha256(data).hexdigest())
        enqueue(database, *events)
        async with running(relay):
            relay.wake()
            await eventually(lambda: relay._position == 5)
        assert await exchange.sent() == [b"x", *events]

    run(nats_server, network, story)


def test_later_event_never_overtakes_after_a_foreign_last_message(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    """Error 10071 with another last message: all without receipt goes again, in order."""
    events = numbered(6)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        relay = Relay(bus, database, gln=network["maker"].gln, times=QUICK)
        async with running(relay):
            enqueue(database, *events[:3])
            relay.wake()
            await eventually(lambda: _has(exchange, 3))
            await bus.publish(events_subject(network["maker"].gln), encode_batch([b"unknown"]))
            enqueue(database, *events[3:])
            relay.wake()
            await eventually(lambda: relay._position == 6)
        sent = await exchange.sent()
        assert sent[:4] == [*events[:3], b"unknown"]
        assert sent[4:] == events

    run(nats_server, network, story)


def test_server_killed_under_load_loses_nothing_and_keeps_the_order(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    events = numbered(3000)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        relay = Relay(bus, database, gln=network["maker"].gln, times=QUICK)
        async with running(relay):
            for round_, start in enumerate(range(0, 3000, 600)):
                await eventually(lambda: bus.connected)
                # A stopped server leaves the request out; what it had taken in when killed is different each time.
                nats_server.signal(signal.SIGSTOP)
                enqueue(database, *events[start : start + 600])
                relay.wake()
                await eventually(lambda: bool(bus._unanswered))
                if round_ % 2:
                    nats_server.signal(signal.SIGCONT)
                nats_server.restart()
            await eventually(lambda: relay._position == 3000)
        ledger = await exchange.bus("ledger")
        await ledger.ready()
        first_of_each = list(dict.fromkeys(await exchange.sent()))
        assert first_of_each == events

    run(nats_server, network, story)


def test_lost_store_is_filled_again(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually", tmp_path: Path
) -> None:
    """The stream comes back empty, as after a restore: everything without receipt is sent again."""
    events = numbered(20)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        relay = Relay(bus, database, gln=network["maker"].gln, times=QUICK)
        async with running(relay):
            enqueue(database, *events[:10])
            relay.wake()
            await eventually(lambda: _has(exchange, 10))
            nats_server.kill()
            nats_server.store.rename(tmp_path / "lost")
            nats_server.start()
            ledger = await exchange.bus("ledger")
            await eventually(lambda: not ledger.connected or ledger.generation > 1)
            await ledger.ready(60)
            await exchange.declare()
            enqueue(database, *events[10:])
            relay.wake()
            await eventually(lambda: relay._position == 20)
        assert await exchange.sent() == events

    run(nats_server, network, story)


def test_events_without_receipt_are_sent_again_after_a_while(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    events = numbered(3)
    times = RelayTimes(resend_first=0.1, resend_at_most=0.1, publish_timeout=2, retry_first=0.02, retry_at_most=0.1)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        relay = Relay(bus, database, gln=network["maker"].gln, times=times)
        async with running(relay):
            enqueue(database, *events[:1])
            relay.wake()
            await eventually(lambda: _has(exchange, 1))
            # A batch of another cut has another message id, so that the resend shows in the stream.
            enqueue(database, *events[1:])

            async def sent_again() -> bool:
                return (await exchange.sent()).count(events[0]) == 2

            await eventually(sent_again)
        # The new ones may have gone alone before; all without receipt go together when they go again.
        assert decode_batch((await exchange.events())[-1].data) == tuple(events)

    run(nats_server, network, story)


@pytest.mark.parametrize("reason", ["new epoch", "overtaken"])
def test_new_epoch_or_overtaking_receipt_sends_again(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually", reason: str
) -> None:
    events = numbered(4)

    async def story(exchange: Exchange) -> None:
        bus = await exchange.bus("maker")
        relay = Relay(bus, database, gln=network["maker"].gln, times=QUICK)
        receipts = relay.receipts(LOG.verifier)
        async with running(relay):
            enqueue(database, *events)
            relay.wake()
            await eventually(lambda: _has(exchange, 4))
            first = receipt_of(events[:1] if reason == "new epoch" else events[1:2])
            await handle(database, receipts, message_of(MessageKind.RECEIPT, first))
            if reason == "new epoch":
                await handle(database, receipts, message_of(MessageKind.RECEIPT, receipt_of([], epoch=2)))
            await eventually(lambda: _has(exchange, 7))
        left = events[1:] if reason == "new epoch" else [events[0], *events[2:]]
        assert await exchange.sent() == [*events, *left]

    run(nats_server, network, story)


# --- messages to partners ---


def partner_relay(bus: Bus, database: Database, gln: Gln, **times: float) -> Relay:
    values = {"resend_first": 3600.0, "resend_at_most": 3600.0, "publish_timeout": 2.0, "retry_first": 0.02} | times
    return Relay(bus, database, gln=gln, times=RelayTimes(**values))


def test_message_reaches_its_partner_once_and_goes_when_acknowledged(
    nats_server: "NatsServer", network: "Network", tmp_path: Path, eventually: "Eventually"
) -> None:
    maker, pharmacy = network["maker"].gln, network["pharmacy"].gln
    taken: list[tuple[Gln | None, bytes]] = []

    async def story(exchange: Exchange) -> None:
        databases = [Database(tmp_path / f"{name}.db") for name in ("maker", "pharmacy")]
        for each in databases:
            each.create_tables(RUNTIME_METADATA)
        relay = partner_relay(await exchange.bus("maker"), databases[0], maker)
        inbox = InboxPuller(
            await exchange.bus("maker"), databases[0], gln=maker, handlers={MessageKind.ACK: relay.acks()}
        )

        def advice(_connection: Connection, message: InboxMessage) -> None:
            taken.append((message.sender, message.data))

        partner = InboxPuller(
            await exchange.bus("pharmacy"), databases[1], gln=pharmacy, handlers={MessageKind.ADVICE: advice}
        )

        def write(connection: Connection) -> None:
            for number in (1, 2, 3, 3):
                outbox.enqueue_outgoing(connection, to=pharmacy, kind=MessageKind.ADVICE, data=b"%d" % number)

        databases[0].write_now(write)
        async with running(relay, inbox), running(partner):

            async def acknowledged() -> bool:
                return await count(databases[0], Outgoing) == 0

            # What was taken in is told to the exchange after the commit.
            async def nothing_left() -> bool:
                state = await (await exchange.bus("ledger")).jetstream.stream_info(INBOX_STREAM)
                return not state.state.messages

            await eventually(acknowledged)
            await eventually(nothing_left)
        assert taken == [(maker, b"1"), (maker, b"2"), (maker, b"3")]
        for each in databases:
            each.close()

    run(nats_server, network, story)


def test_message_is_sent_again_until_the_partner_has_it(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    maker, pharmacy = network["maker"].gln, network["pharmacy"].gln

    async def story(exchange: Exchange) -> None:
        relay = partner_relay(await exchange.bus("maker"), database, maker, resend_first=0.05, resend_at_most=0.05)
        database.write_now(
            lambda connection: outbox.enqueue_outgoing(connection, to=pharmacy, kind=MessageKind.ADVICE, data=b"x")
        )
        async with running(relay):

            async def attempted() -> bool:
                return bool(await database.read(lambda c: c.execute(select(Outgoing.c.attempts)).scalar_one() >= 3))

            await eventually(attempted)

    run(nats_server, network, story)


def test_message_put_off_by_a_clock_that_ran_ahead_is_sent_once_it_is_set_back(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    maker, pharmacy = network["maker"].gln, network["pharmacy"].gln
    clock = [datetime(2036, 1, 1, tzinfo=UTC)]

    async def story(exchange: Exchange) -> None:
        relay = Relay(
            await exchange.bus("maker"), database, gln=maker, times=RelayTimes(retry_first=0.02), clock=lambda: clock[0]
        )
        database.write_now(
            lambda connection: outbox.enqueue_outgoing(connection, to=pharmacy, kind=MessageKind.ADVICE, data=b"x")
        )

        async def attempts() -> int:
            return int(await database.read(lambda c: c.execute(select(Outgoing.c.attempts)).scalar_one()))

        async def sent() -> bool:
            return await attempts() == 1

        async def sent_again() -> bool:
            return await attempts() == 2

        async with running(relay):
            await eventually(sent)
        clock[0] = NOW
        async with running(relay):
            await eventually(sent_again)
        due_s = await database.read(outbox.next_due_s)
        assert due_s is not None
        assert due_s <= NOW.timestamp() + 3600

    run(nats_server, network, story)


class AwayOnce(Database):
    """Cannot be read when the relay first looks how much waits, and for when."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = {outbox.pending_count, outbox.next_due_s}

    async def read(self, function: Callable[[Connection], T]) -> T:
        if function in self.away:
            self.away.discard(function)
            raise UnavailableError("the disk does not answer", code="STORAGE_IO")
        return await super().read(function)


def test_relay_outlasts_a_database_that_is_away_while_nothing_is_to_be_sent(
    nats_server: "NatsServer", network: "Network", tmp_path: Path, eventually: "Eventually"
) -> None:
    maker, pharmacy = network["maker"].gln, network["pharmacy"].gln
    away = AwayOnce(tmp_path / "away.db")
    away.create_tables(RUNTIME_METADATA)

    async def story(exchange: Exchange) -> None:
        relay = partner_relay(await exchange.bus("maker"), away, maker)
        async with running(relay):
            await eventually(lambda: not away.away)
            enqueue(away, b"one")
            await away.write(
                lambda connection: outbox.enqueue_outgoing(connection, to=pharmacy, kind=MessageKind.ADVICE, data=b"x")
            )
            relay.wake()

            async def sent() -> bool:
                return bool(await away.read(lambda c: c.execute(select(Outgoing.c.attempts)).scalar_one()))

            await eventually(sent)
            await eventually(partial(_has, exchange, 1))

    run(nats_server, network, story)
    away.close()


def test_dead_partner_blocks_nobody(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    maker, pharmacy, distributor = (network[name].gln for name in ("maker", "pharmacy", "distributor"))

    async def story(exchange: Exchange) -> None:
        await exchange.declare(inbox_most_per_subject=2)
        relay = partner_relay(await exchange.bus("maker"), database, maker)

        def write(connection: Connection) -> None:
            for number in range(40):
                outbox.enqueue_outgoing(connection, to=pharmacy, kind=MessageKind.ADVICE, data=b"%d" % number)
            outbox.enqueue_outgoing(connection, to=distributor, kind=MessageKind.ADVICE, data=b"last")

        database.write_now(write)
        seen: list[bytes] = []
        partner = InboxPuller(
            await exchange.bus("distributor"),
            database,
            gln=distributor,
            handlers={MessageKind.ADVICE: lambda _connection, message: seen.append(message.data)},
        )
        async with running(relay, partner):
            await eventually(lambda: seen == [b"last"])

    run(nats_server, network, story)


# --- the inbox ---


class Pharmacy:
    """A pharmacy's inbox, to which the maker and the ledger write."""

    def __init__(self, exchange: Exchange, database: Database, handlers: dict[MessageKind, Handler]) -> None:
        self.exchange = exchange
        self.database = database
        self.gln = exchange.network["pharmacy"].gln
        self.handlers = handlers

    async def puller(self) -> InboxPuller:
        return InboxPuller(await self.exchange.bus("pharmacy"), self.database, gln=self.gln, handlers=self.handlers)

    async def write(self, data: bytes, kind: MessageKind = MessageKind.ADVICE, *, sender: str = "maker") -> None:
        bus = await self.exchange.bus(sender)
        gln = None if sender == "ledger" else self.exchange.network[sender].gln
        await bus.publish(inbox_subject(to=self.gln, sender=gln, kind=kind), data)

    async def waiting(self) -> int:
        bus = await self.exchange.bus("ledger")
        info = await bus.jetstream.consumer_info(INBOX_STREAM, str(self.gln))
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def empty(self) -> bool:
        return await self.waiting() == 0


def test_same_message_twice_is_handled_once_and_acknowledged_twice(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    seen: list[bytes] = []

    async def story(exchange: Exchange) -> None:
        pharmacy = Pharmacy(exchange, database, {MessageKind.ADVICE: lambda _c, message: seen.append(message.data)})
        await pharmacy.write(b"advice")
        await pharmacy.write(b"advice")
        async with running(await pharmacy.puller()):
            await eventually(pharmacy.empty)
            ledger = await exchange.bus("ledger")

            async def told() -> bool:
                info = await ledger.jetstream.consumer_info(INBOX_STREAM, str(network["maker"].gln))
                return bool(info.num_pending == 2)

            await eventually(told)
        assert seen == [b"advice"]
        acks: list[bytes] = []
        maker = InboxPuller(
            await exchange.bus("maker"),
            database,
            gln=network["maker"].gln,
            handlers={MessageKind.ACK: lambda _c, message: acks.append(decode_ack(message.data))},
        )
        async with running(maker):
            await eventually(lambda: bool(acks))
        assert acks == [hashlib.sha256(b"advice").digest()]

    run(nats_server, network, story)


def test_poison_is_recorded_and_the_rest_goes_on(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    seen: list[bytes] = []

    def advice(connection: Connection, message: InboxMessage) -> None:
        outbox.enqueue_outgoing(
            connection, to=Gln("0300011111116"), kind=MessageKind.NOTICE, data=b"of " + message.data
        )
        if message.data == b"bad":
            raise MalformedError("cannot be read", code="ADVICE_MALFORMED")
        seen.append(message.data)

    async def story(exchange: Exchange) -> None:
        pharmacy = Pharmacy(exchange, database, {MessageKind.ADVICE: advice})
        for data in (b"one", b"bad", b"two"):
            await pharmacy.write(data)
        await pharmacy.write(b"order", MessageKind.REQUEST)
        bus = await exchange.bus("maker")
        await bus.publish(f"medtrail.v1.inbox.{pharmacy.gln}.{network['maker'].gln}.rumour", b"?")
        async with running(await pharmacy.puller()):
            await eventually(pharmacy.empty)
        assert seen == [b"one", b"two"]
        rows = await database.read(
            lambda c: c.execute(select(InboxPoison.c.code, InboxPoison.c.data).order_by(InboxPoison.c.id)).all()
        )
        assert [tuple(row) for row in rows] == [
            ("ADVICE_MALFORMED", b"bad"),
            ("KIND_UNHANDLED", b"order"),
            ("SUBJECT_MALFORMED", b"?"),
        ]
        # What the bad one had written is taken back; its neighbours' stays.
        kept = await database.read(lambda c: c.execute(select(Outgoing.c.data)).scalars().all())
        assert list(kept) == [b"of one", b"of two"]

    run(nats_server, network, story)


def test_poison_without_end_fills_no_disk(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    async def story(exchange: Exchange) -> None:
        pharmacy = Pharmacy(exchange, database, {})
        for number in range(7):
            await pharmacy.write(b"bad %d" % number)
        bus = await exchange.bus("pharmacy")
        async with running(InboxPuller(bus, database, gln=pharmacy.gln, handlers={}, most_poison=3)):
            await eventually(pharmacy.empty)
        rows = await database.read(
            lambda c: list(c.execute(select(InboxPoison.c.data).order_by(InboxPoison.c.id)).scalars())
        )
        assert rows == [b"bad 4", b"bad 5", b"bad 6"]

    run(nats_server, network, story)


def test_message_that_cannot_be_taken_now_comes_again(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    tries: list[bytes] = []

    def advice(_connection: Connection, message: InboxMessage) -> None:
        tries.append(message.data)
        if len(tries) == 1:
            raise UnavailableError("the registry is behind")
        if len(tries) == 2:
            raise KeyError("a mistake of ours")

    async def story(exchange: Exchange) -> None:
        pharmacy = Pharmacy(exchange, database, {MessageKind.ADVICE: advice})
        await pharmacy.write(b"x")
        async with running(await pharmacy.puller()):
            await eventually(lambda: len(tries) == 3)
            await eventually(pharmacy.empty)
        assert await count(database, InboxPoison) == 0
        assert await count(database, InboxMessages) == 1

    run(nats_server, network, story)


def test_inbox_goes_on_after_a_restart_of_the_server(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    seen: list[bytes] = []

    async def story(exchange: Exchange) -> None:
        pharmacy = Pharmacy(exchange, database, {MessageKind.ADVICE: lambda _c, message: seen.append(message.data)})
        async with running(await pharmacy.puller()):
            for number in range(3):
                bus = await exchange.bus("maker")
                await eventually(lambda: bus.connected)  # noqa: B023
                await pharmacy.write(b"%d" % number)
                await eventually(lambda: len(seen) == number + 1)  # noqa: B023
                generation = bus.generation
                nats_server.restart()
                await eventually(lambda: bus.generation > generation)  # noqa: B023
        assert seen == [b"0", b"1", b"2"]

    run(nats_server, network, story)


def test_many_messages_arrive_in_order(
    nats_server: "NatsServer", network: "Network", database: Database, eventually: "Eventually"
) -> None:
    seen: list[bytes] = []
    sent = numbered(300)

    async def story(exchange: Exchange) -> None:
        pharmacy = Pharmacy(exchange, database, {MessageKind.NOTICE: lambda _c, message: seen.append(message.data)})
        async with running(await pharmacy.puller()):
            for data in sent:
                await pharmacy.write(data, MessageKind.NOTICE, sender="ledger")
            await eventually(pharmacy.empty)
        assert seen == sent

    run(nats_server, network, story)


# --- receipts and refusals ---


def unconnected_relay(gln: Gln, database: Database) -> Relay:
    return Relay(Bus("nats://127.0.0.1:1", seed=b"", gln=gln, name="x"), database, gln=gln)


def refusal_of(network: "Network", event: bytes, *, key: SigningKey) -> bytes:
    header = Header(new_salt(), network["ledger"].gln, "ingest", 1, new_event_id())
    refusal = Refusal(hashlib.sha256(event).digest(), "urn:test:x", "KEY_REVOKED", "", "revoked", 1, NOW)
    statement = Event(header, refusal)
    return encode_signed_event(sign(statement.payload_type, encode_payload(statement), key))


def test_refusal_ends_an_events_way_and_frees_its_key(
    network: "Network", registry: Registry, database: Database
) -> None:
    told: list[tuple[str, bool]] = []

    async def main() -> None:
        relay = Relay(
            Bus("nats://127.0.0.1:1", seed=b"", gln=network["maker"].gln, name="x"), database, gln=network["maker"].gln
        )
        refusals = relay.refusals(lambda: registry, lambda _c, refusal, own: told.append((refusal.code, own)))
        enqueue(database, b"mine")
        ledger_key = network["ledger"].signing_key()
        for event in (b"mine", b"another's"):
            data = refusal_of(network, event, key=ledger_key)
            await handle(database, refusals, message_of(MessageKind.REFUSAL, data))
        assert told == [("KEY_REVOKED", True), ("KEY_REVOKED", False)]
        assert await count(database, Outbox) == 0
        mine = await database.read(lambda c: outbox.get_event(c, hashlib.sha256(b"mine").digest()))
        assert (mine.state, mine.refusal_code, mine.data) == ("refused", "KEY_REVOKED", b"mine")
        forged = refusal_of(network, b"mine", key=network["pharmacy"].signing_key())
        with pytest.raises(AuthorizationError):
            await handle(database, refusals, message_of(MessageKind.REFUSAL, forged))
        with pytest.raises(AuthorizationError) as caught:
            await handle(database, refusals, message_of(MessageKind.REFUSAL, b"", network["pharmacy"].gln))
        assert caught.value.code == "SENDER_FORBIDDEN"
        enrolment = network["maker"].enrolment_bytes()
        with pytest.raises(MalformedError):
            await handle(database, refusals, message_of(MessageKind.REFUSAL, enrolment))

    asyncio.run(main())


def test_refuses_forged_receipts(network: "Network", database: Database) -> None:
    async def main() -> None:
        relay = Relay(
            Bus("nats://127.0.0.1:1", seed=b"", gln=network["maker"].gln, name="x"), database, gln=network["maker"].gln
        )
        logged: list[int] = []
        receipts = relay.receipts(LOG.verifier, lambda _c, receipted: logged.append(len(receipted.logged)))
        enqueue(database, b"mine")
        other = NoteSigner("log.example", bytes(32))
        stranger = sign_checkpoint(Checkpoint("log.example", 9, bytes(32)), other)
        item = ReceiptItem("urn:test:x", hashlib.sha256(b"mine").digest(), 3)
        with pytest.raises(VerificationError):
            await handle(
                database, receipts, message_of(MessageKind.RECEIPT, encode_receipt(Receipt(stranger, 1, (item,))))
            )
        with pytest.raises(MalformedError) as caught:
            await handle(database, receipts, message_of(MessageKind.RECEIPT, receipt_of([b"a", b"mine"], size=1)))
        assert caught.value.code == "RECEIPT_MALFORMED"
        with pytest.raises(AuthorizationError):
            await handle(database, receipts, message_of(MessageKind.RECEIPT, b"", network["pharmacy"].gln))
        assert await count(database, Outbox) == 1
        await handle(database, receipts, message_of(MessageKind.RECEIPT, receipt_of([b"mine"])))
        await handle(database, receipts, message_of(MessageKind.RECEIPT, receipt_of([b"mine"])))
        assert logged == [1, 0]

    asyncio.run(main())
