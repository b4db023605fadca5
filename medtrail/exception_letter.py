"""Letters about exceptions as statements: what one partner says to another about a case that both keep.

They travel from partner to partner; the log refuses them, for what is agreed about goods shows in the events that
follow from it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from medtrail.gs1 import Gln


class LetterKind(StrEnum):
    """What a letter is."""

    REPORT = "report"
    RESPONSE = "response"
    NOTE = "note"
    ILLEGITIMATE = "illegitimate"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class ExceptionLetter:
    """A letter about one case; who says it is its header's actor.

    Attributes:
        counterparty: The party to which it is addressed.
        case_id: UUID of the case; exception_case_uuid of PDG messages.
        message_id: UUID; message_uuid of PDG messages.
        code: What is the matter, upper snake case: a reader may know fewer codes than the writer.
        message_time: When it was said; aware UTC.
        person: Who says it; may be empty.
        text: For people; may be empty.
        pdg: PDG message of a report or response, exactly as made; empty in other kinds.
        resolution_request: What is asked for the case as a whole, in words of PDG messages; may be empty.
        purchase_order: Number; may be empty.
        despatch_id: event_id; may be empty.
        epcs: Digital Links of units.
    """

    counterparty: Gln
    case_id: str
    message_id: str
    kind: LetterKind
    code: str
    message_time: datetime
    person: str = ""
    text: str = ""
    pdg: bytes = b""
    resolution_request: str = ""
    purchase_order: str = ""
    despatch_id: str = ""
    epcs: tuple[str, ...] = ()
