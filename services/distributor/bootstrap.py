"""Builds the distributor's process."""

from collections.abc import Sequence

from medtrail.runtime.server import Binding
from services.custody.bootstrap import Premises, run_service
from services.custody.returns_servicer import return_binding
from services.distributor.servicer import distributor_binding, return_servicer
from services.fmd.servicer import fmd_binding
from services.recall.servicer import recall_binding
from services.verification.servicer import verification_binding


def bindings(premises: Premises) -> Sequence[Binding]:
    """Return what a distributor serves beside custody."""
    returns = return_servicer(premises)
    return [
        recall_binding(premises.office),
        distributor_binding(returns),
        return_binding(returns),
        fmd_binding(premises.office),
        verification_binding(premises),
    ]


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    run_service("distributor", bindings)
