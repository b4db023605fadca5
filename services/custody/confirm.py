"""Confirms despatches of partners: asks the ledger for the proof that each is in the log, and checks it."""

import asyncio
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from medtrail.errors import MedtrailError, UnavailableError
from medtrail.event import Event
from medtrail.gs1 import Gln
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.trust import Registry
from services.custody import events_store, inbound_store
from services.custody.events_store import Stored
from services.custody.inbox import confirm_despatch
from services.custody.ledger_client import LedgerClient

log = get_logger(__name__)

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 30.0


class Confirmer:
    """Follows the despatches on which the ledger's word is awaited."""

    def __init__(self, database: Database, ledger: LedgerClient, registry: Callable[[], Registry]) -> None:
        """Hold where despatches stand, whom to ask, and who may have signed them."""
        self._database = database
        self._ledger = ledger
        self._registry = registry
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Say that a despatch may have come, or a checkpoint; called on the event loop."""
        self._news.set()

    async def run(self) -> None:
        """Confirm until cancelled. While something is awaited it asks again, at growing intervals."""
        pause_s = FIRST_PAUSE_S
        while True:
            self._news.clear()
            try:
                waiting = await self.confirm_all()
            except UnavailableError as error:
                log.warning("despatches wait", code=error.code, reason=error.message)
                waiting = 1
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S) if waiting else FIRST_PAUSE_S
            try:
                async with asyncio.timeout(pause_s if waiting else None):
                    await self._news.wait()
                pause_s = FIRST_PAUSE_S
            except TimeoutError:
                continue

    async def confirm_all(self) -> int:
        """Ask once for every despatch that waits; return how many still wait."""
        waiting = await self._database.read(_waiting)
        left = 0
        for despatch in waiting:
            try:
                confirmed = await self._confirm(despatch)
            except MedtrailError as error:
                log.info("despatch not confirmed yet", event_id=despatch.event.header.event_id, code=error.code)
                confirmed = False
            left += not confirmed
        return left

    async def _confirm(self, despatch: Stored) -> bool:
        event_id = despatch.event.header.event_id
        found = await self._ledger.find_logged(sha256=despatch.sha256, event_id=event_id)
        if found is None:
            return False
        leaf_index, event, key_id = found
        signer = self._registry().organisation_of_key(key_id)
        if signer is None or not _same(despatch, event, signer.gln):
            log.warning("another despatch is in the log than was advised", event_id=event_id, leaf_index=leaf_index)
            return False
        await self._database.write(partial(_note, number=despatch.number, leaf_index=leaf_index, event_id=event_id))
        return True


def _same(despatch: Stored, event: Event, signer: Gln) -> bool:
    # Signed anew with another key it has other bytes; what it says, its id and its signer are the same.
    advised = despatch.event
    return (
        signer == despatch.signer
        and event.header.event_id == advised.header.event_id
        and event.statement == advised.statement
    )


def _waiting(connection: Connection) -> list[Stored]:
    found = []
    for event_id in inbound_store.provisional_despatches(connection):
        shipment = inbound_store.find(connection, event_id)
        if shipment is not None:
            stored = events_store.find_event(connection, signer=shipment.signer, event_id=event_id, declaration=False)
            if stored is not None:
                found.append(stored)
    return found


def _note(connection: Connection, *, number: int, leaf_index: int, event_id: str) -> None:
    events_store.set_leaf_index(connection, number, leaf_index)
    confirm_despatch(connection, event_id)
