"""An erased event is gone from the books of its signer and of its partners, also of one who was away."""

import hashlib
from typing import TYPE_CHECKING

import pytest

from ledger.storage.erasure_store import Outcome
from medtrail.api.custody.v1 import custody_pb2
from medtrail.codec import decode_payload, decode_signed_event, encode_batch
from medtrail.errors import AuthorizationError, ConflictError, MalformedError
from medtrail.event import ErasureConsent, PayloadType
from medtrail.runtime.bus import connect_bus
from medtrail.subjects import events_subject
from services.custody import events_store
from services.custody.events_store import Stored
from tests.integration.services.conftest import GTIN, request_id

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.services.conftest import Client, Play, World

REASON = "signed for a patient by mistake"


async def own_commissioning(world: "World", maker: "Client") -> Stored:
    """Return the maker's commissioning event once it knows its place in the log."""
    found: list[Stored] = []

    async def logged() -> bool:
        read = maker.premises.office.database.read
        found[:] = await read(lambda connection: events_store.own_of_type(connection, PayloadType.EPCIS))
        return bool(found) and all(stored.leaf_index is not None for stored in found)

    await world.eventually(logged)
    return found[0]


async def order(world: "World", client: "Client", sha256: bytes) -> Outcome:
    """Order an erasure and return what became of it."""
    assert world.ledger is not None
    start = world.ledger.feed.newest.tree.size
    await client.custody.OrderErasure(
        custody_pb2.OrderErasureRequest(request_id=request_id(), signed_event_sha256=sha256, reason=REASON)
    )
    found: list[Outcome] = []

    async def decided() -> bool:
        assert world.ledger is not None
        found[:] = await world.ledger.reader.erasure_outcomes(start=start, limit=1)
        return bool(found)

    await world.eventually(decided)
    return found[0]


async def consent(world: "World", sha256: bytes) -> None:
    authority = world.network.authority
    signed = authority.sign(ErasureConsent(sha256, "a court says so"))
    bus = await connect_bus(world.nats_url, seed=authority.nats_seed(), gln=authority.gln, name="authority")
    try:
        await bus.publish(events_subject(authority.gln), encode_batch([signed]))
    finally:
        await bus.close()

    async def logged() -> bool:
        assert world.ledger is not None
        return bool(await world.ledger.reader.index_of(sha256=hashlib.sha256(signed).digest()))

    async def known() -> bool:
        try:
            return await logged()
        except Exception as error:  # noqa: BLE001 - it is not there yet
            return not str(error)

    await world.eventually(known)


def holding(folder: "Path", marker: bytes) -> list[str]:
    """Return the files under a folder that hold some bytes."""
    return [path.name for path in folder.rglob("*") if path.is_file() and marker in path.read_bytes()]


def test_erased_event_is_gone_from_all_books_also_of_who_was_away(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        await maker.register()
        await maker.commission("1", "2")
        await maker.ship(distributor, f"(01){GTIN}(21)1")

        async def advised() -> bool:
            return bool(await distributor.inbound()) and bool(holding(world.folder / "distributor", salt))

        stored = await own_commissioning(world, maker)
        signed = decode_signed_event(stored.signed_event)
        salt = decode_payload(signed.payload_type, signed.payload).header.salt
        await world.eventually(advised)
        assert (await order(world, maker, stored.sha256)).code == "RETENTION_NOT_OVER"
        assert holding(world.folder / "maker", salt)
        await world.stop("distributor")
        await consent(world, stored.sha256)
        outcome = await order(world, maker, stored.sha256)
        assert outcome.erased is not None
        assert (outcome.erased.leaf_index, outcome.erased.reason) == (stored.leaf_index, REASON)
        await world.eventually(lambda: not holding(world.folder / "maker", salt))
        await world.eventually(lambda: not holding(world.folder / "ledger", salt))
        assert holding(world.folder / "distributor", salt)
        again = await world.start("distributor")
        await world.eventually(lambda: not holding(world.folder / "distributor", salt))
        await nothing_brings_it_back(again, maker, stored)

    play(story)


async def nothing_brings_it_back(distributor: "Client", maker: "Client", stored: Stored) -> None:
    """The books still tell where the goods are; the same event is refused."""
    assert (await maker.holding(f"(01){GTIN}(21)2")).lot == "A123"
    (shipment,) = await distributor.inbound()
    assert shipment.unit_count == 1
    code = await distributor.premises.office.database.read(
        lambda connection: events_store.refused_code(connection, stored.sha256)
    )
    assert code == "EVENT_ERASED"


def test_order_is_refused_at_the_desk_for_what_is_not_ones_own_or_malformed(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        await maker.register()
        await maker.commission("1")
        await maker.ship(distributor, f"(01){GTIN}(21)1")
        stored = await own_commissioning(world, maker)

        async def advised() -> bool:
            return bool(await distributor.inbound())

        await world.eventually(advised)
        request = custody_pb2.OrderErasureRequest(
            request_id=request_id(), signed_event_sha256=stored.sha256, reason=REASON
        )
        with pytest.raises(AuthorizationError) as not_own:
            await distributor.custody.OrderErasure(request)
        assert not_own.value.code == "ERASURE_NOT_OWNER"
        await world.stop_ledger()
        await maker.commission("9")
        waiting = await maker.premises.office.database.read(
            lambda connection: events_store.own_of_type(connection, PayloadType.EPCIS)
        )
        request.signed_event_sha256 = waiting[-1].sha256
        with pytest.raises(ConflictError) as not_logged:
            await maker.custody.OrderErasure(request)
        assert not_logged.value.code == "EVENT_NOT_LOGGED"
        request.signed_event_sha256 = b"short"
        with pytest.raises(MalformedError):
            await maker.custody.OrderErasure(request)

    play(story)
