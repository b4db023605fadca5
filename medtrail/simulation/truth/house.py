"""One party's goods as they are, in the order in which the party hears and does things: plain dicts, and the rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from medtrail.simulation.acts import is_logistic, is_trade_item

INBOUND = "inbound"
ON_HAND = "on_hand"
DESPATCHED = "despatched"
RETURNED = "returned"
OPENED = "partially_dispensed"
DISPENSED = "dispensed"
CONSUMED = "consumed"
ENDED = "ended"
EXCEPTION = "exception"

NONE: frozenset[str] = frozenset()
FINAL = frozenset({DISPENSED, CONSUMED, ENDED})
HERE = frozenset({ON_HAND, OPENED, EXCEPTION})
AWAY = frozenset({DESPATCHED, RETURNED})

UNADVISED = "UNADVISED"
_WITHOUT_DATA = ("OVERAGE", "SERIAL_UNKNOWN", "CONCEALED_OVERAGE")
UNVERIFIED_RETURN = "RETURN_UNVERIFIED"


class RefusedError(Exception):
    """The rules forbid an act; ``args[0]`` is the code that the house answers with."""

    @property
    def code(self) -> str:
        """The answer's code."""
        return str(self.args[0])


@dataclass(slots=True)
class Entry:
    """A unit in one house's books.

    Attributes:
        partner: The other party where it is inbound, despatched, sent back, or where it came from.
        holds: Codes of why it may not be sold, or might not when it went; empty when it may.
        exception: Code of what is wrong with it, or was when it went.
        inferred: It came inside something that was seen, and was not seen itself.
        remainder: What is left of an opened pack; None where nobody counts.
        despatch: Name of the act that brings or brought it.
        sold_to: The party to which it went last.
        opened: A part of it was handed out.
    """

    state: str
    parent: str = ""
    lot: str = ""
    expiry: str = ""
    partner: str = ""
    holds: frozenset[str] = NONE
    exception: str = ""
    ending: str = ""
    inferred: bool = False
    remainder: Decimal | None = None
    despatch: str = ""
    sold_to: str = ""
    opened: bool = False

    def come(self) -> None:
        """Let it be in the house as it went."""
        self.state = EXCEPTION if self.exception else OPENED if self.opened else ON_HAND


@dataclass(frozen=True, slots=True)
class Portion:
    """So much is taken of a pack; ``whole`` is what a whole one holds."""

    taken: Decimal
    whole: Decimal

    def left_of(self, entry: Entry) -> Decimal:
        """Return what is left of a pack afterwards."""
        return (self.whole if entry.remainder is None else entry.remainder) - self.taken


@dataclass(slots=True)
class Advised:
    """A unit of an advice: its container in it, and what its maker said."""

    unit: str
    parent: str
    lot: str
    expiry: str


@dataclass(slots=True)
class Case:
    """Something that is the matter with a unit: the units of its case, and whether this one is settled."""

    units: tuple[str, ...]
    settled: bool = False


@dataclass(slots=True)
class House:
    """One party's books.

    Attributes:
        alerts: (code, unit) of what the house was warned of.
        cases: What is or was the matter, by (code, unit).
        labels: Lot and expiry as read off what is put aside.
    """

    name: str
    entries: dict[str, Entry] = field(default_factory=dict)
    contents: dict[str, dict[str, None]] = field(default_factory=dict)
    alerts: set[tuple[str, str]] = field(default_factory=set)
    cases: dict[tuple[str, str], Case] = field(default_factory=dict)
    labels: dict[str, tuple[str, str]] = field(default_factory=dict)

    # --- looking ---

    def inside(self, unit: str) -> Iterator[str]:
        """Yield all that is inside a unit, containers first."""
        waiting = list(self.contents.get(unit, ()))
        while waiting:
            child = waiting.pop()
            yield child
            waiting.extend(self.contents.get(child, ()))

    def whole(self, unit: str) -> tuple[str, ...]:
        """Return a unit and all that is inside."""
        return (unit, *self.inside(unit))

    def around(self, unit: str) -> Iterator[str]:
        """Yield what a unit is inside of, nearest first."""
        parent = self.entries[unit].parent if unit in self.entries else ""
        while parent:
            yield parent
            parent = self.entries[parent].parent if parent in self.entries else ""

    def known(self, unit: str) -> Entry:
        """Return a unit that lives; refuse any other."""
        entry = self.entries.get(unit)
        if entry is None:
            raise RefusedError("UNIT_UNKNOWN")
        if entry.state in FINAL:
            raise RefusedError("UNIT_FINAL")
        return entry

    def here(self, unit: str) -> Entry:
        """Return a unit that is in the house; refuse any other."""
        entry = self.known(unit)
        if entry.state not in HERE:
            raise RefusedError("NOT_ON_HAND")
        return entry

    def on_hand(self, unit: str) -> Entry:
        """Return a unit that is here, whole and with its data; refuse any other."""
        entry = self.here(unit)
        self.check_whole(entry)
        return entry

    @staticmethod
    def check_whole(entry: Entry) -> None:
        """Refuse what is opened, or put aside for its data."""
        if entry.state == OPENED:
            raise RefusedError("UNIT_OPENED")
        if entry.state == EXCEPTION:
            raise RefusedError("UNIT_EXCEPTION")

    # --- moving ---

    def put_into(self, unit: str, parent: str) -> None:
        """Put a unit into a container, or out of all of them."""
        entry = self.entries[unit]
        if entry.parent:
            self.contents[entry.parent].pop(unit, None)
        entry.parent = parent
        if parent:
            self.contents.setdefault(parent, {})[unit] = None

    def take_alone(self, unit: str) -> None:
        """Take a unit out of a container that nobody said was opened: with a warning, never a refusal."""
        if self.entries[unit].parent:
            self.alerts.add(("PARENT_NOT_UNPACKED", unit))
            self.put_into(unit, "")

    def add(self, unit: str, entry: Entry) -> None:
        """Put a unit into the books."""
        if unit in self.entries:
            self.put_into(unit, "")
        parent, entry.parent = entry.parent, ""
        self.entries[unit] = entry
        self.put_into(unit, parent)

    def forget(self, unit: str) -> None:
        """Take a unit out of the books: what told of it does not hold."""
        self.put_into(unit, "")
        del self.entries[unit]

    # --- making and packing ---

    def commission(self, units: Sequence[str], *, lot: str, expiry: str) -> None:
        """Give life to units."""
        if any(unit in self.entries for unit in units):
            raise RefusedError("ALREADY_COMMISSIONED")
        for unit in units:
            trade = is_trade_item(unit)
            self.add(unit, Entry(ON_HAND, lot=lot if trade else "", expiry=expiry if trade else ""))

    def pack(self, parent: str, children: Sequence[str]) -> None:
        """Put units into a container; one without a trade item number comes into being by it."""
        if parent not in self.entries and not is_trade_item(parent):
            self.add(parent, Entry(ON_HAND))
        self.on_hand(parent)
        for child in children:
            self.on_hand(child)
        for child in children:
            self.take_alone(child)
            self.put_into(child, parent)

    def unpack(self, parent: str, children: Sequence[str]) -> None:
        """Take units out of a container; none named means all, and ends the use of a logistic unit."""
        container = self.known(parent)
        if container.state not in HERE and not (children and container.state == INBOUND):
            raise RefusedError("NOT_ON_HAND")
        for child in children:
            if self.known(child).parent != parent:
                raise RefusedError("NOT_IN_CONTAINER")
        for child in children or tuple(self.contents.get(parent, ())):
            self.put_into(child, "")
        if not children and is_logistic(parent):
            self.take_alone(parent)
            self._end(parent, "emptied")

    def _end(self, unit: str, how: str) -> None:
        entry = self.entries[unit]
        entry.state, entry.ending, entry.holds, entry.exception = ENDED, how, NONE, ""

    # --- coming and going ---

    def advise(self, goods: Sequence[Advised], *, sender: str, despatch: str) -> tuple[str, ...]:
        """Take in what a partner says is on its way.

        Returns:
            What came before its data and is received now.
        """
        arrived: set[str] = set()
        settled = []
        for item in goods:
            before = self.entries.get(item.unit)
            waited = before is not None and before.state == EXCEPTION and before.exception == UNADVISED
            inside = item.parent in arrived and before is None
            if before is not None and not waited and (before.state in FINAL or before.state in HERE):
                continue
            has_come = waited or inside
            entry = Entry(
                ON_HAND if has_come else INBOUND,
                item.parent if (item.parent in arrived) == has_come else "",
                item.lot,
                item.expiry,
                partner=sender,
                despatch=despatch,
                inferred=inside,
                sold_to="" if before is None else before.sold_to,
            )
            self.add(item.unit, entry)
            if waited and self._differs(item.unit, entry):
                continue
            if has_come:
                arrived.add(item.unit)
            if waited:
                settled.append(item.unit)
                self.resolve_cases(item.unit, *_WITHOUT_DATA)
        return tuple(settled)

    def _differs(self, unit: str, entry: Entry) -> bool:
        """Put aside once more what has data now that are not those on its label."""
        lot, expiry = self.labels.get(unit, ("", ""))
        for code, read, said in (("LOT_MISMATCH", lot, entry.lot), ("EXPIRY_MISMATCH", expiry, entry.expiry)):
            if read and said and read != said:
                entry.state, entry.exception = EXCEPTION, code
                for old in _WITHOUT_DATA:
                    if self.cases.pop((old, unit), None) is not None:
                        self.open_case(code, (unit,))
                return True
        return False

    def receive(self, units: Sequence[str], *, returned: bool = False) -> tuple[str, ...]:
        """Take delivery of units with all that is inside; what nobody advised is put aside, and returned."""
        aside = []
        expected = {INBOUND, *AWAY} if returned else {INBOUND}
        for unit in sorted(units, key=lambda item: sum(1 for _ in self.around(item))):
            entry = self.entries.get(unit)
            if entry is None or (entry.state in AWAY and not returned):
                self._put_aside(unit)
                aside.append(unit)
                continue
            if entry.state in HERE and entry.parent:
                entry.inferred = False
                continue
            if entry.state not in expected:
                raise RefusedError("UNIT_FINAL" if entry.state in FINAL else "ALREADY_RECEIVED")
            if entry.parent and entry.state != INBOUND:
                self.put_into(unit, "")
            for part in self.whole(unit):
                if self.entries[part].state in expected:
                    self._arrive(part, seen=part in units, returned=returned)
        return tuple(aside)

    def _arrive(self, unit: str, *, seen: bool, returned: bool) -> None:
        entry = self.entries[unit]
        entry.come()
        entry.inferred = not seen
        if returned:
            entry.holds |= {UNVERIFIED_RETURN}

    def _put_aside(self, unit: str) -> None:
        if unit not in self.entries:
            self.add(unit, Entry(ON_HAND))
        self.put_into(unit, "")
        for part in self.whole(unit):
            self.entries[part].state, self.entries[part].exception = EXCEPTION, UNADVISED

    def ship(self, units: Sequence[str], *, to: str, day: str, recalled: set[str], back: bool) -> None:
        """Send units away with all that is inside."""
        for unit in units:
            if back:
                self.here(unit)
            else:
                self.on_hand(unit)
            for part in self.whole(unit):
                self._check_may_go(self.entries[part], day=day, back=back)
            if not back and recalled & {*self.whole(unit), *self.around(unit)}:
                raise RefusedError("UNIT_RECALLED")
        for unit in units:
            self.take_alone(unit)
            for part in self.whole(unit):
                entry = self.entries[part]
                entry.state = RETURNED if back else DESPATCHED
                entry.partner = to
                if not back:
                    entry.sold_to = to

    @staticmethod
    def _check_may_go(entry: Entry, *, day: str, back: bool) -> None:
        if back:
            if entry.state == OPENED:
                raise RefusedError("UNIT_OPENED")
            return
        House.check_whole(entry)
        if entry.holds:
            raise RefusedError("UNIT_ON_HOLD")
        if entry.expiry and day > entry.expiry:
            raise RefusedError("UNIT_EXPIRED")

    # --- in the house ---

    def hold(self, units: Sequence[str], *, reason: str) -> None:
        """Put units aside, with all that is inside; for the same reason once only."""
        for unit in units:
            if reason in self.here(unit).holds:
                raise RefusedError("ALREADY_ON_HOLD")
        for unit in units:
            for part in self.whole(unit):
                self.entries[part].holds |= {reason}

    def release(self, units: Sequence[str]) -> None:
        """End all holds."""
        for unit in units:
            if not self.here(unit).holds:
                raise RefusedError("NOT_ON_HOLD")
        for unit in units:
            for part in self.whole(unit):
                self.entries[part].holds = NONE

    # --- exceptions ---

    def open_case(self, code: str, units: Sequence[str]) -> None:
        """Say that something is the matter with units: one case, which ends when nothing is with any of them."""
        group = tuple(units)
        for unit in units:
            self.cases[code, unit] = Case(group)

    def resolve_cases(self, unit: str, *codes: str) -> None:
        """Say that nothing is the matter with a unit any more."""
        for code in codes:
            if (code, unit) in self.cases:
                self.cases[code, unit].settled = True

    def exceptions(self) -> Iterator[tuple[str, str, str]]:
        """Yield code, unit, and whether the case is open or resolved."""
        for (code, unit), case in self.cases.items():
            others = (self.cases.get((code, other)) for other in case.units)
            settled = all(other is None or other.settled for other in others)
            yield code, unit, "resolved" if settled else "open"

    def dispense(
        self, units: Sequence[str], *, day: str, recalled: set[str], part: bool, portion: Portion | None = None
    ) -> None:
        """Hand packs to patients, whole or in part; of what is counted never more than is left."""
        for unit in units:
            entry = self.known(unit)
            if entry.state != OPENED:
                self.on_hand(unit)
            if entry.holds:
                raise RefusedError("UNIT_ON_HOLD")
            if entry.expiry and day > entry.expiry:
                raise RefusedError("UNIT_EXPIRED")
            if unit in recalled:
                raise RefusedError("UNIT_RECALLED")
            if portion is not None and portion.left_of(entry) < 0:
                raise RefusedError("QUANTITY_ABOVE_REST")
        for unit in units:
            self.put_into(unit, "")
            entry = self.entries[unit]
            entry.state = OPENED if part else DISPENSED
            entry.inferred = False
            if portion is not None:
                entry.remainder = portion.left_of(entry)
                entry.state = OPENED if entry.remainder else DISPENSED
            entry.opened = entry.opened or entry.state == OPENED

    def end(self, units: Sequence[str], *, how: str) -> None:
        """End the life of units with all that is inside."""
        for unit in units:
            self.here(unit)
        for unit in units:
            self.put_into(unit, "")
            for part in self.whole(unit):
                self._end(part, how)
