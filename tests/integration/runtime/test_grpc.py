import asyncio
import copy
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.api.distributor.v1 import distributor_pb2, distributor_pb2_grpc
from medtrail.api.exceptions.v1 import exceptions_pb2, exceptions_pb2_grpc
from medtrail.api.fmd.v1 import fmd_pb2, fmd_pb2_grpc
from medtrail.api.holds.v1 import holds_pb2, holds_pb2_grpc
from medtrail.api.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2, manufacturer_pb2_grpc
from medtrail.api.orders.v1 import orders_pb2, orders_pb2_grpc
from medtrail.api.pharmacy.v1 import pharmacy_pb2, pharmacy_pb2_grpc
from medtrail.api.recall.v1 import recall_pb2, recall_pb2_grpc
from medtrail.api.receiving.v1 import receiving_pb2, receiving_pb2_grpc
from medtrail.api.returns.v1 import returns_pb2, returns_pb2_grpc
from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.api.trust.v1 import trust_pb2, trust_pb2_grpc
from medtrail.api.verification.v1 import verification_pb2, verification_pb2_grpc
from medtrail.codec import decode_payload, decode_signed_event
from medtrail.envelope import verify_signatures
from medtrail.errors import (
    AuthenticationError,
    AuthorizationError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    RootMismatchError,
    TooLargeError,
    UnavailableError,
)
from medtrail.event import KeyRevocation
from medtrail.runtime.access import ACCESS, rule_of
from medtrail.runtime.client import connect
from medtrail.runtime.folder import StationFolder, create_station
from medtrail.runtime.server import Binding, Server, caller_of, serve
from medtrail.runtime.tokens import TokenMinter
from medtrail.trust import Registry
from tests.support.streams import answers_of

if TYPE_CHECKING:
    from tests.conftest import Eventually, Network

MODULES = (
    (custody_pb2, custody_pb2_grpc),
    (distributor_pb2, distributor_pb2_grpc),
    (ledger_pb2, ledger_pb2_grpc),
    (manufacturer_pb2, manufacturer_pb2_grpc),
    (pharmacy_pb2, pharmacy_pb2_grpc),
    (recall_pb2, recall_pb2_grpc),
    (fmd_pb2, fmd_pb2_grpc),
    (verification_pb2, verification_pb2_grpc),
    (station_pb2, station_pb2_grpc),
    (returns_pb2, returns_pb2_grpc),
    (receiving_pb2, receiving_pb2_grpc),
    (orders_pb2, orders_pb2_grpc),
    (holds_pb2, holds_pb2_grpc),
    (exceptions_pb2, exceptions_pb2_grpc),
    (trust_pb2, trust_pb2_grpc),
)
HEALTH = "/grpc.health.v1.Health"

Methods = dict[str, Callable[..., Any]]


def services() -> list[tuple[Any, Any]]:
    """Every service of the contracts, with the module of its stubs."""
    return [(service, stubs) for pb2, stubs in MODULES for service in pb2.DESCRIPTOR.services_by_name.values()]


def all_methods() -> list[tuple[str, Any]]:
    return [(f"/{service.full_name}/{method.name}", method) for service, _ in services() for method in service.methods]


def bind(**methods: Callable[..., Any]) -> list[Binding]:
    """Serve these methods of the contracts; all others answer with an empty message."""
    bindings = []
    for service, stubs in services():
        servicer = type(service.name, (), {})()
        for method in service.methods:
            behavior = methods.get(method.name) or _empty(method)
            setattr(servicer, method.name, behavior)
        add = getattr(stubs, f"add_{service.name}Servicer_to_server")
        bindings.append(Binding(service.full_name, add, servicer))
    return bindings


def _empty(method: Any) -> Callable[..., Any]:
    answer = method.output_type._concrete_class

    async def single(_request: object, _context: object) -> object:
        return answer()

    async def stream(requests: Any, _context: object) -> AsyncIterator[object]:
        if method.client_streaming:
            # As every servicer does: an answer before the question would end the call under the caller's hands.
            async for _ in requests:
                pass
        yield answer()

    return stream if method.server_streaming else single


def run(
    network: "Network",
    registry: Registry,
    story: Callable[[Server], Awaitable[None]],
    *,
    callee: str = "ledger",
    bindings: Sequence[Binding] | None = None,
    **options: Any,
) -> None:
    async def main() -> None:
        server = await serve(
            bind() if bindings is None else bindings,
            folder=network[callee],
            registry=lambda: registry,
            listen="127.0.0.1:0",
            **options,
        )
        try:
            await story(server)
        finally:
            await server.stop(0)

    asyncio.run(main())


def channel_of(
    network: "Network", server: Server, caller: str, *, callee: str = "ledger", **options: Any
) -> grpc.aio.Channel:
    return connect(server.address, folder=network[caller], audience=network[callee].gln, server=callee, **options)


async def call(channel: grpc.aio.Channel, path: str, method: Any) -> None:
    """Call a method with an empty request; raises what it raises."""
    request, answer = method.input_type._concrete_class, method.output_type._concrete_class
    options = {"request_serializer": request.SerializeToString, "response_deserializer": answer.FromString}

    async def requests() -> AsyncIterator[Any]:
        yield request()

    if method.client_streaming and method.server_streaming:
        answers: Any = channel.stream_stream(path, **options)(requests())
    elif method.server_streaming:
        answers = channel.unary_stream(path, **options)(request())
    else:
        assert not method.client_streaming
        await channel.unary_unary(path, **options)(request())
        return
    assert [each async for each in answers] == [answer()]


def _raw_method(channel: grpc.aio.Channel, path: str) -> Any:
    """Return a unary method that takes and gives bytes."""
    return channel.unary_unary(path)


# --- the table ---


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    ours = {path for path, _ in all_methods()}
    health = {f"{HEALTH}/{method.name}" for method in health_pb2.DESCRIPTOR.services_by_name["Health"].methods}
    reflection = {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}
    assert set(ACCESS) == ours | health | reflection


@pytest.mark.parametrize("callee", ["maker", "distributor", "pharmacy", "repackager", "ledger"])
def test_each_role_may_call_what_the_table_says_and_nothing_else(
    network: "Network", registry: Registry, callee: str
) -> None:
    async def story(server: Server) -> None:
        for caller, folder in network.organisations.items():
            channel = channel_of(network, server, caller, callee=callee)
            for path, method in all_methods():
                rule = rule_of(path)
                if rule.roles & folder.profile.roles and (not rule.own or caller == callee):
                    await call(channel, path, method)
                    continue
                with pytest.raises(AuthorizationError) as caught:
                    await call(channel, path, method)
                wanted = "CALLER_NOT_OWN" if rule.own and caller != callee else "ROLE_FORBIDS"
                assert caught.value.code == wanted, (caller, path)
            await channel.close()

    run(network, registry, story, callee=callee)


def with_station(network: "Network", registry: Registry, folder: Path) -> tuple[StationFolder, Registry]:
    """A till of the pharmacy, and a registry that knows its key."""
    station = create_station(folder / "till", "till", organisation=network["pharmacy"], authority=network.authority)
    return station, heard(registry, station.key_addition_bytes())


def heard(registry: Registry, statement: bytes) -> Registry:
    """A registry that has heard one more statement of the authority."""
    known = copy.deepcopy(registry)
    signed = decode_signed_event(statement)
    known.apply(known.next_index, verify_signatures(signed), decode_payload(signed.payload_type, signed.payload))
    return known


@pytest.mark.parametrize("callee", ["pharmacy", "ledger", "distributor"])
def test_key_of_a_station_opens_what_is_for_stations_and_nothing_else(
    network: "Network", registry: Registry, tmp_path: Path, callee: str
) -> None:
    station, known = with_station(network, registry, tmp_path)
    opened: set[str] = set()
    refused: set[str] = set()

    async def story(server: Server) -> None:
        async with connect(
            server.address, folder=station, audience=network[callee].gln, server=callee, person="anna"
        ) as channel:
            for path, method in all_methods():
                try:
                    await call(channel, path, method)
                except AuthorizationError as error:
                    refused.add(error.code)
                else:
                    opened.add(path.partition(".v1.")[2])

    run(network, known, story, callee=callee)
    desk = {"Scan", "Receive", "Dispense", "Hold", "Observe", "GetStatus", "Sync"}
    ours = {f"StationService/{name}" for name in ("FollowBooks", "SubmitEvents", "VerifyPack")}
    ours |= {f"StationDeskService/{name}" for name in desk}
    assert opened == (ours if callee == "pharmacy" else set())
    assert "STATION_FORBIDS" in refused
    assert refused <= {"STATION_FORBIDS", "CALLER_NOT_OWN", "ROLE_FORBIDS"}


async def _drain(answers: AsyncIterator[Any]) -> None:
    async for _ in answers:
        pass


def test_stream_ends_when_the_key_of_its_reader_does(network: "Network", registry: Registry, tmp_path: Path) -> None:
    station, known = with_station(network, registry, tmp_path)
    registries, told = [known], []

    async def follow(_request: object, _context: object) -> AsyncIterator[Any]:
        try:
            while True:
                yield station_pb2.FollowBooksResponse()
                await asyncio.sleep(0.01)
        finally:
            told.append("ended")

    async def story(server: Server) -> None:
        async with connect(
            server.address, folder=station, audience=network["pharmacy"].gln, server="pharmacy"
        ) as channel:
            stub = station_pb2_grpc.StationServiceStub(channel)
            answers = aiter(stub.FollowBooks(station_pb2.FollowBooksRequest(station="till")))
            await anext(answers)
            end = KeyRevocation(station.signing_key().key_id, datetime.now(UTC))
            registries[:] = [heard(known, network.authority.sign(end))]
            with pytest.raises(AuthenticationError) as caught:
                await _drain(answers)
            assert caught.value.code == "KEY_REVOKED"

    async def main() -> None:
        server = await serve(
            bind(FollowBooks=follow),
            folder=network["pharmacy"],
            registry=lambda: registries[0],
            listen="127.0.0.1:0",
        )
        try:
            async with asyncio.timeout(60):
                await story(server)
        finally:
            await server.stop(0)

    asyncio.run(main())
    assert told == ["ended"]


def test_method_outside_the_table_is_denied(network: "Network", registry: Registry) -> None:
    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker") as channel:
            path = "/medtrail.api.ledger.v1.LedgerService/DropEverything"
            with pytest.raises(AuthorizationError) as caught:
                await _raw_method(channel, path)(b"")
            assert caught.value.code == "METHOD_UNKNOWN"

    run(network, registry, story)


def test_method_of_a_service_that_is_not_served_here(network: "Network", registry: Registry) -> None:
    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker", attempts=1) as channel:
            with pytest.raises(MedtrailError) as caught:
                await ledger_pb2_grpc.LedgerServiceStub(channel).GetCheckpoint(ledger_pb2.GetCheckpointRequest())
            assert caught.value.code == "METHOD_UNIMPLEMENTED"

    run(network, registry, story, bindings=[])


# --- who calls ---


def test_servicer_learns_who_calls_on_every_kind_of_method(network: "Network", registry: Registry) -> None:
    seen: list[str] = []

    async def single(_request: object, context: Any) -> Any:
        seen.append(caller_of(context).organisation.name)
        return ledger_pb2.GetCheckpointResponse()

    async def watch(_request: object, context: Any) -> AsyncIterator[Any]:
        seen.append(caller_of(context).organisation.name)
        yield ledger_pb2.WatchCheckpointsResponse()

    async def scan(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            seen.append(caller_of(context).organisation.name)
            yield custody_pb2.ScanIncomingResponse()

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker", callee="maker") as channel:
            for path, method in all_methods():
                if method.name in {"GetCheckpoint", "WatchCheckpoints", "ScanIncoming"}:
                    await call(channel, path, method)

    bindings = bind(GetCheckpoint=single, WatchCheckpoints=watch, ScanIncoming=scan)
    run(network, registry, story, callee="maker", bindings=bindings)
    assert seen == ["maker"] * 3


def test_no_caller_outside_a_call() -> None:
    with pytest.raises(AuthenticationError):
        caller_of(None)  # type: ignore[arg-type]


def _raw_channel(network: "Network", server: Server, name: str = "ledger") -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(root_certificates=network["maker"].ca_certificate())
    return grpc.aio.secure_channel(
        server.address, credentials, options=[("grpc.ssl_target_name_override", f"{name}.medtrail.internal")]
    )


async def _code_with(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> grpc.StatusCode:
    try:
        await ledger_pb2_grpc.LedgerServiceStub(channel).GetCheckpoint(
            ledger_pb2.GetCheckpointRequest(), metadata=metadata
        )
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_refuses_missing_doubled_and_replayed_tokens(network: "Network", registry: Registry) -> None:
    maker = network["maker"]
    minter = TokenMinter(maker.signing_key(), issuer=maker.gln, audience=network["ledger"].gln)

    async def story(server: Server) -> None:
        async with _raw_channel(network, server) as channel:
            header = ("authorization", f"Bearer {minter.mint()}")
            assert await _code_with(channel) is grpc.StatusCode.UNAUTHENTICATED
            assert await _code_with(channel, ("authorization", "Basic x")) is grpc.StatusCode.UNAUTHENTICATED
            assert await _code_with(channel, header, header) is grpc.StatusCode.UNAUTHENTICATED
            assert await _code_with(channel, header) is grpc.StatusCode.OK
            assert await _code_with(channel, header) is grpc.StatusCode.UNAUTHENTICATED

    run(network, registry, story)


def test_client_refuses_a_server_that_is_another_organisation(network: "Network", registry: Registry) -> None:
    async def story(server: Server) -> None:
        channel = connect(
            server.address, folder=network["maker"], audience=network["pharmacy"].gln, server="pharmacy", attempts=1
        )
        with pytest.raises(UnavailableError):
            await trust_pb2_grpc.TrustServiceStub(channel).ListTrustEntries(trust_pb2.ListTrustEntriesRequest())
        await channel.close()

    run(network, registry, story)


def test_serves_no_plain_text(network: "Network", registry: Registry) -> None:
    async def story(server: Server) -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    run(network, registry, story)


# --- errors, limits, deadlines ---


@pytest.mark.parametrize(
    "error",
    [
        MalformedError("wanted a GTIN", code="GTIN_MALFORMED", field="units[0]", length=13),
        NotFoundError("no such pack"),
        RootMismatchError(expected=bytes(32), computed=bytes(31) + b"\x01"),
        TooLargeError("x" * 5000, field="y" * 5000, **{f"fact_{n}": "z" * 5000 for n in range(50)}),
    ],
    ids=lambda error: error.code,
)
def test_errors_arrive_as_they_were_raised(network: "Network", registry: Registry, error: MedtrailError) -> None:
    async def failing(_request: object, _context: object) -> Any:
        raise error

    async def failing_stream(_request: object, _context: object) -> AsyncIterator[Any]:
        yield ledger_pb2.WatchCheckpointsResponse()
        raise error

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker") as channel:
            stub = ledger_pb2_grpc.LedgerServiceStub(channel)
            with pytest.raises(type(error)) as caught:
                await stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
            assert type(caught.value) is type(error)
            assert caught.value.code == error.code
            assert error.message.startswith(caught.value.message)
            assert (error.field or "").startswith(caught.value.field or "")
            assert set(caught.value.facts) <= set(error.facts)
            with pytest.raises(type(error)):
                async for _ in stub.WatchCheckpoints(ledger_pb2.WatchCheckpointsRequest()):
                    pass

    run(network, registry, story, bindings=bind(GetCheckpoint=failing, WatchCheckpoints=failing_stream))


def test_unexpected_errors_leak_nothing(
    network: "Network", registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failing(_request: object, _context: object) -> Any:
        message = "password of the database"
        raise ValueError(message)

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker") as channel:
            with pytest.raises(MedtrailError) as caught:
                await ledger_pb2_grpc.LedgerServiceStub(channel).GetCheckpoint(ledger_pb2.GetCheckpointRequest())
            assert caught.value.code == "INTERNAL"
            assert "password" not in str(caught.value)

    run(network, registry, story, bindings=bind(GetCheckpoint=failing))
    capsys.readouterr()


def test_servicers_own_abort_stands(network: "Network", registry: Registry) -> None:
    async def failing(_request: object, context: Any) -> Any:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "too far")

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker") as channel:
            with pytest.raises(MalformedError) as caught:
                await ledger_pb2_grpc.LedgerServiceStub(channel).GetCheckpoint(ledger_pb2.GetCheckpointRequest())
            assert caught.value.message == "too far"

    run(network, registry, story, bindings=bind(GetCheckpoint=failing))


def test_refuses_message_above_four_mebibytes_and_lives_on(network: "Network", registry: Registry) -> None:
    async def story(server: Server) -> None:
        # The receiving side is under test, so the sender's own limit is off.
        async with channel_of(network, server, "maker", callee="maker") as channel:
            path = "/medtrail.api.custody.v1.CustodyService/Ship"
            raw = _raw_channel(network, server, "maker")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _raw_method(raw, path)(bytes(4 * 1024 * 1024 + 1))
            await raw.close()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "4194304" in (caught.value.details() or "")
            with pytest.raises(TooLargeError):
                await _raw_method(channel, path)(bytes(4 * 1024 * 1024 + 1))
            await custody_pb2_grpc.CustodyServiceStub(channel).Ship(custody_pb2.ShipRequest())

    run(network, registry, story, callee="maker")


def test_call_without_deadline_is_capped_and_the_method_cancelled(network: "Network", registry: Registry) -> None:
    cancelled = asyncio.Event()

    async def endless(_request: object, _context: object) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def story(server: Server) -> None:
        minter = TokenMinter(
            network["maker"].signing_key(), issuer=network["maker"].gln, audience=network["ledger"].gln
        )
        async with _raw_channel(network, server) as channel:
            header = ("authorization", f"Bearer {minter.mint()}")
            assert await _code_with(channel, header) is grpc.StatusCode.DEADLINE_EXCEEDED
            assert cancelled.is_set()

    run(network, registry, story, bindings=bind(GetCheckpoint=endless), longest_unary_s=0.05)


def test_client_sets_a_deadline_by_default_and_the_method_ends_with_it(
    network: "Network", registry: Registry, eventually: "Eventually"
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_request: object, _context: object) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker", deadline_s=0.3) as channel:
            # A call whose time was over on its way tells nothing of the method.
            while not begun.is_set():
                with pytest.raises(UnavailableError) as caught:
                    await ledger_pb2_grpc.LedgerServiceStub(channel).GetCheckpoint(ledger_pb2.GetCheckpointRequest())
                assert caught.value.code == "DEADLINE_EXCEEDED"
            await eventually(cancelled.is_set)

    run(network, registry, story, bindings=bind(GetCheckpoint=endless))


def test_reads_are_repeated_when_the_callee_is_away_and_writes_are_not(network: "Network", registry: Registry) -> None:
    calls: list[str] = []

    async def flaky(request: Any, _context: object) -> Any:
        calls.append(type(request).__name__)
        if len(calls) < 3:
            raise UnavailableError("not now")
        return custody_pb2.GetHoldingResponse()

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker", callee="maker") as channel:
            stub = custody_pb2_grpc.CustodyServiceStub(channel)
            await stub.GetHolding(custody_pb2.GetHoldingRequest())
            assert calls == ["GetHoldingRequest"] * 3
            calls.clear()
            with pytest.raises(UnavailableError):
                await stub.Ship(custody_pb2.ShipRequest())
            assert calls == ["ShipRequest"]

    run(network, registry, story, callee="maker", bindings=bind(GetHolding=flaky, Ship=flaky))


def test_more_calls_at_once_than_allowed_are_refused(
    network: "Network", registry: Registry, eventually: "Eventually"
) -> None:
    running = asyncio.Event()

    async def endless(_request: object, _context: object) -> Any:
        running.set()
        await asyncio.Event().wait()

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker") as channel:
            stub = ledger_pb2_grpc.LedgerServiceStub(channel)
            first = asyncio.ensure_future(stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest()))
            await eventually(running.is_set)
            with pytest.raises(MedtrailError) as caught:
                await stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest())
            assert caught.value.code == "RESOURCE_EXHAUSTED"
            first.cancel()

    run(network, registry, story, bindings=bind(GetCheckpoint=endless), most_concurrent=1)


# --- life ---


def test_health_needs_no_token_and_follows_the_process(network: "Network", registry: Registry) -> None:
    service = "medtrail.api.ledger.v1.LedgerService"

    async def story(server: Server) -> None:
        async with _raw_channel(network, server) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            async def state(name: str) -> int:
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                return int(answer.status)

            assert await state(service) == health_pb2.HealthCheckResponse.NOT_SERVING
            await server.set_serving(service, serving=True)
            assert await state(service) == health_pb2.HealthCheckResponse.SERVING

    run(network, registry, story, serving=False)


def test_reflection_is_for_members_and_tells_the_contracts(network: "Network", registry: Registry) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="medtrail.api.ledger.v1.LedgerService")

    async def story(server: Server) -> None:
        async with channel_of(network, server, "regulator") as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            answers = [each async for each in stub.ServerReflectionInfo(iter([request]))]
            files = [
                FileDescriptorProto.FromString(raw) for raw in answers[0].file_descriptor_response.file_descriptor_proto
            ]
            assert "medtrail.api.ledger.v1" in {file.package for file in files}
        async with _raw_channel(network, server) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answers_of(lambda: stub.ServerReflectionInfo(iter([request])))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    run(network, registry, story)


def test_second_server_does_not_share_the_port(network: "Network", registry: Registry) -> None:
    async def story(server: Server) -> None:
        with pytest.raises(UnavailableError) as caught:
            await serve([], folder=network["ledger"], registry=lambda: registry, listen=server.address)
        assert caught.value.code == "LISTEN_FAILED"

    run(network, registry, story)


def test_stop_lets_running_calls_end_and_takes_no_new_ones(
    network: "Network", registry: Registry, eventually: "Eventually"
) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def slow(_request: object, _context: object) -> Any:
        running.set()
        await release.wait()
        return ledger_pb2.GetCheckpointResponse(checkpoint=b"done")

    async def story(server: Server) -> None:
        async with channel_of(network, server, "maker", attempts=1) as channel:
            stub = ledger_pb2_grpc.LedgerServiceStub(channel)
            first = asyncio.ensure_future(stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest()))
            await eventually(running.is_set)
            stopping = asyncio.create_task(server.stop(60))
            host, _, port = server.address.rpartition(":")

            def closed() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex((host, int(port))) != 0

            await eventually(closed)
            release.set()
            assert (await first).checkpoint == b"done"
            await stopping

    run(network, registry, story, bindings=bind(GetCheckpoint=slow))


def test_unreachable_callee_is_unavailable(network: "Network") -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def main() -> None:
            folder = network["maker"]
            channel = connect(f"127.0.0.1:{port}", folder=folder, audience=folder.gln, server="ledger", attempts=2)
            with pytest.raises(UnavailableError) as caught:
                await ledger_pb2_grpc.LedgerServiceStub(channel).GetCheckpoint(ledger_pb2.GetCheckpointRequest())
            assert caught.value.code == "UNAVAILABLE"
            await channel.close()

        asyncio.run(main())
