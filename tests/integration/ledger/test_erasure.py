"""Erasure: what is erased is gone from the files, answered as erased by whom and why, and the log stays whole."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, text

from ledger.bootstrap import Ledger
from ledger.commands import main
from ledger.projections.erasures import ProjectedErasures
from ledger.projections.projector import PROJECTION_NAME, Projector, open_projection
from ledger.projector_process import read_chained
from ledger.storage import erasure_store
from ledger.storage.erasure_store import ErasedEntry, Outcome
from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.checkpoint import open_checkpoint
from medtrail.codec import decode_payload, decode_signed_event, encode_batch
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.errors import UnavailableError
from medtrail.event import ErasureConsent, ErasureOrder, PackLevel, Product, Recall, RecallScope, Statement
from medtrail.gs1 import Gtin
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, verify_inclusion
from medtrail.note import parse_vkey
from medtrail.runtime.client import connect
from medtrail.runtime.database import Database
from tests.support.files import files_holding

if TYPE_CHECKING:
    from tests.conftest import Eventually, Network
    from tests.integration.ledger.conftest import CheckLog, Events, LogHome, NewLog, OfflineLog, RunLedger, Running

ORIGIN = "ledger.example/test"
GTIN = Gtin("00300010123455")
MARKER = "urn:example:marker-of-a-patient"
EPC = "https://id.gs1.org/01/00300010123455/21/{}"
WHEN = datetime(2026, 1, 5, 12, tzinfo=UTC)
REASON = "the patient asked for it"


def digest(signed_event: bytes) -> bytes:
    return hashlib.sha256(signed_event).digest()


class Scene:
    """A running ledger, and what is said to it."""

    def __init__(self, running: "Running", events: "Events", network: "Network", eventually: "Eventually") -> None:
        self.running, self.events, self.network, self.eventually = running, events, network, eventually
        self.size = running.enrolled_size

    @property
    def ledger(self) -> Ledger:
        return self.running.ledger

    async def say(self, *signed: bytes, by: str = "maker", new: int | None = None) -> int:
        """Publish signed events and wait until a checkpoint covers them; return the index of the first."""
        first = self.size
        stored = await self.running.publish(by, encode_batch(list(signed)))
        await self.running.integrated(stored.seq)
        self.size += len(signed) if new is None else new
        await self.running.checkpoint_of(self.size)
        return first

    def order(self, target: bytes, *, by: str = "maker") -> bytes:
        return self.events.sign(ErasureOrder(digest(target), REASON), by=by)

    async def consent(self, target: bytes) -> int:
        authority = self.network.authority
        return await self.say(authority.sign(ErasureConsent(digest(target), "a court says so")), by="authority")

    async def outcome(self, order_index: int) -> Outcome:
        found: list[Outcome] = []

        async def decided() -> bool:
            found[:] = await self.ledger.reader.erasure_outcomes(start=order_index, limit=1)
            return bool(found) and found[0].order_index == order_index

        await self.eventually(decided)
        return found[0]

    async def ask(self, target: bytes, *, by: str = "maker") -> Outcome:
        return await self.outcome(await self.say(self.order(target, by=by), by=by))


Play = Callable[[Callable[[Scene], Awaitable[None]]], None]


@pytest.fixture
def play(  # noqa: PLR0917 - a fixture's arguments have names
    run_ledger: "RunLedger",
    events: "Events",
    network: "Network",
    eventually: "Eventually",
    log_home: "LogHome",
    check_log: "CheckLog",
) -> Play:
    """Runs a scenario over a new log, and checks the log afterwards."""

    def run(scenario: Callable[[Scene], Awaitable[None]]) -> None:
        async def go() -> None:
            async with run_ledger() as running:
                await scenario(Scene(running, events, network, eventually))

        asyncio.run(go())
        check_log(log_home.root)

    return run


def aggregation(*children: str, parent: str) -> EpcisEvent:
    event = EpcisEvent(EventType.AGGREGATION, event_time=WHEN, event_time_zone_offset="+00:00", action=Action.ADD)
    return replace(event, biz_step="packing", parent_id=parent, child_epcs=children)


def recall(*, lot: str = "", serials: tuple[str, ...] = (), drill: bool = False, ends: str = "") -> Recall:
    scope = RecallScope(GTIN, lot, serials)
    return Recall("R-1", "retail", "why", "stop", WHEN, (scope,), drill=drill, terminated_recall_id=ends)


def test_erased_event_is_gone_from_the_files_and_answered_as_erased_by_whom_and_why(
    play: Play, events: "Events", log_home: "LogHome"
) -> None:
    gone = events.sign(replace(events.commission(1), certification_info=(MARKER,)), event_id=MARKER)
    kept = events.sign(events.observe(1))

    async def scenario(scene: Scene) -> None:
        index = await scene.say(gone, kept)
        consent_index = await scene.consent(gone)
        outcome = await scene.ask(gone)
        erased = outcome.erased
        assert erased is not None
        assert (erased.leaf_index, erased.consent_index, erased.reason) == (index, consent_index, REASON)
        assert erased.signer_gln == str(scene.running.gln("maker"))
        await scene.eventually(lambda: not _holding(log_home, MARKER.encode()))
        await _answers_as_erased(scene, log_home, index, outcome.order_index)
        # The same bytes are known, other bytes with the id are refused, and neither is chained.
        await scene.say(gone, new=0)
        await scene.say(events.sign(events.observe(9), event_id=MARKER), new=0)
        (refused,) = await scene.ledger.database.read(_refusals)
        assert refused == ("EVENT_ERASED", b"", "")
        again = await scene.ask(gone)
        assert again.code == "ERASURE_DONE"

    play(scenario)
    before = _projection(log_home)
    command = ["rebuild", "--dir", str(log_home.root)]
    assert main([*command, "--database", log_home.database_url] if log_home.database_url else command) == 0
    assert _projection(log_home) == before


def _holding(home: "LogHome", marker: bytes) -> list[str]:
    # The stream keeps its messages for fourteen days; a PostgreSQL server's files are not ours.
    return files_holding(home.root, marker)


def _refusals(connection: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(text("SELECT code, signed_event, event_id FROM refusal"))]


def _projection(home: "LogHome") -> dict[str, list[tuple[Any, ...]]]:
    return _tables(home.root)


def _tables(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    database = Database(folder / PROJECTION_NAME)
    try:

        def read(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
            names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
            return {
                name: sorted(tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}"))  # noqa: S608
                for name in names
            }

        return database.read_now(read)
    finally:
        database.close()


async def _answers_as_erased(scene: Scene, home: "LogHome", index: int, order_index: int) -> None:
    folder = scene.network["distributor"]
    audience = scene.ledger.folder.gln
    channel = connect(scene.ledger.server.address, folder=folder, audience=audience, server="ledger")
    try:
        stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        await scene.eventually(scene.ledger.projected)
        single = await stub.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(event_id=MARKER))
        listed = await stub.ListEvents(ledger_pb2.ListEventsRequest(start_index=index, page_size=1))
        trace = await stub.TracePack(ledger_pb2.TracePackRequest(epc=EPC.format(1)))
        outcomes = await stub.ListErasures(ledger_pb2.ListErasuresRequest())
        assert [event.leaf_index for event in trace.events] == [index + 1, index]
        for found, checkpoint in (
            (single, single.checkpoint), (listed.events[0], listed.checkpoint), (trace.events[1], trace.checkpoint)
        ):  # fmt: skip
            assert found.signed_event == b""
            assert (found.leaf_index, found.erased.gln) == (index, str(scene.running.gln("maker")))
            assert (found.erased.reason, found.erased.order_index) == (REASON, order_index)
            signed = open_checkpoint(checkpoint, origin=ORIGIN, verifiers=[parse_vkey(home.vkey)]).checkpoint
            verify_inclusion(
                found.inclusion_proof,
                leaf_hash=hash_leaf(log_entry(found.signed_event_sha256, found.key_list_sha256)),
                leaf_index=index,
                tree_size=signed.size,
                root_hash=signed.root_hash,
            )
        (outcome,) = outcomes.outcomes
        assert (outcome.leaf_index, outcome.code, outcome.order.leaf_index) == (index, "", order_index)
    finally:
        await channel.close()


def test_unit_of_which_all_is_erased_has_a_history_of_erased_entries(play: Play, events: "Events") -> None:
    gone = events.sign(events.commission(5))

    async def scenario(scene: Scene) -> None:
        index = await scene.say(gone)
        await scene.consent(gone)
        await scene.ask(gone)

        async def forgotten() -> bool:
            trace = await scene.ledger._queries.trace_unit("/01/00300010123455/21/5")
            return (trace.steps, trace.belief, trace.erased) == ((), None, (index,))

        await scene.eventually(forgotten)

    play(scenario)


def test_refuses_orders_that_may_not_be_carried_out(play: Play, events: "Events") -> None:
    young = events.sign(events.commission(1))
    rule = events.sign(replace(recall(serials=("77",)), drill=True))

    async def scenario(scene: Scene) -> None:
        await scene.say(young, rule)
        order = scene.order(rule)
        cases = [
            (young, "maker", "RETENTION_NOT_OVER"),
            (young, "distributor", "ERASURE_NOT_OWNER"),
            (b"never seen", "maker", "ERASURE_TARGET_UNKNOWN"),
            (rule, "maker", "ERASURE_FORBIDDEN"),
            (order, "maker", "ERASURE_FORBIDDEN"),
        ]
        first = await scene.say(order)
        assert (await scene.outcome(first)).code == "ERASURE_FORBIDDEN"
        for target, by, code in cases:
            outcome = await scene.ask(target, by=by)
            assert (outcome.code, outcome.erased) == (code, None)
            assert outcome.message
        # A consent that comes after the order does not mend it; the next order finds it.
        await scene.consent(young)
        assert (await scene.ask(young)).code == ""

    play(scenario)


def test_old_event_needs_no_consent(play: Play, events: "Events") -> None:
    old = events.sign(events.commission(1))

    async def scenario(scene: Scene) -> None:
        await scene.say(old)
        scene.ledger.eraser._retention = timedelta(0)  # as if six years had passed
        outcome = await scene.ask(old)
        assert outcome.erased is not None
        assert outcome.erased.consent_index is None

    play(scenario)


@pytest.mark.parametrize(
    ("statement", "scope", "code"),
    [
        ("commission", {"serials": ("1",)}, "UNDER_RECALL"),
        ("commission", {"serials": ("2",)}, ""),
        ("commission", {"serials": ("1",), "drill": True}, ""),
        ("case", {"serials": ("1",)}, "UNDER_RECALL"),
        ("pallet", {"serials": ("1",)}, "UNDER_RECALL"),
        ("beside", {"serials": ("1",)}, "UNDER_RECALL"),
        ("product", {"serials": ("1",)}, "UNDER_RECALL"),
    ],
)
def test_refuses_what_names_holds_or_is_held_with_goods_under_recall(
    play: Play, events: "Events", statement: str, scope: dict[str, Any], code: str
) -> None:
    case, pallet = "urn:epc:id:sscc:030001.41234567890", "urn:epc:id:sscc:030001.41234567891"
    statements: dict[str, Statement] = {
        "product": Product(GTIN, PackLevel.PACK, "Epcistra"),
        "commission": events.commission(1),
        "beside": events.commission(3),
        "case": aggregation(EPC.format(1), EPC.format(3), parent=case),
        "pallet": aggregation(case, parent=pallet),
    }
    if statement == "commission":
        # Alone: in its case it would be held with the other.
        statements = {"commission": events.commission(1)}
    signed = {name: events.sign(said) for name, said in statements.items()}

    async def scenario(scene: Scene) -> None:
        await scene.say(*signed.values())
        await scene.consent(signed[statement])
        rule = recall(**scope)
        await scene.say(events.sign(rule, event_id="urn:uuid:00000000-0000-4000-8000-00000000beef"))
        assert (await scene.ask(signed[statement])).code == code
        if code:
            end = recall(ends="urn:uuid:00000000-0000-4000-8000-00000000beef")
            await scene.say(events.sign(replace(end, start_time=datetime.max.replace(tzinfo=UTC))))
            assert (await scene.ask(signed[statement])).code == code
            await scene.say(events.sign(end))
            assert (await scene.ask(signed[statement])).code == ""

    play(scenario)


# --- without an exchange ---


@dataclass(frozen=True)
class ErasedLog:
    """A log in which one event is erased by order and consent, or is about to be."""

    log: "OfflineLog"
    event: bytes
    index: int
    order_index: int


@pytest.fixture
def ordered_log(new_log: "NewLog", events: "Events", network: "Network") -> ErasedLog:
    log = new_log()
    event = events.sign(events.commission(1), event_id="urn:x:gone")
    # Refused before its signer is enrolled, and sent again: the same bytes stand twice.
    log.integrate(log.message(encode_batch([event])))
    log.enrol(events)
    other = events.sign(events.observe(1), event_id="urn:x:gone")
    log.integrate(log.message(encode_batch([event])), log.message(encode_batch([other])))
    index = log.rows("SELECT max(leaf_index) FROM entry")[0][0]
    consent = network.authority.sign(ErasureConsent(digest(event), "why"))
    log.integrate(log.message(encode_batch([consent]), sender="4012345000993"))
    log.integrate(log.message(encode_batch([events.sign(ErasureOrder(digest(event), REASON))])))
    return ErasedLog(log, event, index, index + 2)


@pytest.fixture
def erased_log(ordered_log: ErasedLog) -> ErasedLog:
    erase(ordered_log)
    return ordered_log


def erase(ordered: ErasedLog) -> None:
    gone = ErasedEntry(ordered.index, ordered.order_index, ordered.index + 1, "0300011111116", REASON, 1)
    database = ordered.log.database
    database.write_now(partial(erasure_store.erase, erased=gone, sha256=digest(ordered.event)))
    asyncio.run(database.scrub("signed_event", "entry", "refusal"))


def test_log_with_an_erasure_is_clean_and_holds_no_byte_of_the_event(erased_log: ErasedLog) -> None:
    log = erased_log.log
    log.publish()
    report = log.fsck()
    assert (report.findings, report.erasure_count) == ([], 1)
    assert log.rows("SELECT count(*) FROM refusal WHERE signed_event = x''") == [(1,)]
    if not log.home.database_url:
        signed = decode_signed_event(erased_log.event)
        salt = decode_payload(signed.payload_type, signed.payload).header.salt
        assert _holding(log.home, salt) == []


def test_erased_event_comes_again_as_known_and_its_id_is_taken(erased_log: ErasedLog, events: "Events") -> None:
    log = erased_log.log
    other = events.sign(events.commission(1), event_id="urn:x:gone")
    log.integrate(log.message(encode_batch([erased_log.event])), log.message(encode_batch([other])))
    assert log.rows("SELECT leaf_index FROM duplicate") == [(erased_log.index,)]
    assert log.rows("SELECT code, signed_event, event_id FROM refusal WHERE code = 'EVENT_ERASED'") == [
        ("EVENT_ERASED", b"", "")
    ]
    assert log.rows("SELECT max(leaf_index) FROM entry") == [(erased_log.order_index,)]
    log.publish()
    assert log.fsck().findings == []


@pytest.mark.parametrize(
    "change",
    [
        "order_index = order_index - 1",
        "order_index = 3",
        "order_index = 1000",
        "consent_index = 2",
        "consent_index = order_index",
        "reason = 'another'",
        "signer_gln = '0399999999991'",
    ],
)
def test_fsck_finds_an_erasure_that_nobody_ordered(erased_log: ErasedLog, change: str) -> None:
    log = erased_log.log
    log.change(f"UPDATE erasure SET {change}")  # noqa: S608 - a constant
    log.publish()
    assert {finding.code for finding in log.fsck().findings} == {"ERASURE_UNFOUNDED"}


def test_fsck_finds_refusals_emptied_without_an_erasure(new_log: "NewLog", events: "Events") -> None:
    log = new_log()
    log.commission(events, [1])
    log.change("UPDATE refusal SET signed_event = x''")
    log.publish()
    assert {finding.code for finding in log.fsck().findings} == {"REFUSAL_CORRUPT"}


def test_outcomes_come_in_the_order_of_the_orders(erased_log: ErasedLog) -> None:
    database = erased_log.log.database
    for order_index in (3, 500):
        database.write_now(partial(erasure_store.refuse, order_index=order_index, code="X", message="x"))
    found = database.read_now(partial(erasure_store.outcomes, start=0, limit=2))
    assert [(one.order_index, one.code) for one in found] == [(3, "X"), (erased_log.order_index, "")]
    rest = database.read_now(partial(erasure_store.outcomes, start=erased_log.order_index + 1, limit=2))
    assert [one.order_index for one in rest] == [500]


def test_space_of_the_erased_is_freed(erased_log: ErasedLog, eventually: "Eventually") -> None:
    log = erased_log.log
    if log.home.database_url:

        def vacuumed() -> bool:
            return log.rows("SELECT vacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'signed_event'") == [
                (True,)
            ]

        async def wait() -> None:
            await eventually(vacuumed)

        asyncio.run(wait())
    else:
        assert (log.home.root / "ledger.db-wal").stat().st_size == 0


def test_sqlite_that_is_being_read_is_scrubbed_later(tmp_path: Path) -> None:
    database = Database(tmp_path / "some.db")
    try:
        database.write_now(lambda connection: connection.exec_driver_sql("CREATE TABLE t (x)"))
        with closing(sqlite3.connect(tmp_path / "some.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM t").fetchall()
            database.write_now(lambda connection: connection.exec_driver_sql("INSERT INTO t VALUES (1)"))
            with pytest.raises(UnavailableError) as caught:
                asyncio.run(database.scrub("t"))
            assert caught.value.code == "STORAGE_BUSY"
        asyncio.run(database.scrub("t"))
    finally:
        database.close()


def test_eraser_that_starts_anew_knows_the_consents_and_decides_nothing_twice(  # noqa: PLR0917 - fixtures
    run_ledger: "RunLedger",
    events: "Events",
    network: "Network",
    eventually: "Eventually",
    log_home: "LogHome",
    check_log: "CheckLog",
) -> None:
    one, two = events.sign(events.commission(1)), events.sign(events.commission(2))

    async def go() -> None:
        async with run_ledger() as running:
            scene = Scene(running, events, network, eventually)
            await scene.say(one, two)
            await scene.consent(one)
            await scene.consent(two)
            assert (await scene.ask(one)).code == ""
            size = scene.size
        async with run_ledger() as running:
            scene = Scene(running, events, network, eventually)
            scene.size = size
            outcome = await scene.ask(two)
            assert outcome.erased is not None
            assert len(await running.ledger.reader.erasure_outcomes(start=0, limit=10)) == 2

    asyncio.run(go())
    check_log(log_home.root)


def test_projection_that_took_the_event_in_equals_one_made_anew(ordered_log: ErasedLog, tmp_path: Path) -> None:
    log = ordered_log.log

    async def project(folder: Path, *, size: int) -> None:
        projection = open_projection(folder / PROJECTION_NAME)
        try:
            await Projector(projection, partial(read_chained, log.database)).catch_up(size)
            await ProjectedErasures(log.database, projection).catch_up()
        finally:
            projection.close()

    for name in ("behind", "there", "anew"):
        (tmp_path / name).mkdir()
    size = ordered_log.order_index + 1
    # One has not come to the order yet when that is carried out.
    asyncio.run(project(tmp_path / "behind", size=size - 1))
    asyncio.run(project(tmp_path / "there", size=size))
    erase(ordered_log)
    asyncio.run(project(tmp_path / "behind", size=size - 1))
    assert _tables(tmp_path / "behind")["erased_key"] == []
    for name in ("behind", "there", "anew"):
        asyncio.run(project(tmp_path / name, size=size))
    assert _tables(tmp_path / "behind") == _tables(tmp_path / "there") == _tables(tmp_path / "anew")
    assert [leaf for _key, leaf in _tables(tmp_path / "anew")["erased_key"]] == [ordered_log.index]


# A file alone: PostgreSQL vacuums beside its readers.
@pytest.mark.parametrize("database_url", [""], ids=["sqlite"])
def test_erasure_waits_for_a_reader_and_is_carried_out_once(play: Play, events: "Events", log_home: "LogHome") -> None:
    gone = events.sign(replace(events.commission(1), certification_info=(MARKER,)))

    async def scenario(scene: Scene) -> None:
        await scene.say(gone)
        await scene.consent(gone)
        with closing(sqlite3.connect(log_home.root / "ledger.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entry").fetchall()
            assert (await scene.ask(gone)).code == ""
            assert "ledger.db" in {name.removesuffix("-wal") for name in _holding(log_home, MARKER.encode())}
        await scene.eventually(lambda: not _holding(log_home, MARKER.encode()))
        assert len(await scene.ledger.reader.erasure_outcomes(start=0, limit=10)) == 1

    play(scenario)
