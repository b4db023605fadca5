"""The calls about cases: those that are opened and ended, what partners say of them, suspect product."""

import asyncio
from collections.abc import Mapping
from functools import partial

from medtrail.api.exceptions.v1 import exceptions_pb2
from medtrail.api.receiving.v1 import receiving_pb2
from medtrail.errors import NotFoundError
from medtrail.simulation.acts import Act, Verb
from medtrail.simulation.calls import Answer, Call, Calls, Stubs, label, link, links, made

# PDG messages are dated to the second: of two within one nobody can tell the later.
PDG_RESOLUTION_S = 1.0
PERSON = "Kim Lee"


def case_calls(calls: Calls) -> Mapping[Verb, Call]:
    """Return how each verb about cases is called."""
    return {
        Verb.REPORT_CONCEALED: partial(_concealed, calls),
        Verb.OPEN_CASE: _open_case,
        Verb.RESOLVE_CASE: partial(_resolve, calls),
        Verb.MARK_SUSPECT: partial(_suspect, calls),
        Verb.CLEAR_SUSPECT: partial(_clear, calls),
        Verb.SAY: partial(_say, calls),
        Verb.PROPOSE: partial(_propose, calls),
        Verb.ANSWER: partial(_answer, calls),
    }


def _code(word: str) -> exceptions_pb2.ExceptionCode.ValueType:
    return exceptions_pb2.ExceptionCode.Value(f"EXCEPTION_CODE_{word}")


async def _concealed(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    over = act.details.get("over", "").split()
    request = receiving_pb2.ReportConcealedRequest(
        request_id=request_id,
        delivery_id=calls.answer(act.of).made_id,
        shortage_epcs=links(act.units),
        overage_scans=[label(unit, lot=act.lot, expiry=act.expiry) for unit in over],
        occasion=calls.occasion(act),
    )
    return made(await stubs.receiving.ReportConcealed(request))


async def _open_case(stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = exceptions_pb2.OpenCaseRequest(
        request_id=request_id,
        code=_code(act.reason),
        epcs=links(act.units),
        detail="found at the bay",
    )
    return Answer(made_id=(await stubs.exceptions.OpenCase(request)).case.case_id)


async def _resolve(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    code = _code(act.details["code"])
    wanted = exceptions_pb2.ListCasesRequest(epc=link(act.units[0]), code=code, include_resolved=True, page_size=100)
    cases = (await stubs.exceptions.ListCases(wanted)).cases
    if not cases:
        return Answer(code="NO_CASE")
    request = exceptions_pb2.ResolveCaseRequest(
        request_id=request_id,
        case_id=cases[-1].case_id,
        resolution=exceptions_pb2.CaseResolution.Value(f"CASE_RESOLUTION_{act.reason.upper()}"),
        reason="agreed by telephone",
        person=PERSON,
        occasion=calls.occasion(act),
    )
    return made(await stubs.exceptions.ResolveCase(request))


async def _suspect(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = exceptions_pb2.MarkSuspectRequest(
        request_id=request_id,
        epcs=links(act.units),
        reason=act.reason,
        person=PERSON,
        occasion=calls.occasion(act),
    )
    answer = await stubs.exceptions.MarkSuspect(request)
    return made(answer, answer.case.case_id)


async def _clear(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = exceptions_pb2.ClearSuspectRequest(
        request_id=request_id,
        case_id=calls.answer(act.of).made_id,
        verified_epcs=links(act.units),
        reason=act.reason,
        person=PERSON,
        occasion=calls.occasion(act),
    )
    return made(await stubs.exceptions.ClearSuspect(request))


# --- talk about a case ---


async def _case_id(calls: Calls, stubs: Stubs, act: Act) -> str:
    """Return the case of a talk that an act goes on with, or begins.

    Raises:
        NotFoundError: There is none.
    """
    if act.of:
        return calls.answer(act.of).made_id
    code = _code(act.details["code"])
    wanted = exceptions_pb2.ListCasesRequest(epc=link(act.units[0]), code=code)
    for case in (await stubs.exceptions.ListCases(wanted)).cases:
        return case.case_id
    message = f"there is no case {act.details['code']} of {act.units[0]}"
    raise NotFoundError(message, code="CASE_UNKNOWN")


def _contact(act: Act) -> exceptions_pb2.Contact:
    return exceptions_pb2.Contact(email=f"bay@{act.who}.example")


def _resolution(word: str) -> exceptions_pb2.ResolutionRequest.ValueType:
    return exceptions_pb2.ResolutionRequest.Value(f"RESOLUTION_REQUEST_{word or 'UNSPECIFIED'}")


async def _say(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    case_id = await _case_id(calls, stubs, act)
    request = exceptions_pb2.AddMessageRequest(
        request_id=request_id,
        case_id=case_id,
        text="we have looked in every tote",
        person=PERSON,
        internal=act.details.get("internal") == "yes",
    )
    await stubs.exceptions.AddMessage(request)
    return Answer(made_id=case_id)


async def _propose(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    case_id = await _case_id(calls, stubs, act)
    await asyncio.sleep(PDG_RESOLUTION_S)
    request = exceptions_pb2.ProposeResolutionRequest(
        request_id=request_id,
        case_id=case_id,
        resolution_request=_resolution(act.details.get("asks", "")),
        contact=_contact(act),
        person=PERSON,
    )
    await stubs.exceptions.ProposeResolution(request)
    return Answer(made_id=case_id)


async def _answer(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    case_id = await _case_id(calls, stubs, act)
    await asyncio.sleep(PDG_RESOLUTION_S)
    said = exceptions_pb2.ItemAnswer(
        accepted=act.details["says"] == "yes", alternative=_resolution(act.details.get("offers", ""))
    )
    request = exceptions_pb2.RespondToProposalRequest(
        request_id=request_id, case_id=case_id, answers=[said], contact=_contact(act), person="Lee Kim"
    )
    await stubs.exceptions.RespondToProposal(request)
    return Answer(made_id=case_id)
