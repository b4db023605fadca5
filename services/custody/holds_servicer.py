"""HoldService: holds with their reasons, release by two persons, lots on hold, expiry, excursions."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from medtrail.api.holds.v1 import holds_pb2, holds_pb2_grpc
from medtrail.codec import to_timestamp
from medtrail.errors import MalformedError
from medtrail.gs1 import Gtin, Lgtin
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from services.custody import excursions, expiry_watch, holdings_store, lot_holds, release_requests
from services.custody.desk import Session
from services.custody.excursions import NotedExcursion
from services.custody.expiry_watch import ExpiringQuery
from services.custody.hold_policy import MAX_DAYS, HoldPolicy
from services.custody.holding import Holding
from services.custody.holds import code_of, lines_of, text_of
from services.custody.lot_holds import LotHold
from services.custody.messages import HOLD_CODE_TO_MESSAGE, accepted_to_message, hold_code, hold_codes
from services.custody.office import Office, check_reason
from services.custody.release_requests import ReleaseRequest, RequestState

T = TypeVar("T")

_STATE_TO_MESSAGE = {
    state: holds_pb2.ReleaseRequestState.Value(f"RELEASE_REQUEST_STATE_{state.name}") for state in RequestState
}
_STATE_FROM_MESSAGE = {number: state for state, number in _STATE_TO_MESSAGE.items()}


class HoldServicer(holds_pb2_grpc.HoldServiceServicer):
    """Holds and releases, for one organisation."""

    def __init__(self, office: Office) -> None:
        self._office = office

    @property
    def _policy(self) -> HoldPolicy:
        return self._office.desk.holds

    def _person(self, context: Context) -> str:
        caller = caller_of(context)
        return self._policy.require_person(caller.person, key_id=caller.key_id)

    async def _page(
        self,
        request: Message,
        context: Context,
        *,
        method: str,
        at_most: int,
        look: Callable[[Connection, Sequence[Any] | None, int], list[T]],
        position: Callable[[T], tuple[str | int, ...]],
    ) -> tuple[list[T], str]:
        """Return a page of what a look finds after a position, and the next page's token."""
        size = page_size(getattr(request, "page_size", 0), at_most=at_most)
        caller = caller_of(context).organisation.gln
        tokens = self._office.tokens
        token = getattr(request, "page_token", "")
        start = tokens.open(token, caller=caller, method=method, request=request)
        found = await self._office.database.read(lambda connection: look(connection, start, size + 1))
        if len(found) <= size:
            return found, ""
        return found[:size], tokens.issue(position(found[size - 1]), caller=caller, method=method, request=request)

    async def ListHolds(self, request: holds_pb2.ListHoldsRequest, context: Context) -> holds_pb2.ListHoldsResponse:
        """List units on hold here, in order of their Digital Links."""
        code = hold_code(request.code, field="code") if request.code else None

        def look(connection: Connection, start: Sequence[Any] | None, limit: int) -> list[Holding]:
            after = "" if start is None else str(start[0])
            return holdings_store.list_held(connection, code, after=after, limit=limit)

        units, token = await self._page(
            request, context, method="ListHolds", at_most=1000, look=look, position=lambda item: (item.unit.path,)
        )
        return holds_pb2.ListHoldsResponse(units=[self._held(item) for item in units], next_page_token=token)

    def _held(self, holding: Holding) -> holds_pb2.HeldUnit:
        return holds_pb2.HeldUnit(
            epc=holding.unit.digital_link,
            lot=holding.lot,
            expiry="" if holding.expiry is None else holding.expiry.isoformat(),
            reasons=[
                holds_pb2.HoldReason(
                    code=HOLD_CODE_TO_MESSAGE[code_of(item)],
                    text=text_of(item),
                    four_eyes=self._policy.needs_two([item]),
                )
                for item in lines_of(holding.hold_reason)
            ],
            location="" if holding.location is None else str(holding.location),
        )

    async def RequestRelease(
        self, request: holds_pb2.RequestReleaseRequest, context: Context
    ) -> holds_pb2.RequestReleaseResponse:
        """Ask that units, or a lot, be released."""
        person, reason = self._person(context), check_reason(request.reason)
        if bool(request.epcs) == bool(request.lot_hold_id) or (request.lot_hold_id and request.codes):
            message = "name either units, with the codes that are to end, or a lot hold"
            raise MalformedError(message, code="FIELD_CONFLICT", field="epcs")
        units = self._office.units(request.epcs, field="epcs") if request.epcs else ()
        codes = hold_codes(request.codes, field="codes")

        def work(session: Session) -> holds_pb2.RequestReleaseResponse:
            if request.lot_hold_id:
                made = release_requests.ask_for_lot(session, request.lot_hold_id, reason=reason, person=person)
            else:
                made = release_requests.ask(session, units, codes, reason=reason, person=person)
            found = release_requests.get(session.connection, made)
            return holds_pb2.RequestReleaseResponse(release_request=_request_to_message(found))

        touched = [named.unit for named in units]
        return await self._office.write(request, holds_pb2.RequestReleaseResponse, work, units=touched)

    async def ApproveRelease(
        self, request: holds_pb2.ApproveReleaseRequest, context: Context
    ) -> holds_pb2.ApproveReleaseResponse:
        """Approve a request, and release."""
        person, occasion = self._person(context), self._office.occasion(request.occasion)
        reason = check_reason(request.reason) if request.reason else ""

        def work(session: Session) -> holds_pb2.ApproveReleaseResponse:
            made = release_requests.approve(session, request.release_request_id, occasion, person=person, reason=reason)
            found = release_requests.get(session.connection, request.release_request_id)
            return holds_pb2.ApproveReleaseResponse(
                release_request=_request_to_message(found), events=[accepted_to_message(item) for item in made]
            )

        return await self._office.write(request, holds_pb2.ApproveReleaseResponse, work)

    async def RejectRelease(
        self, request: holds_pb2.RejectReleaseRequest, context: Context
    ) -> holds_pb2.RejectReleaseResponse:
        """End a request without release."""
        person, reason = self._person(context), check_reason(request.reason)

        def work(session: Session) -> holds_pb2.RejectReleaseResponse:
            release_requests.reject(session, request.release_request_id, person=person, reason=reason)
            found = release_requests.get(session.connection, request.release_request_id)
            return holds_pb2.RejectReleaseResponse(release_request=_request_to_message(found))

        return await self._office.write(request, holds_pb2.RejectReleaseResponse, work)

    async def ListReleaseRequests(
        self, request: holds_pb2.ListReleaseRequestsRequest, context: Context
    ) -> holds_pb2.ListReleaseRequestsResponse:
        """List requests for release, newest first."""
        state = _STATE_FROM_MESSAGE.get(request.state)

        def look(connection: Connection, start: Sequence[Any] | None, limit: int) -> list[ReleaseRequest]:
            before = None if start is None else int(start[0])
            return release_requests.list_requests(connection, state=state, before=before, limit=limit)

        found, token = await self._page(
            request,
            context,
            method="ListReleaseRequests",
            at_most=500,
            look=look,
            position=lambda item: (item.number,),
        )
        return holds_pb2.ListReleaseRequestsResponse(
            release_requests=[_request_to_message(item) for item in found], next_page_token=token
        )

    async def HoldLot(self, request: holds_pb2.HoldLotRequest, context: Context) -> holds_pb2.HoldLotResponse:
        """Put a lot on hold: its packs here, and those to come."""
        gtin, lot = _lot(request.gtin, request.lot)
        code, reason = hold_code(request.code, field="code"), " ".join(check_reason(request.reason).split())
        occasion = self._office.occasion(request.occasion)

        def work(session: Session) -> holds_pb2.HoldLotResponse:
            hold = lot_holds.add(session.connection, gtin=gtin, lot=lot, code=code, reason=reason, now=session.now)
            made, count = release_requests.hold_lot(session, hold, occasion)
            return holds_pb2.HoldLotResponse(
                lot_hold=_lot_to_message(hold),
                events=[accepted_to_message(item) for item in made],
                unit_count=count,
            )

        return await self._office.write(request, holds_pb2.HoldLotResponse, work)

    async def ReleaseLot(self, request: holds_pb2.ReleaseLotRequest, context: Context) -> holds_pb2.ReleaseLotResponse:
        """End the hold of a lot, and of the packs on hold by it."""
        reason, occasion = check_reason(request.reason), self._office.occasion(request.occasion)

        def work(session: Session) -> holds_pb2.ReleaseLotResponse:
            hold = lot_holds.require_standing(session.connection, request.lot_hold_id)
            self._policy.require_one([hold.line], field="lot_hold_id")
            made, count = release_requests.release_lot(session, hold, occasion, reason=reason)
            return holds_pb2.ReleaseLotResponse(events=[accepted_to_message(item) for item in made], unit_count=count)

        return await self._office.write(request, holds_pb2.ReleaseLotResponse, work)

    async def ListLotHolds(
        self, request: holds_pb2.ListLotHoldsRequest, context: Context
    ) -> holds_pb2.ListLotHoldsResponse:
        """List lots on hold, newest first."""

        def look(connection: Connection, start: Sequence[Any] | None, limit: int) -> list[LotHold]:
            before = None if start is None else int(start[0])
            return lot_holds.list_lot_holds(
                connection, include_released=request.include_released, before=before, limit=limit
            )

        found, token = await self._page(
            request, context, method="ListLotHolds", at_most=500, look=look, position=lambda item: (item.number,)
        )
        return holds_pb2.ListLotHoldsResponse(
            lot_holds=[_lot_to_message(item) for item in found], next_page_token=token
        )

    async def ListExpiring(
        self, request: holds_pb2.ListExpiringRequest, context: Context
    ) -> holds_pb2.ListExpiringResponse:
        """List packs here by expiry, first expired first."""
        if not 0 <= request.days <= MAX_DAYS:
            message = f"expected 0 to {MAX_DAYS} days, got {request.days}"
            raise MalformedError(message, code="DAYS_OUT_OF_RANGE", field="days")
        desk = self._office.desk
        day = expiry_watch.today(desk.clock(), desk.zone)
        query = ExpiringQuery(
            last=day + timedelta(days=request.days or self._policy.expiring_days),
            gtin=_gtin(request.gtin) if request.gtin else None,
            exclude_held=request.exclude_held,
        )
        total = 0

        def look(connection: Connection, start: Sequence[Any] | None, limit: int) -> list[Holding]:
            nonlocal total
            after = None if start is None else (str(start[0]), str(start[1]), str(start[2]), str(start[3]))
            found, total = expiry_watch.list_expiring(connection, query, after=after, limit=limit)
            return found

        found, token = await self._page(
            request, context, method="ListExpiring", at_most=1000, look=look, position=expiry_watch.position_of
        )
        units = [
            holds_pb2.ExpiringUnit(
                epc=item.unit.digital_link,
                lot=item.lot,
                expiry=item.expiry.isoformat(),
                days_left=(item.expiry - day).days,
                hold_reason=item.hold_reason,
                location="" if item.location is None else str(item.location),
            )
            for item in found
            if item.expiry is not None
        ]
        return holds_pb2.ListExpiringResponse(units=units, next_page_token=token, total_count=total)

    async def ListExcursions(
        self, request: holds_pb2.ListExcursionsRequest, context: Context
    ) -> holds_pb2.ListExcursionsResponse:
        """List what sensors reported outside of storage limits, newest first."""
        unit = self._office.unit(request.epc, field="epc").unit if request.epc else None

        def look(connection: Connection, start: Sequence[Any] | None, limit: int) -> list[NotedExcursion]:
            before = None if start is None else int(start[0])
            return excursions.list_excursions(connection, unit=unit, before=before, limit=limit)

        found, token = await self._page(
            request, context, method="ListExcursions", at_most=1000, look=look, position=lambda item: (item.number,)
        )
        return holds_pb2.ListExcursionsResponse(
            excursions=[_excursion_to_message(item) for item in found], next_page_token=token
        )


def _gtin(text: str) -> Gtin:
    try:
        return Gtin(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="gtin") from error


def _lot(gtin: str, lot: str) -> tuple[Gtin, str]:
    found = _gtin(gtin)
    try:
        return found, Lgtin(found, lot).lot
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="lot") from error


def _request_to_message(request: ReleaseRequest) -> holds_pb2.ReleaseRequest:
    return holds_pb2.ReleaseRequest(
        release_request_id=request.release_request_id,
        state=_STATE_TO_MESSAGE[request.state],
        epcs=[unit.digital_link for unit in request.units],
        lot_hold_id=request.lot_hold_id,
        codes=[HOLD_CODE_TO_MESSAGE[code] for code in request.codes],
        reason=request.reason,
        requester=request.requester,
        request_time=to_timestamp(request.request_time),
        decider=request.decider,
        decision_time=None if request.decision_time is None else to_timestamp(request.decision_time),
        decision_reason=request.decision_reason,
        hold_reasons=dict.fromkeys(line for lines in request.reasons.values() for line in lines),
    )


def _lot_to_message(hold: LotHold) -> holds_pb2.LotHold:
    return holds_pb2.LotHold(
        lot_hold_id=hold.lot_hold_id,
        gtin=str(hold.gtin),
        lot=hold.lot,
        code=HOLD_CODE_TO_MESSAGE[hold.code],
        reason=hold.reason,
        hold_time=to_timestamp(hold.hold_time),
        release_time=None if hold.release_time is None else to_timestamp(hold.release_time),
    )


def _excursion_to_message(item: NotedExcursion) -> holds_pb2.Excursion:
    return holds_pb2.Excursion(
        epc=item.unit.digital_link,
        event_id=item.event_id,
        description=item.description,
        start_time=to_timestamp(item.start_time),
        end_time=to_timestamp(item.end_time),
        device_id=item.device_id,
        released=item.release_time is not None,
    )


def hold_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.holds.v1.HoldService",
        holds_pb2_grpc.add_HoldServiceServicer_to_server,
        HoldServicer(office),
    )
