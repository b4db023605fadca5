"""What may be undone: a dispensing or decommissioning of our own, soon, and where it was done.

Every other verb has another that reverses it (hold and release, pack and unpack, ship and void). An end is final but
for this. Source: Delegated Regulation (EU) 2016/161, article 13.
"""

from dataclasses import dataclass

from medtrail.epcis.model import EpcisEvent, ErrorDeclaration
from medtrail.errors import ConflictError
from medtrail.fmd import UNDO_WITHIN
from medtrail.gs1 import Gln
from medtrail.verdict import has_expired
from services.custody import alerts, corrections, holdings_store
from services.custody.conditions import expired_error, offset_of_text, require_not_recalled, with_inside
from services.custody.corrections import Deed
from services.custody.desk import Accepted, Session
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.notices import AlertCode
from services.custody.parties import place_of
from services.custody.steps import StepKind, step_of
from services.custody.units import Named

# What the law makes final whoever asks, and what is no decommissioning: an emptied container is packed anew.
_NEVER_UNDONE = frozenset({Ending.DESTROYED, Ending.STOLEN, Ending.LOST})


# To declare a repackaging an error is free: its packs are here, under other numbers.
_ENDS = frozenset({HoldingState.DISPENSED, HoldingState.ENDED})


@dataclass(frozen=True, slots=True)
class Request:
    """A request to undo.

    Attributes:
        premises: Where it is made.
        offset: In force there, ``+hh:mm``.
        reason: Why.
        not_supplied: The person states that the pack was not handed to the public.
    """

    premises: Gln | None
    offset: str
    reason: str
    not_supplied: bool = False


def undo_deed(session: Session, named: Named, request: Request) -> list[Accepted]:
    """Take back a dispensing or decommissioning of one unit, by declaring its event an error.

    Raises:
        NotFoundError: Nothing of ours did it (DEED_UNKNOWN).
        ConflictError: It may not be undone: NOTHING_TO_UNDO, UNDO_FINAL, UNDO_SUPPLIED, SUPPLY_NOT_DENIED,
            UNDO_ELSEWHERE, UNDO_LATE, UNIT_EXPIRED, UNIT_RECALLED; or UNIT_IN_CONTAINER: it ended with its container.
    """
    holding = session.books.get(named.unit)
    if holding is not None and holding.state is HoldingState.PARTIALLY_DISPENSED:
        raise _supplied(named)
    if holding is None or not holding.final:
        message = f"{named.unit.path} was neither dispensed nor decommissioned here"
        raise ConflictError(message, code="NOTHING_TO_UNDO", field=named.field)
    deed = corrections.require_deed(session, named)
    check_undo(session, named, holding, deed, request)
    return corrections.undo(session, named, reason=request.reason)


def check_undo(session: Session, named: Named, holding: Holding, deed: Deed, request: Request) -> None:
    """Check that what an event did to a unit may be undone.

    Raises:
        ConflictError: It may not.
    """
    if holding.ending in _NEVER_UNDONE or holding.state is HoldingState.CONSUMED:
        how = holding.ending or holding.state
        message = f"{named.unit.path} is {how}: that is final"
        raise ConflictError(message, code="UNDO_FINAL", field=named.field, state=how)
    if was_opened(session, named, deed):
        raise _supplied(named)
    offset = offset_of_text(request.offset)
    if holding.expiry is not None and has_expired(holding.expiry, judge_time=session.now, utc_offset=offset):
        raise expired_error(named, holding.expiry)
    require_not_recalled(session.books, named, session.recalls)
    if place_of(deed.statement) != request.premises:
        message = f"{named.unit.path} was not taken out of use at {request.premises}"
        raise ConflictError(message, code="UNDO_ELSEWHERE", field=named.field)
    if session.now - deed.statement.event_time > UNDO_WITHIN:
        message = f"{named.unit.path} was taken out of use on {deed.statement.event_time:%Y-%m-%d}, over 10 days ago"
        raise ConflictError(message, code="UNDO_LATE", field=named.field)
    if holding.state is HoldingState.DISPENSED and not request.not_supplied:
        message = f"state that {named.unit.path} was not handed to the public"
        raise ConflictError(message, code="SUPPLY_NOT_DENIED", field="not_supplied")


def was_opened(session: Session, named: Named, deed: Deed) -> bool:
    """Tell whether a part of a pack had been handed out before what an event did to it."""
    before = holdings_store.befores(session.connection, deed.stored.number).get(named.unit.path)
    return before is not None and before.opened


def _supplied(named: Named) -> ConflictError:
    message = f"a part of {named.unit.path} was handed to the public"
    return ConflictError(message, code="UNDO_SUPPLIED", field=named.field)


def declare(session: Session, statement: EpcisEvent, declaration: ErrorDeclaration, *, field: str) -> Accepted:
    """Record that an earlier event of ours was in error; the ends that it brought are undone by the rules of undoing.

    Whoever declares that a dispensing was an error states by it that nothing was handed to the public. Where that is
    reported as fact and may not be, the end stands and the alert UNDO_FORBIDDEN says so.

    Raises:
        NotFoundError: We signed no such event (DECLARED_EVENT_UNKNOWN).
        ConflictError: It says something else than the event (DECLARATION_DIFFERS); or UNDO_FINAL, UNDO_SUPPLIED,
            UNDO_LATE, UNIT_EXPIRED or UNIT_RECALLED, as :func:`undo_deed`.
    """
    deed = corrections.require_declared(session, statement, field=field)
    request = Request(place_of(statement), statement.event_time_zone_offset, "", not_supplied=True)
    step = step_of(statement, field=field)
    # Whatever came of the packs since.
    opened = (
        holdings_store.befores(session.connection, deed.stored.number) if step.kind is StepKind.DISPENSE_PART else {}
    )
    standing: list[str] = []
    for named in step.units:
        try:
            if named.unit.path in opened:
                raise _supplied(named)
            _check_end(session, named, deed, request)
        except ConflictError as error:
            if not session.happened:
                raise
            session.books.notice(AlertCode.UNDO_FORBIDDEN, named.unit, f"declared an error, but {error.message}")
            standing += [part.unit.path for part in with_inside(session.books, named.unit)]
    notices = session.books.take_notices()
    accepted = corrections.declare(session, deed, declaration, field=field, standing=standing)
    alerts.raise_all(session.connection, notices, event_id=deed.event_id, now=session.now)
    return accepted


def _check_end(session: Session, named: Named, deed: Deed, request: Request) -> None:
    """Check that the end which an event brought to a unit, if it did, may be taken back."""
    holding = session.books.get(named.unit)
    if holding is not None and holding.state in _ENDS and holding.event_id == deed.event_id:
        check_undo(session, named, holding, deed, request)
