"""Inbox messages: advice, acknowledgement, receipt, letter."""

from medtrail.api.event.v1 import exchange_pb2
from medtrail.codec.scalars import parse_message, required_hash, required_text
from medtrail.errors import MalformedError, TooLargeError
from medtrail.event import MAX_BATCH_BYTES, MAX_SIGNED_EVENT_BYTES
from medtrail.exchange import Advice, Letter, Receipt, ReceiptItem

# An advice part holds at least one event, and an event may have 256 KiB; 512 KiB leave room for its envelope.
MAX_INBOX_BYTES = MAX_BATCH_BYTES + MAX_SIGNED_EVENT_BYTES
MAX_RECEIPT_ITEMS = 2000
MAX_EVENT_ID_LENGTH = 512


def encode_advice(advice: Advice) -> bytes:
    """Return an Advice message."""
    return exchange_pb2.Advice(
        despatch_event_id=advice.despatch_event_id,
        part=advice.part,
        part_count=advice.part_count,
        signed_events=advice.signed_events,
        absent_epcs=advice.absent_epcs,
    ).SerializeToString(deterministic=True)


def decode_advice(data: bytes) -> Advice:
    """Return the advice part that bytes encode; its events are neither decoded nor verified.

    Raises:
        MalformedError: Not an Advice, or its part lies outside its count.
    """
    message = parse_message(exchange_pb2.Advice, data, limit=MAX_INBOX_BYTES, field="advice")
    required_text(message.despatch_event_id, field="advice.despatch_event_id", most=MAX_EVENT_ID_LENGTH)
    if message.part >= message.part_count:
        text = f"expected a part below {message.part_count}, got {message.part}"
        raise MalformedError(text, code="ADVICE_PART", field="advice.part")
    return Advice(
        message.despatch_event_id,
        message.part,
        message.part_count,
        tuple(message.signed_events),
        tuple(message.absent_epcs),
    )


def encode_ack(message_sha256: bytes) -> bytes:
    """Return an Ack of the message with this hash (32 bytes)."""
    return exchange_pb2.Ack(message_sha256=message_sha256).SerializeToString(deterministic=True)


def decode_ack(data: bytes) -> bytes:
    """Return the hash of the acknowledged message, 32 bytes.

    Raises:
        MalformedError: Not an Ack.
    """
    message = parse_message(exchange_pb2.Ack, data, limit=MAX_INBOX_BYTES, field="ack")
    return required_hash(message.message_sha256, field="ack.message_sha256")


def encode_receipt(receipt: Receipt) -> bytes:
    """Return a Receipt message."""
    return exchange_pb2.Receipt(
        checkpoint=receipt.checkpoint,
        epoch=receipt.epoch,
        items=[
            exchange_pb2.ReceiptItem(
                event_id=item.event_id,
                signed_event_sha256=item.signed_event_sha256,
                leaf_index=item.leaf_index,
                resend=item.resend,
            )
            for item in receipt.items
        ],
    ).SerializeToString(deterministic=True)


def decode_receipt(data: bytes) -> Receipt:
    """Return the receipt that bytes encode; its checkpoint is not verified yet.

    Raises:
        MalformedError: Not a Receipt, or with more than 2,000 items.
    """
    message = parse_message(exchange_pb2.Receipt, data, limit=MAX_INBOX_BYTES, field="receipt")
    if len(message.items) > MAX_RECEIPT_ITEMS:
        text = f"expected at most {MAX_RECEIPT_ITEMS} items, got {len(message.items)}"
        raise MalformedError(text, code="RECEIPT_TOO_LARGE", field="receipt.items")
    items = tuple(
        ReceiptItem(
            item.event_id,
            required_hash(item.signed_event_sha256, field=f"receipt.items[{number}].signed_event_sha256"),
            item.leaf_index,
            item.resend,
        )
        for number, item in enumerate(message.items)
    )
    return Receipt(message.checkpoint, message.epoch, items)


def encode_letter(letter: Letter) -> bytes:
    """Return a Letter message.

    Raises:
        TooLargeError: More than 512 KiB (LETTER_TOO_LARGE).
    """
    data = exchange_pb2.Letter(signed_event=letter.signed_event, sealed_terms=letter.sealed_terms).SerializeToString(
        deterministic=True
    )
    _check_letter_size(data)
    return data


def decode_letter(data: bytes) -> Letter:
    """Return the letter that bytes encode; its event is neither decoded nor verified.

    Raises:
        MalformedError: Not a Letter, or one without an event.
        TooLargeError: More than 512 KiB (LETTER_TOO_LARGE).
    """
    _check_letter_size(data)
    message = parse_message(exchange_pb2.Letter, data, limit=MAX_INBOX_BYTES, field="letter")
    if not message.signed_event:
        text = "a letter holds a signed event"
        raise MalformedError(text, code="FIELD_MISSING", field="letter.signed_event")
    return Letter(message.signed_event, message.sealed_terms)


def _check_letter_size(data: bytes) -> None:
    if len(data) > MAX_BATCH_BYTES:
        text = f"a letter has at most {MAX_BATCH_BYTES} bytes, got {len(data)}"
        raise TooLargeError(text, code="LETTER_TOO_LARGE", field="letter")
