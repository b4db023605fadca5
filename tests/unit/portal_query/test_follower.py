"""The follower goes on through refusals, gaps and busy files, and takes nothing in that does not fit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.codec import to_timestamp
from medtrail.errors import ConflictError, MedtrailError, UnavailableError
from services.portal import follower
from services.portal.follower import Follower
from tests.unit.portal_query.conftest import object_event

if TYPE_CHECKING:
    from services.portal.indexing import EventChange
    from tests.unit.portal_query.conftest import Shelf


def message(change: "EventChange") -> custody_pb2.EventChange:
    return custody_pb2.EventChange(
        number=change.number,
        signed_event_sha256=change.sha256,
        signed_event=change.signed_event,
        record_time=to_timestamp(change.record_time),
        signer=change.signer,
        gone=change.gone,
    )


class Told:
    """A service that tells what it is given, a call after the other, and then nothing more."""

    def __init__(self, *calls: list["EventChange"] | MedtrailError) -> None:
        self.calls = list(calls)
        self.asked: list[int] = []
        self.done = asyncio.Event()

    async def WatchEvents(  # noqa: N802
        self, request: custody_pb2.WatchEventsRequest, /
    ) -> AsyncIterator[custody_pb2.WatchEventsResponse]:
        self.asked.append(request.change_number)
        if not self.calls:
            self.done.set()
            await asyncio.Event().wait()
        call = self.calls.pop(0)
        if isinstance(call, MedtrailError):
            raise call
        newest = max((change.number for change in call), default=0)
        yield custody_pb2.WatchEventsResponse(changes=map(message, call), newest_change_number=newest)


@pytest.fixture
def follow(shelf: "Shelf", monkeypatch: pytest.MonkeyPatch) -> Callable[..., Follower]:
    monkeypatch.setattr(follower, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(follower, "LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr(follower, "SCRUB_PAUSE_S", 0.0)

    def run(told: Told, until: asyncio.Event | None = None) -> Follower:
        made = Follower(told, shelf.repository)

        async def main() -> None:
            task = asyncio.create_task(made.run())
            await told.done.wait()
            if until is not None:
                await until.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        asyncio.run(main())
        return made

    return run


def test_goes_on_after_each_call_where_it_stands(shelf: "Shelf", follow: Callable[..., Follower]) -> None:
    first, second = shelf.kept(object_event()), shelf.kept(object_event(biz_step="packing"))
    told = Told([first], UnavailableError("away"), [second])
    follow(told)
    assert told.asked == [0, 1, 1, 2]
    assert shelf.numbers() == [1, 2]


def test_takes_nothing_in_after_a_gap(shelf: "Shelf", follow: Callable[..., Follower]) -> None:
    first = shelf.kept(object_event())
    shelf.number += 1
    third = shelf.kept(object_event(biz_step="packing"))
    told = Told([first, third], [first])
    follow(told)
    assert told.asked == [0, 0, 1]
    assert shelf.numbers() == [1]


def test_begins_anew_when_the_service_knows_its_last_change_no_more(
    shelf: "Shelf", follow: Callable[..., Follower]
) -> None:
    shelf.add(object_event())
    shelf.number = 0
    other = shelf.kept(object_event(biz_step="packing"))
    told = Told(ConflictError("another", code="CHANGE_UNKNOWN"), [other])
    follow(told)
    assert told.asked == [1, 0, 1]
    assert (shelf.numbers(EQ_bizStep=["packing"]), shelf.repository.cursor.generation) == ([1], 1)


def test_empties_the_write_ahead_log_again_when_it_was_being_read(
    shelf: "Shelf", follow: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    scrub = shelf.database.scrub
    refused: list[int] = []
    emptied = asyncio.Event()

    async def busy_once(*tables: str) -> None:
        if not refused:
            refused.append(1)
            raise UnavailableError("busy", code="STORAGE_BUSY")
        await scrub(*tables)
        emptied.set()

    monkeypatch.setattr(shelf.database, "scrub", busy_once)
    event: Any = shelf.kept(object_event())
    follow(Told([event], [shelf.change(event.sha256, gone=True)]), emptied)
    assert (refused, shelf.numbers()) == ([1], [])
