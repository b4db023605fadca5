from datetime import UTC, date, datetime, timedelta

import pytest

from medtrail.api.event.v1 import verdict_pb2
from medtrail.codec.verdict import verdict_from_message, verdict_to_message
from medtrail.errors import MalformedError
from medtrail.verdict import (
    ACTION_OF,
    RANK_OF,
    Finding,
    KnownPack,
    Verdict,
    VerdictAction,
    VerdictCode,
    conclude,
    has_expired,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_ranks_are_the_numbers_of_the_contract() -> None:
    assert {f"VERDICT_CODE_{code.name}": rank for code, rank in RANK_OF.items()} == {
        name: number for name, number in verdict_pb2.VerdictCode.items() if number
    }


def test_only_genuine_packs_are_accepted() -> None:
    assert [code for code, action in ACTION_OF.items() if action is VerdictAction.ACCEPT] == [VerdictCode.GENUINE]
    assert set(ACTION_OF) == set(VerdictCode)


@pytest.mark.parametrize("code", VerdictCode)
def test_highest_rank_leads_whatever_the_order(code: VerdictCode) -> None:
    others = [Finding(other, "other") for other in VerdictCode if RANK_OF[other] < RANK_OF[code]]
    for findings in ([Finding(code, "this"), *others], [*others, Finding(code, "this")]):
        verdict = conclude(findings, judge_time=NOW)
        assert (verdict.code, verdict.message) == (code, "this")
        assert [RANK_OF[item] for item in verdict.further_codes] == list(range(RANK_OF[code] - 1, 0, -1))


def test_missing_data_hold_and_do_not_reject() -> None:
    verdict = conclude([Finding(VerdictCode.UNKNOWN, "why", provisional=True)], judge_time=NOW)
    assert (verdict.action, verdict.provisional) == (VerdictAction.HOLD, True)


@pytest.mark.parametrize(
    ("moment", "offset", "expected"),
    [
        (datetime(2027, 3, 27, 23, 59, tzinfo=UTC), 0, False),
        (datetime(2027, 3, 28, 0, 0, tzinfo=UTC), 0, True),
        (datetime(2027, 3, 28, 4, 59, tzinfo=UTC), -5, False),
        (datetime(2027, 3, 27, 23, 0, tzinfo=UTC), 2, True),
    ],
)
def test_expiry_is_usable_to_the_end_of_that_day_there(moment: datetime, offset: int, expected: bool) -> None:
    assert has_expired(date(2027, 3, 27), judge_time=moment, utc_offset=timedelta(hours=offset)) is expected


@pytest.mark.parametrize("code", list(VerdictCode))
def test_verdict_of_every_code_survives_the_wire(code: VerdictCode) -> None:
    verdict = conclude(
        [Finding(code, "why"), Finding(VerdictCode.GENUINE, "")], judge_time=datetime(2026, 3, 1, tzinfo=UTC)
    )
    assert verdict_from_message(verdict_to_message(verdict)) == verdict


def test_message_gives_back_the_verdict() -> None:
    verdict = conclude(
        [Finding(VerdictCode.RECALLED, "why", reason="RECALLED"), Finding(VerdictCode.EXPIRED, "old")],
        judge_time=NOW,
        known=KnownPack("https://id.gs1.org/01/00300010123455/21/1", "A1", date(2025, 1, 1), "0300011111116"),
        recall_ids=("urn:uuid:1",),
        alerts=("LOT_CONFLICT",),
        tree_size=7,
    )
    assert verdict_from_message(verdict_to_message(verdict)) == verdict
    bare = Verdict(VerdictCode.UNREADABLE, VerdictAction.RESCAN, "again", NOW)
    assert verdict_from_message(verdict_to_message(bare)) == bare


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"code": 0}, "verdict.code"),
        ({"action": 99}, "verdict.action"),
        ({"expiry": "soon"}, "verdict.expiry"),
        ({"further_codes": [77]}, "verdict.further_codes"),
    ],
)
def test_refuses_message_with_what_this_version_does_not_know(fields: dict[str, object], field: str) -> None:
    message = verdict_to_message(Verdict(VerdictCode.GENUINE, VerdictAction.ACCEPT, "", NOW))
    message.MergeFrom(verdict_pb2.Verdict(**{name: value for name, value in fields.items() if value != 0}))  # type: ignore[arg-type]
    for name in (name for name, value in fields.items() if value == 0):
        message.ClearField(name)  # type: ignore[arg-type]
    with pytest.raises(MalformedError) as refused:
        verdict_from_message(message)
    assert refused.value.field == field
