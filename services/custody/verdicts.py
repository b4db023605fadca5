"""What this organisation's own books say of a scanned pack, and how that goes together with the ledger's word."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from medtrail.errors import MalformedError
from medtrail.gs1 import Sgtin
from medtrail.verdict import CODE_OF_DISPOSITION, Finding, KnownPack, Verdict, VerdictCode, conclude, has_expired
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.holds import HoldCode, codes_of

RETURN_ON_ITS_WAY = "RETURN_ON_ITS_WAY"
"""Reason of a verdict on a pack that was sent back to whoever scans it, and has not been taken back."""

_MESSAGES = {
    VerdictCode.UNCONFIRMED: "Advised, but not confirmed by the ledger yet. Put it aside until it is.",
    VerdictCode.ELSEWHERE: "Your own books say that this pack has left. Put it aside and look into it.",
    VerdictCode.ALREADY_DISPENSED: "This pack was dispensed before. Do not dispense it.",
    VerdictCode.PARTIALLY_DISPENSED: "This pack is opened: a part was dispensed.",
    VerdictCode.DECOMMISSIONED: "This pack was taken out of use. Do not dispense it.",
    VerdictCode.STOLEN: "This pack was reported stolen or lost. Do not dispense it; tell its sender.",
    VerdictCode.CONSUMED: "This pack was repackaged: it should not exist any more.",
    VerdictCode.EXPIRED: "This pack is past its expiry. Do not dispense it.",
    VerdictCode.RECALLED: "This pack is under recall. Do not dispense it; follow the recall's instruction.",
    VerdictCode.SUSPECT: "Held here as suspect product. Keep it apart, do not dispense it, until the case is closed.",
    VerdictCode.UNKNOWN: "Nobody is known to have commissioned this pack.",
}

_RETURNING = Finding(
    VerdictCode.HELD,
    "On its way back to you. Take it back as a return, which verifies it; do not sell it before.",
    RETURN_ON_ITS_WAY,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read from a pack.

    Attributes:
        sgtin: GTIN and serial.
        lot: As on the pack.
        expiry: As on the pack, its last usable day.
    """

    sgtin: Sgtin
    lot: str
    expiry: date


@dataclass(frozen=True, slots=True)
class Own:
    """What the books say of a pack.

    Attributes:
        holding: None when nothing is known.
        recall_ids: Recalls in force that cover it.
        logged: Whether what made the holding so is in the log already.
        words: Dispositions that events of ours leave it with which the log does not have yet.
        returning: It is on its way back to us, and nobody has verified that it may be sold again.
    """

    holding: Holding | None
    recall_ids: tuple[str, ...] = ()
    logged: bool = False
    words: tuple[str, ...] = ()
    returning: bool = False


@dataclass(frozen=True, slots=True)
class Occasion:
    """Moment for which to judge (aware UTC), and the offset in force at the place of judgement."""

    judge_time: datetime
    utc_offset: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Alone:
    """Why nobody else could be asked: a stable code, and a sentence for a person."""

    reason: str
    message: str


WITHOUT_LEDGER = Alone("LEDGER_UNREACHABLE", "The ledger cannot be reached, so this rests on local data.")


def unreadable(error: MalformedError, *, judge_time: datetime) -> Verdict:
    """Return the verdict on a scan that could not be read; its reason is the error's code."""
    finding = Finding(VerdictCode.UNREADABLE, error.message, reason=error.code)
    return conclude([finding], judge_time=judge_time)


def judge(
    seen: Seen, own: Own, occasion: Occasion, ledger: Verdict | None, *, alone: Alone = WITHOUT_LEDGER
) -> Verdict:
    """Return the verdict on a pack from the books and the ledger's word.

    Args:
        seen: What was read.
        own: What the books say.
        occasion: For when, and where.
        ledger: The ledger's verdict; None when it could not be asked: the answer is provisional then.
        alone: Why there is none, and on what the answer rests.
    """
    findings = _of_books(seen, own, occasion)
    if ledger is None:
        # First of equals: that the ledger is away is what the reader can act on.
        findings = [*_without_ledger(own, alone), *findings]
    else:
        findings += _of_ledger(ledger, own)
    if own.returning:
        # Last of equals: whatever else holds it is not over when it has come back.
        findings.append(_RETURNING)
    holding = own.holding
    return conclude(
        findings or [Finding(VerdictCode.UNCONFIRMED, _MESSAGES[VerdictCode.UNCONFIRMED], provisional=True)],
        judge_time=occasion.judge_time,
        known=KnownPack(
            epc=seen.sgtin.digital_link,
            lot=(ledger.lot if ledger is not None else "") or ("" if holding is None else holding.lot),
            expiry=(ledger.expiry if ledger is not None else None) or (None if holding is None else holding.expiry),
            holder="" if ledger is None else ledger.holder,
        ),
        recall_ids=tuple(dict.fromkeys((*own.recall_ids, *(() if ledger is None else ledger.recall_ids)))),
        alerts=() if ledger is None else ledger.alerts,
        tree_size=0 if ledger is None else ledger.tree_size,
    )


def _finding(code: VerdictCode, *, reason: str = "", provisional: bool = False) -> Finding:
    return Finding(code, _MESSAGES[code], reason, provisional)


def _of_books(seen: Seen, own: Own, occasion: Occasion) -> list[Finding]:
    found = []
    if own.recall_ids:
        found.append(_finding(VerdictCode.RECALLED))
    expiry = seen.expiry if own.holding is None or own.holding.expiry is None else own.holding.expiry
    if has_expired(min(expiry, seen.expiry), judge_time=occasion.judge_time, utc_offset=occasion.utc_offset):
        found.append(_finding(VerdictCode.EXPIRED))
    if own.holding is not None:
        found += _of_state(own.holding)
        found += _of_data(seen, own.holding)
        found += _of_words(own)
    return found


def _of_words(own: Own) -> list[Finding]:
    found = []
    for word in own.words:
        code = CODE_OF_DISPOSITION.get(word)
        if code is not None:
            message = f"Marked here as {word.replace('_', ' ')}. Put it aside."
            found.append(Finding(code, message, f"MARKED_{word.upper()}"))
    return found


_CODE_OF_STATE = {
    HoldingState.DESPATCHED: VerdictCode.ELSEWHERE,
    HoldingState.RETURNED: VerdictCode.ELSEWHERE,
    HoldingState.PARTIALLY_DISPENSED: VerdictCode.PARTIALLY_DISPENSED,
    HoldingState.DISPENSED: VerdictCode.ALREADY_DISPENSED,
    HoldingState.CONSUMED: VerdictCode.CONSUMED,
}


def _of_state(holding: Holding) -> list[Finding]:
    found = []
    if holding.state in _CODE_OF_STATE:
        found.append(_finding(_CODE_OF_STATE[holding.state]))
    elif holding.state is HoldingState.ENDED:
        gone = holding.ending in {Ending.STOLEN, Ending.LOST}
        found.append(_finding(VerdictCode.STOLEN if gone else VerdictCode.DECOMMISSIONED))
    elif holding.state is HoldingState.EXCEPTION:
        message = f"Put aside here: {holding.exception}. Keep it apart until its data match."
        found.append(Finding(VerdictCode.HELD, message, holding.exception, provisional=True))
    if HoldCode.SUSPECT in codes_of(holding.hold_reason):
        found.append(Finding(VerdictCode.SUSPECT, _MESSAGES[VerdictCode.SUSPECT], "MARKED_SUSPECT"))
    if holding.hold_reason:
        found.append(Finding(VerdictCode.HELD, f"On hold here: {holding.hold_reason}", "ON_HOLD"))
    if holding.provisional:
        found.append(_finding(VerdictCode.UNCONFIRMED, reason="DESPATCH_UNCONFIRMED", provisional=True))
    return found


def _of_data(seen: Seen, holding: Holding) -> list[Finding]:
    found = []
    if holding.lot and holding.lot != seen.lot:
        message = f"The pack says lot {seen.lot}, its data say {holding.lot}. Put it aside."
        found.append(Finding(VerdictCode.LOT_MISMATCH, message))
    if holding.expiry is not None and holding.expiry != seen.expiry:
        message = f"The pack says expiry {seen.expiry}, its data say {holding.expiry}. Put it aside."
        found.append(Finding(VerdictCode.EXPIRY_MISMATCH, message))
    return found


def _without_ledger(own: Own, alone: Alone) -> list[Finding]:
    # Local data cannot vouch for a pack: somebody else may have dispensed or recalled it meanwhile.
    code = VerdictCode.UNKNOWN if own.holding is None else VerdictCode.UNCONFIRMED
    return [Finding(code, f"{alone.message} Put it aside and scan again later.", alone.reason, provisional=True)]


def _of_ledger(ledger: Verdict, own: Own) -> list[Finding]:
    codes = (ledger.code, *ledger.further_codes)
    provisional = ledger.provisional
    found = []
    for code in codes:
        if _is_behind(code, own):
            continue
        leading = code is ledger.code
        message = ledger.message if leading else _MESSAGES.get(code, ledger.message)
        found.append(Finding(code, message, ledger.reason if leading else "", provisional))
    if not found:
        found.append(_finding(VerdictCode.UNCONFIRMED, reason="NOT_YET_LOGGED", provisional=True))
    return found


def _is_behind(code: VerdictCode, own: Own) -> bool:
    """Tell whether the ledger only has not heard yet what the books hold signed."""
    holding = own.holding
    if holding is None or holding.state not in {HoldingState.INBOUND, HoldingState.ON_HAND}:
        return False
    if code is VerdictCode.UNKNOWN:
        return holding.provisional or not own.logged
    return code is VerdictCode.ELSEWHERE and not own.logged and holding.state is HoldingState.ON_HAND
