"""ManufacturerService: states products, gives life to packs and logistic units."""

from collections.abc import Callable, Mapping, Sequence

from medtrail.api.manufacturer.v1 import manufacturer_pb2, manufacturer_pb2_grpc
from medtrail.codec import product_from_message
from medtrail.errors import AuthorizationError, MalformedError, NotFoundError, TooLargeError
from medtrail.event import PayloadType, Product
from medtrail.gs1 import Gtin, Lgtin, Sgtin, Sscc
from medtrail.runtime.guard import Context
from medtrail.runtime.server import Binding
from services.custody import commands, events_store
from services.custody.desk import Session
from services.custody.messages import accepted_to_message, parse_day
from services.custody.office import MAX_UNITS, Office
from services.custody.units import Named, Unit

Products = Callable[[], Mapping[Gtin, object]]


class ManufacturerServicer(manufacturer_pb2_grpc.ManufacturerServiceServicer):
    """Products and commissioning, for one organisation."""

    def __init__(self, office: Office, products: Products) -> None:
        """Serve an office.

        Args:
            office: Whose.
            products: Gives the products in the log as of now.
        """
        self._office = office
        self._products = products

    async def RegisterProduct(
        self, request: manufacturer_pb2.RegisterProductRequest, context: Context
    ) -> manufacturer_pb2.RegisterProductResponse:
        """State master data of a trade item."""
        product = product_from_message(request.product)

        def work(session: Session) -> manufacturer_pb2.RegisterProductResponse:
            return manufacturer_pb2.RegisterProductResponse(event=accepted_to_message(session.state(product)))

        return await self._office.write(request, manufacturer_pb2.RegisterProductResponse, work)

    async def Commission(
        self, request: manufacturer_pb2.CommissionRequest, context: Context
    ) -> manufacturer_pb2.CommissionResponse:
        """Give life to serials of a lot, or to logistic units."""
        if bool(request.serials) == bool(request.ssccs):
            message = "give either serials or ssccs"
            raise MalformedError(message, code="FIELD_CONFLICT", field="serials")
        packs = bool(request.serials)
        units = _packs(request) if packs else _logistic_units(request)
        expiry = parse_day(request.expiry, field="expiry") if packs else None
        occasion = self._office.occasion(request.occasion)

        def work(session: Session) -> manufacturer_pb2.CommissionResponse:
            if packs:
                self._check_product(session, Gtin(request.gtin))
            else:
                _check_prefix(session, units)
            made = commands.commission(session, units, occasion, lot=request.lot, expiry=expiry)
            return manufacturer_pb2.CommissionResponse(events=[accepted_to_message(item) for item in made])

        touched: list[Unit] = [named.unit for named in units]
        return await self._office.write(request, manufacturer_pb2.CommissionResponse, work, units=touched)

    def _check_product(self, session: Session, gtin: Gtin) -> None:
        """Check that a trade item was registered, in the log or by us just now.

        Raises:
            AuthorizationError: It is not ours (PREFIX_NOT_OWNED).
            NotFoundError: It was not (PRODUCT_UNKNOWN).
        """
        organisation = session.desk.organisation
        if organisation is None or not organisation.owns(gtin):
            message = f"GTIN {gtin} lies under no company prefix of {session.desk.gln}"
            raise AuthorizationError(message, code="PREFIX_NOT_OWNED", field="gtin")
        if gtin in self._products():
            return
        own = events_store.own_of_type(session.connection, PayloadType.PRODUCT)
        if not any(isinstance(item.event.statement, Product) and item.event.statement.gtin == gtin for item in own):
            message = f"register GTIN {gtin} first"
            raise NotFoundError(message, code="PRODUCT_UNKNOWN", field="gtin")


def _check_count(values: Sequence[str], field: str) -> None:
    if len(values) > MAX_UNITS:
        message = f"expected at most {MAX_UNITS}, got {len(values)}"
        raise TooLargeError(message, code="TOO_MANY_UNITS", field=field)


def _named(values: Sequence[str], field: str, unit: Callable[[str], Unit]) -> tuple[Named, ...]:
    _check_count(values, field)
    found: dict[Unit, Named] = {}
    for number, value in enumerate(values):
        at = f"{field}[{number}]"
        try:
            made = unit(value)
        except MalformedError as error:
            raise MalformedError(error.message, code=error.code, field=at) from error
        if made in found:
            message = f"{made.path} is named twice"
            raise MalformedError(message, code="UNIT_TWICE", field=at)
        found[made] = Named(made, at)
    return tuple(found.values())


def _packs(request: manufacturer_pb2.CommissionRequest) -> tuple[Named, ...]:
    try:
        gtin = Gtin(request.gtin)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="gtin") from error
    try:
        Lgtin(gtin, request.lot)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="lot") from error
    return _named(request.serials, "serials", lambda serial: Sgtin(gtin, serial))


def _logistic_units(request: manufacturer_pb2.CommissionRequest) -> tuple[Named, ...]:
    for field in ("gtin", "lot", "expiry"):
        if getattr(request, field):
            message = "a logistic unit has none of its own"
            raise MalformedError(message, code="FIELD_CONFLICT", field=field)
    return _named(request.ssccs, "ssccs", Sscc)


def _check_prefix(session: Session, units: Sequence[Named]) -> None:
    organisation = session.desk.organisation
    prefixes = () if organisation is None else organisation.company_prefixes
    for named in units:
        # The company prefix of an SSCC stands behind its extension digit.
        if not (isinstance(named.unit, Sscc) and prefixes and named.unit.digits[1:].startswith(prefixes)):
            message = f"{named.unit.path} lies under no company prefix of {session.desk.gln}"
            raise AuthorizationError(message, code="PREFIX_NOT_OWNED", field=named.field)


def manufacturer_binding(office: Office, products: Products) -> Binding:
    """Return the service with its servicer, for a process to serve."""
    return Binding(
        "medtrail.api.manufacturer.v1.ManufacturerService",
        manufacturer_pb2_grpc.add_ManufacturerServiceServicer_to_server,
        ManufacturerServicer(office, products),
    )
