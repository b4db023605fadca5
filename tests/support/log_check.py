"""The invariants I1 to I9 of a log, checked after whatever was done to it (ARCHITECTURE, section 9).

Three readers that share no code with the ledger's storage and ingest: ``fsck`` over database and files, an audit from
outside over the public files alone, and the plain definitions below over the rows and the exchange's own messages.

I1, I2: all signed checkpoints, wherever they were seen, are prefixes of the one tree that the entries make, and none is
larger than the newest one stored. I3, I8: fsck and the audit from outside. I4: each event of each message is accounted
for exactly once, also against the messages that the exchange still holds. I5: no duplicate key twice. I6: key lists are
derived anew from the events (fsck); of them the item map is a function. I7, I9: what receipts name, and what was
acknowledged, stands.
"""

import asyncio
import hashlib
import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ledger.fsck import check_files, check_folder
from ledger.fsck_report import Report
from ledger.fsck_source import Row, Source, open_source
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.codec import decode_batch
from medtrail.errors import MedtrailError
from medtrail.exchange import Receipt
from medtrail.note import NoteSigner, NoteVerifier, format_vkey
from medtrail.runtime.bus import connect_bus
from medtrail.runtime.folder import OrganisationFolder

URL_NAME = "database.url"
"""A file in a log's folder: the address of its database; empty or absent: ledger.db in the folder."""


class CheckLog(Protocol):
    """Checks a log; fails the test where an invariant does not hold.

    Args:
        root: The ledger's data folder, with ``org``.
        acknowledged: SignedEvents that a caller was told are chained (I9).
        observed: Checkpoints that were served before; what is served now is never smaller (I2).
        witnessed: Checkpoints that witnesses hold.
        receipts: Receipts that were handed out (I7).
        public: Public folders of other instances.
        nats_url: The exchange; the ledger's own user reads its messages (I4).
    """

    def __call__(
        self,
        root: Path,
        *,
        acknowledged: Iterable[bytes] = (),
        observed: Iterable[bytes] = (),
        witnessed: Iterable[bytes] = (),
        receipts: Iterable[Receipt] = (),
        public: Iterable[Path] = (),
        nats_url: str = "",
    ) -> Report: ...


@dataclass(frozen=True)
class _Rows:
    """What stands in the database: entries in order, state, notes, messages, and the outcomes by their place."""

    entries: Sequence[Row]
    state: Row
    notes: Sequence[bytes]
    messages: dict[tuple[int, int], bytes]
    outcomes: dict[tuple[int, int], list[tuple[int, bytes]]]


def check_log(
    root: Path,
    *,
    acknowledged: Iterable[bytes] = (),
    observed: Iterable[bytes] = (),
    witnessed: Iterable[bytes] = (),
    receipts: Iterable[Receipt] = (),
    public: Iterable[Path] = (),
    nats_url: str = "",
) -> Report:
    """Check I1 to I9; the arguments are those of :class:`CheckLog`."""
    url = (root / URL_NAME).read_text(encoding="utf-8") if (root / URL_NAME).exists() else ""
    report = check_folder(root, database_url=url)
    assert report.findings == []
    with open_source(root / "ledger.db", url) as source:
        rows = _read(source)
    verifier = NoteSigner(rows.state["origin"], OrganisationFolder(root / "org").log_seed()).verifier
    _check_keys(rows)
    given = list(receipts)
    served = [*observed, *(receipt.checkpoint for receipt in given)]
    _check_notes(rows, verifier, [*rows.notes, *served, *witnessed])
    for folder in (root / "public", *public):
        _check_public(folder, rows, verifier, served if folder == root / "public" else [])
    standing = {bytes(row["signed_event_sha256"]): row["leaf_index"] for row in rows.entries}
    assert {hashlib.sha256(event).digest() for event in acknowledged} <= set(standing)
    for receipt in given:
        _check_receipt(receipt, rows, verifier, standing)
    if nats_url:
        _check_stream(rows, _messages(root, nats_url))
    return report


def _read(source: Source) -> _Rows:
    outcomes: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
    for table in ("entry", "duplicate", "refusal"):
        statement = f"SELECT epoch, stream_seq, position, signed_event_sha256 FROM {table}"  # noqa: S608 - constants
        for row in source.rows(statement):
            place = (row["epoch"], row["stream_seq"])
            outcomes.setdefault(place, []).append((row["position"], bytes(row["signed_event_sha256"])))
    return _Rows(
        entries=list(source.rows("SELECT * FROM entry ORDER BY leaf_index")),
        state=next(source.rows("SELECT * FROM log_state")),
        notes=[bytes(row["note"]) for row in source.rows("SELECT note FROM checkpoint")],
        messages={
            (row["epoch"], row["stream_seq"]): bytes(row["message_sha256"])
            for row in source.rows("SELECT epoch, stream_seq, message_sha256 FROM message")
        },
        outcomes=outcomes,
    )


def _check_keys(rows: _Rows) -> None:
    events = Counter(bytes(row["signed_event_sha256"]) for row in rows.entries)
    keys = Counter((bytes(row["event_id_hash"]), row["signer_gln"], bool(row["declaration"])) for row in rows.entries)
    assert [key for counted in (events, keys) for key, count in counted.items() if count > 1] == []


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of leaf hashes by its recursive definition (RFC 6962, section 2.1)."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def _opened(note: bytes, rows: _Rows, verifier: NoteVerifier) -> Checkpoint:
    return open_checkpoint(note, origin=rows.state["origin"], verifiers=[verifier]).checkpoint


def _check_notes(rows: _Rows, verifier: NoteVerifier, notes: Iterable[bytes]) -> None:
    leaves = [hashlib.sha256(b"\x00" + row["entry"]).digest() for row in rows.entries]
    roots = {checkpoint.size: checkpoint.root_hash for checkpoint in (_opened(note, rows, verifier) for note in notes)}
    largest = max((_opened(note, rows, verifier).size for note in rows.notes), default=0)
    assert max(roots, default=0) <= largest <= len(leaves) == rows.state["tree_size"]
    for note in notes:
        checkpoint = _opened(note, rows, verifier)
        assert roots[checkpoint.size] == checkpoint.root_hash, f"two roots at {checkpoint.size} entries"
    for size, root_hash in roots.items():
        assert root_of(leaves[:size]) == root_hash, f"the checkpoint of {size} entries is of another tree"


def _check_public(folder: Path, rows: _Rows, verifier: NoteVerifier, served: Iterable[bytes]) -> None:
    path = folder / "checkpoint"
    sizes = [_opened(note, rows, verifier).size for note in served]
    if not path.exists():
        assert sizes == []
        return
    note = path.read_bytes()
    assert max(sizes, default=0) <= _opened(note, rows, verifier).size
    _check_notes(rows, verifier, [*rows.notes, note])
    audited = check_files(folder, vkey=format_vkey(verifier))
    assert audited.findings == []


def _check_receipt(receipt: Receipt, rows: _Rows, verifier: NoteVerifier, standing: dict[bytes, int]) -> None:
    size = _opened(receipt.checkpoint, rows, verifier).size
    for item in receipt.items:
        assert item.leaf_index < size
        if item.resend:
            # Its content is the entry's; its bytes may be others.
            continue
        assert standing.get(item.signed_event_sha256) == item.leaf_index


# --- the exchange's own messages ---


@dataclass(frozen=True)
class _Message:
    """A message as the exchange holds it; ``sha256`` as the ledger keeps it (LEDGER, section 2.1)."""

    seq: int
    sha256: bytes
    events: list[bytes]


def _messages(root: Path, nats_url: str) -> list[_Message]:
    async def read() -> list[_Message]:
        folder = OrganisationFolder(root / "org")
        bus = await connect_bus(nats_url, seed=folder.nats_seed(), gln=folder.gln, name="check", timeout_s=60)
        try:
            state = await bus.stream_state("EVENTS")
            found: list[_Message] = []
            for seq in range(max(state.first_seq, 1), state.last_seq + 1):
                answer = await bus.request("$JS.API.STREAM.MSG.GET.EVENTS", json.dumps({"seq": seq}).encode())
                found += _message(json.loads(answer.data))
            return found
        finally:
            await bus.close()

    # Whoever checks may be inside an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(read())).result()


def _message(answer: dict[str, dict[str, str]]) -> Iterator[_Message]:
    if "error" in answer:
        return
    message = answer["message"]
    seq, data = int(message["seq"]), b64decode(message.get("data", ""))
    parts = [message["time"].encode(), message["subject"].encode()]
    head = seq.to_bytes(8, "big") + b"".join(len(part).to_bytes(4, "big") for part in parts)
    try:
        events = list(decode_batch(data))
    except MedtrailError:
        events = [data]
    yield _Message(seq, hashlib.sha256(head + b"".join(parts) + data).digest(), events)


def _check_stream(rows: _Rows, messages: Sequence[_Message]) -> None:
    epoch = rows.state["epoch"]
    for message in messages:
        if message.seq >= rows.state["next_seq"]:
            continue
        place = (epoch, message.seq)
        assert rows.messages.get(place) == message.sha256, f"message {message.seq} is not the one that was read"
        expected = [(position, hashlib.sha256(event).digest()) for position, event in enumerate(message.events)]
        assert sorted(rows.outcomes[place]) == expected, f"events of message {message.seq}"
