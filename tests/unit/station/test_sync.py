"""How a station and its service stay together, with a service that is played."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import Connection, delete, select

from medtrail.errors import AuthenticationError
from medtrail.gs1 import Gln
from medtrail.note import NoteSigner
from medtrail.runtime import outbox
from medtrail.runtime.database import Database
from medtrail.runtime.tables import Outbox, prepare
from services.custody.station_events import Taken
from services.custody.station_feed import FeedPage
from services.custody.upgrade import upgrade
from services.station import books, handover
from services.station.handover import AnswerRow
from services.station.link import Heard
from services.station.sync import Sync

if TYPE_CHECKING:
    from medtrail.runtime.replica import RegistryReplica
    from services.station.link import ServiceLink
    from tests.conftest import Eventually

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
ANSWERS = AnswerRow.__table__  # type: ignore[attr-defined]


class Service:
    """A service that knows a station's events up to a number, and takes none."""

    online = True

    def __init__(self, *, last_seq: int, turned_away: str = "") -> None:
        self.last_seq = last_seq
        self.turned_away = turned_away
        self.asked: list[tuple[str, int]] = []

    async def follow(self, *, feed_id: str, number: int) -> AsyncGenerator[Heard, None]:
        self.asked.append((feed_id, number))
        if self.turned_away:
            raise AuthenticationError("not with this key", code=self.turned_away)
        previous = number if feed_id == "feed" else 0
        yield Heard("feed", previous, FeedPage((), 3, 3, b"", 0, 0), NOW, None, self.last_seq)
        await asyncio.Event().wait()

    async def submit(self, events: Sequence[bytes]) -> AsyncGenerator[Taken, None]:
        await asyncio.Event().wait()
        yield Taken("till", len(events), b"", (), 0)


class Replica:
    """A registry of which nothing is told."""

    async def load(self) -> None:
        return


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "station.db")
    made.write_now(prepare)
    made.write_now(upgrade)
    yield made
    made.close()


def sign(database: Database, count: int, *, answered: int) -> list[bytes]:
    """Events 1 to ``count``, the first of which are answered; return their hashes."""

    def write(connection: Connection) -> list[bytes]:
        found = [outbox.enqueue_event(connection, b"%d" % n, event_id=str(n), now=NOW) for n in range(1, count + 1)]
        for seq, digest in enumerate(found[:answered], 1):
            connection.execute(delete(Outbox).where(Outbox.c.sha256 == digest))
            row = {"source_seq": seq, "event_number": seq, "signed_event_sha256": digest, "conflicts": "[]"}
            connection.execute(ANSWERS.insert(), {**row, "change_number": 90 + seq, "settled": seq == 1})
        return found

    return database.write_now(write)


def queue(connection: Connection) -> list[bytes]:
    return list(connection.execute(select(Outbox.c.sha256).order_by(Outbox.c.seq)).scalars())


def run(
    service: Service,
    database: Database,
    eventually: "Eventually",
    until: Callable[[Sync], bool] = lambda sync: sync.state.number == 3,
) -> Sync:
    link, replica = cast("ServiceLink", service), cast("RegistryReplica", Replica())
    verifier = NoteSigner("log.example", bytes(32)).verifier
    sync = Sync(
        database, link, replica, station="till", key_id="did:key:till", gln=Gln("9521002000016"), verifier=verifier
    )

    async def story() -> None:
        await sync.load()
        task: asyncio.Task[Any] = asyncio.create_task(sync.run())
        await eventually(lambda: until(sync))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(story())
    return sync


def test_begins_again_with_a_service_that_was_restored(database: Database, eventually: "Eventually") -> None:
    hashes = sign(database, 5, answered=4)
    service = Service(last_seq=2)
    sync = run(service, database, eventually)
    assert service.asked == [("", 0), ("", 0)]
    assert database.read_now(queue) == hashes[2:]
    # Of what the service still knows, the copy that was made anew has the effects.
    assert database.read_now(handover.open_count) == (3, True)
    assert not sync.state.loading


def test_goes_on_with_a_service_that_knows_what_it_answered_for(database: Database, eventually: "Eventually") -> None:
    hashes = sign(database, 5, answered=4)
    service = Service(last_seq=4)
    run(service, database, eventually)
    assert service.asked == [("", 0)]
    assert database.read_now(queue) == hashes[4:]
    assert database.read_now(handover.open_count) == (1, False)


@pytest.mark.parametrize("code", ["KEY_REVOKED", "KEY_RETIRED"])
def test_remembers_that_its_key_has_ended(database: Database, eventually: "Eventually", code: str) -> None:
    ended = run(Service(last_seq=0, turned_away=code), database, eventually, lambda sync: bool(sync.state.ended_code))
    # Started again, and alone.
    assert database.read_now(books.read_state) == ended.state
    assert (ended.state.ended_key_id, ended.state.ended_code) == ("did:key:till", code)
    run(Service(last_seq=0), database, eventually)
    assert database.read_now(books.read_state).ended_code == code


def test_a_service_that_is_away_ends_no_key(database: Database, eventually: "Eventually") -> None:
    sync = run(
        Service(last_seq=0, turned_away="KEY_UNKNOWN"),
        database,
        eventually,
        lambda sync: sync.follow_error is not None,
    )
    assert sync.state.ended_key_id == ""
