"""What holds whatever happens: releases by two persons, lots on hold, excursions, and what follows from an event.

:meth:`services.custody.desk.Session.record` asks before an event is applied (:func:`check`), and tells when it is
(:func:`follow`); so verbs, captured events and stations keep the same rules. What follows is signed in the same
transaction.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medtrail.epcis.model import EpcisEvent
from medtrail.gs1 import Sgtin
from services.custody import cold_chain, events, excursions, holdings_store, lot_holds
from services.custody.conditions import with_inside
from services.custody.events import Occasion
from services.custody.events_store import Stored
from services.custody.exceptions import store as cases
from services.custody.exceptions.codes import ExceptionCode
from services.custody.excursions import NotedExcursion
from services.custody.holding import Books, Holding, HoldingState
from services.custody.holds import HoldCode, added, line, lines_of, of_codes, without
from services.custody.origin import Origin
from services.custody.parties import place_of
from services.custody.steps import Step, StepKind
from services.custody.units import Unit

if TYPE_CHECKING:
    from services.custody.desk import Accepted, Effect, Session

_ARRIVALS = frozenset(
    {StepKind.RECEIVE, StepKind.TAKE_BACK, StepKind.COMMISSION, StepKind.TRANSFORM, StepKind.VOID_SHIPPING}
)


def check(session: "Session", step: Step, statement: EpcisEvent) -> None:
    """Refuse that one person releases what two must release, by whatever event.

    Raises:
        ConflictError: FOUR_EYES_REQUIRED.
    """
    policy = session.desk.holds
    if session.approved or not policy.four_eyes:
        return
    if statement.error_declaration is not None:
        # To call the hold an error would end it as well.
        if step.kind is StepKind.HOLD:
            policy.require_one([step.reason], field="event.errorDeclaration")
        return
    if step.kind is not StepKind.RELEASE:
        return
    for named in step.units:
        for part in with_inside(session.books, named.unit):
            ending = [item for item in lines_of(part.hold_reason) if not step.released or item in step.released]
            policy.require_one(ending, field=named.field)


def follow(session: "Session", step: Step, stored: Stored) -> None:
    """Do what follows from an event that was recorded: hold what arrived and must not move, note what sensors say."""
    statement = stored.event.statement
    if not isinstance(statement, EpcisEvent) or statement.error_declaration is not None:
        return
    if step.kind in _ARRIVALS:
        _hold_arrived(session, step, statement)
    elif step.kind is StepKind.RELEASE:
        _note_released(session, step)
    if cold_chain.concerns(statement):
        take_in_sensors(session, stored, _occasion(session, statement))


def _occasion(session: "Session", statement: EpcisEvent) -> Occasion:
    place = place_of(statement)
    location = place if place in session.desk.glns and place is not None else session.desk.default_location
    return Occasion(statement.event_time, statement.event_time_zone_offset, location)


def _hold_arrived(session: "Session", step: Step, statement: EpcisEvent) -> None:
    arrived = {
        part.unit: part
        for named in (*step.units, *step.outputs)
        for part in with_inside(session.books, named.unit)
        if part.here
    }
    lots = lot_holds.all_standing(session.connection)
    noted = excursions.open_of(session.connection, (unit.path for unit in arrived))
    if not lots and not noted:
        return
    groups: dict[str, list[Unit]] = {}
    for unit, part in arrived.items():
        for reason in _standing_reasons(part, lots.get(_lot_of(part), ()), noted.get(unit.path, ())):
            groups.setdefault(reason, []).append(unit)
    for reason, units in groups.items():
        sign_hold(session, units, _occasion(session, statement), reason)


def _lot_of(holding: Holding) -> tuple[str, str]:
    return (str(holding.unit.gtin), holding.lot) if isinstance(holding.unit, Sgtin) else ("", "")


def _standing_reasons(part: Holding, lots: Sequence[str], noted: Sequence[NotedExcursion]) -> Iterable[str]:
    present = lines_of(part.hold_reason)
    yield from (reason for reason in lots if reason not in present)
    # Marked while it was on its way; only now is it ours to hold.
    yield from dict.fromkeys(excursion_line(item.description) for item in noted)


def excursion_line(description: str) -> str:
    """Return the reason for which a unit that was kept outside of its limits is on hold."""
    return line(HoldCode.TEMPERATURE_EXCURSION, description)


def sign_hold(session: "Session", units: Sequence[Unit], occasion: Occasion, reason: str) -> "list[Accepted]":
    """Sign that units in the house are on hold for one more reason; that they are already is no obstacle."""
    session.load(units)
    return [
        session.record(events.holding(group, occasion, reason=reason), effect=_adding(group, reason))
        for group in events.split(units)
    ]


def _adding(units: Sequence[Unit], reason: str) -> "Effect":
    def effect(books: Books, origin: Origin) -> None:
        for unit in units:
            holding = books.get(unit)
            if holding is not None and holding.here:
                present = lines_of(holding.hold_reason)
                books.change(
                    holding,
                    hold_reason=holding.hold_reason if reason in present else added(holding.hold_reason, reason),
                    event_id=origin.event_id,
                    since_time=origin.time,
                )

    return effect


def freeing(units: Sequence[Unit], reason: str) -> "Effect":
    """Return what the release of a lot does to its packs: one reason ends; that nobody has seen them stays so."""

    def effect(books: Books, origin: Origin) -> None:
        for unit in units:
            holding = books.get(unit)
            if holding is not None:
                left = without(holding.hold_reason, {reason})
                books.change(holding, hold_reason=left, event_id=origin.event_id, since_time=origin.time)

    return effect


def _note_released(session: "Session", step: Step) -> None:
    paths = [
        part.unit.path
        for named in step.units
        for part in with_inside(session.books, named.unit)
        if not of_codes(part.hold_reason, {HoldCode.TEMPERATURE_EXCURSION})
    ]
    excursions.note_released(session.connection, paths, now=session.now)


def take_in_sensors(session: "Session", stored: Stored, occasion: Occasion) -> None:
    """Take in an event about sensors, and hold what it says was kept outside of its limits, with a case.

    Units in the house are held by a signed event; those on their way to it are marked, and held when they arrive.
    """
    found = cold_chain.take_in(session, stored)
    if not found:
        return
    for description, units in cold_chain.units_here(session.connection, found).items():
        sign_hold(
            session, units, Occasion(session.now, occasion.offset, occasion.location), excursion_line(description)
        )
    _mark_inbound(session, stored, found)
    ours = [item for item in found if session.books.get(item.unit) is not None]
    if ours:
        first = session.books.get(ours[0].unit)
        cases.open_cases(
            session.connection,
            session.desk.gln,
            ExceptionCode.TEMPERATURE_EXCURSION,
            units=[item.unit for item in ours],
            partner=None if first is None else first.partner,
            despatch_id="" if first is None else first.despatch_id,
            detail=ours[0].description,
            now=session.now,
        )


def take_in_advised(session: "Session", stored: Stored) -> None:
    """Take in what a partner's event says of sensors, once the goods that it came with are in the books."""
    take_in_sensors(session, stored, Occasion(session.now, "+00:00", session.desk.default_location))


def _mark_inbound(session: "Session", stored: Stored, found: Sequence[NotedExcursion]) -> None:
    session.load(item.unit for item in found)
    for item in found:
        holding = session.books.get(item.unit)
        reason = excursion_line(item.description)
        if (
            holding is not None
            and holding.state is HoldingState.INBOUND
            and reason not in lines_of(holding.hold_reason)
        ):
            session.books.change(holding, hold_reason=added(holding.hold_reason, reason))
    holdings_store.save_changes(session.connection, session.books, event_number=stored.number)
