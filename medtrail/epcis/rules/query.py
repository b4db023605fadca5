"""Queries: a document that asks for events instead of holding some is judged by what it asks.

Source: EPCIS 2.0, section 8.2.7.1 (SimpleEventQuery).
"""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

from medtrail.epcis import cbv
from medtrail.epcis.build import parse_number, parse_time
from medtrail.epcis.model import Action, EventType
from medtrail.epcis.rules.finding import Fault, Path
from medtrail.errors import MalformedError

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,8}")
_NOT_PARAMETERS: Final = frozenset({"@context", "perPage", "nextPageToken"})
_FLAGS: Final = re.compile(r"EXISTS_[A-Za-z]+|EXISTS_.+[:#/].+")
_TEXTS: Final = re.compile(
    r"(?:EQ|WD)_(?:readPoint|bizLocation)|EQ_(?:transformationID|eventID|correctiveEventID|type|exception|deviceID|"
    r"deviceMetadata|rawData|dataProcessingMethod|bizRules|microorganism|chemicalSubstance|component|stringValue|"
    r"booleanValue|hexBinaryValue|uriValue|coordinateReferenceSystem)|"
    r"EQ_SENSOR(?:METADATA|REPORT)_(?:deviceID|deviceMetadata|rawData|dataProcessingMethod|bizRules)|"
    r"MATCH_(?:epc|parentID|inputEPC|outputEPC|anyEPC|epcClass|inputEPCClass|outputEPCClass|anyEPCClass)|"
    r"EQ_(?:bizTransaction|source|destination)_.*|HASATTR_.+|EQATTR_.+_.+|"
    # Fields of user extensions go by prefix or namespace; inside others, by name.
    r"(?:EQ|GT|GE|LT|LE)_(?:.+[:#/].+|INNER_.+)",
    re.DOTALL,
)
_TIMES: Final = re.compile(
    r"(?:GE|LT)_(?:eventTime|recordTime|errorDeclaration_?Time|time|startTime|endTime|"
    r"SENSORMETADATA_(?:time|startTime|endTime)|SENSORREPORT_time)"
)
_MEASURES: Final = re.compile(
    r"(?:EQ|GT|GE|LT|LE)_(?:quantity|value|minValue|maxValue|meanValue|sDev|percValue|percRank)(?:_[A-Z0-9]{2,4})?"
)

# Parameters whose values are words, with the words and the code of the rule that another breaks.
_WORDS: Final[dict[str, tuple[frozenset[str], Callable[[str], str], str]]] = {
    "eventType": (frozenset(EventType), str, "EVENT_TYPE_UNKNOWN"),
    "EQ_action": (frozenset(Action), str, "ACTION_UNKNOWN"),
    "EQ_bizStep": (cbv.BIZ_STEPS.words, cbv.BIZ_STEPS.bare, "BIZ_STEP_UNKNOWN"),
    "EQ_errorReason": (cbv.ERROR_REASONS.words, cbv.ERROR_REASONS.bare, "ERROR_REASON_UNKNOWN"),
    **dict.fromkeys(
        ("EQ_disposition", "EQ_persistentDisposition_set", "EQ_persistentDisposition_unset"),
        (cbv.DISPOSITIONS.words, cbv.DISPOSITIONS.bare, "DISPOSITION_UNKNOWN"),
    ),
}
_ONLY_WORDS: Final = frozenset({"EQ_action"})
_CONTROLS: Final = frozenset({"orderBy", "orderDirection", "eventCountLimit", "maxEventCount"})


def is_query(name: str) -> bool:
    """Return whether a name is one of SimpleEventQuery's parameters that is no field of an event."""
    return name in _WORDS or name in _CONTROLS or any(map(_matching(name), (_TEXTS, _TIMES, _MEASURES, _FLAGS)))


def _matching(name: str) -> Callable[[re.Pattern[str]], bool]:
    return lambda pattern: pattern.fullmatch(name) is not None


def parameter_faults(name: str, value: object, path: Path) -> Iterator[Fault]:
    """Yield what is wrong with one parameter.

    Args:
        name: Of the parameter.
        value: From JSON as it is; from XML a text, or a list of texts.
        path: Of the value.
    """
    if name in _NOT_PARAMETERS:
        return
    if not is_query(name):
        yield Fault("QUERY_PARAMETER_UNKNOWN", path, f"{name[:100]!r} is no parameter of SimpleEventQuery")
        return
    for item in value if isinstance(value, list) else [value]:
        yield from _value_faults(name, item, path)


def _value_faults(name: str, value: object, path: Path) -> Iterator[Fault]:
    text = str(value) if isinstance(value, str | Decimal) else None
    if name in _WORDS:
        words, bare, code = _WORDS[name]
        if text is None or (bare(text) not in words and (name in _ONLY_WORDS or _URI.fullmatch(text) is None)):
            yield Fault(code, path, f"{str(value)[:60]!r} is no word of the vocabulary")
    elif _TIMES.fullmatch(name):
        yield from _parsed(parse_time, value, path)
    elif _MEASURES.fullmatch(name):
        yield from _parsed(parse_number, value, path)
    elif name == "orderDirection":
        if text not in {"ASC", "DESC"}:
            yield Fault("QUERY_VALUE_WRONG", path, f"expected ASC or DESC, got {str(value)[:40]!r}")
    elif name in {"eventCountLimit", "maxEventCount"}:
        if text is None or _COUNT.fullmatch(text) is None:
            yield Fault("QUERY_VALUE_WRONG", path, f"expected a count of at least 1, got {str(value)[:40]!r}")
    elif not text and not isinstance(value, bool) and not name.startswith("EXISTS_"):
        yield Fault("QUERY_VALUE_WRONG", path, f"expected a text, got {str(value)[:40]!r}")


def _parsed(parse: Callable[..., object], value: object, path: Path) -> Iterator[Fault]:
    try:
        parse(value, field="")
    except MalformedError as error:
        yield Fault(error.code, path, error.message)
