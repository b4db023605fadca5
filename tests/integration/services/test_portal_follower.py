"""The portal's index follows the organisation's service: through restarts, erasures, and into another database."""

import asyncio
import shutil
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.codec import epcis_to_message
from medtrail.epcis.model import Action, EpcisEvent, EventType, Place
from medtrail.epcis.namespaces import Prefixes
from medtrail.runtime.client import connect
from medtrail.runtime.database import Database
from services.custody import events_store
from services.portal.follower import Follower
from services.portal.query.parameters import read_query
from services.portal.repository import EventRepository
from tests.integration.services.conftest import GTIN, request_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.services.conftest import Client, Play, World

PACK = f"(01){GTIN}(21)1"


@asynccontextmanager
async def following(client: "Client", path: Path) -> "AsyncIterator[EventRepository]":
    database = Database(path)
    repository = EventRepository(database)
    repository.prepare()
    folder = client.premises.folder
    # A channel of its own, as the portal has: it outlives a restart of the service.
    channel = connect(client.address, folder=folder, audience=folder.gln, server=folder.profile.name)  # type: ignore[attr-defined]
    follower = Follower(custody_pb2_grpc.CustodyServiceStub(channel), repository)
    task = asyncio.create_task(follower.run())
    try:
        await follower.caught_up()
        yield repository
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await channel.close()
        database.close()


async def steps(repository: EventRepository) -> list[str]:
    page = await repository.page(read_query({"MATCH_anyEPC": [PACK]}, Prefixes()), size=100)
    return [found.event.biz_step or "" for found in page.events]


async def inspect(client: "Client", second: int) -> custody_pb2.CaptureEventsResponse:
    place = Place(f"https://id.gs1.org/414/{client.gln}")
    event = EpcisEvent(
        type=EventType.OBJECT,
        event_time=datetime(2026, 11, 1, 0, 0, second, tzinfo=UTC),
        event_time_zone_offset="+00:00",
        action=Action.OBSERVE,
        epc_list=(f"https://id.gs1.org/01/{GTIN}/21/1",),
        biz_step="inspecting",
        read_point=place,
        biz_location=place,
    )
    chunk = custody_pb2.CaptureEventsRequest(request_id=request_id(), events=[epcis_to_message(event)])
    (answer,) = await client.capture(chunk)
    assert not answer.errors
    return answer


def test_what_was_captured_is_found_at_once_and_after_restarts(play: "Play", tmp_path: Path) -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1")
        path = tmp_path / "portal.db"
        async with following(maker, path) as repository:
            answer = await inspect(maker, 1)
            assert await repository.wait_for(answer.change_number, timeout_s=30)
            assert await steps(repository) == ["commissioning", "inspecting"]
        await inspect(maker, 2)
        async with following(maker, path) as repository:
            assert await steps(repository) == ["commissioning", "inspecting", "inspecting"]
            await world.stop("maker")
            maker = await world.start("maker", listen=maker.address)  # type: ignore[attr-defined]
            answer = await inspect(maker, 3)
            assert await repository.wait_for(answer.change_number, timeout_s=60)
            assert len(await steps(repository)) == 4

    play(story)


def test_what_the_service_forgets_the_index_forgets(play: "Play", tmp_path: Path) -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1")
        answer = await inspect(maker, 1)
        async with following(maker, tmp_path / "portal.db") as repository:
            await maker.premises.office.database.write(partial(_forget, event_id=answer.events[0].event_id))

            async def forgotten() -> bool:
                return await steps(repository) == ["commissioning"]

            await world.eventually(forgotten)

    play(story)


def _forget(connection: Connection, *, event_id: str) -> None:
    (stored,) = events_store.find_by_id(connection, event_id)
    events_store.forget(connection, stored.number)


def test_of_a_service_restored_from_a_backup_the_index_is_made_anew(play: "Play", tmp_path: Path) -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1")
        folder = world.folder / "maker"
        await world.stop("maker")
        shutil.copytree(folder, tmp_path / "backup")
        maker = await world.start("maker")
        for second in range(9):
            answer = await inspect(maker, second)
        path = tmp_path / "portal.db"
        async with following(maker, path) as repository:
            assert await repository.wait_for(answer.change_number, timeout_s=30)
            assert len(await steps(repository)) == 10
        await world.stop("maker")
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "backup", folder)
        maker = await world.start("maker")
        answer = await inspect(maker, 30)
        async with following(maker, path) as repository:
            assert await repository.wait_for(answer.change_number, timeout_s=30)

            async def made_anew() -> bool:
                return await steps(repository) == ["commissioning", "inspecting"]

            await world.eventually(made_anew)
            assert repository.cursor.generation == 1

    play(story)
