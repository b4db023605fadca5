"""Every alert of the books, named after its code: what raises it, and what comes close and does not.

What has happened is recorded whether it should have or not; the same is refused where it is only wanted.
"""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.errors import MedtrailError
from medtrail.event import Recall, RecallScope
from medtrail.gs1 import Gln, OtherKey, Sgtin
from services.custody.dispensing import Portion
from services.custody.holding import Books, Ending, Holding, HoldingState
from services.custody.notices import ALERT_OF, AlertCode
from services.custody.origin import Origin
from services.custody.recalls import KnownRecall, RecallIndex
from services.custody.rules import Traits
from services.custody.steps import Step, StepKind, apply_step
from services.custody.units import Named
from tests.unit.custody.conftest import CASE_GTIN, GTIN, named, packs, sscc

if TYPE_CHECKING:
    from services.custody.units import Unit

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXPIRY = date(2028, 3, 31)
PLACE = Gln("0300011111116")
PARTNER = Gln("0399999999991")
PACK, OTHER = packs(1, 2)
CASE = Sgtin(CASE_GTIN, "110")
PALLET = sscc(1)
TOTE = OtherKey("8003", "00300010000015TOTE7")
NO_RECALLS = RecallIndex()
RECALLED = RecallIndex([KnownRecall("urn:uuid:R1", PLACE, Recall("R1", "retail", "why", "", T0, (RecallScope(GTIN),)))])


def origin(*, happened: bool, time: datetime = T0) -> Origin:
    return Origin("urn:event:9", time, location=PLACE, happened=happened)


def stock(*units: "Unit") -> Books:
    made = Books()
    step = Step(StepKind.COMMISSION, named(units), traits=Traits("A123", EXPIRY))
    apply_step(made, step, replace(origin(happened=False), event_id="urn:event:1"), recalls=NO_RECALLS)
    made.take_changes()
    return made


def step(kind: StepKind, *units: "Unit", parent: "Unit | None" = None, portion: Portion | None = None) -> Step:
    ending = Ending.DESTROYED if kind is StepKind.END else Ending.DECOMMISSIONED
    container = None if parent is None else Named(parent, "parent")
    return Step(kind, named(units), container, partner=PARTNER, reason="x", ending=ending, portion=portion)


def happened(
    books: Books, what: Step, *, recalls: RecallIndex = NO_RECALLS, time: datetime = T0
) -> list[tuple[str, str]]:
    """Record what has happened; return the alerts as (code, unit)."""
    apply_step(books, what, origin(happened=True, time=time), recalls=recalls)
    return [(notice.code.value, notice.unit.path) for notice in books.take_notices()]


def refused(books: Books, what: Step, *, recalls: RecallIndex = NO_RECALLS, time: datetime = T0) -> str:
    """Want the same; return the code of the refusal."""
    with pytest.raises(MedtrailError) as caught:
        apply_step(books, what, origin(happened=False, time=time), recalls=recalls)
    return caught.value.code


def state(books: Books, unit: "Unit") -> HoldingState:
    holding = books.get(unit)
    assert holding is not None
    return holding.state


def put(books: Books, unit: "Unit", **changes: object) -> Books:
    holding = books.get(unit)
    assert holding is not None
    books.change(holding, **changes)
    return books


def packed() -> Books:
    books = stock(PACK, CASE)
    assert happened(books, step(StepKind.PACK, PACK, parent=CASE)) == []
    return books


SELLING = [StepKind.SHIP, StepKind.DISPENSE, StepKind.TRANSFORM]


def alert(code: str, unit: "Unit") -> list[tuple[str, str]]:
    return [(code, unit.path)]


@pytest.mark.parametrize(
    "kind",
    [StepKind.SHIP, StepKind.SEND_BACK, StepKind.DISPENSE, StepKind.END, StepKind.TRANSFORM],
)
def test_parent_not_unpacked_where_a_child_goes_alone(kind: StepKind) -> None:
    books = packed()
    assert happened(books, step(kind, PACK)) == alert("PARENT_NOT_UNPACKED", PACK)
    assert books.contents(CASE) == ()
    # Neither is it refused where it is only wanted: no sale is blocked by it.
    apply_step(packed(), step(kind, PACK), origin(happened=False), recalls=NO_RECALLS)


def test_no_parent_not_unpacked_where_it_was_unpacked_or_goes_with_its_container() -> None:
    books = packed()
    assert happened(books, step(StepKind.UNPACK, PACK, parent=CASE)) == []
    assert happened(books, step(StepKind.DISPENSE, PACK)) == []
    assert happened(packed(), step(StepKind.SHIP, CASE, PACK)) == []
    for kind in (StepKind.OBSERVE, StepKind.HOLD):
        assert happened(packed(), step(kind, PACK)) == []


def test_second_commissioning_of_a_serial_number_that_exists() -> None:
    books = stock(PACK)
    assert happened(books, step(StepKind.COMMISSION, PACK)) == alert("SECOND_COMMISSIONING", PACK)
    holding = books.get(PACK)
    assert holding is not None
    assert (holding.event_id, holding.lot) == ("urn:event:1", "A123")
    assert refused(books, step(StepKind.COMMISSION, PACK)) == "ALREADY_COMMISSIONED"


def test_no_second_commissioning_of_another_serial_number() -> None:
    assert happened(stock(PACK), step(StepKind.COMMISSION, OTHER)) == []


@pytest.mark.parametrize("kind", [*SELLING, StepKind.SEND_BACK, StepKind.END, StepKind.OBSERVE, StepKind.HOLD])
@pytest.mark.parametrize("away", [None, HoldingState.INBOUND, HoldingState.DESPATCHED, HoldingState.RETURNED])
def test_not_held_where_the_books_know_nothing_or_place_it_elsewhere(kind: StepKind, away: HoldingState | None) -> None:
    def books() -> Books:
        return Books() if away is None else put(stock(PACK), PACK, state=away)

    assert happened(books(), step(kind, PACK)) == alert("NOT_HELD", PACK)
    assert refused(books(), step(kind, PACK)) == ("UNIT_UNKNOWN" if away is None else "NOT_ON_HAND")


def test_not_held_and_what_happened_stands_in_the_books() -> None:
    books = Books([Holding(CASE, HoldingState.INBOUND, "e", T0), Holding(PACK, HoldingState.INBOUND, "e", T0, CASE)])
    assert happened(books, step(StepKind.SHIP, CASE)) == alert("NOT_HELD", CASE)
    assert (state(books, PACK), state(books, CASE)) == (HoldingState.DESPATCHED, HoldingState.DESPATCHED)
    assert happened(books, step(StepKind.PACK, OTHER, parent=TOTE)) == alert("NOT_HELD", OTHER)
    assert [part.unit for part in books.contents(TOTE)] == [OTHER]


def test_no_not_held_where_it_is_held() -> None:
    for kind in (*SELLING, StepKind.END, StepKind.OBSERVE):
        assert happened(stock(PACK), step(kind, PACK)) == []


@pytest.mark.parametrize(
    "kind",
    [*SELLING, StepKind.SEND_BACK, StepKind.END, StepKind.OBSERVE, StepKind.HOLD, StepKind.RECEIVE,
     StepKind.VOID_SHIPPING],
)  # fmt: skip
def test_used_after_end_and_the_end_stands(kind: StepKind) -> None:
    books = put(stock(PACK), PACK, state=HoldingState.DISPENSED)
    assert happened(books, step(kind, PACK)) == alert("USED_AFTER_END", PACK)
    assert state(books, PACK) is HoldingState.DISPENSED
    assert refused(books, step(kind, PACK)) == "UNIT_FINAL"


@pytest.mark.parametrize("kind", [StepKind.PACK, StepKind.UNPACK])
def test_used_after_end_in_a_container(kind: StepKind) -> None:
    books = put(packed(), PACK, state=HoldingState.DISPENSED, parent=None)
    assert happened(books, step(kind, PACK, parent=CASE)) == alert("USED_AFTER_END", PACK)
    assert books.contents(CASE) == ()
    books = put(stock(PACK, CASE), CASE, state=HoldingState.DISPENSED)
    assert happened(books, step(kind, PACK, parent=CASE))[0] == ("USED_AFTER_END", CASE.path)
    assert state(books, CASE) is HoldingState.DISPENSED


def test_used_after_end_of_an_emptied_pallet_that_is_filled_again() -> None:
    books = stock(PACK, OTHER)
    happened(books, step(StepKind.PACK, PACK, parent=PALLET))
    happened(books, step(StepKind.UNPACK, parent=PALLET))
    assert happened(books, step(StepKind.PACK, OTHER, parent=PALLET)) == alert("USED_AFTER_END", PALLET)
    assert (state(books, PALLET), [part.unit for part in books.contents(PALLET)]) == (HoldingState.ON_HAND, [OTHER])


def test_no_used_after_end_of_what_is_destroyed_after_it_was_taken_out_of_use() -> None:
    books = stock(PACK)
    happened(books, replace(step(StepKind.END, PACK), ending=Ending.DAMAGED))
    assert happened(books, step(StepKind.END, PACK)) == []
    holding = books.get(PACK)
    assert holding is not None
    assert holding.ending is Ending.DESTROYED
    assert refused(books, step(StepKind.END, PACK)) == "UNIT_FINAL"


def test_no_not_held_where_a_despatch_is_only_said_again() -> None:
    books = packed()
    happened(books, step(StepKind.SHIP, CASE))
    assert happened(books, step(StepKind.SHIP, PACK)) == []
    assert [part.unit for part in books.contents(CASE)] == [PACK]


def test_no_used_after_end_of_a_tote_that_is_filled_again() -> None:
    books = stock(PACK, OTHER)
    happened(books, step(StepKind.PACK, PACK, parent=TOTE))
    happened(books, step(StepKind.UNPACK, parent=TOTE))
    assert happened(books, step(StepKind.PACK, OTHER, parent=TOTE)) == []


@pytest.mark.parametrize("kind", [*SELLING, StepKind.DISPENSE_PART])
def test_used_after_expiry(kind: StepKind) -> None:
    after = datetime(2028, 4, 1, tzinfo=UTC)
    books = stock(PACK)
    assert happened(books, step(kind, PACK), time=after) == alert("USED_AFTER_EXPIRY", PACK)
    assert state(books, PACK) is not HoldingState.ON_HAND
    assert refused(stock(PACK), step(kind, PACK), time=after) == "UNIT_EXPIRED"


def test_used_after_expiry_of_what_goes_in_its_container() -> None:
    after = datetime(2028, 4, 1, tzinfo=UTC)
    told = alert("USED_AFTER_EXPIRY", CASE) + alert("USED_AFTER_EXPIRY", PACK)
    assert happened(packed(), step(StepKind.SHIP, CASE), time=after) == told
    assert refused(packed(), step(StepKind.SHIP, CASE), time=after) == "UNIT_EXPIRED"


@pytest.mark.parametrize("kind", SELLING)
def test_no_used_after_expiry_to_the_end_of_the_day(kind: StepKind) -> None:
    last = datetime(2028, 4, 1, tzinfo=UTC) - timedelta(seconds=1)
    assert happened(stock(PACK), step(kind, PACK), time=last) == []


@pytest.mark.parametrize("kind", [StepKind.SEND_BACK, StepKind.END])
def test_no_used_after_expiry_of_what_is_sent_back_or_destroyed(kind: StepKind) -> None:
    after = datetime(2028, 4, 1, tzinfo=UTC)
    assert happened(stock(PACK), step(kind, PACK), time=after) == []


@pytest.mark.parametrize("kind", SELLING)
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hold_reason": "leaking"}, "UNIT_ON_HOLD"),
        ({"state": HoldingState.EXCEPTION, "exception": "OVERAGE"}, "UNIT_EXCEPTION"),
    ],
)
def test_sold_under_hold(kind: StepKind, changes: dict[str, object], code: str) -> None:
    books = put(stock(PACK), PACK, **changes)
    assert refused(books, step(kind, PACK)) == code
    assert happened(books, step(kind, PACK)) == alert("SOLD_UNDER_HOLD", PACK)
    gone = books.get(PACK)
    assert gone is not None
    # What was the matter with it ends with it, and not while it may come back.
    left = {} if gone.final else changes
    assert not gone.here
    assert (gone.hold_reason, gone.exception) == (left.get("hold_reason", ""), left.get("exception", ""))


def test_no_sold_under_hold_after_its_release_or_on_its_way_back() -> None:
    books = stock(PACK)
    assert happened(books, step(StepKind.HOLD, PACK)) == []
    assert happened(books, step(StepKind.RELEASE, PACK)) == []
    assert happened(books, step(StepKind.SHIP, PACK)) == []
    held = put(stock(PACK), PACK, hold_reason="leaking")
    assert happened(held, step(StepKind.SEND_BACK, PACK)) == []


@pytest.mark.parametrize("kind", SELLING)
def test_sold_under_recall(kind: StepKind) -> None:
    assert refused(stock(PACK), step(kind, PACK), recalls=RECALLED) == "UNIT_RECALLED"
    assert happened(stock(PACK), step(kind, PACK), recalls=RECALLED) == alert("SOLD_UNDER_RECALL", PACK)


def test_no_sold_under_recall_of_what_goes_back_or_is_destroyed() -> None:
    for kind in (StepKind.SEND_BACK, StepKind.END, StepKind.OBSERVE):
        assert happened(stock(PACK), step(kind, PACK), recalls=RECALLED) == []


@pytest.mark.parametrize("kind", SELLING)
def test_sold_unconfirmed(kind: StepKind) -> None:
    books = put(stock(PACK), PACK, provisional=True)
    assert refused(books, step(kind, PACK)) == "UNIT_PROVISIONAL"
    assert happened(books, step(kind, PACK)) == alert("SOLD_UNCONFIRMED", PACK)


def test_no_sold_unconfirmed_of_what_goes_back() -> None:
    books = put(stock(PACK), PACK, provisional=True)
    assert happened(books, step(StepKind.SEND_BACK, PACK)) == []


@pytest.mark.parametrize("kind", [StepKind.SHIP, StepKind.SEND_BACK, StepKind.TRANSFORM, StepKind.PACK])
def test_opened_pack_moved(kind: StepKind) -> None:
    books = put(stock(PACK), PACK, state=HoldingState.PARTIALLY_DISPENSED, opened=True)
    what = step(kind, PACK, parent=TOTE if kind is StepKind.PACK else None)
    assert refused(Books(books), what) == "UNIT_OPENED"
    assert happened(books, what) == alert("OPENED_PACK_MOVED", PACK)


def test_no_opened_pack_moved_where_more_of_it_is_dispensed_or_it_is_destroyed() -> None:
    for kind in (StepKind.DISPENSE_PART, StepKind.DISPENSE, StepKind.END, StepKind.HOLD):
        books = put(stock(PACK), PACK, state=HoldingState.PARTIALLY_DISPENSED, opened=True)
        assert happened(books, step(kind, PACK)) == []


def _portion(quantity: int, remainder: int) -> Portion:
    return Portion(Decimal(quantity), Decimal(remainder), "EA")


def test_dispensed_too_much() -> None:
    books = stock(PACK)
    happened(books, step(StepKind.DISPENSE_PART, PACK, portion=_portion(20, 10)))
    more = step(StepKind.DISPENSE_PART, PACK, portion=_portion(11, 0))
    assert refused(books, more) == "QUANTITY_ABOVE_REST"
    assert happened(books, more) == alert("DISPENSED_TOO_MUCH", PACK)
    holding = books.get(PACK)
    assert holding is not None
    assert holding.remainder == 0


def test_no_dispensed_too_much_to_the_last_of_it() -> None:
    books = stock(PACK)
    happened(books, step(StepKind.DISPENSE_PART, PACK, portion=_portion(20, 10)))
    assert happened(books, step(StepKind.DISPENSE, PACK, portion=_portion(10, 0))) == []
    assert state(books, PACK) is HoldingState.DISPENSED


def test_a_part_counted_in_another_unit_is_kept_as_told() -> None:
    books = stock(PACK)
    happened(books, step(StepKind.DISPENSE_PART, PACK, portion=_portion(20, 10)))
    other = step(StepKind.DISPENSE_PART, PACK, portion=Portion(Decimal(5), Decimal(95), "MLT"))
    assert refused(Books(books), other) == "UOM_MISMATCH"
    assert happened(books, other) == []
    holding = books.get(PACK)
    assert holding is not None
    assert (holding.remainder, holding.remainder_uom) == (Decimal(95), "MLT")


def test_container_dispensed_with_what_is_inside() -> None:
    books = packed()
    assert refused(Books(books), step(StepKind.DISPENSE, CASE)) == "UNIT_NOT_PACK"
    assert happened(books, step(StepKind.DISPENSE, CASE)) == alert("CONTAINER_DISPENSED", CASE)
    assert state(books, PACK) is HoldingState.DISPENSED


def test_no_container_dispensed_where_it_is_empty() -> None:
    books = packed()
    happened(books, step(StepKind.UNPACK, parent=CASE))
    assert happened(books, step(StepKind.DISPENSE, CASE)) == []


def test_not_in_container_and_nothing_changes() -> None:
    books = packed()
    out = step(StepKind.UNPACK, PACK, parent=TOTE)
    happened(books, step(StepKind.PACK, parent=TOTE))
    assert refused(Books(books), out) == "NOT_IN_CONTAINER"
    assert happened(books, out) == alert("NOT_IN_CONTAINER", PACK)
    assert [part.unit for part in books.contents(CASE)] == [PACK]


def test_no_not_in_container_of_what_is_inside_or_further_in() -> None:
    assert happened(packed(), step(StepKind.UNPACK, PACK, parent=CASE)) == []
    books = packed()
    happened(books, step(StepKind.PACK, CASE, parent=PALLET))
    assert happened(books, step(StepKind.UNPACK, PACK, parent=PALLET)) == alert("PARENT_NOT_UNPACKED", PACK)
    assert ([part.unit for part in books.contents(PALLET)], books.contents(CASE)) == ([CASE], ())


def test_container_cycle_changes_nothing() -> None:
    books = stock(CASE)
    happened(books, step(StepKind.PACK, CASE, parent=PALLET))
    turned = step(StepKind.PACK, PALLET, parent=CASE)
    assert refused(Books(books), turned) == "CONTAINER_CYCLE"
    assert happened(books, turned) == alert("CONTAINER_CYCLE", PALLET)
    assert (books.contents(CASE), [part.unit for part in books.contents(PALLET)]) == ((), [CASE])


def test_container_cycle_is_never_a_fact_of_one_unit() -> None:
    with pytest.raises(MedtrailError) as caught:
        happened(stock(CASE), step(StepKind.PACK, CASE, parent=CASE))
    assert caught.value.code == "CONTAINER_CYCLE"


def test_no_container_cycle_of_a_case_on_another_pallet() -> None:
    books = stock(CASE)
    happened(books, step(StepKind.PACK, CASE, parent=PALLET))
    assert happened(books, step(StepKind.PACK, CASE, parent=TOTE)) == alert("DOUBLE_CONTAINER", CASE)


def test_double_container_and_it_is_in_the_second() -> None:
    books = packed()
    assert happened(books, step(StepKind.PACK, PACK, parent=TOTE)) == alert("DOUBLE_CONTAINER", PACK)
    assert ([part.unit for part in books.contents(TOTE)], books.contents(CASE)) == ([PACK], ())
    apply_step(packed(), step(StepKind.PACK, PACK, parent=TOTE), origin(happened=False), recalls=NO_RECALLS)


def test_no_double_container_where_it_was_taken_out_first_or_is_put_in_again() -> None:
    books = packed()
    assert happened(books, step(StepKind.PACK, PACK, parent=CASE)) == []
    happened(books, step(StepKind.UNPACK, PACK, parent=CASE))
    assert happened(books, step(StepKind.PACK, PACK, parent=TOTE)) == []


def test_not_despatched_where_a_shipping_is_voided_that_was_none() -> None:
    books = stock(PACK)
    assert refused(books, step(StepKind.VOID_SHIPPING, PACK)) == "NOT_DESPATCHED"
    assert happened(books, step(StepKind.VOID_SHIPPING, PACK)) == alert("NOT_DESPATCHED", PACK)


def test_no_not_despatched_of_a_despatch() -> None:
    books = stock(PACK)
    happened(books, step(StepKind.SHIP, PACK))
    assert happened(books, step(StepKind.VOID_SHIPPING, PACK)) == []
    assert state(books, PACK) is HoldingState.ON_HAND


def test_received_twice() -> None:
    books = stock(PACK)
    assert refused(books, step(StepKind.RECEIVE, PACK)) == "ALREADY_RECEIVED"
    assert happened(books, step(StepKind.RECEIVE, PACK)) == alert("RECEIVED_TWICE", PACK)


def test_no_received_twice_of_what_is_inbound() -> None:
    books = put(stock(PACK), PACK, state=HoldingState.INBOUND)
    assert happened(books, step(StepKind.RECEIVE, PACK)) == []
    assert state(books, PACK) is HoldingState.ON_HAND


def test_every_code_has_its_tests_and_its_line_in_the_docs() -> None:
    source = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    docs = (Path(__file__).parents[3] / "docs" / "book-alerts.md").read_text()
    lines = set(re.findall(r"^\| `([A-Z_]+)` \|", docs, flags=re.MULTILINE))
    assert lines == {code.value for code in AlertCode}
    for code in AlertCode:
        name = code.value.lower()
        assert f"def test_{name}" in source, code
        assert f"def test_no_{name}" in source, code


def test_every_refusal_with_an_alert_stands_in_the_docs() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "book-alerts.md").read_text()
    for refusal, code in ALERT_OF.items():
        assert re.search(rf"^\| `{code}` \|.*`{refusal}`", docs, flags=re.MULTILINE), refusal
