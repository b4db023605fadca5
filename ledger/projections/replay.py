"""What is believed of units after their history, and that of all that held them, is replayed.

A pure function of a set of events: they are put in the order of effective time first, so their order of arrival has no
say. Contents follow their container: each event that names a container is applied to what is inside at that moment, at
any depth, unless the event names the content itself. Units with exactly the same references have the same history, and
are replayed once: a case of packs costs as much as one pack.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Protocol

from ledger.projections.acts import Act, act_of, destination_of
from ledger.projections.belief import AlertCode, Container, Standing, Step, UnitBelief
from ledger.projections.breaches import HOLDING_WORDS, SUSPECT, code_of, judge_uses
from ledger.projections.circumstances import Circumstances, trade_item_of
from ledger.projections.classes import class_of, detach
from ledger.projections.containment import Containment, Moment
from ledger.projections.directory import Directory
from ledger.projections.facts import EventFact, Kind, Part, from_us, to_us
from ledger.projections.recalls import RecallEntry
from ledger.projections.unit_state import Phase, UnitState, answers
from ledger.projections.world import Judge, Refs, World


class Companion(Protocol):
    """What follows a replay beside its units: the quantities of a lot."""

    def facts(self) -> Sequence[EventFact]:
        """Return the events that it wants, in any order."""

    def apply(self, fact: EventFact, replay: "Replay") -> None:
        """Take in one of them, after the units that it names have."""

    def release(self, fact: EventFact) -> None:
        """Take in that a container was emptied."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Units of which exactly the same is believed; the belief's own unit is the first."""

    belief: UnitBelief
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """That an event names a unit state in a part; sorts in the order of replay, containers before what they hold.

    Attributes:
        after: The despatch that it answers though it is dated before; else None.
    """

    fact: EventFact
    part: Part
    state: UnitState
    after: EventFact | None = None

    @property
    def order(self) -> tuple[object, ...]:
        anchor = self.after or self.fact
        answers = self.after is not None
        return (*anchor.order, anchor.leaf_index, answers, *self.fact.order, self.part, self.state.path)

    @property
    def effective(self) -> EventFact:
        """The event, at its effective time."""
        return self.fact if self.after is None else replace(self.fact, time_us=self.after.time_us)


class Replay:
    """One replay of a world; :meth:`run` once, then ask.

    Args:
        world: The events.
        directory: Who is who, at the same tree size.
        recalls: All that are known, and their ends: what is sold under one alerts, what is under one is not undone.
        true_time: Events later than this are not applied; None for all. Declarations hold whenever they were made.
        traced: Path of the unit whose steps are kept; empty for none.
    """

    def __init__(
        self,
        world: World,
        directory: Directory,
        *,
        recalls: Sequence[RecallEntry] = (),
        true_time: datetime | None = None,
        traced: str = "",
    ) -> None:
        self._world = world
        self._directory = directory
        self._around = Circumstances.of(directory, limits=world.limits, recalls=_concerning(recalls, world))
        self._until_us = None if true_time is None else to_us(true_time)
        self._judge = Judge(world, self._around)
        self._states: dict[str, UnitState] = {}
        self._companions: tuple[Companion, ...] = ()
        self._moments_of: dict[int, frozenset[Moment]] = {}
        self._containment = Containment(self._states, directory, self._moments)
        serials = self._around.serials()
        alike: dict[tuple[Refs, str, bool, frozenset[int]], list[str]] = defaultdict(list)
        for path, refs in world.units.items():
            alike[refs, trade_item_of(path), path == traced, serials.get(path, frozenset())].append(path)
        self._refs_of_state: dict[int, Refs] = {}
        for (refs, _, is_traced, _), paths in alike.items():
            state = self._new_state(refs, min(paths), traced=is_traced)
            for path in paths:
                self._states[path] = state

    def _new_state(self, refs: Refs, path: str, *, traced: bool) -> UnitState:
        forbidden = self._judge.forbidden(refs, path)
        state = UnitState(path, self._judge.standings(refs, forbidden=forbidden), traced=traced)
        self._refs_of_state[id(state)] = refs
        for fault in forbidden:
            if self.includes(fault.ended):
                state.alert(AlertCode.UNDO_FORBIDDEN, fault.declaration, f"not undone: {fault.why}")
        return state

    # --- replaying ---

    def run(self, *companions: "Companion") -> "Replay":
        """Apply all events in order, let companions follow, and return itself."""
        following = defaultdict(list)
        self._companions = companions
        for companion in companions:
            for fact in companion.facts():
                if self.includes(fact):
                    following[fact.leaf_index].append(companion)
        items = sorted(self._items(), key=lambda item: item.order)
        waiting = sorted(
            (self._world.facts[leaf] for leaf in following), key=lambda fact: (fact.order, fact.leaf_index)
        )
        waiting.reverse()
        for item in items:
            while waiting and (waiting[-1].order, waiting[-1].leaf_index) < (item.fact.order, item.fact.leaf_index):
                self._follow(waiting.pop(), following)
            self.apply(item.effective, item.part, item.state)
        while waiting:
            self._follow(waiting.pop(), following)
        return self

    def _follow(self, fact: EventFact, following: Mapping[int, list["Companion"]]) -> None:
        for companion in following[fact.leaf_index]:
            companion.apply(fact, self)

    def _counts(self, fact: EventFact, state: UnitState) -> bool:
        return state.standings[fact.leaf_index] is Standing.COUNTS and not fact.declaration

    def _items(self) -> Iterable[_Item]:
        for state in {id(state): state for state in self._states.values()}.values():
            refs = self._refs_of_state[id(state)]
            after = self._answers(state, refs)
            for leaf, part in refs:
                item = _Item(self._world.facts[leaf], part, state, after.get(leaf))
                if self.includes(item.effective):
                    yield item

    def _answers(self, state: UnitState, refs: Refs) -> dict[int, EventFact]:
        """Return the receivings of a unit that are dated before the despatch that they answer, each with it.

        That is so when a party has a unit that was not despatched to it before, and the next that happens between the
        unit and that party is a despatch to it, within a day: clocks differ, and some times are days. When the party
        has done more with it in between, the receiving stays where it is, so that all that the party did keeps its
        order; the replay then lets the despatch be answered by what came before (:meth:`UnitState.apply`).
        """
        found: dict[int, EventFact] = {}
        waiting: dict[str, EventFact] = {}
        present: set[str] = set()
        for fact, act in self._deeds(state, refs):
            actor = self._directory.actor(fact)
            waiting.pop(actor, None)
            if act is Act.RECEIVE:
                if actor not in present:
                    waiting[actor] = fact
                present.add(actor)
            elif act is Act.DESPATCH:
                present.discard(actor)
                destination = self._speaks_of(fact, act)
                answer = waiting.pop(destination, None)
                if answer is not None and answers(answer, fact):
                    found[answer.leaf_index] = fact
                present.add(destination)
        return found

    def _deeds(self, state: UnitState, refs: Refs) -> list[tuple[EventFact, Act]]:
        facts = [(self._world.facts[leaf], part) for leaf, part in refs]
        deeds = [(fact, act_of(fact, part)) for fact, part in facts if self._counts(fact, state)]
        return sorted(deeds, key=lambda deed: (deed[0].order, deed[0].leaf_index))

    def includes(self, fact: EventFact) -> bool:
        """Tell whether an event is dated within what is asked for."""
        return fact.kind is not Kind.OTHER and (self._until_us is None or fact.time_us <= self._until_us)

    def state(self, path: str) -> UnitState | None:
        """Return the state of a unit as replayed so far."""
        return self._states.get(path)

    def _moments(self, state: UnitState) -> frozenset[Moment]:
        """Return when events that count name a unit."""
        found = self._moments_of.get(id(state))
        if found is None:
            facts = (self._world.facts[leaf] for leaf, _ in self._refs_of_state.get(id(state), ()))
            found = frozenset(self._containment.moment(fact) for fact in facts if self._counts(fact, state))
            self._moments_of[id(state)] = found
        return found

    def apply(self, fact: EventFact, part: Part, state: UnitState) -> None:
        """Apply one event to a unit that it names, and to what that unit holds."""
        standing = state.standings[fact.leaf_index]
        act = act_of(fact, part)
        if standing is not Standing.COUNTS or fact.declaration:
            self._take(fact, act, state, standing)
            return
        packs = fact.kind is Kind.AGGREGATION and fact.action == "ADD"
        if state.parent is not None and fact.kind is not Kind.ASSOCIATION and not (packs and part is Part.CHILD):
            # An effective time may be another event's: what was told at one moment was told at its own.
            told = self._world.facts[fact.leaf_index]
            self._containment.leave_alone(fact, act, state, moment=self._containment.moment(told))
        self._take(fact, act, state, standing)
        if fact.kind is Kind.AGGREGATION and part is Part.CHILD:
            self._containment.contain(fact, state)
        elif part is Part.PARENT:
            self._empty(fact, state, packs=packs)

    def _empty(self, fact: EventFact, state: UnitState, *, packs: bool) -> None:
        """Take out what a container does not hold any more: it was emptied, or is filled anew."""
        if fact.empties:
            for content in list(state.contents.values()):
                detach(content)
        elif not (packs and self._containment.refill(fact, state)):
            return
        for companion in self._companions:
            companion.release(fact)

    def _take(self, fact: EventFact, act: Act, state: UnitState, standing: Standing) -> None:
        """Let a unit and all that it holds take in an event."""
        counts = standing is Standing.COUNTS and not fact.declaration
        destination = self._speaks_of(fact, act) if counts and act is Act.DESPATCH else ""
        waiting = [(state, False)]
        # Containment never runs in circles (see Containment.contain), so that this ends.
        while waiting:
            current, inherited = waiting.pop()
            if current.traced:
                current.steps.append(Step(fact, state.path, fact.time_us, standing))
            if standing is Standing.DECLARED:
                current.declared.add((act, self._speaks_of(fact, act)))
            elif counts:
                current.apply(fact, act, around=self._around, inherited=inherited)
            inside = [content for content in current.contents.values() if fact.leaf_index not in content.standings]
            if destination and current.strays:
                inside += self._containment.strays_of(fact, destination, current, answers)
            waiting.extend((content, True) for content in inside)

    def _speaks_of(self, fact: EventFact, act: Act) -> str:
        if act is Act.DESPATCH:
            return self._directory.party_gln(destination_of(fact))
        return self._directory.actor(fact)

    # --- asking ---

    def belief(self, path: str) -> UnitBelief | None:
        """Return what is believed of a unit; None when no event that counts tells of it."""
        state = self._states.get(path)
        if state is None or state.phase is Phase.NONE:
            return None
        return replace(self._believed(state), unit=path)

    def steps(self, path: str) -> tuple[Step, ...]:
        """Return the history of the traced unit in order of effective time, what does not count included."""
        state = self._states.get(path)
        steps = () if state is None else state.steps
        # An event that names a unit in two parts (used up, and produced) is one step of its history.
        return tuple({step.fact.leaf_index: step for step in reversed(steps)}.values())[::-1]

    def contents(self, path: str) -> tuple[Container, ...]:
        """Return what is inside a unit now, at any depth; what was replayed as one is named by its members."""
        state = self._states.get(path)
        if state is None:
            return ()
        inside: set[int] = set()
        waiting = [state]
        while waiting:
            for content in waiting.pop().contents.values():
                inside.add(id(content))
                waiting.append(content)
        return tuple(
            Container(unit, member.lot) for unit, member in sorted(self._states.items()) if id(member) in inside
        )

    def groups(self, paths: Iterable[str]) -> list[Alike]:
        """Return what is believed of units, those of which the same is believed together."""
        members: dict[int, list[str]] = defaultdict(list)
        for path in paths:
            if path in self._states:
                members[id(self._states[path])].append(path)
        return [
            Alike(self._believed(self._states[units[0]]), tuple(units))
            for units in members.values()
            if self._states[units[0]].phase is not Phase.NONE
        ]

    def _believed(self, state: UnitState) -> UnitBelief:
        refs = self._refs_of_state.get(id(state), ())
        commission = self._commission_alerts(state, refs)
        judge_uses(state, self._around)
        maker = "" if commission is None else self._directory.actor(commission)
        expiry = "" if commission is None else commission.expiry
        ended = state.ending is not None
        return UnitBelief(
            unit=state.path,
            unit_class=class_of(state, maker=maker, directory=self._directory),
            holder=state.holder,
            destination=state.destination,
            place=state.place,
            since=from_us(state.since_us),
            evidence=state.evidence,
            evidence_index=state.evidence_index,
            containers=state.containers(),
            lot=state.lot,
            expiry=date.fromisoformat(expiry) if expiry else None,
            maker=maker,
            first_hand=commission is not None and not commission.second_hand,
            disposition=state.disposition,
            persistent_dispositions=tuple(state.persistent),
            owner=state.owner if state.owner != state.holder else "",
            alerts=tuple(sorted(state.alerts.values(), key=lambda alert: (alert.leaf_index, alert.code))),
            ending=state.ending,
            returned=state.returned and not ended,
            opened=state.opened,
            hold_reason="" if ended else _hold_reason(state),
            hold_index=None if ended else next(iter(state.holds.values()), None),
            marked_suspect=not ended and any(_says_suspect(reason) for reason in state.holds),
            remainder=None if ended or not state.opened else state.rest,
            remainder_uom="" if ended or state.rest is None else state.rest_uom,
        )

    def _commission_alerts(self, state: UnitState, refs: Sequence[tuple[int, Part]]) -> EventFact | None:
        """Return the commissioning that is believed; alert about what speaks against it, or about its absence."""
        commission = state.commission
        if commission is None:
            self._alert_missing(state)
            return None
        maker = self._directory.actor(commission)
        for leaf, part in refs:
            fact = self._world.facts[leaf]
            standing = state.standings[leaf]
            if leaf == commission.leaf_index or fact.declaration or not self.includes(fact):
                continue
            if act_of(fact, part) is not Act.COMMISSION or standing in {Standing.DECLARED, Standing.NOT_PARTY}:
                continue
            self._compare(state, fact, commission=commission, maker=maker)
            if standing is Standing.COUNTS and not fact.second_hand:
                message = f"commissioned again by {self._directory.actor(fact)}"
                state.alert(AlertCode.SECOND_COMMISSIONING, fact, message)
        return commission

    def _compare(self, state: UnitState, fact: EventFact, *, commission: EventFact, maker: str) -> None:
        other = self._directory.actor(fact)
        for code, word, said, believed in (
            (AlertCode.LOT_CONFLICT, "lot", fact.lot, commission.lot),
            (AlertCode.EXPIRY_CONFLICT, "expiry", fact.expiry, commission.expiry),
            (AlertCode.MAKER_CONFLICT, "maker", other, maker),
        ):
            if said and believed and said != believed:
                state.alert(code, fact, f"{word} {said} said, {believed} believed")

    def _alert_missing(self, state: UnitState) -> None:
        first = state.first_use
        if first is None or not trade_item_of(state.path):
            return
        if any(act is Act.COMMISSION for act, _ in state.declared):
            message = "used, but its commissioning was declared an error"
            state.alert(AlertCode.RELIED_ON_DECLARED_ERROR, first, message)
        else:
            message = "used, but nobody commissioned it: the commissioning may be missing"
            state.alert(AlertCode.COMMISSION_MISSING, first, message)


def _concerning(recalls: Sequence[RecallEntry], world: World) -> list[RecallEntry]:
    """Return the recalls of trade items that a world names, and the ends of recalls."""
    if not recalls:
        return []
    items = {trade_item_of(path) for path in world.units}
    return [
        entry
        for entry in recalls
        if entry.recall.terminated_recall_id or any(scope.gtin.path in items for scope in entry.recall.scopes)
    ]


def _hold_reason(state: UnitState) -> str:
    """Return why a unit is held back, a line a reason: what its holder said, else a CBV disposition."""
    words = (word for word in (*state.persistent, state.disposition) if word in HOLDING_WORDS | {"reserved"})
    return "\n".join(state.holds) or next(words, "")


def _says_suspect(reason: str) -> bool:
    code, _, _ = code_of(reason).partition(" ")
    return code == SUSPECT
