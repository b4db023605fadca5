"""Checkpoints: three lines, signed by the log itself, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint_text, sign_checkpoint
from medtrail.errors import MalformedError, MedtrailError, RootMismatchError, SignatureError, VerificationError
from medtrail.merkle import EMPTY_ROOT, MAX_TREE_SIZE
from medtrail.note import Cosigner, NoteSigner, sign_note
from medtrail.note_format import NoteSignature, add_signatures, encode_base64, format_note

ORIGIN = "ledger.example/eu1"
LOG = NoteSigner(ORIGIN, bytes(range(32)))
NEXT_KEY = NoteSigner(ORIGIN, bytes(range(1, 33)))
WITNESS = Cosigner("witness.example/w1", bytes(range(32, 64)))
ROOT = bytes(range(100, 132))
CHECKPOINT = Checkpoint(ORIGIN, 20852163, ROOT)
NOTE = sign_checkpoint(CHECKPOINT, LOG)


def test_checkpoint_that_was_signed_opens() -> None:
    signed = open_checkpoint(NOTE, origin=ORIGIN, verifiers=[LOG.verifier, WITNESS.verifier])

    assert signed.checkpoint == CHECKPOINT
    assert signed.note == NOTE
    assert [signature.verifier for signature in signed.signatures] == [LOG.verifier]
    assert signed.cosignatures == ()


def test_log_may_sign_with_two_keys_while_it_rotates() -> None:
    note = sign_checkpoint(CHECKPOINT, [LOG, NEXT_KEY])
    for known in (LOG, NEXT_KEY):
        signed = open_checkpoint(note, origin=ORIGIN, verifiers=[known.verifier])
        assert [signature.verifier for signature in signed.signatures] == [known.verifier]
        assert len(signed.unverified) == 1


def test_cosignatures_are_those_of_known_witnesses() -> None:
    stranger = Cosigner("witness.example/w2", bytes(32))
    note = add_signatures(
        NOTE, [WITNESS.cosign(CHECKPOINT.text, timestamp=9), stranger.cosign(CHECKPOINT.text, timestamp=10)]
    )
    signed = open_checkpoint(note, origin=ORIGIN, verifiers=[LOG.verifier, WITNESS.verifier])

    assert [(one.verifier, one.timestamp) for one in signed.cosignatures] == [(WITNESS.verifier, 9)]
    assert [line.name for line in signed.unverified] == ["witness.example/w2"]


@pytest.mark.parametrize("size", [0, 1, 255, 2**53 + 1, MAX_TREE_SIZE])
def test_text_says_origin_size_and_root(size: int) -> None:
    checkpoint = Checkpoint(ORIGIN, size, ROOT if size else EMPTY_ROOT)

    assert checkpoint.text == f"{ORIGIN}\n{size}\n{encode_base64(checkpoint.root_hash)}\n"
    assert parse_checkpoint_text(checkpoint.text) == checkpoint


def test_refuses_a_checkpoint_that_only_witnesses_signed() -> None:
    note = format_note(CHECKPOINT.text, [WITNESS.cosign(CHECKPOINT.text, timestamp=9)])

    with pytest.raises(VerificationError) as caught:
        open_checkpoint(note, origin=ORIGIN, verifiers=[LOG.verifier, WITNESS.verifier])
    assert caught.value.code == "LOG_SIGNATURE_MISSING"


def test_refuses_another_logs_checkpoint_signed_by_its_own_key() -> None:
    other = NoteSigner("other.example", bytes(32))
    note = sign_checkpoint(Checkpoint(other.name, 3, ROOT), other)

    with pytest.raises(VerificationError) as caught:
        open_checkpoint(note, origin=ORIGIN, verifiers=[LOG.verifier, other.verifier])
    assert caught.value.code == "ORIGIN_MISMATCH"


def test_refuses_our_origin_signed_by_another_known_log() -> None:
    other = NoteSigner("other.example", bytes(32))
    note = sign_note(CHECKPOINT.text, [other])

    with pytest.raises(VerificationError) as caught:
        open_checkpoint(note, origin=ORIGIN, verifiers=[LOG.verifier, other.verifier])
    assert caught.value.code == "LOG_SIGNATURE_MISSING"


def test_refuses_a_checkpoint_with_an_invalid_witness_line() -> None:
    forged = NoteSignature(WITNESS.name, WITNESS.verifier.key_id, bytes(72))

    with pytest.raises(SignatureError):
        open_checkpoint(add_signatures(NOTE, [forged]), origin=ORIGIN, verifiers=[LOG.verifier, WITNESS.verifier])


def test_refuses_to_sign_under_another_name_or_with_no_key() -> None:
    with pytest.raises(MalformedError):
        sign_checkpoint(CHECKPOINT, NoteSigner("other.example", bytes(32)))
    with pytest.raises(MalformedError):
        sign_checkpoint(CHECKPOINT, [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{ORIGIN}\n3\n",
        f"{ORIGIN}\n3\n{encode_base64(ROOT)}",
        f"{ORIGIN}\n3\n{encode_base64(ROOT)}\nextension\n",
        f"{ORIGIN}\n3\n{encode_base64(ROOT)}\n\n",
        f"\n3\n{encode_base64(ROOT)}\n",
        f"with space\n3\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n03\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n-3\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n+3\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n3.0\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n{2**63}\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n3\n{encode_base64(ROOT)} \n",
        f"{ORIGIN}\n3\n{encode_base64(ROOT).rstrip('=')}\n",
        f"{ORIGIN}\n3\n{ROOT.hex()}\n",
        f"{ORIGIN}\n3\n{encode_base64(ROOT[:31])}\n",
        f"{ORIGIN}\n3\n{encode_base64(ROOT + b'!')}\n",
    ],
    ids=range(19),
)
def test_refuses_text_that_is_not_three_canonical_lines(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint_text(text)


def test_refuses_a_signed_text_with_extension_lines() -> None:
    note = sign_note(CHECKPOINT.text + "extension\n", [LOG])

    with pytest.raises(MalformedError):
        open_checkpoint(note, origin=ORIGIN, verifiers=[LOG.verifier])


def test_refuses_an_empty_tree_with_the_root_of_another() -> None:
    with pytest.raises(RootMismatchError):
        Checkpoint(ORIGIN, 0, ROOT)


@pytest.mark.parametrize(
    ("origin", "size", "root_hash"),
    [("", 1, ROOT), ("a\nb", 1, ROOT), ("a+b", 1, ROOT), (ORIGIN, -1, ROOT), (ORIGIN, 2**63, ROOT), (ORIGIN, 1, b"")],
    ids=range(6),
)
def test_refuses_values_that_no_checkpoint_holds(origin: str, size: int, root_hash: bytes) -> None:
    with pytest.raises(MalformedError):
        Checkpoint(origin, size, root_hash)


@given(st.text(max_size=60) | st.from_regex(r"[a-z ]{1,3}\n[0-9]{1,20}\n[A-Za-z0-9+/]{43}=\n", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        checkpoint = parse_checkpoint_text(text)
    except MedtrailError:
        return
    assert checkpoint.text == text
