"""Handing packs to patients: whole, or in part until nothing is left."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from medtrail.errors import ConflictError, MalformedError
from services.custody.conditions import (
    check,
    check_expiry,
    object_to,
    present,
    require_confirmed,
    require_no_exception,
    require_no_hold,
    take_alone,
    with_inside,
)
from services.custody.holding import Books, Holding, HoldingState
from services.custody.origin import Origin
from services.custody.recalls import RecallIndex
from services.custody.rules import check_recalls
from services.custody.units import Named

_QUANTITY = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?\Z")


@dataclass(frozen=True, slots=True)
class Portion:
    """How much was taken of each pack, and what is left of it then.

    Attributes:
        quantity: Above 0.
        remainder: 0 or more; None where nobody knows what was there before.
        uom: Their unit: UN/ECE Recommendation 20.
    """

    quantity: Decimal
    remainder: Decimal | None
    uom: str


def parse_quantity(text: str, *, field: str) -> Decimal:
    """Return a quantity of 0 or more from at most 12 digits before and 6 after the point.

    Raises:
        MalformedError: It is none (QUANTITY_MALFORMED).
    """
    if not _QUANTITY.match(text):
        message = f"expected a decimal such as 12 or 2.5, got {text[:30]!r}"
        raise MalformedError(message, code="QUANTITY_MALFORMED", field=field)
    return Decimal(text)


def dispense(
    books: Books,
    units: Sequence[Named],
    origin: Origin,
    *,
    recalls: RecallIndex,
    partial: bool,
    portion: Portion | None = None,
) -> None:
    """Hand units to a patient, in whole or in part.

    Args:
        books: The books.
        units: Packs.
        origin: The event.
        recalls: In force.
        partial: Something is left of each.
        portion: How much of each, where it was counted.

    Raises:
        ConflictError: A unit is not here, holds units itself, is on hold, provisional, put aside, expired or recalled,
            or less of it is left (QUANTITY_ABOVE_REST).
    """
    for named in units:
        holding = present(books, named, origin)
        if holding is None:
            continue
        holding = take_alone(books, holding)
        if books.contents(named.unit):
            message = f"{named.unit.path} holds other units; dispense those"
            error = ConflictError(message, code="UNIT_NOT_PACK", field=named.field)
            object_to(books, origin, error, named.unit)
        check(books, origin, holding, named, require_no_exception, require_no_hold, require_confirmed)
        check_expiry(books, origin, holding, named)
        check_recalls(books, named, origin, recalls)
        _hand_out(books, named, origin, _rest(books, named, holding, origin, portion), partial=partial)


def _hand_out(books: Books, named: Named, origin: Origin, rest: Portion | None, *, partial: bool) -> None:
    for part in with_inside(books, named.unit):
        if part.final:
            continue
        changed = books.change(
            part,
            state=HoldingState.PARTIALLY_DISPENSED if partial else HoldingState.DISPENSED,
            event_id=origin.event_id,
            since_time=origin.time,
            # A hold ends with its pack.
            hold_reason=part.hold_reason if partial else "",
            exception="",
            inferred=False,
            opened=part.opened or partial,
        )
        if rest is not None:
            books.change(changed, remainder=rest.remainder, remainder_uom=rest.uom)
        elif not partial and part.remainder is not None:
            books.change(changed, remainder=Decimal(0))


def _rest(books: Books, named: Named, holding: Holding, origin: Origin, portion: Portion | None) -> Portion | None:
    """Return a portion with what the books say is left after it."""
    left = holding.remainder
    if portion is None or left is None:
        return portion
    if holding.remainder_uom != portion.uom:
        if origin.happened:
            # Counted anew in another unit: what was told last counts.
            return portion
        message = f"what is left of {named.unit.path} is counted in {holding.remainder_uom}, not in {portion.uom}"
        raise ConflictError(message, code="UOM_MISMATCH", field=named.field)
    if portion.quantity > left:
        message = f"{portion.quantity:f} {portion.uom} are more than the {left:f} left of {named.unit.path}"
        error = ConflictError(message, code="QUANTITY_ABOVE_REST", field=named.field)
        object_to(books, origin, error, named.unit)
    return Portion(portion.quantity, max(left - portion.quantity, Decimal(0)), portion.uom)
