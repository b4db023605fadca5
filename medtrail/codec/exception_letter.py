"""Letters about exceptions: between messages and values."""

import re
import uuid

from medtrail.api.event.v1 import payload_pb2
from medtrail.codec.scalars import MAX_TEXT_LENGTH, required_text, required_time, to_gln, to_timestamp
from medtrail.errors import MalformedError, TooLargeError
from medtrail.exception_letter import ExceptionLetter, LetterKind
from medtrail.pdg import MAX_MESSAGE_BYTES, Resolution

MAX_EPCS = 1000
MAX_EPC_LENGTH = 512
MAX_PERSON_LENGTH = 200
MAX_NUMBER_LENGTH = 64
MAX_EVENT_ID_LENGTH = 512

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")
_WITH_PDG = frozenset({LetterKind.REPORT, LetterKind.RESPONSE})
_RESOLUTIONS = frozenset({"", *(item.value for item in Resolution)})
_KIND_TO_MESSAGE = {
    kind: payload_pb2.ExceptionLetterKind.Value(f"EXCEPTION_LETTER_KIND_{kind.name}") for kind in LetterKind
}
_KIND_FROM_MESSAGE: dict[int, LetterKind] = {number: kind for kind, number in _KIND_TO_MESSAGE.items()}


def letter_to_message(letter: ExceptionLetter) -> payload_pb2.ExceptionLetter:
    """Return the message of a letter."""
    return payload_pb2.ExceptionLetter(
        counterparty=str(letter.counterparty),
        case_id=letter.case_id,
        message_id=letter.message_id,
        kind=_KIND_TO_MESSAGE[letter.kind],
        code=letter.code,
        message_time=to_timestamp(letter.message_time),
        person=letter.person,
        text=letter.text,
        pdg_message=letter.pdg,
        resolution_request=letter.resolution_request,
        purchase_order=letter.purchase_order,
        despatch_event_id=letter.despatch_id,
        epcs=letter.epcs,
    )


def letter_from_message(message: payload_pb2.ExceptionLetter, *, field: str = "letter") -> ExceptionLetter:
    """Return the letter of a message. What a PDG message in it says is read where the letter is taken in.

    Raises:
        TooLargeError: More than 1,000 units, or a PDG message of more than 128 KiB.
        MalformedError: A field is missing or of wrong form.
    """
    kind = _KIND_FROM_MESSAGE.get(message.kind)
    if kind is None:
        text = f"unknown kind of letter {message.kind}"
        raise MalformedError(text, code="LETTER_KIND_UNKNOWN", field=f"{field}.kind")
    pdg, request = message.pdg_message, message.resolution_request
    if len(pdg) > MAX_MESSAGE_BYTES:
        text = f"a PDG message has at most {MAX_MESSAGE_BYTES} bytes, got {len(pdg)}"
        raise TooLargeError(text, code="PDG_TOO_LARGE", field=f"{field}.pdg_message")
    if bool(pdg) != (kind in _WITH_PDG):
        text = f"a PDG message stands in reports and responses, not in {kind}"
        raise MalformedError(text, code="FIELD_MISSING", field=f"{field}.pdg_message")
    if len(message.epcs) > MAX_EPCS:
        text = f"expected at most {MAX_EPCS} units, got {len(message.epcs)}"
        raise TooLargeError(text, code="TOO_MANY_UNITS", field=f"{field}.epcs")
    if not _CODE.match(message.code):
        text = f"expected {_CODE.pattern}, got {message.code[:80]!r}"
        raise MalformedError(text, code="TEXT_MALFORMED", field=f"{field}.code")
    if request not in _RESOLUTIONS:
        text = f"expected one of {', '.join(Resolution)}; got {request[:40]!r}"
        raise MalformedError(text, code="RESOLUTION_UNKNOWN", field=f"{field}.resolution_request")
    return ExceptionLetter(
        counterparty=to_gln(message.counterparty, field=f"{field}.counterparty"),
        case_id=_uuid(message.case_id, field=f"{field}.case_id"),
        message_id=_uuid(message.message_id, field=f"{field}.message_id"),
        kind=kind,
        code=message.code,
        message_time=required_time(message, "message_time", field=f"{field}.message_time"),
        person=required_text(message.person, field=f"{field}.person", least=0, most=MAX_PERSON_LENGTH),
        text=required_text(message.text, field=f"{field}.text", least=0, most=MAX_TEXT_LENGTH),
        pdg=pdg,
        resolution_request=request,
        purchase_order=required_text(
            message.purchase_order, field=f"{field}.purchase_order", least=0, most=MAX_NUMBER_LENGTH
        ),
        despatch_id=required_text(
            message.despatch_event_id, field=f"{field}.despatch_event_id", least=0, most=MAX_EVENT_ID_LENGTH
        ),
        epcs=tuple(
            required_text(epc, field=f"{field}.epcs[{number}]", most=MAX_EPC_LENGTH)
            for number, epc in enumerate(message.epcs)
        ),
    )


def _uuid(text: str, *, field: str) -> str:
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:
        message = f"expected a UUID in lower case, got {text[:50]!r}"
        raise MalformedError(message, code="TEXT_MALFORMED", field=field)
    return text
