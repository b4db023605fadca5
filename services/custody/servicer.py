"""CustodyService: from messages to commands and back. Rules stand elsewhere."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

from sqlalchemy import Connection

from medtrail.api.custody.v1 import custody_pb2, custody_pb2_grpc
from medtrail.codec.scalars import required_hash
from medtrail.codec.verdict import verdict_to_message
from medtrail.epcis.model import BizTransaction
from medtrail.errors import MalformedError, NotFoundError
from medtrail.event import ErasureOrder
from medtrail.gs1 import Gtin
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from services.custody import commands, events, holdings_store, inbound_store
from services.custody.capture_servicer import CaptureServicer
from services.custody.changes import Change, changes_after, check_cursor, newest_change
from services.custody.commands import Consignee
from services.custody.desk import Accepted, Session, known_recalls
from services.custody.holding import Holding
from services.custody.holdings_store import HoldingQuery
from services.custody.messages import (
    ENDING_FROM_MESSAGE,
    STATE_FROM_MESSAGE,
    accepted_to_message,
    alarm_to_message,
    change_to_message,
    hold_code,
    hold_codes,
    holding_to_message,
    inbound_to_message,
    incomplete_to_message,
    return_purpose,
    waiting_to_message,
)
from services.custody.office import (
    Office,
    check_number,
    check_reason,
    hold_text,
    judge_time_of,
    parse_gln,
)
from services.custody.parties import organisation_gln
from services.custody.scan import in_order
from services.custody.units import Named, Unit
from services.custody.verdicts import unreadable

WATCH_REST_S = 0.5
"""Longest time between two looks for changes."""


def _changes(connection: Connection, number: int) -> tuple[list[Change], int]:
    return changes_after(connection, number), newest_change(connection)


def _messages(accepted: Sequence[Accepted]) -> list[custody_pb2.AcceptedEvent]:
    return [accepted_to_message(item) for item in accepted]


def _units(named: Sequence[Named]) -> tuple[Unit, ...]:
    return tuple(item.unit for item in named)


class CustodyServicer(CaptureServicer):
    """The verbs that all roles share, for one organisation."""

    async def Pack(self, request: custody_pb2.PackRequest, context: Context) -> custody_pb2.PackResponse:
        """Put units into a container."""
        office = self._office
        parent = office.unit(request.parent, field="parent")
        children = office.units(request.children, field="children")
        occasion = office.occasion(request.occasion)

        def work(session: Session) -> custody_pb2.PackResponse:
            return custody_pb2.PackResponse(events=_messages(commands.pack(session, parent, children, occasion)))

        units = (parent.unit, *_units(children))
        return await office.write(request, custody_pb2.PackResponse, work, units=units)

    async def Unpack(self, request: custody_pb2.UnpackRequest, context: Context) -> custody_pb2.UnpackResponse:
        """Take units out of a container."""
        office = self._office
        parent = office.unit(request.parent, field="parent")
        children = office.units(request.children, field="children") if request.children else ()
        occasion = office.occasion(request.occasion)

        def work(session: Session) -> custody_pb2.UnpackResponse:
            return custody_pb2.UnpackResponse(events=_messages(commands.unpack(session, parent, children, occasion)))

        units = (parent.unit, *_units(children))
        return await office.write(request, custody_pb2.UnpackResponse, work, units=units)

    async def OrderErasure(
        self, request: custody_pb2.OrderErasureRequest, context: Context
    ) -> custody_pb2.OrderErasureResponse:
        """Sign the order to erase an event."""
        digest = required_hash(request.signed_event_sha256, field="signed_event_sha256")
        order = ErasureOrder(digest, check_reason(request.reason))

        def work(session: Session) -> custody_pb2.OrderErasureResponse:
            return custody_pb2.OrderErasureResponse(event=accepted_to_message(commands.order_erasure(session, order)))

        return await self._office.write(request, custody_pb2.OrderErasureResponse, work)

    async def Ship(self, request: custody_pb2.ShipRequest, context: Context) -> custody_pb2.ShipResponse:
        """Despatch units to a partner."""
        office = self._office
        units = office.units(request.epcs, field="epcs")
        consignee = _consignee(request)
        occasion = office.occasion(request.occasion)
        documents = _documents(request, consignee, office)

        def work(session: Session) -> custody_pb2.ShipResponse:
            made = commands.ship(session, units, occasion, consignee, documents)
            return custody_pb2.ShipResponse(events=_messages(made))

        return await office.write(request, custody_pb2.ShipResponse, work, units=_units(units))

    async def Return(self, request: custody_pb2.ReturnRequest, context: Context) -> custody_pb2.ReturnResponse:
        """Send units back to a partner."""
        office = self._office
        units = office.units(request.epcs, field="epcs")
        consignee = _consignee(request)
        occasion = office.occasion(request.occasion)
        reason, purpose = check_reason(request.reason), return_purpose(request.purpose, field="purpose")
        authorisation = check_number(request.return_authorisation, field="return_authorisation")

        def work(session: Session) -> custody_pb2.ReturnResponse:
            made = commands.send_back(
                session, units, occasion, consignee, reason=reason, purpose=purpose, authorisation=authorisation
            )
            return custody_pb2.ReturnResponse(events=_messages(made))

        return await office.write(request, custody_pb2.ReturnResponse, work, units=_units(units))

    async def Receive(self, request: custody_pb2.ReceiveRequest, context: Context) -> custody_pb2.ReceiveResponse:
        """Take delivery of units."""
        office = self._office
        units = office.units(request.epcs, field="epcs")
        occasion = office.occasion(request.occasion)

        def work(session: Session) -> custody_pb2.ReceiveResponse:
            delivery = commands.receive(session, units, occasion)
            return custody_pb2.ReceiveResponse(
                events=_messages(delivery.accepted),
                unit_count=delivery.unit_count,
                unadvised_epcs=[unit.digital_link for unit in delivery.unadvised],
                missing_epcs=[unit.digital_link for unit in delivery.missing],
            )

        return await office.write(request, custody_pb2.ReceiveResponse, work, units=_units(units))

    async def Hold(self, request: custody_pb2.HoldRequest, context: Context) -> custody_pb2.HoldResponse:
        """Put units aside."""
        office = self._office
        units = office.units(request.epcs, field="epcs")
        occasion = office.occasion(request.occasion)
        code = hold_code(request.code, field="code")
        reason = hold_text(request.reason, code)

        def work(session: Session) -> custody_pb2.HoldResponse:
            made = commands.hold(session, units, occasion, reason=reason, code=code)
            return custody_pb2.HoldResponse(events=_messages(made))

        return await office.write(request, custody_pb2.HoldResponse, work, units=_units(units))

    async def Release(self, request: custody_pb2.ReleaseRequest, context: Context) -> custody_pb2.ReleaseResponse:
        """End a hold."""
        office = self._office
        units = office.units(request.epcs, field="epcs")
        occasion = office.occasion(request.occasion)
        reason, codes = check_reason(request.reason), hold_codes(request.codes, field="codes")

        def work(session: Session) -> custody_pb2.ReleaseResponse:
            made = commands.release(session, units, occasion, reason=reason, codes=codes)
            return custody_pb2.ReleaseResponse(events=_messages(made))

        return await office.write(request, custody_pb2.ReleaseResponse, work, units=_units(units))

    async def Decommission(
        self, request: custody_pb2.DecommissionRequest, context: Context
    ) -> custody_pb2.DecommissionResponse:
        """End the life of units."""
        office = self._office
        units = office.units(request.epcs, field="epcs")
        occasion = office.occasion(request.occasion)
        ending = ENDING_FROM_MESSAGE.get(request.reason)
        if ending is None:
            message = "say how their life ends"
            raise MalformedError(message, code="FIELD_MISSING", field="reason")

        def work(session: Session) -> custody_pb2.DecommissionResponse:
            made = commands.end(session, units, occasion, ending)
            return custody_pb2.DecommissionResponse(events=_messages(made))

        return await office.write(request, custody_pb2.DecommissionResponse, work, units=_units(units))

    async def ListInbound(
        self, request: custody_pb2.ListInboundRequest, context: Context
    ) -> custody_pb2.ListInboundResponse:
        """List shipments that partners have advised, newest first."""
        size = page_size(request.page_size, at_most=500)
        caller = caller_of(context).organisation.gln
        method = "ListInbound"
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)

        def look(connection: Connection) -> list[custody_pb2.InboundShipment]:
            before = None if position is None else int(position[0])
            found = inbound_store.list_inbound(
                connection, before=before, limit=size + 1, include_received=request.include_received
            )
            numbers.extend(item.number for item in found)
            incomplete = inbound_store.list_incomplete(connection) if position is None else []
            return [
                *(incomplete_to_message(sender, despatch_id) for sender, despatch_id in incomplete),
                *(inbound_to_message(item) for item in found[:size]),
            ]

        numbers: list[int] = []
        shipments = await self._office.database.read(look)
        token = ""
        if len(numbers) > size:
            token = self._office.tokens.issue((numbers[size - 1],), caller=caller, method=method, request=request)
        return custody_pb2.ListInboundResponse(shipments=shipments, next_page_token=token)

    async def GetHolding(
        self, request: custody_pb2.GetHoldingRequest, context: Context
    ) -> custody_pb2.GetHoldingResponse:
        """Return what is known here of one unit."""
        named = self._office.unit(request.epc, field="epc")

        def look(connection: Connection) -> custody_pb2.Holding:
            books = holdings_store.load_books(connection, (named.unit,))
            holding = books.get(named.unit)
            if holding is None:
                message = f"{named.unit.path} is not known here"
                raise NotFoundError(message, code="UNIT_UNKNOWN", field="epc")
            recalls = known_recalls(connection, self._office.desk)
            return self._holding(holding, recalls.affecting(books, named.unit))

        return custody_pb2.GetHoldingResponse(holding=await self._office.database.read(look))

    async def ListHoldings(
        self, request: custody_pb2.ListHoldingsRequest, context: Context
    ) -> custody_pb2.ListHoldingsResponse:
        """List what is held here, in order of Digital Links."""
        size = page_size(request.page_size, at_most=1000)
        caller = caller_of(context).organisation.gln
        method = "ListHoldings"
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        query = _query(request)

        def look(connection: Connection) -> tuple[list[Holding], int, list[custody_pb2.Holding]]:
            after = "" if position is None else str(position[0])
            found, total = holdings_store.list_holdings(connection, query, after=after, limit=size + 1)
            page = found[:size]
            books = holdings_store.load_books(connection, (item.unit for item in page))
            recalls = known_recalls(connection, self._office.desk)
            return found, total, [self._holding(item, recalls.affecting(books, item.unit)) for item in page]

        found, total, holdings = await self._office.database.read(look)
        token = ""
        if len(found) > size:
            token = self._office.tokens.issue(
                (found[size - 1].unit.path,), caller=caller, method=method, request=request
            )
        return custody_pb2.ListHoldingsResponse(holdings=holdings, next_page_token=token, total_count=total)

    def _holding(self, holding: Holding, recall_ids: tuple[str, ...]) -> custody_pb2.Holding:
        return holding_to_message(holding, recall_ids, dispensing_recorded=self._office.dispensing.recorded)

    async def ScanIncoming(
        self, request_iterator: AsyncIterator[custody_pb2.ScanIncomingRequest], context: Context
    ) -> AsyncIterator[custody_pb2.ScanIncomingResponse]:
        """Judge scans as they come, one verdict a scan, in order."""
        async for answer in in_order(request_iterator, self._scan):
            yield answer

    async def _scan(self, request: custody_pb2.ScanIncomingRequest) -> custody_pb2.ScanIncomingResponse:
        scanner = self._office.scanner
        try:
            verdict = await scanner.judge(request.scan, judge_time_of(request))
        except MalformedError as error:
            # One odd request among many scans is answered like an odd scan; the stream goes on.
            verdict = unreadable(error, judge_time=self._office.desk.clock())
        return custody_pb2.ScanIncomingResponse(scan_number=request.scan_number, verdict=verdict_to_message(verdict))

    async def GetStatus(self, request: custody_pb2.GetStatusRequest, context: Context) -> custody_pb2.GetStatusResponse:
        """Tell what waits, and what a person should look at."""
        waiting, alarms = await self._office.watch.look()
        head = self._office.replica.checkpoint
        return custody_pb2.GetStatusResponse(
            events=waiting_to_message(waiting.events),
            messages=waiting_to_message(waiting.messages),
            unproven_receipts=waiting_to_message(waiting.unproven),
            unwitnessed_receipts=waiting_to_message(waiting.unwitnessed),
            tree_size=0 if head is None else head.checkpoint.size,
            witnessed_size=self._office.replica.witnessed_size,
            alarms=[alarm_to_message(alarm) for alarm in alarms],
        )

    async def WatchEvents(
        self, request: custody_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[custody_pb2.WatchEventsResponse]:
        """Tell every change to the events kept here, and go on as they come."""
        database, bell = self._office.database, self._office.bell
        number = request.change_number
        await database.read(partial(check_cursor, number=number, sha256=request.signed_event_sha256))
        first = True
        while not bell.closed:
            listening = bell.listen()
            changes, newest = await database.read(lambda connection: _changes(connection, number))  # noqa: B023 - awaited before it changes
            if changes or first:
                yield custody_pb2.WatchEventsResponse(
                    changes=[change_to_message(change) for change in changes], newest_change_number=newest
                )
            first = False
            if changes:
                number = changes[-1].number
            if number == newest:
                # Partners' events and the ledger's answers come without the bell.
                await bell.wait(timeout_s=WATCH_REST_S, listening=listening)


def _consignee(request: custody_pb2.ShipRequest | custody_pb2.ReturnRequest) -> Consignee:
    party = parse_gln(request.destination_party, field="destination_party")
    if not request.destination_location:
        return Consignee(party, party)
    return Consignee(party, parse_gln(request.destination_location, field="destination_location"))


def _documents(request: custody_pb2.ShipRequest, consignee: Consignee, office: Office) -> tuple[BizTransaction, ...]:
    found = []
    # Who issued it is part of a document's name: the buyer its order, the seller its despatch advice.
    for kind, number, issuer, field in (
        ("po", request.purchase_order, organisation_gln(consignee.party, office.desk.registry()), "purchase_order"),
        ("desadv", request.despatch_advice, office.desk.gln, "despatch_advice"),
    ):
        if check_number(number, field=field):
            found.append(events.document(kind, number, issuer=issuer))
    return tuple(found)


def _query(request: custody_pb2.ListHoldingsRequest) -> HoldingQuery:
    if request.lot and not request.gtin:
        message = "a lot is a trade item's: name the gtin too"
        raise MalformedError(message, code="FIELD_MISSING", field="gtin")
    gtin = None
    if request.gtin:
        try:
            gtin = Gtin(request.gtin)
        except MalformedError as error:
            raise MalformedError(error.message, code=error.code, field="gtin") from error
    if request.state and request.state not in STATE_FROM_MESSAGE:
        message = f"unknown state {request.state}"
        raise MalformedError(message, code="STATE_UNKNOWN", field="state")
    return HoldingQuery(gtin, request.lot, STATE_FROM_MESSAGE.get(request.state))


def custody_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.custody.v1.CustodyService",
        custody_pb2_grpc.add_CustodyServiceServicer_to_server,
        CustodyServicer(office),
    )
