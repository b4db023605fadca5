"""The index follows what becomes of events, answers by page, and goes on after a crash where it stood."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, text

from medtrail.epcis.model import ErrorDeclaration
from medtrail.errors import MedtrailError, NotFoundError
from medtrail.event import Capture, PackLevel, Product
from medtrail.gs1 import Gtin
from services.portal import repository
from services.portal.query import sql
from services.portal.query.errors import QueryTooComplexError
from services.portal.repository import EventRepository
from tests.unit.portal_query.conftest import PREFIXES, START, object_event, query

if TYPE_CHECKING:
    from tests.unit.portal_query.conftest import Shelf

ID = "urn:uuid:33333333-3333-4333-8333-333333333333"


def at(second: int, **fields: object) -> object:
    return object_event(event_time=START + timedelta(seconds=second), **fields)


def test_a_refused_event_vanishes_and_comes_back_when_it_is_in_the_log_after_all(shelf: "Shelf") -> None:
    shelf.add(object_event(biz_step="shipping"), object_event(biz_step="packing"))
    shelf.apply(shelf.change(shelf.hashes[0], refusal="ROLE_FORBIDS"))
    assert (shelf.numbers(), shelf.numbers(EQ_bizStep=["shipping"])) == ([2], [])
    assert asyncio.run(shelf.repository.values(["bizStep"], after="", limit=9)) == ["packing"]
    shelf.apply(shelf.change(shelf.hashes[0], refusal="ROLE_FORBIDS", leaf_index=7))
    assert (shelf.numbers(), shelf.numbers(EQ_bizStep=["shipping"])) == ([1, 2], [1])
    page = asyncio.run(shelf.repository.page(query(), size=1))
    assert page.events[0].leaf_index == 7


def test_an_event_refused_before_it_was_followed_is_not_shown(shelf: "Shelf") -> None:
    shelf.apply(shelf.kept(object_event(), refusal="ROLE_FORBIDS"))
    assert shelf.numbers() == []


def test_of_an_erased_event_nothing_is_left_in_the_file(shelf: "Shelf") -> None:
    secret = "https://id.gs1.org/01/00300010123455/21/SECRETSERIAL"
    shelf.add(object_event(epc_list=(secret,)), object_event(biz_step="packing"))
    shelf.apply(shelf.change(shelf.hashes[0], gone=True))
    assert shelf.numbers() == [2]
    asyncio.run(shelf.database.scrub())
    for path in shelf.path.parent.iterdir():
        assert b"SECRETSERIAL" not in path.read_bytes()


def test_what_is_gone_before_it_came_changes_nothing(shelf: "Shelf") -> None:
    shelf.apply(shelf.kept(object_event(), gone=True, signed_event=b""), shelf.change(b"x" * 32, gone=True))
    assert (shelf.numbers(), shelf.repository.cursor.number) == ([], 2)


def test_what_is_no_epcis_event_or_cannot_be_read_is_passed_over(shelf: "Shelf") -> None:
    product = shelf.kept(Product(Gtin("00300010123455"), PackLevel.PACK, "Epcistra"))
    odd = shelf.change(b"o" * 32, signed_event=b"\xff\xff")
    shelf.apply(product, odd, shelf.kept(object_event()))
    assert (shelf.numbers(), shelf.repository.cursor.number) == ([3], 3)


def test_changes_taken_in_before_change_nothing(shelf: "Shelf") -> None:
    change = shelf.kept(object_event())
    shelf.apply(change)
    shelf.apply(change)
    shelf.apply()
    assert shelf.numbers() == [1]


def test_goes_on_after_a_restart_where_it_stood(shelf: "Shelf") -> None:
    shelf.add(object_event())
    before = shelf.repository.cursor
    shelf.close()
    shelf.open()
    assert (shelf.repository.cursor, shelf.numbers()) == (before, [1])


def test_begun_anew_it_knows_no_events_and_says_so_by_its_generation(shelf: "Shelf") -> None:
    shelf.add(object_event())
    asyncio.run(shelf.repository.begin_anew())
    assert shelf.numbers() == []
    assert (shelf.repository.cursor.number, shelf.repository.cursor.generation) == (0, 1)
    shelf.number = 0
    shelf.add(object_event())
    assert shelf.numbers() == [1]


@pytest.mark.parametrize(
    "change", ["UPDATE index_state SET format = 0", "ALTER TABLE index_state DROP COLUMN format"], ids=["older", "none"]
)
def test_an_index_of_another_format_is_made_anew(shelf: "Shelf", change: str) -> None:
    shelf.add(object_event())
    shelf.database.write_now(lambda connection: connection.execute(text(change)))
    shelf.close()
    shelf.open()
    assert (shelf.numbers(), shelf.repository.cursor.number, shelf.repository.cursor.generation) == ([], 0, 1)
    shelf.number = 0
    shelf.add(object_event())
    assert shelf.numbers() == [1]


def test_pages_do_not_shift_while_events_come_in(shelf: "Shelf") -> None:
    shelf.add(*(at(second) for second in range(5)))  # type: ignore[arg-type]
    for parameters in ({}, {"orderBy": "eventTime", "orderDirection": "DESC"}, {"orderBy": "ext:none"}):
        asked = query(PREFIXES, **parameters)
        before = shelf.numbers(**parameters)

        async def read() -> list[int]:
            found: list[int] = []
            position = None
            while True:
                page = await shelf.repository.page(asked, size=2, position=position)  # noqa: B023  # awaited here
                found += [item.number for item in page.events]
                position = page.following
                if position is None:
                    return found
                await shelf.repository.apply([shelf.kept(at(100 + shelf.number))])  # type: ignore[arg-type]

        assert asyncio.run(read()) == before


def test_a_page_ends_early_where_events_are_large(shelf: "Shelf", monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(*(at(second) for second in range(3)))  # type: ignore[arg-type]
    monkeypatch.setattr(repository, "MAX_PAGE_BYTES", 1)
    page = asyncio.run(shelf.repository.page(query(), size=3))
    assert (len(page.events), page.following is None) == (1, False)
    assert shelf.all_pages(query(), size=3) == [1, 2, 3]


def test_the_limit_counts_over_all_pages(shelf: "Shelf") -> None:
    shelf.add(*(at(second) for second in range(6)))  # type: ignore[arg-type]
    assert shelf.all_pages(query(eventCountLimit=5), size=2) == [1, 2, 3, 4, 5]
    assert shelf.all_pages(query(eventCountLimit=4), size=2) == [1, 2, 3, 4]


def test_an_event_is_found_by_its_id_the_declaration_first(shelf: "Shelf") -> None:
    event = object_event(event_id=ID)
    other = replace(event, biz_step="packing")
    shelf.apply(shelf.kept(event, capture=Capture.SECOND_HAND), shelf.kept(other))
    # Other content under the same id: both are there.
    assert shelf.numbers(EQ_eventID=[ID]) == [1, 2]
    found = asyncio.run(shelf.repository.get(ID))
    assert (found.number, found.second_hand, found.event.event_id) == (2, False, ID)
    assert found.event.record_time == START + timedelta(seconds=2)
    shelf.add(replace(event, error_declaration=ErrorDeclaration(START)))
    assert asyncio.run(shelf.repository.get(ID)).number == 3
    with pytest.raises(NotFoundError) as caught:
        asyncio.run(shelf.repository.get("urn:x:none"))
    assert caught.value.code == "EVENT_UNKNOWN"


def test_of_what_several_say_the_first_hand_word_is_shown_once(shelf: "Shelf") -> None:
    event = object_event(epc_list=("urn:epc:id:sgtin:0300010.012345.1",), event_id=ID)
    spelled = replace(event, epc_list=("https://id.gs1.org/01/00300010123455/21/1",))
    shelf.apply(shelf.kept(event, capture=Capture.SECOND_HAND))
    assert shelf.numbers(EQ_action=["OBSERVE"]) == [1]
    shelf.apply(shelf.kept(spelled), shelf.kept(event, capture=Capture.SECOND_HAND))
    assert shelf.numbers(EQ_action=["OBSERVE"]) == [2]
    shelf.apply(shelf.change(shelf.hashes[1], refusal="ROLE_FORBIDS"))
    assert shelf.numbers(EQ_action=["OBSERVE"]) == [1]
    shelf.apply(shelf.change(shelf.hashes[0], gone=True))
    assert shelf.numbers(EQ_action=["OBSERVE"]) == [3]
    shelf.apply(shelf.change(shelf.hashes[1], leaf_index=5))
    assert shelf.numbers() == [2]


def test_distinct_values_come_sorted_by_page(shelf: "Shelf") -> None:
    links = [f"https://id.gs1.org/01/00300010123455/21/{number}" for number in (3, 1, 2)]
    shelf.add(*(object_event(epc_list=(link, links[0])) for link in links), object_event(child_epcs=("urn:x:z",)))
    first = asyncio.run(shelf.repository.values(["epcList", "childEPCs"], after="", limit=2))
    rest = asyncio.run(shelf.repository.values(["epcList", "childEPCs"], after=first[-1], limit=9))
    assert [*first, *rest] == [*(f"/01/00300010123455/21/{number}" for number in (1, 2, 3)), "urn:x:z"]


def test_what_was_captured_is_in_answers_once_its_change_is_waited_for(shelf: "Shelf") -> None:
    async def main() -> None:
        waiting = asyncio.create_task(shelf.repository.wait_for(1, timeout_s=60))
        await asyncio.sleep(0)
        await shelf.repository.apply([shelf.kept(object_event())])
        assert await waiting
        assert await shelf.repository.wait_for(1, timeout_s=0)
        assert not await shelf.repository.wait_for(2, timeout_s=0)

    asyncio.run(main())


def test_events_since_a_moment_are_told_by_number(shelf: "Shelf") -> None:
    shelf.add(*(at(second) for second in range(3)))  # type: ignore[arg-type]

    async def main(events: EventRepository) -> None:
        assert await events.first_since(START) == 0
        assert await events.first_since(START + timedelta(seconds=2)) == 1
        assert await events.first_since(START + timedelta(days=1)) == await events.newest() == 3
        page = await events.after(query(), 1, newest=3, size=1)
        assert [item.number for item in page.events] == [2]

    asyncio.run(main(shelf.repository))


def test_a_question_that_takes_too_long_is_given_up(shelf: "Shelf", monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(*(at(second, biz_step="shipping") for second in range(200)))  # type: ignore[arg-type]
    monkeypatch.setattr(sql, "_STEPS", 1)
    with pytest.raises(QueryTooComplexError, match="ask for less"):
        shelf.database.read_now(_in_no_time)
    # The connection serves the next one as before.
    assert len(shelf.numbers(EQ_bizStep=["shipping"])) == 200


def _in_no_time(connection: Connection) -> None:
    with sql.limited(connection, longest_s=0):
        sql.answer(connection, query(EQ_bizStep=["shipping"]), position=None, newest=1000, limit=1000)


def test_other_errors_of_the_database_are_told_as_such(shelf: "Shelf") -> None:
    def wrong(connection: Connection) -> None:
        with sql.limited(connection):
            connection.execute(text("SELECT * FROM nothing"))

    with pytest.raises(MedtrailError) as caught:
        shelf.database.read_now(wrong)
    assert caught.value.code == "STORAGE_STATEMENT"
