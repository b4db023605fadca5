"""From commissioning to the patient, over gRPC, NATS and the ledger."""

import asyncio
from typing import TYPE_CHECKING

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.distributor.v1 import distributor_pb2
from medtrail.api.event.v1 import payload_pb2, verdict_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.codec import to_timestamp
from medtrail.runtime import outbox
from tests.integration.services.conftest import CASE_GTIN, GTIN, request_id

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World

PALLET = "(00)003000100000000015"
CASE = f"(01){CASE_GTIN}(21)110"


def pack(serial: int | str) -> str:
    return f"(01){GTIN}(21){serial}"


def scan_of(serial: int | str, *, lot: str = "A123", expiry: str = "280331") -> str:
    return f"]d201{GTIN}21{serial}\x1d17{expiry}10{lot}"


async def make_pallet(maker: "Client") -> None:
    await maker.register()
    await maker.commission("1", "2", "3", "4")
    for parent, children in ((CASE, [pack(number) for number in (1, 2, 3, 4)]), (PALLET, [CASE])):
        if parent == CASE:
            await maker.register(CASE_GTIN)
            await maker.commission("110", gtin=CASE_GTIN)
        await maker.custody.Pack(custody_pb2.PackRequest(request_id=request_id(), parent=parent, children=children))


async def advised(world: "World", client: "Client", *, provisional: bool, despatch_id: str = "") -> None:
    """Wait for a despatch, where several come, or for the only one."""

    async def seen() -> bool:
        shipments = await client.inbound(received=True)
        wanted = [shipment for shipment in shipments if despatch_id in {"", shipment.despatch_event_id}]
        return bool(wanted) and all(shipment.provisional is provisional for shipment in wanted)

    await world.eventually(seen)


async def verdict(client: "Client", scan: str) -> verdict_pb2.Verdict:
    (answer,) = await client.scan(scan)
    return answer.verdict


async def becomes(world: "World", client: "Client", scan: str, code: "verdict_pb2.VerdictCode.ValueType") -> None:
    async def is_it() -> bool:
        return (await verdict(client, scan)).code == code

    await world.eventually(is_it)


def test_a_pack_goes_from_the_maker_to_the_patient(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor, pharmacy = [await world.start(name) for name in ("maker", "distributor", "pharmacy")]
        await make_pallet(maker)
        await maker.ship(distributor, PALLET)
        await advised(world, distributor, provisional=False)
        (shipment,) = await distributor.inbound()
        assert (shipment.sender, shipment.unit_count) == (maker.gln, 4)
        received = await distributor.receive(PALLET)
        assert (received.unit_count, list(received.missing_epcs)) == (4, [])
        assert await distributor.inbound() == []
        await distributor.custody.Unpack(custody_pb2.UnpackRequest(request_id=request_id(), parent=PALLET))
        await distributor.ship(pharmacy, CASE)
        await advised(world, pharmacy, provisional=False)
        await pharmacy.receive(CASE)
        await becomes(world, pharmacy, scan_of(1), verdict_pb2.VERDICT_CODE_GENUINE)
        await pharmacy.pharmacy.Dispense(pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[pack(1)]))
        answers = await pharmacy.scan(
            scan_of(1), scan_of(2, lot="B9"), scan_of(99), scan_of(2, expiry="280430"), "0300010123455", scan_of(3)
        )
        assert [answer.scan_number for answer in answers] == list(range(6))
        assert [answer.verdict.code for answer in answers] == [
            verdict_pb2.VERDICT_CODE_ALREADY_DISPENSED,
            verdict_pb2.VERDICT_CODE_LOT_MISMATCH,
            verdict_pb2.VERDICT_CODE_UNKNOWN,
            verdict_pb2.VERDICT_CODE_EXPIRY_MISMATCH,
            verdict_pb2.VERDICT_CODE_UNREADABLE,
            verdict_pb2.VERDICT_CODE_GENUINE,
        ]
        await recall_reaches_the_pharmacy(world, maker, pharmacy)

    play(story)


async def recall_reaches_the_pharmacy(world: "World", maker: "Client", pharmacy: "Client") -> None:
    recall = payload_pb2.Recall(
        number="R-1",
        recall_class="II",
        depth="retail",
        reason="label mixed up",
        start_time=to_timestamp(maker.premises.office.desk.clock()),
        scopes=[payload_pb2.RecallScope(gtin=GTIN, lot="A123")],
    )
    request = recall_pb2.IssueRecallRequest(request_id=request_id(), recall=recall)
    issued = await maker.recall.IssueRecall(request)
    # At home it holds at once.
    assert list((await maker.holding(pack(2))).recall_ids) == [issued.event.event_id]
    await becomes(world, pharmacy, scan_of(3), verdict_pb2.VERDICT_CODE_RECALLED)

    async def known() -> bool:
        listed = await pharmacy.recall.ListRecalls(recall_pb2.ListRecallsRequest())
        return [(item.recall_id, item.active) for item in listed.recalls] == [(issued.event.event_id, True)]

    await world.eventually(known)
    ended = payload_pb2.Recall()
    ended.CopyFrom(recall)
    ended.terminated_recall_id = issued.event.event_id
    await maker.recall.IssueRecall(recall_pb2.IssueRecallRequest(request_id=request_id(), recall=ended))
    assert list((await maker.holding(pack(2))).recall_ids) == []


def test_a_saleable_return_is_verified_before_it_is_sold_again(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor, pharmacy = [await world.start(name) for name in ("maker", "distributor", "pharmacy")]
        await make_pallet(maker)
        await maker.ship(distributor, PALLET)
        await advised(world, distributor, provisional=False)
        await distributor.receive(PALLET)
        for parent in (PALLET, CASE):
            await distributor.custody.Unpack(custody_pb2.UnpackRequest(request_id=request_id(), parent=parent))
        await distributor.ship(pharmacy, pack(1), pack(2))
        await advised(world, pharmacy, provisional=False)
        await pharmacy.receive(pack(1), pack(2))
        returned = await pharmacy.custody.Return(
            custody_pb2.ReturnRequest(
                request_id=request_id(), epcs=[pack(1)], destination_party=distributor.gln, reason="not needed"
            )
        )
        assert len(returned.events) == 1

        async def is_on_its_way_back() -> bool:
            found = await verdict(distributor, scan_of(1))
            return found.reason == "RETURN_ON_ITS_WAY" and not found.provisional

        await world.eventually(is_on_its_way_back)
        request = distributor_pb2.AcceptReturnRequest(request_id=request_id(), scan=scan_of(1))
        answer = await distributor.distributor.AcceptReturn(request)
        assert answer.verdict.action == verdict_pb2.VERDICT_ACTION_ACCEPT
        assert len(answer.events) == 2
        held = await distributor.holding(pack(1))
        assert (held.state, held.hold_reason) == (custody_pb2.HOLDING_STATE_ON_HAND, "")
        assert await distributor.distributor.AcceptReturn(request) == answer
        # A pack with another lot on it than it was made with is taken back, and put aside.
        wrong = distributor_pb2.AcceptReturnRequest(request_id=request_id(), scan=scan_of(2, lot="B9"))
        answer = await distributor.distributor.AcceptReturn(wrong)
        assert answer.verdict.action != verdict_pb2.VERDICT_ACTION_ACCEPT
        assert "return not verified" in (await distributor.holding(pack(2))).hold_reason

    play(story)


def test_a_case_scanned_alone_leaves_no_doubt_in_the_ledger(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        await make_pallet(maker)
        await maker.ship(distributor, PALLET)
        await advised(world, distributor, provisional=False)
        received = await distributor.receive(CASE)
        assert (received.unit_count, len(received.events)) == (4, 2)
        await world.eventually(lambda: _all_logged(distributor))
        await becomes(world, distributor, scan_of(1), verdict_pb2.VERDICT_CODE_GENUINE)
        assert list((await verdict(distributor, scan_of(1))).alerts) == []

    play(story)


async def _all_logged(client: "Client") -> bool:
    return await client.premises.office.database.read(outbox.pending_count) == 0


def test_works_on_while_the_ledger_is_away(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        await make_pallet(maker)
        await world.stop_ledger()
        await maker.ship(distributor, PALLET)
        await advised(world, distributor, provisional=True)
        await distributor.receive(PALLET)
        answer = await verdict(distributor, scan_of(1))
        assert (answer.code, answer.reason, answer.provisional) == (
            verdict_pb2.VERDICT_CODE_UNCONFIRMED,
            "LEDGER_UNREACHABLE",
            True,
        )
        await world.stop("distributor")
        assert "probe of the ledger" not in {task.get_name() for task in asyncio.all_tasks()}
        # It starts with what it knew, and catches up when the ledger is back.
        distributor = await world.start("distributor")
        assert (await distributor.holding(pack(1))).provisional
        await world.start_ledger()

        async def confirmed() -> bool:
            return not (await distributor.holding(pack(1))).provisional

        await world.eventually(confirmed)

    play(story)
