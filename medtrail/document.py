"""Business documents as statements: who says under which number what kind of thing to whom, without its terms.

The commercial terms stand in :mod:`medtrail.terms`; a document's header carries no more of them than a salted hash.

Source: CBV 2.0, sections 7.3 (business transaction types) and 8.5 (their identifiers); RFC 9562, section 5.5 (name
UUIDs).
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from medtrail.gs1 import Gln

_NAMES = uuid.UUID("6f0c7d0e-52b0-5f0e-9d6f-0a8c2a1f4b5e")
"""Namespace of documents' name UUIDs."""


class DocumentKind(StrEnum):
    """CBV business transaction types of the documents that partners exchange here."""

    ORDER = "po"
    CONFIRMATION = "poc"
    DESPATCH_ADVICE = "desadv"
    RECEIVING_ADVICE = "recadv"
    INVOICE = "inv"


class DocumentFunction(StrEnum):
    """What a document does with its number: state something, or end what stands under it (orders only)."""

    ORIGINAL = "original"
    CANCELLATION = "cancellation"
    CLOSURE = "closure"


@dataclass(frozen=True, slots=True)
class DocumentReference:
    """The name of a document: its kind, the issuer's number, and who issued it."""

    kind: DocumentKind
    number: str
    issuer: Gln

    @property
    def uri(self) -> str:
        """The CBV business transaction identifier, as EPCIS events name it."""
        return f"urn:epcglobal:cbv:bt:{self.issuer}:{self.number}"


@dataclass(frozen=True, slots=True)
class Document:
    """A business document; its issuer is its header's actor.

    Attributes:
        number: The issuer's: 1 to 64 visible ASCII characters, unique for each issuer and kind.
        counterparty: The party to whom it is made.
        issue_time: Aware UTC.
        references: Documents to which it refers.
        event_ids: EPCIS events that it is about.
    """

    kind: DocumentKind
    number: str
    counterparty: Gln
    issue_time: datetime
    function: DocumentFunction = DocumentFunction.ORIGINAL
    references: tuple[DocumentReference, ...] = ()
    event_ids: tuple[str, ...] = ()

    def named(self, issuer: Gln) -> DocumentReference:
        """Return its name, by who issued it."""
        return DocumentReference(self.kind, self.number, issuer)

    def event_id(self, issuer: Gln) -> str:
        """Return the only id under which it may be signed: other content under its number is then a conflict."""
        return f"urn:uuid:{uuid.uuid5(_NAMES, f'{issuer}/{self.kind}/{self.function}/{self.number}')}"
