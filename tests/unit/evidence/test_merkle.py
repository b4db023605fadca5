"""Merkle trees: every proof of every small tree verifies, and every corruption of it is refused."""

import hashlib
import json
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.errors import MalformedError, MedtrailError, RootMismatchError, VerificationError
from medtrail.merkle import (
    EMPTY_ROOT,
    MAX_TREE_SIZE,
    CompactRange,
    consistency_proof,
    consistency_proof_nodes,
    hash_leaf,
    hash_node,
    inclusion_proof,
    inclusion_proof_nodes,
    root_of,
    verify_consistency,
    verify_inclusion,
)

if typing.TYPE_CHECKING:
    from tests.unit.evidence.conftest import Oracle

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "merkle.json").read_text())
SIZES = range(1, 65)
HASH = bytes(32)
Arguments = typing.ParamSpec("Arguments")


def test_roots_equal_the_reference_tree() -> None:
    leaf_hashes = [hash_leaf(bytes.fromhex(entry)) for entry in VECTORS["entries"]]

    assert [root_of(leaf_hashes[:size]).hex() for size in range(9)] == VECTORS["roots"]


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda vector: f"{vector['leaf_index']}")
def test_inclusion_proofs_of_the_reference_tree_verify(vector: dict[str, typing.Any]) -> None:
    verify_inclusion(
        [bytes.fromhex(sibling) for sibling in vector["proof"]],
        leaf_hash=hash_leaf(bytes.fromhex(VECTORS["entries"][vector["leaf_index"]])),
        leaf_index=vector["leaf_index"],
        tree_size=vector["tree_size"],
        root_hash=bytes.fromhex(VECTORS["roots"][vector["tree_size"]]),
    )


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda vector: f"{vector['size1']}-{vector['size2']}")
def test_consistency_proofs_of_the_reference_tree_verify(vector: dict[str, typing.Any]) -> None:
    verify_consistency(
        [bytes.fromhex(part) for part in vector["proof"]],
        size1=vector["size1"],
        size2=vector["size2"],
        root1=bytes.fromhex(VECTORS["roots"][vector["size1"]]),
        root2=bytes.fromhex(VECTORS["roots"][vector["size2"]]),
    )


def test_hashes_carry_the_domain_of_leaf_or_node() -> None:
    assert hash_leaf(b"entry") == hashlib.sha256(b"\x00entry").digest()
    assert hash_node(b"l" * 32, b"r" * 32) == hashlib.sha256(b"\x01" + b"l" * 32 + b"r" * 32).digest()
    assert hashlib.sha256().digest() == EMPTY_ROOT


def test_every_inclusion_proof_of_every_tree_to_64_equals_the_standard_and_verifies(oracle: "Oracle") -> None:
    for size in SIZES:
        for index in range(size):
            proof = inclusion_proof(oracle.read, leaf_index=index, tree_size=size)

            assert list(proof) == oracle.path(index, 0, size)
            verify_inclusion(
                proof,
                leaf_hash=oracle.mth(index, index + 1),
                leaf_index=index,
                tree_size=size,
                root_hash=oracle.mth(0, size),
            )


def test_every_consistency_proof_of_every_pair_to_64_equals_the_standard_and_verifies(oracle: "Oracle") -> None:
    for size2 in SIZES:
        for size1 in range(1, size2 + 1):
            proof = consistency_proof(oracle.read, size1=size1, size2=size2)

            assert list(proof) == oracle.proof(size1, size2)
            verify_consistency(proof, size1=size1, size2=size2, root1=oracle.mth(0, size1), root2=oracle.mth(0, size2))


def test_refuses_every_inclusion_proof_to_64_leaves_with_one_bit_or_hash_changed(oracle: "Oracle") -> None:
    for size in SIZES:
        root = oracle.mth(0, size)
        for index in range(size):
            leaf_hash = oracle.mth(index, index + 1)
            for corrupted in _corruptions(oracle.path(index, 0, size), salt=index):
                _assert_refused(
                    verify_inclusion, corrupted, leaf_hash=leaf_hash, leaf_index=index, tree_size=size, root_hash=root
                )


def test_refuses_every_inclusion_proof_to_64_leaves_for_another_leaf_or_root(oracle: "Oracle") -> None:
    for size in SIZES:
        root = oracle.mth(0, size)
        for index in range(size):
            proof, leaf_hash = oracle.path(index, 0, size), oracle.mth(index, index + 1)
            for other in range(size + 1):
                if other == index:
                    continue
                # Another leaf in this place, and this leaf in another place, one beyond the tree.
                wrong_leaf = oracle.mth(other, other + 1)
                _assert_refused(
                    verify_inclusion, proof, leaf_hash=wrong_leaf, leaf_index=index, tree_size=size, root_hash=root
                )
                _assert_refused(
                    verify_inclusion, proof, leaf_hash=leaf_hash, leaf_index=other, tree_size=size, root_hash=root
                )
            for wrong in (_flip(root, index), _flip(leaf_hash, size)):
                _assert_refused(
                    verify_inclusion, proof, leaf_hash=leaf_hash, leaf_index=index, tree_size=size, root_hash=wrong
                )


def test_refuses_every_inclusion_proof_to_64_leaves_for_another_tree_size(oracle: "Oracle") -> None:
    for size in SIZES:
        for index in range(size):
            proof, leaf_hash = oracle.path(index, 0, size), oracle.mth(index, index + 1)
            for other in range(66):
                if other == size:
                    continue
                # The other tree's own root, as its checkpoint names it.
                _assert_refused(
                    verify_inclusion,
                    proof,
                    leaf_hash=leaf_hash,
                    leaf_index=index,
                    tree_size=other,
                    root_hash=oracle.mth(0, other),
                )
                # This root under another size, which no checkpoint names, passes only where the way up is the same.
                if other <= index or oracle.turns(index, other) != oracle.turns(index, size):
                    _assert_refused(
                        verify_inclusion,
                        proof,
                        leaf_hash=leaf_hash,
                        leaf_index=index,
                        tree_size=other,
                        root_hash=oracle.mth(0, size),
                    )


def test_refuses_every_consistency_proof_to_64_leaves_with_one_bit_or_hash_changed(oracle: "Oracle") -> None:
    for size2 in SIZES:
        for size1 in range(1, size2 + 1):
            root1, root2 = oracle.mth(0, size1), oracle.mth(0, size2)
            proof = oracle.proof(size1, size2)
            for corrupted in _corruptions(proof, salt=size1):
                _assert_refused(verify_consistency, corrupted, size1=size1, size2=size2, root1=root1, root2=root2)
            for wrong1, wrong2 in ((_flip(root1, size2), root2), (root1, _flip(root2, size1))):
                _assert_refused(verify_consistency, proof, size1=size1, size2=size2, root1=wrong1, root2=wrong2)


def test_refuses_every_consistency_proof_to_64_leaves_for_other_sizes(oracle: "Oracle") -> None:
    for size2 in SIZES:
        for size1 in range(1, size2):
            proof = oracle.proof(size1, size2)
            others = [(other, size2) for other in SIZES if other != size1]
            others += [(size1, other) for other in SIZES if other != size2]
            for other1, other2 in others:
                root1, root2 = oracle.mth(0, other1), oracle.mth(0, other2)
                _assert_refused(verify_consistency, proof, size1=other1, size2=other2, root1=root1, root2=root2)


def test_refuses_a_tree_whose_history_was_rewritten(oracle: "Oracle") -> None:
    rewritten = [oracle.mth(index, index + 1) for index in range(10)]
    rewritten[3] = hash_leaf(b"forged")
    forged_root = root_of(rewritten)

    with pytest.raises(RootMismatchError):
        verify_consistency(oracle.proof(7, 10), size1=7, size2=10, root1=oracle.mth(0, 7), root2=forged_root)


def test_refuses_two_roots_of_one_size() -> None:
    with pytest.raises(RootMismatchError):
        verify_consistency([], size1=5, size2=5, root1=HASH, root2=b"\x01" * 32)


def test_refuses_a_tree_that_shrank() -> None:
    with pytest.raises(VerificationError) as caught:
        verify_consistency([], size1=6, size2=5, root1=HASH, root2=HASH)
    assert caught.value.code == "SIZE_OUT_OF_RANGE"


@pytest.mark.parametrize("size2", [0, 5])
def test_refuses_consistency_with_the_empty_tree_as_misuse(oracle: "Oracle", size2: int) -> None:
    with pytest.raises(MalformedError):
        verify_consistency([], size1=0, size2=size2, root1=EMPTY_ROOT, root2=EMPTY_ROOT)
    with pytest.raises(MalformedError):
        consistency_proof(oracle.read, size1=0, size2=size2)


def test_refuses_the_leaf_after_the_last() -> None:
    with pytest.raises(VerificationError) as caught:
        verify_inclusion([HASH], leaf_hash=HASH, leaf_index=3, tree_size=3, root_hash=HASH)
    assert caught.value.code == "INDEX_OUT_OF_RANGE"


@pytest.mark.parametrize("proof", [[], [HASH] * 3], ids=["short", "long"])
def test_says_that_a_proof_has_the_wrong_length(proof: list[bytes]) -> None:
    with pytest.raises(VerificationError) as inclusion:
        verify_inclusion(proof, leaf_hash=HASH, leaf_index=0, tree_size=4, root_hash=HASH)
    with pytest.raises(VerificationError) as consistency:
        verify_consistency(proof, size1=2, size2=4, root1=HASH, root2=HASH)

    assert (inclusion.value.code, consistency.value.code) == ("PROOF_LENGTH", "PROOF_LENGTH")


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(31), bytes(33)], ids=len)
def test_refuses_hashes_that_are_not_32_bytes(wrong: bytes) -> None:
    for proof, one, two in (([wrong], HASH, HASH), ([HASH], wrong, HASH), ([HASH], HASH, wrong)):
        with pytest.raises(MalformedError):
            verify_inclusion(proof, leaf_hash=one, leaf_index=0, tree_size=2, root_hash=two)
        with pytest.raises(MalformedError):
            verify_consistency(proof, size1=1, size2=2, root1=one, root2=two)
    with pytest.raises(MalformedError):
        CompactRange().append(wrong)
    with pytest.raises(MalformedError):
        CompactRange(1, (wrong,))


def test_refuses_numbers_that_no_tree_has(oracle: "Oracle") -> None:
    for index, size in ((-1, 2), (0, -1), (0, MAX_TREE_SIZE + 1), (MAX_TREE_SIZE + 1, 2)):
        with pytest.raises(MalformedError):
            verify_inclusion([], leaf_hash=HASH, leaf_index=index, tree_size=size, root_hash=HASH)
    for index, size in ((-1, 2), (2, 2), (0, 0), (0, -1), (0, MAX_TREE_SIZE + 1)):
        with pytest.raises(MalformedError):
            inclusion_proof_nodes(index, size)
    for size1, size2 in ((-1, 2), (0, -1), (1, MAX_TREE_SIZE + 1)):
        with pytest.raises(MalformedError):
            verify_consistency([], size1=size1, size2=size2, root1=HASH, root2=HASH)
    for size1, size2 in ((3, 2), (-1, 2), (1, MAX_TREE_SIZE + 1)):
        with pytest.raises(MalformedError):
            consistency_proof(oracle.read, size1=size1, size2=size2)


@pytest.mark.parametrize("answer", [[], [HASH] * 9, [b"short", HASH]], ids=["few", "many", "short"])
def test_refuses_an_answer_that_is_not_the_hashes_asked_for(answer: list[bytes]) -> None:
    with pytest.raises(MalformedError):
        inclusion_proof(lambda _: answer, leaf_index=0, tree_size=4)


def test_asks_for_logarithmically_many_hashes_of_the_largest_tree() -> None:
    for index in (0, 1, MAX_TREE_SIZE // 2, MAX_TREE_SIZE - 1):
        parts = inclusion_proof_nodes(index, MAX_TREE_SIZE)
        assert len(parts) <= 63
        assert sum(map(len, parts)) <= 2 * 63
    assert sum(map(len, consistency_proof_nodes(size1=MAX_TREE_SIZE // 3, size2=MAX_TREE_SIZE))) <= 2 * 63


def test_asks_for_no_hash_of_a_proof_without_hashes() -> None:
    def unread(nodes: Sequence[tuple[int, int]]) -> list[bytes]:
        raise AssertionError(nodes)

    assert inclusion_proof(unread, leaf_index=0, tree_size=1) == ()
    assert consistency_proof(unread, size1=9, size2=9) == ()


def test_compact_range_holds_the_roots_of_the_right_edge(oracle: "Oracle") -> None:
    grown = CompactRange()
    for size in range(1, 130):
        grown = grown.append(oracle.mth(size - 1, size))
        start, expected = 0, []
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                expected.append(oracle.mth(start, start + (1 << level)))
                start += 1 << level

        assert grown == CompactRange(size, tuple(expected))
        assert grown.root() == oracle.mth(0, size)


@given(st.lists(st.binary(max_size=4), max_size=80), st.lists(st.integers(0, 80), max_size=4))
def test_extending_equals_appending_equals_the_standard(entries: list[bytes], cuts: list[int]) -> None:
    leaf_hashes = [hash_leaf(entry) for entry in entries]
    one_by_one = CompactRange()
    for leaf_hash in leaf_hashes:
        one_by_one = one_by_one.append(leaf_hash)
    in_batches, start = CompactRange(), 0
    for end in sorted({*(cut for cut in cuts if cut < len(entries)), len(entries)}):
        in_batches = in_batches.extend(leaf_hashes[start:end])
        start = end

    assert in_batches == one_by_one == CompactRange().extend(iter(leaf_hashes))
    assert one_by_one.root() == root_of(leaf_hashes) == _mth(entries)
    assert CompactRange.from_bytes(one_by_one.to_bytes()) == one_by_one


def test_compact_range_refuses_more_leaves_than_a_tree_can_have() -> None:
    full = CompactRange(MAX_TREE_SIZE, (HASH,) * 63)

    with pytest.raises(MalformedError):
        full.append(HASH)


@pytest.mark.parametrize(
    "encoded",
    [b"", bytes(7), bytes(9), bytes(8 + 32), b"\xff" * 8, (3).to_bytes(8, "big") + HASH, b"\x80" + bytes(7) + HASH],
    ids=["empty", "short", "ragged", "surplus", "missing", "few", "large"],
)
def test_compact_range_refuses_bytes_that_encode_none(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        CompactRange.from_bytes(encoded)


@given(st.binary(max_size=120))
def test_compact_range_of_any_bytes_is_read_or_refused(encoded: bytes) -> None:
    try:
        read = CompactRange.from_bytes(encoded)
    except MedtrailError:
        return
    assert read.to_bytes() == encoded


@given(
    st.lists(st.binary(min_size=32, max_size=32) | st.binary(max_size=40), max_size=8),
    st.integers(-(2**65), 2**65) | st.integers(0, 9),
    st.integers(-(2**65), 2**65) | st.integers(0, 9),
)
def test_verifying_any_proof_raises_only_our_errors(proof: list[bytes], first: int, second: int) -> None:
    with pytest.raises(MedtrailError):
        verify_inclusion(proof, leaf_hash=HASH, leaf_index=first, tree_size=second, root_hash=b"\x01" * 32)
    with pytest.raises(MedtrailError):
        verify_consistency(proof, size1=first, size2=second, root1=HASH, root2=b"\x01" * 32)


def _mth(entries: list[bytes]) -> bytes:
    """Return MTH(D[n]), the definition itself: RFC 6962, section 2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = max(1 << bit for bit in range(len(entries).bit_length()) if 1 << bit < len(entries))
    return hashlib.sha256(b"\x01" + _mth(entries[:k]) + _mth(entries[k:])).digest()


def _flip(one: bytes, bit: int) -> bytes:
    position = bit % 256
    return bytes(byte ^ (1 << position % 8) if place == position // 8 else byte for place, byte in enumerate(one))


def _corruptions(proof: list[bytes], *, salt: int) -> Iterator[list[bytes]]:
    """Yield the proof with, at each place, one bit flipped, one hash dropped, added, doubled, or two swapped."""
    for place, sibling in enumerate(proof):
        yield [*proof[:place], _flip(sibling, 37 * salt + 11 * place), *proof[place + 1 :]]
        yield [*proof[:place], *proof[place + 1 :]]
        yield [*proof[:place], sibling, *proof[place:]]
        for other in range(place):
            swapped = list(proof)
            swapped[place], swapped[other] = proof[other], sibling
            yield swapped
    for place in range(len(proof) + 1):
        yield [*proof[:place], HASH, *proof[place:]]


def _assert_refused(verify: Callable[Arguments, None], *arguments: Arguments.args, **named: Arguments.kwargs) -> None:
    # Cheaper than pytest.raises, of which there would be a million.
    try:
        verify(*arguments, **named)
    except VerificationError:
        return
    pytest.fail(f"{verify.__name__} accepted {arguments}, {named}")
