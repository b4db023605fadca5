"""Who may ask the portal: bearer tokens from a file, of which only hashes are kept, and what each may do.

The file (:mod:`medtrail.runtime.portal_tokens`) is read again when it changes, so that a token comes and goes without a
restart. A file that cannot be read lets nobody in.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TypeVar

from starlette.requests import HTTPConnection

from medtrail.errors import AuthenticationError, AuthorizationError
from medtrail.runtime.portal_tokens import PortalCaller, Scope, TokenRecord, read_tokens

__all__ = ["Access", "PortalCaller", "Scope", "allowed_methods", "by_itself", "guard", "is_guarded"]

_SCHEME = "bearer "

C = TypeVar("C", bound=HTTPConnection)
R = TypeVar("R")


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


def by_itself(endpoint: Callable[[C], Awaitable[R]], *, allowed: tuple[str, ...] = ()) -> Callable[[C], Awaitable[R]]:
    """Mark an endpoint that decides by itself whom it answers; the portal does not start with one that is unmarked.

    Args:
        endpoint: The endpoint.
        allowed: The methods that it does, where it refuses others by itself; empty: those of its route.
    """

    @wraps(endpoint)
    async def marked(connection: C) -> R:
        return await endpoint(connection)

    marked.decides_access = True  # type: ignore[attr-defined]
    marked.allowed = allowed  # type: ignore[attr-defined]
    return marked


def allowed_methods(endpoint: object, methods: Iterable[str]) -> set[str]:
    """Return what an endpoint does of the methods of its route."""
    return set(getattr(endpoint, "allowed", ()) or methods)


def is_guarded(endpoint: object) -> bool:
    """Tell whether an endpoint is guarded, or marked to guard itself."""
    return getattr(endpoint, "decides_access", False) is True
