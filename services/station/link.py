"""The station's way to its organisation's service: follows the books, hands in events, asks for verdicts."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeVar

import grpc.aio

from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.codec.verdict import verdict_from_message
from medtrail.errors import UnavailableError
from medtrail.gs1 import Sgtin
from medtrail.verdict import Verdict
from services.custody.circuit import BOUND_S, Circuit
from services.custody.station_events import Taken
from services.custody.station_feed import FeedPage
from services.custody.station_messages import page_from_message, taken_from_message

T = TypeVar("T")

SILENCE_S = 5.0
"""The service speaks every second; after so long without a word it is away."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the service told of its books.

    Attributes:
        feed_id: Identity of the numbering.
        previous: Number that the page follows on.
        page: What changed.
        service_time: The service's clock, aware UTC.
        ledger_time: When the service last knew all that the ledger had published; None: never.
        last_seq: Number of the station's newest event that the service has taken in.
    """

    feed_id: str
    previous: int
    page: FeedPage
    service_time: datetime
    ledger_time: datetime | None
    last_seq: int

    @property
    def complete(self) -> bool:
        """Whether there was nothing after it."""
        return self.page.number >= self.page.newest


class ServiceLink:
    """One station's calls to its service; for one event loop."""

    def __init__(self, channel: grpc.aio.Channel, *, station: str, silence_s: float = SILENCE_S) -> None:
        """Hold the channel.

        Args:
            channel: To the service, that tries each call once.
            station: Name of the station.
            silence_s: After so long without a word the service is away.
        """
        self._stub = station_pb2_grpc.StationServiceStub(channel)
        self._station = station
        self._silence_s = silence_s
        self._heard_at: float | None = None
        self._circuit = Circuit("service", self._probe)

    @property
    def online(self) -> bool:
        """Whether the service speaks, and answers what it is asked."""
        return self._heard_at is not None and not self._circuit.is_open

    async def end(self) -> None:
        """Ask no more; for the end of a process."""
        await self._circuit.end()

    async def follow(self, *, feed_id: str, number: int) -> AsyncGenerator[Heard, None]:
        """Yield what the books hold after a number, and then every change.

        Raises:
            UnavailableError: The service is away, or was silent for too long (SERVICE_SILENT).
        """
        request = station_pb2.FollowBooksRequest(station=self._station, feed_id=feed_id, after_number=number)
        call = self._stub.FollowBooks(request)
        try:
            async for answer in _unless_silent(call, self._silence_s):
                self._heard_at = time.monotonic()
                yield _heard(answer)
        finally:
            self._heard_at = None
            call.cancel()

    async def newest(self, *, feed_id: str, number: int) -> tuple[str, int]:
        """Ask how far the books are now; return the feed's id and the number of its newest change.

        Args:
            feed_id: Of the feed that is known here.
            number: Up to which it is known: so that the answer holds no more than a page.

        Raises:
            UnavailableError: The service is away, or was silent for too long (SERVICE_SILENT).
        """
        call = self._stub.FollowBooks(
            station_pb2.FollowBooksRequest(station=self._station, feed_id=feed_id, after_number=number)
        )
        try:
            async for answer in _unless_silent(call, self._silence_s):
                heard = _heard(answer)
                return heard.feed_id, heard.page.newest
        finally:
            call.cancel()
        message = "the service ended without a word"
        raise UnavailableError(message, code="SERVICE_SILENT")

    async def submit(self, events: Sequence[bytes]) -> AsyncGenerator[Taken, None]:
        """Hand events in and yield what became of each.

        Raises:
            UnavailableError: The service is away.
            MedtrailError: It does not take the one after the last answer.
        """

        async def requests() -> AsyncIterator[station_pb2.SubmitEventsRequest]:
            for event in events:
                yield station_pb2.SubmitEventsRequest(signed_event=event)

        call = self._stub.SubmitEvents(requests())
        try:
            async for answer in _unless_silent(call, self._silence_s * 4):
                yield taken_from_message(answer)
        finally:
            call.cancel()

    async def verify_pack(self, sgtin: Sgtin, *, lot: str, expiry: date, judge_time: datetime | None) -> Verdict:
        """Return the service's verdict on a pack: for a time, or for now by its own clock.

        Raises:
            UnavailableError: It is away, or did not answer within a second.
        """
        if self._heard_at is None:
            message = "the service cannot be reached"
            raise UnavailableError(message, code="NEIGHBOUR_AWAY")
        request = station_pb2.VerifyPackRequest(
            epc=sgtin.digital_link,
            lot=lot,
            expiry=expiry.isoformat(),
            judge_time=None if judge_time is None else to_timestamp(judge_time),
        )

        async def ask() -> station_pb2.VerifyPackResponse:
            return await self._stub.VerifyPack(request)

        return verdict_from_message((await self._circuit.ask(ask)).verdict)

    async def _probe(self) -> None:
        # It speaks every second to whom it can reach: asking it more would help nobody.
        if self._heard_at is None or time.monotonic() - self._heard_at > BOUND_S * 2:
            message = "the service says nothing"
            raise UnavailableError(message, code="SERVICE_SILENT")


async def _unless_silent(answers: AsyncIterable[T], silence_s: float) -> AsyncGenerator[T, None]:
    """Yield answers, each of which must come within a time.

    Raises:
        UnavailableError: SERVICE_SILENT.
    """
    coming = aiter(answers)
    while True:
        try:
            async with asyncio.timeout(silence_s):
                answer = await anext(coming)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            message = f"the service said nothing for {silence_s:g} s"
            raise UnavailableError(message, code="SERVICE_SILENT") from error
        yield answer


def _heard(answer: station_pb2.FollowBooksResponse) -> Heard:
    ledger_time = None
    if answer.HasField("ledger_time"):
        ledger_time = from_timestamp(answer.ledger_time, field="ledger_time")
    return Heard(
        feed_id=answer.feed_id,
        previous=answer.previous_number,
        page=page_from_message(answer),
        service_time=from_timestamp(answer.complete_time, field="complete_time"),
        ledger_time=ledger_time,
        last_seq=answer.last_source_seq,
    )
