"""What is believed of a unit, as values.

Exactly one class holds for each unit. The first row that applies decides:

======================================  =========================================================================
class                                   when
======================================  =========================================================================
consumed                                an input of a transformation, or inside one
dispensed                               dispensed or sold to the public, or inside what was
destroyed_or_decommissioned             destroyed, disposed of, decommissioned, deleted
lost_or_stolen                          stolen or lost
left_network                            despatched to, or held by, a party that no enrolled organisation is
delivered_unconfirmed                   arriving or unloading, or received by the word of another than the receiver
in_transit                              despatched, not yet received
returned                                held, and sent back: the despatch or the disposition says returned
opened                                  held, dispensed in part
on_hand                                 held by another party than the one that commissioned it
at_maker                                held by the one that commissioned it, placed there by a later event
unaccounted                             commissioned, and no later event places it
======================================  =========================================================================

The first four are final: no later event undoes them, and one that names the unit alerts.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from ledger.projections.facts import EventFact


class UnitClass(StrEnum):
    """Where a unit is, as far as the log tells."""

    AT_MAKER = "at_maker"
    ON_HAND = "on_hand"
    IN_TRANSIT = "in_transit"
    DELIVERED_UNCONFIRMED = "delivered_unconfirmed"
    LEFT_NETWORK = "left_network"
    CONSUMED = "consumed"
    OPENED = "opened"
    DISPENSED = "dispensed"
    RETURNED = "returned"
    DESTROYED_OR_DECOMMISSIONED = "destroyed_or_decommissioned"
    LOST_OR_STOLEN = "lost_or_stolen"
    UNACCOUNTED = "unaccounted"


FINAL_CLASSES = frozenset(
    {
        UnitClass.CONSUMED,
        UnitClass.DISPENSED,
        UnitClass.DESTROYED_OR_DECOMMISSIONED,
        UnitClass.LOST_OR_STOLEN,
    }
)


class Ending(StrEnum):
    """How the life of a unit ended; spelled as the reason of an event says those that CBV has no word for."""

    DISPENSED = "dispensed"
    CONSUMED = "consumed"
    DECOMMISSIONED = "decommissioned"
    DESTROYED = "destroyed"
    LOST = "lost"
    STOLEN = "stolen"
    EXPORTED = "exported"
    SAMPLED = "sampled"
    FREE_SAMPLE = "free_sample"
    LOCKED = "locked"
    DAMAGED = "damaged"


class EvidenceKind(StrEnum):
    """How a unit's state is known, in ascending strength."""

    SECOND_HAND = "second_hand"
    INFERRED = "inferred"
    SCANNED = "scanned"


class AlertCode(StrEnum):
    """What is wrong or missing in a unit's history; codes are part of the interface: added, never renamed."""

    SECOND_COMMISSIONING = "SECOND_COMMISSIONING"
    COMMISSION_MISSING = "COMMISSION_MISSING"
    SHIPPED_NOT_HELD = "SHIPPED_NOT_HELD"
    RECEIVED_NOT_SHIPPED = "RECEIVED_NOT_SHIPPED"
    ENDED_NOT_HELD = "ENDED_NOT_HELD"
    USED_AFTER_END = "USED_AFTER_END"
    DISPENSED_TWICE = "DISPENSED_TWICE"
    LOT_CONFLICT = "LOT_CONFLICT"
    EXPIRY_CONFLICT = "EXPIRY_CONFLICT"
    MAKER_CONFLICT = "MAKER_CONFLICT"
    DOUBLE_CONTAINER = "DOUBLE_CONTAINER"
    CONTAINER_CYCLE = "CONTAINER_CYCLE"
    EVENT_ID_HASH_MISMATCH = "EVENT_ID_HASH_MISMATCH"
    RELIED_ON_DECLARED_ERROR = "RELIED_ON_DECLARED_ERROR"
    KEY_SUSPECT = "KEY_SUSPECT"
    PARENT_NOT_UNPACKED = "PARENT_NOT_UNPACKED"
    USED_BEFORE_COMMISSIONING = "USED_BEFORE_COMMISSIONING"
    USED_AFTER_EXPIRY = "USED_AFTER_EXPIRY"
    SOLD_UNDER_HOLD = "SOLD_UNDER_HOLD"
    SOLD_UNDER_RECALL = "SOLD_UNDER_RECALL"
    DUPLICATE_SERIAL = "DUPLICATE_SERIAL"
    IMPOSSIBLE_MOVEMENT = "IMPOSSIBLE_MOVEMENT"
    UNDO_FORBIDDEN = "UNDO_FORBIDDEN"
    DISPENSED_TOO_MUCH = "DISPENSED_TOO_MUCH"
    TEMPERATURE_EXCURSION = "TEMPERATURE_EXCURSION"


# May only mean that earlier data are missing: hold, do not accuse.
PROVISIONAL_ALERTS = frozenset(
    {
        AlertCode.COMMISSION_MISSING,
        AlertCode.SHIPPED_NOT_HELD,
        AlertCode.RECEIVED_NOT_SHIPPED,
        AlertCode.ENDED_NOT_HELD,
        AlertCode.DOUBLE_CONTAINER,
        AlertCode.PARENT_NOT_UNPACKED,
        AlertCode.USED_BEFORE_COMMISSIONING,
        AlertCode.SOLD_UNDER_HOLD,
    }
)

# No missing data can explain these: a likely copy, or evidence in doubt.
GRAVE_ALERTS = frozenset(
    {
        AlertCode.SECOND_COMMISSIONING,
        AlertCode.USED_AFTER_END,
        AlertCode.DISPENSED_TWICE,
        AlertCode.LOT_CONFLICT,
        AlertCode.EXPIRY_CONFLICT,
        AlertCode.MAKER_CONFLICT,
        AlertCode.KEY_SUSPECT,
        AlertCode.DUPLICATE_SERIAL,
        AlertCode.DISPENSED_TOO_MUCH,
    }
)

# Told, and no reason to keep a pack back by themselves: the pack is sound, or its class or its hold says more.
SILENT_ALERTS = frozenset({AlertCode.PARENT_NOT_UNPACKED, AlertCode.UNDO_FORBIDDEN, AlertCode.TEMPERATURE_EXCURSION})


@dataclass(frozen=True, slots=True)
class Alert:
    """A contradiction or a gap in a unit's history, and the entry that raised it."""

    code: AlertCode
    message: str
    leaf_index: int

    @property
    def provisional(self) -> bool:
        """Whether it may only mean that earlier data are missing."""
        return self.code in PROVISIONAL_ALERTS

    @property
    def grave(self) -> bool:
        """Whether no missing data can explain it."""
        return self.code in GRAVE_ALERTS


class Standing(StrEnum):
    """Whether an event counts for a unit.

    ``ECHO`` says again what another event says: it agrees, and adds nothing. Of the last three none is believed.
    """

    COUNTS = "counts"
    ECHO = "echo"
    DECLARED = "declared"
    SUPERSEDED = "superseded"
    NOT_PARTY = "not_party"

    @property
    def disbelieved(self) -> bool:
        """Whether the event no longer counts, nor agrees with one that does."""
        return self not in {Standing.COUNTS, Standing.ECHO}


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a unit's history.

    Attributes:
        via: Path of the unit by which it belongs: the unit itself, or what held it.
        time_us: Effective time: a receiving never precedes the despatch that it answers.
    """

    fact: EventFact
    via: str
    time_us: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Container:
    """What holds a unit, nearest first: path, and its own lot (may be empty)."""

    path: str
    lot: str


@dataclass(frozen=True, slots=True)
class UnitBelief:
    """What is believed of one unit.

    Attributes:
        unit: Canonical path.
        holder: GLN of the party that holds it, or held it last; may be empty.
        destination: GLN of the party to which it is on its way; empty unless despatched.
        place: GLN or URI; may be empty.
        since: Since when the class, holder and destination hold; event time.
        evidence: How it is known.
        evidence_index: Entry that says so.
        containers: What holds it now, nearest first.
        maker: GLN of the party that commissioned it; empty when nobody did.
        first_hand: The maker's own word is in the log.
        owner: GLN of the owner where it differs from the holder; may be empty.
        alerts: In log order.
        ending: How its life ended; None while it has not.
        returned: It was sent back, and not released since.
        opened: It was handed out in part.
        hold_reason: Why it is held back; empty when it is not, or has ended.
        hold_index: Entry that put it on hold; None when none did.
        marked_suspect: Its holder holds it as suspect.
        remainder: What is left of it, once a part was handed out; None where nobody said how much.
        remainder_uom: UN/ECE Rec 20 unit code of that; empty means a count.
        recall_ids: Recalls in force that cover it, in log order; filled in by who knows the recalls.
    """

    unit: str
    unit_class: UnitClass
    holder: str
    destination: str
    place: str
    since: datetime
    evidence: EvidenceKind
    evidence_index: int
    containers: tuple[Container, ...] = ()
    lot: str = ""
    expiry: date | None = None
    maker: str = ""
    first_hand: bool = False
    disposition: str = ""
    persistent_dispositions: tuple[str, ...] = ()
    owner: str = ""
    alerts: tuple[Alert, ...] = ()
    ending: Ending | None = None
    returned: bool = False
    opened: bool = False
    hold_reason: str = ""
    hold_index: int | None = None
    marked_suspect: bool = False
    remainder: Decimal | None = None
    remainder_uom: str = ""
    recall_ids: tuple[str, ...] = ()

    @property
    def suspect(self) -> bool:
        """Whether its history contradicts itself, or its holder says that it is suspect."""
        return self.marked_suspect or any(alert.grave for alert in self.alerts)

    @property
    def words(self) -> tuple[str, ...]:
        """CBV dispositions in force: the last event's, and the persistent ones."""
        return (self.disposition, *self.persistent_dispositions)

    @property
    def commissioned(self) -> bool:
        """Whether somebody commissioned it, by an event that counts."""
        return bool(self.maker)

    @property
    def has_origin(self) -> bool:
        """Whether it is known where it comes from: trade items are commissioned, logistic units may just be packed."""
        return self.commissioned or not self.unit.startswith("/01/")

    @property
    def parent(self) -> str:
        """Path of its container now; empty when loose."""
        return self.containers[0].path if self.containers else ""
