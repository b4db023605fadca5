"""What the portal asks of its organisation's service about packs: verification requests, and the FMD verbs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc.aio

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.fmd.v1 import fmd_pb2, fmd_pb2_grpc
from medtrail.api.verification.v1 import verification_pb2, verification_pb2_grpc
from medtrail.codec import to_timestamp
from medtrail.codec.verdict import verdict_from_message
from medtrail.fmd import FmdState
from medtrail.vrs import SpelledRequest

_STATE_NAMES = {state.name: state for state in FmdState}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a verification request: HTTP status, body of a 200, code of a refusal."""

    status: int
    body: str
    code: str


@dataclass(frozen=True, slots=True)
class Change:
    """A request for a change of one pack.

    Attributes:
        request_id: UUID.
        scan: What the scanner sent.
        event_time: When; None means now.
        offset: In force there, ``+hh:mm``; may be empty.
        location: GLN of the premises; may be empty.
    """

    request_id: str
    scan: str
    event_time: datetime | None = None
    offset: str = ""
    location: str = ""

    def occasion(self) -> custody_pb2.Occasion:
        """Return when and where."""
        return custody_pb2.Occasion(
            event_time=None if self.event_time is None else to_timestamp(self.event_time),
            event_time_zone_offset=self.offset,
            location=self.location,
        )


class VerificationClient:
    """The organisation's service, as the portal asks it; errors are those that it raises."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._verification = verification_pb2_grpc.VerificationServiceStub(channel)
        self._fmd = fmd_pb2_grpc.FmdServiceStub(channel)

    async def answer(self, spelled: SpelledRequest, *, caller: str) -> Reply:
        """Have a verification request answered."""
        answer = await self._verification.AnswerVerification(
            verification_pb2.AnswerVerificationRequest(
                gtin=spelled.gtin,
                lot=spelled.lot,
                serial=spelled.serial,
                exp=spelled.exp,
                link_type=spelled.link_type,
                context=spelled.context,
                req_gln=spelled.req_gln,
                corr_uuid=spelled.corr_uuid,
                caller=caller,
            )
        )
        return Reply(answer.http_status, answer.body, answer.code)

    async def connectivity(self, *, gtin: str, req_gln: str, context: str, caller: str) -> Reply:
        """Have it told whether a request about a product would be answered."""
        answer = await self._verification.AnswerConnectivity(
            verification_pb2.AnswerConnectivityRequest(gtin=gtin, req_gln=req_gln, context=context, caller=caller)
        )
        return Reply(answer.http_status, answer.body, answer.code)

    async def verify(self, scan: str) -> dict[str, Any]:
        """Return the state of a pack."""
        answer = await self._fmd.VerifyState(fmd_pb2.VerifyStateRequest(scan=scan))
        return _document(answer.answer, ())

    async def supply(self, change: Change) -> dict[str, Any]:
        """Have a pack supplied."""
        request = fmd_pb2.SupplyRequest(request_id=change.request_id, scan=change.scan, occasion=change.occasion())
        answer = await self._fmd.Supply(request)
        return _document(answer.answer, answer.events)

    async def decommission(self, change: Change, state: FmdState) -> dict[str, Any]:
        """Have a pack decommissioned for another reason."""
        request = fmd_pb2.DeactivateRequest(
            request_id=change.request_id, scan=change.scan, state=_state(state), occasion=change.occasion()
        )
        answer = await self._fmd.Deactivate(request)
        return _document(answer.answer, answer.events)

    async def undo(self, change: Change, *, state: FmdState | None, not_supplied: bool, reason: str) -> dict[str, Any]:
        """Have undone what was done to a pack."""
        request = fmd_pb2.UndoRequest(
            request_id=change.request_id,
            scan=change.scan,
            state=fmd_pb2.FMD_STATE_UNSPECIFIED if state is None else _state(state),
            not_supplied=not_supplied,
            reason=reason,
            occasion=change.occasion(),
        )
        answer = await self._fmd.Undo(request)
        return _document(answer.answer, answer.events)


def _state(state: FmdState) -> fmd_pb2.FmdState.ValueType:
    return fmd_pb2.FmdState.Value(f"FMD_STATE_{state.name}")


def _document(answer: fmd_pb2.FmdAnswer, events: Any) -> dict[str, Any]:  # noqa: ANN401 - a repeated field
    name = fmd_pb2.FmdState.Name(answer.state).removeprefix("FMD_STATE_")
    verdict = verdict_from_message(answer.verdict)
    return {
        "state": _STATE_NAMES[name].value,
        "code": answer.code,
        "alert": answer.alert or None,
        "kind": answer.kind or None,
        "information": answer.information,
        "provisional": answer.provisional,
        "verdict": verdict.code.value,
        "action": verdict.action.value,
        "epc": verdict.epc or None,
        "events": [event.event_id for event in events],
    }
