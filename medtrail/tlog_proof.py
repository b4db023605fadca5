"""Offline proofs (``.tlog-proof``): that an entry is in a log, checkable with no network.

::

    c2sp.org/tlog-proof@v1
    extra <base64>              optional; opaque, not authenticated
    index <n>                   of the entry, from 0
    <base64>                    sibling hashes from leaf to root, one a line, none for a tree of one leaf

    <checkpoint>                verbatim, with its signatures

Source: C2SP tlog-proof (draft).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from medtrail.checkpoint import SignedCheckpoint, open_checkpoint, parse_checkpoint_text
from medtrail.errors import MalformedError, TooLargeError
from medtrail.merkle import HASH_BYTES, MAX_TREE_SIZE, hash_leaf, verify_inclusion
from medtrail.note import NoteVerifier
from medtrail.note_format import MAX_NOTE_BYTES, decode_base64, encode_base64, parse_decimal, split_note

HEADER = "c2sp.org/tlog-proof@v1"

MAX_PROOF_HASHES = 63
"""Most sibling hashes: a tree of below 2^63 leaves is no higher."""

MAX_EXTRA_BYTES = 65_536
"""Largest extra data; the format has no limit, a reader needs one."""

MAX_PROOF_BYTES = MAX_NOTE_BYTES + 100_000
"""Largest proof that is read: a note, extra data and hashes, each at its limit."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof, unchecked.

    Attributes:
        index: The entry's, 0 to 2^63 - 2.
        extra: Opaque data for the application, at most 65,536 bytes, or None. Nothing vouches for them: use them only
            for what the proof then confirms.
        proof: Sibling hashes from leaf to root, 32 bytes each, at most 63.
        checkpoint_note: The signed checkpoint, byte for byte.

    Raises:
        MalformedError: An attribute is out of its range, or the note is none or holds no checkpoint.
        TooLargeError: The extra data or the note exceed their limits.
        RootMismatchError: The checkpoint is of an empty tree, with the root of another.
    """

    index: int
    extra: bytes | None
    proof: tuple[bytes, ...]
    checkpoint_note: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_TREE_SIZE:
            raise _malformed(f"expected 0 to {MAX_TREE_SIZE - 1}, got {self.index}", field="index")
        if self.extra is not None and len(self.extra) > MAX_EXTRA_BYTES:
            raise TooLargeError(f"expected at most {MAX_EXTRA_BYTES} bytes, got {len(self.extra)}", field="extra")
        if len(self.proof) > MAX_PROOF_HASHES or any(len(sibling) != HASH_BYTES for sibling in self.proof):
            raise _malformed(f"expected at most {MAX_PROOF_HASHES} hashes of 32 bytes", field="proof")
        parse_checkpoint_text(split_note(self.checkpoint_note)[0])


def format_proof(proof: TlogProof) -> bytes:
    """Return a proof as the bytes of a ``.tlog-proof`` file."""
    lines = [HEADER]
    if proof.extra is not None:
        lines.append(f"extra {encode_base64(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines.extend(encode_base64(sibling) for sibling in proof.proof)
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + proof.checkpoint_note


def parse_proof(encoded: bytes) -> TlogProof:
    """Return the proof that a ``.tlog-proof`` file spells; nothing is verified.

    Raises:
        MalformedError: The bytes are not exactly what `format_proof` writes.
        TooLargeError: They exceed MAX_PROOF_BYTES.
        RootMismatchError: The checkpoint is of an empty tree, with the root of another.
    """
    if len(encoded) > MAX_PROOF_BYTES:
        raise TooLargeError(f"expected at most {MAX_PROOF_BYTES} bytes, got {len(encoded)}", field="proof")
    head, separator, checkpoint_note = encoded.partition(b"\n\n")
    if not separator:
        raise _malformed("expected an empty line before the checkpoint", field="checkpoint_note")
    try:
        header, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _malformed("expected ASCII before the checkpoint", field="proof") from error
    if header != HEADER:
        raise _malformed(f"expected {HEADER!r} in the first line, got {header[:40]!r}", field="proof")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "), field="extra")
    if not lines or not lines[0].startswith("index "):
        raise _malformed("expected a line 'index <n>'", field="index")
    index = parse_decimal(lines[0].removeprefix("index "), field="index")
    siblings = tuple(decode_base64(line, field=f"proof[{position}]") for position, line in enumerate(lines[1:]))
    return TlogProof(index, extra, siblings, checkpoint_note)


def verify_proof(proof: TlogProof, *, entry: bytes, origin: str, verifiers: Iterable[NoteVerifier]) -> SignedCheckpoint:
    """Check that a log holds an entry, and return the checkpoint that says so.

    Args:
        proof: As parsed; its extra data are not looked at.
        entry: The log entry's bytes.
        origin: The log that is wanted.
        verifiers: The log's key or keys, named like the origin, and those of known witnesses.

    Raises:
        SignatureError: A known key's signature does not verify.
        RootMismatchError: The hashes lead to another root than the checkpoint's.
        VerificationError: No known key signed, it is another log's checkpoint, the tree has no such entry, or the
            proof has another length; codes as in `open_checkpoint` and `verify_inclusion`.
        MalformedError: The verifiers are ambiguous (VERIFIER_AMBIGUOUS).
    """
    # (1): the checkpoint is signed by the log that we trust.
    signed = open_checkpoint(proof.checkpoint_note, origin=origin, verifiers=verifiers)
    # (2): the hashes lead from the entry to the checkpoint's root.
    verify_inclusion(
        proof.proof,
        leaf_hash=hash_leaf(entry),
        leaf_index=proof.index,
        tree_size=signed.checkpoint.size,
        root_hash=signed.checkpoint.root_hash,
    )
    return signed


def _malformed(reason: str, *, field: str) -> MalformedError:
    return MalformedError(reason, code="PROOF_MALFORMED", field=field)
