"""Which declarations may undo what ended a unit.

Dispensing and decommissioning are final. Within ten days, at the same premises, they may be declared an error; never
what is destroyed, stolen or lost, never a pack of which a part was handed out, nor one that is expired or under a
recall. What is declared otherwise stands, and the declaration alerts.

Source: Delegated Regulation (EU) 2016/161, article 13; docs/adr/0014-undoing.md and 0015-custody-rules.md.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from ledger.projections.acts import ending_of
from ledger.projections.belief import Container, Ending
from ledger.projections.circumstances import Circumstances
from ledger.projections.facts import EventFact, from_us
from medtrail.fmd import UNDO_WITHIN
from medtrail.verdict import has_expired

_NEVER = frozenset({Ending.DESTROYED, Ending.STOLEN, Ending.LOST})


@dataclass(frozen=True, slots=True)
class Pack:
    """What is known of a unit when its end is to be undone.

    Attributes:
        commission: None when nobody commissioned it.
        opened: A part of it was handed out before.
    """

    unit: str
    commission: EventFact | None
    opened: bool


def undo_fault(ended: EventFact, declaration: EventFact, pack: Pack, around: Circumstances) -> str:
    """Return why a declaration may not undo an event that ended a unit; empty when it may.

    To have been used up in a repackaging is no end under that law: its declaration corrects data, and is free.
    """
    ending = ending_of(ended)
    if ending is Ending.CONSUMED:
        return ""
    if ending in _NEVER:
        return f"what is {ending} is final"
    if pack.opened:
        return "a part of it was handed to the public before"
    return _too_late_or_elsewhere(ended, declaration) or _barred(declaration, pack, around)


def _too_late_or_elsewhere(ended: EventFact, declaration: EventFact) -> str:
    declared = from_us(declaration.declared_us)
    if declared - ended.time > UNDO_WITHIN:
        return f"declared on {declared:%Y-%m-%d}, more than {UNDO_WITHIN.days} days after {ended.time:%Y-%m-%d}"
    if declaration.place != ended.place:
        return f"declared at {declaration.place or 'no place'}, done at {ended.place or 'no place'}"
    return ""


def _barred(declaration: EventFact, pack: Pack, around: Circumstances) -> str:
    declared = from_us(declaration.declared_us)
    commission = pack.commission
    if commission is not None and commission.expiry:
        expiry = date.fromisoformat(commission.expiry)
        if has_expired(expiry, judge_time=declared, utc_offset=timedelta(seconds=declaration.offset_s)):
            return f"expired on {expiry.isoformat()}"
    number = around.recalled_at(declared, [Container(pack.unit, "" if commission is None else commission.lot)])
    return f"under recall {number}" if number else ""
