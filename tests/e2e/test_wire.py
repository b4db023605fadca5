"""Bad input over real connections: refused with a stable code and the field, nothing half-written, everyone alive."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.event.v1 import epcis_pb2, verdict_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.api.manufacturer.v1 import manufacturer_pb2
from medtrail.api.pharmacy.v1 import pharmacy_pb2
from medtrail.api.recall.v1 import recall_pb2
from medtrail.api.trust.v1 import trust_pb2
from medtrail.cli.session import Session
from medtrail.envelope import SigningKey
from medtrail.errors import MedtrailError
from medtrail.event import PayloadType
from medtrail.gs1 import Gln
from medtrail.runtime.ca import server_name
from medtrail.runtime.folder import OrganisationFolder
from medtrail.runtime.tokens import TokenMinter
from tests.e2e.conftest import Net
from tests.support.streams import answers_of

MAKER, DISTRIBUTOR, PHARMACY, OTHER_PHARMACY = (
    "gs1-pharma",
    "gs1-drug-distributor",
    "elm-street-pharmacy",
    "station-pharmacy",
)
LEDGER = "ledger"
CUSTODY, LEDGER_SERVICE = "/medtrail.api.custody.v1.CustodyService", "/medtrail.api.ledger.v1.LedgerService"
GTIN = "00300010123455"
PATIENCE_S = 60.0
Status = grpc.StatusCode
Metadata = tuple[tuple[str, str], ...]
if TYPE_CHECKING:
    # Generic for type checkers only.
    Call = grpc.aio.UnaryUnaryMultiCallable[Any, Any]


@pytest.fixture(scope="module", autouse=True)
def nobody_dies(net: Net) -> Iterator[None]:
    """Whatever is sent here, the same processes run behind it, and serve."""
    before = net.pids()
    yield
    assert net.pids() == before

    async def serving() -> None:
        for name in [item.name for item in net.running.organisations] + [LEDGER]:
            async with dial(net, name) as channel:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=PATIENCE_S
                )
                assert answer.status == health_pb2.HealthCheckResponse.SERVING

    asyncio.run(serving())


# --- calling without the client of medtrail ---


@dataclass(frozen=True)
class Refusal:
    """How a call ended: its gRPC code, and what google.rpc.Status says besides."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    facts: dict[str, str]

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> "Refusal":
        info, request, status = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), status_pb2.Status()
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                assert isinstance(value, bytes)
                status.ParseFromString(value)
                assert (status.code, status.message) == (error.code().value[0], error.details())
        for detail in status.details:
            detail.Unpack(info if detail.Is(info.DESCRIPTOR) else request)
        assert info.domain in {"", "medtrail"}
        return cls(
            error.code(), info.reason, tuple(item.field for item in request.field_violations), dict(info.metadata)
        )


def folder_of(net: Net, name: str) -> OrganisationFolder:
    path = net.folder / "ledger/org" if name == LEDGER else Path(net.running.organisation(name).folder)
    return OrganisationFolder(path)


@asynccontextmanager
async def dial(net: Net, callee: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a process, with neither token nor deadline nor limits of our own."""
    address = net.running.ledger_address if callee == LEDGER else net.running.organisation(callee).address
    credentials = grpc.ssl_channel_credentials(folder_of(net, callee).ca_certificate())
    options = [("grpc.ssl_target_name_override", server_name(callee)), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        yield channel


def token(
    net: Net, caller: str, *, audience: str, age_s: int = 0, key: SigningKey | None = None, issuer: str | None = None
) -> Metadata:
    """Return the metadata that carry a token of a caller."""
    minter = TokenMinter(
        key or folder_of(net, caller).signing_key(),
        issuer=folder_of(net, issuer or caller).gln,
        audience=folder_of(net, audience).gln,
        clock=lambda: datetime.now(UTC) - timedelta(seconds=age_s),
    )
    return (("authorization", f"Bearer {minter.mint()}"),)


def refused(net: Net, method: str, request: Message, *, callee: str, metadata: Metadata = ()) -> Refusal:
    """Call a method by its full name; returns how it was refused."""

    async def run() -> Refusal:
        async with dial(net, callee) as channel:
            call: Call = channel.unary_unary(method, request_serializer=type(request).SerializeToString)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(request, timeout=PATIENCE_S, metadata=metadata)
            return Refusal.of(caught.value)

    return asyncio.run(run())


def refused_as(net: Net, caller: str, method: str, request: Message, *, callee: str | None = None) -> Refusal:
    """Call a method of one's own process, or of another, with a good token; returns how it was refused."""
    callee = callee or caller
    return refused(net, method, request, callee=callee, metadata=token(net, caller, audience=callee))


def request_id() -> str:
    return str(uuid.uuid4())


# --- who calls ---


@pytest.mark.parametrize(
    ("callee", "method", "request_"),
    [
        (MAKER, f"{CUSTODY}/Ship", custody_pb2.ShipRequest()),
        (MAKER, f"{CUSTODY}/ListHoldings", custody_pb2.ListHoldingsRequest()),
        (MAKER, f"{CUSTODY}/GetHolding", custody_pb2.GetHoldingRequest()),
        (MAKER, f"{CUSTODY}/CaptureEvents", custody_pb2.CaptureEventsRequest()),
        (MAKER, f"{CUSTODY}/ScanIncoming", custody_pb2.ScanIncomingRequest()),
        (
            MAKER,
            "/medtrail.api.manufacturer.v1.ManufacturerService/Commission",
            manufacturer_pb2.CommissionRequest(),
        ),
        (MAKER, "/medtrail.api.recall.v1.RecallService/IssueRecall", recall_pb2.IssueRecallRequest()),
        (OTHER_PHARMACY, "/medtrail.api.pharmacy.v1.PharmacyService/Dispense", pharmacy_pb2.DispenseRequest()),
    ],
)
def test_refuses_call_of_another_organisation(net: Net, callee: str, method: str, request_: Message) -> None:
    found = refused_as(net, PHARMACY, method, request_, callee=callee)
    assert (found.code, found.reason) == (Status.PERMISSION_DENIED, "CALLER_NOT_OWN")


def test_refuses_verb_of_another_role_at_ones_own_process(net: Net) -> None:
    method = "/medtrail.api.recall.v1.RecallService/IssueRecall"
    found = refused_as(net, PHARMACY, method, recall_pb2.IssueRecallRequest())
    assert (found.code, found.reason) == (Status.PERMISSION_DENIED, "ROLE_FORBIDS")


@pytest.mark.parametrize(
    ("callee", "method", "request_"),
    [
        (MAKER, f"{CUSTODY}/ListHoldings", custody_pb2.ListHoldingsRequest()),
        (LEDGER, f"{LEDGER_SERVICE}/GetCheckpoint", ledger_pb2.GetCheckpointRequest()),
        (LEDGER, f"{LEDGER_SERVICE}/WatchCheckpoints", ledger_pb2.WatchCheckpointsRequest()),
        (LEDGER, "/medtrail.api.trust.v1.TrustService/ListTrustEntries", trust_pb2.ListTrustEntriesRequest()),
    ],
)
def test_refuses_call_without_token(net: Net, callee: str, method: str, request_: Message) -> None:
    found = refused(net, method, request_, callee=callee)
    assert (found.code, found.reason) == (Status.UNAUTHENTICATED, "TOKEN_MISSING")
    assert found.fields == ("authorization",)


def test_refuses_token_that_is_not_good_here_and_now(net: Net) -> None:
    stranger = SigningKey.from_seed(bytes(range(32)))
    good = token(net, MAKER, audience=MAKER)
    text = good[0][1]
    cases: dict[str, Metadata] = {
        "TOKEN_AUDIENCE": token(net, MAKER, audience=LEDGER),
        "TOKEN_EXPIRED": token(net, MAKER, audience=MAKER, age_s=120),
        "TOKEN_NOT_YET_VALID": token(net, MAKER, audience=MAKER, age_s=-120),
        "KEY_UNKNOWN": token(net, MAKER, audience=MAKER, key=stranger),
        "TOKEN_ISSUER": token(net, PHARMACY, audience=MAKER, issuer=MAKER),
        "TOKEN_SIGNATURE": (("authorization", text[:-8] + ("A" * 8 if text[-8:] != "A" * 8 else "B" * 8)),),
        "TOKEN_MALFORMED": (("authorization", "Bearer a.b.c"),),
        "TOKEN_MISSING": (("authorization", "Basic bWFrZXI6bWFrZXI="),),
    }
    for reason, metadata in cases.items():
        found = refused(
            net, f"{CUSTODY}/ListHoldings", custody_pb2.ListHoldingsRequest(), callee=MAKER, metadata=metadata
        )
        assert (found.code, found.reason) == (Status.UNAUTHENTICATED, reason)
        assert found.fields == ("authorization",)


def test_refuses_token_that_was_used_before(net: Net) -> None:
    async def run() -> None:
        metadata = token(net, PHARMACY, audience=LEDGER)
        async with dial(net, LEDGER) as channel:
            call = channel.unary_unary(
                f"{LEDGER_SERVICE}/GetCheckpoint",
                request_serializer=ledger_pb2.GetCheckpointRequest.SerializeToString,
                response_deserializer=ledger_pb2.GetCheckpointResponse.FromString,
            )
            first = await call(ledger_pb2.GetCheckpointRequest(), timeout=PATIENCE_S, metadata=metadata)
            assert first.checkpoint.startswith(net.running.origin.encode())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(ledger_pb2.GetCheckpointRequest(), timeout=PATIENCE_S, metadata=metadata)
            found = Refusal.of(caught.value)
            assert (found.code, found.reason) == (Status.UNAUTHENTICATED, "TOKEN_REPLAYED")

    asyncio.run(run())


def test_speaks_to_nobody_without_tls(net: Net) -> None:
    async def run() -> None:
        async with grpc.aio.insecure_channel(net.running.ledger_address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
            assert caught.value.code() is Status.UNAVAILABLE

    asyncio.run(run())


# --- what is called ---


@pytest.mark.parametrize("callee", [MAKER, LEDGER])
@pytest.mark.parametrize("method", [f"{CUSTODY}/Burn", f"{LEDGER_SERVICE}/Append", "/elsewhere.Service/Method"])
def test_refuses_unknown_method(net: Net, callee: str, method: str) -> None:
    found = refused_as(net, MAKER, method, custody_pb2.ShipRequest(), callee=callee)
    assert (found.code, found.reason) == (Status.PERMISSION_DENIED, "METHOD_UNKNOWN")


def test_refuses_message_of_more_than_four_mebibytes(net: Net) -> None:
    request = custody_pb2.HoldRequest(request_id=request_id(), epcs=["x" * (4 * 1024 * 1024 + 1)])
    assert refused_as(net, MAKER, f"{CUSTODY}/Hold", request).code is Status.RESOURCE_EXHAUSTED


def test_health_answers_without_token_and_reflection_with_one(net: Net) -> None:
    async def run() -> None:
        async with dial(net, MAKER) as channel:
            for service in ("", "medtrail.api.custody.v1.CustodyService"):
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S
                )
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            wanted = reflection_pb2.ServerReflectionRequest(list_services="")
            metadata = token(net, MAKER, audience=MAKER)
            answers = await answers_of(
                lambda: reflection.ServerReflectionInfo(iter([wanted]), timeout=PATIENCE_S, metadata=metadata)
            )
            names = {service.name for service in answers[0].list_services_response.service}
            assert {
                "medtrail.api.custody.v1.CustodyService",
                "medtrail.api.manufacturer.v1.ManufacturerService",
                "medtrail.api.recall.v1.RecallService",
                "grpc.health.v1.Health",
            } <= names
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answers_of(lambda: reflection.ServerReflectionInfo(iter([wanted]), timeout=PATIENCE_S))
            assert caught.value.code() is Status.UNAUTHENTICATED

    asyncio.run(run())


# --- page tokens ---


def test_refuses_page_token_of_another_caller_or_question(net: Net) -> None:
    method = f"{LEDGER_SERVICE}/ListEvents"

    async def first_page() -> str:
        async with net.session(MAKER) as session:
            answer = await session.ledger.ListEvents(ledger_pb2.ListEventsRequest(page_size=1))
            assert answer.next_page_token
            second = await session.ledger.ListEvents(
                ledger_pb2.ListEventsRequest(page_size=1, page_token=answer.next_page_token)
            )
            assert second.events[0].leaf_index == answer.events[0].leaf_index + 1
            return answer.next_page_token

    page = asyncio.run(first_page())
    swapped = ("A" if page[0] != "A" else "B") + page[1:]
    for caller, request in (
        (PHARMACY, ledger_pb2.ListEventsRequest(page_size=1, page_token=page)),
        (MAKER, ledger_pb2.ListEventsRequest(page_size=1, page_token=page, biz_step="shipping")),
        (MAKER, ledger_pb2.ListEventsRequest(page_size=1, page_token=swapped)),
        (MAKER, ledger_pb2.ListEventsRequest(page_size=1, page_token="no token")),
        (MAKER, ledger_pb2.ListEventsRequest(page_size=1, page_token="x" * 2000)),
    ):
        found = refused_as(net, caller, method, request, callee=LEDGER)
        assert (found.code, found.reason) == (Status.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
        assert found.fields == ("page_token",)
    found = refused_as(net, MAKER, method, ledger_pb2.ListEventsRequest(page_size=-1), callee=LEDGER)
    assert (found.code, found.reason, found.fields) == (Status.INVALID_ARGUMENT, "PAGE_SIZE_INVALID", ("page_size",))


# --- captured events ---


def commissioning(serial: str, *, moment: datetime | None = None, **others: Any) -> epcis_pb2.EpcisEvent:
    return epcis_pb2.EpcisEvent(
        **{
            "type": epcis_pb2.EVENT_TYPE_OBJECT,
            "event_time": codec.to_timestamp(moment or datetime.now(UTC)),
            "event_time_zone_offset": "+00:00",
            "action": epcis_pb2.ACTION_ADD,
            "epcs": [f"https://id.gs1.org/01/{GTIN}/21/{serial}"],
            "biz_step": "commissioning",
            "disposition": "active",
            "read_point": epcis_pb2.Place(id="https://id.gs1.org/414/0300011111116"),
            **others,
        }
    )


def captured(
    net: Net, caller: str, events: Sequence[epcis_pb2.EpcisEvent], *, id_: str | None = None
) -> custody_pb2.CaptureEventsResponse:
    """Capture a chunk and return the answer."""

    async def run() -> custody_pb2.CaptureEventsResponse:
        async with net.session(caller) as session:

            async def requests() -> AsyncIterator[custody_pb2.CaptureEventsRequest]:
                yield custody_pb2.CaptureEventsRequest(request_id=id_ or request_id(), events=events)

            answers = [answer async for answer in session.custody.CaptureEvents(requests())]
            assert len(answers) == 1
            answer: custody_pb2.CaptureEventsResponse = answers[0]
            return answer

    return asyncio.run(run())


AHEAD = timedelta(minutes=10)
SHIPPED_BY_ANOTHER = {
    "action": epcis_pb2.ACTION_OBSERVE,
    "biz_step": "shipping",
    "sources": [epcis_pb2.SourceDest(type="owning_party", id="https://id.gs1.org/417/9521002000016")],
    "read_point": epcis_pb2.Place(id="https://id.gs1.org/414/9521002000016"),
}


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"biz_step": "teleporting"}, "BIZ_STEP_UNKNOWN", "events[1].bizStep"),
        ({"disposition": "vanished"}, "DISPOSITION_UNKNOWN", "events[1].disposition"),
        ({"epcs": ["https://id.gs1.org/01/00300010123456/21/1"]}, "CHECK_DIGIT_WRONG", "events[1].epcList[0]"),
        ({"epcs": []}, "FIELD_MISSING", "events[1].epcList"),
        ({"event_time_zone_offset": "+25:00"}, "OFFSET_MALFORMED", "events[1].eventTimeZoneOffset"),
        ({"action": epcis_pb2.ACTION_UNSPECIFIED}, "FIELD_MISSING", "events[1].action"),
        ({"type": epcis_pb2.EVENT_TYPE_UNSPECIFIED}, "EVENT_TYPE_UNKNOWN", "events[1].type"),
        ({"moment": AHEAD}, "EVENT_IN_FUTURE", "events[1].event_time"),
        (SHIPPED_BY_ANOTHER, "ACTOR_NOT_SIGNER", "events[1]"),
        (
            {"epcs": ["https://id.gs1.org/01/09521001000017/21/1"]},
            "PREFIX_NOT_OWNED",
            "events[1].gtin",
        ),
    ],
)
def test_refuses_chunk_for_its_one_bad_event_and_keeps_nothing(
    net: Net, wrong: dict[str, Any], code: str, field: str
) -> None:
    serial = f"H{uuid.uuid4().hex[:12]}"
    moment = datetime.now(UTC) + wrong["moment"] if "moment" in wrong else None
    bad = commissioning(serial + "B", **{**wrong, "moment": moment})
    answer = captured(net, MAKER, [commissioning(serial), bad])
    assert list(answer.events) == []
    assert [(error.event_number, error.code, error.field) for error in answer.errors] == [(1, code, field)]
    assert answer.errors[0].message
    unknown = refused_as(
        net,
        MAKER,
        f"{CUSTODY}/GetHolding",
        custody_pb2.GetHoldingRequest(epc=f"https://id.gs1.org/01/{GTIN}/21/{serial}"),
    )
    assert (unknown.code, unknown.reason, unknown.fields) == (Status.NOT_FOUND, "UNIT_UNKNOWN", ("epc",))


def test_takes_event_a_little_ahead_and_one_of_long_ago(net: Net) -> None:
    now = datetime.now(UTC)
    serial = f"T{uuid.uuid4().hex[:12]}"
    answer = captured(
        net,
        MAKER,
        [
            commissioning(serial + "A", moment=now + timedelta(minutes=4)),
            commissioning(serial + "B", moment=now - timedelta(days=3000)),
        ],
    )
    assert list(answer.errors) == []
    assert [event.resend for event in answer.events] == [False, False]


@pytest.mark.parametrize(
    ("events", "id_", "code", "field"),
    [
        ([], None, "CHUNK_SIZE", "events"),
        ([commissioning("N1")] * 501, None, "CHUNK_SIZE", "events"),
        ([commissioning("N1")], "not a UUID", "REQUEST_ID_MALFORMED", "request_id"),
    ],
    ids=["empty", "too many", "request id"],
)
def test_refuses_chunk_as_a_whole(
    net: Net, events: list[epcis_pb2.EpcisEvent], id_: str | None, code: str, field: str
) -> None:
    answer = captured(net, MAKER, events, id_=id_)
    assert [(error.code, error.field) for error in answer.errors] == [(code, field)]


# --- scans ---


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "SCAN_EMPTY"),
        ("hello", "AI_UNKNOWN"),
        ("]d2\x1d", "ELEMENTS_MALFORMED"),
        ("\x1d\x1d\x1d", "AI_UNKNOWN"),
        ("(01)00300010123456(21)11(17)250327(10)A123", "CHECK_DIGIT_WRONG"),
        ("(01)00300010123455(21)11(17)251332(10)A123", "DATE_WRONG"),
        ("(01)00300010123455(21)11", "PACK_INCOMPLETE"),
        ("https://id.gs1.org/01/00300010123455/21/11", "PACK_INCOMPLETE"),
        ("]d2010030001012345521111725032710A123", "SCANNER_NOT_CONFIGURED"),
        ("0100300010123455" + "9" * 9000, "TOO_LARGE"),
    ],
)
def test_scan_that_cannot_be_read_says_why(net: Net, text: str, reason: str) -> None:
    async def run() -> None:
        async with net.session(DISTRIBUTOR) as session:
            good = "(01)00300010123455(21)NEVERMADE(17)350327(10)A123"

            async def requests() -> AsyncIterator[custody_pb2.ScanIncomingRequest]:
                for number, scan in enumerate((text, good)):
                    yield custody_pb2.ScanIncomingRequest(scan_number=number, scan=scan)

            bad, unknown = [answer async for answer in session.custody.ScanIncoming(requests())]
            assert (bad.scan_number, unknown.scan_number) == (0, 1)
            assert bad.verdict.code == verdict_pb2.VERDICT_CODE_UNREADABLE
            assert bad.verdict.action == verdict_pb2.VERDICT_ACTION_RESCAN
            assert bad.verdict.reason == reason
            assert bad.verdict.message
            assert not bad.verdict.epc
            assert unknown.verdict.code == verdict_pb2.VERDICT_CODE_UNKNOWN, "the stream goes on"

    asyncio.run(run())


# --- goods ---


@dataclass(frozen=True)
class Case:
    """A request that is refused, and how."""

    caller: str
    method: str
    request: Message
    expected: tuple[grpc.StatusCode, str, tuple[str, ...]]


NEVER = f"https://id.gs1.org/01/{GTIN}/21/NEVERMADE"
PHARMACY_SERVICE = "/medtrail.api.pharmacy.v1.PharmacyService"
MANUFACTURER_SERVICE = "/medtrail.api.manufacturer.v1.ManufacturerService"
CASES = {
    "dispensing what is not held": Case(
        PHARMACY,
        f"{PHARMACY_SERVICE}/Dispense",
        pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=[NEVER]),
        (Status.NOT_FOUND, "UNIT_UNKNOWN", ("epcs[0]",)),
    ),
    "dispensing a pallet": Case(
        PHARMACY,
        f"{PHARMACY_SERVICE}/Dispense",
        pharmacy_pb2.DispenseRequest(request_id=request_id(), epcs=["(00)403000112345678901"]),
        (Status.INVALID_ARGUMENT, "UNIT_NOT_PACK", ("epcs[0]",)),
    ),
    "shipping what is not held": Case(
        MAKER,
        f"{CUSTODY}/Ship",
        custody_pb2.ShipRequest(request_id=request_id(), epcs=[NEVER], destination_party="0399999999991"),
        (Status.NOT_FOUND, "UNIT_UNKNOWN", ("epcs[0]",)),
    ),
    "shipping to a GLN that is none": Case(
        MAKER,
        f"{CUSTODY}/Ship",
        custody_pb2.ShipRequest(request_id=request_id(), epcs=[NEVER], destination_party="0399999999992"),
        (Status.INVALID_ARGUMENT, "CHECK_DIGIT_WRONG", ("destination_party",)),
    ),
    "nothing named": Case(
        MAKER,
        f"{CUSTODY}/Hold",
        custody_pb2.HoldRequest(request_id=request_id(), reason="look"),
        (Status.INVALID_ARGUMENT, "FIELD_MISSING", ("epcs",)),
    ),
    "one unit twice": Case(
        MAKER,
        f"{CUSTODY}/Hold",
        custody_pb2.HoldRequest(request_id=request_id(), epcs=[NEVER, NEVER], reason="look"),
        (Status.INVALID_ARGUMENT, "UNIT_TWICE", ("epcs[1]",)),
    ),
    "a class, not a pack": Case(
        MAKER,
        f"{CUSTODY}/GetHolding",
        custody_pb2.GetHoldingRequest(epc=f"https://id.gs1.org/01/{GTIN}"),
        (Status.INVALID_ARGUMENT, "UNIT_NOT_SERIALISED", ("epc",)),
    ),
    "a wrong check digit": Case(
        MAKER,
        f"{CUSTODY}/GetHolding",
        custody_pb2.GetHoldingRequest(epc="(01)00300010123456(21)1"),
        (Status.INVALID_ARGUMENT, "CHECK_DIGIT_WRONG", ("epc",)),
    ),
    "no UUID": Case(
        MAKER,
        f"{CUSTODY}/Hold",
        custody_pb2.HoldRequest(request_id="7", epcs=[NEVER], reason="look"),
        (Status.INVALID_ARGUMENT, "REQUEST_ID_MALFORMED", ("request_id",)),
    ),
    "ten minutes ahead": Case(
        MAKER,
        f"{CUSTODY}/Hold",
        custody_pb2.HoldRequest(
            request_id=request_id(),
            epcs=[NEVER],
            reason="look",
            occasion=custody_pb2.Occasion(event_time=codec.to_timestamp(datetime.now(UTC) + timedelta(days=365))),
        ),
        (Status.FAILED_PRECONDITION, "EVENT_IN_FUTURE", ("occasion.event_time",)),
    ),
    "another's location": Case(
        MAKER,
        f"{CUSTODY}/Hold",
        custody_pb2.HoldRequest(
            request_id=request_id(),
            epcs=[NEVER],
            reason="look",
            occasion=custody_pb2.Occasion(location="9521002000016"),
        ),
        (Status.PERMISSION_DENIED, "LOCATION_NOT_OWN", ("occasion.location",)),
    ),
    "making another's packs": Case(
        MAKER,
        f"{MANUFACTURER_SERVICE}/Commission",
        manufacturer_pb2.CommissionRequest(
            request_id=request_id(), gtin="09521001000017", lot="A", expiry="2035-01-31", serials=["1"]
        ),
        (Status.PERMISSION_DENIED, "PREFIX_NOT_OWNED", ("gtin",)),
    ),
    "a lot without its GTIN": Case(
        MAKER,
        f"{CUSTODY}/ListHoldings",
        custody_pb2.ListHoldingsRequest(lot="A123"),
        (Status.INVALID_ARGUMENT, "FIELD_MISSING", ("gtin",)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refuses_request_with_code_reason_and_field(net: Net, name: str) -> None:
    case = CASES[name]
    found = refused_as(net, case.caller, case.method, case.request)
    assert (found.code, found.reason, found.fields) == case.expected
    assert found.facts["error_kind"].endswith("Error")


def test_refuses_request_bytes_that_are_no_message(net: Net) -> None:
    async def run() -> grpc.StatusCode:
        async with dial(net, MAKER) as channel:
            call: Call = channel.unary_unary(f"{CUSTODY}/Hold")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\xff\xff\xff", timeout=PATIENCE_S, metadata=token(net, MAKER, audience=MAKER))
            return caught.value.code()

    # What gRPC itself answers, before any code of ours sees the call.
    assert asyncio.run(run()) in {Status.UNKNOWN, Status.INTERNAL}


# --- repeated requests ---


async def commission(session: Session, id_: str, serials: Sequence[str]) -> manufacturer_pb2.CommissionResponse:
    answer: manufacturer_pb2.CommissionResponse = await session.manufacturer.Commission(
        manufacturer_pb2.CommissionRequest(
            request_id=id_, gtin=GTIN, lot="REPEAT", expiry="2035-01-31", serials=serials
        )
    )
    return answer


def test_same_request_gets_the_same_answer_and_another_under_its_id_is_refused(net: Net) -> None:
    async def run() -> None:
        serial = f"R{uuid.uuid4().hex[:12]}"
        id_ = request_id()
        async with net.session(MAKER) as session:
            first = await commission(session, id_, [serial])
            assert await commission(session, id_, [serial]) == first
            with pytest.raises(MedtrailError) as caught:
                await commission(session, id_, [serial, serial + "B"])
            assert (caught.value.code, caught.value.field) == ("REQUEST_ID_REUSED", "request_id")
            with pytest.raises(MedtrailError) as caught:
                await commission(session, request_id(), [serial])
            assert (caught.value.code, caught.value.field) == ("ALREADY_COMMISSIONED", "serials[0]")
            found = await session.custody.ListHoldings(custody_pb2.ListHoldingsRequest(gtin=GTIN, lot="REPEAT"))
            assert [item.epc.rpartition("/")[2] for item in found.holdings].count(serial) == 1
            assert not any(item.epc.endswith(serial + "B") for item in found.holdings)

    asyncio.run(run())


# --- the ledger ---


@pytest.mark.parametrize(
    ("method", "request_", "reason", "field"),
    [
        ("TracePack", ledger_pb2.TracePackRequest(epc="(01)00300010123456(21)1"), "CHECK_DIGIT_WRONG", "epc"),
        ("TraceLot", ledger_pb2.TraceLotRequest(gtin="1", lot="A"), None, "gtin"),
        ("TraceLot", ledger_pb2.TraceLotRequest(gtin=GTIN), None, "lot"),
        ("VerifyPack", ledger_pb2.VerifyPackRequest(epc="(01)00300010123456(21)1"), "CHECK_DIGIT_WRONG", "epc"),
        ("ListEvents", ledger_pb2.ListEventsRequest(actor="0399999999992"), "CHECK_DIGIT_WRONG", "actor"),
        ("GetInclusionProof", ledger_pb2.GetInclusionProofRequest(), None, "event"),
        (
            "GetInclusionProof",
            ledger_pb2.GetInclusionProofRequest(signed_event_sha256=b"short"),
            None,
            "signed_event_sha256",
        ),
        ("GetConsistencyProof", ledger_pb2.GetConsistencyProofRequest(), None, "old_size"),
        ("ListEvents", ledger_pb2.ListEventsRequest(payload_types=[PayloadType.EPCIS] * 11), None, "payload_types"),
    ],
)
def test_ledger_refuses_malformed_question_with_its_field(
    net: Net, method: str, request_: Message, reason: str | None, field: str
) -> None:
    found = refused_as(net, PHARMACY, f"{LEDGER_SERVICE}/{method}", request_, callee=LEDGER)
    assert (found.code, found.fields) == (Status.INVALID_ARGUMENT, (field,))
    assert found.reason
    assert reason in {None, found.reason}


def test_every_organisation_but_a_stranger_may_ask_the_ledger(net: Net) -> None:
    async def run() -> None:
        for item in net.running.organisations:
            async with net.session(item.name) as session:
                answer = await session.ledger.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
                assert session.open_checkpoint(answer.checkpoint).checkpoint.origin == net.running.origin
                assert Gln(item.gln) == folder_of(net, item.name).gln

    asyncio.run(run())
