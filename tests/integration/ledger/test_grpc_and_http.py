import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.checkpoint import open_checkpoint
from medtrail.codec import encode_batch, to_timestamp
from medtrail.errors import AuthenticationError, MalformedError, MedtrailError, NotFoundError
from medtrail.event import PackLevel, PayloadType, Product
from medtrail.gs1 import Gtin
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, verify_consistency, verify_inclusion
from medtrail.note import parse_vkey
from medtrail.runtime.client import connect
from medtrail.tlog_proof import parse_proof, verify_proof

if TYPE_CHECKING:
    from tests.conftest import Eventually, Network
    from tests.integration.ledger.conftest import Events, LogHome, RunLedger, Running

ORIGIN = "ledger.example/test"
EPC = "https://id.gs1.org/01/00300010123455/21/{}"


class Caller:
    """Stubs of one caller, and what it checks every answer with."""

    def __init__(self, channel: Any, home: "LogHome") -> None:
        self.ledger = ledger_pb2_grpc.LedgerServiceStub(channel)
        self.trust = trust_pb2_grpc.TrustServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.home = home

    def check(self, item: Any, checkpoint: bytes) -> None:
        signed = open_checkpoint(checkpoint, origin=ORIGIN, verifiers=[parse_vkey(self.home.vkey)]).checkpoint
        entry = log_entry(hashlib.sha256(item.signed_event).digest(), item.key_list_sha256)
        verify_inclusion(
            item.inclusion_proof,
            leaf_hash=hash_leaf(entry),
            leaf_index=item.leaf_index,
            tree_size=signed.size,
            root_hash=signed.root_hash,
        )


@pytest.fixture
def asking(
    run_ledger: "RunLedger", log_home: "LogHome", events: "Events", network: "Network", eventually: "Eventually"
) -> Callable[[Callable[[Caller, "Running"], Awaitable[None]]], None]:
    """Runs a scenario as the distributor, over a log with a product and 30 commissioned packs, two of them received."""

    def run(scenario: Callable[[Caller, "Running"], Awaitable[None]]) -> None:
        async def go() -> None:
            async with run_ledger() as running:
                product = events.sign(Product(Gtin("00300010123455"), PackLevel.PACK, "Aspirin"))
                batch = [events.sign(events.commission(serial)) for serial in range(100, 130)]
                await running.publish("maker", encode_batch([product, *batch]))
                await running.checkpoint_of(running.enrolled_size + 31)
                server = running.ledger.server
                channel = connect(
                    server.address, folder=network["distributor"], audience=network["ledger"].gln, server="ledger"
                )
                async with channel:
                    caller = Caller(channel, log_home)
                    await eventually(running.ledger.projected)
                    await scenario(caller, running)

        asyncio.run(go())

    return run


Asking = Callable[[Callable[[Caller, "Running"], Awaitable[None]]], None]


def test_trust_entries_come_in_pages_with_proofs(asking: Asking) -> None:
    async def scenario(caller: Caller, _running: "Running") -> None:
        request = trust_pb2.ListTrustEntriesRequest(page_size=3)
        found = []
        while True:
            answer = await caller.trust.ListTrustEntries(request)
            for entry in answer.entries:
                caller.check(entry, answer.checkpoint)
                found.append(entry.leaf_index)
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        assert found == list(range(8))
        later = await caller.trust.ListTrustEntries(trust_pb2.ListTrustEntriesRequest(start_index=6))
        assert [entry.leaf_index for entry in later.entries] == [6, 7]
        for index in (2**63, 2**64 - 1):
            behind = await caller.trust.ListTrustEntries(trust_pb2.ListTrustEntriesRequest(start_index=index))
            assert not behind.entries

    asking(scenario)


def test_page_token_of_another_question_is_refused(asking: Asking) -> None:
    async def scenario(caller: Caller, _running: "Running") -> None:
        answer = await caller.trust.ListTrustEntries(trust_pb2.ListTrustEntriesRequest(page_size=3))
        for token in (answer.next_page_token, "nonsense"):
            with pytest.raises(MalformedError) as caught:
                await caller.ledger.ListEvents(ledger_pb2.ListEventsRequest(page_token=token))
            assert (caught.value.code, caught.value.field) == ("PAGE_TOKEN_INVALID", "page_token")

    asking(scenario)


def test_inclusion_by_index_id_and_hash_is_one_proof(asking: Asking) -> None:
    async def scenario(caller: Caller, _running: "Running") -> None:
        by_index = await caller.ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(leaf_index=20))
        caller.check(by_index, by_index.checkpoint)
        digest = hashlib.sha256(by_index.signed_event).digest()
        by_hash = await caller.ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(signed_event_sha256=digest))
        assert by_hash.leaf_index == 20
        proof = parse_proof(by_index.tlog_proof)
        entry = log_entry(digest, proof.extra or b"")
        verify_proof(proof, entry=entry, origin=ORIGIN, verifiers=[parse_vkey(caller.home.vkey)])
        event_id = "urn:uuid:00000000-0000-4000-8000-000000000001"
        by_id = await caller.ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(event_id=event_id))
        assert by_id.leaf_index == 8

    asking(scenario)


WRONG_QUESTIONS: list[tuple[Any, type[MedtrailError], str | None, str]] = [
    (ledger_pb2.GetInclusionProofRequest(leaf_index=10**6), NotFoundError, "ENTRY_UNKNOWN", "leaf_index"),
    (ledger_pb2.GetInclusionProofRequest(leaf_index=2**64 - 1), NotFoundError, "ENTRY_UNKNOWN", "leaf_index"),
    (ledger_pb2.GetInclusionProofRequest(event_id="urn:x"), NotFoundError, "EVENT_UNKNOWN", "event_id"),
    (
        ledger_pb2.GetInclusionProofRequest(signed_event_sha256=bytes(32)),
        NotFoundError,
        "EVENT_UNKNOWN",
        "signed_event_sha256",
    ),
    (
        ledger_pb2.GetInclusionProofRequest(signed_event_sha256=b"1"),
        MalformedError,
        "HASH_LENGTH",
        "signed_event_sha256",
    ),
    (ledger_pb2.GetInclusionProofRequest(), MalformedError, "FIELD_MISSING", "event"),
    (ledger_pb2.GetConsistencyProofRequest(old_size=0), MalformedError, "TREE_SIZE_INVALID", "old_size"),
    (ledger_pb2.GetConsistencyProofRequest(old_size=2**40), MalformedError, "TREE_SIZE_INVALID", "old_size"),
    (ledger_pb2.ListEventsRequest(start_index=2**64 - 1, page_size=-1), MalformedError, "PAGE_SIZE_INVALID",
     "page_size"),
    (ledger_pb2.ListEventsRequest(payload_types=["x"] * 11), MalformedError, "TOO_MANY", "payload_types"),
    (ledger_pb2.ListEventsRequest(actor="1"), MalformedError, None, "actor"),
    (ledger_pb2.VerifyPackRequest(epc="(01)00300010123455"), MalformedError, "EPC_NOT_PACK", "epc"),
    (ledger_pb2.VerifyPackRequest(epc=""), MalformedError, None, "epc"),
    (ledger_pb2.VerifyPackRequest(epc=EPC.format(100), expiry="31.12.26"), MalformedError, "DATE_WRONG", "expiry"),
    (ledger_pb2.TracePackRequest(epc=EPC.format(999)), NotFoundError, "UNIT_UNKNOWN", "epc"),
    (ledger_pb2.TracePackRequest(epc=""), MalformedError, None, "epc"),
    (ledger_pb2.TraceLotRequest(gtin="123", lot="A"), MalformedError, None, "gtin"),
    (ledger_pb2.TraceLotRequest(gtin="00300010123455", lot=""), MalformedError, None, "lot"),
]  # fmt: skip


def test_wrong_questions_get_a_code_and_the_field(asking: Asking) -> None:
    async def scenario(caller: Caller, _running: "Running") -> None:
        for question, kind, code, field in WRONG_QUESTIONS:
            method = getattr(caller.ledger, type(question).__name__.removesuffix("Request"))
            with pytest.raises(kind) as caught:
                await method(question)
            assert caught.value.field == field, question
            assert code in {None, caught.value.code}, question

    asking(scenario)


def test_consistency_leads_from_any_older_tree(asking: Asking) -> None:
    async def scenario(caller: Caller, running: "Running") -> None:
        rows = dict(await running.checkpoints())
        newest = running.ledger.feed.newest
        for size, root in rows.items():
            answer = await caller.ledger.GetConsistencyProof(ledger_pb2.GetConsistencyProofRequest(old_size=size))
            verify_consistency(
                answer.consistency_proof, size1=size, size2=answer.new_size, root1=root, root2=newest.root_hash
            )
        assert len(rows) >= 2

    asking(scenario)


def test_checkpoints_are_watched_as_they_come(asking: Asking, events: "Events") -> None:
    async def scenario(caller: Caller, running: "Running") -> None:
        newest = await caller.ledger.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
        watch = caller.ledger.WatchCheckpoints(ledger_pb2.WatchCheckpointsRequest())
        first = await anext(aiter(watch))
        assert first.checkpoint == newest.checkpoint
        await running.publish("maker", encode_batch([events.sign(events.commission(500))]))
        second = await anext(aiter(watch))
        size = open_checkpoint(second.checkpoint, origin=ORIGIN, verifiers=[parse_vkey(caller.home.vkey)])
        assert size.checkpoint.size == running.enrolled_size + 32
        watch.cancel()

    asking(scenario)


def test_events_are_listed_by_index_type_unit_actor_and_step(asking: Asking) -> None:
    async def scenario(caller: Caller, _running: "Running") -> None:
        async def listed(**wanted: Any) -> list[int]:
            answer = await caller.ledger.ListEvents(ledger_pb2.ListEventsRequest(**wanted))
            for event in answer.events:
                caller.check(event, answer.checkpoint)
            return [event.leaf_index for event in answer.events]

        assert await listed(start_index=36) == [36, 37, 38]
        assert await listed(start_index=2**64 - 1) == await listed(start_index=2**63, biz_step="commissioning") == []
        assert await listed(payload_types=[PayloadType.PRODUCT]) == [8]
        assert await listed(epc=EPC.format(105)) == [14]
        assert len(await listed(actor="0300011111116", biz_step="commissioning")) == 30
        assert await listed(epc="urn:other:1") == []
        first = await caller.ledger.ListEvents(ledger_pb2.ListEventsRequest(biz_step="commissioning", page_size=20))
        second = await caller.ledger.ListEvents(
            ledger_pb2.ListEventsRequest(biz_step="commissioning", page_size=20, page_token=first.next_page_token)
        )
        assert [event.leaf_index for event in (*first.events, *second.events)] == list(range(9, 39))
        assert not second.next_page_token

    asking(scenario)


def test_pack_is_verified_and_traced_with_proofs(asking: Asking, events: "Events") -> None:
    async def scenario(caller: Caller, running: "Running") -> None:
        request = ledger_pb2.VerifyPackRequest(
            epc=EPC.format(100), judge_time=to_timestamp(events.commission(1).event_time)
        )
        answer = await caller.ledger.VerifyPack(request)
        assert answer.verdict.tree_size == running.enrolled_size + 31
        assert answer.state.maker == "0300011111116"
        stored = [events.sign(events.observe(100)) for _ in range(3)]
        await running.publish("maker", encode_batch(stored))
        await running.checkpoint_of(running.enrolled_size + 34)
        while True:
            traced = await caller.ledger.TracePack(ledger_pb2.TracePackRequest(epc=EPC.format(100), page_size=2))
            if traced.next_page_token:
                break
        more = await caller.ledger.TracePack(
            ledger_pb2.TracePackRequest(epc=EPC.format(100), page_size=2, page_token=traced.next_page_token)
        )
        for page in (traced, more):
            for event in page.events:
                caller.check(event, page.checkpoint)
        assert len(traced.events) + len(more.events) >= 3
        with pytest.raises(NotFoundError) as caught:
            await caller.ledger.TraceLot(ledger_pb2.TraceLotRequest(gtin="00300010123455", lot="NONE"))
        assert caught.value.code == "LOT_UNKNOWN"

    asking(scenario)


def test_health_tells_of_the_parts(asking: Asking, eventually: "Eventually") -> None:
    async def scenario(caller: Caller, _running: "Running") -> None:
        for service in ("", "ledger.Sequencer", "ledger.Publisher", "medtrail.api.ledger.v1.LedgerService"):

            async def serving(service: str = service) -> bool:
                answer = await caller.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            await eventually(serving)

    asking(scenario)


def test_public_files_are_served_and_nothing_else(asking: Asking) -> None:
    async def scenario(_caller: Caller, running: "Running") -> None:
        async with httpx.AsyncClient(base_url=f"http://{running.ledger.public_address}", timeout=60) as client:
            checkpoint = await client.get("/checkpoint")
            assert checkpoint.content == running.ledger.feed.newest.note
            assert checkpoint.headers["cache-control"] == "public, max-age=1"
            assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
            tile = await client.get(f"/tile/0/000.p/{running.enrolled_size + 31}")
            assert len(tile.content) == 32 * (running.enrolled_size + 31)
            assert "immutable" in tile.headers["cache-control"]
            assert tile.headers["content-type"] == "application/octet-stream"
            for path in (
                "/", "/tile/0/001", "/tile/../../ledger.db", "/tile/%2e%2e/%2e%2e/ledger.db", "/ledger.db",
                "/tile/0/000.p/0", "/tile/entries/..%2f..%2f..%2fledger.db", "/tile/0/000.p/256",
            ):  # fmt: skip
                answer = await client.get(path)
                assert answer.status_code == 404, path
                assert "immutable" not in answer.headers.get("cache-control", "")
            assert (await client.post("/checkpoint")).status_code == 405

    asking(scenario)


def test_stranger_learns_nothing(asking: Asking, network: "Network") -> None:
    async def scenario(_caller: Caller, running: "Running") -> None:
        # A token for another callee opens no door here.
        channel = connect(
            running.ledger.server.address, folder=network["ledger"], audience=network["maker"].gln, server="ledger"
        )
        async with channel:
            with pytest.raises(AuthenticationError):
                await ledger_pb2_grpc.LedgerServiceStub(channel).GetCheckpoint(ledger_pb2.GetCheckpointRequest())

    asking(scenario)
