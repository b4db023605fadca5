from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ledger.projections.belief import Alert, AlertCode, Container, EvidenceKind, UnitBelief, UnitClass
from ledger.projections.facts import fact_of
from ledger.projections.judging import Scan, judge
from ledger.projections.recalls import RecallEntry, covers, in_force
from medtrail.event import Recall, RecallScope
from medtrail.gs1 import Gtin
from medtrail.verdict import VerdictAction, VerdictCode, beside_drill
from tests.unit.projections.story import (
    CASE_GTIN,
    EXPIRY,
    GTIN,
    MAKER,
    PHARMACY,
    START,
    WHOLESALER,
    Story,
    pack,
    path,
)

UNIT = path(pack("1"))
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ON_HAND = UnitBelief(
    unit=UNIT,
    unit_class=UnitClass.ON_HAND,
    holder=PHARMACY,
    destination="",
    place="",
    since=START,
    evidence=EvidenceKind.SCANNED,
    evidence_index=1,
    lot="A123",
    expiry=EXPIRY,
    maker=MAKER,
    first_hand=True,
)
SCAN = Scan(UNIT, NOW, lot="A123", expiry=EXPIRY, caller=PHARMACY)


def _alert(code: AlertCode) -> tuple[Alert, ...]:
    return (Alert(code, "why", 3),)


def test_sound_pack_held_by_the_caller_is_genuine() -> None:
    verdict = judge(SCAN, ON_HAND, tree_size=9)
    assert (verdict.code, verdict.action, verdict.provisional, verdict.tree_size) == ("genuine", "accept", False, 9)
    assert (verdict.epc, verdict.lot, verdict.expiry, verdict.holder) == (pack("1"), "A123", EXPIRY, PHARMACY)


@pytest.mark.parametrize(
    ("changes", "code", "action"),
    [
        ({"unit_class": UnitClass.DISPENSED}, "already_dispensed", "reject"),
        ({"unit_class": UnitClass.DESTROYED_OR_DECOMMISSIONED}, "decommissioned", "reject"),
        ({"unit_class": UnitClass.LOST_OR_STOLEN}, "stolen", "reject"),
        ({"unit_class": UnitClass.CONSUMED}, "consumed", "reject"),
        ({"unit_class": UnitClass.OPENED}, "partially_dispensed", "hold"),
        ({"unit_class": UnitClass.RETURNED}, "held", "hold"),
        ({"disposition": "non_sellable_other"}, "held", "hold"),
        ({"persistent_dispositions": ("damaged",)}, "held", "hold"),
        ({"persistent_dispositions": ("recalled",)}, "recalled", "reject"),
        ({"holder": WHOLESALER}, "elsewhere", "hold"),
        ({"unit_class": UnitClass.IN_TRANSIT, "destination": WHOLESALER}, "elsewhere", "hold"),
        ({"unit_class": UnitClass.IN_TRANSIT, "holder": WHOLESALER, "destination": PHARMACY}, "genuine", "accept"),
        ({"first_hand": False}, "unconfirmed", "hold"),
        ({"maker": ""}, "unknown", "hold"),
        ({"alerts": _alert(AlertCode.SECOND_COMMISSIONING)}, "suspect", "reject"),
        ({"alerts": _alert(AlertCode.SHIPPED_NOT_HELD)}, "unconfirmed", "hold"),
        ({"lot": "B7"}, "lot_mismatch", "hold"),
        ({"expiry": date(2030, 1, 1)}, "expiry_mismatch", "hold"),
    ],
)
def test_what_speaks_against_a_pack_decides(changes: dict[str, Any], code: str, action: str) -> None:
    verdict = judge(SCAN, replace(ON_HAND, **changes))
    assert (verdict.code, verdict.action) == (code, action)


def test_pack_on_its_way_to_another_is_told_from_one_that_nobody_has_sent() -> None:
    sent = replace(ON_HAND, unit_class=UnitClass.IN_TRANSIT, destination=WHOLESALER)
    assert judge(SCAN, sent).reason == "IN_TRANSIT_TO_ANOTHER"
    assert judge(SCAN, replace(ON_HAND, holder=WHOLESALER)).reason == ""


def test_unknown_pack_is_refused() -> None:
    verdict = judge(SCAN, None)
    assert (verdict.code, verdict.action, verdict.lot) == ("unknown", "reject", "")


def test_pallet_needs_no_commissioning() -> None:
    pallet = replace(ON_HAND, unit="/00/003000141234567899", maker="", first_hand=False)
    assert judge(replace(SCAN, unit=pallet.unit), pallet).code == "genuine"


def test_missing_data_accuse_nobody() -> None:
    verdict = judge(SCAN, replace(ON_HAND, alerts=_alert(AlertCode.RECEIVED_NOT_SHIPPED)))
    assert (verdict.provisional, verdict.alerts) == (True, ("RECEIVED_NOT_SHIPPED",))


def test_highest_code_leads_and_the_others_are_named() -> None:
    worn = replace(ON_HAND, unit_class=UnitClass.DISPENSED, lot="B7", holder=WHOLESALER)
    verdict = judge(SCAN, worn)
    assert verdict.code == "already_dispensed"
    assert verdict.further_codes == ("lot_mismatch", "elsewhere")


def test_pack_is_usable_to_the_end_of_its_last_day_where_it_is_judged() -> None:
    evening = datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert judge(replace(SCAN, judge_time=evening), ON_HAND).code == "expired"
    west = replace(SCAN, judge_time=evening, utc_offset=timedelta(hours=-5))
    assert judge(west, ON_HAND).code == "genuine"


def test_label_with_a_later_expiry_does_not_make_it_usable_longer() -> None:
    late = replace(SCAN, judge_time=datetime(2028, 1, 1, tzinfo=UTC), expiry=date(2029, 1, 1))
    verdict = judge(late, ON_HAND)
    assert (verdict.code, verdict.further_codes) == ("expired", ("expiry_mismatch",))


# --- recalls ---


def _recall(story: Story, *scopes: RecallScope, signer: str = MAKER, **fields: Any) -> RecallEntry:
    recall = Recall("R-1", "retail", "particles", "send back", START, scopes, **fields)
    event = story.sign(signer, recall)
    return RecallEntry(fact_of(len(story.told) - 1, event, key_id=story.told[-1][1]), recall)


LOT_SCOPE = RecallScope(Gtin(GTIN), "A123")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (RecallScope(Gtin(GTIN)), True),
        (LOT_SCOPE, True),
        (RecallScope(Gtin(GTIN), "a123"), False),
        (RecallScope(Gtin(GTIN), "", ("1",)), True),
        (RecallScope(Gtin(GTIN), "A123", ("2",)), False),
        (RecallScope(Gtin(CASE_GTIN)), False),
    ],
)
def test_scope_narrows_by_lot_and_serial(story: Story, scope: RecallScope, expected: bool) -> None:
    assert covers(_recall(story, scope).recall, [Container(UNIT, "A123")]) is expected


def test_recall_of_a_case_covers_what_it_holds(story: Story) -> None:
    recall = _recall(story, RecallScope(Gtin(CASE_GTIN), "A123")).recall
    assert covers(recall, [Container(UNIT, ""), Container(f"/01/{CASE_GTIN}/21/110", "A123")])


def test_recall_never_reads_as_accept(story: Story) -> None:
    verdict = judge(SCAN, ON_HAND, recalls=[_recall(story, LOT_SCOPE)])
    assert (verdict.code, verdict.action) == ("recalled", "reject")
    assert verdict.recall_ids == (story.told[0][0].header.event_id,)


def test_drill_says_that_it_is_one(story: Story) -> None:
    assert judge(SCAN, ON_HAND, recalls=[_recall(story, LOT_SCOPE, drill=True)]).message.startswith("DRILL")


def test_ended_recall_drops_out_in_either_order(story: Story) -> None:
    recall = _recall(story, LOT_SCOPE)
    end = _recall(story, LOT_SCOPE, terminated_recall_id=recall.recall_id)
    assert in_force([recall], story.directory(), now=NOW) == (recall,)
    assert in_force([recall, end], story.directory(), now=NOW) == ()
    assert in_force([end, recall], story.directory(), now=NOW) == ()


def test_recall_ended_by_another_stays_in_force(story: Story) -> None:
    recall = _recall(story, LOT_SCOPE)
    end = _recall(story, LOT_SCOPE, signer=WHOLESALER, terminated_recall_id=recall.recall_id)
    assert in_force([recall, end], story.directory(), now=NOW) == (recall,)


def test_recall_holds_from_its_start(story: Story) -> None:
    recall = _recall(story, LOT_SCOPE)
    earlier = START - timedelta(seconds=1)
    assert in_force([recall], story.directory(), now=NOW, true_time=earlier) == ()
    assert in_force([recall], story.directory(), now=earlier) == (recall,)


def test_recall_ends_when_its_end_begins(story: Story) -> None:
    recall = _recall(story, LOT_SCOPE)
    later = replace(_recall(story, LOT_SCOPE, terminated_recall_id=recall.recall_id).recall, start_time=NOW)
    end = RecallEntry(fact_of(9, story.told[-1][0], key_id=story.told[-1][1]), later)
    known, earlier = [recall, end], NOW - timedelta(seconds=1)
    assert in_force(known, story.directory(), now=earlier) == (recall,)
    assert in_force(known, story.directory(), now=NOW) == ()
    assert in_force(known, story.directory(), now=NOW, true_time=earlier) == (recall,)
    assert in_force(known, story.directory(), now=earlier, true_time=NOW) == ()


@pytest.mark.parametrize("where", [UnitClass.IN_TRANSIT, UnitClass.DELIVERED_UNCONFIRMED, UnitClass.ON_HAND])
def test_opened_pack_is_genuine_nowhere(where: UnitClass) -> None:
    belief = replace(ON_HAND, unit_class=where, destination=PHARMACY, opened=True)
    assert judge(SCAN, belief).code == "partially_dispensed"


def test_drill_hides_no_recall_and_no_mark(story: Story) -> None:
    drill, real = _recall(story, LOT_SCOPE, drill=True), _recall(story, LOT_SCOPE)
    for recalls in ([drill, real], [real, drill]):
        assert judge(SCAN, ON_HAND, recalls=recalls).reason == "RECALLED"
    marked = replace(ON_HAND, persistent_dispositions=("recalled",))
    assert judge(SCAN, marked, recalls=[drill]).reason == "MARKED_RECALLED"
    assert judge(SCAN, ON_HAND, recalls=[drill]).reason == "RECALL_DRILL"


def test_beside_a_drill_a_verdict_is_what_it_would_be(story: Story) -> None:
    drill, real = _recall(story, LOT_SCOPE, drill=True), _recall(story, LOT_SCOPE)
    plain = beside_drill(judge(SCAN, ON_HAND, recalls=[drill]))
    assert (plain.code, plain.action, plain.recall_ids) == (VerdictCode.GENUINE, VerdictAction.ACCEPT, ())
    held = replace(ON_HAND, disposition="non_sellable_other")
    assert beside_drill(judge(SCAN, held, recalls=[drill])).code is VerdictCode.HELD
    recalled = judge(SCAN, ON_HAND, recalls=[drill, real])
    assert beside_drill(recalled) is recalled
    copied = replace(ON_HAND, alerts=(Alert(AlertCode.SECOND_COMMISSIONING, "why", 1),))
    suspect = beside_drill(judge(SCAN, copied, recalls=[drill]))
    assert (suspect.code, suspect.action) == (VerdictCode.SUSPECT, VerdictAction.REJECT)
