"""What the log and the projection answer, as messages; used by the servicer only."""

from ledger.intake import from_us
from ledger.log_reader import ProvenEntry
from ledger.projections.belief import Alert, Ending, EvidenceKind, UnitBelief, UnitClass
from ledger.projections.quantities import QuantityBelief
from ledger.projections.states import CustodyState, states_of
from ledger.queries import LotGroup
from ledger.status import LedgerStatus
from ledger.storage.erasure_store import Outcome
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.codec import to_timestamp
from medtrail.event import PackLevel
from medtrail.gs1.keys import RESOLVER

_CLASS_TO_MESSAGE = {item: ledger_pb2.UnitClass.Value(f"UNIT_CLASS_{item.name}") for item in UnitClass}
_EVIDENCE_TO_MESSAGE = {item: ledger_pb2.EvidenceKind.Value(f"EVIDENCE_KIND_{item.name}") for item in EvidenceKind}
_ENDING_TO_MESSAGE = {item: ledger_pb2.Ending.Value(f"ENDING_{item.name}") for item in Ending}
_STATE_TO_MESSAGE = {item: ledger_pb2.CustodyState.Value(f"CUSTODY_STATE_{item.name}") for item in CustodyState}
_LEVEL_TO_MESSAGE = {
    level: payload_pb2.PACK_LEVEL_UNSPECIFIED
    if level is PackLevel.UNKNOWN
    else payload_pb2.PackLevel.Value(f"PACK_LEVEL_{level.name}")
    for level in PackLevel
}


def link_of(path: str) -> str:
    """Return a unit's path as Digital Link; what is no GS1 identifier, or empty, as it is."""
    return RESOLVER + path if path.startswith("/") else path


def level_to_message(level: PackLevel) -> payload_pb2.PackLevel.ValueType:
    """Return a packaging level as message."""
    return _LEVEL_TO_MESSAGE[level]


def belief_to_message(belief: UnitBelief, level: PackLevel) -> ledger_pb2.UnitState:
    """Return what is believed of a unit as message."""
    return ledger_pb2.UnitState(
        epc=link_of(belief.unit),
        unit_class=_CLASS_TO_MESSAGE[belief.unit_class],
        holder=belief.holder,
        destination=belief.destination,
        place=belief.place,
        since_time=to_timestamp(belief.since),
        evidence=_EVIDENCE_TO_MESSAGE[belief.evidence],
        evidence_index=belief.evidence_index,
        parent=link_of(belief.parent),
        lot=belief.lot,
        expiry="" if belief.expiry is None else belief.expiry.isoformat(),
        maker=belief.maker,
        level=_LEVEL_TO_MESSAGE[level],
        disposition=belief.disposition,
        persistent_dispositions=belief.persistent_dispositions,
        alerts=[alert_to_message(alert) for alert in belief.alerts],
        owner=belief.owner,
        custody_states=[_STATE_TO_MESSAGE[state] for state in states_of(belief)],
        ending=ledger_pb2.ENDING_UNSPECIFIED if belief.ending is None else _ENDING_TO_MESSAGE[belief.ending],
        hold_reason=belief.hold_reason,
        hold_index=belief.hold_index,
        remainder="" if belief.remainder is None else format(belief.remainder, "f"),
        remainder_uom=belief.remainder_uom,
        recall_ids=belief.recall_ids,
    )


def alert_to_message(alert: Alert) -> ledger_pb2.Alert:
    """Return an alert as message."""
    return ledger_pb2.Alert(
        code=alert.code.value,
        message=alert.message,
        leaf_index=alert.leaf_index,
        provisional=alert.provisional,
        grave=alert.grave,
    )


def group_to_message(group: LotGroup) -> ledger_pb2.LotGroup:
    """Return units of a lot in the same situation as message."""
    return ledger_pb2.LotGroup(
        unit_class=_CLASS_TO_MESSAGE[group.unit_class],
        holder=group.holder,
        destination=group.destination,
        evidence=_EVIDENCE_TO_MESSAGE[group.evidence],
        oldest_time=to_timestamp(group.oldest),
        newest_time=to_timestamp(group.newest),
        unit_count=group.unit_count,
        custody_states=[
            ledger_pb2.CustodyStateCount(custody_state=_STATE_TO_MESSAGE[state], unit_count=count)
            for state, count in group.states
        ],
    )


def quantity_to_message(belief: QuantityBelief) -> ledger_pb2.LotQuantity:
    """Return a quantity of a lot as message; an empty quantity means that nobody said how much."""
    return ledger_pb2.LotQuantity(
        unit_class=_CLASS_TO_MESSAGE[belief.unit_class],
        holder=belief.holder,
        destination=belief.destination,
        quantity="" if belief.quantity is None else format(belief.quantity, "f"),
        uom=belief.uom,
        newest_time=to_timestamp(belief.newest),
        evidence=_EVIDENCE_TO_MESSAGE[belief.evidence],
    )


def status_to_message(status: LedgerStatus) -> ledger_pb2.GetStatusResponse:
    """Return how an instance stands."""
    return ledger_pb2.GetStatusResponse(
        role=status.role.value,
        tree_size=status.tree_size,
        published_size=status.published_size,
        frozen_reason=status.frozen_reason,
        followers=[
            ledger_pb2.Follower(
                name=each.name,
                position=each.position,
                lag=each.lag,
                stuck_time=None if each.stuck_since is None else to_timestamp(each.stuck_since),
                error_code=each.error_code,
            )
            for each in status.followers
        ],
        alarms=[
            ledger_pb2.LedgerAlarm(code=alarm.code, message=alarm.message, since_time=to_timestamp(alarm.since))
            for alarm in status.alarms
        ],
    )


def proven_to_message(item: ProvenEntry, *, via: str = "", disbelieved: bool = False) -> ledger_pb2.ProvenEvent:
    """Return an event with its proof as message."""
    stored = item.stored
    return ledger_pb2.ProvenEvent(
        leaf_index=stored.leaf_index,
        signed_event=bytes_of(item),
        key_list_sha256=item.key_list_sha256,
        inclusion_proof=item.proof,
        via=via,
        log_time=to_timestamp(from_us(stored.stream_time_us)),
        disbelieved=disbelieved,
        erased=erased_to_message(item),
        signed_event_sha256=digest_of(item),
    )


def bytes_of(item: ProvenEntry) -> bytes:
    """Return the SignedEvent of an entry; of an erased one, nothing."""
    return b"" if item.erased else item.stored.require_event()


def digest_of(item: ProvenEntry) -> bytes:
    """Return the SHA-256 of an erased SignedEvent; of one that stands, nothing: its bytes tell."""
    return item.stored.entry[1:33] if item.erased else b""


def erased_to_message(item: ProvenEntry) -> ledger_pb2.Erased | None:
    """Return what became of an erased event as message; None: it stands."""
    erased = item.erased
    if erased is None:
        return None
    return ledger_pb2.Erased(
        gln=erased.signer_gln,
        reason=erased.reason,
        order_index=erased.order_index,
        erase_time=to_timestamp(from_us(erased.erase_time_us)),
        consent_index=erased.consent_index,
    )


def outcome_to_message(outcome: Outcome, order: ProvenEntry) -> ledger_pb2.ErasureOutcome:
    """Return what became of an order to erase as message, with the proven order."""
    return ledger_pb2.ErasureOutcome(
        order=proven_to_message(order),
        leaf_index=None if outcome.erased is None else outcome.erased.leaf_index,
        code=outcome.code,
        message=outcome.message,
    )
