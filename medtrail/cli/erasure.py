"""``medtrail erase`` and ``medtrail consent``: have an event's bytes erased, as its signer and as the authority."""

import asyncio
import hashlib
import uuid
from typing import Any

from rich.console import Console

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.cli.authority import open_authority, publish_statement
from medtrail.cli.main import Globals
from medtrail.cli.session import Session, run_session
from medtrail.cli.trace import prove
from medtrail.errors import ConflictError, UnavailableError
from medtrail.event import ErasureConsent, ErasureOrder
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, verify_inclusion

DECISION_TIMEOUT_S = 60.0
POLL_S = 0.25


async def find_event(session: Session, event: str) -> tuple[int, bytes]:
    """Return index and SHA-256 of a chained event, after checking that it is in the log.

    Args:
        session: Asks the ledger.
        event: Index in the log, or event id.

    Raises:
        NotFoundError: The log has no such event.
        ConflictError: EVENT_ERASED: it is erased already.
        VerificationError: The proof does not hold.
    """
    request = ledger_pb2.GetInclusionProofRequest()
    if event.isdecimal():
        request.leaf_index = int(event)
    else:
        request.event_id = event
    answer = await session.ledger.GetInclusionProof(request)
    if answer.HasField("erased"):
        message = f"entry {answer.leaf_index} was erased by {answer.erased.gln}: {answer.erased.reason}"
        raise ConflictError(message, code="EVENT_ERASED", field="event")
    checkpoint = session.open_checkpoint(answer.checkpoint).checkpoint
    digest = hashlib.sha256(answer.signed_event).digest()
    verify_inclusion(
        answer.inclusion_proof,
        leaf_hash=hash_leaf(log_entry(digest, answer.key_list_sha256)),
        leaf_index=answer.leaf_index,
        tree_size=checkpoint.size,
        root_hash=checkpoint.root_hash,
    )
    return answer.leaf_index, digest


def run_erase(found: Globals, event: str, *, reason: str) -> None:
    """Sign the order to erase an event of the organisation's own, and tell what became of it.

    Raises:
        ConflictError: The ledger refused it; the code says why.
    """

    async def work(session: Session) -> dict[str, Any]:
        leaf_index, digest = await find_event(session, event)
        # Orders that were decided before this one say nothing of it.
        checkpoint = await session.ledger.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
        start = session.open_checkpoint(checkpoint.checkpoint).checkpoint.size
        request = custody_pb2.OrderErasureRequest(
            request_id=str(uuid.uuid4()), signed_event_sha256=digest, reason=reason
        )
        answer = await session.custody.OrderErasure(request)
        outcome = await _decided(session, answer.event.event_id, start=start)
        if outcome.code:
            raise ConflictError(outcome.message, code=outcome.code, field="event")
        return {"leaf_index": leaf_index, "order_index": outcome.order.leaf_index, "reason": reason}

    document = run_session(found, work)

    def draw(console: Console) -> None:
        text = f"entry {document['leaf_index']} is erased by order, entry {document['order_index']}: {reason}"
        console.print(text, markup=False)

    found.output.answer(document, draw)


async def _decided(session: Session, order_id: str, *, start: int) -> ledger_pb2.ErasureOutcome:
    """Return what became of an order, proven, once the ledger has decided.

    Raises:
        UnavailableError: ERASURE_UNDECIDED: it has not in time; the order stands all the same.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + DECISION_TIMEOUT_S
    while clock() < deadline:
        answer = await session.ledger.ListErasures(ledger_pb2.ListErasuresRequest(start_index=start))
        checkpoint = session.open_checkpoint(answer.checkpoint).checkpoint
        for outcome in answer.outcomes:
            step = prove(outcome.order, checkpoint)
            if step.event.header.event_id == order_id and isinstance(step.event.statement, ErasureOrder):
                return outcome
            start = outcome.order.leaf_index + 1
        await asyncio.sleep(POLL_S)
    message = "the order is signed and on its way; the ledger has not decided it yet"
    raise UnavailableError(message, code="ERASURE_UNDECIDED")


def run_consent(found: Globals, event: str, *, reason: str) -> None:
    """Sign the authority's consent to an erasure before the retention period ends, and see it into the log.

    Raises:
        ConflictError: --dir holds no authority (AUTHORITY_MISSING).
        UnavailableError: The log does not hold it in time (CONSENT_NOT_LOGGED).
    """
    authority = open_authority(found)

    async def work(session: Session) -> dict[str, Any]:
        leaf_index, digest = await find_event(session, event)
        consent = ErasureConsent(digest, reason)
        index = await publish_statement(session, authority, consent, unlogged="CONSENT_NOT_LOGGED")
        return {"leaf_index": leaf_index, "consent_index": index, "reason": reason}

    document = run_session(found, work)

    def draw(console: Console) -> None:
        text = f"the authority consents to the erasure of entry {document['leaf_index']}: entry "
        console.print(f"{text}{document['consent_index']}", markup=False)

    found.output.answer(document, draw)
