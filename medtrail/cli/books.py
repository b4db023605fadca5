"""``medtrail dispense``, ``undo``, ``holding`` and ``alerts``: an organisation's own books."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.cli.answers import time_text
from medtrail.cli.fmd import occasion_of, scan_of
from medtrail.cli.main import Globals
from medtrail.cli.render import short_epc
from medtrail.cli.session import Session, run_session

PAGE = 500


@dataclass(frozen=True, slots=True)
class Portion:
    """What is handed out of a pack, as the options say it."""

    quantity: str = ""
    uom: str = ""
    pack_size: str = ""
    partial: bool = False


def run_dispense(found: Globals, scan: str, portion: Portion, *, at: str | None, location: str) -> None:
    """Hand a pack out, whole or a part of it."""
    request = pharmacy_pb2.DispenseRequest(
        request_id=str(uuid.uuid4()),
        epcs=[scan_of(scan)],
        partial=portion.partial,
        quantity=portion.quantity,
        quantity_uom=portion.uom,
        pack_size=portion.pack_size,
        occasion=occasion_of(at, location),
    )

    async def work(session: Session) -> pharmacy_pb2.DispenseResponse:
        return await session.pharmacy.Dispense(request)

    answer = run_session(found, work)
    events = [event.event_id for event in answer.events]
    (left,) = answer.remainders
    body = {
        "epc": left.epc,
        "remainder": left.quantity or None,
        "remainder_uom": left.quantity_uom or None,
        "events": events,
    }
    found.output.answer(body, lambda console: _draw(console, left_text(left), events))


def left_text(left: pharmacy_pb2.PackRemainder) -> str:
    """Return in words what is left of a pack."""
    pack = short_epc(left.epc)
    if not left.quantity:
        return f"{pack}: opened; nobody counted what is left"
    if left.quantity == "0":
        return f"{pack}: dispensed"
    return f"{pack}: {left.quantity} {left.quantity_uom} left"


def run_undo(found: Globals, scan: str, *, reason: str, not_supplied: bool, location: str) -> None:
    """Undo a dispensing or decommissioning."""
    request = custody_pb2.UndoRequest(
        request_id=str(uuid.uuid4()),
        epc=scan_of(scan),
        reason=reason,
        not_supplied=not_supplied,
        occasion=custody_pb2.Occasion(location=location),
    )

    async def work(session: Session) -> custody_pb2.UndoResponse:
        return await session.custody.Undo(request)

    events = [event.event_id for event in run_session(found, work).events]
    found.output.answer({"undone": True, "events": events}, lambda console: _draw(console, "undone", events))


def run_holding(found: Globals, scan: str) -> None:
    """Show what the organisation's books say of a unit."""

    async def work(session: Session) -> custody_pb2.Holding:
        return (await session.custody.GetHolding(custody_pb2.GetHoldingRequest(epc=scan_of(scan)))).holding

    held = run_session(found, work)
    found.output.answer(holding_document(held), lambda console: _draw(console, holding_text(held), []))


def holding_document(held: custody_pb2.Holding) -> dict[str, Any]:
    """Return a holding."""
    return {
        "epc": held.epc,
        "state": state_name(held),
        "ending": _ending_name(held) or None,
        "since": time_text(held, "since_time"),
        "parent": held.parent or None,
        "lot": held.lot or None,
        "expiry": held.expiry or None,
        "location": held.location or None,
        "partner": held.partner or None,
        "last_customer": held.last_customer or None,
        "hold_reason": held.hold_reason or None,
        "exception_code": held.exception_code or None,
        "suspect_case_id": held.suspect_case_id or None,
        "provisional": held.provisional,
        "inferred": held.inferred,
        "remainder": held.remainder or None,
        "remainder_uom": held.remainder_uom or None,
        "recall_ids": list(held.recall_ids),
        "event_id": held.event_id,
    }


def state_name(held: custody_pb2.Holding) -> str:
    """Return a holding's state in lower case: ``on_hand``."""
    return custody_pb2.HoldingState.Name(held.state).removeprefix("HOLDING_STATE_").lower()


def _ending_name(held: custody_pb2.Holding) -> str:
    if not held.ending:
        return ""
    return custody_pb2.DecommissionReason.Name(held.ending).removeprefix("DECOMMISSION_REASON_").lower()


_WORDS_OF_STATE = {
    custody_pb2.HOLDING_STATE_RECEIVED_NOT_SEEN_SINCE: "received, not seen since (dispensing is not recorded here)",
    custody_pb2.HOLDING_STATE_PARTIALLY_DISPENSED: "opened, dispensed in part",
}


def holding_text(held: custody_pb2.Holding) -> str:
    """Return in words what the books say of a unit, a line each."""
    state = _WORDS_OF_STATE.get(held.state, state_name(held).replace("_", " "))
    further = [
        (f"how: {_ending_name(held)}", bool(held.ending)),
        (f"{held.remainder} {held.remainder_uom} left", bool(held.remainder)),
        ("its container was received; not scanned yet", held.inferred),
        (f"in {short_epc(held.parent)}", bool(held.parent)),
        (f"lot {held.lot}, expiry {held.expiry}", bool(held.lot)),
        (f"on hold: {held.hold_reason}", bool(held.hold_reason)),
        ("not confirmed by the ledger yet", held.provisional),
        (f"under recall {', '.join(held.recall_ids)}", bool(held.recall_ids)),
        (f"suspect product, case {held.suspect_case_id}", bool(held.suspect_case_id)),
    ]
    lines = [f"{short_epc(held.epc)}: {state}, since {time_text(held, 'since_time')}"]
    return "\n".join([*lines, *(f"  {text}" for text, applies in further if applies)])


def run_alerts(found: Globals, *, code: str, unit: str, withdrawn: bool) -> None:
    """List alerts of the books, newest first; a line each, as they come."""

    async def work(session: Session) -> None:
        request = custody_pb2.ListAlertsRequest(
            code=code, epc=scan_of(unit), include_withdrawn=withdrawn, page_size=PAGE
        )
        while True:
            answer = await session.custody.ListAlerts(request)
            for alert in answer.alerts:
                found.output.line(alert_document(alert), alert_line(alert))
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    run_session(found, work)


def alert_document(alert: custody_pb2.UnitAlert) -> dict[str, Any]:
    """Return an alert."""
    return {
        "number": alert.number,
        "code": alert.code,
        "epc": alert.epc,
        "event_id": alert.event_id,
        "message": alert.message,
        "raised": time_text(alert, "raise_time"),
        "withdrawn": time_text(alert, "withdraw_time"),
    }


def alert_line(alert: custody_pb2.UnitAlert) -> str:
    """Return an alert in one line."""
    withdrawn = time_text(alert, "withdraw_time")
    ending = "" if withdrawn is None else f" (withdrawn {withdrawn})"
    return f"{time_text(alert, 'raise_time')}  {alert.code}  {short_epc(alert.epc)}: {alert.message}{ending}"


def _draw(console: Console, text: str, events: Sequence[str]) -> None:
    console.print(text, markup=False, soft_wrap=True)
    for event_id in events:
        console.print(f"  {event_id}", markup=False, style="dim", soft_wrap=True)
