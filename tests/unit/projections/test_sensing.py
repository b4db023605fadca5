"""What sensors say survives being kept as text: it is judged as the event itself would be."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from ledger.projections.facts import fact_from_json, fact_of, fact_to_json
from ledger.projections.sensing import excursions_of
from medtrail.cold_chain import excursions
from medtrail.epcis.model import EpcisEvent, SensorElement, SensorMetadata, SensorReport
from medtrail.event import Allowance, StorageLimits, StorageRange
from tests.unit.projections.story import MAKER, START, Story, pack

LIMITS = StorageLimits(
    temperature=StorageRange(Decimal(2), Decimal(8), above=Allowance(Decimal(15), timedelta(minutes=30))),
    relative_humidity=StorageRange(highest=Decimal(60)),
)
PERIOD = SensorElement(
    SensorMetadata(start_time=START, end_time=START + timedelta(hours=2), device_id="urn:epc:id:giai:030001.7"),
    (
        SensorReport(type="Temperature", min_value=Decimal("1.5"), max_value=Decimal("12.25"), uom="CEL"),
        SensorReport(type="RelativeHumidity", mean_value=Decimal(70), perc_value=Decimal(75), uom="P1"),
        SensorReport(type="Temperature", exception="ERROR_CONDITION", value=Decimal(99), uom="CEL"),
    ),
)
SERIES = SensorElement(
    SensorMetadata(time=START),
    tuple(
        SensorReport(type="Temperature", value=Decimal(degrees), uom="FAH", time=START + timedelta(minutes=minutes))
        for degrees, minutes in (("46.4", 0), ("50.1", 20), ("41", 60))
    ),
)
ALARM = SensorElement(None, (SensorReport(exception="ALARM_CONDITION", device_id="logger 7"),))


def _with(*elements: SensorElement) -> tuple[EpcisEvent, str]:
    """Return an event and what of it is kept, once stored and read."""
    story = Story()
    event = story.sense(pack("1"), degrees="5")
    assert isinstance(event.statement, EpcisEvent)
    statement = replace(event.statement, sensor_element_list=elements)
    fact = fact_of(0, replace(event, statement=statement), key_id=MAKER)
    return statement, fact_from_json(fact_to_json(fact)).sensing


def test_excursions_are_those_of_the_event_itself() -> None:
    event, kept = _with(PERIOD, SERIES, ALARM)
    expected = excursions(event, LIMITS)
    assert [item.side.value for item in expected] == ["below", "above", "above", "above", "alarm"]
    assert excursions_of(kept, event.event_time, LIMITS) == expected


def test_elements_without_reports_leave_nothing() -> None:
    assert _with(SensorElement(SensorMetadata(device_id="logger 7")))[1] == ""
    assert _with()[1] == ""
