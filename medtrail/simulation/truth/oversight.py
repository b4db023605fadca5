"""Holds beyond those of single packs: lots that are held, now and as they come, and releases by two persons."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medtrail.simulation.acts import Act, Verb, gtin_of, is_trade_item
from medtrail.simulation.truth.house import HERE, House, RefusedError

if TYPE_CHECKING:
    from medtrail.simulation.truth.model import Truth

OPEN = "open"
APPROVED = "approved"
REJECTED = "rejected"


@dataclass(slots=True)
class LotHold:
    """A lot that one house holds: what is there of it, and what comes.

    Attributes:
        code: Of the reason.
        stands: It was not released.
    """

    house: str
    gtin: str
    lot: str
    code: str
    stands: bool = True

    def covers(self, unit: str, house: House) -> bool:
        """Tell whether it is about a unit that is in the house."""
        entry = house.entries[unit]
        named = is_trade_item(unit) and gtin_of(unit) == self.gtin and entry.lot == self.lot
        return named and entry.state in HERE


@dataclass(slots=True)
class ReleaseRequest:
    """What one person asks to be released, and another one decides.

    Attributes:
        codes: Of the holds that are to end; empty: all.
        ends: Those that stood when it was asked for.
        requester: Who asked.
        decider: Who approved or rejected it; empty while it is open.
    """

    house: str
    units: tuple[str, ...]
    codes: frozenset[str]
    ends: frozenset[str]
    requester: str
    state: str = OPEN
    decider: str = ""

    def words(self) -> dict[str, str]:
        """Return what its house must answer of it."""
        return {
            "state": self.state,
            "units": " ".join(sorted(self.units)),
            "codes": " ".join(sorted(self.codes)),
            "asked by": self.requester,
            "decided by": self.decider,
        }


class Oversight:
    """Lot holds and releases in the houses of a truth.

    Attributes:
        lot_holds: By the act that made them; like requests.
    """

    def __init__(self, truth: "Truth") -> None:
        self._truth = truth
        self.lot_holds: dict[str, LotHold] = {}
        self.requests: dict[str, ReleaseRequest] = {}

    def doing(self) -> Mapping[Verb, Callable[[Act], None]]:
        """Return what is done at each verb."""
        return {
            Verb.HOLD_LOT: self._hold_lot,
            Verb.RELEASE_LOT: self._release_lot,
            Verb.RELEASE: self._release,
            Verb.REQUEST_RELEASE: self._request,
            Verb.APPROVE_RELEASE: self._approve,
            Verb.REJECT_RELEASE: self._reject,
        }

    # --- lots ---

    def arrived(self, house: House, units: Iterable[str], *, at: int) -> None:
        """Hold what has come into a house of lots that are on hold there."""
        for hold in self.lot_holds.values():
            if hold.stands and hold.house == house.name:
                inside = [part for unit in units for part in house.whole(unit)]
                self._hold(Act(Verb.HOLD, house.name, at), hold, inside)

    def _hold_lot(self, act: Act) -> None:
        hold = LotHold(act.who, act.details["gtin"], act.lot, act.details["code"])
        if hold in self.lot_holds.values():
            raise RefusedError("ALREADY_ON_HOLD")
        self.lot_holds[act.name] = hold
        self._hold(act, hold, self._truth.houses[act.who].entries)

    def _hold(self, act: Act, hold: LotHold, units: Iterable[str]) -> None:
        """Hold packs of a lot one by one; nobody need have seen them."""
        house = self._truth.houses[hold.house]
        found = [unit for unit in units if hold.covers(unit, house) and hold.code not in house.entries[unit].holds]
        for unit in found:
            house.entries[unit].holds |= {hold.code}
        if found:
            self._truth.say(replace(act, units=tuple(found)), "hold")

    def _release_lot(self, act: Act) -> None:
        hold, house = self.lot_holds[act.of], self._truth.houses[act.who]
        if not hold.stands:
            raise RefusedError("NOT_ON_HOLD")
        self.require_one(act.who, {hold.code})
        hold.stands = False
        held = [unit for unit, entry in house.entries.items() if hold.code in entry.holds and hold.covers(unit, house)]
        self._end_holds(act, held, {hold.code})

    # --- releases ---

    def require_one(self, who: str, codes: Iterable[str]) -> None:
        """Refuse that one person ends holds which two persons must release."""
        if self._truth.parties[who].four_eyes.intersection(codes):
            raise RefusedError("FOUR_EYES_REQUIRED")

    def _release(self, act: Act) -> None:
        codes = frozenset(act.details.get("code", "").split())
        held = self._held_for(act.who, act.units, codes)
        self.require_one(act.who, held)
        self._end_holds(act, act.units, codes)

    def _held_for(self, who: str, units: Iterable[str], codes: frozenset[str]) -> set[str]:
        """Return the codes for which units and what is inside are held, of some codes or all; refuse what is not."""
        house = self._truth.houses[who]
        found: set[str] = set()
        for unit in units:
            if not self._of(house.here(unit).holds, codes):
                raise RefusedError("NOT_ON_HOLD")
            for part in house.whole(unit):
                found |= self._of(house.entries[part].holds, codes)
        return found

    @staticmethod
    def _of(holds: frozenset[str], codes: Collection[str]) -> frozenset[str]:
        return holds.intersection(codes) if codes else holds

    def _end_holds(self, act: Act, units: Iterable[str], codes: Collection[str]) -> None:
        """End holds of units and of what is inside: those with some codes, or all; others hold on."""
        house = self._truth.houses[act.who]
        free: list[str] = []
        held: list[str] = []
        for unit in units:
            parts = [house.entries[part] for part in house.whole(unit)]
            for entry in parts:
                entry.holds -= self._of(entry.holds, codes)
            (held if any(entry.holds for entry in parts) else free).append(unit)
        for named, what in ((free, "release"), (held, "inspect")):
            if named:
                self._truth.say(replace(act, units=tuple(named)), what)

    def _person(self, act: Act) -> str:
        person = act.details.get("person", "")
        if not person:
            raise RefusedError("PERSON_MISSING")
        if person not in self._truth.parties[act.who].persons:
            raise RefusedError("PERSON_UNKNOWN")
        return person

    def _request(self, act: Act) -> None:
        person, codes = self._person(act), frozenset(act.details.get("code", "").split())
        ends = frozenset(self._held_for(act.who, act.units, codes))
        self.requests[act.name] = ReleaseRequest(act.who, act.units, codes, ends, person)

    def _approve(self, act: Act) -> None:
        request, person = self._open_request(act), self._person(act)
        if person == request.requester:
            raise RefusedError("SAME_PERSON")
        self._held_for(act.who, request.units, request.ends)
        self._end_holds(act, request.units, request.ends)
        request.state, request.decider = APPROVED, person

    def _reject(self, act: Act) -> None:
        request, person = self._open_request(act), self._person(act)
        request.state, request.decider = REJECTED, person

    def _open_request(self, act: Act) -> ReleaseRequest:
        request = self.requests[act.of]
        if request.state != OPEN:
            raise RefusedError("RELEASE_REQUEST_DECIDED")
        return request
