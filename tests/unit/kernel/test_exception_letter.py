"""Letters about exceptions: every field comes back, what is wrong is refused, and the log takes none."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from medtrail.api.event.v1 import payload_pb2
from medtrail.claims import claims_of
from medtrail.codec import decode_payload, encode_payload
from medtrail.errors import AuthorizationError, MalformedError, TooLargeError
from medtrail.event import Event, Header, PayloadType
from medtrail.exception_letter import ExceptionLetter, LetterKind
from medtrail.gs1 import Gln
from medtrail.item_map import identifiers
from medtrail.trust import Registry

if TYPE_CHECKING:
    from tests.conftest import Network

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
IDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(2)]
LETTER = ExceptionLetter(
    counterparty=Gln("0614141000005"),
    case_id=IDS[0],
    message_id=IDS[1],
    kind=LetterKind.REPORT,
    code="OVERAGE",
    message_time=NOW,
    person="Kim",
    text="one more",
    pdg=b"{}",
    resolution_request="Send new data",
    purchase_order="PO-1",
    despatch_id="ni:///sha-256;1",
    epcs=("https://id.gs1.org/01/00300010123455/21/1",),
)


def event_of(letter: ExceptionLetter, actor: str = "0300011111116") -> Event:
    return Event(Header(bytes(32), Gln(actor), "letters", 1, f"urn:uuid:{letter.message_id}"), letter)


def changed(change: Callable[[payload_pb2.ExceptionLetter], object]) -> bytes:
    message = payload_pb2.ExceptionPayload.FromString(encode_payload(event_of(LETTER)))
    change(message.letter)
    return message.SerializeToString()


@pytest.mark.parametrize("kind", list(LetterKind))
def test_every_field_of_a_letter_comes_back(kind: LetterKind) -> None:
    with_pdg = kind in {LetterKind.REPORT, LetterKind.RESPONSE}
    event = event_of(replace(LETTER, kind=kind, pdg=b"{}" if with_pdg else b""))
    assert event.payload_type is PayloadType.EXCEPTION
    assert decode_payload(PayloadType.EXCEPTION, encode_payload(event)) == event


def test_letter_stands_in_nobodys_history() -> None:
    assert identifiers(event_of(LETTER)) == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda letter: letter.ClearField("kind"), "LETTER_KIND_UNKNOWN"),
        (lambda letter: letter.ClearField("pdg_message"), "FIELD_MISSING"),
        (lambda letter: setattr(letter, "kind", payload_pb2.EXCEPTION_LETTER_KIND_NOTE), "FIELD_MISSING"),
        (lambda letter: setattr(letter, "code", "overage"), "TEXT_MALFORMED"),
        (lambda letter: setattr(letter, "case_id", "1"), "TEXT_MALFORMED"),
        (lambda letter: setattr(letter, "message_id", "0" * 32), "TEXT_MALFORMED"),
        (lambda letter: setattr(letter, "resolution_request", "Give it away"), "RESOLUTION_UNKNOWN"),
        (lambda letter: letter.ClearField("message_time"), "FIELD_MISSING"),
    ],
    ids=["no kind", "report without message", "note with message", "code", "case", "message", "request", "no time"],
)
def test_wrong_field_is_refused(change: Callable[[payload_pb2.ExceptionLetter], object], code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        decode_payload(PayloadType.EXCEPTION, changed(change))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        lambda letter: setattr(letter, "pdg_message", b" " * (128 * 1024 + 1)),
        lambda letter: letter.epcs.extend(["x"] * 1000),
    ],
    ids=["message", "units"],
)
def test_size_is_bounded(change: Callable[[payload_pb2.ExceptionLetter], object]) -> None:
    with pytest.raises(TooLargeError):
        decode_payload(PayloadType.EXCEPTION, changed(change))


def test_letter_is_not_for_the_log(network: "Network", registry: Registry) -> None:
    maker = network["maker"]
    event = event_of(LETTER, str(maker.gln))
    with pytest.raises(AuthorizationError) as caught:
        registry.judge(claims_of(event), key_id=maker.signing_key().key_id, stream_time=NOW)
    assert caught.value.code == "PAYLOAD_NOT_FOR_LOG"
