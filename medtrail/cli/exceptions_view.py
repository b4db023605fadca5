"""Cases as ``medtrail exceptions`` shows them: as tables for people and as documents for machines."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from medtrail import codec
from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.cli.main import Globals
from medtrail.cli.render import format_time, short_epc

_SHORT_ID = 8


def _name(enum: Any, prefix: str, number: int) -> str:  # noqa: ANN401  # a generated enum
    name: str = enum.Name(number).removeprefix(f"{prefix}_")
    return "" if name == "UNSPECIFIED" else name


def _lower(enum: Any, prefix: str, number: int) -> str:  # noqa: ANN401  # a generated enum
    return _name(enum, prefix, number).lower()


def _status(case: exceptions_pb2.ExceptionCase) -> str:
    status = _lower(exceptions_pb2.CaseStatus, "CASE_STATUS", case.status)
    how = _lower(exceptions_pb2.CaseResolution, "CASE_RESOLUTION", case.resolution)
    return f"{status}: {how.replace('_', ' ')}" if how else status


def _time(message: Any, name: str) -> str:  # noqa: ANN401  # any message with a time
    return format_time(codec.from_timestamp(getattr(message, name), field=name)) if message.HasField(name) else ""


def case_document(case: exceptions_pb2.ExceptionCase) -> dict[str, Any]:
    """Return a case."""
    return {
        "case_id": case.case_id,
        "code": _name(exceptions_pb2.ExceptionCode, "EXCEPTION_CODE", case.code),
        "category": _lower(exceptions_pb2.ExceptionCategory, "EXCEPTION_CATEGORY", case.category),
        "status": _lower(exceptions_pb2.CaseStatus, "CASE_STATUS", case.status),
        "resolution": _lower(exceptions_pb2.CaseResolution, "CASE_RESOLUTION", case.resolution) or None,
        "resolution_note": case.resolution_note,
        "detail": case.detail,
        "partner": case.partner or None,
        "partner_reported": case.partner_reported,
        "shared": case.shared,
        "owner": case.owner,
        "open_time": _time(case, "open_time"),
        "due_time": _time(case, "due_time"),
        "resolve_time": _time(case, "resolve_time") or None,
        "overdue": case.overdue,
        "despatch_event_id": case.despatch_event_id or None,
        "delivery_id": case.delivery_id or None,
        "purchase_order": case.purchase_order or None,
        "scan": _scan_document(case) if case.HasField("scan") else None,
        "unit_count": case.unit_count,
        "expected_count": case.expected_count,
        "counted_count": case.counted_count,
        "units": [
            {
                "epc": unit.epc,
                "return_pending": unit.return_pending,
                "quarantined": unit.quarantined,
                "verified": unit.verified,
            }
            for unit in case.units
        ],
        "items": [_item_document(item) for item in case.items],
        "messages": [message_document(message) for message in case.messages],
        "investigation": _investigation_document(case.investigation) if case.HasField("investigation") else None,
        "instruction": case.instruction,
    }


def _scan_document(case: exceptions_pb2.ExceptionCase) -> dict[str, Any]:
    return {
        "scan": case.scan.scan,
        "scan_time": _time(case.scan, "scan_time") or None,
        "station": case.scan.station,
        "verdict_code": case.scan.verdict_code,
    }


def _item_document(item: exceptions_pb2.CaseItem) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "group": item.group,
        "text": item.text,
        "resolution_request": _asked(item.resolution_request),
        "accepted": item.accepted if item.answered else None,
        "alternative": _asked(item.alternative),
        "comments": item.comments,
    }


def _asked(number: int) -> str | None:
    return _lower(exceptions_pb2.ResolutionRequest, "RESOLUTION_REQUEST", number) or None


def message_document(message: exceptions_pb2.CaseMessage) -> dict[str, Any]:
    """Return a message of a case."""
    return {
        "message_id": message.message_id,
        "kind": _lower(exceptions_pb2.MessageKind, "MESSAGE_KIND", message.kind),
        "sender": message.sender,
        "person": message.person,
        "message_time": _time(message, "message_time"),
        "text": message.text,
        "signed_event_sha256": message.signed_event_sha256.hex() or None,
    }


def _investigation_document(found: exceptions_pb2.Investigation) -> dict[str, Any]:
    return {
        "pack_count": found.pack_count,
        "verify_count": found.verify_count,
        "verified_count": found.verified_count,
        "determine_time": _time(found, "determine_time") or None,
        "notify_due_time": _time(found, "notify_due_time") or None,
        "submit_time": _time(found, "submit_time") or None,
        "incident_number": found.incident_number or None,
        "notified_partners": list(found.notified_partners),
    }


def show_case(found: Globals, case: exceptions_pb2.ExceptionCase) -> None:
    """Answer with a case."""
    found.output.answer({"case": case_document(case)}, lambda console: draw_case(console, case))


def draw_cases(console: Console, cases: Sequence[exceptions_pb2.ExceptionCase]) -> None:
    """Show a list of cases to a person."""
    table = Table("case", "code", "status", "partner", "units", "owner", "due", "what is the matter", box=None)
    for case in cases:
        due = f"{_time(case, 'due_time')}{' OVERDUE' if case.overdue else ''}"
        table.add_row(
            case.case_id[:_SHORT_ID],
            _name(exceptions_pb2.ExceptionCode, "EXCEPTION_CODE", case.code),
            _status(case),
            case.partner,
            str(case.unit_count or case.counted_count or ""),
            case.owner,
            due,
            case.detail[:60],
        )
    console.print(table if cases else "no cases")


def draw_case(console: Console, case: exceptions_pb2.ExceptionCase) -> None:
    """Show a case to a person: what it is first, then what to do, then who said what."""
    code = _name(exceptions_pb2.ExceptionCode, "EXCEPTION_CODE", case.code)
    console.print(f"[bold]{code}[/]  {_status(case)}  {case.case_id}{'  [bold red]OVERDUE[/]' if case.overdue else ''}")
    console.print(f"  {case.detail}", markup=False)
    partner = f"partner {case.partner}{' (reported it)' if case.partner_reported else ''}  " if case.partner else ""
    owner = f"owner {case.owner}  " if case.owner else ""
    console.print(f"  {partner}{owner}due {_time(case, 'due_time')}", markup=False, style="dim")
    if not case.HasField("resolve_time"):
        console.print(f"  what to do: {case.instruction}", markup=False)
    if case.HasField("scan"):
        where = f" at {case.scan.station}" if case.scan.station else ""
        console.print(f"  raised by scan {case.scan.scan!r}{where} {case.scan.verdict_code}", markup=False, style="dim")
    _draw_investigation(console, case)
    for unit in case.units[:20]:
        marks = [name for name in ("quarantined", "verified", "return_pending") if getattr(unit, name)]
        console.print(f"  {short_epc(unit.epc)}  {' '.join(marks)}", markup=False)
    if case.unit_count > 20:
        console.print(f"  and {case.unit_count - 20} more units", style="dim")
    for item in case.items:
        answer = "accepted" if item.accepted else "rejected" if item.answered else "no answer yet"
        offer = f", offered instead: {_asked(item.alternative)}" if item.alternative else ""
        console.print(f"  {item.item_id[:_SHORT_ID]} {item.text}", markup=False)
        console.print(f"    asked: {_asked(item.resolution_request)}; {answer}{offer} {item.comments}", markup=False)
    for message in case.messages:
        kind = _lower(exceptions_pb2.MessageKind, "MESSAGE_KIND", message.kind)
        who = f"{message.sender}{f' ({message.person})' if message.person else ''}"
        console.print(f"  {_time(message, 'message_time')} {who} {kind}: {message.text}", markup=False, style="dim")


def _draw_investigation(console: Console, case: exceptions_pb2.ExceptionCase) -> None:
    if not case.HasField("investigation"):
        return
    found = case.investigation
    console.print(f"  {found.verified_count} of {found.verify_count} packs verified, {found.pack_count} in all")
    if found.HasField("determine_time"):
        form = _time(found, "submit_time") or f"NOT YET, due {_time(found, 'notify_due_time')}"
        console.print(f"  illegitimate since {_time(found, 'determine_time')}; Form FDA 3911 submitted: {form}")
