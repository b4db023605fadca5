"""Signed notes: a line of a known key must verify, others are ignored, and there is one spelling of each."""

import base64
import json
import struct
from pathlib import Path

import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail.errors import MalformedError, MedtrailError, SignatureError, TooLargeError, VerificationError
from medtrail.note import (
    MAX_TIMESTAMP,
    Cosigner,
    KeyType,
    NoteSigner,
    NoteVerifier,
    format_vkey,
    key_id,
    open_note,
    parse_vkey,
    sign_note,
)
from medtrail.note_format import (
    MAX_NOTE_BYTES,
    NoteSignature,
    add_signatures,
    decode_base64,
    encode_base64,
    format_note,
    parse_decimal,
    parse_signature_line,
    split_note,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "note.json").read_text())
LOG = NoteSigner("ledger.example/eu1", bytes(range(32)))
OTHER = NoteSigner("other.example", bytes(range(1, 33)))
WITNESS = Cosigner("witness.example/w1", bytes(range(32, 64)))
TEXT = "one line\nand another\n"
NOTE = sign_note(TEXT, [LOG])
SMALL_ORDER = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


def _note(*lines: str, text: str = TEXT) -> bytes:
    return "\n".join([text, *lines, ""]).encode()


def test_note_of_go_opens_and_is_signed_alike() -> None:
    verifier = parse_vkey(VECTORS["vkey"])
    note = _note(VECTORS["signature_line"], text=VECTORS["text"])
    signer = NoteSigner(verifier.name, decode_base64(VECTORS["type_and_seed"], field="seed")[1:])

    opened = open_note(note, [verifier])
    assert opened.text == VECTORS["text"]
    assert [signature.verifier for signature in opened.verified] == [verifier]
    assert signer.verifier == verifier
    assert sign_note(VECTORS["text"], [signer]) == note


@pytest.mark.parametrize("vkey", VECTORS["further_vkeys"])
def test_verifier_keys_of_others_are_read_and_written_alike(vkey: str) -> None:
    assert format_vkey(parse_vkey(vkey)) == vkey


def test_seeds_do_not_show_in_repr() -> None:
    shown = repr(LOG) + repr(WITNESS) + str(LOG) + str(WITNESS)

    assert "seed" not in shown
    assert LOG.seed.hex() not in shown
    assert repr(LOG.seed) not in shown


def test_lines_of_unknown_keys_and_algorithms_are_ignored() -> None:
    ml_dsa_44 = NoteSignature(LOG.name, key_id(LOG.name, 0x06, bytes(1312)), bytes(8 + 2420))
    note = format_note(TEXT, [ml_dsa_44, OTHER.sign(TEXT), LOG.sign(TEXT)])
    opened = open_note(note, [LOG.verifier])

    assert [signature.verifier for signature in opened.verified] == [LOG.verifier]
    assert opened.unverified == (ml_dsa_44, OTHER.sign(TEXT))


def test_same_name_with_another_key_is_unknown() -> None:
    imposter = NoteSigner(LOG.name, OTHER.seed)

    assert open_note(sign_note(TEXT, [imposter, LOG]), [LOG.verifier]).unverified == (imposter.sign(TEXT),)
    with pytest.raises(VerificationError):
        open_note(sign_note(TEXT, [imposter]), [LOG.verifier])


def test_same_id_with_another_name_is_unknown() -> None:
    renamed = NoteSignature("renamed.example", LOG.verifier.key_id, LOG.sign(TEXT).signature)

    assert open_note(format_note(TEXT, [renamed, LOG.sign(TEXT)]), [LOG.verifier]).unverified == (renamed,)


def test_refuses_a_note_that_no_known_key_signed() -> None:
    for verifiers in ([], [OTHER.verifier]):
        with pytest.raises(VerificationError) as caught:
            open_note(NOTE, verifiers)
        assert caught.value.code == "SIGNATURE_MISSING"


def test_refuses_a_note_with_one_bad_signature_of_a_known_key_among_good_ones() -> None:
    forged = NoteSignature(OTHER.name, OTHER.verifier.key_id, LOG.sign(TEXT).signature)
    for lines in ([LOG.sign(TEXT), forged], [forged, LOG.sign(TEXT)], [OTHER.sign(TEXT), forged]):
        with pytest.raises(SignatureError):
            open_note(format_note(TEXT, lines), [LOG.verifier, OTHER.verifier])


def test_second_signature_of_a_key_is_checked_and_counts_for_nothing() -> None:
    cosignatures = [WITNESS.cosign(TEXT, timestamp=timestamp) for timestamp in (5, 7)]
    opened = open_note(format_note(TEXT, cosignatures), [WITNESS.verifier])

    assert [signature.timestamp for signature in opened.verified] == [5]


@pytest.mark.parametrize("bit", range(0, 8 * len(TEXT), 7))
def test_refuses_text_with_one_bit_flipped(bit: int) -> None:
    flipped = bytearray(NOTE)
    flipped[bit // 8] ^= 1 << bit % 8

    with pytest.raises((MalformedError, SignatureError)):
        open_note(bytes(flipped), [LOG.verifier])


def test_refuses_a_signature_with_any_bit_flipped() -> None:
    signature = LOG.sign(TEXT)
    for bit in range(8 * len(signature.signature)):
        flipped = bytearray(signature.signature)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            LOG.verifier.verify(TEXT, NoteSignature(LOG.name, signature.key_id, bytes(flipped)))


@pytest.mark.parametrize("made", [b"\0", bytes(63), bytes(65), bytes(72)], ids=len)
def test_refuses_signatures_of_another_length(made: bytes) -> None:
    for verifier in (LOG.verifier, WITNESS.verifier):
        with pytest.raises(SignatureError):
            verifier.verify(TEXT, NoteSignature(verifier.name, verifier.key_id, made))


def test_verifier_refuses_a_line_that_names_another_key() -> None:
    with pytest.raises(SignatureError):
        LOG.verifier.verify(TEXT, OTHER.sign(TEXT))


def test_refuses_signatures_by_a_key_of_small_order() -> None:
    verifier = NoteVerifier("weak.example", KeyType.ED25519, SMALL_ORDER)
    # With such a key, R = key and S = 0 would sign anything for a verifier that does not look.
    forged = NoteSignature(verifier.name, verifier.key_id, SMALL_ORDER + bytes(32))

    with pytest.raises(SignatureError):
        verifier.verify(TEXT, forged)


@pytest.mark.parametrize("timestamp", [0, 1_700_000_000, MAX_TIMESTAMP])
def test_cosignature_says_when(timestamp: int) -> None:
    cosignature = WITNESS.cosign(TEXT, timestamp=timestamp)
    (verified,) = open_note(format_note(TEXT, [cosignature]), [WITNESS.verifier]).verified

    assert verified.timestamp == timestamp
    assert LOG.verifier.verify(TEXT, LOG.sign(TEXT)).timestamp is None


def test_refuses_a_cosignature_whose_time_was_changed() -> None:
    cosignature = WITNESS.cosign(TEXT, timestamp=1_700_000_000)
    for timestamp in (1_700_000_001, MAX_TIMESTAMP + 1, 2**64 - 1):
        later = struct.pack(">Q", timestamp) + cosignature.signature[8:]
        with pytest.raises(SignatureError):
            WITNESS.verifier.verify(TEXT, NoteSignature(WITNESS.name, cosignature.key_id, later))


def test_refuses_a_cosignature_truly_made_for_a_time_out_of_range() -> None:
    timestamp = MAX_TIMESTAMP + 1
    message = f"cosignature/v1\ntime {timestamp}\n{TEXT}".encode()
    made = struct.pack(">Q", timestamp) + nacl.signing.SigningKey(WITNESS.seed).sign(message).signature

    with pytest.raises(SignatureError):
        WITNESS.verifier.verify(TEXT, NoteSignature(WITNESS.name, WITNESS.verifier.key_id, made))


@pytest.mark.parametrize("timestamp", [-1, MAX_TIMESTAMP + 1])
def test_refuses_to_cosign_at_a_time_that_cannot_be_written(timestamp: int) -> None:
    with pytest.raises(MalformedError):
        WITNESS.cosign(TEXT, timestamp=timestamp)


def test_refuses_a_plain_signature_of_a_witness_key_as_cosignature() -> None:
    plain = NoteSigner(WITNESS.name, WITNESS.seed).sign(TEXT)
    moved = NoteSignature(WITNESS.name, WITNESS.verifier.key_id, bytes(8) + plain.signature)

    assert plain.key_id != moved.key_id
    with pytest.raises(SignatureError):
        WITNESS.verifier.verify(TEXT, moved)


def test_refuses_verifiers_of_one_witness_key_under_two_names() -> None:
    twin = Cosigner("witness.example/w2", WITNESS.seed)

    with pytest.raises(MalformedError) as caught:
        open_note(NOTE, [LOG.verifier, WITNESS.verifier, twin.verifier])
    assert caught.value.code == "VERIFIER_AMBIGUOUS"


def test_refuses_two_verifiers_of_one_name_and_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtrail.note.key_id", lambda *_: b"same")

    with pytest.raises(MalformedError) as caught:
        open_note(NOTE, [LOG.verifier, NoteSigner(LOG.name, OTHER.seed).verifier])
    assert caught.value.code == "VERIFIER_AMBIGUOUS"


def test_a_verifier_given_twice_is_one() -> None:
    cosigned = add_signatures(NOTE, [WITNESS.cosign(TEXT, timestamp=1)])
    opened = open_note(cosigned, [LOG.verifier, LOG.verifier, WITNESS.verifier, WITNESS.verifier])

    assert len(opened.verified) == 2


def test_added_signatures_follow_and_repeated_ones_are_left_out() -> None:
    cosignature = WITNESS.cosign(TEXT, timestamp=1)
    cosigned = add_signatures(NOTE, [cosignature, cosignature])

    assert cosigned == NOTE + f"{cosignature.line}\n".encode()
    assert add_signatures(cosigned, [LOG.sign(TEXT), cosignature]) == cosigned


def test_last_empty_line_separates() -> None:
    text = "first\n\n— name AAAAAAA=\n"
    note = f"{text}\n{LOG.sign(text).line}\n".encode()

    assert open_note(note, [LOG.verifier]).text == text


@pytest.mark.parametrize(
    "text",
    ["", "no end", "\n", "\nfirst\n", "an\n\nempty line\n", "end\n\n", "tab\t\n", "cr\r\n", "nul\0\n", "\ud800\n"],
)
def test_refuses_to_sign_text_that_others_would_read_otherwise(text: str) -> None:
    with pytest.raises(MalformedError):
        sign_note(text, [LOG])


def test_refuses_to_sign_more_than_a_note_may_hold() -> None:
    with pytest.raises(TooLargeError):
        sign_note("x" * MAX_NOTE_BYTES + "\n", [LOG])
    with pytest.raises(TooLargeError):
        sign_note("x" * (MAX_NOTE_BYTES - 10) + "\n", [LOG])
    with pytest.raises(MalformedError):
        sign_note(TEXT, [])
    with pytest.raises(MalformedError):
        sign_note(TEXT, [LOG] * 101)


def test_opens_100_signatures_and_refuses_more() -> None:
    strangers = [NoteSignature(f"n{number}", b"abcd", b"e").line for number in range(100)]

    assert len(open_note(_note(*strangers[1:], LOG.sign(TEXT).line), [LOG.verifier]).unverified) == 99
    with pytest.raises(MalformedError):
        open_note(_note(*strangers, LOG.sign(TEXT).line), [LOG.verifier])


def test_refuses_notes_over_the_limit_before_reading_them() -> None:
    with pytest.raises(TooLargeError):
        split_note(b"\xff" * (MAX_NOTE_BYTES + 1))


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        TEXT.encode(),
        TEXT.encode() + b"\n",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE + b"unsigned trailer\n",
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.replace(b"one", b"o\x00e"),
        NOTE.replace(b"one", b"o\x1fe"),
        NOTE.replace(b"one", b"o\xffe"),
        NOTE.replace(b"one", b"o\xed\xa0\x80e"),
        NOTE.replace("— ".encode(), b"- "),
        NOTE.replace("— ".encode(), "—".encode()),
        NOTE.replace("— ".encode(), "—  ".encode()),
        NOTE.replace(b"=\n", b"\n"),
        NOTE.replace(b"=\n", b"==\n"),
        NOTE.replace(b"=\n", b"= \n"),
        NOTE.replace(b"/eu1 ", b"/eu+ "),
        NOTE.replace(b"/eu1 ", "/eu\u00a0 ".encode()),
        _note(f"— {LOG.name} "),
        _note(f"— {LOG.name}"),
        _note(f"— {LOG.name} {encode_base64(LOG.verifier.key_id)}"),
        _note(f"— {LOG.name} {encode_base64(b'abc')}"),
    ],
    ids=range(25),
)
def test_refuses_bytes_that_are_no_note(note: bytes) -> None:
    with pytest.raises(MalformedError):
        open_note(note, [LOG.verifier])


def test_refuses_a_signature_spelled_with_stray_bits() -> None:
    line = LOG.sign(TEXT).line
    assert line.endswith("=")
    last = line[-2]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = f"{line[:-2]}{alphabet[alphabet.index(last) ^ 1]}="
    assert base64.b64decode(stray.rsplit(maxsplit=1)[-1]) == base64.b64decode(line.split()[-1])

    with pytest.raises(MalformedError):
        open_note(_note(stray), [LOG.verifier])


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\nb", "a\tb", "a\x00b", "a\u2003b", "a\u00a0", "a\u2028b", "\udc80", "\x85"], ids=ascii
)
def test_refuses_names_that_no_line_can_hold(name: str) -> None:
    for make in (NoteSigner, Cosigner):
        with pytest.raises(MalformedError):
            make(name, bytes(32))
    with pytest.raises(MalformedError):
        NoteVerifier(name, KeyType.ED25519, bytes(32))
    with pytest.raises(MalformedError):
        NoteSignature(name, b"abcd", b"e")


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_refuses_keys_of_another_length(length: int) -> None:
    for make in (NoteSigner, Cosigner):
        with pytest.raises(MalformedError):
            make("name", bytes(length))
    with pytest.raises(MalformedError):
        NoteVerifier("name", KeyType.ED25519, bytes(length))


@pytest.mark.parametrize(
    ("vkey", "code"),
    [
        ("", "VKEY_MALFORMED"),
        ("name+00000000", "VKEY_MALFORMED"),
        ("name+00000000+", "VKEY_MALFORMED"),
        (VECTORS["vkey"].replace("c74f20a3", "c74f20a4"), "VKEY_MALFORMED"),
        (VECTORS["vkey"].replace("c74f20a3", "C74F20A3"), "VKEY_MALFORMED"),
        (VECTORS["vkey"].replace("Peter", "Paul"), "VKEY_MALFORMED"),
        (VECTORS["vkey"] + "\n", "BASE64_MALFORMED"),
        (VECTORS["vkey"][:-1], "BASE64_MALFORMED"),
        ("name+00000000+AQ==", "KEY_MALFORMED"),
        ("name+00000000+Bg==", "KEY_TYPE_UNSUPPORTED"),
        ("+00000000+" + VECTORS["vkey"].split("+", 2)[2], "KEY_NAME_MALFORMED"),
        ("\ud800+00000000+" + VECTORS["vkey"].split("+", 2)[2], "KEY_NAME_MALFORMED"),
    ],
    ids=range(12),
)
def test_refuses_malformed_verifier_keys(vkey: str, code: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_vkey(vkey)
    assert caught.value.code == code


@pytest.mark.parametrize("text", ["0", "1", "10", str(2**63 - 1)])
def test_decimals_are_read(text: str) -> None:
    assert str(parse_decimal(text, field="size")) == text


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "00", "01", " 1", "1\n", "1_0", "0x1", "1e3", "\u0661", str(2**63), "9" * 10_000],
    ids=range(13),
)
def test_refuses_numbers_that_are_not_canonical(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_decimal(text, field="size")
    assert caught.value.field == "size"


@given(st.binary(max_size=300) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
def test_any_note_is_opened_or_refused(note: bytes) -> None:
    with pytest.raises(MedtrailError):
        open_note(note, [LOG.verifier])


@given(st.data())
def test_a_note_with_any_change_is_refused_or_says_the_same(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(NOTE)))
    end = data.draw(st.integers(start, min(start + 4, len(NOTE))))
    changed = NOTE[:start] + data.draw(st.binary(max_size=4)) + NOTE[end:]
    try:
        opened = open_note(changed, [LOG.verifier])
    except MedtrailError:
        return
    assert opened.text == TEXT
    assert changed == NOTE


@given(st.text(max_size=80) | st.from_regex(r"[a-z ]{1,4}\+[0-9a-f]{8}\+[AB][A-Za-z0-9+/]{43}"))
def test_any_verifier_key_is_read_or_refused(text: str) -> None:
    try:
        verifier = parse_vkey(text)
    except MedtrailError:
        return
    assert format_vkey(verifier) == text


@given(st.text(max_size=80) | st.from_regex(r"— [a-z ]{1,4} [A-Za-z0-9+/]{4,12}={0,2}", fullmatch=True))
def test_any_signature_line_is_read_or_refused(line: str) -> None:
    try:
        signature = parse_signature_line(line)
    except MedtrailError:
        return
    assert signature.line == line


@given(st.text(max_size=20))
def test_any_text_is_signed_or_refused(text: str) -> None:
    try:
        note = sign_note(text, [LOG])
    except MedtrailError:
        return
    assert open_note(note, [LOG.verifier]).text == text
