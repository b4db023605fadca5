"""Orders: what was ordered, promised, sent and received of a trade item, and where that differs."""

from dataclasses import dataclass


@dataclass(slots=True)
class Order:
    """An order of one line.

    Attributes:
        now: Promised to come at once; None before the seller has answered.
        later: Promised to come later.
    """

    number: str
    buyer: str
    seller: str
    gtin: str
    ordered: int
    now: int | None = None
    later: int = 0
    shipped: int = 0
    received: int = 0

    def confirm(self, quantity: str) -> None:
        """Let the seller answer: the whole, or so much now and the rest later."""
        self.now = int(quantity) if quantity else self.ordered
        self.later = self.ordered - self.now

    @property
    def due(self) -> int:
        """What is agreed."""
        return self.ordered if self.now is None else self.now + self.later

    @property
    def state(self) -> str:
        """How far it has come."""
        if self.received:
            return "received" if self.received >= self.due else "partly_received"
        if self.shipped:
            return "shipped" if self.shipped >= self.due else "partly_shipped"
        return "placed" if self.now is None else "confirmed"

    def words(self) -> dict[str, str]:
        """Return what both sides must answer."""
        left = max(0, self.due - self.shipped)
        return {
            "state": self.state,
            "ordered": str(self.ordered),
            "confirmed": "" if self.now is None else str(self.now),
            "back-ordered": str(min(left, self.later)),
            "shipped": str(self.shipped),
            "received": str(self.received),
            "open": str(left),
            "mismatches": "OVER_DELIVERED" if self.shipped > self.due else "",
        }
