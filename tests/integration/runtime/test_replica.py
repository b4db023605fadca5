import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.codec import decode_payload, decode_signed_event, encode_payload, encode_signed_event
from medtrail.envelope import SigningKey, sign
from medtrail.errors import MedtrailError, UnavailableError, VerificationError
from medtrail.event import (
    Event,
    Genesis,
    Header,
    KeyAddition,
    KeyRevocation,
    PackLevel,
    PayloadType,
    Product,
    Recall,
    RecallScope,
    Statement,
    new_event_id,
    new_salt,
)
from medtrail.gs1 import Gtin
from medtrail.item_map import log_entry
from medtrail.merkle import consistency_proof, hash_leaf, inclusion_proof, root_of
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.policy import Policy, parse_policy
from medtrail.runtime.client import connect
from medtrail.runtime.database import Database
from medtrail.runtime.replica import RegistryReplica
from medtrail.runtime.server import Binding, serve
from medtrail.runtime.tables import RUNTIME_METADATA
from medtrail.trust import Registry

if TYPE_CHECKING:
    from medtrail.runtime.folder import OrganisationFolder
    from tests.conftest import Eventually, Network

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LOG = NoteSigner("log.example", bytes(range(32)))
WITNESS = Cosigner("witness.example/w1", bytes(range(32, 64)))
POLICY = parse_policy(f"log {format_vkey(LOG.verifier)}\nwitness w {format_vkey(WITNESS.verifier)}\nquorum w\n")
GTIN = Gtin("00300010123455")
PAGE = 3


class Log:
    """A small honest ledger in memory, which can be told to lie."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.size = 0
        self.published = asyncio.Condition()
        self.signer = LOG
        self.cosigned = False
        self.lie: Callable[[Any], None] = lambda _answer: None

    def add(self, *events: bytes) -> None:
        self.events.extend(events)

    async def publish(self) -> None:
        self.size = len(self.events)
        async with self.published:
            self.published.notify_all()

    def leaf(self, index: int) -> bytes:
        return hash_leaf(log_entry(hashlib.sha256(self.events[index]).digest(), bytes(32)))

    def read(self, nodes: Sequence[tuple[int, int]]) -> list[bytes]:
        return [
            root_of(self.leaf(leaf) for leaf in range(index << level, (index + 1) << level)) for level, index in nodes
        ]

    def checkpoint(self) -> bytes:
        root = root_of(self.leaf(index) for index in range(self.size))
        checkpoint = Checkpoint("log.example", self.size, root)
        line = f"{WITNESS.cosign(checkpoint.text, timestamp=1_700_000_000).line}\n" if self.cosigned else ""
        return sign_checkpoint(checkpoint, self.signer) + line.encode()

    def proof(self, index: int) -> tuple[bytes, ...]:
        return inclusion_proof(self.read, leaf_index=index, tree_size=self.size)

    def _page(self, types: Sequence[str], start: int, token: str) -> tuple[list[int], str]:
        first = int(token) if token else start
        found = [
            index for index in range(first, self.size) if decode_signed_event(self.events[index]).payload_type in types
        ]
        return found[:PAGE], str(found[PAGE]) if len(found) > PAGE else ""

    # --- methods of the contracts ---

    async def ListTrustEntries(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the contract's name
        indices, token = self._page([PayloadType.TRUST], request.start_index, request.page_token)
        entries = [
            trust_pb2.TrustEntry(
                leaf_index=index,
                signed_event=self.events[index],
                key_list_sha256=bytes(32),
                inclusion_proof=self.proof(index),
            )
            for index in indices
        ]
        answer = trust_pb2.ListTrustEntriesResponse(
            entries=entries, next_page_token=token, checkpoint=self.checkpoint()
        )
        self.lie(answer)
        return answer

    async def ListEvents(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the contract's name
        indices, token = self._page(request.payload_types, request.start_index, request.page_token)
        events = [
            ledger_pb2.ProvenEvent(
                leaf_index=index,
                signed_event=self.events[index],
                key_list_sha256=bytes(32),
                inclusion_proof=self.proof(index),
            )
            for index in indices
        ]
        answer = ledger_pb2.ListEventsResponse(events=events, next_page_token=token, checkpoint=self.checkpoint())
        self.lie(answer)
        return answer

    async def GetConsistencyProof(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the contract's name
        proof = consistency_proof(self.read, size1=request.old_size, size2=request.new_size)
        return ledger_pb2.GetConsistencyProofResponse(
            consistency_proof=proof, new_size=request.new_size, checkpoint=self.checkpoint()
        )

    async def WatchCheckpoints(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802 - as above
        while True:
            told = self.checkpoint()
            yield ledger_pb2.WatchCheckpointsResponse(checkpoint=told)
            async with self.published:
                # What was published while the answer went is not waited for.
                await self.published.wait_for(lambda: self.checkpoint() != told)  # noqa: B023


def statement_of(folder: "OrganisationFolder", statement: Statement, *, key: SigningKey | None = None) -> bytes:
    header = Header(new_salt(), folder.gln, "test", 1, new_event_id())
    event = Event(header, statement)
    return encode_signed_event(sign(event.payload_type, encode_payload(event), key or folder.signing_key()))


def product(name: str = "Tablets") -> Product:
    return Product(GTIN, PackLevel.PACK, name)


def recall(number: str = "R-1", *, ends: str = "") -> Recall:
    return Recall(number, "retail", "broken", "return", NOW, (RecallScope(GTIN, "A123"),), terminated_recall_id=ends)


def event_id_of(signed_event: bytes) -> str:
    signed = decode_signed_event(signed_event)
    return decode_payload(signed.payload_type, signed.payload).header.event_id


class World:
    def __init__(self, network: "Network", path: Path, log: Log, channel: grpc.aio.Channel) -> None:
        self.network = network
        self.log = log
        self.channel = channel
        self.database = Database(path)
        self.database.create_tables(RUNTIME_METADATA)
        self.replica = self.new_replica()

    def new_replica(self, channel: grpc.aio.Channel | None = None, *, policy: Policy | None = None) -> RegistryReplica:
        authority = self.network.authority.signing_key().key_id
        return RegistryReplica(
            self.database, channel or self.channel, verifier=LOG.verifier, authority_key_id=authority, policy=policy
        )


def run(network: "Network", registry: Registry, path: Path, story: Callable[[World], Awaitable[None]]) -> None:
    authority = network.authority

    async def main() -> None:
        log = Log()
        log.add(authority.sign(Genesis("log.example", authority.signing_key().key_id, bytes(32))))
        log.add(*(folder.enrolment_bytes() for folder in network.organisations.values()))
        await log.publish()
        bindings = [
            Binding(
                "medtrail.api.trust.v1.TrustService", trust_pb2_grpc.add_TrustServiceServicer_to_server, _part(log, "T")
            ),
            Binding(
                "medtrail.api.ledger.v1.LedgerService",
                ledger_pb2_grpc.add_LedgerServiceServicer_to_server,
                _part(log, "L"),
            ),
        ]
        server = await serve(bindings, folder=network["ledger"], registry=lambda: registry, listen="127.0.0.1:0")
        channel = connect(
            server.address, folder=network["pharmacy"], audience=network["ledger"].gln, server="ledger", attempts=1
        )
        world = World(network, path, log, channel)
        try:
            await story(world)
        finally:
            world.database.close()
            await channel.close()
            await server.stop(0)

    asyncio.run(main())


def _part(log: Log, which: str) -> object:
    """A servicer with the log's methods; what it has not is not implemented."""
    base: Any = trust_pb2_grpc.TrustServiceServicer if which == "T" else ledger_pb2_grpc.LedgerServiceServicer
    servicer = base()
    for name in ("ListTrustEntries", "ListEvents", "GetConsistencyProof", "WatchCheckpoints"):
        if hasattr(base, name):
            setattr(servicer, name, getattr(log, name))
    return servicer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.db"


def test_takes_in_who_is_enrolled_over_several_pages(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        assert world.replica.registry.genesis is None
        await world.replica.catch_up()
        assert world.replica.ready
        await world.replica.wait_ready()
        assert world.replica.registry.organisations() == registry.organisations()
        assert world.replica.checkpoint is not None
        assert world.replica.checkpoint.checkpoint.size == world.log.size

    run(network, registry, path, story)


def test_follows_checkpoints_as_they_are_published(
    network: "Network", registry: Registry, path: Path, eventually: "Eventually"
) -> None:
    async def story(world: World) -> None:
        following = asyncio.create_task(world.replica.run())
        await world.replica.wait_ready()
        for name in ("Tablets", "Better tablets"):
            world.log.add(statement_of(network["maker"], product(name)))
            await world.log.publish()
            await world.replica.wait_until(
                lambda: GTIN in world.replica.products and world.replica.products[GTIN].product.name == name  # noqa: B023
            )
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    run(network, registry, path, story)


def test_takes_in_what_was_published_between_two_answers_without_waiting_for_more(
    network: "Network", registry: Registry, path: Path
) -> None:
    async def story(world: World) -> None:
        log, replica = world.log, world.replica
        before = log.size

        def meanwhile(answer: Any) -> None:
            # After the trust entries, before the products: the second answer is of a larger tree than the first.
            if isinstance(answer, trust_pb2.ListTrustEntriesResponse) and not answer.next_page_token:
                log.lie = lambda _answer: None
                log.add(statement_of(network["maker"], product()))
                log.size = len(log.events)

        log.lie = meanwhile
        await replica.catch_up()
        assert replica.checkpoint is not None
        assert replica.checkpoint.checkpoint.size == before + 1
        assert GTIN not in replica.products
        assert replica._is_news(log.checkpoint()), "known, and not taken in"
        following = asyncio.create_task(replica.run())
        await replica.wait_until(lambda: GTIN in replica.products)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert not replica._is_news(log.checkpoint()), "nothing is left to ask for"
        log.cosigned = True
        assert not replica._is_news(log.checkpoint()), "without a policy a witness tells nothing new"
        witnessed = world.new_replica(policy=POLICY)
        await witnessed.load()
        assert witnessed._is_news(log.checkpoint())

    run(network, registry, path, story)


def test_later_checkpoint_with_the_quorum_covers_all_before_it(
    network: "Network", registry: Registry, path: Path, eventually: "Eventually"
) -> None:
    async def story(world: World) -> None:
        replica = world.new_replica(policy=POLICY)
        assert (replica.witnessed_size, world.replica.witnessed_size) == (0, 0)
        await replica.catch_up()
        assert replica.witnessed_size == 0
        world.log.add(statement_of(network["maker"], product()))
        await world.log.publish()
        await replica.catch_up()
        size = world.log.size
        assert replica.witnessed_size == 0
        # The witness's word comes late, for the same tree: that is news.
        world.log.cosigned = True
        following = asyncio.create_task(replica.run())
        await eventually(lambda: replica.witnessed_size == size)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert replica.checkpoint is not None
        assert len(replica.checkpoint.cosignatures) == 1
        world.log.cosigned = False
        world.log.add(statement_of(network["maker"], product("Better tablets")))
        await world.log.publish()
        await replica.catch_up()
        again = world.new_replica(policy=POLICY)
        await again.load()
        assert (again.witnessed_size, replica.witnessed_size) == (size, size)
        await world.replica.load()
        assert world.replica.witnessed_size == size + 1, "without a policy none is asked for"

    run(network, registry, path, story)


def test_starts_from_its_database_while_the_ledger_is_down(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        world.log.add(statement_of(network["maker"], product()), statement_of(network["maker"], recall()))
        await world.log.publish()
        await world.replica.catch_up()
        nowhere = connect(
            "127.0.0.1:1", folder=network["pharmacy"], audience=network["ledger"].gln, server="ledger", attempts=1
        )
        again = world.new_replica(nowhere)
        with pytest.raises(UnavailableError):
            await again.catch_up()
        await again.load()
        assert again.ready
        assert again.registry.organisations() == registry.organisations()
        assert (dict(again.products), again.all_recalls) == (dict(world.replica.products), world.replica.all_recalls)
        assert again.checkpoint == world.replica.checkpoint
        await nowhere.close()

    run(network, registry, path, story)


def test_keeps_every_recall_statement_also_those_that_end_others(
    network: "Network", registry: Registry, path: Path
) -> None:
    async def story(world: World) -> None:
        first, second = (statement_of(network["maker"], recall(number)) for number in ("R-1", "R-2"))
        world.log.add(first, second)
        await world.log.publish()
        await world.replica.catch_up()
        assert [entry.recall.number for entry in world.replica.all_recalls] == ["R-1", "R-2"]
        world.log.add(
            statement_of(network["maker"], recall("E-1", ends=event_id_of(first))),
            statement_of(network["regulator"], recall("E-2", ends=event_id_of(second))),
            statement_of(network["maker"], recall("E-3", ends="urn:uuid:unknown")),
        )
        await world.log.publish()
        await world.replica.catch_up()
        # Which of them are in force at a moment is for the reader to say (services.custody.recalls).
        assert [entry.recall.number for entry in world.replica.all_recalls] == ["R-1", "R-2", "E-1", "E-2", "E-3"]

    run(network, registry, path, story)


def test_disbelieves_products_of_others_and_of_ended_keys(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        maker = network["maker"]
        stranger, bay = SigningKey.generate(), SigningKey.generate()
        world.log.add(
            statement_of(network["pharmacy"], product("by a pharmacy")),
            network.authority.sign(KeyAddition(maker.gln, bay.key_id, "bay")),
            statement_of(maker, product("by the maker's bay"), key=bay),
            statement_of(maker, product("by nobody"), key=stranger),
            statement_of(maker, product("in another's name"), key=network["repackager"].signing_key()),
            network.authority.sign(KeyRevocation(maker.signing_key().key_id, NOW)),
            statement_of(maker, product("after revocation")),
        )
        await world.log.publish()
        await world.replica.catch_up()
        assert dict(world.replica.products) == {}
        await world.new_replica().load()

    run(network, registry, path, story)


def test_products_of_a_key_stand_after_its_end(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        maker = network["maker"]
        world.log.add(
            statement_of(maker, product()), network.authority.sign(KeyRevocation(maker.signing_key().key_id, NOW))
        )
        await world.log.publish()
        await world.replica.catch_up()
        assert world.replica.products[GTIN].product == product()

    run(network, registry, path, story)


def test_passes_over_what_was_erased_and_forgets_it_when_told(
    network: "Network", registry: Registry, path: Path
) -> None:
    async def story(world: World) -> None:
        maker = network["maker"]
        gone, kept = statement_of(maker, product("gone")), statement_of(maker, product("kept"))
        index = len(world.log.events)
        world.log.add(kept, gone)
        await world.log.publish()
        await world.replica.catch_up()
        assert world.replica.products[GTIN].product == product("gone")

        def erase(answer: Any) -> None:
            for event in getattr(answer, "events", ()):
                if event.leaf_index == index + 1:
                    event.signed_event = b""
                    event.signed_event_sha256 = hashlib.sha256(gone).digest()
                    event.erased.gln = str(maker.gln)

        world.log.lie = erase
        other = world.new_replica()
        await world.replica.forget(index + 1)
        assert world.replica.products[GTIN].product == product("kept")
        await world.replica.forget(index + 1)
        await other.load()
        assert dict(other.products) == dict(world.replica.products)

    run(network, registry, path, story)


def test_erased_entry_must_be_proven_too(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        world.log.add(statement_of(network["maker"], product()))

        def erase(answer: Any) -> None:
            for event in getattr(answer, "events", ()):
                event.signed_event, event.signed_event_sha256 = b"", hashlib.sha256(event.signed_event).digest()
                event.erased.gln = str(network["maker"].gln)

        def forge(answer: Any) -> None:
            erase(answer)
            for event in getattr(answer, "events", ()):
                event.signed_event_sha256 = bytes(32)

        world.log.lie = forge
        await world.log.publish()
        with pytest.raises(VerificationError):
            await world.replica.catch_up()
        world.log.lie = erase
        await world.replica.catch_up()
        assert dict(world.replica.products) == {}

    run(network, registry, path, story)


async def refused(world: World) -> str:
    before = (world.replica.registry, dict(world.replica.products), world.replica.checkpoint)
    with pytest.raises(MedtrailError) as caught:
        await world.replica.catch_up()
    assert isinstance(caught.value, VerificationError)
    assert (world.replica.registry, dict(world.replica.products), world.replica.checkpoint) == before
    return caught.value.code


def test_refuses_log_that_shrank(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        await world.replica.catch_up()
        world.log.events.pop()
        await world.log.publish()
        assert await refused(world) == "CHECKPOINT_SHRANK"

    run(network, registry, path, story)


def test_refuses_second_history_of_the_same_size(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        await world.replica.catch_up()
        world.log.events[-1] = statement_of(network["maker"], product())
        assert await refused(world) == "CHECKPOINT_FORKED"

    run(network, registry, path, story)


def test_refuses_rewritten_history_that_grew(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        await world.replica.catch_up()
        world.log.events[3] = statement_of(network["maker"], product())
        world.log.add(statement_of(network["maker"], product()))
        await world.log.publish()
        assert await refused(world) == "ROOT_MISMATCH"

    run(network, registry, path, story)


def test_refuses_checkpoint_of_another_key(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        world.log.signer = NoteSigner("log.example", bytes(32))
        assert await refused(world) == "SIGNATURE_MISSING"

    run(network, registry, path, story)


def _change_proof(answer: Any) -> None:
    if getattr(answer, "entries", None):
        answer.entries[0].inclusion_proof[0] = bytes(32)


def _change_event(answer: Any) -> None:
    if getattr(answer, "entries", None):
        answer.entries[1].signed_event = answer.entries[2].signed_event


@pytest.mark.parametrize("lie", [_change_proof, _change_event], ids=["proof", "event"])
def test_refuses_unproven_entries(
    network: "Network", registry: Registry, path: Path, lie: Callable[[Any], None]
) -> None:
    async def story(world: World) -> None:
        world.log.lie = lie
        assert await refused(world) == "ROOT_MISMATCH"

    run(network, registry, path, story)


def test_refuses_trust_entry_that_the_authority_did_not_sign(
    network: "Network", registry: Registry, path: Path
) -> None:
    async def story(world: World) -> None:
        await world.replica.catch_up()
        revocation = KeyRevocation(network["pharmacy"].signing_key().key_id, NOW)
        world.log.add(statement_of(network["maker"], revocation))
        await world.log.publish()
        assert await refused(world) == "NOT_AUTHORITY"

    run(network, registry, path, story)


def test_refuses_proven_entry_of_another_type_than_asked(network: "Network", registry: Registry, path: Path) -> None:
    async def story(world: World) -> None:
        def swap(answer: Any) -> None:
            if isinstance(answer, ledger_pb2.ListEventsResponse):
                answer.events.append(
                    ledger_pb2.ProvenEvent(
                        leaf_index=1,
                        signed_event=world.log.events[1],
                        key_list_sha256=bytes(32),
                        inclusion_proof=world.log.proof(1),
                    )
                )

        world.log.lie = swap
        with pytest.raises(VerificationError) as caught:
            await world.replica.catch_up()
        assert caught.value.code == "ANSWER_UNASKED"

    run(network, registry, path, story)


def test_fault_is_told_and_ends_when_answers_hold_again(
    network: "Network", registry: Registry, path: Path, eventually: "Eventually"
) -> None:
    async def story(world: World) -> None:
        world.log.lie = _change_proof
        following = asyncio.create_task(world.replica.run())
        await world.replica.wait_until(lambda: world.replica.fault is not None)
        assert not world.replica.ready
        world.log.lie = lambda _answer: None
        await world.replica.wait_ready()
        await eventually(lambda: world.replica.fault is None)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    run(network, registry, path, story)
