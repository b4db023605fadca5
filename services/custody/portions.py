"""The verb of dispensing: whole packs, or a counted part of each, until nothing is left."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from medtrail.errors import ConflictError, MalformedError
from medtrail.gs1 import Sgtin
from services.custody import commands, events
from services.custody.desk import Accepted, Session
from services.custody.dispensing import Portion, parse_quantity
from services.custody.events import Occasion
from services.custody.holding import Holding, HoldingState
from services.custody.units import Named, Unit

# Words of net contents by what they count, as UN/ECE Recommendation 20 codes it; each also in the plural.
_UOM_OF_WORD: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "ampoule", "applicator", "capsule", "cartridge", "each", "ea", "film", "inhaler", "insert", "kit",
            "lozenge", "patch", "patche", "pc", "pce", "pen", "piece", "pill", "sachet", "suppository", "suppositorie",
            "syringe", "tablet", "unit", "vial",
        ),
        "EA",
    ),
    "dose": "E27",
    **dict.fromkeys(("ml", "millilitre", "milliliter"), "MLT"),
    **dict.fromkeys(("l", "litre", "liter"), "LTR"),
    **dict.fromkeys(("g", "gram", "gramme"), "GRM"),
    **dict.fromkeys(("mg", "milligram"), "MGM"),
    **dict.fromkeys(("kg", "kilogram"), "KGM"),
}  # fmt: skip
_CONTENT = re.compile(r"\s*([0-9]{1,12}(?:[.,][0-9]{1,6})?)\s*([A-Za-z]{1,20})\s*\Z")
_UOM = re.compile(r"[A-Z0-9]{1,3}\Z")


@dataclass(frozen=True, slots=True)
class PackSize:
    """What a whole pack holds: how much, and in which unit (UN/ECE Recommendation 20)."""

    quantity: Decimal
    uom: str


def pack_size_of(net_content: str) -> PackSize | None:
    """Return what a product's net content says in a number and one known word: ``500 tablets``, ``2.5 mL``."""
    found = _CONTENT.match(net_content)
    if found is None:
        return None
    number, word = found[1].replace(",", "."), found[2].lower()
    uom = _UOM_OF_WORD.get(word) or _UOM_OF_WORD.get(word.removesuffix("s"))
    quantity = Decimal(number)
    return PackSize(quantity, uom) if uom is not None and quantity else None


def check_uom(text: str) -> str:
    """Return a unit code of UN/ECE Recommendation 20; empty stays empty.

    Raises:
        MalformedError: It is none (UOM_MALFORMED).
    """
    if text and not _UOM.match(text):
        message = f"expected a unit code of UN/ECE Recommendation 20 such as EA or MLT, got {text[:20]!r}"
        raise MalformedError(message, code="UOM_MALFORMED", field="quantity_uom")
    return text


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be handed out of each pack.

    Attributes:
        partial: Something is left; with a quantity, that tells.
        quantity: How much; None: all that is there, or with ``partial`` nobody counted.
        uom: Of the quantity; empty: that of the pack.
        pack_size: What a whole pack holds, where the caller says so.
        decommission: The first opening of a pack takes its serial number out of use (EU).
    """

    partial: bool = False
    quantity: Decimal | None = None
    uom: str = ""
    pack_size: Decimal | None = None
    decommission: bool = False


def parse_wanted(*, partial: bool, quantity: str, uom: str, pack_size: str, decommission: bool) -> Wanted:
    """Return what a request wants handed out of each pack.

    Raises:
        MalformedError: QUANTITY_MALFORMED, UOM_MALFORMED, or a unit or a pack size without a quantity (FIELD_MISSING).
    """
    wanted = parse_quantity(quantity, field="quantity") if quantity else None
    size = parse_quantity(pack_size, field="pack_size") if pack_size else None
    for value, field in ((wanted, "quantity"), (size, "pack_size")):
        if value == 0:
            message = "expected more than 0"
            raise MalformedError(message, code="QUANTITY_MALFORMED", field=field)
    if wanted is None and (size is not None or uom):
        message = "a unit and a pack size belong to a quantity"
        raise MalformedError(message, code="FIELD_MISSING", field="quantity")
    return Wanted(partial, wanted, check_uom(uom), size, decommission)


@dataclass(frozen=True, slots=True)
class HandedOut:
    """What was handed out.

    Attributes:
        accepted: The events made.
        opened: Packs that were whole before, and are taken out of use by their opening.
        remainders: What is left of each pack, in order; None where nobody counted.
    """

    accepted: list[Accepted]
    opened: tuple[Unit, ...]
    remainders: tuple[tuple[Unit, Portion | None], ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one event says of its packs."""

    partial: bool
    portion: Portion | None
    opening: bool


def hand_out(session: Session, units: Sequence[Named], occasion: Occasion, wanted: Wanted) -> HandedOut:
    """Hand packs out, in whole or in part; those in a container are taken out of it first.

    Raises:
        ConflictError: A pack may not be dispensed, or less is left of it (QUANTITY_ABOVE_REST), or it is counted in
            another unit (UOM_MISMATCH), or the stated size is not its product's (PACK_SIZE_MISMATCH).
        MalformedError: QUANTITY_MISSING, PACK_SIZE_MISSING, UOM_MISSING.
    """
    groups: dict[_Part, list[Named]] = {}
    parts: list[tuple[Unit, _Part]] = []
    for named in units:
        part = _part_of(session, named, wanted)
        groups.setdefault(part, []).append(named)
        parts.append((named.unit, part))
    made = commands.take_out(session, units, occasion)
    for part, group in groups.items():
        fields = {named.unit: named.field for named in group}
        for some in events.split([named.unit for named in group]):
            statement = events.dispensing(
                some, occasion, partial=part.partial, portion=part.portion, opening=part.opening
            )
            made.append(session.record(statement, fields=fields))
    opened = tuple(unit for unit, part in parts if part.opening)
    return HandedOut(made, opened, tuple((unit, _left(session, unit)) for unit, _ in parts))


def _left(session: Session, unit: Unit) -> Portion | None:
    holding = session.books.get(unit)
    if holding is None or (holding.state is HoldingState.PARTIALLY_DISPENSED and holding.remainder is None):
        return None
    return Portion(Decimal(0), holding.remainder or Decimal(0), holding.remainder_uom)


def _part_of(session: Session, named: Named, wanted: Wanted) -> _Part:
    holding = session.books.get(named.unit)
    opened = holding is not None and holding.state is HoldingState.PARTIALLY_DISPENSED
    if wanted.quantity is None:
        portion = _all_of(holding, named, wanted)
    elif opened and holding is not None:
        portion = _of_opened(holding, named, wanted, wanted.quantity)
    else:
        portion = _of_whole(session, named, wanted, wanted.quantity)
    partial = wanted.partial if portion is None else portion.remainder != 0
    return _Part(partial, portion, wanted.decommission and partial and not opened)


def _all_of(holding: Holding | None, named: Named, wanted: Wanted) -> Portion | None:
    if holding is None or holding.remainder is None or holding.final:
        return None
    if wanted.partial:
        message = f"what is left of {named.unit.path} is counted: say how much is taken"
        raise MalformedError(message, code="QUANTITY_MISSING", field="quantity")
    return Portion(holding.remainder, Decimal(0), holding.remainder_uom)


def _of_opened(holding: Holding, named: Named, wanted: Wanted, quantity: Decimal) -> Portion:
    uom = wanted.uom or holding.remainder_uom
    if holding.remainder is None:
        # Nobody counted when it was opened: what is left is not known, and is not known now.
        if not uom:
            message = f"say in which unit {named.unit.path} is counted"
            raise MalformedError(message, code="UOM_MISSING", field="quantity_uom")
        return Portion(quantity, None, uom)
    _require_uom(named, uom, holding.remainder_uom)
    return Portion(quantity, _rest(named, holding.remainder, quantity, uom), uom)


def _of_whole(session: Session, named: Named, wanted: Wanted, quantity: Decimal) -> Portion:
    known = known_size(session, named.unit)
    if known is not None:
        _require_uom(named, wanted.uom or known.uom, known.uom)
        if wanted.pack_size not in {None, known.quantity}:
            message = f"its product says that {named.unit.path} holds {known.quantity:f} {known.uom}"
            raise ConflictError(message, code="PACK_SIZE_MISMATCH", field="pack_size")
        return Portion(quantity, _rest(named, known.quantity, quantity, known.uom), known.uom)
    if wanted.pack_size is None:
        message = f"the product of {named.unit.path} does not say in numbers what a pack holds: say so"
        raise MalformedError(message, code="PACK_SIZE_MISSING", field="pack_size")
    if not wanted.uom:
        message = f"say in which unit {named.unit.path} is counted"
        raise MalformedError(message, code="UOM_MISSING", field="quantity_uom")
    return Portion(quantity, _rest(named, wanted.pack_size, quantity, wanted.uom), wanted.uom)


def known_size(session: Session, unit: Unit) -> PackSize | None:
    """Return what a whole pack holds, as its product's master data say; None where they do not in numbers."""
    if not isinstance(unit, Sgtin):
        return None
    product = session.desk.products().get(unit.gtin)
    return None if product is None else pack_size_of(product.net_content)


def _require_uom(named: Named, uom: str, counted: str) -> None:
    if uom != counted:
        message = f"{named.unit.path} is counted in {counted}, not in {uom}"
        raise ConflictError(message, code="UOM_MISMATCH", field="quantity_uom")


def _rest(named: Named, left: Decimal, quantity: Decimal, uom: str) -> Decimal:
    if quantity > left:
        message = f"{quantity:f} {uom} are more than the {left:f} in {named.unit.path}"
        raise ConflictError(message, code="QUANTITY_ABOVE_REST", field="quantity")
    return left - quantity
