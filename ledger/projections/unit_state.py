"""The state of one unit while its history is replayed: what each act does to it, and what it contradicts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto

from ledger.projections import breaches
from ledger.projections.acts import Act, destination_of, ending_of
from ledger.projections.belief import Alert, AlertCode, Container, Ending, EvidenceKind, Standing, Step
from ledger.projections.circumstances import Circumstances
from ledger.projections.directory import Directory
from ledger.projections.facts import EventFact

# Out of use and still there.
_MAY_BE_DESTROYED = frozenset({Ending.DECOMMISSIONED, Ending.DAMAGED, Ending.LOCKED, Ending.SAMPLED})
_STRENGTH = {kind: rank for rank, kind in enumerate(EvidenceKind)}
# Clocks of two parties differ, and some write the day only.
LARGEST_SKEW_US = 24 * 3600 * 1_000_000


class Phase(Enum):
    """Coarse state of a unit; with maker, holder and flags it gives the class."""

    NONE = auto()
    HELD = auto()
    TRANSIT = auto()
    ARRIVED = auto()
    LEFT = auto()
    ENDED = auto()


AWAY = frozenset({Phase.TRANSIT, Phase.ARRIVED, Phase.LEFT})


@dataclass(slots=True, eq=False)
class UnitState:
    """A unit (or several with the same history) at some moment of the replay.

    Attributes:
        path: Of the unit; of several, the first.
        standings: How much each event that names it counts.
        early: Of each party that had it before any despatch to that party, the event that says so.
        declared: Acts that were declared in error, with the party that they speak of.
        traced: Whether its steps are kept.
        strays: What was taken out of it by being found alone elsewhere: its despatch may still explain them.
        tours: How often it went to another party.
        filled: Value of ``tours`` when something was last packed into it.
        holds: Why it is held back, each with the entry that says so.
        put_aside: Those of them with which it arrived: that it is received ends them.
        rest: What is left of it, once a part was handed out and somebody counted.
        known_to: Parties that had it, in the order in which they had it first.
        seen: The holder's newest scan: party and time.
        jumped_from: Parties from which it came to others though nobody sent it.
        uses: Events that handed it out, used it up or sold it, each with what held it then.
    """

    path: str
    standings: dict[int, Standing]
    traced: bool = False
    parent: "UnitState | None" = None
    contents: dict[int, "UnitState"] = field(default_factory=dict)
    commissions: list[EventFact] = field(default_factory=list)
    first_use: EventFact | None = None
    phase: Phase = Phase.NONE
    ending: Ending | None = None
    holder: str = ""
    destination: str = ""
    place: str = ""
    since_us: int = 0
    evidence: EvidenceKind = EvidenceKind.SECOND_HAND
    evidence_index: int = 0
    placed: bool = False
    returned: bool = False
    returned_before: bool = False
    opened: bool = False
    owner: str = ""
    next_owner: str = ""
    disposition: str = ""
    persistent: dict[str, None] = field(default_factory=dict)
    early: dict[str, EventFact] = field(default_factory=dict)
    declared: set[tuple[Act, str]] = field(default_factory=set)
    strays: dict[int, "UnitState"] = field(default_factory=dict)
    tours: int = 0
    filled: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    put_aside: set[str] = field(default_factory=set)
    rest: Decimal | None = None
    rest_uom: str = ""
    known_to: dict[str, None] = field(default_factory=dict)
    seen: tuple[str, int] = ("", 0)
    jumped_from: set[str] = field(default_factory=set)
    uses: list[breaches.Use] = field(default_factory=list)
    alerts: dict[tuple[AlertCode, int], Alert] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    # --- what it is ---

    @property
    def commission(self) -> EventFact | None:
        """The commissioning that is believed: first-hand before second-hand, then the earliest."""
        return min(self.commissions, key=lambda fact: (fact.second_hand, fact.order), default=None)

    @property
    def lot(self) -> str:
        """As its commissioning states it; empty where it does not."""
        commission = self.commission
        return "" if commission is None else commission.lot

    def above(self) -> Iterator["UnitState"]:
        """Yield what holds it at this moment of the replay, nearest first."""
        container = self.parent
        while container is not None:
            yield container
            container = container.parent

    def containers(self) -> tuple[Container, ...]:
        """Return what holds it at this moment of the replay, nearest first."""
        return tuple(Container(above.path, above.lot) for above in self.above())

    # --- what happens ---

    def apply(self, fact: EventFact, act: Act, *, around: Circumstances, inherited: bool) -> None:
        """Take in one event that counts.

        Args:
            fact: The event.
            act: What it does.
            around: Who is who, and what else bears on it.
            inherited: It names a container of the unit, not the unit.
        """
        directory = around.directory
        if act is Act.MISS:
            # That it is not in its container says nothing of where it is: no use, and nobody has seen it.
            self._flag(fact, directory=directory)
            return
        actor = directory.actor(fact)
        if act is Act.COMMISSION:
            self._commission(fact, actor, inherited=inherited)
        elif act is Act.END:
            self._end(fact, actor, inherited=inherited)
        elif act is Act.DESPATCH:
            self._despatch(fact, actor, directory=directory, inherited=inherited)
        elif act is Act.VOID:
            self._void(fact, actor, inherited=inherited)
        elif act is Act.ARRIVE:
            self._arrive(fact, actor, inherited=inherited)
        elif act is Act.PASS:
            self._pass(fact, actor, inherited=inherited)
        elif self._observe(fact, actor, inherited=inherited) and act is Act.OPEN:
            self._open(fact, inherited=inherited)
        self._note(fact, act, around, seen_by=actor if not inherited and not fact.second_hand else "")

    def _note(self, fact: EventFact, act: Act, around: Circumstances, *, seen_by: str) -> None:
        if act is not Act.COMMISSION and self.first_use is None:
            self.first_use = fact
        if seen_by and self.holder == seen_by:
            self.seen = (seen_by, fact.time_us)
        self._flag(fact, directory=around.directory)
        if fact.sensing:
            breaches.sense(self, fact, around)

    def _commission(self, fact: EventFact, actor: str, *, inherited: bool) -> None:
        if inherited:
            return
        self.commissions.append(fact)
        if self.phase is Phase.NONE:
            self._hold(fact, actor, inherited=False)
            self.placed = False
            self._describe(fact)
        elif not self.disposition:
            # It is dated after what has been done with the unit since: no word of it lifts a hold.
            self.disposition = fact.disposition

    def _end(self, fact: EventFact, actor: str, *, inherited: bool) -> None:
        ending = ending_of(fact)
        if self.phase is Phase.ENDED:
            self._end_again(fact, actor, ending)
            return
        if not self._is_with(actor):
            self.early[actor] = fact
            self._miss(AlertCode.ENDED_NOT_HELD, fact, actor, inherited=inherited)
        if ending is Ending.DISPENSED:
            breaches.hand_out(self, fact)
        elif ending is Ending.CONSUMED:
            breaches.use(self, fact)
        self._hold(fact, actor, inherited=inherited)
        self.phase = Phase.ENDED
        self.ending = ending
        self.since_us = fact.time_us
        self._believe(fact, inherited=inherited)
        self._describe(fact)

    def _end_again(self, fact: EventFact, actor: str, ending: Ending) -> None:
        if self.ending is Ending.DISPENSED and ending is Ending.DISPENSED:
            self.alert(AlertCode.DISPENSED_TWICE, fact, f"dispensed again by {actor}, after {self.holder}")
        # First taken out of use, then destroyed: one end in two steps, as long as the same party says so.
        elif actor != self.holder or not {self.ending, ending}.isdisjoint({Ending.DISPENSED, Ending.CONSUMED}):
            self._used_after_end(fact, actor)
        elif ending is Ending.DESTROYED and self.ending in _MAY_BE_DESTROYED:
            self.ending = ending

    def _open(self, fact: EventFact, *, inherited: bool) -> None:
        breaches.hand_out(self, fact)
        if not self.opened:
            self.opened = True
            self.since_us = fact.time_us
            self._believe(fact, inherited=inherited)

    def _despatch(self, fact: EventFact, actor: str, *, directory: Directory, inherited: bool) -> None:
        target = destination_of(fact)
        destination = directory.party_gln(target) if target else ""
        if destination in self.early and answers(self.early[destination], fact):
            self._answer_early(fact, destination)
            return
        if not self._check_not_ended(fact, actor):
            return
        if self.phase in {Phase.TRANSIT, Phase.LEFT} and (self.holder, self.destination) == (actor, destination):
            self._confirm(fact, inherited=inherited)
            return
        if not self._is_with(actor) or (self.phase in AWAY and self.holder == actor):
            self._miss(AlertCode.SHIPPED_NOT_HELD, fact, actor, inherited=inherited)
        else:
            self.jumped_from.clear()
        if self.phase not in AWAY:
            self.returned_before = self.returned
        if not breaches.goes_back(self, fact, actor=actor, destination=destination):
            breaches.sell(self, fact)
        self.tours += 1
        self.known_to[actor] = None
        self.phase = Phase.TRANSIT if not destination or directory.is_enrolled(target) else Phase.LEFT
        self.holder = actor
        self.destination = destination
        self.place = ""
        self.placed = True
        self.since_us = fact.time_us
        self.returned = fact.disposition == "returned"
        self.next_owner = directory.party_gln(fact.target_owner) if fact.target_owner else ""
        self._believe(fact, inherited=inherited)
        self._describe(fact)

    def _void(self, fact: EventFact, actor: str, *, inherited: bool) -> None:
        if self.phase in AWAY and self.holder == actor:
            self.returned = self.returned_before
            self.next_owner = ""
            self.tours -= 1
            self._hold(fact, actor, inherited=inherited)
            self._describe(fact)

    def _arrive(self, fact: EventFact, actor: str, *, inherited: bool) -> None:
        if self.phase is Phase.TRANSIT:
            self.phase = Phase.ARRIVED
            self.place = fact.place
            self.since_us = fact.time_us
            self._believe(fact, inherited=inherited)
            self._describe(fact)
        elif self.phase is not Phase.ARRIVED:
            self._observe(fact, actor, inherited=inherited)

    def _pass(self, fact: EventFact, actor: str, *, inherited: bool) -> None:
        if self._check_not_ended(fact, actor) and self.phase is Phase.HELD and self.holder == actor:
            self._confirm(fact, inherited=inherited)
            self._describe(fact)

    def _observe(self, fact: EventFact, actor: str, *, inherited: bool) -> bool:
        """Take in that a party has the unit; tell whether it is believed."""
        if not self._check_not_ended(fact, actor):
            return False
        if self.phase is Phase.HELD and self.holder == actor:
            self._confirm(fact, inherited=inherited)
            self._describe(fact)
            return True
        if self.phase in {Phase.TRANSIT, Phase.ARRIVED} and fact.second_hand and self.holder != actor:
            # Only the receiver's own word makes it holder.
            if self.phase is Phase.TRANSIT:
                self.phase = Phase.ARRIVED
                self.since_us = fact.time_us
                self.place = fact.place
                self._believe(fact, inherited=inherited)
            return False
        if not self._is_with(actor):
            self.early[actor] = fact
            self._miss(AlertCode.RECEIVED_NOT_SHIPPED, fact, actor, inherited=inherited)
        self._hold(fact, actor, inherited=inherited)
        self._describe(fact)
        return True

    # --- what that means ---

    def _is_with(self, party: str) -> bool:
        """Tell whether a party may act on it: it holds it, has sent it, or it is on its way to it."""
        return self.phase is Phase.NONE or self.holder == party or (self.phase in AWAY and self.destination == party)

    def _hold(self, fact: EventFact, party: str, *, inherited: bool) -> None:
        if self.phase in AWAY and self.next_owner and party == self.destination:
            self.owner = self.next_owner
        # Once somebody else has it, a despatch to an earlier party is a new one.
        self.early = {early: fact for early, fact in self.early.items() if early == party}
        if self.phase is Phase.HELD and self.holder != party:
            self.tours += 1
        self.known_to[party] = None
        self.phase = Phase.HELD
        self.holder = party
        self.destination = ""
        self.place = fact.place or self.place
        self.placed = True
        self.since_us = fact.time_us
        self._believe(fact, inherited=inherited)

    def _confirm(self, fact: EventFact, *, inherited: bool) -> None:
        """Take in what agrees: the first event after commissioning places it, a stronger one is better evidence."""
        self.place = fact.place or self.place
        kind = evidence_of(fact, inherited=inherited)
        if not self.placed:
            self.placed = True
            self.since_us = fact.time_us
            self._believe(fact, inherited=inherited)
        elif _STRENGTH[kind] > _STRENGTH[self.evidence]:
            self._believe(fact, inherited=inherited)

    def _believe(self, fact: EventFact, *, inherited: bool) -> None:
        self.evidence = evidence_of(fact, inherited=inherited)
        self.evidence_index = fact.leaf_index

    def _describe(self, fact: EventFact) -> None:
        if fact.disposition:
            self.disposition = fact.disposition
            if fact.disposition == "returned":
                self.returned = True
            elif breaches.ends_return(fact):
                self.returned = False
        breaches.keep_back(self, fact)
        for word in fact.unset_dispositions:
            self.persistent.pop(word, None)
        self.persistent.update(dict.fromkeys(fact.set_dispositions))

    def _answer_early(self, fact: EventFact, destination: str) -> None:
        """Take in the despatch that a receiving answers which is dated before it: clocks differ, the order is known."""
        answer = self.early.pop(destination)
        self.jumped_from.clear()
        for code in _EXPLAINED_BY_DESPATCH:
            self.alerts.pop((code, answer.leaf_index), None)
        if self.evidence_index == answer.leaf_index:
            self.since_us = max(self.since_us, fact.time_us)
        late = [step for step in self.steps if step.fact.leaf_index == answer.leaf_index]
        for step in late:
            self.steps.remove(step)
            self.steps.append(Step(step.fact, step.via, max(step.time_us, fact.time_us), step.standing))

    # --- what it contradicts ---

    def alert(self, code: AlertCode, fact: EventFact, message: str) -> None:
        """Raise an alert by an entry; the same code by the same entry stands once."""
        self.alerts.setdefault((code, fact.leaf_index), Alert(code, message, fact.leaf_index))

    def _miss(self, code: AlertCode, fact: EventFact, actor: str, *, inherited: bool) -> None:
        """Raise an alert that something is missing before an event; if it was declared an error, say so instead."""
        where = f"believed with {self.holder or 'nobody'}"
        if self.phase in AWAY:
            where = f"believed on its way from {self.holder} to {self.destination or 'an unnamed party'}"
        message = f"{_DEED[code]} by {actor} while {where}"
        if any((act, actor) in self.declared for act in _EXPLAINED_BY[code]):
            self.alert(AlertCode.RELIED_ON_DECLARED_ERROR, fact, f"{message}; what explained it was declared an error")
            return
        self.alert(code, fact, f"{message}: an earlier event may be missing")
        if not inherited and not fact.second_hand and self.phase is Phase.HELD and self.seen[0] == self.holder:
            breaches.jump(self, fact, actor)

    def _used_after_end(self, fact: EventFact, actor: str) -> None:
        what = fact.biz_step or fact.kind.value
        self.alert(AlertCode.USED_AFTER_END, fact, f"{what} by {actor} after it was {self.ending}")

    def _check_not_ended(self, fact: EventFact, actor: str) -> bool:
        if self.phase is Phase.ENDED:
            self._used_after_end(fact, actor)
            return False
        return True

    def _flag(self, fact: EventFact, *, directory: Directory) -> None:
        if fact.id_is_wrong:
            message = "the event id claims to be the hash of the content, and is not"
            self.alert(AlertCode.EVENT_ID_HASH_MISMATCH, fact, message)
        suspect_time = directory.suspect_time(fact.key_id)
        if suspect_time is not None and fact.time >= suspect_time:
            message = f"signed by a key that is revoked and in doubt since {suspect_time.isoformat()}"
            self.alert(AlertCode.KEY_SUSPECT, fact, message)


_DEED = {
    AlertCode.SHIPPED_NOT_HELD: "shipped",
    AlertCode.RECEIVED_NOT_SHIPPED: "had",
    AlertCode.ENDED_NOT_HELD: "ended",
}
# What a declared event would have explained: acts by, or despatches to, the party that the alert speaks of.
_EXPLAINED_BY = {
    AlertCode.SHIPPED_NOT_HELD: (Act.RECEIVE, Act.OBSERVE, Act.DESPATCH, Act.COMMISSION),
    AlertCode.RECEIVED_NOT_SHIPPED: (Act.DESPATCH,),
    AlertCode.ENDED_NOT_HELD: (Act.RECEIVE, Act.OBSERVE, Act.DESPATCH, Act.COMMISSION),
}


# What a receiving dated before its despatch looks like, while the despatch is not there.
_EXPLAINED_BY_DESPATCH = (
    AlertCode.RECEIVED_NOT_SHIPPED,
    AlertCode.ENDED_NOT_HELD,
    AlertCode.RELIED_ON_DECLARED_ERROR,
    AlertCode.DUPLICATE_SERIAL,
    AlertCode.IMPOSSIBLE_MOVEMENT,
)


def answers(receiving: EventFact, despatch: EventFact) -> bool:
    """Tell whether a receiving dated before a despatch to its actor can be the answer to it."""
    return despatch.time_us - receiving.time_us <= LARGEST_SKEW_US


def evidence_of(fact: EventFact, *, inherited: bool) -> EvidenceKind:
    """Return how an event makes something known of a unit."""
    if fact.second_hand:
        return EvidenceKind.SECOND_HAND
    return EvidenceKind.INFERRED if inherited else EvidenceKind.SCANNED
