"""Builds the pharmacy's process."""

from collections.abc import Sequence

from medtrail.runtime.server import Binding
from services.custody.bootstrap import Premises, run_service
from services.custody.returns_servicer import ReturnServicer, return_binding
from services.fmd.servicer import fmd_binding
from services.pharmacy.servicer import pharmacy_binding
from services.recall.servicer import recall_binding
from services.verification.servicer import verification_binding


def bindings(premises: Premises) -> Sequence[Binding]:
    """Return what a pharmacy serves beside custody."""
    return [
        recall_binding(premises.office),
        pharmacy_binding(premises.office),
        return_binding(ReturnServicer(premises.office)),
        fmd_binding(premises.office),
        verification_binding(premises),
    ]


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    run_service("pharmacy", bindings)
