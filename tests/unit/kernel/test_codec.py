"""The codec: every value comes back, and bytes of wrong form are refused by field."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrail import codec
from medtrail.api.event.v1 import epcis_pb2, exchange_pb2, payload_pb2
from medtrail.envelope import Signature, SignedEvent, SigningKey
from medtrail.epcis.model import (
    Action,
    BizTransaction,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Extension,
    PersistentDisposition,
    Place,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
    SourceDest,
)
from medtrail.errors import MalformedError, MedtrailError, TooLargeError
from medtrail.event import (
    MAX_BATCH_EVENTS,
    MAX_SIGNED_EVENT_BYTES,
    Capture,
    Enrolment,
    ErasureConsent,
    ErasureOrder,
    Event,
    Genesis,
    Header,
    KeyAddition,
    KeyRetirement,
    KeyRevocation,
    Licence,
    NationalNumber,
    PackLevel,
    PayloadType,
    Product,
    ProductContent,
    Recall,
    RecallScope,
    Refusal,
    Role,
    Statement,
)
from medtrail.exchange import Advice, Receipt, ReceiptItem
from medtrail.gs1 import Gln, Gtin

NOW = datetime(2026, 5, 4, 10, 0, 0, 123456, tzinfo=UTC)
KEY = SigningKey.from_seed(bytes(32))
GTIN = Gtin("00300010123455")
HEADER = Header(
    bytes(32), Gln("0300011111116"), "line-1", 7, "ni:///sha-256;00?ver=CBV2.0", sealed_terms_sha256=b"s" * 32
)
NESTED = Extension("urn:x", "outer", (Extension("urn:x", "inner", Decimal("1.50")), Extension("", "flag", value=True)))
EXTENSIONS = (NESTED, Extension("urn:x", "none", None, (("urn:y", "a", "b"),)), Extension("urn:x", "empty", ()))
FULL_EVENT = EpcisEvent(
    type=EventType.OBJECT,
    event_time=NOW,
    event_time_zone_offset="-05:00",
    record_time=NOW,
    error_declaration=ErrorDeclaration(NOW, "incorrect_data", ("urn:uuid:1",), EXTENSIONS),
    certification_info=("https://example.com/c",),
    action=Action.OBSERVE,
    epc_list=("urn:epc:id:sgtin:030001.0012345.11",),
    quantity_list=(QuantityElement("urn:epc:class:lgtin:030001.0012345.A123", Decimal("2.50"), "KGM"),),
    parent_id="urn:epc:id:sscc:030001.41234567890",
    child_epcs=("urn:x:1",),
    child_quantity_list=(QuantityElement("urn:x:2"),),
    input_epc_list=("urn:x:3",),
    input_quantity_list=(QuantityElement("urn:x:4"),),
    output_epc_list=("urn:x:5",),
    output_quantity_list=(QuantityElement("urn:x:6"),),
    transformation_id="urn:x:7",
    biz_step="shipping",
    disposition="in_transit",
    persistent_disposition=PersistentDisposition(("recalled",), ("completeness_verified",)),
    read_point=Place("urn:x:8", EXTENSIONS),
    biz_location=Place("urn:x:9"),
    biz_transaction_list=(BizTransaction("urn:x:10", "po"), BizTransaction("urn:x:11")),
    source_list=(SourceDest("owning_party", "urn:x:12"),),
    destination_list=(SourceDest("location", "urn:x:13"),),
    sensor_element_list=(
        SensorElement(
            SensorMetadata(NOW, NOW, NOW, "urn:d", "urn:m", "urn:r", "urn:p", "urn:b", EXTENSIONS),
            (
                SensorReport(
                    type="Temperature", exception="ALARM_CONDITION", time=NOW, value=Decimal("26.0"), uom="CEL",
                    string_value="", boolean_value=False, hex_binary_value="f0", uri_value="urn:u",
                    s_dev=Decimal("0.1"), extensions=EXTENSIONS,
                ),
                SensorReport(),
            ),
            EXTENSIONS,
        ),
        SensorElement(SensorMetadata()),
        SensorElement(),
    ),
    ilmd=EXTENSIONS,
    extensions=EXTENSIONS,
)  # fmt: skip
SMALL_EVENT = EpcisEvent(EventType.TRANSFORMATION, NOW, "+00:00")
ENROLMENT = Enrolment(
    "maker", "Maker", Gln("0300011111116"), (Gln("0300011111215"),), ("030001",), frozenset({Role.MANUFACTURER}),
    (KEY.key_id,), bytes(32), "U" + "A" * 55, (Licence("FDA", "1", NOW), Licence("State", "2")),
)  # fmt: skip
STATEMENTS: list[Statement] = [
    FULL_EVENT,
    SMALL_EVENT,
    Product(
        GTIN,
        PackLevel.CASE,
        "Epcistra",
        (NationalNumber("NDC", "0001-0123-45"),),
        "100 mg",
        "pill",
        "4",
        ProductContent(GTIN, 4),
    ),
    Product(GTIN, PackLevel.UNKNOWN, "Epcistra"),
    Recall("R-1", "retail", "why", "stop", NOW, (RecallScope(GTIN, "A1", ("1", "2")),), "II", drill=True),
    Genesis("log.example/t", KEY.key_id, bytes(32)),
    ENROLMENT,
    KeyAddition(Gln("0300011111116"), KEY.key_id),
    KeyAddition(Gln("0300011111116"), KEY.key_id, "a" * 20),
    KeyRetirement(KEY.key_id),
    KeyRevocation(KEY.key_id, NOW),
    Refusal(bytes(32), "urn:x:1", "KEY_REVOKED", "signatures[0]", "no", 7, NOW),
    ErasureOrder(b"h" * 32, "the patient asked for it"),
    ErasureConsent(b"h" * 32, "a court ordered it"),
]


@pytest.mark.parametrize(
    "statement", STATEMENTS, ids=[f"{type(item).__name__}-{n}" for n, item in enumerate(STATEMENTS)]
)
@pytest.mark.parametrize("capture", list(Capture))
def test_every_payload_comes_back_as_it_went(statement: Statement, capture: Capture) -> None:
    event = Event(replace(HEADER, capture=capture), statement)

    assert codec.decode_payload(event.payload_type, codec.encode_payload(event)) == event


def test_declaration_is_told_from_its_original() -> None:
    assert Event(HEADER, FULL_EVENT).is_declaration
    assert not Event(HEADER, SMALL_EVENT).is_declaration
    assert not Event(HEADER, ENROLMENT).is_declaration


def _change(statement: Statement, change: Callable[..., None]) -> tuple[str, bytes]:
    event = Event(HEADER, statement)
    message = {
        PayloadType.EPCIS: payload_pb2.EpcisPayload,
        PayloadType.PRODUCT: payload_pb2.ProductPayload,
        PayloadType.RECALL: payload_pb2.RecallPayload,
        PayloadType.TRUST: payload_pb2.TrustPayload,
        PayloadType.REFUSAL: payload_pb2.RefusalPayload,
        PayloadType.ERASURE: payload_pb2.ErasurePayload,
    }[event.payload_type]()
    message.ParseFromString(codec.encode_payload(event))
    change(message)
    return event.payload_type, message.SerializeToString()


def _set(path: str, value: object) -> Callable[..., None]:
    def change(message: object) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            found = getattr(message, parent.rstrip("0[]"))
            message = found[0] if parent.endswith("[0]") else found
        if value is None:
            message.ClearField(name)  # type: ignore[attr-defined]
        else:
            setattr(message, name, value)

    return change


PRODUCT, RECALL = STATEMENTS[2], STATEMENTS[4]
ORDER, CONSENT = STATEMENTS[-2:]
TILL_KEY = KeyAddition(Gln("0300011111116"), KEY.key_id, "till-1")
BAD_FIELDS: list[tuple[Statement, str, object, str, str]] = [
    (SMALL_EVENT, "header.salt", b"short", "SALT_LENGTH", "header.salt"),
    (SMALL_EVENT, "header.source", "a b", "TEXT_MALFORMED", "header.source"),
    (SMALL_EVENT, "header.source_seq", 0, "SOURCE_SEQ", "header.source_seq"),
    (SMALL_EVENT, "header.source_seq", 2**63, "SOURCE_SEQ", "header.source_seq"),
    (SMALL_EVENT, "header.event_id", "", "TEXT_LENGTH", "header.event_id"),
    (SMALL_EVENT, "header.event_id", "no uri", "TEXT_MALFORMED", "header.event_id"),
    (SMALL_EVENT, "header.sealed_terms_sha256", b"x", "HASH_LENGTH", "header.sealed_terms_sha256"),
    (SMALL_EVENT, "header.capture", 0, "CAPTURE_UNKNOWN", "header.capture"),
    (SMALL_EVENT, "header.actor", "0300011111117", "CHECK_DIGIT_WRONG", "header.actor"),
    (SMALL_EVENT, "event.event_id", "urn:x:1", "EVENT_ID_TWICE", "event.event_id"),
    (SMALL_EVENT, "event.event_time", None, "FIELD_MISSING", "event.event_time"),
    (SMALL_EVENT, "event.event_time.nanos", 1, "TIME_MALFORMED", "event.event_time"),
    (SMALL_EVENT, "event.event_time.seconds", 2**40, "TIME_MALFORMED", "event.event_time"),
    (SMALL_EVENT, "event.type", 0, "EVENT_TYPE_UNKNOWN", "event.type"),
    (SMALL_EVENT, "event.type", 99, "EVENT_TYPE_UNKNOWN", "event.type"),
    (SMALL_EVENT, "event.action", 99, "EVENT_TYPE_UNKNOWN", "event.type"),
    (FULL_EVENT, "event.quantities[0].quantity", "NaN", "NUMBER_MALFORMED", "event.quantities[0].quantity"),
    (FULL_EVENT, "event.quantities[0].quantity", " 1", "NUMBER_MALFORMED", "event.quantities[0].quantity"),
    (FULL_EVENT, "event.quantities[0].quantity", "x", "NUMBER_MALFORMED", "event.quantities[0].quantity"),
    (FULL_EVENT, "event.quantities[0].quantity", "1_0", "NUMBER_MALFORMED", "event.quantities[0].quantity"),
    (FULL_EVENT, "event.quantities[0].quantity", "\u0661", "NUMBER_MALFORMED", "event.quantities[0].quantity"),
    (FULL_EVENT, "event.error_declaration.declaration_time", None, "FIELD_MISSING",
     "event.error_declaration.declaration_time"),
    (PRODUCT, "product.level", 99, "PACK_LEVEL_UNKNOWN", "product.level"),
    (PRODUCT, "product.gtin", "0030001012345", "GTIN_MALFORMED", "product.gtin"),
    (PRODUCT, "product.name", "", "TEXT_LENGTH", "product.name"),
    (PRODUCT, "product.content.count", 0, "CONTENT_COUNT", "product.content.count"),
    (RECALL, "recall.recall_class", "IV", "RECALL_CLASS_UNKNOWN", "recall.recall_class"),
    (RECALL, "recall.scopes", None, "RECALL_SCOPE", "recall.scopes"),
    (ENROLMENT, "enrolment.organisation", "No Name", "TEXT_MALFORMED", "enrolment.organisation"),
    (ENROLMENT, "enrolment.sealing_key", b"", "HASH_LENGTH", "enrolment.sealing_key"),
    (ENROLMENT, "enrolment", None, "FIELD_MISSING", "statement"),
    *(
        (TILL_KEY, "key_addition.station", name, "STATION_NAME", "key_addition.station")
        for name in ("main", "authority", "ledger", "Till", "till_1", "-x", "x-", "a" * 21, "till\n")
    ),
    (ORDER, "erasure_order", None, "FIELD_MISSING", "statement"),
    (ORDER, "erasure_order.reason", "", "TEXT_LENGTH", "erasure_order.reason"),
    (ORDER, "erasure_order.reason", "a\0b", "TEXT_MALFORMED", "erasure_order.reason"),
    (CONSENT, "erasure_consent.signed_event_sha256", b"short", "HASH_LENGTH", "erasure_consent.signed_event_sha256"),
    (CONSENT, "erasure_consent.reason", "x" * 2001, "TEXT_LENGTH", "erasure_consent.reason"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "path", "value", "code", "field"),
    BAD_FIELDS,
    ids=[f"{n}-{case[1]}" for n, case in enumerate(BAD_FIELDS)],
)
def test_refuses_payload_with_a_wrong_field_and_names_it(
    statement: Statement, path: str, value: object, code: str, field: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        codec.decode_payload(*_change(statement, _set(path, value)))
    assert (caught.value.code, caught.value.field) == (code, field)


def test_refuses_unknown_role_and_too_many_serials() -> None:
    def add_role(message: payload_pb2.TrustPayload) -> None:
        message.enrolment.roles.append("king")

    def add_serials(message: payload_pb2.RecallPayload) -> None:
        message.recall.scopes[0].serials.extend(["1"] * 10_000)

    for statement, change, code in ((ENROLMENT, add_role, "ROLE_UNKNOWN"), (RECALL, add_serials, "RECALL_SCOPE")):
        with pytest.raises(MalformedError) as caught:
            codec.decode_payload(*_change(statement, change))
        assert caught.value.code == code


def test_refuses_extension_number_that_is_none() -> None:
    def change(message: payload_pb2.EpcisPayload) -> None:
        message.event.ilmd[0].children.elements[0].number = ""

    with pytest.raises(MalformedError) as caught:
        codec.decode_payload(*_change(FULL_EVENT, change))
    assert caught.value.code == "NUMBER_MALFORMED"


def test_refuses_extensions_nested_too_deep() -> None:
    deep = Extension("urn:x", "x", "leaf")
    for _ in range(20):
        deep = Extension("urn:x", "x", (deep,))
    payload = codec.encode_payload(Event(HEADER, replace(SMALL_EVENT, extensions=(deep,))))

    with pytest.raises(MalformedError) as caught:
        codec.decode_payload(PayloadType.EPCIS, payload)
    assert caught.value.code == "EXTENSION_DEPTH"


def test_refuses_fields_that_this_version_does_not_know() -> None:
    unknown = b"\xfa\x3e\x01x"  # field 1007, length-delimited
    top = codec.encode_payload(Event(HEADER, SMALL_EVENT)) + unknown
    place = epcis_pb2.Place.FromString(unknown)
    nested = payload_pb2.EpcisPayload.FromString(codec.encode_payload(Event(HEADER, SMALL_EVENT)))
    nested.event.read_point.MergeFrom(place)
    listed = payload_pb2.EpcisPayload.FromString(codec.encode_payload(Event(HEADER, FULL_EVENT)))
    listed.event.quantities.append(epcis_pb2.QuantityElement.FromString(unknown))

    for payload in (top, nested.SerializeToString(), listed.SerializeToString()):
        with pytest.raises(MalformedError) as caught:
            codec.decode_payload(PayloadType.EPCIS, payload)
        assert caught.value.code == "FIELD_UNKNOWN"


def test_refuses_unknown_payload_type_and_garbage() -> None:
    with pytest.raises(MalformedError) as caught:
        codec.decode_payload("text/plain", b"")
    assert caught.value.code == "PAYLOAD_TYPE_UNKNOWN"
    with pytest.raises(MalformedError) as caught:
        codec.decode_payload(PayloadType.EPCIS, b"\xff\xff")
    assert caught.value.code == "MESSAGE_MALFORMED"


@settings(max_examples=300)
@given(st.sampled_from(list(PayloadType)), st.binary(max_size=200))
def test_random_bytes_raise_only_our_errors(payload_type: PayloadType, data: bytes) -> None:
    for decode in (lambda: codec.decode_payload(payload_type, data), lambda: codec.decode_signed_event(data)):
        error = _error_of(decode)
        assert error is None or error.code != "INTERNAL"


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_gives_an_event_or_our_error(position: int, value: int) -> None:
    payload = bytearray(codec.encode_payload(Event(HEADER, FULL_EVENT)))
    payload[position % len(payload)] = value
    error = _error_of(lambda: codec.decode_payload(PayloadType.EPCIS, bytes(payload)))

    assert error is None or error.code != "INTERNAL"


def _error_of(decode: Callable[[], object]) -> MedtrailError | None:
    try:
        decode()
    except MedtrailError as error:
        return error
    return None


def test_signed_event_comes_back_byte_for_byte() -> None:
    signed = SignedEvent("a/b", b"payload", (Signature("ed25519", KEY.key_id, bytes(64)),))
    data = codec.encode_signed_event(signed)

    assert codec.decode_signed_event(data) == signed
    assert codec.encode_signed_event(codec.decode_signed_event(data)) == data


def test_signed_event_is_limited_to_256_kib() -> None:
    signed = SignedEvent("a/b", bytes(MAX_SIGNED_EVENT_BYTES), (Signature("ed25519", KEY.key_id, bytes(64)),))

    with pytest.raises(TooLargeError) as caught:
        codec.encode_signed_event(signed)
    assert caught.value.code == "EVENT_TOO_LARGE"
    with pytest.raises(TooLargeError):
        codec.decode_signed_event(bytes(MAX_SIGNED_EVENT_BYTES + 1))


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (SignedEvent("", b"", (Signature("ed25519", "k", b""),)), "FIELD_MISSING"),
        (SignedEvent("a/b", b"", ()), "EVENT_UNSIGNED"),
        (SignedEvent("a/b", b"", (Signature("ed25519", "k", b""),) * 9), "SIGNATURE_COUNT"),
    ],
)
def test_refuses_signed_event_of_wrong_form(signed: SignedEvent, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        codec.decode_signed_event(codec.encode_signed_event(signed))
    assert caught.value.code == code


def test_batch_keeps_bytes_and_order() -> None:
    events = [b"one", b"", b"three"]

    assert codec.decode_batch(codec.encode_batch(events)) == tuple(events)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([], "BATCH_EMPTY"),
        ([b""] * (MAX_BATCH_EVENTS + 1), "BATCH_TOO_LARGE"),
        ([bytes(MAX_SIGNED_EVENT_BYTES)] * 2, "BATCH_TOO_LARGE"),
    ],
)
def test_refuses_batch_of_wrong_size(events: list[bytes], code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        codec.encode_batch(events)
    assert caught.value.code == code


def test_inbox_messages_come_back() -> None:
    advice = Advice("ni:///x", 1, 2, (b"a", b"b"), ("https://id.gs1.org/01/00300010123455/21/1",))
    receipt = Receipt(b"note", 3, (ReceiptItem("ni:///x", bytes(32), 5, resend=True),))

    assert codec.decode_advice(codec.encode_advice(advice)) == advice
    assert codec.decode_receipt(codec.encode_receipt(receipt)) == receipt
    assert codec.decode_ack(codec.encode_ack(b"h" * 32)) == b"h" * 32


@pytest.mark.parametrize(
    ("decode", "data", "code"),
    [
        (codec.decode_advice, codec.encode_advice(Advice("ni:///x", 2, 2, ())), "ADVICE_PART"),
        (codec.decode_advice, codec.encode_advice(Advice("", 0, 1, ())), "TEXT_LENGTH"),
        (codec.decode_ack, codec.encode_ack(b"short"), "HASH_LENGTH"),
        (codec.decode_receipt, codec.encode_receipt(Receipt(b"", 1, (ReceiptItem("x", b"", 1),))), "HASH_LENGTH"),
        (
            codec.decode_receipt,
            exchange_pb2.Receipt(items=[exchange_pb2.ReceiptItem()] * 2001).SerializeToString(),
            "RECEIPT_TOO_LARGE",
        ),
    ],
)
def test_refuses_inbox_message_of_wrong_form(decode: Callable[[bytes], object], data: bytes, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        decode(data)
    assert caught.value.code == code
