"""Tables of the outbox and the inbox, in the service's own database beside its holdings.

* ``signed_event``: every SignedEvent that this organisation made, kept for the retention period, with its fate.
* ``outbox``: events on their way to the ledger; a row lives until the ledger's receipt or refusal.
* ``outgoing``: messages on their way to partners; a row lives until the partner's ack.
* ``open_receipt``: events that are in the log by a receipt, until that is proven and witnessed.
* ``false_receipt``: receipts that were not true.
* ``inbox_message``: what has come in, so that nothing counts twice.
* ``inbox_poison``: what came in and could not be taken.
* ``replica_*``: what this service knows of the log: checkpoint, trust entries, products, recalls.

Times are int64 microseconds since 1970-01-01T00:00:00Z. Hashes are 32 bytes.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Connection, Index, MetaData, inspect, text
from sqlalchemy.schema import CreateColumn
from sqlmodel import Field, SQLModel

RUNTIME_METADATA = MetaData()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Return an aware time as microseconds since 1970."""
    elapsed = moment - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


class RuntimeTable(SQLModel):
    """Base of these tables, with metadata of their own."""

    metadata: ClassVar[MetaData] = RUNTIME_METADATA


class EventState(StrEnum):
    """What has become of a signed event."""

    PENDING = "pending"
    LOGGED = "logged"
    REFUSED = "refused"


class SignedEventRow(RuntimeTable, table=True):
    """A SignedEvent of our own, exactly as signed."""

    __tablename__: ClassVar[str] = "signed_event"
    __table_args__: ClassVar[Any] = (
        # A service never signs the same content twice; a refused event has taken no key (ARCHITECTURE, section 3).
        Index(
            "signed_event_duplicate_key",
            "event_id",
            "declaration",
            unique=True,
            sqlite_where=text("state <> 'refused'"),
            postgresql_where=text("state <> 'refused'"),
        ),
    )

    sha256: bytes = Field(primary_key=True)
    event_id: str
    declaration: bool
    data: bytes
    sign_time_us: int = Field(sa_type=BigInteger)
    state: str
    leaf_index: int | None = None
    refusal_code: str | None = None


class OutboxRow(RuntimeTable, table=True):
    """An event that the ledger has not yet answered; ``seq`` is the order of signing."""

    __tablename__: ClassVar[str] = "outbox"
    __table_args__: ClassVar[Any] = ({"sqlite_autoincrement": True},)

    seq: int | None = Field(default=None, primary_key=True)
    sha256: bytes = Field(foreign_key="signed_event.sha256", unique=True)


class OpenReceiptRow(RuntimeTable, table=True):
    """An event of ours that a receipt puts into the log; the row goes when that is proven and witnessed."""

    __tablename__: ClassVar[str] = "open_receipt"
    __table_args__: ClassVar[Any] = (Index("open_receipt_place", "leaf_index"),)

    sha256: bytes = Field(primary_key=True, foreign_key="signed_event.sha256")
    leaf_index: int = Field(sa_type=BigInteger)
    tree_size: int = Field(sa_type=BigInteger)
    proven: bool
    witnessed: bool
    receive_time_us: int = Field(sa_type=BigInteger)


class FalseReceiptRow(RuntimeTable, table=True):
    """That the log did not hold an event where a receipt put it, kept as evidence; ``mended``: proven since."""

    __tablename__: ClassVar[str] = "false_receipt"

    id: int | None = Field(default=None, primary_key=True)
    sha256: bytes
    leaf_index: int = Field(sa_type=BigInteger)
    tree_size: int = Field(sa_type=BigInteger)
    message: str
    find_time_us: int = Field(sa_type=BigInteger)
    mended: bool = False


class OutgoingRow(RuntimeTable, table=True):
    """A message that its receiver has not yet acknowledged."""

    __tablename__: ClassVar[str] = "outgoing"
    __table_args__: ClassVar[Any] = (
        Index("outgoing_message", "to_gln", "sha256", "kind", unique=True),
        Index("outgoing_due", "due_s"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    to_gln: str
    kind: str
    sha256: bytes
    data: bytes
    attempts: int = 0
    due_s: float = 0.0
    enqueue_time_us: int | None = Field(default=None, sa_type=BigInteger)


class InboxMessageRow(RuntimeTable, table=True):
    """A message that was taken in."""

    __tablename__: ClassVar[str] = "inbox_message"
    __table_args__: ClassVar[Any] = (Index("inbox_message_age", "receive_time_us"),)

    sha256: bytes = Field(primary_key=True)
    sender: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    receive_time_us: int = Field(sa_type=BigInteger)


class InboxPoisonRow(RuntimeTable, table=True):
    """A message that could not be taken in, and why; its first 64 KiB are kept."""

    __tablename__: ClassVar[str] = "inbox_poison"

    id: int | None = Field(default=None, primary_key=True)
    subject: str
    sha256: bytes
    size: int
    data: bytes
    code: str
    message: str
    receive_time_us: int = Field(sa_type=BigInteger)


class RelayStateRow(RuntimeTable, table=True):
    """The newest epoch of the ledger that a receipt told; one row."""

    __tablename__: ClassVar[str] = "relay_state"

    id: int = Field(primary_key=True)
    epoch: int


class ReplicaCheckpointRow(RuntimeTable, table=True):
    """The newest checkpoint that was verified, and up to where entries were taken in; one row."""

    __tablename__: ClassVar[str] = "replica_checkpoint"

    id: int = Field(primary_key=True)
    checkpoint: bytes
    tree_size: int = Field(sa_type=BigInteger)
    root_hash: bytes
    trust_next: int = Field(sa_type=BigInteger)
    events_next: int = Field(sa_type=BigInteger)


class ReplicaWitnessedRow(RuntimeTable, table=True):
    """Size of the largest verified checkpoint that has the policy's quorum; one row."""

    __tablename__: ClassVar[str] = "replica_witnessed"

    id: int = Field(primary_key=True)
    tree_size: int = Field(sa_type=BigInteger)


class ReplicaEntryRow(RuntimeTable, table=True):
    """A verified entry of the log: trust, product or recall, exactly as signed."""

    __tablename__: ClassVar[str] = "replica_entry"

    leaf_index: int = Field(primary_key=True, sa_type=BigInteger)
    payload_type: str
    signed_event: bytes
    key_list_sha256: bytes


SignedEvents = RUNTIME_METADATA.tables["signed_event"]
Outbox = RUNTIME_METADATA.tables["outbox"]
OpenReceipts = RUNTIME_METADATA.tables["open_receipt"]
FalseReceipts = RUNTIME_METADATA.tables["false_receipt"]
Outgoing = RUNTIME_METADATA.tables["outgoing"]
InboxMessages = RUNTIME_METADATA.tables["inbox_message"]
InboxPoison = RUNTIME_METADATA.tables["inbox_poison"]
RelayState = RUNTIME_METADATA.tables["relay_state"]
ReplicaCheckpoints = RUNTIME_METADATA.tables["replica_checkpoint"]
ReplicaWitnessed = RUNTIME_METADATA.tables["replica_witnessed"]
ReplicaEntries = RUNTIME_METADATA.tables["replica_entry"]


def prepare(connection: Connection, metadata: MetaData = RUNTIME_METADATA) -> None:
    """Make the tables and indices that are absent, and add the columns that a database of an older version lacks."""
    metadata.create_all(connection)
    found = inspect(connection)
    for table in metadata.sorted_tables:
        known = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                # Of names and types that stand in the code; such a column may be empty, or has a default.
                spelled = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {spelled}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)
