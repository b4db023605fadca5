"""What this organisation itself said of goods, for reports: which events, of which kind, about which packs.

The kinds are those that supply reports to authorities distinguish (Korea's KPIS: shipment, return, destruction, and the
correction or cancellation of an earlier report).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum

from sqlalchemy import Connection, select
from sqlmodel import col

from medtrail.epcis.model import BizTransaction, EpcisEvent, ErrorDeclaration
from medtrail.errors import MalformedError, NotFoundError
from medtrail.event import Capture, PayloadType
from medtrail.gs1 import Gln, Sgtin
from services.custody import events_store
from services.custody.events_store import Stored
from services.custody.holding import Ending
from services.custody.holdings_store import to_us
from services.custody.parties import party_of
from services.custody.shipment import contents_of, read_events
from services.custody.steps import StepKind, step_of
from services.custody.tables import KnownEvent
from services.custody.units import unit_of_path

MAX_EXAMINED = 5000
"""Events looked at for one page."""


class OwnEventKind(IntEnum):
    """What an event reports of goods; numbered as in the protocol."""

    SALES_SHIPMENT = 1
    RETURN_SHIPMENT = 2
    RETURN_RECEIPT = 3
    DESTRUCTION = 4
    CORRECTION = 5
    CANCELLATION = 6
    OTHER = 7


_KIND_OF_STEP = {
    StepKind.SHIP: OwnEventKind.SALES_SHIPMENT,
    StepKind.SEND_BACK: OwnEventKind.RETURN_SHIPMENT,
    StepKind.TAKE_BACK: OwnEventKind.RETURN_RECEIPT,
    StepKind.VOID_SHIPPING: OwnEventKind.CANCELLATION,
}


@dataclass(frozen=True, slots=True)
class OwnEvent:
    """An event of one's own, without the things that it names: a page of them is small.

    Attributes:
        event_id: Its id; of a declaration, that of the event declared wrong.
        sha256: Of the SignedEvent, 32 bytes.
        leaf_index: Its place in the log, or None.
        kind: What it reports.
        event_time: Aware UTC.
        event_time_zone_offset: ``+hh:mm``.
        declaration: That it was wrong, or None.
        partner: The other party, or None where it names none.
        documents: Its business transactions.
    """

    event_id: str
    sha256: bytes
    leaf_index: int | None
    kind: OwnEventKind
    event_time: datetime
    event_time_zone_offset: str
    declaration: ErrorDeclaration | None
    partner: Gln | None
    documents: tuple[BizTransaction, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order in which they were recorded; ``position`` to go on from, None at the end."""

    events: tuple[OwnEvent, ...]
    position: int | None


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that an event concerns; lot and expiry empty and None where unknown."""

    gtin: str
    lot: str
    expiry: date | None
    serial: str


def kind_of(statement: EpcisEvent) -> OwnEventKind:
    """Return what an event reports of goods."""
    try:
        step = step_of(statement, field="event")
    except MalformedError:
        # Second-hand events may name what is no unit here.
        return OwnEventKind.OTHER
    kind = _KIND_OF_STEP.get(step.kind, OwnEventKind.OTHER)
    if step.kind is StepKind.END and step.ending is Ending.DESTROYED:
        kind = OwnEventKind.DESTRUCTION
    declaration = statement.error_declaration
    if declaration is None or kind is OwnEventKind.OTHER:
        return kind
    return OwnEventKind.CORRECTION if declaration.corrective_event_ids else OwnEventKind.CANCELLATION


def list_own_events(
    connection: Connection,
    *,
    after: int,
    start: datetime | None,
    end: datetime | None,
    kinds: Collection[OwnEventKind],
    limit: int,
) -> Page:
    """Return what this organisation did and said itself, and the ledger did not refuse.

    Args:
        connection: In a transaction.
        after: Position to go on from; 0 for the beginning.
        start: First moment, of the event or of the declaration that it was wrong; None: from the beginning on.
        end: First moment behind; None: to the end.
        kinds: Only these; empty: all.
        limit: Most events of the page, 1 or more. It may have fewer and a position, because at most 5,000 are examined.
    """
    numbers = _numbers(connection, after=after, start=start, end=end)
    found: list[OwnEvent] = []
    for item in read_events(connection, numbers):
        statement = item.event.statement
        # What another did, and we passed on, is no report of ours.
        if not isinstance(statement, EpcisEvent) or item.event.header.capture is not Capture.FIRST_HAND:
            continue
        kind = kind_of(statement)
        if (kinds and kind not in kinds) or not _within(statement, start, end):
            continue
        found.append(_own_event(item, statement, kind))
        if len(found) == limit:
            return Page(tuple(found), item.number)
    return Page(tuple(found), numbers[-1] if len(numbers) == MAX_EXAMINED else None)


def _own_event(item: Stored, statement: EpcisEvent, kind: OwnEventKind) -> OwnEvent:
    return OwnEvent(
        event_id=item.event.header.event_id,
        sha256=item.sha256,
        leaf_index=item.leaf_index,
        kind=kind,
        event_time=statement.event_time,
        event_time_zone_offset=statement.event_time_zone_offset,
        declaration=statement.error_declaration,
        partner=partner_of(statement),
        documents=statement.biz_transaction_list,
    )


def _numbers(connection: Connection, *, after: int, start: datetime | None, end: datetime | None) -> Sequence[int]:
    known = KnownEvent
    query = select(col(known.number)).where(
        col(known.number) > after,
        col(known.own).is_(True),
        col(known.refusal) == "",
        col(known.payload_type) == PayloadType.EPCIS.value,
    )
    # A declaration has the time of what it declares wrong: its own is only in its bytes.
    if start is not None:
        query = query.where(col(known.declaration).is_(True) | (col(known.event_time_us) >= to_us(start)))
    if end is not None:
        query = query.where(col(known.declaration).is_(True) | (col(known.event_time_us) < to_us(end)))
    rows = connection.execute(query.order_by(col(known.number)).limit(MAX_EXAMINED)).scalars()
    return [number for number in rows if number is not None]


def _within(statement: EpcisEvent, start: datetime | None, end: datetime | None) -> bool:
    declaration = statement.error_declaration
    moment = statement.event_time if declaration is None else declaration.declaration_time
    return (start is None or moment >= start) and (end is None or moment < end)


def partner_of(statement: EpcisEvent) -> Gln | None:
    """Return the other party: of what arrives who sent it, of all else whither it went."""
    if statement.biz_step in {"receiving", "accepting"}:
        return party_of(statement.source_list)
    return party_of(statement.destination_list)


def packs_of(connection: Connection, event_id: str, *, declaration: bool) -> list[Pack]:
    """Return the packs that an event of one's own concerns, in order of GTIN, lot, expiry and serial number.

    Raises:
        NotFoundError: EVENT_UNKNOWN: this organisation signed no such event, or the ledger refused it.
    """
    item = next(
        (
            item
            for item in events_store.find_by_id(connection, event_id)
            if item.own and item.event.is_declaration is declaration and not item.refusal
        ),
        None,
    )
    statement = None if item is None else item.event.statement
    if not isinstance(statement, EpcisEvent):
        message = f"this organisation signed no event {event_id[:200]}"
        raise NotFoundError(message, code="EVENT_UNKNOWN", field="event_id")
    step = step_of(statement, field="event")
    contents = contents_of(connection, statement, (named.unit for named in step.units))
    packs = []
    for path, content in contents.units.items():
        unit = unit_of_path(path)
        if isinstance(unit, Sgtin) and not content.holds:
            packs.append(Pack(unit.gtin.digits, content.lot, content.expiry, unit.serial))
    return sorted(packs, key=_order)


def _order(pack: Pack) -> tuple[str, str, date, int, str]:
    # Serial numbers of digits in the order of their values where they are of one length.
    return pack.gtin, pack.lot, pack.expiry or date.min, len(pack.serial), pack.serial
