"""The worked example of the log's formats, byte for byte."""

import json
from pathlib import Path

import pytest

from medtrail.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from medtrail.merkle import (
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from medtrail.note import Cosigner, NoteSigner, format_vkey, parse_vkey
from medtrail.note_format import add_signatures, encode_base64
from medtrail.tiles import EntryBundle, Tile, TileEdge, TileHashReader, append_tiles, encode_entry_bundle
from medtrail.tlog_proof import TlogProof, format_proof, parse_proof, verify_proof

EXAMPLE = json.loads((Path(__file__).parents[2] / "vectors" / "log_worked_example.json").read_text())
SIGNER = NoteSigner(EXAMPLE["origin"], bytes.fromhex(EXAMPLE["seed"]))
WITNESS = Cosigner(EXAMPLE["witness_name"], bytes.fromhex(EXAMPLE["witness_seed"]))
ENTRIES = [entry.encode() for entry in EXAMPLE["entries"]]
LEAF_HASHES = [hash_leaf(entry) for entry in ENTRIES]
ROOT = root_of(LEAF_HASHES)
SIGNED = f"{EXAMPLE['text']}\n{EXAMPLE['signature_line']}\n".encode()
COSIGNED = SIGNED + f"{EXAMPLE['cosignature_line']}\n".encode()


@pytest.fixture
def reader() -> TileHashReader:
    _, written = append_tiles(TileEdge(), LEAF_HASHES)
    ((tile, contents),) = written
    assert tile == Tile(0, 0, 3)
    return TileHashReader({tile: contents}.__getitem__, tree_size=3, root_hash=ROOT)


def test_verifier_keys() -> None:
    assert format_vkey(SIGNER.verifier) == EXAMPLE["vkey"]
    assert format_vkey(WITNESS.verifier) == EXAMPLE["witness_vkey"]
    assert parse_vkey(EXAMPLE["vkey"]) == SIGNER.verifier
    assert parse_vkey(EXAMPLE["witness_vkey"]) == WITNESS.verifier


def test_entry_bundle() -> None:
    assert EntryBundle(0, 3).path == EXAMPLE["bundle_path"]
    assert encode_entry_bundle(ENTRIES).hex() == EXAMPLE["bundle"]


def test_checkpoint_with_signature_and_cosignature() -> None:
    checkpoint = Checkpoint(EXAMPLE["origin"], 3, ROOT)
    cosignature = WITNESS.cosign(checkpoint.text, timestamp=EXAMPLE["witness_time"])

    assert checkpoint.text == EXAMPLE["text"]
    assert sign_checkpoint(checkpoint, SIGNER) == SIGNED
    assert cosignature.line == EXAMPLE["cosignature_line"]
    assert add_signatures(SIGNED, [cosignature]) == COSIGNED


def test_checkpoint_opens_with_both_keys() -> None:
    verifiers = [parse_vkey(EXAMPLE["vkey"]), parse_vkey(EXAMPLE["witness_vkey"])]
    signed = open_checkpoint(COSIGNED, origin=EXAMPLE["origin"], verifiers=verifiers)

    assert signed.checkpoint == Checkpoint(EXAMPLE["origin"], 3, ROOT)
    assert signed.note == COSIGNED
    assert [signature.timestamp for signature in signed.cosignatures] == [EXAMPLE["witness_time"]]


def test_inclusion_of_index_1(reader: TileHashReader) -> None:
    proof = inclusion_proof(reader, leaf_index=1, tree_size=3)

    assert [encode_base64(sibling) for sibling in proof] == EXAMPLE["inclusion_of_1"]
    verify_inclusion(proof, leaf_hash=LEAF_HASHES[1], leaf_index=1, tree_size=3, root_hash=ROOT)


def test_consistency_of_2_with_3(reader: TileHashReader) -> None:
    proof = consistency_proof(reader, size1=2, size2=3)

    assert [encode_base64(part) for part in proof] == EXAMPLE["consistency_2_to_3"]
    verify_consistency(proof, size1=2, size2=3, root1=root_of(LEAF_HASHES[:2]), root2=ROOT)


def test_offline_proof_of_index_1(reader: TileHashReader) -> None:
    proof = TlogProof(1, None, inclusion_proof(reader, leaf_index=1, tree_size=3), COSIGNED)
    encoded = format_proof(proof)

    assert (
        encoded
        == "\n".join(["c2sp.org/tlog-proof@v1", "index 1", *EXAMPLE["inclusion_of_1"], "", COSIGNED.decode()]).encode()
    )
    signed = verify_proof(
        parse_proof(encoded), entry=b"beta", origin=EXAMPLE["origin"], verifiers=[parse_vkey(EXAMPLE["vkey"])]
    )
    assert signed.checkpoint.root_hash == ROOT
