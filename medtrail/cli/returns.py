"""``medtrail returns``: goods that go back, and goods that come back."""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.returns.v1 import returns_pb2
from medtrail.cli.answers import time_text
from medtrail.cli.fmd import occasion_of, scan_of
from medtrail.cli.holds import PAGE, all_pages, draw_table, request_id, tell_events, when
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.render import parse_time, short_epc
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError, MedtrailError

SCANS_PER_REQUEST = 200
_PURPOSES = {
    "": custody_pb2.RETURN_PURPOSE_UNSPECIFIED,
    "resale": custody_pb2.RETURN_PURPOSE_RESALE,
    "recall": custody_pb2.RETURN_PURPOSE_RECALL,
    "destruction": custody_pb2.RETURN_PURPOSE_DESTRUCTION,
}


def run_send(
    found: Globals,
    epcs: Sequence[str],
    *,
    to: str,
    reason: str,
    rma: str,
    purpose: str,
    at: str | None,
    location: str,
) -> None:
    """Send units back."""
    if purpose not in _PURPOSES:
        message = f"expected resale, recall or destruction; got {purpose[:40]!r}"
        raise MalformedError(message, code="PURPOSE_UNKNOWN", field="--purpose")
    request = custody_pb2.ReturnRequest(
        request_id=request_id(),
        epcs=[scan_of(item) for item in epcs],
        destination_party=to,
        reason=reason,
        return_authorisation=rma,
        purpose=_PURPOSES[purpose],
        occasion=occasion_of(at, location),
    )

    async def work(session: Session) -> custody_pb2.ReturnResponse:
        return await session.custody.Return(request)

    tell_events(found, run_session(found, work).events, f"{len(epcs)} sent back to {to}")


def run_authorise(
    found: Globals, customer: str, epcs: Sequence[str], *, number: str, reason: str, until: str | None
) -> None:
    """Give a customer a number."""
    end = None if until is None else codec.to_timestamp(parse_time(until, field="--until"))
    request = returns_pb2.AuthoriseReturnRequest(
        request_id=request_id(),
        customer=customer,
        number=number,
        epcs=[scan_of(item) for item in epcs],
        reason=reason,
        expire_time=end,
    )

    async def work(session: Session) -> returns_pb2.AuthoriseReturnResponse:
        return await session.returns.AuthoriseReturn(request)

    given = run_session(found, work).authorisation
    found.output.answer(_authorisation(given), lambda console: _draw_authorisations(console, [given]))


def run_authorisations(found: Globals) -> None:
    """List authorisations."""

    async def page(session: Session, token: str) -> tuple[Sequence[returns_pb2.ReturnAuthorisation], str]:
        answer = await session.returns.ListReturnAuthorisations(
            returns_pb2.ListReturnAuthorisationsRequest(page_size=PAGE, page_token=token)
        )
        return answer.authorisations, answer.next_page_token

    items = run_session(found, all_pages(page))
    document = {"authorisations": [_authorisation(item) for item in items]}
    found.output.answer(document, lambda console: _draw_authorisations(console, items))


def _authorisation(item: returns_pb2.ReturnAuthorisation) -> dict[str, Any]:
    return {
        "number": item.number,
        "customer": item.customer,
        "unit_count": item.unit_count,
        "returned_count": item.returned_count,
        "reason": item.reason or None,
        "expire_time": time_text(item, "expire_time"),
    }


def _draw_authorisations(console: Console, items: Sequence[returns_pb2.ReturnAuthorisation]) -> None:
    rows = [
        (
            item.number,
            item.customer,
            str(item.unit_count or "any"),
            str(item.returned_count),
            when(item, "expire_time"),
            item.reason,
        )
        for item in items
    ]
    draw_table(console, ("number", "customer", "units", "came back", "until", "why"), rows)


# --- taking back ---


def run_accept(
    found: Globals,
    scans: Sequence[str],
    *,
    file: Path | None,
    customer: str,
    rma: str,
    at: str | None,
    location: str,
) -> None:
    """Take packs back: a line each, as they are judged."""
    occasion = occasion_of(at, location)

    async def requests() -> AsyncIterator[returns_pb2.AcceptReturnsRequest]:
        for group in _groups(_scans(scans, file)):
            yield returns_pb2.AcceptReturnsRequest(
                request_id=request_id(),
                scans=group,
                customer=customer,
                return_authorisation=rma,
                occasion=occasion,
            )

    async def work(session: Session) -> tuple[int, int]:
        restocked = others = 0
        async for answer in session.returns.AcceptReturns(requests()):
            if answer.error_code:
                raise MedtrailError(answer.error_message, code=answer.error_code)
            for item in answer.packs:
                found.output.line(_pack_document(item), _pack_text(item))
                restocked += item.restocked
                others += not item.restocked
        return restocked, others

    restocked, others = run_session(found, work)
    if not found.output.as_json:
        found.output.console.print(f"{restocked} restocked, {others} not")
    sys.exit(ExitCode.REFUSED if others else ExitCode.TRUE)


def _scans(scans: Sequence[str], file: Path | None) -> Iterator[str]:
    if file is not None:
        with file.open(encoding="utf-8") as lines:
            yield from (line.strip("\r\n") for line in lines if line.strip())
    elif not scans or list(scans) == ["-"]:
        yield from (line.strip("\r\n") for line in sys.stdin if line.strip())
    else:
        yield from scans


def _groups(scans: Iterator[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for scan in scans:
        group.append(scan_of(scan))
        if len(group) == SCANS_PER_REQUEST:
            yield group
            group = []
    if group:
        yield group


def _pack_document(item: returns_pb2.ReturnedPack) -> dict[str, Any]:
    return {
        "epc": item.epc or None,
        "restocked": item.restocked,
        "recorded": item.recorded,
        "codes": list(item.codes),
        "message": item.message,
        "case_id": item.case_id or None,
    }


def _pack_text(item: returns_pb2.ReturnedPack) -> str:
    return f"{'RESTOCKED' if item.restocked else 'NOT RESTOCKED':<14} {short_epc(item.epc)}  {item.message}"


def run_list(found: Globals, *, customer: str, held: bool) -> None:
    """List what came back."""

    async def page(session: Session, token: str) -> tuple[Sequence[returns_pb2.ReturnRecord], str]:
        answer = await session.returns.ListReturns(
            returns_pb2.ListReturnsRequest(customer=customer, only_held=held, page_size=PAGE, page_token=token)
        )
        return answer.returns, answer.next_page_token

    items = run_session(found, all_pages(page))

    def draw(console: Console) -> None:
        rows = [
            (
                short_epc(item.epc),
                item.customer,
                item.return_authorisation,
                "restocked" if item.restocked else ", ".join(item.codes),
                when(item, "receive_time"),
            )
            for item in items
        ]
        draw_table(console, ("pack", "customer", "authorisation", "outcome", "came"), rows)

    documents = [
        {
            "epc": item.epc,
            "customer": item.customer or None,
            "return_authorisation": item.return_authorisation or None,
            "restocked": item.restocked,
            "codes": list(item.codes),
            "receive_time": time_text(item, "receive_time"),
        }
        for item in items
    ]
    found.output.answer({"returns": documents}, draw)


# --- recalls ---


def run_recalled(found: Globals, recall_id: str, *, to: str, rma: str, at: str | None, location: str) -> None:
    """Send all packs here under a recall back, call by call."""
    occasion = occasion_of(at, location)

    async def work(session: Session) -> tuple[list[custody_pb2.AcceptedEvent], int]:
        events: list[custody_pb2.AcceptedEvent] = []
        count = 0
        while True:
            answer = await session.returns.ReturnRecalled(
                returns_pb2.ReturnRecalledRequest(
                    request_id=request_id(),
                    recall_id=recall_id,
                    destination_party=to,
                    return_authorisation=rma,
                    occasion=occasion,
                )
            )
            events += answer.events
            count += answer.unit_count
            if not answer.remaining_count:
                return events, count

    events, count = run_session(found, work)
    tell_events(found, events, f"{count} packs sent back", unit_count=count)


def run_count(found: Globals, recall_id: str) -> None:
    """Count the packs that a recall covers."""

    async def work(session: Session) -> returns_pb2.CountRecallReturnsResponse:
        return await session.returns.CountRecallReturns(returns_pb2.CountRecallReturnsRequest(recall_id=recall_id))

    answer = run_session(found, work)
    counts = {field.name.removesuffix("_count"): getattr(answer, field.name) for field in answer.DESCRIPTOR.fields}

    def draw(console: Console) -> None:
        draw_table(console, ("what", "packs"), [(name.replace("_", " "), str(value)) for name, value in counts.items()])

    found.output.answer(counts, draw)
