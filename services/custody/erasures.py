"""Erases this organisation's own copies of an event once the ledger has carried out the order to.

The ledger is asked for the outcomes of orders from the last one known on, so that nothing is missed however long this
process was away. Copies go when the order is proven to be in the log and signed by who signed the event. Refused orders
change nothing here. What stays is the present state of the holdings, which are this organisation's books, and that an
event of this hash was erased: an advice that comes later brings it no more.
"""

import asyncio
import hashlib
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, select, update
from sqlmodel import col

from medtrail.codec import decode_advice, encode_advice
from medtrail.errors import MedtrailError
from medtrail.gs1 import Gln
from medtrail.runtime import outbox
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.runtime.replica import RegistryReplica
from medtrail.runtime.tables import InboxPoison
from services.custody import events_store, inbound_store, letters
from services.custody.desk import now_utc
from services.custody.ledger_client import ErasureOutcome, LedgerClient
from services.custody.orders import book, links
from services.custody.tables import Counter

log = get_logger(__name__)

REST_S = 1.0
"""Checkpoints come several a second: asking with each would cost the ledger more than it tells."""

POLL_S = 4.0
EVENT_ERASED = "EVENT_ERASED"
_CURSOR = "erasures"


class Erasures:
    """Follows the ledger's erasures until it is cancelled."""

    def __init__(self, database: Database, ledger: LedgerClient, replica: RegistryReplica, *, gln: Gln) -> None:
        """Hold where copies are, whom to ask, and who is who.

        Args:
            database: Of the service.
            ledger: Tells what became of orders.
            replica: Knows whose key signed an order.
            gln: Of this organisation.
        """
        self._database = database
        self._ledger = ledger
        self._replica = replica
        self._gln = gln
        # A crash may have come between an erasure and this.
        self._to_scrub = True

    async def run(self) -> None:
        """Ask after checkpoints, and every few seconds: an order is decided after it is published."""
        while True:
            seen = self._replica.checkpoint
            try:
                await self.catch_up()
            except MedtrailError as error:
                log.info("erasures not followed", code=error.code, reason=error.message)
            await asyncio.sleep(REST_S)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._replica.wait_until(lambda: self._replica.checkpoint is not seen)  # noqa: B023 - awaited before seen changes
            except TimeoutError:
                continue

    async def catch_up(self) -> int:
        """Take in all outcomes that are not known here yet; return how many events were erased.

        Raises:
            MedtrailError: The ledger cannot be reached, or its answer does not hold.
        """
        count = 0
        start = await self._database.read(_cursor)
        while True:
            outcomes, after = await self._ledger.erasures(start=start)
            for outcome in outcomes:
                signer = self._replica.registry.organisation_of_key(outcome.key_id)
                if signer is None:
                    # Its enrolment is on its way here.
                    return count
                if outcome.leaf_index is not None:
                    self._to_scrub = True
                    await self._database.write(partial(_erase, outcome=outcome, signer=signer.gln, own=self._gln))
                    await self._replica.forget(outcome.leaf_index)
                    log.info("copies erased", leaf_index=outcome.leaf_index, order_index=outcome.order_index)
                    count += 1
                await self._database.write(partial(_move, after=outcome.order_index + 1))
            if after == start:
                break
            start = after
        if self._to_scrub:
            await self._database.scrub()
            self._to_scrub = False
        return count


def _cursor(connection: Connection) -> int:
    found = connection.execute(select(col(Counter.value)).where(col(Counter.name) == _CURSOR)).scalar_one_or_none()
    return int(found or 0)


def _move(connection: Connection, *, after: int) -> None:
    moved = connection.execute(update(Counter).where(col(Counter.name) == _CURSOR).values(value=after))
    if moved.rowcount == 0:
        connection.execute(Counter.__table__.insert().values(name=_CURSOR, value=after))  # type: ignore[attr-defined]


def _erase(connection: Connection, *, outcome: ErasureOutcome, signer: Gln, own: Gln) -> None:
    """Erase all copies of an event that its signer had erased from the log."""
    sha256 = outcome.order.signed_event_sha256
    copies = events_store.find_copies(connection, sha256, leaf_index=outcome.leaf_index)
    if any(stored.signer != signer for stored in copies):
        # The ledger carried out an order that was not this signer's to give: no reason to follow it.
        log.error("erasure not believed", order_index=outcome.order_index, signer=str(signer))
        return
    orders = {name for stored in copies for name in links.orders_of(connection, stored.number)}
    for stored in copies:
        events_store.forget(connection, stored.number)
    for name in orders:
        book.settle(connection, name, gln=own, now=now_utc())
    if signer == own:
        outbox.forget_event(connection, sha256, leaf_index=outcome.leaf_index)
    for digest in {sha256, *(stored.sha256 for stored in copies)}:
        events_store.remember_refused(connection, digest, EVENT_ERASED)
        outbox.change_advices(connection, partial(_without, sha256=digest))
        inbound_store.change_parts(connection, partial(_without, sha256=digest))
        letters.forget(connection, digest)
        _forget_poison(connection, digest)


def _without(data: bytes, *, sha256: bytes) -> bytes | None:
    """Return an advice part without an event, or None when it does not hold it."""
    part = decode_advice(data)
    kept = tuple(one for one in part.signed_events if hashlib.sha256(one).digest() != sha256)
    if len(kept) == len(part.signed_events):
        return None
    return encode_advice(replace(part, signed_events=kept))


def _forget_poison(connection: Connection, sha256: bytes) -> None:
    """Drop the content of refused advices that held an event; what cannot be read as an advice ages out by itself."""
    for ident in connection.execute(select(InboxPoison.c.id)).scalars().all():
        data = connection.execute(select(InboxPoison.c.data).where(InboxPoison.c.id == ident)).scalar_one()
        try:
            holds = _without(data, sha256=sha256) is not None
        except MedtrailError:
            continue
        if holds:
            connection.execute(update(InboxPoison).where(InboxPoison.c.id == ident).values(data=b""))
