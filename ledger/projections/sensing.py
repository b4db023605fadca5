"""What an event's sensors say, kept as text beside its fact, and judged against limits when these are known.

Limits come from product statements, which may come after the event: so what was measured is kept, and nothing is judged
when an entry is taken in.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from medtrail.cold_chain import Excursion, excursions
from medtrail.epcis.model import EpcisEvent, EventType, SensorElement, SensorMetadata, SensorReport
from medtrail.event import StorageLimits

_METADATA = ("time", "start_time", "end_time", "device_id")
_REPORT = (
    "type",
    "exception",
    "device_id",
    "time",
    "value",
    "min_value",
    "max_value",
    "mean_value",
    "perc_value",
    "uom",
)
_TIMES = frozenset({"time", "start_time", "end_time"})
_TEXTS = frozenset({"type", "exception", "device_id", "uom"})


def sensing_of(event: EpcisEvent) -> str:
    """Return what of an event's sensor elements limits can be held against, as compact JSON; empty where nothing."""
    elements = [
        [_written(element.metadata, _METADATA), [_written(report, _REPORT) for report in element.reports]]
        for element in event.sensor_element_list
        if element.reports
    ]
    return json.dumps(elements, separators=(",", ":")) if elements else ""


def _written(part: object, names: tuple[str, ...]) -> dict[str, str]:
    values = {name: getattr(part, name, None) for name in names}
    return {
        name: value.isoformat() if isinstance(value, datetime) else str(value)
        for name, value in values.items()
        if value is not None
    }


@lru_cache(maxsize=256)
def excursions_of(sensing: str, time: datetime, limits: StorageLimits) -> tuple[Excursion, ...]:
    """Return how limits were passed. Kept: one event of a pallet is judged for each of what it holds.

    Args:
        sensing: As :func:`sensing_of` wrote it.
        time: Event time.
        limits: Of the product.
    """
    elements = tuple(
        SensorElement(SensorMetadata(**_read(metadata)), tuple(SensorReport(**_read(report)) for report in reports))
        for metadata, reports in json.loads(sensing)
    )
    return excursions(EpcisEvent(EventType.OBJECT, time, "+00:00", sensor_element_list=elements), limits)


def _read(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: _value(name, text) for name, text in values.items()}


def _value(name: str, text: str) -> str | datetime | Decimal:
    if name in _TIMES:
        return datetime.fromisoformat(text)
    return text if name in _TEXTS else Decimal(text)
