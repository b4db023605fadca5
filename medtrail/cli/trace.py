"""``medtrail trace``: histories whose every event is proven here, and where a lot's units are."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medtrail import codec
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.checkpoint import Checkpoint
from medtrail.cli.answers import (
    class_name,
    evidence_name,
    level_name,
    moment_of,
    place_words,
    state_document,
    state_name,
    states_words,
    time_text,
)
from medtrail.cli.main import Globals
from medtrail.cli.render import event_summary, format_time, parse_time, short_epc, step_words
from medtrail.cli.session import Session, run_session
from medtrail.envelope import verify_signatures
from medtrail.epcis.model import EpcisEvent
from medtrail.event import Event
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, verify_inclusion

UNITS_A_PAGE = 1000
# What the class of a group does not say, and who looks for a lot wants to know.
_WORTH_TELLING = frozenset(
    {
        ledger_pb2.CUSTODY_STATE_ON_HOLD,
        ledger_pb2.CUSTODY_STATE_SUSPECT,
        ledger_pb2.CUSTODY_STATE_DESTROYED,
        ledger_pb2.CUSTODY_STATE_EXPORTED,
    }
)
_RECEIPTS = frozenset({"receiving", "accepting"})


@dataclass(frozen=True, slots=True)
class ProvenStep:
    """An event of a history whose signature and inclusion were checked here."""

    leaf_index: int
    event: Event
    key_id: str
    via: str
    log_time: datetime | None
    disbelieved: bool


@dataclass(frozen=True, slots=True)
class ErasedStep:
    """An event of a history that was erased: its entry was proven here, and by whom and why it was erased is told."""

    leaf_index: int
    gln: str
    reason: str
    order_index: int
    erase_time: datetime | None
    log_time: datetime | None


@dataclass(frozen=True, slots=True)
class PackTrace:
    """A proven history, the belief that the ledger derives from it, and the checkpoint in which its proofs end."""

    state: ledger_pb2.UnitState
    steps: tuple[ProvenStep, ...]
    checkpoint: Checkpoint
    erased: tuple[ErasedStep, ...] = ()


def prove_erased(item: ledger_pb2.ProvenEvent, checkpoint: Checkpoint) -> ErasedStep:
    """Check that the entry of an erased event is in the log.

    Raises:
        VerificationError: It is not.
    """
    _verify(item, item.signed_event_sha256, checkpoint)
    erased = item.erased
    return ErasedStep(
        item.leaf_index,
        erased.gln,
        erased.reason,
        erased.order_index,
        moment_of(erased, "erase_time"),
        moment_of(item, "log_time"),
    )


def _verify(item: ledger_pb2.ProvenEvent, digest: bytes, checkpoint: Checkpoint) -> None:
    verify_inclusion(
        item.inclusion_proof,
        leaf_hash=hash_leaf(log_entry(digest, item.key_list_sha256)),
        leaf_index=item.leaf_index,
        tree_size=checkpoint.size,
        root_hash=checkpoint.root_hash,
    )


def prove(item: ledger_pb2.ProvenEvent, checkpoint: Checkpoint) -> ProvenStep:
    """Check that an event is signed and in the log.

    Raises:
        VerificationError: It is not.
    """
    _verify(item, hashlib.sha256(item.signed_event).digest(), checkpoint)
    signed = codec.decode_signed_event(item.signed_event)
    key_id = verify_signatures(signed)
    event = codec.decode_payload(signed.payload_type, signed.payload)
    return ProvenStep(item.leaf_index, event, key_id, item.via, moment_of(item, "log_time"), item.disbelieved)


async def trace_unit(session: Session, identifier: str, *, at: datetime | None = None, known: int = 0) -> PackTrace:
    """Return the complete history of a unit, every event of it proven.

    Raises:
        NotFoundError: The log knows no such unit.
        VerificationError: A proof does not hold.
    """
    request = ledger_pb2.TracePackRequest(epc=identifier, known_tree_size=known)
    if at is not None:
        request.true_time.CopyFrom(codec.to_timestamp(at))
    steps: list[ProvenStep] = []
    erased: list[ErasedStep] = []
    while True:
        answer = await session.ledger.TracePack(request)
        checkpoint = session.open_checkpoint(answer.checkpoint).checkpoint
        steps += [prove(item, checkpoint) for item in answer.events if not item.HasField("erased")]
        erased += [prove_erased(item, checkpoint) for item in answer.events if item.HasField("erased")]
        if not answer.next_page_token:
            return PackTrace(answer.state, tuple(steps), checkpoint, tuple(erased))
        request.page_token = answer.next_page_token


def run_trace_pack(found: Globals, identifier: str, *, at: str | None, known: int, export: Path | None) -> None:
    """Show a history; with ``export``, write each event and its proof for `medtrail verify`."""
    moment = None if at is None else parse_time(at, field="--at")

    async def work(session: Session) -> tuple[PackTrace, list[str]]:
        trace = await trace_unit(session, identifier, at=moment, known=known)
        files = [] if export is None else await export_proofs(session, trace, export)
        return trace, files

    trace, files = run_session(found, work)
    document = {
        "state": state_document(trace.state),
        "events": [_step_document(step) for step in trace.steps],
        "erased": [_erased_document(step) for step in trace.erased],
        "proven": len(trace.steps) + len(trace.erased),
        "tree_size": trace.checkpoint.size,
        "root_hash": trace.checkpoint.root_hash.hex(),
        "files": files,
    }
    found.output.answer(document, lambda console: _draw_pack(console, trace, files))


async def export_proofs(session: Session, trace: PackTrace, folder: Path) -> list[str]:
    """Write ``<index>.event`` and ``<index>.tlog-proof`` for each event of a history; returns the paths."""
    files: list[str] = []
    for step in trace.steps:
        request = ledger_pb2.GetInclusionProofRequest(leaf_index=step.leaf_index)
        answer = await session.ledger.GetInclusionProof(request)
        contents = {"event": answer.signed_event, "tlog-proof": answer.tlog_proof}
        files += [str(_write(folder, f"{step.leaf_index}.{ending}", data)) for ending, data in contents.items()]
    return files


def _write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


def _step_document(step: ProvenStep) -> dict[str, Any]:
    statement = step.event.statement
    header = step.event.header
    epcis = isinstance(statement, EpcisEvent)
    return {
        "leaf_index": step.leaf_index,
        "event_id": header.event_id,
        "type": statement.type.value if isinstance(statement, EpcisEvent) else str(step.event.payload_type),
        "action": statement.action.value if isinstance(statement, EpcisEvent) and statement.action else None,
        "biz_step": statement.biz_step if isinstance(statement, EpcisEvent) else None,
        "event_time": format_time(statement.event_time) if isinstance(statement, EpcisEvent) else None,
        "log_time": None if step.log_time is None else format_time(step.log_time),
        "actor": str(header.actor),
        "capture": header.capture.value,
        "key_id": step.key_id,
        "via": step.via or None,
        "proven": True,
        "disbelieved": step.disbelieved,
        "summary": event_summary(step.event) if epcis else str(step.event.payload_type),
    }


def _erased_document(step: ErasedStep) -> dict[str, Any]:
    return {
        "leaf_index": step.leaf_index,
        "log_time": None if step.log_time is None else format_time(step.log_time),
        "erased_by": step.gln,
        "reason": step.reason,
        "order_index": step.order_index,
        "erase_time": None if step.erase_time is None else format_time(step.erase_time),
        "proven": True,
    }


def _whereabouts(trace: PackTrace) -> str:
    """Return where the log has a unit, and since when; of what was received and never named again, that it was."""
    state = trace.state
    since = time_text(state, "since_time")
    told = [step.event.statement for step in trace.steps if not step.disbelieved]
    last = next((statement for statement in reversed(told) if isinstance(statement, EpcisEvent)), None)
    if state.unit_class == ledger_pb2.UNIT_CLASS_ON_HAND and last is not None and last.biz_step in _RECEIPTS:
        return f"received by {state.holder}, not seen since {format_time(last.event_time)}"
    return place_words(state.unit_class, state.holder, state.destination) + (f" since {since}" if since else "")


def _draw_pack(console: Console, trace: PackTrace, files: list[str]) -> None:
    state = trace.state
    console.print(f"[bold]{escape(short_epc(state.epc))}[/]  {level_name(state.level)}")
    console.print(f"  {_whereabouts(trace)} ({evidence_name(state.evidence)})", markup=False)
    if state.custody_states:
        console.print(f"  {states_words(state)}", markup=False)
    facts = [("lot", state.lot), ("expiry", state.expiry), ("maker", state.maker), ("in", short_epc(state.parent))]
    console.print("  " + ", ".join(f"{name} {value}" for name, value in facts if value), markup=False)
    for alert in state.alerts:
        console.print(f"  [yellow]{alert.code}[/] {escape(alert.message)}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("when", "what", "who", "by way of", "entry", ""):
        table.add_column(heading, overflow="fold", no_wrap=heading != "by way of")
    for step in trace.steps:
        statement = step.event.statement
        when = format_time(statement.event_time) if isinstance(statement, EpcisEvent) else ""
        what = escape(step_words(statement)) if isinstance(statement, EpcisEvent) else "statement"
        mark = "[yellow]disbelieved[/]" if step.disbelieved else "[green]proven[/]"
        table.add_row(when, what, str(step.event.header.actor), escape(short_epc(step.via)), str(step.leaf_index), mark)
    console.print(table)
    for gone in trace.erased:
        text = f"entry {gone.leaf_index}: erased by {gone.gln}, {gone.reason} (order: entry {gone.order_index}), proven"
        console.print(text, markup=False)
    count = f"{len(trace.steps)} event{'' if len(trace.steps) == 1 else 's'}"
    console.print(
        f"{count}, each signed and in the log of {trace.checkpoint.size} entries, "
        f"root {trace.checkpoint.root_hash.hex()[:16]}…",
        style="dim",
    )
    if files:
        console.print(f"{len(files)} files written to {Path(files[0]).parent}", markup=False)


# --- lots ---


@dataclass(frozen=True, slots=True)
class LotTrace:
    """Where a lot's units are: the ledger's first answer (counts are of all units) and the units of all pages."""

    answer: ledger_pb2.TraceLotResponse
    units: tuple[ledger_pb2.UnitState, ...]
    checkpoint: Checkpoint


async def trace_whole_lot(
    session: Session, gtin: str, lot: str, *, at: datetime | None = None, known: int = 0, units: bool = False
) -> LotTrace:
    """Return where a lot's units are; with ``units``, every unit of every page.

    Raises:
        NotFoundError: The log knows no such lot.
        VerificationError: The checkpoint is not the log's.
    """
    request = ledger_pb2.TraceLotRequest(gtin=gtin, lot=lot, known_tree_size=known, page_size=UNITS_A_PAGE)
    if at is not None:
        request.true_time.CopyFrom(codec.to_timestamp(at))
    first = await session.ledger.TraceLot(request)
    checkpoint = session.open_checkpoint(first.checkpoint).checkpoint
    found = list(first.units)
    token = first.next_page_token
    while units and token:
        request.page_token = token
        answer = await session.ledger.TraceLot(request)
        found += answer.units
        token = answer.next_page_token
    return LotTrace(first, tuple(found) if units else (), checkpoint)


def run_trace_lot(found: Globals, gtin: str, lot: str, *, at: str | None, known: int, units: bool) -> None:
    """Show where every unit of a lot is now."""
    moment = None if at is None else parse_time(at, field="--at")
    trace = run_session(found, lambda session: trace_whole_lot(session, gtin, lot, at=moment, known=known, units=units))
    found.output.answer(lot_document(gtin, lot, trace), lambda console: draw_lot(console, gtin, lot, trace))


def lot_document(gtin: str, lot: str, trace: LotTrace) -> dict[str, Any]:
    """Return a lot's whereabouts as JSON document."""
    answer = trace.answer
    return {
        "gtin": gtin,
        "lot": lot,
        "level": level_name(answer.level),
        "commissioned": answer.commissioned_count,
        "classes": _counts(answer),
        "groups": [
            {
                "class": class_name(group.unit_class),
                "count": group.unit_count,
                "holder": group.holder or None,
                "destination": group.destination or None,
                "evidence": evidence_name(group.evidence),
                "since": time_text(group, "oldest_time"),
                "newest": time_text(group, "newest_time"),
                "states": {state_name(item.custody_state): item.unit_count for item in group.custody_states},
            }
            for group in answer.groups
        ],
        "quantities": [
            {
                "class": class_name(item.unit_class),
                "quantity": item.quantity,
                "uom": item.uom or None,
                "holder": item.holder or None,
                "destination": item.destination or None,
                "evidence": evidence_name(item.evidence),
                "newest": time_text(item, "newest_time"),
            }
            for item in answer.quantities
        ],
        "units": [state_document(unit) for unit in trace.units],
        "recalls": list(answer.recall_ids),
        "tree_size": trace.checkpoint.size,
        "root_hash": trace.checkpoint.root_hash.hex(),
    }


def _counts(answer: ledger_pb2.TraceLotResponse) -> dict[str, int]:
    """Return the number of units in every class, the empty ones too."""
    names = [class_name(number) for number in ledger_pb2.UnitClass.values() if number]
    counts = dict.fromkeys(names, 0)
    for group in answer.groups:
        counts[class_name(group.unit_class)] += group.unit_count
    return counts


def draw_lot(console: Console, gtin: str, lot: str, trace: LotTrace) -> None:
    """Show a lot's whereabouts to a person."""
    answer = trace.answer
    units = "unit" if answer.commissioned_count == 1 else "units"
    console.print(f"[bold]GTIN {escape(gtin)}, lot {escape(lot)}[/]  {level_name(answer.level)}", end=", ")
    console.print(f"{answer.commissioned_count} {units} commissioned")
    for recall_id in answer.recall_ids:
        console.print(f"  [bold red]recalled[/] by {escape(recall_id)}")
    for group in answer.groups:
        where = place_words(group.unit_class, group.holder, group.destination)
        oldest, newest = time_text(group, "oldest_time"), time_text(group, "newest_time")
        since = f" since {oldest}" if oldest else ""
        until = f" to {newest}" if newest and newest != oldest else ""
        console.print(f"  {group.unit_count:>7} {where}{since}{until} ({evidence_name(group.evidence)})", markup=False)
        for counted in group.custody_states:
            if counted.custody_state in _WORTH_TELLING:
                told = state_name(counted.custody_state).replace("_", " ")
                console.print(f"  {counted.unit_count:>7}   of them {told}")
    for item in answer.quantities:
        where = place_words(item.unit_class, item.holder, item.destination)
        console.print(f"  {item.quantity:>7} {item.uom} {where} (quantity only, {evidence_name(item.evidence)})")
    nothing = [name.replace("_", " ") for name, count in _counts(answer).items() if not count]
    console.print(f"  none: {', '.join(nothing)}", style="dim")
    for unit in trace.units:
        where = place_words(unit.unit_class, unit.holder, unit.destination)
        console.print(f"  {short_epc(unit.epc)}  {where}", markup=False)
    console.print(f"complete up to entry {trace.checkpoint.size} of {trace.checkpoint.origin}", style="dim")
