"""From a message of the stream to candidates for the log: everything that can be said of an event by itself.

Nothing here depends on other events, so it runs in any order and on any thread; what depends on order is in
:mod:`ledger.judgement`.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ledger.event_index import event_id_hash
from medtrail.claims import Claims, claims_of
from medtrail.codec import decode_batch, decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.epcis import check_event
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MedtrailError
from medtrail.event import Event
from medtrail.item_map import identifiers, list_salt, log_entry, map_key
from medtrail.merkle import hash_leaf

EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Return an aware moment as microseconds since 1970."""
    return (moment - EPOCH_START) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Return microseconds since 1970 as aware UTC."""
    return EPOCH_START + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """A message of the EVENTS stream, as the server stored it.

    Attributes:
        stream_seq: From 1.
        stored_time: The server's text, RFC 3339 to the nanosecond: part of the hash as it stands.
        stream_time: The same to the microsecond, aware UTC.
    """

    stream_seq: int
    subject: str
    stored_time: str
    stream_time: datetime
    data: bytes

    @property
    def sha256(self) -> bytes:
        """SHA-256 over sequence, stored time, subject and data, with their lengths; 32 bytes."""
        texts = (self.stored_time.encode(), self.subject.encode())
        head = struct.pack(">QII", self.stream_seq, *(len(text) for text in texts))
        return hashlib.sha256(head + b"".join(texts) + self.data).digest()


class Accepted(NamedTuple):
    """An event whose form and signature hold, and no more of it than judging and storing it need.

    The event itself is decoded again where it is wanted, which is rare: :func:`event_of`. One flat tuple, because
    tens of thousands a second come from other processes.

    Attributes:
        sha256: Of the bytes.
        key_id: did:key that signed it.
        entry: The 65-byte log entry that it would be.
        leaf_hash: Of that entry.
        list_salt: 32 bytes.
        map_keys: Sorted item-map keys, 32 bytes each, joined.
        event_id_hash: Keyed, 32 bytes.
        declaration: Whether it declares an earlier event to be in error.
        claims: What the registry judges, without the moments: most events of a message share theirs.
        moments: What is dated in it: field and moment, aware UTC.
    """

    signed_event: bytes
    sha256: bytes
    event_id: str
    key_id: str
    entry: bytes
    leaf_hash: bytes
    list_salt: bytes
    map_keys: bytes
    payload_type: str
    event_id_hash: bytes
    declaration: bool
    claims: Claims
    moments: tuple[tuple[str, datetime], ...]


class Unreadable(NamedTuple):
    """Bytes that are no event of good form and signature, and why.

    Attributes:
        sha256: Of the bytes.
        event_id: As far as it could be read; may be empty.
    """

    signed_event: bytes
    sha256: bytes
    event_id: str
    error: MedtrailError


Candidate = Accepted | Unreadable
"""One event of a message, examined by itself."""


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """A message and its candidates, in their order: never empty."""

    message: StreamMessage
    sha256: bytes
    candidates: tuple[Candidate, ...]


def examine_message(message: StreamMessage, *, map_salt: bytes) -> OpenMessage:
    """Return a message with every event in it examined.

    Args:
        message: As read.
        map_salt: The item map's secret, 32 bytes.
    """
    return OpenMessage(message, message.sha256, examine_batch(message.data, map_salt=map_salt))


def examine_batch(data: bytes, *, map_salt: bytes) -> tuple[Candidate, ...]:
    """Return every event of a message's data examined, in their order: never empty.

    Data that are no batch (poison, or over a limit) are one candidate that failed: the data as a whole.

    Args:
        data: As the stream has them.
        map_salt: The item map's secret, 32 bytes.
    """
    try:
        events = decode_batch(data)
    except MedtrailError as error:
        return (Unreadable(data, hashlib.sha256(data).digest(), "", error),)
    shared: dict[Claims, Claims] = {}
    return tuple(examine(event, map_salt=map_salt, shared=shared) for event in events)


def to_rows(candidates: Iterable[Candidate]) -> list[tuple[Any, ...]]:
    """Return candidates as plain tuples, which travel between processes at a third of the cost."""
    return [tuple(candidate) for candidate in candidates]


def from_rows(rows: Iterable[tuple[Any, ...]]) -> tuple[Candidate, ...]:
    """Return the candidates that :func:`to_rows` took apart."""
    width = len(Accepted._fields)
    return tuple(Accepted._make(row) if len(row) == width else Unreadable._make(row) for row in rows)


def examine(signed_event: bytes, *, map_salt: bytes, shared: dict[Claims, Claims] | None = None) -> Candidate:
    """Return what can be said of one event's bytes alone: form, signature, log entry, map keys.

    Args:
        signed_event: The bytes.
        map_salt: The item map's secret, 32 bytes.
        shared: Claims of other events; gets this one's.
    """
    digest = hashlib.sha256(signed_event).digest()
    event_id = ""
    try:
        signed = decode_signed_event(signed_event)
        # The signature comes first: what is inside forged bytes is nobody's word.
        key_id = verify_signatures(signed)
        event = decode_payload(signed.payload_type, signed.payload)
        event_id = event.header.event_id
        if isinstance(event.statement, EpcisEvent):
            check_event(event.statement)
    except MedtrailError as error:
        return Unreadable(signed_event, digest, event_id, error)
    keys = b"".join(sorted(map_key(map_salt, identifier) for identifier in identifiers(event)))
    salt = list_salt(event.header.salt)
    entry = log_entry(digest, hashlib.sha256(salt + keys).digest())
    claims = claims_of(event)
    moments = claims.moments
    if moments:
        claims = claims._replace(moments=())
    if shared is not None:
        claims = shared.setdefault(claims, claims)
    return Accepted(
        signed_event,
        digest,
        event_id,
        key_id,
        entry,
        hash_leaf(entry),
        salt,
        keys,
        event.payload_type.value,
        event_id_hash(map_salt, event_id),
        event.is_declaration,
        claims,
        moments,
    )


def event_of(signed_event: bytes) -> Event:
    """Return the event in bytes that were found good before.

    Raises:
        MalformedError: They are not.
    """
    signed = decode_signed_event(signed_event)
    return decode_payload(signed.payload_type, signed.payload)
