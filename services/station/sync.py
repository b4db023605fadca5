"""Keeps a station and its service together: follows the books, hands in what was signed; as long as it takes."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from medtrail.errors import MedtrailError, UnavailableError, VerificationError
from medtrail.gs1 import Gln
from medtrail.note import NoteVerifier
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.runtime.outbox import OutboxItem
from medtrail.runtime.replica import RegistryReplica
from services.custody.changes import ChangeBell
from services.station import books, handover, prune
from services.station.books import CopyState, Word
from services.station.link import Heard, ServiceLink
from services.station.standing import KEY_ENDS

log = get_logger(__name__)

KEEP_SETTLED = timedelta(days=30)
"""More than twice as long as a restored service can be brought up to date: a backup older than the stream is none."""
KEEP_EVERY = timedelta(seconds=10)
"""How often it is written down that nothing has changed."""
RETRY_FIRST_S = 0.1
RETRY_AT_MOST_S = 2.0
REFUSED_AT_MOST_S = 10.0


class Sync:
    """The two directions between one station and its service."""

    def __init__(
        self,
        database: Database,
        link: ServiceLink,
        replica: RegistryReplica,
        *,
        station: str,
        key_id: str,
        gln: Gln,
        verifier: NoteVerifier,
        keep: timedelta = KEEP_SETTLED,
    ) -> None:
        """Hold both ends.

        Args:
            database: The station's.
            link: To the service.
            replica: The registry as known here; loaded anew when the service told of it.
            station: Name of the station.
            key_id: Its key, did:key.
            gln: Of its organisation.
            verifier: The log's key.
            keep: For how long what is settled stays here.
        """
        self._database = database
        self._link = link
        self._replica = replica
        self._station = station
        self._key_id = key_id
        self._gln = gln
        self._verifier = verifier
        self._keep = keep
        self._wanted = asyncio.Event()
        self._again = asyncio.Event()
        self._reload = False
        self._unsettled = True
        self._kept_time: datetime | None = None
        self.state = CopyState()
        self.bell = ChangeBell()
        """Rings when the copy or the fate of an event has changed."""
        self.follow_error: MedtrailError | None = None
        self.submit_error: MedtrailError | None = None

    @property
    def online(self) -> bool:
        """Whether the service speaks, and the copy is whole."""
        return self._link.online and not self.state.loading and self.state.complete_time is not None

    async def newest(self) -> tuple[str, int] | None:
        """Return the feed and the number of the books' newest change by now; None while the service is away."""
        try:
            return await self._link.newest(feed_id=self.state.feed_id, number=self.state.number)
        except UnavailableError:
            return None

    def has(self, newest: tuple[str, int]) -> bool:
        """Tell whether the copy holds all up to a change of a feed."""
        feed_id, number = newest
        return not self.state.loading and self.state.feed_id == feed_id and self.state.number >= number

    async def load(self) -> None:
        """Take up what the database holds."""
        self.state = await self._database.read(books.read_state)
        await self._replica.load()

    def wake(self) -> None:
        """Say that an event was signed; called on the event loop."""
        self._wanted.set()

    def hurry(self) -> None:
        """Try at once what would be tried later; called on the event loop."""
        self._wanted.set()
        self._again.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="follow")
            group.create_task(self._submit(), name="submit")

    # --- the books ---

    async def _follow(self) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                answered = await self._database.read(handover.newest_answered)
                async with aclosing(self._link.follow(feed_id=self.state.feed_id, number=self.state.number)) as words:
                    async for heard in words:
                        if heard.last_seq < answered:
                            await self._begin_again(heard.last_seq)
                            break
                        # Only the first word of a stream is newer than what was answered before.
                        answered = 0
                        await self._take(heard)
                        pause_s = RETRY_FIRST_S
                        self.follow_error = None
            except MedtrailError as error:
                if self.follow_error is None or self.follow_error.code != error.code:
                    log.warning("books not followed", code=error.code, reason=error.message)
                self.follow_error = error
                await self._note_end(error)
            await self._pause(pause_s)
            pause_s = min(pause_s * 2, RETRY_AT_MOST_S)

    async def _note_end(self, error: MedtrailError) -> None:
        if error.code in KEY_ENDS and self.state.ended_key_id != self._key_id:
            log.warning("key has ended, nothing more is signed", code=error.code)
            note = partial(books.note_key_end, key_id=self._key_id, code=error.code)
            await self._database.write(note)
            self.state = replace(self.state, ended_key_id=self._key_id, ended_code=error.code)

    async def _begin_again(self, last_seq: int) -> None:
        """Hand in again what the service took in and does not know any more: its books were restored."""
        log.warning("service was restored", last_source_seq=last_seq)

        def write(connection: Connection) -> CopyState:
            handover.begin_again(connection, last_seq=last_seq)
            return books.read_state(connection)

        self.state = await self._database.write(write)
        self._unsettled = True
        self.bell.ring()
        self._wanted.set()

    async def _take(self, heard: Heard) -> None:
        word = Word(heard.feed_id, heard.previous, heard.page, heard.service_time, heard.ledger_time, datetime.now(UTC))
        was_online = self.online
        if self._is_heartbeat(word):
            # Said every second: not worth a write each. What a crash forgets makes the copy look older than it is.
            self.state = replace(
                self.state,
                complete_time=word.service_time,
                ledger_time=word.ledger_time,
                ahead_s=(word.here_time - word.service_time).total_seconds(),
            )
            self.bell.ring()
            if not was_online:
                self._wanted.set()
            return

        def write(connection: Connection) -> tuple[bool, CopyState, bool]:
            told = books.take_page(connection, word, gln=self._gln, verifier=self._verifier)
            handover.catch_up(connection, source=self._station, last_seq=heard.last_seq)
            handover.settle_all(connection, now=word.service_time)
            prune.prune(connection, now=word.service_time, keep=self._keep)
            _, settled = handover.open_count(connection)
            return told, books.read_state(connection), not settled

        told, self.state, self._unsettled = await self._database.write(write)
        self._kept_time = word.service_time
        self._reload = self._reload or told
        if self._reload and heard.complete:
            # Of what was told so far it makes no sense before all of it is there.
            await self._replica.load()
            self._reload = False
        self.bell.ring()
        if not was_online:
            self._wanted.set()

    def _is_heartbeat(self, word: Word) -> bool:
        page, state, kept = word.page, self.state, self._kept_time
        nothing_new = not page.changes and not page.checkpoint and page.number >= page.newest
        known = (word.feed_id, word.previous) == (state.feed_id, state.number) and not state.loading
        recent = kept is not None and word.service_time - kept < KEEP_EVERY
        return nothing_new and known and recent and not self._unsettled

    # --- events ---

    async def _submit(self) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            self._wanted.clear()
            try:
                left = await self._hand_in()
                self.submit_error = None
                pause_s = RETRY_FIRST_S
            except MedtrailError as error:
                if self.submit_error is None or self.submit_error.code != error.code:
                    log.warning("events wait", code=error.code, reason=error.message)
                self.submit_error = error
                await self._note_end(error)
                left = True
            if not left:
                await self._wanted.wait()
            elif self.submit_error is not None:
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, REFUSED_AT_MOST_S if self._link.online else RETRY_AT_MOST_S)

    async def _hand_in(self) -> bool:
        """Hand in the next events; return whether more may wait."""
        items = await self._database.read(handover.next_events)
        if not items:
            return False
        async with aclosing(self._link.submit([item.data for item in items])) as answers:
            async for taken in answers:
                await self._database.write(partial(handover.take_answer, taken=taken))
                self._unsettled = True
                self.bell.ring()
        await self._check_answered(items)
        return True

    async def _check_answered(self, items: Sequence[OutboxItem]) -> None:
        left = await self._database.read(handover.next_events)
        if left and left[0].seq == items[0].seq:
            message = "the service answered for none of the events that were handed in"
            raise VerificationError(message, code="ANSWER_MISSING")

    async def _pause(self, seconds: float) -> None:
        self._again.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            return
