"""Questions to the ledger: a verdict on a pack, and whether a despatch is in the log."""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime

import grpc.aio

from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.codec import decode_payload, decode_signed_event, to_timestamp
from medtrail.codec.verdict import verdict_from_message
from medtrail.envelope import verify_signatures
from medtrail.errors import NotFoundError, VerificationError
from medtrail.event import ErasureOrder, Event
from medtrail.gs1 import Gtin, Sgtin
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, verify_inclusion
from medtrail.note import NoteVerifier
from medtrail.verdict import Verdict
from services.custody.circuit import Circuit

PROOF_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """What became of an order to erase an event: the entry that was erased, or None and the code of the refusal.

    Attributes:
        order_index: Entry of the order.
        key_id: did:key that signed the order.
    """

    order_index: int
    order: ErasureOrder
    key_id: str
    leaf_index: int | None
    code: str


class LedgerClient:
    """The ledger as a service asks it."""

    def __init__(self, channel: grpc.aio.Channel, verifier: NoteVerifier) -> None:
        """Hold the channel, and the log's key by which proofs are judged."""
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._verifier = verifier
        self._circuit = Circuit("ledger", self._probe)

    async def end(self) -> None:
        """Ask no more; for the end of a process."""
        await self._circuit.end()

    async def verify_pack(self, sgtin: Sgtin, *, lot: str, expiry: date, judge_time: datetime) -> Verdict:
        """Return the ledger's verdict on a pack.

        Raises:
            UnavailableError: It did not answer within a second, or did not lately (NEIGHBOUR_AWAY).
        """
        request = ledger_pb2.VerifyPackRequest(
            epc=sgtin.digital_link, lot=lot, expiry=expiry.isoformat(), judge_time=to_timestamp(judge_time)
        )

        async def ask() -> ledger_pb2.VerifyPackResponse:
            return await self._stub.VerifyPack(request)

        answer = await self._circuit.ask(ask)
        return verdict_from_message(answer.verdict)

    async def knows_lot(self, gtin: Gtin, lot: str) -> bool:
        """Tell whether any unit of a trade item and lot is in the log.

        Raises:
            UnavailableError: As :meth:`verify_pack`.
        """
        request = ledger_pb2.TraceLotRequest(gtin=str(gtin), lot=lot, page_size=1)

        async def ask() -> ledger_pb2.TraceLotResponse:
            return await self._stub.TraceLot(request)

        try:
            await self._circuit.ask(ask)
        except NotFoundError:
            return False
        return True

    async def _probe(self) -> None:
        await self._stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest())

    async def find_logged(self, *, sha256: bytes, event_id: str) -> tuple[int, Event, str] | None:
        """Return index, event and signer's did:key of a chained event, proven; None when it is not in the log (yet).

        Args:
            sha256: Of the SignedEvent, 32 bytes.
            event_id: Asked for when those bytes are not chained: the event may have been signed anew.

        Raises:
            VerificationError: The proof does not hold.
        """
        for request in (
            ledger_pb2.GetInclusionProofRequest(signed_event_sha256=sha256),
            ledger_pb2.GetInclusionProofRequest(event_id=event_id),
        ):
            try:
                answer = await self._stub.GetInclusionProof(request, timeout=PROOF_DEADLINE_S)
            except NotFoundError:
                continue
            if answer.HasField("erased"):
                continue
            event, key_id = _proven(answer, self._open(answer.checkpoint))
            return answer.leaf_index, event, key_id
        return None

    async def erasures(self, *, start: int) -> tuple[list[ErasureOutcome], int]:
        """Return what became of the next orders to erase, proven, and the index from which on to ask again.

        Args:
            start: First index of an order wanted.

        Raises:
            VerificationError: A proof does not hold, an answer is no order, or what is told to be erased is not what
                the order names (ERASURE_MISMATCH).
        """
        request = ledger_pb2.ListErasuresRequest(start_index=start)
        answer = await self._stub.ListErasures(request, timeout=PROOF_DEADLINE_S)
        checkpoint = self._open(answer.checkpoint)
        found: list[ErasureOutcome] = []
        for outcome in answer.outcomes:
            event, key_id = _proven(outcome.order, checkpoint)
            if not isinstance(event.statement, ErasureOrder):
                message = f"entry {outcome.order.leaf_index} is no order to erase"
                raise VerificationError(message, code="ANSWER_UNASKED")
            leaf_index = outcome.leaf_index if outcome.HasField("leaf_index") else None
            if leaf_index is not None:
                await self._check_entry(leaf_index, event.statement.signed_event_sha256)
            found.append(ErasureOutcome(outcome.order.leaf_index, event.statement, key_id, leaf_index, outcome.code))
        return found, found[-1].order_index + 1 if found else start

    async def _check_entry(self, leaf_index: int, sha256: bytes) -> None:
        """Check that the log has these bytes at an index: copies there are erased, and nobody may name another's."""
        request = ledger_pb2.GetInclusionProofRequest(leaf_index=leaf_index)
        answer = await self._stub.GetInclusionProof(request, timeout=PROOF_DEADLINE_S)
        checkpoint = self._open(answer.checkpoint)
        digest = answer.signed_event_sha256 or hashlib.sha256(answer.signed_event).digest()
        if digest != sha256:
            message = f"entry {leaf_index} is told to be erased, and is not the one that the order names"
            raise VerificationError(message, code="ERASURE_MISMATCH", leaf_index=leaf_index)
        verify_inclusion(
            tuple(answer.inclusion_proof),
            leaf_hash=hash_leaf(log_entry(digest, answer.key_list_sha256)),
            leaf_index=leaf_index,
            tree_size=checkpoint.size,
            root_hash=checkpoint.root_hash,
        )

    async def event_at(self, leaf_index: int) -> bytes:
        """Return the SignedEvent that the ledger gives for an index, unproven."""
        request = ledger_pb2.GetInclusionProofRequest(leaf_index=leaf_index)
        answer = await self._stub.GetInclusionProof(request, timeout=PROOF_DEADLINE_S)
        return answer.signed_event

    def _open(self, note: bytes) -> Checkpoint:
        return open_checkpoint(note, origin=self._verifier.name, verifiers=(self._verifier,)).checkpoint


def _proven(
    found: ledger_pb2.GetInclusionProofResponse | ledger_pb2.ProvenEvent, checkpoint: Checkpoint
) -> tuple[Event, str]:
    entry = log_entry(hashlib.sha256(found.signed_event).digest(), found.key_list_sha256)
    verify_inclusion(
        tuple(found.inclusion_proof),
        leaf_hash=hash_leaf(entry),
        leaf_index=found.leaf_index,
        tree_size=checkpoint.size,
        root_hash=checkpoint.root_hash,
    )
    signed = decode_signed_event(found.signed_event)
    key_id = verify_signatures(signed)
    return decode_payload(signed.payload_type, signed.payload), key_id
