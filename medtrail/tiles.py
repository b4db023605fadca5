"""Tiles: a log's tree and entries as static files, from which anyone builds any proof.

A tile holds up to 256 consecutive hashes: hash i of tile (level L, index N) is the root of the entries
[(256 N + i) * 256^L, (256 N + i + 1) * 256^L). A tile of fewer is partial and lies on the tree's right edge; it is
named with its width, so that no file ever changes. An entry bundle holds the entries of one tile of level 0.

Nothing here reads or writes: tiles come from a :data:`TileReader`, and go to the caller as names and bytes.

Source: C2SP tlog-tiles v0.1.
"""

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from medtrail.errors import MalformedError, RootMismatchError, TooLargeError, VerificationError
from medtrail.merkle import HASH_BYTES, MAX_TREE_SIZE, CompactRange, NodeId, parents_of, root_of, split_hashes

TILE_WIDTH = 256
"""Hashes of a full tile, entries of a full bundle."""

TILE_HEIGHT = 8
"""Levels of the tree from one level of tiles to the next."""

TILE_BYTES = TILE_WIDTH * HASH_BYTES
"""Bytes of a full tile: 8,192."""

MAX_TILE_LEVEL = 7
"""The highest level at which a tree of below 2^63 leaves has a tile."""

MAX_ENTRY_BYTES = 65_535
"""Largest entry: its length is a uint16."""

_MAX_CACHED_TILES = 1024
_PATH = re.compile(
    r"tile/(?P<level>[0-9]{1,2}|entries)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[0-9]{1,3}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's name.

    Attributes:
        level: 0 (leaf hashes) to 7.
        index: From the left, from 0.
        width: Number of hashes, 1 to 256; less than 256 makes the tile partial.

    Raises:
        MalformedError: No tree of below 2^63 leaves has such a tile.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not 0 <= self.level <= MAX_TILE_LEVEL:
            raise _out_of_range("level", self.level, low=0, high=MAX_TILE_LEVEL)
        _check_place(self.index, self.width, level=self.level)

    @property
    def path(self) -> str:
        """Path below the log's prefix: ``tile/<L>/<N>[.p/<W>]``."""
        return f"tile/{self.level}/{_index_path(self.index, self.width)}"


@dataclass(frozen=True, slots=True)
class EntryBundle:
    """The name of the entries of one tile of level 0.

    Attributes:
        index: From the left, from 0; the first entry's index is 256 * index.
        width: Number of entries, 1 to 256; less than 256 makes the bundle partial.

    Raises:
        MalformedError: No tree of below 2^63 leaves has such a bundle.
    """

    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        _check_place(self.index, self.width, level=0)

    @property
    def path(self) -> str:
        """Path below the log's prefix: ``tile/entries/<N>[.p/<W>]``."""
        return f"tile/entries/{_index_path(self.index, self.width)}"


TileReader = Callable[[Tile], bytes]
"""Returns a tile's bytes. For a partial tile it may return the full one, where the partial is no longer served."""


def parse_tile_path(path: str) -> Tile | EntryBundle:
    """Return what a path below the log's prefix names.

    Raises:
        MalformedError: The path is not exactly as `path` writes it.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise _path_malformed(path)
    index = int(match["index"].replace("/", "").replace("x", ""))
    width = TILE_WIDTH if match["width"] is None else int(match["width"])
    named = EntryBundle(index, width) if match["level"] == "entries" else Tile(int(match["level"]), index, width)
    # Leading zeroes, or a width of 256 spelled out, would give one file two names.
    if named.path != path:
        raise _path_malformed(path)
    return named


def new_tiles(old_size: int, new_size: int) -> tuple[Tile, ...]:
    """Return the tiles to write before a checkpoint of new_size is published, where those of old_size stand.

    Level by level from the leaves, each from left to right, the partial tile last.

    Args:
        old_size: 0 <= old_size <= new_size.
        new_size: Number of leaves, at most 2^63 - 1.

    Raises:
        MalformedError: A size is out of range.
    """
    _check_sizes(old_size, new_size)
    tiles: list[Tile] = []
    for level in range(_levels(new_size)):
        tiles.extend(Tile(level, index, width) for index, width in _grown(old_size, new_size, level=level))
    return tuple(tiles)


def new_entry_bundles(old_size: int, new_size: int) -> tuple[EntryBundle, ...]:
    """Return the entry bundles to write before a checkpoint of new_size is published; like `new_tiles`."""
    _check_sizes(old_size, new_size)
    return tuple(EntryBundle(index, width) for index, width in _grown(old_size, new_size, level=0))


def encode_entry_bundle(entries: Sequence[bytes]) -> bytes:
    """Return a bundle's bytes: uint16_be(length) || entry, for each of 1 to 256 entries.

    Raises:
        MalformedError: There are no entries, or more than 256.
        TooLargeError: An entry exceeds 65,535 bytes.
    """
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise _out_of_range("entries", len(entries), low=1, high=TILE_WIDTH)
    for position, entry in enumerate(entries):
        if len(entry) > MAX_ENTRY_BYTES:
            raise TooLargeError(
                f"expected at most {MAX_ENTRY_BYTES} bytes, got {len(entry)}", field=f"entries[{position}]"
            )
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def decode_entry_bundle(encoded: bytes) -> tuple[bytes, ...]:
    """Return the 1 to 256 entries of a bundle.

    Raises:
        MalformedError: The bytes are no bundle.
    """
    entries: list[bytes] = []
    start = 0
    while start < len(encoded):
        header = encoded[start : start + 2]
        end = start + 2 + int.from_bytes(header, "big")
        if len(header) < 2 or end > len(encoded):
            raise MalformedError(
                "the last entry is cut short", code="BUNDLE_MALFORMED", field=f"entries[{len(entries)}]"
            )
        entries.append(encoded[start + 2 : end])
        start = end
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise MalformedError(
            f"expected 1 to {TILE_WIDTH} entries, got {len(entries)}", code="BUNDLE_MALFORMED", field="entries"
        )
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class TileEdge:
    """The partial tiles along a tree's right edge: what it takes to write the next tiles.

    Attributes:
        size: Number of leaves.
        partials: The partial tile's bytes for each level that the tree reaches, from level 0; empty where the level
            ends with a full tile.

    Raises:
        MalformedError: A partial tile has another width than the size says.
    """

    size: int = 0
    partials: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _check_sizes(0, self.size)
        widths = [_width(self.size, level) for level in range(_levels(self.size))]
        if [len(partial) for partial in self.partials] != [width * HASH_BYTES for width in widths]:
            raise MalformedError(
                f"expected partial tiles of widths {widths} for {self.size} leaves",
                code="TILE_MALFORMED",
                field="partials",
            )

    def extend(self, leaf_hashes: Iterable[bytes]) -> tuple["TileEdge", tuple[tuple[Tile, bytes], ...]]:
        """Return the edge after more leaves, and the full tiles that they complete, with bytes, in `new_tiles` order.

        Holds no more than the edge and the batch. A large append goes batch by batch; `partial_tiles` come at its end.

        Raises:
            MalformedError: A leaf hash is not of 32 bytes, or the tree would exceed 2^63 - 1 leaves.
        """
        added = list(leaf_hashes)
        if any(len(leaf_hash) != HASH_BYTES for leaf_hash in added):
            raise MalformedError("expected leaf hashes of 32 bytes", code="HASH_MALFORMED", field="leaf_hashes")
        new_size = self.size + len(added)
        _check_sizes(self.size, new_size)
        partials: list[bytes] = []
        full: list[tuple[Tile, bytes]] = []
        for level in range(_levels(new_size)):
            known = self.partials[level] if level < len(self.partials) else b""
            joined = b"".join((known, *added))
            first = (self.size >> level * TILE_HEIGHT) // TILE_WIDTH
            added = []
            whole = len(joined) - len(joined) % TILE_BYTES
            for index, start in enumerate(range(0, whole, TILE_BYTES), first):
                contents = joined[start : start + TILE_BYTES]
                full.append((Tile(level, index), contents))
                added.append(root_of(split_hashes(contents)))
            partials.append(joined[whole:])
        return TileEdge(new_size, tuple(partials)), tuple(full)

    def partial_tiles(self, *, old_size: int = 0) -> tuple[tuple[Tile, bytes], ...]:
        """Return the partial tiles, with bytes, that `new_tiles` wants since old_size, lowest level first.

        Raises:
            MalformedError: old_size exceeds the size.
        """
        wanted = (tile for tile in new_tiles(old_size, self.size) if tile.width < TILE_WIDTH)
        return tuple((tile, self.partials[tile.level]) for tile in wanted)

    def compact_range(self) -> CompactRange:
        """Return the same tree's right edge as roots of complete subtrees."""
        hashes: list[bytes] = []
        for partial in reversed(self.partials):
            hashes.extend(CompactRange().extend(split_hashes(partial)).hashes)
        return CompactRange(self.size, tuple(hashes))


def append_tiles(edge: TileEdge, leaf_hashes: Iterable[bytes]) -> tuple[TileEdge, tuple[tuple[Tile, bytes], ...]]:
    """Return the edge after one append, and every tile of `new_tiles` with its bytes: the full ones, then the partial.

    Raises:
        MalformedError: A leaf hash is not of 32 bytes, or the tree would exceed 2^63 - 1 leaves.
    """
    grown, full = edge.extend(leaf_hashes)
    return grown, (*full, *grown.partial_tiles(old_size=edge.size))


def read_edge(read_tile: TileReader, *, tree_size: int) -> TileEdge:
    """Return a tree's right edge from its partial tiles. Unchecked: compare `compact_range().root()` with the root.

    Raises:
        MalformedError: A size is out of range, or a tile has another length than its width says.
    """
    _check_sizes(0, tree_size)
    partials: list[bytes] = []
    for level in range(_levels(tree_size)):
        width = _width(tree_size, level)
        index = (tree_size >> level * TILE_HEIGHT) // TILE_WIDTH
        partials.append(_read(read_tile, Tile(level, index, width)) if width else b"")
    return TileEdge(tree_size, tuple(partials))


class TileHashReader:
    """A `merkle.HashReader` over tiles that trusts nothing but a root hash.

    The partial tiles must lead to the root; a full tile must lead to its hash in the tile above. So whoever serves the
    tiles can refuse to answer, but cannot make us build a proof on a wrong hash. Up to 1,024 full tiles are kept once
    checked, about 30 kB each. One reader is for one tree size and one thread.

    Raises:
        RootMismatchError: The partial tiles lead to another root.
        VerificationError: A full tile leads to another hash than the tile above holds (TILE_MISMATCH).
        MalformedError: A tile has another length than its width says, or the tree has no such subtree
            (NODE_OUT_OF_RANGE).
    """

    __slots__ = ("_edge", "_full", "_read_tile", "_root_hash", "_tree_size")

    def __init__(self, read_tile: TileReader, *, tree_size: int, root_hash: bytes) -> None:
        """Read nothing yet.

        Args:
            read_tile: Is called once for each tile that is needed while it is kept.
            tree_size: A checkpoint's number of leaves.
            root_hash: The checkpoint's, 32 bytes.
        """
        self._read_tile = read_tile
        self._tree_size = tree_size
        self._root_hash = root_hash
        self._edge: tuple[_Subtrees, ...] | None = None
        self._full: dict[tuple[int, int], _Subtrees] = {}

    def __call__(self, nodes: Sequence[NodeId]) -> tuple[bytes, ...]:
        """Return the hashes of complete subtrees (level, index), 32 bytes each."""
        return tuple(self._hash_of(level, index) for level, index in nodes)

    def _hash_of(self, level: int, index: int) -> bytes:
        reach = self._tree_size >> level if 0 <= level < 64 else 0
        if not 0 <= index < reach:
            raise MalformedError(
                f"a tree of {self._tree_size} leaves has no complete subtree {index} at level {level}",
                code="NODE_OUT_OF_RANGE",
                field="nodes",
            )
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, offset = divmod(index << height, TILE_WIDTH)
        return self._subtrees(tile_level, tile_index)[height][offset >> height]

    def _subtrees(self, level: int, index: int) -> "_Subtrees":
        """Return the checked subtrees of the tile that holds part of this tree at this place."""
        if index == (self._tree_size >> level * TILE_HEIGHT) // TILE_WIDTH:
            return self._checked_edge()[level]
        kept = self._full.get((level, index))
        if kept is None:
            # A full tile's root is a hash of the tile above; the way up ends at the checked edge.
            above, offset = divmod(index, TILE_WIDTH)
            expected = self._subtrees(level + 1, above)[0][offset]
            tile = Tile(level, index)
            kept = _subtrees_of(_read(self._read_tile, tile))
            computed = kept[TILE_HEIGHT][0]
            if computed != expected:
                raise VerificationError(
                    f"expected a tile with root {expected.hex()}, computed {computed.hex()}",
                    code="TILE_MISMATCH",
                    field=tile.path,
                )
            if len(self._full) >= _MAX_CACHED_TILES:
                del self._full[next(iter(self._full))]
            self._full[level, index] = kept
        return kept

    def _checked_edge(self) -> tuple["_Subtrees", ...]:
        if self._edge is None:
            edge = read_edge(self._read_tile, tree_size=self._tree_size)
            computed = edge.compact_range().root()
            if computed != self._root_hash:
                raise RootMismatchError(expected=self._root_hash, computed=computed)
            self._edge = tuple(_subtrees_of(partial) for partial in edge.partials)
        return self._edge


_Subtrees = tuple[Sequence[bytes], ...]
"""The hashes of a tile's complete subtrees, by height 0 to 8 within the tile."""


def _subtrees_of(contents: bytes) -> _Subtrees:
    heights: list[Sequence[bytes]] = [split_hashes(contents)]
    for _ in range(TILE_HEIGHT):
        heights.append(parents_of(heights[-1]))
    return tuple(heights)


def _read(read_tile: TileReader, tile: Tile) -> bytes:
    contents = read_tile(tile)
    # A full tile begins with each of its partial ones.
    if len(contents) not in (tile.width * HASH_BYTES, TILE_BYTES):
        raise MalformedError(
            f"expected {tile.width * HASH_BYTES} bytes, got {len(contents)}", code="TILE_MALFORMED", field=tile.path
        )
    return contents[: tile.width * HASH_BYTES]


def _grown(old_size: int, new_size: int, *, level: int) -> list[tuple[int, int]]:
    """Return (index, width) of each tile of a level that new_size has and old_size has not."""
    old_count, new_count = old_size >> level * TILE_HEIGHT, new_size >> level * TILE_HEIGHT
    if old_count == new_count:
        return []
    grown = [(index, TILE_WIDTH) for index in range(old_count // TILE_WIDTH, new_count // TILE_WIDTH)]
    if new_count % TILE_WIDTH:
        grown.append((new_count // TILE_WIDTH, new_count % TILE_WIDTH))
    return grown


def _levels(size: int) -> int:
    """Return how many levels of tiles a tree reaches; none for the empty tree."""
    return -(-size.bit_length() // TILE_HEIGHT)


def _width(size: int, level: int) -> int:
    """Return the partial tile's width: floor(size / 256^level) mod 256, 0 for no such tile."""
    return (size >> level * TILE_HEIGHT) % TILE_WIDTH


def _index_path(index: int, width: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    suffix = f".p/{width}" if width < TILE_WIDTH else ""
    return "/".join(reversed(groups)) + suffix


def _check_place(index: int, width: int, *, level: int) -> None:
    if not 1 <= width <= TILE_WIDTH:
        raise _out_of_range("width", width, low=1, high=TILE_WIDTH)
    # The last leaf below the tile must be one that a tree can have.
    last = (MAX_TREE_SIZE >> level * TILE_HEIGHT) - width
    if not 0 <= index * TILE_WIDTH <= last:
        raise _out_of_range("index", index, low=0, high=last // TILE_WIDTH)


def _check_sizes(old_size: int, new_size: int) -> None:
    if not 0 <= old_size <= new_size <= MAX_TREE_SIZE:
        raise MalformedError(
            f"expected 0 <= old size <= new size < 2^63, got {old_size} and {new_size}",
            code="NUMBER_OUT_OF_RANGE",
            field="size",
        )


def _out_of_range(field: str, value: int, *, low: int, high: int) -> MalformedError:
    return MalformedError(f"expected {low} to {high}, got {value}", code="NUMBER_OUT_OF_RANGE", field=field)


def _path_malformed(path: str) -> MalformedError:
    return MalformedError(f"expected a tile's path, got {path[:80]!r}", code="TILE_PATH_MALFORMED", field="path")
