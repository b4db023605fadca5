"""Capture of EPCIS events as they are, under the same rules as the verbs; a chunk is one transaction.

First-hand, every event must be this organisation's own. Second-hand, the caller passes on what other parties did: such
events are signed as witness, and only where this organisation is party to the goods: they were despatched to it, or
stand in its books. A despatch to it makes its goods inbound, as an advice does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from medtrail.epcis.model import EpcisEvent
from medtrail.epcis.validation import check_event
from medtrail.errors import AuthorizationError, MedtrailError
from medtrail.gs1 import Gln
from services.custody import advice, cold_chain, events_store, standing, undoing
from services.custody.commands import count_received
from services.custody.desk import Accepted, Session
from services.custody.events_store import Stored
from services.custody.orders import book
from services.custody.parties import actor_of, named_glns, organisation_gln, party_of
from services.custody.receiving import follow
from services.custody.steps import is_despatch, step_of
from services.custody.units import Unit


class CaptureRefusedError(MedtrailError):
    """An event of a chunk was refused, and with it the chunk.

    Args:
        number: Of the event in the chunk, from 0.
        cause: Why.
    """

    def __init__(self, number: int, cause: MedtrailError) -> None:
        super().__init__(cause.message, code=cause.code, field=_field(number, cause.field))
        self.number = number
        self.cause = cause


def _field(number: int, field: str | None) -> str:
    at = f"events[{number}]"
    if not field or field.startswith(at):
        return field or at
    # The registry and the codec name fields of one event.
    return f"{at}.{field.removeprefix('event.')}"


def units_of_chunk(statements: Sequence[EpcisEvent]) -> set[Unit]:
    """Return the units that a chunk names, after checking that its events are valid EPCIS.

    Raises:
        CaptureRefusedError: One is not.
    """
    found: set[Unit] = set()
    for number, statement in enumerate(statements):
        try:
            check_event(statement, field=f"events[{number}]")
            found |= {named.unit for named in step_of(statement, field=f"events[{number}]").named}
        except MedtrailError as error:
            raise CaptureRefusedError(number, error) from error
    return found


@dataclass(frozen=True, slots=True)
class Captured:
    """What became of a chunk before it is known whether we are party to all of its goods.

    Attributes:
        accepted: One an event, in order.
        passed: Number and event of what others did.
        ours: Units that became inbound by it.
        despatch_ids: Of the despatches that brought them.
    """

    accepted: list[Accepted]
    passed: list[tuple[int, EpcisEvent]]
    ours: set[Unit]
    despatch_ids: set[str]


def capture(
    session: Session, statements: Sequence[EpcisEvent], *, second_hand: bool, happened: bool = False
) -> list[Accepted]:
    """Record the events of a chunk that is a transaction by itself, all or none.

    Args:
        session: With the books of :func:`units_of_chunk`.
        statements: Valid EPCIS.
        second_hand: Whether the caller passes on what others did; its own events among them are still first-hand.
        happened: Whether it reports what has happened, whether it should have or not: what breaks a rule of the books
            is recorded with an alert. What is passed on always is.

    Raises:
        CaptureRefusedError: The first event that was refused.
    """
    captured = capture_part(session, statements, second_hand=second_hand, happened=happened)
    check_party(session, captured, captured.ours)
    hear_sensors(session, [captured])
    return captured.accepted


def capture_part(
    session: Session, statements: Sequence[EpcisEvent], *, second_hand: bool, happened: bool = False
) -> Captured:
    """Record the events of one of several chunks of a transaction.

    :func:`check_party` and :func:`hear_sensors` follow when all are recorded: the despatch that makes goods ours may
    stand behind all that tells of them.

    Args:
        session: With the books of :func:`units_of_chunk` of all of them.
        statements: As for :func:`capture`.
        second_hand: Likewise.
        happened: Likewise.

    Raises:
        CaptureRefusedError: The first event that was refused.
    """
    session.happened = happened or second_hand
    session.prepare(_actors(session, statements, second_hand=second_hand))
    made: list[Accepted] = []
    passed: list[tuple[int, EpcisEvent]] = []
    ours: set[Unit] = set()
    despatch_ids: set[str] = set()
    for number, statement in enumerate(statements):
        try:
            accepted, witnessed = _record(session, statement, number, second_hand=second_hand)
        except MedtrailError as error:
            raise CaptureRefusedError(number, error) from error
        made.append(accepted)
        if witnessed:
            passed.append((number, statement))
            if is_despatch(statement) and _to_us(session, statement):
                ours |= _take_in_despatch(session, statement, accepted)
                despatch_ids.add(accepted.event_id)
    _settle_data(session, passed)
    count_received(session)
    return Captured(made, passed, ours, despatch_ids)


def _actors(
    session: Session, statements: Sequence[EpcisEvent], *, second_hand: bool
) -> list[tuple[EpcisEvent, Gln | None]]:
    """Return statements with whom they witness, up to the first that is refused: recording will say why."""
    found: list[tuple[EpcisEvent, Gln | None]] = []
    for number, statement in enumerate(statements):
        try:
            found.append(
                (statement, _witnessed(session, statement, field=f"events[{number}]", second_hand=second_hand))
            )
        except MedtrailError:
            break
    return found


def _witnessed(session: Session, statement: EpcisEvent, *, field: str, second_hand: bool) -> Gln | None:
    """Return the other party whose act we witness, or None where it is our own."""
    actor = actor_of(statement, session.desk.registry())
    own = actor is None or actor in session.desk.glns
    if not own and not second_hand:
        message = f"{actor} did this, not {session.desk.gln}; pass it on as second-hand if it reached you otherwise"
        raise AuthorizationError(message, code="ACTOR_NOT_SIGNER", field=field)
    if own and second_hand and actor is None:
        message = "nothing in the event says who did it"
        raise AuthorizationError(message, code="ACTOR_UNKNOWN", field=field)
    return None if own else actor


def _record(session: Session, statement: EpcisEvent, number: int, *, second_hand: bool) -> tuple[Accepted, bool]:
    field = f"events[{number}]"
    actor = _witnessed(session, statement, field=field, second_hand=second_hand)
    declaration = statement.error_declaration
    if declaration is not None and actor is None:
        return undoing.declare(session, statement, declaration, field=field), False
    return session.record(statement, field=field, actor=actor), actor is not None


def check_party(session: Session, captured: Captured, ours: set[Unit]) -> None:
    """Refuse what passes on events of goods to which we are no party.

    Args:
        session: That recorded them.
        captured: One chunk.
        ours: Units that became inbound by any chunk of the transaction.

    Raises:
        CaptureRefusedError: NOT_PARTY.
    """
    for number, statement in captured.passed:
        units = {named.unit for named in step_of(statement, field="event").named}
        if units and not any(unit in ours or session.books.get(unit) is not None for unit in units):
            message = f"{session.desk.gln} is no party to these goods: neither despatched to it nor in its books"
            raise CaptureRefusedError(number, AuthorizationError(message, code="NOT_PARTY"))


def hear_sensors(session: Session, parts: Sequence[Captured]) -> None:
    """Take in what the events that a transaction passes on say of sensors, of goods with which their actors had to do.

    Args:
        session: That recorded them.
        parts: All chunks.
    """
    despatch_ids = {despatch_id for part in parts for despatch_id in part.despatch_ids}
    for part in parts:
        for number, statement in part.passed:
            stored = _stored(session, part.accepted[number]) if cold_chain.concerns(statement) else None
            if stored is not None:
                fresh = Session(session.connection, session.desk)
                standing.take_in_passed_on(fresh, stored, despatch_ids=despatch_ids)


def _stored(session: Session, accepted: Accepted) -> Stored | None:
    return events_store.find_event(
        session.connection, signer=session.desk.gln, event_id=accepted.event_id, declaration=False
    )


def _to_us(session: Session, statement: EpcisEvent) -> bool:
    return bool(named_glns(statement.destination_list) & session.desk.glns)


def _take_in_despatch(session: Session, statement: EpcisEvent, accepted: Accepted) -> set[Unit]:
    stored = _stored(session, accepted)
    sender = _sender(session, statement)
    if stored is None or sender is None:
        return set()
    taken = advice.take_in_despatch(session.connection, stored, sender=sender)
    if taken.here:
        standing.hold_here(Session(session.connection, session.desk, taken.here), taken.here)
    follow.despatch_came(session.connection, session.desk, accepted.event_id)
    book.settle_event(session.connection, stored.number, gln=session.desk.gln, now=session.now)
    # Later events of the chunk may receive what has become inbound just now.
    session.reload()
    return set(taken.units)


def _settle_data(session: Session, passed: Sequence[tuple[int, EpcisEvent]]) -> None:
    """Judge anew what is here and waits for data, after what others said of it was passed on."""
    units = {named.unit.path for _, statement in passed for named in step_of(statement, field="event").named}
    if units and follow.data_came(session.connection, session.desk, units):
        session.reload()


def _sender(session: Session, statement: EpcisEvent) -> Gln | None:
    party = party_of(statement.source_list)
    return None if party is None else organisation_gln(party, session.desk.registry())
