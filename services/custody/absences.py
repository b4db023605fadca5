"""What a sender says is not inside a container, whatever the events say that it passed on."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, Connection, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field, col

from services.custody.holdings_store import chunks, to_us
from services.custody.tables import CustodyTable


class AbsentUnit(CustodyTable, table=True):
    """That a unit was in no container of a shipment when that left."""

    __tablename__: ClassVar[str] = "absent_unit"

    path: str = Field(primary_key=True)
    time_us: int = Field(primary_key=True, sa_type=BigInteger)


def note(connection: Connection, paths: Iterable[str], *, time: datetime) -> None:
    """Keep that units were in no container at a moment."""
    rows = [{"path": path, "time_us": to_us(time)} for path in paths]
    connection.execute(insert(AbsentUnit).on_conflict_do_nothing(), rows)


def latest(connection: Connection, paths: Sequence[str], *, until_us: int) -> dict[str, int]:
    """Return, of units that are known to have been in no container, the latest such moment up to one."""
    found: dict[str, int] = {}
    for part in chunks(paths):
        rows = connection.execute(
            select(col(AbsentUnit.path), func.max(col(AbsentUnit.time_us)))
            .where(col(AbsentUnit.path).in_(part), col(AbsentUnit.time_us) <= until_us)
            .group_by(col(AbsentUnit.path))
        )
        found.update((path, moment) for path, moment in rows)
    return found
