"""The portal's process killed with SIGKILL at many moments of a capture: each event is recorded once, none is lost."""

import asyncio
import json
import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from medtrail.runtime.portal_tokens import Scope, add_token

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.services.conftest import Client, Play, World

EVENTS = 600
# Ever later moments: while it reads, while the service captures, while it notes the answer.
PAUSES_S = (0.1, 0.6)
BEHAVIOURS = ("rollback", "proceed")
CONTEXT = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"


def _event(serial: int) -> dict[str, Any]:
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(seconds=serial)
    place = {"id": "urn:epc:id:sgln:030001.111111.0"}
    return {
        "type": "ObjectEvent",
        "eventTime": moment.isoformat(timespec="milliseconds"),
        "eventTimeZoneOffset": "+00:00",
        "action": "ADD",
        "epcList": [f"urn:epc:id:sgtin:030001.0012345.{serial}"],
        "bizStep": "commissioning",
        "disposition": "active",
        "readPoint": place,
        "bizLocation": place,
    }


def _document(behaviour: str) -> bytes:
    first = EVENTS * BEHAVIOURS.index(behaviour)
    events = [_event(first + serial) for serial in range(EVENTS)]
    if behaviour == "proceed":
        # The books refuse it wherever it stands: its pack was commissioned before.
        events[EVENTS // 2] = {**_event(first), "eventTime": "2026-03-09T12:00:00Z"}
    return json.dumps(
        {
            "@context": [CONTEXT],
            "type": "EPCISDocument",
            "schemaVersion": "2.0",
            "creationDate": "2026-03-01T12:00:00Z",
            "epcisBody": {"eventList": events},
        }
    ).encode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Process:
    """The portal's process, and starts of it."""

    def __init__(self, world: "World", maker: "Client", folder: "Path") -> None:
        self.url = f"http://127.0.0.1:{_free_port()}"
        tokens = folder / "tokens"
        self.token = add_token(tokens, "erp", frozenset({Scope.CAPTURE}), created=datetime.now(UTC))
        self._environment = {
            **{name: text for name, text in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"},
            "MEDTRAIL_PORTAL_ORG_DIR": str(world.network["maker"].path),
            "MEDTRAIL_PORTAL_DATA_DIR": str(folder / "data"),
            "MEDTRAIL_PORTAL_SERVICE_ADDRESS": maker.address,  # type: ignore[attr-defined]
            "MEDTRAIL_PORTAL_TOKEN_FILE": str(tokens),
            "MEDTRAIL_PORTAL_LISTEN": self.url.removeprefix("http://"),
            "MEDTRAIL_PORTAL_LOG_LEVEL": "error",
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.portal", env=self._environment
        )
        async with asyncio.timeout(180), httpx.AsyncClient() as client:
            while True:
                assert self._process.returncode is None
                try:
                    await client.get(f"{self.url}/health")
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
                else:
                    return

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await self._process.wait()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60)


async def _sent(client: httpx.AsyncClient, behaviour: str) -> str:
    headers = {"Content-Type": "application/ld+json", "GS1-Capture-Error-Behaviour": behaviour}
    answer = await client.post("/capture", content=_document(behaviour), headers=headers)
    assert answer.status_code == 202, answer.text
    return httpx.URL(answer.headers["Location"]).path


async def _done(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    async with asyncio.timeout(180):
        while True:
            job: dict[str, Any] = (await client.get(path)).json()
            if not job["running"]:
                return job
            await asyncio.sleep(0.02)


@pytest.mark.timeout(900)
def test_killed_capture_goes_on_and_records_nothing_twice(play: "Play", tmp_path: "Path") -> None:
    async def story(world: "World") -> None:
        maker = await world.start("maker")
        process = _Process(world, maker, tmp_path)
        await process.start()
        async with process.client() as client:
            paths = [await _sent(client, behaviour) for behaviour in BEHAVIOURS]
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            assert await process.end(signal.SIGKILL) == -signal.SIGKILL
            await process.start()
        async with process.client() as client:
            whole, partial = [await _done(client, path) for path in paths]
        assert (whole["success"], whole["medtrail:capturedCount"]) == (True, EVENTS)
        assert [error["event"] for error in partial["errors"]] == [EVENTS // 2]
        assert partial["medtrail:capturedCount"] == EVENTS - 1
        # In the books each event stands once.
        assert await _recorded(maker) == 2 * EVENTS - 1
        # A file goes once its end is noted.
        await world.eventually(lambda: list((tmp_path / "data" / "uploads").iterdir()) == [])
        assert await process.end(signal.SIGTERM) == 0

    play(story)


async def _recorded(maker: "Client") -> int:
    from sqlalchemy import text

    def count(connection: Any) -> int:
        return int(connection.execute(text("select count(*) from known_event where own")).scalar_one())

    return await maker.premises.office.database.read(count)
