"""Tokens of next pages: random, kept with what was asked and where to go on, so that a caller needs to repeat nothing.

A token is its caller's, for one resource, and for an hour. Only its hash is kept.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from medtrail.errors import NotFoundError
from medtrail.runtime.database import Database
from medtrail.runtime.tokens import Clock, utc_now
from services.portal.normal import microseconds
from services.portal.query.errors import QueryParameterError
from services.portal.query_tables import PageTokenRow

LIFETIME: Final = timedelta(hours=1)
MOST_TOKENS: Final = 10_000
DEFAULT_PAGE: Final = 30
MAX_PAGE: Final = 1000
_TOKEN_BYTES: Final = 24
_TABLE: Any = PageTokenRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class NextPage:
    """A page to come: what was asked, and where to go on; JSON values both, numbers or texts of numbers."""

    question: Any
    position: Any


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and until when it is good."""

    token: str
    expire_time: datetime


class PageTokens:
    """Issues and opens tokens of next pages; one a database."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        """Name the database, with its tables made."""
        self._database = database
        self._clock = clock

    async def issue(self, page: NextPage, *, caller: str, path: str) -> IssuedToken:
        """Keep a page to come and return its token."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        expire_time = (self._clock() + LIFETIME).replace(microsecond=0)
        row = {
            "sha256": _digest(token),
            "caller": caller,
            "path": path,
            "question": json.dumps(page.question, default=str),
            "position": json.dumps(page.position),
            "expire_us": microseconds(expire_time),
        }
        await self._database.write(partial(_insert, row=row, now_us=microseconds(self._clock())))
        return IssuedToken(token, expire_time)

    async def open(self, token: str, *, caller: str, path: str) -> NextPage:
        """Return the page of a token.

        Raises:
            QueryParameterError: It is not this caller's, for another resource, or no longer good
                (PAGE_TOKEN_INVALID).
        """
        row = await self._database.read(partial(_find, sha256=_digest(token)))
        if row is None or (row["caller"], row["path"]) != (caller, path) or self._is_over(row):
            message = "the token was not issued to this caller for this resource, or is no longer good"
            raise QueryParameterError(message, code="PAGE_TOKEN_INVALID", field="nextPageToken")
        return NextPage(json.loads(row["question"]), json.loads(row["position"]))

    async def withdraw(self, token: str, *, caller: str) -> None:
        """Forget a token.

        Raises:
            NotFoundError: There is none (PAGE_TOKEN_UNKNOWN).
        """
        sha256 = _digest(token)

        def write(connection: Connection) -> bool:
            row = _find(connection, sha256=sha256)
            connection.execute(delete(_TABLE).where(_TABLE.c.sha256 == sha256, _TABLE.c.caller == caller))
            return row is not None and row["caller"] == caller and not self._is_over(row)

        if not await self._database.write(write):
            message = "no such token was issued to this caller, or it is no longer good"
            raise NotFoundError(message, code="PAGE_TOKEN_UNKNOWN", field="token")

    def _is_over(self, row: Any) -> bool:  # noqa: ANN401  # a row of page_token
        return bool(row["expire_us"] <= microseconds(self._clock()))


def page_size(text: str | None) -> int:
    """Return how many events or values a page has: 30 unless told, at most 1,000.

    Raises:
        QueryParameterError: It is no whole number from 1.
    """
    if text is None:
        return DEFAULT_PAGE
    if not text.isascii() or not text.isdigit() or len(text) > 15 or int(text) < 1:
        message = f"expected a whole number from 1, got {text[:20]!r}"
        raise QueryParameterError(message, field="perPage")
    return min(int(text), MAX_PAGE)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _find(connection: Connection, *, sha256: bytes) -> dict[str, Any] | None:
    row = connection.execute(select(_TABLE).where(_TABLE.c.sha256 == sha256)).mappings().first()
    return None if row is None else dict(row)


def _insert(connection: Connection, *, row: dict[str, Any], now_us: int) -> None:
    connection.execute(delete(_TABLE).where(_TABLE.c.expire_us <= now_us))
    over = connection.execute(select(func.count()).select_from(_TABLE)).scalar_one() - MOST_TOKENS + 1
    if over > 0:
        oldest = select(_TABLE.c.sha256).order_by(_TABLE.c.expire_us).limit(over)
        connection.execute(delete(_TABLE).where(_TABLE.c.sha256.in_(oldest)))
    connection.execute(insert(_TABLE).values(**row))
