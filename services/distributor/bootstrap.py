"""Builds the distributor's process."""

from collections.abc import Sequence

from medtrail.api.distributor.v1 import distributor_pb2_grpc
from medtrail.runtime.server import Binding
from services.custody.bootstrap import Premises, run_service
from services.distributor.servicer import DistributorServicer


def bindings(premises: Premises) -> Sequence[Binding]:
    """Return what a distributor serves beside custody and recalls."""
    servicer = DistributorServicer(premises.office)
    return [
        Binding(
            "medtrail.api.distributor.v1.DistributorService",
            distributor_pb2_grpc.add_DistributorServiceServicer_to_server,
            servicer,
        )
    ]


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    run_service("distributor", bindings)
