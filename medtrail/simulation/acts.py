"""What people do to goods, as plain values: the language that the truth model, the driver and written days share.

Units are canonical paths: ``/01/<gtin>/21/<serial>`` (pack or case), ``/00/<sscc>``, ``/8003/<grai>`` (reusable tote).
Times are whole seconds since the simulation's start. Parties go by their short names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DAY = 24 * 3600
HOUR = 3600


class Verb(StrEnum):
    """What is done."""

    COMMISSION = "commission"
    PACK = "pack"
    UNPACK = "unpack"
    SHIP = "ship"
    RECEIVE = "receive"
    OPEN_DELIVERY = "open_delivery"
    SCAN_DELIVERY = "scan_delivery"
    CLOSE_DELIVERY = "close_delivery"
    REPORT_CONCEALED = "report_concealed"
    SEND_BACK = "send_back"
    ACCEPT_RETURN = "accept_return"
    HOLD = "hold"
    RELEASE = "release"
    DISPENSE = "dispense"
    DISPENSE_ALONE = "dispense_alone"
    END = "end"
    RECALL = "recall"
    UNDO = "undo"
    DECLARE_ERROR = "declare_error"
    WITNESS = "witness"
    SENSE = "sense"
    COPY = "copy"
    OPEN_CASE = "open_case"
    RESOLVE_CASE = "resolve_case"
    MARK_SUSPECT = "mark_suspect"
    CLEAR_SUSPECT = "clear_suspect"
    ACCEPT_RETURNS = "accept_returns"
    ORDER = "order"
    CONFIRM_ORDER = "confirm_order"
    HOLD_LOT = "hold_lot"
    RELEASE_LOT = "release_lot"
    REQUEST_RELEASE = "request_release"
    APPROVE_RELEASE = "approve_release"
    REJECT_RELEASE = "reject_release"
    SAY = "say"
    PROPOSE = "propose"
    ANSWER = "answer"
    SCAN_SAMPLES = "scan_samples"
    REPACKAGE = "repackage"
    VOID = "void"
    INVOICE = "invoice"
    TELL_SHIPPED = "tell_shipped"
    TELL_DISPENSED = "tell_dispensed"
    TELL_RELEASED = "tell_released"


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that one party does, or tries.

    Attributes:
        verb: What.
        who: Party that does it.
        at: When, seconds since the start; what the event says, not when it is told.
        units: What it names, in order.
        parent: The container of a packing or unpacking.
        to: The other party of a despatch, return or witnessed act.
        lot: Of what is commissioned, or as read off the label.
        expiry: YYYY-MM-DD, likewise.
        name: Names the act, so that another can refer to it.
        of: Name of the act that it refers to.
        details: What one verb alone needs.
    """

    verb: Verb
    who: str
    at: int
    units: tuple[str, ...] = ()
    parent: str = ""
    to: str = ""
    lot: str = ""
    expiry: str = ""
    reason: str = ""
    name: str = ""
    of: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who handles goods.

    Attributes:
        role: manufacturer, distributor or pharmacy.
        four_eyes: Codes of holds that two persons release there.
        persons: Who may ask for and approve such a release.
    """

    name: str
    role: str
    four_eyes: frozenset[str] = frozenset()
    persons: tuple[str, ...] = ()


def is_trade_item(unit: str) -> bool:
    """Tell whether a unit is a pack or a case with a number of its own."""
    return unit.startswith("/01/")


def is_logistic(unit: str) -> bool:
    """Tell whether a unit goes by an SSCC: used once, from packing to emptying."""
    return unit.startswith("/00/")


def gtin_of(unit: str) -> str:
    """Return the trade item number of a pack or case."""
    return unit.split("/")[2]


def serial_of(unit: str) -> str:
    """Return the serial number of a pack or case."""
    return unit.split("/")[4]
