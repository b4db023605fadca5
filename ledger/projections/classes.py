"""From a unit's state at the end of a replay to its one class, and the small changes that containment makes."""

from ledger.projections.acts import class_of_ending
from ledger.projections.belief import UnitClass
from ledger.projections.directory import Directory
from ledger.projections.unit_state import Phase, UnitState


def attach(state: UnitState, container: UnitState) -> None:
    """Put a unit into a container."""
    state.parent = container
    container.contents[id(state)] = state


def detach(state: UnitState) -> None:
    """Take a unit out of its container."""
    if state.parent is not None:
        state.parent.contents.pop(id(state), None)
        state.parent = None


_CLASS_OF_PHASE = {
    Phase.LEFT: UnitClass.LEFT_NETWORK,
    Phase.ARRIVED: UnitClass.DELIVERED_UNCONFIRMED,
    Phase.TRANSIT: UnitClass.IN_TRANSIT,
}


def class_of(state: UnitState, *, maker: str, directory: Directory) -> UnitClass:
    """Return the one class of a state (see :mod:`ledger.projections.belief` for the table)."""
    if state.ending is not None:
        return class_of_ending(state.ending)
    return _CLASS_OF_PHASE.get(state.phase) or _class_held(state, maker=maker, directory=directory)


def _class_held(state: UnitState, *, maker: str, directory: Directory) -> UnitClass:
    if state.holder != maker and not directory.is_enrolled(state.holder):
        return UnitClass.LEFT_NETWORK
    if state.returned:
        return UnitClass.RETURNED
    if state.opened:
        return UnitClass.OPENED
    if state.holder != maker:
        return UnitClass.ON_HAND
    return UnitClass.AT_MAKER if state.placed else UnitClass.UNACCOUNTED
