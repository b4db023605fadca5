"""Answers of the ledger as JSON documents and as words."""

from datetime import datetime
from typing import Any

from medtrail import codec
from medtrail.api.event.v1 import payload_pb2, verdict_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.cli.render import format_time


def class_name(unit_class: ledger_pb2.UnitClass.ValueType) -> str:
    """Return a unit class in lower case: ``in_transit``."""
    return ledger_pb2.UnitClass.Name(unit_class).removeprefix("UNIT_CLASS_").lower()


def evidence_name(evidence: ledger_pb2.EvidenceKind.ValueType) -> str:
    """Return a kind of evidence in lower case: ``inferred``."""
    return ledger_pb2.EvidenceKind.Name(evidence).removeprefix("EVIDENCE_KIND_").lower()


def state_name(state: ledger_pb2.CustodyState.ValueType) -> str:
    """Return a custody state in lower case: ``on_hold``."""
    return ledger_pb2.CustodyState.Name(state).removeprefix("CUSTODY_STATE_").lower()


def ending_name(ending: ledger_pb2.Ending.ValueType) -> str | None:
    """Return how a life ended in lower case, or None where it did not: ``exported``."""
    return ledger_pb2.Ending.Name(ending).removeprefix("ENDING_").lower() if ending else None


def level_name(level: payload_pb2.PackLevel.ValueType) -> str:
    """Return a packaging level in lower case; ``unknown`` where master data say none."""
    return payload_pb2.PackLevel.Name(level).removeprefix("PACK_LEVEL_").lower().replace("unspecified", "unknown")


def verdict_name(code: verdict_pb2.VerdictCode.ValueType) -> str:
    """Return a verdict code in lower case: ``genuine``."""
    return verdict_pb2.VerdictCode.Name(code).removeprefix("VERDICT_CODE_").lower()


def action_name(action: verdict_pb2.VerdictAction.ValueType) -> str:
    """Return a verdict's action in lower case: ``accept``."""
    return verdict_pb2.VerdictAction.Name(action).removeprefix("VERDICT_ACTION_").lower()


def moment_of(message: Any, name: str) -> datetime | None:  # noqa: ANN401  # any message with Timestamp fields
    """Return a Timestamp field as moment, or None where it is absent."""
    return codec.from_timestamp(getattr(message, name), field=name) if message.HasField(name) else None


def time_text(message: Any, name: str) -> str | None:  # noqa: ANN401  # as above
    """Return a Timestamp field as text, or None where it is absent."""
    moment = moment_of(message, name)
    return None if moment is None else format_time(moment)


def state_document(state: ledger_pb2.UnitState) -> dict[str, Any]:
    """Return what is believed of a unit."""
    return {
        "epc": state.epc,
        "class": class_name(state.unit_class),
        "states": [state_name(item) for item in state.custody_states],
        "ending": ending_name(state.ending),
        "hold": {"reason": state.hold_reason, "leaf_index": _hold_index(state)} if state.hold_reason else None,
        "remainder": {"quantity": state.remainder, "uom": state.remainder_uom or None} if state.remainder else None,
        "recalls": list(state.recall_ids),
        "holder": state.holder or None,
        "destination": state.destination or None,
        "owner": state.owner or None,
        "place": state.place or None,
        "since": time_text(state, "since_time"),
        "evidence": evidence_name(state.evidence),
        "evidence_index": state.evidence_index,
        "parent": state.parent or None,
        "lot": state.lot or None,
        "expiry": state.expiry or None,
        "maker": state.maker or None,
        "level": level_name(state.level),
        "disposition": state.disposition or None,
        "persistent_dispositions": list(state.persistent_dispositions),
        "alerts": [
            {
                "code": alert.code,
                "message": alert.message,
                "leaf_index": alert.leaf_index,
                "provisional": alert.provisional,
                "grave": alert.grave,
            }
            for alert in state.alerts
        ],
    }


def _hold_index(state: ledger_pb2.UnitState) -> int | None:
    return state.hold_index if state.HasField("hold_index") else None


def states_words(state: ledger_pb2.UnitState) -> str:
    """Return what else holds of a unit beside where it is, in words: ``aggregated, on hold (DAMAGED: wet)``."""
    words = []
    for item in state.custody_states:
        name = state_name(item).replace("_", " ")
        if item == ledger_pb2.CUSTODY_STATE_ON_HOLD and state.hold_reason:
            name += f" ({state.hold_reason.replace(chr(10), '; ')})"
        elif item == ledger_pb2.CUSTODY_STATE_PARTIALLY_DISPENSED and state.remainder:
            name += f" ({state.remainder} {state.remainder_uom or 'pieces'} left)"
        words.append(name)
    return ", ".join(words)


def verdict_document(verdict: verdict_pb2.Verdict) -> dict[str, Any]:
    """Return a verdict."""
    return {
        "verdict": verdict_name(verdict.code),
        "action": action_name(verdict.action),
        "message": verdict.message,
        "reason": verdict.reason or None,
        "epc": verdict.epc or None,
        "lot": verdict.lot or None,
        "expiry": verdict.expiry or None,
        "holder": verdict.holder or None,
        "provisional": verdict.provisional,
        "recalls": list(verdict.recall_ids),
        "alerts": list(verdict.alerts),
        "further": [verdict_name(code) for code in verdict.further_codes],
        "tree_size": verdict.tree_size,
        "judge_time": time_text(verdict, "judge_time"),
    }


def place_words(unit_class: ledger_pb2.UnitClass.ValueType, holder: str, destination: str) -> str:
    """Return where something is, in words: ``in transit from … to …``.

    The log knows who had it last, not whether it is still there: a site need not record what it dispenses.
    """
    if unit_class == ledger_pb2.UNIT_CLASS_ON_HAND:
        return f"last known with {holder}" if holder else "last known with an unnamed party"
    words = class_name(unit_class).replace("_", " ")
    if destination:
        return f"{words} from {holder} to {destination}"
    return f"{words}, {holder}" if holder else words
