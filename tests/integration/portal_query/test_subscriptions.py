"""Subscribers get every event that they ask for, in order, at least once: over HTTP and over WebSocket."""

import asyncio
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from medtrail.errors import UnavailableError
from medtrail.runtime.ca import create_ca, issue
from medtrail.runtime.tokens import utc_now
from services.portal.subscriptions.webhook import Reach, Webhooks
from tests.unit.portal_query.conftest import START, Rest, Shelf, object_event

if TYPE_CHECKING:
    from medtrail.epcis.model import EpcisEvent

SECRET = "s3cret"  # of a test


def event(second: int, biz_step: str = "shipping") -> "EpcisEvent":
    return object_event(event_time=START + timedelta(seconds=second), biz_step=biz_step)


def times(body: Any) -> list[str]:
    listed = body["epcisBody"]["queryResults"]["resultsBody"]["eventList"]
    return [item["eventTime"][17:19] for item in listed]


class Server(uvicorn.Server):
    """Says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an application on a free port of loopback."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    server = Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="websockets-sansio", **options))
    task = asyncio.create_task(server.serve(sockets=[taken]))
    await server.ready.wait()
    try:
        yield f"127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        taken.close()


class Receiver:
    """A subscriber's HTTP server: keeps what comes, and answers what it is told to."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()
        self.answers: list[Response] = []
        self.calls = 0
        self.called = asyncio.Event()
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST", "GET"])])

    async def _take(self, request: Request) -> Response:
        self.calls += 1
        self.called.set()
        body = await request.body()
        answer = self.answers.pop(0) if self.answers else Response(status_code=204)
        if answer.status_code < 300:
            await self.got.put((dict(request.headers), body))
        return answer

    async def bodies(self, count: int) -> list[Any]:
        return [json.loads((await self.got.get())[1]) for _ in range(count)]


class Stage:
    """A portal that serves, a subscriber that listens, and a client that asks."""

    def __init__(self, rest: Rest, address: str, receiver: Receiver, hook: str, client: httpx.AsyncClient) -> None:
        self.rest = rest
        self.address = address
        self.receiver = receiver
        self.hook = hook
        self.client = client

    async def add(self, *events: "EpcisEvent") -> None:
        shelf = self.rest.shelf
        await shelf.repository.apply([shelf.kept(item, record_time=utc_now()) for item in events])

    async def post(self, path: str, body: object) -> httpx.Response:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer

    async def subscribe(self, name: str = "shipped", **controls: Any) -> str:
        body = {"dest": f"http://{self.hook}/hook?a=b", "signatureToken": SECRET, **controls}
        ident: str = (await self.post(f"/queries/{name}/subscriptions", body)).json()["subscriptionID"]
        return ident

    def listen(self, query: str, name: str = "shipped") -> connect:
        url = f"ws://{self.address}/queries/{name}/events?{query}"
        return connect(url, additional_headers=self.rest.headers(), proxy=None)


Scene = Callable[[Stage], Awaitable[None]]


@asynccontextmanager
async def running(rest: Rest) -> AsyncIterator[None]:
    task = asyncio.create_task(rest.standing.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        async def main() -> None:
            shelf = Shelf(tmp_path / "portal.db")
            rest = Rest(shelf, tmp_path, utc_now, callback_private=True, callback_plain_http=True)
            receiver = Receiver()
            try:
                async with (
                    serving(rest.app) as address,
                    serving(receiver.app) as hook,
                    running(rest),
                    httpx.AsyncClient(base_url=f"http://{address}", headers=rest.headers(), timeout=60) as client,
                ):
                    stage = Stage(rest, address, receiver, hook, client)
                    await stage.post("/queries", {"name": "shipped", "query": {"EQ_bizStep": ["shipping"]}})
                    await scene(stage)
            finally:
                shelf.close()

        asyncio.run(main())

    return run


Play = Callable[[Scene], None]


def test_events_come_signed_and_in_order_as_they_are_captured(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.add(event(1))
        ident = await stage.subscribe(stream=True)
        await stage.add(event(2), event(3, "packing"), event(4))
        headers, body = await stage.receiver.got.get()
        document = json.loads(body)
        # What was there before the subscription is not news.
        assert times(document) == ["02", "04"]
        assert document["epcisBody"]["queryResults"]["subscriptionID"] == ident
        moment, _, digest = headers["gs1-signature"].partition(",v1=")
        wanted = hmac.new(SECRET.encode(), moment.removeprefix("t=").encode() + b"." + body, hashlib.sha256)
        assert digest == wanted.hexdigest()
        await stage.add(event(5, "packing"))
        await stage.add(event(6))
        (following,) = await stage.receiver.bodies(1)
        assert times(following) == ["06"]

    play(scene)


def test_earlier_events_come_from_the_moment_asked_for(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.add(event(1))
        since = utc_now()
        await stage.add(*(event(second) for second in range(2, 52)), *(event(second, "packing") for second in range(9)))
        await stage.subscribe(stream=True, initialRecordTime=since.isoformat())
        (document,) = await stage.receiver.bodies(1)
        assert times(document) == [f"{second:02d}" for second in range(2, 52)]

    play(scene)


def test_a_delivery_that_fails_is_tried_again_and_nothing_is_skipped(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.receiver.answers = [Response(status_code=500), RedirectResponse("/elsewhere"), Response(status_code=404)]
        ident = await stage.subscribe(stream=True)
        await stage.add(event(1))
        (document,) = await stage.receiver.bodies(1)
        # Three refusals and the delivery; the redirect was not followed.
        assert (times(document), stage.receiver.calls) == (["01"], 4)
        await stage.add(event(2))
        assert [times(body) for body in await stage.receiver.bodies(1)] == [["02"]]
        told = (await stage.client.get(f"/queries/shipped/subscriptions/{ident}")).json()
        assert (told["failedAttempts"], told["lastError"]) in {(0, ""), (0, None)}

    play(scene)


def test_a_certificate_must_be_for_the_name_that_the_subscriber_gave(tmp_path: Path) -> None:
    ca = create_ca("test", now=utc_now())
    leaf = issue(ca, "erp", now=utc_now(), hosts=("erp.example",))
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate)
    (tmp_path / "key.pem").write_bytes(leaf.private_key)
    tls = {"ssl_certfile": tmp_path / "leaf.pem", "ssl_keyfile": tmp_path / "key.pem"}

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    async def main() -> None:
        receiver = Receiver()
        trust = ssl.create_default_context(cadata=ca.certificate.decode())
        webhooks = Webhooks(Reach(private=True), resolve=resolve, trust=trust)
        try:
            async with serving(receiver.app, **tls) as address:
                port = address.rpartition(":")[2]
                await webhooks.post(f"https://erp.example:{port}/hook", b"{}", {})
                headers, body = await receiver.got.get()
                assert (headers["host"], body) == (f"erp.example:{port}", b"{}")
                with pytest.raises(UnavailableError) as caught:
                    await webhooks.post(f"https://other.example:{port}/hook", b"{}", {})
                assert (caught.value.code, receiver.calls) == ("DELIVERY_FAILED", 1)
        finally:
            await webhooks.close()

    asyncio.run(main())


def test_what_could_not_be_delivered_comes_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        receiver = Receiver()
        async with serving(receiver.app) as hook:
            for attempt in range(2):
                shelf = Shelf(tmp_path / "portal.db")
                rest = Rest(shelf, tmp_path, utc_now, callback_private=True, callback_plain_http=True)
                async with (
                    serving(rest.app) as address,
                    running(rest),
                    httpx.AsyncClient(base_url=f"http://{address}", headers=rest.headers(), timeout=60) as client,
                ):
                    stage = Stage(rest, address, receiver, hook, client)
                    if attempt == 0:
                        receiver.answers = [Response(status_code=503)] * 3
                        await stage.post("/queries", {"name": "shipped", "query": {}})
                        await stage.subscribe(stream=True)
                        await stage.add(event(1))
                        await receiver.called.wait()
                    else:
                        assert times((await receiver.bodies(1))[0]) == ["01"]
                shelf.close()

    asyncio.run(main())


def test_an_index_made_anew_brings_no_old_events_again(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        shelf = stage.rest.shelf
        await stage.subscribe(stream=True)
        old = shelf.kept(event(1), record_time=utc_now())
        await shelf.repository.apply([old])
        assert times((await stage.receiver.bodies(1))[0]) == ["01"]
        await shelf.repository.begin_anew()
        shelf.number = 0
        again = shelf.kept(event(0), record_time=old.record_time - timedelta(seconds=1))
        await shelf.repository.apply([again])
        await stage.add(event(2))
        assert times((await stage.receiver.bodies(1))[0]) == ["02"]

    play(scene)


def test_a_schedule_brings_what_came_since_and_says_when_nothing_did(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.subscribe(schedule={"second": "[0-59]"}, reportIfEmpty=True)
        (first,) = await stage.receiver.bodies(1)
        assert times(first) == []
        await stage.add(event(1), event(2))
        seen: list[str] = []
        while not seen:
            seen = times((await stage.receiver.bodies(1))[0])
        assert seen == ["01", "02"]

    play(scene)


def test_a_schedule_that_fails_is_tried_again(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.receiver.answers = [Response(status_code=500)]
        await stage.subscribe(schedule={"second": "[0-59]"})
        await stage.add(event(1))
        assert times((await stage.receiver.bodies(1))[0]) == ["01"]
        assert stage.receiver.calls == 2

    play(scene)


def test_more_events_than_one_delivery_holds_come_in_several(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.portal.subscriptions.feed.BATCH", 2)
    monkeypatch.setattr("services.portal.subscriptions.runner.NOTE_EVERY", 1)

    async def scene(stage: Stage) -> None:
        await stage.subscribe(stream=True)
        await stage.subscribe(schedule={"second": "[0-59]"})
        async with stage.listen("second=[0-59]") as scheduled:
            await stage.add(event(0, "packing"))
            await stage.add(*(event(second) for second in range(1, 6)))
            seen: list[str] = []
            while len(seen) < 10:
                seen += times((await stage.receiver.bodies(1))[0])
            assert sorted(seen) == sorted(2 * [f"{second:02d}" for second in range(1, 6)])
            told: list[str] = []
            while len(told) < 5:
                told += times(await message(scheduled))
            assert told == [f"{second:02d}" for second in range(1, 6)]

    play(scene)


def test_nothing_is_delivered_after_a_subscription_was_deleted(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gone = await stage.subscribe(stream=True)
        await stage.add(event(1))
        await stage.receiver.bodies(1)
        await stage.client.delete(f"/queries/shipped/subscriptions/{gone}")
        kept = await stage.subscribe(stream=True)
        await stage.add(event(2))
        (document,) = await stage.receiver.bodies(1)
        assert document["epcisBody"]["queryResults"]["subscriptionID"] == kept
        assert stage.receiver.got.empty()

    play(scene)


async def message(connection: ClientConnection) -> Any:
    return json.loads(await connection.recv())


def test_a_websocket_streams_events_until_its_query_is_deleted(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with (
            stage.listen("stream=true") as socket,
            stage.listen("stream=true&initialRecordTime=2026-01-01T00:00:00Z") as all_of_it,
        ):
            await stage.add(event(1))
            assert times(await message(socket)) == ["01"]
            await stage.add(event(2, "packing"), event(3))
            assert times(await message(socket)) == ["03"]
            assert times(await message(all_of_it)) == ["01"]
            await socket.send("ignored")
            assert (await stage.client.delete("/queries/shipped")).status_code == 204
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001

    play(scene)


def test_a_websocket_follows_a_schedule(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.listen("second=[0-59]&reportIfEmpty=true") as new:
            assert times(await message(new)) == []
            await stage.add(event(1))
            seen: list[str] = []
            while not seen:
                seen = times(await message(new))
            assert seen == ["01"]

    play(scene)


def test_a_websocket_is_refused_as_a_request_would_be(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        await stage.post("/queries", {"name": "some", "query": {"maxEventCount": 5}})
        cases = [
            ("stream=true", "none", {}, 404),
            ("", "shipped", {}, 400),
            ("EQ_action=ADD", "shipped", {}, 400),
            ("stream=true", "some", {}, 400),
            ("stream=true", "shipped", {"Authorization": "Bearer x"}, 401),
            ("stream=true", "shipped", stage.rest.headers("line"), 403),
        ]
        for query, name, headers, status in cases:
            url = f"ws://{stage.address}/queries/{name}/events?{query}"
            with pytest.raises(InvalidStatus) as caught:
                async with connect(url, additional_headers=headers or stage.rest.headers(), proxy=None):
                    pass
            assert (caught.value.response.status_code, query, name) == (status, query, name)

    play(scene)


def test_connections_are_bounded_in_number(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.portal.subscriptions.websocket.MOST_CONNECTIONS", 1)

    async def scene(stage: Stage) -> None:
        async with stage.listen("stream=true"):
            with pytest.raises(InvalidStatus) as caught:
                async with stage.listen("stream=true"):
                    pass
            assert caught.value.response.status_code == 503

    play(scene)
