"""What the registry replica takes out of single entries of the log: pure, but for a line in the process's log."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.trust.v1 import trust_pb2
from medtrail.checkpoint import Checkpoint
from medtrail.claims import claims_of
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.errors import AuthorizationError, VerificationError
from medtrail.event import Event, PayloadType, Product, Recall, Role
from medtrail.gs1 import Gtin
from medtrail.item_map import log_entry
from medtrail.merkle import hash_leaf, verify_inclusion
from medtrail.runtime.logging import get_logger
from medtrail.trust import MAKING_ROLES, Organisation, Registry

log = get_logger(__name__)

EVENT_TYPES = (PayloadType.PRODUCT.value, PayloadType.RECALL.value)


@dataclass(frozen=True, slots=True)
class ProductEntry:
    """A product as its brand owner described it last, and the entry that says so."""

    product: Product
    event_id: str
    leaf_index: int


@dataclass(frozen=True, slots=True)
class RecallEntry:
    """A recall, who issued it, and the entry that says so."""

    recall: Recall
    event_id: str
    leaf_index: int
    issuer: Organisation


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry whose inclusion was proven, its signature not yet looked at."""

    leaf_index: int
    payload_type: str
    signed_event: bytes
    key_list_sha256: bytes


def proven(
    leaf_index: int,
    payload_type: PayloadType | None,
    message: trust_pb2.TrustEntry | ledger_pb2.ProvenEvent,
    checkpoint: Checkpoint,
) -> LogEntry | None:
    """Return an entry after checking its inclusion proof and that it is of the type that was asked for.

    None is returned for an entry whose event was erased: it states nothing any more.
    """
    erased = isinstance(message, ledger_pb2.ProvenEvent) and message.HasField("erased")
    digest = hashlib.sha256(message.signed_event).digest()
    if isinstance(message, ledger_pb2.ProvenEvent) and erased:
        digest = message.signed_event_sha256
    entry = log_entry(digest, message.key_list_sha256)
    verify_inclusion(
        message.inclusion_proof,
        leaf_hash=hash_leaf(entry),
        leaf_index=leaf_index,
        tree_size=checkpoint.size,
        root_hash=checkpoint.root_hash,
    )
    if erased:
        return None
    found = decode_signed_event(message.signed_event).payload_type
    wanted = EVENT_TYPES if payload_type is None else (payload_type.value,)
    if found not in wanted:
        text = f"asked for {', '.join(wanted)}, entry {leaf_index} is {found}"
        raise VerificationError(text, code="ANSWER_UNASKED", leaf_index=leaf_index)
    return LogEntry(leaf_index, found, message.signed_event, message.key_list_sha256)


def next_index(entries: Sequence[LogEntry], start: int) -> int:
    """Return the index behind the last entry, or the start when there is none."""
    return entries[-1].leaf_index + 1 if entries else start


def _decoded(entry: LogEntry) -> tuple[str, Event]:
    signed = decode_signed_event(entry.signed_event)
    key_id = verify_signatures(signed)
    return key_id, decode_payload(signed.payload_type, signed.payload)


def apply_trust(registry: Registry, entry: LogEntry) -> None:
    """Take a trust entry into a registry.

    Raises:
        VerificationError: Its signature, its signer or its statement does not hold; nothing has changed then.
    """
    key_id, event = _decoded(entry)
    registry.apply(entry.leaf_index, key_id, event)


def apply_event(
    registry: Registry, products: dict[Gtin, ProductEntry], recalls: dict[str, RecallEntry], entry: LogEntry
) -> None:
    """Take a product or a recall in, if its signer could state it at its place in the log; else say so and go on.

    Raises:
        VerificationError: Its signature does not verify.
    """
    key_id, event = _decoded(entry)
    try:
        issuer = _issuer(registry, key_id, entry.leaf_index)
        registry.judge_station(claims_of(event), key_id=key_id)
        _check_issuer(issuer, event)
    except AuthorizationError as error:
        # The ledger should not have chained it. It is in the log all the same; it is not believed here.
        log.warning("entry not believed", leaf_index=entry.leaf_index, code=error.code, reason=error.message)
        return
    statement = event.statement
    event_id = event.header.event_id
    if isinstance(statement, Product):
        products[statement.gtin] = ProductEntry(statement, event_id, entry.leaf_index)
    elif isinstance(statement, Recall):
        recalls[event_id] = RecallEntry(statement, event_id, entry.leaf_index, issuer)


def _issuer(registry: Registry, key_id: str, leaf_index: int) -> Organisation:
    record, organisation = registry.key(key_id), registry.organisation_of_key(key_id)
    if record is None or organisation is None or leaf_index < record.added_index:
        raise AuthorizationError(f"no organisation had the key {key_id} then", code="KEY_UNKNOWN")
    if record.end_index is not None and leaf_index >= record.end_index:
        raise AuthorizationError(f"the key {key_id} had ended by entry {record.end_index}", code="KEY_RETIRED")
    return organisation


def _check_issuer(issuer: Organisation, event: Event) -> None:
    statement = event.statement
    if event.header.actor not in issuer.glns:
        raise AuthorizationError(f"{issuer.gln} signed for {event.header.actor}", code="ACTOR_NOT_SIGNER")
    if isinstance(statement, Recall) and Role.REGULATOR in issuer.roles:
        return
    gtins = [scope.gtin for scope in statement.scopes] if isinstance(statement, Recall) else []
    gtins += [statement.gtin] if isinstance(statement, Product) else []
    if not issuer.roles & MAKING_ROLES or not all(issuer.owns(gtin) for gtin in gtins):
        raise AuthorizationError(f"{issuer.gln} does not own what it speaks of", code="PREFIX_NOT_OWNED")
