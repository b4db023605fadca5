"""Backup and restore of the log's database; its keys are never in a backup.

A backup is a folder with ``ledger.db``, an SQLite file whatever the database is, and ``manifest.json``. It is made
while the ledger runs, from one snapshot, and restores into either backend. The public files are not in it: a restored
instance writes them anew.

Before a restored log signs, it must be known what its key has signed since the backup: a published checkpoint, or the
witnesses, tell. The log then reads the stream on from the backup's place, and signs when it has that tree again.

Source: LEDGER, section 2.5; SQLite documentation, VACUUM INTO.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, func, inspect, select, text

from ledger.fsck import check_folder
from ledger.storage import checkpoint_store, log_store
from ledger.storage.bulk import bulk_insert
from ledger.storage.log_store import MustReach
from ledger.storage.migrate import HEAD, migrate, require_current
from ledger.storage.open import DATABASE_NAME, open_standing, open_storage, sqlite_path
from ledger.storage.tables import LEDGER_METADATA
from medtrail.checkpoint import Checkpoint, open_checkpoint
from medtrail.errors import ConflictError, MalformedError, NotFoundError, UnavailableError, VerificationError
from medtrail.note import NoteVerifier, format_vkey
from medtrail.runtime.database import Database
from medtrail.runtime.files import read_file, sync_folder, write_file

MANIFEST_NAME = "manifest.json"
FORMAT = 1
ROWS_AT_ONCE = 2000
_CHUNK = 1 << 20

Tell = Callable[[int, int], None]
"""Takes how many rows are copied, and of how many."""
Settle = Callable[[Connection], None]
"""Writes into a restored log what it must reach before it signs, in the transaction that brings it there."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Attributes:
        made: When, ISO 8601, UTC.
        schema: Version of the tables.
        tree_size: Entries in the log.
        signed_size: Of the newest signed checkpoint; 0 when there is none.
        signed_root: Its root, hex.
        epoch: Reading of the stream.
        next_seq: Message of the stream from which a restored log reads on.
        size: Bytes of ledger.db.
        sha256: Of ledger.db, hex.
    """

    format: int
    made: str
    schema: str
    origin: str
    tree_size: int
    signed_size: int
    signed_root: str
    epoch: int
    next_seq: int
    size: int
    sha256: str


def make_backup(
    folder: Path, to: Path, *, now: datetime, database_url: str = "", tell: Tell = lambda _done, _total: None
) -> Manifest:
    """Write a backup of a log that may be running, and return what it holds. Blocks.

    Args:
        folder: The data folder.
        to: A new folder.
        now: Aware UTC.
        database_url: As of :func:`ledger.storage.open.open_storage`; empty: ledger.db in the folder.
        tell: Is told the progress.

    Raises:
        NotFoundError: FILE_MISSING: there is no such database.
        ConflictError: TARGET_EXISTS; STORAGE_TOO_OLD or STORAGE_TOO_NEW.
        UnavailableError: The database cannot be read.
    """
    path = sqlite_path(folder, database_url)
    with closing(open_standing(folder, database_url)) as database:
        require_current(database)
        try:
            to.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise ConflictError(f"{to} exists: name a new folder", code="TARGET_EXISTS", field="to") from None
        copy = to / DATABASE_NAME
        if path is None:
            _copy_out(database, copy, tell)
        else:
            _vacuum_into(path, copy)
    copy.chmod(0o600)
    _sync(copy)
    manifest = _describe(copy, now)
    # Last: a folder without it is no backup.
    write_file(to / MANIFEST_NAME, json.dumps(asdict(manifest), indent=2).encode() + b"\n")
    return manifest


def _vacuum_into(path: Path, copy: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
    except sqlite3.Error as error:
        raise UnavailableError(f"the database cannot be copied: {error}", code="STORAGE_UNAVAILABLE") from error


def read_manifest(folder: Path) -> Manifest:
    """Return a backup's manifest, once ledger.db is what it says.

    Raises:
        NotFoundError: FILE_MISSING: it is no backup, or one that was not finished.
        MalformedError: BACKUP_MALFORMED.
        VerificationError: BACKUP_CORRUPT: ledger.db is another.
    """
    try:
        manifest = Manifest(**json.loads(read_file(folder / MANIFEST_NAME)))
    except (ValueError, TypeError) as error:
        raise MalformedError("the manifest cannot be read", code="BACKUP_MALFORMED", field=MANIFEST_NAME) from error
    if manifest.format != FORMAT or manifest.schema != HEAD:
        message = f"the backup has format {manifest.format} and tables {manifest.schema}, wanted {FORMAT} and {HEAD}"
        raise MalformedError(message, code="BACKUP_MALFORMED", field=MANIFEST_NAME)
    copy = folder / DATABASE_NAME
    if not copy.is_file():
        raise NotFoundError(f"{copy} is missing", code="FILE_MISSING", field="from")
    if (copy.stat().st_size, _sha256(copy)) != (manifest.size, manifest.sha256):
        raise VerificationError(f"{copy} is not what the manifest says", code="BACKUP_CORRUPT", field="from")
    return manifest


def restore_backup(
    backup: Path,
    folder: Path,
    *,
    verifier: NoteVerifier,
    known_notes: Iterable[bytes],
    map_salt: bytes,
    database_url: str = "",
    tell: Tell = lambda _done, _total: None,
) -> MustReach | None:
    """Put a backup in the place of a database that is not there, and return the tree that it must reach to sign.

    Args:
        backup: As :func:`make_backup` wrote it.
        folder: The data folder; made when absent.
        verifier: The log's key.
        known_notes: Checkpoints that are known to have been signed: published, or shown by witnesses.
        map_salt: The item map's secret, 32 bytes.
        database_url: As of :func:`ledger.storage.open.open_storage`; empty: ledger.db in the folder.
        tell: Is told the progress.

    Raises:
        ConflictError: TARGET_EXISTS: there is a log already, or the journal of one.
        VerificationError: BACKUP_CORRUPT: the manifest, or fsck, finds something; a known note is not the log's.
    """
    manifest = read_manifest(backup)
    checkpoints = [_known(note, verifier) for note in known_notes]
    report = check_folder(backup, vkey=format_vkey(verifier), with_files=False)
    if report.findings:
        first = report.findings[0]
        message = f"fsck found {report.finding_count}, the first: {first.code} {first.message}"
        raise VerificationError(message, code="BACKUP_CORRUPT", field="from")
    # Known before the log stands anywhere, and written with it: it is never there and free to sign beside itself.
    reach = _must_reach(manifest, checkpoints)
    settle: Settle = _stay_as_it_is
    if reach is not None:
        reason = f"restored from a backup of {manifest.made}; {reach.size} entries were signed since"
        settle = partial(log_store.freeze, reason=reason, must_reach=reach)
    path = sqlite_path(folder, database_url)
    if path is not None:
        _put(backup / DATABASE_NAME, path, settle)
        return reach
    with closing(open_storage(folder, database_url)) as database:
        _copy_in(backup / DATABASE_NAME, database, map_salt, settle, tell)
    return reach


def _stay_as_it_is(_connection: Connection) -> None:
    """Nothing newer was signed than what the backup holds."""


def _known(note: bytes, verifier: NoteVerifier) -> Checkpoint:
    return open_checkpoint(note, origin=verifier.name, verifiers=[verifier]).checkpoint


def _must_reach(manifest: Manifest, checkpoints: list[Checkpoint]) -> MustReach | None:
    newest = max(checkpoints, key=lambda checkpoint: checkpoint.size, default=None)
    if newest is None or newest.size < manifest.signed_size:
        return None
    if newest.size == manifest.signed_size:
        if newest.root_hash.hex() != manifest.signed_root:
            message = f"two trees of {newest.size} entries were signed: begin a successor log (docs/operations.md)"
            raise VerificationError(message, code="LOG_FORKED")
        return None
    return MustReach(newest.size, newest.root_hash)


def _put(copy: Path, target: Path, settle: Settle) -> None:
    folder = target.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A journal beside the file would be read into it, whichever database it was of.
    for found in (target, *(target.with_name(f"{target.name}{end}") for end in ("-wal", "-journal"))):
        if found.exists():
            raise ConflictError(f"{found} exists: nothing is overwritten", code="TARGET_EXISTS", field="dir")
    temporary = folder / f".{target.name}.restoring"
    for left in folder.glob(f"{temporary.name}*"):
        # Of a restore that was killed: its journal would be taken for this file's.
        left.unlink()
    shutil.copyfile(copy, temporary)
    temporary.chmod(0o600)
    with _one_file(temporary) as database:
        database.write_now(settle)
    _sync(temporary)
    temporary.rename(target)
    sync_folder(folder)


# --- rows from one backend to the other ---


def _copy_out(database: Database, copy: Path, tell: Tell) -> None:
    with _one_file(copy) as target:
        target.write_now(_make_tables)
        database.read_now(lambda source: target.write_now(lambda into: _copy_rows(source, into, tell)))


def _copy_in(copy: Path, database: Database, map_salt: bytes, settle: Settle, tell: Tell) -> None:
    if database.read_now(_holds_log):
        raise ConflictError("the database holds a log already", code="TARGET_EXISTS", field="database")
    migrate(database, map_salt=map_salt)

    def fill(source: Connection, target: Connection) -> None:
        _copy_rows(source, target, tell)
        settle(target)

    with _one_file(copy) as source:
        source.read_now(lambda reading: database.write_now(partial(fill, reading)))


def _holds_log(connection: Connection) -> bool:
    # Tables alone are what a restore leaves that was killed: it is made again.
    return inspect(connection).has_table("log_state") and log_store.read_state(connection) is not None


def _make_tables(connection: Connection) -> None:
    LEDGER_METADATA.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": HEAD})


def _copy_rows(source: Connection, target: Connection, tell: Tell) -> None:
    tables = LEDGER_METADATA.sorted_tables
    counts = [source.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]
    done = 0
    for table in tables:
        rows = source.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE).execute(select(table))
        for part in rows.mappings().partitions(ROWS_AT_ONCE):
            bulk_insert(target, table, [dict(row) for row in part])
            done += len(part)
            tell(done, sum(counts))


# --- files ---


@contextmanager
def _one_file(path: Path) -> Iterator[Database]:
    """Open an SQLite file, and leave it without a journal beside it."""
    database = Database(path)
    try:
        yield database
    finally:
        database.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def _describe(copy: Path, now: datetime) -> Manifest:
    with _one_file(copy) as database:
        state = database.read_now(log_store.require_state)
        newest = database.read_now(checkpoint_store.newest_checkpoint)
    return Manifest(
        format=FORMAT,
        made=now.isoformat(timespec="seconds"),
        schema=HEAD,
        origin=state.origin,
        tree_size=state.tree.size,
        signed_size=0 if newest is None else newest.tree.size,
        signed_root="" if newest is None else newest.root_hash.hex(),
        epoch=state.epoch,
        next_seq=state.next_seq,
        size=copy.stat().st_size,
        sha256=_sha256(copy),
    )


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)
