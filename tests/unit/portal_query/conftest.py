"""An index filled by hand, without the service that it follows."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from medtrail.codec import encode_payload, encode_signed_event
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.epcis.namespaces import Prefixes
from medtrail.event import Capture, Event, Header, Statement
from medtrail.gs1 import Gln
from medtrail.runtime.database import Database
from medtrail.runtime.portal_tokens import Scope, new_token, token_line
from medtrail.runtime.settings import PortalSettings
from services.portal.access import Access
from services.portal.app import build_app
from services.portal.indexing import EventChange
from services.portal.parts import PortalParts
from services.portal.query.parameters import read_query
from services.portal.query.tree import Query
from services.portal.repository import EventRepository
from services.portal.standing import StandingQueries

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
SIGNER = "0300010000008"
KEY = SigningKey(b"k" * 32)
EXT = "https://ns.example.com/epcis"
PREFIXES = Prefixes({"ext": EXT})


def object_event(**fields: Any) -> EpcisEvent:
    values: dict[str, Any] = {
        "type": EventType.OBJECT,
        "event_time": START,
        "event_time_zone_offset": "+00:00",
        "action": Action.OBSERVE,
    }
    return EpcisEvent(**(values | fields))


def query(prefixes: Prefixes = PREFIXES, **parameters: Any) -> Query:
    return read_query(parameters, prefixes)


def signed(statement: Statement, *, seq: int = 1, capture: Capture = Capture.FIRST_HAND) -> bytes:
    event_id = f"urn:uuid:00000000-0000-4000-8000-{seq:012d}"
    if isinstance(statement, EpcisEvent):
        event_id = statement.event_id or event_hash(statement)
        statement = replace(statement, event_id=None)
    header = Header(
        salt=seq.to_bytes(32, "big"),
        actor=Gln(SIGNER),
        source="main",
        source_seq=seq,
        event_id=event_id,
        capture=capture,
    )
    event = Event(header, statement)
    return encode_signed_event(sign(event.payload_type, encode_payload(event), KEY))


class Shelf:
    """An index and the changes that filled it; each event is recorded a second after the one before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.hashes: list[bytes] = []
        self.open()

    def open(self) -> None:
        self.database = Database(self.path)
        self.repository = EventRepository(self.database)
        self.repository.prepare()

    def close(self) -> None:
        self.database.close()

    def change(self, sha256: bytes, **fields: Any) -> EventChange:
        self.number += 1
        values: Mapping[str, Any] = {
            "number": self.number,
            "sha256": sha256,
            "record_time": START + timedelta(seconds=self.number),
            "signed_event": b"",
            "signer": SIGNER,
            "leaf_index": None,
            "refusal": "",
            "gone": False,
        }
        return EventChange(**{**values, **fields})

    def kept(self, statement: Statement, **fields: Any) -> EventChange:
        capture = fields.pop("capture", Capture.FIRST_HAND)
        data = signed(statement, seq=self.number + 1, capture=capture)
        sha256 = hashlib.sha256(data).digest()
        self.hashes.append(sha256)
        return self.change(sha256, **{"signed_event": data, **fields})

    def add(self, *statements: Statement) -> None:
        self.apply(*[self.kept(statement) for statement in statements])

    def apply(self, *changes: EventChange) -> None:
        asyncio.run(self.repository.apply(changes))

    def ask(self, asked: Query, *, size: int = 1000) -> list[EpcisEvent]:
        page = asyncio.run(self.repository.page(asked, size=size))
        return [found.event for found in page.events]

    def numbers(self, **parameters: Any) -> list[int]:
        page = asyncio.run(self.repository.page(query(**parameters), size=1000))
        return [found.number for found in page.events]

    def all_pages(self, asked: Query, *, size: int) -> Sequence[int]:
        async def read() -> list[int]:
            found: list[int] = []
            page = await self.repository.page(asked, size=size)
            found += [item.number for item in page.events]
            while page.following is not None:
                page = await self.repository.page(asked, size=size, position=page.following)
                assert len(page.events) <= size
                found += [item.number for item in page.events]
            return found

        return asyncio.run(read())


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "portal.db")
    yield made
    made.close()


class Silent:
    """A service that has nothing to tell."""

    async def WatchEvents(self, _request: Any, /) -> AsyncIterator[Any]:  # noqa: N802
        await asyncio.Event().wait()
        yield None


class Rest:
    """The REST interface over an index, asked without a network; a token for each scope."""

    def __init__(self, shelf: Shelf, folder: Path, clock: Callable[[], datetime], **settings: Any) -> None:
        self.shelf = shelf
        tokens = folder / "tokens"
        self.tokens: dict[str, str] = {}
        lines = []
        for name, scope in (("erp", Scope.QUERY), ("other", Scope.QUERY), ("line", Scope.CAPTURE)):
            self.tokens[name], record = new_token(name, frozenset({scope}), created=START)
            lines.append(token_line(record))
        tokens.write_text("\n".join(lines))
        tokens.chmod(0o600)
        self.settings = PortalSettings(
            **{
                "org_dir": folder,
                "data_dir": folder,
                "service_address": "127.0.0.1:1",
                "token_file": tokens,
                **settings,
            }
        )
        self.access = Access(tokens)
        parts = PortalParts(
            Gln(SIGNER),
            self.settings,
            shelf.database,
            Silent(),  # type: ignore[arg-type]
            shelf.repository,
            self.access,
        )
        self.standing = StandingQueries(parts, clock=clock, first_retry_s=0.01)
        self.app = build_app(self.standing.routes(), access=self.access, settings=self.settings, document=b"{}")

    def headers(self, name: str = "erp") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}

    def ask(self, method: str, path: str, *, caller: str = "erp", **options: Any) -> httpx.Response:
        headers = {**self.headers(caller), **options.pop("headers", {})}

        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://portal.example") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(main())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: object, **options: Any) -> httpx.Response:
        return self.ask("POST", path, json=body, **options)

    def events(self, path: str, **options: Any) -> list[str]:
        """The times of the events of an answer, in its order: each of ours is told by its own."""
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        listed = answer.json()["epcisBody"]["queryResults"]["resultsBody"]["eventList"]
        return [event["eventTime"] for event in listed]


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def rest(shelf: Shelf, tmp_path: Path, clock: HandClock) -> Rest:
    return Rest(shelf, tmp_path, clock)
