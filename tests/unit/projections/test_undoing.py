"""A supply or a decommissioning that was undone: belief goes back for one pack, stays for the others of its event."""

from dataclasses import replace
from itertools import permutations

from ledger.projections.belief import UnitClass
from ledger.projections.judging import Scan, judge
from medtrail.epcis.model import EpcisEvent
from medtrail.event import Event
from medtrail.verdict import VerdictCode
from tests.unit.projections.story import PHARMACY, Story, pack, path


def supplied(story: Story) -> tuple[Event, Event]:
    """Let a pharmacy supply two packs in one event and undo one: the corrective event, then the declaration."""
    story.commission(pack("1"), pack("2"))
    story.ship(pack("1"), pack("2"), to=PHARMACY)
    story.receive(pack("1"), pack("2"), actor=PHARMACY)
    done = story.dispense(pack("1"), pack("2"))
    statement = done.statement
    assert isinstance(statement, EpcisEvent)
    corrective = story.sign(PHARMACY, replace(statement, event_id=None, epc_list=(pack("2"),)))
    return corrective, story.declare(done)


def code(story: Story, serial: str, **how: object) -> VerdictCode:
    belief = story.replay(**how).belief(path(pack(serial)))  # type: ignore[arg-type]
    return judge(Scan(path(pack(serial)), story.clock, caller=PHARMACY), belief).code


def test_undone_pack_may_be_supplied_again_and_the_other_stays_supplied() -> None:
    story = Story()
    supplied(story)
    assert story.belief(pack("1")).unit_class is UnitClass.ON_HAND
    assert story.belief(pack("2")).unit_class is UnitClass.DISPENSED
    assert story.codes(pack("1")) == story.codes(pack("2")) == set()
    assert [code(story, "1"), code(story, "2")] == [VerdictCode.GENUINE, VerdictCode.ALREADY_DISPENSED]
    story.dispense(pack("1"))
    assert [code(story, "1"), code(story, "2")] == [VerdictCode.ALREADY_DISPENSED] * 2
    assert story.codes(pack("1")) == story.codes(pack("2")) == set()


def test_in_no_order_of_arrival_is_the_other_pack_free() -> None:
    story = Story()
    supplied(story)
    size = len(story.told)
    entries = range(size)
    last = list(entries)[-3:]
    final = (code(story, "1"), code(story, "2"))
    for order in permutations(last):
        assert (
            code(story, "1", order=(*entries[:-3], *order)),
            code(story, "2", order=(*entries[:-3], *order)),
        ) == final
    # Read in the order in which it is signed, nobody finds it free in between.
    for known in range(size - 2, size + 1):
        assert code(story, "2", size=known) is not VerdictCode.GENUINE
