"""Offline proofs: what the file says is proven for one entry of one log, or refused."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.errors import (
    MalformedError,
    MedtrailError,
    RootMismatchError,
    SignatureError,
    TooLargeError,
    VerificationError,
)
from medtrail.merkle import MAX_TREE_SIZE, inclusion_proof
from medtrail.note import NoteSigner
from medtrail.note_format import encode_base64
from medtrail.tlog_proof import (
    MAX_EXTRA_BYTES,
    MAX_PROOF_BYTES,
    TlogProof,
    format_proof,
    parse_proof,
    verify_proof,
)

if typing.TYPE_CHECKING:
    from tests.unit.evidence.conftest import Oracle

ORIGIN = "ledger.example/eu1"
LOG = NoteSigner(ORIGIN, bytes(range(32)))
OTHER = NoteSigner("other.example", bytes(range(32)))
NOTE = sign_checkpoint(Checkpoint(ORIGIN, 5, bytes(32)), LOG)
HASH = encode_base64(bytes(32))
HEADER = "c2sp.org/tlog-proof@v1"


def _proof(oracle: "Oracle", *, index: int, size: int, extra: bytes | None = None) -> TlogProof:
    note = sign_checkpoint(Checkpoint(ORIGIN, size, oracle.mth(0, size)), LOG)
    return TlogProof(index, extra, inclusion_proof(oracle.read, leaf_index=index, tree_size=size), note)


def _file(*lines: str, note: bytes = NOTE) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + note


def test_every_entry_of_small_logs_is_proven_by_its_file(oracle: "Oracle") -> None:
    for size in range(1, 18):
        for index in range(size):
            written = _proof(oracle, index=index, size=size, extra=b"\0\xff" if index % 2 else None)
            read = parse_proof(format_proof(written))
            assert read == written

            signed = verify_proof(read, entry=oracle.entries[index], origin=ORIGIN, verifiers=[LOG.verifier])
            assert signed.checkpoint == Checkpoint(ORIGIN, size, oracle.mth(0, size))


def test_file_is_written_as_the_specification_says() -> None:
    proof = TlogProof(73894, b"extra", (bytes(32), bytes(32)), NOTE)

    assert format_proof(proof) == _file(HEADER, "extra ZXh0cmE=", "index 73894", HASH, HASH)
    assert format_proof(TlogProof(0, None, (), NOTE)) == _file(HEADER, "index 0")
    assert parse_proof(_file(HEADER, "extra ", "index 0")).extra == b""


def test_refuses_another_entry(oracle: "Oracle") -> None:
    with pytest.raises(RootMismatchError):
        verify_proof(_proof(oracle, index=3, size=9), entry=oracle.entries[4], origin=ORIGIN, verifiers=[LOG.verifier])


def test_refuses_another_index_or_one_beyond_the_tree(oracle: "Oracle") -> None:
    proof = _proof(oracle, index=3, size=9)
    for index in (0, 2, 4, 8, 9, MAX_TREE_SIZE - 1):
        moved = TlogProof(index, None, proof.proof, proof.checkpoint_note)
        with pytest.raises(VerificationError):
            verify_proof(moved, entry=oracle.entries[3], origin=ORIGIN, verifiers=[LOG.verifier])


def test_refuses_the_checkpoint_of_another_size(oracle: "Oracle") -> None:
    proof, later = _proof(oracle, index=3, size=9), _proof(oracle, index=3, size=10)
    swapped = TlogProof(3, None, proof.proof, later.checkpoint_note)

    with pytest.raises(VerificationError):
        verify_proof(swapped, entry=oracle.entries[3], origin=ORIGIN, verifiers=[LOG.verifier])


def test_refuses_the_checkpoint_of_another_log(oracle: "Oracle") -> None:
    proof = _proof(oracle, index=3, size=9)
    other = TlogProof(3, None, proof.proof, sign_checkpoint(Checkpoint(OTHER.name, 9, oracle.mth(0, 9)), OTHER))

    with pytest.raises(VerificationError) as caught:
        verify_proof(other, entry=oracle.entries[3], origin=ORIGIN, verifiers=[LOG.verifier, OTHER.verifier])
    assert caught.value.code == "ORIGIN_MISMATCH"
    with pytest.raises(VerificationError) as caught:
        verify_proof(other, entry=oracle.entries[3], origin=ORIGIN, verifiers=[LOG.verifier])
    assert caught.value.code == "SIGNATURE_MISSING"


def test_refuses_a_root_that_the_log_did_not_sign(oracle: "Oracle") -> None:
    proof = _proof(oracle, index=3, size=9)
    note = proof.checkpoint_note.replace(encode_base64(oracle.mth(0, 9)).encode(), HASH.encode())

    with pytest.raises(SignatureError):
        verify_proof(
            TlogProof(3, None, proof.proof, note),
            entry=oracle.entries[3],
            origin=ORIGIN,
            verifiers=[LOG.verifier],
        )


def test_extra_data_decide_nothing(oracle: "Oracle") -> None:
    for extra in (None, b"", b"anything"):
        proof = _proof(oracle, index=3, size=9, extra=extra)
        verify_proof(proof, entry=oracle.entries[3], origin=ORIGIN, verifiers=[LOG.verifier])


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        NOTE,
        _file("c2sp.org/tlog-proof@v2", "index 0"),
        _file(f"{HEADER} ", "index 0"),
        _file(HEADER),
        _file(HEADER, "extra AAAA"),
        _file(HEADER, "extra AAA", "index 0"),
        _file(HEADER, "extra", "index 0"),
        _file(HEADER, "extra AAAA", "extra AAAA", "index 0"),
        _file(HEADER, "index 0", "extra AAAA"),
        _file(HEADER, "index"),
        _file(HEADER, "index  0"),
        _file(HEADER, "index 00"),
        _file(HEADER, "index -1"),
        _file(HEADER, f"index {2**63 - 1}"),
        _file(HEADER, f"index {2**64}"),
        _file(HEADER, "index 0", encode_base64(bytes(31))),
        _file(HEADER, "index 0", f"{HASH} "),
        _file(HEADER, "index 0", f"{HASH}\r"),
        _file(HEADER, "index 0", *[HASH] * 64),
        _file(HEADER, "index 0", "\u00e9"),
        _file(HEADER, "index 0", note=b""),
        _file(HEADER, "index 0", note=b"\n" + NOTE[1:]),
        _file(HEADER, "index 0", note=NOTE + b"trailer\n"),
        _file(HEADER, "index 0").replace(b"\n\n", b"\n"),
        _file(HEADER, "index 0").replace(b"\n", b"\r\n"),
        b"\n\n" + _file(HEADER, "index 0"),
    ],
    ids=range(27),
)
def test_refuses_files_that_are_not_canonical(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_proof(encoded)


def test_refuses_what_exceeds_the_limits() -> None:
    with pytest.raises(TooLargeError):
        parse_proof(bytes(MAX_PROOF_BYTES + 1))
    with pytest.raises(TooLargeError):
        TlogProof(0, bytes(MAX_EXTRA_BYTES + 1), (), NOTE)
    largest = TlogProof(MAX_TREE_SIZE - 1, bytes(MAX_EXTRA_BYTES), (bytes(32),) * 63, NOTE)
    assert parse_proof(format_proof(largest)) == largest


@pytest.mark.parametrize("index", [-1, MAX_TREE_SIZE])
def test_refuses_an_index_that_no_tree_has(index: int) -> None:
    with pytest.raises(MalformedError):
        TlogProof(index, None, (), NOTE)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda end: HEADER.encode() + b"\nindex 1\n" + end))
def test_any_file_is_read_or_refused(encoded: bytes) -> None:
    with pytest.raises(MedtrailError):
        parse_proof(encoded)


@given(data=st.data())
def test_a_file_with_any_change_is_refused_or_proves_the_same_entry(data: st.DataObject, oracle: "Oracle") -> None:
    proof = _proof(oracle, index=3, size=9, extra=b"extra")
    whole = format_proof(proof)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 4, len(whole))))
    changed = whole[:start] + data.draw(st.binary(max_size=4)) + whole[end:]
    try:
        read = parse_proof(changed)
        verify_proof(read, entry=oracle.entries[3], origin=ORIGIN, verifiers=[LOG.verifier])
    except MedtrailError:
        return
    # The extra data alone are nobody's word.
    assert (read.index, read.proof, read.checkpoint_note) == (proof.index, proof.proof, proof.checkpoint_note)
    assert format_proof(read) == changed
