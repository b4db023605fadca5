"""What the resolution of a case does to goods: events signed like those of every verb.

Only goods that are in the house are touched, and only by cases of the house: what a partner reported changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import ConflictError
from medtrail.event import Capture
from services.custody import commands, events, events_store, inbound_store
from services.custody.conditions import outermost, with_inside
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion, Route
from services.custody.exceptions import store
from services.custody.exceptions.case import Case, CaseResolution, CaseUnit
from services.custody.exceptions.codes import ExceptionCode
from services.custody.holding import Books, Ending, Holding, HoldingState
from services.custody.holds import HoldCode, codes_of, lines_of
from services.custody.origin import Origin
from services.custody.receiving import flaws, settle
from services.custody.rules import Received
from services.custody.steps import Step, StepKind, step_of
from services.custody.units import Named, Unit

HOLD_OF_CODE: dict[ExceptionCode, HoldCode] = {
    ExceptionCode.DAMAGED: HoldCode.DAMAGED,
    ExceptionCode.EXPIRED: HoldCode.EXPIRED,
    ExceptionCode.RECALLED: HoldCode.RECALLED,
    ExceptionCode.SUSPECT: HoldCode.SUSPECT,
    ExceptionCode.TEMPERATURE_EXCURSION: HoldCode.TEMPERATURE_EXCURSION,
    ExceptionCode.RETURN_UNVERIFIED: HoldCode.RETURN_UNVERIFIED,
    ExceptionCode.LABEL_UNREADABLE: HoldCode.LABEL,
}
"""Code of the hold that goes with a case."""


def carry_out(
    session: Session, case: Case, resolution: CaseResolution, occasion: Occasion, *, reason: str
) -> list[Accepted]:
    """Do to the goods of a case what its resolution means; return the events made.

    Raises:
        ConflictError: Goods without data cannot be kept (CASE_NEEDS_DATA), or the data have not come
            (CASE_DATA_MISSING).
    """
    if case.partner_reported:
        # Its units are the partner's word. What is the matter with goods here is said by a case of our own.
        return []
    units = store.units_of_case(session.connection, case.case_id)
    session.load(item.unit for item in units)
    return _EFFECTS[resolution](session, case, units, occasion, reason)


def _here(session: Session, units: Sequence[CaseUnit]) -> list[Named]:
    found = []
    for number, item in enumerate(units):
        holding = session.books.get(item.unit)
        if holding is not None and holding.here:
            found.append(Named(item.unit, f"case.units[{number}]"))
    return found


def _holding(session: Session, named: Named) -> Holding:
    found = session.books.get(named.unit)
    assert found is not None  # noqa: S101  # it was found to be here
    return found


def _keep(session: Session, case: Case, units: Sequence[CaseUnit], occasion: Occasion, reason: str) -> list[Accepted]:
    here = _here(session, units)
    aside = [named for named in here if _holding(session, named).state is HoldingState.EXCEPTION]
    _require_data(session, aside)
    made = _receive(session, aside, occasion, seen_to=case.code)
    return [*made, *end_holds(session, case, here, occasion, reason=reason)]


def _require_data(session: Session, aside: Sequence[Named]) -> None:
    """Refuse to keep goods of which nothing that holds tells: neither a despatch, nor an event of this house."""
    without = {
        part.unit.path: named
        for named in aside
        for part in with_inside(session.books, named.unit)
        if part.state is HoldingState.EXCEPTION and not settle.has_data(session.connection, part)
    }
    made = _made_here(session, list(without))
    for path, named in without.items():
        if path in made:
            continue
        message = f"{path} has no data: it is kept by corrected data, sent back, or destroyed"
        raise ConflictError(message, code="CASE_NEEDS_DATA", field=named.field)


def _made_here(session: Session, paths: Sequence[str]) -> set[str]:
    """Return which of some units this house gave life to, or packed, by events that it has not declared wrong."""
    if not paths:
        return set()
    stored = [item for item in events_store.events_naming(session.connection, paths) if item.own]
    declared = {item.event.header.event_id for item in stored if item.event.is_declaration}
    made: set[str] = set()
    for item in stored:
        header, statement = item.event.header, item.event.statement
        if header.event_id in declared or header.capture is not Capture.FIRST_HAND:
            continue
        if isinstance(statement, EpcisEvent):
            made.update(unit.path for unit in _brought_into_being(step_of(statement, field="event")))
    return made


def _brought_into_being(step: Step) -> Iterable[Unit]:
    if step.kind is StepKind.COMMISSION:
        return (named.unit for named in step.units)
    if step.kind is StepKind.PACK and step.parent is not None:
        return (step.parent.unit,)
    return (named.unit for named in step.outputs)


def _correct(
    session: Session, case: Case, units: Sequence[CaseUnit], occasion: Occasion, reason: str
) -> list[Accepted]:
    here = _here(session, units)
    for named in here:
        if _holding(session, named).state is HoldingState.EXCEPTION:
            message = f"no data have come that match {named.unit.path}"
            raise ConflictError(message, code="CASE_DATA_MISSING", field=named.field)
    return end_holds(session, case, here, occasion, reason=reason)


def _return(
    session: Session, case: Case, units: Sequence[CaseUnit], occasion: Occasion, _reason: str
) -> list[Accepted]:
    here = _here(session, units)
    store.change_units(session.connection, case.case_id, (named.unit for named in here), return_pending=True)
    # Whatever else holds it, or keeps it aside, may end before it goes back.
    reason = f"to be returned, case {case.case_id}"
    free = [named for named in here if reason not in lines_of(_holding(session, named).hold_reason)]
    return commands.hold(session, free, occasion, reason=reason)


def _destroy(
    session: Session, _case: Case, units: Sequence[CaseUnit], occasion: Occasion, _reason: str
) -> list[Accepted]:
    here = _here(session, units)
    return commands.end(session, here, occasion, Ending.DESTROYED) if here else []


_EFFECTS: dict[CaseResolution, Callable[[Session, Case, Sequence[CaseUnit], Occasion, str], list[Accepted]]] = {
    CaseResolution.ACCEPTED: _keep,
    CaseResolution.WITHDRAWN: _keep,
    CaseResolution.CORRECTED_DATA: _correct,
    CaseResolution.RETURNED: _return,
    CaseResolution.DESTROYED: _destroy,
}


def _receive(session: Session, aside: Sequence[Named], occasion: Occasion, *, seen_to: ExceptionCode) -> list[Accepted]:
    """Receive goods that were put aside and have data: what was wrong with them is settled, but for their flaws."""
    groups: dict[str, list[Named]] = {}
    for named in aside:
        groups.setdefault(_holding(session, named).despatch_id, []).append(named)
    made = []
    for despatch_id, group in groups.items():
        shipment = inbound_store.find(session.connection, despatch_id)
        route = None
        if shipment is not None:
            route = Route(shipment.sender, shipment.source_location, session.desk.gln, occasion.location)
        fields = {named.unit: named.field for named in group}
        for part in events.split([named.unit for named in group]):
            statement = events.receiving(
                part, occasion, route, documents=() if shipment is None else shipment.documents
            )
            made.append(session.record(statement, fields=fields, effect=_settled(session, group)))
        commands.count_received(session)
        session.received.clear()
        made += flaws.hold_later(session, group, occasion, despatch_id=despatch_id, but={seen_to})
    return made


def _settled(session: Session, group: Sequence[Named]) -> Callable[[Books, Origin], None]:
    def effect(books: Books, origin: Origin) -> None:
        came: Counter[str] = Counter()
        for named in group:
            for holding in with_inside(books, named.unit):
                if holding.state is HoldingState.EXCEPTION:
                    came[holding.despatch_id] += holding.smallest and not holding.received
                    settled = replace(holding, exception="")
                    books.change(
                        settled,
                        state=settled.state_here,
                        event_id=origin.event_id,
                        since_time=origin.time,
                        location=origin.location or holding.location,
                    )
        session.received.append(Received(dict(came), ()))

    return effect


def is_held_for(session: Session, named: Named, code: ExceptionCode) -> bool:
    """Tell whether a unit here is on hold for what a code says."""
    return HOLD_OF_CODE.get(code) in codes_of(_holding(session, named).hold_reason)


def release_case(
    session: Session, case: Case, units: Sequence[CaseUnit], occasion: Occasion, *, reason: str
) -> list[Accepted]:
    """Release the units of a case that are here from the hold that goes with it."""
    session.load(item.unit for item in units)
    return end_holds(session, case, _here(session, units), occasion, reason=reason)


def end_holds(
    session: Session, case: Case, here: Sequence[Named], occasion: Occasion, *, reason: str
) -> list[Accepted]:
    """Release units that are here from the hold that goes with a case; other holds stay."""
    # What is inside of another is released with it.
    held = outermost(session.books, [named for named in here if is_held_for(session, named, case.code)])
    if not held:
        return []
    return commands.release(session, held, occasion, reason=reason, codes={HOLD_OF_CODE[case.code]})
