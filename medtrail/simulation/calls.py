"""From an act to the call that tells a party's own service of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc.aio

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.api.distributor.v1 import distributor_pb2, distributor_pb2_grpc
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.exceptions.v1 import exceptions_pb2_grpc
from medtrail.api.fmd.v1 import fmd_pb2, fmd_pb2_grpc
from medtrail.api.ledger.v1 import ledger_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2, manufacturer_pb2_grpc
from medtrail.api.pharmacy.v1 import pharmacy_pb2, pharmacy_pb2_grpc
from medtrail.api.recall.v1 import recall_pb2, recall_pb2_grpc
from medtrail.gs1.keys import RESOLVER
from medtrail.simulation.acts import Act, Verb, gtin_of, serial_of
from medtrail.simulation.network import Member

SEPARATOR = "\x1d"
FMD_SUCCESS = "NMVS_SUCCESS"


class Stubs:
    """Everything that a party can ask of its own service and of the ledger."""

    def __init__(self, own: grpc.aio.Channel, ledger: grpc.aio.Channel) -> None:
        self.custody = custody_pb2_grpc.CustodyServiceStub(own)
        self.manufacturer = manufacturer_pb2_grpc.ManufacturerServiceStub(own)
        self.distributor = distributor_pb2_grpc.DistributorServiceStub(own)
        self.pharmacy = pharmacy_pb2_grpc.PharmacyServiceStub(own)
        self.recall = recall_pb2_grpc.RecallServiceStub(own)
        self.fmd = fmd_pb2_grpc.FmdServiceStub(own)
        self.exceptions = exceptions_pb2_grpc.ExceptionServiceStub(own)
        self.ledger = ledger_pb2_grpc.LedgerServiceStub(ledger)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered: the events made, and a code where it did not do what was asked."""

    event_ids: tuple[str, ...] = ()
    code: str = ""


Call = Callable[[Stubs, Act, str], Awaitable[Answer]]

_REASON_OF = {
    "decommissioned": custody_pb2.DECOMMISSION_REASON_DECOMMISSIONED,
    "destroyed": custody_pb2.DECOMMISSION_REASON_DESTROYED,
    "stolen": custody_pb2.DECOMMISSION_REASON_STOLEN,
    "lost": custody_pb2.DECOMMISSION_REASON_LOST,
    "damaged": custody_pb2.DECOMMISSION_REASON_DAMAGED,
    "sampled": custody_pb2.DECOMMISSION_REASON_SAMPLED,
    "exported": custody_pb2.DECOMMISSION_REASON_EXPORTED,
}


def link(unit: str) -> str:
    """Return a unit as Digital Link."""
    return RESOLVER + unit


def links(units: tuple[str, ...]) -> list[str]:
    """Return units as Digital Links."""
    return [link(unit) for unit in units]


def label(unit: str, *, lot: str, expiry: str) -> str:
    """Return what a scanner reads off a pack: GS1 DataMatrix with its symbology identifier."""
    day = expiry[2:].replace("-", "")
    return f"]d201{gtin_of(unit)}21{serial_of(unit)}{SEPARATOR}17{day}10{lot}"


def _made(answer: Any) -> Answer:  # noqa: ANN401 - any answer with events
    return Answer(tuple(event.event_id for event in answer.events))


class Calls:
    """Makes calls for one simulation.

    Args:
        start: Second 0; aware UTC.
        members: The parties' numbers by name.
    """

    def __init__(self, start: datetime, members: dict[str, Member]) -> None:
        self._start = start
        self._members = members
        self._calls: dict[Verb, Call] = {
            Verb.COMMISSION: self._commission,
            Verb.PACK: self._pack,
            Verb.UNPACK: self._unpack,
            Verb.SHIP: self._ship,
            Verb.RECEIVE: self._receive,
            Verb.SEND_BACK: self._send_back,
            Verb.ACCEPT_RETURN: self._accept_return,
            Verb.HOLD: self._hold,
            Verb.RELEASE: self._release,
            Verb.DISPENSE: self._dispense,
            Verb.END: self._end,
            Verb.RECALL: self._recall,
            Verb.UNDO: self._undo,
        }

    def moment(self, at: int) -> datetime:
        """Return the moment of a second since the start."""
        return self._start + timedelta(seconds=at)

    async def make(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        """Tell a service of an act.

        Raises:
            MedtrailError: It refuses, or cannot be reached.
        """
        return await self._calls[act.verb](stubs, act, request_id)

    def _occasion(self, act: Act) -> custody_pb2.Occasion:
        return custody_pb2.Occasion(event_time=codec.to_timestamp(self.moment(act.at)))

    async def _commission(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = manufacturer_pb2.CommissionRequest(request_id=request_id, occasion=self._occasion(act))
        if act.lot:
            request.gtin, request.lot, request.expiry = gtin_of(act.units[0]), act.lot, act.expiry
            request.serials.extend(serial_of(unit) for unit in act.units)
        else:
            request.ssccs.extend(unit.split("/")[2] for unit in act.units)
        return _made(await stubs.manufacturer.Commission(request))

    async def _pack(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.PackRequest(
            request_id=request_id, parent=link(act.parent), children=links(act.units), occasion=self._occasion(act)
        )
        return _made(await stubs.custody.Pack(request))

    async def _unpack(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.UnpackRequest(
            request_id=request_id, parent=link(act.parent), children=links(act.units), occasion=self._occasion(act)
        )
        return _made(await stubs.custody.Unpack(request))

    async def _ship(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        to = self._members[act.to]
        request = custody_pb2.ShipRequest(
            request_id=request_id,
            epcs=links(act.units),
            destination_party=to.gln,
            destination_location=to.location,
            occasion=self._occasion(act),
        )
        return _made(await stubs.custody.Ship(request))

    async def _receive(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.ReceiveRequest(request_id=request_id, epcs=links(act.units), occasion=self._occasion(act))
        return _made(await stubs.custody.Receive(request))

    async def _send_back(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        to = self._members[act.to]
        request = custody_pb2.ReturnRequest(
            request_id=request_id,
            epcs=links(act.units),
            destination_party=to.gln,
            destination_location=to.location,
            reason=act.reason,
            occasion=self._occasion(act),
        )
        return _made(await stubs.custody.Return(request))

    async def _accept_return(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = distributor_pb2.AcceptReturnRequest(
            request_id=request_id,
            scan=label(act.units[0], lot=act.lot, expiry=act.expiry),
            occasion=self._occasion(act),
        )
        return _made(await stubs.distributor.AcceptReturn(request))

    async def _hold(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.HoldRequest(
            request_id=request_id, epcs=links(act.units), reason=act.reason, occasion=self._occasion(act)
        )
        return _made(await stubs.custody.Hold(request))

    async def _release(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.ReleaseRequest(
            request_id=request_id, epcs=links(act.units), reason=act.reason, occasion=self._occasion(act)
        )
        return _made(await stubs.custody.Release(request))

    async def _dispense(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = pharmacy_pb2.DispenseRequest(
            request_id=request_id,
            epcs=links(act.units),
            partial=act.details.get("part") == "yes",
            occasion=self._occasion(act),
        )
        return _made(await stubs.pharmacy.Dispense(request))

    async def _end(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.DecommissionRequest(
            request_id=request_id,
            epcs=links(act.units),
            reason=_REASON_OF[act.reason],
            occasion=self._occasion(act),
        )
        return _made(await stubs.custody.Decommission(request))

    async def _recall(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        scope = payload_pb2.RecallScope(
            gtin=act.details["gtin"], lot=act.lot, serials=[serial_of(unit) for unit in act.units]
        )
        recall = payload_pb2.Recall(
            number=act.reason,
            recall_class="II",
            depth="consumer",
            reason="Particles in the solution.",
            instruction="Return it to your supplier.",
            start_time=codec.to_timestamp(self.moment(act.at)),
            scopes=[scope],
        )
        answer = await stubs.recall.IssueRecall(recall_pb2.IssueRecallRequest(request_id=request_id, recall=recall))
        return Answer((answer.event.event_id,))

    async def _undo(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = fmd_pb2.UndoRequest(
            request_id=request_id,
            scan=label(act.units[0], lot=act.lot, expiry=act.expiry),
            not_supplied=True,
            reason=act.reason,
        )
        answer = await stubs.fmd.Undo(request)
        made = tuple(event.event_id for event in answer.events)
        return Answer(made, "" if answer.answer.code == FMD_SUCCESS else answer.answer.code)
