"""The ledger's word on despatches: believed only for what was advised."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import UnavailableError
from medtrail.event import Event
from medtrail.runtime.database import Database
from services.custody import inbound_store
from services.custody.confirm import Confirmer
from tests.unit.custody.conftest import packs

if TYPE_CHECKING:
    from tests.unit.custody.conftest import House

T = TypeVar("T")
Found = tuple[int, Event, str] | None


class FakeLedger:
    """A ledger that knows one answer, or is away."""

    def __init__(self, found: Found, *, away: bool = False) -> None:
        self.found = found
        self.away = away

    async def find_logged(self, *, sha256: bytes, event_id: str) -> Found:
        assert len(sha256) == 32
        assert event_id
        if self.away:
            raise UnavailableError("gone")
        return self.found


def ask(house: "House", ledger: FakeLedger) -> int:
    confirmer = Confirmer(house.database, ledger, lambda: house.registry)  # type: ignore[arg-type]
    return asyncio.run(confirmer.confirm_all())


def despatch(maker: "House", distributor: "House") -> Event:
    maker.commission(packs(1))
    maker.ship(packs(1), distributor.gln)
    maker.send_to(distributor)
    return maker.events()[-1]


def test_a_proven_despatch_is_confirmed(maker: "House", distributor: "House") -> None:
    event = despatch(maker, distributor)
    assert ask(distributor, FakeLedger(None)) == 1
    assert ask(distributor, FakeLedger(None, away=True)) == 1
    assert distributor.held(packs(1)[0]).provisional
    assert ask(distributor, FakeLedger((9, event, maker.desk.key.key_id))) == 0
    assert not distributor.held(packs(1)[0]).provisional
    assert distributor.read(inbound_store.provisional_despatches) == []


class AwayOnce(Database):
    """Does not answer the first time."""

    away = True

    async def read(self, function: Callable[[Connection], T]) -> T:
        if self.away:
            self.away = False
            raise UnavailableError("the disk does not answer", code="STORAGE_IO")
        return await super().read(function)


def test_a_database_that_is_away_ends_no_confirming(maker: "House", distributor: "House") -> None:
    event = despatch(maker, distributor)
    database = AwayOnce(distributor.path)
    ledger = FakeLedger((9, event, maker.desk.key.key_id))

    async def run() -> None:
        confirmer = Confirmer(database, ledger, lambda: distributor.registry)  # type: ignore[arg-type]
        confirming = asyncio.create_task(confirmer.run())
        async with asyncio.timeout(60):
            while await asyncio.to_thread(distributor.read, inbound_store.provisional_despatches):
                confirmer.wake()
                await asyncio.sleep(0)
        confirming.cancel()
        await asyncio.gather(confirming, return_exceptions=True)

    asyncio.run(run())
    database.close()
    assert not distributor.held(packs(1)[0]).provisional


def test_another_despatch_under_its_id_confirms_nothing(maker: "House", distributor: "House") -> None:
    event = despatch(maker, distributor)
    assert isinstance(event.statement, EpcisEvent)
    by_other = (9, event, distributor.desk.key.key_id)
    unknown = (9, event, "did:key:z6Mk")
    other = (9, replace(event, statement=replace(event.statement, disposition="returned")), maker.desk.key.key_id)
    for found in (by_other, unknown, other):
        assert ask(distributor, FakeLedger(found)) == 1
    assert distributor.held(packs(1)[0]).provisional
