"""``medtrail fmd``: verify, supply, decommission and undo, one scanned pack a command."""

import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import Console

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.fmd.v1 import fmd_pb2
from medtrail.cli.answers import verdict_document
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.render import parse_time
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError
from medtrail.fmd import FmdCode, FmdState

Answered = tuple[fmd_pb2.FmdAnswer, list[str]]


def run_verify(found: Globals, scan: str) -> None:
    """Tell the state of a pack: exit 0 when it may be supplied."""

    async def work(session: Session) -> Answered:
        answer = await session.fmd.VerifyState(fmd_pb2.VerifyStateRequest(scan=scan_of(scan)))
        return answer.answer, []

    _run(found, work)


def run_supply(found: Globals, scan: str, *, at: str | None, location: str) -> None:
    """Supply a pack to the public."""
    occasion = occasion_of(at, location)

    async def work(session: Session) -> Answered:
        request = fmd_pb2.SupplyRequest(request_id=str(uuid.uuid4()), scan=scan_of(scan), occasion=occasion)
        answer = await session.fmd.Supply(request)
        return answer.answer, [event.event_id for event in answer.events]

    _run(found, work)


def run_decommission(found: Globals, scan: str, *, state: str, at: str | None, location: str) -> None:
    """Decommission a pack for another reason than supply."""
    occasion, wanted = occasion_of(at, location), state_of(state)

    async def work(session: Session) -> Answered:
        request = fmd_pb2.DeactivateRequest(
            request_id=str(uuid.uuid4()), scan=scan_of(scan), state=wanted, occasion=occasion
        )
        answer = await session.fmd.Deactivate(request)
        return answer.answer, [event.event_id for event in answer.events]

    _run(found, work)


def run_undo(found: Globals, scan: str, *, reason: str, state: str, not_supplied: bool, location: str) -> None:
    """Undo what was done to a pack at the same premises at most 10 days ago."""
    wanted = state_of(state) if state else fmd_pb2.FMD_STATE_UNSPECIFIED

    async def work(session: Session) -> Answered:
        request = fmd_pb2.UndoRequest(
            request_id=str(uuid.uuid4()),
            scan=scan_of(scan),
            state=wanted,
            not_supplied=not_supplied,
            reason=reason,
            occasion=custody_pb2.Occasion(location=location),
        )
        answer = await session.fmd.Undo(request)
        return answer.answer, [event.event_id for event in answer.events]

    _run(found, work)


def scan_of(text: str) -> str:
    """Return a scan with its group separators: a shell passes them on as text."""
    return text.replace("\\x1d", "\x1d")


def occasion_of(at: str | None, location: str) -> custody_pb2.Occasion:
    """Return when and where."""
    moment = None if at is None else codec.to_timestamp(parse_time(at, field="--at"))
    return custody_pb2.Occasion(event_time=moment, location=location)


def state_of(text: str) -> fmd_pb2.FmdState.ValueType:
    """Return a state by its word.

    Raises:
        MalformedError: There is none (STATE_UNKNOWN).
    """
    try:
        state = FmdState(text.replace("-", "_"))
    except ValueError:
        message = f"expected one of {', '.join(FmdState)}; got {text[:40]!r}"
        raise MalformedError(message, code="STATE_UNKNOWN", field="state") from None
    return fmd_pb2.FmdState.Value(f"FMD_STATE_{state.name}")


def _run(found: Globals, work: Callable[[Session], Awaitable[Answered]]) -> None:
    answer, events = run_session(found, work)
    found.output.answer(answer_document(answer, events), lambda console: draw_answer(console, answer, events))
    if answer.code == FmdCode.SCAN_UNREADABLE:
        sys.exit(ExitCode.WRONG_USE)
    sys.exit(ExitCode.TRUE if answer.code == FmdCode.SUCCESS else ExitCode.REFUSED)


def answer_document(answer: fmd_pb2.FmdAnswer, events: list[str]) -> dict[str, Any]:
    """Return an answer."""
    return {
        "done": answer.code == FmdCode.SUCCESS,
        "state": _state_name(answer),
        "code": answer.code,
        "alert": answer.alert or None,
        "kind": answer.kind or None,
        "information": answer.information,
        "provisional": answer.provisional,
        "events": events,
        "verdict": verdict_document(answer.verdict),
    }


def draw_answer(console: Console, answer: fmd_pb2.FmdAnswer, events: list[str]) -> None:
    """Show an answer to a person: whether it was done first, then state and why."""
    done = answer.code == FmdCode.SUCCESS
    alert = f"  alert {answer.alert}" if answer.alert else ""
    console.print(f"[bold {'green' if done else 'red'}]{'DONE' if done else 'NOT DONE'}[/]  ", end="")
    console.print(f"{_state_name(answer).replace('_', ' ')}  {answer.code}{alert}", markup=False)
    console.print(f"  {answer.information}", markup=False)
    if answer.alert:
        hint = "the data of pack and system differ" if answer.kind == "technical" else "the procedure was not kept"
        console.print(f"  {answer.kind}: {hint}", markup=False, style="dim")
    for event_id in events:
        console.print(f"  {event_id}", markup=False, style="dim", soft_wrap=True)


def _state_name(answer: fmd_pb2.FmdAnswer) -> str:
    return fmd_pb2.FmdState.Name(answer.state).removeprefix("FMD_STATE_").lower()
