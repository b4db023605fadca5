"""ReceivingService: from messages to deliveries and back. Rules stand elsewhere."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial

from sqlalchemy import ColumnElement, Connection, and_
from sqlmodel import col

from medtrail.api.custody.v1 import custody_pb2
from medtrail.api.receiving.v1 import receiving_pb2, receiving_pb2_grpc
from medtrail.claims import MAX_AHEAD
from medtrail.codec import from_timestamp
from medtrail.errors import MalformedError, TooLargeError, VerificationError
from medtrail.gs1 import Sgtin
from medtrail.gs1.elements import MAX_TEXT
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from medtrail.verdict import Verdict
from services.custody import holdings_store
from services.custody.desk import Session
from services.custody.events import Occasion
from services.custody.messages import accepted_to_message
from services.custody.office import MAX_UNITS, Office
from services.custody.receiving import (
    closing,
    concealed,
    deliveries,
    deliveries_store,
    inference,
    lines_store,
    scanning,
)
from services.custody.receiving.codes import FOUND, Condition, ResultCode
from services.custody.receiving.deliveries_store import Delivery
from services.custody.receiving.labels import read_label
from services.custody.receiving.messages import (
    CODE_FROM_MESSAGE,
    CONDITION_FROM_MESSAGE,
    STATE_FROM_MESSAGE,
    counts_to_message,
    delivery_to_message,
    line_to_message,
    outcome_to_message,
    scan_to_message,
)
from services.custody.receiving.reconcile import Label
from services.custody.receiving.sampling import permille_of
from services.custody.receiving.scanning import NewScan
from services.custody.receiving.tables import DeliveryLine
from services.custody.scan import in_order
from services.custody.units import Unit
from services.custody.verdicts import Seen, unreadable

MAX_STATION = 64


@dataclass(frozen=True, slots=True)
class _Judged:
    """A scan that was read and judged, and is not recorded yet."""

    request: receiving_pb2.ScanDeliveryRequest
    scan: NewScan


class ReceivingServicer(receiving_pb2_grpc.ReceivingServiceServicer):
    """Deliveries of one organisation."""

    def __init__(self, office: Office, *, sample_share: float) -> None:
        """Serve an office.

        Args:
            office: Whose.
            sample_share: Share of a sealed container's packs to be scanned where a request does not say.
        """
        self._office = office
        self._sample_share = sample_share

    async def OpenDelivery(
        self, request: receiving_pb2.OpenDeliveryRequest, context: Context
    ) -> receiving_pb2.OpenDeliveryResponse:
        """Begin a delivery."""
        location = self._office.occasion(custody_pb2.Occasion(location=request.location)).location
        share = request.sample_share if request.HasField("sample_share") else self._sample_share
        if not 0 <= share <= 1:
            message = f"expected a share from 0 to 1, got {share}"
            raise MalformedError(message, code="SAMPLE_SHARE", field="sample_share")

        def work(session: Session) -> receiving_pb2.OpenDeliveryResponse:
            delivery = deliveries.open_delivery(
                session.connection,
                session.desk,
                list(request.despatch_event_ids),
                location=location,
                sample_permille=permille_of(share),
            )
            return receiving_pb2.OpenDeliveryResponse(delivery=delivery_to_message(session.connection, delivery))

        return await self._office.write(request, receiving_pb2.OpenDeliveryResponse, work)

    # --- scanning ---

    async def ScanDelivery(
        self, request_iterator: AsyncIterator[receiving_pb2.ScanDeliveryRequest], context: Context
    ) -> AsyncIterator[receiving_pb2.ScanDeliveryResponse]:
        """Record scans as they come: judged several at a time, recorded and answered in their order."""
        async for judged in in_order(request_iterator, self._judge):
            # The answer leaves after the commit: whoever has it finds the scan again, whatever dies.
            yield await self._office.database.write(partial(self._record, judged=judged))

    async def _judge(self, request: receiving_pb2.ScanDeliveryRequest) -> _Judged:
        office = self._office
        _check_scan(request)
        now = office.desk.clock()
        moment = now
        if request.HasField("scan_time"):
            moment = from_timestamp(request.scan_time, field="scan_time").astimezone(UTC)
        if moment > now + MAX_AHEAD:
            message = f"dated {moment.isoformat()}, more than 5 minutes ahead of {now.isoformat()}"
            raise VerificationError(message, code="EVENT_IN_FUTURE", field="scan_time")
        condition = CONDITION_FROM_MESSAGE[request.condition]
        label, verdict = await self._read(request.scan, moment, condition)
        scan = NewScan(
            station=request.station,
            scan_number=request.scan_number,
            text=request.scan,
            time=moment,
            label=label,
            taken_from=_container(request.container, today=moment.date()),
            condition=condition,
            verdict=verdict,
            request_sha256=hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
        )
        return _Judged(request, scan)

    async def _read(self, text: str, moment: datetime, condition: Condition) -> tuple[Label | None, Verdict | None]:
        if condition is Condition.LABEL_UNREADABLE:
            return None, None
        try:
            label = read_label(text, today=moment.date())
        except MalformedError as error:
            return None, unreadable(error, judge_time=moment)
        seen = await self._seen(label)
        if seen is None:
            return label, None
        return label, await self._office.scanner.judge_seen(seen, moment)

    async def _seen(self, label: Label) -> Seen | None:
        """Return what a pack's label says; where it leaves out lot or expiry, the books' word stands for it."""
        unit = label.unit
        if not isinstance(unit, Sgtin):
            return None
        if label.lot and label.expiry is not None:
            return Seen(unit, label.lot, label.expiry)
        holding = await self._office.database.read(partial(holdings_store.get_path, path=unit.path))
        lot = label.lot or ("" if holding is None else holding.lot)
        expiry = label.expiry or (None if holding is None else holding.expiry)
        return Seen(unit, lot, expiry) if lot and expiry is not None else None

    def _record(self, connection: Connection, judged: _Judged) -> receiving_pb2.ScanDeliveryResponse:
        request, scan = judged.request, judged.scan
        delivery = deliveries_store.get(connection, request.delivery_id)
        before = deliveries_store.answered(
            connection,
            delivery.number,
            station=scan.station,
            scan_number=scan.scan_number,
            request_sha256=scan.request_sha256,
        )
        if before is not None:
            again = receiving_pb2.ScanDeliveryResponse.FromString(before)
            again.resend = True
            return again
        outcome = scanning.record_scan(connection, self._office.desk, delivery, scan)
        answer = outcome_to_message(outcome, scan.verdict, scan_number=scan.scan_number)
        kept = answer.SerializeToString(deterministic=True)
        deliveries_store.keep_answer(connection, delivery.number, outcome.number, kept)
        return answer

    async def UndoScan(
        self, request: receiving_pb2.UndoScanRequest, context: Context
    ) -> receiving_pb2.UndoScanResponse:
        """Take a scan back."""

        def work(session: Session) -> receiving_pb2.UndoScanResponse:
            delivery = deliveries_store.get(session.connection, request.delivery_id)
            counts = scanning.undo_scan(session.connection, delivery, request.delivery_scan_number)
            return receiving_pb2.UndoScanResponse(counts=counts_to_message(counts))

        return await self._office.write(request, receiving_pb2.UndoScanResponse, work)

    # --- looking ---

    async def GetDelivery(
        self, request: receiving_pb2.GetDeliveryRequest, context: Context
    ) -> receiving_pb2.GetDeliveryResponse:
        """Return how far a delivery is."""

        def look(connection: Connection) -> receiving_pb2.GetDeliveryResponse:
            delivery = deliveries_store.get(connection, request.delivery_id)
            return receiving_pb2.GetDeliveryResponse(delivery=delivery_to_message(connection, delivery))

        return await self._office.database.read(look)

    async def ListDeliveryUnits(
        self, request: receiving_pb2.ListDeliveryUnitsRequest, context: Context
    ) -> receiving_pb2.ListDeliveryUnitsResponse:
        """List the units of a delivery in order of their Digital Links."""
        size = page_size(request.page_size, at_most=1000)
        method, caller = "ListDeliveryUnits", caller_of(context).organisation.gln
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        after = "" if position is None else str(position[0])

        def look(connection: Connection) -> list[receiving_pb2.DeliveryUnit]:
            delivery = deliveries_store.get(connection, request.delivery_id)
            where = and_(_wanted(request, delivery.number), col(DeliveryLine.path) > after)
            found = lines_store.find(connection, where, limit=size + 1)
            paths.extend(line.path for line in found)
            return [line_to_message(line) for line in found[:size]]

        paths: list[str] = []
        units = await self._office.database.read(look)
        token = ""
        if len(paths) > size:
            token = self._office.tokens.issue((paths[size - 1],), caller=caller, method=method, request=request)
        return receiving_pb2.ListDeliveryUnitsResponse(units=units, next_page_token=token)

    async def ListDeliveryScans(
        self, request: receiving_pb2.ListDeliveryScansRequest, context: Context
    ) -> receiving_pb2.ListDeliveryScansResponse:
        """List the scans of a delivery in order."""
        size = page_size(request.page_size, at_most=1000)
        method, caller = "ListDeliveryScans", caller_of(context).organisation.gln
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        after = 0 if position is None else int(position[0])

        def look(connection: Connection) -> list[receiving_pb2.DeliveryScan]:
            delivery = deliveries_store.get(connection, request.delivery_id)
            found = deliveries_store.scans_after(connection, delivery.number, after=after, limit=size + 1)
            return [scan_to_message(record) for record in found]

        scans = await self._office.database.read(look)
        token = ""
        if len(scans) > size:
            scans = scans[:size]
            last = scans[-1].delivery_scan_number
            token = self._office.tokens.issue((last,), caller=caller, method=method, request=request)
        return receiving_pb2.ListDeliveryScansResponse(scans=scans, next_page_token=token)

    async def ListDeliveries(
        self, request: receiving_pb2.ListDeliveriesRequest, context: Context
    ) -> receiving_pb2.ListDeliveriesResponse:
        """List deliveries, newest first."""
        size = page_size(request.page_size, at_most=500)
        method, caller = "ListDeliveries", caller_of(context).organisation.gln
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        before = None if position is None else int(position[0])
        if request.state and request.state not in STATE_FROM_MESSAGE:
            message = f"unknown state {request.state}"
            raise MalformedError(message, code="STATE_UNKNOWN", field="state")
        state = STATE_FROM_MESSAGE.get(request.state)

        def look(connection: Connection) -> list[receiving_pb2.Delivery]:
            found = deliveries_store.listed(
                connection, state=state, despatch_id=request.despatch_event_id, before=before, limit=size + 1
            )
            numbers.extend(item.number for item in found)
            return [delivery_to_message(connection, item) for item in found[:size]]

        numbers: list[int] = []
        deliveries_found = await self._office.database.read(look)
        token = ""
        if len(numbers) > size:
            token = self._office.tokens.issue((numbers[size - 1],), caller=caller, method=method, request=request)
        return receiving_pb2.ListDeliveriesResponse(deliveries=deliveries_found, next_page_token=token)

    # --- ending ---

    async def CloseDelivery(
        self, request: receiving_pb2.CloseDeliveryRequest, context: Context
    ) -> receiving_pb2.CloseDeliveryResponse:
        """End a delivery."""
        occasion = self._office.occasion(request.occasion)

        def work(session: Session) -> receiving_pb2.CloseDeliveryResponse:
            delivery = deliveries_store.get(session.connection, request.delivery_id)
            here = _at_delivery(request.occasion, occasion, delivery)
            closed = closing.close_delivery(session, delivery, here, samples_missing=request.samples_missing)
            return receiving_pb2.CloseDeliveryResponse(
                events=[accepted_to_message(item) for item in closed.accepted],
                delivery=delivery_to_message(session.connection, closed.delivery),
                case_ids=closed.case_ids,
                receiving_advices=closed.advices,
            )

        return await self._office.write(request, receiving_pb2.CloseDeliveryResponse, work)

    async def ReopenDelivery(
        self, request: receiving_pb2.ReopenDeliveryRequest, context: Context
    ) -> receiving_pb2.ReopenDeliveryResponse:
        """Open a closed delivery again for some of its units."""
        units = self._office.units(request.epcs, field="epcs")

        def work(session: Session) -> receiving_pb2.ReopenDeliveryResponse:
            delivery = deliveries_store.get(session.connection, request.delivery_id)
            reopened = deliveries.reopen(session.connection, delivery, units)
            return receiving_pb2.ReopenDeliveryResponse(delivery=delivery_to_message(session.connection, reopened))

        return await self._office.write(request, receiving_pb2.ReopenDeliveryResponse, work)

    async def ReportConcealed(
        self, request: receiving_pb2.ReportConcealedRequest, context: Context
    ) -> receiving_pb2.ReportConcealedResponse:
        """Tell what was found wrong after the closing."""
        office = self._office
        occasion = office.occasion(request.occasion)
        shortages = office.units(request.shortage_epcs, field="shortage_epcs") if request.shortage_epcs else ()
        labels = _labels(request.overage_scans, today=occasion.time.date())
        if not shortages and not labels:
            message = "name at least one pack that is missing or found"
            raise MalformedError(message, code="FIELD_MISSING", field="shortage_epcs")

        def work(session: Session) -> receiving_pb2.ReportConcealedResponse:
            delivery = deliveries_store.get(session.connection, request.delivery_id)
            here = _at_delivery(request.occasion, occasion, delivery)
            short = concealed.report_shortages(session, delivery, shortages)
            over = concealed.report_overages(session, delivery, labels, here)
            return receiving_pb2.ReportConcealedResponse(
                events=[accepted_to_message(item) for item in (*short.accepted, *over.accepted)],
                delivery=delivery_to_message(session.connection, delivery),
                case_ids=[*short.case_ids, *over.case_ids],
            )

        units = (*(named.unit for named in shortages), *(label.unit for label, _ in labels))
        return await office.write(request, receiving_pb2.ReportConcealedResponse, work, units=units)


def _check_scan(request: receiving_pb2.ScanDeliveryRequest) -> None:
    if not 1 <= len(request.station) <= MAX_STATION or not request.station.isprintable():
        message = f"expected 1 to {MAX_STATION} printable characters"
        raise MalformedError(message, code="TEXT_MALFORMED", field="station")
    if len(request.scan) > MAX_TEXT:
        message = f"expected at most {MAX_TEXT} characters, got {len(request.scan)}"
        raise TooLargeError(message, code="SCAN_TOO_LONG", field="scan")
    if not 1 <= request.scan_number < 2**63:
        message = "stations number their scans from 1"
        raise MalformedError(message, code="SCAN_NUMBER", field="scan_number")
    if request.condition not in CONDITION_FROM_MESSAGE:
        message = f"unknown condition {request.condition}"
        raise MalformedError(message, code="CONDITION_UNKNOWN", field="condition")


def _container(text: str, *, today: date) -> Unit | None:
    if not text:
        return None
    try:
        return read_label(text, today=today).unit
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="container") from error


def _labels(texts: Sequence[str], *, today: date) -> tuple[tuple[Label, str], ...]:
    if len(texts) > MAX_UNITS:
        message = f"expected at most {MAX_UNITS} scans, got {len(texts)}"
        raise TooLargeError(message, code="TOO_MANY_UNITS", field="overage_scans")
    found: dict[Unit, tuple[Label, str]] = {}
    for number, text in enumerate(texts):
        field = f"overage_scans[{number}]"
        try:
            label = read_label(text, today=today)
        except MalformedError as error:
            raise MalformedError(error.message, code=error.code, field=field) from error
        if label.unit in found:
            message = f"{label.unit.path} is named twice"
            raise MalformedError(message, code="UNIT_TWICE", field=field)
        found[label.unit] = (label, field)
    return tuple(found.values())


def _at_delivery(message: custody_pb2.Occasion, occasion: Occasion, delivery: Delivery) -> Occasion:
    if message.location and occasion.location != delivery.location:
        text = f"the delivery is at {delivery.location}, not at {occasion.location}"
        raise MalformedError(text, code="LOCATION_NOT_DELIVERY", field="occasion.location")
    return replace(occasion, location=delivery.location)


_FOUND_WORDS = [code.value for code in FOUND]
_MISSING_WORDS = ["", ResultCode.UNDER.value]
_LEAF = col(DeliveryLine.leaf)
_RESULT = col(DeliveryLine.result)

_FILTERS: dict[int, Callable[[int], ColumnElement[bool]]] = {
    receiving_pb2.DELIVERY_UNIT_FILTER_UNSPECIFIED: lines_store.of_delivery,
    receiving_pb2.DELIVERY_UNIT_FILTER_EXPECTED: lambda number: and_(
        lines_store.of_delivery(number), col(DeliveryLine.expected)
    ),
    receiving_pb2.DELIVERY_UNIT_FILTER_SCANNED: lambda number: and_(
        lines_store.of_delivery(number), col(DeliveryLine.scan) > 0
    ),
    receiving_pb2.DELIVERY_UNIT_FILTER_MISSING: lambda number: and_(
        lines_store.of_delivery(number), _LEAF, _RESULT.in_(_MISSING_WORDS)
    ),
    receiving_pb2.DELIVERY_UNIT_FILTER_EXCEPTED: lambda number: and_(
        lines_store.of_delivery(number), _LEAF, _RESULT.not_in([*_FOUND_WORDS, *_MISSING_WORDS])
    ),
    receiving_pb2.DELIVERY_UNIT_FILTER_SAMPLE: inference.wanted_sample,
}


def _wanted(request: receiving_pb2.ListDeliveryUnitsRequest, number: int) -> ColumnElement[bool]:
    if request.filter not in _FILTERS:
        message = f"unknown filter {request.filter}"
        raise MalformedError(message, code="FILTER_UNKNOWN", field="filter")
    where = _FILTERS[request.filter](number)
    if not request.codes:
        return where
    words = []
    for code in request.codes:
        if code not in CODE_FROM_MESSAGE:
            message = f"unknown code {code}"
            raise MalformedError(message, code="CODE_UNKNOWN", field="codes")
        words.append(CODE_FROM_MESSAGE[code].value)
    return and_(where, _RESULT.in_(words))


def receiving_binding(office: Office, *, sample_share: float) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.receiving.v1.ReceivingService",
        receiving_pb2_grpc.add_ReceivingServiceServicer_to_server,
        ReceivingServicer(office, sample_share=sample_share),
    )
