"""What a scan means for the person who holds the pack: one code, what to do, and why.

Whoever judges (the ledger against the whole log, a service against its own books) collects findings, one for each code
that applies; :func:`conclude` makes the verdict: the code with the highest rank leads, the others are named beside it.
An action is a property of the code, so that a recalled or suspect pack can never read as "accept". Every surface (scan,
VRS, FMD) takes its answer from here; docs/verification.md has the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum


class VerdictCode(StrEnum):
    """Outcome of a scan, in ascending rank: a later one goes before an earlier one."""

    GENUINE = "genuine"
    UNCONFIRMED = "unconfirmed"
    ELSEWHERE = "elsewhere"
    HELD = "held"
    LOT_MISMATCH = "lot_mismatch"
    EXPIRY_MISMATCH = "expiry_mismatch"
    EXPIRED = "expired"
    PARTIALLY_DISPENSED = "partially_dispensed"
    CONSUMED = "consumed"
    SUSPECT = "suspect"
    ALREADY_DISPENSED = "already_dispensed"
    DECOMMISSIONED = "decommissioned"
    STOLEN = "stolen"
    RECALLED = "recalled"
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"


class VerdictAction(StrEnum):
    """What to do with a pack."""

    ACCEPT = "accept"
    HOLD = "hold"
    REJECT = "reject"
    RESCAN = "rescan"


RANK_OF: dict[VerdictCode, int] = {code: rank for rank, code in enumerate(VerdictCode, start=1)}

ACTION_OF: dict[VerdictCode, VerdictAction] = {
    VerdictCode.GENUINE: VerdictAction.ACCEPT,
    VerdictCode.UNCONFIRMED: VerdictAction.HOLD,
    VerdictCode.ELSEWHERE: VerdictAction.HOLD,
    VerdictCode.HELD: VerdictAction.HOLD,
    VerdictCode.LOT_MISMATCH: VerdictAction.HOLD,
    VerdictCode.EXPIRY_MISMATCH: VerdictAction.HOLD,
    VerdictCode.EXPIRED: VerdictAction.REJECT,
    VerdictCode.PARTIALLY_DISPENSED: VerdictAction.HOLD,
    VerdictCode.CONSUMED: VerdictAction.REJECT,
    VerdictCode.SUSPECT: VerdictAction.REJECT,
    VerdictCode.ALREADY_DISPENSED: VerdictAction.REJECT,
    VerdictCode.DECOMMISSIONED: VerdictAction.REJECT,
    VerdictCode.STOLEN: VerdictAction.REJECT,
    VerdictCode.RECALLED: VerdictAction.REJECT,
    VerdictCode.UNKNOWN: VerdictAction.REJECT,
    VerdictCode.UNREADABLE: VerdictAction.RESCAN,
}

# Reason of a verdict that a recall drill leads, and no recall.
RECALL_DRILL = "RECALL_DRILL"

# CBV dispositions, of a last event or persistent, that speak against a pack whatever its custody.
CODE_OF_DISPOSITION: dict[str, VerdictCode] = {
    **dict.fromkeys(
        (
            "damaged",
            "mismatch_class",
            "mismatch_instance",
            "mismatch_quantity",
            "needs_replacement",
            "no_pedigree_match",
            "non_conformant",
            "non_sellable_other",
            "reserved",
            "unavailable",
            "unknown",
        ),
        VerdictCode.HELD,
    ),
    "expired": VerdictCode.EXPIRED,
    "partially_dispensed": VerdictCode.PARTIALLY_DISPENSED,
    "dispensed": VerdictCode.ALREADY_DISPENSED,
    "retail_sold": VerdictCode.ALREADY_DISPENSED,
    "destroyed": VerdictCode.DECOMMISSIONED,
    "disposed": VerdictCode.DECOMMISSIONED,
    "inactive": VerdictCode.DECOMMISSIONED,
    "stolen": VerdictCode.STOLEN,
    "recalled": VerdictCode.RECALLED,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One code that applies to a pack.

    Attributes:
        message: For a person: why, and what to do next.
        reason: Stable code of the reason, upper snake case; may be empty.
        provisional: It rests on unconfirmed or missing data: hold, do not accuse.
    """

    code: VerdictCode
    message: str
    reason: str = ""
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scan means.

    Attributes:
        code: The one with the highest rank of those that apply.
        message: For a person: why, and what to do next.
        reason: Stable code of the reason; may be empty.
        epc: The pack as Digital Link; empty when the scan could not be read.
        lot: According to the network; may be empty.
        expiry: According to the network; None when not known.
        holder: GLN of the holder that the network believes in; may be empty.
        provisional: It rests on unconfirmed or missing data: hold, do not accuse.
        recall_ids: event_id of each recall that covers the pack.
        alerts: Codes of the alerts open on the pack, each once, sorted.
        tree_size: Tree size up to which the network's word is complete; 0 when the ledger was not asked.
        judge_time: Moment for which it was judged; aware UTC.
        further_codes: Every other code that applies, highest rank first.
    """

    code: VerdictCode
    action: VerdictAction
    message: str
    judge_time: datetime
    reason: str = ""
    epc: str = ""
    lot: str = ""
    expiry: date | None = None
    holder: str = ""
    provisional: bool = False
    recall_ids: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    tree_size: int = 0
    further_codes: tuple[VerdictCode, ...] = ()

    @property
    def codes(self) -> frozenset[VerdictCode]:
        """Every code that applies, the leading one included."""
        return frozenset({self.code, *self.further_codes})


@dataclass(frozen=True, slots=True)
class KnownPack:
    """What the judge knows of the pack; each as in :class:`Verdict`."""

    epc: str = ""
    lot: str = ""
    expiry: date | None = None
    holder: str = ""


NOTHING_KNOWN = KnownPack()


def conclude(
    findings: Sequence[Finding],
    *,
    judge_time: datetime,
    known: KnownPack = NOTHING_KNOWN,
    recall_ids: tuple[str, ...] = (),
    alerts: tuple[str, ...] = (),
    tree_size: int = 0,
) -> Verdict:
    """Return the verdict that findings amount to.

    Args:
        findings: At least one; of several with the same code the first speaks.
        judge_time: Moment for which it was judged; aware UTC.
        known: What is known of the pack; nothing when the scan could not be read.
        recall_ids: As in :class:`Verdict`.
        alerts: Likewise.
        tree_size: Likewise.
    """
    # max() keeps the first of equals: the judge's order decides which of two reasons speaks.
    leading = max(findings, key=lambda finding: RANK_OF[finding.code])
    codes = sorted({finding.code for finding in findings}, key=RANK_OF.__getitem__, reverse=True)
    action = ACTION_OF[leading.code]
    if action is VerdictAction.REJECT and leading.provisional:
        action = VerdictAction.HOLD
    return Verdict(
        code=leading.code,
        action=action,
        message=leading.message,
        judge_time=judge_time,
        reason=leading.reason,
        epc=known.epc,
        lot=known.lot,
        expiry=known.expiry,
        holder=known.holder,
        provisional=any(finding.provisional for finding in findings),
        recall_ids=recall_ids,
        alerts=alerts,
        tree_size=tree_size,
        further_codes=tuple(code for code in codes if code is not leading.code),
    )


def beside_drill(verdict: Verdict) -> Verdict:
    """Return a verdict as it is without the recall drill that leads it; any other verdict as it is.

    Whoever scans a pack practises on the drill; it is no recall, and neither stops a supply nor is told to strangers.
    """
    if verdict.reason != RECALL_DRILL:
        return verdict
    code, *further = verdict.further_codes or (VerdictCode.GENUINE,)
    text = f"{code.replace('_', ' ').capitalize()}. Under a recall drill, which is no recall."
    return replace(
        verdict,
        code=code,
        action=ACTION_OF[code],
        message=text,
        reason="",
        recall_ids=(),
        further_codes=tuple(further),
    )


def has_expired(expiry: date, *, judge_time: datetime, utc_offset: timedelta = timedelta()) -> bool:
    """Tell whether a pack is past its expiry: it is usable to the end of that day where it is judged.

    Args:
        expiry: Last usable day.
        judge_time: Aware.
        utc_offset: Of the place of judgement, such as the pharmacy's.

    Source: GS1 General Specifications, section 3.4.7 (AI 17).
    """
    return (judge_time + utc_offset).date() > expiry
