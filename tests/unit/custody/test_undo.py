"""Undoing what was done to one pack: a declared error, and a corrective event for the others."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from medtrail.epcis.hash import event_hash
from medtrail.epcis.model import EpcisEvent, ErrorDeclaration
from medtrail.errors import ConflictError, NotFoundError
from medtrail.event import Event
from services.custody import commands, corrections, events, holdings_store, undoing
from services.custody.holding import Ending, HoldingState
from services.custody.steps import StepKind, step_of
from services.custody.units import Named
from tests.unit.custody.conftest import House, named, packs, sscc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.custody.desk import Accepted
    from services.custody.units import Unit


def stocked(maker: House, pharmacy: House, units: "Sequence[Unit]") -> None:
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive(units)


def undo(house: House, unit: "Unit", reason: str = "not fetched") -> "list[Accepted]":
    return house.write(lambda s: corrections.undo(s, Named(unit, "scan"), reason=reason), (unit,))


def declare(house: House, event: Event, unit: "Unit") -> None:
    statement = event.statement
    assert isinstance(statement, EpcisEvent)
    error = ErrorDeclaration(house.clock())
    declared = replace(statement, event_id=event.header.event_id, error_declaration=error)
    house.write(lambda s: undoing.declare(s, declared, error, field="event"), (unit,))


def test_undone_pack_is_as_before_and_the_event_is_declared_an_error(maker: House, pharmacy: House) -> None:
    units = packs(1)
    stocked(maker, pharmacy, units)
    before = pharmacy.held(units[0])
    done = pharmacy.dispense(units)
    made = undo(pharmacy, units[0])
    assert pharmacy.held(units[0]) == before
    assert [item.event_id for item in made] == [done[0].event_id]
    declaration = pharmacy.events()[-1].statement
    assert isinstance(declaration, EpcisEvent)
    assert declaration.error_declaration is not None
    assert declaration.error_declaration.reason == "did_not_occur"
    assert declaration.error_declaration.corrective_event_ids == ()
    assert declaration.error_declaration.extensions[0].value == "not fetched"


def test_others_of_the_same_event_stay_dispensed_by_a_corrective_event_signed_first(
    maker: House, pharmacy: House
) -> None:
    units = packs(1, 2, 3)
    stocked(maker, pharmacy, units)
    done = pharmacy.dispense(units)
    corrective, declared = undo(pharmacy, units[1])
    assert declared.event_id == done[0].event_id
    assert corrective.source_seq < declared.source_seq
    assert [pharmacy.held(unit).state for unit in units] == [
        HoldingState.DISPENSED,
        HoldingState.ON_HAND,
        HoldingState.DISPENSED,
    ]
    again, declaration = (item.statement for item in pharmacy.events()[-2:])
    first = pharmacy.events()[-3].statement
    assert isinstance(again, EpcisEvent)
    assert isinstance(first, EpcisEvent)
    assert isinstance(declaration, EpcisEvent)
    assert again.event_time == first.event_time
    assert again.epc_list == (units[0].digital_link, units[2].digital_link)
    assert event_hash(again) == corrective.event_id
    assert declaration.error_declaration is not None
    assert declaration.error_declaration.reason == "incorrect_data"
    assert declaration.error_declaration.corrective_event_ids == (corrective.event_id,)


def test_packs_of_one_event_are_undone_one_after_another(maker: House, pharmacy: House) -> None:
    units = packs(1, 2, 3)
    stocked(maker, pharmacy, units)
    before = [pharmacy.held(unit) for unit in units]
    pharmacy.dispense(units)
    for unit in units:
        undo(pharmacy, unit)
    assert [pharmacy.held(unit) for unit in units] == before


def test_what_later_events_did_to_others_stands(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    stocked(maker, pharmacy, units)
    pharmacy.dispense(units)
    undo(pharmacy, units[0])
    again = pharmacy.dispense(units[:1])
    undo(pharmacy, units[1])
    assert pharmacy.held(units[0]).state is HoldingState.DISPENSED
    assert pharmacy.held(units[0]).event_id == again[0].event_id
    assert pharmacy.held(units[1]).state is HoldingState.ON_HAND


def test_pack_is_supplied_undone_and_supplied_again(maker: House, pharmacy: House) -> None:
    units = packs(1)
    stocked(maker, pharmacy, units)
    for _ in range(3):
        pharmacy.dispense(units)
        undo(pharmacy, units[0])
    assert pharmacy.held(units[0]).state is HoldingState.ON_HAND


def test_refuses_what_no_event_of_ours_did(maker: House, pharmacy: House) -> None:
    units = packs(1, 2)
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    with pytest.raises(NotFoundError) as caught:
        undo(pharmacy, units[0])
    assert caught.value.code == "DEED_UNKNOWN"
    with pytest.raises(NotFoundError):
        undo(pharmacy, packs(9)[0])


def test_refuses_a_pack_that_ended_with_its_container(maker: House) -> None:
    units = packs(1, 2)
    maker.commission(units)
    maker.pack(sscc(1), units)
    box = named([sscc(1)])
    maker.write(lambda s: commands.end(s, box, maker.occasion(), Ending.DESTROYED), (sscc(1),))
    with pytest.raises(ConflictError) as caught:
        undo(maker, units[0])
    assert caught.value.code == "UNIT_IN_CONTAINER"
    undo(maker, sscc(1))
    assert maker.held(units[0]).state is HoldingState.ON_HAND


def test_what_the_ledger_confirmed_meanwhile_is_confirmed_when_it_comes_back(maker: House, pharmacy: House) -> None:
    units = packs(1)
    maker.commission(units)
    maker.ship(units, pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.receive(units)
    occasion = pharmacy.occasion()
    pharmacy.write(lambda s: commands.end(s, named(units), occasion, Ending.DAMAGED), units)
    assert pharmacy.held(units[0]).provisional
    pharmacy.confirm_all()
    undo(pharmacy, units[0])
    assert not pharmacy.held(units[0]).provisional
    pharmacy.dispense(units)


def test_what_rests_on_an_event_that_was_declared_an_error_meanwhile_is_put_aside(maker: House) -> None:
    (pack,) = packs(1)
    maker.commission([pack])
    maker.hold([pack])
    first = maker.events()[-1]
    maker.write(lambda s: commands.hold(s, named([pack]), maker.occasion(), reason="more"), (pack,))
    second = maker.events()[-1]
    for event in (first, second):
        declare(maker, event, pack)
    assert (maker.held(pack).state, maker.held(pack).exception) == (HoldingState.EXCEPTION, "DECLARED_ERROR")


def see(house: House, units: "Sequence[Unit]") -> None:
    """Count the first two of some units; the others are seen with them."""
    occasion = house.occasion()
    house.write(lambda s: s.record(events.observing(units[:2], occasion)), units)


@pytest.mark.parametrize("later", ["nothing", "seen", "held"])
def test_nothing_is_put_aside_because_an_observation_was_declared_an_error(
    maker: House, pharmacy: House, later: str
) -> None:
    units, box = packs(1, 2), sscc(1)
    both: Sequence[Unit] = (box, *units)
    maker.commission(units)
    maker.pack(box, units)
    maker.ship([box], pharmacy.gln)
    maker.send_to(pharmacy)
    pharmacy.confirm_all()
    pharmacy.receive([box])
    paths = [unit.path for unit in both]
    pharmacy.database.write_now(lambda c: holdings_store.mark(c, paths, location=""))
    before = [pharmacy.held(unit) for unit in both]
    assert (before[1].inferred, before[1].location) == (True, None)
    see(pharmacy, both)
    observed = pharmacy.events()[-1]
    assert [pharmacy.held(unit).location for unit in units] == [pharmacy.desk.default_location] * 2
    assert not pharmacy.held(units[0]).inferred
    if later == "seen":
        see(pharmacy, both)
    elif later == "held":
        pharmacy.hold([units[0]])
    today = [pharmacy.held(unit) for unit in both]
    declare(pharmacy, observed, units[0])
    after = [pharmacy.held(unit) for unit in both]
    assert after == {"nothing": before, "seen": today, "held": [before[0], today[1], today[2]]}[later]


@pytest.mark.parametrize("how", [how for how in Ending if how is not Ending.EMPTIED])
def test_every_ending_is_read_back_from_its_event(maker: House, how: Ending) -> None:
    units = packs(1)
    maker.commission(units)
    maker.write(lambda s: commands.end(s, named(units), maker.occasion(), how), units)
    assert maker.held(units[0]).ending is how
    statement = maker.events()[-1].statement
    assert isinstance(statement, EpcisEvent)
    step = step_of(statement, field="event")
    assert (step.kind, step.ending) == (StepKind.END, how)


def test_reason_of_another_word_makes_no_ending(maker: House) -> None:
    occasion = maker.occasion()
    statement = events.ending(packs(1), events.Occasion(occasion.time, "+00:00", occasion.location), Ending.DAMAGED)
    assert step_of(statement, field="event").ending is Ending.DAMAGED
    assert statement.event_time - occasion.time == timedelta()
