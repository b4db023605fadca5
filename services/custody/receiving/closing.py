"""Closing a delivery: what is good is received at once, what is not is put aside, and each is told to whom it concerns.

One transaction: the events, the books, the cases and the receiving advices are there together, or none is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import and_
from sqlmodel import col

from medtrail.errors import ConflictError
from services.custody import commands, inbound_store
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion, Route
from services.custody.exceptions.codes import ExceptionCode
from services.custody.inbound_store import InboundShipment
from services.custody.receiving import (
    arrivals,
    arrivals_store,
    cases,
    deliveries_store,
    flaws,
    inference,
    lines_store,
    receipts,
)
from services.custody.receiving.arrivals import MISMATCH, NOT_SELLABLE, WITHOUT_DATA, Aside
from services.custody.receiving.arrivals_store import Waiting
from services.custody.receiving.cases import Trouble
from services.custody.receiving.codes import CASE_OF_RESULT, FOUND, MISMATCHED, OUTSIDE, Posting, ResultCode
from services.custody.receiving.deliveries_store import Delivery
from services.custody.receiving.lines_store import Line
from services.custody.receiving.plan import Plan, above, make_plan
from services.custody.receiving.tables import DeliveryLine
from services.custody.units import Named

FIELD = "delivery_id"


@dataclass(slots=True)
class Closed:
    """What came of a closing.

    Attributes:
        delivery: As it is now.
        accepted: The events made.
        case_ids: Exception cases opened, or taken up again.
        advices: Numbers of the receiving advices.
    """

    delivery: Delivery
    accepted: list[Accepted] = field(default_factory=list)
    case_ids: list[str] = field(default_factory=list)
    advices: list[str] = field(default_factory=list)


def close_delivery(session: Session, delivery: Delivery, occasion: Occasion, *, samples_missing: bool) -> Closed:
    """Close a delivery.

    Args:
        session: With any books; those of the delivery are read here.
        delivery: Open.
        occasion: When the goods were received, at the delivery's location.
        samples_missing: Sampled packs that were not scanned are not there.

    Raises:
        ConflictError: DELIVERY_CLOSED, SAMPLE_INCOMPLETE.
    """
    connection, number = session.connection, delivery.number
    deliveries_store.require_scannable(delivery)
    _finish_samples(session, number, give_up=samples_missing)
    unposted = and_(lines_store.of_delivery(number), col(DeliveryLine.posting) == "")
    lines = _with_damaged_contents(session, number, lines_store.find(connection, unposted))
    session.load(line.unit for line in lines)
    plan = make_plan(lines, session.books)
    _find_second_packs(session, delivery, plan)
    closed = Closed(delivery)
    before = {path: session.books.get(line.unit) for path, line in plan.good.items()}
    # Absences first: whoever opens a container has what is in it, unless that was said before.
    closed.accepted += commands.say_absent(session, _named(plan.absent.values()), occasion)
    closed.accepted += commands.take_out(session, _named(plan.take_out.values()), occasion)
    closed.accepted += _receive(session, plan, occasion)
    troubles, held = _hold_flawed(session, plan, occasion)
    closed.accepted += held
    closed.accepted += _put_aside(session, delivery, plan, occasion)
    commands.count_received(session)
    _post(session, number, plan)
    cases.note_found(session, [line.unit for line in plan.good.values()])
    troubles += _troubles_of(session, delivery, plan)
    closed.case_ids = cases.open_cases(session, delivery, troubles)
    closed.advices = receipts.answer_senders(session, delivery, plan, before)
    closed.delivery = deliveries_store.set_closed(connection, delivery, now=session.now)
    return closed


def _find_second_packs(session: Session, delivery: Delivery, plan: Plan) -> None:
    """Say of what was scanned, and is here by other ways, that it was received before: there may be two of it.

    That may be one pack still, where it was scanned as advised and received meanwhile without a scan of its own.
    """
    scanned = {path: line for path, line in plan.left.items() if line.scan}
    found = [path for path, line in scanned.items() if line.result in OUTSIDE | MISMATCHED]
    for other in lines_store.of_units(session.connection, [path for path in scanned if path not in found]):
        received = other.posting in {Posting.RECEIVED, Posting.RECEIVED_LATER} and other.scan > 0
        if received and other.delivery != delivery.number and _closed_since(session, other.delivery, delivery):
            found.append(other.path)
    again = ResultCode.ALREADY_RECEIVED
    plan.left.update({path: replace(plan.left[path], result=again) for path in found})
    lines_store.change_paths(session.connection, delivery.number, found, result=again)


def _closed_since(session: Session, number: int, delivery: Delivery) -> bool:
    closed = deliveries_store.by_number(session.connection, number).close_time
    return closed is not None and closed >= delivery.open_time


def _finish_samples(session: Session, number: int, *, give_up: bool) -> None:
    waiting = inference.unfinished(session.connection, number)
    if not waiting:
        return
    if not give_up:
        message = f"{len(waiting)} containers have sampled packs that were not scanned; scan them, or say they are gone"
        raise ConflictError(message, code="SAMPLE_INCOMPLETE", field=FIELD, container=waiting[0])
    inference.give_up(session.connection, number)


def _named(lines: Iterable[Line]) -> list[Named]:
    return [Named(line.unit, FIELD) for line in lines]


def _receive(session: Session, plan: Plan, occasion: Occasion) -> list[Accepted]:
    made: list[Accepted] = []
    for despatch_id, named in _by_despatch(session, plan.named.values()).items():
        shipment = inbound_store.find(session.connection, despatch_id)
        made += commands.receive_group(session, named, occasion, shipment)
    return made


def _by_despatch(session: Session, lines: Iterable[Line]) -> dict[str, list[Named]]:
    found: dict[str, list[Named]] = {}
    for line in lines:
        holding = session.books.get(line.unit)
        found.setdefault("" if holding is None else holding.despatch_id, []).append(Named(line.unit, FIELD))
    return found


# --- good data, but not good ---


def _with_damaged_contents(session: Session, number: int, lines: Sequence[Line]) -> list[Line]:
    """Return lines with those damaged that came in a container which was scanned as damaged; keep that."""
    known = {line.path: line for line in lines}
    crushed = {
        line.path
        for line in lines
        if not line.damaged
        and line.result not in {None, ResultCode.OTHER_CONTAINER}
        and any(box.damaged for box in above(known, line))
    }
    lines_store.change_paths(session.connection, number, sorted(crushed), damaged=True)
    return [replace(line, damaged=line.damaged or line.path in crushed) for line in lines]


def _hold_flawed(session: Session, plan: Plan, occasion: Occasion) -> tuple[list[Trouble], list[Accepted]]:
    """Put on hold what is ours and may not be sold, once for each reason: under recall, expired, damaged."""
    troubles: dict[ExceptionCode, list[Line]] = {}
    for line in plan.good.values():
        for code in flaws.flaws_of(session, line.unit, occasion, damaged=line.damaged):
            troubles.setdefault(code, []).append(line)
    made = flaws.hold_flawed(session, {code: _named(lines) for code, lines in troubles.items()}, occasion)
    return [Trouble(code, tuple(lines)) for code, lines in troubles.items()], made


# --- data that are missing or do not fit ---

_ASIDE_OF_RESULT: Mapping[ResultCode, Aside] = {
    ResultCode.OVER: WITHOUT_DATA,
    ResultCode.UNKNOWN_SERIAL: WITHOUT_DATA,
    ResultCode.NOT_FOR_US: Aside(ExceptionCode.WRONG_CONSIGNEE.value, NOT_SELLABLE),
    ResultCode.WRONG_LOT: Aside(ExceptionCode.LOT_MISMATCH.value, MISMATCH, has_data=True),
    ResultCode.WRONG_EXPIRY: Aside(ExceptionCode.EXPIRY_MISMATCH.value, MISMATCH, has_data=True),
}


def _put_aside(session: Session, delivery: Delivery, plan: Plan, occasion: Occasion) -> list[Accepted]:
    groups: dict[tuple[ResultCode, str], list[Line]] = {}
    for line, result in plan.aside.values():
        groups.setdefault((result, line.despatch_id if result in MISMATCHED else ""), []).append(line)
    made: list[Accepted] = []
    for (result, despatch_id), lines in groups.items():
        shipment = inbound_store.find(session.connection, despatch_id) if despatch_id else None
        made += arrivals.record_arrival(
            session,
            _named(lines),
            occasion,
            _ASIDE_OF_RESULT[result],
            route=_route(session, shipment, occasion),
            documents=() if shipment is None else shipment.documents,
        )
    waiting = [
        Waiting(line.path, delivery.number, line.seen_lot, line.seen_expiry_day, occasion.location)
        for line, _ in plan.aside.values()
    ]
    arrivals_store.keep(session.connection, waiting, now=session.now)
    return made


def _route(session: Session, shipment: InboundShipment | None, occasion: Occasion) -> Route | None:
    if shipment is None:
        return None
    return Route(shipment.sender, shipment.source_location, session.desk.gln, occasion.location)


# --- what is kept of it ---


def _post(session: Session, number: int, plan: Plan) -> None:
    def post(paths: Iterable[str], posting: Posting, **values: object) -> None:
        lines_store.change_paths(session.connection, number, list(paths), posting=posting, **values)

    post(plan.good, Posting.RECEIVED)
    mended = [path for path, line in plan.good.items() if line.result in MISMATCHED]
    lines_store.change_paths(session.connection, number, mended, result=ResultCode.MATCH)
    post((path for path in plan.named if path not in plan.good), Posting.RECEIVED)
    by_result: dict[ResultCode, list[str]] = {}
    for path, (_, result) in (*plan.aside.items(), *plan.inside_aside.items()):
        by_result.setdefault(result, []).append(path)
    for result, paths in by_result.items():
        post(paths, Posting.PUT_ASIDE, result=result)
    post(plan.missing, Posting.MISSING, result=ResultCode.UNDER)
    post(plan.left, Posting.LEFT)
    unseen = [path for path, line in plan.left.items() if line.result is None]
    lines_store.change_paths(session.connection, number, unseen, result=ResultCode.ALREADY_RECEIVED)
    post(plan.gone, Posting.WITHDRAWN, leaf=False)
    _post_containers(session, number, plan)


def _post_containers(session: Session, number: int, plan: Plan) -> None:
    """Say of containers that were not named whether they came with another, or are missing with all that is inside."""
    done = {*plan.good, *plan.named, *plan.aside, *plan.inside_aside, *plan.missing, *plan.left, *plan.gone}
    rest = [line for path, line in plan.lines.items() if path not in done]
    came = [line.path for line in rest if line.result in FOUND]
    lines_store.change_paths(session.connection, number, came, posting=Posting.RECEIVED)
    scanned = (*plan.good.values(), *(line for line, _ in plan.aside.values()))
    opened = {item.path for line in scanned for item in above(plan.lines, line)}
    left = [line.path for line in rest if line.result not in FOUND and line.path in opened]
    lines_store.change_paths(session.connection, number, left, posting=Posting.LEFT)
    missing = [line.path for line in rest if line.result not in FOUND and line.path not in opened]
    lines_store.change_paths(session.connection, number, missing, posting=Posting.MISSING, result=ResultCode.UNDER)


def _troubles_of(session: Session, delivery: Delivery, plan: Plan) -> list[Trouble]:
    groups: dict[tuple[ExceptionCode, str], list[Line]] = {}
    for line, result in plan.aside.values():
        groups.setdefault((CASE_OF_RESULT[result], line.despatch_id), []).append(line)
    for line in plan.missing.values():
        groups.setdefault((ExceptionCode.SHORTAGE, line.despatch_id), []).append(line)
    for line in plan.left.values():
        if line.result is ResultCode.ALREADY_RECEIVED:
            groups.setdefault((ExceptionCode.ALREADY_RECEIVED, line.despatch_id), []).append(line)
    found = [Trouble(code, tuple(lines)) for (code, _), lines in groups.items()]
    unreadable = deliveries_store.unreadable_scans(session.connection, delivery)
    return [*found, *(Trouble(ExceptionCode.LABEL_UNREADABLE, (), scan) for scan in unreadable)]
