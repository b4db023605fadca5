"""Expiry: first expired first, and stock past its expiry told of once, by a clock that is passed in."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from medtrail.gs1 import Gln
from services.custody import alerts, commands, expiry_watch
from services.custody.alerts import AlertQuery
from services.custody.desk import Session
from services.custody.expiry_watch import ExpiringQuery, Position
from services.custody.units import Unit
from tests.unit.custody.conftest import CASE_GTIN, EXPIRY, GTIN, LOT, House, named, packs, sscc

LAST_DAY = datetime(2028, 3, 31, 12, tzinfo=UTC)


def look(house: House, moment: datetime) -> int:
    house.clock.now = moment

    def work(session: Session) -> int:
        return expiry_watch.tell_expired(session, expiry_watch.today(session.now, session.desk.zone))

    return house.write(work)


def raised(house: House) -> list[tuple[str, Unit]]:
    found = house.read(lambda c: alerts.list_alerts(c, AlertQuery(), before=None, limit=9))
    return [(alert.code, alert.unit) for alert in found]


def commission(house: House, units: tuple[Unit, ...], expiry: date, *, lot: str = LOT) -> None:
    occasion = house.occasion()
    house.write(lambda s: commands.commission(s, named(units), occasion, lot=lot, expiry=expiry), units)


def test_expired_stock_is_told_of_and_nothing_is_signed(maker: House) -> None:
    maker.commission(packs(1, 2))
    maker.ship(packs(2), Gln("0399999999991"))
    before = (maker.events(), maker.held(packs(1)[0]))
    assert look(maker, LAST_DAY + timedelta(days=1)) == 1

    assert (maker.events(), maker.held(packs(1)[0])) == before
    assert raised(maker) == [("EXPIRED_STOCK", packs(1)[0])]
    (alarm,) = maker.read(expiry_watch.expired_alarms)
    assert (alarm.code, alarm.count) == ("EXPIRED_STOCK", 1)


def test_no_expired_stock_on_the_last_day(maker: House) -> None:
    maker.commission(packs(1))

    assert look(maker, LAST_DAY) == 0
    assert (raised(maker), maker.read(expiry_watch.expired_alarms)) == ([], ())


@pytest.mark.parametrize(
    ("zone", "hour", "expired"),
    [
        ("America/New_York", 3, False),
        ("America/New_York", 5, True),
        ("Asia/Tokyo", -10, False),
        ("Asia/Tokyo", -8, True),
    ],
)
def test_a_pack_is_usable_to_the_end_of_its_day_where_it_is(maker: House, zone: str, hour: int, expired: bool) -> None:
    maker.desk = replace(maker.desk, zone=ZoneInfo(zone))
    maker.commission(packs(1))

    assert look(maker, datetime(2028, 4, 1, tzinfo=UTC) + timedelta(hours=hour)) == int(expired)


def test_stock_is_told_of_once(maker: House) -> None:
    maker.commission(packs(1))

    assert [look(maker, LAST_DAY + timedelta(days=days)) for days in (1, 2)] == [1, 0]
    assert raised(maker) == [("EXPIRED_STOCK", packs(1)[0])]


def test_expired_stock_is_found_on_hold_and_inside_containers(maker: House) -> None:
    maker.commission(packs(1, 2))
    maker.pack(sscc(1), packs(1, 2))
    maker.hold(packs(2))
    assert look(maker, LAST_DAY + timedelta(days=1)) == 2

    assert maker.held(packs(2)[0]).hold_reason == "leaking"
    assert maker.held(packs(1)[0]).parent == sscc(1)


def test_many_packs_are_told_of_in_turns(maker: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry_watch, "BATCH", 2)
    maker.commission(packs(1, 2, 3))

    assert [look(maker, LAST_DAY + timedelta(days=1)) for _ in range(3)] == [2, 1, 0]


def test_the_alarm_ends_when_the_stock_is_gone(maker: House, distributor: House) -> None:
    maker.commission(packs(1))
    look(maker, LAST_DAY + timedelta(days=1))
    maker.send_back(packs(1), distributor.gln)

    assert maker.read(expiry_watch.expired_alarms) == ()


def test_first_expired_goes_first(maker: House) -> None:
    commission(maker, packs(3), date(2026, 9, 1), lot="B")
    commission(maker, packs(2), date(2026, 9, 1), lot="A")
    commission(maker, packs(1), date(2026, 8, 1))
    commission(maker, packs(4), EXPIRY)
    maker.hold(packs(2))

    def listed(query: ExpiringQuery, after: Position | None = None, limit: int = 9) -> tuple[list[Unit], int]:
        found, total = maker.read(lambda c: expiry_watch.list_expiring(c, query, after=after, limit=limit))
        return [item.unit for item in found], total

    soon = ExpiringQuery(date(2026, 9, 1))
    assert listed(soon) == ([*packs(1, 2, 3)], 3)
    assert listed(replace(soon, last=date(2026, 8, 31))) == ([*packs(1)], 1)
    assert listed(replace(soon, exclude_held=True)) == ([*packs(1, 3)], 2)
    assert listed(replace(soon, gtin=CASE_GTIN)) == ([], 0)
    assert listed(replace(soon, gtin=GTIN, last=date(2030, 1, 1))) == ([*packs(1, 2, 3, 4)], 4)
    # Page by page, of any size, nothing is left out or told twice.
    for size in (1, 2, 3):
        told: list[Unit] = []
        after = None
        while units := listed(soon, after, size)[0]:
            told += units
            after = expiry_watch.position_of(maker.held(units[-1]))
        assert told == [*packs(1, 2, 3)]
