import asyncio
from typing import TYPE_CHECKING

from ledger.fsck import check_folder
from medtrail.checkpoint import open_checkpoint
from medtrail.codec import encode_batch
from medtrail.merkle import hash_leaf, verify_inclusion
from medtrail.note import parse_vkey

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Events, LogHome, RunLedger


def test_batch_becomes_entries_that_a_checkpoint_proves(
    run_ledger: "RunLedger", log_home: "LogHome", events: "Events"
) -> None:
    async def scenario() -> None:
        async with run_ledger() as running:
            batch = [events.sign(events.commission(serial)) for serial in range(300)]
            await running.publish("maker", encode_batch(batch))
            checkpoint = await running.checkpoint_of(running.enrolled_size + 300)
            signed = open_checkpoint(
                checkpoint.note, origin="ledger.example/test", verifiers=[parse_vkey(log_home.vkey)]
            )
            reader = running.ledger.reader
            stored = [await reader.entry(index, checkpoint) for index in (0, 7, 8, 255, 256, 307)]
            for item in await reader.prove(stored, checkpoint):
                verify_inclusion(
                    item.proof,
                    leaf_hash=hash_leaf(item.stored.entry),
                    leaf_index=item.stored.leaf_index,
                    tree_size=signed.checkpoint.size,
                    root_hash=signed.checkpoint.root_hash,
                )
            assert stored[2].signed_event == batch[0]

    asyncio.run(scenario())
    assert check_folder(log_home.root, database_url=log_home.database_url).findings == []
