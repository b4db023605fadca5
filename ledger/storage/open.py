"""Which database the ledger's settings name."""

from pathlib import Path

from medtrail.runtime.database import Database
from medtrail.runtime.postgres import PostgresDatabase

DATABASE_NAME = "ledger.db"
SQLITE = "sqlite:////"


def open_storage(data_dir: Path, database_url: str = "") -> Database:
    """Return the log's database, not yet connected.

    Args:
        data_dir: The instance's data folder; holds the SQLite file when no URL is given.
        database_url: ``postgresql://…``; ``sqlite:////path`` for instances on one machine that share a file; empty:
            ``ledger.db`` in the data folder.

    Raises:
        MalformedError: SETTING_INVALID: the URL is neither.
    """
    if not database_url:
        return Database(data_dir / DATABASE_NAME)
    if database_url.startswith(SQLITE):
        return Database(Path("/") / database_url.removeprefix(SQLITE))
    return PostgresDatabase(database_url)
