"""What can be signed: a header, and one statement of one of several payload types.

An :class:`Event` is the value that a producer signs and that a reader believes or does not. Its bytes are made once, by
:mod:`medtrail.codec`; nothing ever serializes them again.
"""

import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from medtrail.document import Document
from medtrail.epcis.model import EpcisEvent
from medtrail.exception_letter import ExceptionLetter
from medtrail.gs1 import Gln, Gtin

SALT_BYTES = 32
MAX_SIGNED_EVENT_BYTES = 256 * 1024
MAX_BATCH_BYTES = 512 * 1024
MAX_BATCH_EVENTS = 500
RESERVED_SOURCES = frozenset({"main", "authority", "ledger"})
"""Sources of others than stations."""
_STATION_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?\Z")


class PayloadType(StrEnum):
    """Media types of payloads; also the first part of what is signed."""

    EPCIS = "application/vnd.medtrail.epcis.v1+protobuf"
    PRODUCT = "application/vnd.medtrail.product.v1+protobuf"
    RECALL = "application/vnd.medtrail.recall.v1+protobuf"
    TRUST = "application/vnd.medtrail.trust.v1+protobuf"
    REFUSAL = "application/vnd.medtrail.refusal.v1+protobuf"
    ERASURE = "application/vnd.medtrail.erasure.v1+protobuf"
    DOCUMENT = "application/vnd.medtrail.document.v1+protobuf"
    EXCEPTION = "application/vnd.medtrail.exception.v1+protobuf"


class Capture(StrEnum):
    """Whose word a payload is: the actor's own, or a counterpart's who witnesses it."""

    FIRST_HAND = "first_hand"
    SECOND_HAND = "second_hand"


class Role(StrEnum):
    """What an organisation may be enrolled as."""

    MANUFACTURER = "manufacturer"
    DISTRIBUTOR = "distributor"
    PHARMACY = "pharmacy"
    REPACKAGER = "repackager"
    INVESTIGATOR = "investigator"
    REGULATOR = "regulator"
    AUTHORITY = "authority"
    LEDGER = "ledger"


class PackLevel(StrEnum):
    """Packaging level of a trade item, from master data."""

    UNKNOWN = "unknown"
    PACK = "pack"
    BUNDLE = "bundle"
    CASE = "case"
    PALLET = "pallet"


@dataclass(frozen=True, slots=True)
class Header:
    """What every payload starts with.

    Attributes:
        salt: 32 random bytes.
        actor: The party that did it.
        source: Station at which it was recorded.
        source_seq: Number at this source, from 1, without gaps.
        event_id: CBV event hash URI, the producer's own URI, or a UUID URN.
        capture: Whose word it is.
        sealed_terms_sha256: 32 bytes, or empty.
    """

    salt: bytes
    actor: Gln
    source: str
    source_seq: int
    event_id: str
    capture: Capture = Capture.FIRST_HAND
    sealed_terms_sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class NationalNumber:
    """A national number of a product: system (``NDC``, ``PZN``, …) and the number as written there."""

    system: str
    number: str


@dataclass(frozen=True, slots=True)
class ProductContent:
    """What one unit of a grouping holds: the contained trade item and how many of it."""

    gtin: Gtin
    count: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """How far and for how long a range may be left: up to this value, for so long in all (whole seconds)."""

    limit: Decimal
    duration: timedelta


@dataclass(frozen=True, slots=True)
class StorageRange:
    """Between which values a product is kept, both included; None: no such bound.

    Attributes:
        below: How far and for how long it may be below ``lowest``; None: not at all.
        above: Likewise above ``highest``.
    """

    lowest: Decimal | None = None
    highest: Decimal | None = None
    below: Allowance | None = None
    above: Allowance | None = None


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """Conditions under which a product is kept; None: its maker states none.

    Attributes:
        temperature: In degrees Celsius.
        relative_humidity: In per cent.
        absolute_humidity: In grams of water a cubic metre.
    """

    temperature: StorageRange | None = None
    relative_humidity: StorageRange | None = None
    absolute_humidity: StorageRange | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """Master data of a trade item at one packaging level; ``storage`` is None where its maker states no limits."""

    gtin: Gtin
    level: PackLevel
    name: str
    national_numbers: tuple[NationalNumber, ...] = ()
    strength: str = ""
    dosage_form: str = ""
    net_content: str = ""
    content: ProductContent | None = None
    storage: StorageLimits | None = None


@dataclass(frozen=True, slots=True)
class RecallScope:
    """A GTIN, narrowed by lot (empty: every lot), narrowed by serials (empty: every serial)."""

    gtin: Gtin
    lot: str = ""
    serials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recall:
    """A standing rule; a unit is affected when a scope matches it, what it holds, or what holds it."""

    number: str
    depth: str
    reason: str
    instruction: str
    start_time: datetime
    scopes: tuple[RecallScope, ...]
    recall_class: str = ""
    drill: bool = False
    terminated_recall_id: str = ""


@dataclass(frozen=True, slots=True)
class Genesis:
    """Entry 0 of a log: its origin, the authority's key (did:key), and SHA-256 of the secret map salt."""

    origin: str
    authority_key_id: str
    map_salt_sha256: bytes


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence: who gave it, its number, and its last moment (aware UTC; None: unlimited)."""

    authority: str
    number: str
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An organisation as the authority knows it; a later one of the same GLN replaces all but the keys.

    Attributes:
        signing_key_ids: did:key; those already known stay.
        sealing_key: X25519, 32 bytes.
        nats_user_key: NATS user public key (``U…``).
        responder_url: Where it answers verification requests for its products; may be empty.
    """

    organisation: str
    display_name: str
    gln: Gln
    locations: tuple[Gln, ...]
    company_prefixes: tuple[str, ...]
    roles: frozenset[Role]
    signing_key_ids: tuple[str, ...]
    sealing_key: bytes
    nats_user_key: str
    licences: tuple[Licence, ...] = ()
    responder_url: str = ""


@dataclass(frozen=True, slots=True)
class KeyAddition:
    """A further signing key of the organisation with this GLN.

    Attributes:
        key_id: did:key.
        station: The station whose key it is; it says nothing under another source. Empty: as good as any other key.
    """

    gln: Gln
    key_id: str
    station: str = ""


@dataclass(frozen=True, slots=True)
class KeyRetirement:
    """The end of a key in good order: it speaks for nothing chained later."""

    key_id: str


@dataclass(frozen=True, slots=True)
class KeyRevocation:
    """The end of a key in doubt: refused from its index on, earlier entries flagged from ``suspect_time``."""

    key_id: str
    suspect_time: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """The ledger's answer that it did not chain an event, and why."""

    signed_event_sha256: bytes
    event_id: str
    code: str
    field: str
    message: str
    stream_seq: int
    stream_time: datetime


@dataclass(frozen=True, slots=True)
class ErasureOrder:
    """Who signed an event wants its bytes erased: SHA-256 of the SignedEvent (32 bytes), and why."""

    signed_event_sha256: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ErasureConsent:
    """The authority agrees that an event is erased before its retention period is over: its hash, and why."""

    signed_event_sha256: bytes
    reason: str


TrustStatement = Genesis | Enrolment | KeyAddition | KeyRetirement | KeyRevocation
ErasureStatement = ErasureOrder | ErasureConsent
Statement = EpcisEvent | Product | Recall | TrustStatement | Refusal | ErasureStatement | Document | ExceptionLetter

_PAYLOAD_TYPE_OF: dict[type, PayloadType] = {
    EpcisEvent: PayloadType.EPCIS,
    Product: PayloadType.PRODUCT,
    Recall: PayloadType.RECALL,
    Genesis: PayloadType.TRUST,
    Enrolment: PayloadType.TRUST,
    KeyAddition: PayloadType.TRUST,
    KeyRetirement: PayloadType.TRUST,
    KeyRevocation: PayloadType.TRUST,
    Refusal: PayloadType.REFUSAL,
    ErasureOrder: PayloadType.ERASURE,
    ErasureConsent: PayloadType.ERASURE,
    Document: PayloadType.DOCUMENT,
    ExceptionLetter: PayloadType.EXCEPTION,
}


@dataclass(frozen=True, slots=True)
class Event:
    """A header and what it heads. An EPCIS statement's own ``event_id`` is None: the header has it."""

    header: Header
    statement: Statement

    @property
    def payload_type(self) -> PayloadType:
        """Media type of the payload."""
        return _PAYLOAD_TYPE_OF[type(self.statement)]

    @property
    def is_declaration(self) -> bool:
        """Whether it declares an earlier event to be in error; part of the duplicate key (ARCHITECTURE, section 3)."""
        return isinstance(self.statement, EpcisEvent) and self.statement.error_declaration is not None


def new_salt() -> bytes:
    """Return 32 bytes from the operating system's generator."""
    return secrets.token_bytes(SALT_BYTES)


def is_station_name(name: str) -> bool:
    """Tell whether a station may be called so: 1 to 20 of a-z, 0-9 and, inside, -; and not as other sources are."""
    return bool(_STATION_NAME.match(name)) and name not in RESERVED_SOURCES


def new_event_id() -> str:
    """Return a random UUID URN, the id of payloads other than EPCIS."""
    return f"urn:uuid:{uuid.uuid4()}"
