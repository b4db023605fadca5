"""What follows the log is told with its lag, and what is stuck becomes an alarm."""

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ledger.leadership import InstanceRole
from ledger.status import FollowerStatus, LedgerStatus, StatusReader
from ledger.storage import log_store
from ledger.witnessing import WitnessStatus
from tests.integration.ledger.conftest import NOW

if TYPE_CHECKING:
    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import Events, NewLog, RunLedger


class Watched:
    """A log of an offline leader, what follows it as the test says, and a clock that the test moves."""

    def __init__(self, new_log: "NewLog", events: "Events") -> None:
        self.log = new_log()
        self.log.enrol(events)
        self.log.commission(events, [1])
        self.events = events
        self.now = NOW
        self.projected = 0
        self.role = InstanceRole.LEADER
        self.witness = WitnessStatus("w")
        self.reader = StatusReader(
            self.log.database,
            self.log.feed,
            role=lambda: self.role,
            projected=lambda: self.projected,
            witnesses=lambda: [self.witness],
            clock=self.clock,
        )

    def clock(self) -> datetime:
        return self.now

    def look(self) -> LedgerStatus:
        return asyncio.run(self.reader.look())

    def follower(self, name: str) -> FollowerStatus:
        return next(each for each in self.look().followers if each.name == name)


def test_lag_is_told_of_each_follower(new_log: "NewLog", events: "Events") -> None:
    watched = Watched(new_log, events)
    before = watched.look()
    assert (before.published_size, before.alarms) == (0, ())
    watched.log.publish()
    size = before.tree_size
    watched.projected, watched.witness.size, watched.witness.error = 3, size, "WITNESS_UNREACHABLE"
    told = {each.name: (each.position, each.lag, each.error_code) for each in watched.look().followers}
    assert told == {
        "publisher": (size, 0, ""),
        "projector": (3, size - 3, ""),
        "notifier": (0, 2, ""),
        "witness w": (size, 0, "WITNESS_UNREACHABLE"),
    }
    watched.role = InstanceRole.STANDBY
    assert [each.name for each in watched.look().followers] == ["publisher", "projector"]


def test_follower_that_does_not_get_on_for_a_minute_is_an_alarm(new_log: "NewLog", events: "Events") -> None:
    watched = Watched(new_log, events)
    watched.log.publish()
    size = watched.look().published_size
    watched.witness.size = size
    watched.log.database.write_now(lambda c: log_store.move_follower(c, "notifier", 2))
    watched.projected = 2
    watched.look()
    began = watched.now
    watched.now += timedelta(seconds=59)
    assert watched.follower("projector").stuck_since == began
    assert watched.look().alarms == ()
    watched.now += timedelta(seconds=1)
    (alarm,) = watched.look().alarms
    assert (alarm.code, alarm.since, alarm.count, alarm.subject) == ("FOLLOWER_STUCK", began, size - 2, "projector")
    watched.projected = 3
    assert watched.follower("projector").stuck_since is None, "it gets on"
    watched.projected = size
    watched.now += timedelta(hours=1)
    assert (watched.look().alarms, watched.follower("projector").lag) == ((), 0)


def test_log_that_must_not_sign_is_an_alarm(new_log: "NewLog", events: "Events") -> None:
    watched = Watched(new_log, events)
    watched.log.database.write_now(lambda c: log_store.freeze(c, reason="a witness knows more"))
    told = watched.look()
    assert told.frozen_reason
    assert [alarm.code for alarm in told.alarms] == ["LOG_FROZEN"]
    assert told.alarms[0].since == NOW


def test_running_instance_tells_that_it_leads_and_that_all_have_followed(
    run_ledger: "RunLedger", eventually: "Eventually"
) -> None:
    async def scenario() -> None:
        async with run_ledger() as running:

            async def settled() -> bool:
                told = await running.ledger.status.look()
                return told.role is InstanceRole.LEADER and not any(each.lag for each in told.followers)

            await eventually(settled)
            told = await running.ledger.status.look()
            assert (told.tree_size, told.alarms) == (running.enrolled_size, ())

    asyncio.run(scenario())
