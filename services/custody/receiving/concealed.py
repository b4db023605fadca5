"""What was found wrong in sealed containers after a delivery was closed: exactly those units are reopened.

A pack that was received by inference and is not there was not in its container when that was received. The event that
says so is an absence dated one millisecond before the container came: whoever reads the events by their time finds the
pack on its way still, and nothing has to be declared an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import ConflictError, NotFoundError
from services.custody import commands, events, events_store, inbound_store
from services.custody.desk import Accepted, Effect, Session
from services.custody.events import Occasion
from services.custody.exceptions.codes import ExceptionCode
from services.custody.holding import Books, Holding, HoldingState
from services.custody.origin import Origin
from services.custody.receiving import arrivals, arrivals_store, cases, deliveries_store, lines_store
from services.custody.receiving.arrivals import WITHOUT_DATA
from services.custody.receiving.arrivals_store import Waiting
from services.custody.receiving.cases import Trouble
from services.custody.receiving.codes import Posting, ResultCode
from services.custody.receiving.deliveries_store import Delivery
from services.custody.receiving.lines_store import Line
from services.custody.receiving.reconcile import Label, mismatches
from services.custody.units import Named, Unit

BEFORE = timedelta(milliseconds=1)
"""The event hash knows nothing finer."""
RECEIVING = "receiving"
"""Business step by which goods are received (CBV 2.0, section 7.1)."""
ARRIVING = "arriving"
"""Likewise, by which goods are put aside that wait for data."""
_ANOTHER_STAY = frozenset({RECEIVING, "shipping"})
_RECEIVED = frozenset({Posting.RECEIVED, Posting.RECEIVED_LATER})


@dataclass(slots=True)
class Reported:
    """What came of a report: the events made, and the exception cases."""

    accepted: list[Accepted] = field(default_factory=list)
    case_ids: list[str] = field(default_factory=list)


def report_shortages(session: Session, delivery: Delivery, units: Sequence[Named]) -> Reported:
    """Take back the receiving of packs that came by inference only and are not there.

    Raises:
        NotFoundError: UNIT_NOT_IN_DELIVERY.
        ConflictError: DELIVERY_OPEN; a pack was scanned itself (UNIT_WAS_SCANNED), was not received by this delivery
            (UNIT_NOT_RECEIVED), or has been moved since (UNIT_MOVED).
    """
    deliveries_store.require_closed(delivery)
    found = [_inferred(session, delivery, named) for named in units]
    groups: dict[tuple[int, Unit], list[Holding]] = {}
    received: dict[int, EpcisEvent] = {}
    for holding, named in zip(found, units, strict=True):
        number, statement = _received_by(session, delivery, named)
        received[number] = statement
        if holding.parent is not None:
            groups.setdefault((number, holding.parent), []).append(holding)
    reported = Reported()
    for (number, parent), holdings in groups.items():
        reported.accepted += _was_not_inside(session, received[number], parent, holdings)
    for despatch_id in {holding.despatch_id for holding in found}:
        gone = sum(holding.smallest and holding.despatch_id == despatch_id for holding in found)
        inbound_store.count_received(session.connection, despatch_id, -gone)
    paths = [holding.unit.path for holding in found]
    lines_store.change_paths(
        session.connection, delivery.number, paths, result=ResultCode.UNDER, posting=Posting.MISSING
    )
    reported.case_ids = cases.open_cases(
        session, delivery, _by_despatch(session, delivery, paths, ExceptionCode.CONCEALED_SHORTAGE)
    )
    return reported


def _inferred(session: Session, delivery: Delivery, named: Named) -> Holding:
    line = lines_store.get(session.connection, delivery.number, named.unit.path)
    if line is None:
        message = f"{named.unit.path} is no unit of this delivery"
        raise NotFoundError(message, code="UNIT_NOT_IN_DELIVERY", field=named.field)
    if line.posting not in _RECEIVED or not line.leaf:
        message = f"{named.unit.path} is no pack that this delivery has received"
        raise ConflictError(message, code="UNIT_NOT_RECEIVED", field=named.field)
    holding = session.books.get(named.unit)
    if line.scan:
        message = f"{named.unit.path} was scanned when it was received: it was there"
        raise ConflictError(message, code="UNIT_WAS_SCANNED", field=named.field)
    if holding is None or not holding.inferred or holding.state is not HoldingState.ON_HAND or holding.parent is None:
        message = f"{named.unit.path} has been seen or moved since: it is not concealed"
        raise ConflictError(message, code="UNIT_MOVED", field=named.field)
    return holding


def _received_by(session: Session, delivery: Delivery, named: Named) -> tuple[int, EpcisEvent]:
    """Return the number of the event of ours by which a unit was received, and the event of ours by which it came.

    That is the receiving itself, or the arrival before it, where its container waited for data; what held it since is
    later.

    Raises:
        ConflictError: None names a container in which it came (UNIT_MOVED).
    """
    line = lines_store.get(session.connection, delivery.number, named.unit.path)
    paths = {container.unit.path for container in session.books.containers(named.unit)}
    if line is not None:
        paths |= {container.path for container in lines_store.ancestors(session.connection, line)}
    own = [item for item in events_store.events_naming(session.connection, paths) if item.own]
    declared = {item.event.header.event_id for item in own if item.event.is_declaration}
    told = (
        (item.number, item.event.statement)
        for item in reversed(own)
        if isinstance(item.event.statement, EpcisEvent) and item.event.header.event_id not in declared
    )
    found = next(((number, event) for number, event in told if event.biz_step == RECEIVING), None)
    if found is None:
        message = f"no event of ours has received {named.unit.path}"
        raise ConflictError(message, code="UNIT_MOVED", field=named.field)
    number, came = found
    for _, earlier in told:
        if earlier.biz_step in _ANOTHER_STAY:
            break
        came = earlier if earlier.biz_step == ARRIVING else came
    return number, came


def _was_not_inside(
    session: Session, received: EpcisEvent, parent: Unit, holdings: Sequence[Holding]
) -> list[Accepted]:
    location = holdings[0].location or session.desk.default_location
    occasion = Occasion(received.event_time - BEFORE, received.event_time_zone_offset, location)
    return [
        session.record(events.absence(parent, group, occasion), effect=_on_its_way(group))
        for group in events.split([holding.unit for holding in holdings])
    ]


def _on_its_way(units: Sequence[Unit]) -> Effect:
    def effect(books: Books, origin: Origin) -> None:
        for unit in units:
            holding = books.get(unit)
            if holding is not None:
                books.change(
                    holding,
                    state=HoldingState.INBOUND,
                    parent=None,
                    # What is not here is not on hold; what holds its lot does so again when it comes.
                    hold_reason="",
                    inferred=False,
                    location=None,
                    event_id=origin.event_id,
                    since_time=origin.time,
                )

    return effect


def _by_despatch(session: Session, delivery: Delivery, paths: Sequence[str], code: ExceptionCode) -> list[Trouble]:
    groups: dict[str, list[Line]] = {}
    for line in lines_store.find_paths(session.connection, delivery.number, paths).values():
        groups.setdefault(line.despatch_id, []).append(line)
    return [Trouble(code, tuple(lines)) for lines in groups.values()]


def report_overages(
    session: Session, delivery: Delivery, labels: Sequence[tuple[Label, str]], occasion: Occasion
) -> Reported:
    """Take in packs that were found beyond those advised; one that was missed is received.

    Args:
        session: With the books of the packs.
        delivery: Closed.
        labels: What was read from each, with the field that says it.
        occasion: When and where they were found.

    Raises:
        ConflictError: DELIVERY_OPEN, or a pack is here already (ALREADY_RECEIVED).
    """
    deliveries_store.require_closed(delivery)
    reported = Reported()
    extra: list[tuple[Label, str]] = []
    for label, where in labels:
        holding = session.books.get(label.unit)
        if holding is not None and (holding.here or holding.final):
            message = f"{label.unit.path} is {holding.state.replace('_', ' ')} here since {holding.since_time}"
            raise ConflictError(message, code="ALREADY_RECEIVED", field=where)
        fits = holding is not None and not mismatches(label, lot=holding.lot, expiry=holding.expiry)
        if holding is not None and holding.state is HoldingState.INBOUND and fits:
            reported.accepted += _receive_missed(session, Named(label.unit, where), holding, occasion)
        else:
            extra.append((label, where))
    if extra:
        reported.accepted += _arrive(session, delivery, extra, occasion)
        paths = [label.unit.path for label, _ in extra]
        troubles = _by_despatch(session, delivery, paths, ExceptionCode.CONCEALED_OVERAGE)
        reported.case_ids += cases.open_cases(session, delivery, troubles)
    return reported


def _receive_missed(session: Session, named: Named, holding: Holding, occasion: Occasion) -> list[Accepted]:
    shipment = inbound_store.find(session.connection, holding.despatch_id)
    made = commands.take_out(session, [named], occasion)
    made += commands.receive_group(session, [named], occasion, shipment)
    commands.count_received(session)
    session.received.clear()
    cases.note_found(session, [named.unit])
    return made


def _arrive(
    session: Session, delivery: Delivery, extra: Sequence[tuple[Label, str]], occasion: Occasion
) -> list[Accepted]:
    named = [Named(label.unit, where) for label, where in extra]
    made = commands.take_out(session, named, occasion)
    made += arrivals.record_arrival(session, named, occasion, WITHOUT_DATA)
    waiting = [
        Waiting(label.unit.path, delivery.number, label.lot, label.expiry, occasion.location) for label, _ in extra
    ]
    arrivals_store.keep(session.connection, waiting, now=session.now)
    fresh = {
        label.unit.path: Line(
            delivery.number,
            label.unit.path,
            result=ResultCode.OVER,
            seen_lot=label.lot,
            seen_expiry="" if label.expiry is None else label.expiry.isoformat(),
            posting=Posting.PUT_ASIDE,
        )
        for label, _ in extra
    }
    known = lines_store.find_paths(session.connection, delivery.number, list(fresh))
    lines_store.add(session.connection, [line for path, line in fresh.items() if path not in known])
    for path in known:
        line = fresh[path]
        lines_store.change_paths(
            session.connection,
            delivery.number,
            [path],
            result=line.result,
            seen_lot=line.seen_lot,
            seen_expiry=line.seen_expiry,
            posting=line.posting,
        )
    return made
