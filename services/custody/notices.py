"""Codes of the alerts that a service raises in its own books, and what rules notice when they change them."""

from dataclasses import dataclass
from enum import StrEnum

from services.custody.units import Unit


class AlertCode(StrEnum):
    """What is wrong with what was recorded; part of the interface: codes are added, never renamed."""

    PARENT_NOT_UNPACKED = "PARENT_NOT_UNPACKED"


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert on a unit, as a rule raises it; the message is for a person."""

    code: AlertCode
    unit: Unit
    message: str
