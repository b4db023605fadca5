"""Reading what a scanner sent at the receiving bay: packs, cases, pallets and totes."""

from datetime import date

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln, Sgtin
from medtrail.gs1.scan import Scan, Spelling, parse_scan, require_pack
from services.custody.receiving.reconcile import Label
from services.custody.units import as_unit, parse_unit

_SHIP_TO = "410"
_URN = "urn:"


def read_label(text: str, *, today: date) -> Label:
    """Return what a scan says of one unit.

    A printed symbol of a trade item must show all four elements of a pack, because a scanner that drops separators
    says nothing about the pack. A link, a URN or typed text may name it without lot and expiry.

    Args:
        text: At most 8,192 characters.
        today: Decides the century of an expiry.

    Raises:
        MalformedError: It cannot be read, or names no single thing.
    """
    if text[: len(_URN)].lower() == _URN:
        return Label(parse_unit(text, field="scan", today=today))
    scan = parse_scan(text, today=today)
    unit = as_unit(scan.key, field="scan")
    if isinstance(unit, Sgtin) and scan.spelling is Spelling.ELEMENT_STRING:
        require_pack(scan)
    return Label(
        unit,
        lot=scan.lot or "",
        expiry=None if scan.expiry is None else scan.expiry.day,
        ship_to=_ship_to(scan),
    )


def _ship_to(scan: Scan) -> Gln | None:
    found = dict(scan.ais).get(_SHIP_TO)
    if found is None:
        return None
    try:
        return Gln(found)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="scan") from error
