"""``medtrail receive``: deliveries opened, listed, shown, closed."""

import uuid
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from medtrail.api.receiving.v1 import receiving_pb2 as pb
from medtrail.cli.answers import time_text
from medtrail.cli.main import Globals
from medtrail.cli.render import short_epc
from medtrail.cli.session import Session, run_session
from medtrail.errors import MalformedError, NotFoundError

PAGE = 1000
LAST = "last"
COLOURS = {
    pb.RECONCILIATION_CODE_MATCH: "green",
    pb.RECONCILIATION_CODE_MATCH_INFERRED: "green",
    pb.RECONCILIATION_CODE_OTHER_CONTAINER: "cyan",
    pb.RECONCILIATION_CODE_ALREADY_SCANNED: "cyan",
    pb.RECONCILIATION_CODE_UNREADABLE: "magenta",
    pb.RECONCILIATION_CODE_OVER: "yellow",
    pb.RECONCILIATION_CODE_UNDER: "yellow",
}
_FILTERS = {
    "all": pb.DELIVERY_UNIT_FILTER_UNSPECIFIED,
    "expected": pb.DELIVERY_UNIT_FILTER_EXPECTED,
    "scanned": pb.DELIVERY_UNIT_FILTER_SCANNED,
    "missing": pb.DELIVERY_UNIT_FILTER_MISSING,
    "excepted": pb.DELIVERY_UNIT_FILTER_EXCEPTED,
    "sample": pb.DELIVERY_UNIT_FILTER_SAMPLE,
}


def new_id() -> str:
    """Return a request id."""
    return str(uuid.uuid4())


def code_name(code: pb.ReconciliationCode.ValueType) -> str:
    """Return a reconciliation code; what was not found yet is ``NOT_YET``."""
    name = pb.ReconciliationCode.Name(code).removeprefix("RECONCILIATION_CODE_")
    return "NOT_YET" if name == "UNSPECIFIED" else name


def state_name(state: pb.DeliveryState.ValueType) -> str:
    """Return a delivery's state in lower case."""
    return pb.DeliveryState.Name(state).removeprefix("DELIVERY_STATE_").lower()


def counts_document(counts: pb.DeliveryCounts) -> dict[str, Any]:
    """Return counts."""
    return {
        "expected": counts.expected,
        "found": counts.found,
        "missing": counts.missing,
        "excepted": counts.excepted,
        "scans": counts.scans,
        "codes": {code_name(item.code): item.units for item in counts.codes},
    }


def counts_text(counts: pb.DeliveryCounts) -> str:
    """Return counts in one line: how far it is."""
    parts = [f"found {counts.found} of {counts.expected}", f"missing {counts.missing}"]
    return "; ".join([*parts, f"excepted {counts.excepted}"] if counts.excepted else parts)


def delivery_document(delivery: pb.Delivery) -> dict[str, Any]:
    """Return a delivery."""
    return {
        "delivery_id": delivery.delivery_id,
        "state": state_name(delivery.state),
        "despatches": list(delivery.despatch_event_ids),
        "blind": delivery.blind,
        "open_time": time_text(delivery, "open_time"),
        "close_time": time_text(delivery, "close_time"),
        "location": delivery.location,
        "sample_share": delivery.sample_share,
        "counts": counts_document(delivery.counts),
        "sample_containers": list(delivery.sample_containers),
    }


def _unit_document(unit: pb.DeliveryUnit) -> dict[str, Any]:
    return {
        "epc": unit.epc,
        "code": code_name(unit.code),
        "parent": unit.parent,
        "despatch": unit.despatch_event_id,
        "lot": unit.lot,
        "expiry": unit.expiry,
        "scanned_lot": unit.scanned_lot,
        "scanned_expiry": unit.scanned_expiry,
        "damaged": unit.damaged,
        "posting": pb.UnitPosting.Name(unit.posting).removeprefix("UNIT_POSTING_").lower(),
        "case_id": unit.case_id,
    }


async def delivery_of(session: Session, delivery_id: str) -> str:
    """Return the id of a delivery; of the newest for ``last``.

    Raises:
        NotFoundError: There is none yet (DELIVERY_UNKNOWN).
    """
    if delivery_id != LAST:
        return delivery_id
    answer = await session.receiving.ListDeliveries(pb.ListDeliveriesRequest(page_size=1))
    if not answer.deliveries:
        message = "there is no delivery yet"
        raise NotFoundError(message, code="DELIVERY_UNKNOWN", field="DELIVERY")
    return answer.deliveries[0].delivery_id


def draw_delivery(console: Console, delivery: pb.Delivery) -> None:
    """Show a delivery to a person."""
    blind = ", opened before any data" if delivery.blind else ""
    console.print(f"[bold]{state_name(delivery.state)}[/]  {delivery.delivery_id}{blind}")
    console.print(f"  {counts_text(delivery.counts)}")
    for item in delivery.counts.codes:
        colour = COLOURS.get(item.code, "white" if not item.code else "red")
        console.print(f"  [{colour}]{code_name(item.code):<16}[/] {item.units}")
    for despatch_id in delivery.despatch_event_ids:
        console.print(f"  despatch {despatch_id}", markup=False, soft_wrap=True, style="dim")
    for epc in delivery.sample_containers:
        console.print(f"  sample unfinished in {short_epc(epc)}", markup=False, style="magenta")


def run_open(found: Globals, despatches: Sequence[str], *, sample: float | None, location: str) -> None:
    """Begin a delivery."""
    request = pb.OpenDeliveryRequest(
        request_id=new_id(), despatch_event_ids=despatches, sample_share=sample, location=location
    )

    async def work(session: Session) -> pb.Delivery:
        return (await session.receiving.OpenDelivery(request)).delivery

    delivery = run_session(found, work)
    found.output.answer(delivery_document(delivery), lambda console: draw_delivery(console, delivery))


def run_list(found: Globals, *, limit: int) -> None:
    """List deliveries."""

    async def work(session: Session) -> Sequence[pb.Delivery]:
        return (await session.receiving.ListDeliveries(pb.ListDeliveriesRequest(page_size=limit))).deliveries

    deliveries = run_session(found, work)

    def draw(console: Console) -> None:
        table = Table("opened", "delivery", "state", "units", box=None)
        for delivery in deliveries:
            opened = time_text(delivery, "open_time") or ""
            table.add_row(opened, delivery.delivery_id, state_name(delivery.state), counts_text(delivery.counts))
        console.print(table)

    found.output.answer({"deliveries": [delivery_document(item) for item in deliveries]}, draw)


async def _units(session: Session, delivery_id: str, only: str, limit: int) -> list[pb.DeliveryUnit]:
    listed: list[pb.DeliveryUnit] = []
    token = ""
    while len(listed) < limit:
        answer = await session.receiving.ListDeliveryUnits(
            pb.ListDeliveryUnitsRequest(
                delivery_id=delivery_id,
                filter=_FILTERS[only],
                page_size=min(PAGE, limit - len(listed)),
                page_token=token,
            )
        )
        listed += answer.units
        token = answer.next_page_token
        if not token:
            break
    return listed


def run_show(found: Globals, delivery_id: str, *, only: str, limit: int) -> None:
    """Show a delivery, and some of its units.

    Raises:
        MalformedError: No such list of units (ONLY_UNKNOWN).
    """
    if only and only not in _FILTERS:
        message = f"expected one of {', '.join(_FILTERS)}, got {only[:20]!r}"
        raise MalformedError(message, code="ONLY_UNKNOWN", field="--only")

    async def work(session: Session) -> tuple[pb.Delivery, list[pb.DeliveryUnit]]:
        ident = await delivery_of(session, delivery_id)
        delivery = (await session.receiving.GetDelivery(pb.GetDeliveryRequest(delivery_id=ident))).delivery
        return delivery, await _units(session, ident, only, limit) if only else []

    delivery, units = run_session(found, work)

    def draw(console: Console) -> None:
        draw_delivery(console, delivery)
        for unit in units:
            colour = COLOURS.get(unit.code, "white" if not unit.code else "red")
            posting = pb.UnitPosting.Name(unit.posting).removeprefix("UNIT_POSTING_").lower().replace("_", " ")
            tail = "" if posting == "unspecified" else f"  {posting}"
            console.print(f"  [{colour}]{code_name(unit.code):<16}[/] {short_epc(unit.epc)}{tail}", soft_wrap=True)

    document = delivery_document(delivery)
    if only:
        document["units"] = [_unit_document(unit) for unit in units]
    found.output.answer(document, draw)


def run_close(found: Globals, delivery_id: str, *, samples_missing: bool) -> None:
    """End a delivery."""

    async def work(session: Session) -> pb.CloseDeliveryResponse:
        ident = await delivery_of(session, delivery_id)
        request = pb.CloseDeliveryRequest(request_id=new_id(), delivery_id=ident, samples_missing=samples_missing)
        return await session.receiving.CloseDelivery(request)

    answer = run_session(found, work)

    def draw(console: Console) -> None:
        draw_delivery(console, answer.delivery)
        console.print(f"  {len(answer.events)} events signed, {len(answer.receiving_advices)} receiving advices sent")
        for case_id in answer.case_ids:
            console.print(f"  [yellow]exception[/] {case_id}")

    document = delivery_document(answer.delivery)
    document["events"] = [item.event_id for item in answer.events]
    document["case_ids"] = list(answer.case_ids)
    document["receiving_advices"] = list(answer.receiving_advices)
    found.output.answer(document, draw)


def run_reopen(found: Globals, delivery_id: str, identifiers: Sequence[str]) -> None:
    """Open a closed delivery again for units that were missing."""

    async def work(session: Session) -> pb.Delivery:
        ident = await delivery_of(session, delivery_id)
        request = pb.ReopenDeliveryRequest(request_id=new_id(), delivery_id=ident, epcs=identifiers)
        return (await session.receiving.ReopenDelivery(request)).delivery

    delivery = run_session(found, work)
    found.output.answer(delivery_document(delivery), lambda console: draw_delivery(console, delivery))


def run_concealed(found: Globals, delivery_id: str, *, short: Sequence[str], over: Sequence[str]) -> None:
    """Tell what was found wrong in sealed containers after closing."""

    async def work(session: Session) -> pb.ReportConcealedResponse:
        ident = await delivery_of(session, delivery_id)
        request = pb.ReportConcealedRequest(
            request_id=new_id(), delivery_id=ident, shortage_epcs=short, overage_scans=over
        )
        return await session.receiving.ReportConcealed(request)

    answer = run_session(found, work)

    def draw(console: Console) -> None:
        draw_delivery(console, answer.delivery)
        for case_id in answer.case_ids:
            console.print(f"  [yellow]exception[/] {case_id}")

    document = delivery_document(answer.delivery)
    document["case_ids"] = list(answer.case_ids)
    found.output.answer(document, draw)
