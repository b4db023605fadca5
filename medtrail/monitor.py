"""A monitor's judgement: is what a log serves now the log that it served before, and does it serve all of it?

One round takes the newest checkpoint, proves it an extension of the last one that was seen, and reads every entry that
is new: the bundles' hashes must be those of the tiles, the tiles must lead to the signed root, and the root that
follows from all entries ever read must be the signed one. Memory holds one batch of files and the tree's right edge,
however large the log is.

Files come from a :data:`Fetch`; nothing here opens a connection. What the log's key signed twice and differently is a
proof to anybody (:class:`LogContradictionError`); all else is what this reader saw.

Source: RFC 6962, section 2.1; C2SP tlog-tiles v0.1, tlog-checkpoint v1.0.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from medtrail.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from medtrail.errors import MalformedError, MedtrailError, RootMismatchError, UnavailableError, VerificationError
from medtrail.merkle import (
    CompactRange,
    NodeId,
    consistency_proof,
    hash_leaf,
    root_of,
    split_hashes,
    verify_consistency,
)
from medtrail.note import NoteVerifier, format_vkey
from medtrail.note_format import encode_base64
from medtrail.policy import Policy
from medtrail.tiles import (
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    EntryBundle,
    Tile,
    TileHashReader,
    decode_entry_bundle,
)

CHECKPOINT_PATH = "checkpoint"

BUNDLES_A_BATCH = 16
"""Entry bundles, and as many tiles, that are fetched at once; a bundle has up to 16 MiB, one of ours 17 kB."""

STATE_VERSION = 1

Fetch = Callable[[Sequence[str]], Sequence[bytes | None]]
"""Returns the files at paths below the log's prefix, in their order; None where the log says that it has none."""


class LogContradictionError(VerificationError):
    """The log's key signed what cannot both be true: LOG_FORKED or LOG_SHRANK.

    Attributes:
        older: The signed note that was seen before.
        newer: The signed note that contradicts it.
        older_root: For trees of two sizes, the root that the newer tree has at the older's size; else None.
        proof: The consistency proof from ``older_root`` to the newer root, which anyone can check.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        older: bytes,
        newer: bytes,
        older_root: bytes | None = None,
        proof: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(message, code=code, field=CHECKPOINT_PATH)
        self.older = older
        self.newer = newer
        self.older_root = older_root
        self.proof = proof

    def proof_document(self) -> bytes | None:
        """Return JSON with the proof, hashes in base64, where two sizes are concerned; else None.

        ``proof`` leads from ``older_root`` to the root of the newer note; the older note names another root.
        """
        if self.older_root is None:
            return None
        document = {"older_root": encode_base64(self.older_root), "proof": [encode_base64(one) for one in self.proof]}
        return json.dumps(document, indent=2).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class AuditState:
    """What a monitor must remember.

    Attributes:
        note: The newest checkpoint that was proven an extension of those before it, as a signed note.
        read: The tree over all entries read so far, a prefix of the checkpoint's; None: reading begins at its end,
            because it is trusted.
        first_seen_s: When its size was first seen, in seconds since 1970.
    """

    note: bytes
    read: CompactRange | None
    first_seen_s: int

    def encode(self, verifier: NoteVerifier) -> bytes:
        """Return the state as JSON, with the key of the log that it is of."""
        document = {
            "version": STATE_VERSION,
            "vkey": format_vkey(verifier),
            "note": self.note.decode(),
            "read": None if self.read is None else self.read.to_bytes().hex(),
            "first_seen_s": self.first_seen_s,
        }
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, verifier: NoteVerifier) -> "AuditState":
        """Return what `encode` wrote.

        Raises:
            MalformedError: AUDIT_STATE_MALFORMED: it is no such state, or of another log.
        """
        try:
            document = json.loads(data)
            if (document["version"], document["vkey"]) != (STATE_VERSION, format_vkey(verifier)):
                raise _state_malformed(f"expected the state of {format_vkey(verifier)}")
            read = document["read"]
            state = cls(
                document["note"].encode(),
                None if read is None else CompactRange.from_bytes(bytes.fromhex(read)),
                int(document["first_seen_s"]),
            )
            checkpoint = open_checkpoint(state.note, origin=verifier.name, verifiers=[verifier]).checkpoint
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _state_malformed("it cannot be read") from error
        except MedtrailError as error:
            raise _state_malformed(str(error)) from error
        if state.read is not None and state.read.size > checkpoint.size:
            raise _state_malformed("more was read than the checkpoint has")
        return state


@dataclass(frozen=True, slots=True)
class Audited:
    """What a round found: all is consistent.

    Attributes:
        state: To be remembered.
        signed: The checkpoint, with the witnesses' signatures that verified.
        entries_read: How many entries this round read.
        age_s: Seconds since this size was first seen.
    """

    state: AuditState
    signed: SignedCheckpoint
    entries_read: int
    age_s: int


class Monitor:
    """Follows one log. One monitor is for one thread."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        verifier: NoteVerifier,
        policy: Policy | None = None,
        keep: Callable[[AuditState], None] = lambda _state: None,
        tell: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Fetch nothing yet.

        Args:
            fetch: Gets the log's files.
            verifier: The log's key.
            policy: Witnesses whose quorum every checkpoint must have; None: none is asked for.
            keep: Is given the state after each step, to be made durable: a crash then costs one batch at most.
            tell: Is told how many entries of how many have been read.
        """
        self._fetch = fetch
        self._verifier = verifier
        self._policy = policy
        self._keep = keep
        self._tell = tell
        witnesses = () if policy is None else (known.verifier for known in policy.witnesses)
        self._verifiers = (verifier, *witnesses)

    def audit(self, state: AuditState | None, *, now_s: int) -> Audited:
        """Do one round: take the newest checkpoint and read all that it adds.

        Args:
            state: What the last round left; None: the log is seen for the first time.
            now_s: Seconds since 1970.

        Raises:
            LogContradictionError: LOG_FORKED, LOG_SHRANK: against what was seen before.
            VerificationError: BAD_CHECKPOINT, QUORUM_NOT_MET, BAD_TILE, BAD_BUNDLE, TILE_MISSING; the field names the
                file.
            UnavailableError: CHECKPOINT_MISSING, or what the fetcher raised.
            MalformedError: AUDIT_STATE_MALFORMED: what the state says was read is not of this log.
        """
        signed = self._newest()
        newer = signed.checkpoint
        reader = TileHashReader(self._read_tile, tree_size=newer.size, root_hash=newer.root_hash)
        read: CompactRange | None = CompactRange()
        first_seen_s = now_s
        if state is not None:
            older = open_checkpoint(state.note, origin=self._verifier.name, verifiers=[self._verifier]).checkpoint
            # Before the quorum: what the log signed against itself tells most where no witness signed it.
            self._check_extends(state.note, older, signed, reader)
            read = state.read
            if read is None:
                read = CompactRange(older.size, self._nodes(reader, _edge_nodes(older.size)))
            if older.size == newer.size:
                first_seen_s = state.first_seen_s
        if self._policy is not None:
            self._policy.check(signed)
        known = AuditState(signed.note, read, first_seen_s)
        # From here on this checkpoint binds the log, whether or not its entries can be read.
        self._keep(known)
        done = self._read_entries(known, read or CompactRange(), newer, reader)
        return Audited(done, signed, newer.size - (read or CompactRange()).size, max(0, now_s - first_seen_s))

    def _newest(self) -> SignedCheckpoint:
        (note,) = self._fetch([CHECKPOINT_PATH])
        if note is None:
            raise UnavailableError("the log serves no checkpoint", code="CHECKPOINT_MISSING", field=CHECKPOINT_PATH)
        try:
            return open_checkpoint(note, origin=self._verifier.name, verifiers=self._verifiers)
        except MedtrailError as error:
            message = f"{error.code}: {error.message}"
            raise VerificationError(message, code="BAD_CHECKPOINT", field=CHECKPOINT_PATH) from error

    def _check_extends(self, note: bytes, older: Checkpoint, signed: SignedCheckpoint, reader: TileHashReader) -> None:
        newer = signed.checkpoint
        if newer.size < older.size:
            message = f"the log had {older.size} entries and now shows a checkpoint of {newer.size}"
            raise LogContradictionError(message, code="LOG_SHRANK", older=note, newer=signed.note)
        if newer.size == older.size:
            if newer.root_hash != older.root_hash:
                message = f"the log signed two roots for {newer.size} entries"
                raise LogContradictionError(message, code="LOG_FORKED", older=note, newer=signed.note)
            return
        if not older.size:
            # Every tree extends the empty one.
            return
        read = partial(self._nodes, reader)
        proof = consistency_proof(read, size1=older.size, size2=newer.size)
        try:
            verify_consistency(proof, size1=older.size, size2=newer.size, root1=older.root_hash, root2=newer.root_hash)
        except RootMismatchError as error:
            # The reader's hashes lead to the newer root, so that it is the older one that they contradict.
            message = f"the checkpoint of {newer.size} entries does not extend the one of {older.size}"
            raise LogContradictionError(
                message,
                code="LOG_FORKED",
                older=note,
                newer=signed.note,
                older_root=CompactRange(older.size, read(_edge_nodes(older.size))).root(),
                proof=proof,
            ) from error

    def _read_entries(
        self, state: AuditState, read: CompactRange, checkpoint: Checkpoint, reader: TileHashReader
    ) -> AuditState:
        total = checkpoint.size
        while read.size < total:
            self._tell(read.size, total)
            read = read.extend(self._batch(read.size, total, reader))
            # The last batch is kept once the root is compared.
            if read.size < total:
                state = replace(state, read=read)
                self._keep(state)
        if read.root() != checkpoint.root_hash:
            # The files agree with the signed root, and it extends the last one: what was noted of former rounds is off.
            raise _state_malformed(f"the entries that it counts as read do not lead to the root of {total} entries")
        self._tell(total, total)
        state = replace(state, read=read)
        self._keep(state)
        return state

    def _batch(self, start: int, total: int, reader: TileHashReader) -> list[bytes]:
        """Return the checked leaf hashes from an index on, as many as one batch of bundles holds."""
        first = start // TILE_WIDTH
        end = min(first + BUNDLES_A_BATCH, -(-total // TILE_WIDTH))
        bundles = [EntryBundle(index, min(TILE_WIDTH, total - TILE_WIDTH * index)) for index in range(first, end)]
        tiles = [Tile(0, bundle.index) for bundle in bundles if bundle.width == TILE_WIDTH]
        files = self._files([*tiles, *bundles])
        leaves: list[bytes] = []
        for tile, content in zip(tiles, files, strict=False):
            (expected,) = self._nodes(reader, [(TILE_HEIGHT, tile.index)])
            if len(content) != TILE_BYTES:
                raise _bad_tile(f"expected {TILE_BYTES} bytes, got {len(content)}", tile.path)
            hashes = split_hashes(content)
            if root_of(hashes) != expected:
                raise _bad_tile("its hashes do not lead to the signed root", tile.path)
            leaves += hashes
        # The partial tile came with the reader's edge, and was checked there.
        rest = range(TILE_WIDTH * first + len(leaves), TILE_WIDTH * first + sum(bundle.width for bundle in bundles))
        leaves += self._nodes(reader, [(0, index) for index in rest])
        for bundle, content in zip(bundles, files[len(tiles) :], strict=True):
            offset = TILE_WIDTH * (bundle.index - first)
            _check_bundle(bundle, content, leaves[offset : offset + bundle.width])
        return leaves[start - TILE_WIDTH * first :]

    def _read_tile(self, tile: Tile) -> bytes:
        (content,) = self._files([tile])
        return content

    def _files(self, wanted: Sequence[Tile | EntryBundle]) -> list[bytes]:
        """Return files; of a partial one that is gone, the full one, which began with it."""
        found: list[bytes] = []
        for named, content in zip(wanted, self._fetch([one.path for one in wanted]), strict=True):
            answer = content
            if answer is None and named.width < TILE_WIDTH:
                (answer,) = self._fetch([replace(named, width=TILE_WIDTH).path])
            if answer is None:
                message = "the log does not serve what its checkpoint needs"
                raise VerificationError(message, code="TILE_MISSING", field=named.path)
            found.append(answer)
        return found

    def _nodes(self, reader: TileHashReader, nodes: Sequence[NodeId]) -> tuple[bytes, ...]:
        """Return checked hashes of subtrees.

        Raises:
            VerificationError: BAD_TILE, TILE_MISSING.
        """
        try:
            return reader(nodes)
        except RootMismatchError as error:
            raise _bad_tile("the partial tiles do not lead to the signed root", "tile") from error
        except (VerificationError, MalformedError) as error:
            if error.code == "TILE_MISSING":
                raise
            raise _bad_tile(error.message, error.field or "tile") from error


def trusted(note: bytes, verifier: NoteVerifier, *, now_s: int) -> AuditState:
    """Return the state of a monitor that believes a checkpoint and reads only what comes after it.

    Raises:
        MedtrailError: The note is not the log's checkpoint.
    """
    signed = open_checkpoint(note, origin=verifier.name, verifiers=[verifier])
    return AuditState(signed.note, None, now_s)


def _check_bundle(bundle: EntryBundle, content: bytes, leaves: Sequence[bytes]) -> None:
    try:
        entries = decode_entry_bundle(content)
    except MalformedError as error:
        raise _bad_bundle(str(error), bundle) from error
    if len(entries) not in {bundle.width, TILE_WIDTH}:
        raise _bad_bundle(f"expected {bundle.width} entries, got {len(entries)}", bundle)
    for index, (entry, leaf) in enumerate(zip(entries, leaves, strict=False), TILE_WIDTH * bundle.index):
        if hash_leaf(entry) != leaf:
            raise _bad_bundle(f"entry {index} is not the one in the tree", bundle)


def _edge_nodes(size: int) -> list[NodeId]:
    """Return the complete subtrees that a tree splits into, largest first."""
    levels = [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]
    return [(level, (size >> level) - 1) for level in levels]


def _bad_tile(message: str, path: str) -> VerificationError:
    return VerificationError(message, code="BAD_TILE", field=path)


def _bad_bundle(message: str, bundle: EntryBundle) -> VerificationError:
    return VerificationError(message, code="BAD_BUNDLE", field=bundle.path)


def _state_malformed(message: str) -> MalformedError:
    return MalformedError(message, code="AUDIT_STATE_MALFORMED", field="state")
