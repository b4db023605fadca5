"""What is read as a whole and kept in memory: trust, as directories by tree size, and recalls."""

from bisect import bisect_left
from collections import OrderedDict
from threading import Lock

from sqlalchemy import Connection

from ledger.projections import store
from ledger.projections.directory import Directory
from ledger.projections.recalls import RecallEntry
from medtrail.errors import ConflictError
from medtrail.event import Event, Genesis, PayloadType
from medtrail.trust import Registry

_KEPT = 8


class Archive:
    """Trust entries and recalls read so far; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read = 0
        self._trust: list[tuple[int, str, Event]] = []
        self._recalls: list[RecallEntry] = []
        self._directories: OrderedDict[int, Directory] = OrderedDict()

    def _catch_up(self, connection: Connection, size: int) -> None:
        if size > self._read:
            self._trust += store.load_payloads(connection, PayloadType.TRUST, start=self._read, size=size)
            self._recalls += store.load_recalls(connection, start=self._read, size=size)
            self._read = size

    def directory(self, connection: Connection, *, size: int) -> Directory:
        """Return who is who after the entries below a size.

        Raises:
            ConflictError: LOG_EMPTY: not even the genesis is there.
        """
        with self._lock:
            self._catch_up(connection, size)
            # Sizes between two trust entries share a directory.
            count = bisect_left(self._trust, size, key=lambda entry: entry[0])
            directory = self._directories.get(count)
            if directory is None:
                directory = Directory(self._registry(count))
                self._directories[count] = directory
                while len(self._directories) > _KEPT:
                    self._directories.popitem(last=False)
            self._directories.move_to_end(count)
            return directory

    def _registry(self, count: int) -> Registry:
        genesis = self._trust[0][2].statement if count else None
        if not isinstance(genesis, Genesis):
            message = "the log holds no genesis below this size"
            raise ConflictError(message, code="LOG_EMPTY")
        registry = Registry(authority_key_id=genesis.authority_key_id)
        for leaf, key_id, event in self._trust[:count]:
            registry.apply(leaf, key_id, event)
        return registry

    def recalls(self, connection: Connection, *, size: int) -> list[RecallEntry]:
        """Return the recalls, and ends of recalls, of the entries below a size."""
        with self._lock:
            self._catch_up(connection, size)
            return [entry for entry in self._recalls if entry.fact.leaf_index < size]
