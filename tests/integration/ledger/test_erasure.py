"""Erasure: what is erased is gone from the files, answered as erased by whom and why, and the log stays whole."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, text

from ledger.bootstrap import Ledger
from ledger.commands import main
from ledger.projections.projector import PROJECTION_NAME
from ledger.storage.erasure_store import Outcome
from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.checkpoint import open_checkpoint
from medtrail.codec import encode_batch
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.event import ErasureConsent, ErasureOrder, PackLevel, Product, Recall, RecallScope, Statement
from medtrail.gs1 import Gtin
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, verify_inclusion
from medtrail.note import parse_vkey
from medtrail.runtime.client import connect
from medtrail.runtime.database import Database

if TYPE_CHECKING:
    from tests.conftest import Eventually, Network
    from tests.integration.ledger.conftest import CheckLog, Events, LogHome, RunLedger, Running

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
    return [path.name for path in home.root.rglob("*") if path.is_file() and marker in path.read_bytes()]


def _refusals(connection: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(text("SELECT code, signed_event, event_id FROM refusal"))]


def _projection(home: "LogHome") -> dict[str, list[tuple[Any, ...]]]:
    database = Database(home.root / PROJECTION_NAME)
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
            await scene.say(events.sign(end))
            assert (await scene.ask(signed[statement])).code == ""

    play(scenario)
