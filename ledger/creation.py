"""The first moment of a log: its genesis becomes entry 0."""

import hashlib
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from ledger.intake import Unreadable, event_of, examine, to_us
from ledger.judgement import Chained
from ledger.storage import entry_store, log_store
from medtrail.codec import decode_signed_event
from medtrail.errors import VerificationError
from medtrail.event import Event, Genesis
from medtrail.gs1 import Gln
from medtrail.runtime.files import read_file
from medtrail.trust import Registry

GENESIS_FILE = "genesis.bin"


def ensure_log(
    connection: Connection, *, folder: Path, origin: str, authority_key_id: str, map_salt: bytes, now: datetime
) -> Gln:
    """Create the log when there is none, check that it is the one that is meant, and return the authority's GLN.

    Args:
        connection: In a write transaction.
        folder: Holds ``genesis.bin``.
        origin: Of the log.
        authority_key_id: Pinned, did:key.
        map_salt: The item map's secret, 32 bytes.
        now: Aware UTC; only shown beside entry 0, which no message carried.

    Raises:
        NotFoundError: FILE_MISSING: there is no genesis.
        VerificationError: The genesis is not the pinned authority's, or names another origin or map salt.
    """
    if log_store.read_state(connection) is None:
        genesis = examine(read_file(folder / GENESIS_FILE), map_salt=map_salt)
        if isinstance(genesis, Unreadable):
            raise genesis.error
        event = event_of(genesis.signed_event)
        _check(event, genesis.key_id, origin=origin, authority_key_id=authority_key_id, map_salt=map_salt)
        key = (genesis.event_id_hash, str(event.header.actor), False)
        log_store.create_log(connection, Chained(genesis, 0, key), origin=origin, now_us=to_us(now))
        return event.header.actor
    return _existing(connection, origin=origin, authority_key_id=authority_key_id, map_salt=map_salt)


def _existing(connection: Connection, *, origin: str, authority_key_id: str, map_salt: bytes) -> Gln:
    signed_event = entry_store.entry_at(connection, 0).require_event()
    examined = event_of(signed_event)
    key_id = decode_signed_event(signed_event).signatures[0].key_id
    _check(examined, key_id, origin=origin, authority_key_id=authority_key_id, map_salt=map_salt)
    return examined.header.actor


def _check(event: Event, key_id: str, *, origin: str, authority_key_id: str, map_salt: bytes) -> None:
    Registry(authority_key_id=authority_key_id).apply(0, key_id, event)
    statement = event.statement
    if not isinstance(statement, Genesis):  # pragma: no cover - the registry has refused it
        raise VerificationError("entry 0 is no genesis", code="GENESIS_MISSING")
    if statement.origin != origin:
        message = f"expected the log {origin!r}, the genesis is of {statement.origin!r}"
        raise VerificationError(message, code="ORIGIN_MISMATCH", field="log_origin")
    if statement.map_salt_sha256 != hashlib.sha256(map_salt).digest():
        raise VerificationError("map_salt.key is not the genesis' map salt", code="MAP_SALT_MISMATCH")
