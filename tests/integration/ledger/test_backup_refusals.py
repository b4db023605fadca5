"""What a backup and a restore refuse."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.commands import main
from ledger.fsck import check_folder
from medtrail.checkpoint import Checkpoint, sign_checkpoint
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.runtime.database import PAGE_BYTES

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import OfflineLog

COSIGNER = Cosigner("witness.example/w1", bytes(range(32)))


@pytest.fixture
def database_url() -> str:
    """Files are damaged here; the drills run on both backends."""
    return ""


@pytest.fixture
def backup(log: "OfflineLog", tmp_path: Path) -> Path:
    to = tmp_path / "backup"
    assert main(["backup", "--dir", str(log.home.root), "--to", str(to)]) == 0
    return to


def restore(log: "OfflineLog", backup: Path, target: Path, *arguments: str) -> int:
    if not target.exists():
        target.mkdir()
        shutil.copytree(log.home.root / "org", target / "org")
    return main(["restore", "--from", str(backup), "--dir", str(target), *arguments])


def test_backup_holds_no_key_and_is_its_owners_only(log: "OfflineLog", backup: Path) -> None:
    assert sorted(path.name for path in backup.iterdir()) == ["ledger.db", "manifest.json"]
    assert (backup / "ledger.db").stat().st_mode & 0o077 == 0
    content = (backup / "ledger.db").read_bytes()
    assert log.home.folder.log_seed() not in content
    manifest = json.loads((backup / "manifest.json").read_text())
    assert (manifest["tree_size"], manifest["signed_size"], manifest["next_seq"]) == (11, 11, 3)
    assert check_folder(backup, vkey=log.home.vkey, with_files=False).findings == []


def test_restore_wants_to_know_what_was_signed_since(
    log: "OfflineLog", backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(log, backup, tmp_path / "new") == 2
    assert "RESTORE_UNCHECKED" in capsys.readouterr().err
    assert not (tmp_path / "new" / "ledger.db").exists()
    assert restore(log, backup, tmp_path / "new", "--nothing-newer") == 0
    report = check_folder(tmp_path / "new", with_files=False)
    assert (report.findings, report.tree_size) == ([], 11)


def test_nothing_is_overwritten(log: "OfflineLog", backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore(log, backup, log.home.root, "--nothing-newer") == 2
    assert main(["backup", "--dir", str(log.home.root), "--to", str(backup)]) == 2
    told = capsys.readouterr().err
    assert told.count("TARGET_EXISTS") == 2


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "FILE_MISSING"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "BACKUP_MALFORMED"),
        (lambda folder: rewrite(folder / "manifest.json", schema="9999"), "BACKUP_MALFORMED"),
        (lambda folder: (folder / "ledger.db").unlink(), "FILE_MISSING"),
        (lambda folder: flip(folder / "ledger.db"), "BACKUP_CORRUPT"),
    ],
    ids=["no manifest", "empty manifest", "other tables", "no database", "changed byte"],
)
def test_damaged_backup_is_not_restored(  # noqa: PLR0917 - fixtures
    log: "OfflineLog",
    backup: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    code: str,
) -> None:
    damage(backup)
    assert restore(log, backup, tmp_path / "new", "--nothing-newer") == 2
    assert code in capsys.readouterr().err
    assert not (tmp_path / "new" / "ledger.db").exists()


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))


def test_backup_of_a_log_that_does_not_hold_is_not_restored(
    log: "OfflineLog", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.change("UPDATE signed_event SET data = zeroblob(9) WHERE leaf_index = 9")
    backup = tmp_path / "backup"
    assert main(["backup", "--dir", str(log.home.root), "--to", str(backup)]) == 0
    assert restore(log, backup, tmp_path / "new", "--nothing-newer") == 2
    assert "BACKUP_CORRUPT" in capsys.readouterr().err


def test_checkpoint_that_contradicts_the_backup_is_told(
    log: "OfflineLog", backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signer = NoteSigner("ledger.example/test", log.home.folder.log_seed())
    for size, seed, code in ((11, signer, "LOG_FORKED"), (12, NoteSigner(signer.name, bytes(32)), "SIGNATURE_MISSING")):
        note = tmp_path / f"note-{size}"
        note.write_bytes(sign_checkpoint(Checkpoint(signer.name, size, bytes(32)), seed))
        assert restore(log, backup, tmp_path / f"new-{size}", "--checkpoint", str(note)) == 2
        assert code in capsys.readouterr().err
        # A log that has forked must not stand there ready to sign.
        assert not (tmp_path / f"new-{size}" / "ledger.db").exists()
    older = tmp_path / "older"
    older.write_bytes(sign_checkpoint(Checkpoint(signer.name, 3, bytes(32)), signer))
    assert restore(log, backup, tmp_path / "fine", "--checkpoint", str(older)) == 0


def test_restore_waits_for_witnesses_that_may_know_more(
    log: "OfflineLog", backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules"
    rules.write_text(f"witness w1 {format_vkey(COSIGNER.verifier)} http://127.0.0.1:1\nquorum w1\n")
    assert restore(log, backup, tmp_path / "new", "--policy", str(rules)) == 2
    assert "WITNESS_UNREACHABLE" in capsys.readouterr().err


def test_restore_that_was_killed_leaves_nothing_in_the_way_of_the_next(
    log: "OfflineLog", backup: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new"
    shutil.copytree(log.home.root / "org", target / "org")
    for ending in ("", "-wal", "-shm"):
        (target / f".ledger.db.restoring{ending}").write_bytes(b"half of another")
    signer = NoteSigner("ledger.example/test", log.home.folder.log_seed())
    newer = tmp_path / "newer"
    newer.write_bytes(sign_checkpoint(Checkpoint(signer.name, 12, bytes(32)), signer))
    assert restore(log, backup, target, "--checkpoint", str(newer)) == 0
    assert sorted(path.name for path in target.iterdir()) == ["ledger.db", "org"]
    # It stands there with what it must reach, in its one file.
    with closing(sqlite3.connect(target / "ledger.db")) as connection:
        found = connection.execute("SELECT must_reach_size, must_reach_root FROM log_state").fetchall()
    assert found == [(12, bytes(32))]


def test_database_that_cannot_be_copied_makes_no_backup(
    log: "OfflineLog", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.close()
    damaged = tmp_path / "damaged"
    shutil.copytree(log.home.root, damaged)
    # The last page alone: the database opens, and tells its version.
    with (damaged / "ledger.db").open("r+b") as file:
        file.seek(-PAGE_BYTES, 2)
        file.write(b"\x55" * PAGE_BYTES)
    assert main(["backup", "--dir", str(damaged), "--to", str(tmp_path / "to")]) == 2
    assert "STORAGE_" in capsys.readouterr().err
    assert not (tmp_path / "to" / "manifest.json").exists()
