"""The truth: every party's house, and the ground on which the goods really are, after acts done in order.

It is told the same acts as the network, and knows nothing else of it. ``do`` returns how the party's own system must
answer: empty when the act is accepted, else the code of the refusal.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from medtrail.simulation.acts import DAY, Act, Party, Verb, gtin_of, is_reusable, is_trade_item, serial_of
from medtrail.simulation.truth.ground import DESTROYED, LOST, Ground, Said
from medtrail.simulation.truth.house import UNVERIFIED_RETURN, Advised, Entry, House, RefusedError

UNDO_DAYS = 10
_END_OF = {"stolen": LOST, "lost": LOST}


@dataclass(frozen=True, slots=True)
class Rule:
    """A recall: a trade item, narrowed by lot, narrowed by serial numbers."""

    number: str
    gtin: str
    lot: str = ""
    serials: frozenset[str] = frozenset()

    def covers(self, unit: str, lot: str) -> bool:
        """Tell whether it names a unit."""
        if not is_trade_item(unit) or gtin_of(unit) != self.gtin:
            return False
        return (not self.lot or self.lot == lot) and (not self.serials or serial_of(unit) in self.serials)


@dataclass(slots=True)
class Deed:
    """An act that another may refer to.

    Attributes:
        said: What it said.
        before: The units that it changed in its party's books, each as it was.
    """

    act: Act
    said: list[Said]
    before: dict[str, Entry | None] = field(default_factory=dict)


class Truth:
    """What is so, whatever any system says."""

    def __init__(self, parties: Iterable[Party], *, start: date, today: int) -> None:
        """Begin with empty houses.

        Args:
            parties: The members of the network.
            start: Day of second 0, UTC.
            today: Now, in seconds since the start: whoever undoes does it now.
        """
        self.parties = {party.name: party for party in parties}
        self.houses = {name: House(name) for name in self.parties}
        self.said: list[Said] = []
        self.rules: list[Rule] = []
        self._start = start
        self._today = today
        self._deeds: dict[str, Deed] = {}
        self._goods: dict[str, tuple[str, str]] = {}
        self._doing: Mapping[Verb, Callable[[Act], None]] = {
            Verb.COMMISSION: self._commission,
            Verb.PACK: self._pack,
            Verb.UNPACK: self._unpack,
            Verb.SHIP: self._ship,
            Verb.SEND_BACK: self._ship,
            Verb.RECEIVE: self._receive,
            Verb.ACCEPT_RETURN: self._accept_return,
            Verb.HOLD: self._hold,
            Verb.RELEASE: self._release,
            Verb.DISPENSE: self._dispense,
            Verb.END: self._end,
            Verb.RECALL: self._recall,
            Verb.UNDO: self._undo,
            Verb.SCAN: lambda _act: None,
        }

    def day(self, at: int) -> str:
        """Return the day of a second, YYYY-MM-DD."""
        return (self._start + timedelta(days=at // DAY)).isoformat()

    def do(self, act: Act) -> str:
        """Do an act; return the code with which its party's system refuses it, or nothing."""
        first = len(self.said)
        house = self.houses[act.who]
        before: dict[str, Entry | None] = {}
        if act.name:
            named = [part for unit in (*act.units, act.parent) if unit for part in house.whole(unit)]
            before = {unit: copy.copy(house.entries.get(unit)) for unit in named}
        try:
            self._doing[act.verb](act)
        except RefusedError as refusal:
            del self.said[first:]
            return refusal.code
        if act.name:
            self._deeds[act.name] = Deed(act, self.said[first:], before)
        return ""

    def ground(self) -> Ground:
        """Return where everything is after all that was said."""
        return Ground(self.said, members=self.parties)

    def recalled(self, unit: str) -> bool:
        """Tell whether a recall names a unit."""
        lot = self._goods.get(unit, ("", ""))[0]
        return any(rule.covers(unit, lot) for rule in self.rules)

    def affected(self, house: House) -> set[str]:
        """Return the units in a house under recall: named by one, holding what is, or held in what is."""
        found: set[str] = set()
        if self.rules:
            for unit in [unit for unit in house.entries if self.recalled(unit)]:
                found.update(house.whole(unit), house.around(unit))
        return found

    def _say(self, act: Act, what: str, *, how: str = "") -> Said:
        number = len(self.said)
        said = Said(what, act.at, number, act.who, act.units, act.parent, act.to, act.lot, act.expiry, how)
        self.said.append(said)
        return said

    # --- each verb ---

    def _commission(self, act: Act) -> None:
        self.houses[act.who].commission(act.units, lot=act.lot, expiry=act.expiry)
        self._goods.update(dict.fromkeys(act.units, (act.lot, act.expiry)))
        self._say(act, "commission")

    def _pack(self, act: Act) -> None:
        self.houses[act.who].pack(act.parent, act.units)
        self._say(act, "pack")

    def _unpack(self, act: Act) -> None:
        self.houses[act.who].unpack(act.parent, act.units, reusable=is_reusable(act.parent))
        self._say(act, "unpack")

    def _ship(self, act: Act) -> None:
        house = self.houses[act.who]
        back = act.verb is Verb.SEND_BACK
        goods = [(unit, part) for unit in act.units for part in house.whole(unit)]
        recalled = {part for _, part in goods if self.recalled(part)}
        house.ship(act.units, to=act.to, recalled=recalled, back=back)
        self._say(act, "send_back" if back else "ship")
        if act.to in self.houses:
            advised = [
                Advised(part, "" if part == unit else house.entries[part].parent, *self._goods.get(part, ("", "")))
                for unit, part in goods
            ]
            self.houses[act.to].advise(advised, sender=act.who, despatch=act.name)

    def _receive(self, act: Act) -> None:
        house = self.houses[act.who]
        back = {unit for unit in act.units if self._was_sent_back(house, unit)}
        house.receive(act.units, returned=bool(back))
        self._say(act, "take_back" if back else "receive")

    def _was_sent_back(self, house: House, unit: str) -> bool:
        entry = house.entries.get(unit)
        deed = None if entry is None else self._deeds.get(entry.despatch)
        return deed is not None and deed.act.verb is Verb.SEND_BACK

    def _accept_return(self, act: Act) -> None:
        house = self.houses[act.who]
        house.receive(act.units, returned=True)
        self._say(act, "take_back")
        if act.details["good"] == "yes":
            house.release(act.units)
            self._say(act, "release")
        else:
            for unit in act.units:
                house.entries[unit].hold = UNVERIFIED_RETURN
            self._say(act, "hold")

    def _hold(self, act: Act) -> None:
        self.houses[act.who].hold(act.units, reason=act.reason)
        self._say(act, "hold")

    def _release(self, act: Act) -> None:
        self.houses[act.who].release(act.units)
        self._say(act, "release")

    def _dispense(self, act: Act) -> None:
        part = act.details.get("part") == "yes"
        recalled = {unit for unit in act.units if self.recalled(unit)}
        self.houses[act.who].dispense(act.units, day=self.day(act.at), recalled=recalled, part=part)
        self._say(act, "open" if part else "dispense")

    def _end(self, act: Act) -> None:
        self.houses[act.who].end(act.units, how=act.reason)
        self._say(act, "end", how=_END_OF.get(act.reason, DESTROYED))

    def _recall(self, act: Act) -> None:
        serials = frozenset(serial_of(unit) for unit in act.units)
        self.rules.append(Rule(act.reason, act.details["gtin"], act.lot, serials))

    def _undo(self, act: Act) -> None:
        """Take back what was done to one pack: within ten days, and never what was stolen, destroyed or recalled."""
        deed = self._deeds[act.of]
        (unit,) = act.units
        if self._today - deed.act.at > UNDO_DAYS * DAY:
            raise RefusedError("NMVS_NC_PCK_20")
        house = self.houses[act.who]
        before = deed.before[unit]
        if before is not None:
            house.add(unit, copy.copy(before))
        for said in deed.said:
            said.units = tuple(item for item in said.units if item != unit)
