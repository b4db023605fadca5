"""Where every unit is, from all that was said, in the order in which it happened: whatever the order of telling.

One plain loop over the acts by their time. An act on a container is one on all that is inside, unless it names that
too. What nobody may undo stays; what contradicts leaves an alert.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from medtrail.simulation.acts import is_trade_item

AT_MAKER = "at_maker"
ON_HAND = "on_hand"
IN_TRANSIT = "in_transit"
LEFT_NETWORK = "left_network"
ARRIVED = "delivered_unconfirmed"
OPENED = "opened"
DISPENSED = "dispensed"
RETURNED = "returned"
CONSUMED = "consumed"
DESTROYED = "destroyed_or_decommissioned"
LOST = "lost_or_stolen"
UNACCOUNTED = "unaccounted"

SCANNED = "scanned"
INFERRED = "inferred"
SECOND_HAND = "second_hand"
AWAY = frozenset({"transit", "arrived", "left"})
_WHERE = {"transit": IN_TRANSIT, "arrived": ARRIVED, "left": LEFT_NETWORK}
_STRENGTH = (SECOND_HAND, INFERRED, SCANNED)


@dataclass(slots=True)
class Said:
    """What a party said that it did.

    Attributes:
        what: commission, pack, unpack, absent, ship, send_back, receive, arrive, take_back, hold, suspect, release,
            inspect, dispense, open, end, void, sense.
        number: Order of telling.
        how: Final class of an end.
        withdrawn: It was declared an error later.
        second_hand: Name of the party that passed it on; empty where the actor said it itself.
        excursion: A temperature out of the product's limits.
    """

    what: str
    at: int
    number: int
    who: str
    units: tuple[str, ...]
    parent: str = ""
    to: str = ""
    lot: str = ""
    expiry: str = ""
    how: str = ""
    second_hand: str = ""
    withdrawn: bool = False
    excursion: bool = False


@dataclass(slots=True)
class Fact:
    """What is so of one unit.

    Attributes:
        phase: held, transit, arrived, left or ended; empty before anything.
        seen_by: The holder, once it has scanned the unit itself.
        jumped_from: Parties that scanned it, before another did to which they had not sent it.
        without_data: The last word is that it arrived, and was put aside.
        placed: Something after its commissioning tells where it is.
        had_by: Parties that had it, in the order in which they had it first.
        returned_before: Whether it was sent back and not released when it left its holder.
    """

    phase: str = ""
    holder: str = ""
    destination: str = ""
    maker: str = ""
    first_hand: bool = False
    lot: str = ""
    expiry: str = ""
    end: str = ""
    parent: str = ""
    evidence: str = SECOND_HAND
    disposition: str = ""
    placed: bool = False
    returned: bool = False
    opened: bool = False
    held_back: bool = False
    suspect: bool = False
    without_data: bool = False
    seen_by: str = ""
    jumped_from: frozenset[str] = frozenset()
    had_by: tuple[str, ...] = ()
    returned_before: bool = False
    alerts: set[str] = field(default_factory=set)

    @property
    def where(self) -> str:
        """The one class that holds."""
        if self.phase == "ended":
            return self.end
        if self.phase in _WHERE:
            return _WHERE[self.phase]
        if self.returned:
            return RETURNED
        if self.opened:
            return OPENED
        if self.holder != self.maker:
            return ON_HAND
        return AT_MAKER if self.placed else UNACCOUNTED

    @property
    def barred(self) -> bool:
        """Whether nobody may sell it before somebody has released it."""
        return self.held_back or self.without_data or self.returned

    def comes_to(self, who: str) -> None:
        """Note that a party has it."""
        if who not in self.had_by:
            self.had_by += (who,)

    def goes_back(self, sender: str, receiver: str) -> bool:
        """Tell whether its receiver had it before its sender had."""
        before = self.had_by[: self.had_by.index(sender)] if sender in self.had_by else self.had_by
        return receiver in before


class Ground:
    """All units, after all that was said."""

    def __init__(self, said: Iterable[Said], *, members: Iterable[str]) -> None:
        """Replay what was said; ``members`` are the parties of the network: goods to others leave it."""
        self.facts: dict[str, Fact] = {}
        self._contents: dict[str, dict[str, None]] = {}
        self._members = frozenset(members)
        for item in sorted(said, key=lambda item: (item.at, item.number)):
            if not item.withdrawn:
                self._apply(item)

    # --- one act ---

    def _apply(self, said: Said) -> None:
        if said.what == "absent":
            self._miss(said)
            return
        if said.what in {"pack", "unpack"}:
            self._pack(said)
            return
        named = frozenset(said.units)
        for unit in said.units:
            self._take_alone(unit, named, said)
        for unit in said.units:
            for part in (unit, *self._inside(unit, named)):
                self._do(part, said, inherited=part != unit)
            if said.what in {"end", "dispense"}:
                self._move(unit, "")

    def _inside(self, unit: str, named: frozenset[str]) -> Iterator[str]:
        waiting = list(self._contents.get(unit, ()))
        while waiting:
            child = waiting.pop()
            if child in named:
                continue
            yield child
            waiting.extend(self._contents.get(child, ()))

    def _pack(self, said: Said) -> None:
        named = frozenset((said.parent, *said.units))
        for part in (said.parent, *self._inside(said.parent, named)):
            self._do(part, said, inherited=part != said.parent)
        for unit in said.units:
            for part in (unit, *self._inside(unit, named)):
                self._do(part, said, inherited=part != unit)
            fact = self._fact(unit)
            if said.what == "unpack":
                if fact.parent == said.parent:
                    self._move(unit, "")
                continue
            if fact.parent and fact.parent != said.parent:
                fact.alerts.add("DOUBLE_CONTAINER")
            self._move(unit, said.parent)
        if said.what == "unpack" and not said.units:
            for child in tuple(self._contents.get(said.parent, ())):
                self._move(child, "")

    def _miss(self, said: Said) -> None:
        """Let units not be in a container; where they are, who says so does not know."""
        for unit in said.units:
            if self._fact(unit).parent == said.parent:
                self._move(unit, "")

    def _take_alone(self, unit: str, named: frozenset[str], said: Said) -> None:
        """Take a unit out of the container that it is believed in, when what happens to it cannot happen inside."""
        parent = self._fact(unit).parent
        if not parent or said.what in {"commission", "sense"} or self._outer(unit) & named:
            return
        if said.what == "void" and not self._may_void(self._fact(unit), said):
            return
        container = self._fact(parent)
        goes_along = container.phase in {"transit", "left"} and container.holder == said.who
        if said.what in {"ship", "send_back"} and goes_along and container.destination == said.to:
            return
        stays = said.what not in {"ship", "send_back", "dispense", "open", "end"}
        if stays and container.holder == said.who and container.phase == "held":
            return
        if said.what == "arrive" and container.destination == said.who:
            return
        self._fact(unit).alerts.add("PARENT_NOT_UNPACKED")
        self._move(unit, "")

    def _outer(self, unit: str) -> frozenset[str]:
        found = []
        parent = self._fact(unit).parent
        while parent:
            found.append(parent)
            parent = self._fact(parent).parent
        return frozenset(found)

    def _move(self, unit: str, parent: str) -> None:
        fact = self._fact(unit)
        if fact.parent:
            self._contents[fact.parent].pop(unit, None)
        fact.parent = parent
        if parent:
            self._contents.setdefault(parent, {})[unit] = None

    def _fact(self, unit: str) -> Fact:
        return self.facts.setdefault(unit, Fact())

    # --- one unit ---

    def _do(self, unit: str, said: Said, *, inherited: bool) -> None:
        fact = self._fact(unit)
        strength = SECOND_HAND if said.second_hand else INFERRED if inherited else SCANNED
        if said.what == "commission":
            self._commission(fact, said, inherited=inherited)
            return
        if not fact.maker and is_trade_item(unit):
            fact.alerts.add("COMMISSION_MISSING")
        if said.what == "void":
            self._void(fact, said, strength)
            return
        if fact.phase == "ended":
            self._after_end(fact, said)
            return
        if said.what in {"ship", "send_back"}:
            self._ship(fact, said, strength)
        elif said.what in {"dispense", "end"}:
            self._end(fact, said, strength)
        elif said.what == "sense":
            self._sense(fact, said, strength)
            return
        elif said.what == "arrive" and fact.phase in {"transit", "arrived"}:
            if fact.phase == "transit":
                fact.phase, fact.evidence = "arrived", strength
        else:
            self._have(fact, said, strength)
        self._describe(fact, said)
        self._note_seen(fact, strength)

    @staticmethod
    def _note_seen(fact: Fact, strength: str) -> None:
        if fact.phase != "held":
            fact.seen_by, fact.jumped_from = "", frozenset()
        elif strength == SCANNED or fact.seen_by != fact.holder:
            fact.seen_by = fact.holder if strength == SCANNED else ""

    def _sense(self, fact: Fact, said: Said, strength: str) -> None:
        if said.excursion:
            fact.alerts.add("TEMPERATURE_EXCURSION")
        if fact.phase == "held" and fact.holder == said.who:
            self._confirm(fact, strength)

    def _commission(self, fact: Fact, said: Said, *, inherited: bool) -> None:
        if inherited:
            return
        if fact.maker and not said.second_hand and fact.first_hand:
            fact.alerts.add("SECOND_COMMISSIONING")
            return
        if not fact.maker or not said.second_hand:
            fact.maker, fact.lot, fact.expiry = said.who, said.lot, said.expiry
            fact.first_hand = not said.second_hand
            fact.alerts.discard("COMMISSION_MISSING")
        fact.comes_to(said.who)
        if not fact.phase:
            fact.phase, fact.holder = "held", said.who
            fact.evidence = SECOND_HAND if said.second_hand else SCANNED

    @staticmethod
    def _is_with(fact: Fact, who: str) -> bool:
        away = fact.phase in AWAY
        return not fact.phase or fact.holder == who or (away and fact.destination == who)

    def _ship(self, fact: Fact, said: Said, strength: str) -> None:
        away = fact.phase in AWAY
        if fact.phase in {"transit", "left"} and (fact.holder, fact.destination) == (said.who, said.to):
            self._confirm(fact, strength)
            return
        if not self._is_with(fact, said.who) or (away and fact.holder == said.who):
            fact.alerts.add("SHIPPED_NOT_HELD")
        if said.what == "ship" and fact.barred and not fact.goes_back(said.who, said.to):
            fact.alerts.add("SOLD_UNDER_HOLD")
        fact.comes_to(said.who)
        if not away:
            fact.returned_before = fact.returned
        fact.phase = "transit" if said.to in self._members else "left"
        fact.holder, fact.destination = said.who, said.to
        fact.returned = said.what == "send_back"
        fact.placed, fact.evidence = True, strength

    @staticmethod
    def _may_void(fact: Fact, said: Said) -> bool:
        return fact.phase in AWAY and fact.holder == said.who

    def _void(self, fact: Fact, said: Said, strength: str) -> None:
        """Let goods not have left: those that are still on their way."""
        if self._may_void(fact, said):
            fact.phase, fact.destination, fact.evidence = "held", "", strength
            fact.returned = fact.returned_before
            self._note_seen(fact, strength)

    def _end(self, fact: Fact, said: Said, strength: str) -> None:
        if not self._is_with(fact, said.who):
            fact.alerts.add("ENDED_NOT_HELD")
        if said.what == "dispense" and fact.barred:
            fact.alerts.add("SOLD_UNDER_HOLD")
        fact.comes_to(said.who)
        fact.phase, fact.holder, fact.destination, fact.placed = "ended", said.who, "", True
        fact.end, fact.evidence = said.how or DISPENSED, strength

    def _after_end(self, fact: Fact, said: Said) -> None:
        if said.what == "dispense" and fact.end == DISPENSED:
            fact.alerts.add("DISPENSED_TWICE")
        elif not (said.what == "end" and fact.end in {DESTROYED, LOST} and said.who == fact.holder):
            fact.alerts.add("USED_AFTER_END")

    def _have(self, fact: Fact, said: Said, strength: str) -> None:
        if fact.phase == "held" and fact.holder == said.who:
            self._confirm(fact, strength)
        else:
            if not self._is_with(fact, said.who):
                fact.alerts.add("RECEIVED_NOT_SHIPPED")
                if strength == SCANNED and fact.seen_by:
                    # Once, data are missing; to and fro, there are two packs with one number.
                    if said.who in fact.jumped_from:
                        fact.alerts.add("DUPLICATE_SERIAL")
                    fact.jumped_from |= {fact.seen_by}
            fact.phase, fact.holder, fact.destination = "held", said.who, ""
            fact.placed, fact.evidence = True, strength
            fact.comes_to(said.who)
        if said.what == "open" and fact.barred:
            fact.alerts.add("SOLD_UNDER_HOLD")
        if said.what == "open" and not fact.opened:
            fact.opened, fact.evidence = True, strength

    @staticmethod
    def _confirm(fact: Fact, strength: str) -> None:
        if not fact.placed or _STRENGTH.index(strength) > _STRENGTH.index(fact.evidence):
            fact.evidence = strength
        fact.placed = True

    @staticmethod
    def _describe(fact: Fact, said: Said) -> None:
        if said.what not in {"hold", "suspect", "inspect"}:
            fact.without_data = said.what == "arrive"
        if said.what in {"take_back", "send_back"}:
            fact.returned = True
        elif said.what == "release":
            fact.returned = False
        if said.what in {"hold", "suspect", "release"}:
            fact.held_back = said.what != "release"
            fact.suspect = said.what == "suspect"
