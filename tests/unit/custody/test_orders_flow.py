"""Orders between two houses: documents by letter, goods by advice, the same state on both sides."""

import copy
import io
import itertools
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import select

from medtrail.codec import (
    decode_letter,
    decode_payload,
    decode_signed_event,
    encode_letter,
    encode_payload,
    encode_terms,
)
from medtrail.codec.envelope import encode_signed_event
from medtrail.document import Document, DocumentKind, DocumentReference
from medtrail.envelope import SigningKey, sign
from medtrail.errors import (
    AuthorizationError,
    ConflictError,
    DuplicateError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    VerificationError,
)
from medtrail.event import ErasureOrder, Event, Header, KeyAddition, Refusal, new_event_id, new_salt
from medtrail.exchange import Letter
from medtrail.gs1 import Gln, Sgtin
from medtrail.runtime import outbox
from medtrail.runtime.logging import configure_logging
from medtrail.terms import LineStatus, Terms, TermsLine, salted, seal, unseal
from medtrail.trust import Registry
from services.custody import corrections, erasures, events, events_store, inbox, letters
from services.custody.desk import Accepted, no_sealing_key
from services.custody.exceptions import store as cases
from services.custody.exceptions.case import CaseResolution
from services.custody.exceptions.codes import ExceptionCode
from services.custody.holding import HoldingState
from services.custody.ledger_client import ErasureOutcome
from services.custody.orders import advices, book, commands, documents
from services.custody.orders.book import DocumentQuery, OrderQuery
from services.custody.orders.commands import Heading
from services.custody.orders.tables import OrderRow
from services.custody.orders.view import MismatchKind, OrderState, OrderView
from services.custody.units import Unit
from tests.unit.custody.conftest import CASE_GTIN, GTIN, START, House, named, packs, sscc

D = Decimal
LINE = TermsLine(1, GTIN, Decimal(10), price=Decimal("12.34"), currency="EUR", requested_date=date(2026, 4, 1))


def heading(house: House, number: str) -> Heading:
    return Heading(number, house.clock())


def place(buyer: House, seller: House, number: str = "P1", lines: Sequence[TermsLine] = (LINE,)) -> Accepted:
    return buyer.write(lambda s: commands.place(s, heading(buyer, number), lines, seller=seller.gln))


def confirm(seller: House, buyer: House, answers: Sequence[TermsLine] = (), number: str = "C1") -> Accepted:
    name = book.order_name(buyer.gln, "P1")
    return seller.write(lambda s: commands.confirm(s, heading(seller, number), name, answers))


def invoice(seller: House, buyer: House, lines: Sequence[TermsLine] = (), number: str = "I1") -> Accepted:
    name = book.order_name(buyer.gln, "P1")
    return seller.write(lambda s: commands.invoice(s, heading(seller, number), name, lines))


def advise(seller: House, *event_ids: str, number: str = "D1", lines: Sequence[TermsLine] = ()) -> Accepted:
    return seller.write(lambda s: advices.advise_despatch(s, heading(seller, number), None, event_ids, lines))


def advise_received(buyer: House, despatch_id: str, number: str = "R1") -> Accepted | None:
    return buyer.write(lambda s: advices.advise_received(s, heading(buyer, number), despatch_id=despatch_id))


def post(sender: House, receiver: House) -> None:
    """Deliver all letters and advices that wait; those that came before change nothing."""
    for data in sender.letters_to(receiver):
        receiver.hear_letter(data, sender=sender.gln)
    sender.send_to(receiver)


def view(house: House, buyer: House, number: str = "P1") -> OrderView:
    found = house.read(lambda c: book.view_order(c, book.order_name(buyer.gln, number)))
    assert found is not None
    return found


def state(house: House, buyer: House, number: str = "P1") -> OrderState:
    found = house.read(lambda c: book.find_order(c, book.order_name(buyer.gln, number)))
    assert found is not None
    return found.state


def numbers(found: OrderView) -> list[tuple[Decimal, ...]]:
    return [(line.agreed, line.shipped, line.received, line.invoiced, line.open) for line in found.lines]


def same_on_both(buyer: House, seller: House) -> OrderView:
    one, other = view(buyer, buyer), view(seller, buyer)
    assert (numbers(one), one.state, one.mismatches) == (numbers(other), other.state, other.mismatches)
    assert state(buyer, buyer) == one.state == state(seller, buyer)
    return one


def ship(maker: House, pharmacy: House, units: Sequence[Unit], number: str = "P1") -> str:
    (despatch,) = maker.ship(units, pharmacy.gln, [events.document("po", number, issuer=pharmacy.gln)])
    return despatch.event_id


def open_cases(house: House, code: ExceptionCode = ExceptionCode.ORDER_MISMATCH) -> list[str]:
    rows = house.read(lambda c: c.execute(select(OrderRow.__table__.c.case_id)).scalars().all())  # type: ignore[attr-defined]
    found = [house.read(lambda c, case_id=case_id: cases.find_case(c, case_id)) for case_id in rows if case_id]  # type: ignore[misc]
    return [case.case_id for case in found if case is not None and case.resolve_time is None and case.code is code]


def code_of(work: Callable[[], object], kind: type[MedtrailError]) -> str:
    with pytest.raises(kind) as caught:
        work()
    return caught.value.code


# --- the whole way ---


def test_an_order_goes_from_placed_to_invoiced_and_both_sides_see_the_same(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    assert state(pharmacy, pharmacy) is OrderState.PLACED
    post(pharmacy, maker)
    assert same_on_both(pharmacy, maker).state is OrderState.PLACED
    confirm(maker, pharmacy)
    post(maker, pharmacy)
    assert same_on_both(pharmacy, maker).state is OrderState.CONFIRMED
    maker.commission(packs(*range(10)))
    case = sscc(1)
    maker.pack(case, packs(*range(6)))
    first = ship(maker, pharmacy, [case])
    advise(maker, first)
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert (found.state, found.lines[0].shipped, found.lines[0].open) == (OrderState.PARTLY_SHIPPED, D(6), D(4))
    second = ship(maker, pharmacy, packs(*range(6, 10)))
    post(maker, pharmacy)
    assert same_on_both(pharmacy, maker).state is OrderState.SHIPPED
    pharmacy.receive([case])
    advise_received(pharmacy, first)
    post(pharmacy, maker)
    found = same_on_both(pharmacy, maker)
    assert (found.state, found.lines[0].received) == (OrderState.PARTLY_RECEIVED, D(6))
    pharmacy.receive(packs(*range(6, 10)))
    advise_received(pharmacy, second, number="R2")
    post(pharmacy, maker)
    assert same_on_both(pharmacy, maker).state is OrderState.RECEIVED
    invoice(maker, pharmacy)
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert (found.state, found.mismatches) == (OrderState.INVOICED, [])
    charge = view(pharmacy, pharmacy)
    assert charge.lines[0].invoiced == 10
    sent = pharmacy.read(
        lambda c: book.list_documents(c, DocumentQuery(kind=DocumentKind.INVOICE), before=None, limit=10)
    )
    assert (sent[0].filed.terms.lines[0].price, sent[0].filed.terms.lines[0].currency) == (Decimal("12.34"), "EUR")


def test_a_despatch_leads_to_its_order_and_the_order_to_its_despatches(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(10)))
    despatch = ship(maker, pharmacy, packs(*range(10)))
    advise(maker, despatch)
    post(maker, pharmacy)
    for house in (maker, pharmacy):
        found = house.read(lambda c: book.list_orders(c, OrderQuery(event_id=despatch), before=None, limit=10))
        assert [item.name for item in found] == [book.order_name(pharmacy.gln, "P1")]
        members = house.read(lambda c: book.documents_of_order(c, book.order_name(pharmacy.gln, "P1")))
        assert [item.filed.document.kind for item in members] == [DocumentKind.ORDER, DocumentKind.DESPATCH_ADVICE]
        assert members[1].filed.document.event_ids == (despatch,)
        assert house.read(lambda c: book.list_orders(c, OrderQuery(open=True), before=None, limit=9)) == []


def test_an_advice_links_a_despatch_that_did_not_name_the_order(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(10)))
    (despatch,) = maker.ship(packs(*range(10)), pharmacy.gln)
    name = book.order_name(pharmacy.gln, "P1")
    maker.write(lambda s: advices.advise_despatch(s, heading(maker, "D1"), name, [despatch.event_id], ()))
    # The advice document comes before the advice of the goods, and after.
    for data in maker.letters_to(pharmacy):
        pharmacy.hear_letter(data, sender=maker.gln)
    assert state(pharmacy, pharmacy) is OrderState.SHIPPED
    maker.send_to(pharmacy)
    assert same_on_both(pharmacy, maker).state is OrderState.SHIPPED
    pharmacy.receive(packs(*range(10)))
    advise_received(pharmacy, despatch.event_id)
    post(pharmacy, maker)
    assert same_on_both(pharmacy, maker).state is OrderState.RECEIVED


def test_cases_ordered_as_cases_are_counted_as_cases(maker: House, pharmacy: House) -> None:
    cases_ordered = TermsLine(1, CASE_GTIN, Decimal(2))
    place(pharmacy, maker, lines=[cases_ordered, TermsLine(2, GTIN, Decimal(3))])
    post(pharmacy, maker)
    boxes = (Sgtin(CASE_GTIN, "A"), Sgtin(CASE_GTIN, "B"))
    maker.commission((*packs(*range(13)), *boxes))
    maker.pack(boxes[0], packs(*range(5)))
    maker.pack(boxes[1], packs(*range(5, 10)))
    pallet = sscc(7)
    maker.pack(pallet, (*boxes, *packs(10, 11, 12)))
    ship(maker, pharmacy, [pallet])
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert [line.shipped for line in found.lines] == [2, 3]
    assert (found.state, found.mismatches) == (OrderState.SHIPPED, [])


def test_back_orders_show_what_is_to_come_and_by_when(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    later = date(2026, 5, 1)
    answer = replace(LINE, quantity=Decimal(4), status=LineStatus.BACK_ORDERED, confirmed_date=later)
    confirm(maker, pharmacy, [answer])
    post(maker, pharmacy)
    line = same_on_both(pharmacy, maker).lines[0]
    assert (line.confirmed, line.back_ordered, line.confirmed_date, line.open) == (D(4), D(6), later, D(10))
    maker.commission(packs(*range(7)))
    ship(maker, pharmacy, packs(*range(7)))
    post(maker, pharmacy)
    line = same_on_both(pharmacy, maker).lines[0]
    assert (line.back_ordered, line.open) == (D(3), D(3))


def test_a_changed_answer_drops_the_rest(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    confirm(maker, pharmacy, [replace(LINE, quantity=Decimal(4), status=LineStatus.CHANGED, price=Decimal(13))])
    maker.commission(packs(*range(4)))
    ship(maker, pharmacy, packs(*range(4)))
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert (found.state, found.lines[0].price) == (OrderState.SHIPPED, (Decimal(13), "EUR"))


def test_an_order_rejected_whole_is_cancelled(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    confirm(maker, pharmacy, [replace(LINE, quantity=Decimal(0), status=LineStatus.REJECTED)])
    post(maker, pharmacy)
    assert same_on_both(pharmacy, maker).state is OrderState.CANCELLED


def test_an_order_is_cancelled_before_and_closed_after_a_despatch(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(4)))
    ship(maker, pharmacy, packs(*range(4)))
    post(maker, pharmacy)
    cancel = lambda: pharmacy.write(lambda s: commands.cancel(s, heading(pharmacy, "P1")))  # noqa: E731
    assert code_of(cancel, ConflictError) == "ORDER_SHIPPED"
    closed = pharmacy.write(lambda s: commands.close(s, heading(pharmacy, "P1")))
    again = pharmacy.write(lambda s: commands.close(s, heading(pharmacy, "P1")))
    assert again == replace(closed, resend=True)
    post(pharmacy, maker)
    found = same_on_both(pharmacy, maker)
    assert (found.state, found.lines[0].open, found.open) == (OrderState.CLOSED, D(0), False)
    assert code_of(lambda: confirm(maker, pharmacy), ConflictError) == "ORDER_ENDED"
    place(pharmacy, maker, "P2")
    pharmacy.write(lambda s: commands.cancel(s, heading(pharmacy, "P2")))
    post(pharmacy, maker)
    assert state(maker, pharmacy, "P2") is OrderState.CANCELLED


def test_a_despatch_that_crosses_a_cancellation_stands_and_is_told_apart(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(4)))
    ship(maker, pharmacy, packs(*range(4)))
    pharmacy.write(lambda s: commands.cancel(s, heading(pharmacy, "P1")))
    post(pharmacy, maker)
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert found.state is OrderState.SHIPPED
    assert [item.kind for item in found.mismatches] == [MismatchKind.SHIPPED_AFTER_CANCELLATION]


# --- one number says one thing ---


def test_the_same_order_again_is_a_resend_and_another_under_its_number_is_refused(
    maker: House, pharmacy: House
) -> None:
    first = place(pharmacy, maker)
    assert place(pharmacy, maker) == replace(first, resend=True)
    # The letter goes again, in a seal of its own, for whoever could not open the first.
    first_letter, second = pharmacy.letters_to(maker)
    assert decode_letter(first_letter).signed_event == decode_letter(second).signed_event
    post(pharmacy, maker)
    assert state(maker, pharmacy) is OrderState.PLACED
    other = [replace(LINE, quantity=Decimal(11))]
    assert code_of(lambda: place(pharmacy, maker, lines=other), DuplicateError) == "DOCUMENT_CONFLICT"
    assert pharmacy.pending() == 1


def resigned(house: House, letter: bytes, change: Callable[[Event], Event], to: House, terms: bytes | None) -> bytes:
    """Return a letter with another statement, signed as it should be, and with other terms."""
    found = decode_letter(letter)
    signed = decode_signed_event(found.signed_event)
    event = change(decode_payload(signed.payload_type, signed.payload))
    sealed = found.sealed_terms
    if terms is not None:
        hidden = salted(terms)
        event = replace(event, header=replace(event.header, sealed_terms_sha256=hidden.sha256))
        sealed = seal(hidden, bytes(to.folder.sealing_key().public_key))
    made = encode_signed_event(sign(event.payload_type, encode_payload(event), house.desk.key))
    return encode_letter(Letter(made, sealed))


def test_refuses_other_terms_under_a_partners_number(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    (letter,) = pharmacy.letters_to(maker)
    maker.hear_letter(letter, sender=pharmacy.gln)
    terms = encode_terms(Terms((replace(LINE, quantity=D(11)),)))
    forged = resigned(pharmacy, letter, lambda event: event, maker, terms)
    hear = lambda: maker.hear_letter(forged, sender=pharmacy.gln)  # noqa: E731
    assert code_of(hear, DuplicateError) == "DOCUMENT_CONFLICT"
    assert view(maker, pharmacy).lines[0].ordered == LINE


def test_refuses_terms_that_are_not_those_that_were_signed(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    (letter,) = pharmacy.letters_to(maker)
    sealed = seal(salted(b"\x1a\x00"), bytes(maker.folder.sealing_key().public_key))
    forged = encode_letter(replace(decode_letter(letter), sealed_terms=sealed))
    assert code_of(lambda: maker.hear_letter(forged, sender=pharmacy.gln), VerificationError) == "TERMS_MISMATCH"
    assert maker.read(lambda c: book.list_documents(c, DocumentQuery(), before=None, limit=9)) == []


def test_sealed_terms_are_readable_by_the_counterparty_only(maker: House, pharmacy: House, distributor: House) -> None:
    place(pharmacy, maker)
    (letter,) = pharmacy.letters_to(maker)
    found = decode_letter(letter)
    hidden = unseal(found.sealed_terms, maker.folder.sealing_key())
    assert b"12.34" in hidden.data
    assert b"12.34" not in letter
    assert b"12.34" not in pharmacy.events()[0].header.sealed_terms_sha256
    for other in (distributor, pharmacy):
        stolen = lambda other=other: unseal(found.sealed_terms, other.folder.sealing_key())  # noqa: E731
        assert code_of(stolen, VerificationError) == "TERMS_UNREADABLE"
    taken = lambda: distributor.hear_letter(letter, sender=pharmacy.gln)  # noqa: E731
    assert code_of(taken, VerificationError) == "LETTER_NOT_OURS"


def test_a_letter_that_cannot_be_opened_is_refused(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    (letter,) = pharmacy.letters_to(maker)
    unsealed = encode_letter(replace(decode_letter(letter), sealed_terms=b""))
    assert code_of(lambda: maker.hear_letter(unsealed, sender=pharmacy.gln), VerificationError) == "TERMS_UNREADABLE"
    assert code_of(lambda: no_sealing_key(b""), AuthorizationError) == "SEALING_KEY_MISSING"


def test_terms_and_keys_are_in_no_logs(maker: House, pharmacy: House, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("sys.stdout", stream)
    configure_logging(process="test", level="debug")
    try:
        place(pharmacy, maker)
        post(pharmacy, maker)
        (letter,) = pharmacy.letters_to(maker)
        maker.hear_letter(letter, sender=pharmacy.gln)
        logging.getLogger("medtrail").warning("%r %r", maker.desk, salted(b"12.34"))
    finally:
        configure_logging(process="test", level="critical")
    secret = bytes(maker.folder.sealing_key())
    assert "12.34" not in stream.getvalue()
    assert secret.hex() not in stream.getvalue()
    assert repr(secret) not in repr(maker.desk)


# --- who may say what ---


def test_only_the_parties_say_anything_about_an_order(maker: House, pharmacy: House, distributor: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    name = book.order_name(pharmacy.gln, "P1")

    def by(house: House) -> Callable[[], Accepted]:
        return lambda: house.write(lambda s: commands.confirm(s, heading(house, "C9"), name, ()))

    assert code_of(by(distributor), NotFoundError) == "ORDER_UNKNOWN"
    assert code_of(by(pharmacy), AuthorizationError) == "ORDER_NOT_PARTY"
    ending = lambda: maker.write(lambda s: commands.cancel(s, heading(maker, "P1")))  # noqa: E731
    assert code_of(ending, NotFoundError) == "ORDER_UNKNOWN"


def test_what_a_stranger_says_of_an_order_does_not_count(maker: House, pharmacy: House, distributor: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    reference = DocumentReference(DocumentKind.ORDER, "P1", pharmacy.gln)
    document = Document(DocumentKind.CONFIRMATION, "C1", pharmacy.gln, START, references=(reference,))
    answer = replace(LINE, quantity=Decimal(0), status=LineStatus.REJECTED)
    distributor.write(lambda s: documents.issue(s, document, [answer]))
    post(distributor, pharmacy)
    assert same_on_both(pharmacy, maker).state is OrderState.PLACED


def test_a_document_to_ourselves_or_to_nobody_is_refused(pharmacy: House, maker: House) -> None:
    def to(gln: Gln) -> Callable[[], Accepted]:
        return lambda: pharmacy.write(lambda s: commands.place(s, heading(pharmacy, "P1"), [LINE], seller=gln))

    assert code_of(to(pharmacy.gln), MalformedError) == "DOCUMENT_TO_SELF"
    assert code_of(to(Gln("4099999999996")), NotFoundError) == "PARTNER_UNKNOWN"
    location = maker.desk.locations[0]
    to(location)()
    assert len(pharmacy.letters_to(maker)) == 1


def test_refuses_a_document_of_a_location_or_of_who_does_not_trade(maker: House, pharmacy: House) -> None:
    location = maker.desk.locations[0]
    reference = DocumentReference(DocumentKind.ORDER, "P1", pharmacy.gln)
    document = Document(DocumentKind.CONFIRMATION, "C1", pharmacy.gln, START, references=(reference,))
    maker.write(lambda s: documents.issue(s, document, [replace(LINE, status=LineStatus.ACCEPTED)]))
    (letter,) = maker.letters_to(pharmacy)

    def change(event: Event) -> Event:
        return replace(event, header=replace(event.header, actor=location, event_id=document.event_id(location)))

    forged = resigned(maker, letter, change, pharmacy, None)
    assert code_of(lambda: pharmacy.hear_letter(forged, sender=maker.gln), AuthorizationError) == "DOCUMENT_NOT_ISSUER"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (replace(LINE, line_number=2, status=LineStatus.ACCEPTED), "LINE_UNKNOWN"),
        (LINE, "ANSWER_INCOMPLETE"),
        (replace(LINE, quantity=Decimal(3), status=LineStatus.ACCEPTED), "ANSWER_INCOMPLETE"),
        (replace(LINE, status=LineStatus.REJECTED), "ANSWER_INCOMPLETE"),
        (replace(LINE, quantity=Decimal(3), status=LineStatus.BACK_ORDERED), "ANSWER_INCOMPLETE"),
    ],
)
def test_refuses_answers_that_say_too_little(maker: House, pharmacy: House, answer: TermsLine, code: str) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    assert code_of(lambda: confirm(maker, pharmacy, [answer]), MalformedError) == code


@pytest.mark.parametrize(
    ("lines", "code"), [((), "FIELD_MISSING"), ((replace(LINE, quantity=Decimal(0)),), "LINE_QUANTITY")]
)
def test_refuses_an_order_of_nothing(maker: House, pharmacy: House, lines: Sequence[TermsLine], code: str) -> None:
    assert code_of(lambda: place(pharmacy, maker, lines=lines), MalformedError) == code


def test_refuses_a_partners_order_of_nothing(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    (letter,) = pharmacy.letters_to(maker)
    forged = resigned(pharmacy, letter, lambda event: event, maker, b"")
    assert code_of(lambda: maker.hear_letter(forged, sender=pharmacy.gln), MalformedError) == "FIELD_MISSING"
    assert maker.read(lambda c: book.list_documents(c, DocumentQuery(), before=None, limit=9)) == []
    # What ends an order has no lines.
    maker.hear_letter(letter, sender=pharmacy.gln)
    pharmacy.write(lambda s: commands.cancel(s, heading(pharmacy, "P1")))
    post(pharmacy, maker)
    assert state(maker, pharmacy) is OrderState.CANCELLED


def test_refuses_delivery_to_a_place_of_somebody_else(maker: House, pharmacy: House) -> None:
    work = lambda: pharmacy.write(  # noqa: E731
        lambda s: commands.place(s, heading(pharmacy, "P1"), [LINE], seller=maker.gln, ship_to=maker.gln)
    )
    assert code_of(work, AuthorizationError) == "LOCATION_NOT_OWN"


# --- advices and invoices ---


def test_invoices_no_more_than_was_shipped(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    assert code_of(lambda: invoice(maker, pharmacy), ConflictError) == "NOTHING_TO_INVOICE"
    maker.commission(packs(*range(4)))
    ship(maker, pharmacy, packs(*range(4)))
    assert code_of(lambda: invoice(maker, pharmacy, [LINE]), ConflictError) == "INVOICE_TOO_MUCH"
    unknown = replace(LINE, line_number=9)
    assert code_of(lambda: invoice(maker, pharmacy, [unknown]), MalformedError) == "LINE_UNKNOWN"
    first = invoice(maker, pharmacy)
    assert invoice(maker, pharmacy) == replace(first, resend=True)
    other = [replace(LINE, quantity=Decimal(1))]
    assert code_of(lambda: invoice(maker, pharmacy, other), DuplicateError) == "DOCUMENT_CONFLICT"
    assert code_of(lambda: invoice(maker, pharmacy, number="I2"), ConflictError) == "NOTHING_TO_INVOICE"


def test_an_advice_is_of_own_despatches_to_one_partner_of_one_order(
    maker: House, pharmacy: House, distributor: House
) -> None:
    for number in ("P1", "P2"):
        place(pharmacy, maker, number)
    post(pharmacy, maker)
    maker.commission(packs(*range(4)))
    first, second = ship(maker, pharmacy, packs(0)), ship(maker, pharmacy, packs(1), "P2")
    (third,) = maker.ship(packs(2), distributor.gln)
    assert code_of(lambda: advise(maker, first, second), ConflictError) == "DESPATCHES_DIFFER"
    assert code_of(lambda: advise(maker, first, third.event_id), ConflictError) == "DESPATCHES_DIFFER"
    assert code_of(lambda: advise(maker), MalformedError) == "FIELD_MISSING"
    assert code_of(lambda: advise(maker, "urn:uuid:none"), NotFoundError) == "DESPATCH_UNKNOWN"
    name = book.order_name(pharmacy.gln, "P1")
    wrong = lambda: maker.write(  # noqa: E731
        lambda s: advices.advise_despatch(s, heading(maker, "D3"), name, [third.event_id], ())
    )
    assert code_of(wrong, ConflictError) == "DESPATCHES_DIFFER"
    advise(maker, third.event_id, number="D4")
    (letter,) = maker.letters_to(distributor)
    distributor.hear_letter(letter, sender=maker.gln)
    (known,) = distributor.read(lambda c: book.list_documents(c, DocumentQuery(), before=None, limit=9))
    assert [(line.line_number, line.gtin, line.quantity, line.lots) for line in known.filed.terms.lines] == [
        (1, GTIN, D(1), ("A123",))
    ]


def test_a_receiving_advice_tells_what_came_and_later_what_came_since(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(10)))
    despatch = ship(maker, pharmacy, packs(*range(10)))
    post(maker, pharmacy)
    assert code_of(lambda: advise_received(pharmacy, "urn:uuid:none"), NotFoundError) == "DESPATCH_UNKNOWN"
    pharmacy.receive(packs(*range(7)))
    first = advise_received(pharmacy, despatch)
    assert first is not None
    assert advise_received(pharmacy, despatch) == replace(first, resend=True)
    post(pharmacy, maker)
    found = same_on_both(pharmacy, maker)
    assert [(item.kind, item.wanted, item.found) for item in found.mismatches] == [
        (MismatchKind.RECEIVED_DIFFERS, D(10), D(7))
    ]
    again = lambda: advise_received(pharmacy, despatch, "R2")  # noqa: E731
    assert code_of(again, ConflictError) == "NOTHING_RECEIVED"
    pharmacy.receive(packs(7, 8, 9))
    advise_received(pharmacy, despatch, "R2")
    post(pharmacy, maker)
    found = same_on_both(pharmacy, maker)
    assert (found.state, found.mismatches) == (OrderState.RECEIVED, [])
    assert open_cases(maker) == open_cases(pharmacy) == []


def test_of_what_did_not_come_at_all_the_first_advice_says_nothing_came(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(2)))
    despatch = ship(maker, pharmacy, packs(*range(2)))
    post(maker, pharmacy)
    advise_received(pharmacy, despatch)
    post(pharmacy, maker)
    (known,) = maker.read(
        lambda c: book.list_documents(c, DocumentQuery(kind=DocumentKind.RECEIVING_ADVICE), before=None, limit=9)
    )
    assert [line.quantity for line in known.filed.terms.lines] == [0]


def test_lots_with_longer_names_than_lots_have_are_left_out_of_advices(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(0), lot="L" * 21)
    maker.commission(packs(1), lot="L" * 20)
    despatch = ship(maker, pharmacy, packs(0, 1))
    advise(maker, despatch)
    post(maker, pharmacy)
    pharmacy.receive(packs(0, 1))
    advise_received(pharmacy, despatch)
    for kind in (DocumentKind.DESPATCH_ADVICE, DocumentKind.RECEIVING_ADVICE):
        query = DocumentQuery(kind=kind)
        (known,) = pharmacy.read(lambda c, query=query: book.list_documents(c, query, before=None, limit=9))  # type: ignore[misc]
        assert [line.lots for line in known.filed.terms.lines] == [("L" * 20,)]


# --- the exception ---


def test_order_mismatch_by_more_packs_than_ordered(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(11)))
    ship(maker, pharmacy, packs(*range(11)))
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert [(item.kind, item.wanted, item.found) for item in found.mismatches] == [
        (MismatchKind.OVER_DELIVERED, D(10), D(11))
    ]
    for house, partner in ((maker, pharmacy), (pharmacy, maker)):
        (case_id,) = open_cases(house)
        case = house.read(lambda c, case_id=case_id: cases.find_case(c, case_id))  # type: ignore[misc]
        assert case is not None
        assert (case.code, case.partner, case.purchase_order) == (ExceptionCode.ORDER_MISMATCH, partner.gln, "P1")
        assert "OVER_DELIVERED, line 1" in case.detail


def test_no_order_mismatch_by_as_many_packs_as_ordered(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(10)))
    ship(maker, pharmacy, packs(*range(10)))
    post(maker, pharmacy)
    assert same_on_both(pharmacy, maker).mismatches == []
    assert open_cases(maker) == open_cases(pharmacy) == []


def test_order_mismatch_ends_when_the_despatch_is_taken_back(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(11)))
    ship(maker, pharmacy, packs(*range(11)))
    assert len(open_cases(maker)) == 1
    maker.write(lambda s: corrections.undo(s, named(packs(0))[0], reason="counted twice"), packs(*range(11)))
    found = view(maker, pharmacy)
    assert (found.lines[0].shipped, found.mismatches, open_cases(maker)) == (D(10), [], [])


def test_what_was_invoiced_and_taken_back_is_too_much_on_both_sides(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(0, 1))
    ship(maker, pharmacy, packs(0))
    ship(maker, pharmacy, packs(1))
    invoice(maker, pharmacy)
    post(maker, pharmacy)
    assert same_on_both(pharmacy, maker).mismatches == []
    maker.write(lambda s: corrections.undo(s, named(packs(1))[0], reason="never left"), packs(1))
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert [(item.kind, item.wanted, item.found) for item in found.mismatches] == [
        (MismatchKind.INVOICED_TOO_MUCH, D(1), D(2))
    ]
    assert len(open_cases(maker)) == len(open_cases(pharmacy)) == 1
    assert pharmacy.holding(packs(1)[0]) is None


def test_an_advice_of_a_despatch_that_was_taken_back_counts_no_more(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(0, 1))
    advise(maker, ship(maker, pharmacy, packs(0)))
    ship(maker, pharmacy, packs(1))
    maker.write(lambda s: corrections.undo(s, named(packs(0))[0], reason="never left"), packs(0))
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert (found.lines[0].shipped, found.mismatches) == (D(1), [])


def test_both_sides_hear_that_one_pack_was_taken_out_of_a_despatch(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(10)))
    advise(maker, ship(maker, pharmacy, packs(*range(10))))
    post(maker, pharmacy)
    maker.write(lambda s: corrections.undo(s, named(packs(0))[0], reason="counted twice"), packs(*range(10)))
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert (found.lines[0].shipped, found.mismatches) == (D(9), [])
    assert pharmacy.holding(packs(0)[0]) is None
    assert pharmacy.held(packs(1)[0]).state is HoldingState.INBOUND


def test_order_mismatch_by_an_advice_that_says_other_than_the_despatch_holds(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(5)))
    despatch = ship(maker, pharmacy, packs(*range(5)))
    advise(maker, despatch, lines=[replace(LINE, quantity=Decimal(6))])
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert [(item.kind, item.wanted, item.found) for item in found.mismatches] == [
        (MismatchKind.ADVICE_DIFFERS, D(6), D(5))
    ]
    assert found.lines[0].shipped == 5


def test_no_order_mismatch_by_an_advice_that_was_corrected(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(10)))
    despatch = ship(maker, pharmacy, packs(*range(10)))
    advise(maker, despatch, lines=[replace(LINE, quantity=Decimal(9))])
    assert len(open_cases(maker)) == 1
    advise(maker, despatch, number="D2")
    invoice(maker, pharmacy)
    post(maker, pharmacy)
    found = same_on_both(pharmacy, maker)
    assert (found.lines[0].shipped, found.lines[0].invoiced, found.mismatches) == (D(10), D(10), [])
    assert open_cases(maker) == open_cases(pharmacy) == []


# --- the ledger's refusal ---


def refuse(house: House, sha256: bytes, code: str = "ROLE_FORBIDS") -> None:
    refusal = Refusal(sha256, "", code, "", "no", 1, START)
    house.database.write_now(lambda c: inbox.take_refusal(c, house.desk, refusal))


def test_a_refused_order_is_none_and_its_number_is_free(maker: House, pharmacy: House) -> None:
    accepted = place(pharmacy, maker)
    post(pharmacy, maker)
    for house in (pharmacy, maker):
        refuse(house, accepted.signed_event_sha256)
        assert house.read(lambda c: book.list_orders(c, OrderQuery(), before=None, limit=9)) == []
        (known,) = house.read(lambda c: book.list_documents(c, DocumentQuery(), before=None, limit=9))
        assert known.refusal == "ROLE_FORBIDS"
    # The outbox keeps the refused event's key until its own relay has noted the refusal.
    pharmacy.database.write_now(lambda c: outbox.mark_refused(c, accepted.signed_event_sha256, code="ROLE_FORBIDS"))
    place(pharmacy, maker, lines=[replace(LINE, quantity=D(3))])
    maker.hear_letter(pharmacy.letters_to(maker)[-1], sender=pharmacy.gln)
    assert view(maker, pharmacy).lines[0].ordered.quantity == 3


def test_a_letter_that_comes_after_its_refusal_is_refused(maker: House, pharmacy: House) -> None:
    accepted = place(pharmacy, maker)
    refuse(maker, accepted.signed_event_sha256)
    (letter,) = pharmacy.letters_to(maker)
    assert code_of(lambda: maker.hear_letter(letter, sender=pharmacy.gln), VerificationError) == "DOCUMENT_REFUSED"


def test_a_document_signed_anew_is_sent_anew_and_changes_nothing(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    (known,) = pharmacy.read(lambda c: book.list_documents(c, DocumentQuery(), before=None, limit=9))
    pharmacy.database.write_now(lambda c: documents.send_again(c, pharmacy.desk, known.event_number))
    assert len(pharmacy.letters_to(maker)) == 2
    post(pharmacy, maker)
    assert same_on_both(pharmacy, maker).state is OrderState.PLACED


def in_some_order(
    maker: House, pharmacy: House, order: tuple[int, ...], *, refused: bytes, anew: Callable[[], object]
) -> None:
    """Let the maker hear of an order, of its refusal and of what was made anew, in an order; both know it then."""
    pharmacy.database.write_now(lambda c: outbox.mark_refused(c, refused, code="KEY_RETIRED"))
    refuse(pharmacy, refused, "KEY_RETIRED")
    anew()
    first, second = pharmacy.letters_to(maker)
    deeds: list[Callable[[], object]] = [
        lambda: maker.hear_letter(first, sender=pharmacy.gln),
        lambda: maker.hear_letter(second, sender=pharmacy.gln),
        lambda: refuse(maker, refused, "KEY_RETIRED"),
    ]
    for number in order:
        with suppress(VerificationError):
            deeds[number]()
    assert same_on_both(pharmacy, maker).state is OrderState.PLACED
    (own,) = pharmacy.read(lambda c: book.list_documents(c, DocumentQuery(), before=None, limit=9))
    (heard,) = maker.read(lambda c: book.list_documents(c, DocumentQuery(), before=None, limit=9))
    assert (heard.sha256, heard.salted.sha256) == (own.sha256, own.salted.sha256)
    assert heard.sha256 != refused


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_order_signed_anew_stands_whenever_its_first_signature_is_refused(
    maker: House, pharmacy: House, order: tuple[int, ...]
) -> None:
    accepted = place(pharmacy, maker)
    key = SigningKey.generate()
    statement = KeyAddition(pharmacy.gln, key.key_id)
    header = Header(new_salt(), pharmacy.gln, "authority", 1, new_event_id())
    for house in (maker, pharmacy):
        house.registry = copy.deepcopy(house.registry)
        house.registry.apply(house.registry.next_index, house.registry.authority_key_id, Event(header, statement))
    pharmacy.desk = replace(pharmacy.desk, key=key)
    in_some_order(maker, pharmacy, order, refused=accepted.signed_event_sha256, anew=lambda: None)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_order_placed_anew_stands_whenever_the_refusal_of_the_first_comes(
    maker: House, pharmacy: House, order: tuple[int, ...]
) -> None:
    accepted = place(pharmacy, maker)
    refused = accepted.signed_event_sha256
    in_some_order(maker, pharmacy, order, refused=refused, anew=lambda: place(pharmacy, maker))


def test_a_case_about_an_order_ends_with_the_order(maker: House, pharmacy: House) -> None:
    accepted = place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(11)))
    ship(maker, pharmacy, packs(*range(11)))
    post(maker, pharmacy)
    for house in (maker, pharmacy):
        (case_id,) = open_cases(house)
        refuse(house, accepted.signed_event_sha256)
        case = house.read(lambda c, case_id=case_id: cases.find_case(c, case_id))  # type: ignore[misc]
        assert case is not None
        assert (case.resolution, case.resolution_note) == (
            CaseResolution.CORRECTED_DATA,
            "there is no such order any more",
        )


def test_a_refused_despatch_does_not_count(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(4)))
    despatch = ship(maker, pharmacy, packs(*range(4)))
    post(maker, pharmacy)
    for house in (maker, pharmacy):
        (stored,) = house.read(lambda c: events_store.find_by_id(c, despatch))
        refuse(house, stored.sha256)
    assert same_on_both(pharmacy, maker).state is OrderState.PLACED


# --- erasing ---


def test_an_erased_order_leaves_no_terms_no_letter_and_no_row(maker: House, pharmacy: House) -> None:
    accepted = place(pharmacy, maker)
    place(pharmacy, maker, "P2")
    post(pharmacy, maker)
    outcome = ErasureOutcome(9, ErasureOrder(accepted.signed_event_sha256, "asked for"), "did:key:z", 5, "")
    for house in (pharmacy, maker):
        house.database.write_now(
            lambda c, house=house: erasures._erase(c, outcome=outcome, signer=pharmacy.gln, own=house.gln)  # type: ignore[misc]
        )
        assert house.read(lambda c: book.find_document(c, book.order_name(pharmacy.gln, "P1"))) is None
        listed = house.read(lambda c: book.list_orders(c, OrderQuery(), before=None, limit=9))
        assert [order.name.number for order in listed] == ["P2"]
    (letter,) = pharmacy.letters_to(maker)
    assert b"P2" in letter


def test_a_letter_that_waits_for_its_senders_key_is_erased_with_its_statement(maker: House, pharmacy: House) -> None:
    accepted = place(pharmacy, maker)
    (letter,) = pharmacy.letters_to(maker)
    known, maker.registry = maker.registry, Registry(authority_key_id=maker.registry.authority_key_id)
    maker.hear_letter(letter, sender=pharmacy.gln)
    maker.database.write_now(lambda c: letters.forget(c, bytes(32)))
    maker.database.write_now(lambda c: letters.forget(c, accepted.signed_event_sha256))
    maker.registry = known
    assert not maker.database.write_now(lambda c: letters.take_waiting(c, maker.desk))


# --- by lot, after a delivery was closed ---


def test_a_receiving_advice_takes_off_what_was_advised_by_lot_before(maker: House, pharmacy: House) -> None:
    place(pharmacy, maker)
    post(pharmacy, maker)
    maker.commission(packs(*range(10)))
    despatch = ship(maker, pharmacy, packs(*range(10)))
    post(maker, pharmacy)
    pharmacy.receive(packs(*range(7)))
    closing = Document(DocumentKind.RECEIVING_ADVICE, "closing", maker.gln, START, event_ids=(despatch,))
    by_lot = [TermsLine(1, GTIN, D(4), lots=("A",)), TermsLine(2, GTIN, D(3), lots=("B",))]
    pharmacy.write(lambda s: documents.issue(s, closing, by_lot))
    pharmacy.receive(packs(7, 8, 9))
    advise_received(pharmacy, despatch)
    post(pharmacy, maker)
    found = same_on_both(pharmacy, maker)
    assert (found.state, found.lines[0].received) == (OrderState.RECEIVED, D(10))
    assert found.mismatches == []
