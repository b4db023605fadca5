"""Bearer tokens of an organisation's portal, in a file that keeps only their hashes.

A line of the file is one token: ``{"name": "erp", "scopes": ["capture", "query"], "sha256": "…", "created": "…"}``.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from medtrail.errors import ConflictError, MalformedError, NotFoundError
from medtrail.runtime.files import read_secret, write_file

MOST_TOKENS = 1000
TOKEN_BYTES = 32
_PREFIX = "mtp_"
_LONGEST_NAME = 64


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


def add_token(path: Path, name: str, scopes: frozenset[Scope], *, created: datetime) -> str:
    """Put a new token into a file and return it: it is kept nowhere else.

    Raises:
        ConflictError: There is a token of this name (TOKEN_NAME_TAKEN).
        MalformedError: As for :func:`new_token` and :func:`read_tokens`.
    """
    known = read_tokens(path)
    if any(record.caller.name == name for record in known):
        message = f"there is a token {name} already; remove it first"
        raise ConflictError(message, code="TOKEN_NAME_TAKEN", field="name")
    token, record = new_token(name, scopes, created=created)
    _write(path, (*known, record))
    return token


def remove_token(path: Path, name: str) -> None:
    """Take a token out of a file; it opens nothing from then on.

    Raises:
        NotFoundError: There is none of this name (TOKEN_UNKNOWN).
    """
    known = read_tokens(path)
    left = tuple(record for record in known if record.caller.name != name)
    if len(left) == len(known):
        message = f"there is no token {name[:_LONGEST_NAME]!r}"
        raise NotFoundError(message, code="TOKEN_UNKNOWN", field="name")
    _write(path, left)


def _write(path: Path, records: tuple[TokenRecord, ...]) -> None:
    text = "".join(token_line(record) + "\n" for record in records)
    write_file(path, text.encode(), mode=0o600)


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
