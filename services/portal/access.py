"""Who may ask the portal: bearer tokens from a file, of which only hashes are kept, and what each may do.

A line of the file is one token: ``{"name": "erp", "scopes": ["capture", "query"], "sha256": "…", "created": "…"}``.
The file is read again when it changes, so that a token comes and goes without a restart. A file that cannot be read
lets nobody in.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TypeVar

from starlette.requests import HTTPConnection

from medtrail.errors import AuthenticationError, AuthorizationError, MalformedError, NotFoundError
from medtrail.runtime.files import read_secret

MOST_TOKENS = 1000
TOKEN_BYTES = 32
_PREFIX = "mtp_"
_LONGEST_NAME = 64
_SCHEME = "bearer "

C = TypeVar("C", bound=HTTPConnection)
R = TypeVar("R")


class Scope(StrEnum):
    """What a token is for."""

    CAPTURE = "capture"
    QUERY = "query"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class PortalCaller:
    """Whose token came.

    Attributes:
        name: Of the token; for logs, and to tell one caller's things from another's.
        scopes: What it is for.
    """

    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as it is kept.

    Attributes:
        sha256: Of the token; 32 bytes.
    """

    caller: PortalCaller
    sha256: bytes
    created: datetime


class Access:
    """The tokens of a file."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is read at the first question."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._records: tuple[TokenRecord, ...] = ()

    def check(self, connection: HTTPConnection, scope: Scope) -> PortalCaller:
        """Return who asks, after checking that it may.

        Raises:
            AuthenticationError: No token, or one that is not in the file (TOKEN_MISSING, TOKEN_UNKNOWN).
            AuthorizationError: The token is not for this (SCOPE_MISSING).
        """
        caller = self.caller(connection)
        if scope not in caller.scopes:
            message = f"the token {caller.name} is not for {scope}"
            raise AuthorizationError(message, code="SCOPE_MISSING", scope=scope.value)
        return caller

    def caller(self, connection: HTTPConnection) -> PortalCaller:
        """Return whose token came.

        Raises:
            AuthenticationError: TOKEN_MISSING or TOKEN_UNKNOWN.
        """
        header = connection.headers.get("authorization", "")
        if not header.lower().startswith(_SCHEME):
            message = "expected the header Authorization: Bearer <token>"
            raise AuthenticationError(message, code="TOKEN_MISSING", field="Authorization")
        digest = hashlib.sha256(header[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape")).digest()
        for record in self._tokens():
            if hmac.compare_digest(record.sha256, digest):
                return record.caller
        message = "the token is not known here"
        raise AuthenticationError(message, code="TOKEN_UNKNOWN", field="Authorization")

    def _tokens(self) -> tuple[TokenRecord, ...]:
        try:
            state = self._path.stat()
        except OSError:
            self._seen, self._records = None, ()
            return ()
        seen = (state.st_mtime_ns, state.st_ino, state.st_size)
        if seen != self._seen:
            # Nobody gets in while the file is broken: what it held before may have been withdrawn.
            self._records = ()
            self._records = read_tokens(self._path)
            self._seen = seen
        return self._records


def guard(access: Access, scope: Scope, endpoint: Callable[[C], Awaitable[R]]) -> Callable[[C], Awaitable[R]]:
    """Return an endpoint that lets in only tokens of a scope; ``connection.state.caller`` is whose it was."""

    @wraps(endpoint)
    async def guarded(connection: C) -> R:
        connection.state.caller = access.check(connection, scope)
        return await endpoint(connection)

    return by_itself(guarded)


def by_itself(endpoint: Callable[[C], Awaitable[R]]) -> Callable[[C], Awaitable[R]]:
    """Mark an endpoint that decides by itself whom it answers; the portal does not start with one that is unmarked."""
    endpoint.decides_access = True  # type: ignore[attr-defined]
    return endpoint


def is_guarded(endpoint: object) -> bool:
    """Tell whether an endpoint is guarded, or marked to guard itself."""
    return getattr(endpoint, "decides_access", False) is True


def new_token(name: str, scopes: frozenset[Scope], *, created: datetime) -> tuple[str, TokenRecord]:
    """Return a new token and how it is kept.

    Args:
        name: 1 to 64 letters, digits, ``-`` or ``_``.
        scopes: At least one.
        created: Aware UTC.

    Raises:
        MalformedError: TOKEN_NAME or SCOPE_UNKNOWN.
    """
    _check_name(name)
    if not scopes:
        raise MalformedError("a token is for something", code="SCOPE_UNKNOWN", field="scopes")
    token = _PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    return token, TokenRecord(PortalCaller(name, scopes), hashlib.sha256(token.encode()).digest(), created)


def token_line(record: TokenRecord) -> str:
    """Return the line of a file that keeps a token."""
    return json.dumps(
        {
            "name": record.caller.name,
            "scopes": sorted(record.caller.scopes),
            "sha256": record.sha256.hex(),
            "created": record.created.isoformat(timespec="seconds"),
        }
    )


def read_tokens(path: Path) -> tuple[TokenRecord, ...]:
    """Return the tokens of a file; none when it is absent.

    Raises:
        AuthorizationError: KEY_FILE_EXPOSED: others may touch it.
        MalformedError: TOKEN_FILE: a line is none.
    """
    try:
        text = read_secret(path).decode("utf-8", "replace")
    except NotFoundError:
        return ()
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > MOST_TOKENS:
        message = f"expected at most {MOST_TOKENS} tokens, got {len(lines)}"
        raise MalformedError(message, code="TOKEN_FILE", field=path.name)
    return tuple(_record(line, number, path.name) for number, line in enumerate(lines, 1))


def _record(line: str, number: int, name: str) -> TokenRecord:
    try:
        found = json.loads(line)
        _check_name(found["name"])
        scopes = frozenset(Scope(scope) for scope in found["scopes"])
        sha256 = bytes.fromhex(found["sha256"])
        created = datetime.fromisoformat(found["created"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError, MalformedError):
        # The line may hold a token that somebody pasted: it is not repeated.
        raise MalformedError("the line tells no token", code="TOKEN_FILE", field=f"{name}:{number}") from None
    if len(sha256) != hashlib.sha256().digest_size:
        raise MalformedError("the hash is no SHA-256", code="TOKEN_FILE", field=f"{name}:{number}")
    return TokenRecord(PortalCaller(found["name"], scopes), sha256, created)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _LONGEST_NAME or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
        message = f"expected 1 to {_LONGEST_NAME} letters, digits, '-', '_' or '.'"
        raise MalformedError(message, code="TOKEN_NAME", field="name")
