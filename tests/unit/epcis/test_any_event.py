"""Events of any content come back from JSON-LD and from both versions of XML, and keep their hash."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtrail.epcis import (
    Action,
    BizTransaction,
    EpcisDocument,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Extension,
    PersistentDisposition,
    Place,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
    SourceDest,
    event_from_json,
    event_hash,
    event_to_json,
    read_json,
    read_xml,
    write_json,
    write_xml,
)

URIS = st.one_of(
    st.from_regex(r"urn:x:[A-Za-z0-9.:-]{1,12}", fullmatch=True),
    st.from_regex(r"https://[a-z]{1,6}\.example/[A-Za-z0-9/?=&;#%]{0,12}", fullmatch=True),
    st.integers(0, 10**6).map("urn:epc:id:sgtin:030001.0012345.{}".format),
    st.integers(0, 10**6).map("https://id.gs1.org/01/00300010123455/21/{}".format),
)
# Words that look like numbers, times, keywords, markup or CURIEs stay words.
WORDS = st.one_of(
    st.sampled_from(
        ["1e3", "007", "true", "null", "<a>&amp;", "a:b", "]]>", '"', "\\u0041", "{}", "2026-05-04T10:00:00Z"]
    ),
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=9
    ),
)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
NUMBERS = st.decimals("-1e12", "1e12", allow_nan=False, allow_infinity=False, places=4)
EXTENSIONS = st.lists(
    st.builds(
        Extension,
        st.sampled_from(["urn:ext:", "https://ns.example.com/b#"]),
        st.sampled_from(["a", "b", "c"]),
        st.one_of(
            WORDS, NUMBERS, st.booleans(), st.just((Extension("urn:ext:", "in", "1"), Extension("", "plain", "2")))
        ),
        st.sampled_from([(), (("", "unit", "KGM"),), (("urn:ext:", "id", "1"), ("", "id", "2"))]),
    ),
    max_size=3,
).map(tuple)


def several(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=3).map(tuple)


def perhaps(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), items)


QUANTITIES = several(
    st.builds(QuantityElement, URIS, perhaps(NUMBERS.filter(lambda number: number > 0)), perhaps(st.just("KGM")))
)
PLACES = perhaps(st.builds(Place, URIS, EXTENSIONS))
PARTIES = several(st.builds(SourceDest, st.sampled_from(["owning_party", "location", "urn:x:own"]), URIS))
# Attributes of XML: an extension of text is one, and two of one name cannot be.
MARKS = st.lists(
    st.builds(Extension, st.just("urn:ext:"), st.sampled_from(["m", "n"]), WORDS),
    max_size=2,
    unique_by=lambda item: item.name,
).map(tuple)
METADATA = st.builds(SensorMetadata, *[perhaps(MOMENTS)] * 3, *[perhaps(URIS)] * 5, extensions=MARKS)
REPORTS = st.builds(
    SensorReport,
    type=perhaps(st.sampled_from(["Temperature", "urn:x:own"])),
    exception=perhaps(st.just("ALARM_CONDITION")),
    time=perhaps(MOMENTS),
    value=perhaps(NUMBERS),
    component=perhaps(st.sampled_from(["x", "urn:x:own"])),
    string_value=perhaps(WORDS),
    boolean_value=perhaps(st.booleans()),
    hex_binary_value=perhaps(st.just("f0")),
    uri_value=perhaps(URIS),
    perc_value=perhaps(NUMBERS),
    uom=perhaps(st.just("CEL")),
    extensions=MARKS,
)
SENSORS = several(st.builds(SensorElement, perhaps(METADATA), several(REPORTS), EXTENSIONS))
LISTS = {
    EventType.OBJECT: ("epc_list", "quantity_list", "ilmd"),
    EventType.AGGREGATION: ("parent_id", "child_epcs", "child_quantity_list"),
    EventType.TRANSACTION: ("parent_id", "epc_list", "quantity_list"),
    EventType.TRANSFORMATION: (
        "input_epc_list", "input_quantity_list", "output_epc_list", "output_quantity_list", "transformation_id", "ilmd",
    ),
    EventType.ASSOCIATION: ("parent_id", "child_epcs", "child_quantity_list"),
}  # fmt: skip
KINDS = {"parent_id": perhaps(URIS), "transformation_id": perhaps(URIS), "ilmd": EXTENSIONS}


WORD_LISTS = st.lists(st.sampled_from(["recalled", "urn:x:own"]), max_size=2).map(tuple)
COMMON = {
    "event_time": MOMENTS,
    "event_time_zone_offset": st.sampled_from(["+00:00", "-05:30"]),
    "record_time": perhaps(MOMENTS),
    "event_id": perhaps(URIS),
    "error_declaration": perhaps(
        st.builds(ErrorDeclaration, MOMENTS, perhaps(st.just("incorrect_data")), several(URIS), EXTENSIONS)
    ),
    "biz_step": perhaps(st.sampled_from(["shipping", "urn:x:own", "own_word"])),
    "disposition": perhaps(st.sampled_from(["in_transit", "https://x.example/own"])),
    "read_point": PLACES,
    "biz_location": PLACES,
    "biz_transaction_list": several(st.builds(BizTransaction, URIS, perhaps(st.just("po")))),
    "source_list": PARTIES,
    "destination_list": PARTIES,
    "extensions": EXTENSIONS,
}
LATER = {
    "certification_info": several(URIS),
    "sensor_element_list": SENSORS,
    "persistent_disposition": perhaps(st.builds(PersistentDisposition, WORD_LISTS, WORD_LISTS)),
}


@st.composite
def events(draw: st.DrawFn, *, old: bool = False) -> EpcisEvent:
    """Return any event; ``old``: one that version 1.2 can say."""
    kind = draw(st.sampled_from([kind for kind in EventType if not (old and kind is EventType.ASSOCIATION)]))
    fields: dict[str, Any] = {**COMMON, **({} if old else LATER)}
    for name in LISTS[kind]:
        fields[name] = KINDS.get(name, QUANTITIES if "quantity" in name else several(URIS))
    if kind is not EventType.TRANSFORMATION:
        fields["action"] = st.sampled_from(Action)
    return EpcisEvent(type=kind, **{name: draw(found) for name, found in fields.items()})


MANY = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@MANY
@given(event=events())
def test_any_event_comes_back_from_json_and_xml(event: EpcisEvent) -> None:
    document = EpcisDocument((event,))

    from_json = read_json(write_json(document)).events[0]
    from_xml = read_xml(write_xml(document)).events[0]

    assert from_json == event
    assert from_xml == event
    assert read_xml(write_xml(read_json(write_json(EpcisDocument((from_xml,)))))).events[0] == event
    assert event_hash(from_json) == event_hash(from_xml) == event_hash(event)


@MANY
@given(event=events(old=True))
def test_any_event_that_version_1_2_can_say_comes_back_from_it(event: EpcisEvent) -> None:
    assert read_xml(write_xml(EpcisDocument((event,)), version="1.2")).events[0] == event


@given(number=st.decimals("-1e9", "1e9", allow_nan=False, allow_infinity=False, places=3))
def test_single_events_keep_what_floats_hold(number: Decimal) -> None:
    event = EpcisEvent(
        EventType.OBJECT, datetime(2026, 1, 1, tzinfo=UTC), "+00:00", extensions=(Extension("urn:ext:", "a", number),)
    )

    assert event_from_json(event_to_json(event)) == event
