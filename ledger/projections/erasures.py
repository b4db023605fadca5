"""Takes what was erased from the log out of the projection as well; every instance does so for its own."""

import asyncio
from functools import partial

from ledger.projections import store
from ledger.storage import erasure_store
from medtrail.errors import UnavailableError
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger

log = get_logger(__name__)

POLL_S = 1.0
ORDERS_A_ROUND = 100


class ProjectedErasures:
    """Follows the erasures that were carried out, by the orders' own order."""

    def __init__(self, database: Database, projection: Database) -> None:
        """Hold the log's database and the projection's."""
        self._database = database
        self._projection = projection
        self._lock = asyncio.Lock()
        # A crash may have come between a deletion and this.
        self._to_scrub = True

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self.catch_up()
            except UnavailableError as error:
                log.warning("projection cannot erase now", code=error.code, reason=error.message)
            await asyncio.sleep(POLL_S)

    async def catch_up(self) -> int:
        """Take out all that the orders which the projection has taken in erased; return how many events.

        An order that is not taken in yet is left: what it erases may still be on its way into the projection.

        Raises:
            UnavailableError: A database does not answer, or is being read; nothing is lost.
        """
        count = 0
        async with self._lock:
            while True:
                start, end = await self._projection.read(lambda c: (store.next_order(c), store.next_index(c)))
                read = partial(erasure_store.erased_keys, start=start, end=end, limit=ORDERS_A_ROUND)
                found = await self._database.read(read)
                if not found:
                    break
                self._to_scrub = True
                erased = [(leaf, keys) for _order, leaf, keys in found]
                await self._projection.write(partial(store.erase, erased=erased, next_order=found[-1][0] + 1))
                count += len(found)
            if self._to_scrub:
                await self._projection.scrub()
                self._to_scrub = False
        return count
