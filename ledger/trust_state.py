"""The trust registry of the log: rebuilt from its trust entries, and handed out as snapshots."""

import copy

from sqlalchemy import Connection

from ledger.storage import entry_store
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.event import PayloadType
from medtrail.runtime.database import Database
from medtrail.trust import Registry

ENTRIES_A_READ = 1000


def load_registry(connection: Connection, *, authority_key_id: str, tree_size: int) -> Registry:
    """Return the registry after the log's first ``tree_size`` entries.

    Raises:
        VerificationError: A trust entry does not hold; the database was changed from outside.
    """
    registry = Registry(authority_key_id=authority_key_id)
    start = 0
    while True:
        found = entry_store.entries_of_types(
            connection, [PayloadType.TRUST], start=start, end=tree_size, limit=ENTRIES_A_READ
        )
        for entry in found:
            signed = decode_signed_event(entry.require_event())
            key_id = verify_signatures(signed)
            registry.apply(entry.leaf_index, key_id, decode_payload(signed.payload_type, signed.payload))
        if len(found) < ENTRIES_A_READ:
            return registry
        start = found[-1].leaf_index + 1


class TrustState:
    """The newest committed registry. What it hands out is never changed afterwards."""

    def __init__(self, registry: Registry) -> None:
        """Start with the registry of the committed log; it is copied."""
        self._current = copy.deepcopy(registry)

    @property
    def current(self) -> Registry:
        """The registry as of the last commit that changed it; for reading only."""
        return self._current

    async def follow(self, database: Database, *, authority_key_id: str) -> None:
        """Take in the trust entries that another instance has committed since.

        Raises:
            VerificationError: One does not hold.
        """
        start = self._current.next_index
        newer = await database.read(
            lambda connection: entry_store.entries_of_types(
                connection, [PayloadType.TRUST], start=start, end=2**62, limit=1
            )
        )
        if newer:
            self._current = await database.read(
                lambda connection: load_registry(connection, authority_key_id=authority_key_id, tree_size=2**62)
            )

    def replace(self, registry: Registry) -> None:
        """Hand out a copy of this registry from now on."""
        self._current = copy.deepcopy(registry)
