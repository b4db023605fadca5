"""What waits for an answer, since when, and when that is an alarm.

Silence is how a lost message and a dead ledger show; so what waits is counted, has an age, and is told of: in the
service's status at any time, and in its log once when it is overdue and again each time its age has doubled.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select

from medtrail.errors import MedtrailError
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.runtime.tables import FalseReceipts, OpenReceipts, Outbox, Outgoing, SignedEvents
from medtrail.runtime.tokens import Clock, utc_now

log = get_logger(__name__)

LOOK_EVERY_S = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many of a thing wait, and since when the oldest does; None when none does."""

    count: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at.

    Attributes:
        code: Stable.
        message: What it is and what to do.
        count: How many things it concerns.
        since: Of the oldest.
        subject: What it concerns, where one code may concern several things.
    """

    code: str
    message: str
    count: int
    since: datetime
    subject: str = ""


@dataclass(frozen=True, slots=True)
class ServiceWaiting:
    """What waits in a service.

    Attributes:
        events: Signed, and neither receipted nor refused by the ledger.
        messages: Sent to partners, not acknowledged by them.
        unproven: Receipted, and the log's proof not seen yet.
        unwitnessed: Receipted, and no checkpoint with the quorum covers them yet.
        false: Receipts that were not true, and whose events are not proven since.
    """

    events: Waiting = Waiting()
    messages: Waiting = Waiting()
    unproven: Waiting = Waiting()
    unwitnessed: Waiting = Waiting()
    false: Waiting = Waiting()


_RECEIPT = (
    "events have no receipt of the ledger: they are kept and sent again; see that the exchange and the ledger run, "
    "then ask the ledger's operator"
)
_ACK = "messages to partners are not acknowledged: they are kept and sent again; ask the partners what holds them up"
_PROOF = "receipts are not proven: see that the log's address (MEDTRAIL_LOG_URL) can be reached"
_WITNESS = "events are in the log without the witnesses' quorum: ask the ledger's operator and the witnesses"
_CODES = (
    ("events", "RECEIPT_OVERDUE", _RECEIPT),
    ("messages", "ACK_OVERDUE", _ACK),
    ("unproven", "PROOF_OVERDUE", _PROOF),
    ("unwitnessed", "WITNESS_OVERDUE", _WITNESS),
)
FALSE_CODE = "RECEIPT_FALSE"
_FALSE = (
    "receipts named places in the log where the events are not: they were sent again; keep the database as evidence "
    "and audit the log (medtrail audit)"
)


def read_waiting(connection: Connection) -> ServiceWaiting:
    """Return what waits, from one snapshot."""
    sent = Outbox.join(SignedEvents, Outbox.c.sha256 == SignedEvents.c.sha256)
    events = select(func.count(), func.min(SignedEvents.c.sign_time_us)).select_from(sent)
    messages = select(func.count(), func.min(Outgoing.c.enqueue_time_us)).select_from(Outgoing)
    opened = select(func.count(), func.min(OpenReceipts.c.receive_time_us)).select_from(OpenReceipts)
    false = select(func.count(), func.min(FalseReceipts.c.find_time_us)).where(FalseReceipts.c.mended.is_(False))
    queries = (
        events,
        messages,
        opened.where(OpenReceipts.c.proven.is_(False)),
        opened.where(OpenReceipts.c.witnessed.is_(False)),
        false,
    )
    found = [connection.execute(query).one() for query in queries]
    return ServiceWaiting(*(Waiting(count, _moment(since_us)) for count, since_us in found))


def _moment(us: int | None) -> datetime | None:
    return None if us is None else _EPOCH + timedelta(microseconds=us)


def alarms(waiting: ServiceWaiting, *, now: datetime, overdue_after: timedelta) -> tuple[Alarm, ...]:
    """Return what is overdue, and what is wrong whatever its age."""
    found: list[Alarm] = []
    for name, code, message in _CODES:
        part: Waiting = getattr(waiting, name)
        if part.since is not None and now - part.since >= overdue_after:
            found.append(Alarm(code, message, part.count, part.since))
    if waiting.false.since is not None:
        found.append(Alarm(FALSE_CODE, _FALSE, waiting.false.count, waiting.false.since))
    return tuple(found)


class Doubling:
    """Says which alarms are worth a line: new ones, and those whose age has doubled since they were told."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self._next: dict[tuple[str, str], timedelta] = {}

    def due(self, found: Sequence[Alarm], *, now: datetime) -> tuple[Alarm, ...]:
        """Return the alarms to tell now; what is an alarm no more is forgotten."""
        told = []
        known, self._next = self._next, {}
        for alarm in found:
            name = (alarm.code, alarm.subject)
            age = now - alarm.since
            self._next[name] = known.get(name, timedelta())
            if age >= self._next[name]:
                # At least a second: what has just begun would be told at each look.
                self._next[name] = max(2 * age, timedelta(seconds=1))
                told.append(alarm)
        return tuple(told)


class OverdueWatch:
    """Looks now and then, and logs a warning for each alarm; one a service."""

    def __init__(
        self,
        database: Database,
        *,
        overdue_after: timedelta,
        clock: Clock = utc_now,
        further: Callable[[Connection], Sequence[Alarm]] | None = None,
    ) -> None:
        """Hold where to look.

        Args:
            database: With the tables of :mod:`medtrail.runtime.tables`.
            overdue_after: Age from which waiting is an alarm.
            clock: Aware UTC.
            further: Looks for alarms of another kind.
        """
        self._database = database
        self._overdue_after = overdue_after
        self._clock = clock
        self._further = further
        self._doubling = Doubling()

    async def look(self) -> tuple[ServiceWaiting, tuple[Alarm, ...]]:
        """Return what waits now, and the alarms."""

        def read(connection: Connection) -> tuple[ServiceWaiting, tuple[Alarm, ...]]:
            return read_waiting(connection), () if self._further is None else tuple(self._further(connection))

        waiting, further = await self._database.read(read)
        return waiting, (*alarms(waiting, now=self._clock(), overdue_after=self._overdue_after), *further)

    async def tell(self) -> tuple[Alarm, ...]:
        """Log the alarms that are worth a line; return them."""
        _waiting, found = await self.look()
        now = self._clock()
        told = self._doubling.due(found, now=now)
        for alarm in told:
            age_s = int((now - alarm.since).total_seconds())
            log.warning("alarm", code=alarm.code, count=alarm.count, age_s=age_s, reason=alarm.message)
        return told

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.tell()
            except MedtrailError as error:
                log.warning("alarms not looked for", code=error.code, reason=error.message)
            await asyncio.sleep(LOOK_EVERY_S)
