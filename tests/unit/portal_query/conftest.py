"""An index filled by hand, without the service that it follows."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from medtrail.codec import encode_payload, encode_signed_event
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import Action, EpcisEvent, EventType
from medtrail.epcis.namespaces import Prefixes
from medtrail.event import Capture, Event, Header, Statement
from medtrail.gs1 import Gln
from medtrail.runtime.database import Database
from services.portal.query.parameters import read_query
from services.portal.query.tree import Query
from services.portal.repository import EventChange, EventRepository

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
