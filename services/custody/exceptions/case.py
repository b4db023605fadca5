"""A case: what is the matter with which goods, how far it is, and what was said about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from medtrail.gs1 import Gln
from medtrail.pdg import Resolution
from services.custody.exceptions.codes import Category, CodeRule, ExceptionCode, rule_of
from services.custody.units import Unit

NOTIFY_WITHIN = timedelta(hours=24)
"""FDA and trading partners are notified of illegitimate product so soon. Source: FD&C Act, section 582."""


class CaseStatus(StrEnum):
    """How far a case is."""

    OPEN = "open"
    PROPOSED = "proposed"
    AGREED = "agreed"
    DISPUTED = "disputed"
    ILLEGITIMATE = "illegitimate"
    RESOLVED = "resolved"


class CaseResolution(StrEnum):
    """How a case ended."""

    CORRECTED_DATA = "corrected_data"
    ACCEPTED = "accepted"
    RETURNED = "returned"
    DESTROYED = "destroyed"
    WITHDRAWN = "withdrawn"
    CLEARED = "cleared"
    BY_PARTNER = "by_partner"


class MessageKind(StrEnum):
    """What a message of a case is."""

    INTERNAL = "internal"
    NOTE = "note"
    REPORT = "report"
    RESPONSE = "response"
    ILLEGITIMATE = "illegitimate"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class CaseScan:
    """The scan that raised a case: verbatim, when (aware UTC; None: not said), where, and its verdict's code."""

    scan: str
    time: datetime | None = None
    station: str = ""
    verdict_code: str = ""


@dataclass(frozen=True, slots=True)
class CaseUnit:
    """A unit of a case.

    Attributes:
        return_pending: Marked for return to the partner of the case, and not sent yet.
        quarantined: Its hold was set by the case.
        verified: In the investigation of suspect product.
    """

    unit: Unit
    return_pending: bool = False
    quarantined: bool = False
    verified: bool = False


@dataclass(frozen=True, slots=True)
class CaseMessage:
    """A message of a case.

    Attributes:
        message_id: UUID.
        time: Aware UTC.
        request: What is asked for the case as a whole; None where items say it, or nothing is asked.
        pdg: PDG message as made; empty for other kinds.
        sha256: Of the SignedEvent that carries it; empty where none does.
        signed_event: Likewise.
    """

    message_id: str
    kind: MessageKind
    sender: Gln
    time: datetime
    person: str = ""
    text: str = ""
    request: Resolution | None = None
    pdg: bytes = b""
    sha256: bytes = b""
    signed_event: bytes = b""


@dataclass(frozen=True, slots=True)
class NewCase:
    """A case as it is raised.

    Attributes:
        code: What is the matter.
        detail: In words, cut to 2,000 characters.
        partner: Party GLN; that of the despatch's sender when None.
        despatch_id: event_id; may be empty, like ``delivery_id``, ``purchase_order`` and ``owner``.
        scan: That raised it.
        expected_count: How many were advised, where units are not told apart; like ``counted_count``.
        owner: Who sees to it.
        due_time: Aware UTC; by the code when None.
        case_id: UUID of a case that a partner reported; a new one when empty.
        partner_reported: The partner reported it.
    """

    code: ExceptionCode
    detail: str
    units: Sequence[Unit] = ()
    partner: Gln | None = None
    despatch_id: str = ""
    delivery_id: str = ""
    scan: CaseScan | None = None
    purchase_order: str = ""
    expected_count: int = 0
    counted_count: int = 0
    owner: str = ""
    due_time: datetime | None = None
    case_id: str = ""
    partner_reported: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A case.

    Attributes:
        number: In order of opening here.
        case_id: UUID; the same on both sides.
        partner: Party GLN of the other side; None where there is none.
        partner_reported: The partner reported it to us.
        shared: We reported it to the partner.
        due_time: Until when it is to be resolved; like all times aware UTC.
        expected_count: How many were advised, where units are not told apart; like ``counted_count``.
        determine_time: When suspect product was found illegitimate.
        submit_time: When Form FDA 3911 was submitted.
    """

    number: int
    case_id: str
    code: ExceptionCode
    status: CaseStatus
    open_time: datetime
    due_time: datetime
    partner: Gln | None = None
    partner_reported: bool = False
    shared: bool = False
    owner: str = ""
    resolve_time: datetime | None = None
    resolution: CaseResolution | None = None
    resolution_note: str = ""
    detail: str = ""
    despatch_id: str = ""
    delivery_id: str = ""
    purchase_order: str = ""
    scan: CaseScan | None = None
    unit_count: int = 0
    expected_count: int = 0
    counted_count: int = 0
    determine_time: datetime | None = None
    submit_time: datetime | None = None
    incident_number: str = ""

    @property
    def rule(self) -> CodeRule:
        """What goes with its code."""
        return rule_of(self.code)

    @property
    def category(self) -> Category:
        """Its category."""
        return self.rule.category

    @property
    def resolved(self) -> bool:
        """Whether nothing happens any more."""
        return self.status is CaseStatus.RESOLVED

    @property
    def notify_due_time(self) -> datetime | None:
        """Until when the FDA is to be notified; None before the product was found illegitimate."""
        return None if self.determine_time is None else self.determine_time + NOTIFY_WITHIN

    def overdue(self, now: datetime) -> bool:
        """Tell whether it is past its due time and not resolved."""
        return not self.resolved and now > self.due_time
