"""Any sequence of verbs keeps the books sound: a search for one that does not."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from medtrail.errors import ConflictError
from medtrail.gs1 import Gln, Gtin, Sgtin, Sscc
from services.custody import dispensing, rules
from services.custody.holding import FINAL_STATES, Books, Ending, HoldingState
from services.custody.origin import Origin
from services.custody.recalls import RecallIndex
from services.custody.rules import Traits
from services.custody.units import Named, Unit
from tests.unit.custody.conftest import sscc

GTIN = Gtin("00300010123455")
UNITS: list[Unit] = [*(Sgtin(GTIN, str(serial)) for serial in range(5)), sscc(1), sscc(2), sscc(3)]
PARTNER = Gln("0399999999991")
NO_RECALLS = RecallIndex()
START = datetime(2026, 1, 1, tzinfo=UTC)

some_units = st.lists(st.sampled_from(UNITS), min_size=1, max_size=3, unique=True)


class BooksMachine(RuleBasedStateMachine):
    """Verbs in any order on one organisation's books; a refused verb is dropped whole, as a transaction is."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.number = 0
        self.final: dict[Unit, HoldingState] = {}
        self.commissioned: set[Unit] = set()

    def attempt(self, work: Callable[[Books, Origin], object]) -> bool:
        self.number += 1
        draft = Books(self.books)
        origin = Origin(f"urn:event:{self.number}", START + timedelta(minutes=self.number), location=PARTNER)
        try:
            work(draft, origin)
        except ConflictError:
            return False
        self.books = draft
        return True

    @rule(units=some_units)
    def commission(self, units: list[Unit]) -> None:
        before = set(self.books_units())
        if self.attempt(lambda b, o: rules.commission(b, named(units), o, Traits("L", date(2030, 1, 1)))):
            assert not before & set(units), "commissioned twice"

    @rule(parent=st.sampled_from(UNITS), units=some_units)
    def pack(self, parent: Unit, units: list[Unit]) -> None:
        before = set(self.books_units())
        if self.attempt(lambda b, o: rules.pack(b, Named(parent, "parent"), named(units), o)):
            assert set(units) <= before, "packed from nothing"
            assert parent in before or isinstance(parent, Sscc)

    @rule(parent=st.sampled_from(UNITS), units=st.lists(st.sampled_from(UNITS), max_size=2, unique=True))
    def unpack(self, parent: Unit, units: list[Unit]) -> None:
        self.attempt(lambda b, o: rules.unpack(b, Named(parent, "parent"), named(units), o))

    @rule(units=some_units, back=st.booleans())
    def ship(self, units: list[Unit], back: bool) -> None:
        self.attempt(lambda b, o: rules.ship(b, named(units), o, partner=PARTNER, recalls=NO_RECALLS, as_return=back))

    @rule(units=some_units, returned=st.booleans())
    def receive(self, units: list[Unit], returned: bool) -> None:
        self.attempt(lambda b, o: rules.receive(b, named(units), o, returned=returned))

    @rule(units=some_units)
    def void(self, units: list[Unit]) -> None:
        self.attempt(lambda b, o: rules.void_shipping(b, named(units), o))

    @rule(units=some_units)
    def hold(self, units: list[Unit]) -> None:
        self.attempt(lambda b, o: rules.hold(b, named(units), o, reason="x"))

    @rule(units=some_units)
    def release(self, units: list[Unit]) -> None:
        self.attempt(lambda b, o: rules.release(b, named(units), o))

    @rule(units=some_units, partial=st.booleans())
    def dispense(self, units: list[Unit], partial: bool) -> None:
        self.attempt(lambda b, o: dispensing.dispense(b, named(units), o, recalls=NO_RECALLS, partial=partial))

    @rule(units=some_units)
    def end(self, units: list[Unit]) -> None:
        self.attempt(lambda b, o: rules.end(b, named(units), o, ending=Ending.LOST))

    @rule(inputs=some_units, outputs=some_units)
    def transform(self, inputs: list[Unit], outputs: list[Unit]) -> None:
        self.attempt(lambda b, o: rules.transform(b, named(inputs), named(outputs), o, recalls=NO_RECALLS))

    def books_units(self) -> list[Unit]:
        return [holding.unit for holding in self.books]

    @invariant()
    def final_is_final(self) -> None:
        for holding in self.books:
            if holding.unit in self.final:
                assert holding.state is self.final[holding.unit]
            elif holding.state in FINAL_STATES:
                self.final[holding.unit] = holding.state

    @invariant()
    def containment_is_a_forest(self) -> None:
        for holding in self.books:
            containers = [container.unit for container in self.books.containers(holding.unit)]
            assert holding.unit not in containers
            if holding.parent is not None:
                assert self.books.get(holding.parent) is not None, "inside of nothing"
                assert holding in self.books.contents(holding.parent)
            for other in self.books:
                inside = holding in self.books.contents(other.unit)
                assert inside == (holding.parent == other.unit), "in two containers"

    @invariant()
    def contents_are_where_their_container_is(self) -> None:
        for holding in self.books:
            if holding.parent is None:
                continue
            container = self.books.get(holding.parent)
            assert container is not None
            assert container.here == holding.here
            assert container.final == holding.final or not container.final


def named(units: list[Unit]) -> list[Named]:
    return [Named(unit, f"epcs[{number}]") for number, unit in enumerate(units)]


TestBooks = BooksMachine.TestCase
TestBooks.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
