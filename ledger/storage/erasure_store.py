"""Erasures in the log's database: what an order names, what was carried out, and what was refused.

Functions take a connection inside a transaction, as in :mod:`ledger.storage.log_store`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from ledger.storage import entry_store
from ledger.storage.tables import ENTRY, ERASURE, REFUSAL, SIGNED_EVENT, ErasureRefusal, table_of
from medtrail.event import PayloadType

ERASURE_REFUSAL = table_of(ErasureRefusal)
FOLLOWER_NAME = "eraser"


@dataclass(frozen=True, slots=True)
class Target:
    """The entry that an order names.

    Attributes:
        signer_gln: Of the organisation that signed its event.
        stream_time_us: When the stream stored the message that carried it.
        signed_event: None once it is erased.
    """

    leaf_index: int
    signer_gln: str
    payload_type: str
    stream_time_us: int
    signed_event: bytes | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A chained statement about erasure: an order or a consent."""

    leaf_index: int
    signer_gln: str
    stream_time_us: int
    signed_event: bytes


@dataclass(frozen=True, slots=True)
class ErasedEntry:
    """That an entry's SignedEvent was erased: see :class:`ledger.storage.tables.Erasure`."""

    leaf_index: int
    order_index: int
    consent_index: int | None
    signer_gln: str
    reason: str
    erase_time_us: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an order: the entry that it erased, or why it was refused."""

    order_index: int
    erased: ErasedEntry | None = None
    code: str = ""
    message: str = ""


def statements(connection: Connection, *, start: int, end: int, limit: int) -> list[Statement]:
    """Return the first orders and consents among the entries [start, end), in log order."""
    found = entry_store.entries_of_types(connection, [PayloadType.ERASURE], start=start, end=end, limit=limit)
    indices = [entry.leaf_index for entry in found]
    query = select(ENTRY.c.leaf_index, ENTRY.c.signer_gln).where(ENTRY.c.leaf_index.in_(indices))
    signers: dict[int, str] = {row.leaf_index: row.signer_gln for row in connection.execute(query)}
    return [
        Statement(entry.leaf_index, signers[entry.leaf_index], entry.stream_time_us, entry.require_event())
        for entry in found
    ]


def find_target(connection: Connection, sha256: bytes, *, before: int) -> Target | None:
    """Return the entry of these signed bytes among the first ``before`` of the log, or None."""
    query = (
        select(
            ENTRY.c.leaf_index, ENTRY.c.signer_gln, ENTRY.c.payload_type, ENTRY.c.stream_time_us, SIGNED_EVENT.c.data
        )
        .join(SIGNED_EVENT, SIGNED_EVENT.c.leaf_index == ENTRY.c.leaf_index, isouter=True)
        .where(ENTRY.c.signed_event_sha256 == sha256, ENTRY.c.leaf_index < before)
        .order_by(ENTRY.c.leaf_index)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Target(*row)


def erase(connection: Connection, erased: ErasedEntry, *, sha256: bytes) -> None:
    """Erase an entry's SignedEvent and its event id, and note who ordered it and why.

    What was refused with the same bytes loses them too. The entry, its hashes and its keys stay.
    """
    connection.execute(
        insert(ERASURE).values(
            leaf_index=erased.leaf_index,
            order_index=erased.order_index,
            consent_index=erased.consent_index,
            signer_gln=erased.signer_gln,
            reason=erased.reason,
            erase_time_us=erased.erase_time_us,
        )
    )
    connection.execute(delete(SIGNED_EVENT).where(SIGNED_EVENT.c.leaf_index == erased.leaf_index))
    connection.execute(update(ENTRY).where(ENTRY.c.leaf_index == erased.leaf_index).values(event_id=""))
    connection.execute(update(REFUSAL).where(REFUSAL.c.signed_event_sha256 == sha256).values(signed_event=b""))


def refuse(connection: Connection, *, order_index: int, code: str, message: str) -> None:
    """Note that an order was not carried out, and why."""
    connection.execute(insert(ERASURE_REFUSAL).values(order_index=order_index, code=code, message=message))


def erased_at(connection: Connection, indices: Sequence[int]) -> dict[int, ErasedEntry]:
    """Return those of some entries that were erased, by index."""
    rows = connection.execute(_erased().where(ERASURE.c.leaf_index.in_(indices)))
    return {row[0]: ErasedEntry(*row) for row in rows}


def erased_keys(connection: Connection, *, start: int, end: int, limit: int) -> list[tuple[int, int, bytes]]:
    """Return order, entry and item-map keys of what the first orders in [start, end) erased, in log order."""
    query = (
        select(ERASURE.c.order_index, ERASURE.c.leaf_index, ENTRY.c.map_keys)
        .join(ENTRY, ENTRY.c.leaf_index == ERASURE.c.leaf_index)
        .where(ERASURE.c.order_index >= start, ERASURE.c.order_index < end)
        .order_by(ERASURE.c.order_index)
        .limit(limit)
    )
    return [(order, leaf, keys) for order, leaf, keys in connection.execute(query)]


def outcomes(connection: Connection, *, start: int, limit: int) -> list[Outcome]:
    """Return what became of the first orders at or after an index that were decided, in log order."""
    done = connection.execute(
        _erased().where(ERASURE.c.order_index >= start).order_by(ERASURE.c.order_index).limit(limit)
    )
    found = [Outcome(row.order_index, ErasedEntry(*row)) for row in done]
    refused = connection.execute(
        select(ERASURE_REFUSAL)
        .where(ERASURE_REFUSAL.c.order_index >= start)
        .order_by(ERASURE_REFUSAL.c.order_index)
        .limit(limit)
    )
    found += [Outcome(row.order_index, None, row.code, row.message) for row in refused]
    return sorted(found, key=lambda outcome: outcome.order_index)[:limit]


def _erased() -> Select[Any]:
    return select(
        ERASURE.c.leaf_index,
        ERASURE.c.order_index,
        ERASURE.c.consent_index,
        ERASURE.c.signer_gln,
        ERASURE.c.reason,
        ERASURE.c.erase_time_us,
    )
