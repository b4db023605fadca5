"""The projection against a plain model: what is where, in what, and in which custody states, in any order of arrival.

The model knows dictionaries and one loop, and nothing of the projection. Each deed has a moment of its own, days apart:
clocks that differ, and deeds told in several events, have tests by example.
"""

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from ledger.projections.states import states_of
from medtrail.epcis.model import Action, EventType
from tests.unit.projections.story import (
    CASE,
    CASE_UNIT,
    MAKER,
    OUTSIDE,
    PALLET,
    PHARMACY,
    TOTE,
    WHOLESALER,
    Story,
    pack,
    path,
)

PACKS = (pack("1"), pack("2"), pack("3"))
BOXES = (CASE, CASE_UNIT, PALLET, TOTE)
UNITS = (*PACKS, *BOXES)
PARTIES = (MAKER, WHOLESALER, PHARMACY)
TWO_DAYS = 2 * 24 * 60

ENDS = {
    "dispensed": ("dispensing", "dispensed"),
    "decommissioned": ("decommissioning", "inactive"),
    "destroyed": ("destroying", "destroyed"),
    "stolen": ("decommissioning", "stolen"),
    "lost": ("decommissioning", "unknown"),
}


@dataclass(frozen=True)
class Deed:
    what: str
    at: int
    who: str
    units: tuple[str, ...]
    box: str = ""
    to: str = ""


# --- the model ---


class Model:
    """What is so after some deeds."""

    def __init__(self, deeds: list[Deed]) -> None:
        self.units: dict[str, dict[str, Any]] = {}
        for deed in sorted(deeds, key=lambda item: item.at):
            self.deed = deed
            self.named = {deed.box, *deed.units} - {""}
            if deed.box:
                self.aggregate()
            else:
                for unit in sorted(deed.units):
                    self.leave_alone(unit)
                    self.happen(unit)

    def of(self, unit: str) -> dict[str, Any]:
        blank = {"phase": "", "holder": "", "to": "", "box": "", "end": "", "holds": [], "alone": False}
        blank |= {"returned": False, "returned_before": False, "opened": False, "moves": 0, "filled": 0}
        return self.units.setdefault(unit, blank)

    def inside(self, box: str) -> list[str]:
        return [unit for unit, facts in self.units.items() if facts["box"] == box]

    def around(self, unit: str) -> list[str]:
        found = []
        while self.of(unit)["box"]:
            unit = self.of(unit)["box"]
            found.append(unit)
        return found

    def aggregate(self) -> None:
        what, box = self.deed.what, self.deed.box
        if what == "miss":
            for unit in sorted(self.deed.units):
                self.contain(unit)
            return
        self.leave_alone(box)
        self.happen(box)
        facts = self.of(box)
        if what == "pack" and box == TOTE:
            if facts["filled"] != facts["moves"]:
                for unit in self.inside(box):
                    self.of(unit).update(box="", alone=True)
            facts["filled"] = facts["moves"]
        if what == "empty":
            for unit in self.inside(box):
                self.of(unit)["box"] = ""
        for unit in sorted(self.deed.units):
            if what != "pack":
                self.leave_alone(unit)
            self.happen(unit)
            self.contain(unit)

    def contain(self, unit: str) -> None:
        facts, box = self.of(unit), self.deed.box
        if facts["phase"] == "ended":
            # What has ended stays where it ended, whatever is told of it.
            return
        if facts["box"] == box:
            if self.deed.what in {"unpack", "miss"}:
                facts["box"] = ""
            return
        if self.deed.what == "pack" and unit not in self.around(box):
            facts["box"] = box
        elif self.deed.what in {"unpack", "miss"} and box in self.around(unit):
            facts.update(box="", alone=True)

    def leave_alone(self, unit: str) -> None:
        facts = self.of(unit)
        if not facts["box"] or self.named & set(self.around(unit)) or facts["phase"] == "ended":
            return
        box, what, who = self.of(facts["box"]), self.deed.what, self.deed.who
        if what in {"commission", "sense"}:
            return
        if what in {"ship", "send_back"}:
            gone = box["phase"] in {"transit", "left"} and (box["holder"], box["to"]) == (who, self.deed.to)
        elif what == "void":
            gone = not (facts["phase"] in {"transit", "left"} and facts["holder"] == who)
        elif what in ENDS or what == "open":
            gone = False
        else:
            gone = box["phase"] in {"", "ended"} or (box["phase"], box["holder"]) == ("held", who)
        if not gone:
            facts.update(box="", alone=True)

    def happen(self, unit: str) -> None:
        """Let a deed happen to a unit, and to all inside that it does not name."""
        waiting, own = [unit], True
        while waiting:
            current = waiting.pop()
            if own or self.deed.what != "commission":
                self.do(self.of(current))
            own = False
            waiting += [content for content in self.inside(current) if content not in self.named]

    def do(self, facts: dict[str, Any]) -> None:
        what, who = self.deed.what, self.deed.who
        away = facts["phase"] in {"transit", "left"}
        if facts["phase"] == "ended":
            destroys = what == "destroyed" and facts["end"] == "decommissioned" and facts["holder"] == who
            facts["end"] = what if destroys else facts["end"]
        elif what == "commission":
            facts.update({} if facts["phase"] else {"phase": "held", "holder": who})
        elif what in ENDS:
            facts.update(phase="ended", holder=who, to="", end=what)
        elif what in {"ship", "send_back"}:
            self.send(facts, who, on_its_way=away)
        elif what == "void" and away and facts["holder"] == who:
            facts.update(phase="held", to="", returned=facts["returned_before"])
            facts["moves"] -= 1
        elif what not in {"sense", "void"}:
            self.have(facts, who)

    def send(self, facts: dict[str, Any], who: str, *, on_its_way: bool) -> None:
        if not on_its_way or (facts["holder"], facts["to"]) != (who, self.deed.to):
            phase = "left" if self.deed.to == OUTSIDE else "transit"
            if not on_its_way:
                facts["returned_before"] = facts["returned"]
            facts.update(phase=phase, holder=who, to=self.deed.to, returned=self.deed.what == "send_back")
            facts["moves"] += 1

    def have(self, facts: dict[str, Any], who: str) -> None:
        if facts["phase"] == "held" and facts["holder"] != who:
            facts["moves"] += 1
        facts.update(phase="held", holder=who, to="")
        if self.deed.what == "open":
            facts["opened"] = True
        elif self.deed.what == "hold" and "DAMAGED" not in facts["holds"]:
            facts["holds"].append("DAMAGED")
        elif self.deed.what == "release":
            facts.update(holds=[], returned=False)
        elif self.deed.what == "take_back":
            facts["returned"] = True

    def answer(self, unit: str) -> dict[str, Any] | None:
        facts = self.units.get(unit)
        if facts is None or not facts["phase"]:
            return None
        ended = facts["phase"] == "ended"
        where = {"held": "held", "transit": "in_transit", "left": "left_network", "ended": facts["end"]}
        states = {where[facts["phase"]]}
        if not ended:
            states |= {"aggregated"} if facts["box"] else set()
            states |= {"partially_dispensed"} if facts["opened"] else set()
            states |= {"returned"} if facts["returned"] else set()
            states |= {"on_hold"} if facts["holds"] else set()
        return {
            "states": states,
            "holder": facts["holder"],
            "to": facts["to"],
            "box": path(facts["box"]) if facts["box"] and not ended else "",
            "alone": facts["alone"],
        }


# --- telling and asking ---


def tell(story: Story, deed: Deed) -> None:
    how: dict[str, Any] = {"actor": deed.who, "at": deed.at * TWO_DAYS}
    what, units = deed.what, deed.units
    if what in {"pack", "unpack", "miss", "empty", "look"}:
        actions = {"pack": Action.ADD, "look": Action.OBSERVE}
        step = {"pack": "packing", "look": "inspecting"}.get(what, "unpacking")
        how |= {"type": EventType.AGGREGATION, "action": actions.get(what, Action.DELETE), "biz_step": step}
        how |= {"disposition": "unknown"} if what == "miss" else {}
        story.tell(how.pop("actor"), parent_id=deed.box, child_epcs=units, **how)
    elif what == "commission":
        story.commission(*units, **how)
    elif what in {"ship", "send_back"}:
        story.ship(*units, to=deed.to, disposition="in_transit" if what == "ship" else "returned", **how)
    elif what in {"receive", "take_back"}:
        story.receive(*units, disposition="in_progress" if what == "receive" else "returned", **how)
    elif what in ENDS:
        step, word = ENDS[what]
        story.end(*units, step=step, word=word, **how)
    elif what == "hold":
        story.hold(*units, reason="DAMAGED", **how)
    elif what == "release":
        story.release(*units, **how)
    elif what == "open":
        story.open(*units, **how)
    elif what == "sense":
        story.sense(*units, degrees="5", **how)
    else:
        step = {"void": "void_shipping", "see": "inspecting"}[what]
        story.tell(deed.who, at=how["at"], epc_list=units, biz_step=step)


def answers(story: Story, order: list[int]) -> dict[str, dict[str, Any] | None]:
    replay = story.replay(order)
    found: dict[str, dict[str, Any] | None] = {}
    for unit in UNITS:
        belief = replay.belief(path(unit))
        if belief is None:
            found[unit] = None
            continue
        states = {state.value for state in states_of(belief)} - {"suspect"}
        # Where it was commissioned is one place among others here.
        states = {"held" if state == "commissioned" else state for state in states}
        found[unit] = {
            "states": states,
            "holder": belief.holder,
            "to": belief.destination,
            "box": "" if belief.ending else belief.parent,
            "alone": any(alert.code == "PARENT_NOT_UNPACKED" for alert in belief.alerts),
        }
    return found


_some = st.lists(st.sampled_from(UNITS), min_size=1, max_size=3, unique=True).map(tuple)
_party = st.sampled_from(PARTIES)
_moment = st.integers(1, 400)


class CustodyMachine(RuleBasedStateMachine):
    """Deeds of three parties, told in any order, late ones included."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.deeds: list[Deed] = []
        self.taken: set[int] = set()

    def add(self, what: str, at: int, who: str, units: tuple[str, ...], *, box: str = "", to: str = "") -> None:
        while at in self.taken:
            at += 1
        self.taken.add(at)
        deed = Deed(what, at, who, units, box, to)
        self.deeds.append(deed)
        tell(self.story, deed)

    @initialize(contents=st.permutations(PACKS))
    def a_pallet_is_packed(self, contents: list[str]) -> None:
        self.add("commission", 1, MAKER, (*PACKS, CASE_UNIT))
        self.add("pack", 2, MAKER, tuple(contents[:2]), box=CASE)
        self.add("pack", 3, MAKER, (CASE,), box=PALLET)

    @rule(at=_moment, who=_party, units=_some, to=st.sampled_from((*PARTIES, OUTSIDE)), back=st.booleans())
    def ship(self, at: int, who: str, units: tuple[str, ...], to: str, *, back: bool) -> None:
        self.add("send_back" if back else "ship", at, who, units, to=to)

    @rule(
        at=_moment,
        who=_party,
        units=_some,
        what=st.sampled_from(["receive", "take_back", "see", "sense", "hold", "release", "void", "open"]),
    )
    def handle(self, at: int, who: str, units: tuple[str, ...], what: str) -> None:
        self.add(what, at, who, units)

    @rule(at=_moment, who=_party, unit=st.sampled_from(UNITS), what=st.sampled_from([*ENDS]))
    def end(self, at: int, who: str, unit: str, what: str) -> None:
        self.add(what, at, who, (unit,))

    @rule(
        at=_moment,
        who=_party,
        box=st.sampled_from(BOXES),
        units=_some,
        what=st.sampled_from(["pack", "pack", "unpack", "miss", "look"]),
    )
    def fill(self, at: int, who: str, box: str, units: tuple[str, ...], what: str) -> None:
        inside = tuple(unit for unit in units if unit != box)
        if inside:
            self.add(what, at, who, inside, box=box)

    @rule(at=_moment, who=_party, box=st.sampled_from(BOXES))
    def empty(self, at: int, who: str, box: str) -> None:
        self.add("empty", at, who, (), box=box)

    @rule(seed=st.integers(0, 2**32))
    def is_told_in_any_order(self, seed: int) -> None:
        order = list(range(len(self.story.told)))
        random.Random(seed).shuffle(order)
        self.agree(order)

    def teardown(self) -> None:
        self.agree(list(range(len(self.story.told))))

    def agree(self, order: list[int]) -> None:
        model = Model(self.deeds)
        found = answers(self.story, order)
        for unit in UNITS:
            assert found[unit] == model.answer(unit), (unit, self.deeds)


TestCustody = CustodyMachine.TestCase
TestCustody.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
