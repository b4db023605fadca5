"""What a station needs no more of what it has signed: settled long ago, and nobody has to look at it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select, text, update
from sqlmodel import col

from medtrail.runtime import outbox
from services.custody import events_store
from services.custody.holdings_store import to_us
from services.custody.tables import EventChange
from services.station.handover import AnswerRow

AT_ONCE = 100
"""Most events that one step takes: the transaction of a heartbeat stays short."""

_ANSWER = AnswerRow.__table__  # type: ignore[attr-defined]

# The newest answer tells how far the service knew this station. A conflict stays while one of its cases may be open.
_DUE = text("""\
SELECT source_seq, event_number, signed_event_sha256 FROM station_answer AS answer
WHERE settle_us < :before AND settled AND source_seq < (SELECT max(source_seq) FROM station_answer)
    AND NOT EXISTS (
        SELECT 1 FROM json_each(answer.conflicts) AS told
        LEFT JOIN station_case AS known ON known.case_id = json_extract(told.value, '$[3]')
        WHERE known.resolved IS NOT 1)
ORDER BY settle_us LIMIT :most""").bindparams(bindparam("most", AT_ONCE))


def prune(connection: Connection, *, now: datetime, keep: timedelta) -> int:
    """Forget the next of the events that have been settled for longer than a period; return how many.

    One step takes 100 at most and is one transaction's: a crash leaves the station before it or after it. A service
    that was restored to a state of before asks for events that are here no more, and says so (SOURCE_SEQ_GAP).

    Args:
        connection: In a write transaction.
        now: By the service's clock; aware UTC.
        keep: The period.
    """
    _begin_period(connection, now)
    rows = connection.execute(_DUE, {"before": to_us(now - keep)}).all()
    for _, event_number, sha256 in rows:
        events_store.forget(connection, event_number)
        outbox.forget_event(connection, sha256, leaf_index=None)
    _forget_traces(connection, [row[0] for row in rows], [row[2] for row in rows])
    return len(rows)


def _begin_period(connection: Connection, now: datetime) -> None:
    """Let the period of what an earlier version settled begin now: it did not write down when that was."""
    some = (
        select(_ANSWER.c.source_seq)
        .where(_ANSWER.c.settle_us.is_(None), _ANSWER.c.settled.is_(True))
        .limit(AT_ONCE)
        .scalar_subquery()
    )
    connection.execute(update(_ANSWER).where(_ANSWER.c.source_seq.in_(some)).values(settle_us=to_us(now)))


def _forget_traces(connection: Connection, seqs: Sequence[int], hashes: Sequence[bytes]) -> None:
    connection.execute(delete(_ANSWER).where(_ANSWER.c.source_seq.in_(seqs)))
    # Nobody follows a station's events: what is told of them is told by its service.
    connection.execute(delete(EventChange).where(col(EventChange.signed_event_sha256).in_(hashes)))
