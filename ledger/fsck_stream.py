"""fsck of the tree, as the entries pass by: roots, checkpoints with their signatures, and every public file.

The tree is built by the recursive definition of RFC 6962, section 2.1, on a stack of complete subtrees. In memory are
the stack, one tile a level and one entry bundle, however large the log is.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger.fsck_report import Report
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.errors import MalformedError, MedtrailError, VerificationError
from medtrail.note import NoteVerifier
from medtrail.note_format import parse_signature_line
from medtrail.policy import Policy
from medtrail.tiles import TILE_WIDTH, EntryBundle, Tile, parse_tile_path

BUNDLE = -1
"""Stands for the level of entry bundles."""


@dataclass(frozen=True, slots=True)
class SignedRow:
    """A stored checkpoint, and the cosignature lines that are stored for it."""

    size: int
    root_hash: bytes
    tree_range: bytes
    note: bytes
    lines: tuple[str, ...]


class TreeStream:
    """Takes entries in order, and compares what follows from them."""

    def __init__(
        self,
        report: Report,
        *,
        origin: str,
        verifier: NoteVerifier,
        policy: Policy | None,
        public: Path | None,
        signed: Iterator[SignedRow] | None,
    ) -> None:
        """Read the published checkpoint and the names of all files.

        Args:
            report: Gets the findings.
            origin: Of the log.
            verifier: The log's key.
            policy: Its witnesses' keys verify cosignatures; None: their lines are only read.
            public: The public folder; None: there are no files.
            signed: The stored checkpoints in order of their sizes; None: there is no database, the files stand alone.
        """
        self._report = report
        self._origin = origin
        self._verifiers = [verifier, *(() if policy is None else (known.verifier for known in policy.witnesses))]
        self._policy = policy
        # What is not there has no files, and wants none.
        self._public = public or Path("/nonexistent")
        self._without_files = public is None
        self._signed = signed
        self._next = None if signed is None else next(signed, None)
        self._before = 0
        self.size = 0
        self._stack: list[tuple[int, bytes]] = []
        self._tiles: dict[int, list[bytes]] = {0: []}
        self._bundle: list[bytes] = []
        self._partials: dict[tuple[int, int, int], str] = {}
        self._published_note = self._read_published()
        self._published = self._opened_published()
        self.published_size = 0 if self._published is None else self._published.size
        self._signed_notes: dict[int, SignedRow] = {}
        self._largest_signed = 0
        self._list_files()

    # --- entries ---

    def add(self, entry: bytes) -> None:
        """Take the next entry in."""
        leaf = hashlib.sha256(b"\x00" + entry).digest()
        self.size += 1
        self._push(leaf)
        self._bundle.append(entry)
        self._add_to_tile(0, leaf)
        self._check_bundle()
        while self._next is not None and self._next.size <= self.size:
            self._check_signed(self._next)
            self._next = None if self._signed is None else next(self._signed, None)
        if self._published is not None and self._published.size == self.size:
            self._check_published_root(self._published)

    def finish(self, tree_range: bytes | None) -> None:
        """Compare what is left once all entries have passed.

        Args:
            tree_range: The log's stored state of its tree; None: there is none.
        """
        report = self._report
        if tree_range is not None and tree_range != self._range():
            report.add("ROOT_MISMATCH", "the log's tree does not follow from its entries", index=self.size)
        while self._next is not None:
            size = self._next.size
            report.checkpoint_count += 1
            self._largest_signed = max(self._largest_signed, size)
            report.add("LOG_ROLLED_BACK", f"a checkpoint of {size} entries is signed, {self.size} stand", index=size)
            self._next = None if self._signed is None else next(self._signed, None)
        self._check_published()
        for place, path in sorted(self._partials.items(), key=lambda item: item[1]):
            if self._signed is None and _size_of(*place) > self.published_size:
                # Tiles stand before the checkpoint that names them: of these the files alone tell nothing yet.
                continue
            report.add("TILE_CORRUPT", f"{path} does not follow from the entries", index=self.size)

    def _push(self, leaf: bytes) -> None:
        level, node = 0, leaf
        while self._stack and self._stack[-1][0] == level:
            left = self._stack.pop()[1]
            node = hashlib.sha256(b"\x01" + left + node).digest()
            level += 1
        self._stack.append((level, node))

    def _root(self) -> bytes:
        if not self._stack:
            return hashlib.sha256(b"").digest()
        root = self._stack[-1][1]
        for _, left in reversed(self._stack[:-1]):
            root = hashlib.sha256(b"\x01" + left + root).digest()
        return root

    def _range(self) -> bytes:
        """Return uint64_be(size) and the roots of the complete subtrees, largest first."""
        return self.size.to_bytes(8, "big") + b"".join(node for _, node in self._stack)

    # --- tiles ---

    def _add_to_tile(self, level: int, node: bytes) -> None:
        tile = self._tiles.setdefault(level, [])
        tile.append(node)
        index, width = (self.size >> 8 * level) - 1 >> 8, len(tile)
        if width == TILE_WIDTH or (level, index, width) in self._partials:
            self._compare(Tile(level, index, width), b"".join(tile))
        if width == TILE_WIDTH:
            above = _mth(tile)
            tile.clear()
            self._add_to_tile(level + 1, above)

    def _check_bundle(self) -> None:
        index, width = (self.size - 1) // TILE_WIDTH, len(self._bundle)
        if width == TILE_WIDTH or (BUNDLE, index, width) in self._partials:
            content = b"".join(len(entry).to_bytes(2, "big") + entry for entry in self._bundle)
            self._compare(EntryBundle(index, width), content)
        if width == TILE_WIDTH:
            self._bundle.clear()

    def _compare(self, named: Tile | EntryBundle, content: bytes) -> None:
        self._partials.pop(_place(named), None)
        path = self._public / named.path
        if not path.is_file():
            # A full one must stand once a checkpoint names it; a partial one is on the list because it stands.
            if self.size <= self.published_size:
                self._report.add("TILE_MISSING", f"{named.path} is missing", index=self.size)
            return
        self._report.file_count += 1
        if path.read_bytes() != content:
            self._report.add("TILE_CORRUPT", f"{named.path} does not follow from the entries", index=self.size)

    def _list_files(self) -> None:
        """Note the partial files, which are to be compared as their sizes pass, and what is no file of a log."""
        for path in self._public.rglob("*"):
            if not path.is_file() or path.name.startswith(".") or path.name == "checkpoint":
                # A name with a dot was left by a crash before its rename; no reader asks for it.
                continue
            name = path.relative_to(self._public).as_posix()
            try:
                named = parse_tile_path(name)
            except MalformedError:
                self._report.add("FILE_UNKNOWN", f"{name} is no file of a log")
                continue
            level, index, width = _place(named)
            # Full ones that the published tree needs are looked for by their names as the entries pass.
            if width < TILE_WIDTH or _size_of(level, index, width) > self.published_size:
                self._partials[level, index, width] = name

    # --- checkpoints ---

    def _check_signed(self, row: SignedRow) -> None:
        report = self._report
        report.checkpoint_count += 1
        self._largest_signed = max(self._largest_signed, row.size)
        if row.size != self.size or row.size <= self._before:
            report.add("CHECKPOINT_CORRUPT", f"a checkpoint of {row.size} entries stands out of order", index=row.size)
            return
        self._before = row.size
        if row.root_hash != self._root() or row.tree_range != self._range():
            report.add("ROOT_MISMATCH", "the checkpoint's tree does not follow from the entries", index=row.size)
        self._check_note(row.note, row.size)
        self._check_lines(row)
        if row.size == self.published_size:
            self._signed_notes[row.size] = row
        if row.size <= self.published_size:
            self._check_partials_of(row.size)

    def _check_note(self, note: bytes, at: int) -> None:
        signed = self._opened(note, at)
        if signed is not None and (signed.size, signed.root_hash) != (self.size, self._root()):
            self._report.add("CHECKPOINT_CORRUPT", "the note names another tree", index=at)

    def _opened(self, note: bytes, at: int | None) -> Checkpoint | None:
        try:
            signed = open_checkpoint(note, origin=self._origin, verifiers=self._verifiers)
            if self._signed is None and self._policy is not None:
                self._policy.check(signed)
            return signed.checkpoint
        except MedtrailError as error:
            self._report.add("CHECKPOINT_CORRUPT", f"{error.code}: {error}", index=at)
            return None

    def _check_lines(self, row: SignedRow) -> None:
        text = row.note.rpartition(b"\n\n")[0].decode("utf-8", "replace") + "\n"
        known = {(one.name, one.key_id): one for one in self._verifiers[1:]}
        for line in row.lines:
            self._report.cosignature_count += 1
            try:
                signature = parse_signature_line(line)
                verifier = known.get((signature.name, signature.key_id))
                if verifier is not None:
                    verifier.verify(text, signature)
            except MedtrailError as error:
                self._report.add("COSIGNATURE_CORRUPT", f"{error.code}: {error}", index=row.size)

    def _check_partials_of(self, size: int) -> None:
        """Check that a signed size is served by its partial files, until the full ones stand."""
        for level, tile in self._tiles.items():
            count = size >> 8 * level
            if tile and self.published_size >> 8 * level >> 8 == count >> 8:
                self._require(Tile(level, count >> 8, len(tile)))
                if level == 0:
                    self._require(EntryBundle(count >> 8, len(tile)))

    def _require(self, named: Tile | EntryBundle) -> None:
        if not (self._public / named.path).is_file():
            self._report.add("TILE_MISSING", f"{named.path} is missing", index=self.published_size)

    # --- what is published ---

    def _read_published(self) -> bytes | None:
        path = self._public / "checkpoint"
        return path.read_bytes() if path.is_file() else None

    def _opened_published(self) -> Checkpoint | None:
        if self._published_note is None:
            return None
        self._report.file_count += 1
        return self._opened(self._published_note, None)

    def _check_published_root(self, published: Checkpoint) -> None:
        if published.root_hash != self._root():
            self._report.add("ROOT_MISMATCH", "the published checkpoint has another root", index=published.size)
        if self._signed is None:
            self._check_partials_of(published.size)

    def _check_published(self) -> None:
        published, report = self._published, self._report
        if self._published_note is None:
            # A crash may come between the very first signature and its file; later there always is one.
            if not self._without_files and (self._signed is None or report.checkpoint_count > 1):
                report.add("CHECKPOINT_MISSING", "checkpoints were signed and none is published")
            return
        if published is None:
            return
        if published.size > self.size:
            text = f"a checkpoint of {published.size} entries is published, {self.size} stand"
            report.add("LOG_ROLLED_BACK", text, index=published.size)
        if self._signed is None:
            return
        row = self._signed_notes.get(published.size)
        if published.size > self._largest_signed:
            text = f"a checkpoint of {published.size} entries is published, the database signed none so large"
            report.add("LOG_ROLLED_BACK", text, index=published.size)
        elif row is None or not self._is_signed_note(self._published_note, row):
            report.add("CHECKPOINT_CORRUPT", "the published note is not the signed one", index=published.size)

    @staticmethod
    def _is_signed_note(note: bytes, row: SignedRow) -> bool:
        """Tell whether a note is the signed one, with no lines added but cosignatures that the database holds."""
        if not note.startswith(row.note):
            return False
        return set(note[len(row.note) :].decode("utf-8", "replace").splitlines()) <= set(row.lines)


def _place(named: Tile | EntryBundle) -> tuple[int, int, int]:
    """Return level, index and width; bundles have a level of their own."""
    return (named.level if isinstance(named, Tile) else BUNDLE, named.index, named.width)


def _size_of(level: int, index: int, width: int) -> int:
    """Return how many entries a tree has at least that has this tile or bundle."""
    return (TILE_WIDTH * index + width) << 8 * max(level, 0)


def _mth(nodes: list[bytes]) -> bytes:
    """Return the hash of a complete subtree over its 256 nodes."""
    while len(nodes) > 1:
        nodes = [hashlib.sha256(b"\x01" + nodes[at] + nodes[at + 1]).digest() for at in range(0, len(nodes), 2)]
    return nodes[0]


def entries_of_files(public: Path, size: int) -> Iterator[bytes]:
    """Yield the entries of a public folder's bundles, in order, as far as a published size reaches.

    Raises:
        VerificationError: TILE_MISSING: a bundle is not there; TILE_CORRUPT: it is none.
    """
    for index in range(-(-size // TILE_WIDTH)):
        width = min(size - TILE_WIDTH * index, TILE_WIDTH)
        named = EntryBundle(index) if width == TILE_WIDTH else EntryBundle(index, width)
        path = public / named.path
        if not path.is_file():
            raise VerificationError(f"{named.path} is missing", code="TILE_MISSING", field=named.path)
        yield from _bundle_entries(path.read_bytes(), named, width)


def _bundle_entries(content: bytes, named: EntryBundle, width: int) -> Iterator[bytes]:
    at = 0
    for _ in range(width):
        length = int.from_bytes(content[at : at + 2], "big")
        entry = content[at + 2 : at + 2 + length]
        if len(entry) != length or not length:
            raise VerificationError(f"{named.path} is cut off", code="TILE_CORRUPT", field=named.path)
        at += 2 + length
        yield entry
    if at != len(content):
        raise VerificationError(f"{named.path} is longer than its entries", code="TILE_CORRUPT", field=named.path)
