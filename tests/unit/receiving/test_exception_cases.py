"""Each exception that receiving raises: what opens its case, and what comes near to it and opens none."""

from datetime import timedelta

import pytest

from medtrail.event import Refusal
from medtrail.verdict import Finding, KnownPack, Verdict, VerdictCode, conclude
from services.custody import events_store, inbox
from services.custody.receiving.codes import Condition
from services.custody.receiving.reconcile import Label
from services.custody.receiving.scanning import IN_TRANSIT_TO_ANOTHER
from tests.unit.custody.conftest import EXPIRY, LOT, START, House, packs
from tests.unit.receiving.conftest import Bay, case_codes, case_units, packs_of, ship_cases


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
