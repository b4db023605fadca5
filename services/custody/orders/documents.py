"""Issuing a document and taking one in: signed for all, its terms for one.

A number speaks once: the same content again is a resend, other content under it is refused (DOCUMENT_CONFLICT), here
and at the counterparty; the log refuses another statement under it too, because a document's event id is made of its
name.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from medtrail.codec import decode_signed_event, decode_terms, encode_terms
from medtrail.codec.document import check_document
from medtrail.document import Document, DocumentFunction, DocumentKind
from medtrail.errors import AuthorizationError, DuplicateError, MalformedError, NotFoundError, VerificationError
from medtrail.event import PayloadType
from medtrail.gs1 import Gln
from medtrail.terms import Terms, TermsLine, salted, seal
from medtrail.trust import TRADING_ROLES, Organisation, Registry
from services.custody import events_store, letters
from services.custody.desk import Accepted, Desk, Session
from services.custody.letters import Heard
from services.custody.orders import book
from services.custody.orders.book import KnownDocument
from services.custody.orders.view import Filed


def issue(
    session: Session, document: Document, lines: Sequence[TermsLine], *, ship_to: Gln | None = None, note: str = ""
) -> Accepted:
    """Sign a document, send it to its counterparty with its terms sealed, and bring its order up to date.

    Args:
        session: The write transaction.
        document: Its counterparty may be named by any of its GLNs.
        lines: Its lines.
        ship_to: Place to which to deliver.
        note: For a person.

    Raises:
        NotFoundError: The counterparty is not enrolled (PARTNER_UNKNOWN).
        MalformedError: A field is of wrong form, an order has no lines (FIELD_MISSING), or it is made to ourselves
            (DOCUMENT_TO_SELF).
        DuplicateError: Other content was issued under its number (DOCUMENT_CONFLICT).
        AuthorizationError: We do not trade.
    """
    desk, connection = session.desk, session.connection
    partner = _partner(session.desk, document.counterparty)
    document = check_document(replace(document, counterparty=partner.gln))
    hidden = salted(encode_terms(Terms(tuple(lines), ship_to, note)))
    filed = Filed(desk.gln, document, decode_terms(hidden.data))
    _require_lines(filed)
    before = _standing(connection, filed)
    if before is not None:
        return again(session, before)
    stored = session.say(document, document.event_id(desk.gln), sealed_terms_sha256=hidden.sha256)
    book.insert_document(connection, stored.number, filed, hidden, partner=partner.gln, own=True)
    sealed = seal(hidden, partner.sealing_key)
    letters.send(connection, to=partner.gln, signed_event=stored.signed_event, sealed_terms=sealed)
    book.settle_event(connection, stored.number, gln=desk.gln, now=session.now)
    return Accepted(stored.event.header.event_id, stored.sha256, stored.event.header.source_seq)


def _partner(desk: Desk, gln: Gln) -> Organisation:
    partner = desk.registry().organisation_of_gln(gln)
    if partner is None:
        message = f"no organisation is enrolled under GLN {gln}"
        raise NotFoundError(message, code="PARTNER_UNKNOWN", field="counterparty")
    if partner.gln == desk.gln:
        message = f"{gln} is this organisation itself"
        raise MalformedError(message, code="DOCUMENT_TO_SELF", field="counterparty")
    return partner


def _standing(connection: Connection, filed: Filed) -> KnownDocument | None:
    """Return the document that stands under the same name and says the same; None where none stands.

    When it was issued does not tell two documents apart: whoever asks again has another clock.

    Raises:
        DuplicateError: It says something else (DOCUMENT_CONFLICT).
    """
    known = book.find_document(connection, filed.name, filed.document.function)
    if known is None:
        return None
    if known.refusal:
        # What the ledger refused took no number.
        events_store.forget(connection, known.event_number)
        return None
    same = replace(known.filed.document, issue_time=filed.document.issue_time) == filed.document
    if not same or known.filed.terms != filed.terms:
        message = f"{filed.document.kind} {filed.document.number} of {filed.issuer} says something else"
        raise DuplicateError(message, code="DOCUMENT_CONFLICT", field="number")
    return known


def again(session: Session, known: KnownDocument) -> Accepted:
    """Return a document that was issued before, and send its letter again.

    What a partner could not open, sealed to a key that it has given up, it gets in a seal for its present one; to what
    it has already the letter adds nothing.
    """
    send_again(session.connection, session.desk, known.event_number)
    return Accepted(known.event_id, known.sha256, known.source_seq, resend=True)


def send_again(connection: Connection, desk: Desk, event_number: int) -> None:
    """Send a document of ours anew that was signed anew; what is no document is left alone."""
    known = book.document_of_event(connection, event_number)
    if known is None or not known.own:
        return
    partner = _partner(desk, known.filed.document.counterparty)
    sealed = seal(known.salted, partner.sealing_key)
    letters.send(connection, to=partner.gln, signed_event=known.signed_event, sealed_terms=sealed)


def take_document(connection: Connection, desk: Desk, heard: Heard) -> None:
    """Take in a document that a partner made to us; the same again changes nothing.

    What was signed or issued anew, because the ledger refused it as it was, takes the place of what came before, in
    whichever order the two letters and the refusal come.

    Raises:
        AuthorizationError: Its issuer does not trade, or is not the party that signed it (DOCUMENT_NOT_ISSUER).
        VerificationError: Its terms cannot be opened (TERMS_UNREADABLE), are not those that were signed
            (TERMS_MISMATCH), or the ledger has refused it (DOCUMENT_REFUSED).
        MalformedError: Its terms cannot be read, or it orders nothing (FIELD_MISSING).
        DuplicateError: Another document stands under its number (DOCUMENT_CONFLICT).
    """
    document = heard.event.statement
    if not isinstance(document, Document):
        message = f"expected a document, got {heard.event.payload_type}"
        raise MalformedError(message, code="NOT_DOCUMENT", field="letter.signed_event")
    _require_issuer(desk, heard)
    hidden = desk.unseal(heard.sealed_terms)
    hidden.check(heard.event.header.sealed_terms_sha256)
    filed = Filed(heard.sender, document, decode_terms(hidden.data))
    _require_lines(filed)
    if events_store.refused_code(connection, heard.sha256):
        message = f"the ledger has refused {document.kind} {document.number} of {heard.sender}"
        raise VerificationError(message, code="DOCUMENT_REFUSED", field="letter.signed_event")
    known = _standing(connection, filed)
    if known is not None:
        if not _newer(desk.registry(), heard, known):
            return
        # The refusal of the earlier one is still to be heard here, and is none of this one.
        events_store.forget(connection, known.event_number)
    number = events_store.insert_event(
        connection,
        heard.event,
        signer=heard.sender,
        own=False,
        sha256=heard.sha256,
        signed_event=heard.signed_event,
        units=(),
    )
    book.insert_document(connection, number, filed, hidden, partner=heard.sender, own=False)
    book.settle_event(connection, number, gln=desk.gln, now=desk.clock())


def _require_lines(filed: Filed) -> None:
    """Check that an order orders something.

    Raises:
        MalformedError: It has no lines (FIELD_MISSING).
    """
    document = filed.document
    places = document.kind is DocumentKind.ORDER and document.function is DocumentFunction.ORIGINAL
    if places and not filed.terms.lines:
        raise MalformedError("an order has lines", code="FIELD_MISSING", field="lines")


def _newer(registry: Registry, heard: Heard, known: KnownDocument) -> bool:
    """Tell whether a letter was made after the one that says the same and stands here.

    Issued anew it has a higher number of its issuer; signed anew it has the same, and a key that was enrolled later.
    """
    one = (heard.event.header.source_seq, _key_index(registry, heard.signed_event))
    return one > (known.source_seq, _key_index(registry, known.signed_event))


def _key_index(registry: Registry, signed_event: bytes) -> int:
    record = registry.key(decode_signed_event(signed_event).signatures[0].key_id)
    return -1 if record is None else record.added_index


def _require_issuer(desk: Desk, heard: Heard) -> None:
    organisation = desk.registry().organisation_of_gln(heard.sender)
    if heard.event.header.actor != heard.sender:
        message = f"{heard.sender} signed a document of {heard.event.header.actor}: a party issues under its own GLN"
        raise AuthorizationError(message, code="DOCUMENT_NOT_ISSUER", field="header.actor")
    if organisation is None or organisation.roles.isdisjoint(TRADING_ROLES):
        message = f"{heard.sender} does not trade"
        raise AuthorizationError(message, code="ROLE_FORBIDS", field="header.actor")


letters.HANDLERS[PayloadType.DOCUMENT] = take_document
