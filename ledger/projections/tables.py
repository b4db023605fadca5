"""Tables of projection.db: facts and where to find them. Disposable: `ledger rebuild` makes them anew from the log.

Times are int64 microseconds since 1970-01-01T00:00:00Z.
"""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, MetaData
from sqlmodel import Field, SQLModel

SCHEMA_VERSION = 3
PROJECTION_METADATA = MetaData()


class ProjectionTable(SQLModel):
    """Base of the projection's tables, with metadata of their own."""

    metadata: ClassVar[MetaData] = PROJECTION_METADATA


class ProjectionState(ProjectionTable, table=True):
    """The one row: version of these tables, the next entry to take in, and the next order to erase."""

    __tablename__: ClassVar[str] = "projection_state"

    number: int = Field(primary_key=True)
    schema_version: int
    next_index: int = Field(sa_type=BigInteger)
    next_order: int = Field(sa_type=BigInteger)


class EventRow(ProjectionTable, table=True):
    """What one entry states: ``fact`` is the fact as JSON, the other columns are what is asked for."""

    __tablename__: ClassVar[str] = "event_fact"
    __table_args__ = (
        Index("event_fact_by_actor", "actor", "leaf_index"),
        Index("event_fact_by_biz_step", "biz_step", "leaf_index"),
        Index("event_fact_by_type", "payload_type", "leaf_index"),
    )

    leaf_index: int = Field(sa_type=BigInteger, primary_key=True)
    payload_type: str
    actor: str
    biz_step: str
    fact: str


class UnitRow(ProjectionTable, table=True):
    """That an entry names a unit, and in which part; the key leads from the unit to its history."""

    __tablename__: ClassVar[str] = "unit_event"
    __table_args__ = (Index("unit_event_by_entry", "leaf_index", "part"), {"sqlite_with_rowid": False})

    unit: str = Field(primary_key=True)
    leaf_index: int = Field(sa_type=BigInteger, primary_key=True)
    part: int = Field(primary_key=True)
    uom: str = Field(primary_key=True)
    quantity: str | None


class LotUnitRow(ProjectionTable, table=True):
    """That an entry commissions a unit of a lot."""

    __tablename__: ClassVar[str] = "lot_unit"
    __table_args__: ClassVar[dict[str, bool]] = {"sqlite_with_rowid": False}

    gtin: str = Field(primary_key=True)
    lot: str = Field(primary_key=True)
    unit: str = Field(primary_key=True)
    leaf_index: int = Field(sa_type=BigInteger, primary_key=True)


class DeclarationRow(ProjectionTable, table=True):
    """That an entry declares events of this name (event id or content hash) to be in error."""

    __tablename__: ClassVar[str] = "declaration"
    __table_args__: ClassVar[dict[str, bool]] = {"sqlite_with_rowid": False}

    name: str = Field(primary_key=True)
    leaf_index: int = Field(sa_type=BigInteger, primary_key=True)


class PayloadRow(ProjectionTable, table=True):
    """Payload and key of an entry that is read as a whole: trust statements, products, recalls."""

    __tablename__: ClassVar[str] = "payload"
    __table_args__ = (Index("payload_by_type", "payload_type", "leaf_index"),)

    leaf_index: int = Field(sa_type=BigInteger, primary_key=True)
    payload_type: str
    key_id: str
    payload: bytes


class ErasedKeyRow(ProjectionTable, table=True):
    """That an entry whose event was erased named what has this item-map key: all that may be known of it."""

    __tablename__: ClassVar[str] = "erased_key"
    __table_args__: ClassVar[dict[str, bool]] = {"sqlite_with_rowid": False}

    map_key: bytes = Field(primary_key=True)
    leaf_index: int = Field(sa_type=BigInteger, primary_key=True)
