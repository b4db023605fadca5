"""What was said about cases, and who was notified of illegitimate product, in the database."""

from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from medtrail.errors import TooLargeError
from medtrail.gs1 import Gln
from medtrail.pdg import Resolution
from services.custody.exceptions.case import CaseMessage, MessageKind
from services.custody.exceptions.tables import CaseMessageRow, CaseNoticeRow
from services.custody.holdings_store import from_us, to_us

MAX_MESSAGES = 1000
"""Of one partner about one case; the house itself is never kept from speaking."""
MAX_BYTES = 8 * 1024 * 1024
"""Of the PDG messages and signed events of these: a case is read as a whole."""

_MESSAGE = CaseMessageRow.__table__  # type: ignore[attr-defined]
_NOTICE = CaseNoticeRow.__table__  # type: ignore[attr-defined]


def add_heard(connection: Connection, case_id: str, message: CaseMessage) -> bool:
    """Add a partner's message to a case; return False when it was said before.

    Raises:
        TooLargeError: The partner said 1,000 about the case, or would have said 8 MiB (TOO_MANY_MESSAGES).
    """
    size = func.coalesce(func.sum(func.length(_MESSAGE.c.pdg) + func.length(_MESSAGE.c.signed_event)), 0)
    here = (_MESSAGE.c.case_id == case_id, _MESSAGE.c.sender == str(message.sender))
    count, kept = connection.execute(select(func.count(), size).where(*here)).one()
    if count >= MAX_MESSAGES or kept + len(message.pdg) + len(message.signed_event) > MAX_BYTES:
        text = f"{message.sender} has said {count} messages of {kept} bytes about the case {case_id}"
        raise TooLargeError(text, code="TOO_MANY_MESSAGES", field="case_id")
    return add_message(connection, case_id, message)


def add_message(connection: Connection, case_id: str, message: CaseMessage) -> bool:
    """Add a message to a case; return False when its sender said it before."""
    added = connection.execute(
        insert(CaseMessageRow)
        .values(
            case_id=case_id,
            message_id=message.message_id,
            kind=message.kind.value,
            sender=str(message.sender),
            person=message.person,
            message_us=to_us(message.time),
            text=message.text,
            request="" if message.request is None else message.request.value,
            pdg=message.pdg,
            sha256=message.sha256,
            signed_event=message.signed_event,
        )
        .on_conflict_do_nothing()
    )
    return bool(added.rowcount)


def messages_of_case(connection: Connection, case_id: str) -> list[CaseMessage]:
    """Return what was said about a case, by time, then in order of arrival."""
    rows = connection.execute(
        select(_MESSAGE).where(_MESSAGE.c.case_id == case_id).order_by(_MESSAGE.c.message_us, _MESSAGE.c.number)
    ).mappings()
    return [
        CaseMessage(
            message_id=row["message_id"],
            kind=MessageKind(row["kind"]),
            sender=Gln(row["sender"]),
            time=from_us(row["message_us"]),
            person=row["person"],
            text=row["text"],
            request=Resolution(row["request"]) if row["request"] else None,
            pdg=row["pdg"],
            sha256=row["sha256"],
            signed_event=row["signed_event"],
        )
        for row in rows
    ]


# --- notices of illegitimate product ---


def note_notified(connection: Connection, case_id: str, partner: Gln, *, now: datetime) -> None:
    """Note that a partner was notified."""
    connection.execute(
        insert(CaseNoticeRow)
        .values(case_id=case_id, partner=str(partner), notify_us=to_us(now))
        .on_conflict_do_nothing()
    )


def notified_partners(connection: Connection, case_id: str) -> list[Gln]:
    """Return the partners that were notified, in order of their GLNs."""
    rows = connection.execute(select(_NOTICE.c.partner).where(_NOTICE.c.case_id == case_id).order_by(_NOTICE.c.partner))
    return [Gln(gln) for gln in rows.scalars()]
