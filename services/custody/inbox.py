"""What comes in from partners and the ledger, each message taken in by one transaction.

Subjects route; only signatures identify. A message may come twice and in any order; taking it in again changes nothing.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from medtrail.claims import claims_of, commissioned
from medtrail.codec import decode_advice, decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, TooLargeError, VerificationError
from medtrail.event import Capture, Event, Refusal
from medtrail.exchange import Advice, ReceiptItem
from medtrail.gs1 import Gln
from medtrail.runtime import outbox
from medtrail.runtime.logging import get_logger
from medtrail.trust import Organisation, Registry
from services.custody import (
    advice,
    cold_chain,
    corrections,
    events_store,
    holdings_store,
    inbound_store,
    standing,
)
from services.custody.desk import Desk, Session, signed_bytes
from services.custody.dossier import units_of
from services.custody.events_store import Stored
from services.custody.orders import book, documents
from services.custody.parties import named_glns, organisation_gln, party_of
from services.custody.receiving import arrivals_store, follow
from services.custody.steps import is_despatch
from services.custody.units import Unit

log = get_logger(__name__)

MAX_PARTS_PER_ADVICE = 512
MAX_WAITING_PARTS_PER_SENDER = 4096
LARGEST_SOURCE_SEQ = 2**63 - 1
"""That the books can hold."""
_HASH_URI = "ni:///sha-256;"
_KEY_CODES = frozenset({"KEY_UNKNOWN", "KEY_RETIRED", "KEY_REVOKED"})


@dataclass(frozen=True, slots=True)
class _Heard:
    """A partner's signed event, its signature verified."""

    signer: Gln
    key_id: str
    event: Event
    sha256: bytes
    signed_event: bytes


# --- advice ---


def take_advice(connection: Connection, desk: Desk, data: bytes, *, sender: Gln) -> None:
    """Keep a part of an advice, and take the whole in once all parts are there.

    Raises:
        MalformedError: It cannot be read, or has too many parts.
    """
    part = decode_advice(data)
    if part.part_count > MAX_PARTS_PER_ADVICE:
        message = f"expected at most {MAX_PARTS_PER_ADVICE} parts, got {part.part_count}"
        raise TooLargeError(message, code="ADVICE_TOO_LARGE", field="advice.part_count")
    if inbound_store.find(connection, part.despatch_event_id) is not None and not _declares(part):
        return
    if inbound_store.count_parts(connection, sender=sender) >= MAX_WAITING_PARTS_PER_SENDER:
        message = f"{sender} has {MAX_WAITING_PARTS_PER_SENDER} parts of unfinished advices here"
        raise TooLargeError(message, code="ADVICE_BACKLOG", field="advice")
    inbound_store.keep_part(
        connection,
        sender=sender,
        despatch_id=part.despatch_event_id,
        part=part.part,
        part_count=part.part_count,
        advice=data,
    )
    complete_advice(connection, desk, sender=sender, despatch_id=part.despatch_event_id)


def _declares(part: Advice) -> bool:
    """Tell whether a part says that its despatch was an error: of a despatch that is known nothing else is news."""
    for signed_event in part.signed_events:
        signed = decode_signed_event(signed_event)
        event = decode_payload(signed.payload_type, signed.payload)
        if event.is_declaration and event.header.event_id == part.despatch_event_id:
            return True
    return False


def complete_advice(connection: Connection, desk: Desk, *, sender: Gln, despatch_id: str) -> bool:
    """Take in an advice if all of its parts are there; return whether that is done with.

    An advice whose signer the registry does not know yet waits: its enrolment may be on its way.
    """
    if not inbound_store.has_all_parts(connection, sender=sender, despatch_id=despatch_id):
        return False
    try:
        # What is stored before an unknown signer shows up goes again: the whole advice waits for it.
        with connection.begin_nested():
            _take_in(connection, desk, sender=sender, despatch_id=despatch_id)
    except MedtrailError as error:
        if error.code in {"KEY_UNKNOWN", "GENESIS_MISSING"}:
            return False
        log.warning("advice refused", sender=str(sender), despatch_id=despatch_id, code=error.code, why=str(error))
    inbound_store.drop_parts(connection, sender=sender, despatch_id=despatch_id)
    return True


def _take_in(connection: Connection, desk: Desk, *, sender: Gln, despatch_id: str) -> None:
    """Take an advice in, one part of up to 512 KiB in memory at a time: first its despatch, then all of its events."""
    registry = desk.registry()
    despatch = _find_despatch(connection, registry, sender=sender, despatch_id=despatch_id)
    _judge_despatch(desk, registry, despatch)
    own: Stored | None = None
    declarations: list[Stored] = []
    waiting: set[str] = set()
    sensing: list[int] = []
    for signed_event in _signed_events(connection, sender=sender, despatch_id=despatch_id):
        item = _hear(registry, signed_event)
        if item is None or events_store.refused_code(connection, item.sha256):
            continue
        stored = _store(connection, item)
        if item.sha256 == despatch.sha256:
            own = stored
        if item.event.is_declaration:
            declarations.append(stored)
        sensing += _sensing(item, stored)
        waiting |= _waiting_units(connection, item)
    if own is None:
        raise AssertionError  # _find_despatch has read it
    withdrawn = [follow.despatch_declared(connection, desk, item) for item in declarations]
    if events_store.find_event(connection, signer=own.signer, event_id=despatch_id, declaration=True) is None:
        absent = _absent(connection, sender=sender, despatch_id=despatch_id)
        _take_in_goods(connection, desk, own, absent=absent)
    _take_in_sensors(connection, desk, sensing, despatch_id=despatch_id)
    follow.data_came(connection, desk, waiting)
    for earlier in withdrawn:
        if earlier is not None:
            follow.open_cases_of_withdrawn(connection, desk, earlier)
    for stored in (*declarations, own):
        book.settle_event(connection, stored.number, gln=desk.gln, now=desk.clock())


def _take_in_goods(connection: Connection, desk: Desk, despatch: Stored, *, absent: Iterator[str]) -> None:
    taken = advice.take_in_despatch(connection, despatch, sender=despatch.signer, absent=absent)
    if taken.here:
        standing.hold_here(Session(connection, desk, taken.here), taken.here)
    follow.despatch_came(connection, desk, despatch.event.header.event_id)


def _sensing(item: _Heard, stored: Stored) -> tuple[int, ...]:
    statement = item.event.statement
    return (stored.number,) if isinstance(statement, EpcisEvent) and cold_chain.concerns(statement) else ()


def _take_in_sensors(connection: Connection, desk: Desk, numbers: Sequence[int], *, despatch_id: str) -> None:
    if not numbers:
        return
    session = Session(connection, desk)
    for stored in events_store.events_of(connection, numbers):
        session.turn_to(())
        # What we know ourselves needs no partner to say it.
        if not stored.own:
            standing.take_in_advised(session, stored, despatch_id=despatch_id)


def _signed_events(connection: Connection, *, sender: Gln, despatch_id: str) -> Iterator[bytes]:
    for data in inbound_store.parts(connection, sender=sender, despatch_id=despatch_id):
        yield from decode_advice(data).signed_events


def _absent(connection: Connection, *, sender: Gln, despatch_id: str) -> Iterator[str]:
    for data in inbound_store.parts(connection, sender=sender, despatch_id=despatch_id):
        yield from decode_advice(data).absent_epcs


def _find_despatch(connection: Connection, registry: Registry, *, sender: Gln, despatch_id: str) -> _Heard:
    """Return the despatch of an advice.

    Raises:
        VerificationError: It has none that is believable (ADVICE_WITHOUT_DESPATCH).
        AuthorizationError: Nobody is known to have its key (KEY_UNKNOWN).
    """
    written = despatch_id.encode()
    for signed_event in _signed_events(connection, sender=sender, despatch_id=despatch_id):
        if written not in signed_event:
            continue
        item = _hear(registry, signed_event)
        if item is None or not _is_this_despatch(item, despatch_id):
            continue
        if not events_store.refused_code(connection, item.sha256):
            return item
    message = f"the advice holds no believable despatch {despatch_id}"
    raise VerificationError(message, code="ADVICE_WITHOUT_DESPATCH", field="advice.despatch_event_id")


def _waiting_units(connection: Connection, item: _Heard) -> set[str]:
    """Return those units that an event names which are here and wait for data."""
    statement = item.event.statement
    if not isinstance(statement, EpcisEvent):
        return set()
    return set(arrivals_store.of_paths(connection, [unit.path for unit in units_of(_named(statement))]))


def _hear(registry: Registry, signed_event: bytes) -> _Heard | None:
    """Return a signed event that its signer may have said, or None where history does not hold.

    A key that is retired or revoked by now may have spoken well before; what matters here is whose it was.

    Raises:
        AuthorizationError: Nobody is known to have the key (KEY_UNKNOWN).
    """
    try:
        signed = decode_signed_event(signed_event)
        key_id = verify_signatures(signed)
        event = decode_payload(signed.payload_type, signed.payload)
        if event.header.source_seq > LARGEST_SOURCE_SEQ:
            message = f"expected at most {LARGEST_SOURCE_SEQ}, got {event.header.source_seq}"
            raise MalformedError(message, code="SOURCE_SEQ", field="header.source_seq")
        signer = registry.organisation_of_key(key_id)
        if signer is None:
            message = f"no organisation has the key {key_id}"
            raise AuthorizationError(message, code="KEY_UNKNOWN", field="signatures[0].key_id")
        if event.header.capture is Capture.FIRST_HAND and event.header.actor not in signer.glns:
            message = f"{signer.gln} signed first-hand for {event.header.actor}"
            raise AuthorizationError(message, code="ACTOR_NOT_SIGNER", field="header.actor")
        registry.judge_station(claims_of(event), key_id=key_id)
        _require_owner(registry, signer, event)
    except MedtrailError as error:
        if error.code == "KEY_UNKNOWN":
            # Its enrolment may be on its way here: the whole advice waits for it.
            raise
        log.warning("advised event refused", code=error.code, why=str(error))
        return None
    return _Heard(signer.gln, key_id, event, hashlib.sha256(signed_event).digest(), signed_event)


def _require_owner(registry: Registry, signer: Organisation, event: Event) -> None:
    """Check that what a signer says first-hand of new packs is its to say: they lie under its prefix."""
    statement = event.statement
    if event.header.capture is not Capture.FIRST_HAND or not isinstance(statement, EpcisEvent):
        return
    for gtin in commissioned(statement):
        if registry.owner_of(gtin) != signer:
            message = f"GTIN {gtin} lies under no company prefix of {signer.gln}"
            raise AuthorizationError(message, code="PREFIX_NOT_OWNED")


def _is_this_despatch(item: _Heard, despatch_id: str) -> bool:
    statement = item.event.statement
    return (
        item.event.header.event_id == despatch_id
        and isinstance(statement, EpcisEvent)
        and statement.error_declaration is None
        and is_despatch(statement)
    )


def _judge_despatch(desk: Desk, registry: Registry, despatch: _Heard) -> None:
    statement = despatch.event.statement
    registry.judge(claims_of(despatch.event), key_id=despatch.key_id, stream_time=desk.clock())
    assert isinstance(statement, EpcisEvent)  # noqa: S101  # _is_this_despatch has seen to it
    if not named_glns(statement.destination_list) & desk.glns:
        message = f"the despatch goes to somebody else than {desk.gln}"
        raise VerificationError(message, code="ADVICE_NOT_OURS", field="event.destinationList")
    event_id = despatch.event.header.event_id
    if event_id.startswith(_HASH_URI) and event_id != event_hash(statement):
        # Under the id of another's despatch it would take that one's place.
        message = f"the despatch goes by {event_id}, which is not the hash of its content"
        raise VerificationError(message, code="EVENT_HASH_MISMATCH", field="header.event_id")
    party = party_of(statement.source_list)
    if despatch.event.header.capture is not Capture.FIRST_HAND or (
        party is not None and organisation_gln(party, registry) != despatch.signer
    ):
        message = f"{despatch.signer} is not the sender of the goods"
        raise VerificationError(message, code="ADVICE_NOT_SENDER", field="event.sourceList")


def _store(connection: Connection, item: _Heard) -> Stored:
    found = events_store.find_event(
        connection,
        signer=item.signer,
        event_id=item.event.header.event_id,
        declaration=item.event.is_declaration,
    )
    if found is not None:
        return found
    statement = item.event.statement
    units = () if not isinstance(statement, EpcisEvent) else units_of(_named(statement))
    number = events_store.insert_event(
        connection,
        item.event,
        signer=item.signer,
        own=False,
        sha256=item.sha256,
        signed_event=item.signed_event,
        units=units,
    )
    return Stored(number, item.signer, own=False, sha256=item.sha256, signed_event=item.signed_event, event=item.event)


def _named(statement: EpcisEvent) -> tuple[str, ...]:
    parents = () if statement.parent_id is None else (statement.parent_id,)
    return (
        *parents,
        *statement.epc_list,
        *statement.child_epcs,
        *statement.input_epc_list,
        *statement.output_epc_list,
    )


# --- the ledger's word ---


def note_logged(connection: Connection, items: Iterable[ReceiptItem]) -> None:
    """Note where events of ours are in the log, after the receipt that says so was verified.

    A receipt's list is not signed, and only what is our own is proven afterwards: of a partner's despatch the ledger's
    word counts with its proof alone (:mod:`services.custody.confirm`). One that we passed on is confirmed by it.
    """
    for item in items:
        stored = events_store.find_by_hash(connection, item.signed_event_sha256)
        if stored is not None and stored.own:
            events_store.set_leaf_index(connection, stored.number, item.leaf_index)
            confirm_despatch(connection, stored.event.header.event_id)


def confirm_despatch(connection: Connection, despatch_id: str) -> None:
    """Note that a despatch is in the log: its goods are provisional no more. Other events change nothing."""
    shipment = inbound_store.find(connection, despatch_id)
    if shipment is None or not shipment.provisional:
        return
    inbound_store.set_confirmed(connection, despatch_id)
    paths = [holding.unit.path for holding in holdings_store.of_despatch(connection, despatch_id)]
    holdings_store.mark(connection, paths, provisional=False)


def take_refusal(connection: Connection, desk: Desk, refusal: Refusal) -> None:
    """Take back what a refused event of ours did, or put aside what a partner's brought.

    The refusal was verified, and our event has left the outbox, before this is called. An event of ours
    that was refused because of its key alone is signed anew with the present one and sent again.
    """
    sha256 = refusal.signed_event_sha256
    stored = events_store.find_by_hash(connection, sha256)
    if stored is None:
        events_store.remember_refused(connection, sha256, refusal.code)
        return
    if stored.refusal or stored.leaf_index is not None:
        return
    if not stored.own:
        events_store.set_refusal(connection, stored.number, refusal.code)
        follow.event_refused(connection, desk, stored, code=refusal.code)
        book.settle_event(connection, stored.number, gln=desk.gln, now=desk.clock())
        return
    if refusal.code in _KEY_CODES and _sign_anew(connection, desk, stored):
        return
    log.warning("event refused by the ledger", event_id=refusal.event_id, code=refusal.code, why=refusal.message)
    events_store.set_refusal(connection, stored.number, refusal.code)
    restored = corrections.take_back(connection, stored, code=refusal.code, now=desk.clock())
    book.settle_event(connection, stored.number, gln=desk.gln, now=desk.clock())
    _hold_restored(connection, desk, restored)


def _hold_restored(connection: Connection, desk: Desk, units: Sequence[Unit]) -> None:
    """Hold what must not move among units that are back; without a key that may say so nothing moves at all."""
    try:
        with connection.begin_nested():
            standing.hold_here(Session(connection, desk, units), units)
    except MedtrailError as error:
        log.warning("not held", units=len(units), code=error.code, why=str(error))


def _sign_anew(connection: Connection, desk: Desk, stored: Stored) -> bool:
    before = decode_signed_event(stored.signed_event).signatures[0].key_id
    if before == desk.key.key_id:
        return False
    signed_event, sha256 = signed_bytes(stored.event, desk.key)
    events_store.replace_signed(connection, stored.number, sha256=sha256, signed_event=signed_event)
    documents.send_again(connection, desk, stored.number)
    outbox.enqueue_event(
        connection,
        signed_event,
        event_id=stored.event.header.event_id,
        declaration=stored.event.is_declaration,
        now=desk.clock(),
    )
    return True
