"""An erased event is gone from the books of its signer and of its partners, also of one who was away."""

import asyncio
import hashlib
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select

from ledger.storage import log_store
from ledger.storage.erasure_store import Outcome
from medtrail.api.custody.v1 import custody_pb2
from medtrail.codec import (
    decode_payload,
    decode_signed_event,
    encode_advice,
    encode_batch,
    encode_payload,
    encode_signed_event,
)
from medtrail.envelope import sign
from medtrail.errors import AuthorizationError, ConflictError, MalformedError, NotFoundError
from medtrail.event import (
    ErasureConsent,
    ErasureOrder,
    Event,
    Header,
    PackLevel,
    PayloadType,
    Product,
    new_salt,
)
from medtrail.exchange import Advice
from medtrail.gs1 import Gtin
from medtrail.runtime import outbox
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.database import Database
from medtrail.runtime.tables import InboxPoison, SignedEvents, prepare
from medtrail.subjects import MessageKind, events_subject
from services.custody import erasures, events_store, inbound_store
from services.custody.events_store import Stored
from services.custody.ledger_client import ErasureOutcome
from services.custody.tables import CUSTODY_METADATA
from tests.integration.services.conftest import GTIN, request_id
from tests.support.files import files_holding

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from medtrail.runtime.folder import OrganisationFolder
    from tests.conftest import Network
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
    # Behind every order before, published or not.
    start = (await world.ledger.database.read(log_store.require_state)).tree.size
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

    async def known() -> bool:
        assert world.ledger is not None
        try:
            await world.ledger.reader.index_of(sha256=hashlib.sha256(signed).digest())
        except NotFoundError:
            return False
        return True

    await world.eventually(known)


def one_event(folder: "OrganisationFolder", number: int) -> bytes:
    product = Product(Gtin(GTIN), PackLevel.PACK, f"Tablets {number}")
    event = Event(Header(new_salt(), folder.gln, "main", number, f"urn:x:{number}"), product)
    return encode_signed_event(sign(event.payload_type, encode_payload(event), folder.signing_key()))


def salt_of(signed_event: bytes) -> bytes:
    signed = decode_signed_event(signed_event)
    return decode_payload(signed.payload_type, signed.payload).header.salt


def test_erased_event_is_gone_from_all_books_also_of_who_was_away(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        await maker.register()
        await maker.commission("1", "2")
        await maker.ship(distributor, f"(01){GTIN}(21)1")

        async def advised() -> bool:
            return bool(await distributor.inbound()) and bool(files_holding(world.folder / "distributor", salt))

        stored = await own_commissioning(world, maker)
        salt = salt_of(stored.signed_event)
        await world.eventually(advised)
        assert (await order(world, maker, stored.sha256)).code == "RETENTION_NOT_OVER"
        assert files_holding(world.folder / "maker", salt)
        await world.stop("distributor")
        await consent(world, stored.sha256)
        outcome = await order(world, maker, stored.sha256)
        assert outcome.erased is not None
        assert (outcome.erased.leaf_index, outcome.erased.reason) == (stored.leaf_index, REASON)
        await world.eventually(lambda: not files_holding(world.folder / "maker", salt))
        await world.eventually(lambda: not files_holding(world.folder / "ledger", salt))
        assert files_holding(world.folder / "distributor", salt)
        again = await world.start("distributor")
        await world.eventually(lambda: not files_holding(world.folder / "distributor", salt))
        await nothing_brings_it_back(again, maker, stored)

    play(story)


async def nothing_brings_it_back(distributor: "Client", maker: "Client", stored: Stored) -> None:
    """Check that the books still tell where the goods are, and that the same event is not taken again."""
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


def test_advice_on_its_way_loses_the_event_and_who_was_never_there_keeps_nothing(play: "Play") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1")
        request = custody_pb2.ShipRequest(request_id=request_id(), epcs=[f"(01){GTIN}(21)1"], purchase_order="P1")
        request.destination_party = str(world.network["distributor"].gln)
        await maker.custody.Ship(request)
        stored = await own_commissioning(world, maker)
        salt = salt_of(stored.signed_event)
        await consent(world, stored.sha256)
        assert (await order(world, maker, stored.sha256)).code == ""
        await world.eventually(lambda: not files_holding(world.folder / "maker", salt))
        # The inbox of the exchange still holds the advice as it was sent first.
        distributor = await world.start("distributor")

        async def advised_and_clean() -> bool:
            return bool(await distributor.inbound()) and not files_holding(world.folder / "distributor", salt)

        await world.eventually(advised_and_clean)

    play(story)


def test_every_kind_of_copy_is_erased_and_others_stay(tmp_path: "Path", network: "Network") -> None:
    folder, partner = network["maker"], network["distributor"]
    database = Database(tmp_path / "service.db")
    try:
        database.write_now(prepare)
        database.create_tables(CUSTODY_METADATA)
        gone, kept = (one_event(folder, number) for number in (1, 2))
        outcome = ErasureOutcome(
            9, ErasureOrder(hashlib.sha256(gone).digest(), REASON), folder.signing_key().key_id, 3, ""
        )

        def fill(connection: "Connection") -> None:
            for number, signed in enumerate((gone, kept)):
                outbox.enqueue_event(connection, signed, event_id=f"urn:x:{number}", now=datetime.now(UTC))
            advice = encode_advice(Advice("urn:x:d", 0, 2, (gone, kept)))
            outbox.enqueue_outgoing(connection, to=partner.gln, kind=MessageKind.ADVICE, data=advice)
            inbound_store.keep_part(
                connection, sender=partner.gln, despatch_id="urn:x:d", part=0, part_count=2, advice=advice
            )
            row = {"subject": "x", "sha256": bytes(32), "size": 1, "code": "X", "message": "x", "receive_time_us": 1}
            connection.execute(insert(InboxPoison), [row | {"data": advice}, row | {"data": b"no advice at all"}])

        database.write_now(fill)
        erase = partial(erasures._erase, outcome=outcome, signer=folder.gln, own=folder.gln)
        database.write_now(erase)
        # Again, after a crash: nothing changes.
        database.write_now(erase)
        asyncio.run(database.scrub())
        assert not files_holding(tmp_path, salt_of(gone))
        assert files_holding(tmp_path, salt_of(kept))
        hashes = database.read_now(lambda connection: connection.execute(select(SignedEvents.c.sha256)).scalars().all())
        assert hashes == [hashlib.sha256(kept).digest()]
    finally:
        database.close()


def test_event_that_was_signed_anew_goes_with_the_entry_it_repeats(tmp_path: "Path", network: "Network") -> None:
    folder = network["maker"]
    database = Database(tmp_path / "service.db")
    try:
        database.write_now(prepare)
        database.create_tables(CUSTODY_METADATA)
        signed = one_event(folder, 1)
        decoded = decode_signed_event(signed)
        event = decode_payload(decoded.payload_type, decoded.payload)

        def fill(connection: "Connection") -> None:
            digest = hashlib.sha256(signed).digest()
            number = events_store.insert_event(
                connection, event, signer=folder.gln, own=True, sha256=digest, signed_event=signed, units=()
            )
            # The receipt named the entry of other bytes with the same content.
            events_store.set_leaf_index(connection, number, 3)

        database.write_now(fill)
        outcome = ErasureOutcome(9, ErasureOrder(bytes(32), REASON), folder.signing_key().key_id, 3, "")
        database.write_now(partial(erasures._erase, outcome=outcome, signer=folder.gln, own=folder.gln))
        asyncio.run(database.scrub())
        assert not files_holding(tmp_path, salt_of(signed))
    finally:
        database.close()


def test_order_of_another_than_the_signer_is_not_followed(tmp_path: "Path", network: "Network") -> None:
    database = Database(tmp_path / "service.db")
    try:
        database.create_tables(CUSTODY_METADATA)
        signed = one_event(network["maker"], 1)
        digest = hashlib.sha256(signed).digest()
        decoded = decode_signed_event(signed)
        event = decode_payload(decoded.payload_type, decoded.payload)
        insert_it = partial(
            events_store.insert_event, event=event, own=False, sha256=digest, signed_event=signed, units=()
        )
        database.write_now(partial(insert_it, signer=network["maker"].gln))
        thief = network["pharmacy"]
        outcome = ErasureOutcome(9, ErasureOrder(digest, REASON), thief.signing_key().key_id, 3, "")
        erase = partial(erasures._erase, outcome=outcome, signer=thief.gln, own=network["distributor"].gln)
        database.write_now(erase)
        assert database.read_now(lambda connection: events_store.find_by_hash(connection, digest)) is not None
    finally:
        database.close()
