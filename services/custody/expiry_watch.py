"""Expiry: which packs expire next, and an alert, once, about each pack here that is past its expiry.

A pack is usable to the end of its expiry day, where it is: in the time zone of the organisation. Nothing is signed and
nothing put on hold: whoever reads the expiry and a clock knows as much, and the rules refuse the sale by themselves.
"""

import asyncio
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.errors import MedtrailError
from medtrail.gs1 import Gtin
from medtrail.runtime.logging import get_logger
from medtrail.runtime.overdue import Alarm
from services.custody import alerts, holdings_store
from services.custody.desk import Session
from services.custody.holding import HERE_STATES, Holding
from services.custody.holdings_store import from_row, from_us, to_us
from services.custody.holds_tables import ExpiredStock
from services.custody.notices import AlertCode, Notice
from services.custody.office import Office
from services.custody.tables import HoldingRow
from services.custody.units import unit_of_path

log = get_logger(__name__)

LOOK_EVERY_S = 600.0
BATCH = 1000
_TABLE = HoldingRow.__table__  # type: ignore[attr-defined]
_HERE = _TABLE.c.state.in_([state.value for state in HERE_STATES])
_ALARM = "packs here are past their expiry: destroy them or send them back (medtrail expiring --days 0 lists them)"


def today(now: datetime, zone: tzinfo) -> date:
    """Return the day in a time zone: what expires on it may be used to its end."""
    return now.astimezone(zone).date()


@dataclass(frozen=True, slots=True)
class ExpiringQuery:
    """Which packs are wanted: those whose expiry is on or before ``last``; ``gtin`` None: all."""

    last: date
    gtin: Gtin | None = None
    exclude_held: bool = False


Position = tuple[str, str, str, str]
"""Of a pack in the order of expiry: expiry, GTIN, lot, path."""


def list_expiring(
    connection: Connection, query: ExpiringQuery, *, after: Position | None, limit: int
) -> tuple[list[Holding], int]:
    """Return packs here, first expired first, those after a position, and how many match in all."""
    conditions: list[ColumnElement[bool]] = [
        _HERE,
        _TABLE.c.expiry != "",
        _TABLE.c.expiry <= query.last.isoformat(),
    ]
    if query.gtin is not None:
        conditions.append(_TABLE.c.gtin == str(query.gtin))
    if query.exclude_held:
        conditions.append(_TABLE.c.hold_reason == "")
    total = connection.execute(select(func.count()).select_from(_TABLE).where(*conditions)).scalar_one()
    order = (_TABLE.c.expiry, _TABLE.c.gtin, _TABLE.c.lot, _TABLE.c.path)
    wanted = select(_TABLE).where(*conditions).order_by(*order).limit(limit)
    if after is not None:
        expiry, gtin, lot, path = after
        wanted = wanted.where(
            (_TABLE.c.expiry > expiry)
            | (
                (_TABLE.c.expiry == expiry)
                & (
                    (_TABLE.c.gtin > gtin)
                    | (
                        (_TABLE.c.gtin == gtin)
                        & ((_TABLE.c.lot > lot) | ((_TABLE.c.lot == lot) & (_TABLE.c.path > path)))
                    )
                )
            )
        )
    return [from_row(row) for row in connection.execute(wanted).mappings()], total


def position_of(holding: Holding) -> Position:
    """Return where a pack stands in the order of expiry."""
    row = holdings_store.to_row(holding)
    return row["expiry"], row["gtin"], row["lot"], row["path"]


def tell_expired(session: Session, day: date) -> int:
    """Raise an alert for packs here that expired before a day, those not found yet; return how many (up to 1,000)."""
    found = session.connection.execute(
        select(_TABLE.c.path, _TABLE.c.expiry, _TABLE.c.event_id)
        .where(
            _HERE,
            _TABLE.c.expiry != "",
            _TABLE.c.expiry < day.isoformat(),
            _TABLE.c.path.not_in(select(col(ExpiredStock.path))),
        )
        .order_by(_TABLE.c.expiry, _TABLE.c.path)
        .limit(BATCH)
    ).all()
    if found:
        rows = [{"path": path, "found_us": to_us(session.now)} for path, _, _ in found]
        session.connection.execute(insert(ExpiredStock), rows)
    for path, expiry, event_id in found:
        notice = Notice(AlertCode.EXPIRED_STOCK, unit_of_path(path), f"{path} could be used to the end of {expiry}")
        alerts.raise_all(session.connection, [notice], event_id=event_id, now=session.now)
    return len(found)


def expired_alarms(connection: Connection) -> tuple[Alarm, ...]:
    """Return the alarm that packs here are past their expiry."""
    count, since = connection.execute(
        select(func.count(), func.min(col(ExpiredStock.found_us)))
        .select_from(ExpiredStock)
        .join(_TABLE, _TABLE.c.path == col(ExpiredStock.path))
        .where(_HERE)
    ).one()
    return (Alarm(AlertCode.EXPIRED_STOCK.value, _ALARM, count, from_us(since)),) if count else ()


class ExpiryWatch:
    """Looks now and then for stock that has expired; one a service."""

    def __init__(self, office: Office, *, every: timedelta = timedelta(seconds=LOOK_EVERY_S)) -> None:
        """Watch the books of an office, by its desk's clock and zone."""
        self._office = office
        self._every_s = every.total_seconds()

    async def look(self) -> int:
        """Raise alerts about what has expired; return how many packs.

        Raises:
            UnavailableError: It is not known yet whose key this is (REGISTRY_NOT_READY).
        """
        office = self._office
        office.check_ready()
        desk = office.desk

        def work(connection: Connection) -> int:
            session = Session(connection, desk)
            return tell_expired(session, today(session.now, desk.zone))

        count = 0
        while found := await office.database.write(work):
            count += found
            office.after_write()
            office.bell.ring()
        if count:
            log.warning("stock expired", count=count)
        return count

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            pause_s = self._every_s
            try:
                await self.look()
            except MedtrailError as error:
                log.info("expiry not looked for", code=error.code, reason=error.message)
                pause_s = min(pause_s, 1.0)
            await asyncio.sleep(pause_s)
