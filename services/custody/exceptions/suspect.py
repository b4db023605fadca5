"""Suspect product: quarantine, investigation, clearing, and the notification of illegitimate product.

A data mismatch is an exception; only a person makes product suspect. Source: FD&C Act, section 582 (b)(4), (c)(4),
(d)(4) and (e)(4): quarantine and verification; notification of the FDA and of immediate trading partners within 24
hours after a determination; dispensers verify at least 3 packages or a tenth of them, whichever is greater, or all
where there are fewer than 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from medtrail.errors import ConflictError, MalformedError
from medtrail.event import Role
from medtrail.gs1 import Gln, Sgtin
from medtrail.trust import TRADING_ROLES
from services.custody import commands as verbs
from services.custody import holdings_store, inbound_store
from services.custody.conditions import require_here
from services.custody.desk import Accepted, Desk, Session
from services.custody.events import Occasion
from services.custody.exceptions import conversation, effects, exchange, store
from services.custody.exceptions.case import (
    NOTIFY_WITHIN,
    Case,
    CaseResolution,
    CaseScan,
    CaseStatus,
    CaseUnit,
    MessageKind,
    NewCase,
)
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.commands import require_open
from services.custody.exceptions.exchange import Said, note_for_house
from services.custody.holding import Books
from services.custody.holdings_store import to_us
from services.custody.holds import HoldCode
from services.custody.tables import HoldingRow
from services.custody.units import Named, Unit


@dataclass(frozen=True, slots=True)
class Investigation:
    """How far the investigation of a case is.

    Attributes:
        packs: Under suspicion and here, or they were when they were verified.
        verify_count: How many of them must be verified.
        verified: Those that were.
    """

    packs: frozenset[Unit] = frozenset()
    verify_count: int = 0
    verified: frozenset[Unit] = field(default_factory=frozenset)


def count_to_verify(pack_count: int, roles: frozenset[Role]) -> int:
    """Return how many of so many packs are to be verified, by the roles of who holds them.

    A dispenser that has no other trading role verifies the greater of 3 and a tenth; everybody else every pack.
    """
    if roles & TRADING_ROLES != {Role.PHARMACY}:
        return pack_count
    return min(pack_count, max(3, -(-pack_count // 10)))


def investigation_of(desk: Desk, books: Books, units: Sequence[CaseUnit]) -> Investigation:
    """Return how far an investigation is.

    Args:
        desk: The house.
        books: Hold the units and all that is inside.
        units: Of the case.
    """
    packs = {pack for item in units for pack in _packs(books, item.unit)}
    verified = {item.unit for item in units if item.verified}
    organisation = desk.organisation
    roles = frozenset[Role]() if organisation is None else organisation.roles
    return Investigation(frozenset(packs), count_to_verify(len(packs), roles), frozenset(verified & packs))


def _packs(books: Books, unit: Unit) -> list[Unit]:
    inside = [part.unit for part in books.inside(unit) if not books.contents(part.unit)]
    return inside or [unit]


def mark(
    session: Session,
    units: Sequence[Named],
    occasion: Occasion,
    *,
    reason: str,
    person: str,
    scan: CaseScan | None = None,
) -> tuple[Case, list[Accepted]]:
    """Make units suspect product: they are quarantined, with all that is inside; return the case of the first.

    Raises:
        ConflictError: A unit is not in the house.
    """
    for named in units:
        require_here(session.books, named)
    first = session.books.get(units[0].unit)
    new = NewCase(
        ExceptionCode.SUSPECT,
        reason,
        [named.unit for named in units],
        None if first is None else _supplier(session, first.despatch_id),
        scan=scan,
    )
    opened = store.open_cases(session.connection, session.desk.gln, new, now=session.now)
    free = [named for named in units if not effects.is_held_for(session, named, ExceptionCode.SUSPECT)]
    made = verbs.hold(session, free, occasion, reason=reason, code=HoldCode.SUSPECT) if free else []
    held = {named.unit for named in free}
    for case_id, inside in opened.items():
        store.change_units(session.connection, case_id, (unit for unit in inside if unit in held), quarantined=True)
        _set_suspect(session, inside, case_id)
        case = store.get_case(session.connection, case_id)
        note_for_house(session, case, text=f"suspect product: {reason}", person=person)
    return store.get_case(session.connection, next(iter(opened))), made


def _supplier(session: Session, despatch_id: str) -> Gln | None:
    shipment = inbound_store.find(session.connection, despatch_id) if despatch_id else None
    return None if shipment is None else shipment.sender


def _set_suspect(session: Session, units: Sequence[Unit], case_id: str) -> None:
    paths = {part.unit.path for unit in units for part in session.books.inside(unit)}
    holdings_store.mark(session.connection, sorted(paths | {unit.path for unit in units}), suspect=case_id)
    session.reload()


def note_verified(session: Session, case_id: str, packs: Sequence[Named]) -> Investigation:
    """Note packs whose product identifiers were verified with the manufacturer or repackager.

    Raises:
        MalformedError: A pack is not one of the case (UNIT_NOT_OF_CASE).
    """
    units = store.units_of_case(session.connection, case_id)
    session.load(item.unit for item in units)
    known = investigation_of(session.desk, session.books, units)
    for named in packs:
        if named.unit not in known.packs:
            message = f"{named.unit.path} is not under suspicion in the case {case_id}"
            raise MalformedError(message, code="UNIT_NOT_OF_CASE", field=named.field)
    store.add_units(session.connection, case_id, [named.unit for named in packs])
    store.change_units(session.connection, case_id, (named.unit for named in packs), verified=True)
    return investigation_of(session.desk, session.books, store.units_of_case(session.connection, case_id))


def note_some(session: Session, case_id: str, packs: Sequence[Named], *, person: str) -> Case:
    """Note packs that were verified; the investigation goes on.

    Raises:
        ConflictError: The case is resolved, or no suspicion (CASE_NOT_SUSPECT).
        MalformedError: A pack is not one of the case, or none is named (FIELD_MISSING).
    """
    case = require_suspect(require_open(store.get_case(session.connection, case_id)))
    if not packs:
        raise MalformedError("name packs that were verified", code="FIELD_MISSING", field="verified_epcs")
    done = note_verified(session, case_id, packs)
    text = f"verified {len(packs)} packs: {len(done.verified)} of {done.verify_count}"
    note_for_house(session, case, text=text, person=person)
    return store.get_case(session.connection, case_id)


def clear(
    session: Session, case_id: str, verified: Sequence[Named], occasion: Occasion, *, reason: str, person: str
) -> tuple[Case, list[Accepted]]:
    """End an investigation: the product is not illegitimate, and its quarantine ends.

    Raises:
        ConflictError: The case is resolved, is no suspicion (CASE_NOT_SUSPECT), too few packs were verified
            (SUSPECT_NOT_VERIFIED), or the house's rules want two persons for a release.
        MalformedError: A pack is not one of the case.
    """
    case = require_suspect(require_open(store.get_case(session.connection, case_id)))
    done = note_verified(session, case_id, verified)
    if len(done.verified) < done.verify_count:
        message = f"{done.verify_count} of {len(done.packs)} packs are to be verified, {len(done.verified)} were"
        raise ConflictError(message, code="SUSPECT_NOT_VERIFIED", field="verified_epcs")
    units = store.units_of_case(session.connection, case_id)
    made = effects.release_case(session, case, units, occasion, reason=reason)
    _set_suspect(session, [item.unit for item in units], "")
    store.change_units(session.connection, case_id, (item.unit for item in units), quarantined=False)
    store.close_case(session.connection, case_id, CaseResolution.CLEARED, note=reason, now=session.now)
    note_for_house(session, case, text=f"cleared: {reason}", person=person)
    notified = conversation.notified_partners(session.connection, case_id)
    exchange.say_to_all(session, case, Said(MessageKind.CLEARED, person=person, text=reason), notified)
    return store.get_case(session.connection, case_id), made


def require_suspect(case: Case) -> Case:
    """Return a case of suspect product of ours.

    Raises:
        ConflictError: It is none (CASE_NOT_SUSPECT).
    """
    if case.code is not ExceptionCode.SUSPECT:
        message = f"the case {case.case_id} is {case.code}, not suspect product"
        raise ConflictError(message, code="CASE_NOT_SUSPECT", field="case_id")
    return case


def declare_illegitimate(
    session: Session,
    case_id: str,
    *,
    reason: str,
    person: str,
    determine_time: datetime | None = None,
    further: Sequence[Gln] = (),
) -> Case:
    """Say that suspect product is illegitimate, and notify who may have it: whence its lots came, whither they went.

    The case is then due 24 hours after the determination: by then the FDA has Form 3911.

    Raises:
        ConflictError: The case is resolved, is no suspicion, or was declared before (CASE_ILLEGITIMATE).
    """
    case = require_suspect(require_open(store.get_case(session.connection, case_id)))
    if case.determine_time is not None:
        message = f"the case {case_id} is illegitimate product since {case.determine_time.isoformat()}"
        raise ConflictError(message, code="CASE_ILLEGITIMATE", field="case_id")
    moment = determine_time or session.now
    store.change(
        session.connection,
        case_id,
        status=CaseStatus.ILLEGITIMATE.value,
        determine_us=to_us(moment),
        due_us=to_us(moment + NOTIFY_WITHIN),
    )
    units = [item.unit for item in store.units_of_case(session.connection, case_id)]
    session.load(units)
    note_for_house(session, case, text=f"illegitimate product: {reason}", person=person)
    said = Said(MessageKind.ILLEGITIMATE, person=person, text=reason, units=units)
    concerned = sorted({*_concerned(session, case, units), *further})
    for partner in exchange.say_to_all(session, case, said, concerned):
        conversation.note_notified(session.connection, case_id, partner, now=session.now)
    return store.get_case(session.connection, case_id)


def _concerned(session: Session, case: Case, units: Sequence[Unit]) -> set[Gln]:
    """Return the immediate partners from whom packs of these lots came, or to whom they went; enrolled ones."""
    lots = set()
    for unit in units:
        for part in (session.books.get(unit), *session.books.inside(unit)):
            if part is not None and isinstance(part.unit, Sgtin):
                lots.add((str(part.unit.gtin), part.lot))
    texts: set[str] = set() if case.partner is None else {str(case.partner)}
    for gtin, lot in lots:
        here = (col(HoldingRow.gtin) == gtin, col(HoldingRow.lot) == lot)
        for column in (col(HoldingRow.partner), col(HoldingRow.sold_to)):
            texts.update(session.connection.execute(select(column).where(*here).distinct()).scalars())
        despatches = session.connection.execute(select(col(HoldingRow.despatch_id)).where(*here).distinct()).scalars()
        suppliers = (_supplier(session, name) for name in despatches)
        texts.update(str(gln) for gln in suppliers if gln is not None)
    registry = session.desk.registry()
    found = {registry.organisation_of_gln(Gln(text)) for text in texts if text}
    return {organisation.gln for organisation in found if organisation is not None} - {session.desk.gln}


def record_form(session: Session, case_id: str, *, submit_time: datetime, incident_number: str) -> Case:
    """Record that Form FDA 3911 was submitted; the number of the incident may come later.

    Raises:
        ConflictError: Nobody said that the product is illegitimate (CASE_NOT_ILLEGITIMATE).
    """
    case = store.get_case(session.connection, case_id)
    if case.determine_time is None:
        message = f"the product of the case {case_id} was not declared illegitimate"
        raise ConflictError(message, code="CASE_NOT_ILLEGITIMATE", field="case_id")
    columns: dict[str, object] = {"submit_us": to_us(case.submit_time or submit_time)}
    if incident_number:
        columns["incident_number"] = incident_number
    store.change(session.connection, case_id, **columns)
    return store.get_case(session.connection, case_id)
