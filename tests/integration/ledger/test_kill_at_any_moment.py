"""The ledger is killed outright while it integrates and publishes: nothing is lost, nothing doubled."""

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

from ledger.fsck_source import open_source
from medtrail.codec import encode_batch
from medtrail.runtime.bus import connect_bus
from medtrail.subjects import events_subject

if TYPE_CHECKING:
    from tests.conftest import Eventually, Network
    from tests.integration.ledger.conftest import CheckLog, Events, LogHome, RunLedger

KILLS = 4


def tree_size(home: "LogHome") -> int:
    with open_source(home.root / "ledger.db", home.database_url) as source:
        size: int = next(source.rows("SELECT tree_size FROM log_state"))["tree_size"]
    return size


def start(home: "LogHome") -> subprocess.Popen[bytes]:
    with (home.root / "ledger.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "ledger", "serve"], env=home.environment(), stderr=log)


def test_killed_while_it_chains_it_loses_and_doubles_nothing(  # noqa: PLR0917 - fixtures
    run_ledger: "RunLedger",
    log_home: "LogHome",
    events: "Events",
    network: "Network",
    eventually: "Eventually",
    check_log: "CheckLog",
) -> None:
    chance = random.Random(7)
    sent: list[bytes] = []

    async def scenario() -> None:
        async with run_ledger():
            pass
        maker = network["maker"]
        bus = await connect_bus(log_home.nats_url, seed=maker.nats_seed(), gln=maker.gln, name="maker", timeout_s=60)
        for _ in range(KILLS):
            before = tree_size(log_home)
            process = start(log_home)
            try:
                for _ in range(8):
                    batch = [events.sign(events.commission(len(sent) + number)) for number in range(50)]
                    await bus.publish(events_subject(maker.gln), encode_batch(batch))
                    # A resend in the middle of it all.
                    await bus.publish(events_subject(maker.gln), encode_batch(batch[:3]))
                    sent.extend(batch)
                wanted = before + chance.randrange(1, 350)
                await eventually(lambda wanted=wanted: tree_size(log_home) >= wanted)  # type: ignore[misc]
            finally:
                process.kill()
                process.wait()
            check_log(log_home.root)
        await bus.close()
        async with run_ledger() as running:
            await running.checkpoint_of(running.enrolled_size + len(sent))

    asyncio.run(scenario())
    report = check_log(log_home.root, acknowledged=sent, nats_url=log_home.nats_url)
    assert report.tree_size == 8 + len(sent)
