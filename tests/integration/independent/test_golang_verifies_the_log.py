"""The Go checksum database's own packages verify what a ledger publishes; they know nothing of us."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from ledger.public_files import PublicServer
from ledger.tile_files import TileFiles
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.merkle import hash_leaf
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.note_format import add_signatures
from medtrail.tiles import TileEdge
from tests.support.go_program import built_verifier

LOG = NoteSigner("ledger.example/eu1", bytes(range(32)))
WITNESS = Cosigner("witness.example/w1", bytes(range(32, 64)))


@pytest.fixture(scope="session")
def verify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_verifier(tmp_path_factory.getbasetemp())


class Published:
    """A log's public folder, which grows."""

    def __init__(self, folder: Path) -> None:
        self.files = TileFiles(folder)
        self.edge = TileEdge()

    def grow(self, size: int) -> bytes:
        entries = [b"\x01" + number.to_bytes(64, "big") for number in range(self.edge.size, size)]
        assert [hash_leaf(entry) for entry in entries]
        self.edge = self.files.grow(self.edge, [entries], new_size=size)
        checkpoint = Checkpoint(LOG.name, size, self.edge.compact_range().root())
        note = sign_checkpoint(checkpoint, LOG)
        note = add_signatures(note, [WITNESS.cosign(checkpoint.text, timestamp=1_800_000_000)])
        self.files.write_checkpoint(note)
        return note


async def run(program: Path, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Serve a folder, and return what the program says of it."""
    server = PublicServer(folder, listen="127.0.0.1:0")
    serving = asyncio.create_task(server.run())
    process = await asyncio.create_subprocess_exec(
        program, f"http://{server.address}", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await process.communicate()
    server.stop()
    await serving
    return process.returncode or 0, out.decode(), errors.decode()


KEY = format_vkey(LOG.verifier)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 700])
def test_go_proves_every_entry_and_that_the_log_grew(verify: Path, tmp_path: Path, size: int) -> None:
    log = Published(tmp_path / "public")
    older = tmp_path / "older"
    older.write_bytes(log.grow(max(size // 2, 1)))
    if size > 1:
        log.grow(size)
    code, out, errors = asyncio.run(run(verify, log.files.folder, KEY, str(older), format_vkey(WITNESS.verifier)))
    assert (code, out, errors) == (0, f"verified {size} entries\n", "")


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "checkpoint"])
def test_go_refuses_a_changed_file(verify: Path, tmp_path: Path, name: str) -> None:
    log = Published(tmp_path / "public")
    log.grow(300)
    flip(log.files.folder / name)
    code, _, errors = asyncio.run(run(verify, log.files.folder, KEY))
    assert code == 1
    assert errors


def test_go_refuses_another_history_another_key_and_another_witness(verify: Path, tmp_path: Path) -> None:
    log = Published(tmp_path / "public")
    log.grow(300)
    other = tmp_path / "other"
    other.write_bytes(sign_checkpoint(Checkpoint(LOG.name, 9, bytes(32)), LOG))
    stranger = NoteSigner(LOG.name, bytes(32))
    witness = Cosigner(WITNESS.name, bytes(32))
    for arguments in ((KEY, str(other)), (format_vkey(stranger.verifier),), (KEY, "", format_vkey(witness.verifier))):
        code, _, errors = asyncio.run(run(verify, log.files.folder, *arguments))
        assert code == 1
        assert errors
