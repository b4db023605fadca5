"""Tables of returns: authorisations given, and packs that came back."""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from services.custody.tables import CustodyTable


class ReturnAuthorisationRow(CustodyTable, table=True):
    """A return authorisation that a customer was given.

    Attributes:
        row_number: In order of giving, from 1.
        number: By which the customer names it.
        units: A path a line; empty: any that was sold to the customer.
        expire_us: Last moment at which the goods may be sent; None: no end.
    """

    __tablename__: ClassVar[str] = "return_authorisation"
    __table_args__ = (UniqueConstraint("number"),)

    row_number: int | None = Field(default=None, primary_key=True)
    number: str
    customer: str
    units: str
    reason: str
    create_us: int = Field(sa_type=BigInteger)
    expire_us: int | None = Field(default=None, sa_type=BigInteger)


class ReturnedUnit(CustodyTable, table=True):
    """That a pack came back, and what was found.

    Attributes:
        number: In order of coming, from 1.
        customer: Party GLN; empty where nobody knows.
        authorisation: Number; may be empty.
        codes: Why it was not restocked, a code a line; empty: it was.
    """

    __tablename__: ClassVar[str] = "returned_unit"
    __table_args__ = (
        Index("returned_unit_by_path", "path"),
        Index("returned_unit_by_authorisation", "authorisation"),
    )

    number: int | None = Field(default=None, primary_key=True)
    path: str
    customer: str
    authorisation: str
    codes: str
    receive_us: int = Field(sa_type=BigInteger)
