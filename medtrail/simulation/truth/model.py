"""The truth: every party's house, and the ground on which the goods really are, after acts done in order.

It is told the same acts as the network, and knows nothing else of it. ``do`` returns how the party's own system must
answer: empty when the act is accepted, else the code of the refusal.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal

from medtrail.simulation.acts import DAY, HOUR, Act, Party, Verb, gtin_of, is_trade_item, serial_of
from medtrail.simulation.truth.deliveries import Delivery, Known, Label, hold_flawed, is_pack
from medtrail.simulation.truth.ground import DESTROYED, LOST, Ground, Said
from medtrail.simulation.truth.house import (
    DISPENSED,
    EXCEPTION,
    INBOUND,
    ON_HAND,
    OPENED,
    UNADVISED,
    Advised,
    Entry,
    House,
    Portion,
    RefusedError,
)
from medtrail.simulation.truth.orders import Order
from medtrail.simulation.truth.oversight import Oversight
from medtrail.simulation.truth.talks import Talks
from medtrail.simulation.truth.trade import Trade
from medtrail.simulation.truth.verdicts import Scan, verdict

UNDO_DAYS = 10
STORED_AT = (Decimal(2), Decimal(25))
"""Degrees Celsius between which every trade item of the simulation is kept."""
# Acts on goods for which nobody has them in hand.
_SEES_NOTHING = frozenset(
    {Verb.UNDO, Verb.DECLARE_ERROR, Verb.SENSE, Verb.REQUEST_RELEASE, Verb.SAY, Verb.PROPOSE, Verb.ANSWER}
)
_NEVER_UNDONE = frozenset({"destroyed", "stolen", "lost"})
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
    """What is so, whatever any system says.

    Attributes:
        goods: Lot and expiry of each trade item, as its maker gave them.
        bound_for: Where goods are on their way to.
    """

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
        self.orders: dict[str, Order] = {}
        self._start = start
        self._today = today
        self._deeds: dict[str, Deed] = {}
        self.goods: dict[str, tuple[str, str]] = {}
        self.bound_for: dict[str, str] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._trade = Trade(self)
        self.oversight = Oversight(self)
        self.talks = Talks(self)
        self._doing: Mapping[Verb, Callable[[Act], None]] = {
            Verb.COMMISSION: self._commission,
            Verb.PACK: self._pack,
            Verb.UNPACK: self._unpack,
            Verb.SHIP: self._ship,
            Verb.SEND_BACK: self._ship,
            Verb.RECEIVE: self._receive,
            Verb.OPEN_DELIVERY: self._open,
            Verb.CLOSE_DELIVERY: self._close,
            Verb.ACCEPT_RETURN: self._accept_return,
            Verb.HOLD: self._hold,
            Verb.DISPENSE: self._dispense,
            Verb.DISPENSE_ALONE: self._dispense_alone,
            Verb.END: self._end,
            Verb.RECALL: self._recall,
            Verb.UNDO: self._undo,
            Verb.DECLARE_ERROR: self._declare,
            Verb.WITNESS: self._witness,
            Verb.SENSE: self._sense,
            Verb.COPY: self._copy,
            Verb.REPORT_CONCEALED: self._concealed,
            Verb.OPEN_CASE: self._open_case,
            Verb.RESOLVE_CASE: self._resolve,
            Verb.MARK_SUSPECT: self._suspect,
            Verb.CLEAR_SUSPECT: self._clear,
            Verb.ORDER: self._order,
            Verb.CONFIRM_ORDER: lambda act: self.orders[act.of].confirm(act.details.get("quantity", "")),
            **self._trade.doing(),
            **self.oversight.doing(),
            **self.talks.doing(),
        }

    def day(self, at: int) -> str:
        """Return the day of a second, YYYY-MM-DD."""
        return (self._start + timedelta(days=at // DAY)).isoformat()

    def do(self, act: Act) -> str:
        """Do an act; return how its party's system must answer: nothing, a refusal's code, or what scans showed."""
        first = len(self.said)
        house = self.houses[act.who]
        before: dict[str, Entry | None] = {}
        if act.name:
            named = [part for unit in (*act.units, act.parent) if unit for part in house.whole(unit)]
            before = {unit: copy.copy(house.entries.get(unit)) for unit in named}
        try:
            if act.verb is Verb.SCAN_DELIVERY:
                return self._scan(act)
            if act.verb is Verb.SCAN_SAMPLES:
                return self._deliveries[act.of].scan_samples()
            self._doing[act.verb](act)
        except RefusedError as refusal:
            del self.said[first:]
            return refusal.code
        if act.name:
            self._deeds[act.name] = Deed(act, self.said[first:], before)
        for unit in (*act.units, act.parent):
            if unit in house.entries and act.verb not in _SEES_NOTHING:
                house.entries[unit].inferred = False
        return ""

    def verdict(self, unit: str, *, who: str, lot: str, expiry: str, ground: Ground) -> str:
        """Return what a scan of a pack by a party must answer now."""
        house = self.houses[who]
        scan = Scan(who, self.day(self._today), lot, expiry)
        fact = ground.facts.get(unit)
        returning = self._was_sent_back(house, unit)
        return verdict(
            scan, entry=house.entries.get(unit), fact=fact, recalled=self.recalled(unit), returning=returning
        )

    def ground(self) -> Ground:
        """Return where everything is after all that was said."""
        return Ground(self.said, members=self.parties)

    def recalled(self, unit: str) -> bool:
        """Tell whether a recall names a unit."""
        lot = self.goods.get(unit, ("", ""))[0]
        return any(rule.covers(unit, lot) for rule in self.rules)

    def affected(self, house: House) -> set[str]:
        """Return the units in a house under recall: named by one, holding what is, or held in what is."""
        found: set[str] = set()
        if self.rules:
            for unit in [unit for unit in house.entries if self.recalled(unit)]:
                found.update(house.whole(unit), house.around(unit))
        return found

    def say(self, act: Act, what: str, *, how: str = "") -> Said:
        """Let a party say what it did: the ground hears it."""
        number = len(self.said)
        said = Said(what, act.at, number, act.who, act.units, act.parent, act.to, act.lot, act.expiry, how)
        self.said.append(said)
        return said

    # --- each verb ---

    def _commission(self, act: Act) -> None:
        self.houses[act.who].commission(act.units, lot=act.lot, expiry=act.expiry)
        self.goods.update(dict.fromkeys(act.units, (act.lot, act.expiry)))
        self.say(act, "commission")

    def _pack(self, act: Act) -> None:
        self.houses[act.who].pack(act.parent, act.units)
        self.say(act, "pack")

    def _unpack(self, act: Act) -> None:
        self.houses[act.who].unpack(act.parent, act.units)
        self.say(act, "unpack")

    def _ship(self, act: Act) -> None:
        house = self.houses[act.who]
        back = act.verb is Verb.SEND_BACK
        recalled = {part for unit in act.units for part in house.whole(unit) if self.recalled(part)}
        house.ship(act.units, to=act.to, day=self.day(act.at), recalled=recalled, back=back)
        self.despatched(act, back=back)

    def despatched(self, act: Act, *, back: bool = False) -> None:
        """Let goods be on their way that have left a house, and their receiver hear of them."""
        house = self.houses[act.who]
        goods = [(unit, part) for unit in act.units for part in house.whole(unit)]
        self.say(act, "send_back" if back else "ship")
        if act.of:
            # Orders are of packs.
            self.orders[act.of].shipped += len(act.units)
        self.bound_for.update((part, act.to) for _, part in goods)
        if act.to in self.houses:
            advised = [
                Advised(part, "" if part == unit else house.entries[part].parent, *self.goods.get(part, ("", "")))
                for unit, part in goods
            ]
            self.tell(act.to, advised, sender=act.who, despatch=act.name)

    def tell(self, who: str, goods: list[Advised], *, sender: str, despatch: str) -> None:
        """Let a party hear of goods; what it has already is received by it now, whoever is in the house."""
        house = self.houses[who]
        settled = house.advise(goods, sender=sender, despatch=despatch)
        if settled:
            self.say(Act(Verb.RECEIVE, who, self._today, settled), "receive")
        self._arrived(house, settled, at=self._today)
        packs = [part for unit in settled for part in house.whole(unit) if is_pack(house, part)]
        recalled = {pack for pack in packs if self.recalled(pack)}
        for held in hold_flawed(house, packs, day=self.day(self._today), recalled=recalled).values():
            self.say(Act(Verb.HOLD, who, self._today, tuple(held)), "hold")

    def _receive(self, act: Act) -> None:
        house = self.houses[act.who]
        back = {unit for unit in act.units if self._was_sent_back(house, unit)}
        alone = {unit: house.entries[unit].parent for unit in act.units if self._comes_alone(house, unit, act.units)}
        for unit, parent in alone.items():
            house.put_into(unit, "")
            self.say(replace(act, units=(unit,), parent=parent), "unpack")
        aside = house.receive(act.units, returned=bool(back))
        received = tuple(unit for unit in act.units if unit not in aside)
        if received:
            self.say(replace(act, units=received), "take_back" if back else "receive")
        self._arrived(house, received, at=act.at)
        if aside:
            self.say(replace(act, units=aside), "arrive")

    @staticmethod
    def _comes_alone(house: House, unit: str, scanned: tuple[str, ...]) -> bool:
        entry = house.entries.get(unit)
        return entry is not None and entry.state == INBOUND and bool(entry.parent) and entry.parent not in scanned

    def _open(self, act: Act) -> None:
        share = Decimal(act.details.get("share", "0"))
        self._deliveries[act.name] = Delivery.open(self.houses[act.who], frozenset(act.of.split()), share=share)

    def _scan(self, act: Act) -> str:
        delivery = self._deliveries[act.of]
        damaged = act.details.get("condition") == "damaged"
        shown = []
        for unit in act.units:
            lot, expiry = (act.lot, act.expiry) if is_trade_item(unit) else ("", "")
            label = Label(unit, lot, expiry, act.parent, damaged)
            shown.append(delivery.scan(label, Known(unit in self.goods, self.bound_for.get(unit, ""))))
        return " ".join(shown)

    def _close(self, act: Act) -> None:
        delivery = self._deliveries[act.of]
        recalled = {unit for unit in delivery.expected if self.recalled(unit)}
        day = self.day(act.at + int(act.details.get("offset", "+00:00")[:3]) * HOUR)
        samples_missing = act.details.get("samples") == "missing"
        delivery.close(at=act.at, day=day, recalled=recalled, samples_missing=samples_missing)
        for what, by_container in (("absent", delivery.absent), ("unpack", delivery.taken)):
            for parent, units in by_container.items():
                self.say(replace(act, units=tuple(units), parent=parent), what)
        for unit in delivery.received:
            sent = self._deeds.get(delivery.house.entries[unit].despatch)
            if sent is not None and sent.act.of:
                self.orders[sent.act.of].received += 1
        for named, what in (
            (delivery.received, "receive"),
            *((tuple(held), "hold") for held in delivery.held.values()),
            (delivery.put_aside, "arrive"),
        ):
            if named:
                self.say(replace(act, units=named), what)
        self._arrived(delivery.house, delivery.received, at=act.at)

    def _arrived(self, house: House, units: Iterable[str], *, at: int) -> None:
        for unit in units:
            for part in house.whole(unit):
                if house.entries[part].state == ON_HAND:
                    self.bound_for.pop(part, None)
        self.oversight.arrived(house, units, at=at)

    def _was_sent_back(self, house: House, unit: str) -> bool:
        entry = house.entries.get(unit)
        deed = None if entry is None else self._deeds.get(entry.despatch)
        return deed is not None and deed.act.verb is Verb.SEND_BACK

    def _accept_return(self, act: Act) -> None:
        house = self.houses[act.who]
        house.receive(act.units, returned=True)
        self.say(act, "take_back")
        self._arrived(house, act.units, at=act.at)
        if act.details["good"] == "yes":
            house.release(act.units)
            self.say(act, "release")
        else:
            self.say(act, "hold")
            house.open_case("RETURN_UNVERIFIED", act.units)

    def _hold(self, act: Act) -> None:
        self.houses[act.who].hold(act.units, reason=act.details.get("code", "OTHER"))
        self.say(act, "hold")

    def _dispense(self, act: Act) -> None:
        details = act.details
        house = self.houses[act.who]
        portion = None
        if "quantity" in details:
            portion = Portion(Decimal(details["quantity"]), Decimal(details.get("of_whole", "0")))
        part = details.get("part") == "yes"
        recalled = {unit for unit in act.units if self.recalled(unit)}
        inside: dict[str, list[str]] = {}
        for unit in act.units:
            if unit in house.entries and house.entries[unit].parent:
                inside.setdefault(house.entries[unit].parent, []).append(unit)
        house.dispense(act.units, day=self.day(act.at), recalled=recalled, part=part, portion=portion)
        for parent, units in inside.items():
            self.say(replace(act, units=tuple(units), parent=parent), "unpack")
        opened = house.entries[act.units[0]].state == OPENED
        self.say(act, "open" if opened else "dispense")

    def _dispense_alone(self, act: Act) -> None:
        """A station that is cut off hands out what it believes to be there; what another did too is a conflict."""
        house = self.houses[act.who]
        gone = tuple(unit for unit in act.units if house.entries[unit].state == DISPENSED)
        house.dispense([unit for unit in act.units if unit not in gone], day="", recalled=set(), part=False)
        if gone:
            house.open_case("OFFLINE_CONFLICT", gone)
            house.alerts.update(("USED_AFTER_END", unit) for unit in gone)
        self.say(act, "dispense")

    def _end(self, act: Act) -> None:
        self.houses[act.who].end(act.units, how=act.reason)
        self.say(act, "end", how=_END_OF.get(act.reason, DESTROYED))

    def _recall(self, act: Act) -> None:
        serials = frozenset(serial_of(unit) for unit in act.units)
        self.rules.append(Rule(act.reason, act.details["gtin"], act.lot, serials))

    def _undo(self, act: Act) -> None:
        """Take back what was done to one pack: within ten days, and never what was stolen, destroyed or recalled."""
        deed = self._deeds[act.of]
        house = self.houses[act.who]
        for unit in act.units:
            entry = house.entries[unit]
            if entry.ending in _NEVER_UNDONE:
                raise RefusedError("UNDO_FINAL")
            if self.recalled(unit):
                raise RefusedError("UNIT_RECALLED")
            if self._today - deed.act.at > UNDO_DAYS * DAY:
                raise RefusedError("UNDO_LATE")
        self._take_back(deed, house, act.units)

    def _declare(self, act: Act) -> None:
        deed = self._deeds[act.of]
        if deed.act.verb is Verb.HOLD:
            self.oversight.require_one(act.who, {deed.act.details.get("code", "OTHER")})
        self._take_back(deed, self.houses[act.who], deed.act.units)
        if deed.act.verb is Verb.SHIP:
            self._trade.withdraw(deed.act)

    @staticmethod
    def _take_back(deed: Deed, house: House, units: tuple[str, ...]) -> None:
        """Let an act not have happened to units."""
        for unit in units:
            for part in house.whole(unit):
                before = deed.before.get(part)
                if before is not None:
                    house.add(part, copy.copy(before))
        for said in deed.said:
            said.units = tuple(item for item in said.units if item not in units)
            said.withdrawn = not said.units

    # --- what others did, and what sensors say ---

    def _witness(self, act: Act) -> None:
        """Somebody outside the network sent goods; the receiver passes on what its file says."""
        # What the file does not tell of, the receiver does not know, whatever the maker has said to others.
        data = (act.lot, act.expiry) if act.details.get("file") == "makers" else ("", "")
        advised = [Advised(unit, "", *data) for unit in act.units]
        self.tell(act.who, advised, sender=act.to, despatch=act.name)
        self.bound_for.update(dict.fromkeys(act.units, act.who))
        said = self.say(replace(act, who=act.to, to=act.who), "ship")
        said.second_hand = act.who

    def _copy(self, act: Act) -> None:
        """A copy of a pack turns up: somebody commissions its number once more."""
        self.say(act, "commission")

    def _sense(self, act: Act) -> None:
        said = self.say(act, "sense")
        lowest, highest = STORED_AT
        if lowest <= Decimal(act.details["celsius"]) <= highest:
            return
        said.excursion = True
        house = self.houses[act.who]
        for unit in act.units:
            self.houses[act.who].here(unit)
            for part in house.whole(unit):
                house.entries[part].holds |= {"TEMPERATURE_EXCURSION"}
        house.open_case("TEMPERATURE_EXCURSION", act.units)

    # --- exceptions ---

    def _concealed(self, act: Act) -> None:
        """What a sealed container did not hold is on its way again; what it held beside is put aside."""
        house = self.houses[act.who]
        for unit in act.units:
            house.put_into(unit, "")
            house.entries[unit].state, house.entries[unit].inferred = INBOUND, False
        if act.units:
            house.open_case("CONCEALED_SHORTAGE", act.units)
            # It never was inside: that is so from before the container was received.
            closed_at = self._deliveries[act.of].closed_at or act.at
            self.say(replace(act, at=closed_at - 1), "absent")
            self.bound_for.update(dict.fromkeys(act.units, act.who))
        over = tuple(act.details.get("over", "").split())
        for unit in over:
            house.add(unit, Entry(EXCEPTION, exception=UNADVISED))
        if over:
            house.open_case("CONCEALED_OVERAGE", over)
            self.say(replace(act, units=over, parent=""), "arrive")

    def _open_case(self, act: Act) -> None:
        self.houses[act.who].open_case(act.reason, act.units)

    def _resolve(self, act: Act) -> None:
        """End the cases of units: as they are, by destroying them, or by sending them back."""
        house = self.houses[act.who]
        code = act.details["code"]
        if act.reason == "destroyed":
            house.end(act.units, how="destroyed")
            self.say(act, "end", how=DESTROYED)
        elif act.reason == "accepted":
            if any(house.entries[unit].exception == UNADVISED for unit in act.units):
                raise RefusedError("CASE_NEEDS_DATA")
            held = tuple(unit for unit in act.units if code in house.entries[unit].holds)
            for unit in held:
                house.entries[unit].holds -= {code}
            if held:
                self.say(replace(act, units=held), "release")
        for unit in act.units:
            house.resolve_cases(unit, code)

    def _suspect(self, act: Act) -> None:
        house = self.houses[act.who]
        house.hold(act.units, reason="SUSPECT")
        self.say(act, "suspect")
        house.open_case("SUSPECT", act.units)

    def _clear(self, act: Act) -> None:
        house = self.houses[act.who]
        for unit in act.units:
            house.entries[unit].holds -= {"SUSPECT"}
            house.resolve_cases(unit, "SUSPECT")
        self.say(act, "release")

    # --- orders ---

    def _order(self, act: Act) -> None:
        quantity = int(act.details["quantity"])
        self.orders[act.name] = Order(act.name, act.who, act.to, act.details["gtin"], quantity)
