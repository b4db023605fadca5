"""Checkpoints: a log's signed word on how large its tree is and which root it has.

The text is exactly three lines, ``origin LF size LF base64(root) LF``. We neither write nor accept extension lines:
witnesses disagree on what they cover. The origin is the log's schema-less URL prefix and also its key's name.

Source: C2SP tlog-checkpoint v1.0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medtrail.errors import MalformedError, RootMismatchError, VerificationError
from medtrail.merkle import EMPTY_ROOT, HASH_BYTES, MAX_TREE_SIZE
from medtrail.note import KeyType, NoteSigner, NoteVerifier, VerifiedSignature, open_note, sign_note
from medtrail.note_format import NoteSignature, check_key_name, decode_base64, encode_base64, parse_decimal


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head.

    Attributes:
        origin: Which log, and the name of its key.
        size: Number of leaves, 0 to 2^63 - 1.
        root_hash: 32 bytes; EMPTY_ROOT for size 0.

    Raises:
        MalformedError: An attribute is out of its range.
        RootMismatchError: The tree is empty, and the root is not the empty tree's.
    """

    origin: str
    size: int
    root_hash: bytes

    def __post_init__(self) -> None:
        check_key_name(self.origin, field="origin")
        if not 0 <= self.size <= MAX_TREE_SIZE:
            raise _malformed(f"expected 0 to {MAX_TREE_SIZE}, got {self.size}", field="size")
        if len(self.root_hash) != HASH_BYTES:
            raise _malformed(f"expected 32 bytes, got {len(self.root_hash)}", field="root_hash")
        if self.size == 0 and self.root_hash != EMPTY_ROOT:
            raise RootMismatchError(expected=EMPTY_ROOT, computed=self.root_hash)

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root_hash)}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose log's signature was verified.

    Attributes:
        checkpoint: What was signed.
        note: The signed note, byte for byte as it came.
        signatures: Those that verified: the log's own and the known witnesses', one a key at most.
        unverified: Lines of unknown keys. They prove nothing.
    """

    checkpoint: Checkpoint
    note: bytes
    signatures: tuple[VerifiedSignature, ...]
    unverified: tuple[NoteSignature, ...]

    @property
    def cosignatures(self) -> tuple[VerifiedSignature, ...]:
        """The known witnesses' signatures, with their times."""
        return tuple(one for one in self.signatures if one.verifier.key_type is KeyType.COSIGNATURE_V1)


def parse_checkpoint_text(text: str) -> Checkpoint:
    """Return the checkpoint that a note's text spells.

    Raises:
        MalformedError: The text is not exactly three lines, or one of them is not as we would write it.
        RootMismatchError: The tree is empty, and the root is not the empty tree's.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise _malformed(f"expected three lines, each ended by LF, got {len(lines) - 1}", field="checkpoint")
    return Checkpoint(
        origin=lines[0],
        size=parse_decimal(lines[1], field="size"),
        root_hash=decode_base64(lines[2], field="root_hash"),
    )


def sign_checkpoint(checkpoint: Checkpoint, signers: NoteSigner | Sequence[NoteSigner]) -> bytes:
    """Return the signed note of a checkpoint, with a signature by each signer in their order.

    Raises:
        MalformedError: There is no signer, or one is not named like the origin: nobody would find its signature.
    """
    every = [signers] if isinstance(signers, NoteSigner) else signers
    for signer in every:
        if signer.name != checkpoint.origin:
            raise _malformed(f"expected a key named {checkpoint.origin}, got {signer.name}", field="signers")
    return sign_note(checkpoint.text, every)


def open_checkpoint(note: bytes, *, origin: str, verifiers: Iterable[NoteVerifier]) -> SignedCheckpoint:
    """Return a log's checkpoint after checking that the log signed it.

    Args:
        note: The signed note.
        origin: The log that is wanted.
        verifiers: The log's key or keys, named like the origin, and those of known witnesses.

    Raises:
        MalformedError: The bytes are no note, or its text no checkpoint.
        SignatureError: A known key's signature does not verify.
        VerificationError: No known key signed (SIGNATURE_MISSING), witnesses did but the log did not
            (LOG_SIGNATURE_MISSING), or it is another log's (ORIGIN_MISMATCH).
        RootMismatchError: The tree is empty, and the root is not the empty tree's.
    """
    opened = open_note(note, verifiers)
    checkpoint = parse_checkpoint_text(opened.text)
    if checkpoint.origin != origin:
        raise VerificationError(
            f"expected a checkpoint of {origin}, got one of {checkpoint.origin}", code="ORIGIN_MISMATCH", field="origin"
        )
    # A witness vouches for what it saw, not for what the log says: its word alone makes no checkpoint.
    if all(signature.verifier.name != origin for signature in opened.verified):
        raise VerificationError(
            f"expected a signature by {origin}, got none", code="LOG_SIGNATURE_MISSING", field="note"
        )
    return SignedCheckpoint(checkpoint, note, opened.verified, opened.unverified)


def _malformed(reason: str, *, field: str) -> MalformedError:
    return MalformedError(reason, code="CHECKPOINT_MALFORMED", field=field)
