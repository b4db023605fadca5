"""What is new for one subscriber, in the order in which it was recorded."""

from dataclasses import dataclass, replace

from services.portal.normal import microseconds
from services.portal.query.tree import Clock, Moment, Op, Query
from services.portal.repository import EventRepository
from services.portal.stored_events import FoundEvent
from services.portal.subscriptions.store import Progress

BATCH = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """News for a subscriber.

    Attributes:
        events: At most 100.
        progress: How far the subscriber is served once it has these.
        more: Whether there are more already.
        seen: Number of the change up to which was looked.
    """

    events: tuple[FoundEvent, ...]
    progress: Progress
    more: bool
    seen: int


class Feed:
    """News by one question."""

    def __init__(self, repository: EventRepository, query: Query) -> None:
        """Hold whom to ask, and what."""
        self._repository = repository
        self._query = query

    async def begin(self, floor_us: int | None) -> Progress:
        """Return where a new subscriber stands.

        Args:
            floor_us: Events recorded from then on are news, microseconds since the year 1; None: only what comes.
        """
        generation = self._repository.cursor.generation
        if floor_us is None:
            return Progress(await self._repository.newest(), 0, generation, floor_us=0)
        return Progress(0, floor_us, generation, floor_us=floor_us)

    async def news(self, progress: Progress) -> Batch:
        """Return what is new after what was delivered."""
        cursor = self._repository.cursor
        if progress.generation != cursor.generation:
            # Numbers are others now; record times are not.
            progress = replace(progress, number=0, generation=cursor.generation, floor_us=progress.record_us)
        newest = max(await self._repository.newest(), progress.number)
        query = self._query.also(Moment(Clock.RECORD_TIME, Op.GE, progress.floor_us))
        page = await self._repository.after(query, progress.number, newest=newest, size=BATCH)
        record_us = progress.record_us
        if page.events and page.events[-1].event.record_time is not None:
            record_us = max(record_us, microseconds(page.events[-1].event.record_time))
        more = page.following is not None
        number = page.events[-1].number if more else newest
        return Batch(page.events, replace(progress, number=number, record_us=record_us), more, cursor.number)

    async def wait(self, batch: Batch, *, timeout_s: float) -> None:
        """Wait until the index knows more than when a batch was looked for, or so long."""
        # Nothing runs between the look at the cursor and the wait: no news is missed.
        if self._repository.cursor.number == batch.seen:
            await self._repository.bell.wait(timeout_s=timeout_s)
