"""Receiving over gRPC: two stations at one delivery, exceptions that the sender settles, lists, and refusals."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import verdict_pb2
from medtrail.api.receiving.v1 import receiving_pb2 as pb
from medtrail.api.receiving.v1 import receiving_pb2_grpc
from medtrail.errors import ConflictError, MedtrailError, NotFoundError
from tests.integration.services.conftest import CASE_GTIN, GTIN, request_id

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World

MATCH, OVER = pb.RECONCILIATION_CODE_MATCH, pb.RECONCILIATION_CODE_OVER


def pack(serial: str, *, lot: str = "A123") -> str:
    return f"https://id.gs1.org/01/{GTIN}/10/{lot}/21/{serial}?17=280331"


def case(serial: str) -> str:
    return f"https://id.gs1.org/01/{CASE_GTIN}/21/{serial}"


class Station:
    """A scanner at a delivery."""

    def __init__(self, client: "Client", delivery_id: str, name: str) -> None:
        self.stub = receiving_pb2_grpc.ReceivingServiceStub(client.channel)
        self.delivery_id = delivery_id
        self.name = name
        self.number = 0

    def request(self, scan: str, **fields: object) -> pb.ScanDeliveryRequest:
        self.number += 1
        return pb.ScanDeliveryRequest(
            delivery_id=self.delivery_id,
            station=self.name,
            scan_number=self.number,
            scan=scan,
            **fields,  # type: ignore[arg-type]
        )

    async def send(self, requests: Iterable[pb.ScanDeliveryRequest]) -> list[pb.ScanDeliveryResponse]:
        async def ask() -> AsyncIterator[pb.ScanDeliveryRequest]:
            for request in requests:
                yield request

        return [answer async for answer in self.stub.ScanDelivery(ask())]

    async def scan(self, *scans: str, **fields: object) -> list[pb.ScanDeliveryResponse]:
        return await self.send([self.request(scan, **fields) for scan in scans])


async def commissioned(maker: "Client", cases: int, *, each: int = 2) -> list[str]:
    await maker.register()
    await maker.register(CASE_GTIN)
    for number in range(1, cases + 1):
        serials = [f"{number}-{item}" for item in range(each)]
        await maker.commission(*serials)
        await maker.commission(str(number), gtin=CASE_GTIN)
        await maker.custody.Pack(
            custody_pb2.PackRequest(
                request_id=request_id(), parent=case(str(number)), children=[pack(serial) for serial in serials]
            )
        )
    return [case(str(number)) for number in range(1, cases + 1)]


async def opened(client: "Client", *despatches: str, **fields: object) -> pb.Delivery:
    stub = receiving_pb2_grpc.ReceivingServiceStub(client.channel)
    request = pb.OpenDeliveryRequest(request_id=request_id(), despatch_event_ids=despatches, **fields)  # type: ignore[arg-type]
    first = await stub.OpenDelivery(request)
    # Asked again it is the same delivery.
    assert (await stub.OpenDelivery(request)).delivery.delivery_id == first.delivery.delivery_id
    return first.delivery


async def closed(client: "Client", delivery_id: str) -> pb.CloseDeliveryResponse:
    stub = receiving_pb2_grpc.ReceivingServiceStub(client.channel)
    return await stub.CloseDelivery(pb.CloseDeliveryRequest(request_id=request_id(), delivery_id=delivery_id))


async def units(client: "Client", delivery_id: str, wanted: int, *, size: int = 2) -> list[pb.DeliveryUnit]:
    """All units of a filter, page by page."""
    stub = receiving_pb2_grpc.ReceivingServiceStub(client.channel)
    found: list[pb.DeliveryUnit] = []
    token = ""
    while True:
        request = pb.ListDeliveryUnitsRequest(delivery_id=delivery_id, page_size=size, page_token=token)
        request.filter = wanted  # type: ignore[assignment]
        answer = await stub.ListDeliveryUnits(request)
        found += answer.units
        token = answer.next_page_token
        if not token:
            return found


def test_two_stations_receive_what_came_and_the_sender_settles_the_rest(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        maker, pharmacy = await world.start("maker"), await world.start("pharmacy")
        boxes = await commissioned(maker, 4)
        despatch_id = (await maker.ship(pharmacy, *boxes[:3])).events[0].event_id
        await world.eventually(lambda: _advised(pharmacy))
        delivery = await opened(pharmacy, despatch_id)
        left, right = Station(pharmacy, delivery.delivery_id, "left"), Station(pharmacy, delivery.delivery_id, "right")
        answers = await asyncio.gather(left.scan(boxes[0], boxes[3]), right.scan(boxes[1], pack("1-0"), "rubbish"))
        assert [answer.code for answer in answers[0]] == [MATCH, OVER]
        assert [answer.code for answer in answers[1]] == [MATCH, MATCH, pb.RECONCILIATION_CODE_UNREADABLE]
        assert answers[1][1].verdict.code != verdict_pb2.VERDICT_CODE_UNSPECIFIED
        missing = await units(pharmacy, delivery.delivery_id, pb.DELIVERY_UNIT_FILTER_MISSING, size=1)
        assert [unit.epc.rpartition("/")[2] for unit in missing] == ["3-0", "3-1"]
        done = await closed(pharmacy, delivery.delivery_id)
        assert (len(done.case_ids), len(done.receiving_advices)) == (2, 1)
        assert done.delivery.state == pb.DELIVERY_STATE_CLOSED
        assert (await pharmacy.holding(pack("2-0"))).inferred
        assert not (await pharmacy.holding(pack("1-0"))).inferred
        # The sender says what it had left out; nobody scans again.
        await maker.ship(pharmacy, boxes[3])
        await world.eventually(lambda: _on_hand(pharmacy, pack("4-0")))
        (excepted,) = [
            unit
            for unit in await units(pharmacy, delivery.delivery_id, pb.DELIVERY_UNIT_FILTER_SCANNED)
            if unit.epc == boxes[3]
        ]
        assert excepted.posting == pb.UNIT_POSTING_RECEIVED_LATER

    play(scenario)


async def _advised(client: "Client") -> bool:
    return bool(await client.inbound())


async def _on_hand(client: "Client", epc: str) -> bool:
    try:
        holding = await client.holding(epc)
    except NotFoundError:
        return False
    return holding.state in {
        custody_pb2.HOLDING_STATE_ON_HAND,
        custody_pb2.HOLDING_STATE_RECEIVED_NOT_SEEN_SINCE,
    }


def test_a_blind_delivery_its_scans_samples_and_what_is_concealed(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        maker, pharmacy = await world.start("maker"), await world.start("pharmacy", sample_share=0.5)
        boxes = await commissioned(maker, 2, each=4)
        despatch_id = (await maker.ship(pharmacy, *boxes)).events[0].event_id
        await world.eventually(lambda: _advised(pharmacy))
        delivery = await opened(pharmacy)
        assert (delivery.blind, delivery.sample_share) == (True, 0.5)
        station = Station(pharmacy, delivery.delivery_id, "bay")
        sample = await a_sample_that_fails_is_undone_and_taken(pharmacy, station, boxes[0])
        await a_damaged_case_is_a_sample_that_may_be_left(station, boxes[1], despatch_id=despatch_id)
        await what_was_concealed_is_reported(pharmacy, station, sample)
        await what_was_received_is_missing_again(station, boxes[1])
        await scans_are_listed_by_pages(station)

    play(scenario)


async def a_sample_that_fails_is_undone_and_taken(pharmacy: "Client", station: Station, box: str) -> list[str]:
    (sealed,) = await station.scan(box)
    assert (len(sealed.sample_epcs), sealed.inferred) == (2, 2)
    wanted = await units(pharmacy, station.delivery_id, pb.DELIVERY_UNIT_FILTER_SAMPLE)
    assert [unit.epc for unit in wanted] == list(sealed.sample_epcs)
    with pytest.raises(ConflictError) as unfinished:
        await closed(pharmacy, station.delivery_id)
    assert unfinished.value.code == "SAMPLE_INCOMPLETE"
    (failed,) = await station.scan(pack(sealed.sample_epcs[0].rpartition("/")[2], lot="B"))
    assert (failed.code, failed.sample_failed) == (pb.RECONCILIATION_CODE_WRONG_LOT, True)
    undone = await station.stub.UndoScan(
        pb.UndoScanRequest(
            request_id=request_id(),
            delivery_id=station.delivery_id,
            delivery_scan_number=failed.delivery_scan_number,
        )
    )
    assert (undone.counts.found, undone.counts.scans) == (2, 1)
    (again,) = await station.send([_repeat(station, 1, box)])
    assert (again.resend, again.delivery_scan_number) == (True, sealed.delivery_scan_number)
    await station.scan(*(pack(epc.rpartition("/")[2]) for epc in sealed.sample_epcs))
    return list(sealed.sample_epcs)


async def a_damaged_case_is_a_sample_that_may_be_left(station: Station, box: str, *, despatch_id: str) -> None:
    await station.scan(box, condition=pb.UNIT_CONDITION_DAMAGED)
    answer = await station.stub.ListDeliveries(pb.ListDeliveriesRequest(despatch_event_id=despatch_id, page_size=1))
    assert [item.delivery_id for item in answer.deliveries] == [station.delivery_id]
    sample = list(answer.deliveries[0].sample_containers)
    assert sample == [box]
    await station.stub.CloseDelivery(
        pb.CloseDeliveryRequest(request_id=request_id(), delivery_id=station.delivery_id, samples_missing=True)
    )


async def what_was_concealed_is_reported(pharmacy: "Client", station: Station, sample: list[str]) -> None:
    gone = next(f"1-{number}" for number in range(4) if not any(epc.endswith(f"1-{number}") for epc in sample))
    reported = await station.stub.ReportConcealed(
        pb.ReportConcealedRequest(
            request_id=request_id(),
            delivery_id=station.delivery_id,
            shortage_epcs=[pack(gone)],
            overage_scans=[pack("extra")],
        )
    )
    assert len(reported.case_ids) == 2
    assert (await pharmacy.holding(pack(gone))).state == custody_pb2.HOLDING_STATE_INBOUND


async def what_was_received_is_missing_again(station: Station, box: str) -> None:
    reopened = await station.stub.ReopenDelivery(
        pb.ReopenDeliveryRequest(request_id=request_id(), delivery_id=station.delivery_id, epcs=[box])
    )
    assert reopened.delivery.state == pb.DELIVERY_STATE_REOPENED
    assert reopened.delivery.counts.missing == 5


async def scans_are_listed_by_pages(station: Station) -> None:
    request = pb.ListDeliveryScansRequest(delivery_id=station.delivery_id, page_size=2)
    first = await station.stub.ListDeliveryScans(request)
    assert [(scan.delivery_scan_number, scan.undone) for scan in first.scans] == [(1, False), (2, True)]
    request.page_token = first.next_page_token
    rest = await station.stub.ListDeliveryScans(request)
    assert len(rest.scans) == 2


def _repeat(station: Station, number: int, scan: str) -> pb.ScanDeliveryRequest:
    return pb.ScanDeliveryRequest(delivery_id=station.delivery_id, station=station.name, scan_number=number, scan=scan)


def test_what_is_asked_wrongly_is_refused_with_a_code(play: "Play") -> None:
    async def scenario(world: "World") -> None:
        pharmacy = await world.start("pharmacy")
        stub = receiving_pb2_grpc.ReceivingServiceStub(pharmacy.channel)
        delivery = (await opened(pharmacy)).delivery_id

        async def refused(call: Awaitable[object], text: str) -> None:
            with pytest.raises(MedtrailError) as caught:
                await call
            assert text in str(caught.value)

        scan = pb.ScanDeliveryRequest
        station = Station(pharmacy, delivery, "bay")
        for request, text in (
            (scan(delivery_id=delivery, scan_number=1), "printable"),
            (scan(delivery_id=delivery, station="bay"), "from 1"),
            (scan(delivery_id=delivery, station="bay", scan_number=1, scan="x" * 8193), "8192"),
            (scan(delivery_id="x", station="bay", scan_number=1), "UUID"),
            (scan(delivery_id=request_id(), station="bay", scan_number=1), "no delivery"),
            (scan(delivery_id=delivery, station="bay", scan_number=1, container="x"), "container"),
            (scan(delivery_id=delivery, station="bay", scan_number=1, condition=9), "condition"),  # type: ignore[arg-type]
            (
                scan(delivery_id=delivery, station="bay", scan_number=1, scan_time=Timestamp(seconds=4_000_000_000)),
                "ahead",
            ),
        ):
            await refused(station.send([request]), text)
        await refused(stub.GetDelivery(pb.GetDeliveryRequest(delivery_id=request_id())), "no delivery")
        unknown = pb.ListDeliveryUnitsRequest(delivery_id=delivery, filter=99)  # type: ignore[arg-type]
        await refused(stub.ListDeliveryUnits(unknown), "filter")
        unknown = pb.ListDeliveryUnitsRequest(delivery_id=delivery, codes=[99])  # type: ignore[list-item]
        await refused(stub.ListDeliveryUnits(unknown), "code")
        await refused(stub.ListDeliveries(pb.ListDeliveriesRequest(state=99)), "state")  # type: ignore[arg-type]
        wide = pb.OpenDeliveryRequest(request_id=request_id(), sample_share=1.5)
        await refused(stub.OpenDelivery(wide), "share")
        nothing = pb.ReportConcealedRequest(request_id=request_id(), delivery_id=delivery)
        await refused(stub.ReportConcealed(nothing), "at least one")
        twice = pb.ReportConcealedRequest(
            request_id=request_id(), delivery_id=delivery, overage_scans=[pack("1"), pack("1")]
        )
        await refused(stub.ReportConcealed(twice), "twice")
        odd = pb.ReportConcealedRequest(request_id=request_id(), delivery_id=delivery, overage_scans=["rubbish"])
        await refused(stub.ReportConcealed(odd), "overage_scans[0]")

    play(scenario)
