"""``medtrail receive scan``: what a wedge scanner types goes to the service, and each answer comes back on a line.

A station numbers its scans and keeps each until it has the answer. When the service goes away and comes back, what has
no answer is sent again under the same numbers; a command that is started anew goes on behind the last number used.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO, Any

from medtrail.api.receiving.v1 import receiving_pb2 as pb
from medtrail.cli.answers import verdict_document
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode, Output
from medtrail.cli.receive import (
    COLOURS,
    PAGE,
    code_name,
    counts_document,
    counts_text,
    delivery_of,
    new_id,
)
from medtrail.cli.render import short_epc
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError, MedtrailError, UnavailableError

AHEAD = 64
"""Scans that may wait for their answers."""
PATIENCE_S = 60.0
PAUSE_S = 0.5
_GOOD = frozenset(
    {
        pb.RECONCILIATION_CODE_MATCH,
        pb.RECONCILIATION_CODE_OTHER_CONTAINER,
        pb.RECONCILIATION_CODE_ALREADY_SCANNED,
    }
)


@dataclass(slots=True)
class Keyboard:
    """What the next scan's lines before it have said."""

    taken_from: str = ""
    condition: pb.UnitCondition.ValueType = pb.UNIT_CONDITION_UNSPECIFIED

    def command(self, line: str) -> bool:
        """Take in a command that says something of later scans; return whether it is a scan by itself.

        Raises:
            MalformedError: There is no such command (COMMAND_UNKNOWN).
        """
        name, _, rest = line[1:].partition(" ")
        if name == "damaged":
            self.condition = pb.UNIT_CONDITION_DAMAGED
        elif name == "from":
            self.taken_from = rest.strip()
        elif name == "unreadable":
            self.condition = pb.UNIT_CONDITION_LABEL_UNREADABLE
            return True
        else:
            message = f"expected :damaged, :unreadable, :from or :undo, got {line[:40]!r}"
            raise MalformedError(message, code="COMMAND_UNKNOWN", field="line")
        return False


@dataclass(slots=True)
class Bay:
    """A station at a delivery.

    Attributes:
        number: Of its last scan.
        unanswered: By number, in order.
        last: The delivery's number of the last scan that was answered; 0: none.
        good: All answers were as advised.
    """

    session: Session
    output: Output
    delivery_id: str
    station: str
    number: int = 0
    unanswered: dict[int, pb.ScanDeliveryRequest] = field(default_factory=dict)
    last: int = 0
    good: bool = True
    lines: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    keyboard: Keyboard = field(default_factory=Keyboard)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    ended: bool = False

    async def begin(self) -> None:
        """Find the last number that the station used in this delivery."""
        token = ""
        while True:
            answer = await self.session.receiving.ListDeliveryScans(
                pb.ListDeliveryScansRequest(delivery_id=self.delivery_id, page_size=PAGE, page_token=token)
            )
            own = [scan.scan_number for scan in answer.scans if scan.station == self.station]
            self.number = max([self.number, *own])
            token = answer.next_page_token
            if not token:
                return

    async def run(self) -> None:
        """Send and print until the input ends and all is answered.

        Raises:
            UnavailableError: The service stayed away.
        """
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump())
            waited_s = 0.0
            while not (self.ended and not self.unanswered):
                before = self.last
                try:
                    await self._stream()
                except UnavailableError:
                    waited_s = 0.0 if self.last != before else waited_s + PAUSE_S
                    if waited_s > PATIENCE_S:
                        pump.cancel()
                        raise
                    await asyncio.sleep(PAUSE_S)

    async def _stream(self) -> None:
        async for answer in self.session.receiving.ScanDelivery(self._requests()):
            async with self.news:
                self.unanswered.pop(answer.scan_number, None)
                self.last = answer.delivery_scan_number
                self.good &= answer.code in _GOOD
                self._print(answer)
                self.news.notify_all()

    async def _requests(self) -> AsyncIterator[pb.ScanDeliveryRequest]:
        """Yield all that has no answer, and then what comes. Nothing is taken from anywhere: a stream may break."""
        sent = 0
        while True:
            async with self.news:
                await self.news.wait_for(lambda: self.ended or max(self.unanswered, default=0) > sent)  # noqa: B023
                fresh = [request for number, request in self.unanswered.items() if number > sent]
            if not fresh:
                return
            for request in fresh:
                sent = request.scan_number
                yield request

    async def _pump(self) -> None:
        """Turn lines into requests; what cannot be done is said, and the next line is read."""
        while (line := await self.lines.get()) is not None:
            try:
                await self._take(line)
            except MedtrailError as error:
                self.good = False
                self.output.line({"error": {"code": error.code, "message": error.message}}, f"{error.code} {error}")
        async with self.news:
            self.ended = True
            self.news.notify_all()

    async def _until(self, most: int) -> None:
        async with self.news:
            await self.news.wait_for(lambda: len(self.unanswered) <= most)

    async def _take(self, line: str) -> None:
        text = line.strip(" \r\n")
        if not text:
            return
        if text.startswith(":"):
            if text == ":undo":
                await self._undo()
                return
            if not self.keyboard.command(text):
                return
            text = ""
        await self._until(AHEAD - 1)
        self.number += 1
        request = pb.ScanDeliveryRequest(
            delivery_id=self.delivery_id,
            station=self.station,
            scan_number=self.number,
            scan=text,
            container=self.keyboard.taken_from,
            condition=self.keyboard.condition,
        )
        self.keyboard.condition = pb.UNIT_CONDITION_UNSPECIFIED
        async with self.news:
            self.unanswered[request.scan_number] = request
            self.news.notify_all()

    async def _undo(self) -> None:
        await self._until(0)
        if not self.last:
            message = "there is no scan of this station to take back"
            raise MalformedError(message, code="SCAN_UNKNOWN", field="line")
        answer = await self.session.receiving.UndoScan(
            pb.UndoScanRequest(request_id=new_id(), delivery_id=self.delivery_id, delivery_scan_number=self.last)
        )
        document = {"undone": self.last, "counts": counts_document(answer.counts)}
        self.output.line(document, f"undone scan {self.last}; {counts_text(answer.counts)}")
        self.last = 0

    def _print(self, answer: pb.ScanDeliveryResponse) -> None:
        if self.output.as_json:
            self.output.line(_document(answer), "")
            return
        colour = COLOURS.get(answer.code, "red")
        what = short_epc(answer.epc) or "?"
        self.output.console.print(
            f"[bold {colour}]{code_name(answer.code):<16}[/] {what}  [dim]{counts_text(answer.counts)}[/]",
            soft_wrap=True,
        )
        if answer.code != pb.RECONCILIATION_CODE_MATCH or answer.sample_epcs or answer.sample_failed:
            self.output.console.print(f"  {answer.message}", markup=False)
        for epc in answer.sample_epcs:
            self.output.console.print(f"  scan {short_epc(epc)}", markup=False)


def _document(answer: pb.ScanDeliveryResponse) -> dict[str, Any]:
    return {
        "scan_number": answer.scan_number,
        "delivery_scan_number": answer.delivery_scan_number,
        "code": code_name(answer.code),
        "further_codes": [code_name(code) for code in answer.further_codes],
        "message": answer.message,
        "epc": answer.epc,
        "verdict": verdict_document(answer.verdict) if answer.HasField("verdict") else None,
        "inferred": answer.inferred,
        "sample_epcs": list(answer.sample_epcs),
        "sample_failed": answer.sample_failed,
        "counts": counts_document(answer.counts),
    }


def _read(source: IO[str], loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str | None]) -> None:
    # Lines end at line feeds only: GS (0x1D) is part of what a scanner types.
    while True:
        line = source.readline()
        try:
            loop.call_soon_threadsafe(lines.put_nowait, line or None)
        except RuntimeError:
            # The loop is closed: the command was ended.
            return
        if not line:
            return


def run_scan(found: Globals, delivery_id: str, *, station: str) -> None:
    """Record scans from standard input; end with 0 when all was as advised, else 1."""

    async def work(session: Session) -> bool:
        bay = Bay(session, found.output, await delivery_of(session, delivery_id), station)
        await bay.begin()
        # A daemon: a keyboard that says nothing more must not keep the command from ending.
        reader = threading.Thread(target=_read, args=(sys.stdin, asyncio.get_running_loop(), bay.lines), daemon=True)
        reader.start()
        try:
            await bay.run()
        except ExceptionGroup as group:
            # One thing went wrong; the group is only how the tasks told of it.
            raise group.exceptions[0] from None
        return bay.good

    sys.exit(ExitCode.TRUE if run_session(found, work) else ExitCode.REFUSED)
