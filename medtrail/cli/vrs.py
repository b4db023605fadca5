"""``medtrail vrs``: who answers verification requests for a product, and asking about a scanned pack."""

import json
import sys
from typing import Any

from rich.console import Console

from medtrail import codec
from medtrail.api.event.v1 import verdict_pb2
from medtrail.api.verification.v1 import verification_pb2
from medtrail.cli.answers import verdict_document
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.render import format_time
from medtrail.cli.scan import draw_verdict
from medtrail.cli.session import Session, run_session

PAGE = 500
_SAID = ("verificationFailureReason", "additionalInfo")


def run_lookup(found: Globals, gtin: str) -> None:
    """Show who answers for a product."""

    async def work(session: Session) -> verification_pb2.GetResponderResponse:
        return await session.verification.GetResponder(verification_pb2.GetResponderRequest(gtin=gtin))

    answer = run_session(found, work)
    document = {"gtin": gtin, "url": answer.url, "gln": answer.gln, "source": answer.source}

    def draw(console: Console) -> None:
        console.print(f"{answer.url}  GLN {answer.gln}, by {answer.source}", markup=False, soft_wrap=True)

    found.output.answer(document, draw)


def run_verify(found: Globals, scan: str, *, context: str) -> None:
    """Ask the responder of a scanned pack; end with 0 (may be accepted), 1 (hold or reject) or 2 (not readable)."""
    # A shell passes the group separator on as text; brackets and links need none.
    request = verification_pb2.RequestVerificationRequest(scan=scan.replace("\\x1d", "\x1d"), context=context)

    async def work(session: Session) -> verification_pb2.RequestVerificationResponse:
        return await session.verification.RequestVerification(request)

    answer = run_session(found, work)
    document: dict[str, Any] = {
        **verdict_document(answer.verdict),
        "responder": answer.responder or None,
        "url": answer.url or None,
        "response": json.loads(answer.body) if answer.body else None,
    }

    def draw(console: Console) -> None:
        draw_verdict(console, answer.verdict, judged=f"by {answer.responder} at {answer.url}" if answer.url else "")
        if answer.body:
            console.print(f"  {answer.body}", markup=False, style="dim", soft_wrap=True)

    found.output.answer(document, draw)
    if answer.verdict.code == verdict_pb2.VERDICT_CODE_UNREADABLE:
        sys.exit(ExitCode.WRONG_USE)
    accepted = answer.verdict.action == verdict_pb2.VERDICT_ACTION_ACCEPT
    sys.exit(ExitCode.TRUE if accepted else ExitCode.REFUSED)


def run_log(found: Globals) -> None:
    """List the records of all questions about packs, oldest first, one a line."""

    async def work(session: Session) -> None:
        token = ""
        while True:
            request = verification_pb2.ListVerificationsRequest(page_size=PAGE, page_token=token)
            answer = await session.verification.ListVerifications(request)
            for record in answer.records:
                document = record_document(record)
                found.output.line(document, record_line(document))
            token = answer.next_page_token
            if not token:
                return

    run_session(found, work)


def record_document(record: verification_pb2.VerificationRecord) -> dict[str, Any]:
    """Return a record of a question."""
    kind = verification_pb2.VerificationKind.Name(record.kind).removeprefix("VERIFICATION_KIND_").lower()
    return {
        "number": record.number,
        "time": format_time(codec.from_timestamp(record.record_time, field="record_time")),
        "kind": kind,
        "caller": record.caller or None,
        "requester": record.requester or None,
        "responder": record.responder or None,
        "context": record.context or None,
        "question": record.question,
        "http_status": record.http_status or None,
        "answer": record.answer,
        "corr_uuid": record.corr_uuid or None,
    }


def answer_words(answer: str) -> str:
    """Return a response's body in few words; another answer as it is."""
    try:
        data = json.loads(answer)["data"]
        verified = "verified" if data["verified"] else "not verified"
    except (ValueError, KeyError, TypeError):
        return answer
    return ", ".join([verified, *(data[name] for name in _SAID if name in data)])


def record_line(document: dict[str, Any]) -> str:
    """Return a record as one line: who asked what, why, and what was answered."""
    status = f"{document['http_status']} " if document["http_status"] else ""
    question = document["question"].replace("\x1d", "<GS>")
    who = f"{document['requester']} asked {document['responder']}"
    answer = f"{status}{answer_words(document['answer'])}"
    return f"{document['number']:>6}  {document['time']}  {who}: {question} ({document['context']}) → {answer}"
