"""Orders: what was ordered, promised, sent, received and invoiced of a trade item, and where that differs."""

from collections.abc import Iterator
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
    invoiced: int = 0

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
        if self.received >= self.due:
            return "invoiced" if self.invoiced >= self.due else "received"
        if self.received:
            return "partly_received"
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
            "invoiced": str(self.invoiced),
            "open": str(left),
            "mismatches": " ".join(self._mismatches()),
        }

    def _mismatches(self) -> Iterator[str]:
        if self.invoiced > self.shipped:
            yield "INVOICED_TOO_MUCH"
        if self.shipped > self.due:
            yield "OVER_DELIVERED"
