"""Letters: signed statements that partners send each other beside the advice of goods.

What a letter says is told by the payload type of its signed event; each part that speaks by letters puts a handler for
its own into :data:`HANDLERS`. Before one is called it is known who signed, that the signer is who sent it, and that the
letter is for this organisation. Subjects route; only signatures identify.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import Field, col

from medtrail.claims import claims_of
from medtrail.codec import decode_letter, decode_payload, decode_signed_event, encode_letter
from medtrail.envelope import verify_signatures
from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, TooLargeError, VerificationError
from medtrail.event import Capture, Event, PayloadType
from medtrail.exchange import Letter
from medtrail.gs1 import Gln
from medtrail.runtime import outbox
from medtrail.runtime.logging import get_logger
from medtrail.subjects import MessageKind
from medtrail.trust import Registry
from services.custody.desk import Desk
from services.custody.tables import CustodyTable

log = get_logger(__name__)

MAX_WAITING_PER_SENDER = 1000
"""Letters of one sender that may wait for the enrolment of their key."""


class TakenLetter(CustodyTable, table=True):
    """A letter that was taken in: the same statement again changes nothing, however it was sealed."""

    __tablename__: ClassVar[str] = "taken_letter"

    signed_event_sha256: bytes = Field(primary_key=True)
    sender: str
    payload_type: str


class WaitingLetter(CustodyTable, table=True):
    """A letter whose key nobody is known to have yet: its enrolment may be on its way."""

    __tablename__: ClassVar[str] = "waiting_letter"

    sender: str = Field(primary_key=True)
    letter_sha256: bytes = Field(primary_key=True)
    letter: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """A letter to this organisation, its signature, sender and addressee verified.

    Attributes:
        sender: Party GLN of the signing organisation.
        event: What it says.
        signed_event: As signed.
        sha256: Of signed_event, 32 bytes.
        sealed_terms: Commercial terms, sealed to our key; may be empty.
    """

    sender: Gln
    event: Event
    signed_event: bytes
    sha256: bytes
    sealed_terms: bytes


LetterHandler = Callable[[Connection, Desk, Heard], None]

HANDLERS: dict[PayloadType, LetterHandler] = {}
"""By payload type; called once a statement, in the transaction that also notes the letter."""


def send(connection: Connection, *, to: Gln, signed_event: bytes, sealed_terms: bytes = b"") -> None:
    """Put a letter on its way to a partner; it stays in the outbox until the partner's acknowledgement.

    Args:
        connection: In the write transaction that made the statement.
        to: Party GLN of an enrolled organisation.
        signed_event: SignedEvent message.
        sealed_terms: Sealed box for the partner's key; may be empty.

    Raises:
        TooLargeError: More than 512 KiB (LETTER_TOO_LARGE).
    """
    data = encode_letter(Letter(signed_event, sealed_terms))
    outbox.enqueue_outgoing(connection, to=to, kind=MessageKind.NOTICE, data=data)


def take_letter(connection: Connection, desk: Desk, data: bytes, *, sender: Gln) -> None:
    """Take in a letter, or keep it until its sender's key is known.

    Args:
        connection: In a write transaction.
        desk: Whose inbox it came to.
        data: Letter message.
        sender: Party GLN by the subject.

    Raises:
        MalformedError: It cannot be read, or nobody here understands it (LETTER_UNKNOWN).
        AuthorizationError: Its signer is not its sender (LETTER_NOT_SENDER), or its key is revoked.
        TooLargeError: More than 512 KiB, or the sender has 1,000 letters waiting (LETTER_BACKLOG).
        VerificationError: Its signature does not hold, or it is for somebody else (LETTER_NOT_OURS).
    """
    if not _take_in(connection, desk, data, sender=sender):
        _keep(connection, data, sender=sender)


def take_waiting(connection: Connection, desk: Desk) -> bool:
    """Take in the letters that waited and can be judged now; return whether there were any.

    What is wrong with one is logged, and it is forgotten: its sender was told that it came.
    """
    names = connection.execute(select(col(WaitingLetter.sender), col(WaitingLetter.letter_sha256))).all()
    taken = False
    # One after the other: all that partners have waiting here need not fit into memory.
    for sender, sha256 in names:
        here = (col(WaitingLetter.sender) == sender, col(WaitingLetter.letter_sha256) == sha256)
        data = connection.execute(select(col(WaitingLetter.letter)).where(*here)).scalar_one()
        try:
            with connection.begin_nested():
                done = _take_in(connection, desk, data, sender=Gln(sender))
        except MedtrailError as error:
            log.warning("letter refused", sender=sender, code=error.code, why=str(error))
            done = True
        if done:
            connection.execute(delete(WaitingLetter).where(*here))
            taken = True
    return taken


def _take_in(connection: Connection, desk: Desk, data: bytes, *, sender: Gln) -> bool:
    """Take in a letter; return False when nobody is known to have its key yet."""
    heard = _hear(desk, decode_letter(data), sender=sender)
    if heard is None:
        return False
    handler = HANDLERS.get(heard.event.payload_type)
    if handler is None:
        message = f"nobody here understands {heard.event.payload_type}"
        raise MalformedError(message, code="LETTER_UNKNOWN", field="letter.signed_event")
    noted = connection.execute(
        insert(TakenLetter)
        .values(signed_event_sha256=heard.sha256, sender=str(sender), payload_type=heard.event.payload_type.value)
        .on_conflict_do_nothing()
    )
    if noted.rowcount:
        handler(connection, desk, heard)
    return True


def _hear(desk: Desk, letter: Letter, *, sender: Gln) -> Heard | None:
    registry = desk.registry()
    signed = decode_signed_event(letter.signed_event)
    key_id = verify_signatures(signed)
    signer = registry.organisation_of_key(key_id)
    if signer is None:
        return None
    _require_not_revoked(registry, key_id)
    if signer.gln != sender:
        message = f"{sender} sent what {signer.gln} signed"
        raise AuthorizationError(message, code="LETTER_NOT_SENDER", field="letter.signed_event")
    event = decode_payload(signed.payload_type, signed.payload)
    registry.judge_station(claims_of(event), key_id=key_id)
    if event.header.actor not in signer.glns or event.header.capture is not Capture.FIRST_HAND:
        message = f"{signer.gln} signed for {event.header.actor}"
        raise AuthorizationError(message, code="ACTOR_NOT_SIGNER", field="header.actor")
    # What is made to a party names it so; no other statement is a letter.
    if getattr(event.statement, "counterparty", None) not in desk.glns:
        message = f"the letter is for somebody else than {desk.gln}"
        raise VerificationError(message, code="LETTER_NOT_OURS", field="letter.signed_event")
    sha256 = hashlib.sha256(letter.signed_event).digest()
    return Heard(signer.gln, event, letter.signed_event, sha256, letter.sealed_terms)


def _require_not_revoked(registry: Registry, key_id: str) -> None:
    # A retired key spoke well before its end, and a letter may have been long on its way; one in doubt speaks no more.
    record = registry.key(key_id)
    if record is not None and record.suspect_time is not None:
        message = f"the key {key_id} is revoked"
        raise AuthorizationError(message, code="KEY_REVOKED", field="signatures[0].key_id")


def _keep(connection: Connection, data: bytes, *, sender: Gln) -> None:
    count = connection.execute(
        select(func.count()).select_from(WaitingLetter).where(col(WaitingLetter.sender) == str(sender))
    ).scalar_one()
    if count >= MAX_WAITING_PER_SENDER:
        message = f"{sender} has {MAX_WAITING_PER_SENDER} letters under keys that nobody is known to have"
        raise TooLargeError(message, code="LETTER_BACKLOG", field="letter")
    connection.execute(
        insert(WaitingLetter)
        .values(sender=str(sender), letter_sha256=hashlib.sha256(data).digest(), letter=data)
        .on_conflict_do_nothing()
    )


def forget(connection: Connection, sha256: bytes) -> None:
    """Drop the letters on their way, and those that wait here, whose statement was erased.

    Args:
        connection: In a write transaction.
        sha256: Of the SignedEvent; 32 bytes.
    """
    outbox.drop_outgoing(connection, kind=MessageKind.NOTICE, holds=lambda data: _states(data, sha256))
    for name in connection.execute(select(col(WaitingLetter.letter_sha256))).scalars().all():
        here = col(WaitingLetter.letter_sha256) == name
        data = connection.execute(select(col(WaitingLetter.letter)).where(here).limit(1)).scalar_one()
        if _states(data, sha256):
            connection.execute(delete(WaitingLetter).where(here))


def _states(data: bytes, sha256: bytes) -> bool:
    return hashlib.sha256(decode_letter(data).signed_event).digest() == sha256
