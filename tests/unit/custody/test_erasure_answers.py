"""What a ledger tells of erasures is followed for the entry that the order names, and for no other."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from sqlalchemy import select

from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.errors import MedtrailError, VerificationError
from medtrail.event import ErasureOrder
from medtrail.item_map import log_entry
from medtrail.merkle import NodeId, hash_leaf, inclusion_proof, root_of
from medtrail.note import NoteSigner
from medtrail.runtime.tables import Outbox, SignedEvents
from services.custody.ledger_client import ErasureOutcome, LedgerClient
from tests.unit.custody.conftest import packs

if TYPE_CHECKING:
    from tests.unit.custody.conftest import House

LOG = NoteSigner("log.example", bytes(range(32)))


class FakeLedger:
    """Two events and the order to erase the first; ``told`` is the entry that it says was erased."""

    def __init__(self, maker: "House", *, told: int) -> None:
        maker.commission(packs(1))
        maker.commission(packs(2))
        digests = [hashlib.sha256(data).digest() for data in signed_events(maker)]
        maker.write(lambda session: session.state(ErasureOrder(digests[0], "asked for by its signer")))
        self.events = signed_events(maker)
        self.told = told
        self.gone = {0: digests[0]}

    def _leaf(self, index: int) -> bytes:
        return hash_leaf(log_entry(hashlib.sha256(self.events[index]).digest(), bytes(32)))

    def _read(self, nodes: Sequence[NodeId]) -> list[bytes]:
        return [
            root_of([self._leaf(leaf) for leaf in range(index << level, (index + 1) << level)])
            for level, index in nodes
        ]

    def _checkpoint(self) -> bytes:
        root = root_of([self._leaf(index) for index in range(3)])
        return sign_checkpoint(Checkpoint(LOG.name, 3, root), LOG)

    def _proof(self, index: int) -> tuple[bytes, ...]:
        return inclusion_proof(self._read, leaf_index=index, tree_size=3)

    async def ListErasures(self, _request: Any, timeout: float) -> Any:  # noqa: ASYNC109, N802 - the stub's names
        assert timeout
        order = ledger_pb2.ProvenEvent(
            leaf_index=2, signed_event=self.events[2], key_list_sha256=bytes(32), inclusion_proof=self._proof(2)
        )
        outcome = ledger_pb2.ErasureOutcome(order=order, leaf_index=self.told)
        return ledger_pb2.ListErasuresResponse(outcomes=[outcome], checkpoint=self._checkpoint())

    async def GetInclusionProof(self, request: Any, timeout: float) -> Any:  # noqa: ASYNC109, N802 - as above
        assert timeout
        index = request.leaf_index
        gone = self.gone.get(index)
        return ledger_pb2.GetInclusionProofResponse(
            leaf_index=index,
            signed_event=b"" if gone else self.events[index],
            signed_event_sha256=gone or b"",
            key_list_sha256=bytes(32),
            inclusion_proof=self._proof(index),
            checkpoint=self._checkpoint(),
        )


def signed_events(house: "House") -> list[bytes]:
    """All that a house signed, as bytes, in order."""
    query = select(SignedEvents.c.data).join(Outbox, Outbox.c.sha256 == SignedEvents.c.sha256).order_by(Outbox.c.seq)
    return house.read(lambda connection: list(connection.execute(query).scalars()))


def asked(ledger: FakeLedger) -> list[ErasureOutcome]:
    async def run() -> list[ErasureOutcome]:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            client = LedgerClient(channel, LOG.verifier)
            client._stub = ledger  # type: ignore[assignment]
            return (await client.erasures(start=0))[0]

    return asyncio.run(run())


def test_entry_that_the_order_names_is_erased(maker: "House") -> None:
    (outcome,) = asked(FakeLedger(maker, told=0))
    assert (outcome.order_index, outcome.leaf_index) == (2, 0)


def test_another_entry_of_the_same_signer_is_not_erased_by_the_ledgers_word(maker: "House") -> None:
    with pytest.raises(VerificationError) as caught:
        asked(FakeLedger(maker, told=1))
    assert caught.value.code == "ERASURE_MISMATCH"


def test_hash_that_the_log_does_not_hold_there_is_not_believed(maker: "House") -> None:
    ledger = FakeLedger(maker, told=1)
    ledger.gone[1] = ledger.gone[0]
    with pytest.raises(MedtrailError):
        asked(ledger)
