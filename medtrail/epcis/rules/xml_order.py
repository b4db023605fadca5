"""The order in which EPCIS XML gives an event's elements.

The schemas of version 1.2 and 2.0 agree on it: version 1.2 only hides some fields in ``extension`` and
``baseExtension`` elements, within each of which the order is the same. So it is checked within each element.

Source: EPCIS 1.2, section 9.5, and EPCIS 2.0, section 9.5 (XML schemas of the core event types).
"""

from typing import Final

from medtrail.epcis.model import EventType

_BASE: Final = ("eventTime", "recordTime", "eventTimeZoneOffset", "eventID", "errorDeclaration", "certificationInfo")
_WHERE_WHY: Final = ("bizStep", "disposition", "readPoint", "bizLocation")
_PARTIES: Final = ("sourceList", "destinationList")
_LAST: Final = ("sensorElementList", "persistentDisposition", "ilmd")

_ORDER: Final[dict[str, tuple[str, ...]]] = {
    EventType.OBJECT: (
        *_BASE, "epcList", "action", *_WHERE_WHY, "bizTransactionList", "quantityList", *_PARTIES, *_LAST,
    ),
    EventType.AGGREGATION: (
        *_BASE, "parentID", "childEPCs", "action", *_WHERE_WHY, "bizTransactionList", "childQuantityList", *_PARTIES,
        *_LAST,
    ),
    EventType.TRANSACTION: (
        *_BASE, "bizTransactionList", "parentID", "epcList", "action", *_WHERE_WHY, "quantityList", *_PARTIES, *_LAST,
    ),
    EventType.TRANSFORMATION: (
        *_BASE, "inputEPCList", "inputQuantityList", "outputEPCList", "outputQuantityList", "transformationID",
        *_WHERE_WHY, "bizTransactionList", *_PARTIES, *_LAST,
    ),
    EventType.ASSOCIATION: (
        *_BASE, "parentID", "childEPCs", "childQuantityList", "action", *_WHERE_WHY, "bizTransactionList", *_PARTIES,
        *_LAST,
    ),
}  # fmt: skip

_SINCE_2: Final = frozenset({"certificationInfo"})

QUANTITY: Final = ("epcClass", "quantity", "uom")
"""Elements of a quantity element."""


def order_of(kind: str, *, version: int) -> tuple[str, ...]:
    """Return the elements of an event type in their order; none for another type.

    Version 1 has no place for what came with version 2, and so says nothing of its order.
    """
    names = _ORDER.get(kind, ())
    return names if version > 1 else tuple(name for name in names if name not in _SINCE_2)


class Order:
    """Follows the children of one element.

    Args:
        names: In their order.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._ranks = {name: rank for rank, name in enumerate(names)}
        self._last = ""
        self._told = False

    def misplaced(self, name: str) -> str | None:
        """Return the name that an element should stand before, or None; told once for an element's children."""
        rank, last = self._ranks.get(name), self._ranks.get(self._last, -1)
        if rank is None:
            return None
        if rank >= last:
            self._last = name
            return None
        found = None if self._told else self._last
        self._told = True
        return found
