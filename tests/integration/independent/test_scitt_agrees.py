"""An RFC 9162 implementation that we did not write agrees on roots and proofs of random trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.errors import VerificationError
from medtrail.merkle import (
    NodeId,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    root_of,
    verify_consistency,
    verify_inclusion,
)

scitt = pytest.importorskip("scitt_cose.merkle", reason="scitt-cose is not installed")

trees = st.lists(st.binary(max_size=8), min_size=1, max_size=300)


def reader(leaves: list[bytes]) -> object:
    def read(nodes: list[NodeId]) -> list[bytes]:
        return [root_of(leaves[index << level : (index + 1) << level]) for level, index in nodes]

    return read


def hexed(hashes: list[bytes] | tuple[bytes, ...]) -> list[str]:
    return [item.hex() for item in hashes]


@given(trees, st.data())
def test_roots_and_inclusion_proofs_are_the_same(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [hash_leaf(entry) for entry in entries]
    theirs = hexed(entries)
    root = root_of(leaves)
    assert root.hex() == scitt.merkle_root(theirs)
    index = data.draw(st.integers(0, len(entries) - 1))
    proof = inclusion_proof(reader(leaves), leaf_index=index, tree_size=len(leaves))  # type: ignore[arg-type]
    assert hexed(proof) == scitt.inclusion_proof(theirs, index)
    assert scitt.verify_inclusion(theirs[index], index, len(leaves), hexed(proof), root.hex())


@given(trees, st.data())
def test_consistency_proofs_are_the_same(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [hash_leaf(entry) for entry in entries]
    size1 = data.draw(st.integers(1, len(entries)))
    proof = consistency_proof(reader(leaves), size1=size1, size2=len(leaves))  # type: ignore[arg-type]
    assert hexed(proof) == scitt.consistency_proof(hexed(entries), size1, len(entries))


@given(trees, st.data())
def test_both_refuse_the_same_tampered_proofs(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [hash_leaf(entry) for entry in entries]
    size, root = len(leaves), root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = list(inclusion_proof(reader(leaves), leaf_index=index, tree_size=size))  # type: ignore[arg-type]
    tampered = data.draw(
        st.sampled_from([[*proof, bytes(32)], proof[1:] or [bytes(32)], [bytes(32), *proof[1:]], proof[::-1]])
    )
    theirs = scitt.verify_inclusion(entries[index].hex(), index, size, hexed(tampered), root.hex())
    try:
        verify_inclusion(tampered, leaf_hash=leaves[index], leaf_index=index, tree_size=size, root_hash=root)
        ours = True
    except VerificationError:
        ours = False
    # Twice the same hash in a proof may be turned round unseen.
    assert ours is theirs is (tampered == proof)
    older = data.draw(st.integers(1, size))
    wrong = bytes(32)
    steps = consistency_proof(reader(leaves), size1=older, size2=size)  # type: ignore[arg-type]
    assert scitt.verify_consistency(root_of(leaves[:older]).hex(), root.hex(), older, size, hexed(steps))
    assert not scitt.verify_consistency(wrong.hex(), root.hex(), older, size, hexed(steps))
    with pytest.raises(VerificationError):
        verify_consistency(steps, size1=older, size2=size, root1=wrong, root2=root)
