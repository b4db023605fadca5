"""Events as they stand in the index."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, select

from medtrail.codec import decode_payload, decode_signed_event
from medtrail.epcis.model import EpcisEvent
from services.portal.normal import START
from services.portal.query.sql import EVENT


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event of an answer.

    Attributes:
        number: In the order in which events were recorded.
        event: With its event id and record time.
        sha256: Of the SignedEvent; 32 bytes.
        signer: Party GLN of the organisation that signed it.
        second_hand: Its signer passed on what another did.
        leaf_index: Its place in the log, or None while unknown.
    """

    number: int
    event: EpcisEvent
    sha256: bytes
    signer: str
    second_hand: bool
    leaf_index: int | None


def by_number(connection: Connection, number: int) -> FoundEvent:
    """Return the event of a number that is there."""
    return found_event(connection.execute(select(EVENT).where(EVENT.c.number == number)).mappings().one())


def found_event(row: Any) -> FoundEvent:  # noqa: ANN401  # a row of indexed_event
    """Return the event of a row."""
    signed = decode_signed_event(row["signed_event"])
    event = decode_payload(signed.payload_type, signed.payload)
    assert isinstance(event.statement, EpcisEvent)  # noqa: S101  # nothing else is indexed
    record_time = START + timedelta(microseconds=row["record_us"])
    return FoundEvent(
        number=row["number"],
        event=replace(event.statement, event_id=event.header.event_id, record_time=record_time),
        sha256=row["sha256"],
        signer=row["signer"],
        second_hand=bool(row["second_hand"]),
        leaf_index=row["leaf_index"],
    )
