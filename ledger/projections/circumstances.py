"""What bears on units beside their own events: who is who, which recalls hold when, how products are to be kept."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger.projections.belief import Container
from ledger.projections.directory import Directory
from ledger.projections.facts import EventFact
from ledger.projections.recalls import RecallEntry, RecallSpan, covers, spans_of
from ledger.projections.sensing import excursions_of
from medtrail.cold_chain import Excursion
from medtrail.event import StorageLimits
from medtrail.gs1.keys import percent_encoded

_TRADE_ITEM = "/01/"
_GTIN_END = len("/01/") + 14


def trade_item_of(path: str) -> str:
    """Return the part of a path that names the trade item, ``/01/`` and GTIN; empty for what is none."""
    return path[:_GTIN_END] if path.startswith(_TRADE_ITEM) else ""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All of it, as known at one tree size.

    Attributes:
        limits: By trade item's path; only of products whose makers state limits.
        recalls: No drills.
    """

    directory: Directory
    limits: Mapping[str, StorageLimits] = field(default_factory=dict)
    recalls: tuple[RecallSpan, ...] = ()

    @classmethod
    def of(
        cls, directory: Directory, *, limits: Mapping[str, StorageLimits], recalls: Sequence[RecallEntry]
    ) -> "Circumstances":
        """Return circumstances from recalls as chained."""
        return cls(directory, limits, spans_of(recalls, directory) if recalls else ())

    def recalled_at(self, moment: datetime, units: Sequence[Container]) -> str:
        """Return the number of a recall that covers one of some units at a moment; empty when none does."""
        for span in self.recalls:
            if span.holds_at(moment) and covers(span.entry.recall, units):
                return span.entry.recall.number
        return ""

    def serials(self) -> dict[str, frozenset[int]]:
        """Return the units that recalls name by serial, each with the recalls: they are unlike others of their lot."""
        found: dict[str, set[int]] = {}
        for number, span in enumerate(self.recalls):
            for scope in span.entry.recall.scopes:
                for serial in scope.serials:
                    path = f"/01/{scope.gtin.digits}/21/{percent_encoded(serial)}"
                    found.setdefault(path, set()).add(number)
        return {path: frozenset(numbers) for path, numbers in found.items()}

    def excursions(self, path: str, fact: EventFact) -> Iterable[Excursion]:
        """Return how an event's sensors say that the limits of a unit's product were passed."""
        limits = self.limits.get(trade_item_of(path)) if fact.sensing else None
        return () if limits is None else excursions_of(fact.sensing, fact.time, limits)
