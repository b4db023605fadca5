import asyncio
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ledger.notifier import FOLLOWER_NAME, _read_round, named_parties
from ledger.storage import log_store
from ledger.storage.open import open_storage
from medtrail.codec import decode_payload, decode_receipt, decode_signed_event, encode_batch
from medtrail.envelope import verify_signatures
from medtrail.epcis.model import Extension, SourceDest
from medtrail.event import Refusal
from medtrail.exchange import ReceiptItem
from medtrail.subjects import MessageKind, parse_inbox_subject

if TYPE_CHECKING:
    from tests.conftest import Eventually
    from tests.integration.ledger.conftest import CheckLog, Events, LogHome, NewLog, RunLedger, Running


async def pulled(running: "Running", name: str, count: int) -> list[tuple[MessageKind, bytes]]:
    """Take messages from an organisation's inbox, as the organisation does."""
    bus = await running.bus(name)
    gln = running.gln(name)
    arrived: asyncio.Queue[tuple[MessageKind, bytes] | None] = asyncio.Queue()

    async def take(message: object) -> None:
        reply = getattr(message, "reply", "")
        if reply.startswith("$JS.ACK"):
            await bus.send(reply, b"+ACK")
            await arrived.put((parse_inbox_subject(message.subject).kind, message.data))  # type: ignore[attr-defined]
        else:
            # A status instead of a message: the inbox may not be declared yet.
            await arrived.put(None)

    prefix, subscription = await bus.subscribe_inbox(take)
    found: list[tuple[MessageKind, bytes]] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            request = json.dumps({"batch": count - len(found), "expires": 15_000_000_000}).encode()
            await bus.send(f"$JS.API.CONSUMER.MSG.NEXT.INBOX.{gln}", request, reply=f"{prefix}.1")
            while len(found) < count and (taken := await arrived.get()) is not None:
                found.append(taken)
    await subscription.unsubscribe()
    return found


def test_producer_gets_receipts_with_the_checkpoint_and_first_index_for_resends(
    run_ledger: "RunLedger", log_home: "LogHome", events: "Events", check_log: "CheckLog"
) -> None:
    one, two = events.sign(events.commission(1)), events.sign(events.commission(2))

    async def scenario() -> None:
        async with run_ledger() as running:
            await running.publish("maker", encode_batch([one, two]))
            await running.checkpoint_of(running.enrolled_size + 2)
            ((kind, data),) = await pulled(running, "maker", 1)
            assert kind is MessageKind.RECEIPT
            receipt = decode_receipt(data)
            assert receipt.checkpoint == running.ledger.feed.newest.note
            assert receipt.epoch == 1
            digests = [hashlib.sha256(event).digest() for event in (one, two)]
            assert [(item.signed_event_sha256, item.leaf_index, item.resend) for item in receipt.items] == [
                (digests[0], running.enrolled_size, False),
                (digests[1], running.enrolled_size + 1, False),
            ]
            await running.publish("maker", encode_batch([two]))
            ((_, again),) = await pulled(running, "maker", 1)
            assert decode_receipt(again).items == (
                ReceiptItem(receipt.items[1].event_id, digests[1], running.enrolled_size + 1, resend=True),
            )
            # The authority sends events too, and gets its receipts.
            ((kind, data),) = await pulled(running, "authority", 1)
            assert len(decode_receipt(data).items) == running.enrolled_size - 1

    asyncio.run(scenario())
    check_log(log_home.root, acknowledged=[one, two])


def test_refusal_is_signed_and_goes_to_sender_signer_and_named_parties(
    run_ledger: "RunLedger", log_home: "LogHome", events: "Events", check_log: "CheckLog"
) -> None:
    shipping = replace(
        events.observe(1),
        biz_step="shipping",
        destination_list=(SourceDest("owning_party", "urn:epc:id:pgln:4012345.00000"),),
    )
    forged = events.sign(shipping, by="maker", key=events.key("distributor"))

    async def scenario() -> None:
        async with run_ledger() as running:
            await running.publish("repackager", encode_batch([forged]))
            for name in ("repackager", "distributor", "pharmacy"):
                ((kind, data),) = await pulled(running, name, 1)
                assert kind is MessageKind.REFUSAL
                signed = decode_signed_event(data)
                assert verify_signatures(signed) == log_home.folder.signing_key().key_id
                event = decode_payload(signed.payload_type, signed.payload)
                assert event.header.actor == log_home.folder.gln
                assert isinstance(event.statement, Refusal)
                assert event.statement.code == "ACTOR_NOT_SIGNER"
                assert event.statement.field == "header.actor"
                assert event.statement.signed_event_sha256 == hashlib.sha256(forged).digest()

    asyncio.run(scenario())
    assert check_log(log_home.root).refusal_count == 1


def test_refused_event_with_odd_parties_and_long_names_stops_nobodys_receipts(
    run_ledger: "RunLedger", log_home: "LogHome", events: "Events", check_log: "CheckLog"
) -> None:
    # Parties need not be GLNs; and where an error stands is told by names that the producer chose.
    stranger = replace(
        events.observe(1), source_list=(SourceDest("owning_party", "https://example.com/parties/strange"),)
    )
    long = replace(events.observe(2), extensions=(Extension("", "n" * 261_000, "x"),))
    refused = [events.sign(stranger, key=events.key("distributor")), events.sign(long)]
    good = events.sign(events.commission(1))

    async def scenario() -> None:
        async with run_ledger() as running:
            for event in (*refused, good):
                await running.publish("maker", encode_batch([event]))
            taken = await pulled(running, "maker", 3)
            assert [kind for kind, _ in taken].count(MessageKind.RECEIPT) == 1
            told = [decode_signed_event(data) for kind, data in taken if kind is MessageKind.REFUSAL]
            statements = [decode_payload(signed.payload_type, signed.payload).statement for signed in told]
            assert {one.code for one in statements if isinstance(one, Refusal)} == {
                "ACTOR_NOT_SIGNER",
                "NAMESPACE_MISSING",
            }

    asyncio.run(scenario())
    assert check_log(log_home.root).refusal_count == 2


def test_message_on_a_subject_of_nobody_is_told_to_nobody(new_log: "NewLog", events: "Events") -> None:
    offline = new_log()
    offline.enrol(events)
    size = offline.integrate(
        offline.message(b"hello", sender="test"), offline.message(encode_batch([events.sign(events.commission(1))]))
    ).tree.size
    due = offline.database.read_now(lambda connection: _read_round(connection, size))
    assert due is not None
    assert due.last_number == 3
    assert "test" not in due.items
    assert not due.refusals


def test_receipt_sent_again_after_a_crash_is_stored_once(
    run_ledger: "RunLedger", log_home: "LogHome", events: "Events", eventually: "Eventually"
) -> None:
    one, two = events.sign(events.commission(1)), events.sign(events.commission(2))

    async def scenario() -> None:
        async with run_ledger() as running:
            await running.publish("maker", encode_batch([one]))
            await running.checkpoint_of(running.enrolled_size + 1)
            await pulled(running, "maker", 1)
        # A crash after the send and before the cursor moved.
        database = open_storage(log_home.root, log_home.database_url)
        database.write_now(lambda connection: log_store.move_follower(connection, FOLLOWER_NAME, 1))
        database.close()
        async with run_ledger() as running:

            async def caught_up() -> bool:
                read = running.ledger.database.read
                return await read(lambda connection: log_store.follower_position(connection, FOLLOWER_NAME)) == 2

            await eventually(caught_up)
            await running.publish("maker", encode_batch([two]))
            ((_, data),) = await pulled(running, "maker", 1)
            assert [item.leaf_index for item in decode_receipt(data).items] == [running.enrolled_size + 1]

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [b"", b"\xff\xff"])
def test_unreadable_event_names_nobody(data: bytes) -> None:
    assert named_parties(data) == ()


def test_long_receipts_are_parted() -> None:
    from ledger.notifier import ITEMS_A_RECEIPT, _parts

    few = [ReceiptItem("urn:x", bytes(32), index) for index in range(ITEMS_A_RECEIPT + 1)]
    assert [len(part) for part in _parts(few)] == [ITEMS_A_RECEIPT, 1]
    long = [ReceiptItem("x" * 200_000, bytes(32), index) for index in range(3)]
    assert [len(part) for part in _parts(long)] == [2, 1]
