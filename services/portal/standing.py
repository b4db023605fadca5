"""The part of the portal that answers about events: its routes, and what runs beside them."""

import asyncio
import ssl

from starlette.routing import BaseRoute

from medtrail.runtime.tokens import Clock, utc_now
from services.portal.event_routes import EventAnswers, event_routes
from services.portal.follower import Follower
from services.portal.parts import PortalParts
from services.portal.queries import QueryStore, query_routes
from services.portal.query.paging import PageTokens
from services.portal.subscriptions.routes import subscription_routes
from services.portal.subscriptions.runner import FIRST_RETRY_S, SubscriptionRunner
from services.portal.subscriptions.store import SubscriptionStore
from services.portal.subscriptions.webhook import Reach, Webhooks
from services.portal.subscriptions.websocket import WebSockets


class StandingQueries:
    """Queries and subscriptions of one portal: made once, it gives routes, and is run beside them."""

    def __init__(
        self,
        parts: PortalParts,
        *,
        clock: Clock = utc_now,
        first_retry_s: float = FIRST_RETRY_S,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Make the tables that are absent, and put the parts together. Blocks: for the start of a process.

        Args:
            parts: Of the portal; the repository prepared.
            clock: Aware UTC.
            first_retry_s: Pause after the first delivery that fails.
            trust: Whose certificates subscribers may have; None: those that the system trusts.
        """
        settings = parts.settings
        self.queries = QueryStore(parts.database, clock=clock)
        self.queries.prepare()
        self.subscriptions = SubscriptionStore(parts.database, self.queries.bell)
        self.follower = Follower(parts.custody, parts.repository)
        reach = Reach(private=settings.callback_private, plain_http=settings.callback_plain_http)
        self._webhooks = Webhooks(reach, trust=trust)
        self._answers = EventAnswers(parts, PageTokens(parts.database, clock=clock))
        self._sockets = WebSockets(parts, self.queries, clock=clock)
        self._runner = SubscriptionRunner(
            self.subscriptions,
            self.queries,
            parts.repository,
            self._webhooks,
            clock=clock,
            first_retry_s=first_retry_s,
        )

    def routes(self) -> list[BaseRoute]:
        """Return the routes of events, queries and subscriptions."""
        return [
            *event_routes(self._answers),
            *subscription_routes(self._answers, self.queries, self.subscriptions, self._webhooks, self._sockets),
            *query_routes(self._answers, self.queries),
        ]

    async def run(self) -> None:
        """Follow the organisation's events and serve subscribers until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.follower.run(), name="follower")
                group.create_task(self._runner.run(), name="subscriptions")
        finally:
            await self._webhooks.close()
