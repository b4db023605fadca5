"""What an organisation knows of each unit, and the working copy on which a transaction decides.

A :class:`Holding` is one unit in one organisation's books. :class:`Books` hold those that a decision can touch: the
units that it names, all that is inside them, and all that they are inside of. Rules (:mod:`services.custody.rules`)
read and write Books; the store loads and saves them. Nothing here does I/O.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from medtrail.gs1 import Gln
from services.custody.exceptions.codes import ExceptionCode
from services.custody.notices import AlertCode, Notice
from services.custody.units import Unit


class HoldingState(StrEnum):
    """State of a unit in one organisation's books."""

    INBOUND = "inbound"
    ON_HAND = "on_hand"
    DESPATCHED = "despatched"
    RETURNED = "returned"
    PARTIALLY_DISPENSED = "partially_dispensed"
    DISPENSED = "dispensed"
    ENDED = "ended"
    CONSUMED = "consumed"
    EXCEPTION = "exception"


FINAL_STATES = frozenset({HoldingState.DISPENSED, HoldingState.ENDED, HoldingState.CONSUMED})
AWAY_STATES = frozenset({HoldingState.DESPATCHED, HoldingState.RETURNED})
HERE_STATES = frozenset({HoldingState.ON_HAND, HoldingState.PARTIALLY_DISPENSED, HoldingState.EXCEPTION})


class Ending(StrEnum):
    """How the life of a unit ended, where it was neither dispensed nor consumed."""

    DECOMMISSIONED = "decommissioned"
    DESTROYED = "destroyed"
    STOLEN = "stolen"
    LOST = "lost"
    SAMPLED = "sampled"
    DAMAGED = "damaged"
    EMPTIED = "emptied"
    EXPORTED = "exported"
    FREE_SAMPLE = "free_sample"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Holding:
    """What an organisation knows of one unit.

    Attributes:
        unit: The unit.
        state: Its state here.
        event_id: Of what made it so.
        since_time: When; aware UTC.
        parent: Its container; None when loose.
        lot: May be empty.
        expiry: None when not known.
        location: Of ours, where it is or was; None when not known.
        partner: The other party where it is inbound, despatched or returned.
        hold_reason: Why it is on hold, or was when it went; empty when it is not.
        provisional: It rests on data that the ledger has not confirmed: not saleable.
        ending: How its life ended, in state ENDED.
        exception: Stable code of why it is put aside, or was when it went; empty when it is not.
        despatch_id: event_id of the despatch that brings or brought it; may be empty.
        smallest: It counts among its despatch's smallest units.
        inferred: Received because its container was; not scanned yet.
        remainder: What is left of an opened pack; None while whole, or where nobody said how much was taken.
        remainder_uom: Its unit: UN/ECE Recommendation 20, ``EA`` for tablets; empty with no remainder.
        sold_to: Party to which it went last, kept after it comes back; None when it never went.
        suspect: Case under which it is suspect product; empty when it is not.
        opened: A part of it was handed out.
    """

    unit: Unit
    state: HoldingState
    event_id: str
    since_time: datetime
    parent: Unit | None = None
    lot: str = ""
    expiry: date | None = None
    location: Gln | None = None
    partner: Gln | None = None
    hold_reason: str = ""
    provisional: bool = False
    ending: Ending | None = None
    exception: str = ""
    despatch_id: str = ""
    smallest: bool = False
    inferred: bool = False
    remainder: Decimal | None = None
    remainder_uom: str = ""
    sold_to: Gln | None = None
    suspect: str = ""
    opened: bool = False

    @property
    def final(self) -> bool:
        """Whether nothing may happen to it any more."""
        return self.state in FINAL_STATES

    @property
    def here(self) -> bool:
        """Whether it is in the house, saleable or not."""
        return self.state in HERE_STATES

    @property
    def received(self) -> bool:
        """Whether it is in the house as received: what was put aside at the door is not, and waits to be."""
        return self.here and self.exception in {"", ExceptionCode.OFFLINE_CONFLICT}

    @property
    def state_here(self) -> HoldingState:
        """Its state in the house, whichever way it came back: what was the matter with it when it went still is."""
        if self.exception:
            return HoldingState.EXCEPTION
        return HoldingState.PARTIALLY_DISPENSED if self.opened else HoldingState.ON_HAND


class Books:
    """A working copy of holdings, with what has changed since it was made."""

    def __init__(self, holdings: Iterable[Holding] = ()) -> None:
        """Start from holdings as stored."""
        self._holdings: dict[Unit, Holding] = {}
        self._contents: dict[Unit, dict[Unit, None]] = {}
        self._before: dict[Unit, Holding | None] = {}
        self._notices: dict[tuple[AlertCode, Unit], Notice] = {}
        for holding in holdings:
            self._place(holding)

    def get(self, unit: Unit) -> Holding | None:
        """Return what is known of a unit, or None."""
        return self._holdings.get(unit)

    def contents(self, unit: Unit) -> tuple[Holding, ...]:
        """Return what is directly inside a unit."""
        return tuple(self._holdings[child] for child in self._contents.get(unit, ()))

    def inside(self, unit: Unit) -> Iterator[Holding]:
        """Yield all that is inside a unit, containers before their contents."""
        waiting = list(self.contents(unit))
        while waiting:
            holding = waiting.pop()
            yield holding
            waiting.extend(self.contents(holding.unit))

    def containers(self, unit: Unit) -> Iterator[Holding]:
        """Yield the containers of a unit, innermost first."""
        holding = self._holdings.get(unit)
        while holding is not None and holding.parent is not None:
            holding = self._holdings.get(holding.parent)
            if holding is not None:
                yield holding

    def put(self, holding: Holding) -> None:
        """State what is known of a unit from now on."""
        before = self._holdings.get(holding.unit)
        self._before.setdefault(holding.unit, before)
        if before is not None and before.parent is not None:
            self._contents[before.parent].pop(holding.unit, None)
        self._place(holding)

    def change(self, holding: Holding, **changes: Any) -> Holding:  # noqa: ANN401  # any field of Holding
        """Replace fields of a holding; return the new one."""
        changed = replace(holding, **changes)
        self.put(changed)
        return changed

    def take_changes(self) -> dict[Unit, Holding | None]:
        """Return the units changed since the last call, each with what was known before, and start anew."""
        taken, self._before = self._before, {}
        return taken

    def notice(self, code: AlertCode, unit: Unit, message: str) -> None:
        """Note what is wrong with what is applied; the same code on the same unit counts once."""
        self._notices.setdefault((code, unit), Notice(code, unit, message))

    def take_notices(self) -> tuple[Notice, ...]:
        """Return what was noticed since the last call, and start anew."""
        taken, self._notices = tuple(self._notices.values()), {}
        return taken

    def _place(self, holding: Holding) -> None:
        self._holdings[holding.unit] = holding
        if holding.parent is not None:
            self._contents.setdefault(holding.parent, {})[holding.unit] = None

    def __iter__(self) -> Iterator[Holding]:
        """Iterate over all holdings."""
        return iter(tuple(self._holdings.values()))
