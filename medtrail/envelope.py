"""The signed envelope: a payload's exact bytes, and who signed them.

A :class:`SignedEvent` follows DSSE: a signature covers the pre-authentication encoding of payload type and payload, so
that neither can be swapped, and the payload is never parsed before it is verified and never serialized a second time.

Keys are named by did:key, so that a signature verifies without a registry; whether a key may speak is decided
afterwards, by :mod:`medtrail.trust`.

Source: DSSE v1.0.2, protocol; did:key method v0.7 and multicodec 0xed (Ed25519 public key); RFC 8032 with libsodium's
stricter rules (small-order and non-canonical points are refused).
"""

from dataclasses import dataclass
from functools import lru_cache

import nacl.bindings
import nacl.exceptions
import nacl.signing

from medtrail.errors import MalformedError, SignatureError

ED25519 = "ed25519"
SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT_OF = {character: digit for digit, character in enumerate(_BASE58)}
_MULTICODEC_ED25519 = b"\xed\x01"
_DID_PREFIX = "did:key:z"
_DID_LENGTH = len(_DID_PREFIX) + 47


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: scheme (``ed25519``), the key as did:key, and 64 bytes."""

    scheme: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """A payload's exact bytes with their media type and signatures."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


class SigningKey:
    """An Ed25519 key that signs payloads; its repr shows the public half only."""

    __slots__ = ("_key", "key_id", "public_key")

    def __init__(self, seed: bytes) -> None:
        """Derive the key from its 32-byte seed.

        Raises:
            MalformedError: The seed has another length.
        """
        if len(seed) != SEED_BYTES:
            message = f"an Ed25519 seed has {SEED_BYTES} bytes, got {len(seed)}"
            raise MalformedError(message, code="KEY_MALFORMED")
        self._key = nacl.signing.SigningKey(seed)
        self.public_key: bytes = bytes(self._key.verify_key)
        self.key_id: str = did_key(self.public_key)

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """Return the key of a 32-byte seed."""
        return cls(seed)

    @classmethod
    def generate(cls) -> "SigningKey":
        """Return a new key from the operating system's generator."""
        return cls(bytes(nacl.signing.SigningKey.generate()))

    @property
    def seed(self) -> bytes:
        """The secret, 32 bytes: for key files only."""
        return bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over a message."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        """Name the public half."""
        return f"SigningKey({self.key_id})"


def did_key(public_key: bytes) -> str:
    """Return the did:key of an Ed25519 public key of 32 bytes."""
    number = int.from_bytes(_MULTICODEC_ED25519 + public_key, "big")
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    return _DID_PREFIX + "".join(reversed(digits))


# Checking the point costs as much as a signature, and a network has few keys; refusals are not kept.
@lru_cache(maxsize=4096)
def public_key_of(key_id: str) -> bytes:
    """Return the 32-byte Ed25519 public key that a did:key names.

    Raises:
        MalformedError: It is no did:key of an Ed25519 key, or the point has small order or is not canonical.
    """
    if len(key_id) != _DID_LENGTH or not key_id.startswith(_DID_PREFIX):
        message = f"expected did:key of an Ed25519 key ({_DID_LENGTH} characters), got {len(key_id)} characters"
        raise MalformedError(message, code="KEY_MALFORMED")
    number = 0
    for character in key_id[len(_DID_PREFIX) :]:
        if character not in _DIGIT_OF:
            message = "did:key holds a character outside base58btc"
            raise MalformedError(message, code="KEY_MALFORMED")
        number = number * 58 + _DIGIT_OF[character]
    size = len(_MULTICODEC_ED25519) + PUBLIC_KEY_BYTES
    decoded = number.to_bytes(size + 1, "big")[1:]
    public_key = decoded[len(_MULTICODEC_ED25519) :]
    if did_key(public_key) != key_id:
        message = "did:key does not name an Ed25519 key (multicodec 0xed)"
        raise MalformedError(message, code="KEY_MALFORMED")
    # Enrolment, token and envelope all pass here, so that a key of small order, whose signatures fit many messages,
    # enters nowhere.
    if not nacl.bindings.crypto_core_ed25519_is_valid_point(public_key):
        message = "the Ed25519 key is not a point of the prime-order group in canonical form"
        raise MalformedError(message, code="KEY_WEAK")
    return public_key


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the DSSE pre-authentication encoding that is signed.

    ``DSSEv1 SP len(type) SP type SP len(payload) SP payload``; lengths in decimal, in bytes.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, key: SigningKey) -> SignedEvent:
    """Return the payload signed with one Ed25519 key."""
    signature = key.sign(pae(payload_type, payload))
    return SignedEvent(payload_type, payload, (Signature(ED25519, key.key_id, signature),))


def verify_signatures(signed: SignedEvent) -> str:
    """Check the envelope's signature and return the did:key that made it.

    Exactly one signature is allowed today; a second scheme will come beside it, not in its place.

    Raises:
        MalformedError: Another number of signatures, an unknown scheme, or a key or signature of wrong form.
        SignatureError: The signature does not verify.
    """
    if len(signed.signatures) != 1:
        message = f"expected exactly 1 signature, got {len(signed.signatures)}"
        raise MalformedError(message, code="SIGNATURE_COUNT", field="signatures")
    (signature,) = signed.signatures
    if signature.scheme != ED25519:
        message = f"expected signature scheme {ED25519!r}, got {signature.scheme[:40]!r}"
        raise MalformedError(message, code="SIGNATURE_SCHEME_UNKNOWN", field="signatures[0].scheme")
    verify_detached(signature, pae(signed.payload_type, signed.payload))
    return signature.key_id


def verify_detached(signature: Signature, message: bytes) -> None:
    """Check an Ed25519 signature over a message.

    Raises:
        MalformedError: The key or the signature has the wrong form.
        SignatureError: The signature does not verify.
    """
    if len(signature.signature) != SIGNATURE_BYTES:
        text = f"an Ed25519 signature has {SIGNATURE_BYTES} bytes, got {len(signature.signature)}"
        raise MalformedError(text, code="SIGNATURE_MALFORMED", field="signatures[0].signature")
    public_key = public_key_of(signature.key_id)
    try:
        # The binding releases the interpreter lock, so that many signatures are checked in parallel threads.
        nacl.bindings.crypto_sign_open(signature.signature + message, public_key)
    except nacl.exceptions.BadSignatureError as error:
        text = f"the signature does not verify under {signature.key_id}"
        raise SignatureError(text, field="signatures[0].signature") from error
