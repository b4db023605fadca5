"""Commercial terms of a document: what only its two parties read, and the hash by which a third can be shown them.

A document's header carries SHA-256("medtrail terms v1" ‖ salt ‖ terms), terms being the bytes of a ``DocumentTerms``
message exactly as its issuer made them. Salt and terms travel in a sealed box to the counterparty's X25519 key, so that
neither the hash nor the box tells anything to those who guess prices. Either party can later show salt and terms to
whom it chooses, who checks them against the signed hash.

Source: libsodium, sealed boxes (X25519, XSalsa20-Poly1305); ISO 4217; UN/ECE Recommendation 20.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

import nacl.exceptions
import nacl.public

from medtrail.errors import MalformedError, TooLargeError, VerificationError
from medtrail.gs1 import Gln, Gtin

SALT_BYTES = 32
KEY_BYTES = 32
MAX_TERMS_BYTES = 192 * 1024
"""So that a document with its terms fits into one letter."""
MAX_LINES = 1000
_HASH_PREFIX = b"medtrail terms v1"
_SEAL_BYTES = 48
"""What a sealed box adds: an ephemeral key and a tag."""


class LineStatus(StrEnum):
    """The seller's answer to one line of an order."""

    ACCEPTED = "accepted"
    CHANGED = "changed"
    REJECTED = "rejected"
    BACK_ORDERED = "back_ordered"


@dataclass(frozen=True, slots=True)
class TermsLine:
    """One line of a document.

    Attributes:
        line_number: From 1; a document about an order uses the order's.
        quantity: 0 or more, in ``uom``.
        uom: UN/ECE Recommendation 20; empty means trade items of the GTIN.
        price: Of one unit; None where nothing is said.
        currency: ISO 4217, with a price only.
        confirmed_date: Of what is back-ordered the day of the rest.
        status: In order confirmations only.
    """

    line_number: int
    gtin: Gtin
    quantity: Decimal
    uom: str = ""
    price: Decimal | None = None
    currency: str = ""
    requested_date: date | None = None
    confirmed_date: date | None = None
    lots: tuple[str, ...] = ()
    status: LineStatus | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a document says between its two parties alone: lines, the place to which to deliver, a note."""

    lines: tuple[TermsLine, ...] = ()
    ship_to: Gln | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class SaltedTerms:
    """The bytes of terms and the 32 bytes of salt under which they are hashed; it shows neither."""

    salt: bytes
    data: bytes

    @property
    def sha256(self) -> bytes:
        """What the signed document carries of them; 32 bytes."""
        return hashlib.sha256(_HASH_PREFIX + self.salt + self.data).digest()

    def check(self, sha256: bytes) -> None:
        """Check that these are the terms of a signed document.

        Args:
            sha256: Its header's ``sealed_terms_sha256``.

        Raises:
            VerificationError: They are others (TERMS_MISMATCH).
        """
        if not hmac.compare_digest(self.sha256, sha256):
            message = f"the terms hash to {self.sha256.hex()}, the document says {sha256.hex() or 'nothing'}"
            raise VerificationError(message, code="TERMS_MISMATCH", field="header.sealed_terms_sha256")


def salted(data: bytes) -> SaltedTerms:
    """Return terms with a new salt.

    Raises:
        TooLargeError: More than 192 KiB.
    """
    if len(data) > MAX_TERMS_BYTES:
        message = f"terms have at most {MAX_TERMS_BYTES} bytes, got {len(data)}"
        raise TooLargeError(message, code="TERMS_TOO_LARGE", field="terms")
    return SaltedTerms(secrets.token_bytes(SALT_BYTES), data)


def seal(terms: SaltedTerms, public_key: bytes) -> bytes:
    """Return terms and salt in a box that only the holder of a key opens.

    Args:
        terms: To be sealed.
        public_key: X25519, 32 bytes: the counterparty's, as enrolled.

    Raises:
        MalformedError: No key (KEY_MALFORMED).
    """
    if len(public_key) != KEY_BYTES:
        message = f"a sealing key has {KEY_BYTES} bytes, got {len(public_key)}"
        raise MalformedError(message, code="KEY_MALFORMED", field="sealing_key")
    return bytes(nacl.public.SealedBox(nacl.public.PublicKey(public_key)).encrypt(terms.salt + terms.data))


def unseal(sealed: bytes, private_key: nacl.public.PrivateKey) -> SaltedTerms:
    """Return the terms and the salt in a box.

    Raises:
        TooLargeError: More than terms can be.
        VerificationError: Sealed to another key, or changed on the way (TERMS_UNREADABLE).
    """
    if len(sealed) > MAX_TERMS_BYTES + SALT_BYTES + _SEAL_BYTES:
        message = f"sealed terms have at most {MAX_TERMS_BYTES + SALT_BYTES + _SEAL_BYTES} bytes, got {len(sealed)}"
        raise TooLargeError(message, code="TERMS_TOO_LARGE", field="sealed_terms")
    try:
        opened = nacl.public.SealedBox(private_key).decrypt(sealed)
    except (nacl.exceptions.CryptoError, ValueError, TypeError):
        # The original error may quote what it could not open.
        message = "the terms are not sealed to our key, or were changed"
        raise VerificationError(message, code="TERMS_UNREADABLE", field="sealed_terms") from None
    if len(opened) < SALT_BYTES:
        message = f"expected {SALT_BYTES} bytes of salt and terms, got {len(opened)}"
        raise MalformedError(message, code="SALT_LENGTH", field="sealed_terms")
    return SaltedTerms(opened[:SALT_BYTES], opened[SALT_BYTES:])
