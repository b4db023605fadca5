"""Which database the ledger's settings name."""

from pathlib import Path

from medtrail.runtime.database import Database
from medtrail.runtime.postgres import PostgresDatabase

DATABASE_NAME = "ledger.db"


def open_storage(data_dir: Path, database_url: str = "") -> Database:
    """Return the log's database, not yet connected.

    Args:
        data_dir: The instance's data folder; holds the SQLite file when no URL is given.
        database_url: ``postgresql://…``; empty: ``ledger.db`` in the data folder.

    Raises:
        MalformedError: SETTING_INVALID: the URL is none of PostgreSQL.
    """
    return PostgresDatabase(database_url) if database_url else Database(data_dir / DATABASE_NAME)
