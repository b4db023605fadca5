"""What holds whatever happens: releases by two persons, lots on hold, excursions, and what follows from an event.

:meth:`services.custody.desk.Session.record` asks before an event is applied (:func:`check`), and tells when it is
(:func:`follow`); so verbs, captured events and stations keep the same rules. What follows is signed in the same
transaction.
"""

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from medtrail.epcis.model import EpcisEvent
from medtrail.event import Capture
from medtrail.gs1 import Gln, Sgtin
from services.custody import cold_chain, events, excursions, holdings_store, lot_holds
from services.custody.conditions import with_inside
from services.custody.events import Occasion
from services.custody.events_store import Stored
from services.custody.exceptions import store as cases
from services.custody.exceptions.case import NewCase
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
    # What others did, we only pass on: nothing of ours has moved by it, and nobody here has released anything.
    ours = stored.event.header.capture is Capture.FIRST_HAND
    if ours and step.kind in _ARRIVALS:
        _hold_arrived(session, step, statement)
    elif ours and step.kind is StepKind.RELEASE:
        _note_released(session, step)
    # What others tell of sensors is heard when it is known which goods they are party to.
    if ours and cold_chain.concerns(statement):
        take_in_sensors(session, stored, _occasion(session, statement))


def _occasion(session: "Session", statement: EpcisEvent) -> Occasion:
    place = place_of(statement)
    location = place if place in session.desk.glns and place is not None else session.desk.default_location
    return Occasion(statement.event_time, statement.event_time_zone_offset, location)


def hold_here(session: "Session", units: Iterable[Unit]) -> None:
    """Hold what must not move among units that are here by news and not by an event of their own, from now on.

    Args:
        session: With the books of the units.
        units: That came before their despatch and are on hand by it, or are back because an event did not hold.
    """
    found = [holding for holding in map(session.books.get, units) if holding is not None]
    groups: dict[Gln, list[Holding]] = {}
    for holding in found:
        groups.setdefault(holding.location or session.desk.default_location, []).append(holding)
    for location, group in groups.items():
        _hold_standing(session, group, Occasion(session.now, "+00:00", location), marked=False)


def _hold_arrived(session: "Session", step: Step, statement: EpcisEvent) -> None:
    named = (*step.units, *step.outputs)
    arrived = [part for each in named for part in with_inside(session.books, each.unit)]
    _hold_standing(session, arrived, _occasion(session, statement), marked=True)


def _hold_standing(session: "Session", holdings: Iterable[Holding], occasion: Occasion, *, marked: bool) -> None:
    """Sign that units here are on hold for what stands already: their lots' holds, and what sensors have reported.

    Args:
        session: With their books.
        holdings: Units, here or not.
        occasion: Of the holds.
        marked: They were on their way: what sensors said was marked then, and is ours to say only now.
    """
    arrived = {part.unit: part for part in holdings if part.here}
    lots = lot_holds.all_standing(session.connection)
    noted = excursions.open_of(session.connection, (unit.path for unit in arrived))
    if not lots and not noted:
        return
    groups: dict[str, list[Unit]] = {}
    for unit, part in arrived.items():
        present = lines_of(part.hold_reason)
        warm = dict.fromkeys(excursion_line(item.description) for item in noted.get(unit.path, ()))
        reasons = [reason for reason in lots.get(_lot_of(part), ()) if reason not in present]
        for reason in (*reasons, *(reason for reason in warm if marked or reason not in present)):
            groups.setdefault(reason, []).append(unit)
    for reason, units in groups.items():
        sign_hold(session, units, occasion, reason)


def _lot_of(holding: Holding) -> tuple[str, str]:
    return (str(holding.unit.gtin), holding.lot) if isinstance(holding.unit, Sgtin) else ("", "")


def excursion_line(description: str) -> str:
    """Return the reason for which a unit that was kept outside of its limits is on hold."""
    return line(HoldCode.TEMPERATURE_EXCURSION, description)


def sign_hold(session: "Session", units: Sequence[Unit], occasion: Occasion, reason: str) -> "list[Accepted]":
    """Sign that units in the house are on hold for one more reason; that they are already is no obstacle."""
    unread = [unit for unit in units if session.books.get(unit) is None]
    if unread:
        session.load(unread)
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
        if part.here and not of_codes(part.hold_reason, {HoldCode.TEMPERATURE_EXCURSION})
    ]
    excursions.note_released(session.connection, paths, now=session.now)


def take_in_sensors(
    session: "Session", stored: Stored, occasion: Occasion, *, despatch_ids: Collection[str] = ()
) -> None:
    """Take in an event about sensors, and hold what it says was kept outside of its limits, with a case.

    Units in the house are held by a signed event; those on their way to it are marked, and held when they arrive.

    Args:
        session: With any books.
        stored: The event.
        occasion: Of the holds.
        despatch_ids: Despatches of whose goods alone it is heard, where it tells what others did.
    """
    found = cold_chain.take_in(session, stored, despatch_ids=despatch_ids)
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
        new = NewCase(
            ExceptionCode.TEMPERATURE_EXCURSION,
            ours[0].description,
            [item.unit for item in ours],
            None if first is None else first.partner,
            "" if first is None else first.despatch_id,
        )
        cases.open_cases(session.connection, session.desk.gln, new, now=session.now)


def take_in_advised(session: "Session", stored: Stored, *, despatch_id: str) -> None:
    """Take in what a partner's event says of sensors, once the goods that it came with are in the books.

    It is heard of these goods, and of no others that it may name.
    """
    occasion = Occasion(session.now, "+00:00", session.desk.default_location)
    take_in_sensors(session, stored, occasion, despatch_ids=(despatch_id,))


def take_in_passed_on(session: "Session", stored: Stored, *, despatch_ids: AbstractSet[str]) -> None:
    """Take in what an event that we pass on says of sensors, once the goods that came with it are in the books.

    Args:
        session: With any books.
        stored: The event.
        despatch_ids: Of the despatches to us in the same transaction; with their goods, it is heard of those that went
            between us and its actor.
    """
    occasion = Occasion(session.now, "+00:00", session.desk.default_location)
    known = despatch_ids | cold_chain.despatches_with(session, stored)
    take_in_sensors(session, stored, occasion, despatch_ids=known)


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
