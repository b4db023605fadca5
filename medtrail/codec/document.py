"""Business documents and their commercial terms: between messages and values."""

import re
from datetime import date

from medtrail.api.event.v1 import document_pb2
from medtrail.codec.scalars import (
    from_decimal,
    parse_message,
    required_text,
    required_time,
    to_decimal,
    to_gln,
    to_gtin,
    to_timestamp,
)
from medtrail.document import Document, DocumentFunction, DocumentKind, DocumentReference
from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1.codes import CURRENCIES_ALPHA_3
from medtrail.terms import MAX_LINES, MAX_TERMS_BYTES, LineStatus, Terms, TermsLine

MAX_REFERENCES = 100
MAX_LINE_NUMBER = 999_999
MAX_LOTS = 100
MAX_LOT_LENGTH = 20
MAX_NOTE_LENGTH = 500
MAX_LINE_NOTE_LENGTH = 200
MAX_EVENT_ID_LENGTH = 512

_NUMBER = re.compile(r"[\x21-\x7e]{1,64}\Z")
_UOM = re.compile(r"[A-Z0-9]{0,3}\Z")
_KINDS = {kind.value: kind for kind in DocumentKind}
_FUNCTION_TO_MESSAGE = {
    DocumentFunction.ORIGINAL: document_pb2.DOCUMENT_FUNCTION_UNSPECIFIED,
    DocumentFunction.CANCELLATION: document_pb2.DOCUMENT_FUNCTION_CANCELLATION,
    DocumentFunction.CLOSURE: document_pb2.DOCUMENT_FUNCTION_CLOSURE,
}
_FUNCTION_FROM_MESSAGE = {number: value for value, number in _FUNCTION_TO_MESSAGE.items()}
_STATUS_TO_MESSAGE: dict[LineStatus | None, document_pb2.LineStatus.ValueType] = {
    None: document_pb2.LINE_STATUS_UNSPECIFIED,
    **{status: document_pb2.LineStatus.Value(f"LINE_STATUS_{status.name}") for status in LineStatus},
}
_STATUS_FROM_MESSAGE = {number: value for value, number in _STATUS_TO_MESSAGE.items()}


# --- the statement ---


def document_to_message(document: Document) -> document_pb2.Document:
    """Return the message of a document."""
    return document_pb2.Document(
        kind=document.kind.value,
        number=document.number,
        counterparty=str(document.counterparty),
        issue_time=to_timestamp(document.issue_time),
        function=_FUNCTION_TO_MESSAGE[document.function],
        references=[reference_to_message(item) for item in document.references],
        event_ids=document.event_ids,
    )


def document_from_message(message: document_pb2.Document, *, field: str = "document") -> Document:
    """Return the document of a message.

    Raises:
        MalformedError: A field is missing or of wrong form, or an order's function stands on another document.
    """
    kind = to_document_kind(message.kind, field=f"{field}.kind")
    function = _FUNCTION_FROM_MESSAGE.get(message.function)
    if function is None or (function is not DocumentFunction.ORIGINAL and kind is not DocumentKind.ORDER):
        text = f"expected an original; orders may be cancelled or closed; got {message.function} of {kind}"
        raise MalformedError(text, code="DOCUMENT_FUNCTION_UNKNOWN", field=f"{field}.function")
    for name, items in (("references", message.references), ("event_ids", message.event_ids)):
        if len(items) > MAX_REFERENCES:
            text = f"expected at most {MAX_REFERENCES}, got {len(items)}"
            raise TooLargeError(text, code="TOO_MANY", field=f"{field}.{name}")
    return Document(
        kind=kind,
        number=to_document_number(message.number, field=f"{field}.number"),
        counterparty=to_gln(message.counterparty, field=f"{field}.counterparty"),
        issue_time=required_time(message, "issue_time", field=f"{field}.issue_time"),
        function=function,
        references=tuple(
            reference_from_message(item, field=f"{field}.references[{number}]")
            for number, item in enumerate(message.references)
        ),
        event_ids=tuple(
            required_text(item, field=f"{field}.event_ids[{number}]", most=MAX_EVENT_ID_LENGTH)
            for number, item in enumerate(message.event_ids)
        ),
    )


def check_document(document: Document) -> Document:
    """Return a document whose form is as its readers will want it.

    Raises:
        MalformedError: As :func:`document_from_message`.
    """
    return document_from_message(document_to_message(document))


def to_document_kind(text: str, *, field: str) -> DocumentKind:
    """Return a kind of document from its CBV word.

    Raises:
        MalformedError: Unknown (DOCUMENT_KIND_UNKNOWN).
    """
    if text not in _KINDS:
        message = f"expected one of {', '.join(_KINDS)}, got {text[:40]!r}"
        raise MalformedError(message, code="DOCUMENT_KIND_UNKNOWN", field=field)
    return _KINDS[text]


def to_document_number(text: str, *, field: str) -> str:
    """Return a document's number.

    Raises:
        MalformedError: Not 1 to 64 visible ASCII characters (DOCUMENT_NUMBER_MALFORMED).
    """
    if not _NUMBER.match(text):
        message = f"expected 1 to 64 visible ASCII characters, got {text[:80]!r}"
        raise MalformedError(message, code="DOCUMENT_NUMBER_MALFORMED", field=field)
    return text


def reference_to_message(reference: DocumentReference) -> document_pb2.DocumentReference:
    """Return the message of a document's name."""
    return document_pb2.DocumentReference(
        kind=reference.kind.value, number=reference.number, issuer=str(reference.issuer)
    )


def reference_from_message(message: document_pb2.DocumentReference, *, field: str) -> DocumentReference:
    """Return a document's name.

    Raises:
        MalformedError: A field is missing or of wrong form.
    """
    return DocumentReference(
        to_document_kind(message.kind, field=f"{field}.kind"),
        to_document_number(message.number, field=f"{field}.number"),
        to_gln(message.issuer, field=f"{field}.issuer"),
    )


# --- its terms ---


def encode_terms(terms: Terms) -> bytes:
    """Return the bytes of terms, as they are hashed and sealed. Called once a document, by its issuer."""
    return terms_to_message(terms).SerializeToString(deterministic=True)


def decode_terms(data: bytes) -> Terms:
    """Return the terms that bytes hold.

    Raises:
        TooLargeError: More than 192 KiB, or than 1,000 lines.
        MalformedError: A field is missing, unknown or of wrong form.
    """
    return terms_from_message(parse_message(document_pb2.DocumentTerms, data, limit=MAX_TERMS_BYTES, field="terms"))


def terms_to_message(terms: Terms) -> document_pb2.DocumentTerms:
    """Return the message of terms."""
    return document_pb2.DocumentTerms(
        lines=[terms_line_to_message(line) for line in terms.lines],
        ship_to="" if terms.ship_to is None else str(terms.ship_to),
        note=terms.note,
    )


def terms_from_message(message: document_pb2.DocumentTerms, *, field: str = "terms") -> Terms:
    """Return the terms of a message.

    Raises:
        TooLargeError: More than 1,000 lines.
        MalformedError: A field is missing or of wrong form, or two lines have one number.
    """
    if len(message.lines) > MAX_LINES:
        text = f"expected at most {MAX_LINES} lines, got {len(message.lines)}"
        raise TooLargeError(text, code="TOO_MANY", field=f"{field}.lines")
    lines: dict[int, TermsLine] = {}
    for number, item in enumerate(message.lines):
        line = terms_line_from_message(item, field=f"{field}.lines[{number}]")
        if line.line_number in lines:
            text = f"line {line.line_number} stands there twice"
            raise MalformedError(text, code="LINE_TWICE", field=f"{field}.lines[{number}].line_number")
        lines[line.line_number] = line
    return Terms(
        tuple(lines.values()),
        to_gln(message.ship_to, field=f"{field}.ship_to") if message.ship_to else None,
        required_text(message.note, field=f"{field}.note", least=0, most=MAX_NOTE_LENGTH),
    )


def terms_line_to_message(line: TermsLine) -> document_pb2.TermsLine:
    """Return the message of one line."""
    return document_pb2.TermsLine(
        line_number=line.line_number,
        gtin=str(line.gtin),
        quantity=from_decimal(line.quantity),
        uom=line.uom,
        price=from_decimal(line.price),
        currency=line.currency,
        requested_date="" if line.requested_date is None else line.requested_date.isoformat(),
        confirmed_date="" if line.confirmed_date is None else line.confirmed_date.isoformat(),
        lots=line.lots,
        status=_STATUS_TO_MESSAGE[line.status],
        note=line.note,
    )


def terms_line_from_message(message: document_pb2.TermsLine, *, field: str) -> TermsLine:
    """Return one line of a message.

    Raises:
        MalformedError: A field is missing or of wrong form.
    """
    if not 1 <= message.line_number <= MAX_LINE_NUMBER:
        text = f"lines are numbered from 1 to {MAX_LINE_NUMBER}, got {message.line_number}"
        raise MalformedError(text, code="LINE_NUMBER", field=f"{field}.line_number")
    quantity = to_decimal(message.quantity, field=f"{field}.quantity")
    price = to_decimal(message.price, field=f"{field}.price")
    for name, number in (("quantity", quantity), ("price", price)):
        if (number is None and name == "quantity") or (number is not None and number < 0):
            text = "expected a decimal number, 0 or more"
            raise MalformedError(text, code="NUMBER_MALFORMED", field=f"{field}.{name}")
    assert quantity is not None  # noqa: S101  # seen to above
    if message.currency not in ({""} if price is None else CURRENCIES_ALPHA_3):
        text = f"a price goes with an ISO 4217 code, got {message.currency[:10]!r}"
        raise MalformedError(text, code="CURRENCY_UNKNOWN", field=f"{field}.currency")
    if not _UOM.match(message.uom):
        text = f"expected a code of UN/ECE Recommendation 20, got {message.uom[:10]!r}"
        raise MalformedError(text, code="UOM_MALFORMED", field=f"{field}.uom")
    if len(message.lots) > MAX_LOTS:
        text = f"expected at most {MAX_LOTS} lots, got {len(message.lots)}"
        raise TooLargeError(text, code="TOO_MANY", field=f"{field}.lots")
    if message.status not in _STATUS_FROM_MESSAGE:
        text = f"unknown answer {message.status}"
        raise MalformedError(text, code="LINE_STATUS_UNKNOWN", field=f"{field}.status")
    return TermsLine(
        line_number=message.line_number,
        gtin=to_gtin(message.gtin, field=f"{field}.gtin"),
        quantity=quantity,
        uom=message.uom,
        price=price,
        currency=message.currency,
        requested_date=_day(message.requested_date, field=f"{field}.requested_date"),
        confirmed_date=_day(message.confirmed_date, field=f"{field}.confirmed_date"),
        lots=tuple(
            required_text(lot, field=f"{field}.lots[{number}]", most=MAX_LOT_LENGTH)
            for number, lot in enumerate(message.lots)
        ),
        status=_STATUS_FROM_MESSAGE[message.status],
        note=required_text(message.note, field=f"{field}.note", least=0, most=MAX_LINE_NOTE_LENGTH),
    )


def _day(text: str, *, field: str) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        message = f"expected YYYY-MM-DD, got {text[:20]!r}"
        raise MalformedError(message, code="DATE_WRONG", field=field)
    return day
