"""Any sequence of verbs leaves the books as a simple model says, which knows nothing of how they are kept.

The model: where each unit is, in which container, why it is on hold, how much is left of it. Every verb is judged by
it first; the books must agree on whether it may be, on every unit afterwards, and on what was taken out without a word.
The same is then told as fact: what may be changes the books likewise, and what may not raises an alert, and is kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from medtrail.errors import MedtrailError
from medtrail.gs1 import Gln, Gtin, OtherKey, Sgtin, Sscc
from services.custody.dispensing import Portion
from services.custody.holding import FINAL_STATES, Books, Ending, Holding, HoldingState
from services.custody.notices import ALERT_OF, AlertCode
from services.custody.origin import Origin
from services.custody.recalls import RecallIndex
from services.custody.rules import Traits
from services.custody.steps import Step, StepKind, apply_step
from services.custody.units import Named, Unit
from tests.unit.custody.conftest import CASE_GTIN, sscc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GTIN = Gtin("00300010123455")
TOTE = OtherKey("8003", "00300010000015TOTE7")
PACKS = [Sgtin(GTIN, str(serial)) for serial in range(5)]
UNITS: list[Unit] = [*PACKS, Sgtin(CASE_GTIN, "1"), sscc(1), sscc(2), TOTE]
PARTNER = Gln("0399999999991")
NO_RECALLS = RecallIndex()
START = datetime(2026, 1, 1, tzinfo=UTC)
WHOLE = 30
RETURNED = "returned, not verified yet"
HERE = {"here", "opened", "aside"}
AWAY = {"despatched", "returned"}
FINAL = {"dispensed", "ended", "consumed"}
PLACE_OF_STATE = {
    HoldingState.INBOUND: "inbound",
    HoldingState.ON_HAND: "here",
    HoldingState.DESPATCHED: "despatched",
    HoldingState.RETURNED: "returned",
    HoldingState.PARTIALLY_DISPENSED: "opened",
    HoldingState.DISPENSED: "dispensed",
    HoldingState.ENDED: "ended",
    HoldingState.CONSUMED: "consumed",
    HoldingState.EXCEPTION: "aside",
}

# Numbers choose among the units that fit, or, now and then, among all.
some = st.tuples(st.lists(st.integers(0, 99), min_size=1, max_size=3), st.integers(0, 5))
Some = tuple[list[int], int]


class RefusedError(Exception):
    """The model forbids it."""


class Model:
    """What each unit is, in dicts."""

    def __init__(self) -> None:
        self.place: dict[Unit, str] = {}
        self.parent: dict[Unit, Unit] = {}
        self.held: dict[Unit, set[str]] = {}
        self.left: dict[Unit, int] = {}
        self.delivery: dict[Unit, int] = {}
        self.inferred: set[Unit] = set()
        self.aside: set[Unit] = set()
        self.opened: set[Unit] = set()
        self.apart: list[Unit] = []
        self.moved: list[Unit] = []

    def copy(self) -> "Model":
        twin = Model()
        twin.place, twin.parent, twin.left = dict(self.place), dict(self.parent), dict(self.left)
        twin.held = {unit: set(reasons) for unit, reasons in self.held.items()}
        twin.delivery, twin.inferred = dict(self.delivery), set(self.inferred)
        twin.aside, twin.opened = set(self.aside), set(self.opened)
        return twin

    # --- containment ---

    def children(self, unit: Unit) -> list[Unit]:
        return [child for child, parent in self.parent.items() if parent == unit]

    def inside(self, unit: Unit) -> "Iterator[Unit]":
        for child in self.children(unit):
            yield child
            yield from self.inside(child)

    def above(self, unit: Unit) -> list[Unit]:
        found = []
        while unit in self.parent:
            unit = self.parent[unit]
            found.append(unit)
        return found

    def whole(self, unit: Unit) -> list[Unit]:
        return [unit, *self.inside(unit)]

    def outer(self, units: Sequence[Unit]) -> list[Unit]:
        return [unit for unit in units if not set(self.above(unit)) & set(units)]

    def alone(self, unit: Unit) -> None:
        if self.parent.pop(unit, None) is not None:
            self.apart.append(unit)

    # --- what is asked for ---

    def need(self, allowed: bool) -> None:
        if not allowed:
            raise RefusedError

    def saleable(self, unit: Unit) -> None:
        for part in self.whole(unit):
            self.need(self.place[part] == "here" and not self.held.get(part))

    def go(self, unit: Unit, place: str) -> None:
        for part in self.whole(unit):
            self.place[part] = place
            self.inferred.discard(part)
            if place == "ended":
                self.held.pop(part, None)

    def come(self, unit: Unit) -> None:
        """It is in the house again as it went."""
        self.place[unit] = "aside" if unit in self.aside else "opened" if unit in self.opened else "here"

    # --- verbs ---

    def commission(self, units: Sequence[Unit]) -> None:
        for unit in units:
            self.need(unit not in self.place)
            self.place[unit] = "here"

    def pack(self, parent: Unit, units: Sequence[Unit]) -> None:
        if parent not in self.place:
            self.need(not isinstance(parent, Sgtin))
            self.place[parent] = "here"
        elif parent == TOTE and self.place[parent] in AWAY:
            for child in self.children(parent):
                del self.parent[child]
            self.place[parent] = "here"
            self.aside.discard(parent)
            self.parent.pop(parent, None)
        elif parent == TOTE and self.place[parent] in HERE and parent in self.delivery:
            for child in self.children(parent):
                if self.delivery.get(child) == self.delivery[parent]:
                    self.alone(child)
            del self.delivery[parent]
        self.need(self.place[parent] == "here")
        for unit in self.outer(units):
            self.need(unit != parent and unit not in self.above(parent))
            self.need(self.place.get(unit) in HERE)
            if self.parent.get(unit) == parent:
                continue
            self.need(self.place[unit] == "here")
            if unit in self.parent:
                self.moved.append(unit)
            self.parent[unit] = parent
        self.inferred -= {parent, *units}

    def unpack(self, parent: Unit, units: Sequence[Unit]) -> None:
        place = self.place.get(parent)
        self.need(place in HERE or (bool(units) and place == "inbound"))
        for unit in units or self.children(parent):
            self.need(self.place.get(unit, "ended") not in FINAL and parent in self.above(unit))
            if self.parent[unit] != parent:
                self.apart.append(unit)
            del self.parent[unit]
        if not units and isinstance(parent, Sscc):
            self.alone(parent)
            self.go(parent, "ended")
        self.inferred -= {parent, *units}

    def ship(self, units: Sequence[Unit], *, back: bool, for_destruction: bool = False) -> None:
        going = self.outer(units)
        for unit in going:
            self.need(self.place.get(unit) in HERE)
            self.alone(unit)
            if back:
                self.need(for_destruction or self.opened.isdisjoint(self.whole(unit)))
            else:
                self.saleable(unit)
        for unit in going:
            self.go(unit, "returned" if back else "despatched")

    def void(self, units: Sequence[Unit]) -> None:
        for unit in self.outer(units):
            self.need(self.place.get(unit) in AWAY)
            self.alone(unit)
            for part in self.whole(unit):
                self.come(part)

    def receive(self, units: Sequence[Unit], *, returned: bool) -> None:
        expected = {"inbound", *AWAY} if returned else {"inbound"}
        for unit in sorted(units, key=lambda unit: len(self.above(unit))):
            place = self.place.get(unit)
            if place is None or (place in AWAY and not returned):
                self.put_aside(unit)
                continue
            if place in HERE and unit in self.parent:
                continue
            self.need(place in expected)
            self.alone(unit)
            for part in self.whole(unit):
                if self.place[part] in expected:
                    self.come(part)
                    self.inferred.add(part)
                    if returned:
                        self.held.setdefault(part, set()).add(RETURNED)
        self.inferred -= set(units)

    def put_aside(self, unit: Unit) -> None:
        self.alone(unit)
        if unit == TOTE and self.place.get(unit) in AWAY:
            for child in self.children(unit):
                del self.parent[child]
        for part in self.whole(unit):
            self.place[part] = "aside"
            self.aside.add(part)

    def hold(self, units: Sequence[Unit], reason: str) -> None:
        for unit in units:
            self.need(self.place.get(unit) in HERE and reason not in self.held.get(unit, ()))
        for unit in units:
            for part in self.whole(unit):
                self.held[part] = {*self.held.get(part, set()), reason}
        self.inferred -= set(units)

    def release(self, units: Sequence[Unit]) -> None:
        self.observe(units)
        for unit in [unit for unit in units if self.held.get(unit)]:
            for part in self.whole(unit):
                self.held.pop(part, None)

    def observe(self, units: Sequence[Unit]) -> None:
        for unit in units:
            self.need(self.place.get(unit) in HERE)
        self.inferred -= set(units)

    def dispense(self, units: Sequence[Unit], quantity: int, rest: int) -> None:
        for unit in units:
            self.need(self.place.get(unit) in HERE)
            self.alone(unit)
            self.need(not self.children(unit) and self.place[unit] != "aside" and not self.held.get(unit))
            known = self.left.get(unit)
            self.need(not quantity or known is None or quantity <= known)
            if quantity:
                self.left[unit] = rest if known is None else known - quantity
            elif known is not None:
                self.left[unit] = 0
            self.place[unit] = "opened" if rest else "dispensed"
            if rest:
                self.opened.add(unit)
            self.inferred.discard(unit)

    def end(self, units: Sequence[Unit]) -> None:
        for unit in self.outer(units):
            self.need(self.place.get(unit) in HERE)
            self.alone(unit)
            self.go(unit, "ended")

    def transform(self, inputs: Sequence[Unit], outputs: Sequence[Unit]) -> None:
        for unit in self.outer(inputs):
            self.need(self.place.get(unit) in HERE)
            self.alone(unit)
            self.saleable(unit)
            self.go(unit, "consumed")
        self.commission(outputs)


class BooksMachine(RuleBasedStateMachine):
    """Verbs in any order on one organisation's books; a refused verb is dropped whole, as a transaction is."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.model = Model()
        self.number = 0
        self.final: dict[Unit, HoldingState] = {}
        stock = UNITS[:6]
        step = Step(StepKind.COMMISSION, named(stock), traits=Traits("L", date(2030, 1, 1)))
        self.attempt(step, lambda model: model.commission(stock))

    def pick(self, some: Some, places: set[str], among: Sequence[Unit] = UNITS) -> list[Unit]:
        """Return units that are in one of some places, or now and then any."""
        numbers, chance = some
        fitting = [unit for unit in among if self.model.place.get(unit, "nowhere") in places]
        pool = fitting if fitting and chance else among
        return list(dict.fromkeys(pool[number % len(pool)] for number in numbers))

    def attempt(self, step: Step, judge: "Callable[[Model], None]") -> None:
        self.number += 1
        origin = Origin(f"urn:event:{self.number}", START + timedelta(minutes=self.number), location=PARTNER)
        expected: Model | None = self.model.copy()
        assert expected is not None
        try:
            judge(expected)
        except RefusedError:
            expected = None
        wanted, told = Books(self.books), Books(self.books)
        try:
            apply_step(wanted, step, origin, recalls=NO_RECALLS)
        except MedtrailError as error:
            code = error.code
        else:
            code = ""
        if code or expected is None:
            assert code, "refused by the model only"
            assert expected is None, f"refused by {code}, and not by the model"
            self.tell_what_may_not_be(told, step, replace(origin, happened=True), code)
            return
        notices = wanted.take_notices()
        apart = {(AlertCode.PARENT_NOT_UNPACKED, unit) for unit in expected.apart}
        moved = {(AlertCode.DOUBLE_CONTAINER, unit) for unit in expected.moved}
        assert {(notice.code, notice.unit) for notice in notices} == apart | moved
        apply_step(told, step, replace(origin, happened=True), recalls=NO_RECALLS)
        assert told.take_notices() == notices
        assert set(told) == set(wanted), "what may be is told as it is done"
        self.books, self.model = wanted, expected

    def tell_what_may_not_be(self, books: Books, step: Step, origin: Origin, code: str) -> None:
        finals = {holding.unit: holding.state for holding in books if holding.final and holding.ending != "emptied"}
        if step.kind is StepKind.PACK and step.parent and step.parent.unit in {item.unit for item in step.units}:
            # That a container holds itself is no fact.
            return
        apply_step(books, step, origin, recalls=NO_RECALLS)
        alerts = {notice.code for notice in books.take_notices()}
        if code not in {"ALREADY_ON_HOLD", "NOT_ON_HOLD"}:
            silent = code in {"UNIT_FINAL", "NOT_ON_HAND"} and step.kind in {StepKind.END, StepKind.SHIP}
            assert alerts or silent or step.kind is StepKind.SEND_BACK, code
            assert alerts <= {*ALERT_OF.values(), AlertCode.PARENT_NOT_UNPACKED, AlertCode.DOUBLE_CONTAINER}
        for unit, state in finals.items():
            after = books.get(unit)
            assert after is not None
            assert after.state is state, "an end stands whatever is told"
        check_forest(books)

    # --- verbs ---

    @rule(some=some)
    def commission(self, some: Some) -> None:
        units = self.pick(some, {"nowhere"})
        step = Step(StepKind.COMMISSION, named(units), traits=Traits("L", date(2030, 1, 1)))
        self.attempt(step, lambda model: model.commission(units))

    @rule(parent=some, some=some)
    def pack(self, parent: Some, some: Some) -> None:
        container = self.pick(parent, {"here", "nowhere"}, UNITS[-4:])[0]
        units = self.pick(some, {"here"})
        step = Step(StepKind.PACK, named(units), Named(container, "parent"))
        self.attempt(step, lambda model: model.pack(container, units))

    @rule(some=some)
    def refill(self, some: Some) -> None:
        units = self.pick(some, {"here"})
        self.attempt(Step(StepKind.PACK, named(units), Named(TOTE, "parent")), lambda model: model.pack(TOTE, units))

    @rule(parent=some, some=some, whole=st.booleans())
    def unpack(self, parent: Some, some: Some, whole: bool) -> None:
        container = self.pick(parent, HERE, UNITS[-4:])[0]
        inside = self.model.children(container)
        units = [] if whole else self.pick(some, HERE, inside or UNITS)
        step = Step(StepKind.UNPACK, named(units), Named(container, "parent"))
        self.attempt(step, lambda model: model.unpack(container, units))

    @rule(parent=some, some=some)
    def advise(self, parent: Some, some: Some) -> None:
        """A partner despatches a container of goods that are not known here."""
        self.number += 1
        container = self.pick(parent, {"nowhere"}, UNITS[-4:])[0]
        goods = [unit for unit in self.pick(some, {"nowhere"}) if unit != container]
        if any(unit in self.model.place for unit in (container, *goods)):
            return
        moment, despatch_id = START + timedelta(minutes=self.number), f"d{self.number}"
        for unit in (container, *goods):
            inside = None if unit == container else container
            self.books.put(Holding(unit, HoldingState.INBOUND, despatch_id, moment, inside, despatch_id=despatch_id))
            self.model.place[unit] = "inbound"
            self.model.delivery[unit] = self.number
            if inside is not None:
                self.model.parent[unit] = inside
        self.books.take_changes()

    @rule(some=some, back=st.booleans(), for_destruction=st.booleans())
    def ship(self, some: Some, back: bool, for_destruction: bool) -> None:
        units = self.pick(some, HERE if back else {"here"})
        kind = StepKind.SEND_BACK if back else StepKind.SHIP
        step = Step(kind, named(units), partner=PARTNER, opened=for_destruction)
        self.attempt(step, lambda model: model.ship(units, back=back, for_destruction=for_destruction))

    @rule(some=some, returned=st.booleans())
    def receive(self, some: Some, returned: bool) -> None:
        units = self.pick(some, {"inbound", *AWAY})
        step = Step(StepKind.TAKE_BACK if returned else StepKind.RECEIVE, named(units))
        self.attempt(step, lambda model: model.receive(units, returned=returned))

    @rule(some=some)
    def void(self, some: Some) -> None:
        units = self.pick(some, AWAY)
        self.attempt(Step(StepKind.VOID_SHIPPING, named(units)), lambda model: model.void(units))

    @rule(some=some, reason=st.sampled_from(["leaking", "SUSPECT: looks odd"]))
    def hold(self, some: Some, reason: str) -> None:
        units = self.pick(some, HERE)
        self.attempt(Step(StepKind.HOLD, named(units), reason=reason), lambda model: model.hold(units, reason))

    @rule(some=some)
    def release(self, some: Some) -> None:
        units = self.pick(some, HERE, [unit for unit in UNITS if self.model.held.get(unit)] or UNITS)
        self.attempt(Step(StepKind.RELEASE, named(units)), lambda model: model.release(units))

    @rule(some=some)
    def observe(self, some: Some) -> None:
        units = self.pick(some, HERE)
        self.attempt(Step(StepKind.OBSERVE, named(units)), lambda model: model.observe(units))

    @rule(some=some, quantity=st.sampled_from([0, 7, 7, 15, 30]))
    def dispense(self, some: Some, quantity: int) -> None:
        unit = self.pick(some, {"here", "opened"}, PACKS)[0]
        left = self.model.left.get(unit, WHOLE)
        rest = max(left - quantity, 0) if quantity else 0
        portion = Portion(Decimal(quantity), Decimal(rest), "EA") if quantity else None
        kind = StepKind.DISPENSE_PART if rest else StepKind.DISPENSE
        step = Step(kind, named([unit]), portion=portion)
        self.attempt(step, lambda model: model.dispense([unit], quantity, rest))

    @rule(some=some)
    def end(self, some: Some) -> None:
        units = self.pick(some, HERE)[:1]
        step = Step(StepKind.END, named(units), ending=Ending.LOST)
        self.attempt(step, lambda model: model.end(units))

    @rule(inputs=some, outputs=some)
    def transform(self, inputs: Some, outputs: Some) -> None:
        old, new = self.pick(inputs, {"here"})[:1], self.pick(outputs, {"nowhere"})[:1]
        step = Step(StepKind.TRANSFORM, named(old), outputs=named(new))
        self.attempt(step, lambda model: model.transform(old, new))

    # --- what holds after each ---

    @invariant()
    def books_are_as_the_model_says(self) -> None:
        model = self.model
        found = {holding.unit: holding for holding in self.books}
        assert found.keys() == model.place.keys()
        for unit, holding in found.items():
            assert PLACE_OF_STATE[holding.state] == model.place[unit], unit
            assert holding.parent == model.parent.get(unit), unit
            if not holding.final:
                assert set(holding.hold_reason.splitlines()) == model.held.get(unit, set()), unit
                assert holding.inferred == (unit in model.inferred), unit
            left = model.left.get(unit)
            assert holding.remainder == (None if left is None else Decimal(left)), unit

    @invariant()
    def final_is_final(self) -> None:
        for holding in self.books:
            if holding.unit in self.final:
                assert holding.state is self.final[holding.unit]
            elif holding.state in FINAL_STATES:
                self.final[holding.unit] = holding.state

    @invariant()
    def containment_is_a_forest(self) -> None:
        check_forest(self.books)
        for holding in self.books:
            container = None if holding.parent is None else self.books.get(holding.parent)
            if container is not None:
                assert container.here == holding.here, "contents are where their container is"
                assert container.final == holding.final or not container.final


def check_forest(books: Books) -> None:
    for holding in books:
        containers = [container.unit for container in books.containers(holding.unit)]
        assert holding.unit not in containers
        if holding.parent is not None:
            assert books.get(holding.parent) is not None, "inside of nothing"
            assert holding in books.contents(holding.parent)
        for other in books:
            inside = holding in books.contents(other.unit)
            assert inside == (holding.parent == other.unit), "in two containers"


def named(units: Sequence[Unit]) -> tuple[Named, ...]:
    return tuple(Named(unit, f"epcs[{number}]") for number, unit in enumerate(units))


TestBooks = BooksMachine.TestCase
TestBooks.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
