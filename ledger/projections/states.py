"""The custody states of a unit: all that hold of it at once, from what is believed.

The class says where a unit is, and there is one; whether it is also in a container, on hold, suspect or recalled is
said beside it. docs/custody-rules.md has the tables of classes, states and what moves them.
"""

from enum import Enum

from ledger.projections.belief import Ending, UnitBelief, UnitClass


class CustodyState(Enum):
    """What may be said of a unit's custody, in the order in which it is told."""

    COMMISSIONED = "commissioned"
    AGGREGATED = "aggregated"
    IN_TRANSIT = "in_transit"
    HELD = "held"
    ON_HOLD = "on_hold"
    SUSPECT = "suspect"
    RECALLED = "recalled"
    DISPENSED = "dispensed"
    PARTIALLY_DISPENSED = "partially_dispensed"
    RETURNED = "returned"
    DECOMMISSIONED = "decommissioned"
    DESTROYED = "destroyed"
    LOST = "lost"
    STOLEN = "stolen"
    EXPORTED = "exported"
    CONSUMED = "consumed"
    LEFT_NETWORK = "left_network"


_ORDER = {state: rank for rank, state in enumerate(CustodyState)}
_OF_ENDING = {
    Ending.DISPENSED: CustodyState.DISPENSED,
    Ending.CONSUMED: CustodyState.CONSUMED,
    Ending.DESTROYED: CustodyState.DESTROYED,
    Ending.LOST: CustodyState.LOST,
    Ending.STOLEN: CustodyState.STOLEN,
    Ending.EXPORTED: CustodyState.EXPORTED,
}
_OF_CLASS = {
    UnitClass.UNACCOUNTED: CustodyState.COMMISSIONED,
    UnitClass.IN_TRANSIT: CustodyState.IN_TRANSIT,
    UnitClass.DELIVERED_UNCONFIRMED: CustodyState.IN_TRANSIT,
    UnitClass.LEFT_NETWORK: CustodyState.LEFT_NETWORK,
}


def states_of(belief: UnitBelief) -> tuple[CustodyState, ...]:
    """Return all custody states that hold of a unit, in their order; never none."""
    if belief.ending is not None:
        found = {_OF_ENDING.get(belief.ending, CustodyState.DECOMMISSIONED)}
    else:
        found = {_OF_CLASS.get(belief.unit_class, CustodyState.HELD)}
        for holds, state in (
            (belief.containers, CustodyState.AGGREGATED),
            (belief.opened, CustodyState.PARTIALLY_DISPENSED),
            (belief.returned, CustodyState.RETURNED),
            (belief.hold_reason, CustodyState.ON_HOLD),
        ):
            if holds:
                found.add(state)
    if belief.suspect:
        found.add(CustodyState.SUSPECT)
    if belief.recall_ids or "recalled" in belief.words:
        found.add(CustodyState.RECALLED)
    return tuple(sorted(found, key=_ORDER.__getitem__))
