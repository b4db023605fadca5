"""How far an instance and what follows its log are: position, lag, and since when nothing moves."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from ledger.feed import CheckpointFeed
from ledger.leadership import InstanceRole
from ledger.notifier import FOLLOWER_NAME
from ledger.storage import log_store
from ledger.storage.tables import MESSAGE
from ledger.witnessing import WitnessStatus
from medtrail.errors import MedtrailError, UnavailableError
from medtrail.runtime.database import Database
from medtrail.runtime.logging import get_logger
from medtrail.runtime.overdue import Alarm, Doubling
from medtrail.runtime.tokens import Clock, utc_now

log = get_logger(__name__)

LOOK_EVERY_S = 5.0
STUCK_AFTER = timedelta(minutes=1)
"""Without getting on for so long, while there is something to do, a follower is an alarm."""


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """A follower: its position and what is before it, and since when it has been behind without getting on."""

    name: str
    position: int
    lag: int
    stuck_since: datetime | None = None
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """How an instance stands.

    Attributes:
        role: What it does.
        tree_size: Entries chained.
        published_size: Of its newest published checkpoint.
        frozen_reason: Why nothing is signed; empty: nothing is wrong.
        followers: By name.
        alarms: What a person should look at.
    """

    role: InstanceRole
    tree_size: int
    published_size: int
    frozen_reason: str
    followers: tuple[FollowerStatus, ...]
    alarms: tuple[Alarm, ...]


class StatusReader:
    """Looks at an instance's parts; one an instance."""

    def __init__(
        self,
        database: Database,
        feed: CheckpointFeed,
        *,
        role: Callable[[], InstanceRole],
        projected: Callable[[], int],
        witnesses: Callable[[], list[WitnessStatus]],
        clock: Clock = utc_now,
    ) -> None:
        """Hold where to look.

        Args:
            database: The log's.
            feed: What is published here.
            role: Gives what the instance does now.
            projected: Gives the size of the tree that the projection has taken in.
            witnesses: Gives how it stands with each witness.
            clock: Aware UTC.
        """
        self._database = database
        self._feed = feed
        self._role = role
        self._projected = projected
        self._witnesses = witnesses
        self._clock = clock
        self._doubling = Doubling()
        # By follower: the position, and since when it has been there with something to do.
        self._seen: dict[str, tuple[int, datetime | None]] = {}
        self._frozen_since: datetime | None = None

    async def look(self) -> LedgerStatus:
        """Return how the instance stands now."""
        role = self._role()
        try:
            published = self._feed.newest.tree.size
        except UnavailableError:
            published = 0
        tree_size, frozen, told, due = await self._database.read(lambda connection: _positions(connection, published))
        followers = [
            self._follower("publisher", published, tree_size),
            self._follower("projector", min(self._projected(), published), published),
        ]
        if role is InstanceRole.LEADER:
            followers.append(self._follower("notifier", told, due))
            followers += [
                self._follower(f"witness {one.name}", min(one.size, published), published, error_code=one.error)
                for one in self._witnesses()
            ]
        return LedgerStatus(role, tree_size, published, frozen, tuple(followers), self._alarms(frozen, followers))

    def _follower(self, name: str, position: int, end: int, *, error_code: str = "") -> FollowerStatus:
        before, since = self._seen.get(name, (-1, None))
        if position >= end:
            since = None
        elif position != before or since is None:
            since = self._clock()
        self._seen[name] = (position, since)
        stuck = since if position == before else None
        return FollowerStatus(name, position, max(end - position, 0), stuck, error_code)

    def _alarms(self, frozen: str, followers: list[FollowerStatus]) -> tuple[Alarm, ...]:
        now = self._clock()
        self._frozen_since = (self._frozen_since or now) if frozen else None
        found = []
        if self._frozen_since is not None:
            found.append(Alarm("LOG_FROZEN", f"nothing is signed: {frozen}", 1, self._frozen_since))
        for each in followers:
            if each.stuck_since is not None and now - each.stuck_since >= STUCK_AFTER:
                reason = f" ({each.error_code})" if each.error_code else ""
                message = f"{each.name} is {each.lag} behind and does not get on{reason}: see the ledger's log"
                found.append(Alarm("FOLLOWER_STUCK", message, each.lag, each.stuck_since, subject=each.name))
        return tuple(found)

    async def run(self) -> None:
        """Look now and then, and log each alarm once and again whenever its age has doubled, until cancelled."""
        while True:
            try:
                for alarm in self._doubling.due((await self.look()).alarms, now=self._clock()):
                    age_s = int((self._clock() - alarm.since).total_seconds())
                    log.warning("alarm", code=alarm.code, age_s=age_s, reason=alarm.message)
            except MedtrailError as error:
                log.warning("status not known", code=error.code, reason=error.message)
            await asyncio.sleep(LOOK_EVERY_S)


def _positions(connection: Connection, published: int) -> tuple[int, str, int, int]:
    """Return the tree's size, why it is frozen, the notifier's position, and the last message that it could answer."""
    state = log_store.require_state(connection)
    due = connection.execute(select(func.max(MESSAGE.c.number)).where(MESSAGE.c.tree_size <= published)).scalar_one()
    return state.tree.size, state.frozen, log_store.follower_position(connection, FOLLOWER_NAME), due or 0
