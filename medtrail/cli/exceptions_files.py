"""``medtrail exceptions form3911``, ``export`` and ``import``: what goes to and comes from files."""

import json
import sys
from pathlib import Path
from typing import Any

from medtrail import codec
from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.cli.exceptions import find_case, request_id
from medtrail.cli.exceptions_view import case_document, draw_case, message_document, show_case
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.render import parse_time
from medtrail.cli.session import Session, run_session
from medtrail.errors import TooLargeError
from medtrail.pdg import MAX_MESSAGE_BYTES


def run_form(found: Globals, case: str, *, details: Path | None, pdf: Path | None, out: Path | None) -> None:
    """Fill Form FDA 3911: exit 1 while fields are missing."""
    filled = b"" if details is None else details.read_bytes()

    async def work(session: Session) -> exceptions_pb2.GetForm3911Response:
        request = exceptions_pb2.GetForm3911Request(case_id=await find_case(session, case), details=filled)
        return await session.exceptions.GetForm3911(request)

    answer = run_session(found, work)
    if pdf is not None:
        pdf.write_bytes(answer.pdf)
    if out is not None:
        out.write_bytes(answer.form)
    missing = list(answer.missing_fields)
    document: dict[str, Any] = {"form": json.loads(answer.form), "missing_fields": missing}

    def draw(console: Any) -> None:  # noqa: ANN401  # a console
        for name, value in document["form"].items():
            if value:
                console.print(f"  {name}: {', '.join(value) if isinstance(value, list) else value}", markup=False)
        console.print(f"still needed: {', '.join(missing)}" if missing else "complete", markup=False)

    found.output.answer(document, draw)
    if missing:
        sys.exit(ExitCode.REFUSED)


def run_submitted(found: Globals, case: str, *, at: str | None, incident: str) -> None:
    """Record that Form FDA 3911 was submitted."""
    moment = None if at is None else codec.to_timestamp(parse_time(at, field="--at"))

    async def work(session: Session) -> exceptions_pb2.ExceptionCase:
        request = exceptions_pb2.RecordForm3911Request(
            request_id=request_id(),
            case_id=await find_case(session, case),
            submit_time=moment,
            incident_number=incident,
        )
        return (await session.exceptions.RecordForm3911(request)).case

    show_case(found, run_session(found, work))


def run_export(found: Globals, case: str, folder: Path) -> None:
    """Write the PDG messages of a case, each as it was made, numbered in their order."""

    async def work(session: Session) -> list[exceptions_pb2.CaseMessage]:
        request = exceptions_pb2.ExportMessagesRequest(case_id=await find_case(session, case))
        messages: list[exceptions_pb2.CaseMessage] = []
        while True:
            answer = await session.exceptions.ExportMessages(request)
            messages += answer.messages
            if not answer.next_page_token:
                return messages
            request.page_token = answer.next_page_token

    messages = run_session(found, work)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, message in enumerate(messages, 1):
        document = message_document(message)
        path = folder / f"{number:03d}-{document['kind']}-{message.message_id}.json"
        path.write_bytes(message.pdg_message)
        written.append({"file": str(path), **document})

    def draw(console: Any) -> None:  # noqa: ANN401  # a console
        for item in written:
            console.print(item["file"], markup=False, soft_wrap=True)
        if not written:
            console.print("the case has no PDG messages")

    found.output.answer({"messages": written}, draw)


def run_import(found: Globals, file: Path, *, partner: str) -> None:
    """Take in a PDG message."""
    if file.stat().st_size > MAX_MESSAGE_BYTES:
        message = f"a PDG message has at most {MAX_MESSAGE_BYTES} bytes"
        raise TooLargeError(message, code="PDG_TOO_LARGE", field=str(file))
    request = exceptions_pb2.ImportMessageRequest(
        request_id=request_id(), pdg_message=file.read_bytes(), partner=partner
    )

    async def work(session: Session) -> exceptions_pb2.ImportMessageResponse:
        return await session.exceptions.ImportMessage(request)

    answer = run_session(found, work)

    def draw(console: Any) -> None:  # noqa: ANN401  # a console
        draw_case(console, answer.case)
        for remark in answer.remarks:
            console.print(f"odd: {remark}", markup=False, style="yellow")

    found.output.answer({"case": case_document(answer.case), "remarks": list(answer.remarks)}, draw)
