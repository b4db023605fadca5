"""Tables of a service's database that custody owns.

Units stand as canonical paths (``/01/…/21/…``, ``/00/…``), GLNs as 13 digits, times as int64 microseconds since
1970-01-01T00:00:00Z, days as ISO dates, hashes as 32 bytes.
"""

from typing import ClassVar

from sqlalchemy import DDL, BigInteger, Index, MetaData, UniqueConstraint, event
from sqlmodel import Field, SQLModel

CUSTODY_METADATA = MetaData()


class CustodyTable(SQLModel):
    """Base of custody's tables, with metadata of their own."""

    metadata: ClassVar[MetaData] = CUSTODY_METADATA


class HoldingRow(CustodyTable, table=True):
    """What is known of one unit: :class:`services.custody.holding.Holding`."""

    __tablename__: ClassVar[str] = "holding"
    __table_args__ = (
        Index("holding_by_parent", "parent"),
        Index("holding_by_lot", "gtin", "lot"),
        Index("holding_by_despatch", "despatch_id"),
    )

    path: str = Field(primary_key=True)
    gtin: str
    lot: str
    expiry: str
    state: str
    event_id: str
    since_us: int = Field(sa_type=BigInteger)
    parent: str
    location: str
    partner: str
    hold_reason: str
    provisional: bool
    ending: str
    exception: str
    despatch_id: str
    smallest: bool
    # Since version 5; earlier rows have the defaults.
    inferred: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    remainder: str = Field(default="", sa_column_kwargs={"server_default": ""})
    remainder_uom: str = Field(default="", sa_column_kwargs={"server_default": ""})
    sold_to: str = Field(default="", sa_column_kwargs={"server_default": ""})
    suspect: str = Field(default="", sa_column_kwargs={"server_default": ""})
    opened: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})


class HoldingBefore(CustodyTable, table=True):
    """What was known of a unit before an event, so that a refused or mistaken event can be taken back.

    Attributes:
        before: The holding's row as JSON; empty when nothing was known.
    """

    __tablename__: ClassVar[str] = "holding_before"

    event_number: int = Field(primary_key=True)
    path: str = Field(primary_key=True)
    before: str


class KnownEvent(CustodyTable, table=True):
    """A SignedEvent that this organisation made or was advised of.

    Attributes:
        number: In order of arrival, from 1.
        signer: Party GLN of the signing organisation.
        declaration: Whether it declares an error; part of the key.
        own: Whether this organisation signed it.
        leaf_index: In the log, once a receipt or a proof has said so.
        refusal: Code of the ledger's refusal; empty when there is none.
    """

    __tablename__: ClassVar[str] = "known_event"
    __table_args__ = (
        UniqueConstraint("signer", "event_id", "declaration"),
        Index("known_event_by_hash", "signed_event_sha256"),
        Index("known_event_by_id", "event_id"),
        Index("known_event_by_type", "payload_type", "own"),
    )

    number: int | None = Field(default=None, primary_key=True)
    signer: str
    event_id: str
    declaration: bool
    own: bool
    payload_type: str
    event_time_us: int = Field(sa_type=BigInteger)
    source_seq: int = Field(sa_type=BigInteger)
    signed_event_sha256: bytes
    signed_event: bytes
    leaf_index: int | None = Field(default=None, sa_type=BigInteger)
    refusal: str = ""


class EventUnit(CustodyTable, table=True):
    """That an event names a unit."""

    __tablename__: ClassVar[str] = "event_unit"

    path: str = Field(primary_key=True)
    event_number: int = Field(primary_key=True)


class Inbound(CustodyTable, table=True):
    """A shipment that a partner has advised.

    Attributes:
        number: In order of arrival, from 1.
        signer: Party GLN of who signed the despatch; the sender itself, or this organisation where it captured it.
        sender: Party GLN of whose goods they were.
        units: Outermost units, a path a line.
        documents: Business transactions, JSON list of (id, type).
        returned: They come back.
    """

    __tablename__: ClassVar[str] = "inbound"
    __table_args__ = (UniqueConstraint("despatch_id"),)

    number: int | None = Field(default=None, primary_key=True)
    despatch_id: str
    signer: str
    sender: str
    source_location: str
    despatch_us: int = Field(sa_type=BigInteger)
    units: str
    documents: str
    returned: bool
    unit_count: int
    received_count: int
    provisional: bool
    state: str


class AdvicePart(CustodyTable, table=True):
    """A part of an advice that cannot be judged yet: other parts are missing, or the sender is not known yet."""

    __tablename__: ClassVar[str] = "advice_part"

    sender: str = Field(primary_key=True)
    despatch_id: str = Field(primary_key=True)
    part: int = Field(primary_key=True)
    part_count: int
    advice: bytes


class RequestRow(CustodyTable, table=True):
    """A write that was answered, so that asking again gives the same answer."""

    __tablename__: ClassVar[str] = "request"

    request_id: str = Field(primary_key=True)
    method: str
    request_sha256: bytes
    answer: bytes


class Counter(CustodyTable, table=True):
    """A gapless number."""

    __tablename__: ClassVar[str] = "counter"

    name: str = Field(primary_key=True)
    value: int = Field(sa_type=BigInteger)


class RefusedEvent(CustodyTable, table=True):
    """An event of a partner that the ledger refused; its advice may come later than the refusal."""

    __tablename__: ClassVar[str] = "refused_event"

    signed_event_sha256: bytes = Field(primary_key=True)
    code: str


class EventChange(CustodyTable, table=True):
    """That something happened to an event: rows are only ever added, so that their numbers have no gaps.

    Attributes:
        number: From 1.
        kind: :class:`services.custody.changes.ChangeKind`.
        record_time_us: When the event was captured here, or came in.
    """

    __tablename__: ClassVar[str] = "event_change"
    __table_args__ = (Index("event_change_by_hash", "signed_event_sha256"),)

    number: int | None = Field(default=None, primary_key=True)
    signed_event_sha256: bytes
    kind: int
    record_time_us: int = Field(sa_type=BigInteger)


class VerificationRow(CustodyTable, table=True):
    """One question about a pack or a product, and its answer: :class:`services.custody.verifications.Record`.

    Rows are only ever added: the database itself refuses to change or delete one.
    """

    __tablename__: ClassVar[str] = "verification"

    number: int | None = Field(default=None, primary_key=True)
    record_us: int = Field(sa_type=BigInteger)
    kind: int
    caller: str
    requester: str
    responder: str
    context: str
    question: str
    http_status: int
    answer: str
    corr_uuid: str


for _verb in ("UPDATE", "DELETE"):
    event.listen(
        VerificationRow.__table__,  # type: ignore[attr-defined]
        "after_create",
        DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER verification_no_{_verb.lower()} BEFORE {_verb} ON verification "
            "BEGIN SELECT RAISE(ABORT, 'records of verifications are only added'); END"
        ),
    )
