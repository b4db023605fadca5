"""The calls of what more than one look at: lots on hold, releases by two persons, samples."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.holds.v1 import holds_pb2, holds_pb2_grpc
from medtrail.api.receiving.v1 import receiving_pb2
from medtrail.gs1.keys import RESOLVER
from medtrail.simulation.acts import Act, Verb
from medtrail.simulation.calls import Answer, Call, Calls, Stubs, links, made

UNITS_A_PAGE = 1000


def oversight_calls(calls: Calls) -> Mapping[Verb, Call]:
    """Return how each verb of oversight is called."""
    return {
        Verb.HOLD_LOT: partial(_hold_lot, calls),
        Verb.RELEASE_LOT: partial(_release_lot, calls),
        Verb.RELEASE: partial(_release, calls),
        Verb.REQUEST_RELEASE: _request_release,
        Verb.APPROVE_RELEASE: partial(_approve_release, calls),
        Verb.REJECT_RELEASE: partial(_reject_release, calls),
        Verb.SCAN_SAMPLES: partial(_scan_samples, calls, {}),
    }


def _codes(act: Act) -> list[custody_pb2.HoldCode.ValueType]:
    return [custody_pb2.HoldCode.Value(f"HOLD_CODE_{code}") for code in act.details.get("code", "").split()]


# --- holds and releases ---


async def _hold_lot(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    (code,) = _codes(act)
    request = holds_pb2.HoldLotRequest(
        request_id=request_id,
        gtin=act.details["gtin"],
        lot=act.lot,
        code=code,
        reason=act.reason,
        occasion=calls.occasion(act),
    )
    answer = await stubs.holds.HoldLot(request)
    return made(answer, answer.lot_hold.lot_hold_id)


async def _release_lot(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = holds_pb2.ReleaseLotRequest(
        request_id=request_id,
        lot_hold_id=calls.answer(act.of).made_id,
        reason=act.reason,
        occasion=calls.occasion(act),
    )
    return made(await stubs.holds.ReleaseLot(request))


async def _release(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = custody_pb2.ReleaseRequest(
        request_id=request_id,
        epcs=links(act.units),
        codes=_codes(act),
        reason=act.reason,
        occasion=calls.occasion(act),
    )
    return made(await stubs.custody.Release(request))


def _desk(stubs: Stubs, act: Act) -> "holds_pb2_grpc.HoldServiceAsyncStub":
    """Return where a person asks: calls without one name nobody."""
    person = act.details.get("person")
    return stubs.persons[person] if person else stubs.holds


async def _request_release(stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = holds_pb2.RequestReleaseRequest(
        request_id=request_id, epcs=links(act.units), codes=_codes(act), reason=act.reason
    )
    answer = await _desk(stubs, act).RequestRelease(request)
    return Answer(made_id=answer.release_request.release_request_id)


async def _approve_release(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = holds_pb2.ApproveReleaseRequest(
        request_id=request_id,
        release_request_id=calls.answer(act.of).made_id,
        reason=act.reason,
        occasion=calls.occasion(act),
    )
    return made(await _desk(stubs, act).ApproveRelease(request))


async def _reject_release(calls: Calls, stubs: Stubs, act: Act, request_id: str) -> Answer:
    request = holds_pb2.RejectReleaseRequest(
        request_id=request_id, release_request_id=calls.answer(act.of).made_id, reason=act.reason
    )
    await _desk(stubs, act).RejectRelease(request)
    return Answer()


# --- samples ---


async def _scan_samples(
    calls: Calls, wanted: dict[str, tuple[str, ...]], stubs: Stubs, act: Act, request_id: str
) -> Answer:
    """Scan what is to be scanned of sealed containers; ``wanted`` keeps what that was, by request."""
    if request_id not in wanted:
        request = receiving_pb2.ListDeliveryUnitsRequest(
            delivery_id=calls.answer(act.of).made_id,
            filter=receiving_pb2.DELIVERY_UNIT_FILTER_SAMPLE,
            page_size=UNITS_A_PAGE,
        )
        units = (await stubs.receiving.ListDeliveryUnits(request)).units
        # A sample that was scanned is wanted no more: told again, the act is still about the same.
        wanted[request_id] = tuple(unit.epc.removeprefix(RESOLVER) for unit in units)
    return await calls.make(stubs, replace(act, verb=Verb.SCAN_DELIVERY, units=wanted[request_id]), request_id)
