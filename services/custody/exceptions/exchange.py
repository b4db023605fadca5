"""Letters about cases: made and sent, heard and taken in.

Both sides keep one case under one id. A letter that comes twice, late or before an earlier one changes nothing that the
set of letters does not say; one that is lost leaves the rest as it is. A partner speaks about cases to which it is a
party, and about nobody else's.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from medtrail.epcis.model import EpcisEvent
from medtrail.errors import AuthorizationError, ConflictError, MalformedError, NotFoundError, TooLargeError
from medtrail.event import Event, Header, PayloadType, new_salt
from medtrail.exception_letter import ExceptionLetter, LetterKind
from medtrail.gs1 import Gln
from medtrail.pdg import ContactInformation, Message, Report, ReportGroup, Resolution, Response, encode_message
from medtrail.pdg_reader import decode_message
from medtrail.trust import TRADING_ROLES
from services.custody import events_store, inbound_store, letters
from services.custody.desk import Desk, Session, signed_bytes
from services.custody.exceptions import conversation, store
from services.custody.exceptions.case import Case, CaseMessage, CaseResolution, CaseStatus, MessageKind, NewCase
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.items import exchange_of
from services.custody.exceptions.reports import closing_report
from services.custody.letters import Heard
from services.custody.parties import named_glns
from services.custody.units import Unit, parse_unit

MAX_CASES_PER_PARTNER = 5000
"""Open at one time, that one partner may have reported here."""
MAX_EPCS = 1000

_SOURCE = "letters"
"""Letters have numbers of their own: in the log those of events have no gaps."""

_KIND_OF_LETTER = {
    LetterKind.REPORT: MessageKind.REPORT,
    LetterKind.RESPONSE: MessageKind.RESPONSE,
    LetterKind.NOTE: MessageKind.NOTE,
    LetterKind.ILLEGITIMATE: MessageKind.ILLEGITIMATE,
    LetterKind.CLEARED: MessageKind.CLEARED,
}
_LETTER_OF_KIND = {message: letter for letter, message in _KIND_OF_LETTER.items()}

_CODE_OF_GROUP = {
    ReportGroup.MISSING_PRODUCT_DATA: ExceptionCode.OVERAGE,
    ReportGroup.MISSING_PRODUCT: ExceptionCode.SHORTAGE,
    ReportGroup.DATA_MISALIGNMENT: ExceptionCode.LOT_MISMATCH,
    ReportGroup.OVERAGES: ExceptionCode.OVERAGE,
    ReportGroup.UNDERAGES: ExceptionCode.SHORTAGE,
    ReportGroup.GLN_ERRORS: ExceptionCode.WRONG_CONSIGNEE,
    ReportGroup.GTIN_ERRORS: ExceptionCode.ORDER_MISMATCH,
}


# --- sending ---


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be said about a case: :class:`services.custody.exceptions.case.CaseMessage` tells of the fields."""

    kind: MessageKind
    person: str = ""
    text: str = ""
    pdg: Message | None = None
    request: Resolution | None = None
    units: Sequence[Unit] = ()


def say(session: Session, case: Case, said: Said, *, to: Gln | None = None) -> bool:
    """Add a message to a case and, where the partner is enrolled, sign and send it; return whether it was sent.

    What is said to a partner outside of the network is kept for export.

    Args:
        session: The transaction.
        case: The case.
        said: What is said.
        to: Party GLN; the partner of the case when None.

    Raises:
        ConflictError: The case has no partner (CASE_WITHOUT_PARTNER).
    """
    partner = to or case.partner
    if partner is None:
        message = f"the case {case.case_id} has no partner to whom this could be said"
        raise ConflictError(message, code="CASE_WITHOUT_PARTNER", field="case_id")
    made = _send(session, case, said, partner)
    conversation.add_message(session.connection, case.case_id, made)
    return bool(made.signed_event)


def say_to_all(session: Session, case: Case, said: Said, partners: Iterable[Gln]) -> list[Gln]:
    """Say the same to several partners, in as many letters as its units need; return those to whom it was sent.

    Of each letter one copy is kept, whoever else got it: a case is read as a whole.
    """
    chosen = tuple(partners)
    sent: dict[Gln, None] = {}
    for start in range(0, max(1, len(said.units)), MAX_EPCS):
        part = replace(said, units=said.units[start : start + MAX_EPCS])
        kept: CaseMessage | None = None
        for partner in chosen:
            made = _send(session, case, part, partner)
            if made.signed_event:
                sent[partner] = None
            if kept is None or not kept.signed_event:
                kept = made
        if kept is not None:
            conversation.add_message(session.connection, case.case_id, kept)
    return list(sent)


def _send(session: Session, case: Case, said: Said, partner: Gln) -> CaseMessage:
    """Sign and send a message where the partner is enrolled; return it, with its signed bytes if it was sent."""
    made = CaseMessage(
        message_id=str(uuid.uuid4()) if said.pdg is None else said.pdg.message_id,
        kind=said.kind,
        sender=session.desk.gln,
        time=session.now if said.pdg is None else time_of(said.pdg),
        person=said.person,
        text=said.text,
        request=said.request,
        pdg=b"" if said.pdg is None else encode_message(said.pdg),
    )
    organisation = session.desk.registry().organisation_of_gln(partner)
    if organisation is None:
        return made
    signed_event, sha256 = _sign(session, _letter(case, made, organisation.gln, said.units))
    letters.send(session.connection, to=organisation.gln, signed_event=signed_event)
    return replace(made, sha256=sha256, signed_event=signed_event)


def close_and_tell(session: Session, case_id: str, resolution: CaseResolution, *, note: str, person: str = "") -> bool:
    """Close a case and tell the partner that knows of it; return whether it was open."""
    case = store.get_case(session.connection, case_id)
    if not store.close_case(session.connection, case_id, resolution, note=note, now=session.now):
        return False
    text = f"{resolution.replace('_', ' ')}: {note}"
    contact = _own_contact(session, case) if case.shared else None
    if contact is not None:
        report = closing_report(case, contact, session.now)
        say(session, case, Said(MessageKind.REPORT, person=person, text=text, pdg=report))
    elif case.partner_reported:
        say(session, case, Said(MessageKind.NOTE, person=person, text=text))
    else:
        note_for_house(session, case, text=text, person=person)
    return True


def _own_contact(session: Session, case: Case) -> ContactInformation | None:
    """Return how we were reached by what we said of a case last."""
    said = conversation.messages_of_case(session.connection, case.case_id)
    own = [message.pdg for message in said if message.sender == session.desk.gln and message.pdg]
    return decode_message(own[-1]).sender if own else None


def note_for_house(session: Session, case: Case, *, text: str, person: str) -> None:
    """Keep a remark for this organisation only."""
    message = CaseMessage(str(uuid.uuid4()), MessageKind.INTERNAL, session.desk.gln, session.now, person, text)
    conversation.add_message(session.connection, case.case_id, message)


def time_of(message: Message) -> datetime:
    """Return when a PDG message was made; aware UTC."""
    return datetime.fromtimestamp(message.timestamp, UTC)


def _letter(case: Case, made: CaseMessage, to: Gln, units: Sequence[Unit]) -> ExceptionLetter:
    return ExceptionLetter(
        counterparty=to,
        case_id=case.case_id,
        message_id=made.message_id,
        kind=_LETTER_OF_KIND[made.kind],
        code=case.code.value,
        message_time=made.time,
        person=made.person,
        text=made.text,
        pdg=made.pdg,
        resolution_request="" if made.request is None else made.request.value,
        purchase_order=case.purchase_order,
        despatch_id=case.despatch_id,
        epcs=tuple(unit.digital_link for unit in units[:MAX_EPCS]),
    )


def _sign(session: Session, letter: ExceptionLetter) -> tuple[bytes, bytes]:
    header = Header(
        salt=new_salt(),
        actor=session.desk.gln,
        source=_SOURCE,
        source_seq=events_store.next_number(session.connection, f"source_seq/{_SOURCE}"),
        event_id=f"urn:uuid:{letter.message_id}",
    )
    return signed_bytes(Event(header, letter), session.desk.key)


# --- hearing ---


def take_letter(connection: Connection, desk: Desk, heard: Heard) -> None:
    """Take in a letter about a case; the first one of a partner's case opens its counterpart here.

    Raises:
        AuthorizationError: Its sender does not trade (ROLE_FORBIDS) or is not party to the case (CASE_NOT_PARTY).
        NotFoundError: It answers a case that is not known here (CASE_UNKNOWN).
        MalformedError: Its PDG message cannot be read, or is of another case (LETTER_MISMATCH).
        TooLargeError: The sender has 5,000 open cases here (CASE_BACKLOG), or sent 1,000 letters about the case.
    """
    letter = heard.event.statement
    assert isinstance(letter, ExceptionLetter)  # noqa: S101  # its payload type says so
    _require_trader(desk, heard.sender)
    pdg = _pdg_of(letter)
    case = store.find_case(connection, letter.case_id)
    if case is None:
        case = _open_counterpart(connection, desk, heard, letter, pdg)
    else:
        _require_party(connection, case, heard.sender, letter.kind)
        if case.partner_reported:
            # The letter itself names those that the case does not hold any more.
            free = max(0, store.room(connection, case.case_id))
            store.add_units(connection, case.case_id, _units(desk, letter)[:free])
    message = CaseMessage(
        message_id=letter.message_id,
        kind=_KIND_OF_LETTER[letter.kind],
        sender=heard.sender,
        time=letter.message_time,
        person=letter.person,
        text=letter.text,
        request=Resolution(letter.resolution_request) if letter.resolution_request else None,
        pdg=letter.pdg,
        sha256=heard.sha256,
        signed_event=heard.signed_event,
    )
    conversation.add_heard(connection, case.case_id, message)
    follow(connection, case, now=desk.clock())


def _require_trader(desk: Desk, sender: Gln) -> None:
    organisation = desk.registry().organisation_of_gln(sender)
    if organisation is None or organisation.roles.isdisjoint(TRADING_ROLES):
        message = f"exceptions are talked about by those who trade; {sender} does not"
        raise AuthorizationError(message, code="ROLE_FORBIDS", field="letter")


def _pdg_of(letter: ExceptionLetter) -> Message | None:
    if not letter.pdg:
        return None
    message = decode_message(letter.pdg)
    wanted = Report if letter.kind is LetterKind.REPORT else Response
    same = (message.case_id, message.message_id) == (letter.case_id, letter.message_id)
    if not isinstance(message, wanted) or not same or message.timestamp != int(letter.message_time.timestamp()):
        text = f"the letter holds another PDG message than {letter.kind} {letter.message_id} of its case and time"
        raise MalformedError(text, code="LETTER_MISMATCH", field="letter.pdg_message")
    return message


def _require_party(connection: Connection, case: Case, sender: Gln, kind: LetterKind) -> None:
    parties = {case.partner, *conversation.notified_partners(connection, case.case_id)}
    if sender not in parties:
        message = f"{sender} is not party to the case {case.case_id}"
        raise AuthorizationError(message, code="CASE_NOT_PARTY", field="letter.case_id")
    # Who reported a case reports on it further; the other side answers.
    reports = kind in {LetterKind.REPORT, LetterKind.ILLEGITIMATE, LetterKind.CLEARED}
    if (reports and not case.partner_reported) or (kind is LetterKind.RESPONSE and case.partner_reported):
        message = f"{sender} says by a {kind} what is for the other side of the case {case.case_id} to say"
        raise AuthorizationError(message, code="CASE_NOT_PARTY", field="letter.kind")


def _open_counterpart(
    connection: Connection, desk: Desk, heard: Heard, letter: ExceptionLetter, pdg: Message | None
) -> Case:
    if letter.kind is LetterKind.RESPONSE:
        message = f"there is no case {letter.case_id} here that could be answered"
        raise NotFoundError(message, code="CASE_UNKNOWN", field="letter.case_id")
    _require_despatch_party(connection, desk, heard.sender, letter.despatch_id)
    if store.count_reported(connection, heard.sender) >= MAX_CASES_PER_PARTNER:
        message = f"{heard.sender} has {MAX_CASES_PER_PARTNER} open cases here"
        raise TooLargeError(message, code="CASE_BACKLOG", field="letter")
    new = NewCase(
        code_of(letter.code, pdg),
        letter.text,
        _units(desk, letter),
        heard.sender,
        despatch_id=letter.despatch_id,
        purchase_order=letter.purchase_order,
        case_id=letter.case_id,
        partner_reported=True,
    )
    store.open_case(connection, desk.gln, new, now=desk.clock())
    return store.get_case(connection, letter.case_id)


def _require_despatch_party(connection: Connection, desk: Desk, sender: Gln, despatch_id: str) -> None:
    """Check that a despatch that is known here went between us and the sender."""
    shipment = inbound_store.find(connection, despatch_id) if despatch_id else None
    parties = set() if shipment is None else {shipment.sender, shipment.signer}
    own = events_store.find_event(connection, signer=desk.gln, event_id=despatch_id, declaration=False)
    if own is not None and isinstance(own.event.statement, EpcisEvent):
        registry = desk.registry()
        for gln in named_glns(own.event.statement.destination_list):
            organisation = registry.organisation_of_gln(gln)
            parties.add(gln if organisation is None else organisation.gln)
    if parties and sender not in parties:
        message = f"{sender} is not party to the despatch {despatch_id}"
        raise AuthorizationError(message, code="CASE_NOT_PARTY", field="letter.despatch_event_id")


def _units(desk: Desk, letter: ExceptionLetter) -> tuple[Unit, ...]:
    today = desk.clock().date()
    found = (parse_unit(epc, field=f"letter.epcs[{number}]", today=today) for number, epc in enumerate(letter.epcs))
    return tuple(dict.fromkeys(found))


def code_of(text: str, pdg: Message | None) -> ExceptionCode:
    """Return a code that this version knows: the letter's own, else what the lists of its report mean."""
    if text in ExceptionCode.__members__:
        return ExceptionCode(text)
    groups = [group for group, _ in pdg.items] if isinstance(pdg, Report) else []
    return _CODE_OF_GROUP[groups[0]] if groups else ExceptionCode.ORDER_MISMATCH


def follow(connection: Connection, case: Case, *, now: datetime) -> None:
    """Set how far a case is by what was said about it."""
    messages = conversation.messages_of_case(connection, case.case_id)
    kinds = {message.kind for message in messages}
    exchange = exchange_of(case.case_id, messages)
    if case.resolved:
        return
    if case.partner_reported and (exchange.resolved or MessageKind.CLEARED in kinds):
        store.close_case(connection, case.case_id, CaseResolution.BY_PARTNER, now=now)
    elif MessageKind.ILLEGITIMATE in kinds or case.determine_time is not None:
        store.change(connection, case.case_id, status=CaseStatus.ILLEGITIMATE.value)
    elif exchange.status is not CaseStatus.RESOLVED:
        store.change(connection, case.case_id, status=exchange.status.value)


letters.HANDLERS[PayloadType.EXCEPTION] = take_letter
