"""Tables of receiving. Units stand as canonical paths, times as microseconds since 1970, days as ISO dates."""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from services.custody.tables import CustodyTable


class DeliveryRow(CustodyTable, table=True):
    """A delivery: :class:`services.custody.receiving.store.Delivery`.

    Attributes:
        secret: 32 random bytes: no sender can tell which packs will be sampled.
        closings: How often it was closed.
        closed_scan: Number of the last scan before it was last closed.
    """

    __tablename__: ClassVar[str] = "delivery"
    __table_args__ = (UniqueConstraint("delivery_id"), Index("delivery_by_state", "state"))

    number: int | None = Field(default=None, primary_key=True)
    delivery_id: str
    state: str
    blind: bool
    location: str
    sample_permille: int
    secret: bytes
    open_us: int = Field(sa_type=BigInteger)
    close_us: int | None = Field(default=None, sa_type=BigInteger)
    closings: int = 0
    closed_scan: int = 0


class DeliveryDespatch(CustodyTable, table=True):
    """A despatch with which a delivery is reconciled."""

    __tablename__: ClassVar[str] = "delivery_despatch"
    __table_args__ = (Index("delivery_despatch_by_id", "despatch_id"),)

    delivery: int = Field(primary_key=True)
    despatch_id: str = Field(primary_key=True)


class DeliveryLine(CustodyTable, table=True):
    """A unit of a delivery: :class:`services.custody.receiving.store.Line`."""

    __tablename__: ClassVar[str] = "delivery_line"
    __table_args__ = (
        Index("delivery_line_by_parent", "delivery", "parent"),
        Index("delivery_line_by_unit", "path"),
        Index("delivery_line_by_sample", "delivery", "sample"),
        Index("delivery_line_by_case", "case_id"),
        Index("delivery_line_by_despatch", "despatch_id", "posting"),
    )

    delivery: int = Field(primary_key=True)
    path: str = Field(primary_key=True)
    parent: str = ""
    despatch_id: str = ""
    leaf: bool = True
    expected: bool = False
    lot: str = ""
    expiry: str = ""
    result: str = ""
    scan: int = 0
    seen_lot: str = ""
    seen_expiry: str = ""
    damaged: bool = False
    sample: str = ""
    posting: str = ""
    case_id: str = ""


class DeliveryCount(CustodyTable, table=True):
    """How many counted units of a delivery have a result; kept in the transactions that change them."""

    __tablename__: ClassVar[str] = "delivery_count"

    delivery: int = Field(primary_key=True)
    expected: bool = Field(primary_key=True)
    result: str = Field(primary_key=True)
    units: int = 0


class DeliveryScan(CustodyTable, table=True):
    """A scan: :class:`services.custody.receiving.store.ScanRecord`.

    Attributes:
        number: In order of recording, from 1 in each delivery.
        result: What was answered.
        finding: What it makes of the unit; empty: nothing.
        request_sha256: Of what was sent, to know a resend.
        answer: What was answered, for a resend.
    """

    __tablename__: ClassVar[str] = "delivery_scan"
    __table_args__ = (
        UniqueConstraint("delivery", "station", "scan_number"),
        Index("delivery_scan_by_unit", "delivery", "path"),
        Index("delivery_scan_undone", "delivery", sqlite_where=text("undone")),
    )

    delivery: int = Field(primary_key=True)
    number: int = Field(primary_key=True)
    station: str
    scan_number: int = Field(sa_type=BigInteger)
    scan: str
    scan_us: int = Field(sa_type=BigInteger)
    path: str = ""
    lot: str = ""
    expiry: str = ""
    taken_from: str = ""
    condition: str = ""
    result: str
    finding: str = ""
    undone: bool = False
    request_sha256: bytes
    answer: bytes = b""


class DeliverySample(CustodyTable, table=True):
    """A container that was scanned as sealed and sampled.

    Attributes:
        failed_by: Number of the scan that made the sample fail; 0: none did.
        given_up: Packs of the sample were not there.
    """

    __tablename__: ClassVar[str] = "delivery_sample"

    delivery: int = Field(primary_key=True)
    path: str = Field(primary_key=True)
    failed_by: int = 0
    given_up: bool = False


class Arrival(CustodyTable, table=True):
    """A unit that is here and waits for data: it is received by a later event, without another scan.

    Attributes:
        delivery: Number of the delivery that put it aside; 0: none did.
        lot: As on the unit; empty: not known.
        expiry: As on the unit; empty: not known.
        location: Where it arrived.
    """

    __tablename__: ClassVar[str] = "arrival"

    path: str = Field(primary_key=True)
    delivery: int = 0
    lot: str = ""
    expiry: str = ""
    location: str = ""
    since_us: int = Field(sa_type=BigInteger)
