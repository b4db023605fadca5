"""Tables of the portal's database that hold what callers keep here: named queries, subscriptions, pages to come.

Times are int64 microseconds since 0001-01-01T00:00:00Z.
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, MetaData
from sqlmodel import Field, SQLModel

QUERY_METADATA = MetaData()


class QueryTable(SQLModel):
    """Base of these tables, with metadata of their own."""

    metadata: ClassVar[MetaData] = QUERY_METADATA


class NamedQueryRow(QueryTable, table=True):
    """A question that has a name.

    Attributes:
        owner: Name of the token that made it.
        parameters: JSON object, as given.
        prefixes: JSON object: namespaces of prefixes in parameter names.
    """

    __tablename__: ClassVar[str] = "named_query"

    name: str = Field(primary_key=True)
    owner: str
    parameters: str
    prefixes: str
    created_us: int = Field(sa_type=BigInteger)


class PageTokenRow(QueryTable, table=True):
    """Where the next page of an answer begins.

    Attributes:
        sha256: Of the token.
        caller: Name of the caller's token: nobody pages with another's.
        path: Of the resource.
        question: JSON: what was asked.
        position: JSON: where to go on.
    """

    __tablename__: ClassVar[str] = "page_token"
    __table_args__: ClassVar[Any] = (Index("page_token_age", "expire_us"),)

    sha256: bytes = Field(primary_key=True)
    caller: str
    path: str
    question: str
    position: str
    expire_us: int = Field(sa_type=BigInteger)


class SubscriptionRow(QueryTable, table=True):
    """A subscription by webhook.

    Attributes:
        signature_token: The caller's secret; empty: nothing is signed.
        schedule: JSON object; empty: as events come.
        cursor_number: Events up to this one were delivered.
        cursor_us: Record time of that event; 0 for none.
        generation: Of the index that gave the number.
        floor_us: Events recorded earlier are not delivered.
        attempts: Deliveries that failed since one succeeded.
        due_us: When to try again, or when the schedule is due; 0: now.
        last_error: What the last failure was; empty after a success.
    """

    __tablename__: ClassVar[str] = "subscription"
    __table_args__: ClassVar[Any] = (Index("subscription_of_query", "query_name"),)

    id: str = Field(primary_key=True)
    query_name: str
    owner: str
    destination: str
    signature_token: str
    epc_format: str
    report_if_empty: bool
    schedule: str
    created_us: int = Field(sa_type=BigInteger)
    cursor_number: int = Field(sa_type=BigInteger)
    cursor_us: int = Field(sa_type=BigInteger)
    generation: int
    floor_us: int = Field(sa_type=BigInteger)
    attempts: int = 0
    due_us: int = Field(default=0, sa_type=BigInteger)
    last_error: str = ""
    delivered_us: int = Field(default=0, sa_type=BigInteger)
