"""Form FDA 3911 filled from a case: what the books, the log and parties.toml tell; people say the rest."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC

from sqlalchemy import Connection

from medtrail.epcis.export import TradingParty
from medtrail.event import Product, Role
from medtrail.form3911 import CompanyCategory, Form3911, ReportType, with_details
from medtrail.gs1 import Gtin, Sgtin
from services.custody import holdings_store
from services.custody.desk import Desk
from services.custody.exceptions import store
from services.custody.exceptions.case import Case, CaseResolution
from services.custody.exceptions.suspect import require_suspect
from services.custody.holding import Holding
from services.custody.master_data import Known

_MULTIPLE = "Multiple"
_SHOWN_SERIALS = 500
_CATEGORIES = (
    (Role.MANUFACTURER, CompanyCategory.MANUFACTURER),
    (Role.REPACKAGER, CompanyCategory.REPACKAGER),
    (Role.DISTRIBUTOR, CompanyCategory.WHOLESALE_DISTRIBUTOR),
    (Role.PHARMACY, CompanyCategory.DISPENSER),
)


def form_of_case(connection: Connection, desk: Desk, known: Known, case: Case, details: bytes) -> Form3911:
    """Return the form of a case of suspect product.

    Args:
        connection: Any transaction.
        desk: The house.
        known: What is known of products and parties.
        case: The case.
        details: Fields that people fill, as :func:`medtrail.form3911.with_details` takes them; they go first.

    Raises:
        ConflictError: The case is no suspicion (CASE_NOT_SUSPECT).
        MalformedError: A detail is wrong.
    """
    require_suspect(case)
    packs = _packs(connection, case)
    gtins = sorted({pack.unit.gtin for pack in packs if isinstance(pack.unit, Sgtin)})
    products = [item.product for item in map(known.item, gtins) if item is not None]
    organisation = desk.organisation
    roles = frozenset[Role]() if organisation is None else organisation.roles
    form = Form3911(
        report_type=_type(case),
        incident_number=case.incident_number,
        initial_date=None if case.submit_time is None else case.submit_time.astimezone(UTC).date(),
        determine_date=None if case.determine_time is None else case.determine_time.astimezone(UTC).date(),
        product_name=_one(product.name for product in products),
        strength=_one(product.strength for product in products),
        dosage_form=_one(product.dosage_form for product in products),
        quantity=f"{len(packs)} packages",
        ndc=_numbers(products, gtins),
        serials=tuple(_serials(packs)),
        lots=tuple(sorted({pack.lot for pack in packs if pack.lot})),
        expiries=tuple(sorted({pack.expiry.isoformat() for pack in packs if pack.expiry is not None})),
        event_description=_story(case, packs),
        termination_reason=case.resolution_note if case.resolution is CaseResolution.CLEARED else "",
        company_name="" if organisation is None else organisation.display_name,
        company_category=next((category for role, category in _CATEGORIES if role in roles), None),
    )
    return with_details(_addressed(form, known.party(desk.gln)), details)


def _type(case: Case) -> ReportType:
    if case.submit_time is None:
        return ReportType.INITIAL
    return ReportType.TERMINATION if case.resolution is CaseResolution.CLEARED else ReportType.FOLLOW_UP


def _packs(connection: Connection, case: Case) -> list[Holding]:
    units = [item.unit for item in store.units_of_case(connection, case.case_id)]
    books = holdings_store.load_books(connection, units)
    found: dict[str, Holding] = {}
    for unit in units:
        for holding in (books.get(unit), *books.inside(unit)):
            if holding is not None and isinstance(holding.unit, Sgtin) and not books.contents(holding.unit):
                found[holding.unit.path] = holding
    return [found[path] for path in sorted(found)]


def _one(texts: Iterable[str]) -> str:
    different = sorted({text for text in texts if text})
    return different[0] if len(different) == 1 else _MULTIPLE if different else ""


def _numbers(products: Sequence[Product], gtins: Sequence[Gtin]) -> str:
    numbers = [number.number for product in products for number in product.national_numbers if number.system == "NDC"]
    return ", ".join(numbers) or ", ".join(f"GTIN {gtin}" for gtin in gtins)


def _serials(packs: Sequence[Holding]) -> list[str]:
    serials = [pack.unit.serial for pack in packs if isinstance(pack.unit, Sgtin)]
    shown = serials[:_SHOWN_SERIALS]
    return [*shown, f"and {len(serials) - len(shown)} more"] if len(serials) > len(shown) else shown


def _story(case: Case, packs: Sequence[Holding]) -> str:
    lines = [case.detail]
    if case.scan is not None and case.scan.time is not None:
        station = f" at station {case.scan.station}" if case.scan.station else ""
        lines.append(f"Noticed by a scan on {case.scan.time.astimezone(UTC):%Y-%m-%d %H:%M} UTC{station}.")
    if case.partner is not None:
        lines.append(f"Received from the trading partner with GLN {case.partner}.")
    lines.append(f"{len(packs)} packages were quarantined; record {case.case_id}.")
    return "\n".join(lines)


def _addressed(form: Form3911, party: TradingParty | None) -> Form3911:
    if party is None or party.address is None:
        return form
    address = party.address
    return replace(
        form,
        street=address.street,
        street_two=address.street_two,
        city=address.city,
        state=address.state,
        postal_code=address.postal_code,
        country=address.country,
    )
