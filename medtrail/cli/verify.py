"""``medtrail verify``: offline, with the kernel alone."""

import hashlib
from pathlib import Path

from rich.console import Console

from medtrail import codec
from medtrail.cli.output import ExitCode, Output
from medtrail.cli.render import event_summary
from medtrail.envelope import verify_signatures
from medtrail.errors import MalformedError, MedtrailError, TooLargeError
from medtrail.event import MAX_SIGNED_EVENT_BYTES
from medtrail.item_map import log_entry
from medtrail.note import parse_vkey
from medtrail.policy import MAX_POLICY_BYTES, parse_policy
from medtrail.tlog_proof import MAX_PROOF_BYTES, parse_proof, verify_proof

MAX_KEY_BYTES = 4096


def run_verify(output: Output, proof: Path, *, event: Path, key: str, policy: Path | None = None) -> None:
    """Check a proof file for a signed event under a verifier key, and say what it proves.

    With a policy, the checkpoint must also have the quorum of its witnesses.

    Exit code 1 when anything about proof or event is wrong, 2 when a file or the key cannot be read.
    """
    verifier = parse_vkey(_key_text(key))
    rules = None if policy is None else parse_policy(_read(policy, MAX_POLICY_BYTES).decode("utf-8", "replace"))
    verifiers = [verifier, *(() if rules is None else (known.verifier for known in rules.witnesses))]
    proof_bytes = _read(proof, MAX_PROOF_BYTES)
    signed_bytes = _read(event, MAX_SIGNED_EVENT_BYTES)
    try:
        parsed = parse_proof(proof_bytes)
        if parsed.extra is None:
            raise MalformedError("the proof lacks the hash of the event's key list", code="PROOF_EXTRA_MISSING")
        entry = log_entry(hashlib.sha256(signed_bytes).digest(), parsed.extra)
        opened = verify_proof(parsed, entry=entry, origin=verifier.name, verifiers=verifiers)
        if rules is not None:
            rules.check(opened)
        checkpoint = opened.checkpoint
        signed = codec.decode_signed_event(signed_bytes)
        key_id = verify_signatures(signed)
        said = codec.decode_payload(signed.payload_type, signed.payload)
    except MedtrailError as error:
        # Whatever is wrong here is wrong with the evidence, be it unreadable or untrue.
        output.fail(error, code=ExitCode.REFUSED)
    document = {
        "verified": True,
        "origin": checkpoint.origin,
        "leaf_index": parsed.index,
        "tree_size": checkpoint.size,
        "root_hash": checkpoint.root_hash.hex(),
        "signed_event_sha256": hashlib.sha256(signed_bytes).hexdigest(),
        "witnesses": [one.verifier.name for one in opened.cosignatures],
        "key_id": key_id,
        "actor": str(said.header.actor),
        "event_id": said.header.event_id,
        "summary": event_summary(said),
    }

    def draw(console: Console) -> None:
        # What the event says is its signer's text: never markup.
        console.print("[bold green]proven[/]", end=" ")
        console.print(event_summary(said), markup=False, soft_wrap=True)
        where = f"  entry {parsed.index} of {checkpoint.size} in {checkpoint.origin}, signed by {key_id}"
        console.print(where, markup=False, soft_wrap=True)
        console.print(f"  said by GLN {said.header.actor}, event {said.header.event_id}", markup=False, soft_wrap=True)
        if rules is not None:
            seen = ", ".join(one.verifier.name for one in opened.cosignatures) or "none needed"
            console.print(f"  seen by the policy's witnesses: {seen}", markup=False, soft_wrap=True)
        console.print("  whether that key spoke for that GLN is proven by its enrolment entry", style="dim")

    output.answer(document, draw)


def _key_text(key: str) -> str:
    path = Path(key)
    if not path.is_file():
        return key
    try:
        return _read(path, MAX_KEY_BYTES).decode().strip()
    except UnicodeDecodeError as error:
        raise MalformedError("expected a verifier key as text", code="VKEY_MALFORMED", field=key) from error


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLargeError(f"expected at most {limit} bytes", field=str(path))
    return data
