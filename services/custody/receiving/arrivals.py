"""Units that are here without data that fit: recorded as arrived and put aside until their data come."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medtrail.epcis.model import BizTransaction, EpcisEvent
from medtrail.gs1 import OtherKey
from services.custody import events
from services.custody.conditions import with_inside
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion, Route
from services.custody.holding import AWAY_STATES, Books, Holding, HoldingState
from services.custody.origin import Origin
from services.custody.receiving import arrivals_store
from services.custody.receiving.arrivals_store import Waiting
from services.custody.rules import UNADVISED
from services.custody.units import Named, Unit

NO_PEDIGREE = "no_pedigree_match"
MISMATCH = "mismatch_instance"
NOT_SELLABLE = "non_sellable_other"


@dataclass(frozen=True, slots=True)
class Aside:
    """How units are put aside.

    Attributes:
        mark: Stable code in the books: why.
        disposition: CBV word in the event.
        has_data: A despatch tells of them; its data do not fit. Otherwise they have none.
    """

    mark: str
    disposition: str
    has_data: bool = False


WITHOUT_DATA = Aside(UNADVISED, NO_PEDIGREE)


def arrive_unadvised(session: Session, units: Sequence[Named], occasion: Occasion) -> list[Accepted]:
    """Record that units have arrived of which nobody has told, and keep them in mind until somebody does."""
    made = record_arrival(session, units, occasion, WITHOUT_DATA)
    waiting = [Waiting(named.unit.path, location=occasion.location) for named in units]
    arrivals_store.keep(session.connection, waiting, now=session.now)
    return made


def record_arrival(
    session: Session,
    units: Sequence[Named],
    occasion: Occasion,
    aside: Aside,
    *,
    route: Route | None = None,
    documents: Sequence[BizTransaction] = (),
) -> list[Accepted]:
    """Sign that units have arrived, and put them aside with all that is inside."""
    fields = {named.unit: named.field for named in units}

    def effect(books: Books, origin: Origin) -> None:
        for unit in group:
            put_aside(books, unit, origin, aside)

    made = []
    for group in events.split([named.unit for named in units]):
        statement = arriving(group, occasion, route, disposition=aside.disposition, documents=documents)
        made.append(session.record(statement, fields=fields, effect=effect))
    return made


def arriving(
    units: Sequence[Unit],
    occasion: Occasion,
    route: Route | None,
    *,
    disposition: str,
    documents: Sequence[BizTransaction] = (),
) -> EpcisEvent:
    """Return that units are at the door: not received, because their data are missing or do not fit."""
    made = events.receiving(units, occasion, route, disposition=disposition, documents=documents)
    return replace(made, biz_step="arriving")


def put_aside(books: Books, unit: Unit, origin: Origin, aside: Aside) -> None:
    """Put a unit aside with all that is inside; without data it is in no container, and no despatch's."""
    before = books.get(unit)
    if before is None:
        books.put(Holding(unit, HoldingState.EXCEPTION, origin.event_id, origin.time))
    elif isinstance(unit, OtherKey) and before.state in AWAY_STATES:
        # A tote comes back when it was emptied: what went away in it stays away.
        for part in books.contents(unit):
            books.change(part, parent=None)
    for part in with_inside(books, unit):
        if part.final:
            continue
        books.change(
            part,
            state=HoldingState.EXCEPTION,
            exception=aside.mark,
            event_id=origin.event_id,
            since_time=origin.time,
            location=origin.location,
            parent=None if part.unit == unit else part.parent,
            despatch_id=part.despatch_id if aside.has_data else "",
        )


def put_aside_advised(books: Books, unit: Unit, origin: Origin) -> None:
    """Put a unit aside with all that is inside, of which a despatch has told: it stays in its container until received.

    Whoever recorded its arrival had not heard of the despatch yet.
    """
    for part in with_inside(books, unit):
        if part.state is HoldingState.INBOUND:
            books.change(
                part,
                state=HoldingState.EXCEPTION,
                exception=UNADVISED,
                event_id=origin.event_id,
                since_time=origin.time,
                location=origin.location,
            )
