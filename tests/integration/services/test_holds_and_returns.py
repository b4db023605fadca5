"""Holds and returns over gRPC: who may release, lots, expiry, sensors; bulk returns and recalls upstream."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import payload_pb2, verdict_pb2
from medtrail.api.holds.v1 import holds_pb2, holds_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.api.returns.v1 import returns_pb2, returns_pb2_grpc
from medtrail.codec import product_to_message, to_timestamp
from medtrail.codec.epcis import epcis_to_message
from medtrail.epcis.model import Action, EpcisEvent, EventType, SensorElement, SensorReport
from medtrail.errors import MedtrailError
from medtrail.event import PackLevel, Product, StorageLimits, StorageRange
from medtrail.gs1 import Gtin
from medtrail.runtime.client import connect
from services.custody.expiry_watch import ExpiryWatch
from services.custody.hold_policy import FILE_NAME
from tests.integration.services.conftest import GTIN, request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from pathlib import Path

    from tests.conftest import Network
    from tests.integration.services.conftest import Client, Play, World


def pack(serial: int) -> str:
    return f"(01){GTIN}(21){serial}"


def scan(serial: int, lot: str = "A123") -> str:
    return f"]d201{GTIN}21{serial}\x1d1728033110{lot}"


@pytest.fixture
def rules(network: "Network") -> "Iterator[Path]":
    """The maker's own rules: two persons release what was warm, or of a lot under test."""
    path = network["maker"].path / FILE_NAME
    path.write_text('four_eyes = ["TEMPERATURE_EXCURSION", "QUALITY"]\nexpiring_days = 3000\n')
    yield path
    path.unlink()


async def refused(call: "Awaitable[Any]") -> str:
    with pytest.raises(MedtrailError) as caught:
        await call
    return caught.value.code


async def capture_warm(maker: "Client", serial: int) -> None:
    statement = EpcisEvent(
        EventType.OBJECT,
        maker.premises.office.desk.clock() - timedelta(minutes=1),
        "+00:00",
        action=Action.OBSERVE,
        epc_list=(f"https://id.gs1.org/01/{GTIN}/21/{serial}",),
        biz_step="sensor_reporting",
        sensor_element_list=(SensorElement(None, (SensorReport(type="Temperature", value=Decimal(50), uom="FAH"),)),),
    )
    chunk = custody_pb2.CaptureEventsRequest(request_id=request_id(), events=[epcis_to_message(statement)])
    (captured,) = await maker.capture(chunk)
    assert not captured.errors


@pytest.mark.usefixtures("rules")
def test_two_persons_release_what_was_warm_and_a_lot_under_test(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        limits = StorageLimits(StorageRange(Decimal(2), Decimal(8)))
        product = product_to_message(Product(Gtin(GTIN), PackLevel.PACK, "Insulin", storage=limits))
        await maker.manufacturer.RegisterProduct(
            manufacturer_pb2.RegisterProductRequest(request_id=request_id(), product=product)
        )
        await maker.commission("1", "2", "3")
        await capture_warm(maker, 1)
        folder = world.network["maker"]
        address: str = maker.address  # type: ignore[attr-defined]

        def as_person(person: str) -> Any:
            return connect(address, folder=folder, audience=folder.gln, server="maker", person=person)

        nobody = holds_pb2_grpc.HoldServiceStub(maker.channel)
        async with as_person("anna") as hers, as_person("ben") as his:
            anna, ben = holds_pb2_grpc.HoldServiceStub(hers), holds_pb2_grpc.HoldServiceStub(his)
            await warm_pack_is_released(maker, nobody, anna, ben)
            await lot_is_held_and_released(maker, anna, ben)
        await lists_tell(nobody)
        await expired_stock_is_an_alarm(maker)

    play(story)


async def expired_stock_is_an_alarm(maker: "Client") -> None:
    status = await maker.custody.GetStatus(custody_pb2.GetStatusRequest())
    assert "EXPIRED_STOCK" not in [alarm.code for alarm in status.alarms]
    await maker.manufacturer.Commission(
        manufacturer_pb2.CommissionRequest(
            request_id=request_id(), gtin=GTIN, lot="OLD1", expiry="2020-01-31", serials=["5", "6"]
        )
    )
    watch = ExpiryWatch(maker.premises.office)
    assert [await watch.look(), await watch.look()] == [2, 0]
    assert (await maker.holding(pack(5))).hold_reason == ""
    status = await maker.custody.GetStatus(custody_pb2.GetStatusRequest())
    assert [(alarm.code, alarm.count) for alarm in status.alarms if alarm.code == "EXPIRED_STOCK"] == [
        ("EXPIRED_STOCK", 2)
    ]


async def warm_pack_is_released(maker: "Client", nobody: Any, anna: Any, ben: Any) -> None:
    (held,) = (await nobody.ListHolds(holds_pb2.ListHoldsRequest())).units
    (reason,) = held.reasons
    assert (reason.code, reason.text, reason.four_eyes) == (
        custody_pb2.HOLD_CODE_TEMPERATURE_EXCURSION,
        "10 °C, above 8 °C",
        True,
    )
    (excursion,) = (await nobody.ListExcursions(holds_pb2.ListExcursionsRequest(epc=pack(1)))).excursions
    assert (excursion.epc, excursion.released) == (held.epc, False)
    release = custody_pb2.ReleaseRequest(request_id=request_id(), epcs=[pack(1)], reason="stable")
    assert await refused(maker.custody.Release(release)) == "FOUR_EYES_REQUIRED"
    ask = holds_pb2.RequestReleaseRequest(request_id=request_id(), epcs=[pack(1)], reason="stable")
    assert await refused(nobody.RequestRelease(ask)) == "PERSON_MISSING"
    asked = (await anna.RequestRelease(ask)).release_request
    assert (asked.requester, asked.state) == ("anna", holds_pb2.RELEASE_REQUEST_STATE_OPEN)
    approve = holds_pb2.ApproveReleaseRequest(request_id=request_id(), release_request_id=asked.release_request_id)
    assert await refused(anna.ApproveRelease(approve)) == "SAME_PERSON"
    approved = await ben.ApproveRelease(approve)
    assert len(approved.events) == 1
    assert await ben.ApproveRelease(approve) == approved
    assert (await maker.holding(pack(1))).hold_reason == ""
    (excursion,) = (await nobody.ListExcursions(holds_pb2.ListExcursionsRequest())).excursions
    assert excursion.released


async def lot_is_held_and_released(maker: "Client", anna: Any, ben: Any) -> None:
    hold = holds_pb2.HoldLotRequest(
        request_id=request_id(), gtin=GTIN, lot="A123", code=custody_pb2.HOLD_CODE_QUALITY, reason="assay"
    )
    made = await anna.HoldLot(hold)
    assert (made.unit_count, len(made.events)) == (3, 1)
    (listed,) = (await anna.ListLotHolds(holds_pb2.ListLotHoldsRequest())).lot_holds
    assert listed == made.lot_hold
    direct = holds_pb2.ReleaseLotRequest(
        request_id=request_id(), lot_hold_id=made.lot_hold.lot_hold_id, reason="passed"
    )
    assert await refused(ben.ReleaseLot(direct)) == "FOUR_EYES_REQUIRED"
    ask = holds_pb2.RequestReleaseRequest(
        request_id=request_id(), lot_hold_id=made.lot_hold.lot_hold_id, reason="passed"
    )
    first = (await anna.RequestRelease(ask)).release_request
    reject = holds_pb2.RejectReleaseRequest(
        request_id=request_id(), release_request_id=first.release_request_id, reason="not yet"
    )
    rejected = (await ben.RejectRelease(reject)).release_request
    assert (rejected.decider, rejected.decision_reason) == ("ben", "not yet")
    ask.request_id = request_id()
    second = (await anna.RequestRelease(ask)).release_request
    approve = holds_pb2.ApproveReleaseRequest(
        request_id=request_id(), release_request_id=second.release_request_id, reason="agreed"
    )
    assert len((await ben.ApproveRelease(approve)).events) == 1
    assert (await maker.holding(pack(2))).hold_reason == ""
    both = custody_pb2.HoldRequest(
        request_id=request_id(), epcs=[pack(2)], code=custody_pb2.HOLD_CODE_DAMAGED, reason="torn"
    )
    await maker.custody.Hold(both)
    other = holds_pb2.HoldLotRequest(request_id=request_id(), gtin=GTIN, lot="A123", reason="asked")
    again = await anna.HoldLot(other)
    freed = await ben.ReleaseLot(
        holds_pb2.ReleaseLotRequest(request_id=request_id(), lot_hold_id=again.lot_hold.lot_hold_id, reason="done")
    )
    assert (freed.unit_count, (await maker.holding(pack(2))).hold_reason) == (3, "DAMAGED: torn")
    wrong = holds_pb2.RequestReleaseRequest(request_id=request_id(), reason="x")
    assert await refused(anna.RequestRelease(wrong)) == "FIELD_CONFLICT"


async def lists_tell(stub: Any) -> None:
    first = await stub.ListReleaseRequests(holds_pb2.ListReleaseRequestsRequest(page_size=2))
    assert len(first.release_requests) == 2
    rest = await stub.ListReleaseRequests(
        holds_pb2.ListReleaseRequestsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert (len(rest.release_requests), rest.next_page_token) == (1, "")
    opened = holds_pb2.ListReleaseRequestsRequest(state=holds_pb2.RELEASE_REQUEST_STATE_OPEN)
    assert not (await stub.ListReleaseRequests(opened)).release_requests
    both = await stub.ListLotHolds(holds_pb2.ListLotHoldsRequest(include_released=True, page_size=1))
    assert len(both.lot_holds) == 1
    assert both.lot_holds[0].HasField("release_time")
    assert both.next_page_token
    damaged = holds_pb2.ListHoldsRequest(code=custody_pb2.HOLD_CODE_DAMAGED)
    assert len((await stub.ListHolds(damaged)).units) == 1
    assert not (await stub.ListHolds(holds_pb2.ListHoldsRequest(code=custody_pb2.HOLD_CODE_EXPIRED))).units
    soon = await stub.ListExpiring(holds_pb2.ListExpiringRequest(page_size=2))
    assert (soon.total_count, len(soon.units), soon.units[0].expiry) == (3, 2, "2028-03-31")
    rest = await stub.ListExpiring(holds_pb2.ListExpiringRequest(page_size=2, page_token=soon.next_page_token))
    assert (len(rest.units), rest.next_page_token) == (1, "")
    free = holds_pb2.ListExpiringRequest(gtin=GTIN, exclude_held=True)
    assert (await stub.ListExpiring(free)).total_count == 2
    assert await refused(stub.ListExpiring(holds_pb2.ListExpiringRequest(days=-1))) == "DAYS_OUT_OF_RANGE"


def test_a_file_of_rules_that_is_wrong_keeps_the_process_from_starting(play: "Play", rules: "Path") -> None:
    rules.write_text('four_eyes = ["EVERYTHING"]')

    async def story(world: "World") -> None:
        assert await refused(world.start("maker")) == "HOLDS_FILE"

    play(story)


async def accept(
    client: "Client", *requests: returns_pb2.AcceptReturnsRequest
) -> list[returns_pb2.AcceptReturnsResponse]:
    async def ask() -> AsyncIterator[returns_pb2.AcceptReturnsRequest]:
        for request in requests:
            yield request

    stub = returns_pb2_grpc.ReturnServiceStub(client.channel)
    return [answer async for answer in stub.AcceptReturns(ask())]


async def becomes(world: "World", client: "Client", epc: str, state: custody_pb2.HoldingState.ValueType) -> None:
    async def is_so() -> bool:
        try:
            holding = await client.holding(epc)
        except MedtrailError:
            return False
        return holding.state == state and not holding.provisional

    await world.eventually(is_so)


async def coming_back(world: "World", client: "Client", text: str) -> None:
    """Wait until a scan reads that a pack is on its way back, by a despatch that the ledger has confirmed."""

    async def is_so() -> bool:
        (answer,) = await client.scan(text)
        verdict = answer.verdict
        assert verdict.code != verdict_pb2.VERDICT_CODE_GENUINE
        return verdict.reason == "RETURN_ON_ITS_WAY" and not verdict.provisional

    await world.eventually(is_so)


def test_returns_are_verified_in_bulk_and_a_recall_calls_the_rest_upstream(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor, pharmacy = [await world.start(name) for name in ("maker", "distributor", "pharmacy")]
        await maker.register()
        await maker.commission("1", "2", "3", "4")
        epcs = [pack(number) for number in (1, 2, 3, 4)]
        await maker.ship(distributor, *epcs)
        await becomes(world, distributor, epcs[3], custody_pb2.HOLDING_STATE_INBOUND)
        await distributor.receive(*epcs)
        await distributor.ship(pharmacy, *epcs[:3])
        await becomes(world, pharmacy, epcs[2], custody_pb2.HOLDING_STATE_INBOUND)
        await pharmacy.receive(*epcs[:3])
        await authorised_packs_come_back(world, distributor, pharmacy)
        await recalled_packs_go_upstream(world, maker, distributor)

    play(story)


async def authorised_packs_come_back(world: "World", distributor: "Client", pharmacy: "Client") -> None:
    at_distributor = returns_pb2_grpc.ReturnServiceStub(distributor.channel)
    given = returns_pb2.AuthoriseReturnRequest(
        request_id=request_id(), customer=pharmacy.gln, epcs=[pack(1), pack(2)], reason="unsold"
    )
    number = (await at_distributor.AuthoriseReturn(given)).authorisation.number
    back = custody_pb2.ReturnRequest(
        request_id=request_id(),
        epcs=[pack(1), pack(2), pack(3)],
        destination_party=distributor.gln,
        reason="unsold",
        return_authorisation=number,
    )
    await pharmacy.custody.Return(back)
    for serial in (1, 2, 3):
        await becomes(world, distributor, pack(serial), custody_pb2.HOLDING_STATE_INBOUND)
        await coming_back(world, distributor, scan(serial))
    request = returns_pb2.AcceptReturnsRequest(
        request_id=request_id(), scans=[scan(1), scan(2, lot="B9"), scan(3), "no barcode", scan(4), scan(9)]
    )
    odd = returns_pb2.AcceptReturnsRequest(request_id=request_id())
    twice = returns_pb2.AcceptReturnsRequest(request_id=request_id(), scans=[scan(1), scan(1)])
    answer, refusal, named_twice, again = await accept(distributor, request, odd, twice, request)
    assert [list(item.codes) for item in answer.packs] == [
        [],
        ["NOT_VERIFIED"],
        ["AUTHORISATION_OTHER_UNIT"],
        ["UNREADABLE"],
        ["NOT_DESPATCHED"],
        ["UNIT_UNKNOWN"],
    ]
    assert [item.recorded for item in answer.packs] == [True, True, True, False, False, False]
    assert [bool(item.case_id) for item in answer.packs] == [False, True, True, False, False, False]
    assert [refusal.error_code, named_twice.error_code] == ["TOO_MANY_UNITS", "UNIT_TWICE"]
    assert again == answer
    assert (await distributor.holding(pack(1))).hold_reason == ""
    assert "NOT_VERIFIED (lot_mismatch)" in (await distributor.holding(pack(2))).hold_reason
    listed = await at_distributor.ListReturns(returns_pb2.ListReturnsRequest(only_held=True, page_size=1))
    assert (len(listed.returns), bool(listed.next_page_token)) == (1, True)
    of_customer = returns_pb2.ListReturnsRequest(customer=pharmacy.gln)
    assert len((await at_distributor.ListReturns(of_customer)).returns) == 3
    (kept,) = (
        await at_distributor.ListReturnAuthorisations(returns_pb2.ListReturnAuthorisationsRequest())
    ).authorisations
    assert (kept.number, kept.unit_count, kept.returned_count) == (number, 2, 3)


async def recalled_packs_go_upstream(world: "World", maker: "Client", distributor: "Client") -> None:
    recall = payload_pb2.Recall(
        number="R-7",
        depth="retail",
        reason="label mixed up",
        start_time=to_timestamp(maker.premises.office.desk.clock()),
        scopes=[payload_pb2.RecallScope(gtin=GTIN, lot="A123")],
    )
    issued = await maker.recall.IssueRecall(recall_pb2.IssueRecallRequest(request_id=request_id(), recall=recall))
    recall_id = issued.event.event_id

    async def known() -> bool:
        return recall_id in (await distributor.holding(pack(4))).recall_ids

    await world.eventually(known)
    at_distributor = returns_pb2_grpc.ReturnServiceStub(distributor.channel)
    ask = returns_pb2.ReturnRecalledRequest(request_id=request_id(), recall_id=recall_id)
    sent = await at_distributor.ReturnRecalled(ask)
    assert (sent.unit_count, sent.remaining_count) == (4, 0)
    counted = returns_pb2.CountRecallReturnsRequest(recall_id=recall_id)
    assert (await at_distributor.CountRecallReturns(counted)).sent_back_count == 4
    for serial in (1, 2, 3, 4):
        await becomes(world, maker, pack(serial), custody_pb2.HOLDING_STATE_INBOUND)
    (answer,) = await accept(maker, returns_pb2.AcceptReturnsRequest(request_id=request_id(), scans=[scan(4), scan(2)]))
    assert [item.codes[0] for item in answer.packs] == ["RECALLED", "RECALLED"]
    assert {item.case_id for item in answer.packs} == {""}
    at_maker = returns_pb2_grpc.ReturnServiceStub(maker.channel)
    counts = await at_maker.CountRecallReturns(counted)
    assert (counts.received_back_count, counts.inbound_count) == (2, 2)
    assert "RECALLED" in (await maker.holding(pack(4))).hold_reason
