"""DistributorService: takes back what was despatched, after verification."""

from datetime import datetime

from medtrail.api.distributor.v1 import distributor_pb2, distributor_pb2_grpc
from medtrail.codec import from_timestamp
from medtrail.codec.verdict import verdict_to_message
from medtrail.errors import ConflictError, NotFoundError
from medtrail.runtime.guard import Context
from medtrail.runtime.server import Binding
from medtrail.verdict import Verdict, VerdictAction, VerdictCode, beside_drill
from services.custody import commands, events, inbound_store
from services.custody.bootstrap import Premises
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion, Route
from services.custody.holding import AWAY_STATES, Holding, HoldingState
from services.custody.messages import accepted_to_message
from services.custody.office import Office
from services.custody.units import Named
from services.verification.arrangements import read_arrangements
from services.verification.requester import Requester
from services.verification.vouching import vouched

FIELD = "scan"


class DistributorServicer(distributor_pb2_grpc.DistributorServiceServicer):
    """Saleable returns, for one organisation."""

    def __init__(self, office: Office, requester: Requester) -> None:
        """Serve an office.

        Args:
            office: Whose.
            requester: Asks makers who are no members of the network.
        """
        self._office = office
        self._requester = requester

    async def AcceptReturn(
        self, request: distributor_pb2.AcceptReturnRequest, context: Context
    ) -> distributor_pb2.AcceptReturnResponse:
        """Take a pack back. It becomes saleable only if nothing speaks against it; else it is put aside."""
        office = self._office
        occasion = office.occasion(request.occasion)
        judge_time = self._judge_time(request)
        moment = judge_time or office.desk.clock()
        seen = office.scanner.read(request.scan, moment)
        verdict = beside_drill(await office.scanner.judge(request.scan, judge_time))
        verdict = await vouched(self._requester, request.scan, seen, verdict, office.desk.registry())
        named = Named(seen.sgtin, FIELD)

        def work(session: Session) -> distributor_pb2.AcceptReturnResponse:
            made = take_back(session, named, occasion, verdict)
            return distributor_pb2.AcceptReturnResponse(
                verdict=verdict_to_message(verdict), events=[accepted_to_message(item) for item in made]
            )

        return await office.write(request, distributor_pb2.AcceptReturnResponse, work, units=(seen.sgtin,))

    def _judge_time(self, request: distributor_pb2.AcceptReturnRequest) -> datetime | None:
        if not request.HasField("judge_time"):
            return None
        return from_timestamp(request.judge_time, field="judge_time")


# That it comes from somebody else is what a return is; all other codes speak against a pack.
_EXPECTED = frozenset({VerdictCode.GENUINE, VerdictCode.ELSEWHERE})


def is_saleable(verdict: Verdict) -> bool:
    """Tell whether a returned pack may be sold again."""
    if verdict.provisional:
        return False
    if verdict.action is VerdictAction.ACCEPT:
        return True
    codes = {verdict.code, *verdict.further_codes}
    return codes <= _EXPECTED and VerdictCode.GENUINE in codes


def take_back(session: Session, named: Named, occasion: Occasion, verdict: Verdict) -> list[Accepted]:
    """Record the arrival of a returned pack, and then its release or its hold.

    Raises:
        NotFoundError: UNIT_UNKNOWN.
        ConflictError: It is not on its way back (NOT_DESPATCHED).
    """
    holding = session.books.get(named.unit)
    if holding is None:
        message = f"{named.unit.path} is not known here"
        raise NotFoundError(message, code="UNIT_UNKNOWN", field=FIELD)
    if holding.state not in {HoldingState.INBOUND, *AWAY_STATES}:
        message = f"{named.unit.path} was not despatched here, but is {holding.state.replace('_', ' ')}"
        raise ConflictError(message, code="NOT_DESPATCHED", field=FIELD, state=holding.state)
    made = commands.take_out(session, [named], occasion) if holding.state is HoldingState.INBOUND else []
    fields = {named.unit: FIELD}
    statement = events.receiving((named.unit,), occasion, _route(session, holding, occasion), disposition="returned")
    made.append(session.record(statement, fields=fields))
    commands.count_received(session)
    # A despatch to us that the ledger has not confirmed may still be refused, whatever the maker says of the pack.
    if is_saleable(verdict) and not holding.provisional:
        made += commands.release(session, [named], occasion, reason="return verified")
    else:
        made += commands.hold(session, [named], occasion, reason=f"return not verified: {verdict.code}")
    return made


def _route(session: Session, holding: Holding, occasion: Occasion) -> Route | None:
    shipment = inbound_store.find(session.connection, holding.despatch_id) if holding.despatch_id else None
    own = (session.desk.gln, occasion.location)
    if holding.state is HoldingState.INBOUND and shipment is not None:
        return Route(shipment.sender, shipment.source_location, *own)
    return None if holding.partner is None else Route(holding.partner, holding.partner, *own)


def distributor_binding(premises: Premises) -> Binding:
    """Return the service with its servicer, for a process to serve.

    Raises:
        MalformedError: The verification file cannot be read.
    """
    requester = Requester(premises.office, read_arrangements(premises.settings.verification_file))
    return Binding(
        "medtrail.api.distributor.v1.DistributorService",
        distributor_pb2_grpc.add_DistributorServiceServicer_to_server,
        DistributorServicer(premises.office, requester),
    )
