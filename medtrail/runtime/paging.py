"""Page tokens: opaque, and bound to the caller, the method and the question, so that nobody pages with another's.

A token is ``base64url(position as JSON ‖ 16 bytes of HMAC-SHA256)``; the HMAC covers caller, method and question too.

Source: AIP-158.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence

from google.protobuf.message import Message

from medtrail.errors import MalformedError
from medtrail.gs1 import Gln

_TAG_BYTES = 16
_LONGEST_TOKEN = 1024


def page_size(requested: int, *, default: int = 100, at_most: int = 500) -> int:
    """Return how many rows a page has: the default for 0, never more than ``at_most``.

    Raises:
        MalformedError: The number is negative.
    """
    if requested < 0:
        message = f"page_size is 0 or more, got {requested}"
        raise MalformedError(message, code="PAGE_SIZE_INVALID", field="page_size")
    return min(requested or default, at_most)


class PageTokens:
    """Makes and opens page tokens under one secret; its repr shows nothing of it."""

    def __init__(self, secret: bytes) -> None:
        """Derive the key from a secret of the process, such as its signing seed, so that tokens outlive a restart."""
        self._key = hmac.digest(secret, b"medtrail page tokens v1", "sha256")

    def issue(self, position: Sequence[int | str], *, caller: Gln, method: str, request: Message) -> str:
        """Return the token of a position, or an empty text for an empty position (there is no next page).

        Args:
            position: Sort key of the last row sent.
            caller: The caller's party GLN.
            method: Full method name.
            request: The request; its page_size and page_token do not count.
        """
        if not position:
            return ""
        body = json.dumps(list(position), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(body + self._tag(body, caller, method, request)).decode()

    def open(self, token: str, *, caller: Gln, method: str, request: Message) -> tuple[int | str, ...] | None:
        """Return the position of a token, or None for an empty token (the first page).

        Raises:
            MalformedError: PAGE_TOKEN_INVALID: not ours, another caller's, or of another question.
        """
        if not token:
            return None
        error = MalformedError(
            "the page token was not issued to this caller for this question",
            code="PAGE_TOKEN_INVALID",
            field="page_token",
        )
        if len(token) > _LONGEST_TOKEN:
            raise error
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except ValueError:
            raise error from None
        body, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(body, caller, method, request)):
            raise error
        position: list[int | str] = json.loads(body)
        return tuple(position)

    def _tag(self, body: bytes, caller: Gln, method: str, request: Message) -> bytes:
        question = type(request)()
        question.CopyFrom(request)
        for name in ("page_size", "page_token"):
            if name in question.DESCRIPTOR.fields_by_name:
                question.ClearField(name)
        # Hashed one by one: the parts have fixed lengths then, and cannot run into each other.
        parts = (body, str(caller).encode(), method.encode(), question.SerializeToString(deterministic=True))
        digest = b"".join(hashlib.sha256(part).digest() for part in parts)
        return hmac.digest(self._key, digest, "sha256")[:_TAG_BYTES]

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "PageTokens()"
