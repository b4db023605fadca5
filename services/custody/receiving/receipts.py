"""Receiving advices: what came of a despatch, told to its sender by trade item and lot.

A line's quantity is what was accepted; its note says what was not, in fixed words: ``missing 2, over 1, damaged 1,
expired 1, recalled 1, mismatched 1`` (mismatched: there, but lot or expiry are not as advised). What is ours, and is
held at once for what is the matter with it, is not accepted: it counts under the first of its flaws, in this order.
What is missing of a despatch for several orders is ``missing 2 of order P-1 line 3`` where its despatch advices tell,
else ``missing 2 (no despatch advice tells of which order)``.

Source: UN/CEFACT and GS1 XML receiving advice, whose quantities these are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

from medtrail.codec.document import MAX_LOT_LENGTH, MAX_REFERENCES
from medtrail.document import Document, DocumentKind, DocumentReference
from medtrail.gs1 import Gln, Gtin, Sgtin
from medtrail.terms import MAX_LINES, TermsLine
from medtrail.trust import TRADING_ROLES
from services.custody import inbound_store
from services.custody.desk import Session
from services.custody.holding import Books, Holding
from services.custody.holds import HoldCode, codes_of
from services.custody.inbound_store import InboundShipment
from services.custody.orders import documents
from services.custody.orders.links import documents_named
from services.custody.receiving.cases import sender_of
from services.custody.receiving.codes import MISMATCHED, ResultCode
from services.custody.receiving.deliveries_store import Delivery
from services.custody.receiving.lines_store import Line
from services.custody.receiving.plan import Plan
from services.custody.receiving.purposes import Purposes, purposes_of

_REFERABLE = frozenset({DocumentKind.ORDER, DocumentKind.DESPATCH_ADVICE})


class Fate(StrEnum):
    """What became of a pack, in the words of a receiving advice."""

    ACCEPTED = "accepted"
    MISSING = "missing"
    OVER = "over"
    DAMAGED = "damaged"
    EXPIRED = "expired"
    RECALLED = "recalled"
    MISMATCHED = "mismatched"


_HELD = {
    HoldCode.DAMAGED: Fate.DAMAGED,
    HoldCode.EXPIRED: Fate.EXPIRED,
    HoldCode.RECALLED: Fate.RECALLED,
}

Tally = Counter[tuple[Gtin, str, Fate]]


def tally_of(
    books: Books, plan: Plan, despatch_id: str, before: Mapping[str, Holding | None], *, with_over: bool
) -> Tally:
    """Return what became of a despatch's packs, by trade item and lot.

    Args:
        books: After it: what is flawed is on hold.
        plan: What the closing does.
        despatch_id: The despatch.
        before: The good units' holdings before they were received.
        with_over: What no despatch tells of is counted here too.
    """
    found: Tally = Counter()
    for path, line in plan.good.items():
        holding = before.get(path)
        if holding is not None and holding.despatch_id == despatch_id:
            _add(found, line, _fate_of(books.get(line.unit)), lot=holding.lot)
    for line in plan.missing.values():
        if line.despatch_id == despatch_id:
            _add(found, line, Fate.MISSING, lot=line.lot)
    for line, result in (*plan.aside.values(), *plan.inside_aside.values()):
        if result in MISMATCHED and line.despatch_id == despatch_id:
            _add(found, line, Fate.MISMATCHED, lot=line.lot)
        elif result in {ResultCode.OVER, ResultCode.UNKNOWN_SERIAL} and with_over:
            _add(found, line, Fate.OVER, lot=line.seen_lot)
    return found


def _fate_of(holding: Holding | None) -> Fate:
    """Return what became of a pack that was received."""
    held = codes_of("" if holding is None else holding.hold_reason)
    return next((fate for code, fate in _HELD.items() if code in held), Fate.ACCEPTED)


def _add(tally: Tally, line: Line, fate: Fate, *, lot: str) -> None:
    unit = line.unit
    if isinstance(unit, Sgtin):
        tally[unit.gtin, lot, fate] += 1


def lines_of(tally: Tally, purposes: Purposes) -> list[TermsLine]:
    """Return the lines of a receiving advice, in order of trade item and lot."""
    keys = sorted({(gtin, lot) for gtin, lot, _ in tally}, key=lambda key: (str(key[0]), key[1]))
    found = []
    for number, (gtin, lot) in enumerate(keys, 1):
        others = {fate: tally[gtin, lot, fate] for fate in Fate if fate is not Fate.ACCEPTED}
        found.append(
            TermsLine(
                line_number=number,
                gtin=gtin,
                quantity=Decimal(tally[gtin, lot, Fate.ACCEPTED]),
                # What a partner calls a lot may be longer than one is: the advice goes out without.
                lots=(lot,) if 0 < len(lot) <= MAX_LOT_LENGTH else (),
                note=", ".join(
                    f"{fate} {count} {purposes.of(gtin, lot) if fate is Fate.MISSING else ''}".rstrip()
                    for fate, count in others.items()
                    if count
                ),
            )
        )
    return found


def answer_senders(session: Session, delivery: Delivery, plan: Plan, before: Mapping[str, Holding | None]) -> list[str]:
    """Tell each sender what came of its despatches; return the numbers of the receiving advices."""
    despatches = {line.despatch_id for line in plan.lines.values() if line.despatch_id}
    despatches |= {item.despatch_id for item in before.values() if item is not None and item.despatch_id}
    sole_sender = sender_of(session, delivery)
    told_over = False
    made: list[str] = []
    for despatch_id in sorted(despatches):
        shipment = inbound_store.find(session.connection, despatch_id)
        if shipment is None:
            continue
        with_over = not told_over and shipment.sender == sole_sender
        told_over |= with_over
        tally = tally_of(session.books, plan, despatch_id, before, with_over=with_over)
        name = f"{delivery.delivery_id}-{delivery.closings + 1}-{len(made) + 1}"
        made += _issue(session, shipment, lines_of(tally, purposes_of(session.connection, shipment)), name=name)
    return made


def answer_later(session: Session, shipment: InboundShipment, parts: Sequence[Holding], *, name: str) -> list[str]:
    """Tell a sender what became of goods that had waited for its data; return the numbers of the advices.

    Args:
        session: With the books after it: what is flawed is on hold.
        shipment: That brought them.
        parts: Units, and all that is inside of them.
        name: Number of the first advice.
    """
    tally: Tally = Counter()
    for part in parts:
        if part.smallest and isinstance(part.unit, Sgtin):
            tally[part.unit.gtin, part.lot, _fate_of(session.books.get(part.unit))] += 1
    return _issue(session, shipment, lines_of(tally, purposes_of(session.connection, shipment)), name=name)


def _issue(session: Session, shipment: InboundShipment, lines: Sequence[TermsLine], *, name: str) -> list[str]:
    if not lines or not _may_answer(session, shipment.sender):
        return []
    made = []
    for start in range(0, len(lines), MAX_LINES):
        number = name if len(lines) <= MAX_LINES else f"{name}-{start // MAX_LINES + 1}"
        document = Document(
            kind=DocumentKind.RECEIVING_ADVICE,
            number=number,
            counterparty=shipment.sender,
            issue_time=session.now,
            references=_references(shipment),
            event_ids=(shipment.despatch_id,),
        )
        documents.issue(session, document, lines[start : start + MAX_LINES])
        made.append(number)
    return made


def _may_answer(session: Session, sender: Gln) -> bool:
    """Tell whether both of us are in the network and trade: others are told by other ways."""
    own = session.desk.organisation
    partner = session.desk.registry().organisation_of_gln(sender)
    if own is None or partner is None or partner.gln == own.gln:
        return False
    return not own.roles.isdisjoint(TRADING_ROLES)


def _references(shipment: InboundShipment) -> tuple[DocumentReference, ...]:
    """Return the orders and despatch advices that a despatch names, as many as a document may refer to.

    What is left out follows from the despatch, which the advice names too; orders go first.
    """
    named = [name for name in documents_named(shipment.documents) if name.kind in _REFERABLE]
    ordered = sorted(dict.fromkeys(named), key=lambda name: name.kind is not DocumentKind.ORDER)
    return tuple(ordered[:MAX_REFERENCES])
