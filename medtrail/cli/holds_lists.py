"""What is on hold, what expires, and what sensors reported: lists for people and machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from medtrail.api.holds.v1 import holds_pb2
from medtrail.cli.answers import time_text
from medtrail.cli.fmd import scan_of
from medtrail.cli.holds import PAGE, all_pages, code_name, code_of, draw_table, when
from medtrail.cli.main import Globals
from medtrail.cli.render import short_epc
from medtrail.cli.session import Session, run_session


def run_list(found: Globals, *, code: str) -> None:
    """List units on hold."""
    wanted = code_of(code)

    async def page(session: Session, token: str) -> tuple[Sequence[holds_pb2.HeldUnit], str]:
        answer = await session.holds.ListHolds(
            holds_pb2.ListHoldsRequest(code=wanted, page_size=PAGE, page_token=token)
        )
        return answer.units, answer.next_page_token

    units = run_session(found, all_pages(page))

    def reasons(item: holds_pb2.HeldUnit) -> list[dict[str, Any]]:
        return [
            {"code": code_name(reason.code), "text": reason.text, "four_eyes": reason.four_eyes}
            for reason in item.reasons
        ]

    def draw(console: Console) -> None:
        rows = [
            (short_epc(item.epc), item.lot, item.expiry, "\n".join(map(_reason_text, item.reasons))) for item in units
        ]
        draw_table(console, ("unit", "lot", "expiry", "why"), rows)

    documents = [
        {"epc": item.epc, "lot": item.lot, "expiry": item.expiry or None, "reasons": reasons(item)} for item in units
    ]
    found.output.answer({"units": documents}, draw)


def _reason_text(reason: holds_pb2.HoldReason) -> str:
    two = "  (two persons release it)" if reason.four_eyes else ""
    return f"{code_name(reason.code)}  {reason.text}".rstrip() + two


def run_expiring(found: Globals, *, days: int, gtin: str, free: bool) -> None:
    """List packs by expiry."""

    async def page(session: Session, token: str) -> tuple[Sequence[holds_pb2.ExpiringUnit], str]:
        answer = await session.holds.ListExpiring(
            holds_pb2.ListExpiringRequest(days=days, gtin=gtin, exclude_held=free, page_size=PAGE, page_token=token)
        )
        return answer.units, answer.next_page_token

    units = run_session(found, all_pages(page))

    def draw(console: Console) -> None:
        rows = [
            (item.expiry, _days_text(item.days_left), short_epc(item.epc), item.lot, item.hold_reason) for item in units
        ]
        draw_table(console, ("expiry", "left", "pack", "lot", "on hold"), rows)

    documents = [
        {
            "epc": item.epc,
            "lot": item.lot,
            "expiry": item.expiry,
            "days_left": item.days_left,
            "hold_reason": item.hold_reason or None,
        }
        for item in units
    ]
    found.output.answer({"units": documents}, draw)


def _days_text(days: int) -> str:
    if days < 0:
        return f"expired {-days} days ago"
    return "last day" if days == 0 else f"{days} days"


def run_excursions(found: Globals, scan: str) -> None:
    """List what sensors reported outside of limits."""

    async def page(session: Session, token: str) -> tuple[Sequence[holds_pb2.Excursion], str]:
        answer = await session.holds.ListExcursions(
            holds_pb2.ListExcursionsRequest(epc=scan_of(scan), page_size=PAGE, page_token=token)
        )
        return answer.excursions, answer.next_page_token

    items = run_session(found, all_pages(page))

    def draw(console: Console) -> None:
        rows = [
            (short_epc(item.epc), item.description, when(item, "start_time"), "yes" if item.released else "no")
            for item in items
        ]
        draw_table(console, ("unit", "what", "from", "released"), rows)

    documents: list[Mapping[str, Any]] = [
        {
            "epc": item.epc,
            "event_id": item.event_id,
            "description": item.description,
            "start_time": time_text(item, "start_time"),
            "end_time": time_text(item, "end_time"),
            "device_id": item.device_id or None,
            "released": item.released,
        }
        for item in items
    ]
    found.output.answer({"excursions": documents}, draw)
