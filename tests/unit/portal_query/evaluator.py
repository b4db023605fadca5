"""A plain reading of the standard: whether an event satisfies a question, told from the event alone.

It shares nothing with the index but the model: it knows no facts, no keys that sort, and no SQL.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from medtrail.epcis.model import EpcisEvent, Extension, SourceDest
from medtrail.gs1 import parse_epc

# A site, and a place inside it.
SITE, INSIDE = "urn:epc:id:sgln:0300010.00000.0", "urn:epc:id:sgln:0300010.00000.A"


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
    inside = same(place.id, INSIDE)
    return name.startswith("WD_") and inside and any(same(SITE, value) for value in values)


def party_same(item: SourceDest, value: str) -> bool:
    return same(item.id, value)


def told_by_the_vocabularies(event: EpcisEvent, name: str, values: list[Any]) -> bool | None:
    if name == "eventType":
        return event.type.value in values
    if name in {"EQ_action", "EQ_bizStep", "EQ_disposition"}:
        have = {"EQ_action": event.action, "EQ_bizStep": event.biz_step, "EQ_disposition": event.disposition}[name]
        return have is not None and str(have) in values
    if name.startswith("EQ_persistentDisposition_"):
        found = event.persistent_disposition
        return found is not None and bool({*getattr(found, name.rpartition("_")[2])} & {*values})
    return None


def told_by_time_and_place(event: EpcisEvent, name: str, values: list[Any]) -> bool | None:
    if name in {"GE_eventTime", "LT_eventTime"}:
        moment = as_time(values[0])
        assert moment is not None
        return COMPARE[name[:2]](event.event_time, moment)
    if name in {"EQ_readPoint", "WD_readPoint", "EQ_bizLocation", "WD_bizLocation"}:
        return place_holds(event, name, values)
    return None


def told_by_papers_and_parties(event: EpcisEvent, name: str, values: list[Any]) -> bool | None:
    if name.startswith("EQ_bizTransaction_"):
        kind = name.removeprefix("EQ_bizTransaction_") or None
        return any(item.type == kind and item.id in values for item in event.biz_transaction_list)
    if name.startswith("EQ_source_"):
        kind = name.removeprefix("EQ_source_")
        return any(item.type == kind and party_same(item, each) for item in event.source_list for each in values)
    return None


def told_by_what_was_there(event: EpcisEvent, name: str, values: list[Any]) -> bool | None:
    if name.startswith("MATCH_") and name.endswith("Class"):
        lists = {"MATCH_epcClass": event.quantity_list, "MATCH_inputEPCClass": event.input_quantity_list}
        have_list = lists.get(name, event.quantity_list + event.input_quantity_list)
        return any(same(item.epc_class, each) for item in have_list for each in values)
    if name.startswith("MATCH_"):
        return any(fits(epc, each) for epc in epcs_of(event, name) for each in values)
    op, _, rest = name.partition("_")
    if rest.startswith("quantity"):
        uom = rest.partition("_")[2]
        return any(
            item.quantity is not None
            and (not uom or item.uom == uom)
            and any(COMPARE[op](item.quantity, Decimal(str(each))) for each in values)
            for item in event.quantity_list + event.input_quantity_list
        )
    return None


def told_by_the_error_declaration(event: EpcisEvent, name: str, values: list[Any]) -> bool | None:
    declaration = event.error_declaration
    if name == "EXISTS_errorDeclaration":
        return declaration is not None
    if name == "EQ_errorReason":
        return declaration is not None and declaration.reason in values
    if name == "GE_errorDeclaration_Time":
        moment = as_time(values[0])
        assert moment is not None
        return declaration is not None and declaration.declaration_time >= moment
    return None


def told_by_sensors(event: EpcisEvent, name: str, values: list[Any]) -> bool | None:
    reports = [report for element in event.sensor_element_list for report in element.reports]
    op, _, rest = name.partition("_")
    if name == "EXISTS_sensorElementList":
        return bool(event.sensor_element_list)
    if name == "EQ_type":
        return any(report.type in values for report in reports)
    if name == "EQ_booleanValue":
        return any(report.boolean_value is values[0] for report in reports)
    if rest == "time":
        moment = as_time(values[0])
        return any(report.time is not None and COMPARE[op](report.time, moment) for report in reports)
    if rest.startswith("value_"):
        # The parameter is in degrees Celsius.
        celsius = [
            (report.value - 32) * 5 / 9 if report.uom == "FAH" else report.value
            for report in reports
            if report.value is not None and report.uom is not None
        ]
        return any(COMPARE[op](have, Decimal(str(each))) for have in celsius for each in values)
    return None


def told_by_extensions(event: EpcisEvent, name: str, values: list[Any]) -> bool:
    op, _, rest = name.partition("_")
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


# Each answers for its own parameters, and nothing for those of others; what none answers for names an extension.
FAMILIES = (
    told_by_the_vocabularies,
    told_by_time_and_place,
    told_by_papers_and_parties,
    told_by_what_was_there,
    told_by_the_error_declaration,
    told_by_sensors,
)


def holds(event: EpcisEvent, name: str, value: Any) -> bool:
    """Whether an event satisfies one parameter."""
    values = value if isinstance(value, list) else [value]
    for family in FAMILIES:
        answer = family(event, name, values)
        if answer is not None:
            return answer
    return told_by_extensions(event, name, values)
