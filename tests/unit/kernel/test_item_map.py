"""From events to identifiers, map keys and log entries."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medtrail.epcis.model import Action, EpcisEvent, EventType, Extension, QuantityElement
from medtrail.errors import MalformedError
from medtrail.event import (
    Enrolment,
    ErasureConsent,
    ErasureOrder,
    Event,
    Genesis,
    Header,
    KeyAddition,
    KeyRetirement,
    KeyRevocation,
    PackLevel,
    Product,
    Recall,
    RecallScope,
    Refusal,
    Role,
    Statement,
)
from medtrail.gs1 import Gln, Gtin
from medtrail.item_map import identifiers, key_list_sha256, list_salt, log_entry, map_key

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "item_map.json").read_text())
NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
GLN = Gln("0300011111116")
GTIN = Gtin("00300010123455")
LOT = (Extension("urn:epcglobal:cbv:mda", "lotNumber", "A123"),)
HEADER = Header(bytes(32), GLN, "main", 1, "urn:uuid:1")


CASES: list[tuple[Statement, tuple[str, ...]]] = [
    (
        EpcisEvent(
            EventType.OBJECT, NOW, "+00:00", action=Action.ADD, ilmd=LOT, biz_step="commissioning",
            epc_list=("urn:epc:id:sgtin:030001.0012345.11", "https://id.gs1.org/01/00300010123455/21/11", "urn:x:box"),
        ),
        ("/01/00300010123455/10/A123", "/01/00300010123455/21/11", "urn:x:box"),
    ),
    (
        EpcisEvent(
            EventType.AGGREGATION, NOW, "+00:00", action=Action.ADD, parent_id="urn:epc:id:sscc:030001.41234567890",
            child_epcs=("urn:epc:id:sgtin:030001.1012345.110",),
            child_quantity_list=(QuantityElement("urn:epc:class:lgtin:030001.0012345.A123"),),
        ),
        ("/00/403000112345678901", "/01/00300010123455/10/A123", "/01/10300010123452/21/110"),
    ),
    (Product(GTIN, PackLevel.PACK, "x"), ("/01/00300010123455",)),
    (
        Recall("1", "retail", "x", "", NOW, (RecallScope(GTIN), RecallScope(GTIN, "L"), RecallScope(GTIN, "", ("1",)))),
        ("/01/00300010123455", "/01/00300010123455/10/L", "/01/00300010123455/21/1"),
    ),
    (Genesis("o", "did:key:a", bytes(32)), ("did:key:a",)),
    (
        Enrolment("m", "M", GLN, (), (), frozenset({Role.PHARMACY}), ("did:key:b",), bytes(32), "U"),
        ("/417/0300011111116", "did:key:b"),
    ),
    (KeyAddition(GLN, "did:key:c"), ("/417/0300011111116", "did:key:c")),
    (KeyRetirement("did:key:d"), ("did:key:d",)),
    (KeyRevocation("did:key:e", NOW), ("did:key:e",)),
    (Refusal(bytes(32), "", "X", "", "", 1, NOW), ()),
    (ErasureOrder(bytes(32), "x"), ()),
    (ErasureConsent(bytes(32), "x"), ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "expected"), CASES, ids=[f"{n}-{type(case[0]).__name__}" for n, case in enumerate(CASES)]
)
def test_event_belongs_to_what_it_names(statement: Statement, expected: tuple[str, ...]) -> None:
    assert identifiers(Event(HEADER, statement)) == expected


def test_keys_and_entry_equal_the_known_answers() -> None:
    vector = VECTORS["entry"]
    keys = [map_key(bytes.fromhex(vector["map_salt"]), text) for text in vector["identifiers"]]
    salt = bytes.fromhex(vector["event_salt"])
    entry = log_entry(bytes.fromhex(vector["signed_event_sha256"]), key_list_sha256(salt, keys))

    assert [key.hex() for key in keys] == vector["map_keys"]
    assert entry.hex() == vector["entry"]


def test_key_list_does_not_depend_on_the_order_of_keys() -> None:
    keys = [hashlib.sha256(bytes([n])).digest() for n in range(5)]

    assert key_list_sha256(b"s" * 32, keys) == key_list_sha256(b"s" * 32, reversed(keys))
    assert list_salt(b"s" * 32) != list_salt(b"t" * 32)


@pytest.mark.parametrize(("one", "other"), [(31, 32), (32, 33)])
def test_refuses_entry_of_hashes_with_wrong_length(one: int, other: int) -> None:
    with pytest.raises(MalformedError) as caught:
        log_entry(bytes(one), bytes(other))
    assert caught.value.code == "HASH_LENGTH"
