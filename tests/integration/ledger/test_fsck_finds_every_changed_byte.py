import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.commands import main
from ledger.fsck import check_folder
from medtrail.codec import encode_batch

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import CheckLog, Events, NewLog

# Every column that is evidence, and a row that stands in the log below: all others are changed one by one.
COLUMNS = {
    "entry": ("leaf_index", "entry", "signed_event_sha256", "list_salt", "map_keys", "event_id", "signer_gln",
              "declaration", "epoch", "stream_seq", "position", "stream_time_us", "payload_type"),
    "signed_event": ("leaf_index", "data"),
    "message": ("number", "epoch", "stream_seq", "stream_time_us", "subject", "message_sha256", "event_count",
                "tree_size", "outcomes_sha256"),
    "duplicate": ("epoch", "stream_seq", "position", "signed_event_sha256", "leaf_index"),
    "refusal": ("epoch", "stream_seq", "position", "signed_event_sha256", "signed_event", "event_id", "code", "field",
                "message", "signer_gln"),
    "checkpoint": ("tree_size", "root_hash", "tree_range", "note"),
    "log_state": ("origin", "tree_size", "tree_range", "epoch", "next_seq", "last_message_sha256"),
}  # fmt: skip
CASES = [(table, column) for table, columns in COLUMNS.items() for column in columns]


@pytest.fixture
def checked_log(new_log: "NewLog", events: "Events") -> Path:
    """A log with entries, a duplicate, a refusal and two checkpoints."""
    log = new_log()
    log.enrol(events)
    log.publish()
    one, two = events.sign(events.commission(1)), events.sign(events.commission(2))
    forged = events.sign(events.commission(3), by="pharmacy")
    log.integrate(log.message(encode_batch([one, forged, two])), log.message(encode_batch([one])))
    log.publish()
    log.close()
    return log.home.root


def changed(value: object) -> object:
    if isinstance(value, bytes):
        middle = len(value) // 2
        return value[:middle] + bytes((value[middle] ^ 1,)) + value[middle + 1 :] if value else b"\x01"
    if isinstance(value, int):
        return value + 1_000_000
    return f"{value}x"


def test_changed_column_is_found(checked_log: Path, check_log: "CheckLog", tmp_path: Path) -> None:
    check_log(checked_log)
    missed = []
    copy = tmp_path / "copy"
    shutil.copytree(checked_log, copy)
    original = (checked_log / "ledger.db").read_bytes()
    for table, column in CASES:
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (copy / name).unlink(missing_ok=True)
        (copy / "ledger.db").write_bytes(original)
        with closing(sqlite3.connect(copy / "ledger.db")) as connection:
            rowid, value = connection.execute(
                f"SELECT rowid, {column} FROM {table} ORDER BY rowid DESC LIMIT 1"  # noqa: S608 - constants of this module
            ).fetchone()
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed(value), rowid))  # noqa: S608 - the same
            connection.commit()
        if not check_folder(copy).findings:
            missed.append((table, column))
    assert missed == []


@pytest.mark.parametrize("table", [table for table in COLUMNS if table != "log_state"])
def test_removed_row_is_found(table: str, checked_log: Path) -> None:
    with closing(sqlite3.connect(checked_log / "ledger.db")) as connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")  # noqa: S608 - constants of this module
        connection.commit()
    assert check_folder(checked_log).findings


def test_changed_byte_of_any_file_is_found(checked_log: Path, check_log: "CheckLog") -> None:
    check_log(checked_log)
    files = [path for path in (checked_log / "public").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        content = path.read_bytes()
        path.write_bytes(bytes((content[0] ^ 1,)) + content[1:])
        assert check_folder(checked_log).findings, path
        path.write_bytes(content)
    check_log(checked_log)


def test_missing_and_unknown_files_are_found(checked_log: Path) -> None:
    public = checked_log / "public"
    (public / "tile" / "0" / "000.p" / "10").rename(public / "tile" / "0" / "stray")
    codes = {finding.code for finding in check_folder(checked_log).findings}
    assert codes == {"TILE_MISSING", "FILE_UNKNOWN"}


def test_damaged_page_is_a_finding_not_a_crash(checked_log: Path) -> None:
    database = checked_log / "ledger.db"
    content = bytearray(database.read_bytes())
    content[4096 * 2 : 4096 * 3] = bytes(4096)
    database.write_bytes(content)
    assert "DATABASE_DAMAGED" in {finding.code for finding in check_folder(checked_log).findings}


def test_command_tells_findings_by_its_exit_code(
    checked_log: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["fsck", "--dir", str(checked_log), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["tree_size"], report["duplicate_count"], report["refusal_count"]) == (10, 1, 1)
    assert main(["fsck", "--dir", str(checked_log)]) == 0
    assert capsys.readouterr().out.startswith("clean: 10 entries")
    (checked_log / "public" / "checkpoint").unlink()
    assert main(["fsck", "--dir", str(checked_log)]) == 1
    assert capsys.readouterr().out.startswith("CHECKPOINT_MISSING")
    assert main(["fsck", "--dir", str(tmp_path)]) == 2
    assert "FILE_MISSING" in capsys.readouterr().err


def test_other_keys_are_told_apart(checked_log: Path) -> None:
    from medtrail.note import NoteSigner, format_vkey

    other = format_vkey(NoteSigner("ledger.example/test", bytes(32)).verifier)
    assert {finding.code for finding in check_folder(checked_log, vkey=other).findings} == {"CHECKPOINT_CORRUPT"}
    stranger = "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw"
    assert "EVENT_REFUSABLE" in {
        finding.code for finding in check_folder(checked_log, authority_key_id=stranger).findings
    }
