"""From an event taken apart by a reader (JSON-LD or XML) to the model, naming the field that is wrong.

Both readers deliver the same neutral form: the fields of the standard under their JSON-LD names, and everything from
other namespaces as extensions under the key ``EXTENSIONS``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from medtrail.epcis import cbv
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
    SensorMetadata,
    SensorReport,
    SourceDest,
)
from medtrail.errors import MalformedError

T = TypeVar("T")

EXTENSIONS = "#extensions"
Raw = Mapping[str, Any]

# Read as values, a document of the worst kind (short numbers, empty elements) takes some 75 times its bytes.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_NUMBER_LENGTH = 64
# Seconds are optional, since some writers leave them out; the offset is not.
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2})(:\d{2})?(?:\.(\d{1,30}))?(Z|[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00))\Z", re.ASCII
)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,9})?\Z", re.ASCII)
MAX_EXPONENT = 64

# Fields of the standard by kind of object, in the order in which they are written.
METADATA_FIELDS: dict[str, str] = {
    "time": "time",
    "startTime": "start_time",
    "endTime": "end_time",
    "deviceID": "device_id",
    "deviceMetadata": "device_metadata",
    "rawData": "raw_data",
    "dataProcessingMethod": "data_processing_method",
    "bizRules": "biz_rules",
}
REPORT_FIELDS: dict[str, str] = {
    "type": "type",
    "exception": "exception",
    "deviceID": "device_id",
    "deviceMetadata": "device_metadata",
    "rawData": "raw_data",
    "dataProcessingMethod": "data_processing_method",
    "bizRules": "biz_rules",
    "time": "time",
    "microorganism": "microorganism",
    "chemicalSubstance": "chemical_substance",
    "value": "value",
    "component": "component",
    "stringValue": "string_value",
    "booleanValue": "boolean_value",
    "hexBinaryValue": "hex_binary_value",
    "uriValue": "uri_value",
    "minValue": "min_value",
    "maxValue": "max_value",
    "meanValue": "mean_value",
    "sDev": "s_dev",
    "percRank": "perc_rank",
    "percValue": "perc_value",
    "uom": "uom",
    "coordinateReferenceSystem": "coordinate_reference_system",
}
TIME_FIELDS = frozenset({"time", "start_time", "end_time"})
NUMBER_FIELDS = frozenset(
    {"value", "min_value", "max_value", "mean_value", "s_dev", "perc_rank", "perc_value"},
)
WORDS_OF_REPORT = {"type": cbv.SENSOR_TYPES, "exception": cbv.SENSOR_TYPES, "component": cbv.COMPONENTS}

EVENT_FIELDS = (
    "type", "eventID", "eventTime", "recordTime", "eventTimeZoneOffset", "errorDeclaration", "certificationInfo",
    "epcList", "parentID", "childEPCs", "inputEPCList", "inputQuantityList", "outputEPCList", "outputQuantityList",
    "quantityList", "childQuantityList", "action", "transformationID", "bizStep", "disposition",
    "persistentDisposition", "readPoint", "bizLocation", "bizTransactionList", "sourceList", "destinationList",
    "sensorElementList", "ilmd",
)  # fmt: skip
"""Every field of an event that the standard names."""


def fail(code: str, message: str, field: str) -> NoReturn:
    """Raise a MalformedError at a field."""
    raise MalformedError(message, code=code, field=field)


def parse_time(value: object, *, field: str) -> datetime:
    """Return a moment from xsd:dateTime text with an offset; aware UTC, to the microsecond.

    Raises:
        MalformedError: It is no such text.
    """
    parts = _TIME.match(value) if isinstance(value, str) else None
    if parts is None:
        fail(
            "TIME_MALFORMED", f"expected a date-time with offset (2026-05-04T10:00:00Z), got {str(value)[:40]!r}", field
        )
    minutes, seconds, fraction, offset = parts.groups()
    # fromisoformat takes at most six digits of fraction; what is finer is cut.
    text = f"{minutes}{seconds or ':00'}.{(fraction or '')[:6].ljust(6, '0')}{offset}"
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        fail("TIME_MALFORMED", f"no such moment: {text}", field)


def decimal_of(text: str) -> Decimal | None:
    """Return the number that a text is, as XML Schema and JSON spell numbers; None where it is none.

    None, too, for a number of more than 64 digits or powers of ten: a short text can name one that no memory holds.
    """
    if len(text) > MAX_NUMBER_LENGTH or _NUMBER.match(text) is None:
        return None
    number = Decimal(text)
    return number if _is_bounded(number) else None


def _is_bounded(number: Decimal) -> bool:
    if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT:
        return False
    return len(number.as_tuple().digits) <= MAX_EXPONENT


def parse_number(value: object, *, field: str) -> Decimal:
    """Return a decimal number from text or a number.

    Raises:
        MalformedError: It is no finite number, or has more than 64 digits or powers of ten.
    """
    number: Decimal | None = None
    if isinstance(value, Decimal):
        number = value if _is_bounded(value) else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = decimal_of(repr(value))
    elif isinstance(value, str):
        number = decimal_of(value.strip())
    if number is None:
        fail("NUMBER_MALFORMED", f"expected a number of up to 64 digits, got {str(value)[:40]!r}", field)
    return number


def build_event(raw: Raw, *, field: str) -> EpcisEvent:
    """Return the event of its neutral form.

    Args:
        raw: Fields by JSON-LD name; readers have refused unknown ones.
        field: Path of the event in its document, for errors.

    Raises:
        MalformedError: A field is missing or of wrong form.
    """
    reader = _Reader(raw, field)
    type_name = reader.required("type")
    if type_name not in _TYPES:
        fail("EVENT_TYPE_UNKNOWN", f"expected one of the five event types, got {type_name[:60]!r}", f"{field}.type")
    action = reader.optional("action")
    if action is not None and action not in _ACTIONS:
        fail("ACTION_UNKNOWN", f"expected ADD, OBSERVE or DELETE, got {action[:40]!r}", f"{field}.action")
    moment = parse_time(reader.required("eventTime"), field=f"{field}.eventTime")
    offset = reader.required("eventTimeZoneOffset")
    # Most events fill few of the fields: only those that are there are built.
    values: dict[str, Any] = {}
    for name, value in raw.items():
        field_of = _FIELDS.get(name)
        if field_of is not None and value is not None:
            values[field_of[0]] = field_of[1](reader, name)
    return EpcisEvent(
        type=_TYPES[type_name],
        event_time=moment,
        event_time_zone_offset=offset,
        action=None if action is None else _ACTIONS[action],
        ilmd=raw.get("ilmd", ()),
        extensions=raw.get(EXTENSIONS, ()),
        **values,
    )


_TYPES = {item.value: item for item in EventType}
_ACTIONS = {item.value: item for item in Action}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads fields of one object."""

    raw: Raw
    path: str

    def at(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{name}"

    def optional(self, name: str) -> str | None:
        """Return a text, or None where it is absent or empty."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            fail("FIELD_MALFORMED", "expected a text", self.at(name))
        return value.strip() or None

    def required(self, name: str) -> str:
        """Return a text that must be there."""
        value = self.optional(name)
        if value is None:
            fail("FIELD_MISSING", "is required", self.at(name))
        return value

    def word(self, name: str, words: cbv.WordList) -> str | None:
        """Return a CBV word bare."""
        value = self.optional(name)
        return None if value is None else words.bare(value)

    def required_word(self, name: str, words: cbv.WordList) -> str:
        """Return a CBV word that must be there, bare."""
        return words.bare(self.required(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; one text stands for a list of one."""
        value = self.raw.get(name)
        if value is None:
            return ()
        found: list[str] = []
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            text = item.strip() if isinstance(item, str) else ""
            if not text:
                fail("FIELD_MALFORMED", "expected a text", f"{self.at(name)}[{number}]")
            found.append(text)
        return tuple(found)

    def nested(self, name: str, build: "Callable[[_Reader], T]") -> "T | None":
        """Return a nested object, or None where it is absent."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            fail("FIELD_MALFORMED", "expected an object", self.at(name))
        return build(_Reader(value, self.at(name)))

    def objects(self, name: str, build: "Callable[[_Reader], T]") -> "tuple[T, ...]":
        """Return a list of nested objects; empty where it is absent."""
        value = self.raw.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            fail("FIELD_MALFORMED", "expected a list of objects", self.at(name))
        return tuple(build(_Reader(item, f"{self.at(name)}[{number}]")) for number, item in enumerate(value))

    def extensions(self) -> tuple[Extension, ...]:
        """Return what stands here from other namespaces."""
        found: tuple[Extension, ...] = self.raw.get(EXTENSIONS, ())
        return found


def _quantity(reader: _Reader) -> QuantityElement:
    quantity = reader.raw.get("quantity")
    return QuantityElement(
        epc_class=reader.required("epcClass"),
        quantity=None if quantity in (None, "") else parse_number(quantity, field=reader.at("quantity")),
        uom=reader.optional("uom"),
    )


def _place(reader: _Reader) -> Place:
    return Place(reader.required("id"), reader.extensions())


def _biz_transaction(reader: _Reader) -> BizTransaction:
    return BizTransaction(reader.required("bizTransaction"), reader.word("type", cbv.BIZ_TRANSACTION_TYPES))


def _source(reader: _Reader) -> SourceDest:
    return SourceDest(reader.required_word("type", cbv.SOURCE_DEST_TYPES), reader.required("source"))


def _destination(reader: _Reader) -> SourceDest:
    return SourceDest(reader.required_word("type", cbv.SOURCE_DEST_TYPES), reader.required("destination"))


def _persistent_disposition(reader: _Reader) -> PersistentDisposition:
    return PersistentDisposition(
        set=tuple(cbv.DISPOSITIONS.bare(word) for word in reader.texts("set")),
        unset=tuple(cbv.DISPOSITIONS.bare(word) for word in reader.texts("unset")),
    )


def _error_declaration(reader: _Reader) -> ErrorDeclaration:
    return ErrorDeclaration(
        declaration_time=parse_time(reader.required("declarationTime"), field=reader.at("declarationTime")),
        reason=reader.word("reason", cbv.ERROR_REASONS),
        corrective_event_ids=reader.texts("correctiveEventIDs"),
        extensions=reader.extensions(),
    )


def _sensor_element(reader: _Reader) -> SensorElement:
    return SensorElement(
        metadata=reader.nested("sensorMetadata", _sensor_metadata),
        reports=reader.objects("sensorReport", _sensor_report),
        extensions=reader.extensions(),
    )


def _sensor_metadata(reader: _Reader) -> SensorMetadata:
    values: dict[str, Any] = _sensor_values(reader, METADATA_FIELDS)
    return SensorMetadata(extensions=reader.extensions(), **values)


def _sensor_report(reader: _Reader) -> SensorReport:
    values: dict[str, Any] = _sensor_values(reader, REPORT_FIELDS)
    return SensorReport(extensions=reader.extensions(), **values)


def _sensor_values(reader: _Reader, fields: Mapping[str, str]) -> dict[str, object]:
    return {fields[name]: _sensor_value(reader, name, fields[name]) for name in reader.raw if name in fields}


def _sensor_value(reader: _Reader, name: str, ours: str) -> object:
    value = reader.raw.get(name)
    if value is None:
        return None
    if ours in TIME_FIELDS:
        return parse_time(value, field=reader.at(name))
    if ours in NUMBER_FIELDS:
        return parse_number(value, field=reader.at(name))
    if ours == "boolean_value":
        if isinstance(value, bool):
            return value
        if value not in ("true", "false", "1", "0"):
            fail("FIELD_MALFORMED", "expected true or false", reader.at(name))
        return value in ("true", "1")
    # Some writers leave the quotes off texts that look like numbers.
    if not isinstance(value, str | Decimal) and type(value) is not int:
        fail("FIELD_MALFORMED", "expected a text", reader.at(name))
    text = str(value)
    words = WORDS_OF_REPORT.get(ours)
    return text if words is None else words.bare(text)


Build = Callable[[_Reader, str], object]


def _nested(build: Callable[[_Reader], object]) -> Build:
    return lambda reader, name: reader.nested(name, build)


def _objects(build: Callable[[_Reader], object]) -> Build:
    return lambda reader, name: reader.objects(name, build)


def _word(words: cbv.WordList) -> Build:
    return lambda reader, name: reader.word(name, words)


def _time(reader: _Reader, name: str) -> datetime:
    return parse_time(reader.raw[name], field=reader.at(name))


# Fields that an event may lack, by JSON-LD name: the field of the model, and how it is built.
_FIELDS: dict[str, tuple[str, Build]] = {
    "recordTime": ("record_time", _time),
    "eventID": ("event_id", _Reader.optional),
    "errorDeclaration": ("error_declaration", _nested(_error_declaration)),
    "certificationInfo": ("certification_info", _Reader.texts),
    "epcList": ("epc_list", _Reader.texts),
    "quantityList": ("quantity_list", _objects(_quantity)),
    "parentID": ("parent_id", _Reader.optional),
    "childEPCs": ("child_epcs", _Reader.texts),
    "childQuantityList": ("child_quantity_list", _objects(_quantity)),
    "inputEPCList": ("input_epc_list", _Reader.texts),
    "inputQuantityList": ("input_quantity_list", _objects(_quantity)),
    "outputEPCList": ("output_epc_list", _Reader.texts),
    "outputQuantityList": ("output_quantity_list", _objects(_quantity)),
    "transformationID": ("transformation_id", _Reader.optional),
    "bizStep": ("biz_step", _word(cbv.BIZ_STEPS)),
    "disposition": ("disposition", _word(cbv.DISPOSITIONS)),
    "persistentDisposition": ("persistent_disposition", _nested(_persistent_disposition)),
    "readPoint": ("read_point", _nested(_place)),
    "bizLocation": ("biz_location", _nested(_place)),
    "bizTransactionList": ("biz_transaction_list", _objects(_biz_transaction)),
    "sourceList": ("source_list", _objects(_source)),
    "destinationList": ("destination_list", _objects(_destination)),
    "sensorElementList": ("sensor_element_list", _objects(_sensor_element)),
}
