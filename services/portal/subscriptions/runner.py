"""Serves all subscriptions by webhook: in record order, at least once, over restarts and failures.

How far a subscriber is served is noted after it has acknowledged: a crash between the two delivers again. A delivery
that fails is tried again later and later, up to an hour; nothing is skipped.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from medtrail.errors import MedtrailError, NotFoundError
from medtrail.runtime.logging import get_logger
from medtrail.runtime.tokens import Clock, utc_now
from services.portal.headers import MediaType, Wanted
from services.portal.queries import QueryStore
from services.portal.query.documents import query_document
from services.portal.repository import EventRepository
from services.portal.stored_events import FoundEvent
from services.portal.subscriptions.feed import Feed
from services.portal.subscriptions.schedule import read_schedule, sleep_until
from services.portal.subscriptions.store import MOST_SUBSCRIPTIONS, Progress, Subscription, SubscriptionStore
from services.portal.subscriptions.webhook import SIGNATURE_HEADER, Webhooks, signature

log = get_logger(__name__)

FIRST_RETRY_S: Final = 2.0
LONGEST_RETRY_S: Final = 3600.0
REST_S: Final = 60.0
NOTE_EVERY: Final = 1000
"""A subscriber who gets nothing of so many events is noted as served so far: less to look through after a restart."""


class SubscriptionRunner:
    """Serves subscriptions until it is cancelled."""

    def __init__(
        self,
        store: SubscriptionStore,
        queries: QueryStore,
        repository: EventRepository,
        webhooks: Webhooks,
        *,
        clock: Clock = utc_now,
        first_retry_s: float = FIRST_RETRY_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Hold the parts.

        Args:
            store: The subscriptions.
            queries: What they ask.
            repository: Who answers.
            webhooks: The way out.
            clock: Aware UTC.
            first_retry_s: Pause after the first failure; doubled with each.
            jitter: 0 to 1: spreads retries, so that many do not come at once.
        """
        self._store = store
        self._queries = queries
        self._repository = repository
        self._webhooks = webhooks
        self._clock = clock
        self._first_retry_s = first_retry_s
        self._jitter = jitter

    async def run(self) -> None:
        """Serve each subscription by a task of its own, begun and ended as they come and go."""
        tasks: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                listening = self._queries.bell.listen()
                wanted = {item.id: item for item in await self._store.list(None, after="", limit=MOST_SUBSCRIPTIONS)}
                for ident in tasks.keys() - wanted.keys():
                    tasks.pop(ident).cancel()
                for ident in wanted.keys() - tasks.keys():
                    tasks[ident] = group.create_task(self._serve(wanted[ident]), name=f"subscription {ident}")
                await listening.wait()

    async def _serve(self, subscription: Subscription) -> None:
        while True:
            try:
                await self._serve_on(subscription)
                return
            except NotFoundError:
                # The query is gone, and this with it: whoever deletes it rings.
                return
            except MedtrailError as error:
                log.warning(
                    "subscription waits", subscription_id=subscription.id, code=error.code, reason=error.message
                )
                await asyncio.sleep(LONGEST_RETRY_S * self._jitter() / 60)

    async def _serve_on(self, subscription: Subscription) -> None:
        named = await self._queries.get(subscription.query_name)
        feed = Feed(self._repository, named.query())
        progress = await self._store.progress(subscription.id)
        if progress is None:
            return
        if subscription.schedule:
            await self._by_schedule(subscription, feed, progress)
        else:
            await self._as_they_come(subscription, feed, progress)

    async def _as_they_come(self, subscription: Subscription, feed: Feed, progress: Progress) -> None:
        noted = progress.number
        while True:
            await sleep_until(progress.due_time, clock=self._clock)
            batch = await feed.news(progress)
            if batch.events:
                progress = await self._deliver(subscription, batch.events, progress, batch.progress)
                noted = progress.number
                continue
            progress = batch.progress
            if progress.number - noted >= NOTE_EVERY:
                await self._store.note(subscription.id, progress)
                noted = progress.number
            await feed.wait(batch, timeout_s=REST_S)

    async def _by_schedule(self, subscription: Subscription, feed: Feed, progress: Progress) -> None:
        schedule = read_schedule(subscription.schedule)
        if progress.due_time is None:
            progress = replace(progress, due_time=schedule.after(self._clock()))
            await self._store.note(subscription.id, progress)
        told = False
        while True:
            await sleep_until(progress.due_time, clock=self._clock)
            batch = await feed.news(progress)
            done = replace(batch.progress, attempts=0)
            if batch.events or (subscription.report_if_empty and not told):
                done = await self._deliver(subscription, batch.events, progress, batch.progress)
                told = not done.attempts
            progress = done
            if not progress.attempts and not batch.more:
                progress = replace(progress, due_time=schedule.after(self._clock()))
                await self._store.note(subscription.id, progress)
                told = False

    async def _deliver(
        self, subscription: Subscription, events: tuple[FoundEvent, ...], before: Progress, after: Progress
    ) -> Progress:
        """Deliver events; return, and note, how far the subscriber is served then."""
        try:
            await self._post(subscription, events)
        except MedtrailError as error:
            attempts = before.attempts + 1
            pause_s = min(self._first_retry_s * 2 ** min(attempts - 1, 30), LONGEST_RETRY_S)
            # A quarter more or less.
            pause = timedelta(seconds=pause_s * (0.75 + self._jitter() / 2))
            progress = replace(before, attempts=attempts, due_time=self._clock() + pause, last_error=str(error)[:500])
            log.info("delivery failed", subscription_id=subscription.id, code=error.code, attempts=attempts)
        else:
            progress = replace(after, attempts=0, due_time=None, last_error="", delivered_time=self._clock())
        await self._store.note(subscription.id, progress)
        return progress

    async def _post(self, subscription: Subscription, events: tuple[FoundEvent, ...]) -> None:
        wanted = Wanted(MediaType.JSON_LD, subscription.epc_format)
        body = await asyncio.to_thread(
            query_document,
            [found.event for found in events],
            wanted,
            prefixes=self._repository.prefixes,
            name=subscription.query_name,
            subscription_id=subscription.id,
        )
        headers = {"Content-Type": wanted.media_type.value, "User-Agent": "medtrail"}
        if subscription.signature_token:
            headers[SIGNATURE_HEADER] = signature(subscription.signature_token, body, moment=self._clock())
        await self._webhooks.post(subscription.destination, body, headers)
