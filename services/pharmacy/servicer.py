"""PharmacyService: hands packs to patients."""

from medtrail.api.pharmacy.v1 import pharmacy_pb2, pharmacy_pb2_grpc
from medtrail.runtime.guard import Context
from medtrail.runtime.server import Binding
from services.custody import verifications
from services.custody.desk import Session
from services.custody.dispensing import Portion
from services.custody.messages import accepted_to_message
from services.custody.office import Office
from services.custody.portions import HandedOut, hand_out, parse_wanted
from services.custody.rules import require_pack_unit
from services.custody.units import Unit

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
        wanted = parse_wanted(
            partial=request.partial,
            quantity=request.quantity,
            uom=request.quantity_uom,
            pack_size=request.pack_size,
            decommission=self._office.dispensing.decommission_at_opening,
        )

        def work(session: Session) -> pharmacy_pb2.DispenseResponse:
            handed = hand_out(session, units, occasion, wanted)
            for unit in handed.opened:
                verifications.keep_opening(session.connection, unit, gln=session.desk.gln, now=session.now)
            return _response(handed)

        touched = [named.unit for named in units]
        return await self._office.write(request, pharmacy_pb2.DispenseResponse, work, units=touched)


def _response(handed: HandedOut) -> pharmacy_pb2.DispenseResponse:
    return pharmacy_pb2.DispenseResponse(
        events=[accepted_to_message(item) for item in handed.accepted],
        remainders=[_remainder(unit, left) for unit, left in handed.remainders],
    )


def _remainder(unit: Unit, left: Portion | None) -> pharmacy_pb2.PackRemainder:
    if left is None or left.remainder is None:
        return pharmacy_pb2.PackRemainder(epc=unit.digital_link)
    return pharmacy_pb2.PackRemainder(
        epc=unit.digital_link, quantity=format(left.remainder, "f"), quantity_uom=left.uom
    )


def pharmacy_binding(office: Office) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.pharmacy.v1.PharmacyService",
        pharmacy_pb2_grpc.add_PharmacyServiceServicer_to_server,
        PharmacyServicer(office),
    )
