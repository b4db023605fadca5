"""StationDeskService: what the scanner and the till beside a station ask of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection

from medtrail.api.station.v1 import station_pb2, station_pb2_grpc
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import AuthorizationError, ConflictError, MalformedError, MedtrailError
from medtrail.gs1 import Sgtin
from medtrail.runtime.guard import Context
from medtrail.runtime.overdue import Waiting
from medtrail.runtime.server import Binding
from services.custody import commands, events, events_store
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion
from services.custody.messages import waiting_to_message
from services.custody.office import Office, check_reason
from services.custody.portions import hand_out, parse_wanted
from services.custody.rules import require_pack_unit
from services.custody.scan import in_order
from services.custody.station_messages import conflict_to_message
from services.custody.units import Named
from services.custody.verdicts import unreadable
from services.station import books, handover
from services.station.clock import check_clock, service_time
from services.station.handover import Fate
from services.station.scanner import Knowledge, StationScanner
from services.station.standing import check_key
from services.station.sync import Sync

MAX_UNITS = 1000
MAX_PACKS = 100
ANSWER_WAIT_S = 1.0
"""Longest that a till waits for the service's word on what it has recorded."""
SYNC_WAIT_S = 10.0
MOST_CONFLICTS = 500

R = TypeVar(
    "R",
    station_pb2.ReceiveResponse,
    station_pb2.DispenseResponse,
    station_pb2.HoldResponse,
    station_pb2.ObserveResponse,
)
Request = (
    station_pb2.ReceiveRequest | station_pb2.DispenseRequest | station_pb2.HoldRequest | station_pb2.ObserveRequest
)


@dataclass(frozen=True, slots=True)
class _Look:
    """What the database says of how the station stands."""

    waiting: Waiting
    next_seq: int
    unit_count: int
    conflicts: list[Fate]


class StationDeskServicer(station_pb2_grpc.StationDeskServiceServicer):
    """One station, for its own machine."""

    def __init__(self, office: Office, scanner: StationScanner, sync: Sync, *, station: str) -> None:
        self._office = office
        self._scanner = scanner
        self._sync = sync
        self._station = station

    # --- scans ---

    async def Scan(
        self, request_iterator: AsyncIterator[station_pb2.ScanRequest], context: Context
    ) -> AsyncIterator[station_pb2.ScanResponse]:
        """Judge scans as they come, one verdict a scan, in order."""
        async for answer in in_order(request_iterator, self._scan):
            yield answer

    async def _scan(self, request: station_pb2.ScanRequest) -> station_pb2.ScanResponse:
        try:
            moment = None
            if request.HasField("judge_time"):
                moment = from_timestamp(request.judge_time, field="judge_time")
            judged = await self._scanner.judge_scan(request.scan, moment)
        except MalformedError as error:
            # One odd request among many scans is answered like an odd scan; the stream goes on.
            verdict = unreadable(error, judge_time=service_time(self._sync.state, now=self._office.desk.clock()))
            knowledge = self._scanner.knowledge(online=self._sync.online)
            return station_pb2.ScanResponse(
                scan_number=request.scan_number,
                verdict=verdict_to_message(verdict),
                knowledge=_knowledge_to_message(knowledge),
            )
        return station_pb2.ScanResponse(
            scan_number=request.scan_number,
            verdict=verdict_to_message(judged.verdict),
            knowledge=_knowledge_to_message(judged.knowledge),
            product_name="" if judged.sgtin is None else self._product_name(judged.sgtin),
        )

    def _product_name(self, sgtin: Sgtin) -> str:
        entry = self._office.replica.products.get(sgtin.gtin)
        return "" if entry is None else entry.product.name

    # --- verbs ---

    async def Receive(self, request: station_pb2.ReceiveRequest, context: Context) -> station_pb2.ReceiveResponse:
        """Take delivery of units."""
        units = self._office.units(request.epcs, field="epcs", most=MAX_UNITS)
        occasion = self._occasion(request)

        def work(session: Session) -> station_pb2.ReceiveResponse:
            delivery = commands.receive(session, units, occasion)
            return station_pb2.ReceiveResponse(
                events=_events(delivery.accepted),
                unit_count=delivery.unit_count,
                unadvised_epcs=[unit.digital_link for unit in delivery.unadvised],
                missing_epcs=[unit.digital_link for unit in delivery.missing],
            )

        return await self._recorded(request, station_pb2.ReceiveResponse, work, units)

    async def Dispense(self, request: station_pb2.DispenseRequest, context: Context) -> station_pb2.DispenseResponse:
        """Record that packs were handed out."""
        units = self._office.units(request.epcs, field="epcs", most=MAX_PACKS)
        for named in units:
            require_pack_unit(named)
        occasion = self._occasion(request)
        wanted = parse_wanted(
            partial=request.partial,
            quantity=request.quantity,
            uom=request.quantity_uom,
            pack_size=request.pack_size,
            decommission=self._office.dispensing.decommission_at_opening,
        )

        def work(session: Session) -> station_pb2.DispenseResponse:
            return station_pb2.DispenseResponse(events=_events(hand_out(session, units, occasion, wanted).accepted))

        return await self._recorded(request, station_pb2.DispenseResponse, work, units)

    async def Hold(self, request: station_pb2.HoldRequest, context: Context) -> station_pb2.HoldResponse:
        """Put units aside."""
        units = self._office.units(request.epcs, field="epcs", most=MAX_UNITS)
        occasion = self._occasion(request)
        reason = check_reason(request.reason)

        def work(session: Session) -> station_pb2.HoldResponse:
            return station_pb2.HoldResponse(events=_events(commands.hold(session, units, occasion, reason=reason)))

        return await self._recorded(request, station_pb2.HoldResponse, work, units)

    async def Observe(self, request: station_pb2.ObserveRequest, context: Context) -> station_pb2.ObserveResponse:
        """State that units were seen here."""
        units = self._office.units(request.epcs, field="epcs", most=MAX_UNITS)
        occasion = self._occasion(request)
        fields = {named.unit: named.field for named in units}

        def work(session: Session) -> station_pb2.ObserveResponse:
            made = [
                session.record(events.observing(group, occasion), fields=fields) for group in events.split([*fields])
            ]
            return station_pb2.ObserveResponse(events=_events(made))

        return await self._recorded(request, station_pb2.ObserveResponse, work, units)

    def _occasion(self, request: Request) -> Occasion:
        self._check_may_sign()
        return replace(self._office.occasion(request.occasion), station=self._station)

    async def _recorded(
        self, request: Request, answer: type[R], work: Callable[[Session], R], units: Sequence[Named]
    ) -> R:
        """Record, wait a moment for the service's word where it is there, and tell what became of it."""
        made = await self._office.write(request, answer, work, units=[named.unit for named in units])
        fates = await self._fates([event.signed_event_sha256 for event in made.events])
        del made.events[:]
        made.events.extend(_fate_to_message(fate) for fate in fates)
        made.knowledge.CopyFrom(_knowledge_to_message(self._scanner.knowledge(online=self._sync.online)))
        return made

    async def _fates(self, hashes: Sequence[bytes]) -> list[Fate]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_WAIT_S
        while True:
            listening = self._sync.bell.listen()
            fates = await self._office.database.read(lambda connection: handover.fates(connection, hashes))
            left_s = deadline - loop.time()
            if left_s <= 0 or not self._sync.online or all(fate.answered for fate in fates):
                return fates
            await self._sync.bell.wait(timeout_s=left_s, listening=listening)

    # --- how it stands ---

    async def GetStatus(self, request: station_pb2.GetStatusRequest, context: Context) -> station_pb2.GetStatusResponse:
        """Tell how old the copy is and what waits."""
        limit = request.conflict_count or 20
        if not 1 <= limit <= MOST_CONFLICTS:
            message = f"expected 1 to {MOST_CONFLICTS}, got {limit}"
            raise MalformedError(message, code="COUNT_RANGE", field="conflict_count")
        desk = self._office.desk

        def look(connection: Connection) -> _Look:
            return _Look(
                handover.waiting(connection),
                events_store.peek_number(connection, f"source_seq/{self._station}"),
                books.count_units(connection),
                handover.list_conflicts(connection, limit=limit),
            )

        found = await self._office.database.read(look)
        error: MedtrailError | None = self._why_not_signing() or self._sync.submit_error or self._sync.follow_error
        organisation = desk.registry().organisation_of_key(desk.key.key_id)
        return station_pb2.GetStatusResponse(
            station=self._station,
            gln=str(desk.gln),
            key_id=desk.key.key_id,
            knowledge=_knowledge_to_message(self._scanner.knowledge(online=self._sync.online)),
            queued=waiting_to_message(found.waiting),
            next_source_seq=found.next_seq,
            unit_count=found.unit_count,
            conflicts=[_fate_to_message(fate) for fate in found.conflicts],
            error_code="" if error is None else error.code,
            error_message="" if error is None else error.message,
            clock_ahead_seconds=self._sync.state.ahead_s,
            enrolled=organisation is not None and organisation.gln == desk.gln,
        )

    def _check_may_sign(self) -> None:
        state, desk = self._sync.state, self._office.desk
        check_key(state, desk.registry(), key_id=desk.key.key_id, station=self._station)
        check_clock(state, now=datetime.now(UTC))

    def _why_not_signing(self) -> MedtrailError | None:
        try:
            self._check_may_sign()
        except (AuthorizationError, ConflictError) as error:
            return error
        return None

    async def Sync(self, request: station_pb2.SyncRequest, context: Context) -> station_pb2.SyncResponse:
        """Try at once to reach the service, and wait until nothing waits and the copy has what the books hold now."""
        timeout_s = request.timeout_seconds or SYNC_WAIT_S
        if not 0.1 <= timeout_s <= 60:
            message = f"expected 0.1 to 60 seconds, got {timeout_s:g}"
            raise MalformedError(message, code="TIMEOUT_RANGE", field="timeout_seconds")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self._sync.hurry()
        newest: tuple[str, int] | None = None
        while True:
            listening = self._sync.bell.listen()
            if newest is None:
                newest = await self._newest(deadline - loop.time())
            count, settled = await self._office.database.read(handover.open_count)
            known = newest is not None and self._sync.has(newest)
            complete = self._sync.online and not count and settled and known
            left_s = deadline - loop.time()
            if complete or left_s <= 0:
                knowledge = self._scanner.knowledge(online=self._sync.online)
                return station_pb2.SyncResponse(
                    queued_count=count, complete=complete, knowledge=_knowledge_to_message(knowledge)
                )
            await self._sync.bell.wait(timeout_s=left_s, listening=listening)

    async def _newest(self, timeout_s: float) -> tuple[str, int] | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._sync.newest()
        except TimeoutError:
            return None


def _events(accepted: Sequence[Accepted]) -> list[station_pb2.StationEvent]:
    return [
        station_pb2.StationEvent(
            event_id=item.event_id, signed_event_sha256=item.signed_event_sha256, source_seq=item.source_seq
        )
        for item in accepted
    ]


def _fate_to_message(fate: Fate) -> station_pb2.StationEvent:
    outcome = station_pb2.EVENT_OUTCOME_QUEUED
    if fate.answered:
        outcome = station_pb2.EVENT_OUTCOME_CONFLICT if fate.conflicts else station_pb2.EVENT_OUTCOME_APPLIED
    return station_pb2.StationEvent(
        event_id=fate.event_id,
        signed_event_sha256=fate.sha256,
        source_seq=fate.source_seq,
        outcome=outcome,
        conflicts=[conflict_to_message(item, resolved=item.case_id in fate.resolved) for item in fate.conflicts],
        event_time=to_timestamp(fate.event_time),
    )


def _knowledge_to_message(knowledge: Knowledge) -> station_pb2.Knowledge:
    made = station_pb2.Knowledge(online=knowledge.online, age_seconds=knowledge.age_s)
    if knowledge.stale_since is not None:
        made.stale_since.CopyFrom(to_timestamp(knowledge.stale_since))
    if knowledge.ledger_time is not None:
        made.ledger_time.CopyFrom(to_timestamp(knowledge.ledger_time))
    return made


def station_desk_binding(office: Office, scanner: StationScanner, sync: Sync, *, station: str) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.station.v1.StationDeskService",
        station_pb2_grpc.add_StationDeskServiceServicer_to_server,
        StationDeskServicer(office, scanner, sync, station=station),
    )
