"""``medtrail exceptions``: what is asked of the service about cases."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.cli.exceptions_view import case_document, draw_cases, show_case
from medtrail.cli.main import Globals
from medtrail.cli.render import parse_time
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError

MAX_LISTED = 1000


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
    documents = [case_document(case) for case in cases]
    found.output.answer({"cases": documents}, lambda console: draw_cases(console, cases))


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
