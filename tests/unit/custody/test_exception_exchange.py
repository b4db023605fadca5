"""Cases of two houses that deliver each other's letters by hand: late, twice, out of order, or not at all."""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete

from medtrail.codec import decode_letter
from medtrail.errors import (
    AuthorizationError,
    ConflictError,
    MalformedError,
    MedtrailError,
    NotFoundError,
    TooLargeError,
)
from medtrail.gs1 import Gln
from medtrail.gs1.checks import check_digit
from medtrail.pdg import ContactInformation, Resolution
from medtrail.pdg_reader import decode_message
from medtrail.subjects import MessageKind as InboxKind
from services.custody import commands as verbs
from services.custody import letters
from services.custody.exceptions import commands, conversation, exchange, store
from services.custody.exceptions.case import (
    Case,
    CaseMessage,
    CaseResolution,
    CaseScan,
    CaseStatus,
    MessageKind,
    NewCase,
)
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.commands import Reply, Speaker
from services.custody.exceptions.items import CaseItem, exchange_of
from services.custody.exceptions.tables import CaseRow
from services.custody.holds import HoldCode
from tests.unit.custody.conftest import House, named, packs, sscc

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from services.custody.desk import Session
    from services.custody.units import Unit

CONTACT = ContactInformation("bay@house.example", gln="0300010000001", phone="1")
SPEAKER = Speaker(CONTACT, "Kim", "as we talked about")


def open_case(house: House, new: NewCase) -> Case:
    return house.write(lambda s: commands.open_case(s, new), new.units)


def overage(house: House, other: House, *serials: int) -> Case:
    new = NewCase(ExceptionCode.OVERAGE, "one more than advised", packs(*(serials or (1,))), partner=other.gln)
    return open_case(house, new)


def propose(house: House, case: Case, request: Resolution | None = None) -> Case:
    return house.write(lambda s: commands.propose(s, case.case_id, request, SPEAKER))


def respond(house: House, case_id: str, *replies: Reply) -> Case:
    return house.write(lambda s: commands.respond(s, case_id, replies, SPEAKER))


def resolve(house: House, case_id: str, how: CaseResolution = CaseResolution.WITHDRAWN) -> Case:
    occasion = house.occasion()
    return house.write(lambda s: commands.resolve(s, case_id, how, occasion, reason="agreed"))[0]


def say(house: House, case_id: str, text: str) -> Case:
    return house.write(lambda s: commands.add_message(s, case_id, text=text, person="Kim", internal=False))


def letters_to(house: House, other: House) -> list[bytes]:
    return [data for to, kind, data in house.messages() if to == other.gln and kind is InboxKind.NOTICE]


def hear(house: House, data: bytes, sender: House) -> None:
    house.database.write_now(lambda c: letters.take_letter(c, house.desk, data, sender=sender.gln))


def deliver(house: House, other: House) -> None:
    for data in letters_to(house, other):
        hear(other, data, house)


def case_at(house: House, case_id: str) -> Case:
    return house.read(lambda c: store.get_case(c, case_id))


def items_at(house: House, case_id: str) -> Sequence[CaseItem]:
    return exchange_of(case_id, messages_at(house, case_id)).items


def messages_at(house: House, case_id: str) -> list[CaseMessage]:
    return house.read(lambda c: conversation.messages_of_case(c, case_id))


def test_report_opens_the_partners_case_under_the_same_id_and_answers_come_back(
    pharmacy: House, distributor: House
) -> None:
    case = overage(pharmacy, distributor)
    assert propose(pharmacy, case).status is CaseStatus.PROPOSED
    deliver(pharmacy, distributor)
    there = case_at(distributor, case.case_id)
    assert (there.code, there.partner, there.partner_reported) == (ExceptionCode.OVERAGE, pharmacy.gln, True)
    assert there.status is CaseStatus.PROPOSED
    (item,) = items_at(distributor, case.case_id)
    assert (item.group, item.request) == ("missing_product_data", Resolution.SEND_NEW_DATA)
    assert respond(distributor, case.case_id, Reply("", accepted=True)).status is CaseStatus.AGREED
    deliver(distributor, pharmacy)
    assert case_at(pharmacy, case.case_id).status is CaseStatus.AGREED
    resolve(pharmacy, case.case_id)
    deliver(pharmacy, distributor)
    there = case_at(distributor, case.case_id)
    assert (there.status, there.resolution) == (CaseStatus.RESOLVED, CaseResolution.BY_PARTNER)
    assert [message.kind for message in messages_at(distributor, case.case_id)] == [
        message.kind for message in messages_at(pharmacy, case.case_id)
    ]


def test_rejection_offers_an_alternative_and_a_new_request_asks_anew(pharmacy: House, distributor: House) -> None:
    case = overage(pharmacy, distributor)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    (item,) = items_at(distributor, case.case_id)
    no = Reply(item.item_id, accepted=False, alternative=Resolution.RETURN_PRODUCT, comments="no such pack here")
    assert respond(distributor, case.case_id, no).status is CaseStatus.DISPUTED
    deliver(distributor, pharmacy)
    (seen,) = items_at(pharmacy, case.case_id)
    assert seen.answer is not None
    assert seen.answer.alternative is not None
    assert seen.answer.alternative.resolution is Resolution.RETURN_PRODUCT
    assert propose(pharmacy, case, Resolution.RETURN_PRODUCT).status is CaseStatus.PROPOSED
    deliver(pharmacy, distributor)
    assert case_at(distributor, case.case_id).status is CaseStatus.PROPOSED


def story(pharmacy: House, distributor: House) -> Case:
    """A case with every kind of word from the pharmacy, and all that it sent still on its way."""
    case = overage(pharmacy, distributor, 1, 2, 3)
    propose(pharmacy, case)
    say(pharmacy, case.case_id, "the seal was whole")
    propose(pharmacy, case, Resolution.RETURN_PRODUCT)
    resolve(pharmacy, case.case_id)
    return case


def test_letters_in_any_order_and_twice_come_to_the_same_case(pharmacy: House, distributor: House) -> None:
    case = story(pharmacy, distributor)
    sent = letters_to(pharmacy, distributor)
    assert len(sent) == 4

    def hear_all(connection: "Connection", order: Sequence[bytes]) -> tuple[object, ...]:
        forgotten = connection.begin_nested()
        for data in order:
            letters.take_letter(connection, distributor.desk, data, sender=pharmacy.gln)
        there = store.get_case(connection, case.case_id)
        said = conversation.messages_of_case(connection, case.case_id)
        items = [(item.item_id, item.request) for item in exchange_of(case.case_id, said).items]
        forgotten.rollback()
        return (there.status, there.resolution, there.unit_count, str([item.message_id for item in said]), str(items))

    choice = random.Random(7)
    orders = [(*order, choice.choice(order)) for order in itertools.permutations(sent)]
    outcomes = distributor.database.write_now(lambda c: {hear_all(c, order) for order in orders})
    assert len(outcomes) == 1
    assert next(iter(outcomes))[0] is CaseStatus.RESOLVED


def test_lost_letters_leave_the_case_to_the_others(pharmacy: House, distributor: House) -> None:
    case = story(pharmacy, distributor)
    hear(distributor, letters_to(pharmacy, distributor)[-1], pharmacy)
    there = case_at(distributor, case.case_id)
    assert (there.status, there.code) == (CaseStatus.RESOLVED, ExceptionCode.OVERAGE)


def test_letter_under_another_houses_case_is_refused_and_changes_nothing(
    pharmacy: House, distributor: House, maker: House
) -> None:
    case = overage(pharmacy, distributor)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    # The maker learns the id, opens a case under it, and speaks as if it were party.
    maker.write(
        lambda s: commands.open_case(
            s, NewCase(ExceptionCode.OVERAGE, "mine", packs(1), partner=distributor.gln, case_id=case.case_id)
        )
    )
    before = (case_at(distributor, case.case_id), messages_at(distributor, case.case_id))
    propose(maker, case)
    say(maker, case.case_id, "let it be")
    for data in letters_to(maker, distributor):
        with pytest.raises(AuthorizationError) as caught:
            hear(distributor, data, maker)
        assert caught.value.code == "CASE_NOT_PARTY"
    assert (case_at(distributor, case.case_id), messages_at(distributor, case.case_id)) == before


def test_case_about_a_despatch_between_others_is_refused(pharmacy: House, distributor: House, maker: House) -> None:
    units = packs(7)
    maker.commission(units)
    (accepted,) = maker.ship(units, distributor.gln)
    maker.send_to(distributor)
    new = NewCase(ExceptionCode.SHORTAGE, "not ours", units, distributor.gln, despatch_id=accepted.event_id)
    case = open_case(pharmacy, new)
    propose(pharmacy, case)
    (data,) = letters_to(pharmacy, distributor)
    with pytest.raises(AuthorizationError) as caught:
        hear(distributor, data, pharmacy)
    assert caught.value.code == "CASE_NOT_PARTY"
    # Of the maker's own despatch the consignee may speak.
    new = NewCase(ExceptionCode.SHORTAGE, "one missing", units, maker.gln, despatch_id=accepted.event_id)
    ours = open_case(distributor, new)
    propose(distributor, ours)
    deliver(distributor, maker)
    assert case_at(maker, ours.case_id).despatch_id == accepted.event_id


def test_answer_to_a_case_that_is_not_known_is_refused(pharmacy: House, distributor: House, maker: House) -> None:
    case = overage(pharmacy, distributor)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    respond(distributor, case.case_id, Reply("", accepted=True))
    (data,) = letters_to(distributor, pharmacy)
    with pytest.raises(MedtrailError):
        hear(maker, data, distributor)
    forgotten = delete(CaseRow.__table__)  # type: ignore[attr-defined]
    pharmacy.database.write_now(lambda c: c.execute(forgotten))
    with pytest.raises(NotFoundError) as caught:
        hear(pharmacy, data, distributor)
    assert caught.value.code == "CASE_UNKNOWN"


def test_who_reported_a_case_does_not_answer_it(pharmacy: House, distributor: House) -> None:
    case = overage(pharmacy, distributor)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    with pytest.raises(ConflictError) as caught:
        respond(pharmacy, case.case_id, Reply("", accepted=True))
    assert caught.value.code == "CASE_NOT_REPORTED"
    with pytest.raises(ConflictError) as caught:
        propose(distributor, case)
    assert caught.value.code == "CASE_NOT_OURS"
    # Nor by a letter that its own service would not have written.
    distributor.database.write_now(lambda c: store.change(c, case.case_id, partner_reported=False))
    propose(distributor, case)
    with pytest.raises(AuthorizationError) as refused:
        hear(pharmacy, letters_to(distributor, pharmacy)[0], distributor)
    assert refused.value.code == "CASE_NOT_PARTY"


def test_letter_whose_pdg_message_is_of_another_case_is_refused(pharmacy: House, distributor: House) -> None:
    case = overage(pharmacy, distributor)
    other = overage(pharmacy, distributor, 2)
    propose(pharmacy, case)

    def forged(session: "Session") -> None:
        (kept,) = conversation.messages_of_case(session.connection, case.case_id)
        exchange.say(session, other, exchange.Said(MessageKind.REPORT, pdg=decode_message(kept.pdg)))

    pharmacy.write(forged)
    data = letters_to(pharmacy, distributor)[-1]
    with pytest.raises(MalformedError) as caught:
        hear(distributor, data, pharmacy)
    assert caught.value.code == "LETTER_MISMATCH"


def test_remark_for_the_house_alone_is_neither_signed_nor_sent(pharmacy: House, distributor: House) -> None:
    case = overage(pharmacy, distributor)
    pharmacy.write(lambda s: commands.add_message(s, case.case_id, text="theirs again", person="Kim", internal=True))
    (message,) = messages_at(pharmacy, case.case_id)
    assert (message.kind, message.signed_event, letters_to(pharmacy, distributor)) == (MessageKind.INTERNAL, b"", [])


def test_message_names_the_signed_event_that_carried_it(pharmacy: House, distributor: House) -> None:
    case = overage(pharmacy, distributor)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    (here,), (there,) = messages_at(pharmacy, case.case_id), messages_at(distributor, case.case_id)
    (data,) = letters_to(pharmacy, distributor)
    assert here.signed_event == there.signed_event == decode_letter(data).signed_event
    assert here.pdg == there.pdg


def test_what_partners_outside_the_network_are_told_is_kept_for_export(pharmacy: House) -> None:
    outside = Gln("541234500001" + check_digit("541234500001"))
    case = open_case(pharmacy, NewCase(ExceptionCode.DAMAGED, "wet", packs(1), partner=outside))
    assert propose(pharmacy, case).status is CaseStatus.PROPOSED
    (message,) = messages_at(pharmacy, case.case_id)
    assert message.pdg
    assert not message.signed_event
    assert pharmacy.messages() == []


def test_case_without_partner_cannot_be_reported(pharmacy: House) -> None:
    case = open_case(pharmacy, NewCase(ExceptionCode.DAMAGED, "wet", packs(1)))
    with pytest.raises(ConflictError) as caught:
        propose(pharmacy, case)
    assert caught.value.code == "CASE_WITHOUT_PARTNER"


def test_resolved_case_takes_no_further_steps_but_remarks(pharmacy: House, distributor: House) -> None:
    case = overage(pharmacy, distributor)
    resolve(pharmacy, case.case_id)
    steps: tuple[Callable[[], Case], ...] = (
        lambda: propose(pharmacy, case),
        lambda: resolve(pharmacy, case.case_id),
        lambda: pharmacy.write(lambda s: commands.assign(s, case.case_id, "Kim")),
    )
    for step in steps:
        with pytest.raises(ConflictError) as caught:
            step()
        assert caught.value.code == "CASE_RESOLVED"
    say(pharmacy, case.case_id, "for the record")


def test_answer_names_items_of_the_case_each_once(pharmacy: House, distributor: House) -> None:
    case = overage(pharmacy, distributor, 1, 2)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    first, second = items_at(distributor, case.case_id)
    with pytest.raises(MalformedError) as caught:
        respond(distributor, case.case_id, Reply("0" * 36, accepted=True))
    assert caught.value.code == "ITEM_UNKNOWN"
    twice = Reply(first.item_id, accepted=True)
    with pytest.raises(MalformedError) as caught:
        respond(distributor, case.case_id, twice, twice)
    assert caught.value.code == "ITEM_TWICE"
    assert respond(distributor, case.case_id, Reply(first.item_id, accepted=True)).status is CaseStatus.PROPOSED
    assert respond(distributor, case.case_id, Reply(second.item_id, accepted=True)).status is CaseStatus.AGREED


def test_many_items_go_in_several_reports(pharmacy: House, distributor: House) -> None:
    units: Sequence[Unit] = packs(*range(450))
    case = open_case(pharmacy, NewCase(ExceptionCode.OVERAGE, "a pallet more", units, partner=distributor.gln))
    propose(pharmacy, case)
    assert len(letters_to(pharmacy, distributor)) == 3
    deliver(pharmacy, distributor)
    there = case_at(distributor, case.case_id)
    assert (there.unit_count, len(items_at(distributor, case.case_id))) == (450, 450)


def test_scan_that_raised_a_case_tells_what_the_pack_says(pharmacy: House, distributor: House) -> None:
    scan = CaseScan("(01)00300010123455(21)1(17)280331(10)B9", station="bay-1", verdict_code="WRONG_LOT")
    new = NewCase(ExceptionCode.LOT_MISMATCH, "lot B9, data say A123", packs(1), distributor.gln, scan=scan)
    case = open_case(pharmacy, new)
    propose(pharmacy, case)
    (item,) = items_at(pharmacy, case.case_id)
    assert item.group == "data_misalignment"
    assert "lot B9" in item.text
    assert case_at(pharmacy, case.case_id).scan == scan


def test_unknown_code_of_a_later_version_is_read_by_the_lists_of_its_report(
    pharmacy: House, distributor: House
) -> None:
    case = overage(pharmacy, distributor)
    propose(pharmacy, case)
    (message,) = messages_at(pharmacy, case.case_id)
    assert exchange.code_of("NOT_INVENTED_YET", decode_message(message.pdg)) is ExceptionCode.OVERAGE
    assert exchange.code_of("NOT_INVENTED_YET", None) is ExceptionCode.ORDER_MISMATCH


def test_partners_case_neither_takes_in_nor_releases_what_is_the_houses_own(
    pharmacy: House, distributor: House, maker: House
) -> None:
    units = packs(1)
    maker.commission(units)
    maker.ship(units, distributor.gln)
    maker.send_to(distributor)
    distributor.confirm_all()
    distributor.receive(units)
    occasion = distributor.occasion()
    distributor.write(lambda s: verbs.hold(s, named(units), occasion, reason="wet", code=HoldCode.DAMAGED), units)
    theirs = open_case(pharmacy, NewCase(ExceptionCode.DAMAGED, "theirs", units, distributor.gln))
    propose(pharmacy, theirs)
    deliver(pharmacy, distributor)
    despatch_id = distributor.held(units[0]).despatch_id
    distributor.database.write_now(lambda c: store.change(c, theirs.case_id, despatch_id=despatch_id))
    ours = open_case(distributor, NewCase(ExceptionCode.DAMAGED, "ours", units))
    assert ours.case_id != theirs.case_id
    resolve(distributor, theirs.case_id, CaseResolution.ACCEPTED)
    assert distributor.held(units[0]).hold_reason == "DAMAGED: wet"
    resolve(distributor, ours.case_id, CaseResolution.ACCEPTED)
    assert distributor.held(units[0]).hold_reason == ""


def test_partner_that_talks_too_much_does_not_keep_the_house_from_its_last_word(
    pharmacy: House, distributor: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = overage(pharmacy, distributor)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    monkeypatch.setattr(conversation, "MAX_MESSAGES", 2)
    say(distributor, case.case_id, "one")
    say(distributor, case.case_id, "two")
    monkeypatch.setattr(conversation, "MAX_MESSAGES", 3)
    say(distributor, case.case_id, "three")
    monkeypatch.setattr(conversation, "MAX_MESSAGES", 2)
    *taken, last = letters_to(distributor, pharmacy)
    for data in taken:
        hear(pharmacy, data, distributor)
    with pytest.raises(TooLargeError) as caught:
        hear(pharmacy, last, distributor)
    assert caught.value.code == "TOO_MANY_MESSAGES"
    assert resolve(pharmacy, case.case_id).status is CaseStatus.RESOLVED


@pytest.mark.parametrize(
    ("code", "counts", "group"),
    [
        (ExceptionCode.OVERAGE, (10, 11), "overages"),
        (ExceptionCode.SHORTAGE, (11, 10), "underages"),
        (ExceptionCode.SHORTAGE, (0, 0), "missing_product"),
        (ExceptionCode.WRONG_CONSIGNEE, (0, 0), "gln_errors"),
        (ExceptionCode.DAMAGED, (0, 0), "case"),
    ],
)
def test_units_of_a_case_stand_in_the_list_of_its_code(
    pharmacy: House, distributor: House, code: ExceptionCode, counts: tuple[int, int], group: str
) -> None:
    expected, counted = counts
    new = NewCase(code, "as counted", packs(1), distributor.gln, expected_count=expected, counted_count=counted)
    case = open_case(pharmacy, new)
    propose(pharmacy, case)
    deliver(pharmacy, distributor)
    (item,) = items_at(distributor, case.case_id)
    assert item.group == group
    assert item.text
    assert respond(distributor, case.case_id, Reply(item.item_id, accepted=True)).status is CaseStatus.AGREED


def test_count_without_units_is_reported_by_the_scan_or_in_words(pharmacy: House, distributor: House) -> None:
    new = NewCase(ExceptionCode.SHORTAGE, "one missing", partner=distributor.gln, expected_count=2, counted_count=1)
    scan = CaseScan("(01)00300010123455(21)1(17)280331(10)B9")
    scanned = open_case(pharmacy, replace(new, scan=scan))
    unscanned = open_case(pharmacy, replace(new, scan=CaseScan("dirt")))
    for case, group in ((scanned, "underages"), (unscanned, "case")):
        propose(pharmacy, case)
        assert [item.group for item in items_at(pharmacy, case.case_id)] == [group]


def test_packs_of_a_container_are_named_one_by_one(maker: House, distributor: House) -> None:
    units, container, empty = packs(1, 2), sscc(1), sscc(2)
    maker.commission(units)
    maker.pack(container, units)
    case = open_case(maker, NewCase(ExceptionCode.SHORTAGE, "not there", (container,), distributor.gln))
    propose(maker, case)
    assert [item.group for item in items_at(maker, case.case_id)] == ["missing_product"] * 2
    # Of a container whose contents nobody knows the report tells in words.
    unknown = open_case(maker, NewCase(ExceptionCode.SHORTAGE, "not there", (empty,), distributor.gln))
    propose(maker, unknown)
    assert [item.group for item in items_at(maker, unknown.case_id)] == ["case"]
