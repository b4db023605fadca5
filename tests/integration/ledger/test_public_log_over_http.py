"""The public log as any client of tlog-tiles meets it: types, caching, conditions, partial tiles, and no way out."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from ledger.public_files import PublicServer
from ledger.tile_files import TileFiles
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.merkle import hash_leaf
from medtrail.note import NoteSigner
from medtrail.tiles import TileEdge, append_tiles, decode_entry_bundle, new_entry_bundles

LOG = NoteSigner("ledger.example/eu1", bytes(range(32)))
ENTRIES = [b"\x01" + number.to_bytes(64, "big") for number in range(600)]
IMMUTABLE = "public, max-age=31536000, immutable"


class Published:
    """A log's folder, which grows and drops partial files as the ledger does."""

    def __init__(self, folder: Path) -> None:
        self.files = TileFiles(folder / "public")
        self.edge = TileEdge()

    def grow(self, size: int) -> None:
        old = self.edge.size
        self.edge = self.files.grow(self.edge, [ENTRIES[old:size]], new_size=size)
        self.files.write_checkpoint(sign_checkpoint(Checkpoint(LOG.name, size, self.edge.compact_range().root()), LOG))
        self.files.drop_partials(old_size=old, new_size=size)


@pytest.fixture
def database_url() -> str:
    """Files alone are served: no backend takes part."""
    return ""


@pytest.fixture
def log(tmp_path: Path) -> Published:
    return Published(tmp_path)


def ask(log: Published, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def run() -> None:
        server = PublicServer(log.files.folder, listen="127.0.0.1:0")
        serving = asyncio.create_task(server.run())
        try:
            async with httpx.AsyncClient(base_url=f"http://{server.address}", timeout=60) as client:
                await scenario(client)
        finally:
            server.stop()
            await serving

    asyncio.run(run())


def test_files_come_with_the_types_and_caching_of_the_specification(log: Published) -> None:
    log.grow(300)

    async def scenario(client: httpx.AsyncClient) -> None:
        for path, media_type, cache in (
            ("/checkpoint", "text/plain; charset=utf-8", "public, max-age=1"),
            ("/tile/0/000", "application/octet-stream", IMMUTABLE),
            ("/tile/0/001.p/44", "application/octet-stream", IMMUTABLE),
            ("/tile/1/000.p/1", "application/octet-stream", IMMUTABLE),
            ("/tile/entries/000", "application/octet-stream", IMMUTABLE),
            ("/tile/entries/001.p/44", "application/octet-stream", IMMUTABLE),
        ):
            answer = await client.get(path, headers={"Accept-Encoding": "gzip, br, deflate"})
            assert answer.status_code == 200
            assert answer.content == (log.files.folder / path[1:]).read_bytes()
            assert answer.headers["content-type"] == media_type
            assert answer.headers["cache-control"] == cache
            assert answer.headers["access-control-allow-origin"] == "*"
            # Nothing is compressed on the way: hashes do not shrink.
            assert "content-encoding" not in answer.headers
            assert int(answer.headers["content-length"]) == len(answer.content)
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            same = ("content-type", "cache-control", "etag", "last-modified", "content-length")
            assert [head.headers[name] for name in same] == [answer.headers[name] for name in same]

    ask(log, scenario)


def test_what_a_client_has_already_is_not_sent_again(log: Published) -> None:
    log.grow(3)

    async def scenario(client: httpx.AsyncClient) -> None:
        first = await client.get("/checkpoint")
        tag = first.headers["etag"]
        for condition in (tag, f'"other", W/{tag}', "*"):
            answer = await client.get("/checkpoint", headers={"If-None-Match": condition})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == tag
            assert answer.headers["cache-control"] == "public, max-age=1"
        # In the same second: a date alone never hides a newer checkpoint.
        log.grow(4)
        for headers in ({"If-None-Match": tag}, {"If-Modified-Since": first.headers["last-modified"]}):
            newer = await client.get("/checkpoint", headers=headers)
            assert newer.status_code == 200
            assert newer.content == log.files.checkpoint()
        assert newer.headers["etag"] != tag

    ask(log, scenario)


def test_tag_is_the_same_from_every_instance(log: Published, tmp_path: Path) -> None:
    other = Published(tmp_path / "other")
    tags = []
    for one in (log, other):
        one.grow(300)

        async def scenario(client: httpx.AsyncClient) -> None:
            tags.append([(await client.get(path)).headers["etag"] for path in ("/checkpoint", "/tile/0/000")])

        ask(one, scenario)
    assert tags[0] == tags[1]


def test_nothing_else_is_served_and_no_absence_is_cached(log: Published, tmp_path: Path) -> None:
    log.grow(300)
    (tmp_path / "ledger.db").write_bytes(b"secret")
    (log.files.folder / ".checkpoint.tmp").write_bytes(b"left by a crash")

    async def scenario(client: httpx.AsyncClient) -> None:
        for path in (
            "/", "/tile", "/tile/", "/tile/0", "/tile/0/", "/tile/0/001", "/tile/0/001.p", "/tile/0/001.p/",
            "/tile/0/001.p/45", "/tile/0/000.p/256", "/tile/0/000.p/0", "/tile/0/000.p/044", "/tile/00/000",
            "/tile/entries", "/tile/entries/x000/000", "/tile/8/000", "/ledger.db", "/.checkpoint.tmp", "/checkpoint/",
            "/tile/../../ledger.db", "/tile/%2e%2e/%2e%2e/ledger.db", "/tile/entries/..%2f..%2f..%2fledger.db",
            "/tile//etc/passwd", "/tile/0/000%00", "/tile/0/000%0a", "/tile/0/\u0660\u0660\u0660", "/..%2fledger.db",
        ):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 404, path
            assert answer.headers["cache-control"] == "no-store", path
            assert answer.headers["access-control-allow-origin"] == "*", path
            assert b"secret" not in answer.content
        for method in ("POST", "PUT", "DELETE"):
            assert (await client.request(method, "/tile/0/000")).status_code == 405

    ask(log, scenario)


def test_body_of_an_answer_waits_for_no_acknowledgement_of_its_head(log: Published) -> None:
    server = PublicServer(log.files.folder, listen="127.0.0.1:0")
    with server._socket as listening, socket.create_connection(listening.getsockname()) as connection:
        accepted, _ = listening.accept()
        with accepted:
            assert connection.getpeername() == accepted.getsockname()
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_log_that_has_no_checkpoint_yet_says_so_until_it_has(log: Published) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/checkpoint")).status_code == 404
        log.grow(1)
        assert (await client.get("/checkpoint")).status_code == 200

    ask(log, scenario)


def test_partial_tiles_of_every_published_size_stand_until_the_full_one_does(log: Published) -> None:
    sizes = (1, 7, 255, 256, 257, 513)

    async def scenario(client: httpx.AsyncClient) -> None:
        for position, newest in enumerate(sizes):
            log.grow(newest)
            for size in sizes[: position + 1]:
                await readable_at(client, size, newest=newest)

    async def readable_at(client: httpx.AsyncClient, size: int, *, newest: int) -> None:
        """Read a published size as a client does that falls back to the full tile, and only where that stands."""
        _, tiles = append_tiles(TileEdge(), [hash_leaf(entry) for entry in ENTRIES[:size]])
        for tile, content in tiles:
            full = tile.path.partition(".p/")[0]
            answer = await client.get(f"/{tile.path}")
            if answer.status_code == 404:
                assert newest >> 8 * (tile.level + 1) > tile.index
                answer = await client.get(f"/{full}")
            assert answer.content[: len(content)] == content
        for bundle in new_entry_bundles(0, size):
            answer = await client.get(f"/{bundle.path}")
            if answer.status_code == 404:
                assert newest // 256 > bundle.index
                answer = await client.get(f"/{bundle.path.partition('.p/')[0]}")
            first = 256 * bundle.index
            assert list(decode_entry_bundle(answer.content)[: bundle.width]) == ENTRIES[first : first + bundle.width]

    ask(log, scenario)


def test_checkpoint_is_whole_while_it_is_replaced(log: Published) -> None:
    """Notes of two lengths change places all the time; each answer is one of them."""
    log.grow(9)
    short = log.files.checkpoint()
    assert short is not None
    notes = (short, short + "— witness.example/w1 IDJKvg==\n".encode())

    async def scenario(client: httpx.AsyncClient) -> None:
        done = asyncio.Event()

        async def replace() -> None:
            number = 0
            while not done.is_set():
                await asyncio.to_thread(log.files.write_checkpoint, notes[number % 2])
                number += 1

        replacing = asyncio.create_task(replace())
        for _ in range(30):
            assert (await client.get("/checkpoint")).content in notes
        done.set()
        await replacing

    ask(log, scenario)
