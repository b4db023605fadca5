"""Messages of streams as values, and the exchange's errors as ours."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from medtrail.errors import ConflictError, MedtrailError, TooLargeError, UnavailableError

_WRONG_LAST_SEQUENCE = frozenset({10070, 10071})
_STORE_FAILED = 10077


@dataclass(frozen=True, slots=True)
class Stored:
    """A publish that the stream has on its disk: the sequence, and whether the stream had it before."""

    seq: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a stream.

    Attributes:
        seq: Stream sequence.
        time: When the stream stored it; aware UTC, cut to microseconds.
        subject: Its subject.
        data: Its bytes.
        message_id: Its Nats-Msg-Id, or empty.
    """

    seq: int
    time: datetime
    subject: str
    data: bytes
    message_id: str


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream's life: when it was created (as the server writes it), and its first and last sequence."""

    created: str
    first_seq: int
    last_seq: int


def stored_message(message: Msg) -> StoredMessage:
    """Return the stream message that a Direct Get's answer carries.

    Raises:
        UnavailableError: STREAM_ANSWER: the answer is no message.
    """
    headers = message.headers or {}
    try:
        return StoredMessage(
            seq=int(headers["Nats-Sequence"]),
            time=_stream_time(headers["Nats-Time-Stamp"]),
            subject=headers["Nats-Subject"],
            data=message.data,
            message_id=headers.get("Nats-Msg-Id", ""),
        )
    except (KeyError, ValueError) as error:
        said = f"{headers.get('Status', '')} {headers.get('Description', '')}".strip()
        message_text = f"the stream answered {said or 'without a sequence'}"
        raise UnavailableError(message_text, code="STREAM_ANSWER") from error


def _stream_time(text: str) -> datetime:
    # Go writes up to nine digits of a second; datetime reads six.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}").replace(tzinfo=UTC)


def from_api(error: dict[str, Any], subject: str) -> MedtrailError:
    """Return our error for the ``error`` object of a JetStream answer."""
    number, description = error.get("err_code"), str(error.get("description", ""))
    if number in _WRONG_LAST_SEQUENCE:
        return ConflictError(f"{subject}: {description}", code="SEQUENCE_MISMATCH")
    if number == _STORE_FAILED and "per subject" in description:
        return UnavailableError(f"{subject} is full: {description}", code="SUBJECT_FULL")
    if number == _STORE_FAILED:
        return UnavailableError(f"the stream stored nothing: {description}", code="STREAM_FULL")
    if error.get("code") == 404:
        return UnavailableError(f"{subject}: {description}", code="STREAM_MISSING")
    return UnavailableError(f"{subject}: {description}", code="STREAM_REFUSED", err_code=number)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn nats-py's errors into ours."""
    try:
        yield
    except nats.errors.NoRespondersError as error:
        raise UnavailableError("no stream listens there", code="STREAM_MISSING") from error
    except nats.errors.MaxPayloadError as error:
        raise TooLargeError("larger than the exchange takes", field="data") from error
    except (nats.errors.TimeoutError, TimeoutError) as error:
        raise UnavailableError("the exchange did not answer in time", code="EXCHANGE_TIMEOUT") from error
    except (nats.errors.Error, OSError) as error:
        raise UnavailableError(f"the exchange failed: {error}", code="EXCHANGE_UNREACHABLE") from error
