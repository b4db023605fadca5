"""Times, numbers, texts and parsing, shared by the codec's modules."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import Gln, Gtin

M = TypeVar("M", bound=Message)

# A network has few parties and products, and names them in every event; what is refused is not kept.
_gln = lru_cache(maxsize=4096)(Gln)
_gtin = lru_cache(maxsize=4096)(Gtin)

HASH_BYTES = 32
MAX_NUMBER_LENGTH = 64
MAX_NAME_LENGTH = 200
MAX_TEXT_LENGTH = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_SECONDS = int((datetime(1, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds())
_MAX_SECONDS = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds())
_NANOS_PER_SECOND = 1_000_000_000
_NANOS_PER_MICRO = 1000


def parse_message(kind: type[M], data: bytes, *, limit: int, field: str) -> M:
    """Return the message that bytes encode.

    Args:
        kind: Generated class.
        data: Serialized message.
        limit: Greatest length in bytes.
        field: Name for errors.

    Raises:
        TooLargeError: Longer than the limit.
        MalformedError: Not a message of this kind, or with fields that this version does not know: what we do not
            understand we do not vouch for.
    """
    if len(data) > limit:
        message = f"expected at most {limit} bytes, got {len(data)}"
        raise TooLargeError(message, field=field)
    try:
        parsed = kind.FromString(data)
    except DecodeError as error:
        message = f"not a {kind.DESCRIPTOR.full_name}"
        raise MalformedError(message, code="MESSAGE_MALFORMED", field=field) from error
    # Walking a message to find that it is in order would cost more than reading it: where nothing unknown was left
    # out, as many bytes are left; what is longer may only be spelled in another way.
    parsed.DiscardUnknownFields()
    if parsed.ByteSize() != len(data):
        _refuse_unknown(kind.FromString(data), field)
    return parsed


def _refuse_unknown(message: Message, field: str) -> None:
    if len(UnknownFieldSet(message)):
        text = f"{message.DESCRIPTOR.full_name} holds a field that this version does not know"
        raise MalformedError(text, code="FIELD_UNKNOWN", field=field)
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.is_repeated:
            for item in value:
                _refuse_unknown(item, f"{field}.{descriptor.name}")
        else:
            _refuse_unknown(value, f"{field}.{descriptor.name}")


def to_timestamp(moment: datetime) -> Timestamp:
    """Return a moment (aware UTC) as Timestamp, to the microsecond."""
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return Timestamp(seconds=seconds, nanos=since.microseconds * _NANOS_PER_MICRO)


def from_timestamp(stamp: Timestamp, *, field: str) -> datetime:
    """Return a Timestamp as moment, aware UTC.

    Raises:
        MalformedError: Outside the years 1 to 9999, or finer than a microsecond.
    """
    in_range = _MIN_SECONDS <= stamp.seconds <= _MAX_SECONDS and 0 <= stamp.nanos < _NANOS_PER_SECOND
    if not in_range or stamp.nanos % _NANOS_PER_MICRO:
        message = "expected a moment of the years 1 to 9999, to the microsecond"
        raise MalformedError(message, code="TIME_MALFORMED", field=field)
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // _NANOS_PER_MICRO)


def required_time(message: Message, name: str, *, field: str) -> datetime:
    """Return a Timestamp field that must be there.

    Raises:
        MalformedError: Absent or malformed.
    """
    if not message.HasField(name):
        text = "is required"
        raise MalformedError(text, code="FIELD_MISSING", field=field)
    return from_timestamp(getattr(message, name), field=field)


def optional_time(message: Message, name: str, *, field: str) -> datetime | None:
    """Return a Timestamp field, or None where it is absent."""
    return from_timestamp(getattr(message, name), field=field) if message.HasField(name) else None


def to_decimal(text: str, *, field: str) -> Decimal | None:
    """Return a decimal number from its text; None for an empty one.

    Raises:
        MalformedError: Not a finite decimal number, or longer than 64 characters.
    """
    if not text:
        return None
    try:
        # Decimal also takes underscores, white space and the digits of all scripts: one content has one spelling.
        plain = len(text) <= MAX_NUMBER_LENGTH and text.isascii() and "_" not in text and text == text.strip()
        number = Decimal(text) if plain else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    # A short text can name a number that no memory holds.
    if not number.is_finite() or abs(number.adjusted()) > MAX_NUMBER_LENGTH:
        message = f"expected a decimal number, got {text[:40]!r}"
        raise MalformedError(message, code="NUMBER_MALFORMED", field=field)
    return number


def from_decimal(number: Decimal | None) -> str:
    """Return a decimal number as text, exact; empty for None."""
    return "" if number is None else str(number)


def required_hash(data: bytes, *, field: str) -> bytes:
    """Return a hash of 32 bytes.

    Raises:
        MalformedError: Another length.
    """
    if len(data) != HASH_BYTES:
        message = f"expected {HASH_BYTES} bytes, got {len(data)}"
        raise MalformedError(message, code="HASH_LENGTH", field=field)
    return data


def required_text(text: str, *, field: str, most: int, least: int = 1) -> str:
    """Return a text of ``least`` to ``most`` characters.

    Raises:
        MalformedError: Shorter or longer.
    """
    if not least <= len(text) <= most:
        message = f"expected {least} to {most} characters, got {len(text)}"
        raise MalformedError(message, code="TEXT_LENGTH", field=field)
    return text


def matching_text(pattern: re.Pattern[str], text: str, *, field: str) -> str:
    """Return a text that a pattern matches.

    Raises:
        MalformedError: It does not.
    """
    if not pattern.match(text):
        message = f"expected {pattern.pattern}, got {text[:80]!r}"
        raise MalformedError(message, code="TEXT_MALFORMED", field=field)
    return text


def to_gln(text: str, *, field: str) -> Gln:
    """Return a GLN from 13 digits.

    Raises:
        MalformedError: No GLN.
    """
    try:
        return _gln(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field=field) from error


def to_gtin(text: str, *, field: str) -> Gtin:
    """Return a GTIN from 14 digits.

    Raises:
        MalformedError: No GTIN.
    """
    try:
        return _gtin(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field=field) from error
