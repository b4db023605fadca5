"""What may happen to a unit in which state: the same rules for verbs and for captured events.

Each function checks every unit that it is given and then changes the books; it raises at the first unit that the rules
forbid, and the caller drops the books then. Rules that hold throughout:

* A final state is final. Nothing comes from nothing: a unit is commissioned, packed into being (a container), advised
  by a partner, or arrives unadvised and is put aside.
* A unit is in one container at most, and contents follow their container.
* What is inside a container moves with it. What is handled alone is taken out of it first, with what is inside of it;
  if nobody said that it was, that is noted (PARENT_NOT_UNPACKED), and never a reason to refuse.

A rule refuses what is wanted. What has happened is taken in by the same rules with a notice of what is wrong with it
(:attr:`services.custody.origin.Origin.happened`); docs/custody-rules.md has the table.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date

from medtrail.errors import ConflictError, MalformedError, MedtrailError
from medtrail.gs1 import Gln, OtherKey, Sgtin, Sscc
from services.custody.conditions import (
    SALEABLE,
    check,
    check_expiry,
    final_error,
    new_holding,
    object_to,
    outermost,
    present,
    require_here,
    require_known,
    require_no_exception,
    require_not_recalled,
    require_unopened,
    take_alone,
    with_inside,
)
from services.custody.holding import AWAY_STATES, Books, Ending, Holding, HoldingState
from services.custody.holds import RETURN_UNVERIFIED, added, lines_of, verified, without
from services.custody.notices import AlertCode
from services.custody.origin import Origin
from services.custody.recalls import RecallIndex
from services.custody.units import Named, Unit

UNADVISED = "UNADVISED"


@dataclass(frozen=True, slots=True)
class Traits:
    """Lot and expiry, of all units that an event gives life to."""

    lot: str = ""
    expiry: date | None = None


NO_TRAITS = Traits()


def commission(books: Books, units: Sequence[Named], origin: Origin, traits: Traits = NO_TRAITS) -> None:
    """Give life to units.

    Raises:
        ConflictError: ALREADY_COMMISSIONED.
    """
    for named in units:
        before = books.get(named.unit)
        if before is not None:
            message = f"{named.unit.path} exists since event {before.event_id}"
            error = ConflictError(message, code="ALREADY_COMMISSIONED", field=named.field, state=before.state)
            object_to(books, origin, error, named.unit)
            continue
        made = new_holding(named.unit, origin)
        if isinstance(named.unit, Sgtin):
            made = replace(made, lot=traits.lot, expiry=traits.expiry)
        books.put(made)


def pack(books: Books, parent: Named, children: Sequence[Named], origin: Origin) -> None:
    """Put units into a container. A container without trade item number comes into being by it.

    What is in it already is said again; what is named together with its own container goes in with that. A tote that
    was in other hands since it was filled last begins a new filling.

    Raises:
        ConflictError: A unit is not on hand, or would hold itself (CONTAINER_CYCLE).
    """
    holding = books.get(parent.unit)
    if holding is None and not isinstance(parent.unit, Sgtin):
        books.put(new_holding(parent.unit, origin))
    elif holding is not None and isinstance(parent.unit, OtherKey):
        _begin_filling(books, holding, origin)
    container = present(books, parent, origin)
    if container is None and _get(books, parent.unit).ending is Ending.EMPTIED:
        container = _use_again(books, parent, origin)
    if container is None:
        return
    check(books, origin, container, parent, require_unopened, require_no_exception)
    for named in outermost(books, children):
        if named.unit == parent.unit:
            # No fact can be that.
            raise _cycle_error(named)
        _put_in(books, parent, named, origin)
    _move_inside(books, parent.unit, origin)


def _begin_filling(books: Books, tote: Holding, origin: Origin) -> None:
    """Make way in a tote for a new filling, where it was in other hands since the last: fillings are separate by time.

    What went away in it is away, and not in it any more. What came in it here and was never taken out is taken out.
    """
    if tote.state in AWAY_STATES:
        for part in books.contents(tote.unit):
            books.change(part, parent=None)
        books.change(
            tote,
            state=HoldingState.ON_HAND,
            parent=None,
            location=origin.location,
            event_id=origin.event_id,
            since_time=origin.time,
            exception="",
        )
    elif tote.here and tote.despatch_id and not tote.provisional:
        for part in books.contents(tote.unit):
            if part.despatch_id == tote.despatch_id:
                take_alone(books, part)
        # From here on it is no part of the delivery that brought it.
        books.change(tote, despatch_id="")


def _put_in(books: Books, parent: Named, named: Named, origin: Origin) -> None:
    if any(container.unit == named.unit for container in books.containers(parent.unit)):
        object_to(books, origin, _cycle_error(named), named.unit)
        return
    child = present(books, named, origin)
    if child is None or child.parent == parent.unit:
        return
    check(books, origin, child, named, require_unopened, require_no_exception)
    if child.parent is not None:
        message = f"{named.unit.path} was put into {parent.unit.path} while in {child.parent.path}: it is in one only"
        books.notice(AlertCode.DOUBLE_CONTAINER, named.unit, message)
    books.change(child, parent=parent.unit, event_id=origin.event_id, since_time=origin.time)


def _cycle_error(named: Named) -> ConflictError:
    return ConflictError(f"{named.unit.path} would hold itself", code="CONTAINER_CYCLE", field=named.field)


def _get(books: Books, unit: Unit) -> Holding:
    holding = books.get(unit)
    if holding is None:
        raise AssertionError  # whoever asks has just found it
    return holding


def _use_again(books: Books, parent: Named, origin: Origin) -> Holding:
    """Return a container whose life had ended, and into which things were put nevertheless: it lives again."""
    ended = _get(books, parent.unit)
    return books.change(
        ended, state=HoldingState.ON_HAND, ending=None, event_id=origin.event_id, since_time=origin.time
    )


def _move_inside(books: Books, parent: Unit, origin: Origin) -> None:
    if origin.location is None:
        return
    for holding in tuple(books.inside(parent)):
        if holding.location != origin.location:
            books.change(holding, location=origin.location)


def unpack(books: Books, parent: Named, children: Sequence[Named], origin: Origin) -> None:
    """Take units out of a container; no children means all, and ends the use of a logistic unit's number.

    A tote or a case with a trade item number of its own may be filled again. An advised container need not be received
    first: what is scanned alone is taken out of it.

    Raises:
        ConflictError: The container is not in the house, or a unit is not in it (NOT_IN_CONTAINER).
    """
    container = books.get(parent.unit)
    if not (children and container is not None and container.state is HoldingState.INBOUND):
        container = present(books, parent, origin)
    if not children:
        for child in books.contents(parent.unit):
            books.change(child, parent=None, event_id=origin.event_id, since_time=origin.time)
        if isinstance(parent.unit, Sscc) and container is not None:
            _end(books, take_alone(books, container), Ending.EMPTIED, origin)
        return
    for named in children:
        _take_out(books, parent, named, origin)


def _take_out(books: Books, parent: Named, named: Named, origin: Origin) -> None:
    child = books.get(named.unit)
    if child is None or child.final:
        child = present(books, named, origin)
    if child is None:
        return
    if child.parent != parent.unit:
        if any(container.unit == parent.unit for container in books.containers(named.unit)):
            # It lies further in: it came out of all that is between.
            child = take_alone(books, child)
        else:
            inside = "in none" if child.parent is None else f"in {child.parent.path}"
            message = f"{named.unit.path} is not in {parent.unit.path}, but {inside}"
            error = ConflictError(message, code="NOT_IN_CONTAINER", field=named.field)
            object_to(books, origin, error, named.unit)
            return
    books.change(child, parent=None, event_id=origin.event_id, since_time=origin.time)


def ship(
    books: Books,
    units: Sequence[Named],
    origin: Origin,
    *,
    partner: Gln | None,
    recalls: RecallIndex,
    as_return: bool = False,
    opened: bool = False,
) -> None:
    """Despatch outermost units with all that is inside, or send them back.

    Goods under recall, expired or provisional ones and exceptions are not sold on; they may be sent back. ``opened``:
    so may opened packs, for recall or destruction. What was the matter with them when they went is kept: it is again
    when they come back, and ends when a partner's despatch brings them anew.

    Raises:
        ConflictError: A unit may not go.
    """
    state = HoldingState.RETURNED if as_return else HoldingState.DESPATCHED
    going_back = () if opened else (require_unopened,)
    conditions = going_back if as_return else SALEABLE
    going = []
    for named in outermost(books, units):
        known = books.get(named.unit)
        if origin.happened and known is not None and (known.state, known.partner) == (state, partner):
            # It is on its way there, by itself or in its container, and is only said again.
            continue
        holding = present(books, named, origin)
        if holding is None:
            continue
        for part in (take_alone(books, holding), *books.inside(named.unit)):
            check(books, origin, part, named, *conditions)
            if not as_return:
                check_expiry(books, origin, part, named)
        if not as_return:
            check_recalls(books, named, origin, recalls)
        going.append(named)
    for named in going:
        for part in with_inside(books, named.unit):
            if part.final:
                continue
            books.change(
                part,
                state=state,
                event_id=origin.event_id,
                since_time=origin.time,
                partner=partner,
                sold_to=part.sold_to if as_return else partner,
                inferred=False,
            )


def check_recalls(books: Books, named: Named, origin: Origin, recalls: RecallIndex) -> None:
    """Refuse a unit under recall, or note that it was, where it is used nevertheless."""
    try:
        require_not_recalled(books, named, recalls)
    except ConflictError as error:
        object_to(books, origin, error, named.unit)


def void_shipping(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """Take a despatch back that never left: the goods are what they were before it.

    Raises:
        ConflictError: A unit is not despatched (NOT_DESPATCHED).
    """
    for named in outermost(books, units):
        try:
            holding = require_known(books, named)
        except MedtrailError as error:
            object_to(books, origin, error, named.unit)
            continue
        if holding.state not in AWAY_STATES:
            message = f"{named.unit.path} is not despatched, but {holding.state}"
            wrong = ConflictError(message, code="NOT_DESPATCHED", field=named.field, state=holding.state)
            object_to(books, origin, wrong, named.unit)
            continue
        take_alone(books, holding)
        for part in with_inside(books, named.unit):
            if part.state in AWAY_STATES:
                books.change(
                    part, state=part.state_here, event_id=origin.event_id, since_time=origin.time, partner=None
                )


@dataclass(frozen=True, slots=True)
class Received:
    """What came of a delivery: smallest units by despatch, and units that nobody advised."""

    smallest: dict[str, int]
    unadvised: tuple[Unit, ...]


def receive(books: Books, units: Sequence[Named], origin: Origin, *, returned: bool = False) -> Received:
    """Take delivery of units with all that is inside; what was not advised is put aside.

    What came inside a container may be named too, with it or later: it was seen. What is named alone while its
    container is still on its way is taken out of it.

    Args:
        books: The books.
        units: What was seen.
        origin: The event.
        returned: They come back: expected without advice if they were despatched here, and on hold until verified.

    Raises:
        ConflictError: ALREADY_RECEIVED, UNIT_FINAL.
    """
    smallest: dict[str, int] = {}
    unadvised: list[Unit] = []
    # Containers first: what is inside them has then arrived when its own turn comes.
    for named in sorted(units, key=lambda item: sum(1 for _ in books.containers(item.unit))):
        holding = books.get(named.unit)
        if holding is None or (holding.state in AWAY_STATES and not returned):
            _put_aside(books, named, holding, origin)
            unadvised.append(named.unit)
            continue
        if holding.here and holding.parent is not None:
            continue
        expected = {HoldingState.INBOUND, *AWAY_STATES} if returned else {HoldingState.INBOUND}
        if holding.state not in expected:
            object_to(books, origin, _not_receivable(holding, named), named.unit)
            continue
        # If it is in a container still, it came without: that went another way.
        take_alone(books, holding)
        for part in with_inside(books, named.unit):
            if part.state not in expected:
                continue
            if part.smallest and part.state is HoldingState.INBOUND:
                smallest[part.despatch_id] = smallest.get(part.despatch_id, 0) + 1
            books.change(
                part,
                state=part.state_here,
                event_id=origin.event_id,
                since_time=origin.time,
                location=origin.location,
                hold_reason=added(part.hold_reason, RETURN_UNVERIFIED) if returned else part.hold_reason,
                inferred=part.unit != named.unit,
            )
    return Received(smallest, tuple(unadvised))


def _put_aside(books: Books, named: Named, holding: Holding | None, origin: Origin) -> None:
    if holding is not None:
        holding = take_alone(books, holding)
        if isinstance(named.unit, OtherKey) and holding.state in AWAY_STATES:
            # A tote comes back when it was emptied: what went away in it stays away.
            for part in books.contents(named.unit):
                books.change(part, parent=None)
    known = new_holding(named.unit, origin) if holding is None else holding
    for part in (known, *books.inside(named.unit)):
        books.change(
            part,
            state=HoldingState.EXCEPTION,
            exception=UNADVISED,
            event_id=origin.event_id,
            since_time=origin.time,
            location=origin.location,
            parent=None if part.unit == named.unit else part.parent,
        )


def _not_receivable(holding: Holding, named: Named) -> ConflictError:
    if holding.final:
        return final_error(holding, named)
    message = f"{named.unit.path} is here since {holding.since_time.isoformat()}, by event {holding.event_id}"
    return ConflictError(message, code="ALREADY_RECEIVED", field=named.field, state=holding.state)


def hold(books: Books, units: Sequence[Named], origin: Origin, *, reason: str) -> None:
    """Put units aside, with all that is inside, for one more reason.

    Raises:
        ConflictError: A unit is not in the house, or is on hold for this reason (ALREADY_ON_HOLD).
    """
    for named in units:
        if reason in lines_of(require_here(books, named).hold_reason):
            message = f"{named.unit.path} is on hold for this: {reason}"
            raise ConflictError(message, code="ALREADY_ON_HOLD", field=named.field)
    for named in units:
        for part in with_inside(books, named.unit):
            reasons = added(part.hold_reason, reason)
            books.change(part, hold_reason=reasons, event_id=origin.event_id, since_time=origin.time)


def hold_return(books: Books, units: Sequence[Named], origin: Origin, *, reason: str) -> None:
    """Hold units that came back, with all that is inside, for what their verification has found: it is over.

    Raises:
        ConflictError: A unit is not in the house.
    """
    for named in units:
        require_here(books, named)
    for named in units:
        for part in with_inside(books, named.unit):
            reasons = verified(part.hold_reason, reason)
            books.change(part, hold_reason=reasons, event_id=origin.event_id, since_time=origin.time)


def release(books: Books, units: Sequence[Named], origin: Origin, *, reasons: Collection[str] = ()) -> None:
    """End holds of units and of all that is inside.

    Args:
        books: The books.
        units: Units in the house.
        origin: The event.
        reasons: Those that end, as in ``hold_reason``; none named means all.

    Raises:
        ConflictError: A unit is not in the house, or not on hold for any of it (NOT_ON_HOLD).
    """
    for named in units:
        held = require_here(books, named).hold_reason
        if held == without(held, reasons):
            message = f"{named.unit.path} is not on hold" + (f" for {', '.join(reasons)}" if held else "")
            raise ConflictError(message, code="NOT_ON_HOLD", field=named.field)
    for named in units:
        for part in with_inside(books, named.unit):
            left = without(part.hold_reason, reasons)
            if left != part.hold_reason:
                books.change(part, hold_reason=left, event_id=origin.event_id, since_time=origin.time)


def release_held(books: Books, units: Sequence[Named], origin: Origin, *, reasons: Collection[str] = ()) -> None:
    """Take in that units are saleable, or some reasons of their hold over: others are seen.

    Raises:
        ConflictError: A unit is not in the house.
    """
    observe(books, units, origin)
    held = []
    for named in units:
        holding = books.get(named.unit)
        if holding is not None and holding.hold_reason != without(holding.hold_reason, reasons):
            held.append(named)
    release(books, held, origin, reasons=reasons)


def arrive(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """Take in that units are at the door or accepted: of those still inbound nothing changes before their receiving.

    Raises:
        ConflictError: A unit is neither inbound nor in the house.
    """
    for named in units:
        holding = books.get(named.unit)
        if holding is None or holding.state is not HoldingState.INBOUND:
            observe(books, (named,), origin)


def end(books: Books, units: Sequence[Named], origin: Origin, *, ending: Ending) -> None:
    """End the life of units with all that is inside.

    Raises:
        ConflictError: A unit is not in the house.
    """
    for named in outermost(books, units):
        known = books.get(named.unit)
        if origin.happened and known is not None and known.ending is not None and known.ending is not Ending.EMPTIED:
            # First taken out of use, then destroyed: one end in two steps.
            _end(books, known, ending, origin)
            continue
        holding = present(books, named, origin)
        if holding is None:
            continue
        take_alone(books, holding)
        for part in with_inside(books, named.unit):
            if not part.final:
                _end(books, part, ending, origin)


def _end(books: Books, holding: Holding, ending: Ending, origin: Origin) -> None:
    books.change(
        holding,
        state=HoldingState.ENDED,
        ending=ending,
        hold_reason="",
        exception="",
        inferred=False,
        event_id=origin.event_id,
        since_time=origin.time,
    )


def transform(
    books: Books,
    inputs: Sequence[Named],
    outputs: Sequence[Named],
    origin: Origin,
    *,
    recalls: RecallIndex,
    traits: Traits = NO_TRAITS,
) -> None:
    """Consume units and give life to others.

    Raises:
        ConflictError: An input may not be sold, or an output was commissioned before.
    """
    for named in outermost(books, inputs):
        holding = present(books, named, origin)
        if holding is None:
            continue
        for part in (take_alone(books, holding), *books.inside(named.unit)):
            check(books, origin, part, named, *SALEABLE)
            check_expiry(books, origin, part, named)
        check_recalls(books, named, origin, recalls)
        for part in with_inside(books, named.unit):
            if not part.final:
                books.change(
                    part,
                    state=HoldingState.CONSUMED,
                    hold_reason="",
                    exception="",
                    inferred=False,
                    event_id=origin.event_id,
                    since_time=origin.time,
                )
    commission(books, outputs, origin, traits)


def observe(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """See units in the house; only their place may change by it, and that what was inferred is known.

    Raises:
        ConflictError: A unit is not in the house.
    """
    for named in units:
        try:
            require_here(books, named)
        except MedtrailError as error:
            object_to(books, origin, error, named.unit)
            continue
        if origin.location is not None:
            for part in with_inside(books, named.unit):
                if part.location != origin.location:
                    books.change(part, location=origin.location)


def require_pack_unit(named: Named) -> None:
    """Check that a unit is a trade item with a serial number.

    Raises:
        MalformedError: It is a logistic unit or an asset (UNIT_NOT_PACK).
    """
    if not isinstance(named.unit, Sgtin):
        message = f"expected a pack (GTIN and serial number), got {named.unit.path}"
        raise MalformedError(message, code="UNIT_NOT_PACK", field=named.field)
