"""Cases in the database: opening, closing, finding, listing."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert

from medtrail.errors import MalformedError, NotFoundError, TooLargeError
from medtrail.gs1 import Gln
from services.custody import inbound_store
from services.custody.exceptions.case import (
    Case,
    CaseResolution,
    CaseScan,
    CaseStatus,
    CaseUnit,
    NewCase,
)
from services.custody.exceptions.codes import Category, ExceptionCode, rule_of
from services.custody.exceptions.tables import CaseRow, CaseUnitRow
from services.custody.holding import HERE_STATES
from services.custody.holdings_store import chunks, from_us, to_us
from services.custody.tables import HoldingRow
from services.custody.units import Unit, unit_of_path

MAX_UNITS = 5000
"""Of one case, but for packs of its containers that were verified one by one."""
MAX_DETAIL = 2000

_CASE = CaseRow.__table__  # type: ignore[attr-defined]
_UNIT = CaseUnitRow.__table__  # type: ignore[attr-defined]
_HOLDING = HoldingRow.__table__  # type: ignore[attr-defined]
_HERE = frozenset(state.value for state in HERE_STATES)


# --- opening and closing ---


def open_case(connection: Connection, desk_gln: Gln, new: NewCase, *, now: datetime) -> str:
    """Open a case and return its id; one that is open about the same is taken up again.

    The same is: this code, this despatch, and any of the units; where no unit is named, the same delivery and scan.
    Cases that partners reported are not taken up. Units that no open case has yet are added to it; where they are more
    than it holds, further cases have them (:func:`open_cases`).

    Args:
        connection: In a write transaction.
        desk_gln: Party GLN of this organisation: it is nobody's own partner.
        new: With at most 5,000 units.
        now: Aware UTC.

    Raises:
        TooLargeError: More than 5,000 units (TOO_MANY_UNITS).
    """
    if len(new.units) > MAX_UNITS:
        message = f"expected at most {MAX_UNITS} units, got {len(new.units)}"
        raise TooLargeError(message, code="TOO_MANY_UNITS", field="epcs")
    return next(iter(open_cases(connection, desk_gln, new, now=now)))


def open_cases(connection: Connection, desk_gln: Gln, new: NewCase, *, now: datetime) -> dict[str, list[Unit]]:
    """Open as many cases as units need; return each case's id with those units that stand in it.

    A unit that stands in an open case of this code and despatch stays there. Of the others each such case takes as many
    as it holds, and new cases take the rest. The arguments are those of :func:`open_case`; any number of units.
    """
    opened = {} if new.case_id else _standing(connection, new)
    found = {unit for inside in opened.values() for unit in inside}
    rest = [unit for unit in dict.fromkeys(new.units) if unit not in found]
    for case_id, inside in opened.items():
        free = max(0, room(connection, case_id))
        inside.extend(rest[:free])
        add_units(connection, case_id, rest[:free])
        rest = rest[free:]
    if opened and not rest:
        return opened
    row = _row(new, now) | {"partner": _partner_column(connection, desk_gln, new)}
    for start in range(0, max(1, len(rest)), MAX_UNITS):
        case_id = new.case_id or str(uuid.uuid4())
        connection.execute(_CASE.insert().values(case_id=case_id, **row))
        opened[case_id] = rest[start : start + MAX_UNITS]
        add_units(connection, case_id, opened[case_id])
    return opened


def _partner_column(connection: Connection, desk_gln: Gln, new: NewCase) -> str:
    partner = new.partner
    if partner is None and new.despatch_id:
        shipment = inbound_store.find(connection, new.despatch_id)
        partner = None if shipment is None else shipment.sender
    return "" if partner is None or partner == desk_gln else str(partner)


def _row(new: NewCase, now: datetime) -> dict[str, Any]:
    """Return a new case's columns, but for its id and partner."""
    scan = new.scan or CaseScan("")
    return {
        "code": new.code.value,
        "status": CaseStatus.OPEN.value,
        "open_us": to_us(now),
        "detail": new.detail[:MAX_DETAIL],
        "despatch_id": new.despatch_id,
        "delivery_id": new.delivery_id,
        "scan": scan.scan,
        "scan_us": None if scan.time is None else to_us(scan.time),
        "station": scan.station,
        "verdict_code": scan.verdict_code,
        "partner_reported": new.partner_reported,
        "shared": False,
        "owner": new.owner,
        "due_us": to_us(new.due_time or now + rule_of(new.code).due),
        "resolution": "",
        "resolution_note": "",
        "purchase_order": new.purchase_order,
        "expected_count": new.expected_count,
        "counted_count": new.counted_count,
        "unit_count": 0,
        "incident_number": "",
    }


def _standing(connection: Connection, new: NewCase) -> dict[str, list[Unit]]:
    """Return the open cases about the same, oldest first, each with those of the new one's units that stand in it."""
    same = (
        _CASE.c.code == new.code.value,
        _CASE.c.despatch_id == new.despatch_id,
        _CASE.c.status != CaseStatus.RESOLVED.value,
        # A partner's case is the partner's to end: what is raised here is never taken into it.
        _CASE.c.partner_reported.is_(False),
    )
    if not new.units:
        scan = "" if new.scan is None else new.scan.scan
        query = select(_CASE.c.case_id).where(
            *same, _CASE.c.unit_count == 0, _CASE.c.delivery_id == new.delivery_id, _CASE.c.scan == scan
        )
        first = connection.execute(query.order_by(_CASE.c.number).limit(1)).scalar()
        return {} if first is None else {first: []}
    cases: dict[str, tuple[int, str]] = {}
    joined = select(_UNIT.c.path, _CASE.c.number, _CASE.c.case_id).join(_UNIT, _UNIT.c.case_id == _CASE.c.case_id)
    for part in chunks([unit.path for unit in new.units]):
        rows = connection.execute(joined.where(*same, _UNIT.c.path.in_(part)).order_by(_CASE.c.number))
        for path, number, case_id in rows:
            cases.setdefault(path, (number, case_id))
    found: dict[str, list[Unit]] = {case_id: [] for _, case_id in sorted(set(cases.values()))}
    for unit in dict.fromkeys(new.units):
        if unit.path in cases:
            found[cases[unit.path][1]].append(unit)
    return found


def room(connection: Connection, case_id: str) -> int:
    """Return how many further units a case takes; below 0 where it has more than 5,000."""
    count = connection.execute(select(_CASE.c.unit_count).where(_CASE.c.case_id == case_id)).scalar_one()
    return MAX_UNITS - int(count)


def add_units(connection: Connection, case_id: str, units: Sequence[Unit]) -> None:
    """Add units to a case, whose :func:`room` is for the caller to see to; those that it has already change nothing."""
    if not units:
        return
    rows = [{"case_id": case_id, "path": unit.path} for unit in dict.fromkeys(units)]
    connection.execute(insert(CaseUnitRow).on_conflict_do_nothing(), rows)
    count = connection.execute(select(func.count()).select_from(_UNIT).where(_UNIT.c.case_id == case_id)).scalar_one()
    change(connection, case_id, unit_count=count)


def close_case(
    connection: Connection, case_id: str, resolution: CaseResolution, *, note: str = "", now: datetime
) -> bool:
    """Close a case; return whether it was open. What this means for goods is for the caller to do."""
    closed = connection.execute(
        update(_CASE)
        .where(_CASE.c.case_id == case_id, _CASE.c.status != CaseStatus.RESOLVED.value)
        .values(
            status=CaseStatus.RESOLVED.value,
            resolution=resolution.value,
            resolution_note=note[:MAX_DETAIL],
            resolve_us=to_us(now),
        )
    )
    return bool(closed.rowcount)


def change(connection: Connection, case_id: str, **columns: object) -> None:
    """Set columns of a case."""
    connection.execute(update(_CASE).where(_CASE.c.case_id == case_id).values(**columns))


def change_units(connection: Connection, case_id: str, units: Iterable[Unit], **columns: object) -> None:
    """Set columns of units of a case."""
    for part in chunks([unit.path for unit in units]):
        connection.execute(update(_UNIT).where(_UNIT.c.case_id == case_id, _UNIT.c.path.in_(part)).values(**columns))


# --- finding ---


def _case(row: Any) -> Case:  # noqa: ANN401  # a row of exception_case
    scanned = row["scan"] or row["scan_us"] is not None
    return Case(
        number=row["number"],
        case_id=row["case_id"],
        code=ExceptionCode(row["code"]),
        status=CaseStatus(row["status"]),
        open_time=from_us(row["open_us"]),
        due_time=from_us(row["due_us"]),
        partner=Gln(row["partner"]) if row["partner"] else None,
        partner_reported=bool(row["partner_reported"]),
        shared=bool(row["shared"]),
        owner=row["owner"],
        resolve_time=_moment(row["resolve_us"]),
        resolution=CaseResolution(row["resolution"]) if row["resolution"] else None,
        resolution_note=row["resolution_note"],
        detail=row["detail"],
        despatch_id=row["despatch_id"],
        delivery_id=row["delivery_id"],
        purchase_order=row["purchase_order"],
        scan=CaseScan(row["scan"], _moment(row["scan_us"]), row["station"], row["verdict_code"]) if scanned else None,
        unit_count=row["unit_count"],
        expected_count=row["expected_count"],
        counted_count=row["counted_count"],
        determine_time=_moment(row["determine_us"]),
        submit_time=_moment(row["submit_us"]),
        incident_number=row["incident_number"],
    )


def _moment(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def find_case(connection: Connection, case_id: str) -> Case | None:
    """Return a case, or None."""
    row = connection.execute(select(_CASE).where(_CASE.c.case_id == case_id)).mappings().first()
    return None if row is None else _case(row)


def get_case(connection: Connection, case_id: str) -> Case:
    """Return a case.

    Raises:
        NotFoundError: CASE_UNKNOWN.
    """
    found = find_case(connection, case_id)
    if found is None:
        message = f"there is no case {case_id[:50]!r} here"
        raise NotFoundError(message, code="CASE_UNKNOWN", field="case_id")
    return found


def cases_of_unit(connection: Connection, unit: Unit, *, include_resolved: bool = False) -> list[Case]:
    """Return the cases about a unit, oldest first."""
    query = select(_CASE).join(_UNIT, _UNIT.c.case_id == _CASE.c.case_id).where(_UNIT.c.path == unit.path)
    if not include_resolved:
        query = query.where(_CASE.c.status != CaseStatus.RESOLVED.value)
    return [_case(row) for row in connection.execute(query.order_by(_CASE.c.number)).mappings()]


def paths_with_case(connection: Connection, paths: Iterable[str], code: ExceptionCode) -> set[str]:
    """Return the paths of those of some units about which the house has an open case of a code."""
    return {path for path, _ in _with_case(connection, paths, code)}


def cases_with_units(connection: Connection, paths: Iterable[str], code: ExceptionCode) -> list[str]:
    """Return the ids of the house's open cases of a code about any of some units."""
    return sorted({case_id for _, case_id in _with_case(connection, paths, code)})


def _with_case(connection: Connection, paths: Iterable[str], code: ExceptionCode) -> Iterator[tuple[str, str]]:
    for part in chunks(sorted(set(paths))):
        query = (
            select(_UNIT.c.path, _CASE.c.case_id)
            .join(_CASE, _CASE.c.case_id == _UNIT.c.case_id)
            .where(_UNIT.c.path.in_(part), _CASE.c.code == code.value, _CASE.c.partner_reported.is_(False))
            .where(_CASE.c.status != CaseStatus.RESOLVED.value)
        )
        yield from ((path, case_id) for path, case_id in connection.execute(query))


def units_of_case(connection: Connection, case_id: str) -> list[CaseUnit]:
    """Return the units of a case in order of their paths. A return is pending while the unit is in the house."""
    query = (
        select(_UNIT, _HOLDING.c.state)
        .join(_HOLDING, _HOLDING.c.path == _UNIT.c.path, isouter=True)
        .where(_UNIT.c.case_id == case_id)
        .order_by(_UNIT.c.path)
    )
    return [
        CaseUnit(
            unit_of_path(row["path"]),
            return_pending=bool(row["return_pending"]) and row["state"] in _HERE,
            quarantined=bool(row["quarantined"]),
            verified=bool(row["verified"]),
        )
        for row in connection.execute(query).mappings()
    ]


def returns_pending(connection: Connection, partner: Gln | None = None) -> list[tuple[str, Unit]]:
    """Return case id and unit of what cases marked for return and is still in the house, to one partner or to all."""
    query = (
        select(_UNIT.c.case_id, _UNIT.c.path)
        .join(_CASE, _CASE.c.case_id == _UNIT.c.case_id)
        .join(_HOLDING, _HOLDING.c.path == _UNIT.c.path)
        .where(_UNIT.c.return_pending.is_(True), _HOLDING.c.state.in_(_HERE))
        .order_by(_UNIT.c.path)
    )
    if partner is not None:
        query = query.where(_CASE.c.partner == str(partner))
    return [(case_id, unit_of_path(path)) for case_id, path in connection.execute(query)]


# --- listing ---


@dataclass(frozen=True, slots=True)
class CaseQuery:
    """Which cases are wanted; None or empty means all. Without a status, resolved ones only where asked for."""

    status: CaseStatus | None = None
    include_resolved: bool = False
    code: ExceptionCode | None = None
    category: Category | None = None
    partner: Gln | None = None
    owner: str = ""
    unit: Unit | None = None
    despatch_id: str = ""
    delivery_id: str = ""
    overdue_at: datetime | None = None


def _conditions(query: CaseQuery) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if query.status is not None:
        found.append(_CASE.c.status == query.status.value)
    elif not query.include_resolved or query.overdue_at is not None:
        found.append(_CASE.c.status != CaseStatus.RESOLVED.value)
    if query.code is not None:
        found.append(_CASE.c.code == query.code.value)
    if query.category is not None:
        codes = [code.value for code in ExceptionCode if rule_of(code).category is query.category]
        found.append(_CASE.c.code.in_(codes))
    for column, value in (
        (_CASE.c.partner, "" if query.partner is None else str(query.partner)),
        (_CASE.c.owner, query.owner),
        (_CASE.c.despatch_id, query.despatch_id),
        (_CASE.c.delivery_id, query.delivery_id),
    ):
        if value:
            found.append(column == value)
    if query.unit is not None:
        here = (_UNIT.c.case_id == _CASE.c.case_id, _UNIT.c.path == query.unit.path)
        found.append(exists(select(_UNIT.c.path).where(*here)))
    if query.overdue_at is not None:
        found.append(_CASE.c.due_us < to_us(query.overdue_at))
    return found


def list_cases(
    connection: Connection, query: CaseQuery, *, before: int | None = None, limit: int
) -> tuple[list[Case], int]:
    """Return cases, newest first, those before a number, and how many match in all."""
    conditions = _conditions(query)
    total = connection.execute(select(func.count()).select_from(_CASE).where(*conditions)).scalar_one()
    page: Select[Any] = select(_CASE).where(*conditions).order_by(_CASE.c.number.desc()).limit(limit)
    if before is not None:
        page = page.where(_CASE.c.number < before)
    return [_case(row) for row in connection.execute(page).mappings()], total


def count_reported(connection: Connection, partner: Gln) -> int:
    """Return how many cases that a partner reported are open here."""
    return connection.execute(
        select(func.count())
        .select_from(_CASE)
        .where(
            _CASE.c.partner == str(partner),
            _CASE.c.partner_reported.is_(True),
            _CASE.c.status != CaseStatus.RESOLVED.value,
        )
    ).scalar_one()


def check_case_id(text: str, *, field: str = "case_id") -> str:
    """Return a case's id in its canonical spelling.

    Raises:
        MalformedError: It is no UUID (CASE_ID_MALFORMED).
    """
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text.lower():
        message = f"expected a UUID, got {text[:50]!r}"
        raise MalformedError(message, code="CASE_ID_MALFORMED", field=field)
    return str(parsed)
