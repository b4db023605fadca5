"""The newest checkpoint that readers are told of, and a way to wait for the next."""

import asyncio
from collections.abc import AsyncIterator

from ledger.storage.checkpoint_store import StoredCheckpoint
from medtrail.errors import UnavailableError


class CheckpointFeed:
    """The newest published checkpoint, and a way to wait for the next."""

    def __init__(self) -> None:
        """Start with none published."""
        self._newest: StoredCheckpoint | None = None
        self._changed = asyncio.Event()

    @property
    def newest(self) -> StoredCheckpoint:
        """The newest published checkpoint.

        Raises:
            UnavailableError: CHECKPOINT_MISSING: none is published yet.
        """
        if self._newest is None:
            raise UnavailableError("no checkpoint is published yet", code="CHECKPOINT_MISSING")
        return self._newest

    def put(self, checkpoint: StoredCheckpoint) -> None:
        """Tell all who wait of a newer one, or of more signatures under the newest; an older one changes nothing."""
        if self._newest is not None and checkpoint.tree.size < self._newest.tree.size:
            return
        self._newest = checkpoint
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self) -> AsyncIterator[StoredCheckpoint]:
        """Yield the newest, then each larger one or one with more signatures; who is slow misses those in between."""
        sent: StoredCheckpoint | None = None
        while True:
            changed = self._changed
            if self._newest is not None and self._newest != sent:
                sent = self._newest
                yield sent
            else:
                await changed.wait()
