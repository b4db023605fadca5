"""Several chunks of a capture as one transaction."""

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.codec import epcis_to_message
from medtrail.epcis.model import Action, EpcisEvent, EventType, Place
from medtrail.errors import NotFoundError, TooLargeError
from services.custody import capture_servicer

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World


def _commissioning(maker: "Client", serial: int, **fields: Any) -> EpcisEvent:
    place = Place("urn:epc:id:sgln:030001.111111.0")
    values: dict[str, Any] = {
        "type": EventType.OBJECT,
        "event_time": maker.premises.office.desk.clock() - timedelta(seconds=serial),
        "event_time_zone_offset": "-05:00",
        "action": Action.ADD,
        "epc_list": (_pack(serial),),
        "biz_step": "commissioning",
        "disposition": "active",
        "read_point": place,
        "biz_location": place,
    }
    return EpcisEvent(**(values | fields))


def _pack(serial: int) -> str:
    return f"urn:epc:id:sgtin:030001.0012345.{serial}"


def _chunk(*events: EpcisEvent, **fields: Any) -> custody_pb2.CaptureEventsRequest:
    messages = [epcis_to_message(event) for event in events]
    return custody_pb2.CaptureEventsRequest(**({"request_id": str(uuid.uuid4()), "events": messages} | fields))


def test_chunks_of_one_transaction_are_taken_together(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        events = [_commissioning(maker, serial) for serial in range(5)]
        parts = [_chunk(*events[:2], continued=True), _chunk(events[2], continued=True), _chunk(*events[3:])]
        alone = _chunk(_commissioning(maker, 9))
        answers = await maker.capture(*parts, alone)
        assert [len(answer.events) for answer in answers] == [2, 1, 2, 1]
        assert [answer.request_id for answer in answers] == [part.request_id for part in (*parts, alone)]
        assert len({answer.change_number for answer in answers}) == 2
        # Said again it is answered as before; with another part before it, it is another request.
        assert await maker.capture(*parts) == answers[:3]
        [changed] = await maker.capture(parts[2])
        assert changed.errors[0].code == "REQUEST_ID_REUSED"

    play(story)


def test_one_refused_event_leaves_nothing_of_the_transaction(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        first = _commissioning(maker, 1)
        again = _commissioning(maker, 1, event_time=first.event_time - timedelta(hours=1))
        for refused in (_chunk(_commissioning(maker, 2), again), _chunk(request_id="1")):
            last = _chunk(_commissioning(maker, 3))
            answers = await maker.capture(_chunk(first, continued=True), _continued(refused), last)
            assert [answer.errors[0].code == "TRANSACTION_REFUSED" for answer in answers] == [True, False, True]
            assert not any(answer.events for answer in answers)
            for serial in (1, 2, 3):
                with pytest.raises(NotFoundError):
                    await maker.holding(_pack(serial))

    play(story)


def _continued(request: custody_pb2.CaptureEventsRequest) -> custody_pb2.CaptureEventsRequest:
    request.continued = True
    return request


def test_a_transaction_that_is_never_ended_or_too_large_records_nothing(
    play: "Play", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_servicer, "MAX_TRANSACTION_EVENTS", 3)

    async def story(world: "World") -> None:
        maker = await world.start("maker")
        events = [_commissioning(maker, serial) for serial in range(4)]
        assert await maker.capture(_chunk(*events[:2], continued=True)) == []
        with pytest.raises(TooLargeError) as caught:
            await maker.capture(_chunk(*events[:2], continued=True), _chunk(*events[2:]))
        assert caught.value.code == "TRANSACTION_SIZE"
        with pytest.raises(NotFoundError):
            await maker.holding(_pack(0))

    play(story)
