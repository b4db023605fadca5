"""Units that are here and wait for data, in the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from medtrail.gs1 import Gln
from services.custody.holdings_store import chunks, to_us
from services.custody.receiving.tables import Arrival

_TABLE = Arrival.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A unit that waits for data.

    Attributes:
        path: Of the unit.
        delivery: Number of the delivery that put it aside; 0: none did.
        lot: As on the unit; empty: not known.
        expiry: As on the unit; None: not known.
        location: Where it arrived; None: not known.
    """

    path: str
    delivery: int = 0
    lot: str = ""
    expiry: date | None = None
    location: Gln | None = None

    @property
    def labelled(self) -> bool:
        """Whether its label was read: it was scanned itself."""
        return bool(self.lot) or self.expiry is not None


def keep(connection: Connection, waiting: Iterable[Waiting], *, now: datetime) -> None:
    """Keep units in mind; what was known of one before gives way."""
    rows = [
        {
            "path": item.path,
            "delivery": item.delivery,
            "lot": item.lot,
            "expiry": "" if item.expiry is None else item.expiry.isoformat(),
            "location": "" if item.location is None else str(item.location),
            "since_us": to_us(now),
        }
        for item in waiting
    ]
    if rows:
        statement = insert(_TABLE)
        names = [name for name in rows[0] if name != "path"]
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["path"], set_={name: statement.excluded[name] for name in names}
            ),
            rows,
        )


def drop(connection: Connection, paths: Sequence[str]) -> None:
    """Keep units in mind no more."""
    for part in chunks(paths):
        connection.execute(delete(_TABLE).where(_TABLE.c.path.in_(part)))


def of_paths(connection: Connection, paths: Sequence[str]) -> dict[str, Waiting]:
    """Return those of some units that wait for data, by path."""
    found: dict[str, Waiting] = {}
    for part in chunks(paths):
        rows = connection.execute(select(_TABLE).where(_TABLE.c.path.in_(part))).mappings()
        for row in rows:
            found[row["path"]] = Waiting(
                row["path"],
                row["delivery"],
                row["lot"],
                date.fromisoformat(row["expiry"]) if row["expiry"] else None,
                Gln(row["location"]) if row["location"] else None,
            )
    return found


def paths_after(connection: Connection, after: str, *, limit: int) -> list[str]:
    """Return the paths of units that wait for data, in order, those after one."""
    query = select(_TABLE.c.path).where(_TABLE.c.path > after).order_by(_TABLE.c.path).limit(limit)
    return list(connection.execute(query).scalars())
