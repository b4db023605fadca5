"""Projector and queries on real SQLite files."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from ledger.answers import belief_to_message, group_to_message, level_to_message, quantity_to_message
from ledger.projections import projector as projector_module
from ledger.projections import store
from ledger.projections.judging import Scan
from ledger.projections.projector import Projector, open_projection
from ledger.projections.states import CustodyState, states_of
from ledger.projections.store import ChainedEvent, EventFilter
from ledger.queries import Queries
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.epcis.model import Action, Extension, QuantityElement
from medtrail.errors import ConflictError, NotFoundError, UnavailableError
from medtrail.event import PackLevel, PayloadType, Product, Recall, RecallScope
from medtrail.gs1 import Gtin, Lgtin
from medtrail.runtime.database import Database
from tests.unit.projections.story import (
    CASE,
    CASE_GTIN,
    GTIN,
    LGTIN,
    LOT,
    MAKER,
    OURS,
    PALLET,
    PHARMACY,
    START,
    WHOLESALER,
    Story,
    pack,
    path,
    quantity,
)

ONE, TWO = pack("1"), pack("2")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
CASE_UNIT = f"https://id.gs1.org/01/{CASE_GTIN}/21/110"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_projection(tmp_path / "projection.db")
    yield made
    made.close()


Take = Callable[[Story], Coroutine[Any, Any, int]]


def _projector(database: Database, log: Sequence[bytes]) -> Projector:
    async def read(start: int, stop: int) -> list[ChainedEvent]:
        return [ChainedEvent(index, log[index]) for index in range(start, stop)]

    return Projector(database, read)


async def _take(database: Database, story: Story) -> int:
    log = story.chained()
    return await _projector(database, log).catch_up(len(log))


def _case_story() -> Story:
    """Tell of two packs in a case that is a trade item, shipped on a pallet to the wholesaler, who receives it."""
    story = Story()
    story.sign(MAKER, Product(Gtin(GTIN), PackLevel.PACK, "Epcistra"))
    story.sign(MAKER, Product(Gtin(CASE_GTIN), PackLevel.CASE, "Epcistra"))
    story.commission(ONE, TWO)
    story.commission(CASE_UNIT)
    story.put(CASE_UNIT, ONE, TWO)
    story.put(PALLET, CASE_UNIT)
    story.ship(PALLET)
    story.receive(PALLET)
    return story


def test_trace_of_a_lot_counts_each_unit_of_the_exact_gtin_once(database: Database) -> None:
    async def run() -> None:
        await _take(database, _case_story())
        queries = Queries(database)
        packs = await queries.trace_lot(Lgtin(Gtin(GTIN), LOT))
        cases = await queries.trace_lot(Lgtin(Gtin(CASE_GTIN), LOT))
        assert (packs.commissioned_count, packs.level) == (2, PackLevel.PACK)
        assert (cases.commissioned_count, cases.level) == (1, PackLevel.CASE)
        (group,) = packs.groups
        assert (group.unit_class, group.holder, group.unit_count) == ("on_hand", WHOLESALER, 2)
        assert [belief.unit for belief in packs.units(limit=1)] == [path(ONE)]
        assert [belief.unit for belief in packs.units(after=path(ONE), limit=9)] == [path(TWO)]
        with pytest.raises(NotFoundError) as caught:
            await queries.trace_lot(Lgtin(Gtin(GTIN), LOT.lower()))
        assert caught.value.code == "LOT_UNKNOWN"
        assert f"{LOT} (case differs)" in caught.value.message
        with pytest.raises(NotFoundError) as caught:
            await queries.trace_lot(Lgtin(Gtin(GTIN), "UNLIKE"))
        assert "alike" not in caught.value.message

    asyncio.run(run())


def test_trace_of_a_lot_goes_back_in_time_both_ways(database: Database) -> None:
    async def run() -> None:
        story = _case_story()
        size = len(story.chained())
        await _take(database, story)
        queries = Queries(database)
        lot = Lgtin(Gtin(GTIN), LOT)
        true_then = await queries.trace_lot(lot, true_time=START + timedelta(minutes=5))
        known_then = await queries.trace_lot(lot, tree_size=size - 1)
        assert [group.unit_class for group in true_then.groups] == ["in_transit"]
        assert [group.unit_class for group in known_then.groups] == ["in_transit"]
        assert known_then.tree_size == size - 1
        with pytest.raises(NotFoundError, match="complete up to") as refused:
            await queries.trace_lot(lot, tree_size=size + 1)
        assert refused.value.code == "TREE_SIZE_UNKNOWN"

    asyncio.run(run())


def test_trace_of_a_pack_holds_its_containers_events(database: Database) -> None:
    async def run() -> None:
        await _take(database, _case_story())
        queries = Queries(database)
        trace = await queries.trace_unit(path(ONE))
        assert [step.via for step in trace.steps] == [
            path(ONE),
            path(ONE),
            path(CASE_UNIT),
            path(PALLET),
            path(PALLET),
        ]
        assert trace.level is PackLevel.PACK
        with pytest.raises(NotFoundError) as refused:
            await queries.trace_unit(path(pack("404")))
        assert refused.value.code == "UNIT_UNKNOWN"

    asyncio.run(run())


@pytest.mark.parametrize("scope", [RecallScope(Gtin(GTIN), LOT), RecallScope(Gtin(CASE_GTIN), "", ("110",))])
@pytest.mark.parametrize("unit", [ONE, CASE_UNIT, PALLET])
def test_recall_reaches_up_and_down_the_containers(database: Database, scope: RecallScope, unit: str) -> None:
    async def run() -> None:
        story = _case_story()
        recall = story.sign(MAKER, Recall("R-1", "retail", "why", "what", START, (scope,)))
        await _take(database, story)
        queries = Queries(database)
        answer = await queries.verify_pack(Scan(path(unit), NOW))
        assert answer.verdict.recall_ids == (recall.header.event_id,)
        lot = await queries.trace_lot(Lgtin(Gtin(GTIN), LOT))
        assert lot.recall_ids == (recall.header.event_id,)

    asyncio.run(run())


def test_verdict_on_a_pack_that_nobody_commissioned_has_no_state(database: Database) -> None:
    async def run() -> None:
        story = Story()
        story.receive(ONE)
        await _take(database, story)
        answer = await Queries(database).verify_pack(Scan(path(ONE), NOW))
        assert (answer.verdict.code, answer.verdict.provisional, answer.belief) == ("unknown", True, None)
        assert (await Queries(database).verify_pack(Scan(path(PALLET), NOW))).verdict.code == "unknown"

    asyncio.run(run())


def test_declaration_that_names_other_units_is_found_by_event_id(database: Database) -> None:
    async def run() -> None:
        story = _case_story()
        story.declare(story.told[7][0], epc_list=(CASE,))
        await _take(database, story)
        trace = await Queries(database).trace_unit(path(ONE))
        assert trace.belief is not None
        assert trace.belief.unit_class == "in_transit"

    asyncio.run(run())


def test_quantities_are_answered_beside_units(database: Database) -> None:
    async def run() -> None:
        story = _case_story()
        story.receive(quantity_list=(quantity("7"),))
        await _take(database, story)
        trace = await Queries(database).trace_lot(Lgtin(Gtin(GTIN), LOT))
        (held,) = trace.quantities
        message = quantity_to_message(held)
        assert (message.quantity, message.holder) == ("7", WHOLESALER)
        assert message.unit_class == ledger_pb2.UNIT_CLASS_ON_HAND
        assert path(LGTIN).endswith(LOT)

    asyncio.run(run())


def test_answers_become_messages(database: Database) -> None:
    async def run() -> None:
        story = _case_story()
        story.ship(PALLET, actor=PHARMACY, to=MAKER)
        await _take(database, story)
        trace = await Queries(database).trace_lot(Lgtin(Gtin(GTIN), LOT))
        group = group_to_message(trace.groups[0])
        assert (group.unit_class, group.unit_count) == (ledger_pb2.UNIT_CLASS_IN_TRANSIT, 2)
        state = belief_to_message(trace.units(limit=1)[0], trace.level)
        assert (state.epc, state.parent, state.expiry) == (ONE, CASE_UNIT, "2027-03-27")
        assert [(alert.code, alert.provisional) for alert in state.alerts] == [("SHIPPED_NOT_HELD", True)]
        assert level_to_message(PackLevel.UNKNOWN) == payload_pb2.PACK_LEVEL_UNSPECIFIED

    asyncio.run(run())


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (EventFilter(), 13),
        (EventFilter(payload_types=(PayloadType.PRODUCT,)), 2),
        (EventFilter(unit=path(ONE)), 2),
        (EventFilter(unit=path(PALLET)), 3),
        (EventFilter(actor=WHOLESALER), 1),
        (EventFilter(biz_step="packing"), 2),
        (EventFilter(unit=path(PALLET), actor=MAKER, biz_step="shipping"), 1),
    ],
)
def test_list_of_events_narrows_by_unit_actor_and_step(database: Database, wanted: EventFilter, count: int) -> None:
    async def run() -> None:
        await _take(database, _case_story())
        queries = Queries(database)
        size, leaves = await queries.list_events(wanted, limit=100)
        assert (len(leaves), list(leaves)) == (count, sorted(leaves))
        assert size == await queries.size() == 13
        _, rest = await queries.list_events(wanted, start=leaves[0] + 1, limit=100)
        assert list(rest) == list(leaves)[1:]

    asyncio.run(run())


def test_projector_follows_what_is_published_and_not_further(database: Database) -> None:
    async def run() -> None:
        log = _case_story().chained()
        projector = _projector(database, log)
        following = asyncio.create_task(projector.run())
        queries = Queries(database)
        for size in (9, len(log)):
            projector.published(size)
            await projector.wait_for(size)
            assert await queries.size() == size
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(run())


def test_batch_taken_in_twice_counts_once(database: Database) -> None:
    async def run() -> None:
        story = _case_story()
        assert await _take(database, story) == 13
        assert await _take(database, story) == 0
        rows = store.rows_of([ChainedEvent(0, story.chained()[0])])
        assert await database.write(lambda connection: store.add_rows(connection, rows, first=0, after=1)) is False

    asyncio.run(run())


def test_projector_outlasts_a_database_that_is_away(database: Database) -> None:
    log = _case_story().chained()
    asked: list[int] = []

    async def read(start: int, stop: int) -> list[ChainedEvent]:
        asked.append(start)
        if len(asked) == 1:
            raise UnavailableError("the server went away", code="STORAGE_UNREACHABLE")
        return [ChainedEvent(index, log[index]) for index in range(start, stop)]

    async def run() -> None:
        projector = Projector(database, read)
        running = asyncio.create_task(projector.run())
        projector.published(len(log))
        async with asyncio.timeout(60):
            await projector.wait_for(len(log))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    assert database.read_now(store.next_index) == len(log)


@pytest.mark.parametrize("epc", [LGTIN, "urn:x:bulk", ONE])
def test_what_is_named_with_a_quantity_and_without_is_taken_in_as_both(database: Database, epc: str) -> None:
    story = Story()
    story.tell(
        MAKER,
        action=Action.OBSERVE,
        biz_step="storing",
        epc_list=(epc,),
        quantity_list=(QuantityElement(epc), QuantityElement(epc, Decimal(2), "KGM")),
    )
    assert asyncio.run(_take(database, story)) == len(story.chained())
    leaf = len(story.chained()) - 1
    assert database.read_now(lambda connection: store.named_units(connection, leaf)) == [path(epc)]


def test_log_that_lacks_a_published_entry_stops_the_projector(database: Database) -> None:
    async def run() -> None:
        log = _case_story().chained()

        async def read(start: int, stop: int) -> list[ChainedEvent]:
            return [ChainedEvent(index, log[index]) for index in range(start, stop) if index != 2][:part]

        for part, size in ((100, 0), (2, 2)):  # noqa: B007 - what is read asks for it
            with pytest.raises(UnavailableError) as refused:
                await Projector(database, read).catch_up(len(log))
            assert refused.value.code == "LOG_INCOMPLETE"
            assert await Queries(database).size() == size

    asyncio.run(run())


def test_large_batches_are_taken_in_by_several_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        monkeypatch.setattr(projector_module, "BATCH_BYTES", 1000)
        assert await _take(database, _case_story()) == 13
        trace = await Queries(database).trace_lot(Lgtin(Gtin(GTIN), LOT))
        assert trace.commissioned_count == 2

    asyncio.run(run())


def test_pages_of_one_lot_are_cut_from_one_answer(database: Database) -> None:
    async def run() -> None:
        await _take(database, _case_story())
        queries = Queries(database)
        lot = Lgtin(Gtin(GTIN), LOT)
        assert await queries.trace_lot(lot) is await queries.trace_lot(lot)
        for minute in range(6):
            await queries.trace_lot(lot, true_time=START + timedelta(minutes=minute))

    asyncio.run(run())


def test_rebuilt_projection_answers_the_same(database: Database) -> None:
    async def run() -> None:
        log = _case_story().chained()
        projector = _projector(database, log)
        await projector.catch_up(len(log))
        before = await Queries(database).trace_unit(path(ONE))
        assert await projector.rebuild(len(log)) == len(log)
        assert await Queries(database).trace_unit(path(ONE)) == before
        assert await database.read(store.count_events) == len(log)

    asyncio.run(run())


def test_tables_of_another_version_start_empty(tmp_path: Path) -> None:
    async def run() -> None:
        database = open_projection(tmp_path / "projection.db")
        await _take(database, _case_story())
        await database.write(lambda connection: _forge_version(connection, 0))
        database.close()
        database = open_projection(tmp_path / "projection.db")
        assert await Queries(database).size() == 0
        database.close()

    asyncio.run(run())


def _forge_version(connection: Connection, version: int) -> None:
    connection.execute(text("UPDATE projection_state SET schema_version = :version"), {"version": version})


def test_damaged_file_starts_anew(tmp_path: Path) -> None:
    async def run() -> None:
        file = tmp_path / "projection.db"
        file.write_bytes(b"no database at all, and long enough to be one" * 100)
        database = open_projection(file)
        assert await _take(database, _case_story()) == 13
        database.close()

    asyncio.run(run())


def test_file_that_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "projection.db").mkdir()
    with pytest.raises(UnavailableError) as refused:
        open_projection(tmp_path / "projection.db")
    assert refused.value.code == "STORAGE_CANTOPEN"


def test_empty_log_has_no_answers(database: Database) -> None:
    async def run() -> None:
        with pytest.raises(ConflictError) as refused:
            await Queries(database).trace_lot(Lgtin(Gtin(GTIN), LOT))
        assert refused.value.code == "LOG_EMPTY"

    asyncio.run(run())


# --- custody states, recalls and limits ---


def _at_the_pharmacy() -> Story:
    """Three packs of the lot, at the pharmacy."""
    story = Story()
    story.sign(MAKER, Product(Gtin(GTIN), PackLevel.PACK, "Epcistra"))
    story.commission(ONE, TWO, pack("3"))
    story.ship(ONE, TWO, pack("3"), to=PHARMACY)
    story.receive(ONE, TWO, pack("3"), actor=PHARMACY)
    return story


def test_recall_is_in_force_in_every_trace_until_the_day_on_which_its_end_is_dated(database: Database) -> None:
    async def run() -> None:
        story = _at_the_pharmacy()
        recall = story.recall(at=60)
        story.recall(at=3 * 24 * 60, ends=recall)
        await _take(database, story)
        today, last = START + timedelta(days=1), START + timedelta(days=3)
        queries = Queries(database, clock=lambda: today)
        expected = (recall.header.event_id,)

        async def told() -> tuple[tuple[str, ...], ...]:
            unit, lot = await queries.trace_unit(path(ONE)), await queries.trace_lot(Lgtin(Gtin(GTIN), LOT))
            assert unit.belief is not None
            return unit.belief.recall_ids, lot.recall_ids, lot.units(limit=1)[0].recall_ids

        assert await told() == (expected,) * 3
        today = last
        assert await told() == ((),) * 3

    asyncio.run(run())


def test_trace_of_a_lot_counts_custody_states_beside_the_classes(database: Database) -> None:
    async def run() -> None:
        story = _at_the_pharmacy()
        story.hold(TWO, reason="DAMAGED: wet")
        story.end(pack("3"), actor=PHARMACY, extensions=(Extension(OURS, "reason", "exported"),))
        recall = story.recall(at=60, scopes=(RecallScope(Gtin(GTIN), "", ("1",)),))
        story.recall(at=60, scopes=(RecallScope(Gtin(GTIN), LOT),), drill=True)
        await _take(database, story)
        trace = await Queries(database).trace_lot(Lgtin(Gtin(GTIN), LOT))
        states = {group.unit_class.value: dict(group.states) for group in trace.groups}
        assert states == {
            "on_hand": {CustodyState.HELD: 2, CustodyState.ON_HOLD: 1, CustodyState.RECALLED: 1},
            "destroyed_or_decommissioned": {CustodyState.EXPORTED: 1},
        }
        one, two, three = trace.units(limit=3)
        assert (one.recall_ids, two.recall_ids) == ((recall.header.event_id,), ())
        messages = [belief_to_message(belief, trace.level) for belief in (one, two, three)]
        assert [message.ending for message in messages] == [0, 0, ledger_pb2.ENDING_EXPORTED]
        assert (messages[1].hold_reason, messages[1].HasField("hold_index")) == ("DAMAGED: wet", True)
        assert not messages[0].HasField("hold_index")
        assert list(messages[0].custody_states) == [
            ledger_pb2.CUSTODY_STATE_HELD,
            ledger_pb2.CUSTODY_STATE_RECALLED,
        ]
        assert sum(item.unit_count for item in group_to_message(trace.groups[-1]).custody_states) > 0

    asyncio.run(run())


@pytest.mark.parametrize("unit", [ONE, CASE_UNIT, PALLET])
def test_trace_of_a_unit_names_the_recalls_of_what_holds_it_and_of_what_it_holds(database: Database, unit: str) -> None:
    async def run() -> None:
        story = _case_story()
        recall = story.recall(at=60, scopes=(RecallScope(Gtin(GTIN), LOT),))
        await _take(database, story)
        queries = Queries(database)
        trace = await queries.trace_unit(path(unit))
        assert trace.belief is not None
        assert trace.belief.recall_ids == (recall.header.event_id,)
        assert CustodyState.RECALLED in states_of(trace.belief)
        before = await queries.trace_unit(path(unit), true_time=START + timedelta(minutes=59))
        assert before.belief is not None
        assert before.belief.recall_ids == ()

    asyncio.run(run())


def test_excursion_is_judged_by_the_limits_that_are_known_at_the_size_asked_for(database: Database) -> None:
    async def run() -> None:
        story = _at_the_pharmacy()
        story.put(CASE, ONE, actor=PHARMACY)
        story.sense(CASE, actor=PHARMACY, degrees="12")
        size = len(story.chained())
        story.limit("8")
        await _take(database, story)
        queries = Queries(database)
        scan = Scan(path(ONE), NOW, caller=PHARMACY)
        answer = await queries.verify_pack(scan)
        assert (answer.verdict.code, answer.verdict.reason) == ("held", "TEMPERATURE_EXCURSION")
        assert answer.verdict.alerts == ("TEMPERATURE_EXCURSION",)
        then = await queries.verify_pack(scan, tree_size=size)
        assert (then.verdict.code, then.verdict.alerts) == ("genuine", ())
        trace = await queries.trace_unit(path(ONE))
        assert trace.belief is not None
        assert [alert.code for alert in trace.belief.alerts] == ["TEMPERATURE_EXCURSION"]

    asyncio.run(run())


def test_remainder_of_an_opened_pack_is_answered(database: Database) -> None:
    async def run() -> None:
        story = _at_the_pharmacy()
        story.open(ONE, taken="20", left="10")
        story.open(ONE, taken="2.5")
        await _take(database, story)
        trace = await Queries(database).trace_unit(path(ONE))
        assert trace.belief is not None
        message = belief_to_message(trace.belief, trace.level)
        assert (message.unit_class, message.remainder) == (ledger_pb2.UNIT_CLASS_OPENED, "7.5")
        assert ledger_pb2.CUSTODY_STATE_PARTIALLY_DISPENSED in message.custody_states

    asyncio.run(run())


def test_sale_under_a_recall_and_forbidden_undoing_are_found_through_the_store(database: Database) -> None:
    async def run() -> None:
        story = _at_the_pharmacy()
        story.recall(at=3.5)
        done = story.dispense(ONE, at=5)
        story.declare(done, after=timedelta(days=1))
        await _take(database, story)
        answer = await Queries(database).verify_pack(Scan(path(ONE), NOW, caller=PHARMACY))
        assert answer.verdict.alerts == ("SOLD_UNDER_RECALL", "UNDO_FORBIDDEN")
        assert answer.verdict.further_codes[0] == "already_dispensed"

    asyncio.run(run())
