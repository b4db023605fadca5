"""Payloads: from an event to the bytes that are signed, and back."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from medtrail.api.event.v1 import document_pb2, payload_pb2
from medtrail.codec.document import document_from_message, document_to_message
from medtrail.codec.epcis import epcis_from_message, epcis_to_message
from medtrail.codec.exception_letter import letter_from_message, letter_to_message
from medtrail.codec.scalars import (
    HASH_BYTES,
    MAX_NAME_LENGTH,
    MAX_TEXT_LENGTH,
    matching_text,
    parse_message,
    required_hash,
    required_text,
    required_time,
    to_gln,
    to_gtin,
    to_timestamp,
)
from medtrail.codec.storage import storage_from_message, storage_to_message
from medtrail.codec.trust import trust_from_message, trust_to_message
from medtrail.document import Document
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MalformedError
from medtrail.event import (
    MAX_SIGNED_EVENT_BYTES,
    SALT_BYTES,
    Capture,
    ErasureConsent,
    ErasureOrder,
    ErasureStatement,
    Event,
    Header,
    NationalNumber,
    PackLevel,
    PayloadType,
    Product,
    ProductContent,
    Recall,
    RecallScope,
    Refusal,
)
from medtrail.exception_letter import ExceptionLetter

if TYPE_CHECKING:
    from google.protobuf.message import Message

MAX_EVENT_ID_LENGTH = 512
MAX_SOURCE_SEQ = 2**63 - 1
MAX_SCOPES = 100
MAX_SERIALS = 10_000
MAX_LOT_LENGTH = 20
RECALL_CLASSES = ("", "I", "II", "III")
RECALL_DEPTHS = ("consumer", "retail", "wholesale")

_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_EVENT_ID = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+\Z")

_LEVEL_TO_MESSAGE = {
    PackLevel.UNKNOWN: payload_pb2.PACK_LEVEL_UNSPECIFIED,
    PackLevel.PACK: payload_pb2.PACK_LEVEL_PACK,
    PackLevel.BUNDLE: payload_pb2.PACK_LEVEL_BUNDLE,
    PackLevel.CASE: payload_pb2.PACK_LEVEL_CASE,
    PackLevel.PALLET: payload_pb2.PACK_LEVEL_PALLET,
}
_LEVEL_FROM_MESSAGE = {number: value for value, number in _LEVEL_TO_MESSAGE.items()}
_CAPTURE_TO_MESSAGE = {
    Capture.FIRST_HAND: payload_pb2.CAPTURE_FIRST_HAND,
    Capture.SECOND_HAND: payload_pb2.CAPTURE_SECOND_HAND,
}
_CAPTURE_FROM_MESSAGE = {number: value for value, number in _CAPTURE_TO_MESSAGE.items()}


def encode_payload(event: Event) -> bytes:
    """Return a payload's bytes. Called once an event, by its producer, right before signing."""
    header = _header_to_message(event.header)
    statement = event.statement
    message: Message
    if isinstance(statement, EpcisEvent):
        message = payload_pb2.EpcisPayload(header=header, event=epcis_to_message(statement))
    elif isinstance(statement, Product):
        message = payload_pb2.ProductPayload(header=header, product=product_to_message(statement))
    elif isinstance(statement, Recall):
        message = payload_pb2.RecallPayload(header=header, recall=recall_to_message(statement))
    elif isinstance(statement, Refusal):
        message = payload_pb2.RefusalPayload(header=header, refusal=_refusal_to_message(statement))
    elif isinstance(statement, ErasureOrder | ErasureConsent):
        message = _erasure_to_message(statement, header)
    elif isinstance(statement, ExceptionLetter):
        message = payload_pb2.ExceptionPayload(header=header, letter=letter_to_message(statement))
    elif isinstance(statement, Document):
        message = document_pb2.DocumentPayload(header=header, document=document_to_message(statement))
    else:
        message = trust_to_message(statement, header)
    return message.SerializeToString(deterministic=True)


def decode_payload(payload_type: str, payload: bytes) -> Event:
    """Return the event that a payload holds.

    Args:
        payload_type: Media type as signed.
        payload: The signed bytes.

    Raises:
        MalformedError: An unknown type, or a field that is missing, unknown or of wrong form.
    """
    decoder = _DECODERS.get(payload_type)
    if decoder is None:
        text = f"unknown payload type {payload_type[:80]!r}"
        raise MalformedError(text, code="PAYLOAD_TYPE_UNKNOWN", field="payload_type")
    return decoder(payload)


def _decode_epcis(payload: bytes) -> Event:
    message = parse_message(payload_pb2.EpcisPayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    if message.event.event_id:
        text = "the event's id stands in the header only"
        raise MalformedError(text, code="EVENT_ID_TWICE", field="event.event_id")
    return Event(_header_from_message(message.header), epcis_from_message(message.event))


def _decode_product(payload: bytes) -> Event:
    message = parse_message(payload_pb2.ProductPayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    return Event(_header_from_message(message.header), product_from_message(message.product))


def _decode_recall(payload: bytes) -> Event:
    message = parse_message(payload_pb2.RecallPayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    return Event(_header_from_message(message.header), recall_from_message(message.recall))


def _decode_trust(payload: bytes) -> Event:
    message = parse_message(payload_pb2.TrustPayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    return Event(_header_from_message(message.header), trust_from_message(message))


def _decode_refusal(payload: bytes) -> Event:
    message = parse_message(payload_pb2.RefusalPayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    return Event(_header_from_message(message.header), _refusal_from_message(message.refusal))


def _decode_erasure(payload: bytes) -> Event:
    message = parse_message(payload_pb2.ErasurePayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    return Event(_header_from_message(message.header), _erasure_from_message(message))


def _decode_document(payload: bytes) -> Event:
    message = parse_message(document_pb2.DocumentPayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    header, document = _header_from_message(message.header), document_from_message(message.document)
    if header.event_id != document.event_id(header.actor):
        text = f"{document.kind} {document.number} of {header.actor} goes by {document.event_id(header.actor)}"
        raise MalformedError(text, code="DOCUMENT_ID_MISMATCH", field="header.event_id")
    if document.counterparty == header.actor:
        text = f"{header.actor} makes a document to itself"
        raise MalformedError(text, code="DOCUMENT_TO_SELF", field="document.counterparty")
    return Event(header, document)


def _decode_exception(payload: bytes) -> Event:
    message = parse_message(payload_pb2.ExceptionPayload, payload, limit=MAX_SIGNED_EVENT_BYTES, field="payload")
    return Event(_header_from_message(message.header), letter_from_message(message.letter))


_DECODERS: dict[str, Callable[[bytes], Event]] = {
    PayloadType.EPCIS: _decode_epcis,
    PayloadType.PRODUCT: _decode_product,
    PayloadType.RECALL: _decode_recall,
    PayloadType.TRUST: _decode_trust,
    PayloadType.REFUSAL: _decode_refusal,
    PayloadType.ERASURE: _decode_erasure,
    PayloadType.DOCUMENT: _decode_document,
    PayloadType.EXCEPTION: _decode_exception,
}


def _header_to_message(header: Header) -> payload_pb2.Header:
    return payload_pb2.Header(
        salt=header.salt,
        actor=str(header.actor),
        source=header.source,
        source_seq=header.source_seq,
        event_id=header.event_id,
        sealed_terms_sha256=header.sealed_terms_sha256,
        capture=_CAPTURE_TO_MESSAGE[header.capture],
    )


def _header_from_message(message: payload_pb2.Header) -> Header:
    # Every field is read once: each reading makes a new value.
    salt, source, source_seq, event_id = message.salt, message.source, message.source_seq, message.event_id
    sealed, capture = message.sealed_terms_sha256, _CAPTURE_FROM_MESSAGE.get(message.capture)
    if len(salt) != SALT_BYTES:
        text = f"expected {SALT_BYTES} bytes, got {len(salt)}"
        raise MalformedError(text, code="SALT_LENGTH", field="header.salt")
    matching_text(_SOURCE, source, field="header.source")
    if not 1 <= source_seq <= MAX_SOURCE_SEQ:
        text = f"numbers go from 1 to {MAX_SOURCE_SEQ}"
        raise MalformedError(text, code="SOURCE_SEQ", field="header.source_seq")
    required_text(event_id, field="header.event_id", most=MAX_EVENT_ID_LENGTH)
    matching_text(_EVENT_ID, event_id, field="header.event_id")
    if len(sealed) not in {0, HASH_BYTES}:
        text = f"expected 0 or {HASH_BYTES} bytes, got {len(sealed)}"
        raise MalformedError(text, code="HASH_LENGTH", field="header.sealed_terms_sha256")
    if capture is None:
        text = "expected first-hand or second-hand"
        raise MalformedError(text, code="CAPTURE_UNKNOWN", field="header.capture")
    actor = to_gln(message.actor, field="header.actor")
    return Header(salt, actor, source, source_seq, event_id, capture, sealed)


def product_to_message(product: Product) -> payload_pb2.Product:
    """Return the message of a product."""
    message = payload_pb2.Product(
        gtin=str(product.gtin),
        level=_LEVEL_TO_MESSAGE[product.level],
        name=product.name,
        national_numbers=[
            payload_pb2.NationalNumber(system=item.system, number=item.number) for item in product.national_numbers
        ],
        strength=product.strength,
        dosage_form=product.dosage_form,
        net_content=product.net_content,
    )
    if product.content is not None:
        message.content.gtin = str(product.content.gtin)
        message.content.count = product.content.count
    if product.storage is not None:
        message.storage.CopyFrom(storage_to_message(product.storage))
    return message


def product_from_message(message: payload_pb2.Product, *, field: str = "product") -> Product:
    """Return the product of a message.

    Raises:
        MalformedError: A field is missing or of wrong form.
    """
    if message.level not in _LEVEL_FROM_MESSAGE:
        text = f"unknown packaging level {message.level}"
        raise MalformedError(text, code="PACK_LEVEL_UNKNOWN", field=f"{field}.level")
    content = None
    if message.HasField("content"):
        if message.content.count < 1:
            text = "a grouping holds at least one unit"
            raise MalformedError(text, code="CONTENT_COUNT", field=f"{field}.content.count")
        content = ProductContent(to_gtin(message.content.gtin, field=f"{field}.content.gtin"), message.content.count)
    texts = {
        name: required_text(getattr(message, name), field=f"{field}.{name}", least=0, most=MAX_NAME_LENGTH)
        for name in ("strength", "dosage_form", "net_content")
    }
    return Product(
        gtin=to_gtin(message.gtin, field=f"{field}.gtin"),
        level=_LEVEL_FROM_MESSAGE[message.level],
        name=required_text(message.name, field=f"{field}.name", most=MAX_NAME_LENGTH),
        national_numbers=tuple(
            NationalNumber(
                required_text(item.system, field=f"{field}.national_numbers[{number}].system", most=MAX_LOT_LENGTH),
                required_text(item.number, field=f"{field}.national_numbers[{number}].number", most=MAX_LOT_LENGTH),
            )
            for number, item in enumerate(message.national_numbers)
        ),
        content=content,
        storage=(
            storage_from_message(message.storage, field=f"{field}.storage") if message.HasField("storage") else None
        ),
        **texts,
    )


def recall_to_message(recall: Recall) -> payload_pb2.Recall:
    """Return the message of a recall."""
    return payload_pb2.Recall(
        number=recall.number,
        recall_class=recall.recall_class,
        depth=recall.depth,
        reason=recall.reason,
        instruction=recall.instruction,
        start_time=to_timestamp(recall.start_time),
        scopes=[
            payload_pb2.RecallScope(gtin=str(item.gtin), lot=item.lot, serials=item.serials) for item in recall.scopes
        ],
        drill=recall.drill,
        terminated_recall_id=recall.terminated_recall_id,
    )


def recall_from_message(message: payload_pb2.Recall, *, field: str = "recall") -> Recall:
    """Return the recall of a message.

    Raises:
        MalformedError: A field is missing or of wrong form.
    """
    if message.recall_class not in RECALL_CLASSES or message.depth not in RECALL_DEPTHS:
        text = f"expected class I, II, III or none and depth {', '.join(RECALL_DEPTHS)}"
        raise MalformedError(text, code="RECALL_CLASS_UNKNOWN", field=f"{field}.recall_class")
    if not 1 <= len(message.scopes) <= MAX_SCOPES:
        text = f"expected 1 to {MAX_SCOPES} scopes, got {len(message.scopes)}"
        raise MalformedError(text, code="RECALL_SCOPE", field=f"{field}.scopes")
    return Recall(
        number=required_text(message.number, field=f"{field}.number", most=64),
        recall_class=message.recall_class,
        depth=message.depth,
        reason=required_text(message.reason, field=f"{field}.reason", most=MAX_TEXT_LENGTH),
        instruction=required_text(message.instruction, field=f"{field}.instruction", least=0, most=MAX_TEXT_LENGTH),
        start_time=required_time(message, "start_time", field=f"{field}.start_time"),
        scopes=tuple(
            _scope_from_message(item, f"{field}.scopes[{number}]") for number, item in enumerate(message.scopes)
        ),
        drill=message.drill,
        terminated_recall_id=required_text(
            message.terminated_recall_id, field=f"{field}.terminated_recall_id", least=0, most=MAX_EVENT_ID_LENGTH
        ),
    )


def _scope_from_message(message: payload_pb2.RecallScope, field: str) -> RecallScope:
    if len(message.serials) > MAX_SERIALS:
        text = f"expected at most {MAX_SERIALS} serials, got {len(message.serials)}"
        raise MalformedError(text, code="RECALL_SCOPE", field=f"{field}.serials")
    serials = tuple(
        required_text(serial, field=f"{field}.serials[{number}]", most=MAX_LOT_LENGTH)
        for number, serial in enumerate(message.serials)
    )
    lot = required_text(message.lot, field=f"{field}.lot", least=0, most=MAX_LOT_LENGTH)
    return RecallScope(to_gtin(message.gtin, field=f"{field}.gtin"), lot, serials)


def _refusal_to_message(refusal: Refusal) -> payload_pb2.Refusal:
    return payload_pb2.Refusal(
        signed_event_sha256=refusal.signed_event_sha256,
        event_id=refusal.event_id,
        code=refusal.code,
        field=refusal.field,
        message=refusal.message,
        stream_seq=refusal.stream_seq,
        stream_time=to_timestamp(refusal.stream_time),
    )


def _refusal_from_message(message: payload_pb2.Refusal) -> Refusal:
    return Refusal(
        signed_event_sha256=required_hash(message.signed_event_sha256, field="refusal.signed_event_sha256"),
        event_id=message.event_id,
        code=required_text(message.code, field="refusal.code", most=64),
        field=message.field,
        message=message.message,
        stream_seq=message.stream_seq,
        stream_time=required_time(message, "stream_time", field="refusal.stream_time"),
    )


def _erasure_to_message(statement: ErasureStatement, header: payload_pb2.Header) -> payload_pb2.ErasurePayload:
    message = payload_pb2.ErasurePayload(header=header)
    part = message.erasure_order if isinstance(statement, ErasureOrder) else message.erasure_consent
    part.signed_event_sha256 = statement.signed_event_sha256
    part.reason = statement.reason
    return message


def _erasure_from_message(message: payload_pb2.ErasurePayload) -> ErasureStatement:
    kind = message.WhichOneof("statement")
    if kind is None:
        text = "an erasure payload makes one statement"
        raise MalformedError(text, code="FIELD_MISSING", field="statement")
    found = message.erasure_order if kind == "erasure_order" else message.erasure_consent
    digest = required_hash(found.signed_event_sha256, field=f"{kind}.signed_event_sha256")
    reason = required_text(found.reason, field=f"{kind}.reason", most=MAX_TEXT_LENGTH)
    if "\0" in reason:
        # It is kept beside the log, and not every database has texts with NUL.
        raise MalformedError("a reason holds no NUL", code="TEXT_MALFORMED", field=f"{kind}.reason")
    return ErasureOrder(digest, reason) if kind == "erasure_order" else ErasureConsent(digest, reason)
