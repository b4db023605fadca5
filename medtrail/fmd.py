"""The states of a pack under the Falsified Medicines Directive, and the codes by which a system answers for it.

A pharmacy verifies, supplies, decommissions for another reason, and undoes: at most 10 days later, at the same
premises, and never of what is expired, recalled, withdrawn, stolen, destroyed or handed to the public. What the state
of a pack is, and how a request is answered, is decided here from the one verdict (:mod:`medtrail.verdict`) and from
what the organisation itself did to the pack.

Source: Delegated Regulation (EU) 2016/161, articles 10 to 13, 22 and 25; return codes of the national systems (NMVS)
and alert codes of the hub as published by SecurMed UK, CZMVO and REKS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from medtrail.event import Role
from medtrail.gs1 import Gln
from medtrail.verdict import Verdict, VerdictAction, VerdictCode

UNDO_WITHIN: Final = timedelta(days=10)


class FmdState(StrEnum):
    """State of a pack. ``active`` alone may be supplied.

    ``pending``: its data are missing, unconfirmed, or say that it is with somebody else: keep it apart meanwhile.
    """

    ACTIVE = "active"
    PENDING = "pending"
    LOCKED = "locked"
    SUPPLIED = "supplied"
    EXPORTED = "exported"
    SAMPLE = "sample"
    FREE_SAMPLE = "free_sample"
    INACTIVE = "inactive"
    DESTROYED = "destroyed"
    STOLEN = "stolen"
    EXPIRED = "expired"
    RECALLED = "recalled"
    WITHDRAWN = "withdrawn"
    UNKNOWN = "unknown"


# Inactive by what happened to the lot or the product, not by a decommissioning: no alert is raised on a further one.
OF_LOT_OR_PRODUCT: Final = frozenset({FmdState.EXPIRED, FmdState.RECALLED, FmdState.WITHDRAWN})
# What may be undone, within the time and at the place that the law sets.
UNDOABLE: Final = frozenset(
    {FmdState.SUPPLIED, FmdState.EXPORTED, FmdState.SAMPLE, FmdState.FREE_SAMPLE, FmdState.LOCKED, FmdState.INACTIVE}
)

# Who may set which state. Supply to the public is the pharmacy's; wholesalers and makers have other reasons.
_OF_ALL: Final = frozenset({FmdState.SAMPLE, FmdState.LOCKED, FmdState.DESTROYED, FmdState.STOLEN})
STATES_OF_ROLE: Final[dict[Role, frozenset[FmdState]]] = {
    Role.PHARMACY: _OF_ALL | {FmdState.SUPPLIED, FmdState.FREE_SAMPLE},
    Role.DISTRIBUTOR: _OF_ALL | {FmdState.EXPORTED},
    Role.MANUFACTURER: _OF_ALL | {FmdState.EXPORTED, FmdState.FREE_SAMPLE},
    Role.REPACKAGER: _OF_ALL | {FmdState.EXPORTED, FmdState.FREE_SAMPLE},
}


class FmdCode(StrEnum):
    """How a request is answered: return codes of the national systems, then our own, which raise no alert."""

    SUCCESS = "NMVS_SUCCESS"
    UNKNOWN_SERIAL = "NMVS_NC_PC_02"
    UNKNOWN_LOT = "NMVS_FE_LOT_03"
    EXPIRY_MISMATCH = "NMVS_FE_LOT_12"
    LOT_MISMATCH = "NMVS_FE_LOT_13"
    SAME_STATE = "NMVS_NC_PCK_19"
    INACTIVE = "NMVS_NC_PCK_22"
    UNDO_MISMATCH = "NMVS_NC_PCK_06"
    UNDO_LATE = "NMVS_NC_PCK_20"
    UNDO_ELSEWHERE = "NMVS_NC_PCK_21"
    NOT_PERFORMED = "NMVS_NC_PCK_27"
    SCAN_UNREADABLE = "SCAN_UNREADABLE"
    LEDGER_UNREACHABLE = "LEDGER_UNREACHABLE"
    PENDING = "PACK_PENDING"
    LOCKED = "PACK_LOCKED"
    SUSPECT = "PACK_SUSPECT"
    NOT_AT_HAND = "PACK_NOT_AT_HAND"
    SUPPLY_NOT_DENIED = "SUPPLY_NOT_DENIED"


class AlertKind(StrEnum):
    """What an answer means: the data of scanner and system differ, or the procedure was not kept."""

    NONE = ""
    TECHNICAL = "technical"
    PROCEDURAL = "procedural"


@dataclass(frozen=True, slots=True)
class CodeMeaning:
    """What a return code says: the hub's alert (may be empty), and its kind."""

    alert: str
    kind: AlertKind
    text: str


_NOTHING: Final = CodeMeaning("", AlertKind.NONE, "")
MEANING_OF: Final[Mapping[FmdCode, CodeMeaning]] = {
    FmdCode.UNKNOWN_SERIAL: CodeMeaning("A3", AlertKind.TECHNICAL, "Unknown pack serial number"),
    FmdCode.UNKNOWN_LOT: CodeMeaning("A2", AlertKind.TECHNICAL, "Unknown batch number"),
    FmdCode.EXPIRY_MISMATCH: CodeMeaning("A52", AlertKind.TECHNICAL, "Expiry date mismatch"),
    FmdCode.LOT_MISMATCH: CodeMeaning("A68", AlertKind.TECHNICAL, "Batch number mismatch"),
    FmdCode.SAME_STATE: CodeMeaning("A7", AlertKind.PROCEDURAL, "Pack already in the requested state"),
    FmdCode.INACTIVE: CodeMeaning("A24", AlertKind.PROCEDURAL, "Pack is already inactive"),
    FmdCode.UNDO_MISMATCH: CodeMeaning("A24", AlertKind.PROCEDURAL, "Undo does not match the pack status"),
    FmdCode.UNDO_LATE: CodeMeaning("", AlertKind.PROCEDURAL, "Undo later than 10 days"),
    FmdCode.UNDO_ELSEWHERE: CodeMeaning("", AlertKind.PROCEDURAL, "Undo attempted by a different user"),
    FmdCode.NOT_PERFORMED: CodeMeaning(
        "", AlertKind.PROCEDURAL, "Status change could not be performed (inter-market transaction)"
    ),
    FmdCode.SUCCESS: _NOTHING,
    FmdCode.SCAN_UNREADABLE: _NOTHING,
    FmdCode.LEDGER_UNREACHABLE: _NOTHING,
    FmdCode.PENDING: _NOTHING,
    FmdCode.LOCKED: _NOTHING,
    FmdCode.SUSPECT: _NOTHING,
    FmdCode.NOT_AT_HAND: _NOTHING,
    FmdCode.SUPPLY_NOT_DENIED: _NOTHING,
}


@dataclass(frozen=True, slots=True)
class FmdAnswer:
    """How a request is answered.

    Attributes:
        state: Of the pack, after the request.
        code: Return code.
        alert: Alert code of the hub; empty when no alert is raised.
        information: For a person.
        provisional: It rests on missing or unconfirmed data: keep the pack apart, do not accuse.
    """

    state: FmdState
    code: FmdCode
    alert: str
    information: str
    provisional: bool = False

    @property
    def done(self) -> bool:
        """Whether what was asked was done; of a verification: whether the pack may be supplied."""
        return self.code is FmdCode.SUCCESS

    @property
    def kind(self) -> AlertKind:
        """Whether data or procedure are at fault."""
        return MEANING_OF[self.code].kind


@dataclass(frozen=True, slots=True)
class PackFacts:
    """What is known of a pack beside the verdict.

    Attributes:
        own_state: State into which this organisation itself put it; None when it did not.
        lot_known: Whether the lot on the pack is known for its product at all.
        withdrawn: A recall in force covers every lot of its product.
        here: This organisation has it in its books, in the house or on its way in.
    """

    own_state: FmdState | None = None
    lot_known: bool = True
    withdrawn: bool = False
    here: bool = True


_STATE_OF_CODE: Final[dict[VerdictCode, FmdState]] = {
    VerdictCode.GENUINE: FmdState.ACTIVE,
    VerdictCode.UNCONFIRMED: FmdState.PENDING,
    VerdictCode.ELSEWHERE: FmdState.PENDING,
    VerdictCode.HELD: FmdState.LOCKED,
    VerdictCode.LOT_MISMATCH: FmdState.LOCKED,
    VerdictCode.EXPIRY_MISMATCH: FmdState.LOCKED,
    VerdictCode.EXPIRED: FmdState.EXPIRED,
    VerdictCode.PARTIALLY_DISPENSED: FmdState.SUPPLIED,
    VerdictCode.CONSUMED: FmdState.INACTIVE,
    VerdictCode.SUSPECT: FmdState.LOCKED,
    VerdictCode.ALREADY_DISPENSED: FmdState.SUPPLIED,
    VerdictCode.DECOMMISSIONED: FmdState.INACTIVE,
    VerdictCode.STOLEN: FmdState.STOLEN,
    VerdictCode.RECALLED: FmdState.RECALLED,
    VerdictCode.UNKNOWN: FmdState.UNKNOWN,
    VerdictCode.UNREADABLE: FmdState.UNKNOWN,
}


def state_of(verdict: Verdict, facts: PackFacts) -> FmdState:
    """Return the state of a pack: what a recall or a theft says, then what we did to it, then the leading code."""
    codes = verdict.codes
    if VerdictCode.RECALLED in codes:
        return FmdState.WITHDRAWN if facts.withdrawn else FmdState.RECALLED
    if VerdictCode.STOLEN in codes:
        return FmdState.STOLEN
    if facts.own_state is not None:
        return facts.own_state
    state = _STATE_OF_CODE[verdict.code]
    if state is FmdState.ACTIVE and verdict.action is not VerdictAction.ACCEPT:
        return FmdState.PENDING
    return state


def _answer(
    state: FmdState, code: FmdCode, information: str, *, silent: bool = False, provisional: bool = False
) -> FmdAnswer:
    meaning = MEANING_OF[code]
    text = ". ".join(part.rstrip(".") for part in (meaning.text, information) if part) + "."
    return FmdAnswer(state, code, "" if silent else meaning.alert, text, provisional)


def data_fault(verdict: Verdict, facts: PackFacts) -> FmdAnswer | None:
    """Return the answer to a pack whose data cannot be read or do not match; None when they match."""
    codes, state = verdict.codes, state_of(verdict, facts)
    if VerdictCode.UNREADABLE in codes:
        return _answer(state, FmdCode.SCAN_UNREADABLE, verdict.message)
    if verdict.reason == "LEDGER_UNREACHABLE" and facts.own_state is None:
        return _answer(state, FmdCode.LEDGER_UNREACHABLE, verdict.message, provisional=True)
    # What may only be missing data keeps the pack apart and accuses nobody: no alert.
    doubt = verdict.provisional
    if VerdictCode.UNKNOWN in codes:
        return _answer(state, FmdCode.UNKNOWN_SERIAL, verdict.message, silent=doubt, provisional=doubt)
    if VerdictCode.LOT_MISMATCH in codes:
        code = FmdCode.LOT_MISMATCH if facts.lot_known else FmdCode.UNKNOWN_LOT
        return _answer(state, code, _CHECK, silent=doubt, provisional=doubt)
    if VerdictCode.EXPIRY_MISMATCH in codes:
        return _answer(state, FmdCode.EXPIRY_MISMATCH, _CHECK, silent=doubt, provisional=doubt)
    return None


_CHECK: Final = "Check the scan against the pack"
_STANDING: Final = {
    FmdState.PENDING: FmdCode.PENDING,
    FmdState.LOCKED: FmdCode.LOCKED,
    FmdState.UNKNOWN: FmdCode.UNKNOWN_SERIAL,
}


def verify(verdict: Verdict, facts: PackFacts) -> FmdAnswer:
    """Return the answer to a verification: success only for a pack that may be supplied."""
    fault = data_fault(verdict, facts)
    if fault is not None:
        return fault
    state = state_of(verdict, facts)
    if state is FmdState.ACTIVE:
        return _answer(state, FmdCode.SUCCESS, verdict.message)
    if VerdictCode.SUSPECT in verdict.codes:
        return _answer(state, FmdCode.SUSPECT, verdict.message)
    code = _STANDING.get(state, FmdCode.INACTIVE)
    # To look at a pack is no attempt to use it: only data that do not match raise an alert.
    return _answer(state, code, verdict.message, silent=True, provisional=verdict.provisional)


def change_fault(verdict: Verdict, facts: PackFacts, *, wanted: FmdState) -> FmdAnswer | None:
    """Return why a pack may not be put into a state (supplied, or decommissioned for another reason), or None.

    What is expired, recalled, locked or pending may still be destroyed, locked, reported stolen or taken as a sample:
    it only never goes to a patient or out of the market.
    """
    fault = data_fault(verdict, facts) or _inactive_fault(verdict, facts, wanted)
    if fault is not None:
        return fault
    state = state_of(verdict, facts)
    if not facts.here:
        return _answer(state, FmdCode.NOT_PERFORMED, "The pack is not with this organisation, according to its books")
    if wanted not in _GOING_OUT:
        return None
    if state in OF_LOT_OR_PRODUCT:
        return _answer(state, FmdCode.INACTIVE, verdict.message, silent=True)
    answer = verify(verdict, facts)
    return None if answer.done else answer


_GOING_OUT: Final = frozenset({FmdState.SUPPLIED, FmdState.EXPORTED, FmdState.FREE_SAMPLE})


def _inactive_fault(verdict: Verdict, facts: PackFacts, wanted: FmdState) -> FmdAnswer | None:
    state, own = state_of(verdict, facts), facts.own_state
    ended = {FmdState.SUPPLIED, FmdState.INACTIVE, FmdState.STOLEN}
    if wanted in {own, state} and (own is not None or state in ended):
        return _answer(state, FmdCode.SAME_STATE, verdict.message)
    if own is not None or state in ended:
        return _answer(state, FmdCode.INACTIVE, verdict.message)
    return None


@dataclass(frozen=True, slots=True)
class Decommissioning:
    """What put a pack into its state: when it happened (aware UTC), and at which premises."""

    time: datetime
    premises: Gln | None


@dataclass(frozen=True, slots=True)
class Undo:
    """A request to undo.

    Attributes:
        premises: Where it is made.
        time: When; aware UTC.
        expected: State that is to be undone; None: whatever it is.
        not_supplied: The person states that the pack was not handed to the public.
    """

    premises: Gln
    time: datetime
    expected: FmdState | None = None
    not_supplied: bool = False


def undo_fault(verdict: Verdict, facts: PackFacts, undo: Undo, done: Decommissioning | None) -> FmdAnswer | None:
    """Return why a decommissioning may not be undone, or None when it may.

    Args:
        verdict: On the pack.
        facts: Likewise.
        undo: The request.
        done: What this organisation did to it; None when it did not decommission it.
    """
    if not verdict.tree_size:
        # Whether it was recalled meanwhile, or handed out elsewhere, is the whole log's to say.
        text = "The ledger cannot be reached. Try again later"
        return _answer(state_of(verdict, facts), FmdCode.LEDGER_UNREACHABLE, text, provisional=True)
    fault = data_fault(verdict, facts) or _barred_fault(verdict, facts) or _status_fault(verdict, facts, undo)
    return fault or _premises_fault(verdict, facts, undo, done)


def _barred_fault(verdict: Verdict, facts: PackFacts) -> FmdAnswer | None:
    """Return the answer to what may never be undone: expired, recalled, withdrawn, opened, or in doubt."""
    codes, state = verdict.codes, state_of(verdict, facts)
    if state in OF_LOT_OR_PRODUCT:
        return _answer(state, FmdCode.UNDO_MISMATCH, verdict.message, silent=True)
    if VerdictCode.EXPIRED in codes:
        return _answer(FmdState.EXPIRED, FmdCode.UNDO_MISMATCH, "The pack is past its expiry", silent=True)
    if VerdictCode.PARTIALLY_DISPENSED in codes:
        return _answer(state, FmdCode.UNDO_MISMATCH, "A part of it was handed to the public")
    if VerdictCode.SUSPECT in codes:
        return _answer(state, FmdCode.SUSPECT, verdict.message)
    return None


def _status_fault(verdict: Verdict, facts: PackFacts, undo: Undo) -> FmdAnswer | None:
    state = state_of(verdict, facts)
    if facts.own_state is None and state in UNDOABLE - {FmdState.LOCKED}:
        return _answer(state, FmdCode.UNDO_ELSEWHERE, verdict.message)
    if facts.own_state is None:
        active = state in {FmdState.ACTIVE, FmdState.PENDING, FmdState.LOCKED}
        return _answer(state, FmdCode.UNDO_MISMATCH, "The pack is not decommissioned here", silent=active)
    if state not in UNDOABLE:
        return _answer(state, FmdCode.UNDO_MISMATCH, f"What is {state} is final")
    if undo.expected not in {None, state}:
        return _answer(state, FmdCode.UNDO_MISMATCH, f"It is {state}, not {undo.expected}")
    return None


def _premises_fault(verdict: Verdict, facts: PackFacts, undo: Undo, done: Decommissioning | None) -> FmdAnswer | None:
    state = state_of(verdict, facts)
    if done is None or done.premises != undo.premises:
        return _answer(state, FmdCode.UNDO_ELSEWHERE, "It was not decommissioned at these premises")
    if undo.time - done.time > UNDO_WITHIN:
        return _answer(state, FmdCode.UNDO_LATE, f"It was decommissioned on {done.time:%Y-%m-%d}")
    if state is FmdState.SUPPLIED and not undo.not_supplied:
        return _answer(state, FmdCode.SUPPLY_NOT_DENIED, "State that the pack was not handed to the public")
    return None


def success(state: FmdState) -> FmdAnswer:
    """Return the answer that what was asked is done."""
    return _answer(state, FmdCode.SUCCESS, f"The pack is {state.replace('_', ' ')}")


def refusal(state: FmdState, code: FmdCode, information: str) -> FmdAnswer:
    """Return the answer that the organisation's own books forbid it."""
    return _answer(state, code, information, silent=state in OF_LOT_OR_PRODUCT)
