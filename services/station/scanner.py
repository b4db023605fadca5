"""Scans at a station: judged by the service where it answers, else from the copy, with the copy's age."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import partial

from medtrail.errors import MalformedError, MedtrailError
from medtrail.gs1 import Sgtin
from medtrail.runtime.database import Database
from medtrail.verdict import Verdict
from services.custody import verdicts
from services.custody.desk import Desk
from services.custody.scan import Scanner
from services.custody.verdicts import Alone, Seen
from services.station import books
from services.station.clock import service_time
from services.station.link import ServiceLink
from services.station.sync import Sync


@dataclass(frozen=True, slots=True)
class Knowledge:
    """How old it is on which an answer rests.

    Attributes:
        online: The service answered.
        stale_since: Up to then the copy is complete; aware UTC; None: it never was.
        age_s: Seconds since then; 0 when online.
        ledger_time: Up to then the copy has all that the ledger had published; None: never.
    """

    online: bool
    stale_since: datetime | None
    age_s: float
    ledger_time: datetime | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, how old the knowledge is on which it rests, and the pack where one was read."""

    verdict: Verdict
    knowledge: Knowledge
    sgtin: Sgtin | None = None


class StationScanner(Scanner):
    """Judges scans for one station."""

    def __init__(self, database: Database, desk: Desk, link: ServiceLink, sync: Sync, zone: tzinfo) -> None:
        """Hold the copy, the service, and the zone in which days end."""
        super().__init__(database, desk, None, zone)
        self._link = link
        self._sync = sync

    def knowledge(self, *, online: bool) -> Knowledge:
        """Return how old the copy is now; by the service's clock, as far as this one is known to differ from it."""
        state = self._sync.state
        age_s = 0.0
        if state.complete_time is not None and not online:
            age_s = max(0.0, (datetime.now(UTC) - state.complete_time).total_seconds() - state.ahead_s)
        return Knowledge(online, state.complete_time, age_s, state.ledger_time)

    async def judge_scan(self, text: str, judge_time: datetime | None) -> Judged:
        """Return the verdict on what a scanner sent; without a time, for now by the service's clock."""
        moment = judge_time or service_time(self._sync.state, now=self._desk.clock())
        try:
            seen = self.read(text, moment)
        except MalformedError as error:
            knowledge = self.knowledge(online=self._sync.online)
            return Judged(verdicts.unreadable(error, judge_time=moment), knowledge)
        word = await self._word(seen, judge_time)
        knowledge = self.knowledge(online=word is not None)
        touched = await self._database.read(partial(books.is_touched, path=seen.sgtin.path))
        if word is not None and not touched:
            # The service knows all that is known here, and more.
            return Judged(word, knowledge, seen.sgtin)
        own = await self._own(seen.sgtin, seen.lot)
        alone = Alone("SERVICE_UNREACHABLE", _rests_on(knowledge))
        return Judged(verdicts.judge(seen, own, self._occasion(moment), word, alone=alone), knowledge, seen.sgtin)

    async def _word(self, seen: Seen, judge_time: datetime | None) -> Verdict | None:
        try:
            return await self._link.verify_pack(seen.sgtin, lot=seen.lot, expiry=seen.expiry, judge_time=judge_time)
        except MedtrailError:
            return None


def _rests_on(knowledge: Knowledge) -> str:
    if knowledge.stale_since is None:
        return "The service cannot be reached, and nothing was ever heard from it here."
    since = knowledge.stale_since.isoformat(timespec="seconds")
    return f"The service cannot be reached; this rests on what was known {_span(knowledge.age_s)} ago, at {since}."


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} seconds"
