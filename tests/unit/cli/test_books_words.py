"""What the commands about the books say to a person."""

from datetime import UTC, datetime

import pytest

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.cli.books import alert_document, alert_line, holding_document, holding_text, left_text

EPC = "https://id.gs1.org/01/00300010123455/21/1"
SINCE = codec.to_timestamp(datetime(2026, 6, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("quantity", "words"),
    [("", "opened; nobody counted what is left"), ("0", "dispensed"), ("17.5", "17.5 EA left")],
)
def test_what_is_left_of_a_pack(quantity: str, words: str) -> None:
    left = pharmacy_pb2.PackRemainder(epc=EPC, quantity=quantity, quantity_uom="EA")
    assert left_text(left) == f"/01/00300010123455/21/1: {words}"


def test_where_dispensing_is_not_recorded_nothing_is_on_hand() -> None:
    held = custody_pb2.Holding(epc=EPC, state=custody_pb2.HOLDING_STATE_RECEIVED_NOT_SEEN_SINCE, since_time=SINCE)
    assert holding_text(held) == (
        "/01/00300010123455/21/1: received, not seen since (dispensing is not recorded here), "
        "since 2026-06-01T12:00:00Z"
    )
    assert holding_document(held)["state"] == "received_not_seen_since"
    assert "on hand" not in holding_text(held)


def test_a_holding_tells_all_that_speaks_against_its_use() -> None:
    held = custody_pb2.Holding(
        epc=EPC,
        state=custody_pb2.HOLDING_STATE_PARTIALLY_DISPENSED,
        since_time=SINCE,
        parent="https://id.gs1.org/00/003000100000000016",
        lot="A1",
        expiry="2028-03-31",
        hold_reason="leaking",
        provisional=True,
        inferred=True,
        remainder="3",
        remainder_uom="EA",
        recall_ids=["R1"],
        suspect_case_id="C1",
        ending=custody_pb2.DECOMMISSION_REASON_SAMPLED,
    )
    text = holding_text(held)
    for words in ("opened", "3 EA left", "not scanned", "in /00/0030", "lot A1", "leaking", "R1", "C1", "sampled"):
        assert words in text
    assert holding_document(held)["remainder"] == "3"


def test_an_alert_is_one_line() -> None:
    alert = custody_pb2.UnitAlert(
        number=1, code="PARENT_NOT_UNPACKED", epc=EPC, event_id="urn:x:1", message="went alone", raise_time=SINCE
    )
    assert alert_line(alert) == "2026-06-01T12:00:00Z  PARENT_NOT_UNPACKED  /01/00300010123455/21/1: went alone"
    alert.withdraw_time.CopyFrom(SINCE)
    assert alert_line(alert).endswith("(withdrawn 2026-06-01T12:00:00Z)")
    assert alert_document(alert)["withdrawn"] == "2026-06-01T12:00:00Z"
