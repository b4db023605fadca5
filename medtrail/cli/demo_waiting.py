"""What the demo waits for, and how it stops when a claim does not hold."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.cli.session import Session
from medtrail.errors import NotFoundError, VerificationError

WAIT_S = 30.0
POLL_S = 0.05


def request_id() -> str:
    """Return a new request id."""
    return str(uuid.uuid4())


def demand(condition: bool, text: str) -> None:  # reads like the sentence that it checks
    """Stop the demo when a claim does not hold.

    Raises:
        VerificationError: It does not.
    """
    if not condition:
        raise VerificationError(f"the demo expected otherwise: {text}", code="DEMO_FAILED")


async def until(condition: Callable[[], Awaitable[bool]], text: str) -> None:
    """Wait until something is so.

    Raises:
        VerificationError: It is not so in time.
    """
    deadline = time.monotonic() + WAIT_S
    while not await condition():
        if time.monotonic() > deadline:
            raise VerificationError(f"waited {WAIT_S:.0f} s in vain: {text}", code="DEMO_FAILED")
        await asyncio.sleep(POLL_S)


async def logged(session: Session, event_id: str) -> None:
    """Wait until an event is in the log and the projection has read it."""

    async def logged() -> bool:
        try:
            answer = await session.ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(event_id=event_id))
        except NotFoundError:
            return False
        # What a checkpoint covers, the projection may still be about to read; a filter asks the projection.
        request = ledger_pb2.ListEventsRequest(start_index=answer.leaf_index, actor=session.organisation.gln)
        return bool((await session.ledger.ListEvents(request)).events)

    await until(logged, f"event {event_id} is in the log")


async def touch(session: Session) -> None:
    """Hold and release one unit: the release's place in the log is behind everything said before."""
    state = custody_pb2.HOLDING_STATE_ON_HAND
    found = await session.custody.ListHoldings(custody_pb2.ListHoldingsRequest(state=state, page_size=500))
    epc = next((item.epc for item in found.holdings if not item.provisional and not item.parent), None)
    if epc is None:
        return
    await session.custody.Hold(custody_pb2.HoldRequest(request_id=request_id(), epcs=[epc], reason="stock check"))
    answer = await session.custody.Release(
        custody_pb2.ReleaseRequest(request_id=request_id(), epcs=[epc], reason="stock check")
    )
    await logged(session, answer.events[-1].event_id)


async def advised(session: Session, link: str) -> None:
    """Wait until a partner's advice of a unit has come."""

    async def advised() -> bool:
        try:
            answer = await session.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=link))
        except NotFoundError:
            return False
        return answer.holding.state == custody_pb2.HOLDING_STATE_INBOUND

    await until(advised, f"{link} is advised")


async def confirmed(session: Session, link: str) -> None:
    """Wait until the ledger has confirmed what is held of a unit."""

    async def confirmed() -> bool:
        answer = await session.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=link))
        return not answer.holding.provisional

    await until(confirmed, f"{link} is confirmed by the ledger")
