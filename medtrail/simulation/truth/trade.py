"""Trade beyond the everyday: goods made of others, despatches taken back, invoices, and what is told afterwards.

What is only wanted is refused where it breaks a rule; what has happened is taken in, with an alert
(docs/book-alerts.md).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from medtrail.simulation.acts import Act, Verb
from medtrail.simulation.truth.ground import CONSUMED as USED_UP
from medtrail.simulation.truth.house import (
    AWAY,
    CONSUMED,
    DESPATCHED,
    DISPENSED,
    EXCEPTION,
    FINAL,
    INBOUND,
    NONE,
    ON_HAND,
    OPENED,
    Entry,
    House,
    RefusedError,
)

if TYPE_CHECKING:
    from medtrail.simulation.truth.model import Truth

MAKERS = frozenset({"manufacturer", "repackager"})
# What is wrong with what has happened, by the code with which the same is refused where it is only wanted.
_ALERT_OF = {
    "UNIT_UNKNOWN": "NOT_HELD",
    "NOT_ON_HAND": "NOT_HELD",
    "UNIT_FINAL": "USED_AFTER_END",
    "UNIT_ON_HOLD": "SOLD_UNDER_HOLD",
    "UNIT_EXCEPTION": "SOLD_UNDER_HOLD",
    "UNIT_EXPIRED": "USED_AFTER_EXPIRY",
    "UNIT_RECALLED": "SOLD_UNDER_RECALL",
    "UNIT_OPENED": "OPENED_PACK_MOVED",
    "ALREADY_COMMISSIONED": "SECOND_COMMISSIONING",
}


class Trade:
    """What the parties of a truth do in trade."""

    def __init__(self, truth: "Truth") -> None:
        self._truth = truth

    def doing(self) -> Mapping[Verb, Callable[[Act], None]]:
        """Return what is done at each verb."""
        return {
            Verb.REPACKAGE: self._repackage,
            Verb.VOID: self._void,
            Verb.INVOICE: self._invoice,
            Verb.TELL_SHIPPED: self._tell_shipped,
            Verb.TELL_DISPENSED: self._tell_dispensed,
            Verb.TELL_RELEASED: self._tell_released,
        }

    # --- rules ---

    @staticmethod
    def _object_to(house: House, code: str, unit: str, *, happened: bool) -> None:
        if not happened:
            raise RefusedError(code)
        house.alerts.add((_ALERT_OF[code], unit))

    def _present(self, house: House, unit: str, *, happened: bool) -> bool:
        """Tell whether something can happen to a unit: what is said to have happened here shows that it was here."""
        try:
            house.here(unit)
        except RefusedError as refusal:
            self._object_to(house, refusal.code, unit, happened=happened)
        else:
            return True
        if unit not in house.entries:
            house.add(unit, Entry(ON_HAND))
        where = house.entries[unit].state
        if where in FINAL:
            return False
        for part in house.whole(unit):
            if house.entries[part].state == where:
                house.entries[part].state = ON_HAND
        return True

    def _faults(self, house: House, unit: str, *, day: str, opened: bool) -> Iterator[tuple[str, str]]:
        """Yield why a unit may not be sold or used up, each with what is wrong in it; ``opened``: it may be that."""
        for part in house.whole(unit):
            entry = house.entries[part]
            if entry.state == EXCEPTION:
                yield "UNIT_EXCEPTION", part
            if entry.state == OPENED and not opened:
                yield "UNIT_OPENED", part
            if entry.holds:
                yield "UNIT_ON_HOLD", part
            if entry.expiry and day > entry.expiry:
                yield "UNIT_EXPIRED", part
        if any(self._truth.recalled(item) for item in (*house.whole(unit), *house.around(unit))):
            yield "UNIT_RECALLED", unit

    def _going(self, act: Act, *, happened: bool, opened: bool = False) -> tuple[str, ...]:
        """Return the units of an act that go by it, after judging them all."""
        house, day = self._truth.houses[act.who], self._truth.day(act.at)
        going = tuple(unit for unit in act.units if self._present(house, unit, happened=happened))
        for unit in going:
            for code, part in self._faults(house, unit, day=day, opened=opened):
                self._object_to(house, code, part, happened=happened)
        return going

    # --- made of others ---

    def _repackage(self, act: Act) -> None:
        """Use goods up, and give life to others with a lot of their own."""
        truth, house = self._truth, self._truth.houses[act.who]
        happened = act.details.get("happened") == "yes"
        outputs = tuple(act.details["outputs"].split())
        if truth.parties[act.who].role not in MAKERS:
            raise RefusedError("ROLE_FORBIDS")
        going = self._going(act, happened=happened)
        fresh = tuple(unit for unit in outputs if unit not in house.entries)
        for unit in outputs:
            if unit not in fresh:
                self._object_to(house, "ALREADY_COMMISSIONED", unit, happened=happened)
        for unit in going:
            house.take_alone(unit)
            for part in house.whole(unit):
                self._leave(house.entries[part], CONSUMED)
        house.commission(fresh, lot=act.lot, expiry=act.expiry)
        truth.goods.update(dict.fromkeys(fresh, (act.lot, act.expiry)))
        truth.say(act, "end", how=USED_UP)
        truth.say(replace(act, units=outputs), "commission")

    @staticmethod
    def _leave(entry: Entry, state: str) -> None:
        entry.state, entry.holds, entry.exception, entry.inferred = state, NONE, "", False

    # --- taken back ---

    def _void(self, act: Act) -> None:
        """Let goods not have left; a house does not know whether somebody has received them."""
        house = self._truth.houses[act.who]
        for unit in act.units:
            if house.known(unit).state not in AWAY:
                raise RefusedError("NOT_DESPATCHED")
        for unit in act.units:
            house.take_alone(unit)
            for part in house.whole(unit):
                house.entries[part].come()
                self._truth.bound_for.pop(part, None)
        self._truth.say(act, "void")

    def withdraw(self, despatch: Act) -> None:
        """Let a receiver await no more what a despatch announced that its sender has declared an error."""
        truth, house = self._truth, self._truth.houses[despatch.to]
        awaited = [
            unit for unit, entry in house.entries.items() if entry.despatch == despatch.name and entry.state == INBOUND
        ]
        for unit in awaited:
            house.forget(unit)
            truth.bound_for.pop(unit, None)
        if despatch.of:
            truth.orders[despatch.of].shipped -= len(despatch.units)

    # --- invoiced ---

    def _invoice(self, act: Act) -> None:
        """Invoice what was shipped and not invoiced yet, or so much; never more than was shipped."""
        order = self._truth.orders[act.of]
        left = order.shipped - order.invoiced
        quantity = int(act.details.get("quantity", left))
        if quantity > left:
            raise RefusedError("INVOICE_TOO_MUCH")
        if not quantity:
            raise RefusedError("NOTHING_TO_INVOICE")
        order.invoiced += quantity

    # --- told afterwards ---

    def _tell_shipped(self, act: Act) -> None:
        house = self._truth.houses[act.who]
        for unit in self._going(act, happened=True):
            house.take_alone(unit)
            for part in house.whole(unit):
                entry = house.entries[part]
                entry.state, entry.inferred = DESPATCHED, False
                entry.partner = entry.sold_to = act.to
        self._truth.despatched(act)

    def _tell_dispensed(self, act: Act) -> None:
        house = self._truth.houses[act.who]
        for unit in self._going(act, happened=True, opened=True):
            house.take_alone(unit)
            self._leave(house.entries[unit], DISPENSED)
        self._truth.say(act, "dispense")

    def _tell_released(self, act: Act) -> None:
        """Take in that goods were free again; that they never were on hold is no fault."""
        house = self._truth.houses[act.who]
        for unit in act.units:
            try:
                house.here(unit)
            except RefusedError as refusal:
                self._object_to(house, refusal.code, unit, happened=True)
                continue
            for part in house.whole(unit):
                house.entries[part].holds = NONE
        self._truth.say(act, "release")
