"""What a unit must be for something to happen to it: the conditions of which the rules are made.

Each returns what it found, or raises at the field that names the unit.
"""

from datetime import date, timedelta

from medtrail.errors import ConflictError, NotFoundError
from services.custody.holding import Books, Holding, HoldingState
from services.custody.recalls import RecallIndex
from services.custody.units import Named, Unit


def with_inside(books: Books, unit: Unit) -> tuple[Holding, ...]:
    """Return a unit's holding and those of all that is inside, containers first."""
    holding = books.get(unit)
    return () if holding is None else (holding, *books.inside(unit))


def require_known(books: Books, named: Named) -> Holding:
    """Return the holding of a unit that is known here and whose life has not ended."""
    holding = books.get(named.unit)
    if holding is None:
        message = f"{named.unit.path} is not known here"
        raise NotFoundError(message, code="UNIT_UNKNOWN", field=named.field)
    if holding.final:
        raise final_error(holding, named)
    return holding


def final_error(holding: Holding, named: Named) -> ConflictError:
    """Return the error that says that a unit's life has ended."""
    how = holding.ending or holding.state
    message = f"{named.unit.path} is {how} since {holding.since_time.isoformat()}"
    return ConflictError(message, code="UNIT_FINAL", field=named.field, state=how, event_id=holding.event_id)


def require_here(books: Books, named: Named) -> Holding:
    """Return the holding of a unit that is in the house, saleable or not."""
    holding = require_known(books, named)
    if not holding.here:
        raise not_on_hand_error(holding, named)
    return holding


def not_on_hand_error(holding: Holding, named: Named) -> ConflictError:
    """Return the error that says that a unit is not in the house."""
    message = f"{named.unit.path} is not on hand, but {holding.state.replace('_', ' ')}"
    return ConflictError(message, code="NOT_ON_HAND", field=named.field, state=holding.state)


def require_on_hand(books: Books, named: Named) -> Holding:
    """Return a holding that is here, whole, and with its data."""
    holding = require_here(books, named)
    require_unopened(holding, named)
    require_no_exception(holding, named)
    return holding


def require_unopened(holding: Holding, named: Named) -> None:
    """Refuse what was dispensed in part."""
    if holding.state is HoldingState.PARTIALLY_DISPENSED:
        message = f"{holding.unit.path} is opened: dispensed in part"
        raise ConflictError(message, code="UNIT_OPENED", field=named.field)


def require_no_exception(holding: Holding, named: Named) -> None:
    """Refuse what is put aside."""
    if holding.state is HoldingState.EXCEPTION:
        message = f"{holding.unit.path} is put aside: {holding.exception}"
        raise ConflictError(message, code="UNIT_EXCEPTION", field=named.field, exception=holding.exception)


def require_loose(holding: Holding, named: Named) -> Holding:
    """Return a holding that is in no container."""
    if holding.parent is not None:
        message = f"{named.unit.path} is in {holding.parent.path}; take it out, or name the outermost container"
        raise ConflictError(message, code="UNIT_IN_CONTAINER", field=named.field, parent=holding.parent.path)
    return holding


def require_saleable(holding: Holding, named: Named) -> None:
    """Refuse what is put aside, opened, on hold or provisional."""
    require_no_exception(holding, named)
    require_unopened(holding, named)
    require_not_held_back(holding, named)


def require_not_held_back(holding: Holding, named: Named) -> None:
    """Refuse what is on hold or provisional."""
    if holding.hold_reason:
        message = f"{holding.unit.path} is on hold: {holding.hold_reason}"
        raise ConflictError(message, code="UNIT_ON_HOLD", field=named.field)
    if holding.provisional:
        message = f"{holding.unit.path} rests on a despatch that the ledger has not confirmed yet"
        raise ConflictError(message, code="UNIT_PROVISIONAL", field=named.field, despatch_id=holding.despatch_id)


def expired_error(named: Named, expiry: date) -> ConflictError:
    """Return the error that says that a pack is past its expiry."""
    message = f"{named.unit.path} could be used to the end of {expiry.isoformat()}"
    return ConflictError(message, code="UNIT_EXPIRED", field=named.field, expiry=expiry)


def offset_of_text(text: str) -> timedelta:
    """Return an offset from its valid ``+hh:mm``."""
    size = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return -size if text.startswith("-") else size


def require_not_recalled(books: Books, named: Named, recalls: RecallIndex) -> None:
    """Refuse a unit under recall, by itself, by what it holds, or by what holds it."""
    found = recalls.affecting(books, named.unit)
    if found:
        message = f"{named.unit.path} is under recall {', '.join(found)}"
        raise ConflictError(message, code="UNIT_RECALLED", field=named.field, recall_ids=",".join(found))
