"""The event hash on events of our own: what takes part, what does not, and how values are spelled."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.epcis import (
    Action,
    BizTransaction,
    EpcisEvent,
    EventType,
    Extension,
    PersistentDisposition,
    Place,
    QuantityElement,
    SourceDest,
    event_hash,
    prehash,
)
from medtrail.epcis.hash import format_time
from medtrail.errors import MalformedError
from medtrail.gs1 import parse_epc

SMALL = EpcisEvent(
    type=EventType.OBJECT,
    event_time=datetime(2020, 3, 4, 10, 0, 30, tzinfo=UTC),
    event_time_zone_offset="+01:00",
    action=Action.OBSERVE,
    epc_list=("urn:epc:id:sgtin:030001.0012345.12", "urn:epc:id:sgtin:030001.0012345.11"),
    biz_step="shipping",
)
SMALL_PREHASH = (
    "eventType=ObjectEventeventTime=2020-03-04T10:00:30.000ZeventTimeZoneOffset=+01:00"
    "epcListepc=https://id.gs1.org/01/00300010123455/21/11epc=https://id.gs1.org/01/00300010123455/21/12"
    "action=OBSERVEbizStep=https://ref.gs1.org/cbv/BizStep-shipping"
)


def test_prehash_is_spelled_as_the_standard_says() -> None:
    assert prehash(SMALL) == SMALL_PREHASH
    assert event_hash(SMALL) == f"ni:///sha-256;{hashlib.sha256(SMALL_PREHASH.encode()).hexdigest()}?ver=CBV2.0"


def test_ids_record_time_and_declaration_take_no_part(event: EpcisEvent) -> None:
    bare = replace(event, event_id=None, record_time=None, error_declaration=None)

    assert event_hash(event) == event_hash(bare)


@pytest.mark.parametrize(
    "change",
    [
        {"event_time": SMALL.event_time + timedelta(milliseconds=1)},
        {"event_time_zone_offset": "+02:00"},
        {"action": Action.ADD},
        {"epc_list": SMALL.epc_list[:1]},
        {"quantity_list": (QuantityElement("urn:epc:class:lgtin:030001.0012345.A", Decimal(1)),)},
        {"parent_id": "urn:x:1"},
        {"biz_step": "receiving"},
        {"disposition": "in_transit"},
        {"persistent_disposition": PersistentDisposition(("recalled",))},
        {"read_point": Place("urn:x:1")},
        {"biz_location": Place("urn:x:1")},
        {"biz_transaction_list": (BizTransaction("urn:x:1"),)},
        {"source_list": (SourceDest("location", "urn:x:1"),)},
        {"destination_list": (SourceDest("location", "urn:x:1"),)},
        {"certification_info": ("https://example.com/c",)},
        {"ilmd": (Extension("urn:x:", "a", "1"),)},
        {"extensions": (Extension("urn:x:", "a", "1"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_other_field_changes_the_hash(change: dict[str, object]) -> None:
    assert event_hash(replace(SMALL, **change)) != event_hash(SMALL)  # type: ignore[arg-type]  # one field each


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.50", Decimal("1.5")),
        ("007", Decimal(7)),
        ("+1e2", Decimal(100)),
        (" text ", "text"),
        ("urn:epcglobal:cbv:bizstep:shipping", "https://ref.gs1.org/cbv/BizStep-shipping"),
        ("urn:epc:id:sgln:030001.111111.0", "https://id.gs1.org/414/0300011111116"),
        ("true", True),
        ("", None),
    ],
)
def test_extension_values_of_one_meaning_hash_the_same(one: str, other: object) -> None:
    events = [replace(SMALL, extensions=(Extension("urn:x:", "a", value),)) for value in (one, other)]  # type: ignore[arg-type]  # as parsed

    assert event_hash(events[0]) == event_hash(events[1])


@pytest.mark.parametrize("text", ["1.2.3", "-", "1e999999999", "Infinity", "NaN", "12:30"])
def test_text_that_only_looks_like_a_number_stands_for_itself(text: str) -> None:
    assert f"}}a={text}" in prehash(replace(SMALL, extensions=(Extension("urn:x:", "a", text),)))


def test_comments_take_no_part_and_names_of_attributes_do() -> None:
    comment = Extension("http://www.w3.org/2000/01/rdf-schema#", "comment", "not hashed")
    marked = Extension("urn:x:", "a", "1", (("", "unit", "KGM"), ("urn:y:", "b", "2")))
    typed = Extension("urn:x:", "a", "1", (("http://www.w3.org/2001/XMLSchema-instance", "type", "xsd:integer"),))
    nested = Extension("urn:x:", "o", (comment, Extension("", "bare", "1")))

    assert event_hash(replace(SMALL, extensions=(comment,))) == event_hash(SMALL)
    assert prehash(replace(SMALL, extensions=(marked,))).endswith("{urn:x:}a=1unit=KGM{urn:y:}b=2")
    assert prehash(replace(SMALL, extensions=(typed,))).endswith("shipping{urn:x:}a=1")
    assert prehash(replace(SMALL, extensions=(nested,))).endswith("{urn:x:}obare=1")


def test_ignored_fields_take_no_part() -> None:
    event = replace(SMALL, extensions=(Extension("urn:x:", "added", "1"),))

    assert event_hash(event, ignored=frozenset({("urn:x:", "added")})) == event_hash(SMALL)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2020, 1, 1, 0, 0, 0, 500, tzinfo=UTC), "2020-01-01T00:00:00.000Z"),
        (datetime(2020, 1, 1, 0, 0, 0, 1500, tzinfo=UTC), "2020-01-01T00:00:00.002Z"),
        (datetime(2020, 1, 1, 0, 0, 0, 999600, tzinfo=UTC), "2020-01-01T00:00:01.000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 999600, tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_moments_are_rounded_to_milliseconds(moment: datetime, text: str) -> None:
    assert format_time(moment) == text


def test_hash_does_not_depend_on_the_order_of_lists() -> None:
    assert event_hash(replace(SMALL, epc_list=SMALL.epc_list[::-1])) == event_hash(SMALL)


def test_zone_is_not_the_moment() -> None:
    moment = SMALL.event_time.astimezone(timezone(timedelta(hours=5))).astimezone(UTC)

    assert event_hash(replace(SMALL, event_time=moment)) == event_hash(SMALL)


@given(
    start=st.sampled_from(
        [
            "urn:epc:id:sgtin:030001.0012345.",
            "urn:epc:id:sgtin:030001.00123456.",
            "urn:epc:id:sgtin:0300010.012345.",
            "https://id.gs1.org/01/00300010123455/21/",
            "https://id.gs1.org/01/00300010123456/21/",
            "http://pharma.example/01/00300010123455/21/",
            "https://pharma.example/x/01/00300010123455/21/",
        ]
    ),
    serial=st.text("aZ09-.%2F/_ ", min_size=0, max_size=22),
)
def test_packs_of_a_product_worked_out_once_are_what_they_were_one_by_one(start: str, serial: str) -> None:
    try:
        wanted = parse_epc(start + serial).digital_link
    except MalformedError:
        wanted = start + serial

    assert f"epcListepc={wanted}action" in prehash(replace(SMALL, epc_list=(start + serial,)))


def test_long_identifiers_are_hashed_and_not_kept() -> None:
    text = "https://id.example.com/" + "x" * 300

    assert f"readPointid={text}" in prehash(replace(SMALL, read_point=Place(text)))
