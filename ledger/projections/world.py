"""The part of the log that bears on some units, and how much each of its events counts.

Whether an event counts is decided before anything is replayed, from the set of events alone, so that the order of
arrival has no say:

* declared in error by its signer (or, for a second-hand copy, by its actor): does not count, unless it ended the unit
  and may not be undone (:mod:`ledger.projections.undoing`);
* second-hand, by a signer who is no party to the goods: does not count;
* the same content said again by the same actor: an echo;
* second-hand, and the actor's own word is there: superseded; several second-hand copies: one counts, the rest echo.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.projections.acts import Act, act_of
from ledger.projections.belief import Standing
from ledger.projections.circumstances import Circumstances
from ledger.projections.facts import EventFact, Kind, Part, UnitRef
from ledger.projections.undoing import Pack, undo_fault
from medtrail.event import StorageLimits

Refs = tuple[tuple[int, Part], ...]


@dataclass(frozen=True, slots=True)
class World:
    """The events that name some units or what ever held them, as known at one tree size.

    Attributes:
        facts: By leaf index.
        units: Of each unit, the entries that name it and the part in which they do, in log order.
        lots: Of each class known by quantity, the entries that name it.
        declarations: All error declarations that may hit one of the facts, whatever units they name.
        limits: How products are to be kept, by trade item's path: of those that events with sensors may concern.
    """

    facts: Mapping[int, EventFact]
    units: Mapping[str, Refs]
    lots: Mapping[str, tuple[UnitRef, ...]] = field(default_factory=dict)
    declarations: tuple[EventFact, ...] = ()
    limits: Mapping[str, StorageLimits] = field(default_factory=dict)

    def parents_of(self, refs: Refs) -> frozenset[str]:
        """Return the paths of all containers into which events ever put what these references name."""
        return frozenset(self.facts[leaf].parent for leaf, part in refs if part is Part.CHILD) - {""}


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A declaration that undoes nothing: the event that it declares ended the unit for good."""

    declaration: EventFact
    ended: EventFact
    why: str


class Judge:
    """Decides how much each event counts for a unit."""

    def __init__(self, world: World, around: Circumstances) -> None:
        self._world = world
        self._around = around
        self._directory = around.directory
        known = (*world.declarations, *(fact for fact in world.facts.values() if fact.declaration))
        self._declared: dict[tuple[str, str], dict[int, EventFact]] = {}
        for fact in known:
            for name in {fact.event_id, fact.content_hash} - {""}:
                key = (self._directory.signer(fact), name)
                self._declared.setdefault(key, {})[fact.leaf_index] = fact

    def _declarations_of(self, fact: EventFact) -> list[EventFact]:
        """Return the declarations of an event by who may declare it, in log order."""
        if not self._declared or fact.declaration:
            return []
        speakers = {self._directory.signer(fact)}
        if fact.second_hand:
            speakers.add(self._directory.actor(fact))
        names = {fact.event_id, fact.content_hash} - {""}
        found: dict[int, EventFact] = {}
        for speaker in speakers:
            for name in names:
                found |= self._declared.get((speaker, name), {})
        return [found[leaf] for leaf in sorted(found)]

    def forbidden(self, refs: Refs, unit: str) -> tuple[Forbidden, ...]:
        """Return the declarations that would undo what ended a unit, and may not.

        A declaration that names another event of the same party which ends the unit anew corrects it, and undoes
        nothing.
        """
        if not self._declared:
            return ()
        facts = [(self._world.facts[leaf], part) for leaf, part in refs]
        ends = [
            fact
            for fact, part in facts
            if fact.kind is not Kind.OTHER and not fact.declaration and act_of(fact, part) is Act.END
        ]
        faults = {fact.leaf_index: self._faults(fact, self._pack(facts, unit, fact)) for fact in ends}
        found: list[Forbidden] = []
        for fact in ends:
            if faults[fact.leaf_index] and not self._is_corrected(fact, ends, faults, frozenset()):
                found += faults[fact.leaf_index]
        return tuple(found)

    def _faults(self, ended: EventFact, pack: Pack) -> list[Forbidden]:
        """Return what is wrong with every declaration of an event that ended a unit; one that may undo it is enough."""
        faults = [
            Forbidden(declared, ended, undo_fault(ended, declared, pack, self._around))
            for declared in self._declarations_of(ended)
        ]
        return faults if all(fault.why for fault in faults) else []

    def _is_corrected(
        self,
        ended: EventFact,
        ends: Sequence[EventFact],
        faults: Mapping[int, Sequence[Forbidden]],
        seen: frozenset[str],
    ) -> bool:
        """Tell whether a declaration names another event of the same party that ends the unit, and stands itself."""
        seen |= {ended.event_id}
        who = self._directory.actor(ended)
        for declared in self._declarations_of(ended):
            signer = self._directory.signer(declared)
            for other in ends:
                if other.event_id in seen or other.event_id not in declared.corrects:
                    continue
                if (self._directory.signer(other), self._directory.actor(other)) != (signer, who):
                    continue
                stands = not self._declarations_of(other) or faults[other.leaf_index]
                if stands or self._is_corrected(other, ends, faults, seen):
                    return True
        return False

    def _pack(self, facts: Sequence[tuple[EventFact, Part]], unit: str, ended: EventFact) -> Pack:
        sound = [(fact, part) for fact, part in facts if not fact.declaration and not self._declarations_of(fact)]
        made = [fact for fact, part in sound if act_of(fact, part) is Act.COMMISSION]
        commission = min(made, key=lambda fact: (fact.second_hand, fact.order), default=None)
        opened = any(act_of(fact, part) is Act.OPEN and fact.order < ended.order for fact, part in sound)
        return Pack(unit, commission, opened)

    def _parties(self, refs: Refs) -> frozenset[str]:
        """Return the parties to what references name: those of its events, and of the events of what ever held it."""
        seen: set[str] = set()
        parties: set[str] = set()
        waiting = [refs]
        while waiting:
            current = waiting.pop()
            for leaf, _ in current:
                parties.update(self._directory.party_gln(party) for party in self._world.facts[leaf].parties)
            above = self._world.parents_of(current) - seen
            seen |= above
            waiting.extend(self._world.units.get(path, ()) for path in above)
        return frozenset(parties)

    def standings(self, refs: Refs, *, forbidden: Sequence[Forbidden] = ()) -> dict[int, Standing]:
        """Return how much each event counts for what the references name, by leaf index.

        Args:
            refs: The references.
            forbidden: Declarations that undo nothing of it (:meth:`forbidden`).
        """
        standing = {fault.ended.leaf_index for fault in forbidden}
        found: dict[int, Standing] = {}
        parts = dict(refs)
        own: list[EventFact] = []
        passed_on: list[EventFact] = []
        for leaf in parts:
            fact = self._world.facts[leaf]
            if leaf not in standing and self._declarations_of(fact):
                found[leaf] = Standing.DECLARED
            elif fact.second_hand:
                passed_on.append(fact)
            else:
                own.append(fact)
        first: set[tuple[object, ...]] = set()
        for fact in sorted(own, key=lambda item: item.order):
            names = self._same_content(fact)
            found[fact.leaf_index] = Standing.ECHO if first & names else Standing.COUNTS
            first |= names
        if passed_on:
            self._judge_passed_on(refs, parts, own=own, passed_on=passed_on, found=found)
        return found

    def _judge_passed_on(
        self,
        refs: Refs,
        parts: Mapping[int, Part],
        *,
        own: Sequence[EventFact],
        passed_on: Sequence[EventFact],
        found: dict[int, Standing],
    ) -> None:
        parties = self._parties(refs)
        said_first_hand = self._all_names(own, parts)
        said: set[tuple[object, ...]] = set()
        for fact in sorted(passed_on, key=lambda item: (item.order, item.key_id)):
            names = self._names(fact, parts[fact.leaf_index])
            if self._directory.signer(fact) not in parties:
                found[fact.leaf_index] = Standing.NOT_PARTY
            elif names & said_first_hand:
                found[fact.leaf_index] = Standing.SUPERSEDED
            else:
                found[fact.leaf_index] = Standing.ECHO if names & said else Standing.COUNTS
                said |= names

    def _all_names(self, facts: Iterable[EventFact], parts: Mapping[int, Part]) -> set[tuple[object, ...]]:
        return {name for fact in facts for name in self._names(fact, parts[fact.leaf_index])}

    def _same_content(self, fact: EventFact) -> set[tuple[object, ...]]:
        if fact.declaration or not fact.content_hash:
            return set()
        return {("content", self._directory.actor(fact), fact.content_hash)}

    def _names(self, fact: EventFact, part: Part) -> set[tuple[object, ...]]:
        """Return by what an event is known as the same: id, content, or the same deed told of fewer units."""
        if fact.declaration:
            return {("declaration", fact.leaf_index)}
        actor = self._directory.actor(fact)
        names = self._same_content(fact) | {("id", actor, fact.event_id)}
        if fact.kind is not Kind.OTHER and act_of(fact, part) is Act.COMMISSION:
            # A unit comes to life once: whenever a copy says that was, it speaks of the same deed.
            return names | {("commission", actor)}
        return names | {("deed", actor, fact.kind, fact.action, fact.biz_step, fact.time_us)}
