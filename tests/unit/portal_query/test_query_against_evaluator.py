"""Random questions over random events: the index answers as a plain reading of the standard does, event by event."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from medtrail.epcis.model import (
    Action,
    BizTransaction,
    EpcisEvent,
    ErrorDeclaration,
    EventType,
    Extension,
    PersistentDisposition,
    Place,
    QuantityElement,
    SensorElement,
    SensorReport,
    SourceDest,
)
from tests.unit.portal_query.conftest import EXT, START, Shelf, query
from tests.unit.portal_query.evaluator import INSIDE, SITE, holds

# Each identifier in two spellings, so that every comparison across them is met.
EPCS = [
    "urn:epc:id:sgtin:0300010.012345.1",
    "https://id.gs1.org/01/00300010123455/21/1",
    "https://id.gs1.org/01/00300010123455/21/2",
    "urn:epc:id:sgtin:0300010.112345.1",
    "urn:epc:id:sscc:0300010.0000000001",
    "urn:x:thing",
]
CLASSES = ["urn:epc:class:lgtin:0300010.012345.L", "https://id.gs1.org/01/00300010123455/10/L", "urn:x:class"]
PLACES = [SITE, "https://a.example/414/0300010000008", INSIDE]
STEPS = ["shipping", "packing"]
NUMBERS = ["-2", "-1.5", "0", "1", "1.50", "2"]
TIMES = [START + timedelta(hours=hours) for hours in range(-1, 3)]
OFFSETS = st.sampled_from(TIMES)


def _some(values: list[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), max_size=2).map(tuple)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


_SCALARS = st.sampled_from([*NUMBERS, Decimal("1.5"), Decimal(2), True, None, "hello", "2026-03-01T08:00:00Z"])
_NAMES = st.sampled_from(["a", "b"])


def _extensions() -> st.SearchStrategy[tuple[Extension, ...]]:
    leaf = st.builds(Extension, st.just(EXT), _NAMES, _SCALARS)
    node = st.recursive(
        leaf,
        lambda inner: st.builds(Extension, st.just(EXT), _NAMES, st.lists(inner, min_size=1, max_size=2).map(tuple)),
        max_leaves=3,
    )
    return st.lists(node, max_size=2).map(tuple)


_QUANTITIES = st.lists(
    st.builds(
        QuantityElement,
        st.sampled_from(CLASSES),
        _maybe(st.sampled_from([Decimal(text) for text in NUMBERS])),
        _maybe(st.sampled_from(["KGM", "LTR"])),
    ),
    max_size=2,
).map(tuple)
_REPORTS = st.lists(
    st.builds(
        SensorReport,
        type=st.sampled_from(["Temperature", "Speed"]),
        value=_maybe(st.sampled_from([Decimal(text) for text in NUMBERS])),
        uom=_maybe(st.sampled_from(["CEL", "FAH"])),
        time=_maybe(OFFSETS),
        boolean_value=_maybe(st.booleans()),
    ),
    max_size=2,
).map(tuple)
EVENTS = st.builds(
    EpcisEvent,
    type=st.sampled_from(list(EventType)),
    event_time=OFFSETS,
    event_time_zone_offset=st.just("+00:00"),
    action=_maybe(st.sampled_from(list(Action))),
    epc_list=_some(EPCS),
    child_epcs=_some(EPCS),
    parent_id=_maybe(st.sampled_from(EPCS)),
    input_epc_list=_some(EPCS),
    output_epc_list=_some(EPCS),
    quantity_list=_QUANTITIES,
    input_quantity_list=_QUANTITIES,
    biz_step=_maybe(st.sampled_from(STEPS)),
    disposition=_maybe(st.sampled_from(["in_transit", "active"])),
    persistent_disposition=_maybe(
        st.builds(PersistentDisposition, set=_some(["damaged", "active"]), unset=_some(["damaged", "active"]))
    ),
    read_point=_maybe(st.builds(Place, st.sampled_from(PLACES), _extensions())),
    biz_location=_maybe(st.builds(Place, st.sampled_from(PLACES))),
    biz_transaction_list=st.lists(
        st.builds(BizTransaction, st.sampled_from(["urn:x:1", "urn:x:2"]), _maybe(st.sampled_from(["po", "inv"]))),
        max_size=2,
    ).map(tuple),
    source_list=st.lists(
        st.builds(SourceDest, st.sampled_from(["location", "owning_party"]), st.sampled_from(PLACES)), max_size=1
    ).map(tuple),
    error_declaration=_maybe(st.builds(ErrorDeclaration, OFFSETS, _maybe(st.just("did_not_occur")))),
    sensor_element_list=st.lists(st.builds(SensorElement, reports=_REPORTS), max_size=1).map(tuple),
    ilmd=_extensions(),
    extensions=_extensions(),
)


# --- questions ---


def _list(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2)


_MOMENTS = OFFSETS.map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
_PATTERNS = [*EPCS, "urn:epc:idpat:sgtin:0300010.012345.*", "urn:epc:idpat:sgtin:0300010.*.*"]
_OPS = ["EQ", "GT", "GE", "LT", "LE"]
_COMPARED = st.sampled_from([*NUMBERS, "2026-03-01T08:00:00Z"])
QUESTIONS: dict[str, st.SearchStrategy[Any]] = {
    "eventType": _list([kind.value for kind in EventType]),
    "GE_eventTime": _MOMENTS,
    "LT_eventTime": _MOMENTS,
    "EQ_action": _list(["ADD", "OBSERVE", "DELETE"]),
    "EQ_bizStep": _list(STEPS),
    "EQ_disposition": _list(["in_transit", "active"]),
    "EQ_persistentDisposition_set": _list(["damaged", "active"]),
    "EQ_persistentDisposition_unset": _list(["damaged", "active"]),
    "EQ_bizTransaction_po": _list(["urn:x:1", "urn:x:2"]),
    "EQ_bizTransaction_": _list(["urn:x:1", "urn:x:2"]),
    "EQ_source_location": _list(PLACES),
    "EQ_source_owning_party": _list(PLACES),
    "EXISTS_errorDeclaration": st.none(),
    "EQ_errorReason": _list(["did_not_occur"]),
    "GE_errorDeclaration_Time": _MOMENTS,
    "EXISTS_sensorElementList": st.none(),
    "EQ_type": _list(["Temperature", "Speed"]),
    "EQ_booleanValue": st.booleans(),
    "GE_time": _MOMENTS,
    "LT_time": _MOMENTS,
    **{f"{how}_{place}": _list(PLACES) for how in ("EQ", "WD") for place in ("readPoint", "bizLocation")},
    **{f"MATCH_{name}": _list(_PATTERNS) for name in ("epc", "parentID", "inputEPC", "outputEPC", "anyEPC")},
    **{f"MATCH_{name}": _list(CLASSES) for name in ("epcClass", "inputEPCClass", "anyEPCClass")},
    **{f"{op}_{what}": st.sampled_from(NUMBERS) for op in _OPS for what in ("quantity", "quantity_KGM", "value_CEL")},
    **{
        f"{op}_{where}ext:{name}": _COMPARED if op != "EQ" else _list([*NUMBERS, "hello", "true"])
        for op in _OPS
        for where in ("", "INNER_", "ILMD_", "INNER_ILMD_", "readPoint_")
        for name in ("a", "b")
    },
    **{f"EXISTS_{where}ext:a": st.none() for where in ("", "INNER_", "ILMD_", "INNER_ILMD_")},
}


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(QUESTIONS)), min_size=1, max_size=3, unique=True))
    return {name: draw(QUESTIONS[name]) for name in names}


def expected(events: list[EpcisEvent], asked: Mapping[str, Any]) -> list[int]:
    return [
        number
        for number, event in enumerate(events, 1)
        if all(holds(event, name, value) for name, value in asked.items())
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=8), st.lists(questions(), min_size=10, max_size=30))
def test_the_index_answers_as_the_standard_reads(events: list[EpcisEvent], asked: list[dict[str, Any]]) -> None:
    told = [
        replace(event, event_id=f"urn:uuid:00000000-0000-4000-8000-{number:012d}")
        for number, event in enumerate(events)
    ]
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "portal.db")
        try:
            shelf.add(*told)
            for parameters in asked:
                assert shelf.numbers(**parameters) == expected(told, parameters), parameters
            one_by_one = shelf.all_pages(query(orderBy="eventTime"), size=1)
            assert list(one_by_one) == shelf.numbers(orderBy="eventTime")
        finally:
            shelf.close()
