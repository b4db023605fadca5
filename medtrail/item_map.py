"""From an event to the identifiers whose history it belongs to, and from those to its log entry.

A log entry commits, beside the event itself, to the sorted item-map keys of the event, so that the map can be replayed
by anyone who holds the key lists, without reading an event (LEDGER, section 3). The function from event to identifiers
is version 1; another mapping is another entry type, for later entries.

Identifiers are canonical GS1 Digital Link paths (``/01/…/21/…``, ``/01/…/10/…``, ``/00/…``), ``/01/…`` for a trade item
as such, ``/417/<gln>`` for a party, did:key for a key, a business transaction's URN for a document, and the URI itself
for what is no GS1 identifier.
"""

import hashlib
from collections.abc import Iterable, Sequence

from medtrail.document import Document
from medtrail.epcis.cbv import lot_of
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MalformedError
from medtrail.event import (
    Enrolment,
    Event,
    Genesis,
    KeyAddition,
    KeyRetirement,
    KeyRevocation,
    Product,
    Recall,
    RecallScope,
)
from medtrail.gs1 import Gtin, Lgtin, Sgtin, parse_epc

ENTRY_TYPE = b"\x01"
ENTRY_BYTES = 65
HASH_BYTES = 32


def identifiers(event: Event) -> tuple[str, ...]:
    """Return the identifiers whose history an event belongs to: sorted, each once; may be empty.

    Containers are named, not their contents: a shipment of a pallet belongs to the pallet's history only.
    """
    statement = event.statement
    if isinstance(statement, EpcisEvent):
        found = _of_epcis(statement)
    elif isinstance(statement, Product):
        found = {f"/01/{statement.gtin}"}
    elif isinstance(statement, Recall):
        found = {path for scope in statement.scopes for path in _of_scope(scope)}
    elif isinstance(statement, Genesis):
        found = {statement.authority_key_id}
    elif isinstance(statement, Enrolment):
        found = {f"/417/{statement.gln}", *statement.signing_key_ids}
    elif isinstance(statement, KeyAddition):
        found = {f"/417/{statement.gln}", statement.key_id}
    elif isinstance(statement, KeyRetirement | KeyRevocation):
        found = {statement.key_id}
    elif isinstance(statement, Document):
        # An order's list is its whole course: all documents that refer to it stand there.
        found = {statement.named(event.header.actor).uri, *(item.uri for item in statement.references)}
    else:
        found = set()
    return tuple(sorted(found))


def _of_scope(scope: RecallScope) -> Iterable[str]:
    if scope.serials:
        return (Sgtin(scope.gtin, serial).path for serial in scope.serials)
    if scope.lot:
        return (Lgtin(scope.gtin, scope.lot).path,)
    return (f"/01/{scope.gtin}",)


def _of_epcis(event: EpcisEvent) -> set[str]:
    epcs = (*event.epc_list, *event.child_epcs, *event.input_epc_list, *event.output_epc_list)
    found = {_path_of(text) for text in epcs}
    if event.parent_id is not None:
        found.add(_path_of(event.parent_id))
    for element in (
        *event.quantity_list,
        *event.child_quantity_list,
        *event.input_quantity_list,
        *event.output_quantity_list,
    ):
        found.add(_path_of(element.epc_class))
    lot = lot_of(event)
    if lot:
        # The lot's list is what a recall asks for: whoever gives serials of a lot life names the lot.
        found |= {Lgtin(gtin, lot).path for gtin in _gtins((*event.epc_list, *event.output_epc_list))}
    return found


def _gtins(epcs: Sequence[str]) -> set[Gtin]:
    keys = (_key_of(text) for text in epcs)
    return {key.gtin for key in keys if isinstance(key, Sgtin)}


def _key_of(text: str) -> object:
    try:
        return parse_epc(text)
    except MalformedError:
        return None


def _path_of(text: str) -> str:
    # What is no GS1 identifier, or a wrong one, has a history all the same: under the text as it stands.
    try:
        return parse_epc(text).path
    except MalformedError:
        return text


def map_key(map_salt: bytes, identifier: str) -> bytes:
    """Return the item-map key of an identifier: SHA-256(map salt ‖ UTF-8 of the identifier), 32 bytes."""
    return hashlib.sha256(map_salt + identifier.encode()).digest()


def list_salt(event_salt: bytes) -> bytes:
    """Return the salt of an event's key list: SHA-256("keys" ‖ event salt), 32 bytes."""
    return hashlib.sha256(b"keys" + event_salt).digest()


def key_list_sha256(event_salt: bytes, keys: Iterable[bytes]) -> bytes:
    """Return what an entry commits to of its event's keys: SHA-256(list salt ‖ sorted keys), 32 bytes."""
    return hashlib.sha256(list_salt(event_salt) + b"".join(sorted(keys))).digest()


def log_entry(signed_event_sha256: bytes, key_list: bytes) -> bytes:
    """Return the 65-byte log entry: 0x01 ‖ SHA-256(SignedEvent) ‖ SHA-256(list salt ‖ sorted keys).

    Args:
        signed_event_sha256: 32 bytes.
        key_list: What :func:`key_list_sha256` returned, 32 bytes.

    Raises:
        MalformedError: A hash has another length.

    Source: ARCHITECTURE, section 3.
    """
    if len(signed_event_sha256) != HASH_BYTES or len(key_list) != HASH_BYTES:
        message = f"expected two hashes of 32 bytes, got {len(signed_event_sha256)} and {len(key_list)}"
        raise MalformedError(message, code="HASH_LENGTH")
    return ENTRY_TYPE + signed_event_sha256 + key_list
