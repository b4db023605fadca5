"""``medtrail status``: what waits, since when, and what a person should look at."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.cli.answers import moment_of, time_text
from medtrail.cli.authority import read_registry
from medtrail.cli.main import Globals
from medtrail.cli.output import ExitCode
from medtrail.cli.session import Session, run_session
from medtrail.cli.station_keys import nameless_keys
from medtrail.gs1 import Gln

_WAITING = {
    "events": "events without a receipt",
    "messages": "messages without an acknowledgement",
    "unproven_receipts": "receipts not proven yet",
    "unwitnessed_receipts": "receipts without the witnesses' quorum",
}
_NAMELESS = "names no station and speaks for the whole organisation: see `medtrail station keys`"


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """How the organisation's service and the ledger stand; ``nameless_keys``: further ones that name no station."""

    service: custody_pb2.GetStatusResponse
    ledger: ledger_pb2.GetStatusResponse
    nameless_keys: tuple[str, ...] = ()


async def fetch_status(session: Session) -> NetworkStatus:
    """Return how the organisation's service and the ledger stand."""
    service = await session.custody.GetStatus(custody_pb2.GetStatusRequest())
    ledger = await session.ledger.GetStatus(ledger_pb2.GetStatusRequest())
    nameless = nameless_keys(await read_registry(session), Gln(session.organisation.gln))
    return NetworkStatus(service, ledger, tuple(record.key_id for record in nameless))


def run_status(found: Globals) -> None:
    """Show the status; end with 1 when something is an alarm."""
    status = run_session(found, fetch_status)
    document = status_document(status)
    found.output.answer(document, lambda console: draw_status(console, status, now=datetime.now(UTC)))
    sys.exit(ExitCode.REFUSED if document["alarms"] else ExitCode.TRUE)


def status_document(status: NetworkStatus) -> dict[str, Any]:
    """Return the status for a machine."""
    service, ledger = status.service, status.ledger
    return {
        "service": {
            **{
                name: {"count": getattr(service, name).count, "since": time_text(getattr(service, name), "since_time")}
                for name in _WAITING
            },
            "tree_size": service.tree_size,
            "witnessed_size": service.witnessed_size,
        },
        "ledger": {
            "role": ledger.role,
            "tree_size": ledger.tree_size,
            "published_size": ledger.published_size,
            "frozen_reason": ledger.frozen_reason,
            "followers": [
                {
                    "name": each.name,
                    "position": each.position,
                    "lag": each.lag,
                    "stuck_since": time_text(each, "stuck_time"),
                    "error_code": each.error_code,
                }
                for each in ledger.followers
            ],
        },
        "alarms": [
            {"of": of, "code": each.code, "message": each.message, "since": time_text(each, "since_time")}
            for of, alarms in (("service", service.alarms), ("ledger", ledger.alarms))
            for each in alarms
        ],
        # No alarm: such a key may be meant.
        "warnings": [
            {"code": "KEY_WITHOUT_STATION", "message": _NAMELESS, "key_id": key_id} for key_id in status.nameless_keys
        ],
    }


def draw_status(console: Console, status: NetworkStatus, *, now: datetime) -> None:
    """Show the status to a person: alarms first."""
    service, ledger = status.service, status.ledger
    alarms: list[custody_pb2.ServiceAlarm | ledger_pb2.LedgerAlarm] = [*service.alarms, *ledger.alarms]
    for alarm in alarms:
        console.print(f"[bold red]{alarm.code}[/]", end="  ")
        console.print(f"{alarm.message} ({_age(alarm, 'since_time', now)})", markup=False, soft_wrap=True)
    if not alarms:
        console.print("[bold green]all is well[/]")
    for key_id in status.nameless_keys:
        console.print(f"[yellow]KEY_WITHOUT_STATION[/]  {key_id} {_NAMELESS}", soft_wrap=True)
    for name, words in _WAITING.items():
        waiting: custody_pb2.Waiting = getattr(service, name)
        age = f", the oldest {_age(waiting, 'since_time', now)}" if waiting.count else ""
        console.print(f"  {waiting.count:>7} {words}{age}")
    console.print(f"  log verified here up to {service.tree_size} entries, witnessed up to {service.witnessed_size}")
    console.print(f"  ledger ({ledger.role}): {ledger.tree_size} entries, {ledger.published_size} published")
    for each in ledger.followers:
        failing = f", {each.error_code}" if each.error_code else ""
        console.print(f"    {each.name}: {each.lag} behind{failing}", markup=False)


def _age(message: Any, field: str, now: datetime) -> str:  # noqa: ANN401 - a generated message
    moment = moment_of(message, field)
    if moment is None:
        return "no time known"
    seconds = max(int((now - moment).total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
