"""Builds the manufacturer's process."""

from collections.abc import Sequence

from medtrail.api.manufacturer.v1 import manufacturer_pb2_grpc
from medtrail.runtime.server import Binding
from services.custody.bootstrap import Premises, run_service
from services.manufacturer.servicer import ManufacturerServicer


def bindings(premises: Premises) -> Sequence[Binding]:
    """Return what a manufacturer serves beside custody and recalls."""
    servicer = ManufacturerServicer(premises.office, lambda: premises.replica.products)
    return [
        Binding(
            "medtrail.api.manufacturer.v1.ManufacturerService",
            manufacturer_pb2_grpc.add_ManufacturerServiceServicer_to_server,
            servicer,
        )
    ]


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    run_service("manufacturer", bindings)
