"""Between generated messages and custody's values: the only module beside the servicers that knows both."""

from collections.abc import Sequence
from datetime import date

from medtrail.api.custody.v1 import custody_pb2
from medtrail.codec import to_timestamp
from medtrail.errors import MalformedError
from medtrail.gs1 import Gln
from medtrail.runtime.overdue import Alarm, Waiting
from services.custody.alerts import Alert
from services.custody.changes import Change, ChangeKind
from services.custody.desk import Accepted
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.holdings_store import from_us
from services.custody.holds import HoldCode
from services.custody.inbound_store import InboundShipment, InboundState

_STATE_TO_MESSAGE = {state: custody_pb2.HoldingState.Value(f"HOLDING_STATE_{state.name}") for state in HoldingState}
STATE_FROM_MESSAGE: dict[int, HoldingState] = {
    **{number: state for state, number in _STATE_TO_MESSAGE.items()},
    custody_pb2.HOLDING_STATE_RECEIVED_NOT_SEEN_SINCE: HoldingState.ON_HAND,
}
_INBOUND_TO_MESSAGE = {state: custody_pb2.InboundState.Value(f"INBOUND_STATE_{state.name}") for state in InboundState}
ENDING_FROM_MESSAGE: dict[custody_pb2.DecommissionReason.ValueType, Ending] = {
    custody_pb2.DecommissionReason.Value(f"DECOMMISSION_REASON_{ending.name}"): ending
    for ending in Ending
    if ending is not Ending.EMPTIED
}
_ENDING_TO_MESSAGE: dict[Ending | None, custody_pb2.DecommissionReason.ValueType] = {
    ending: number for number, ending in ENDING_FROM_MESSAGE.items()
}
HOLD_CODE_TO_MESSAGE = {code: custody_pb2.HoldCode.Value(f"HOLD_CODE_{code.name}") for code in HoldCode}
_HOLD_CODE_FROM_MESSAGE = {number: code for code, number in HOLD_CODE_TO_MESSAGE.items()}
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


def holding_to_message(
    holding: Holding, recall_ids: tuple[str, ...], *, dispensing_recorded: bool = True
) -> custody_pb2.Holding:
    """Return the message of a holding and the recalls that cover it.

    Args:
        holding: The holding.
        recall_ids: Of recalls in force.
        dispensing_recorded: Whether what is dispensed here is recorded: if not, what was received may be gone.
    """
    state = _STATE_TO_MESSAGE[holding.state]
    if holding.state is HoldingState.ON_HAND and not dispensing_recorded:
        state = custody_pb2.HOLDING_STATE_RECEIVED_NOT_SEEN_SINCE
    aside = holding.exception if holding.state is HoldingState.EXCEPTION else ""
    return custody_pb2.Holding(
        epc=holding.unit.digital_link,
        state=state,
        parent="" if holding.parent is None else holding.parent.digital_link,
        lot=holding.lot,
        expiry="" if holding.expiry is None else holding.expiry.isoformat(),
        location="" if holding.location is None else str(holding.location),
        partner="" if holding.partner is None else str(holding.partner),
        hold_reason=holding.hold_reason or aside,
        provisional=holding.provisional,
        event_id=holding.event_id,
        since_time=to_timestamp(holding.since_time),
        recall_ids=recall_ids,
        inferred=holding.inferred,
        remainder="" if holding.remainder is None else format(holding.remainder, "f"),
        remainder_uom=holding.remainder_uom,
        last_customer="" if holding.sold_to is None else str(holding.sold_to),
        suspect_case_id=holding.suspect,
        exception_code=aside,
        ending=_ENDING_TO_MESSAGE.get(holding.ending, custody_pb2.DECOMMISSION_REASON_UNSPECIFIED),
    )


def alert_to_message(alert: Alert) -> custody_pb2.UnitAlert:
    """Return the message of an alert."""
    withdrawn = None if alert.withdraw_time is None else to_timestamp(alert.withdraw_time)
    return custody_pb2.UnitAlert(
        number=alert.number,
        code=alert.code,
        epc=alert.unit.digital_link,
        event_id=alert.event_id,
        message=alert.message,
        raise_time=to_timestamp(alert.raise_time),
        withdraw_time=withdrawn,
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


def hold_code(number: custody_pb2.HoldCode.ValueType, *, field: str) -> HoldCode:
    """Return a code from its number; OTHER where none is said.

    Raises:
        MalformedError: There is none (HOLD_CODE_UNKNOWN).
    """
    if number == custody_pb2.HOLD_CODE_UNSPECIFIED:
        return HoldCode.OTHER
    if number not in _HOLD_CODE_FROM_MESSAGE:
        message = f"unknown hold code {number}"
        raise MalformedError(message, code="HOLD_CODE_UNKNOWN", field=field)
    return _HOLD_CODE_FROM_MESSAGE[number]


def hold_codes(numbers: Sequence[custody_pb2.HoldCode.ValueType], *, field: str) -> frozenset[HoldCode]:
    """Return codes from their numbers; each must be said."""
    if custody_pb2.HOLD_CODE_UNSPECIFIED in numbers:
        raise MalformedError("expected a code", code="HOLD_CODE_UNKNOWN", field=field)
    return frozenset(hold_code(number, field=field) for number in numbers)


_PURPOSES = {
    custody_pb2.RETURN_PURPOSE_UNSPECIFIED: "",
    custody_pb2.RETURN_PURPOSE_RESALE: "",
    custody_pb2.RETURN_PURPOSE_RECALL: "recall",
    custody_pb2.RETURN_PURPOSE_DESTRUCTION: "destruction",
}


def return_purpose(number: custody_pb2.ReturnPurpose.ValueType, *, field: str) -> str:
    """Return what units are sent back for, as events say it; empty for resale.

    Raises:
        MalformedError: There is none (PURPOSE_UNKNOWN).
    """
    if number not in _PURPOSES:
        message = f"unknown purpose {number}"
        raise MalformedError(message, code="PURPOSE_UNKNOWN", field=field)
    return _PURPOSES[number]
