"""PharmacyService: hands packs to patients."""

from medtrail.api.pharmacy.v1 import pharmacy_pb2, pharmacy_pb2_grpc
from medtrail.runtime.guard import Context
from medtrail.runtime.server import Binding
from services.custody import commands
from services.custody.desk import Session
from services.custody.messages import accepted_to_message
from services.custody.office import Office
from services.custody.rules import require_pack_unit

MAX_PACKS = 100


class PharmacyServicer(pharmacy_pb2_grpc.PharmacyServiceServicer):
    """Dispensing, for one organisation."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def Dispense(self, request: pharmacy_pb2.DispenseRequest, context: Context) -> pharmacy_pb2.DispenseResponse:
        """Record that packs were handed out, in whole or in part."""
        units = self._office.units(request.epcs, field="epcs", most=MAX_PACKS)
        for named in units:
            require_pack_unit(named)
        occasion = self._office.occasion(request.occasion)

        def work(session: Session) -> pharmacy_pb2.DispenseResponse:
            made = commands.dispense(session, units, occasion, partial=request.partial)
            return pharmacy_pb2.DispenseResponse(events=[accepted_to_message(item) for item in made])

        touched = [named.unit for named in units]
        return await self._office.write(request, pharmacy_pb2.DispenseResponse, work, units=touched)


def pharmacy_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.pharmacy.v1.PharmacyService",
        pharmacy_pb2_grpc.add_PharmacyServiceServicer_to_server,
        PharmacyServicer(office),
    )
