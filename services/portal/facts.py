"""What an event says, as facts to be looked up: (field, kind, value).

Fields of the standard go by the names that query parameters have for them; a business transaction, source or
destination has its type after a space, a measurement what its unit measures. A user extension goes by its scope and
``{namespace}name``: ``ext`` and ``inner`` at the event's top level and below, ``ilmd`` and ``inner_ilmd``, and so on.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import IntEnum

from medtrail.epcis import cbv
from medtrail.epcis.build import METADATA_FIELDS, REPORT_FIELDS, WORDS_OF_REPORT
from medtrail.epcis.hash import prehash
from medtrail.epcis.model import (
    EpcisEvent,
    ErrorDeclaration,
    Extension,
    QuantityElement,
    SensorElement,
    SensorMetadata,
    SensorReport,
)
from services.portal.measures import in_base, quantity_of
from services.portal.normal import (
    bounded,
    free_text,
    identifier,
    number_key,
    number_of,
    party,
    time_key,
    time_of,
    word,
)


class Kind(IntEnum):
    """How the value of a fact compares."""

    TEXT = 0
    NUMBER = 1
    TIME = 2
    PRESENT = 3


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that an event says.

    Attributes:
        field: Which field.
        kind: How it compares.
        value: In its one form; empty when it is only said to be there.
    """

    field: str
    kind: Kind
    value: str


UNITS_OF_MEASURE = frozenset({"value", "minValue", "maxValue", "meanValue", "sDev", "percValue"})
"""Sensor fields whose parameters name a unit."""

_EPC_LISTS = (
    ("epcList", "epc_list"),
    ("childEPCs", "child_epcs"),
    ("inputEPCList", "input_epc_list"),
    ("outputEPCList", "output_epc_list"),
)
_QUANTITY_LISTS = (
    ("epcClass", "quantity_list"),
    ("childEPCClass", "child_quantity_list"),
    ("inputEPCClass", "input_quantity_list"),
    ("outputEPCClass", "output_quantity_list"),
)


_URN = re.compile(r"(?i:urn:epc:)(?:id|class|idpat):[a-z]+:([0-9]{4,12})\.")


def company_prefixes(event: EpcisEvent) -> frozenset[str]:
    """Return the GS1 company prefixes that the EPC URNs of an event show."""
    texts = [epc for _, attribute in _EPC_LISTS for epc in getattr(event, attribute)]
    texts += [element.epc_class for _, attribute in _QUANTITY_LISTS for element in getattr(event, attribute)]
    texts += [item.id for item in (*event.source_list, *event.destination_list)]
    texts += [place.id for place in (event.read_point, event.biz_location) if place is not None]
    texts += [event.parent_id] if event.parent_id is not None else []
    return frozenset(match[1] for text in texts if (match := _URN.match(text)) is not None)


def measured(field: str, value: Decimal, uom: str) -> Fact:
    """Return the fact of a measurement, the same in every unit of its quantity."""
    base = in_base(value, uom, difference=field.endswith(".sDev"))
    return Fact(f"{field} {quantity_of(uom)}", Kind.NUMBER, number_key(base))


def extension_field(scope: str, namespace: str, name: str) -> str:
    """Return the field of a user extension; what a namespace ends with (``#``, ``/``, ``:``) does not count."""
    return f"{scope} {{{namespace.rstrip('#/:')}}}{name}"


def facts_of(event: EpcisEvent) -> frozenset[Fact]:
    """Return all facts of an event."""
    return frozenset(_facts(event))


def content_of(event: EpcisEvent) -> bytes:
    """Return the SHA-256 of all that an event says, its id included: the same in every spelling, whoever said it."""
    parts = (event.event_id or "", repr(event.error_declaration), prehash(event))
    # Hashed one by one, so that no part runs into the next.
    return hashlib.sha256(b"".join(hashlib.sha256(part.encode()).digest() for part in parts)).digest()


def _text(field: str, value: str) -> Fact:
    return Fact(field, Kind.TEXT, value)


def _facts(event: EpcisEvent) -> Iterator[Fact]:
    yield from _single(event)
    if event.persistent_disposition is not None:
        for name, found in (("set", event.persistent_disposition.set), ("unset", event.persistent_disposition.unset)):
            for text in found:
                yield _text(f"persistentDisposition_{name}", word(cbv.DISPOSITIONS, text))
    yield from _places(event)
    yield from _things(event)
    yield from _business(event)
    if event.error_declaration is not None:
        yield from _declaration(event.error_declaration)
    for element in event.sensor_element_list:
        yield from _sensor(element)
    yield from _extensions("ilmd", event.ilmd)
    yield from _extensions("ext", event.extensions)


def _single(event: EpcisEvent) -> Iterator[Fact]:
    yield _text("eventType", event.type.value)
    if event.action is not None:
        yield _text("action", event.action.value)
    for name, text, words in (
        ("bizStep", event.biz_step, cbv.BIZ_STEPS),
        ("disposition", event.disposition, cbv.DISPOSITIONS),
    ):
        if text is not None:
            yield _text(name, word(words, text))
    if event.event_id is not None:
        yield _text("eventID", bounded(event.event_id))
    for name, text in (("transformationID", event.transformation_id), ("parentID", event.parent_id)):
        if text is not None:
            yield _text(name, identifier(text))


def _places(event: EpcisEvent) -> Iterator[Fact]:
    for name, place in (("readPoint", event.read_point), ("bizLocation", event.biz_location)):
        if place is not None:
            yield _text(name, identifier(place.id))
            yield from _extensions(name, place.extensions)


def _things(event: EpcisEvent) -> Iterator[Fact]:
    for name, attribute in _EPC_LISTS:
        for epc in getattr(event, attribute):
            yield _text(name, identifier(epc))
    for name, attribute in _QUANTITY_LISTS:
        elements: tuple[QuantityElement, ...] = getattr(event, attribute)
        for element in elements:
            yield _text(name, identifier(element.epc_class))
            if element.quantity is not None:
                yield Fact("quantity", Kind.NUMBER, number_key(element.quantity))
                if element.uom is not None:
                    yield measured("quantity", element.quantity, element.uom)


def _business(event: EpcisEvent) -> Iterator[Fact]:
    for transaction in event.biz_transaction_list:
        kind = "" if transaction.type is None else word(cbv.BIZ_TRANSACTION_TYPES, transaction.type)
        yield _text(f"bizTransaction {kind}", identifier(transaction.id))
    for name, items in (("source", event.source_list), ("destination", event.destination_list)):
        for item in items:
            kind = word(cbv.SOURCE_DEST_TYPES, item.type)
            yield _text(f"{name} {kind}", source_dest_value(kind, item.id))


def source_dest_value(kind: str, text: str) -> str:
    """Return what stands for a source or destination of a type (a bare word)."""
    return party(text) if kind in {"owning_party", "possessing_party"} else identifier(text)


def _declaration(declaration: ErrorDeclaration) -> Iterator[Fact]:
    yield Fact("errorDeclaration", Kind.PRESENT, "")
    yield Fact("errorDeclarationTime", Kind.TIME, time_key(declaration.declaration_time))
    if declaration.reason is not None:
        yield _text("errorReason", word(cbv.ERROR_REASONS, declaration.reason))
    for ident in declaration.corrective_event_ids:
        yield _text("correctiveEventID", bounded(ident))
    yield from _extensions("errorDeclaration", declaration.extensions)


def _sensor(element: SensorElement) -> Iterator[Fact]:
    yield Fact("sensorElementList", Kind.PRESENT, "")
    yield from _extensions("sensorElement", element.extensions)
    if element.metadata is not None:
        yield from _sensor_fields("sensorMetadata", element.metadata, METADATA_FIELDS.items())
    for report in element.reports:
        yield from _sensor_fields("sensorReport", report, REPORT_FIELDS.items())


def _sensor_fields(
    scope: str, values: SensorMetadata | SensorReport, fields: Iterable[tuple[str, str]]
) -> Iterator[Fact]:
    uom = values.uom if isinstance(values, SensorReport) else None
    for name, ours in fields:
        value = getattr(values, ours)
        if value is None:
            continue
        field = f"{scope}.{name}"
        if isinstance(value, datetime):
            yield Fact(field, Kind.TIME, time_key(value))
        elif isinstance(value, Decimal):
            yield Fact(field, Kind.NUMBER, number_key(value))
            if uom is not None and name in UNITS_OF_MEASURE:
                yield measured(field, value, uom)
        else:
            yield _text(field, sensor_text(name, value))
    yield from _extensions(scope, values.extensions)


def sensor_text(name: str, value: str | bool) -> str:  # noqa: FBT001  # one of the values of a report
    """Return what stands for a text, word, identifier or truth value of a sensor field."""
    if isinstance(value, bool):
        return str(value).lower()
    words = WORDS_OF_REPORT.get(REPORT_FIELDS.get(name, name))
    if words is not None:
        return word(words, value)
    if name in {"stringValue", "uom"}:
        return bounded(value)
    if name == "hexBinaryValue":
        return bounded(value.upper())
    return identifier(value)


def _extensions(scope: str, extensions: Iterable[Extension]) -> Iterator[Fact]:
    inner = "inner" if scope == "ext" else f"inner_{scope}"
    for extension in extensions:
        yield from _extension(scope, extension)
        if isinstance(extension.value, tuple):
            yield from _inner(inner, extension.value)


def _inner(scope: str, extensions: Iterable[Extension]) -> Iterator[Fact]:
    for extension in extensions:
        yield from _extension(scope, extension)
        if isinstance(extension.value, tuple):
            yield from _inner(scope, extension.value)


def _extension(scope: str, extension: Extension) -> Iterator[Fact]:
    field = extension_field(scope, extension.namespace, extension.name)
    yield Fact(field, Kind.PRESENT, "")
    value = extension.value
    if isinstance(value, Decimal):
        yield Fact(field, Kind.NUMBER, number_key(value))
        yield _text(field, bounded(str(value)))
    elif isinstance(value, bool):
        yield _text(field, str(value).lower())
    elif isinstance(value, str):
        yield _text(field, free_text(value))
        # XML does not say what is a number and what a time.
        number, moment = number_of(value), time_of(value)
        if number is not None:
            yield Fact(field, Kind.NUMBER, number)
        if moment is not None:
            yield Fact(field, Kind.TIME, moment)
