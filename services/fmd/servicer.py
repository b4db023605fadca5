"""FmdService: from messages to the counter and back."""

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.fmd.v1 import fmd_pb2, fmd_pb2_grpc
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import MalformedError
from medtrail.fmd import FmdState, Undo
from medtrail.runtime.guard import Context
from medtrail.runtime.server import Binding
from services.custody.messages import accepted_to_message
from services.custody.office import Office, check_reason
from services.fmd.counter import Counter, Outcome, Question

_STATE_TO_MESSAGE = {state: fmd_pb2.FmdState.Value(f"FMD_STATE_{state.name}") for state in FmdState}
_STATE_FROM_MESSAGE: dict[int, FmdState] = {number: state for state, number in _STATE_TO_MESSAGE.items()}


class FmdServicer(fmd_pb2_grpc.FmdServiceServicer):
    """The verbs of the Falsified Medicines Directive, for one organisation."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._counter = Counter(office)

    async def VerifyState(self, request: fmd_pb2.VerifyStateRequest, context: Context) -> fmd_pb2.VerifyStateResponse:
        """Tell the state of a pack."""
        return fmd_pb2.VerifyStateResponse(answer=_answer(await self._counter.verify(request.scan)))

    async def Supply(self, request: fmd_pb2.SupplyRequest, context: Context) -> fmd_pb2.SupplyResponse:
        """Supply a pack to the public."""
        occasion = self._office.occasion(request.occasion)
        question = Question(
            request,
            fmd_pb2.SupplyResponse,
            request.scan,
            lambda outcome: fmd_pb2.SupplyResponse(answer=_answer(outcome), events=_events(outcome)),
        )
        return await self._counter.supply(question, occasion)

    async def Deactivate(self, request: fmd_pb2.DeactivateRequest, context: Context) -> fmd_pb2.DeactivateResponse:
        """Decommission a pack for another reason than supply."""
        occasion = self._office.occasion(request.occasion)
        wanted = _state(request.state)
        if wanted is None:
            message = "say which state the pack is put into"
            raise MalformedError(message, code="FIELD_MISSING", field="state")
        question = Question(
            request,
            fmd_pb2.DeactivateResponse,
            request.scan,
            lambda outcome: fmd_pb2.DeactivateResponse(answer=_answer(outcome), events=_events(outcome)),
        )
        return await self._counter.deactivate(question, wanted, occasion)

    async def Undo(self, request: fmd_pb2.UndoRequest, context: Context) -> fmd_pb2.UndoResponse:
        """Undo what was done to a pack."""
        office = self._office
        # The ten days are counted to now, whatever moment the request names.
        undo = Undo(
            office.occasion(request.occasion).location,
            office.desk.clock(),
            _state(request.state),
            request.not_supplied,
        )
        question = Question(
            request,
            fmd_pb2.UndoResponse,
            request.scan,
            lambda outcome: fmd_pb2.UndoResponse(answer=_answer(outcome), events=_events(outcome)),
        )
        return await self._counter.undo(question, undo, reason=check_reason(request.reason))


def _events(outcome: Outcome) -> list[custody_pb2.AcceptedEvent]:
    return [accepted_to_message(item) for item in outcome.events]


def _state(number: int) -> FmdState | None:
    if number == fmd_pb2.FMD_STATE_UNSPECIFIED:
        return None
    if number not in _STATE_FROM_MESSAGE:
        message = f"unknown state {number}"
        raise MalformedError(message, code="STATE_UNKNOWN", field="state")
    return _STATE_FROM_MESSAGE[number]


def _answer(outcome: Outcome) -> fmd_pb2.FmdAnswer:
    answer = outcome.answer
    return fmd_pb2.FmdAnswer(
        state=_STATE_TO_MESSAGE[answer.state],
        code=answer.code.value,
        alert=answer.alert,
        kind=answer.kind.value,
        information=answer.information,
        provisional=answer.provisional,
        verdict=verdict_to_message(outcome.verdict),
    )


def fmd_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding("medtrail.api.fmd.v1.FmdService", fmd_pb2_grpc.add_FmdServiceServicer_to_server, FmdServicer(office))
