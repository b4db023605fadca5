"""The only bridge between generated protobuf classes and the kernel's values.

Encoding makes a payload's bytes once; decoding checks form (lengths, ranges, required fields, known enums, unknown
fields) and raises :class:`~medtrail.errors.MalformedError` with the path of the offending field.
"""

from medtrail.codec.document import decode_terms, encode_terms
from medtrail.codec.envelope import decode_batch, decode_signed_event, encode_batch, encode_signed_event
from medtrail.codec.epcis import epcis_from_message, epcis_to_message
from medtrail.codec.exchange import (
    decode_ack,
    decode_advice,
    decode_letter,
    decode_receipt,
    encode_ack,
    encode_advice,
    encode_letter,
    encode_receipt,
)
from medtrail.codec.payload import (
    decode_payload,
    encode_payload,
    product_from_message,
    product_to_message,
    recall_from_message,
    recall_to_message,
)
from medtrail.codec.scalars import from_timestamp, to_timestamp

__all__ = [
    "decode_ack",
    "decode_advice",
    "decode_batch",
    "decode_letter",
    "decode_payload",
    "decode_receipt",
    "decode_signed_event",
    "decode_terms",
    "encode_ack",
    "encode_advice",
    "encode_batch",
    "encode_letter",
    "encode_payload",
    "encode_receipt",
    "encode_signed_event",
    "encode_terms",
    "epcis_from_message",
    "epcis_to_message",
    "from_timestamp",
    "product_from_message",
    "product_to_message",
    "recall_from_message",
    "recall_to_message",
    "to_timestamp",
]
