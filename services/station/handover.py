"""What a station has signed: on its way to the service, in order, and what became of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import VerificationError
from medtrail.runtime import outbox
from medtrail.runtime.overdue import Waiting
from medtrail.runtime.tables import Outbox, SignedEvents
from services.custody import events_store
from services.custody.holdings_store import from_us, to_us
from services.custody.station_events import Conflict, Taken
from services.custody.tables import Counter, CustodyTable
from services.custody.units import unit_of_path
from services.station import books


class AnswerRow(CustodyTable, table=True):
    """What the service said of an event.

    Attributes:
        source_seq: Number here.
        event_number: As the event is known here.
        conflicts: JSON list of (path, code, message, case id).
        change_number: Number in the feed up to which its effects are told.
        settled: The copy has them.
        settle_us: Since when, by the service's clock; None: not yet, or not known yet.
    """

    __tablename__: ClassVar[str] = "station_answer"

    source_seq: int = Field(primary_key=True, sa_type=BigInteger)
    event_number: int
    signed_event_sha256: bytes = Field(index=True)
    conflicts: str
    change_number: int = Field(sa_type=BigInteger)
    settled: bool = Field(index=True)
    settle_us: int | None = Field(default=None, sa_type=BigInteger, index=True)


_ANSWER = AnswerRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of an event of this station.

    Attributes:
        event_id: Its id.
        sha256: Of the SignedEvent.
        source_seq: Its number here.
        event_time: When it happened; aware UTC.
        answered: The service has taken it in.
        conflicts: Units that the service's books contradict.
        resolved: Case ids, of these or of others, that are known to be resolved.
    """

    event_id: str
    sha256: bytes
    source_seq: int
    event_time: datetime
    answered: bool
    conflicts: tuple[Conflict, ...]
    resolved: frozenset[str] = frozenset()


def next_events(connection: Connection) -> tuple[outbox.OutboxItem, ...]:
    """Return the events that are to be handed in next, in order: at most 500, at most 512 KiB."""
    return outbox.next_batch(connection, after=0)


def take_answer(connection: Connection, taken: Taken) -> None:
    """Note what became of an event; the same answer again changes nothing.

    Raises:
        VerificationError: It is about an event that is not here (ANSWER_UNASKED).
    """
    stored = events_store.find_by_hash(connection, taken.sha256)
    if stored is None or stored.event.header.source_seq != taken.source_seq:
        message = f"the service answered for event {taken.source_seq}, which is not the one of that number here"
        raise VerificationError(message, code="ANSWER_UNASKED", field="source_seq")
    told = [(item.unit.path, item.code, item.message, item.case_id) for item in taken.conflicts]
    connection.execute(
        insert(_ANSWER)
        .values(
            source_seq=taken.source_seq,
            event_number=stored.number,
            signed_event_sha256=taken.sha256,
            conflicts=json.dumps(told),
            change_number=taken.change_number,
            settled=False,
        )
        .on_conflict_do_nothing()
    )
    connection.execute(delete(Outbox).where(Outbox.c.sha256 == taken.sha256))


def settle_all(connection: Connection, *, now: datetime) -> None:
    """Let the service's word count on all that it has taken in and told of; ``now``: by its clock."""
    state = books.read_state(connection)
    rows = connection.execute(
        select(_ANSWER.c.source_seq, _ANSWER.c.event_number)
        .where(_ANSWER.c.settled.is_(False), _ANSWER.c.change_number <= state.number)
        .order_by(_ANSWER.c.source_seq)
    ).all()
    if state.loading:
        return
    for seq, event_number in rows:
        books.settle(connection, event_number)
        connection.execute(
            _ANSWER.update().where(_ANSWER.c.source_seq == seq).values(settled=True, settle_us=to_us(now))
        )


def newest_answered(connection: Connection) -> int:
    """Return the number of the newest event that the service has taken in, 0 when there is none."""
    return connection.execute(select(func.max(_ANSWER.c.source_seq))).scalar_one() or 0


def begin_again(connection: Connection, *, last_seq: int) -> None:
    """Go on with a service whose books were restored to an earlier state.

    What it had taken in after that is handed in again, before what waits; the copy is made anew, and holds by then the
    effects of all that the service still knows.

    Args:
        connection: In a write transaction.
        last_seq: Number of the newest event of this station that the service knows.
    """
    lost = connection.execute(
        select(_ANSWER.c.signed_event_sha256).where(_ANSWER.c.source_seq > last_seq).order_by(_ANSWER.c.source_seq)
    ).scalars()
    waiting = connection.execute(select(Outbox.c.sha256).order_by(Outbox.c.seq)).scalars()
    rows = [{"sha256": digest} for digest in (*lost, *waiting)]
    connection.execute(delete(_ANSWER).where(_ANSWER.c.source_seq > last_seq))
    connection.execute(delete(Outbox))
    if rows:
        connection.execute(Outbox.insert(), rows)
    # Numbers of changes count from another state of the books now.
    connection.execute(_ANSWER.update().where(_ANSWER.c.settled.is_(False)).values(change_number=0))
    books.begin_again(connection)


def catch_up(connection: Connection, *, source: str, last_seq: int) -> None:
    """Go on behind the numbers that the service knows of this station, where its own memory of them was lost."""
    if connection.execute(select(Outbox.c.seq).limit(1)).first() is not None:
        return
    name = f"source_seq/{source}"
    if events_store.peek_number(connection, name) <= last_seq:
        statement = insert(Counter).values(name=name, value=last_seq)
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": last_seq}))


def waiting(connection: Connection) -> Waiting:
    """Return how many events wait for the service's answer, and since when."""
    count, since = connection.execute(
        select(func.count(), func.min(SignedEvents.c.sign_time_us)).select_from(
            Outbox.join(SignedEvents, Outbox.c.sha256 == SignedEvents.c.sha256)
        )
    ).one()
    return Waiting(count, None if since is None else from_us(since))


def open_count(connection: Connection) -> tuple[int, bool]:
    """Return how many events wait for the service's answer, and whether the copy has the effects of all others."""
    open_answer = connection.execute(select(_ANSWER.c.source_seq).where(_ANSWER.c.settled.is_(False)).limit(1)).first()
    return outbox.pending_count(connection), open_answer is None


def fates(connection: Connection, hashes: Sequence[bytes]) -> list[Fate]:
    """Return what has become of events, in the order of their hashes."""
    found = []
    for digest in hashes:
        stored = events_store.find_by_hash(connection, digest)
        if stored is not None:
            row = connection.execute(select(_ANSWER).where(_ANSWER.c.signed_event_sha256 == digest)).mappings().first()
            found.append(_fate(stored, row))
    return found


def list_conflicts(connection: Connection, *, limit: int) -> list[Fate]:
    """Return the events that the service's books contradict: those with an open case first, newest first among each."""
    resolved = books.resolved_cases(connection)
    rows = connection.execute(
        select(_ANSWER.c.signed_event_sha256, _ANSWER.c.conflicts)
        .where(_ANSWER.c.conflicts != "[]")
        .order_by(_ANSWER.c.source_seq.desc())
    ).all()
    is_open = {digest: any(item[3] not in resolved for item in json.loads(told)) for digest, told in rows}
    # A sort keeps the order of equals.
    hashes = sorted(is_open, key=lambda digest: not is_open[digest])
    return [replace(fate, resolved=resolved) for fate in fates(connection, hashes[:limit])]


def _fate(stored: events_store.Stored, row: Any) -> Fate:  # noqa: ANN401  # a row of station_answer, or None
    statement = stored.event.statement
    if not isinstance(statement, EpcisEvent):
        raise AssertionError  # a station signs nothing else  # noqa: TRY004
    conflicts = () if row is None else json.loads(row["conflicts"])
    return Fate(
        event_id=stored.event.header.event_id,
        sha256=stored.sha256,
        source_seq=stored.event.header.source_seq,
        event_time=statement.event_time,
        answered=row is not None,
        conflicts=tuple(Conflict(unit_of_path(path), code, why, case_id) for path, code, why, case_id in conflicts),
    )
