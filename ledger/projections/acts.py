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
observe     all other steps, packing and unpacking included: the actor has it
==========  ========================================================================================================

Source: CBV 2.0, sections 7.1 (business steps) and 7.2 (dispositions).
"""

from enum import Enum, auto

from ledger.projections.belief import UnitClass
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

_END_OF_DISPOSITION = {
    "dispensed": UnitClass.DISPENSED,
    "retail_sold": UnitClass.DISPENSED,
    "destroyed": UnitClass.DESTROYED_OR_DECOMMISSIONED,
    "disposed": UnitClass.DESTROYED_OR_DECOMMISSIONED,
    "stolen": UnitClass.LOST_OR_STOLEN,
}

_END_OF_STEP = {
    "dispensing": UnitClass.DISPENSED,
    "retail_selling": UnitClass.DISPENSED,
    "destroying": UnitClass.DESTROYED_OR_DECOMMISSIONED,
    "decommissioning": UnitClass.DESTROYED_OR_DECOMMISSIONED,
    "killing": UnitClass.DESTROYED_OR_DECOMMISSIONED,
    "sampling": UnitClass.DESTROYED_OR_DECOMMISSIONED,
}

# CBV has no word for lost: a unit taken out of use whose whereabouts are unknown is lost.
_LOST = "unknown"


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
    if deleted or fact.disposition in _END_OF_DISPOSITION or fact.biz_step in _END_OF_STEP:
        return Act.END
    return _ACT_OF_STEP.get(fact.biz_step, Act.OBSERVE)


def end_class_of(fact: EventFact) -> UnitClass:
    """Return the final class into which an event that ends a unit puts it."""
    if fact.kind is Kind.TRANSFORMATION:
        return UnitClass.CONSUMED
    if fact.disposition == _LOST:
        return UnitClass.LOST_OR_STOLEN
    if fact.disposition in _END_OF_DISPOSITION:
        return _END_OF_DISPOSITION[fact.disposition]
    return _END_OF_STEP.get(fact.biz_step, UnitClass.DESTROYED_OR_DECOMMISSIONED)
