"""Builds the pharmacy's process."""

from collections.abc import Sequence

from medtrail.api.pharmacy.v1 import pharmacy_pb2_grpc
from medtrail.runtime.server import Binding
from services.custody.bootstrap import Premises, run_service
from services.pharmacy.servicer import PharmacyServicer


def bindings(premises: Premises) -> Sequence[Binding]:
    """Return what a pharmacy serves beside custody and recalls."""
    servicer = PharmacyServicer(premises.office)
    return [
        Binding(
            "medtrail.api.pharmacy.v1.PharmacyService",
            pharmacy_pb2_grpc.add_PharmacyServiceServicer_to_server,
            servicer,
        )
    ]


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    run_service("pharmacy", bindings)
