"""Between generated messages and the values of cases."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.errors import MalformedError
from medtrail.gs1 import Gln
from medtrail.pdg import ContactInformation, FollowUp, Resolution
from services.custody.exceptions.case import (
    Case,
    CaseMessage,
    CaseResolution,
    CaseScan,
    CaseStatus,
    CaseUnit,
    MessageKind,
)
from services.custody.exceptions.codes import Category, ExceptionCode
from services.custody.exceptions.commands import Reply
from services.custody.exceptions.items import CaseItem
from services.custody.exceptions.suspect import Investigation

MAX_UNITS_SHOWN = 1000
MAX_SCAN_BYTES = 8192
MAX_BYTES_SHOWN = 1024 * 1024
MAX_EXPORTED_BYTES = 2 * 1024 * 1024


def _table(enum: Any, prefix: str, values: type[StrEnum]) -> dict[Any, Any]:  # noqa: ANN401  # a generated enum
    found = {value: enum.Value(f"{prefix}_{value.name}") for value in values}
    return {None: enum.Value(f"{prefix}_UNSPECIFIED"), **found}


_CODE = _table(exceptions_pb2.ExceptionCode, "EXCEPTION_CODE", ExceptionCode)
_CATEGORY = _table(exceptions_pb2.ExceptionCategory, "EXCEPTION_CATEGORY", Category)
_STATUS = _table(exceptions_pb2.CaseStatus, "CASE_STATUS", CaseStatus)
_RESOLUTION = _table(exceptions_pb2.CaseResolution, "CASE_RESOLUTION", CaseResolution)
_REQUEST = _table(exceptions_pb2.ResolutionRequest, "RESOLUTION_REQUEST", Resolution)
_KIND = _table(exceptions_pb2.MessageKind, "MESSAGE_KIND", MessageKind)


def _value(table: Mapping[Any, int], number: int, *, field: str, optional: bool = False) -> Any:  # noqa: ANN401  # a key
    for value, known in table.items():
        if known == number and (optional or value is not None):
            return value
    message = f"unknown value {number}"
    raise MalformedError(message, code="FIELD_MISSING" if not number else "VALUE_UNKNOWN", field=field)


def code_from(number: int, *, field: str = "code") -> ExceptionCode:
    """Return a code.

    Raises:
        MalformedError: Not said (FIELD_MISSING) or unknown (VALUE_UNKNOWN).
    """
    found: ExceptionCode = _value(_CODE, number, field=field)
    return found


def maybe_code(number: int) -> ExceptionCode | None:
    """Return a code, or None where it is not said."""
    found: ExceptionCode | None = _value(_CODE, number, field="code", optional=True)
    return found


def maybe_category(number: int) -> Category | None:
    """Return a category, or None where it is not said."""
    found: Category | None = _value(_CATEGORY, number, field="category", optional=True)
    return found


def maybe_status(number: int) -> CaseStatus | None:
    """Return a status, or None where it is not said."""
    found: CaseStatus | None = _value(_STATUS, number, field="status", optional=True)
    return found


_BY_PEOPLE = frozenset(CaseResolution) - {CaseResolution.CLEARED, CaseResolution.BY_PARTNER}


def resolution_from(number: int) -> CaseResolution:
    """Return a resolution that a person may choose.

    Raises:
        MalformedError: Not said, unknown, or not for people to choose (RESOLUTION_FORBIDDEN).
    """
    found: CaseResolution = _value(_RESOLUTION, number, field="resolution")
    if found not in _BY_PEOPLE:
        message = f"a case is not resolved by hand as {found}"
        raise MalformedError(message, code="RESOLUTION_FORBIDDEN", field="resolution")
    return found


def maybe_request(number: int, *, field: str = "resolution_request") -> Resolution | None:
    """Return what is asked for, or None where it is not said."""
    found: Resolution | None = _value(_REQUEST, number, field=field, optional=True)
    return found


def check_length(text: str, *, field: str, most: int, least: int = 0) -> str:
    """Return a text of some length.

    Raises:
        MalformedError: Shorter or longer (TEXT_LENGTH).
    """
    if not least <= len(text) <= most:
        message = f"expected {least} to {most} characters, got {len(text)}"
        raise MalformedError(message, code="TEXT_LENGTH", field=field)
    return text


def scan_from(message: exceptions_pb2.CaseScan) -> CaseScan:
    """Return the scan that raised a case.

    Raises:
        MalformedError: A text is too long, or the time is none.
    """
    time = from_timestamp(message.scan_time, field="scan.scan_time") if message.HasField("scan_time") else None
    return CaseScan(
        check_length(message.scan, field="scan.scan", most=MAX_SCAN_BYTES),
        time,
        check_length(message.station, field="scan.station", most=64),
        check_length(message.verdict_code, field="scan.verdict_code", most=64),
    )


def contact_from(message: exceptions_pb2.Contact, *, gln: Gln) -> ContactInformation | None:
    """Return how we are reached; None where it does not say by which e-mail address."""
    if not message.email:
        return None
    email = check_length(message.email, field="contact.email", most=254)
    if email.count("@") != 1 or any(character.isspace() for character in email) or email[0] == "@" or email[-1] == "@":
        text = f"expected an e-mail address, got {email[:50]!r}"
        raise MalformedError(text, code="EMAIL_MALFORMED", field="contact.email")
    return ContactInformation(
        email=email,
        vp=check_length(message.presentation, field="contact.presentation", most=32 * 1024) or None,
        gln=str(gln),
        phone=check_length(message.phone, field="contact.phone", most=64) or None,
    )


def reply_from(message: exceptions_pb2.ItemAnswer, field: str) -> Reply:
    """Return the answer to an item.

    Raises:
        MalformedError: A value is unknown or a text too long.
    """
    if message.follow_up and message.follow_up not in {item.value for item in FollowUp}:
        text = f"expected Email, Phone or nothing, got {message.follow_up[:20]!r}"
        raise MalformedError(text, code="VALUE_UNKNOWN", field=f"{field}.follow_up")
    return Reply(
        item_id=message.item_id.lower(),
        accepted=message.accepted,
        alternative=maybe_request(message.alternative, field=f"{field}.alternative"),
        follow_up=FollowUp(message.follow_up) if message.follow_up else None,
        follow_up_details=check_length(message.follow_up_details, field=f"{field}.follow_up_details", most=2000),
        comments=check_length(message.comments, field=f"{field}.comments", most=2000),
    )


@dataclass(frozen=True, slots=True)
class Details:
    """What is shown of a case beside its row; empty in lists. ``with_bytes``: signed bytes, up to 1 MiB of them."""

    units: tuple[CaseUnit, ...] = ()
    items: tuple[CaseItem, ...] = ()
    messages: tuple[CaseMessage, ...] = ()
    investigation: Investigation | None = None
    notified: tuple[Gln, ...] = ()
    with_bytes: bool = False


NO_DETAILS = Details()


def case_to_message(case: Case, details: Details, *, now: datetime) -> exceptions_pb2.ExceptionCase:
    """Return the message of a case."""
    return exceptions_pb2.ExceptionCase(
        case_id=case.case_id,
        code=_CODE[case.code],
        category=_CATEGORY[case.category],
        status=_STATUS[case.status],
        partner="" if case.partner is None else str(case.partner),
        partner_reported=case.partner_reported,
        shared=case.shared,
        owner=case.owner,
        open_time=to_timestamp(case.open_time),
        due_time=to_timestamp(case.due_time),
        resolve_time=None if case.resolve_time is None else to_timestamp(case.resolve_time),
        overdue=case.overdue(now),
        resolution=_RESOLUTION[case.resolution],
        resolution_note=case.resolution_note,
        detail=case.detail,
        despatch_event_id=case.despatch_id,
        delivery_id=case.delivery_id,
        purchase_order=case.purchase_order,
        scan=None if case.scan is None else _scan(case.scan),
        units=[_unit(item) for item in details.units[:MAX_UNITS_SHOWN]],
        unit_count=case.unit_count,
        expected_count=case.expected_count,
        counted_count=case.counted_count,
        items=[_item(item) for item in details.items],
        messages=list(_conversation(details)),
        investigation=_investigation(case, details),
        instruction=case.rule.instruction,
    )


def _scan(scan: CaseScan) -> exceptions_pb2.CaseScan:
    return exceptions_pb2.CaseScan(
        scan=scan.scan,
        scan_time=None if scan.time is None else to_timestamp(scan.time),
        station=scan.station,
        verdict_code=scan.verdict_code,
    )


def _unit(item: CaseUnit) -> exceptions_pb2.CaseUnit:
    return exceptions_pb2.CaseUnit(
        epc=item.unit.digital_link,
        return_pending=item.return_pending,
        quarantined=item.quarantined,
        verified=item.verified,
    )


def _item(item: CaseItem) -> exceptions_pb2.CaseItem:
    answer = item.answer
    other = None if answer is None or answer.alternative is None else answer.alternative.resolution
    return exceptions_pb2.CaseItem(
        item_id=item.item_id,
        group=item.group,
        text=item.text,
        resolution_request=_REQUEST[item.request],
        answered=answer is not None,
        accepted=answer is not None and answer.accepted,
        alternative=_REQUEST[other],
        comments="" if answer is None else answer.comments or "",
    )


def _conversation(details: Details) -> Iterator[exceptions_pb2.CaseMessage]:
    room = MAX_BYTES_SHOWN if details.with_bytes else 0
    for item in details.messages:
        room -= len(item.pdg) + len(item.signed_event)
        yield message_to_message(item if room >= 0 else replace(item, pdg=b"", signed_event=b""))


def page_of(said: Iterable[CaseMessage]) -> Iterator[CaseMessage]:
    """Yield messages from the first on that fit into one page of 2 MiB; the first in any case."""
    room = MAX_EXPORTED_BYTES
    for number, item in enumerate(said):
        room -= len(item.pdg) + len(item.signed_event)
        if number and room < 0:
            return
        yield item


def message_to_message(message: CaseMessage) -> exceptions_pb2.CaseMessage:
    """Return the message of what was said about a case."""
    return exceptions_pb2.CaseMessage(
        message_id=message.message_id,
        kind=_KIND[message.kind],
        sender=str(message.sender),
        person=message.person,
        message_time=to_timestamp(message.time),
        text=message.text,
        pdg_message=message.pdg,
        signed_event_sha256=message.sha256,
        signed_event=message.signed_event,
    )


def _investigation(case: Case, details: Details) -> exceptions_pb2.Investigation | None:
    found = details.investigation
    if found is None:
        return None
    due = case.notify_due_time
    return exceptions_pb2.Investigation(
        pack_count=len(found.packs),
        verify_count=found.verify_count,
        verified_count=len(found.verified),
        determine_time=None if case.determine_time is None else to_timestamp(case.determine_time),
        notify_due_time=None if due is None else to_timestamp(due),
        submit_time=None if case.submit_time is None else to_timestamp(case.submit_time),
        incident_number=case.incident_number,
        notified_partners=[str(gln) for gln in details.notified],
    )
