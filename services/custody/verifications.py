"""Records of questions about packs and products: who asked, what, why, and what was answered.

Records are added one by one and numbered without gaps; equal questions are never merged, and nothing changes or
deletes a record.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col

from medtrail.fmd import FmdCode, FmdState
from medtrail.gs1 import Gln
from services.custody.holdings_store import from_us, to_us
from services.custody.tables import VerificationRow
from services.custody.units import Unit

LONGEST_TEXT = 8192


class RecordKind(IntEnum):
    """Which question was asked; numbered as in the protocol."""

    ANSWERED = 1
    CONNECTIVITY = 2
    REQUESTED = 3
    FMD = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One question and its answer.

    Attributes:
        kind: Which question.
        time: When it was answered; aware UTC.
        caller: Name of the credential by which the caller was let in; empty where we asked.
        requester: GLN of who asked, as it came.
        responder: GLN of who answered.
        context: Why.
        question: The pack or product, as it came.
        http_status: Of the answer; 0 when none came.
        answer: Body, or the code of the refusal.
        corr_uuid: The id of the question; may be empty.
        number: From 1, without gaps; 0 before it is kept.
    """

    kind: RecordKind
    time: datetime
    question: str
    caller: str = ""
    requester: str = ""
    responder: str = ""
    context: str = ""
    http_status: int = 0
    answer: str = ""
    corr_uuid: str = ""
    number: int = 0


def keep(connection: Connection, record: Record) -> None:
    """Add a record; texts are cut to 8,192 characters."""
    texts = {
        name: getattr(record, name)[:LONGEST_TEXT]
        for name in ("caller", "requester", "responder", "context", "question", "answer", "corr_uuid")
    }
    connection.execute(
        insert(VerificationRow).values(
            record_us=to_us(record.time), kind=int(record.kind), http_status=record.http_status, **texts
        )
    )


def keep_opening(connection: Connection, unit: Unit, *, gln: Gln, now: datetime) -> None:
    """Keep, as of every supply under the Falsified Medicines Directive, that an opened pack was taken out of use.

    Args:
        connection: In a write transaction.
        unit: The pack.
        gln: Of the organisation that opened it.
        now: Aware UTC.
    """
    own = str(gln)
    record = Record(
        RecordKind.FMD,
        now,
        question=unit.digital_link,
        requester=own,
        responder=own,
        context="supply",
        answer=f"{FmdState.SUPPLIED} {FmdCode.SUCCESS}",
    )
    keep(connection, record)


def after(connection: Connection, number: int, *, limit: int) -> list[Record]:
    """Return the records after a number, oldest first."""
    table = VerificationRow.__table__  # type: ignore[attr-defined]
    query = select(table).where(col(VerificationRow.number) > number).order_by(col(VerificationRow.number))
    return [
        Record(
            kind=RecordKind(row["kind"]),
            time=from_us(row["record_us"]),
            number=row["number"],
            **{
                name: row[name]
                for name in (
                    "caller",
                    "requester",
                    "responder",
                    "context",
                    "question",
                    "http_status",
                    "answer",
                    "corr_uuid",
                )
            },
        )
        for row in connection.execute(query.limit(limit)).mappings()
    ]
