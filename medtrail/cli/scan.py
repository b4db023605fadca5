"""``medtrail scan``."""

import sys
from collections.abc import AsyncIterator
from datetime import datetime

from rich.console import Console

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import verdict_pb2
from medtrail.cli.answers import action_name, verdict_document, verdict_name
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.render import parse_time
from medtrail.cli.session import Session, run_session
from medtrail.errors import UnavailableError

_COLOUR = {"accept": "green", "hold": "yellow", "reject": "red", "rescan": "magenta"}


def run_scan(found: Globals, text: str, *, at: str | None) -> None:
    """Judge one scan and end with 0 (accept), 1 (hold or reject) or 2 (the scan could not be read)."""
    moment = None if at is None else parse_time(at, field="--at")
    # A shell passes the group separator on as text; brackets and links need none.
    verdict = run_session(found, lambda session: judge(session, text.replace("\\x1d", "\x1d"), moment))
    found.output.answer(verdict_document(verdict), lambda console: draw_verdict(console, verdict))
    if verdict.code == verdict_pb2.VERDICT_CODE_UNREADABLE:
        sys.exit(ExitCode.WRONG_USE)
    sys.exit(ExitCode.TRUE if verdict.action == verdict_pb2.VERDICT_ACTION_ACCEPT else ExitCode.REFUSED)


async def judge(session: Session, text: str, moment: datetime | None) -> verdict_pb2.Verdict:
    """Return the verdict on one scan.

    Raises:
        UnavailableError: The service ended the stream without an answer.
    """
    async for answer in judge_all(session, [(text, moment)]):
        return answer.verdict
    raise UnavailableError("the service gave no verdict", code="NO_VERDICT")


async def judge_all(
    session: Session, scans: list[tuple[str, datetime | None]]
) -> AsyncIterator[custody_pb2.ScanIncomingResponse]:
    """Yield one verdict a scan, in order."""

    async def requests() -> AsyncIterator[custody_pb2.ScanIncomingRequest]:
        for number, (text, moment) in enumerate(scans):
            yield custody_pb2.ScanIncomingRequest(
                scan_number=number, scan=text, judge_time=None if moment is None else codec.to_timestamp(moment)
            )

    async for answer in session.custody.ScanIncoming(requests()):
        yield answer


def draw_verdict(console: Console, verdict: verdict_pb2.Verdict, *, judged: str = "") -> None:
    """Show a verdict to a person: what to do first, then why; ``judged`` says by whom, if not against the log."""
    action = action_name(verdict.action)
    console.print(f"[bold {_COLOUR.get(action, 'white')}]{action.upper()}[/]  {verdict_name(verdict.code)}")
    console.print(f"  {verdict.message}", markup=False)
    if verdict.epc:
        console.print(f"  {verdict.epc}", markup=False, soft_wrap=True)
    facts = [
        f"lot {verdict.lot}" if verdict.lot else "",
        f"expiry {verdict.expiry}" if verdict.expiry else "",
        f"holder {verdict.holder}" if verdict.holder else "",
        f"recalls {', '.join(verdict.recall_ids)}" if verdict.recall_ids else "",
        f"alerts {', '.join(verdict.alerts)}" if verdict.alerts else "",
        "provisional: data are missing or not confirmed" if verdict.provisional else "",
        f"judged {judged or _against(verdict)}",
    ]
    console.print("  " + "; ".join(fact for fact in facts if fact), markup=False, style="dim")


def _against(verdict: verdict_pb2.Verdict) -> str:
    return f"against {verdict.tree_size} log entries" if verdict.tree_size else "without the ledger"
