"""`medtrail verify`: what one file proves offline, and every forgery that it refuses."""

import hashlib
import json
import typing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from medtrail import codec
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.cli.output import ExitCode
from medtrail.envelope import SignedEvent, SigningKey, sign
from medtrail.event import MAX_SIGNED_EVENT_BYTES, Event, Header, PackLevel, Product
from medtrail.gs1 import Gln, Gtin
from medtrail.item_map import identifiers, key_list_sha256, log_entry, map_key
from medtrail.merkle import CompactRange, hash_leaf, inclusion_proof, root_of
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.note_format import add_signatures
from medtrail.tlog_proof import MAX_PROOF_BYTES, TlogProof, format_proof

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.command import Run
    from tests.unit.cli.conftest import Medtrail

ORIGIN = "log.example/test"
LOG = NoteSigner(ORIGIN, bytes(range(32)))
MAKER = SigningKey.from_seed(bytes([7]) * 32)
VKEY = format_vkey(LOG.verifier)
MAP_SALT = bytes([9]) * 32


@dataclass(frozen=True)
class Logged:
    """A signed event, the commitment to its keys, and the log's entry."""

    signed: bytes
    key_list: bytes
    entry: bytes


def _logged(number: int, *, name: str = "Epcistra", signed: SignedEvent | None = None) -> Logged:
    header = Header(bytes([number]) * 32, Gln("0300011111116"), "line-1", number + 1, f"urn:uuid:event-{number}")
    event = Event(header, Product(Gtin("00300010123455"), PackLevel.PACK, name))
    envelope = signed or sign(event.payload_type, codec.encode_payload(event), MAKER)
    encoded = codec.encode_signed_event(envelope)
    key_list = key_list_sha256(header.salt, [map_key(MAP_SALT, identifier) for identifier in identifiers(event)])
    return Logged(encoded, key_list, log_entry(hashlib.sha256(encoded).digest(), key_list))


class Log:
    """A small log, and the files that prove its entries."""

    def __init__(self, folder: Path, entries: "Sequence[Logged]", *, signer: NoteSigner = LOG) -> None:
        self.folder = folder
        self.entries = entries
        self.leaves = [hash_leaf(item.entry) for item in entries]
        tree = CompactRange().extend(self.leaves)
        self.checkpoint = Checkpoint(signer.name, len(entries), tree.root())
        self.note = sign_checkpoint(self.checkpoint, signer)

    def _read(self, nodes: "Sequence[tuple[int, int]]") -> list[bytes]:
        return [root_of(self.leaves[index << level : (index + 1) << level]) for level, index in nodes]

    def proof(self, index: int) -> TlogProof:
        hashes = inclusion_proof(self._read, leaf_index=index, tree_size=len(self.leaves))
        return TlogProof(index, self.entries[index].key_list, hashes, self.note)

    def write(self, index: int, *, proof: TlogProof | bytes | None = None, event: bytes | None = None) -> None:
        found = self.proof(index) if proof is None else proof
        (self.folder / "p").write_bytes(found if isinstance(found, bytes) else format_proof(found))
        (self.folder / "e").write_bytes(self.entries[index].signed if event is None else event)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path, [_logged(number) for number in range(5)])


def _verify(medtrail: "Medtrail", *, key: object = VKEY) -> "Run":
    return medtrail("verify", "p", "--event", "e", "--key", key, "--json")


def test_proves_every_entry_of_a_log(medtrail: "Medtrail", log: Log) -> None:
    for index, logged in enumerate(log.entries):
        log.write(index)
        run = _verify(medtrail)
        assert (run.code, run.errors) == (ExitCode.TRUE, "")
        assert run.document == {
            "verified": True,
            "origin": ORIGIN,
            "leaf_index": index,
            "tree_size": 5,
            "witnesses": [],
            "root_hash": log.checkpoint.root_hash.hex(),
            "signed_event_sha256": hashlib.sha256(logged.signed).hexdigest(),
            "key_id": MAKER.key_id,
            "actor": "0300011111116",
            "event_id": f"urn:uuid:event-{index}",
            "summary": "product 00300010123455 Epcistra (pack)",
        }


def test_key_may_stand_in_a_file(medtrail: "Medtrail", log: Log, tmp_path: Path) -> None:
    log.write(0)
    (tmp_path / "key").write_text(f"{VKEY}\n", encoding="utf-8")
    assert _verify(medtrail, key=tmp_path / "key").code == ExitCode.TRUE


def test_tells_people_what_is_proven_and_what_is_not(medtrail: "Medtrail", log: Log) -> None:
    log.write(3)
    run = medtrail("verify", "p", "--event", "e", "--key", VKEY)
    assert run.code == ExitCode.TRUE
    assert run.out.splitlines() == [
        "proven product 00300010123455 Epcistra (pack)",
        f"  entry 3 of 5 in {ORIGIN}, signed by {MAKER.key_id}",
        "  said by GLN 0300011111116, event urn:uuid:event-3",
        "  whether that key spoke for that GLN is proven by its enrolment entry",
    ]


def test_signed_text_is_never_read_as_markup(medtrail: "Medtrail", tmp_path: Path) -> None:
    log = Log(tmp_path, [_logged(0, name="[bold red]not proven[/] [/]")])
    log.write(0)
    run = medtrail("verify", "p", "--event", "e", "--key", VKEY)
    assert run.code == ExitCode.TRUE
    assert "proven product 00300010123455 [bold red]not proven[/] [/] (pack)" in run.out


def test_refuses_an_event_with_any_byte_changed(medtrail: "Medtrail", log: Log) -> None:
    signed = log.entries[2].signed
    for position in (0, len(signed) // 2, len(signed) - 1):
        log.write(2, event=signed[:position] + bytes([signed[position] ^ 1]) + signed[position + 1 :])
        run = _verify(medtrail)
        assert (run.code, run.out, run.error["code"]) == (ExitCode.REFUSED, "", "ROOT_MISMATCH")


@pytest.mark.parametrize("event", [b"", b"not an event"])
def test_refuses_what_is_no_event(medtrail: "Medtrail", log: Log, event: bytes) -> None:
    log.write(2, event=event)
    assert _verify(medtrail).code == ExitCode.REFUSED


def test_refuses_another_entry_of_the_same_log(medtrail: "Medtrail", log: Log) -> None:
    log.write(2, event=log.entries[3].signed)
    run = _verify(medtrail)
    assert (run.code, run.error["code"]) == (ExitCode.REFUSED, "ROOT_MISMATCH")


def test_refuses_another_index(medtrail: "Medtrail", log: Log) -> None:
    log.write(2, proof=replace(log.proof(2), index=3))
    assert _verify(medtrail).code == ExitCode.REFUSED


def test_refuses_a_changed_key_list(medtrail: "Medtrail", log: Log) -> None:
    log.write(2, proof=replace(log.proof(2), extra=bytes(32)))
    run = _verify(medtrail)
    assert (run.code, run.error["code"]) == (ExitCode.REFUSED, "ROOT_MISMATCH")


def test_refuses_a_proof_without_the_key_list(medtrail: "Medtrail", log: Log) -> None:
    log.write(2, proof=replace(log.proof(2), extra=None))
    run = _verify(medtrail)
    assert (run.code, run.error["code"]) == (ExitCode.REFUSED, "PROOF_EXTRA_MISSING")
    log.write(2, proof=replace(log.proof(2), extra=bytes(31)))
    assert _verify(medtrail).code == ExitCode.REFUSED


def test_refuses_the_log_of_another_key(medtrail: "Medtrail", log: Log) -> None:
    log.write(2)
    same_name = format_vkey(NoteSigner(ORIGIN, bytes([1]) * 32).verifier)
    other_name = format_vkey(NoteSigner("other.example", bytes(range(32))).verifier)
    for key in (same_name, other_name):
        run = _verify(medtrail, key=key)
        assert (run.code, run.error["code"]) == (ExitCode.REFUSED, "SIGNATURE_MISSING")


def test_refuses_the_word_of_a_witness_alone(medtrail: "Medtrail", log: Log) -> None:
    log.write(2)
    witness = format_vkey(Cosigner(ORIGIN, bytes(range(32))).verifier)
    assert _verify(medtrail, key=witness).code == ExitCode.REFUSED


def test_refuses_a_tree_that_the_log_did_not_sign(medtrail: "Medtrail", log: Log, tmp_path: Path) -> None:
    forged = Log(tmp_path, [*log.entries[:4], _logged(9)], signer=NoteSigner(ORIGIN, bytes([1]) * 32))
    forged.write(4)
    run = _verify(medtrail)
    assert (run.code, run.error["code"]) == (ExitCode.REFUSED, "SIGNATURE_MISSING")


@pytest.mark.parametrize("damage", ["signature", "payload"])
def test_refuses_an_entry_whose_signature_does_not_hold(medtrail: "Medtrail", tmp_path: Path, damage: str) -> None:
    good = codec.decode_signed_event(_logged(0).signed)
    if damage == "signature":
        signature = replace(good.signatures[0], signature=bytes(64))
        bad = replace(good, signatures=(signature,))
    else:
        bad = replace(good, payload=good.payload.replace(b"Epcistra", b"Epcistrb"))
    Log(tmp_path, [_logged(0, signed=bad)]).write(0)
    run = _verify(medtrail)
    assert (run.code, run.error["code"]) == (ExitCode.REFUSED, "SIGNATURE_INVALID")


def test_refuses_an_entry_that_says_nothing_readable(medtrail: "Medtrail", tmp_path: Path) -> None:
    good = codec.decode_signed_event(_logged(0).signed)
    Log(tmp_path, [_logged(0, signed=sign(good.payload_type, b"\xff\xff", MAKER))]).write(0)
    assert _verify(medtrail).code == ExitCode.REFUSED


@pytest.mark.parametrize("text", [b"", b"c2sp.org/tlog-proof@v2\n", b"\xff\x00", b"index 0\n\n"])
def test_refuses_what_is_no_proof(medtrail: "Medtrail", log: Log, text: bytes) -> None:
    log.write(2, proof=text)
    assert _verify(medtrail).code == ExitCode.REFUSED


@pytest.mark.parametrize("key", ["", "nonsense", f"{VKEY}x", VKEY.replace("+", "-"), "x" * 5000])
def test_key_that_cannot_be_read_is_wrong_use(medtrail: "Medtrail", log: Log, key: str) -> None:
    log.write(2)
    assert _verify(medtrail, key=key).code == ExitCode.WRONG_USE


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"nonsense", b"x" * 100_000], ids=["empty", "binary", "text", "long"]
)
def test_key_file_that_cannot_be_read_is_wrong_use(
    medtrail: "Medtrail", log: Log, tmp_path: Path, content: bytes
) -> None:
    log.write(2)
    (tmp_path / "key").write_bytes(content)
    assert _verify(medtrail, key="key").code == ExitCode.WRONG_USE


@pytest.mark.parametrize("name", ["p", "e"])
def test_missing_file_is_wrong_use(medtrail: "Medtrail", log: Log, tmp_path: Path, name: str) -> None:
    log.write(2)
    (tmp_path / name).unlink()
    run = _verify(medtrail)
    assert (run.code, run.error["code"]) == (ExitCode.WRONG_USE, "FILE")
    assert run.error["message"].startswith(f"{name}: ")
    (tmp_path / name).mkdir()
    assert _verify(medtrail).code == ExitCode.WRONG_USE


@pytest.mark.parametrize(("name", "limit"), [("p", MAX_PROOF_BYTES), ("e", MAX_SIGNED_EVENT_BYTES)])
def test_file_beyond_its_limit_is_not_read(
    medtrail: "Medtrail", log: Log, tmp_path: Path, name: str, limit: int
) -> None:
    log.write(2)
    (tmp_path / name).write_bytes(bytes(limit + 1))
    run = _verify(medtrail)
    assert (run.code, run.error["code"], run.error["field"]) == (ExitCode.WRONG_USE, "TOO_LARGE", name)
    assert json.loads(run.errors)["error"]["message"] == f"expected at most {limit} bytes"


def test_demands_the_quorum_of_a_policy(medtrail: "Medtrail", log: Log) -> None:
    log.write(2)
    cosigner = Cosigner("witness.example/w1", bytes([9]) * 32)
    rules = f"log {VKEY}\nwitness w1 {format_vkey(cosigner.verifier)}\n"
    (log.folder / "none").write_text(f"{rules}quorum none\n")
    (log.folder / "w1").write_text(f"{rules}quorum w1\n")
    demanded = ("verify", "p", "--event", "e", "--key", VKEY, "--policy")
    run = medtrail(*demanded, "none")
    assert run.code == ExitCode.TRUE
    assert "witnesses: none needed" in run.out
    run = medtrail(*demanded, "w1", "--json")
    assert (run.code, run.error["code"]) == (ExitCode.REFUSED, "QUORUM_NOT_MET")
    text = log.note.partition(b"\n\n")[0].decode() + "\n"
    log.note = add_signatures(log.note, [cosigner.cosign(text, timestamp=1_700_000_000)])
    log.write(2)
    run = medtrail(*demanded, "w1")
    assert run.code == ExitCode.TRUE
    assert "witnesses: witness.example/w1" in run.out
    (log.folder / "broken").write_text("quorum nobody\n")
    assert medtrail(*demanded, "broken").code == ExitCode.WRONG_USE
