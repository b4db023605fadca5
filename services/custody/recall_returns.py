"""Goods under a recall on their way back: gathered and sent to who recalls, and counted by what became of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from medtrail.errors import ConflictError, MalformedError, NotFoundError
from services.custody import commands, holdings_store, returns_store
from services.custody.commands import Consignee
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion
from services.custody.holding import HERE_STATES, Books, HoldingState
from services.custody.recalls import KnownRecall, RecallIndex
from services.custody.tables import HoldingRow
from services.custody.units import Named, Unit, unit_of_path

MAX_PACKS = 5000
_TABLE = HoldingRow.__table__  # type: ignore[attr-defined]
_HERE = frozenset(state.value for state in HERE_STATES)
FIELD = "recall_id"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was sent back: events, packs, and packs under the recall that are still here."""

    accepted: list[Accepted]
    unit_count: int
    remaining_count: int


@dataclass(frozen=True, slots=True)
class RecallCounts:
    """Packs that a recall covers in the books, each once, by what became of them."""

    held: int = 0
    sent_back: int = 0
    received_back: int = 0
    ended: int = 0
    dispensed: int = 0
    despatched: int = 0
    inbound: int = 0


def require_recall(known: Sequence[KnownRecall], recall_id: str) -> KnownRecall:
    """Return a recall that calls goods back.

    Raises:
        NotFoundError: None is known (RECALL_UNKNOWN).
        ConflictError: It is a drill, or the end of a recall: nothing goes back for it (RECALL_MOVES_NOTHING).
    """
    found = next((item for item in known if item.recall_id == recall_id), None)
    if found is None:
        message = f"no recall {recall_id[:80]!r} is known here"
        raise NotFoundError(message, code="RECALL_UNKNOWN", field=FIELD)
    if found.recall.drill or found.recall.terminated_recall_id:
        message = f"{found.recall.number} is a drill, or ends a recall: no goods go back for it"
        raise ConflictError(message, code="RECALL_MOVES_NOTHING", field=FIELD)
    return found


def _covered(connection: Connection, known: KnownRecall) -> Iterator[tuple[Unit, str]]:
    """Yield the units that a recall names in the books, in order of their paths, each with its state."""
    index = RecallIndex([known])
    gtins = sorted({str(scope.gtin) for scope in known.recall.scopes})
    query = (
        select(_TABLE.c.path, _TABLE.c.lot, _TABLE.c.state)
        .where(_TABLE.c.gtin.in_(gtins))
        .order_by(_TABLE.c.path)
        .execution_options(yield_per=holdings_store.CHUNK)
    )
    for path, lot, state in connection.execute(query):
        unit = unit_of_path(path)
        if index.covering(unit, lot=lot):
            yield unit, state


def gather(
    session: Session, known: KnownRecall, occasion: Occasion, consignee: Consignee | None, *, authorisation: str
) -> Gathered:
    """Send packs here that a recall in force covers to who recalls, or another party: at most 5,000 a call.

    A container goes whole if all packs in it are covered; else those that are covered are taken out of it.

    Raises:
        ConflictError: The recall has ended (RECALL_MOVES_NOTHING).
        MalformedError: We or a regulator recall, and no destination is named (FIELD_MISSING).
        NotFoundError: No pack under the recall is here (NOTHING_TO_RETURN).
    """
    if not session.recalls.is_active(known.recall_id):
        message = f"{known.recall.number} has ended: no goods go back for it"
        raise ConflictError(message, code="RECALL_MOVES_NOTHING", field=FIELD)
    if consignee is None:
        if known.regulator or known.actor in session.desk.glns:
            who = "a regulator's" if known.regulator else "our own"
            message = f"the recall is {who}: say to whom the goods go"
            raise MalformedError(message, code="FIELD_MISSING", field="destination_party")
        consignee = Consignee(known.actor, known.actor)
    here = [unit for unit, state in _covered(session.connection, known) if state in _HERE]
    chosen = here[:MAX_PACKS]
    if not chosen:
        message = f"no pack under recall {known.recall.number} is here"
        raise NotFoundError(message, code="NOTHING_TO_RETURN", field=FIELD)
    session.load(chosen)
    # With all that is inside: what else is in them decides whether they go whole.
    session.load({container.unit for unit in chosen for container in session.books.containers(unit)})
    covered = _Covered(session.books, RecallIndex([known]))
    whole = list(dict.fromkeys(covered.largest(unit) for unit in chosen))
    named = [Named(unit, f"{FIELD}: {unit.path}") for unit in whole]
    made = commands.take_out(session, named, occasion)
    made += commands.send_back(
        session,
        named,
        occasion,
        consignee,
        reason=f"recall {known.recall.number}",
        purpose="recall",
        authorisation=authorisation,
    )
    left = [unit for unit, state in _covered(session.connection, known) if state in _HERE]
    return Gathered(made, len(here) - len(left), len(left))


@dataclass(slots=True)
class _Covered:
    """Which containers hold nothing but packs that a recall covers; each is looked into once."""

    books: Books
    index: RecallIndex
    known: dict[Unit, bool] = field(default_factory=dict)

    def largest(self, unit: Unit) -> Unit:
        """Return the outermost container of a unit whose packs are all covered, or the unit itself."""
        largest = unit
        for container in self.books.containers(unit):
            if not self._is_whole(container.unit):
                break
            largest = container.unit
        return largest

    def _is_whole(self, container: Unit) -> bool:
        if container not in self.known:
            # What holds anything is judged by that.
            self.known[container] = all(
                self._is_whole(part.unit)
                if self.books.contents(part.unit)
                else bool(self.index.covering(part.unit, lot=part.lot))
                for part in self.books.contents(container)
            )
        return self.known[container]


_FIELD_OF_STATE = {
    HoldingState.DESPATCHED: "despatched",
    HoldingState.RETURNED: "sent_back",
    HoldingState.PARTIALLY_DISPENSED: "dispensed",
    HoldingState.DISPENSED: "dispensed",
    HoldingState.ENDED: "ended",
    HoldingState.CONSUMED: "ended",
    HoldingState.INBOUND: "inbound",
}


def count(connection: Connection, known: KnownRecall) -> RecallCounts:
    """Return the packs that a recall covers in the books by what became of them."""
    counts = dict.fromkeys(RecallCounts.__dataclass_fields__, 0)
    here: list[str] = []
    for unit, state in _covered(connection, known):
        name = _FIELD_OF_STATE.get(HoldingState(state))
        if name is None:
            here.append(unit.path)
        else:
            counts[name] += 1
    back = len(returns_store.came_back(connection, here))
    counts["received_back"] += back
    counts["held"] += len(here) - back
    return RecallCounts(**counts)
