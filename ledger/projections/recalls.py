"""Recalls as standing rules: which are in force, and which cover a unit.

A recall covers a unit when a scope matches the unit, anything inside it, or what holds it. Who issued a recall, or a
regulator, may end it; an ending by anybody else is in the log and without effect.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote

from ledger.projections.belief import Container
from ledger.projections.directory import Directory
from ledger.projections.facts import EventFact
from medtrail.event import Recall, RecallScope


@dataclass(frozen=True, slots=True)
class RecallEntry:
    """A recall, or the end of one, as chained."""

    fact: EventFact
    recall: Recall

    @property
    def recall_id(self) -> str:
        """Its event id, which names it."""
        return self.fact.event_id


def in_force(
    entries: Sequence[RecallEntry], directory: Directory, *, now: datetime, true_time: datetime | None = None
) -> tuple[RecallEntry, ...]:
    """Return the recalls that hold, in log order.

    Args:
        entries: All that are known.
        directory: Who is who, at the same tree size.
        now: An end that is dated later has no effect yet.
        true_time: In place of now, and only what has started by then; None: a recall holds from its entry on, whenever
            it starts.
    """
    moment = now if true_time is None else true_time
    ends = [entry for entry in entries if entry.recall.terminated_recall_id and entry.recall.start_time <= moment]
    ended = {(entry.recall.terminated_recall_id, directory.signer(entry.fact)) for entry in ends}
    ended_by_regulator = {entry.recall.terminated_recall_id for entry in ends if directory.is_regulator(entry.fact)}
    return tuple(
        entry
        for entry in entries
        if not entry.recall.terminated_recall_id
        and (true_time is None or entry.recall.start_time <= true_time)
        and (entry.recall_id, directory.signer(entry.fact)) not in ended
        and entry.recall_id not in ended_by_regulator
    )


@dataclass(frozen=True, slots=True)
class RecallSpan:
    """A recall that is no drill, and the time in which it holds: from its start to its end.

    Attributes:
        end: Excluded; None while nobody who may has ended it.
    """

    entry: RecallEntry
    start: datetime
    end: datetime | None

    def holds_at(self, moment: datetime) -> bool:
        """Tell whether it is in force at a moment."""
        return self.start <= moment and (self.end is None or moment < self.end)


def spans_of(entries: Sequence[RecallEntry], directory: Directory) -> tuple[RecallSpan, ...]:
    """Return when each recall holds, in log order, drills left out."""
    ends: dict[str, list[RecallEntry]] = {}
    for entry in entries:
        if entry.recall.terminated_recall_id:
            ends.setdefault(entry.recall.terminated_recall_id, []).append(entry)
    found = []
    for entry in entries:
        if entry.recall.terminated_recall_id or entry.recall.drill:
            continue
        issuer = directory.signer(entry.fact)
        times = [
            end.recall.start_time
            for end in ends.get(entry.recall_id, ())
            if directory.signer(end.fact) == issuer or directory.is_regulator(end.fact)
        ]
        found.append(RecallSpan(entry, entry.recall.start_time, min(times, default=None)))
    return tuple(found)


def covers(recall: Recall, units: Iterable[Container]) -> bool:
    """Tell whether a recall matches one of some units, each with its lot."""
    return any(_matches(scope, unit) for unit in units for scope in recall.scopes)


def _matches(scope: RecallScope, unit: Container) -> bool:
    parts = unit.path.split("/")
    # "/01/<gtin>/21/<serial>" or "/01/<gtin>/10/<lot>"; logistic units are under no scope by themselves.
    if len(parts) != 5 or parts[1] != "01" or parts[2] != str(scope.gtin):
        return False
    value = unquote(parts[4])
    lot = value if parts[3] == "10" else unit.lot
    if scope.lot and scope.lot != lot:
        return False
    return not scope.serials or (parts[3] == "21" and value in scope.serials)
