"""Where a backup is taken from and restored to: files at other places, remains of a lost database, killed restores."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ledger.commands import main
from ledger.fsck import check_folder
from ledger.public_files import public_app
from ledger.published import MAX_NOTE_BYTES, fetch_checkpoint
from ledger.storage.migrate import migrate
from ledger.storage.open import open_storage
from ledger.web import WebServer
from medtrail.errors import UnavailableError

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import Events, OfflineLog


@pytest.fixture
def database_url() -> str:
    """Files are named here; the drills run on both backends."""
    return ""


class Drill:
    """A backup of a log, and an empty place for it."""

    def __init__(self, log: "OfflineLog", folder: Path) -> None:
        self.backup, self.new = folder / "backup", folder / "new"
        self.new.mkdir()
        shutil.copytree(log.home.root / "org", self.new / "org")
        arguments = ("--dir", str(log.home.root), "--database", log.home.database_url)
        assert main(["backup", *arguments, "--to", str(self.backup)]) == 0

    def restore(self, *arguments: str) -> int:
        return main(["restore", "--from", str(self.backup), "--dir", str(self.new), *arguments])


@pytest.fixture
def drill(log: "OfflineLog", tmp_path: Path) -> Drill:
    return Drill(log, tmp_path)


@pytest.mark.parametrize("remains", ["ledger.db-wal", "ledger.db-journal"])
def test_journal_of_a_lost_database_is_not_read_into_the_restored_one(
    drill: Drill, remains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (drill.new / remains).write_bytes(b"of another file")
    assert drill.restore("--nothing-newer") == 2
    assert remains in capsys.readouterr().err
    assert not (drill.new / "ledger.db").exists()
    (drill.new / remains).unlink()
    assert drill.restore("--nothing-newer") == 0
    assert check_folder(drill.new, with_files=False).findings == []


def test_backup_of_a_file_at_another_place_is_of_that_file(log: "OfflineLog", events: "Events", tmp_path: Path) -> None:
    # The file that stood in the data folder before the instances shared another one.
    shared = tmp_path / "shared" / "log.db"
    shared.parent.mkdir()
    stale = tmp_path / "stale.db"
    log.copy_database(stale)
    log.commission(events, [9])
    log.copy_database(shared)
    log.restore_database(stale)
    where = ("--dir", str(log.home.root), "--database", f"sqlite:///{shared}")
    assert main(["backup", *where, "--to", str(tmp_path / "backup")]) == 0
    assert check_folder(tmp_path / "backup", vkey=log.home.vkey, with_files=False).tree_size == 12
    new = tmp_path / "new"
    shutil.copytree(log.home.root / "org", new / "org")
    again = tmp_path / "again" / "log.db"
    url = f"sqlite:///{again}"
    for code in (0, 2):
        restored = ["restore", "--from", str(tmp_path / "backup"), "--dir", str(new), "--database", url]
        assert main([*restored, "--nothing-newer"]) == code
    assert not (new / "ledger.db").exists()
    report = check_folder(new, database_url=url, with_files=False)
    assert (report.findings, report.tree_size) == ([], 12)


def test_restore_that_was_killed_after_it_had_made_tables_can_be_done_again(
    log: "OfflineLog", drill: Drill, postgres_url: str
) -> None:
    url = postgres_url
    database = open_storage(drill.new, url)
    migrate(database, map_salt=log.salt)
    database.close()
    assert drill.restore("--nothing-newer", "--database", url) == 0
    report = check_folder(drill.new, database_url=url, with_files=False)
    assert (report.findings, report.tree_size) == ([], 11)
    assert drill.restore("--nothing-newer", "--database", url) == 2


def test_published_checkpoint_is_fetched_from_where_the_log_is_served(
    log: "OfflineLog", drill: Drill, events: "Events", capsys: pytest.CaptureFixture[str]
) -> None:
    log.commission(events, [9])
    log.publish()

    async def scenario() -> None:
        server = WebServer(public_app(log.home.root / "public"), listen="127.0.0.1:0")
        task = asyncio.create_task(server.run())
        url = f"http://{server.address}"
        assert await asyncio.to_thread(drill.restore, "--checkpoint", f"{url}/checkpoint") == 0
        server.stop()
        await task
        with pytest.raises(UnavailableError, match="does not answer"):
            await fetch_checkpoint(url)

    asyncio.run(scenario())
    assert "12 entries were signed" in capsys.readouterr().out


def test_endless_checkpoint_is_not_read_to_its_end() -> None:

    async def endless(_request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield bytes(MAX_NOTE_BYTES)
                # The server hears that its client has gone: what it writes after that does not wait for anything.
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    async def scenario() -> None:
        server = WebServer(Starlette(routes=[Route("/checkpoint", endless)]), listen="127.0.0.1:0")
        task = asyncio.create_task(server.run())
        with pytest.raises(UnavailableError, match="more than 65536 bytes"):
            await fetch_checkpoint(f"http://{server.address}/")
        server.stop()
        await task

    asyncio.run(scenario())


def test_command_that_may_not_write_says_so(
    log: "OfflineLog", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["backup", "--dir", str(log.home.root), "--to", str(tmp_path / "file" / "backup")]) == 2
    assert "FILE_FAILED" in capsys.readouterr().err


def test_text_of_fsck_counts_erasures_and_cosignatures(log: "OfflineLog", capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", "--dir", str(log.home.root)]) == 0
    told = capsys.readouterr().out
    assert ", 0 erasures, " in told
    assert ", 0 cosignatures, " in told
