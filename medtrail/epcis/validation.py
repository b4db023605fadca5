"""What makes an event sound, beyond its syntax.

Schemas pass many events that the standard forbids: unknown CBV words, master data where none belong, missing or empty
subjects, identifiers with wrong check digits. Each is refused here with a stable code and the field's JSON path.

Source: EPCIS 2.0, sections 7.3 and 7.4; CBV 2.0, section 7.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from medtrail.epcis import cbv
from medtrail.epcis.model import Action, EpcisEvent, EventType, Extension, QuantityElement
from medtrail.epcis.namespaces import is_reserved
from medtrail.errors import MalformedError
from medtrail.gs1 import parse_epc

Faults = Iterator[MalformedError]

_OFFSET = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d\Z")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+\Z")
# Keys that medtrail trades in: there a wrong check digit is a wrong pack, pallet, party or place.
TRADED = re.compile(r"^urn:epc:(id:(sgtin|sscc|sgln|pgln)|class:lgtin|idpat:sgtin):|/(01|00|414|417)/")
_UOM = re.compile(r"[A-Z0-9]{2,3}\Z")

# Fields by JSON-LD name, and the event types that may fill them (EPCIS 2.0, sections 7.4.2 to 7.4.6).
_O, _G, _T, _X, _S = (
    EventType.OBJECT,
    EventType.AGGREGATION,
    EventType.TRANSACTION,
    EventType.TRANSFORMATION,
    EventType.ASSOCIATION,
)
_FIELDS: tuple[tuple[str, str, frozenset[EventType]], ...] = (
    ("action", "action", frozenset({_O, _G, _T, _S})),
    ("epcList", "epc_list", frozenset({_O, _T})),
    ("quantityList", "quantity_list", frozenset({_O, _T})),
    ("parentID", "parent_id", frozenset({_G, _T, _S})),
    ("childEPCs", "child_epcs", frozenset({_G, _S})),
    ("childQuantityList", "child_quantity_list", frozenset({_G, _S})),
    ("inputEPCList", "input_epc_list", frozenset({_X})),
    ("inputQuantityList", "input_quantity_list", frozenset({_X})),
    ("outputEPCList", "output_epc_list", frozenset({_X})),
    ("outputQuantityList", "output_quantity_list", frozenset({_X})),
    ("transformationID", "transformation_id", frozenset({_X})),
    ("ilmd", "ilmd", frozenset({_O, _X})),
)

_FORBIDDEN = {kind: tuple((name, ours) for name, ours, types in _FIELDS if kind not in types) for kind in EventType}
_WITH_PARENT = frozenset({Action.ADD, Action.DELETE})
_WITH_CHILDREN = frozenset({Action.ADD, Action.OBSERVE})
_WITHOUT_MASTER_DATA = frozenset({Action.OBSERVE, Action.DELETE})

# Texts that are kept as sound: longer ones are not, so that a stranger cannot fill this process.
_KEPT = 65_536
_KEPT_LENGTH = 200


def check_event(event: EpcisEvent, *, field: str = "event") -> None:
    """Check that an event is sound.

    Args:
        event: The event.
        field: Its path in the caller's terms, for errors.

    Raises:
        MalformedError: It is not; the code says how, the field where. Of several faults, the first.
    """
    for found in faults(event, field=field):
        raise found


def faults(event: EpcisEvent, *, field: str = "event") -> Faults:
    """Yield everything that makes an event unsound, in a fixed order; nothing where it is sound.

    Args:
        event: The event.
        field: Its path in the caller's terms.
    """
    if not _OFFSET.match(event.event_time_zone_offset):
        message = f"expected +hh:mm or -hh:mm, got {event.event_time_zone_offset[:20]!r}"
        yield fault("OFFSET_MALFORMED", message, f"{field}.eventTimeZoneOffset")
    yield from _check_fields(event, field)
    yield from _check_subjects(event, field)
    yield from _check_words(event, field)
    yield from _check_objects(event, field)
    yield from _check_uris(event, field)
    yield from _check_master_data(event, field)
    yield from _check_extensions(event, field)


def fault(code: str, message: str, field: str) -> MalformedError:
    """Return a fault at a field, not raised yet."""
    return MalformedError(message, code=code, field=field)


def _check_fields(event: EpcisEvent, field: str) -> Faults:
    for name, ours in _FORBIDDEN[event.type]:
        if getattr(event, ours):
            yield fault("FIELD_FORBIDDEN", f"{event.type} has no {name}", f"{field}.{name}")
    if event.action is None and event.type is not EventType.TRANSFORMATION:
        yield fault("FIELD_MISSING", f"{event.type} needs an action", f"{field}.action")


def _check_subjects(event: EpcisEvent, field: str) -> Faults:
    if event.type is EventType.AGGREGATION or event.type is EventType.ASSOCIATION:
        yield from _check_aggregation(event, field)
    elif event.type is EventType.TRANSFORMATION:
        yield from _check_transformation(event, field)
    elif event.type is EventType.TRANSACTION:
        if not event.biz_transaction_list:
            yield fault("FIELD_MISSING", "a transaction event names a transaction", f"{field}.bizTransactionList")
    elif not event.epc_list and not event.quantity_list and not event.sensor_element_list:
        yield fault("FIELD_MISSING", "an object event names objects", f"{field}.epcList")


def _check_aggregation(event: EpcisEvent, field: str) -> Faults:
    if event.parent_id is None and (event.action in _WITH_PARENT or event.type is EventType.ASSOCIATION):
        yield fault("FIELD_MISSING", f"{event.type} {event.action} needs a parent", f"{field}.parentID")
    # DELETE without children ends the whole aggregation (EPCIS 2.0, section 7.4.3).
    if event.action in _WITH_CHILDREN and not event.child_epcs and not event.child_quantity_list:
        yield fault("FIELD_MISSING", f"{event.type} {event.action} needs children", f"{field}.childEPCs")


def _check_transformation(event: EpcisEvent, field: str) -> Faults:
    if event.transformation_id:
        return
    for name, epcs, quantities in (
        ("inputEPCList", event.input_epc_list, event.input_quantity_list),
        ("outputEPCList", event.output_epc_list, event.output_quantity_list),
    ):
        if not epcs and not quantities:
            message = "a transformation without transformationID names inputs and outputs"
            yield fault("FIELD_MISSING", message, f"{field}.{name}")


def _check_words(event: EpcisEvent, field: str) -> Faults:
    yield from _word(event.biz_step, cbv.BIZ_STEPS, "BIZ_STEP_UNKNOWN", f"{field}.bizStep")
    yield from _word(event.disposition, cbv.DISPOSITIONS, "DISPOSITION_UNKNOWN", f"{field}.disposition")
    if event.persistent_disposition is not None:
        for name, words in (("set", event.persistent_disposition.set), ("unset", event.persistent_disposition.unset)):
            for number, word in enumerate(words):
                path = f"{field}.persistentDisposition.{name}[{number}]"
                yield from _word(word, cbv.DISPOSITIONS, "DISPOSITION_UNKNOWN", path)
    for number, transaction in enumerate(event.biz_transaction_list):
        path = f"{field}.bizTransactionList[{number}].type"
        yield from _word(transaction.type, cbv.BIZ_TRANSACTION_TYPES, "BIZ_TRANSACTION_TYPE_UNKNOWN", path)
    for name, items in (("sourceList", event.source_list), ("destinationList", event.destination_list)):
        for number, item in enumerate(items):
            path = f"{field}.{name}[{number}].type"
            yield from _word(item.type, cbv.SOURCE_DEST_TYPES, "SOURCE_DEST_TYPE_UNKNOWN", path)
    if event.error_declaration is not None:
        yield from _word(
            event.error_declaration.reason,
            cbv.ERROR_REASONS,
            "ERROR_REASON_UNKNOWN",
            f"{field}.errorDeclaration.reason",
        )


def _word(text: str | None, words: cbv.WordList, code: str, field: str) -> Faults:
    # A word of another vocabulary is allowed, when it is a URI and not a misspelled word of this one.
    if text is None or text in words.words or _URI.match(text):
        return
    yield fault(code, f"{text[:60]!r} is neither a CBV word nor a URI", field)


def _check_objects(event: EpcisEvent, field: str) -> Faults:
    if event.parent_id is not None:
        yield from _identifier(event.parent_id, f"{field}.parentID")
    for name, epcs in (
        ("epcList", event.epc_list),
        ("childEPCs", event.child_epcs),
        ("inputEPCList", event.input_epc_list),
        ("outputEPCList", event.output_epc_list),
    ):
        for number, text in enumerate(epcs):
            if not _is_sound(text):
                yield from _identifier(text, f"{field}.{name}[{number}]")
    for name, elements in _quantities(event):
        for number, element in enumerate(elements):
            yield from _identifier(element.epc_class, f"{field}.{name}[{number}].epcClass")


def _quantities(event: EpcisEvent) -> tuple[tuple[str, tuple[QuantityElement, ...]], ...]:
    return (
        ("quantityList", event.quantity_list),
        ("childQuantityList", event.child_quantity_list),
        ("inputQuantityList", event.input_quantity_list),
        ("outputQuantityList", event.output_quantity_list),
    )


def _check_uris(event: EpcisEvent, field: str) -> Faults:
    if event.read_point is not None and not _is_sound(event.read_point.id):
        yield from _identifier(event.read_point.id, f"{field}.readPoint.id")
    if event.biz_location is not None and not _is_sound(event.biz_location.id):
        yield from _identifier(event.biz_location.id, f"{field}.bizLocation.id")
    for name, items in (("source", event.source_list), ("destination", event.destination_list)):
        for number, item in enumerate(items):
            if not _is_sound(item.id):
                yield from _identifier(item.id, f"{field}.{name}List[{number}].{name}")
    for number, transaction in enumerate(event.biz_transaction_list):
        yield from _uri(transaction.id, f"{field}.bizTransactionList[{number}].bizTransaction")
    yield from _uri(event.event_id, f"{field}.eventID")
    yield from _uri(event.transformation_id, f"{field}.transformationID")
    for name, elements in _quantities(event):
        if elements:
            yield from _check_quantities(elements, f"{field}.{name}")


def _uri(text: str | None, field: str) -> Faults:
    if text is not None and not _URI.match(text):
        yield fault("URI_MALFORMED", f"expected a URI, got {text[:80]!r}", field)


def _is_sound(text: str) -> bool:
    return _is_sound_kept(text) if len(text) <= _KEPT_LENGTH else _is_sound_identifier(text)


def _is_sound_identifier(text: str) -> bool:
    return next(_identifier(text, ""), None) is None


# The places and parties of a network stand in every event, and a pack in those of several owners.
_is_sound_kept = lru_cache(maxsize=_KEPT)(_is_sound_identifier)


def _identifier(text: str, field: str) -> Faults:
    if not _URI.match(text):
        yield from _uri(text, field)
        return
    try:
        parse_epc(text)
    except MalformedError as error:
        # A wrong key of another kind (an asset, a document) is taken for the URI that it is.
        if TRADED.search(text):
            yield fault(error.code, error.message, field)


def _check_quantities(elements: Iterable[QuantityElement], field: str) -> Faults:
    for number, element in enumerate(elements):
        if element.quantity is not None and element.quantity <= 0:
            yield fault("QUANTITY_NOT_POSITIVE", f"got {element.quantity}", f"{field}[{number}].quantity")
        if element.uom is not None and not _UOM.match(element.uom):
            message = f"expected a UN/ECE Recommendation 20 code, got {element.uom[:20]!r}"
            yield fault("UOM_MALFORMED", message, f"{field}[{number}].uom")
        if element.uom is not None and element.quantity is None:
            yield fault("FIELD_MISSING", "a unit needs a quantity", f"{field}[{number}].quantity")


def _check_master_data(event: EpcisEvent, field: str) -> Faults:
    if event.ilmd and event.type is EventType.OBJECT and event.action in _WITHOUT_MASTER_DATA:
        yield fault("ILMD_FORBIDDEN", "master data belong to action ADD", f"{field}.ilmd")


def _check_extensions(event: EpcisEvent, field: str) -> Faults:
    for path, extensions in _extension_places(event, field):
        for extension in extensions:
            # A name may be as long as the event: where it stands is told by its beginning.
            named = f"{path}.{extension.name[:60]}"
            if not extension.namespace:
                yield fault("NAMESPACE_MISSING", "extensions need a namespace", named)
            if is_reserved(extension.namespace):
                message = f"{extension.namespace[:200]} holds fields of the standard, not extensions"
                yield fault("NAMESPACE_RESERVED", message, named)


def _extension_places(event: EpcisEvent, field: str) -> Iterator[tuple[str, tuple[Extension, ...]]]:
    yield field, event.extensions
    yield f"{field}.ilmd", event.ilmd
    for name, place in (("readPoint", event.read_point), ("bizLocation", event.biz_location)):
        if place is not None:
            yield f"{field}.{name}", place.extensions
    if event.error_declaration is not None:
        yield f"{field}.errorDeclaration", event.error_declaration.extensions
    for number, element in enumerate(event.sensor_element_list):
        path = f"{field}.sensorElementList[{number}]"
        yield path, element.extensions
        if element.metadata is not None:
            yield f"{path}.sensorMetadata", element.metadata.extensions
        for place_in_list, report in enumerate(element.reports):
            yield f"{path}.sensorReport[{place_in_list}]", report.extensions
