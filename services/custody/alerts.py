"""Alerts of the books: what was recorded although a rule speaks against it, for a person to look at.

What has happened is recorded, whether it should have or not; the alert says what is wrong with it. An alert stands
until what it rests on is taken back: the event was refused by the ledger, or declared an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, Connection, Index, UniqueConstraint, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field, col

from services.custody.holdings_store import chunks, from_us, to_us
from services.custody.notices import AlertCode, Notice
from services.custody.tables import CustodyTable
from services.custody.units import Unit, unit_of_path

__all__ = [
    "Alert",
    "AlertCode",
    "AlertQuery",
    "AlertRow",
    "inherit",
    "list_alerts",
    "raise_alert",
    "raise_all",
    "withdraw",
    "withdraw_event",
]


class AlertRow(CustodyTable, table=True):
    """An alert; the same code on the same unit by the same event stands once.

    Attributes:
        number: In order of raising, from 1.
        withdraw_us: When it was withdrawn; None while it stands.
    """

    __tablename__: ClassVar[str] = "alert"
    __table_args__ = (UniqueConstraint("event_id", "code", "path"), Index("alert_by_path", "path"))

    number: int | None = Field(default=None, primary_key=True)
    code: str
    path: str
    event_id: str
    message: str
    raise_us: int = Field(sa_type=BigInteger)
    withdraw_us: int | None = Field(default=None, sa_type=BigInteger)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as stored.

    Attributes:
        number: In order of raising, from 1.
        code: Stable.
        unit: What it concerns.
        event_id: Of the event by which it was raised.
        message: For a person.
        raise_time: Aware UTC.
        withdraw_time: Likewise; None while it stands.
    """

    number: int
    code: str
    unit: Unit
    event_id: str
    message: str
    raise_time: datetime
    withdraw_time: datetime | None = None


_TABLE = AlertRow.__table__  # type: ignore[attr-defined]
_INSERT = insert(AlertRow)
# Raised anew by the same event, as when that is sent again after a refusal, it stands again.
_RAISE = _INSERT.on_conflict_do_update(
    index_elements=["event_id", "code", "path"], set_={"withdraw_us": None, "message": _INSERT.excluded.message}
)


def raise_alert(
    connection: Connection, code: AlertCode, unit: Unit, *, event_id: str, message: str, now: datetime
) -> None:
    """Raise an alert on a unit by an event; raised before, it stands once."""
    raise_all(connection, [Notice(code, unit, message)], event_id=event_id, now=now)


def raise_all(connection: Connection, notices: Iterable[Notice], *, event_id: str, now: datetime) -> None:
    """Raise what the rules noticed while an event was applied to the books."""
    rows = [
        {
            "code": notice.code.value,
            "path": notice.unit.path,
            "event_id": event_id,
            "message": notice.message,
            "raise_us": to_us(now),
        }
        for notice in notices
    ]
    if rows:
        connection.execute(_RAISE, rows)


def withdraw(connection: Connection, code: AlertCode, unit: Unit, *, event_id: str, now: datetime) -> None:
    """Withdraw an alert, where it stands."""
    connection.execute(
        update(AlertRow)
        .where(
            col(AlertRow.event_id) == event_id,
            col(AlertRow.code) == code.value,
            col(AlertRow.path) == unit.path,
            col(AlertRow.withdraw_us).is_(None),
        )
        .values(withdraw_us=to_us(now))
    )


def inherit(connection: Connection, *, event_id: str, earlier: str, paths: Iterable[str]) -> None:
    """Let an event that says anew what an earlier one said of units stand for it in their alerts."""
    for part in chunks(sorted(paths)):
        connection.execute(
            update(AlertRow)
            .where(col(AlertRow.event_id) == earlier, col(AlertRow.path).in_(part))
            .values(event_id=event_id)
        )


def withdraw_event(connection: Connection, event_id: str, *, now: datetime) -> None:
    """Withdraw the alerts of an event that counts no more."""
    connection.execute(
        update(AlertRow)
        .where(col(AlertRow.event_id) == event_id, col(AlertRow.withdraw_us).is_(None))
        .values(withdraw_us=to_us(now))
    )


@dataclass(frozen=True, slots=True)
class AlertQuery:
    """Which alerts are wanted; None, empty or false means all that stand."""

    code: str = ""
    unit: Unit | None = None
    include_withdrawn: bool = False


def list_alerts(connection: Connection, query: AlertQuery, *, before: int | None, limit: int) -> list[Alert]:
    """Return alerts, newest first, those before a number."""
    wanted = select(_TABLE).order_by(col(AlertRow.number).desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(col(AlertRow.number) < before)
    if query.code:
        wanted = wanted.where(col(AlertRow.code) == query.code)
    if query.unit is not None:
        wanted = wanted.where(col(AlertRow.path) == query.unit.path)
    if not query.include_withdrawn:
        wanted = wanted.where(col(AlertRow.withdraw_us).is_(None))
    return [
        Alert(
            number=row["number"],
            code=row["code"],
            unit=unit_of_path(row["path"]),
            event_id=row["event_id"],
            message=row["message"],
            raise_time=from_us(row["raise_us"]),
            withdraw_time=None if row["withdraw_us"] is None else from_us(row["withdraw_us"]),
        )
        for row in connection.execute(wanted).mappings()
    ]
