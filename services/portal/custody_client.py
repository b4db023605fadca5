"""What the portal asks of its organisation's service: to capture events."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import epcis_pb2
from medtrail.codec import epcis_to_message
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import DuplicateError, MalformedError, MedtrailError, UnavailableError

CHUNK_EVENTS = 500
CHUNK_BYTES = 1024 * 1024
LARGEST_EVENT_BYTES = 2 * 1024 * 1024 - 4096
TRANSACTION_EVENTS = 10_000
TRANSACTION_BYTES = 31 * 1024 * 1024
PATIENCE_S = 3600.0
TRANSACTION_REFUSED = "TRANSACTION_REFUSED"
EVENT_ID_CONFLICT = "EVENT_ID_CONFLICT"

if TYPE_CHECKING:
    # The stub of the generated code exists for type checkers only.
    from medtrail.api.custody.v1 import custody_pb2_grpc

EventMessage = epcis_pb2.EpcisEvent


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events to capture.

    Attributes:
        request_id: UUID.
        events: 1 to 500, at most 2 MiB.
        happened: They tell what has happened already: what breaks a rule is recorded with an alert.
        continued: The next chunk belongs to the same transaction.
    """

    request_id: str
    events: Sequence[EventMessage]
    second_hand: bool = False
    happened: bool = False
    continued: bool = False


@dataclass(frozen=True, slots=True)
class CapturedEvent:
    """An event that was signed and is safe; ``resend``: the same content had been accepted before."""

    event_id: str
    resend: bool


@dataclass(frozen=True, slots=True)
class CaptureRefusal:
    """Why a chunk was refused.

    Attributes:
        number: Of the event in the chunk, from 0.
        code: Stable.
        field: Path of the offending field inside the event; may be empty.
        message: For a person.
    """

    number: int
    code: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """What became of a chunk.

    Attributes:
        events: In order; empty when it was refused.
        refusal: Why it was, or None.
        change_number: Whoever follows the events up to this change knows these; 0 when refused.
    """

    events: tuple[CapturedEvent, ...]
    refusal: CaptureRefusal | None
    change_number: int


def refusal_error(refusal: CaptureRefusal) -> MedtrailError:
    """Return the error that a refusal stands for: that other content has the event's id, or that it is refused."""
    kind = DuplicateError if refusal.code == EVENT_ID_CONFLICT else MalformedError
    return kind(refusal.message, code=refusal.code, field=refusal.field or None)


def message_of(event: EpcisEvent) -> EventMessage:
    """Return an event in the form in which it is sent."""
    return epcis_to_message(event)


async def capture(
    custody: "custody_pb2_grpc.CustodyServiceAsyncStub", chunks: AsyncIterable[Chunk], *, timeout_s: float = PATIENCE_S
) -> list[ChunkAnswer]:
    """Have chunks captured; one answer each, in order.

    Raises:
        UnavailableError: The service is away, ended the call before it answered all, or does not answer in time
            (DEADLINE_EXCEEDED): whoever sends the same under the same ids learns what became of it.
        TooLargeError: Chunks of one transaction are too many (TRANSACTION_SIZE).
    """
    sent = 0

    async def requests() -> AsyncIterator[custody_pb2.CaptureEventsRequest]:
        nonlocal sent
        async for chunk in chunks:
            sent += 1
            yield custody_pb2.CaptureEventsRequest(
                request_id=chunk.request_id,
                events=chunk.events,
                second_hand=chunk.second_hand,
                happened=chunk.happened,
                continued=chunk.continued,
            )

    try:
        async with asyncio.timeout(timeout_s):
            answers = [_answer(answer) async for answer in custody.CaptureEvents(requests())]
    except TimeoutError as error:
        message = f"the service did not answer within {timeout_s:g} s"
        raise UnavailableError(message, code="DEADLINE_EXCEEDED") from error
    if len(answers) != sent:
        message = f"the service answered {len(answers)} of {sent} chunks"
        raise UnavailableError(message, code="ANSWERS_MISSING")
    return answers


async def capture_one(
    custody: "custody_pb2_grpc.CustodyServiceAsyncStub", chunk: Chunk, *, timeout_s: float = PATIENCE_S
) -> ChunkAnswer:
    """Have one chunk captured, as a transaction of its own.

    Raises:
        UnavailableError: The service is away, or does not answer in time.
    """

    async def only() -> AsyncIterator[Chunk]:
        yield chunk

    [answer] = await capture(custody, only(), timeout_s=timeout_s)
    return answer


def _answer(message: custody_pb2.CaptureEventsResponse) -> ChunkAnswer:
    refusal = None
    if message.errors:
        error = message.errors[0]
        prefix = f"events[{error.event_number}]"
        field = error.field.removeprefix(prefix).removeprefix(".")
        refusal = CaptureRefusal(error.event_number, error.code, field, error.message)
    events = tuple(CapturedEvent(event.event_id, event.resend) for event in message.events)
    return ChunkAnswer(events, refusal, message.change_number)
