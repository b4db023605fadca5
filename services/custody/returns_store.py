"""Return authorisations, and what came back, in the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.errors import DuplicateError
from medtrail.gs1 import Gln
from services.custody import events_store
from services.custody.holdings_store import from_us, to_us
from services.custody.return_codes import ReturnCode
from services.custody.returns_tables import ReturnAuthorisationRow, ReturnedUnit
from services.custody.units import Unit, unit_of_path

_TABLE = ReturnAuthorisationRow.__table__  # type: ignore[attr-defined]
_RETURNED = ReturnedUnit.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Authorisation:
    """A return authorisation.

    Attributes:
        number: By which the customer names it.
        units: Those that may come back; none: any that was sold to the customer.
        expire_time: Last moment at which the goods may be sent; None: no end.
        row_number: In order of giving.
        returned_count: Units that came back under it.
    """

    number: str
    customer: Gln
    units: tuple[Unit, ...]
    reason: str
    create_time: datetime
    expire_time: datetime | None = None
    row_number: int = 0
    returned_count: int = 0


@dataclass(frozen=True, slots=True)
class Returned:
    """That a pack came back; ``codes``: why it was not restocked."""

    unit: Unit
    customer: Gln | None
    authorisation: str
    codes: tuple[ReturnCode, ...]
    receive_time: datetime
    number: int = 0


def next_authorisation(connection: Connection) -> str:
    """Return a number that no authorisation here has."""
    while True:
        number = f"RMA-{events_store.next_number(connection, 'return_authorisation'):06d}"
        if find_authorisation(connection, number) is None:
            return number


def add_authorisation(connection: Connection, given: Authorisation) -> None:
    """Keep an authorisation.

    Raises:
        DuplicateError: Another one has the number (AUTHORISATION_EXISTS).
    """
    if find_authorisation(connection, given.number) is not None:
        message = f"the number {given.number} was given before"
        raise DuplicateError(message, code="AUTHORISATION_EXISTS", field="number")
    connection.execute(
        insert(ReturnAuthorisationRow).values(
            number=given.number,
            customer=str(given.customer),
            units="\n".join(unit.path for unit in given.units),
            reason=given.reason,
            create_us=to_us(given.create_time),
            expire_us=None if given.expire_time is None else to_us(given.expire_time),
        )
    )


def _returned_counts() -> Any:  # noqa: ANN401  # a scalar subquery
    return (
        select(func.count())
        .select_from(_RETURNED)
        .where(_RETURNED.c.authorisation == _TABLE.c.number)
        .scalar_subquery()
        .label("returned_count")
    )


def find_authorisation(connection: Connection, number: str) -> Authorisation | None:
    """Return an authorisation, or None."""
    query = select(_TABLE, _returned_counts()).where(_TABLE.c.number == number)
    row = connection.execute(query).mappings().first()
    return None if row is None else _authorisation(row)


def list_authorisations(connection: Connection, *, before: int | None, limit: int) -> list[Authorisation]:
    """Return authorisations, newest first, those before a number."""
    query = select(_TABLE, _returned_counts()).order_by(_TABLE.c.row_number.desc()).limit(limit)
    if before is not None:
        query = query.where(_TABLE.c.row_number < before)
    return [_authorisation(row) for row in connection.execute(query).mappings()]


def _authorisation(row: Any) -> Authorisation:  # noqa: ANN401  # a row of return_authorisation
    return Authorisation(
        number=row["number"],
        customer=Gln(row["customer"]),
        units=tuple(unit_of_path(path) for path in row["units"].splitlines()),
        reason=row["reason"],
        create_time=from_us(row["create_us"]),
        expire_time=None if row["expire_us"] is None else from_us(row["expire_us"]),
        row_number=row["row_number"],
        returned_count=row["returned_count"],
    )


def note_returned(connection: Connection, found: Iterable[Returned]) -> None:
    """Keep what came back."""
    rows = [
        {
            "path": item.unit.path,
            "customer": "" if item.customer is None else str(item.customer),
            "authorisation": item.authorisation,
            "codes": "\n".join(item.codes),
            "receive_us": to_us(item.receive_time),
        }
        for item in found
    ]
    if rows:
        connection.execute(insert(ReturnedUnit), rows)


def list_returned(
    connection: Connection, *, customer: Gln | None, only_held: bool, before: int | None, limit: int
) -> list[Returned]:
    """Return what came back, newest first, what is before a number."""
    query = select(_RETURNED).order_by(_RETURNED.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(_RETURNED.c.number < before)
    if customer is not None:
        query = query.where(_RETURNED.c.customer == str(customer))
    if only_held:
        query = query.where(_RETURNED.c.codes != "")
    return [
        Returned(
            unit=unit_of_path(row["path"]),
            customer=Gln(row["customer"]) if row["customer"] else None,
            authorisation=row["authorisation"],
            codes=tuple(ReturnCode(code) for code in row["codes"].splitlines()),
            receive_time=from_us(row["receive_us"]),
            number=row["number"],
        )
        for row in connection.execute(query).mappings()
    ]


def came_back(connection: Connection, paths: Sequence[str]) -> set[str]:
    """Return those among some units that came back here at any time."""
    found: set[str] = set()
    for start in range(0, len(paths), 500):
        query = select(col(ReturnedUnit.path)).where(col(ReturnedUnit.path).in_(paths[start : start + 500]))
        found.update(connection.execute(query).scalars())
    return found
