"""Units: things with a number of their own that one can hold (a pack, a case, a pallet, a tote)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from medtrail.errors import MalformedError, TooLargeError
from medtrail.gs1 import EpcKey, Gtin, Lgtin, OtherKey, Sgln, Sgtin, Sscc, parse_epc
from medtrail.gs1.keys import RESOLVER
from medtrail.gs1.scan import parse_scan

Unit = Sgtin | Sscc | OtherKey

# Individual assets (GRAI, GIAI): totes and roll cages that hold goods.
_ASSETS = frozenset({"8003", "8004"})
_LINKS_AND_URNS = ("urn:", "http:", "https:", "(")


@dataclass(frozen=True, slots=True)
class Named:
    """A unit and the field of the request or event that names it."""

    unit: Unit
    field: str


def parse_unit(text: str, *, field: str, today: date) -> Unit:
    """Return the unit that an EPC URN, a Digital Link, bracketed text or an element string as scanned names.

    Args:
        text: At most 8,192 characters.
        field: Name for errors.
        today: Decides the century of an expiry in an element string.

    Raises:
        MalformedError: It cannot be read, or names no single thing (UNIT_NOT_SERIALISED).
    """
    try:
        lowered = text[:6].lower()
        key = parse_epc(text) if lowered.startswith(_LINKS_AND_URNS) else parse_scan(text, today=today).key
    except MalformedError as error:
        kind = type(error)
        raise kind(error.message, code=error.code, field=field) from error
    return as_unit(key, field=field)


def as_unit(key: EpcKey, *, field: str) -> Unit:
    """Return a key as unit.

    Raises:
        MalformedError: It names a class or a place (UNIT_NOT_SERIALISED).
    """
    if isinstance(key, Gtin | Lgtin | Sgln) or (isinstance(key, OtherKey) and key.ai not in _ASSETS):
        message = f"expected one pack, case or container, with its serial number; got {key.path}"
        raise MalformedError(message, code="UNIT_NOT_SERIALISED", field=field)
    return key


def parse_units(texts: Sequence[str], *, field: str, today: date, most: int) -> tuple[Named, ...]:
    """Return 1 to ``most`` different units.

    Raises:
        TooLargeError: More than ``most``.
        MalformedError: None, one that cannot be read, or one twice (UNIT_TWICE).
    """
    if not texts:
        message = "name at least one unit"
        raise MalformedError(message, code="FIELD_MISSING", field=field)
    if len(texts) > most:
        message = f"expected at most {most} units, got {len(texts)}"
        raise TooLargeError(message, code="TOO_MANY_UNITS", field=field)
    found: dict[Unit, Named] = {}
    for number, text in enumerate(texts):
        named = Named(parse_unit(text, field=f"{field}[{number}]", today=today), f"{field}[{number}]")
        if named.unit in found:
            message = f"{named.unit.path} is named twice"
            raise MalformedError(message, code="UNIT_TWICE", field=named.field)
        found[named.unit] = named
    return tuple(found.values())


def unit_of_path(path: str) -> Unit:
    """Return the unit of a canonical path, as the database keeps it."""
    return as_unit(parse_epc(RESOLVER + path), field="path")
