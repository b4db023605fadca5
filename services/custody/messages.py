"""Between generated messages and custody's values: the only module beside the servicers that knows both."""

from datetime import date

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import verdict_pb2
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.errors import MalformedError
from medtrail.gs1 import Gln
from medtrail.runtime.overdue import Alarm, Waiting
from medtrail.verdict import Verdict, VerdictAction, VerdictCode
from services.custody.changes import Change, ChangeKind
from services.custody.desk import Accepted
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.holdings_store import from_us
from services.custody.inbound_store import InboundShipment, InboundState

_CODE_TO_MESSAGE = {code: verdict_pb2.VerdictCode.Value(f"VERDICT_CODE_{code.name}") for code in VerdictCode}
_CODE_FROM_MESSAGE = {number: code for code, number in _CODE_TO_MESSAGE.items()}
_ACTION_TO_MESSAGE = {
    action: verdict_pb2.VerdictAction.Value(f"VERDICT_ACTION_{action.name}") for action in VerdictAction
}
_ACTION_FROM_MESSAGE = {number: action for action, number in _ACTION_TO_MESSAGE.items()}
_STATE_TO_MESSAGE = {state: custody_pb2.HoldingState.Value(f"HOLDING_STATE_{state.name}") for state in HoldingState}
STATE_FROM_MESSAGE = {number: state for state, number in _STATE_TO_MESSAGE.items()}
_INBOUND_TO_MESSAGE = {state: custody_pb2.InboundState.Value(f"INBOUND_STATE_{state.name}") for state in InboundState}
ENDING_FROM_MESSAGE = {
    custody_pb2.DecommissionReason.Value(f"DECOMMISSION_REASON_{ending.name}"): ending
    for ending in Ending
    if ending is not Ending.EMPTIED
}

_KIND_TO_MESSAGE = {kind: custody_pb2.EventChangeKind.Value(f"EVENT_CHANGE_KIND_{kind.name}") for kind in ChangeKind}


def change_to_message(change: Change) -> custody_pb2.EventChange:
    """Return the message of a change to an event."""
    return custody_pb2.EventChange(
        number=change.number,
        signed_event_sha256=change.sha256,
        kind=_KIND_TO_MESSAGE[change.kind],
        signed_event=change.signed_event,
        record_time=to_timestamp(from_us(change.record_time_us)),
        signer=change.signer,
        leaf_index=change.leaf_index,
        refusal_code=change.refusal,
        gone=change.gone,
    )


def verdict_to_message(verdict: Verdict) -> verdict_pb2.Verdict:
    """Return the message of a verdict."""
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


def verdict_from_message(message: verdict_pb2.Verdict) -> Verdict:
    """Return the verdict of a message.

    Raises:
        MalformedError: A code, an action or a date is not known.
    """
    codes = (message.code, *message.further_codes)
    if message.action not in _ACTION_FROM_MESSAGE or any(code not in _CODE_FROM_MESSAGE for code in codes):
        text = f"unknown verdict {message.code} or action {message.action}"
        raise MalformedError(text, code="VERDICT_UNKNOWN", field="verdict.code")
    return Verdict(
        code=_CODE_FROM_MESSAGE[message.code],
        action=_ACTION_FROM_MESSAGE[message.action],
        message=message.message,
        judge_time=from_timestamp(message.judge_time, field="verdict.judge_time"),
        reason=message.reason,
        epc=message.epc,
        lot=message.lot,
        expiry=parse_day(message.expiry, field="verdict.expiry") if message.expiry else None,
        holder=message.holder,
        provisional=message.provisional,
        recall_ids=tuple(message.recall_ids),
        alerts=tuple(message.alerts),
        tree_size=message.tree_size,
        further_codes=tuple(_CODE_FROM_MESSAGE[code] for code in message.further_codes),
    )


def parse_day(text: str, *, field: str) -> date:
    """Return the day of an ISO date, YYYY-MM-DD.

    Raises:
        MalformedError: It is none (DATE_WRONG).
    """
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        message = f"expected YYYY-MM-DD, got {text[:20]!r}"
        raise MalformedError(message, code="DATE_WRONG", field=field) from error
    if day.isoformat() != text:
        message = f"expected YYYY-MM-DD, got {text[:20]!r}"
        raise MalformedError(message, code="DATE_WRONG", field=field)
    return day


def accepted_to_message(accepted: Accepted) -> custody_pb2.AcceptedEvent:
    """Return the message of an accepted event."""
    return custody_pb2.AcceptedEvent(
        event_id=accepted.event_id,
        signed_event_sha256=accepted.signed_event_sha256,
        source_seq=accepted.source_seq,
        resend=accepted.resend,
    )


def holding_to_message(holding: Holding, recall_ids: tuple[str, ...]) -> custody_pb2.Holding:
    """Return the message of a holding and the recalls that cover it."""
    return custody_pb2.Holding(
        epc=holding.unit.digital_link,
        state=_STATE_TO_MESSAGE[holding.state],
        parent="" if holding.parent is None else holding.parent.digital_link,
        lot=holding.lot,
        expiry="" if holding.expiry is None else holding.expiry.isoformat(),
        location="" if holding.location is None else str(holding.location),
        partner="" if holding.partner is None else str(holding.partner),
        hold_reason=holding.hold_reason or holding.exception,
        provisional=holding.provisional,
        event_id=holding.event_id,
        since_time=to_timestamp(holding.since_time),
        recall_ids=recall_ids,
    )


def inbound_to_message(shipment: InboundShipment) -> custody_pb2.InboundShipment:
    """Return the message of an advised shipment."""
    return custody_pb2.InboundShipment(
        despatch_event_id=shipment.despatch_id,
        sender=str(shipment.sender),
        epcs=[unit.digital_link for unit in shipment.units],
        despatch_time=to_timestamp(shipment.despatch_time),
        unit_count=shipment.unit_count,
        received_count=shipment.received_count,
        provisional=shipment.provisional,
        biz_transactions=[item.id for item in shipment.documents],
        state=_INBOUND_TO_MESSAGE[shipment.state],
    )


def incomplete_to_message(sender: Gln, despatch_id: str) -> custody_pb2.InboundShipment:
    """Return the message of an advice of which parts are missing, or whose signer is not known yet."""
    return custody_pb2.InboundShipment(
        despatch_event_id=despatch_id,
        sender=str(sender),
        provisional=True,
        state=custody_pb2.INBOUND_STATE_INCOMPLETE,
    )


def waiting_to_message(waiting: Waiting) -> custody_pb2.Waiting:
    """Return how many of a thing wait, and since when."""
    since = None if waiting.since is None else to_timestamp(waiting.since)
    return custody_pb2.Waiting(count=waiting.count, since_time=since)


def alarm_to_message(alarm: Alarm) -> custody_pb2.ServiceAlarm:
    """Return an alarm."""
    return custody_pb2.ServiceAlarm(
        code=alarm.code, message=alarm.message, count=alarm.count, since_time=to_timestamp(alarm.since)
    )
