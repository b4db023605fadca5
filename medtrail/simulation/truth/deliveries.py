"""Deliveries: what was expected, what was scanned, and what that means for the goods when the door is closed."""

from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from medtrail.simulation.acts import is_trade_item
from medtrail.simulation.truth.house import EXCEPTION, HERE, INBOUND, UNADVISED, Entry, House, RefusedError
from medtrail.simulation.truth.samples import Samples

MATCH = "MATCH"
OVER = "OVER"
WRONG_LOT = "WRONG_LOT"
WRONG_EXPIRY = "WRONG_EXPIRY"
UNKNOWN_SERIAL = "UNKNOWN_SERIAL"
NOT_FOR_US = "NOT_FOR_US"
ALREADY_RECEIVED = "ALREADY_RECEIVED"
ALREADY_SCANNED = "ALREADY_SCANNED"
OTHER_CONTAINER = "OTHER_CONTAINER"

GOOD = frozenset({MATCH, OTHER_CONTAINER})
# What is wrong with a pack: the case that is opened, and the mark that it gets.
_CASE_OF = {
    OVER: "OVERAGE",
    UNKNOWN_SERIAL: "SERIAL_UNKNOWN",
    NOT_FOR_US: "WRONG_CONSIGNEE",
    WRONG_LOT: "LOT_MISMATCH",
    WRONG_EXPIRY: "EXPIRY_MISMATCH",
    ALREADY_RECEIVED: "ALREADY_RECEIVED",
}
_MARK_OF = {
    OVER: UNADVISED,
    UNKNOWN_SERIAL: UNADVISED,
    NOT_FOR_US: "WRONG_CONSIGNEE",
    WRONG_LOT: "LOT_MISMATCH",
    WRONG_EXPIRY: "EXPIRY_MISMATCH",
}


@dataclass(frozen=True, slots=True)
class Label:
    """What is read off a unit, from which container, and how it looks."""

    unit: str
    lot: str = ""
    expiry: str = ""
    container: str = ""
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What all the world knows of a unit that nobody advised: whether anybody made it, and who is to have it."""

    made: bool
    on_its_way_to: str


@dataclass(slots=True)
class Delivery:
    """One delivery at one house.

    Attributes:
        expected: Units that were advised and had not come when it was opened.
        found: What each scanned unit turned out to be.
        labels: How each was read.
        samples: What is to be scanned of sealed containers all the same.
        inferred: What came sealed inside a scanned container.
        taken: What was taken out of its container at the closing: units by container.
        absent: What was said not to be in its container: likewise.
        held: What was put on hold at the closing, by code.
        closed_at: When it was closed last, as an act's time; None before.
    """

    house: House
    expected: frozenset[str]
    samples: Samples
    found: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    inferred: set[str] = field(default_factory=set)
    taken: dict[str, list[str]] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)
    held: dict[str, list[str]] = field(default_factory=dict)
    closed_at: int | None = None

    @classmethod
    def open(cls, house: House, despatches: frozenset[str], *, share: Decimal = Decimal(0)) -> "Delivery":
        """Begin one of despatches, with a share of what is sealed to be scanned all the same."""
        due = (unit for unit, entry in house.entries.items() if entry.despatch in despatches)
        expected = frozenset(unit for unit in due if house.entries[unit].state == INBOUND)
        return cls(house, expected, Samples(share))

    def scan(self, label: Label, known: Known) -> str:
        """Take in a scan; return what it shows."""
        if self.closed_at is not None:
            raise RefusedError("DELIVERY_CLOSED")
        unit = label.unit
        before = self.labels.get(unit)
        if before is not None and (before.lot, before.expiry) == (label.lot, label.expiry):
            return ALREADY_SCANNED
        code = self._code(label, known)
        self.found[unit], self.labels[unit] = code, label
        if code in GOOD and not is_pack(self.house, unit):
            inside = self.expected.intersection(self.house.inside(unit))
            self.inferred.update(inside)
            self.samples.seal(unit, frozenset(part for part in inside if is_pack(self.house, part)))
        elif code in _MARK_OF:
            self.samples.fail({*self.house.around(unit), label.container, *self.house.around(label.container)})
        return code

    def scan_samples(self) -> str:
        """Scan what is to be scanned of what is sealed; return what that shows: the packs are there."""
        return " ".join([MATCH] * self.samples.take(self.found))

    def _code(self, label: Label, known: Known) -> str:
        entry = self.house.entries.get(label.unit)
        if entry is not None and entry.state in HERE:
            return ALREADY_RECEIVED
        if entry is not None and label.unit in self.expected:
            return self._compared(label, entry)
        if known.on_its_way_to not in {"", self.house.name}:
            return NOT_FOR_US
        return OVER if known.made else UNKNOWN_SERIAL

    def _compared(self, label: Label, entry: Entry) -> str:
        if label.lot and entry.lot and label.lot != entry.lot:
            return WRONG_LOT
        if label.expiry and entry.expiry and label.expiry != entry.expiry:
            return WRONG_EXPIRY
        elsewhere = label.container and label.container not in set(self.house.around(label.unit))
        return OTHER_CONTAINER if elsewhere else MATCH

    @property
    def received(self) -> tuple[str, ...]:
        """The units that were seen and are as advised, in the order of their scans."""
        return tuple(unit for unit, code in self.found.items() if code in GOOD)

    @property
    def put_aside(self) -> tuple[str, ...]:
        """The units that came and are not as advised."""
        return tuple(unit for unit, code in self.found.items() if code in _MARK_OF)

    def missing(self) -> tuple[str, ...]:
        """Return the packs that were advised and have not come."""
        packs = (unit for unit in self.expected if is_pack(self.house, unit))
        return tuple(sorted(unit for unit in packs if unit not in self.found and unit not in self.inferred))

    def close(self, *, at: int, day: str, recalled: set[str], samples_missing: bool = False) -> None:
        """Receive what is good, put aside what is not, and open a case for everything that is wrong.

        Args:
            at: When.
            day: Of the closing, where the goods are.
            recalled: What is under recall.
            samples_missing: Whether samples that were not scanned are not there.
        """
        if self.closed_at is not None:
            raise RefusedError("DELIVERY_CLOSED")
        self.inferred -= self.samples.finish(self.found, missing=samples_missing)
        house = self.house
        missing = self.missing()
        self._open_containers(missing)
        for unit in (unit for units in (*self.taken.values(), *self.absent.values()) for unit in units):
            house.put_into(unit, "")
        house.receive(self.received)
        for unit in self.put_aside:
            self._put_aside(unit)
        house.open_case("SHORTAGE", missing)
        for code, case in _CASE_OF.items():
            house.open_case(case, [unit for unit, found in self.found.items() if found == code])
        self.closed_at = at
        self.held = self._hold_flawed(day=day, recalled=recalled)

    def _open_containers(self, missing: Iterable[str]) -> None:
        """Say what came out of containers alone, and what is in none in which it should be: of those that came."""
        house = self.house
        elsewhere = [unit for unit in self.received if self.found[unit] == OTHER_CONTAINER]
        alone = [unit for unit in self.received if unit not in elsewhere and self._came_alone(unit)]
        self.taken = self._by_container((*alone, *self.put_aside))
        came = {*self.taken, *self.received}
        opened = came.union(*(house.around(unit) for unit in self.received))
        lost = dict.fromkeys(self._outermost(unit, opened) for unit in missing if came & {*house.around(unit)})
        self.absent = self._by_container((*elsewhere, *lost))

    def _outermost(self, unit: str, opened: Container[str]) -> str:
        """Return a missing unit, or what is missing with it: the outermost around it in which nobody has looked."""
        for container in self.house.around(unit):
            if container in opened:
                break
            unit = container
        return unit

    def _by_container(self, units: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for unit in units:
            parent = self.house.entries[unit].parent if unit in self.house.entries else ""
            if parent:
                found.setdefault(parent, []).append(unit)
        return found

    def _is_named(self, unit: str) -> bool:
        return self.found.get(unit) in GOOD

    def _came_alone(self, unit: str) -> bool:
        parent = self.house.entries[unit].parent
        return bool(parent) and not self._is_named(parent)

    def _put_aside(self, unit: str) -> None:
        house, label = self.house, self.labels[unit]
        if unit not in house.entries:
            house.add(unit, Entry(EXCEPTION))
        entry = house.entries[unit]
        entry.state, entry.exception, entry.inferred = EXCEPTION, _MARK_OF[self.found[unit]], False
        house.labels[unit] = (label.lot, label.expiry)

    def _hold_flawed(self, *, day: str, recalled: set[str]) -> dict[str, list[str]]:
        """Hold the packs that came as advised and may not be sold all the same; return them by the hold's code."""
        house = self.house
        packs = [part for unit in self.received for part in house.whole(unit) if is_pack(house, part)]
        damaged = {unit for unit, label in self.labels.items() if label.damaged}
        return hold_flawed(
            house,
            packs,
            day=day,
            recalled=recalled,
            damaged={pack for pack in packs if not damaged.isdisjoint((pack, *house.around(pack)))},
        )


def hold_flawed(
    house: House, packs: Iterable[str], *, day: str, recalled: Collection[str], damaged: Collection[str] = ()
) -> dict[str, list[str]]:
    """Hold packs that came and may not be sold, once for each reason, with its case; return them by the hold's code."""
    cases: dict[str, list[str]] = {}
    held: dict[str, list[str]] = {}
    for pack in packs:
        entry = house.entries[pack]
        faults = (
            ("RECALLED", pack in recalled),
            ("EXPIRED", bool(entry.expiry) and day > entry.expiry),
            ("DAMAGED", pack in damaged),
        )
        for code, applies in faults:
            if applies:
                cases.setdefault(code, []).append(pack)
            if applies and code not in entry.holds:
                held.setdefault(code, []).append(pack)
    for code, named in cases.items():
        house.open_case(code, named)
    for code, named in held.items():
        house.hold(named, reason=code)
    return held


def is_pack(house: House, unit: str) -> bool:
    """Tell whether a unit holds no others."""
    return is_trade_item(unit) and not house.contents.get(unit)
