"""Subscriptions in the portal's database, each with how far it has been served."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from medtrail.errors import UnavailableError
from medtrail.runtime.database import Database
from services.custody.changes import ChangeBell
from services.portal.headers import EpcFormat
from services.portal.normal import START, microseconds
from services.portal.query.errors import NoSuchNameError, NoSuchSubscriptionError
from services.portal.query_tables import NamedQueryRow, SubscriptionRow

MOST_SUBSCRIPTIONS: Final = 1000
_QUERY: Any = NamedQueryRow.__table__  # type: ignore[attr-defined]
_TABLE: Any = SubscriptionRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription by webhook, as its caller made it.

    Attributes:
        id: UUID.
        owner: Name of the token that made it.
        destination: URL.
        signature_token: The caller's secret; empty: nothing is signed.
        report_if_empty: Whether a schedule with no news is told.
        schedule: Fields; empty: as events come.
    """

    id: str
    query_name: str
    owner: str
    destination: str
    signature_token: str
    epc_format: EpcFormat
    report_if_empty: bool
    schedule: dict[str, str]
    created_time: datetime

    def __repr__(self) -> str:
        """Name it, without its secret."""
        return f"Subscription({self.id!r})"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a subscription has been served.

    Attributes:
        number: Events up to this one were delivered.
        record_us: Record time of that event; microseconds since the year 1.
        generation: Of the index that gave the number.
        floor_us: Events recorded earlier are not delivered: before the subscription, or by an index made anew.
        attempts: Deliveries that failed since one succeeded.
        due_time: When to try again, or when the schedule is due; None: now.
        last_error: What the last failure was; empty after a success.
        delivered_time: Of the last success; None for none.
    """

    number: int
    record_us: int
    generation: int
    floor_us: int
    attempts: int = 0
    due_time: datetime | None = None
    last_error: str = ""
    delivered_time: datetime | None = None


class SubscriptionStore:
    """Subscriptions and their progress; the bell rings when one comes or goes."""

    def __init__(self, database: Database, bell: ChangeBell) -> None:
        """Name the database, with its tables made, and whom to wake."""
        self._database = database
        self._bell = bell

    async def add(self, subscription: Subscription, progress: Progress) -> None:
        """Keep a subscription.

        Raises:
            NoSuchNameError: Its query is gone meanwhile.
            UnavailableError: There are 1,000 already (SUBSCRIPTIONS_FULL).
        """

        def write(connection: Connection) -> None:
            query = select(_QUERY.c.name).where(_QUERY.c.name == subscription.query_name)
            if connection.execute(query).first() is None:
                message = f"there is no query {subscription.query_name}"
                raise NoSuchNameError(message, field="queryName")
            if connection.execute(select(func.count()).select_from(_TABLE)).scalar_one() >= MOST_SUBSCRIPTIONS:
                message = f"there are {MOST_SUBSCRIPTIONS} subscriptions already: delete one first"
                raise UnavailableError(message, code="SUBSCRIPTIONS_FULL")
            connection.execute(
                insert(_TABLE).values(
                    id=subscription.id,
                    query_name=subscription.query_name,
                    owner=subscription.owner,
                    destination=subscription.destination,
                    signature_token=subscription.signature_token,
                    epc_format=subscription.epc_format.value,
                    report_if_empty=subscription.report_if_empty,
                    schedule=json.dumps(subscription.schedule) if subscription.schedule else "",
                    created_us=microseconds(subscription.created_time),
                    **_values(progress),
                )
            )

        await self._database.write(write)
        self._bell.ring()

    async def get(self, query_name: str, ident: str) -> Subscription:
        """Return a subscription of a query.

        Raises:
            NoSuchSubscriptionError: There is none.
        """
        for found in await self.list(query_name, after="", limit=MOST_SUBSCRIPTIONS):
            if found.id == ident:
                return found
        raise _unknown(ident)

    async def list(self, query_name: str | None, *, after: str, limit: int) -> Sequence[Subscription]:
        """Return subscriptions of a query, or of all (None), in order of their ids, those after one."""
        return await self._database.read(partial(_list, query_name=query_name, after=after, limit=limit))

    async def delete(self, query_name: str, ident: str) -> None:
        """Forget a subscription of a query.

        Raises:
            NoSuchSubscriptionError: There is none.
        """

        def write(connection: Connection) -> int:
            return connection.execute(
                delete(_TABLE).where(_TABLE.c.id == ident, _TABLE.c.query_name == query_name)
            ).rowcount

        if not await self._database.write(write):
            raise _unknown(ident)
        self._bell.ring()

    async def progress(self, ident: str) -> Progress | None:
        """Return how far a subscription has been served; None when it is gone."""

        def look(connection: Connection) -> Progress | None:
            row = connection.execute(select(_TABLE).where(_TABLE.c.id == ident)).mappings().first()
            return None if row is None else _progress(row)

        return await self._database.read(look)

    async def note(self, ident: str, progress: Progress) -> None:
        """Keep how far a subscription has been served; nothing when it is gone."""

        def write(connection: Connection) -> None:
            connection.execute(update(_TABLE).where(_TABLE.c.id == ident).values(**_values(progress)))

        await self._database.write(write)


def _unknown(ident: str) -> NoSuchSubscriptionError:
    message = f"there is no subscription {ident[:100]} to this query"
    return NoSuchSubscriptionError(message, field="subscriptionID")


def _list(connection: Connection, *, query_name: str | None, after: str, limit: int) -> list[Subscription]:
    query = select(_TABLE).where(_TABLE.c.id > after).order_by(_TABLE.c.id).limit(limit)
    if query_name is not None:
        query = query.where(_TABLE.c.query_name == query_name)
    return [_subscription(row) for row in connection.execute(query).mappings()]


def _subscription(row: Any) -> Subscription:  # noqa: ANN401  # a row of subscription
    return Subscription(
        id=row["id"],
        query_name=row["query_name"],
        owner=row["owner"],
        destination=row["destination"],
        signature_token=row["signature_token"],
        epc_format=EpcFormat(row["epc_format"]),
        report_if_empty=bool(row["report_if_empty"]),
        schedule=json.loads(row["schedule"]) if row["schedule"] else {},
        created_time=START + timedelta(microseconds=row["created_us"]),
    )


def _progress(row: Any) -> Progress:  # noqa: ANN401  # a row of subscription
    return Progress(
        number=row["cursor_number"],
        record_us=row["cursor_us"],
        generation=row["generation"],
        floor_us=row["floor_us"],
        attempts=row["attempts"],
        due_time=_time(row["due_us"]),
        last_error=row["last_error"],
        delivered_time=_time(row["delivered_us"]),
    )


def _values(progress: Progress) -> dict[str, object]:
    return {
        "cursor_number": progress.number,
        "cursor_us": progress.record_us,
        "generation": progress.generation,
        "floor_us": progress.floor_us,
        "attempts": progress.attempts,
        "due_us": 0 if progress.due_time is None else microseconds(progress.due_time),
        "last_error": progress.last_error,
        "delivered_us": 0 if progress.delivered_time is None else microseconds(progress.delivered_time),
    }


def _time(us: int) -> datetime | None:
    return START + timedelta(microseconds=us) if us else None
