"""Taking back: what an error declaration or a refusal of the ledger does to the books."""

from collections.abc import Iterable

from sqlalchemy import Connection

from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import NotFoundError
from services.custody import events_store, holdings_store
from services.custody.desk import Accepted, Session
from services.custody.events_store import Stored
from services.custody.holding import Holding, HoldingState


def declare(session: Session, statement: EpcisEvent, *, field: str) -> Accepted:
    """Record that an earlier event of ours was in error, and take back what it did to the books.

    Raises:
        NotFoundError: We signed no such event (DECLARED_EVENT_UNKNOWN).
    """
    event_id = statement.event_id or event_hash(statement)
    declared = events_store.find_event(
        session.connection, signer=session.desk.gln, event_id=event_id, declaration=False
    )
    if declared is None:
        message = f"no event {event_id} was signed here, so none can be declared an error"
        raise NotFoundError(message, code="DECLARED_EVENT_UNKNOWN", field=f"{field}.errorDeclaration")
    accepted = session.record(statement, field=field)
    if not accepted.resend:
        # What the session has loaded is older than what is taken back here; later events read anew.
        take_back(session.connection, declared, code="DECLARED_ERROR")
        session.reload()
    return accepted


def take_back(connection: Connection, stored: Stored, *, code: str) -> None:
    """Undo what an event did to the books.

    A unit whose latest event it is goes back to what was known before. A unit that later events have moved on stays,
    and is put aside if it is still here: what it rests on does not hold.
    """
    event_id = stored.event.header.event_id
    befores = holdings_store.befores(connection, stored.number)
    # Units that the event brought into being last: a container that still holds others then is seen to, and stays.
    for path, before in sorted(befores.items(), key=lambda item: item[1] is None):
        now = holdings_store.get_path(connection, path)
        if now is None:
            continue
        if before is None and holdings_store.has_contents(connection, path):
            continue
        if now.event_id == event_id:
            holdings_store.restore(connection, path, before)
        else:
            _put_aside(connection, (now,), code)


def _put_aside(connection: Connection, holdings: Iterable[Holding], code: str) -> None:
    paths = [
        holding.unit.path
        for holding in holdings
        if holding.state in {HoldingState.ON_HAND, HoldingState.INBOUND, HoldingState.PARTIALLY_DISPENSED}
    ]
    holdings_store.mark(connection, paths, state=HoldingState.EXCEPTION.value, exception=code)


def put_aside_goods_of(connection: Connection, stored: Stored, *, code: str) -> None:
    """Put aside what a partner's refused event brought: its despatch's goods, or the units that it names."""
    event_id = stored.event.header.event_id
    brought = holdings_store.of_despatch(connection, event_id)
    named = holdings_store.of_event_units(connection, stored.number)
    _put_aside(connection, (*brought, *named), code)
