"""Whoever follows an organisation's events misses none, sees what becomes of them, and goes on where it was."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.custody.v1.custody_pb2 import EventChange
from medtrail.codec import epcis_to_message
from medtrail.epcis.model import Action, EpcisEvent, EventType, Place
from medtrail.errors import AuthorizationError, ConflictError
from medtrail.gs1 import Gln
from medtrail.runtime.client import connect
from tests.integration.services.conftest import request_id

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World


async def changes(client: "Client", known: EventChange | None = None) -> AsyncIterator[EventChange]:
    request = custody_pb2.WatchEventsRequest()
    if known is not None:
        request.change_number = known.number
        request.signed_event_sha256 = known.signed_event_sha256
    async for answer in client.custody.WatchEvents(request):
        for change in answer.changes:
            yield change


def test_follows_own_and_partners_events_and_goes_on_after_a_restart(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        distributor = await world.start("distributor")
        await maker.register()
        made = await maker.commission("1")
        wanted = made.events[0].signed_event_sha256
        async for change in changes(maker):
            if change.signed_event_sha256 == wanted and change.HasField("leaf_index"):
                break
        assert change.signer == maker.gln
        await maker.ship(distributor, "(01)00300010123455(21)1")
        seen: list[EventChange] = []
        async for change in changes(distributor):
            seen.append(change)
            # The despatch is confirmed by the ledger once its place in the log is known.
            if change.kind == custody_pb2.EVENT_CHANGE_KIND_LOGGED:
                break
        assert [change.number for change in seen] == list(range(1, len(seen) + 1))
        assert {change.signer for change in seen} == {maker.gln}
        await world.stop("distributor")
        distributor = await world.start("distributor")
        received = await distributor.receive("(01)00300010123455(21)1")
        async for change in changes(distributor, seen[-1]):
            assert change.number > len(seen)
            if change.signed_event_sha256 == received.events[0].signed_event_sha256:
                break
        wrong = EventChange(number=1, signed_event_sha256=b"x" * 32)
        with pytest.raises(ConflictError, match="follow anew"):
            await anext(changes(distributor, wrong))

    play(story)


def test_no_other_organisation_may_follow(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        address = maker.address  # type: ignore[attr-defined]
        stranger = connect(address, folder=world.network["distributor"], audience=Gln(maker.gln), server="maker")
        try:
            client = type(maker)(stranger, maker.premises)
            with pytest.raises(AuthorizationError) as caught:
                await anext(changes(client))
            assert caught.value.code == "CALLER_NOT_OWN"
        finally:
            await stranger.close()

    play(story)


def test_a_capture_tells_up_to_which_change_its_events_are_known(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1")
        (refused,) = await maker.capture(custody_pb2.CaptureEventsRequest(request_id=request_id()))
        assert (refused.change_number, len(refused.errors)) == (0, 1)
        place = Place(f"https://id.gs1.org/414/{maker.gln}")
        event = EpcisEvent(
            type=EventType.OBJECT,
            event_time=datetime(2026, 11, 1, tzinfo=UTC),
            event_time_zone_offset="+00:00",
            action=Action.OBSERVE,
            epc_list=("https://id.gs1.org/01/00300010123455/21/1",),
            biz_step="inspecting",
            read_point=place,
            biz_location=place,
        )
        request = custody_pb2.CaptureEventsRequest(request_id=request_id(), events=[epcis_to_message(event)])
        (answer,) = await maker.capture(request)
        (again,) = await maker.capture(request)
        assert again == answer
        async for change in changes(maker):
            if change.signed_event_sha256 == answer.events[0].signed_event_sha256:
                break
        assert 0 < change.number <= answer.change_number

    play(story)
