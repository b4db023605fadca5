"""Subscription over WebSocket: as long as the connection lives, each message an EPCISQueryDocument.

Source: EPCIS 2.0, section 12.7 and its OpenAPI (GET /queries/{queryName}/events with Upgrade: websocket).
"""

import asyncio
import uuid
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from medtrail.errors import MedtrailError, NotFoundError, UnavailableError
from medtrail.runtime.portal_tokens import Scope
from medtrail.runtime.tokens import Clock, utc_now
from services.portal.errors import problem_response
from services.portal.headers import Wanted, wanted
from services.portal.parts import PortalParts
from services.portal.queries import NamedQuery, QueryStore
from services.portal.query.documents import DOCUMENTS, query_document
from services.portal.resources import url_parameters
from services.portal.stored_events import FoundEvent
from services.portal.subscriptions.controls import Controls, check_permitted, from_url, read_controls
from services.portal.subscriptions.feed import Feed
from services.portal.subscriptions.schedule import read_schedule, sleep_until

MOST_CONNECTIONS: Final = 200
REST_S: Final = 60.0
GOING_AWAY: Final = 1001
FAILED: Final = 1011


class WebSockets:
    """Serves subscriptions over WebSocket; one a process."""

    def __init__(self, parts: PortalParts, queries: QueryStore, *, clock: Clock = utc_now) -> None:
        """Hold the parts, and where queries are kept."""
        self._parts = parts
        self._queries = queries
        self._clock = clock
        self._open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve a connection, or refuse it with the answer that a GET would have had."""
        try:
            self._parts.access.check(socket, Scope.QUERY)
            asked = wanted(socket, media_types=DOCUMENTS)
            named = await self._queries.get(socket.path_params["name"])
            query = named.query()
            check_permitted(query)
            controls = read_controls(from_url(url_parameters(socket).values))
            if self._open >= MOST_CONNECTIONS:
                message = f"{MOST_CONNECTIONS} connections are open already"
                raise UnavailableError(message, code="CONNECTIONS_FULL")
        except MedtrailError as error:
            await socket.send_denial_response(problem_response(error))
            return
        self._open += 1
        try:
            await socket.accept()
            await self._serve_on(socket, _Session(named, Feed(self._parts.repository, query), controls, asked))
        finally:
            self._open -= 1

    async def _serve_on(self, socket: WebSocket, session: "_Session") -> None:
        """Send until the caller goes, or the query does."""
        tasks = {
            asyncio.create_task(work, name=name)
            for name, work in (
                ("send", self._send(socket, session)),
                ("listen", _until_gone(socket)),
                ("query", self._until_deleted(session.named)),
            )
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            names = {task.get_name() for task in done}
            failed = [task.exception() for task in done if task.exception() is not None]
            if "listen" not in names and not any(isinstance(error, WebSocketDisconnect) for error in failed):
                await socket.close(FAILED if failed else GOING_AWAY)
            for error in failed:
                if error is not None and not isinstance(error, WebSocketDisconnect | MedtrailError):
                    raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, socket: WebSocket, session: "_Session") -> None:
        if session.controls.schedule:
            await self._by_schedule(socket, session)
        else:
            await self._as_they_come(socket, session)

    async def _as_they_come(self, socket: WebSocket, session: "_Session") -> None:
        progress = await session.feed.begin(session.controls.floor_us)
        while True:
            batch = await session.feed.news(progress)
            progress = batch.progress
            if batch.events:
                await self._send_events(socket, session, batch.events)
            else:
                await session.feed.wait(batch, timeout_s=REST_S)

    async def _by_schedule(self, socket: WebSocket, session: "_Session") -> None:
        schedule = read_schedule(session.controls.schedule)
        progress = await session.feed.begin(session.controls.floor_us)
        while True:
            due_time = schedule.after(self._clock())
            await sleep_until(due_time, clock=self._clock)
            first = True
            while True:
                batch = await session.feed.news(progress)
                if batch.events or (first and session.controls.report_if_empty):
                    await self._send_events(socket, session, batch.events)
                progress = batch.progress
                first = False
                if not batch.more:
                    break

    async def _send_events(self, socket: WebSocket, session: "_Session", events: tuple[FoundEvent, ...]) -> None:
        body = await asyncio.to_thread(
            query_document,
            [found.event for found in events],
            session.wanted,
            prefixes=self._parts.repository.prefixes,
            name=session.named.name,
            subscription_id=session.id,
        )
        await socket.send_text(body.decode())

    async def _until_deleted(self, named: NamedQuery) -> None:
        while True:
            listening = self._queries.bell.listen()
            try:
                await self._queries.get(named.name)
            except NotFoundError:
                return
            await listening.wait()


class _Session:
    """One connection: what it asks, and its id as a subscription."""

    def __init__(self, named: NamedQuery, feed: Feed, controls: Controls, asked: Wanted) -> None:
        self.named = named
        self.feed = feed
        self.controls = controls
        self.wanted = asked
        self.id = str(uuid.uuid4())


async def _until_gone(socket: WebSocket) -> None:
    """Read, and pass over, what the caller sends, until it goes."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
