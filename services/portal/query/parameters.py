"""Parameters of SimpleEventQuery, as they come in JSON or in a URL, read into a question.

What a parameter's name means is looked up first among the fixed names, then among the families: a comparison, a scope,
a field. Whatever is in neither is refused, as is a value of the wrong form.

Source: EPCIS 2.0, section 8.2.7.1.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from medtrail.epcis import cbv
from medtrail.epcis.build import parse_time
from medtrail.epcis.model import EventType
from medtrail.epcis.namespaces import Prefixes
from medtrail.errors import MalformedError
from services.portal.facts import Fact, Kind, extension_field, measured, sensor_text, source_dest_value
from services.portal.normal import (
    bounded,
    free_text,
    identifier,
    microseconds,
    number_key,
    number_of,
    time_of,
    word,
)
from services.portal.query.errors import QueryParameterError, QueryTooComplexError
from services.portal.query.parameter import Parameter
from services.portal.query.patterns import class_pattern, epc_pattern
from services.portal.query.tree import (
    AttributeEquals,
    Clock,
    Compare,
    Condition,
    Exists,
    HasAttribute,
    Match,
    Moment,
    Op,
    Operand,
    Pattern,
    Query,
    Within,
)

MAX_PARAMETERS = 100
MAX_VALUES = 5000


_Reader = Callable[[Parameter], Condition]


def _is(*fields: str, canonical: Callable[[str], str]) -> _Reader:
    def read(parameter: Parameter) -> Condition:
        return Compare(fields, Op.EQ, tuple(Operand(Kind.TEXT, canonical(text)) for text in parameter.texts()))

    return read


def _is_word(field: str, words: cbv.WordList) -> _Reader:
    def read(parameter: Parameter) -> Condition:
        return Compare((field,), Op.EQ, tuple(Operand(Kind.TEXT, text) for text in parameter.words(words)))

    return read


def _one_of(field: str, allowed: Iterable[str], *, or_uri: bool = False) -> _Reader:
    known = frozenset(allowed)

    def read(parameter: Parameter) -> Condition:
        texts = parameter.texts()
        if any(text not in known and not (or_uri and ":" in text) for text in texts):
            raise parameter.fail(f"any of {', '.join(sorted(known))}")
        return Compare((field,), Op.EQ, tuple(Operand(Kind.TEXT, text) for text in texts))

    return read


def _time(op: Op, *fields: str) -> _Reader:
    return lambda parameter: Compare(fields, op, (Operand(Kind.TIME, parameter.moment()),))


def _clock(op: Op, clock: Clock) -> _Reader:
    return lambda parameter: Moment(clock, op, int(parameter.moment()))


def _match(read_pattern: Callable[[str], Pattern], *fields: str) -> _Reader:
    def read(parameter: Parameter) -> Condition:
        try:
            return Match(fields, tuple(read_pattern(text) for text in parameter.texts()))
        except QueryParameterError as error:
            raise QueryParameterError(error.message, field=parameter.name) from error

    return read


def _within(field: str) -> _Reader:
    return lambda parameter: Within(field, tuple(identifier(text) for text in parameter.texts()))


def _exists(*fields: str) -> _Reader:
    return lambda _parameter: Exists(fields)


def _bool(field: str) -> _Reader:
    return lambda parameter: Compare((field,), Op.EQ, (Operand(Kind.TEXT, parameter.truth()),))


def _sensor(name: str, *scopes: str) -> _Reader:
    fields = tuple(f"{scope}.{name}" for scope in scopes)
    return _is(*fields, canonical=lambda text: sensor_text(name, text))


def _fixed() -> dict[str, _Reader]:
    """Return the parameters with fixed names."""
    found: dict[str, _Reader] = {
        "eventType": _one_of("eventType", EventType, or_uri=True),
        "EQ_action": _one_of("action", ("ADD", "OBSERVE", "DELETE")),
        "EQ_bizStep": _is_word("bizStep", cbv.BIZ_STEPS),
        "EQ_disposition": _is_word("disposition", cbv.DISPOSITIONS),
        "EQ_persistentDisposition_set": _is_word("persistentDisposition_set", cbv.DISPOSITIONS),
        "EQ_persistentDisposition_unset": _is_word("persistentDisposition_unset", cbv.DISPOSITIONS),
        "EQ_readPoint": _is("readPoint", canonical=identifier),
        "EQ_bizLocation": _is("bizLocation", canonical=identifier),
        "WD_readPoint": _within("readPoint"),
        "WD_bizLocation": _within("bizLocation"),
        "EQ_transformationID": _is("transformationID", canonical=identifier),
        "EQ_eventID": _is("eventID", canonical=bounded),
        "EQ_errorReason": _is_word("errorReason", cbv.ERROR_REASONS),
        "EQ_correctiveEventID": _is("correctiveEventID", canonical=bounded),
        "GE_errorDeclaration_Time": _time(Op.GE, "errorDeclarationTime"),
        "LT_errorDeclaration_Time": _time(Op.LT, "errorDeclarationTime"),
        "GE_errorDeclarationTime": _time(Op.GE, "errorDeclarationTime"),
        "LT_errorDeclarationTime": _time(Op.LT, "errorDeclarationTime"),
        "MATCH_epc": _match(epc_pattern, "epcList", "childEPCs"),
        "MATCH_parentID": _match(epc_pattern, "parentID"),
        "MATCH_inputEPC": _match(epc_pattern, "inputEPCList"),
        "MATCH_outputEPC": _match(epc_pattern, "outputEPCList"),
        "MATCH_anyEPC": _match(epc_pattern, "epcList", "childEPCs", "parentID", "inputEPCList", "outputEPCList"),
        "MATCH_epcClass": _match(class_pattern, "epcClass", "childEPCClass"),
        "MATCH_inputEPCClass": _match(class_pattern, "inputEPCClass"),
        "MATCH_outputEPCClass": _match(class_pattern, "outputEPCClass"),
        "MATCH_anyEPCClass": _match(class_pattern, "epcClass", "childEPCClass", "inputEPCClass", "outputEPCClass"),
        "EQ_booleanValue": _bool("sensorReport.booleanValue"),
        "EXISTS_eventID": _exists("eventID"),
    }
    for name in (
        "action", "bizStep", "disposition", "readPoint", "bizLocation", "transformationID", "parentID", "quantity",
        "errorDeclaration", "sensorElementList", "sensorElement", "errorReason", "correctiveEventID",
    ):  # fmt: skip
        found[f"EXISTS_{name}"] = _exists("sensorElementList" if name == "sensorElement" else name)
    for op in (Op.GE, Op.LT):
        for clock in Clock:
            found[f"{op}_{clock}"] = _clock(op, clock)
        found[f"{op}_time"] = _time(op, "sensorMetadata.time", "sensorReport.time")
        for name in ("time", "startTime", "endTime"):
            found[f"{op}_SENSORMETADATA_{name}"] = _time(op, f"sensorMetadata.{name}")
        for name in ("startTime", "endTime"):
            found[f"{op}_{name}"] = _time(op, f"sensorMetadata.{name}")
        found[f"{op}_SENSORREPORT_time"] = _time(op, "sensorReport.time")
    for name in ("deviceID", "deviceMetadata", "rawData", "dataProcessingMethod", "bizRules"):
        found[f"EQ_{name}"] = _sensor(name, "sensorMetadata", "sensorReport")
        found[f"EQ_SENSORMETADATA_{name}"] = _sensor(name, "sensorMetadata")
        found[f"EQ_SENSORREPORT_{name}"] = _sensor(name, "sensorReport")
    for name in (
        "type", "exception", "microorganism", "chemicalSubstance", "component", "stringValue", "hexBinaryValue",
        "uriValue", "coordinateReferenceSystem",
    ):  # fmt: skip
        found[f"EQ_{name}"] = _sensor(name, "sensorReport")
    return found


_FIXED: Final = _fixed()
_CONTROLS: Final = frozenset({"orderBy", "orderDirection", "eventCountLimit", "maxEventCount"})
NAMES: Final = frozenset(_FIXED) | _CONTROLS
"""Fixed names; those of the families go on without end."""
NOT_PARAMETERS: Final = frozenset({"@context", "perPage", "nextPageToken"})
_MEASURE: Final = re.compile(
    r"(EQ|GT|GE|LT|LE)_(quantity|value|minValue|maxValue|meanValue|sDev|percValue|percRank)(?:_([A-Z0-9]{2,4}))?"
)
_EXTENSION: Final = re.compile(
    r"(EQ|GT|GE|LT|LE|EXISTS)_(INNER_)?"
    r"(ILMD_|ERROR_DECLARATION_|SENSORELEMENT_|SENSORMETADATA_|SENSORREPORT_|readPoint_|bizLocation_)?(.+)",
    re.DOTALL,
)
_SCOPES: Final = {
    "ILMD_": "ilmd",
    "ERROR_DECLARATION_": "errorDeclaration",
    "SENSORELEMENT_": "sensorElement",
    "SENSORMETADATA_": "sensorMetadata",
    "SENSORREPORT_": "sensorReport",
    "readPoint_": "readPoint",
    "bizLocation_": "bizLocation",
}
_BUSINESS: Final = re.compile(r"EQ_(bizTransaction|source|destination)_(.*)", re.DOTALL)
_ATTRIBUTE: Final = re.compile(r"(HASATTR|EQATTR)_(.+)", re.DOTALL)
# Fields of which master data can tell, and where their identifiers stand.
_NAMING: Final[dict[str, tuple[str, ...]]] = {
    "readPoint": ("readPoint",),
    "bizLocation": ("bizLocation",),
    "epcClass": ("epcClass", "childEPCClass", "inputEPCClass", "outputEPCClass"),
    "bizStep": ("bizStep",),
    "disposition": ("disposition",),
    "bizTransaction": tuple(f"bizTransaction {kind}" for kind in ("", *sorted(cbv.BIZ_TRANSACTION_TYPES.words))),
    "source": tuple(f"source {kind}" for kind in sorted(cbv.SOURCE_DEST_TYPES.words)),
    "destination": tuple(f"destination {kind}" for kind in sorted(cbv.SOURCE_DEST_TYPES.words)),
}


def read_query(values: Mapping[str, object], prefixes: Prefixes) -> Query:
    """Return the question that parameters ask; paging is not part of it.

    Args:
        values: By name, from JSON as they are, numbers as Decimal; from a URL lists of texts.
        prefixes: Namespaces of the prefixes in names of user extensions.

    Raises:
        QueryParameterError: A parameter is unknown, or its value is of the wrong form.
        QueryTooComplexError: More than 100 parameters, or more than 5,000 values in all.
    """
    parameters = [Parameter(name, value, prefixes) for name, value in values.items() if name not in NOT_PARAMETERS]
    if len(parameters) > MAX_PARAMETERS:
        message = f"expected at most {MAX_PARAMETERS} parameters, got {len(parameters)}"
        raise QueryTooComplexError(message)
    count = sum(len(item.value) if isinstance(item.value, list) else 1 for item in parameters)
    if count > MAX_VALUES:
        message = f"expected at most {MAX_VALUES} values in all, got {count}"
        raise QueryTooComplexError(message)
    conditions = tuple(_condition(item) for item in parameters if item.name not in _CONTROLS)
    controls = {item.name: item for item in parameters if item.name in _CONTROLS}
    limit, most = controls.get("eventCountLimit"), controls.get("maxEventCount")
    if limit is not None and most is not None:
        message = "eventCountLimit and maxEventCount exclude each other"
        raise QueryParameterError(message, field="maxEventCount")
    order_by = controls.get("orderBy")
    direction = controls.get("orderDirection")
    if direction is not None and direction.text() not in {"ASC", "DESC"}:
        raise direction.fail("ASC or DESC")
    return Query(
        conditions,
        None if order_by is None else _order(order_by),
        descending=order_by is not None and (direction is None or direction.text() == "DESC"),
        event_count_limit=None if limit is None else limit.count(),
        max_event_count=None if most is None else most.count(),
    )


def _order(parameter: Parameter) -> Clock | str:
    text = parameter.text()
    if text in set(Clock):
        return Clock(text)
    return _field("ext", text, parameter)


def _condition(parameter: Parameter) -> Condition:
    reader = _FIXED.get(parameter.name)
    if reader is not None:
        return reader(parameter)
    for family, read in _FAMILIES:
        match = family.fullmatch(parameter.name)
        if match is not None:
            return read(parameter, match)
    message = f"{parameter.name[:100]!r} is no parameter of SimpleEventQuery"
    raise QueryParameterError(message, field=parameter.name[:100])


def _measure(parameter: Parameter, match: re.Match[str]) -> Condition:
    op, name, uom = Op(match[1]), match[2], match[3]
    values = parameter.numbers()
    if not values or (op is not Op.EQ and len(values) != 1):
        raise parameter.fail("one number")
    field = name if name == "quantity" else f"sensorReport.{name}"
    facts = [measured(field, value, uom) if uom else Fact(field, Kind.NUMBER, number_key(value)) for value in values]
    return Compare((facts[0].field,), op, tuple(Operand(Kind.NUMBER, fact.value) for fact in facts))


def _business(parameter: Parameter, match: re.Match[str]) -> Condition:
    name = match[1]
    if name == "bizTransaction":
        kind = word(cbv.BIZ_TRANSACTION_TYPES, match[2])
        return _is(f"{name} {kind}", canonical=identifier)(parameter)
    kind = word(cbv.SOURCE_DEST_TYPES, match[2])
    return _is(f"{name} {kind}", canonical=lambda text: source_dest_value(kind, text))(parameter)


def _attribute(parameter: Parameter, match: re.Match[str]) -> Condition:
    texts = tuple(bounded(text) for text in parameter.texts())
    if match[1] == "HASATTR":
        return HasAttribute(_naming(match[2], parameter), texts)
    name, underscore, attribute = match[2].partition("_")
    if name not in _NAMING:
        name, underscore, attribute = match[2].rpartition("_")
    if not underscore or not attribute:
        message = "expected EQATTR_<field>_<attribute>"
        raise QueryParameterError(message, field=parameter.name)
    return AttributeEquals(_naming(name, parameter), attribute, texts)


def _naming(name: str, parameter: Parameter) -> tuple[str, ...]:
    found = _NAMING.get(name)
    return found if found is not None else (_field("ext", name, parameter),)


def _field(scope: str, name: str, parameter: Parameter) -> str:
    """Return the field of a user extension by the name that a parameter gives it."""
    namespace, local = parameter.prefixes.split(name)
    # At the top every extension has a namespace; a prefix that nobody declared would find nothing, ever.
    known = namespace if "inner" in scope else namespace.rstrip(":")
    if not local or ("inner" not in scope and ":" not in known):
        message = f"{name[:100]!r} has no declared prefix and no namespace URI"
        raise QueryParameterError(message, field=parameter.name[:100])
    return extension_field(scope, namespace, local)


def _extension(parameter: Parameter, match: re.Match[str]) -> Condition:
    inner, place = match[2], match[3]
    scope = "ext" if place is None else _SCOPES[place]
    if inner:
        scope = "inner" if place is None else f"inner_{scope}"
    fields = (_field(scope, match[4], parameter),)
    if match[1] == "EXISTS":
        return Exists(fields)
    op = Op(match[1])
    operands = tuple(operand for text in _values(parameter) for operand in _operands(text, op, parameter))
    if op is not Op.EQ and len(_values(parameter)) != 1:
        raise parameter.fail("one number or time")
    return Compare(fields, op, operands)


def _values(parameter: Parameter) -> tuple[str, ...]:
    if isinstance(parameter.value, bool):
        return (str(parameter.value).lower(),)
    return parameter.texts()


def _operands(text: str, op: Op, parameter: Parameter) -> list[Operand]:
    """Return how a value is compared: by size as number or time; for being equal as text as well."""
    number, moment = number_of(text), time_of(text)
    found = [Operand(Kind.NUMBER, number)] if number is not None else []
    found += [Operand(Kind.TIME, moment)] if moment is not None else []
    if op is Op.EQ:
        found.append(Operand(Kind.TEXT, free_text(text)))
    if not found:
        raise parameter.fail("a number or a date-time with offset")
    return found


_FAMILIES: Final[tuple[tuple[re.Pattern[str], Callable[[Parameter, re.Match[str]], Condition]], ...]] = (
    (_MEASURE, _measure),
    (_BUSINESS, _business),
    (_ATTRIBUTE, _attribute),
    (_EXTENSION, _extension),
)


def recorded_from(moment: str, *, name: str) -> Moment:
    """Return the condition that an event was recorded at a moment or later.

    Raises:
        QueryParameterError: It is no moment.
    """
    try:
        return Moment(Clock.RECORD_TIME, Op.GE, microseconds(parse_time(moment, field=name)))
    except MalformedError as error:
        raise QueryParameterError(error.message, field=name) from error
