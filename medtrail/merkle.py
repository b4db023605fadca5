"""Merkle trees: their hashes, and the proofs that a leaf is in one and that one is a prefix of another.

Nothing here reads or writes. Provers ask for hashes through a :data:`HashReader`; verifiers take the proof as it came,
and follow the standard's procedure step by step, under its own numbers.

A tree of n > 1 leaves splits at the largest power of two below n; a lone right node is promoted, never doubled. A
*complete subtree* is named by (level, index) and holds the leaves [index * 2^level, (index + 1) * 2^level).

Source: RFC 6962, section 2.1 (hashes and proofs); RFC 9162, sections 2.1.3.2 and 2.1.4.2 (verification).
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from medtrail.errors import MalformedError, RootMismatchError, VerificationError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root hash of the tree without leaves: SHA-256 of the empty string."""

MAX_TREE_SIZE = 2**63 - 1
"""Largest number of leaves: what a signed 64-bit integer holds, as in the checkpoints of other logs."""

NodeId = tuple[int, int]
"""A complete subtree: (level, index); level 0 are the leaves."""

HashReader = Callable[[Sequence[NodeId]], Sequence[bytes]]
"""Returns the hashes of the complete subtrees that are asked for, 32 bytes each, in the same order."""

_sha256 = hashlib.sha256


def hash_leaf(entry: bytes) -> bytes:
    """Return a leaf's hash: SHA-256(0x00 || entry)."""
    return _sha256(b"\x00" + entry).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Return an interior node's hash: SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


def parents_of(level: Sequence[bytes]) -> list[bytes]:
    """Return the nodes above the pairs of a level, which starts at an even index; an odd last node is left out."""
    # The hash stands in place of hash_node: this line is the whole cost of a bulk append.
    return [_sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]


@dataclass(frozen=True, slots=True)
class CompactRange:
    """What an append needs to know of a tree: the roots along its right edge.

    Attributes:
        size: Number of leaves.
        hashes: Roots of the complete subtrees that the tree splits into, largest (leftmost) first: one for each bit
            set in ``size``, 32 bytes each.

    Raises:
        MalformedError: The hashes are not one for each bit set, or not of 32 bytes.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _check_size(self.size, field="size")
        _check_hashes(self.hashes, field="hashes")
        if len(self.hashes) != self.size.bit_count():
            raise MalformedError(
                f"expected {self.size.bit_count()} hashes for {self.size} leaves, got {len(self.hashes)}",
                code="COMPACT_RANGE_MALFORMED",
                field="hashes",
            )

    def append(self, leaf_hash: bytes) -> "CompactRange":
        """Return the tree with one more leaf, of 32 bytes."""
        return self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> "CompactRange":
        """Return the tree with more leaves, 32 bytes each: one hash a leaf on average, a level at a time.

        Raises:
            MalformedError: A leaf hash is not of 32 bytes, or the tree would exceed MAX_TREE_SIZE.
        """
        level = list(leaf_hashes)
        _check_hashes(level, field="leaf_hashes")
        size = self.size + len(level)
        edge = list(self.hashes)
        smallest_first: list[bytes] = []
        bits = self.size
        while bits or level:
            # The edge's subtree of this height lies left of all that is new.
            if bits & 1:
                level.insert(0, edge.pop())
            if len(level) & 1:
                smallest_first.append(level.pop())
            level = parents_of(level)
            bits >>= 1
        return CompactRange(size, tuple(reversed(smallest_first)))

    def root(self) -> bytes:
        """Return the tree's root hash, 32 bytes."""
        return _fold(self.hashes) if self.hashes else EMPTY_ROOT

    def to_bytes(self) -> bytes:
        """Return uint64_be(size) || hashes, 8 + 32 bytes for each bit set in size."""
        return struct.pack(">Q", self.size) + b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        """Return what `to_bytes` encoded.

        Raises:
            MalformedError: The bytes are not such an encoding.
        """
        if len(encoded) < 8 or (len(encoded) - 8) % HASH_BYTES:
            raise MalformedError(
                f"expected 8 + 32 n bytes, got {len(encoded)}", code="COMPACT_RANGE_MALFORMED", field="encoded"
            )
        (size,) = struct.unpack_from(">Q", encoded)
        return cls(size, split_hashes(encoded[8:]))


def split_hashes(joined: bytes) -> tuple[bytes, ...]:
    """Return the 32-byte hashes that a multiple of 32 bytes is made of."""
    return tuple(joined[start : start + HASH_BYTES] for start in range(0, len(joined), HASH_BYTES))


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root hash of the tree of these leaves, 32 bytes each: MTH of RFC 6962, section 2.1."""
    return CompactRange().extend(leaf_hashes).root()


def inclusion_proof_nodes(leaf_index: int, tree_size: int) -> tuple[tuple[NodeId, ...], ...]:
    """Return which complete subtrees make each hash of an inclusion proof, from leaf to root.

    Most hashes are one complete subtree. One at most covers the ragged right edge: it folds several, largest first.

    Args:
        leaf_index: 0 <= leaf_index < tree_size.
        tree_size: Number of leaves.

    Raises:
        MalformedError: An argument is out of range.

    Source: RFC 6962, section 2.1.1 (PATH).
    """
    _check_size(tree_size, field="tree_size")
    if not 0 <= leaf_index < tree_size:
        raise _out_of_range("leaf_index", leaf_index, low=0, high=tree_size - 1)
    siblings: list[tuple[NodeId, ...]] = []
    start, end = 0, tree_size
    while end - start > 1:
        middle = start + _split(end - start)
        if leaf_index < middle:
            siblings.append(_complete_subtrees(middle, end))
            end = middle
        else:
            siblings.append(_complete_subtrees(start, middle))
            start = middle
    return tuple(reversed(siblings))


def consistency_proof_nodes(*, size1: int, size2: int) -> tuple[tuple[NodeId, ...], ...]:
    """Return which complete subtrees make each hash of a consistency proof, in the proof's order.

    Args:
        size1: 0 < size1 <= size2, the older tree's number of leaves.
        size2: The newer tree's.

    Raises:
        MalformedError: An argument is out of range.

    Source: RFC 6962, section 2.1.2 (PROOF and SUBPROOF).
    """
    _check_size(size2, field="size2")
    if not 0 < size1 <= size2:
        raise _out_of_range("size1", size1, low=1, high=size2)
    parts: list[tuple[NodeId, ...]] = []
    start, end = 0, size2
    while end != size1:
        middle = start + _split(end - start)
        if size1 <= middle:
            parts.append(_complete_subtrees(middle, end))
            end = middle
        else:
            parts.append(_complete_subtrees(start, middle))
            start = middle
    # SUBPROOF's b: where [0, size1) is itself a subtree of the newer tree, the verifier has its hash already.
    if start:
        parts.append(_complete_subtrees(start, end))
    return tuple(reversed(parts))


def inclusion_proof(read_hashes: HashReader, *, leaf_index: int, tree_size: int) -> tuple[bytes, ...]:
    """Return the sibling hashes from leaf to root, 32 bytes each, asking for at most 2 log2(tree_size) hashes.

    Args:
        read_hashes: Is called once.
        leaf_index: 0 <= leaf_index < tree_size.
        tree_size: Number of leaves.

    Raises:
        MalformedError: An argument is out of range, or the reader's answer has another shape than asked.

    Source: RFC 6962, section 2.1.1.
    """
    return _read(read_hashes, inclusion_proof_nodes(leaf_index, tree_size))


def consistency_proof(read_hashes: HashReader, *, size1: int, size2: int) -> tuple[bytes, ...]:
    """Return the hashes that prove the tree of size1 a prefix of that of size2; empty where the sizes are equal.

    Args:
        read_hashes: Is called once.
        size1: 0 < size1 <= size2.
        size2: The newer tree's number of leaves.

    Raises:
        MalformedError: An argument is out of range, or the reader's answer has another shape than asked.

    Source: RFC 6962, section 2.1.2.
    """
    return _read(read_hashes, consistency_proof_nodes(size1=size1, size2=size2))


def verify_inclusion(
    proof: Sequence[bytes], *, leaf_hash: bytes, leaf_index: int, tree_size: int, root_hash: bytes
) -> None:
    """Check that a leaf is in the tree that a checkpoint names.

    Args:
        proof: Sibling hashes from leaf to root, 32 bytes each.
        leaf_hash: 32 bytes.
        leaf_index: 0 <= leaf_index < tree_size.
        tree_size: The checkpoint's number of leaves.
        root_hash: The checkpoint's, 32 bytes.

    Raises:
        RootMismatchError: The proof leads to another root.
        VerificationError: The proof has another length than this leaf's (PROOF_LENGTH), or the tree has no such leaf
            (INDEX_OUT_OF_RANGE).
        MalformedError: A hash is not of 32 bytes, or a number is negative or too large.

    Source: RFC 9162, section 2.1.3.2.
    """
    _check_hashes((root_hash,), field="root_hash")
    computed = inclusion_root(proof, leaf_hash=leaf_hash, leaf_index=leaf_index, tree_size=tree_size)
    # 5. The way led to the root.
    if computed != root_hash:
        raise RootMismatchError(expected=root_hash, computed=computed)


def inclusion_root(proof: Sequence[bytes], *, leaf_hash: bytes, leaf_index: int, tree_size: int) -> bytes:
    """Return the root hash to which an inclusion proof leads, 32 bytes: whoever calls compares it with one he trusts.

    Args:
        proof: Sibling hashes from leaf to root, 32 bytes each.
        leaf_hash: 32 bytes.
        leaf_index: 0 <= leaf_index < tree_size.
        tree_size: Number of leaves.

    Raises:
        VerificationError: The proof has another length than this leaf's (PROOF_LENGTH), or the tree has no such leaf
            (INDEX_OUT_OF_RANGE).
        MalformedError: A hash is not of 32 bytes, or a number is negative or too large.

    Source: RFC 9162, section 2.1.3.2.
    """
    _check_hashes(proof, field="proof")
    _check_hashes((leaf_hash,), field="leaf_hash")
    _check_size(tree_size, field="tree_size")
    _check_size(leaf_index, field="leaf_index")
    # 1. Compare leaf_index to tree_size.
    if leaf_index >= tree_size:
        raise VerificationError(
            f"expected an index below tree size {tree_size}, got {leaf_index}",
            code="INDEX_OUT_OF_RANGE",
            field="leaf_index",
        )
    # 2. and 3. Start at the leaf; sn is the last leaf's path.
    fn, sn = leaf_index, tree_size - 1
    r = leaf_hash
    # 4. For each value of the path:
    for p in proof:
        # 4a. The root is reached: the path is too long.
        if sn == 0:
            raise _proof_length(proof)
        if fn & 1 or fn == sn:
            # 4b. p is the left sibling.
            r = hash_node(p, r)
            # A promoted node has no sibling on the levels that it skips.
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hash_node(r, p)
        # 4c. One level up.
        fn, sn = fn >> 1, sn >> 1
    # 5. The whole way was gone.
    if sn:
        raise _proof_length(proof)
    return r


def inclusion_proofs(leaf_hashes: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """Return the root hash of a small tree, and every leaf's proof: all in memory at once.

    Args:
        leaf_hashes: 1 or more, 32 bytes each.

    Source: RFC 6962, section 2.1.1.
    """
    proofs: list[list[bytes]] = [[] for _ in leaf_hashes]
    level = list(leaf_hashes)
    height = 0
    while len(level) > 1:
        for index, proof in enumerate(proofs):
            sibling = index >> height ^ 1
            if sibling < len(level):
                proof.append(level[sibling])
        # A lone right node is promoted.
        level = parents_of(level) + level[len(level) & ~1 :]
        height += 1
    return level[0], proofs


def verify_consistency(proof: Sequence[bytes], *, size1: int, size2: int, root1: bytes, root2: bytes) -> None:
    """Check that the older tree is a prefix of the newer: that nothing was changed, only appended.

    The empty tree is a prefix of every tree; there is nothing to prove, so size1 = 0 is refused as misuse.

    Args:
        proof: Hashes of 32 bytes; none where size1 = size2.
        size1: 0 < size1 <= size2, the older tree's number of leaves.
        size2: The newer tree's.
        root1: The older tree's root hash, 32 bytes.
        root2: The newer tree's, 32 bytes.

    Raises:
        RootMismatchError: The proof leads to another root, older or newer.
        VerificationError: The proof has another length than these sizes' (PROOF_LENGTH), or the tree shrank
            (SIZE_OUT_OF_RANGE).
        MalformedError: A hash is not of 32 bytes, or a number is out of range.

    Source: RFC 9162, section 2.1.4.2.
    """
    _check_hashes(proof, field="proof")
    _check_hashes((root1,), field="root1")
    _check_hashes((root2,), field="root2")
    _check_size(size2, field="size2")
    _check_size(size1, field="size1")
    if size1 == 0:
        raise _out_of_range("size1", size1, low=1, high=size2)
    if size1 > size2:
        raise VerificationError(
            f"expected at most {size2} leaves, got {size1}: a tree never shrinks",
            code="SIZE_OUT_OF_RANGE",
            field="size1",
        )
    if size1 == size2:
        if proof:
            raise _proof_length(proof)
        older, newer = root1, root1
    else:
        older, newer = _consistency_roots(proof, size1=size1, size2=size2, root1=root1)
    if older != root1:
        raise RootMismatchError(expected=root1, computed=older)
    if newer != root2:
        raise RootMismatchError(expected=root2, computed=newer)


def _consistency_roots(proof: Sequence[bytes], *, size1: int, size2: int, root1: bytes) -> tuple[bytes, bytes]:
    """Return the older and the newer root that a consistency proof leads to, for 0 < size1 < size2."""
    # 1. An empty path proves nothing.
    if not proof:
        raise _proof_length(proof)
    # 2. A complete older tree is a node of the newer one, and is not repeated in the path.
    path = [root1, *proof] if size1.bit_count() == 1 else list(proof)
    # 3. and 4. Climb from the older tree's last leaf to the node where the paths start.
    fn, sn = size1 - 1, size2 - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    # 5. Both roots are built from there.
    fr = sr = path[0]
    # 6. For each further value of the path:
    for c in path[1:]:
        # 6a. The root is reached: the path is too long.
        if sn == 0:
            raise _proof_length(proof)
        if fn & 1 or fn == sn:
            # 6b. c is the left sibling, in both trees.
            fr, sr = hash_node(c, fr), hash_node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            # c lies right of the older tree.
            sr = hash_node(sr, c)
        # 6c. One level up.
        fn, sn = fn >> 1, sn >> 1
    # 7. The whole way was gone; the caller compares the roots.
    if sn:
        raise _proof_length(proof)
    return fr, sr


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees, largest first; at least one."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = hash_node(left, root)
    return root


def _split(size: int) -> int:
    """Return the largest power of two below a size > 1."""
    return 1 << (size - 1).bit_length() - 1


def _complete_subtrees(start: int, end: int) -> tuple[NodeId, ...]:
    """Return the complete subtrees of the leaves [start, end), largest first, for a node of some tree."""
    nodes: list[NodeId] = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append((level, start >> level))
        start += 1 << level
    return tuple(nodes)


def _read(read_hashes: HashReader, parts: Sequence[Sequence[NodeId]]) -> tuple[bytes, ...]:
    wanted = [node for part in parts for node in part]
    hashes = read_hashes(wanted) if wanted else ()
    if len(hashes) != len(wanted):
        raise MalformedError(f"expected {len(wanted)} hashes, got {len(hashes)}", code="HASHES_MALFORMED")
    _check_hashes(hashes, field="hashes")
    found = iter(hashes)
    return tuple(_fold([next(found) for _ in part]) for part in parts)


def _check_hashes(hashes: Sequence[bytes], *, field: str) -> None:
    for one in hashes:
        if len(one) != HASH_BYTES:
            raise MalformedError(f"expected hashes of 32 bytes, got {len(one)}", code="HASH_MALFORMED", field=field)


def _check_size(size: int, *, field: str) -> None:
    if not 0 <= size <= MAX_TREE_SIZE:
        raise _out_of_range(field, size, low=0, high=MAX_TREE_SIZE)


def _out_of_range(field: str, value: int, *, low: int, high: int) -> MalformedError:
    return MalformedError(f"expected {low} to {high}, got {value}", code="NUMBER_OUT_OF_RANGE", field=field)


def _proof_length(proof: Sequence[bytes]) -> VerificationError:
    return VerificationError(
        f"a proof of {len(proof)} hashes has another length than one for these sizes",
        code="PROOF_LENGTH",
        field="proof",
    )
