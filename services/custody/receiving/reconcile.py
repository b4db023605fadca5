"""Reconciliation of one scan with what was advised: a pure function.

What comes first decides; what applies beside it is told as well:

1. UNREADABLE        nothing could be read
2. ALREADY_SCANNED   the same label was scanned in this delivery
3. NOT_FOR_US        its label names another consignee
4. ALREADY_RECEIVED  it is in the books as received
5. WRONG_LOT, WRONG_EXPIRY   advised, and its label differs
6. OTHER_CONTAINER, MATCH    advised, with or without the container from which it was taken
7. NOT_FOR_US        not advised, and on its way to somebody else by the ledger's word
8. UNKNOWN_SERIAL    not advised, and nobody commissioned it by the ledger's word
9. OVER              not advised

MATCH_INFERRED and UNDER are no outcome of a scan: the first follows from the scan of a container, the second from the
closing.
"""

from dataclasses import dataclass
from datetime import date

from medtrail.gs1 import Gln
from services.custody.receiving.codes import ResultCode
from services.custody.units import Unit


@dataclass(frozen=True, slots=True)
class Label:
    """What was read from a unit.

    Attributes:
        unit: The pack or container.
        lot: As on it; empty when it does not say.
        expiry: As on it; None when it does not say.
        ship_to: Consignee as on it (AI 410); None when it does not say.
    """

    unit: Unit
    lot: str = ""
    expiry: date | None = None
    ship_to: Gln | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a despatch of the delivery says of a unit.

    Attributes:
        lot: Empty when it does not say.
        expiry: None when it does not say.
        containers: Those that it is inside of, innermost first.
    """

    lot: str = ""
    expiry: date | None = None
    containers: tuple[Unit, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when a unit is scanned.

    Attributes:
        ours: Our GLNs.
        expected: Its data in the delivery; None: no despatch of it tells of the unit.
        before: The label of its earlier scan in this delivery.
        received: It is in the books as received, by another delivery or before.
        taken_from: Container from which it was taken, if the station says so.
        sent_elsewhere: The ledger believes it on its way to somebody else.
        commissioned: Whether anybody commissioned it by the ledger's word; None: the ledger was not asked.
    """

    ours: frozenset[Gln] = frozenset()
    expected: Expected | None = None
    before: Label | None = None
    received: bool = False
    taken_from: Unit | None = None
    sent_elsewhere: bool = False
    commissioned: bool | None = None


def reconcile(label: Label | None, facts: Facts) -> tuple[ResultCode, ...]:
    """Return what applies to a scan: what decides first, then what else there is to tell.

    Args:
        label: What was read; None when nothing could be.
        facts: What is known.
    """
    if label is None:
        return (ResultCode.UNREADABLE,)
    if facts.before is not None and same_label(facts.before, label):
        return (ResultCode.ALREADY_SCANNED,)
    found: list[ResultCode] = []
    if label.ship_to is not None and label.ship_to not in facts.ours:
        found.append(ResultCode.NOT_FOR_US)
    if facts.received:
        found.append(ResultCode.ALREADY_RECEIVED)
    if facts.expected is not None:
        found += mismatches(label, lot=facts.expected.lot, expiry=facts.expected.expiry)
        if facts.taken_from is not None and facts.taken_from not in facts.expected.containers:
            found.append(ResultCode.OTHER_CONTAINER)
        return tuple(found) or (ResultCode.MATCH,)
    if found:
        return tuple(found)
    if facts.sent_elsewhere:
        return (ResultCode.NOT_FOR_US,)
    return (ResultCode.UNKNOWN_SERIAL,) if facts.commissioned is False else (ResultCode.OVER,)


def same_label(one: Label, other: Label) -> bool:
    """Tell whether two labels may be one: the same unit, and nothing that both say differs."""
    return one.unit == other.unit and not mismatches(one, lot=other.lot, expiry=other.expiry)


def mismatches(label: Label, *, lot: str, expiry: date | None) -> tuple[ResultCode, ...]:
    """Return where a label differs from data; what either does not say differs from nothing."""
    found = []
    if label.lot and lot and label.lot != lot:
        found.append(ResultCode.WRONG_LOT)
    if label.expiry is not None and expiry is not None and label.expiry != expiry:
        found.append(ResultCode.WRONG_EXPIRY)
    return tuple(found)
