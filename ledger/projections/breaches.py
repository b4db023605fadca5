"""What an event breaks beside custody: use of what is held back, expired or recalled, one serial at two places.

Some of it shows while a history is replayed, in the state that the event meets; what rests on lot, expiry or recalls is
judged at the end, when the commissioning is known, wherever in time it stands.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from ledger.projections.belief import AlertCode, Container
from ledger.projections.circumstances import Circumstances
from ledger.projections.facts import EventFact
from medtrail.verdict import CODE_OF_DISPOSITION, VerdictCode, has_expired

if TYPE_CHECKING:
    from ledger.projections.unit_state import UnitState

# What says that goods sent back or held are fit for sale again.
SALEABLE = frozenset({"sellable_accessible", "sellable_not_accessible", "active", "available"})
# What says that goods are kept back, until something says that they are saleable. "reserved" is for its buyer.
HOLDING_WORDS = frozenset(word for word, code in CODE_OF_DISPOSITION.items() if code is VerdictCode.HELD) - {"reserved"}
# What is put aside here, for want of matching data, is free once it is received.
_AT_THE_DOOR = frozenset({"arriving", "receiving", "accepting"})
# A despatch with one of these is no sale: goods go back, or out of the way.
NO_SALE = frozenset({"returned", "recalled", "expired", "destroyed", "disposed", "inactive"}) | HOLDING_WORDS
# Why goods that came back are held; the text is that of a return at which nobody has looked yet.
_RETURN_REASONS = frozenset({"returned, not verified yet", "RETURN_UNVERIFIED", "RETURNED_TO_MAKER"})
EXCURSION = AlertCode.TEMPERATURE_EXCURSION.value
SUSPECT = "SUSPECT"
# Between what one party and another do with one pack in their hands there is a way, however short.
SHORTEST_WAY_US = 5 * 60 * 1_000_000
# Lines commission after packing, and clocks differ.
LONGEST_DELAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Use:
    """An event that handed a unit out, used it up or sold it, and what held it then."""

    fact: EventFact
    containers: tuple[Container, ...]
    sold: bool


# --- while the history is replayed ---


def code_of(reason: str) -> str:
    """Return the code with which the reason of a hold begins: ``CODE: text``, or ``CODE``."""
    return reason.partition(":")[0].strip()


def keep_back(state: "UnitState", fact: EventFact) -> None:
    """Take in for which reasons a unit is held back, and for which no more.

    A release that names reasons ends these and no other, whatever its disposition says.
    """
    if fact.disposition in SALEABLE and not fact.released:
        state.holds.clear()
        state.put_aside.clear()
    elif fact.released:
        codes = {code_of(line) for line in fact.released}
        state.holds = {
            reason: leaf
            for reason, leaf in state.holds.items()
            if reason not in fact.released and not (reason == EXCURSION and EXCURSION in codes)
        }
    elif state.ending is None and (fact.biz_step == "holding" or fact.disposition in HOLDING_WORDS):
        for reason in (fact.reason or fact.disposition or fact.biz_step).splitlines():
            if fact.biz_step in _AT_THE_DOOR and reason not in state.holds:
                state.put_aside.add(reason)
            state.holds.setdefault(reason, fact.leaf_index)
    elif fact.biz_step in _AT_THE_DOOR and fact.disposition == "in_progress":
        # Its data have come, or somebody has looked at it: what was put aside at the door is taken in.
        for reason in state.put_aside:
            state.holds.pop(reason, None)
        state.put_aside.clear()


def ends_return(fact: EventFact) -> bool:
    """Tell whether an event says that goods that came back are looked at, and not kept back for that any more."""
    return fact.disposition in SALEABLE or any(code_of(line) in _RETURN_REASONS for line in fact.released)


def use(state: "UnitState", fact: EventFact, *, sold: bool = False) -> None:
    """Take in that a unit is used."""
    state.uses.append(Use(fact, state.containers(), sold))


def sell(state: "UnitState", fact: EventFact) -> None:
    """Take in that a unit goes to who should get none that is held back."""
    use(state, fact, sold=True)
    marked = next((word for word in state.persistent if word in HOLDING_WORDS), "")
    reason = next(iter(state.holds), "") or marked or ("returned" if state.returned else "")
    if reason:
        message = f"{fact.biz_step or 'used'} while it was held back ({reason}): its release may be missing"
        state.alert(AlertCode.SOLD_UNDER_HOLD, fact, message)


def goes_back(state: "UnitState", fact: EventFact, *, actor: str, destination: str) -> bool:
    """Tell whether a despatch is no sale: it says so, or goes to a party that had the unit before its sender had."""
    if fact.disposition in NO_SALE:
        return True
    parties = list(state.known_to)
    return destination in parties and (actor not in parties or parties.index(destination) < parties.index(actor))


def hand_out(state: "UnitState", fact: EventFact) -> None:
    """Take in that the public got a unit, or a part of it."""
    sell(state, fact)
    if not fact.quantity:
        state.rest = None
        return
    taken = Decimal(fact.quantity)
    left = Decimal(fact.remainder) if fact.remainder else None
    if state.rest is not None and state.rest_uom == fact.uom:
        if taken > state.rest:
            message = f"{taken:f} {fact.uom or 'pieces'} taken, {state.rest:f} were left"
            state.alert(AlertCode.DISPENSED_TOO_MUCH, fact, message)
        rest = max(state.rest - taken, Decimal(0))
        # Who counted less has taken into account what is not told here.
        left = rest if left is None else min(rest, left)
    state.rest, state.rest_uom = left, fact.uom


def jump(state: "UnitState", fact: EventFact, actor: str) -> None:
    """Take in that a party scans what another has and did not send: once, data are missing; to and fro, there are two.

    Places have no distances here: only the time tells what no way explains.
    """
    if actor in state.jumped_from:
        message = f"scanned by {actor}, then by {state.holder}, then by {actor} again, and nobody sent it either way"
        state.alert(AlertCode.DUPLICATE_SERIAL, fact, message)
    state.jumped_from.add(state.holder)
    passed_us = fact.time_us - state.seen[1]
    if passed_us < SHORTEST_WAY_US:
        message = f"scanned by {actor} {passed_us // 1_000_000} s after {state.holder} scanned it, who did not send it"
        state.alert(AlertCode.IMPOSSIBLE_MOVEMENT, fact, message)


def sense(state: "UnitState", fact: EventFact, around: Circumstances) -> None:
    """Take in how a unit was kept: an excursion holds it back until somebody releases it."""
    for excursion in around.excursions(state.path, fact):
        state.alert(AlertCode.TEMPERATURE_EXCURSION, fact, excursion.describe())
        if state.ending is None and all(code_of(reason) != EXCURSION for reason in state.holds):
            state.holds[EXCURSION] = fact.leaf_index


# --- when it has been ---


def judge_uses(state: "UnitState", around: Circumstances) -> None:
    """Alert about uses before the commissioning, after the expiry, or under a recall."""
    commission = state.commission
    first = state.first_use
    if commission is not None and first is not None:
        early_us = commission.time_us - first.time_us
        if early_us > LONGEST_DELAY_US and not commission.second_hand and not first.second_hand:
            message = f"used {timedelta(microseconds=early_us).days} days before its commissioning"
            state.alert(AlertCode.USED_BEFORE_COMMISSIONING, first, message)
    expiry = date.fromisoformat(commission.expiry) if commission is not None and commission.expiry else None
    itself = Container(state.path, state.lot)
    for used in state.uses:
        fact = used.fact
        if expiry is not None and has_expired(
            expiry, judge_time=fact.time, utc_offset=timedelta(seconds=fact.offset_s)
        ):
            message = f"{fact.biz_step or 'used'} after its last usable day, {expiry.isoformat()}"
            state.alert(AlertCode.USED_AFTER_EXPIRY, fact, message)
        number = around.recalled_at(fact.time, (itself, *used.containers)) if used.sold else ""
        if number:
            message = f"{fact.biz_step or 'used'} while recall {number} was in force"
            state.alert(AlertCode.SOLD_UNDER_RECALL, fact, message)
