"""How a signed note is written: a text, its signature lines, and the spellings in them. Nothing is verified here.

A note is UTF-8 text that ends in LF, an empty line, and one signature line or more::

    — <key name> <base64(key id[4] || signature)>

The last empty line separates. The dash is U+2014. Who signed: :mod:`medtrail.note`.

Source: C2SP signed-note v1.0.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medtrail.errors import MalformedError, TooLargeError

MAX_NOTE_BYTES = 1024 * 1024
"""Largest note that is read or written."""

MAX_SIGNATURE_LINES = 100
"""Most signature lines of a note that is read or written; the specification asks for at least 16."""

KEY_ID_BYTES = 4

_DASH = "\N{EM DASH} "
# All ASCII control characters but LF.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, unchecked.

    Attributes:
        name: The key's name.
        key_id: 4 bytes.
        signature: What follows the key id, in the form of the key's type: 64 bytes for Ed25519, uint64_be seconds
            since 1970 and 64 bytes for a cosignature.

    Raises:
        MalformedError: The name or the key id cannot stand in a line.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name, field="name")
        if len(self.key_id) != KEY_ID_BYTES or not self.signature:
            raise MalformedError(
                "expected a key id of 4 bytes and a signature", code="SIGNATURE_LINE_MALFORMED", field=self.name
            )

    @property
    def line(self) -> str:
        """The signature line, without LF."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.signature)}"


def format_note(text: str, signatures: Sequence[NoteSignature]) -> bytes:
    """Return the note of a text and its signatures, of whatever algorithm; nothing is verified.

    Args:
        text: Ends in LF and holds no empty line: other tools disagree on those.
        signatures: 1 to 100.

    Raises:
        MalformedError: The text or the number of signatures cannot be a note's.
        TooLargeError: The note would exceed 1 MiB.
    """
    if not text.endswith("\n") or text.startswith("\n") or "\n\n" in text:
        raise _note_malformed("expected a text of lines that are not empty, each ended by LF")
    if not 1 <= len(signatures) <= MAX_SIGNATURE_LINES:
        raise _note_malformed(f"expected 1 to {MAX_SIGNATURE_LINES} signatures, got {len(signatures)}")
    lines = "".join(f"{signature.line}\n" for signature in signatures)
    return encode_text(f"{text}\n{lines}")


def add_signatures(note: bytes, signatures: Iterable[NoteSignature]) -> bytes:
    """Return the note with further signature lines (cosignatures) after its own; repeated lines are left out.

    Raises:
        MalformedError: The note cannot be read, or would have more than 100 signatures.
        TooLargeError: The note would exceed 1 MiB.
    """
    text, present = split_note(note)
    return format_note(text, tuple(dict.fromkeys((*present, *signatures))))


def split_note(note: bytes) -> tuple[str, tuple[NoteSignature, ...]]:
    """Return a note's text and signature lines; nothing is verified.

    Raises:
        MalformedError: The bytes are no note.
        TooLargeError: They are more than 1 MiB.
    """
    if len(note) > MAX_NOTE_BYTES:
        raise TooLargeError(f"expected at most {MAX_NOTE_BYTES} bytes, got {len(note)}", field="note")
    try:
        decoded = note.decode()
    except UnicodeDecodeError as error:
        raise _note_malformed("expected UTF-8") from error
    if _CONTROL.search(decoded):
        raise _note_malformed("expected no control characters but LF")
    text, separator, rest = decoded.rpartition("\n\n")
    if not separator:
        raise _note_malformed("expected an empty line before the signatures")
    if not rest.endswith("\n"):
        raise _note_malformed("expected LF at the end")
    lines = rest[:-1].split("\n")
    if len(lines) > MAX_SIGNATURE_LINES:
        raise _note_malformed(f"expected at most {MAX_SIGNATURE_LINES} signatures, got {len(lines)}")
    return f"{text}\n", tuple(parse_signature_line(line) for line in lines)


def parse_signature_line(line: str) -> NoteSignature:
    """Return what a signature line (without LF) says; nothing is verified.

    Raises:
        MalformedError: The line is none.
    """
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise MalformedError("expected '\u2014 name base64'", code="SIGNATURE_LINE_MALFORMED", field="signature")
    made = decode_base64(encoded, field="signature")
    return NoteSignature(name, made[:KEY_ID_BYTES], made[KEY_ID_BYTES:])


def encode_text(text: str) -> bytes:
    """Return a note or its text as UTF-8.

    Raises:
        MalformedError: It holds control characters but LF, or what UTF-8 cannot encode.
        TooLargeError: More than 1 MiB.
    """
    if _CONTROL.search(text):
        raise _note_malformed("expected no control characters but LF")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise _note_malformed("expected text that UTF-8 can encode") from error
    if len(encoded) > MAX_NOTE_BYTES:
        raise TooLargeError(f"expected at most {MAX_NOTE_BYTES} bytes, got {len(encoded)}", field="note")
    return encoded


def check_key_name(name: str, *, field: str) -> None:
    """Check that a name can stand in a signature line.

    Raises:
        MalformedError: It is empty, or holds a space (of Unicode), ``+``, a control character or a lone surrogate.

    Source: C2SP signed-note v1.0, format.
    """
    wrong = (
        character.isspace() or character < " " or character == "+" or _is_surrogate(character) for character in name
    )
    if not name or any(wrong):
        raise MalformedError(
            f"expected a name without spaces, control characters and '+', got {name[:80]!r}",
            code="KEY_NAME_MALFORMED",
            field=field,
        )


def encode_base64(raw: bytes) -> str:
    """Return standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(raw).decode("ascii")


def decode_base64(text: str, *, field: str) -> bytes:
    """Return the bytes of canonical standard base64: padded, without other characters or stray bits.

    Raises:
        MalformedError: The text is not what `encode_base64` writes.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("expected standard base64", code="BASE64_MALFORMED", field=field) from error
    # Two spellings of one value would let a byte of a signed file change unseen.
    if encode_base64(raw) != text:
        raise MalformedError("expected canonical base64", code="BASE64_MALFORMED", field=field)
    return raw


def parse_decimal(text: str, *, field: str) -> int:
    """Return an ASCII decimal without sign and leading zeroes, below 2^63.

    Raises:
        MalformedError: The text is none.
    """
    number = int(text) if _DECIMAL.fullmatch(text) else -1
    if not 0 <= number < 2**63:
        raise MalformedError(
            f"expected a decimal below 2^63 without leading zeroes, got {text[:24]!r}",
            code="DECIMAL_MALFORMED",
            field=field,
        )
    return number


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def _note_malformed(reason: str) -> MalformedError:
    return MalformedError(reason, code="NOTE_MALFORMED", field="note")
