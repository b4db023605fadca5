"""Tables of the portal's database that hold the index of events; all but master data can be made anew.

Times are int64 microseconds since 0001-01-01T00:00:00Z, hashes 32 bytes.
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, MetaData
from sqlmodel import Field, SQLModel

INDEX_METADATA = MetaData()

INDEX_FORMAT = 1
"""Of what is in the index; raised whenever tables or facts change: an index of another format is made anew."""


class IndexTable(SQLModel):
    """Base of these tables, with metadata of their own."""

    metadata: ClassVar[MetaData] = INDEX_METADATA


class IndexedEvent(IndexTable, table=True):
    """An event: its bytes, and by what it is ordered.

    Attributes:
        number: Of the change that brought it: the order in which events were recorded.
        declaration: Whether it declares an error.
        content: SHA-256 of what it says, in whatever spelling: of events that say the same, under the same id, one is
            shown, first-hand word rather than second-hand.
        refusal: Code of the ledger's refusal; a refused event is kept and not shown, unless it is in the log after all.
        shown: Whether it is in answers.
    """

    __tablename__: ClassVar[str] = "indexed_event"
    __table_args__: ClassVar[Any] = (
        Index("indexed_event_by_time", "event_us", "number"),
        Index("indexed_event_by_record", "record_us", "number"),
        Index("indexed_event_by_hash", "sha256", unique=True),
        Index("indexed_event_by_content", "content"),
    )

    number: int = Field(primary_key=True, sa_type=BigInteger)
    sha256: bytes
    signer: str
    event_id: str
    declaration: bool
    second_hand: bool
    content: bytes
    event_us: int = Field(sa_type=BigInteger)
    record_us: int = Field(sa_type=BigInteger)
    leaf_index: int | None = Field(default=None, sa_type=BigInteger)
    refusal: str = ""
    shown: bool = True
    signed_event: bytes


class FactRow(IndexTable, table=True):
    """One thing that a shown event says: :class:`services.portal.facts.Fact`."""

    __tablename__: ClassVar[str] = "fact"
    __table_args__: ClassVar[Any] = (
        Index("fact_by_event", "event_number", "field", "kind", "value"),
        {"sqlite_with_rowid": False},
    )

    field: str = Field(primary_key=True)
    kind: int = Field(primary_key=True)
    value: str = Field(primary_key=True)
    event_number: int = Field(primary_key=True, sa_type=BigInteger)


class IndexState(IndexTable, table=True):
    """Up to which change events were taken in; one row.

    Attributes:
        sha256: Of the SignedEvent of that change; empty at the start.
        generation: How often the index was begun anew.
        format: :data:`INDEX_FORMAT` of the version that filled it.
    """

    __tablename__: ClassVar[str] = "index_state"

    id: int = Field(primary_key=True)
    change_number: int = Field(sa_type=BigInteger)
    sha256: bytes
    generation: int
    format: int = INDEX_FORMAT


class MasterAttribute(IndexTable, table=True):
    """A master data attribute of what an identifier names."""

    __tablename__: ClassVar[str] = "master_attribute"
    __table_args__: ClassVar[Any] = ({"sqlite_with_rowid": False},)

    key: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    value: str = Field(primary_key=True)


class MasterChild(IndexTable, table=True):
    """That by master data one place lies directly within another."""

    __tablename__: ClassVar[str] = "master_child"
    __table_args__: ClassVar[Any] = ({"sqlite_with_rowid": False},)

    parent: str = Field(primary_key=True)
    child: str = Field(primary_key=True)


class CompanyPrefix(IndexTable, table=True):
    """A GS1 company prefix that an EPC URN has shown: what it takes to spell links as URNs."""

    __tablename__: ClassVar[str] = "company_prefix"

    prefix: str = Field(primary_key=True)
