"""Stock of a lot that is known by quantity only, followed event by event.

Quantities in a container are parcels: they are states of the replay like any other content, and go where the container
goes. Loose quantities are balances by class, holder and destination; an event moves as much as it names, first from
where the goods should be, and what no balance explains is counted at the new place all the same: it was said to be
there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ledger.projections.acts import Act, act_of, class_of_ending, destination_of, ending_of
from ledger.projections.belief import EvidenceKind, Standing, UnitClass
from ledger.projections.circumstances import Circumstances
from ledger.projections.classes import attach, class_of, detach
from ledger.projections.directory import Directory
from ledger.projections.facts import EventFact, Kind, Part, UnitRef, from_us
from ledger.projections.replay import Replay
from ledger.projections.unit_state import UnitState, evidence_of
from ledger.projections.world import Judge, World

_ZERO = Decimal(0)
_AWAY = (UnitClass.IN_TRANSIT, UnitClass.DELIVERED_UNCONFIRMED, UnitClass.LEFT_NETWORK)
_PRESENT = (UnitClass.ON_HAND, UnitClass.RETURNED, UnitClass.AT_MAKER, UnitClass.OPENED, UnitClass.UNACCOUNTED)


@dataclass(frozen=True, slots=True)
class QuantityBelief:
    """A quantity of a lot without serials.

    Attributes:
        quantity: None when somebody named the lot without saying how much.
        uom: UN/ECE Rec 20 unit code; empty means a count.
        newest: Newest event time of what is summed.
    """

    unit_class: UnitClass
    holder: str
    destination: str
    quantity: Decimal | None
    uom: str
    newest: datetime
    evidence: EvidenceKind


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a loose quantity is."""

    unit_class: UnitClass
    holder: str
    destination: str
    uom: str


@dataclass(slots=True)
class _Balance:
    quantity: Decimal | None = _ZERO
    newest_us: int = 0
    evidence: EvidenceKind = EvidenceKind.SCANNED


@dataclass(slots=True)
class _Parcel:
    """A quantity inside a container; ``state`` goes with the container."""

    state: UnitState
    uom: str
    balance: _Balance = field(default_factory=_Balance)


class LotReplay:
    """Follows one lot's quantities through a replay of its containers."""

    def __init__(self, lot: str, world: World, directory: Directory) -> None:
        self._lot = lot
        self._directory = directory
        self._refs = world.lots.get(lot, ())
        self._world = world
        self._standings = Judge(world, Circumstances(directory)).standings(
            tuple((ref.leaf_index, ref.part) for ref in self._refs)
        )
        self._balances: dict[_Spot, _Balance] = {}
        self._parcels: dict[tuple[str, str], _Parcel] = {}
        commissions = [
            world.facts[ref.leaf_index]
            for ref in self._refs
            if act_of(world.facts[ref.leaf_index], ref.part) is Act.COMMISSION
            and self._standings[ref.leaf_index] is Standing.COUNTS
        ]
        first = min(commissions, key=lambda fact: (fact.second_hand, fact.order), default=None)
        self._maker = "" if first is None else directory.actor(first)

    def of(self, fact: EventFact) -> Iterable[UnitRef]:
        """Return what an event says of the lot, in the order in which it is applied."""
        return (ref for ref in self._refs if ref.leaf_index == fact.leaf_index)

    def facts(self) -> list[EventFact]:
        """Return the events that name the lot and count."""
        leaves = {ref.leaf_index for ref in self._refs if self._standings[ref.leaf_index] is Standing.COUNTS}
        return [self._world.facts[leaf] for leaf in sorted(leaves) if not self._world.facts[leaf].declaration]

    # --- replaying ---

    def apply(self, fact: EventFact, replay: Replay) -> None:
        """Take in one event, after its containers have."""
        for ref in self.of(fact):
            amount = Decimal(ref.quantity) if ref.quantity else None
            if ref.part is Part.CHILD and fact.kind is Kind.AGGREGATION:
                self._contain(fact, ref, amount, replay)
            else:
                self._move(fact, ref, amount)

    def _contain(self, fact: EventFact, ref: UnitRef, amount: Decimal | None, replay: Replay) -> None:
        container = replay.state(fact.parent)
        if container is None:
            return
        actor = self._directory.actor(fact)
        key = (fact.parent, ref.uom)
        parcel = self._parcels.get(key)
        if act_of(fact, ref.part) is Act.MISS:
            if parcel is not None:
                self._miss(parcel, amount, fact)
            return
        if fact.action == "DELETE":
            if parcel is not None:
                self._reduce(parcel.balance, amount)
            self._add(self._here(actor, ref.uom), amount, fact)
            return
        if fact.action == "OBSERVE" and parcel is not None:
            # What is seen inside is what was put in.
            return
        self._take(actor, ref.uom, amount)
        if parcel is None:
            parcel = _Parcel(UnitState(f"{self._lot} in {fact.parent}", {}), ref.uom)
            self._parcels[key] = parcel
        if parcel.state.parent is None:
            parcel.balance.quantity = _ZERO
            parcel.state.phase = container.phase
            parcel.state.holder = container.holder
            parcel.state.destination = container.destination
            parcel.state.placed = True
            parcel.state.since_us = fact.time_us
            parcel.state.evidence = evidence_of(fact, inherited=False)
            attach(parcel.state, container)
        self._increase(parcel.balance, amount, fact)

    def _miss(self, parcel: _Parcel, amount: Decimal | None, fact: EventFact) -> None:
        """Take in that a quantity is not in its container: it is loose, and where the container was believed."""
        inside = parcel.balance.quantity
        gone = inside if amount is None or inside is None else min(amount, inside)
        self._add(self._spot_of(parcel), gone, fact)
        self._reduce(parcel.balance, amount)

    def _move(self, fact: EventFact, ref: UnitRef, amount: Decimal | None) -> None:
        act = act_of(fact, ref.part)
        actor = self._directory.actor(fact)
        uom = ref.uom
        if act is Act.COMMISSION:
            self._add(_Spot(UnitClass.UNACCOUNTED, actor, "", uom), amount, fact)
        elif act is Act.DESPATCH:
            self._take(actor, uom, amount)
            target = destination_of(fact)
            left = bool(target) and not self._directory.is_enrolled(target)
            unit_class = UnitClass.LEFT_NETWORK if left else UnitClass.IN_TRANSIT
            destination = self._directory.party_gln(target) if target else ""
            self._add(_Spot(unit_class, actor, destination, uom), amount, fact)
        elif act is Act.END:
            self._take(actor, uom, amount)
            self._add(_Spot(class_of_ending(ending_of(fact)), actor, "", uom), amount, fact)
        elif act is Act.ARRIVE:
            sender = self._arriving(actor, uom)
            self._take(actor, uom, amount, arriving_first=True)
            self._add(_Spot(UnitClass.DELIVERED_UNCONFIRMED, sender, actor, uom), amount, fact)
        elif act is Act.VOID:
            self._take_away_from(actor, uom, amount)
            self._add(self._here(actor, uom), amount, fact)
        elif act is not Act.PASS:
            self._take(actor, uom, amount, arriving_first=act is Act.RECEIVE)
            self._add(self._here(actor, uom, returned=fact.disposition == "returned"), amount, fact)

    def _here(self, actor: str, uom: str, *, returned: bool = False) -> _Spot:
        if returned:
            return _Spot(UnitClass.RETURNED, actor, "", uom)
        return _Spot(UnitClass.AT_MAKER if actor == self._maker else UnitClass.ON_HAND, actor, "", uom)

    def _arriving(self, actor: str, uom: str) -> str:
        senders = (
            spot.holder
            for spot, balance in self._balances.items()
            if (spot.unit_class, spot.destination, spot.uom) == (UnitClass.IN_TRANSIT, actor, uom)
            and balance.quantity != 0
        )
        return next(senders, "")

    # --- balances ---

    def _take(self, actor: str, uom: str, amount: Decimal | None, *, arriving_first: bool = False) -> None:
        """Take a quantity from where a party should have it: what it holds, then what is on its way to it.

        A receiving takes only from what is on its way: what it brings beside that came without data, and is more.
        """
        arriving = [spot for spot in self._balances if spot.unit_class in _AWAY and spot.destination == actor]
        held = [spot for spot in self._balances if spot.unit_class in _PRESENT and spot.holder == actor]
        held.sort(key=lambda spot: _PRESENT.index(spot.unit_class))
        spots = arriving if arriving_first else [*held, *arriving]
        self._take_from([spot for spot in spots if spot.uom == uom], amount)

    def _take_away_from(self, actor: str, uom: str, amount: Decimal | None) -> None:
        sent = [spot for spot in self._balances if spot.unit_class in _AWAY and spot.holder == actor]
        self._take_from([spot for spot in sent if spot.uom == uom], amount)

    def _take_from(self, spots: list[_Spot], amount: Decimal | None) -> None:
        left = amount
        for spot in spots:
            balance = self._balances[spot]
            if left == 0:
                break
            if left is None or balance.quantity is None:
                # Not said how much: all of it, so that nothing is counted at two places.
                balance.quantity = _ZERO
                continue
            taken = min(left, balance.quantity)
            balance.quantity -= taken
            left -= taken

    def _add(self, spot: _Spot, amount: Decimal | None, fact: EventFact) -> None:
        self._increase(self._balances.setdefault(spot, _Balance()), amount, fact)

    @staticmethod
    def _increase(balance: _Balance, amount: Decimal | None, fact: EventFact) -> None:
        if amount is None or balance.quantity is None:
            balance.quantity = None
        else:
            balance.quantity += amount
        balance.newest_us = max(balance.newest_us, fact.time_us)
        balance.evidence = evidence_of(fact, inherited=False)

    @staticmethod
    def _reduce(balance: _Balance, amount: Decimal | None) -> None:
        if amount is None or balance.quantity is None:
            balance.quantity = _ZERO
        else:
            balance.quantity = max(balance.quantity - amount, _ZERO)

    def release(self, fact: EventFact) -> None:
        """Take in that a container was emptied: its parcels are loose from then on."""
        for (parent, uom), parcel in self._parcels.items():
            if parent == fact.parent and parcel.balance.quantity != 0:
                detach(parcel.state)
                self._add(self._here(self._directory.actor(fact), uom), parcel.balance.quantity, fact)
                parcel.balance.quantity = _ZERO

    # --- asking ---

    def beliefs(self) -> tuple[QuantityBelief, ...]:
        """Return where how much of the lot is; what is nowhere any more is left out."""
        summed: dict[_Spot, _Balance] = {}
        for spot, balance in self._balances.items():
            self._sum(summed, spot, balance)
        for parcel in self._parcels.values():
            state, spot = parcel.state, self._spot_of(parcel)
            inside = _Balance(parcel.balance.quantity, parcel.balance.newest_us, parcel.balance.evidence)
            if state.since_us > inside.newest_us:
                inside.newest_us = state.since_us
                inside.evidence = state.evidence
            self._sum(summed, spot, inside)
        return tuple(
            QuantityBelief(
                unit_class=spot.unit_class,
                holder=spot.holder,
                destination=spot.destination,
                quantity=balance.quantity,
                uom=spot.uom,
                newest=from_us(balance.newest_us),
                evidence=balance.evidence,
            )
            for spot, balance in sorted(summed.items(), key=lambda item: _sort_key(item[0]))
        )

    def _spot_of(self, parcel: _Parcel) -> _Spot:
        state = parcel.state
        unit_class = class_of(state, maker=self._maker, directory=self._directory)
        return _Spot(unit_class, state.holder, state.destination, parcel.uom)

    @staticmethod
    def _sum(summed: dict[_Spot, _Balance], spot: _Spot, balance: _Balance) -> None:
        if balance.quantity == 0:
            return
        total = summed.setdefault(spot, _Balance(newest_us=balance.newest_us, evidence=balance.evidence))
        if total.quantity is None or balance.quantity is None:
            total.quantity = None
        else:
            total.quantity += balance.quantity
        if balance.newest_us > total.newest_us:
            total.newest_us = balance.newest_us
            total.evidence = balance.evidence


def _sort_key(spot: _Spot) -> tuple[str, str, str, str]:
    return (spot.unit_class, spot.holder, spot.destination, spot.uom)
