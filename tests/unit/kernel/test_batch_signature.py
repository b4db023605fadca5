"""Batch signatures: one signature over many payloads, each of which stands alone."""

import hashlib
import struct
from dataclasses import replace

import pytest

from medtrail.envelope import (
    ED25519,
    ED25519_BATCH,
    MAX_SIGNED_TOGETHER,
    Signature,
    SignedEvent,
    SigningKey,
    sign,
    sign_together,
    verify_signatures,
)
from medtrail.errors import MalformedError, SignatureError

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(range(1, 33)))
TYPE = "application/vnd.medtrail.epcis.v1+protobuf"


def payloads(count: int) -> list[tuple[str, bytes]]:
    return [(TYPE, b"payload %d" % number) for number in range(count)]


def with_signature(signed: SignedEvent, data: bytes) -> SignedEvent:
    return replace(signed, signatures=(replace(signed.signatures[0], signature=data),))


def test_bytes_are_those_of_the_documented_format() -> None:
    # By hand, after docs/adr/0013: three leaves, the third promoted.
    def sha(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    a, b, c = (sha(b"\x00DSSEv1 42 " + TYPE.encode() + b" 9 payload %d" % number) for number in range(3))
    ab = sha(b"\x01" + a + b)
    root = sha(b"\x01" + ab + c)
    message = b"DSSEv1 33 application/vnd.medtrail.batch.v1 34 " + struct.pack(">H", 3) + root
    head = KEY.sign(message)

    found = [signed.signatures[0].signature for signed in sign_together(payloads(3), KEY)]

    assert found == [
        head + bytes.fromhex("00000003") + b + c,
        head + bytes.fromhex("00010003") + a + c,
        head + bytes.fromhex("00020003") + ab,
    ]


@pytest.mark.parametrize("count", range(1, MAX_SIGNED_TOGETHER + 2))
def test_every_payload_of_every_batch_verifies_by_itself(count: int) -> None:
    wanted = payloads(count)

    signed = sign_together(wanted, KEY)

    assert [(item.payload_type, item.payload) for item in signed] == wanted
    assert {verify_signatures(item) for item in signed} == {KEY.key_id}


def test_one_payload_gets_a_plain_signature_and_none_gets_none() -> None:
    assert sign_together(payloads(1), KEY) == [sign(*payloads(1)[0], KEY)]
    assert sign_together([], KEY) == []


def test_a_batch_too_large_for_one_tree_takes_several() -> None:
    signed = sign_together(payloads(MAX_SIGNED_TOGETHER + 1), KEY)

    assert [item.signatures[0].scheme for item in signed] == [ED25519_BATCH] * MAX_SIGNED_TOGETHER + [ED25519]


def test_refuses_every_flipped_bit_of_a_batch_signature() -> None:
    signed = sign_together(payloads(5), KEY)[4]
    data = signed.signatures[0].signature

    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises((SignatureError, MalformedError)):
            verify_signatures(with_signature(signed, bytes(flipped)))


def test_refuses_a_payload_that_was_not_in_the_batch_after_one_that_was() -> None:
    one, other = sign_together(payloads(2), KEY)
    verify_signatures(one)

    for forged in (
        replace(one, payload=b"forged"),
        replace(one, payload_type="application/vnd.medtrail.recall.v1+protobuf"),
        replace(one, payload=other.payload),
        with_signature(one, other.signatures[0].signature),
    ):
        with pytest.raises(SignatureError):
            verify_signatures(forged)


def test_refuses_a_batch_under_another_key() -> None:
    signed = sign_together(payloads(2), KEY)[0]
    verify_signatures(signed)

    with pytest.raises(SignatureError):
        verify_signatures(replace(signed, signatures=(replace(signed.signatures[0], key_id=OTHER.key_id),)))


@pytest.mark.parametrize(("one", "other"), [(ED25519, ED25519_BATCH), (ED25519_BATCH, ED25519)])
def test_refuses_a_signature_of_one_scheme_as_one_of_the_other(one: str, other: str) -> None:
    signed = sign_together(payloads(1 if one == ED25519 else 2), KEY)[0]
    renamed = replace(signed, signatures=(replace(signed.signatures[0], scheme=other),))

    with pytest.raises(MalformedError) as caught:
        verify_signatures(renamed)
    assert caught.value.code == "SIGNATURE_MALFORMED"


def test_a_signed_root_is_no_signature_of_a_payload() -> None:
    signed = sign_together(payloads(2), KEY)[0]
    head = signed.signatures[0].signature[:64]

    with pytest.raises(SignatureError):
        verify_signatures(replace(signed, signatures=(Signature(ED25519, KEY.key_id, head),)))


@pytest.mark.parametrize(
    ("place", "error", "code"),
    [
        pytest.param("00000001", MalformedError, "SIGNATURE_MALFORMED", id="a-batch-of-one"),
        pytest.param("00000041", MalformedError, "SIGNATURE_MALFORMED", id="a-batch-too-large"),
        pytest.param("00000000", MalformedError, "SIGNATURE_MALFORMED", id="an-empty-batch"),
        pytest.param("00020002", SignatureError, "SIGNATURE_INVALID", id="a-place-behind-the-batch"),
        pytest.param("00000003", SignatureError, "SIGNATURE_INVALID", id="a-proof-too-short"),
    ],
)
def test_refuses_an_impossible_place(place: str, error: type[Exception], code: str) -> None:
    signed = sign_together(payloads(2), KEY)[0]
    data = signed.signatures[0].signature

    with pytest.raises(error) as caught:
        verify_signatures(with_signature(signed, data[:64] + bytes.fromhex(place) + data[68:]))
    assert caught.value.code == code  # type: ignore[attr-defined]  # ours has one


@pytest.mark.parametrize("length", [0, 63, 64, 67, 69, 99, 101])
def test_refuses_a_batch_signature_of_a_length_that_no_place_has(length: int) -> None:
    signed = sign_together(payloads(2), KEY)[0]

    with pytest.raises((MalformedError, SignatureError)):
        verify_signatures(with_signature(signed, (signed.signatures[0].signature + bytes(64))[:length]))
