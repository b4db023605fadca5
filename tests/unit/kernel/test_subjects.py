"""Subjects of the exchange."""

import pytest

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln
from medtrail.subjects import (
    InboxSubject,
    MessageKind,
    events_subject,
    inbox_subject,
    parse_events_subject,
    parse_inbox_subject,
)

MAKER = Gln("0300011111116")
BUYER = Gln("0399999999991")


def test_events_subject_names_its_organisation_and_comes_back() -> None:
    subject = events_subject(MAKER)

    assert subject == "medtrail.v1.events.0300011111116"
    assert parse_events_subject(subject) == MAKER


@pytest.mark.parametrize("sender", [MAKER, None], ids=["partner", "ledger"])
@pytest.mark.parametrize("kind", list(MessageKind))
def test_inbox_subject_comes_back(sender: Gln | None, kind: MessageKind) -> None:
    subject = inbox_subject(to=BUYER, sender=sender, kind=kind)

    assert parse_inbox_subject(subject) == InboxSubject(BUYER, sender, kind)


@pytest.mark.parametrize(
    "subject",
    ["", "medtrail.v1.events", "medtrail.v1.events.1", "medtrail.v2.events.0300011111116", "medtrail.v1.events.*"],
)
def test_refuses_what_is_no_events_subject(subject: str) -> None:
    with pytest.raises(MalformedError):
        parse_events_subject(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "medtrail.v1.inbox.0300011111116.ledger",
        "medtrail.v1.inbox.0300011111116.ledger.gossip",
        "medtrail.v1.outbox.0300011111116.ledger.ack",
        "medtrail.v1.inbox.0300011111116.*.ack",
    ],
)
def test_refuses_what_is_no_inbox_subject(subject: str) -> None:
    with pytest.raises(MalformedError):
        parse_inbox_subject(subject)
