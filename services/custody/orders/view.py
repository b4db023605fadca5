"""An order's documents, the goods that belong to it, and its lines with their quantities."""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from medtrail.document import Document, DocumentReference
from medtrail.gs1 import Gln, Gtin
from medtrail.terms import LineStatus, Terms, TermsLine
from services.custody.orders.goods import Tally

ZERO = Decimal(0)
PIECES = frozenset({"", "EA", "H87", "C62"})
"""Units of measure in which trade items are counted one by one."""


class OrderState(StrEnum):
    """State of an order."""

    PLACED = "placed"
    CONFIRMED = "confirmed"
    PARTLY_SHIPPED = "partly_shipped"
    SHIPPED = "shipped"
    PARTLY_RECEIVED = "partly_received"
    RECEIVED = "received"
    INVOICED = "invoiced"
    CANCELLED = "cancelled"
    CLOSED = "closed"


class MismatchKind(StrEnum):
    """How documents, or documents and goods, differ."""

    LINE_UNKNOWN = "LINE_UNKNOWN"
    CONFIRMATION_DIFFERS = "CONFIRMATION_DIFFERS"
    NOT_ORDERED = "NOT_ORDERED"
    OVER_DELIVERED = "OVER_DELIVERED"
    SHIPPED_AFTER_CANCELLATION = "SHIPPED_AFTER_CANCELLATION"
    ADVICE_DIFFERS = "ADVICE_DIFFERS"
    RECEIVED_DIFFERS = "RECEIVED_DIFFERS"
    INVOICED_TOO_MUCH = "INVOICED_TOO_MUCH"
    PRICE_DIFFERS = "PRICE_DIFFERS"


@dataclass(frozen=True, slots=True)
class Filed:
    """A document as kept here: who issued it, what it says, its terms."""

    issuer: Gln
    document: Document
    terms: Terms

    @property
    def name(self) -> DocumentReference:
        """Its name."""
        return self.document.named(self.issuer)

    @property
    def order(self) -> tuple[datetime, str]:
        """Which of two of a kind is the later."""
        return self.document.issue_time, self.document.number


@dataclass(frozen=True, slots=True)
class Movement:
    """A despatch or a receiving.

    Attributes:
        despatch_id: Its own event_id where it is a despatch, else that of the despatch that it answers.
        receiving: It is a receiving.
        party: Party GLN of who did it.
        tally: What it holds.
        shared: It names other orders too: what of it is for which its advices tell, not its contents.
        advices: Despatch advices that it names.
    """

    event_id: str
    despatch_id: str
    receiving: bool
    party: Gln
    tally: Tally
    shared: bool = False
    advices: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A difference; ``line_number`` 0 where no line fits; ``origin``: document or event that says so."""

    kind: MismatchKind
    line_number: int = 0
    gtin: Gtin | None = None
    wanted: Decimal | None = None
    found: Decimal | None = None
    origin: str = ""


@dataclass(slots=True)
class Line:
    """A line of an order with its quantities.

    Attributes:
        ordered: As ordered.
        answer: The seller's latest; None while there is none.
        dropped: Nothing more is to come than was shipped.
    """

    ordered: TermsLine
    answer: TermsLine | None = None
    shipped: Decimal = ZERO
    received: Decimal = ZERO
    invoiced: Decimal = ZERO
    dropped: bool = False

    @property
    def counted(self) -> bool:
        """Whether its unit of measure is the trade item."""
        return self.ordered.uom in PIECES

    @property
    def confirmed(self) -> Decimal | None:
        """What the seller confirmed to come now; None while there is no answer."""
        if self.answer is None:
            return None
        if self.answer.status is LineStatus.ACCEPTED:
            return self.ordered.quantity
        return ZERO if self.answer.status is LineStatus.REJECTED else self.answer.quantity

    @property
    def agreed(self) -> Decimal:
        """What is to be shipped in all, as ordered and answered."""
        confirmed = self.confirmed
        later = self.answer is not None and self.answer.status is LineStatus.BACK_ORDERED
        return self.ordered.quantity if confirmed is None or later else confirmed

    @property
    def due(self) -> Decimal:
        """What is to be shipped in all: what is agreed, or what was shipped where the rest is not wanted any more."""
        return min(self.agreed, self.shipped) if self.dropped else self.agreed

    @property
    def open(self) -> Decimal:
        """What is still to be shipped."""
        return max(ZERO, self.due - self.shipped)

    @property
    def back_ordered(self) -> Decimal:
        """Of what is still to be shipped, what the seller said would come later."""
        if self.answer is None or self.answer.status is not LineStatus.BACK_ORDERED:
            return ZERO
        return min(self.open, max(ZERO, self.ordered.quantity - self.answer.quantity))

    @property
    def confirmed_date(self) -> date | None:
        """Day that the seller confirmed; None where it said nothing."""
        return None if self.answer is None else self.answer.confirmed_date

    @property
    def price(self) -> tuple[Decimal | None, str]:
        """Price and currency as agreed."""
        if self.answer is not None and self.answer.status is LineStatus.CHANGED and self.answer.price is not None:
            return self.answer.price, self.answer.currency
        return self.ordered.price, self.ordered.currency


@dataclass(slots=True)
class OrderView:
    """An order as it stands."""

    order: Filed
    lines: tuple[Line, ...]
    state: OrderState = OrderState.PLACED
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def gtins(self) -> frozenset[Gtin]:
        """The trade items of its lines."""
        return frozenset(line.ordered.gtin for line in self.lines)

    @property
    def seller(self) -> Gln:
        """Party GLN of the seller."""
        return self.order.document.counterparty

    @property
    def open(self) -> bool:
        """Whether something is still to be despatched."""
        return any(line.open for line in self.lines)

    def line(self, number: int) -> Line | None:
        """Return a line by its number, or None."""
        return next((line for line in self.lines if line.ordered.line_number == number), None)
