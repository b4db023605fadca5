"""What a scan must answer: from what the house knows, and from where the pack really is."""

from dataclasses import dataclass

from medtrail.simulation.truth.ground import (
    ARRIVED,
    CONSUMED,
    DESTROYED,
    DISPENSED,
    IN_TRANSIT,
    LEFT_NETWORK,
    LOST,
    OPENED,
    RETURNED,
    Fact,
)
from medtrail.simulation.truth.house import AWAY, ENDED, EXCEPTION, INBOUND, Entry
from medtrail.simulation.truth.house import CONSUMED as USED_UP
from medtrail.simulation.truth.house import DISPENSED as HANDED_OUT
from medtrail.simulation.truth.house import OPENED as OPEN

# Of several that apply the last one speaks (docs/verification.md).
RANKS = (
    "genuine",
    "unconfirmed",
    "elsewhere",
    "held",
    "lot_mismatch",
    "expiry_mismatch",
    "expired",
    "partially_dispensed",
    "consumed",
    "suspect",
    "already_dispensed",
    "decommissioned",
    "stolen",
    "recalled",
    "unknown",
)
GRAVE = frozenset(
    {
        "SECOND_COMMISSIONING",
        "USED_AFTER_END",
        "DISPENSED_TWICE",
        "LOT_CONFLICT",
        "EXPIRY_CONFLICT",
        "MAKER_CONFLICT",
        "DUPLICATE_SERIAL",
        "DISPENSED_TOO_MUCH",
    }
)
SILENT = frozenset({"PARENT_NOT_UNPACKED", "TEMPERATURE_EXCURSION"})
_OF_CLASS = {
    DISPENSED: "already_dispensed",
    DESTROYED: "decommissioned",
    LOST: "stolen",
    OPENED: "partially_dispensed",
    CONSUMED: "consumed",
    RETURNED: "held",
}
_ON_THE_WAY = frozenset({IN_TRANSIT, ARRIVED, LEFT_NETWORK})
_GONE = frozenset({"stolen", "lost"})


@dataclass(frozen=True, slots=True)
class Scan:
    """What is read off a pack, by whom, on which day."""

    who: str
    day: str
    lot: str
    expiry: str


def verdict(scan: Scan, *, entry: Entry | None, fact: Fact | None, recalled: bool, returning: bool) -> str:
    """Return the code that must speak.

    Args:
        scan: What is read.
        entry: What the scanning house knows; None for nothing.
        fact: Where the pack is; None when nobody ever told of it.
        recalled: A recall names it.
        returning: What brings or brought it to the house sent it back.
    """
    found = {"genuine"} | ({"recalled"} if recalled else set())
    if entry is not None:
        found |= _of_house(entry, returning=returning)
    if fact is None or not fact.maker:
        found.add("unknown")
    if fact is not None:
        found |= _of_ground(fact, scan)
    for lot, expiry in {_data(entry), _data(fact)}:
        if lot and lot != scan.lot:
            found.add("lot_mismatch")
        if expiry and expiry != scan.expiry:
            found.add("expiry_mismatch")
        if scan.day > min(expiry or scan.expiry, scan.expiry):
            found.add("expired")
    return max(found, key=RANKS.index)


def _data(item: Entry | Fact | None) -> tuple[str, str]:
    return ("", "") if item is None else (item.lot, item.expiry)


def _of_house(entry: Entry, *, returning: bool) -> set[str]:
    found = set()
    if entry.state in AWAY:
        found.add("elsewhere")
    elif entry.state == OPEN:
        found.add("partially_dispensed")
    elif entry.state == HANDED_OUT:
        found.add("already_dispensed")
    elif entry.state == USED_UP:
        found.add("consumed")
    elif entry.state == ENDED:
        found.add("stolen" if entry.ending in _GONE else "decommissioned")
    if entry.state == EXCEPTION or entry.holds or (returning and entry.state == INBOUND):
        found.add("held")
    return found


def _of_ground(fact: Fact, scan: Scan) -> set[str]:
    found = set()
    if fact.where in _OF_CLASS:
        found.add(_OF_CLASS[fact.where])
    if fact.alerts & GRAVE or fact.suspect:
        found.add("suspect")
    if fact.held_back or fact.without_data or "TEMPERATURE_EXCURSION" in fact.alerts:
        found.add("held")
    if fact.alerts - GRAVE - SILENT or (fact.maker and not fact.first_hand):
        found.add("unconfirmed")
    where = fact.destination if fact.where in _ON_THE_WAY else fact.holder
    if where != scan.who:
        found.add("elsewhere")
    return found
