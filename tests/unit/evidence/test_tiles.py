"""Tiles: what a log publishes at every size suffices to rebuild root and proofs, and a changed byte is found."""

import re
import typing
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtrail import tiles as tiles_module
from medtrail.errors import MalformedError, MedtrailError, RootMismatchError, TooLargeError, VerificationError
from medtrail.merkle import (
    EMPTY_ROOT,
    MAX_TREE_SIZE,
    CompactRange,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from medtrail.tiles import (
    EntryBundle,
    Tile,
    TileEdge,
    TileHashReader,
    append_tiles,
    decode_entry_bundle,
    encode_entry_bundle,
    new_entry_bundles,
    new_tiles,
    parse_tile_path,
    read_edge,
)

if typing.TYPE_CHECKING:
    from tests.unit.evidence.conftest import Oracle

LAST_SIZE = 600
LARGE = 70_000
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def large_log() -> tuple[Files, bytes]:
    """The tiles and the root of a tree of three levels of tiles."""
    leaf_hashes = [hash_leaf(number.to_bytes(4, "big")) for number in range(LARGE)]
    _, written = append_tiles(TileEdge(), leaf_hashes)
    return {tile.path: contents for tile, contents in written}, root_of(leaf_hashes)


def test_tiles_of_every_size_to_600_are_those_of_the_specification(oracle: "Oracle") -> None:
    published: Files = {}
    edge = TileEdge()
    for size in range(LAST_SIZE + 1):
        if size:
            edge, written = append_tiles(edge, [oracle.mth(size - 1, size)])
            assert tuple(tile for tile, _ in written) == new_tiles(size - 1, size)
            published.update({tile.path: contents for tile, contents in written})
        expected = _tiles_of(oracle, size)

        assert expected.items() <= published.items()
        assert {tile.path for tile in new_tiles(0, size)} == expected.keys()
        assert edge.compact_range().root() == oracle.mth(0, size)
        assert read_edge(_reader(expected), tree_size=size) == edge
    # Nothing else was written than what some size needs, under one name for good.
    needed = {path for size in range(LAST_SIZE + 1) for path in _tiles_of(oracle, size)}
    assert published.keys() == needed


def test_one_append_publishes_the_same_tiles_as_many(oracle: "Oracle") -> None:
    for old_size in range(0, LAST_SIZE + 1, 23):
        old_edge, _ = append_tiles(TileEdge(), [oracle.mth(at, at + 1) for at in range(old_size)])
        for new_size in (*range(old_size, LAST_SIZE + 1, 31), 256, 512):
            if new_size < old_size:
                continue
            edge, written = append_tiles(old_edge, (oracle.mth(at, at + 1) for at in range(old_size, new_size)))
            named = {tile.path: contents for tile, contents in written}
            missing = _tiles_of(oracle, new_size).items() - _tiles_of(oracle, old_size).items()

            assert edge.size == new_size
            assert named.items() == missing
            assert {tile.path for tile in new_tiles(old_size, new_size)} == named.keys()


def test_readers_of_the_published_tiles_rebuild_root_and_proofs_of_every_size_to_600(oracle: "Oracle") -> None:
    for size in range(1, LAST_SIZE + 1):
        root = oracle.mth(0, size)
        reader = TileHashReader(_reader(_tiles_of(oracle, size)), tree_size=size, root_hash=root)
        for index in {0, size // 3, size // 2, 255, 256, 511, size - 2, size - 1} & set(range(size)):
            proof = inclusion_proof(reader, leaf_index=index, tree_size=size)
            assert list(proof) == oracle.path(index, 0, size)
            verify_inclusion(
                proof, leaf_hash=oracle.mth(index, index + 1), leaf_index=index, tree_size=size, root_hash=root
            )
        for older in {1, size // 2, 255, 256, 257, 512, size - 1, size} & set(range(1, size + 1)):
            proof = consistency_proof(reader, size1=older, size2=size)
            assert list(proof) == oracle.proof(older, size)
            verify_consistency(proof, size1=older, size2=size, root1=oracle.mth(0, older), root2=root)


def test_reader_returns_every_complete_subtree(oracle: "Oracle") -> None:
    for size in (1, 255, 256, 257, 600):
        reader = TileHashReader(_reader(_tiles_of(oracle, size)), tree_size=size, root_hash=oracle.mth(0, size))
        nodes = [(level, index) for level in range(10) for index in range(size >> level)]

        assert list(reader(nodes)) == oracle.read(nodes)


def test_entry_bundles_of_every_size_to_600_hold_the_entries(oracle: "Oracle") -> None:
    published: dict[str, tuple[bytes, ...]] = {}
    for size in range(LAST_SIZE + 1):
        if size:
            for bundle in new_entry_bundles(size - 1, size):
                start = bundle.index * 256
                encoded = encode_entry_bundle(oracle.entries[start : start + bundle.width])
                published[bundle.path] = decode_entry_bundle(encoded)
        whole, width = divmod(size, 256)
        paths = [f"tile/entries/{index:03d}" for index in range(whole)]
        paths += [f"tile/entries/{whole:03d}.p/{width}"] if width else []

        assert [entry for path in paths for entry in published[path]] == oracle.entries[:size]
        assert [bundle.path for bundle in new_entry_bundles(0, size)] == paths


def test_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    named = new_tiles(0, LARGE)

    assert [tile.index for tile in named if tile.level == 0 and tile.width == 256] == list(range(273))
    assert [tile.path for tile in named if tile.level or tile.width < 256] == [
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert [tile.path for tile in new_tiles(255, 256)] == ["tile/0/000", "tile/1/000.p/1"]


def test_large_tree_is_proven_from_its_tiles(large_log: tuple[Files, bytes]) -> None:
    files, root = large_log
    reader = TileHashReader(_reader(files), tree_size=LARGE, root_hash=root)
    for index in (0, 255, 65_535, 65_536, LARGE - 1):
        verify_inclusion(
            inclusion_proof(reader, leaf_index=index, tree_size=LARGE),
            leaf_hash=hash_leaf(index.to_bytes(4, "big")),
            leaf_index=index,
            tree_size=LARGE,
            root_hash=root,
        )


def test_refuses_every_tile_on_the_way_with_one_bit_flipped(large_log: tuple[Files, bytes]) -> None:
    files, root = large_log
    for path in ("tile/0/003", "tile/1/000", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"):
        flipped = bytearray(files[path])
        flipped[len(flipped) // 2] ^= 0x10
        reader = TileHashReader(_reader({**files, path: bytes(flipped)}), tree_size=LARGE, root_hash=root)
        with pytest.raises(VerificationError) as caught:
            inclusion_proof(reader, leaf_index=3 * 256 + 7, tree_size=LARGE)

        full = ".p/" not in path
        assert (caught.value.code, caught.value.field) == (("TILE_MISMATCH", path) if full else ("ROOT_MISMATCH", None))


def test_refuses_tiles_of_another_tree(large_log: tuple[Files, bytes]) -> None:
    files, _ = large_log
    with pytest.raises(RootMismatchError):
        TileHashReader(_reader(files), tree_size=LARGE, root_hash=EMPTY_ROOT)([(0, 0)])


@pytest.mark.parametrize(
    "change", [lambda old: old[:-1], lambda old: old + b"\0", lambda _: b""], ids=["cut", "longer", "empty"]
)
@pytest.mark.parametrize("path", ["tile/0/003", "tile/0/273.p/112"])
def test_refuses_tiles_of_another_length(
    large_log: tuple[Files, bytes], path: str, change: Callable[[bytes], bytes]
) -> None:
    files, root = large_log
    reader = TileHashReader(_reader({**files, path: change(files[path])}), tree_size=LARGE, root_hash=root)
    with pytest.raises(MalformedError) as caught:
        reader([(0, 3 * 256)])

    assert caught.value.field == path


def test_full_tile_serves_for_a_partial_one_that_is_gone(oracle: "Oracle") -> None:
    later = _tiles_of(oracle, 600)

    def read_tile(tile: Tile) -> bytes:
        return later.get(tile.path) or later[Tile(tile.level, tile.index).path]

    reader = TileHashReader(read_tile, tree_size=300, root_hash=oracle.mth(0, 300))
    with pytest.raises(KeyError):
        reader([(0, 1)])
    later["tile/1/000.p/1"] = oracle.mth(0, 256)

    assert reader([(0, 299), (8, 0)]) == (oracle.mth(299, 300), oracle.mth(0, 256))


def test_each_tile_is_read_once_and_few_are_kept(
    large_log: tuple[Files, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles_module, "_MAX_CACHED_TILES", 2)
    files, root = large_log
    read: list[str] = []

    def read_tile(tile: Tile) -> bytes:
        read.append(tile.path)
        return files[tile.path]

    reader = TileHashReader(read_tile, tree_size=LARGE, root_hash=root)
    reader([(0, index) for index in range(256)])
    assert sorted(read) == ["tile/0/000", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]

    reader([(0, 256), (0, 512), (0, 0)])
    assert read.count("tile/0/000") == 2
    assert read.count("tile/2/000.p/1") == 1


@pytest.mark.parametrize("node", [(0, 600), (1, 300), (10, 0), (-1, 0), (0, -1), (64, 0), (10**9, 0)])
def test_refuses_subtrees_that_the_tree_has_not(oracle: "Oracle", node: tuple[int, int]) -> None:
    reader = TileHashReader(_reader(_tiles_of(oracle, 600)), tree_size=600, root_hash=oracle.mth(0, 600))
    with pytest.raises(MalformedError) as caught:
        reader([node])

    assert caught.value.code == "NODE_OUT_OF_RANGE"


@given(st.lists(st.integers(0, 700), max_size=4))
def test_batches_of_any_size_lead_to_one_edge(lengths: list[int]) -> None:
    edge, leaf_hashes, written = TileEdge(), list[bytes](), dict[Tile, bytes]()
    for number, length in enumerate(lengths):
        batch = [hash_leaf(b"%d/%d" % (number, at)) for at in range(length)]
        leaf_hashes += batch
        edge, full = edge.extend(batch)
        written.update(full)
    at_once, every = append_tiles(TileEdge(), leaf_hashes)

    assert edge == at_once
    assert {**written, **dict(edge.partial_tiles())} == dict(every)
    assert edge.compact_range() == CompactRange().extend(leaf_hashes)


@pytest.mark.parametrize(
    ("size", "partials"),
    [(1, ()), (1, (b"",)), (1, (bytes(33),)), (0, (bytes(32),)), (256, (b"",)), (-1, ()), (MAX_TREE_SIZE + 1, ())],
)
def test_refuses_an_edge_that_no_tree_has(size: int, partials: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError):
        TileEdge(size, partials)


def test_refuses_leaf_hashes_that_are_not_32_bytes() -> None:
    with pytest.raises(MalformedError):
        TileEdge().extend([bytes(32), bytes(31)])


@pytest.mark.parametrize(("old_size", "new_size"), [(-1, 0), (2, 1), (0, MAX_TREE_SIZE + 1)])
def test_refuses_sizes_out_of_order(old_size: int, new_size: int) -> None:
    with pytest.raises(MalformedError):
        new_tiles(old_size, new_size)
    with pytest.raises(MalformedError):
        new_entry_bundles(old_size, new_size)


@pytest.mark.parametrize(
    ("named", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(3, 999, 255), "tile/3/999.p/255"),
        (Tile(1, 1000, 1), "tile/1/x001/000.p/1"),
        (EntryBundle(0, 3), "tile/entries/000.p/3"),
        (EntryBundle(1234067), "tile/entries/x001/x234/067"),
        (Tile(7, 0, 127), "tile/7/000.p/127"),
        (Tile(0, 2**55 - 2), "tile/0/x036/x028/x797/x018/x963/966"),
    ],
    ids=str,
)
def test_paths_are_those_of_the_specification(named: Tile | EntryBundle, path: str) -> None:
    assert named.path == path
    assert parse_tile_path(path) == named


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/00/000",
        "tile/8/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/X001/002",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/",
        "tile/7/000",
        "tile/entries/000.p/256",
        "tile/entry/000",
        "tile/0/../../checkpoint",
        "tile/0/x001/x002/x003/x004/x005/x006/007",
        "tile/0/\u0663\u0663\u0663",
    ],
)
def test_refuses_paths_that_are_not_canonical(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-1, 0, 1), (8, 0, 1), (0, -1, 1), (0, 2**55, 1), (0, 0, 0), (0, 0, 257), (7, 0, 128)]
)
def test_refuses_tiles_that_no_tree_has(level: int, index: int, width: int) -> None:
    with pytest.raises(MalformedError):
        Tile(level, index, width)


@given(st.text(max_size=40) | st.from_regex(re.compile(r"tile/[0-9]{1,2}/(x[0-9]{3}/){0,7}[0-9]{3}(\.p/[0-9]{1,3})?")))
def test_any_path_is_read_or_refused(path: str) -> None:
    try:
        named = parse_tile_path(path)
    except MedtrailError:
        return
    assert named.path == path


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_bundles_return_their_entries(entries: list[bytes]) -> None:
    assert list(decode_entry_bundle(encode_entry_bundle(entries))) == entries


def test_bundle_holds_the_largest_entry_and_no_larger() -> None:
    assert decode_entry_bundle(encode_entry_bundle([bytes(65_535)])) == (bytes(65_535),)
    with pytest.raises(TooLargeError) as caught:
        encode_entry_bundle([b"", bytes(65_536)])
    assert caught.value.field == "entries[1]"


@pytest.mark.parametrize("count", [0, 257])
def test_refuses_bundles_of_no_entries_or_more_than_256(count: int) -> None:
    with pytest.raises(MalformedError):
        encode_entry_bundle([b"entry"] * count)
    with pytest.raises(MalformedError):
        decode_entry_bundle(b"\x00\x01e" * count)


@pytest.mark.parametrize("encoded", [b"\x00", b"\x00\x01", b"\x00\x01ab", b"\x00\x02a", b"\x00\x00\x00"], ids=bytes.hex)
def test_refuses_bundles_cut_short(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_entry_bundle(encoded)


@given(st.binary(max_size=200))
def test_any_bundle_is_read_or_refused(encoded: bytes) -> None:
    try:
        entries = decode_entry_bundle(encoded)
    except MedtrailError:
        return
    assert encode_entry_bundle(entries) == encoded


def _tiles_of(oracle: "Oracle", size: int) -> Files:
    """Return every tile of a tree of up to 65,535 leaves, straight from the definition."""
    files: Files = {}
    for level, span in ((0, 1), (1, 256)):
        roots = [oracle.mth(start, start + span) for start in range(0, size - span + 1, span)]
        for index, start in enumerate(range(0, len(roots), 256)):
            held = roots[start : start + 256]
            suffix = "" if len(held) == 256 else f".p/{len(held)}"
            files[f"tile/{level}/{index:03d}{suffix}"] = b"".join(held)
    return files


def _reader(files: Files) -> Callable[[Tile], bytes]:
    """Return a reader that knows the published files and nothing else."""

    def read_tile(tile: Tile) -> bytes:
        return files[tile.path]

    return read_tile


def test_reads_nothing_for_no_nodes() -> None:
    def unread(tile: Tile) -> bytes:
        raise AssertionError(tile)

    nodes: Sequence[tuple[int, int]] = []
    assert TileHashReader(unread, tree_size=0, root_hash=EMPTY_ROOT)(nodes) == ()
