"""What is ours by its data and may not be sold all the same: under recall, expired, damaged.

Each flaw holds a unit by itself: one that ends leaves the others.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from medtrail.verdict import has_expired
from services.custody import commands
from services.custody.conditions import offset_of_text, with_inside
from services.custody.desk import Accepted, Session
from services.custody.events import Occasion
from services.custody.exceptions import store as case_store
from services.custody.exceptions.case import NewCase
from services.custody.exceptions.codes import ExceptionCode, rule_of
from services.custody.holding import Holding
from services.custody.holds import HoldCode, codes_of
from services.custody.receiving import lines_store
from services.custody.units import Named, Unit

AT_RECEIVING = "found at receiving"


def flaws_of(session: Session, unit: Unit, occasion: Occasion, *, damaged: bool) -> list[ExceptionCode]:
    """Return what is the matter with a unit whose data fit."""
    holding = session.books.get(unit)
    found = []
    if session.recalls.affecting(session.books, unit):
        found.append(ExceptionCode.RECALLED)
    if holding is not None and holding.expiry is not None:
        offset = offset_of_text(occasion.offset)
        if has_expired(holding.expiry, judge_time=occasion.time, utc_offset=offset):
            found.append(ExceptionCode.EXPIRED)
    if damaged:
        found.append(ExceptionCode.DAMAGED)
    return found


def hold_flawed(
    session: Session, flawed: Mapping[ExceptionCode, Sequence[Named]], occasion: Occasion
) -> list[Accepted]:
    """Hold units once for each of their flaws; a flaw for which one is on hold already is not said again."""
    made: list[Accepted] = []
    for flaw, units in flawed.items():
        code = HoldCode(flaw.value)
        free = [named for named in units if code not in _codes(session.books.get(named.unit))]
        made += commands.hold(session, free, occasion, reason=AT_RECEIVING, code=code)
    return made


def _codes(holding: Holding | None) -> frozenset[HoldCode]:
    return frozenset() if holding is None else codes_of(holding.hold_reason)


def hold_later(
    session: Session,
    units: Iterable[Named],
    occasion: Occasion,
    *,
    despatch_id: str,
    but: Collection[ExceptionCode] = (),
) -> list[Accepted]:
    """Hold what is flawed of goods that were received after their delivery was closed, with a case for each flaw.

    Args:
        session: With their books.
        units: Received by themselves, with all that is inside.
        occasion: Of their receiving.
        despatch_id: That brought them; may be empty.
        but: Flaws that a person has seen to.
    """
    chosen = list(units)
    damaged = _damaged(session, [named.unit for named in chosen])
    packs = {
        part.unit: Named(part.unit, named.field)
        for named in chosen
        for part in with_inside(session.books, named.unit)
        if part.here and not session.books.contents(part.unit)
    }
    flawed: dict[ExceptionCode, list[Named]] = {}
    for unit, named in packs.items():
        for flaw in flaws_of(session, unit, occasion, damaged=unit in damaged):
            if flaw not in but:
                flawed.setdefault(flaw, []).append(named)
    made = hold_flawed(session, flawed, occasion)
    for flaw, held in flawed.items():
        detail = f"{len(held)} units {AT_RECEIVING}: {rule_of(flaw).instruction}"
        new = NewCase(flaw, detail, [named.unit for named in held], despatch_id=despatch_id)
        case_store.open_cases(session.connection, session.desk.gln, new, now=session.now)
    return made


def _damaged(session: Session, units: Sequence[Unit]) -> set[Unit]:
    """Return what of some units and their contents was damaged when it was scanned, or is in something that was."""
    parts = {part.unit: part for unit in units for part in with_inside(session.books, unit)}
    latest: dict[str, bool] = {}
    for line in lines_store.of_units(session.connection, [unit.path for unit in parts]):
        latest.setdefault(line.path, line.damaged)
    seen = {unit for unit in parts if latest.get(unit.path, False)}
    return {unit for unit in parts if unit in seen or any(box.unit in seen for box in session.books.containers(unit))}
