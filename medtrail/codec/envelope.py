"""SignedEvent and EventBatch: the bytes that are hashed, stored and sent."""

from collections.abc import Sequence

from medtrail.api.event.v1 import exchange_pb2, payload_pb2
from medtrail.codec.scalars import parse_message
from medtrail.envelope import Signature, SignedEvent
from medtrail.errors import MalformedError, TooLargeError
from medtrail.event import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_SIGNED_EVENT_BYTES

MAX_SIGNATURES = 8


def encode_signed_event(signed: SignedEvent) -> bytes:
    """Return the bytes of a SignedEvent: made once by its producer, then kept as they are.

    Raises:
        TooLargeError: More than 256 KiB: say less in one event.
    """
    message = payload_pb2.SignedEvent(
        payload_type=signed.payload_type,
        payload=signed.payload,
        signatures=[
            payload_pb2.Signature(scheme=item.scheme, key_id=item.key_id, signature=item.signature)
            for item in signed.signatures
        ],
    )
    data = message.SerializeToString(deterministic=True)
    if len(data) > MAX_SIGNED_EVENT_BYTES:
        text = f"a signed event has at most {MAX_SIGNED_EVENT_BYTES} bytes, this one would have {len(data)}"
        raise TooLargeError(text, code="EVENT_TOO_LARGE")
    return data


def decode_signed_event(data: bytes) -> SignedEvent:
    """Return the SignedEvent that bytes encode; nothing is verified yet.

    Raises:
        TooLargeError: More than 256 KiB.
        MalformedError: Not a SignedEvent, or without payload type, or with no or more than eight signatures.
    """
    message = parse_message(payload_pb2.SignedEvent, data, limit=MAX_SIGNED_EVENT_BYTES, field="signed_event")
    if not message.payload_type:
        text = "is required"
        raise MalformedError(text, code="FIELD_MISSING", field="payload_type")
    if not 1 <= len(message.signatures) <= MAX_SIGNATURES:
        text = f"expected 1 to {MAX_SIGNATURES} signatures, got {len(message.signatures)}"
        code = "EVENT_UNSIGNED" if not message.signatures else "SIGNATURE_COUNT"
        raise MalformedError(text, code=code, field="signatures")
    signatures = tuple(Signature(item.scheme, item.key_id, item.signature) for item in message.signatures)
    return SignedEvent(message.payload_type, message.payload, signatures)


def encode_batch(signed_events: Sequence[bytes]) -> bytes:
    """Return an EventBatch of 1 to 500 SignedEvents, each byte for byte.

    Raises:
        TooLargeError: More than 500 events or 512 KiB.
        MalformedError: No event.
    """
    _check_count(len(signed_events))
    data = exchange_pb2.EventBatch(signed_events=signed_events).SerializeToString(deterministic=True)
    if len(data) > MAX_BATCH_BYTES:
        text = f"a batch has at most {MAX_BATCH_BYTES} bytes, this one would have {len(data)}"
        raise TooLargeError(text, code="BATCH_TOO_LARGE")
    return data


def decode_batch(data: bytes) -> tuple[bytes, ...]:
    """Return the SignedEvents of an EventBatch, byte for byte and undecoded.

    Raises:
        TooLargeError: More than 500 events or 512 KiB.
        MalformedError: Not an EventBatch, or empty.
    """
    message = parse_message(exchange_pb2.EventBatch, data, limit=MAX_BATCH_BYTES, field="event_batch")
    _check_count(len(message.signed_events))
    return tuple(message.signed_events)


def _check_count(count: int) -> None:
    if count < 1:
        text = "a batch holds at least one event"
        raise MalformedError(text, code="BATCH_EMPTY")
    if count > MAX_BATCH_EVENTS:
        text = f"a batch holds at most {MAX_BATCH_EVENTS} events, got {count}"
        raise TooLargeError(text, code="BATCH_TOO_LARGE")
