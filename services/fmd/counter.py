"""One pack at the counter: what is known of it, and what is done with it, under the Falsified Medicines Directive.

Every request is judged against the books and the whole log first; what may not be is answered with code and state, and
no event is signed. What may be is done by the verbs of custody, so that its rules hold too. Requests are recorded,
whatever is answered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from medtrail import fmd
from medtrail.errors import AuthorizationError, ConflictError, MalformedError
from medtrail.event import RecallScope
from medtrail.fmd import Decommissioning, FmdAnswer, FmdCode, FmdState, PackFacts, Undo
from medtrail.gs1 import Gtin
from medtrail.verdict import Verdict, VerdictCode, beside_drill
from services.custody import commands, corrections, holdings_store, undoing, verifications
from services.custody.desk import Accepted, Session, known_recalls
from services.custody.events import Occasion
from services.custody.holding import Ending, Holding, HoldingState
from services.custody.office import Office
from services.custody.parties import place_of
from services.custody.recalls import RecallIndex
from services.custody.units import Named
from services.custody.verdicts import Seen, unreadable
from services.custody.verifications import Record, RecordKind

M = TypeVar("M", bound=Message)

FIELD = "scan"

_STATE_OF_ENDING = {
    Ending.DECOMMISSIONED: FmdState.INACTIVE,
    Ending.DESTROYED: FmdState.DESTROYED,
    Ending.STOLEN: FmdState.STOLEN,
    Ending.LOST: FmdState.STOLEN,
    Ending.SAMPLED: FmdState.SAMPLE,
    Ending.DAMAGED: FmdState.INACTIVE,
    Ending.EMPTIED: FmdState.INACTIVE,
    Ending.EXPORTED: FmdState.EXPORTED,
    Ending.FREE_SAMPLE: FmdState.FREE_SAMPLE,
    Ending.LOCKED: FmdState.LOCKED,
}
ENDING_OF_STATE = {
    FmdState.SAMPLE: Ending.SAMPLED,
    FmdState.FREE_SAMPLE: Ending.FREE_SAMPLE,
    FmdState.LOCKED: Ending.LOCKED,
    FmdState.EXPORTED: Ending.EXPORTED,
    FmdState.DESTROYED: Ending.DESTROYED,
    FmdState.STOLEN: Ending.STOLEN,
}
_STATE_OF_HOLDING = {
    HoldingState.DISPENSED: FmdState.SUPPLIED,
    HoldingState.PARTIALLY_DISPENSED: FmdState.SUPPLIED,
    HoldingState.CONSUMED: FmdState.INACTIVE,
}
# What the rules of the books say of a pack that the verdict would have let pass.
_ANSWER_OF_RULE = {
    "NOT_ON_HAND": (FmdState.PENDING, FmdCode.NOT_AT_HAND),
    "UNIT_PROVISIONAL": (FmdState.PENDING, FmdCode.PENDING),
    "UNIT_ON_HOLD": (FmdState.LOCKED, FmdCode.LOCKED),
    "UNIT_EXCEPTION": (FmdState.LOCKED, FmdCode.LOCKED),
    "UNIT_RECALLED": (FmdState.RECALLED, FmdCode.INACTIVE),
    "UNIT_EXPIRED": (FmdState.EXPIRED, FmdCode.INACTIVE),
}


@dataclass(frozen=True, slots=True)
class Looked:
    """What a scan means, and what was read of it (None when it could not be)."""

    verdict: Verdict
    seen: Seen | None
    lot_known: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request was answered, and the events made."""

    answer: FmdAnswer
    verdict: Verdict
    events: tuple[Accepted, ...] = ()


Reply = Callable[[Outcome], M]


@dataclass(frozen=True, slots=True)
class Question(Generic[M]):
    """A request for a change of one pack.

    Attributes:
        request: With a field request_id, a UUID.
        kind: Class of the answer.
        scan: What the scanner sent.
        reply: Makes the answer.
    """

    request: Message
    kind: type[M]
    scan: str
    reply: Reply[M]

    @property
    def verb(self) -> str:
        """What is asked for: ``supply``."""
        return type(self.request).__name__.removesuffix("Request").lower()


@dataclass(frozen=True, slots=True)
class _Deed:
    """Why something may not be done to a pack (None when it may), how it is done, and the state that it makes."""

    fault: Callable[[Session, Named, PackFacts], FmdAnswer | None]
    act: Callable[[Session, Named], list[Accepted]]
    state: FmdState


class Counter:
    """Answers for one organisation."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def look(self, scan: str) -> Looked:
        """Judge a scan."""
        scanner, moment = self._office.scanner, self._office.desk.clock()
        try:
            seen = scanner.read(scan, moment)
        except MalformedError as error:
            return Looked(unreadable(error, judge_time=moment), None)
        verdict = beside_drill(await scanner.judge_seen(seen, moment))
        known = True
        if VerdictCode.LOT_MISMATCH in verdict.codes:
            known = await scanner.knows_lot(seen.sgtin.gtin, seen.lot)
        return Looked(verdict, seen, known)

    async def verify(self, scan: str) -> Outcome:
        """Tell the state of a pack; nothing changes, and a record is kept."""
        looked = await self.look(scan)
        facts = await self._office.database.read(lambda connection: self._facts(connection, looked))
        answer = fmd.verify(looked.verdict, facts)
        await self._record("verify", scan, answer)
        return Outcome(answer, looked.verdict)

    async def supply(self, question: Question[M], occasion: Occasion) -> M:
        """Supply a pack to the public.

        Raises:
            AuthorizationError: The role supplies nothing (ROLE_FORBIDS).
        """
        return await self._change(
            question,
            FmdState.SUPPLIED,
            lambda session, named: commands.dispense(session, [named], occasion, partial=False),
        )

    async def deactivate(self, question: Question[M], wanted: FmdState, occasion: Occasion) -> M:
        """Decommission a pack for another reason than supply.

        Raises:
            MalformedError: No such reason (STATE_UNKNOWN).
            AuthorizationError: Not open to the role (ROLE_FORBIDS).
        """
        ending = ENDING_OF_STATE.get(wanted)
        if ending is None:
            message = f"expected one of {', '.join(ENDING_OF_STATE)}; got {wanted}"
            raise MalformedError(message, code="STATE_UNKNOWN", field="state")
        return await self._change(
            question, wanted, lambda session, named: commands.end(session, [named], occasion, ending)
        )

    async def _change(
        self, question: Question[M], wanted: FmdState, act: Callable[[Session, Named], list[Accepted]]
    ) -> M:
        self._check_role(wanted)
        looked = await self.look(question.scan)

        def fault(_session: Session, _named: Named, facts: PackFacts) -> FmdAnswer | None:
            return fmd.change_fault(looked.verdict, facts, wanted=wanted)

        return await self._answer(question, looked, _Deed(fault, act, wanted))

    async def undo(self, question: Question[M], undo: Undo, *, reason: str) -> M:
        """Undo what was done to a pack at the same premises at most 10 days ago."""
        looked = await self.look(question.scan)

        def fault(session: Session, named: Named, facts: PackFacts) -> FmdAnswer | None:
            fault = fmd.undo_fault(looked.verdict, facts, undo, _done(session, named))
            if fault is None and _was_opened(session, named):
                text = "A part of it was handed to the public"
                return fmd.refusal(fmd.state_of(looked.verdict, facts), FmdCode.UNDO_MISMATCH, text)
            return fault

        def act(session: Session, named: Named) -> list[Accepted]:
            return corrections.undo(session, named, reason=reason)

        return await self._answer(question, looked, _Deed(fault, act, FmdState.ACTIVE))

    async def _answer(self, question: Question[M], looked: Looked, deed: _Deed) -> M:
        if looked.seen is None:
            outcome = Outcome(fmd.verify(looked.verdict, PackFacts()), looked.verdict)
            await self._record(question.verb, question.scan, outcome.answer)
            return question.reply(outcome)
        named = Named(looked.seen.sgtin, FIELD)
        # Stays empty when the request was answered before: that answer has its record.
        outcomes: list[Outcome] = []

        def work(session: Session) -> M:
            fault = deed.fault(session, named, self._facts(session.connection, looked))
            if fault is None:
                made = deed.act(session, named)
                outcomes.append(Outcome(fmd.success(deed.state), looked.verdict, tuple(made)))
            else:
                outcomes.append(Outcome(fault, looked.verdict))
            return question.reply(outcomes[-1])

        try:
            answered = await self._office.write(question.request, question.kind, work, units=(named.unit,))
        except ConflictError as error:
            if error.code not in _ANSWER_OF_RULE:
                raise
            outcomes.append(Outcome(fmd.refusal(*_ANSWER_OF_RULE[error.code], error.message), looked.verdict))
            answered = question.reply(outcomes[-1])
        for outcome in outcomes[-1:]:
            await self._record(question.verb, question.scan, outcome.answer)
        return answered

    def _check_role(self, wanted: FmdState) -> None:
        organisation = self._office.desk.organisation
        roles = frozenset() if organisation is None else organisation.roles
        if not any(wanted in fmd.STATES_OF_ROLE.get(role, frozenset()) for role in roles):
            has = ", ".join(sorted(roles)) or "none"
            message = f"the roles {has} do not set a pack to {wanted}"
            raise AuthorizationError(message, code="ROLE_FORBIDS", field="state")

    def _facts(self, connection: Connection, looked: Looked) -> PackFacts:
        if looked.seen is None:
            return PackFacts()
        unit = looked.seen.sgtin
        holding = holdings_store.load_books(connection, (unit,)).get(unit)
        return PackFacts(
            own_state=None if holding is None else _own_state(holding),
            lot_known=looked.lot_known,
            withdrawn=_is_withdrawn(known_recalls(connection, self._office.desk), unit.gtin, looked.verdict),
            here=holding is not None and (holding.here or holding.state is HoldingState.INBOUND),
        )

    async def _record(self, verb: str, scan: str, answer: FmdAnswer) -> None:
        desk = self._office.desk
        record = Record(
            RecordKind.FMD,
            desk.clock(),
            question=scan,
            requester=str(desk.gln),
            responder=str(desk.gln),
            context=verb,
            answer=" ".join(part for part in (answer.state.value, answer.code.value, answer.alert) if part),
        )
        await self._office.database.write(lambda connection: verifications.keep(connection, record))


def _own_state(holding: Holding) -> FmdState | None:
    if holding.ending is not None and holding.state is HoldingState.ENDED:
        return _STATE_OF_ENDING[holding.ending]
    return _STATE_OF_HOLDING.get(holding.state)


def _done(session: Session, named: Named) -> Decommissioning | None:
    deed = corrections.deed_of(session, named)
    return None if deed is None else Decommissioning(deed.statement.event_time, place_of(deed.statement))


def _was_opened(session: Session, named: Named) -> bool:
    deed = corrections.deed_of(session, named)
    return deed is not None and undoing.was_opened(session, named, deed)


def _is_withdrawn(recalls: RecallIndex, gtin: Gtin, verdict: Verdict) -> bool:
    """Tell whether one of the recalls over a pack is of every lot and serial of its product."""

    def of_product(scope: RecallScope) -> bool:
        return scope.gtin == gtin and not scope.lot and not scope.serials

    return any(
        of_product(scope)
        for item in recalls.known
        if item.recall_id in verdict.recall_ids and recalls.is_active(item.recall_id)
        for scope in item.recall.scopes
    )
