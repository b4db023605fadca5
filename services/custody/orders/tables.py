"""Tables of business documents and of what despatches and receivings hold."""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from services.custody.tables import CustodyTable


class DocumentRow(CustodyTable, table=True):
    """A business document with its terms; its statement stands in ``known_event``.

    Attributes:
        event_number: Number of its signed event here.
        partner: Party GLN of the other side.
        own: This organisation issued it.
        salt: Of the hash that the signed document carries of its terms; 32 bytes.
        terms: ``DocumentTerms`` as hashed: our own copy, or as unsealed.
    """

    __tablename__: ClassVar[str] = "document"
    __table_args__ = (UniqueConstraint("issuer", "kind", "number", "function"), Index("document_by_partner", "partner"))

    event_number: int = Field(primary_key=True)
    issuer: str
    kind: str
    number: str
    function: str
    partner: str
    own: bool
    issue_us: int = Field(sa_type=BigInteger)
    salt: bytes
    terms: bytes


class EventLink(CustodyTable, table=True):
    """That an event or a document names a document (``po:<issuer>:<number>``) or an event (``event:<id>``)."""

    __tablename__: ClassVar[str] = "event_link"
    __table_args__ = (Index("event_link_by_target", "target"),)

    event_number: int = Field(primary_key=True)
    target: str = Field(primary_key=True)


class GoodsRow(CustodyTable, table=True):
    """What a despatch or a receiving holds: :class:`services.custody.orders.goods.Tally`.

    Attributes:
        despatch_id: event_id of the despatch itself, or of the one that a receiving answers; may be empty then.
        party: Party GLN of who did it.
        tally: JSON.
    """

    __tablename__: ClassVar[str] = "goods"
    __table_args__ = (Index("goods_by_despatch", "despatch_id"),)

    event_number: int = Field(primary_key=True)
    despatch_id: str = Field(primary_key=True)
    receiving: bool
    party: str
    tally: str


class OrderRow(CustodyTable, table=True):
    """An order as it stands: derived from documents and goods whenever one of them is new.

    Attributes:
        number: In order of arrival here, from 1.
        event_number: Of the order's own document.
        state: :class:`services.custody.orders.state.OrderState`.
        open: Something is still to be despatched.
        mismatch_count: Differences between documents, or documents and goods.
        case_id: Of the exception case opened about them; empty when there was none.
    """

    __tablename__: ClassVar[str] = "purchase_order"
    __table_args__ = (UniqueConstraint("buyer", "order_number"),)

    number: int | None = Field(default=None, primary_key=True)
    buyer: str
    order_number: str
    seller: str
    event_number: int
    issue_us: int = Field(sa_type=BigInteger)
    state: str
    open: bool
    mismatch_count: int
    case_id: str = ""
