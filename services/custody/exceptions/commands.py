"""What people do with cases: open, assign, talk with the partner, resolve. Each is one transaction."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from medtrail.errors import ConflictError, MalformedError
from medtrail.gs1 import Gln
from medtrail.pdg import Alternative, Answer, ContactInformation, FollowUp, Report, Resolution, Response
from services.custody import inbound_store
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion
from services.custody.exceptions import conversation, effects, exchange, reports, store
from services.custody.exceptions.case import (
    Case,
    CaseMessage,
    CaseResolution,
    MessageKind,
    NewCase,
)
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.exchange import Said
from services.custody.exceptions.items import CaseItem, exchange_of
from services.custody.holdings_store import to_us
from services.custody.parties import organisation_gln


def require_open(case: Case) -> Case:
    """Return a case that is not resolved.

    Raises:
        ConflictError: CASE_RESOLVED.
    """
    if case.resolved:
        message = f"the case {case.case_id} was resolved: {case.resolution}"
        raise ConflictError(message, code="CASE_RESOLVED", field="case_id")
    return case


def open_case(session: Session, new: NewCase) -> Case:
    """Open a case; what it does not say is taken from the books: the despatch that brought the units, the partner.

    Raises:
        MalformedError: Suspect product is marked by a person, with a reason (CASE_CODE_SUSPECT).
    """
    if new.code is ExceptionCode.SUSPECT:
        message = "goods are marked as suspect product by MarkSuspect, which quarantines them"
        raise MalformedError(message, code="CASE_CODE_SUSPECT", field="code")
    despatch_id, partner = new.despatch_id, new.partner
    for unit in new.units:
        holding = session.books.get(unit)
        if holding is not None:
            despatch_id = despatch_id or holding.despatch_id
            partner = partner or holding.partner
    if partner is not None:
        partner = organisation_gln(partner, session.desk.registry())
    new = replace(new, partner=partner, despatch_id=despatch_id)
    case_id = store.open_case(session.connection, session.desk.gln, new, now=session.now)
    return _with_order(session, store.get_case(session.connection, case_id))


def _with_order(session: Session, case: Case) -> Case:
    """Return a case with the purchase order that its shipment names, if it has none of its own."""
    shipment = inbound_store.find(session.connection, case.despatch_id) if case.despatch_id else None
    if case.purchase_order or shipment is None:
        return case
    number = next((item.id.rsplit(":", 1)[-1] for item in shipment.documents if item.type == "po"), "")
    if number:
        store.change(session.connection, case.case_id, purchase_order=number[:64])
    return store.get_case(session.connection, case.case_id)


def assign(session: Session, case_id: str, owner: str) -> Case:
    """Say who sees to a case."""
    require_open(store.get_case(session.connection, case_id))
    store.change(session.connection, case_id, owner=owner)
    return store.get_case(session.connection, case_id)


def set_due_time(session: Session, case_id: str, due_time: datetime) -> Case:
    """Say until when a case is to be resolved."""
    require_open(store.get_case(session.connection, case_id))
    store.change(session.connection, case_id, due_us=to_us(due_time))
    return store.get_case(session.connection, case_id)


def add_message(session: Session, case_id: str, *, text: str, person: str, internal: bool) -> Case:
    """Add a remark, for this organisation only or for the partner too; a resolved case may still be talked about."""
    case = store.get_case(session.connection, case_id)
    if internal:
        exchange.note_for_house(session, case, text=text, person=person)
    else:
        exchange.say(session, case, Said(MessageKind.NOTE, person=person, text=text))
    return store.get_case(session.connection, case_id)


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks to a partner: how the house is reached, who says it, and in which words; these two may be empty."""

    contact: ContactInformation
    person: str = ""
    text: str = ""


def propose(session: Session, case_id: str, request: Resolution | None, speaker: Speaker) -> Case:
    """Report a case to its partner and ask for a resolution.

    Raises:
        ConflictError: The partner reported it (CASE_NOT_OURS), it has none (CASE_WITHOUT_PARTNER), or it is resolved.
    """
    case = _with_order(session, require_open(store.get_case(session.connection, case_id)))
    if case.partner_reported:
        message = f"{case.partner} reported the case {case_id}: answer what it proposed"
        raise ConflictError(message, code="CASE_NOT_OURS", field="case_id")
    units = [item.unit for item in store.units_of_case(session.connection, case_id)]
    session.load(units)
    told = reports.Told(speaker.contact, session.now, request or case.rule.request)
    own = (session.desk.default_location, session.desk.gln)
    for made in reports.reports_of(case, units, session.books, told, own_glns=own):
        said = Said(
            MessageKind.REPORT,
            person=speaker.person,
            text=speaker.text or case.detail,
            pdg=made.report,
            request=made.request,
            units=made.units,
        )
        exchange.say(session, case, said)
    store.change(session.connection, case_id, shared=True)
    exchange.follow(session.connection, case, now=session.now)
    return store.get_case(session.connection, case_id)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to an item, or to every item that no other reply names (``item_id`` empty)."""

    item_id: str
    accepted: bool
    alternative: Resolution | None = None
    follow_up: FollowUp | None = None
    follow_up_details: str = ""
    comments: str = ""


def respond(session: Session, case_id: str, replies: Sequence[Reply], speaker: Speaker) -> Case:
    """Answer what the partner proposed.

    Raises:
        ConflictError: The partner reported nothing (CASE_NOT_REPORTED), or the case is resolved.
        MalformedError: An item is not one of the case (ITEM_UNKNOWN) or is answered twice (ITEM_TWICE).
    """
    case = require_open(store.get_case(session.connection, case_id))
    messages = conversation.messages_of_case(session.connection, case_id)
    items = exchange_of(case_id, messages).items
    if not case.partner_reported or not items:
        message = f"nothing was proposed to us in the case {case_id}"
        raise ConflictError(message, code="CASE_NOT_REPORTED", field="case_id")
    response = Response(
        message_id=str(uuid.uuid4()),
        case_id=case_id,
        timestamp=reports.seconds(session.now),
        sender=speaker.contact,
        po_number=case.purchase_order,
        answers=tuple(_answers(items, replies)),
        notes=speaker.text or None,
    )
    exchange.say(session, case, Said(MessageKind.RESPONSE, person=speaker.person, text=speaker.text, pdg=response))
    exchange.follow(session.connection, case, now=session.now)
    return store.get_case(session.connection, case_id)


def _answers(items: Sequence[CaseItem], replies: Sequence[Reply]) -> list[Answer]:
    by_id: dict[str, Reply] = {}
    known = {item.item_id for item in items}
    for number, reply in enumerate(replies):
        field = f"answers[{number}].item_id"
        if reply.item_id and reply.item_id not in known:
            message = f"the case has no item {reply.item_id[:50]!r}"
            raise MalformedError(message, code="ITEM_UNKNOWN", field=field)
        if reply.item_id in by_id:
            message = "an item is answered twice"
            raise MalformedError(message, code="ITEM_TWICE", field=field)
        by_id[reply.item_id] = reply
    others = by_id.get("")
    chosen = ((item, by_id.get(item.item_id, others)) for item in items)
    return [_answer(item, reply) for item, reply in chosen if reply is not None]


def _answer(item: CaseItem, reply: Reply) -> Answer:
    alternative = None
    if not reply.accepted and (reply.alternative is not None or reply.follow_up is not None):
        alternative = Alternative(reply.alternative, reply.follow_up, reply.follow_up_details or None)
    return Answer(item.item_id, reply.accepted, reply.comments or None, alternative)


def resolve(
    session: Session, case_id: str, resolution: CaseResolution, occasion: Occasion, *, reason: str, person: str = ""
) -> tuple[Case, list[Accepted]]:
    """Resolve a case, with its effect on the goods, and tell the partner that knows of it.

    Args:
        session: The transaction.
        case_id: UUID.
        resolution: CORRECTED_DATA, ACCEPTED, RETURNED, DESTROYED or WITHDRAWN.
        occasion: When and where.
        reason: In words.
        person: Who says it; may be empty.

    Raises:
        ConflictError: Resolved before; suspect product is cleared, not kept (CASE_SUSPECT); or the effect is forbidden.
    """
    case = require_open(store.get_case(session.connection, case_id))
    keeps = resolution not in {CaseResolution.RETURNED, CaseResolution.DESTROYED}
    if keeps and case.code is ExceptionCode.SUSPECT and not case.partner_reported:
        message = "suspect product is cleared, returned or destroyed"
        raise ConflictError(message, code="CASE_SUSPECT", field="resolution")
    made = effects.carry_out(session, case, resolution, occasion, reason=reason)
    exchange.close_and_tell(session, case_id, resolution, note=reason, person=person)
    return store.get_case(session.connection, case_id), made


def take_file(session: Session, data: bytes, message: Report | Response, *, partner: Gln | None) -> Case:
    """Take in a PDG message that came by other ways than as a letter; the file is kept as it came.

    The same file again changes nothing. Whoever speaks in a file is not proven: a case that both keep by letters takes
    files of its own partner only.

    Args:
        session: The transaction.
        data: The file.
        message: What it says.
        partner: Who sent it; by the message's own GLN when None.

    Raises:
        MalformedError: It does not say who sent it (FIELD_MISSING).
        ConflictError: It answers a case that is not known here, or is of another partner's case (CASE_NOT_PARTY).
    """
    sender = partner or _sender_of(message)
    sender = organisation_gln(sender, session.desk.registry())
    case = store.find_case(session.connection, message.case_id)
    if case is None:
        if isinstance(message, Response):
            text = f"there is no case {message.case_id} here that could be answered"
            raise ConflictError(text, code="CASE_UNKNOWN", field="pdg_message")
        detail = "; ".join(message.other_errors) or "reported by file"
        code = exchange.code_of("", message)
        new = NewCase(
            code,
            detail,
            partner=sender,
            purchase_order=message.po_number,
            case_id=message.case_id,
            partner_reported=True,
        )
        store.open_case(session.connection, session.desk.gln, new, now=session.now)
        case = store.get_case(session.connection, message.case_id)
    elif case.partner != sender or case.partner_reported != isinstance(message, Report):
        text = f"{sender} cannot say this of the case {case.case_id}"
        raise ConflictError(text, code="CASE_NOT_PARTY", field="pdg_message")
    kept = CaseMessage(
        message_id=message.message_id,
        kind=MessageKind.REPORT if isinstance(message, Report) else MessageKind.RESPONSE,
        sender=sender,
        time=exchange.time_of(message),
        text="; ".join(message.other_errors) if isinstance(message, Report) else message.notes or "",
        pdg=data,
    )
    conversation.add_heard(session.connection, case.case_id, kept)
    exchange.follow(session.connection, case, now=session.now)
    return store.get_case(session.connection, case.case_id)


def _sender_of(message: Report | Response) -> Gln:
    if message.sender.gln is None:
        text = "the message does not say by GLN who sent it: name the partner"
        raise MalformedError(text, code="FIELD_MISSING", field="partner")
    try:
        return Gln(message.sender.gln)
    except MalformedError as error:
        text = f"{message.sender.gln} is no GLN: name the partner"
        raise MalformedError(text, code=error.code, field="partner") from error
