"""What a unit must be for something to happen to it: the conditions of which the rules are made.

Each returns what it found, or raises at the field that names the unit. Where a thing has happened already, the rules
note instead what is wrong with it (:func:`object_to`), and go on.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta

from medtrail.errors import ConflictError, MedtrailError, NotFoundError
from medtrail.verdict import has_expired
from services.custody.holding import Books, Holding, HoldingState
from services.custody.notices import ALERT_OF, AlertCode
from services.custody.origin import Origin
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


def require_unopened(holding: Holding, named: Named) -> None:
    """Refuse what was dispensed in part."""
    if holding.opened:
        message = f"{holding.unit.path} is opened: dispensed in part"
        raise ConflictError(message, code="UNIT_OPENED", field=named.field)


def require_no_exception(holding: Holding, named: Named) -> None:
    """Refuse what is put aside."""
    if holding.state is HoldingState.EXCEPTION:
        message = f"{holding.unit.path} is put aside: {holding.exception}"
        raise ConflictError(message, code="UNIT_EXCEPTION", field=named.field, exception=holding.exception)


def object_to(books: Books, origin: Origin, error: MedtrailError, unit: Unit) -> None:
    """Refuse what is wanted; of what has happened note what is wrong with it.

    Raises:
        MedtrailError: The error, where the thing is only wanted, or can be no fact.
    """
    code = ALERT_OF.get(error.code)
    if not origin.happened or code is None:
        raise error
    books.notice(code, unit, error.message)


def check(
    books: Books, origin: Origin, holding: Holding, named: Named, *checks: Callable[[Holding, Named], None]
) -> None:
    """Apply conditions to a holding, one by one, under the name by which it or its container was called."""
    for condition in checks:
        try:
            condition(holding, named)
        except ConflictError as error:
            object_to(books, origin, error, holding.unit)


def present(books: Books, named: Named, origin: Origin) -> Holding | None:
    """Return the holding of a unit that is in the house; None where its life had ended when something happened to it.

    What happened here with a unit that the books do not know, or place elsewhere, shows that it was here: it stands in
    them from now on.
    """
    try:
        return require_here(books, named)
    except (ConflictError, NotFoundError) as error:
        object_to(books, origin, error, named.unit)
    holding = books.get(named.unit)
    if holding is None:
        holding = new_holding(named.unit, origin)
        books.put(holding)
        return holding
    if holding.final:
        return None
    for part in with_inside(books, named.unit):
        if part.state is holding.state:
            books.change(part, state=part.state_here, location=origin.location)
    return books.get(named.unit)


def new_holding(unit: Unit, origin: Origin) -> Holding:
    """Return what is known of a unit that an event brings into the books."""
    return Holding(unit, HoldingState.ON_HAND, origin.event_id, origin.time, location=origin.location)


def outermost(books: Books, units: Sequence[Named]) -> list[Named]:
    """Return the units that no other of them holds: the others go with their containers."""
    chosen = {named.unit for named in units}
    return [named for named in units if not any(container.unit in chosen for container in books.containers(named.unit))]


def take_alone(books: Books, holding: Holding) -> Holding:
    """Return the holding of what is handled without its container: taken out of it, with what is inside of it."""
    if holding.parent is None:
        return holding
    message = f"{holding.unit.path} was handled alone, and is in {holding.parent.path} no more: nobody took it out"
    books.notice(AlertCode.PARENT_NOT_UNPACKED, holding.unit, message)
    return books.change(holding, parent=None)


def require_no_hold(holding: Holding, named: Named) -> None:
    """Refuse what is on hold, and suspect product: only the end of its case frees that, whoever released it."""
    if holding.hold_reason or holding.suspect:
        why = holding.hold_reason or f"suspect product, case {holding.suspect}"
        message = f"{holding.unit.path} is on hold: {why}"
        raise ConflictError(message, code="UNIT_ON_HOLD", field=named.field)


def require_confirmed(holding: Holding, named: Named) -> None:
    """Refuse what is provisional."""
    if holding.provisional:
        message = f"{holding.unit.path} rests on a despatch that the ledger has not confirmed yet"
        raise ConflictError(message, code="UNIT_PROVISIONAL", field=named.field, despatch_id=holding.despatch_id)


def check_expiry(books: Books, origin: Origin, holding: Holding, named: Named) -> None:
    """Refuse a pack past its expiry at the time of the event, or note that it was, where it is used nevertheless."""
    expiry = holding.expiry
    if expiry is not None and has_expired(expiry, judge_time=origin.time, utc_offset=origin.utc_offset):
        object_to(books, origin, expired_error(named, expiry), holding.unit)


def expired_error(named: Named, expiry: date) -> ConflictError:
    """Return the error that says that a pack is past its expiry."""
    message = f"{named.unit.path} could be used to the end of {expiry.isoformat()}"
    return ConflictError(message, code="UNIT_EXPIRED", field=named.field, expiry=expiry)


def offset_of_text(text: str) -> timedelta:
    """Return an offset from its valid ``+hh:mm``."""
    size = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return -size if text.startswith("-") else size


SALEABLE = (require_no_exception, require_unopened, require_no_hold, require_confirmed)


def require_not_recalled(books: Books, named: Named, recalls: RecallIndex) -> None:
    """Refuse a unit under recall, by itself, by what it holds, or by what holds it."""
    found = recalls.affecting(books, named.unit)
    if found:
        message = f"{named.unit.path} is under recall {', '.join(found)}"
        raise ConflictError(message, code="UNIT_RECALLED", field=named.field, recall_ids=",".join(found))
