"""The tree of errors, drawn by what the caller can do about them.

::

    MedtrailError
    ├── MalformedError          cannot be read: mend the input
    │   └── TooLargeError       would exceed a stated limit: send less
    ├── VerificationError       read, and wrong: the evidence is refused
    │   ├── RootMismatchError   a proof leads to another root
    │   ├── SignatureError      a signature does not verify
    │   ├── AuthenticationError the caller did not prove who it is
    │   └── AuthorizationError  the caller or signer may not do this
    ├── ConflictError           right, but the present state forbids it
    │   ├── DuplicateError      other content stands under the same key
    │   └── NotFoundError       nothing stands under this key
    └── UnavailableError        our side cannot answer now: try again later

Every error carries a stable code in upper snake case (the ``reason`` of google.rpc.ErrorInfo, AIP-193), the offending
field where there is one, and facts as strings. Codes are part of the interface: they are added, never renamed.
"""

from typing import ClassVar


class MedtrailError(Exception):
    """Base of all errors that medtrail raises on purpose.

    Args:
        message: What was wanted and what came, for a person; never a secret.
        code: Stable, upper snake case; the class's own when None.
        field: Path of the offending field in the caller's terms (``events[3].bizStep``), or None.
        facts: Further facts for a machine, keyed in snake case.
    """

    default_code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field
        self.facts: dict[str, str] = {name: str(value) for name, value in facts.items()}

    def __str__(self) -> str:
        """Return the message with the field in front where one is known."""
        return f"{self.field}: {self.message}" if self.field else self.message


class MalformedError(MedtrailError):
    """The input cannot be read as what it claims to be."""

    default_code = "MALFORMED"


class TooLargeError(MalformedError):
    """The input exceeds a stated limit."""

    default_code = "TOO_LARGE"


class VerificationError(MedtrailError):
    """The evidence was read and does not hold."""

    default_code = "VERIFICATION_FAILED"


class RootMismatchError(VerificationError):
    """A proof or a tree leads to another root hash than the checkpoint's.

    Args:
        expected: The root that was named, 32 bytes.
        computed: The root that the proof leads to, 32 bytes.
    """

    default_code = "ROOT_MISMATCH"

    def __init__(self, *, expected: bytes, computed: bytes) -> None:
        super().__init__(
            f"expected root {expected.hex()}, computed {computed.hex()}",
            expected=expected.hex(),
            computed=computed.hex(),
        )


class SignatureError(VerificationError):
    """A signature does not verify under the key that it names."""

    default_code = "SIGNATURE_INVALID"


class AuthenticationError(VerificationError):
    """The caller did not prove who it is."""

    default_code = "UNAUTHENTICATED"


class AuthorizationError(VerificationError):
    """The caller, or an event's signer, may not do this."""

    default_code = "PERMISSION_DENIED"


class ConflictError(MedtrailError):
    """The request is well formed and the present state forbids it."""

    default_code = "CONFLICT"


class DuplicateError(ConflictError):
    """Other content already stands under the same key."""

    default_code = "DUPLICATE"


class NotFoundError(ConflictError):
    """Nothing stands under the key that was asked for."""

    default_code = "NOT_FOUND"


class UnavailableError(MedtrailError):
    """Our side cannot answer now; the same call may succeed later."""

    default_code = "UNAVAILABLE"
