"""Databases for tests that make many of them: with their tables from the start, and with no wait for the disk."""

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import event

from medtrail.runtime.database import Database
from medtrail.runtime.tables import RUNTIME_METADATA
from services.custody.tables import CUSTODY_METADATA


def unsynced(path: Path) -> Database:
    """Return a database whose commits do not wait for the disk: what ends in these tests is never the machine."""
    database = Database(path)

    # After the database's own listener, which asks for the contrary.
    @event.listens_for(database._writer_engine, "connect")
    def relax(driver: object, _record: object) -> None:
        driver.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]

    return database


@cache
def empty_books() -> bytes:
    """Return the file of an organisation's books that hold nothing: making the tables takes as long as most tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "books.db"
        database = Database(path)
        database.create_tables(RUNTIME_METADATA, CUSTODY_METADATA)
        database.close()
        return path.read_bytes()
