"""Verdicts as messages."""

from datetime import date

from medtrail.api.event.v1 import verdict_pb2
from medtrail.codec.scalars import from_timestamp, to_timestamp
from medtrail.errors import MalformedError
from medtrail.verdict import Verdict, VerdictAction, VerdictCode

_CODE_TO_MESSAGE = {code: verdict_pb2.VerdictCode.Value(f"VERDICT_CODE_{code.name}") for code in VerdictCode}
_CODE_FROM_MESSAGE: dict[int, VerdictCode] = {number: code for code, number in _CODE_TO_MESSAGE.items()}
_ACTION_TO_MESSAGE = {
    action: verdict_pb2.VerdictAction.Value(f"VERDICT_ACTION_{action.name}") for action in VerdictAction
}
_ACTION_FROM_MESSAGE: dict[int, VerdictAction] = {number: action for action, number in _ACTION_TO_MESSAGE.items()}


def verdict_to_message(verdict: Verdict) -> verdict_pb2.Verdict:
    """Return a verdict as message."""
    return verdict_pb2.Verdict(
        code=_CODE_TO_MESSAGE[verdict.code],
        action=_ACTION_TO_MESSAGE[verdict.action],
        message=verdict.message,
        reason=verdict.reason,
        epc=verdict.epc,
        lot=verdict.lot,
        expiry="" if verdict.expiry is None else verdict.expiry.isoformat(),
        holder=verdict.holder,
        provisional=verdict.provisional,
        recall_ids=verdict.recall_ids,
        alerts=verdict.alerts,
        tree_size=verdict.tree_size,
        judge_time=to_timestamp(verdict.judge_time),
        further_codes=[_CODE_TO_MESSAGE[code] for code in verdict.further_codes],
    )


def verdict_from_message(message: verdict_pb2.Verdict, *, field: str = "verdict") -> Verdict:
    """Return the verdict that a message holds.

    Raises:
        MalformedError: A code or an action is not known, or the expiry is no date.
    """
    return Verdict(
        code=_code(message.code, field=f"{field}.code"),
        action=_action(message.action, field=f"{field}.action"),
        message=message.message,
        judge_time=from_timestamp(message.judge_time, field=f"{field}.judge_time"),
        reason=message.reason,
        epc=message.epc,
        lot=message.lot,
        expiry=_expiry(message.expiry, field=f"{field}.expiry"),
        holder=message.holder,
        provisional=message.provisional,
        recall_ids=tuple(message.recall_ids),
        alerts=tuple(message.alerts),
        tree_size=message.tree_size,
        further_codes=tuple(_code(number, field=f"{field}.further_codes") for number in message.further_codes),
    )


def _code(number: int, *, field: str) -> VerdictCode:
    if number not in _CODE_FROM_MESSAGE:
        text = f"expected a verdict code, got {number}"
        raise MalformedError(text, code="ENUM_UNKNOWN", field=field)
    return _CODE_FROM_MESSAGE[number]


def _action(number: int, *, field: str) -> VerdictAction:
    if number not in _ACTION_FROM_MESSAGE:
        text = f"expected a verdict action, got {number}"
        raise MalformedError(text, code="ENUM_UNKNOWN", field=field)
    return _ACTION_FROM_MESSAGE[number]


def _expiry(text: str, *, field: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        message = f"expected YYYY-MM-DD, got {text[:20]!r}"
        raise MalformedError(message, code="DATE_MALFORMED", field=field) from error
