"""The books over gRPC: parts of packs, alerts, undoing, what has happened, and a pack that was not taken out first."""

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.fmd.v1 import fmd_pb2, fmd_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.verification.v1 import verification_pb2, verification_pb2_grpc
from medtrail.codec import epcis_to_message, product_to_message
from medtrail.errors import MedtrailError
from medtrail.event import PackLevel, Product
from medtrail.gs1 import Gtin
from services.custody import events
from services.custody.events import Occasion
from services.custody.units import parse_unit
from tests.integration.services.conftest import GTIN, request_id
from tests.integration.services.test_story import PALLET, advised, pack, scan_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.integration.services.conftest import Client, Play, World


async def refused(call: "Awaitable[Any]") -> tuple[str, str | None]:
    with pytest.raises(MedtrailError) as caught:
        await call
    return caught.value.code, caught.value.field


async def stocked(world: "World", *serials: str, packed: bool = False, **changes: object) -> "tuple[Client, Client]":
    """Return a maker and a pharmacy that holds packs, loose or on a pallet."""
    maker = await world.start("maker")
    pharmacy = await world.start("pharmacy", **changes)
    product = Product(Gtin(GTIN), PackLevel.PACK, "Epcistra", net_content="30 tablets")
    await maker.manufacturer.RegisterProduct(
        manufacturer_pb2.RegisterProductRequest(request_id=request_id(), product=product_to_message(product))
    )
    await maker.commission(*serials)
    units = [pack(serial) for serial in serials]
    if packed:
        await maker.custody.Pack(custody_pb2.PackRequest(request_id=request_id(), parent=PALLET, children=units))
        units = [PALLET]
    await maker.ship(pharmacy, *units)
    await advised(world, pharmacy, provisional=False)
    await pharmacy.receive(*units)
    await world.eventually(lambda: Gtin(GTIN) in pharmacy.premises.replica.products)
    return maker, pharmacy


async def dispense(pharmacy: "Client", serial: str, **fields: Any) -> pharmacy_pb2.DispenseResponse:
    return await pharmacy.pharmacy.Dispense(
        pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[pack(serial)], **fields)
    )


async def _is(answer: "Awaitable[fmd_pb2.FmdAnswer]", code: str) -> bool:
    return (await answer).code == code


async def alerts_of(client: "Client", **fields: Any) -> list[custody_pb2.UnitAlert]:
    found: list[custody_pb2.UnitAlert] = []
    request = custody_pb2.ListAlertsRequest(page_size=1, **fields)
    while True:
        answer = await client.custody.ListAlerts(request)
        found += answer.alerts
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def test_a_pack_is_handed_out_in_parts_and_taken_out_of_use_at_the_first(play: "Play") -> None:
    async def story(world: "World") -> None:
        _, pharmacy = await stocked(world, "1", decommission_at_opening=True)
        first = await dispense(pharmacy, "1", quantity="12")
        assert [(left.quantity, left.quantity_uom) for left in first.remainders] == [("18", "EA")]
        for fields, code, field in (
            ({"quantity": "19"}, "QUANTITY_ABOVE_REST", "quantity"),
            ({"quantity": "1", "quantity_uom": "MLT"}, "UOM_MISMATCH", "quantity_uom"),
            ({"quantity": "0"}, "QUANTITY_MALFORMED", "quantity"),
            ({"quantity": "1", "pack_size": "0"}, "QUANTITY_MALFORMED", "pack_size"),
            ({"pack_size": "30"}, "FIELD_MISSING", "quantity"),
            ({"quantity": "1", "quantity_uom": "tablets"}, "UOM_MALFORMED", "quantity_uom"),
        ):
            assert await refused(dispense(pharmacy, "1", **fields)) == (code, field)
        held = await pharmacy.holding(pack("1"))
        assert (held.state, held.remainder) == (custody_pb2.HOLDING_STATE_PARTIALLY_DISPENSED, "18")
        await dispense(pharmacy, "1", quantity="8")
        last = await dispense(pharmacy, "1")
        assert [left.quantity for left in last.remainders] == ["0"]
        assert (await pharmacy.holding(pack("1"))).state == custody_pb2.HOLDING_STATE_DISPENSED
        undo = custody_pb2.UndoRequest(request_id=request_id(), epc=pack("1"), reason="oops", not_supplied=True)
        assert await refused(pharmacy.custody.Undo(undo)) == ("UNDO_SUPPLIED", "epc")
        fmd = fmd_pb2_grpc.FmdServiceStub(pharmacy.channel)
        request = fmd_pb2.UndoRequest(request_id=request_id(), scan=scan_of("1"), reason="oops", not_supplied=True)

        async def undone() -> fmd_pb2.FmdAnswer:
            request.request_id = request_id()
            return (await fmd.Undo(request)).answer

        await world.eventually(lambda: _is(undone(), "NMVS_NC_PCK_06"))
        # Supplied once, by its opening.
        records = await verification_pb2_grpc.VerificationServiceStub(pharmacy.channel).ListVerifications(
            verification_pb2.ListVerificationsRequest()
        )
        assert [record.context for record in records.records if record.question.endswith("/21/1")] == ["supply"]

    play(story)


def test_a_pack_in_a_case_is_supplied_and_leaves_it(play: "Play") -> None:
    async def story(world: "World") -> None:
        _, pharmacy = await stocked(world, "1", "2", packed=True)
        fmd = fmd_pb2_grpc.FmdServiceStub(pharmacy.channel)

        async def supplied() -> bool:
            request = fmd_pb2.SupplyRequest(request_id=request_id(), scan=scan_of("1"))
            return (await fmd.Supply(request)).answer.code == "NMVS_SUCCESS"

        await world.eventually(supplied)
        assert (await pharmacy.holding(pack("1"))).parent == ""
        assert await alerts_of(pharmacy) == []
        # Sent back alone, it is taken out as well, and that is noted.
        back = custody_pb2.ReturnRequest(
            request_id=request_id(), epcs=[pack("2")], destination_party=world.clients["maker"].gln, reason="surplus"
        )
        made = await pharmacy.custody.Return(back)
        (alert,) = await alerts_of(pharmacy)
        assert (alert.code, alert.event_id) == ("PARENT_NOT_UNPACKED", made.events[0].event_id)
        assert alert.epc.endswith("/21/2")
        assert await alerts_of(pharmacy, code="NOT_HELD") == []
        assert len(await alerts_of(pharmacy, epc=pack("2"))) == 1

    play(story)


def test_what_has_happened_is_recorded_with_an_alert_and_undone_by_the_verb(play: "Play") -> None:
    async def story(world: "World") -> None:
        _, pharmacy = await stocked(world, "1")
        await pharmacy.custody.Hold(
            custody_pb2.HoldRequest(request_id=request_id(), epcs=[pack("1")], reason="leaking")
        )
        office = pharmacy.premises.office
        unit = parse_unit(pack("1"), field="epc", today=office.desk.clock().date())
        occasion = Occasion(office.desk.clock(), "+00:00", office.desk.default_location)
        message = epcis_to_message(events.dispensing((unit,), occasion, partial=False))
        (answer,) = await pharmacy.capture(custody_pb2.CaptureEventsRequest(request_id=request_id(), events=[message]))
        assert [error.code for error in answer.errors] == ["UNIT_ON_HOLD"]
        (answer,) = await pharmacy.capture(
            custody_pb2.CaptureEventsRequest(request_id=request_id(), events=[message], happened=True)
        )
        assert not answer.errors
        assert [alert.code for alert in await alerts_of(pharmacy)] == ["SOLD_UNDER_HOLD"]
        undo = custody_pb2.UndoRequest(request_id=request_id(), epc=pack("1"), reason="wrong pack")
        assert await refused(pharmacy.custody.Undo(undo)) == ("SUPPLY_NOT_DENIED", "not_supplied")
        undo.not_supplied = True
        done = await pharmacy.custody.Undo(undo)
        assert await pharmacy.custody.Undo(undo) == done
        assert (await pharmacy.holding(pack("1"))).hold_reason == "leaking"
        assert await alerts_of(pharmacy) == []
        (withdrawn,) = await alerts_of(pharmacy, include_withdrawn=True)
        assert withdrawn.HasField("withdraw_time")

    play(story)


def test_books_of_an_earlier_version_are_taken_up_and_not_said_to_be_on_hand_without_dispensing(play: "Play") -> None:
    async def story(world: "World") -> None:
        _, pharmacy = await stocked(world, "1")
        path = pharmacy.premises.office.database.name
        before = await pharmacy.holding(pack("1"))
        await world.stop("pharmacy")
        as_of_an_earlier_version(path)
        pharmacy = await world.start("pharmacy", records_dispensing=False)
        after = await pharmacy.holding(pack("1"))
        assert after.state == custody_pb2.HOLDING_STATE_RECEIVED_NOT_SEEN_SINCE
        for state in (custody_pb2.HOLDING_STATE_RECEIVED_NOT_SEEN_SINCE, custody_pb2.HOLDING_STATE_ON_HAND):
            listed = await pharmacy.custody.ListHoldings(custody_pb2.ListHoldingsRequest(state=state))
            assert list(listed.holdings) == [after]
        after.state = before.state
        assert after == before
        await dispense(pharmacy, "1", quantity="12", pack_size="30", quantity_uom="EA")
        assert (await pharmacy.holding(pack("1"))).remainder == "18"

    play(story)


def as_of_an_earlier_version(path: str) -> None:
    with sqlite3.connect(path) as connection:
        for column in ("inferred", "remainder", "remainder_uom", "sold_to", "suspect"):
            connection.execute(f"ALTER TABLE holding DROP COLUMN {column}")
        connection.execute("DROP TABLE alert")
