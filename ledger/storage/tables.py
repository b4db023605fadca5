"""Tables of ledger.db. They are written by SQLAlchemy Core in bulk; no row ever becomes an object on the hot path.

Times are int64 microseconds since 1970-01-01T00:00:00Z. Hashes are 32 bytes. GLNs have 13 digits.

Evidence is what fsck re-derives: every column here is the source of a hash or the result of one, but for the follower's
position and the log state's ``stream_created`` and ``fence``, which only steer.
"""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, MetaData, UniqueConstraint
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import TypeCompiler
from sqlmodel import Field, SQLModel

LEDGER_METADATA = MetaData()


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
        stream_created: Creation time of the stream as the server tells it; empty before the first message.
        fence: Number of the sequencer that last took the log; an older one finds another number and stops.
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


class Entry(LedgerTable, table=True):
    """One leaf of the log, and the message that carried its event (epoch 0, sequence 0: the genesis, by no message)."""

    __tablename__: ClassVar[str] = "entry"
    __table_args__ = (
        Index("entry_by_signed_event", "signed_event_sha256"),
        Index("entry_by_payload_type", "payload_type", "leaf_index"),
        Index("entry_by_message", "epoch", "stream_seq"),
    )

    leaf_index: int = Field(sa_type=Int64, primary_key=True)
    entry: bytes
    signed_event_sha256: bytes
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


class KeyList(LedgerTable, table=True):
    """What the entry's second hash commits to: list salt (32 bytes) and sorted item-map keys (32 bytes each)."""

    __tablename__: ClassVar[str] = "key_list"

    leaf_index: int = Field(sa_type=Int64, primary_key=True)
    list_salt: bytes
    map_keys: bytes


class DuplicateKey(LedgerTable, table=True):
    """What may stand in the log once: signing organisation, event id, declaration or not."""

    __tablename__: ClassVar[str] = "duplicate_key"
    __table_args__ = (UniqueConstraint("event_id", "signer_gln", "declaration"),)

    leaf_index: int = Field(sa_type=Int64, primary_key=True)
    event_id: str
    signer_gln: str
    declaration: bool


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


class Follower(LedgerTable, table=True):
    """How far a follower of the log has come; what ``position`` counts is the follower's own."""

    __tablename__: ClassVar[str] = "follower"

    name: str = Field(primary_key=True)
    position: int = Field(sa_type=Int64)
