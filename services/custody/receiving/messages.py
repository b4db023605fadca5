"""Receiving as messages."""

from sqlalchemy import Connection

from medtrail.api.receiving.v1 import receiving_pb2
from medtrail.codec import to_timestamp
from medtrail.codec.verdict import verdict_to_message
from medtrail.verdict import Verdict
from services.custody.receiving import deliveries_store, inference
from services.custody.receiving.codes import MESSAGES, Condition, DeliveryState, Posting, ResultCode
from services.custody.receiving.deliveries_store import Delivery, ScanRecord
from services.custody.receiving.lines_store import Counts, Line
from services.custody.receiving.scanning import Outcome
from services.custody.units import unit_of_path

MAX_SAMPLE_CONTAINERS = 100

CODE_TO_MESSAGE = {
    code: receiving_pb2.ReconciliationCode.Value(f"RECONCILIATION_CODE_{code.name}") for code in ResultCode
}
CODE_FROM_MESSAGE = {number: code for code, number in CODE_TO_MESSAGE.items()}
STATE_TO_MESSAGE = {state: receiving_pb2.DeliveryState.Value(f"DELIVERY_STATE_{state.name}") for state in DeliveryState}
STATE_FROM_MESSAGE = {number: state for state, number in STATE_TO_MESSAGE.items()}
CONDITION_FROM_MESSAGE = {
    receiving_pb2.UNIT_CONDITION_UNSPECIFIED: Condition.GOOD,
    receiving_pb2.UNIT_CONDITION_DAMAGED: Condition.DAMAGED,
    receiving_pb2.UNIT_CONDITION_LABEL_UNREADABLE: Condition.LABEL_UNREADABLE,
}
_POSTING_TO_MESSAGE = {
    posting: receiving_pb2.UNIT_POSTING_UNSPECIFIED
    if posting is Posting.NONE
    else receiving_pb2.UnitPosting.Value(f"UNIT_POSTING_{posting.name}")
    for posting in Posting
}


def _code(code: ResultCode | None) -> receiving_pb2.ReconciliationCode.ValueType:
    return receiving_pb2.RECONCILIATION_CODE_UNSPECIFIED if code is None else CODE_TO_MESSAGE[code]


def counts_to_message(counts: Counts) -> receiving_pb2.DeliveryCounts:
    """Return counts as message, codes in the order of their numbers."""
    codes = sorted((_code(code), units) for code, units in counts.by_result.items())
    return receiving_pb2.DeliveryCounts(
        expected=counts.expected,
        found=counts.found,
        missing=counts.missing,
        excepted=counts.excepted,
        codes=[receiving_pb2.CodeCount(code=code, units=units) for code, units in codes],
        scans=counts.scans,
    )


def delivery_to_message(connection: Connection, delivery: Delivery) -> receiving_pb2.Delivery:
    """Return a delivery as message, with its counts as they are now."""
    unfinished = inference.unfinished(connection, delivery.number)[:MAX_SAMPLE_CONTAINERS]
    return receiving_pb2.Delivery(
        delivery_id=delivery.delivery_id,
        state=STATE_TO_MESSAGE[delivery.state],
        despatch_event_ids=deliveries_store.despatches(connection, delivery.number),
        blind=delivery.blind,
        open_time=to_timestamp(delivery.open_time),
        close_time=None if delivery.close_time is None else to_timestamp(delivery.close_time),
        location=str(delivery.location),
        sample_share=delivery.sample_permille / 1000,
        counts=counts_to_message(deliveries_store.counts(connection, delivery.number)),
        sample_containers=[unit_of_path(path).digital_link for path in unfinished],
    )


def outcome_to_message(
    outcome: Outcome, verdict: Verdict | None, *, scan_number: int
) -> receiving_pb2.ScanDeliveryResponse:
    """Return what came of a scan as message."""
    message = MESSAGES[outcome.codes[0]]
    if outcome.sample_failed:
        message += " The sample has failed: scan every pack of the container."
    elif outcome.sample:
        message += f" Scan {len(outcome.sample)} packs of it as sample."
    return receiving_pb2.ScanDeliveryResponse(
        scan_number=scan_number,
        delivery_scan_number=outcome.number,
        code=_code(outcome.codes[0]),
        further_codes=[_code(code) for code in outcome.codes[1:]],
        message=message,
        epc="" if outcome.unit is None else outcome.unit.digital_link,
        verdict=None if verdict is None else verdict_to_message(verdict),
        inferred=outcome.inferred,
        sample_epcs=[unit_of_path(path).digital_link for path in outcome.sample],
        sample_failed=outcome.sample_failed,
        counts=counts_to_message(outcome.counts),
    )


def line_to_message(line: Line) -> receiving_pb2.DeliveryUnit:
    """Return a unit of a delivery as message."""
    return receiving_pb2.DeliveryUnit(
        epc=line.unit.digital_link,
        parent=unit_of_path(line.parent).digital_link if line.parent else "",
        despatch_event_id=line.despatch_id,
        code=_code(line.result),
        lot=line.lot,
        expiry=line.expiry,
        scanned_lot=line.seen_lot,
        scanned_expiry=line.seen_expiry,
        damaged=line.damaged,
        posting=_POSTING_TO_MESSAGE[line.posting],
        case_id=line.case_id,
        smallest=line.leaf,
    )


def scan_to_message(record: ScanRecord) -> receiving_pb2.DeliveryScan:
    """Return a recorded scan as message."""
    return receiving_pb2.DeliveryScan(
        delivery_scan_number=record.number,
        station=record.station,
        scan_number=record.scan_number,
        scan=record.scan,
        scan_time=to_timestamp(record.scan_time),
        code=CODE_TO_MESSAGE[record.result],
        epc=unit_of_path(record.path).digital_link if record.path else "",
        undone=record.undone,
    )
