"""Acting as one organisation of a running network."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medtrail.api.custody.v1 import custody_pb2_grpc
from medtrail.api.distributor.v1 import distributor_pb2_grpc
from medtrail.api.exceptions.v1 import exceptions_pb2_grpc
from medtrail.api.fmd.v1 import fmd_pb2_grpc
from medtrail.api.holds.v1 import holds_pb2_grpc
from medtrail.api.ledger.v1 import ledger_pb2_grpc
from medtrail.api.manufacturer.v1 import manufacturer_pb2_grpc
from medtrail.api.orders.v1 import orders_pb2_grpc
from medtrail.api.pharmacy.v1 import pharmacy_pb2_grpc
from medtrail.api.recall.v1 import recall_pb2_grpc
from medtrail.api.receiving.v1 import receiving_pb2_grpc
from medtrail.api.returns.v1 import returns_pb2_grpc
from medtrail.api.trust.v1 import trust_pb2_grpc
from medtrail.api.verification.v1 import verification_pb2_grpc
from medtrail.checkpoint import SignedCheckpoint, open_checkpoint
from medtrail.cli.main import Globals
from medtrail.cli.network import OrganisationAddress, RunningNetwork, read_network
from medtrail.gs1 import Gln
from medtrail.note import parse_vkey
from medtrail.runtime.client import connect
from medtrail.runtime.folder import OrganisationFolder

T = TypeVar("T")

CALL_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Session:
    """Stubs of an organisation's own service and of the ledger, and what is pinned of the log."""

    network: RunningNetwork
    organisation: OrganisationAddress
    custody: "custody_pb2_grpc.CustodyServiceAsyncStub"
    manufacturer: "manufacturer_pb2_grpc.ManufacturerServiceAsyncStub"
    distributor: "distributor_pb2_grpc.DistributorServiceAsyncStub"
    pharmacy: "pharmacy_pb2_grpc.PharmacyServiceAsyncStub"
    receiving: "receiving_pb2_grpc.ReceivingServiceAsyncStub"
    recall: "recall_pb2_grpc.RecallServiceAsyncStub"
    exceptions: "exceptions_pb2_grpc.ExceptionServiceAsyncStub"
    fmd: "fmd_pb2_grpc.FmdServiceAsyncStub"
    holds: "holds_pb2_grpc.HoldServiceAsyncStub"
    orders: "orders_pb2_grpc.OrderServiceAsyncStub"
    returns: "returns_pb2_grpc.ReturnServiceAsyncStub"
    verification: "verification_pb2_grpc.VerificationServiceAsyncStub"
    ledger: "ledger_pb2_grpc.LedgerServiceAsyncStub"
    trust: "trust_pb2_grpc.TrustServiceAsyncStub"

    def open_checkpoint(self, note: bytes) -> SignedCheckpoint:
        """Check a checkpoint under the pinned keys.

        Raises:
            VerificationError: Not signed by the log.
        """
        verifiers = [parse_vkey(key) for key in self.network.verifier_keys]
        return open_checkpoint(note, origin=self.network.origin, verifiers=verifiers)


@asynccontextmanager
async def open_session(
    network: RunningNetwork, organisation: OrganisationAddress, *, person: str = ""
) -> AsyncIterator[Session]:
    """Open channels for an organisation, and for a person of it where one is named; they close at the end."""
    folder = OrganisationFolder(Path(organisation.folder))
    own = connect(
        organisation.address,
        folder=folder,
        audience=Gln(organisation.gln),
        server=organisation.name,
        deadline_s=CALL_DEADLINE_S,
        person=person,
    )
    ledger = connect(
        network.ledger_address,
        folder=folder,
        audience=Gln(network.ledger_gln),
        server="ledger",
        deadline_s=CALL_DEADLINE_S,
    )
    async with own, ledger:
        yield Session(
            network=network,
            organisation=organisation,
            custody=custody_pb2_grpc.CustodyServiceStub(own),
            manufacturer=manufacturer_pb2_grpc.ManufacturerServiceStub(own),
            distributor=distributor_pb2_grpc.DistributorServiceStub(own),
            pharmacy=pharmacy_pb2_grpc.PharmacyServiceStub(own),
            receiving=receiving_pb2_grpc.ReceivingServiceStub(own),
            recall=recall_pb2_grpc.RecallServiceStub(own),
            exceptions=exceptions_pb2_grpc.ExceptionServiceStub(own),
            fmd=fmd_pb2_grpc.FmdServiceStub(own),
            holds=holds_pb2_grpc.HoldServiceStub(own),
            orders=orders_pb2_grpc.OrderServiceStub(own),
            returns=returns_pb2_grpc.ReturnServiceStub(own),
            verification=verification_pb2_grpc.VerificationServiceStub(own),
            ledger=ledger_pb2_grpc.LedgerServiceStub(ledger),
            trust=trust_pb2_grpc.TrustServiceStub(ledger),
        )


def run_session(found: Globals, work: Callable[[Session], Awaitable[T]], *, person: str = "") -> T:
    """Do something as the organisation of ``--as``; without it, as the first of the network.

    Args:
        found: The command's options.
        work: What to do.
        person: Who does it; empty: nobody is named.

    Raises:
        UnavailableError: No network runs in the folder.
        MalformedError: No such organisation.
    """
    network = read_network(found.folder)
    name = found.organisation
    organisation = network.organisations[0] if name is None else network.organisation(name)

    async def run() -> T:
        async with open_session(network, organisation, person=person) as session:
            return await work(session)

    return asyncio.run(run())
