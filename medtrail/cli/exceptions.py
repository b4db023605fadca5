"""``medtrail exceptions``: cases, shown as tables for people and as documents for machines."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.cli.main import Globals
from medtrail.cli.render import format_time, parse_time, short_epc
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError

MAX_LISTED = 1000
_SHORT_ID = 8


@dataclass(frozen=True, slots=True)
class Filters:
    """Which cases are wanted; empty means all."""

    status: str
    code: str
    partner: str
    owner: str
    unit: str
    overdue: bool
    include_resolved: bool


@dataclass(frozen=True, slots=True)
class NewCase:
    """A case to be opened."""

    code: str
    epcs: Sequence[str]
    detail: str
    partner: str
    despatch: str
    order: str
    owner: str
    due: str | None
    expected: int
    counted: int


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks for the house, and how it is reached."""

    email: str
    phone: str
    person: str
    text: str

    @property
    def contact(self) -> exceptions_pb2.Contact:
        """How the house is reached."""
        return exceptions_pb2.Contact(email=self.email, phone=self.phone)


def word(enum: Any, prefix: str, text: str, *, field: str) -> Any:  # noqa: ANN401  # a generated enum and its value
    """Return the value of an enum by its word in any spelling; unspecified for an empty text.

    Raises:
        MalformedError: There is no such word (VALUE_UNKNOWN).
    """
    name = text.upper().replace("-", "_").replace(" ", "_") or "UNSPECIFIED"
    try:
        return enum.Value(f"{prefix}_{name}")
    except ValueError:
        known = [item.removeprefix(f"{prefix}_").lower() for item in enum.keys()]  # noqa: SIM118  # a generated enum
        message = f"expected one of {', '.join(known[1:])}; got {text[:40]!r}"
        raise MalformedError(message, code="VALUE_UNKNOWN", field=field) from None


def scans_of(texts: Sequence[str]) -> list[str]:
    """Return scans with their group separators: a shell passes them on as text."""
    return [text.replace("\\x1d", "\x1d") for text in texts]


async def find_case(session: Session, text: str) -> str:
    """Return the id of a case by its beginning.

    Raises:
        MalformedError: No case, or several, begin like that (CASE_AMBIGUOUS).
    """
    if len(text) == 36:
        return text
    found = [case.case_id async for case in _cases(session, exceptions_pb2.ListCasesRequest(include_resolved=True))]
    chosen = [case_id for case_id in found if case_id.startswith(text.lower())]
    if len(chosen) != 1:
        message = f"{len(chosen)} of the newest {MAX_LISTED} cases begin with {text[:40]!r}"
        raise MalformedError(message, code="CASE_AMBIGUOUS", field="CASE")
    return chosen[0]


async def _cases(
    session: Session, request: exceptions_pb2.ListCasesRequest
) -> AsyncIterator[exceptions_pb2.ExceptionCase]:
    request.page_size = 500
    count = 0
    while True:
        answer = await session.exceptions.ListCases(request)
        for case in answer.cases:
            count += 1
            yield case
        if not answer.next_page_token or count >= MAX_LISTED:
            return
        request.page_token = answer.next_page_token


# --- looking ---


def run_list(found: Globals, filters: Filters) -> None:
    """List cases."""
    request = exceptions_pb2.ListCasesRequest(
        status=word(exceptions_pb2.CaseStatus, "CASE_STATUS", filters.status, field="--status"),
        code=word(exceptions_pb2.ExceptionCode, "EXCEPTION_CODE", filters.code, field="--code"),
        partner=filters.partner,
        owner=filters.owner,
        epc=filters.unit,
        overdue=filters.overdue,
        include_resolved=filters.include_resolved,
    )

    async def work(session: Session) -> list[exceptions_pb2.ExceptionCase]:
        return [case async for case in _cases(session, request)]

    cases = run_session(found, work)

    def draw(console: Console) -> None:
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

    found.output.answer({"cases": [case_document(case) for case in cases]}, draw)


def run_show(found: Globals, case: str) -> None:
    """Show a case."""

    async def work(session: Session) -> exceptions_pb2.ExceptionCase:
        request = exceptions_pb2.GetCaseRequest(case_id=await find_case(session, case))
        return (await session.exceptions.GetCase(request)).case

    show_case(found, run_session(found, work))


# --- writing ---


def _change(found: Globals, case: str, ask: Callable[[Session, str], Awaitable[Any]]) -> None:
    async def work(session: Session) -> Any:  # noqa: ANN401  # an answer with a case
        return await ask(session, await find_case(session, case))

    show_case(found, run_session(found, work).case)


def request_id() -> str:
    """Return a new id of a request."""
    return str(uuid.uuid4())


def run_open(found: Globals, new: NewCase) -> None:
    """Open a case."""
    request = exceptions_pb2.OpenCaseRequest(
        request_id=request_id(),
        code=word(exceptions_pb2.ExceptionCode, "EXCEPTION_CODE", new.code, field="CODE"),
        epcs=scans_of(new.epcs),
        detail=new.detail,
        partner=new.partner,
        despatch_event_id=new.despatch,
        purchase_order=new.order,
        owner=new.owner,
        due_time=None if new.due is None else codec.to_timestamp(parse_time(new.due, field="--due")),
        expected_count=new.expected,
        counted_count=new.counted,
    )

    async def work(session: Session) -> exceptions_pb2.ExceptionCase:
        return (await session.exceptions.OpenCase(request)).case

    show_case(found, run_session(found, work))


def run_assign(found: Globals, case: str, owner: str) -> None:
    """Say who sees to a case."""

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.AssignCaseRequest(request_id=request_id(), case_id=case_id, owner=owner)
        return session.exceptions.AssignCase(request)

    _change(found, case, ask)


def run_due(found: Globals, case: str, moment: str) -> None:
    """Say until when a case is to be resolved."""
    due = codec.to_timestamp(parse_time(moment, field="MOMENT"))

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.SetDueTimeRequest(request_id=request_id(), case_id=case_id, due_time=due)
        return session.exceptions.SetDueTime(request)

    _change(found, case, ask)


def run_message(found: Globals, case: str, text: str, *, internal: bool, person: str) -> None:
    """Add a remark."""

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.AddMessageRequest(
            request_id=request_id(), case_id=case_id, text=text, person=person, internal=internal
        )
        return session.exceptions.AddMessage(request)

    _change(found, case, ask)


def run_propose(found: Globals, case: str, wanted: str, speaker: Speaker) -> None:
    """Report a case to its partner."""
    asked = word(exceptions_pb2.ResolutionRequest, "RESOLUTION_REQUEST", wanted, field="--request")

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.ProposeResolutionRequest(
            request_id=request_id(),
            case_id=case_id,
            resolution_request=asked,
            contact=speaker.contact,
            text=speaker.text,
            person=speaker.person,
        )
        return session.exceptions.ProposeResolution(request)

    _change(found, case, ask)


def run_respond(
    found: Globals, case: str, items: Sequence[str], *, accepted: bool, alternative: str, speaker: Speaker
) -> None:
    """Answer what the partner proposed."""
    other = word(exceptions_pb2.ResolutionRequest, "RESOLUTION_REQUEST", alternative, field="--alternative")

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.RespondToProposalRequest(
            request_id=request_id(),
            case_id=case_id,
            answers=[
                exceptions_pb2.ItemAnswer(item_id=item, accepted=accepted, alternative=other, comments=speaker.text)
                for item in items
            ],
            contact=speaker.contact,
            person=speaker.person,
        )
        return session.exceptions.RespondToProposal(request)

    _change(found, case, ask)


def run_resolve(found: Globals, case: str, resolution: str, *, reason: str, location: str, person: str) -> None:
    """Resolve a case."""
    how = word(exceptions_pb2.CaseResolution, "CASE_RESOLUTION", resolution, field="RESOLUTION")

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.ResolveCaseRequest(
            request_id=request_id(),
            case_id=case_id,
            resolution=how,
            reason=reason,
            person=person,
            occasion=custody_pb2.Occasion(location=location),
        )
        return session.exceptions.ResolveCase(request)

    _change(found, case, ask)


def run_suspect(found: Globals, epcs: Sequence[str], *, reason: str, person: str, location: str) -> None:
    """Quarantine units as suspect product."""
    request = exceptions_pb2.MarkSuspectRequest(
        request_id=request_id(),
        epcs=scans_of(epcs),
        reason=reason,
        person=person,
        occasion=custody_pb2.Occasion(location=location),
    )

    async def work(session: Session) -> exceptions_pb2.ExceptionCase:
        return (await session.exceptions.MarkSuspect(request)).case

    show_case(found, run_session(found, work))


def run_clear(
    found: Globals, case: str, verified: Sequence[str], *, reason: str, partial: bool, person: str, location: str
) -> None:
    """End an investigation, or note verified packs."""

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.ClearSuspectRequest(
            request_id=request_id(),
            case_id=case_id,
            verified_epcs=scans_of(verified),
            reason=reason,
            person=person,
            partial=partial,
            occasion=custody_pb2.Occasion(location=location),
        )
        return session.exceptions.ClearSuspect(request)

    _change(found, case, ask)


def run_illegitimate(
    found: Globals, case: str, *, reason: str, person: str, at: str | None, partners: Sequence[str]
) -> None:
    """Say that suspect product is illegitimate."""
    moment = None if at is None else codec.to_timestamp(parse_time(at, field="--at"))

    def ask(session: Session, case_id: str) -> Awaitable[Any]:
        request = exceptions_pb2.DeclareIllegitimateRequest(
            request_id=request_id(),
            case_id=case_id,
            reason=reason,
            person=person,
            determine_time=moment,
            partners=partners,
        )
        return session.exceptions.DeclareIllegitimate(request)

    _change(found, case, ask)


# --- showing ---


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
