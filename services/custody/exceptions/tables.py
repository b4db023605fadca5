"""Tables of cases. Units stand as canonical paths, GLNs as 13 digits, times as int64 microseconds since 1970."""

from typing import ClassVar

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from services.custody.tables import CustodyTable


class CaseRow(CustodyTable, table=True):
    """A case: :class:`services.custody.exceptions.case.Case`."""

    __tablename__: ClassVar[str] = "exception_case"
    __table_args__ = (
        Index("exception_case_by_status", "status", "due_us"),
        Index("exception_case_by_despatch", "despatch_id"),
        Index("exception_case_by_delivery", "delivery_id"),
    )

    number: int | None = Field(default=None, primary_key=True)
    case_id: str = Field(unique=True)
    code: str
    status: str
    partner: str
    partner_reported: bool
    shared: bool
    owner: str
    open_us: int = Field(sa_type=BigInteger)
    due_us: int = Field(sa_type=BigInteger)
    resolve_us: int | None = Field(default=None, sa_type=BigInteger)
    resolution: str
    resolution_note: str
    detail: str
    despatch_id: str
    delivery_id: str
    purchase_order: str
    scan: str
    scan_us: int | None = Field(default=None, sa_type=BigInteger)
    station: str
    verdict_code: str
    expected_count: int
    counted_count: int
    unit_count: int
    determine_us: int | None = Field(default=None, sa_type=BigInteger)
    submit_us: int | None = Field(default=None, sa_type=BigInteger)
    incident_number: str


class CaseUnitRow(CustodyTable, table=True):
    """A unit of a case: :class:`services.custody.exceptions.case.CaseUnit`."""

    __tablename__: ClassVar[str] = "exception_unit"
    __table_args__ = (Index("exception_unit_by_path", "path"),)

    case_id: str = Field(primary_key=True)
    path: str = Field(primary_key=True)
    return_pending: bool = False
    quarantined: bool = False
    verified: bool = False


class CaseMessageRow(CustodyTable, table=True):
    """A message of a case: :class:`services.custody.exceptions.case.CaseMessage`.

    Rows are only ever added. One sender says one message id once.
    """

    __tablename__: ClassVar[str] = "exception_message"
    __table_args__ = (Index("exception_message_by_key", "case_id", "sender", "message_id", unique=True),)

    number: int | None = Field(default=None, primary_key=True)
    case_id: str
    message_id: str
    kind: str
    sender: str
    person: str
    message_us: int = Field(sa_type=BigInteger)
    text: str
    request: str
    pdg: bytes
    sha256: bytes
    signed_event: bytes


class CaseNoticeRow(CustodyTable, table=True):
    """That a partner was notified by letter of illegitimate product, or that it is over."""

    __tablename__: ClassVar[str] = "exception_notice"

    case_id: str = Field(primary_key=True)
    partner: str = Field(primary_key=True)
    notify_us: int = Field(sa_type=BigInteger)
