"""What an event says that cannot be so, or is rarely meant, beyond what is checked at capture.

Source: EPCIS 2.0, sections 7.3 and 7.4; CBV 2.0, sections 7 and 8.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from medtrail.epcis import cbv
from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import EpcisEvent, QuantityElement, SensorReport
from medtrail.epcis.rules.finding import Fault, Path
from medtrail.epcis.validation import TRADED
from medtrail.errors import MalformedError
from medtrail.gs1 import EpcKey, Gln, Gtin, Lgtin, Sgtin, Sscc, parse_epc

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""Clocks differ; a capture is refused when its event is dated later than this after its arrival."""

_HASH: Final = re.compile(r"ni:///sha-256;[0-9a-fA-F]{64}\?ver=CBV2\.0")
_OFFSET: Final = re.compile(r"[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00)")
_UOM: Final = re.compile(r"[A-Z0-9]{2,3}")
_TRANSACTION: Final = re.compile(r"urn:epcglobal:cbv:bt:([0-9]{13}):.+")
_KEY: Final = re.compile(r"urn:epc:(?:id|class|idpat):|https?://id\.gs1\.org/")
_KEPT_LENGTH: Final = 200
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Dispositions that the vocabulary ties to the steps that bring them about.
_STEPS: Final[Mapping[str, frozenset[str]]] = {
    "active": frozenset({"commissioning"}),
    "destroyed": frozenset({"destroying"}),
    "dispensed": frozenset({"dispensing"}),
    "encoded": frozenset({"encoding"}),
    "in_transit": frozenset({"shipping", "departing", "transporting"}),
    "inactive": frozenset({"decommissioning", "killing"}),
    "partially_dispensed": frozenset({"dispensing"}),
    "reserved": frozenset({"reserving"}),
    "retail_sold": frozenset({"retail_selling"}),
}

MEASUREMENTS: Final = _set(
    """AbsoluteHumidity AbsorbedDose AbsorbedDoseRate Acceleration Activity Altitude AmountOfSubstance
    AmountOfSubstancePerUnitVolume Angle AngularAcceleration AngularMomentum AngularVelocity Area Capacitance
    Conductance Conductivity Count Density Dimensionless DoseEquivalent DoseEquivalentRate DynamicViscosity
    EffectiveDose EffectiveDoseRate ElectricCharge ElectricCurrent ElectricCurrentDensity ElectricFieldStrength Energy
    Exposure Force Frequency Illuminance Inductance Irradiance KinematicViscosity Length LinearMomentum Luminance
    LuminousFlux LuminousIntensity MagneticFlux MagneticFluxDensity MagneticVectorPotential Mass MassConcentration
    MassFlowRate MassPerAreaTime MemoryCapacity MolalityOfSolute MolarEnergy MolarMass MolarVolume Power Pressure
    RadiantFlux RadiantIntensity Radioactivity RelativeHumidity Resistance Resistivity SolidAngle SpecificVolume Speed
    SurfaceDensity SurfaceTension Temperature Time Torque Voltage Volume VolumeFlowRate VolumeFraction VolumetricFlux
    Wavenumber"""
)
"""Types of sensor reports in the GS1 web vocabulary (CBV 2.0, section 7.7)."""
ALERTS: Final = frozenset({"ALARM_CONDITION", "ERROR_CONDITION"})
"""Exceptions of sensor reports (CBV 2.0, section 7.8)."""


def meaning_faults(event: EpcisEvent, *, now: datetime, ignored: frozenset[tuple[str, str]]) -> Iterator[Fault]:
    """Yield what is wrong with an event that is well formed.

    Args:
        event: The event.
        now: The judge's clock.
        ignored: Extensions that take no part in its hash.
    """
    yield from _times(event, now)
    yield from _dispositions(event)
    for name, epcs in (
        ("epcList", event.epc_list),
        ("childEPCs", event.child_epcs),
        ("inputEPCList", event.input_epc_list),
        ("outputEPCList", event.output_epc_list),
    ):
        yield from _instances(name, epcs)
    for name, elements in (
        ("quantityList", event.quantity_list),
        ("childQuantityList", event.child_quantity_list),
        ("inputQuantityList", event.input_quantity_list),
        ("outputQuantityList", event.output_quantity_list),
    ):
        yield from _classes(name, elements)
    if event.parent_id is not None and same_thing(event.parent_id) in map(same_thing, event.child_epcs):
        yield Fault("PARENT_AMONG_CHILDREN", ("parentID",), f"{event.parent_id[:80]} is one of its own children")
    for number, element in enumerate(event.sensor_element_list):
        for place, report in enumerate(element.reports):
            yield from _report(report, ("sensorElementList", number, "sensorReport", place))
    for path, text in _identifiers(event):
        message = _doubt(text) if len(text) <= _KEPT_LENGTH else None
        if message is not None:
            yield Fault("KEY_DOUBTFUL", path, message)
    yield from _hash(event, ignored)


def _identifiers(event: EpcisEvent) -> Iterator[tuple[Path, str]]:
    """Yield identifiers that are not judged at capture, or only where they name what is traded."""
    if event.parent_id is not None:
        yield ("parentID",), event.parent_id
    for name, epcs in (
        ("epcList", event.epc_list),
        ("childEPCs", event.child_epcs),
        ("inputEPCList", event.input_epc_list),
        ("outputEPCList", event.output_epc_list),
    ):
        yield from (((name, number), text) for number, text in enumerate(epcs))
    for number, transaction in enumerate(event.biz_transaction_list):
        yield ("bizTransactionList", number, "bizTransaction"), transaction.id
    for number, element in enumerate(event.sensor_element_list):
        path: Path = ("sensorElementList", number)
        if element.metadata is not None and element.metadata.device_id is not None:
            yield (*path, "sensorMetadata", "deviceID"), element.metadata.device_id
        for place, report in enumerate(element.reports):
            if report.device_id is not None:
                yield (*path, "sensorReport", place, "deviceID"), report.device_id


@lru_cache(maxsize=4096)
def _doubt(text: str) -> str | None:
    """Return what is wrong with a key that nothing else judges, or None."""
    try:
        found = _TRANSACTION.fullmatch(text)
        if found is not None:
            Gln(found[1])
        elif _KEY.match(text) and TRADED.search(text) is None:
            parse_epc(text)
    except MalformedError as error:
        return None if error.code == "EPC_NOT_GS1" else error.message
    return None


def _times(event: EpcisEvent, now: datetime) -> Iterator[Fault]:
    time = event.event_time
    if _OFFSET.fullmatch(event.event_time_zone_offset) is None:
        yield Fault("OFFSET_MALFORMED", ("eventTimeZoneOffset",), "no place on earth is so far from UTC")
    if time > now + CLOCK_TOLERANCE:
        yield Fault("EVENT_TIME_FUTURE", ("eventTime",), f"{time.isoformat()} is later than {now.isoformat()}")
    if event.record_time is not None and time > event.record_time + CLOCK_TOLERANCE:
        yield Fault(
            "EVENT_AFTER_RECORD", ("recordTime",), f"recorded at {event.record_time.isoformat()}, before it was"
        )
    declaration = event.error_declaration
    if declaration is not None and declaration.declaration_time < time:
        yield Fault(
            "DECLARATION_BEFORE_EVENT", ("errorDeclaration", "declarationTime"), "declared before the event was"
        )


def _dispositions(event: EpcisEvent) -> Iterator[Fault]:
    steps = _STEPS.get(event.disposition or "")
    if steps is not None and event.biz_step in cbv.BIZ_STEPS.words and event.biz_step not in steps:
        message = f"{event.disposition} comes about by {' or '.join(sorted(steps))}, not by {event.biz_step}"
        yield Fault("DISPOSITION_UNUSUAL", ("disposition",), message)
    persistent = event.persistent_disposition
    if persistent is not None:
        for word in sorted(set(persistent.set) & set(persistent.unset)):
            yield Fault(
                "DISPOSITION_SET_AND_UNSET", ("persistentDisposition",), f"{word[:60]} is set and unset at once"
            )


def key_of(text: str) -> EpcKey | None:
    """Return the GS1 key that an identifier spells, or None where it spells none."""
    try:
        return parse_epc(text)
    except MalformedError:
        return None


def same_thing(text: str) -> str:
    """Return what is equal for all spellings of an identifier."""
    key = key_of(text)
    return text if key is None else key.path


def _instances(name: str, epcs: tuple[str, ...]) -> Iterator[Fault]:
    seen: set[str] = set()
    for number, text in enumerate(epcs):
        thing = same_thing(text)
        if thing in seen:
            yield Fault("EPC_TWICE", (name, number), f"{text[:80]} stands twice in the list")
        seen.add(thing)
        if isinstance(key_of(text), Gtin | Lgtin):
            yield Fault("EPC_IS_CLASS", (name, number), f"{text[:80]} names a class; a class has a quantity")


def _classes(name: str, elements: tuple[QuantityElement, ...]) -> Iterator[Fault]:
    for number, element in enumerate(elements):
        key = key_of(element.epc_class)
        if isinstance(key, Sgtin | Sscc):
            yield Fault("CLASS_IS_INSTANCE", (name, number, "epcClass"), f"{element.epc_class[:80]} names one thing")
        if element.uom is None and element.quantity is not None and element.quantity != int(element.quantity):
            message = f"{element.quantity} without a unit is a count; a count is whole"
            yield Fault("QUANTITY_NOT_WHOLE", (name, number, "quantity"), message)


def _report(report: SensorReport, path: Path) -> Iterator[Fault]:
    if report.type is None and report.exception is None:
        yield Fault("SENSOR_TYPE_MISSING", path, "a report says what it measures, or what is wrong")
    for name, word, words, code in (
        ("type", report.type, MEASUREMENTS, "SENSOR_TYPE_UNKNOWN"),
        ("exception", report.exception, ALERTS, "SENSOR_EXCEPTION_UNKNOWN"),
        ("component", report.component, cbv.COMPONENTS.words, "SENSOR_COMPONENT_UNKNOWN"),
    ):
        if word is not None and word not in words and _URI.match(word) is None:
            yield Fault(code, (*path, name), f"{word[:60]!r} is neither a word of the vocabulary nor a URI")
    if report.uom is not None and _UOM.fullmatch(report.uom) is None:
        message = f"expected a UN/ECE Recommendation 20 code, got {report.uom[:20]!r}"
        yield Fault("SENSOR_UOM_MALFORMED", (*path, "uom"), message)
    if report.value is not None and report.uom is None and report.type not in {None, "Count", "Dimensionless"}:
        yield Fault("SENSOR_UOM_MISSING", path, "a value of a measurement has a unit")
    low, high = report.min_value, report.max_value
    if low is not None and high is not None and low > high:
        yield Fault("SENSOR_RANGE_WRONG", (*path, "minValue"), f"{low} is more than {high}")


def _hash(event: EpcisEvent, ignored: frozenset[tuple[str, str]]) -> Iterator[Fault]:
    if event.event_id is None or _HASH.fullmatch(event.event_id) is None:
        return
    computed = event_hash(event, ignored=ignored)
    if computed.lower() != event.event_id.lower():
        yield Fault("EVENT_HASH_WRONG", ("eventID",), f"the event's hash is {computed}")
