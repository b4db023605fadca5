"""Alarms about cases: those past their due time, and illegitimate product of which the FDA was not notified in time."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, select

from medtrail.runtime.overdue import Alarm
from services.custody.desk import now_utc
from services.custody.exceptions.case import NOTIFY_WITHIN, CaseStatus
from services.custody.exceptions.tables import CaseRow
from services.custody.holdings_store import from_us, to_us

EXCEPTION_OVERDUE = "EXCEPTION_OVERDUE"
NOTIFICATION_OVERDUE = "NOTIFICATION_OVERDUE"

_CASE = CaseRow.__table__  # type: ignore[attr-defined]
_OVERDUE = "exceptions are past their due time: see to them (medtrail exceptions list --overdue)"
_NOTIFY = (
    "illegitimate product was not reported within 24 hours: send Form FDA 3911 (medtrail exceptions form3911) and "
    "record it (medtrail exceptions form3911 --submitted)"
)


def case_alarms(connection: Connection, clock: Callable[[], datetime] = now_utc) -> tuple[Alarm, ...]:
    """Return the alarms about cases as of now."""
    now = clock()
    unresolved = _CASE.c.status != CaseStatus.RESOLVED.value
    late = to_us(now - NOTIFY_WITHIN)
    found = (
        _alarm(connection, EXCEPTION_OVERDUE, _OVERDUE, _CASE.c.due_us, unresolved, _CASE.c.due_us < to_us(now)),
        # Whatever became of the case: the duty to notify does not end with it.
        _alarm(
            connection,
            NOTIFICATION_OVERDUE,
            _NOTIFY,
            _CASE.c.determine_us,
            _CASE.c.submit_us.is_(None),
            _CASE.c.determine_us < late,
        ),
    )
    return tuple(alarm for alarm in found if alarm is not None)


def _alarm(
    connection: Connection, code: str, message: str, since: ColumnElement[int], *conditions: ColumnElement[bool]
) -> Alarm | None:
    query = select(func.count(), func.min(since)).select_from(_CASE).where(*conditions)
    count, first = connection.execute(query).one()
    return Alarm(code, message, count, from_us(first)) if count else None
