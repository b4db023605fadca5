"""Signed notes: who signed a text, and with what.

A verifier key is written ``name+hex(key id)+base64(type || key)``. Lines of keys that we do not know are ignored, so
that a log may sign with a second algorithm (type 0x06, ML-DSA-44) before we read it. A line of a key that we do know
must verify, or the whole note is refused. How a note is written: :mod:`medtrail.note_format`.

Source: C2SP signed-note v1.0; C2SP tlog-cosignature v1.0 (type 0x04).
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import nacl.exceptions
import nacl.signing

from medtrail.errors import MalformedError, SignatureError, VerificationError
from medtrail.note_format import (
    KEY_ID_BYTES,
    NoteSignature,
    check_key_name,
    decode_base64,
    encode_base64,
    encode_text,
    format_note,
    split_note,
)

MAX_TIMESTAMP = 2**63 - 1
"""Latest time of a cosignature, in seconds since 1970 (tlog-cosignature, format)."""

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


class KeyType(IntEnum):
    """Signature types that we can check: the byte that a key id and a verifier key hold."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A public key that signs notes under a name.

    Attributes:
        name: Not empty, without spaces and ``+``.
        key_type: Which message is signed, and how.
        public_key: Ed25519, 32 bytes.

    Raises:
        MalformedError: The name or the key is none.
    """

    name: str
    key_type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name, field="name")
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise MalformedError(
                f"expected a public key of 32 bytes, got {len(self.public_key)}", code="KEY_MALFORMED", field=self.name
            )

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name this key, together with its name."""
        return key_id(self.name, self.key_type, self.public_key)

    def verify(self, text: str, signature: NoteSignature) -> "VerifiedSignature":
        """Check that this key made a signature over a text.

        Args:
            text: The note's text with its last LF.
            signature: A line that names this key.

        Raises:
            SignatureError: It did not, or the line names another key.
        """
        if (signature.name, signature.key_id) != (self.name, self.key_id):
            raise SignatureError(
                f"expected a signature by {self.name}+{self.key_id.hex()}, "
                f"got one by {signature.name}+{signature.key_id.hex()}",
                field=signature.name,
            )
        message, made, timestamp = encode_text(text), signature.signature, None
        if self.key_type is KeyType.COSIGNATURE_V1:
            if len(made) != 8 + SIGNATURE_BYTES:
                raise self._refused(f"expected 72 bytes, got {len(made)}")
            (timestamp,) = struct.unpack_from(">Q", made)
            if timestamp > MAX_TIMESTAMP:
                raise self._refused(f"expected a time of at most {MAX_TIMESTAMP} s, got {timestamp}")
            message, made = _cosigned_message(text, timestamp=timestamp), made[8:]
        try:
            # Of a signature of another length than 64 bytes, PyNaCl says ValueError.
            nacl.signing.VerifyKey(self.public_key).verify(message, made)
        except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError) as error:
            raise self._refused("the signature does not verify") from error
        return VerifiedSignature(verifier=self, signature=signature, timestamp=timestamp)

    def _refused(self, reason: str) -> SignatureError:
        return SignatureError(f"signature by {self.name}+{self.key_id.hex()}: {reason}", field=self.name)


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that verified, by which key; ``timestamp`` (seconds since 1970) for cosignatures only."""

    verifier: NoteVerifier
    signature: NoteSignature
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """An Ed25519 key (type 0x01) that signs notes under a name; repr does not show the 32-byte seed."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_key_name(self.name, field="name")
        _check_seed(self.seed)

    @property
    def verifier(self) -> NoteVerifier:
        """The public half."""
        return NoteVerifier(self.name, KeyType.ED25519, _public_key(self.seed))

    def sign(self, text: str) -> NoteSignature:
        """Return the signature over a note's text (with its last LF)."""
        made = nacl.signing.SigningKey(self.seed).sign(encode_text(text)).signature
        return NoteSignature(self.name, self.verifier.key_id, made)


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness's Ed25519 key (type 0x04), which signs with a time; repr does not show the 32-byte seed.

    One key serves one name: the signed message does not hold it.
    """

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_key_name(self.name, field="name")
        _check_seed(self.seed)

    @property
    def verifier(self) -> NoteVerifier:
        """The public half."""
        return NoteVerifier(self.name, KeyType.COSIGNATURE_V1, _public_key(self.seed))

    def cosign(self, text: str, *, timestamp: int) -> NoteSignature:
        """Return the cosignature over a checkpoint's text (with its last LF).

        Args:
            text: The whole text of the checkpoint.
            timestamp: Seconds since 1970, 0 to 2^63 - 1.

        Raises:
            MalformedError: The time is out of range.

        Source: C2SP tlog-cosignature v1.0, Ed25519 signed message.
        """
        if not 0 <= timestamp <= MAX_TIMESTAMP:
            raise MalformedError(
                f"expected 0 to {MAX_TIMESTAMP}, got {timestamp}", code="NUMBER_OUT_OF_RANGE", field="timestamp"
            )
        message = _cosigned_message(text, timestamp=timestamp)
        made = nacl.signing.SigningKey(self.seed).sign(message).signature
        return NoteSignature(self.name, self.verifier.key_id, struct.pack(">Q", timestamp) + made)


@dataclass(frozen=True, slots=True)
class Note:
    """An opened note.

    Attributes:
        text: With its last LF; signed by every key of ``verified``.
        verified: At least one, in the note's order, one a key at most.
        unverified: Lines of unknown keys. They prove nothing.
    """

    text: str
    verified: tuple[VerifiedSignature, ...]
    unverified: tuple[NoteSignature, ...]


def key_id(name: str, key_type: int, public_key: bytes) -> bytes:
    """Return a key's id: SHA-256(name || 0x0A || type || public key)[:4]."""
    return hashlib.sha256(name.encode() + b"\n" + bytes((key_type,)) + public_key).digest()[:KEY_ID_BYTES]


def format_vkey(verifier: NoteVerifier) -> str:
    """Return a verifier key's text: ``name+hex(key id)+base64(type || public key)``."""
    encoded = encode_base64(bytes((verifier.key_type,)) + verifier.public_key)
    return f"{verifier.name}+{verifier.key_id.hex()}+{encoded}"


def parse_vkey(text: str) -> NoteVerifier:
    """Return the verifier that a verifier key names.

    Raises:
        MalformedError: The text is no verifier key (VKEY_MALFORMED), or one of a type that we cannot check
            (KEY_TYPE_UNSUPPORTED).

    Source: C2SP signed-note v1.0, verifier keys.
    """
    # Base64 may hold a plus, a name may not: split at the first two.
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise _vkey_malformed("expected name+keyid+key")
    name, written_id, encoded = parts
    key = decode_base64(encoded, field="vkey")
    if not key:
        raise _vkey_malformed("expected a type and a public key, got nothing")
    try:
        key_type = KeyType(key[0])
    except ValueError as error:
        raise MalformedError(
            f"expected key type 0x01 or 0x04, got {key[0]:#04x}", code="KEY_TYPE_UNSUPPORTED", field="vkey"
        ) from error
    verifier = NoteVerifier(name, key_type, key[1:])
    if written_id != verifier.key_id.hex():
        raise _vkey_malformed(f"expected key id {verifier.key_id.hex()}, got {written_id!r}")
    return verifier


def sign_note(text: str, signers: Sequence[NoteSigner]) -> bytes:
    """Return the note of a text with a signature by each signer, in their order.

    Raises:
        MalformedError: The text cannot be a note's, or there is no signer.
    """
    return format_note(text, [signer.sign(text) for signer in signers])


def open_note(note: bytes, verifiers: Iterable[NoteVerifier]) -> Note:
    """Return a note's text after checking every signature by a key that we know.

    Args:
        note: At most 1 MiB and 100 signature lines.
        verifiers: The keys that we know.

    Raises:
        MalformedError: The bytes are no note, or the verifiers are ambiguous (VERIFIER_AMBIGUOUS).
        SignatureError: A known key's signature does not verify: the whole note is refused.
        VerificationError: No known key signed (SIGNATURE_MISSING).

    Source: C2SP signed-note v1.0, signatures.
    """
    known = _by_name_and_id(verifiers)
    text, signatures = split_note(note)
    verified: dict[NoteVerifier, VerifiedSignature] = {}
    unverified: list[NoteSignature] = []
    for signature in signatures:
        verifier = known.get((signature.name, signature.key_id))
        if verifier is None:
            unverified.append(signature)
            continue
        # A key's second signature is checked like its first, and counts for nothing: a quorum counts keys.
        checked = verifier.verify(text, signature)
        verified.setdefault(verifier, checked)
    if not verified:
        names = ", ".join(signature.name for signature in unverified[:5])
        raise VerificationError(
            f"expected a signature by a known key, got only {names}", code="SIGNATURE_MISSING", field="note"
        )
    return Note(text, tuple(verified.values()), tuple(unverified))


def _by_name_and_id(verifiers: Iterable[NoteVerifier]) -> dict[tuple[str, bytes], NoteVerifier]:
    known: dict[tuple[str, bytes], NoteVerifier] = {}
    witness_names: dict[bytes, str] = {}
    for verifier in verifiers:
        standing = known.setdefault((verifier.name, verifier.key_id), verifier)
        same_name = verifier.name
        if verifier.key_type is KeyType.COSIGNATURE_V1:
            same_name = witness_names.setdefault(verifier.public_key, verifier.name)
        # Under two names, one witness would count twice: a cosigned message does not hold the name.
        if standing != verifier or same_name != verifier.name:
            raise MalformedError(
                "expected one key for a name and id, and one name for a witness key",
                code="VERIFIER_AMBIGUOUS",
                field=verifier.name,
            )
    return known


def _cosigned_message(text: str, *, timestamp: int) -> bytes:
    return encode_text(f"cosignature/v1\ntime {timestamp}\n{text}")


def _public_key(seed: bytes) -> bytes:
    return bytes(nacl.signing.SigningKey(seed).verify_key)


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_BYTES:
        raise MalformedError(f"expected a seed of 32 bytes, got {len(seed)}", code="KEY_MALFORMED", field="seed")


def _vkey_malformed(reason: str) -> MalformedError:
    return MalformedError(reason, code="VKEY_MALFORMED", field="vkey")
