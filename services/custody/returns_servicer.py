"""ReturnService: authorisations, packs taken back in bulk, goods under recall sent back."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from medtrail.api.returns.v1 import returns_pb2, returns_pb2_grpc
from medtrail.codec import from_timestamp, to_timestamp
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import ConflictError, MalformedError, MedtrailError, NotFoundError, TooLargeError
from medtrail.runtime.guard import Context, caller_of
from medtrail.runtime.paging import page_size
from medtrail.runtime.server import Binding
from medtrail.verdict import Verdict, beside_drill
from services.custody import recall_returns, returns, returns_store
from services.custody.commands import Consignee
from services.custody.desk import Session, known_recalls
from services.custody.events import Occasion
from services.custody.messages import accepted_to_message
from services.custody.office import Office, check_number, check_reason, check_request_id, parse_gln
from services.custody.return_codes import ReturnCode
from services.custody.returns import Item, Outcome, Terms
from services.custody.returns_store import Authorisation, Returned
from services.custody.scan import Scanner
from services.custody.units import Named
from services.custody.verdicts import Seen

MAX_SCANS = 500
SCANS_AT_ONCE = 16
_NUMBER = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

Vouch = Callable[[str, Seen, Verdict], Awaitable[Verdict]]
"""Gives a verdict with the word of a maker who is no member of the network, where the log has none."""


async def no_vouching(_scan: str, _seen: Seen, verdict: Verdict) -> Verdict:
    """Return the verdict as it is."""
    return verdict


async def judge_scan(
    scanner: Scanner, vouch: Vouch, scan: str, moment: datetime, *, field: str
) -> Item | MalformedError:
    """Return a scanned pack with its verdict for a moment, or why its scan cannot be read."""
    try:
        seen = scanner.read(scan, moment)
    except MalformedError as error:
        return error
    verdict = await vouch(scan, seen, beside_drill(await scanner.judge_return(seen, moment)))
    return Item(Named(seen.sgtin, field), verdict, seen.expiry)


class ReturnServicer(returns_pb2_grpc.ReturnServiceServicer):
    """Returns and reverse logistics, for one organisation."""

    def __init__(self, office: Office, vouch: Vouch = no_vouching, *, to_maker: bool = False) -> None:
        """Serve an office.

        Args:
            office: Whose.
            vouch: Asks makers outside the network.
            to_maker: What comes back is never restocked without release.
        """
        self._office = office
        self._vouch = vouch
        self._to_maker = to_maker

    # --- authorisations ---

    async def AuthoriseReturn(
        self, request: returns_pb2.AuthoriseReturnRequest, context: Context
    ) -> returns_pb2.AuthoriseReturnResponse:
        """Give a customer a number under which goods may come back."""
        office = self._office
        customer = parse_gln(request.customer, field="customer")
        units = office.units(request.epcs, field="epcs") if request.epcs else ()
        reason = check_reason(request.reason) if request.reason else ""
        expire_time = _time(request, "expire_time")
        if request.number and not _NUMBER.match(request.number):
            message = f"expected 1 to 64 of [A-Za-z0-9._-], got {request.number[:80]!r}"
            raise MalformedError(message, code="TEXT_MALFORMED", field="number")

        def work(session: Session) -> returns_pb2.AuthoriseReturnResponse:
            given = Authorisation(
                number=request.number or returns_store.next_authorisation(session.connection),
                customer=customer,
                units=tuple(named.unit for named in units),
                reason=reason,
                create_time=session.now,
                expire_time=expire_time,
            )
            returns_store.add_authorisation(session.connection, given)
            return returns_pb2.AuthoriseReturnResponse(authorisation=_authorisation(given))

        return await office.write(request, returns_pb2.AuthoriseReturnResponse, work)

    async def ListReturnAuthorisations(
        self, request: returns_pb2.ListReturnAuthorisationsRequest, context: Context
    ) -> returns_pb2.ListReturnAuthorisationsResponse:
        """List authorisations, newest first."""
        size = page_size(request.page_size, at_most=500)
        caller, method = caller_of(context).organisation.gln, "ListReturnAuthorisations"
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        before = None if position is None else int(position[0])
        found = await self._office.database.read(
            lambda connection: returns_store.list_authorisations(connection, before=before, limit=size + 1)
        )
        token = ""
        if len(found) > size:
            last = (found[size - 1].row_number,)
            token = self._office.tokens.issue(last, caller=caller, method=method, request=request)
        return returns_pb2.ListReturnAuthorisationsResponse(
            authorisations=[_authorisation(item) for item in found[:size]], next_page_token=token
        )

    # --- taking back ---

    async def AcceptReturns(
        self, request_iterator: AsyncIterator[returns_pb2.AcceptReturnsRequest], context: Context
    ) -> AsyncIterator[returns_pb2.AcceptReturnsResponse]:
        """Take packs back: one answer a request, in order, each one transaction."""
        async for request in request_iterator:
            try:
                answer = await self._accept(request)
            except MedtrailError as error:
                # One odd request among many is answered; the stream goes on.
                answer = returns_pb2.AcceptReturnsResponse(error_code=error.code, error_message=str(error))
            answer.request_id = request.request_id
            yield answer

    async def _accept(self, request: returns_pb2.AcceptReturnsRequest) -> returns_pb2.AcceptReturnsResponse:
        office = self._office
        check_request_id(request.request_id)
        if not 1 <= len(request.scans) <= MAX_SCANS:
            message = f"expected 1 to {MAX_SCANS} scans, got {len(request.scans)}"
            raise TooLargeError(message, code="TOO_MANY_UNITS", field="scans")
        occasion, judge_time = office.occasion(request.occasion), _time(request, "judge_time")
        terms = Terms(
            customer=parse_gln(request.customer, field="customer") if request.customer else None,
            authorisation=check_number(request.return_authorisation, field="return_authorisation"),
            to_maker=self._to_maker,
        )
        turn = asyncio.Semaphore(SCANS_AT_ONCE)

        async def judge(number: int, scan: str) -> Item | MalformedError:
            async with turn:
                return await self.judge(scan, judge_time, field=f"scans[{number}]")

        judged = await asyncio.gather(*(judge(number, scan) for number, scan in enumerate(request.scans)))
        items = [item for item in judged if isinstance(item, Item)]
        returns.check_twice(items)

        def work(session: Session) -> returns_pb2.AcceptReturnsResponse:
            outcomes, made = returns.take_back(session, items, occasion, terms)
            rest = iter(outcomes)
            return returns_pb2.AcceptReturnsResponse(
                packs=[
                    outcome_to_message(next(rest)) if isinstance(item, Item) else _unreadable(item) for item in judged
                ],
                events=[accepted_to_message(item) for item in made],
            )

        touched = [item.named.unit for item in items]
        return await office.write(request, returns_pb2.AcceptReturnsResponse, work, units=touched)

    async def judge(self, scan: str, judge_time: datetime | None, *, field: str) -> Item | MalformedError:
        """Return a scanned pack with its verdict, or why its scan cannot be read."""
        moment = judge_time or self._office.desk.clock()
        return await judge_scan(self._office.scanner, self._vouch, scan, moment, field=field)

    async def accept_one(self, request: Any, scan: str, answer: Any) -> Any:  # noqa: ANN401  # a role's own messages
        """Take one pack back, as a request of another service asks.

        Args:
            request: With request_id, occasion and judge_time.
            scan: What the scanner sent.
            answer: Class of the answer: with verdict and events.

        Raises:
            MalformedError: The scan cannot be read.
            NotFoundError: UNIT_UNKNOWN.
            ConflictError: It is not on its way back (NOT_DESPATCHED).
        """
        occasion, judge_time = self._office.occasion(request.occasion), _time(request, "judge_time")
        item = await self.judge(scan, judge_time, field="scan")
        if isinstance(item, MalformedError):
            raise item

        def work(session: Session) -> Any:  # noqa: ANN401  # as above
            return self._take_one(session, item, occasion, answer)

        return await self._office.write(request, answer, work, units=(item.named.unit,))

    def _take_one(self, session: Session, item: Item, occasion: Occasion, answer: Any) -> Any:  # noqa: ANN401  # as above
        before = session.books.get(item.named.unit)
        (outcome,), made = returns.take_back(session, [item], occasion, Terms(to_maker=self._to_maker))
        if outcome.codes == (ReturnCode.UNIT_UNKNOWN,):
            message = f"{item.named.unit.path} is not known here"
            raise NotFoundError(message, code="UNIT_UNKNOWN", field=item.named.field)
        if not outcome.recorded and before is not None:
            message = f"{item.named.unit.path} was not despatched here, but is {before.state.replace('_', ' ')}"
            raise ConflictError(message, code="NOT_DESPATCHED", field=item.named.field, state=before.state)
        return answer(
            verdict=verdict_to_message(item.verdict), events=[accepted_to_message(accepted) for accepted in made]
        )

    async def ListReturns(
        self, request: returns_pb2.ListReturnsRequest, context: Context
    ) -> returns_pb2.ListReturnsResponse:
        """List packs that came back, newest first."""
        size = page_size(request.page_size, at_most=1000)
        caller, method = caller_of(context).organisation.gln, "ListReturns"
        position = self._office.tokens.open(request.page_token, caller=caller, method=method, request=request)
        before = None if position is None else int(position[0])
        customer = parse_gln(request.customer, field="customer") if request.customer else None

        def look(connection: Connection) -> list[Returned]:
            return returns_store.list_returned(
                connection, customer=customer, only_held=request.only_held, before=before, limit=size + 1
            )

        found = await self._office.database.read(look)
        token = ""
        if len(found) > size:
            token = self._office.tokens.issue((found[size - 1].number,), caller=caller, method=method, request=request)
        return returns_pb2.ListReturnsResponse(
            returns=[_returned(item) for item in found[:size]], next_page_token=token
        )

    # --- recalls ---

    async def ReturnRecalled(
        self, request: returns_pb2.ReturnRecalledRequest, context: Context
    ) -> returns_pb2.ReturnRecalledResponse:
        """Gather units here under a recall, and send them back."""
        occasion = self._office.occasion(request.occasion)
        authorisation = check_number(request.return_authorisation, field="return_authorisation")
        consignee = _consignee(request)

        def work(session: Session) -> returns_pb2.ReturnRecalledResponse:
            known = recall_returns.require_recall(session.recalls.known, request.recall_id)
            found = recall_returns.gather(session, known, occasion, consignee, authorisation=authorisation)
            return returns_pb2.ReturnRecalledResponse(
                events=[accepted_to_message(item) for item in found.accepted],
                unit_count=found.unit_count,
                remaining_count=found.remaining_count,
            )

        return await self._office.write(request, returns_pb2.ReturnRecalledResponse, work)

    async def CountRecallReturns(
        self, request: returns_pb2.CountRecallReturnsRequest, context: Context
    ) -> returns_pb2.CountRecallReturnsResponse:
        """Count the packs that a recall covers here by what became of them."""

        def look(connection: Connection) -> recall_returns.RecallCounts:
            known = known_recalls(connection, self._office.desk).known
            return recall_returns.count(connection, recall_returns.require_recall(known, request.recall_id))

        counts = await self._office.database.read(look)
        return returns_pb2.CountRecallReturnsResponse(
            held_count=counts.held,
            sent_back_count=counts.sent_back,
            received_back_count=counts.received_back,
            ended_count=counts.ended,
            dispensed_count=counts.dispensed,
            despatched_count=counts.despatched,
            inbound_count=counts.inbound,
        )


def _time(request: Any, name: str) -> datetime | None:  # noqa: ANN401  # a request with a field of that name
    return from_timestamp(getattr(request, name), field=name) if request.HasField(name) else None


def _consignee(request: returns_pb2.ReturnRecalledRequest) -> Consignee | None:
    if not request.destination_party:
        return None
    party = parse_gln(request.destination_party, field="destination_party")
    location = party
    if request.destination_location:
        location = parse_gln(request.destination_location, field="destination_location")
    return Consignee(party, location)


def _authorisation(given: Authorisation) -> returns_pb2.ReturnAuthorisation:
    return returns_pb2.ReturnAuthorisation(
        number=given.number,
        customer=str(given.customer),
        unit_count=len(given.units),
        returned_count=given.returned_count,
        reason=given.reason,
        create_time=to_timestamp(given.create_time),
        expire_time=None if given.expire_time is None else to_timestamp(given.expire_time),
    )


def outcome_to_message(outcome: Outcome) -> returns_pb2.ReturnedPack:
    """Return what became of a pack."""
    return returns_pb2.ReturnedPack(
        epc=outcome.item.named.unit.digital_link,
        restocked=outcome.restocked,
        codes=list(outcome.codes),
        message=outcome.describe(),
        verdict=verdict_to_message(outcome.item.verdict),
        case_id=outcome.case_id,
        recorded=outcome.recorded,
    )


def _unreadable(error: MalformedError) -> returns_pb2.ReturnedPack:
    return returns_pb2.ReturnedPack(codes=[ReturnCode.UNREADABLE], message=str(error))


def _returned(item: Returned) -> returns_pb2.ReturnRecord:
    return returns_pb2.ReturnRecord(
        epc=item.unit.digital_link,
        customer="" if item.customer is None else str(item.customer),
        return_authorisation=item.authorisation,
        restocked=not item.codes,
        codes=list(item.codes),
        receive_time=to_timestamp(item.receive_time),
    )


def return_binding(servicer: ReturnServicer) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.returns.v1.ReturnService",
        returns_pb2_grpc.add_ReturnServiceServicer_to_server,
        servicer,
    )
