"""``medtrail proof``: the offline proof of any event, checked before it is handed on."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from medtrail import codec
from medtrail.api.ledger.v1 import ledger_pb2
from medtrail.checkpoint import SignedCheckpoint
from medtrail.cli.main import Globals
from medtrail.cli.render import event_summary
from medtrail.cli.session import Session, run_session
from medtrail.errors import ConflictError, VerificationError
from medtrail.event import Event
from medtrail.item_map import log_entry
from medtrail.note import parse_vkey
from medtrail.policy import parse_policy
from medtrail.runtime.files import read_file
from medtrail.tlog_proof import TlogProof, parse_proof, verify_proof

_HASH = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """A proof that holds, as it was checked here.

    Attributes:
        proof: What it says.
        encoded: The ``.tlog-proof`` file.
        signed_event: The event's bytes.
        event: What they say.
        opened: The checkpoint in which the proof ends.
        quorum_met: Whether the witnesses of the network's policy have seen that.
    """

    proof: TlogProof
    encoded: bytes
    signed_event: bytes
    event: Event
    opened: SignedCheckpoint
    quorum_met: bool


def request_of(name: str) -> ledger_pb2.GetInclusionProofRequest:
    """Return the question for an event that is named by index, by SHA-256 of its bytes (hex), or by event id."""
    if name.isascii() and name.isdecimal():
        return ledger_pb2.GetInclusionProofRequest(leaf_index=int(name))
    if _HASH.fullmatch(name):
        return ledger_pb2.GetInclusionProofRequest(signed_event_sha256=bytes.fromhex(name))
    return ledger_pb2.GetInclusionProofRequest(event_id=name)


async def fetch_proof(session: Session, name: str) -> CheckedProof:
    """Return the proof of an event, checked under the network's pinned keys.

    Raises:
        NotFoundError: EVENT_UNKNOWN, ENTRY_UNKNOWN.
        ConflictError: EVENT_ERASED; by whom and why.
        VerificationError: The proof does not hold.
    """
    request = request_of(name)
    answer = await session.ledger.GetInclusionProof(request)
    if answer.HasField("erased"):
        message = f"entry {answer.leaf_index} was erased by {answer.erased.gln}: {answer.erased.reason}"
        raise ConflictError(message, code="EVENT_ERASED", field="event")
    network = session.network
    policy = parse_policy(read_file(Path(network.policy)).decode("utf-8", "replace"))
    verifiers = [parse_vkey(key) for key in network.verifier_keys]
    witnesses = [known.verifier for known in policy.witnesses]
    proof = parse_proof(answer.tlog_proof)
    entry = log_entry(hashlib.sha256(answer.signed_event).digest(), proof.extra or b"")
    opened = verify_proof(proof, entry=entry, origin=network.origin, verifiers=[*verifiers, *witnesses])
    signed = codec.decode_signed_event(answer.signed_event)
    event = codec.decode_payload(signed.payload_type, signed.payload)
    _check_asked(request, proof, answer.signed_event, event)
    met = policy.met(one.verifier for one in opened.cosignatures)
    return CheckedProof(proof, answer.tlog_proof, answer.signed_event, event, opened, met)


def _check_asked(
    request: ledger_pb2.GetInclusionProofRequest, proof: TlogProof, signed_event: bytes, event: Event
) -> None:
    """Check that the proof is of the event that was asked for.

    Raises:
        VerificationError: EVENT_MISMATCH.
    """
    sha256 = hashlib.sha256(signed_event).digest()
    kind = request.WhichOneof("event")
    same = {
        "leaf_index": proof.index == request.leaf_index,
        "signed_event_sha256": sha256 == request.signed_event_sha256,
        "event_id": event.header.event_id == request.event_id,
    }
    if kind is None or not same[kind]:
        raise VerificationError("the ledger proved another event than was asked for", code="EVENT_MISMATCH")


def run_proof(found: Globals, name: str, *, out: Path | None, event_out: Path | None) -> None:
    """Show or write the proof of an event; ``medtrail verify`` checks it anywhere, with no network."""
    checked = run_session(found, lambda session: fetch_proof(session, name))
    for path, contents in ((out, checked.encoded), (event_out, checked.signed_event)):
        if path is not None:
            path.write_bytes(contents)
    checkpoint = checked.opened.checkpoint
    document = {
        "leaf_index": checked.proof.index,
        "event_id": checked.event.header.event_id,
        "signed_event_sha256": hashlib.sha256(checked.signed_event).hexdigest(),
        "tree_size": checkpoint.size,
        "root_hash": checkpoint.root_hash.hex(),
        "witnesses": [one.verifier.name for one in checked.opened.cosignatures],
        "quorum_met": checked.quorum_met,
        "proof": checked.encoded.decode(),
        "files": [str(path) for path in (out, event_out) if path is not None],
    }

    def draw(console: Console) -> None:
        if out is None:
            # As it is: the text is the file, and a shell may send it there.
            console.print(checked.encoded.decode(), markup=False, soft_wrap=True, end="")
            return
        console.print("[bold green]proven[/]", end=" ")
        console.print(event_summary(checked.event), markup=False, soft_wrap=True)
        seen = "with" if checked.quorum_met else "without"
        where = f"  entry {checked.proof.index} of {checkpoint.size}, {seen} the witnesses' quorum; written to {out}"
        console.print(where, markup=False, soft_wrap=True)

    found.output.answer(document, draw)
