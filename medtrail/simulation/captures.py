"""EPCIS events that parties capture as they are: what sensors say, what others did, what was said in error."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from medtrail import codec
from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.epcis.cbv import ilmd_lot_expiry
from medtrail.epcis.model import (
    Action,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Place,
    SensorElement,
    SensorMetadata,
    SensorReport,
    SourceDest,
)
from medtrail.errors import VerificationError
from medtrail.gs1 import Gln, OtherKey, Sgln
from medtrail.gs1.keys import RESOLVER


def _place(gln: str) -> str:
    return Sgln(Gln(gln)).digital_link


def _party(gln: str) -> str:
    return OtherKey("417", gln).digital_link


def _object(units: Sequence[str], moment: datetime, *, action: Action, biz_step: str, disposition: str) -> EpcisEvent:
    return EpcisEvent(
        type=EventType.OBJECT,
        event_time=moment,
        event_time_zone_offset="+00:00",
        action=action,
        epc_list=tuple(RESOLVER + unit for unit in units),
        biz_step=biz_step,
        disposition=disposition,
    )


def sensed(units: Sequence[str], moment: datetime, *, celsius: str, place: str) -> EpcisEvent:
    """Return that a logger beside goods read a temperature, at a place (GLN)."""
    report = SensorReport(type="Temperature", value=Decimal(celsius), uom="CEL", time=moment)
    metadata = SensorMetadata(time=moment, device_id="urn:epc:id:giai:9523101.logger1")
    made = _object(units, moment, action=Action.OBSERVE, biz_step="sensor_reporting", disposition="in_progress")
    where = Place(_place(place))
    return replace(
        made, read_point=where, biz_location=where, sensor_element_list=(SensorElement(metadata, (report,)),)
    )


def commissioned(units: Sequence[str], moment: datetime, *, lot: str, expiry: str, place: str) -> EpcisEvent:
    """Return that a party gave life to packs of a lot, at its place (GLN)."""
    made = _object(units, moment, action=Action.ADD, biz_step="commissioning", disposition="active")
    where = Place(_place(place))
    return replace(made, ilmd=ilmd_lot_expiry(lot, date.fromisoformat(expiry)), read_point=where, biz_location=where)


def shipped(units: Sequence[str], moment: datetime, *, sender: str, receiver: str, voided: bool = False) -> EpcisEvent:
    """Return that one party (GLN) sent goods to another, or that it did not after all."""
    step, disposition = ("void_shipping", "in_progress") if voided else ("shipping", "in_transit")
    made = _object(units, moment, action=Action.OBSERVE, biz_step=step, disposition=disposition)
    return replace(
        made,
        read_point=Place(_place(sender)),
        source_list=(SourceDest("owning_party", _party(sender)), SourceDest("location", _place(sender))),
        destination_list=(SourceDest("owning_party", _party(receiver)), SourceDest("location", _place(receiver))),
    )


def dispensed(units: Sequence[str], moment: datetime, *, place: str) -> EpcisEvent:
    """Return that packs were handed out at a place (GLN)."""
    made = _object(units, moment, action=Action.OBSERVE, biz_step="dispensing", disposition="dispensed")
    where = Place(_place(place))
    return replace(made, read_point=where, biz_location=where)


def released(units: Sequence[str], moment: datetime, *, place: str) -> EpcisEvent:
    """Return that goods at a place (GLN) were free to be sold."""
    made = _object(units, moment, action=Action.OBSERVE, biz_step="storing", disposition="sellable_accessible")
    where = Place(_place(place))
    return replace(made, read_point=where, biz_location=where)


def repackaged(
    inputs: Sequence[str], outputs: Sequence[str], moment: datetime, *, lot: str, expiry: str, place: str
) -> EpcisEvent:
    """Return that goods were used up at a place (GLN), and packs of a lot made of them."""
    where = Place(_place(place))
    return EpcisEvent(
        type=EventType.TRANSFORMATION,
        event_time=moment,
        event_time_zone_offset="+00:00",
        input_epc_list=tuple(RESOLVER + unit for unit in inputs),
        output_epc_list=tuple(RESOLVER + unit for unit in outputs),
        biz_step="repackaging",
        disposition="active",
        read_point=where,
        biz_location=where,
        ilmd=ilmd_lot_expiry(lot, date.fromisoformat(expiry)),
    )


async def said(ledger: "ledger_pb2_grpc.LedgerServiceAsyncStub", event_id: str) -> EpcisEvent:
    """Return the event that stands in the log under an id.

    Raises:
        NotFoundError: None does yet.
        VerificationError: It is none of goods.
    """
    answer = await ledger.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(event_id=event_id))
    signed = codec.decode_signed_event(answer.signed_event)
    event = codec.decode_payload(signed.payload_type, signed.payload)
    if not isinstance(event.statement, EpcisEvent):
        raise VerificationError(f"{event_id} tells of no goods", code="NOT_EPCIS")
    return replace(event.statement, event_id=event_id)


def declared_error(event: EpcisEvent, moment: datetime) -> EpcisEvent:
    """Return that an event did not happen."""
    return replace(event, error_declaration=ErrorDeclaration(moment, "did_not_occur"))
