"""The signed envelope: a payload's exact bytes, and who signed them.

A :class:`SignedEvent` follows DSSE: a signature covers the pre-authentication encoding of payload type and payload, so
that neither can be swapped, and the payload is never parsed before it is verified and never serialized a second time.

Two schemes: ``ed25519`` signs one payload; ``ed25519-batch`` signs the root of a Merkle tree over up to 64 of them, and
each envelope carries its own way to that root, so that it stands alone as before (docs/adr/0013-batch-signatures.md).

Keys are named by did:key, so that a signature verifies without a registry; whether a key may speak is decided
afterwards, by :mod:`medtrail.trust`.

Source: DSSE v1.0.2, protocol; did:key method v0.7 and multicodec 0xed (Ed25519 public key); RFC 8032 with libsodium's
stricter rules (small-order and non-canonical points are refused); RFC 6962, section 2.1 (the tree of a batch).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import nacl.bindings
import nacl.exceptions
import nacl.signing

from medtrail.errors import MalformedError, SignatureError, VerificationError
from medtrail.merkle import hash_leaf, inclusion_proofs, inclusion_root, split_hashes

ED25519 = "ed25519"
ED25519_BATCH = "ed25519-batch"
SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_SIGNED_TOGETHER = 64
"""Most payloads under one signature: beyond it the ways to the root cost more than signatures save."""

BATCH_TYPE = "application/vnd.medtrail.batch.v1"
"""What a batch signature signs is of this type: no payload is, so that neither can be taken for the other."""
_PLACE = struct.Struct(">HH")
_ROOT = struct.Struct(">H32s")

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT_OF = {character: digit for digit, character in enumerate(_BASE58)}
_MULTICODEC_ED25519 = b"\xed\x01"
_DID_PREFIX = "did:key:z"
_DID_LENGTH = len(_DID_PREFIX) + 47


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: scheme, the key as did:key, and the signature.

    Attributes:
        signature: 64 bytes of ``ed25519``; of ``ed25519-batch`` these, uint16_be(leaf index), uint16_be(tree size), and
            the inclusion proof, 32 bytes a hash.
    """

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


def sign_together(payloads: Sequence[tuple[str, bytes]], key: SigningKey) -> list[SignedEvent]:
    """Return payloads signed with as few signatures as there can be, in their order.

    Args:
        payloads: Payload type and payload of each.
        key: Signs them all.
    """
    signed: list[SignedEvent] = []
    for start in range(0, len(payloads), MAX_SIGNED_TOGETHER):
        group = payloads[start : start + MAX_SIGNED_TOGETHER]
        signed += _sign_batch(group, key) if len(group) > 1 else [sign(*group[0], key)]
    return signed


def _sign_batch(payloads: Sequence[tuple[str, bytes]], key: SigningKey) -> list[SignedEvent]:
    size = len(payloads)
    root, proofs = inclusion_proofs([hash_leaf(pae(kind, payload)) for kind, payload in payloads])
    head = key.sign(pae(BATCH_TYPE, _ROOT.pack(size, root)))
    return [
        SignedEvent(
            kind, payload, (Signature(ED25519_BATCH, key.key_id, head + _PLACE.pack(index, size) + b"".join(proof)),)
        )
        for index, ((kind, payload), proof) in enumerate(zip(payloads, proofs, strict=True))
    ]


def verify_signatures(signed: SignedEvent) -> str:
    """Check the envelope's signature and return the did:key that made it.

    Exactly one signature is allowed today.

    Raises:
        MalformedError: Another number of signatures, an unknown scheme, or a key or signature of wrong form.
        SignatureError: The signature does not verify.
    """
    if len(signed.signatures) != 1:
        message = f"expected exactly 1 signature, got {len(signed.signatures)}"
        raise MalformedError(message, code="SIGNATURE_COUNT", field="signatures")
    (signature,) = signed.signatures
    encoded = pae(signed.payload_type, signed.payload)
    if signature.scheme == ED25519_BATCH:
        _verify_in_batch(signature, encoded)
    elif signature.scheme == ED25519:
        verify_detached(signature, encoded)
    else:
        text = f"expected signature scheme {ED25519!r} or {ED25519_BATCH!r}, got {signature.scheme[:40]!r}"
        raise MalformedError(text, code="SIGNATURE_SCHEME_UNKNOWN", field="signatures[0].scheme")
    return signature.key_id


def _verify_in_batch(signature: Signature, message: bytes) -> None:
    data = signature.signature
    proof = data[SIGNATURE_BYTES + _PLACE.size :]
    if len(data) < SIGNATURE_BYTES + _PLACE.size or len(proof) % 32:
        text = f"a batch signature has 68 bytes and 32 a hash, got {len(data)}"
        raise MalformedError(text, code="SIGNATURE_MALFORMED", field="signatures[0].signature")
    index, size = _PLACE.unpack_from(data, SIGNATURE_BYTES)
    if not 2 <= size <= MAX_SIGNED_TOGETHER:
        text = f"a batch has 2 to {MAX_SIGNED_TOGETHER} payloads, got {size}"
        raise MalformedError(text, code="SIGNATURE_MALFORMED", field="signatures[0].signature")
    try:
        root = inclusion_root(split_hashes(proof), leaf_hash=hash_leaf(message), leaf_index=index, tree_size=size)
    except VerificationError as error:
        # The signature does not reach this payload.
        raise SignatureError(error.message, field="signatures[0].signature") from error
    _verify_root(signature.key_id, data[:SIGNATURE_BYTES], size, root)


# The payloads of a batch come together: the first pays for all. What does not verify is not kept.
@lru_cache(maxsize=1024)
def _verify_root(key_id: str, signature: bytes, size: int, root: bytes) -> None:
    verify_detached(Signature(ED25519, key_id, signature), pae(BATCH_TYPE, _ROOT.pack(size, root)))


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
