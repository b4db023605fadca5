"""The records that fsck derives, written from their definitions (:mod:`ledger.storage.tables`), not from ingest."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import replace

from ledger.fsck_source import Row
from medtrail.event import Event

_LENGTH = 4


def entry_record(digest: bytes, leaf_index: int, *, duplicate: bool) -> bytes:
    """Return a message's record of an event that is an entry, or a duplicate of one: letter, hash, index."""
    return (b"D" if duplicate else b"E") + digest + leaf_index.to_bytes(8, "big")


def refusal_row_record(row: Row) -> bytes:
    """Return a message's record of a refused event: letter, hash, then five texts, each after its length."""
    record: bytes = b"R" + row["signed_event_sha256"]
    for name in ("event_id", "code", "field", "message", "signer_gln"):
        text = row[name].encode("utf-8", "replace")
        record += len(text).to_bytes(_LENGTH, "big") + text
    return record


def message_record(message: Row, records: Iterable[bytes]) -> bytes:
    """Return the hash over a message row and the records of its events, 32 bytes."""
    subject = message["subject"].encode()
    hashed = hashlib.sha256()
    for name in ("epoch", "stream_seq"):
        hashed.update(message[name].to_bytes(8, "big"))
    hashed.update(message["stream_time_us"].to_bytes(8, "big", signed=True))
    hashed.update(message["tree_size"].to_bytes(8, "big"))
    hashed.update(len(subject).to_bytes(_LENGTH, "big") + subject + message["message_sha256"])
    for record in records:
        hashed.update(hashlib.sha256(record).digest())
    return hashed.digest()


def keyed_event_id(map_salt: bytes, event_id: str) -> bytes:
    """Return the keyed hash under which an event id is found, 32 bytes."""
    key = hashlib.sha256(b"event id" + map_salt).digest()
    return hmac.new(key, event_id.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def says_the_same(one: Event, other: Event) -> bool:
    """Tell whether two events are equal but for salt, hash of sealed terms and number at their source."""
    blank = {"salt": b"", "sealed_terms_sha256": b"", "source_seq": 0}
    return (replace(one.header, **blank), one.statement) == (replace(other.header, **blank), other.statement)  # type: ignore[arg-type]  # the fields' own types
