"""Verdicts on scans, from what is believed. Pure; the ranks and actions are the kernel's (medtrail.verdict)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ledger.projections.belief import FINAL_CLASSES, SILENT_ALERTS, UnitBelief, UnitClass
from ledger.projections.recalls import RecallEntry
from medtrail.gs1.keys import RESOLVER
from medtrail.verdict import (
    CODE_OF_DISPOSITION,
    RECALL_DRILL,
    Finding,
    KnownPack,
    Verdict,
    VerdictCode,
    conclude,
    has_expired,
)

_ON_THE_WAY = frozenset({UnitClass.IN_TRANSIT, UnitClass.DELIVERED_UNCONFIRMED, UnitClass.LEFT_NETWORK})


@dataclass(frozen=True, slots=True)
class Scan:
    """What was read off a pack, by whom and when.

    Attributes:
        unit: Canonical path.
        lot: Empty when not read.
        expiry: None when not read.
        judge_time: Moment for which to judge; aware UTC.
        utc_offset: Of the place of judgement: a pack is usable to the end of its last day there.
        caller: Party GLN of who asks; empty when it does not matter who.
    """

    unit: str
    judge_time: datetime
    lot: str = ""
    expiry: date | None = None
    utc_offset: timedelta = timedelta()
    caller: str = ""


def judge(scan: Scan, belief: UnitBelief | None, *, recalls: Sequence[RecallEntry] = (), tree_size: int = 0) -> Verdict:
    """Return what a scan means.

    Args:
        scan: What was read.
        belief: What is believed of the unit at the judge's time; None when no event tells of it.
        recalls: In force at that time, and covering the unit, what is inside it or what holds it.
        tree_size: Size up to which all was considered.
    """
    findings = [*_unknown(belief), *_recalled(recalls, belief)]
    if belief is not None:
        findings += [*_ended(belief), *_suspect(belief), *_held(belief), *_marked(belief)]
        findings += [*_elsewhere(belief, scan.caller), *_unconfirmed(belief)]
    findings += _label(scan, belief)
    if not findings:
        findings.append(Finding(VerdictCode.GENUINE, "Commissioned by its maker, and nothing speaks against it."))
    return conclude(
        findings,
        judge_time=scan.judge_time,
        known=_known(scan, belief),
        recall_ids=tuple(entry.recall_id for entry in recalls),
        alerts=() if belief is None else tuple(sorted({alert.code.value for alert in belief.alerts})),
        tree_size=tree_size,
    )


def _known(scan: Scan, belief: UnitBelief | None) -> KnownPack:
    epc = RESOLVER + scan.unit
    return KnownPack(epc) if belief is None else KnownPack(epc, belief.lot, belief.expiry, belief.holder)


def _unknown(belief: UnitBelief | None) -> Iterator[Finding]:
    if belief is None:
        text = "Nobody commissioned this pack. Put it aside and ask the supplier for its data."
        yield Finding(VerdictCode.UNKNOWN, text)
    elif not belief.has_origin:
        text = "Its commissioning is not in the network. Put it aside until the maker's data arrive."
        yield Finding(VerdictCode.UNKNOWN, text, reason="COMMISSION_MISSING", provisional=True)


def _recalled(recalls: Iterable[RecallEntry], belief: UnitBelief | None) -> Iterator[Finding]:
    # What is no drill speaks first, whichever came first: of equals the first is heard.
    drills: list[Finding] = []
    for entry in recalls:
        recall = entry.recall
        text = f"Recall {recall.number}: {recall.reason} {recall.instruction}".strip()
        if recall.drill:
            drills.append(Finding(VerdictCode.RECALLED, f"DRILL, no real recall: {text}", reason=RECALL_DRILL))
        else:
            yield Finding(VerdictCode.RECALLED, text, reason="RECALLED")
    if belief is not None and "recalled" in belief.words:
        text = "Its holder marked it as recalled. Put it aside and ask the maker."
        yield Finding(VerdictCode.RECALLED, text, reason="MARKED_RECALLED")
    yield from drills


_FINDING_OF_CLASS = {
    UnitClass.DISPENSED: Finding(
        VerdictCode.ALREADY_DISPENSED, "Dispensed before. Do not dispense; report it if it was not you."
    ),
    UnitClass.DESTROYED_OR_DECOMMISSIONED: Finding(
        VerdictCode.DECOMMISSIONED, "Taken out of use or destroyed. Put it aside and report it."
    ),
    UnitClass.LOST_OR_STOLEN: Finding(VerdictCode.STOLEN, "Reported stolen or lost. Put it aside and report it."),
    UnitClass.CONSUMED: Finding(VerdictCode.CONSUMED, "Used up in a repackaging. Put it aside and report it."),
    UnitClass.OPENED: Finding(
        VerdictCode.PARTIALLY_DISPENSED, "Opened: dispensed in part. Not for resale; only its holder may go on."
    ),
}


def _ended(belief: UnitBelief) -> Iterator[Finding]:
    opened = belief.opened and belief.unit_class not in FINAL_CLASSES
    finding = _FINDING_OF_CLASS.get(UnitClass.OPENED if opened else belief.unit_class)
    if finding is not None:
        yield finding


def _suspect(belief: UnitBelief) -> Iterator[Finding]:
    if belief.marked_suspect:
        text = f"{belief.holder} holds it as suspect. Put it aside, do not dispense, until the case is closed."
        yield Finding(VerdictCode.SUSPECT, text, reason="MARKED_SUSPECT")
    for alert in belief.alerts:
        if alert.grave:
            text = f"Contradictory history: {alert.message}. Put it aside, do not dispense, start an investigation."
            yield Finding(VerdictCode.SUSPECT, text, reason=alert.code.value)


def _held(belief: UnitBelief) -> Iterator[Finding]:
    word = next((word for word in belief.words if CODE_OF_DISPOSITION.get(word) is VerdictCode.HELD), "")
    # Of a hold with a code, the code is the reason.
    code, coded, _ = belief.hold_reason.partition(":")
    reason = code if coded or (code.isupper() and code.isidentifier()) else word.upper()
    if belief.hold_reason or word:
        said = belief.hold_reason.replace("\n", "; ") or word
        text = f"Held back by {belief.holder} ({said}). Keep it aside until the hold is lifted."
        yield Finding(VerdictCode.HELD, text, reason=reason or "ON_HOLD")
    elif belief.unit_class is UnitClass.RETURNED:
        text = f"Sent back to {belief.holder} and not released since. Keep it aside until it is verified."
        yield Finding(VerdictCode.HELD, text, reason="RETURNED")


def _marked(belief: UnitBelief) -> Iterator[Finding]:
    """Yield what a holder's word alone says against a pack: its class has told of recalls, holds and final states."""
    if belief.unit_class in FINAL_CLASSES:
        return
    for word in belief.words:
        code = CODE_OF_DISPOSITION.get(word)
        if code not in {None, VerdictCode.HELD, VerdictCode.RECALLED}:
            text = f"{belief.holder or 'Its holder'} marked it as {word.replace('_', ' ')}. Put it aside and report it."
            yield Finding(code, text, reason=f"MARKED_{word.upper()}")


def _elsewhere(belief: UnitBelief, caller: str) -> Iterator[Finding]:
    where = belief.destination if belief.unit_class in _ON_THE_WAY else belief.holder
    if not caller or where == caller:
        return
    if belief.unit_class in _ON_THE_WAY:
        text = f"Believed on its way to {where or 'an unnamed party'}. Put it aside and ask the supplier."
    else:
        text = f"Believed with {where}. Put it aside and ask the supplier for the despatch data."
    # A receiving bay tells goods that were sent to another from goods that nobody has sent yet by this reason.
    sent = belief.unit_class is UnitClass.IN_TRANSIT and bool(where)
    reason = "IN_TRANSIT_TO_ANOTHER" if sent else ""
    yield Finding(VerdictCode.ELSEWHERE, text, reason, provisional=belief.unit_class is not UnitClass.ON_HAND)


def _unconfirmed(belief: UnitBelief) -> Iterator[Finding]:
    if belief.commissioned and not belief.first_hand:
        text = "Known by a partner's word only, not by its maker's. Put it aside until the maker's data arrive."
        yield Finding(VerdictCode.UNCONFIRMED, text, reason="SECOND_HAND", provisional=True)
    for alert in belief.alerts:
        if not alert.grave and alert.code not in SILENT_ALERTS:
            text = f"Its history has a gap: {alert.message}. Put it aside until the data match."
            yield Finding(VerdictCode.UNCONFIRMED, text, reason=alert.code.value, provisional=alert.provisional)


def _label(scan: Scan, belief: UnitBelief | None) -> Iterator[Finding]:
    lot = "" if belief is None else belief.lot
    expiry = None if belief is None else belief.expiry
    if scan.lot and lot and scan.lot != lot:
        text = f"The pack says lot {scan.lot}, its maker said {lot}. Check the scan, then put it aside and report it."
        yield Finding(VerdictCode.LOT_MISMATCH, text)
    if scan.expiry is not None and expiry is not None and scan.expiry != expiry:
        text = f"The pack says expiry {scan.expiry}, its maker said {expiry}. Check the scan, then put it aside."
        yield Finding(VerdictCode.EXPIRY_MISMATCH, text)
    # The earlier of the two counts: a label that was changed must not make a pack usable longer.
    days = [day for day in (expiry, scan.expiry) if day is not None]
    if days and has_expired(min(days), judge_time=scan.judge_time, utc_offset=scan.utc_offset):
        text = f"Expired on {min(days)}. Do not dispense; put it with expired stock."
        yield Finding(VerdictCode.EXPIRED, text)
