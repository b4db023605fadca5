"""Exception cases of deliveries: opened with the scan that raised them, closed when the data have been corrected."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medtrail.gs1 import Gln
from services.custody import inbound_store
from services.custody.desk import Session
from services.custody.exceptions import store as case_store
from services.custody.exceptions.case import CaseResolution, CaseScan, NewCase
from services.custody.exceptions.codes import ExceptionCode, rule_of
from services.custody.exceptions.exchange import close_and_tell
from services.custody.receiving import arrivals_store, deliveries_store, lines_store
from services.custody.receiving.codes import Posting, ResultCode
from services.custody.receiving.deliveries_store import Delivery, ScanRecord
from services.custody.receiving.lines_store import Line
from services.custody.units import Unit

BY_DATA = frozenset(
    {
        ExceptionCode.OVERAGE,
        ExceptionCode.SHORTAGE,
        ExceptionCode.LOT_MISMATCH,
        ExceptionCode.EXPIRY_MISMATCH,
        ExceptionCode.SERIAL_UNKNOWN,
        ExceptionCode.WRONG_CONSIGNEE,
        ExceptionCode.DESPATCH_REFUSED,
        ExceptionCode.CONCEALED_SHORTAGE,
        ExceptionCode.CONCEALED_OVERAGE,
    }
)
"""Cases that end when the data fit the goods; damage and recalls do not end by data."""

UNSETTLED = frozenset({Posting.PUT_ASIDE, Posting.MISSING})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is the matter with some units of one despatch, or with one scan that names none."""

    code: ExceptionCode
    lines: tuple[Line, ...]
    scan: ScanRecord | None = None


def open_cases(session: Session, delivery: Delivery, troubles: Iterable[Trouble]) -> list[str]:
    """Open a case for each trouble; one about the same that is open is taken up again. Return their ids."""
    found: dict[str, None] = {}
    for trouble in troubles:
        for case_id, units in _open(session, delivery, trouble).items():
            paths = [unit.path for unit in units]
            lines_store.change_paths(session.connection, delivery.number, paths, case_id=case_id)
            found[case_id] = None
    return list(found)


def _open(session: Session, delivery: Delivery, trouble: Trouble) -> dict[str, list[Unit]]:
    connection, lines = session.connection, trouble.lines
    record = trouble.scan
    scanned = next((line.scan for line in lines if line.scan), 0)
    if record is None and scanned:
        record = deliveries_store.get_scan(connection, delivery.number, scanned)
    despatch_id = lines[0].despatch_id if lines else ""
    rule = rule_of(trouble.code)
    count = f"{len(lines)} unit{'' if len(lines) == 1 else 's'}" if lines else "one label"
    new = NewCase(
        trouble.code,
        f"{count} at receiving: {rule.instruction}",
        [line.unit for line in lines],
        None if despatch_id else sender_of(session, delivery),
        despatch_id,
        delivery.delivery_id,
        None if record is None else CaseScan(record.scan, record.scan_time, record.station),
    )
    return case_store.open_cases(connection, session.desk.gln, new, now=session.now)


def sender_of(session: Session, delivery: Delivery) -> Gln | None:
    """Return whose goods a delivery brings, where all of its despatches are of one sender."""
    senders = set()
    for despatch_id in deliveries_store.despatches(session.connection, delivery.number):
        shipment = inbound_store.find(session.connection, despatch_id)
        if shipment is not None:
            senders.add(shipment.sender)
    return senders.pop() if len(senders) == 1 else None


def note_found(session: Session, units: Sequence[Unit]) -> None:
    """Note that units which earlier deliveries missed have been received, and close the cases about nothing else."""
    missed = [
        line
        for line in lines_store.of_units(session.connection, [unit.path for unit in units])
        if line.posting is Posting.MISSING
    ]
    for line in missed:
        lines_store.change_paths(
            session.connection,
            line.delivery,
            [line.path],
            result=ResultCode.MATCH,
            posting=Posting.RECEIVED_LATER,
        )
    close_settled(session, units)


def close_settled(session: Session, units: Sequence[Unit]) -> list[str]:
    """Close the cases all of whose units have been settled by corrected data; return their ids."""
    paths = [unit.path for unit in units]
    by_lines = [line.case_id for line in lines_store.of_units(session.connection, paths) if line.case_id]
    # What was received without a delivery has no lines; its case knows its units.
    by_units = case_store.cases_with_units(session.connection, paths, ExceptionCode.DESPATCH_REFUSED)
    note = "the data were corrected, and the goods were received"
    return [
        case_id
        for case_id in dict.fromkeys([*by_lines, *by_units])
        if _is_settled(session, case_id) and close_and_tell(session, case_id, CaseResolution.CORRECTED_DATA, note=note)
    ]


def _is_settled(session: Session, case_id: str) -> bool:
    case = case_store.find_case(session.connection, case_id)
    if case is None or case.code not in BY_DATA:
        return False
    if lines_store.any_of_case(session.connection, case_id, UNSETTLED):
        return False
    if case.code is not ExceptionCode.DESPATCH_REFUSED:
        return True
    paths = [item.unit.path for item in case_store.units_of_case(session.connection, case_id)]
    return not arrivals_store.of_paths(session.connection, paths)


def change_case(session: Session, lines: Sequence[Line], code: ExceptionCode) -> None:
    """Go on with units of one delivery and despatch under another code: their data have come, and do not fit."""
    delivery = deliveries_store.by_number(session.connection, lines[0].delivery)
    opened = open_cases(session, delivery, [Trouble(code, tuple(lines))])
    note = f"data have come; they do not fit the goods: see case {opened[0]}"
    for case_id in dict.fromkeys(line.case_id for line in lines if line.case_id and line.case_id not in opened):
        if not lines_store.any_of_case(session.connection, case_id, UNSETTLED):
            close_and_tell(session, case_id, CaseResolution.CORRECTED_DATA, note=note)
