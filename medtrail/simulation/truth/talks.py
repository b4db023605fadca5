"""What two parties say to each other about a case: one reports it, the other answers, and both keep the same case."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medtrail.simulation.acts import Act, Verb
from medtrail.simulation.truth.house import RefusedError

if TYPE_CHECKING:
    from medtrail.simulation.truth.model import Truth

REMARK = "remarks"
HOUSE_REMARK = "remarks for the house"
REPORT = "reports"
RESPONSE = "responses"
KINDS = (REMARK, HOUSE_REMARK, REPORT, RESPONSE)
# What a report asks for, where it does not say otherwise (docs/exceptions.md: what to do).
_ASKED_BY = {"OVERAGE": "SEND_NEW_DATA", "SHORTAGE": "SEND_PRODUCT"}


@dataclass(slots=True)
class Talk:
    """A case of one house, and what its partner and it say about it.

    Attributes:
        house: Whose case it is.
        partner: To whom it is told.
        asked: What its last report asks for; empty before the first.
        answer: Whether the partner says yes to that; None while it says nothing.
        offered: What it offers instead, where it says no.
        said: How many messages of a kind each of the two keeps, by party and kind.
    """

    house: str
    partner: str
    code: str
    units: tuple[str, ...]
    asked: str = ""
    answer: bool | None = None
    offered: str = ""
    said: Counter[tuple[str, str]] = field(default_factory=Counter)

    def say(self, kind: str) -> None:
        """Say something that both keep."""
        self.said.update([(self.house, kind), (self.partner, kind)])

    def report(self, asked: str) -> None:
        """Ask for something; an answer stands until something else is asked for."""
        self.say(REPORT)
        if asked != self.asked:
            self.asked, self.answer, self.offered = asked, None, ""

    def words(self, who: str, *, resolved: bool) -> dict[str, str]:
        """Return what one of the two must answer of the case.

        Args:
            who: The house or its partner.
            resolved: Whether it is resolved at the house: a partner to whom it was reported is told by a report.
        """
        said = Counter({kind: self.said[who, kind] for kind in KINDS})
        if resolved and self.asked:
            said[REPORT] += 1
        elif resolved and who == self.house:
            said[HOUSE_REMARK] += 1
        ended = resolved and (who == self.house or bool(self.asked))
        item = " ".join(part for part in (self.asked, self._answered(), self.offered) if part)
        return {
            "state": "resolved" if ended else self._state(),
            "reported by partner": str(who == self.partner),
            "items": ", ".join([item] * len(self.units)) if self.asked else "",
            **{kind: str(said[kind]) for kind in KINDS},
        }

    def _answered(self) -> str:
        return "" if self.answer is None else "yes" if self.answer else "no"

    def _state(self) -> str:
        if not self.asked:
            return "open"
        if self.answer is None:
            return "proposed"
        return "agreed" if self.answer else "disputed"


class Talks:
    """What is talked about in the houses of a truth.

    Attributes:
        by_name: Talks by the act that began them.
    """

    def __init__(self, truth: "Truth") -> None:
        self._truth = truth
        self.by_name: dict[str, Talk] = {}

    def doing(self) -> Mapping[Verb, Callable[[Act], None]]:
        """Return what is done at each verb."""
        return {Verb.SAY: self._say, Verb.PROPOSE: self._propose, Verb.ANSWER: self._answer}

    def words(self, name: str, who: str) -> dict[str, str]:
        """Return what one of the two parties to a talk must answer of its case."""
        talk = self.by_name[name]
        cases = self._truth.houses[talk.house].cases
        return talk.words(who, resolved=all(cases[talk.code, unit].settled for unit in talk.units))

    def _talk(self, act: Act) -> Talk:
        """Return the talk that an act goes on with, or begins about a case of its house."""
        if act.of:
            return self.by_name[act.of]
        code = act.details["code"]
        case = self._truth.houses[act.who].cases[code, act.units[0]]
        return self.by_name.setdefault(act.name, Talk(act.who, act.to, code, case.units))

    def _say(self, act: Act) -> None:
        talk = self._talk(act)
        if act.details.get("internal") == "yes":
            talk.said[act.who, HOUSE_REMARK] += 1
        else:
            talk.say(REMARK)

    def _propose(self, act: Act) -> None:
        """Report a case: the partner has the same from now on, with its units."""
        talk = self._talk(act)
        talk.report(act.details.get("asks", _ASKED_BY[talk.code]))
        own, partner = self._truth.houses[talk.house], self._truth.houses[talk.partner]
        for unit in talk.units:
            partner.cases[talk.code, unit] = own.cases[talk.code, unit]

    def _answer(self, act: Act) -> None:
        talk = self._talk(act)
        if not talk.asked:
            raise RefusedError("CASE_NOT_REPORTED")
        talk.say(RESPONSE)
        talk.answer = act.details["says"] == "yes"
        talk.offered = act.details.get("offers", "")
