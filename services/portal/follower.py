"""Keeps the index up to date: follows the events of the organisation's service from where it stood."""

import asyncio
from collections.abc import AsyncIterable
from typing import Protocol

from medtrail.api.custody.v1 import custody_pb2
from medtrail.codec import from_timestamp
from medtrail.errors import MedtrailError, UnavailableError
from medtrail.runtime.logging import get_logger
from services.portal.indexing import EventChange
from services.portal.repository import EventRepository

log = get_logger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
SCRUB_PAUSE_S = 5.0


class Custody(Protocol):
    """The one call of the organisation's service that is used here."""

    def WatchEvents(  # noqa: N802 - as the contract has it
        self, request: custody_pb2.WatchEventsRequest, /
    ) -> AsyncIterable[custody_pb2.WatchEventsResponse]:
        """Tell every change to the events kept there."""


class Follower:
    """Follows until it is cancelled; a service that is away is asked again, later and later."""

    def __init__(self, custody: Custody, repository: EventRepository) -> None:
        """Hold whom to follow, and what to keep up to date.

        Args:
            custody: Stub of the organisation's service.
            repository: Prepared.
        """
        self._custody = custody
        self._repository = repository
        self._behind = asyncio.Event()
        # A crash may have come between an erasure and this.
        self._to_scrub = True

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="follow")
            group.create_task(self._scrub(), name="scrub")

    async def caught_up(self) -> None:
        """Wait until all that the service knew when it was asked first is in the index."""
        await self._behind.wait()

    async def _follow(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            before = self._repository.cursor
            try:
                await self._watch()
            except MedtrailError as error:
                if error.code == "CHANGE_UNKNOWN":
                    log.warning("index begun anew", reason=error.message)
                    await self._repository.begin_anew()
                else:
                    log.info("events not followed", code=error.code, reason=error.message)
            pause_s = FIRST_PAUSE_S if self._repository.cursor != before else min(pause_s * 2, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _watch(self) -> None:
        cursor = self._repository.cursor
        request = custody_pb2.WatchEventsRequest(change_number=cursor.number, signed_event_sha256=cursor.sha256)
        async for answer in self._custody.WatchEvents(request):
            changes = [change_from_message(message) for message in answer.changes]
            expected = self._repository.cursor.number
            if [change.number for change in changes] != list(range(expected + 1, expected + 1 + len(changes))):
                message = f"expected changes from {expected + 1} on without gaps"
                raise UnavailableError(message, code="CHANGES_MISSING")
            await self._repository.apply(changes)
            self._to_scrub |= any(change.gone for change in changes)
            if self._repository.cursor.number >= answer.newest_change_number:
                self._behind.set()

    async def _scrub(self) -> None:
        """See to it that what was erased is gone from the files as well."""
        while True:
            if self._to_scrub:
                try:
                    self._to_scrub = False
                    await self._repository.database.scrub()
                except UnavailableError as error:
                    self._to_scrub = True
                    log.info("erased events not gone from the file yet", code=error.code)
            await asyncio.sleep(SCRUB_PAUSE_S)


def change_from_message(message: custody_pb2.EventChange) -> EventChange:
    """Return the change of a message.

    Raises:
        MalformedError: Its record time is none.
    """
    return EventChange(
        number=message.number,
        sha256=message.signed_event_sha256,
        record_time=from_timestamp(message.record_time, field="record_time"),
        signed_event=message.signed_event,
        signer=message.signer,
        leaf_index=message.leaf_index if message.HasField("leaf_index") else None,
        refusal=message.refusal_code,
        gone=message.gone,
    )
