"""Taking back: what an error declaration or a refusal of the ledger does to the books."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import EpcisEvent, ErrorDeclaration
from medtrail.errors import ConflictError, NotFoundError
from medtrail.gs1 import parse_epc
from services.custody import alerts, events_store, holdings_store
from services.custody.desk import Accepted, Session
from services.custody.events_store import Stored
from services.custody.grounds import DECLARED, Grounds, wait_for_data, with_data_since
from services.custody.holding import AWAY_STATES, Books, Holding, HoldingState
from services.custody.orders import book
from services.custody.origin import Origin
from services.custody.receiving import arrivals_store
from services.custody.standing import hold_here
from services.custody.steps import StepKind, reason_extension, step_of
from services.custody.units import Named, Unit, as_unit

DID_NOT_OCCUR = "did_not_occur"
INCORRECT_DATA = "incorrect_data"


@dataclass(frozen=True, slots=True)
class Deed:
    """An EPCIS event of ours: as it is stored, and what it says."""

    stored: Stored
    statement: EpcisEvent

    @property
    def event_id(self) -> str:
        """The event's id."""
        return self.stored.event.header.event_id


def _find_deed(session: Session, event_id: str) -> Deed | None:
    stored = events_store.find_event(session.connection, signer=session.desk.gln, event_id=event_id, declaration=False)
    if stored is None or not isinstance(stored.event.statement, EpcisEvent):
        return None
    return Deed(stored, stored.event.statement)


def require_declared(session: Session, statement: EpcisEvent, *, field: str) -> Deed:
    """Return the event of ours that a declaration says was in error: the same but for the declaration.

    Raises:
        NotFoundError: We signed no such event (DECLARED_EVENT_UNKNOWN).
        ConflictError: It says something else than that event (DECLARATION_DIFFERS).
    """
    event_id = statement.event_id or event_hash(statement)
    deed = _find_deed(session, event_id)
    if deed is None:
        message = f"no event {event_id} was signed here, so none can be declared an error"
        raise NotFoundError(message, code="DECLARED_EVENT_UNKNOWN", field=f"{field}.errorDeclaration")
    if event_hash(deed.statement) != event_hash(statement):
        message = f"a declaration repeats the event that was in error; this says something else than {event_id} does"
        raise ConflictError(message, code="DECLARATION_DIFFERS", field=f"{field}.errorDeclaration")
    return deed


def declare(
    session: Session, deed: Deed, declaration: ErrorDeclaration, *, field: str, standing: Collection[str] = ()
) -> Accepted:
    """Record that an earlier event of ours was in error, and take back what it did to the books.

    Args:
        session: With its units.
        deed: The event. It is repeated as it was signed: what the rules ask of a declaration they ask of what it ends.
        declaration: Why, and when that was found out.
        field: Its path, for errors.
        standing: Paths of units for which it stands nevertheless.
    """
    declared = replace(deed.statement, event_id=deed.event_id, error_declaration=declaration)
    accepted = session.record(declared, field=field)
    if not accepted.resend:
        restored = take_back(session.connection, deed.stored, code=DECLARED, now=session.now, standing=standing)
        book.settle_event(session.connection, deed.stored.number, gln=session.desk.gln, now=session.now)
        session.advise_withdrawn(deed.stored, accepted)
        # What the session has loaded is older than what is taken back here; later events read anew.
        session.load(restored)
        hold_here(session, restored)
    return accepted


def deed_of(session: Session, named: Named) -> Deed | None:
    """Return the EPCIS event of ours that made a unit what it is; None when nothing, or another's event, did."""
    holding = session.books.get(named.unit)
    return None if holding is None else _find_deed(session, holding.event_id)


def require_deed(session: Session, named: Named) -> Deed:
    """Return the EPCIS event of ours that made a unit what it is.

    Raises:
        NotFoundError: None did (DEED_UNKNOWN).
    """
    deed = deed_of(session, named)
    if deed is None:
        message = f"no event of {session.desk.gln} made {named.unit.path} what it is"
        raise NotFoundError(message, code="DEED_UNKNOWN", field=named.field)
    return deed


def undo(session: Session, named: Named, *, reason: str) -> list[Accepted]:
    """Take back what an event of ours did to one unit, by declaring the event an error.

    Where it names other units too, a corrective event says of them again what happened, at its own time. It is signed
    first: nobody who reads the log in order finds them free in between.

    Raises:
        NotFoundError: No event of ours made the unit what it is (DEED_UNKNOWN).
        ConflictError: The event names the unit's container only (UNIT_IN_CONTAINER).
    """
    deed = require_deed(session, named)
    units = {item.unit for item in step_of(deed.statement, field="event").units}
    if named.unit not in units:
        message = f"{named.unit.path} was in a container of which the event tells; undo that"
        raise ConflictError(message, code="UNIT_IN_CONTAINER", field=named.field)
    others = tuple(unit for unit in units if unit != named.unit)
    made = [_say_again(session, deed, others)] if others else []
    declaration = ErrorDeclaration(
        declaration_time=session.now,
        reason=INCORRECT_DATA if made else DID_NOT_OCCUR,
        corrective_event_ids=tuple(item.event_id for item in made),
        extensions=(reason_extension(reason),),
    )
    return [*made, declare(session, deed, declaration, field=named.field)]


def _say_again(session: Session, deed: Deed, others: Sequence[Unit]) -> Accepted:
    session.load(others)
    wanted = {unit.digital_link for unit in others}
    again = replace(deed.statement, epc_list=tuple(epc for epc in deed.statement.epc_list if _link(epc) in wanted))

    def effect(books: Books, origin: Origin) -> None:
        for unit in others:
            for holding in (books.get(unit), *books.inside(unit)):
                # What later events have moved on stands as they left it.
                if holding is not None and holding.event_id == deed.event_id:
                    books.change(holding, event_id=origin.event_id)

    accepted = session.record(again, effect=effect)
    corrective = events_store.find_by_hash(session.connection, accepted.signed_event_sha256)
    if corrective is not None:
        paths = set(holdings_store.befores(session.connection, corrective.number))
        holdings_store.inherit_befores(
            session.connection, event_number=corrective.number, earlier=deed.stored.number, paths=paths
        )
        alerts.inherit(session.connection, event_id=accepted.event_id, earlier=deed.event_id, paths=paths)
    return accepted


def _link(epc: str) -> str:
    return as_unit(parse_epc(epc), field="epcList").digital_link


def take_back(
    connection: Connection, stored: Stored, *, code: str, now: datetime, standing: Collection[str] = ()
) -> list[Unit]:
    """Undo what an event of ours did to the books; its alerts stand no more. Return the units that went back.

    A unit whose latest event it is goes back to what was known before, so far as that holds today. A unit that later
    events have moved on stays, and is put aside if it is still here: what it rests on does not hold. Nothing rests on
    an event that only saw a unit.
    """
    event_id = stored.event.header.event_id
    befores = holdings_store.befores(connection, stored.number)
    alerts.withdraw_event(connection, event_id, now=now)
    grounds = Grounds(connection, stored.signer)
    waiting = arrivals_store.of_paths(connection, list(befores))
    restored: list[Holding] = []
    seen: dict[str, tuple[Holding, Holding]] = {}
    step = step_of(stored.event.statement, field="event") if isinstance(stored.event.statement, EpcisEvent) else None
    observes = step is not None and step.kind is StepKind.OBSERVE
    # Units that the event brought into being last: a container that still holds others then is seen to, and stays.
    for path, before in sorted(befores.items(), key=lambda item: item[1] is None):
        known = holdings_store.get_path(connection, path)
        if known is None or path in standing:
            continue
        if before is None and holdings_store.has_contents(connection, path):
            continue
        if known.event_id != event_id:
            if before is not None and known.event_id == before.event_id:
                seen[path] = (before, known)
            elif not observes:
                put_aside(connection, (known,), code)
            continue
        today = (
            None if before is None else grounds.judge(with_data_since(before, known, event_id, waits=path in waiting))
        )
        holdings_store.restore(connection, path, today)
        if today is not None:
            restored.append(today)
    if step is not None:
        _unsee(connection, stored.number, {named.unit.path for named in step.named}, seen)
    wait_for_data(connection, stored.signer, restored, now=now)
    return [holding.unit for holding in restored]


def _unsee(
    connection: Connection, number: int, named: Collection[str], seen: Mapping[str, tuple[Holding, Holding]]
) -> None:
    """Take back where units were seen that an event changed in nothing else, and that they were, unless seen since.

    Args:
        connection: In a write transaction.
        number: Of the event.
        named: Paths that it names; others were seen with their container.
        seen: By path what was known before, and what is known today.
    """
    since = events_store.named_since(connection, {*named, *seen}, number)
    for path, (before, known) in seen.items():
        if path not in since and (path in named or not since):
            unseen = replace(known, location=before.location, inferred=before.inferred)
            holdings_store.restore(connection, path, unseen)


def put_aside(connection: Connection, holdings: Iterable[Holding], code: str) -> None:
    """Put aside what rests on what does not hold: at once what is here or on its way, what has left if it comes back.

    What has ended stays as it is.
    """
    sound = [holding for holding in holdings if not holding.final and not holding.exception]
    here = [holding.unit.path for holding in sound if holding.state not in AWAY_STATES]
    holdings_store.mark(connection, here, state=HoldingState.EXCEPTION.value, exception=code)
    away = [holding.unit.path for holding in sound if holding.state in AWAY_STATES]
    holdings_store.mark(connection, away, exception=code)
