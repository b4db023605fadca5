"""Requests over the wire: idempotent, bounded, and refused with a stable code and the offending field."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.distributor.v1 import distributor_pb2
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.codec import epcis_to_message, to_timestamp
from medtrail.epcis.model import Action, EpcisEvent, EventType, Place
from medtrail.errors import MedtrailError
from medtrail.runtime.client import connect
from tests.integration.services.conftest import GTIN, request_id

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World

PALLET = "(00)003000100000000015"


def pack(serial: int | str) -> str:
    return f"(01){GTIN}(21){serial}"


async def refused(call: Awaitable[Any]) -> tuple[str, str | None]:
    with pytest.raises(MedtrailError) as caught:
        await call
    return caught.value.code, caught.value.field


def test_the_same_request_gets_the_same_answer_and_another_is_refused(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        request = manufacturer_pb2.CommissionRequest(
            request_id=request_id(), gtin=GTIN, lot="A123", expiry="2028-03-31", serials=["1"]
        )
        # At once, as a client does that has lost its answer.
        first, second = await asyncio.gather(
            maker.manufacturer.Commission(request), maker.manufacturer.Commission(request)
        )
        assert first == second
        await world.stop("maker")
        maker = await world.start("maker")
        assert await maker.manufacturer.Commission(request) == first
        request.serials.append("2")
        assert await refused(maker.manufacturer.Commission(request)) == ("REQUEST_ID_REUSED", "request_id")
        await maker.commission("3")
        answer = await maker.commission("4")
        assert answer.events[0].source_seq == 4

    play(story)


def test_commissioning_says_which_field_is_wrong(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        good = manufacturer_pb2.CommissionRequest(
            request_id=request_id(), gtin=GTIN, lot="A123", expiry="2028-03-31", serials=["1"]
        )

        async def with_(**fields: object) -> tuple[str, str | None]:
            request = manufacturer_pb2.CommissionRequest()
            request.CopyFrom(good)
            request.request_id = request_id()
            for name, value in fields.items():
                request.ClearField(name)  # type: ignore[arg-type]
                if isinstance(value, list):
                    getattr(request, name).extend(value)
                else:
                    setattr(request, name, value)
            return await refused(maker.manufacturer.Commission(request))

        assert await refused(maker.manufacturer.Commission(good)) == ("PRODUCT_UNKNOWN", "gtin")
        await maker.register()
        assert await with_(request_id="1") == ("REQUEST_ID_MALFORMED", "request_id")
        assert await with_(gtin="00300010123456") == ("CHECK_DIGIT_WRONG", "gtin")
        assert await with_(gtin="04012345123456") == ("PREFIX_NOT_OWNED", "gtin")
        assert (await with_(lot="x" * 21))[1] == "lot"
        assert await with_(expiry="280331") == ("DATE_WRONG", "expiry")
        assert (await with_(serials=["1", "a b"]))[1] == "serials[1]"
        assert await with_(serials=["1", "1"]) == ("UNIT_TWICE", "serials[1]")
        assert await with_(serials=[str(n) for n in range(5001)]) == ("TOO_MANY_UNITS", "serials")
        assert await with_(serials=[]) == ("FIELD_CONFLICT", "serials")
        assert await with_(ssccs=["003000100000000015"], serials=[]) == ("FIELD_CONFLICT", "gtin")
        for sscc, code in (("003000100000000016", "CHECK_DIGIT_WRONG"), ("095210010000000014", "CHECK_DIGIT_WRONG")):
            request = manufacturer_pb2.CommissionRequest(request_id=request_id(), ssccs=[sscc])
            assert await refused(maker.manufacturer.Commission(request)) == (code, "ssccs[0]")
        request = manufacturer_pb2.CommissionRequest(request_id=request_id(), ssccs=["103999900000000012"])
        assert (await refused(maker.manufacturer.Commission(request)))[1] == "ssccs[0]"
        request = manufacturer_pb2.CommissionRequest(request_id=request_id(), ssccs=["003000100000000015"])
        assert len((await maker.manufacturer.Commission(request)).events) == 1
        product = payload_pb2.Product(gtin="04012345123456", name="Theirs", level=payload_pb2.PACK_LEVEL_PACK)
        register = manufacturer_pb2.RegisterProductRequest(request_id=request_id(), product=product)
        assert (await refused(maker.manufacturer.RegisterProduct(register)))[0] == "PREFIX_NOT_OWNED"

    play(story)


def test_verbs_say_which_field_is_wrong(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1", "2")
        await packs_on_an_occasion_of_its_own(maker)
        await ships_to_whom_it_can_name(maker)
        await holds_and_releases_for_a_reason(maker)
        await ends_a_pack_for_a_reason(maker)
        await knows_only_its_own_units(maker)
        await recalls_what_can_be_named(maker)

    play(story)


async def packs_on_an_occasion_of_its_own(maker: "Client") -> None:
    def pack_in(**occasion: Any) -> custody_pb2.PackRequest:
        wanted = custody_pb2.Occasion(**occasion)
        return custody_pb2.PackRequest(request_id=request_id(), parent=PALLET, children=[pack(1)], occasion=wanted)

    late = to_timestamp(maker.premises.office.desk.clock() + timedelta(minutes=6))
    for wrong, code, field in (
        (pack_in(event_time=late), "EVENT_IN_FUTURE", "occasion.event_time"),
        (pack_in(event_time_zone_offset="+1:00"), "OFFSET_MALFORMED", "occasion.event_time_zone_offset"),
        (pack_in(location="0399999999991"), "LOCATION_NOT_OWN", "occasion.location"),
        (pack_in(location="1"), "GLN_MALFORMED", "occasion.location"),
    ):
        assert await refused(maker.custody.Pack(wrong)) == (code, field)
    await maker.custody.Pack(pack_in(location="0300011111208", event_time_zone_offset="-05:00"))
    assert (await maker.holding(pack(1))).location == "0300011111208"


async def ships_to_whom_it_can_name(maker: "Client") -> None:
    ship = custody_pb2.ShipRequest(request_id=request_id(), epcs=[pack(1)])
    ship.destination_party = "039"
    assert await refused(maker.custody.Ship(ship)) == ("GLN_MALFORMED", "destination_party")
    ship.destination_party, ship.destination_location = "0399999999991", "1"
    assert await refused(maker.custody.Ship(ship)) == ("GLN_MALFORMED", "destination_location")
    ship.destination_location, ship.purchase_order = "", "P 1"
    assert await refused(maker.custody.Ship(ship)) == ("TEXT_MALFORMED", "purchase_order")


async def holds_and_releases_for_a_reason(maker: "Client") -> None:
    hold = custody_pb2.HoldRequest(request_id=request_id(), epcs=[pack(2)])
    assert await refused(maker.custody.Hold(hold)) == ("TEXT_LENGTH", "reason")
    hold.reason = "leaking"
    await maker.custody.Hold(hold)
    assert (await maker.holding(pack(2))).hold_reason == "leaking"
    release = custody_pb2.ReleaseRequest(request_id=request_id(), epcs=[pack(2)], reason="checked")
    await maker.custody.Release(release)
    release.request_id = request_id()
    assert await refused(maker.custody.Release(release)) == ("NOT_ON_HOLD", "epcs[0]")


async def ends_a_pack_for_a_reason(maker: "Client") -> None:
    end = custody_pb2.DecommissionRequest(request_id=request_id(), epcs=[pack(1)])
    assert await refused(maker.custody.Decommission(end)) == ("FIELD_MISSING", "reason")
    end.reason = custody_pb2.DECOMMISSION_REASON_DAMAGED
    # A pack that ends alone is taken out of its pallet first.
    assert len((await maker.custody.Decommission(end)).events) == 2
    assert (await maker.holding(pack(1))).state == custody_pb2.HOLDING_STATE_ENDED


async def knows_only_its_own_units(maker: "Client") -> None:
    assert await refused(maker.holding("x")) == ("AI_UNKNOWN", "epc")
    assert await refused(maker.holding(pack(77))) == ("UNIT_UNKNOWN", "epc")


async def recalls_what_can_be_named(maker: "Client") -> None:
    unknown = recall_pb2.IssueRecallRequest(
        request_id=request_id(),
        recall=payload_pb2.Recall(
            number="R",
            depth="retail",
            reason="x",
            start_time=to_timestamp(maker.premises.office.desk.clock()),
            scopes=[payload_pb2.RecallScope(gtin=GTIN)],
            terminated_recall_id="urn:uuid:1",
        ),
    )
    assert await refused(maker.recall.IssueRecall(unknown)) == ("RECALL_UNKNOWN", "recall.terminated_recall_id")
    unknown.recall.terminated_recall_id = ""
    unknown.recall.scopes[0].serials.append("a b")
    assert (await refused(maker.recall.IssueRecall(unknown)))[1] == "recall.scopes[0]"


def test_pages_are_the_callers_own(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission(*(str(serial) for serial in range(25)))
        request = custody_pb2.ListHoldingsRequest(gtin=GTIN, page_size=10)
        epcs: list[str] = []
        while True:
            answer = await maker.custody.ListHoldings(request)
            epcs += [holding.epc for holding in answer.holdings]
            assert answer.total_count == 25
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        assert epcs == sorted(set(epcs))
        assert len(epcs) == 25
        other = custody_pb2.ListHoldingsRequest(page_size=10, page_token=request.page_token)
        assert await refused(maker.custody.ListHoldings(other)) == ("PAGE_TOKEN_INVALID", "page_token")
        lot = custody_pb2.ListHoldingsRequest(lot="A123")
        assert await refused(maker.custody.ListHoldings(lot)) == ("FIELD_MISSING", "gtin")
        wrong = custody_pb2.ListHoldingsRequest(gtin="1")
        assert (await refused(maker.custody.ListHoldings(wrong)))[1] == "gtin"
        wrong = custody_pb2.ListHoldingsRequest(state=99)  # type: ignore[arg-type]
        assert await refused(maker.custody.ListHoldings(wrong)) == ("STATE_UNKNOWN", "state")
        only = custody_pb2.ListHoldingsRequest(state=custody_pb2.HOLDING_STATE_ENDED)
        assert (await maker.custody.ListHoldings(only)).total_count == 0

    play(story)


def test_inbound_shipments_come_newest_first_in_pages(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        await maker.register()
        await maker.commission("1", "2", "3")
        for serial in (1, 2, 3):
            await maker.ship(distributor, pack(serial))

        async def all_here() -> bool:
            return len(await distributor.inbound()) == 3

        await world.eventually(all_here)
        request = custody_pb2.ListInboundRequest(page_size=2)
        first = await distributor.custody.ListInbound(request)
        request.page_token = first.next_page_token
        rest = await distributor.custody.ListInbound(request)
        listed = [item.epcs[0].rpartition("/")[2] for item in (*first.shipments, *rest.shipments)]
        assert listed == ["3", "2", "1"]
        assert rest.next_page_token == ""
        assert first.shipments[0].biz_transactions == ["urn:epcglobal:cbv:bt:0399999999991:P1"]

    play(story)


def test_only_its_own_organisation_works_at_a_service(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        folder = world.network["distributor"]
        address = maker.address  # type: ignore[attr-defined]
        channel = connect(address, folder=folder, audience=maker.premises.folder.gln, server="maker")
        stranger = type(maker)(channel, maker.premises)
        try:
            assert (await refused(stranger.inbound()))[0] == "CALLER_NOT_OWN"
        finally:
            await channel.close()

    play(story)


def _event(maker: "Client", **fields: Any) -> EpcisEvent:
    place = Place("urn:epc:id:sgln:030001.111111.0")
    values: dict[str, Any] = {
        "type": EventType.OBJECT,
        "event_time": maker.premises.office.desk.clock(),
        "event_time_zone_offset": "-05:00",
        "action": Action.ADD,
        "epc_list": ("urn:epc:id:sgtin:030001.0012345.11",),
        "biz_step": "commissioning",
        "disposition": "active",
        "read_point": place,
        "biz_location": place,
    }
    return EpcisEvent(**(values | fields))


def test_chunks_are_taken_whole_or_refused_by_event_and_field(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")

        def chunk(*events: EpcisEvent, **fields: Any) -> custody_pb2.CaptureEventsRequest:
            messages = [epcis_to_message(event) for event in events]
            return custody_pb2.CaptureEventsRequest(**({"request_id": request_id(), "events": messages} | fields))

        good = _event(maker)
        # Of another moment, so that it is not the same event again.
        second = _event(maker, event_time=good.event_time - timedelta(seconds=1))
        first = chunk(good)
        unreadable = chunk(good)
        unreadable.events[0].type = 99  # type: ignore[assignment]
        answers = await maker.capture(
            first,
            first,
            chunk(good),
            chunk(_event(maker, epc_list=("urn:epc:id:sgtin:030001.0012345.12",)), second),
            chunk(),
            chunk(good, request_id="1"),
            unreadable,
            chunk(_event(maker, epc_list=("urn:epc:id:sgtin:030001.0012345.12",)), request_id=first.request_id),
        )
        assert [len(answer.events) for answer in answers] == [1, 1, 1, 0, 0, 0, 0, 0]
        assert answers[0] == answers[1]
        assert (answers[0].events[0].resend, answers[2].events[0].resend) == (False, True)
        errors = [(answer.errors[0].code, answer.errors[0].event_number) for answer in answers[3:]]
        assert errors == [
            ("ALREADY_COMMISSIONED", 1),
            ("CHUNK_SIZE", 0),
            ("REQUEST_ID_MALFORMED", 0),
            (answers[6].errors[0].code, 0),
            ("REQUEST_ID_REUSED", 0),
        ]
        assert answers[3].errors[0].field == "events[1].epcList[0]"
        assert await refused(maker.holding("urn:epc:id:sgtin:030001.0012345.12")) == ("UNIT_UNKNOWN", "epc")

    play(story)


def test_role_services_refuse_what_is_not_theirs(play: "Play") -> None:
    async def story(world: "World") -> None:
        distributor, pharmacy = [await world.start(name) for name in ("distributor", "pharmacy")]
        scan = f"]d201{GTIN}211\x1d1728033110A123"
        back = distributor_pb2.AcceptReturnRequest(request_id=request_id(), scan=scan)
        assert await refused(distributor.distributor.AcceptReturn(back)) == ("UNIT_UNKNOWN", "scan")
        await distributor.receive(pack(1))
        assert await refused(distributor.distributor.AcceptReturn(back)) == ("NOT_DESPATCHED", "scan")
        garbled = distributor_pb2.AcceptReturnRequest(request_id=request_id(), scan="?")
        assert (await refused(distributor.distributor.AcceptReturn(garbled)))[0] != "INTERNAL"
        dispense = pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[PALLET])
        assert await refused(pharmacy.pharmacy.Dispense(dispense)) == ("UNIT_NOT_PACK", "epcs[0]")
        dispense = pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[pack(n) for n in range(101)])
        assert await refused(pharmacy.pharmacy.Dispense(dispense)) == ("TOO_MANY_UNITS", "epcs")

    play(story)


def test_a_forged_or_garbled_message_leaves_the_service_alive(play: "Play") -> None:
    async def story(world: "World") -> None:
        from medtrail.runtime.bus import connect_bus
        from medtrail.subjects import MessageKind, inbox_subject

        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        folder = world.network["pharmacy"]
        bus = await connect_bus(world.nats_url, seed=folder.nats_seed(), gln=folder.gln, name="x", timeout_s=60)
        try:
            for kind in (MessageKind.ADVICE, MessageKind.RECEIPT, MessageKind.REFUSAL, MessageKind.NOTICE):
                subject = inbox_subject(to=distributor.premises.folder.gln, sender=folder.gln, kind=kind)
                await bus.publish(subject, b"\xff\xfe garbage")
        finally:
            await bus.close()
        await maker.register()
        await maker.commission("1")
        await maker.ship(distributor, pack(1))

        async def here() -> bool:
            return len(await distributor.inbound()) == 1

        await world.eventually(here)

    play(story)


@pytest.mark.parametrize("role", ["manufacturer", "distributor", "pharmacy"])
def test_a_process_starts_from_its_environment_and_stops_on_a_signal(play: "Play", role: str) -> None:
    name = {"manufacturer": "maker"}.get(role, role)

    async def story(world: "World") -> None:
        folder = world.network[name]
        environment = os.environ | {
            "MEDTRAIL_ORG_DIR": str(folder.path),
            "MEDTRAIL_DATA_DIR": str(world.folder / "process"),
            "MEDTRAIL_NATS_URL": world.nats_url,
            "MEDTRAIL_LEDGER_ADDRESS": f"127.0.0.1:{world.ledger_port}",
            "MEDTRAIL_LEDGER_GLN": str(world.network["ledger"].gln),
            "MEDTRAIL_LOG_URL": "http://127.0.0.1:9",
            "MEDTRAIL_LOG_VKEY": world.vkey,
            "MEDTRAIL_AUTHORITY_KEY_ID": world.authority_key_id,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"services.{role}", env=environment, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b'"ready"' not in (line := await process.stderr.readline()):
                assert line, "it ended before it was ready"
            process.send_signal(signal.SIGTERM)
            rest = await process.stderr.read()
            assert await process.wait() == 0, rest.decode()

    play(story)


def test_a_process_says_which_setting_is_wrong(tmp_path: Any, network: Any) -> None:
    import subprocess

    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDTRAIL_")}
    ended = subprocess.run(
        [sys.executable, "-m", "services.pharmacy"], env=environment, capture_output=True, check=False, text=True
    )
    assert ended.returncode == 2
    assert "SETTING_INVALID" in ended.stderr
    assert "Traceback" not in ended.stderr
