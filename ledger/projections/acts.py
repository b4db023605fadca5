"""What an event does to a unit that it names: CBV words read once.

==========  ========================================================================================================
act         event
==========  ========================================================================================================
commission  object ADD; output of a transformation
end         object DELETE; input of a transformation; dispensing, retail_selling, destroying, decommissioning, killing,
            sampling; disposition dispensed, retail_sold, destroyed, disposed, stolen
open        dispensing with disposition partially_dispensed
despatch    shipping, consigning
void        void_shipping
receive     receiving, accepting
arrive      arriving, unloading
pass        loading, departing, transporting and what else happens on the way: places it only with its holder
miss        aggregation DELETE of named children with disposition unknown: they are not in the container
observe     all other steps, packing and unpacking included: the actor has it
==========  ========================================================================================================

Source: CBV 2.0, sections 7.1 (business steps) and 7.2 (dispositions).
"""

from enum import Enum, auto

from ledger.projections.belief import Ending, UnitClass
from ledger.projections.facts import EventFact, Kind, Part


class Act(Enum):
    """What an event does to a unit."""

    COMMISSION = auto()
    END = auto()
    OPEN = auto()
    DESPATCH = auto()
    VOID = auto()
    RECEIVE = auto()
    ARRIVE = auto()
    PASS = auto()
    MISS = auto()
    OBSERVE = auto()


_ACT_OF_STEP = {
    "shipping": Act.DESPATCH,
    "consigning": Act.DESPATCH,
    "void_shipping": Act.VOID,
    "receiving": Act.RECEIVE,
    "accepting": Act.RECEIVE,
    "arriving": Act.ARRIVE,
    "unloading": Act.ARRIVE,
    "loading": Act.PASS,
    "departing": Act.PASS,
    "transporting": Act.PASS,
    "staging_outbound": Act.PASS,
    "collecting": Act.PASS,
    "sensor_reporting": Act.PASS,
}

_ENDING_OF_DISPOSITION = {
    "dispensed": Ending.DISPENSED,
    "retail_sold": Ending.DISPENSED,
    "destroyed": Ending.DESTROYED,
    "disposed": Ending.DESTROYED,
    "stolen": Ending.STOLEN,
}

_ENDING_OF_STEP = {
    "dispensing": Ending.DISPENSED,
    "retail_selling": Ending.DISPENSED,
    "destroying": Ending.DESTROYED,
    "decommissioning": Ending.DECOMMISSIONED,
    "killing": Ending.DECOMMISSIONED,
    "sampling": Ending.SAMPLED,
}

# What these dispositions say only of what is ended: by themselves they end nothing. CBV has no word for lost: a unit
# taken out of use whose whereabouts are unknown is lost.
_ENDING_OF_ENDED = {"unknown": Ending.LOST, "damaged": Ending.DAMAGED}
# Endings for which CBV has no word of their own: the event's reason says which.
_ENDINGS_BY_REASON = frozenset({Ending.EXPORTED, Ending.FREE_SAMPLE, Ending.LOCKED})
# What is not where it should be: nobody knows its condition, and who says so has not got it.
_ABSENT = "unknown"
_CLASS_OF_ENDING = {
    Ending.DISPENSED: UnitClass.DISPENSED,
    Ending.CONSUMED: UnitClass.CONSUMED,
    Ending.LOST: UnitClass.LOST_OR_STOLEN,
    Ending.STOLEN: UnitClass.LOST_OR_STOLEN,
}


def act_of(fact: EventFact, part: Part) -> Act:
    """Return what an event does to a unit that it names in a part."""
    if fact.kind is Kind.TRANSFORMATION:
        return Act.END if part is Part.INPUT else Act.COMMISSION
    if fact.kind is Kind.OBJECT and fact.action == "ADD":
        return Act.COMMISSION
    if fact.kind is Kind.ASSOCIATION:
        return Act.OBSERVE
    if fact.disposition == "partially_dispensed" and fact.biz_step in {"dispensing", "retail_selling"}:
        return Act.OPEN
    deleted = fact.kind is Kind.OBJECT and fact.action == "DELETE"
    if deleted or fact.disposition in _ENDING_OF_DISPOSITION or fact.biz_step in _ENDING_OF_STEP:
        return Act.END
    return Act.MISS if _says_absent(fact) else _ACT_OF_STEP.get(fact.biz_step, Act.OBSERVE)


def _says_absent(fact: EventFact) -> bool:
    deleted = fact.kind is Kind.AGGREGATION and fact.action == "DELETE" and not fact.empties
    return deleted and fact.disposition == _ABSENT


def ending_of(fact: EventFact) -> Ending:
    """Return how an event that ends a unit does so."""
    if fact.kind is Kind.TRANSFORMATION:
        return Ending.CONSUMED
    if fact.disposition == "inactive" and fact.reason in _ENDINGS_BY_REASON:
        return Ending(fact.reason)
    of_step = _ENDING_OF_STEP.get(fact.biz_step, Ending.DECOMMISSIONED)
    found = _ENDING_OF_DISPOSITION.get(fact.disposition) or _ENDING_OF_ENDED.get(fact.disposition)
    return found or of_step


def class_of_ending(ending: Ending) -> UnitClass:
    """Return the final class of what ended so."""
    return _CLASS_OF_ENDING.get(ending, UnitClass.DESTROYED_OR_DECOMMISSIONED)


def destination_of(fact: EventFact) -> str:
    """Return to whom a despatch sends goods, as the event spells it; empty where it does not say."""
    return fact.target_holder or fact.target_owner or fact.target_place
