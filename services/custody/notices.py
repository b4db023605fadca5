"""Codes of the alerts that a service raises in its own books, and what rules notice when they change them.

Every rule of the books refuses what is wanted and would be wrong, and alerts to what has happened nevertheless: the
refusal's code leads to the alert's (:data:`ALERT_OF`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.custody.units import Unit


class AlertCode(StrEnum):
    """What is wrong with what was recorded; part of the interface: codes are added, never renamed."""

    PARENT_NOT_UNPACKED = "PARENT_NOT_UNPACKED"
    DOUBLE_CONTAINER = "DOUBLE_CONTAINER"
    SECOND_COMMISSIONING = "SECOND_COMMISSIONING"
    NOT_HELD = "NOT_HELD"
    USED_AFTER_END = "USED_AFTER_END"
    USED_AFTER_EXPIRY = "USED_AFTER_EXPIRY"
    SOLD_UNDER_HOLD = "SOLD_UNDER_HOLD"
    SOLD_UNDER_RECALL = "SOLD_UNDER_RECALL"
    SOLD_UNCONFIRMED = "SOLD_UNCONFIRMED"
    OPENED_PACK_MOVED = "OPENED_PACK_MOVED"
    DISPENSED_TOO_MUCH = "DISPENSED_TOO_MUCH"
    CONTAINER_DISPENSED = "CONTAINER_DISPENSED"
    NOT_IN_CONTAINER = "NOT_IN_CONTAINER"
    CONTAINER_CYCLE = "CONTAINER_CYCLE"
    NOT_DESPATCHED = "NOT_DESPATCHED"
    RECEIVED_TWICE = "RECEIVED_TWICE"
    UNDO_FORBIDDEN = "UNDO_FORBIDDEN"
    SENSOR_UNREADABLE = "SENSOR_UNREADABLE"
    SENSOR_NOT_PARTY = "SENSOR_NOT_PARTY"
    EXPIRED_STOCK = "EXPIRED_STOCK"


ALERT_OF: Final[Mapping[str, AlertCode]] = {
    "ALREADY_COMMISSIONED": AlertCode.SECOND_COMMISSIONING,
    "UNIT_UNKNOWN": AlertCode.NOT_HELD,
    "NOT_ON_HAND": AlertCode.NOT_HELD,
    "UNIT_FINAL": AlertCode.USED_AFTER_END,
    "UNIT_EXPIRED": AlertCode.USED_AFTER_EXPIRY,
    "UNIT_ON_HOLD": AlertCode.SOLD_UNDER_HOLD,
    "UNIT_EXCEPTION": AlertCode.SOLD_UNDER_HOLD,
    "UNIT_RECALLED": AlertCode.SOLD_UNDER_RECALL,
    "UNIT_PROVISIONAL": AlertCode.SOLD_UNCONFIRMED,
    "UNIT_OPENED": AlertCode.OPENED_PACK_MOVED,
    "QUANTITY_ABOVE_REST": AlertCode.DISPENSED_TOO_MUCH,
    "UNIT_NOT_PACK": AlertCode.CONTAINER_DISPENSED,
    "NOT_IN_CONTAINER": AlertCode.NOT_IN_CONTAINER,
    "CONTAINER_CYCLE": AlertCode.CONTAINER_CYCLE,
    "NOT_DESPATCHED": AlertCode.NOT_DESPATCHED,
    "ALREADY_RECEIVED": AlertCode.RECEIVED_TWICE,
}
"""Alert on what has happened, by the code with which the same is refused where it is only wanted."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert on a unit, as a rule raises it; the message is for a person."""

    code: AlertCode
    unit: Unit
    message: str
