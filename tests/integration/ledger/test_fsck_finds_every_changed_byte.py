import json
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.commands import main
from ledger.fsck import check_files, check_folder
from ledger.fsck_report import Report
from ledger.storage import checkpoint_store
from medtrail.codec import encode_batch
from medtrail.note import Cosigner, NoteSigner, format_vkey
from medtrail.policy import parse_policy
from medtrail.runtime.database import PAGE_BYTES

if TYPE_CHECKING:
    from tests.integration.ledger.conftest import CheckLog, Events, NewLog

# Every column that is evidence, and a row that stands in the log below: all others are changed one by one.
COLUMNS = {
    "entry": ("leaf_index", "entry", "signed_event_sha256", "list_salt", "map_keys", "event_id",
              "event_id_hash", "signer_gln", "declaration", "epoch", "stream_seq", "position", "stream_time_us",
              "payload_type"),
    "signed_event": ("leaf_index", "data"),
    "message": ("number", "epoch", "stream_seq", "stream_time_us", "subject", "message_sha256", "event_count",
                "tree_size", "outcomes_sha256"),
    "duplicate": ("epoch", "stream_seq", "position", "signed_event_sha256", "leaf_index"),
    "refusal": ("epoch", "stream_seq", "position", "signed_event_sha256", "signed_event", "event_id", "code", "field",
                "message", "signer_gln"),
    "epoch": ("epoch", "tree_size"),
    "cosignature": ("tree_size", "line"),
    "lease": ("fence",),
    "checkpoint": ("tree_size", "root_hash", "tree_range", "note"),
    "log_state": ("origin", "tree_size", "tree_range", "epoch", "next_seq", "last_message_sha256"),
}  # fmt: skip
CASES = [(table, column) for table, columns in COLUMNS.items() for column in columns]


COSIGNER = Cosigner("witness.example/w1", bytes(range(32)))


def checked(folder: Path) -> Report:
    """Check a folder with the witness's key."""
    policy = parse_policy(f"witness w1 {format_vkey(COSIGNER.verifier)}\nquorum w1\n")
    return check_folder(folder, policy=policy)


@pytest.fixture
def database_url() -> str:
    """Rows and pages are changed in the file itself."""
    return ""


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
    note = log.rows("SELECT note FROM checkpoint WHERE tree_size = 10")[0][0]
    line = COSIGNER.cosign(note.partition(b"\n\n")[0].decode() + "\n", timestamp=1_700_000_000).line
    put = partial(
        checkpoint_store.put_cosignature, tree_size=10, witness=COSIGNER.name, line=line, time_s=1_700_000_000
    )
    log.database.write_now(put)
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
        if not checked(copy).findings:
            missed.append((table, column))
    assert missed == []


@pytest.mark.parametrize("table", [table for table in COLUMNS if table != "log_state"])
def test_removed_row_is_found(table: str, checked_log: Path) -> None:
    with closing(sqlite3.connect(checked_log / "ledger.db")) as connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")  # noqa: S608 - constants of this module
        connection.commit()
    # Whoever takes a witness's word away takes no evidence: the checkpoint stands without it.
    assert bool(checked(checked_log).findings) is (table != "cosignature")


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
    content[PAGE_BYTES * 2 : PAGE_BYTES * 3] = bytes(PAGE_BYTES)
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


# --- files by themselves ---


@pytest.fixture
def large_log(new_log: "NewLog", events: "Events") -> tuple[Path, str]:
    """Files of a log with a full tile and a partial one on two levels, and its verifier key."""
    log = new_log()
    log.enrol(events)
    log.publish()
    for first, count in ((0, 260), (260, 20), (280, 20)):
        batch = [events.sign(events.commission(serial)) for serial in range(first, first + count)]
        log.integrate(log.message(encode_batch(batch)))
        log.publish()
    log.close()
    return log.home.root, log.home.vkey


def test_files_alone_prove_the_published_checkpoint(
    large_log: tuple[Path, str], capsys: pytest.CaptureFixture[str], check_log: "CheckLog"
) -> None:
    root, vkey = large_log
    check_log(root)
    report = check_files(root / "public", vkey=vkey)
    assert report.findings == []
    assert report.tree_size == 308
    assert main(["fsck", "--files", str(root / "public"), "--vkey", vkey]) == 0
    assert capsys.readouterr().out.startswith("clean: 308 entries")
    other = format_vkey(NoteSigner("ledger.example/test", bytes(32)).verifier)
    assert {finding.code for finding in check_files(root / "public", vkey=other).findings} == {"CHECKPOINT_CORRUPT"}
    assert main(["fsck", "--files", str(root / "public"), "--vkey", "nonsense"]) == 2


def test_changed_byte_of_any_file_is_found_without_the_database(large_log: tuple[Path, str]) -> None:
    root, vkey = large_log
    public = root / "public"
    files = [path for path in public.rglob("*") if path.is_file()]
    assert {"000", "checkpoint", "52"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for changed_content in (bytes((content[0] ^ 1,)) + content[1:], content[:-1], content + b"x"):
            path.write_bytes(changed_content)
            assert check_files(public, vkey=vkey).findings, path
        path.unlink()
        if path.parent.name != "001.p" or path.name == "52":
            assert check_files(public, vkey=vkey).findings, path
        path.write_bytes(content)
    assert check_files(public, vkey=vkey).findings == []


def test_quorum_of_files_is_demanded_by_the_policy(large_log: tuple[Path, str], tmp_path: Path) -> None:
    root, vkey = large_log
    rules = tmp_path / "policy"
    rules.write_text(f"witness w1 {format_vkey(COSIGNER.verifier)}\nquorum w1\n")
    command = ["fsck", "--files", str(root / "public"), "--vkey", vkey, "--policy", str(rules)]
    assert main(command) == 1
    path = root / "public" / "checkpoint"
    text = path.read_bytes().partition(b"\n\n")[0].decode() + "\n"
    path.write_bytes(path.read_bytes() + f"{COSIGNER.cosign(text, timestamp=1).line}\n".encode())
    assert main(command) == 0
