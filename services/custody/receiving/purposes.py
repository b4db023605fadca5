"""For which order the goods of a despatch are that names several: as its despatch advices tell, or told by nobody."""

from dataclasses import dataclass

from sqlalchemy import Connection

from medtrail.document import DocumentKind, DocumentReference
from medtrail.gs1 import Gtin
from medtrail.terms import TermsLine
from services.custody.inbound_store import InboundShipment
from services.custody.orders import book
from services.custody.orders.book import DocumentQuery, KnownDocument
from services.custody.orders.links import documents_named
from services.custody.orders.view import PIECES

MAX_ADVICES = 200
NOT_TOLD = "(no despatch advice tells of which order)"


@dataclass(frozen=True, slots=True)
class Purposes:
    """What is known of the orders of a despatch.

    Attributes:
        orders: All that it is for.
        lines: Of the latest despatch advice of each, by the order's name.
    """

    orders: frozenset[DocumentReference]
    lines: tuple[tuple[DocumentReference, TermsLine], ...]

    def of(self, gtin: Gtin, lot: str) -> str:
        """Return for which order goods are, in words; empty where there are not several orders.

        Args:
            gtin: As on the packs.
            lot: Of theirs; may be empty.
        """
        if len(self.orders) < 2:
            return ""
        about = [(order, line) for order, line in self.lines if line.gtin == gtin and line.uom in PIECES]
        if lot and all(line.lots for _, line in about):
            about = [(order, line) for order, line in about if lot in line.lots]
        found = {order for order, _ in about}
        # An order of which no advice tells may be for anything.
        if len(found) != 1 or self.orders != {order for order, _ in self.lines}:
            return NOT_TOLD
        numbers = ", ".join(str(number) for number in sorted({line.line_number for _, line in about}))
        return f"of order {found.pop().number} line {numbers}"


def purposes_of(connection: Connection, shipment: InboundShipment) -> Purposes:
    """Return what is known of the orders of a partner's despatch."""
    named = list(documents_named(shipment.documents))
    query = DocumentQuery(DocumentKind.DESPATCH_ADVICE, shipment.sender, event_id=shipment.despatch_id)
    known = book.list_documents(connection, query, before=None, limit=MAX_ADVICES)
    told = [book.find_document(connection, name) for name in named if name.kind is DocumentKind.DESPATCH_ADVICE]
    known += [item for item in told if item is not None and item.filed.issuer == shipment.sender]
    latest: dict[DocumentReference, KnownDocument] = {}
    for item in sorted(known, key=lambda item: item.filed.order):
        orders = [name for name in item.filed.document.references if name.kind is DocumentKind.ORDER]
        if len(orders) == 1 and not item.refusal:
            latest[orders[0]] = item
    lines = tuple((order, line) for order, item in latest.items() for line in item.filed.terms.lines)
    return Purposes(frozenset({*latest, *(name for name in named if name.kind is DocumentKind.ORDER)}), lines)
