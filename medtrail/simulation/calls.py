"""From an act to the call that tells a party's own service of it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc.aio

from medtrail import codec
from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.api.distributor.v1 import distributor_pb2, distributor_pb2_grpc
from medtrail.api.event.v1 import payload_pb2
from medtrail.api.exceptions.v1 import exceptions_pb2_grpc
from medtrail.api.holds.v1 import holds_pb2_grpc
from medtrail.api.ledger.v1 import ledger_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2, manufacturer_pb2_grpc
from medtrail.api.orders.v1 import orders_pb2_grpc
from medtrail.api.pharmacy.v1 import pharmacy_pb2, pharmacy_pb2_grpc
from medtrail.api.recall.v1 import recall_pb2, recall_pb2_grpc
from medtrail.api.receiving.v1 import receiving_pb2, receiving_pb2_grpc
from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.epcis.model import EpcisEvent
from medtrail.gs1.keys import RESOLVER
from medtrail.simulation import captures
from medtrail.simulation.acts import Act, Verb, gtin_of, is_trade_item, serial_of
from medtrail.simulation.network import OUTSIDER_GLN, Member

SEPARATOR = "\x1d"


class Stubs:
    """Everything that a party can ask of its own service and of the ledger."""

    def __init__(self, own: grpc.aio.Channel, ledger: grpc.aio.Channel) -> None:
        self.custody = custody_pb2_grpc.CustodyServiceStub(own)
        self.manufacturer = manufacturer_pb2_grpc.ManufacturerServiceStub(own)
        self.distributor = distributor_pb2_grpc.DistributorServiceStub(own)
        self.pharmacy = pharmacy_pb2_grpc.PharmacyServiceStub(own)
        self.recall = recall_pb2_grpc.RecallServiceStub(own)
        self.exceptions = exceptions_pb2_grpc.ExceptionServiceStub(own)
        self.receiving = receiving_pb2_grpc.ReceivingServiceStub(own)
        self.orders = orders_pb2_grpc.OrderServiceStub(own)
        self.holds = holds_pb2_grpc.HoldServiceStub(own)
        self.persons: dict[str, holds_pb2_grpc.HoldServiceAsyncStub] = {}
        self.stations: dict[str, station_pb2_grpc.StationDeskServiceAsyncStub] = {}
        self.ledger = ledger_pb2_grpc.LedgerServiceStub(ledger)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered.

    Attributes:
        event_ids: Of the events made.
        code: Why it did not do what was asked, or what scans showed; may be empty.
        made_id: Of what it made beside events: a delivery, an order, a case.
    """

    event_ids: tuple[str, ...] = ()
    code: str = ""
    made_id: str = ""


Call = Callable[[Stubs, Act, str], Awaitable[Answer]]

MOST_SCANS = 1000
PAUSE_S = 0.5
AGAIN = MOST_SCANS * 2**40
_CONDITION_OF = {
    "": receiving_pb2.UNIT_CONDITION_UNSPECIFIED,
    "damaged": receiving_pb2.UNIT_CONDITION_DAMAGED,
    "label_unreadable": receiving_pb2.UNIT_CONDITION_LABEL_UNREADABLE,
}
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


async def _each(scans: Sequence[receiving_pb2.ScanDeliveryRequest]) -> AsyncIterator[receiving_pb2.ScanDeliveryRequest]:
    for scan in scans:
        yield scan


def order_number(name: str) -> str:
    """Return the number of the order that an act named; empty for none."""
    return name.replace("/", "-")


def made(answer: Any, made_id: str = "") -> Answer:  # noqa: ANN401 - any answer with events
    """Return what a service answered that made events, and perhaps a thing beside them."""
    return Answer(tuple(event.event_id for event in answer.events), made_id=made_id)


class Calls:
    """Makes calls for one simulation.

    Args:
        start: Second 0; aware UTC.
        members: The parties' numbers by name.

    Attributes:
        answers: What was answered to each act that has a name.
    """

    def __init__(self, start: datetime, members: dict[str, Member]) -> None:
        self._start = start
        self.members = members
        self.answers: dict[str, Answer] = {}
        self._calls: dict[Verb, Call] = {
            Verb.COMMISSION: self._commission,
            Verb.PACK: self._pack,
            Verb.UNPACK: self._unpack,
            Verb.SHIP: self._ship,
            Verb.RECEIVE: self._receive,
            Verb.OPEN_DELIVERY: self._open_delivery,
            Verb.SCAN_DELIVERY: self._scan_delivery,
            Verb.CLOSE_DELIVERY: self._close_delivery,
            Verb.SEND_BACK: self._send_back,
            Verb.ACCEPT_RETURN: self._accept_return,
            Verb.HOLD: self._hold,
            Verb.DISPENSE: self._dispense,
            Verb.DISPENSE_ALONE: self._dispense_alone,
            Verb.END: self._end,
            Verb.RECALL: self._recall,
            Verb.UNDO: self._undo,
            Verb.DECLARE_ERROR: self._declare,
            Verb.WITNESS: self._witness,
            Verb.SENSE: self._sense,
            Verb.COPY: self._copy,
        }

    def learn(self, calls: Mapping[Verb, Call]) -> None:
        """Take in how further verbs are called."""
        self._calls.update(calls)

    def moment(self, at: int) -> datetime:
        """Return the moment of a second since the start."""
        return self._start + timedelta(seconds=at)

    async def make(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        """Tell a service of an act.

        Raises:
            MedtrailError: It refuses, or cannot be reached.
        """
        answer = await self._calls[act.verb](stubs, act, request_id)
        if act.name:
            self.answers[act.name] = answer
        return answer

    def answer(self, name: str) -> Answer:
        """Return what was answered to an earlier act; of one that was refused, an empty answer."""
        return self.answers.get(name, Answer())

    def occasion(self, act: Act) -> custody_pb2.Occasion:
        """Return when an act was done, for a request."""
        moment = codec.to_timestamp(self.moment(act.at))
        return custody_pb2.Occasion(event_time=moment, event_time_zone_offset=act.details.get("offset", ""))

    async def _commission(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = manufacturer_pb2.CommissionRequest(request_id=request_id, occasion=self.occasion(act))
        if act.lot:
            request.gtin, request.lot, request.expiry = gtin_of(act.units[0]), act.lot, act.expiry
            request.serials.extend(serial_of(unit) for unit in act.units)
        else:
            request.ssccs.extend(unit.split("/")[2] for unit in act.units)
        return made(await stubs.manufacturer.Commission(request))

    async def _pack(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.PackRequest(
            request_id=request_id, parent=link(act.parent), children=links(act.units), occasion=self.occasion(act)
        )
        return made(await stubs.custody.Pack(request))

    async def _unpack(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.UnpackRequest(
            request_id=request_id, parent=link(act.parent), children=links(act.units), occasion=self.occasion(act)
        )
        return made(await stubs.custody.Unpack(request))

    async def _ship(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        to = self.members.get(act.to)
        request = custody_pb2.ShipRequest(
            request_id=request_id,
            epcs=links(act.units),
            destination_party=OUTSIDER_GLN if to is None else to.gln,
            destination_location="" if to is None else to.location,
            purchase_order=order_number(act.of),
            occasion=self.occasion(act),
        )
        return made(await stubs.custody.Ship(request))

    async def _receive(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.ReceiveRequest(request_id=request_id, epcs=links(act.units), occasion=self.occasion(act))
        return made(await stubs.custody.Receive(request))

    async def _open_delivery(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = receiving_pb2.OpenDeliveryRequest(
            request_id=request_id,
            despatch_event_ids=[event for name in act.of.split() for event in self.answer(name).event_ids],
        )
        if "share" in act.details:
            request.sample_share = float(act.details["share"])
        answer = await stubs.receiving.OpenDelivery(request)
        return Answer(made_id=answer.delivery.delivery_id)

    async def _scan_delivery(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        # Scans are told again under the same numbers: they follow from the act, as its request id does.
        first = uuid.UUID(request_id).int % 2**40 * MOST_SCANS
        waiting = [self._scan(act, unit, first + number) for number, unit in enumerate(act.units)]
        shown: dict[str, str] = {}
        while waiting:
            again = []
            scans = {scan.scan_number: scan for scan in waiting}
            async for answer in stubs.receiving.ScanDelivery(_each(waiting)):
                scan = scans[answer.scan_number]
                shown[scan.scan] = receiving_pb2.ReconciliationCode.Name(answer.code)
                if answer.code == receiving_pb2.RECONCILIATION_CODE_OVER and not answer.verdict.tree_size:
                    again.append((scan, answer.delivery_scan_number))
            waiting = [await self._taken_back(stubs, scan, number) for scan, number in again]
        return Answer(code=" ".join(code.removeprefix("RECONCILIATION_CODE_") for code in shown.values()))

    def _scan(self, act: Act, unit: str, number: int) -> receiving_pb2.ScanDeliveryRequest:
        read = label(unit, lot=act.lot, expiry=act.expiry) if act.lot and is_trade_item(unit) else link(unit)
        return receiving_pb2.ScanDeliveryRequest(
            delivery_id=self.answer(act.of).made_id,
            station="bay",
            scan_number=number,
            scan=read,
            container=link(act.parent) if act.parent else "",
            condition=_CONDITION_OF[act.details.get("condition", "")],
            scan_time=codec.to_timestamp(self.moment(act.at)),
        )

    async def _taken_back(
        self, stubs: Stubs, scan: receiving_pb2.ScanDeliveryRequest, number: int
    ) -> receiving_pb2.ScanDeliveryRequest:
        """Take a scan back that the ledger was not asked about, as it was away; return it to be made once more."""
        request_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{scan.delivery_id}/{scan.scan_number}"))
        undo = receiving_pb2.UndoScanRequest(
            request_id=request_id, delivery_id=scan.delivery_id, delivery_scan_number=number
        )
        await stubs.receiving.UndoScan(undo)
        await asyncio.sleep(PAUSE_S)
        again = receiving_pb2.ScanDeliveryRequest()
        again.CopyFrom(scan)
        again.scan_number += AGAIN
        return again

    async def _close_delivery(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = receiving_pb2.CloseDeliveryRequest(
            request_id=request_id,
            delivery_id=self.answer(act.of).made_id,
            occasion=self.occasion(act),
            samples_missing=act.details.get("samples") == "missing",
        )
        return made(await stubs.receiving.CloseDelivery(request))

    async def _send_back(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        to = self.members[act.to]
        request = custody_pb2.ReturnRequest(
            request_id=request_id,
            epcs=links(act.units),
            destination_party=to.gln,
            destination_location=to.location,
            reason=act.reason,
            occasion=self.occasion(act),
        )
        return made(await stubs.custody.Return(request))

    async def _accept_return(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = distributor_pb2.AcceptReturnRequest(
            request_id=request_id,
            scan=label(act.units[0], lot=act.lot, expiry=act.expiry),
            occasion=self.occasion(act),
        )
        return made(await stubs.distributor.AcceptReturn(request))

    async def _hold(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.HoldRequest(
            request_id=request_id,
            epcs=links(act.units),
            reason=act.reason,
            code=custody_pb2.HoldCode.Value(f"HOLD_CODE_{act.details.get('code', 'OTHER')}"),
            occasion=self.occasion(act),
        )
        return made(await stubs.custody.Hold(request))

    async def _dispense(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = pharmacy_pb2.DispenseRequest(
            request_id=request_id,
            epcs=links(act.units),
            partial=act.details.get("part") == "yes",
            quantity=act.details.get("quantity", ""),
            quantity_uom="EA" if "quantity" in act.details else "",
            pack_size=act.details.get("of_whole", ""),
            occasion=self.occasion(act),
        )
        return made(await stubs.pharmacy.Dispense(request))

    async def _dispense_alone(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = station_pb2.DispenseRequest(request_id=request_id, epcs=links(act.units), occasion=self.occasion(act))
        await stubs.stations[act.details["station"]].Dispense(request)
        return Answer()

    async def _end(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        request = custody_pb2.DecommissionRequest(
            request_id=request_id,
            epcs=links(act.units),
            reason=_REASON_OF[act.reason],
            occasion=self.occasion(act),
        )
        return made(await stubs.custody.Decommission(request))

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
        request = custody_pb2.UndoRequest(
            request_id=request_id, epc=link(act.units[0]), reason=act.reason, not_supplied=True
        )
        return made(await stubs.custody.Undo(request))

    # --- captured as it is ---

    async def capture(
        self,
        stubs: Stubs,
        events: Sequence[EpcisEvent],
        request_id: str,
        *,
        second_hand: bool = False,
        happened: bool = False,
    ) -> Answer:
        """Capture events as they are."""
        request = custody_pb2.CaptureEventsRequest(
            request_id=request_id,
            events=[codec.epcis_to_message(event) for event in events],
            second_hand=second_hand,
            happened=happened,
        )

        async def once() -> AsyncIterator[custody_pb2.CaptureEventsRequest]:
            yield request

        answers = [answer async for answer in stubs.custody.CaptureEvents(once())]
        made = tuple(event.event_id for answer in answers for event in answer.events)
        return Answer(made, next((error.code for answer in answers for error in answer.errors), ""))

    async def _declare(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        said = self.answer(act.of).event_ids
        if not said:
            return Answer(code="NOTHING_SAID")
        event = await captures.said(stubs.ledger, said[0])
        return await self.capture(stubs, [captures.declared_error(event, self.moment(act.at))], request_id)

    async def _witness(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        event = captures.shipped(
            act.units, self.moment(act.at), sender=OUTSIDER_GLN, receiver=self.members[act.who].gln
        )
        told = [event]
        if act.details.get("file") == "makers":
            made = self.moment(act.at) - timedelta(days=30)
            maker = self.members[act.details["maker"]].location
            told.insert(0, captures.commissioned(act.units, made, lot=act.lot, expiry=act.expiry, place=maker))
        return await self.capture(stubs, told, request_id, second_hand=True)

    async def _sense(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        place = self.members[act.who].location
        event = captures.sensed(act.units, self.moment(act.at), celsius=act.details["celsius"], place=place)
        return await self.capture(stubs, [event], request_id)

    async def _copy(self, stubs: Stubs, act: Act, request_id: str) -> Answer:
        place = self.members[act.who].location
        event = captures.commissioned(act.units, self.moment(act.at), lot=act.lot, expiry=act.expiry, place=place)
        return await self.capture(stubs, [event], request_id)
