"""Capture jobs: what was uploaded, how far it has come, what was refused. Rows in ``portal.db``.

A job is written before its caller is told of it, and its progress with each chunk that the service has answered: after
a crash it goes on with the chunk whose answer is not noted, under the same request id.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Connection, Index, MetaData, delete, func, insert, select, update
from sqlmodel import Field, SQLModel

from medtrail.epcis import Position
from medtrail.errors import NotFoundError
from services.portal.headers import ErrorBehaviour

JOB_METADATA = MetaData()
MOST_ERRORS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID_BYTES = 16


class JobTable(SQLModel):
    """Base of these tables, with metadata of their own."""

    metadata: ClassVar[MetaData] = JOB_METADATA


class CaptureJobRow(JobTable, table=True):
    """A capture job; times are microseconds since 1970."""

    __tablename__: ClassVar[str] = "capture_job"
    __table_args__: ClassVar[Any] = (
        Index("capture_job_by_id", "capture_id", unique=True),
        Index("capture_job_running", "running", "number"),
        {"sqlite_autoincrement": True},
    )

    number: int | None = Field(default=None, primary_key=True)
    capture_id: str
    caller: str
    created_us: int = Field(sa_type=BigInteger)
    finished_us: int | None = Field(default=None, sa_type=BigInteger)
    running: bool = True
    success: bool = True
    behaviour: str
    format: str
    second_hand: bool
    happened: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    next_event: int = Field(default=0, sa_type=BigInteger)
    next_offset: int = Field(default=-1, sa_type=BigInteger)
    captured: int = Field(default=0, sa_type=BigInteger)
    resends: int = Field(default=0, sa_type=BigInteger)
    errors: int = Field(default=0, sa_type=BigInteger)


class CaptureErrorRow(JobTable, table=True):
    """An error of a job: the body that tells it, as JSON."""

    __tablename__: ClassVar[str] = "capture_error"

    job_number: int = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    body: str


_JOB: Any = CaptureJobRow.__table__  # type: ignore[attr-defined]
_ERROR: Any = CaptureErrorRow.__table__  # type: ignore[attr-defined]

Problem = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A capture job.

    Attributes:
        number: In order of creation, from 1.
        capture_id: By which callers ask about it.
        caller: Name of the token that brought it.
        success: No error so far.
        format: ``json`` or ``xml``.
        second_hand: Its events are passed on for others.
        happened: They tell what has happened already: what breaks a rule is recorded with an alert.
        position: Where reading goes on; None for the start.
        captured: Events that the service has, those that it had before included.
        resends: Of these, those that it had before.
        errors: How many events or parts were refused; at most 1,000 are kept.
    """

    number: int
    capture_id: str
    caller: str
    created: datetime
    finished: datetime | None
    running: bool
    success: bool
    behaviour: ErrorBehaviour
    format: str
    second_hand: bool
    happened: bool
    position: Position | None
    captured: int
    resends: int
    errors: int


def new_capture_id() -> str:
    """Return an id that nobody guesses."""
    return secrets.token_hex(_ID_BYTES)


def insert_job(
    connection: Connection,
    capture_id: str,
    *,
    caller: str,
    created: datetime,
    behaviour: ErrorBehaviour,
    document_format: str,
    second_hand: bool,
    happened: bool = False,
) -> None:
    """Write a job that is to be run; its upload lies on the disk already."""
    connection.execute(
        insert(_JOB).values(
            capture_id=capture_id,
            caller=caller,
            created_us=_us(created),
            running=True,
            success=True,
            behaviour=behaviour.value,
            format=document_format,
            second_hand=second_hand,
            happened=happened,
            next_event=0,
            next_offset=-1,
            captured=0,
            resends=0,
            errors=0,
        )
    )


def find_job(connection: Connection, capture_id: str) -> Job:
    """Return a job.

    Raises:
        NotFoundError: CAPTURE_UNKNOWN.
    """
    row = connection.execute(select(_JOB).where(_JOB.c.capture_id == capture_id)).mappings().first()
    if row is None:
        message = f"no capture {capture_id[:64]!r}"
        raise NotFoundError(message, code="CAPTURE_UNKNOWN", field="captureID")
    return _job(row)


def list_jobs(connection: Connection, *, before: int | None, limit: int) -> list[Job]:
    """Return jobs, the newest first.

    Args:
        connection: Inside a transaction.
        before: Only those with a smaller number; None for all.
        limit: At most so many.
    """
    query = select(_JOB).order_by(_JOB.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(_JOB.c.number < before)
    return [_job(row) for row in connection.execute(query).mappings()]


def next_running(connection: Connection) -> Job | None:
    """Return the oldest job that is not finished, or None."""
    row = (
        connection.execute(select(_JOB).where(_JOB.c.running.is_(True)).order_by(_JOB.c.number).limit(1))
        .mappings()
        .first()
    )
    return None if row is None else _job(row)


def count_running(connection: Connection) -> int:
    """Return how many jobs are not finished."""
    return int(connection.execute(select(func.count()).select_from(_JOB).where(_JOB.c.running.is_(True))).scalar_one())


def running_ids(connection: Connection) -> set[str]:
    """Return the ids of jobs that are not finished."""
    return set(connection.execute(select(_JOB.c.capture_id).where(_JOB.c.running.is_(True))).scalars())


def errors_of(connection: Connection, job: Job, *, limit: int = MOST_ERRORS) -> list[Problem]:
    """Return the errors of a job that are kept, in order of occurrence."""
    rows = connection.execute(
        select(_ERROR.c.body).where(_ERROR.c.job_number == job.number).order_by(_ERROR.c.number).limit(limit)
    ).scalars()
    return [json.loads(body) for body in rows]


def note_progress(
    connection: Connection,
    job: Job,
    *,
    position: Position,
    captured: int,
    resends: int,
    problems: Sequence[Problem],
) -> None:
    """Write what became of a chunk, and where the next one begins."""
    _add_errors(connection, job, problems)
    values: dict[str, Any] = {
        "captured": _JOB.c.captured + captured,
        "resends": _JOB.c.resends + resends,
        "next_event": position.index,
        "next_offset": position.offset,
    }
    if problems:
        values["success"] = False
    connection.execute(update(_JOB).where(_JOB.c.number == job.number).values(**values))


def finish(
    connection: Connection,
    job: Job,
    *,
    finished: datetime,
    captured: int = 0,
    resends: int = 0,
    problems: Sequence[Problem] = (),
) -> None:
    """Write that a job is done, and what was captured that is not noted yet; with problems it failed."""
    _add_errors(connection, job, problems)
    values: dict[str, Any] = {
        "running": False,
        "finished_us": _us(finished),
        "captured": _JOB.c.captured + captured,
        "resends": _JOB.c.resends + resends,
    }
    if problems:
        values["success"] = False
    connection.execute(update(_JOB).where(_JOB.c.number == job.number).values(**values))


def forget_before(connection: Connection, moment: datetime) -> None:
    """Forget jobs that were finished before a moment."""
    old = select(_JOB.c.number).where(_JOB.c.running.is_(False), _JOB.c.finished_us < _us(moment))
    connection.execute(delete(_ERROR).where(_ERROR.c.job_number.in_(old)))
    connection.execute(delete(_JOB).where(_JOB.c.running.is_(False), _JOB.c.finished_us < _us(moment)))


def _add_errors(connection: Connection, job: Job, problems: Sequence[Problem]) -> None:
    if not problems:
        return
    first = connection.execute(select(_JOB.c.errors).where(_JOB.c.number == job.number)).scalar_one()
    rows = [
        {"job_number": job.number, "number": number, "body": json.dumps(problem)}
        for number, problem in enumerate(problems, first)
        if number < MOST_ERRORS
    ]
    if rows:
        connection.execute(insert(_ERROR), rows)
    connection.execute(update(_JOB).where(_JOB.c.number == job.number).values(errors=first + len(problems)))


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _job(row: Any) -> Job:  # noqa: ANN401 - a row of capture_job
    return Job(
        number=row["number"],
        capture_id=row["capture_id"],
        caller=row["caller"],
        created=_moment(row["created_us"]),
        finished=None if row["finished_us"] is None else _moment(row["finished_us"]),
        running=bool(row["running"]),
        success=bool(row["success"]),
        behaviour=ErrorBehaviour(row["behaviour"]),
        format=row["format"],
        second_hand=bool(row["second_hand"]),
        happened=bool(row["happened"]),
        position=None if row["next_offset"] < 0 else Position(row["next_event"], row["next_offset"]),
        captured=row["captured"],
        resends=row["resends"],
        errors=row["errors"],
    )
