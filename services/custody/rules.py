"""What may happen to a unit in which state: the same rules for verbs and for captured events.

Each function checks every unit that it is given and then changes the books; it raises at the first unit that the rules
forbid, and the caller drops the books then. Rules that hold throughout:

* A final state is final. Nothing comes from nothing: a unit is commissioned, packed into being (a container), advised
  by a partner, or arrives unadvised and is put aside.
* A unit is in one container at most, and contents follow their container.
* What is inside a container is moved by its outermost container only; it is taken out first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from medtrail.errors import ConflictError, MalformedError
from medtrail.gs1 import Gln, Sgtin, Sscc
from medtrail.verdict import has_expired
from services.custody.conditions import (
    expired_error,
    final_error,
    not_on_hand_error,
    require_here,
    require_known,
    require_loose,
    require_not_held_back,
    require_not_recalled,
    require_on_hand,
    require_saleable,
    require_unopened,
    with_inside,
)
from services.custody.holding import AWAY_STATES, Books, Ending, Holding, HoldingState
from services.custody.recalls import RecallIndex
from services.custody.units import Named, Unit

UNADVISED = "UNADVISED"
RETURN_UNVERIFIED = "returned, not verified yet"


@dataclass(frozen=True, slots=True)
class Origin:
    """The event from which a change follows.

    Attributes:
        event_id: Its id.
        time: When it happened; aware UTC.
        utc_offset: In force there.
        location: Of ours, where; None when not known.
    """

    event_id: str
    time: datetime
    utc_offset: timedelta = timedelta()
    location: Gln | None = None


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
            raise ConflictError(message, code="ALREADY_COMMISSIONED", field=named.field, state=before.state)
        books.put(_new(named.unit, origin, traits))


def _new(unit: Unit, origin: Origin, traits: Traits = NO_TRAITS) -> Holding:
    packs = isinstance(unit, Sgtin)
    return Holding(
        unit=unit,
        state=HoldingState.ON_HAND,
        event_id=origin.event_id,
        since_time=origin.time,
        lot=traits.lot if packs else "",
        expiry=traits.expiry if packs else None,
        location=origin.location,
    )


def pack(books: Books, parent: Named, children: Sequence[Named], origin: Origin) -> None:
    """Put units into a container. A container without trade item number comes into being by it.

    Raises:
        ConflictError: A unit is not on hand, is in a container already, or would hold itself (CONTAINER_CYCLE).
    """
    holding = books.get(parent.unit)
    if holding is None and not isinstance(parent.unit, Sgtin):
        holding = _new(parent.unit, origin)
        books.put(holding)
    require_on_hand(books, parent)
    above = {parent.unit, *(container.unit for container in books.containers(parent.unit))}
    for named in children:
        if named.unit in above:
            message = f"{named.unit.path} would hold itself"
            raise ConflictError(message, code="CONTAINER_CYCLE", field=named.field)
        child = require_loose(require_on_hand(books, named), named)
        books.change(child, parent=parent.unit, event_id=origin.event_id, since_time=origin.time)
    _move_inside(books, parent.unit, origin)


def _move_inside(books: Books, parent: Unit, origin: Origin) -> None:
    if origin.location is None:
        return
    for holding in tuple(books.inside(parent)):
        if holding.location != origin.location:
            books.change(holding, location=origin.location)


def unpack(books: Books, parent: Named, children: Sequence[Named], origin: Origin) -> None:
    """Take units out of a container; no children means all, and ends the use of a container.

    An advised container need not be received first: what is scanned alone is taken out of it.

    Raises:
        ConflictError: The container is not in the house, or a unit is not in it (NOT_IN_CONTAINER).
    """
    container = require_known(books, parent)
    if not container.here and not (children and container.state is HoldingState.INBOUND):
        raise not_on_hand_error(container, parent)
    if not children:
        for child in books.contents(parent.unit):
            books.change(child, parent=None, event_id=origin.event_id, since_time=origin.time)
        if isinstance(parent.unit, Sgtin | Sscc):
            require_loose(container, parent)
            _end(books, container, Ending.EMPTIED, origin)
        return
    for named in children:
        child = require_known(books, named)
        if child.parent != parent.unit:
            inside = "in none" if child.parent is None else f"in {child.parent.path}"
            message = f"{named.unit.path} is not in {parent.unit.path}, but {inside}"
            raise ConflictError(message, code="NOT_IN_CONTAINER", field=named.field)
        books.change(child, parent=None, event_id=origin.event_id, since_time=origin.time)


def ship(
    books: Books,
    units: Sequence[Named],
    origin: Origin,
    *,
    partner: Gln | None,
    recalls: RecallIndex,
    as_return: bool = False,
) -> None:
    """Despatch outermost units with all that is inside, or send them back.

    Goods under recall, provisional ones and exceptions are not sold on; they may be sent back.

    Raises:
        ConflictError: A unit may not go.
    """
    state = HoldingState.RETURNED if as_return else HoldingState.DESPATCHED
    for named in units:
        holding = require_here(books, named) if as_return else require_on_hand(books, named)
        require_loose(holding, named)
        for part in (holding, *books.inside(named.unit)):
            if as_return:
                require_unopened(part, named)
            else:
                require_saleable(part, named)
        if not as_return:
            require_not_recalled(books, named, recalls)
    for named in units:
        for part in with_inside(books, named.unit):
            books.change(
                part,
                state=state,
                event_id=origin.event_id,
                since_time=origin.time,
                partner=partner,
                hold_reason="",
                exception="",
            )


def void_shipping(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """Take a despatch back that never left.

    Raises:
        ConflictError: A unit is not despatched (NOT_DESPATCHED).
    """
    for named in units:
        holding = require_loose(require_known(books, named), named)
        if holding.state not in AWAY_STATES:
            message = f"{named.unit.path} is not despatched, but {holding.state}"
            raise ConflictError(message, code="NOT_DESPATCHED", field=named.field, state=holding.state)
        for part in with_inside(books, named.unit):
            books.change(
                part,
                state=HoldingState.ON_HAND,
                event_id=origin.event_id,
                since_time=origin.time,
                partner=None,
            )


@dataclass(frozen=True, slots=True)
class Received:
    """What came of a delivery: smallest units by despatch, and units that nobody advised."""

    smallest: dict[str, int]
    unadvised: tuple[Unit, ...]


def receive(books: Books, units: Sequence[Named], origin: Origin, *, returned: bool = False) -> Received:
    """Take delivery of units with all that is inside; what was not advised is put aside.

    What came inside a container may be named too, with it or later: it was seen. What is named alone while its
    container is still on its way is taken out first (:func:`unpack`).

    Args:
        books: The books.
        units: What was seen.
        origin: The event.
        returned: They come back: expected without advice if they were despatched here, and on hold until verified.

    Raises:
        ConflictError: ALREADY_RECEIVED, UNIT_FINAL, UNIT_IN_CONTAINER.
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
            raise _not_receivable(holding, named)
        if returned and holding.state in AWAY_STATES:
            # It came without its container: that went another way.
            holding = books.change(holding, parent=None)
        require_loose(holding, named)
        for part in with_inside(books, named.unit):
            if part.state not in expected:
                continue
            if part.smallest and part.state is HoldingState.INBOUND:
                smallest[part.despatch_id] = smallest.get(part.despatch_id, 0) + 1
            _arrive(books, part, origin, hold_reason=RETURN_UNVERIFIED if returned else part.hold_reason)
    return Received(smallest, tuple(unadvised))


def _arrive(books: Books, holding: Holding, origin: Origin, *, hold_reason: str) -> None:
    books.change(
        holding,
        state=HoldingState.ON_HAND,
        event_id=origin.event_id,
        since_time=origin.time,
        location=origin.location,
        hold_reason=hold_reason,
    )


def _put_aside(books: Books, named: Named, holding: Holding | None, origin: Origin) -> None:
    known = _new(named.unit, origin) if holding is None else holding
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
    """Put units aside, with all that is inside.

    Raises:
        ConflictError: A unit is not in the house, or is on hold (ALREADY_ON_HOLD).
    """
    for named in units:
        holding = require_here(books, named)
        if holding.hold_reason not in {"", RETURN_UNVERIFIED}:
            message = f"{named.unit.path} is on hold: {holding.hold_reason}"
            raise ConflictError(message, code="ALREADY_ON_HOLD", field=named.field)
    for named in units:
        for part in with_inside(books, named.unit):
            if part.hold_reason in {"", RETURN_UNVERIFIED}:
                books.change(part, hold_reason=reason, event_id=origin.event_id, since_time=origin.time)


def release(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """End the hold of units and of all that is inside.

    Raises:
        ConflictError: A unit is not in the house, or not on hold (NOT_ON_HOLD).
    """
    for named in units:
        if not require_here(books, named).hold_reason:
            message = f"{named.unit.path} is not on hold"
            raise ConflictError(message, code="NOT_ON_HOLD", field=named.field)
    for named in units:
        for part in with_inside(books, named.unit):
            if part.hold_reason:
                books.change(part, hold_reason="", event_id=origin.event_id, since_time=origin.time)


def release_held(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """Take in that units are saleable: those on hold are released, the others are seen.

    Raises:
        ConflictError: A unit is not in the house.
    """
    observe(books, units, origin)
    held = []
    for named in units:
        holding = books.get(named.unit)
        if holding is not None and holding.hold_reason:
            held.append(named)
    release(books, held, origin)


def arrive(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """Take in that units are at the door or accepted: of those still inbound nothing changes before their receiving.

    Raises:
        ConflictError: A unit is neither inbound nor in the house.
    """
    for named in units:
        holding = require_known(books, named)
        if holding.state is not HoldingState.INBOUND:
            observe(books, (named,), origin)


def dispense(books: Books, units: Sequence[Named], origin: Origin, *, recalls: RecallIndex, partial: bool) -> None:
    """Hand units to a patient, in whole or in part.

    Raises:
        ConflictError: A unit is not here, in a container, holds units itself, is on hold, provisional, put aside,
            expired or recalled.
    """
    for named in units:
        holding = require_known(books, named)
        if holding.state is not HoldingState.PARTIALLY_DISPENSED:
            holding = require_on_hand(books, named)
        require_loose(holding, named)
        if books.contents(named.unit):
            message = f"{named.unit.path} holds other units; dispense those"
            raise ConflictError(message, code="UNIT_NOT_PACK", field=named.field)
        require_not_held_back(holding, named)
        if holding.expiry is not None and has_expired(
            holding.expiry, judge_time=origin.time, utc_offset=origin.utc_offset
        ):
            raise expired_error(named, holding.expiry)
        require_not_recalled(books, named, recalls)
        state = HoldingState.PARTIALLY_DISPENSED if partial else HoldingState.DISPENSED
        books.change(holding, state=state, event_id=origin.event_id, since_time=origin.time)


def end(books: Books, units: Sequence[Named], origin: Origin, *, ending: Ending) -> None:
    """End the life of units with all that is inside.

    Raises:
        ConflictError: A unit is not in the house, or is in a container.
    """
    for named in units:
        require_loose(require_here(books, named), named)
        for part in with_inside(books, named.unit):
            _end(books, part, ending, origin)


def _end(books: Books, holding: Holding, ending: Ending, origin: Origin) -> None:
    books.change(
        holding,
        state=HoldingState.ENDED,
        ending=ending,
        hold_reason="",
        exception="",
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
    for named in inputs:
        holding = require_loose(require_on_hand(books, named), named)
        for part in (holding, *books.inside(named.unit)):
            require_saleable(part, named)
        require_not_recalled(books, named, recalls)
        for part in with_inside(books, named.unit):
            books.change(part, state=HoldingState.CONSUMED, event_id=origin.event_id, since_time=origin.time)
    commission(books, outputs, origin, traits)


def observe(books: Books, units: Sequence[Named], origin: Origin) -> None:
    """See units in the house; only their place may change by it.

    Raises:
        ConflictError: A unit is not in the house.
    """
    for named in units:
        require_here(books, named)
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
