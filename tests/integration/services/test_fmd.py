"""The verbs of the Falsified Medicines Directive over gRPC: each code by what triggers it, and by the near miss."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.fmd.v1 import fmd_pb2, fmd_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.api.verification.v1 import verification_pb2, verification_pb2_grpc
from medtrail.codec import to_timestamp
from medtrail.errors import AuthorizationError, DuplicateError, MalformedError
from medtrail.runtime import outbox
from tests.integration.services.conftest import GTIN, request_id
from tests.integration.services.test_story import advised, pack, scan_of

if TYPE_CHECKING:
    from tests.integration.services.conftest import Client, Play, World

NOW = datetime.now(UTC)
OTHER_GTIN = "00300010543215"
SUCCESS, A3, A2, A52, A68 = ("NMVS_SUCCESS", "NMVS_NC_PC_02", "NMVS_FE_LOT_03", "NMVS_FE_LOT_12", "NMVS_FE_LOT_13")
SAME, INACTIVE, MISMATCH, LATE, ELSEWHERE, NOT_PERFORMED = (
    f"NMVS_NC_PCK_{number}" for number in ("19", "22", "06", "20", "21", "27")
)


def days_ago(days: float) -> custody_pb2.Occasion:
    return custody_pb2.Occasion(event_time=to_timestamp(datetime.now(UTC) - timedelta(days=days)))


@dataclass
class Desk:
    """A client with the verbs, and what they answer in short: state, code, alert."""

    client: "Client"

    @property
    def stub(self) -> "fmd_pb2_grpc.FmdServiceAsyncStub":
        return fmd_pb2_grpc.FmdServiceStub(self.client.channel)

    async def verify(self, scan: str) -> tuple[str, str, str]:
        return short((await self.stub.VerifyState(fmd_pb2.VerifyStateRequest(scan=scan))).answer)

    async def supply(self, scan: str, occasion: custody_pb2.Occasion | None = None) -> tuple[str, str, str]:
        request = fmd_pb2.SupplyRequest(request_id=request_id(), scan=scan, occasion=occasion)
        return short((await self.stub.Supply(request)).answer)

    async def deactivate(
        self, scan: str, state: str, occasion: custody_pb2.Occasion | None = None
    ) -> tuple[str, str, str]:
        request = fmd_pb2.DeactivateRequest(
            request_id=request_id(), scan=scan, state=fmd_pb2.FmdState.Value(f"FMD_STATE_{state}"), occasion=occasion
        )
        return short((await self.stub.Deactivate(request)).answer)

    async def undo(
        self, scan: str, *, state: str = "UNSPECIFIED", not_supplied: bool = True, location: str = ""
    ) -> tuple[str, str, str]:
        request = fmd_pb2.UndoRequest(
            request_id=request_id(),
            scan=scan,
            state=fmd_pb2.FmdState.Value(f"FMD_STATE_{state}"),
            not_supplied=not_supplied,
            reason="not fetched",
            occasion=custody_pb2.Occasion(location=location),
        )
        return short((await self.stub.Undo(request)).answer)


def short(answer: fmd_pb2.FmdAnswer) -> tuple[str, str, str]:
    return fmd_pb2.FmdState.Name(answer.state).removeprefix("FMD_STATE_"), answer.code, answer.alert


async def commission(maker: "Client", lot: str, expiry: str, *serials: str, gtin: str = GTIN) -> None:
    await maker.manufacturer.Commission(
        manufacturer_pb2.CommissionRequest(
            request_id=request_id(), gtin=gtin, lot=lot, expiry=expiry, serials=serials, occasion=days_ago(20)
        )
    )


async def stock(world: "World", maker: "Client", pharmacy: "Client", *epcs: str) -> None:
    shipped = await maker.custody.Ship(
        custody_pb2.ShipRequest(
            request_id=request_id(), epcs=epcs, destination_party=pharmacy.gln, occasion=days_ago(19)
        )
    )
    await advised(world, pharmacy, provisional=False, despatch_id=shipped.events[-1].event_id)
    await pharmacy.custody.Receive(
        custody_pb2.ReceiveRequest(request_id=request_id(), epcs=epcs, occasion=days_ago(18))
    )
    await settled(world, maker, pharmacy)


async def settled(world: "World", *clients: "Client") -> None:
    """Wait until all that the clients signed is in the log, and in what the ledger answers from."""
    for client in clients:
        await world.eventually(lambda client=client: drained(client))  # type: ignore[misc]
    await world.eventually(lambda: projected(world))


async def drained(client: "Client") -> bool:
    return await client.premises.office.database.read(outbox.pending_count) == 0


async def projected(world: "World") -> bool:
    assert world.ledger is not None
    return await world.ledger.projected()


async def records(client: "Client") -> list[verification_pb2.VerificationRecord]:
    stub = verification_pb2_grpc.VerificationServiceStub(client.channel)
    return list((await stub.ListVerifications(verification_pb2.ListVerificationsRequest(page_size=500))).records)


def test_data_that_do_not_match_raise_the_technical_alerts(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, pharmacy = [await world.start(name) for name in ("maker", "pharmacy")]
        await maker.register()
        await commission(maker, "A123", "2028-03-31", "1")
        await commission(maker, "B7", "2028-03-31", "2")
        await stock(world, maker, pharmacy, pack(1))
        desk = Desk(pharmacy)
        assert await desk.verify(scan_of(1)) == ("ACTIVE", SUCCESS, "")
        assert await desk.verify(scan_of(9)) == ("UNKNOWN", A3, "A3")
        assert await desk.verify(scan_of(1, lot="Z9")) == ("LOCKED", A2, "A2")
        assert await desk.verify(scan_of(1, lot="B7")) == ("LOCKED", A68, "A68")
        assert await desk.verify(scan_of(1, expiry="280430")) == ("LOCKED", A52, "A52")
        # A scanner that is not set up is no falsified pack: no alert, and it says so.
        assert await desk.verify("0300010123455") == ("UNKNOWN", "SCAN_UNREADABLE", "")
        for wrong in (scan_of(9), scan_of(1, lot="Z9"), scan_of(1, expiry="280430"), "0300010123455"):
            before = await desk.verify(wrong)
            assert await desk.supply(wrong) == before
            assert await desk.undo(wrong) == before
        assert (await pharmacy.holding(pack(1))).state == custody_pb2.HOLDING_STATE_ON_HAND
        kept = await records(pharmacy)
        assert [item.number for item in kept] == list(range(1, len(kept) + 1))
        assert [(item.context, item.question, item.answer) for item in kept[:2]] == [
            ("verify", scan_of(1), "active NMVS_SUCCESS"),
            ("verify", scan_of(9), "unknown NMVS_NC_PC_02 A3"),
        ]
        # Equal questions stay two records.
        assert sum(item.question == scan_of(9) for item in kept) == 4

    play(story)


def test_supply_and_undo_tell_every_procedural_fault(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor, pharmacy = [await world.start(name) for name in ("maker", "distributor", "pharmacy")]
        await maker.register()
        await commission(maker, "A123", "2028-03-31", *(str(number) for number in range(1, 12)))
        await stock(world, maker, pharmacy, *(pack(number) for number in range(1, 9)))
        desk = Desk(pharmacy)
        await supply_and_undo(world, pharmacy, desk)
        await other_reasons(world, pharmacy, desk)
        await ten_days(world, pharmacy, desk)
        await other_premises(world, maker, desk)
        # What a distributor has is no pharmacy's to change; what it is is told.
        assert await desk.deactivate(scan_of(9), "DESTROYED") == ("PENDING", NOT_PERFORMED, "")
        with pytest.raises(AuthorizationError) as caught:
            await Desk(distributor).supply(scan_of(1))
        assert caught.value.code == "ROLE_FORBIDS"
        with pytest.raises(AuthorizationError):
            await desk.deactivate(scan_of(7), "EXPORTED")
        with pytest.raises(MalformedError):
            await desk.deactivate(scan_of(7), "ACTIVE")
        with pytest.raises(MalformedError):
            await desk.deactivate(scan_of(7), "UNSPECIFIED")

    play(story)


async def supply_and_undo(world: "World", pharmacy: "Client", desk: Desk) -> None:
    request = fmd_pb2.SupplyRequest(request_id=request_id(), scan=scan_of(1))
    first = await desk.stub.Supply(request)
    assert short(first.answer) == ("SUPPLIED", SUCCESS, "")
    assert len(first.events) == 1
    assert await desk.stub.Supply(request) == first
    request.scan = scan_of(2)
    with pytest.raises(DuplicateError):
        await desk.stub.Supply(request)
    assert await desk.supply(scan_of(1)) == ("SUPPLIED", SAME, "A7")
    assert await desk.deactivate(scan_of(1), "SAMPLE") == ("SUPPLIED", INACTIVE, "A24")
    assert await desk.verify(scan_of(1)) == ("SUPPLIED", INACTIVE, "")
    await settled(world, pharmacy)
    assert await desk.undo(scan_of(1), not_supplied=False) == ("SUPPLIED", "SUPPLY_NOT_DENIED", "")
    assert await desk.undo(scan_of(1), state="SAMPLE") == ("SUPPLIED", MISMATCH, "A24")
    assert await desk.undo(scan_of(1), state="SUPPLIED") == ("ACTIVE", SUCCESS, "")
    await settled(world, pharmacy)
    assert await desk.verify(scan_of(1)) == ("ACTIVE", SUCCESS, "")
    assert await desk.undo(scan_of(1)) == ("ACTIVE", MISMATCH, "")
    assert await desk.supply(scan_of(1)) == ("SUPPLIED", SUCCESS, "")
    await pharmacy.pharmacy.Dispense(
        pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[pack(2)], partial=True)
    )
    await settled(world, pharmacy)
    # A part of it went to a patient.
    assert await desk.undo(scan_of(2)) == ("SUPPLIED", MISMATCH, "A24")


async def other_reasons(world: "World", pharmacy: "Client", desk: Desk) -> None:
    for state in ("SAMPLE", "FREE_SAMPLE", "LOCKED"):
        assert await desk.deactivate(scan_of(3), state) == (state, SUCCESS, "")
        await settled(world, pharmacy)
        assert (await desk.verify(scan_of(3)))[0] == state
        assert await desk.deactivate(scan_of(3), state) == (state, SAME, "A7")
        assert await desk.undo(scan_of(3), state=state) == ("ACTIVE", SUCCESS, "")
        await settled(world, pharmacy)
    for serial, state in ((3, "DESTROYED"), (4, "STOLEN")):
        assert await desk.deactivate(scan_of(serial), state) == (state, SUCCESS, "")
        await settled(world, pharmacy)
        assert await desk.undo(scan_of(serial)) == (state, MISMATCH, "A24")
        assert await desk.supply(scan_of(serial)) == (state, INACTIVE, "A24")


async def ten_days(world: "World", pharmacy: "Client", desk: Desk) -> None:
    assert await desk.supply(scan_of(5), days_ago(10.01)) == ("SUPPLIED", SUCCESS, "")
    assert await desk.supply(scan_of(6), days_ago(9.9)) == ("SUPPLIED", SUCCESS, "")
    await settled(world, pharmacy)
    assert await desk.undo(scan_of(5)) == ("SUPPLIED", LATE, "")
    assert await desk.undo(scan_of(6)) == ("ACTIVE", SUCCESS, "")


async def other_premises(world: "World", maker: "Client", pharmacy: Desk) -> None:
    desk = Desk(maker)
    assert await desk.deactivate(scan_of(10), "EXPORTED") == ("EXPORTED", SUCCESS, "")
    await settled(world, maker)
    assert await desk.undo(scan_of(10), location=maker.gln) == ("EXPORTED", ELSEWHERE, "")
    assert await pharmacy.undo(scan_of(10)) == ("INACTIVE", ELSEWHERE, "")
    assert await pharmacy.supply(scan_of(10)) == ("INACTIVE", INACTIVE, "A24")
    assert await desk.undo(scan_of(10)) == ("ACTIVE", SUCCESS, "")


def test_recalled_withdrawn_and_expired_are_final_and_raise_no_alert(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, pharmacy = [await world.start(name) for name in ("maker", "pharmacy")]
        await maker.register()
        await maker.register(OTHER_GTIN)
        yesterday = NOW - timedelta(days=2)
        await commission(maker, "A123", "2028-03-31", "1", "2")
        await commission(maker, "OLD", f"{yesterday:%Y-%m-%d}", "3", "4")
        await commission(maker, "W1", "2028-03-31", "5", gtin=OTHER_GTIN)
        other = f"(01){OTHER_GTIN}(21)5"
        await stock(world, maker, pharmacy, pack(1), pack(2), pack(3), pack(4), other)
        desk = Desk(pharmacy)
        expired = scan_of(3, lot="OLD", expiry=f"{yesterday:%y%m%d}")
        assert await desk.supply(scan_of(1)) == ("SUPPLIED", SUCCESS, "")
        assert await desk.supply(expired) == ("EXPIRED", INACTIVE, "")
        assert await desk.undo(expired) == ("EXPIRED", MISMATCH, "")
        # Supplied while it was good, and past its expiry now.
        late = scan_of(4, lot="OLD", expiry=f"{yesterday:%y%m%d}")
        await pharmacy.pharmacy.Dispense(
            pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[pack(4)], occasion=days_ago(5))
        )
        await settled(world, pharmacy)
        assert await desk.undo(late) == ("EXPIRED", MISMATCH, "")
        await recall(maker, GTIN, "A123")
        await recall(maker, OTHER_GTIN, "")
        await settled(world, maker)
        withdrawn = f"]d201{OTHER_GTIN}215\x1d1728033110W1"
        assert await desk.verify(scan_of(2)) == ("RECALLED", INACTIVE, "")

        async def known() -> bool:
            return await desk.verify(withdrawn) == ("WITHDRAWN", INACTIVE, "")

        await world.eventually(known)
        assert await desk.supply(scan_of(2)) == ("RECALLED", INACTIVE, "")
        assert await desk.supply(withdrawn) == ("WITHDRAWN", INACTIVE, "")
        assert await desk.undo(scan_of(1)) == ("RECALLED", MISMATCH, "")
        # What may not be sold may still be destroyed.
        assert await desk.deactivate(scan_of(2), "DESTROYED") == ("DESTROYED", SUCCESS, "")
        assert await desk.deactivate(expired, "DESTROYED") == ("DESTROYED", SUCCESS, "")

    play(story)


async def recall(maker: "Client", gtin: str, lot: str) -> None:
    found = payload_pb2.Recall(
        number="R-1",
        depth="retail",
        reason="label mixed up",
        start_time=to_timestamp(NOW - timedelta(hours=1)),
        scopes=[payload_pb2.RecallScope(gtin=gtin, lot=lot)],
    )
    await maker.recall.IssueRecall(recall_pb2.IssueRecallRequest(request_id=request_id(), recall=found))


def test_books_and_a_ledger_that_is_away_hold_a_pack_back(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, pharmacy = [await world.start(name) for name in ("maker", "pharmacy")]
        await maker.register()
        await commission(maker, "A123", "2028-03-31", "1", "2", "3")
        await maker.ship(pharmacy, pack(3))
        await stock(world, maker, pharmacy, pack(1), pack(2))
        desk = Desk(pharmacy)
        # On its way in, and genuine: not here yet.
        assert (await desk.supply(scan_of(3)))[1] == "PACK_NOT_AT_HAND"
        await pharmacy.custody.Hold(
            custody_pb2.HoldRequest(request_id=request_id(), epcs=[pack(2)], reason="box is crushed")
        )
        assert await desk.verify(scan_of(2)) == ("LOCKED", "PACK_LOCKED", "")
        assert await desk.supply(scan_of(2)) == ("LOCKED", "PACK_LOCKED", "")
        assert await desk.undo(scan_of(2)) == ("LOCKED", MISMATCH, "")
        assert await desk.supply(scan_of(1)) == ("SUPPLIED", SUCCESS, "")
        await world.stop_ledger()
        assert [*await asyncio.gather(desk.verify(scan_of(3)), desk.undo(scan_of(1)))] == [
            ("PENDING", "LEDGER_UNREACHABLE", ""),
            ("SUPPLIED", "LEDGER_UNREACHABLE", ""),
        ]

    play(story)
