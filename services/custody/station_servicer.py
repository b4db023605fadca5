"""StationService: the books for stations to copy, what they signed taken in, and their scans judged."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Connection

from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.codec import from_timestamp
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, UnavailableError
from medtrail.gs1 import Sgtin, parse_epc
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.logging import get_logger
from medtrail.runtime.server import Binding
from medtrail.runtime.tokens import Caller
from services.custody.desk import now_utc
from services.custody.messages import parse_day
from services.custody.office import Office
from services.custody.station_events import Taken, check_station_name, last_number, take_event
from services.custody.station_feed import FeedHead, begin_feed, feed_id, newest_number, page_after, read_head
from services.custody.station_messages import page_to_message, taken_to_message
from services.custody.verdicts import Seen

log = get_logger(__name__)

LOOK_EVERY_S = 0.5
"""Longest time between two looks for changes: not every writer rings."""
HEARTBEAT_S = 1.0
"""Longest time between two answers: silence is how a station notices that the service is away."""
MAX_EVENTS_AT_ONCE = 100
MAX_LOT = 20


@dataclass(frozen=True, slots=True)
class _Look:
    """Where the feed ended when it was looked at; ``at``: of the loop's clock; ``listening``: to which ring."""

    head: FeedHead
    time: datetime
    at: float
    listening: asyncio.Event


class StationServicer(station_pb2_grpc.StationServiceServicer):
    """What an organisation's process does for its stations."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._last_look: _Look | None = None

    # --- the books ---

    async def FollowBooks(
        self, request: station_pb2.FollowBooksRequest, context: Context
    ) -> AsyncIterator[station_pb2.FollowBooksResponse]:
        """Tell all that changed after a number, and go on as it comes."""
        station = _own_name(request.station, caller_of(context))
        database, bell = self._office.database, self._office.bell
        known = await database.read(feed_id) or await database.write(begin_feed)
        number = request.after_number if request.feed_id == known else 0
        if number > await database.read(newest_number):
            # These books are older than what the station knows: they were restored.
            number = 0
        log.info("station follows", station=station, after_number=number)
        loop = asyncio.get_running_loop()
        last_seq = await database.read(partial(last_number, name=station))
        told_at, checkpoint = -HEARTBEAT_S, b""
        while not bell.closed:
            listening = bell.listen()
            look = await self._look(listening)
            page = look.head.empty_page(number)
            if look.head.newest > number:
                page = await database.read(partial(page_after, number=number))
            if page.changes or loop.time() - told_at >= HEARTBEAT_S or page.checkpoint != checkpoint:
                answer = page_to_message(
                    page,
                    feed_id=known,
                    previous=number,
                    complete_time=look.time,
                    ledger_time=self._office.replica.known_time,
                )
                answer.last_source_seq = last_seq
                if page.checkpoint == checkpoint:
                    answer.ClearField("checkpoint")
                yield answer
                told_at, checkpoint, number = loop.time(), page.checkpoint, page.number
            if number >= page.newest:
                await bell.wait(timeout_s=LOOK_EVERY_S, listening=listening)

    async def _look(self, listening: asyncio.Event) -> _Look:
        """Return where the feed ends, as seen since the last ring and not long ago: one look serves all followers."""
        now = asyncio.get_running_loop().time()
        last = self._last_look
        if last is None or last.listening is not listening or now - last.at >= LOOK_EVERY_S / 2:
            looked = now_utc()
            last = _Look(await self._office.database.read(read_head), looked, now, listening)
            self._last_look = last
        return last

    # --- events ---

    async def SubmitEvents(
        self, request_iterator: AsyncIterator[station_pb2.SubmitEventsRequest], context: Context
    ) -> AsyncIterator[station_pb2.SubmitEventsResponse]:
        """Take events in, in order; those that have come together share a transaction."""
        key_id = caller_of(context).key_id
        self._office.check_ready()
        async with aclosing(_together(request_iterator)) as groups:
            async for group in groups:
                async for taken in self._take_group([request.signed_event for request in group], key_id):
                    yield taken_to_message(taken)

    async def _take_group(self, events: Sequence[bytes], key_id: str) -> AsyncIterator[Taken]:
        try:
            for taken in await self._take(events, key_id):
                yield taken
        except UnavailableError:
            raise
        except MedtrailError:
            if len(events) == 1:
                raise
            # One of them cannot be taken: those before it can.
            for event in events:
                for taken in await self._take([event], key_id):
                    yield taken

    async def _take(self, events: Sequence[bytes], key_id: str) -> list[Taken]:
        desk = self._office.desk

        def work(connection: Connection) -> list[Taken]:
            return [take_event(connection, desk, event, key_id=key_id) for event in events]

        taken = await self._office.database.write(work)
        self._office.after_write()
        self._office.bell.ring()
        return taken

    # --- scans ---

    async def VerifyPack(
        self, request: station_pb2.VerifyPackRequest, context: Context
    ) -> station_pb2.VerifyPackResponse:
        """Judge a pack that a station has read."""
        moment = self._office.desk.clock()
        if request.HasField("judge_time"):
            moment = from_timestamp(request.judge_time, field="judge_time").astimezone(UTC)
        verdict = await self._office.scanner.judge_seen(_seen(request), moment)
        return station_pb2.VerifyPackResponse(verdict=verdict_to_message(verdict))


def _own_name(name: str, caller: Caller) -> str:
    """Return the name under which a caller asks: a station's key is told of that station only."""
    check_station_name(name, field="station")
    if caller.station not in {"", name}:
        message = f"the key is that of the station {caller.station}, not of {name}"
        raise AuthorizationError(message, code="STATION_KEY", field="station")
    return name


def _seen(request: station_pb2.VerifyPackRequest) -> Seen:
    try:
        key = parse_epc(request.epc)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="epc") from error
    if not isinstance(key, Sgtin):
        message = f"expected GTIN and serial number, got {key.path}"
        raise MalformedError(message, code="UNIT_NOT_PACK", field="epc")
    if not 1 <= len(request.lot) <= MAX_LOT:
        message = f"expected 1 to {MAX_LOT} characters, got {len(request.lot)}"
        raise MalformedError(message, code="TEXT_LENGTH", field="lot")
    return Seen(key, request.lot, parse_day(request.expiry, field="expiry"))


async def _together(
    requests: AsyncIterator[station_pb2.SubmitEventsRequest],
) -> AsyncGenerator[list[station_pb2.SubmitEventsRequest], None]:
    """Yield requests in groups of those that have come while the group before was worked on."""
    waiting: asyncio.Queue[station_pb2.SubmitEventsRequest | None] = asyncio.Queue(MAX_EVENTS_AT_ONCE)

    async def read() -> None:
        try:
            async for request in requests:
                await waiting.put(request)
        except Exception:
            # The other side finds the end first and what went wrong behind it. A cancelled reader has nobody to tell.
            await waiting.put(None)
            raise
        await waiting.put(None)

    reader = asyncio.create_task(read())
    try:
        ended = False
        while not ended:
            group = [await waiting.get()]
            while not waiting.empty():
                group.append(waiting.get_nowait())
            ended = group[-1] is None
            found = [request for request in group if request is not None]
            if found:
                yield found
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def station_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.station.v1.StationService",
        station_pb2_grpc.add_StationServiceServicer_to_server,
        StationServicer(office),
    )
