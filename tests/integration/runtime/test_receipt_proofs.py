"""Receipts are proven, counted under the witness policy, and their absence is told of."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, func, insert, inspect, select, text

from medtrail.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, sign_checkpoint
from medtrail.codec import decode_payload, decode_signed_event, encode_payload, encode_receipt, encode_signed_event
from medtrail.envelope import sign
from medtrail.errors import MedtrailError, UnavailableError, VerificationError
from medtrail.event import Event, Header, PackLevel, Product, new_salt
from medtrail.exchange import Receipt, ReceiptItem
from medtrail.gs1 import Gln, Gtin
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, root_of
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.policy import Policy, parse_policy
from medtrail.runtime import inbox, outbox, receipts, tables
from medtrail.runtime.bus import Bus
from medtrail.runtime.database import Database
from medtrail.runtime.inbox import InboxMessage
from medtrail.runtime.overdue import Alarm, Doubling, OverdueWatch
from medtrail.runtime.receipt_proofs import PublishedFiles, ReceiptProver
from medtrail.runtime.relay import Relay
from medtrail.runtime.tables import FalseReceipts, InboxMessages, InboxPoison, OpenReceipts, Outbox, microseconds
from medtrail.subjects import MessageKind
from medtrail.tiles import EntryBundle, TileEdge, append_tiles, encode_entry_bundle

if TYPE_CHECKING:
    from medtrail.trust import Registry
    from tests.conftest import Eventually, Network

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOG = NoteSigner("log.example", bytes(range(32)))
WITNESS = Cosigner("witness.example/w1", bytes(range(32, 64)))
POLICY = parse_policy(f"log {format_vkey(LOG.verifier)}\nwitness w {format_vkey(WITNESS.verifier)}\nquorum w\n")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "service.db")
    made.write_now(tables.prepare)
    yield made
    made.close()


@dataclass
class Published:
    """A log of these signed events as its files show it, and what a service has verified of it."""

    registry: "Registry"
    signed_events: list[bytes] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    checkpoint: SignedCheckpoint | None = None
    witnessed_size: int = 0

    def publish(self, *signed_events: bytes) -> None:
        self.signed_events += signed_events
        entries = [log_entry(hashlib.sha256(each).digest(), bytes(32)) for each in self.signed_events]
        hashes = [hash_leaf(entry) for entry in entries]
        _, tiles = append_tiles(TileEdge(), hashes)
        self.files = {tile.path: contents for tile, contents in tiles}
        for number in range(0, len(entries), 256):
            bundle = entries[number : number + 256]
            self.files[EntryBundle(number // 256, len(bundle)).path] = encode_entry_bundle(bundle)
        self.checkpoint = opened(len(entries), root_of(hashes))

    def fetch(self, path: str) -> bytes:
        if path not in self.files:
            raise UnavailableError(path, code="LOG_UNREACHABLE")
        return self.files[path]

    async def event_at(self, leaf_index: int) -> bytes:
        return self.signed_events[leaf_index]


def opened(size: int, root: bytes, *, witnessed: bool = False) -> SignedCheckpoint:
    checkpoint = Checkpoint(LOG.verifier.name, size, root)
    note = sign_checkpoint(checkpoint, LOG)
    if witnessed:
        note += f"{WITNESS.cosign(checkpoint.text, timestamp=1_700_000_000).line}\n".encode()
    return open_checkpoint(note, origin=LOG.verifier.name, verifiers=[LOG.verifier, WITNESS.verifier])


@pytest.fixture
def log(registry: "Registry") -> Published:
    return Published(registry)


def event_of(network: "Network", event_id: str, *, by: str = "maker") -> bytes:
    header = Header(new_salt(), network[by].gln, "test", 1, event_id)
    event = Event(header, Product(Gtin("00300010123455"), PackLevel.PACK, "Tablets"))
    return encode_signed_event(sign(event.payload_type, encode_payload(event), network[by].signing_key()))


class Service:
    """The maker's outbox, the handler of its receipts, and its prover."""

    def __init__(self, database: Database, network: "Network", log: Published, policy: Policy | None = None) -> None:
        self.database, self.log = database, log
        gln = network["maker"].gln
        relay = Relay(Bus("nats://127.0.0.1:1", seed=b"", gln=gln, name="x"), database, gln=gln, clock=lambda: NOW)
        self._handle = relay.receipts(LOG.verifier, policy=policy)
        self.resent = 0
        self.prover = ReceiptProver(
            database,
            log,
            gln=gln,
            fetch_file=log.fetch,
            fetch_event=log.event_at,
            on_false=self._resend,
            clock=lambda: NOW,
        )

    def _resend(self) -> None:
        self.resent += 1

    def send(self, *signed_events: bytes) -> None:
        def write(connection: Connection) -> None:
            for each in signed_events:
                outbox.enqueue_event(connection, each, event_id=event_id_of(each), now=NOW)

        self.database.write_now(write)

    def receipt(self, *places: tuple[bytes, int], size: int, witnessed: bool = False) -> None:
        note = opened(size, bytes(32), witnessed=witnessed).note
        items = tuple(ReceiptItem("", hashlib.sha256(each).digest(), index) for each, index in places)
        data = encode_receipt(Receipt(note, 1, items))
        message = InboxMessage("subject", None, MessageKind.RECEIPT, data, hashlib.sha256(data).digest())
        self.database.write_now(lambda connection: self._handle(connection, message))

    def prove(self) -> int:
        return asyncio.run(self.prover.prove_once())

    def count(self, table: Any) -> int:
        return self.database.read_now(lambda c: c.execute(select(func.count()).select_from(table)).scalar_one())

    def state(self, signed_event: bytes) -> str:
        sha256 = hashlib.sha256(signed_event).digest()
        return self.database.read_now(lambda c: outbox.get_event(c, sha256)).state.value

    def witnessed(self, signed_event: bytes) -> bool:
        sha256 = hashlib.sha256(signed_event).digest()
        return self.database.read_now(lambda c: receipts.is_witnessed(c, sha256))


def event_id_of(signed_event: bytes) -> str:
    signed = decode_signed_event(signed_event)
    return decode_payload(signed.payload_type, signed.payload).header.event_id


def test_true_receipts_are_proven_and_forgotten(database: Database, network: "Network", log: Published) -> None:
    service = Service(database, network, log)
    events = [event_of(network, f"urn:test:{number}") for number in range(600)]
    service.send(*events)
    service.receipt(*((each, index) for index, each in enumerate(events)), size=600)
    assert (service.count(Outbox), service.count(OpenReceipts)) == (0, 600)
    assert service.prove() == 0  # no checkpoint is verified yet
    log.publish(*events[:300])
    log.witnessed_size = 300
    assert service.prove() == 300
    log.publish(*events[300:])
    log.witnessed_size = 600
    assert (service.prove(), service.prove(), service.count(OpenReceipts)) == (300, 0, 0)


def test_receipt_for_a_place_that_holds_another_event_is_evidence_and_the_event_is_sent_again(
    database: Database, network: "Network", log: Published
) -> None:
    service = Service(database, network, log)
    mine, other = event_of(network, "urn:test:mine"), event_of(network, "urn:test:other")
    foreign = event_of(network, "urn:test:mine", by="pharmacy")
    service.send(mine)
    log.publish(other, foreign)
    for index in (0, 1):
        service.receipt((mine, index), size=2)
        assert service.state(mine) == "logged"
        assert service.prove() == 1
        assert (service.state(mine), service.count(Outbox)) == ("pending", 1)
    assert (service.resent, service.count(FalseReceipts), service.count(OpenReceipts)) == (2, 2, 0)
    watch = OverdueWatch(database, overdue_after=timedelta(minutes=5), clock=lambda: NOW)
    assert [(alarm.code, alarm.count) for alarm in asyncio.run(watch.look())[1]] == [("RECEIPT_FALSE", 2)]
    # Chained at last, and proven: the evidence stays, the alarm ends.
    log.publish(mine)
    service.receipt((mine, 2), size=3)
    assert (service.prove(), service.state(mine)) == (1, "logged")
    assert asyncio.run(watch.look())[1] == ()
    assert service.count(FalseReceipts) == 2


def test_place_of_garbage_is_no_proof(database: Database, network: "Network", log: Published) -> None:
    service = Service(database, network, log)
    mine = event_of(network, "urn:test:mine")
    service.send(mine)
    log.publish(b"no signed event")
    service.receipt((mine, 0), size=1)
    service.prove()
    assert service.state(mine) == "pending"


def test_same_content_signed_anew_counts_as_its_own_resend(
    database: Database, network: "Network", log: Published
) -> None:
    service = Service(database, network, log)
    first, anew = event_of(network, "urn:test:one"), event_of(network, "urn:test:one")
    service.send(anew)
    log.publish(first)
    service.receipt((anew, 0), size=1)
    assert (service.prove(), service.state(anew), service.count(FalseReceipts)) == (1, "logged", 0)


def test_ledger_that_gives_other_bytes_than_it_logged_proves_nothing(
    database: Database, network: "Network", log: Published
) -> None:
    service = Service(database, network, log)
    first, anew = event_of(network, "urn:test:one"), event_of(network, "urn:test:one")
    second = event_of(network, "urn:test:two")
    service.send(anew, second)
    log.publish(first, second)
    log.signed_events[0] = anew
    log.witnessed_size = 2
    service.receipt((anew, 0), (second, 1), size=2)
    with pytest.raises(VerificationError, match="other bytes"):
        service.prove()
    assert service.count(OpenReceipts) == 1, "the other is proven all the same"


@pytest.mark.parametrize("damage", ["entry", "tile", "missing", "short"])
def test_files_that_are_not_the_logs_prove_nothing(
    database: Database, network: "Network", log: Published, damage: str
) -> None:
    service = Service(database, network, log)
    events = [event_of(network, f"urn:test:{number}") for number in range(3)]
    service.send(*events)
    log.publish(*events)
    service.receipt((events[1], 1), size=3)
    bundle, tile = EntryBundle(0, 3).path, "tile/0/000.p/3"
    match damage:
        case "entry":
            log.files[bundle] = encode_entry_bundle([bytes(65)] * 3)
        case "tile":
            log.files[tile] = bytes(96)
        case "missing":
            del log.files[bundle]
        case "short":
            log.files[bundle] = encode_entry_bundle([bytes(65)])
    with pytest.raises(MedtrailError):
        service.prove()
    assert (service.state(events[1]), service.count(OpenReceipts)) == ("logged", 1)


def test_quorum_is_counted_here_and_a_later_checkpoint_makes_good_for_earlier_ones(
    database: Database, network: "Network", log: Published
) -> None:
    service = Service(database, network, log, POLICY)
    early, seen, late = (event_of(network, f"urn:test:{name}") for name in ("early", "seen", "late"))
    service.send(early, seen, late)
    service.receipt((early, 0), size=1)
    assert service.count(Outbox) == 2  # the sending ends without the quorum
    service.receipt((seen, 1), size=2, witnessed=True)
    service.receipt((late, 2), size=3)
    assert [service.witnessed(each) for each in (early, seen, late)] == [False, True, False]
    log.publish(early, seen, late)
    service.prove()
    assert service.count(OpenReceipts) == 2
    log.witnessed_size = 2
    service.prove()
    assert [service.witnessed(each) for each in (early, seen, late)] == [True, True, False]
    watch = OverdueWatch(database, overdue_after=timedelta(minutes=5), clock=lambda: NOW + timedelta(minutes=6))
    assert [(alarm.code, alarm.count) for alarm in asyncio.run(watch.look())[1]] == [("WITNESS_OVERDUE", 1)]


def test_prover_goes_on_when_files_cannot_be_had(
    database: Database, network: "Network", log: Published, eventually: "Eventually"
) -> None:
    service = Service(database, network, log)
    mine = event_of(network, "urn:test:mine")
    service.send(mine)
    log.publish(mine)
    service.receipt((mine, 0), size=1)
    files, log.files = log.files, {}
    asked: list[str] = []

    def fetch(path: str) -> bytes:
        asked.append(path)
        return log.fetch(path)

    async def story() -> None:
        prover = ReceiptProver(
            database,
            log,
            gln=network["maker"].gln,
            fetch_file=fetch,
            fetch_event=log.event_at,
            on_false=lambda: None,
        )
        running = asyncio.create_task(prover.run())
        await eventually(lambda: bool(asked))
        log.files, log.witnessed_size = files, 1

        async def closed() -> bool:
            return await database.read(lambda c: c.execute(select(OpenReceipts)).first()) is None

        await eventually(closed)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = {"/log/checkpoint": b"three lines", "/log/large": bytes(200_000)}.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent."""


def test_published_files_come_over_http_within_a_limit() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        files = PublishedFiles(f"http://127.0.0.1:{server.server_port}/log/")
        assert files("checkpoint") == b"three lines"
        for path in ("tile/0/000", "large"):
            with pytest.raises(UnavailableError):
                files(path)
        files.close()
        server.shutdown()
        thread.join()


# --- what waits ---


def test_silence_has_an_age_and_becomes_an_alarm(database: Database, network: "Network", log: Published) -> None:
    service = Service(database, network, log)
    service.send(event_of(network, "urn:test:1"), event_of(network, "urn:test:2"))
    to = network["pharmacy"].gln
    database.write_now(lambda c: outbox.enqueue_outgoing(c, to=to, kind=MessageKind.ADVICE, data=b"x", now=NOW))
    for minutes, codes in ((4, []), (5, ["RECEIPT_OVERDUE", "ACK_OVERDUE"])):
        watch = OverdueWatch(
            database,
            overdue_after=timedelta(minutes=5),
            clock=lambda: NOW + timedelta(minutes=minutes),  # noqa: B023
        )
        waiting, alarms = asyncio.run(watch.look())
        assert (waiting.events.count, waiting.events.since, waiting.messages.count) == (2, NOW, 1)
        assert [alarm.code for alarm in alarms] == codes


def test_alarm_is_told_once_and_again_whenever_its_age_has_doubled(database: Database, network: "Network") -> None:
    def alarm(subject: str = "") -> Alarm:
        return Alarm("RECEIPT_OVERDUE", "", 1, NOW, subject)

    doubling = Doubling()
    told = [m for m in range(5, 45) if doubling.due([alarm()], now=NOW + timedelta(minutes=m))]
    assert told == [5, 10, 20, 40]
    assert doubling.due([alarm(), alarm("b")], now=NOW + timedelta(minutes=41)) == (alarm("b"),)
    assert doubling.due([], now=NOW + timedelta(minutes=42)) == ()
    assert doubling.due([alarm()], now=NOW + timedelta(minutes=43)) == (alarm(),)


def test_watch_logs_what_is_overdue_and_survives_a_database_that_fails(
    database: Database, network: "Network", log: Published, eventually: "Eventually", tmp_path: Path
) -> None:
    service = Service(database, network, log)
    service.send(event_of(network, "urn:test:1"))
    looks: list[int] = []

    def clock() -> datetime:
        looks.append(1)
        return NOW + timedelta(hours=1)

    watch = OverdueWatch(database, overdue_after=timedelta(minutes=5), clock=clock)
    assert [told.code for told in asyncio.run(watch.tell())] == ["RECEIPT_OVERDUE"]
    assert asyncio.run(watch.tell()) == ()

    async def story() -> None:
        (tmp_path / "folder").mkdir()
        for one in (database, Database(tmp_path / "folder")):
            running = asyncio.create_task(OverdueWatch(one, overdue_after=timedelta(minutes=5), clock=clock).run())
            before = len(looks)
            await eventually(lambda: len(looks) > before or one is not database)  # noqa: B023
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            one.close() if one is not database else None

    asyncio.run(story())


def test_what_came_in_is_forgotten_when_it_cannot_come_again(database: Database) -> None:
    def fill(connection: Connection) -> None:
        for days in range(50, 70):
            then = microseconds(NOW - timedelta(days=days))
            sha256 = bytes([days] * 32)
            connection.execute(
                insert(InboxMessages).values(sha256=sha256, sender="", kind="receipt", receive_time_us=then)
            )
            connection.execute(
                insert(InboxPoison).values(
                    subject="s", sha256=sha256, size=1, data=b"x", code="C", message="m", receive_time_us=then
                )
            )

    database.write_now(fill)
    assert database.write_now(lambda c: inbox.prune(c, now=NOW)) == 9
    assert database.write_now(lambda c: inbox.prune(c, now=NOW)) == 0
    for table in (InboxMessages, InboxPoison):
        left = database.read_now(lambda c, table=table: c.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[misc]
        assert left == 11


def test_database_of_an_older_version_gets_what_it_lacks(tmp_path: Path, network: "Network") -> None:
    database = Database(tmp_path / "old.db")
    database.write_now(tables.prepare)

    def make_old(connection: Connection) -> None:
        connection.execute(text("DROP INDEX inbox_message_age"))
        connection.execute(text("DROP TABLE open_receipt"))
        connection.execute(text("ALTER TABLE outgoing DROP COLUMN enqueue_time_us"))

    database.write_now(make_old)
    database.write_now(tables.prepare)
    names = database.read_now(lambda c: {column["name"] for column in inspect(c).get_columns("outgoing")})
    assert "enqueue_time_us" in names
    to = Gln(str(network["pharmacy"].gln))
    assert database.write_now(lambda c: outbox.enqueue_outgoing(c, to=to, kind=MessageKind.ADVICE, data=b"x"))
    assert database.read_now(lambda c: [each["name"] for each in inspect(c).get_indexes("inbox_message")])
    database.close()
