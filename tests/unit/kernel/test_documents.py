"""Business documents and their terms: known answers, form, and who can read what."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import nacl.public
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.api.event.v1 import document_pb2
from medtrail.codec import decode_payload, decode_terms, encode_payload, encode_terms
from medtrail.codec.document import check_document, document_to_message, terms_from_message, terms_to_message
from medtrail.document import Document, DocumentFunction, DocumentKind, DocumentReference
from medtrail.errors import MalformedError, MedtrailError, TooLargeError, VerificationError
from medtrail.event import Event, Header, PayloadType
from medtrail.gs1 import Gln, Gtin
from medtrail.gs1.codes import CURRENCIES_ALPHA_3
from medtrail.item_map import identifiers
from medtrail.terms import (
    MAX_LINES,
    MAX_TERMS_BYTES,
    LineStatus,
    SaltedTerms,
    Terms,
    TermsLine,
    salted,
    seal,
    unseal,
)

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "document.json").read_text())
ACTOR, COUNTERPARTY = Gln(VECTOR["actor"]), Gln(VECTOR["counterparty"])
REFERENCE = DocumentReference(DocumentKind.CONFIRMATION, "C-1", COUNTERPARTY)
ORDER = Document(
    DocumentKind.ORDER,
    VECTOR["number"],
    COUNTERPARTY,
    datetime.fromisoformat(VECTOR["issue_time"]),
    references=(REFERENCE,),
    event_ids=("ni:///sha-256;00?ver=CBV2.0",),
)
TERMS = Terms(
    (
        TermsLine(
            1,
            Gtin("00300010123455"),
            Decimal(10),
            price=Decimal("12.34"),
            currency="EUR",
            requested_date=date(2026, 4, 1),
        ),
        TermsLine(
            2,
            Gtin("10300010123452"),
            Decimal("2.5"),
            "KGM",
            confirmed_date=date(2026, 4, 2),
            lots=("A123", "B7"),
            status=LineStatus.BACK_ORDERED,
            note="rest follows",
        ),
    ),
    ACTOR,
    "ring twice",
)
HIDDEN = SaltedTerms(bytes.fromhex(VECTOR["terms_salt"]), bytes.fromhex(VECTOR["terms"]))
PRIVATE_KEY = nacl.public.PrivateKey(bytes.fromhex(VECTOR["sealing_private_key"]))


def header(document: Document = ORDER, *, event_id: str = "", sealed: bytes = b"") -> Header:
    return Header(
        bytes.fromhex(VECTOR["salt"]),
        ACTOR,
        "main",
        7,
        event_id or document.event_id(ACTOR),
        sealed_terms_sha256=sealed,
    )


def code_of(work: Callable[[], object]) -> tuple[str, str | None]:
    with pytest.raises(MedtrailError) as caught:
        work()
    return caught.value.code, caught.value.field


# --- known answers ---


def test_document_has_the_known_bytes() -> None:
    event = Event(header(sealed=bytes.fromhex(VECTOR["terms_sha256"])), ORDER)
    payload = bytes.fromhex(VECTOR["payload"])
    assert encode_payload(event) == payload
    assert decode_payload(PayloadType.DOCUMENT, payload) == event
    assert event.payload_type == "application/vnd.medtrail.document.v1+protobuf"


def test_a_documents_id_is_made_of_its_name() -> None:
    assert ORDER.event_id(ACTOR) == VECTOR["event_id"]
    cancelled = replace(ORDER, function=DocumentFunction.CANCELLATION)
    assert cancelled.event_id(ACTOR) == VECTOR["cancellation_event_id"]
    assert len({ORDER.event_id(ACTOR), ORDER.event_id(COUNTERPARTY), cancelled.event_id(ACTOR)}) == 3


def test_terms_have_the_known_bytes_and_hash() -> None:
    assert encode_terms(TERMS) == HIDDEN.data
    assert decode_terms(HIDDEN.data) == TERMS
    assert HIDDEN.sha256.hex() == VECTOR["terms_sha256"]
    HIDDEN.check(bytes.fromhex(VECTOR["terms_sha256"]))


def test_a_known_seal_opens_with_the_known_key() -> None:
    assert unseal(bytes.fromhex(VECTOR["sealed_terms"]), PRIVATE_KEY) == HIDDEN
    assert bytes(PRIVATE_KEY.public_key).hex() == VECTOR["sealing_public_key"]
    assert unseal(seal(HIDDEN, bytes(PRIVATE_KEY.public_key)), PRIVATE_KEY) == HIDDEN


# --- hiding ---


def test_the_same_terms_twice_have_nothing_in_common() -> None:
    one, other = salted(HIDDEN.data), salted(HIDDEN.data)
    assert one.sha256 != other.sha256
    assert seal(one, bytes(PRIVATE_KEY.public_key)) != seal(one, bytes(PRIVATE_KEY.public_key))
    assert "12.34" not in repr(one)


@pytest.mark.parametrize("other", [bytes(32), b"", HIDDEN.sha256[:31]])
def test_refuses_terms_of_another_hash(other: bytes) -> None:
    assert code_of(lambda: HIDDEN.check(other)) == ("TERMS_MISMATCH", "header.sealed_terms_sha256")


def test_refuses_a_seal_for_another_key_or_changed_in_any_byte() -> None:
    sealed = seal(HIDDEN, bytes(PRIVATE_KEY.public_key))
    assert code_of(lambda: unseal(sealed, nacl.public.PrivateKey.generate()))[0] == "TERMS_UNREADABLE"
    for place in (0, 31, 32, 48, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(VerificationError):
            unseal(bytes(changed), PRIVATE_KEY)
    for cut in (0, 1, 47):
        assert code_of(lambda cut=cut: unseal(sealed[:cut], PRIVATE_KEY))[0] == "TERMS_UNREADABLE"  # type: ignore[misc]


def test_refuses_what_is_too_short_or_too_long_for_terms() -> None:
    short = bytes(nacl.public.SealedBox(PRIVATE_KEY.public_key).encrypt(bytes(31)))
    assert code_of(lambda: unseal(short, PRIVATE_KEY)) == ("SALT_LENGTH", "sealed_terms")
    assert code_of(lambda: unseal(bytes(MAX_TERMS_BYTES + 81), PRIVATE_KEY))[0] == "TERMS_TOO_LARGE"
    assert code_of(lambda: salted(bytes(MAX_TERMS_BYTES + 1)))[0] == "TERMS_TOO_LARGE"
    largest = salted(bytes(MAX_TERMS_BYTES))
    assert unseal(seal(largest, bytes(PRIVATE_KEY.public_key)), PRIVATE_KEY) == largest
    assert code_of(lambda: seal(HIDDEN, bytes(31))) == ("KEY_MALFORMED", "sealing_key")


# --- form ---


def test_what_a_document_belongs_to_is_found_under_its_name_and_those_it_refers_to() -> None:
    assert identifiers(Event(header(), ORDER)) == (
        f"urn:epcglobal:cbv:bt:{COUNTERPARTY}:C-1",
        f"urn:epcglobal:cbv:bt:{ACTOR}:PO-4711",
    )
    assert ORDER.named(ACTOR).uri == f"urn:epcglobal:cbv:bt:{ACTOR}:PO-4711"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("kind", "bol", "DOCUMENT_KIND_UNKNOWN"),
        ("number", "", "DOCUMENT_NUMBER_MALFORMED"),
        ("number", "4 5", "DOCUMENT_NUMBER_MALFORMED"),
        ("number", "4\n", "DOCUMENT_NUMBER_MALFORMED"),
        ("number", "x" * 65, "DOCUMENT_NUMBER_MALFORMED"),
        ("number", "\N{LATIN SMALL LETTER E WITH ACUTE}", "DOCUMENT_NUMBER_MALFORMED"),
        ("counterparty", "0300011111117", "CHECK_DIGIT_WRONG"),
        ("function", 9, "DOCUMENT_FUNCTION_UNKNOWN"),
        ("event_ids", ["urn:uuid:1"] * 101, "TOO_MANY"),
        ("event_ids", [""], "TEXT_LENGTH"),
        ("references", [document_pb2.DocumentReference(kind="po", number="1", issuer=str(ACTOR))] * 101, "TOO_MANY"),
        ("references", [document_pb2.DocumentReference(kind="po", number="1", issuer="")], "GLN_MALFORMED"),
        ("references", [document_pb2.DocumentReference(kind="x", number="1", issuer="")], "DOCUMENT_KIND_UNKNOWN"),
    ],
)
def test_refuses_a_document_of_wrong_form(field: str, value: object, code: str) -> None:
    message = document_to_message(ORDER)
    message.ClearField(field)  # type: ignore[arg-type]
    if isinstance(value, list):
        getattr(message, field).extend(value)
    else:
        setattr(message, field, value)
    payload = document_pb2.DocumentPayload(document=message)
    payload.header.MergeFromString(_header_bytes())
    found, where = code_of(lambda: decode_payload(PayloadType.DOCUMENT, payload.SerializeToString()))
    assert found == code
    assert where is not None
    assert where.startswith(f"document.{field}")


def _header_bytes() -> bytes:
    payload = document_pb2.DocumentPayload.FromString(bytes.fromhex(VECTOR["payload"]))
    return payload.header.SerializeToString()


def test_refuses_a_document_without_time() -> None:
    message = document_to_message(ORDER)
    message.ClearField("issue_time")
    payload = document_pb2.DocumentPayload(document=message)
    payload.header.MergeFromString(_header_bytes())
    wanted = ("FIELD_MISSING", "document.issue_time")
    assert code_of(lambda: decode_payload(PayloadType.DOCUMENT, payload.SerializeToString())) == wanted


def test_only_orders_are_cancelled_or_closed() -> None:
    invoice = replace(ORDER, kind=DocumentKind.INVOICE, function=DocumentFunction.CLOSURE)
    assert code_of(lambda: check_document(invoice))[0] == "DOCUMENT_FUNCTION_UNKNOWN"
    closed = replace(ORDER, function=DocumentFunction.CLOSURE)
    assert check_document(closed) == closed


def test_refuses_a_document_under_another_id_or_to_its_issuer() -> None:
    wrong = encode_payload(Event(header(event_id="urn:uuid:1"), ORDER))
    assert code_of(lambda: decode_payload(PayloadType.DOCUMENT, wrong)) == ("DOCUMENT_ID_MISMATCH", "header.event_id")
    own = replace(ORDER, counterparty=ACTOR)
    to_self = encode_payload(Event(header(own), own))
    wanted = ("DOCUMENT_TO_SELF", "document.counterparty")
    assert code_of(lambda: decode_payload(PayloadType.DOCUMENT, to_self)) == wanted


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("line_number", 0, "LINE_NUMBER"),
        ("line_number", 1_000_000, "LINE_NUMBER"),
        ("gtin", "123", "GTIN_MALFORMED"),
        ("quantity", "", "NUMBER_MALFORMED"),
        ("quantity", "-1", "NUMBER_MALFORMED"),
        ("quantity", "NaN", "NUMBER_MALFORMED"),
        ("uom", "kilogram", "UOM_MALFORMED"),
        ("price", "-0.01", "NUMBER_MALFORMED"),
        ("price", "", "CURRENCY_UNKNOWN"),
        ("currency", "", "CURRENCY_UNKNOWN"),
        ("currency", "EURO", "CURRENCY_UNKNOWN"),
        ("requested_date", "2026-02-30", "DATE_WRONG"),
        ("confirmed_date", "20260401", "DATE_WRONG"),
        ("status", 9, "LINE_STATUS_UNKNOWN"),
        ("note", "x" * 201, "TEXT_LENGTH"),
        ("lots", ["x" * 21], "TEXT_LENGTH"),
        ("lots", ["x"] * 101, "TOO_MANY"),
    ],
)
def test_refuses_a_line_of_wrong_form(field: str, value: object, code: str) -> None:
    message = terms_to_message(TERMS)
    line = message.lines[0]
    line.ClearField(field)  # type: ignore[arg-type]
    if isinstance(value, list):
        getattr(line, field).extend(value)
    else:
        setattr(line, field, value)
    found, where = code_of(lambda: terms_from_message(message))
    assert found == code
    assert where is not None
    assert where.startswith("terms.lines[0].")


def test_refuses_two_lines_of_one_number_and_too_many() -> None:
    message = document_pb2.DocumentTerms(lines=[terms_to_message(TERMS).lines[0]] * 2)
    assert code_of(lambda: terms_from_message(message)) == ("LINE_TWICE", "terms.lines[1].line_number")
    many = document_pb2.DocumentTerms(lines=[terms_to_message(TERMS).lines[0]] * (MAX_LINES + 1))
    with pytest.raises(TooLargeError):
        terms_from_message(many)
    with pytest.raises(MalformedError):
        terms_from_message(document_pb2.DocumentTerms(note="x" * 501))


def test_currencies_are_three_letters() -> None:
    assert all(len(code) == 3 and code.isalpha() and code.isupper() for code in CURRENCIES_ALPHA_3)
    assert {"EUR", "USD", "GBP", "JPY", "CHF", "KRW", "XAF"} <= CURRENCIES_ALPHA_3


_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
_DAYS = st.none() | st.dates()
_LINES = st.builds(
    TermsLine,
    line_number=st.integers(1, 999_999),
    gtin=st.just(Gtin("00300010123455")),
    quantity=st.decimals(0, 10**9, places=3),
    uom=st.sampled_from(["", "EA", "KGM"]),
    requested_date=_DAYS,
    confirmed_date=_DAYS,
    lots=st.lists(_TEXT, max_size=3).map(tuple),
    status=st.none() | st.sampled_from(LineStatus),
    note=_TEXT,
)


@given(st.lists(_LINES, max_size=5, unique_by=lambda line: line.line_number), st.none() | st.just(ACTOR))
def test_terms_come_back_as_they_were(lines: list[TermsLine], ship_to: Gln | None) -> None:
    terms = Terms(tuple(lines), ship_to, "note")
    assert decode_terms(encode_terms(terms)) == terms


@given(st.binary(max_size=200))
def test_random_terms_raise_only_our_errors(data: bytes) -> None:
    with contextlib.suppress(MedtrailError):
        decode_terms(data)


def test_a_moment_is_kept_to_the_microsecond() -> None:
    dated = replace(ORDER, issue_time=datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC))
    assert check_document(dated) == dated
