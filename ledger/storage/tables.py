"""Tables of ledger.db. They are written by SQLAlchemy Core in bulk; no row ever becomes an object on the hot path.

Times are int64 microseconds since 1970-01-01T00:00:00Z. Hashes are 32 bytes. GLNs have 13 digits.

Evidence is what fsck re-derives: every column here is the source of a hash or the result of one, but for those that
only steer: the lease, the followers' positions, and the log state's ``stream_created``, ``fence``, ``frozen`` and
``must_reach``.
"""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, MetaData, Table, UniqueConstraint, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import TypeCompiler
from sqlmodel import Field, SQLModel

from medtrail.event import PayloadType

LEDGER_METADATA = MetaData()

OTHER_THAN_EPCIS = f"payload_type <> '{PayloadType.EPCIS.value}'"
"""SQL of the entries that are indexed by type; a query has it word for word, or the index is not used."""


class Int64(BigInteger):
    """64 bits everywhere; SQLite's INTEGER, so that a primary key is its row id and needs no second index."""


@compiles(Int64, "sqlite")
def _int64_of_sqlite(_type: Int64, _compiler: TypeCompiler, **_options: object) -> str:
    return "INTEGER"


class LedgerTable(SQLModel):
    """Base of the ledger's tables, with metadata of their own: services' tables never enter ledger.db."""

    metadata: ClassVar[MetaData] = LEDGER_METADATA


class LogState(LedgerTable, table=True):
    """The one row of the log: its tree, and how far the stream is integrated.

    Attributes:
        number: Always 1.
        tree_range: Roots of the perfect subtrees of the tree, left to right, 32 bytes each.
        epoch: Reading of the stream from its first message, from 1.
        next_seq: Stream sequence of the first message not yet integrated, from 1.
        last_message_sha256: Hash of message next_seq - 1; empty when none was read in this epoch.
        stream_created: Creation time of the stream as the server tells it; empty before the first message of an epoch.
        fence: Number of the instance that last took the log; an older one finds another number and stops.
        frozen: Why nothing may be signed now; empty: it may.
        must_reach_size: Size of a larger tree that this log's key signed once, as a witness or a published checkpoint
            showed; 0 when none is known. Until the log has this root at this size again, nothing is signed.
        must_reach_root: That tree's root; empty when none is known.
    """

    __tablename__: ClassVar[str] = "log_state"

    number: int = Field(primary_key=True)
    origin: str
    tree_size: int = Field(sa_type=Int64)
    tree_range: bytes
    epoch: int = Field(sa_type=Int64)
    next_seq: int = Field(sa_type=Int64)
    last_message_sha256: bytes
    stream_created: str
    fence: int = Field(sa_type=Int64)
    frozen: str = ""
    must_reach_size: int = Field(sa_type=Int64, default=0)
    must_reach_root: bytes = b""


class Lease(LedgerTable, table=True):
    """Who leads, and that it still does. It only decides who tries; the fence decides who may write.

    Attributes:
        number: Always 1.
        fence: The leader's.
        holder: The leader's name, for people.
        beat: Counted up by the leader while it leads.
    """

    __tablename__: ClassVar[str] = "lease"

    number: int = Field(primary_key=True)
    fence: int = Field(sa_type=Int64)
    holder: str
    beat: int = Field(sa_type=Int64)


class Epoch(LedgerTable, table=True):
    """A reading of the stream from its first message; each but the first is an operator's act, with the reason."""

    __tablename__: ClassVar[str] = "epoch"

    epoch: int = Field(sa_type=Int64, primary_key=True)
    tree_size: int = Field(sa_type=Int64)
    reason: str
    time_us: int = Field(sa_type=Int64)


class Entry(LedgerTable, table=True):
    """One leaf of the log, what it is derived from, and the message that carried its event.

    All that is here survives the event's erasure, but for the event id.

    Attributes:
        entry: 65 bytes: type, SHA-256 of the SignedEvent, SHA-256 of list salt and map keys.
        list_salt: 32 bytes.
        map_keys: Sorted item-map keys, 32 bytes each.
        event_id: As written; empty once the event is erased.
        event_id_hash: Keyed hash of the event id (:mod:`ledger.event_index`), 32 bytes.
        signer_gln: Of the organisation that signed.
        declaration: Whether it declares an earlier event to be in error.
        epoch: Of the message; 0 with sequence 0: the genesis, by no message.
        position: Of the event in its message, from 0.
    """

    __tablename__: ClassVar[str] = "entry"
    __table_args__ = (
        UniqueConstraint("event_id_hash", "signer_gln", "declaration", name="entry_duplicate_key"),
        Index("entry_by_signed_event", "signed_event_sha256"),
        # Almost all entries are EPCIS events: the others are few, and are asked for by their type.
        Index(
            "entry_by_payload_type",
            "payload_type",
            "leaf_index",
            sqlite_where=text(OTHER_THAN_EPCIS),
            postgresql_where=text(OTHER_THAN_EPCIS),
        ),
    )

    leaf_index: int = Field(sa_type=Int64, primary_key=True)
    entry: bytes
    signed_event_sha256: bytes
    list_salt: bytes
    map_keys: bytes
    event_id: str
    event_id_hash: bytes
    signer_gln: str
    declaration: bool
    epoch: int = Field(sa_type=Int64)
    stream_seq: int = Field(sa_type=Int64)
    position: int
    stream_time_us: int = Field(sa_type=Int64)
    payload_type: str


class SignedEventRow(LedgerTable, table=True):
    """The bytes of a chained SignedEvent; apart from the entry, so that they can be erased without it."""

    __tablename__: ClassVar[str] = "signed_event"

    leaf_index: int = Field(sa_type=Int64, primary_key=True)
    data: bytes


class Message(LedgerTable, table=True):
    """One message of the stream, integrated: every event in it is an entry, a duplicate or a refusal.

    Attributes:
        number: Order of integration, from 1, without gaps.
        message_sha256: Over sequence, stored time, subject and data.
        event_count: Events in it; 1 for a message that could not be read, which is refused as a whole.
        tree_size: Size of the tree after it.
        outcomes_sha256: Over all of the above and what became of each event.
    """

    __tablename__: ClassVar[str] = "message"
    __table_args__ = (UniqueConstraint("epoch", "stream_seq"),)

    number: int = Field(sa_type=Int64, primary_key=True)
    epoch: int = Field(sa_type=Int64)
    stream_seq: int = Field(sa_type=Int64)
    stream_time_us: int = Field(sa_type=Int64)
    subject: str
    message_sha256: bytes
    event_count: int
    tree_size: int = Field(sa_type=Int64)
    outcomes_sha256: bytes


class Duplicate(LedgerTable, table=True):
    """An event whose content stands in the log already, at ``leaf_index``."""

    __tablename__: ClassVar[str] = "duplicate"

    epoch: int = Field(sa_type=Int64, primary_key=True)
    stream_seq: int = Field(sa_type=Int64, primary_key=True)
    position: int = Field(primary_key=True)
    signed_event_sha256: bytes
    leaf_index: int = Field(sa_type=Int64)


class RefusalRow(LedgerTable, table=True):
    """An event that was not chained, its bytes as they came, and why.

    Attributes:
        signer_gln: The organisation whose key signed it; empty when the signature or the key does not tell.
    """

    __tablename__: ClassVar[str] = "refusal"

    epoch: int = Field(sa_type=Int64, primary_key=True)
    stream_seq: int = Field(sa_type=Int64, primary_key=True)
    position: int = Field(primary_key=True)
    signed_event_sha256: bytes
    signed_event: bytes
    event_id: str
    code: str
    field: str
    message: str
    signer_gln: str


class CheckpointRow(LedgerTable, table=True):
    """A signed checkpoint. The newest is the lock: who signs next must name it (compare and swap)."""

    __tablename__: ClassVar[str] = "checkpoint"

    tree_size: int = Field(sa_type=Int64, primary_key=True)
    root_hash: bytes
    tree_range: bytes
    note: bytes


class Erasure(LedgerTable, table=True):
    """That an entry's SignedEvent was erased.

    Attributes:
        leaf_index: The erased one.
        order_index: Entry of the order to do so.
        consent_index: Entry of the authority's consent; None where the retention period was over.
        signer_gln: Of the organisation that ordered it.
        reason: As the order states it.
        erase_time_us: Stream time of the order.
    """

    __tablename__: ClassVar[str] = "erasure"

    leaf_index: int = Field(sa_type=Int64, primary_key=True)
    order_index: int = Field(sa_type=Int64)
    consent_index: int | None = Field(default=None, sa_type=Int64, nullable=True)
    signer_gln: str
    reason: str
    erase_time_us: int = Field(sa_type=Int64)


class ErasureRefusal(LedgerTable, table=True):
    """That an order to erase was not carried out, and why; ``order_index`` is its own entry."""

    __tablename__: ClassVar[str] = "erasure_refusal"

    order_index: int = Field(sa_type=Int64, primary_key=True)
    code: str
    message: str


class Cosignature(LedgerTable, table=True):
    """A witness's word that it saw a checkpoint.

    Attributes:
        tree_size: Of the checkpoint.
        witness: Name of its key.
        line: The signature line, without LF.
        time_s: That it signed, seconds since 1970.
    """

    __tablename__: ClassVar[str] = "cosignature"

    tree_size: int = Field(sa_type=Int64, primary_key=True)
    witness: str = Field(primary_key=True)
    line: str
    time_s: int = Field(sa_type=Int64)


class Follower(LedgerTable, table=True):
    """How far a follower of the log has come; what ``position`` counts is the follower's own."""

    __tablename__: ClassVar[str] = "follower"

    name: str = Field(primary_key=True)
    position: int = Field(sa_type=Int64)


def table_of(kind: type[LedgerTable]) -> Table:
    """Return the Core table of a table class."""
    table: Table = kind.__table__  # type: ignore[attr-defined]  # SQLModel adds it to table classes
    return table


STATE = table_of(LogState)
LEASE = table_of(Lease)
EPOCH = table_of(Epoch)
ENTRY = table_of(Entry)
SIGNED_EVENT = table_of(SignedEventRow)
MESSAGE = table_of(Message)
DUPLICATE = table_of(Duplicate)
REFUSAL = table_of(RefusalRow)
CHECKPOINT = table_of(CheckpointRow)
COSIGNATURE = table_of(Cosignature)
ERASURE = table_of(Erasure)
FOLLOWER = table_of(Follower)
