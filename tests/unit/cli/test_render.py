"""Words for events, moments and answers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from medtrail.api.event.v1 import payload_pb2, verdict_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.cli import answers
from medtrail.cli.render import event_summary, format_time, parse_time, short_epc
from medtrail.codec import to_timestamp
from medtrail.document import Document, DocumentFunction, DocumentKind
from medtrail.epcis.model import Action, EpcisEvent, ErrorDeclaration, EventType
from medtrail.errors import MalformedError
from medtrail.event import (
    Capture,
    Enrolment,
    Event,
    Genesis,
    Header,
    KeyAddition,
    KeyRetirement,
    KeyRevocation,
    PackLevel,
    Product,
    Recall,
    RecallScope,
    Refusal,
    Role,
    Statement,
)
from medtrail.gs1 import Gln, Gtin

SHOP = Gln("4012345000009")
MAKER = Gln("0300011111116")
GTIN = Gtin("00300010123455")
CASE = Gtin("10300010123452")
MOMENT = datetime(2026, 5, 4, 10, tzinfo=UTC)
ORDER = Document(DocumentKind.ORDER, "P-1", SHOP, MOMENT)
HEADER = Header(bytes(32), MAKER, "line-1", 1, "urn:uuid:1")
PACKS = tuple(f"https://id.gs1.org/01/{GTIN}/21/{number}" for number in range(3))
PALLET = "https://id.gs1.org/00/003000112345678905"

SHIPPED = EpcisEvent(EventType.OBJECT, MOMENT, "+00:00", action=Action.OBSERVE, epc_list=(PALLET,), biz_step="shipping")
PACKED = EpcisEvent(
    EventType.AGGREGATION,
    MOMENT,
    "+00:00",
    action=Action.ADD,
    parent_id=PALLET,
    child_epcs=PACKS,
    biz_step="packing",
)
REPACKED = EpcisEvent(EventType.TRANSFORMATION, MOMENT, "+00:00", input_epc_list=PACKS, output_epc_list=PACKS[:2])
ENROLMENT = Enrolment(
    "maker", "Maker AG", MAKER, (), ("030001",), frozenset({Role.MANUFACTURER}), ("did:key:z",), bytes(32), "U"
)


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        (SHIPPED, "shipping of 1 unit at 2026-05-04T10:00:00Z"),
        (PACKED, "packing of 3 units in /00/003000112345678905 at 2026-05-04T10:00:00Z"),
        (
            replace(PACKED, action=Action.DELETE, biz_step="unpacking", disposition="unknown"),
            "unpacking (missing) of 3 units in /00/003000112345678905 at 2026-05-04T10:00:00Z",
        ),
        (
            replace(PACKED, action=Action.DELETE, biz_step="unpacking", disposition="in_progress"),
            "unpacking of 3 units in /00/003000112345678905 at 2026-05-04T10:00:00Z",
        ),
        (REPACKED, "TransformationEvent of 2 units at 2026-05-04T10:00:00Z"),
        (
            replace(SHIPPED, error_declaration=ErrorDeclaration(MOMENT)),
            "shipping of 1 unit at 2026-05-04T10:00:00Z, declared an error",
        ),
        (Product(GTIN, PackLevel.PACK, "Epcistra"), "product 00300010123455 Epcistra (pack)"),
        (
            Recall("R-1", "consumer", "glass", "return", MOMENT, (RecallScope(GTIN, "A"), RecallScope(CASE))),
            "recall R-1 of 00300010123455, 10300010123452",
        ),
        (ENROLMENT, "enrolment of Maker AG, GLN 0300011111116"),
        (Genesis("log.example", "did:key:z", bytes(32)), "genesis of log.example"),
        (KeyAddition(MAKER, "did:key:z"), "KeyAddition"),
        (KeyRetirement("did:key:z"), "KeyRetirement"),
        (KeyRevocation("did:key:z", MOMENT), "KeyRevocation"),
        (Refusal(bytes(32), "urn:uuid:1", "KEY_UNKNOWN", "", "", 1, MOMENT), "Refusal"),
        (ORDER, f"po P-1 of {MAKER} to {SHOP}"),
        (replace(ORDER, function=DocumentFunction.CLOSURE), f"po P-1, closure of {MAKER} to {SHOP}"),
    ],
    ids=range(16),
)
def test_every_statement_has_a_line(statement: Statement, summary: str) -> None:
    assert event_summary(Event(HEADER, statement)) == summary


def test_second_hand_word_is_told_as_such() -> None:
    header = replace(HEADER, capture=Capture.SECOND_HAND)
    assert event_summary(Event(header, SHIPPED)) == "shipping of 1 unit at 2026-05-04T10:00:00Z, second-hand"


def test_identifier_loses_the_address_of_its_resolver_only() -> None:
    assert short_epc(PALLET) == "/00/003000112345678905"
    assert short_epc("https://example.org/00/003000112345678905") == "https://example.org/00/003000112345678905"
    assert short_epc("urn:epc:id:sscc:030001.01234567890") == "urn:epc:id:sscc:030001.01234567890"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-04T10:00:00Z", MOMENT),
        ("2026-05-04T12:00:00+02:00", MOMENT),
        ("2026-05-04T10:00:00", MOMENT),
        ("2026-05-04 10:00", MOMENT),
        ("2026-05-04", datetime(2026, 5, 4, tzinfo=UTC)),
        ("2026-05-04T10:00:00.25Z", MOMENT + timedelta(milliseconds=250)),
    ],
)
def test_moment_is_read_in_utc(text: str, moment: datetime) -> None:
    found = parse_time(text, field="--at")
    assert found == moment
    assert found.tzinfo is UTC
    assert parse_time(format_time(found), field="--at") == moment


@pytest.mark.parametrize(
    "text", ["", "noon", "2026-13-01", "2026-05-04T25:00:00Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"]
)
def test_refuses_what_is_no_moment(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_time(text, field="--at")
    assert (caught.value.code, caught.value.field) == ("TIME_MALFORMED", "--at")


def test_moment_is_written_in_utc_with_a_fraction_only_where_there_is_one() -> None:
    east = timezone(timedelta(hours=2))
    assert format_time(datetime(2026, 5, 4, 12, tzinfo=east)) == "2026-05-04T10:00:00Z"
    assert format_time(MOMENT + timedelta(microseconds=5)) == "2026-05-04T10:00:00.000005Z"


def test_names_of_enums_are_bare_words() -> None:
    assert answers.class_name(ledger_pb2.UNIT_CLASS_IN_TRANSIT) == "in_transit"
    assert answers.evidence_name(ledger_pb2.EVIDENCE_KIND_INFERRED) == "inferred"
    assert answers.level_name(payload_pb2.PACK_LEVEL_CASE) == "case"
    assert answers.level_name(payload_pb2.PACK_LEVEL_UNSPECIFIED) == "unknown"
    assert answers.verdict_name(verdict_pb2.VERDICT_CODE_GENUINE) == "genuine"
    assert answers.action_name(verdict_pb2.VERDICT_ACTION_ACCEPT) == "accept"


def test_every_value_of_every_enum_has_a_name() -> None:
    for names in (
        [answers.class_name(number) for number in ledger_pb2.UnitClass.values()],
        [answers.evidence_name(number) for number in ledger_pb2.EvidenceKind.values()],
        [answers.level_name(number) for number in payload_pb2.PackLevel.values()],
        [answers.verdict_name(number) for number in verdict_pb2.VerdictCode.values()],
        [answers.action_name(number) for number in verdict_pb2.VerdictAction.values()],
    ):
        assert len(set(names)) == len(names)
        assert all(text.islower() and "unspecified" not in text for text in names[1:])


def test_state_document_leaves_no_empty_text() -> None:
    state = ledger_pb2.UnitState(epc=PACKS[0], unit_class=ledger_pb2.UNIT_CLASS_IN_TRANSIT, lot="A")
    document = answers.state_document(state)
    assert document["epc"] == PACKS[0]
    assert document["class"] == "in_transit"
    assert document["lot"] == "A"
    assert document["level"] == "unknown"
    empty = ("holder", "destination", "owner", "place", "since", "parent", "expiry", "maker", "disposition")
    assert {name: document[name] for name in empty} == dict.fromkeys(empty)
    assert document["alerts"] == document["persistent_dispositions"] == []


def test_state_document_tells_alerts_and_times() -> None:
    state = ledger_pb2.UnitState(
        since_time=to_timestamp(MOMENT),
        persistent_dispositions=["stolen"],
        alerts=[ledger_pb2.Alert(code="TWO_PLACES", message="seen twice", leaf_index=7, provisional=True)],
    )
    document = answers.state_document(state)
    assert document["since"] == "2026-05-04T10:00:00Z"
    assert document["persistent_dispositions"] == ["stolen"]
    (alert,) = document["alerts"]
    assert alert == {
        "code": "TWO_PLACES",
        "message": "seen twice",
        "leaf_index": 7,
        "provisional": True,
        "grave": False,
    }


def test_state_document_tells_states_hold_remainder_and_ending() -> None:
    state = ledger_pb2.UnitState(
        custody_states=[
            ledger_pb2.CUSTODY_STATE_HELD,
            ledger_pb2.CUSTODY_STATE_ON_HOLD,
            ledger_pb2.CUSTODY_STATE_PARTIALLY_DISPENSED,
        ],
        hold_reason="DAMAGED: wet\nEXPIRED",
        hold_index=7,
        remainder="10",
        remainder_uom="EA",
        recall_ids=["urn:uuid:r"],
    )
    document = answers.state_document(state)
    assert document["states"] == ["held", "on_hold", "partially_dispensed"]
    assert document["hold"] == {"reason": "DAMAGED: wet\nEXPIRED", "leaf_index": 7}
    assert (document["remainder"], document["recalls"]) == ({"quantity": "10", "uom": "EA"}, ["urn:uuid:r"])
    assert document["ending"] is None
    told = "held, on hold (DAMAGED: wet; EXPIRED), partially dispensed (10 EA left)"
    assert answers.states_words(state) == told
    exported = answers.state_document(ledger_pb2.UnitState(ending=ledger_pb2.ENDING_EXPORTED))
    assert (exported["ending"], exported["hold"], exported["remainder"]) == ("exported", None, None)


def test_verdict_document_tells_all_that_is_known() -> None:
    verdict = verdict_pb2.Verdict(
        code=verdict_pb2.VERDICT_CODE_RECALLED,
        action=verdict_pb2.VERDICT_ACTION_HOLD,
        message="put it aside",
        recall_ids=["urn:uuid:r"],
        further_codes=[verdict_pb2.VERDICT_CODE_EXPIRED],
        tree_size=9,
        judge_time=to_timestamp(MOMENT),
    )
    assert answers.verdict_document(verdict) == {
        "verdict": "recalled",
        "action": "hold",
        "message": "put it aside",
        "reason": None,
        "epc": None,
        "lot": None,
        "expiry": None,
        "holder": None,
        "provisional": False,
        "recalls": ["urn:uuid:r"],
        "alerts": [],
        "further": ["expired"],
        "tree_size": 9,
        "judge_time": "2026-05-04T10:00:00Z",
    }
    assert answers.verdict_document(verdict_pb2.Verdict())["judge_time"] is None


def test_whereabouts_are_told_in_words() -> None:
    transit, held = ledger_pb2.UNIT_CLASS_IN_TRANSIT, ledger_pb2.UNIT_CLASS_ON_HAND
    assert answers.place_words(transit, "A", "B") == "in transit from A to B"
    assert answers.place_words(held, "A", "") == "last known with A"
    assert answers.place_words(held, "", "") == "last known with an unnamed party"
    assert answers.place_words(ledger_pb2.UNIT_CLASS_DISPENSED, "A", "") == "dispensed, A"
    assert answers.place_words(ledger_pb2.UNIT_CLASS_DISPENSED, "", "") == "dispensed"
