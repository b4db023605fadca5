"""Letters of partners: each is heard once, by whom it is for, from whom it says that it is."""

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, func, select

from medtrail.codec import decode_letter, encode_letter, encode_payload, encode_signed_event
from medtrail.document import Document, DocumentKind
from medtrail.envelope import SigningKey, sign
from medtrail.errors import AuthorizationError, MalformedError, MedtrailError, TooLargeError, VerificationError
from medtrail.event import Capture, Event, Header, KeyAddition, PayloadType, new_event_id, new_salt
from medtrail.exchange import Letter
from medtrail.gs1 import Gln
from medtrail.subjects import MessageKind
from medtrail.trust import Registry
from services.custody import letters
from services.custody.desk import Desk
from services.custody.letters import Heard, WaitingLetter
from tests.unit.custody.conftest import START, House

if TYPE_CHECKING:
    from tests.conftest import Network


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Heard]:
    """What was handed on to whoever understands documents."""
    found: list[Heard] = []

    def keep(_connection: Connection, _desk: Desk, letter: Heard) -> None:
        found.append(letter)

    monkeypatch.setattr(letters, "HANDLERS", {PayloadType.DOCUMENT: keep})
    return found


def signed_document(house: House, to: Gln, *, key: SigningKey | None = None, actor: Gln | None = None) -> bytes:
    document = Document(kind=DocumentKind.ORDER, number="4711", counterparty=to, issue_time=START)
    header = Header(
        salt=new_salt(),
        actor=actor or house.gln,
        source="main",
        source_seq=1,
        event_id=document.event_id(actor or house.gln),
        capture=Capture.FIRST_HAND,
    )
    event = Event(header, document)
    return encode_signed_event(sign(event.payload_type, encode_payload(event), key or house.desk.key))


def take(house: House, data: bytes, *, sender: Gln) -> None:
    house.database.write_now(lambda connection: letters.take_letter(connection, house.desk, data, sender=sender))


def waiting(house: House) -> int:
    return house.read(lambda c: c.execute(select(func.count()).select_from(WaitingLetter)).scalar_one())


def refusal(house: House, data: bytes, *, sender: Gln) -> MedtrailError:
    with pytest.raises(MedtrailError) as caught:
        take(house, data, sender=sender)
    return caught.value


def test_a_letter_reaches_the_partner_and_is_heard_once(
    pharmacy: House, distributor: House, heard: list[Heard]
) -> None:
    signed = signed_document(pharmacy, distributor.gln)
    pharmacy.database.write_now(
        lambda c: letters.send(c, to=distributor.gln, signed_event=signed, sealed_terms=b"one box")
    )
    ((to, kind, data),) = pharmacy.messages()
    assert (to, kind) == (distributor.gln, MessageKind.NOTICE)

    take(distributor, data, sender=pharmacy.gln)
    take(distributor, data, sender=pharmacy.gln)
    # Sealed anew, the same statement is another message, and says nothing new.
    take(distributor, encode_letter(Letter(signed, b"another box")), sender=pharmacy.gln)

    (letter,) = heard
    assert (letter.sender, letter.signed_event, letter.sealed_terms) == (pharmacy.gln, signed, b"one box")
    assert isinstance(letter.event.statement, Document)


def test_a_letter_may_be_for_a_location_of_ours(pharmacy: House, maker: House, heard: list[Heard]) -> None:
    (location, *_) = maker.desk.locations
    take(maker, encode_letter(Letter(signed_document(pharmacy, location))), sender=pharmacy.gln)
    assert len(heard) == 1


def test_refuses_what_another_signed_than_sent_it(
    pharmacy: House, distributor: House, maker: House, heard: list[Heard]
) -> None:
    data = encode_letter(Letter(signed_document(pharmacy, distributor.gln)))
    error = refusal(distributor, data, sender=maker.gln)
    assert (type(error), error.code) == (AuthorizationError, "LETTER_NOT_SENDER")
    assert heard == []


def test_refuses_what_is_for_somebody_else(
    pharmacy: House, distributor: House, maker: House, heard: list[Heard]
) -> None:
    error = refusal(distributor, encode_letter(Letter(signed_document(pharmacy, maker.gln))), sender=pharmacy.gln)
    assert (type(error), error.code) == (VerificationError, "LETTER_NOT_OURS")
    assert heard == []


def test_refuses_a_word_in_anothers_name(pharmacy: House, distributor: House, maker: House, heard: list[Heard]) -> None:
    signed = signed_document(pharmacy, distributor.gln, actor=maker.gln)
    assert refusal(distributor, encode_letter(Letter(signed)), sender=pharmacy.gln).code == "ACTOR_NOT_SIGNER"
    assert heard == []


def test_refuses_what_was_changed_on_the_way(pharmacy: House, distributor: House, heard: list[Heard]) -> None:
    signed = bytearray(signed_document(pharmacy, distributor.gln))
    signed[-1] ^= 1
    assert refusal(distributor, encode_letter(Letter(bytes(signed))), sender=pharmacy.gln).code == "SIGNATURE_INVALID"
    assert heard == []


def test_refuses_a_revoked_key(
    pharmacy: House, distributor: House, heard: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = distributor.registry.key(pharmacy.desk.key.key_id)
    assert record is not None
    revoked = replace(record, end_index=9, suspect_time=START)
    monkeypatch.setattr(Registry, "key", lambda _self, _key_id: revoked)
    data = encode_letter(Letter(signed_document(pharmacy, distributor.gln)))
    assert refusal(distributor, data, sender=pharmacy.gln).code == "KEY_REVOKED"
    # One that was retired in good order spoke well before.
    monkeypatch.setattr(Registry, "key", lambda _self, _key_id: replace(revoked, suspect_time=None))
    take(distributor, data, sender=pharmacy.gln)
    assert len(heard) == 1


def test_refuses_a_letter_of_a_stations_key(
    pharmacy: House, distributor: House, heard: list[Heard], network: "Network"
) -> None:
    till = SigningKey.generate()
    registry = copy.deepcopy(distributor.registry)
    header = Header(new_salt(), network.authority.gln, "authority", 1, new_event_id())
    addition = Event(header, KeyAddition(pharmacy.gln, till.key_id, "till"))
    registry.apply(registry.next_index, network.authority.signing_key().key_id, addition)
    distributor.registry = registry
    data = encode_letter(Letter(signed_document(pharmacy, distributor.gln, key=till)))
    error = refusal(distributor, data, sender=pharmacy.gln)
    assert (type(error), error.code) == (AuthorizationError, "STATION_FORBIDS")
    assert heard == []


@pytest.mark.usefixtures("heard")
def test_refuses_what_nobody_here_understands(
    pharmacy: House, distributor: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "HANDLERS", {})
    error = refusal(distributor, encode_letter(Letter(signed_document(pharmacy, distributor.gln))), sender=pharmacy.gln)
    assert (type(error), error.code) == (MalformedError, "LETTER_UNKNOWN")


def test_a_letter_under_a_new_key_waits_for_its_enrolment(
    pharmacy: House, distributor: House, heard: list[Heard], network: "Network"
) -> None:
    known = distributor.registry
    distributor.registry = Registry(authority_key_id=network.authority.signing_key().key_id)
    data = encode_letter(Letter(signed_document(pharmacy, distributor.gln)))
    take(distributor, data, sender=pharmacy.gln)
    take(distributor, data, sender=pharmacy.gln)
    assert (heard, waiting(distributor)) == ([], 1)
    assert not distributor.database.write_now(lambda c: letters.take_waiting(c, distributor.desk))

    distributor.registry = known
    assert distributor.database.write_now(lambda c: letters.take_waiting(c, distributor.desk))
    assert (len(heard), waiting(distributor)) == (1, 0)


def test_of_the_letters_that_waited_a_bad_one_stops_no_other(
    pharmacy: House, distributor: House, maker: House, heard: list[Heard], network: "Network"
) -> None:
    known = distributor.registry
    distributor.registry = Registry(authority_key_id=network.authority.signing_key().key_id)
    take(distributor, encode_letter(Letter(signed_document(pharmacy, maker.gln))), sender=pharmacy.gln)
    take(distributor, encode_letter(Letter(signed_document(pharmacy, distributor.gln))), sender=maker.gln)
    take(distributor, encode_letter(Letter(signed_document(pharmacy, distributor.gln))), sender=pharmacy.gln)
    assert waiting(distributor) == 3

    distributor.registry = known
    assert distributor.database.write_now(lambda c: letters.take_waiting(c, distributor.desk))
    assert ([letter.sender for letter in heard], waiting(distributor)) == ([pharmacy.gln], 0)


def test_nobody_fills_the_books_with_letters_under_unknown_keys(
    pharmacy: House, distributor: House, maker: House, heard: list[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "MAX_WAITING_PER_SENDER", 2)
    strangers = [
        encode_letter(Letter(signed_document(pharmacy, distributor.gln, key=SigningKey.generate()))) for _ in range(3)
    ]
    for data in strangers[:2]:
        take(distributor, data, sender=pharmacy.gln)
    error = refusal(distributor, strangers[2], sender=pharmacy.gln)
    assert (type(error), error.code) == (TooLargeError, "LETTER_BACKLOG")
    take(distributor, strangers[2], sender=maker.gln)
    assert (waiting(distributor), heard) == (3, [])


def test_letters_have_an_end_and_a_content() -> None:
    largest = Letter(b"x" * 1000, b"y" * (512 * 1024 - 1010))
    assert decode_letter(encode_letter(largest)) == largest
    with pytest.raises(TooLargeError) as caught:
        encode_letter(Letter(b"x" * 1000, b"y" * (512 * 1024)))
    assert caught.value.code == "LETTER_TOO_LARGE"
    with pytest.raises(TooLargeError):
        decode_letter(b"\x0a" * (512 * 1024 + 1))
    with pytest.raises(MalformedError) as empty:
        decode_letter(encode_letter(Letter(b"", b"terms")))
    assert (empty.value.code, empty.value.field) == ("FIELD_MISSING", "letter.signed_event")
