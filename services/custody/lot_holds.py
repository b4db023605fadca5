"""Lots on hold: a standing rule over the packs of a lot that are here, and those to come."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.errors import ConflictError, NotFoundError
from medtrail.gs1 import Gtin
from services.custody.holding import HERE_STATES
from services.custody.holdings_store import from_us, to_us
from services.custody.holds import HoldCode, line
from services.custody.holds_tables import LotHoldRow
from services.custody.tables import HoldingRow
from services.custody.units import Unit, unit_of_path

_TABLE = LotHoldRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class LotHold:
    """A lot on hold.

    Attributes:
        number: In order of making.
        line: As units on hold by it carry it.
        release_time: None while it stands.
    """

    number: int
    lot_hold_id: str
    gtin: Gtin
    lot: str
    code: HoldCode
    reason: str
    line: str
    hold_time: datetime
    release_time: datetime | None = None


def add(connection: Connection, *, gtin: Gtin, lot: str, code: HoldCode, reason: str, now: datetime) -> LotHold:
    """Put a lot on hold.

    Raises:
        MalformedError: The reason is too long (TEXT_LENGTH).
        ConflictError: It is on hold for the same reason (ALREADY_ON_HOLD).
    """
    found = next((item for item in standing(connection, gtin, lot) if (item.code, item.reason) == (code, reason)), None)
    if found is not None:
        message = f"lot {lot} of {gtin} is on hold for this since {found.hold_time.isoformat()}"
        raise ConflictError(message, code="ALREADY_ON_HOLD", field="lot", lot_hold_id=found.lot_hold_id)
    lot_hold_id = str(uuid.uuid4())
    text = f"lot {lot} on hold ({lot_hold_id[:8]})"
    reason_line = line(code, f"{text}: {reason}" if reason else text)
    row = {
        "lot_hold_id": lot_hold_id,
        "gtin": str(gtin),
        "lot": lot,
        "code": code.value,
        "reason": reason,
        "line": reason_line,
        "hold_us": to_us(now),
    }
    connection.execute(insert(LotHoldRow).values(**row))
    return get(connection, lot_hold_id)


def standing(connection: Connection, gtin: Gtin, lot: str) -> list[LotHold]:
    """Return the holds of a lot that stand."""
    query = select(_TABLE).where(_TABLE.c.gtin == str(gtin), _TABLE.c.lot == lot, _TABLE.c.release_us.is_(None))
    return [_from_row(row) for row in connection.execute(query.order_by(_TABLE.c.number)).mappings()]


def all_standing(connection: Connection) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the lines of all holds that stand, by GTIN and lot."""
    query = select(_TABLE.c.gtin, _TABLE.c.lot, _TABLE.c.line).where(_TABLE.c.release_us.is_(None))
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for gtin, lot, reason in connection.execute(query.order_by(_TABLE.c.number)):
        found[gtin, lot] = (*found.get((gtin, lot), ()), reason)
    return found


def get(connection: Connection, lot_hold_id: str) -> LotHold:
    """Return a hold.

    Raises:
        NotFoundError: There is none (LOT_HOLD_UNKNOWN).
    """
    row = connection.execute(select(_TABLE).where(_TABLE.c.lot_hold_id == lot_hold_id)).mappings().first()
    if row is None:
        message = f"no lot hold {lot_hold_id[:40]!r} is known here"
        raise NotFoundError(message, code="LOT_HOLD_UNKNOWN", field="lot_hold_id")
    return _from_row(row)


def require_standing(connection: Connection, lot_hold_id: str) -> LotHold:
    """Return a hold that was not released.

    Raises:
        NotFoundError: LOT_HOLD_UNKNOWN.
        ConflictError: It was released (NOT_ON_HOLD).
    """
    found = get(connection, lot_hold_id)
    if found.release_time is not None:
        message = f"the hold of lot {found.lot} was released on {found.release_time.isoformat()}"
        raise ConflictError(message, code="NOT_ON_HOLD", field="lot_hold_id")
    return found


def note_released(connection: Connection, lot_hold_id: str, *, now: datetime) -> None:
    """End a hold."""
    connection.execute(
        update(LotHoldRow).where(col(LotHoldRow.lot_hold_id) == lot_hold_id).values(release_us=to_us(now))
    )


def list_lot_holds(connection: Connection, *, include_released: bool, before: int | None, limit: int) -> list[LotHold]:
    """Return holds, newest first, those before a number."""
    query = select(_TABLE).order_by(_TABLE.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(_TABLE.c.number < before)
    if not include_released:
        query = query.where(_TABLE.c.release_us.is_(None))
    return [_from_row(row) for row in connection.execute(query).mappings()]


def packs_here(connection: Connection, hold: LotHold, *, held: bool, after: str, limit: int) -> list[Unit]:
    """Return packs of a lot that are here and are (or are not) on hold by it, in order of their paths, after a path."""
    by_it = col(HoldingRow.hold_reason).contains(hold.line, autoescape=True)
    query = (
        select(col(HoldingRow.path))
        .where(
            col(HoldingRow.gtin) == str(hold.gtin),
            col(HoldingRow.lot) == hold.lot,
            col(HoldingRow.state).in_([state.value for state in HERE_STATES]),
            col(HoldingRow.path) > after,
            by_it if held else ~by_it,
        )
        .order_by(col(HoldingRow.path))
        .limit(limit)
    )
    return [unit_of_path(path) for path in connection.execute(query).scalars()]


def batches(connection: Connection, hold: LotHold, *, held: bool, size: int) -> Iterator[list[Unit]]:
    """Yield the packs of a lot here in groups, each pack once; whoever takes one may change whether it is on hold."""
    after = ""
    while units := packs_here(connection, hold, held=held, after=after, limit=size):
        yield units
        after = units[-1].path


def _from_row(row: Any) -> LotHold:  # noqa: ANN401  # a row of lot_hold
    return LotHold(
        number=row["number"],
        lot_hold_id=row["lot_hold_id"],
        gtin=Gtin(row["gtin"]),
        lot=row["lot"],
        code=HoldCode(row["code"]),
        reason=row["reason"],
        line=row["line"],
        hold_time=from_us(row["hold_us"]),
        release_time=None if row["release_us"] is None else from_us(row["release_us"]),
    )
