"""DistributorService: takes back what was despatched, after verification."""

from medtrail.api.distributor.v1 import distributor_pb2, distributor_pb2_grpc
from medtrail.runtime.guard import Context
from medtrail.runtime.server import Binding
from medtrail.verdict import Verdict
from services.custody.bootstrap import Premises
from services.custody.returns_servicer import ReturnServicer
from services.custody.verdicts import Seen
from services.verification.arrangements import read_arrangements
from services.verification.requester import Requester
from services.verification.vouching import vouched


class DistributorServicer(distributor_pb2_grpc.DistributorServiceServicer):
    """Saleable returns one by one, for one organisation; ReturnService takes them in bulk."""

    def __init__(self, returns: ReturnServicer) -> None:
        """Serve what takes packs back."""
        self._returns = returns

    async def AcceptReturn(
        self, request: distributor_pb2.AcceptReturnRequest, context: Context
    ) -> distributor_pb2.AcceptReturnResponse:
        """Take a pack back. It becomes saleable only if nothing speaks against it; else it is put aside."""
        answer: distributor_pb2.AcceptReturnResponse = await self._returns.accept_one(
            request, request.scan, distributor_pb2.AcceptReturnResponse
        )
        return answer


def return_servicer(premises: Premises) -> ReturnServicer:
    """Return what takes packs back, and asks makers who are no members of the network.

    Raises:
        MalformedError: The verification file cannot be read.
    """
    office = premises.office
    requester = Requester(office, read_arrangements(premises.settings.verification_file))

    async def vouch(scan: str, seen: Seen, verdict: Verdict) -> Verdict:
        return await vouched(requester, scan, seen, verdict, office.desk.registry())

    return ReturnServicer(office, vouch, to_maker=False)


def distributor_binding(returns: ReturnServicer) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.distributor.v1.DistributorService",
        distributor_pb2_grpc.add_DistributorServiceServicer_to_server,
        DistributorServicer(returns),
    )
