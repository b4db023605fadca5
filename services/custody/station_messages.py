"""Between the messages of stations and values: for the service's side and for the station's."""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.station.v1 import station_pb2
from medtrail.codec import decode_signed_event, from_timestamp, to_timestamp
from medtrail.errors import MalformedError
from medtrail.gs1 import parse_epc
from services.custody.holding import HoldingState
from services.custody.holdings_store import from_us, to_us
from services.custody.inbound_store import InboundState
from services.custody.station_events import Conflict, Taken
from services.custody.station_feed import FeedChange, FeedKind, FeedPage
from services.custody.tables import HoldingRow
from services.custody.units import Unit, as_unit, unit_of_path

_UNIT_COLUMNS = HoldingRow.__table__.c  # type: ignore[attr-defined]
# These stand in fields of their own.
_OWN_FIELDS = frozenset({"path", "state", "event_id", "since_us"})
_LOT_HOLD_TEXTS = ("lot_hold_id", "gtin", "lot", "code", "reason", "line")

Row = Mapping[str, Any]


# --- the books ---


def page_to_message(
    page: FeedPage, *, feed_id: str, previous: int, complete_time: datetime, ledger_time: datetime | None
) -> station_pb2.FollowBooksResponse:
    """Return what changed after a number."""
    return station_pb2.FollowBooksResponse(
        feed_id=feed_id,
        previous_number=previous,
        number=page.number,
        changes=[_change_to_message(change) for change in page.changes],
        complete=page.number >= page.newest,
        complete_time=to_timestamp(complete_time),
        ledger_time=None if ledger_time is None else to_timestamp(ledger_time),
        checkpoint=page.checkpoint,
        trust_next=page.trust_next,
        events_next=page.events_next,
        newest_number=page.newest,
    )


def _change_to_message(change: FeedChange) -> station_pb2.BookChange:
    row = change.row
    fields = _GONE[change.kind](change.key) if row is None else _THERE[change.kind](row)
    return station_pb2.BookChange(number=change.number, **fields)


_GONE: dict[FeedKind, Callable[[str], dict[str, Any]]] = {
    FeedKind.UNIT: lambda key: {"gone_epc": unit_of_path(key).digital_link},
    FeedKind.SHIPMENT: lambda key: {"gone_despatch_event_id": key},
    FeedKind.ENTRY: lambda key: {"gone_leaf_index": int(key)},
    FeedKind.OWN_RECALL: lambda key: {"gone_own_recall": bytes.fromhex(key)},
    FeedKind.LOT_HOLD: lambda key: {"gone_lot_hold_id": key},
    FeedKind.CONFLICT_CASE: lambda key: {"gone_conflict_case_id": key},
}
_THERE: dict[FeedKind, Callable[[Row], dict[str, Any]]] = {
    FeedKind.UNIT: lambda row: {"unit": _unit_to_message(row)},
    FeedKind.SHIPMENT: lambda row: {"shipment": _shipment_to_message(row)},
    FeedKind.ENTRY: lambda row: {"entry": _entry_to_message(row)},
    FeedKind.OWN_RECALL: lambda row: {"own_recall": row["signed_event"]},
    FeedKind.LOT_HOLD: lambda row: {"lot_hold": _lot_hold_to_message(row)},
    FeedKind.CONFLICT_CASE: lambda row: {"conflict_case": station_pb2.ConflictCaseCopy(**row)},
}


def _unit_to_message(row: Row) -> station_pb2.UnitCopy:
    facts = {
        column.name: "1" if row[column.name] is True else str(row[column.name])
        for column in _UNIT_COLUMNS
        if column.name not in _OWN_FIELDS and row[column.name]
    }
    return station_pb2.UnitCopy(
        epc=unit_of_path(row["path"]).digital_link,
        state=custody_pb2.HoldingState.Value(f"HOLDING_STATE_{HoldingState(row['state']).name}"),
        event_id=row["event_id"],
        since_time=to_timestamp(from_us(row["since_us"])),
        facts=facts,
    )


def _unit_from_message(message: station_pb2.UnitCopy) -> Row:
    name = custody_pb2.HoldingState.Name(message.state).removeprefix("HOLDING_STATE_")
    if name not in HoldingState.__members__:
        text = f"unknown state {message.state}"
        raise MalformedError(text, code="STATE_UNKNOWN", field="unit.state")
    row: dict[str, Any] = {
        "path": _unit(message.epc).path,
        "state": HoldingState[name].value,
        "event_id": message.event_id,
        "since_us": to_us(from_timestamp(message.since_time, field="unit.since_time")),
    }
    for column in _UNIT_COLUMNS:
        if column.name not in _OWN_FIELDS:
            text = message.facts.get(column.name, "")
            row[column.name] = bool(text) if isinstance(column.type, Boolean) else text
    return row


def _shipment_to_message(row: Row) -> station_pb2.ShipmentCopy:
    return station_pb2.ShipmentCopy(
        despatch_event_id=row["despatch_id"],
        signer=row["signer"],
        sender=row["sender"],
        source_location=row["source_location"],
        despatch_time=to_timestamp(from_us(row["despatch_us"])),
        epcs=[unit_of_path(path).digital_link for path in row["units"].splitlines()],
        documents=[
            station_pb2.BusinessDocument(id=ident, type=kind or "") for ident, kind in json.loads(row["documents"])
        ],
        returned=bool(row["returned"]),
        unit_count=row["unit_count"],
        received_count=row["received_count"],
        provisional=bool(row["provisional"]),
        state=custody_pb2.InboundState.Value(f"INBOUND_STATE_{InboundState(row['state']).name}"),
    )


def _shipment_from_message(message: station_pb2.ShipmentCopy) -> Row:
    name = custody_pb2.InboundState.Name(message.state).removeprefix("INBOUND_STATE_")
    if name not in InboundState.__members__:
        text = f"unknown state {message.state}"
        raise MalformedError(text, code="STATE_UNKNOWN", field="shipment.state")
    return {
        "despatch_id": message.despatch_event_id,
        "signer": message.signer,
        "sender": message.sender,
        "source_location": message.source_location,
        "despatch_us": to_us(from_timestamp(message.despatch_time, field="shipment.despatch_time")),
        "units": "\n".join(_unit(epc).path for epc in message.epcs),
        "documents": json.dumps([[item.id, item.type or None] for item in message.documents]),
        "returned": message.returned,
        "unit_count": message.unit_count,
        "received_count": message.received_count,
        "provisional": message.provisional,
        "state": InboundState[name].value,
    }


def _lot_hold_to_message(row: Row) -> station_pb2.LotHoldCopy:
    return station_pb2.LotHoldCopy(
        **{name: row[name] for name in _LOT_HOLD_TEXTS}, hold_time=to_timestamp(from_us(row["hold_us"]))
    )


def _lot_hold_from_message(message: station_pb2.LotHoldCopy) -> Row:
    texts = {name: getattr(message, name) for name in _LOT_HOLD_TEXTS}
    return {**texts, "hold_us": to_us(from_timestamp(message.hold_time, field="lot_hold.hold_time"))}


def _entry_to_message(row: Row) -> station_pb2.EntryCopy:
    return station_pb2.EntryCopy(
        leaf_index=row["leaf_index"], signed_event=row["signed_event"], key_list_sha256=row["key_list_sha256"]
    )


def _entry_from_message(message: station_pb2.EntryCopy) -> Row:
    return {
        "leaf_index": message.leaf_index,
        "payload_type": decode_signed_event(message.signed_event).payload_type,
        "signed_event": message.signed_event,
        "key_list_sha256": message.key_list_sha256,
    }


def _recall_from_message(signed_event: bytes) -> Row:
    return {"signed_event_sha256": hashlib.sha256(signed_event).digest(), "signed_event": signed_event}


def change_from_message(message: station_pb2.BookChange) -> FeedChange | None:
    """Return a change of the books; None for one of a kind that a later version tells of.

    Raises:
        MalformedError: It cannot be read.
    """
    which = message.WhichOneof("change")
    if which is None:
        return None
    kind, key, row = _CHANGES[which](message)
    return FeedChange(message.number, kind, key, row)


_CHANGES: dict[str, Callable[[station_pb2.BookChange], tuple[FeedKind, str, Row | None]]] = {
    "unit": lambda m: (FeedKind.UNIT, _unit(m.unit.epc).path, _unit_from_message(m.unit)),
    "gone_epc": lambda m: (FeedKind.UNIT, _unit(m.gone_epc).path, None),
    "shipment": lambda m: (FeedKind.SHIPMENT, m.shipment.despatch_event_id, _shipment_from_message(m.shipment)),
    "gone_despatch_event_id": lambda m: (FeedKind.SHIPMENT, m.gone_despatch_event_id, None),
    "entry": lambda m: (FeedKind.ENTRY, str(m.entry.leaf_index), _entry_from_message(m.entry)),
    "gone_leaf_index": lambda m: (FeedKind.ENTRY, str(m.gone_leaf_index), None),
    "own_recall": lambda m: (
        FeedKind.OWN_RECALL,
        hashlib.sha256(m.own_recall).hexdigest(),
        _recall_from_message(m.own_recall),
    ),
    "gone_own_recall": lambda m: (FeedKind.OWN_RECALL, m.gone_own_recall.hex(), None),
    "lot_hold": lambda m: (FeedKind.LOT_HOLD, m.lot_hold.lot_hold_id, _lot_hold_from_message(m.lot_hold)),
    "gone_lot_hold_id": lambda m: (FeedKind.LOT_HOLD, m.gone_lot_hold_id, None),
    "conflict_case": lambda m: (
        FeedKind.CONFLICT_CASE,
        m.conflict_case.case_id,
        {"case_id": m.conflict_case.case_id, "resolved": m.conflict_case.resolved},
    ),
    "gone_conflict_case_id": lambda m: (FeedKind.CONFLICT_CASE, m.gone_conflict_case_id, None),
}


def page_from_message(message: station_pb2.FollowBooksResponse) -> FeedPage:
    """Return what changed after a number.

    Raises:
        MalformedError: It cannot be read.
    """
    found = (change_from_message(change) for change in message.changes)
    return FeedPage(
        changes=tuple(change for change in found if change is not None),
        number=message.number,
        # An earlier version only says whether there is more.
        newest=max(message.newest_number, message.number if message.complete else message.number + 1),
        checkpoint=message.checkpoint,
        trust_next=message.trust_next,
        events_next=message.events_next,
    )


def _unit(epc: str) -> Unit:
    return as_unit(parse_epc(epc), field="epc")


# --- events ---


def taken_to_message(taken: Taken) -> station_pb2.SubmitEventsResponse:
    """Return what became of a station's event."""
    conflict = bool(taken.conflicts)
    return station_pb2.SubmitEventsResponse(
        source=taken.station,
        source_seq=taken.source_seq,
        signed_event_sha256=taken.sha256,
        outcome=station_pb2.EVENT_OUTCOME_CONFLICT if conflict else station_pb2.EVENT_OUTCOME_APPLIED,
        conflicts=[conflict_to_message(item) for item in taken.conflicts],
        change_number=taken.change_number,
        resend=taken.resend,
    )


def taken_from_message(message: station_pb2.SubmitEventsResponse) -> Taken:
    """Return what became of a station's event."""
    return Taken(
        station=message.source,
        source_seq=message.source_seq,
        sha256=message.signed_event_sha256,
        conflicts=tuple(Conflict(_unit(item.epc), item.code, item.message, item.case_id) for item in message.conflicts),
        change_number=message.change_number,
        resend=message.resend,
    )


def conflict_to_message(conflict: Conflict, *, resolved: bool = False) -> station_pb2.UnitConflict:
    """Return a unit that the books contradict, and whether its case is known to be resolved."""
    return station_pb2.UnitConflict(
        epc=conflict.unit.digital_link,
        code=conflict.code,
        message=conflict.message,
        case_id=conflict.case_id,
        resolved=resolved,
    )
