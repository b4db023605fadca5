"""What the commands about holds do: ``medtrail hold``, ``release``, ``expiring``, ``holds``, ``release-requests``."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.holds.v1 import holds_pb2
from medtrail.cli.answers import time_text
from medtrail.cli.fmd import occasion_of, scan_of
from medtrail.cli.main import Globals
from medtrail.cli.render import short_epc
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError, NotFoundError

T = TypeVar("T")

PAGE = 500


def code_of(text: str) -> custody_pb2.HoldCode.ValueType:
    """Return a hold code by its name; unspecified for none.

    Raises:
        MalformedError: There is none (HOLD_CODE_UNKNOWN).
    """
    if not text:
        return custody_pb2.HOLD_CODE_UNSPECIFIED
    name = f"HOLD_CODE_{text.upper().replace('-', '_')}"
    if name not in custody_pb2.HoldCode.keys() or name == "HOLD_CODE_UNSPECIFIED":  # noqa: SIM118  # no mapping
        names = ", ".join(item.removeprefix("HOLD_CODE_") for item in custody_pb2.HoldCode.keys()[1:])
        message = f"expected one of {names}; got {text[:40]!r}"
        raise MalformedError(message, code="HOLD_CODE_UNKNOWN", field="--code")
    return custody_pb2.HoldCode.Value(name)


def code_name(number: custody_pb2.HoldCode.ValueType) -> str:
    """Return the name of a hold code."""
    return custody_pb2.HoldCode.Name(number).removeprefix("HOLD_CODE_")


def when(item: Message, name: str) -> str:
    """Return the moment of a field for a table; nothing where it is not set."""
    return time_text(item, name) or ""


def request_id() -> str:
    """Return a new request id."""
    return str(uuid.uuid4())


def run_hold(found: Globals, epcs: Sequence[str], *, code: str, reason: str, at: str | None, location: str) -> None:
    """Put units on hold."""
    request = custody_pb2.HoldRequest(
        request_id=request_id(),
        epcs=[scan_of(item) for item in epcs],
        reason=reason,
        code=code_of(code),
        occasion=occasion_of(at, location),
    )

    async def work(session: Session) -> custody_pb2.HoldResponse:
        return await session.custody.Hold(request)

    tell_events(found, run_session(found, work).events, f"{len(epcs)} on hold")


def run_release(
    found: Globals, epcs: Sequence[str], *, codes: Sequence[str], reason: str, at: str | None, location: str
) -> None:
    """End holds of units."""
    request = custody_pb2.ReleaseRequest(
        request_id=request_id(),
        epcs=[scan_of(item) for item in epcs],
        reason=reason,
        codes=[code_of(code) for code in codes],
        occasion=occasion_of(at, location),
    )

    async def work(session: Session) -> custody_pb2.ReleaseResponse:
        return await session.custody.Release(request)

    tell_events(found, run_session(found, work).events, f"{len(epcs)} released")


def tell_events(found: Globals, events: Iterable[custody_pb2.AcceptedEvent], done: str, **facts: object) -> None:
    """Say what was done, and by which events."""
    names = [event.event_id for event in events]

    def draw(console: Console) -> None:
        console.print(f"[bold green]DONE[/]  {done}")
        for name in names:
            console.print(f"  {name}", markup=False, style="dim", soft_wrap=True)

    found.output.answer({**facts, "events": names}, draw)


# --- requests ---


def run_request(found: Globals, epcs: Sequence[str], *, codes: Sequence[str], reason: str, by: str) -> None:
    """Ask another person to release units."""
    request = holds_pb2.RequestReleaseRequest(
        request_id=request_id(),
        epcs=[scan_of(item) for item in epcs],
        codes=[code_of(code) for code in codes],
        reason=reason,
    )

    async def work(session: Session) -> holds_pb2.RequestReleaseResponse:
        return await session.holds.RequestRelease(request)

    _tell_request(found, run_session(found, work, person=by).release_request)


def run_approve(found: Globals, name: str, *, reason: str, by: str, at: str | None, location: str) -> None:
    """Approve a request, and release."""
    occasion = occasion_of(at, location)

    async def work(session: Session) -> holds_pb2.ApproveReleaseResponse:
        request = holds_pb2.ApproveReleaseRequest(
            request_id=request_id(),
            release_request_id=await _request_named(session, name),
            reason=reason,
            occasion=occasion,
        )
        return await session.holds.ApproveRelease(request)

    answer = run_session(found, work, person=by)
    _tell_request(found, answer.release_request, [event.event_id for event in answer.events])


def run_reject(found: Globals, name: str, *, reason: str, by: str) -> None:
    """End a request without release."""

    async def work(session: Session) -> holds_pb2.RejectReleaseResponse:
        request = holds_pb2.RejectReleaseRequest(
            request_id=request_id(), release_request_id=await _request_named(session, name), reason=reason
        )
        return await session.holds.RejectRelease(request)

    _tell_request(found, run_session(found, work, person=by).release_request)


async def _request_named(session: Session, name: str) -> str:
    requests = session_requests(session, holds_pb2.RELEASE_REQUEST_STATE_UNSPECIFIED)
    return await one_named(name, (item.release_request_id async for item in requests), "release request")


async def one_named(name: str, ids: AsyncIterator[str], what: str) -> str:
    """Return the one id that a text begins.

    Raises:
        NotFoundError: None does, or several do (NAME_AMBIGUOUS).
    """
    matching = [item async for item in ids if item.startswith(name)]
    if len(matching) != 1:
        message = f"{len(matching)} {what}s begin with {name[:40]!r}"
        raise NotFoundError(message, code="NAME_AMBIGUOUS" if matching else "NAME_UNKNOWN", field=what)
    return matching[0]


def run_requests(found: Globals, *, state: str) -> None:
    """List requests for release."""
    name = f"RELEASE_REQUEST_STATE_{state.upper()}" if state else "RELEASE_REQUEST_STATE_UNSPECIFIED"
    if name not in holds_pb2.ReleaseRequestState.keys():  # noqa: SIM118  # no mapping
        message = f"expected open, approved or rejected; got {state[:40]!r}"
        raise MalformedError(message, code="STATE_UNKNOWN", field="--state")
    wanted = holds_pb2.ReleaseRequestState.Value(name)

    async def work(session: Session) -> list[holds_pb2.ReleaseRequest]:
        return [item async for item in session_requests(session, wanted)]

    requests = run_session(found, work)

    def draw(console: Console) -> None:
        rows = [
            (
                item.release_request_id[:8],
                _state_name(item),
                item.requester,
                item.decider,
                _what(item),
                item.reason,
                when(item, "request_time"),
            )
            for item in requests
        ]
        draw_table(console, ("request", "state", "asked by", "decided by", "what", "why", "asked"), rows)

    found.output.answer({"release_requests": [_request_document(item) for item in requests]}, draw)


async def session_requests(
    session: Session, state: holds_pb2.ReleaseRequestState.ValueType
) -> AsyncIterator[holds_pb2.ReleaseRequest]:
    """Yield requests for release, newest first."""
    token = ""
    while True:
        answer = await session.holds.ListReleaseRequests(
            holds_pb2.ListReleaseRequestsRequest(state=state, page_size=PAGE, page_token=token)
        )
        for item in answer.release_requests:
            yield item
        token = answer.next_page_token
        if not token:
            return


def _state_name(item: holds_pb2.ReleaseRequest) -> str:
    return holds_pb2.ReleaseRequestState.Name(item.state).removeprefix("RELEASE_REQUEST_STATE_").lower()


def _what(item: holds_pb2.ReleaseRequest) -> str:
    if item.lot_hold_id:
        return f"lot hold {item.lot_hold_id[:8]}"
    first = short_epc(item.epcs[0])
    return first if len(item.epcs) == 1 else f"{first} and {len(item.epcs) - 1} more"


def _request_document(item: holds_pb2.ReleaseRequest) -> dict[str, Any]:
    return {
        "release_request_id": item.release_request_id,
        "state": _state_name(item),
        "epcs": list(item.epcs),
        "lot_hold_id": item.lot_hold_id or None,
        "codes": [code_name(code) for code in item.codes],
        "reason": item.reason,
        "hold_reasons": list(item.hold_reasons),
        "requester": item.requester,
        "decider": item.decider or None,
        "decision_reason": item.decision_reason or None,
    }


def _tell_request(found: Globals, item: holds_pb2.ReleaseRequest, events: Sequence[str] = ()) -> None:
    def draw(console: Console) -> None:
        console.print(f"[bold]{_state_name(item).upper()}[/]  {item.release_request_id}  {_what(item)}")
        console.print(f"  asked by {item.requester}: {item.reason}", markup=False)
        for line in item.hold_reasons:
            console.print(f"  ends {line}", markup=False)
        if item.decider:
            console.print(f"  decided by {item.decider} {item.decision_reason}".rstrip(), markup=False)
        for name in events:
            console.print(f"  {name}", markup=False, style="dim", soft_wrap=True)

    found.output.answer({**_request_document(item), "events": list(events)}, draw)


# --- lots ---


def run_hold_lot(found: Globals, gtin: str, lot: str, *, code: str, reason: str) -> None:
    """Put a lot on hold."""
    request = holds_pb2.HoldLotRequest(request_id=request_id(), gtin=gtin, lot=lot, code=code_of(code), reason=reason)

    async def work(session: Session) -> holds_pb2.HoldLotResponse:
        return await session.holds.HoldLot(request)

    answer = run_session(found, work)
    done = f"lot {lot}: {answer.unit_count} packs on hold ({answer.lot_hold.lot_hold_id})"
    facts = {"lot_hold_id": answer.lot_hold.lot_hold_id, "unit_count": answer.unit_count}
    tell_events(found, answer.events, done, **facts)


def run_release_lot(found: Globals, name: str, *, reason: str, request: bool, by: str) -> None:
    """End the hold of a lot, or ask another person to."""

    async def ask(session: Session) -> holds_pb2.RequestReleaseResponse:
        lot_hold_id = await _lot_named(session, name)
        return await session.holds.RequestRelease(
            holds_pb2.RequestReleaseRequest(request_id=request_id(), lot_hold_id=lot_hold_id, reason=reason)
        )

    async def work(session: Session) -> holds_pb2.ReleaseLotResponse:
        lot_hold_id = await _lot_named(session, name)
        return await session.holds.ReleaseLot(
            holds_pb2.ReleaseLotRequest(request_id=request_id(), lot_hold_id=lot_hold_id, reason=reason)
        )

    if request:
        _tell_request(found, run_session(found, ask, person=by).release_request)
        return
    answer = run_session(found, work, person=by)
    tell_events(found, answer.events, f"{answer.unit_count} packs released", unit_count=answer.unit_count)


async def _lots(session: Session, *, include_released: bool) -> AsyncIterator[holds_pb2.LotHold]:
    token = ""
    while True:
        answer = await session.holds.ListLotHolds(
            holds_pb2.ListLotHoldsRequest(include_released=include_released, page_size=PAGE, page_token=token)
        )
        for item in answer.lot_holds:
            yield item
        token = answer.next_page_token
        if not token:
            return


async def _lot_named(session: Session, name: str) -> str:
    lots = _lots(session, include_released=True)
    return await one_named(name, (item.lot_hold_id async for item in lots), "lot hold")


def run_lots(found: Globals, *, include_released: bool) -> None:
    """List lots on hold."""

    async def work(session: Session) -> list[holds_pb2.LotHold]:
        return [item async for item in _lots(session, include_released=include_released)]

    lots = run_session(found, work)

    def released(item: holds_pb2.LotHold) -> str:
        return when(item, "release_time")

    def draw(console: Console) -> None:
        rows = [
            (
                item.lot_hold_id[:8],
                item.gtin,
                item.lot,
                code_name(item.code),
                item.reason,
                when(item, "hold_time"),
                released(item),
            )
            for item in lots
        ]
        draw_table(console, ("lot hold", "GTIN", "lot", "code", "why", "since", "released"), rows)

    documents = [
        {
            "lot_hold_id": item.lot_hold_id,
            "gtin": item.gtin,
            "lot": item.lot,
            "code": code_name(item.code),
            "reason": item.reason,
            "hold_time": time_text(item, "hold_time"),
            "release_time": released(item) or None,
        }
        for item in lots
    ]
    found.output.answer({"lot_holds": documents}, draw)


def all_pages(
    page: Callable[[Session, str], Awaitable[tuple[Sequence[T], str]]],
) -> Callable[[Session], Awaitable[list[T]]]:
    """Return work that reads all pages of a list."""

    async def work(session: Session) -> list[T]:
        found: list[T] = []
        token = ""
        while True:
            items, token = await page(session, token)
            found += items
            if not token:
                return found

    return work


def draw_table(console: Console, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw rows under names; nothing but a word where there are none."""
    if not rows:
        console.print("none", style="dim")
        return
    table = Table(*names, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)
