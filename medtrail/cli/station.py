"""``medtrail station``: what those beside a station ask of it, by its token."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.cli.answers import action_name, time_text, verdict_document, verdict_name
from medtrail.cli.main import Globals
from medtrail.cli.network import read_network
from medtrail.cli.network_file import check_station_name
from medtrail.cli.output import ExitCode
from medtrail.cli.setup import ensure_station
from medtrail.errors import ConflictError, MalformedError, MedtrailError
from medtrail.runtime.client import connect_desk
from medtrail.runtime.folder import AuthorityFolder, OrganisationFolder, StationFolder

T = TypeVar("T")

CALL_DEADLINE_S = 70.0
GROUP_SEPARATOR = "\x1d"


@dataclass(frozen=True, slots=True)
class Door:
    """Which station: by name in a running network, or by its folder and address."""

    station: str | None
    folder: Path | None
    address: str | None


def run_add(found: Globals, name: str) -> None:
    """Make a station's folder and show its key.

    Raises:
        ConflictError: --dir holds no authority (AUTHORITY_MISSING), or the station exists (FOLDER_EXISTS).
        MalformedError: No such organisation, or no name.
    """
    check_station_name(name, field="NAME")
    if found.organisation is None:
        message = "say whose station it is"
        raise MalformedError(message, code="ORGANISATION_MISSING", field="--as")
    authority, owner = found.folder / "authority", found.folder / "orgs" / found.organisation
    if not authority.exists() or not owner.exists():
        message = f"{found.folder} holds no authority and {found.organisation}: run `medtrail up` there once"
        raise ConflictError(message, code="AUTHORITY_MISSING", field="--dir")
    organisation = OrganisationFolder(owner)
    target = owner / "stations" / name
    if target.exists():
        raise ConflictError(f"{target} exists; keys are never overwritten", code="FOLDER_EXISTS", field="NAME")
    folder = ensure_station(organisation, name, AuthorityFolder(authority))
    document = {
        "station": name,
        "organisation": found.organisation,
        "folder": str(folder.path),
        "signing_key": folder.signing_key().key_id,
    }

    def draw(console: Console) -> None:
        for key, value in document.items():
            console.print(f"{key:<14} {value}", markup=False, soft_wrap=True)
        console.print("the next `medtrail up` enrols and starts it", markup=False)

    found.output.answer(document, draw)


def _run(found: Globals, door: Door, work: Callable[[Any], Awaitable[T]]) -> T:
    if (door.folder is None) != (door.address is None):
        message = "--folder and --address go together"
        raise MalformedError(message, code="DOOR_INCOMPLETE", field="--address")
    folder, address = door.folder, door.address
    if folder is None or address is None:
        network = read_network(found.folder)
        name = found.organisation
        owner = network.organisations[0] if name is None else network.organisation(name)
        known = network.station(owner.name, door.station)
        folder, address = Path(known.folder), known.address

    async def run() -> T:
        async with connect_desk(address, folder=StationFolder(folder), deadline_s=CALL_DEADLINE_S) as channel:
            return await work(station_pb2_grpc.StationDeskServiceStub(channel))

    return asyncio.run(run())


def lines(texts: Sequence[str] | None) -> Iterator[str]:
    """Yield what was given, or else the lines of standard input as a wedge scanner types them."""
    given = sys.stdin if texts is None or not texts else texts
    for text in given:
        # Line ends are the scanner's, not the label's; a shell passes the group separator on as text.
        scan = text.strip("\r\n").replace("\\x1d", GROUP_SEPARATOR)
        if scan:
            yield scan


# --- scans ---


def run_scan(found: Globals, door: Door, texts: Sequence[str] | None) -> None:
    """Judge scans as they come, and end with 0 if all may be accepted, else 1."""

    async def work(desk: Any) -> bool:  # noqa: ANN401  # the station's stub
        every = True
        async for answer in desk.Scan(_requests(texts)):
            every = every and action_name(answer.verdict.action) == "accept"
            found.output.line(scan_document(answer), scan_text(answer))
        return every

    sys.exit(ExitCode.TRUE if _run(found, door, work) else ExitCode.REFUSED)


async def _requests(texts: Sequence[str] | None) -> AsyncIterator[station_pb2.ScanRequest]:
    coming = lines(texts)
    number = 0
    # A line comes when somebody scans: waiting for it must not keep the verdicts.
    while (scan := await asyncio.to_thread(next, coming, None)) is not None:
        yield station_pb2.ScanRequest(scan_number=number, scan=scan)
        number += 1


def scan_document(answer: station_pb2.ScanResponse) -> dict[str, Any]:
    """Return a verdict of a station with the age of what it rests on."""
    return {
        "scan_number": answer.scan_number,
        "product": answer.product_name or None,
        **verdict_document(answer.verdict),
        "knowledge": knowledge_document(answer.knowledge),
    }


def scan_text(answer: station_pb2.ScanResponse) -> str:
    """Return a verdict of a station as a line for a person."""
    verdict = answer.verdict
    name = f"  {answer.product_name}" if answer.product_name else ""
    head = f"{action_name(verdict.action).upper():<7} {verdict_name(verdict.code)}{name}"
    return f"{head}: {verdict.message} [{knowledge_text(answer.knowledge)}]"


def knowledge_document(knowledge: station_pb2.Knowledge) -> dict[str, Any]:
    """Return how old a station's knowledge is."""
    return {
        "online": knowledge.online,
        "stale_since": time_text(knowledge, "stale_since"),
        "age_seconds": round(knowledge.age_seconds, 3),
        "ledger_time": time_text(knowledge, "ledger_time"),
    }


def knowledge_text(knowledge: station_pb2.Knowledge) -> str:
    """Return the same in words."""
    if knowledge.online:
        return "online"
    if not knowledge.HasField("stale_since"):
        return "offline; nothing was ever heard"
    return f"offline; known {timedelta(seconds=round(knowledge.age_seconds))} ago"


# --- verbs ---


def run_verb(
    found: Globals, door: Door, verb: str, texts: Sequence[str] | None, *, reason: str = "", partial: bool = False
) -> None:
    """Record a verb: what was named together, or each line of standard input by itself.

    Ends with 0; with 1 if a unit was refused, or is in conflict with the service's books.
    """
    groups: Iterator[list[str]] = iter([list(lines(texts))]) if texts else ([scan] for scan in lines(None))

    async def work(desk: Any) -> bool:  # noqa: ANN401  # the station's stub
        every = True
        while (epcs := await asyncio.to_thread(next, groups, None)) is not None:
            try:
                answer = await _CALLS[verb](desk, epcs, reason, partial)
            except MedtrailError as error:
                if texts:
                    raise
                # One odd scan among many is told; those behind it go on.
                every = False
                body = {"code": error.code, "message": error.message, "field": error.field}
                found.output.line({"units": epcs, "error": body}, f"REFUSED {error.code}: {error.message}")
                continue
            document = verb_document(answer)
            every = every and not any(event["conflicts"] for event in document["events"])
            found.output.line(document, verb_text(verb, answer))
        return every

    sys.exit(ExitCode.TRUE if _run(found, door, work) else ExitCode.REFUSED)


def _request_id() -> str:
    return str(uuid.uuid4())


_CALLS: dict[str, Callable[[Any, list[str], str, bool], Awaitable[Any]]] = {
    "receive": lambda desk, epcs, _reason, _partial: desk.Receive(
        station_pb2.ReceiveRequest(request_id=_request_id(), epcs=epcs)
    ),
    "dispense": lambda desk, epcs, _reason, partial: desk.Dispense(
        station_pb2.DispenseRequest(request_id=_request_id(), epcs=epcs, partial=partial)
    ),
    "hold": lambda desk, epcs, reason, _partial: desk.Hold(
        station_pb2.HoldRequest(request_id=_request_id(), epcs=epcs, reason=reason)
    ),
    "observe": lambda desk, epcs, _reason, _partial: desk.Observe(
        station_pb2.ObserveRequest(request_id=_request_id(), epcs=epcs)
    ),
}


def outcome_name(outcome: station_pb2.EventOutcome.ValueType) -> str:
    """Return what became of an event in lower case: ``queued``."""
    return station_pb2.EventOutcome.Name(outcome).removeprefix("EVENT_OUTCOME_").lower()


def event_document(event: station_pb2.StationEvent) -> dict[str, Any]:
    """Return an event of a station."""
    return {
        "event_id": event.event_id,
        "source_seq": event.source_seq,
        "outcome": outcome_name(event.outcome),
        "conflicts": [
            {
                "epc": item.epc,
                "code": item.code,
                "message": item.message,
                "case_id": item.case_id,
                "resolved": item.resolved,
            }
            for item in event.conflicts
        ],
    }


def verb_document(answer: Any) -> dict[str, Any]:  # noqa: ANN401  # the answer of any verb
    """Return what a station recorded."""
    document: dict[str, Any] = {
        "events": [event_document(event) for event in answer.events],
        "knowledge": knowledge_document(answer.knowledge),
    }
    if isinstance(answer, station_pb2.ReceiveResponse):
        document["unit_count"] = answer.unit_count
        document["unadvised"] = list(answer.unadvised_epcs)
        document["missing"] = list(answer.missing_epcs)
    return document


def verb_text(verb: str, answer: Any) -> str:  # noqa: ANN401  # as above
    """Return the same as a line for a person."""
    outcomes = ", ".join(f"{event.source_seq} {outcome_name(event.outcome)}" for event in answer.events)
    conflicts = "".join(
        f"\n  CONFLICT {item.epc}: {item.message} (case {item.case_id})"
        for event in answer.events
        for item in event.conflicts
    )
    unadvised = getattr(answer, "unadvised_epcs", ())
    aside = f"; put aside, nobody advised it: {', '.join(unadvised)}" if unadvised else ""
    return f"{verb}: event {outcomes}{aside} [{knowledge_text(answer.knowledge)}]{conflicts}"


# --- how it stands ---


def run_status(found: Globals, door: Door) -> None:
    """Show how a station stands; end with 1 when something should be looked at."""

    async def work(desk: Any) -> station_pb2.GetStatusResponse:  # noqa: ANN401  # the station's stub
        answer: station_pb2.GetStatusResponse = await desk.GetStatus(station_pb2.GetStatusRequest())
        return answer

    status = _run(found, door, work)
    document = {
        "station": status.station,
        "gln": status.gln,
        "key_id": status.key_id,
        "enrolled": status.enrolled,
        "knowledge": knowledge_document(status.knowledge),
        "queued": {"count": status.queued.count, "since": time_text(status.queued, "since_time")},
        "next_source_seq": status.next_source_seq,
        "units": status.unit_count,
        "conflicts": [event_document(event) for event in status.conflicts],
        "error": {"code": status.error_code, "message": status.error_message} if status.error_code else None,
        "clock_ahead_seconds": round(status.clock_ahead_seconds, 3),
    }

    def draw(console: Console) -> None:
        console.print(f"{status.station} of {status.gln}, {knowledge_text(status.knowledge)}", markup=False)
        enrolled = "enrolled" if status.enrolled else "not enrolled, as far as is known here"
        console.print(f"  key {status.key_id}: {enrolled}", markup=False, soft_wrap=True)
        console.print(f"  {status.unit_count} units in the copy; {status.queued.count} events wait", markup=False)
        console.print(f"  {clock_text(status.clock_ahead_seconds)}", markup=False)
        if status.error_code:
            console.print(f"  {status.error_code}: {status.error_message}", markup=False, style="yellow")
        for event in status.conflicts:
            for item in event.conflicts:
                case = f"case {item.case_id}{', resolved' if item.resolved else ''}"
                text = f"  conflict in event {event.source_seq}: {item.epc}: {item.message} ({case})"
                console.print(text, markup=False, soft_wrap=True, style="dim" if item.resolved else "red")

    found.output.answer(document, draw)
    sys.exit(exit_code(status))


def exit_code(status: station_pb2.GetStatusResponse) -> ExitCode:
    """Return 1 when something stops a station, its clock is wrong, or a case of its events is not resolved; else 0."""
    # Those that are open come first: where all that are listed are resolved, there is no other.
    is_open = any(not item.resolved for event in status.conflicts for item in event.conflicts)
    looked_at = status.error_code or not status.enrolled or is_open
    return ExitCode.REFUSED if looked_at else ExitCode.TRUE


def clock_text(ahead_s: float) -> str:
    """Return in words how a station's clock differed from its service's when that was heard last."""
    if abs(ahead_s) < 1:
        return "clock as the service's"
    return f"clock {timedelta(seconds=round(abs(ahead_s)))} {'ahead of' if ahead_s > 0 else 'behind'} the service's"


def run_sync(found: Globals, door: Door, *, timeout_s: float) -> None:
    """Wait until all that was signed has its answer; end with 3 when it has not."""

    async def work(desk: Any) -> station_pb2.SyncResponse:  # noqa: ANN401  # the station's stub
        answer: station_pb2.SyncResponse = await desk.Sync(station_pb2.SyncRequest(timeout_seconds=timeout_s))
        return answer

    answer = _run(found, door, work)
    body = {
        "complete": answer.complete,
        "queued": answer.queued_count,
        "knowledge": knowledge_document(answer.knowledge),
    }
    words = "all is handed in" if answer.complete else f"{answer.queued_count} events wait"
    found.output.line(body, f"{words} [{knowledge_text(answer.knowledge)}]")
    sys.exit(ExitCode.TRUE if answer.complete else ExitCode.NO_ANSWER)
