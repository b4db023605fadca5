"""From a message of the stream to candidates for the log: everything that can be said of an event by itself.

Nothing here depends on other events, so it runs in any order and on any thread; what depends on order is in
:mod:`ledger.judgement`.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
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
EVENTS_TOGETHER = 64
"""Events that take each step of the examination together: what becomes of them fits the cache of a core."""


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
    found: list[Candidate] = []
    for start in range(0, len(events), EVENTS_TOGETHER):
        found += _examine(events[start : start + EVENTS_TOGETHER], map_salt=map_salt, shared=shared)
    return tuple(found)


def to_rows(candidates: Iterable[Candidate]) -> list[tuple[Any, ...]]:
    """Return candidates as plain tuples, which travel between processes at a third of the cost."""
    return [tuple(candidate) for candidate in candidates]


def from_rows(rows: Iterable[tuple[Any, ...]]) -> tuple[Candidate, ...]:
    """Return the candidates that :func:`to_rows` took apart."""
    width = len(Accepted._fields)
    return tuple(Accepted._make(row) if len(row) == width else Unreadable._make(row) for row in rows)


def examine(signed_event: bytes, *, map_salt: bytes) -> Candidate:
    """Return what can be said of one event's bytes alone: form, signature, log entry, map keys.

    Args:
        signed_event: The bytes.
        map_salt: The item map's secret, 32 bytes.
    """
    (found,) = _examine((signed_event,), map_salt=map_salt, shared={})
    return found


def _examine(signed_events: Sequence[bytes], *, map_salt: bytes, shared: dict[Claims, Claims]) -> Sequence[Candidate]:
    try:
        return _accepted(signed_events, map_salt=map_salt, shared=shared)
    except MedtrailError as error:
        if len(signed_events) == 1:
            (refused,) = signed_events
            return (Unreadable(refused, hashlib.sha256(refused).digest(), _event_id_of(refused), error),)
    # Which of them it was, each tells by itself.
    return [found for one in signed_events for found in _examine((one,), map_salt=map_salt, shared=shared)]


def _accepted(signed_events: Sequence[bytes], *, map_salt: bytes, shared: dict[Claims, Claims]) -> list[Accepted]:
    """Return events examined of which all are good.

    Args:
        signed_events: The bytes.
        map_salt: The item map's secret, 32 bytes.
        shared: Claims of other events; gets theirs.

    Raises:
        MedtrailError: One of them is not.
    """
    # A step for all before the next one: whatever takes all steps for one event finds the processor's caches full of
    # other steps' code at each, and takes a fifth longer.
    digests = [hashlib.sha256(one).digest() for one in signed_events]
    opened = [decode_signed_event(one) for one in signed_events]
    # The signatures come first: what is inside forged bytes is nobody's word.
    key_ids = [verify_signatures(one) for one in opened]
    events = [decode_payload(one.payload_type, one.payload) for one in opened]
    for event in events:
        if isinstance(event.statement, EpcisEvent):
            check_event(event.statement)
    named = [identifiers(event) for event in events]
    keys = [b"".join(sorted([map_key(map_salt, name) for name in names])) for names in named]
    salts = [list_salt(event.header.salt) for event in events]
    lists = [hashlib.sha256(salt + listed).digest() for salt, listed in zip(salts, keys, strict=True)]
    entries = [log_entry(digest, listed) for digest, listed in zip(digests, lists, strict=True)]
    event_ids = [event.header.event_id for event in events]
    claims = [claims_of(event) for event in events]
    moments = [one.moments for one in claims]
    undated = [one._replace(moments=()) if one.moments else one for one in claims]
    columns = (
        signed_events,
        digests,
        event_ids,
        key_ids,
        entries,
        [hash_leaf(entry) for entry in entries],
        salts,
        keys,
        [event.payload_type.value for event in events],
        [event_id_hash(map_salt, event_id) for event_id in event_ids],
        [event.is_declaration for event in events],
        [shared.setdefault(one, one) for one in undated],
        moments,
    )
    return [Accepted._make(row) for row in zip(*columns, strict=True)]


def _event_id_of(signed_event: bytes) -> str:
    """Return the id in an event's bytes, if they can be read and are signed; else nothing."""
    try:
        signed = decode_signed_event(signed_event)
        verify_signatures(signed)
        return decode_payload(signed.payload_type, signed.payload).header.event_id
    except MedtrailError:
        return ""


def event_of(signed_event: bytes) -> Event:
    """Return the event in bytes that were found good before.

    Raises:
        MalformedError: They are not.
    """
    signed = decode_signed_event(signed_event)
    return decode_payload(signed.payload_type, signed.payload)
