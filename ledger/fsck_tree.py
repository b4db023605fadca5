"""fsck of the tree: roots, checkpoints with their signatures, and every public file, from the leaf hashes.

The tree is built by the recursive definition of RFC 6962, section 2.1, over all leaves.
"""

import hashlib
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from ledger.fsck_report import Evidence, Report
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.errors import MalformedError, MedtrailError
from medtrail.note import NoteVerifier
from medtrail.tiles import TILE_WIDTH, EntryBundle, Tile, parse_tile_path


class _Tree:
    """Hashes of all complete subtrees, by level."""

    def __init__(self, leaf_hashes: list[bytes]) -> None:
        self.levels = [leaf_hashes]
        while len(self.levels[-1]) > 1:
            below = self.levels[-1]
            self.levels.append([_node(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])

    def root(self, start: int, end: int) -> bytes:
        """Return MTH of the leaves [start, end)."""
        size = end - start
        if size == 0:
            return hashlib.sha256(b"").digest()
        level = size.bit_length() - 1
        if size == 1 << level:
            return self.levels[level][start >> level]
        half = 1 << level
        return _node(self.root(start, start + half), self.root(start + half, end))

    def range_of(self, size: int) -> bytes:
        """Return uint64_be(size) and the roots of the complete subtrees that a tree splits into, largest first."""
        hashes = b""
        start = 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                hashes += self.levels[level][start >> level]
                start += 1 << level
        return struct.pack(">Q", size) + hashes

    def tile(self, tile: Tile) -> bytes | None:
        """Return what a tile holds, or None where the tree does not reach so far."""
        height = 8 * tile.level
        hashes = self.levels[height] if height < len(self.levels) else []
        first = TILE_WIDTH * tile.index
        wanted = hashes[first : first + tile.width]
        return b"".join(wanted) if len(wanted) == tile.width else None


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class TreeChecks:
    """One run over checkpoints and files."""

    def __init__(self, evidence: Evidence, report: Report, *, verifier: NoteVerifier) -> None:
        """Hold what is checked, and the log's key."""
        self._evidence = evidence
        self._report = report
        self._verifier = verifier

    def run(self, state: sqlite3.Row, leaf_hashes: list[bytes]) -> None:
        """Check the state's tree, each checkpoint, and each file."""
        tree = _Tree(leaf_hashes)
        size = len(leaf_hashes)
        if state["tree_range"] != tree.range_of(size):
            self._report.add("ROOT_MISMATCH", "the log's tree does not follow from its entries", index=size)
        notes: dict[int, bytes] = {}
        for row in self._evidence.rows("checkpoint", "tree_size"):
            self._checkpoint(row, tree, size=size, origin=state["origin"])
            notes[row["tree_size"]] = row["note"]
            self._report.checkpoint_count += 1
        published = self._published(state["origin"], notes)
        self._files(tree, leaf_hashes)
        for named in _required(sorted(notes), published):
            if not (self._evidence.public / named.path).is_file():
                self._report.add("TILE_MISSING", f"{named.path} is missing", index=published)

    def _checkpoint(self, row: sqlite3.Row, tree: _Tree, *, size: int, origin: str) -> None:
        at = row["tree_size"]
        if not 0 < at <= size:
            self._report.add("LOG_ROLLED_BACK", f"a checkpoint of {at} entries is signed, {size} stand", index=at)
            return
        root = tree.root(0, at)
        if row["root_hash"] != root or row["tree_range"] != tree.range_of(at):
            self._report.add("ROOT_MISMATCH", "the checkpoint's tree does not follow from the entries", index=at)
        signed = self._opened(row["note"], origin, at)
        if signed is not None and (signed.size, signed.root_hash) != (at, root):
            self._report.add("CHECKPOINT_CORRUPT", "the note names another tree", index=at)

    def _opened(self, note: bytes, origin: str, at: int | None) -> Checkpoint | None:
        try:
            return open_checkpoint(note, origin=origin, verifiers=[self._verifier]).checkpoint
        except MedtrailError as error:
            self._report.add("CHECKPOINT_CORRUPT", f"{error.code}: {error}", index=at)
            return None

    def _published(self, origin: str, notes: dict[int, bytes]) -> int:
        """Check the published checkpoint and return its size; 0 when there is none."""
        path = self._evidence.public / "checkpoint"
        if not path.is_file():
            # A crash may come between the very first signature and its file; later there always is one.
            if len(notes) > 1:
                self._report.add("CHECKPOINT_MISSING", "checkpoints were signed and none is published")
            return 0
        self._report.file_count += 1
        note = path.read_bytes()
        checkpoint = self._opened(note, origin, None)
        if checkpoint is None:
            return 0
        if checkpoint.size > max(notes, default=0):
            text = f"a checkpoint of {checkpoint.size} entries is published, the database signed none so large"
            self._report.add("LOG_ROLLED_BACK", text, index=checkpoint.size)
        elif not self._is_signed_note(note, notes.get(checkpoint.size), checkpoint.size):
            self._report.add("CHECKPOINT_CORRUPT", "the published note is not the signed one", index=checkpoint.size)
        return min(checkpoint.size, max(notes, default=0))

    def _is_signed_note(self, note: bytes, signed: bytes | None, size: int) -> bool:
        """Tell whether a note is the signed one, with no lines added but cosignatures that the database holds."""
        if signed is None or not note.startswith(signed):
            return False
        known = {row["line"] for row in self._evidence.rows("cosignature", "witness") if row["tree_size"] == size}
        return set(note[len(signed) :].decode("utf-8", "replace").splitlines()) <= known

    def _files(self, tree: _Tree, leaf_hashes: list[bytes]) -> None:
        entries = [row["entry"] for row in self._evidence.rows("entry", "leaf_index")]
        for path in _files_below(self._evidence.public / "tile"):
            if path.name.startswith("."):
                # Left by a crash before its rename; no reader asks for it.
                continue
            self._report.file_count += 1
            name = path.relative_to(self._evidence.public).as_posix()
            try:
                named = parse_tile_path(name)
            except MalformedError:
                self._report.add("FILE_UNKNOWN", f"{name} is no file of a log")
                continue
            expected = tree.tile(named) if isinstance(named, Tile) else _bundle(named, entries)
            if path.read_bytes() != expected:
                self._report.add("TILE_CORRUPT", f"{name} does not follow from the entries", index=len(leaf_hashes))


def _bundle(bundle: EntryBundle, entries: list[bytes]) -> bytes | None:
    first = TILE_WIDTH * bundle.index
    wanted = entries[first : first + bundle.width]
    if len(wanted) != bundle.width:
        return None
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in wanted)


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _required(signed_sizes: list[int], published: int) -> Iterator[Tile | EntryBundle]:
    """Yield what must be served at a published size: all full tiles, and each signed size's partial ones till then."""
    level = 0
    while published >> 8 * level:
        count = published >> 8 * level
        full = count // TILE_WIDTH
        widths = {
            (size >> 8 * level) % TILE_WIDTH
            for size in signed_sizes
            if size <= published and (size >> 8 * level) // TILE_WIDTH == full
        } - {0}
        for index in range(full):
            yield Tile(level, index)
        for width in sorted(widths):
            yield Tile(level, full, width)
        if level == 0:
            yield from (EntryBundle(index) for index in range(full))
            yield from (EntryBundle(full, width) for width in sorted(widths))
        level += 1
