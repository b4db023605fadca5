"""Each exception that receiving raises: what opens its case, and what comes near to it and opens none."""

from datetime import timedelta

import pytest

from medtrail.document import DocumentKind
from medtrail.errors import ConflictError
from medtrail.event import Recall, RecallScope, Refusal
from medtrail.verdict import Finding, KnownPack, Verdict, VerdictCode, conclude
from services.custody import events_store, inbox
from services.custody.exceptions import commands
from services.custody.exceptions import store as case_store
from services.custody.exceptions.case import Case, CaseResolution
from services.custody.holding import HoldingState
from services.custody.holds import HoldCode, codes_of
from services.custody.orders import book
from services.custody.orders.book import DocumentQuery
from services.custody.recalls import KnownRecall
from services.custody.receiving.codes import Condition
from services.custody.receiving.reconcile import Label
from services.custody.receiving.scanning import IN_TRANSIT_TO_ANOTHER
from tests.unit.custody.conftest import EXPIRY, GTIN, LOT, START, Clock, House, packs
from tests.unit.receiving.conftest import Bay, case_codes, case_of, case_units, cases, packs_of, ship_cases


class Arrival:
    """One case of three packs at the pharmacy's door, its delivery open."""

    def __init__(self, maker: House, pharmacy: House) -> None:
        self.maker, self.pharmacy = maker, pharmacy
        self.despatch_id, (self.box,) = ship_cases(maker, pharmacy, cases=1)
        self.packs = packs_of(self.box)
        self.bay = Bay.open(pharmacy, self.despatch_id)

    def close(self) -> list[str]:
        """Close the delivery; return the codes of the open cases."""
        self.bay.close()
        return case_codes(self.pharmacy)

    def named_by(self, code: str) -> set[str]:
        return case_units(self.pharmacy, code)


@pytest.fixture
def arrival(maker: House, pharmacy: House) -> Arrival:
    return Arrival(maker, pharmacy)


def verdict(code: VerdictCode, *, reason: str = "") -> Verdict:
    return conclude([Finding(code, "x", reason)], judge_time=START, known=KnownPack(epc=""), tree_size=9)


def refuse(house: House, despatch_id: str) -> None:
    def work(connection: object) -> None:
        (stored,) = events_store.find_by_id(connection, despatch_id)  # type: ignore[arg-type]
        refusal = Refusal(stored.sha256, despatch_id, "KEY_REVOKED", "", "revoked", 7, START)
        inbox.take_refusal(connection, house.desk, refusal)  # type: ignore[arg-type]

    house.database.write_now(work)


def test_overage_of_a_pack_that_no_despatch_tells_of(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    (stray,) = packs("stray")
    arrival.bay.scan(stray)
    assert arrival.close() == ["OVERAGE"]
    assert arrival.named_by("OVERAGE") == {stray.path}


def test_no_overage_of_a_pack_that_another_despatch_to_us_brings(arrival: Arrival) -> None:
    _, (other,) = ship_cases(arrival.maker, arrival.pharmacy, cases=1, first=7)
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(packs_of(other)[0])
    assert arrival.close() == []


def test_shortage_of_what_was_advised_and_not_found(arrival: Arrival) -> None:
    arrival.bay.scan_all(arrival.packs[:2])
    assert arrival.close() == ["SHORTAGE"]
    assert arrival.named_by("SHORTAGE") == {arrival.packs[2].path}


def test_no_shortage_inside_of_a_sealed_case_that_is_there(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    assert arrival.close() == []


def test_lot_mismatch_between_label_and_data(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], lot="B999")
    assert arrival.close() == ["LOT_MISMATCH"]
    assert arrival.named_by("LOT_MISMATCH") == {arrival.packs[0].path}


def test_no_lot_mismatch_where_the_label_names_no_lot(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], lot="")
    assert arrival.close() == []


def test_expiry_mismatch_by_a_single_day(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], expiry=EXPIRY - timedelta(days=1))
    assert arrival.close() == ["EXPIRY_MISMATCH"]
    assert arrival.named_by("EXPIRY_MISMATCH") == {arrival.packs[0].path}


def test_no_expiry_mismatch_where_the_label_names_none(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], expiry=None)
    assert arrival.close() == []


def test_serial_unknown_to_the_whole_log(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    (forged,) = packs("forged")
    arrival.bay.scan(forged, verdict=verdict(VerdictCode.UNKNOWN))
    assert arrival.close() == ["SERIAL_UNKNOWN"]
    assert arrival.named_by("SERIAL_UNKNOWN") == {forged.path}


def test_no_serial_unknown_of_an_advised_pack_that_the_log_has_not_heard_of(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], verdict=verdict(VerdictCode.UNKNOWN))
    assert arrival.close() == []


def test_wrong_consignee_by_the_logs_word(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    (misled,) = packs("misled")
    arrival.bay.scan(misled, verdict=verdict(VerdictCode.ELSEWHERE, reason=IN_TRANSIT_TO_ANOTHER))
    assert arrival.close() == ["WRONG_CONSIGNEE"]
    assert arrival.named_by("WRONG_CONSIGNEE") == {misled.path}


def test_no_wrong_consignee_where_the_label_names_us(arrival: Arrival) -> None:
    label = Label(arrival.packs[0], LOT, EXPIRY, arrival.pharmacy.gln)
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], label=label)
    assert arrival.close() == []


def test_despatch_refused_by_the_ledger_after_its_goods_were_received(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    assert arrival.close() == []
    refuse(arrival.pharmacy, arrival.despatch_id)
    assert case_codes(arrival.pharmacy) == ["DESPATCH_REFUSED"]
    assert arrival.named_by("DESPATCH_REFUSED") == {pack.path for pack in arrival.packs}


def test_no_despatch_refused_while_nothing_of_it_has_arrived(arrival: Arrival) -> None:
    refuse(arrival.pharmacy, arrival.despatch_id)
    assert case_codes(arrival.pharmacy) == []


def test_label_unreadable_when_a_person_says_so(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(None, condition=Condition.LABEL_UNREADABLE)
    assert arrival.close() == ["LABEL_UNREADABLE"]


def test_no_label_unreadable_by_a_scan_that_failed(arrival: Arrival) -> None:
    arrival.bay.scan(None)
    arrival.bay.scan(arrival.box)
    assert arrival.close() == []


def test_damaged_goods_are_received_and_held(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], condition=Condition.DAMAGED)
    assert arrival.close() == ["DAMAGED"]
    assert arrival.named_by("DAMAGED") == {arrival.packs[0].path}
    assert arrival.pharmacy.held(arrival.packs[0]).hold_reason.startswith("DAMAGED")


def test_damage_holds_goods_for_itself_whatever_else_holds_them(arrival: Arrival) -> None:
    scope = RecallScope(GTIN, serials=(arrival.packs[0].serial,))
    recall = Recall("R1", "consumer", "x", "x", START, (scope,))
    arrival.pharmacy.recalls = (KnownRecall("urn:uuid:1", arrival.maker.gln, recall),)
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], condition=Condition.DAMAGED)
    assert arrival.close() == ["DAMAGED", "RECALLED"]
    held = arrival.pharmacy.held(arrival.packs[0])
    assert codes_of(held.hold_reason) == {HoldCode.DAMAGED, HoldCode.RECALLED}


def test_damaged_container_holds_all_that_came_in_it(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box, condition=Condition.DAMAGED)
    assert arrival.close() == ["DAMAGED"]
    assert arrival.named_by("DAMAGED") == {pack.path for pack in arrival.packs}
    assert {arrival.pharmacy.held(pack).hold_reason for pack in arrival.packs} == {"DAMAGED: found at receiving"}


def test_damaged_goods_are_held_when_their_data_come(maker: House, pharmacy: House) -> None:
    box = case_of(1)
    maker.commission(packs_of(box))
    maker.commission([box])
    maker.pack(box, packs_of(box))
    (loose,) = packs("loose")
    maker.commission([loose])
    maker.ship([box, loose], pharmacy.gln)
    bay = Bay.open(pharmacy)
    bay.scan(box, condition=Condition.DAMAGED)
    bay.scan(loose, condition=Condition.DAMAGED)
    bay.close()
    maker.send_to(pharmacy)
    goods = (loose, *packs_of(box))
    assert {pharmacy.held(unit).state for unit in goods} == {HoldingState.ON_HAND}
    assert {pharmacy.held(unit).hold_reason for unit in goods} == {"DAMAGED: found at receiving"}
    assert case_units(pharmacy, "DAMAGED") == {unit.path for unit in goods}
    assert told_senders(pharmacy) == [(0, "damaged 4")]


def told_senders(house: House) -> list[tuple[int, str]]:
    """Quantity and note of each line of the receiving advices of a house."""
    query = DocumentQuery(kind=DocumentKind.RECEIVING_ADVICE)
    known = house.read(lambda c: book.list_documents(c, query, before=None, limit=9))
    return [(int(line.quantity), line.note) for item in known for line in item.filed.terms.lines]


def test_what_is_held_at_once_is_told_to_its_sender_by_its_flaw(arrival: Arrival, clock: Clock) -> None:
    recall = Recall("R1", "consumer", "x", "x", START, (RecallScope(GTIN, serials=(arrival.packs[0].serial,)),))
    arrival.pharmacy.recalls = (KnownRecall("urn:uuid:1", arrival.maker.gln, recall),)
    arrival.bay.scan(arrival.packs[2], condition=Condition.DAMAGED)
    arrival.bay.scan(arrival.packs[0])
    arrival.bay.scan(packs("stray")[0])
    arrival.close()
    assert told_senders(arrival.pharmacy) == [(0, "missing 1, over 1, damaged 1, recalled 1")]
    arrival.bay.reopen(arrival.packs[1])
    arrival.bay.scan(arrival.packs[1])
    clock.now += timedelta(days=4000)
    arrival.bay.close()
    assert told_senders(arrival.pharmacy)[0] == (0, "expired 1")


def test_damaged_goods_are_held_when_their_mismatch_is_accepted(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], lot="B999", condition=Condition.DAMAGED)
    assert arrival.close() == ["LOT_MISMATCH"]
    (case,) = cases(arrival.pharmacy)
    resolve(arrival.pharmacy, case, CaseResolution.ACCEPTED)
    held = arrival.pharmacy.held(arrival.packs[0])
    assert (held.state, held.hold_reason) == (HoldingState.ON_HAND, "DAMAGED: found at receiving")
    assert case_codes(arrival.pharmacy) == ["DAMAGED"]


def resolve(house: House, case: Case, how: CaseResolution) -> None:
    occasion = house.occasion()
    house.write(lambda s: commands.resolve(s, case.case_id, how, occasion, reason="as agreed"))


@pytest.mark.parametrize("how", [CaseResolution.ACCEPTED, CaseResolution.WITHDRAWN])
def test_wrong_consignee_is_not_kept_without_data(arrival: Arrival, distributor: House, how: CaseResolution) -> None:
    arrival.bay.scan(arrival.box)
    (stray,) = packs("stray")
    arrival.bay.scan(stray, label=Label(stray, LOT, EXPIRY, distributor.gln))
    assert arrival.close() == ["WRONG_CONSIGNEE"]
    (case,) = cases(arrival.pharmacy)
    with pytest.raises(ConflictError) as caught:
        resolve(arrival.pharmacy, case, how)
    assert caught.value.code == "CASE_NEEDS_DATA"
    assert arrival.pharmacy.held(stray).state is HoldingState.EXCEPTION


def test_goods_of_a_refused_despatch_are_not_kept_without_data(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.close()
    refuse(arrival.pharmacy, arrival.despatch_id)
    (case,) = cases(arrival.pharmacy)
    with pytest.raises(ConflictError) as caught:
        resolve(arrival.pharmacy, case, CaseResolution.ACCEPTED)
    assert caught.value.code == "CASE_NEEDS_DATA"


def test_shortage_of_more_units_than_a_case_holds_is_closed_with_the_next_truck(
    maker: House, pharmacy: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_store, "MAX_UNITS", 5)
    despatch_id, boxes = ship_cases(maker, pharmacy, cases=5, packs_each=2)
    first = Bay.open(pharmacy, despatch_id)
    first.scan(boxes[0])
    first.close()
    assert sorted(case.unit_count for case in cases(pharmacy)) == [3, 5]
    second = Bay.open(pharmacy, despatch_id)
    second.scan(boxes[1])
    second.close()
    assert sorted(case.unit_count for case in cases(pharmacy)) == [3, 5]
    missing = {unit.path for box in boxes[2:] for unit in packs_of(box, each=2)}
    assert missing <= case_units(pharmacy, "SHORTAGE")


def test_already_received_of_a_second_pack_with_the_same_serial(maker: House, pharmacy: House) -> None:
    despatch_id, (box,) = ship_cases(maker, pharmacy, cases=1)
    pack = packs_of(box)[0]
    advised, blind = Bay.open(pharmacy, despatch_id), Bay.open(pharmacy)
    advised.scan(pack)
    blind.scan(pack)
    advised.close()
    blind.close()
    assert case_units(pharmacy, "ALREADY_RECEIVED") == {pack.path}
    assert blind.line(pack).result == "ALREADY_RECEIVED"


def test_already_received_where_two_deliveries_scan_what_a_despatch_advised(maker: House, pharmacy: House) -> None:
    despatch_id, (box,) = ship_cases(maker, pharmacy, cases=1)
    pack = packs_of(box)[0]
    first = Bay.open(pharmacy, despatch_id)
    first.scan_all(packs_of(box)[1:])
    first.close()
    second = Bay.open(pharmacy, despatch_id)
    second.scan(pack)
    first.reopen(pack)
    first.scan(pack)
    first.close()
    second.close()
    assert case_units(pharmacy, "ALREADY_RECEIVED") == {pack.path}


def test_no_already_received_of_one_pack_that_came_by_the_simple_verb(maker: House, pharmacy: House) -> None:
    despatch_id, (box,) = ship_cases(maker, pharmacy, cases=1)
    bay = Bay.open(pharmacy, despatch_id)
    bay.scan_all(packs_of(box))
    pharmacy.receive([packs_of(box)[0]])
    bay.close()
    assert case_codes(pharmacy) == []


def test_no_damaged_case_of_a_scan_that_was_taken_back(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.scan(arrival.packs[0], condition=Condition.DAMAGED)
    arrival.bay.undo(2)
    assert arrival.close() == []
    assert arrival.pharmacy.held(arrival.packs[0]).hold_reason == ""


def test_concealed_shortage_of_a_pack_that_was_only_inferred(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    assert arrival.close() == []
    arrival.bay.concealed(short=[arrival.packs[1]])
    assert case_codes(arrival.pharmacy) == ["CONCEALED_SHORTAGE"]
    assert arrival.named_by("CONCEALED_SHORTAGE") == {arrival.packs[1].path}


def test_no_concealed_shortage_once_the_pack_turns_up(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.close()
    arrival.bay.concealed(short=[arrival.packs[1]])
    arrival.bay.concealed(over=[Label(arrival.packs[1], LOT, EXPIRY)])
    assert case_codes(arrival.pharmacy) == []


def test_concealed_overage_found_in_a_case_after_closing(arrival: Arrival) -> None:
    arrival.bay.scan(arrival.box)
    arrival.bay.close()
    (extra,) = packs("extra")
    arrival.bay.concealed(over=[Label(extra, LOT, EXPIRY)])
    assert case_codes(arrival.pharmacy) == ["CONCEALED_OVERAGE"]
    assert arrival.named_by("CONCEALED_OVERAGE") == {extra.path}


def test_no_concealed_overage_of_a_pack_that_the_delivery_missed(arrival: Arrival) -> None:
    arrival.bay.scan_all(arrival.packs[:2])
    arrival.bay.close()
    arrival.bay.concealed(over=[Label(arrival.packs[2], LOT, EXPIRY)])
    assert case_codes(arrival.pharmacy) == []
