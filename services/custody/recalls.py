"""Recalls as standing rules: which of those in force cover a unit, what it holds, or what holds it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from medtrail.event import Recall, RecallScope
from medtrail.gs1 import Gln, Gtin, Sgtin
from services.custody.holding import Books
from services.custody.units import Unit


@dataclass(frozen=True, slots=True)
class KnownRecall:
    """A recall as stated.

    Attributes:
        recall_id: Its event_id.
        actor: Party GLN of who stated it.
        recall: The rule, or the end of one.
        regulator: A regulator stated it: it may end anybody's recall.
    """

    recall_id: str
    actor: Gln
    recall: Recall
    regulator: bool = False


class RecallIndex:
    """The recalls in force, by trade item. A drill is kept for the books and stops nothing."""

    def __init__(self, recalls: Iterable[KnownRecall] = (), *, now: datetime | None = None) -> None:
        """Index recalls; one that ends another takes it out, in whatever order they come.

        Args:
            recalls: All that are known.
            now: An end that is dated later has no effect yet; None: whatever the times say.
        """
        known = tuple(recalls)
        # Only who issued a recall, or a regulator, ends it: a termination in another's name is none.
        ended: dict[str, list[KnownRecall]] = {}
        for item in known:
            if item.recall.terminated_recall_id and (now is None or item.recall.start_time <= now):
                ended.setdefault(item.recall.terminated_recall_id, []).append(item)
        self.known = known
        self._active: set[str] = set()
        self._scopes: dict[Gtin, list[tuple[str, RecallScope]]] = {}
        for item in known:
            endings = ended.get(item.recall_id, ())
            if item.recall.terminated_recall_id or any(e.regulator or e.actor == item.actor for e in endings):
                continue
            self._active.add(item.recall_id)
            if not item.recall.drill:
                for scope in item.recall.scopes:
                    self._scopes.setdefault(scope.gtin, []).append((item.recall_id, scope))

    def is_active(self, recall_id: str) -> bool:
        """Tell whether a recall is in force."""
        return recall_id in self._active

    def covering(self, unit: Unit, *, lot: str) -> tuple[str, ...]:
        """Return the event_ids of the recalls that name a unit itself.

        Args:
            unit: The unit.
            lot: Its lot; where it is not known (empty), a recall of any lot of its trade item covers it.
        """
        if not isinstance(unit, Sgtin):
            return ()
        found = (
            recall_id
            for recall_id, scope in self._scopes.get(unit.gtin, ())
            if (not scope.serials or unit.serial in scope.serials) and (not scope.lot or not lot or scope.lot == lot)
        )
        return tuple(dict.fromkeys(found))

    def affecting(self, books: Books, unit: Unit) -> tuple[str, ...]:
        """Return the event_ids of the recalls that cover a unit, anything inside it, or anything that it is inside."""
        if not self._scopes:
            return ()
        holding = books.get(unit)
        found = dict.fromkeys(self.covering(unit, lot="" if holding is None else holding.lot))
        for other in (*books.containers(unit), *books.inside(unit)):
            found.update(dict.fromkeys(self.covering(other.unit, lot=other.lot)))
        return tuple(found)
