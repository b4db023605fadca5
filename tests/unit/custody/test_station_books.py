"""A station's copy of the books, what it signs upon it, and the service taking that in."""

import copy
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, func, select, table

from medtrail.codec import decode_payload, decode_signed_event, encode_payload, encode_signed_event
from medtrail.envelope import SigningKey, sign
from medtrail.epcis.model import EpcisEvent
from medtrail.errors import AuthorizationError, ConflictError, DuplicateError, MalformedError, MedtrailError
from medtrail.event import (
    Event,
    Header,
    KeyAddition,
    KeyRetirement,
    PayloadType,
    Recall,
    RecallScope,
    new_event_id,
    new_salt,
)
from medtrail.gs1 import parse_epc
from medtrail.note import NoteSigner
from medtrail.runtime import outbox
from medtrail.runtime.database import Database
from medtrail.runtime.tables import prepare
from medtrail.terms import TermsLine
from medtrail.trust import Registry
from services.custody import (
    commands,
    events_store,
    holdings_store,
    inbound_store,
    lot_holds,
    station_feed,
    verifications,
)
from services.custody.desk import Desk, Session
from services.custody.events import document
from services.custody.exceptions import commands as case_commands
from services.custody.exceptions.case import CaseResolution
from services.custody.exceptions.codes import ExceptionCode
from services.custody.exceptions.store import cases_of_unit
from services.custody.holding import Books, Holding, HoldingState
from services.custody.holds import HoldCode
from services.custody.lot_holds import LotHold
from services.custody.orders import commands as order_commands
from services.custody.orders import goods
from services.custody.orders.commands import Heading
from services.custody.portions import Wanted, hand_out
from services.custody.receiving.codes import Posting
from services.custody.station_events import Taken, last_number, take_event
from services.custody.station_messages import page_from_message, page_to_message, taken_from_message, taken_to_message
from services.custody.units import Named, Unit, as_unit
from services.custody.upgrade import upgrade
from services.custody.verifications import RecordKind
from services.station import books, handover, prune
from services.station.books import Word
from tests.support.books import unsynced
from tests.unit.custody.conftest import EXPIRY, GTIN, LOT, sscc
from tests.unit.receiving.conftest import Bay as Dock
from tests.unit.receiving.test_late_data import declare, refuse

if TYPE_CHECKING:
    from tests.conftest import Network
    from tests.unit.custody.conftest import House

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
LOG = NoteSigner("log.example", bytes(32)).verifier


def packs(*serials: int) -> tuple[Unit, ...]:
    return tuple(as_unit(parse_epc(f"https://id.gs1.org/01/00300010123455/21/{s}"), field="epc") for s in serials)


def named(units: tuple[Unit, ...]) -> tuple[Any, ...]:
    return tuple(Named(unit, f"epcs[{number}]") for number, unit in enumerate(units))


def authority_says(registry: Registry, statement: Any, *, key_id: str) -> Registry:
    """A registry that has heard one more statement of the authority."""
    changed = copy.deepcopy(registry)
    header = Header(new_salt(), next(iter(changed.organisations())).gln, "authority", 1, new_event_id())
    changed.apply(changed.next_index, key_id, Event(header, statement))
    return changed


@dataclass
class Bay:
    """A station of a house, with a database of its own; the wire is a call."""

    house: "House"
    desk: Desk
    database: Database
    feed_id: str = ""
    number: int = 0

    def follow(self, *, reset: bool = False) -> None:
        """Take in all that the house's books tell."""
        while True:
            state = self.database.read_now(books.read_state)
            feed = self.house.database.write_now(station_feed.begin_feed)
            previous = 0 if reset or state.feed_id != feed else state.number
            reset = False
            page = self.house.read(lambda c: station_feed.page_after(c, previous))  # noqa: B023 - called at once
            message = page_to_message(page, feed_id=feed, previous=previous, complete_time=NOW, ledger_time=NOW)
            heard = page_from_message(type(message).FromString(message.SerializeToString()))
            word = Word(feed, previous, heard, NOW, NOW, NOW + timedelta(seconds=2))

            def write(connection: Connection) -> None:
                books.take_page(connection, word, gln=self.house.gln, verifier=LOG)  # noqa: B023 - called at once
                handover.settle_all(connection, now=NOW)

            self.database.write_now(write)
            if page.number >= page.newest:
                return

    def do(self, verb: Callable[..., Any], *units: Unit, **arguments: Any) -> None:
        occasion = replace(self.house.occasion(), station=self.desk.source)
        self.database.write_now(lambda c: verb(Session(c, self.desk, units), named(units), occasion, **arguments))

    def waiting(self) -> list[bytes]:
        return [item.data for item in self.database.read_now(handover.next_events)]

    def hand_in(self, *events: bytes) -> list[Taken]:
        """Hand events in, all that wait when none are given, and take the answers."""
        found = []
        for data in events or self.waiting():
            taken = self.house.database.write_now(
                lambda c: take_event(c, self.house.desk, data, key_id=self.desk.key.key_id)  # noqa: B023 - at once
            )
            message = taken_to_message(taken)
            found.append(taken_from_message(type(message).FromString(message.SerializeToString())))
            self.database.write_now(lambda c: handover.take_answer(c, found[-1]))
        return found

    def held(self, unit: Unit) -> Holding | None:
        return self.database.read_now(lambda c: holdings_store.load_books(c, (unit,)).get(unit))

    def state_of(self, unit: Unit) -> HoldingState | None:
        holding = self.held(unit)
        return None if holding is None else holding.state


@pytest.fixture
def make_bay(network: "Network", pharmacy: "House", tmp_path: Path) -> Iterator[Callable[[str], Bay]]:
    made: list[Database] = []
    authority = network.authority.signing_key().key_id

    def make(name: str) -> Bay:
        key = SigningKey.generate()
        addition = KeyAddition(pharmacy.gln, key.key_id, name)
        pharmacy.registry = authority_says(pharmacy.registry, addition, key_id=authority)
        database = unsynced(tmp_path / f"{len(made)}.db")
        database.write_now(prepare)
        database.write_now(upgrade)
        made.append(database)
        return Bay(pharmacy, replace(pharmacy.desk, key=key, source=name), database)

    yield make
    for database in made:
        database.close()


@pytest.fixture
def stock(maker: "House", pharmacy: "House") -> tuple[Unit, ...]:
    """Five packs in the pharmacy's hands."""
    units = packs(1, 2, 3, 4, 5)
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units)
    return units


def open_conflicts(house: "House", unit: Unit) -> list[ExceptionCode]:
    return [case.code for case in house.read(lambda c: cases_of_unit(c, unit))]


# --- the copy ---


def test_copy_is_the_books(make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House") -> None:
    bay = make_bay("bay")
    bay.follow()
    assert [bay.held(unit) for unit in stock] == [pharmacy.held(unit) for unit in stock]
    pharmacy.hold(stock[:1])
    bay.follow()
    assert bay.held(stock[0]) == pharmacy.held(stock[0])
    state = bay.database.read_now(books.read_state)
    assert (state.complete_time, state.ledger_time, state.ahead_s, state.loading) == (NOW, NOW, 2.0, False)
    assert bay.database.read_now(books.count_units) == 5


def test_what_is_gone_from_the_books_goes_from_the_copy(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    bay.follow()
    pharmacy.database.write_now(lambda c: holdings_store.restore(c, stock[0].path, None))
    bay.follow()
    assert (bay.held(stock[0]), bay.state_of(stock[1])) == (None, HoldingState.ON_HAND)


def test_other_numbering_makes_the_copy_anew(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    bay.follow()
    stranger = packs(99)[0]
    bay.database.write_now(lambda c: books.set_word(c, stranger.path, None))
    holding = pharmacy.held(stock[0])
    row = {**holdings_store.to_row(holding), "path": stranger.path}
    bay.database.write_now(lambda c: books.set_word(c, stranger.path, row))
    bay.follow(reset=True)
    assert bay.held(stranger) is None
    assert [bay.held(unit) for unit in stock] == [pharmacy.held(unit) for unit in stock]


def test_refuses_a_page_that_leaves_something_out(make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]) -> None:
    bay = make_bay("bay")
    bay.follow()
    state = bay.database.read_now(books.read_state)
    page = station_feed.FeedPage((), state.number + 5, state.number + 5, b"", 0, 0)
    word = Word(state.feed_id, state.number + 3, page, NOW, NOW, NOW)
    with pytest.raises(ConflictError) as caught:
        bay.database.write_now(lambda c: books.take_page(c, word, gln=bay.house.gln, verifier=LOG))
    assert (caught.value.code, len(stock)) == ("FEED_GAP", 5)


def test_feed_costs_nothing_before_anybody_follows(stock: tuple[Unit, ...], pharmacy: "House") -> None:
    assert pharmacy.read(station_feed.newest_number) == 0
    first = pharmacy.database.write_now(station_feed.begin_feed)
    assert pharmacy.read(station_feed.newest_number) >= len(stock)
    assert pharmacy.database.write_now(station_feed.begin_feed) == first
    assert pharmacy.read(station_feed.feed_id) == first


def test_each_thing_stands_once_under_its_latest_number(stock: tuple[Unit, ...], pharmacy: "House") -> None:
    pharmacy.database.write_now(station_feed.begin_feed)
    before = pharmacy.read(station_feed.newest_number)
    pharmacy.hold(stock[:1])
    pharmacy.release(stock[:1])
    page = pharmacy.read(lambda c: station_feed.page_after(c, before))
    assert [(change.kind, change.key) for change in page.changes] == [(station_feed.FeedKind.UNIT, stock[0].path)]
    whole = pharmacy.read(lambda c: station_feed.page_after(c, 0))
    keys = [(change.kind, change.key) for change in whole.changes]
    assert len(keys) == len(set(keys))


# --- what is under way lies upon the service's word ---


def test_own_work_shows_at_once_and_the_services_word_counts_in_the_end(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    assert bay.state_of(stock[0]) is HoldingState.DISPENSED
    # The service's newer word on the pack does not undo what was done here.
    pharmacy.hold(stock[:1])
    bay.follow()
    assert bay.state_of(stock[0]) is HoldingState.DISPENSED
    assert bay.database.read_now(lambda c: books.is_touched(c, stock[0].path))
    bay.hand_in()
    bay.follow()
    assert bay.held(stock[0]) == pharmacy.held(stock[0])
    assert not bay.database.read_now(lambda c: books.is_touched(c, stock[0].path))
    assert bay.database.read_now(handover.open_count) == (0, True)


def test_a_later_event_under_way_keeps_its_effect(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    bay.do(commands.hold, stock[0], reason="leaking")
    bay.do(commands.hold, stock[1], reason="leaking")
    bay.do(commands.dispense, stock[2], partial=True)
    bay.do(commands.dispense, stock[2], partial=False)
    bay.hand_in(*bay.waiting()[:3])
    bay.follow()
    assert bay.state_of(stock[2]) is HoldingState.DISPENSED
    assert pharmacy.held(stock[2]).state is HoldingState.PARTIALLY_DISPENSED
    bay.hand_in()
    bay.follow()
    assert bay.held(stock[2]) == pharmacy.held(stock[2])


# --- taking events in ---


def test_event_that_fits_is_as_if_done_at_the_service(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    pending = pharmacy.pending()
    bay.do(commands.dispense, stock[0], partial=False)
    (taken,) = bay.hand_in()
    assert (taken.station, taken.source_seq, taken.conflicts, taken.resend) == ("till", 1, (), False)
    assert pharmacy.held(stock[0]).state is HoldingState.DISPENSED
    assert pharmacy.pending() == pending + 1
    said = pharmacy.events()
    (event,) = [item for item in said if item.header.source == "till"]
    assert event.statement.read_point.id.endswith("/254/till")  # type: ignore[union-attr]
    assert pharmacy.read(lambda c: last_number(c, "till")) == 1


def test_event_handed_in_again_gets_its_first_answer(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    (data,) = bay.waiting()
    first, again = bay.hand_in(data, data)
    assert again.resend
    assert replace(again, resend=False, change_number=0) == replace(first, change_number=0)
    assert len([event for event in pharmacy.events() if event.header.source == "till"]) == 1


def test_offline_conflict_is_opened_when_two_tills_dispensed_one_pack(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    first, second = make_bay("till-1"), make_bay("till-2")
    for bay in (first, second):
        bay.follow()
        bay.do(commands.dispense, stock[0], partial=False)
    assert first.hand_in()[0].conflicts == ()
    (taken,) = second.hand_in()
    assert [(item.unit, item.code) for item in taken.conflicts] == [(stock[0], "UNIT_FINAL")]
    assert open_conflicts(pharmacy, stock[0]) == [ExceptionCode.OFFLINE_CONFLICT]
    assert pharmacy.held(stock[0]).state is HoldingState.DISPENSED
    # It was said and signed: both go to the log.
    assert {"till-1", "till-2"} <= {event.header.source for event in pharmacy.events()}
    (again,) = second.hand_in(second_event(second))
    assert (again.resend, again.conflicts) == (True, taken.conflicts)
    (fate,) = second.database.read_now(lambda c: handover.list_conflicts(c, limit=5))
    assert fate.conflicts == taken.conflicts


def second_event(bay: Bay) -> bytes:
    fates = bay.database.read_now(lambda c: handover.list_conflicts(c, limit=1))
    return bay.database.read_now(lambda c: outbox.get_event(c, fates[0].sha256)).data


def test_offline_conflict_spares_the_units_that_fit(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    bay.follow()
    bay.do(commands.hold, *stock[:3], reason="wet")
    pharmacy.dispense(stock[:1])
    (taken,) = bay.hand_in()
    assert [item.unit for item in taken.conflicts] == [stock[0]]
    assert [pharmacy.held(unit).hold_reason for unit in stock[1:4]] == ["wet", "wet", ""]
    assert [len(open_conflicts(pharmacy, unit)) for unit in stock[:3]] == [1, 0, 0]


def test_offline_conflict_puts_goods_aside_that_are_still_here(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House", stock: tuple[Unit, ...]
) -> None:
    more = packs(6)
    maker.commission(more)
    maker.ship(more, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    bay = make_bay("bay")
    bay.follow()
    bay.do(commands.receive, *more)
    pharmacy.receive(more)
    (taken,) = bay.hand_in()
    assert [item.unit for item in taken.conflicts] == [more[0]]
    holding = pharmacy.held(more[0])
    assert (holding.state, holding.exception) == (HoldingState.EXCEPTION, "OFFLINE_CONFLICT")
    assert pharmacy.held(stock[0]).state is HoldingState.ON_HAND


@pytest.mark.parametrize("verb", [commands.receive, commands.hold], ids=["said to be received again", "not here"])
def test_what_was_put_aside_by_an_offline_conflict_and_accepted_was_received_once(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House", verb: Callable[..., Any]
) -> None:
    units = packs(6, 7)
    line = TermsLine(1, GTIN, Decimal(2))
    pharmacy.write(lambda s: order_commands.place(s, Heading("P1", pharmacy.clock()), [line], seller=maker.gln))
    maker.commission(units)
    (despatch,) = maker.ship(units, pharmacy.gln, [document("po", "P1", issuer=pharmacy.gln)])
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    bay = make_bay("bay")
    if verb is commands.receive:
        bay.follow()
        bay.do(verb, *units)
        pharmacy.receive(units)
    else:
        pharmacy.receive(units[1:])
        bay.database.write_now(lambda c: holdings_store.save_changes(c, on_hand(pharmacy, units[0]), event_number=0))
        bay.do(verb, units[0], reason="wet")
    conflicts = [item for taken in bay.hand_in() for item in taken.conflicts]
    assert conflicts
    assert received(pharmacy, despatch.event_id) == (2, 2)
    for conflict in conflicts:
        resolve(pharmacy, conflict.case_id, CaseResolution.ACCEPTED)
    assert {pharmacy.held(unit).state for unit in units} == {HoldingState.ON_HAND}
    assert received(pharmacy, despatch.event_id) == (2, 2)


def on_hand(house: "House", unit: Unit) -> Books:
    """Books in which an awaited unit is on hand, as a station may have it that was told of what is taken back since."""
    found = Books()
    found.put(replace(house.held(unit), state=HoldingState.ON_HAND, location=house.desk.default_location))
    return found


def received(house: "House", despatch_id: str) -> tuple[int, int]:
    """How many packs of a despatch were received, by the count of the despatch and by that of its order."""
    shipment = house.read(lambda c: inbound_store.find(c, despatch_id))
    assert shipment is not None
    tallies = house.read(lambda c: goods.received_of(c, despatch_id))
    return shipment.received_count, sum(tally.counts().get(GTIN, 0) for _, tally in tallies)


def test_no_offline_conflict_when_what_came_between_leaves_the_event_possible(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    pharmacy.hold(stock[1:2])
    pharmacy.dispense(stock[2:3])
    (taken,) = bay.hand_in()
    assert taken.conflicts == ()
    assert [open_conflicts(pharmacy, unit) for unit in stock[:3]] == [[], [], []]


@pytest.mark.parametrize("alone", [True, False], ids=["one of them", "the whole case"])
def test_no_offline_conflict_when_the_case_was_unpacked_behind_the_stations_back(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House", *, alone: bool
) -> None:
    (box,), inside = packs(60), packs(61, 62)
    maker.commission((box, *inside))
    maker.pack(box, inside)
    maker.ship((box,), pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive((box,))
    bay = make_bay("till")
    bay.follow()
    pharmacy.unpack(box, inside[:1] if alone else ())
    # The till takes the pack out of the case, as far as it knows, and hands it out.
    bay.do(commands.dispense, inside[0], partial=False)
    assert [taken.conflicts for taken in bay.hand_in()] == [(), ()]
    assert pharmacy.held(inside[0]).state is HoldingState.DISPENSED
    assert open_conflicts(pharmacy, inside[0]) == []


def refused(bay: Bay, data: bytes, *, key_id: str = "") -> MedtrailError:
    with pytest.raises(MedtrailError) as caught:
        bay.house.database.write_now(
            lambda c: take_event(c, bay.house.desk, data, key_id=key_id or bay.desk.key.key_id)
        )
    return caught.value


def test_refuses_events_out_of_turn(make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]) -> None:
    bay = make_bay("till")
    bay.follow()
    for unit in stock[:2]:
        bay.do(commands.dispense, unit, partial=False)
    error = refused(bay, bay.waiting()[1])
    assert (error.code, error.facts["expected"], isinstance(error, ConflictError)) == ("SOURCE_SEQ_GAP", "1", True)


def test_refuses_a_second_event_under_one_number(make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]) -> None:
    bay = make_bay("till")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    (data,) = bay.waiting()
    bay.hand_in(data)
    error = refused(bay, resigned(bay, data, salt=new_salt()))
    assert (error.code, isinstance(error, DuplicateError)) == ("SOURCE_SEQ_REUSED", True)


def resigned(bay: Bay, data: bytes, *, key: SigningKey | None = None, **header: Any) -> bytes:
    signed = decode_signed_event(data)
    event = decode_payload(signed.payload_type, signed.payload)
    changed = replace(event, header=replace(event.header, **header))
    return encode_signed_event(sign(changed.payload_type, encode_payload(changed), key or bay.desk.key))


def test_a_station_speaks_for_itself_only(make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]) -> None:
    bay, other = make_bay("till-1"), make_bay("till-2")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    (data,) = bay.waiting()
    assert refused(bay, data, key_id=other.desk.key.key_id).code == "STATION_KEY"
    bay.hand_in(data)
    # Nor does a key speak under the name of a station that has another one.
    bay.do(commands.dispense, stock[1], partial=False)
    (following,) = bay.waiting()
    forged = resigned(bay, following, key=other.desk.key)
    assert refused(bay, forged, key_id=other.desk.key.key_id).code == "STATION_KEY"


def test_nobody_takes_the_name_of_a_station_before_it_has_spoken(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]
) -> None:
    bay, other = make_bay("till-1"), make_bay("till-2")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    (data,) = bay.waiting()
    # Neither another till, nor whoever has the organisation's own key.
    for key in (other.desk.key, bay.house.desk.key):
        error = refused(bay, resigned(bay, data, key=key), key_id=key.key_id)
        assert (error.code, isinstance(error, AuthorizationError)) == ("STATION_KEY", True)
    assert bay.house.read(lambda c: last_number(c, "till-1")) == 0
    assert [taken.source_seq for taken in bay.hand_in()] == [1]


def test_station_gets_a_new_key_when_the_old_one_is_retired(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House", network: "Network"
) -> None:
    bay, fresh = make_bay("till-1"), make_bay("till-1")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    bay.hand_in()
    bay.do(commands.dispense, stock[1], partial=False)
    (early,) = bay.waiting()
    # Two keys at one name: the newer has to wait for the end of the older.
    assert refused(bay, resigned(bay, early, key=fresh.desk.key), key_id=fresh.desk.key.key_id).code == "STATION_KEY"
    bay.hand_in()
    authority = network.authority.signing_key().key_id
    pharmacy.registry = authority_says(pharmacy.registry, KeyRetirement(bay.desk.key.key_id), key_id=authority)
    bay.desk = replace(bay.desk, registry=lambda: pharmacy.registry)
    with pytest.raises(AuthorizationError) as caught:
        bay.do(commands.dispense, stock[2], partial=False)
    assert caught.value.code == "KEY_RETIRED"
    bay.desk = replace(bay.desk, key=fresh.desk.key)
    bay.do(commands.dispense, stock[2], partial=False)
    assert [taken.source_seq for taken in bay.hand_in()] == [3]


def test_a_till_neither_ships_nor_speaks_as_another_source(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], maker: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    occasion = bay.house.occasion()
    consignee = commands.Consignee(maker.gln, maker.gln)
    bay.database.write_now(
        lambda c: commands.ship(Session(c, bay.desk, stock[:1]), named(stock[:1]), occasion, consignee)
    )
    (data,) = bay.waiting()
    error = refused(bay, data)
    assert (error.code, isinstance(error, MalformedError)) == ("EVENT_NOT_FOR_STATION", True)
    for name in ("main", "Till", "a" * 21, "-x"):
        assert refused(bay, resigned(bay, data, source=name)).code == "STATION_NAME"


def test_station_whose_memory_was_lost_goes_on_behind_its_last_number(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]
) -> None:
    bay = make_bay("till")
    bay.follow()
    bay.database.write_now(lambda c: handover.catch_up(c, source="till", last_seq=7))
    bay.do(commands.dispense, stock[0], partial=False)
    (fate,) = bay.database.read_now(lambda c: handover.fates(c, [item.sha256 for item in handover.next_events(c)]))
    assert (fate.source_seq, fate.answered) == (8, False)
    # While something waits, its numbers stand.
    bay.database.write_now(lambda c: handover.catch_up(c, source="till", last_seq=20))
    bay.do(commands.dispense, stock[1], partial=False)
    assert bay.database.read_now(handover.waiting).count == 2
    assert [
        decode_payload(s.payload_type, s.payload).header.source_seq for s in map(decode_signed_event, bay.waiting())
    ] == [8, 9]


def test_answer_about_another_event_is_not_believed(make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]) -> None:
    bay = make_bay("till")
    bay.follow()
    bay.do(commands.dispense, stock[0], partial=False)
    with pytest.raises(MedtrailError) as caught:
        bay.database.write_now(lambda c: handover.take_answer(c, Taken("till", 1, bytes(32), (), 1)))
    assert caught.value.code == "ANSWER_UNASKED"


# --- goods that nobody advised ---


def shipped(maker: "House", pharmacy: "House", *serials: int) -> tuple[Unit, ...]:
    """Packs on their way to the pharmacy, of which it has not heard yet."""
    units = packs(*serials)
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    return units


def test_goods_that_came_to_a_station_without_data_are_received_when_these_come(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House"
) -> None:
    (unit,) = shipped(maker, pharmacy, 6)
    bay = make_bay("bay")
    bay.follow()
    bay.do(commands.receive, unit)
    assert [taken.conflicts for taken in bay.hand_in()] == [()]
    holding = pharmacy.held(unit)
    assert (holding.state, holding.exception) == (HoldingState.EXCEPTION, "UNADVISED")
    assert open_conflicts(pharmacy, unit) == []
    maker.send_to(pharmacy)
    holding = pharmacy.held(unit)
    assert (holding.state, holding.lot, holding.expiry) == (HoldingState.ON_HAND, LOT, EXPIRY)
    shipment = pharmacy.read(lambda c: inbound_store.find(c, holding.despatch_id))
    assert shipment is not None
    assert shipment.received_count == 1
    pharmacy.confirm_all()
    bay.follow()
    assert bay.held(unit) == pharmacy.held(unit)


def test_goods_advised_while_their_station_was_cut_off_are_received(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House"
) -> None:
    inside = packs(6, 7)
    box = sscc(1)
    maker.commission(inside)
    maker.pack(box, inside)
    maker.ship((box,), pharmacy.gln)
    bay = make_bay("bay")
    bay.follow()
    maker.send_to(pharmacy)
    bay.do(commands.receive, inside[0])
    assert [taken.conflicts for taken in bay.hand_in()] == [()]
    holding = pharmacy.held(inside[0])
    assert (holding.state, holding.parent, holding.lot) == (HoldingState.ON_HAND, None, LOT)
    assert pharmacy.held(inside[1]).state is HoldingState.INBOUND
    said = [event.statement.biz_step for event in pharmacy.events() if isinstance(event.statement, EpcisEvent)]
    assert sorted(filter(None, said)) == ["arriving", "receiving", "unpacking"]
    bay.do(commands.receive, box)
    assert [taken.conflicts for taken in bay.hand_in()] == [()]
    assert pharmacy.held(inside[1]).state is HoldingState.ON_HAND


def test_goods_that_come_back_unannounced_to_a_station_are_put_aside(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], maker: "House", pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    pharmacy.send_back(stock[:1], maker.gln)
    bay.follow()
    bay.do(commands.receive, stock[0])
    assert [taken.conflicts for taken in bay.hand_in()] == [()]
    holding = pharmacy.held(stock[0])
    assert (holding.state, holding.exception, holding.despatch_id) == (HoldingState.EXCEPTION, "UNADVISED", "")


def test_goods_of_which_the_books_know_nothing_are_not_made_saleable_by_a_case(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    bay.follow()
    pharmacy.database.write_now(lambda c: holdings_store.restore(c, stock[0].path, None))
    bay.do(commands.hold, stock[0], reason="wet")
    (taken,) = bay.hand_in()
    assert [item.code for item in taken.conflicts] == ["UNIT_UNKNOWN"]
    assert pharmacy.held(stock[0]).exception == "UNADVISED"
    with pytest.raises(ConflictError) as caught:
        resolve(pharmacy, taken.conflicts[0].case_id, CaseResolution.ACCEPTED)
    assert caught.value.code == "CASE_NEEDS_DATA"


@pytest.mark.parametrize("lost", ["declared", "refused"])
def test_goods_in_a_conflict_take_corrective_data_and_wait_for_a_person_still(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], maker: "House", pharmacy: "House", lost: str
) -> None:
    first = pharmacy.held(stock[0]).despatch_id
    bays = [make_bay(name) for name in ("till-1", "till-2")]
    for bay in bays:
        bay.follow()
        bay.do(hand_out, stock[0], wanted=Wanted(quantity=Decimal(20), uom="EA", pack_size=Decimal(30)))
    conflicts = [item for bay in bays for taken in bay.hand_in() for item in taken.conflicts]
    assert [pharmacy.held(unit).exception for unit in stock[:2]] == ["OFFLINE_CONFLICT", ""]
    (declare if lost == "declared" else refuse)(maker if lost == "declared" else pharmacy, first)
    maker.send_to(pharmacy)
    with pytest.raises(ConflictError) as caught:
        resolve(pharmacy, conflicts[0].case_id, CaseResolution.ACCEPTED)
    assert caught.value.code == "CASE_NEEDS_DATA"
    if lost == "refused":
        declare(maker, first)
    (second,) = maker.ship(stock, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    aside, free = (pharmacy.held(unit) for unit in stock[:2])
    assert (free.state, free.despatch_id) == (HoldingState.ON_HAND, second.event_id)
    assert (aside.state, aside.exception, aside.despatch_id) == (
        HoldingState.EXCEPTION,
        "OFFLINE_CONFLICT",
        second.event_id,
    )
    assert received(pharmacy, second.event_id) == (5, 5)
    assert ExceptionCode.OFFLINE_CONFLICT in open_conflicts(pharmacy, stock[0])
    resolve(pharmacy, conflicts[0].case_id, CaseResolution.ACCEPTED)
    assert pharmacy.held(stock[0]).state is HoldingState.PARTIALLY_DISPENSED
    assert received(pharmacy, second.event_id) == (5, 5)


def resolve(house: "House", case_id: str, how: CaseResolution) -> None:
    occasion = house.occasion()
    house.write(lambda s: case_commands.resolve(s, case_id, how, occasion, reason="counted"))


def test_station_hears_which_conflicts_are_resolved_and_names_the_open_ones_first(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    for unit in stock[:2]:
        bay.do(commands.dispense, unit, partial=False)
    pharmacy.dispense(stock[:2])
    older, newer = bay.hand_in()

    def told() -> list[list[tuple[Unit, bool]]]:
        fates = bay.database.read_now(lambda c: handover.list_conflicts(c, limit=5))
        return [[(item.unit, item.case_id in fate.resolved) for item in fate.conflicts] for fate in fates]

    # Answered, and nothing of the cases heard yet: they may be open.
    both_open = [[(stock[1], False)], [(stock[0], False)]]
    assert told() == both_open
    bay.follow()
    assert told() == both_open
    resolve(pharmacy, newer.conflicts[0].case_id, CaseResolution.ACCEPTED)
    assert told() == both_open
    bay.follow()
    open_first = [[(stock[0], False)], [(stock[1], True)]]
    assert told() == open_first
    bay.follow(reset=True)
    assert told() == open_first
    resolve(pharmacy, older.conflicts[0].case_id, CaseResolution.ACCEPTED)
    bay.follow()
    assert told() == [[(stock[1], True)], [(stock[0], True)]]


# --- what is settled goes ---

KEEP = timedelta(days=30)


def event_rows(bay: Bay) -> dict[str, int]:
    """How many rows each table has that an event of the station is written to."""
    tables = ("station_answer", "known_event", "event_unit", "signed_event", "event_change", "holding_before")

    def count(connection: Connection) -> dict[str, int]:
        return {t: connection.execute(select(func.count()).select_from(table(t))).scalar_one() for t in tables}

    return bay.database.read_now(count)


def pruned(bay: Bay, *, after: timedelta) -> int:
    return bay.database.write_now(lambda c: prune.prune(c, now=NOW + after, keep=KEEP))


def test_what_is_settled_goes_after_its_period_and_nothing_before(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]
) -> None:
    bay = make_bay("till")
    bay.follow()
    for unit in stock[:3]:
        bay.do(commands.dispense, unit, partial=False)
    assert pruned(bay, after=2 * KEEP) == 0
    bay.hand_in(*bay.waiting()[:2])
    # Answered, and not told yet: it is not settled.
    assert pruned(bay, after=2 * KEEP) == 0
    bay.follow()
    assert pruned(bay, after=KEEP) == 0
    before = event_rows(bay)
    # The newest answer stays, and what waits.
    assert [pruned(bay, after=KEEP + timedelta(seconds=1)) for _ in range(2)] == [1, 0]
    fewer = {"station_answer": 1, "known_event": 1, "event_unit": 1, "signed_event": 1, "event_change": 1}
    assert event_rows(bay) == {table: count - fewer.get(table, 0) for table, count in before.items()}
    assert len(bay.waiting()) == 1
    held = [bay.held(unit) for unit in stock]
    bay.hand_in()
    bay.follow()
    assert [bay.held(unit) for unit in stock] == held
    assert bay.database.read_now(handover.newest_answered) == 3


def test_open_conflict_keeps_its_event_until_its_case_is_resolved(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till")
    bay.follow()
    for unit in stock[:3]:
        bay.do(commands.dispense, unit, partial=False)
    pharmacy.dispense(stock[:1])
    taken, *_ = bay.hand_in()
    bay.follow()
    assert pruned(bay, after=2 * KEEP) == 1
    (fate,) = bay.database.read_now(lambda c: handover.list_conflicts(c, limit=5))
    assert fate.source_seq == 1
    resolve(pharmacy, taken.conflicts[0].case_id, CaseResolution.ACCEPTED)
    assert pruned(bay, after=2 * KEEP) == 0
    bay.follow()
    assert pruned(bay, after=2 * KEEP) == 1
    assert bay.database.read_now(lambda c: handover.list_conflicts(c, limit=5)) == []


def test_pruning_goes_by_steps_that_a_crash_takes_back_whole(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]
) -> None:
    bay = make_bay("till")
    bay.follow()
    for unit in stock:
        bay.do(commands.hold, unit, reason="wet")
    bay.hand_in()
    bay.follow()
    before = event_rows(bay)

    def crash(connection: Connection) -> None:
        assert prune.prune(connection, now=NOW + 2 * KEEP, keep=KEEP) == 4
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bay.database.write_now(crash)
    assert event_rows(bay) == before
    assert [pruned(bay, after=2 * KEEP) for _ in range(2)] == [4, 0]


def test_period_of_what_an_earlier_version_settled_begins_now(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...]
) -> None:
    bay = make_bay("till")
    bay.follow()
    for unit in stock[:2]:
        bay.do(commands.dispense, unit, partial=False)
    bay.hand_in()
    bay.follow()
    bay.database.write_now(lambda c: c.exec_driver_sql("UPDATE station_answer SET settle_us = NULL").rowcount)
    assert pruned(bay, after=5 * KEEP) == 0
    assert pruned(bay, after=6 * KEEP) == 0
    assert pruned(bay, after=6 * KEEP + timedelta(seconds=1)) == 1


# --- what is opened stays opened ---


@pytest.mark.parametrize("how", [CaseResolution.ACCEPTED, CaseResolution.WITHDRAWN])
def test_opened_pack_in_a_conflict_is_opened_when_that_is_settled(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], maker: "House", pharmacy: "House", how: CaseResolution
) -> None:
    twenty = Wanted(quantity=Decimal(20), uom="EA", pack_size=Decimal(30))
    first, second = make_bay("till-1"), make_bay("till-2")
    for bay in (first, second):
        bay.follow()
        bay.do(hand_out, stock[0], wanted=twenty)
    first.hand_in()
    (taken,) = second.hand_in()
    assert [item.code for item in taken.conflicts] == ["QUANTITY_ABOVE_REST"]
    held = pharmacy.held(stock[0])
    assert (held.state, held.opened, held.remainder) == (HoldingState.EXCEPTION, True, Decimal(0))
    with pytest.raises(ConflictError) as back:
        pharmacy.send_back(stock[:1], maker.gln)
    assert back.value.code == "UNIT_OPENED"
    resolve(pharmacy, taken.conflicts[0].case_id, how)
    held = pharmacy.held(stock[0])
    assert (held.state, held.exception) == (HoldingState.PARTIALLY_DISPENSED, "")
    with pytest.raises(ConflictError) as shipping:
        pharmacy.ship(stock[:1], maker.gln)
    assert shipping.value.code == "UNIT_OPENED"
    second.follow()
    assert second.held(stock[0]) == held


# --- lots on hold ---


def hold_lot(house: "House", lot: str) -> LotHold:
    return house.database.write_now(
        lambda c: lot_holds.add(c, gtin=GTIN, lot=lot, code=HoldCode.OTHER, reason="complaint", now=NOW)
    )


def test_lot_on_hold_binds_a_station_that_is_alone(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House"
) -> None:
    first, second = shipped(maker, pharmacy, 6, 7)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    hold = hold_lot(pharmacy, LOT)
    bay = make_bay("bay")
    bay.follow()
    bay.do(commands.receive, first)
    held = bay.held(first)
    assert held is not None
    assert held.hold_reason == hold.line
    with pytest.raises(ConflictError) as caught:
        bay.do(commands.dispense, first, partial=False)
    assert caught.value.code == "UNIT_ON_HOLD"
    # The service puts it on hold by the receiving; that the station said so, too, is no conflict.
    assert [taken.conflicts for taken in bay.hand_in()] == [(), ()]
    assert pharmacy.held(first).hold_reason == hold.line
    pharmacy.database.write_now(lambda c: lot_holds.note_released(c, hold.lot_hold_id, now=NOW))
    bay.follow()
    assert bay.database.read_now(lot_holds.all_standing) == {}
    bay.do(commands.receive, second)
    held = bay.held(second)
    assert held is not None
    assert held.hold_reason == ""


def test_feed_of_an_earlier_version_goes_on_with_what_that_did_not_number(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    bay.follow()
    before = bay.database.read_now(books.read_state)

    def forget(connection: Connection) -> None:
        for verb in ("INSERT", "UPDATE", "DELETE"):
            connection.exec_driver_sql(f"DROP TRIGGER book_change_lot_hold_{verb}")

    pharmacy.database.write_now(forget)
    hold = hold_lot(pharmacy, "B7")
    pharmacy.database.write_now(upgrade)
    bay.follow()
    assert bay.database.read_now(lot_holds.all_standing) == {(str(GTIN), "B7"): (hold.line,)}
    assert bay.database.read_now(books.read_state).feed_id == before.feed_id
    bay.follow(reset=True)
    assert len(bay.database.read_now(lot_holds.all_standing)) == 1
    pharmacy.hold(stock[:1])
    bay.follow()
    assert bay.held(stock[0]) == pharmacy.held(stock[0])


def test_second_hold_for_the_same_reason_is_no_conflict(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    bay.follow()
    pharmacy.hold(stock[:1])
    bay.do(commands.hold, *stock[:2], reason="leaking")
    assert [taken.conflicts for taken in bay.hand_in()] == [()]
    assert [pharmacy.held(unit).hold_reason for unit in stock[:2]] == ["leaking", "leaking"]


# --- what verbs do beyond their events ---


def test_pack_that_a_delivery_missed_is_found_by_a_station(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House"
) -> None:
    units = shipped(maker, pharmacy, 6, 7)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    delivery = Dock.open(pharmacy, pharmacy.held(units[0]).despatch_id)
    delivery.scan(units[0])
    delivery.close()
    assert delivery.line(units[1]).posting is Posting.MISSING
    assert open_conflicts(pharmacy, units[1]) == [ExceptionCode.SHORTAGE]
    bay = make_bay("bay")
    bay.follow()
    bay.do(commands.receive, units[1])
    bay.hand_in()
    assert delivery.line(units[1]).posting is Posting.RECEIVED_LATER
    assert open_conflicts(pharmacy, units[1]) == []


def test_first_opening_at_a_station_is_recorded_as_a_supply_once(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    first, second = make_bay("till-1"), make_bay("till-2")
    part = Wanted(partial=True, decommission=True)
    for bay in (first, second):
        bay.follow()
        bay.do(hand_out, stock[0], wanted=part)
        bay.hand_in()
    first.follow()
    first.do(hand_out, stock[0], wanted=part)
    first.hand_in()
    records = pharmacy.read(lambda c: verifications.after(c, 0, limit=10))
    assert [(item.kind, item.question, item.context) for item in records] == [
        (RecordKind.FMD, stock[0].digital_link, "supply")
    ]


def test_pack_opened_at_a_station_under_other_rules_is_not_recorded_as_a_supply(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("till-1")
    bay.follow()
    bay.do(hand_out, stock[0], wanted=Wanted(partial=True))
    bay.do(hand_out, stock[1], wanted=Wanted())
    bay.hand_in()
    assert pharmacy.read(lambda c: verifications.after(c, 0, limit=10)) == []


# --- services that come back as they were before ---


def test_what_a_restored_service_took_in_is_handed_in_again(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House", tmp_path: Path
) -> None:
    bay = make_bay("till")
    bay.follow()
    for unit in stock[:2]:
        bay.do(commands.dispense, unit, partial=False)
    bay.hand_in()
    bay.follow()
    pharmacy.close()
    shutil.copy(pharmacy.path, tmp_path / "backup.db")
    pharmacy.open()
    for unit in stock[2:4]:
        bay.do(commands.dispense, unit, partial=False)
        bay.hand_in()
        if unit is stock[2]:
            bay.follow()
    pharmacy.close()
    shutil.copy(tmp_path / "backup.db", pharmacy.path)
    pharmacy.open()
    bay.do(commands.dispense, stock[4], partial=False)
    assert refused(bay, bay.waiting()[0]).code == "SOURCE_SEQ_GAP"

    known = pharmacy.read(lambda c: last_number(c, "till"))
    assert (known, bay.database.read_now(handover.newest_answered)) == (2, 4)
    bay.database.write_now(lambda c: handover.begin_again(c, last_seq=known))
    bay.follow()
    assert [taken.source_seq for taken in bay.hand_in()] == [3, 4, 5]
    bay.follow()
    assert bay.database.read_now(handover.open_count) == (0, True)
    for unit in stock:
        assert pharmacy.held(unit).state is HoldingState.DISPENSED
        assert bay.held(unit) == pharmacy.held(unit)


def test_own_recall_signed_anew_is_followed(
    make_bay: Callable[[str], Bay], stock: tuple[Unit, ...], pharmacy: "House"
) -> None:
    bay = make_bay("bay")
    header = Header(new_salt(), pharmacy.gln, "main", 1, new_event_id())
    recall = Recall("R1", "wholesale", "broken", "send back", NOW, (RecallScope(GTIN, LOT),), "II")

    def signed(seq: int) -> tuple[Event, bytes, bytes]:
        event = Event(replace(header, source_seq=seq), recall)
        data = encode_signed_event(sign(event.payload_type, encode_payload(event), pharmacy.desk.key))
        return event, data, hashlib.sha256(data).digest()

    event, data, sha256 = signed(1)
    number = pharmacy.database.write_now(
        lambda c: events_store.insert_event(
            c, event, signer=pharmacy.gln, own=True, sha256=sha256, signed_event=data, units=()
        )
    )
    bay.follow()
    _, anew, sha256_anew = signed(2)
    pharmacy.database.write_now(lambda c: events_store.replace_signed(c, number, sha256=sha256_anew, signed_event=anew))
    pharmacy.hold(stock[:1])
    bay.follow()
    assert bay.held(stock[0]) == pharmacy.held(stock[0])
    known = bay.database.read_now(lambda c: [item.sha256 for item in events_store.own_of_type(c, PayloadType.RECALL)])
    assert known == [sha256_anew]
    bay.follow(reset=True)
    assert bay.database.read_now(lambda c: len(list(events_store.own_of_type(c, PayloadType.RECALL)))) == 1


def test_page_says_where_the_feed_ends(stock: tuple[Unit, ...], pharmacy: "House") -> None:
    pharmacy.database.write_now(station_feed.begin_feed)
    newest = pharmacy.read(station_feed.newest_number)
    page = replace(pharmacy.read(lambda c: station_feed.page_after(c, 0)), changes=(), number=1)
    message = page_to_message(page, feed_id="f", previous=0, complete_time=NOW, ledger_time=None)
    assert newest > len(stock)
    assert page_from_message(message).newest == newest
    # Of an earlier version, all that is known is that there is more.
    message.ClearField("newest_number")
    assert page_from_message(message).newest == 2


# --- what it costs ---


def test_conflicting_unpack_looks_at_each_unit_a_few_times(
    make_bay: Callable[[str], Bay], maker: "House", pharmacy: "House", monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = packs(*range(100, 300))
    box = sscc(1)
    maker.commission(inside)
    maker.pack(box, inside)
    maker.ship((box,), pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive((box,))
    bay = make_bay("bay")
    bay.follow()
    occasion = pharmacy.occasion()
    bay.database.write_now(
        lambda c: commands.unpack(
            Session(c, bay.desk, (box, *inside)), Named(box, "parent"), named(inside[:150]), occasion
        )
    )
    other = sscc(2)
    pharmacy.unpack(box, inside[:150])
    pharmacy.pack(other, inside[:150])
    # Each look at a unit passes there.
    looked = 0
    place = Books._place

    def count(self: Books, holding: Holding) -> None:
        nonlocal looked
        looked += 1
        place(self, holding)

    monkeypatch.setattr(Books, "_place", count)
    (taken,) = bay.hand_in()
    assert len(taken.conflicts) == 150
    assert looked < 50 * len(inside)
