"""Over the whole state space: what is recalled, suspect, held, expired or used up reads as acceptable nowhere."""

import csv
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.projections.belief import (
    FINAL_CLASSES,
    GRAVE_ALERTS,
    SILENT_ALERTS,
    Alert,
    AlertCode,
    EvidenceKind,
    UnitBelief,
    UnitClass,
)
from ledger.projections.judging import Scan
from ledger.projections.judging import judge as judge_by_log
from medtrail import fmd
from medtrail.epcis import cbv
from medtrail.fmd import FmdState, PackFacts
from medtrail.gs1 import Gln, Gtin, Sgtin
from medtrail.verdict import (
    ACTION_OF,
    CODE_OF_DISPOSITION,
    Finding,
    Verdict,
    VerdictAction,
    VerdictCode,
    conclude,
)
from medtrail.vrs import AdditionalInfo, FailureReason, VrsAnswer, VrsRequest, VrsResponse, answer_of, verdict_of
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.return_codes import is_saleable
from services.custody.verdicts import Occasion, Own, Seen
from services.custody.verdicts import judge as judge_by_books

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PACK = Sgtin(Gtin("00300010123455"), "1")
GOOD, PAST = date(2028, 3, 31), date(2026, 5, 31)
SEEN = Seen(PACK, "A1", GOOD)
MAKER, HERE, THERE = "0300011111116", "4012345000009", "4012345000108"
NEVER = frozenset(VerdictCode) - {VerdictCode.GENUINE, VerdictCode.UNCONFIRMED, VerdictCode.ELSEWHERE}
REFERENCE = Path(__file__).parents[3].parent / "shared" / "data" / "reference-codes"


def verdict_with(codes: frozenset[VerdictCode], *, provisional: bool = False, reason: str = "") -> Verdict:
    findings = [Finding(code, code.value, reason=reason, provisional=provisional) for code in codes]
    return conclude(findings, judge_time=NOW, tree_size=1)


# --- scans: the ledger's word ---


def belief(**changes: object) -> UnitBelief:
    good = UnitBelief(
        unit=PACK.path,
        unit_class=UnitClass.ON_HAND,
        holder=HERE,
        destination="",
        place="",
        since=NOW,
        evidence=EvidenceKind.SCANNED,
        evidence_index=1,
        lot="A1",
        expiry=GOOD,
        maker=MAKER,
        first_hand=True,
    )
    return replace(good, **changes)  # type: ignore[arg-type]


SCAN = Scan(PACK.path, NOW, lot="A1", expiry=GOOD, caller=HERE)


def test_a_pack_against_which_nothing_speaks_is_accepted() -> None:
    assert judge_by_log(SCAN, belief()).action is VerdictAction.ACCEPT
    for word in ("", "active", "in_progress", "sellable_accessible", "available", "conformant"):
        assert judge_by_log(SCAN, belief(disposition=word)).action is VerdictAction.ACCEPT


@pytest.mark.parametrize("word", sorted(CODE_OF_DISPOSITION))
def test_no_disposition_that_speaks_against_a_pack_is_overlooked(word: str) -> None:
    for unit_class in UnitClass:
        for marked in (
            belief(unit_class=unit_class, disposition=word),
            belief(unit_class=unit_class, persistent_dispositions=("conformant", word)),
        ):
            verdict = judge_by_log(SCAN, marked)
            assert verdict.action is not VerdictAction.ACCEPT, (unit_class, word)
            if unit_class not in FINAL_CLASSES:
                assert CODE_OF_DISPOSITION[word] in verdict.codes


def test_every_disposition_of_the_vocabulary_has_been_decided_on() -> None:
    harmless = {
        "active",
        "available",
        "completeness_inferred",
        "completeness_verified",
        "conformant",
        "container_closed",
        "container_open",
        "encoded",
        "in_progress",
        "in_transit",
        # A class of its own: held until it is released.
        "returned",
        "sellable_accessible",
        "sellable_not_accessible",
    }
    assert harmless | set(CODE_OF_DISPOSITION) == cbv.DISPOSITIONS.words
    assert not harmless & set(CODE_OF_DISPOSITION)


@pytest.mark.parametrize("unit_class", UnitClass)
def test_the_log_accepts_in_no_state_but_at_rest_with_who_asks(unit_class: UnitClass) -> None:
    at_rest = {UnitClass.AT_MAKER, UnitClass.ON_HAND, UnitClass.UNACCOUNTED}
    on_the_way = {UnitClass.IN_TRANSIT, UnitClass.DELIVERED_UNCONFIRMED, UnitClass.LEFT_NETWORK}
    for alert, first_hand, expiry in product((None, *AlertCode), (True, False), (GOOD, PAST)):
        alerts = () if alert is None else (Alert(alert, "why", 3),)
        state = belief(unit_class=unit_class, alerts=alerts, first_hand=first_hand, expiry=expiry, destination=HERE)
        verdict = judge_by_log(replace(SCAN, expiry=expiry), state)
        if verdict.action is VerdictAction.ACCEPT:
            assert alert is None or alert in SILENT_ALERTS
            assert (first_hand, expiry) == (True, GOOD)
            assert unit_class in at_rest | on_the_way
        if alert in GRAVE_ALERTS:
            assert VerdictCode.SUSPECT in verdict.codes


# --- scans: the books, together with the ledger's word ---

HOLDINGS = [
    Holding(
        PACK,
        state,
        "ni:1",
        NOW,
        lot=lot,
        expiry=expiry,
        hold_reason=hold,
        provisional=provisional,
        ending=ending,
        exception="UNADVISED" if state is HoldingState.EXCEPTION else "",
    )
    for state, hold, provisional, lot, expiry in product(
        HoldingState, ("", "leaking"), (False, True), ("A1", "B2", ""), (GOOD, PAST, None)
    )
    for ending in (Ending if state is HoldingState.ENDED else (None,))
]
LEDGERS = [None, *(verdict_with(frozenset({code})) for code in VerdictCode)]


def test_books_and_ledger_together_accept_only_what_both_do() -> None:
    for holding, ledger, recalls in product(HOLDINGS, LEDGERS, ((), ("urn:uuid:1",))):
        for logged in (False, True):
            verdict = judge_by_books(SEEN, Own(holding, recalls, logged), Occasion(NOW), ledger)
            assert (verdict.action is VerdictAction.ACCEPT) == (verdict.code is VerdictCode.GENUINE)
            if verdict.action is not VerdictAction.ACCEPT:
                continue
            assert ledger is not None
            assert ledger.code is VerdictCode.GENUINE
            assert not recalls
            assert holding.state in {HoldingState.INBOUND, HoldingState.ON_HAND}
            assert (holding.hold_reason, holding.provisional) == ("", False)
            assert holding.lot in {"A1", ""}
            assert holding.expiry in {GOOD, None}


@pytest.mark.parametrize("word", sorted(CODE_OF_DISPOSITION))
def test_what_the_log_has_not_heard_yet_is_not_overlooked(word: str) -> None:
    holding = Holding(PACK, HoldingState.ON_HAND, "ni:1", NOW, lot="A1", expiry=GOOD)
    genuine = verdict_with(frozenset({VerdictCode.GENUINE}))
    verdict = judge_by_books(SEEN, Own(holding, logged=True, words=("active", word)), Occasion(NOW), genuine)
    assert CODE_OF_DISPOSITION[word] in verdict.codes
    assert verdict.action is not VerdictAction.ACCEPT
    assert judge_by_books(SEEN, Own(holding, words=("active",)), Occasion(NOW), genuine).action is VerdictAction.ACCEPT


def test_what_the_books_do_not_know_is_as_the_ledger_says() -> None:
    for ledger in LEDGERS:
        verdict = judge_by_books(SEEN, Own(None), Occasion(NOW), ledger)
        accepted = verdict.action is VerdictAction.ACCEPT
        assert accepted == (ledger is not None and ledger.code is VerdictCode.GENUINE)


# --- VRS, out and in ---

CODE_SETS = st.frozensets(st.sampled_from(sorted(VerdictCode)), min_size=1)


@given(CODE_SETS)
def test_vrs_answers_a_plain_verified_only_of_what_may_be_accepted(codes: frozenset[VerdictCode]) -> None:
    answer = answer_of(codes)
    assert answer.plain == (codes <= {VerdictCode.GENUINE, VerdictCode.ELSEWHERE})
    if not answer.verified:
        assert answer.reason is not None
    as_return = answer_of(codes, returned=True)
    assert as_return.plain == (codes <= {VerdictCode.GENUINE, VerdictCode.ELSEWHERE, VerdictCode.HELD})


@pytest.mark.parametrize("code", VerdictCode)
def test_each_code_by_itself_says_the_same_over_vrs_as_by_scan(code: VerdictCode) -> None:
    answer = answer_of(frozenset({code}))
    request = VrsRequest(PACK, "A1", GOOD, "dscsaSaleableReturn", Gln(HERE), "1")
    verdict = verdict_of(request, VrsResponse(NOW, Gln(MAKER), "1", answer), judge_time=NOW)
    if code in NEVER:
        assert verdict.action is not VerdictAction.ACCEPT
    if code in {VerdictCode.RECALLED, VerdictCode.EXPIRED, VerdictCode.SUSPECT}:
        # The trap: verified, and not acceptable.
        assert answer.verified
        assert (verdict.code, verdict.action) == (code, ACTION_OF[code])


def test_vrs_accepts_a_plain_verified_and_nothing_else() -> None:
    for verified, reason, info, expiry in product(
        (True, False), (None, *FailureReason), (None, *AdditionalInfo), (GOOD, PAST)
    ):
        request = VrsRequest(PACK, "A1", expiry, "dscsaSaleableReturn", Gln(HERE), "1")
        answer = VrsAnswer(verified, reason, info)
        verdict = verdict_of(request, VrsResponse(NOW, Gln(MAKER), "1", answer), judge_time=NOW)
        harmless = info in {None, AdditionalInfo.EXPIRATION_EXTENDED}
        accepted = verified and reason is None and harmless and expiry is GOOD
        assert (verdict.action is VerdictAction.ACCEPT) == accepted, answer


# --- FMD ---

FACTS = [
    PackFacts(own, lot_known=lot_known, withdrawn=withdrawn, here=here)
    for own, lot_known, withdrawn, here in product(
        (
            None,
            FmdState.SUPPLIED,
            FmdState.SAMPLE,
            FmdState.FREE_SAMPLE,
            FmdState.EXPORTED,
            FmdState.LOCKED,
            FmdState.INACTIVE,
            FmdState.DESTROYED,
            FmdState.STOLEN,
        ),
        (True, False),
        (True, False),
        (True, False),
    )
]


@given(CODE_SETS, st.sampled_from(FACTS), st.booleans(), st.sampled_from(["", "LEDGER_UNREACHABLE"]))
def test_fmd_supplies_only_what_the_verdict_accepts(
    codes: frozenset[VerdictCode], facts: PackFacts, provisional: bool, reason: str
) -> None:
    verdict = verdict_with(codes, provisional=provisional, reason=reason)
    answer = fmd.verify(verdict, facts)
    acceptable = verdict.action is VerdictAction.ACCEPT and codes == {VerdictCode.GENUINE} and not reason
    assert answer.done == (acceptable and facts.own_state is None)
    assert (answer.state is FmdState.ACTIVE and answer.done) == answer.done
    fault = fmd.change_fault(verdict, facts, wanted=FmdState.SUPPLIED)
    assert (fault is None) == (answer.done and facts.here)


@given(CODE_SETS, st.sampled_from(FACTS), st.booleans(), st.timedeltas(timedelta(), timedelta(days=30)))
def test_fmd_undoes_nothing_that_is_barred(
    codes: frozenset[VerdictCode], facts: PackFacts, not_supplied: bool, age: timedelta
) -> None:
    place = Gln(HERE)
    undo = fmd.Undo(place, NOW, not_supplied=not_supplied)
    done = fmd.Decommissioning(NOW - age, place)
    fault = fmd.undo_fault(verdict_with(codes), facts, undo, done)
    if fault is not None:
        assert not fault.done
        return
    assert facts.own_state in fmd.UNDOABLE
    assert age <= fmd.UNDO_WITHIN
    assert not codes & {
        VerdictCode.EXPIRED,
        VerdictCode.RECALLED,
        VerdictCode.STOLEN,
        VerdictCode.SUSPECT,
        VerdictCode.PARTIALLY_DISPENSED,
        VerdictCode.UNKNOWN,
        VerdictCode.UNREADABLE,
        VerdictCode.LOT_MISMATCH,
        VerdictCode.EXPIRY_MISMATCH,
    }
    assert facts.own_state is not FmdState.SUPPLIED or not_supplied
    assert fmd.undo_fault(verdict_with(codes), facts, replace(undo, premises=Gln(THERE)), done) is not None
    assert fmd.undo_fault(verdict_with(codes), facts, undo, None) is not None
    assert fmd.undo_fault(replace(verdict_with(codes), tree_size=0), facts, undo, done) is not None


# --- saleable returns ---


@given(CODE_SETS, st.booleans())
def test_a_return_is_saleable_only_when_nothing_but_its_way_speaks(
    codes: frozenset[VerdictCode], provisional: bool
) -> None:
    verdict = verdict_with(codes, provisional=provisional)
    expected = (
        not provisional and VerdictCode.GENUINE in codes and codes <= {VerdictCode.GENUINE, VerdictCode.ELSEWHERE}
    )
    assert is_saleable(verdict) == expected


# --- the published code lists ---


def _rows(name: str) -> list[dict[str, str]]:
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_failure_reasons_and_information_are_those_of_the_guideline() -> None:
    assert {row["code"] for row in _rows("vrs-verification-failure-reason.csv")} == set(FailureReason)
    assert {row["code"] for row in _rows("vrs-additional-info.csv")} == set(AdditionalInfo)


def test_return_codes_and_alerts_are_those_published() -> None:
    ours = {
        code.value: (meaning.alert, meaning.text, meaning.kind.value)
        for code, meaning in fmd.MEANING_OF.items()
        if code.value.startswith("NMVS_") and code is not fmd.FmdCode.SUCCESS
    }
    published = {
        row["return_code"]: (row["hub_alert"], row["short_description"], row["kind"])
        for row in _rows("nmvs-return-codes.csv")
    }
    assert ours == published
    assert set(fmd.MEANING_OF) == set(fmd.FmdCode)


def test_the_published_table_is_what_every_surface_answers() -> None:
    text = (Path(__file__).parents[3] / "docs" / "verification.md").read_text(encoding="utf-8")
    rows = {line for line in text.splitlines() if line.startswith("| `") and line.count("|") == 5}
    wanted = set()
    for code in VerdictCode:
        verdict = verdict_with(frozenset({code}))
        vrs, state = answer_of(frozenset({code})), fmd.verify(verdict, PackFacts())
        words = [str(vrs.verified).lower(), *(word.value for word in (vrs.reason, vrs.info) if word is not None)]
        told = [state.state.value, state.code.value, *([state.alert] if state.alert else [])]
        wanted.add(f"| `{code.value}` | {verdict.action.value} | {', '.join(words)} | {', '.join(told)} |")
    assert {row for row in rows if row.split("`")[1] in set(VerdictCode)} == wanted
