"""Recording scans in a delivery, and taking them back. Everything here runs inside the caller's write transaction."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from medtrail.errors import ConflictError
from medtrail.verdict import Verdict, VerdictCode
from services.custody import holdings_store
from services.custody.desk import Desk
from services.custody.holding import Holding, HoldingState
from services.custody.receiving import deliveries, deliveries_store, inference, lines_store
from services.custody.receiving.codes import DECIDING, FOUND, Condition, Posting, ResultCode
from services.custody.receiving.deliveries_store import Delivery, ScanRecord
from services.custody.receiving.lines_store import Counts, Line
from services.custody.receiving.reconcile import Facts, Label, reconcile
from services.custody.units import Unit

_HAVING_COME = frozenset({Posting.RECEIVED, Posting.RECEIVED_LATER, Posting.PUT_ASIDE, Posting.LEFT})

IN_TRANSIT_TO_ANOTHER = "IN_TRANSIT_TO_ANOTHER"
"""Reason with which the ledger says that a pack is on its way to somebody else."""


@dataclass(frozen=True, slots=True)
class NewScan:
    """A scan that is to be recorded.

    Attributes:
        station: Who scanned.
        scan_number: The station's number for it.
        text: What the scanner sent.
        time: When; aware UTC.
        label: What was read; None: nothing could be.
        taken_from: Container from which it was taken, if the station says so.
        condition: How it looks.
        verdict: On a pack; None of a container, or when nothing could be read.
        request_sha256: Of what was sent, to know a resend.
    """

    station: str
    scan_number: int
    text: str
    time: datetime
    label: Label | None
    taken_from: Unit | None
    condition: Condition
    verdict: Verdict | None
    request_sha256: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scan.

    Attributes:
        number: The delivery's number for it.
        codes: What applies; the first decides.
        unit: None when nothing could be read.
        inferred: Leaves that are found by inference because of it.
        sample: Paths of the packs that are to be scanned as sample of the container.
        sample_failed: It made a sample fail.
        counts: After it.
    """

    number: int
    codes: tuple[ResultCode, ...]
    unit: Unit | None
    inferred: int
    sample: tuple[str, ...]
    sample_failed: bool
    counts: Counts


def record_scan(connection: Connection, desk: Desk, delivery: Delivery, scan: NewScan) -> Outcome:
    """Reconcile a scan with the delivery and record it.

    Raises:
        ConflictError: DELIVERY_CLOSED.
    """
    deliveries_store.require_scannable(delivery)
    before = lines_store.counts(connection, delivery.number)
    line, holding = _look(connection, delivery, scan)
    facts = _facts(connection, desk, scan, line=line, holding=holding)
    label = None if scan.condition is Condition.LABEL_UNREADABLE else scan.label
    codes = reconcile(label, facts)
    recorded = deliveries_store.add_scan(
        connection, delivery.number, _record(scan, label, codes, line), request_sha256=scan.request_sha256
    )
    sample: tuple[str, ...] = ()
    failed = False
    posted = line is not None and line.posting is not Posting.NONE
    if posted:
        # An earlier closing has dealt with it; what is said now stands in the log of scans.
        pass
    elif label is not None and codes[0] in DECIDING:
        line = _decide(connection, delivery, label, recorded, line)
        if not line.leaf and line.result in FOUND:
            sample = inference.seal(connection, delivery, line)
        failed = inference.fail_samples(
            connection, delivery.number, line, taken_from=recorded.taken_from, scan=recorded.number
        )
    elif label is not None and line is not None and scan.condition is Condition.DAMAGED:
        lines_store.change_paths(connection, delivery.number, [line.path], damaged=True)
    counts = deliveries_store.counts(connection, delivery.number)
    inferred = counts.by_result.get(ResultCode.MATCH_INFERRED, 0) - before.by_result.get(ResultCode.MATCH_INFERRED, 0)
    return Outcome(
        recorded.number,
        codes,
        None if label is None else label.unit,
        max(0, inferred),
        sample,
        failed,
        counts,
    )


def _look(connection: Connection, delivery: Delivery, scan: NewScan) -> tuple[Line | None, Holding | None]:
    if scan.label is None:
        return None, None
    path = scan.label.unit.path
    line = lines_store.get(connection, delivery.number, path)
    holding = holdings_store.get_path(connection, path)
    if line is not None and _take_up(connection, line, holding):
        line = lines_store.get(connection, delivery.number, path)
    if delivery.blind and (line is None or not line.expected) and holding is not None and _is_free(connection, holding):
        # A blind delivery learns from its goods which despatches they are.
        deliveries.attach(connection, delivery, holding.despatch_id)
        line = lines_store.get(connection, delivery.number, path)
    return line, holding


def _take_up(connection: Connection, line: Line, holding: Holding | None) -> bool:
    """Let the next closing decide on what an earlier one has missed, or expected no more; return whether it does."""
    if line.posting is Posting.MISSING and holding is not None and holding.state is HoldingState.INBOUND:
        return deliveries.expect_again(connection, line)
    if line.posting is not Posting.WITHDRAWN:
        return False
    deliveries.expect_no_more(connection, line.delivery, [line.path], posting=Posting.NONE, result=None, scan=0)
    return True


def _is_free(connection: Connection, holding: Holding) -> bool:
    """Tell whether a unit is on its way to us by a despatch that no open delivery has."""
    if holding.state is not HoldingState.INBOUND or not holding.despatch_id:
        return False
    return not deliveries_store.open_with_despatch(connection, holding.despatch_id)


def _facts(connection: Connection, desk: Desk, scan: NewScan, *, line: Line | None, holding: Holding | None) -> Facts:
    expected = deliveries.expected_of(connection, line)
    return Facts(
        ours=desk.glns,
        expected=expected,
        before=_label_before(line),
        received=(line is not None and line.posting in _HAVING_COME)
        or (holding is not None and (holding.here or holding.final)),
        taken_from=scan.taken_from,
        sent_elsewhere=_sent_elsewhere(scan.verdict),
        commissioned=_commissioned(scan.verdict),
    )


def _label_before(line: Line | None) -> Label | None:
    if line is None or not line.scan:
        return None
    return Label(line.unit, line.seen_lot, line.seen_expiry_day)


def _sent_elsewhere(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.code is VerdictCode.ELSEWHERE and verdict.reason == IN_TRANSIT_TO_ANOTHER


def _commissioned(verdict: Verdict | None) -> bool | None:
    if verdict is None or not verdict.tree_size:
        return None
    return VerdictCode.UNKNOWN not in (verdict.code, *verdict.further_codes)


def _record(scan: NewScan, label: Label | None, codes: tuple[ResultCode, ...], line: Line | None) -> ScanRecord:
    finding = codes[0] if codes[0] in DECIDING else None
    if codes[0] is ResultCode.ALREADY_SCANNED and line is not None:
        # It says the same once more: should the first scan be undone, this one stands for it.
        finding = line.result
    return ScanRecord(
        number=0,
        station=scan.station,
        scan_number=scan.scan_number,
        scan=scan.text,
        scan_time=scan.time,
        path="" if label is None else label.unit.path,
        lot="" if label is None else label.lot,
        expiry="" if label is None or label.expiry is None else label.expiry.isoformat(),
        taken_from="" if scan.taken_from is None else scan.taken_from.path,
        condition=scan.condition,
        result=codes[0],
        finding=finding,
        undone=False,
    )


def _decide(connection: Connection, delivery: Delivery, label: Label, recorded: ScanRecord, line: Line | None) -> Line:
    """Let a scan decide what its unit is; return the unit's line."""
    if line is None:
        line = Line(delivery.number, label.unit.path)
        lines_store.add(connection, [replace(line, result=recorded.result)])
    damaged = line.damaged or recorded.condition is Condition.DAMAGED
    lines_store.change_paths(
        connection,
        delivery.number,
        [line.path],
        result=recorded.result,
        scan=recorded.number,
        seen_lot=recorded.lot,
        seen_expiry=recorded.expiry,
        damaged=damaged,
    )
    return replace(
        line,
        result=recorded.result,
        scan=recorded.number,
        seen_lot=recorded.lot,
        seen_expiry=recorded.expiry,
        damaged=damaged,
    )


def undo_scan(connection: Connection, delivery: Delivery, number: int) -> Counts:
    """Take a scan back: its unit is what the scans before and after it say.

    Raises:
        NotFoundError: SCAN_UNKNOWN.
        ConflictError: DELIVERY_CLOSED, SCAN_UNDONE, or its unit was posted by an earlier closing (SCAN_POSTED).
    """
    deliveries_store.require_scannable(delivery)
    record = deliveries_store.get_scan(connection, delivery.number, number)
    if record.undone:
        message = f"scan {number} was taken back before"
        raise ConflictError(message, code="SCAN_UNDONE", field="delivery_scan_number")
    line = lines_store.get(connection, delivery.number, record.path) if record.path else None
    if line is not None and line.posting is not Posting.NONE:
        message = f"{record.path} was {line.posting.value.replace('_', ' ')} when the delivery was closed"
        raise ConflictError(message, code="SCAN_POSTED", field="delivery_scan_number")
    deliveries_store.set_undone(connection, delivery.number, number)
    if line is not None:
        _restate(connection, delivery, line)
    inference.pass_again(connection, delivery.number, scan=number)
    return deliveries_store.counts(connection, delivery.number)


def _restate(connection: Connection, delivery: Delivery, line: Line) -> None:
    record = deliveries_store.deciding_scan(connection, delivery.number, line.path)
    seen = {"seen_lot": "", "seen_expiry": ""} if record is None else _seen(record)
    damaged = deliveries_store.said_damaged(connection, delivery.number, line.path)
    lines_store.change_paths(connection, delivery.number, [line.path], damaged=damaged, **seen)
    deliveries.judge_anew(connection, delivery, [line.path])
    if record is None and line.expected:
        if not line.leaf:
            inference.break_seal(connection, delivery.number, line.path)
        if line.parent:
            inference.infer(connection, delivery.number, line.parent)


def _seen(record: ScanRecord) -> dict[str, str]:
    return {"seen_lot": record.lot, "seen_expiry": record.expiry}
