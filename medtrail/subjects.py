"""Names on the exchange: streams and subjects (ARCHITECTURE, section 4). Subjects route; only signatures identify."""

from dataclasses import dataclass
from enum import StrEnum

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln

EVENTS_STREAM = "EVENTS"
INBOX_STREAM = "INBOX"
EVENTS_SUBJECTS = "medtrail.v1.events.*"
INBOX_SUBJECTS = "medtrail.v1.inbox.*.*.*"
CHECKPOINTS_SUBJECT = "medtrail.v1.checkpoints"
LEDGER_SENDER = "ledger"

_EVENTS_TOKENS = 4
_INBOX_TOKENS = 6


class MessageKind(StrEnum):
    """Kinds of inbox messages."""

    ADVICE = "advice"
    ACK = "ack"
    RECEIPT = "receipt"
    REFUSAL = "refusal"
    NOTICE = "notice"
    REQUEST = "request"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class InboxSubject:
    """An inbox subject taken apart: receiver, sender (a GLN, or None for the ledger), kind."""

    to: Gln
    sender: Gln | None
    kind: MessageKind


def events_subject(gln: Gln) -> str:
    """Return the subject on which an organisation publishes its events."""
    return f"medtrail.v1.events.{gln}"


def inbox_subject(*, to: Gln, sender: Gln | None, kind: MessageKind) -> str:
    """Return the subject of a message to a partner; sender None stands for the ledger."""
    return f"medtrail.v1.inbox.{to}.{sender or LEDGER_SENDER}.{kind}"


def parse_events_subject(subject: str) -> Gln:
    """Return the GLN whose events travel on a subject.

    Raises:
        MalformedError: It is no events subject.
    """
    tokens = subject.split(".")
    if len(tokens) != _EVENTS_TOKENS or tokens[:3] != ["medtrail", "v1", "events"]:
        message = f"expected medtrail.v1.events.<gln>, got {subject[:100]!r}"
        raise MalformedError(message, code="SUBJECT_MALFORMED")
    return Gln(tokens[3])


def parse_inbox_subject(subject: str) -> InboxSubject:
    """Take an inbox subject apart.

    Raises:
        MalformedError: It is no inbox subject, or of an unknown kind.
    """
    tokens = subject.split(".")
    if (
        len(tokens) != _INBOX_TOKENS
        or tokens[:3] != ["medtrail", "v1", "inbox"]
        or tokens[5] not in MessageKind.__members__.values()
    ):
        message = f"expected medtrail.v1.inbox.<to>.<from>.<kind>, got {subject[:100]!r}"
        raise MalformedError(message, code="SUBJECT_MALFORMED")
    sender = None if tokens[4] == LEDGER_SENDER else Gln(tokens[4])
    return InboxSubject(to=Gln(tokens[3]), sender=sender, kind=MessageKind(tokens[5]))
