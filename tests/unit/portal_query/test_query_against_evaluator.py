"""Random questions over random events: the index answers as a plain reading of the standard does, event by event.

The evaluator here shares nothing with the index but the model: it knows no facts, no keys that sort, and no SQL.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
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
from medtrail.gs1 import parse_epc
from tests.unit.portal_query.conftest import EXT, START, Shelf, query

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
PLACES = ["urn:epc:id:sgln:0300010.00000.0", "https://a.example/414/0300010000008", "urn:epc:id:sgln:0300010.00000.A"]
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


# --- the evaluator ---


def same(one: str, other: str) -> bool:
    """Whether two identifiers name the same."""
    if one == other:
        return True
    try:
        return parse_epc(one) == parse_epc(other)
    except ValueError:
        return False
    except Exception:  # noqa: BLE001  # no GS1 identifier
        return False


def as_number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def as_time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "GT": lambda one, other: one > other,
    "GE": lambda one, other: one >= other,
    "LT": lambda one, other: one < other,
    "LE": lambda one, other: one <= other,
    "EQ": lambda one, other: one == other,
}


def compares(op: str, have: Any, wanted: Any) -> bool:
    """Whether an extension's value compares so with a parameter's."""
    for reading in (as_number, as_time):
        one, other = reading(have), reading(wanted)
        if one is not None and other is not None and COMPARE[op](one, other):
            return True
    if op != "EQ" or have is None:
        return False
    text = str(have).lower() if isinstance(have, bool) else str(have)
    return text == str(wanted)


def nodes(extensions: tuple[Extension, ...], name: str, *, inner: bool) -> Iterator[Extension]:
    for extension in extensions:
        if not inner and extension.name == name:
            yield extension
        if inner and isinstance(extension.value, tuple):
            yield from nodes(extension.value, name, inner=False)
            yield from nodes(extension.value, name, inner=True)


def scope(event: EpcisEvent, prefix: str) -> tuple[Extension, ...]:
    if prefix == "ILMD_":
        return event.ilmd
    if prefix == "readPoint_":
        return () if event.read_point is None else event.read_point.extensions
    return event.extensions


def epcs_of(event: EpcisEvent, name: str) -> tuple[str, ...]:
    parent = () if event.parent_id is None else (event.parent_id,)
    lists: dict[str, tuple[str, ...]] = {
        "MATCH_epc": event.epc_list + event.child_epcs,
        "MATCH_parentID": parent,
        "MATCH_inputEPC": event.input_epc_list,
        "MATCH_outputEPC": event.output_epc_list,
    }
    return lists.get(name, (*event.epc_list, *event.child_epcs, *parent, *event.input_epc_list, *event.output_epc_list))


def fits(epc: str, wanted: str) -> bool:
    if wanted.startswith("urn:epc:idpat:sgtin:"):
        try:
            link = parse_epc(epc).path
        except Exception:  # noqa: BLE001  # no GS1 identifier
            return False
        reference = wanted.rsplit(":", maxsplit=1)[-1].split(".")[1]
        gtins = {"012345": ["00300010123455"], "112345": ["10300010123452"]}.get(
            reference, ["00300010123455", "10300010123452"]
        )
        return any(link.startswith(f"/01/{gtin}/21/") for gtin in gtins)
    return same(epc, wanted)


def place_holds(event: EpcisEvent, name: str, values: list[str]) -> bool:
    place = event.read_point if name.endswith("readPoint") else event.biz_location
    if place is None:
        return False
    if any(same(place.id, value) for value in values):
        return True
    inside = same(place.id, PLACES[2])
    return name.startswith("WD_") and inside and any(same(PLACES[0], value) for value in values)


def party_same(item: SourceDest, value: str) -> bool:
    return same(item.id, value)


def holds(event: EpcisEvent, name: str, value: Any) -> bool:  # noqa: C901, PLR0911, PLR0912  # one line a parameter
    """Whether an event satisfies one parameter."""
    values = value if isinstance(value, list) else [value]
    if name == "eventType":
        return event.type.value in values
    if name in {"EQ_action", "EQ_bizStep", "EQ_disposition"}:
        have = {"EQ_action": event.action, "EQ_bizStep": event.biz_step, "EQ_disposition": event.disposition}[name]
        return have is not None and str(have) in values
    if name.startswith("EQ_persistentDisposition_"):
        found = event.persistent_disposition
        return found is not None and bool({*getattr(found, name.rpartition("_")[2])} & {*values})
    if name in {"GE_eventTime", "LT_eventTime"}:
        moment = as_time(value)
        assert moment is not None
        return COMPARE[name[:2]](event.event_time, moment)
    if name in {"EQ_readPoint", "WD_readPoint", "EQ_bizLocation", "WD_bizLocation"}:
        return place_holds(event, name, values)
    if name.startswith("EQ_bizTransaction_"):
        kind = name.removeprefix("EQ_bizTransaction_") or None
        return any(item.type == kind and item.id in values for item in event.biz_transaction_list)
    if name.startswith("EQ_source_"):
        kind = name.removeprefix("EQ_source_")
        return any(item.type == kind and party_same(item, each) for item in event.source_list for each in values)
    if name.startswith("MATCH_") and name.endswith("Class"):
        lists = {"MATCH_epcClass": event.quantity_list, "MATCH_inputEPCClass": event.input_quantity_list}
        have_list = lists.get(name, event.quantity_list + event.input_quantity_list)
        return any(same(item.epc_class, each) for item in have_list for each in values)
    if name.startswith("MATCH_"):
        return any(fits(epc, each) for epc in epcs_of(event, name) for each in values)
    if name == "EXISTS_errorDeclaration":
        return event.error_declaration is not None
    if name == "EQ_errorReason":
        return event.error_declaration is not None and event.error_declaration.reason in values
    if name == "GE_errorDeclaration_Time":
        moment = as_time(value)
        assert moment is not None
        return event.error_declaration is not None and event.error_declaration.declaration_time >= moment
    op, _, rest = name.partition("_")
    if rest.startswith("quantity"):
        uom = rest.partition("_")[2]
        return any(
            item.quantity is not None
            and (not uom or item.uom == uom)
            and any(COMPARE[op](item.quantity, Decimal(str(each))) for each in values)
            for item in event.quantity_list + event.input_quantity_list
        )
    reports = [report for element in event.sensor_element_list for report in element.reports]
    if name == "EXISTS_sensorElementList":
        return bool(event.sensor_element_list)
    if name == "EQ_type":
        return any(report.type in values for report in reports)
    if name == "EQ_booleanValue":
        return any(report.boolean_value is value for report in reports)
    if rest == "time":
        moment = as_time(value)
        return any(report.time is not None and COMPARE[op](report.time, moment) for report in reports)
    if rest.startswith("value_"):
        # The parameter is in degrees Celsius.
        celsius = [
            (report.value - 32) * 5 / 9 if report.uom == "FAH" else report.value
            for report in reports
            if report.value is not None and report.uom is not None
        ]
        return any(COMPARE[op](have, Decimal(str(each))) for have in celsius for each in values)
    inner = rest.startswith("INNER_")
    rest = rest.removeprefix("INNER_")
    prefix = next((item for item in ("ILMD_", "readPoint_") if rest.startswith(item)), "")
    found_nodes = list(nodes(scope(event, prefix), rest.removeprefix(prefix).removeprefix("ext:"), inner=inner))
    if op == "EXISTS":
        return bool(found_nodes)
    return any(
        compares(op, node.value, each)
        for node in found_nodes
        for each in values
        if node.value != () and not isinstance(node.value, tuple)
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
