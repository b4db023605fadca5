"""How FMD requests are answered: who is alerted, and what speaks before what."""

from datetime import UTC, datetime, timedelta

import pytest

from medtrail import fmd
from medtrail.event import Role
from medtrail.fmd import AlertKind, Decommissioning, FmdCode, FmdState, PackFacts, Undo
from medtrail.gs1 import Gln
from medtrail.verdict import Finding, Verdict, VerdictCode, conclude

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HERE, THERE = Gln("4012345000009"), Gln("4012345000108")
SUPPLIED = PackFacts(FmdState.SUPPLIED)


def verdict(*codes: VerdictCode, provisional: bool = False, tree_size: int = 9) -> Verdict:
    findings = [Finding(code, code.value, provisional=provisional) for code in codes]
    return conclude(findings, judge_time=NOW, tree_size=tree_size)


@pytest.mark.parametrize("code", [VerdictCode.UNKNOWN, VerdictCode.LOT_MISMATCH, VerdictCode.EXPIRY_MISMATCH])
def test_what_may_only_be_missing_data_raises_no_alert(code: VerdictCode) -> None:
    sure, doubtful = (fmd.verify(verdict(code, provisional=doubt), PackFacts()) for doubt in (False, True))
    assert sure.code is doubtful.code
    assert (bool(sure.alert), sure.provisional, sure.kind) == (True, False, AlertKind.TECHNICAL)
    assert (doubtful.alert, doubtful.provisional) == ("", True)


def test_the_serial_speaks_before_the_lot_and_the_lot_before_the_expiry() -> None:
    all_wrong = (VerdictCode.EXPIRY_MISMATCH, VerdictCode.LOT_MISMATCH, VerdictCode.UNKNOWN)
    assert fmd.verify(verdict(*all_wrong), PackFacts()).code is FmdCode.UNKNOWN_SERIAL
    assert fmd.verify(verdict(*all_wrong[:2]), PackFacts()).code is FmdCode.LOT_MISMATCH
    assert fmd.verify(verdict(*all_wrong[:2]), PackFacts(lot_known=False)).code is FmdCode.UNKNOWN_LOT


def test_a_recall_and_a_theft_are_told_before_what_we_did_ourselves() -> None:
    recalled = verdict(VerdictCode.RECALLED, VerdictCode.ALREADY_DISPENSED)
    assert fmd.state_of(recalled, SUPPLIED) is FmdState.RECALLED
    assert fmd.state_of(recalled, PackFacts(FmdState.SUPPLIED, withdrawn=True)) is FmdState.WITHDRAWN
    stolen = verdict(VerdictCode.STOLEN, VerdictCode.GENUINE)
    assert fmd.state_of(stolen, SUPPLIED) is FmdState.STOLEN
    assert fmd.state_of(verdict(VerdictCode.ALREADY_DISPENSED), PackFacts(FmdState.SAMPLE)) is FmdState.SAMPLE


def undone(age: timedelta, *codes: VerdictCode, facts: PackFacts = SUPPLIED, **changes: object) -> FmdCode | None:
    undo = Undo(**{"premises": HERE, "time": NOW, "not_supplied": True, **changes})  # type: ignore[arg-type]
    fault = fmd.undo_fault(
        verdict(*(codes or (VerdictCode.ALREADY_DISPENSED,))), facts, undo, Decommissioning(NOW - age, HERE)
    )
    return None if fault is None else fault.code


def test_ten_days_are_ten_days_to_the_second() -> None:
    assert undone(timedelta(days=10)) is None
    assert undone(timedelta(days=10, seconds=1)) is FmdCode.UNDO_LATE
    # Clocks differ: what lies a little ahead is not late.
    assert undone(timedelta(seconds=-30)) is None


def test_each_condition_of_an_undo_by_itself() -> None:
    day = timedelta(days=1)
    assert undone(day) is None
    assert undone(day, premises=THERE) is FmdCode.UNDO_ELSEWHERE
    assert undone(day, not_supplied=False) is FmdCode.SUPPLY_NOT_DENIED
    assert undone(day, not_supplied=False, facts=PackFacts(FmdState.SAMPLE)) is None
    assert undone(day, expected=FmdState.SUPPLIED) is None
    assert undone(day, expected=FmdState.EXPORTED) is FmdCode.UNDO_MISMATCH
    assert undone(day, VerdictCode.EXPIRED, VerdictCode.ALREADY_DISPENSED) is FmdCode.UNDO_MISMATCH
    assert undone(day, VerdictCode.SUSPECT, VerdictCode.ALREADY_DISPENSED) is FmdCode.SUSPECT
    assert undone(day, VerdictCode.ALREADY_DISPENSED, facts=PackFacts()) is FmdCode.UNDO_ELSEWHERE
    assert undone(day, VerdictCode.GENUINE, facts=PackFacts()) is FmdCode.UNDO_MISMATCH
    for final in (FmdState.DESTROYED, FmdState.STOLEN):
        assert undone(day, VerdictCode.DECOMMISSIONED, facts=PackFacts(final)) is FmdCode.UNDO_MISMATCH


def test_only_pharmacies_supply_and_only_others_export() -> None:
    may = {state: {role for role, states in fmd.STATES_OF_ROLE.items() if state in states} for state in FmdState}
    assert may[FmdState.SUPPLIED] == {Role.PHARMACY}
    assert may[FmdState.EXPORTED] == {Role.DISTRIBUTOR, Role.MANUFACTURER, Role.REPACKAGER}
    for state in (FmdState.DESTROYED, FmdState.STOLEN, FmdState.SAMPLE, FmdState.LOCKED):
        assert may[state] == set(fmd.STATES_OF_ROLE)
    for state in (FmdState.ACTIVE, FmdState.EXPIRED, FmdState.RECALLED, FmdState.WITHDRAWN):
        assert may[state] == set()


def test_what_may_not_be_sold_may_still_be_destroyed() -> None:
    for codes in ((VerdictCode.EXPIRED,), (VerdictCode.RECALLED,), (VerdictCode.HELD,), (VerdictCode.SUSPECT,)):
        assert fmd.change_fault(verdict(*codes), PackFacts(), wanted=FmdState.DESTROYED) is None
        for wanted in (FmdState.SUPPLIED, FmdState.EXPORTED, FmdState.FREE_SAMPLE):
            fault = fmd.change_fault(verdict(*codes), PackFacts(), wanted=wanted)
            assert fault is not None
            assert fault.alert == ""
    away = fmd.change_fault(verdict(VerdictCode.ELSEWHERE), PackFacts(here=False), wanted=FmdState.DESTROYED)
    assert away is not None
    assert away.code is FmdCode.NOT_PERFORMED
