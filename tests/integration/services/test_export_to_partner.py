"""A shipment goes to a partner of another network as one file, and what was known of its packs is known there."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from medtrail.api.custody.v1 import custody_pb2
from medtrail.cli.capture import CHUNK_EVENTS, import_document
from medtrail.codec import epcis_to_message
from medtrail.epcis import Action, EpcisDocument, EpcisEvent, EventType, Place, SourceDest, event_hash, read_document
from medtrail.epcis.cbv import ilmd_lot_expiry
from medtrail.epcis.rules import Profile, Severity, check_document, severity_of
from medtrail.errors import AuthorizationError, ConflictError, MalformedError, NotFoundError
from medtrail.event import Event, Role
from medtrail.gs1 import Gln, Sgln, parse_epc
from medtrail.runtime.client import connect
from medtrail.runtime.folder import Profile as FolderProfile
from medtrail.runtime.folder import create_authority, create_organisation
from services.custody import events_store
from services.custody.handover_servicer import CHUNK_BYTES
from tests.conftest import NatsServer, Network
from tests.integration.services.conftest import CASE_GTIN, GTIN, World, request_id

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from medtrail.cli.session import Session
    from tests.integration.services.conftest import Client, Play

OUTSIDE = "9521002000016"
PALLET = "(00)003000100000000015"
TOTE = "(00)003999990000000017"
ADDRESS = 'street = "1 Main St"\ncity = "Louisville"\nstate = "KY"\npostal_code = "40218"\ncountry = "US"\n'
PARTIES = f"""
[[party]]
gln = "0399999999991"
company_prefix = "039999"
{ADDRESS}
[[party]]
gln = "{OUTSIDE}"
name = "Elm Street Pharmacy"
company_prefix = "9521002"
{ADDRESS}
[[product]]
gtin = "{GTIN}"
name = "Epcistra"
ndc = "0001-0123-45"
strength = "100 mg"
dosage_form = "PILL"
net_content = "500 pills"

[[product]]
gtin = "{CASE_GTIN}"
name = "Epcistra"
ndc = "0001-0123-45"
strength = "100 mg"
dosage_form = "PILL"
net_content = "500 pills"
"""


def pack(serial: int) -> str:
    return f"(01){GTIN}(21){serial}"


def case(serial: int) -> str:
    return f"(01){CASE_GTIN}(21){serial}"


async def packed(client: "Client", parent: str, *children: str) -> None:
    await client.custody.Pack(custody_pb2.PackRequest(request_id=request_id(), parent=parent, children=children))


async def shipped(client: "Client", to: str, *epcs: str) -> str:
    request = custody_pb2.ShipRequest(
        request_id=request_id(), epcs=epcs, destination_party=to, purchase_order="P7", despatch_advice="D7"
    )
    return (await client.custody.Ship(request)).events[0].event_id


async def exported(
    client: "Client", event_id: str, *, dscsa: bool = True, allowed: bool = False
) -> tuple[custody_pb2.ShipmentSummary, list[tuple[str, str]], bytes]:
    """Return summary, gaps as (code, subject), and the file."""
    request = custody_pb2.ExportShipmentRequest(
        despatch_event_id=event_id,
        profile=custody_pb2.EXPORT_PROFILE_DSCSA if dscsa else custody_pb2.EXPORT_PROFILE_UNSPECIFIED,
        gaps_allowed=allowed,
    )
    answers = [answer async for answer in client.custody.ExportShipment(request)]
    gaps = [(gap.code, gap.subject) for answer in answers for gap in answer.gaps]
    return answers[0].summary, gaps, b"".join(answer.chunk for answer in answers)


def facts(document: EpcisDocument) -> dict[str, tuple[str, str]]:
    """Lot and expiry of each commissioned unit, by its path."""
    found: dict[str, tuple[str, str]] = {}
    for event in document.events:
        if event.biz_step == "commissioning":
            texts = {item.name: str(item.value) for item in event.ilmd}
            traits = texts.get("lotNumber", ""), texts.get("itemExpirationDate", "")
            found |= {parse_epc(epc).path: traits for epc in event.epc_list}
    return found


def packings(document: EpcisDocument) -> dict[str, set[str]]:
    return {
        parse_epc(event.parent_id).path: {parse_epc(epc).path for epc in event.child_epcs}
        for event in document.events
        if event.parent_id is not None
    }


def by_time(document: EpcisDocument) -> list[datetime]:
    return [event.event_time for event in document.events]


async def signed_events(client: "Client") -> list[Event]:
    def look(connection: "Connection") -> list[Event]:
        numbers = range(1, 1000)
        return [item.event for item in events_store.events_of(connection, numbers)]

    return await client.premises.office.database.read(look)


async def arrived(world: World, client: "Client", *epcs: str) -> None:
    async def seen() -> bool:
        shipments = await client.inbound(received=True)
        return bool(shipments) and not any(shipment.provisional for shipment in shipments)

    await world.eventually(seen)
    await client.receive(*epcs)


@asynccontextmanager
async def other_network(world: World) -> AsyncIterator[World]:
    """A network of its own, in which nobody of the first is enrolled: a ledger and the outside pharmacy."""
    folder = world.folder / "other"
    authority = create_authority(folder / "authority", FolderProfile("authority", "Other", Gln("9521000000018")))
    profiles = (
        FolderProfile("ledger", "Other ledger", Gln("9521000000025"), roles=frozenset({Role.LEDGER})),
        FolderProfile("pharmacy", "Elm Street", Gln(OUTSIDE), roles=frozenset({Role.PHARMACY})),
    )
    network = Network(
        authority,
        {item.name: create_organisation(folder / item.name, item, authority=authority) for item in profiles},
    )
    (folder / "nats").mkdir()
    server = NatsServer(folder / "nats", network.users())
    try:
        server.start()
        made = World(folder / "run", network, server.url, world.eventually)
        try:
            await made.start_ledger()
            await made.enrol()
            yield made
        finally:
            await made.close()
    finally:
        server.remove()


async def passed_on(client: "Client", document: EpcisDocument) -> custody_pb2.CaptureEventsResponse:
    chunk = custody_pb2.CaptureEventsRequest(
        request_id=request_id(), events=[epcis_to_message(event) for event in document.events], second_hand=True
    )
    (answer,) = await client.capture(chunk)
    return answer


def test_what_is_known_of_each_pack_goes_into_another_network(play: "Play") -> None:
    async def story(world: World) -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        for gtin in (GTIN, CASE_GTIN):
            await maker.register(gtin)
        await maker.commission(*map(str, range(1, 9)))
        for serial in ("110", "111"):
            await maker.commission(serial, gtin=CASE_GTIN)
        await packed(maker, case(110), *map(pack, range(1, 5)))
        await packed(maker, case(111), *map(pack, range(5, 9)))
        await packed(maker, PALLET, case(110), case(111))
        await maker.ship(distributor, PALLET)
        await arrived(world, distributor, PALLET)
        # One case goes on as it is, less a pack; one pack of the other in a tote.
        for parent, children in ((PALLET, []), (case(111), []), (case(110), [pack(4)])):
            await distributor.custody.Unpack(
                custody_pb2.UnpackRequest(request_id=request_id(), parent=parent, children=children)
            )
        await packed(distributor, TOTE, pack(6))
        parties = distributor.premises.folder.path / "parties.toml"
        parties.write_text(PARTIES, encoding="utf-8")
        try:
            despatch = await shipped(distributor, OUTSIDE, case(110), TOTE)
            summary, gaps, data = await exported(distributor, despatch)
            assert gaps == []
        finally:
            parties.unlink()
        assert (summary.unit_count, summary.pack_count, summary.document_size) == (6, 4, len(data))
        document = read_document(data, format="xml")
        await the_file_closes(document, distributor, despatch)
        findings = check_document(
            io.BytesIO(data), format="xml", now=datetime.now(UTC), profiles=(Profile.EPCIS, Profile.DSCSA)
        )
        assert [finding for finding in findings if severity_of(finding) is Severity.ERROR] == []
        async with other_network(world) as other:
            pharmacy = await other.start("pharmacy")
            answer = await passed_on(pharmacy, document)
            assert list(answer.errors) == []
            await same_holdings(distributor, pharmacy)
            received = await pharmacy.receive(case(110), TOTE)
            assert (received.unit_count, list(received.missing_epcs)) == (4, [])

    play(story)


async def the_file_closes(document: EpcisDocument, client: "Client", despatch: str) -> None:
    units = {parse_epc(text).path for text in (case(110), TOTE, *map(pack, (1, 2, 3, 6)))}
    packs = units - {parse_epc(TOTE).path}
    assert facts(document) == dict.fromkeys(packs, ("A123", "2028-03-31"))
    assert packings(document) == {
        parse_epc(case(110)).path: {parse_epc(pack(serial)).path for serial in (1, 2, 3)},
        parse_epc(TOTE).path: {parse_epc(pack(6)).path},
    }
    assert by_time(document) == sorted(by_time(document))
    shipping = document.events[-1]
    assert (shipping.biz_step, shipping.event_id) == ("shipping", despatch)
    assert {parse_epc(epc).path for epc in shipping.epc_list} == {parse_epc(case(110)).path, parse_epc(TOTE).path}
    assert document.sender == "urn:epc:id:sgln:039999.999999.0"
    assert document.receiver == "urn:epc:id:sgln:9521002.00001.0"
    # Whoever is not cut is word for word what was signed, and so has its id; the hash sees through spellings.
    known = {item.header.event_id: item.statement for item in await signed_events(client)}
    whole = [event for event in document.events if event.event_id is not None]
    assert {event.biz_step for event in whole} == {"packing", "commissioning", "shipping"}
    for event in whole:
        assert event_hash(event) == event_hash_of(known[event.event_id or ""])


def event_hash_of(statement: object) -> str:
    assert isinstance(statement, EpcisEvent)
    return event_hash(statement)


async def same_holdings(here: "Client", there: "Client") -> None:
    for epc in (case(110), TOTE, *map(pack, (1, 2, 3, 6))):
        ours, theirs = await here.holding(epc), await there.holding(epc)
        assert (theirs.epc, theirs.lot, theirs.expiry) == (ours.epc, ours.lot, ours.expiry)
        assert (theirs.parent, theirs.partner) == (ours.parent, here.gln)
        assert theirs.state == custody_pb2.HOLDING_STATE_INBOUND
    with pytest.raises(NotFoundError):
        await there.holding(pack(4))


def test_gaps_are_told_before_the_first_byte(play: "Play") -> None:
    async def story(world: World) -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1", "2")
        despatch = await shipped(maker, OUTSIDE, pack(1))
        summary, gaps, data = await exported(maker, despatch)
        assert data == b""
        assert gaps == [
            ("STRENGTH_MISSING", GTIN),
            ("DOSAGE_FORM_MISSING", GTIN),
            ("CONTAINER_SIZE_MISSING", GTIN),
            ("NATIONAL_NUMBER_MISSING", GTIN),
            ("PARTY_ADDRESS_MISSING", "0300011111116"),
            ("PARTY_ADDRESS_MISSING", "0300011111208"),
            ("PARTY_UNKNOWN", OUTSIDE),
            ("PREFIX_UNKNOWN", f"/414/{OUTSIDE}"),
            ("PREFIX_UNKNOWN", f"/417/{OUTSIDE}"),
            ("DSCSA_NDC_MISSING", gaps[-1][1]),
        ]
        assert summary.gap_count == len(gaps)
        summary, again, data = await exported(maker, despatch, dscsa=False, allowed=True)
        assert again == gaps[:-1]
        document = read_document(data, format="xml")
        assert len(data) == summary.document_size
        assert document.header_extensions == ()
        assert list(facts(document)) == [f"/01/{GTIN}/21/1"]
        # Of the two packs of its commissioning the file names the one that is shipped: it is another content.
        assert document.events[0].event_id is None
        await maker.commission(*map(str, range(10_000, 12_500)))
        await packed(maker, PALLET, *map(pack, range(10_000, 12_500)))
        summary, _, data = await exported(maker, await shipped(maker, OUTSIDE, PALLET), allowed=True)
        assert summary.document_size == len(data) > CHUNK_BYTES
        assert len(facts(read_document(data, format="xml"))) == summary.pack_count == 2500

    play(story)


def test_refuses_what_is_no_shipment_of_ours(play: "Play") -> None:
    async def story(world: World) -> None:
        maker, distributor = [await world.start(name) for name in ("maker", "distributor")]
        await maker.register()
        made = await maker.commission("1")
        sent = await shipped(maker, distributor.gln, pack(1))
        await arrived(world, distributor, pack(1))
        for client, event_id, code in (
            (maker, "ni:///sha-256;00?ver=CBV2.0", "DESPATCH_UNKNOWN"),
            (maker, made.events[0].event_id, "NOT_A_DESPATCH"),
            (distributor, sent, "DESPATCH_NOT_OWN"),
        ):
            with pytest.raises((ConflictError, NotFoundError)) as caught:
                await exported(client, event_id)
            assert caught.value.code == code
        unknown = custody_pb2.ExportShipmentRequest(despatch_event_id=sent, profile=9)  # type: ignore[arg-type]
        with pytest.raises(MalformedError) as odd:
            await anext(aiter(maker.custody.ExportShipment(unknown)))
        assert odd.value.code == "PROFILE_UNKNOWN"
        parties = maker.premises.folder.path / "parties.toml"
        parties.write_text("[[party]]\ngln = 1\n", encoding="utf-8")
        try:
            with pytest.raises(MalformedError) as wrong:
                await exported(maker, sent)
        finally:
            parties.unlink()
        assert (wrong.value.code, wrong.value.field) == ("PARTIES_FILE", "parties.toml: party[0].gln")

    play(story)


def test_large_file_goes_in_as_one_transaction_and_goods_of_others_do_not(play: "Play") -> None:
    async def story(world: World) -> None:
        async with other_network(world) as other:
            pharmacy = await other.start("pharmacy")
            session = cast("Session", pharmacy)
            count = CHUNK_EVENTS + 1
            not_ours = await import_document(session, of_single_packs(count, to="9521005000013"), second_hand=True)
            assert (not_ours.accepted, [error["code"] for error in not_ours.errors]) == (0, ["NOT_PARTY"])
            assert not_ours.errors[0]["event"] == 0
            ours = await import_document(session, of_single_packs(count, to=OUTSIDE), second_hand=True)
            assert (ours.accepted, ours.errors) == (count + 1, [])
            (shipment,) = await pharmacy.inbound()
            assert shipment.unit_count == count
            again = await import_document(session, of_single_packs(count, to=OUTSIDE), second_hand=True)
            assert (again.accepted, again.resends) == (0, count + 1)

    play(story)


def of_single_packs(count: int, *, to: str) -> EpcisDocument:
    """A document of packs commissioned one by one, and of their despatch."""
    moment = datetime(2026, 3, 1, 8, tzinfo=UTC)
    source = "urn:epc:id:sgln:030001.111111.0"
    packs = tuple(f"urn:epc:id:sgtin:030001.0012345.{serial}" for serial in range(count))
    made = EpcisEvent(
        EventType.OBJECT,
        moment,
        "+00:00",
        action=Action.ADD,
        biz_step="commissioning",
        disposition="active",
        read_point=Place(source),
        ilmd=ilmd_lot_expiry("A123", moment.date()),
    )
    shipping = replace(
        made,
        event_time=moment + timedelta(hours=1),
        action=Action.OBSERVE,
        biz_step="shipping",
        disposition="in_transit",
        ilmd=(),
        epc_list=packs,
        source_list=(SourceDest("owning_party", source),),
        destination_list=(SourceDest("owning_party", Sgln(Gln(to)).digital_link),),
    )
    return EpcisDocument((*(replace(made, epc_list=(pack,)) for pack in packs), shipping))


def test_own_events_are_listed_by_pages_for_their_signer_only(play: "Play") -> None:
    async def story(world: World) -> None:
        maker = await world.start("maker")
        await maker.register()
        await maker.commission("1", "2", "3")
        sold = [await shipped(maker, OUTSIDE, pack(serial)) for serial in (1, 2)]
        start = Timestamp()
        start.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
        request = custody_pb2.ListOwnEventsRequest(
            start_time=start, kinds=[custody_pb2.OWN_EVENT_KIND_SALES_SHIPMENT], page_size=1
        )
        first = await maker.custody.ListOwnEvents(request)
        request.page_token = first.next_page_token
        second = await maker.custody.ListOwnEvents(request)
        assert [event.event_id for page in (first, second) for event in page.events] == sold
        assert [event.partner for event in first.events] == [OUTSIDE]
        assert list(first.events[0].purchase_orders) == [f"urn:epcglobal:cbv:bt:{OUTSIDE}:P7"]
        assert list(first.events[0].despatch_advices) == [f"urn:epcglobal:cbv:bt:{maker.gln}:D7"]
        assert not first.events[0].HasField("declaration_time")
        packs = custody_pb2.ListEventPacksRequest(event_id=sold[0])
        (answer,) = [item async for item in maker.custody.ListEventPacks(packs)]
        assert [(each.gtin, each.serial, each.lot, each.expiry) for each in answer.packs] == [
            (GTIN, "1", "A123", "2028-03-31")
        ]
        with pytest.raises(MalformedError) as caught:
            await maker.custody.ListOwnEvents(custody_pb2.ListOwnEventsRequest(kinds=[99]))  # type: ignore[list-item]
        assert caught.value.code == "KIND_UNKNOWN"
        address = maker.address  # type: ignore[attr-defined]
        channel = connect(address, folder=world.network["distributor"], audience=Gln(maker.gln), server="maker")
        try:
            stranger = type(maker)(channel, maker.premises)
            with pytest.raises(AuthorizationError):
                await stranger.custody.ListOwnEvents(custody_pb2.ListOwnEventsRequest())
            with pytest.raises(AuthorizationError):
                await exported(stranger, sold[0])
        finally:
            await channel.close()

    play(story)
