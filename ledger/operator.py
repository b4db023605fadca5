"""The exchange's operator: declares the streams, and a durable inbox for each organisation once it is enrolled."""

import asyncio
from collections.abc import Iterable

import nats.errors

from ledger.trust_state import TrustState
from medtrail.errors import UnavailableError
from medtrail.gs1 import Gln
from medtrail.runtime.bus import Bus
from medtrail.runtime.cancelling import cancellable
from medtrail.runtime.logging import get_logger
from medtrail.runtime.streams import declare_inboxes, declare_streams

log = get_logger(__name__)

RETRY_S = 0.5


class StreamOperator:
    """Keeps streams and inboxes declared until it is cancelled."""

    def __init__(self, bus: Bus, trust: TrustState, *, authority_gln: Gln, replicas: int) -> None:
        """Hold the parts.

        Args:
            bus: Of the ledger's user.
            trust: Who is enrolled.
            authority_gln: The authority's: it sends events too and is enrolled nowhere.
            replicas: Copies of each stream.
        """
        self._bus = bus
        self._trust = trust
        self._authority_gln = authority_gln
        self._replicas = replicas
        self._declared: set[Gln] = set()
        self._changed = asyncio.Event()
        self.ready = asyncio.Event()

    def trust_changed(self) -> None:
        """Look for newly enrolled organisations."""
        self._changed.set()

    async def run(self) -> None:
        """Declare what is missing, at first and after each change of trust."""
        streams = False
        while True:
            self._changed.clear()
            try:
                await self._bus.ready()
                if not streams:
                    await cancellable(declare_streams(self._bus.jetstream, replicas=self._replicas))
                    streams = True
                await self._declare_inboxes(self._wanted() - self._declared)
            except (UnavailableError, nats.errors.Error, OSError, TimeoutError) as error:
                log.warning("operator waits", reason=str(error) or type(error).__name__)
                await asyncio.sleep(RETRY_S)
                continue
            self.ready.set()
            await self._changed.wait()

    def _wanted(self) -> set[Gln]:
        return {self._authority_gln, *(organisation.gln for organisation in self._trust.current.organisations())}

    async def _declare_inboxes(self, glns: Iterable[Gln]) -> None:
        for gln in sorted(glns):
            await cancellable(declare_inboxes(self._bus.jetstream, [gln]))
            self._declared.add(gln)
            log.info("inbox declared", gln=gln)
