"""The verbs: from what is wanted to events, in one write transaction each.

Every function makes the events of its verb and records them; the rules stand in :mod:`services.custody.rules`, the
same for all, and name the field of the request that breaks them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from medtrail.epcis.model import BizTransaction, EpcisEvent
from medtrail.errors import AuthorizationError, ConflictError, MalformedError
from medtrail.event import ErasureOrder
from medtrail.gs1 import Gln
from services.custody import events, events_store, holdings_store, inbound_store
from services.custody.conditions import require_here, with_inside
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion, Route
from services.custody.holding import AWAY_STATES, Books, Ending, HoldingState
from services.custody.holds import HoldCode, code_of, line, lines_of, of_codes
from services.custody.inbound_store import InboundShipment, InboundState
from services.custody.parties import organisation_gln
from services.custody.receiving import arrivals, cases
from services.custody.units import Named, Unit


def _fields(units: Iterable[Named]) -> dict[Unit, str]:
    return {named.unit: named.field for named in units}


def _units(units: Iterable[Named]) -> tuple[Unit, ...]:
    return tuple(named.unit for named in units)


def commission(
    session: Session, units: Sequence[Named], occasion: Occasion, *, lot: str = "", expiry: date | None = None
) -> list[Accepted]:
    """Give life to packs of a lot, or to logistic units.

    Raises:
        ConflictError: ALREADY_COMMISSIONED.
        AuthorizationError: PREFIX_NOT_OWNED, ROLE_FORBIDS.
    """
    return [
        session.record(events.commissioning(group, occasion, lot=lot, expiry=expiry), fields=_fields(units))
        for group in events.split(_units(units))
    ]


def pack(session: Session, parent: Named, children: Sequence[Named], occasion: Occasion) -> list[Accepted]:
    """Put units into a container."""
    fields = _fields((parent, *children))
    return [
        session.record(events.packing(parent.unit, group, occasion), fields=fields)
        for group in events.split(_units(children))
    ]


def unpack(session: Session, parent: Named, children: Sequence[Named], occasion: Occasion) -> list[Accepted]:
    """Take units out of a container; none named means all, and ends its use."""
    fields = _fields((parent, *children))
    groups: Iterable[tuple[Unit, ...]] = events.split(_units(children)) if children else ((),)
    return [session.record(events.unpacking(parent.unit, group, occasion), fields=fields) for group in groups]


def take_out(session: Session, units: Sequence[Named], occasion: Occasion) -> list[Accepted]:
    """Take units out of the containers that they are in, where they are handled alone."""
    return _part(session, units, occasion, events.unpacking)


def say_absent(session: Session, units: Sequence[Named], occasion: Occasion) -> list[Accepted]:
    """Say that units are not in the containers that they are in by the books."""
    return _part(session, units, occasion, events.absence)


def _part(
    session: Session,
    units: Sequence[Named],
    occasion: Occasion,
    say: Callable[[Unit, Sequence[Unit], Occasion], EpcisEvent],
) -> list[Accepted]:
    by_parent: dict[Unit, list[Named]] = {}
    for named in units:
        holding = session.books.get(named.unit)
        if holding is not None and holding.parent is not None and not holding.final:
            by_parent.setdefault(holding.parent, []).append(named)
    made: list[Accepted] = []
    for parent, children in by_parent.items():
        fields = {**_fields(children), parent: children[0].field}
        made += [
            session.record(say(parent, group, occasion), fields=fields) for group in events.split(_units(children))
        ]
    return made


@dataclass(frozen=True, slots=True)
class Consignee:
    """To whom goods go: a party, and one of its places."""

    party: Gln
    location: Gln


def _check_consignee(session: Session, consignee: Consignee) -> None:
    if consignee.party in session.desk.glns:
        message = f"{consignee.party} is this organisation itself"
        raise MalformedError(message, code="DESTINATION_OWN", field="destination_party")


def ship(
    session: Session,
    units: Sequence[Named],
    occasion: Occasion,
    consignee: Consignee,
    documents: Sequence[BizTransaction] = (),
) -> list[Accepted]:
    """Despatch outermost units, with advice to the partner where it is enrolled."""
    _check_consignee(session, consignee)
    route = Route(session.desk.gln, occasion.location, consignee.party, consignee.location)
    return [
        session.record(events.shipping(group, occasion, route, documents), fields=_fields(units))
        for group in events.split(_units(units))
    ]


def send_back(
    session: Session,
    units: Sequence[Named],
    occasion: Occasion,
    consignee: Consignee,
    *,
    reason: str,
    purpose: str = "",
    authorisation: str = "",
) -> list[Accepted]:
    """Send units back to a partner, under the number of its return authorisation where it gave one.

    Raises:
        ConflictError: A unit is not in the house, or is opened and goes back for resale (UNIT_OPENED).
    """
    _check_consignee(session, consignee)
    route = Route(session.desk.gln, occasion.location, consignee.party, consignee.location)
    # Who takes the goods back gave the number.
    issuer = organisation_gln(consignee.party, session.desk.registry())
    documents = [events.document("rma", authorisation, issuer=issuer)] if authorisation else []
    return [
        session.record(
            events.sending_back(group, occasion, route, reason=reason, purpose=purpose, documents=documents),
            fields=_fields(units),
        )
        for group in events.split(_units(units))
    ]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of a delivery.

    Attributes:
        accepted: The events made.
        unit_count: Smallest advised units that are held here since.
        unadvised: Units that nobody advised.
        missing: Outermost units of the same shipments that have not come.
    """

    accepted: list[Accepted]
    unit_count: int
    unadvised: tuple[Unit, ...]
    missing: tuple[Unit, ...]


def receive(session: Session, units: Sequence[Named], occasion: Occasion) -> Delivery:
    """Take delivery of units with all that the advice says is inside.

    What is scanned alone is taken out of its container, unless that is scanned too. Unadvised units are recorded as
    arrived and put aside; they are received when their advice comes.

    Raises:
        ConflictError: ALREADY_RECEIVED, UNIT_FINAL.
    """
    accepted = take_out(session, _scanned_alone(session, units), occasion)
    groups: dict[str, list[Named]] = {}
    unadvised: list[Named] = []
    for named in units:
        holding = session.books.get(named.unit)
        if holding is None or holding.state in AWAY_STATES:
            unadvised.append(named)
        else:
            groups.setdefault(holding.despatch_id, []).append(named)
    shipments = {name: inbound_store.find(session.connection, name) for name in groups}
    for name, group in groups.items():
        accepted += receive_group(session, group, occasion, shipments[name])
    accepted += arrivals.arrive_unadvised(session, unadvised, occasion)
    came = (part for group in groups.values() for named in group for part in with_inside(session.books, named.unit))
    cases.note_found(session, [part.unit for part in came])
    return _delivery(session, accepted, _units(unadvised), [item for item in shipments.values() if item is not None])


def _scanned_alone(session: Session, units: Sequence[Named]) -> list[Named]:
    chosen = {named.unit for named in units}
    found = []
    for named in units:
        holding = session.books.get(named.unit)
        if holding is None or holding.state is not HoldingState.INBOUND:
            continue
        if not any(container.unit in chosen for container in session.books.containers(named.unit)):
            found.append(named)
    return found


def receive_group(
    session: Session, units: Sequence[Named], occasion: Occasion, shipment: InboundShipment | None
) -> list[Accepted]:
    """Take delivery of units of one despatch.

    Raises:
        ConflictError: ALREADY_RECEIVED, UNIT_FINAL.
    """
    fields = _fields(units)
    # Containers first, so that what is inside them finds them arrived in a later event too.
    ordered = sorted(units, key=lambda named: sum(1 for _ in session.books.containers(named.unit)))
    made = []
    for group in events.split(_units(ordered)):
        if shipment is None:
            statement = events.receiving(group, occasion, None)
        else:
            route = Route(shipment.sender, shipment.source_location, session.desk.gln, occasion.location)
            disposition = "returned" if shipment.returned else "in_progress"
            statement = events.receiving(group, occasion, route, disposition=disposition, documents=shipment.documents)
        made.append(session.record(statement, fields=fields))
    return made


def _delivery(
    session: Session, accepted: list[Accepted], unadvised: tuple[Unit, ...], shipments: Sequence[InboundShipment]
) -> Delivery:
    count_received(session)
    unit_count = sum(sum(received.smallest.values()) for received in session.received)
    missing = tuple(unit for shipment in shipments for unit in _missing(session, shipment))
    return Delivery(accepted, unit_count, unadvised, missing)


def count_received(session: Session) -> None:
    """Add what the session's events received to the counts of their shipments."""
    for received in session.received:
        for despatch_id, count in received.smallest.items():
            inbound_store.count_received(session.connection, despatch_id, count)


def _missing(session: Session, shipment: InboundShipment) -> list[Unit]:
    now = inbound_store.find(session.connection, shipment.despatch_id)
    if now is None or now.state is InboundState.RECEIVED:
        return []
    # The session knows the units that were scanned; the others of the shipment are read here.
    books = holdings_store.load_books(session.connection, shipment.units)
    return [unit for unit in shipment.units if _is_missing(books, unit)]


def _is_missing(books: Books, unit: Unit) -> bool:
    holding = books.get(unit)
    if holding is None or holding.state is not HoldingState.INBOUND:
        return False
    # A container all of whose contents came by themselves is not missed.
    inside = tuple(books.inside(unit))
    return not inside or any(part.smallest and part.state is HoldingState.INBOUND for part in inside)


def hold(
    session: Session, units: Sequence[Named], occasion: Occasion, *, reason: str, code: HoldCode = HoldCode.OTHER
) -> list[Accepted]:
    """Put units aside, for one more reason.

    Raises:
        ConflictError: One is on hold for this reason (ALREADY_ON_HOLD).
        MalformedError: The reason says nothing, or too much (TEXT_LENGTH).
    """
    said = line(code, reason)
    return [
        session.record(events.holding(group, occasion, reason=said), fields=_fields(units))
        for group in events.split(_units(units))
    ]


def release(
    session: Session,
    units: Sequence[Named],
    occasion: Occasion,
    *,
    reason: str,
    codes: Collection[HoldCode] = (),
    reasons: Mapping[Unit, Collection[str]] | None = None,
    agreement: events.Agreement | None = None,
) -> list[Accepted]:
    """End holds: those with some codes, or all. Units stay on hold as long as one of their reasons is left.

    Args:
        session: With the units.
        units: In the house.
        occasion: When and where.
        reason: Why.
        codes: Of the holds that end; empty: all.
        reasons: Of each unit those that end, in place of codes; None: by their codes.
        agreement: Of two persons, where two are needed.

    Raises:
        ConflictError: NOT_ON_HOLD, or FOUR_EYES_REQUIRED.
    """
    if reasons is None:
        require_on_hold(session, units, codes)
        reasons = {named.unit: standing_reasons(session.books, named.unit, codes) for named in units}
    groups: dict[tuple[str, ...], list[Unit]] = {}
    for named in units:
        groups.setdefault(_ended(session.books, named, reasons[named.unit]), []).append(named.unit)
    return [
        session.record(
            events.releasing(group, occasion, reason=reason, ended=ended, held=bool(ended), agreement=agreement),
            fields=_fields(units),
        )
        for ended, members in groups.items()
        for group in events.split(members)
    ]


def standing_reasons(books: Books, unit: Unit, codes: Collection[HoldCode]) -> tuple[str, ...]:
    """Return the reasons with some codes, or all, for which a unit or anything inside of it is on hold, each once."""
    held = (reason for part in with_inside(books, unit) for reason in lines_of(part.hold_reason))
    return tuple(dict.fromkeys(reason for reason in held if not codes or code_of(reason) in codes))


def _ended(books: Books, named: Named, reasons: Collection[str]) -> tuple[str, ...]:
    """Return the reasons that end while others hold the unit, or something inside of it, on; none where all end."""
    holding = require_here(books, named)
    if not set(reasons).intersection(lines_of(holding.hold_reason)):
        message = f"{named.unit.path} is not on hold any more for {'; '.join(reasons)}"
        raise ConflictError(message, code="NOT_ON_HOLD", field=named.field)
    held = standing_reasons(books, named.unit, ())
    ended = tuple(reason for reason in held if reason in reasons)
    return () if held == ended else ended


def require_on_hold(session: Session, units: Sequence[Named], codes: Collection[HoldCode] = ()) -> None:
    """Check that units are on hold: the event of a release also fits goods that are only put on the shelf."""
    for named in units:
        holding = session.books.get(named.unit)
        if holding is not None and holding.here and not of_codes(holding.hold_reason, codes):
            message = f"{named.unit.path} is not on hold" + (f" for {', '.join(sorted(codes))}" if codes else "")
            raise ConflictError(message, code="NOT_ON_HOLD", field=named.field)


def dispense(session: Session, units: Sequence[Named], occasion: Occasion, *, partial: bool) -> list[Accepted]:
    """Hand packs out, in whole or in part; those in a container are taken out of it first."""
    made = take_out(session, units, occasion)
    made += [
        session.record(events.dispensing(group, occasion, partial=partial), fields=_fields(units))
        for group in events.split(_units(units))
    ]
    return made


def end(session: Session, units: Sequence[Named], occasion: Occasion, how: Ending) -> list[Accepted]:
    """End the life of units; those in a container that stays are taken out of it first."""
    chosen = {named.unit for named in units}
    outermost = [
        named
        for named in units
        if not any(container.unit in chosen for container in session.books.containers(named.unit))
    ]
    made = take_out(session, outermost, occasion)
    # What ends with its container needs no word of its own.
    made += [
        session.record(events.ending(group, occasion, how), fields=_fields(outermost))
        for group in events.split(_units(outermost))
    ]
    return made


def order_erasure(session: Session, order: ErasureOrder) -> Accepted:
    """Order an event of one's own to be erased.

    What is not known here may be an older one of ours: the ledger decides, and what is wrong is refused there.

    Raises:
        AuthorizationError: Another organisation signed it (ERASURE_NOT_OWNER).
        ConflictError: It is not in the log yet (EVENT_NOT_LOGGED).
    """
    stored = events_store.find_by_hash(session.connection, order.signed_event_sha256)
    if stored is not None and not stored.own:
        message = f"the event was signed by {stored.signer}, not by {session.desk.gln}"
        raise AuthorizationError(message, code="ERASURE_NOT_OWNER", field="signed_event_sha256")
    if stored is not None and stored.leaf_index is None:
        message = "the event has no entry in the log yet: its order would come before it"
        raise ConflictError(message, code="EVENT_NOT_LOGGED", field="signed_event_sha256")
    return session.state(order)
