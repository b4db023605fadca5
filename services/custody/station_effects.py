"""What a station's event does to the books: what fits as it says, what does not as it says too, but put aside.

Goods that arrived at a station without data are put aside as at every other door, and wait for their data; nothing
contradicts them.
"""

from collections import Counter
from dataclasses import dataclass, replace

from medtrail.errors import ConflictError, MedtrailError, NotFoundError
from services.custody.conditions import with_inside
from services.custody.desk import Session
from services.custody.exceptions.codes import ExceptionCode
from services.custody.holding import AWAY_STATES, Books, Holding, HoldingState
from services.custody.origin import Origin
from services.custody.receiving.arrivals import NO_PEDIGREE, WITHOUT_DATA, put_aside, put_aside_advised
from services.custody.rules import Received
from services.custody.steps import Step, StepKind, apply_step
from services.custody.units import Named, Unit


@dataclass(frozen=True, slots=True)
class Objection:
    """What the books say against an event, by the unit, and the despatch that brought it."""

    unit: Unit
    error: MedtrailError
    despatch_id: str


class StationEffect:
    """What one event does to the books."""

    def __init__(self, session: Session, step: Step, *, disposition: str) -> None:
        """Hold the event.

        Args:
            session: In which it is taken in.
            step: What it does to units.
            disposition: As it says; empty when it says none.
        """
        self.objections: list[Objection] = []
        self.without_data: list[Unit] = []
        """Units that were put aside until their data come."""
        self._session = session
        self._step = step
        self._unadvised = step.kind is StepKind.ARRIVE and disposition == NO_PEDIGREE

    def apply(self, books: Books, origin: Origin) -> None:
        """Change the books."""
        step = self._step
        if self._unadvised:
            step = self._arrive(books, step, origin)
        if self._try(books, step, origin) is None:
            return
        # Something is wrong with some of the units: the others are not to suffer for it.
        for named in step.units or ((step.parent,) if step.parent is not None else ()):
            part = replace(step, units=(named,) if step.units else ())
            error = self._try(_around(books, part), part, origin, into=books)
            if error is not None and not _is_so_already(books, part, named, error):
                self._contradict(books, part, named, replace(origin, happened=True), error)

    def _arrive(self, books: Books, step: Step, origin: Origin) -> Step:
        """Put units aside that came without data; return the step of those that are here already, or have ended.

        What has been advised meanwhile, where the station could not hear of it, has its data.
        """
        before = {named.unit: books.get(named.unit) for named in step.units}
        rest = []
        for named in step.units:
            holding = before[named.unit]
            if holding is None or holding.state in AWAY_STATES:
                put_aside(books, named.unit, origin, WITHOUT_DATA)
            elif holding.state is HoldingState.INBOUND:
                put_aside_advised(books, named.unit, origin)
            else:
                rest.append(named)
                continue
            self.without_data.append(named.unit)
        return replace(step, units=tuple(rest))

    def _try(
        self, books: Books, step: Step, origin: Origin, *, into: Books | None = None
    ) -> ConflictError | NotFoundError | None:
        """Apply a step to a copy of books, and to the books themselves if nothing speaks against it."""
        copy = Books(books)
        try:
            received = apply_step(copy, step, origin, recalls=self._session.recalls)
        except (ConflictError, NotFoundError) as error:
            return error
        target = books if into is None else into
        for unit in copy.take_changes():
            holding = copy.get(unit)
            if holding is not None:
                target.put(holding)
        for notice in copy.take_notices():
            target.notice(notice.code, notice.unit, notice.message)
        if received is not None:
            self._session.received.append(received)
        return None

    def _contradict(self, books: Books, step: Step, named: Named, origin: Origin, error: MedtrailError) -> None:
        before = books.get(named.unit)
        awaited = [part for part in with_inside(books, named.unit) if part.smallest and _is_awaited(part)]
        # It happened, whatever the rules say; what the books take for impossible leaves them as they are.
        self._try(_around(books, step), step, origin, into=books)
        after = books.get(named.unit)
        if before is None and (after is None or not after.final):
            # Nobody has told of it: no resolution of the case can make it saleable before somebody does.
            put_aside(books, named.unit, origin, WITHOUT_DATA)
            self.without_data.append(named.unit)
        else:
            _put_aside(books, named.unit, origin)
        if step.kind is not StepKind.RECEIVE:
            # It shows that they came; a receiving has counted them by itself.
            came = Counter(part.despatch_id for part in awaited if not _is_awaited(books.get(part.unit)))
            self._session.received.append(Received(dict(came), ()))
        despatch_id = "" if before is None else before.despatch_id
        self.objections.append(Objection(named.unit, error, despatch_id))


def _is_awaited(holding: Holding | None) -> bool:
    return holding is not None and holding.state is HoldingState.INBOUND


def _is_so_already(books: Books, step: Step, named: Named, error: MedtrailError) -> bool:
    """Tell whether a step only says what the books know, because the station's copy was older.

    It takes out of its case what was loose already, or puts on hold what is on hold for the same: nothing is wrong
    with the pack.
    """
    if step.kind is StepKind.HOLD:
        return error.code == "ALREADY_ON_HOLD"
    holding = books.get(named.unit)
    return step.kind is StepKind.UNPACK and holding is not None and holding.parent is None and holding.here


def _around(books: Books, step: Step) -> Books:
    """Return the part of books that a step on one unit can touch."""
    found: dict[Unit, Holding] = {}
    for named in step.named:
        for holding in (books.get(named.unit), *books.containers(named.unit)):
            if holding is not None:
                found[holding.unit] = holding
        if not _stays_behind(books, step, named):
            found.update((holding.unit, holding) for holding in books.inside(named.unit))
    return Books(found.values())


def _stays_behind(books: Books, step: Step, named: Named) -> bool:
    """Tell whether what else is inside of a unit is none of the step's business.

    It is where single units are taken out of a container: to look at all of it for each of them would be quadratic. It
    is not where the container is found to be here: then all that is inside is here with it, once.
    """
    if step.kind is not StepKind.UNPACK or not step.units or named != step.parent:
        return False
    holding = books.get(named.unit)
    return holding is None or holding.state not in AWAY_STATES


def _put_aside(books: Books, unit: Unit, origin: Origin) -> None:
    for part in with_inside(books, unit):
        # What has ended or left is not here to be put aside; what is put aside already keeps its reason.
        if not part.final and part.state not in AWAY_STATES | {HoldingState.EXCEPTION}:
            books.change(
                part,
                state=HoldingState.EXCEPTION,
                exception=ExceptionCode.OFFLINE_CONFLICT.value,
                event_id=origin.event_id,
                since_time=origin.time,
                location=origin.location or part.location,
            )
