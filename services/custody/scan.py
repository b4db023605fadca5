"""Judging scans: reads a barcode, asks the books and the ledger, and answers in the order of the scans."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import TypeVar

from sqlalchemy import Connection

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import MalformedError, MedtrailError
from medtrail.gs1 import Gtin, Sgtin
from medtrail.gs1.scan import parse_scan, require_pack
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.verdict import Verdict
from services.custody import events_store, holdings_store, inbound_store, verdicts
from services.custody.desk import Desk, known_recalls
from services.custody.events_store import Stored
from services.custody.holding import HoldingState
from services.custody.ledger_client import LedgerClient
from services.custody.verdicts import Occasion, Own, Seen

T = TypeVar("T")
R = TypeVar("R")

log = get_logger(__name__)

SCANS_AT_ONCE = 16


class Scanner:
    """Judges scans for one organisation."""

    def __init__(self, database: Database, desk: Desk, ledger: LedgerClient | None, zone: tzinfo) -> None:
        """Hold the books, the ledger (None: never asked), and the zone in which days end."""
        self._database = database
        self._desk = desk
        self._ledger = ledger
        self._zone = zone

    async def judge(self, text: str, judge_time: datetime | None) -> Verdict:
        """Return the verdict on what a scanner sent; a scan that cannot be read is a verdict too."""
        moment = judge_time or self._desk.clock()
        try:
            seen = self.read(text, moment)
        except MalformedError as error:
            return verdicts.unreadable(error, judge_time=moment)
        return await self.judge_seen(seen, moment)

    async def judge_seen(self, seen: Seen, moment: datetime) -> Verdict:
        """Return the verdict on a pack that was read."""
        own, ledger = await self._known(seen, moment)
        return verdicts.judge(seen, own, self._occasion(moment), ledger)

    async def judge_return(self, seen: Seen, moment: datetime) -> Verdict:
        """Return the verdict on a pack that comes back, to be verified: that it does speaks against nothing."""
        own, ledger = await self._known(seen, moment)
        return verdicts.judge(seen, replace(own, returning=False), self._occasion(moment), ledger)

    async def _known(self, seen: Seen, moment: datetime) -> tuple[Own, Verdict | None]:
        return await asyncio.gather(self._own(seen.sgtin, seen.lot), self._ask(seen, moment))

    def _occasion(self, moment: datetime) -> Occasion:
        offset = moment.astimezone(self._zone).utcoffset()
        return Occasion(moment) if offset is None else Occasion(moment, offset)

    def read(self, text: str, moment: datetime) -> Seen:
        """Return what a pack's barcode says.

        Raises:
            MalformedError: It cannot be read, or is no pack's.
        """
        scan = parse_scan(text, today=moment.astimezone(self._zone).date())
        sgtin = require_pack(scan)
        if scan.lot is None or scan.expiry is None:
            raise AssertionError  # require_pack has seen to it
        return Seen(sgtin, scan.lot, scan.expiry.day)

    async def knows_lot(self, gtin: Gtin, lot: str) -> bool:
        """Tell whether a lot of a trade item is known here or in the log; true when the ledger cannot be asked."""
        if await self._database.read(lambda connection: holdings_store.knows_lot(connection, gtin, lot)):
            return True
        if self._ledger is None:
            return True
        try:
            return await self._ledger.knows_lot(gtin, lot)
        except MedtrailError as error:
            log.warning("ledger not asked", code=error.code)
            return True

    async def _own(self, sgtin: Sgtin, lot: str) -> Own:
        def look(connection: Connection) -> Own:
            books = holdings_store.load_books(connection, (sgtin,))
            recalls = known_recalls(connection, self._desk)
            holding = books.get(sgtin)
            if holding is None:
                return Own(None, recalls.covering(sgtin, lot=lot))
            logged = any(item.leaf_index is not None for item in events_store.find_by_id(connection, holding.event_id))
            words = dispositions_of(events_store.own_unlogged_naming(connection, sgtin.path))
            returning = holding.state is HoldingState.INBOUND and inbound_store.is_return(
                connection, holding.despatch_id
            )
            return Own(holding, recalls.affecting(books, sgtin), logged, words, returning)

        return await self._database.read(look)

    async def _ask(self, seen: Seen, moment: datetime) -> Verdict | None:
        if self._ledger is None:
            return None
        try:
            return await self._ledger.verify_pack(seen.sgtin, lot=seen.lot, expiry=seen.expiry, judge_time=moment)
        except MedtrailError as error:
            log.warning("ledger not asked", code=error.code)
            return None


def dispositions_of(unlogged: Sequence[Stored]) -> tuple[str, ...]:
    """Return the dispositions that events leave a unit with: the last one, and those that persist.

    The ledger does not know them yet. An event that another one declares to be in error says nothing.
    """
    declared = {item.event.header.event_id for item in unlogged if item.event.is_declaration}
    statements = [
        item.event.statement
        for item in unlogged
        if isinstance(item.event.statement, EpcisEvent) and item.event.header.event_id not in declared
    ]
    last = ""
    persistent: dict[str, None] = {}
    for statement in sorted(statements, key=lambda statement: statement.event_time):
        last = statement.disposition or last
        if statement.persistent_disposition is not None:
            for word in statement.persistent_disposition.unset:
                persistent.pop(word, None)
            persistent |= dict.fromkeys(statement.persistent_disposition.set)
    return (last, *persistent) if last else tuple(persistent)


async def in_order(
    questions: AsyncIterator[T], answer: Callable[[T], Awaitable[R]], *, at_once: int = SCANS_AT_ONCE
) -> AsyncIterator[R]:
    """Yield the answers to questions in their order, working on at most ``at_once`` of them at a time.

    A slow answer holds back those behind it, and the questions behind those: nothing piles up.
    """
    waiting: asyncio.Queue[asyncio.Task[R] | None] = asyncio.Queue(maxsize=at_once)

    async def take() -> None:
        try:
            async for question in questions:
                task = asyncio.create_task(_await(answer, question))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                await waiting.put(task)
        except Exception:
            # The reader finds the end first and what went wrong behind it. A cancelled taker has no reader.
            await waiting.put(None)
            raise
        await waiting.put(None)

    tasks: set[asyncio.Task[R]] = set()
    taker = asyncio.create_task(take())
    try:
        while (task := await waiting.get()) is not None:
            yield await task
        await taker
    finally:
        taker.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(taker, *tasks, return_exceptions=True)


async def _await(answer: Callable[[T], Awaitable[R]], question: T) -> R:
    return await answer(question)
