"""Soundness beyond syntax: each rule refused by its code, at its field."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from medtrail.epcis import (
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
    check_event,
)
from medtrail.epcis.cbv import expiry_of, ilmd_lot_expiry, lot_of
from medtrail.errors import MalformedError


def test_sound_events_pass(event: EpcisEvent) -> None:
    check_event(event)


PACK = "urn:epc:id:sgtin:030001.0012345.11"
OBJECT_CHANGES: list[tuple[dict[str, object], str, str]] = [
    ({"event_time_zone_offset": "Z"}, "OFFSET_MALFORMED", "eventTimeZoneOffset"),
    ({"event_time_zone_offset": "+25:00"}, "OFFSET_MALFORMED", "eventTimeZoneOffset"),
    ({"action": None}, "FIELD_MISSING", "action"),
    ({"parent_id": "urn:x:1"}, "FIELD_FORBIDDEN", "parentID"),
    ({"child_epcs": (PACK,)}, "FIELD_FORBIDDEN", "childEPCs"),
    ({"input_epc_list": (PACK,)}, "FIELD_FORBIDDEN", "inputEPCList"),
    ({"transformation_id": "urn:x:1"}, "FIELD_FORBIDDEN", "transformationID"),
    ({"epc_list": (), "quantity_list": ()}, "FIELD_MISSING", "epcList"),
    ({"biz_step": "transforming"}, "BIZ_STEP_UNKNOWN", "bizStep"),
    ({"biz_step": "Shipping"}, "BIZ_STEP_UNKNOWN", "bizStep"),
    ({"disposition": "in_transport"}, "DISPOSITION_UNKNOWN", "disposition"),
    ({"persistent_disposition": PersistentDisposition(("x",))}, "DISPOSITION_UNKNOWN", "persistentDisposition.set[0]"),
    (
        {"persistent_disposition": PersistentDisposition((), ("x",))},
        "DISPOSITION_UNKNOWN",
        "persistentDisposition.unset[0]",
    ),
    (
        {"biz_transaction_list": (BizTransaction("urn:x:1", "order"),)},
        "BIZ_TRANSACTION_TYPE_UNKNOWN",
        "bizTransactionList[0].type",
    ),
    ({"biz_transaction_list": (BizTransaction("no uri"),)}, "URI_MALFORMED", "bizTransactionList[0].bizTransaction"),
    ({"source_list": (SourceDest("place", "urn:x:1"),)}, "SOURCE_DEST_TYPE_UNKNOWN", "sourceList[0].type"),
    ({"source_list": (SourceDest("location", "x"),)}, "URI_MALFORMED", "sourceList[0].source"),
    ({"destination_list": (SourceDest("location", "x"),)}, "URI_MALFORMED", "destinationList[0].destination"),
    ({"read_point": Place("here")}, "URI_MALFORMED", "readPoint.id"),
    ({"biz_location": Place("https://id.gs1.org/414/0300011111117")}, "CHECK_DIGIT_WRONG", "bizLocation.id"),
    ({"epc_list": ("https://id.gs1.org/01/00300010123456/21/1",)}, "CHECK_DIGIT_WRONG", "epcList[0]"),
    ({"epc_list": ("0300010123455",)}, "URI_MALFORMED", "epcList[0]"),
    ({"quantity_list": (QuantityElement("one"),)}, "URI_MALFORMED", "quantityList[0].epcClass"),
    ({"event_id": "17"}, "URI_MALFORMED", "eventID"),
    ({"quantity_list": (QuantityElement("urn:x:1", Decimal(0)),)}, "QUANTITY_NOT_POSITIVE", "quantityList[0].quantity"),
    ({"quantity_list": (QuantityElement("urn:x:1", Decimal(1), "kilo"),)}, "UOM_MALFORMED", "quantityList[0].uom"),
    ({"quantity_list": (QuantityElement("urn:x:1", None, "KGM"),)}, "FIELD_MISSING", "quantityList[0].quantity"),
    ({"action": Action.OBSERVE}, "ILMD_FORBIDDEN", "ilmd"),
    ({"ilmd": (Extension("", "lotNumber", "1"),)}, "NAMESPACE_MISSING", "ilmd.lotNumber"),
]


@pytest.mark.parametrize(
    ("change", "code", "field"), OBJECT_CHANGES, ids=[f"{n}-{case[2]}" for n, case in enumerate(OBJECT_CHANGES)]
)
def test_refuses_unsound_object_event(
    every_type: dict[EventType, EpcisEvent], change: dict[str, object], code: str, field: str
) -> None:
    event = replace(every_type[EventType.OBJECT], **change)  # type: ignore[arg-type]  # one field each

    with pytest.raises(MalformedError) as caught:
        check_event(event, field="events[0]")
    assert (caught.value.code, caught.value.field) == (code, f"events[0].{field}")


OTHER_CHANGES: list[tuple[EventType, dict[str, object], str]] = [
    (EventType.AGGREGATION, {"parent_id": None}, "parentID"),
    (EventType.AGGREGATION, {"child_epcs": (), "child_quantity_list": ()}, "childEPCs"),
    (EventType.ASSOCIATION, {"parent_id": None, "action": Action.OBSERVE}, "parentID"),
    (EventType.TRANSACTION, {"biz_transaction_list": ()}, "bizTransactionList"),
    (
        EventType.TRANSFORMATION,
        {"transformation_id": None, "input_epc_list": (), "input_quantity_list": ()},
        "inputEPCList",
    ),
    (
        EventType.TRANSFORMATION,
        {"transformation_id": None, "output_epc_list": (), "output_quantity_list": ()},
        "outputEPCList",
    ),
]


@pytest.mark.parametrize(("kind", "change", "field"), OTHER_CHANGES, ids=lambda item: str(item)[:30])
def test_refuses_event_without_its_subjects(
    every_type: dict[EventType, EpcisEvent], kind: EventType, change: dict[str, object], field: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        check_event(replace(every_type[kind], **change))  # type: ignore[arg-type]  # one field each
    assert (caught.value.code, caught.value.field) == ("FIELD_MISSING", f"event.{field}")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (EventType.AGGREGATION, {"action": Action.DELETE, "child_epcs": (), "child_quantity_list": ()}),
        (EventType.AGGREGATION, {"action": Action.OBSERVE, "parent_id": None}),
        (EventType.TRANSFORMATION, {"transformation_id": None}),
        (EventType.OBJECT, {"biz_step": "https://example.com/steps/blessing"}),
        (EventType.OBJECT, {"epc_list": ("urn:epc:id:grai:4012345.55555.987", "urn:example:thing:1")}),
        (EventType.OBJECT, {"epc_list": ("https://example.com/8003/03001345000771",)}),
        (EventType.OBJECT, {"error_declaration": None}),
    ],
    ids=lambda item: str(item)[:40],
)
def test_accepts_what_the_standard_allows(
    every_type: dict[EventType, EpcisEvent], kind: EventType, change: dict[str, object]
) -> None:
    check_event(replace(every_type[kind], **change))  # type: ignore[arg-type]  # one field each


def test_refuses_unknown_reason_of_a_declaration(every_type: dict[EventType, EpcisEvent]) -> None:
    event = every_type[EventType.OBJECT]
    declaration = ErrorDeclaration(event.event_time, "changed_my_mind")

    with pytest.raises(MalformedError) as caught:
        check_event(replace(event, error_declaration=declaration))
    assert (caught.value.code, caught.value.field) == ("ERROR_REASON_UNKNOWN", "event.errorDeclaration.reason")


def test_reads_lot_and_expiry_in_both_spellings_of_the_namespace(every_type: dict[EventType, EpcisEvent]) -> None:
    event = every_type[EventType.OBJECT]
    for namespace in ("urn:epcglobal:cbv:mda", "urn:epcglobal:cbv:mda#", "https://ref.gs1.org/cbv/"):
        ilmd = (
            Extension(namespace, "lotNumber", "A123"),
            Extension(namespace, "itemExpirationDate", "2025-03-27T00:00:00Z"),
        )
        found = replace(event, ilmd=ilmd)
        assert (lot_of(found), expiry_of(found)) == ("A123", date(2025, 3, 27))


def test_reads_no_lot_or_expiry_where_there_is_none(every_type: dict[EventType, EpcisEvent]) -> None:
    event = every_type[EventType.OBJECT]
    ilmd = (
        Extension("urn:epcglobal:cbv:mda", "lotNumber", (Extension("urn:x:", "a", "b"),)),
        Extension("urn:epcglobal:cbv:mda", "itemExpirationDate", "soon"),
    )

    assert lot_of(replace(event, ilmd=ilmd)) is None
    assert expiry_of(replace(event, ilmd=ilmd)) is None
    assert lot_of(replace(event, ilmd=())) is None
    assert expiry_of(replace(event, ilmd=(Extension("urn:x:", "itemExpirationDate", "2025-03-27"),))) is None


def test_written_lot_and_expiry_are_read_back(every_type: dict[EventType, EpcisEvent]) -> None:
    event = replace(every_type[EventType.OBJECT], ilmd=ilmd_lot_expiry("L1", date(2027, 1, 31)))

    assert (lot_of(event), expiry_of(event)) == ("L1", date(2027, 1, 31))


@pytest.mark.parametrize("serial", ["1", "1" * 20, "%21" * 60])
def test_remembers_no_wrong_identifier_as_a_sound_one(every_type: dict[EventType, EpcisEvent], serial: str) -> None:
    sound = f"https://id.gs1.org/01/09521321000018/21/{serial[:60]}"
    wrong = f"https://id.gs1.org/01/09521321000010/21/{serial}"
    check_event(replace(every_type[EventType.OBJECT], epc_list=(sound,)))
    for _ in range(2):
        with pytest.raises(MalformedError) as caught:
            check_event(replace(every_type[EventType.OBJECT], epc_list=(sound, wrong)))
        assert caught.value.field == "event.epcList[1]"


@pytest.mark.parametrize("namespace", ["", "urn:epcglobal:epcis:" + "x" * 100_000])
def test_fault_of_a_name_as_long_as_its_event_is_told_in_short(event: EpcisEvent, namespace: str) -> None:
    long = (Extension(namespace, "n" * 100_000, "x"),)
    with pytest.raises(MalformedError) as caught:
        check_event(replace(event, extensions=long))
    assert len(caught.value.field or "") < 100
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("namespace", "code"),
    [
        ("", "NAMESPACE_MISSING"),
        ("urn:epcglobal:epcis:xsd:1", "NAMESPACE_RESERVED"),
        ("https://ref.gs1.org/epcis/", "NAMESPACE_RESERVED"),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "event",
        "ilmd",
        "readPoint",
        "bizLocation",
        "errorDeclaration",
        "sensorElementList[0]",
        "sensorElementList[0].sensorMetadata",
        "sensorElementList[0].sensorReport[0]",
    ],
)
def test_refuses_an_extension_that_passes_for_a_field_of_the_standard(
    every_type: dict[EventType, EpcisEvent], place: str, namespace: str, code: str
) -> None:
    event = every_type[EventType.OBJECT]
    bad = (Extension(namespace, "bizStep", "receiving"),)
    changes: dict[str, dict[str, object]] = {
        "event": {"extensions": bad},
        "ilmd": {"ilmd": bad},
        "readPoint": {"read_point": Place("urn:x:1", bad)},
        "bizLocation": {"biz_location": Place("urn:x:1", bad)},
        "errorDeclaration": {"error_declaration": ErrorDeclaration(event.event_time, extensions=bad)},
        "sensorElementList[0]": {"sensor_element_list": (SensorElement(extensions=bad),)},
        "sensorElementList[0].sensorMetadata": {
            "sensor_element_list": (SensorElement(SensorMetadata(extensions=bad)),)
        },
        "sensorElementList[0].sensorReport[0]": {
            "sensor_element_list": (SensorElement(reports=(SensorReport(extensions=bad),)),)
        },
    }

    with pytest.raises(MalformedError) as caught:
        check_event(replace(event, **changes[place]))  # type: ignore[arg-type]  # one field each
    path = "event.bizStep" if place == "event" else f"event.{place}.bizStep"
    assert (caught.value.code, caught.value.field) == (code, path)
