"""Envelopes: whoever changes a byte, the type or the key is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.envelope import Signature, SignedEvent, SigningKey, did_key, pae, public_key_of, sign, verify_signatures
from medtrail.errors import MalformedError, SignatureError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "envelope.json").read_text())
KEY = SigningKey.from_seed(bytes(range(32)))
TYPE = "application/vnd.medtrail.epcis.v1+protobuf"
SMALL_ORDER = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


def test_pre_authentication_encoding_equals_the_dsse_example() -> None:
    vector = VECTORS["pae"]

    assert pae(vector["type"], vector["payload"].encode()) == vector["encoded"].encode()


@pytest.mark.parametrize("vector", VECTORS["did_key"], ids=lambda vector: vector["did"][-6:])
def test_did_key_equals_the_method_specification(vector: dict[str, str]) -> None:
    public_key = bytes.fromhex(vector["public_key"])

    assert did_key(public_key) == vector["did"]
    assert public_key_of(vector["did"]) == public_key


def test_signature_equals_rfc_8032_arithmetic() -> None:
    vector = VECTORS["rfc8032"]
    key = SigningKey.from_seed(bytes.fromhex(vector["seed"]))

    assert key.public_key.hex() == vector["public_key"]
    assert key.sign(bytes.fromhex(vector["message"])).hex() == vector["signature"]


def test_verifies_what_was_signed_and_names_the_key() -> None:
    assert verify_signatures(sign(TYPE, b"payload", KEY)) == KEY.key_id


def test_key_shows_no_secret() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY) == f"SigningKey({KEY.key_id})"


def test_generated_keys_differ_and_come_back_from_their_seed() -> None:
    one, other = SigningKey.generate(), SigningKey.generate()

    assert one.key_id != other.key_id
    assert SigningKey.from_seed(one.seed).key_id == one.key_id


def test_refuses_seed_of_wrong_length() -> None:
    with pytest.raises(MalformedError) as caught:
        SigningKey.from_seed(bytes(31))
    assert caught.value.code == "KEY_MALFORMED"


@given(st.binary(max_size=64), st.data())
def test_refuses_payload_with_one_bit_flipped(payload: bytes, data: st.DataObject) -> None:
    signed = sign(TYPE, payload + b"x", KEY)
    changed = bytearray(signed.payload)
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SignatureError):
        verify_signatures(SignedEvent(signed.payload_type, bytes(changed), signed.signatures))


def test_refuses_every_flipped_bit_of_a_signature() -> None:
    signed = sign(TYPE, b"payload", KEY)
    good = signed.signatures[0]
    for bit in range(512):
        changed = bytearray(good.signature)
        changed[bit // 8] ^= 1 << bit % 8
        forged = Signature(good.scheme, good.key_id, bytes(changed))
        with pytest.raises(SignatureError):
            verify_signatures(SignedEvent(signed.payload_type, signed.payload, (forged,)))


def test_refuses_payload_under_another_type() -> None:
    signed = sign(TYPE, b"payload", KEY)

    with pytest.raises(SignatureError):
        verify_signatures(SignedEvent(TYPE.replace("epcis", "trust"), signed.payload, signed.signatures))


def test_refuses_signature_under_another_key() -> None:
    signed = sign(TYPE, b"payload", KEY)
    stolen = Signature("ed25519", SigningKey.generate().key_id, signed.signatures[0].signature)

    with pytest.raises(SignatureError):
        verify_signatures(SignedEvent(TYPE, signed.payload, (stolen,)))


@pytest.mark.parametrize(
    ("signatures", "code"),
    [
        ((), "SIGNATURE_COUNT"),
        ((Signature("ed25519", KEY.key_id, bytes(64)),) * 2, "SIGNATURE_COUNT"),
        ((Signature("rsa", KEY.key_id, bytes(64)),), "SIGNATURE_SCHEME_UNKNOWN"),
        ((Signature("ed25519", KEY.key_id, bytes(63)),), "SIGNATURE_MALFORMED"),
    ],
    ids=["none", "two", "unknown scheme", "short"],
)
def test_refuses_envelope_whose_signatures_have_the_wrong_form(signatures: tuple[Signature, ...], code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        verify_signatures(SignedEvent(TYPE, b"payload", signatures))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("key_id", "code"),
    [
        ("did:web:example.com", "KEY_MALFORMED"),
        (KEY.key_id[:-1], "KEY_MALFORMED"),
        (KEY.key_id[:-1] + "0", "KEY_MALFORMED"),
        ("did:key:z" + "z" * 47, "KEY_MALFORMED"),
        ("did:key:z" + "1" * 47, "KEY_MALFORMED"),
        (did_key(SMALL_ORDER), "KEY_WEAK"),
    ],
    ids=["other method", "short", "not base58", "too large", "leading zeros", "small order"],
)
def test_refuses_key_id_that_names_no_sound_key(key_id: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        public_key_of(key_id)
    assert caught.value.code == code
