"""What stands in the log: entries with all that their leaves are derived from, and where an event stands.

Functions take a connection inside a transaction, as in :mod:`ledger.storage.log_store`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, select, text

from ledger.judgement import Key
from ledger.storage.tables import ENTRY, ERASURE, OTHER_THAN_EPCIS, SIGNED_EVENT
from medtrail.errors import NotFoundError, VerificationError
from medtrail.event import PayloadType

IDS_A_QUERY = 10_000
"""Most values in one IN list; SQLite takes 32,766."""
ROWS_A_FETCH = 64
"""Entries in memory at once where they are read one by one: an event has at most 256 KiB."""


class StoredEntry(NamedTuple):
    """An entry with all that its leaf is derived from.

    Attributes:
        signed_event: The bytes; None when they were erased, or are lost.
        erased: Whether they were erased.
    """

    leaf_index: int
    entry: bytes
    signed_event: bytes | None
    list_salt: bytes
    map_keys: bytes
    stream_time_us: int
    payload_type: str
    erased: bool

    def require_event(self) -> bytes:
        """Return the SignedEvent.

        Raises:
            NotFoundError: EVENT_ERASED.
            VerificationError: EVENT_MISSING: it is gone, and nobody ordered that.
        """
        if self.signed_event is not None:
            return self.signed_event
        if self.erased:
            message = f"the event of entry {self.leaf_index} was erased"
            raise NotFoundError(message, code="EVENT_ERASED", field="leaf_index")
        message = f"the event of entry {self.leaf_index} is missing"
        raise VerificationError(message, code="EVENT_MISSING", leaf_index=self.leaf_index)


def standing_keys(connection: Connection, hashes: Iterable[bytes]) -> dict[Key, int]:
    """Return the index under each duplicate key with one of these hashes of event ids."""
    wanted = sorted(set(hashes))
    found: dict[Key, int] = {}
    columns = (ENTRY.c.event_id_hash, ENTRY.c.signer_gln, ENTRY.c.declaration, ENTRY.c.leaf_index)
    query = select(*columns).where(ENTRY.c.event_id_hash.in_(bindparam("hashes", expanding=True)))
    for start in range(0, len(wanted), IDS_A_QUERY):
        for digest, signer_gln, declaration, leaf_index in connection.execute(
            query, {"hashes": wanted[start : start + IDS_A_QUERY]}
        ):
            found[digest, signer_gln, declaration] = leaf_index
    return found


def entry_at(connection: Connection, leaf_index: int) -> StoredEntry:
    """Return an entry.

    Raises:
        NotFoundError: ENTRY_UNKNOWN.
    """
    found = entries(connection, start=leaf_index, end=leaf_index + 1)
    if not found:
        raise NotFoundError(f"the log has no entry {leaf_index}", code="ENTRY_UNKNOWN", field="leaf_index")
    return found[0]


_ENTRIES = (
    select(
        ENTRY.c.leaf_index,
        ENTRY.c.entry,
        SIGNED_EVENT.c.data,
        ENTRY.c.list_salt,
        ENTRY.c.map_keys,
        ENTRY.c.stream_time_us,
        ENTRY.c.payload_type,
        ERASURE.c.leaf_index.is_not(None),
    )
    .join(SIGNED_EVENT, SIGNED_EVENT.c.leaf_index == ENTRY.c.leaf_index, isouter=True)
    .join(ERASURE, ERASURE.c.leaf_index == ENTRY.c.leaf_index, isouter=True)
    .order_by(ENTRY.c.leaf_index)
)


def entries(connection: Connection, *, start: int, end: int) -> list[StoredEntry]:
    """Return the entries [start, end) that stand, in order: for few, since all are in memory at once."""
    return list(each_entry(connection, start=start, end=end))


def each_entry(connection: Connection, *, start: int, end: int) -> Iterator[StoredEntry]:
    """Yield the entries [start, end) that stand, in order; some of them are in memory at once."""
    query = _ENTRIES.where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end)
    with connection.execute(query, execution_options={"yield_per": ROWS_A_FETCH}) as rows:
        for row in rows:
            yield StoredEntry._make(row)


def entries_of_types(
    connection: Connection,
    payload_types: Sequence[str],
    *,
    start: int,
    end: int,
    limit: int,
    most_bytes: int | None = None,
) -> list[StoredEntry]:
    """Return the first entries in [start, end) of these payload types (empty: all), in order.

    Args:
        connection: In a transaction.
        payload_types: Those wanted.
        start: First index.
        end: Index behind the last.
        limit: Most entries.
        most_bytes: No more entries come after those that fill so many bytes; None: however large they are.
    """

    def of_types(query: Select[Any]) -> Select[Any]:
        query = query.where(ENTRY.c.leaf_index >= start, ENTRY.c.leaf_index < end)
        if payload_types:
            query = query.where(ENTRY.c.payload_type.in_(payload_types))
            if PayloadType.EPCIS not in payload_types:
                query = query.where(text(OTHER_THAN_EPCIS))
        return query.limit(limit)

    if most_bytes is not None:
        sizes = connection.execute(of_types(_SIZES).order_by(ENTRY.c.leaf_index))
        return entries_at(connection, _filling(sizes, most_bytes))
    return [StoredEntry._make(row) for row in connection.execute(of_types(_ENTRIES))]


def entries_at(connection: Connection, indices: Sequence[int], *, most_bytes: int | None = None) -> list[StoredEntry]:
    """Return the entries at these indices that stand, in log order.

    Args:
        connection: In a transaction.
        indices: Of which entries, in the order in which they are wanted.
        most_bytes: None is returned of those that come after such as fill so many bytes; None: of all.
    """
    if most_bytes is not None:
        found = connection.execute(_SIZES.where(ENTRY.c.leaf_index.in_(indices)))
        sizes: dict[int, int] = {row[0]: row[1] for row in found}
        indices = _filling([(index, sizes.get(index, 0)) for index in indices], most_bytes)
    return [StoredEntry._make(row) for row in connection.execute(_ENTRIES.where(ENTRY.c.leaf_index.in_(indices)))]


# Sizes first, so that no more than one answer's bytes are ever in memory.
_SIZES = select(ENTRY.c.leaf_index, func.coalesce(func.length(SIGNED_EVENT.c.data), 0)).join(
    SIGNED_EVENT, SIGNED_EVENT.c.leaf_index == ENTRY.c.leaf_index, isouter=True
)


def _filling(sizes: Iterable[Any], most_bytes: int) -> list[int]:
    """Return the first indices up to the one, inclusive, with which their events have more than so many bytes."""
    found: list[int] = []
    filled = 0
    for index, size in sizes:
        found.append(index)
        filled += size
        if filled > most_bytes:
            break
    return found


def index_of_event(connection: Connection, *, event_id_hash: bytes) -> int | None:
    """Return the index of the first entry with an event id, given by its keyed hash, or None."""
    query = select(func.min(ENTRY.c.leaf_index)).where(ENTRY.c.event_id_hash == event_id_hash)
    found: int | None = connection.execute(query).scalar_one()
    return found


def index_of_signed_event(connection: Connection, *, sha256: bytes) -> int | None:
    """Return the index of the entry of these signed bytes, or None."""
    query = select(func.min(ENTRY.c.leaf_index)).where(ENTRY.c.signed_event_sha256 == sha256)
    found: int | None = connection.execute(query).scalar_one()
    return found
