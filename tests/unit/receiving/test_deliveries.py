"""Deliveries between two houses: opened, scanned, undone, closed with exceptions open, reopened."""

from dataclasses import replace
from datetime import timedelta

import pytest

from medtrail.document import Document, DocumentFunction, DocumentKind, DocumentReference
from medtrail.epcis.model import BizTransaction
from medtrail.errors import ConflictError, DuplicateError, MalformedError, NotFoundError
from medtrail.event import Recall, RecallScope
from medtrail.gs1 import Gln, OtherKey
from medtrail.verdict import Finding, KnownPack, Verdict, VerdictCode, conclude
from services.custody import events
from services.custody.holding import HoldingState
from services.custody.inbound_store import InboundState
from services.custody.orders import advices, book
from services.custody.orders.commands import Heading
from services.custody.recalls import KnownRecall
from services.custody.receiving import deliveries_store, lines_store
from services.custody.receiving.codes import Condition, DeliveryState, Posting, ResultCode
from services.custody.receiving.reconcile import Label
from services.custody.receiving.scanning import IN_TRANSIT_TO_ANOTHER
from services.custody.rules import UNADVISED
from tests.unit.custody.conftest import EXPIRY, GTIN, LOT, START, House, packs, sscc
from tests.unit.receiving.conftest import (
    Bay,
    biz_steps,
    case_codes,
    case_of,
    case_units,
    cases,
    inbound,
    packs_of,
    said_absent,
    ship_cases,
    ship_pallet,
)

M = ResultCode
BUYER = Gln("4012345000009")
ORDER_NAME = events.document("po", "PO1", issuer=BUYER)
TOTE_A, TOTE_B = OtherKey("8004", "952100112345A"), OtherKey("8004", "952100112345B")


def verdict(code: VerdictCode, *, reason: str = "") -> Verdict:
    return conclude([Finding(code, "x", reason)], judge_time=START, known=KnownPack(epc=""), tree_size=9)


def states(house: House, units: "tuple[object, ...]") -> set[tuple[str, str]]:
    return {(house.held(unit).state.value, house.held(unit).exception) for unit in units}  # type: ignore[arg-type]


def recadvs(house: House) -> list[str]:
    said = [event.statement for event in house.events() if isinstance(event.statement, Document)]
    return [statement.number for statement in said if statement.kind is DocumentKind.RECEIVING_ADVICE]


# --- all as advised ---


def test_match_inferred_for_what_is_inside_of_a_sealed_case(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    outcome = bay.scan(boxes[0])
    assert (outcome.codes, outcome.inferred) == ((M.MATCH,), 3)
    counts = bay.counts()
    assert (counts.expected, counts.found, counts.missing, counts.scans) == (6, 3, 3, 1)
    assert bay.scan(packs("1-2")[0]).codes == (M.MATCH,)
    assert bay.counts().by_result == {M.MATCH: 1, M.MATCH_INFERRED: 2, None: 3}
    bay.scan(boxes[1])
    closed = bay.close()
    assert (closed.case_ids, closed.delivery.state) == ([], DeliveryState.CLOSED)
    held = {unit.serial: pharmacy.held(unit) for unit in (*packs_of(boxes[0]), *packs_of(boxes[1]))}
    assert {item.state for item in held.values()} == {HoldingState.ON_HAND}
    assert [serial for serial, item in held.items() if not item.inferred] == ["1-2"]
    assert held["1-1"].parent == boxes[0]
    assert inbound(pharmacy, despatch_id).state is InboundState.RECEIVED
    assert biz_steps(pharmacy) == [("receiving", 3)]


def test_no_match_inferred_inside_of_a_container_that_nobody_scanned(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    assert bay.scan_all(packs_of(boxes[0])) == [M.MATCH] * 3
    assert bay.line(boxes[0]).result is None
    bay.close()
    # What was handled alone is loose: taken out of its case, and of no other.
    assert all(pharmacy.held(unit).parent is None for unit in packs_of(boxes[0]))
    assert biz_steps(pharmacy) == [("unpacking", 3), ("receiving", 3)]
    assert case_units(pharmacy, "SHORTAGE") == {unit.path for unit in packs_of(boxes[1])}


def test_a_delivery_of_several_despatches_answers_each_of_their_senders(
    maker: House, distributor: House, pharmacy: House
) -> None:
    first, boxes = ship_cases(maker, pharmacy, cases=1)
    second, others = ship_cases(maker, distributor, cases=1, first=7)
    distributor.receive(others)
    distributor.confirm_all()
    second = distributor.ship(others, pharmacy.gln)[0].event_id
    distributor.send_to(pharmacy)
    bay = Bay.open(pharmacy, first, second)
    assert bay.scan_all([*boxes, *others]) == [M.MATCH] * 2
    closed = bay.close()
    assert recadvs(pharmacy) == closed.advices
    assert len(closed.advices) == 2
    assert [step for step, _ in biz_steps(pharmacy)] == ["receiving", "receiving"]
    assert {pharmacy.held(unit).partner for unit in (*boxes, *others)} == {maker.gln, distributor.gln}


def test_receiving_advice_tells_quantities_by_trade_item_and_lot(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    good, damaged, wrong, *_ = packs_of(boxes[0])
    bay.scan(good)
    bay.scan(damaged, condition=Condition.DAMAGED)
    bay.scan(wrong, lot="OTHER")
    bay.scan(packs("stray")[0])
    (number,) = bay.close().advices
    name = DocumentReference(DocumentKind.RECEIVING_ADVICE, number, pharmacy.gln)
    known = pharmacy.read(lambda c: book.find_document(c, name, DocumentFunction.ORIGINAL))
    assert known is not None
    assert known.filed.document.counterparty == maker.gln
    assert known.filed.document.event_ids == (despatch_id,)
    told = [(str(item.gtin), item.lots, int(item.quantity), item.note) for item in known.filed.terms.lines]
    assert told == [(str(GTIN), (LOT,), 1, "missing 3, over 1, damaged 1, mismatched 1")]
    assert number == f"{bay.delivery.delivery_id}-1-1"


@pytest.mark.parametrize(
    ("documents", "referred"),
    [
        ([BizTransaction("urn:epcglobal:cbv:bt:4012345000000:PO1", "po")], []),
        ([BizTransaction("urn:epcglobal:cbv:bt:4012345000009:PO 1", "po"), BizTransaction("x", None)], []),
        (
            [*(events.document("desadv", f"D{n}", issuer=BUYER) for n in range(101)), *[ORDER_NAME] * 2],
            ["PO1", *(f"D{n}" for n in range(99))],
        ),
    ],
)
def test_whatever_a_despatch_names_its_delivery_can_be_closed(
    maker: House, pharmacy: House, documents: list[BizTransaction], referred: list[str]
) -> None:
    units = packs(1)
    maker.commission(units, lot=LOT)
    despatch_id = maker.ship(units, pharmacy.gln, documents)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all(units)
    (number,) = bay.close().advices
    (said,) = [event.statement for event in pharmacy.events() if isinstance(event.statement, Document)]
    assert (said.number, [name.number for name in said.references]) == (number, referred)
    advised = pharmacy.write(
        lambda s: advices.advise_received(s, Heading("R9", pharmacy.clock()), despatch_id=despatch_id, lines=[])
    )
    assert advised is not None


def test_a_delivery_of_a_lot_with_a_longer_name_than_lots_have_can_be_closed(maker: House, pharmacy: House) -> None:
    units = packs(1)
    maker.commission(units, lot="L" * 21)
    despatch_id = maker.ship(units, pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(units[0], lot="L" * 21)
    bay.close()
    (known,) = pharmacy.read(lambda c: book.list_documents(c, book.DocumentQuery(), before=None, limit=9))
    (line,) = known.filed.terms.lines
    assert line.quantity == 1
    assert not line.lots


# --- each kind of trouble ---


def test_over_is_put_aside_as_arrived_and_not_received(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    stray = packs("stray")[0]
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    assert bay.scan(stray).codes == (M.OVER,)
    closed = bay.close()
    held = pharmacy.held(stray)
    assert (held.state, held.exception) == (HoldingState.EXCEPTION, UNADVISED)
    assert biz_steps(pharmacy) == [("receiving", 1), ("arriving", 1)]
    assert (case_codes(pharmacy), case_units(pharmacy, "OVERAGE")) == (["OVERAGE"], {stray.path})
    (case,) = cases(pharmacy)
    assert case.scan is not None
    assert (case.case_id, case.partner, case.delivery_id) == (closed.case_ids[0], maker.gln, bay.delivery.delivery_id)
    assert (case.scan.scan, case.scan.station) == (stray.path, "bay 1")
    assert bay.line(stray).case_id == case.case_id
    # Good packs are saleable at once, whatever is open.
    pharmacy.confirm_all()
    pharmacy.dispense(packs_of(boxes[0])[:1])


def test_no_over_exception_of_what_another_despatch_to_us_tells(maker: House, pharmacy: House) -> None:
    first, boxes = ship_cases(maker, pharmacy, cases=1)
    second, others = ship_cases(maker, pharmacy, cases=1, first=5)
    bay = Bay.open(pharmacy, first)
    bay.scan(boxes[0])
    assert bay.scan(others[0]).codes == (M.OVER,)
    assert bay.close().case_ids == []
    assert inbound(pharmacy, second).state is InboundState.RECEIVED
    assert {pharmacy.held(unit).state for unit in packs_of(others[0])} == {HoldingState.ON_HAND}


def test_under_leaves_what_is_missing_on_its_way(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all([boxes[0], *packs_of(boxes[1])[:2]])
    bay.scan(boxes[1])
    assert bay.counts().missing == 0
    # Inferred by its case; only a sample or the scan of every pack can tell that it is not there.
    bay.undo(4)
    closed = bay.close()
    gone = packs_of(boxes[1])[2]
    assert (bay.line(gone).result, bay.line(gone).posting) == (M.UNDER, Posting.MISSING)
    assert pharmacy.held(gone).state is HoldingState.INBOUND
    assert case_units(pharmacy, "SHORTAGE") == {gone.path}
    assert len(closed.case_ids) == 1
    assert inbound(pharmacy, despatch_id).state is InboundState.PARTIALLY_RECEIVED
    counts = bay.counts()
    assert (counts.expected, counts.found, counts.missing, counts.excepted) == (6, 5, 1, 0)


def test_no_under_of_what_was_received_by_another_way_meanwhile(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    pharmacy.receive([boxes[1]])
    assert bay.close().case_ids == []
    assert {bay.line(unit).posting for unit in packs_of(boxes[1])} == {Posting.LEFT}


def test_a_missing_case_was_not_on_a_pallet_off_which_another_came(maker: House, pharmacy: House) -> None:
    boxes = [case_of(number) for number in (1, 2)]
    for box in boxes:
        maker.commission(packs_of(box))
        maker.commission([box])
        maker.pack(box, packs_of(box))
    pallet = sscc(1)
    maker.pack(pallet, boxes)
    despatch_id = maker.ship([pallet], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all([pallet, boxes[0]])
    bay.undo(1)
    bay.scan(packs_of(boxes[1])[0])
    bay.undo(3)
    bay.scan(pallet)
    bay.undo(4)
    closed = bay.close()
    assert [unit.parent for unit in map(pharmacy.held, boxes)] == [None, None]
    assert pharmacy.held(boxes[1]).state is HoldingState.INBOUND
    assert bay.line(boxes[1]).posting is Posting.MISSING
    assert case_units(pharmacy, "SHORTAGE") == {unit.path for unit in packs_of(boxes[1])}
    assert said_absent(pharmacy) == [(pallet, boxes[1])]
    assert {pharmacy.held(unit).parent for unit in packs_of(boxes[1])} == {boxes[1]}
    assert len(closed.accepted) == 3


@pytest.mark.parametrize(
    ("label", "code", "case"),
    [
        ({"lot": "B999"}, M.WRONG_LOT, "LOT_MISMATCH"),
        ({"expiry": EXPIRY - timedelta(days=1)}, M.WRONG_EXPIRY, "EXPIRY_MISMATCH"),
    ],
)
def test_wrong_lot_or_expiry_is_an_exception_and_no_suspicion(
    maker: House, pharmacy: House, label: dict[str, object], code: ResultCode, case: str
) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    odd, *good = packs_of(boxes[0])
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    assert bay.scan(odd, **label).codes == (code,)  # type: ignore[arg-type]
    bay.close()
    held = pharmacy.held(odd)
    assert (held.state, held.exception, held.suspect, held.parent) == (HoldingState.EXCEPTION, case, "", None)
    assert {pharmacy.held(unit).parent for unit in good} == {boxes[0]}
    assert biz_steps(pharmacy) == [("unpacking", 1), ("receiving", 1), ("arriving", 1)]
    assert case_units(pharmacy, case) == {odd.path}
    assert inbound(pharmacy, despatch_id).received_count == 2


def test_a_case_whose_own_label_does_not_fit_is_put_aside_with_its_contents(maker: House, pharmacy: House) -> None:
    box = case_of(1)
    inside = packs(1, 2)
    maker.commission(inside)
    maker.commission([box])
    maker.pack(box, inside)
    despatch_id = maker.ship([box], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    assert bay.scan(box, label=Label(box, "OTHER", EXPIRY)).codes == (M.WRONG_LOT,)
    bay.close()
    assert states(pharmacy, (box, *inside)) == {("exception", "LOT_MISMATCH")}
    assert {bay.line(unit).posting for unit in (box, *inside)} == {Posting.PUT_ASIDE}
    assert case_codes(pharmacy) == ["LOT_MISMATCH"]


def test_unknown_serial_opens_its_own_case(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    forged = packs("forged")[0]
    assert bay.scan(forged, verdict=verdict(VerdictCode.UNKNOWN)).codes == (M.UNKNOWN_SERIAL,)
    bay.close()
    assert case_units(pharmacy, "SERIAL_UNKNOWN") == {forged.path}
    assert pharmacy.held(forged).exception == UNADVISED


def test_no_unknown_serial_where_the_ledger_knows_the_pack(maker: House, pharmacy: House) -> None:
    despatch_id, _ = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    assert bay.scan(packs("x")[0], verdict=verdict(VerdictCode.GENUINE)).codes == (M.OVER,)


def test_not_for_us_by_label_or_by_the_ledger(maker: House, pharmacy: House, distributor: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    one, two = packs("a", "b")
    assert bay.scan(one, label=Label(one, LOT, EXPIRY, distributor.gln)).codes == (M.NOT_FOR_US,)
    elsewhere = verdict(VerdictCode.ELSEWHERE, reason=IN_TRANSIT_TO_ANOTHER)
    assert bay.scan(two, verdict=elsewhere).codes == (M.NOT_FOR_US,)
    bay.close()
    assert states(pharmacy, (one, two)) == {("exception", "WRONG_CONSIGNEE")}
    assert case_units(pharmacy, "WRONG_CONSIGNEE") == {one.path, two.path}


def test_no_not_for_us_while_the_ledger_only_has_not_heard_of_the_despatch(maker: House, pharmacy: House) -> None:
    despatch_id, _ = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    assert bay.scan(packs("a")[0], verdict=verdict(VerdictCode.ELSEWHERE)).codes == (M.OVER,)


def test_already_received_by_an_earlier_delivery(maker: House, pharmacy: House) -> None:
    first, boxes = ship_cases(maker, pharmacy, cases=1)
    Bay.open(pharmacy, first).house.receive(boxes)
    second, others = ship_cases(maker, pharmacy, cases=1, first=5)
    bay = Bay.open(pharmacy, second)
    bay.scan(others[0])
    again = packs_of(boxes[0])[0]
    assert bay.scan(again).codes == (M.ALREADY_RECEIVED,)
    bay.close()
    assert pharmacy.held(again).state is HoldingState.ON_HAND
    assert (bay.line(again).posting, case_units(pharmacy, "ALREADY_RECEIVED")) == (Posting.LEFT, {again.path})


def test_already_scanned_changes_nothing(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    pack = packs_of(boxes[0])[0]
    bay.scan(pack)
    before = bay.counts()
    assert bay.scan(pack, station="bay 2").codes == (M.ALREADY_SCANNED,)
    assert replace(bay.counts(), scans=before.scans) == before


def test_other_container_is_noted_and_is_no_exception(maker: House, pharmacy: House) -> None:
    inside_a, inside_b = packs("a1", "a2"), packs("b1", "b2")
    maker.commission([*inside_a, *inside_b])
    maker.pack(TOTE_A, inside_a)
    maker.pack(TOTE_B, inside_b)
    despatch_id = maker.ship([TOTE_A, TOTE_B], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    assert bay.scan_all([TOTE_A, TOTE_B]) == [M.MATCH] * 2
    assert bay.scan(inside_a[0], taken_from=TOTE_B).codes == (M.OTHER_CONTAINER,)
    assert bay.scan(inside_b[0], taken_from=TOTE_B).codes == (M.MATCH,)
    assert bay.close().case_ids == []
    assert {pharmacy.held(unit).state for unit in (*inside_a, *inside_b)} == {HoldingState.ON_HAND}
    assert (pharmacy.held(inside_a[0]).parent, pharmacy.held(inside_a[1]).parent) == (None, TOTE_A)


def test_unreadable_label_is_a_case_only_when_a_person_says_so(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    assert bay.scan(None).codes == (M.UNREADABLE,)
    assert bay.scan(None, condition=Condition.LABEL_UNREADABLE).codes == (M.UNREADABLE,)
    bay.close()
    assert case_codes(pharmacy) == ["LABEL_UNREADABLE"]


def test_no_unreadable_case_of_a_scan_that_was_taken_back(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    bay.scan(None, condition=Condition.LABEL_UNREADABLE)
    bay.undo(2)
    assert bay.close().case_ids == []


def test_what_is_damaged_expired_or_recalled_is_received_and_held(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    hurt, *others = packs_of(boxes[0])
    bay.scan(hurt, condition=Condition.DAMAGED)
    scope = RecallScope(GTIN, serials=(others[0].serial,))
    recall = Recall("R1", "consumer", "x", "x", START, (scope,))
    pharmacy.recalls = (KnownRecall("urn:uuid:1", maker.gln, recall),)
    bay.close()
    assert pharmacy.held(hurt).hold_reason.startswith("DAMAGED")
    assert pharmacy.held(others[0]).hold_reason.startswith("RECALLED")
    assert pharmacy.held(others[1]).hold_reason == ""
    assert (case_units(pharmacy, "DAMAGED"), case_units(pharmacy, "RECALLED")) == ({hurt.path}, {others[0].path})
    assert {pharmacy.held(unit).state for unit in packs_of(boxes[0])} == {HoldingState.ON_HAND}


def test_expired_goods_are_received_and_held(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    pharmacy.clock.now = START.replace(year=2028, month=4, day=1)
    bay.close()
    assert all(pharmacy.held(unit).hold_reason.startswith("EXPIRED") for unit in packs_of(boxes[0]))
    assert case_codes(pharmacy) == ["EXPIRED"]


# --- opening ---


def test_refuses_despatches_that_cannot_be_received(maker: House, pharmacy: House) -> None:
    despatch_id, _ = ship_cases(maker, pharmacy, cases=1)
    for wanted, code in (
        (("urn:x:1",), "DESPATCH_UNKNOWN"),
        ((despatch_id, despatch_id), "DESPATCH_TWICE"),
        (tuple(f"urn:x:{number}" for number in range(101)), "TOO_MANY_DESPATCHES"),
    ):
        with pytest.raises((MalformedError, NotFoundError)) as caught:
            Bay.open(pharmacy, *wanted)
        assert caught.value.code == code
    with pytest.raises(MalformedError, match="share"):
        Bay.open(pharmacy, despatch_id, permille=1001)
    Bay.open(pharmacy, despatch_id)
    with pytest.raises(ConflictError) as refused:
        Bay.open(pharmacy, despatch_id)
    assert refused.value.code == "DESPATCH_IN_DELIVERY"


def test_a_second_delivery_of_a_despatch_expects_the_rest(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    first = Bay.open(pharmacy, despatch_id)
    first.scan(boxes[0])
    first.close()
    second = Bay.open(pharmacy, despatch_id)
    assert second.counts().expected == 3
    assert second.scan(boxes[1]).codes == (M.MATCH,)
    second.close()
    assert inbound(pharmacy, despatch_id).state is InboundState.RECEIVED
    assert first.line(packs_of(boxes[1])[0]).posting is Posting.RECEIVED_LATER
    assert cases(pharmacy) == []


def test_a_blind_delivery_learns_its_despatches_from_its_goods(maker: House, pharmacy: House) -> None:
    first, boxes = ship_cases(maker, pharmacy)
    second, others = ship_cases(maker, pharmacy, cases=1, first=5)
    bay = Bay.open(pharmacy)
    assert bay.scan(packs_of(boxes[0])[0]).codes == (M.MATCH,)
    assert bay.despatches() == [first]
    assert bay.scan(others[0]).codes == (M.MATCH,)
    assert bay.despatches() == sorted([first, second])
    assert bay.counts().expected == 9


def test_a_blind_delivery_takes_no_despatch_that_another_delivery_has(maker: House, pharmacy: House) -> None:
    first, boxes = ship_cases(maker, pharmacy)
    Bay.open(pharmacy, first)
    bay = Bay.open(pharmacy)
    assert bay.scan(boxes[0]).codes == (M.OVER,)
    assert bay.despatches() == []


# --- scans ---


def test_two_stations_scan_one_delivery_and_counts_stay_true(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=2, packs_each=4)
    bay = Bay.open(pharmacy, despatch_id)
    units = [unit for box in boxes for unit in packs_of(box, each=4)]
    for number, unit in enumerate(units):
        bay.scan(unit, station=f"bay {number % 2}")
        bay.counts()
    assert bay.counts().found == 8
    scans = pharmacy.read(lambda c: deliveries_store.scans_after(c, bay.delivery.number, after=0, limit=100))
    assert [scan.number for scan in scans] == list(range(1, 9))


def test_a_station_that_asks_again_gets_its_answer_again(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    number = bay.delivery.number

    def answered(station: str, digest: bytes) -> bytes | None:
        return pharmacy.read(
            lambda c: deliveries_store.answered(c, number, station=station, scan_number=1, request_sha256=digest)
        )

    import hashlib

    digest = hashlib.sha256(b"bay 11").digest()
    assert answered("bay 1", digest) == b""
    assert answered("bay 2", digest) is None
    with pytest.raises(DuplicateError) as caught:
        answered("bay 1", bytes(32))
    assert caught.value.code == "SCAN_NUMBER_REUSED"


def test_undoing_a_scan_leaves_what_the_others_say(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    fresh = bay.counts()
    pack = packs_of(boxes[0])[0]
    bay.scan(boxes[0])
    sealed = bay.counts()
    bay.scan(pack, lot="B")
    bay.scan(pack)
    assert bay.line(pack).result is M.MATCH
    bay.undo(3)
    assert bay.line(pack).result is M.WRONG_LOT
    bay.undo(2)
    assert replace(bay.counts(), scans=sealed.scans) == sealed
    bay.undo(1)
    assert bay.counts() == fresh


def test_undoing_the_first_of_two_scans_of_one_pack_keeps_it_scanned(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    pack = packs_of(boxes[0])[0]
    bay.scan(pack)
    bay.scan(pack)
    bay.undo(1)
    assert (bay.line(pack).result, bay.line(pack).scan) == (M.MATCH, 2)
    with pytest.raises(ConflictError) as caught:
        bay.undo(1)
    assert caught.value.code == "SCAN_UNDONE"
    with pytest.raises(NotFoundError) as unknown:
        bay.undo(99)
    assert unknown.value.code == "SCAN_UNKNOWN"


def test_an_undone_stray_is_forgotten(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    bay.scan(packs("stray")[0], condition=Condition.DAMAGED)
    bay.undo(2)
    assert bay.close().case_ids == []
    assert pharmacy.holding(packs("stray")[0]) is None


def test_damage_that_is_seen_at_the_second_scan_counts(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    pack = packs_of(boxes[0])[0]
    bay.scan_all([boxes[0], pack])
    assert bay.scan(pack, condition=Condition.DAMAGED).codes == (M.ALREADY_SCANNED,)
    assert bay.line(pack).damaged
    bay.undo(3)
    assert not bay.line(pack).damaged


def test_a_closed_delivery_takes_no_scan(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    bay.close()
    for act in (lambda: bay.scan(boxes[0]), lambda: bay.undo(1), bay.close):
        with pytest.raises(ConflictError) as caught:
            act()
        assert caught.value.code == "DELIVERY_CLOSED"


# --- samples ---


def test_a_sample_of_a_sealed_case_is_to_be_scanned(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1, packs_each=10)
    bay = Bay.open(pharmacy, despatch_id, permille=200)
    outcome = bay.scan(boxes[0])
    assert (len(outcome.sample), outcome.inferred) == (2, 8)
    assert bay.counts().found == 8
    with pytest.raises(ConflictError) as caught:
        bay.close()
    assert caught.value.code == "SAMPLE_INCOMPLETE"
    chosen = [unit for unit in packs_of(boxes[0], each=10) if unit.path in outcome.sample]
    assert bay.scan_all(chosen) == [M.MATCH] * 2
    bay.close()
    assert {unit.path for unit in packs_of(boxes[0], each=10) if not pharmacy.held(unit).inferred} == set(
        outcome.sample
    )


def test_a_failed_sample_demands_the_whole_container(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1, packs_each=10)
    bay = Bay.open(pharmacy, despatch_id, permille=100)
    outcome = bay.scan(boxes[0])
    (chosen,) = [unit for unit in packs_of(boxes[0], each=10) if unit.path in outcome.sample]
    failed = bay.scan(chosen, lot="B")
    assert failed.sample_failed
    assert bay.counts().by_result == {M.WRONG_LOT: 1, None: 9}
    rest = [unit for unit in packs_of(boxes[0], each=10) if unit != chosen]
    bay.scan_all(rest[:8])
    bay.close()
    assert case_units(pharmacy, "SHORTAGE") == {rest[8].path}
    assert case_units(pharmacy, "LOT_MISMATCH") == {chosen.path}


def test_a_stray_in_a_sampled_container_makes_its_sample_fail_until_it_is_undone(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1, packs_each=10)
    bay = Bay.open(pharmacy, despatch_id, permille=100)
    bay.scan(boxes[0])
    sealed = bay.counts()
    assert not bay.scan(packs("x")[0]).sample_failed
    assert bay.scan(packs("y")[0], taken_from=boxes[0]).sample_failed
    assert bay.counts().by_result == {M.OVER: 2, None: 10}
    bay.undo(3)
    bay.undo(2)
    assert replace(bay.counts(), scans=sealed.scans) == sealed


def test_a_sample_that_is_not_there_demands_the_whole_container_too(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1, packs_each=4)
    bay = Bay.open(pharmacy, despatch_id, permille=1)
    outcome = bay.scan(boxes[0])
    seen = [unit for unit in packs_of(boxes[0], each=4) if unit.path not in outcome.sample][:2]
    bay.scan_all(seen)
    bay.close(samples_missing=True)
    assert {unit.serial for unit in packs_of(boxes[0], each=4) if pharmacy.held(unit).here} == {u.serial for u in seen}


def test_what_was_scanned_before_its_case_counts_for_the_sample(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1, packs_each=3)
    bay = Bay.open(pharmacy, despatch_id, permille=1000)
    bay.scan_all(packs_of(boxes[0]))
    assert bay.scan(boxes[0]).sample == ()
    assert bay.close().case_ids == []


def test_a_case_scanned_inside_of_a_sampled_pallet_has_no_sample_of_its_own(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_pallet(maker, pharmacy, sscc(1))
    bay = Bay.open(pharmacy, despatch_id, permille=1)
    sample = bay.scan(sscc(1)).sample
    assert len(sample) == 1
    assert bay.scan(boxes[0]).sample == ()
    (chosen,) = [unit for box in boxes for unit in packs_of(box) if unit.path in sample]
    bay.scan(chosen, lot="B")
    # Inside of a container whose sample has failed nothing is inferred, not even from the scan of a case.
    assert bay.counts().by_result == {M.WRONG_LOT: 1, None: 5}


def test_undoing_one_of_two_scans_that_fail_a_sample_leaves_it_failed(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1, packs_each=10)
    bay = Bay.open(pharmacy, despatch_id, permille=100)
    bay.scan(boxes[0])
    bay.scan(packs("x")[0], taken_from=boxes[0])
    bay.scan(packs_of(boxes[0], each=10)[0], lot="OTHER")
    bay.undo(2)
    assert M.MATCH_INFERRED not in bay.counts().by_result
    bay.undo(3)
    assert bay.counts().by_result[M.MATCH_INFERRED] == 9


def test_scanning_a_container_anew_does_not_forget_what_made_its_sample_fail(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1, packs_each=10)
    bay = Bay.open(pharmacy, despatch_id, permille=100)
    bay.scan(boxes[0])
    bay.scan(packs("x")[0], taken_from=boxes[0])
    bay.undo(1)
    bay.scan(boxes[0])
    assert M.MATCH_INFERRED not in bay.counts().by_result


def test_a_sampled_pallet_leaves_the_samples_of_its_cases_as_they_are(maker: House, pharmacy: House) -> None:
    boxes = [case_of(number) for number in (1, 2)]
    for box in boxes:
        maker.commission(packs_of(box))
        maker.commission([box])
        maker.pack(box, packs_of(box))
    pallet = sscc(1)
    maker.pack(pallet, boxes)
    despatch_id = maker.ship([pallet], pharmacy.gln)[0].event_id
    maker.send_to(pharmacy)
    bay = Bay.open(pharmacy, despatch_id, permille=1000)
    wanted = bay.scan(boxes[0]).sample
    bay.scan(pallet)
    assert {bay.line(unit).sample for unit in packs_of(boxes[0]) if unit.path in wanted} == {boxes[0].path}
    bay.undo(2)
    assert M.MATCH_INFERRED not in bay.counts().by_result


# --- reopening ---


def test_a_reopened_delivery_receives_exactly_what_was_missing(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    bay.close()
    with pytest.raises(ConflictError) as not_missing:
        bay.reopen(packs_of(boxes[0])[0])
    assert not_missing.value.code == "UNIT_NOT_MISSING"
    with pytest.raises(NotFoundError) as stranger:
        bay.reopen(packs("stranger")[0])
    assert stranger.value.code == "UNIT_NOT_IN_DELIVERY"
    before = biz_steps(pharmacy)
    assert bay.reopen(boxes[1]).state is DeliveryState.REOPENED
    with pytest.raises(ConflictError) as opened:
        bay.reopen(boxes[1])
    assert opened.value.code == "DELIVERY_OPEN"
    with pytest.raises(ConflictError) as posted:
        bay.undo(1)
    assert posted.value.code == "SCAN_POSTED"
    assert bay.scan(boxes[1]).codes == (M.MATCH,)
    closed = bay.close()
    assert biz_steps(pharmacy)[len(before) :] == [("receiving", 1)]
    assert cases(pharmacy) == []
    assert closed.delivery.closings == 2
    assert closed.advices == [f"{bay.delivery.delivery_id}-2-1"]
    assert inbound(pharmacy, despatch_id).state is InboundState.RECEIVED


def test_a_reopened_delivery_receives_what_else_was_missing_and_is_scanned(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=3)
    bay = Bay.open(pharmacy, despatch_id)
    inside = packs_of(boxes[0])
    bay.scan(inside[0])
    bay.close()
    bay.reopen(inside[1])
    assert bay.scan(inside[1]).codes == (M.MATCH,)
    assert bay.scan(inside[2]).codes == (M.MATCH,)
    outcome = bay.scan(boxes[1])
    assert (outcome.codes, outcome.inferred) == ((M.MATCH,), 3)
    bay.scan(boxes[2])
    bay.undo(5)
    bay.close()
    assert {pharmacy.held(unit).state for unit in (*inside, *packs_of(boxes[1]))} == {HoldingState.ON_HAND}
    assert {bay.line(unit).posting for unit in inside} == {Posting.RECEIVED}
    assert case_units(pharmacy, "SHORTAGE") >= {unit.path for unit in packs_of(boxes[2])}
    assert bay.counts().missing == 3


def test_a_scan_of_what_an_earlier_closing_has_received_stands_in_the_log_alone(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    bay.close()
    inferred = packs_of(boxes[0])[0]
    bay.reopen(boxes[1])
    before = bay.line(inferred)
    assert bay.scan(inferred, lot="OTHER").codes[0] is M.ALREADY_RECEIVED
    assert bay.line(inferred) == before


def test_a_reopened_delivery_puts_aside_what_its_sender_had_taken_back(maker: House, pharmacy: House) -> None:
    wrong, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, wrong)
    bay.scan(packs_of(boxes[0])[0])
    bay.close()
    pharmacy.database.write_now(
        lambda c: lines_store.change_paths(
            c, bay.delivery.number, [packs_of(boxes[1])[0].path], posting=Posting.WITHDRAWN, leaf=False
        )
    )
    bay.reopen(boxes[0])
    assert bay.scan(packs_of(boxes[1])[0]).codes == (M.OVER,)


# --- concealed ---


def test_a_concealed_shortage_reopens_exactly_the_packs_that_were_inferred(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all(boxes)
    seen, gone, *_ = packs_of(boxes[0])
    bay.scan(seen)
    bay.close()
    with pytest.raises(ConflictError) as scanned:
        bay.concealed(short=[seen])
    assert scanned.value.code == "UNIT_WAS_SCANNED"
    received_at = pharmacy.held(gone).since_time
    reported = bay.concealed(short=[gone])
    held = pharmacy.held(gone)
    assert (held.state, held.parent, held.since_time) == (
        HoldingState.INBOUND,
        None,
        received_at - timedelta(milliseconds=1),
    )
    assert case_units(pharmacy, "CONCEALED_SHORTAGE") == {gone.path}
    assert len(reported.case_ids) == 1
    counts = bay.counts()
    assert (counts.found, counts.missing) == (5, 1)
    assert inbound(pharmacy, despatch_id).received_count == 5
    assert biz_steps(pharmacy)[-1] == ("unpacking", 1)
    # It turns up after all: the delivery receives it, and the case is closed.
    bay.concealed(over=[Label(gone, LOT, EXPIRY)])
    assert pharmacy.held(gone).state is HoldingState.ON_HAND
    assert cases(pharmacy) == []
    assert inbound(pharmacy, despatch_id).state is InboundState.RECEIVED


def test_a_concealed_shortage_of_what_was_held_since_is_dated_before_the_receiving(
    maker: House, pharmacy: House
) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all(boxes)
    bay.close()
    gone, *_ = packs_of(boxes[0])
    received_at = pharmacy.held(gone).since_time
    pharmacy.hold(boxes)
    pharmacy.pack(sscc(3), boxes)
    pharmacy.hold([sscc(3)])
    assert pharmacy.held(gone).since_time > received_at
    bay.concealed(short=[gone])
    held = pharmacy.held(gone)
    assert (held.state, held.since_time) == (HoldingState.INBOUND, received_at - timedelta(milliseconds=1))
    assert not held.hold_reason
    assert pharmacy.held(packs_of(boxes[0])[1]).hold_reason


def test_no_concealed_shortage_of_what_was_moved_or_not_received(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    with pytest.raises(ConflictError) as opened:
        bay.concealed(short=[packs_of(boxes[0])[0]])
    assert opened.value.code == "DELIVERY_OPEN"
    bay.scan(boxes[0])
    bay.close()
    pharmacy.confirm_all()
    moved, *_ = packs_of(boxes[0])
    pharmacy.dispense([moved])
    for unit, code in (
        (moved, "UNIT_MOVED"),
        (packs_of(boxes[1])[0], "UNIT_NOT_RECEIVED"),
        (boxes[0], "UNIT_NOT_RECEIVED"),
        (packs("x")[0], "UNIT_NOT_IN_DELIVERY"),
    ):
        with pytest.raises((ConflictError, NotFoundError)) as caught:
            bay.concealed(short=[unit])
        assert caught.value.code == code


def test_a_concealed_overage_is_put_aside_with_its_own_case(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan(boxes[0])
    bay.close()
    extra = packs("extra")[0]
    bay.concealed(over=[Label(extra, LOT, EXPIRY)])
    assert states(pharmacy, (extra,)) == {("exception", UNADVISED)}
    assert case_units(pharmacy, "CONCEALED_OVERAGE") == {extra.path}
    with pytest.raises(ConflictError) as caught:
        bay.concealed(over=[Label(packs_of(boxes[0])[0], LOT, EXPIRY)])
    assert caught.value.code == "ALREADY_RECEIVED"


def test_no_concealed_overage_of_a_pack_that_was_missed(maker: House, pharmacy: House) -> None:
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all(packs_of(boxes[0])[:2])
    bay.close()
    missed = packs_of(boxes[0])[2]
    bay.concealed(over=[Label(missed, LOT, EXPIRY)])
    assert pharmacy.held(missed).state is HoldingState.ON_HAND
    assert cases(pharmacy) == []


# --- the simple verb ---


def test_receive_records_what_nobody_advised_as_arriving(pharmacy: House) -> None:
    delivery = pharmacy.receive(packs(1, 2))
    assert biz_steps(pharmacy) == [("arriving", 2)]
    assert set(delivery.unadvised) == set(packs(1, 2))
    assert states(pharmacy, packs(1, 2)) == {("exception", UNADVISED)}


def test_a_tote_that_comes_back_unadvised_comes_back_empty(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    maker.commission(units)
    maker.pack(TOTE_A, units)
    maker.ship([TOTE_A], pharmacy.gln)
    maker.receive([TOTE_A])
    assert states(maker, (TOTE_A,)) == {("exception", UNADVISED)}
    assert states(maker, units) == {("despatched", "")}


def test_lists_are_paged_by_path(maker: House, pharmacy: House) -> None:
    despatch_id, _ = ship_cases(maker, pharmacy)
    bay = Bay.open(pharmacy, despatch_id)
    found = pharmacy.read(lambda c: lines_store.find(c, lines_store.of_delivery(bay.delivery.number), limit=3))
    assert [line.path for line in found] == sorted(line.path for line in found)
    assert len(found) == 3
