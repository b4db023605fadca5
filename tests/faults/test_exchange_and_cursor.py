"""The exchange comes back with an older copy of its stream, and the cursor in the database is changed."""

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from ledger.commands import main
from ledger.sequencer import SequencerStatus
from ledger.storage.open import open_storage
from medtrail.codec import encode_batch

if TYPE_CHECKING:
    from tests.conftest import Eventually, NatsServer
    from tests.integration.ledger.conftest import Events, LogHome, Producer, RunLedger, Running
    from tests.support.log_check import CheckLog


async def halted(running: "Running", eventually: "Eventually") -> str:
    """Wait until the sequencer halts; return why."""
    await eventually(lambda: running.ledger.sequencer.status is SequencerStatus.HALTED)
    assert running.ledger.sequencer.error is not None
    return running.ledger.sequencer.error.code


@pytest.mark.parametrize(("reused", "code"), [(0, "STREAM_SHRANK"), (2, "STREAM_REWRITTEN")])
def test_stream_restored_from_an_older_copy_halts_and_a_new_epoch_loses_nothing(  # noqa: PLR0917 - fixtures
    reused: int,
    code: str,
    run_ledger: "RunLedger",
    log_home: "LogHome",
    events: "Events",
    nats_server: "NatsServer",
    producer: "Producer",
    eventually: "Eventually",
    check_log: "CheckLog",
) -> None:
    kept, lost = [[events.sign(events.commission(serial))] for serial in range(2)]
    others = [[events.sign(events.commission(10 + number))] for number in range(reused)]
    older = nats_server.folder / "older"
    checkpoint = log_home.root / "public" / "checkpoint"

    async def scenario() -> bytes:
        async with run_ledger() as running:
            await running.publish("maker", encode_batch(kept))
            await running.checkpoint_of(running.enrolled_size + 1)
        nats_server.kill()
        shutil.copytree(nats_server.store, older)
        nats_server.start()
        async with run_ledger() as running:
            await running.publish("maker", encode_batch(lost))
            await running.checkpoint_of(running.enrolled_size + 2)
        served = checkpoint.read_bytes()
        nats_server.kill()
        shutil.rmtree(nats_server.store)
        shutil.copytree(older, nats_server.store)
        nats_server.start()
        # The exchange gives the lost message's number to another, before the ledger looks again.
        for batch in others:
            await producer._publish("maker", batch)
        async with run_ledger() as running:
            assert await halted(running, eventually) == code
            command = ["new-epoch", "--dir", str(log_home.root), "--reason", "the exchange was restored"]
            assert await asyncio.to_thread(main, [*command, "--database", log_home.database_url]) == 0
            # The producer has no receipt for what the exchange lost, or had one: it sends all of it again.
            await running.publish("maker", encode_batch([*kept, *lost]))
            resent = running.integrated(3 if reused == 0 else 3 + reused)
            await resent
            await running.checkpoint_of(running.enrolled_size + 2 + reused)
        return served

    served = asyncio.run(scenario())
    chained = [*kept, *lost, *[event for batch in others for event in batch]]
    report = check_log(log_home.root, acknowledged=chained, observed=[served], nats_url=nats_server.url)
    assert report.tree_size == 8 + len(chained)
    assert report.duplicate_count >= 2


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE log_state SET next_seq = next_seq + 5", "STREAM_SHRANK"),
        ("UPDATE log_state SET next_seq = next_seq - 1", "STREAM_REWRITTEN"),
        ("UPDATE log_state SET last_message_sha256 = origin", "STREAM_REWRITTEN"),
    ],
)
def test_changed_cursor_halts_the_sequencer(  # noqa: PLR0917 - fixtures
    statement: str, code: str, run_ledger: "RunLedger", log_home: "LogHome", events: "Events", eventually: "Eventually"
) -> None:
    if "origin" in statement:
        statement = statement.replace("origin", "(SELECT message_sha256 FROM message WHERE number = 1)")

    async def scenario() -> None:
        async with run_ledger() as running:
            await running.publish("maker", encode_batch([events.sign(events.commission(1))]))
            await running.checkpoint_of(running.enrolled_size + 1)
        database = open_storage(log_home.root, log_home.database_url)
        database.write_now(lambda connection: connection.exec_driver_sql(statement))
        database.close()
        async with run_ledger() as running:
            await running.publish("maker", encode_batch([events.sign(events.commission(2))]))
            assert await halted(running, eventually) == code
            # What was published stands, and no more is signed.
            assert running.ledger.feed.newest.tree.size == running.enrolled_size + 1

    asyncio.run(scenario())
