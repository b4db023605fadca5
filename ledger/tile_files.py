"""The log's public files: tiles, entry bundles and the checkpoint, which any web server can serve.

Tiles never change once written and stand before the checkpoint that needs them; the checkpoint is replaced whole. A
crash leaves some tiles that no checkpoint names yet: they are written again with the same bytes.

Source: C2SP tlog-tiles v0.1.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from medtrail.errors import MedtrailError, NotFoundError, TooLargeError
from medtrail.merkle import hash_leaf
from medtrail.runtime.files import put_file, read_file, sync_folder, write_file
from medtrail.tiles import (
    TILE_WIDTH,
    EntryBundle,
    Tile,
    TileEdge,
    decode_entry_bundle,
    encode_entry_bundle,
    new_entry_bundles,
    read_edge,
)

CHECKPOINT_NAME = "checkpoint"


class TileFiles:
    """A folder with ``checkpoint`` and ``tile/…``."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first file."""
        self.folder = folder

    def read_tile(self, tile: Tile) -> bytes:
        """Return a tile's bytes: of a partial one that is gone, the full one's.

        Raises:
            NotFoundError: TILE_MISSING.
        """
        return self._read_or_full(tile, Tile(tile.level, tile.index))

    def read_bundle(self, bundle: EntryBundle) -> bytes:
        """Return an entry bundle's bytes, the full one's where the partial one is gone.

        Raises:
            NotFoundError: TILE_MISSING.
        """
        return self._read_or_full(bundle, EntryBundle(bundle.index))

    def _read_or_full(self, wanted: Tile | EntryBundle, full: Tile | EntryBundle) -> bytes:
        for named in (wanted, full):
            try:
                return read_file(self.folder / named.path)
            except NotFoundError:
                continue
            except TooLargeError:
                break
        raise NotFoundError(f"{wanted.path} is missing", code="TILE_MISSING", field=wanted.path)

    def read_edge(self, *, tree_size: int) -> TileEdge:
        """Return a tree's right edge from its tiles; unchecked.

        Raises:
            MedtrailError: A tile is missing or malformed.
        """
        return read_edge(self.read_tile, tree_size=tree_size)

    def checkpoint(self) -> bytes | None:
        """Return the published checkpoint, or None before the first."""
        try:
            return read_file(self.folder / CHECKPOINT_NAME)
        except NotFoundError:
            return None

    def write_checkpoint(self, note: bytes) -> None:
        """Publish a checkpoint; all its tiles stand."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self.folder / CHECKPOINT_NAME, note)

    def grow(self, edge: TileEdge, entries: Iterable[list[bytes]], *, new_size: int) -> TileEdge:
        """Write every tile and bundle between a tree and a larger one, durably, and return the larger one's edge.

        Args:
            edge: Of the tree whose tiles stand.
            entries: The entries from ``edge.size`` to ``new_size``, in lists of any length.
            new_size: Size of the larger tree.

        Raises:
            MedtrailError: The bundle of the smaller tree's last entries is missing or malformed.
        """
        old_size = edge.size
        kept = self._kept_entries(old_size)
        bundles = iter(new_entry_bundles(old_size, new_size))
        # Names become durable together: nobody asks for these files before the checkpoint that is written after them.
        folders: set[Path] = set()
        for batch in entries:
            edge, full = edge.extend([hash_leaf(entry) for entry in batch])
            for tile, contents in full:
                folders.add(self._write(tile, contents))
            kept.extend(batch)
            while len(kept) >= TILE_WIDTH:
                folders.add(self._write(next(bundles), encode_entry_bundle(kept[:TILE_WIDTH])))
                del kept[:TILE_WIDTH]
        for bundle in bundles:
            folders.add(self._write(bundle, encode_entry_bundle(kept)))
        for tile, contents in edge.partial_tiles(old_size=old_size):
            folders.add(self._write(tile, contents))
        for folder in sorted(folders):
            sync_folder(folder)
        return edge

    def _kept_entries(self, size: int) -> list[bytes]:
        index, width = divmod(size, TILE_WIDTH)
        if not width:
            return []
        return list(decode_entry_bundle(self.read_bundle(EntryBundle(index, width)))[:width])

    def drop_partials(self, *, old_size: int, new_size: int) -> None:
        """Remove the partial tiles of places where a full tile stands since the checkpoint of ``new_size``."""
        completed: list[Tile | EntryBundle] = [*_completed(old_size, new_size)]
        completed += _completed_bundles(old_size, new_size)
        for named in completed:
            folder = self.folder / f"{named.path}.p"
            if folder.is_dir():
                shutil.rmtree(folder)

    def _write(self, named: Tile | EntryBundle, contents: bytes) -> Path:
        """Write a file and return its folder, in which its name is not durable yet."""
        path = self.folder / named.path
        if not path.parent.is_dir():
            make_folders(path.parent)
        put_file(path, contents)
        return path.parent


def _completed(old_size: int, new_size: int) -> list[Tile]:
    found: list[Tile] = []
    level = 0
    while new_size >> 8 * (level + 1):
        first, last = old_size >> 8 * (level + 1), new_size >> 8 * (level + 1)
        found.extend(Tile(level, index) for index in range(first, last))
        level += 1
    return found


def _completed_bundles(old_size: int, new_size: int) -> list[EntryBundle]:
    return [EntryBundle(index) for index in range(old_size // TILE_WIDTH, new_size // TILE_WIDTH)]


def make_folders(path: Path) -> None:
    """Make a folder and those above it, each durable before what is put into it."""
    missing = [path]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def edge_or_none(files: TileFiles, *, tree_size: int, root_hash: bytes) -> TileEdge | None:
    """Return a tree's edge from its files if they lead to its root and its last bundle stands, else None."""
    try:
        edge = files.read_edge(tree_size=tree_size)
        if edge.compact_range().root() != root_hash:
            return None
        index, width = divmod(tree_size, TILE_WIDTH)
        if width:
            kept = decode_entry_bundle(files.read_bundle(EntryBundle(index, width)))[:width]
            leaves = edge.partials[0]
            if b"".join(hash_leaf(entry) for entry in kept) != leaves:
                return None
    except MedtrailError:
        return None
    return edge
